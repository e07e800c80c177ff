//! Rules of the wire that need bytes no fixture should carry: huge packets, rare capabilities, other servers.

use super::super::message::*;
use super::super::{handshake, is_greeting, is_joined, looks_like_greeting};
use super::*;
use crate::analyze::exchange::Halves;

fn packet(seq: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut seq = seq;
    let mut parts: Vec<&[u8]> = payload.chunks(0xff_ffff).collect();
    if payload.len().is_multiple_of(0xff_ffff) {
        parts.push(&[]);
    }
    for part in parts {
        out.extend_from_slice(&(part.len() as u32).to_le_bytes()[..3]);
        out.push(seq);
        out.extend_from_slice(part);
        seq = seq.wrapping_add(1);
    }
    out
}

#[derive(Default)]
struct Talk {
    events: Vec<Event>,
    at: [u64; 2],
}

impl Talk {
    fn say(&mut self, from: Side, bytes: &[u8]) -> &mut Self {
        self.events
            .push(Event::Bytes(from, self.at[from as usize], bytes.to_vec()));
        self.at[from as usize] += bytes.len() as u64;
        self
    }
    fn client(&mut self, seq: u8, payload: &[u8]) -> &mut Self {
        self.say(Side::Client, &packet(seq, payload))
    }
    fn server(&mut self, seq: u8, payload: &[u8]) -> &mut Self {
        self.say(Side::Server, &packet(seq, payload))
    }
    fn miss(&mut self, from: Side, len: u64, why: Missing) -> &mut Self {
        self.events.push(Event::Missing(from, self.at[from as usize], len, why));
        self.at[from as usize] += len;
        self
    }
    /// Greeting, handshake response, OK.
    fn login(capabilities: u64) -> Self {
        let mut talk = Talk::default();
        talk.greet(capabilities)
            .client(1, &response(capabilities))
            .server(2, OK);
        talk
    }
    fn greet(&mut self, capabilities: u64) -> &mut Self {
        let c = capabilities.to_le_bytes();
        let mut g = b"\x0a8.4.0\0\x09\0\0\0saltsalt\0".to_vec();
        g.extend_from_slice(&[c[0], c[1], 0xff, 2, 0, c[2], c[3], 21, 0, 0, 0, 0, 0, 0]);
        g.extend_from_slice(&c[4..8]);
        g.extend_from_slice(b"saltsaltsalt\0caching_sha2_password\0");
        self.server(0, &g)
    }
    fn select(&mut self, text: &[u8]) -> &mut Self {
        self.client(0, &[b"\x03", text].concat())
    }
    fn run(&self) -> Run {
        run(&self.events)
    }
}

fn response(capabilities: u64) -> Vec<u8> {
    let c = capabilities.to_le_bytes();
    let mut r = c[..4].to_vec();
    r.extend_from_slice(&[0, 0, 0, 1, 255]);
    r.extend_from_slice(&[0; 19]);
    r.extend_from_slice(&c[4..8]);
    r.extend_from_slice(b"app\0\x04abcdshop\0caching_sha2_password\0\x10\x0cprogram_name\x02xy");
    r
}

const OK: &[u8] = &[0, 0, 0, 2, 0, 0, 0];
const EOF: &[u8] = &[0xfe, 0, 0, 2, 0];
const END: &[u8] = &[0xfe, 0, 0, 0x22, 0, 1, 0];
const DEF: &[u8] = b"\x03def\0\0\0\x01a\0\x0c\x3f\0\x01\0\0\0\x08\x81\0\0\0\0";
const P41: u64 = 1 << 9 | 1 << 3 | 1 << 15 | 1 << 19 | 1;

#[test]
fn handshake_gives_user_database_and_version_and_steps_over_connect_attributes() {
    let run = Talk::login(P41 | 1 << 20).client(0, &[COM_PING]).server(1, OK).run();
    let m = message(&run.exchanges[0]);
    assert_eq!(
        (&*m.user, &*m.database, &*m.server_version, m.inferred),
        ("app", "shop", "8.4.0", false)
    );
}

