//! The kernel side against the running kernel: a child in a cgroup of its own makes known traffic, and exactly that
//! must come out of the ring. Needs root.
#![cfg(feature = "record")]
#![allow(unsafe_code, reason = "calls to the C library")]
#![allow(clippy::expect_used, reason = "a test that panics has failed")]

#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use masdeepflow::format::record::*;
use masdeepflow::record::identity::Identity;
use masdeepflow::record::source::config::{Backend, Config, Filter};
use masdeepflow::record::source::decode;
use masdeepflow::record::source::monitor::KernelLosses;
use masdeepflow::record::source::probe::Probe;
use masdeepflow::record::source::tcp::wire;

/// Cgroups made so far: tests run side by side.
static MADE: AtomicU32 = AtomicU32::new(0);

/// A cgroup that goes away with this value.
struct OwnCgroup {
    path: PathBuf,
}

impl OwnCgroup {
    fn new(name: &str) -> Self {
        let root = support::cgroup_root().expect("cgroup2 is mounted");
        let path = root.join(format!(
            "mdf-test-{name}-{}-{}",
            std::process::id(),
            MADE.fetch_add(1, Ordering::Relaxed)
        ));
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

/// The backends to test: those in `MDF_TEST_BACKENDS`, which must work; otherwise all that work here.
fn backends() -> Vec<Backend> {
    if !support::may_record("live tests of the kernel side") {
        return Vec::new();
    }
    if let Ok(list) = std::env::var("MDF_TEST_BACKENDS") {
        return list.split(',').map(|name| name.parse().expect("a backend")).collect();
    }
    let works = |backend: &Backend| match Probe::attach(&Config {
        backend: Some(*backend),
        ..nothing()
    }) {
        Ok(_) => true,
        Err(refusal) => {
            let why = refusal
                .refused
                .first()
                .map_or("", |(_, why)| why.lines().next().unwrap_or_default());
            support::left_out(&format!("live tests of backend {backend}"), why);
            false
        }
    };
    let backends: Vec<Backend> = Backend::ALL.into_iter().filter(works).collect();
    assert!(!backends.is_empty(), "no backend works here");
    backends
}

/// A filter that selects nobody.
fn nothing() -> Config {
    Config {
        filter: Filter {
            comm: Some("none has this".into()),
            ..Filter::default()
        },
        ..Config::default()
    }
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
            .map(|bytes| decode(bytes).expect("well-formed ring record"))
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
fn record(
    backend: Backend,
    child: &str,
    change: impl FnOnce(&mut Config, u64),
) -> (Vec<String>, Seen, KernelLosses, u64) {
    record_after(backend, child, change, |_| {})
}

/// The same; `prepare` comes between attaching and the child.
fn record_after(
    backend: Backend,
    child: &str,
    change: impl FnOnce(&mut Config, u64),
    prepare: impl FnOnce(&Probe),
) -> (Vec<String>, Seen, KernelLosses, u64) {
    let cgroup = OwnCgroup::new(&format!("{child}-{backend}"));
    let filter = Filter {
        cgroups: vec![cgroup.id()],
        ..Filter::default()
    };
    let mut config = Config {
        filter,
        backend: Some(backend),
        ..Config::default()
    };
    change(&mut config, cgroup.id());
    // While it tests itself a probe records its whole process, and the other tests are threads of this one.
    static ATTACHING: Mutex<()> = Mutex::new(());
    let attaching = ATTACHING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut probe = Probe::attach(&config).unwrap_or_else(|refusal| panic!("{refusal}"));
    drop(attaching);
    prepare(&probe);
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

/// The records of one kind.
macro_rules! of_kind {
    ($seen:expr, $kind:ident) => {
        $seen
            .records()
            .into_iter()
            .filter_map(|r| if let Record::$kind(x) = r { Some(x) } else { None })
    };
}

fn assert_no_loss(backend: Backend, losses: &KernelLosses) {
    for (reason, count) in losses.iter() {
        assert_eq!(count.events, 0, "{backend}: {reason:?}");
    }
}

/// One connection: client sends `hello` and `abcdefg` (writev), server answers with 3000 bytes in one go.
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
    for backend in backends() {
        check_exchanges(backend);
    }
}

fn check_exchanges(backend: Backend) {
    let (output, seen, losses, cgroup) = record(backend, "child_exchanges", |_, _| {});
    assert_no_loss(backend, &losses);
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

        // Both ends have the same bytes at the same positions.
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

    // Nothing but this child was recorded.
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
    for backend in backends() {
        check_processes(backend);
    }
}

fn check_processes(backend: Backend) {
    let (output, seen, losses, cgroup) = record(backend, "child_processes", |_, _| {});
    assert_no_loss(backend, &losses);
    let pid: u32 = value(&output, "pid");
    let shell = fs::canonicalize("/bin/sh").expect("a shell");
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
        assert_eq!((process.exe, process.comm), (shell.as_os_str().as_bytes(), &b"sh"[..]));
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

/// Runs a program that prints what it is, by all kinds of names.
#[test]
#[ignore = "run by a_program_has_one_path_however_it_is_started"]
fn child_paths() {
    if !enter_cgroup() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dir = folder.path().join("dir");
    let readlink = fs::canonicalize("/usr/bin/readlink").expect("readlink");
    let run = |command: &mut Command| {
        let output = command.arg("/proc/self/exe").current_dir(&dir).output().expect("run");
        let path = String::from_utf8(output.stdout).expect("UTF-8");
        let path = path
            .lines()
            .next()
            .expect("a path")
            .trim_end_matches(" (deleted)")
            .to_owned();
        println!("path={path}");
        path
    };
    let copy = |to: &std::path::Path| {
        fs::copy(&readlink, to).expect("copy");
    };
    for folder in [&dir, &folder.path().join("mounted")] {
        fs::create_dir(folder).expect("make a folder");
    }
    println!();
    copy(&dir.join("real"));
    std::os::unix::fs::symlink("real", dir.join("link")).expect("link");
    for name in ["./real", "./link", "../dir/real", "/proc/self/cwd/../dir/link"] {
        assert_eq!(run(&mut Command::new(name)), dir.join("real").to_str().expect("UTF-8"));
    }
    run(Command::new("real").env("PATH", &dir));
    fs::write(dir.join("script"), format!("#!{} -n\n", dir.join("real").display())).expect("write");
    fs::set_permissions(dir.join("script"), fs::metadata(&readlink).expect("mode").permissions()).expect("chmod");
    // readlink is asked about the script first, which is no link.
    run(&mut Command::new("./script"));
    let script = r#"mount --bind "$1" "$2" && exec "$2/link" /proc/self/exe"#;
    let mounted = folder.path().join("mounted");
    run(Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(&dir)
        .arg(&mounted));
    // SAFETY: the name ends with a NUL byte; the descriptor is inherited by what is run, and closed with this process.
    let memory = unsafe { libc::memfd_create(c"inmemory".as_ptr(), 0) };
    fs::copy(&readlink, format!("/proc/self/fd/{memory}")).expect("write");
    assert_eq!(
        run(&mut Command::new(format!("/proc/self/fd/{memory}"))),
        "/memfd:inmemory"
    );
    // As long as a path can be, and longer; as deep, and deeper. Not all of these can be recorded.
    for part in ["x".repeat(200), "d".to_owned()] {
        let mut deep = dir.clone();
        for n in 1..70 {
            deep.push(&part);
            if deep.as_os_str().len() > 1200 {
                break;
            }
            fs::create_dir(&deep).expect("make a folder");
            if n > 3 {
                copy(&deep.join("real"));
                run(&mut Command::new(deep.join("real")));
            }
        }
    }
}

#[test]
fn a_program_has_one_path_however_it_is_started() {
    for backend in backends().into_iter().take(1) {
        let (output, seen, losses, _) = record(backend, "child_paths", |_, _| {});
        assert_no_loss(backend, &losses);
        let paths: Vec<&str> = output.iter().filter_map(|line| line.strip_prefix("path=")).collect();
        let records = seen.records();
        let is_run =
            |p: &&Process<'_>| p.argv.ends_with(b"\0/proc/self/exe\0") && p.comm != b"unshare" && p.comm != b"sh";
        let recorded: Vec<String> = (records.iter())
            .filter_map(|record| match record {
                Record::Process(process) if process.origin == Origin::Exec => Some(process),
                _ => None,
            })
            .filter(is_run)
            .map(|process| String::from_utf8_lossy(process.exe).into_owned())
            .collect();
        assert_eq!(recorded.len(), paths.len(), "{recorded:#?}");
        let mut unknown = 0;
        for (recorded, path) in recorded.iter().zip(&paths) {
            let parts = path.matches('/').count();
            if path.len() < 1024 && parts < 60 {
                assert_eq!(recorded, path);
            } else {
                unknown += 1;
                assert!(
                    recorded.is_empty() || recorded == path,
                    "a part of a path is not recorded: {recorded}"
                );
            }
        }
        assert!(unknown > 5, "{paths:?}");
    }
}

/// Sends a file descriptor's worth of each family of calls; every byte is `pattern` of its place in the stream.
#[test]
#[ignore = "run by calls_of_all_shapes_are_recorded"]
fn child_shapes() {
    if !enter_cgroup() {
        return;
    }
    println!("\npid={}", std::process::id());
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let mut client = TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
    let (mut server, _) = listener.accept().expect("accept");
    println!("client={}", client.local_addr().expect("address").port());
    let stream: Vec<u8> = (0..STREAM_LEN).map(pattern).collect();
    let mut sent = 0;
    let mut sizes = Vec::new();
    let (out, inn) = (client.as_raw_fd(), server.as_raw_fd());
    let take = |server: &mut TcpStream, at: usize, len: usize| {
        let mut bytes = vec![0; len];
        server.read_exact(&mut bytes).expect("read");
        assert!(bytes == stream[at..at + len]);
    };

    // sendmsg with four pieces, one of them empty, one of them long.
    let n = send_pieces(out, &stream[sent..], &[3, 0, 5000, 9]);
    sizes.push(n);
    sent += n;
    // Looking does not take.
    let mut peeked = [0u8; 16];
    server.peek(&mut peeked).expect("peek");
    peek_twice(inn);
    take(&mut server, sent - n, n);

    // sendmmsg of three messages of two pieces each.
    let pieces: Vec<libc::iovec> = [10, 20, 30, 40, 50, 60]
        .iter()
        .scan(sent, |at, len| {
            let piece = libc::iovec {
                iov_base: stream[*at..].as_ptr().cast_mut().cast(),
                iov_len: *len,
            };
            *at += len;
            Some(piece)
        })
        .collect();
    let mut messages: Vec<libc::mmsghdr> = pieces
        .chunks(2)
        .map(|pair| {
            // SAFETY: all zero is a valid header.
            let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
            message.msg_hdr.msg_iov = pair.as_ptr().cast_mut();
            message.msg_hdr.msg_iovlen = 2;
            message
        })
        .collect();
    // SAFETY: the headers point at pieces, the pieces at the stream; both outlive the call.
    let n = unsafe { libc::sendmmsg(out, messages.as_mut_ptr(), 3, 0) };
    assert_eq!(n, 3);
    for n in [30, 70, 110] {
        sizes.push(n);
        sent += n;
    }
    take(&mut server, sent - 210, 210);

    // recvmsg into three pieces.
    client.write_all(&stream[sent..sent + 300]).expect("write");
    sizes.push(300);
    sent += 300;
    let mut parts = [vec![0u8; 100], vec![0u8; 100], vec![0u8; 100]];
    let [a, b, c] = &mut parts;
    let mut slices = [IoSliceMut::new(a), IoSliceMut::new(b), IoSliceMut::new(c)];
    assert_eq!(server.read_vectored(&mut slices).expect("readv"), 300);

    // sendfile.
    let mut file = tempfile::tempfile().expect("file");
    file.write_all(&stream[sent..sent + 2000]).expect("write");
    let mut offset = 0;
    // SAFETY: plain file descriptors and a pointer to a local.
    let n = unsafe { libc::sendfile(out, file.as_raw_fd(), &raw mut offset, 2000) };
    assert_eq!(n, 2000);
    sizes.push(2000);
    sent += 2000;
    let mut rest = vec![0u8; 2000];
    // SAFETY: the buffer has the length that is passed.
    let n = unsafe { libc::recv(inn, rest.as_mut_ptr().cast(), rest.len(), libc::MSG_WAITALL) };
    assert_eq!(n, 2000);

    // Longer than the snaplen.
    let n = STREAM_LEN - sent;
    let tail = stream[sent..].to_vec();
    let writer = std::thread::spawn(move || client.write_all(&tail).map(|()| client));
    let mut rest = vec![0u8; n];
    server.read_exact(&mut rest).expect("read");
    drop(writer.join().expect("writer").expect("write"));
    let sizes: Vec<String> = sizes.iter().map(usize::to_string).collect();
    println!("sizes={}", sizes.join(","));
}

const STREAM_LEN: usize = 40_000;

fn pattern(at: usize) -> u8 {
    (at * 7 + at / 251) as u8
}

fn send_pieces(fd: i32, stream: &[u8], lens: &[usize]) -> usize {
    let mut at = 0;
    let pieces: Vec<libc::iovec> = lens
        .iter()
        .map(|len| {
            let piece = libc::iovec {
                iov_base: stream[at..].as_ptr().cast_mut().cast(),
                iov_len: *len,
            };
            at += len;
            piece
        })
        .collect();
    // SAFETY: all zero is a valid header; it points at pieces, the pieces at the stream; both outlive the call.
    let n = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = pieces.as_ptr().cast_mut();
        message.msg_iovlen = pieces.len() as _;
        libc::sendmsg(fd, &raw const message, 0)
    };
    assert_eq!(n, at as isize);
    at
}

/// recvmmsg that looks at the same bytes with each of its two messages.
fn peek_twice(fd: i32) {
    let mut buffer = [0u8; 16];
    let mut piece = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: all zero is a valid header; both point at the piece, it at the buffer; both outlive the call.
    let n = unsafe {
        let mut messages: [libc::mmsghdr; 2] = std::mem::zeroed();
        for message in &mut messages {
            message.msg_hdr.msg_iov = &raw mut piece;
            message.msg_hdr.msg_iovlen = 1;
        }
        libc::recvmmsg(fd, messages.as_mut_ptr(), 2, libc::MSG_PEEK, std::ptr::null_mut())
    };
    assert_eq!(n, 2);
}

#[test]
fn calls_of_all_shapes_are_recorded() {
    for backend in backends() {
        check_shapes(backend);
    }
}

fn check_shapes(backend: Backend) {
    let (output, seen, losses, _) = record(backend, "child_shapes", |_, _| {});
    let port: u16 = value(&output, "client");
    let client = seen.socket(Role::Client, |s| s.local.port == port);
    let server = seen.socket(Role::Server, |s| s.remote.port == port);
    let start = client_start(&seen, client.id);
    let sizes: String = value(&output, "sizes");
    let sizes: Vec<usize> = sizes.split(',').map(|n| n.parse().expect("size")).collect();
    // What is longer than the snaplen is cut, and nothing else is missing.
    for (reason, count) in losses.iter().filter(|(reason, _)| *reason != LossReason::Truncated) {
        assert_eq!(count.events, 0, "{backend}: {reason:?}");
    }
    assert!(losses.get(LossReason::Truncated).events > 0, "{backend}");

    for (id, direction) in [(client.id, Direction::Sent), (server.id, Direction::Received)] {
        let mut at = 0;
        let data = seen.data(id, direction);
        for (i, data) in data.iter().enumerate() {
            assert_eq!(data.pos.wrapping_sub(start) as usize, at, "{backend} {direction:?} {i}");
            if direction == Direction::Sent && i < sizes.len() {
                assert_eq!(data.len as usize, sizes[i], "{backend} {i}");
            }
            let expected: Vec<u8> = (at..at + data.payload.len()).map(pattern).collect();
            assert!(data.payload == expected, "{backend} {direction:?} {i}: other bytes");
            let whole = data.len.min(4096) as usize;
            // Only fexit sees into sendfile everywhere.
            let hidden = direction == Direction::Sent && i == 5 && backend != Backend::Fexit;
            if hidden {
                assert!(data.payload.len() == whole || data.cut == Cut::KernelPages || data.cut == Cut::NotVisible);
            } else {
                assert_eq!(data.payload.len(), whole, "{backend} {direction:?} {i} {:?}", data.cut);
                let cut = if data.len > 4096 { Cut::Snaplen } else { Cut::Whole };
                assert_eq!(data.cut, cut, "{backend} {direction:?} {i}");
            }
            at += data.len as usize;
        }
        assert_eq!(at, STREAM_LEN, "{backend} {direction:?}");
    }
}

fn client_start(seen: &Seen, id: u64) -> u32 {
    of_kind!(seen, Connect).find(|c| c.id == id).expect("connect").send_pos
}

/// Threads that all wait in recv before the first byte comes.
#[test]
#[ignore = "run by threads_that_wait_lose_nothing"]
fn child_waiting() {
    if !enter_cgroup() {
        return;
    }
    println!("\npid={}", std::process::id());
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let at = listener.local_addr().expect("address");
    println!("server={}", at.port());
    let mut ends = Vec::new();
    let mut threads = Vec::new();
    for _ in 0..WAITING {
        let mut client = TcpStream::connect(at).expect("connect");
        ends.push(listener.accept().expect("accept").0);
        threads.push(std::thread::spawn(move || {
            let mut answer = [0; 8];
            client.read_exact(&mut answer).expect("read");
            client.write_all(&answer).expect("write");
        }));
    }
    // All of them sleep in the kernel once their state shows it.
    let sleeping = || {
        let tasks = fs::read_dir("/proc/self/task").expect("tasks");
        let state = |task: &fs::DirEntry| fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        tasks.flatten().filter(|task| state(task).contains(") S ")).count()
    };
    while sleeping() < WAITING {
        std::thread::yield_now();
    }
    for (i, end) in ends.iter_mut().enumerate() {
        end.write_all(&(i as u64).to_ne_bytes()).expect("write");
    }
    for (i, (end, thread)) in ends.iter_mut().zip(threads).enumerate() {
        let mut answer = [0; 8];
        end.read_exact(&mut answer).expect("read");
        assert_eq!(u64::from_ne_bytes(answer), i as u64);
        thread.join().expect("thread");
    }
}

const WAITING: usize = 64;

#[test]
fn threads_that_wait_lose_nothing() {
    for backend in backends() {
        let (output, seen, losses, _) = record(backend, "child_waiting", |_, _| {});
        assert_no_loss(backend, &losses);
        let port: u16 = value(&output, "server");
        let mut received = [0; WAITING];
        for role in [Role::Client, Role::Server] {
            let here = |s: &&Socket| s.role == role && (s.local.port == port || s.remote.port == port);
            let sockets: Vec<_> = seen.sockets().into_iter().filter(|s| here(&s)).collect();
            assert_eq!(sockets.len(), WAITING, "{backend}");
            for socket in sockets {
                for direction in [Direction::Sent, Direction::Received] {
                    let data = seen.data(socket.id, direction);
                    assert_eq!(data.len(), 1, "{backend} {role:?} {direction:?}");
                    let number = u64::from_ne_bytes(data[0].payload.try_into().expect("8 bytes"));
                    received[number as usize] += 1;
                }
            }
        }
        assert_eq!(received, [4; WAITING], "{backend}");
    }
}

/// A family of processes outside of any filtered cgroup: only the pid filter finds it.
#[test]
fn filters_select_and_children_are_followed() {
    for backend in backends() {
        // A port that nobody uses: processes are recorded, sockets and data are not.
        let (_, seen, _, _) = record(backend, "child_exchanges", |config, _| config.filter.ports = vec![1]);
        assert_eq!(seen.sockets(), [], "{backend}");
        assert_eq!(of_kind!(seen, Data).count(), 0, "{backend}");
        assert_eq!(of_kind!(seen, Exit).count(), 1, "{backend}");
        // Another program's name.
        let (_, seen, _, _) = record(backend, "child_exchanges", |config, _| {
            config.filter.comm = Some("someone".to_string())
        });
        assert_eq!(seen.raw.len(), 0, "{backend}");
        // Another network namespace.
        let (_, seen, _, _) = record(backend, "child_exchanges", |config, _| config.filter.netns = Some(1));
        assert_eq!(seen.raw.len(), 0, "{backend}");
        // This process's children, by the pid of their parent; the parent itself is the recorder and left out.
        let (output, seen, _, cgroup) = record(backend, "child_processes", |config, _| {
            config.filter.cgroups.clear();
            config.filter.pids = Identity::of(std::process::id()).into_iter().collect();
        });
        let pid: u32 = value(&output, "pid");
        let records = of_kind!(seen, Process).filter(|p| p.origin == Origin::Exec && p.ppid == pid);
        assert_eq!(records.filter(|p| p.cgroup == cgroup).count(), 51, "{backend}");
        // Who accepts a connection is known by its first bytes; its socket begins with them all the same.
        let (_, seen, _, _) = record(backend, "child_exchanges", |config, _| {
            config.filter.pids = Identity::of(std::process::id()).into_iter().collect();
        });
        let accepted = |s: &Socket| s.role == Role::Server;
        for server in seen.sockets().into_iter().filter(accepted) {
            let first = |direction| seen.data(server.id, direction)[0].pos;
            let starts = (first(Direction::Sent), first(Direction::Received));
            assert_eq!((server.send_pos, server.receive_pos), starts, "{backend}");
        }
        assert_eq!(seen.sockets().into_iter().filter(accepted).count(), 2, "{backend}");
        // The parent of the cgroup takes its subtree.
        let (_, seen, _, _) = record(backend, "child_exchanges", |config, cgroup| {
            config.filter.dynamic = true;
            config.filter.cgroups = vec![cgroup];
        });
        assert_eq!(of_kind!(seen, Exit).count(), 1, "{backend}");
        assert!(of_kind!(seen, Data).count() > 8, "{backend}");
    }
}

/// Connections beside each other, more than the table has room for.
#[test]
#[ignore = "run by a_table_that_is_full_is_counted"]
fn child_many_connections() {
    if !enter_cgroup() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    let _open: Vec<_> = (0..40)
        .map(|_| {
            let client = TcpStream::connect(address).expect("connect");
            (client, listener.accept().expect("accept"))
        })
        .collect();
}

#[test]
fn a_table_that_is_full_is_counted() {
    for backend in backends() {
        let (_, seen, losses, _) = record(backend, "child_many_connections", |config, _| config.max_sockets = 16);
        assert!(losses.get(LossReason::MapFull).events > 0, "{backend}: {losses:?}");
        // Preallocated tables may hold a few more: each CPU keeps some free ones.
        assert!(seen.sockets().len() < 80, "{backend}");
        assert_eq!(losses.get(LossReason::RingFull).events, 0, "{backend}");
    }
}

/// Both ends of a connection that is opened before the cgroup is entered: addresses that no other run of this test has.
fn seeded_ends(parent: u32) -> (SocketAddrV4, SocketAddrV4) {
    let [.., high, low] = parent.to_be_bytes();
    let ip = Ipv4Addr::new(127, high, low, 77);
    (SocketAddrV4::new(ip, 7701), SocketAddrV4::new(ip, 7702))
}

fn connect_from(local: SocketAddrV4, remote: SocketAddrV4) -> TcpStream {
    let address = |at: SocketAddrV4| libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: at.port().to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from_ne_bytes(at.ip().octets()),
        },
        sin_zero: [0; 8],
    };
    let len = size_of::<libc::sockaddr_in>() as u32;
    // SAFETY: a new socket that nobody else owns; the addresses outlive the calls and have the lengths that are passed.
    unsafe {
        let socket = TcpStream::from_raw_fd(libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0));
        let (local, remote) = (address(local), address(remote));
        assert_eq!(libc::bind(socket.as_raw_fd(), (&raw const local).cast(), len), 0);
        assert_eq!(libc::connect(socket.as_raw_fd(), (&raw const remote).cast(), len), 0);
        socket
    }
}

