//! A second opinion: tshark reads the same packets as `mdf analyze`, and the two are compared row by row: requests,
//! statuses, SQL texts, their order and their number. The packets are the captures in fixtures/pcap and fixtures/mysql,
//! and live traffic of nginx, Node, MariaDB and sysbench, captured by tcpdump in a network namespace that the test makes
//! (so that no other traffic of the machine can be in it).
//!
//! Where the two differ, the difference is in this table, or the test fails. Each line of `EXPLAINED` names the
//! capture, what differs, and who is right and why.
//!
//! | capture | difference | who is right, and why |
//! |---|---|---|
//! | mysql-auth, zeek-auth, failed_login | mdf has a row for each refused login (COM_CONNECT) | mdf: a login is an exchange, and this one ended in an error (both tools show its code); tshark knows no command for it |
//! | infile | tshark has commands with odd numbers and no text | mdf: they are the first bytes of the file that LOCAL INFILE sends, whose packets do not begin with sequence id 0 |
//! | connector_python_zlib, mysql_zlib | a statement or an error that tshark has not, or reads as another command | mdf: the frame is compressed, and tshark 4.0 reads it as it is |
//! | mysql_zstd | tshark reads next to nothing | mdf: tshark 4.0 knows zlib only; the rows are those of mysql_cli, which sent the same statements |
//! | pipelined, mariadb_node, mariadb_c_direct | a statement id (mdf) or 4294967295 (tshark) | both: -1 is what was sent, and stands for the statement that was prepared last |
//! | mariadb_node, mariadb_c_direct | COM_STMT_BULK_EXECUTE (mdf) or 250 (tshark) | both: one command; tshark 4.0 has no name for it |
//! | mariadb_binlog | COM_BINLOG_DUMP (mdf) or 18 (tshark), and COM_QUIT after it | both: one command; what follows a replication stream is not read by mdf |
//! | apache | tshark has the request inside of a CONNECT tunnel | both: mdf does not look into tunnels |
//! | apache, nginx | path (mdf) or absolute target (tshark) | both: mdf tells the host in a column of its own |
//! | nginx, node | tshark lacks answers in a pipeline that begins with HEAD | mdf: an answer to HEAD has no body; tshark 4.0 takes the next answer for one |
//! | nginx, node | tshark lacks requests whose answer came before their end, that were cut off, that follow empty lines | mdf: each of them was sent, and two were answered |
//! | nginx, python | tshark lacks HTTP/0.9, and methods of one's own | mdf: the servers answered |
//! | urgent | tshark lacks requests behind or around an urgent byte | mdf: the server does not see that byte, and answered; tshark reads it as the request's first |
//! | nginx | tshark lacks the 400 that answers an HTTP/2 preface | mdf: the server speaks no HTTP/2 |
#![cfg(feature = "analyze")]
#![allow(clippy::expect_used, reason = "a test that panics has failed")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use support::{all_installed, count, may_record, mdf, rows, run_within};

/// What one tool says of one connection, in order. tshark pairs nothing; where it has as many answers as requests, the
/// order says which belong together (RFC 9112, 9.3.2).
#[derive(Debug, Default, Clone)]
struct Said {
    requests: Vec<String>,
    answers: Vec<String>,
    pairs: Vec<String>,
}

/// What one tool says of a capture, by the two endpoints of each connection (sorted).
type Opinion = BTreeMap<String, Said>;

fn pair((request, answer): (&String, &String)) -> String {
    format!("{request} -> {answer}")
}

fn connection(a: &str, a_port: &str, b: &str, b_port: &str) -> String {
    let mut ends = [format!("{a} {a_port}"), format!("{b} {b_port}")];
    ends.sort();
    ends.join(" - ")
}

/// A statement as tshark prints fields: one line.
fn one_line(text: &str) -> String {
    text.replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t")
}

