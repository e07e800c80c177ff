//! Compiles bpf/ for the target's architecture; only with the feature `record`.

fn main() {
    #[cfg(feature = "record")]
    probe::build();
}

#[cfg(feature = "record")]
mod probe {
    use std::env;
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
    }
}
