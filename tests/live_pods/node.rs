//! The simulated node: cgroups named as each runtime names them, processes in them, names on the disk, and a recorder.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{self, Guard, may_record, mdf, not_run, run, traffic_gen_path};

/// A cgroup of our own, with all that is made below it. Dropping it ends what runs there and removes it.
pub struct Node {
    pub group: PathBuf,
    pub dir: tempfile::TempDir,
}

/// How a runtime names the cgroup of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
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
pub struct Place {
    pub form: Form,
    pub namespace: &'static str,
    pub pod: String,
    pub container: String,
    pub uid: String,
    pub id: String,
}

/// Starts a server that prints its address as JSON, and serves until it is ended.
pub fn serve(command: &mut Command) -> (SocketAddr, Guard) {
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = Guard(child.expect("start a server"));
    let mut line = String::new();
    let output = child.0.stdout.take().expect("stdout is a pipe");
    BufReader::new(output)
        .read_line(&mut line)
        .expect("it prints its address");
    (listening(&line), child)
}

/// The address in the first line of a server.
pub fn listening(line: &str) -> SocketAddr {
    let first: Value = serde_json::from_str(line).expect("in JSON");
    let address = first["listening"].as_str().and_then(|address| address.parse().ok());
    address.expect("an address")
}

/// A v1 hierarchy, where the host has any.
pub const V1: &str = "/sys/fs/cgroup/pids";

static NUMBER: AtomicU32 = AtomicU32::new(1);

impl Place {
    pub fn new(form: Form, namespace: &'static str, pod: &str, container: &str) -> Place {
        // No other run of these tests has the same ones.
        let (number, run) = (NUMBER.fetch_add(1, Ordering::Relaxed), std::process::id());
        let uid = match form {
            Form::Static => format!("{number:016x}{run:016x}"),
            _ => format!("{number:08x}-1111-2222-3333-{run:012x}"),
        };
        Place {
            form,
            namespace,
            pod: pod.into(),
            container: container.into(),
            uid,
            id: format!("{number:08x}{run:056x}"),
        }
    }

    pub fn is_pod(&self) -> bool {
        !matches!(
            self.form,
            Form::Docker | Form::DockerV1 | Form::Podman | Form::Lxc | Form::Unit
        )
    }

