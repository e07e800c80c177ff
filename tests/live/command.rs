//! The command itself: what it prints, how it ends, what it refuses.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::harness::{Group, Live, Recorder};
use crate::support::{count, mdf, mdf_path, rows, run, traffic_gen_path};

#[test]
fn every_one_of_1000_short_processes_is_a_row_with_argv_and_exit() {
    let Some(live) = Live::begin("1,000 times ls", &["bash", "ls"]) else {
        return;
    };
    let recorded = live.record_script(&[], "for i in {1..1000}; do ls --width=$i / >/dev/null; done");
    recorded.expect_clean();
    recorded.expect_no_losses();
    let rows = recorded.rows("processes");
    let listed: Vec<_> = rows.iter().filter(|row| row["comm"] == "ls").collect();
    assert_eq!(listed.len(), 1000);
    for (i, row) in listed.iter().enumerate() {
        let argv = row["argv"].as_str().unwrap_or_default();
        assert!(
            argv.contains(&format!("--width={}", i + 1)),
            "row {i} has the arguments {argv}"
        );
        assert_eq!(row["exit_code"], 0, "{row}");
        assert!(!row["exit"].is_null(), "{row}");
    }
}

#[test]
fn exit_codes_and_signals_of_processes_are_told_apart() {
    let Some(live) = Live::begin("exit codes and signals", &["bash"]) else {
        return;
    };
    let (reported, recorded) = live.record_traffic(&["spawn", "-n", "12", "--killed", "2", "--request"]);
    recorded.expect_no_losses();
    let rows = recorded.rows("processes");
    let short: Vec<_> = rows
        .iter()
        .filter(|row| row["argv"].as_str().is_some_and(|a| a.contains("noop")))
        .cloned()
        .collect();
    assert_eq!(short.len() as u64, reported["processes"].as_u64().unwrap_or(0));
    assert_eq!(
        count(&short, "signal", 9) as u64,
        reported["signals"].as_u64().unwrap_or(0)
    );
    for code in 0..3u64 {
        assert_eq!(
            count(&short, "exit_code", code) as u64,
            reported[format!("exit_{code}")].as_u64().unwrap_or(0)
        );
    }
    let requests = recorded.rows("http");
    assert_eq!(
        count(&requests, "complete", true),
        12,
        "their traffic is there, however short they lived"
    );
}

#[test]
fn live_lines_name_requests_queries_and_processes() {
    let Some(live) = Live::begin("live lines", &[]) else {
        return;
    };
    let traffic = traffic_gen_path();
    let mut record = mdf();
    record
        .args(["record", "--"])
        .arg(&traffic)
        .args(["http", "-n", "7", "-c", "1", "--mix", "get,post"]);
    let finished = run(&mut record).expect_code(&[0]);
    let with = |words: &[&str]| {
        finished
            .stdout
            .lines()
            .filter(|line| words.iter().all(|word| line.contains(word)))
            .count()
    };
    assert_eq!(with(&["GET", "/items/", "200"]), 4, "{}", finished.stdout);
    assert_eq!(with(&["POST", "/items/", "200"]), 3, "{}", finished.stdout);
    assert_eq!(with(&["PROCESS", "traffic_gen"]), 1, "{}", finished.stdout);

    let file = live.path("cap.mdf");
    let mut record = mdf();
    record
        .args(["record", "--print", "-o"])
        .arg(&file)
        .arg("--")
        .arg(&traffic)
        .args(["mysql", "-n", "5", "-c", "1"]);
    let finished = run(&mut record).expect_code(&[0]);
    let lines = finished.stdout.lines().filter(|line| line.contains("SELECT")).count();
    assert_eq!(lines, 5, "{}", finished.stdout);
    assert_eq!(
        count(&rows(&file, "mysql"), "command", "COM_QUERY"),
        5,
        "--print and -o give both"
    );
}

