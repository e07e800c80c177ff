//! Where the output goes changes nothing about the verdict: the exit code is the same when nobody reads standard output, and
//! what cannot be written is an error in words.

use std::process::{Command, Stdio};

use masdeepflow::format::{Header, Reader, Writer};

use super::support::{Finished, mdf, mdf_path, run};
use super::{Path, synth};

/// Runs it with a standard output that nobody reads.
fn unread(command: &mut Command) -> Finished {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = command
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(Stdio::piped())
        .output()
        .expect("mdf starts");
    Finished {
        status: output.status,
        stdout: String::new(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[test]
#[cfg_attr(not(feature = "parquet"), ignore = "writes Parquet")]
fn a_verdict_needs_nobody_who_reads_standard_output() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    synth(&path("few.mdf"), &["http", "-n", "20000"]);
    synth(&path("many.mdf"), &["http", "-n", "30000"]);
    synth(&path("holes.mdf"), &["http", "-n", "20000", "--holes-ppm", "300"]);
    let whole = std::fs::read(path("few.mdf")).expect("it was written");
    std::fs::write(path("cut.mdf"), &whole[..whole.len() / 2]).expect("the folder can be written");
    for (code, words) in [
        (1, &["diff", "few.mdf", "many.mdf", "--fail-if", "count>+10%"][..]),
        (0, &["diff", "few.mdf", "many.mdf"]),
        (3, &["info", "holes.mdf"]),
        (3, &["analyze", "holes.mdf"]),
        (3, &["analyze", "holes.mdf", "--format", "json"]),
        (3, &["analyze", "holes.mdf", "--table", "http", "--format", "csv"]),
        (3, &["analyze", "holes.mdf", "--table", "http", "--format", "parquet"]),
        (3, &["analyze", "cut.mdf", "--table", "http"]),
        (3, &["analyze", "cut.mdf", "--table", "endpoints"]),
        (3, &["replay", "cut.mdf"]),
        (0, &["info", "few.mdf"]),
        (0, &["analyze", "few.mdf", "--table", "http", "--format", "parquet"]),
        (0, &["replay", "few.mdf"]),
        (0, &["man"]),
    ] {
        let command = || {
            let mut command = mdf();
            command.current_dir(folder.path()).args(words);
            command
        };
        assert_eq!(
            command()
                .stdout(Stdio::null())
                .output()
                .expect("mdf starts")
                .status
                .code(),
            Some(code)
        );
        let unread = unread(&mut command());
        assert_eq!(unread.code(), code, "{words:?}: {}", unread.stderr);
        assert!(!unread.stderr.contains("roken pipe"), "{words:?}: {}", unread.stderr);
    }
}

#[test]
#[cfg_attr(not(feature = "parquet"), ignore = "writes Parquet")]
fn a_file_at_the_limit_of_its_size_is_an_error_in_words() {
    let folder = tempfile::tempdir().expect("a folder");
    let capture = folder.path().join("cap.mdf");
    synth(&capture, &["http", "-n", "20000", "--ends", "client"]);
    let limited = |script: &str, name: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -c 0; ulimit -f 64; {script}"), "sh"]);
        command.arg(mdf_path()).arg(&capture).arg(folder.path().join(name));
        let finished = run(&mut command).expect_code(&[1]);
        assert!(finished.stderr.contains("File too large"), "{}", finished.stderr);
    };
    limited("exec \"$1\" analyze \"$2\" --table http -o \"$3\"", "http.csv");
    limited("exec \"$1\" analyze \"$2\" --table http -o \"$3\"", "http.parquet");
    limited(
        "exec \"$1\" analyze \"$2\" --table http --format ndjson >\"$3\"",
        "http.ndjson",
    );
    limited("exec \"$1\" replay \"$2\" >\"$3\"", "lines");
}

#[test]
#[cfg_attr(not(feature = "parquet"), ignore = "writes Parquet")]
fn what_was_typed_behind_the_dashes_is_in_no_result() {
    let folder = tempfile::tempdir().expect("a folder");
    let capture = folder.path().join("cap.mdf");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tiny.mdf");
    let fixture = std::fs::read(fixture).expect("the fixture is there");
    let header = Header {
        command_line: "mdf record -o cap.mdf -- mysql -pSECRET shop".to_owned(),
        ..Reader::open(&fixture).expect("it is a capture").header().clone()
    };
    let file = std::fs::File::create(&capture).expect("the folder can be written");
    Writer::new(file, &header, 1)
        .and_then(Writer::finish)
        .expect("the folder can be written");

    let of = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    for (table, format) in [
        ("capture", "csv"),
        ("capture", "json"),
        ("capture", "parquet"),
        ("mysql", "parquet"),
        ("connections", "arrow"),
    ] {
        let result = folder.path().join(format!("{table}.{format}"));
        run(mdf()
            .arg("analyze")
            .arg(&capture)
            .args(["--table", table, "-o"])
            .arg(&result))
        .expect_code(&[0]);
        let bytes = std::fs::read(&result).expect("it was written");
        assert!(!of(&bytes, "SECRET"), "{table}.{format}");
        assert!(of(&bytes, "-- mysql"), "{table}.{format} has the command's name");
    }
    let report = run(mdf().arg("analyze").arg(&capture)).expect_code(&[0]).stdout;
    assert!(!report.contains("SECRET"), "{report}");
}
