//! The kept inputs of the fuzz targets, through the same targets: what fuzzing found once stays found, in every run of
//! the tests. Then each input cut off and with a damaged byte, at a number of places: a short run without a fuzzer, the same
//! every time. `make fuzz` searches on.
#![cfg(feature = "analyze")]
#![allow(clippy::expect_used, reason = "a test that panics has failed")]
#![allow(clippy::duplicate_mod, reason = "targets are crates of their own, and share a file")]

// The targets ask for `libfuzzer_sys::fuzz_target`. Here that is this crate, and a target becomes a function.
extern crate self as libfuzzer_sys;

#[macro_export]
macro_rules! fuzz_target {
    (init: $init:expr, |$bytes:ident: &[u8]| $body:expr) => {
        fuzz_target!(|$bytes: &[u8]| $body);
        /// What a fuzzer calls first.
        pub fn init() {
            $init
        }
    };
    (|$bytes:ident: &[u8]| $body:expr) => {
        /// The target.
        pub fn target($bytes: &[u8]) {
            $body
        }
    };
}

/// Targets are crates of their own: they have attributes and functions that a module has no use for.
macro_rules! targets {
    ($($name:ident: $path:literal),*) => {
        $(
            #[allow(dead_code, unused_attributes, unused_imports)]
            #[path = $path]
            mod $name;

            #[test]
            fn $name() {
                replay(stringify!($name), $name::target);
            }
        )*
    };
}

targets! {
    http: "../fuzz/fuzz_targets/http.rs",
    mysql: "../fuzz/fuzz_targets/mysql.rs",
    memcached: "../fuzz/fuzz_targets/memcached.rs",
    protocols: "../fuzz/fuzz_targets/protocols.rs",
    import: "../fuzz/fuzz_targets/import.rs",
    reader: "../fuzz/fuzz_targets/reader.rs",
    pipeline: "../fuzz/fuzz_targets/pipeline.rs"
}

fn replay(target: &str, run: fn(&[u8])) {
    let inputs = kept(target);
    assert!(inputs.len() >= 20, "{target}: {}", inputs.len());
    for (name, bytes) in inputs {
        println!("{name}");
        run(&bytes);
    }
}

/// The kept inputs of a target, and their names.
fn kept(target: &str) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(format!("fuzz/corpus/{target}")).expect("a kept corpus");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let read = |path: std::path::PathBuf| (path.display().to_string(), std::fs::read(&path).expect("a kept input"));
    paths.map(read).collect()
}

/// In how many places an input is cut and damaged; as evenly spread as its length allows.
const PLACES: usize = 64;

fn damage(target: &str, run: fn(&[u8])) {
    for (name, bytes) in kept(target) {
        for at in (0..bytes.len()).step_by(bytes.len().div_ceil(PLACES).max(1)) {
            // Printed where the run fails.
            println!("{name}: cut off at {at}");
            run(&bytes[..at]);
            // One bit, so that numbers become a little wrong; all, so that they become huge.
            for flip in [1 << (at % 8), 0xff] {
                println!("{name}: byte {at} xor {flip:#x}");
                let mut damaged = bytes.clone();
                damaged[at] ^= flip;
                run(&damaged);
            }
        }
    }
}

#[test]
fn http_damaged() {
    damage("http", http::target);
}

#[test]
fn mysql_damaged() {
    damage("mysql", mysql::target);
}

#[test]
fn memcached_damaged() {
    damage("memcached", memcached::target);
}

#[test]
fn protocols_damaged() {
    damage("protocols", protocols::target);
}

#[test]
fn import_damaged() {
    damage("import", import::target);
}

#[test]
fn reader_damaged() {
    damage("reader", reader::target);
}

#[test]
fn pipeline_damaged() {
    damage("pipeline", pipeline::target);
}
