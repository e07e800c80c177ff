use super::*;
use crate::pods::kube;
use crate::pods::logs;

const ID: &str = "3a4f9c0d1e2b3a4f9c0d1e2b3a4f9c0d1e2b3a4f9c0d1e2b3a4f9c0d1e2b3a4f";
const SIDECAR: &str = "5b4f9c0d1e2b3a4f9c0d1e2b3a4f9c0d1e2b3a4f9c0d1e2b3a4f9c0d1e2b3a4f";
const SANDBOX: &str = "9c4f9c0d1e2b3a4f9c0d1e2b3a4f9c0d1e2b3a4f9c0d1e2b3a4f9c0d1e2b3a4f";
const UID: &str = "2f7a1c9e-1111-2222-3333-444455556666";
const POD_LIST: &str = include_str!("pod_list.json");

fn from_api() -> PodSet {
    let mut set = PodSet::default();
    set.learn_list(0, kube::list(POD_LIST.as_bytes()).unwrap().items);
    set
}

fn path(id: &str) -> String {
    let slice =
        "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod2f7a1c9e_1111_2222_3333_444455556666.slice";
    format!("{slice}/cri-containerd-{id}.scope")
}

#[test]
fn the_api_tells_everything() {
    let named = from_api().resolve(&path(ID)).unwrap();
    assert_eq!(named.runtime, "containerd");
    assert_eq!(
        (named.namespace.as_str(), named.pod.as_str(), named.container.as_str()),
        ("shop", "frontend-7d4f9c6b5-x2x2x", "nginx")
    );
    assert_eq!(named.workload, "Deployment/frontend", "not its ReplicaSet");
    assert_eq!(
        named.labels_text(),
        "app.kubernetes.io/name=frontend,pod-template-hash=7d4f9c6b5,tier=web"
    );
    assert_eq!(named.pod_uid, UID);
    assert!(!named.is_partial());
}

#[test]
fn an_earlier_run_of_a_container_and_an_init_container_are_known_too() {
    let set = from_api();
    assert_eq!(set.resolve(&path(SIDECAR)).unwrap().container, "log-shipper");
    let earlier = "1111111111111111111111111111111111111111111111111111111111111111";
    assert_eq!(
        set.resolve(&path(earlier)).unwrap().container,
        "nginx",
        "before its restart"
    );
    let init = "2222222222222222222222222222222222222222222222222222222222222222";
    assert_eq!(set.resolve(&path(init)).unwrap().container, "wait-for-cart");
}

#[test]
fn the_sandbox_is_in_the_pod_and_has_no_name() {
    let named = from_api().resolve(&path(SANDBOX)).unwrap();
    assert_eq!(
        (named.pod.as_str(), named.container.as_str()),
        ("frontend-7d4f9c6b5-x2x2x", "")
    );
    assert!(named.is_partial());
}

#[test]
fn a_static_pod_goes_by_the_hash_of_its_manifest() {
    let set = from_api();
    let named = set
        .resolve(&format!(
            "/kubepods/burstable/pod0123456789abcdef0123456789abcdef/{SANDBOX}"
        ))
        .unwrap();
    assert_eq!(
        (named.namespace.as_str(), named.pod.as_str()),
        ("kube-system", "etcd-node1")
    );
    assert_eq!(named.workload, "", "the node is no owner worth the name");
}

#[test]
fn log_names_tell_pods_and_containers_without_an_api_server() {
    let mut set = PodSet::default();
    let folder = format!("shop_frontend-7d4f9c6b5-x2x2x_{UID}");
    set.learn_folder(
        &logs::pod_folder(&folder).unwrap(),
        &["nginx".into(), "log-shipper".into()],
    );
    let named = set.resolve(&path(ID)).unwrap();
    assert_eq!(
        (named.pod.as_str(), named.container.as_str()),
        ("frontend-7d4f9c6b5-x2x2x", "")
    );
    let edition = set.edition();

    let link = format!("frontend-7d4f9c6b5-x2x2x_shop_nginx-{ID}.log");
    set.learn_container_log(&logs::container_log(&link).unwrap());
    assert!(set.edition() > edition);
    assert_eq!(set.resolve(&path(ID)).unwrap().container, "nginx");

    let edition = set.edition();
    set.learn_container_log(&logs::container_log(&link).unwrap());
    set.learn_folder(&logs::pod_folder(&folder).unwrap(), &["nginx".into()]);
    assert_eq!(set.edition(), edition, "nothing new");
}

