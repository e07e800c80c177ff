//! The rules of HTTP/1.x and of the MySQL protocol, and of who is behind an exchange, each shown on bytes that real programs sent. What no real program
//! would send is in the unit tests of the protocols.
//!
//! fixtures/http and fixtures/mysql say which programs, and how to make the captures again.
#![cfg(feature = "analyze")]
#![allow(clippy::expect_used, reason = "a test that panics has failed")]

mod support;

use std::path::{Path, PathBuf};

use masdeepflow::format::record::{Direction, Loss, LossReason, Origin, Record, Role};
use serde_json::Value;
use support::captures::{self, Place};
use support::packets::{Packet, edit};
use support::{count, rows};

fn http(capture: &str) -> Vec<Value> {
    rows(Path::new(&format!("fixtures/http/{capture}.pcap")), "http")
}

fn mysql(capture: &str) -> Vec<Value> {
    rows(Path::new(&format!("fixtures/mysql/{capture}.pcap")), "mysql")
}

fn connections(capture: &str) -> Vec<Value> {
    rows(Path::new(&format!("fixtures/{capture}.pcap")), "connections")
}

/// The one row with this value in this column.
#[track_caller]
fn the(rows: &[Value], column: &str, value: &str) -> Value {
    let mut found = rows.iter().filter(|row| row[column] == value);
    let row = found
        .next()
        .unwrap_or_else(|| panic!("no row with {column} {value}: {rows:#?}"));
    assert!(found.next().is_none(), "several rows with {column} {value}");
    row.clone()
}

/// Demands these values in these columns.
#[track_caller]
fn expect(row: &Value, columns: &[(&str, Value)]) {
    for (column, value) in columns {
        assert_eq!(row[*column], *value, "{column} of {row:#}");
    }
}

/// A row that was measured, with this status and so many bytes of response.
#[track_caller]
fn measured(row: &Value, status: u16, response_bytes: u64) {
    expect(
        row,
        &[
            ("status", status.into()),
            ("response_bytes", response_bytes.into()),
            ("complete", true.into()),
            ("why", Value::Null),
        ],
    );
    assert!(
        row["ttfb_ns"].as_u64() <= row["total_ns"].as_u64() && row["total_ns"].is_u64(),
        "{row:#}"
    );
}

/// A capture as it would be, had something become of its packets.
#[track_caller]
fn changed(capture: &str, keep: impl FnMut(usize, &mut Packet) -> bool) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("changed.pcap");
    edit(Path::new(&format!("fixtures/{capture}.pcap")), &file, keep);
    (folder, file)
}

fn has(packet: &Packet, text: &str) -> bool {
    memchr::memmem::find(&packet.bytes, text.as_bytes()).is_some()
}

// ---- HTTP/1.x --------------------------------------------------------------------------------------------------

#[test]
fn pipelined_responses_answer_requests_in_order() {
    let rows = http("node");
    let one = the(&rows, "path", "/one");
    measured(&one, 200, 128);
    measured(&the(&rows, "path", "/two"), 200, 103);
    measured(&the(&rows, "path", "/three"), 200, 128);
    let together: Vec<_> = rows
        .iter()
        .filter(|row| row["connection"] == one["connection"])
        .collect();
    let numbers: Vec<_> = together.iter().map(|row| row["sequence"].as_u64()).collect();
    assert_eq!(numbers, [Some(0), Some(1), Some(2)]);
}

#[test]
fn a_response_to_head_has_a_length_and_no_body() {
    let rows = http("nginx");
    let heads: Vec<_> = rows.iter().filter(|row| row["method"] == "HEAD").collect();
    assert_eq!(heads.len(), 2);
    // One alone, one before other requests in a pipeline: their answers follow at once.
    heads.iter().for_each(|row| measured(row, 200, 240));
    measured(&the(&rows, "query", "1"), 200, 152);
}

/// Node answers HEAD without a length, nginx with one. Both did so in a pipeline.
#[test]
fn answers_to_head_swallow_nothing_where_requests_were_not_captured() {
    for (capture, pipelined) in [("node", 3), ("nginx", 4)] {
        let from_server = |packet: &Packet| u16::from_be_bytes([packet.bytes[34], packet.bytes[35]]) < 10_000;
        let (_folder, file) = changed(&format!("http/{capture}"), |_, packet| from_server(packet));
        let (whole, answers) = (http(capture), rows(&file, "http"));
        let port = &whole.iter().rfind(|row| row["method"] == "HEAD").expect("HEAD")["client_port"];
        let said = |rows: &[Value]| {
            let mut these: Vec<_> = rows.iter().filter(|row| row["client_port"] == *port).collect();
            these.sort_by_key(|row| row["sequence"].as_u64());
            let answer = |row: &Value| (row["status"].clone(), row["response_bytes"].clone());
            these.into_iter().map(answer).collect::<Vec<_>>()
        };
        assert_eq!(said(&answers), said(&whole), "{capture}");
        assert_eq!(said(&answers).len(), pipelined, "{capture}");
        assert_eq!(count(&answers, "complete", true), 0, "{capture}");
    }
}

