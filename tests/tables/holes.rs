//! The law of holes, over the whole analyzer: what is lost costs the exchanges that it touches. Each row that is complete
//! says what the row of the whole capture says, or leaves out what was lost with its other end.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufWriter, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use masdeepflow::analyze::protocol::PROTOCOLS;
use masdeepflow::format::record::Record;
use serde_json::{Map, Value};

use super::support::captures::{Place, edit};
use super::support::each_row;
use super::synth;

/// Times of the exchange as the ends saw it that are left; they are those of the whole where the same ends saw it.
const OF_THE_ENDS_LEFT: [&str; 5] = ["start", "ttfb_ns", "total_ns", "network_ns", "side"];
/// How many exchanges came before it, and what is said of the row.
const NOT_OF_THE_EXCHANGE: [&str; 6] = ["sequence", "connection", "complete", "why", "inferred", "has_exchanges"];
/// What a lost command may have changed, which is said in the column `inferred`.
const OF_THE_SESSION: [&str; 2] = ["user", "database"];

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

type Row = Map<String, Value>;

fn complete_rows(file: &Path, protocol: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    each_row(file, protocol, &["--columns", "*"], |line| {
        let row: Row = serde_json::from_str(line).expect("a row is an object");
        let start = row["start"].as_str().unwrap_or_default();
        assert!(!start.starts_with("1970"), "{}: {line}", file.display());
        if row["complete"] == true {
            rows.push(row);
        }
    });
    rows
}

/// What this says, and `whole` does not.
fn differences<'r>(row: &'r Row, whole: &Row) -> Vec<(&'r String, &'r Value)> {
    let is_same_view = ["client_total_ns", "server_total_ns"]
        .iter()
        .all(|column| row[*column].is_null() == whole[*column].is_null());
    // What awaits no answer may be over before it is known that the answer to the command before it is lost.
    let is_inferred = row.get("inferred") == Some(&Value::Bool(true)) || row["response_bytes"].is_null();
    let is_other = |(column, value): &(&String, &Value)| {
        let is_left_out = NOT_OF_THE_EXCHANGE.contains(&column.as_str())
            || (!is_same_view && OF_THE_ENDS_LEFT.contains(&column.as_str()))
            || (is_inferred && OF_THE_SESSION.contains(&column.as_str()));
        !is_left_out && !value.is_null() && **value != whole[*column]
    };
    row.iter().filter(is_other).collect()
}

/// The rows of one connection, by the ports of its ends.
fn by_connection(rows: Vec<Row>) -> BTreeMap<String, Vec<Row>> {
    let mut connections: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for row in rows {
        let ends = ["client_ip", "client_port", "server_ip", "server_port"].map(|column| row[column].to_string());
        connections.entry(ends.concat()).or_default().push(row);
    }
    connections
}

/// What a capture gives, whole and with holes.
#[derive(Debug, Default)]
struct Outcome {
    captures: usize,
    /// Events that were taken out.
    lost: u64,
    /// Complete rows of the whole captures, and of those with holes.
    whole: usize,
    found: usize,
}

impl Outcome {
    fn compare(&mut self, whole: &Path, with_holes: &Path, lost: u64) {
        self.captures += 1;
        self.lost += lost;
        for protocol in PROTOCOLS.iter().map(|protocol| protocol.name()) {
            let truth = complete_rows(whole, protocol);
            let found = complete_rows(with_holes, protocol);
            self.whole += truth.len();
            self.found += found.len();
            let truth = by_connection(truth);
            for (ends, found) in by_connection(found) {
                let mut left: Vec<&Row> = truth.get(&ends).into_iter().flatten().collect();
                for row in found {
                    let place = left.iter().position(|whole| differences(&row, whole).is_empty());
                    let nearest = || left.iter().map(|whole| differences(&row, whole)).min_by_key(Vec::len);
                    assert!(
                        place.is_some(),
                        "{}: {row:?}\nis not what the whole capture says: {:?}",
                        whole.display(),
                        nearest()
                    );
                    place.map(|at| left.remove(at));
                }
            }
        }
    }
}

/// What a ring that is full loses: runs of events.
struct Runs {
    random: RefCell<Random>,
    of: u64,
    longest: u64,
    left: Cell<u64>,
    lost: Cell<u64>,
}

