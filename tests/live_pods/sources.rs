//! Where names come from: what `mdf doctor` reports of it, and that tokens go to the servers and nowhere else.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use masdeepflow::format::reader::Reader;
use serde_json::{Value, json};

use crate::node::{Form, Node, Place, listening, named};
use crate::support::{Guard, all_installed, mdf, run};

const API_TOKEN: &str = "token-for-the-api";
const KUBELET_TOKEN: &str = "token-for-the-kubelet";

fn certificates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/record/attribution/tests")
}

/// The servers of kube.py.
struct Kube {
    address: SocketAddr,
    requests: Receiver<String>,
    _process: Guard,
}

impl Kube {
    fn start(pods: &Path) -> Kube {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/live_pods/kube.py");
        let child = Command::new("python3")
            // No compiled modules in the source tree.
            .arg("-B")
            .arg(script)
            .args([certificates().join("server.pem"), certificates().join("server.key")])
            .arg(pods)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn();
        let mut process = Guard(child.expect("start Python"));
        let output = process.0.stdout.take().expect("stdout is a pipe");
        let (line, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            lines.for_each(|text| drop(line.send(text)));
        });
        Kube {
            address: listening(&lines.recv_timeout(Duration::from_secs(60)).expect("it listens")),
            requests: lines,
            _process: process,
        }
    }

    /// Waits for a request that has these words in its path.
    fn await_request(&self, words: [&str; 2]) {
        let is_it = |path: &String| words.iter().all(|word| path.contains(word));
        while !is_it(&self.requests.recv_timeout(Duration::from_secs(60)).expect("a request")) {}
    }

    /// Options that lead there, with files in `dir`.
    fn options(&self, dir: &Path) -> Vec<String> {
        let (config, token) = (dir.join("kubeconfig"), dir.join("token"));
        let ca = certificates().join("ca.pem").display().to_string();
        let text = format!(
            "current-context: test\nclusters:\n- name: test\n  cluster:\n    server: https://{}\n    certificate-authority: {ca}\n\
             contexts:\n- name: test\n  context:\n    cluster: test\n    user: test\nusers:\n- name: test\n  user:\n    token: {API_TOKEN}\n",
            self.address
        );
        fs::write(&config, text).expect("write");
        fs::write(&token, KUBELET_TOKEN).expect("write");
        let kubelet = format!("https://{}", self.address);
        let (config, token) = (config.display().to_string(), token.display().to_string());
        let options = [
            ["--kubeconfig", &config],
            ["--kubelet", &kubelet],
            ["--kubelet-ca", &ca],
            ["--token-file", &token],
        ];
        options.concat().iter().map(ToString::to_string).collect()
    }
}

/// The doctor's words about each source.
fn doctor(root: &Path, options: &[String]) -> Vec<[String; 4]> {
    let finished = run(mdf().args(["doctor", "--json", "--host-root"]).arg(root).args(options));
    let reported: Value = serde_json::from_str(&finished.stdout).expect("JSON");
    let names = reported["names"].as_array().expect("a list");
    let word = |status: &Value, name: &str| status[name].as_str().unwrap_or_default().to_owned();
    let columns = ["source", "state", "what", "advice"];
    names
        .iter()
        .map(|status| columns.map(|name| word(status, name)))
        .collect()
}

fn check(reported: &[[String; 4]], expected: &[(&str, &str, &str, &str)]) {
    assert_eq!(reported.len(), expected.len(), "{reported:#?}");
    for (reported, (source, state, what, advice)) in reported.iter().zip(expected) {
        assert_eq!([&reported[0], &reported[1]], [source, state], "{reported:#?}");
        assert!(
            reported[2].contains(what) && reported[3].contains(advice),
            "{reported:#?}"
        );
        assert_eq!(
            reported[3].is_empty(),
            *state == "works",
            "what to do, where there is something: {reported:#?}"
        );
    }
}

