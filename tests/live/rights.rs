//! The program with capabilities of its own (docs/PRIVACY.md), run by somebody who has none.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::Live;
use crate::support::{Finished, mdf_path, run};

const NOBODY: u32 = 65_534;
/// CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE, CAP_PERFMON, CAP_BPF of <linux/capability.h>.
const CAPABILITIES: u64 = 1 << 2 | 1 << 19 | 1 << 38 | 1 << 39;

/// A copy of the program with the capabilities that docs/PRIVACY.md gives it.
fn program(live: &Live) -> PathBuf {
    let program = live.path("mdf");
    fs::copy(mdf_path(), &program).expect("the program can be copied");
    for path in [live.dir.path(), &program] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    }
    // struct vfs_cap_data, revision 2, effective.
    let (low, high) = (CAPABILITIES as u32, (CAPABILITIES >> 32) as u32);
    let words = [0x0200_0001, low, 0, high, 0].map(u32::to_le_bytes).concat();
    let path = CString::new(program.as_os_str().as_bytes()).expect("a path without NUL");
    // SAFETY: path and name end with NUL bytes; the value has the length that is given.
    let result = unsafe {
        libc::setxattr(
            path.as_ptr(),
            c"security.capability".as_ptr(),
            words.as_ptr().cast(),
            words.len(),
            0,
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    program
}

fn as_nobody(program: &Path, words: &[&str], file: Option<&Path>) -> Finished {
    let mut command = Command::new(program);
    command.args(words).args(file).uid(NOBODY).gid(NOBODY);
    run(&mut command)
}

/// A file that only root may read.
fn secret(live: &Live, name: &str, bytes: &[u8]) -> PathBuf {
    let path = live.path(name);
    fs::write(&path, bytes).expect("write");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("it is ours");
    path
}

#[test]
fn a_capture_of_roots_is_not_read_for_somebody_else() {
    let Some(live) = Live::begin("reading captures with capabilities", &[]) else {
        return;
    };
    let program = program(&live);
    let capture = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/format/v1.mdf")).expect("a fixture");
    let secret = secret(&live, "secret.mdf", &capture);
    for words in [
        &["analyze"][..],
        &["info"],
        &["replay"],
        &["import", "-o", "/dev/null", "--force"],
    ] {
        let refused = as_nobody(&program, words, Some(&secret)).expect_code(&[1]);
        assert!(
            refused.stderr.contains("Permission denied"),
            "{words:?}: {}",
            refused.stderr
        );
        assert!(refused.stdout.is_empty(), "{words:?}: {}", refused.stdout);
    }
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).expect("it is ours");
    // It has a loss.
    as_nobody(&program, &["info"], Some(&secret)).expect_code(&[3]);
}

#[test]
fn what_is_named_on_the_command_line_is_opened_with_the_rights_of_the_user() {
    let Some(live) = Live::begin("naming files with capabilities", &[]) else {
        return;
    };
    let program = program(&live);
    let list = br#"{"kind":"PodList","metadata":{},"items":[]}"#;
    let secret = secret(&live, "secret", list);
    let secret = secret.to_str().expect("UTF-8");
    for (option, source) in [
        ("--pods", "pod list"),
        ("--kubeconfig", "API server (pods)"),
        ("--kubelet-ca", "kubelet"),
    ] {
        let words = ["doctor", "--json", "--kubelet", "node1", option, secret];
        let finished = as_nobody(&program, &words, None);
        let doctor: serde_json::Value = serde_json::from_str(&finished.stdout).expect("JSON");
        let names = doctor["names"].as_array().expect("a list");
        let status = names
            .iter()
            .find(|status| status["source"] == source)
            .expect("the source");
        let what = status["what"].as_str().unwrap_or_default();
        assert!(what.contains("Permission denied"), "{option}: {status:#}");
        assert_eq!(
            doctor["capabilities"]["CAP_DAC_READ_SEARCH"], true,
            "where it is needed it is there"
        );
    }
}