#[test]
fn ssl_request_ends_what_can_be_read() {
    let mut talk = Talk::default();
    talk.greet(P41 | 1 << 11).client(1, &response(P41 | 1 << 11)[..32]);
    talk.say(Side::Client, b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03");
    assert_eq!(talk.run().verdict, Verdict::Leave("TLS"));
}

#[test]
fn caching_sha2_fast_and_full_and_auth_switch_are_stepped_over() {
    for exchange in [
        vec![(true, 2, b"\x01\x03".to_vec())],
        vec![
            (true, 2, b"\x01\x04".to_vec()),
            (false, 3, b"\x02".to_vec()),
            (true, 4, b"\x01-----BEGIN PUBLIC KEY".to_vec()),
            (false, 5, vec![7; 256]),
        ],
        vec![
            (true, 2, b"\xfemysql_native_password\0saltsaltsaltsaltsalt\0".to_vec()),
            (false, 3, vec![9; 20]),
        ],
    ] {
        let mut talk = Talk::default();
        talk.greet(P41).client(1, &response(P41));
        let mut seq = 1;
        for (server, s, payload) in &exchange {
            seq = *s;
            if *server {
                talk.server(seq, payload)
            } else {
                talk.client(seq, payload)
            };
        }
        let run = talk.server(seq + 1, OK).select(b"select 1").server(1, OK).run();
        assert_eq!(run.lines(), [r#"COM_QUERY "select 1" ok affected=0"#]);
    }
}

#[test]
fn packets_of_0xffffff_bytes_go_on_in_the_next() {
    for len in [0xff_fffe, 0xff_ffff, 0x100_0000, 2 * 0xff_ffff] {
        let mut sql = b"select '".to_vec();
        sql.resize(len - 1, b'x');
        let mut row = vec![0xfd, 0xfa, 0xff, 0xff];
        if len > 0x100_0000 {
            row = vec![0xfe];
            row.extend_from_slice(&(len as u64 - 9).to_le_bytes());
        }
        row.resize(len, b'y');
        let mut talk = Talk::login(P41 | 1 << 24);
        talk.select(&sql)
            .server(1, &[1])
            .server(2, DEF)
            .server(3, &row)
            .server(5, &row)
            .server(7, END);
        talk.client(0, &[COM_PING]).server(1, OK);
        for run in [talk.run(), run(&cut(&talk.events, 100_000))] {
            let m = message(&run.exchanges[0]);
            assert_eq!(
                (m.rows, m.statement_cut, m.statement.len()),
                (Some(2), true, STATEMENT_LIMIT),
                "{len}"
            );
            assert!(m.no_index_used);
            assert_eq!(message(&run.exchanges[1]).status, Status::Ok);
        }
    }
}

#[test]
fn both_ends_of_rows_and_null_in_the_first_column() {
    let mut talk = Talk::login(P41);
    talk.select(b"q")
        .server(1, &[1])
        .server(2, DEF)
        .server(3, EOF)
        .server(4, b"\xfb")
        .server(5, b"\x01z")
        .server(6, EOF);
    assert_eq!(talk.run().lines(), [r#"COM_QUERY "q" ok rows=2"#]);
    let mut talk = Talk::login(P41 | 1 << 24);
    talk.select(b"q")
        .server(1, &[1])
        .server(2, DEF)
        .server(3, b"\xfb")
        .server(4, END);
    assert_eq!(talk.run().lines(), [r#"COM_QUERY "q" ok rows=1"#]);
}

#[test]
fn left_out_metadata_is_not_waited_for() {
    for capabilities in [P41 | 1 << 24 | 1 << 25, (P41 | 1 << 24 | 1 << 36) & !1] {
        let mut talk = Talk::login(capabilities);
        talk.select(b"q").server(1, &[1, 0]).server(2, b"\x01z").server(3, END);
        talk.select(b"r")
            .server(1, &[1, 1])
            .server(2, DEF)
            .server(3, b"\x01z")
            .server(4, END);
        assert_eq!(
            talk.run().lines(),
            [r#"COM_QUERY "q" ok rows=1"#, r#"COM_QUERY "r" ok rows=1"#]
        );
    }
}

#[test]
fn mariadb_extended_capabilities_are_read_from_both_sides() {
    let mut talk = Talk::default();
    talk.greet(P41 & !1 | 1 << 36 | 1 << 34);
    let Event::Bytes(_, _, greeting) = &talk.events[0] else {
        panic!()
    };
    assert_eq!(
        handshake::greeting(&greeting[4..]).unwrap().capabilities >> 32,
        1 << 4 | 1 << 2
    );
    assert_eq!(
        handshake::response(&response(P41 & !1 | 1 << 34)).unwrap().capabilities >> 32,
        1 << 2
    );
}

#[test]
fn progress_reports_are_no_errors() {
    let mut talk = Talk::login(P41);
    talk.select(b"alter table t engine=innodb");
    talk.server(1, b"\xff\xff\xff\x01\x01\x02\0\0\0\x05stage")
        .server(2, b"\xff\xff\xff\x01\x02\x02\0\0\0\x05stage")
        .server(3, OK);
    assert_eq!(
        talk.run().lines(),
        [r#"COM_QUERY "alter table t engine=innodb" ok affected=0"#]
    );
}

#[test]
fn bulk_execute_counts_as_execute_and_a_missing_prepare_is_told_by_its_id() {
    let mut talk = Talk::login(P41 & !1 | 1 << 34);
    talk.client(0, b"\xfa\x07\0\0\0\x80\0\x03\0\0\x01\0\0\0")
        .server(1, &[0, 3, 0, 2, 0, 0, 0]);
    let run = talk.run();
    assert_eq!(run.lines(), [r#"COM_STMT_BULK_EXECUTE "" ok id=7 affected=3"#]);
    assert!(message(&run.exchanges[0]).runs_sql());
}

#[test]
fn replication_is_not_paired() {
    for command in [
        &b"\x12\x04\0\0\0\0\0\x01\0\0\0binlog"[..],
        b"\x1e\0\0\x01\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\0\0\0\0",
    ] {
        let run = Talk::login(P41).client(0, command).server(1, b"\0event").run();
        assert_eq!(run.verdict, Verdict::Leave("MySQL replication"));
        assert!(run.exchanges.iter().all(|e| e.halves == Halves::RequestOnly));
    }
}

#[test]
fn session_track_changes_the_database() {
    let mut talk = Talk::login(P41 | 1 << 23);
    talk.select(b"/* x */ use other")
        .server(1, b"\0\0\0\x02\x40\0\0\0\x08\x01\x06\x05other");
    talk.client(0, &[COM_PING]).server(1, OK);
    assert_eq!(&*message(&talk.run().exchanges[1]).database, "other");
}

#[test]
fn a_command_whose_content_is_lost_may_be_one_that_is_answered() {
    for len in [1_u8, 5] {
        let mut talk = Talk::login(P41);
        talk.select(b"select 1").server(1, OK);
        talk.say(Side::Client, &[len, 0, 0, 0])
            .miss(Side::Client, u64::from(len), Missing::Lost);
        talk.server(1, b"\0\x07\0\x02\0\0\0");
        talk.select(b"select 2").server(1, OK);
        talk.select(b"select 3").server(1, OK);
        let run = talk.run();
        let said: Vec<_> = run
            .complete()
            .map(|e| (message(e).statement.as_str(), message(e).affected_rows))
            .collect();
        assert_eq!(
            said,
            [("select 1", Some(0)), ("select 2", Some(0)), ("select 3", Some(0))],
            "{:?}",
            run.lines()
        );
    }
}

/// A client that writes the headers of its frames alone, and a capture that lost two of them: what the frames hold looks
/// like commands that are not compressed.
#[test]
fn commands_behind_lost_headers_of_frames_are_known_by_their_answers() {
    let frame = |seq: u8, content: &[u8]| [&[content.len() as u8, 0, 0, seq, 0, 0, 0], content].concat();
    let mut talk = Talk::default();
    talk.miss(Side::Client, 100, Missing::Lost);
    talk.miss(Side::Server, 100, Missing::Lost);
    let lost = |talk: &mut Talk, command: &[u8]| {
        talk.miss(Side::Client, 7, Missing::Lost).client(0, command);
        talk.say(Side::Server, &frame(1, &packet(1, OK)));
    };
    lost(&mut talk, b"\x03select 1");
    lost(&mut talk, b"\x0e");
    talk.say(Side::Client, &frame(0, &packet(0, b"\x0e")));
    talk.say(Side::Server, &frame(1, &packet(1, OK)));
    let run = talk.run();
    let spans: Vec<_> = run
        .complete()
        .map(|exchange| exchange.response.end - exchange.response.start)
        .collect();
    assert_eq!(spans, [18], "{:?}", run.lines());
}

#[test]
fn query_attributes_with_values_come_before_the_text() {
    let mut talk = Talk::login(P41 | 1 << 27);
    talk.client(0, b"\x03\x02\x01\x02\x01\xfe\0\x01k\x08\0\x01n\x05valueselect 1")
        .server(1, OK);
    talk.client(0, b"\x03\0\x01select 2").server(1, OK);
    assert_eq!(
        talk.run().lines(),
        [
            r#"COM_QUERY "select 1" ok affected=0"#,
            r#"COM_QUERY "select 2" ok affected=0"#
        ]
    );
    // Not seen at login: inferred.
    let mut joined = Talk::default();
    joined
        .client(0, b"\x03\0\x01select 2")
        .server(1, OK)
        .select(b"select 3")
        .server(1, OK);
    assert_eq!(joined.run().lines()[0], r#"COM_QUERY "select 2" ok affected=0"#);
    assert!(message(&joined.run().exchanges[1]).inferred);
}

#[test]
fn end_of_rows_is_inferred_when_the_login_was_not_seen() {
    let mut talk = Talk::default();
    talk.client(0, b"\x16select ?")
        .server(1, b"\0\x01\0\0\0\0\0\x01\0\0\0\0")
        .server(2, DEF)
        .server(3, EOF);
    talk.select(b"a")
        .server(1, &[1])
        .server(2, DEF)
        .server(3, EOF)
        .server(4, b"\x01z")
        .server(5, EOF);
    assert_eq!(
        talk.run().lines(),
        [r#"COM_STMT_PREPARE "select ?" ok id=1"#, r#"COM_QUERY "a" ok rows=1"#]
    );
    let mut talk = Talk::default();
    talk.select(b"a")
        .server(1, &[1])
        .server(2, DEF)
        .server(3, b"\x01z")
        .server(4, END)
        .select(b"b")
        .server(1, OK);
    assert_eq!(
        talk.run().lines(),
        [r#"COM_QUERY "a" ok rows=1"#, r#"COM_QUERY "b" ok affected=0"#]
    );
}

#[test]
fn a_cut_response_keeps_its_status_and_ends_before_the_next_command() {
    let mut talk = Talk::login(P41);
    let mut first = [packet(1, &[1]), packet(2, DEF), packet(3, EOF), packet(4, b"\x01z")].concat();
    first.extend_from_slice(&[200, 0, 0, 5, 5, b'a']);
    talk.select(b"a")
        .say(Side::Server, &first)
        .miss(Side::Server, 16_000, Missing::Unread);
    talk.miss(Side::Server, 16_000, Missing::Unread)
        .select(b"b")
        .server(1, OK)
        .client(0, &[COM_QUIT]);
    let run = talk.run();
    assert_eq!(
        run.lines()[..2],
        [r#"COM_QUERY "a" ok rows=?"#, r#"COM_QUERY "b" ok affected=0"#]
    );
    let (a, b) = (&run.exchanges[0].response, &run.exchanges[1].response);
    assert_eq!((a.end, a.end - a.start), (b.start, first.len() as u64 + 32_000));
}

/// Found by the fuzzer: the response ended before it began.
#[test]
fn a_response_of_which_only_headers_were_read_ends_after_it_began() {
    let mut talk = Talk::login(P41 | 1 << 24);
    talk.select(b"a").server(1, &[1]).server(2, DEF);
    talk.say(Side::Server, &[10, 0, 0, 3])
        .miss(Side::Server, 10, Missing::Unread);
    let end = talk.at[Side::Server as usize];
    talk.select(b"b").server(1, OK);
    let run = talk.run();
    let response = &run.exchanges[0].response;
    assert!(response.begun && response.start < response.end, "{response:?}");
    assert_eq!(response.end, end);
}

/// mysql-connector-python hangs up when the file is not there: how the command ended, nobody knows.
#[test]
fn a_request_for_a_local_file_is_no_status() {
    let mut talk = Talk::login(P41);
    talk.select(b"LOAD DATA LOCAL INFILE 'x' INTO TABLE t")
        .server(1, b"\xfbx");
    assert_eq!(
        talk.run().lines(),
        [r#"COM_QUERY "LOAD DATA LOCAL INFILE 'x' INTO TABLE t" no_response rows=? [response_cut]"#]
    );
}

/// The answer of the one, the command of the other: the pair that is left over is none.
#[test]
fn a_lost_response_and_a_lost_command_make_no_pair() {
    let mut talk = Talk::login(P41);
    let ok = |n| [0, n, 0, 2, 0, 0, 0];
    talk.select(b"a").server(1, &ok(1)).select(b"b");
    let (lost, command) = (packet(1, OK).len() as u64, packet(0, b"\x03c").len() as u64);
    talk.miss(Side::Client, command, Missing::Lost)
        .miss(Side::Server, lost, Missing::Lost)
        .server(1, &ok(3));
    talk.select(b"d").server(1, &ok(4));
    assert_eq!(
        talk.run().lines(),
        [
            r#"COM_QUERY "a" ok affected=1"#,
            r#"COM_QUERY "b" no_response rows=? [gap]"#,
            r#"COM_QUERY "d" ok affected=4"#
        ]
    );
}

#[test]
fn a_second_hole_touches_what_was_asked_since_the_first() {
    let mut talk = Talk::login(P41);
    let ok = |n| [0, n, 0, 2, 0, 0, 0];
    let (lost, command) = (packet(1, OK).len() as u64, packet(0, b"\x03c").len() as u64);
    talk.select(b"a").miss(Side::Server, lost, Missing::Lost);
    talk.select(b"b").miss(Side::Server, lost, Missing::Lost);
    // The command that this answers is lost.
    talk.server(1, &ok(3)).miss(Side::Client, command, Missing::Lost);
    talk.select(b"d").server(1, &ok(4));
    assert_eq!(
        talk.run().lines(),
        [
            r#"COM_QUERY "a" no_response rows=? [gap]"#,
            r#"COM_QUERY "b" no_response rows=? [gap]"#,
            r#"COM_QUERY "d" ok affected=4"#
        ]
    );
}

/// The order of the two directions is only roughly right. Three commands wait, and a hole is told of only now: the next
/// answer may be the second's as well as the third's, so it is nobody's.
#[test]
fn a_hole_told_of_late_gives_no_command_the_answer_of_another() {
    let mut talk = Talk::login(P41);
    talk.select(b"a").select(b"b").select(b"c");
    let lost = packet(1, OK).len() as u64;
    talk.miss(Side::Server, lost, Missing::Lost)
        .server(1, &[0, 7, 0, 2, 0, 0, 0])
        .server(1, &[0, 8, 0, 2, 0, 0, 0]);
    talk.select(b"d").server(1, &[0, 9, 0, 2, 0, 0, 0]);
    let lines = talk.run().lines();
    for (line, text) in lines.iter().zip(["a", "b", "c"]) {
        assert_eq!(line, &format!("COM_QUERY {text:?} no_response rows=? [gap]"));
    }
    assert_eq!(lines[3], r#"COM_QUERY "d" ok affected=9"#);
}

#[test]
fn rows_whose_ends_were_not_read_are_counted_by_their_headers() {
    let mut talk = Talk::login(P41 | 1 << 24);
    talk.select(b"a").server(1, &[1]).server(2, DEF);
    for seq in 3..6 {
        talk.say(Side::Server, &[0x40, 0x42, 0x0f, seq, 0xfd, 0x3c, 0x42])
            .miss(Side::Server, 999_997, Missing::Unread);
    }
    assert_eq!(talk.server(6, END).run().lines(), [r#"COM_QUERY "a" ok rows=3"#]);
}

#[test]
fn a_statement_that_was_not_read_whole_is_cut_and_still_measured() {
    let mut talk = Talk::login(P41);
    talk.say(Side::Client, b"\x00\x10\0\0\x03insert into t")
        .miss(Side::Client, 4096 - 14, Missing::Unread);
    let run = talk.server(1, OK).run();
    assert_eq!(run.lines(), [r#"COM_QUERY "insert into t" ok affected=0"#]);
    assert!(message(&run.exchanges[0]).statement_cut);
}

#[test]
fn zstd_frames_are_inflated() {
    let frame = |seq: u8, inner: &[u8]| {
        let body = zstd::bulk::compress(inner, 3).unwrap();
        let mut out = (body.len() as u32).to_le_bytes()[..3].to_vec();
        out.push(seq);
        out.extend_from_slice(&(inner.len() as u32).to_le_bytes()[..3]);
        out.extend_from_slice(&body);
        out
    };
    let text = [b"\x03select '".to_vec(), vec![b'x'; 50_000], b"'".to_vec()].concat();
    let rows = [
        packet(1, &[1]),
        packet(2, DEF),
        packet(3, &vec![1; 60_000]),
        packet(4, END),
    ]
    .concat();
    let mut talk = Talk::login(P41 | 1 << 24 | 1 << 26);
    let (a, b) = rows.split_at(40_000);
    talk.say(Side::Client, &frame(0, &packet(0, &text)))
        .say(Side::Server, &frame(1, a))
        .say(Side::Server, &frame(2, b));
    let ping = [&[5, 0, 0, 0, 0, 0, 0][..], &packet(0, &[COM_PING])].concat();
    talk.say(Side::Client, &ping)
        .say(Side::Server, &[&[11, 0, 0, 1, 0, 0, 0][..], &packet(1, OK)].concat());
    for run in [talk.run(), run(&cut(&talk.events, 1)), run(&talk.events[3..])] {
        assert_eq!(message(&run.exchanges[0]).rows, Some(1));
        assert_eq!(message(&run.exchanges[0]).statement.len(), 8 + 50_000 + 1);
        assert_eq!(message(&run.exchanges[1]).status, Status::Ok);
    }
}

#[test]
fn header_and_body_read_apart_are_one_packet() {
    let mut talk = Talk::default();
    talk.miss(Side::Client, 0, Missing::Before)
        .miss(Side::Server, 0, Missing::Before);
    talk.say(Side::Client, &[9, 0, 0, 0])
        .say(Side::Client, b"\x03select 1")
        .server(1, OK);
    assert_eq!(talk.run().lines(), [r#"COM_QUERY "select 1" ok affected=0"#]);
}

#[test]
fn commands_that_nobody_answers_are_bounded() {
    let mut talk = Talk::login(P41);
    for _ in 0..6000 {
        talk.client(0, &[COM_PING]);
    }
    let run = talk.run();
    assert_eq!(run.exchanges.len(), 6000);
    assert_eq!(run.exchanges[0].incomplete.map(|i| i.name()), Some("too_many"));
}

#[test]
fn first_bytes_tell() {
    let joined = |client: &[u8], server: &[u8]| is_joined(Sent::whole(client), Sent::whole(server));
    let ok = packet(1, OK);
    assert_eq!(joined(b"\x09\0\0\0\x03select 1", b""), Some(true));
    assert_eq!(joined(b"\x0b\0\0\0\x03\0\x01select 1", b""), Some(true));
    assert_eq!(joined(b"\x01\0\0\0\x0e", &ok), Some(true));
    let framed = [&[11, 0, 0, 1, 0, 0, 0], &ok[..]].concat();
    assert_eq!(joined(b"\x05\0\0\0\0\0\0\x01\0\0\0\x0e", &framed), Some(true));
    for other in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"\x16\x03\x01\x02\0\x01",
        b"*1\r\n$4\r\nPING",
        b"\0\0\0\x08\x04\xd2\x16\x2f",
        b"",
        b"\x09\0\0\0",
    ] {
        assert_ne!(joined(other, &ok), Some(true), "{other:?}");
        assert!(!looks_like_greeting(other), "{other:?}");
    }
    let mut talk = Talk::default();
    talk.greet(P41);
    let Event::Bytes(_, _, greeting) = &talk.events[0] else {
        panic!()
    };
    assert!(looks_like_greeting(greeting) && looks_like_greeting(&greeting[..5]));
    assert!(looks_like_greeting(b"\x48\0\0\0\xff\x6a\x04Host 'x' is not allowed"));
    assert!(is_greeting(Sent::whole(greeting)));
    assert!(!is_greeting(Sent::whole(&[greeting, &b"x"[..]].concat())));
    // A reply of MongoDB whose number begins like a version.
    assert!(!is_greeting(Sent::whole(b"\x30\0\0\0\x0a8.1\0\0\0\0\xdd\x07\0\0")));
}

/// The server was not heard: whether it agreed to query attributes is seen from the commands.
#[test]
fn what_a_client_asks_for_is_not_agreed_on_before_the_server_is_heard() {
    let mut talk = Talk::default();
    talk.client(1, &response(P41 | 1 << 27)).select(b"SELECT a FROM t");
    talk.client(0, &[b"\x03\0\x01", &b"SELECT b FROM t"[..]].concat());
    let statements = talk
        .run()
        .exchanges
        .iter()
        .map(|e| message(e).statement.clone())
        .collect::<Vec<_>>();
    assert_eq!(statements, ["SELECT a FROM t", "SELECT b FROM t"]);
}

/// MySQL 8.0.24 and later say why they close an idle connection, before anybody asks.
const INACTIVE: &[u8] = b"\xff\xbf\x0f#HY000The client was disconnected by the server because of inactivity.";

#[test]
fn an_error_that_nobody_asked_for_is_a_row() {
    let expected = r#"COM_UNKNOWN "" error error=4031 HY000 "The client was disconnected by the server because of inactivity." [no_request]"#;
    for seq in [0, 1] {
        let mut talk = Talk::login(P41);
        talk.select(b"a")
            .server(1, OK)
            .client(0, b"\x19\x01\0\0\0")
            .server(seq, INACTIVE);
        for n in [1, 4, 1000] {
            let run = run(&cut(&talk.events, n));
            assert_eq!(run.lines()[0], r#"COM_QUERY "a" ok affected=0"#);
            assert_eq!(run.lines()[2..], [expected], "{seq} in pieces of {n}");
            let exchange = &run.exchanges[2];
            assert_eq!(message(exchange).why(), "an error without a command");
            assert_eq!(
                exchange.response.end - exchange.response.start,
                4 + INACTIVE.len() as u64
            );
            assert_eq!(
                (&*message(exchange).user, &*message(exchange).database),
                ("app", "shop")
            );
        }
    }
    // The next command may be read only after its answer: that is nothing new.
    let mut talk = Talk::login(P41);
    talk.server(1, b"\xff\x7a\x04#42S02no such table").select(b"a");
    assert_eq!(
        talk.run().lines(),
        [r#"COM_QUERY "a" error error=1146 42S02 "no such table""#]
    );
}

#[test]
fn an_error_that_nobody_asked_for_tells_of_mysql_where_the_connection_was_joined() {
    let bytes = packet(0, INACTIVE);
    assert!(is_greeting(Sent::whole(&bytes)));
    for longer in [
        [&bytes[..], b"x"].concat(),
        [b"x", &bytes[..]].concat(),
        packet(0, b"\xff\xbf\x0fno state"),
    ] {
        assert!(!is_greeting(Sent::whole(&longer)));
    }
    let mut pairing = MysqlPairing::new(true);
    let mut queue = Queue::default();
    pairing.bytes(Side::Server, 0, &bytes, &mut queue);
    let exchange = queue.take().expect("a row");
    assert!(exchange.is_finished() && message(&exchange).is_unasked);
}

#[test]
fn an_answer_that_was_lost_right_before_the_end_is_a_gap() {
    let lost = packet(1, OK).len() as u64;
    let mut talk = Talk::login(P41);
    talk.select(b"a").server(1, OK);
    talk.select(b"b").miss(Side::Server, lost, Missing::Lost);
    assert_eq!(talk.run().lines()[1], r#"COM_QUERY "b" no_response rows=? [gap]"#);
    // Nothing was lost, or only before the command.
    let mut talk = Talk::login(P41);
    talk.select(b"b");
    assert_eq!(
        talk.run().lines()[0],
        r#"COM_QUERY "b" no_response rows=? [no_response]"#
    );
    let mut talk = Talk::login(P41);
    talk.select(b"a").miss(Side::Server, lost, Missing::Lost);
    talk.select(b"b");
    assert_eq!(
        talk.run().lines()[1],
        r#"COM_QUERY "b" no_response rows=? [no_response]"#
    );
}

#[test]
fn a_statement_that_may_have_been_prepared_in_a_hole_is_not_said_to_be_older() {
    let why = |message: &MysqlMessage| message.why();
    let execute = |joined, hole| MysqlMessage {
        command: 0x17,
        is_joined: joined,
        is_behind_hole: hole,
        ..MysqlMessage::default()
    };
    assert_eq!(why(&execute(true, false)), "prepared before the capture");
    assert_eq!(
        why(&execute(true, true)),
        "prepared before the capture, or in what was lost"
    );
    assert_eq!(why(&execute(false, true)), "its PREPARE was not seen");
}

/// Commands that are never answered, alone and before others, of which content is lost: cut by a snaplen, or by a hole.
#[test]
fn what_is_never_answered_waits_for_no_answer_and_shifts_none_however_it_is_cut() {
    const CLOSE: &[u8] = b"\x19\x07\0\0\0";
    let long_data = [b"\x18\x07\0\0\0\0\0".as_slice(), &[b'x'; 40]].concat();
    let ok = |n: u8| packet(1, &[0, n, 0, 2, 0, 0, 0]);
    let query = |n: u8| packet(0, format!("\x03select {n}").as_bytes());
    let execute = packet(0, b"\x17\x07\0\0\0\0\x01\0\0\0");
    // Each turn: what the client sends in one call, and the answers to it.
    let turns: Vec<(Vec<Vec<u8>>, usize)> = vec![
        (vec![query(1)], 1),
        (vec![packet(0, CLOSE)], 0),
        (vec![query(2)], 1),
        (vec![packet(0, CLOSE), query(3)], 1),
        (vec![query(4)], 1),
        (vec![packet(0, &long_data)], 0),
        (vec![execute.clone()], 1),
        (vec![packet(0, &long_data), execute], 1),
        (vec![query(5)], 1),
        (vec![packet(0, CLOSE), packet(0, b"\x19\x08\0\0\0")], 0),
        (vec![query(6)], 1),
        (vec![query(7)], 1),
        (vec![packet(0, &[COM_QUIT])], 0),
    ];
    // What is lost: of this turn, from a byte on, so many.
    let talk = |lost: Option<(usize, usize, usize, Missing)>| {
        let mut talk = Talk::login(P41);
        let mut answers = 0;
        let mut begins = Vec::new();
        for (number, (commands, answered)) in turns.iter().enumerate() {
            begins.push(talk.at[Side::Client as usize]);
            let bytes = commands.concat();
            match lost.filter(|(turn, ..)| *turn == number) {
                None => drop(talk.say(Side::Client, &bytes)),
                Some((_, at, len, why)) => {
                    if at > 0 {
                        talk.say(Side::Client, &bytes[..at]);
                    }
                    talk.miss(Side::Client, len as u64, why);
                    if at + len < bytes.len() {
                        talk.say(Side::Client, &bytes[at + len..]);
                    }
                }
            }
            for _ in 0..*answered {
                answers += 1;
                talk.say(Side::Server, &ok(answers));
            }
        }
        begins.push(talk.at[Side::Client as usize]);
        (talk.run(), begins)
    };
    let fact = |e: &Exchange| {
        let m = message(e);
        let answer = (m.affected_rows, e.response.start, e.response.end);
        (
            e.request.start,
            (m.command, m.statement.clone(), m.statement_id, answer),
        )
    };
    let (whole, begins) = talk(None);
    let truth: HashMap<_, _> = whole.complete().map(fact).collect();
    assert_eq!(truth.len(), whole.exchanges.len(), "{:?}", whole.lines());
    for (turn, (commands, _)) in turns.iter().enumerate() {
        let size = commands.concat().len();
        for at in 0..size {
            // A snaplen cuts all that follows in the call.
            let lens = [
                (size - at, Missing::Unread),
                (size - at, Missing::Lost),
                (1, Missing::Lost),
                (5, Missing::Lost),
            ];
            for (len, why) in lens.into_iter().filter(|(len, _)| at + len <= size) {
                let (run, _) = talk(Some((turn, at, len, why)));
                let what = format!("turn {turn}, {len} from {at} on, {why:?}: {:#?}", run.lines());
                let found: HashMap<_, _> = run.complete().map(fact).collect();
                for (start, fact) in &found {
                    // Of what was not read to its end, the beginning of the statement is known.
                    let Some(true_fact) = truth.get(start) else {
                        panic!("invented at {start}: {what}")
                    };
                    let (command, statement, _, answer) = fact;
                    assert_eq!((command, answer), (&true_fact.0, &true_fact.3), "{what}");
                    assert!(true_fact.1.starts_with(statement.as_str()), "{what}");
                }
                for (start, fact) in &truth {
                    let is_touched = (begins[turn]..begins[turn + 1]).contains(start);
                    assert!(is_touched || found.get(start) == Some(fact), "{fact:?} is gone: {what}");
                }
            }
        }
    }
}

/// A frame of the compressed protocol that holds its content as it is.
fn stored(seq: u8, inner: &[u8]) -> Vec<u8> {
    let len = (inner.len() as u32).to_le_bytes();
    [&[len[0], len[1], len[2], seq, 0, 0, 0], inner].concat()
}

/// A command that the client goes on with (a new login, a file): what comes after that is the end of the answer, not the
/// answer.
#[test]
fn an_answer_that_lost_its_first_packet_is_not_whole_where_the_client_speaks_in_its_middle() {
    let switch: &[u8] = b"\xfemysql_native_password\0saltsaltsaltsaltsalt\0";
    let change_user: &[u8] = b"\x11app\0\0db\0\x21\0mysql_native_password\0";
    let load: &[u8] = b"\x03load data local infile 'x' into table t";
    for (command, first, rest) in [(change_user, switch, b"secret"), (load, b"\xfbx", b"1,2,3\n")] {
        let mut talk = Talk::login(P41);
        talk.client(0, command)
            .miss(Side::Server, packet(1, first).len() as u64, Missing::Lost)
            .client(2, rest);
        let last = match command == load {
            true => {
                talk.client(3, b"");
                4
            }
            false => 3,
        };
        talk.server(last, OK).select(b"select 2").server(1, OK);
        let run = talk.run();
        let complete: Vec<_> = run.complete().map(|e| message(e).statement.as_str()).collect();
        assert_eq!(complete, ["select 2"], "{:?}", run.lines());
    }
}

#[test]
fn a_compressed_answer_that_lost_its_first_frames_is_not_whole() {
    let result = |seq| {
        [
            packet(seq, &[1]),
            packet(seq + 1, DEF),
            packet(seq + 2, EOF),
            packet(seq + 3, EOF),
        ]
        .concat()
    };
    // Another result, or what ends the rows.
    for rest in [result(5), packet(6, EOF)] {
        let lost = stored(1, &result(1)).len() as u64;
        let mut talk = Talk::login(P41 | 1 << 5);
        talk.say(Side::Client, &stored(0, &packet(0, b"\x03call p()")))
            .miss(Side::Server, lost, Missing::Lost)
            .say(Side::Server, &stored(2, &rest))
            .say(Side::Client, &stored(0, &packet(0, b"\x03select 2")))
            .say(Side::Server, &stored(1, &result(1)));
        let run = talk.run();
        let complete: Vec<_> = run.complete().map(|e| message(e).statement.as_str()).collect();
        assert_eq!(complete, ["select 2"], "{:?}", run.lines());
    }
}

/// mysql2 for Node writes the header of a frame alone.
#[test]
fn what_is_left_of_the_first_compressed_command_is_no_command() {
    let mut talk = Talk::login(P41 | 1 << 5);
    talk.miss(Side::Client, 7, Missing::Lost)
        .say(Side::Client, &packet(0, b"\x03select 1"))
        .say(Side::Server, &stored(1, &packet(1, OK)));
    for number in ["2", "3"] {
        let command = stored(0, &packet(0, format!("\x03select {number}").as_bytes()));
        talk.say(Side::Client, &command[..7])
            .say(Side::Client, &command[7..])
            .say(Side::Server, &stored(1, &packet(1, OK)));
    }
    let run = talk.run();
    let complete: Vec<_> = run.complete().map(|e| message(e).statement.as_str()).collect();
    assert_eq!(complete, ["select 2", "select 3"], "{:?}", run.lines());
}

/// MariaDB's clients execute what they prepared last before they know its id.
#[test]
fn what_was_prepared_last_is_unknown_where_a_prepare_may_be_lost() {
    let execute = b"\x17\xff\xff\xff\xff\0\x01\0\0\0";
    let prepared = |id| [0, id, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let lost = packet(0, b"\x16select b").len() as u64;
    let mut talk = Talk::login(P41 | 1 << 24);
    talk.client(0, b"\x16select a").server(1, &prepared(1));
    talk.miss(Side::Client, lost, Missing::Lost).server(1, &prepared(2));
    talk.client(0, execute).server(1, OK);
    let run = talk.run();
    let last = message(run.exchanges.last().unwrap());
    assert_eq!((last.statement.as_str(), last.server_statement_id()), ("", None));
    assert_eq!(last.why(), "its PREPARE was not seen");
    // The answer that tells its id is lost, or says that there is none: its text is known.
    for error in [false, true] {
        let mut talk = Talk::login(P41 | 1 << 24);
        talk.client(0, b"\x16select a").server(1, &prepared(1));
        talk.client(0, b"\x16select b");
        match error {
            true => talk.server(1, b"\xff\x7a\x04#42S02none"),
            false => talk.miss(Side::Server, packet(1, &prepared(2)).len() as u64, Missing::Lost),
        };
        talk.client(0, execute).server(1, OK);
        let run = talk.run();
        let last = message(run.exchanges.last().unwrap());
        assert_eq!(
            (last.statement.as_str(), last.server_statement_id()),
            ("select b", None)
        );
    }
}

/// Whether an EOF ends the answer is known by what comes next.
#[test]
fn an_answer_to_a_prepare_ends_where_it_is_known_to_end() {
    let answer = [packet(1, b"\0\x01\0\0\0\0\0\x01\0\0\0\0"), packet(2, DEF)].concat();
    let talk = |eof: Result<bool, Missing>, more: bool| {
        let mut talk = Talk::default();
        talk.miss(Side::Client, 0, Missing::Before)
            .miss(Side::Server, 0, Missing::Before)
            .select(b"a")
            .server(1, OK)
            .client(0, b"\x16select ?")
            .say(Side::Server, &answer);
        match eof {
            Ok(true) => drop(talk.server(3, EOF)),
            Ok(false) => {}
            Err(why) => drop(talk.miss(Side::Server, packet(3, EOF).len() as u64, why)),
        }
        if more {
            talk.select(b"b").server(1, OK);
        }
        talk.run()
    };
    let (len, eof) = (answer.len() as u64, packet(3, EOF).len() as u64);
    for more in [true, false] {
        for (is_sent, expected) in [
            (Ok(true), Some(len + eof)),
            (Ok(false), Some(len)),
            (Err(Missing::Lost), None),
            (Err(Missing::Unread), None),
        ] {
            let run = talk(is_sent, more);
            let is_prepare = |e: &&Exchange| message(e).command == COM_STMT_PREPARE;
            let bytes = run
                .complete()
                .find(is_prepare)
                .map(|e| e.response.end - e.response.start);
            assert_eq!(bytes, expected, "{is_sent:?} {more}: {:?}", run.lines());
            let last = message(run.exchanges.last().unwrap());
            assert_eq!(
                (last.statement.as_str(), last.status),
                (if more { "b" } else { "select ?" }, Status::Ok)
            );
        }
    }
}
