//! What the documents say is so.

#![allow(clippy::expect_used, reason = "a test that panics has failed")]
#![cfg(all(feature = "record", feature = "analyze"))]

use std::fs;
use std::path::{Path, PathBuf};

use support::{mdf, run};

mod support;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The documents for readers, each with the folder that its links start from.
fn documents() -> Vec<PathBuf> {
    let docs = fs::read_dir(root().join("docs")).expect("docs is there");
    let mut found: Vec<PathBuf> = docs.flatten().map(|entry| entry.path()).collect();
    found.push(root().join("README.md"));
    assert!(found.len() > 5);
    found
}

/// What stands between backquotes on one line.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

#[test]
fn links_lead_somewhere() {
    let mut count = 0;
    for document in documents() {
        let text = read(&document);
        let folder = document.parent().expect("it is in a folder");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            assert!(
                link.starts_with("https://") || folder.join(link).exists(),
                "{}: {link}",
                document.display()
            );
            count += 1;
        }
        let readme = read("README.md");
        let name = document
            .strip_prefix(root())
            .expect("it is in the repository")
            .display();
        assert!(
            document.ends_with("README.md") || readme.contains(&format!("]({name})")),
            "the README does not name {name}"
        );
    }
    assert!(count > 10, "{count} links");
}

#[test]
fn the_readme_is_short_and_its_samples_are_what_the_program_prints() {
    let readme = read("README.md");
    assert!(readme.lines().count() <= 150, "{} lines", readme.lines().count());
    let command = |words: &[&str]| run(mdf().current_dir(root()).args(words)).expect_code(&[0]).stdout;
    let capture = "fixtures/nginx-curl.mdf";
    let printed = command(&["analyze", capture]) + &command(&["replay", capture]);
    let printed: Vec<&str> = printed.lines().map(str::trim_end).collect();
    let samples = readme
        .split("```text\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next());
    let lines: Vec<&str> = samples.flat_map(str::lines).filter(|line| !line.is_empty()).collect();
    assert!(lines.len() > 15, "{lines:#?}");
    for line in lines {
        assert!(printed.contains(&line.trim_end()), "not printed: {line}");
    }
}

/// The modules in a folder: files and folders with code.
fn modules(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(folder))
        .expect("the folder is there")
        .flatten();
    let names = entries.filter_map(|entry| {
        let path = entry.path();
        let is_code = path.extension().is_some_and(|extension| extension == "rs") || path.join("mod.rs").exists();
        Some(path.file_stem()?.to_string_lossy().into_owned()).filter(|_| is_code)
    });
    names
        .filter(|name| !["mod", "lib", "tests", "record", "analyze"].contains(&name.as_str()))
        .collect()
}

#[test]
fn the_architecture_names_each_module_and_what_it_names_is_there() {
    let text = read("docs/ARCHITECTURE.md");
    let names: Vec<&str> = quoted(&text).collect();
    for folder in ["src", "src/record", "src/analyze"] {
        for module in modules(folder) {
            assert!(names.contains(&module.as_str()), "{folder}/{module} is not in the map");
        }
    }
    let is_path = |name: &&&str| ["src/", "bpf/", "tests/"].iter().any(|start| name.starts_with(start));
    let paths: Vec<&str> = names.iter().filter(is_path).copied().collect();
    assert!(paths.len() > 30, "{paths:?}");
    for path in paths {
        assert!(path == "bpf/*.h" || root().join(path).exists(), "{path} is not there");
    }
    // In the table of steps, a function stands behind its file.
    let mut functions = 0;
    for line in text.lines().filter(|line| line.starts_with("| ")) {
        let mut file = String::new();
        for name in quoted(line) {
            if name.ends_with(".rs") {
                file = read(name);
            } else if !file.is_empty() && !name.contains('/') {
                assert!(
                    file.contains(&format!("fn {name}")),
                    "{name} is not in its file: {line}"
                );
                functions += 1;
            }
        }
    }
    assert!(functions > 10, "{functions} functions");
}
