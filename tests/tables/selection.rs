//! The law of selection: what is selected is what selecting from all rows would give, in every column of every table, and
//! the report counts exactly that, whatever blocks were left out.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use masdeepflow::analyze::catalog::TableName;
use masdeepflow::analyze::options::{AnalyzeOptions, EngineOptions, Moment, ResultOptions, Selection};
use masdeepflow::analyze::output::Format;
use masdeepflow::analyze::protocol::PROTOCOLS;
use masdeepflow::analyze::protocol::http1::Http;
use masdeepflow::analyze::protocol::mysql::Mysql;
use masdeepflow::analyze::run;
use masdeepflow::format::record::Record;
use serde_json::Value;

use super::support::captures::{Place, edit, in_small_blocks, with_pods};
use super::synth;

/// Windows and predicates for each capture.
const SELECTIONS: usize = 10;

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    fn one_of<'t, T>(&mut self, all: &'t [T]) -> Option<&'t T> {
        all.get(self.below(all.len() as u64) as usize)
    }
}

/// What is shown of a selection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Report,
    /// All columns of a table.
    Table(TableName),
    /// All but the numbers of exchanges in their connections: connections may be joined in their middle.
    Unnumbered(TableName),
    Grouped(TableName),
}

const SHAPES: [Shape; 14] = [
    Shape::Report,
    Shape::Table(TableName::of::<Http>()),
    Shape::Table(TableName::of::<Mysql>()),
    Shape::Table(TableName::Connections),
    Shape::Table(TableName::Processes),
    Shape::Table(TableName::summary_of::<Http>()),
    Shape::Table(TableName::summary_of::<Mysql>()),
    Shape::Table(TableName::Services),
    Shape::Table(TableName::Losses),
    Shape::Table(TableName::Capture),
    Shape::Unnumbered(TableName::of::<Http>()),
    Shape::Unnumbered(TableName::of::<Mysql>()),
    Shape::Grouped(TableName::of::<Http>()),
    Shape::Grouped(TableName::Connections),
];

struct Lab {
    folder: tempfile::TempDir,
}

impl Lab {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What is written for a shape of a selection of a capture.
    fn written(
        &self,
        captures: &[PathBuf],
        (selection, filter): (&Selection, Option<&str>),
        shape: Shape,
        read_all: bool,
    ) -> Result<String, String> {
        let output = self.path("out");
        let text = |name: &str| name.to_string();
        let mut result = ResultOptions {
            format: Some(Format::Csv),
            output: Some(output.clone()),
            force: true,
            filter: filter.map(text),
            ..ResultOptions::default()
        };
        match shape {
            Shape::Report => result.format = Some(Format::Json),
            Shape::Table(table) => (result.table, result.columns) = (Some(table), vec![text("*")]),
            Shape::Unnumbered(table) => {
                result.table = Some(table);
                let all = table.specs().into_iter().map(|spec| spec.name);
                result.columns = all.filter(|name| *name != "sequence").map(text).collect();
            }
            Shape::Grouped(table) => {
                result.table = Some(table);
                result.group_by = vec![text("server_port"), text("client_comm")];
            }
        }
        let options = AnalyzeOptions {
            inputs: captures.to_vec(),
            selection: selection.clone(),
            engine: EngineOptions {
                threads: Some(1),
                read_all,
                ..EngineOptions::default()
            },
            result,
        };
        run::run(&options).map_err(|error| format!("{error:#}"))?;
        let text = fs::read_to_string(&output).expect("results were written");
        // Each time a packet capture is read it gets a number of its own.
        Ok(
            match captures
                .iter()
                .all(|path| path.extension().is_some_and(|ending| ending == "mdf"))
            {
                true => text,
                false => without_recording(&text),
            },
        )
    }

    fn table(&self, captures: &[PathBuf], table: TableName) -> Vec<BTreeMap<String, String>> {
        let whole = (&Selection::default(), None);
        let csv = self.written(captures, whole, Shape::Table(table), true).expect("rows");
        parsed(&csv)
    }
}

/// Without the lines that tell of captures.
fn without_recording(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.contains(".pcap"));
    lines.map(|line| format!("{line}\n")).collect()
}

/// Rows of CSV by the names of their columns.
fn parsed(csv: &str) -> Vec<BTreeMap<String, String>> {
    let mut rows = records(csv).into_iter();
    let names = rows.next().unwrap_or_default();
    rows.map(|row| names.iter().cloned().zip(row).collect()).collect()
}

