//! The thread that knows all cgroups and all names, and brings them together.
//!
//! It gets cgroups from the recorder and lists from the sources, in any order, and sends an update to the recorder whenever it knows
//! more about a cgroup or an address than before. With `--pod` and similar options it also decides which cgroups are recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::time::{Duration, Instant};

use super::client::Timing;
use super::input::Input;
use super::local::{self, Homes, Local};
use super::options::{Environment, Options};
use super::report::{Report, State, Status};
use super::{api, kubelet};
use crate::format::record::{Address, Cgroup, Endpoint, Record, Workload};
use crate::open;
use crate::pods::cgroup::{self, Runtime, place};
use crate::pods::kube;
use crate::pods::{AddressName, Named, PodSet, Selectors};
use crate::record::cgroup::Tree;
use crate::record::filter::Selection;
use crate::record::snapshot::{self, Snapshot};
use crate::record::{privilege, sys};

/// The name of `--pods` in reports.
const POD_FILE: &str = "pod list";
/// Its number among the lists.
const POD_FILE_LIST: u32 = 0;
/// A list of pods has no more bytes: some hundred thousand pods.
const MAX_POD_FILE: u64 = 1 << 30;
/// Users whose lists may be asked for before the first of them are read.
const USERS_WAITING: usize = 64;
/// How long the doctor waits for users' lists: their folders may be on a slow file system, or a hostile one.
const USERS_ANSWER: Duration = Duration::from_secs(2);
/// Why the API server is not asked.
const NO_API: &str = "no service account and no --kubeconfig";
/// A cgroup without a name makes the sources look again after these times: names appear a little after the cgroup, and
/// may be gone soon after.
const TRIES: [Duration; 8] = [
    Duration::ZERO,
    Duration::from_millis(15),
    Duration::from_millis(40),
    Duration::from_millis(80),
    Duration::from_millis(150),
    Duration::from_millis(600),
    Duration::from_secs(3),
    Duration::from_secs(15),
];
/// How often cgroups that are gone are taken out of the kernel's filter, and the pod list is looked at.
const HOUSEKEEPING: Duration = Duration::from_secs(10);
/// The least time between two walks of the whole tree: where cgroups were missed, more are to come.
const WALK_PAUSE: Duration = Duration::from_secs(1);
/// cgroups that may wait to be looked at. Where more come at once, the tree is walked for those that are left of them.
const CGROUPS_WAITING: usize = 16_384;
/// cgroups kept before those that are gone are forgotten.
const CGROUPS_MANY: usize = 32_768;
/// How long the kubelet may take for the last question.
const LAST_ANSWER: Duration = Duration::from_millis(700);

/// A message to the recorder.
#[derive(Debug)]
pub enum Update {
    Cgroup {
        time: u64,
        id: u64,
        path: Vec<u8>,
    },
    Workload {
        time: u64,
        cgroup: u64,
        named: Box<Named>,
    },
    Address {
        time: u64,
        ip: IpAddr,
        name: Box<AddressName>,
    },
    /// Record this cgroup and those below it; answer with [`Attribution::followed`].
    Follow(u64),
    Unfollow(u64),
    /// What was there already in cgroups that are recorded from now on.
    Snapshot(Box<Snapshot>),
}

