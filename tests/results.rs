//! Rows in, results out: a small made-up day of a shop, and what every format makes of it. Golden files are in
//! tests/golden; `MDF_UPDATE=1` writes them anew.
#![cfg(feature = "analyze")]
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::path::Path;
use std::sync::Arc;

use masdeepflow::analyze::catalog::TableName;
use masdeepflow::analyze::exchange::{Incomplete, Message};
use masdeepflow::analyze::options::{Moment, ResultOptions, Selection};
use masdeepflow::analyze::output::Format;
use masdeepflow::analyze::plan::Plan;
use masdeepflow::analyze::protocol::http1::Http;
use masdeepflow::analyze::protocol::http1::HttpMessage;
use masdeepflow::analyze::protocol::mysql::Mysql;
use masdeepflow::analyze::protocol::mysql::{MysqlMessage, Status};
use masdeepflow::analyze::results::{Results, ShardSink};
use masdeepflow::analyze::row::{
    CaptureFacts, ConnectionRow, Frame, LAST_TIME, Latency, LossRow, Observed, Party, ProcessRow, Sink,
};
use masdeepflow::format::header::Header;
use masdeepflow::format::record::{Clock, Ending, Endpoint, LossReason, Opened, Origin, Role};

/// 2026-01-31 12:00:00 UTC.
const NOON: u64 = 1_769_860_800_000_000_000;
const MS: u64 = 1_000_000;
const SHARDS: usize = 4;

fn party(pid: u32, comm: &str, pod: &str, workload: &str) -> Party {
    Party {
        pid,
        comm: comm.into(),
        cgroup: format!("/kubepods/{pod}"),
        container: comm.into(),
        pod: pod.into(),
        namespace: "shop".into(),
        workload: workload.into(),
        hostname: "node-1".into(),
        ..Party::default()
    }
}

fn endpoint(last: u8, port: u16) -> Endpoint {
    Endpoint::new([10, 42, 0, last].into(), port)
}

fn facts() -> CaptureFacts {
    CaptureFacts {
        path: "shop.mdf".into(),
        header: Header {
            tool_version: "0.1.0".into(),
            command_line: "mdf record -o shop.mdf".into(),
            hostname: "node-1".into(),
            boot_id: "b".into(),
            kernel: "6.12.0".into(),
            arch: "x86_64".into(),
            backend: "socktp".into(),
            filters: String::new(),
            snaplen: 4096,
            cpus: 2,
            clock: Clock {
                boot: 0,
                monotonic: 0,
                realtime: NOON,
            },
            recording: 7,
            part: 0,
        },
        file_bytes: 40_000,
        raw_bytes: 250_000,
        blocks: 3,
        records: 1_234,
        payload_bytes: 200_000,
        data_bytes: 210_000,
        first: NOON,
        last: NOON + 10_000 * MS,
        closed_cleanly: true,
        unread: false,
        damage: Vec::new(),
        remarks: Vec::new(),
    }
}

