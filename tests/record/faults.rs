//! What can go wrong while recording: never a hang, never a corrupt file, never a blocked workload, and what was lost
//! is counted to the event.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use masdeepflow::format::record::*;

use super::tools::*;
use super::workload::{EVENTS, HOLE_BYTES, ROUNDS_AFTER, Talk, live_through_a_hole, overwrite_vector};

/// `mdf record` of a command that talks.
fn recording(words: &[&str], talk: Talk) -> Command {
    let mut command = mdf();
    command.arg("record").args(words).arg("--").args(talk.words());
    command
}

/// A recorder with a small file system of its own at `small`, in a mount namespace of its own: gone with the process.
/// `script` runs the recorder as `"$@"`.
fn on_small_disk(folder: &Path, size: &str, script: &str, talk: Talk) -> Recorder {
    std::fs::create_dir(folder.join("small")).unwrap();
    let inner = recording(&["-o", "small/cap.mdf"], talk);
    let script = format!("mount -t tmpfs -o size={size} none small && {script}");
    let mut command = Command::new("unshare");
    command
        .args(["-m", "sh", "-c", &script, "sh"])
        .arg(inner.get_program())
        .args(inner.get_args());
    Recorder::spawn(folder, command)
}

/// The events that the summary counts as lost, on the line with this text.
fn said_lost(log: &str, words: &str) -> u64 {
    let line = log.lines().find(|line| line.contains(words)).unwrap_or_default();
    let count = line.rsplit(": ").next().unwrap_or_default();
    number_before(count, " event").unwrap_or(0)
}

/// Each event is in the file or counted there as lost for this reason, and the summary has the same numbers.
fn assert_accounted(capture: &Capture, log: &str, reason: LossReason, words: &str) {
    let lost = capture.lost(reason);
    assert!(lost > 0 && lost == said_lost(log, words), "{lost}: {log}");
    assert_eq!(
        number_before(log, " events with"),
        Some(capture.events() + lost),
        "{log}"
    );
}

#[test]
fn a_killed_recorder_leaves_a_readable_file_and_a_running_command() {
    if !live() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let talk = Talk {
        pause: Duration::from_micros(300),
        ..Talk::of(1_000_000, 200)
    };
    let mut recorder = Recorder::spawn(folder.path(), recording(&["-o", "cap.mdf"], talk)).attached();
    let path = folder.path().join("cap.mdf");
    until("there is data", || {
        path.exists() && Capture::read(&path).data.len() > 500
    });
    let home = home_of(&recorder);
    signal(&recorder.child, libc::SIGKILL);
    end(&mut recorder.child);
    let alive = std::fs::read_to_string(home.join("cgroup.procs")).unwrap_or_default();
    remove_cgroup(&home);
    assert!(!alive.is_empty(), "the command goes on");

    let capture = Capture::read(&path);
    assert!(!capture.clean, "nobody wrote the end");
    assert!(capture.data.len() > 500);
    capture.streams();
    // A cut at any point leaves what is before it.
    let bytes = std::fs::read(&path).unwrap();
    let cut = folder.path().join("cut.mdf");
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let half = Capture::read(&cut);
    assert!(half.data.len() < capture.data.len());
}

#[test]
fn a_stopped_recorder_loses_what_does_not_fit_and_counts_it() {
    if !live() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let talk = Talk {
        wait: true,
        ..Talk::of(20_000, 1_000)
    };
    let words = ["-o", "cap.mdf", "--buffer-size", "256k"];
    let recorder = Recorder::spawn(folder.path(), recording(&words, talk)).attached();
    until("it is connected", || folder.path().join("connected").exists());
    signal(&recorder.child, libc::SIGSTOP);
    std::fs::write(folder.path().join("go"), "").unwrap();
    // The workload ends although nobody listens.
    let procs = cgroup_root().join(format!("mdf-{}/cgroup.procs", recorder.child.id()));
    until("the command has ended", || {
        std::fs::read_to_string(&procs).unwrap().is_empty()
    });
    signal(&recorder.child, libc::SIGCONT);
    let (code, log) = recorder.end();
    assert_eq!(code, 3, "{log}");
    assert!(log.contains("the ring buffer was full"), "{log}");
    let capture = Capture::read(&folder.path().join("cap.mdf"));
    assert!(capture.clean && capture.damage == 0);
    let lost = capture.lost(LossReason::RingFull);
    let others = capture.events() - capture.data.len() as u64;
    assert!(lost > 0);
    // Data, and the exits, connect and closes that may be among what was lost.
    let total = capture.data.len() as u64 + lost;
    assert!(
        (20_000 * EVENTS..=20_000 * EVENTS + 8).contains(&total),
        "{total} with {others} others"
    );
}

