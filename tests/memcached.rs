//! What is read of memcached's text protocol is what the server has counted itself.
#![cfg(feature = "analyze")]
#![allow(clippy::expect_used, reason = "a test that panics has failed")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use support::packets::{Pcap, RAW_IP, Talk, edit};
use support::{mdf, rows, run};

const CAPTURE: &str = "fixtures/pcap/memcached-text.pcap";

/// The server's own counters.
fn stats() -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string("fixtures/pcap/memcached-text.stats").expect("a fixture");
    let stats = text
        .lines()
        .filter_map(|line| line.strip_prefix("STAT ")?.split_once(' '));
    let stats: BTreeMap<_, _> = stats
        .map(|(name, value)| (name.to_string(), value.parse().expect("a number")))
        .collect();
    assert!(stats.len() >= 15, "{stats:?}");
    stats
}

fn number(row: &Value, column: &str) -> u64 {
    row[column].as_u64().unwrap_or(0)
}

#[test]
fn counts_are_those_of_the_server() {
    let rows = rows(Path::new(CAPTURE), "memcached");
    let sum = |names: &[&str], column: &str| -> u64 {
        let these = rows
            .iter()
            .filter(|row| names.contains(&row["command"].as_str().unwrap_or("")));
        these.map(|row| number(row, column)).sum()
    };
    let count = |names: &[&str], wanted: &dyn Fn(&Value) -> bool| {
        let these = rows
            .iter()
            .filter(|row| names.contains(&row["command"].as_str().unwrap_or("")));
        these.filter(|row| wanted(row)).count() as u64
    };
    let stats = stats();
    let is_refused = |row: &Value| row["answer"] == "SERVER_ERROR object too large for cache";
    let stores = ["set", "add", "replace", "append", "prepend", "cas"];
    assert_eq!(
        count(&stores, &|row| !row["value_bytes"].is_null() && !is_refused(row)),
        stats["cmd_set"]
    );
    // The server counts keys, and `gat` as touching. A key that is too long was not looked for.
    let looked = |column| sum(&["get", "gets"], column);
    assert_eq!(
        (looked("hits"), looked("misses")),
        (stats["get_hits"], stats["get_misses"])
    );
    assert_eq!(looked("hits") + looked("misses"), stats["cmd_get"]);
    let is_sound = |row: &Value| row["status"] != "client_error";
    let touched = count(&["touch"], &is_sound) + sum(&["gat", "gats"], "keys");
    assert_eq!(touched, stats["cmd_touch"]);
    // What has no answer (`noreply`) was there or was not.
    for (name, hits, misses) in [
        ("delete", "delete_hits", "delete_misses"),
        ("incr", "incr_hits", "incr_misses"),
        ("decr", "decr_hits", "decr_misses"),
    ] {
        let quiet = count(&[name], &|row| row["noreply"] == true);
        let known = (sum(&[name], "hits"), sum(&[name], "misses"));
        assert!(known.0 <= stats[hits] && known.1 <= stats[misses], "{name}: {known:?}");
        assert_eq!(known.0 + known.1 + quiet, stats[hits] + stats[misses], "{name}");
    }
    let cas = |answer: &str| count(&["cas"], &|row| row["answer"] == answer);
    let of_server = (stats["cas_hits"], stats["cas_badval"], stats["cas_misses"]);
    assert_eq!((cas("STORED"), cas("EXISTS"), cas("NOT_FOUND")), of_server);
    assert!(rows.iter().all(|row| row["complete"] == true), "nothing is lost");
}

