//! Recording programs that the tests start: exact counts, filters, several files, signals.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use masdeepflow::format::record::*;

use super::tools::*;
use super::workload::{EVENTS, Talk};

/// Records a command to its end.
fn record(folder: &Path, words: &[&str], command: &[String]) -> (i32, String) {
    let mut all: Vec<&str> = words.to_vec();
    all.push("--");
    all.extend(command.iter().map(String::as_str));
    Recorder::start(folder, &all).end()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn everything_that_a_command_says_is_in_the_file() {
    if !live() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let talk = Talk::of(777, 100);
    let (code, log) = record(folder.path(), &["-o", "cap.mdf"], &talk.words());
    assert_eq!(code, 0, "{log}");
    for line in [
        "backend socktp",
        "the command's process tree",
        "nothing was lost",
        "the command exited with 0",
    ] {
        assert!(log.contains(line), "{log}");
    }
    let path = folder.path().join("cap.mdf");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    let capture = Capture::read(&path);
    assert!(capture.clean && capture.damage == 0 && capture.losses.is_empty());
    assert_eq!(capture.header.filters, "the command's process tree");
    assert!(capture.clocks >= 2, "at the start and at the end");
    assert_eq!(capture.data.len() as u64, 777 * EVENTS);
    let streams = capture.streams();
    assert_eq!(streams.len(), 4);
    assert!(streams.values().all(|bytes| *bytes == 77_700), "{streams:?}");
    assert_eq!(number_before(&log, " events with"), Some(capture.events()));

    let sent = |n: u64| {
        capture
            .data
            .iter()
            .filter(|piece| piece.payload.starts_with(format!("round {n:012} ").as_bytes()))
            .count()
    };
    assert!(
        (0..777).all(|round| sent(round) as u64 == EVENTS),
        "each round is there with its own bytes"
    );

    let roles: BTreeSet<Role> = capture.sockets.values().map(|socket| socket.role).collect();
    assert_eq!(roles, BTreeSet::from([Role::Client, Role::Server, Role::Listener]));
    assert_eq!(capture.connects.len(), 1);
    let talker = capture.data[0].pid;
    let names: Vec<&str> = capture
        .processes
        .iter()
        .filter(|p| p.0 == talker)
        .map(|p| p.1.as_str())
        .collect();
    assert_eq!(names.first(), Some(&"sh"), "{names:?}");
    assert!(capture.exits.contains(&(talker, 0)));
    let home: Vec<&String> = capture.cgroups.values().filter(|path| path.contains("/mdf-")).collect();
    assert_eq!(home.len(), 1, "its cgroup has a name: {:?}", capture.cgroups);
    assert!(
        !cgroup_root().join(home[0].trim_start_matches('/')).exists(),
        "and is gone"
    );
}

#[test]
fn a_thousand_processes_that_live_a_millisecond_are_all_there() {
    if !live() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let script = "i=0; while [ $i -lt 1000 ]; do /bin/ls -d / >/dev/null; i=$((i+1)); done";
    let (code, log) = record(folder.path(), &["-o", "cap.mdf"], &words(&["sh", "-c", script]));
    assert_eq!(code, 0, "{log}");
    let capture = Capture::read(&folder.path().join("cap.mdf"));
    let pids: BTreeSet<u32> = capture
        .processes
        .iter()
        .filter(|p| p.1 == "ls" && p.2 == "/bin/ls\0-d\0/\0")
        .map(|p| p.0)
        .collect();
    assert_eq!(pids.len(), 1000);
    let exits = capture
        .exits
        .iter()
        .filter(|(pid, status)| pids.contains(pid) && *status == 0)
        .count();
    assert_eq!(exits, 1000);
}

#[test]
fn the_exit_code_of_the_command_is_told() {
    if !live() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (script, expected, words_of_it) in [
        ("exit 7", 7, "the command exited with 7"),
        (
            "kill -KILL $$",
            128 + libc::SIGKILL,
            "the command was killed by signal 9",
        ),
        ("exit 0", 0, "the command exited with 0"),
    ] {
        let command = words(&["sh", "-c", script]);
        let (code, log) = record(folder.path(), &["-o", "cap.mdf", "--force"], &command);
        assert_eq!(code, expected, "{log}");
        assert!(log.contains(words_of_it), "{log}");
    }
}

#[test]
fn losses_come_before_the_exit_code_of_the_command() {
    if !live() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut command = words(&["sh", "-c", "\"$@\"; exit 7", "sh"]);
    command.extend(Talk::of(4_000, 1_000).words());
    let too_small = ["-o", "cap.mdf", "--ring", "60s", "--ring-size", "4k"];
    let (code, log) = record(folder.path(), &too_small, &command);
    assert_eq!(code, 3, "{log}");
    assert!(
        log.contains("the command exited with 7") && log.contains("the memory ring was too small"),
        "{log}"
    );
}

#[test]
fn a_filter_on_a_pid_takes_that_process_and_connections_that_it_has_already() {
    if !live() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    let talk = Talk {
        wait: true,
        ..Talk::of(50, 64)
    };
    let mut selected = talk.command(folder.path()).spawn().unwrap();
    let mut unwanted = talk.command(other.path()).spawn().unwrap();
    let (connected, other_connected) = (folder.path().join("connected"), other.path().join("connected"));
    until("both are connected", || connected.exists() && other_connected.exists());

    let recorder = Recorder::start(folder.path(), &["-o", "cap.mdf", "--pid", &selected.id().to_string()]).attached();
    // The snapshot comes with the first blocks.
    let path = folder.path().join("cap.mdf");
    until("the snapshot is in the file", || {
        Capture::read(&path).sockets.len() >= 3
    });
    for folder in [&folder, &other] {
        std::fs::write(folder.path().join("go"), "").unwrap();
    }
    assert!(end(&mut selected).success());
    assert!(end(&mut unwanted).success());
    let (code, log) = recorder.stop();
    assert_eq!(code, 0, "{log}");

    let capture = Capture::read(&path);
    assert_eq!(capture.data.len() as u64, 50 * EVENTS);
    assert!(
        capture.data.iter().all(|piece| piece.pid == selected.id()),
        "the other process is not recorded"
    );
    assert_eq!(capture.streams().len(), 4);
    let port: u16 = std::fs::read_to_string(&connected).unwrap().parse().unwrap();
    let used: BTreeMap<Role, Opened> = capture
        .data
        .iter()
        .map(|piece| capture.sockets[&piece.id])
        .inspect(|socket| assert!(socket.local.port == port || socket.remote.port == port))
        .map(|socket| (socket.role, socket.opened))
        .collect();
    let expected = BTreeMap::from([(Role::Client, Opened::Snapshot), (Role::Server, Opened::Snapshot)]);
    assert_eq!(used, expected, "known from before, with their roles");
}

#[test]
fn filters_on_a_cgroup_and_on_a_port_take_what_they_say() {
    if !live() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let cgroup = OwnCgroup::new("filter");
    let talk = Talk {
        wait: true,
        ..Talk::of(20, 64)
    };
    let first = tempfile::tempdir().unwrap();
    let second = tempfile::tempdir().unwrap();
    let mut children = Vec::new();
    for talker in [&first, &second] {
        children.push(
            cgroup
                .command(&talk.words())
                .current_dir(talker.path())
                .spawn()
                .unwrap(),
        );
        until("it is connected", || talker.path().join("connected").exists());
    }
    let port = std::fs::read_to_string(first.path().join("connected")).unwrap();
    let id = cgroup.id().to_string();
    let all = Recorder::start(folder.path(), &["-o", "all.mdf", "--cgroup", &id]).attached();
    let path = cgroup.path.to_str().unwrap().to_owned();
    let some_folder = tempfile::tempdir().unwrap();
    let some = Recorder::start(
        some_folder.path(),
        &["-o", "some.mdf", "--cgroup", &path, "--port", &port],
    )
    .attached();
    for talker in [&first, &second] {
        std::fs::write(talker.path().join("go"), "").unwrap();
    }
    children.iter_mut().for_each(|child| assert!(end(child).success()));
    for recorder in [all, some] {
        let (code, log) = recorder.stop();
        assert_eq!(code, 0, "{log}");
    }
    let all = Capture::read(&folder.path().join("all.mdf"));
    assert_eq!(all.data.len() as u64, 2 * 20 * EVENTS);
    let some = Capture::read(&some_folder.path().join("some.mdf"));
    assert_eq!(some.data.len() as u64, 20 * EVENTS);
    assert_eq!(
        some.exits.len(),
        all.exits.len(),
        "a filter on payload does not hide processes"
    );
}

#[test]
fn limits_end_the_recording() {
    if !live() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let talk = Talk {
        pause: Duration::from_micros(200),
        ..Talk::of(1_000_000, 64)
    };
    let (code, log) = record(
        folder.path(),
        &["-o", "events.mdf", "--max-events", "1000"],
        &talk.words(),
    );
    assert_eq!(code, 0, "{log}");
    assert!(log.contains("the limit on events is reached"), "{log}");
    assert_eq!(Capture::read(&folder.path().join("events.mdf")).events(), 1000);

    let (code, log) = record(folder.path(), &["-o", "time.mdf", "--duration", "500ms"], &talk.words());
    assert_eq!(code, 0, "{log}");
    assert!(
        log.contains("the duration is over") && log.contains("the command was killed by signal 15"),
        "{log}"
    );

    let (code, log) = record(folder.path(), &["-o", "size.mdf", "--max-size", "20k"], &talk.words());
    assert_eq!(code, 0, "{log}");
    assert!(log.contains("the limit on size is reached"), "{log}");
    let size = std::fs::metadata(folder.path().join("size.mdf")).unwrap().len();
    assert!((20_000..500_000).contains(&size), "{size}");
}

#[test]
fn a_signal_finishes_the_file_and_ends_the_command() {
    if !live() {
        return;
    }
    let by_default = [libc::SIGUSR2, libc::SIGALRM, libc::SIGABRT, libc::SIGXCPU];
    for number in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT]
        .into_iter()
        .chain(by_default)
    {
        let folder = tempfile::tempdir().unwrap();
        let talk = Talk {
            pause: Duration::from_millis(1),
            ..Talk::of(1_000_000, 64)
        };
        let command = talk.words();
        let mut all = vec!["-o", "cap.mdf", "--"];
        all.extend(command.iter().map(String::as_str));
        let recorder = Recorder::start(folder.path(), &all).attached();
        let path = folder.path().join("cap.mdf");
        until("there is data", || {
            path.exists() && !Capture::read(&path).data.is_empty()
        });
        let home = home_of(&recorder);
        assert!(home.exists());
        signal(&recorder.child, number);
        let (code, log) = recorder.end();
        assert_eq!(code, 0, "{log}");
        assert!(log.contains("the command was killed by signal 15"), "{log}");
        assert!(!home.exists(), "its cgroup is gone");
        let capture = Capture::read(&path);
        assert!(capture.clean && capture.damage == 0);
        assert!(
            capture.exits.iter().any(|(_, status)| *status == 15),
            "its end was recorded too"
        );
    }
}

