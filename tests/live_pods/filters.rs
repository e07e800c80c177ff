//! `--container`, `--pod`, `--namespace`, `--label`: what is chosen is recorded, also when it comes later and goes again;
//! nothing else is.

use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::node::{Form, Node, Place, Recorder, text};
use crate::support::{all_installed, run};

/// One request of a place. Its path names the place.
fn ask(node: &Node, from: &Place, server: SocketAddr, path: &str) {
    let url = format!("http://{server}/{path}");
    run(node.command(from, "curl").args(["-s", "-o", "/dev/null", &url])).expect_code(&[0]);
}

/// Nothing shows when the kernel begins to record a cgroup: sends requests until one is recorded.
fn await_recording(node: &Node, recorder: &Recorder, from: &Place, server: SocketAddr) {
    let path = format!("knock/{}", from.pod);
    let end = Instant::now() + Duration::from_secs(60);
    while recorder.lines_with(&path) == 0 {
        assert!(Instant::now() < end, "{} is not recorded", from.pod);
        ask(node, from, server, &path);
    }
}

/// Records with these options, among pods where the shop's cart is meant and the bank's ledger is not.
fn check(name: &str, options: impl FnOnce(&Place) -> Vec<String>) {
    if !all_installed(name, &["curl"]) {
        return;
    }
    let Some(node) = Node::new(name) else { return };
    let cart = |number: u32, form: Form| Place::new(form, "shop", &format!("cart-{number}"), "cart-app");
    let (server, later, last) = (
        cart(0, Form::SystemdContainerd),
        cart(1, Form::Cgroupfs),
        cart(2, Form::SystemdCrio),
    );
    let other = Place::new(Form::SystemdContainerd, "bank", "ledger-0", "ledger-app");
    let item = |place: &Place, app: &str| {
        json!({"metadata": {"name": place.pod, "namespace": place.namespace, "uid": place.uid, "labels": {"app": app}},
            "status": {"containerStatuses": [{"name": place.container, "containerID": format!("x://{}", place.id)}]}})
    };
    let items = [
        item(&server, "cart"),
        item(&later, "cart"),
        item(&last, "cart"),
        item(&other, "ledger"),
    ];
    let list = node.dir.path().join("pods.json");
    fs::write(&list, json!({"kind": "PodList", "items": items}).to_string()).expect("write");
    node.make(&server);
    node.make(&other);
    let (address, _server) = node.serve(&server, "serve-http");

    let mut words = vec!["--print".to_owned(), "--pods".to_owned(), list.display().to_string()];
    words.extend(options(&server));
    // A prefix of one container's id means no other container.
    let only_first = words.iter().any(|word| server.id.starts_with(word.as_str()));
    let recorder = node.record(&words.iter().map(String::as_str).collect::<Vec<_>>());
    // The server was there before, and its end of anybody's connection is recorded.
    await_recording(&node, &recorder, &other, address);
    ask(&node, &other, address, "counted");
    for place in [&later, &last] {
        node.make(place);
        if !only_first {
            // At the client's end, too: the server's end alone does not name the client.
            let is_recorded = || recorder.lines_with(&format!("Pod: shop/{} curl", place.pod)) > 0;
            let end = Instant::now() + Duration::from_secs(60);
            while !is_recorded() {
                assert!(Instant::now() < end, "{} is not recorded", place.pod);
                ask(&node, place, address, "knock");
            }
        }
        ask(&node, place, address, "counted");
        node.remove(place);
    }
    node.traffic(&other, &["http", "-n", "5", "-c", "1"]);
    let (messages, _) = recorder.stop();

    let rows = node.rows("http", &[]);
    let counted: Vec<[&str; 3]> = rows
        .iter()
        .filter(|row| text(row, "path") == "/counted")
        .map(|row| ["client_pod", "server_pod", "side"].map(|column| text(row, column)))
        .collect();
    let expected = match only_first {
        true => vec![["", "cart-0", "server"]; 3],
        false => vec![
            ["", "cart-0", "server"],
            ["cart-1", "cart-0", "both"],
            ["cart-2", "cart-0", "both"],
        ],
    };
    assert_eq!(counted, expected, "{messages}\n{rows:#?}");
    let others: Vec<&Value> = rows.iter().filter(|row| text(row, "server_pod") != "cart-0").collect();
    assert!(others.is_empty(), "{others:#?}");
    let processes = node.rows("processes", &[]);
    assert!(
        processes.iter().all(|row| text(row, "namespace") == "shop"),
        "{processes:#?}"
    );
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

#[test]
fn pods_are_chosen_by_name() {
    check("chosen-pod", |_| words(&["--pod", "shop/cart-*"]));
}

#[test]
fn namespaces_are_chosen() {
    check("chosen-namespace", |_| words(&["--namespace", "shop"]));
}

#[test]
fn pods_are_chosen_by_label() {
    check("chosen-label", |_| words(&["--label", "app=cart"]));
}

#[test]
fn containers_are_chosen_by_name() {
    check("chosen-container", |_| words(&["--container", "cart-app"]));
}

#[test]
fn a_container_is_chosen_by_the_beginning_of_its_id() {
    check("chosen-id", |server| words(&["--container", &server.id[..10]]));
}
