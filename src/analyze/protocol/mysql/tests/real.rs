//! Captures of real clients and servers, each with its expected reading beside it.

use super::*;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/mysql");

pub(super) fn fixture(name: &str) -> Vec<Vec<Event>> {
    connections(&std::fs::read(format!("{FIXTURES}/{name}.pcap")).unwrap())
}

fn reading(connections: &[Vec<Event>]) -> String {
    let mut text = String::new();
    for events in connections {
        let run = run(events);
        text += &format!("connection {:?}\n", run.verdict);
        for (line, e) in run.lines().iter().zip(&run.exchanges) {
            let m = message(e);
            let (q, r) = (&e.request, &e.response);
            text += &format!(
                "{line} | {} {} {} | {}-{} {}-{}\n",
                m.user, m.database, m.server_version, q.start, q.end, r.start, r.end
            );
        }
    }
    text
}

pub(super) fn names() -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(FIXTURES)
        .unwrap()
        .filter_map(|f| {
            f.unwrap()
                .file_name()
                .to_str()?
                .strip_suffix(".pcap")
                .map(str::to_string)
        })
        .collect();
    names.sort();
    names
}

/// With `BLESS=1` in the environment the expectations are written anew; read the difference before it is committed.
#[test]
fn captures_of_real_programs_are_read_as_expected() {
    let mut wrong = Vec::new();
    for name in names() {
        let made = reading(&fixture(&name));
        let path = format!("{FIXTURES}/{name}.txt");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&path, &made).unwrap();
        } else if std::fs::read_to_string(&path).unwrap_or_default() != made {
            wrong.push(format!("{name}:\n{made}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(names().len() >= 23);
}

/// The same statements by one client, compressed in three ways.
#[test]
fn compressed_sessions_read_like_the_plain_one() {
    let lines = |name| fixture(name).iter().flat_map(|c| run(c).lines()).collect::<Vec<_>>();
    let plain = lines("mysql_cli");
    assert_eq!(plain.len(), 12);
    assert_eq!(lines("mysql_zlib"), plain);
    assert_eq!(lines("mysql_zstd"), plain);
}

#[test]
fn any_segmentation_gives_the_same_messages() {
    for name in names() {
        for events in fixture(&name) {
            let whole = run(&events);
            for n in [1, 2, 3, 4, 5, 7, 13, 100] {
                let pieces = run(&cut(&events, n));
                assert_eq!(pieces.lines(), whole.lines(), "{name} in pieces of {n}");
                let spans = |r: &Run| r.exchanges.iter().map(|e| (e.request, e.response)).collect::<Vec<_>>();
                assert_eq!(spans(&pieces), spans(&whole), "{name} in pieces of {n}");
            }
        }
    }
}

#[test]
fn any_flipped_byte_and_any_cut_never_panics() {
    for name in names() {
        for events in fixture(&name) {
            let total: usize = events
                .iter()
                .map(|e| matches!(e, Event::Bytes(_, _, b) if !b.is_empty()) as usize)
                .sum();
            for at in 0..events.len().min(24) {
                let Event::Bytes(from, pos, bytes) = &events[at] else {
                    continue;
                };
                for i in 0..bytes.len().min(40) {
                    for bit in [1u8, 0x80, 0xff] {
                        let mut flipped = bytes.clone();
                        flipped[i] ^= bit;
                        let mut events = events[..events.len().min(at + 6)].to_vec();
                        events[at] = Event::Bytes(*from, *pos, flipped);
                        run(&events);
                    }
                    let mut cut = events[..=at].to_vec();
                    cut[at] = Event::Bytes(*from, *pos, bytes[..i].to_vec());
                    run(&cut);
                }
            }
            assert!(total > 0);
        }
    }
}

#[test]
fn what_comes_before_its_command_waits_for_it() {
    // Server bytes are given before client bytes that were captured up to two events earlier.
    for name in [
        "sysbench_disable",
        "sysbench_auto",
        "prepared",
        "multi",
        "mariadb_zlib",
        "node_mysql2",
    ] {
        for events in fixture(name) {
            let whole = run(&events);
            let mut swapped = events.clone();
            let mut i = 12;
            while i + 1 < swapped.len() {
                let (a, b) = (&swapped[i], &swapped[i + 1]);
                if matches!((a, b), (Event::Bytes(Side::Client, ..), Event::Bytes(Side::Server, ..))) {
                    swapped.swap(i, i + 1);
                    i += 1;
                }
                i += 1;
            }
            assert_eq!(run(&swapped).lines(), whole.lines(), "{name}");
        }
    }
}

#[test]
fn joined_in_the_middle_gives_rows_from_the_next_command_on_and_says_what_is_inferred() {
    for name in names() {
        for events in fixture(&name) {
            let whole = run(&events);
            for skip in [6, 9, 10, 15, 20] {
                // What follows a file or a replication stream is not read when the connection is read whole.
                if skip >= events.len() || name == "infile" || name == "mariadb_binlog" {
                    continue;
                }
                let mut joined = vec![
                    Event::Missing(Side::Client, 0, 0, Missing::Before),
                    Event::Missing(Side::Server, 0, 0, Missing::Before),
                ];
                joined.extend_from_slice(&events[skip..]);
                let run = run(&joined);
                let starts: Vec<_> = run.exchanges.iter().map(|e| e.request.start).collect();
                // All commands that begin with a piece are found.
                let begun = events[skip..]
                    .iter()
                    .filter_map(|e| match e {
                        Event::Bytes(Side::Client, pos, _) => Some(*pos),
                        _ => None,
                    })
                    .filter(|pos| whole.exchanges.iter().any(|e| e.request.start == *pos))
                    .count();
                assert!(
                    starts.len() >= begun,
                    "{name} from {skip}: {starts:?}\n{:#?}",
                    run.lines()
                );
                for a in &run.exchanges {
                    // Joined within a command: its end may look like one.
                    let Some(b) = whole.exchanges.iter().find(|b| b.request.start == a.request.start) else {
                        assert!(a.incomplete.is_some(), "{name} from {skip}");
                        continue;
                    };
                    let (m, n) = (message(a), message(b));
                    assert!(m.inferred, "{name}");
                    assert_eq!(
                        (m.command, m.status, m.error_code),
                        (n.command, n.status, n.error_code),
                        "{name} {skip}"
                    );
                    assert_eq!(
                        (m.rows, m.affected_rows),
                        (n.rows, n.affected_rows),
                        "{name} from {skip} {}",
                        n.statement
                    );
                    if !m.statement.is_empty() {
                        assert_eq!(m.statement, n.statement);
                    }
                }
            }
        }
    }
}

#[test]
fn a_removed_segment_touches_only_the_exchanges_it_lies_in() {
    for name in names() {
        for events in fixture(&name) {
            let whole = run(&events);
            for at in 4..events.len() {
                let Event::Bytes(from, pos, bytes) = &events[at] else {
                    continue;
                };
                let (start, end) = (*pos, pos + bytes.len() as u64);
                let mut holed = events.clone();
                holed.remove(at);
                // A gap is noticed when the next bytes of its direction come.
                let next = holed[at..]
                    .iter()
                    .position(|e| matches!(e, Event::Bytes(f, ..) if f == from));
                let next = next.map_or(holed.len(), |n| at + n);
                holed.insert(next, Event::Missing(*from, start, end - start, Missing::Lost));
                let run = run(&holed);
                for e in &whole.exchanges {
                    let span = if *from == Side::Client { e.request } else { e.response };
                    if span.start < end && start < span.end || message(e).command == com::COM_CONNECT {
                        continue;
                    }
                    let Some(found) = run.exchanges.iter().find(|x| x.request.start == e.request.start) else {
                        panic!("{name}: without {from:?} {start}-{end}: lost {}", message(e).statement);
                    };
                    let (m, n) = (message(found), message(e));
                    if ["pipelined", "mariadb_node", "mariadb_c_direct"].contains(&&*name) && found.incomplete.is_some()
                    {
                        // Which of the waiting commands a lost response answered, nobody can say: all are marked.
                        continue;
                    }
                    let same = m.status == n.status && m.command == n.command && found.response == e.response;
                    assert!(
                        same && found.incomplete.is_none(),
                        "{name}: without {from:?} {start}-{end}: {n:?} {:?}\nwas read as {m:?} {:?} {:?}",
                        e.response,
                        found.response,
                        found.incomplete
                    );
                }
            }
        }
    }
}
