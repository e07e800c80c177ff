//! Everything learnt about pods, containers and addresses, from any source and in any order; and the answer to "who is
//! this cgroup?".
//!
//! Sources know different amounts: names of log folders give a pod's name only, the API everything. What is learnt is
//! merged, and kept after the pod is gone (a capture outlives its pods), within bounds.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::IpAddr;

use super::cgroup::{self, Place, Runtime};
use super::kube::{Item, Labels, Node, Pod, Service};
use super::logs::{ContainerLog, PodFolder};
use super::runtimes::Plain;
use crate::format::record::AddressKind;

/// Pods that are gone and still remembered.
const GONE_MAX: usize = 10_000;
/// Bounds against a broken source; no cluster and no host has this many.
const PODS_MAX: usize = 300_000;
const CONTAINERS_MAX: usize = 1_000_000;
/// Containers outside Kubernetes that are remembered of one user, the newest, and of all. Any user makes lists of them, and
/// none at the cost of another.
pub const PLAIN_MAX: usize = 16_384;
const ALL_PLAIN_MAX: usize = 8 * PLAIN_MAX;

/// Who runs in a cgroup. Empty texts mean "not known" or "has none".
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Named {
    pub container_id: String,
    pub runtime: String,
    pub container: String,
    pub pod_uid: String,
    pub pod: String,
    pub namespace: String,
    /// `kind/name` of what owns the pod, or a systemd unit.
    pub workload: String,
    pub labels: Labels,
}

impl Named {
    /// Labels as they are stored.
    pub fn labels_text(&self) -> String {
        let pairs: Vec<String> = self
            .labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        pairs.join(",")
    }

    /// Whether a source may still add something that matters: the pod's name, or the container's.
    pub fn is_partial(&self) -> bool {
        let pod = !self.pod_uid.is_empty() && self.pod.is_empty();
        let container = !self.container_id.is_empty() && self.container.is_empty();
        pod || container
    }
}

/// What an address is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressName {
    pub kind: AddressKind,
    pub namespace: String,
    pub name: String,
    pub workload: String,
}

#[derive(Debug, Clone, Default)]
struct Known {
    pod: Pod,
    /// Containers whose log folder is known, but not their id.
    containers: Vec<String>,
    /// When it was learnt first; the newer of two pods has an address.
    order: u64,
    gone: bool,
}

#[derive(Debug, Clone, Default)]
struct KnownContainer {
    name: String,
    runtime: String,
    namespace: String,
    pod: String,
}

/// What one user has named.
#[derive(Debug, Clone, Default)]
struct PlainOfUser {
    by_id: HashMap<String, Plain>,
    /// Their ids, the longest known first.
    order: VecDeque<String>,
}

impl PlainOfUser {
    fn forget_oldest(&mut self) {
        if let Some(id) = self.order.pop_front() {
            self.by_id.remove(&id);
        }
    }
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct PodSet {
    /// By uid.
    pods: HashMap<String, Known>,
    /// Hash of a static pod's manifest -> uid at the API server.
    static_pods: HashMap<String, String>,
    /// By id.
    containers: HashMap<String, KnownContainer>,
    /// By the user who named them; outside Kubernetes.
    plain: BTreeMap<Option<u32>, PlainOfUser>,
    /// By namespace and name.
    services: BTreeMap<(String, String), Service>,
    nodes: BTreeMap<String, Vec<IpAddr>>,
    /// Uids by the source that listed them.
    listed: HashMap<u32, HashSet<String>>,
    gone: VecDeque<String>,
    learnt: u64,
    edition: u64,
}

impl PodSet {
    /// Grows whenever something new was learnt.
    pub fn edition(&self) -> u64 {
        self.edition
    }

    /// Pods known, gone ones included.
    pub fn pods(&self) -> usize {
        self.pods.len()
    }

    /// Takes a whole list from a source, which is a number that the caller gives it. Pods that the source listed before
    /// and does not list now are gone.
    pub fn learn_list(&mut self, source: u32, items: Vec<Item>) {
        let uids: HashSet<String> = items
            .iter()
            .filter_map(|item| match item {
                Item::Pod(pod) => Some(pod.uid.clone()),
                _ => None,
            })
            .collect();
        let before = self.listed.insert(source, uids).unwrap_or_default();
        let now = self.listed.get(&source);
        let gone: Vec<String> = before
            .into_iter()
            .filter(|uid| now.is_some_and(|now| !now.contains(uid)))
            .collect();
        for uid in gone {
            self.end_pod(&uid);
        }
        for item in items {
            self.learn(item);
        }
    }

    /// Takes one item.
    pub fn learn(&mut self, item: Item) {
        match item {
            Item::Pod(pod) => self.learn_pod(pod),
            Item::Service(service) => {
                let key = (service.namespace.clone(), service.name.clone());
                if self.services.get(&key) != Some(&service) {
                    self.services.insert(key, service);
                    self.edition += 1;
                }
            }
            Item::Node(node) => self.learn_node(node),
        }
    }

