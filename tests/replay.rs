//! Live lines of captures: in order of time, and the same wherever they are read.
#![cfg(feature = "analyze")]
#![allow(clippy::expect_used, reason = "a test that panics has failed")]

mod support;

use std::cell::Cell;
use std::path::Path;

use masdeepflow::format::record::{Loss, LossReason, Record};
use masdeepflow::format::{BlockBuilder, Class, Reader, Writer, records};
use support::captures::{self, Place};
use support::packets::{Pcap, RAW_IP, Talk};
use support::{mdf, run};

fn lines(capture: &Path) -> Vec<String> {
    let replayed = run(mdf().arg("replay").arg(capture)).expect_code(&[0]);
    replayed.stdout.lines().map(str::to_string).collect()
}

#[track_caller]
fn in_order(lines: &[String]) {
    let time = |line: &String| line[..15].to_string();
    let late = lines.windows(2).filter(|pair| time(&pair[1]) < time(&pair[0])).count();
    assert!(lines.len() > 100 && late == 0, "{late} of {}", lines.len());
}

#[test]
fn lines_are_the_same_for_any_number_of_threads() {
    for capture in ["nginx-wrk", "sysbench-text", "short-lived", "tiny"] {
        let lines = |threads: &str| {
            let capture = format!("fixtures/{capture}.mdf");
            run(mdf().env("RAYON_NUM_THREADS", threads).args(["replay", &capture])).expect_code(&[0])
        };
        let one = lines("1").stdout;
        assert!(one.lines().count() > 10, "{one}");
        for threads in ["2", "3", "16", "64"] {
            assert!(lines(threads).stdout == one, "{capture} with {threads} threads");
        }
    }
}

/// As several processors write them: each block has events from all of the time.
#[test]
fn lines_of_blocks_that_overlap_come_in_order_of_time() {
    const BLOCKS: usize = 12;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("overlap.mdf");
    let file = std::fs::read("fixtures/nginx-wrk.mdf").expect("fixture");
    let reader = Reader::open(&file).expect("a capture");
    let mut writer = Writer::new(Vec::new(), reader.header(), 3).expect("memory has room");
    let mut events: Vec<BlockBuilder> = (0..BLOCKS).map(|_| BlockBuilder::new(Class::Events)).collect();
    let mut state = BlockBuilder::new(Class::State);
    let mut raw = Vec::new();
    for block in reader.blocks() {
        block.inflate(&mut raw).expect("a good block");
        for record in records(&raw) {
            let record = record.expect("a good record");
            // Those of one connection are in order.
            let id = match &record {
                Record::Data(data) => data.id,
                Record::Connect(connect) => connect.id,
                Record::Close(close) => close.id,
                _ => 0,
            };
            match record.is_state() {
                true => state.push(&record),
                false => events[(id >> 32) as usize % BLOCKS].push(&record),
            }
        }
    }
    let all = std::iter::once(state).chain(events);
    for mut builder in all.filter(|builder| !builder.is_empty()) {
        writer.write(&builder.take()).expect("memory has room");
    }
    std::fs::write(&path, writer.finish().expect("memory has room").0).expect("a file");
    let lines = lines(&path);
    in_order(&lines);
    assert_eq!(lines.len(), self::lines(Path::new("fixtures/nginx-wrk.mdf")).len());
}