impl Runs {
    /// One event of `of` begins a run of up to `longest`.
    fn new(seed: u64, of: u64, longest: u64) -> Self {
        Runs {
            random: RefCell::new(Random(seed)),
            of,
            longest,
            left: Cell::new(0),
            lost: Cell::new(0),
        }
    }

    fn is_lost(&self) -> bool {
        let mut random = self.random.borrow_mut();
        if self.left.get() == 0 && random.below(self.of) == 0 {
            self.left.set(1 + random.below(self.longest));
        }
        let is_lost = self.left.get() > 0;
        self.left.set(self.left.get().saturating_sub(1));
        self.lost.set(self.lost.get() + u64::from(is_lost));
        is_lost
    }
}

fn compare_recorded(file: &Path, with_holes: &Path, outcome: &mut Outcome) {
    for (seed, of, longest) in [(1, 300, 1), (2, 100, 1), (3, 30, 1), (4, 200, 12), (5, 500, 200)] {
        let runs = Runs::new(seed, of, longest);
        edit(file, with_holes, |record| match record {
            Record::Data(_) if runs.is_lost() => Place::Nowhere,
            _ => Place::Here,
        });
        outcome.compare(file, with_holes, runs.lost.get());
    }
}

fn fixtures(folder: &str, ending: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(folder);
    let mut files: Vec<_> = fs::read_dir(folder)
        .expect("fixtures are there")
        .map(|entry| entry.expect("it can be listed").path())
        .filter(|path| path.extension().is_some_and(|found| found == ending))
        .collect();
    files.sort();
    files
}

#[test]
fn holes_in_recorded_captures_cost_the_exchanges_that_they_touch() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let with_holes = folder.path().join("holes.mdf");
    let mut outcome = Outcome::default();
    for file in fixtures("", "mdf") {
        compare_recorded(&file, &with_holes, &mut outcome);
    }
    assert!(outcome.captures > 30 && outcome.lost > 30, "{outcome:?}");
    // An event of one end touches one exchange and makes another unsure, and touches the turns before, in and after which it was.
    assert!(
        outcome.whole - outcome.found <= 5 * outcome.lost as usize,
        "{outcome:?}"
    );
}

#[test]
fn holes_in_synthetic_captures_cost_the_exchanges_that_they_touch() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (file, with_holes) = (folder.path().join("whole.mdf"), folder.path().join("holes.mdf"));
    for protocol in ["http", "mysql"] {
        for ends in ["client", "server", "both"] {
            let mut outcome = Outcome::default();
            let _ = fs::remove_file(&file);
            synth(&file, &[protocol, "-n", "1500", "-c", "3", "--ends", ends]);
            compare_recorded(&file, &with_holes, &mut outcome);
            assert!(
                outcome.whole > 7000 && outcome.whole - outcome.found <= 5 * outcome.lost as usize,
                "{protocol} {ends}: {outcome:?}"
            );
        }
    }
}

/// The classic pcap format, little endian: `change` changes a packet, header first, or takes it out.
fn with_packets(file: &Path, to: &Path, mut change: impl FnMut(&mut [u8]) -> bool) {
    let mut bytes = fs::read(file).expect("the fixture is there");
    assert_eq!(bytes[..4], 0xa1b2_c3d4_u32.to_le_bytes(), "{}", file.display());
    let mut kept = bytes[..24].to_vec();
    let mut at = 24;
    while let Some(header) = bytes.get(at..at + 16) {
        let captured = u32::from_le_bytes(header[8..12].try_into().expect("four bytes")) as usize;
        let packet = &mut bytes[at..at + 16 + captured];
        if change(packet) {
            kept.extend_from_slice(packet);
        }
        at += 16 + captured;
    }
    fs::write(to, kept).expect("the folder can be written");
}

/// Gives each packet another time: as close to the one before it as on one host, or as far as users are from servers.
fn with_pauses(file: &Path, to: &Path, seed: u64) {
    let mut random = Random(seed);
    let mut micros: u64 = 1_700_000_000_000_000;
    with_packets(file, to, |packet| {
        micros += [1, 30, 1000, 6000, 20_000, 100_000][random.below(6) as usize];
        packet[..4].copy_from_slice(&((micros / 1_000_000) as u32).to_le_bytes());
        packet[4..8].copy_from_slice(&((micros % 1_000_000) as u32).to_le_bytes());
        true
    });
}