#[test]
fn sigint_and_sigterm_finish_the_file_and_say_what_was_kept() {
    let Some(live) = Live::begin("SIGINT and SIGTERM", &["curl"]) else {
        return;
    };
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let group = Group::make();
        let file = live.path(&format!("cap-{signal}.mdf"));
        let recorder = Recorder::start(&[
            "-o".as_ref(),
            file.as_os_str(),
            "--cgroup".as_ref(),
            group.path().as_ref(),
        ]);
        run(group.command(traffic_gen_path()).args(["http", "-n", "21"])).expect_code(&[0]);
        recorder.signal(signal);
        let finished = recorder.wait().expect_code(&[0]);
        assert!(finished.stderr.contains("lost"), "{}", finished.stderr);
        assert_eq!(count(&rows(&file, "http"), "complete", true), 21);
        let mode = fs::metadata(&file).expect("the file is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "payload is nobody else's business");
        let info = run(mdf().arg("info").arg(&file)).expect_code(&[0]);
        assert!(info.stdout.contains("clean"), "{}", info.stdout);
    }
}

#[test]
fn an_existing_file_is_not_replaced_without_force() {
    let Some(live) = Live::begin("existing files", &["true"]) else {
        return;
    };
    let file = live.write("cap.mdf", "precious");
    let refused = live.record(&[], &["true"]).finished.expect_code(&[1]);
    assert!(refused.stderr.contains("--force"), "{}", refused.stderr);
    assert_eq!(fs::read_to_string(&file).expect("the file is there"), "precious");
    live.record(&["--force"], &["true"]).expect_clean();
}

#[test]
fn without_capabilities_the_error_names_what_is_missing_and_nothing_is_written() {
    let Some(live) = Live::begin("recording as nobody", &["setpriv", "true"]) else {
        return;
    };
    // The build may be where no other user may look.
    let program = live.path("mdf");
    fs::copy(mdf_path(), &program).expect("the program can be copied");
    for path in [live.dir.path(), &program] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("it is ours");
    }
    let file = live.path("cap.mdf");
    let mut nobody = std::process::Command::new("setpriv");
    nobody.args([
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--inh-caps=-all",
        "--bounding-set=-all",
    ]);
    let refused = run(nobody
        .arg(&program)
        .args(["record", "-o"])
        .arg(&file)
        .args(["--", "true"]))
    .expect_code(&[1]);
    assert!(refused.stderr.contains("CAP_BPF"), "{}", refused.stderr);
    assert!(!file.exists(), "nothing may be written");
}

/// Answers and reads nothing: who it is cannot be seen from what it read.
const DEAF_SERVER: &str = r#"
import select, socket, sys
listener = socket.create_server(("127.0.0.1", 0))
open(sys.argv[1], "w").write(str(listener.getsockname()[1]))
for _ in range(10):
    connection, _ = listener.accept()
    waiting = select.poll()
    waiting.register(connection, select.POLLIN)
    waiting.poll()
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    waiting.modify(connection, select.POLLRDHUP)
    waiting.poll()
    connection.close()
"#;

#[test]
fn a_server_is_named_by_what_it_is_and_not_by_what_it_was_before_execve() {
    let Some(live) = Live::begin(
        "a server started by setsid and env",
        &["bash", "setsid", "python3", "curl"],
    ) else {
        return;
    };
    let server = live.write("server.py", DEAF_SERVER);
    let port = live.path("port");
    let script = format!(
        "setsid env A=1 python3 {} {port} & server=$!\nuntil [ -s {port} ]; do sleep 0.02; done\n\
         for i in 1 2 3 4 5 6 7 8 9 10; do curl -s -o /dev/null http://127.0.0.1:$(cat {port})/ || true; done\nwait $server",
        server.display(),
        port = port.display()
    );
    let recorded = live.record_script(&[], &script);
    let rows = recorded.rows("http");
    let named = |name: &str| rows.iter().filter(|row| row["server_comm"] == name).count();
    assert_eq!((rows.len(), named("python3")), (10, 10), "{rows:#?}");
    let programs = recorded.rows("processes");
    let pid = &rows[0]["server_pid"];
    let ran: Vec<&str> = programs
        .iter()
        .filter(|row| row["pid"] == *pid)
        .filter_map(|row| row["comm"].as_str())
        .collect();
    // python3 may be a script that finds the real one.
    assert_eq!((&ran[..2], ran.last()), (&["setsid", "env"][..], Some(&"python3")));
}
