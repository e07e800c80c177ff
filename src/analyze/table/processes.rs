//! The table `processes`.

use super::define::{Def, Key, Table, brief, column};
use crate::analyze::column::Kind::{Flag, Nanos, Number, Text, Time};
use crate::analyze::column::Value;
use crate::analyze::row::ProcessRow;

/// The table `processes`.
pub struct Processes;

/// Writes arguments separated by spaces, quoted where a shell needs it.
pub fn write_argv(to: &mut String, argv: &[u8]) {
    let argv = argv.strip_suffix(&[0]).unwrap_or(argv);
    if argv.is_empty() {
        return;
    }
    for (n, argument) in argv.split(|byte| *byte == 0).enumerate() {
        if n > 0 {
            to.push(' ');
        }
        let text = String::from_utf8_lossy(argument);
        let plain = |c: char| c.is_alphanumeric() || "-_./=:,@%+^".contains(c);
        if !text.is_empty() && text.chars().all(plain) {
            to.push_str(&text);
        } else {
            to.push('\'');
            for c in text.chars() {
                match c {
                    '\'' => to.push_str("'\\''"),
                    c => to.push(c),
                }
            }
            to.push('\'');
        }
    }
}

impl Table for Processes {
    type Row<'r> = ProcessRow<'r>;
    type Derived = ();

    #[rustfmt::skip]
    fn defs() -> &'static [Def<Processes>] {
        static DEFS: &[Def<Processes>] = &[
            brief("start", Time, "time at which the program began: fork for the first program of a process, where that was seen; else execve; else the start of the process", |r, _| Value::nonzero(r.start)),
            column("exit", Time, "time at which the process exited or ran another program; null when it was alive at the end of the capture", |r, _| Value::int(r.exit)),
            brief("pid", Number, "process id on the host", |r, _| Value::Int(r.pid.into())),
            brief("ppid", Number, "process id of the parent process on the host", |r, _| Value::Int(r.ppid.into())),
            brief("uid", Number, "user id of the process", |r, _| Value::Int(r.uid.into())),
            brief("comm", Text, "name of the process (comm)", |r, _| Value::text(r.comm)),
            column("exe", Text, "path of the executable file, with symbolic links resolved, in the mount namespace of the process; of a script, the interpreter; null beyond 1023 bytes or some 60 parts, and after a fork by a process that was not recorded", |r, _| Value::text(r.exe)),
            brief("argv", Text, "arguments of the program, separated by spaces, quoted as for a shell", |r, s| {
                s.text.clear();
                write_argv(&mut s.text, r.argv);
                Value::text(&s.text)
            }),
            column("argv_cut", Flag, "true when the arguments are only a prefix", |r, _| Value::Flag(r.argv_len as usize > r.argv.len())),
            brief("duration_ns", Nanos, "time from the start of the program to its exit, ns", |r, _| Value::int(r.duration_ns())),
            brief("exit_code", Number, "exit code of the process, 0 to 255; null when it was alive at the end, or ended by a signal", |r, _| Value::int(r.exit_code.map(u64::from))),
            brief("signal", Number, "number of the signal that ended the process; null without one", |r, _| Value::int(r.signal.map(u64::from))),
            column("origin", Text, "how the process became known: exec, fork, or snapshot when it ran before the capture", |r, _| Value::text(r.origin.name())),
            column("pid_in_ns", Number, "process id in the innermost pid namespace of the process", |r, _| Value::nonzero(r.pid_in_ns.into())),
            column("cgroup", Text, "cgroup path of the process", |r, _| Value::text(&r.party.cgroup)),
            column("container", Text, "container of the process: the name, else the short id", |r, _| Value::text(&r.party.container)),
            column("container_id", Text, "full id of the container of the process", |r, _| Value::text(&r.party.container_id)),
            column("pod", Text, "pod of the process", |r, _| Value::text(&r.party.pod)),
            column("namespace", Text, "Kubernetes namespace of the pod of the process", |r, _| Value::text(&r.party.namespace)),
            column("workload", Text, "owner of the pod of the process (such as Deployment/cart), or its systemd unit", |r, _| Value::text(&r.party.workload)),
            column("host", Text, "name of the host on which the process ran", |r, _| Value::text(&r.party.hostname)),
        ];
        DEFS
    }

    fn key(row: &ProcessRow<'_>) -> Key {
        (row.start, row.pid.into(), row.origin.byte().into())
    }
}

#[cfg(test)]
mod tests {
    use super::write_argv;

    #[test]
    fn arguments_are_quoted_as_for_a_shell() {
        let written = |argv: &[u8]| {
            let mut text = String::new();
            write_argv(&mut text, argv);
            text
        };
        assert_eq!(written(b"ls\0-l\0/tmp\0"), "ls -l /tmp");
        assert_eq!(written(b"sh\0-c\0echo 'x'\0\0"), r"sh -c 'echo '\''x'\''' ''");
        assert_eq!(written(b""), "");
        assert_eq!(written(b"cut\0pre"), "cut pre");
    }
}
