//! Where a recording goes, and to whom the files belong.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use super::tools::*;
use super::workload::{EVENTS, Talk};

fn owner_and_mode(path: &Path) -> (u32, u32, u32) {
    let metadata = path.symlink_metadata().unwrap();
    (metadata.uid(), metadata.gid(), metadata.permissions().mode() & 0o7777)
}

#[test]
fn files_belong_to_who_called_sudo() {
    if !live() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let talk = Talk {
        pause: Duration::from_millis(1),
        ..Talk::of(300, 64)
    };
    for options in [
        &["-o", "cap.mdf"][..],
        &["-o", "rotated.mdf", "--rotate-time", "100ms"],
        &["-o", "ring.mdf", "--ring", "60s"],
    ] {
        let mut command = sudo();
        command
            .arg("record")
            .args(options)
            .args(["--user", "root", "--"])
            .args(talk.words());
        let (code, log) = Recorder::spawn(folder.path(), command).end();
        assert_eq!(code, 0, "{log}");
    }
    let mut made: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "mdf"))
        .collect();
    made.sort();
    assert!(made.len() >= 4, "{made:?}");
    for path in made {
        assert_eq!(owner_and_mode(&path), (NOBODY, NOBODY, 0o600), "{}", path.display());
    }
}

#[test]
fn a_link_under_the_name_of_the_output_gives_nothing_away() {
    if !live() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("roots"), "precious").unwrap();
    symlink(path("roots"), path("cap.mdf")).unwrap();
    for (force, expected) in [(None, 1), (Some("--force"), 0)] {
        let mut command = sudo();
        command
            .args(["record", "-o", "cap.mdf"])
            .args(force)
            .args(["--", "true"]);
        let (code, log) = Recorder::spawn(folder.path(), command).end();
        assert_eq!(code, expected, "{log}");
        assert_eq!(owner_and_mode(&path("roots")).0, 0);
        assert_eq!(std::fs::read(path("roots")).unwrap(), b"precious");
    }
    assert_eq!(owner_and_mode(&path("cap.mdf")).0, NOBODY, "the link was replaced");
}

#[test]
fn a_pipe_that_somebody_else_has_put_there_gets_nothing_and_holds_nobody() {
    if !live() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // Under the name of the output, through a link, under the name of a part, and under that of the ring's dump.
    for (pipe, options, code) in [
        ("cap.mdf", &["-o", "cap.mdf"][..], 1),
        ("other-file", &["-o", "link.mdf"], 1),
        ("rotated-00000.mdf", &["-o", "rotated.mdf", "--rotate-size", "1M"], 0),
        ("ring-00000.mdf", &["-o", "ring.mdf", "--ring", "60s"], 0),
    ] {
        let path = folder.path().join(pipe);
        make_pipe(&path);
        chown(&path, Some(NOBODY), None).unwrap();
        if pipe == "other-file" {
            symlink(&path, folder.path().join("link.mdf")).unwrap();
        }
        let mut reader = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&path)
            .unwrap();
        for force in [None, Some("--force")] {
            if pipe == "other-file" && force.is_some() {
                // The link is replaced, as any file is.
                continue;
            }
            let mut command = mdf();
            command.arg("record").args(options).args(force).args(["--", "true"]);
            let begun = std::time::Instant::now();
            let (ended, log) = Recorder::spawn(folder.path(), command).end();
            assert_eq!(ended, code, "{pipe} {force:?}: {log}");
            assert!(begun.elapsed() < Duration::from_secs(25), "{log}");
            assert!(path.symlink_metadata().unwrap().mode() & libc::S_IFMT == libc::S_IFIFO);
        }
        let mut bytes = Vec::new();
        let _ = reader.read_to_end(&mut bytes);
        assert!(bytes.is_empty(), "{pipe}");
        if code == 0 {
            let next = folder.path().join(pipe.replace("00000", "00001"));
            assert!(Capture::read(&next).clean);
        }
    }
}

