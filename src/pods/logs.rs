//! The names that the kubelet gives to log files: they name pods and containers without an API server.
//!
//! None of the parts can contain an underscore (RFC 1123 names), which is why the kubelet separates them by it.

/// A folder `/var/log/pods/<namespace>_<pod>_<uid>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodFolder<'a> {
    pub namespace: &'a str,
    pub pod: &'a str,
    pub uid: &'a str,
}

/// A link `/var/log/containers/<pod>_<namespace>_<container>-<id>.log`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerLog<'a> {
    pub pod: &'a str,
    pub namespace: &'a str,
    pub container: &'a str,
    pub id: &'a str,
}

/// Reads the name of a folder of `/var/log/pods`.
pub fn pod_folder(name: &str) -> Option<PodFolder<'_>> {
    let mut parts = name.split('_');
    let (namespace, pod, uid) = (parts.next()?, parts.next()?, parts.next()?);
    let whole = parts.next().is_none() && !namespace.is_empty() && !pod.is_empty() && !uid.is_empty();
    whole.then_some(PodFolder { namespace, pod, uid })
}

/// Reads the name of a link of `/var/log/containers`.
pub fn container_log(name: &str) -> Option<ContainerLog<'_>> {
    let (rest, id) = name.strip_suffix(".log")?.rsplit_once('-')?;
    let mut parts = rest.split('_');
    let (pod, namespace, container) = (parts.next()?, parts.next()?, parts.next()?);
    let whole = parts.next().is_none() && !pod.is_empty() && !namespace.is_empty() && !container.is_empty();
    let is_id = id.len() >= 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    (whole && is_id).then_some(ContainerLog {
        pod,
        namespace,
        container,
        id,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_pods() {
        let expected = PodFolder {
            namespace: "shop",
            pod: "cart-7d4f9c-x2x2x",
            uid: "2f7a1c9e-1111-2222-3333-444455556666",
        };
        assert_eq!(
            pod_folder("shop_cart-7d4f9c-x2x2x_2f7a1c9e-1111-2222-3333-444455556666"),
            Some(expected)
        );
        let of_static_pod = pod_folder("kube-system_etcd-node1_0123456789abcdef0123456789abcdef");
        assert_eq!(
            of_static_pod.map(|found| found.uid),
            Some("0123456789abcdef0123456789abcdef")
        );
        for odd in ["", "_", "a_b", "a_b_", "a_b_c_d", "shop"] {
            assert_eq!(pod_folder(odd), None, "{odd}");
        }
    }

    #[test]
    fn links_of_containers() {
        let id = "3a4f9c0d1e2b3a4f9c0d1e2b3a4f9c0d1e2b3a4f9c0d1e2b3a4f9c0d1e2b3a4f";
        let name = format!("coredns-5d78c9869d-abcde_kube-system_core-dns-{id}.log");
        let expected = ContainerLog {
            pod: "coredns-5d78c9869d-abcde",
            namespace: "kube-system",
            container: "core-dns",
            id,
        };
        assert_eq!(container_log(&name), Some(expected));
        for odd in [
            "",
            ".log",
            "a_b_c.log",
            "a_b_c-.log",
            "a_b-0123456789ab.log",
            "a_b_c-xyz.log",
        ] {
            assert_eq!(container_log(odd), None, "{odd}");
        }
    }
}
