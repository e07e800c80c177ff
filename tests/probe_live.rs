//! The kernel side against the running kernel: a child in a cgroup of its own makes known traffic, and exactly that
//! must come out of the ring. Needs root; says so when it is not run.
#![cfg(feature = "record")]

use std::fs;
use std::io::{IoSlice, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use masdeepflow::format::record::*;
use masdeepflow::record::probe::{Config, Filter, KernelLosses, Probe};
use masdeepflow::record::wire;

/// A cgroup that goes away with this value.
struct OwnCgroup {
    path: PathBuf,
}

impl OwnCgroup {
    fn new(name: &str) -> Self {
        let mounts = fs::read_to_string("/proc/mounts").expect("mounts");
        let root = mounts
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>())
            .find(|fields| fields[2] == "cgroup2")
            .expect("cgroup2 is mounted")[1]
            .to_string();
        let path = PathBuf::from(root).join(format!("mdf-test-{name}-{}", std::process::id()));
        fs::create_dir(&path).expect("make a cgroup");
        OwnCgroup { path }
    }

    fn id(&self) -> u64 {
        fs::metadata(&self.path).expect("cgroup").ino()
    }
}

impl Drop for OwnCgroup {
    fn drop(&mut self) {
        // The last process may still be on its way out.
        for _ in 0..100 {
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn is_root() -> bool {
    // SAFETY: no arguments, no state.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        eprintln!("NOT RUN: live tests of the kernel side need root");
    }
    root
}

/// Everything that came out of the ring, as owned text and numbers.
#[derive(Default)]
struct Seen {
    raw: Vec<Vec<u8>>,
}

impl Seen {
    fn records(&self) -> Vec<Record<'_>> {
        self.raw
            .iter()
            .map(|bytes| wire::decode(bytes).expect("well-formed ring record"))
            .collect()
    }

    fn sockets(&self) -> Vec<Socket> {
        self.records()
            .into_iter()
            .filter_map(|r| if let Record::Socket(s) = r { Some(s) } else { None })
            .collect()
    }

    fn data(&self, id: u64, direction: Direction) -> Vec<Data<'_>> {
        let pick = |r| match r {
            Record::Data(d) if d.id == id && d.direction == direction => Some(d),
            _ => None,
        };
        self.records().into_iter().filter_map(pick).collect()
    }

    fn socket(&self, role: Role, matches: impl Fn(&Socket) -> bool) -> Socket {
        let found: Vec<_> = self
            .sockets()
            .into_iter()
            .filter(|s| s.role == role && matches(s))
            .collect();
        assert_eq!(found.len(), 1, "{role:?}: {:#?}", self.sockets());
        found[0]
    }
}

/// Runs `child` (the name of an ignored test) in a cgroup of its own and gives its output and what was recorded.
fn record(child: &str, change: impl FnOnce(&mut Config)) -> (Vec<String>, Seen, KernelLosses, u64) {
    let cgroup = OwnCgroup::new(child);
    let mut config = Config {
        filter: Filter {
            cgroups: vec![cgroup.id()],
            ..Filter::default()
        },
        ..Config::default()
    };
    change(&mut config);
    let mut probe = Probe::attach(&config).unwrap_or_else(|refusal| panic!("{refusal}"));
    eprintln!("backend {}, refused {:?}", probe.backend(), probe.refused());
    let seen = Arc::new(Mutex::new(Seen::default()));
    let sink = Arc::clone(&seen);
    let mut ring = probe
        .ring(move |bytes| sink.lock().expect("lock").raw.push(bytes.to_vec()))
        .expect("ring");
    let mut process = Command::new(std::env::current_exe().expect("own path"))
        .args(["--exact", child, "--ignored", "--nocapture", "--test-threads=1"])
        .env("MDF_TEST_CGROUP", &cgroup.path)
        .stdout(Stdio::piped())
        .spawn()
        .expect("run the child");
    let status = loop {
        ring.poll(Duration::from_millis(5)).expect("poll");
        if let Some(status) = process.try_wait().expect("wait") {
            break status;
        }
    };
    probe.stop_new_events();
    ring.consume().expect("consume");
    assert!(status.success());
    let mut output = String::new();
    process
        .stdout
        .take()
        .expect("output")
        .read_to_string(&mut output)
        .expect("output");
    drop(ring);
    let seen = Arc::try_unwrap(seen)
        .ok()
        .expect("one owner")
        .into_inner()
        .expect("lock");
    let losses = probe.losses().expect("losses");
    (output.lines().map(str::to_string).collect(), seen, losses, cgroup.id())
}

/// The child's first step: into its cgroup.
fn enter_cgroup() -> bool {
    let Some(path) = std::env::var_os("MDF_TEST_CGROUP") else {
        return false;
    };
    fs::write(PathBuf::from(path).join("cgroup.procs"), "0").expect("enter the cgroup");
    true
}