/// The records of CSV (RFC 4180).
fn records(csv: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut field, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut rest = csv.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' if quoted && rest.peek() == Some(&'"') => {
                rest.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut field)),
            '\n' if !quoted => {
                row.push(std::mem::take(&mut field));
                rows.push(std::mem::take(&mut row));
            }
            '\r' if !quoted => {}
            c => field.push(c),
        }
    }
    rows
}

/// A time of CSV, ns.
fn nanoseconds(text: &str) -> Option<u64> {
    masdeepflow::units::parse_time(text).ok()
}

/// Values that occur in a column.
fn values(rows: &[BTreeMap<String, String>], column: &str) -> Vec<String> {
    let mut all: Vec<String> = rows
        .iter()
        .filter_map(|row| row.get(column))
        .filter(|v| !v.is_empty())
        .cloned()
        .collect();
    all.sort();
    all.dedup();
    all
}

fn random_selections(lab: &Lab, captures: &[PathBuf], random: &mut Random) -> Vec<(Selection, Option<String>)> {
    let tables = [
        TableName::of::<Http>(),
        TableName::of::<Mysql>(),
        TableName::Connections,
        TableName::Processes,
    ];
    let [http, mysql, connections, processes] = tables.map(|table| lab.table(captures, table));
    let exchanges: Vec<_> = http.iter().chain(&mysql).cloned().collect();
    let mut times: Vec<u64> = ["start", "open", "close", "first_data", "last_data", "exit"]
        .into_iter()
        .flat_map(|column| {
            [&exchanges, &connections, &processes]
                .into_iter()
                .flat_map(move |rows| values(rows, column))
        })
        .filter_map(|text| nanoseconds(&text))
        .collect();
    times.sort_unstable();
    let (first, last) = (times[0], times[times.len() - 1]);
    let number = |text: &String| text.parse::<u32>().ok();
    let ports: Vec<u32> = ["client_port", "server_port"]
        .iter()
        .flat_map(|c| values(&connections, c))
        .filter_map(|t| number(&t))
        .collect();
    let pids: Vec<u32> = ["client_pid", "server_pid"]
        .iter()
        .flat_map(|c| values(&exchanges, c))
        .filter_map(|t| number(&t))
        .collect();
    let pods: Vec<String> = ["client_pod", "server_pod"]
        .iter()
        .flat_map(|c| values(&connections, c))
        .collect();
    (0..SELECTIONS)
        .map(|_| {
            let mut selection = Selection::default();
            let mut filter = None;
            // A moment of an event, right before or after one, or any.
            let mut moment = || match random.below(4) {
                0 => first + random.below(last - first + 2),
                _ => (random.one_of(&times).copied().unwrap_or(first) + random.below(3)).saturating_sub(1),
            };
            let (a, b) = (moment(), moment());
            let (from, to) = (a.min(b), a.max(b) + 1);
            let (is_window, is_where) = match random.below(8) {
                0 => (false, true),
                1 => (true, true),
                2 => (false, false),
                _ => (true, false),
            };
            if is_window {
                selection.from = (random.below(4) > 0).then_some(Moment::Utc(from));
                selection.to = (random.below(4) > 0).then_some(Moment::Utc(to));
            }
            if (!is_window && !is_where) || random.below(4) == 0 {
                match (random.below(3), random.one_of(&pods)) {
                    (0, Some(pod)) => selection.pods.push(pod.clone()),
                    (1, _) => selection.pids.extend(random.one_of(&pids)),
                    _ => selection.ports.extend(random.one_of(&ports).map(|port| *port as u16)),
                }
            }
            if is_where {
                let at = |ns: u64| chrono(ns);
                let window = format!("start >= {} and start < {}", at(from), at(to));
                let more = [
                    "user",
                    "digest",
                    "status",
                    "client_port",
                    "server_comm",
                    "sequence",
                    "endpoint",
                ];
                let column = random.one_of(&more).copied().unwrap_or("user");
                let value = random.one_of(&values(&exchanges, column)).cloned();
                filter = Some(match (random.below(4), value) {
                    (0, _) | (_, None) => window,
                    (1, Some(value)) => format!("{column} = '{value}'"),
                    (_, Some(value)) => format!("{window} and {column} = '{value}'"),
                });
            }
            (selection, filter)
        })
        .collect()
}

fn chrono(ns: u64) -> String {
    let mut text = String::new();
    masdeepflow::analyze::output::time::write_rfc3339(&mut text, ns);
    text
}

/// What the rows of a table in a span are, by its columns.
fn within(table: TableName, row: &BTreeMap<String, String>, from: u64, to: u64) -> bool {
    let time = |column: &str| row.get(column).and_then(|text| nanoseconds(text));
    match table {
        TableName::Exchanges(_) => time("start").is_some_and(|start| from <= start && start < to),
        TableName::Connections => {
            time("close").is_none_or(|close| close >= from) && time("open").is_none_or(|open| open < to)
        }
        TableName::Processes => {
            time("exit").is_none_or(|exit| exit >= from) && time("start").is_none_or(|start| start < to)
        }
        _ => time("until").is_some_and(|until| from <= until && until < to),
    }
}

