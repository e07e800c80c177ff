//! Packet captures as input: every stream is compared with what tshark makes of the same file, byte for byte.
#![cfg(feature = "analyze")]
#![allow(clippy::expect_used, reason = "a test that panics has failed")]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use masdeepflow::analyze::import::{Import, ImportSummary, import_file};
use masdeepflow::format::record::{Direction, Record, Socket};
use masdeepflow::format::{Kind, Reader};
use serde_json::Value;
use support::packets::{Pcap, RAW_IP, Talk};
use support::{mdf, run};

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
    if !support::all_installed("streams of packet captures against tshark", &["tshark"]) {
        return;
    }
    for path in captures() {
        let summary = compare_with_tshark(&path);
        assert_eq!(summary.remarks.not_understood(), 0, "{path:?}: {summary:?}");
        let with_drops = path.to_string_lossy().contains("with-drops");
        assert_eq!(summary.is_whole(), !with_drops, "{path:?}: {summary:?}");
    }
}

/// The formats that editcap (of the tshark package's family) can write, and what it calls them.
#[test]
fn converted_by_editcap_the_streams_stay_the_same() {
    if !support::all_installed("packet captures cut by editcap", &["tshark", "editcap"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("temporary folder");
    for path in captures() {
        let (expected, _) = imported(&path);
        for (format, time_unit) in [("pcapng", 1000), ("nsecpcap", 1), ("modpcap", 1000), ("pcap", 1000)] {
            let converted = folder.path().join(format);
            let done = Command::new("editcap")
                .args(["-F", format])
                .arg(&path)
                .arg(&converted)
                .output();
            let done = done.expect("editcap runs");
            assert!(
                done.status.success(),
                "{format}: {}",
                String::from_utf8_lossy(&done.stderr)
            );
            let (found, summary) = imported(&converted);
            assert_eq!(summary.remarks.not_understood(), 0, "{format} of {path:?}");
            assert_eq!(found.len(), expected.len());
            for (ours, theirs) in found.values().zip(expected.values()) {
                assert_eq!(ours.bytes, theirs.bytes, "{format} of {path:?}");
                assert_eq!(
                    ours.socket.time / time_unit,
                    theirs.socket.time / time_unit,
                    "{format} of {path:?}"
                );
            }
        }
    }
}

/// A snaplen takes content and nothing else: every byte stands where it stood.
#[test]
fn cut_by_editcap_the_positions_stay_the_same() {
    if !support::all_installed("packet captures cut by editcap", &["tshark", "editcap"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("temporary folder");
    for path in captures() {
        let (whole, _) = imported(&path);
        let cut = folder.path().join("cut.pcap");
        let done = Command::new("editcap")
            .args(["-F", "pcap", "-s", "100"])
            .arg(&path)
            .arg(&cut)
            .output();
        assert!(done.expect("editcap runs").status.success());
        let (found, summary) = imported(&cut);
        assert_eq!(summary.remarks.not_understood(), 0, "{path:?}");
        for (ours, theirs) in found.values().zip(whole.values()) {
            assert_eq!(ours.next, theirs.next, "{path:?}");
            for side in 0..2 {
                let (kept, all) = (&ours.bytes[side], &theirs.bytes[side]);
                assert_eq!(
                    kept.len() as u64 + ours.missing[side],
                    all.len() as u64 + theirs.missing[side],
                    "{path:?}"
                );
            }
        }
    }
}

/// The capture was started when the pool of connections had long been open.
#[test]
fn connections_joined_in_the_middle_have_rows_from_the_next_command_on() {
    let whole = std::fs::read("fixtures/mysql/sysbench_auto.pcap").expect("fixture");
    let mut starts = vec![24];
    while let Some(header) = whole.get(starts[starts.len() - 1]..).filter(|rest| rest.len() > 16) {
        let captured = u32::from_le_bytes(header[8..12].try_into().expect("four bytes"));
        starts.push(starts[starts.len() - 1] + 16 + captured as usize);
    }
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("middle.pcap");
    let middle = starts[starts.len() / 2];
    std::fs::write(&file, [&whole[..24], &whole[middle..]].concat()).expect("the folder can be written");
    let rows = support::rows(&file, "mysql");
    assert!(rows.len() > 50, "{}", rows.len());
    assert!(rows.iter().all(|row| row["inferred"] == true));
    assert_eq!(support::count(&rows, "complete", true), rows.len());
}

/// A capture that lost a request with its response, and a request alone: what was lost is marked, what was not is
/// measured, and no response goes to another request.
#[test]
fn lost_packets_cost_the_exchanges_they_were_of_and_no_others() {
    let file = Path::new("fixtures/pcap/http-zero-length-bodies-with-drops.pcap");
    let rows = support::rows(file, "http");
    let said: Vec<_> = rows
        .iter()
        .map(|row| {
            let first = row["query"]
                .as_str()
                .map(|query| query.split('&').take(2).collect::<Vec<_>>().join("&"));
            let number = |column: &str| row[column].as_u64();
            (
                first,
                number("status"),
                number("request_bytes"),
                number("response_bytes"),
                row["complete"] == true,
            )
        })
        .collect();
    let whole = |query: &str, status, request, response| {
        (
            Some(query.to_string()),
            Some(status),
            Some(request),
            Some(response),
            true,
        )
    };
    assert_eq!(
        said,
        [
            whole("last=0&ct=0", 302, 1542, 665),
            whole("metr=127&ct=8", 200, 1274, 542),
            whole("last=0&ct=0", 302, 1532, 655),
            (None, None, None, None, false),
            whole("kv=&ct=300", 200, 1239, 546),
            whole(said[5].0.as_deref().unwrap_or_default(), 200, 2566, 546),
            whole("kv=&ct=0", 200, 1274, 927),
            (None, Some(200), None, Some(927), false),
            whole("kv=&ct=60", 200, 1275, 927),
        ]
    );
    for row in &rows {
        let is_measured = row["complete"] == true;
        assert_eq!(row["total_ns"].is_u64(), is_measured, "{row:#}");
        assert_eq!(row["incomplete_reason"] == "gap", !is_measured, "{row:#}");
    }
    let connection = &support::rows(file, "connections")[0];
    assert_eq!(
        (&connection["lost_bytes"], &connection["complete"]),
        (&3091.into(), &false.into())
    );
    // The report says so in one place, and nowhere the contrary.
    let report = support::run(support::mdf().arg("analyze").arg(file))
        .expect_code(&[0, 3])
        .stdout;
    assert!(report.contains("Losses      3.02 KiB of the payload lost"), "{report}");
    assert!(report.contains("7 of 9 exchanges measured; 2 gap"), "{report}");
}

/// What the first two requests and responses of a connection are, with what the capture lost of them; the others are there.
/// Each loses requests and responses, and then hears of more than one of them before the responses begin again.
const LOST_TURNS: [&[&str]; 6] = [
    &["QR", "--", "Q-", "Q-"],
    &["QR", "--", "Q-", "-R", "Q-"],
    &["QR", "Q-", "--", "Q-", "Q-"],
    &["QR", "Q-", "-R", "Q-", "Q-"],
    &["QR", "-R", "Q-", "Q-", "--"],
    &["--", "Q-", "Q-", "-R", "Q-"],
];

/// The n-th exchange has a request and a response that say n.
fn numbered_exchange(protocol: &str, n: usize) -> [Vec<u8>; 2] {
    match protocol {
        "http" => [
            format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", 500 + n).into_bytes(),
            format!("HTTP/1.1 {} Said\r\nContent-Length: 4\r\n\r\nbody", 500 + n).into_bytes(),
        ],
        _ => [
            [&[11, 0, 0, 0, 3][..], format!("select {}", 100 + n).as_bytes()].concat(),
            [7, 0, 0, 1, 0, 100 + n as u8, 0, 2, 0, 0, 0].to_vec(),
        ],
    }
}

/// How many rows are complete; the response of each, in the column `said`, is that of its numbered request.
fn complete_numbered(rows: &[Value], said: &str, of: &str) -> usize {
    let complete: Vec<_> = rows.iter().filter(|row| row["complete"] == true).collect();
    for row in &complete {
        let asked = row["path"].as_str().or(row["statement"].as_str()).expect("its request");
        let number = asked.trim_start_matches(['/', 's', 'e', 'l', 'c', 't', ' ']);
        assert_eq!(row[said].to_string(), number, "{of}: {row:#}");
    }
    complete.len()
}

/// On connections that pause between their messages, each hole stands where its bytes were: behind the requests that were
/// sent after them, they would look as if nobody had waited for a response.
#[test]
fn after_lost_packets_and_pauses_each_response_is_that_of_its_request() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    for (protocol, port, said) in [("http", 80, "status"), ("mysql", 3306, "affected_rows")] {
        for pause in [10, 3_000, 20_000] {
            let file = folder.path().join("paused.pcap");
            let mut pcap = Pcap::create(&file, RAW_IP);
            let mut untouched = 0;
            for (at, turns) in LOST_TURNS.iter().enumerate() {
                let mut talk = Talk::open(&mut pcap, 40_000 + at as u16, port);
                if protocol == "mysql" {
                    mysql_login(&mut talk);
                }
                // Whole exchanges before, and after.
                let turns = [&["QR"; 3], *turns, &["QR"; 20]].concat();
                for (n, turn) in turns.iter().enumerate() {
                    let exchange = numbered_exchange(protocol, n);
                    for (from, bytes) in exchange.iter().enumerate() {
                        talk.pcap.pause(pause);
                        match turn.as_bytes()[from] {
                            b'-' => talk.lose(from, bytes),
                            _ => talk.say(from, bytes),
                        }
                    }
                    untouched += usize::from(*turn == "QR");
                }
                talk.close();
            }
            pcap.finish();
            let rows = support::rows(&file, protocol);
            let complete = complete_numbered(&rows, said, &format!("{protocol}, pause {pause}"));
            assert_eq!(complete, untouched, "{protocol}, pause {pause}");
        }
    }
}

/// Only what the server sends is captured, with the answer to the SYN: the requests are lost, and nothing began before.
#[test]
fn what_is_lost_at_the_beginning_of_a_connection_is_a_gap() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("one-way.pcap");
    let mut pcap = Pcap::create(&file, RAW_IP);
    let mut talk = Talk::open(&mut pcap, 40_000, 80);
    for n in 0..30 {
        let [request, response] = numbered_exchange("http", n);
        talk.lose(0, &request);
        talk.pcap.pause(20_000);
        talk.say(1, &response);
    }
    pcap.finish();
    let rows = support::rows(&file, "http");
    assert_eq!(rows.len(), 30);
    for (n, row) in rows.iter().enumerate() {
        assert_eq!(
            (&row["status"], &row["incomplete_reason"]),
            (&(500 + n).into(), &"gap".into())
        );
    }
}

/// A client sends several requests without waiting; the first of a turn is lost, once at the beginning of the connection.
#[test]
fn where_the_first_of_several_requests_is_lost_no_response_goes_to_another() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    for (protocol, port, said) in [("http", 80, "status"), ("mysql", 3306, "affected_rows")] {
        for (turn_of_loss, len) in [(0, 4), (2, 4), (0, 3), (1, 3)] {
            let file = folder.path().join("pipelined.pcap");
            let mut pcap = Pcap::create(&file, RAW_IP);
            let mut talk = Talk::open(&mut pcap, 40_000, port);
            if protocol == "mysql" {
                mysql_login(&mut talk);
            }
            for turn in 0..7 {
                let exchanges: Vec<_> = (0..len).map(|n| numbered_exchange(protocol, len * turn + n)).collect();
                for (n, [request, _]) in exchanges.iter().enumerate() {
                    match (turn, n) == (turn_of_loss, 0) {
                        true => talk.lose(0, request),
                        false => talk.say(0, request),
                    }
                }
                for [_, response] in &exchanges {
                    talk.pcap.pause(3_000);
                    talk.say(1, response);
                }
            }
            talk.close();
            pcap.finish();
            let rows = support::rows(&file, protocol);
            let complete = complete_numbered(&rows, said, &format!("{protocol} {turn_of_loss} {len}"));
            // The turn with the loss, and one to be sure again.
            assert!(complete >= 5 * len, "{protocol} {turn_of_loss} {len}: {complete}");
        }
    }
}

/// Greeting, login and OK, without a password.
fn mysql_login(talk: &mut Talk<'_>) {
    let packet = |seq: u8, payload: &[u8]| [&[payload.len() as u8, 0, 0, seq], payload].concat();
    let greeting = [
        &b"\x0a8.4.0\0\x09\0\0\0saltsalt\0"[..],
        &[0, 0x82, 0xff, 2, 0],
        &[0; 13],
        b"saltsaltsalt\0",
    ]
    .concat();
    let login = [&[0, 0x82, 0, 0, 0, 0, 0, 1, 255][..], &[0; 23], b"app\0\0"].concat();
    talk.say(1, &packet(0, &greeting));
    talk.say(0, &packet(1, &login));
    talk.say(1, &packet(2, &[0, 0, 0, 2, 0, 0, 0]));
}

/// The file that `import_file` writes says the same as the packets.
#[test]
fn an_imported_file_holds_what_was_imported() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let output = folder.path().join("out.mdf");
    for path in captures() {
        let (expected, summary) = imported(&path);
        assert_eq!(import_file(&path, &output, true).expect("written"), summary);
        let bytes = std::fs::read(&output).expect("readable");
        let reader = Reader::open(&bytes).expect("a capture file");
        assert!(reader.clean_end());
        assert_eq!(reader.header().backend, "pcap");
        assert_eq!(reader.header().clock.realtime, reader.header().clock.boot);
        assert_eq!(
            reader
                .blocks()
                .iter()
                .map(|block| block.count(Kind::Socket))
                .sum::<u32>() as usize,
            expected.len()
        );
        assert_eq!(
            reader.blocks().iter().map(|block| block.payload_bytes()).sum::<u64>(),
            summary.payload_bytes
        );
    }
}