impl Update {
    /// Gives the record to store, if it is one.
    pub fn record<R>(&self, store: impl FnOnce(&Record<'_>) -> R) -> Option<R> {
        match self {
            Update::Cgroup { time, id, path } => Some(store(&Record::Cgroup(Cgroup {
                time: *time,
                id: *id,
                path,
            }))),
            Update::Workload { time, cgroup, named } => Some(store(&Record::Workload(Workload {
                time: *time,
                cgroup: *cgroup,
                container_id: &named.container_id,
                runtime: &named.runtime,
                container: &named.container,
                pod_uid: &named.pod_uid,
                pod: &named.pod,
                namespace: &named.namespace,
                workload: &named.workload,
                labels: &named.labels_text(),
            }))),
            Update::Address { time, ip, name } => Some(store(&Record::Address(Address {
                time: *time,
                ip: Endpoint::new(*ip, 0).ip,
                kind: name.kind,
                namespace: &name.namespace,
                name: &name.name,
                workload: &name.workload,
            }))),
            Update::Follow(_) | Update::Unfollow(_) | Update::Snapshot(_) => None,
        }
    }
}

/// Takes the cgroups that the recorder's drain sees. Never waits.
#[derive(Debug, Clone)]
pub struct Learner {
    to: Sender<Input>,
    backlog: Arc<Backlog>,
    /// Only chosen cgroups are stored: those that the kernel reports are held back until they are chosen.
    pub selective: bool,
}

/// Cgroups that wait for the worker.
#[derive(Debug, Default)]
struct Backlog {
    waiting: AtomicUsize,
    /// Some were missed, and the worker has been asked to walk the tree for them.
    walk_asked: AtomicBool,
}

impl Learner {
    /// As if as many waited as may wait.
    #[cfg(test)]
    pub fn overflow(&self) {
        self.backlog.waiting.fetch_add(CGROUPS_WAITING, Ordering::Relaxed);
    }

    /// There is a cgroup.
    pub fn learn(&self, id: u64, path: &[u8], stored: bool) {
        if self.backlog.waiting.load(Ordering::Relaxed) >= CGROUPS_WAITING {
            self.missed();
            return;
        }
        self.backlog.waiting.fetch_add(1, Ordering::Relaxed);
        let path = path.to_vec();
        let _ = self.to.send(Input::Cgroup { id, path, stored });
    }

    /// Cgroups may have been missed: they came faster than they were taken, or their records were lost.
    pub fn missed(&self) {
        if !self.backlog.walk_asked.swap(true, Ordering::Relaxed) {
            let _ = self.to.send(Input::Walk);
        }
    }
}

/// What the worker needs to begin.
#[derive(Debug)]
pub struct Start {
    pub options: Options,
    pub environment: Environment,
    pub timing: Timing,
    pub selectors: Selectors,
    pub tree: Option<Tree>,
    /// The filters that hold besides the selectors, for what was there before; `None` when /proc does not show them.
    pub selection: Option<Selection>,
    /// Processes that are never recorded.
    pub left_out: Vec<u32>,
}

/// The running worker.
#[derive(Debug)]
pub struct Attribution {
    learner: Learner,
    from: Receiver<Update>,
}

impl Attribution {
    /// Starts the worker and its sources.
    pub fn start(start: Start, report: Report) -> std::io::Result<Attribution> {
        let (to, inputs) = mpsc::channel();
        let (updates, from) = mpsc::channel();
        let learner = Learner {
            to: to.clone(),
            backlog: Arc::default(),
            selective: !start.selectors.is_empty(),
        };
        let (kubelet, users) = match start.options.off {
            true => (None, None),
            false => (
                sources(&start, &to, &report)?,
                Some(homes(start.options.root(), &to, &report)?),
            ),
        };
        let worker = Worker::new(start, learner.backlog.clone(), (kubelet, users), report, updates);
        std::thread::Builder::new()
            .name("names".into())
            .spawn(move || worker.run(&inputs))?;
        Ok(Attribution { learner, from })
    }

    /// Where to put cgroups.
    pub fn learner(&self) -> Learner {
        self.learner.clone()
    }

    /// The updates since the last call.
    pub fn updates(&self) -> impl Iterator<Item = Update> + '_ {
        self.from.try_iter()
    }

    /// The kernel records these cgroups now.
    pub fn followed(&self, ids: Vec<u64>) {
        let _ = self.learner.to.send(Input::Followed(ids));
    }

    /// Looks for names a last time, and gives what was found; waits no longer than `patience`.
    pub fn close(self, patience: Duration) -> Vec<Update> {
        let _ = self.learner.to.send(Input::Close);
        let end = Instant::now() + patience;
        let mut updates = Vec::new();
        while let Ok(update) = self.from.recv_timeout(end.saturating_duration_since(Instant::now())) {
            updates.push(update);
        }
        updates
    }
}

