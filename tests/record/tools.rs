//! What the tests share: starting mdf, reading captures, own cgroups.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use masdeepflow::format::header::Header;
use masdeepflow::format::reader::Reader;
use masdeepflow::format::record::*;

use crate::support::may_record;
pub use crate::support::mdf;

/// Nothing here takes longer, unless it hangs.
pub const LONG: Duration = Duration::from_secs(60);

/// Not root, and in every /etc/passwd.
pub const NOBODY: u32 = 65534;

/// mdf as `sudo` starts it for nobody.
pub fn sudo() -> Command {
    let id = NOBODY.to_string();
    let mut command = mdf();
    command
        .env("SUDO_UID", &id)
        .env("SUDO_GID", &id)
        .env("SUDO_USER", "nobody");
    command.env("HOME", "/root");
    command
}

/// Makes a named pipe.
pub fn make_pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// The cgroup that a recorder makes for its command.
pub fn home_of(recorder: &Recorder) -> PathBuf {
    cgroup_root().join(format!("mdf-{}", recorder.child.id()))
}

/// Whether a live test can run.
#[track_caller]
pub fn live() -> bool {
    may_record(std::thread::current().name().unwrap_or("a live test of mdf record"))
}

pub fn signal(child: &Child, signal: i32) {
    // SAFETY: two integers; the process is this test's own child, not yet waited for.
    assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
}

/// Waits until something holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LONG, "this never came: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits for the end of a process; one that hangs is killed, and the test fails.
pub fn end(child: &mut Child) -> ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if begun.elapsed() > LONG {
            child.kill().unwrap();
            panic!("mdf hangs");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A recorder that runs, with its standard error in a file.
pub struct Recorder {
    pub child: Child,
    log: PathBuf,
}

impl Recorder {
    /// Starts `mdf record` in this folder.
    pub fn start(folder: &Path, words: &[&str]) -> Recorder {
        let mut command = mdf();
        command.arg("record").args(words);
        // The caller of the tests may ignore them (nohup), and the recorder would too.
        let reset = || {
            for number in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT] {
                // SAFETY: the default action has no handler.
                unsafe { libc::signal(number, libc::SIG_DFL) };
            }
            Ok(())
        };
        // SAFETY: signal(2) may be called between fork and exec.
        unsafe { command.pre_exec(reset) };
        Recorder::spawn(folder, command)
    }

    pub fn spawn(folder: &Path, mut command: Command) -> Recorder {
        let log = folder.join("log");
        let file = std::fs::File::create(&log).unwrap();
        command.current_dir(folder).stdin(Stdio::null()).stderr(file);
        Recorder {
            child: command.spawn().unwrap(),
            log,
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until the probes are attached.
    pub fn attached(mut self) -> Recorder {
        until("the line that says it is attached", || {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "mdf ended: {}", self.log());
            self.log().contains("attached in")
        });
        self
    }

    /// Waits for its end; its exit code and messages.
    pub fn end(mut self) -> (i32, String) {
        let status = end(&mut self.child);
        let log = self.log();
        (status.code().unwrap_or(-1), log)
    }

    pub fn stop(self) -> (i32, String) {
        signal(&self.child, libc::SIGINT);
        self.end()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // Only when a test fails: then neither it nor its command must be left behind.
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
            remove_cgroup(&home_of(self));
        }
    }
}

/// A cgroup of the test's own; its processes are ended and it is removed with this value.
pub struct OwnCgroup {
    pub path: PathBuf,
}

impl OwnCgroup {
    pub fn new(name: &str) -> OwnCgroup {
        let path = cgroup_root().join(format!("mdf-test-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        OwnCgroup { path }
    }

    pub fn id(&self) -> u64 {
        std::fs::metadata(&self.path).unwrap().ino()
    }

    /// A command that runs in it.
    pub fn command(&self, words: &[String]) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "echo 0 > \"$1/cgroup.procs\" && shift && exec \"$@\"", "sh"]);
        command.arg(&self.path).args(words);
        command
    }
}

impl Drop for OwnCgroup {
    fn drop(&mut self) {
        remove_cgroup(&self.path);
    }
}

pub fn cgroup_root() -> PathBuf {
    crate::support::cgroup_root().expect("a cgroup2 mount")
}