/// The day: 200 requests to the cart, each with a query to the database, and some misfortune.
fn fill<S: Sink>(sinks: &mut [S]) {
    let frontend = party(100, "nginx", "frontend-7d4f", "Deployment/frontend");
    let cart = party(200, "python", "cart-0", "StatefulSet/cart");
    let database = party(300, "mariadbd", "", "mariadb.service");
    let database = Party {
        container: String::new(),
        namespace: String::new(),
        ..database
    };
    for n in 0..200u64 {
        let connection = n % 8;
        let sink = &mut sinks[(connection % SHARDS as u64) as usize];
        let total = (5 + n % 20) * MS;
        let broken = n == 77;
        let message = HttpMessage {
            method: if n % 10 == 0 { "POST" } else { "GET" }.into(),
            target: format!("/cart/{n}?v=\"{n}\""),
            host: "cart".into(),
            version: 11,
            status: match n {
                _ if broken => 0,
                n if n % 50 == 3 => 503,
                n if n % 40 == 5 => 404,
                _ => 200,
            },
            content_type: "application/json".into(),
            ..HttpMessage::default()
        };
        let latency = Latency {
            ttfb_ns: Some(total - MS),
            total_ns: Some(total),
        };
        let latency = if broken { Latency::default() } else { latency };
        let frame = Frame {
            start: NOON + n * 50 * MS,
            client: endpoint(7, 40_000 + connection as u16),
            server: endpoint(9, 8080),
            client_party: &frontend,
            server_party: &cart,
            parties: connection + 1,
            side: Observed::Both,
            request_bytes: Some(120 + n),
            response_bytes: (!broken).then_some(800),
            latency,
            client_latency: latency,
            server_latency: latency,
            network_ns: (!broken).then_some(120_000),
            incomplete: broken.then_some(Incomplete::Gap),
            reset: false,
            connection,
            sequence: n / 8,
        };
        sink.exchange(&frame, &message);

        let sql = match n % 5 {
            0 => format!("INSERT INTO items VALUES ({n}, 'tea')"),
            _ => format!("SELECT * FROM items WHERE cart = {n}"),
        };
        let failed = n % 60 == 10;
        let message = MysqlMessage {
            command: 3,
            statement: sql,
            user: Arc::from("cart"),
            database: Arc::from("shop"),
            server_version: Arc::from("11.4.2-MariaDB"),
            status: if failed { Status::Error } else { Status::Ok },
            error_code: if failed { 1062 } else { 0 },
            sqlstate: if failed { "23000".into() } else { String::new() },
            error_message: if failed {
                "Duplicate entry\n'1'".into()
            } else {
                String::new()
            },
            rows: (n % 5 != 0).then_some(n % 7),
            affected_rows: (n % 5 == 0 && !failed).then_some(1),
            ..MysqlMessage::default()
        };
        let total = (1 + n % 4) * MS / 2;
        let latency = Latency {
            ttfb_ns: Some(total),
            total_ns: Some(total),
        };
        let frame = Frame {
            start: NOON + n * 50 * MS + MS,
            client: endpoint(9, 50_000),
            server: endpoint(11, 3306),
            client_party: &cart,
            server_party: &database,
            parties: 101,
            side: Observed::Client,
            client_latency: latency,
            server_latency: Latency::default(),
            latency,
            network_ns: None,
            incomplete: None,
            connection: 100,
            sequence: n,
            ..frame
        };
        sinks[0].exchange(&frame, &message);
    }
    let base = ConnectionRow {
        client: endpoint(7, 40_000),
        server: endpoint(9, 8080),
        client_party: &frontend,
        server_party: &cart,
        parties: 0,
        side: Observed::Both,
        open: Some(NOON),
        close: Some(NOON + 9_000 * MS),
        first_data: NOON + MS,
        last_data: NOON + 9_000 * MS,
        role: Role::Client,
        opened: Opened::Connect,
        ending: Some(Ending::Closed),
        connect_error: 0,
        connect_ns: Some(90_000),
        bytes_sent: 4_000,
        bytes_received: 20_000,
        lifetime_sent: Some(4_000),
        lifetime_received: Some(20_000),
        retransmits: Some(1),
        srtt_us: Some(130),
        protocol: "http",
        exchanges: 25,
        lost_bytes: 0,
        may_lack_end: false,
        unread_bytes: 0,
        why: "",
        connection: 0,
        within: None,
    };
    for connection in 0..8 {
        let client = endpoint(7, 40_000 + connection as u16);
        sinks[connection as usize % SHARDS].connection(&ConnectionRow {
            client,
            parties: connection + 1,
            connection,
            ..base
        });
    }
    sinks[0].connection(&ConnectionRow {
        client: endpoint(9, 50_000),
        server: endpoint(11, 3306),
        client_party: &cart,
        server_party: &database,
        side: Observed::Client,
        open: None,
        close: None,
        lifetime_sent: None,
        lifetime_received: None,
        opened: Opened::Snapshot,
        ending: None,
        connect_ns: None,
        protocol: "mysql",
        exchanges: 200,
        parties: 101,
        connection: 100,
        ..base
    });
    sinks[1].connection(&ConnectionRow {
        server: endpoint(12, 6379),
        opened: Opened::Connect,
        ending: Some(Ending::ConnectFailed),
        connect_error: 111,
        bytes_sent: 0,
        bytes_received: 0,
        lifetime_sent: Some(0),
        lifetime_received: Some(0),
        protocol: "",
        exchanges: 0,
        connection: 101,
        ..base
    });
    sinks[2].connection(&ConnectionRow {
        server: endpoint(13, 443),
        server_party: &Party::default(),
        side: Observed::Client,
        protocol: "tls",
        exchanges: 0,
        why: "encrypted (TLS)",
        unread_bytes: 300,
        connection: 102,
        ..base
    });
    for n in 0..3u32 {
        sinks[0].process(&ProcessRow {
            start: NOON + u64::from(n) * MS,
            exit: (n < 2).then_some(NOON + u64::from(n + 3) * MS),
            origin: Origin::Exec,
            pid: 500 + n,
            ppid: 1,
            pid_in_ns: 500 + n,
            uid: 33,
            comm: "sh",
            exe: "/bin/sh",
            argv: b"sh\0-c\0echo 'hi'\0",
            argv_len: 16,
            exit_code: (n == 0).then_some(0),
            signal: (n == 1).then_some(9),
            party: &cart,
        });
    }
    sinks[0].loss(&LossRow {
        since: NOON,
        until: NOON + 1_000 * MS,
        reason: LossReason::RingFull,
        detail: "",
        found: false,
        events: 3,
        bytes: 0,
        hostname: "node-1",
        file: "shop.mdf",
    });
}