#[test]
fn responses_204_and_304_have_no_body() {
    let rows = http("nginx");
    assert_eq!(count(&rows, "status", 204), 2);
    rows.iter()
        .filter(|row| row["status"] == 204)
        .for_each(|row| measured(row, 204, 110));
    measured(&the(&rows, "query", "304"), 304, 180);
}

#[test]
fn a_successful_answer_to_connect_starts_a_tunnel() {
    let rows = http("apache");
    let tunnel = the(&rows, "path", "127.0.0.1:8083");
    measured(&tunnel, 200, 76);
    expect(&tunnel, &[("upgrade", "tunnel".into())]);
    // What goes through it is read as well.
    let within = the(&rows, "query", "tunnel");
    measured(&within, 200, 1294);
    expect(
        &within,
        &[("connection", tunnel["connection"].clone()), ("sequence", 1.into())],
    );
    assert_eq!(count(&rows, "connection", tunnel["connection"].clone()), 2);
}

#[test]
fn a_refused_connect_starts_none() {
    measured(&the(&http("apache"), "path", "127.0.0.1:9"), 403, 516);
}

#[test]
fn responses_100_and_103_do_not_consume_the_request() {
    let rows = http("node");
    measured(&the(&rows, "path", "/continue"), 200, 128);
    measured(&the(&rows, "path", "/hints"), 200, 127);
}

#[test]
fn a_101_ends_http_and_tells_the_protocol() {
    let node = http("node");
    let socket = the(&node, "path", "/socket");
    measured(&socket, 101, 129);
    expect(&socket, &[("upgrade", "websocket".into())]);
    assert_eq!(count(&node, "connection", socket["connection"].clone()), 1);
    expect(
        &the(&http("apache"), "query", "h2c"),
        &[("status", 101.into()), ("upgrade", "h2c".into())],
    );
}

#[test]
fn transfer_encoding_wins_over_content_length_and_chunk_extensions_are_stepped_over() {
    measured(&the(&http("node"), "path", "/both"), 200, 87);
}

#[test]
fn gzip_and_chunked_is_chunked() {
    measured(&the(&http("node"), "path", "/gzip"), 200, 68);
}

#[test]
fn trailers_belong_to_the_message() {
    let rows = http("node");
    measured(&the(&rows, "path", "/trailers"), 200, 181);
    let sent = rows.iter().find(|row| row["path"] == "/sent" && row["query"].is_null());
    expect(
        sent.expect("a request with a trailer"),
        &[("request_bytes", 91.into()), ("complete", true.into())],
    );
}

#[test]
fn a_response_without_a_length_ends_with_the_connection() {
    measured(&the(&http("node"), "path", "/close"), 200, 51);
    assert_eq!(count(&http("python"), "complete", true), 5, "a server of HTTP/1.0");
}

#[test]
fn lengths_that_cannot_be_trusted_are_reported() {
    let rows = http("nginx");
    for (query, why) in [
        ("conflict", "conflicting Content-Length"),
        ("negative", "negative Content-Length"),
        ("overflow", "Content-Length beyond 1 PiB"),
    ] {
        let row = the(&rows, "query", query);
        expect(
            &row,
            &[
                ("status", 400.into()),
                ("incomplete_reason", "malformed".into()),
                ("why", why.into()),
                ("total_ns", Value::Null),
            ],
        );
    }
    let rows = http("node");
    expect(
        &the(&rows, "path", "/chunk"),
        &[("why", "chunk size beyond 1 PiB".into())],
    );
    expect(
        &the(&rows, "path", "/length"),
        &[
            ("incomplete_reason", "malformed".into()),
            ("why", "Content-Length beyond 1 PiB".into()),
        ],
    );
    expect(
        &the(&rows, "query", "coding"),
        &[("why", "Transfer-Encoding of a request does not end in chunked".into())],
    );
}

#[test]
fn a_body_that_was_not_captured_is_skipped_by_its_length() {
    // 320 bytes hold every head but the long one.
    let (_folder, file) = changed("http/nginx", |_, packet| {
        packet.bytes.truncate(320);
        true
    });
    let (whole, cut) = (http("nginx"), rows(&file, "http"));
    assert_eq!(cut.len(), whole.len());
    for (row, same) in cut
        .iter()
        .zip(&whole)
        .filter(|(_, same)| same["query"] != "long" && same["path"] != "/put")
    {
        for column in ["method", "path", "query", "status", "response_bytes", "complete"] {
            assert_eq!(row[column], same[column], "{column} of {same:#}");
        }
    }
}

#[test]
fn a_chunked_body_that_was_not_captured_has_no_known_size() {
    let (_folder, file) = changed("http/nginx", |_, packet| {
        packet.bytes.truncate(320);
        true
    });
    expect(
        &the(&rows(&file, "http"), "path", "/put"),
        &[
            ("request_bytes", Value::Null),
            ("status", 200.into()),
            ("incomplete_reason", "truncated".into()),
            ("total_ns", Value::Null),
        ],
    );
}

#[test]
fn a_head_longer_than_the_snaplen_is_truncated_and_still_a_row() {
    let (_folder, file) = changed("http/nginx", |_, packet| {
        packet.bytes.truncate(320);
        true
    });
    expect(
        &the(&rows(&file, "http"), "query", "long"),
        &[
            ("method", "GET".into()),
            ("incomplete_reason", "truncated".into()),
            ("why", "head not captured in full".into()),
        ],
    );
}

