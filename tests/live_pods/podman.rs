//! A container runtime of Debian's packages, where there is one: its containers are named, and mdf runs in one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::node::{Form, Node, Place, Recorder, text};
use crate::support::{all_installed, mdf_path, not_run, rows, run, traffic_gen_path};

/// The node, if there is a runtime.
fn node(name: &str, short: &str) -> Option<Node> {
    if !all_installed(name, &["podman", "runc"]) {
        return None;
    }
    Node::new(short)
}

/// No image is fetched: a container's root is a folder with one program and its libraries.
fn root_with(node: &Node, program: &Path) -> PathBuf {
    let root = node.dir.path().join("rootfs");
    for folder in ["bin", "proc", "sys", "dev", "etc", "tmp", "run", "captures", "host"] {
        fs::create_dir_all(root.join(folder)).expect("make a folder");
    }
    fs::copy(program, root.join("bin/program")).expect("copy the program");
    let libraries = run(Command::new("ldd").arg(program)).expect_code(&[0]).stdout;
    for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
        let to = root.join(&library[1..]);
        fs::create_dir_all(to.parent().expect("below the root")).expect("make a folder");
        fs::copy(library, to).expect("copy a library");
    }
    root
}

/// runc, because crun refuses hybrid hierarchies; limits that need no privilege to set.
fn podman(name: &str) -> Command {
    let mut podman = Command::new("podman");
    podman.args(["--runtime", "runc", "--cgroup-manager", "cgroupfs", "run", "--rm"]);
    podman.args(["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]);
    podman.args(["--network", "host", "--name", name]);
    podman
}

#[test]
fn a_container_of_podman_is_recorded_by_its_name() {
    let name = "a container of podman";
    let Some(node) = node(name, "podman") else { return };
    let root = root_with(&node, &traffic_gen_path());
    let container = format!("mdf-test-web-{}", std::process::id());
    let recorder = node.record_below(Path::new("/"), &["--container", &container]);
    let mut podman = podman(&container);
    podman.arg("--rootfs").arg(&root);
    podman.args(["/bin/program", "http", "-c", "1", "-n", "50", "--delay-us", "20000"]);
    let finished = run(&mut podman);
    let (messages, _) = recorder.stop();
    if finished.code() != 0 {
        let why = finished.stderr.trim();
        return not_run(name, &format!("podman cannot run a container here: {why}"));
    }
    let rows = node.rows("http", &[]);
    assert!(!rows.is_empty(), "{messages}");
    let others: Vec<&Value> = rows
        .iter()
        .filter(|row| text(row, "server_container") != container)
        .collect();
    assert!(others.is_empty(), "{others:#?}");
}

/// With the capabilities, mounts and options of the DaemonSet, and a cgroup namespace of its own.
#[test]
fn mdf_in_a_container_records_the_pods_of_the_host() {
    let name = "mdf in a container of podman";
    let Some(node) = node(name, "in-podman") else { return };
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/daemonset.yaml"));
    let manifest = manifest.expect("the manifest");
    let added = manifest.lines().find_map(|line| line.trim().strip_prefix("add: ["));
    let capabilities: Vec<&str> = added
        .expect("the manifest adds capabilities")
        .split('"')
        .filter(|word| word.starts_with(|first: char| first.is_ascii_uppercase()))
        // For kernels before 5.11; not everybody who runs this has it to give.
        .filter(|capability| *capability != "SYS_RESOURCE")
        .collect();
    let pod = format!("cart-{}", std::process::id());
    let place = Place::new(Form::Cgroupfs, "shop", &pod, "app");
    node.make(&place);
    let (address, _server) = node.serve(&place, "serve-http");
    let captures = node.dir.path().join("captures");
    fs::create_dir(&captures).expect("make a folder");
    let root = root_with(&node, &mdf_path());
    let mut podman = podman(&format!("mdf-test-recorder-{}", std::process::id()));
    podman
        .args([
            "--pid",
            "host",
            "--cgroupns",
            "private",
            "--read-only",
            "--cap-drop",
            "ALL",
        ])
        .args([
            "--security-opt",
            "seccomp=unconfined",
            "--cap-add",
            &capabilities.join(","),
        ])
        .args(["-v", "/sys/fs/cgroup:/host/sys/fs/cgroup:ro"])
        .args([
            "-v",
            &format!("{}:/host/var/log:ro", node.root().join("var/log").display()),
        ])
        .args(["-v", &format!("{}:/captures", captures.display()), "--rootfs"])
        .arg(&root)
        .args([
            "/bin/program",
            "record",
            "--output=/captures/ring.mdf",
            "--force",
            "--keep=8",
        ])
        .args(["--rotate-size=256MiB", "--host-root=/host", "--print"])
        .args(["--pod", &format!("shop/{pod}")]);
    let recorder = match Recorder::start(podman) {
        Ok(recorder) => recorder,
        Err(messages) => return not_run(name, &format!("podman cannot run it here: {}", messages.trim())),
    };
    // Nothing shows when the kernel begins to record the pod: send requests until one is recorded.
    let connect = address.to_string();
    let ask = |count: &str| node.traffic(&place, &["http", "-n", count, "-c", "1", "--connect", &connect]);
    let end = Instant::now() + Duration::from_secs(60);
    while recorder.lines_with(&format!("Pod: shop/{pod}")) == 0 {
        assert!(Instant::now() < end, "{pod} is not recorded");
        ask("1");
    }
    ask("7");
    let (messages, _) = recorder.stop();
    let file = fs::read_dir(&captures).expect("a folder").flatten().next();
    let rows = rows(&file.expect("a capture").path(), "http");
    let whole: Vec<&Value> = rows.iter().filter(|row| text(row, "side") == "both").collect();
    assert!(whole.len() >= 7, "{messages}\n{rows:#?}");
    for row in whole {
        let who = ["client_pod", "server_pod", "server_namespace", "server_container"].map(|column| text(row, column));
        assert_eq!(who, [pod.as_str(), pod.as_str(), "shop", "app"], "{row}");
    }
}
