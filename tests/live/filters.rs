//! What each filter takes, and what it leaves out.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Group, Live, REQUEST, Recorder};
use crate::support::{Guard, free_port, mdf, rows};

/// Prints its pid, and makes one request to itself for each path that it reads, on a new connection; `/path@port` sets the
/// server's port. With `&/path` a child makes the request: it is forked at once and waits for the next line.
const PROGRAM: &str = r#"
if len(sys.argv) > 1:
    with open("/proc/self/comm", "w") as comm:
        comm.write(sys.argv[1])
print("there", os.getpid(), flush=True)
for line in sys.stdin:
    path = line.strip()
    if path.startswith("&"):
        pid = os.fork()
        if pid == 0:
            print("born", flush=True)
            sys.stdin.readline()
            request(path[1:])
            os._exit(0)
        os.waitpid(pid, 0)
    else:
        request(path)
    print("done", flush=True)
"#;

/// A process that runs the program above.
pub struct Talker {
    child: Guard,
    lines: std::io::Lines<std::io::BufReader<std::process::ChildStdout>>,
    /// Its own pid: a wrapper's may be another.
    pub pid: u32,
}

impl Talker {
    pub fn start(live: &Live, command: &mut Command, name: &[&str]) -> Talker {
        let program = live.write("talker.py", &[REQUEST, PROGRAM].concat());
        // Not by a wrapper that would be another process.
        let python = Command::new("python3")
            .args(["-c", "import sys; print(sys.executable)"])
            .output();
        let python = String::from_utf8(python.expect("python3 runs").stdout).expect("a path");
        let child = command
            .arg(python.trim())
            .arg(program)
            .args(name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = Guard(child.expect("it can be started"));
        let stdout = child.0.stdout.take().expect("it is a pipe");
        let mut talker = Talker {
            lines: std::io::BufRead::lines(std::io::BufReader::new(stdout)),
            child,
            pid: 0,
        };
        let there = talker.expect("there");
        talker.pid = there.trim().parse().expect("a number");
        talker
    }

    /// Reads a line that begins so; the rest of it.
    fn expect(&mut self, word: &str) -> String {
        let line = self.lines.next().expect("it prints a line").expect("it prints text");
        line.strip_prefix(word).unwrap_or_else(|| panic!("{line}")).to_owned()
    }

    fn send(&mut self, line: &str) {
        let stdin = self.child.0.stdin.as_mut().expect("it is a pipe");
        writeln!(stdin, "{line}").expect("it reads");
    }

    pub fn request(&mut self, path: &str) {
        self.send(path);
        self.expect("done");
    }

    /// Lets it end.
    #[track_caller]
    pub fn end(mut self) {
        drop(self.child.0.stdin.take());
        self.child.wait(Duration::from_secs(20));
    }
}

/// The paths that were recorded.
pub fn paths(rows: &[Value]) -> Vec<&str> {
    rows.iter().filter_map(|row| row["path"].as_str()).collect()
}

#[test]
fn every_port_that_is_named_is_recorded_however_many_there_are() {
    let Some(live) = Live::begin("--port with many ports", &["python3"]) else {
        return;
    };
    let group = Group::make();
    let mut talker = Talker::start(&live, &mut group.command("env"), &[]);
    let mut ports: Vec<u16> = (0..41).map(|_| free_port()).collect();
    ports.sort_unstable();
    ports.dedup();
    let (left_out, selected) = ports.split_last().expect("there are some");
    let list = selected.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
    let file = live.path("cap.mdf");
    let file_name = file.to_str().expect("a path");
    let recorder = Recorder::start(&["-o", file_name, "--cgroup", group.path(), "--port", &list].map(AsRef::as_ref));
    for port in &ports {
        talker.request(&format!("/{port}@{port}"));
    }
    recorder.stop().expect_code(&[0]);
    let rows = rows(&file, "http");
    let expected: Vec<String> = selected.iter().map(|port| format!("/{port}")).collect();
    assert_eq!(paths(&rows), expected, "and not {left_out}");
}

#[test]
fn a_name_is_compared_whole_and_as_it_is_now() {
    let Some(live) = Live::begin("--comm", &["python3"]) else {
        return;
    };
    let group = Group::make();
    let names = ["mdf-live", "mdf-live-longer", "mdf-liv"];
    let mut talkers = names.map(|name| Talker::start(&live, &mut group.command("env"), &[name]));
    for (selected, name) in names.iter().enumerate() {
        let file = live.path(&format!("{selected}.mdf"));
        let file_name = file.to_str().expect("a path");
        let recorder = Recorder::start(&["-o", file_name, "--cgroup", group.path(), "--comm", name].map(AsRef::as_ref));
        for (number, talker) in talkers.iter_mut().enumerate() {
            talker.request(&format!("/{number}"));
        }
        recorder.stop().expect_code(&[0]);
        let rows = rows(&file, "http");
        assert_eq!(paths(&rows), [format!("/{selected}")]);
        assert_eq!(
            (&rows[0]["client_comm"], &rows[0]["side"]),
            (&(*name).into(), &"both".into())
        );
    }
}

#[test]
fn a_network_namespace_is_recorded_and_no_other() {
    let Some(live) = Live::begin("--netns", &["python3", "unshare", "ip"]) else {
        return;
    };
    let group = Group::make();
    let mut apart = group.command("unshare");
    apart.args(["--net", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"]);
    let mut inside = Talker::start(&live, &mut apart, &[]);
    let mut outside = Talker::start(&live, &mut group.command("env"), &[]);
    let path = format!("/proc/{}/ns/net", inside.pid);
    let inode = std::fs::metadata(&path).expect("it runs").ino().to_string();
    for (number, word) in [path, inode].iter().enumerate() {
        let file = live.path(&format!("{number}.mdf"));
        let file_name = file.to_str().expect("a path");
        let recorder =
            Recorder::start(&["-o", file_name, "--cgroup", group.path(), "--netns", word].map(AsRef::as_ref));
        inside.request("/inside");
        outside.request("/outside");
        recorder.stop().expect_code(&[0]);
        let rows = rows(&file, "http");
        assert_eq!(paths(&rows), ["/inside"]);
        assert_eq!(rows[0]["side"], "both");
    }
}

/// `mdf record`, stopped after it has looked at its filter, and before it has attached anything.
struct Stopped {
    child: Guard,
    log_file: PathBuf,
}

impl Stopped {
    fn start(live: &Live, words: &[&str]) -> Stopped {
        let log_file = live.path("log");
        let log = std::fs::File::create(&log_file).expect("the folder can be written");
        let child = mdf().arg("record").args(words).stdin(Stdio::null()).stderr(log).spawn();
        let stopped = Stopped {
            child: Guard(child.expect("cannot start mdf")),
            log_file,
        };
        stopped.until("it makes its maps", || stopped.holds("bpf-map") > 0);
        stopped.signal(libc::SIGSTOP);
        stopped.until("it is stopped", || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", stopped.child.0.id()));
            stat.is_ok_and(|stat| stat.contains(") T "))
        });
        assert_eq!(stopped.holds("bpf_link"), 0, "it was too fast for this test");
        stopped
    }

    /// How many files of this kind it has open.
    fn holds(&self, kind: &str) -> usize {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.child.0.id()));
        let links = files
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|file| std::fs::read_link(file.path()).ok());
        links.filter(|link| link.to_string_lossy().contains(kind)).count()
    }

    fn signal(&self, signal: i32) {
        // SAFETY: a signal to our own child, which was not waited for yet.
        unsafe { libc::kill(self.child.0.id() as i32, signal) };
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log_file).unwrap_or_default()
    }

    #[track_caller]
    fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let begun = Instant::now();
        while !holds() {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "never: {what}; {}",
                self.log()
            );
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Lets it go on until it records.
    fn attach(&self) {
        self.signal(libc::SIGCONT);
        self.until("it records", || self.log().contains("attached in"));
    }

    /// Lets it go on to its end; its exit code and messages.
    fn end(mut self, signal: i32) -> (i32, String) {
        self.signal(signal);
        let status = self.child.wait(Duration::from_secs(60));
        (status.code().unwrap_or(-1), self.log())
    }
}