#[test]
fn names_of_parts_that_are_taken_cost_nothing() {
    if !live() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    // Not parts, even with --force.
    for name in ["cap-20261128.mdf", "cap-123456789.mdf", "cap-00001.mdf"] {
        std::fs::write(path(name), "precious").unwrap();
    }
    make_pipe(&path("cap-00002.mdf"));
    let talk = Talk {
        pause: Duration::from_micros(500),
        ..Talk::of(2_000, 64)
    };
    let command = talk.words();
    let mut words = vec!["-o", "cap.mdf", "--force", "--rotate-time", "200ms", "--"];
    words.extend(command.iter().map(String::as_str));
    let mut events = 0;
    // The second one replaces the parts of the first.
    for _ in 0..2 {
        let (code, log) = Recorder::start(folder.path(), &words).end();
        assert_eq!(code, 0, "{log}");
        let [first, second] = ["cap-00001.mdf", "cap-00002.mdf"];
        let note = format!("2 names from {first} to {second} exist and are passed over");
        assert!(log.contains(&note), "{log}");
        events = 0;
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() && std::fs::read(&path).unwrap().starts_with(b"\x89MDF") {
                events += Capture::read(&path).data.len() as u64;
            }
        }
    }
    assert_eq!(events, 2_000 * EVENTS);
    for name in ["cap-20261128.mdf", "cap-123456789.mdf", "cap-00001.mdf"] {
        assert_eq!(std::fs::read(path(name)).unwrap(), b"precious", "{name}");
    }
}

#[test]
fn a_capture_goes_to_standard_output_and_the_commands_output_does_not() {
    if !live() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for name in ["-", "/dev/stdout", "/dev/fd/1"] {
        let output = mdf()
            .current_dir(folder.path())
            .args(["record", "-o", name, "--", "echo", "printed by the command"])
            .output()
            .unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{log}");
        assert!(
            log.contains("printed by the command") && log.contains("standard output"),
            "{log}"
        );
        let path = folder.path().join("cap.mdf");
        std::fs::write(&path, &output.stdout).unwrap();
        assert!(Capture::read(&path).clean, "{name}");
        std::fs::remove_file(&path).unwrap();
        // A file of the shell's is written to as the shell has opened it.
        let mut command = mdf();
        command.args(["record", "-o", name, "--", "true"]);
        command.current_dir(folder.path()).stdout(File::create(&path).unwrap());
        assert!(command.stderr(Stdio::null()).status().unwrap().success());
        assert!(Capture::read(&path).clean, "{name}");
        std::fs::remove_file(&path).unwrap();
    }
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        0,
        "no file is called -"
    );
}

#[test]
fn a_recording_that_nobody_reads_any_more_ends_and_is_told() {
    if !live() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let talk = Talk {
        pause: Duration::from_millis(1),
        ..Talk::of(1_000_000, 64)
    };
    let mut command = mdf();
    command
        .args(["record", "-o", "-", "--"])
        .args(talk.words())
        .stdout(Stdio::piped());
    let mut recorder = Recorder::spawn(folder.path(), command).attached();
    drop(recorder.child.stdout.take());
    let (code, log) = recorder.end();
    assert_eq!(code, 3, "{log}");
    assert!(
        log.contains("Broken pipe") && log.contains("the file could not be written"),
        "{log}"
    );
}

#[test]
fn a_pipe_that_nobody_reads_yet_is_waited_for_until_a_signal_comes() {
    if !live() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    make_pipe(&folder.path().join("pipe"));
    let recorder = Recorder::start(folder.path(), &["-o", "pipe", "--", "true"]);
    until("the message", || {
        recorder.log().contains("waiting until somebody reads")
    });
    let home = home_of(&recorder);
    let (code, log) = recorder.stop();
    assert_eq!(code, 1, "{log}");
    assert!(!home.exists(), "{log}");
}

#[test]
fn a_command_that_is_killed_before_it_starts_is_no_success() {
    if !live() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // The command is held back until somebody reads.
    make_pipe(&folder.path().join("pipe"));
    let recorder = Recorder::start(folder.path(), &["-o", "pipe", "--", "true"]);
    until("it waits", || recorder.log().contains("waiting until somebody reads"));
    let procs = home_of(&recorder).join("cgroup.procs");
    let command: i32 = std::fs::read_to_string(&procs).unwrap().trim().parse().unwrap();
    // SAFETY: two integers; the process is in the cgroup that this test's recorder made for its command.
    assert_eq!(unsafe { libc::kill(command, libc::SIGKILL) }, 0);
    until("it is gone", || std::fs::read_to_string(&procs).unwrap().is_empty());
    let reader = File::open(folder.path().join("pipe")).unwrap();
    let (code, log) = recorder.end();
    drop(reader);
    // Whether this is noticed before or after the command was to be let go.
    match code {
        1 => assert!(log.contains("was ended before it could be started"), "{log}"),
        code => assert_eq!(code, 128 + libc::SIGKILL, "{log}"),
    }
}