#[test]
fn an_existing_file_is_replaced_only_by_force_and_never_by_itself() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (input, output) = (folder.path().join("in.pcap"), folder.path().join("out.mdf"));
    std::fs::copy("fixtures/pcap/http-get.pcap", &input).expect("copied");
    std::fs::write(&output, "precious").expect("written");
    assert!(import_file(&input, &output, false).is_err());
    assert_eq!(std::fs::read(&output).expect("readable"), b"precious");
    let before = std::fs::read(&input).expect("readable");
    assert!(import_file(&input, &input, true).is_err());
    assert_eq!(std::fs::read(&input).expect("readable"), before);
    import_file(&input, &output, true).expect("replaced");
    // What is not a packet capture leaves nothing behind.
    std::fs::write(&input, "text").expect("written");
    let nothing = folder.path().join("nothing.mdf");
    assert!(import_file(&input, &nothing, false).is_err());
    assert!(!nothing.exists());
}

#[cfg(unix)]
#[test]
fn an_imported_file_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("temporary folder");
    let output = folder.path().join("out.mdf");
    import_file(Path::new("fixtures/pcap/http-get.pcap"), &output, false).expect("written");
    assert_eq!(output.metadata().expect("metadata").permissions().mode() & 0o777, 0o600);
}

fn odd(name: &str) -> PathBuf {
    Path::new("fixtures/pcap/odd").join(name)
}

