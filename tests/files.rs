//! The files that are read and written: what is read is never written to, a result is there when it is whole, what comes
//! through a pipe is read like a file, and one file that cannot be read does not end the run.
#![cfg(all(feature = "analyze", unix))]
#![allow(clippy::expect_used, reason = "a test that panics has failed")]

mod support;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::packets::{Pcap, RAW_IP, Talk};
use support::{Finished, Guard, drain, mdf, mdf_path, run};

const CAPTURE: &str = "fixtures/tiny.mdf";
const PACKETS: &str = "fixtures/http/nginx.pcap";
/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(120);

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().expect("a temporary folder can be made"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A copy of a fixture.
    fn copy(&self, fixture: &str, name: &str) -> PathBuf {
        fs::copy(fixture, self.path(name)).expect("a copy");
        self.path(name)
    }

    fn fifo(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        run(Command::new("mkfifo").arg(&path)).expect_code(&[0]);
        path
    }

    /// The names of what is in there.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).expect("the folder is there");
        let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
        let mut names: Vec<String> = entries.map(|entry| name(entry).into_string().expect("text")).collect();
        names.sort();
        names
    }
}

fn words<'w>(words: &'w [&'w str], paths: &[(&str, &Path)]) -> Vec<String> {
    let path = |word: &&str| {
        paths
            .iter()
            .find(|(name, _)| name == word)
            .map(|(_, path)| path.display().to_string())
    };
    words
        .iter()
        .map(|word| path(word).unwrap_or(word.to_string()))
        .collect()
}

/// Runs mdf with these words, of which those that name a path stand for it.
fn mdf_with(line: &[&str], paths: &[(&str, &Path)]) -> Finished {
    run(mdf().args(words(line, paths)))
}

fn mode(path: &Path) -> u32 {
    path.metadata().expect("a file").permissions().mode() & 0o7777
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).expect("a file")
}

/// Waits until something is so, which takes moments.
#[track_caller]
fn until(is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < LIMIT);
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn what_is_read_is_never_written_to() {
    let lines: [(&str, &[&str]); 6] = [
        (
            CAPTURE,
            &[
                "analyze", "IN", "--table", "http", "--format", "csv", "--force", "-o", "OUT",
            ],
        ),
        (
            CAPTURE,
            &["analyze", CAPTURE, "IN", "--format", "json", "--force", "-o", "OUT"],
        ),
        (
            PACKETS,
            &[
                "analyze", "IN", "--table", "http", "--format", "parquet", "--force", "-o", "OUT",
            ],
        ),
        (
            CAPTURE,
            &["analyze", "IN", "--format", "parquet", "--force", "-o", "DIR/"],
        ),
        (PACKETS, &["import", "IN", "--force", "-o", "OUT"]),
        (
            CAPTURE,
            &[
                "analyze", CAPTURE, "--pods", "IN", "--table", "http", "--format", "csv", "--force", "-o", "OUT",
            ],
        ),
    ];
    type Link = fn(&Path, &Path) -> std::io::Result<()>;
    let same: Link = |from, to| fs::rename(from, to);
    let hard: Link = |from, to| fs::hard_link(from, to);
    let soft: Link = |from, to| symlink(from, to);
    for (fixture, line) in lines {
        for (kind, link) in [
            ("the same name", same),
            ("a hard link", hard),
            ("a symbolic link", soft),
        ] {
            let folder = Folder::new();
            let mut input = folder.copy(fixture, "in");
            let output = folder.path("digests.parquet");
            link(&input, &output).expect("a link");
            if kind == "the same name" {
                input = output.clone();
            }
            let before = (folder.names(), read(&input), input.metadata().expect("a file").ino());
            let paths = [("IN", &*input), ("OUT", &*output), ("DIR/", folder.0.path())];
            let refused = mdf_with(line, &paths).expect_code(&[2]);
            assert!(
                refused.stderr.contains("is read"),
                "{line:?}, {kind}: {}",
                refused.stderr
            );
            assert!(refused.stderr.contains("digests.parquet"), "{}", refused.stderr);
            let after = (folder.names(), read(&input), input.metadata().expect("a file").ino());
            assert!(before == after, "{line:?}, {kind}");
        }
    }
}

