//! Compiles bpf/ for the target's architecture; only with the feature `record`.
#![allow(clippy::expect_used, reason = "a build that cannot go on says why")]

use std::path::Path;
use std::process::Command;

fn main() {
    link_small();
    #[cfg(feature = "record")]
    probe::build();
    version();
}

/// What `--version` says behind the number: the commit, if this is a checkout, and what is built in.
fn version() {
    let mut parts = Vec::new();
    if let Some(commit) = commit() {
        parts.push(commit);
    }
    if cfg!(feature = "record") {
        parts.push("record: fexit socktp kprobe systp".to_string());
    }
    if cfg!(feature = "analyze") {
        parts.push("analyze".to_string());
    }
    if cfg!(feature = "parquet") {
        parts.push("parquet".to_string());
    }
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-env=MDF_BUILD= ({})", parts.join(", "));
}

/// The commit of this checkout; nothing in a source archive, also in one that lies inside another checkout.
fn commit() -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_string())
    };
    let top = git(&["rev-parse", "--show-toplevel"])?;
    let here = Path::new(&std::env::var_os("CARGO_MANIFEST_DIR")?)
        .canonicalize()
        .ok()?;
    if Path::new(&top).canonicalize().ok()? != here {
        return None;
    }
    // Changes with each commit and checkout.
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    if Path::new(&log).exists() {
        println!("cargo::rerun-if-changed={log}");
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

#[cfg(feature = "record")]
mod probe {
    use std::env;
    use std::fs;
    use std::path::PathBuf;

    use libbpf_cargo::SkeletonBuilder;

    pub fn build() {
        // A folder stands for every file in it.
        println!("cargo::rerun-if-changed=bpf");
        let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("probe.bpf.o");
        let arch = match env::var("CARGO_CFG_TARGET_ARCH")
            .expect("cargo sets the architecture")
            .as_str()
        {
            "x86_64" => "x86",
            "aarch64" => "arm64",
            other => panic!("the recorder does not know {other}; build with --no-default-features --features analyze"),
        };
        let built = SkeletonBuilder::new()
            .source("bpf/probe.bpf.c")
            .obj(&out)
            .clang_args([
                "-mcpu=v3".to_string(),
                "-Wall".to_string(),
                "-Werror".to_string(),
                format!("-D__TARGET_ARCH_{arch}"),
            ])
            .build();
        if let Err(error) = built {
            eprintln!("bpf/probe.bpf.c does not compile (Debian and Ubuntu: apt install clang libelf-dev): {error:#}");
            std::process::exit(1);
        }
        // To a tenth: its programs are much alike.
        let object = fs::read(&out).expect("the object was just made");
        let packed = zstd::encode_all(object.as_slice(), 19).expect("memory");
        fs::write(out.with_extension("o.zst"), packed).expect("OUT_DIR can be written");
    }
}

/// A static binary relocates itself at its start; packed, the list is a megabyte smaller. A binary that is linked
/// dynamically would need a glibc of 2.36 for it.
fn link_small() {
    let is_static = std::env::var("CARGO_CFG_TARGET_FEATURE")
        .is_ok_and(|features| features.split(',').any(|feature| feature == "crt-static"));
    if is_static {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
        if links_with_lld() {
            // Functions that came out the same are kept once.
            println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
        }
    }
}

/// Rust links programs for x86-64 Linux with lld since 1.90.
fn links_with_lld() -> bool {
    let version = std::env::var_os("RUSTC").and_then(|rustc| Command::new(rustc).arg("--version").output().ok());
    let minor = version.and_then(|output| {
        let text = String::from_utf8(output.stdout).ok()?;
        text.split('.').nth(1)?.parse::<u32>().ok()
    });
    std::env::var("TARGET").is_ok_and(|target| target == "x86_64-unknown-linux-gnu") && minor >= Some(90)
}
