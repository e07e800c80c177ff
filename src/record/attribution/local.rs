//! Names that lie on the node's own disk: log files of pods, and the files of Docker and Podman. Costs a few directory
//! listings, done only while there are cgroups without a name.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::report::{Report, State};
use crate::pods::cgroup::Runtime;
use crate::pods::{PodSet, logs, runtimes};

/// Names of the sources in reports.
pub const LOG_NAMES: &str = "log names";
pub const RUNTIMES: &str = "docker and podman files";

/// Entries of one directory that are looked at.
const ENTRIES_MAX: usize = 100_000;

/// The disk, and what was read of it before.
#[derive(Debug)]
pub struct Local {
    root: PathBuf,
    /// Folders of pods in which all containers have been seen: by name, with the time of their last change.
    folders: HashMap<String, SystemTime>,
    links: HashSet<String>,
    stores: HashMap<PathBuf, SystemTime>,
    docker: HashSet<String>,
}

fn changed(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).ok()?.modified().ok()
}

fn names(folder: &Path) -> Option<Vec<String>> {
    let entries = std::fs::read_dir(folder).ok()?;
    let names = entries.take(ENTRIES_MAX).flatten();
    Some(names.filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

impl Local {
    /// Reads below this root.
    pub fn new(root: &Path) -> Local {
        Local {
            root: root.to_owned(),
            folders: HashMap::new(),
            links: HashSet::new(),
            stores: HashMap::new(),
            docker: HashSet::new(),
        }
    }

    /// Looks for new names of pods and their containers.
    pub fn logs(&mut self, set: &mut PodSet, report: &Report) {
        let pods = self.root.join("var/log/pods");
        let found = names(&pods);
        let links = names(&self.root.join("var/log/containers"));
        match (&found, &links) {
            (None, None) => report.set(
                LOG_NAMES,
                State::Absent,
                format!("neither {} nor ../containers can be read", pods.display()),
            ),
            _ => report.set(
                LOG_NAMES,
                State::Works,
                format!("{} pods in {}", found.as_ref().map_or(0, Vec::len), pods.display()),
            ),
        }
        let found = found.unwrap_or_default();
        for name in &found {
            let Some(folder) = logs::pod_folder(name) else { continue };
            let path = pods.join(name);
            let time = changed(&path);
            if time.is_some() && self.folders.get(name).copied() == time {
                continue;
            }
            set.learn_folder(&folder, &names(&path).unwrap_or_default());
            if let Some(time) = time {
                self.folders.insert(name.clone(), time);
            }
        }
        let links = links.unwrap_or_default();
        for name in &links {
            if !self.links.contains(name)
                && let Some(log) = logs::container_log(name)
            {
                set.learn_container_log(&log);
            }
        }
        // What is gone need not be remembered here; the set does.
        let present: HashSet<String> = found.into_iter().collect();
        self.folders.retain(|name, _| present.contains(name));
        self.links = links.into_iter().collect();
    }

    /// Looks for the name of one container outside Kubernetes.
    pub fn container(&mut self, runtime: Runtime, id: &str, set: &mut PodSet, report: &Report) {
        match runtime {
            Runtime::Docker if !self.docker.contains(id) => {
                let path = self
                    .root
                    .join("var/lib/docker/containers")
                    .join(id)
                    .join("config.v2.json");
                if let Some(plain) = std::fs::read(&path).ok().and_then(|json| runtimes::docker(&json)) {
                    self.docker.insert(id.to_owned());
                    set.learn_plain(plain);
                    report.set(RUNTIMES, State::Works, format!("read {}", path.display()));
                }
            }
            Runtime::Podman => self.podman(set, report),
            _ => {}
        }
    }

    /// Says which files of Docker and Podman there are, for `mdf doctor`.
    pub fn try_runtimes(&self, report: &Report) {
        let docker = self.root.join("var/lib/docker/containers");
        let folders = names(&docker).map(|folders| format!("{} containers in {}", folders.len(), docker.display()));
        let lists = self.podman_lists().into_iter().filter_map(|path| {
            let containers = runtimes::podman(&std::fs::read(&path).ok()?);
            Some(format!("{} containers in {}", containers.len(), path.display()))
        });
        let found: Vec<String> = folders.into_iter().chain(lists).collect();
        match found.is_empty() {
            true => report.set(
                RUNTIMES,
                State::Absent,
                format!("neither {} nor a storage of podman can be read", docker.display()),
            ),
            false => report.set(RUNTIMES, State::Works, found.join(", ")),
        }
    }

    fn podman(&mut self, set: &mut PodSet, report: &Report) {
        for path in self.podman_lists() {
            self.podman_list(&path, set, report);
        }
    }

    /// Podman keeps one list for each storage: root's, and those of users.
    fn podman_lists(&self) -> Vec<PathBuf> {
        let mut storages = vec![self.root.join("var/lib/containers/storage")];
        let homes = names(&self.root.join("home")).unwrap_or_default();
        let homes = homes.iter().map(|name| self.root.join("home").join(name));
        storages.extend(homes.map(|home| home.join(".local/share/containers/storage")));
        let mut lists = Vec::new();
        for storage in storages {
            // overlay-containers, vfs-containers, …: named by the storage driver.
            let drivers = names(&storage).unwrap_or_default();
            for driver in drivers.iter().filter(|name| name.ends_with("-containers")) {
                let folder = storage.join(driver);
                lists.extend(["containers.json", "volatile-containers.json"].map(|file| folder.join(file)));
            }
        }
        lists
    }

    fn podman_list(&mut self, path: &Path, set: &mut PodSet, report: &Report) {
        let Some(time) = changed(path) else { return };
        if self.stores.get(path) == Some(&time) {
            return;
        }
        if let Ok(json) = std::fs::read(path) {
            for plain in runtimes::podman(&json) {
                set.learn_plain(plain);
            }
            report.set(RUNTIMES, State::Works, format!("read {}", path.display()));
            self.stores.insert(path.to_owned(), time);
        }
    }
}