#[test]
fn rotated_parts_are_complete_and_together_hold_everything() {
    if !live() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let talk = Talk {
        pause: Duration::from_micros(500),
        ..Talk::of(3_000, 400)
    };
    let (code, log) = record(
        folder.path(),
        &["-o", "cap.mdf", "--rotate-time", "300ms"],
        &talk.words(),
    );
    assert_eq!(code, 0, "{log}");
    let mut parts: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "mdf"))
        .collect();
    parts.sort();
    assert!(parts.len() >= 4, "{parts:?}");
    let mut data = 0;
    let mut recordings = BTreeSet::new();
    for (number, path) in parts.iter().enumerate() {
        let capture = Capture::read(path);
        assert!(capture.clean && capture.damage == 0 && capture.losses.is_empty());
        assert_eq!(capture.header.part as usize, number);
        recordings.insert(capture.header.recording);
        for piece in &capture.data {
            assert!(capture.sockets.contains_key(&piece.id), "a part names its sockets");
            assert!(
                capture.processes.iter().any(|process| process.0 == piece.pid),
                "and its processes"
            );
        }
        data += capture.data.len() as u64;
    }
    assert_eq!(data, 3_000 * EVENTS);
    assert_eq!(recordings.len(), 1);
}

#[test]
fn only_the_last_parts_are_kept() {
    if !live() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let talk = Talk {
        pause: Duration::from_micros(500),
        ..Talk::of(2_000, 400)
    };
    let options = ["-o", "cap.mdf", "--rotate-time", "100ms", "--keep", "2"];
    let (code, log) = record(folder.path(), &options, &talk.words());
    assert_eq!(code, 0, "{log}");
    let parts = std::fs::read_dir(folder.path())
        .unwrap()
        .filter(|entry| {
            entry
                .as_ref()
                .unwrap()
                .path()
                .extension()
                .is_some_and(|extension| extension == "mdf")
        })
        .count();
    assert_eq!(parts, 2);
}