/// Starts the threads that ask the kubelet and the API server. Returns what wakes the former.
fn sources(start: &Start, to: &Sender<Input>, report: &Report) -> std::io::Result<Option<SyncSender<()>>> {
    let Start {
        options,
        environment,
        timing,
        ..
    } = start;
    let api = options.api(environment, *timing);
    let has_api = matches!(api, Some(Ok(_)));
    match api {
        Some(Ok(client)) => {
            let (node, _) = options.node_name(environment);
            let node = (!options.all_pods).then_some(node);
            for target in [api::Target::pods(node.as_deref()), api::Target::services()] {
                let (client, to, report) = (client.clone(), to.clone(), report.clone());
                std::thread::Builder::new()
                    .name("api".into())
                    .spawn(move || api::run(&client, &target, &to, &report))?;
            }
        }
        Some(Err(why)) => report.set("API server (pods)", State::Fails, why),
        None => report.set("API server (pods)", State::Absent, NO_API),
    }
    let client = match options.kubelet(environment, *timing) {
        Some(Ok(client)) => client,
        Some(Err(why)) => {
            report.set(kubelet::SOURCE, State::Fails, why);
            return Ok(None);
        }
        None => {
            report.set(kubelet::SOURCE, State::Absent, no_kubelet(options));
            return Ok(None);
        }
    };
    let (wake, woken) = mpsc::sync_channel(1);
    let (to, report) = (to.clone(), report.clone());
    // Where the API server is watched, the kubelet only helps with pods that are newer than what was watched.
    let every = if has_api { timing.poll * 6 } else { timing.poll };
    std::thread::Builder::new()
        .name("kubelet".into())
        .spawn(move || kubelet::run(&client, every, &woken, &to, &report))?;
    Ok(Some(wake))
}

/// Starts the thread that reads the lists of users' containers. Returns what has it look at those of one user.
fn homes(root: &Path, to: &Sender<Input>, report: &Report) -> std::io::Result<SyncSender<u32>> {
    let (wake, woken) = mpsc::sync_channel(USERS_WAITING);
    let (mut homes, to) = (Homes::new(root), to.clone());
    let (root, report) = (root.to_owned(), report.clone());
    std::thread::Builder::new().name("homes".into()).spawn(move || {
        while let Ok(user) = woken.recv() {
            // However often one user's names are missing, it is the turn of the others afterwards.
            let users: BTreeSet<u32> = std::iter::once(user).chain(woken.try_iter()).collect();
            for user in users {
                homes.read(Some(user), &mut |list| match list.read {
                    // The worker is gone: so is this thread soon.
                    Ok(containers) => drop(to.send(Input::Containers(containers))),
                    Err(_) => report.note(&user.to_string(), &list.describe(&root)),
                });
            }
        }
    })?;
    Ok(wake)
}

/// The state of the lists of users, as far as they can be read in time.
fn try_homes(root: &Path) -> Vec<String> {
    let (to, from) = mpsc::sync_channel(1);
    let (mut homes, path) = (Homes::new(root), root.to_owned());
    let begun = std::thread::Builder::new().name("homes".into()).spawn(move || {
        homes.read(None, &mut |list| drop(to.send(list.describe(&path))));
    });
    if begun.is_err() {
        return Vec::new();
    }
    let end = Instant::now() + USERS_ANSWER;
    let mut lists = Vec::new();
    loop {
        match from.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(list) => lists.push(list),
            Err(RecvTimeoutError::Disconnected) => return lists,
            Err(RecvTimeoutError::Timeout) => {
                lists.push("other lists of users are not read: that takes too long".to_owned());
                return lists;
            }
        }
    }
}

