//! A container runtime of Debian's packages, where there is one.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::node::{Node, text};
use crate::support::{installed, not_run, run, traffic_gen_path};

#[test]
fn a_container_of_podman_is_recorded_by_its_name() {
    let name = "a container of podman";
    if let Some(missing) = ["podman", "runc"].into_iter().find(|program| !installed(program)) {
        return not_run(name, &format!("{missing} is not installed"));
    }
    let Some(node) = Node::new("podman") else { return };
    // No image is fetched: the container's root is a folder with the traffic generator and its libraries.
    let rootfs = node.dir.path().join("rootfs");
    for folder in ["bin", "proc", "sys", "dev", "etc", "tmp", "run"] {
        fs::create_dir_all(rootfs.join(folder)).expect("make a folder");
    }
    fs::copy(traffic_gen_path(), rootfs.join("bin/traffic_gen")).expect("copy the traffic generator");
    let libraries = run(Command::new("ldd").arg(traffic_gen_path()))
        .expect_code(&[0])
        .stdout;
    for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
        let to = rootfs.join(&library[1..]);
        fs::create_dir_all(to.parent().expect("below the root")).expect("make a folder");
        fs::copy(library, to).expect("copy a library");
    }
    let container = format!("mdf-test-web-{}", std::process::id());
    let recorder = node.record_below(Path::new("/"), &["--container", &container]);
    // runc, because crun refuses hybrid hierarchies; limits that need no privilege to set.
    let mut podman = Command::new("podman");
    podman
        .args([
            "--runtime",
            "runc",
            "--cgroup-manager",
            "cgroupfs",
            "run",
            "--rm",
            "--network",
            "host",
        ])
        .args([
            "--ulimit",
            "nofile=1024:1024",
            "--ulimit",
            "nproc=1024:1024",
            "--name",
            &container,
            "--rootfs",
        ])
        .arg(&rootfs)
        .args(["/bin/traffic_gen", "http", "-c", "1", "-n", "50", "--delay-us", "20000"]);
    let finished = run(&mut podman);
    let (said, _) = recorder.stop();
    if finished.code() != 0 {
        return not_run(
            name,
            &format!("podman cannot run a container here: {}", finished.stderr.trim()),
        );
    }
    let rows = node.rows("http", &[]);
    assert!(!rows.is_empty(), "{said}");
    let others: Vec<&Value> = rows
        .iter()
        .filter(|row| text(row, "server_container") != container)
        .collect();
    assert!(others.is_empty(), "{others:#?}");
}