#[test]
fn state_records_that_did_not_fit_into_the_ring_are_emitted_again() {
    if !live() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut command = mdf();
    command.args(["record", "-o", "cap.mdf", "--buffer-size", "64k", "--"]);
    command.args(live_through_a_hole());
    let recorder = Recorder::spawn(folder.path(), command).attached();
    let path = folder.path().join("cap.mdf");
    until("it is connected", || folder.path().join("connected").exists());
    until("the connections are in the file", || {
        Capture::read(&path).connects.len() == 2
    });
    signal(&recorder.child, libc::SIGSTOP);
    std::fs::write(folder.path().join("go"), "").unwrap();
    until("the hole is over", || folder.path().join("lost").exists());
    signal(&recorder.child, libc::SIGCONT);
    // The ring is emptied before the losses are looked at.
    until("the loss is in the file", || {
        Capture::read(&path).lost(LossReason::RingFull) > 0
    });
    std::fs::write(folder.path().join("again"), "").unwrap();
    let (code, log) = recorder.end();
    assert_eq!(code, 3, "{log}");

    let capture = Capture::read(&path);
    assert_eq!(capture.connects.len(), 2, "the third one fell into the hole");
    assert!(
        capture.data.iter().all(|piece| capture.sockets.contains_key(&piece.id)),
        "data without a socket record"
    );
    let talker = capture.data[0].pid;
    let ports = std::fs::read_to_string(folder.path().join("lost")).unwrap();
    let ports: Vec<u16> = ports.split(' ').map(|port| port.parse().unwrap()).collect();
    let [accepted, opened] = ports[..] else {
        panic!("two ports")
    };
    let sockets = |port: u16, role: Role| -> Vec<&Socket> {
        let is_it = |socket: &&Socket| socket.role == role && (socket.local.port == port || socket.remote.port == port);
        capture.sockets.values().filter(is_it).collect()
    };
    for (port, role, how) in [
        (accepted, Role::Client, Opened::Connect),
        (accepted, Role::Server, Opened::Accept),
        (opened, Role::Client, Opened::Connect),
        (opened, Role::Server, Opened::Accept),
    ] {
        let [socket] = sockets(port, role)[..] else {
            panic!("{role:?} of {port}: {:?}", capture.sockets)
        };
        assert_eq!((socket.opened, socket.positions), (how, true), "{socket:?}");
        let owner = capture.owners.get(&socket.id).copied().unwrap_or(socket.pid);
        assert_eq!(owner, talker, "{role:?} of {port}: {log}");
        for (direction, start) in [
            (Direction::Sent, socket.send_pos),
            (Direction::Received, socket.receive_pos),
        ] {
            let pieces: Vec<&Piece> = (capture.data.iter())
                .filter(|piece| piece.id == socket.id && piece.direction == direction)
                .collect();
            assert_eq!(pieces.len() as u64, ROUNDS_AFTER, "{role:?} of {port}, {direction:?}");
            // Positions are those of the handshake, not of the first event after the hole.
            let missing = 3 * HOLE_BYTES;
            assert_eq!(
                pieces[0].pos.wrapping_sub(start) as usize,
                missing,
                "{role:?} of {port}"
            );
        }
    }
    assert_eq!(sockets(opened, Role::Listener).len(), 1, "emitted when it is closed");
    let named: Vec<_> = (capture.processes.iter())
        .filter(|process| process.1 == "cat")
        .map(|process| (process.2.as_str(), process.3))
        .collect();
    assert_eq!(
        named,
        [("", Origin::Exec)],
        "started in the hole, exited after it: {log}"
    );
}