/// Asks each source once, for `mdf doctor`. Slow servers are not waited for as long as while recording.
pub fn try_sources(options: &Options, environment: &Environment, timing: Timing) -> Vec<Status> {
    if options.off {
        return Vec::new();
    }
    let report = Report::new(|_| {});
    let mut set = PodSet::default();
    let mut local = Local::new(options.root());
    local.logs(&mut set, &report);
    local.try_runtimes(try_homes(options.root()), &report);
    match &options.pods {
        Some(_) => read_pod_file(options.pods.as_ref(), &mut set, &report),
        None => report.set(POD_FILE, State::Absent, "no --pods"),
    }
    match options.kubelet(environment, timing) {
        Some(Ok(client)) => drop(kubelet::ask(&client, &report)),
        Some(Err(why)) => report.set(kubelet::SOURCE, State::Fails, why),
        None => report.set(kubelet::SOURCE, State::Absent, no_kubelet(options)),
    }
    let (node, _) = options.node_name(environment);
    let pods = api::Target::pods((!options.all_pods).then_some(node.as_str()));
    for target in [pods, api::Target::services()] {
        match options.api(environment, timing) {
            Some(Ok(client)) => api::try_once(&client, &target, &report),
            Some(Err(why)) => report.set(target.source, State::Fails, why),
            None => report.set(target.source, State::Absent, NO_API),
        }
    }
    report.statuses()
}

/// What to do about a source that gives no names.
pub fn advice(status: &Status) -> Option<&'static str> {
    let is_absent = status.state == State::Absent;
    Some(match status.source {
        _ if status.state == State::Works => return None,
        local::LOG_NAMES => {
            "on a Kubernetes node, run as root; in a container, mount the host's /var/log read-only and give --host-root"
        }
        local::RUNTIMES => {
            "needed for Docker and Podman only; in a container, mount their folders and give --host-root"
        }
        POD_FILE => "kubectl get pods -A -o json >FILE makes a list; mdf analyze --pods takes it afterwards as well",
        kubelet::SOURCE if is_absent => "--kubelet HOST, if it runs on another host",
        kubelet::SOURCE => {
            "it wants a token of an account that may get nodes/proxy (--token-file), and --kubelet-ca must verify it"
        }
        _ if is_absent => "run in a pod with the rights in deploy/daemonset.yaml, or give --kubeconfig",
        _ => "the account wants a valid token, and list and watch on pods and services (deploy/daemonset.yaml)",
    })
}

fn no_kubelet(options: &Options) -> String {
    format!("no {}", options.root().join("var/lib/kubelet").display())
}

fn read_pod_file(path: Option<&PathBuf>, set: &mut PodSet, report: &Report) {
    let Some(path) = path else { return };
    let read = open::read_whole(path, MAX_POD_FILE).map_err(|error| error.to_string());
    match read.and_then(|json| kube::list(&json)) {
        Ok(list) => {
            let count = list.items.len();
            set.learn_list(POD_FILE_LIST, list.items);
            report.set(POD_FILE, State::Works, format!("{count} names in {}", path.display()));
        }
        Err(why) => report.set(POD_FILE, State::Fails, format!("{}: {why}", path.display())),
    }
}

#[derive(Debug)]
struct Entry {
    path: String,
    stored: bool,
    /// The names last sent to the recorder.
    sent: Option<Named>,
    /// Tries made to find its name, and when the next is due.
    tries: usize,
    due: Option<Instant>,
}

struct Worker {
    set: PodSet,
    local: Option<Local>,
    pod_file: Option<PathBuf>,
    pod_file_changed: Option<std::time::SystemTime>,
    kubelet: Option<SyncSender<()>>,
    users: Option<SyncSender<u32>>,
    report: Report,
    selectors: Selectors,
    tree: Option<Tree>,
    selection: Option<Selection>,
    left_out: Vec<u32>,
    backlog: Arc<Backlog>,
    to: Sender<Update>,
    cgroups: BTreeMap<u64, Entry>,
    /// Paths of the cgroups that are recorded because a selector chose them.
    followed: BTreeMap<String, u64>,
    addresses: BTreeMap<IpAddr, AddressName>,
    /// The edition of the set that all cgroups have been resolved with.
    resolved: u64,
    /// Cgroups that came since.
    fresh: BTreeSet<u64>,
    kept_house: Instant,
    /// When the tree was walked, and whether that has to be done again.
    walked: Instant,
    must_walk: bool,
    closing: bool,
}