    /// Something was deleted. Its name is kept, its addresses may become another's.
    pub fn delete(&mut self, item: &Item) {
        match item {
            Item::Pod(pod) => self.end_pod(&pod.uid),
            Item::Service(service) => {
                // A Service of the same name may have been made meanwhile.
                let key = (service.namespace.clone(), service.name.clone());
                if self.services.get(&key).is_some_and(|known| known.uid == service.uid) {
                    self.services.remove(&key);
                }
            }
            Item::Node(_) => {}
        }
    }

    fn end_pod(&mut self, uid: &str) {
        let Some(known) = self.pods.get_mut(uid).filter(|known| !known.gone) else {
            return;
        };
        known.gone = true;
        self.gone.push_back(uid.to_owned());
        if self.gone.len() > GONE_MAX
            && let Some(uid) = self.gone.pop_front()
            && self.pods.get(&uid).is_some_and(|known| known.gone)
            && let Some(known) = self.pods.remove(&uid)
        {
            for container in &known.pod.containers {
                self.containers.remove(&container.id);
            }
            self.static_pods.remove(&known.pod.config_hash);
        }
    }

    fn learn_pod(&mut self, mut pod: Pod) {
        if pod.uid.is_empty() || (self.pods.len() >= PODS_MAX && !self.pods.contains_key(&pod.uid)) {
            return;
        }
        for container in &pod.containers {
            let known = KnownContainer {
                name: container.name.clone(),
                runtime: container.runtime.clone(),
                namespace: pod.namespace.clone(),
                pod: pod.name.clone(),
            };
            self.containers.insert(container.id.clone(), known);
        }
        if !pod.config_hash.is_empty() && pod.config_hash != pod.uid {
            self.static_pods.insert(pod.config_hash.clone(), pod.uid.clone());
        }
        if !pod.host_network && !pod.node.is_empty() && !pod.host_ips.is_empty() {
            self.learn_node(Node {
                name: pod.node.clone(),
                ips: pod.host_ips.clone(),
            });
        }
        let known = self.known(&pod.uid.clone());
        // A pod that is ending has lost its addresses; they are worth keeping. Ended containers are not listed for ever.
        if pod.ips.is_empty() {
            pod.ips.clone_from(&known.pod.ips);
        }
        for container in &known.pod.containers {
            if !pod.containers.contains(container) {
                pod.containers.push(container.clone());
            }
        }
        pod.containers.sort_by(|a, b| a.id.cmp(&b.id));
        if known.pod != pod || known.gone {
            known.pod = pod;
            known.gone = false;
            self.edition += 1;
        }
    }

    /// The pod of this uid, made when it is new.
    fn known(&mut self, uid: &str) -> &mut Known {
        let learnt = &mut self.learnt;
        self.pods.entry(uid.to_owned()).or_insert_with(|| {
            *learnt += 1;
            Known {
                order: *learnt,
                ..Known::default()
            }
        })
    }

    fn learn_node(&mut self, node: Node) {
        let known = self.nodes.entry(node.name).or_default();
        for ip in node.ips {
            if !known.contains(&ip) {
                known.push(ip);
                self.edition += 1;
            }
        }
    }

    /// Takes a folder of `/var/log/pods` and the containers that have folders in it.
    pub fn learn_folder(&mut self, folder: &PodFolder<'_>, containers: &[String]) {
        if self.pods.len() >= PODS_MAX {
            return;
        }
        let known = self.known(folder.uid);
        let mut new = known.pod.uid.is_empty();
        if new {
            known.pod = Pod {
                uid: folder.uid.to_owned(),
                namespace: folder.namespace.to_owned(),
                name: folder.pod.to_owned(),
                ..Pod::default()
            };
        }
        for container in containers {
            if !known.containers.contains(container) {
                known.containers.push(container.clone());
                new = true;
            }
        }
        self.edition += u64::from(new);
    }

    /// Takes a link of `/var/log/containers`.
    pub fn learn_container_log(&mut self, log: &ContainerLog<'_>) {
        if self.containers.contains_key(log.id) || self.containers.len() >= CONTAINERS_MAX {
            return;
        }
        let known = KnownContainer {
            name: log.container.to_owned(),
            runtime: String::new(),
            namespace: log.namespace.to_owned(),
            pod: log.pod.to_owned(),
        };
        self.containers.insert(log.id.to_owned(), known);
        self.edition += 1;
    }

    /// Takes a container of Docker or Podman.
    pub fn learn_plain(&mut self, plain: Plain) {
        let of_user = self.plain.entry(plain.user).or_default();
        if of_user.by_id.get(&plain.id) == Some(&plain) {
            return;
        }
        self.edition += 1;
        let id = plain.id.clone();
        if of_user.by_id.insert(id.clone(), plain).is_some() {
            return;
        }
        of_user.order.push_back(id);
        if of_user.order.len() > PLAIN_MAX {
            of_user.forget_oldest();
        }
        let all: usize = self.plain.values().map(|of_user| of_user.order.len()).sum();
        if all > ALL_PLAIN_MAX
            && let Some(largest) = self.plain.values_mut().max_by_key(|of_user| of_user.order.len())
        {
            largest.forget_oldest();
        }
    }

