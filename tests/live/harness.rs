//! Recording in a test: cgroups that are cleaned up, recorders that are stopped, captures that are read back.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{
    Finished, Guard, all_installed, cgroup_root, drain, may_record, mdf, run_within, traffic_gen_path,
};

/// What the recorder prints on standard error once it records everything.
const READY: &str = "attached in";

/// One live test at a time: two would take each other's processor time, and some demand that nothing is lost.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A live test that runs.
pub struct Live {
    pub dir: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Live {
    /// Begins a live test that needs these programs; `None` where it is `not_run`.
    #[track_caller]
    pub fn begin(name: &str, programs: &[&str]) -> Option<Self> {
        if !may_record(name) || !all_installed(name, programs) {
            return None;
        }
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        Some(Live { dir, _turn: turn })
    }

    /// A path in the test's own directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file into the test's own directory.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).expect("the test's directory can be written");
        path
    }

    /// `mdf record -o cap.mdf OPTIONS -- COMMAND`, to its end.
    #[track_caller]
    pub fn record<S: AsRef<std::ffi::OsStr>>(&self, options: &[&str], command: &[S]) -> Recorded {
        let file = self.path("cap.mdf");
        let mut record = mdf();
        record
            .arg("record")
            .arg("-o")
            .arg(&file)
            .args(options)
            .arg("--")
            .args(command);
        Recorded {
            finished: run_within(&mut record, Duration::from_secs(180)),
            file,
        }
    }

    /// Records a script of the shell, run with `-e`; functions that scripts need are there.
    #[track_caller]
    pub fn record_script(&self, options: &[&str], script: &str) -> Recorded {
        let finished = self.path("script-finished");
        let script = self.write(
            "script.sh",
            &format!("{SCRIPT_HEAD}\n{script}\n: >{}\n", finished.display()),
        );
        let recorded = self.record(options, &[Path::new("/bin/bash"), &script]);
        assert!(
            finished.exists(),
            "the script failed: {}{}",
            recorded.finished.stdout,
            recorded.finished.stderr
        );
        recorded
    }

    /// Records the traffic generator; its own report of what it did, and the capture.
    #[track_caller]
    pub fn record_traffic(&self, words: &[&str]) -> (serde_json::Value, Recorded) {
        let report = self.path("report.json");
        let script = format!(
            "{} {} >{}",
            traffic_gen_path().display(),
            words.join(" "),
            report.display()
        );
        let recorded = self.record_script(&[], &script);
        recorded.expect_clean();
        let text = fs::read_to_string(&report).expect("the generator has written its report");
        (serde_json::from_str(&text).expect("the report is JSON"), recorded)
    }
}

/// What scripts may use: `await_port PORT` returns when somebody listens there.
const SCRIPT_HEAD: &str = r#"set -e
await_port() { until (exec 3<>/dev/tcp/127.0.0.1/"$1") 2>/dev/null; do sleep 0.02; done; }
"#;

/// For programs in Python that begin with it: `request(path)` makes one request to a server thread of the same process, on a
/// new connection; `/path@port` sets the server's port.
pub const REQUEST: &str = r#"
import os, socket, sys, threading

def request(path):
    path, _, port = path.partition("@")
    listener = socket.create_server(("127.0.0.1", int(port or 0)))
    def serve():
        conn, _ = listener.accept()
        got = b""
        while b"\r\n\r\n" not in got:
            got += conn.recv(65536)
        conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        conn.close()
    server = threading.Thread(target=serve)
    server.start()
    s = socket.create_connection(listener.getsockname())
    s.sendall(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path.encode())
    got = b""
    while part := s.recv(65536):
        got += part
    assert got.endswith(b"ok")
    server.join()
"#;

/// A finished recording.
pub struct Recorded {
    pub finished: Finished,
    pub file: PathBuf,
}

impl Recorded {
    /// Demands that the recorder and its command ended well.
    #[track_caller]
    pub fn expect_clean(&self) {
        assert_eq!(
            self.finished.code(),
            0,
            "the recorder printed: {}",
            self.finished.stderr
        );
    }

    #[track_caller]
    pub fn rows(&self, table: &str) -> Vec<serde_json::Value> {
        crate::support::rows(&self.file, table)
    }

    /// Demands that no event was lost anywhere.
    #[track_caller]
    pub fn expect_no_losses(&self) {
        let lost = crate::support::lost_events(&self.file);
        assert_eq!(
            lost,
            0,
            "events were lost: {:?}\n{}",
            self.rows("losses"),
            self.finished.stderr
        );
    }
}

