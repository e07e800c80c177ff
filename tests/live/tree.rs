//! The tree of the command: what it starts is recorded wherever it goes, and waited for.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::harness::{Group, Live, REQUEST, Recorder};
use crate::support::{count, rows};

/// Moves to the cgroup that is the first argument; children.
const PROGRAM: &str = r#"
import ctypes, time

other_cgroup = sys.argv[1]
def leave():
    with open(other_cgroup + "/cgroup.procs", "w") as procs:
        procs.write("0")
def child(work):
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    return pid
def wait(pid):
    assert os.waitpid(pid, 0)[1] == 0
"#;

/// A process moves itself, its child inherits that; one is moved by its parent; one is cloned into the other cgroup.
const WAYS: &str = r#"
def mover():
    leave()
    request("/moved")
    wait(child(lambda: request("/below-one-that-moved")))
    os.execv("/bin/true", ["true", "executed-in-other-cgroup"])
wait(child(mover))

ready, go = os.pipe()
def moved():
    os.read(ready, 1)
    request("/was-moved")
pid = child(moved)
with open(other_cgroup + "/cgroup.procs", "w") as procs:
    procs.write(str(pid))
os.write(go, b"!")
wait(pid)

# clone3 with CLONE_INTO_CGROUP (5.7): no move is seen.
directory = os.open(other_cgroup, os.O_RDONLY)
arguments = (ctypes.c_uint64 * 11)(1 << 33, 0, 0, 0, 17, 0, 0, 0, 0, 0, directory)
pid = ctypes.CDLL(None).syscall(435, arguments, ctypes.sizeof(arguments))
assert pid >= 0
if pid == 0:
    request("/born-in-other-cgroup")
    os._exit(0)
wait(pid)
request("/stayed")
"#;

#[test]
fn what_the_command_starts_is_recorded_in_whatever_cgroup_it_is() {
    let Some(live) = Live::begin("a tree that leaves its cgroup", &["python3", "bash"]) else {
        return;
    };
    // The best backend; and the one of old kernels.
    for options in [&["--force"][..], &["--force", "--backend", "systp"]] {
        let group = Group::make();
        let program = live.write("program.py", &[REQUEST, PROGRAM, WAYS].concat());
        let script = format!("python3 {} {}", program.display(), group.dir().display());
        let recorded = live.record_script(options, &script);
        recorded.expect_clean();
        recorded.expect_no_losses();
        let rows = recorded.rows("http");
        let paths: Vec<_> = rows.iter().filter_map(|row| row["path"].as_str()).collect();
        let expected = [
            "/moved",
            "/below-one-that-moved",
            "/was-moved",
            "/born-in-other-cgroup",
            "/stayed",
        ];
        assert_eq!(paths, expected, "{options:?}");
        assert_eq!(count(&rows, "complete", true), 5, "{rows:#?}");
        assert_eq!(count(&rows, "side", "both"), 5, "{rows:#?}");
        for row in &rows[..4] {
            assert_eq!(row["client_cgroup"], group.path(), "{row:#}");
        }
        let processes = recorded.rows("processes");
        let executed = |row: &&serde_json::Value| {
            row["argv"]
                .as_str()
                .is_some_and(|a| a.ends_with("executed-in-other-cgroup"))
        };
        let executed: Vec<_> = processes.iter().filter(executed).collect();
        assert_eq!(executed.len(), 1, "{processes:#?}");
        assert_eq!(executed[0]["exit_code"], 0);
    }
}

/// The only process that is left of the tree has left the command's cgroup.
const OUTLIVES: &str = r#"
parent = os.getpid()
def late():
    leave()
    while os.getppid() == parent:
        time.sleep(0.01)
    request("/late")
child(late)
"#;

#[test]
fn recording_goes_on_until_the_whole_tree_has_ended() {
    let Some(live) = Live::begin("a tree that outlives its command", &["python3", "bash"]) else {
        return;
    };
    let group = Group::make();
    let program = live.write("program.py", &[REQUEST, PROGRAM, OUTLIVES].concat());
    let script = format!("python3 {} {}", program.display(), group.dir().display());
    let recorded = live.record_script(&[], &script);
    recorded.expect_clean();
    let rows = recorded.rows("http");
    assert_eq!(rows.len(), 1, "{rows:#?}");
    assert_eq!((&rows[0]["path"], &rows[0]["side"]), (&"/late".into(), &"both".into()));
}

/// Ends by SIGTERM only.
const STAYS: &str = r#"
def stay():
    leave()
    request("/stays")
    # Its output must not keep the test waiting should it stay.
    for stream in 1, 2:
        os.dup2(os.open("/dev/null", os.O_WRONLY), stream)
    open(sys.argv[2], "w").close()
    while True:
        time.sleep(1)
wait(child(stay))
"#;

#[test]
fn what_has_left_the_commands_cgroup_is_asked_to_end_too() {
    let Some(live) = Live::begin("a tree that is asked to end", &["python3"]) else {
        return;
    };
    let group = Group::make();
    let program = live.write("program.py", &[REQUEST, PROGRAM, STAYS].concat());
    let (file, ready) = (live.path("cap.mdf"), live.path("ready"));
    let words = [
        Path::new("-o"),
        &file,
        Path::new("--"),
        Path::new("python3"),
        &program,
        group.dir(),
        &ready,
    ];
    let recorder = Recorder::start(&words.map(Path::as_os_str));
    let begun = Instant::now();
    while !ready.exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the request is not made");
        std::thread::sleep(Duration::from_millis(5));
    }
    let finished = recorder.stop().expect_code(&[0]);
    assert!(group.pids().is_empty(), "it still runs: {}", finished.stderr);
    assert_eq!(count(&rows(&file, "http"), "path", "/stays"), 1);
}
