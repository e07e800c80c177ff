//! A simulated node: cgroups named as each runtime names them (below one of our own), real processes in them, names of
//! log files below `--host-root`; recorded, then analysed. Needs root; says so when it is not run.
#![cfg(all(feature = "record", feature = "analyze"))]

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Guard, installed, is_root, mdf, not_run, run, traffic_gen_path};

/// A cgroup of our own, with all that is made below it. Dropping it ends what runs there and removes it.
struct Node {
    group: PathBuf,
    dir: tempfile::TempDir,
}

/// How a runtime names the cgroup of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Cgroupfs,
    SystemdContainerd,
    SystemdCrio,
    /// containerd with a systemd path under the cgroupfs driver.
    Colons,
    /// A pod in the node container of kind.
    Kind,
    /// A static pod: the uid has no dashes.
    Static,
    Docker,
    /// Docker on a host whose runtimes use the v1 hierarchies.
    DockerV1,
    Podman,
    Lxc,
    Unit,
}

/// A container, in a pod where the form has pods.
#[derive(Debug, Clone)]
struct Place {
    form: Form,
    namespace: &'static str,
    pod: String,
    container: String,
    uid: String,
    id: String,
}

/// A v1 hierarchy, where the host has any.
const V1: &str = "/sys/fs/cgroup/pids";

static NUMBER: AtomicU32 = AtomicU32::new(1);

impl Place {
    fn new(form: Form, namespace: &'static str, pod: &str, container: &str) -> Place {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let uid = match form {
            Form::Static => format!("{number:032x}"),
            _ => format!("{number:08x}-1111-2222-3333-444455556666"),
        };
        Place {
            form,
            namespace,
            pod: pod.into(),
            container: container.into(),
            uid,
            id: format!("{:064x}", u128::from(number) << 80 | 0xabcdef),
        }
    }

    fn is_pod(&self) -> bool {
        !matches!(
            self.form,
            Form::Docker | Form::DockerV1 | Form::Podman | Form::Lxc | Form::Unit
        )
    }

    /// Below the node's cgroup.
    fn path(&self) -> String {
        let (uid, id) = (&self.uid, &self.id);
        let slice = |prefix: &str| {
            let uid = uid.replace('-', "_");
            format!("{prefix}kubepods.slice/{prefix}kubepods-burstable.slice/{prefix}kubepods-burstable-pod{uid}.slice")
        };
        match self.form {
            Form::Cgroupfs | Form::Static => format!("kubepods/burstable/pod{uid}/{id}"),
            Form::SystemdContainerd => format!("{}/cri-containerd-{id}.scope", slice("")),
            Form::SystemdCrio => format!("{}/crio-{id}.scope/container", slice("")),
            Form::Colons => format!(
                "system.slice/containerd.service/kubepods-burstable-pod{}.slice:cri-containerd:{id}",
                uid.replace('-', "_")
            ),
            Form::Kind => format!(
                "docker/{:064x}/kubelet.slice/{}/cri-containerd-{id}.scope/init.scope",
                77,
                slice("kubelet-")
            ),
            Form::Docker => format!("system.slice/docker-{id}.scope"),
            Form::DockerV1 => "plain".to_owned(),
            Form::Podman => format!("machine.slice/libpod-{id}.scope/container"),
            Form::Lxc => format!("lxc.payload.{}", self.container),
            Form::Unit => format!("system.slice/{}", self.container),
        }
    }
}

impl Node {
    fn new(name: &str) -> Option<Node> {
        if !is_root() {
            not_run(name, "recording needs root");
            return None;
        }
        let mounts = fs::read_to_string("/proc/mounts").expect("mounts");
        let mount = mounts.lines().find_map(|line| {
            let mut words = line.split(' ');
            let (target, kind) = (words.nth(1)?, words.next()?);
            (kind == "cgroup2").then(|| target.to_owned())
        });
        let Some(mount) = mount else {
            not_run(name, "no cgroup2 file system is mounted");
            return None;
        };
        let group = Path::new(&mount).join(format!("mdf-test-{name}-{}", std::process::id()));
        fs::create_dir(&group).expect("make a cgroup");
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        Some(Node { group, dir })
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("host")
    }