/// A value of a row as text; nothing for null.
fn text(row: &Value, column: &str) -> Option<String> {
    match &row[column] {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

fn our_connection(row: &Value) -> String {
    let of = |column| text(row, column).unwrap_or_default();
    connection(
        &of("client_ip"),
        &of("client_port"),
        &of("server_ip"),
        &of("server_port"),
    )
}

/// The rows of a table in the order of their connections.
fn in_order(file: &Path, table: &str) -> Vec<Value> {
    let mut rows = rows(file, table);
    rows.sort_by_key(|row| (row["connection"].as_u64(), row["sequence"].as_u64()));
    rows
}

fn our_http(file: &Path) -> Opinion {
    let mut opinion = Opinion::new();
    for row in in_order(file, "http") {
        let said = opinion.entry(our_connection(&row)).or_default();
        let query = text(&row, "query").map_or_else(String::new, |query| format!("?{query}"));
        let path = text(&row, "path").unwrap_or_default();
        let request = text(&row, "method").map(|method| format!("{method} {path}{query}"));
        let answer = text(&row, "status");
        said.pairs.extend(request.iter().zip(&answer).map(pair));
        said.requests.extend(request);
        said.answers.extend(answer);
    }
    opinion
}

/// Between values of one field in one frame: nothing that stands in a URI or a statement.
const AGGREGATOR: &str = "\u{1f}";

/// These fields of the packets that match, a list of values for each.
fn tshark(file: &Path, filter: &str, fields: &[&str]) -> Vec<Vec<Vec<String>>> {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(file).args(["-Y", filter, "-T", "fields", "-E"]);
    command.arg(format!("aggregator={AGGREGATOR}"));
    for port in [8080, 8081, 8082, 8083] {
        command.args(["-d", &format!("tcp.port=={port},http")]);
    }
    for port in [3307, 13317] {
        command.args(["-d", &format!("tcp.port=={port},mysql")]);
    }
    for field in fields {
        command.args(["-e", field]);
    }
    let finished = run_within(&mut command, Duration::from_secs(180)).expect_code(&[0]);
    let values = |field: &str| match field {
        "" => Vec::new(),
        field => field.split(AGGREGATOR).map(str::to_string).collect(),
    };
    finished
        .stdout
        .lines()
        .map(|line| line.split('\t').map(values).collect())
        .collect()
}

const ENDS: [&str; 6] = ["ip.src", "ipv6.src", "tcp.srcport", "ip.dst", "ipv6.dst", "tcp.dstport"];

fn their_connection(fields: &[Vec<String>]) -> String {
    let first = |place: usize| fields[place].first().map(String::as_str);
    let address = |place: usize| first(place).or(first(place + 1)).unwrap_or_default();
    connection(
        address(0),
        first(2).unwrap_or_default(),
        address(3),
        first(5).unwrap_or_default(),
    )
}

fn their_http(file: &Path) -> Opinion {
    let mut opinion = Opinion::new();
    let fields = [
        &ENDS[..],
        &["http.request.method", "http.request.uri", "http.response.code"],
    ]
    .concat();
    for fields in tshark(file, "http.request or http.response", &fields) {
        let said = opinion.entry(their_connection(&fields)).or_default();
        said.requests.extend(
            fields[6]
                .iter()
                .zip(&fields[7])
                .map(|(method, uri)| format!("{method} {uri}")),
        );
        // 100 and 103 precede an answer; 101 is one.
        said.answers.extend(
            fields[8]
                .iter()
                .filter(|code| !code.starts_with('1') || *code == "101")
                .cloned(),
        );
    }
    for said in opinion.values_mut() {
        if said.requests.len() == said.answers.len() {
            said.pairs = said.requests.iter().zip(&said.answers).map(pair).collect();
        }
    }
    opinion
}

/// COM_ numbers and names, of the commands in the captures.
const COMMANDS: &[(&str, &str)] = &[
    ("1", "COM_QUIT"),
    ("2", "COM_INIT_DB"),
    ("3", "COM_QUERY"),
    ("4", "COM_FIELD_LIST"),
    ("9", "COM_STATISTICS"),
    ("13", "COM_DEBUG"),
    ("14", "COM_PING"),
    ("17", "COM_CHANGE_USER"),
    ("22", "COM_STMT_PREPARE"),
    ("23", "COM_STMT_EXECUTE"),
    ("24", "COM_STMT_SEND_LONG_DATA"),
    ("25", "COM_STMT_CLOSE"),
    ("26", "COM_STMT_RESET"),
    ("27", "COM_SET_OPTION"),
    ("28", "COM_STMT_FETCH"),
    ("31", "COM_RESET_CONNECTION"),
];

fn our_mysql(file: &Path) -> Opinion {
    let mut opinion = Opinion::new();
    for row in in_order(file, "mysql") {
        let said = opinion.entry(our_connection(&row)).or_default();
        let command = text(&row, "command").unwrap_or_default();
        let statement = match command.as_str() {
            "COM_QUERY" | "COM_STMT_PREPARE" => one_line(&text(&row, "statement").unwrap_or_default()),
            "COM_STMT_EXECUTE" => text(&row, "statement_id").unwrap_or_default(),
            _ => String::new(),
        };
        said.requests.push(format!("{command} {statement}"));
        said.answers.extend(text(&row, "error_code").filter(|code| code != "0"));
    }
    opinion
}

fn their_mysql(file: &Path) -> Opinion {
    let mut opinion = Opinion::new();
    let fields = [
        &ENDS[..],
        &["mysql.command", "mysql.query", "mysql.stmt_id", "mysql.error_code"],
    ]
    .concat();
    for fields in tshark(file, "mysql.command or mysql.error_code", &fields) {
        let said = opinion.entry(their_connection(&fields)).or_default();
        // A frame may hold several commands; texts and statement ids come in lists of their own.
        let (mut texts, mut ids) = (fields[7].iter(), fields[8].iter());
        for number in &fields[6] {
            let name = COMMANDS
                .iter()
                .find(|(known, _)| known == number)
                .map_or(number.as_str(), |(_, name)| name);
            let statement = match name {
                "COM_QUERY" | "COM_STMT_PREPARE" => texts.next(),
                "COM_STMT_EXECUTE" => ids.next(),
                "COM_STMT_CLOSE" | "COM_STMT_RESET" | "COM_STMT_FETCH" | "COM_STMT_SEND_LONG_DATA" => {
                    ids.next();
                    None
                }
                _ => None,
            };
            said.requests
                .push(format!("{name} {}", statement.map_or("", String::as_str)));
        }
        said.answers.extend(fields[9].iter().cloned());
    }
    opinion
}

/// What stands in one list and not in the other, in order; a row that only moved is on both sides.
fn list_differences(ours: &[String], theirs: &[String], differences: &mut Vec<String>) {
    let (mut a, mut b) = (0, 0);
    while a < ours.len() || b < theirs.len() {
        if a < ours.len() && b < theirs.len() && ours[a] == theirs[b] {
            (a, b) = (a + 1, b + 1);
            continue;
        }
        // The nearest place at which they agree again.
        let again = (1..64).find_map(|far: usize| {
            (0..=far)
                .find(|ahead| {
                    let (x, y) = (a + ahead, b + far - ahead);
                    x < ours.len() && y < theirs.len() && ours[x] == theirs[y]
                })
                .map(|ahead| (a + ahead, b + far - ahead))
        });
        let (to_a, to_b) = again.unwrap_or((ours.len(), theirs.len()));
        differences.extend(ours[a..to_a].iter().map(|row| format!("only mdf: {row}")));
        differences.extend(theirs[b..to_b].iter().map(|row| format!("only tshark: {row}")));
        (a, b) = (to_a, to_b);
    }
}

fn differences(ours: &Opinion, theirs: &Opinion) -> Vec<String> {
    let mut all = Vec::new();
    let nothing = Said::default();
    let mut connections: Vec<&String> = ours.keys().chain(theirs.keys()).collect();
    connections.sort();
    connections.dedup();
    for connection in connections {
        let ours = ours.get(connection).unwrap_or(&nothing);
        let theirs = theirs.get(connection).unwrap_or(&nothing);
        let mut found = Vec::new();
        list_differences(&ours.requests, &theirs.requests, &mut found);
        list_differences(&ours.answers, &theirs.answers, &mut found);
        if !theirs.pairs.is_empty() {
            list_differences(&ours.pairs, &theirs.pairs, &mut found);
        }
        all.extend(
            found
                .into_iter()
                .map(|difference| format!("{connection}: {difference}")),
        );
    }
    all
}

fn requests(opinion: &Opinion) -> usize {
    opinion.values().map(|said| said.requests.len()).sum()
}

/// The table above: part of a capture's name, and how a difference in it begins (after the endpoints) that is
/// explained there.
const EXPLAINED: &[(&str, &str)] = &[
    ("mysql-auth", "only mdf: COM_CONNECT"),
    ("zeek-auth", "only mdf: COM_CONNECT"),
    ("failed_login", "only mdf: COM_CONNECT"),
    ("mysql/infile", "only tshark: "),
    ("connector_python_zlib", "only mdf: COM_QUERY select 'qqq"),
    ("connector_python_zlib", "only tshark: 192"),
    (
        "mysql_zlib",
        "only mdf: COM_QUERY SELECT REPEAT('z', 3000), REPEAT('y', 5000)",
    ),
    ("mysql_zlib", "only mdf: 1064"),
    ("mysql_zlib", "only tshark: 96"),
    ("mysql_zstd", "only "),
    ("mariadb_node", "only mdf: COM_STMT_EXECUTE "),
    ("mariadb_node", "only tshark: COM_STMT_EXECUTE 4294967295"),
    ("mariadb_c_direct", "only mdf: COM_STMT_EXECUTE "),
    ("mariadb_c_direct", "only tshark: COM_STMT_EXECUTE 4294967295"),
    ("mariadb_", "only mdf: COM_STMT_BULK_EXECUTE"),
    ("mariadb_", "only tshark: 250"),
    ("mariadb_binlog", "only mdf: COM_BINLOG_DUMP"),
    ("mariadb_binlog", "only tshark: 18"),
    ("mariadb_binlog", "only tshark: COM_QUIT"),
    ("http/apache", "only tshark: GET /page?tunnel"),
    ("http/apache", "only tshark: 200"),
    ("http/apache", "only mdf: GET /page?proxied"),
    ("http/apache", "only tshark: GET http://127.0.0.1:8083/page?proxied"),
    ("http/nginx", "only mdf: GET /ok?absolute"),
    ("http/nginx", "only tshark: GET http://absolute.example/ok?absolute"),
    ("http/nginx", "only mdf: POST /small"),
    ("http/nginx", "only mdf: GET /ok?after-empty-lines"),
    ("http/nginx", "only mdf: GET /ok?slow"),
    ("http/nginx", "only mdf: 20"),
    ("http/nginx", "only mdf: 400"),
    ("http/node", "only mdf: POST /early"),
    ("http/node", "only mdf: 200"),
    ("http/nginx", "only mdf: GET /ok?zero-nine"),
    ("http/urgent", "only mdf: GET /ok?"),
    ("http/python", "only mdf: GET /page?zero-nine"),
    ("http/python", "only mdf: BREW /pot"),
    ("mysql/pipelined", "only mdf: COM_STMT_EXECUTE 3"),
    ("mysql/pipelined", "only tshark: COM_STMT_EXECUTE 4294967295"),
];

fn unexplained(capture: &Path, differences: Vec<String>) -> Vec<String> {
    let name = capture.to_string_lossy().into_owned();
    let explained = |difference: &String| {
        EXPLAINED
            .iter()
            .any(|(of, what)| name.contains(of) && difference.contains(&format!(": {what}")))
    };
    differences
        .into_iter()
        .filter(|difference| !explained(difference))
        .collect()
}

#[test]
fn tshark_agrees_on_the_captures_of_the_fixtures() {
    if !all_installed("a second opinion on the captures in fixtures", &["tshark"]) {
        return;
    }
    let mut files: Vec<PathBuf> = ["fixtures/http", "fixtures/pcap", "fixtures/mysql"]
        .iter()
        .flat_map(|folder| fs::read_dir(folder).expect("fixtures"))
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "pcap"));
    files.sort();
    assert!(files.len() >= 44);
    let mut left = Vec::new();
    for file in files {
        for (what, ours, theirs) in [
            ("http", our_http(&file), their_http(&file)),
            ("mysql", our_mysql(&file), their_mysql(&file)),
        ] {
            let found = differences(&ours, &theirs);
            println!(
                "{} {what}: mdf {} tshark {}",
                file.display(),
                requests(&ours),
                requests(&theirs)
            );
            found.iter().for_each(|difference| println!("  {difference}"));
            left.extend(
                unexplained(&file, found)
                    .into_iter()
                    .map(|d| format!("{} {what}: {d}", file.display())),
            );
        }
    }
    assert!(left.is_empty(), "not explained:\n{}", left.join("\n"));
}