#[test]
fn a_chunked_body_with_a_hole_has_no_known_size_and_costs_itself_only() {
    // The segment with the chunk "one" of /trailers is lost; its connection goes on to no other request.
    let (_folder, file) = changed("http/node", |_, packet| {
        !has(packet, "4\r\none\n\r\n") || has(packet, "HTTP/1.1")
    });
    let (whole, holed) = (http("node"), rows(&file, "http"));
    assert_eq!(holed.len(), whole.len());
    let row = the(&holed, "path", "/trailers");
    if row["complete"] == false {
        expect(&row, &[("incomplete_reason", "gap".into()), ("total_ns", Value::Null)]);
    }
    let others = |rows: &[Value]| {
        rows.iter()
            .filter(|row| row["path"] != "/trailers" && row["complete"] == true)
            .count()
    };
    assert_eq!(others(&holed), others(&whole));
}

#[test]
fn an_early_response_is_paired_with_the_request_that_goes_on() {
    let early = the(&http("node"), "path", "/early");
    expect(&early, &[("status", 401.into()), ("complete", true.into())]);
    expect(
        &the(&http("nginx"), "path", "/small"),
        &[("status", 413.into()), ("complete", true.into())],
    );
}

#[test]
fn empty_lines_before_a_request_line_are_passed_over() {
    measured(&the(&http("nginx"), "query", "after-empty-lines"), 200, 152);
}

#[test]
fn bare_line_feeds_end_lines() {
    measured(&the(&http("nginx"), "query", "bare-lf"), 200, 152);
}

#[test]
fn folded_field_lines_are_one_field() {
    measured(&the(&http("apache"), "query", "folded"), 200, 1355);
}

#[test]
fn an_absolute_target_names_the_host() {
    let row = the(&http("nginx"), "query", "absolute");
    expect(&row, &[("host", "absolute.example".into()), ("path", "/ok".into())]);
    measured(&the(&http("apache"), "query", "proxied"), 200, 1317);
}

#[test]
fn an_asterisk_is_a_target() {
    expect(
        &the(&http("nginx"), "path", "*"),
        &[("method", "OPTIONS".into()), ("status", 400.into())],
    );
}

#[test]
fn http_0_9_has_neither_version_nor_status() {
    for capture in ["nginx", "python"] {
        let row = the(&http(capture), "query", "zero-nine");
        expect(
            &row,
            &[
                ("version", "0.9".into()),
                ("status", Value::Null),
                ("complete", true.into()),
            ],
        );
    }
}

#[test]
fn http_2_with_prior_knowledge_is_named() {
    let connections = connections("http/apache");
    expect(
        &the(&connections, "why", "no parser for HTTP/2"),
        &[("protocol", "http2".into()), ("exchanges", 0.into())],
    );
}

/// Noise, a TLS ClientHello, HTTP/2 to a server that does not speak it, and noise after a request.
#[test]
fn the_answer_to_bytes_that_are_no_request_is_a_row() {
    for (capture, answers) in [("nginx", 4), ("apache", 1), ("node", 1)] {
        let rows = http(capture);
        let rows: Vec<_> = rows.iter().filter(|row| row["method"].is_null()).collect();
        assert_eq!(rows.len(), answers, "{capture}");
        for row in rows {
            expect(
                row,
                &[
                    ("status", 400.into()),
                    ("incomplete_reason", "malformed".into()),
                    ("why", "answer to bytes that are no request".into()),
                ],
            );
        }
        let connections = connections(&format!("http/{capture}"));
        assert_eq!(
            count(&connections, "why", "unknown protocol") + count(&connections, "why", "encrypted (TLS)"),
            0,
            "{capture}"
        );
    }
}

/// Between two requests, behind one, within one, and one after the other.
#[test]
fn urgent_bytes_are_no_part_of_a_request() {
    let rows = http("urgent");
    assert_eq!(rows.len(), 5);
    for (row, query) in rows.iter().zip(["1", "2", "3", "4", "5"]) {
        expect(row, &[("query", query.into()), ("request_bytes", 31.into())]);
        measured(row, 200, 152);
    }
    expect(
        &connections("http/urgent")[0],
        &[
            ("lost_bytes", 0.into()),
            ("unread_bytes", 0.into()),
            ("bytes_sent", 160.into()),
        ],
    );
}

#[test]
fn a_head_that_never_ends_is_a_row_with_its_time() {
    let row = the(&http("nginx"), "query", "slow");
    expect(
        &row,
        &[
            ("status", Value::Null),
            ("why", "connection ended within the head".into()),
        ],
    );
    assert!(row["start"].as_str().is_some_and(|start| start > "2020"), "{row:#}");
}