#[test]
fn what_is_read_is_never_appended_to_as_standard_output() {
    for (fixture, line) in [
        (CAPTURE, "analyze \"$IN\""),
        (CAPTURE, "diff fixtures/tiny.mdf \"$IN\""),
        (PACKETS, "import \"$IN\" -o -"),
    ] {
        let folder = Folder::new();
        let input = folder.copy(fixture, "in");
        let before = read(&input);
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("\"$MDF\" {line} >>\"$IN\"")]);
        let refused = run(shell.env("MDF", mdf_path()).env("IN", &input)).expect_code(&[2]);
        assert!(refused.stderr.contains("standard output"), "{line}: {}", refused.stderr);
        assert!(read(&input) == before, "{line}");
    }
}

const RESULTS: [&[&str]; 4] = [
    &["analyze", CAPTURE, "--table", "http", "--format", "csv", "-o", "OUT"],
    &[
        "analyze", CAPTURE, "--table", "http", "--format", "parquet", "-o", "OUT",
    ],
    &["analyze", CAPTURE, "--format", "json", "-o", "OUT"],
    &["import", PACKETS, "-o", "OUT"],
];

#[test]
#[cfg_attr(not(feature = "parquet"), ignore = "writes Parquet")]
fn force_replaces_and_never_follows_a_link_or_writes_into_a_file() {
    for line in RESULTS {
        let folder = Folder::new();
        let there = folder.path("there");
        symlink(folder.0.path(), &there).expect("a link");
        let refused = mdf_with(&[line, &["--force"]].concat(), &[("OUT", &there)]).expect_code(&[1]);
        assert!(refused.stderr.contains("it is a folder"), "{}", refused.stderr);
        fs::remove_file(there).expect("a link");
        let [precious, link, name, other] = ["precious", "link", "name", "other"].map(|name| folder.path(name));
        fs::write(&precious, "mine").expect("a file");
        symlink(&precious, &link).expect("a link");
        symlink(folder.path("nowhere"), folder.path("dangling")).expect("a link");
        fs::write(&name, "two names").expect("a file");
        fs::hard_link(&name, &other).expect("a link");
        let mut held = File::open(&name).expect("a file");
        for output in [&link, &name, &folder.path("dangling")] {
            let refused = mdf_with(line, &[("OUT", output)]).expect_code(&[1]);
            assert!(refused.stderr.contains("--force replaces it"), "{}", refused.stderr);
            let forced = [line, &["--force"]].concat();
            mdf_with(&forced, &[("OUT", output)]).expect_code(&[0]);
            let kind = output.symlink_metadata().expect("a result").file_type();
            assert!(
                kind.is_file() && read(output).len() > 100,
                "{line:?} {}",
                output.display()
            );
        }
        assert_eq!(read(&precious), b"mine");
        assert_eq!(read(&other), b"two names");
        let mut text = String::new();
        held.read_to_string(&mut text).expect("text");
        assert_eq!(text, "two names");
        assert_eq!(
            folder.names(),
            ["dangling", "link", "name", "other", "precious"],
            "{line:?}"
        );
    }
}

#[test]
#[cfg_attr(not(feature = "parquet"), ignore = "writes Parquet")]
fn results_are_for_their_owner_only_whatever_was_there() {
    for line in RESULTS {
        let folder = Folder::new();
        let output = folder.path("out");
        mdf_with(line, &[("OUT", &output)]).expect_code(&[0]);
        assert_eq!(mode(&output), 0o600);
        fs::set_permissions(&output, fs::Permissions::from_mode(0o644)).expect("it is ours");
        mdf_with(&[line, &["--force"]].concat(), &[("OUT", &output)]).expect_code(&[0]);
        assert_eq!(mode(&output), 0o600, "{line:?}");
    }
    let folder = Folder::new();
    mdf_with(&["analyze", CAPTURE, "-o", "DIR"], &[("DIR", &folder.path("all"))]).expect_code(&[0]);
    for entry in fs::read_dir(folder.path("all")).expect("a folder") {
        assert_eq!(mode(&entry.expect("an entry").path()), 0o600);
    }
}

