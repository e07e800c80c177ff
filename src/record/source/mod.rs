//! What is listened to. A source is a folder: the programs that it attaches, what their records mean, and what is lost on the
//! way. It knows the kernel; it knows nothing of files, queues or protocols, and nothing of other sources.
//!
//! All programs are loaded together, share the filter's maps and write into one ring. `probe` is the way in: it asks each source
//! of the registry for its part of the plan, for one backend after the other, until one works. `config` is what is asked for,
//! `plan` what the kernel must have, `object` loads and attaches, `monitor` reads what was lost. `wire` is how both sides lay out
//! what they share. `preempt`, `kretprobe` and `kallsyms` deal with kernels that need more than that.

pub mod config;
mod kallsyms;
mod kretprobe;
#[cfg(test)]
mod layout;
pub mod monitor;
mod object;
pub(in crate::record) mod plan;
mod preempt;
pub mod probe;
mod process;
pub mod tcp;
mod wire;

use std::ops::RangeInclusive;

use libbpf_rs::ProgramType;

use crate::format::record::Record;
use config::Backend;
use object::Loaded;
use plan::{Kernel, Part, Plan};
use wire::{Fields, WireError, loss};

/// All that the rest of the recorder asks of a source.
pub(in crate::record) struct Source {
    /// Its kinds of ring records (`enum mdf_kind`); no other source has them.
    kinds: RangeInclusive<u16>,
    /// Reads a ring record of one of its kinds.
    decode: for<'a> fn(Fields<'a>) -> Result<Record<'a>, WireError>,
    /// Its programs for this backend; or what the kernel lacks.
    plan: fn(&Kernel, Backend) -> Result<Part, String>,
    /// What its programs count in the map `losses`, beside the runs that the kernel skipped.
    counters: &'static [loss::Counter],
    /// Tests whether the loaded programs record correctly.
    test: Option<fn(&Loaded) -> Tested>,
    /// Types of its programs, with their names for `mdf doctor`.
    pub program_types: &'static [(&'static str, ProgramType)],
    /// What it cannot see here with this backend, in words; nothing that concerns other kernels or machines only.
    pub blind_spots: fn(&Kernel, Backend) -> String,
}

/// What a test of a source found.
enum Tested {
    /// All came out, as it should.
    Right,
    /// The test itself could not be made (no loopback interface): nothing is known.
    NotMade(String),
    /// The kernel took the programs, but they do not record correctly here.
    Wrong(String),
}

/// The registry: one line for each source, which is its folder.
macro_rules! sources {
    ($($source:ident,)*) => {
        /// All sources.
        pub(in crate::record) const SOURCES: &[Source] = &[$($source::SOURCE),*];

        /// Reads one ring record. Borrows names and payload from it. (What is called is known when this is compiled.)
        pub fn decode(bytes: &[u8]) -> Result<Record<'_>, WireError> {
            let fields = Fields::of(bytes)?;
            let kind = fields.kind;
            $(if $source::SOURCE.kinds.contains(&kind) {
                return ($source::SOURCE.decode)(fields);
            })*
            Err(WireError::Kind { kind })
        }
    };
}

sources! {
    process,
    tcp,
}

/// The programs of all sources for this backend; or what the kernel lacks.
fn plan(backend: Backend, kernel: &Kernel) -> Result<Plan, String> {
    let mut plan = Plan {
        uses: kernel.uses(),
        ..Plan::default()
    };
    for source in SOURCES {
        let part = (source.plan)(kernel, backend)?;
        plan.programs.extend(part.programs);
        plan.inexact = plan.inexact.or(part.inexact);
        let is_new = |counter: &&loss::Counter| !plan.counters.contains(counter);
        let new: Vec<loss::Counter> = source.counters.iter().filter(is_new).copied().collect();
        plan.counters.extend(new);
    }
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn unknown_kinds_are_named() {
        assert_eq!(
            decode(&[9, 9, 0, 0]),
            Err(WireError::Kind {
                kind: u16::from_ne_bytes([9, 9])
            })
        );
    }

    #[test]
    fn each_kind_is_of_one_source_which_reads_it() {
        let mut kinds = BTreeSet::new();
        for source in SOURCES {
            for kind in source.kinds.clone() {
                assert!(kinds.insert(kind), "{kind} twice");
                let bytes = kind.to_ne_bytes();
                let refused = Err(WireError::Short { kind, len: 2 });
                assert_eq!((source.decode)(Fields::of(&bytes).unwrap()), refused);
                assert_eq!(decode(&bytes), refused);
            }
        }
    }
}