    fn capture(&self) -> PathBuf {
        self.dir.path().join("cap.mdf")
    }

    /// Beside the v2 hierarchy of a hybrid host.
    fn v1_group(&self) -> PathBuf {
        Path::new(V1).join(self.group.file_name().expect("a name"))
    }

    fn log_folder(&self, place: &Place) -> PathBuf {
        let name = format!("{}_{}_{}", place.namespace, place.pod, place.uid);
        self.root().join("var/log/pods").join(name)
    }

    fn log_link(&self, place: &Place) -> PathBuf {
        let name = format!("{}_{}_{}-{}.log", place.pod, place.namespace, place.container, place.id);
        self.root().join("var/log/containers").join(name)
    }

    /// Makes the cgroup, and what the runtime or the kubelet leaves on the disk.
    fn make(&self, place: &Place) {
        fs::create_dir_all(self.group.join(place.path())).expect("make a cgroup");
        if place.form == Form::DockerV1 {
            fs::create_dir_all(self.v1_group().join("docker").join(&place.id)).expect("make a v1 cgroup");
        }
        let write = |path: &str, text: String| {
            let path = self.root().join(path);
            fs::create_dir_all(path.parent().expect("below the root")).expect("make a folder");
            fs::write(path, text).expect("write a file");
        };
        match place.form {
            Form::Docker | Form::DockerV1 => write(
                &format!("var/lib/docker/containers/{}/config.v2.json", place.id),
                format!(
                    r#"{{"ID":"{}","Name":"/{}","Config":{{"Labels":{{}}}}}}"#,
                    place.id, place.container
                ),
            ),
            Form::Podman => write(
                "var/lib/containers/storage/overlay-containers/containers.json",
                format!(
                    r#"[{{"id":"{}","names":["{}"],"metadata":"{{}}"}}]"#,
                    place.id, place.container
                ),
            ),
            Form::Lxc | Form::Unit => {}
            _ => {
                fs::create_dir_all(self.log_folder(place).join(&place.container)).expect("make a folder");
                let link = self.log_link(place);
                fs::create_dir_all(link.parent().expect("below the root")).expect("make a folder");
                std::os::unix::fs::symlink("/var/log/pods/elsewhere/0.log", link).expect("make a link");
            }
        }
    }

    /// Takes the cgroup and the names away, as happens to a pod that is deleted.
    fn remove(&self, place: &Place) {
        let top = place.path();
        let mut path = Path::new(&top);
        while !path.as_os_str().is_empty() && remove_cgroup(&self.group.join(path)) {
            path = path.parent().unwrap_or(Path::new(""));
        }
        let _ = fs::remove_dir_all(self.log_folder(place));
        let _ = fs::remove_file(self.log_link(place));
    }

    /// A command that runs in the place's cgroup from its first instruction.
    fn command(&self, place: &Place, arguments: &[&str]) -> Command {
        let mut command = Command::new("/bin/sh");
        let procs = self.group.join(place.path()).join("cgroup.procs");
        let v1 = match place.form {
            Form::DockerV1 => self.v1_group().join("docker").join(&place.id).join("cgroup.procs"),
            _ => "/dev/null".into(),
        };
        command
            .args(["-c", "echo $$ >\"$0\" && echo $$ >\"$1\" && shift && exec \"$@\""])
            .args([procs, v1])
            .arg(traffic_gen_path())
            .args(arguments);
        command
    }

    /// Runs the traffic generator there, to its end; gives what it says it did.
    fn traffic(&self, place: &Place, arguments: &[&str]) -> Value {
        let finished = run(&mut self.command(place, arguments)).expect_code(&[0]);
        serde_json::from_str(&finished.stdout).expect("it says what it did in JSON")
    }