/// mdf while it waits for the rest of a packet capture, with its result not written yet.
struct Waiting {
    child: Guard,
    rest: Vec<u8>,
    to: File,
}

impl Waiting {
    /// `line` reads `PIPE` and writes below this folder.
    fn start(folder: &Folder, line: &[&str], paths: &[(&str, &Path)]) -> Waiting {
        let pipe = folder.fifo("pipe");
        let paths = [paths, &[("PIPE", &*pipe)]].concat();
        let mut command = mdf();
        command
            .args(words(line, &paths))
            .stderr(Stdio::piped())
            .stdout(Stdio::null());
        let child = Guard(command.spawn().expect("mdf starts"));
        let mut to = File::options().write(true).open(&pipe).expect("mdf opens it too");
        let mut bytes = read(Path::new(PACKETS));
        // More than is read to know what it is, less than everything.
        let rest = bytes.split_off(6_000);
        to.write_all(&bytes).expect("mdf reads");
        fs::remove_file(pipe).expect("it is open");
        Waiting { child, rest, to }
    }

    fn finish(mut self) -> (i32, String) {
        self.to.write_all(&self.rest).expect("mdf reads");
        drop(self.to);
        let stderr = drain(self.child.0.stderr.take().expect("a pipe"));
        let status = self.child.wait(LIMIT);
        (status.code().expect("no signal"), stderr.join().expect("no panic"))
    }
}

const WAITING: [&[&str]; 3] = [
    &["analyze", "PIPE", "--table", "http", "--format", "csv", "-o", "OUT"],
    &["analyze", "PIPE", "--table", "http", "--format", "arrow", "-o", "OUT"],
    &["import", "PIPE", "-o", "OUT"],
];

fn is_temporary(name: &str) -> bool {
    name.starts_with("mdf-") && name.ends_with(".tmp")
}

#[test]
#[cfg_attr(not(feature = "parquet"), ignore = "writes Parquet")]
fn a_result_has_its_name_when_it_is_whole() {
    for line in WAITING {
        let folder = Folder::new();
        let output = folder.path("out");
        fs::write(&output, "old").expect("a file");
        let waiting = Waiting::start(&folder, &[line, &["--force"]].concat(), &[("OUT", &output)]);
        until(|| folder.names().iter().any(|name| is_temporary(name)));
        assert_eq!(read(&output), b"old", "{line:?}");
        let (code, stderr) = waiting.finish();
        assert_eq!(code, 0, "{line:?}: {stderr}");
        assert_eq!(folder.names(), ["out"]);
        assert!(read(&output).len() > 100);
    }
}

#[test]
#[cfg_attr(not(feature = "parquet"), ignore = "writes Parquet")]
fn what_appears_under_the_name_meanwhile_is_not_replaced_unasked() {
    for line in WAITING {
        let folder = Folder::new();
        let output = folder.path("out");
        let waiting = Waiting::start(&folder, line, &[("OUT", &output)]);
        until(|| folder.names().iter().any(|name| is_temporary(name)));
        fs::write(&output, "mine").expect("a file");
        let (code, stderr) = waiting.finish();
        assert!(code == 1 && stderr.contains("out exists"), "{line:?}: {code}, {stderr}");
        assert_eq!(folder.names(), ["out"], "{line:?}");
        assert_eq!(read(&output), b"mine");
    }
}

#[test]
fn pipes_and_devices_are_written_to_as_they_are() {
    let expected = mdf_with(&["analyze", CAPTURE, "--table", "http", "--format", "csv"], &[]).expect_code(&[0]);
    let line = ["analyze", CAPTURE, "--table", "http", "--format", "csv", "-o", "OUT"];
    for output in ["-", "/dev/stdout"] {
        let shown = mdf_with(&line, &[("OUT", Path::new(output))]).expect_code(&[0]);
        assert_eq!(shown.stdout, expected.stdout, "{output}");
    }
    mdf_with(&line, &[("OUT", Path::new("/dev/null"))]).expect_code(&[0]);
    let device = fs::metadata("/dev/null").expect("it is there");
    assert!(!device.is_file());

    let folder = Folder::new();
    let fifo = folder.fifo("fifo");
    let refused = mdf_with(&line, &[("OUT", &fifo)]).expect_code(&[1]);
    assert!(refused.stderr.contains("exists"), "{}", refused.stderr);
    let reader = {
        let fifo = fifo.clone();
        std::thread::spawn(move || fs::read_to_string(fifo).expect("text"))
    };
    mdf_with(&[&line[..], &["--force"]].concat(), &[("OUT", &fifo)]).expect_code(&[0]);
    assert_eq!(reader.join().expect("no panic"), expected.stdout);
    assert_eq!(folder.names(), ["fifo"]);
}

