//! Pods, Services and Nodes as the Kubernetes API writes them in JSON: what `kubectl get -o json` prints, what the kubelet
//! answers to `/pods`, and the events of a watch. Only what names things is read; everything else is passed over.
//!
//! Types: <https://kubernetes.io/docs/reference/kubernetes-api/>.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Deserializer};

/// Labels or a selector.
pub type Labels = BTreeMap<String, String>;

/// A container of a pod, also an ended one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Container {
    /// Without `containerd://` before it.
    pub id: String,
    /// What comes before `://`.
    pub runtime: String,
    pub name: String,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pod {
    pub uid: String,
    /// A static pod's cgroups and logs go by the hash of its manifest; the API server knows it by another uid. Empty for
    /// other pods.
    pub config_hash: String,
    pub namespace: String,
    pub name: String,
    pub node: String,
    /// It shares the node's addresses.
    pub host_network: bool,
    /// It has ended; its addresses may be another's by now.
    pub ended: bool,
    pub ips: Vec<IpAddr>,
    pub host_ips: Vec<IpAddr>,
    /// `kind/name` of what owns it; empty for none. A Deployment is named in place of its ReplicaSet.
    pub owner: String,
    pub labels: Labels,
    pub containers: Vec<Container>,
}

/// A Service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Service {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    pub ips: Vec<IpAddr>,
    pub selector: Labels,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Node {
    pub name: String,
    pub ips: Vec<IpAddr>,
}

/// Anything that names something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    Pod(Pod),
    Service(Service),
    Node(Node),
}

/// A list, or one page of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct List {
    pub items: Vec<Item>,
    /// Where a watch goes on.
    pub resource_version: String,
    /// Asks for the next page; empty on the last one.
    pub next: String,
}

/// One line of a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// ADDED or MODIFIED; the second is the version from which a broken watch goes on.
    Applied(Item, String),
    Deleted(Item, String),
    /// Nothing new up to this version.
    Bookmark(String),
    /// The server ends the watch; code as in HTTP. 410: the version is too old, list again.
    Error {
        code: u16,
        message: String,
    },
    /// An event or an object of a kind that names nothing.
    Other,
}

fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Kinds that are passed over may have anything here: a Status object has a text where a pod has its status.
fn lenient<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either<T> {
        Whole(T),
        Other(serde::de::IgnoredAny),
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::Whole(whole) => whole,
        Either::Other(_) => T::default(),
    })
}

