//! Every exchange has its container and pod, whatever the runtime calls their cgroups, and however short they live.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::node::{Form, Node, Place, V1, named, requests, text};
use crate::support::left_out;

#[test]
fn every_exchange_has_its_pod() {
    let Some(node) = Node::new("every-pod") else { return };
    let mut forms = vec![
        Form::Cgroupfs,
        Form::SystemdContainerd,
        Form::SystemdCrio,
        Form::Colons,
        Form::Kind,
        Form::Static,
        Form::Docker,
        Form::Podman,
        Form::Lxc,
        Form::Unit,
    ];
    match Path::new(V1).join("cgroup.procs").exists() {
        true => forms.push(Form::DockerV1),
        false => left_out("containers of v1 hosts", "this host has no v1 hierarchies"),
    }
    let mut expected: BTreeMap<String, usize> = BTreeMap::new();
    let mut expect = |place: &Place, count: usize| {
        let words = match (place.is_pod(), place.form) {
            (true, _) => format!("{} {} {} ", place.namespace, place.pod, place.container),
            (_, Form::Unit) => format!("   {}", place.container),
            _ => format!("  {} ", place.container),
        };
        *expected.entry(words).or_default() += count;
    };
    let place = |form: Form, when: &str| {
        let container = if form == Form::Unit {
            format!("{when}-shop.service")
        } else {
            format!("{when}-app-{form:?}").to_lowercase()
        };
        Place::new(form, "shop", &format!("{when}-{form:?}-0").to_lowercase(), &container)
    };
    let before: Vec<Place> = forms.iter().map(|form| place(*form, "before")).collect();
    before.iter().for_each(|place| node.make(place));
    let recorder = node.record(&["--cgroup", &node.own()]);
    let run = |place: &Place, count: u64| {
        let mut words = requests(count);
        if place.form == Form::DockerV1 {
            // The kernel's events have no v1 cgroups: the process must live until /proc is read.
            words.extend(["--delay-us".to_owned(), "50000".to_owned()]);
        }
        node.traffic(place, &words.iter().map(String::as_str).collect::<Vec<_>>());
    };
    for (place, count) in before.iter().zip(3u64..) {
        run(place, count);
        expect(place, count as usize);
    }
    // Pods that appear while recording.
    for (form, count) in forms.into_iter().zip(2u64..) {
        let place = place(form, "after");
        node.make(&place);
        run(&place, count);
        expect(&place, count as usize);
    }
    // Pods that are gone 200 ms after they came, names and all.
    for number in 0..5 {
        let begun = Instant::now();
        let place = Place::new(Form::SystemdContainerd, "batch", &format!("job-{number}"), "work");
        node.make(&place);
        run(&place, 1);
        std::thread::sleep(Duration::from_millis(200).saturating_sub(begun.elapsed()));
        node.remove(&place);
        expect(&place, 1);
    }
    // One name, one pod after the other.
    for count in [4, 5] {
        let begun = Instant::now();
        let place = Place::new(Form::Cgroupfs, "shop", "cart-0", "app");
        node.make(&place);
        run(&place, count);
        std::thread::sleep(Duration::from_millis(200).saturating_sub(begun.elapsed()));
        node.remove(&place);
        expect(&place, count as usize);
    }
    let (messages, _) = recorder.stop();
    assert_eq!(named(&node.rows("http", &[])), expected, "{messages}");
    let cart = node.rows("http", &["--where", "server_pod = 'cart-0'"]);
    let ids: BTreeSet<&str> = cart.iter().map(|row| text(row, "server_container_id")).collect();
    assert_eq!(ids.len(), 2, "two pods of one name: {ids:?}");
    let grouped = node.rows("http", &["--group-by", "pod"]);
    let of_cart = grouped
        .iter()
        .find(|row| text(row, "server_pod") == "cart-0")
        .expect("a group");
    assert_eq!(of_cart["count"], 9);
}

#[test]
fn a_pod_list_names_a_capture_afterwards() {
    let Some(node) = Node::new("afterwards") else { return };
    let place = Place::new(Form::SystemdContainerd, "shop", "cart-0", "app");
    node.make(&place);
    let recorder = node.record(&["--cgroup", &node.own(), "--no-names"]);
    node.traffic(&place, &["http", "-n", "3", "-c", "1"]);
    // The pod is gone before anybody asks.
    node.remove(&place);
    recorder.stop();
    let short = &place.id[..12];
    assert!(
        node.rows("http", &[])
            .iter()
            .all(|row| text(row, "server_container") == short && text(row, "server_pod").is_empty())
    );
    let pods = node.dir.path().join("pods.json");
    let item = serde_json::json!({"metadata": {"name": "cart-0", "namespace": "shop", "uid": place.uid},
        "status": {"containerStatuses": [{"name": "app", "containerID": format!("containerd://{}", place.id)}]}});
    fs::write(
        &pods,
        serde_json::json!({"kind": "PodList", "items": [item]}).to_string(),
    )
    .expect("write");
    let rows = node.rows("http", &["--pods", &pods.display().to_string()]);
    assert_eq!(named(&rows), BTreeMap::from([("shop cart-0 app ".to_owned(), 3)]));
}
