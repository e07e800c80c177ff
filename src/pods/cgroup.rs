//! Which container and pod a cgroup belongs to, by its path.
//!
//! Pure text work: nobody else knows that a container made by containerd through systemd lives in
//! `kubepods-burstable-pod<uid>.slice/cri-containerd-<id>.scope`.

/// Who made the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Runtime {
    Containerd,
    Crio,
    Docker,
    Podman,
    Lxc,
    /// No container: a unit of systemd.
    Systemd,
    /// A pod's container whose path does not name its runtime (cgroupfs driver).
    Unnamed,
}

impl Runtime {
    /// The word in `runtime` columns; empty when the path does not name one.
    pub fn name(self) -> &'static str {
        match self {
            Runtime::Containerd => "containerd",
            Runtime::Crio => "cri-o",
            Runtime::Docker => "docker",
            Runtime::Podman => "podman",
            Runtime::Lxc => "lxc",
            Runtime::Systemd => "systemd",
            Runtime::Unnamed => "",
        }
    }
}

/// Where in the world of containers a cgroup is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub runtime: Runtime,
    /// The full id; the name for LXC; empty when the cgroup is a pod's own, or a unit's.
    pub container_id: String,
    /// With dashes, except for static pods (32 hexadecimal digits); empty outside Kubernetes.
    pub pod_uid: String,
    /// The systemd unit, when there is no container.
    pub unit: String,
}

/// Prefixes of scope names and of cgroupfs folders, by runtime.
const PREFIXES: [(&str, Runtime); 5] = [
    ("cri-containerd-", Runtime::Containerd),
    ("crio-", Runtime::Crio),
    ("docker-", Runtime::Docker),
    ("libpod-", Runtime::Podman),
    ("nerdctl-", Runtime::Containerd),
];

/// Helpers of runtimes that live beside the containers that they watch.
const MONITORS: [&str; 3] = ["crio-conmon-", "libpod-conmon-", "conmon-"];

/// Ids are 64 digits; some tools show 12.
const SHORTEST_ID: usize = 12;

/// Reads the path of a cgroup. Cgroups below a container's belong to the container; of nested containers (kind) the
/// innermost counts. `None` for cgroups of neither container, pod nor unit, and for a runtime's own helpers.
pub fn place(path: &str) -> Option<Place> {
    let mut pod_uid = String::new();
    let mut container: Option<(Runtime, &str)> = None;
    let mut unit = "";
    let mut parent = "";
    for component in path
        .split('/')
        .filter(|component| !component.is_empty() && *component != "..")
    {
        if MONITORS.iter().any(|monitor| component.starts_with(monitor)) {
            return None;
        }
        if let Some(uid) = pod_of(component) {
            pod_uid = uid;
            // What is outside the pod (kind's node container) is not what runs in it.
            container = None;
        }
        if let Some(found) = container_of(component, parent, !pod_uid.is_empty()) {
            container = Some(found);
        }
        if component.ends_with(".service") {
            unit = component;
        }
        parent = component;
    }
    let (runtime, container_id) = match container {
        Some((runtime, id)) => (runtime, id.to_owned()),
        None if !pod_uid.is_empty() => (Runtime::Unnamed, String::new()),
        None if !unit.is_empty() => (Runtime::Systemd, String::new()),
        None => return None,
    };
    let unit = if runtime == Runtime::Systemd {
        unit.to_owned()
    } else {
        String::new()
    };
    Some(Place {
        runtime,
        container_id,
        pod_uid,
        unit,
    })
}

/// The user, other than root, to whom systemd has given a cgroup: everything below his slice.
pub fn user(path: &str) -> Option<u32> {
    let user = |component: &str| component.strip_prefix("user-")?.strip_suffix(".slice")?.parse().ok();
    path.split('/').find_map(user).filter(|user| *user != 0)
}

/// The uid in `pod<uid>`, `kubepods-burstable-pod<uid>.slice`, `kubepods-pod<uid>.slice:cri-containerd:<id>`.
fn pod_of(component: &str) -> Option<String> {
    let slice = component.split(':').next().unwrap_or(component);
    let name = slice.strip_suffix(".slice").unwrap_or(slice);
    let uid = match name.strip_prefix("pod") {
        Some(uid) => uid,
        None if name.contains("kubepods") => name.rsplit_once("-pod")?.1,
        None => return None,
    };
    let uid = uid.replace('_', "-");
    let digits = uid.bytes().filter(|byte| *byte != b'-').count();
    let plain = uid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    (plain && digits == 32).then_some(uid)
}

fn container_of<'a>(component: &'a str, parent: &str, in_pod: bool) -> Option<(Runtime, &'a str)> {
    if let Some((_, rest)) = component.split_once(".slice:") {
        let (prefix, id) = rest.split_once(':')?;
        let runtime = PREFIXES.iter().find(|(known, _)| known.trim_end_matches('-') == prefix);
        return is_id(id).then_some((runtime.map_or(Runtime::Unnamed, |(_, runtime)| *runtime), id));
    }
    if let Some(name) = component.strip_prefix("lxc.payload.") {
        return Some((Runtime::Lxc, name));
    }
    if parent == "lxc" {
        return Some((Runtime::Lxc, component));
    }
    let name = component.strip_suffix(".scope").unwrap_or(component);
    for (prefix, runtime) in PREFIXES {
        if let Some(id) = name.strip_prefix(prefix)
            && is_id(id)
        {
            return Some((runtime, id));
        }
    }
    let is_whole_id = component.len() == 64 && is_id(component);
    match parent {
        "docker" if is_whole_id => Some((Runtime::Docker, component)),
        _ if is_whole_id && in_pod => Some((Runtime::Unnamed, component)),
        _ => None,
    }
}

