//! Names that are on the node's own disk: log files of pods, and the files of Docker and Podman. Costs a few directory
//! listings, done only while there are cgroups without a name.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::files::Base;
use super::report::{Report, State};
use crate::pods::cgroup::Runtime;
use crate::pods::runtimes::Plain;
use crate::pods::{PodSet, logs, runtimes};

/// Names of the sources in reports.
pub const LOG_NAMES: &str = "log names";
pub const RUNTIMES: &str = "docker and podman files";

const PODS: &str = "var/log/pods";
const DOCKER: &str = "var/lib/docker/containers";
/// Where the containers of root are kept, and those of a user in his folder.
const STORAGE: &str = "var/lib/containers/storage";
const USERS_STORAGE: &str = ".local/share/containers/storage";
const HOMES: &str = "home";
/// The largest file of Docker about one container, and the largest list of Podman's.
const CONTAINER_MAX: u64 = 1 << 20;
const LIST_MAX: u64 = 16 << 20;

/// The disk, and what was read of it before.
#[derive(Debug)]
pub struct Local {
    root: PathBuf,
    base: Option<Base>,
    /// Folders of pods in which all containers have been seen: by name, with the time of their last change.
    folders: HashMap<String, SystemTime>,
    links: HashSet<String>,
    lists: Lists,
    docker: HashSet<String>,
}

/// Lists of Podman that were read, with the times of their last change.
type Lists = HashMap<PathBuf, SystemTime>;

impl Local {
    /// Reads below this root.
    pub fn new(root: &Path) -> Local {
        Local {
            root: root.to_owned(),
            base: Base::root(root).ok(),
            folders: HashMap::new(),
            links: HashSet::new(),
            lists: Lists::new(),
            docker: HashSet::new(),
        }
    }

    fn names(&self, folder: &str) -> Result<Vec<String>, String> {
        match &self.base {
            Some(base) => base.names(Path::new(folder)).map_err(|error| error.to_string()),
            None => Err("the root cannot be read".to_owned()),
        }
    }

    /// Looks for new names of pods and their containers.
    pub fn logs(&mut self, set: &mut PodSet, report: &Report) {
        let pods = self.root.join(PODS);
        let found = self.names(PODS);
        let links = self.names("var/log/containers");
        match (&found, &links) {
            (Err(why), Err(_)) => report.set(
                LOG_NAMES,
                State::Absent,
                format!("neither {} nor ../containers can be read: {why}", pods.display()),
            ),
            _ => report.set(
                LOG_NAMES,
                State::Works,
                format!("{} pods in {}", found.as_ref().map_or(0, Vec::len), pods.display()),
            ),
        }
        let found = found.unwrap_or_default();
        for name in &found {
            let (Some(folder), Some(base)) = (logs::pod_folder(name), &self.base) else {
                continue;
            };
            let path = Path::new(PODS).join(name);
            let time = base.changed(&path);
            if time.is_some() && self.folders.get(name).copied() == time {
                continue;
            }
            set.learn_folder(&folder, &base.names(&path).unwrap_or_default());
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
        let Some(base) = &self.base else { return };
        match runtime {
            Runtime::Docker if !self.docker.contains(id) => {
                let path = Path::new(DOCKER).join(id).join("config.v2.json");
                let json = base.read(&path, CONTAINER_MAX).ok();
                if let Some(plain) = json.and_then(|json| runtimes::docker(&json)) {
                    self.docker.insert(id.to_owned());
                    set.learn_plain(plain);
                    report.set(
                        RUNTIMES,
                        State::Works,
                        format!("read {}", self.root.join(path).display()),
                    );
                }
            }
            Runtime::Podman => {
                for (path, containers) in read_lists(base, STORAGE, &mut self.lists) {
                    containers.into_iter().for_each(|plain| set.learn_plain(plain));
                    report.set(
                        RUNTIMES,
                        State::Works,
                        format!("read {}", self.root.join(path).display()),
                    );
                }
            }
            _ => {}
        }
    }

    /// Says which files of Docker and Podman there are, for `mdf doctor`.
    pub fn try_runtimes(&self, users: &[(PathBuf, Vec<Plain>)], report: &Report) {
        let docker = self.root.join(DOCKER);
        let folders = self.names(DOCKER);
        let folders = folders.map(|folders| format!("{} containers in {}", folders.len(), docker.display()));
        let of_root = match &self.base {
            Some(base) => read_lists(base, STORAGE, &mut Lists::new()),
            None => Vec::new(),
        };
        let lists = of_root.iter().chain(users).map(|(path, containers)| {
            let path = self.root.join(path);
            format!("{} containers in {}", containers.len(), path.display())
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
}

/// The lists of Podman in users' own folders. Whoever owns a folder decides how long reading it takes, so this is done on a
/// thread of its own.
#[derive(Debug)]
pub struct Homes {
    base: Option<Base>,
    lists: HashMap<String, Lists>,
}

impl Homes {
    /// Those below this root.
    pub fn new(root: &Path) -> Homes {
        Homes {
            base: Base::root(root).ok(),
            lists: HashMap::new(),
        }
    }

    /// The containers of this user, or of all users, in lists that are new or have changed. They may name what runs in the
    /// user's own cgroups, and nothing else.
    pub fn read(&mut self, user: Option<u32>) -> Vec<(PathBuf, Vec<Plain>)> {
        let mut found = Vec::new();
        let Some(base) = &self.base else { return found };
        for name in base.names(Path::new(HOMES)).unwrap_or_default() {
            let path = Path::new(HOMES).join(&name);
            let Ok(home) = base.home(&path) else { continue };
            if home.owner() == 0 || user.is_some_and(|user| user != home.owner()) {
                continue;
            }
            let known = self.lists.entry(name).or_default();
            for (list, mut containers) in read_lists(&home, USERS_STORAGE, known) {
                containers.iter_mut().for_each(|plain| plain.user = Some(home.owner()));
                found.push((path.join(list), containers));
            }
        }
        found
    }
}

/// Reads the lists of a storage of Podman that are new or have changed.
fn read_lists(base: &Base, storage: &str, known: &mut Lists) -> Vec<(PathBuf, Vec<Plain>)> {
    let mut found = Vec::new();
    // overlay-containers, vfs-containers, …: named by the storage driver.
    let drivers = base.names(Path::new(storage)).unwrap_or_default();
    for driver in drivers.iter().filter(|name| name.ends_with("-containers")) {
        for file in ["containers.json", "volatile-containers.json"] {
            let path = Path::new(storage).join(driver).join(file);
            let Some(time) = base.changed(&path).filter(|time| known.get(&path) != Some(time)) else {
                continue;
            };
            if let Ok(json) = base.read(&path, LIST_MAX) {
                known.insert(path.clone(), time);
                found.push((path, runtimes::podman(&json)));
            }
        }
    }
    found
}