#[test]
fn a_head_that_is_unfinished_when_the_capture_ends_is_a_row() {
    let mut over = false;
    let (_folder, file) = changed("http/nginx", |_, packet| {
        let keep = !over;
        over |= has(packet, "GET /ok?slow");
        keep
    });
    let row = the(&rows(&file, "http"), "query", "slow");
    expect(
        &row,
        &[
            ("method", "GET".into()),
            ("status", Value::Null),
            ("incomplete_reason", "no_response".into()),
            ("why", "capture ended within the head".into()),
        ],
    );
    assert!(row["start"].as_str().is_some_and(|start| start > "2020"), "{row:#}");
}

#[test]
fn the_times_of_both_ends_are_told_and_their_difference_is_the_network() {
    let rows = rows(Path::new("fixtures/nginx-curl.mdf"), "http");
    assert!(rows.len() > 5);
    for row in rows
        .iter()
        .filter(|row| row["side"] == "both" && row["complete"] == true)
    {
        let time = |column: &str| row[column].as_u64().unwrap_or_else(|| panic!("{column} of {row:#}"));
        assert_eq!(time("network_ns"), time("client_total_ns") - time("server_total_ns"));
        assert!(time("client_ttfb_ns") <= time("client_total_ns") && time("server_ttfb_ns") <= time("server_total_ns"));
        assert_eq!(
            (time("ttfb_ns"), time("total_ns")),
            (time("client_ttfb_ns"), time("client_total_ns"))
        );
    }
}

#[test]
fn connections_that_are_not_http_say_why() {
    let rows = rows(Path::new("fixtures/not-http.mdf"), "connections");
    // A handshake, and the alert of a server whose client went away without a word.
    assert_eq!(count(&rows, "why", "encrypted (TLS)"), 2);
    assert_eq!(count(&rows, "protocol", "tls"), 2);
    assert_eq!(count(&rows, "why", "unknown protocol"), 1);
}

#[test]
fn paths_are_grouped_without_their_queries() {
    let rows = rows(Path::new("fixtures/python-requests.mdf"), "http");
    let asked: Vec<_> = rows.iter().filter(|row| row["path"] == "/small.txt").collect();
    assert!(asked.len() > 1);
    assert!(asked.iter().all(|row| row["endpoint"] == "/small.txt"));
    assert!(asked.iter().any(|row| row["query"] == "n=0") && asked.iter().any(|row| row["query"] == "n=1"));
}

// ---- MySQL and MariaDB -----------------------------------------------------------------------------------------

/// What a test may say of a row, and finds it by: the statement.
#[track_caller]
fn statement(capture: &str, statement: &str) -> Value {
    the(&mysql(capture), "statement", statement)
}

#[test]
fn sequence_ids_wrap_at_255() {
    // 1000 rows in one response, and one file in packets of one upload.
    expect(
        &statement("mariadb_many_rows", "SELECT seq FROM seq_1_to_1000"),
        &[
            ("rows", 1000.into()),
            ("response_bytes", 7980.into()),
            ("complete", true.into()),
        ],
    );
}

/// A row of 20 MB, in a packet of 0xffffff bytes and one more, captured with a short snaplen: the response ends where
/// the next command begins, and what follows is read.
#[test]
fn a_row_larger_than_a_packet_and_not_captured_loses_no_query() {
    let rows = mysql("mariadb_big_rows");
    expect(
        &the(&rows, "statement", "SELECT REPEAT('x', 20000000)"),
        &[
            ("status", "ok".into()),
            ("response_bytes", 20_000_089.into()),
            ("complete", true.into()),
        ],
    );
    expect(
        &the(&rows, "statement", "SELECT 'after'"),
        &[("rows", 1.into()), ("complete", true.into())],
    );
    expect(
        &the(&rows, "statement", "SELECT 1 UNION SELECT 2"),
        &[("rows", 2.into())],
    );
}

#[test]
fn the_login_tells_user_database_and_version() {
    for (capture, user, database, version) in [
        ("mysql_cli", "app", "d", "9.7.4-2"),
        ("pymysql", "t", "sb", "10.11.19-MariaDB-0+deb12u1-log"),
        // caching_sha2_password with RSA and connect attributes; mysql_native_password by an auth switch.
        ("connector_python_c", "app", "d", "9.7.4-2"),
    ] {
        expect(
            &mysql(capture)[0],
            &[
                ("user", user.into()),
                ("database", database.into()),
                ("server_version", version.into()),
                ("inferred", false.into()),
            ],
        );
    }
}

#[test]
fn tls_after_an_ssl_request_is_named() {
    let connections = connections("mysql/mysql_tls");
    expect(
        &connections[0],
        &[
            ("protocol", "mysql".into()),
            ("why", "encrypted (TLS)".into()),
            ("exchanges", 0.into()),
        ],
    );
}

#[test]
fn a_refused_login_is_a_row_with_its_error() {
    expect(
        &mysql("failed_login")[0],
        &[
            ("command", "COM_CONNECT".into()),
            ("status", "error".into()),
            ("error_code", 1045.into()),
            ("sqlstate", "28000".into()),
        ],
    );
}

