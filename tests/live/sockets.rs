//! A stream belongs to its socket, not to a descriptor or a process, and its bytes are those that calls returned.

use serde_json::Value;

use crate::harness::Live;
use crate::support::{count, free_port};

/// The client's descriptor is duplicated, inherited by a child, and passed to a process that did not inherit it; the last
/// request is sent without blocking, in many short writes and refused ones. The server looks before it reads; the client
/// throws one answer away unread (MSG_TRUNC, tcp(7)).
const PROGRAM: &str = r#"
import os, socket, sys, threading, time

port = int(sys.argv[1])
listener = socket.create_server(("127.0.0.1", port))
def serve():
    conn, _ = listener.accept()
    buffer = b""
    for number in range(5):
        if number == 4:
            time.sleep(0.5)
        while b"\r\n\r\n" not in buffer:
            conn.recv(10, socket.MSG_PEEK)
            buffer += conn.recv(65536)
        head, buffer = buffer.split(b"\r\n\r\n", 1)
        left = 3000000 if b"POST" in head else 0
        while len(buffer) < left:
            conn.recv(10, socket.MSG_PEEK)
            buffer += conn.recv(65536)
        buffer = buffer[left:]
        conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    conn.close()
server = threading.Thread(target=serve)
server.start()
s = socket.create_connection(("127.0.0.1", port))
def answer():
    got = b""
    while not got.endswith(b"\r\n\r\nok"):
        got += s.recv(65536)
def child(work):
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    os.waitpid(pid, 0)

s.sendall(b"GET /duplicated HTTP/1.1\r\n")
copy = os.dup(s.fileno())
os.write(copy, b"Host: a\r\n\r\n")
os.close(copy)
answer()
child(lambda: s.sendall(b"GET /inherited HTTP/1.1\r\n"))
s.sendall(b"Host: a\r\n\r\n")
answer()
here, there = socket.socketpair()
def passed():
    os.close(s.fileno())
    _, fds, _, _ = socket.recv_fds(there, 1, 1)
    os.write(fds[0], b"GET /passed HTTP/1.1\r\nHost: a\r\n\r\n")
pid = os.fork()
if pid == 0:
    passed()
    os._exit(0)
