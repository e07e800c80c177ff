# What there is to do here. `make demo` and `make test` set up a fresh Debian or Ubuntu machine by themselves.

.DELETE_ON_ERROR:
.PHONY: demo test test-kernels bench-record bench-analyze fuzz lint release fixtures analyze-only help

TRIPLE := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
MULTIARCH := $(shell cc -print-multiarch 2>/dev/null)
DEBUG := target/debug
RELEASE := target/$(TRIPLE)/release/mdf
# What the static release binary may have, bytes.
SIZE_LIMIT := 16000000
# How long each fuzz target runs, seconds.
FUZZ_SECONDS ?= 600

help:
	@echo 'make demo           record a bundled workload live and analyse it (root), or analyse a fixture'
	@echo 'make test           all tests; those that record live need root'
	@echo 'make test-kernels   the recorder on Debian kernels from 5.10 to the newest, in virtual machines'
	@echo 'make bench-record   what recording costs'
	@echo 'make bench-analyze  how fast analysis is'
	@echo 'make fuzz           every fuzz target for FUZZ_SECONDS ($(FUZZ_SECONDS))'
	@echo 'make lint           rustfmt, clippy, and the kernel side compiled for arm64'
	@echo 'make release        the static binary'
	@echo 'make fixtures       record the fixtures again (root)'

# The demonstration uses a development build without Parquet, which is ready in minutes; what it prints last is how to get all.
demo:
	@.ci/packages build
	cargo build --no-default-features --features record,analyze --bin mdf --example traffic_gen
	@.ci/demo

test:
	@.ci/packages build test
	@.ci/test

# The very binary that is given away. With the development build: tests/kernels/run
test-kernels: release
	@.ci/packages kernels
	RUSTFLAGS='-C target-feature=+crt-static' cargo build --target $(TRIPLE) --no-default-features --example traffic_gen
	@MDF=$(RELEASE) TRAFFIC_GEN=target/$(TRIPLE)/debug/examples/traffic_gen tests/kernels/run

bench-record: release
	@.ci/packages bench
	@bench/record

bench-analyze: release
	@.ci/packages bench
	@bench/analyze
	@bench/analyze --large

# What is found goes to fuzz/target/corpus, and begins with what is kept in fuzz/corpus.
fuzz:
	@cd fuzz && for target in $$(sed -n 's/^name = "\(.*\)"/\1/p' Cargo.toml | tail -n +2); do \
		echo "== $$target"; \
		mkdir -p target/corpus/$$target; \
		RUSTC_BOOTSTRAP=1 cargo fuzz run --features analyze $$target target/corpus/$$target corpus/$$target -- \
			-max_total_time=$(FUZZ_SECONDS) || exit 1; \
	done

# A build compiles the kernel side for its own target only; here it is compiled for the other one too, by the flags and with
# the libbpf headers of the build.
lint:
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	clang -target bpf -g -O2 -mcpu=v3 -Wall -Werror -D__TARGET_ARCH_arm64 -c bpf/probe.bpf.c -o $(DEBUG)/probe-arm64.bpf.o \
		-I "$$(find $(DEBUG)/build -path '*/libbpf-sys-*/out/include' -print -quit)"

# Without clang in the way: captures are read far from where they are made.
analyze-only:
	@mkdir -p target/no-clang
	@printf '#!/bin/sh\necho "clang is not to be used here" >&2\nexit 1\n' >target/no-clang/clang
	@chmod +x target/no-clang/clang
	PATH="$(CURDIR)/target/no-clang:$$PATH" cargo build --no-default-features --features analyze

# --target is given so that the flags do not reach procedural macros, which cannot be static. Since Rust 1.92 unwind tables are
# made for backtraces even where nothing unwinds. Symbols stay until the sizes of the crates are printed.
release:
	@.ci/packages build
	LIBBPF_SYS_LIBRARY_PATH_$(subst -,_,$(TRIPLE))=/usr/lib/$(MULTIARCH) CARGO_PROFILE_RELEASE_STRIP=debuginfo \
		RUSTFLAGS='-C target-feature=+crt-static -C force-unwind-tables=no' \
		cargo build --release --target $(TRIPLE) --features libbpf-rs/static --bin mdf
	@echo 'what the ten largest crates take, bytes and share of all symbols:'
	@.ci/crate-sizes $(RELEASE)
	@strip -o $(RELEASE).stripped $(RELEASE) && mv $(RELEASE).stripped $(RELEASE)
	@size=$$(stat -c %s $(RELEASE)); echo "$(RELEASE): $$size bytes"; \
	if [ $$size -gt $(SIZE_LIMIT) ]; then echo "that is more than $(SIZE_LIMIT) bytes" >&2; exit 1; fi
	@if ldd $(RELEASE) 2>/dev/null | grep -q '=>'; then echo "$(RELEASE) is not static" >&2; exit 1; fi

fixtures:
	@.ci/packages build test
	cargo build --bin mdf --example traffic_gen
	@fixtures/make.sh
