//! What a user types before having read anything.
#![allow(clippy::expect_used, reason = "a test that panics has failed")]

mod support;

use support::{mdf, run};

#[test]
fn help_is_given_wherever_it_is_looked_for() {
    let expected = run(mdf().arg("--help")).expect_code(&[0]).stdout;
    assert_eq!(run(mdf().arg("help")).expect_code(&[0]).stdout, expected);
    let expected = run(mdf().args(["analyze", "--help"])).expect_code(&[0]).stdout;
    for line in [["help", "analyze"], ["help", "analyse"], ["analyse", "--help"]] {
        assert_eq!(run(mdf().args(line)).expect_code(&[0]).stdout, expected, "{line:?}");
    }
}

#[cfg(feature = "analyze")]
#[test]
fn analyse_is_analyze() {
    let report = |command: &str| run(mdf().args([command, "fixtures/tiny.mdf"])).expect_code(&[0]).stdout;
    assert_eq!(report("analyse"), report("analyze"));
}

#[cfg(feature = "analyze")]
#[test]
fn more_threads_than_are_of_use_are_refused() {
    let analyze = vec!["analyze", "fixtures/tiny.mdf"];
    let diff = vec!["diff", "fixtures/tiny.mdf", "fixtures/tiny.mdf"];
    for words in [analyze, diff] {
        let with = |threads: &str| run(mdf().args(&words).args(["--threads", threads]));
        let expected = run(mdf().args(&words)).expect_code(&[0]).stdout;
        for most in ["1", "64"] {
            assert_eq!(with(most).expect_code(&[0]).stdout, expected);
        }
        for other in ["0", "65", "5000", "65536", "many"] {
            let refused = with(other).expect_code(&[2]);
            assert!(refused.stdout.is_empty());
            let names_largest = refused.stderr.contains(&format!("{other} is not in 1..=64"));
            assert!(names_largest || other == "many", "{}", refused.stderr);
        }
    }
}

#[test]
fn lines_of_examples_are_lines_of_the_manual() {
    for command in ["", "record", "analyze", "diff"] {
        let words: Vec<&str> = ["man", command].into_iter().filter(|word| !word.is_empty()).collect();
        let help: Vec<&str> = [command, "--help"]
            .into_iter()
            .filter(|word| !word.is_empty())
            .collect();
        let page = run(mdf().args(&words)).expect_code(&[0]).stdout;
        // groff's escapes of what stands in examples.
        let page = page.replace("\\-", "-").replace("\\*(Aq", "'").replace("\\e", "\\");
        let notes = page.split("\n.nf\n").nth(1).and_then(|rest| rest.split("\n.fi").next());
        let notes = notes.unwrap_or_else(|| panic!("{page}"));
        // As wide as it is written.
        let help = run(mdf().args(&help).env("COLUMNS", "1000")).expect_code(&[0]).stdout;
        let (_, examples) = help.split_once("Examples:\n").expect("there are examples");
        let example = examples.lines().next().expect("an example");
        assert!(notes.lines().any(|line| line == example), "{example}\n{notes}");
        assert_eq!(notes.lines().filter(|line| line.starts_with("  ")).count(), {
            examples.lines().filter(|line| line.starts_with("  ")).count()
        });
    }
    let page = run(mdf().args(["man", "analyse"])).expect_code(&[0]).stdout;
    assert!(page.contains(".TH MDF-ANALYZE"), "{page}");
}

#[test]
fn every_command_has_a_page_and_help_has_none() {
    let folder = tempfile::tempdir().expect("a folder");
    run(mdf().args(["man", "-o"]).arg(folder.path())).expect_code(&[0]);
    let pages = std::fs::read_dir(folder.path()).expect("the folder is there");
    let mut pages: Vec<String> = pages
        .map(|page| page.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    pages.sort();
    let commands = [
        "analyze",
        "completions",
        "diff",
        "doctor",
        "import",
        "info",
        "man",
        "record",
        "replay",
    ];
    let expected: Vec<String> = std::iter::once("mdf.1".to_string())
        .chain(commands.map(|command| format!("mdf-{command}.1")))
        .collect();
    let mut expected = expected;
    expected.sort();
    assert_eq!(pages, expected);
}