fn is_id(text: &str) -> bool {
    text.len() >= SHORTEST_ID && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3a4f9c0d1e2b3a4f9c0d1e2b3a4f9c0d1e2b3a4f9c0d1e2b3a4f9c0d1e2b3a4f";
    const NODE: &str = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";
    const UID: &str = "2f7a1c9e-1111-2222-3333-444455556666";
    const UID_SLICE: &str = "2f7a1c9e_1111_2222_3333_444455556666";

    fn check(path: &str, runtime: Runtime, id: &str, uid: &str) {
        let path = path
            .replace("<cid>", ID)
            .replace("<uid>", UID)
            .replace("<uid_>", UID_SLICE);
        let expected = Place {
            runtime,
            container_id: id.into(),
            pod_uid: uid.into(),
            unit: String::new(),
        };
        assert_eq!(place(&path), Some(expected), "{path}");
    }

    #[test]
    fn pods_of_the_cgroupfs_driver() {
        for class in ["", "/burstable", "/besteffort"] {
            check(&format!("/kubepods{class}/pod<uid>/<cid>"), Runtime::Unnamed, ID, UID);
            check(&format!("/kubepods{class}/pod<uid>/crio-<cid>"), Runtime::Crio, ID, UID);
            check(&format!("/kubepods{class}/pod<uid>"), Runtime::Unnamed, "", UID);
        }
    }

    #[test]
    fn pods_of_the_systemd_driver() {
        for class in ["", "-burstable", "-besteffort"] {
            let slice = format!("/kubepods.slice/kubepods{class}.slice/kubepods{class}-pod<uid_>.slice");
            check(
                &format!("{slice}/cri-containerd-<cid>.scope"),
                Runtime::Containerd,
                ID,
                UID,
            );
            check(&format!("{slice}/crio-<cid>.scope"), Runtime::Crio, ID, UID);
            check(&format!("{slice}/docker-<cid>.scope"), Runtime::Docker, ID, UID);
        }
    }

    #[test]
    fn pods_of_containerd_with_a_systemd_path_under_the_cgroupfs_driver() {
        let path = "/system.slice/containerd.service/kubepods-burstable-pod<uid_>.slice:cri-containerd:<cid>";
        check(path, Runtime::Containerd, ID, UID);
    }

    #[test]
    fn nested_in_the_node_container_of_kind() {
        let path = format!(
            "/docker/{NODE}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/\
             kubelet-kubepods-besteffort-pod<uid_>.slice/cri-containerd-<cid>.scope"
        );
        check(&path, Runtime::Containerd, ID, UID);
        check(
            &format!("/docker/{NODE}/kubelet.slice/kubelet.service"),
            Runtime::Docker,
            NODE,
            "",
        );
    }

    #[test]
    fn private_cgroup_namespaces() {
        check("/../../pod<uid>/<cid>", Runtime::Unnamed, ID, UID);
    }

    #[test]
    fn plain_containers() {
        check("/docker/<cid>", Runtime::Docker, ID, "");
        check("/system.slice/docker-<cid>.scope", Runtime::Docker, ID, "");
        check("/machine.slice/libpod-<cid>.scope", Runtime::Podman, ID, "");
        check("/machine.slice/libpod-<cid>.scope/container", Runtime::Podman, ID, "");
        check(
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-<cid>.scope",
            Runtime::Podman,
            ID,
            "",
        );
        check("/lxc.payload.web1/system.slice/nginx.service", Runtime::Lxc, "web1", "");
        check("/lxc/web1", Runtime::Lxc, "web1", "");
    }

    #[test]
    fn users_have_slices() {
        assert_eq!(
            user("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-1.scope"),
            Some(1000)
        );
        assert_eq!(user("/machine.slice/libpod-1.scope"), None);
        assert_eq!(user("/user.slice/user-0.slice/session-1.scope"), None, "root's");
        assert_eq!(user("/user.slice/user-x.slice"), None);
    }

    #[test]
    fn static_pods_have_a_uid_without_dashes() {
        let uid = "0123456789abcdef0123456789abcdef";
        check(
            &format!("/kubepods/burstable/pod{uid}/<cid>"),
            Runtime::Unnamed,
            ID,
            uid,
        );
        let slice = format!("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{uid}.slice");
        check(
            &format!("{slice}/cri-containerd-<cid>.scope"),
            Runtime::Containerd,
            ID,
            uid,
        );
    }

    #[test]
    fn cgroups_below_a_container_belong_to_it() {
        check("/kubepods/pod<uid>/<cid>/init.scope", Runtime::Unnamed, ID, UID);
        check(
            "/kubepods/pod<uid>/<cid>/system.slice/ssh.service",
            Runtime::Unnamed,
            ID,
            UID,
        );
        check("/system.slice/docker-<cid>.scope/init.scope", Runtime::Docker, ID, "");
    }

    #[test]
    fn helpers_of_runtimes_are_no_containers() {
        for monitor in ["crio-conmon-", "libpod-conmon-"] {
            assert_eq!(place(&format!("/machine.slice/{monitor}{ID}.scope")), None);
        }
    }

    #[test]
    fn units_are_the_workload_of_plain_services() {
        let found = place("/system.slice/nginx.service").map(|place| (place.runtime, place.unit));
        assert_eq!(found, Some((Runtime::Systemd, "nginx.service".to_owned())));
        for path in [
            "/",
            "",
            "/user.slice/user-0.slice/session-1.scope",
            "/init.scope",
            "/podium",
            "/kubepods",
        ] {
            assert_eq!(place(path), None, "{path}");
        }
    }
}