#[test]
fn lost_packets_cost_the_exchanges_that_they_touch() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let [slow, with_holes] = ["slow.pcap", "holes.pcap"].map(|name| folder.path().join(name));
    let mut outcome = Outcome::default();
    let files = ["http", "mysql", "detection", "pcap"].map(|folder| fixtures(folder, "pcap"));
    let is_little = |file: &PathBuf| {
        let bytes = fs::read(file).expect("the fixture is there");
        bytes.starts_with(&0xa1b2_c3d4_u32.to_le_bytes())
    };
    // Whoever asks for the binary log is not read any further: where that command is lost, more is read than of the whole.
    let is_left = |file: &PathBuf| file.ends_with("mariadb_binlog.pcap");
    for file in files.concat().iter().filter(|file| is_little(file) && !is_left(file)) {
        for (seed, of) in [(1, 100), (2, 33), (3, 10), (4, 3), (5, 3), (6, 10), (7, 33)] {
            with_pauses(file, &slow, seed);
            for whole in [file, &slow] {
                let runs = Runs::new(seed, of, 1);
                with_packets(whole, &with_holes, |_| !runs.is_lost());
                outcome.compare(whole, &with_holes, runs.lost.get());
            }
        }
    }
    assert!(outcome.captures > 200 && outcome.lost > 2000, "{outcome:?}");
}

/// A frame of a capture of Ethernet and IPv4, with its pcap header.
struct Frame {
    bytes: Vec<u8>,
    at_ns: u64,
    /// Ports and sequence number: the same of what is sent again.
    segment: [u8; 8],
    has_payload: bool,
}

/// Where the IP header begins, behind those of pcap and Ethernet.
const IP: usize = 16 + 14;

fn frames(file: &Path) -> (Vec<u8>, Vec<Frame>) {
    let bytes = fs::read(file).expect("the fixture is there");
    let word = |at: &[u8]| u64::from(u32::from_le_bytes(at.try_into().expect("four bytes")));
    assert_eq!(word(&bytes[..4]), 0xa1b2_c3d4, "{}", file.display());
    let (head, mut rest) = bytes.split_at(24);
    let mut frames = Vec::new();
    while rest.len() > 16 {
        let (frame, after) = rest.split_at(16 + word(&rest[8..12]) as usize);
        let ip = &frame[IP..];
        assert_eq!(ip[0] >> 4, 4, "{}", file.display());
        let tcp = usize::from(ip[0] & 15) * 4;
        let headers = tcp + usize::from(ip[tcp + 12] >> 4) * 4;
        frames.push(Frame {
            bytes: frame.to_vec(),
            at_ns: word(&frame[..4]) * 1_000_000_000 + word(&frame[4..8]) * 1000,
            segment: ip[tcp..tcp + 8].try_into().expect("eight bytes"),
            has_payload: usize::from(u16::from_be_bytes([ip[2], ip[3]])) > headers,
        });
        rest = after;
    }
    (head.to_vec(), frames)
}

/// What is lost in each of many copies of a capture: nothing in the first, then each segment with payload, and each two
/// that follow each other, of so many.
fn losses(frames: &[Frame], most: usize) -> Vec<Vec<usize>> {
    let with_payload = (0..frames.len()).filter(|at| frames[*at].has_payload);
    let numbers: Vec<_> = with_payload.take(most).collect();
    let ones = numbers.iter().map(|at| vec![*at]);
    let pairs = numbers.windows(2).map(<[usize]>::to_vec);
    std::iter::once(Vec::new()).chain(ones).chain(pairs).collect()
}

/// Writes all copies of the capture at once, each with addresses of its own.
fn write_copies(to: &Path, head: &[u8], frames: &[Frame], losses: &[Vec<usize>]) {
    let mut file = BufWriter::new(fs::File::create(to).expect("the folder can be written"));
    file.write_all(head).expect("the disk has room");
    for frame in frames {
        let mut bytes = frame.bytes.clone();
        for (copy, lost) in losses.iter().enumerate() {
            let [high, low] = (copy as u16).to_be_bytes();
            for address in [IP + 12, IP + 16] {
                bytes[address..address + 3].copy_from_slice(&[10, high, low]);
            }
            let is_lost = |at: &usize| frame.has_payload && frames[*at].segment == frame.segment;
            if !lost.iter().any(is_lost) {
                file.write_all(&bytes).expect("the disk has room");
            }
        }
    }
    file.flush().expect("the disk has room");
}