fn value<T: std::str::FromStr>(output: &[String], key: &str) -> T {
    let line = output
        .iter()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
        .expect(key);
    line.parse().ok().expect(key)
}

fn joined(data: &[Data<'_>]) -> Vec<u8> {
    data.iter().flat_map(|d| d.payload.iter().copied()).collect()
}

fn assert_no_loss(losses: &KernelLosses) {
    for (reason, count) in losses.iter() {
        assert_eq!(count.events, 0, "{reason:?}");
    }
}

/// One connection: client says `hello` and `abcdefg` (writev), server answers with 3000 bytes in one go.
fn exchange(address: &str) {
    let listener = TcpListener::bind(address).expect("bind");
    let at = listener.local_addr().expect("address");
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accept");
        let mut request = [0; 12];
        stream.read_exact(&mut request).expect("read");
        assert_eq!(&request, b"helloabcdefg");
        stream.write_all(&[b'x'; 3000]).expect("write");
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("end");
    });
    let mut client = TcpStream::connect(at).expect("connect");
    let port = client.local_addr().expect("address").port();
    client.write_all(b"hello").expect("write");
    let sent = client
        .write_vectored(&[IoSlice::new(b"abc"), IoSlice::new(b""), IoSlice::new(b"defg")])
        .expect("writev");
    assert_eq!(sent, 7);
    let mut reply = [0; 3000];
    client.read_exact(&mut reply).expect("read");
    client.shutdown(Shutdown::Write).expect("shutdown");
    server.join().expect("server");
    let family = if at.is_ipv6() { 6 } else { 4 };
    println!("server{family}={}\nclient{family}={port}", at.port());
}

#[test]
#[ignore = "run by exchanges_are_recorded_exactly"]
fn child_exchanges() {
    if !enter_cgroup() {
        return;
    }
    println!("\npid={}", std::process::id());
    exchange("127.0.0.1:0");
    exchange("[::1]:0");
    // Nobody listens on the port of a listener that is gone.
    let gone = TcpListener::bind("127.0.0.1:0")
        .and_then(|l| l.local_addr())
        .expect("bind");
    assert!(TcpStream::connect(gone).is_err());
    println!("gone={}", gone.port());
}

#[test]
fn exchanges_are_recorded_exactly() {
    if !is_root() {
        return;
    }
    let (output, seen, losses, cgroup) = record("child_exchanges", |_| {});
    assert_no_loss(&losses);
    let pid: u32 = value(&output, "pid");
    for family in [4, 6] {
        let ip: std::net::IpAddr = if family == 4 {
            [127, 0, 0, 1].into()
        } else {
            "::1".parse().expect("ip")
        };
        let server = Endpoint::new(ip, value(&output, &format!("server{family}")));
        let client = Endpoint::new(ip, value(&output, &format!("client{family}")));
        let c = seen.socket(Role::Client, |s| s.local == client);
        let s = seen.socket(Role::Server, |s| s.local == server);
        let l = seen.socket(Role::Listener, |s| s.local == server);
        assert_eq!((c.remote, s.remote, l.remote), (server, client, Endpoint::default()));
        assert_eq!(
            (c.pid, l.pid, c.cgroup, s.cgroup, l.cgroup),
            (pid, pid, cgroup, cgroup, cgroup)
        );
        assert_eq!(
            (c.opened, s.opened, l.opened),
            (Opened::Connect, Opened::Accept, Opened::Listen)
        );
        assert_eq!(c.id >> 32, s.id >> 32);
        assert_eq!(c.id >> 32, u64::from(wire::endpoints_hash(&server, &client)));
        assert_ne!(c.id, s.id);
        assert!(s.netns != 0 && s.netns == c.netns);

        // Both ends tell the same bytes at the same positions.
        let requests = seen.data(c.id, Direction::Sent);
        assert_eq!(
            requests.iter().map(|d| d.payload).collect::<Vec<_>>(),
            [&b"hello"[..], b"abcdefg"]
        );
        assert_eq!(requests[1].pos, requests[0].pos.wrapping_add(5));
        assert_eq!(requests[0].pos, s.receive_pos);
        assert_eq!(joined(&seen.data(s.id, Direction::Received)), b"helloabcdefg");
        assert_eq!(seen.data(s.id, Direction::Received)[0].pos, requests[0].pos);
        let replies = seen.data(s.id, Direction::Sent);
        assert_eq!((replies.len(), replies[0].len, replies[0].cut), (1, 3000, Cut::Whole));
        assert_eq!(replies[0].payload, [b'x'; 3000]);
        assert_eq!(replies[0].pos, s.send_pos);
        assert_eq!(joined(&seen.data(c.id, Direction::Received)), [b'x'; 3000]);
        for data in seen
            .data(c.id, Direction::Received)
            .iter()
            .chain(&requests)
            .chain(&replies)
        {
            assert_eq!((data.pid, data.cgroup), (pid, cgroup));
            assert!(data.tid >= pid);
        }

        let connects: Vec<_> = seen
            .records()
            .into_iter()
            .filter_map(|r| if let Record::Connect(x) = r { Some(x) } else { None })
            .filter(|x| x.id == c.id)
            .collect();
        assert_eq!(connects.len(), 1);
        assert_eq!((connects[0].error, connects[0].send_pos), (0, requests[0].pos));
        assert_eq!(connects[0].receive_pos, replies[0].pos);
        assert!(connects[0].connect_ns > 0 && connects[0].connect_ns < 1_000_000_000);
        assert_eq!(connects[0].time - c.time, connects[0].connect_ns);
        let owners: Vec<_> = seen
            .records()
            .into_iter()
            .filter_map(|r| if let Record::Owner(x) = r { Some(x) } else { None })
            .filter(|x| x.id == s.id)
            .collect();
        assert_eq!(
            owners.iter().map(|o| (o.pid, o.cgroup)).collect::<Vec<_>>(),
            [(pid, cgroup)]
        );
        for (id, sent, received) in [(c.id, 12, 3000), (s.id, 3000, 12), (l.id, 0, 0)] {
            let closes: Vec<_> = seen
                .records()
                .into_iter()
                .filter_map(|r| if let Record::Close(x) = r { Some(x) } else { None })
                .filter(|x| x.id == id)
                .collect();
            assert_eq!(closes.len(), 1);
            assert_eq!((closes[0].bytes_sent, closes[0].bytes_received), (sent, received));
            assert_eq!((closes[0].ending, closes[0].retransmits), (Ending::Closed, 0));
        }
    }

    let gone: u16 = value(&output, "gone");
    let failed = seen.socket(Role::Client, |s| s.remote.port == gone);
    let connect = seen.records().into_iter().find_map(|r| match r {
        Record::Connect(x) if x.id == failed.id => Some(x.error),
        _ => None,
    });
    assert_eq!(connect, Some(libc::ECONNREFUSED as u16));
    assert!(failed.local.port != 0);

    // Nothing but this child was heard.
    let exit = seen
        .records()
        .into_iter()
        .filter(|r| matches!(r, Record::Exit(_)))
        .count();
    assert_eq!(exit, 1);
    for record in seen.records() {
        match record {
            Record::Data(d) => assert_eq!(d.pid, pid),
            Record::Exit(e) => assert_eq!((e.pid, e.status), (pid, 0)),
            _ => {}
        }
    }
}

