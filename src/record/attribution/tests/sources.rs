//! Kubelet and API server, one at a time.

use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::super::client::{Client, Failure, Token};
use super::super::input::Input;
use super::super::kubeconfig;
use super::super::report::{Report, State};
use super::super::{api, kubelet};
use super::server::{Server, Step};
use super::{CA, OTHER_CA, list, pod, timing};
use crate::pods::kube::Item;

type Notices = Arc<Mutex<Vec<String>>>;

fn report() -> (Report, Notices) {
    let notices = Notices::default();
    let to = Arc::clone(&notices);
    (Report::new(move |text| to.lock().unwrap().push(text)), notices)
}

fn client(server: &Server) -> Client {
    let client = Client::new(&server.url(), CA, timing()).unwrap();
    client.with_token(Token::Text("secret-token".into()))
}

/// Watches the pods of node1.
fn watch(client: Client) -> (Receiver<Input>, Report, Notices) {
    let (report, notices) = report();
    let (to, inputs) = mpsc::channel();
    let thread = report.clone();
    std::thread::spawn(move || api::run(&client, &api::Target::pods(Some("node1")), &to, &thread));
    (inputs, report, notices)
}

/// What came, in short.
fn next(inputs: &Receiver<Input>) -> String {
    let name = |item: &Item| match item {
        Item::Pod(pod) => pod.name.clone(),
        other => format!("{other:?}"),
    };
    match inputs.recv_timeout(Duration::from_secs(60)).expect("an answer") {
        Input::List(_, items) => format!("list {}", items.iter().map(name).collect::<Vec<_>>().join(" ")),
        Input::Applied(item) => format!("applied {}", name(&item)),
        Input::Deleted(item) => format!("deleted {}", name(&item)),
        Input::Failed(_) => "failed".into(),
        other => format!("{other:?}"),
    }
}