/// What live scripts begin with: an own loopback, tcpdump on it (not in immediate mode, whose ring holds some 500 packets
/// at this snaplen and overflows on a busy machine). `await_port` returns when somebody listens, `finish`
/// once tcpdump has written everything up to a mark.
const SCRIPT_HEAD: &str = r#"
set -eu
ip link set lo up
cd "$1"
await() { for _ in $(seq 600); do "$@" 2>/dev/null && return; sleep 0.05; done; echo "gave up: $*" >&2; return 1; }
listens() { (exec 3<>/dev/tcp/127.0.0.1/"$1"); }
await_port() { await listens "$1"; }
tcpdump -i lo -s 0 -B 65536 -U -w cap.pcap 'tcp and not port 9' 2>tcpdump.txt &
tcpdump=$!
await grep -q 'listening on' tcpdump.txt
finish() {
	kill -INT $tcpdump
	wait $tcpdump || true
	grep -q '^0 packets dropped by kernel' tcpdump.txt
	: >finished
}
captured() { grep -qa "$1" cap.pcap; }
"#;

/// Runs a script in network and process namespaces of its own, in a new folder; its capture is `cap.pcap` there. With
/// `record`, `mdf record` records it too, into `cap.mdf`.
fn live(script: &str, record: bool) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let path = folder.path().join("script.sh");
    fs::write(&path, format!("{SCRIPT_HEAD}\n{script}\nfinish\n")).expect("the folder can be written");
    let words = [
        "unshare",
        "--net",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "bash",
    ];
    let mut command = if record {
        let mut command = mdf();
        command
            .args(["record", "-o"])
            .arg(folder.path().join("cap.mdf"))
            .arg("--")
            .args(words);
        command
    } else {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        command
    };
    let finished = run_within(command.arg(&path).arg(folder.path()), Duration::from_secs(240));
    assert!(
        folder.path().join("finished").exists(),
        "the script failed: {}{}{}",
        finished.stdout,
        finished.stderr,
        fs::read_to_string(folder.path().join("tcpdump.txt")).unwrap_or_default()
    );
    folder
}