/// Everything that is written for these options, and whether data was lost.
fn written(options: ResultOptions, selection: &Selection) -> (String, bool) {
    written_of(options, selection, fill)
}

/// The same of rows that `fill` makes.
fn written_of(options: ResultOptions, selection: &Selection, fill: fn(&mut [ShardSink])) -> (String, bool) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    let mut plan = Plan::new(&ResultOptions {
        output: Some(path.clone()),
        ..options
    })
    .unwrap();
    plan.select(selection, NOON);
    let mut results = Results::new(plan.clone(), &[facts()]).unwrap();
    let mut sinks: Vec<ShardSink> = (0..SHARDS).map(|_| Results::sink(&plan)).collect();
    fill(&mut sinks);
    results.collect(sinks.iter_mut()).unwrap();
    results.write_ready(|| 0).unwrap();
    let lost = results.finish(sinks, &[facts()]).unwrap();
    (std::fs::read_to_string(path).unwrap(), lost)
}

/// Moves all times so that the sixth second is the last that results can hold.
struct Late<'s>(&'s mut ShardSink);

impl Late<'_> {
    fn time(time: u64) -> u64 {
        if time == 0 {
            0
        } else {
            LAST_TIME + (time - NOON) - 5_999 * MS
        }
    }
}

impl Sink for Late<'_> {
    fn exchange(&mut self, frame: &Frame<'_>, message: &dyn Message) {
        let start = Late::time(frame.start);
        self.0.exchange(&Frame { start, ..*frame }, message);
    }

    fn connection(&mut self, row: &ConnectionRow<'_>) {
        self.0.connection(&ConnectionRow {
            open: row.open.map(Late::time),
            close: row.close.map(Late::time),
            first_data: Late::time(row.first_data),
            last_data: Late::time(row.last_data),
            ..*row
        });
    }

    fn process(&mut self, row: &ProcessRow<'_>) {
        self.0.process(&ProcessRow {
            // The first before what results can hold, and so wrapped: one before 1970.
            start: if row.pid == 500 {
                u64::MAX - 5
            } else {
                Late::time(row.start)
            },
            exit: row.exit.map(Late::time),
            ..*row
        });
    }

    fn loss(&mut self, row: &LossRow<'_>) {
        let until = Late::time(row.until + 6_000 * MS);
        let since = Late::time(row.since);
        self.0.loss(&LossRow { since, until, ..*row });
    }
}

fn fill_late(sinks: &mut [ShardSink]) {
    fill(&mut sinks.iter_mut().map(Late).collect::<Vec<_>>());
}