#[test]
fn a_file_that_shrinks_while_it_is_analysed_ends_with_an_error_and_no_result() {
    for (fixture, keep) in [(CAPTURE, 2), (CAPTURE, 40), (PACKETS, 2)] {
        let folder = Folder::new();
        let input = folder.path("in");
        // Longer than what the kernel reads with the first page.
        fs::write(&input, read(Path::new(fixture))).expect("a copy");
        let len = input.metadata().expect("a file").len();
        let (output, pods) = (folder.path("out.csv"), folder.fifo("pods"));
        fs::write(&output, "old").expect("a file");
        let line = [
            "analyze", "IN", "--table", "http", "--pods", "PODS", "--force", "-o", "OUT",
        ];
        let mut command = mdf();
        command.args(words(&line, &[("IN", &input), ("PODS", &pods), ("OUT", &output)]));
        let mut child = Guard(command.stderr(Stdio::piped()).spawn().expect("mdf starts"));
        // It asks for the pods when the capture is mapped already, and waits for them.
        let mut to = File::options().write(true).open(&pods).expect("mdf opens it too");
        let file = File::options().write(true).open(&input).expect("a file");
        file.set_len(len / keep).expect("it is shortened");
        to.write_all(br#"{"kind": "List", "items": []}"#).expect("mdf reads");
        drop(to);
        let stderr = drain(child.0.stderr.take().expect("a pipe"));
        let code = child.wait(LIMIT).code();
        let stderr = stderr.join().expect("no panic");
        assert!(
            code == Some(1) && stderr.contains("was shortened"),
            "{fixture}: {code:?} {stderr}"
        );
        assert_eq!(read(&output), b"old");
        assert_eq!(folder.names(), ["in", "out.csv", "pods"]);
    }
}

/// A packet capture with so many requests.
fn requests(path: &Path, count: usize) {
    let mut pcap = Pcap::create(path, RAW_IP);
    let mut talk = Talk::open(&mut pcap, 40_000, 80);
    for number in 0..count {
        talk.say(0, format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        talk.say(1, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    }
    talk.close();
    pcap.finish();
}

#[test]
fn a_file_that_shrinks_while_it_is_replayed_ends_with_an_error() {
    let folder = Folder::new();
    let (packets, capture) = (folder.path("in.pcap"), folder.path("in.mdf"));
    requests(&packets, 40_000);
    mdf_with(&["import", "IN", "-o", "OUT"], &[("IN", &packets), ("OUT", &capture)]).expect_code(&[0]);
    let mut command = mdf();
    command
        .arg("replay")
        .arg(&capture)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = Guard(command.spawn().expect("mdf starts"));
    let mut stdout = child.0.stdout.take().expect("a pipe");
    // It has begun; and it cannot go far, because a pipe holds less than a block's lines.
    stdout.read_exact(&mut [0; 100]).expect("lines");
    let file = File::options().write(true).open(&capture).expect("a file");
    file.set_len(5_000).expect("it is shortened");
    let (stdout, stderr) = (drain(stdout), drain(child.0.stderr.take().expect("a pipe")));
    let code = child.wait(LIMIT).code();
    let stderr = stderr.join().expect("no panic");
    assert!(code == Some(1) && stderr.contains("was shortened"), "{code:?} {stderr}");
    stdout.join().expect("no panic");
}

/// What a shell line prints in which `$MDF` is the program and `$IN` the file.
fn shell(line: &str, input: &Path) -> Finished {
    let mut shell = Command::new("bash");
    shell.args(["-c", &format!("set -o pipefail; {line}")]);
    run(shell.env("MDF", mdf_path()).env("IN", input))
}

#[test]
fn what_comes_through_a_pipe_is_read_like_a_file() {
    let folder = Folder::new();
    let imported = folder.path("imported.mdf");
    mdf_with(&["import", PACKETS, "-o", "OUT"], &[("OUT", &imported)]).expect_code(&[0]);
    let zipped = folder.path("nginx.pcap.gz");
    let gzip = shell("gzip -c <fixtures/http/nginx.pcap >\"$IN\"", &zipped);
    gzip.expect_code(&[0]);
    let dense = folder.path("nginx.pcap.zst");
    fs::write(
        &dense,
        zstd::encode_all(&*read(Path::new(PACKETS)), 3).expect("memory has room"),
    )
    .expect("a file");
    let long = folder.path("long.pcap");
    requests(&long, 20_000);
    let rows = "--table http --format ndjson";
    for input in [
        Path::new(PACKETS),
        &zipped,
        &dense,
        &long,
        &imported,
        Path::new(CAPTURE),
    ] {
        let expected = shell(&format!("$MDF analyze $IN {rows}"), input)
            .expect_code(&[0])
            .stdout;
        assert!(expected.lines().count() > 2);
        let fifo = folder.path("fifo");
        for line in [
            format!("cat $IN | $MDF analyze - {rows}"),
            format!("cat $IN | $MDF analyze /dev/stdin {rows}"),
            format!("$MDF analyze - {rows} <$IN"),
            format!("$MDF analyze <(cat $IN) {rows}"),
            format!(
                "mkfifo {0}; (cat $IN >{0} &); $MDF analyze {0} {rows}; rm {0}",
                fifo.display()
            ),
            // In pieces, the first of which does not tell what it is.
            format!("(head -c 3 $IN; tail -c +4 $IN) | $MDF analyze - {rows}"),
            // With a time that is compared with the first event.
            format!("cat $IN | $MDF analyze - {rows} --from +0s"),
        ] {
            let piped = shell(&line, input).expect_code(&[0]);
            assert!(
                piped.stdout == expected,
                "{line}, {}: {}",
                input.display(),
                piped.stderr
            );
        }
    }
    for line in ["$MDF replay IN", "$MDF info IN", "$MDF diff IN fixtures/tiny.mdf"] {
        let expected = shell(&line.replace("IN", "$IN"), Path::new(CAPTURE)).expect_code(&[0]);
        let piped = shell(&format!("cat $IN | {}", line.replace("IN", "-")), Path::new(CAPTURE)).expect_code(&[0]);
        assert_eq!(piped.stdout, expected.stdout, "{line}");
    }
    let piped = shell(
        &format!("cat $IN | $MDF import - -o - | $MDF analyze - {rows}"),
        Path::new(PACKETS),
    );
    let expected = shell(&format!("$MDF analyze $IN {rows}"), Path::new(PACKETS));
    assert_eq!(piped.expect_code(&[0]).stdout, expected.stdout);
}

#[test]
fn the_size_of_what_came_through_a_pipe_is_known_when_it_was_read() {
    let table = "--table capture --format ndjson";
    let row = |finished: Finished| -> Value { serde_json::from_str(&finished.expect_code(&[0]).stdout).expect("JSON") };
    let file = row(shell(&format!("$MDF analyze $IN {table}"), Path::new(PACKETS)));
    let pipe = row(shell(&format!("cat $IN | $MDF analyze - {table}"), Path::new(PACKETS)));
    assert_eq!(pipe["file"], "standard input");
    for column in ["file_bytes", "events", "first", "last", "payload_bytes"] {
        assert_eq!(pipe[column], file[column], "{column}");
    }
}

#[test]
fn what_cannot_be_read_is_refused_in_words() {
    for (line, said) in [
        ("$MDF diff - - <$IN", "named twice"),
        ("$MDF analyze /dev/zero", "/dev/zero is neither a file nor a pipe"),
        (
            "$MDF analyze - </dev/null",
            "standard input is neither a file nor a pipe",
        ),
        ("true | $MDF analyze -", "standard input is empty"),
        ("$MDF info /tmp", "/tmp is a folder"),
        (
            "echo no capture | $MDF analyze -",
            "cannot read standard input: not an mdf capture",
        ),
        (
            "echo no capture | $MDF import - -o /tmp/no",
            "cannot import standard input: not a packet capture",
        ),
    ] {
        let refused = shell(line, Path::new(CAPTURE)).expect_code(&[1]);
        assert!(refused.stderr.contains(said), "{line}: {}", refused.stderr);
    }
}

/// Files of which nothing can be read, with what is said of each.
fn unreadable(folder: &Folder) -> Vec<(PathBuf, &'static str)> {
    let [empty, text, cut, later, packets] = ["empty", "text", "cut", "later", "packets"].map(|name| folder.path(name));
    fs::write(&empty, "").expect("a file");
    fs::write(&text, "no capture").expect("a file");
    let mut capture = read(Path::new(CAPTURE));
    fs::write(&cut, &capture[..30]).expect("a file");
    // The version that is needed to read it, and the checksum of the header with it.
    let header = 20 + u32::from_le_bytes(capture[12..16].try_into().expect("four bytes")) as usize;
    capture[10..12].copy_from_slice(&u16::MAX.to_le_bytes());
    capture.truncate(header);
    fs::write(&later, &capture).expect("a file");
    // gzip of something else.
    fs::write(&packets, b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x4b\xcb\xcf\x07\0").expect("a file");
    vec![
        (empty, "is empty"),
        (text, "not an mdf capture"),
        (cut, "cannot read"),
        (later, "cannot read"),
        (packets, "not an mdf capture"),
        (folder.path("missing"), "cannot open"),
        (folder.0.path().to_owned(), "is a folder"),
        (PathBuf::from("/dev/zero"), "neither a file nor a pipe"),
    ]
}

#[test]
fn one_file_that_cannot_be_read_is_told_and_the_others_are_analysed() {
    let folder = Folder::new();
    for good in [CAPTURE, PACKETS] {
        let rows = |paths: &[&Path], codes: &[i32]| {
            run(mdf()
                .arg("analyze")
                .args(paths)
                .args(["--table", "http", "--format", "ndjson"]))
            .expect_code(codes)
        };
        let good = Path::new(good);
        let expected = rows(&[good], &[0]).stdout;
        for (bad, why) in unreadable(&folder) {
            for order in [[good, &bad], [&bad, good]] {
                let found = rows(&order, &[3]);
                assert_eq!(found.stdout, expected, "{}", bad.display());
                let name = bad.display().to_string();
                assert!(
                    found.stderr.contains(&name) && found.stderr.contains(why),
                    "{}",
                    found.stderr
                );
            }
        }
    }
}

#[test]
fn files_that_cannot_be_read_are_counted_in_every_result() {
    let folder = Folder::new();
    let bad: Vec<PathBuf> = unreadable(&folder).into_iter().map(|(path, _)| path).collect();
    let analyze = |options: &[&str]| run(mdf().arg("analyze").args(&bad).arg(CAPTURE).args(options)).expect_code(&[3]);
    let report = analyze(&[]).stdout;
    assert!(report.contains("8 of 9 files not read"), "{report}");
    assert!(report.contains("empty is empty"), "{report}");
    let report: Value = serde_json::from_str(&analyze(&["--format", "json"]).stdout).expect("JSON");
    assert_eq!(report["totals"]["files_not_read"], 8);
    let table = analyze(&["--table", "capture", "--format", "ndjson"]).stdout;
    let rows: Vec<Value> = table
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let unread = rows
        .iter()
        .filter(|row| row["events"].is_null() && row["damage"].is_string());
    assert_eq!((rows.len(), unread.count()), (9, 8));

    // Without any that can be read, there is no result.
    let none = run(mdf().arg("analyze").args(&bad)).expect_code(&[1]);
    assert_eq!(none.stdout, "");
    for path in &bad {
        assert!(none.stderr.contains(&path.display().to_string()), "{}", none.stderr);
    }
}

#[test]
fn info_tells_of_the_files_that_can_be_read() {
    let folder = Folder::new();
    let bad: Vec<PathBuf> = unreadable(&folder).into_iter().map(|(path, _)| path).collect();
    let info = run(mdf().arg("info").arg("--json").args(&bad).args([CAPTURE, CAPTURE])).expect_code(&[3]);
    let infos = serde_json::Deserializer::from_str(&info.stdout).into_iter::<Value>();
    let sizes: Vec<Value> = infos.map(|info| info.expect("JSON")["file_bytes"].clone()).collect();
    assert_eq!(sizes, [Path::new(CAPTURE).metadata().expect("a file").len(); 2]);
    for path in &bad {
        assert!(info.stderr.contains(&path.display().to_string()), "{}", info.stderr);
    }
    let none = run(mdf().arg("info").args(&bad)).expect_code(&[1]);
    assert_eq!((none.stdout.as_str(), none.stderr.lines().count()), ("", bad.len()));
}

/// Half a minute: so long a pipe may be without a writer, and all others with it.
#[test]
fn a_pipe_that_nobody_writes_to_is_told_and_left_out_and_the_others_are_analysed() {
    let folder = Folder::new();
    let (pipe, other) = (folder.fifo("cap-1.mdf"), folder.fifo("cap-2.mdf"));
    let input = Path::new(CAPTURE);
    let rows = ["--table", "http", "--format", "csv"];
    let alone = mdf_with(&[&["analyze", "IN"][..], &rows].concat(), &[("IN", input)]).expect_code(&[0]);
    let line = [&["analyze", "PIPE", "OTHER", "IN"][..], &rows].concat();
    let both = mdf_with(&line, &[("PIPE", &pipe), ("OTHER", &other), ("IN", input)]).expect_code(&[3]);
    assert_eq!(both.stdout, alone.stdout);
    let (pipe, other) = (pipe.display(), other.display());
    for said in [
        format!("mdf: waiting for somebody to write to the pipe {pipe}\n"),
        format!("mdf: cannot read {pipe}: nobody wrote to this pipe for 30 s; it is left out\n"),
        format!("mdf: cannot read {other}: nobody wrote to this pipe for 1 s; it is left out\n"),
    ] {
        assert!(both.stderr.contains(&said), "{}", both.stderr);
    }
}

#[test]
fn a_write_that_fails_names_its_file() {
    let folder = Folder::new();
    let output = folder.path("out.csv");
    let lines = [
        "ulimit -f 0; $MDF analyze $IN -t http -f csv -o {}",
        "ulimit -f 0; $MDF analyze $IN -f json -o {}",
        "ulimit -f 0; $MDF analyze $IN -t services -f csv -o {}",
    ];
    for line in lines {
        let line = line.replace("{}", &output.display().to_string());
        let failed = shell(&line, Path::new(CAPTURE)).expect_code(&[1]);
        let named = format!("cannot write {}: File too large", output.display());
        assert!(failed.stderr.contains(&named), "{line}: {}", failed.stderr);
    }
}

/// As `sudo` starts it for nobody: the folder is theirs, as the files in it.
#[test]
fn a_new_folder_of_results_belongs_to_who_called_sudo() {
    let folder = Folder::new();
    if folder.0.path().metadata().expect("a folder").uid() != 0 {
        // Only root can give files away.
        return;
    }
    let results = folder.path("deep/results");
    let analyze = |format: &str| {
        let mut analyze = mdf();
        analyze.env("SUDO_UID", "65534").env("SUDO_GID", "65534");
        run(analyze
            .args(["analyze", CAPTURE, "--format", format, "-o"])
            .arg(&results))
    };
    analyze("csv").expect_code(&[0]);
    for path in [folder.path("deep"), results.clone(), results.join("http.csv")] {
        let owner = path.metadata().expect("it was made");
        assert_eq!((owner.uid(), owner.gid()), (65534, 65534), "{}", path.display());
    }
    assert_eq!(
        folder.0.path().metadata().expect("a folder").uid(),
        0,
        "it was there before"
    );
}

#[test]
#[cfg(not(feature = "parquet"))]
fn a_format_that_is_refused_leaves_no_folder() {
    let folder = Folder::new();
    for format in ["parquet", "arrow"] {
        let refused = mdf_with(
            &["analyze", CAPTURE, "--format", format, "-o", "OUT"],
            &[("OUT", &folder.path("out"))],
        );
        assert_ne!(refused.status.code(), Some(0), "{format}");
        assert_eq!(folder.names(), [""; 0], "{format}: {}", refused.stderr);
    }
}
