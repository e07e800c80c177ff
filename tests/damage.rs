//! Damage is normal input: whatever is cut off a capture or flipped in it, there is a result or an error, never a
//! panic, and what was lost is said.
#![cfg(feature = "analyze")]
#![allow(clippy::expect_used, reason = "a test that panics has failed")]

mod support;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use masdeepflow::analyze::engine::Source;
use masdeepflow::analyze::live::Live;
use masdeepflow::format::reader::Reader;
use masdeepflow::format::record::{Loss, LossReason, Record, Role};
use masdeepflow::format::{BlockBuilder, Writer, records};
use support::captures::{self, Place};
use support::{count, mdf, rows, run};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tiny.mdf")
}

/// What the whole analyzer makes of these bytes: its lines, and whether it knows that something is missing.
/// `None`: refused.
fn read(bytes: &[u8]) -> Option<(Vec<String>, bool)> {
    let reader = Reader::open(bytes).ok()?;
    let mut live = Live::new(reader.header());
    let sources: Vec<_> = reader.blocks().iter().map(|block| Source::Stored(*block)).collect();
    let mut lines = live.lines(&sources);
    lines.extend(live.finish().0);
    let mut raw = Vec::new();
    let broken = reader.blocks().iter().any(|block| block.inflate(&mut raw).is_err());
    let lost = broken || !reader.clean_end() || reader.damage().iter().any(|damage| damage.loses());
    Some((lines.into_iter().map(|line| line.text).collect(), lost))
}

#[test]
fn every_truncation_gives_a_result_that_says_so_or_an_error() {
    let bytes = fs::read(fixture()).expect("the fixture is there");
    let (whole, lost) = read(&bytes).expect("the fixture is whole");
    assert!(!lost && whole.iter().any(|line| line.contains("GET")), "{whole:?}");
    for len in 0..bytes.len() {
        if let Some((lines, lost)) = read(&bytes[..len]) {
            assert!(lost, "cut at {len}: and nothing is said to be missing");
            assert!(lines.len() <= whole.len(), "cut at {len}: more lines than before");
        }
    }
}

#[test]
fn every_flipped_byte_changes_nothing_or_is_noticed() {
    let bytes = fs::read(fixture()).expect("the fixture is there");
    let (whole, _) = read(&bytes).expect("the fixture is whole");
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            if let Some((lines, lost)) = read(&damaged) {
                assert!(
                    lost || lines == whole,
                    "byte {at} ^ {flip:#x}: other lines, and nothing is said to be missing"
                );
            }
        }
    }
}

#[test]
fn the_exit_code_of_analyze_says_what_became_of_a_damaged_file() {
    let bytes = fs::read(fixture()).expect("the fixture is there");
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let file = dir.path().join("damaged.mdf");
    run(mdf().arg("analyze").arg(fixture())).expect_code(&[0]);
    let mut codes = [0; 4];
    let step = (bytes.len() / 40).max(1);
    for at in (0..bytes.len()).step_by(step) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x55;
        for damaged in [&bytes[..at], &flipped[..]] {
            fs::write(&file, damaged).expect("it can be written");
            let finished = run(mdf().arg("analyze").arg(&file)).expect_code(&[0, 1, 3]);
            let code = finished.code();
            codes[code as usize] += 1;
            let lost = read(damaged).map(|(_, lost)| lost);
            match lost {
                None => assert_eq!(code, 1, "at {at}: {}", finished.stderr),
                Some(true) => assert_eq!(code, 3, "at {at}: {}", finished.stderr),
                Some(false) => assert_eq!(code, 0, "at {at}: {}", finished.stderr),
            }
            assert!(!finished.stderr.contains("panicked"), "at {at}: {}", finished.stderr);
        }
    }
    assert!(
        codes[1] > 0 && codes[3] > 0,
        "the fixture is large enough for both: {codes:?}"
    );
}

