//! Tables of whole captures, from the command line to files: order, threads, and what other programs read in them.
//! The captures are synthetic, so the right numbers are known.
#![cfg(all(feature = "analyze", feature = "record"))]
#![allow(clippy::expect_used, reason = "a test that panics has failed")]

#[path = "../support/mod.rs"]
mod support;

mod holes;
mod order;
mod outputs;
mod progress;
mod readers;
mod selection;

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use support::{mdf, run, traffic_gen_path};

/// Writes a capture and returns what it holds.
fn synth(file: &Path, options: &[&str]) -> Value {
    let mut command = Command::new(traffic_gen_path());
    command.arg("synth").args(options).arg("-o").arg(file);
    let said = run(&mut command).expect_code(&[0]).stdout;
    serde_json::from_str(&said).expect("the report is JSON")
}

/// `mdf analyze` of a file, which must succeed; returns standard output.
fn analyze(file: &Path, options: &[&str]) -> String {
    let mut command = mdf();
    command.arg("analyze").arg(file).args(options);
    run(&mut command).expect_code(&[0, 3]).stdout
}