/// A talker with the pid of a process that is gone (clone3 with set_tid, Linux 5.5).
fn with_pid(live: &Live, pid: u32) -> Talker {
    let script = r#"
import ctypes, os, sys
number = (ctypes.c_int32 * 1)(int(sys.argv[1]))
arguments = (ctypes.c_uint64 * 11)(0, 0, 0, 0, 17, 0, 0, 0, ctypes.addressof(number), 1, 0)
pid = ctypes.CDLL(None, use_errno=True).syscall(435, arguments, ctypes.sizeof(arguments))
assert pid >= 0, os.strerror(ctypes.get_errno())
if pid == 0:
    os.execv(sys.argv[2], sys.argv[2:])
sys.stdin.close()
os.waitpid(pid, 0)
"#;
    let script = live.write("number.py", script);
    let talker = Talker::start(live, Command::new("python3").arg(script).arg(pid.to_string()), &[]);
    assert_eq!(talker.pid, pid);
    talker
}

fn kill(mut child: Child) {
    child.kill().expect("it runs");
    child.wait().expect("it was not waited for");
}

#[test]
fn a_process_that_ends_while_the_recorder_attaches_is_reported_and_the_next_one_with_its_pid_is_not_recorded() {
    let Some(live) = Live::begin("--pid of a process that ends", &["python3", "sleep"]) else {
        return;
    };
    let sleeper = || Command::new("sleep").arg("1000").spawn().expect("sleep runs");
    let file = live.path("cap.mdf");
    let file_name = file.to_str().expect("a path");

    let victim = sleeper();
    let pid = victim.id().to_string();
    let stopped = Stopped::start(&live, &["-o", file_name, "--pid", &pid]);
    kill(victim);
    let (code, log) = stopped.end(libc::SIGCONT);
    assert_eq!(code, 1, "{log}");
    assert!(
        log.contains(&format!("--pid {pid}: the process ended before recording began")),
        "{log}"
    );
    assert!(!file.exists());

    // Beside one that lives.
    let mut other = Talker::start(&live, &mut Command::new("env"), &[]);
    let victim = sleeper();
    let number = victim.id();
    let (pid, other_pid) = (number.to_string(), other.pid.to_string());
    let stopped = Stopped::start(&live, &["-o", file_name, "--pid", &pid, "--pid", &other_pid]);
    kill(victim);
    let mut successor = with_pid(&live, number);
    stopped.attach();
    successor.request("/successor");
    other.request("/other");
    let (code, log) = stopped.end(libc::SIGINT);
    assert_eq!(code, 0, "{log}");
    assert!(
        log.contains(&format!("--pid {pid}: the process ended before recording began")),
        "{log}"
    );
    let rows = rows(&file, "http");
    assert_eq!(paths(&rows), ["/other"]);
}

#[test]
fn a_child_that_is_born_while_the_recorder_attaches_is_recorded() {
    let Some(live) = Live::begin("--pid of a process that forks", &["python3"]) else {
        return;
    };
    let mut parent = Talker::start(&live, &mut Command::new("env"), &[]);
    let file = live.path("cap.mdf");
    let pid = parent.pid.to_string();
    let stopped = Stopped::start(&live, &["-o", file.to_str().expect("a path"), "--pid", &pid]);
    parent.send("&/born-meanwhile");
    parent.expect("born");
    stopped.attach();
    parent.send("go");
    parent.expect("done");
    parent.request("/parent");
    let (code, log) = stopped.end(libc::SIGINT);
    assert_eq!(code, 0, "{log}");
    let rows = rows(&file, "http");
    assert_eq!(paths(&rows), ["/born-meanwhile", "/parent"]);
    assert!(rows.iter().all(|row| row["side"] == "both"));
}
