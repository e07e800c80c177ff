//! The walls of the house (docs/ARCHITECTURE.md): which module may use which. Read from the `use` lines and the paths in the
//! sources, tests left out.

#![allow(clippy::expect_used, reason = "a test that panics has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The modules of the analyzer, lowest first: each may use those before it, and none after it.
const ANALYZE: &[&str] = &[
    // Small things that know nothing of captures.
    "ids",
    "errno",
    "template",
    "tasks",
    // Exchanges, rows, and the columns and counters that are made of them.
    "exchange",
    "row",
    "column",
    "stats",
    "table",
    // Bytes of a connection become exchanges; each protocol has columns of its own.
    "stream",
    "protocol",
    "catalog",
    "flow",
    // What is asked for, and what there is to know besides rows.
    "selection",
    "remarks",
    // Records become connections, and those become rows.
    "names",
    "nat",
    "orphans",
    "cross_host",
    "shard",
    "engine",
    // Where records come from.
    "prune",
    "import",
    "input",
    "packets",
    "progress",
    "same",
    "sources",
    // Rows are counted, are asked about, and leave.
    "report",
    "query",
    "output",
    // Commands.
    "live",
    "replay",
    "options",
    "plan",
    "results",
    "run",
];

/// The modules of the recorder, in the same way.
const RECORD: &[&str] = &[
    // What the system says and does, one call or one text each.
    "timens",
    "user",
    "sys",
    "procfs",
    "capabilities",
    "privilege",
    "kernelfs",
    "signals",
    "clock",
    // Which processes and cgroups there are, and which of them are chosen.
    "cgroup",
    "identity",
    "process_tree",
    "filter",
    "snapshot",
    // The kernel side.
    "loss",
    "source",
    // What the threads of a recording share.
    "counters",
    "queue",
    // From blocks to files and lines.
    "output",
    "flight_ring",
    "sink",
    "printer",
    // From events to blocks, with names for who is in them.
    "attribution",
    "lookup",
    "state",
    "drain",
    // The run.
    "child",
    "watch",
    "messages",
    "status",
    "doctor",
    "run",
];

/// Arrows that no module of the crate may have, by the first part of its path: `(from, to)`.
const FORBIDDEN: &[(&str, &str)] = &[
    ("record", "analyze"),
    ("analyze", "record"),
    ("pods", "record"),
    ("pods", "analyze"),
];

/// `(module, module it uses)`, each as the parts of its path, with the file.
type Arrow = (Vec<String>, Vec<String>, String);

/// Without comments and without the tests at the end of a file.
fn code(text: &str) -> String {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    let lines = text[..end].lines().map(|line| line.split("//").next().unwrap_or(""));
    lines.collect::<Vec<_>>().join("\n")
}

/// `a::{b, c::d}` as `a::b` and `a::c::d`.
fn expand(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((before, rest)) = tree.split_once('{') else {
        let path = tree.split_whitespace().next().unwrap_or("");
        return vec![path.trim_end_matches("::").to_string()];
    };
    let inner = rest.rsplit_once('}').map_or(rest, |(inner, _)| inner);
    let (mut parts, mut depth, mut from) = (Vec::new(), 0, 0);
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&inner[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&inner[from..]);
    let parts = parts.into_iter().filter(|part| !part.trim().is_empty());
    parts
        .flat_map(expand)
        .map(|part| format!("{before}{part}").replace("::self", ""))
        .collect()
}

/// All paths that begin at the crate or at a module above: those of `use` and those in the text.
fn paths(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = code;
    while let Some(at) = rest.find("use ") {
        let is_word = rest[..at]
            .chars()
            .next_back()
            .is_none_or(|c| !c.is_alphanumeric() && c != '_');
        rest = &rest[at + 4..];
        if !is_word {
            continue;
        }
        let Some((tree, after)) = rest.split_once(';') else {
            break;
        };
        found.extend(expand(tree));
        rest = after;
    }
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            let is_start = code[..at]
                .chars()
                .next_back()
                .is_none_or(|c| c != ':' && !c.is_alphanumeric());
            let path = code[at..].split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
            if is_start && let Some(path) = path.into_iter().next() {
                found.push(path.trim_end_matches(':').to_string());
            }
        }
    }
    found.retain(|path| path.starts_with("crate") || path.starts_with("super"));
    found
}

fn sources(folder: &Path, into: &mut Vec<(Vec<String>, String)>) {
    for entry in fs::read_dir(folder).expect("the folder is there").flatten() {
        let path = entry.path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        if name == "tests" {
            continue;
        }
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
            let module = path.strip_prefix(root).expect("below src").with_extension("");
            let mut module: Vec<String> = module.iter().map(|part| part.to_string_lossy().into_owned()).collect();
            module.retain(|part| part != "mod");
            into.push((module, fs::read_to_string(&path).expect("it can be read")));
        }
    }
}