/// Uses a connection from before the recording while the table of sockets is full, and again when there is room.
#[test]
#[ignore = "run by a_known_socket_keeps_its_id_although_the_table_was_full"]
fn child_seeded() {
    if std::env::var_os("MDF_TEST_CGROUP").is_none() {
        return;
    }
    let (client, server) = seeded_ends(std::os::unix::process::parent_id());
    let listener = TcpListener::bind(server).expect("bind");
    let mut client = connect_from(client, server);
    let (mut server, _) = listener.accept().expect("accept");
    enter_cgroup();
    let mut send = |word: &[u8; 3]| {
        client.write_all(word).expect("write");
        server.read_exact(&mut [0; 3]).expect("read");
    };
    let many = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = many.local_addr().expect("address");
    let open: Vec<_> = (0..40)
        .map(|_| {
            (
                TcpStream::connect(address).expect("connect"),
                many.accept().expect("accept"),
            )
        })
        .collect();
    send(b"one");
    drop(open);
    send(b"two");
}

#[test]
fn a_known_socket_keeps_its_id_although_the_table_was_full() {
    for backend in backends() {
        let (client, server) = seeded_ends(std::process::id());
        let end = |at: SocketAddrV4| Endpoint::new((*at.ip()).into(), at.port());
        let netns = fs::metadata("/proc/self/ns/net").expect("namespace").ino();
        let seed = |number: u32, local: SocketAddrV4, remote: SocketAddrV4| Socket {
            time: 1,
            id: wire::snapshot_id(&end(local), &end(remote), number),
            opened: Opened::Snapshot,
            role: Role::Client,
            local: end(local),
            remote: end(remote),
            netns: netns as u32,
            pid: 1,
            cgroup: 0,
            send_pos: 0,
            receive_pos: 0,
            positions: false,
        };
        let seeds = [seed(1, client, server), seed(2, server, client)];
        let prepare = |probe: &Probe| {
            for socket in &seeds {
                probe.seed_socket(socket).expect("seed");
            }
        };
        let change = |config: &mut Config, _| config.max_sockets = 16;
        let (_, seen, losses, _) = record_after(backend, "child_seeded", change, prepare);
        assert!(
            losses.get(LossReason::MapFull).bytes >= 3,
            "{backend}: the table was full, {losses:?}"
        );
        for (socket, direction) in seeds.iter().zip([Direction::Sent, Direction::Received]) {
            let payload: Vec<_> = seen.data(socket.id, direction).iter().map(|d| d.payload).collect();
            assert_eq!(payload, [b"two"], "{backend} {direction:?}");
            assert!(
                seen.sockets().iter().all(|other| other.local != socket.local),
                "{backend}"
            );
        }
    }
}