#[test]
fn change_user_and_reset_connection_change_the_session() {
    let rows = mysql("node_mysql2");
    let at = rows
        .iter()
        .position(|row| row["command"] == "COM_CHANGE_USER")
        .expect("COM_CHANGE_USER");
    let later = rows[at..].iter().find(|row| row["statement"] == "select database()");
    expect(later.expect("a query after it"), &[("database", "mysql".into())]);
    // After the reset, statement 1 is unknown to both.
    let rows = mysql("prepared");
    let at = rows
        .iter()
        .position(|row| row["command"] == "COM_RESET_CONNECTION")
        .expect("COM_RESET_CONNECTION");
    let later = rows[at..]
        .iter()
        .find(|row| row["command"] == "COM_STMT_EXECUTE")
        .expect("an EXECUTE after it");
    expect(later, &[("statement", Value::Null), ("error_code", 1243.into())]);
}

#[test]
fn use_and_init_db_change_the_database() {
    let rows = mysql("mariadb_cli");
    let shown = the(&rows, "statement", "show tables like 'user'");
    expect(&shown, &[("database", "mysql".into())]);
    expect(
        &the(&rows, "statement", "select * from t1"),
        &[("database", "sb".into())],
    );
}

#[test]
fn results_end_by_eof_and_by_ok() {
    // MySQL 5.0 sends EOF packets; MySQL 9 agrees on CLIENT_DEPRECATE_EOF.
    expect(
        &the(&mysql("zeek-mysql"), "statement", "show databases"),
        &[("rows", 2.into())],
    );
    expect(&statement("mysql_cli", "SELECT * FROM s"), &[("rows", 3.into())]);
}

#[test]
fn query_attributes_come_before_the_text() {
    expect(
        &statement(
            "zeek-many-query-attrs",
            "SELECT mysql_query_attribute_string('n1'), mysql_query_attribute_string('n2')",
        ),
        &[("rows", 1.into()), ("status", "ok".into())],
    );
}

#[test]
fn compressed_frames_are_inflated() {
    for capture in ["mysql_zlib", "mysql_zstd", "mysql_cli"] {
        let row = statement(capture, "SELECT REPEAT('z', 3000), REPEAT('y', 5000)");
        expect(&row, &[("rows", 1.into()), ("complete", true.into())]);
    }
    expect(
        &statement("mariadb_zlib", "select nosuch"),
        &[("error_code", 1054.into())],
    );
}

#[test]
fn null_in_the_first_column_is_a_row_and_no_file_is_asked_for() {
    expect(&statement("pymysql", "select null, 1"), &[("rows", 1.into())]);
}

#[test]
fn local_infile_sends_a_file_and_ends_in_ok() {
    let rows = mysql("infile");
    let load = rows.iter().find(|row| {
        row["statement"]
            .as_str()
            .is_some_and(|s| s.starts_with("load data local"))
    });
    expect(
        load.expect("LOAD DATA"),
        &[
            ("affected_rows", 5000.into()),
            ("status", "ok".into()),
            ("complete", true.into()),
        ],
    );
    expect(
        &the(&rows, "statement", "select count(*) from t1"),
        &[("rows", 1.into())],
    );
}

#[test]
fn several_statements_and_procedures_have_several_results() {
    expect(
        &statement("multi", "select 1; select 2 union select 3; update t1 set b=0"),
        &[("rows", 3.into()), ("affected_rows", 3.into())],
    );
    expect(
        &statement("multi", "call p1()"),
        &[("rows", 4.into()), ("affected_rows", 3.into())],
    );
    expect(
        &statement("multi", "select 1; select nosuch"),
        &[
            ("rows", 1.into()),
            ("status", "error".into()),
            ("error_code", 1054.into()),
        ],
    );
}

#[test]
fn executions_have_the_text_that_was_prepared() {
    let rows = mysql("prepared");
    let text = "select id, a from t1 where b >= ? and id < ?";
    let of = |command: &str| {
        let these = rows
            .iter()
            .filter(|row| row["command"] == command && row["statement"] == text);
        these.map(|row| row["rows"].as_u64()).collect::<Vec<_>>()
    };
    // The second EXECUTE sends no types, the third asks for a cursor, from which two FETCHes take.
    assert_eq!(of("COM_STMT_EXECUTE"), [Some(3), Some(3), Some(0)]);
    assert_eq!(of("COM_STMT_FETCH"), [Some(2), Some(1)]);
}

#[test]
fn an_execute_whose_prepare_was_not_seen_says_so_with_its_id() {
    let rows = mysql("prepared");
    let unknown = rows
        .iter()
        .find(|row| row["statement_id"] == 9999)
        .expect("an unknown id");
    expect(
        unknown,
        &[("statement", Value::Null), ("why", "its PREPARE was not seen".into())],
    );
    // Joined after the preparations.
    let (_folder, file) = changed("mysql/sysbench_auto", |number, _| number > 100);
    let rows = support::rows(&file, "mysql");
    let executed: Vec<_> = rows.iter().filter(|row| row["command"] == "COM_STMT_EXECUTE").collect();
    assert!(executed.len() > 20);
    for row in executed {
        expect(
            row,
            &[
                ("statement", Value::Null),
                ("why", "prepared before the capture".into()),
            ],
        );
        assert!(row["statement_id"].is_u64());
    }
}

