//! Input that was made to hurt: whatever it claims, the analyzer's memory stays within a bound, it ends, and it says
//! what it could not believe. Each test measures the peak of a child's resident memory.
#![cfg(all(feature = "analyze", target_os = "linux"))]
#![allow(unsafe_code, reason = "calls to the C library")]
#![allow(clippy::expect_used, reason = "a test that panics has failed")]

mod support;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use support::packets::{ACK, End, Pcap, RAW_IP, RST, SYN, Talk, tcp};
use support::{each_row, mdf_path, rows};

/// What an analysis may take, whatever it reads: the report's tables, a window of the file, the batches of an import.
const BOUND: u64 = 256 << 20;

/// One at a time: the memory of one is the subject, and the machine may be small.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Capture {
    folder: tempfile::TempDir,
}

impl Capture {
    fn make(write: impl FnOnce(&mut Pcap)) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let mut pcap = Pcap::create(&folder.path().join("hostile.pcap"), RAW_IP);
        write(&mut pcap);
        pcap.finish();
        Capture { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("hostile.pcap")
    }

    /// One connection, from its handshake to its end.
    fn of_one(server_port: u16, say: impl FnOnce(&mut Talk<'_>)) -> Self {
        Self::make(|pcap| {
            let mut talk = Talk::open(pcap, 40_000, server_port);
            say(&mut talk);
            talk.close();
        })
    }

    fn rows(&self, table: &str) -> Vec<Value> {
        rows(&self.path(), table)
    }

    /// Demands that neither the report nor an import into a capture file takes more than this.
    #[track_caller]
    fn stays_below(&self, bound: u64) {
        let path = self.path();
        let output = self.folder.path().join("out.mdf");
        peaks_below(bound, Command::new(mdf_path()).arg("analyze").arg(&path));
        peaks_below(
            bound,
            Command::new(mdf_path())
                .arg("import")
                .arg(&path)
                .arg("--output")
                .arg(&output),
        );
        peaks_below(bound, Command::new(mdf_path()).arg("analyze").arg(&output));
    }
}

#[track_caller]
fn peaks_below(bound: u64, command: &mut Command) {
    let peak = peak_memory(command);
    println!("{command:?}: {} MiB", peak >> 20);
    assert!(peak < bound, "{command:?} took {} MiB", peak >> 20);
}

/// Runs a program to its end: the peak of its resident memory. It has to end well, or with losses.
#[track_caller]
#[expect(clippy::zombie_processes, reason = "wait4 waits for it, and tells its memory")]
fn peak_memory(command: &mut Command) -> u64 {
    forget_own_peak();
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("mdf starts");
    let (mut status, pid) = (0, child.id() as i32);
    // SAFETY: all zero is a valid rusage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to locals of the right types; the child is ours and nobody else waits for it.
    let waited = unsafe { libc::wait4(pid, &mut status, 0, &mut usage) };
    assert_eq!(waited, pid);
    assert!(
        libc::WIFEXITED(status) && matches!(libc::WEXITSTATUS(status), 0 | 3),
        "{command:?} ended with {status:#x}"
    );
    usage.ru_maxrss as u64 * 1024
}

/// A child begins in the memory of its parent, and the kernel counts the peak of that for it (`exec_mmap` in fs/exec.c): what
/// this program took for the tests before, it gives back and forgets.
fn forget_own_peak() {
    // SAFETY: it only gives free memory back.
    unsafe { libc::malloc_trim(0) };
    std::fs::write("/proc/self/clear_refs", "5").expect("a process may reset its own peak");
}

/// What the test itself took before is no memory of the analyzer.
#[test]
fn the_peak_of_a_child_is_its_own() {
    let _alone = alone();
    let own = std::hint::black_box(vec![1u8; 2 * BOUND as usize]);
    drop(own);
    let peak = peak_memory(&mut Command::new("true"));
    assert!(peak < BOUND / 2, "{} MiB", peak >> 20);
}

/// Client and server of the connection with this number: each has a client of its own.
fn ends(number: u32) -> (End, End) {
    let client = End {
        ip: [10, (number >> 22) as u8, (number >> 14) as u8, (number >> 6) as u8],
        port: 1024 + (number & 63) as u16,
        seq: number,
    };
    let server = End {
        ip: [192, 0, 2, 1],
        port: 80,
        seq: !number,
    };
    (client, server)
}

#[test]
fn a_million_half_open_connections() {
    let _alone = alone();
    const COUNT: u32 = 1_000_000;
    let capture = Capture::make(|pcap| {
        for number in 0..COUNT {
            let (client, server) = ends(number);
            let syn = tcp(&client, &server, SYN, 0, 0);
            pcap.packet(&syn, syn.len());
            // Half of a half: every fourth is answered, and so is known to both ends, and goes no further.
            if number % 4 == 0 {
                let answer = tcp(&server, &client, SYN | ACK, number.wrapping_add(1), 0);
                pcap.packet(&answer, answer.len());
            }
        }
    });
    // As many as an import follows at once (some 260,000), with all that is known of each.
    peaks_below(3 * BOUND, Command::new(mdf_path()).arg("analyze").arg(capture.path()));
}

/// What a scan of ports leaves: connections of which one segment was seen, or that ended at once.
#[test]
fn attempts_that_come_to_nothing_cost_little_each() {
    let _alone = alone();
    const COUNT: u32 = 50_000;
    // Bytes that each may take from the file to the report.
    let kinds = [("SYN", 900), ("ACK", 900), ("SYN, SYN-ACK, RST", 1450)];
    for (kind, each) in kinds {
        let make = |count: u32| {
            Capture::make(|pcap| {
                for number in 0..count {
                    let (client, server) = ends(number);
                    pcap.pause(200);
                    let mut add = |segment: [u8; 40]| pcap.packet(&segment, segment.len());
                    match kind {
                        "SYN" => add(tcp(&client, &server, SYN, 0, 0)),
                        "ACK" => add(tcp(&client, &server, ACK, number.wrapping_mul(7), 0)),
                        _ => {
                            add(tcp(&client, &server, SYN, 0, 0));
                            add(tcp(&server, &client, SYN | ACK, number.wrapping_add(1), 0));
                            let reset = End {
                                seq: number.wrapping_add(1),
                                ..client
                            };
                            add(tcp(&reset, &server, RST, 0, 0));
                        }
                    }
                }
            })
        };
        let peak = |capture: &Capture| peak_memory(Command::new(mdf_path()).arg("analyze").arg(capture.path()));
        let (few, many) = (make(10), make(COUNT));
        let taken = peak(&many).saturating_sub(peak(&few)) / u64::from(COUNT);
        println!("{kind}: {taken} bytes each");
        assert!(taken < each, "{kind}: {taken} bytes each");
        let mut rows = 0;
        each_row(&many.path(), "connections", &[], |_| rows += 1);
        assert_eq!(rows, COUNT, "{kind}");
    }
}

/// Heads that never end, in both directions: what is kept of them is bounded, and said.
#[test]
fn endless_heads() {
    let _alone = alone();
    let line = b"X-Again: and again and again and again and again and again and again and again\r\n".repeat(800);
    let capture = Capture::of_one(80, |talk| {
        talk.say(0, b"GET /endless HTTP/1.1\r\n");
        for _ in 0..1000 {
            talk.say(0, &line);
        }
        talk.say(1, b"HTTP/1.1 200 OK\r\n");
        for _ in 0..1000 {
            talk.say(1, &line);
        }
    });
    capture.stays_below(BOUND);
    let rows = capture.rows("http");
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(
        (&rows[0]["path"], &rows[0]["status"]),
        (&"/endless".into(), &200.into())
    );
    assert_eq!(rows[0]["why"], "head longer than 64 KiB");
    assert_eq!(rows[0]["total_ns"], Value::Null);
}

#[test]
fn a_line_without_an_end() {
    let _alone = alone();
    let text = vec![b'x'; 60_000];
    let capture = Capture::of_one(80, |talk| {
        talk.say(0, b"GET /");
        for _ in 0..1000 {
            talk.say(0, &text);
        }
    });
    capture.stays_below(BOUND);
}

/// More than 1 PiB is not believed; 2^64 and more are no number.
#[test]
fn content_lengths_of_2_to_the_63_and_64() {
    let _alone = alone();
    for (length, reason, why) in [
        ("9223372036854775807", "malformed", Some("Content-Length beyond 1 PiB")),
        ("9223372036854775808", "malformed", Some("Content-Length beyond 1 PiB")),
        ("18446744073709551615", "malformed", Some("Content-Length beyond 1 PiB")),
        ("18446744073709551616", "malformed", Some("Content-Length beyond 1 PiB")),
        ("-1", "malformed", Some("negative Content-Length")),
    ] {
        let capture = Capture::of_one(80, |talk| {
            talk.say(0, b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n");
            talk.say(
                1,
                format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\nsome of it").as_bytes(),
            );
            talk.say(1, &vec![b'y'; 1 << 20]);
        });
        capture.stays_below(BOUND);
        let rows = capture.rows("http");
        assert_eq!(rows.len(), 1, "{length}: {rows:?}");
        assert_eq!(rows[0]["incomplete_reason"], reason, "{length}: {rows:?}");
        assert_eq!(rows[0]["why"].as_str(), why, "{length}: {rows:?}");
        assert_eq!(rows[0]["total_ns"], Value::Null, "{length}");
    }
    // The same of requests.
    let capture = Capture::of_one(80, |talk| {
        talk.say(
            0,
            b"POST /long HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775808\r\n\r\nbegin",
        );
        talk.say(
            1,
            b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        );
        talk.say(0, &vec![b'z'; 1 << 20]);
    });
    capture.stays_below(BOUND);
    let rows = capture.rows("http");
    assert_eq!((rows.len(), &rows[0]["status"]), (1, &413.into()));
}

#[test]
fn chunks_of_2_to_the_63_and_64() {
    let _alone = alone();
    for (size, reason) in [("8000000000000000", "malformed"), ("10000000000000000", "malformed")] {
        let capture = Capture::of_one(80, |talk| {
            talk.say(0, b"GET /chunk HTTP/1.1\r\nHost: a\r\n\r\n");
            let head = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{size}\r\n");
            talk.say(1, head.as_bytes());
            talk.say(1, &vec![b'0'; 1 << 20]);
        });
        capture.stays_below(BOUND);
        let rows = capture.rows("http");
        assert_eq!(rows.len(), 1, "{size}: {rows:?}");
        assert_eq!(rows[0]["incomplete_reason"], reason, "{size}: {rows:?}");
    }
}

const GREETING: &[u8] =
    b"\0\0\0\0\x0a8.0.36\0\x08\0\0\0\x01\x02\x03\x04\x05\x06\x07\x08\0\x00\x82\xff\x02\0\0\x08\x15\0\0\0\0\0\0\0\0\0\0\
    abcdefghijkl\0mysql_native_password\0";
/// CLIENT_PROTOCOL_41, SECURE_CONNECTION, PLUGIN_AUTH.
const LOGIN: &[u8] = b"\0\0\0\x01\0\x82\x08\0\0\0\0\x01\x2d\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0root\0\0\
    mysql_native_password\0";
const OK: &[u8] = b"\x07\0\0\x02\0\0\0\x02\0\0\0";
const ANSWER: &[u8] = b"\x07\0\0\x01\0\0\0\x02\0\0\0";

fn log_in(talk: &mut Talk<'_>) {
    for (from, packet) in [(1, GREETING), (0, LOGIN)] {
        let mut packet = packet.to_vec();
        packet[0] = (packet.len() - 4) as u8;
        talk.say(from, &packet);
    }
    talk.say(1, OK);
}

/// A packet of `len` bytes that begins so; of the rest the length alone was captured.
fn mysql_packet(talk: &mut Talk<'_>, from: usize, seq: u8, begins: &[u8], len: usize) {
    let mut front = (len as u32).to_le_bytes().to_vec();
    front[3] = seq;
    front.extend_from_slice(begins);
    let mut left = 4 + len;
    while left > 0 {
        let here = left.min(support::packets::SEGMENT);
        talk.segment(from, &front[..front.len().min(here)], here);
        front.clear();
        left -= here;
    }
}

const FULL: usize = 0xff_ffff;

/// One COM_QUERY of a gibibyte, in 64 full packets and an empty one, of which the beginnings were captured.
#[test]
fn a_gigabyte_of_sql() {
    let _alone = alone();
    let capture = Capture::of_one(3306, |talk| {
        log_in(talk);
        for number in 0..64 {
            let begins: &[u8] = if number == 0 {
                b"\x03INSERT INTO t VALUES ('xxxxxxxx"
            } else {
                b"xxxxxxxx"
            };
            mysql_packet(talk, 0, number, begins, FULL);
        }
        mysql_packet(talk, 0, 64, b"", 0);
        talk.say(1, b"\x07\0\0\x41\0\0\0\x02\0\0\0");
        mysql_packet(talk, 0, 0, b"\x03SELECT 'next'", 14);
        talk.say(1, ANSWER);
    });
    capture.stays_below(BOUND);
    let rows = capture.rows("mysql");
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert_eq!(rows[0]["statement"], "INSERT INTO t VALUES ('xxxxxxxx");
    assert_eq!(rows[0]["statement_cut"], true);
    assert_eq!(rows[0]["request_bytes"], 64 * (FULL as u64 + 4) + 4);
    assert_eq!(rows[0]["status"], "ok");
    assert_eq!(rows[1]["statement"], "SELECT 'next'");
    assert_eq!(rows[1]["complete"], true, "{rows:?}");
}

/// The same with all of its bytes, a tenth as long.
#[test]
fn a_hundred_megabytes_of_sql_captured_in_full() {
    let _alone = alone();
    let text = vec![b'x'; 1 << 16];
    let capture = Capture::of_one(3306, |talk| {
        log_in(talk);
        for number in 0..6u8 {
            talk.say(0, &[0xff, 0xff, 0xff, number]);
            let mut left = FULL;
            if number == 0 {
                talk.say(0, b"\x03SELECT '");
                left -= 9;
            }
            while left > 0 {
                let here = left.min(text.len());
                talk.say(0, &text[..here]);
                left -= here;
            }
        }
        talk.say(0, b"\x01\0\0\x06'");
        talk.say(1, b"\x07\0\0\x07\0\0\0\x02\0\0\0");
    });
    capture.stays_below(BOUND);
    let rows = capture.rows("mysql");
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(
        (&rows[0]["status"], &rows[0]["complete"]),
        (&"ok".into(), &true.into()),
        "{rows:?}"
    );
    let kept = rows[0]["statement"].as_str().map_or(0, str::len);
    assert!((60 << 10..=64 << 10).contains(&kept), "{kept}");
}

/// Lengths that promise more, or less, than comes: the connection ends with what was read, and no row waits for it.
#[test]
fn mysql_packet_lengths_that_lie() {
    let _alone = alone();
    for (from, bytes) in [
        // A command of 16 MiB that stops after a few bytes.
        (0, &b"\xff\xff\xff\0\x03SELECT 1"[..]),
        // Shorter than it is: the rest looks like the next packet's header.
        (0, b"\x03\0\0\0\x03SELECT 1 FROM a_table_with_a_long_name"),
        // A command without a command.
        (0, b"\0\0\0\0\0\0\0\0\0\0\0\0"),
        // Responses with 2^63 columns, with a row of 16 MiB, and with a string longer than its packet.
        (1, b"\x09\0\0\x01\xfe\xff\xff\xff\xff\xff\xff\xff\x7f"),
        (1, b"\xff\xff\xff\x01\x02"),
        (1, b"\x04\0\0\x01\xfc\xff\xff\xff"),
        (1, b"\x01\0\0\x01\xff"),
    ] {
        let capture = Capture::of_one(3306, |talk| {
            log_in(talk);
            if from == 1 {
                mysql_packet(talk, 0, 0, b"\x03SELECT 2", 9);
            }
            for _ in 0..2000 {
                talk.say(from, bytes);
            }
        });
        capture.stays_below(BOUND);
        let rows = capture.rows("mysql");
        assert!(rows.len() <= 4096, "{bytes:x?}: {}", rows.len());
        assert!(
            rows.iter()
                .all(|row| row["total_ns"] == Value::Null || row["complete"] == true)
        );
    }
}

/// A statement prepared and executed for ever, none of them closed: what is remembered of them is bounded.
#[test]
fn prepared_statements_that_are_never_closed() {
    let _alone = alone();
    let text = [b"\x16SELECT ".as_slice(), &[b'y'; 1000]].concat();
    let capture = Capture::of_one(3306, |talk| {
        log_in(talk);
        for number in 0..40_000u32 {
            mysql_packet(talk, 0, 0, &text, text.len());
            let id = number.to_le_bytes();
            talk.say(1, &[&b"\x0c\0\0\x01\0"[..], &id, &[0; 7]].concat());
        }
    });
    capture.stays_below(BOUND);
    let rows = capture.rows("mysql");
    assert_eq!(rows.len(), 40_000);
}

/// Different long statements and paths: the report is bounded in bytes, not only in rows, and so are rows to be sorted.
#[test]
fn many_long_statements() {
    let _alone = alone();
    const CONNECTIONS: u16 = 16;
    const STATEMENTS: usize = 2500;
    // Letters, for a fingerprint leaves numbers out.
    let name = |number: usize| -> String {
        let digits = format!("{number:08}");
        digits.bytes().map(|digit| char::from(digit - b'0' + b'a')).collect()
    };
    let capture = Capture::make(|pcap| {
        for connection in 0..CONNECTIONS {
            let mut talk = Talk::open(pcap, 40_000 + connection, 3306);
            log_in(&mut talk);
            for number in 0..STATEMENTS {
                let name = name(usize::from(connection) * STATEMENTS + number);
                let text = format!("\x03SELECT {} FROM t", name.repeat(512));
                let head = (text.len() as u32).to_le_bytes();
                talk.say(0, &[&head, text.as_bytes()].concat());
                talk.say(1, b"\x07\0\0\x01\0\0\0\x02\0\0\0");
            }
            talk.close();
        }
    });
    let analyze = || {
        let mut command = Command::new(mdf_path());
        command.arg("analyze").arg(capture.path());
        command
    };
    peaks_below(BOUND, &mut analyze());
    let sorted = capture.folder.path().join("sorted.csv");
    let options = [
        "--table",
        "mysql",
        "--columns",
        "statement",
        "--sort",
        "-statement",
        "--format",
        "csv",
        "-o",
    ];
    peaks_below(BOUND, analyze().args(options).arg(&sorted));
    let text = std::fs::read_to_string(&sorted).expect("the table was written");
    let rows: Vec<&str> = text.lines().skip(1).collect();
    assert_eq!(rows.len(), usize::from(CONNECTIONS) * STATEMENTS);
    assert!(rows.is_sorted_by(|a, b| a > b));
}