/// A full ring, or a damaged block of state.
#[test]
fn socket_records_that_are_lost_are_told_with_the_bytes_that_they_cost() {
    let folder = tempfile::tempdir().expect("a temporary directory can be made");
    let file = folder.path().join("changed.mdf");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/nginx-curl.mdf");
    let (lost, bytes) = (RefCell::new(HashSet::new()), Cell::new(0u64));
    captures::edit(&fixture, &file, |record| match record {
        Record::Socket(socket) if socket.role == Role::Server => {
            lost.borrow_mut().insert(socket.id);
            Place::Nowhere
        }
        Record::Data(data) if lost.borrow().contains(&data.id) => {
            bytes.set(bytes.get() + u64::from(data.len));
            Place::Here
        }
        _ => Place::Here,
    });
    assert!(bytes.get() > 0, "the fixture has a server");
    let report = run(mdf().arg("analyze").arg(&file)).expect_code(&[3]);
    assert!(report.stdout.contains("no_socket"), "{}", report.stdout);
    let losses = rows(&file, "losses");
    assert_eq!(count(&losses, "reason", "no_socket"), 1, "{losses:#?}");
    let loss = losses.iter().find(|row| row["reason"] == "no_socket").expect("a row");
    assert_eq!(loss["bytes"], bytes.get());
    assert!(loss["events"].as_u64() > Some(1), "{loss:#}");
    let replayed = run(mdf().arg("replay").arg(&file)).expect_code(&[3]);
    assert!(replayed.stdout.contains("no_socket"), "{}", replayed.stdout);
}

#[test]
fn totals_of_absurd_numbers_are_the_largest_there_are() {
    let bytes = fs::read(fixture()).expect("the fixture is there");
    let reader = Reader::open(&bytes).expect("the fixture is whole");
    let mut writer = Writer::new(Vec::new(), reader.header(), 1).expect("memory has room");
    let mut raw = Vec::new();
    for block in reader.blocks() {
        block.inflate(&mut raw).expect("a good block");
        let mut absurd = BlockBuilder::new(block.class());
        for record in records(&raw) {
            let mut record = record.expect("a good record");
            if let Record::Close(close) = &mut record {
                (close.bytes_sent, close.bytes_received) = (u64::MAX, u64::MAX);
                let loss = Loss {
                    time: close.time,
                    since: close.time,
                    reason: LossReason::ALL[0],
                    events: u64::MAX,
                    bytes: u64::MAX,
                };
                absurd.push(&Record::Loss(loss));
                absurd.push(&Record::Loss(loss));
            }
            absurd.push(&record);
        }
        let mut absurd = absurd.take();
        (absurd.data_bytes, absurd.payload_bytes) = (u64::MAX, u64::MAX);
        writer.write(&absurd).expect("memory has room");
    }
    let (bytes, _) = writer.finish().expect("memory has room");
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let file = dir.path().join("absurd.mdf");
    fs::write(&file, bytes).expect("it can be written");

    let analyze = |options: &[&str]| {
        run(mdf().arg("analyze").arg(&file).args(options))
            .expect_code(&[3])
            .stdout
    };
    let json = |options: &[&str]| -> serde_json::Value {
        serde_json::from_str(&analyze(options)).expect("the report is JSON")
    };
    let most = serde_json::Value::from(u64::MAX);
    let report = json(&["--format", "json"]);
    assert_eq!(report["totals"]["bytes"], most, "{}", report["totals"]);
    let capture = json(&["--table", "capture", "--format", "ndjson"]);
    assert_eq!((&capture["data_bytes"], &capture["payload_bytes"]), (&most, &most));
    for table in ["connections", "services", "losses"] {
        analyze(&["--table", table]);
    }
    analyze(&["--table", "connections", "-g", "protocol"]);
}