    /// Below the node's cgroup.
    pub fn path(&self) -> String {
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
    pub fn new(name: &str) -> Option<Node> {
        if !may_record(name) {
            return None;
        }
        let Some(mount) = support::cgroup_root() else {
            not_run(name, "no cgroup2 file system is mounted");
            return None;
        };
        let group = mount.join(format!("mdf-test-{name}-{}", std::process::id()));
        fs::create_dir(&group).expect("make a cgroup");
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        Some(Node { group, dir })
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("host")
    }

    pub fn capture(&self) -> PathBuf {
        self.dir.path().join("cap.mdf")
    }

    /// Beside the v2 hierarchy of a hybrid host.
    pub fn v1_group(&self) -> PathBuf {
        Path::new(V1).join(self.group.file_name().expect("a name"))
    }

    pub fn log_folder(&self, place: &Place) -> PathBuf {
        let name = format!("{}_{}_{}", place.namespace, place.pod, place.uid);
        self.root().join("var/log/pods").join(name)
    }

    pub fn log_link(&self, place: &Place) -> PathBuf {
        let name = format!("{}_{}_{}-{}.log", place.pod, place.namespace, place.container, place.id);
        self.root().join("var/log/containers").join(name)
    }

    /// Makes the cgroup, and what the runtime or the kubelet leaves on the disk.
    pub fn make(&self, place: &Place) {
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
    pub fn remove(&self, place: &Place) {
        let top = place.path();
        let mut path = Path::new(&top);
        while !path.as_os_str().is_empty() && remove_cgroup(&self.group.join(path)) {
            path = path.parent().unwrap_or(Path::new(""));
        }
        let _ = fs::remove_dir_all(self.log_folder(place));
        let _ = fs::remove_file(self.log_link(place));
    }

    /// A program that runs in the place's cgroup from its first instruction.
    pub fn command(&self, place: &Place, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("/bin/sh");
        let procs = self.group.join(place.path()).join("cgroup.procs");
        let v1 = match place.form {
            Form::DockerV1 => self.v1_group().join("docker").join(&place.id).join("cgroup.procs"),
            _ => "/dev/null".into(),
        };
        command
            .args(["-c", "echo $$ >\"$0\" && echo $$ >\"$1\" && shift && exec \"$@\""])
            .args([procs, v1])
            .arg(program);
        command
    }

    /// Runs the traffic generator there, to its end; returns its report.
    pub fn traffic(&self, place: &Place, arguments: &[&str]) -> Value {
        let finished = run(self.command(place, traffic_gen_path()).args(arguments)).expect_code(&[0]);
        serde_json::from_str(&finished.stdout).expect("its report is JSON")
    }

    /// Starts one of its servers there.
    pub fn serve(&self, place: &Place, command: &str) -> (SocketAddr, Guard) {
        serve(self.command(place, traffic_gen_path()).arg(command))
    }

    /// Begins to record; returns when everything is recorded.
    pub fn record(&self, options: &[&str]) -> Recorder {
        self.record_below(&self.root(), options)
    }

    pub fn record_below(&self, root: &Path, options: &[&str]) -> Recorder {
        let mut command = mdf();
        command
            .arg("record")
            .arg("-o")
            .arg(self.capture())
            .args(["--force", "--host-root"])
            .arg(root)
            .args(options);
        match Recorder::start(command) {
            Ok(recorder) => recorder,
            Err(messages) => panic!("mdf does not record: {messages}"),
        }
    }

    pub fn own(&self) -> String {
        self.group.display().to_string()
    }

    pub fn rows(&self, table: &str, options: &[&str]) -> Vec<Value> {
        let mut rows = Vec::new();
        support::each_row(&self.capture(), table, options, |line| {
            rows.push(serde_json::from_str(line).expect("a row is JSON"))
        });
        rows
    }
}

pub struct Recorder {
    child: Guard,
    reader: std::thread::JoinHandle<()>,
    messages: Arc<Mutex<String>>,
    printing: std::thread::JoinHandle<()>,
    printed: Arc<Mutex<String>>,
}

impl Recorder {
    /// Starts the recorder; returns when everything is recorded, or else its messages.
    pub fn start(mut command: Command) -> Result<Recorder, String> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = Guard(child.expect("start mdf"));
        let stderr = BufReader::new(child.0.stderr.take().expect("stderr is a pipe"));
        let stdout = BufReader::new(child.0.stdout.take().expect("stdout is a pipe"));
        let (messages, printed): (Arc<Mutex<String>>, Arc<Mutex<String>>) = Default::default();
        let (ready, is_ready) = mpsc::channel();
        let printing = collect(stdout, &printed, |_| {});
        let reader = collect(stderr, &messages, move |line| {
            if line.contains("attached in") {
                let _ = ready.send(());
            }
        });
        let recorder = Recorder {
            child,
            reader,
            messages,
            printing,
            printed,
        };
        match is_ready.recv_timeout(Duration::from_secs(60)) {
            Ok(()) => Ok(recorder),
            Err(_) => {
                let Recorder {
                    mut child,
                    reader,
                    messages,
                    ..
                } = recorder;
                let _ = child.0.kill();
                reader.join().expect("the reader does not panic");
                Err(std::mem::take(&mut *messages.lock().expect("nobody panics with it")))
            }
        }
    }

    /// How many of the lines printed so far have this in them.
    pub fn lines_with(&self, text: &str) -> usize {
        let printed = self.printed.lock().expect("nobody panics with it");
        printed.lines().filter(|line| line.contains(text)).count()
    }

    /// Waits for this message.
    pub fn await_message(&self, text: &str) {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let messages = self.messages.lock().expect("nobody panics with it").clone();
            if messages.contains(text) {
                return;
            }
            assert!(Instant::now() < end, "{text:?} never came: {messages}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends recording; its messages, and what was printed.
    pub fn stop(mut self) -> (String, String) {
        // SAFETY: a signal to a child that has not been waited for.
        unsafe { libc::kill(self.child.0.id() as i32, libc::SIGINT) };
        let status = self.child.wait(Duration::from_secs(60));
        self.reader.join().expect("the reader does not panic");
        let messages = std::mem::take(&mut *self.messages.lock().expect("nobody panics with it"));
        assert!(
            matches!(status.code(), Some(0)),
            "recording ended with {status}: {messages}"
        );
        self.printing.join().expect("the reader does not panic");
        (
            messages,
            std::mem::take(&mut *self.printed.lock().expect("nobody panics with it")),
        )
    }
}

/// Keeps lines as they come, on a thread of its own, and calls `then` with each.
fn collect(
    from: impl BufRead + Send + 'static,
    into: &Arc<Mutex<String>>,
    mut then: impl FnMut(&str) + Send + 'static,
) -> std::thread::JoinHandle<()> {
    let into = Arc::clone(into);
    std::thread::spawn(move || {
        for line in from.lines().map_while(Result::ok) {
            into.lock()
                .expect("nobody panics with it")
                .extend([line.as_str(), "\n"]);
            then(&line);
        }
    })
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

pub fn text<'a>(row: &'a Value, column: &str) -> &'a str {
    row[column].as_str().unwrap_or_default()
}

/// Namespace, pod, container and workload that a row has for its client or its server.
pub fn end(row: &Value, end: &str) -> String {
    let columns = ["namespace", "pod", "container", "workload"];
    columns.map(|column| text(row, &format!("{end}_{column}"))).join(" ")
}

/// The server's names in the rows, and how many rows have them.
pub fn named(rows: &[Value]) -> BTreeMap<String, usize> {
    let mut names = BTreeMap::new();
    for row in rows {
        let server = end(row, "server");
        assert_eq!(end(row, "client"), server, "both ends are the same process");
        *names.entry(server).or_default() += 1;
    }
    names
}

pub fn requests(count: u64) -> Vec<String> {
    ["http", "-c", "1", "-n"]
        .map(String::from)
        .into_iter()
        .chain([count.to_string()])
        .collect()
}
