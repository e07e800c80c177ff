//! From sockets to connections: ends, resets, and what was there before recording began.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use serde_json::Value;

use crate::harness::{Group, Live, Recorded, Recorder};
use crate::support::{Guard, count, free_port, run};

/// Calls at the end of a connection or after it. Over loopback the kernel decides when that is (tcp(7),
/// TCP_INFO): nothing here waits for a time to pass.
const ENDS: &str = r#"
import socket, struct, sys

CLOSED = 7  # TCP_CLOSE, include/net/tcp_states.h
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
def pair():
    client = socket.create_connection(listener.getsockname())
    return client, listener.accept()[0]
def request(kind, n):
    return b"GET /%s/%d HTTP/1.1\r\nHost: a\r\n\r\n" % (kind, n)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
def await_closed(s):
    while s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != CLOSED:
        pass
for n in range(25):
    # The server has closed; its RST comes inside the send.
    client, server = pair()
    server.close()
    assert client.recv(1) == b""
    client.send(request(b"half-closed", n))
    client.close()
    # The client has gone without waiting: its RST comes inside the answer.
    client, server = pair()
    client.send(request(b"gone", n))
    client.close()
    server.recv(65536)
    server.send(ANSWER)
    server.close()
    # The client has reset the connection before the server reads.
    client, server = pair()
    client.send(request(b"reset", n))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    await_closed(server)
    server.recv(65536)
    server.close()
    # Both have closed their sending side, and the client reads after that.
    client, server = pair()
    client.send(request(b"shut-down", n))
    client.shutdown(socket.SHUT_WR)
    server.recv(65536)
    server.send(ANSWER)
    server.close()
    await_closed(client)
    assert client.recv(65536) == ANSWER
    client.close()
"#;

/// All rows of `http` whose paths begin so; demands 25, and that each is of one connection.
#[track_caller]
fn of_kind(recorded: &Recorded, kind: &str) -> Vec<Value> {
    let mut rows = recorded.rows("http");
    rows.retain(|row| row["path"].as_str().is_some_and(|path| path.starts_with(kind)));
    assert_eq!(rows.len(), 25, "{kind}: {rows:#?}");
    rows
}

#[test]
fn what_comes_when_one_end_has_closed_belongs_to_its_connection() {
    let Some(live) = Live::begin("ends of connections", &["python3", "bash"]) else {
        return;
    };
    let (port, program) = (free_port(), live.write("program.py", ENDS));
    for options in [&[][..], &["--comm", "python3"]] {
        let recorded = live.record_script(
            &[options, &["--force"]].concat(),
            &format!("python3 {} {port}", program.display()),
        );
        recorded.expect_clean();
        recorded.expect_no_losses();
        let half_closed = of_kind(&recorded, "/half-closed");
        assert_eq!(count(&half_closed, "incomplete_reason", "no_response"), 25);
        assert_eq!(count(&half_closed, "reset", true), 25);
        let gone = of_kind(&recorded, "/gone");
        assert_eq!(count(&gone, "status", 200), 25, "{gone:#?}");
        assert_eq!(count(&gone, "side", "both"), 25);
        let reset = of_kind(&recorded, "/reset");
        assert_eq!(count(&reset, "incomplete_reason", "no_response"), 25);
        assert_eq!(count(&reset, "side", "both"), 25, "{reset:#?}");
        // The client's doing.
        assert_eq!(count(&reset, "reset", false), 25);
        let shut_down = of_kind(&recorded, "/shut-down");
        assert_eq!(count(&shut_down, "complete", true), 25, "{shut_down:#?}");
        assert!(
            shut_down.iter().all(|row| row["client_total_ns"].is_u64()),
            "{shut_down:#?}"
        );

        let exchanges = recorded.rows("http");
        assert_eq!(exchanges.len(), 100);
        let mut connections = recorded.rows("connections");
        connections.retain(|row| row["role"] != "listener");
        assert_eq!(connections.len(), 100, "{connections:#?}");
        assert_eq!(count(&connections, "exchanges", 1), 100);
        for row in &exchanges {
            assert_eq!(
                count(&connections, "connection", row["connection"].clone()),
                1,
                "{row:#}"
            );
        }
    }
}