#[test]
fn an_execute_behind_a_hole_is_not_said_to_be_prepared_before_the_capture() {
    // Joined after the preparations; then packets are lost.
    let (_folder, file) = changed("mysql/sysbench_auto", |number, packet| {
        number > 100 && !((200..206).contains(&number) && packet.bytes.len() > 66)
    });
    let rows = support::rows(&file, "mysql");
    let (before, behind) = (
        "prepared before the capture",
        "prepared before the capture, or in what was lost",
    );
    let hit = &rows
        .iter()
        .find(|row| row["why"] == behind)
        .expect("a row behind the hole")["connection"];
    let executes = rows.iter().filter(|row| row["command"] == "COM_STMT_EXECUTE");
    let (of_this, of_others): (Vec<_>, Vec<_>) = executes.partition(|row| row["connection"] == *hit);
    let older = of_this.iter().take_while(|row| row["why"] == before).count();
    assert!(older > 5 && of_this.len() - older > 5, "{older} of {}", of_this.len());
    assert!(of_this[older..].iter().all(|row| row["why"] == behind));
    assert!(of_others.iter().all(|row| row["why"] == before));
}

#[test]
fn an_answer_that_was_lost_right_before_the_end_is_a_gap() {
    // The server's data is lost, and not its FIN.
    let is_lost = |packet: &Packet| packet.bytes[34..36] == 80u16.to_be_bytes() && packet.bytes.len() > 74;
    let (folder, file) = changed("pcap/http-get", |_, packet| !is_lost(packet));
    let imported = folder.path().join("imported.mdf");
    let import = support::run(support::mdf().arg("import").arg(&file).arg("-o").arg(&imported));
    import.expect_code(&[0, 3]);
    for file in [file, imported] {
        let rows = support::rows(&file, "http");
        assert_eq!(rows.len(), 1);
        expect(
            &rows[0],
            &[("status", Value::Null), ("incomplete_reason", "gap".into())],
        );
    }
}

#[test]
fn commands_without_a_response_shift_no_pair() {
    let rows = mysql("prepared");
    for command in ["COM_STMT_CLOSE", "COM_STMT_SEND_LONG_DATA", "COM_QUIT"] {
        let these: Vec<_> = rows.iter().filter(|row| row["command"] == command).collect();
        assert!(!these.is_empty(), "{command}");
        these
            .iter()
            .for_each(|row| expect(row, &[("status", "no_response".into()), ("complete", true.into())]));
    }
    assert_eq!(count(&rows, "complete", true), rows.len());
}

#[test]
fn statistics_are_a_plain_string() {
    expect(
        &the(&mysql("mysqlclient"), "command", "COM_STATISTICS"),
        &[("status", "ok".into())],
    );
}

#[test]
fn replication_is_not_paired() {
    let rows = mysql("mariadb_binlog");
    expect(
        &the(&rows, "command", "COM_BINLOG_DUMP"),
        &[("status", "no_response".into())],
    );
    assert_eq!(rows.last().map(|row| &row["command"]), Some(&"COM_BINLOG_DUMP".into()));
}

/// MariaDB's connectors send PREPARE and EXECUTE together, the latter with statement id -1.
#[test]
fn prepare_and_execute_in_one_go_are_two_rows() {
    for (capture, text, id, rows) in [
        ("mariadb_node", "SELECT id FROM piped WHERE name = ?", 6, 1),
        (
            "mariadb_c_direct",
            "INSERT INTO direct VALUES (1, 'one'), (2, 'two')",
            1,
            0,
        ),
        ("pipelined", "select 41+?", 3, 1),
    ] {
        let all = mysql(capture);
        let these: Vec<_> = all.iter().filter(|row| row["statement"] == text).collect();
        assert_eq!(these.len(), 2, "{capture}");
        expect(
            these[0],
            &[("command", "COM_STMT_PREPARE".into()), ("statement_id", id.into())],
        );
        expect(
            these[1],
            &[
                ("command", "COM_STMT_EXECUTE".into()),
                ("statement_id", id.into()),
                ("rows", rows.into()),
                ("status", "ok".into()),
            ],
        );
        assert_eq!(count(&all, "complete", true), all.len(), "{capture}");
    }
}

#[test]
fn an_execute_sent_along_with_a_prepare_that_fails_fails_too() {
    for (capture, text) in [
        ("mariadb_node", "SELECT nothing FROM nowhere WHERE id = ?"),
        ("mariadb_c_direct", "SELECT nothing FROM nowhere"),
    ] {
        let all = mysql(capture);
        let these: Vec<_> = all.iter().filter(|row| row["statement"] == text).collect();
        assert_eq!(these.len(), 2, "{capture}");
        expect(these[0], &[("error_code", 1146.into())]);
        // The id that was sent stands for no statement.
        expect(these[1], &[("error_code", 1243.into()), ("statement_id", Value::Null)]);
    }
}

#[test]
fn bulk_executions_count_as_one_command() {
    for (capture, text) in [
        ("mariadb_node", "INSERT INTO piped VALUES (?, ?)"),
        ("mariadb_c_direct", "INSERT INTO direct VALUES (?, ?)"),
    ] {
        let all = mysql(capture);
        let bulk = the(&all, "command", "COM_STMT_BULK_EXECUTE");
        expect(&bulk, &[("statement", text.into()), ("affected_rows", 3.into())]);
    }
}

