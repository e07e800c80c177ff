//! What all process-level tests use: the built programs, a time limit for every child, and the tables as JSON.

#![allow(dead_code)] // Each test binary uses its own part of it.

pub mod captures;
pub mod packets;

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// The program under test; `MDF` in the environment names another build of it.
pub fn mdf_path() -> PathBuf {
    std::env::var_os("MDF").map_or_else(|| env!("CARGO_BIN_EXE_mdf").into(), PathBuf::from)
}

/// mdf as root starts it, also where `sudo` started the tests.
pub fn mdf() -> Command {
    let mut mdf = Command::new(mdf_path());
    mdf.env_remove("SUDO_UID").env_remove("SUDO_GID");
    mdf
}

/// The traffic generator, built with the other examples.
pub fn traffic_gen_path() -> PathBuf {
    let built = Path::new(env!("CARGO_BIN_EXE_mdf"))
        .with_file_name("examples")
        .join("traffic_gen");
    assert!(
        built.exists(),
        "{} is missing: cargo build --example traffic_gen",
        built.display()
    );
    built
}

/// How a child ended and what it printed.
#[derive(Debug)]
pub struct Finished {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    /// The exit code; a signal is a failure of the test.
    pub fn code(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| panic!("ended by a signal: {:?}\n{}", self.status, self.stderr))
    }

    /// Demands one of these exit codes.
    #[track_caller]
    pub fn expect_code(self, wanted: &[i32]) -> Self {
        let code = self.code();
        assert!(
            wanted.contains(&code),
            "exit code {code}, wanted one of {wanted:?}\nstdout: {}\nstderr: {}",
            self.stdout.chars().take(4000).collect::<String>(),
            self.stderr
        );
        self
    }
}

/// Reads all of a pipe in a thread of its own, so that no child blocks on it.
pub fn drain(pipe: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let (mut pipe, mut bytes) = (pipe, Vec::new());
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Ends a child when a test fails in the middle.
pub struct Guard(pub Child);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

impl Guard {
    /// Waits for the end, not longer than this.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().expect("cannot wait for a child") {
                return status;
            }
            assert!(started.elapsed() < limit, "a child did not end within {limit:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Runs a command to its end, within two minutes.
#[track_caller]
pub fn run(command: &mut Command) -> Finished {
    run_within(command, Duration::from_secs(120))
}

#[track_caller]
pub fn run_within(command: &mut Command, limit: Duration) -> Finished {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = Guard(child.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}")));
    let stdout = drain(child.0.stdout.take().expect("stdout is a pipe"));
    let stderr = drain(child.0.stderr.take().expect("stderr is a pipe"));
    let status = child.wait(limit);
    Finished {
        status,
        stdout: stdout.join().expect("the reader does not panic"),
        stderr: stderr.join().expect("the reader does not panic"),
    }
}

/// `mdf analyze` of this file, one row of this table after the other, without holding them all.
#[track_caller]
pub fn each_row(file: &Path, table: &str, options: &[&str], mut each: impl FnMut(&str)) {
    let mut command = mdf();
    command
        .arg("analyze")
        .arg(file)
        .args(["--table", table, "--format", "ndjson"])
        .args(options);
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = Guard(child.expect("cannot start mdf"));
    let stderr = drain(child.0.stderr.take().expect("stderr is a pipe"));
    let stdout: ChildStdout = child.0.stdout.take().expect("stdout is a pipe");
    for line in BufReader::new(stdout).lines() {
        each(&line.expect("rows are text"));
    }
    let status = child.wait(Duration::from_secs(120));
    let stderr = stderr.join().expect("the reader does not panic");
    assert!(
        matches!(status.code(), Some(0 | 3)),
        "analyze ended with {status}: {stderr}"
    );
}

/// All rows of a table.
#[track_caller]
pub fn rows(file: &Path, table: &str) -> Vec<Value> {
    let mut rows = Vec::new();
    each_row(file, table, &[], |line| {
        rows.push(serde_json::from_str(line).expect("a row is JSON"))
    });
    rows
}

/// How many rows have this value in this column.
pub fn count(rows: &[Value], column: &str, value: impl Into<Value>) -> usize {
    let value = value.into();
    rows.iter().filter(|row| row[column] == value).count()
}

/// Events lost for reasons other than a limit that the user set: nothing may be lost in these tests. (Shortened
/// payload is counted too, and is no loss of an event.)
#[track_caller]
pub fn lost_events(file: &Path) -> u64 {
    let shortened = |row: &&Value| !matches!(row["reason"].as_str(), Some("truncated" | "page_fault"));
    rows(file, "losses")
        .iter()
        .filter(shortened)
        .map(|row| row["events"].as_u64().unwrap_or(0))
        .sum()
}

/// Set where it is known that this machine cannot run all tests: those that it cannot run do not fail.
const ALLOW_NOT_RUN: &str = "MDF_ALLOW_NOT_RUN";

/// Ends a test that cannot be run on this machine. It fails, because its test program would count it as passed. With
/// `MDF_ALLOW_NOT_RUN` in the environment this returns, and so must the test; `make test` then lists it as not run.
#[track_caller]
pub fn not_run(what: &str, why: &str) {
    note("not-run", what, why);
    assert!(
        std::env::var_os(ALLOW_NOT_RUN).is_some(),
        "NOT RUN: {what}: {why} (where that cannot be changed: {ALLOW_NOT_RUN}=1)"
    );
}

/// Notes that a test ran without a part that this machine does not have; `make test` lists it.
pub fn left_out(part: &str, why: &str) {
    note("left-out", part, why);
}

/// Appends to a list that `.ci/test` prints.
fn note(list: &str, what: &str, why: &str) {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(list);
    if let Ok(mut notes) = OpenOptions::new().create(true).append(true).open(path) {
        let _ = writeln!(notes, "{what}: {why}");
    }
}

/// Whether this test may record, for which it needs root; if not, it is `not_run`.
#[track_caller]
pub fn may_record(test: &str) -> bool {
    let root = is_root();
    if !root {
        not_run(test, "recording needs root");
    }
    root
}

/// Whether all these programs are there; if not, the test is `not_run`.
#[track_caller]
pub fn all_installed(test: &str, programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| !installed(program));
    if let Some(missing) = missing {
        not_run(test, &format!("{missing} is not installed (.ci/packages test)"));
    }
    missing.is_none()
}

/// Where the cgroup v2 hierarchy is mounted, if it is.
pub fn cgroup_root() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/mounts").expect("/proc is mounted");
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ');
        let (target, kind) = (words.nth(1)?, words.next()?);
        (kind == "cgroup2").then(|| target.into())
    })
}

/// Whether a program can be found.
pub fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|dir| dir.join(program).exists())
}

#[allow(unsafe_code, reason = "the standard library has no effective user id")]
pub fn is_root() -> bool {
    // SAFETY: takes no arguments and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// A TCP port that is free now.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    listener.local_addr().expect("it is bound").port()
}