#[test]
#[ignore = "run by short_processes_are_recorded_whole"]
fn child_processes() {
    if !enter_cgroup() {
        return;
    }
    println!("\npid={}", std::process::id());
    for i in 0..50 {
        let status = Command::new("/bin/sh")
            .args(["-c", &format!("exit {i}"), "", "a b"])
            .status()
            .expect("run");
        assert_eq!(status.code(), Some(i));
    }
    let killed = Command::new("/bin/sh")
        .args(["-c", "kill -9 $$"])
        .status()
        .expect("run");
    assert!(!killed.success());
}

#[test]
fn short_processes_are_recorded_whole() {
    if !is_root() {
        return;
    }
    let (output, seen, losses, cgroup) = record("child_processes", |_| {});
    assert_no_loss(&losses);
    let pid: u32 = value(&output, "pid");
    let records = seen.records();
    let started: Vec<_> = records
        .iter()
        .filter_map(|r| match r {
            Record::Process(p) if p.origin == Origin::Exec => Some(p),
            _ => None,
        })
        .collect();
    assert_eq!(started.len(), 51);
    for (i, process) in started.iter().enumerate() {
        let argv: Vec<u8> = if i < 50 {
            format!("/bin/sh\0-c\0exit {i}\0\0a b\0").into_bytes()
        } else {
            b"/bin/sh\0-c\0kill -9 $$\0".to_vec()
        };
        assert_eq!(String::from_utf8_lossy(process.argv), String::from_utf8_lossy(&argv));
        assert_eq!((process.exe, process.comm), (&b"/bin/sh"[..], &b"sh"[..]));
        assert_eq!(
            (process.ppid, process.cgroup, process.argv_len as usize),
            (pid, cgroup, argv.len())
        );
        assert!(process.start.is_multiple_of(10_000_000) && process.start <= process.time);
        let exits: Vec<_> = records
            .iter()
            .filter_map(|r| match r {
                Record::Exit(e) if e.pid == process.pid && e.start == process.start => Some(e.status),
                _ => None,
            })
            .collect();
        assert_eq!(exits, [if i < 50 { (i as u32) << 8 } else { 9 }]);
    }
    let forks = records
        .iter()
        .filter(|r| matches!(r, Record::Process(p) if p.origin == Origin::Fork))
        .count();
    assert_eq!(forks, 51);
}