impl Worker {
    fn new(
        start: Start,
        backlog: Arc<Backlog>,
        (kubelet, users): (Option<SyncSender<()>>, Option<SyncSender<u32>>),
        report: Report,
        to: Sender<Update>,
    ) -> Worker {
        let off = start.options.off;
        Worker {
            set: PodSet::default(),
            local: (!off).then(|| Local::new(start.options.root())),
            pod_file: start.options.pods.filter(|_| !off),
            pod_file_changed: None,
            kubelet,
            users,
            report,
            selectors: start.selectors,
            tree: start.tree,
            selection: start.selection,
            left_out: start.left_out,
            backlog,
            to,
            cgroups: BTreeMap::new(),
            followed: BTreeMap::new(),
            addresses: BTreeMap::new(),
            resolved: 0,
            fresh: BTreeSet::new(),
            kept_house: Instant::now(),
            walked: Instant::now(),
            must_walk: false,
            closing: false,
        }
    }

    fn run(mut self, inputs: &Receiver<Input>) {
        self.read_pod_file();
        // With selectors, nothing else looks for the cgroups that exist already.
        if !self.selectors.is_empty() {
            self.walk();
        }
        loop {
            if self.must_walk && self.walked.elapsed() >= WALK_PAUSE {
                self.walk();
            }
            self.look();
            // Choosing a pod makes its containers fresh.
            while self.has_unresolved() {
                if !self.resolve() {
                    return;
                }
            }
            let wait = match self.closing {
                true => return,
                false => self.next_due().saturating_duration_since(Instant::now()),
            };
            match inputs.recv_timeout(wait) {
                Ok(ask) => self.take(ask),
                Err(RecvTimeoutError::Timeout) => self.keep_house(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while let Ok(ask) = inputs.try_recv() {
                self.take(ask);
            }
            if self.closing {
                self.last_look(inputs);
            }
        }
    }

    fn take(&mut self, ask: Input) {
        match ask {
            Input::Cgroup { id, path, stored } => {
                self.backlog.waiting.fetch_sub(1, Ordering::Relaxed);
                self.learn_cgroup(id, &path, stored);
            }
            Input::Walk => self.must_walk = true,
            Input::Followed(ids) => self.snapshot(ids),
            Input::List(list, items) => self.set.learn_list(list, items),
            Input::Failed(_) => {}
            Input::Containers(containers) => containers.into_iter().for_each(|plain| self.set.learn_plain(plain)),
            Input::Applied(item) => self.set.learn(item),
            Input::Deleted(item) => self.set.delete(&item),
            Input::Close => self.closing = true,
        }
    }

    /// Learns the cgroups that there are. Those that are stored may be stored again.
    fn walk(&mut self) {
        (self.must_walk, self.walked) = (false, Instant::now());
        // What is missed during the walk is looked for again.
        self.backlog.walk_asked.store(false, Ordering::Relaxed);
        let entries = self.tree.as_ref().map(|tree| tree.walk(b"/")).unwrap_or_default();
        for entry in entries {
            self.learn_cgroup(entry.id, &entry.path, false);
        }
    }

    fn learn_cgroup(&mut self, id: u64, path: &[u8], stored: bool) {
        let path = String::from_utf8_lossy(path).into_owned();
        // Most cgroups are nobody's; they cost nothing here. Slices of systemd are not kept either.
        if place(&path).is_none() {
            return;
        }
        match self.cgroups.get_mut(&id) {
            Some(known) => known.stored |= stored,
            None => {
                let entry = Entry {
                    path,
                    stored,
                    sent: None,
                    tries: 0,
                    due: None,
                };
                self.cgroups.insert(id, entry);
            }
        }
        self.fresh.insert(id);
    }

    fn next_due(&self) -> Instant {
        let tries = self.cgroups.values().filter_map(|entry| entry.due).min();
        let walk = self.must_walk.then(|| self.walked + WALK_PAUSE);
        let house = self.kept_house + HOUSEKEEPING;
        tries.into_iter().chain(walk).fold(house, Instant::min)
    }

    /// Looks for the names of cgroups that have none and whose time has come.
    fn look(&mut self) {
        let now = Instant::now();
        let is_due = |entry: &&mut Entry| entry.due.is_some_and(|due| due <= now);
        let (mut in_pods, mut plain, mut users) = (false, Vec::new(), BTreeSet::new());
        for entry in self.cgroups.values_mut().filter(is_due) {
            entry.due = TRIES.get(entry.tries + 1).map(|after| now + *after);
            entry.tries += 1;
            if let Some(place) = place(&entry.path) {
                in_pods |= !place.pod_uid.is_empty();
                match cgroup::user(&entry.path).filter(|_| place.runtime == Runtime::Podman) {
                    Some(user) => drop(users.insert(user)),
                    None => plain.push((place.runtime, place.container_id)),
                }
            }
        }
        if let Some(local) = &mut self.local {
            if in_pods || !plain.is_empty() {
                local.logs(&mut self.set, &self.report);
            }
            for (runtime, id) in &plain {
                local.container(*runtime, id, &mut self.set, &self.report);
            }
        }
        if let Some(kubelet) = self.kubelet.as_ref().filter(|_| in_pods) {
            // Full: it has been woken already.
            let _ = kubelet.try_send(());
        }
        for user in users {
            // Full: it is tried again, as long as the name is missing.
            let _ = self.users.as_ref().map(|homes| homes.try_send(user));
        }
    }

    fn has_unresolved(&self) -> bool {
        self.set.edition() != self.resolved || !self.fresh.is_empty()
    }

    /// Finds the names of cgroups and sends what is new. `false` when the recorder is gone.
    fn resolve(&mut self) -> bool {
        let all = self.set.edition() != self.resolved;
        let fresh = std::mem::take(&mut self.fresh);
        self.resolved = self.set.edition();
        let ids: Vec<u64> = match all {
            true => self.cgroups.keys().copied().collect(),
            false => fresh.into_iter().collect(),
        };
        let now = Instant::now();
        let mut named: Vec<(u64, Named)> = Vec::with_capacity(ids.len());
        for id in ids {
            let Some(entry) = self.cgroups.get_mut(&id) else {
                continue;
            };
            let Some(found) = self.set.resolve(&entry.path) else {
                continue;
            };
            if !found.is_partial() {
                entry.due = None;
            } else if entry.tries == 0 && entry.due.is_none() {
                entry.due = Some(now + TRIES[0]);
            }
            named.push((id, found));
        }
        self.choose(&mut named);
        for (id, found) in named {
            if !self.send_name(id, found) {
                return false;
            }
        }
        !all || self.send_addresses()
    }

    /// Chooses which cgroups to record, and which no longer. Pods before their containers, so that one is enough.
    fn choose(&mut self, named: &mut [(u64, Named)]) {
        if self.selectors.is_empty() {
            return;
        }
        named.sort_by_key(|(id, _)| self.cgroups.get(id).map(|entry| entry.path.len()));
        for (id, found) in named.iter() {
            let Some(path) = self.cgroups.get(id).map(|entry| entry.path.clone()) else {
                continue;
            };
            let is_followed = self.followed.contains_key(&path);
            let matches = self.selectors.matches(found);
            if matches && !self.is_recorded(&path) {
                let _ = self.to.send(Update::Follow(*id));
                self.followed.insert(path.clone(), *id);
                // The cgroups below it are recorded from now on as well.
                let below: Vec<u64> = self
                    .cgroups
                    .iter()
                    .filter(|(_, entry)| is_below(&entry.path, &path) && entry.sent.is_none())
                    .map(|(id, _)| *id)
                    .collect();
                self.fresh.extend(below);
            } else if !matches && is_followed {
                // Its labels have changed.
                self.followed.remove(&path);
                let _ = self.to.send(Update::Unfollow(*id));
            }
        }
    }

    fn is_recorded(&self, path: &str) -> bool {
        self.followed.keys().any(|above| is_below(path, above))
    }

    fn send_name(&mut self, id: u64, found: Named) -> bool {
        let Some(entry) = self.cgroups.get(&id) else {
            return true;
        };
        if entry.sent.as_ref() == Some(&found)
            || !(entry.stored || self.selectors.is_empty() || self.is_recorded(&entry.path))
        {
            return true;
        }
        let time = sys::boot_ns();
        let Some(entry) = self.cgroups.get_mut(&id) else {
            return true;
        };
        if !entry.stored {
            entry.stored = true;
            let path = entry.path.clone().into_bytes();
            if self.to.send(Update::Cgroup { time, id, path }).is_err() {
                return false;
            }
        }
        entry.sent = Some(found.clone());
        let update = Update::Workload {
            time,
            cgroup: id,
            named: Box::new(found),
        };
        self.to.send(update).is_ok()
    }

    fn send_addresses(&mut self) -> bool {
        let addresses = self.set.addresses();
        let time = sys::boot_ns();
        for (ip, name) in &addresses {
            if self.addresses.get(ip) != Some(name) {
                let update = Update::Address {
                    time,
                    ip: *ip,
                    name: Box::new(name.clone()),
                };
                if self.to.send(update).is_err() {
                    return false;
                }
            }
        }
        self.addresses = addresses;
        true
    }

    /// Reads what was there before the kernel recorded these cgroups.
    fn snapshot(&mut self, ids: Vec<u64>) {
        let Some(selection) = &self.selection else { return };
        let selection = Selection {
            cgroups: ids,
            ..selection.clone()
        };
        let _all = privilege::read_all();
        let snapshot = snapshot::take(&selection, self.tree.as_ref(), &self.left_out);
        let _ = self.to.send(Update::Snapshot(Box::new(snapshot)));
    }

    fn keep_house(&mut self) {
        if self.kept_house.elapsed() < HOUSEKEEPING {
            return;
        }
        self.kept_house = Instant::now();
        self.read_pod_file();
        let Some(tree) = &self.tree else { return };
        let gone: Vec<String> = self
            .followed
            .keys()
            .filter(|path| !tree.directory(path.as_bytes()).is_dir())
            .cloned()
            .collect();
        for path in gone {
            if let Some(id) = self.followed.remove(&path) {
                let _ = self.to.send(Update::Unfollow(id));
            }
        }
        if self.cgroups.len() > CGROUPS_MANY {
            self.cgroups
                .retain(|_, entry| tree.directory(entry.path.as_bytes()).is_dir());
        }
    }

    /// Reads `--pods` again when it was replaced.
    fn read_pod_file(&mut self) {
        let changed = (self.pod_file.as_ref())
            .and_then(|path| std::fs::metadata(path).ok())
            .and_then(|metadata| metadata.modified().ok());
        if changed.is_none() || changed != self.pod_file_changed {
            self.pod_file_changed = changed;
            read_pod_file(self.pod_file.as_ref(), &mut self.set, &self.report);
        }
    }

    /// All input has been taken: asks the sources that may know a name that is still missing.
    fn last_look(&mut self, inputs: &Receiver<Input>) {
        if self.must_walk {
            self.walk();
        }
        let is_unnamed = |entry: &Entry| entry.sent.as_ref().is_none_or(Named::is_partial);
        let now = Instant::now();
        let mut any = false;
        for entry in self.cgroups.values_mut().filter(|entry| is_unnamed(entry)) {
            entry.due = Some(now);
            any |= place(&entry.path).is_some_and(|place| !place.pod_uid.is_empty());
        }
        self.look();
        let Some(kubelet) = self.kubelet.take().filter(|_| any) else {
            return;
        };
        let _ = kubelet.try_send(());
        let end = now + LAST_ANSWER;
        while let Ok(ask) = inputs.recv_timeout(end.saturating_duration_since(Instant::now())) {
            let is_answer = matches!(ask, Input::List(kubelet::LIST, _) | Input::Failed(kubelet::LIST));
            self.take(ask);
            if is_answer {
                break;
            }
        }
    }
}

fn is_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