    /// Who runs in the cgroup of this path; `None` when it is no container's, pod's or unit's.
    pub fn resolve(&self, path: &str) -> Option<Named> {
        let Place {
            runtime,
            container_id,
            pod_uid,
            unit,
        } = cgroup::place(path)?;
        let mut named = Named {
            runtime: runtime.name().to_owned(),
            container: if runtime == Runtime::Lxc {
                container_id.clone()
            } else {
                String::new()
            },
            workload: unit,
            container_id,
            pod_uid,
            ..Named::default()
        };
        if !named.pod_uid.is_empty() || !named.container_id.is_empty() {
            self.name_container(&mut named, cgroup::user(path));
            self.name_pod(&mut named);
        }
        Some(named)
    }

    fn name_container(&self, named: &mut Named, user: Option<u32>) {
        if let Some(known) = self.containers.get(&named.container_id) {
            named.container.clone_from(&known.name);
            named.pod.clone_from(&known.pod);
            named.namespace.clone_from(&known.namespace);
            if named.runtime.is_empty() {
                named.runtime.clone_from(&known.runtime);
            }
        } else if named.pod_uid.is_empty() {
            // Users name what is in their own cgroups, and nobody else does: they may make cgroups of any name there.
            let of_user = self.plain.get(&user);
            if let Some(plain) = of_user.and_then(|of_user| of_user.by_id.get(&named.container_id)) {
                named.container.clone_from(&plain.name);
                named.labels.clone_from(&plain.labels);
            }
        }
    }

    fn name_pod(&self, named: &mut Named) {
        let by_uid = || {
            let uid = self.static_pods.get(&named.pod_uid).unwrap_or(&named.pod_uid);
            self.pods.get(uid).or_else(|| self.pods.get(&named.pod_uid))
        };
        // A container whose path does not name its pod (Docker under Kubernetes): the newest pod of the name.
        let by_name = || {
            self.pods
                .values()
                .filter(|known| known.pod.namespace == named.namespace && known.pod.name == named.pod)
                .max_by_key(|known| known.order)
        };
        let known = if named.pod_uid.is_empty() {
            if named.pod.is_empty() { None } else { by_name() }
        } else {
            by_uid()
        };
        let Some(known) = known else { return };
        let pod = &known.pod;
        // A log folder alone has less than the name of a container's log, never more.
        named.pod.clone_from(&pod.name);
        named.namespace.clone_from(&pod.namespace);
        named.workload.clone_from(&pod.owner);
        named.labels.clone_from(&pod.labels);
        if named.pod_uid.is_empty() {
            named.pod_uid.clone_from(&pod.uid);
        }
        // Without the kubelet's links only the folders have names, and of several it is not known which is which.
        if !named.container_id.is_empty()
            && named.container.is_empty()
            && pod.containers.is_empty()
            && let [only] = known.containers.as_slice()
        {
            named.container.clone_from(only);
        }
    }

    /// What addresses are called now. Of two pods that had an address, the living, then the newer has it.
    pub fn addresses(&self) -> BTreeMap<IpAddr, AddressName> {
        let mut names = BTreeMap::new();
        for (node, ips) in &self.nodes {
            for ip in ips {
                let name = AddressName {
                    kind: AddressKind::Node,
                    namespace: String::new(),
                    name: node.clone(),
                    workload: String::new(),
                };
                names.insert(*ip, name);
            }
        }
        let mut pods: Vec<&Known> = self
            .pods
            .values()
            .filter(|known| !known.pod.host_network && !known.pod.ips.is_empty())
            .collect();
        pods.sort_by_key(|known| (!(known.gone || known.pod.ended), known.order));
        for known in pods {
            for ip in &known.pod.ips {
                let name = AddressName {
                    kind: AddressKind::Pod,
                    namespace: known.pod.namespace.clone(),
                    name: known.pod.name.clone(),
                    workload: known.pod.owner.clone(),
                };
                names.insert(*ip, name);
            }
        }
        for service in self.services.values() {
            if service.ips.is_empty() {
                continue;
            }
            let workload = self.workload_behind(service);
            for ip in &service.ips {
                let name = AddressName {
                    kind: AddressKind::Service,
                    namespace: service.namespace.clone(),
                    name: service.name.clone(),
                    workload: workload.clone(),
                };
                names.insert(*ip, name);
            }
        }
        names
    }

    /// The owner of the pods that a Service selects, if all have the same.
    fn workload_behind(&self, service: &Service) -> String {
        let selects = |pod: &Pod| {
            pod.namespace == service.namespace
                && service
                    .selector
                    .iter()
                    .all(|(key, value)| pod.labels.get(key) == Some(value))
        };
        if service.selector.is_empty() {
            return String::new();
        }
        let mut owners = self
            .pods
            .values()
            .filter(|known| selects(&known.pod))
            .map(|known| known.pod.owner.as_str());
        match owners.next() {
            Some(owner) if owners.all(|other| other == owner) => owner.to_owned(),
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests;