/// All that is derived from the registry, once.
#[test]
fn the_protocol_is_everywhere_that_protocols_are() {
    let analyze = |more: &[&str]| {
        let all = ["analyze", CAPTURE].iter().chain(more);
        run(mdf().args(all)).expect_code(&[0]).stdout
    };
    let report = analyze(&[]);
    for words in [
        "memcached keys (",
        "Slowest memcached commands (",
        "user:{id}:cart",
        "exchanges measured",
    ] {
        assert!(report.contains(words), "{words}\n{report}");
    }
    let json: Value = serde_json::from_str(&analyze(&["--format", "json"])).expect("JSON");
    let exchanges = json["confidence_memcached"]["exchanges"].as_u64().expect("a number");
    let requests: u64 = json["services"]
        .as_array()
        .expect("rows")
        .iter()
        .map(|row| number(row, "requests"))
        .sum();
    assert_eq!(
        (exchanges, number(&json["confidence"], "exchanges")),
        (requests, requests)
    );
    assert!(exchanges > 80, "{exchanges}");

    let csv = analyze(&[
        "--table",
        "memcached",
        "--where",
        "misses > 0 and command = get",
        "--format",
        "csv",
    ]);
    assert_eq!(csv.lines().count(), 1 + 6, "{csv}");
    let groups = analyze(&[
        "--table",
        "memcached",
        "--group-by",
        "command,status",
        "--format",
        "csv",
    ]);
    assert!(groups.contains("cas,ok,3,"), "{groups}");
    let keys = analyze(&[
        "--table",
        "memcached_keys",
        "--format",
        "csv",
        "--columns",
        "command,key_pattern,count,hits",
    ]);
    assert!(keys.contains("get,user:{id}:cart,10,10\n"), "{keys}");

    let capture = tempfile::tempdir().expect("a folder");
    let capture = capture.path().join("text.mdf");
    run(mdf().args(["import", CAPTURE, "-o"]).arg(&capture)).expect_code(&[0]);
    let lines = run(mdf().arg("replay").arg(&capture)).expect_code(&[0]).stdout;
    assert!(lines.contains("MEMCACHED 127.0.0.1:"), "{lines}");
    assert!(
        lines.contains(" get user:0:cart and 3 more END 3 of 4 found ("),
        "{lines}"
    );
    let diff = run(mdf().args(["diff", CAPTURE, CAPTURE, "--format", "csv"]))
        .expect_code(&[0])
        .stdout;
    assert!(diff.contains("memcached,get user:{id}:cart,10,10,"), "{diff}");
}

/// What one end sends in one segment, and the turn of the client that it belongs to.
struct Segment {
    from: usize,
    bytes: Vec<u8>,
    turn: usize,
}

/// A conversation: turns of what the client sends and what the server answers, each cut into segments of its own.
fn segments(turns: &[(Vec<String>, Vec<String>)]) -> Vec<Segment> {
    let mut all = Vec::new();
    for (turn, (asked, said)) in turns.iter().enumerate() {
        for (from, texts) in [(0, asked), (1, said)] {
            all.extend(texts.iter().map(|text| Segment {
                from,
                bytes: text.clone().into_bytes(),
                turn,
            }));
        }
    }
    all
}

/// The rows of a conversation of which these segments are lost.
fn rows_without(segments: &[Segment], is_lost: impl Fn(usize) -> bool) -> Vec<Value> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("talk.pcap");
    let mut pcap = Pcap::create(&path, RAW_IP);
    let mut talk = Talk::open(&mut pcap, 40_000, 11_211);
    for (number, segment) in segments.iter().enumerate() {
        match is_lost(number) {
            true => {
                talk.lose(segment.from, &segment.bytes);
                talk.pcap.pause(1);
            }
            false => talk.say(segment.from, &segment.bytes),
        }
    }
    talk.close();
    pcap.finish();
    let mut rows = rows(&path, "memcached");
    for row in &mut rows {
        let row = row.as_object_mut().expect("a row");
        // Numbers of the connection, and of the row in it, may be others; of what has no value nothing is told.
        row.retain(|name, value| !matches!(name.as_str(), "connection" | "sequence") && !value.is_null());
    }
    rows
}

/// The segment that a row's command begins in: each packet is a microsecond later than the one before, behind three of the
/// handshake.
fn segment_of(row: &Value) -> usize {
    let start = row["start"].as_str().expect("a time");
    let micros = start[start.len() - 10..start.len() - 4].parse::<usize>();
    micros.expect("microseconds") - 4
}

fn is_complete(row: &&Value) -> bool {
    row["complete"] == true
}