#[test]
fn times_that_no_result_can_hold_are_null_in_every_result_and_counted() {
    use masdeepflow::analyze::table::Kind;
    // All after the first six seconds; of 11 connections one is open, and so has no close either.
    let expected = [
        (TableName::of::<Http>(), "start", 80),
        (TableName::of::<Mysql>(), "start", 80),
        (TableName::Processes, "start", 1),
        (TableName::Connections, "close", 11),
        (TableName::Losses, "until", 1),
    ];
    for (name, column, nulls) in expected {
        let (json, lost) = written_of(table(name, Format::Ndjson), &Selection::default(), fill_late);
        assert!(lost, "{}", name.name());
        let rows: Vec<serde_json::Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let is_null = |row: &&serde_json::Value| row[column].is_null();
        assert_eq!(rows.iter().filter(is_null).count(), nulls, "{}", name.name());
        // A time is null in all formats or in none, and so is what is counted from it.
        let csv = written_of(table(name, Format::Csv), &Selection::default(), fill_late).0;
        for spec in name.specs().iter().filter(|spec| spec.kind == Kind::Time) {
            let one = |format| ResultOptions {
                columns: columns(spec.name),
                ..table(name, format)
            };
            let csv = written_of(one(Format::Csv), &Selection::default(), fill_late).0;
            let csv: Vec<&str> = csv.lines().skip(1).collect();
            let json: Vec<&str> = rows.iter().map(|row| row[spec.name].as_str().unwrap_or("")).collect();
            assert_eq!(csv, json, "{} {}", name.name(), spec.name);
            let text = written_of(one(Format::Table), &Selection::default(), fill_late).0;
            let shown = text.lines().filter(|line| line.contains("2262-04-11 23:47:1")).count();
            assert_eq!(shown, csv.iter().filter(|time| !time.is_empty()).count(), "{text}");
        }
        assert!(
            !csv.contains("23:47:16.854775807Z"),
            "not the nearest time instead: {csv}"
        );
        for row in &rows {
            for duration in ["duration_ns", "total_ns"] {
                assert!(row[duration].as_u64().unwrap_or(0) < 60_000 * MS, "{row}");
            }
        }
    }
    let report = |format| ResultOptions {
        format: Some(format),
        ..ResultOptions::default()
    };
    let (text, lost) = written_of(report(Format::Table), &Selection::default(), fill_late);
    let json = written_of(report(Format::Json), &Selection::default(), fill_late).0;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let counted = json["totals"]["impossible_times"].as_u64().unwrap();
    assert!(lost && counted > 160, "{counted}");
    assert!(
        text.contains(&format!("{counted} rows with times before 1970 or after 2262")),
        "{text}"
    );
    let groups = ResultOptions {
        group_by: columns("method"),
        bucket_ns: Some(1_000 * MS),
        ..table(TableName::of::<Http>(), Format::Ndjson)
    };
    let groups = written_of(groups, &Selection::default(), fill_late).0;
    assert_eq!(
        groups.lines().filter(|line| line.contains("\"bucket\":null")).count(),
        2,
        "{groups}"
    );
}

fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("MDF_UPDATE").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(text == wanted, "{name} differs; MDF_UPDATE=1 writes it anew\n{text}");
}

fn table(table: TableName, format: Format) -> ResultOptions {
    ResultOptions {
        table: Some(table),
        format: Some(format),
        ..ResultOptions::default()
    }
}

fn columns(names: &str) -> Vec<String> {
    names.split(',').map(str::to_string).collect()
}

#[test]
fn report() {
    let report = ResultOptions {
        format: Some(Format::Table),
        ..ResultOptions::default()
    };
    let (text, lost) = written(report, &Selection::default());
    golden("report.txt", &text);
    assert!(lost, "the ring was full");
    assert!(text.contains("399 of 400 exchanges measured; 1 gap"));
}

#[test]
fn report_as_json() {
    let report = ResultOptions {
        format: Some(Format::Json),
        ..ResultOptions::default()
    };
    let (text, _) = written(report, &Selection::default());
    golden("report.json", &text);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["confidence"]["measured"], 399);
    assert_eq!(value["totals"]["failed_connects"], 1);
}

#[test]
fn tables_as_csv() {
    for name in [
        TableName::Connections,
        TableName::Processes,
        TableName::Services,
        TableName::Losses,
    ] {
        let (text, _) = written(table(name, Format::Csv), &Selection::default());
        golden(&format!("{}.csv", name.name()), &text);
    }
    let http = ResultOptions {
        limit: Some(5),
        ..table(TableName::of::<Http>(), Format::Csv)
    };
    golden("http.csv", &written(http, &Selection::default()).0);
}

#[test]
fn tables_as_json() {
    let errors = ResultOptions {
        filter: Some("status = error".into()),
        ..table(TableName::of::<Mysql>(), Format::Ndjson)
    };
    let (text, _) = written(errors, &Selection::default());
    assert_eq!(text.lines().count(), 4);
    for line in text.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(value["error_message"], "Duplicate entry\n'1'");
        assert_eq!(value["network_ns"], serde_json::Value::Null);
    }
    let (text, _) = written(
        table(TableName::summary_of::<Http>(), Format::Json),
        &Selection::default(),
    );
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        value
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["count"].as_u64().unwrap())
            .sum::<u64>(),
        200
    );
}

