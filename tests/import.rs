//! Packet captures as input: every stream is compared with what tshark makes of the same file, byte for byte.
#![cfg(feature = "analyze")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use masdeepflow::analyze::import::{Import, ImportSummary};
use masdeepflow::format::record::{Direction, Record, Socket};

/// One connection as it was imported.
#[derive(Debug)]
struct Imported {
    socket: Socket,
    /// What `local` sent, and what it received: captured bytes without the holes.
    bytes: [Vec<u8>; 2],
    /// Where the next byte has to be, and bytes that are missing before it.
    next: [Option<u32>; 2],
    missing: [u64; 2],
}

fn captures() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir("fixtures/pcap")
        .expect("fixtures/pcap")
        .map(|entry| entry.expect("directory entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "pcap" || e == "pcapng"))
        .collect();
    files.sort();
    files
}

/// Imports a file and checks on the way that streams are in order and do not overlap.
fn imported(path: &Path) -> (BTreeMap<u32, Imported>, ImportSummary) {
    let mut connections = BTreeMap::new();
    let file = std::fs::File::open(path).expect("fixture");
    let summary = Import::open(file)
        .expect("a packet capture")
        .records(&mut |record| match record {
            Record::Socket(socket) => {
                let fresh = Imported {
                    socket: *socket,
                    bytes: Default::default(),
                    next: [None; 2],
                    missing: [0; 2],
                };
                assert!(
                    connections.insert(socket.id as u32, fresh).is_none(),
                    "announced twice: {socket:?}"
                );
            }
            Record::Data(data) => {
                let connection = connections
                    .get_mut(&(data.id as u32))
                    .expect("data of an announced socket");
                let side = usize::from(data.direction == Direction::Received);
                let jump = data.pos.wrapping_sub(connection.next[side].unwrap_or(data.pos));
                assert!(jump < 1 << 30, "bytes twice or out of order: {data:?}");
                connection.missing[side] += u64::from(jump) + u64::from(data.len) - data.payload.len() as u64;
                connection.next[side] = Some(data.pos.wrapping_add(data.len));
                connection.bytes[side].extend_from_slice(data.payload);
            }
            _ => {}
        })
        .expect("readable");
    (connections, summary)
}

fn tshark() -> bool {
    let found = Command::new("tshark")
        .arg("--version")
        .output()
        .is_ok_and(|o| o.status.success());
    if !found {
        eprintln!("NOT RUN: tshark is not installed; streams were not compared with it");
    }
    found
}

fn tshark_output(arguments: &[&str]) -> String {
    let output = Command::new("tshark").args(arguments).output().expect("tshark runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// How many TCP streams tshark sees.
fn tshark_streams(path: &str) -> usize {
    let text = tshark_output(&["-r", path, "-Y", "tcp", "-T", "fields", "-e", "tcp.stream"]);
    text.lines()
        .filter_map(|line| line.trim().parse::<usize>().ok())
        .max()
        .map_or(0, |last| last + 1)
}

/// One direction of a stream: who sent it, its bytes, and how many tshark says are missing.
#[derive(Debug, Default, Clone)]
struct Followed {
    node: String,
    bytes: Vec<u8>,
    missing: u64,
}

/// What tshark's "follow" makes of all streams of a file.
fn tshark_follow(path: &str, streams: usize) -> Vec<[Followed; 2]> {
    let mut arguments = vec!["-r".to_string(), path.to_string(), "-q".to_string()];
    for stream in 0..streams {
        arguments.extend(["-z".to_string(), format!("follow,tcp,raw,{stream}")]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut followed = vec![<[Followed; 2]>::default(); streams];
    let mut stream = 0;
    for line in tshark_output(&arguments).lines() {
        if let Some(number) = line.strip_prefix("Filter: tcp.stream eq ") {
            stream = number.trim().parse().expect("stream number");
        } else if let Some(node) = line.strip_prefix("Node 0: ") {
            followed[stream][0].node = node.to_string();
        } else if let Some(node) = line.strip_prefix("Node 1: ") {
            followed[stream][1].node = node.to_string();
        } else {
            let side = &mut followed[stream][usize::from(line.starts_with('\t'))];
            let hex = line.trim();
            if hex.is_empty() || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
                continue;
            }
            let bytes: Vec<u8> = (0..hex.len() / 2)
                .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("hex"))
                .collect();
            // tshark writes a note into the stream where bytes are missing.
            let note = std::str::from_utf8(&bytes).ok().and_then(|text| {
                text.strip_prefix('[')?
                    .strip_suffix(" bytes missing in capture file]\0")?
                    .parse::<u64>()
                    .ok()
            });
            match note {
                Some(missing) => side.missing += missing,
                None => side.bytes.extend(bytes),
            }
        }
    }
    followed
}

/// Compares every stream of a file with tshark's.
fn compare_with_tshark(path: &Path) -> ImportSummary {
    let text = path.to_str().expect("utf-8");
    let (connections, summary) = imported(path);
    let streams = tshark_streams(text);
    assert_eq!(connections.len(), streams, "connections of {text}");
    for (connection, followed) in connections.values().zip(tshark_follow(text, streams)) {
        for theirs in followed {
            let side = usize::from(theirs.node != connection.socket.local.to_string());
            let ours = &connection.bytes[side];
            let same = ours.iter().zip(&theirs.bytes).take_while(|(a, b)| a == b).count();
            let what = format!("{text}, what {} sent, equal up to byte {same}", theirs.node);
            assert_eq!(ours.len(), theirs.bytes.len(), "{what}");
            assert!(*ours == theirs.bytes, "{what}");
            assert_eq!(connection.missing[side], theirs.missing, "bytes missing: {what}");
        }
    }
    summary
}

#[test]
fn the_streams_of_real_captures_are_those_that_tshark_follows() {
    if !tshark() {
        return;
    }
    for path in captures() {
        let summary = compare_with_tshark(&path);
        assert_eq!(summary.not_understood(), 0, "{path:?}: {summary:?}");
        let with_drops = path.to_string_lossy().contains("with-drops");
        assert_eq!(summary.is_whole(), !with_drops, "{path:?}: {summary:?}");
    }
}
