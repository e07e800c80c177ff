//! The bar that tells how far an analysis is: for people at a terminal, never for programs.

use std::process::Command;

use super::support::mdf_path;
use super::{mdf, run, synth};

#[test]
fn the_bar_is_shown_on_a_terminal_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let capture = folder.path().join("cap.mdf");
    synth(&capture, &["http", "-n", "20000"]);
    let words = ["analyze", capture.to_str().expect("text"), "--table", "endpoints"];

    let piped = run(mdf().args(words)).expect_code(&[0]);
    assert_eq!(piped.stderr, "");

    // script(1) gives its command a terminal.
    let line = format!("{} {}", mdf_path().display(), words.join(" "));
    let mut script = Command::new("script");
    // It is a bar on terminals that can move back in their line.
    script.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm");
    let shown = run(script.env_remove("NO_COLOR")).expect_code(&[0]);
    let bar = shown.stdout.lines().next().unwrap_or_default();
    for part in [" 0 %", "B/s", "left", "\x1b[2K"] {
        assert!(bar.contains(part), "{part} is missing in {bar:?}");
    }
    assert!(shown.stdout.contains("/shop/"), "{}", shown.stdout);
}