#[test]
fn a_link_alone_names_the_pod() {
    let mut set = PodSet::default();
    let link = format!("cart-0_shop_app-{ID}.log");
    set.learn_container_log(&logs::container_log(&link).unwrap());
    let named = set.resolve(&path(ID)).unwrap();
    assert_eq!(
        (named.namespace.as_str(), named.pod.as_str(), named.container.as_str()),
        ("shop", "cart-0", "app")
    );
}

#[test]
fn the_only_container_of_a_pod_needs_no_link() {
    let mut set = PodSet::default();
    let folder = format!("shop_cart-0_{UID}");
    set.learn_folder(&logs::pod_folder(&folder).unwrap(), &["app".into()]);
    assert_eq!(set.resolve(&path(ID)).unwrap().container, "app");
}

#[test]
fn names_outlive_the_pod() {
    let mut set = from_api();
    set.learn_list(0, Vec::new());
    let named = set.resolve(&path(ID)).unwrap();
    assert_eq!(
        (named.pod.as_str(), named.container.as_str()),
        ("frontend-7d4f9c6b5-x2x2x", "nginx")
    );
}

#[test]
fn two_pods_of_one_name_are_told_apart_by_their_uids() {
    let mut set = PodSet::default();
    let uids = [
        "aaaaaaaa-1111-2222-3333-444455556666",
        "bbbbbbbb-1111-2222-3333-444455556666",
    ];
    for (uid, hash) in uids.iter().zip(["v1", "v2"]) {
        set.learn(Item::Pod(Pod {
            uid: uid.to_string(),
            namespace: "shop".into(),
            name: "cart-0".into(),
            ips: vec!["10.42.3.7".parse().unwrap()],
            labels: [("version".to_owned(), hash.to_owned())].into(),
            ..Pod::default()
        }));
    }
    for (uid, version) in uids.iter().zip(["v1", "v2"]) {
        let named = set.resolve(&format!("/kubepods/pod{uid}/{ID}")).unwrap();
        assert_eq!(named.labels_text(), format!("version={version}"));
        assert_eq!(named.pod, "cart-0");
    }
}

#[test]
fn an_address_is_the_living_pods() {
    let ip: IpAddr = "10.42.3.7".parse().unwrap();
    let pod = |uid: &str, name: &str, ended: bool| {
        Item::Pod(Pod {
            uid: uid.into(),
            namespace: "shop".into(),
            name: name.into(),
            ips: vec![ip],
            ended,
            ..Pod::default()
        })
    };
    let mut set = PodSet::default();
    set.learn(pod("2", "new", false));
    set.learn(pod("1", "old", true));
    assert_eq!(set.addresses()[&ip].name, "new", "an ended pod gives its address back");
    set.learn(pod("3", "newest", false));
    assert_eq!(set.addresses()[&ip].name, "newest");
    set.delete(&pod("3", "newest", false));
    assert_eq!(set.addresses()[&ip].name, "new");
}

#[test]
fn services_and_nodes_have_addresses_and_a_service_tells_who_is_behind_it() {
    let mut set = from_api();
    set.learn_list(1, kube::list(include_bytes!("service_list.json")).unwrap().items);
    let addresses = set.addresses();
    let of = |ip: &str| {
        let name = &addresses[&ip.parse::<IpAddr>().unwrap()];
        (
            name.kind,
            format!("{}/{}", name.namespace, name.name),
            name.workload.as_str(),
        )
    };
    assert_eq!(
        of("10.43.0.17"),
        (AddressKind::Service, "shop/frontend".into(), "Deployment/frontend")
    );
    assert_eq!(
        of("fd00:43::17"),
        (AddressKind::Service, "shop/frontend".into(), "Deployment/frontend")
    );
    assert_eq!(
        of("10.42.3.7"),
        (
            AddressKind::Pod,
            "shop/frontend-7d4f9c6b5-x2x2x".into(),
            "Deployment/frontend"
        )
    );
    assert_eq!(of("192.168.1.11"), (AddressKind::Node, "/node1".into(), ""));
    assert_eq!(of("10.43.0.1").1, "default/kubernetes");
    assert_eq!(
        addresses.len(),
        6,
        "a headless Service and a pod on the host network add none: {addresses:?}"
    );
}

#[test]
fn plain_containers_are_named_by_docker_and_podman() {
    let mut set = PodSet::default();
    set.learn_plain(Plain {
        user: None,
        id: ID.into(),
        name: "shop-db-1".into(),
        labels: Labels::new(),
    });
    let named = set.resolve(&format!("/system.slice/docker-{ID}.scope")).unwrap();
    assert_eq!(
        (named.runtime.as_str(), named.container.as_str()),
        ("docker", "shop-db-1")
    );
    assert!(!named.is_partial());
    assert_eq!(set.resolve("/lxc.payload.web1/init.scope").unwrap().container, "web1");
    assert_eq!(
        set.resolve("/system.slice/nginx.service").unwrap().workload,
        "nginx.service"
    );
    assert_eq!(set.resolve("/"), None);
}