#[test]
fn a_pipeline_is_answered_in_order() {
    let all = mysql("mariadb_node");
    for n in 0..5 {
        let row = the(&all, "statement", &format!("INSERT INTO piped VALUES ({n}, 'n{n}')"));
        expect(&row, &[("affected_rows", 1.into()), ("complete", true.into())]);
    }
}

#[test]
fn flags_warnings_ids_and_errors_are_kept() {
    expect(
        &statement("mysql_cli", "SELECT * FROM s"),
        &[("no_index_used", true.into())],
    );
    expect(
        &statement("mysql_cli", "DROP TABLE IF EXISTS s"),
        &[("warnings", 1.into())],
    );
    let inserted = statement("pymysql", "insert into t1 (a,b) values ('x',1),('y',2),(NULL,3)");
    expect(&inserted, &[("affected_rows", 3.into()), ("last_insert_id", 1.into())]);
    expect(
        &statement("mysql_cli", "SELECT nothing FROM nowhere"),
        &[("error_code", 1146.into()), ("sqlstate", "42S02".into())],
    );
}

#[test]
fn the_first_and_the_last_byte_of_a_response_are_timed() {
    let row = statement("mariadb_big_rows", "SELECT REPEAT('x', 20000000)");
    let time = |column: &str| row[column].as_u64().expect("measured");
    assert!(time("ttfb_ns") < time("total_ns"), "{row:#}");
}

#[test]
fn what_was_inferred_of_a_session_is_said() {
    for (capture, from) in [
        ("mysql/mysql_cli", 14),
        ("mysql/mysql_zlib", 14),
        ("mysql/zeek-many-query-attrs", 20),
    ] {
        let (_folder, file) = changed(capture, |number, _| number >= from);
        let rows = support::rows(&file, "mysql");
        assert!(rows.len() > 5, "{capture}: {}", rows.len());
        assert!(rows.iter().all(|row| row["inferred"] == true), "{capture}");
        assert!(
            rows.iter()
                .any(|row| row["statement"].is_string() && row["complete"] == true),
            "{capture}"
        );
    }
}

// ---- who it was ------------------------------------------------------------------------------------------------

