//! What is read of a session of which only the server's direction was captured.

use super::real::{fixture, names};
use super::*;
use crate::analyze::exchange::Halves;
use crate::analyze::exchange::Incomplete;
use crate::analyze::protocol::mysql::com::COM_CONNECT;

/// The session, with a hole where the client sent something.
fn of_server(events: &[Event]) -> Vec<Event> {
    let without = |event: &Event| match event {
        Event::Bytes(Side::Client, pos, bytes) => Event::Missing(Side::Client, *pos, bytes.len() as u64, Missing::Lost),
        other => other.clone(),
    };
    events.iter().map(without).collect()
}

/// As the server's end tells of it when all that the client sent was lost: that is known at the end.
fn told_late(events: &[Event]) -> Vec<Event> {
    let is_server = |event: &&Event| matches!(event, Event::Bytes(Side::Server, ..));
    events.iter().filter(is_server).cloned().collect()
}

/// What a response says of itself.
fn answer(exchange: &Exchange) -> String {
    let m = message(exchange);
    let (status, rows) = (m.status, m.rows);
    format!(
        "{status:?} {} {} {:?} {rows:?} {:?}",
        m.error_code, m.sqlstate, m.error_message, m.warnings
    )
}

/// What a session says in the order of its responses: all but the login, and what is never answered.
fn answers(run: &Run) -> Vec<String> {
    let is_answer =
        |exchange: &&Exchange| exchange.halves != Halves::RequestOnly && message(exchange).command != COM_CONNECT;
    run.exchanges.iter().filter(is_answer).map(answer).collect()
}

/// Connections that cannot be read without the client: compressed ones, and one with a cursor.
const UNREAD: [&str; 6] = [
    "connector_python_zlib 0",
    "mariadb_zlib 0",
    "mysql_zlib 0",
    "mysql_zstd 0",
    "node_mysql2 1",
    "prepared 0",
];

#[test]
fn a_session_without_its_client_has_as_many_rows_as_answers() {
    let mut wrong = Vec::new();
    for name in names() {
        for (number, events) in fixture(&name).iter().enumerate() {
            let whole = answers(&run(events));
            for (how, events) in [("", of_server(events)), ("late ", told_late(events))] {
                let run = run(&events);
                let read = answers(&run);
                let is_right = match UNREAD.contains(&&*format!("{name} {number}")) {
                    true => whole.starts_with(&read) && whole != read,
                    false => whole == read,
                };
                if !is_right {
                    wrong.push(format!("{how}{name} {number}:\n{whole:#?}\n{read:#?}"));
                }
                for exchange in &run.exchanges {
                    let m = message(exchange);
                    assert!(exchange.incomplete.is_some(), "{name}: never complete: {exchange:?}");
                    assert!(
                        m.statement.is_empty() && !exchange.request.begun,
                        "{name}: {exchange:?}"
                    );
                    assert!(
                        m.command == COM_CONNECT || m.why() == "its command was not captured",
                        "{name}: {exchange:?}"
                    );
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn any_segmentation_of_the_servers_direction_says_the_same() {
    for name in names() {
        for events in fixture(&name) {
            let events = of_server(&events);
            let whole = run(&events);
            for n in [1, 2, 3, 5, 13, 100] {
                assert_eq!(run(&cut(&events, n)).lines(), whole.lines(), "{name} in pieces of {n}");
            }
        }
    }
}

/// Cut after any byte, the answers before it are what they were; none is made up.
#[test]
fn a_servers_direction_cut_at_every_byte_says_no_more() {
    for name in [
        "prepared",
        "multi",
        "infile",
        "mysql_cli",
        "mysql_tls",
        "mysql_zlib",
        "mariadb_binlog",
    ] {
        for events in fixture(name) {
            let all = answers(&run(&events));
            let events = cut(&of_server(&events), 1);
            for n in (0..events.len().min(3000)).step_by(7) {
                let read = run(&events[..n]);
                let ended = read.exchanges.iter().filter(|exchange| exchange.response.ended);
                let ended: Vec<_> = ended
                    .filter(|one| message(one).command != COM_CONNECT)
                    .map(answer)
                    .collect();
                assert!(all.starts_with(&ended), "{name} {n}: {ended:?}");
            }
        }
    }
}

/// A hole in the server's direction: what was read before it stays, and nothing after it is believed.
#[test]
fn nothing_is_believed_behind_a_hole_of_the_server() {
    for events in fixture("pymysql") {
        let all = answers(&run(&events));
        let events = of_server(&events);
        for lost in 0..events.len() {
            let mut holed = events.clone();
            if let Event::Bytes(from, pos, bytes) = &events[lost] {
                holed[lost] = Event::Missing(*from, *pos, bytes.len() as u64, Missing::Lost);
            }
            let read = run(&holed);
            let ended = read.exchanges.iter().filter(|exchange| exchange.response.ended);
            let ended: Vec<_> = ended.map(answer).collect();
            assert!(all.starts_with(&ended), "{lost}: {ended:?}");
        }
    }
}

/// Rows of a cursor, and packets that break the sequence, may be anything.
#[test]
fn what_does_not_say_what_it_is_ends_the_reading() {
    let events = &fixture("pymysql")[0];
    let login: Vec<Event> = of_server(events).into_iter().take(4).collect();
    let end = login.iter().rev().find_map(|event| match event {
        Event::Bytes(Side::Server, pos, bytes) => Some(pos + bytes.len() as u64),
        _ => None,
    });
    let packet = |seq: u8, payload: &[u8]| [&[payload.len() as u8, 0, 0, seq][..], payload].concat();
    let okay = packet(1, &[0, 1, 0, 2, 0, 0, 0]);
    for (bytes, rows) in [
        (okay.clone(), 1),
        ([&okay[..], &okay].concat(), 2),
        // Numbered otherwise than a response.
        ([&packet(2, &[0, 1, 0, 2, 0, 0, 0])[..], &okay].concat(), 0),
        // A binary row, an event of a binary log, an error without a state, columns with something behind them.
        (
            [&packet(1, &[0, 0, 7, 0, 0, 0, 1, 0x80, 0xff, 3])[..], &okay].concat(),
            0,
        ),
        (
            [
                &packet(1, b"\0\0\0\0\0\x04\x01\0\0\0\x30\0\0\0\0\0\0\0\x20\0")[..],
                &okay,
            ]
            .concat(),
            0,
        ),
        ([&packet(1, b"\xff\x19\x04no state")[..], &okay].concat(), 0),
        ([&packet(1, &[5, 1, 1])[..], &okay].concat(), 0),
    ] {
        let mut events = login.clone();
        events.push(Event::Missing(Side::Client, 500_000, 20, Missing::Lost));
        events.push(Event::Bytes(Side::Server, end.unwrap(), bytes.clone()));
        let read = run(&events);
        assert_eq!(read.exchanges.len(), rows, "{bytes:x?}: {:?}", read.lines());
        assert!(read.exchanges.iter().all(|one| one.incomplete == Some(Incomplete::Gap)));
    }
}