/// Each of its last requests stood twice where it was stopped: without a response, and as a response without a request.
#[test]
fn requests_that_are_under_way_when_wrk_stops_are_one_row_each() {
    let Some(live) = Live::begin("wrk stops", &["nginx", "wrk", "bash"]) else {
        return;
    };
    let (port, dir) = (free_port(), live.dir.path().display().to_string());
    live.write("index.html", "hello");
    let config = live.write(
        "nginx.conf",
        &format!(
            "daemon off; user root; worker_processes 1; pid {dir}/nginx.pid; error_log {dir}/error.log;\n\
             events {{ worker_connections 256; }}\n\
             http {{ access_log off; keepalive_requests 100000000; client_body_temp_path {dir}/body;\n\
             proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi; uwsgi_temp_path {dir}/uwsgi;\n\
             scgi_temp_path {dir}/scgi; server {{ listen 127.0.0.1:{port}; root {dir}; }} }}\n"
        ),
    );
    // nginx is held up until wrk has stopped: each of its connections has a request under way then.
    let recorded = live.record_script(
        &[],
        &format!(
            "nginx -c {} &\nawait_port {port}\nworker=$(cat /proc/$!/task/$!/children)\n\
             for connections in 16 32 64; do\n\
             wrk -t2 -c$connections -d1s http://127.0.0.1:{port}/index.html >{dir}/wrk-$connections.txt &\n\
             sleep 0.5\nkill -STOP $worker\nwait $!\nkill -CONT $worker\n\
             done\nkill -QUIT %1\nwait %1",
            config.display()
        ),
    );
    recorded.expect_clean();
    recorded.expect_no_losses();
    let rows = recorded.rows("http");
    let without_client = |row: &&Value| row["client_ttfb_ns"].is_null();
    assert_eq!(rows.iter().filter(without_client).count(), 16 + 32 + 64);
    let known = |row: &&Value| matches!(row["incomplete_reason"].as_str(), None | Some("no_response"));
    let strange: Vec<_> = rows.iter().filter(|row| !known(row)).collect();
    assert!(strange.is_empty(), "{strange:#?}");
    let mut connections = recorded.rows("connections");
    connections.retain(|row| row["server_port"] == port && row["exchanges"] != 0);
    assert_eq!(connections.len(), 16 + 32 + 64);
    assert_eq!(count(&connections, "side", "both"), connections.len());
}

/// A client and a server in one process, with two connections: over one a megabyte has gone when `before` is printed, and
/// 20 bytes go when a line comes; the other stays idle.
const BEFORE: &str = r#"
import socket, sys, threading

listener = socket.create_server(("127.0.0.1", 0))
def pair():
    client = socket.create_connection(listener.getsockname())
    return client, listener.accept()[0]
idle, used = pair(), pair()
client, server = used
def receive(size):
    while size:
        size -= len(server.recv(size))
sender = threading.Thread(target=lambda: client.sendall(b"x" * 1000000))
sender.start()
receive(1000000)
sender.join()
print(idle[0].getsockname()[1], client.getsockname()[1], flush=True)
sys.stdin.readline()
client.sendall(b"y" * 20)
receive(20)
client.close()
server.close()
print("done", flush=True)
sys.stdin.readline()
"#;

#[test]
fn of_connections_from_before_only_what_was_recorded_is_counted_and_both_ends_are_one_row() {
    let Some(live) = Live::begin("connections from before", &["python3"]) else {
        return;
    };
    let group = Group::make();
    let file = live.path("cap.mdf");
    let mut program = group.command("python3");
    program
        .args(["-c", BEFORE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut program = Guard(program.spawn().expect("Python can be started"));
    let mut lines = BufReader::new(program.0.stdout.take().expect("stdout is a pipe")).lines();
    let mut line = || lines.next().expect("it prints a line").expect("text");
    let mut input = program.0.stdin.take().expect("stdin is a pipe");
    let ports: Vec<u64> = line().split(' ').map(|port| port.parse().expect("a port")).collect();
    let recorder = Recorder::start(&[
        "-o".as_ref(),
        file.as_os_str(),
        "--cgroup".as_ref(),
        group.path().as_ref(),
    ]);
    input.write_all(b"\n").expect("it listens");
    assert_eq!(line(), "done");
    recorder.stop().expect_code(&[0]);
    input.write_all(b"\n").expect("it listens");

    let connections = crate::support::rows(&file, "connections");
    let of_port = |port: u64| -> Vec<&Value> {
        let has = |row: &&Value| row["client_port"] == port || row["server_port"] == port;
        connections.iter().filter(has).collect()
    };
    let [idle, used] = [of_port(ports[0]), of_port(ports[1])];
    assert_eq!((idle.len(), used.len()), (1, 1), "{connections:#?}");
    for row in [idle[0], used[0]] {
        assert_eq!(row["side"], "both", "{row:#}");
        assert_eq!(
            (&row["client_comm"], &row["server_comm"]),
            (&"python3".into(), &"python3".into())
        );
    }
    assert_eq!(idle[0]["why"], Value::Null);
    assert_eq!(
        (&used[0]["bytes_sent"], &used[0]["bytes_received"]),
        (&20.into(), &0.into())
    );
    assert_eq!(used[0]["lifetime_sent"], 1_000_020);
    let mut report = crate::support::mdf();
    let report = run(report.arg("analyze").arg(&file).args(["--format", "json"])).expect_code(&[0]);
    let report: Value = serde_json::from_str(&report.stdout).expect("the report is JSON");
    let talkers = report["talkers"].as_array().expect("a section");
    assert_eq!(
        talkers.iter().filter_map(|row| row["to_server"].as_u64()).sum::<u64>(),
        20,
        "{talkers:#?}"
    );
    let services = crate::support::rows(&file, "services");
    assert_eq!(
        services.iter().filter_map(|row| row["bytes"].as_u64()).sum::<u64>(),
        20,
        "{services:#?}"
    );
}