    /// Starts one of its servers there.
    fn serve(&self, place: &Place, command: &str) -> (SocketAddr, Guard) {
        let child = self
            .command(place, &[command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = Guard(child.expect("start a server"));
        let mut line = String::new();
        let output = child.0.stdout.take().expect("stdout is a pipe");
        BufReader::new(output)
            .read_line(&mut line)
            .expect("it says where it listens");
        let said: Value = serde_json::from_str(&line).expect("in JSON");
        let address = said["listening"]
            .as_str()
            .expect("an address")
            .parse()
            .expect("an address");
        (address, child)
    }

    /// Begins to record; returns when everything is heard.
    fn record(&self, options: &[&str]) -> Recorder {
        self.record_below(&self.root(), options)
    }

    fn record_below(&self, root: &Path, options: &[&str]) -> Recorder {
        let child = mdf()
            .arg("record")
            .arg("-o")
            .arg(self.capture())
            .args(["--force", "--host-root"])
            .arg(root)
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = Guard(child.expect("start mdf"));
        let stderr = BufReader::new(child.0.stderr.take().expect("stderr is a pipe"));
        let stdout = support::drain(child.0.stdout.take().expect("stdout is a pipe"));
        let (ready, is_ready) = mpsc::channel();
        let said = std::thread::spawn(move || {
            let mut said = String::new();
            for line in stderr.lines().map_while(Result::ok) {
                if line.contains("attached in") {
                    let _ = ready.send(());
                }
                said.push_str(&line);
                said.push('\n');
            }
            said
        });
        let recorder = Recorder { child, said, stdout };
        match is_ready.recv_timeout(Duration::from_secs(60)) {
            Ok(()) => recorder,
            Err(_) => panic!("mdf does not record: {}", recorder.stop().0),
        }
    }

    fn own(&self) -> String {
        self.group.display().to_string()
    }

    fn rows(&self, table: &str, options: &[&str]) -> Vec<Value> {
        let mut rows = Vec::new();
        support::each_row(&self.capture(), table, options, |line| {
            rows.push(serde_json::from_str(line).expect("a row is JSON"))
        });
        rows
    }
}

struct Recorder {
    child: Guard,
    said: std::thread::JoinHandle<String>,
    stdout: std::thread::JoinHandle<String>,
}

impl Recorder {
    /// Ends recording; what was said, and what was printed.
    fn stop(mut self) -> (String, String) {
        // SAFETY: a signal to a child that has not been waited for.
        unsafe { libc::kill(self.child.0.id() as i32, libc::SIGINT) };
        let status = self.child.wait(Duration::from_secs(60));
        let said = self.said.join().expect("the reader does not panic");
        assert!(
            matches!(status.code(), Some(0)),
            "recording ended with {status}: {said}"
        );
        (said, self.stdout.join().expect("the reader does not panic"))
    }
}

fn remove_cgroup(path: &Path) -> bool {
    for _ in 0..200 {
        match fs::remove_dir(path) {
            Ok(()) => return true,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return false,
            // Still in use: by the last process on its way out, or by cgroups below it that are others'.
            Err(_) if has_children(path) => return false,
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    false
}

fn has_children(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|entries| entries.flatten().any(|entry| entry.path().is_dir()))
}

fn remove_tree(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_tree(&entry.path());
        }
    }
    // Only processes that this test put there.
    let procs = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    for pid in procs.lines().filter_map(|line| line.parse::<i32>().ok()) {
        // SAFETY: a signal to a process in a cgroup of our own.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
    remove_cgroup(path);
}

impl Drop for Node {
    fn drop(&mut self) {
        remove_tree(&self.group);
        if self.v1_group().is_dir() {
            remove_tree(&self.v1_group());
        }
    }
}

fn text<'a>(row: &'a Value, column: &str) -> &'a str {
    row[column].as_str().unwrap_or_default()
}

/// What the rows say of their server, and how many say so.
fn named(rows: &[Value]) -> BTreeMap<String, usize> {
    let mut names = BTreeMap::new();
    for row in rows {
        let of = |end: &str| {
            let columns = ["namespace", "pod", "container", "workload"];
            columns
                .map(|column| text(row, &format!("{end}_{column}")).to_owned())
                .join(" ")
        };
        assert_eq!(of("client"), of("server"), "both ends are the same process");
        *names.entry(of("server")).or_default() += 1;
    }
    names
}