#[test]
fn the_doctor_says_what_each_source_gave_or_why_not_and_what_to_do() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    check(
        &doctor(dir.path(), &[]),
        &[
            ("log names", "absent", "var/log/pods", "--host-root"),
            ("docker and podman files", "absent", "var/lib/docker", "--host-root"),
            ("pod list", "absent", "no --pods", "kubectl get pods"),
            ("kubelet", "absent", "var/lib/kubelet", "--kubelet HOST"),
            ("API server (pods)", "absent", "no service account", "--kubeconfig"),
            ("API server (Services)", "absent", "no service account", "--kubeconfig"),
        ],
    );
    if !all_installed("the doctor with a kubelet and an API server", &["python3"]) {
        return;
    }
    let folder = dir
        .path()
        .join("var/log/pods/shop_cart-0_2f7a1c9e-1111-2222-3333-444455556666/app");
    fs::create_dir_all(folder).expect("make a folder");
    fs::create_dir_all(dir.path().join("var/lib/docker/containers/abc")).expect("make a folder");
    let pods = dir.path().join("pods.json");
    fs::write(
        &pods,
        json!({"kind": "PodList", "metadata": {}, "items": []}).to_string(),
    )
    .expect("write");
    let kube = Kube::start(&pods);
    let mut options = kube.options(dir.path());
    options.extend(["--pods".to_owned(), dir.path().join("token").display().to_string()]);
    check(
        &doctor(dir.path(), &options),
        &[
            ("log names", "works", "1 pods", ""),
            ("docker and podman files", "works", "1 containers", ""),
            ("pod list", "fails", "token: ", "kubectl get pods"),
            (
                "kubelet",
                "fails",
                "answered 403: forbidden with Bearer …",
                "--token-file",
            ),
            ("API server (pods)", "works", "0 pods of node", ""),
            ("API server (Services)", "works", "0 services of the cluster", ""),
        ],
    );
}

#[test]
fn tokens_are_neither_shown_nor_stored() {
    let name = "names from an API server over TLS";
    if !all_installed(name, &["python3"]) {
        return;
    }
    let Some(node) = Node::new("tokens") else { return };
    let place = Place::new(Form::SystemdContainerd, "shop", "cart-0", "app");
    // Nothing of it on the disk: only the API server knows the name.
    fs::create_dir_all(node.group.join(place.path())).expect("make a cgroup");
    let item = json!({"metadata": {"name": "cart-0", "namespace": "shop", "uid": place.uid, "labels": {"app": "cart"},
            "ownerReferences": [{"kind": "StatefulSet", "name": "cart", "controller": true}]},
        "status": {"containerStatuses": [{"name": "app", "containerID": format!("containerd://{}", place.id)}]}});
    let list = json!({"kind": "PodList", "metadata": {"resourceVersion": "1"}, "items": [item]});
    let pods = node.dir.path().join("pods.json");
    fs::write(&pods, list.to_string()).expect("write");
    let kube = Kube::start(&pods);
    let own = node.own();
    let mut options = vec!["--cgroup".to_owned(), own, "--print".to_owned()];
    options.extend(kube.options(node.dir.path()));
    let recorder = node.record(&options.iter().map(String::as_str).collect::<Vec<_>>());
    node.traffic(&place, &["http", "-n", "3", "-c", "1"]);
    kube.await_request(["/api/v1/pods", "watch=1"]);
    recorder.await_message("answered 403");
    let (messages, printed) = recorder.stop();

    let expected = [("shop cart-0 app StatefulSet/cart".to_owned(), 3)];
    assert_eq!(named(&node.rows("http", &[])), expected.into(), "{messages}");
    assert!(
        messages.contains("names: kubelet: ") && messages.contains("answered 403"),
        "{messages}"
    );
    assert!(
        messages.contains("names come from: ") || messages.contains("by their cgroup paths"),
        "the fallback is reported: {messages}"
    );

    let file = fs::read(node.capture()).expect("the capture");
    let reader = Reader::open(&file).expect("a capture");
    let mut stored = format!("{:?}", reader.header()).into_bytes();
    let mut block = Vec::new();
    for stored_block in reader.blocks() {
        stored_block.inflate(&mut block).expect("a whole block");
        stored.extend_from_slice(&block);
    }
    let has = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(has(&stored, "StatefulSet/cart"), "names are stored");
    for token in [API_TOKEN, KUBELET_TOKEN] {
        for (place, bytes) in [
            ("capture", stored.as_slice()),
            ("messages", messages.as_bytes()),
            ("lines", printed.as_bytes()),
        ] {
            assert!(!has(bytes, token), "{token} in the {place}");
        }
    }
}