#[test]
fn lists_in_all_their_forms() {
    let pod = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","namespace":"n","uid":"u"},"status":{"phase":"Running"}}"#;
    let bare = r#"{"metadata":{"name":"a","namespace":"n","uid":"u"}}"#;
    let deployment = r#"{"kind":"Deployment","metadata":{"name":"d"},"spec":{"selector":{"matchLabels":{"a":"b"}}}}"#;
    let forms = [
        pod.to_owned(),
        format!(r#"{{"kind":"List","apiVersion":"v1","items":[{deployment},{pod}]}}"#),
        format!(r#"{{"kind":"PodList","metadata":{{"resourceVersion":"7"}},"items":[{bare}]}}"#),
        format!("{pod}\n"),
        format!(r#"{{"kind":"PodList","items":null}}{{"kind":"PodList","items":[{bare}]}}"#),
    ];
    for form in &forms {
        let list = kube::list(form.as_bytes()).unwrap();
        assert!(
            matches!(list.items.as_slice(), [Item::Pod(pod)] if pod.name == "a" && pod.uid == "u"),
            "{form}"
        );
    }
    assert!(
        kube::list(br#"{"kind":"PodList","items":null}"#)
            .unwrap()
            .items
            .is_empty(),
        "no pods at all"
    );
    assert!(
        kube::list(deployment.as_bytes())
            .unwrap_err()
            .contains("kubectl get pods")
    );
    let refused =
        br#"{"kind":"Status","status":"Failure","message":"pods is forbidden","reason":"Forbidden","code":403}"#;
    assert_eq!(kube::list(refused).unwrap_err(), "pods is forbidden");
    assert!(kube::list(b"").is_err());
    for cut in (0..POD_LIST.trim_end().len()).step_by(97) {
        assert!(kube::list(&POD_LIST.as_bytes()[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn events_of_a_watch() {
    let pod = r#"{"kind":"Pod","metadata":{"name":"a","namespace":"n","uid":"u","resourceVersion":"9"}}"#;
    let event = |line: &str| kube::event(line.as_bytes(), "Pod").unwrap();
    assert!(matches!(event(&format!(r#"{{"type":"ADDED","object":{pod}}}"#)), kube::Event::Applied(_, v) if v == "9"));
    assert!(matches!(
        event(&format!(r#"{{"type":"DELETED","object":{pod}}}"#)),
        kube::Event::Deleted(_, _)
    ));
    assert_eq!(
        event(
            r#"{"type":"BOOKMARK","object":{"kind":"Pod","apiVersion":"v1","metadata":{"resourceVersion":"12746","creationTimestamp":null},"spec":{"containers":null},"status":{}}}"#
        ),
        kube::Event::Bookmark("12746".into())
    );
    let gone = r#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"too old resource version: 1 (9)","reason":"Expired","code":410}}"#;
    assert!(matches!(event(gone), kube::Event::Error { code: 410, .. }));
    assert_eq!(event(r#"{"type":"LATER","object":{}}"#), kube::Event::Other);
    assert!(kube::event(b"<html>", "Pod").is_err());
}

#[test]
fn what_one_user_names_pushes_out_what_nobody_else_does() {
    let mut set = PodSet::default();
    let named = |user: Option<u32>, number: usize| Plain {
        id: format!("{number:064x}"),
        name: "web".into(),
        user,
        labels: BTreeMap::new(),
    };
    let who = |set: &PodSet, user: u32, number: usize| {
        let path = format!("/user.slice/user-{user}.slice/libpod-{number:064x}.scope");
        set.resolve(&path).unwrap().container
    };
    set.learn_plain(named(Some(1), 0));
    for user in 2..12 {
        (0..PLAIN_MAX + 10).for_each(|number| set.learn_plain(named(Some(user), number)));
    }
    assert_eq!(who(&set, 1, 0), "web", "he has named one");
    assert_eq!(who(&set, 2, 9), "", "the oldest of too many");
    for user in 2..12 {
        assert_eq!(who(&set, user, PLAIN_MAX + 9), "web", "the newest of {user}");
    }
    assert!(set.plain.values().map(|of_user| of_user.by_id.len()).sum::<usize>() <= ALL_PLAIN_MAX);
}