fn live_begins(name: &str, programs: &[&str]) -> bool {
    let programs = [&["tshark", "tcpdump", "unshare", "ip", "bash"], programs].concat();
    may_record(name) && all_installed(name, &programs)
}

/// Compares, and demands this many rows.
#[track_caller]
fn agree(folder: &Path, name: &str, ours: Opinion, theirs: Opinion, expected: usize) {
    println!(
        "{name}: mdf {} tshark {} expected {expected}",
        requests(&ours),
        requests(&theirs)
    );
    let left = unexplained(Path::new(name), differences(&ours, &theirs));
    assert!(
        left.is_empty(),
        "not explained in {}:\n{}",
        folder.display(),
        left.join("\n")
    );
    assert_eq!(requests(&ours), expected, "{name}");
}

const NGINX: &str = r#"
cat >nginx.conf <<END
daemon off; user root; worker_processes 1; pid $PWD/nginx.pid; error_log $PWD/error.log;
events { worker_connections 256; }
http { access_log off; client_body_temp_path $PWD/body; proxy_temp_path $PWD/proxy; fastcgi_temp_path $PWD/fastcgi;
uwsgi_temp_path $PWD/uwsgi; scgi_temp_path $PWD/scgi; gzip on; gzip_min_length 1; gzip_types *;
server { listen 127.0.0.1:8080; listen [::1]:8080; root $PWD; location /moved { return 302 /; }
location /post { client_max_body_size 100m; proxy_pass http://127.0.0.1:8080/index.html; proxy_method GET; } } }
END
seq 1 20000 >index.html
nginx -c "$PWD/nginx.conf" &
nginx=$!
await_port 8080
"#;

#[test]
fn tshark_agrees_on_nginx_and_curl() {
    if !live_begins("a second opinion on nginx and curl", &["nginx", "curl"]) {
        return;
    }
    let folder = live(
        &format!(
            "{NGINX}
             curl -s 'http://127.0.0.1:8080/index.html?n=[1-200]' >out
             curl -s --compressed 'http://[::1]:8080/index.html?zipped=[1-20]' >out
             curl -sI 'http://127.0.0.1:8080/index.html?head=[1-20]' >out
             curl -s 'http://127.0.0.1:8080/nothing/[1-20]' >out
             curl -sL 'http://127.0.0.1:8080/moved?[1-5]' >out
             curl -s -H 'Connection: close' 'http://127.0.0.1:8080/index.html?closed=[1-5]' >out
             curl -s -r 100-199 'http://127.0.0.1:8080/index.html?part' >out
             head -c 300000 /dev/zero >big
             curl -s -T big -X POST 'http://127.0.0.1:8080/post?big' >out
             curl -s -H 'Expect: 100-continue' --data-binary @big 'http://127.0.0.1:8080/post?expect' >out
             curl -s -X OPTIONS 'http://127.0.0.1:8080/' >out
             kill -QUIT $nginx; wait $nginx
             await captured 'OPTIONS / HTTP'"
        ),
        false,
    );
    let file = folder.path().join("cap.pcap");
    // 5 redirections are followed, and 2 posts are passed on.
    let expected = 200 + 20 + 20 + 20 + 2 * 5 + 5 + 1 + 2 * 2 + 1;
    agree(folder.path(), "nginx", our_http(&file), their_http(&file), expected);
    assert_eq!(count(&rows(&file, "http"), "complete", true), expected);
}

#[test]
fn tshark_agrees_on_node_with_fetch_and_pipelines() {
    if !live_begins("a second opinion on Node", &["node", "bash"]) {
        return;
    }
    let folder = live(
        r#"
cat >server.js <<'END'
const http = require('http');
http.createServer((request, response) => {
  let size = 0;
  request.on('data', part => { size += part.length; });
  request.on('end', () => {
    if (request.url.startsWith('/chunks')) { for (let n = 0; n < 5; n++) response.write('part ' + n + '\n'); response.end(); }
    else if (request.url.startsWith('/none')) { response.statusCode = 204; response.end(); }
    else if (request.url.startsWith('/early')) { response.writeEarlyHints({ link: '</style.css>; rel=preload' }); response.end('late'); }
    else if (request.url.startsWith('/fail')) { response.statusCode = 503; response.end('x'.repeat(100000)); }
    else response.end(JSON.stringify({ method: request.method, size }));
  });
}).listen(8081, '127.0.0.1');
END
cat >client.js <<'END'
const at = 'http://127.0.0.1:8081';
(async () => {
  for (let n = 0; n < 40; n++) {
    await (await fetch(`${at}/chunks?n=${n}`)).text();
    await (await fetch(`${at}/plain/${n}`, { method: 'PUT', body: 'y'.repeat(n * 1000) })).text();
    await (await fetch(`${at}/none`, { method: 'DELETE' })).text();
    await (await fetch(`${at}/early`)).text();
  }
  await Promise.all([...Array(20).keys()].map(async n => (await fetch(`${at}/fail/${n}`)).text()));
  const stream = new ReadableStream({ start(c) { c.enqueue(new TextEncoder().encode('chunked body')); c.close(); } });
  await (await fetch(`${at}/last`, { method: 'POST', body: stream, duplex: 'half' })).text();
  process.exit(0);
})();
END
node server.js &
node=$!
await_port 8081
node client.js
exec 4<>/dev/tcp/127.0.0.1/8081
for n in 1 2 3 4 5 6 7; do printf 'GET /pipelined/%d HTTP/1.1\r\nHost: a\r\n\r\n' $n; done >&4
printf 'GET /pipelined/end HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n' >&4
cat <&4 >out
kill $node; wait $node || true
await captured /pipelined/end
"#,
        false,
    );
    let file = folder.path().join("cap.pcap");
    let expected = 4 * 40 + 20 + 1 + 8;
    agree(folder.path(), "node", our_http(&file), their_http(&file), expected);
    assert_eq!(count(&rows(&file, "http"), "complete", true), expected);
}

const MARIADB: &str = r#"
mariadb-install-db --no-defaults --datadir="$PWD/data" --user=root --auth-root-authentication-method=normal \
	--skip-test-db >install.txt 2>&1
mariadbd --no-defaults --datadir="$PWD/data" --socket="$PWD/socket" --pid-file="$PWD/pid" --port=3306 --user=root \
	--bind-address=127.0.0.1 --innodb-flush-log-at-trx-commit=0 >mariadbd.txt 2>&1 &
mariadbd=$!
await test -S socket
await mariadb --no-defaults -S "$PWD/socket" -uroot -e 'CREATE DATABASE sbtest'
sql() { mariadb --no-defaults --skip-ssl -h127.0.0.1 -P3306 -uroot "$@"; }
"#;

#[test]
fn tshark_agrees_on_mariadb_and_its_client() {
    if !live_begins(
        "a second opinion on MariaDB",
        &["mariadbd", "mariadb", "mariadb-install-db"],
    ) {
        return;
    }
    let folder = live(
        &format!(
            "{MARIADB}
             sql sbtest -e 'CREATE TABLE t (id INT PRIMARY KEY, a VARCHAR(100)); SHOW TABLES'
             for n in 1 2 3 4 5; do sql sbtest -e \"INSERT INTO t VALUES ($n, REPEAT('x', $n * 10)); SELECT * FROM t\" >out; done
             sql sbtest -e 'SELECT NULL, 1, a FROM t WHERE id > 2; UPDATE t SET a = id; DELETE FROM t' >out
             sql sbtest -e 'SELECT nothing FROM nowhere' >out 2>&1 || true
             sql sbtest -e 'SELECT REPEAT(\"y\", 3000000)' >out
             sql -e 'SELECT 1 FROM DUAL WHERE 1 = 0; SELECT last_one' >out 2>&1 || true
             kill $mariadbd; wait $mariadbd || true
             await captured last_one"
        ),
        false,
    );
    let file = folder.path().join("cap.pcap");
    let (ours, theirs) = (our_mysql(&file), their_mysql(&file));
    let expected = requests(&theirs);
    assert!(expected > 20, "{expected}");
    agree(folder.path(), "mariadb", ours, theirs, expected);
}

/// sysbench with this kind of statements; the number of queries that it reports.
fn sysbench(mode: &str) {
    let name = format!("a second opinion on sysbench, prepared statements: {mode}");
    if !live_begins(&name, &["mariadbd", "mariadb", "mariadb-install-db", "sysbench"]) {
        return;
    }
    let folder = live(
        &format!(
            "{MARIADB}
             bench() {{ sysbench oltp_read_write --db-driver=mysql --mysql-host=127.0.0.1 --mysql-user=root --tables=2 \\
                --table-size=200 --threads=2 --time=0 --events=60 --mysql-port=3306 --db-ps-mode={mode} \"$1\"; }}
             bench prepare >prepare.txt
             bench run >run.txt
             sql -e 'SELECT \"the end\"' >out
             kill $mariadbd; wait $mariadbd || true
             await captured 'the end'"
        ),
        false,
    );
    let file = folder.path().join("cap.pcap");
    let (ours, theirs) = (our_mysql(&file), their_mysql(&file));
    let expected = requests(&theirs);
    let report = fs::read_to_string(folder.path().join("run.txt")).expect("sysbench has reported");
    let total = report
        .lines()
        .find_map(|line| line.trim().strip_prefix("total:")?.trim().parse::<usize>().ok());
    let total = total.expect("sysbench counts queries");
    assert!(
        expected > total,
        "tshark sees {expected} commands, sysbench {total} queries and its preparations"
    );
    agree(folder.path(), "sysbench", ours, theirs, expected);
}

#[test]
fn tshark_agrees_on_sysbench_with_texts() {
    sysbench("disable");
}

#[test]
fn tshark_agrees_on_sysbench_with_prepared_statements() {
    sysbench("auto");
}

/// The same traffic, recorded at the sockets and captured from the wire.
#[test]
#[cfg_attr(not(feature = "record"), ignore = "records")]
fn the_recorder_and_tcpdump_see_the_same_rows() {
    let name = "the same traffic by mdf record and by tcpdump";
    if !live_begins(name, &["nginx", "curl"]) {
        return;
    }
    let folder = live(
        &format!(
            "{NGINX}
             curl -s 'http://127.0.0.1:8080/index.html?n=[1-100]' >out
             curl -sI 'http://127.0.0.1:8080/nothing/[1-10]' >out
             curl -s 'http://127.0.0.1:8080/the/end' >out
             kill -QUIT $nginx; wait $nginx
             await captured the/end"
        ),
        true,
    );
    let (wire, sockets) = (
        our_http(&folder.path().join("cap.pcap")),
        our_http(&folder.path().join("cap.mdf")),
    );
    assert_eq!(requests(&wire), 111);
    let left: Vec<String> = differences(&sockets, &wire);
    assert!(
        left.is_empty(),
        "mdf record (here \"mdf\") and tcpdump (\"tshark\") differ:\n{}",
        left.join("\n")
    );
}