socket.send_fds(here, [b"x"], [s.fileno()])
os.waitpid(pid, 0)
answer()
s.sendall(b"GET /discarded HTTP/1.1\r\nHost: a\r\n\r\n")
left = len(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
while left:
    left -= s.recv_into(bytearray(left), left, socket.MSG_TRUNC)
s.setblocking(False)
left = b"POST /short-writes HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n" + b"z" * 3000000
while left:
    try:
        left = left[s.send(left):]
    except BlockingIOError:
        time.sleep(0.01)
s.setblocking(True)
answer()
s.close()
server.join()
"#;

#[test]
fn a_socket_that_is_duplicated_inherited_and_passed_on_is_one_stream() {
    let Some(live) = Live::begin("descriptors passed around", &["python3", "bash"]) else {
        return;
    };
    let (port, program) = (free_port(), live.write("program.py", PROGRAM));
    let recorded = live.record_script(&[], &format!("python3 {} {port}", program.display()));
    recorded.expect_clean();
    recorded.expect_no_losses();
    let rows = recorded.rows("http");
    let paths: Vec<_> = rows
        .iter()
        .map(|row| row["path"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(
        paths,
        ["/duplicated", "/inherited", "/passed", "/discarded", "/short-writes"]
    );
    assert_eq!(count(&rows, "complete", true), 5, "{rows:#?}");
    assert_eq!(count(&rows, "side", "both"), 5);
    assert_eq!(rows[4]["request_bytes"], 3_000_065);
    assert!(rows.iter().all(|row| row["connection"] == rows[0]["connection"]));
    let connections = recorded.rows("connections");
    let with_data: Vec<&Value> = connections.iter().filter(|row| row["exchanges"] == 5).collect();
    assert_eq!(with_data.len(), 1, "{connections:#?}");
}

/// What a server and a client do; for programs that begin with it.
const SERVER: &str = r#"
import os, select, socket, sys, threading

listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
def answer(conn, count):
    buffer = b""
    for _ in range(count):
        while b"\r\n\r\n" not in buffer:
            buffer += conn.recv(65536)
        buffer = buffer.split(b"\r\n\r\n", 1)[1]
        conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
def ask(s, path):
    s.sendall(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path)
    receive_some(s)
def receive_some(s):
    got = b""
    while not got.endswith(b"\r\n\r\nok"):
        got += s.recv(65536)
"#;

/// Asks the kernel when each request was handed to the device, and when it was acknowledged: it reports both in the error
/// queue, with the bytes of the packet (SO_TIMESTAMPING, Documentation/networking/timestamping.rst).
const ERROR_QUEUE: &str = r#"
SO_TIMESTAMPING, SOFTWARE, TX_SCHED, TX_ACK = 37, 1 << 4, 1 << 8, 1 << 9
server = threading.Thread(target=lambda: answer(listener.accept()[0], 5))
server.start()
s = socket.create_connection(listener.getsockname())
s.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, SOFTWARE | TX_SCHED | TX_ACK)
queue = select.poll()
queue.register(s, 0)
for number in range(5):
    ask(s, b"/%d" % number)
    for report in range(2):
        queue.poll()
        assert s.recvmsg(65536, 1024, socket.MSG_ERRQUEUE)[0]
s.close()
server.join()
"#;

#[test]
fn what_waits_in_the_error_queue_is_no_part_of_the_stream() {
    let Some(live) = Live::begin("MSG_ERRQUEUE", &["python3", "bash"]) else {
        return;
    };
    let (port, program) = (free_port(), live.write("program.py", &[SERVER, ERROR_QUEUE].concat()));
    // The best backend, which gets the flags of a call, and the one that reads them from its arguments.
    for options in [&["--force"][..], &["--force", "--backend", "systp"]] {
        let recorded = live.record_script(options, &format!("python3 {} {port}", program.display()));
        recorded.expect_clean();
        recorded.expect_no_losses();
        let rows = recorded.rows("http");
        assert_eq!(rows.len(), 5, "{rows:#?}");
        for (number, row) in rows.iter().enumerate() {
            assert_eq!(row["path"], format!("/{number}"));
            assert_eq!(
                (&row["complete"], &row["side"]),
                (&true.into(), &"both".into()),
                "{row:#}"
            );
            assert_eq!(
                (row["request_bytes"].as_u64(), row["response_bytes"].as_u64()),
                (Some(28), Some(40))
            );
        }
        let connections = recorded.rows("connections");
        let with_data: Vec<&Value> = connections.iter().filter(|row| row["exchanges"] == 5).collect();
        assert_eq!(with_data.len(), 1, "{connections:#?}");
        let row = with_data[0];
        assert_eq!(
            (row["bytes_sent"].as_u64(), row["bytes_received"].as_u64()),
            (Some(140), Some(200))
        );
        assert_eq!(
            (row["lost_bytes"].as_u64(), row["unread_bytes"].as_u64()),
            (Some(0), Some(0))
        );
    }
}

/// Two processes. Urgent bytes come between two requests, after a request in the same call, within a head, and at the end.
/// The server fetches the first one, and passes over the others.
const URGENT: &str = r#"
def call_myself(name):
    with open("/proc/self/comm", "w") as comm:
        comm.write(name)
def fetch(conn):
    waiting = select.poll()
    waiting.register(conn, select.POLLPRI)
    waiting.poll()
    assert conn.recv(1, socket.MSG_OOB) == b"!"
pid = os.fork()
if pid == 0:
    call_myself("urgent-server")
    conn, _ = listener.accept()
    answer(conn, 1)
    fetch(conn)
    answer(conn, 3)
    os._exit(0)
call_myself("urgent-client")
s = socket.create_connection(listener.getsockname())
ask(s, b"/first")
s.send(b"!", socket.MSG_OOB)
ask(s, b"/second")
s.send(b"GET /third HTTP/1.1\r\nHost: a\r\n\r\n!", socket.MSG_OOB)
receive_some(s)
s.send(b"GET /fourth HTTP/1.1\r\n!", socket.MSG_OOB)
s.send(b"Host: a\r\n\r\n")
receive_some(s)
s.send(b"!", socket.MSG_OOB)
s.close()
os.waitpid(pid, 0)
"#;

#[test]
fn urgent_data_is_no_part_of_the_stream() {
    let Some(live) = Live::begin("MSG_OOB", &["python3", "bash"]) else {
        return;
    };
    let (port, program) = (free_port(), live.write("program.py", &[SERVER, URGENT].concat()));
    for backend in [&[][..], &["--backend", "systp"]] {
        for (side, filter) in [
            ("both", &[][..]),
            ("server", &["--comm", "urgent-server"]),
            ("client", &["--comm", "urgent-client"]),
        ] {
            let options = [&["--force"], backend, filter].concat();
            let recorded = live.record_script(&options, &format!("python3 {} {port}", program.display()));
            recorded.expect_clean();
            recorded.expect_no_losses();
            let rows = recorded.rows("http");
            let facts = |row: &Value| {
                assert_eq!(
                    (&row["complete"], &row["side"]),
                    (&true.into(), &side.into()),
                    "{row:#}"
                );
                let bytes = |column: &str| row[column].as_u64().unwrap_or_default();
                let path = row["path"].as_str().unwrap_or_default();
                (path.to_owned(), bytes("request_bytes"), bytes("response_bytes"))
            };
            let facts: Vec<_> = rows.iter().map(facts).collect();
            let expected = [("/first", 32), ("/second", 33), ("/third", 32), ("/fourth", 33)];
            assert_eq!(
                facts,
                expected.map(|(path, bytes)| (path.to_owned(), bytes, 40)),
                "{options:?}"
            );
            let connections = recorded.rows("connections");
            let with_data: Vec<&Value> = connections.iter().filter(|row| row["exchanges"] == 4).collect();
            assert_eq!(with_data.len(), 1, "{connections:#?}");
            assert_eq!(
                (
                    with_data[0]["lost_bytes"].as_u64(),
                    with_data[0]["unread_bytes"].as_u64()
                ),
                (Some(0), Some(0))
            );
        }
    }
}