/// The law, for random selections of a capture.
fn obeys(lab: &Lab, name: &str, captures: &[PathBuf], random: &mut Random) {
    let whole: BTreeMap<TableName, Vec<BTreeMap<String, String>>> = TableName::all()
        .into_iter()
        .map(|table| (table, lab.table(captures, table)))
        .collect();
    for (selection, filter) in random_selections(lab, captures, random) {
        let what = format!("{name}: {selection:?} {filter:?}");
        for shape in SHAPES {
            let asked = (&selection, filter.as_deref());
            // Not every table has every column.
            let Ok(from_all) = lab.written(captures, asked, shape, true) else {
                continue;
            };
            let pruned = lab.written(captures, asked, shape, false).expect("results");
            assert_same(&pruned, &from_all, &format!("{what} {shape:?}"));
            let spans_only = Selection {
                from: selection.from,
                to: selection.to,
                ..Selection::default()
            };
            let plain = selection == spans_only && filter.is_none();
            if let (Shape::Table(table), true) = (shape, plain)
                && !table.is_aggregate()
                && table != TableName::Capture
            {
                let moment = |moment: Option<Moment>, open: u64| match moment {
                    Some(Moment::Utc(ns)) => ns,
                    _ => open,
                };
                let (from, to) = (moment(selection.from, 0), moment(selection.to, u64::MAX));
                let expected: Vec<_> = whole[&table]
                    .iter()
                    .filter(|row| within(table, row, from, to))
                    .cloned()
                    .collect();
                assert_eq!(parsed(&pruned), expected, "{what} {table:?}");
            }
        }
        adds_up(lab, captures, (&selection, filter.as_deref()), &what);
    }
}

#[track_caller]
fn assert_same(pruned: &str, from_all: &str, what: &str) {
    if pruned != from_all {
        let different = pruned.lines().zip(from_all.lines()).find(|(a, b)| a != b);
        let (many, all) = (pruned.lines().count(), from_all.lines().count());
        panic!("{what}: {many} lines, {all} where all was read; the first that differ: {different:#?}");
    }
}

/// The report counts the rows that the tables have.
fn adds_up(lab: &Lab, captures: &[PathBuf], asked: (&Selection, Option<&str>), what: &str) {
    let report = lab.written(captures, asked, Shape::Report, false).expect("a report");
    let report: Value = serde_json::from_str(&report).expect("JSON");
    let rows = |table: TableName| {
        lab.written(captures, asked, Shape::Table(table), false)
            .map_or(0, |csv| parsed(&csv).len() as u64)
    };
    let sum = |section: &str, column: &str| -> u64 {
        let rows = report[section].as_array().expect(section);
        rows.iter().map(|row| row[column].as_u64().unwrap_or(0)).sum()
    };
    let mut exchanges = 0;
    for (place, protocol) in PROTOCOLS.iter().enumerate() {
        let table = TableName::Exchanges(place);
        if protocol.are_turns() {
            let turns = lab.written(captures, asked, Shape::Table(table), false);
            let turns = turns.map_or_else(|_| Vec::new(), |csv| parsed(&csv));
            let unread = turns.iter().filter(|turn| turn["has_exchanges"] == "false").count() as u64;
            assert_eq!(sum(protocol.summary().name, "count"), unread, "{what}");
            assert_eq!(sum("services", "turns"), unread, "{what}");
            continue;
        }
        let of_protocol = rows(table);
        assert_eq!(sum(protocol.summary().name, "count"), of_protocol, "{what}");
        exchanges += of_protocol;
    }
    assert_eq!(sum("services", "requests"), exchanges, "{what}");
    assert_eq!(sum("processes", "count"), rows(TableName::Processes), "{what}");
    let (selection, filter) = asked;
    // What is asked of exchanges alone leaves connections out; of a process, exchanges that others had on its connections.
    if filter.is_none() && selection.pids.is_empty() {
        assert_eq!(sum("talkers", "exchanges"), exchanges, "{what}");
        let connections = lab
            .written(captures, asked, Shape::Table(TableName::Connections), false)
            .expect("rows");
        let connections = parsed(&connections)
            .iter()
            .filter(|row| row["role"] != "listener")
            .count() as u64;
        assert_eq!(sum("services", "connections"), connections, "{what}");
        assert_eq!(report["totals"]["connections"].as_u64(), Some(connections), "{what}");
    }
}