#[test]
fn a_full_disk_is_counted_and_the_file_stays_readable() {
    if !live() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let talk = Talk {
        pause: Duration::from_micros(20),
        ..Talk::of(20_000, 300)
    };
    let script = "\"$@\"; code=$?; cp small/cap.mdf cap.mdf; exit $code";
    let (code, log) = on_small_disk(folder.path(), "128k", script, talk).end();
    assert_eq!(code, 3, "{log}");
    assert!(log.contains("No space left"), "{log}");
    let lost = number_before(&log, " events (").expect("a count");
    assert!(log.contains("the file could not be written"), "{log}");
    let capture = Capture::read(&folder.path().join("cap.mdf"));
    assert!(!capture.data.is_empty());
    let total = number_before(&log, " events with").unwrap();
    assert!(lost > 0 && total >= 20_000 * EVENTS, "{log}");
    let kept = number_before(&log, " kept in").unwrap();
    assert_eq!(
        kept,
        capture.events(),
        "what the summary counts as kept is in the file: {log}"
    );
}

#[test]
fn a_removed_directory_is_reported_and_ends_nothing() {
    if !live() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("below")).unwrap();
    let talk = Talk {
        wait: true,
        ..Talk::of(3_000, 100)
    };
    let recorder = Recorder::spawn(folder.path(), recording(&["-o", "below/cap.mdf"], talk)).attached();
    until("it is connected", || folder.path().join("connected").exists());
    std::fs::remove_dir_all(folder.path().join("below")).unwrap();
    until("it is noticed", || {
        recorder.log().contains("was removed while being written")
    });
    std::fs::write(folder.path().join("go"), "").unwrap();
    let (code, log) = recorder.end();
    assert_eq!(code, 3, "{log}");
    assert!(
        log.contains("the file could not be written") && log.contains("no file was written"),
        "{log}"
    );
}

#[test]
fn a_disk_that_has_room_again_gets_new_blocks_and_a_record_of_what_is_missing() {
    if !live() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let talk = Talk {
        pause: Duration::from_micros(50),
        ..Talk::of(1_000_000, 300)
    };
    // Little room is left.
    let script = "head -c 960k /dev/zero > small/ballast && exec \"$@\"";
    let recorder = on_small_disk(folder.path(), "1m", script, talk).attached();
    let small = std::path::PathBuf::from(format!("/proc/{}/cwd/small", recorder.child.id()));
    // Keeps the file when its mount namespace goes.
    let mut file = File::open(small.join("cap.mdf")).unwrap();
    until("the disk is full", || recorder.log().contains("No space left"));
    std::fs::remove_file(small.join("ballast")).unwrap();
    until("the losses are in the file", || {
        Capture::read(&small.join("cap.mdf")).lost(LossReason::DiskError) > 0
    });
    let (code, log) = recorder.stop();
    assert_eq!(code, 3, "{log}");
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    let path = folder.path().join("cap.mdf");
    std::fs::write(&path, bytes).unwrap();
    let capture = Capture::read(&path);
    assert!(capture.clean, "{log}");
    assert_accounted(&capture, &log, LossReason::DiskError, "the file could not be written");
}

#[test]
fn a_directory_that_comes_back_gets_a_new_file_with_a_record_of_what_is_missing() {
    if !live() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let below = folder.path().join("below");
    std::fs::create_dir(&below).unwrap();
    let talk = Talk {
        pause: Duration::from_micros(300),
        ..Talk::of(1_000_000, 100)
    };
    let recorder = Recorder::spawn(folder.path(), recording(&["-o", "below/cap.mdf"], talk)).attached();
    let path = below.join("cap.mdf");
    until("there is data", || !Capture::read(&path).data.is_empty());
    std::fs::remove_dir_all(&below).unwrap();
    until("it is noticed", || {
        recorder.log().contains("was removed while being written")
    });
    std::fs::create_dir(&below).unwrap();
    // The header is written first, so a file can be there that is not readable yet.
    until("there is data again", || {
        path.metadata().is_ok_and(|file| file.len() > 10_000) && !Capture::read(&path).data.is_empty()
    });
    let (code, log) = recorder.stop();
    assert_eq!(code, 3, "{log}");
    let capture = Capture::read(&path);
    assert!(capture.clean && capture.damage == 0, "{log}");
    assert!(
        capture.data.iter().all(|piece| capture.sockets.contains_key(&piece.id)),
        "what is known goes before"
    );
    assert_accounted(&capture, &log, LossReason::DiskError, "the file could not be written");
}