/// Who is the client was guessed by the ports, and is known from the protocol.
#[test]
fn bytes_are_sent_by_the_client_wherever_a_connection_was_joined() {
    let connection = &support::rows(&odd("partial-packet-compressed.pcap"), "connections")[0];
    assert_eq!(
        (&connection["protocol"], &connection["client_port"]),
        (&"mysql".into(), &20871.into())
    );
    assert_eq!(
        (&connection["bytes_sent"], &connection["bytes_received"]),
        (&103.into(), &118_265.into())
    );
}

/// What `mdf analyze` says of these files with these arguments, and its exit code.
fn analyzed(files: &[&Path], arguments: &[&str]) -> (i32, String, String) {
    let done = support::run(support::mdf().arg("analyze").args(files).args(arguments));
    (done.code(), done.stdout, done.stderr)
}

/// README's promise: 3 where data was lost. Import and analysis agree, whatever is asked.
#[test]
fn missing_segments_end_with_exit_code_3() {
    let folder = tempfile::tempdir().expect("temporary folder");
    for path in captures() {
        let with_drops = path.to_string_lossy().contains("with-drops");
        let expected = if with_drops { 3 } else { 0 };
        let imported = folder.path().join("out.mdf");
        let arguments = [
            "import".as_ref(),
            path.as_os_str(),
            "--force".as_ref(),
            "-o".as_ref(),
            imported.as_os_str(),
        ];
        assert_eq!(
            support::run(support::mdf().args(arguments)).code(),
            expected,
            "{path:?}"
        );
        for asked in [
            &[][..],
            &["-t", "http"],
            &["-t", "losses"],
            &["-t", "http", "--where", "status = 999"],
        ] {
            assert_eq!(analyzed(&[&path], asked).0, expected, "{path:?} {asked:?}");
            assert_eq!(
                analyzed(&[&imported], asked).0,
                expected,
                "{path:?} imported, {asked:?}"
            );
        }
    }
}