/// Loses as many segments as `run` says, from each place on but not before `from`: what is complete is what the whole capture
/// says. Returns which rows are gone, with where the loss begins.
fn gone(segments: &[Segment], from: usize, run: usize) -> Vec<(usize, Value)> {
    let truth = rows_without(segments, |_| false);
    assert!(
        !truth.is_empty() && truth.iter().all(|row| is_complete(&row)),
        "{truth:#?}"
    );
    let mut gone = Vec::new();
    for lost in from..segments.len() {
        let found = rows_without(segments, |number| (lost..lost + run).contains(&number));
        for row in found.iter().filter(is_complete) {
            assert!(truth.contains(row), "without {run} from segment {lost} on: {row}");
        }
        let is_gone = |row: &&Value| !found.contains(row);
        gone.extend(truth.iter().filter(is_gone).map(|row| (lost, row.clone())));
    }
    gone
}

/// Rows that are gone though their turn lost nothing. Where a turn is lost with its end, what the client says next may be the
/// rest of what it stored in it.
fn untouched(segments: &[Segment], run: usize, gone: &[(usize, Value)]) -> Vec<(usize, Value)> {
    let is_untouched = |(lost, row): &&(usize, Value)| {
        let lost = &segments[*lost..segments.len().min(lost + run)];
        let turn = segments[segment_of(row)].turn;
        lost.iter()
            .all(|segment| segment.turn != turn && (run == 1 || segment.turn + 1 != turn))
    };
    gone.iter().filter(is_untouched).cloned().collect()
}

fn one(text: &str) -> Vec<String> {
    vec![text.to_string()]
}

fn cut(text: &str, len: usize) -> Vec<String> {
    let bytes = text.as_bytes().chunks(len);
    bytes.map(|piece| String::from_utf8_lossy(piece).into_owned()).collect()
}

/// A client that waits for each answer.
fn waiting() -> Vec<(Vec<String>, Vec<String>)> {
    let value = "v".repeat(3000);
    let long = "k".repeat(251);
    let mut turns = Vec::new();
    let mut say = |asked: Vec<String>, said: Vec<String>| turns.push((asked, said));
    for n in 0..3 {
        say(one(&format!("set a:{n} 0 0 5\r\nhello\r\n")), one("STORED\r\n"));
        say(
            one(&format!("get a:{n}\r\n")),
            one(&format!("VALUE a:{n} 0 5\r\nhello\r\nEND\r\n")),
        );
        say(one(&format!("get none:{n}\r\n")), one("END\r\n"));
        say(
            cut(&format!("set big:{n} 0 0 3000\r\n{value}\r\n"), 1000),
            one("STORED\r\n"),
        );
        say(
            one(&format!("get big:{n} other\r\n")),
            cut(&format!("VALUE big:{n} 0 3000\r\n{value}\r\nEND\r\n"), 1000),
        );
        say(one("bogus\r\n"), one("ERROR\r\n"));
        say(one("get\r\n"), one("ERROR\r\n"));
        say(one("verbosity 1\r\n"), one("OK\r\n"));
        say(
            one("set bad x 0 3\r\n"),
            one("CLIENT_ERROR bad command line format\r\n"),
        );
        say(
            one(&format!("get {long}\r\n")),
            one("CLIENT_ERROR bad command line format\r\n"),
        );
        say(
            one(&format!("delete q noreply\r\nincr i:{n} 1\r\n")),
            one(&format!("{n}\r\n")),
        );
        say(cut(&format!("get cut:{n} into:{n} pieces:{n}\r\n"), 11), one("END\r\n"));
        say(cut("version\r\n", 7), one("VERSION 1.6\r\n"));
        say(one(&format!("touch a:{n} 10\r\n")), one("TOUCHED\r\n"));
    }
    turns
}

/// A client that sends several commands, then waits for all answers.
fn batches() -> Vec<(Vec<String>, Vec<String>)> {
    let turn = |n: usize| {
        let sets: String = (0..3).map(|k| format!("set p:{n}:{k} 0 0 4\r\nabcd\r\n")).collect();
        let gets: String = (0..5).map(|k| format!("get p:{n}:{k}\r\n")).collect();
        let found = (0..3).map(|k| format!("VALUE p:{n}:{k} 0 4\r\nabcd\r\nEND\r\n"));
        let said = std::iter::once("STORED\r\n".repeat(3)).chain(found);
        let said = said.chain(["END\r\n".to_string(), "END\r\nVERSION 1.6\r\n".to_string()]);
        (vec![format!("{sets}{gets}"), "version\r\n".to_string()], said.collect())
    };
    (0..6).map(turn).collect()
}

