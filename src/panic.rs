//! What a panic does: it ends the program with a message and exit code 1, whatever thread it happens in, and leaves no
//! unfinished result behind.
//!
//! The release binary is compiled with `panic = "abort"`: nothing unwinds, nothing can be caught, no destructor runs.
//! Builds that could unwind behave in the same way, so that tests of one hold for the other. The process exits instead of
//! aborting, because a core file would hold what was captured.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;

use crate::{create, message};

/// From now on, a panic ends the program. `version` is named in the message.
pub fn exit_on_panic(version: &'static str) {
    std::panic::set_hook(Box::new(move |info| {
        message::say(&text(info, version));
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            message::say(&format!("backtrace:\n{backtrace}"));
        }
        create::discard_unpublished();
        std::process::exit(1)
    }));
}

fn text(info: &PanicHookInfo, version: &str) -> String {
    let payload = info.payload();
    let what = payload.downcast_ref::<&str>().copied();
    let what = what
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    let place = info.location().map(|place| format!(" at {place}")).unwrap_or_default();
    format!(
        "internal error{place}: {what}\n\
         this is a bug in mdf {version}: please report it with this message\n\
         unfinished results are discarded; a capture that was being recorded can be read up to its last whole block"
    )
}

#[cfg(test)]
pub mod tests {
    use std::io::Write;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Output};

    use super::*;

    /// Where the test that is run again finds its folder.
    const FOLDER: &str = "MDF_TEST_PANIC_FOLDER";

    /// Runs `work` in a process of its own, in which a panic ends the program: it runs this test, which is named in full,
    /// once more. `work` gets an empty folder; what it left there is returned with what was printed.
    pub fn in_own_process(test: &str, work: impl FnOnce(&Path)) -> (Output, Vec<PathBuf>) {
        if let Some(folder) = std::env::var_os(FOLDER) {
            exit_on_panic("1.2.3");
            work(Path::new(&folder));
            // Not the code that is expected.
            std::process::exit(0);
        }
        let folder = tempfile::tempdir().unwrap();
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(FOLDER, folder.path())
            .env("RUST_BACKTRACE", "0")
            .output()
            .unwrap();
        let left = std::fs::read_dir(folder.path()).unwrap();
        let left = left.map(|entry| entry.unwrap().path()).collect();
        (output, left)
    }

    #[test]
    fn a_panic_in_any_thread_ends_the_program_with_a_message_and_without_its_result() {
        let name = "panic::tests::a_panic_in_any_thread_ends_the_program_with_a_message_and_without_its_result";
        let (output, left) = in_own_process(name, |folder| {
            let (mut file, pending) = create::create(&folder.join("result"), false).unwrap();
            file.write_all(b"half").unwrap();
            assert_eq!(std::fs::read_dir(folder).unwrap().count(), 1, "the temporary file");
            let _ = std::thread::spawn(|| panic!("at\x1b[2J a loss")).join();
            pending.publish().unwrap();
        });
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.starts_with("mdf: internal error at src/panic.rs:"), "{stderr}");
        for part in [": at\\x1b[2J a loss\n", "a bug in mdf 1.2.3: please report"] {
            assert!(stderr.contains(part), "{stderr}");
        }
        assert_eq!(left, [] as [PathBuf; 0]);
    }
}
