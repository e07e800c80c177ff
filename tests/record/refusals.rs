//! What `mdf record` refuses, and how. None of these needs root, and none leaves a file.

use std::os::unix::process::CommandExt;

use super::support::is_root;
use super::tools::mdf;

/// Runs it; the exit code and standard error.
fn refuse(words: &[&str]) -> (i32, String) {
    let output = mdf().arg("record").args(words).output().unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
fn without_capabilities_it_names_them_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cap.mdf");
    let mut command = mdf();
    command.args(["record", "-o"]).arg(&file);
    if is_root() {
        // SAFETY: prctl and setuid take integers; giving up every capability and root concerns the child only.
        unsafe {
            command.pre_exec(|| {
                for capability in 0..64 {
                    libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0);
                }
                Ok(())
            });
        }
    }
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("CAP_BPF"), "{stderr}");
    assert!(!file.exists());
}

#[test]
fn an_existing_file_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cap.mdf");
    std::fs::write(&file, "precious").unwrap();
    let (code, stderr) = refuse(&["-o", file.to_str().unwrap()]);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("--force"), "{stderr}");
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
}

#[test]
fn a_filter_that_means_everything_is_refused() {
    for [filter, everything] in [["--cgroup", "1"], ["--cgroup", "0"], ["--cgroup", "/"], ["--pid", "1"]] {
        let (code, stderr) = refuse(&["-o", "x.mdf", filter, everything]);
        assert_eq!(code, 1, "{stderr}");
        assert!(
            stderr.contains("whole host") && stderr.contains("leave the filter out"),
            "{stderr}"
        );
    }
}

#[test]
fn what_is_not_there_is_named() {
    for (words, expected) in [
        (["--cgroup", "/no/such/cgroup"], "/no/such/cgroup"),
        (["--netns", "no-such-namespace"], "no-such-namespace"),
        (["--pid", "4194305"], "4194305"),
        (["-o", "/no/such/folder/cap.mdf"], "/no/such/folder"),
        (["--", "/no/such/program"], "/no/such/program"),
    ] {
        let mut all = vec!["-o", "x.mdf"];
        all.retain(|_| words[0] != "-o");
        all.extend(words);
        let (code, stderr) = refuse(&all);
        assert_eq!(code, 1, "{stderr}");
        assert!(stderr.contains(expected), "{stderr}");
        assert!(!std::path::Path::new("x.mdf").exists());
    }
}

#[test]
fn a_filter_that_can_match_nothing_is_refused_with_what_to_do() {
    let inode = |path: &str| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).unwrap()).to_string();
    let pid_namespace = inode("/proc/self/ns/pid");
    for (words, code, expected) in [
        (["--comm", "a-very-long-name"], 2, "give --comm 'a-very-long-nam'"),
        (["--comm", ""], 2, "matches nothing"),
        (["--cgroup", "../../../../etc"], 1, "is not in the cgroup v2 hierarchy"),
        (["--cgroup", "/etc/passwd"], 1, "is not in the cgroup v2 hierarchy"),
        (["--cgroup", "18446744073709551615"], 1, "no cgroup has this id"),
        (["--netns", "/etc/passwd"], 1, "such as /proc/PID/ns/net"),
        (["--netns", "/proc/self/ns/pid"], 1, "such as /proc/PID/ns/net"),
        (["--netns", &pid_namespace], 1, "give it by a path"),
    ] {
        // Who cannot look at everybody's namespaces cannot know.
        if words[1] == pid_namespace && !is_root() {
            continue;
        }
        // Should it be accepted, that must not last.
        let (ended, stderr) = refuse(&["-o", "x.mdf", "--duration", "1s", words[0], words[1]]);
        assert_eq!(ended, code, "{words:?}: {stderr}");
        assert!(
            stderr.contains(words[0]) && stderr.contains(expected),
            "{words:?}: {stderr}"
        );
    }
    // A thread's number is none of a process.
    let (send, receive) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let (end, ended) = std::sync::mpsc::channel::<()>();
        // SAFETY: no arguments, no state.
        send.send((unsafe { libc::gettid() }, end)).unwrap();
        let _ = ended.recv();
    });
    let (tid, end) = receive.recv().unwrap();
    let (code, stderr) = refuse(&["-o", "x.mdf", "--duration", "1s", "--pid", &tid.to_string()]);
    drop(end);
    thread.join().unwrap();
    assert_eq!(code, 1, "{stderr}");
    assert!(
        stderr.contains(&format!("give --pid {}", std::process::id())),
        "{stderr}"
    );
    assert!(!std::path::Path::new("x.mdf").exists());
}

#[test]
fn too_few_open_files_are_named_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cap.mdf");
    for limit in [16, 24, 32, 40, 64, 127] {
        let mut command = mdf();
        command.args(["record", "-o"]).arg(&file).args(["--", "true"]);
        let limits = libc::rlimit {
            rlim_cur: limit,
            rlim_max: limit,
        };
        // SAFETY: setrlimit reads one struct, which the closure owns; it concerns the child only.
        unsafe {
            command.pre_exec(move || match libc::setrlimit(libc::RLIMIT_NOFILE, &limits) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
        let output = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{limit}: {stderr}");
        let named = format!("the limit of open files is {limit}");
        assert!(
            stderr.contains(&named) && stderr.contains("ulimit -n"),
            "{limit}: {stderr}"
        );
        assert!(!stderr.contains("verifier"), "{limit}: {stderr}");
        assert!(!file.exists());
    }
}

#[test]
fn options_that_make_no_sense_together_are_wrong_usage() {
    for words in [
        &["-o", "x.mdf", "--keep", "3"][..],
        &["-o", "x.mdf", "--keep", "0", "--rotate-size", "1M"],
        &["-o", "x.mdf", "--ring", "60s", "--rotate-size", "1M"],
        &["--ring", "60s"],
        &["--snaplen", "1M", "-o", "x.mdf"],
        &["--backend", "magic"],
        &["-o", "x.mdf", "--pid", "2", "--cgroup", "2", "--", "true"],
    ] {
        let (code, stderr) = refuse(words);
        assert_eq!(code, 2, "{words:?}: {stderr}");
    }
    assert!(!std::path::Path::new("x.mdf").exists());
}
