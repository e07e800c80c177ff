//! The traffic that the live tests record: this test program, started again, talks to itself over loopback. Each round
//! is one message to a server thread and its echo: a send and a receive at each end, so four events.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Data events of one round.
pub const EVENTS: u64 = 4;

/// How to talk.
#[derive(Debug, Clone, Copy)]
pub struct Talk {
    pub rounds: u64,
    pub bytes: usize,
    /// Between two rounds.
    pub pause: Duration,
    /// Connect, then wait until a file of this name (in the working directory) is there.
    pub wait: bool,
}

impl Talk {
    pub fn of(rounds: u64, bytes: usize) -> Talk {
        Talk {
            rounds,
            bytes,
            pause: Duration::ZERO,
            wait: false,
        }
    }

    /// The command that talks so.
    pub fn words(self) -> Vec<String> {
        let talk = format!(
            "{} {} {} {}",
            self.rounds,
            self.bytes,
            self.pause.as_micros(),
            u8::from(self.wait)
        );
        let program = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
        let test = "workload::talk".to_owned();
        let shell = "MDF_TALK=\"$1\" exec \"$2\" --exact --ignored --quiet \"$3\" >/dev/null".to_owned();
        [
            "sh".to_owned(),
            "-c".to_owned(),
            shell,
            "sh".to_owned(),
            talk,
            program,
            test,
        ]
        .into()
    }

    /// The same, started by the test itself.
    pub fn command(self, folder: &Path) -> Command {
        let words = self.words();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir(folder);
        command
    }
}

#[test]
#[ignore = "the workload of other tests, not a test"]
fn talk() {
    let Ok(words) = std::env::var("MDF_TALK") else { return };
    let words: Vec<u64> = words.split(' ').map(|word| word.parse().unwrap()).collect();
    let [rounds, bytes, pause, wait] = words[..] else {
        panic!("four numbers")
    };
    let bytes = usize::try_from(bytes).unwrap();

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        connection.set_nodelay(true).unwrap();
        let mut message = vec![0; bytes];
        while connection.read_exact(&mut message).is_ok() {
            connection.write_all(&message).unwrap();
        }
    });
    let mut connection = TcpStream::connect(address).unwrap();
    connection.set_nodelay(true).unwrap();
    if wait == 1 {
        std::fs::write("connected", address.port().to_string()).unwrap();
        while !Path::new("go").exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let mut message = vec![0; bytes];
    for round in 0..rounds {
        let head = format!("round {round:012} ");
        let len = head.len().min(bytes);
        message[..len].copy_from_slice(&head.as_bytes()[..len]);
        connection.write_all(&message).unwrap();
        connection.read_exact(&mut message).unwrap();
        if pause > 0 {
            std::thread::sleep(Duration::from_micros(pause));
        }
    }
    drop(connection);
    server.join().unwrap();
}

/// The command that causes every state record that is emitted once, while the ring is full.
pub fn live_through_a_hole() -> Vec<String> {
    let program = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    let script = "MDF_HOLE=1 exec \"$1\" --exact --ignored --quiet workload::state_in_a_hole >/dev/null";
    ["sh", "-c", script, "sh", &program].map(str::to_owned).into()
}

/// Rounds of each connection after the hole, and the bytes of one message of `live_through_a_hole`.
pub const ROUNDS_AFTER: u64 = 30;
pub const HOLE_BYTES: usize = 100;

#[test]
#[ignore = "the workload of other tests, not a test"]
fn state_in_a_hole() {
    if std::env::var_os("MDF_HOLE").is_none() {
        return;
    }
    let print = |word: &str, ports: &[u16]| {
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        let partly = format!("{word}.part");
        std::fs::write(&partly, ports.join(" ")).unwrap();
        std::fs::rename(partly, word).unwrap();
    };
    let wait_for = |word: &str| {
        while !Path::new(word).exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let connect = || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        (client, server, listener)
    };
    let exchange = |(client, server, _): &mut (TcpStream, TcpStream, TcpListener), bytes: usize| {
        let mut message = vec![7; bytes];
        client.write_all(&message).unwrap();
        server.read_exact(&mut message).unwrap();
        server.write_all(&message).unwrap();
        client.read_exact(&mut message).unwrap();
    };
    // Opened before the hole; its owner shows in the hole.
    let mut accepted = connect();
    let mut filler = connect();
    print("connected", &[]);
    wait_for("go");
    for _ in 0..200 {
        exchange(&mut filler, 4000);
    }
    // Exits are the smallest records: now nothing fits any more.
    for _ in 0..100 {
        assert!(Command::new("true").status().unwrap().success());
    }
    let mut opened = connect();
    for _ in 0..3 {
        exchange(&mut accepted, HOLE_BYTES);
        exchange(&mut opened, HOLE_BYTES);
    }
    let mut started = Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
    let port = |socket: &TcpStream| socket.local_addr().unwrap().port();
    print("lost", &[port(&accepted.1), port(&opened.1)]);
    wait_for("again");
    for _ in 0..ROUNDS_AFTER {
        exchange(&mut accepted, HOLE_BYTES);
        exchange(&mut opened, HOLE_BYTES);
    }
    drop(started.stdin.take());
    assert!(started.wait().unwrap().success());
}

/// The command that has its own vector of buffers overwritten by what it receives: afterwards it is not known where the
/// bytes went.
pub fn overwrite_vector() -> Vec<String> {
    let program = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    let script = "MDF_OVERWRITE=1 exec \"$1\" --exact --ignored --quiet workload::receive_over_the_vector >/dev/null";
    ["sh", "-c", script, "sh", &program].map(str::to_owned).into()
}

#[test]
#[ignore = "the workload of other tests, not a test"]
fn receive_over_the_vector() {
    if std::env::var_os("MDF_OVERWRITE").is_none() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    client.write_all(&[b'A'; size_of::<libc::iovec>()]).unwrap();
    let mut vector = libc::iovec {
        iov_base: std::ptr::null_mut(),
        iov_len: size_of::<libc::iovec>(),
    };
    vector.iov_base = (&raw mut vector).cast();
    // SAFETY: the one buffer is the vector itself, as long as its length, and any bytes are a valid iovec.
    let got = unsafe { libc::readv(server.as_raw_fd(), &raw const vector, 1) };
    assert_eq!(got, 16);
}