#[test]
fn the_memory_ring_is_written_on_a_signal_and_at_the_end() {
    if !live() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let talk = Talk {
        wait: true,
        ..Talk::of(500, 64)
    };
    let command = talk.words();
    let mut all = vec!["-o", "cap.mdf", "--ring", "60s", "--"];
    all.extend(command.iter().map(String::as_str));
    let recorder = Recorder::start(folder.path(), &all).attached();
    until("it is connected", || folder.path().join("connected").exists());
    assert!(!folder.path().join("cap-00000.mdf").exists());
    signal(&recorder.child, libc::SIGUSR1);
    until("the ring is written", || {
        recorder.log().contains("memory ring written to")
    });
    let first = Capture::read(&folder.path().join("cap-00000.mdf"));
    assert!(first.clean && first.data.is_empty());
    assert_eq!(first.connects.len(), 1);

    std::fs::write(folder.path().join("go"), "").unwrap();
    let (code, log) = recorder.end();
    assert_eq!(code, 0, "{log}");
    let second = Capture::read(&folder.path().join("cap-00001.mdf"));
    assert_eq!(second.data.len() as u64, 500 * EVENTS);
    assert!(second.connects.is_empty(), "what was written is not written again");
    assert!(second.data.iter().all(|piece| second.sockets.contains_key(&piece.id)));
    assert_eq!((first.header.part, second.header.part), (0, 1));
    assert_eq!(first.header.recording, second.header.recording);
}