/// The same, of commands whose answers do not tell whose they are.
fn stores() -> Vec<(Vec<String>, Vec<String>)> {
    let turn = |n: usize| {
        let set = |k: usize| format!("set s:{n}:{k} 0 0 1\r\nx\r\n");
        let stored = "STORED\r\n".to_string();
        match n % 3 {
            0 => (vec![set(0)], vec![stored]),
            _ => (vec![set(0) + &set(1), set(2) + &set(3)], vec![stored.repeat(3), stored]),
        }
    };
    (0..15).map(turn).collect()
}

/// The law of holes.
#[test]
fn lost_segments_cost_the_commands_of_their_turns_and_no_others() {
    for turns in [waiting(), batches(), stores()] {
        let segments = segments(&turns);
        for run in [1, 2, 5] {
            let gone = gone(&segments, 0, run);
            assert!(gone.len() >= segments.len() / 2, "segments are lost");
            let untouched = untouched(&segments, run, &gone);
            let (lost, row) = untouched.first().cloned().unwrap_or_default();
            assert!(
                untouched.is_empty(),
                "{} rows, first without {run} from segment {lost} on: {row}",
                untouched.len()
            );
        }
    }
}

/// Whatever is lost, at random or from the beginning on.
#[test]
fn what_is_complete_is_what_the_whole_capture_says() {
    for turns in [waiting(), batches(), stores()] {
        let segments = segments(&turns);
        let truth = rows_without(&segments, |_| false);
        let mut complete = 0;
        let mut check = |what: &str, is_lost: &dyn Fn(usize) -> bool| {
            for row in rows_without(&segments, is_lost).iter().filter(is_complete) {
                assert!(truth.contains(row), "{what}: {row}");
                complete += 1;
            }
        };
        for seed in 0..SEEDS {
            let share = [3, 10, 30][seed as usize % 3];
            // Numbers without order (Knuth's multiplication).
            let chance = |number: usize| ((number as u64 + 1 + seed * 1000) * 2_654_435_761) >> 8;
            check(&format!("seed {seed}"), &|number| chance(number) % 100 < share);
        }
        for first in 1..segments.len() {
            check(&format!("from {first} on"), &|number| number < first);
        }
        assert!(complete > 10 * truth.len(), "{complete}, and {} in all", truth.len());
    }
}

/// How often segments are lost at random.
const SEEDS: u64 = 40;

/// In a turn of several commands, the key of an item says where the answers go on.
#[test]
fn behind_a_lost_answer_an_items_key_says_which_command_is_answered() {
    let segments = segments(&batches());
    // Of the first turn: two segments of commands, the answers to the sets, to a get, and to two more gets.
    let lost = 3;
    assert!(segments[lost].bytes.starts_with(b"VALUE p:0:0 "));
    let found = rows_without(&segments, |number| number == lost);
    let is_answered = |row: &&Value| is_complete(row) && row["command"] == "get" && segment_of(row) == 0;
    let keys: Vec<_> = found.iter().filter(is_answered).map(|row| &row["key"]).collect();
    assert_eq!(keys, ["p:0:1", "p:0:2", "p:0:3", "p:0:4"]);
}