/// The damaged records of a file, by the report's text, its JSON, and the table.
fn told_damaged(file: &Path) -> [u64; 3] {
    let sum = |rows: &[serde_json::Value]| {
        let these = rows.iter().filter(|row| row["reason"] == "damaged");
        these.map(|row| row["events"].as_u64().expect("a number")).sum::<u64>()
    };
    let text = run(mdf().arg("analyze").arg(file)).expect_code(&[3]).stdout;
    assert!(!text.contains("Losses      none"), "{text}");
    let listed = text.lines().filter(|line| line.trim_start().starts_with("damaged "));
    // Reason, what, events.
    let events = |line: &str| {
        let number = line.split("  ").filter(|cell| !cell.trim().is_empty()).nth(2);
        number
            .expect("a cell")
            .trim()
            .replace(',', "")
            .parse::<u64>()
            .expect("a number")
    };
    let of_text = listed.map(events).sum();
    let json = run(mdf().arg("analyze").arg(file).args(["--format", "json"]))
        .expect_code(&[3])
        .stdout;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let of_json = sum(json["losses"].as_array().expect("a list"));
    [of_text, of_json, sum(&rows(file, "losses"))]
}

#[test]
fn records_of_damaged_blocks_are_told_everywhere_with_the_same_number() {
    let folder = tempfile::tempdir().expect("a temporary directory can be made");
    let (small, file) = (folder.path().join("small.mdf"), folder.path().join("damaged.mdf"));
    captures::in_small_blocks(&fixture(), &small, 8);
    let bytes = fs::read(&small).expect("it was written");
    let reader = Reader::open(&bytes).expect("a capture");
    let blocks = reader.blocks();
    assert!(blocks.len() > 8, "{}", blocks.len());
    for block in blocks.iter().step_by(3) {
        let records = u64::from(block.records());
        // Its body: the checksum is wrong.
        let mut damaged = bytes.clone();
        damaged[block.range().end - 1] ^= 0x55;
        fs::write(&file, &damaged).expect("it can be written");
        assert_eq!(told_damaged(&file), [records; 3], "block at {}", block.offset());
        // The file ends within it.
        fs::write(&file, &bytes[..block.range().end - 1]).expect("it can be written");
        assert_eq!(told_damaged(&file), [records; 3], "cut block at {}", block.offset());
    }
    // Two of them.
    let mut damaged = bytes.clone();
    for block in &blocks[4..6] {
        damaged[block.range().end - 1] ^= 0x55;
    }
    fs::write(&file, &damaged).expect("it can be written");
    let both = blocks[4..6].iter().map(|block| u64::from(block.records())).sum::<u64>();
    assert_eq!(told_damaged(&file), [both; 3]);
    // Without index and with a header that is none, it is not known how many.
    let mut damaged = bytes[..blocks[6].range().end].to_vec();
    damaged[blocks[4].range().start] ^= 0x55;
    fs::write(&file, &damaged).expect("it can be written");
    assert_eq!(told_damaged(&file), [0; 3]);
    let losses = rows(&file, "losses");
    assert!(
        losses
            .iter()
            .any(|row| row["reason"] == "damaged" && row["events"] == 0),
        "{losses:#?}"
    );
}

#[test]
fn a_file_that_is_damaged_in_thousands_of_places_does_not_flood_the_report() {
    let folder = tempfile::tempdir().expect("a temporary directory can be made");
    let file = folder.path().join("damaged.mdf");
    let bytes = fs::read(fixture()).expect("the fixture is there");
    let reader = Reader::open(&bytes).expect("a capture");
    let block = reader.blocks()[0].range();
    let mut damaged = bytes[..block.start].to_vec();
    for _ in 0..3000 {
        damaged.extend_from_slice(&bytes[block.clone()]);
        damaged.extend_from_slice(b"no block");
    }
    fs::write(&file, damaged).expect("it can be written");
    let report = run(mdf().arg("analyze").arg(&file)).expect_code(&[3]).stdout;
    let told: Vec<&str> = report.lines().filter(|line| line.contains("damaged: ")).collect();
    assert_eq!(told.len(), 21, "{told:?}");
    assert!(
        told[20].ends_with("… and 2,981 more places: --table capture"),
        "{told:?}"
    );
    let losses = rows(&file, "losses");
    assert_eq!(count(&losses, "reason", "damaged"), 3000);
}
