//! Signals and limits of the host: whatever ends a recording, the file is finished and the command is not cut off.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::tools::*;
use super::workload::Talk;

#[test]
fn a_terminal_that_goes_away_has_the_memory_ring_written() {
    if !live() {
        return;
    }
    for number in [libc::SIGHUP, libc::SIGQUIT] {
        let folder = tempfile::tempdir().unwrap();
        let talk = Talk {
            wait: true,
            ..Talk::of(10, 64)
        };
        let command = talk.words();
        let mut all = vec!["-o", "cap.mdf", "--ring", "60s", "--"];
        all.extend(command.iter().map(String::as_str));
        let recorder = Recorder::start(folder.path(), &all).attached();
        until("it is connected", || folder.path().join("connected").exists());
        signal(&recorder.child, number);
        let (code, log) = recorder.end();
        assert_eq!(code, 0, "{log}");
        let capture = Capture::read(&folder.path().join("cap-00000.mdf"));
        assert!(capture.clean && capture.connects.len() == 1, "{log}");
    }
}

#[test]
fn a_signal_that_the_caller_ignores_ends_nothing() {
    if !live() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let cgroup = OwnCgroup::new("nohup");
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP QUIT; exec \"$@\"", "sh"]);
    command
        .arg(mdf().get_program())
        .args(["record", "-o", "cap.mdf", "--cgroup"]);
    command.arg(&cgroup.path);
    let recorder = Recorder::spawn(folder.path(), command).attached();
    signal(&recorder.child, libc::SIGHUP);
    signal(&recorder.child, libc::SIGQUIT);
    // What comes after them is recorded, so they have ended nothing.
    let talk = Talk::of(5, 64).words();
    let mut talker = cgroup.command(&talk).current_dir(folder.path()).spawn().unwrap();
    assert!(end(&mut talker).success());
    let (code, log) = recorder.stop();
    assert_eq!(code, 0, "{log}");
    assert_eq!(Capture::read(&folder.path().join("cap.mdf")).data.len(), 20, "{log}");
}

#[test]
fn a_signal_to_the_process_and_to_its_group_is_one() {
    if !live() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let ready = folder.path().join("ready");
    let mut command = mdf();
    command.args([
        "record",
        "-o",
        "cap.mdf",
        "--",
        "sh",
        "-c",
        "touch ready; exec sleep 1000",
    ]);
    command.process_group(0);
    let recorder = Recorder::spawn(folder.path(), command);
    until("the command runs", || ready.exists());
    // As timeout(1) does it; the command is in the group too.
    signal(&recorder.child, libc::SIGTERM);
    // SAFETY: two integers; the group was made for the recorder, which is not yet waited for.
    assert_eq!(unsafe { libc::kill(-(recorder.child.id() as i32), libc::SIGTERM) }, 0);
    let (code, log) = recorder.end();
    assert_eq!(code, 0, "{log}");
    assert!(
        log.contains("asked to end") && log.contains("the command was killed by signal 15"),
        "{log}"
    );
    assert!(Capture::read(&folder.path().join("cap.mdf")).clean, "{log}");
}

#[test]
fn a_limit_on_the_size_of_files_is_counted_as_a_full_disk_is() {
    if !live() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    // Blocks of 512 bytes (dash) or of 1024 (bash).
    command.args(["-c", "ulimit -c 0; ulimit -f 64; exec \"$@\"", "sh"]);
    command.arg(mdf().get_program()).args(["record", "-o", "cap.mdf", "--"]);
    command.args(
        Talk {
            pause: Duration::from_micros(20),
            ..Talk::of(20_000, 300)
        }
        .words(),
    );
    let recorder = Recorder::spawn(folder.path(), command);
    let home = home_of(&recorder);
    let (code, log) = recorder.end();
    assert_eq!(code, 3, "{log}");
    assert!(log.contains("File too large"), "{log}");
    assert!(!home.exists());
    let capture = Capture::read(&folder.path().join("cap.mdf"));
    assert!(!capture.data.is_empty());
    let kept = number_before(&log, " kept in").unwrap();
    assert_eq!(
        kept,
        capture.events(),
        "what the summary counts as kept is in the file: {log}"
    );
}