/// A cgroup (version 2) for the processes of one test. Dropping it ends them and removes it.
pub struct Group {
    dir: PathBuf,
    path: String,
    /// What was made for it, outermost first.
    made: Vec<PathBuf>,
}

impl Group {
    pub fn make() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Group::named(&format!("/mdf-test-{}-{number}", std::process::id()))
    }

    /// With this path; what of it is not there yet is made.
    pub fn named(path: &str) -> Self {
        let mut dir = cgroup_root().expect("cgroup2 is mounted");
        let mut made = Vec::new();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            dir.push(part);
            if !dir.exists() {
                fs::create_dir(&dir).expect("root can make a cgroup");
                made.push(dir.clone());
            }
        }
        assert_eq!(made.last(), Some(&dir), "the cgroup {path} is somebody else's");
        Group {
            dir,
            path: path.to_owned(),
            made,
        }
    }

    /// Its path below the root of the hierarchy.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// A command that will run in it.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let procs = std::ffi::CString::new(self.dir.join("cgroup.procs").into_os_string().into_encoded_bytes());
        let procs = procs.expect("the path has no NUL");
        // SAFETY: between fork and exec only system calls that are safe there: open, write, close.
        unsafe {
            command.pre_exec(move || {
                let fd = libc::open(procs.as_ptr(), libc::O_WRONLY);
                if fd < 0 || libc::write(fd, b"0".as_ptr().cast(), 1) != 1 {
                    return Err(std::io::Error::last_os_error());
                }
                libc::close(fd);
                Ok(())
            });
        }
        command
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn pids(&self) -> Vec<i32> {
        let text = fs::read_to_string(self.dir.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let started = Instant::now();
        while fs::remove_dir(&self.dir).is_err() && started.elapsed() < Duration::from_secs(10) {
            for pid in self.pids() {
                // SAFETY: a signal to a process that this test started: it is in the cgroup that the test made.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
            thread::sleep(Duration::from_millis(10));
        }
        for dir in self.made.iter().rev().skip(1) {
            let _ = fs::remove_dir(dir);
        }
    }
}

/// A recorder in the background.
pub struct Recorder {
    child: Guard,
    stdout: Option<thread::JoinHandle<String>>,
    stderr: Option<thread::JoinHandle<String>>,
}

impl Recorder {
    /// Starts `mdf record OPTIONS` and returns once it records.
    #[track_caller]
    pub fn start(options: &[&std::ffi::OsStr]) -> Self {
        let mut command = mdf();
        command.arg("record").args(options);
        Recorder::spawn(command)
    }

    /// The same by a command that becomes the recorder.
    #[track_caller]
    pub fn spawn(mut command: Command) -> Self {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = Guard(child.expect("cannot start mdf"));
        let stdout = drain(child.0.stdout.take().expect("stdout is a pipe"));
        let errors = child.0.stderr.take().expect("stderr is a pipe");
        let (ready, is_ready): (_, Receiver<()>) = channel();
        let stderr = thread::spawn(move || {
            let mut all = String::new();
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                if line.contains(READY) {
                    let _ = ready.send(());
                }
                all.push_str(&line);
                all.push('\n');
            }
            all
        });
        if is_ready.recv_timeout(Duration::from_secs(20)).is_err() {
            let _ = child.0.kill();
            panic!("the recorder does not record: {}", stderr.join().unwrap_or_default());
        }
        Recorder {
            child,
            stdout: Some(stdout),
            stderr: Some(stderr),
        }
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: a signal to our own child, which was not waited for yet.
        unsafe { libc::kill(self.child.0.id() as i32, signal) };
    }

    /// Waits for its end; its output.
    #[track_caller]
    pub fn wait(mut self) -> Finished {
        let status = self.child.wait(Duration::from_secs(60));
        let text = |reader: Option<thread::JoinHandle<String>>| reader.and_then(|r| r.join().ok()).unwrap_or_default();
        Finished {
            status,
            stdout: text(self.stdout.take()),
            stderr: text(self.stderr.take()),
        }
    }

    /// Asks it to stop, as Ctrl-C does, and waits.
    #[track_caller]
    pub fn stop(self) -> Finished {
        self.signal(libc::SIGINT);
        self.wait()
    }
}