/// The rows of each copy, as if it had the addresses of the first.
fn rows_of_copies(file: &Path, copies: usize) -> Vec<Vec<Row>> {
    let mut rows = vec![Vec::new(); copies];
    each_row(file, "mysql", &["--columns", "*"], |line| {
        let row: Row = serde_json::from_str(line).expect("a row is an object");
        let ip: Ipv4Addr = row["client_ip"]
            .as_str()
            .and_then(|ip| ip.parse().ok())
            .expect("an address");
        let [_, high, low, _] = ip.octets();
        let line = line.replace(&format!("\"10.{high}.{low}."), "\"10.0.0.");
        rows[usize::from(u16::from_be_bytes([high, low]))]
            .push(serde_json::from_str(&line).expect("a row is an object"));
    });
    rows
}

/// When an exchange began and how long it took, in nanoseconds, the former since the full hour. None where nothing is said
/// of its end.
fn times(row: &Row) -> Option<(u64, u64)> {
    let start = row["start"].as_str()?.strip_suffix('Z')?;
    let (_, minutes) = start.split_once(':')?;
    let (minute, second) = minutes.split_once(':')?;
    let (second, nanos) = second.split_once('.')?;
    let [minute, second, nanos] = [minute, second, nanos].map(|text| text.parse::<u64>().expect("a number"));
    Some((
        (minute * 60 + second) * 1_000_000_000 + nanos,
        row["total_ns"].as_u64()?,
    ))
}

#[test]
fn each_lost_mysql_frame_costs_the_commands_that_it_touches() {
    const HOUR: u64 = 3600 * 1_000_000_000;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let copies = folder.path().join("copies.pcap");
    let (mut wrong, mut lost_frames, mut truth, mut found) = (Vec::new(), 0, 0, 0);
    // As in the test before.
    let is_left = |file: &PathBuf| file.ends_with("mariadb_binlog.pcap");
    for file in fixtures("mysql", "pcap").iter().filter(|file| !is_left(file)) {
        let (head, frames) = frames(file);
        // Of long captures the beginning, which is the part that differs: the time is that of frames times copies.
        let losses = losses(&frames, 8000 / frames.len());
        write_copies(&copies, &head, &frames, &losses);
        let rows = rows_of_copies(&copies, losses.len());
        let is_complete = |row: &&Row| row["complete"] == true;
        for (with_holes, lost) in rows.iter().zip(&losses).skip(1) {
            let mut say = |row: &Row, what: String| {
                let row = ["start", "command", "statement"].map(|column| row[column].to_string());
                wrong.push(format!("{} without {lost:?}: {} {what}", file.display(), row.join(" ")));
            };
            let mut left: Vec<&Row> = rows[0].iter().filter(is_complete).collect();
            lost_frames += lost.len();
            truth += left.len();
            for row in with_holes.iter().filter(is_complete) {
                found += 1;
                match left.iter().position(|whole| differences(row, whole).is_empty()) {
                    Some(at) => drop(left.remove(at)),
                    None => {
                        let nearest = left.iter().map(|whole| differences(row, whole)).min_by_key(Vec::len);
                        say(row, format!("is not what the whole capture says: {nearest:?}"));
                    }
                }
            }
            // A refused login is a row only where the greeting is there.
            for row in left.iter().filter(|row| row["command"] != "COM_CONNECT") {
                let Some((start, total)) = times(row) else { continue };
                let touches = |lost: &usize| (frames[*lost].at_ns % HOUR + HOUR - start) % HOUR <= total;
                let has_row = with_holes.iter().any(|found| found["start"] == row["start"]);
                if !has_row && !lost.iter().any(touches) {
                    say(row, "has no row, and nothing of it is lost".to_owned());
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} rows are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(
        lost_frames > 2000 && truth - found <= 2 * lost_frames,
        "{lost_frames} {truth} {found}"
    );
}