#[test]
fn an_exchange_that_is_known_late_has_its_line_at_its_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let (packets, capture) = (folder.path().join("in.pcap"), folder.path().join("in.mdf"));
    let mut pcap = Pcap::create(&packets, RAW_IP);
    let mut late = Talk::open(&mut pcap, 40_000, 80);
    late.say(0, b"GET /late HTTP/1.1\r\nHost: a\r\n\r\n");
    // Ends when the connection does.
    late.say(1, b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok");
    let ends = late.ends;
    let mut talk = Talk::open(&mut pcap, 40_001, 80);
    for number in 0..30_000 {
        talk.say(0, format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        talk.say(1, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    }
    talk.close();
    Talk { pcap: &mut pcap, ends }.close();
    pcap.finish();
    run(mdf().arg("import").arg(&packets).arg("-o").arg(&capture)).expect_code(&[0]);
    let file = std::fs::read(&capture).expect("a file");
    assert!(
        Reader::open(&file).expect("a capture").blocks().len() > 6,
        "more than are read together"
    );
    let lines = lines(&capture);
    in_order(&lines);
    let late = lines
        .iter()
        .position(|line| line.contains("GET a/late"))
        .expect("a line");
    assert!(late < 20, "{late}");
}

#[test]
fn errors_of_connect_are_called_what_linux_calls_them() {
    let lines = lines(Path::new("fixtures/failed-connect.mdf"));
    let failed: Vec<&String> = lines.iter().filter(|line| line.contains("failed after")).collect();
    assert!(
        !failed.is_empty() && failed.iter().all(|line| line.ends_with(": ECONNREFUSED")),
        "{failed:?}"
    );
}

/// A clock that is wrong by centuries: what has no time that results can hold has none, and that is told.
#[test]
fn a_clock_that_no_calendar_knows_gives_no_times() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("late.mdf");
    for realtime in [u64::MAX - 1_000_000_000_000, i64::MAX as u64 + 1] {
        captures::edit_with_header(
            Path::new("fixtures/tiny.mdf"),
            &path,
            |header| header.clock.realtime = realtime,
            |record| {
                if let Record::Clock(clock) = record {
                    clock.realtime = realtime;
                }
                Place::Here
            },
        );
        let analyze = |options: &[&str]| run(mdf().arg("analyze").arg(&path).args(options)).expect_code(&[3]);
        let http = analyze(&["--table", "http", "--columns", "start,status", "--format", "csv"]);
        assert!(http.stdout.lines().count() > 2, "{}", http.stdout);
        assert!(
            http.stdout.lines().skip(1).all(|line| line.starts_with(',')),
            "{}",
            http.stdout
        );
        assert!(http.stderr.contains("before 1970 or after 2262"), "{}", http.stderr);
        let report = analyze(&[]).stdout;
        assert!(report.contains("rows with times before 1970 or after 2262"), "{report}");
        assert!(report.contains("time not known"), "{report}");
        let info = run(mdf().args(["info", "--json"]).arg(&path)).expect_code(&[0]).stdout;
        let info: serde_json::Value = serde_json::from_str(&info).expect("JSON");
        assert!(info["start"].is_null() && info["end"].is_null(), "{info}");
        let lines = lines(&path);
        assert!(
            lines.len() > 10 && lines.iter().all(|line| line.starts_with("--:--:--.------ ")),
            "{lines:?}"
        );
    }
}

/// As `info` and `analyze` end, whatever it is that is missing.
#[test]
fn what_was_lost_or_damaged_is_said_and_ends_with_3() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = std::fs::read("fixtures/tiny.mdf").expect("fixture");
    let path = |name: &str| folder.path().join(name);
    let lost = |name: &str, reason: LossReason| {
        let is_told = Cell::new(false);
        captures::edit(Path::new("fixtures/tiny.mdf"), &path(name), |record| {
            if let (Record::Data(data), false) = (&*record, is_told.get()) {
                is_told.set(true);
                let (time, since) = (data.time, data.time);
                *record = Record::Loss(Loss {
                    time,
                    since,
                    reason,
                    events: 3,
                    bytes: 0,
                });
            }
            Place::Here
        });
    };
    lost("ring", LossReason::RingFull);
    std::fs::write(path("cut"), &whole[..whole.len() / 2]).expect("a file");
    let mut flipped = whole.clone();
    let reader = Reader::open(&whole).expect("a capture");
    let block = reader
        .blocks()
        .iter()
        .find(|block| block.class() == Class::Events)
        .expect("events");
    let range = block.range();
    flipped[range.start + range.len() / 2] ^= 0xff;
    std::fs::write(path("flipped"), &flipped).expect("a file");
    for name in ["ring", "cut", "flipped"] {
        let replayed = run(mdf().arg("replay").arg(path(name))).expect_code(&[3]);
        assert!(
            replayed.stderr.contains("was lost or damaged"),
            "{name}: {}",
            replayed.stderr
        );
        run(mdf().arg("analyze").arg(path(name))).expect_code(&[3]);
    }
    let replayed = run(mdf().arg("replay").arg("fixtures/tiny.mdf")).expect_code(&[0]);
    assert_eq!(replayed.stderr, "");
}

#[test]
fn a_reader_who_goes_away_is_no_loss() {
    let mut replay = mdf()
        .args(["replay", "fixtures/nginx-wrk.mdf"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("mdf starts");
    drop(replay.stdout.take());
    assert_eq!(replay.wait().expect("it ends").code(), Some(0));
}