fn event(kind: &str, object: &str) -> Step {
    Step::Line(format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n"))
}

fn state(report: &Report, source: &str) -> Option<(State, String)> {
    let statuses = report.statuses();
    let status = statuses.iter().find(|status| status.source == source)?;
    Some((status.state, status.what.clone()))
}

const PODS: &str = "API server (pods)";

#[test]
fn a_list_comes_in_pages_and_a_watch_goes_on_from_the_newest_version() {
    let server = Server::start(|number, _| match number {
        0 => vec![Step::Answer(200, list(&[pod("frontend", "u1", 90)], 100, "page two/="))],
        1 => vec![Step::Answer(200, list(&[pod("cart", "u2", 95)], 101, ""))],
        2 => vec![
            Step::Begin,
            event("ADDED", &pod("db", "u3", 120)),
            event("BOOKMARK", r#"{"kind":"Pod","metadata":{"resourceVersion":"150"}}"#),
            Step::End,
        ],
        3 => vec![Step::Begin, event("DELETED", &pod("db", "u3", 160)), Step::End],
        _ => vec![Step::Begin, Step::Hang],
    });
    let (inputs, report, notices) = watch(client(&server));
    assert_eq!(next(&inputs), "list frontend cart");
    assert_eq!(next(&inputs), "applied db");
    assert_eq!(next(&inputs), "deleted db");
    let asked = server.wait_for(5);
    let paths: Vec<&str> = asked.iter().map(|asked| asked.path.as_str()).collect();
    let pods = "/api/v1/pods?fieldSelector=spec.nodeName%3Dnode1&";
    let watch =
        |version: u32| format!("{pods}watch=1&allowWatchBookmarks=true&resourceVersion={version}&timeoutSeconds=1");
    let first = format!("{pods}limit=500");
    let second = format!("{pods}limit=500&continue=page%20two%2F%3D");
    assert_eq!(paths[..5], [first, second, watch(101), watch(150), watch(160)]);
    assert!(asked.iter().all(|asked| asked.authorization == "Bearer secret-token"));
    assert_eq!(state(&report, PODS).unwrap().0, State::Works);
    assert!(notices.lock().unwrap().is_empty(), "nothing to say: {notices:?}");
}

#[test]
fn gone_means_listing_anew() {
    let gone = r#"{"kind":"Status","metadata":{},"status":"Failure","message":"too old resource version","reason":"Expired","code":410}"#;
    let server = Server::start(move |number, _| match number {
        0 => vec![Step::Answer(200, list(&[pod("a", "u1", 1)], 1, ""))],
        1 => vec![Step::Begin, event("ERROR", gone), Step::End],
        2 => vec![Step::Answer(200, list(&[pod("b", "u2", 2)], 2, ""))],
        3 => vec![Step::Answer(410, gone.into())],
        // The rest of a paged list is gone: it is taken in one piece.
        4 => vec![Step::Answer(200, list(&[pod("c", "u3", 3)], 3, "more"))],
        5 => vec![Step::Answer(410, gone.into())],
        6 => vec![Step::Answer(200, list(&[pod("d", "u4", 4)], 4, ""))],
        _ => vec![Step::Begin, Step::Hang],
    });
    let (inputs, ..) = watch(client(&server));
    assert_eq!(
        [next(&inputs), next(&inputs), next(&inputs)],
        ["list a", "list b", "list d"]
    );
    let asked = server.wait_for(8);
    assert_eq!(
        asked[6].path, "/api/v1/pods?fieldSelector=spec.nodeName%3Dnode1",
        "no limit"
    );
    assert!(asked[7].path.contains("resourceVersion=4"));
}

#[test]
fn a_broken_watch_goes_on_where_it_was() {
    // A reset throws away what was not read yet.
    let (read, is_read) = mpsc::channel();
    let is_read = Arc::new(Mutex::new(is_read));
    let server = Server::start(move |number, _| match number {
        0 => vec![Step::Answer(200, list(&[], 1, ""))],
        1 => vec![
            Step::Begin,
            event("ADDED", &pod("a", "u1", 5)),
            Step::Line("{\"type\":\"ADDED\",\"obj".into()),
            Step::Until(Arc::clone(&is_read)),
            Step::Reset,
        ],
        2 => vec![Step::Reset],
        3 => vec![Step::Begin, event("MODIFIED", &pod("b", "u2", 6)), Step::Hang],
        _ => vec![Step::Begin, Step::Hang],
    });
    let (inputs, ..) = watch(client(&server));
    assert_eq!([next(&inputs), next(&inputs)], ["list ", "applied a"]);
    read.send(()).unwrap();
    assert_eq!(next(&inputs), "applied b");
    let asked = server.wait_for(4);
    assert!(asked[2].path.contains("resourceVersion=5") && asked[3].path.contains("resourceVersion=5"));
}

#[test]
fn a_slow_server_is_given_up_and_tried_again() {
    let server = Server::start(|number, _| match number {
        0 => vec![Step::Hang],
        1 => vec![Step::Answer(200, list(&[pod("a", "u1", 1)], 1, ""))],
        _ => vec![Step::Begin, Step::Hang],
    });
    let (inputs, _, notices) = watch(client(&server));
    assert_eq!([next(&inputs), next(&inputs)], ["failed", "list a"]);
    let notices = notices.lock().unwrap();
    assert!(
        notices[0].contains("no answer in time; containers are named by their cgroup paths"),
        "{notices:?}"
    );
    assert!(notices[1].contains("answers again"), "{notices:?}");
}

#[test]
fn a_refusal_is_told_once_with_the_servers_words() {
    let words = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"pods is forbidden: User \"system:serviceaccount:mdf:mdf\" cannot list resource \"pods\"","reason":"Forbidden","code":403}"#;
    let server = Server::start(move |_, _| vec![Step::Answer(403, words.into())]);
    let (inputs, report, notices) = watch(client(&server));
    assert_eq!(
        [next(&inputs), next(&inputs), next(&inputs)],
        ["failed", "failed", "failed"]
    );
    let (state, what) = state(&report, PODS).unwrap();
    assert_eq!(state, State::Fails);
    assert!(what.contains("403") && what.contains("cannot list resource"), "{what}");
    let notices = notices.lock().unwrap();
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert!(!notices[0].contains("secret-token"));
}

#[test]
fn an_expired_token_is_read_again_from_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "old-token\n").unwrap();
    let server = Server::start(|_, asked| match asked.authorization.as_str() {
        "Bearer new-token" if asked.path.contains("watch=1") => vec![Step::Begin, Step::Hang],
        "Bearer new-token" => vec![Step::Answer(200, list(&[pod("a", "u1", 1)], 1, ""))],
        _ => vec![Step::Answer(
            401,
            r#"{"kind":"Status","message":"Unauthorized","code":401}"#.into(),
        )],
    });
    let with_file = Client::new(&server.url(), CA, timing())
        .unwrap()
        .with_token(Token::File(file.clone()));
    let (inputs, report, _) = watch(with_file);
    assert_eq!(next(&inputs), "failed");
    assert!(state(&report, PODS).unwrap().1.contains("expired"));
    std::fs::write(&file, "new-token\n").unwrap();
    while next(&inputs) == "failed" {}
    assert_eq!(state(&report, PODS).unwrap().0, State::Works);
}