#[test]
fn payload_that_cannot_be_read_is_counted_and_its_event_kept() {
    if !live() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut command = mdf();
    // The backends that look at the kernel's copy of the vector are not deceived by this.
    command.args(["record", "-o", "cap.mdf", "--backend", "socktp", "--"]);
    command.args(overwrite_vector());
    let (code, log) = Recorder::spawn(folder.path(), command).end();
    assert_eq!(code, 3, "{log}");
    let capture = Capture::read(&folder.path().join("cap.mdf"));
    assert_eq!(capture.losses.get(&LossReason::PageFault), Some(&(1, 16)), "{log}");
    assert_eq!(
        said_lost(&log, "payload was in memory that could not be read"),
        1,
        "{log}"
    );
    let received: Vec<&Piece> = capture
        .data
        .iter()
        .filter(|piece| piece.direction == Direction::Received)
        .collect();
    assert_eq!((received.len(), received[0].len, received[0].payload.len()), (1, 16, 0));
}

#[test]
fn payload_beyond_the_snaplen_is_counted_on_its_own_and_is_no_loss() {
    if !live() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let words = ["-o", "cap.mdf", "--snaplen", "16"];
    let (code, log) = Recorder::spawn(folder.path(), recording(&words, Talk::of(50, 100))).end();
    assert_eq!(code, 0, "{log}");
    let capture = Capture::read(&folder.path().join("cap.mdf"));
    let events = 50 * EVENTS;
    assert_eq!(
        capture.losses.into_iter().collect::<Vec<_>>(),
        [(LossReason::Truncated, (events, events * 84))]
    );
    assert!(
        capture
            .data
            .iter()
            .all(|piece| (piece.len, piece.payload.len()) == (100, 16))
    );
    assert!(
        log.contains("nothing was lost") && log.contains("payload of 200 events not kept whole, longer than 16 bytes"),
        "{log}"
    );
}

#[test]
fn what_falls_out_of_a_memory_ring_that_is_too_small_is_counted() {
    if !live() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let words = ["-o", "cap.mdf", "--ring", "60s", "--ring-size", "4k"];
    let (code, log) = Recorder::spawn(folder.path(), recording(&words, Talk::of(4_000, 1_000))).end();
    assert_eq!(code, 3, "{log}");
    let capture = Capture::read(&folder.path().join("cap-00000.mdf"));
    assert!(capture.clean && capture.damage == 0);
    let lost = said_lost(&log, "the memory ring was too small");
    assert!(lost > 0, "{log}");
    assert_eq!(
        number_before(&log, " events with"),
        Some(capture.events() + lost),
        "{log}"
    );
}

#[test]
fn a_slow_disk_blocks_nobody_and_is_counted_to_the_event() {
    if !live() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("slow");
    make_pipe(&fifo);
    let begun = Instant::now();
    // More than pipe and queue hold together.
    let talk = Talk::of(30_000, 3_000);
    let recorder = Recorder::spawn(folder.path(), recording(&["-o", "slow", "--buffer-size", "32M"], talk));
    let mut reader = File::open(&fifo).unwrap();
    let procs = cgroup_root().join(format!("mdf-{}/cgroup.procs", recorder.child.id()));
    until("the command runs", || recorder.log().contains("attached in"));
    // Nothing is read before the command has ended.
    until("the command has ended", || {
        std::fs::read_to_string(&procs).unwrap_or_default().is_empty()
    });
    let took = begun.elapsed();
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    let (code, log) = recorder.end();
    let path = folder.path().join("cap.mdf");
    std::fs::write(&path, bytes).unwrap();
    let capture = Capture::read(&path);
    assert!(capture.clean && capture.damage == 0);
    let lost = capture.lost(LossReason::QueueFull) + capture.lost(LossReason::RingFull);
    assert!(took < LONG && lost > 0 && code == 3, "{log}");
    let total = capture.data.len() as u64 + lost;
    assert!(
        (30_000 * EVENTS..=30_000 * EVENTS + 8).contains(&total),
        "{total}: {log}"
    );
}