#[test]
fn queries() {
    let slow = ResultOptions {
        filter: Some("total_ns >= 20ms and method = GET".into()),
        columns: columns("path,status"),
        sort: vec!["-total_ns".parse().unwrap(), "start".parse().unwrap()],
        limit: Some(4),
        ..table(TableName::of::<Http>(), Format::Csv)
    };
    assert_eq!(
        written(slow, &Selection::default()).0,
        "path,status\n/cart/19,200\n/cart/39,200\n/cart/59,200\n/cart/79,200\n"
    );
    let of_frontend = ResultOptions {
        filter: Some("client_pod ~ ^frontend and method = POST".into()),
        columns: columns("method,count,client_workload,server_pod"),
        ..table(TableName::summary_of::<Http>(), Format::Csv)
    };
    assert_eq!(
        written(of_frontend, &Selection::default()).0,
        "method,count,client_workload,server_pod\nPOST,20,Deployment/frontend,cart-0\n"
    );
    let grouped = ResultOptions {
        group_by: columns("method,status"),
        columns: columns("method,status,count,error_rate"),
        ..table(TableName::of::<Http>(), Format::Csv)
    };
    assert_eq!(
        written(grouped, &Selection::default()).0,
        "method,status,count,error_rate\nGET,200,170,0\nPOST,200,20,0\nGET,404,5,0\nGET,503,4,1\nGET,,1,0\n"
    );
    let series = ResultOptions {
        bucket_ns: Some(5_000 * MS),
        columns: columns("bucket,count"),
        ..table(TableName::of::<Mysql>(), Format::Csv)
    };
    assert_eq!(
        written(series, &Selection::default()).0,
        "bucket,count\n2026-01-31T12:00:00.000000000Z,100\n2026-01-31T12:00:05.000000000Z,100\n"
    );
}

#[test]
fn parts_of_a_capture() {
    let count =
        |selection: &Selection, name: TableName| written(table(name, Format::Ndjson), selection).0.lines().count();
    let window = Selection {
        from: Some(Moment::AfterStart(1_000 * MS)),
        to: Some(Moment::Utc(NOON + 2_000 * MS)),
        ..Selection::default()
    };
    assert_eq!(count(&window, TableName::of::<Http>()), 20);
    assert_eq!(count(&window, TableName::Connections), 11, "all were open then");
    let port = Selection {
        ports: vec![6379],
        ..Selection::default()
    };
    assert_eq!(
        (
            count(&port, TableName::of::<Http>()),
            count(&port, TableName::Connections)
        ),
        (0, 1)
    );
    let pod = Selection {
        pods: vec!["shop/front*".into()],
        ..Selection::default()
    };
    assert_eq!(
        (
            count(&pod, TableName::of::<Http>()),
            count(&pod, TableName::of::<Mysql>())
        ),
        (200, 0)
    );
    let pid = Selection {
        pids: vec![300],
        ..Selection::default()
    };
    assert_eq!(
        (count(&pid, TableName::of::<Mysql>()), count(&pid, TableName::Processes)),
        (200, 0)
    );
}

#[test]
fn nothing_is_overwritten_unasked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("http.csv");
    std::fs::write(&path, "mine").unwrap();
    let options = ResultOptions {
        output: Some(path.clone()),
        ..table(TableName::of::<Http>(), Format::Csv)
    };
    let open = |options: &ResultOptions| Results::new(Plan::new(options).unwrap(), &[facts()]).map(|_| ());
    assert!(
        open(&options)
            .unwrap_err()
            .to_string()
            .ends_with("exists; --force replaces it")
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    assert!(open(&ResultOptions { force: true, ..options }).is_ok());
}

#[test]
#[cfg_attr(not(feature = "parquet"), ignore = "writes Parquet")]
fn all_tables_have_a_file_in_a_folder() {
    for format in [Format::Parquet, Format::Arrow, Format::Csv, Format::Ndjson] {
        let folder = tempfile::tempdir().unwrap();
        let options = ResultOptions {
            output: Some(folder.path().join("all")),
            format: Some(format),
            ..ResultOptions::default()
        };
        let plan = Plan::new(&options).unwrap();
        let mut sinks: Vec<ShardSink> = (0..SHARDS).map(|_| Results::sink(&plan)).collect();
        fill(&mut sinks);
        Results::new(plan, &[facts()])
            .unwrap()
            .finish(sinks, &[facts()])
            .unwrap();
        for name in TableName::all() {
            let path = folder
                .path()
                .join(format!("all/{}.{}", name.name(), format.extension()));
            let bytes = std::fs::read(&path).unwrap();
            match format {
                Format::Parquet => {
                    assert!(
                        bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"),
                        "{}",
                        path.display()
                    );
                    let text = String::from_utf8_lossy(&bytes);
                    assert!(text.contains("mdf.captures") && text.contains("mdf.column."));
                }
                Format::Arrow => assert!(bytes.starts_with(b"ARROW1") && bytes.ends_with(b"ARROW1")),
                _ => {}
            }
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt;
                assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            }
        }
    }
}