#[test]
fn a_server_that_cannot_be_verified_gets_no_token() {
    let server = Server::start(|_, _| vec![Step::Answer(200, list(&[], 1, ""))]);
    let other = Client::new(&server.url(), OTHER_CA, timing())
        .unwrap()
        .with_token(Token::Text("secret-token".into()));
    let failure = other.get("/pods").unwrap_err();
    assert!(
        matches!(&failure, Failure::Other(why) if why.contains("certificate")),
        "{failure}"
    );
    // The right authority, but the certificate is for another name.
    let name = format!("https://node2:{}", server.address.port());
    let wrong_name = Client::new(&name, CA, timing()).unwrap().pinned(server.address.ip());
    assert!(matches!(wrong_name.get("/pods"), Err(Failure::Other(_))));
    assert!(
        server.asked().is_empty(),
        "nothing was asked over an unverified connection"
    );
    assert!(Client::new(&server.url(), b"no certificate", timing()).is_err());
    assert!(
        Client::new("http://127.0.0.1:1", CA, timing()).is_err(),
        "TLS or nothing"
    );
}

#[test]
fn tokens_are_never_shown() {
    let client = Client::new("https://127.0.0.1:1", CA, timing())
        .unwrap()
        .with_token(Token::Text("secret-token".into()));
    assert!(!format!("{client:?}").contains("secret"));
}

#[test]
fn redirects_are_not_followed() {
    let server = Server::start(|_, _| vec![Step::Answer(302, String::new())]);
    assert!(matches!(client(&server).get("/pods"), Err(Failure::Status(302, _))));
}

#[test]
fn a_kubeconfig_leads_to_the_server_with_a_certificate_of_ones_own() {
    let server = Server::start(|_, _| vec![Step::Answer(200, list(&[], 1, ""))]);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/record/attribution/tests");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: test\nclusters:\n- cluster:\n    certificate-authority: ca.pem\n    server: {}\n  name: test\n\
         contexts:\n- context:\n    cluster: test\n    user: admin\n  name: test\npreferences: {{}}\nusers:\n- name: admin\n  user:\n    \
         client-certificate: client.pem\n    client-key: client.key\n",
        server.url()
    );
    let client = kubeconfig::from_text(&text, &folder, timing()).unwrap();
    client.get("/api/v1/pods").unwrap();
    assert!(server.asked()[0].certificate);
}

#[test]
fn the_kubelet_is_asked_now_and_then_and_at_once_when_woken() {
    let server = Server::start(|number, _| match number {
        0 => vec![Step::Answer(200, list(&[pod("a", "u1", 1)], 1, ""))],
        1 => vec![Step::Answer(500, String::new())],
        _ => vec![Step::Answer(200, list(&[pod("b", "u2", 1)], 1, ""))],
    });
    // The certificate names the node, which is at the loopback address.
    let name = format!("https://node1:{}", server.address.port());
    let client = Client::new(&name, CA, timing()).unwrap().pinned(server.address.ip());
    let (report, notices) = report();
    let (to, inputs) = mpsc::channel();
    let (wake, woken) = mpsc::sync_channel(1);
    let thread = report.clone();
    std::thread::spawn(move || kubelet::run(&client, Duration::from_secs(3600), &woken, &to, &thread));
    assert_eq!(next(&inputs), "list a");
    wake.try_send(()).unwrap();
    assert_eq!(next(&inputs), "failed");
    assert_eq!(next(&inputs), "list b", "after a pause, without being woken");
    assert_eq!(server.asked()[0].path, "/pods");
    let notices = notices.lock().unwrap();
    assert!(notices[0].contains("answered 500"), "{notices:?}");
    assert!(state(&report, kubelet::SOURCE).unwrap().1.contains("node1"));
}