/// Ends what is in a cgroup that a test made, and removes it.
pub fn remove_cgroup(path: &Path) {
    let begun = Instant::now();
    while path.exists() && begun.elapsed() < LONG {
        for pid in std::fs::read_to_string(path.join("cgroup.procs"))
            .unwrap_or_default()
            .lines()
        {
            // SAFETY: two integers; the process is in a cgroup that only this test's processes are in.
            unsafe { libc::kill(pid.parse().unwrap(), libc::SIGKILL) };
        }
        let _ = std::fs::remove_dir(path);
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[derive(Debug, Clone)]
pub struct Piece {
    pub id: u64,
    pub direction: Direction,
    pub pos: u32,
    pub len: u32,
    pub pid: u32,
    pub payload: Vec<u8>,
}

/// A capture file, read.
#[derive(Debug)]
pub struct Capture {
    pub header: Header,
    pub clean: bool,
    pub damage: usize,
    pub sockets: HashMap<u64, Socket>,
    /// comm, argv, and the start of each pid's processes, in order.
    pub processes: Vec<(u32, String, String, Origin)>,
    pub exits: Vec<(u32, u32)>,
    pub cgroups: HashMap<u64, String>,
    pub data: Vec<Piece>,
    pub connects: Vec<Connect>,
    pub closes: Vec<Close>,
    /// The pid in each socket's owner record.
    pub owners: HashMap<u64, u32>,
    pub losses: BTreeMap<LossReason, (u64, u64)>,
    pub clocks: usize,
}

impl Capture {
    pub fn read(path: &Path) -> Capture {
        let bytes = std::fs::read(path).unwrap();
        let reader = Reader::open(&bytes).unwrap();
        let mut capture = Capture {
            header: reader.header().clone(),
            clean: reader.clean_end(),
            damage: reader.damage().len(),
            sockets: HashMap::new(),
            processes: Vec::new(),
            exits: Vec::new(),
            cgroups: HashMap::new(),
            data: Vec::new(),
            connects: Vec::new(),
            closes: Vec::new(),
            owners: HashMap::new(),
            losses: BTreeMap::new(),
            clocks: 0,
        };
        let mut raw = Vec::new();
        for block in reader.blocks() {
            if block.inflate(&mut raw).is_err() {
                capture.damage += 1;
                continue;
            }
            for record in masdeepflow::format::records(&raw) {
                capture.take(&record.unwrap());
            }
        }
        capture
    }

    fn take(&mut self, record: &Record<'_>) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match record {
            Record::Socket(s) => {
                self.sockets.insert(s.id, *s);
            }
            Record::Process(p) => self.processes.push((p.pid, text(p.comm), text(p.argv), p.origin)),
            Record::Exit(e) => self.exits.push((e.pid, e.status)),
            Record::Cgroup(c) => {
                self.cgroups.insert(c.id, text(c.path));
            }
            Record::Data(d) => self.data.push(Piece {
                id: d.id,
                direction: d.direction,
                pos: d.pos,
                len: d.len,
                pid: d.pid,
                payload: d.payload.to_vec(),
            }),
            Record::Connect(c) => self.connects.push(*c),
            Record::Close(c) => self.closes.push(*c),
            Record::Loss(l) => {
                let total = self.losses.entry(l.reason).or_default();
                total.0 += l.events;
                total.1 += l.bytes;
            }
            Record::Clock(_) => self.clocks += 1,
            Record::Owner(o) => {
                self.owners.insert(o.id, o.pid);
            }
            Record::Workload(_) | Record::Address(_) | Record::Remark(_) => {}
        }
    }

    /// Events lost for this reason.
    pub fn lost(&self, reason: LossReason) -> u64 {
        self.losses.get(&reason).map_or(0, |total| total.0)
    }

    /// All events, as the recorder counts them.
    pub fn events(&self) -> u64 {
        (self.data.len() + self.exits.len() + self.connects.len() + self.closes.len()) as u64
    }

    /// Bytes in each direction of each socket; fails where two pieces of one direction do not follow each other.
    pub fn streams(&self) -> HashMap<(u64, Direction), u64> {
        let mut next: HashMap<(u64, Direction), u32> = HashMap::new();
        let mut bytes = HashMap::new();
        for piece in &self.data {
            let key = (piece.id, piece.direction);
            let end = piece.pos.wrapping_add(piece.len);
            if let Some(expected) = next.insert(key, end) {
                assert_eq!(piece.pos, expected, "a hole in socket {:x}", piece.id);
            }
            *bytes.entry(key).or_insert(0) += u64::from(piece.len);
        }
        bytes
    }
}

/// The number before this word in a line of the recorder's.
pub fn number_before(log: &str, word: &str) -> Option<u64> {
    let at = log.find(word)?;
    let digits: String = log[..at]
        .trim_end()
        .chars()
        .rev()
        .take_while(|c| c.is_ascii_digit() || *c == ',')
        .collect();
    digits
        .chars()
        .rev()
        .filter(char::is_ascii_digit)
        .collect::<String>()
        .parse()
        .ok()
}
