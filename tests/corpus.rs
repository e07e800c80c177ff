//! The kept inputs of the fuzz targets, through the same targets: what fuzzing found once stays found, in every run of
//! the tests.
#![cfg(feature = "analyze")]
#![allow(clippy::expect_used, reason = "a test that panics has failed")]

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
    import: "../fuzz/fuzz_targets/import.rs",
    reader: "../fuzz/fuzz_targets/reader.rs",
    pipeline: "../fuzz/fuzz_targets/pipeline.rs"
}

fn replay(target: &str, run: fn(&[u8])) {
    let folder = format!("fuzz/corpus/{target}");
    let mut files = 0;
    for entry in std::fs::read_dir(&folder).expect("a kept corpus") {
        let path = entry.expect("an entry").path();
        println!("{}", path.display());
        run(&std::fs::read(&path).expect("a kept input"));
        files += 1;
    }
    assert!(files >= 20, "{folder}: {files}");
}