fn requests(count: u64) -> Vec<String> {
    ["http", "-c", "1", "-n"]
        .map(String::from)
        .into_iter()
        .chain([count.to_string()])
        .collect()
}

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
        false => not_run("containers of v1 hosts", "this host has no v1 hierarchies"),
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
            // The kernel's events do not tell v1 cgroups: the process must live until /proc is read.
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
        let place = Place::new(Form::Cgroupfs, "shop", "cart-0", "app");
        node.make(&place);
        run(&place, count);
        node.remove(&place);
        expect(&place, count as usize);
    }
    let (said, _) = recorder.stop();
    assert_eq!(named(&node.rows("http", &[])), expected, "{said}");
    let cart = node.rows("http", &["--where", "server_pod = 'cart-0'"]);
    let ids: std::collections::BTreeSet<&str> = cart.iter().map(|row| text(row, "server_container_id")).collect();
    assert_eq!(ids.len(), 2, "two pods of one name: {ids:?}");
    let grouped = node.rows("http", &["--group-by", "pod"]);
    let of_cart = grouped
        .iter()
        .find(|row| text(row, "server_pod") == "cart-0")
        .expect("a group");
    assert_eq!(of_cart["count"], 9);
}

#[test]
fn the_service_map_of_a_shop_is_right_row_for_row() {
    let Some(node) = Node::new("shop") else { return };
    let names = [
        "load-5c9f7d8b6-aaaaa",
        "frontend-7d4f9c6b5-x2x2x",
        "cart-0",
        "mariadb-0",
    ];
    let [load, frontend, cart, db] = names.map(|pod| Place::new(Form::SystemdContainerd, "shop", pod, "app"));
    let all = [&load, &frontend, &cart, &db];
    all.iter().for_each(|place| node.make(place));
    let owners = [
        ("ReplicaSet", "load-5c9f7d8b6", "5c9f7d8b6"),
        ("ReplicaSet", "frontend-7d4f9c6b5", "7d4f9c6b5"),
        ("StatefulSet", "cart", ""),
        ("StatefulSet", "mariadb", ""),
    ];
    let items: Vec<Value> = all
        .iter()
        .zip(owners)
        .map(|(place, (kind, owner, hash))| {
            serde_json::json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": place.pod, "namespace": "shop", "uid": place.uid, "labels": {"pod-template-hash": hash},
                    "ownerReferences": [{"apiVersion": "apps/v1", "kind": kind, "name": owner, "controller": true, "uid": "x"}]},
                "status": {"containerStatuses": [{"name": "app", "containerID": format!("containerd://{}", place.id)}]}})
        })
        .collect();
    let pods = node.dir.path().join("pods.json");
    fs::write(
        &pods,
        serde_json::json!({"kind": "List", "apiVersion": "v1", "items": items}).to_string(),
    )
    .expect("write");
    let pods = pods.display().to_string();
    let recorder = node.record(&["--cgroup", &node.own(), "--pods", &pods, "--print"]);
    let (at_frontend, _frontend) = node.serve(&frontend, "serve-http");
    let (at_cart, _cart) = node.serve(&cart, "serve-http");
    let (at_db, _db) = node.serve(&db, "serve-mysql");
    let to = |address: SocketAddr| address.to_string();
    node.traffic(
        &load,
        &[
            "http",
            "-n",
            "31",
            "-c",
            "2",
            "--connect",
            &to(at_frontend),
            "--mix",
            "get,get,error",
        ],
    );
    node.traffic(&frontend, &["http", "-n", "17", "-c", "1", "--connect", &to(at_cart)]);
    let said = node.traffic(
        &cart,
        &[
            "mysql",
            "-n",
            "13",
            "-c",
            "1",
            "--mix",
            "select,error",
            "--connect",
            &to(at_db),
        ],
    );
    let (_, printed) = recorder.stop();
    let mysql = node.rows("mysql", &[]);
    let wrong = mysql.iter().filter(|row| text(row, "status") == "error").count();
    assert_eq!(wrong as u64, said["errors"].as_u64().expect("a number"));

    let map: Vec<Value> = node
        .rows("services", &[])
        .iter()
        .map(|row| {
            assert!(
                row["bytes"].as_u64() > Some(0) && row["p50_ns"].as_u64() > Some(0),
                "{row}"
            );
            let column = |name: &str| row[name].clone();
            serde_json::json!([
                column("caller"),
                column("callee"),
                column("protocol"),
                column("requests"),
                column("errors"),
                column("connections")
            ])
        })
        .collect();
    let row = |from: &str, to: &str, protocol: &str, requests: usize, errors: usize, connections: usize| {
        serde_json::json!([from, to, protocol, requests, errors, connections])
    };
    assert_eq!(
        map,
        [
            row("shop/load", "shop/frontend", "http", 31, 10, 2),
            row("shop/frontend", "shop/cart", "http", 17, 0, 1),
            row("shop/cart", "shop/mariadb", "mysql", mysql.len(), wrong, 1),
        ]
    );
    let live = printed
        .lines()
        .filter(|line| line.contains("Pod: shop/frontend-7d4f9c6b5-x2x2x") && line.contains("GET "));
    assert!(
        live.filter(|line| line.contains(" 200 (") && line.ends_with(" ms)"))
            .count()
            >= 17,
        "{printed}"
    );
}