/// Any object, or a list of them.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Object {
    #[serde(deserialize_with = "nullable")]
    kind: String,
    #[serde(deserialize_with = "nullable")]
    metadata: Metadata,
    #[serde(deserialize_with = "lenient")]
    spec: Spec,
    #[serde(deserialize_with = "lenient")]
    status: Status,
    items: Option<Vec<Object>>,
    /// Of a Status object (an error).
    message: Option<String>,
    code: Option<u16>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    #[serde(deserialize_with = "nullable")]
    name: String,
    #[serde(deserialize_with = "nullable")]
    namespace: String,
    #[serde(deserialize_with = "nullable")]
    uid: String,
    #[serde(deserialize_with = "nullable")]
    resource_version: String,
    #[serde(rename = "continue", deserialize_with = "nullable")]
    next: String,
    #[serde(deserialize_with = "nullable")]
    labels: Labels,
    #[serde(deserialize_with = "nullable")]
    annotations: Labels,
    #[serde(deserialize_with = "nullable")]
    owner_references: Vec<OwnerReference>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OwnerReference {
    #[serde(deserialize_with = "nullable")]
    kind: String,
    #[serde(deserialize_with = "nullable")]
    name: String,
    #[serde(deserialize_with = "nullable")]
    controller: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    #[serde(deserialize_with = "nullable")]
    node_name: String,
    #[serde(deserialize_with = "nullable")]
    host_network: bool,
    #[serde(rename = "clusterIP", deserialize_with = "nullable")]
    cluster_ip: String,
    #[serde(rename = "clusterIPs", deserialize_with = "nullable")]
    cluster_ips: Vec<String>,
    #[serde(rename = "externalIPs", deserialize_with = "nullable")]
    external_ips: Vec<String>,
    /// A map of labels in a Service; other kinds have other shapes.
    selector: serde_json::Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    #[serde(deserialize_with = "nullable")]
    phase: String,
    #[serde(rename = "podIP", deserialize_with = "nullable")]
    pod_ip: String,
    #[serde(rename = "podIPs", deserialize_with = "nullable")]
    pod_ips: Vec<Ip>,
    #[serde(rename = "hostIP", deserialize_with = "nullable")]
    host_ip: String,
    #[serde(rename = "hostIPs", deserialize_with = "nullable")]
    host_ips: Vec<Ip>,
    #[serde(deserialize_with = "nullable")]
    container_statuses: Vec<ContainerStatus>,
    #[serde(deserialize_with = "nullable")]
    init_container_statuses: Vec<ContainerStatus>,
    #[serde(deserialize_with = "nullable")]
    ephemeral_container_statuses: Vec<ContainerStatus>,
    #[serde(deserialize_with = "nullable")]
    addresses: Vec<NodeAddress>,
    #[serde(deserialize_with = "nullable")]
    load_balancer: LoadBalancer,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Ip {
    #[serde(deserialize_with = "nullable")]
    ip: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LoadBalancer {
    #[serde(deserialize_with = "nullable")]
    ingress: Vec<Ip>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NodeAddress {
    #[serde(deserialize_with = "nullable")]
    address: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ContainerStatus {
    #[serde(deserialize_with = "nullable")]
    name: String,
    #[serde(rename = "containerID", deserialize_with = "nullable")]
    container_id: String,
    #[serde(deserialize_with = "nullable")]
    state: ContainerState,
    #[serde(deserialize_with = "nullable")]
    last_state: ContainerState,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ContainerState {
    #[serde(deserialize_with = "nullable")]
    terminated: Terminated,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Terminated {
    #[serde(rename = "containerID", deserialize_with = "nullable")]
    container_id: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WatchLine {
    #[serde(rename = "type", deserialize_with = "nullable")]
    kind: String,
    #[serde(deserialize_with = "nullable")]
    object: Object,
}

/// Reads a list (of pods, Services, nodes, or mixed), single objects, or several of these one after the other.
pub fn list(json: &[u8]) -> Result<List, String> {
    let mut list = List::default();
    let mut found = false;
    for object in serde_json::Deserializer::from_slice(json).into_iter::<Object>() {
        let object = object.map_err(|error| error.to_string())?;
        if object.kind == "Status" {
            return Err(object.message.unwrap_or_else(|| "an error without a message".into()));
        }
        // A list without items is written as `"items": null`.
        let is_list = object.items.is_some() || object.kind.ends_with("List");
        found |= is_list || matches!(object.kind.as_str(), "Pod" | "Service" | "Node");
        if !is_list {
            list.items.extend(item(object, ""));
            continue;
        }
        // Members of a PodList have no `kind`; those of a List do.
        let kind = object.kind.strip_suffix("List").unwrap_or("").to_owned();
        let members = object.items.unwrap_or_default();
        list.items
            .extend(members.into_iter().filter_map(|member| item(member, &kind)));
        list.resource_version = object.metadata.resource_version;
        list.next = object.metadata.next;
    }
    if found {
        Ok(list)
    } else {
        Err("there is no list of pods in it (expected what \"kubectl get pods -A -o json\" prints)".into())
    }
}

/// Reads one line of a watch. `kind` is what is watched.
pub fn event(line: &[u8], kind: &str) -> Result<Event, String> {
    let line: WatchLine = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let version = line.object.metadata.resource_version.clone();
    Ok(match line.kind.as_str() {
        "ADDED" | "MODIFIED" => item(line.object, kind).map_or(Event::Other, |item| Event::Applied(item, version)),
        "DELETED" => item(line.object, kind).map_or(Event::Other, |item| Event::Deleted(item, version)),
        "BOOKMARK" => Event::Bookmark(version),
        "ERROR" => Event::Error {
            code: line.object.code.unwrap_or(500),
            message: line.object.message.unwrap_or_default(),
        },
        _ => Event::Other,
    })
}

/// The message of a Status object, if this is one.
pub fn status_message(json: &[u8]) -> Option<String> {
    let object: Object = serde_json::from_slice(json).ok()?;
    object.message.filter(|_| object.kind == "Status")
}

fn item(object: Object, kind: &str) -> Option<Item> {
    let kind = if object.kind.is_empty() { kind } else { &object.kind };
    match kind {
        "Pod" => Some(Item::Pod(pod(object))),
        "Service" => Some(Item::Service(service(object))),
        "Node" => Some(Item::Node(Node {
            ips: addresses(object.status.addresses.iter().map(|address| &address.address)),
            name: object.metadata.name,
        })),
        _ => None,
    }
}

/// Valid addresses, each once. Others (`None` of headless Services, host names) are passed over.
fn addresses<'a>(texts: impl Iterator<Item = &'a String>) -> Vec<IpAddr> {
    let mut ips = Vec::new();
    for ip in texts.filter_map(|text| text.parse().ok()) {
        if !ips.contains(&ip) {
            ips.push(ip);
        }
    }
    ips
}

fn pod(object: Object) -> Pod {
    let Object {
        metadata, spec, status, ..
    } = object;
    let mut containers = Vec::new();
    let statuses = [
        &status.container_statuses,
        &status.init_container_statuses,
        &status.ephemeral_container_statuses,
    ];
    for container in statuses.into_iter().flatten() {
        let ids = [
            &container.container_id,
            &container.state.terminated.container_id,
            &container.last_state.terminated.container_id,
        ];
        for id in ids.into_iter().filter(|id| !id.is_empty()) {
            let (runtime, id) = id.split_once("://").unwrap_or(("", id));
            let container = Container {
                id: id.to_owned(),
                runtime: runtime.to_owned(),
                name: container.name.clone(),
            };
            if !containers.contains(&container) {
                containers.push(container);
            }
        }
    }
    Pod {
        owner: owner(&metadata),
        config_hash: metadata
            .annotations
            .get("kubernetes.io/config.hash")
            .cloned()
            .unwrap_or_default(),
        uid: metadata.uid,
        namespace: metadata.namespace,
        name: metadata.name,
        node: spec.node_name,
        host_network: spec.host_network,
        ended: matches!(status.phase.as_str(), "Succeeded" | "Failed"),
        ips: addresses(std::iter::once(&status.pod_ip).chain(status.pod_ips.iter().map(|ip| &ip.ip))),
        host_ips: addresses(std::iter::once(&status.host_ip).chain(status.host_ips.iter().map(|ip| &ip.ip))),
        labels: metadata.labels,
        containers,
    }
}

fn service(object: Object) -> Service {
    let Object {
        metadata, spec, status, ..
    } = object;
    let ips = std::iter::once(&spec.cluster_ip)
        .chain(&spec.cluster_ips)
        .chain(&spec.external_ips)
        .chain(status.load_balancer.ingress.iter().map(|ingress| &ingress.ip));
    Service {
        ips: addresses(ips),
        uid: metadata.uid,
        namespace: metadata.namespace,
        name: metadata.name,
        selector: serde_json::from_value(spec.selector).unwrap_or_default(),
    }
}

/// The Deployment controller names its ReplicaSets `<deployment>-<hash>` and puts the hash into a label of each pod, so
/// the Deployment is known without asking for the ReplicaSet. Mirror pods of static pods are "owned" by their node, which
/// says nothing.
fn owner(metadata: &Metadata) -> String {
    let references = &metadata.owner_references;
    let Some(owner) = references
        .iter()
        .find(|owner| owner.controller)
        .or_else(|| references.first())
    else {
        return String::new();
    };
    match owner.kind.as_str() {
        "Node" => String::new(),
        "ReplicaSet" => {
            let deployment = metadata
                .labels
                .get("pod-template-hash")
                .and_then(|hash| owner.name.strip_suffix(hash.as_str())?.strip_suffix('-'));
            match deployment {
                Some(name) => format!("Deployment/{name}"),
                None => format!("ReplicaSet/{}", owner.name),
            }
        }
        kind => format!("{kind}/{}", owner.name),
    }
}
