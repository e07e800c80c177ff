//! Names that are on the node's own disk: log files of pods, and the files of Docker and Podman. Costs a few directory
//! listings, done only while there are cgroups without a name.

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::files::{Base, Stamp};
use super::report::{Report, State};
use crate::pods::cgroup::Runtime;
use crate::pods::runtimes::Plain;
use crate::pods::set::PLAIN_MAX;
use crate::pods::{PodSet, logs, runtimes};
use crate::{escape, human};

/// Names of the sources in reports.
pub const LOG_NAMES: &str = "log names";
pub const RUNTIMES: &str = "docker and podman files";

const PODS: &str = "var/log/pods";
const DOCKER: &str = "var/lib/docker/containers";
/// Where the containers of root are kept, and those of a user in his folder.
const STORAGE: &str = "var/lib/containers/storage";
const USERS_STORAGE: &str = ".local/share/containers/storage";
const HOMES: &str = "home";
/// The largest file of Docker about one container.
const CONTAINER_MAX: u64 = 1 << 20;
/// Bytes of all lists of Podman in one storage: some ten thousand containers.
const LISTS_MAX: u64 = 16 << 20;
/// Folders with lists in one storage: one for each storage driver, of which a host has one, and seldom two.
const FOLDERS_MAX: usize = 8;

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

/// Lists of Podman that were looked at, as they were then, and whether they were too large.
type Lists = Vec<(Stamp, bool)>;

/// A list of Podman.
#[derive(Debug)]
pub struct List {
    pub path: PathBuf,
    /// Its containers, or why it was not read.
    pub read: Result<Vec<Plain>, String>,
}

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
                let root = &self.root;
                read_lists(base, STORAGE, &mut self.lists, &mut |list| match list.read {
                    Ok(containers) => {
                        containers.into_iter().for_each(|plain| set.learn_plain(plain));
                        let path = root.join(list.path);
                        report.set(RUNTIMES, State::Works, format!("read {}", path.display()));
                    }
                    Err(_) => report.note("", &list.describe(root)),
                });
            }
            _ => {}
        }
    }

    /// Reports which files of Docker and Podman there are, for `mdf doctor`; `of_users`: the state of the lists of users.
    pub fn try_runtimes(&self, of_users: Vec<String>, report: &Report) {
        let docker = self.root.join(DOCKER);
        let folders = self.names(DOCKER);
        let folders = folders.map(|folders| format!("{} containers in {}", folders.len(), docker.display()));
        let mut lists = Vec::new();
        if let Some(base) = &self.base {
            read_lists(base, STORAGE, &mut Lists::new(), &mut |list| {
                lists.push(list.describe(&self.root));
            });
        }
        let found: Vec<String> = folders.into_iter().chain(lists).chain(of_users).collect();
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

impl List {
    /// How many containers it has, or why it was not read. Folders have the names that users give them.
    pub fn describe(&self, root: &Path) -> String {
        let path = root.join(&self.path);
        let path = escape::text(&path.to_string_lossy());
        match &self.read {
            Ok(containers) => format!("{} containers in {path}", containers.len()),
            Err(why) => format!("{path} is not read: {why}"),
        }
    }
}

/// The lists of Podman in users' own folders. The owner of a folder decides how long reading it takes, so this is done on a
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

    /// Hands over the lists of this user, or of all users, that are new or have changed, one after the other. They may name
    /// what runs in the user's own cgroups, and nothing else. What one user has in his folder does not count for another.
    pub fn read(&mut self, user: Option<u32>, take: &mut dyn FnMut(List)) {
        let Some(base) = &self.base else { return };
        for name in base.names(Path::new(HOMES)).unwrap_or_default() {
            let path = Path::new(HOMES).join(&name);
            let Ok(home) = base.home(&path) else { continue };
            if home.owner() == 0 || user.is_some_and(|user| user != home.owner()) {
                continue;
            }
            let known = self.lists.entry(name).or_default();
            read_lists(&home, USERS_STORAGE, known, &mut |mut list| {
                list.path = path.join(&list.path);
                let containers = list.read.iter_mut().flatten();
                containers.for_each(|plain| plain.user = Some(home.owner()));
                take(list);
            });
        }
    }
}

/// Reads the lists of a storage of Podman that are new or have changed, one at a time. `known` has those that were looked at
/// before.
fn read_lists(base: &Base, storage: &str, known: &mut Lists, take: &mut dyn FnMut(List)) {
    let before = std::mem::take(known);
    let mut left = LISTS_MAX;
    let mut give = |path: &Path, read: Result<Vec<Plain>, String>| {
        let path = path.to_owned();
        take(List { path, read });
    };
    let mut drivers = match base.names(Path::new(storage)) {
        Ok(names) => names,
        // A user without containers, or one whose folder only root may read.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => return,
        Err(error) => return give(Path::new(storage), Err(error.to_string())),
    };
    // overlay-containers, vfs-containers, …: named by the storage driver.
    drivers.retain(|name| name.ends_with("-containers"));
    drivers.sort_unstable();
    for (number, driver) in drivers.iter().enumerate() {
        let folder = Path::new(storage).join(driver);
        if number == FOLDERS_MAX {
            let why = format!("there are more than {FOLDERS_MAX} folders of this kind");
            return give(&folder, Err(why));
        }
        for file in ["containers.json", "volatile-containers.json"] {
            let path = folder.join(file);
            let stamp = match base.stamp(&path) {
                Ok(stamp) => stamp,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => {
                    give(&path, Err(error.to_string()));
                    continue;
                }
            };
            if known.iter().any(|(known, _)| known.is_same_file(&stamp)) {
                continue;
            }
            let is_too_large = stamp.len > left;
            known.push((stamp, is_too_large));
            if !is_too_large {
                left -= stamp.len;
            }
            if before.contains(&(stamp, is_too_large)) {
                continue;
            }
            let read = match is_too_large {
                true => Err(format!(
                    "with the others of the same user it has more than {}",
                    human::bytes(LISTS_MAX)
                )),
                false => read_list(base, &path, stamp.len),
            };
            give(&path, read);
        }
    }
}

/// Reads one list of `len` bytes.
fn read_list(base: &Base, path: &Path, len: u64) -> Result<Vec<Plain>, String> {
    let json = base.read(path, len).map_err(|error| error.to_string())?;
    let found = runtimes::podman(&json, PLAIN_MAX).map_err(|error| error.to_string())?;
    match found.len() <= PLAIN_MAX {
        true => Ok(found),
        false => Err(format!("it names more than {PLAIN_MAX} containers")),
    }
}