#[test]
fn a_reader_of_standard_output_that_stalls_costs_lines_only() {
    if !live() || cfg!(not(feature = "analyze")) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut command = recording(&["-o", "cap.mdf", "--print"], Talk::of(10_000, 64));
    command.stdout(Stdio::piped());
    let mut recorder = Recorder::spawn(folder.path(), command);
    let unread = recorder.child.stdout.take();
    let (code, log) = recorder.end();
    drop(unread);
    assert_eq!(code, 0, "the file is whole: {log}");
    assert!(log.contains("standard output is stalled"), "{log}");
    assert_eq!(
        Capture::read(&folder.path().join("cap.mdf")).data.len() as u64,
        10_000 * EVENTS
    );
}

#[test]
fn lines_that_nobody_reads_and_no_file_keeps_are_a_loss() {
    if !live() || cfg!(not(feature = "analyze")) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut command = recording(&[], Talk::of(60_000, 1_000));
    command.stdout(Stdio::piped());
    let mut recorder = Recorder::spawn(folder.path(), command);
    let unread = recorder.child.stdout.take();
    let (code, log) = recorder.end();
    drop(unread);
    assert_eq!(code, 3, "{log}");
    assert!(
        said_lost(&log, "standard output was slower than the events") > 0,
        "{log}"
    );
}

#[test]
fn a_reader_of_standard_output_that_goes_away_is_no_error() {
    if !live() || cfg!(not(feature = "analyze")) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let talk = Talk {
        pause: Duration::from_millis(1),
        ..Talk::of(1_000_000, 64)
    };
    let mut command = recording(&[], talk);
    command.stdout(Stdio::piped());
    let mut recorder = Recorder::spawn(folder.path(), command).attached();
    drop(recorder.child.stdout.take());
    let (code, log) = recorder.end();
    assert_eq!(code, 0, "{log}");
    assert!(log.contains("standard output was closed"), "{log}");
}

#[test]
fn a_second_signal_ends_at_once_although_the_disk_hangs() {
    if !live() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("slow");
    make_pipe(&fifo);
    let talk = Talk::of(1_000_000, 3_000);
    let recorder = Recorder::spawn(folder.path(), recording(&["-o", "slow"], talk));
    let reader = File::open(&fifo).unwrap();
    // A page is less than what is to be written, so the writer hangs for ever.
    // SAFETY: a descriptor that is open here, and an integer.
    assert!(unsafe { libc::fcntl(reader.as_raw_fd(), libc::F_SETPIPE_SZ, 4096) } >= 0);
    let recorder = recorder.attached();
    let waiting = || {
        let mut bytes: libc::c_int = 0;
        // SAFETY: FIONREAD fills one integer.
        assert_eq!(
            unsafe { libc::ioctl(reader.as_raw_fd(), libc::FIONREAD, &mut bytes) },
            0
        );
        bytes
    };
    // A write that does not fit after what is in the page waits with all of its bytes; events come all the time.
    let mut unchanged = (0, 0);
    until("the pipe takes no more", || {
        let now = waiting();
        unchanged = if now > 0 && now == unchanged.0 {
            (now, unchanged.1 + 1)
        } else {
            (now, 0)
        };
        unchanged.1 > 200
    });
    let home = home_of(&recorder);
    signal(&recorder.child, libc::SIGINT);
    until("the command was ended and its cgroup is gone", || !home.exists());
    let begun = Instant::now();
    signal(&recorder.child, libc::SIGINT);
    let (code, log) = recorder.end();
    assert_eq!(code, 1, "{log}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{log}");
}