#[test]
fn chosen_pods_are_recorded_and_no_others() {
    let Some(node) = Node::new("chosen") else { return };
    let before = Place::new(Form::SystemdContainerd, "shop", "cart-0", "app");
    let other = Place::new(Form::SystemdContainerd, "bank", "ledger-0", "app");
    node.make(&before);
    node.make(&other);
    let (at_cart, _cart) = node.serve(&before, "serve-http");
    let recorder = node.record(&["--pod", "shop/cart-*"]);
    // When the kernel records the pod's cgroup, nobody says so: knock until it is heard.
    let connect = at_cart.to_string();
    let client = |place: &Place| node.traffic(place, &["http", "-n", "7", "-c", "1", "--connect", &connect]);
    std::thread::sleep(Duration::from_millis(500));
    client(&other);
    let after = Place::new(Form::Cgroupfs, "shop", "cart-1", "app");
    node.make(&after);
    // The kubelet makes a pod's cgroup some time before the first container starts.
    std::thread::sleep(Duration::from_millis(500));
    client(&after);
    node.traffic(&other, &["http", "-n", "5", "-c", "1"]);
    let (said, _) = recorder.stop();
    let rows = node.rows("http", &[]);
    let count = |client: &str, server: &str| {
        let is = |row: &&Value| text(row, "client_pod") == client && text(row, "server_pod") == server;
        rows.iter().filter(is).count()
    };
    assert_eq!(
        count("", "cart-0"),
        7,
        "the server's end alone, of a client that is not chosen: {said}\n{rows:#?}"
    );
    assert_eq!(count("cart-1", "cart-0"), 7, "{said}\n{rows:#?}");
    assert_eq!(rows.len(), 14, "nothing of other pods");
    let file = fs::read(node.capture()).expect("the capture");
    assert!(!file.windows(6).any(|bytes| bytes == b"ledger"));
    let cgroups: Vec<String> = node
        .rows("processes", &[])
        .iter()
        .map(|row| text(row, "pod").to_owned())
        .collect();
    assert!(cgroups.iter().all(|pod| pod.starts_with("cart-")), "{cgroups:?}");
}

#[test]
fn a_pod_list_names_a_capture_afterwards() {
    let Some(node) = Node::new("afterwards") else { return };
    let place = Place::new(Form::SystemdContainerd, "shop", "cart-0", "app");
    node.make(&place);
    let recorder = node.record(&["--cgroup", &node.own(), "--no-names"]);
    node.traffic(&place, &["http", "-n", "3", "-c", "1"]);
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

/// A runtime of Debian's packages, where there is one.
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