/// The exchanges of a recording, had something become of its records: all columns but these.
#[track_caller]
fn exchanges_without(columns: &[&str], place: impl Fn(&mut Record<'_>) -> Place) -> Vec<Value> {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("changed.mdf");
    captures::edit(Path::new("fixtures/nginx-curl.mdf"), &file, place);
    let mut rows = rows(&file, "http");
    for row in &mut rows {
        let row = row.as_object_mut().expect("a row");
        columns.iter().for_each(|column| assert!(row.remove(*column).is_some()));
    }
    rows
}

#[test]
fn a_dropped_exec_or_cgroup_event_costs_no_attribution() {
    let whole = exchanges_without(&[], |_| Place::Here);
    let known = |row: &&Value| {
        row["client_comm"] == "curl" && row["server_comm"] == "nginx" && row["client_cgroup"].is_string()
    };
    assert_eq!(whole.iter().filter(known).count(), whole.len());
    assert!(whole.len() > 5);

    // Bytes carry the process that moved them, and its cgroup: of all that processes tell only their names are missing.
    let names = ["client_comm", "server_comm"];
    let nameless = exchanges_without(&names, |record| match record {
        Record::Process(_) => Place::Nowhere,
        _ => Place::Here,
    });
    assert_eq!(nameless, exchanges_without(&names, |_| Place::Here));
    let paths = ["client_cgroup", "server_cgroup"];
    let pathless = exchanges_without(&paths, |record| match record {
        Record::Cgroup(_) => Place::Nowhere,
        _ => Place::Here,
    });
    assert_eq!(pathless, exchanges_without(&paths, |_| Place::Here));

    // What is read from /proc when a nameless process shows itself, or when the next part begins, tells the rest.
    let later = exchanges_without(&[], |record| match record {
        // nginx is what its first process ran; the others were forked.
        Record::Process(process) if process.origin == Origin::Fork && process.comm != b"nginx" => Place::Nowhere,
        Record::Process(process) => {
            process.origin = Origin::Snapshot;
            process.time = u64::MAX;
            Place::Last
        }
        Record::Cgroup(_) => Place::Last,
        _ => Place::Here,
    });
    assert_eq!(later, whole);
}

/// The path of an exchange, and why it is incomplete.
type Reason = (String, Option<String>);

/// The connections, and the reasons of the exchanges, of a capture of which the last connection has lost its response and its close
/// to a full ring; `is_told`: and the recorder says so.
fn without_the_last_response(is_told: bool) -> (Vec<(u64, bool)>, Vec<Reason>) {
    let whole = rows(Path::new("fixtures/nginx-curl.mdf"), "http");
    let last = whole.last().expect("rows")["client_port"].as_u64().expect("a port") as u16;
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("changed.mdf");
    let (ids, times) = (std::cell::RefCell::new(Vec::new()), std::cell::RefCell::new(Vec::new()));
    captures::edit(Path::new("fixtures/nginx-curl.mdf"), &file, |record| {
        let (id, time) = match &*record {
            Record::Socket(socket) if socket.local.port == last || socket.remote.port == last => {
                ids.borrow_mut().push((socket.id, socket.role));
                return Place::Here;
            }
            Record::Data(data) => (data.id, data.time),
            Record::Close(close) => (close.id, close.time),
            _ => return Place::Here,
        };
        let role = ids
            .borrow()
            .iter()
            .find(|(known, _)| *known == id)
            .map(|(_, role)| *role);
        let is_request = match (&*record, role) {
            (Record::Data(data), Some(Role::Client)) => data.direction == Direction::Sent,
            (Record::Data(data), Some(_)) => data.direction == Direction::Received,
            (_, Some(_)) => false,
            (_, None) => true,
        };
        if is_request {
            return Place::Here;
        }
        times.borrow_mut().push(time);
        let is_first = times.borrow().len() == 1;
        *record = Record::Loss(Loss {
            since: time,
            time,
            reason: LossReason::RingFull,
            events: 1,
            bytes: 0,
        });
        if is_first && is_told {
            Place::Here
        } else {
            Place::Nowhere
        }
    });
    assert!(times.borrow().len() >= 4, "both ends of the response, and both closes");
    let connections = rows(&file, "connections");
    let complete = |row: &Value| (row["client_port"].as_u64().unwrap_or(0), row["complete"] == true);
    let is_last = |port: u64| u64::from(port == u64::from(last));
    let connections = connections.iter().filter(|row| row["role"] != "listener").map(complete);
    let connections = connections.map(|(port, complete)| (is_last(port), complete)).collect();
    let reason = |row: &Value| row["incomplete_reason"].as_str().map(str::to_owned);
    let exchanges = rows(&file, "http");
    let exchanges = exchanges
        .iter()
        .map(|row| (row["path"].to_string(), reason(row)))
        .collect();
    (connections, exchanges)
}

#[test]
fn what_was_lost_at_the_end_of_a_connection_is_no_silence_of_its_server() {
    let (connections, exchanges) = without_the_last_response(true);
    assert!(
        connections
            .iter()
            .filter(|(is_last, _)| *is_last == 0)
            .all(|(_, complete)| *complete),
        "{connections:?}"
    );
    assert!(connections.contains(&(1, false)), "{connections:?}");
    let incomplete: Vec<_> = exchanges.iter().filter_map(|(_, reason)| reason.as_deref()).collect();
    assert_eq!(incomplete, ["gap"], "{exchanges:?}");
    // Where nothing was lost, the server has said nothing.
    let (connections, exchanges) = without_the_last_response(false);
    assert!(connections.iter().all(|(_, complete)| *complete), "{connections:?}");
    let incomplete: Vec<_> = exchanges.iter().filter_map(|(_, reason)| reason.as_deref()).collect();
    assert_eq!(incomplete, ["no_response"], "{exchanges:?}");
}

#[test]
fn what_lies_behind_the_end_of_a_file_that_was_cut_off_is_no_silence_of_a_server() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let [small, cut] = ["small.mdf", "cut.mdf"].map(|name| folder.path().join(name));
    captures::in_small_blocks(Path::new("fixtures/nginx-wrk.mdf"), &small, 40);
    let bytes = std::fs::read(&small).expect("it was written");
    let mut reasons = std::collections::BTreeMap::new();
    for tenth in 3..9 {
        std::fs::write(&cut, &bytes[..bytes.len() * tenth / 10]).expect("the folder can be written");
        for row in rows(&cut, "http") {
            *reasons.entry(row["incomplete_reason"].to_string()).or_insert(0) += 1;
        }
    }
    assert!(reasons.contains_key("\"gap\""), "{reasons:?}");
    assert!(
        !reasons.contains_key("\"no_response\"") && !reasons.contains_key("\"response_cut\""),
        "{reasons:?}"
    );
}

#[test]
fn an_exchange_whose_request_the_client_has_missed_starts_when_the_server_saw_it() {
    let whole = rows(Path::new("fixtures/nginx-curl.mdf"), "http");
    let is_sent = std::cell::Cell::new(true);
    let missed = exchanges_without(&[], |record| match record {
        // Each first call of a client: its request.
        Record::Data(data) if data.direction == Direction::Sent && data.payload.starts_with(b"GET ") => {
            is_sent.set(false);
            Place::Nowhere
        }
        _ => Place::Here,
    });
    assert!(!is_sent.get());
    for (row, whole) in missed.iter().zip(&whole) {
        let (start, end) = (row["start"].as_str(), whole["start"].as_str());
        let late = |text: Option<&str>| text.and_then(|text| text[17..29].parse::<f64>().ok()).expect("seconds");
        let by = late(start) - late(end);
        let total = whole["client_total_ns"].as_u64().expect("measured") as f64 / 1e9;
        assert!((0.0..total).contains(&by), "{row}\n{whole}");
        if row["method"] == "GET" {
            assert!(
                row["client_total_ns"].is_null() && !row["server_total_ns"].is_null(),
                "{row}"
            );
            assert!(
                by + row["server_total_ns"].as_u64().unwrap_or(0) as f64 / 1e9 < total,
                "{row}\n{whole}"
            );
        }
    }
}