/// A pcap file of these frames, a millisecond apart.
fn pcap(link: u32, frames: &[Vec<u8>]) -> tempfile::NamedTempFile {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let mut bytes = words(&[0xa1b2_c3d4, 0x0004_0002, 0, 0, 262_144, link]);
    for (n, frame) in frames.iter().enumerate() {
        let len = frame.len() as u32;
        bytes.extend(words(&[1_700_000_000, 1000 * n as u32, len, len]));
        bytes.extend(frame);
    }
    let file = tempfile::NamedTempFile::new().expect("temporary file");
    std::fs::write(file.path(), bytes).expect("written");
    file
}

/// What is not read is named where the user looks, from the packets and from what was imported of them.
#[test]
fn packets_that_were_left_out_are_named_with_their_number() {
    let mut udp = vec![0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    udp.extend([0, 9, 0, 53, 0, 8, 0, 0]);
    let arp = [&[2; 12][..], &[8, 6], &[0; 28]].concat();
    let folder = tempfile::tempdir().expect("temporary folder");
    for (link, frames, code, said, detail) in [
        (
            147,
            vec![vec![0; 60]; 8],
            3,
            "8 packets not understood: link type 147 (USER) 8",
            "link type 147 (USER)",
        ),
        (
            4711,
            vec![vec![0; 60]],
            3,
            "1 packet not understood: link type 4711 1",
            "link type 4711",
        ),
        (
            1,
            vec![vec![0; 9]; 2],
            3,
            "2 packets not understood: link header 2",
            "link header",
        ),
        (101, vec![udp; 3], 0, "3 packets not of TCP: UDP 3", ""),
        (1, vec![arp], 0, "1 packet not of TCP: EtherType 0x0806 (ARP) 1", ""),
    ] {
        let packets = pcap(link, &frames);
        let imported = folder.path().join(format!("{link}-{code}.mdf"));
        import_file(packets.path(), &imported, true).expect("imported");
        for file in [packets.path(), &imported] {
            let (found, report, _) = analyzed(&[file], &[]);
            assert_eq!(found, code, "{report}");
            assert!(report.contains(said), "{report}");
            assert!(
                report.contains(&format!("{} packet", frames.len())) && report.contains(&format!("link type {link}"))
            );
            let capture = &support::rows(file, "capture")[0];
            assert!(capture["remarks"].as_str().expect("text").contains(said), "{capture}");
            let losses = support::rows(file, "losses");
            assert_eq!(losses.len(), usize::from(code == 3));
            for loss in losses {
                assert_eq!(
                    (&loss["reason"], &loss["detail"]),
                    (&"not_understood".into(), &detail.into())
                );
                assert_eq!(loss["events"], frames.len());
            }
        }
    }
}

#[test]
fn nanoseconds_in_a_file_of_microseconds_are_read_as_such_and_said() {
    let whole = std::fs::read("fixtures/pcap/http-get.pcap").expect("fixture");
    let mut nanoseconds = whole.clone();
    let mut at = 24;
    while at < whole.len() {
        let field = |n: usize| u32::from_le_bytes(whole[at + n..at + n + 4].try_into().expect("four bytes"));
        nanoseconds[at + 4..at + 8].copy_from_slice(&(field(4) * 1000 + 7).to_le_bytes());
        at += 16 + field(8) as usize;
    }
    let folder = tempfile::tempdir().expect("temporary folder");
    let file = folder.path().join("nanoseconds.pcap");
    std::fs::write(&file, nanoseconds).expect("written");
    let (code, report, _) = analyzed(&[&file], &[]);
    assert_eq!(code, 0);
    assert!(
        report.contains("times read as nanoseconds, although the file says microseconds"),
        "{report}"
    );
    let times = |file: &Path| {
        let row = &support::rows(file, "http")[0];
        (row["total_ns"].clone(), row["ttfb_ns"].clone())
    };
    assert_eq!(times(&file), times(Path::new("fixtures/pcap/http-get.pcap")));
}

/// Tables show which protocol carried an address that looks like IPv4 in IPv6.
#[test]
fn an_address_that_looks_mapped_is_shown_as_the_packet_has_it() {
    let mut mapped = [0; 16];
    mapped[10..].copy_from_slice(&[0xff, 0xff, 10, 0, 0, 1]);
    let mut syn = vec![0x60, 0, 0, 0, 0, 20, 6, 64];
    syn.extend([mapped, mapped].concat());
    syn.extend([
        0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0,
    ]);
    let file = pcap(101, &[syn]);
    let connection = &support::rows(file.path(), "connections")[0];
    assert_eq!(connection["client_ip"], "::ffff:10.0.0.1");
}

/// Of packets and of recordings, under another name, and as a link.
#[test]
fn a_capture_that_is_given_twice_is_read_once_and_said() {
    let folder = tempfile::tempdir().expect("temporary folder");
    for original in ["fixtures/pcap/http-get.pcap", "fixtures/nginx-curl.mdf"].map(Path::new) {
        let [copy, link] = ["copy", "link"].map(|name| folder.path().join(name));
        std::fs::copy(original, &copy).expect("copied");
        std::fs::hard_link(&copy, &link).expect("linked");
        let (_, once, said) = analyzed(&[original], &["--format", "json"]);
        assert!(!said.contains("is read once"));
        let (code, thrice, said) = analyzed(&[original, &copy, &link], &["--format", "json"]);
        assert_eq!((code, said.matches("is the same capture as").count()), (0, 2), "{said}");
        let report = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
        let (mut once, mut thrice) = (report(&once), report(&thrice));
        let remarks = thrice["capture"][0]["remarks"].take();
        assert_eq!(
            remarks.as_str().map(|text| text.matches("also given as").count()),
            Some(2),
            "{remarks}"
        );
        once["capture"][0]["remarks"].take();
        // The number of a recording is drawn for each import.
        for report in [&mut once, &mut thrice] {
            report["capture"][0]["recording"].take();
            report["capture"][0]["command_line"].take();
        }
        assert_eq!(thrice, once);
        std::fs::remove_file(&link).expect("removed");
    }
}

#[test]
fn a_second_answer_to_a_syn_hides_nothing() {
    let connections = support::rows(&odd("second-synack.pcap"), "connections");
    assert_eq!(connections.len(), 1);
    assert_eq!(
        (&connections[0]["bytes_received"], &connections[0]["lost_bytes"]),
        (&3722.into(), &0.into())
    );
}

/// The law of copies, on everything real: each frame captured twice gives the rows that it gives once.
#[test]
fn every_frame_twice_gives_the_same_rows() {
    let mut files = captures();
    for folder in ["fixtures/pcap/odd", "fixtures/http", "fixtures/mysql"] {
        let entries = std::fs::read_dir(folder).expect("fixtures");
        files.extend(entries.map(|entry| entry.expect("directory entry").path()));
    }
    let folder = tempfile::tempdir().expect("temporary folder");
    let twice = folder.path().join("twice.pcap");
    let mut compared = 0;
    for path in files
        .iter()
        .filter(|path| path.extension().is_some_and(|e| e == "pcap"))
    {
        let once = std::fs::read(path).expect("readable");
        // pcapng may have this name too.
        if !once.starts_with(&0xa1b2_c3d4_u32.to_le_bytes()) {
            continue;
        }
        let mut bytes = once[..24].to_vec();
        let mut rest = &once[24..];
        while rest.len() > 16 {
            let captured = u32::from_le_bytes(rest[8..12].try_into().expect("four bytes")) as usize;
            let (record, after) = rest.split_at(16 + captured);
            bytes.extend([record, record].concat());
            rest = after;
        }
        std::fs::write(&twice, bytes).expect("written");
        for table in ["connections", "http", "mysql"] {
            let [expected, found] = [path, &twice].map(|file| support::rows(file, table));
            assert_eq!(found, expected, "{table} of {path:?}");
            compared += found.len();
        }
    }
    assert!(compared > 500, "{compared}");
}

/// Three requests, seen before and after a translation, or inside and outside of a tunnel.
#[test]
fn what_an_interface_for_all_interfaces_captures_twice_counts_once() {
    for (name, client, server) in [
        ("any-nat.pcap", "10.244.1.7", "192.168.0.9"),
        ("any-vxlan.pcap", "10.42.0.1", "10.42.0.2"),
    ] {
        let file = odd(name);
        let rows = support::rows(&file, "http");
        let paths: Vec<&str> = rows.iter().filter_map(|row| row["path"].as_str()).collect();
        assert_eq!(paths, ["/a", "/b", "/a"], "{name}");
        for row in &rows {
            assert_eq!((&row["client_ip"], &row["server_ip"]), (&client.into(), &server.into()));
            assert_eq!((&row["status"], &row["complete"]), (&200.into(), &true.into()));
        }
        let connections = support::rows(&file, "connections");
        assert_eq!(connections.len(), 3);
        assert_eq!(support::count(&connections, "retransmits", 0), 3);
        let (code, report, _) = analyzed(&[&file], &[]);
        assert_eq!(code, 0);
        assert!(report.contains("36 packets left out as copies of others"), "{report}");
    }
}

#[test]
fn bytes_that_the_capture_does_not_have_end_the_analysis_with_losses() {
    use support::packets::{Pcap, RAW_IP, Talk};
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("hole.pcap");
    let imported = folder.path().join("hole.mdf");
    for hole in [false, true] {
        let mut pcap = Pcap::create(&path, RAW_IP);
        let mut talk = Talk::open(&mut pcap, 40_000, 80);
        talk.say(0, b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
        talk.say(1, b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n");
        match hole {
            true => talk.ends[1].seq += 100,
            false => talk.say(1, &[b'x'; 100]),
        }
        talk.say(1, &[b'x'; 100]);
        talk.close();
        pcap.finish();
        let code = if hole { 3 } else { 0 };
        let import = ["import", "--force", "-o"];
        support::run(support::mdf().args(import).arg(&imported).arg(&path)).expect_code(&[code]);
        for file in [&path, &imported] {
            let analyze = |options: &[&str]| support::run(support::mdf().arg("analyze").arg(file).args(options));
            let report = analyze(&[]).expect_code(&[code]).stdout;
            assert_eq!(report.contains("100 B of the payload lost"), hole, "{report}");
            for options in [
                &["--table", "http"][..],
                &["--table", "connections"],
                &["--where", "method = GET"],
            ] {
                analyze(options).expect_code(&[code]);
            }
            // What is not read is not lost.
            for options in [
                &["--table", "http", "--where", "server_port = 81"][..],
                &["--port", "81"],
            ] {
                analyze(options).expect_code(&[0]);
            }
        }
        support::run(support::mdf().arg("diff").arg(&path).arg(&path)).expect_code(&[code]);
    }
}

/// Both ends of a connection captured, or the parts of one capture: in both cases once what happened once.
#[test]
fn packet_captures_are_read_together_and_say_what_they_share() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = folder.path().join("whole.pcap");
    let mut pcap = Pcap::create(&whole, RAW_IP);
    let mut talk = Talk::open(&mut pcap, 40_000, 80);
    for number in 0..6 {
        talk.say(0, format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        talk.pcap.pause(100);
        talk.say(1, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    }
    talk.close();
    pcap.finish();
    let bytes = std::fs::read(&whole).expect("a file");
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    let mut starts = vec![24];
    while starts.last().is_some_and(|at| *at < bytes.len()) {
        let at = starts[starts.len() - 1];
        starts.push(at + 16 + word(at + 8) as usize);
    }
    let analyze =
        |files: &[&Path], options: &[&str]| run(mdf().arg("analyze").args(files).args(options)).expect_code(&[0]);
    let rows = |files: &[&Path]| {
        let tables = ["http", "connections"];
        tables.map(|table| analyze(files, &["--table", table, "--columns", "*", "--format", "csv"]).stdout)
    };
    let expected = rows(&[&whole]);
    assert_eq!(expected[0].lines().count(), 7);
    let [first, second] = ["a.pcap0", "a.pcap1"].map(|name| folder.path().join(name));
    for at in starts.iter().step_by(5) {
        std::fs::write(&first, &bytes[..*at]).expect("a file");
        std::fs::write(&second, [&bytes[..24], &bytes[*at..]].concat()).expect("a file");
        assert_eq!(rows(&[&first, &second]), expected, "cut at {at}");
        assert_eq!(rows(&[&second, &first]), expected, "cut at {at}, the second first");
    }
    let mut server = bytes.clone();
    for at in &starts[..starts.len() - 1] {
        let later = word(at + 4) + 30;
        server[at + 4..at + 8].copy_from_slice(&later.to_le_bytes());
        server[at + 16 + 8] -= 1;
    }
    let place = folder.path().join("server.pcap");
    std::fs::write(&place, server).expect("a file");
    for files in [[&whole, &place], [&place, &whole]].map(|files| files.map(PathBuf::as_path)) {
        assert_eq!(rows(&files), expected);
        let report = analyze(&files, &[]).stdout;
        assert!(
            report.contains("1 connection also in ") && report.contains("whole.pcap"),
            "{report}"
        );
        let threads = ["1", "3"].map(|threads| analyze(&files, &["--threads", threads]).stdout);
        assert_eq!(threads[0], threads[1]);
    }
}
