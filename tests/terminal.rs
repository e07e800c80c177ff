//! Text that means harm: whatever stands in a capture, or in the name of a file, what people are shown cannot steer their
//! terminal.
#![cfg(feature = "analyze")]
#![allow(clippy::expect_used, reason = "a test that panics has failed")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use masdeepflow::escape::is_harmful;
use masdeepflow::format::record::Record;
use support::captures::{self, Place};
use support::packets::{Pcap, RAW_IP, Talk};
use support::{mdf, mdf_path, run};

/// Sets the title, clears the screen, a C1 sequence, and turns the direction of text.
const HARM: &str = "\x1b]0;owned\x07\x1b[2J\u{9b}31m\u{202e}\u{2066}\u{200f}\u{2028}";

/// A packet capture with harm in path, host and content type.
fn packets(folder: &Path) -> PathBuf {
    let path = folder.join(format!("packets{HARM}.pcap"));
    let mut pcap = Pcap::create(&path, RAW_IP);
    let mut talk = Talk::open(&mut pcap, 40_000, 80);
    talk.say(0, format!("GET /a{HARM} HTTP/1.1\r\nHost: h{HARM}\r\n\r\n").as_bytes());
    let answer = format!("HTTP/1.1 500 X\r\nContent-Type: t/{HARM}\r\nContent-Length: 2\r\n\r\nok");
    talk.say(1, answer.as_bytes());
    talk.close();
    pcap.finish();
    path
}

/// A capture with harm in the names and arguments of processes.
fn processes(folder: &Path) -> PathBuf {
    static ARGV: &str = "sh\0-c\0\x1b[2J\u{202e}\r\n\0";
    let path = folder.join(format!("processes{HARM}.mdf"));
    captures::edit(Path::new("fixtures/tiny.mdf"), &path, |record| {
        if let Record::Process(process) = record {
            (process.comm, process.argv) = ("evil\x1b\u{202e}".as_bytes(), ARGV.as_bytes());
        }
        Place::Here
    });
    path
}

/// What a command shows people, on a terminal and in a pipe.
fn shown(arguments: &[&str]) -> [String; 2] {
    let piped = run(mdf().args(arguments));
    // script(1) gives its command a terminal.
    let words: String = (0..arguments.len()).map(|n| format!(" \"$A{n}\"")).collect();
    let mut terminal = Command::new("script");
    terminal.args(["-qec", &format!("\"$MDF\"{words}"), "/dev/null"]);
    terminal
        .env("MDF", mdf_path())
        .env("NO_COLOR", "1")
        .env("SHELL", "/bin/sh");
    for (n, word) in arguments.iter().enumerate() {
        terminal.env(format!("A{n}"), word);
    }
    let terminal = run(&mut terminal).stdout.replace("\r\n", "\n");
    [terminal, piped.stdout + &piped.stderr]
}

fn harm_in(text: &str) -> Vec<char> {
    text.chars().filter(|c| is_harmful(*c) && *c != '\n').collect()
}

#[test]
fn nothing_that_people_are_shown_steers_their_terminal() {
    let folder = tempfile::tempdir().expect("a folder");
    let (packets, processes) = (packets(folder.path()), processes(folder.path()));
    let (p, c) = (packets.to_str().expect("text"), processes.to_str().expect("text"));
    let commands: [&[&str]; 12] = [
        &["analyze", p, "--no-progress"],
        &["analyze", p, "--table", "http", "--columns", "*"],
        &["analyze", p, "--table", "http", "--format", "ndjson"],
        &["analyze", p, "--table", "endpoints", "--no-progress"],
        &["analyze", p, "--group-by", "path", "--no-progress"],
        &["analyze", c, "--no-progress"],
        &["analyze", c, "--table", "processes", "--columns", "*", "--no-progress"],
        &["analyze", c, "--format", "json", "--no-progress"],
        &["replay", c],
        &["info", c, c],
        &["info", c, "--json"],
        &["diff", p, p, "--no-progress"],
    ];
    for command in commands {
        for text in shown(command) {
            assert!(text.len() > 50, "{command:?}: {text}");
            assert_eq!(harm_in(&text), [], "{command:?}: {text}");
        }
    }
}

#[test]
fn csv_is_escaped_on_a_terminal_and_as_captured_elsewhere() {
    let folder = tempfile::tempdir().expect("a folder");
    let packets = packets(folder.path());
    let file = packets.to_str().expect("text");
    let [terminal, piped] = shown(&[
        "analyze",
        file,
        "--table",
        "http",
        "--columns",
        "path",
        "--format",
        "csv",
    ]);
    assert_eq!(harm_in(&terminal), [], "{terminal}");
    assert!(terminal.contains("\\x1b[2J\\x9b31m\\u{202e}"), "{terminal}");
    assert_eq!(piped, format!("path\n/a{HARM}\n"));
}

#[test]
fn a_name_in_an_error_message_does_not_steer_the_terminal() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join(format!("no{HARM}\nmdf: all is well"));
    let name = missing.to_str().expect("text");
    let expression = format!("path = '{HARM}");
    let commands: [&[&str]; 8] = [
        &["analyze", name],
        &["info", name],
        &["replay", name],
        &["diff", name, name],
        &["import", name, "-o", "/nowhere/x.mdf"],
        &["analyze", "fixtures/tiny.mdf", "--table", "http", "-o", name],
        &[
            "analyze",
            "fixtures/tiny.mdf",
            "--table",
            "http",
            "--where",
            &expression,
        ],
        &["analyze", &format!("--{HARM}")],
    ];
    for command in commands {
        for text in shown(command) {
            assert!(text.contains("\\x9b31m\\u{202e}"), "{command:?}: {text}");
            assert_eq!(harm_in(&text), [], "{command:?}: {text}");
            assert!(!text.contains("\nmdf: all"), "{command:?}: {text}");
        }
    }
}

#[test]
fn live_lines_show_where_each_argument_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("cap.mdf");
    captures::edit(Path::new("fixtures/tiny.mdf"), &path, |record| {
        if let Record::Process(process) = record {
            process.argv = b"echo\0hello world\0hello\0world\0\0";
        }
        Place::Here
    });
    let lines = run(mdf().arg("replay").arg(&path)).expect_code(&[0]).stdout;
    assert!(lines.contains(" echo 'hello world' hello world ''\n"), "{lines}");
}