fn lab() -> Lab {
    Lab {
        folder: tempfile::tempdir().expect("a folder"),
    }
}

fn files_below(folder: &str, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path
                .extension()
                .is_some_and(|ending| endings.iter().any(|e| ending == *e))
            {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn selecting_from_recorded_captures_gives_what_selecting_from_all_rows_gives() {
    let lab = lab();
    let mut random = Random(1);
    let captures = files_below("fixtures", &["mdf"]);
    assert!(captures.len() > 8, "{captures:?}");
    for path in captures {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        for records in [3, 20] {
            let small = lab.path("small.mdf");
            in_small_blocks(&path, &small, records);
            obeys(
                &lab,
                &format!("{name} in blocks of {records}"),
                std::slice::from_ref(&small),
                &mut random,
            );
        }
    }
}

#[test]
fn selecting_from_packet_captures_gives_what_selecting_from_all_rows_gives() {
    let lab = lab();
    let mut random = Random(2);
    let captures = files_below("fixtures", &["pcap", "pcapng"]);
    assert!(captures.len() > 5, "{captures:?}");
    for path in captures {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let rows = lab.table(std::slice::from_ref(&path), TableName::Connections);
        if !rows.is_empty() {
            obeys(&lab, &name, std::slice::from_ref(&path), &mut random);
        }
    }
}

#[test]
fn selecting_from_synthetic_captures_gives_what_selecting_from_all_rows_gives() {
    let lab = lab();
    let mut random = Random(3);
    let kinds: [&[&str]; 7] = [
        // HTTP over connections that last.
        &["http", "--ends", "server", "-c", "8"],
        &["http", "-c", "8"],
        // A pool of MySQL connections, with prepared statements and without.
        &["mysql", "--ends", "client", "-c", "6", "--prepared"],
        &["mysql", "-c", "6"],
        // Short ones, with holes.
        &["mixed", "-c", "12", "--per-connection", "7", "--holes-ppm", "3000"],
        &[
            "mixed",
            "-c",
            "12",
            "--prepared",
            "--per-connection",
            "100",
            "--snaplen",
            "100",
        ],
        &["opaque", "-c", "6", "--per-connection", "30"],
    ];
    for kind in kinds {
        let (large, small) = (lab.path("large.mdf"), lab.path("small.mdf"));
        synth(&large, &[kind, &["-n", "1200", "--pause-us", "20000"]].concat());
        in_small_blocks(&large, &small, 60);
        obeys(&lab, &format!("{kind:?}"), std::slice::from_ref(&small), &mut random);
    }
}

/// The same connections as two hosts saw them, whose clocks differ.
#[test]
fn selecting_from_the_captures_of_two_hosts_gives_what_selecting_from_all_rows_gives() {
    let lab = lab();
    let mut random = Random(4);
    for kind in [
        &["http", "-c", "6"][..],
        &["mixed", "-c", "8", "--per-connection", "40", "--prepared"],
    ] {
        let captures = ["client", "server"].map(|end| {
            let (large, small) = (lab.path("large.mdf"), lab.path(&format!("{end}.mdf")));
            let skew = if end == "client" { "0" } else { "1500" };
            let common = ["-n", "800", "--pause-us", "20000", "--ends", end, "--skew-us", skew];
            synth(&large, &[kind, &common].concat());
            in_small_blocks(&large, &small, 50);
            small
        });
        obeys(&lab, &format!("{kind:?} of two hosts"), &captures, &mut random);
    }
}

#[test]
fn selecting_from_pods_gives_what_selecting_from_all_rows_gives() {
    let lab = lab();
    let mut random = Random(5);
    let (large, named, small) = (lab.path("large.mdf"), lab.path("named.mdf"), lab.path("small.mdf"));
    synth(
        &large,
        &[
            "mixed",
            "-c",
            "10",
            "--per-connection",
            "25",
            "-n",
            "800",
            "--pause-us",
            "20000",
        ],
    );
    // The first of two cgroups, that of the clients, becomes two pods, by process.
    edit(&large, &named, |record| {
        match record {
            Record::Process(process) if process.pid == 1001 => process.cgroup = 4003,
            Record::Socket(socket) if socket.pid == 1001 => socket.cgroup = 4003,
            Record::Data(data) if data.pid == 1001 => data.cgroup = 4003,
            _ => {}
        }
        Place::Here
    });
    with_pods(
        &named,
        &large,
        &[(4001, "shop-0"), (4003, "shop-1"), (4002, "backend-0")],
    );
    in_small_blocks(&large, &small, 60);
    obeys(&lab, "pods", std::slice::from_ref(&small), &mut random);
}