/// A client that always has a few commands under way: after a hole nobody can tell by counting which answer is whose.
#[test]
fn no_answer_goes_to_another_command_of_a_client_that_does_not_wait() {
    let command = |n: usize| match n % 3 {
        0 => format!("set w:{n} 0 0 1\r\nx\r\n"),
        1 => format!("incr w:{n} 1\r\n"),
        _ => format!("get w:{}\r\n", n / 6),
    };
    let answer = |n: usize| match n % 3 {
        0 => "STORED\r\n".to_string(),
        1 => format!("{n}\r\n"),
        _ => format!("VALUE w:{} 0 1\r\nx\r\nEND\r\n", n / 6),
    };
    for (window, kinds) in [(2, 0), (2, 1), (2, 3), (3, 3), (5, 1)] {
        let (command, answer) = (|n: usize| command(n * kinds / 3), |n: usize| answer(n * kinds / 3));
        let mut all: Vec<Segment> = Vec::new();
        let mut say = |from: usize, text: String, turn: usize| {
            let bytes = text.into_bytes();
            all.push(Segment { from, bytes, turn });
        };
        let count = 24;
        (0..window).for_each(|n| say(0, command(n), n));
        for n in 0..count {
            say(1, answer(n), n);
            if n + window < count {
                say(0, command(n + window), n + window);
            }
        }
        // That it does not wait is seen as soon as it has gone on; then what is complete is right.
        let gone = gone(&all, 2 * window, 1 + window / 2);
        assert!(
            gone.iter().all(|(lost, row)| segment_of(row) + 2 * window + 2 >= *lost),
            "rows before a hole stay"
        );
    }
}

/// A mirror port or a tap may show one direction only.
#[test]
fn of_one_direction_there_are_rows_with_what_it_says() {
    const ETHERNET: usize = 14;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("half.pcap");
    let half = |from_server: bool| {
        edit(Path::new(CAPTURE), &path, |_, packet| {
            let port = u16::from_be_bytes([packet.bytes[ETHERNET + 20], packet.bytes[ETHERNET + 21]]);
            (port == 31_211) == from_server
        });
        rows(&path, "memcached")
    };
    let mut whole = rows(Path::new(CAPTURE), "memcached");
    // The only command of its connection, which neither direction makes sure of alone.
    whole.retain(|row| row["command"] != "stats");
    let answers = |rows: &[Value]| -> Vec<String> {
        let mut answers: Vec<_> = rows
            .iter()
            .filter(|row| !row["answer"].is_null())
            .map(|row| format!("{} {} {}", row["answer"], row["found_bytes"], row["status"]))
            .collect();
        answers.sort();
        answers
    };
    let of_server = half(true);
    assert_eq!(answers(&of_server), answers(&whole));
    assert!(
        of_server
            .iter()
            .all(|row| row["incomplete_reason"] == "gap" && row["command"].is_null())
    );
    let of_client = half(false);
    let commands = |rows: &[Value]| -> Vec<String> {
        let commands = rows.iter().map(|row| format!("{} {}", row["command"], row["key"]));
        let mut commands: Vec<_> = commands.collect();
        commands.sort();
        commands
    };
    assert!(
        of_client
            .iter()
            .all(|row| !is_complete(&row) || row["noreply"] == true || row["command"] == "quit")
    );
    assert_eq!(commands(&of_client), commands(&whole));
}

#[test]
fn a_first_answer_that_is_lost_costs_its_command_alone() {
    let kinds: [fn(usize) -> (String, String); 5] = [
        |n| (format!("get a{n}\r\n"), format!("VALUE a{n} 0 5\r\nhello\r\nEND\r\n")),
        |n| (format!("set b{n} 0 0 5\r\nhello\r\n"), "STORED\r\n".into()),
        |n| (format!("incr c{n} 1\r\n"), format!("{}\r\n", 1000 + n)),
        |n| (format!("delete d{n}\r\n"), "DELETED\r\n".into()),
        |n| (format!("get e{n}\r\n"), "END\r\n".into()),
    ];
    for (first, second) in (0..5).flat_map(|first| (0..5).map(move |second| (first, second))) {
        let order = [first, second].into_iter().chain((0..15).map(|n| n % 5));
        let turns: Vec<_> = order
            .enumerate()
            .map(|(n, kind)| kinds[kind](n))
            .map(|(asked, said)| (vec![asked], vec![said]))
            .collect();
        let rows = rows_without(&segments(&turns), |number| number == 1);
        let complete = rows.iter().filter(|row| row["complete"] == true).count();
        // Where the first answer that is there looks like one to the first command, which it is not, that says nothing.
        assert!(complete >= 15, "{first} {second}: {rows:#?}");
    }
}
