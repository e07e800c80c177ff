//! A recording in parts has the same contents as in one file: the fixtures are recorded again in both ways, by the recorder's own
//! drain and sink, and analysed.
#![cfg(all(feature = "record", feature = "analyze"))]
#![allow(clippy::expect_used, reason = "a test that panics has failed")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use masdeepflow::format::header::Header;
use masdeepflow::format::reader::Reader;
use masdeepflow::format::record::Record;
use masdeepflow::record::counters::Counters;
use masdeepflow::record::drain::{Drain, DrainConfig, Outlets};
use masdeepflow::record::output::Rotation;
use masdeepflow::record::sink::{Sink, SinkConfig};
use masdeepflow::record::{queue, sys};
use support::{mdf, run};

/// Everything but calendar time: each part reads the clocks itself, some nanoseconds apart.
const TABLES: [(&str, &str); 6] = [
    (
        "http",
        "client_port,server_port,method,path,status,request_bytes,response_bytes,ttfb_ns,total_ns,network_ns,side,\
         client_comm,server_comm,complete,incomplete_reason,connection,sequence",
    ),
    (
        "mysql",
        "client_port,server_port,user,database,command,statement,fingerprint,status,rows,affected_rows,request_bytes,\
         response_bytes,ttfb_ns,total_ns,network_ns,side,client_comm,complete,incomplete_reason,connection,sequence",
    ),
    (
        "connections",
        "client_ip,client_port,server_ip,server_port,role,state,connect_error,connect_ns,bytes_sent,bytes_received,\
         retransmits,protocol,exchanges,why,client_comm,server_comm",
    ),
    ("processes", "pid,ppid,uid,comm,exe,argv,exit_code,signal"),
    ("endpoints", "method,endpoint,host,count,errors,p50_ns,p99_ns,max_ns"),
    ("losses", "reason,events,bytes"),
];

/// Enough for all batches of a fixture: the sink runs when the drain has ended.
const BATCHES: usize = 10_000;
/// Records of a block.
const BLOCK: usize = 40;

/// The same record, this much earlier.
fn earlier<'a>(record: &Record<'a>, ns: u64) -> Record<'a> {
    let mut record = *record;
    match &mut record {
        Record::Process(r) => {
            r.time -= ns;
            r.start = r.start.saturating_sub(ns);
        }
        Record::Exit(r) => {
            r.time -= ns;
            r.start = r.start.saturating_sub(ns);
        }
        Record::Cgroup(r) => r.time -= ns,
        Record::Workload(r) => r.time -= ns,
        Record::Address(r) => r.time -= ns,
        Record::Socket(r) => r.time -= ns,
        Record::Owner(r) => r.time -= ns,
        Record::Connect(r) => r.time -= ns,
        Record::Close(r) => r.time -= ns,
        Record::Data(r) => r.time -= ns,
        Record::Loss(r) => {
            r.time -= ns;
            r.since = r.since.saturating_sub(ns);
        }
        Record::Clock(r) => r.boot -= ns,
        Record::Remark(r) => {
            r.time -= ns;
            r.since = r.since.saturating_sub(ns);
        }
    }
    record
}

/// Records what is in a capture again; gives the files.
fn record_again(capture: &Path, base: &Path, rotation: Rotation) -> Vec<PathBuf> {
    let bytes = fs::read(capture).expect("the fixture is there");
    let reader = Reader::open(&bytes).expect("it is a capture");
    let shared = Arc::new(Counters::default());
    let (sender, consumer) = queue::bounded(BATCHES);
    let outlets = Outlets {
        file: Some(sender),
        print: None,
    };
    let drain_config = DrainConfig {
        block_age: Duration::MAX,
        rotation,
        ring: None,
        max_events: None,
        max_sockets: 1000,
        proc: false,
        v1: false,
    };
    let sink_config = SinkConfig {
        base: base.to_owned(),
        header: Header {
            clock: sys::clocks(),
            ..reader.header().clone()
        },
        force: false,
        parts: rotation.is_on(),
        keep: None,
        max_size: None,
        ring: None,
    };
    let sink = Sink::new(sink_config, shared.clone()).expect("a file can be made");
    let mut drain = Drain::new(drain_config, outlets, shared, None, 0);
    // The recorder takes what it repeats for older than now: it must not be in the future of this machine's clock.
    let first = reader.blocks().iter().map(|block| block.first_time()).min();
    let ahead = first.expect("there are blocks") - 1;
    let mut raw = Vec::new();
    let mut pushed = 0;
    for block in reader.blocks() {
        block.inflate(&mut raw).expect("the fixture is whole");
        for record in masdeepflow::format::records(&raw) {
            let record = earlier(&record.expect("the fixture is whole"), ahead);
            // This recording has clocks of its own.
            if matches!(record, Record::Clock(_)) {
                continue;
            }
            drain.record(&record);
            pushed += 1;
            if pushed % BLOCK == 0 {
                drain.flush(record.time());
                drain.tick(record.time());
            }
        }
    }
    let last = Arc::new(drain.finish(u64::MAX));
    let outlets = drain.take_outlets();
    outlets.file.expect("it was given").offer(&last).expect("there is room");
    sink.run(&consumer)
}

fn table(files: &[PathBuf], table: &str, columns: &str) -> String {
    let mut analyze = mdf();
    analyze
        .arg("analyze")
        .args(files)
        .args(["--table", table, "--columns", columns, "--format", "csv"]);
    run(&mut analyze).expect_code(&[0, 3]).stdout
}

#[test]
fn parts_together_say_what_one_file_says() {
    let fixtures = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")).expect("fixtures/ is there");
    let mut most = 0;
    for entry in fixtures {
        let capture = entry.expect("it can be read").path();
        if capture.extension().is_none_or(|extension| extension != "mdf") {
            continue;
        }
        let folder = tempfile::tempdir().expect("a temporary directory can be made");
        let one = record_again(&capture, &folder.path().join("one.mdf"), Rotation::default());
        // Each block begins a part.
        let often = Rotation {
            size: None,
            time: Some(Duration::from_nanos(1)),
        };
        let parts = record_again(&capture, &folder.path().join("cap.mdf"), often);
        assert_eq!(one.len(), 1);
        most = most.max(parts.len());
        for (name, columns) in TABLES {
            let (parts, one) = (table(&parts, name, columns), table(&one, name, columns));
            // The first line that differs is easier to read than two tables.
            for (of_parts, of_one) in parts.lines().zip(one.lines()) {
                assert_eq!(of_parts, of_one, "{name} of {}", capture.display());
            }
            assert_eq!(
                parts.lines().count(),
                one.lines().count(),
                "{name} of {}",
                capture.display()
            );
        }
    }
    assert!(most > 5, "at most {most} parts");
}