#[test]
fn what_the_recorder_ignores_the_command_does_not() {
    if !live() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let script = "grep SigIgn /proc/self/status >ignored";
    let (code, log) = Recorder::start(folder.path(), &["-o", "cap.mdf", "--", "sh", "-c", script]).end();
    assert_eq!(code, 0, "{log}");
    let ignored = std::fs::read_to_string(folder.path().join("ignored")).unwrap();
    let mask = u64::from_str_radix(ignored.split_whitespace().last().unwrap(), 16).unwrap();
    for signal in [libc::SIGXFSZ, libc::SIGPIPE] {
        assert_eq!(mask >> (signal - 1) & 1, 0, "{ignored}");
    }
}

/// A recorder as the foreground process of a terminal of its own.
fn on_terminal(folder: &Path, words: &[&str]) -> (Recorder, File) {
    let (mut master, mut slave) = (0, 0);
    let nothing = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: the first two are filled with new descriptors; the rest may be null.
    let made = unsafe { libc::openpty(&mut master, &mut slave, nothing.cast(), nothing.cast(), nothing.cast()) };
    assert_eq!(made, 0);
    // SAFETY: two descriptors that nobody else owns.
    let (master, slave) = unsafe { (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
    let mut command = mdf();
    command.arg("record").args(words);
    let terminal = slave.as_raw_fd();
    // SAFETY: system calls only, on a descriptor that is open until the command has started.
    unsafe {
        command.pre_exec(move || {
            libc::setsid();
            match libc::ioctl(terminal, libc::TIOCSCTTY, 0) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    let recorder = Recorder::spawn(folder, command);
    drop(slave);
    (recorder, master)
}

const CTRL_C: &[u8] = b"\x03";

#[test]
fn ctrl_c_lets_the_command_end_in_its_own_time() {
    if !live() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    // It has two traps, so that it is not quiet about a SIGTERM.
    let script = "trap 'echo killed >>done' TERM
        trap 'touch interrupted; until [ -e go ]; do sleep 0.05; done; echo graceful >>done; exit 9' INT
        touch ready; while :; do sleep 0.05; done";
    let (recorder, mut terminal) = on_terminal(folder.path(), &["-o", "cap.mdf", "--", "sh", "-c", script]);
    until("it runs", || path("ready").exists());
    terminal.write_all(CTRL_C).unwrap();
    until("the command has got the signal", || path("interrupted").exists());
    until("mdf prints what it waits for", || {
        recorder.log().contains("waiting for the command to end")
    });
    std::fs::write(path("go"), "").unwrap();
    let (code, log) = recorder.end();
    assert_eq!(std::fs::read_to_string(path("done")).unwrap(), "graceful\n", "{log}");
    assert_eq!(code, 0, "the user has ended it: {log}");
    assert!(log.contains("the command exited with 9"), "{log}");
    let capture = Capture::read(&path("cap.mdf"));
    assert!(capture.clean);
    assert!(
        capture.exits.iter().any(|(_, status)| *status == 9 << 8),
        "its end was recorded too: {log}"
    );
}

#[test]
fn a_second_ctrl_c_is_the_way_out() {
    if !live() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let ready = folder.path().join("ready");
    let script = "trap '' INT; touch ready; while :; do sleep 0.05; done";
    let (recorder, mut terminal) = on_terminal(folder.path(), &["-o", "cap.mdf", "--", "sh", "-c", script]);
    until("it runs", || ready.exists());
    terminal.write_all(CTRL_C).unwrap();
    until("mdf prints what it waits for", || {
        recorder.log().contains("waiting for the command to end")
    });
    let home = home_of(&recorder);
    terminal.write_all(CTRL_C).unwrap();
    let (code, log) = recorder.end();
    assert_eq!(code, 0, "{log}");
    assert!(Capture::read(&folder.path().join("cap.mdf")).clean, "{log}");
    assert!(!home.exists(), "{log}");
}
