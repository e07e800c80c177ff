//! Times are the host's, wherever the recorder runs.

use std::process::Command;

use chrono::{SecondsFormat, Utc};
use serde_json::Value;

use crate::filters::{Talker, paths};
use crate::harness::{Live, Recorder};
use crate::support::{mdf_path, rows};

/// Enters a time namespace whose clocks are ahead by this time, and becomes a program there (CLONE_NEWTIME; the namespace of
/// one's children can be entered by oneself).
const ENTER: &str = r#"
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x80) == 0, os.strerror(ctypes.get_errno())
with open("/proc/self/timens_offsets", "w") as offsets:
    offsets.write("monotonic %s\nboottime %s\n" % (sys.argv[1], sys.argv[1]))
assert libc.setns(os.open("/proc/self/ns/time_for_children", os.O_RDONLY), 0x80) == 0, os.strerror(ctypes.get_errno())
os.execv(sys.argv[2], sys.argv[2:])
"#;

#[test]
fn times_are_the_hosts_also_in_a_time_namespace() {
    let Some(live) = Live::begin("a time namespace", &["python3"]) else {
        return;
    };
    let enter = live.write("enter.py", ENTER);
    // The second is no multiple of the tick by which /proc rounds the starts of processes.
    for (number, offset) in ["864000 0", "5 123456789", "-7 999999999"].into_iter().enumerate() {
        let now = || Utc::now().to_rfc3339_opts(SecondsFormat::Nanos, true);
        let begun = now();
        let mut talker = Talker::start(&live, &mut Command::new("env"), &[]);
        let file = live.path(&format!("{number}.mdf"));
        let mut record = Command::new("python3");
        record.arg(&enter).arg(offset).arg(mdf_path());
        record
            .args(["record", "-o"])
            .arg(&file)
            .args(["--pid", &talker.pid.to_string()]);
        let recorder = Recorder::spawn(record);
        talker.request("/when");
        let pid = talker.pid;
        talker.end();
        recorder.stop().expect_code(&[0]);
        let ended = now();
        let is_between = |row: &Value, column: &str| {
            let time = row[column].as_str().unwrap_or_default();
            assert!(
                begun.as_str() <= time && time <= ended.as_str(),
                "{column} {begun} {time} {ended}: {row:#}"
            );
        };
        let requests = rows(&file, "http");
        assert_eq!(paths(&requests), ["/when"]);
        is_between(&requests[0], "start");
        // Found in /proc, its exit recorded by the kernel side: one process.
        let mut processes = rows(&file, "processes");
        processes.retain(|row| row["pid"] == pid);
        assert_eq!(processes.len(), 1, "{processes:#?}");
        is_between(&processes[0], "start");
        is_between(&processes[0], "exit");
        for row in rows(&file, "connections") {
            is_between(&row, "open");
        }
    }
}
