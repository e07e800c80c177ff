//! DuckDB, pandas, pyarrow and polars read what is written, and find the numbers that the report has.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::support::{not_run, run, run_within};
use super::{analyze, synth};

const PACKAGES: [&str; 4] = ["duckdb", "pandas", "pyarrow", "polars"];

/// A Python with the readers, made once in target/tmp; what is missing in words when it cannot be made.
fn python() -> Result<PathBuf, String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("readers");
    let python = folder.join("bin/python");
    let imports = PACKAGES.map(|package| format!("import {package}")).join("; ");
    let works = || python.exists() && run(Command::new(&python).args(["-c", &imports])).status.success();
    if works() {
        return Ok(python);
    }
    let minutes = Duration::from_secs(900);
    let made = run_within(
        Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder),
        minutes,
    );
    if !made.status.success() {
        return Err(format!("python3 -m venv failed: {}", made.stdout.trim()));
    }
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "-q", "--disable-pip-version-check"])
        .args(PACKAGES);
    let installed = run_within(&mut pip, minutes);
    match installed.status.success() {
        true => Ok(python),
        false => Err(format!(
            "pip cannot install {}: {}",
            PACKAGES.join(", "),
            installed.stderr.trim()
        )),
    }
}

#[test]
#[cfg_attr(not(feature = "parquet"), ignore = "writes Parquet")]
fn other_programs_read_the_numbers_of_the_report() {
    let what = "Parquet and Arrow files in DuckDB, pandas, pyarrow and polars";
    let python = match python() {
        Ok(python) => python,
        Err(why) => return not_run(what, &why),
    };
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("the path is text").to_owned();
    let capture = folder.path().join("cap.mdf");
    synth(
        &capture,
        &[
            "mixed",
            "-n",
            "140000",
            "-c",
            "80",
            "--per-connection",
            "60",
            "--holes-ppm",
            "100",
        ],
    );
    analyze(&capture, &["--format", "parquet", "-o", &path("dir")]);
    analyze(&capture, &["--format", "arrow", "-o", &path("arrow")]);
    analyze(&capture, &["--format", "json", "-o", &path("report.json")]);
    for table in ["endpoints", "digests"] {
        let name = path(&format!("{table}.json"));
        analyze(&capture, &["--table", table, "--format", "json", "-o", &name]);
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut check = Command::new(python);
    check
        .arg(here.join("tests/tables/readers.py"))
        .arg(here.join("docs/TABLES.md"));
    let checked = run_within(check.current_dir(folder.path()), Duration::from_secs(300)).expect_code(&[0]);
    assert!(checked.stdout.ends_with("all the same\n"), "{}", checked.stdout);
}