fn arrows() -> Vec<Arrow> {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    assert!(files.len() > 100, "{} files", files.len());
    let mut arrows = Vec::new();
    for (module, text) in files {
        for path in paths(&code(&text)) {
            let mut to: Vec<String> = Vec::new();
            for part in path.split("::") {
                match part {
                    "crate" => to.clear(),
                    "super" if to.is_empty() => to = module[..module.len() - 1].to_vec(),
                    "super" => {
                        to.pop();
                    }
                    part => to.push(part.to_string()),
                }
            }
            arrows.push((module.clone(), to, path));
        }
    }
    arrows
}

/// Arrows between the children of a module, `(from, to)`, each with one path that makes it.
fn between_children<'a>(arrows: &'a [Arrow], parent: &[&str]) -> BTreeMap<(&'a str, &'a str), &'a str> {
    let child = |module: &'a [String]| {
        let is_below = module.len() > parent.len() && module.iter().zip(parent).all(|(part, of)| part == of);
        is_below.then(|| module[parent.len()].as_str())
    };
    let pairs = arrows.iter().filter_map(|(from, to, path)| {
        let (from, to) = (child(from)?, child(to)?);
        // Constants, types and macros that the parent itself has are no module.
        let is_module = !to.starts_with(char::is_uppercase);
        (from != to && is_module).then_some(((from, to), path.as_str()))
    });
    pairs.collect()
}

/// Each child of `parent` uses only those before it in `order`.
fn assert_order(parent: &str, order: &[&str]) {
    let arrows = arrows();
    let found = between_children(&arrows, &[parent]);
    assert!(found.len() > 50, "{found:?}");
    let place = |module: &str| {
        let place = order.iter().position(|other| *other == module);
        place.unwrap_or_else(|| panic!("{parent}/{module} has no place in the order of tests/walls.rs"))
    };
    for ((from, to), path) in found {
        assert!(
            place(to) < place(from),
            "{parent}/{from} must not use {parent}/{to}: {path}"
        );
    }
}

#[test]
fn the_recorder_and_the_analyzer_do_not_know_each_other_and_the_format_knows_nobody() {
    let arrows = arrows();
    let mut seen = BTreeSet::new();
    for (from, to, path) in &arrows {
        let (Some(from), Some(to)) = (from.first(), to.first()) else {
            continue;
        };
        seen.insert((from.as_str(), to.as_str()));
        assert!(
            !FORBIDDEN.contains(&(from.as_str(), to.as_str())),
            "{from} must not use {to}: {path}"
        );
        assert!(from != "format" || to == "format", "the format must not use {path}");
        assert!(
            from == "main" || to != "cli",
            "only main knows the command line: {from} uses {path}"
        );
    }
    // What is read is what is there.
    for arrow in [("record", "format"), ("analyze", "format"), ("analyze", "pods")] {
        assert!(seen.contains(&arrow), "{arrow:?}");
    }
}

#[test]
fn modules_of_the_analyzer_use_only_those_below_them() {
    assert_order("analyze", ANALYZE);
}

#[test]
fn modules_of_the_recorder_use_only_those_below_them() {
    assert_order("record", RECORD);
}

/// Nothing on a path of arrows leads back to where the path began.
#[test]
fn files_in_the_folders_of_the_recorder_form_no_circles() {
    let arrows = arrows();
    for folder in [
        &["record", "attribution"][..],
        &["record", "source"],
        &["record", "run"],
    ] {
        let mut left = between_children(&arrows, folder);
        assert!(!left.is_empty(), "{folder:?}");
        // Who uses nobody is in no circle, and is left out; until there is nobody, or only circles.
        loop {
            let users: BTreeSet<&str> = left.keys().map(|(from, _)| *from).collect();
            let before = left.len();
            left.retain(|(_, to), _| users.contains(to));
            if left.len() == before {
                break;
            }
        }
        assert!(left.is_empty(), "circles in {folder:?}: {left:?}");
    }
}

#[test]
fn no_source_of_the_recorder_knows_another() {
    let arrows = arrows();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/record/source");
    let is_source = |module: &str| folder.join(module).is_dir();
    let found = between_children(&arrows, &["record", "source"]);
    assert!(
        found.keys().filter(|(from, _)| is_source(from)).count() > 3,
        "{found:?}"
    );
    for ((from, to), path) in found {
        assert!(
            !(is_source(from) && is_source(to)),
            "source/{from} must not use source/{to}: {path}"
        );
    }
}

#[test]
fn use_trees_are_read() {
    let code = "use super::a::{self, b::{C, d as e}};\nuse std::fs;\nlet x = crate::f::g(super::h::I);";
    let found: BTreeSet<String> = paths(code).into_iter().collect();
    let wanted = [
        "crate::f::g",
        "super::a",
        "super::a::b::C",
        "super::a::b::d",
        "super::h::I",
    ];
    assert_eq!(found, wanted.map(str::to_string).into());
}
