//! A stream belongs to its socket, not to a descriptor or a process, and its bytes are what calls say they moved.

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
