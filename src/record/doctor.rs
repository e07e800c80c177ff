//! `mdf doctor`: what this machine allows, which backend would be used, why not the others, and what to do.
//!
//! Looks and tries; changes nothing. Rendering is kept apart from looking.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use super::attribution::client::Timing;
use super::attribution::options::Environment;
use super::attribution::{self, Status};
use super::cgroup::Tree;
use super::kernelfs::Mount;
use super::privilege;
use super::source::SOURCES;
use super::source::config::{Backend, Config, Filter};
use super::source::plan::Kernel;
use super::source::probe::Probe;
use crate::human;

/// The capabilities that recording needs or likes, and for what.
const CAPABILITIES: &[(u32, &str, &str)] = &[
    (39, "CAP_BPF", "loads programs"),
    (38, "CAP_PERFMON", "reads kernel memory, attaches to tracepoints"),
    (
        21,
        "CAP_SYS_ADMIN",
        "replaces the two above; attaches kprobes through tracefs",
    ),
    (19, "CAP_SYS_PTRACE", "reads what other users' processes run"),
    (2, "CAP_DAC_READ_SEARCH", "reads cgroups and processes of other users"),
];
/// Needed as well where the memory of maps has a limit of its own.
const CAP_SYS_RESOURCE: (u32, &str, &str) = (24, "CAP_SYS_RESOURCE", "raises the memory limit of maps");

/// One backend on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub backend: Backend,
    /// Why it cannot be used; None when it can.
    pub refused: Option<String>,
    /// The self-test was made and came out right.
    pub tested: bool,
    /// Why it would miss some of what happens, if so: then it is used only where nothing else works.
    pub inexact: Option<&'static str>,
    /// What it cannot see on this kernel.
    pub cannot_see: String,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// As `uname -r`.
    pub kernel: String,
    /// As `uname -m`.
    pub arch: String,
    /// Size of /sys/kernel/btf/vmlinux in bytes; None without it.
    pub btf: Option<u64>,
    /// Program types that load: (name, whether).
    pub program_types: Vec<(&'static str, bool)>,
    /// Capabilities: (name, what for, whether this process has it).
    pub capabilities: Vec<(&'static str, &'static str, bool)>,
    /// A seccomp filter holds for this process.
    pub seccomp: bool,
    /// The chosen word of /sys/kernel/security/lockdown; None when it cannot be read.
    pub lockdown: Option<String>,
    /// Mount points of control groups: (point, whether it is version 2).
    pub cgroups: Vec<(String, bool)>,
    /// Whether the v2 hierarchy is seen from its true root.
    pub cgroup_root: bool,
    /// Where tracefs is; None when it is not mounted and cannot be.
    pub tracefs: Option<String>,
    pub backends: Vec<Verdict>,
    /// Where names of containers and pods come from.
    pub names: Vec<Status>,
    pub advice: Vec<String>,
}

/// Looks at this machine, tries every backend with a filter that selects nobody, and asks every source of names.
pub fn examine(names: &attribution::Options) -> Report {
    let mut report = examine_kernel();
    report.names = attribution::try_sources(names, &Environment::find(), patience());
    report.advice = report.make_advice();
    report
}

fn examine_kernel() -> Report {
    let _all = privilege::read_all();
    let read = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_string()).ok();
    let mounts = read("/proc/self/mounts").unwrap_or_default();
    let status = read("/proc/self/status").unwrap_or_default();
    let kernel = Kernel::read().ok();
    Report {
        kernel: read("/proc/sys/kernel/osrelease").unwrap_or_default(),
        arch: std::env::consts::ARCH.to_string(),
        btf: fs::metadata("/sys/kernel/btf/vmlinux")
            .ok()
            .map(|metadata| metadata.len()),
        program_types: program_types(),
        capabilities: capabilities(&status, kernel.as_ref().is_some_and(Kernel::limits_map_memory)),
        seccomp: status.lines().any(|line| line == "Seccomp:\t2"),
        lockdown: read("/sys/kernel/security/lockdown").as_deref().and_then(chosen_word),
        cgroups: cgroup_mounts(&mounts),
        cgroup_root: Tree::find(None).is_some_and(|tree| tree.id(b"/").is_ok_and(|id| id == 1)),
        tracefs: Mount::tracefs().map(|tracefs| match tracefs.mounted() {
            Some(path) => path.display().to_string(),
            None => "not mounted; mdf opens it for itself".to_string(),
        }),
        backends: Backend::ALL
            .into_iter()
            .map(|backend| try_backend(backend, kernel.as_ref()))
            .collect(),
        names: Vec::new(),
        advice: Vec::new(),
    }
}

/// Somebody waits for the answers.
fn patience() -> Timing {
    Timing {
        answer: Duration::from_secs(5),
        ..Timing::default()
    }
}

fn try_backend(backend: Backend, kernel: Option<&Kernel>) -> Verdict {
    let cannot_see = kernel.map_or_else(String::new, |kernel| blind_spots(kernel, backend));
    let nobody = Filter {
        comm: Some("nobody at all".to_string()),
        ..Filter::default()
    };
    let config = Config {
        backend: Some(backend),
        filter: nobody,
        buffer_size: 1 << 18,
        ..Config::default()
    };
    match Probe::attach(&config) {
        Ok(probe) => Verdict {
            backend,
            refused: None,
            tested: probe.untested().is_none(),
            inexact: probe.inexact(),
            cannot_see,
        },
        Err(refusal) => {
            let why = refusal.refused.into_iter().map(|(_, why)| why).next();
            Verdict {
                backend,
                refused: Some(why.unwrap_or(refusal.what)),
                tested: false,
                inexact: None,
                cannot_see,
            }
        }
    }
}

/// What the sources cannot see, one after the other.
fn blind_spots(kernel: &Kernel, backend: Backend) -> String {
    let spots = SOURCES.iter().map(|source| (source.blind_spots)(kernel, backend));
    spots.filter(|spots| !spots.is_empty()).collect::<Vec<_>>().join("; ")
}

/// The program types that some source needs, and whether they load.
fn program_types() -> Vec<(&'static str, bool)> {
    let mut types: Vec<(&'static str, bool)> = Vec::new();
    for (name, kind) in SOURCES.iter().flat_map(|source| source.program_types) {
        if !types.iter().any(|(known, _)| known == name) {
            types.push((name, kind.is_supported().unwrap_or(false)));
        }
    }
    types
}

/// From the text of /proc/self/status. `limited`: the memory of maps has a limit of its own.
fn capabilities(status: &str, limited: bool) -> Vec<(&'static str, &'static str, bool)> {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    CAPABILITIES
        .iter()
        .chain(limited.then_some(&CAP_SYS_RESOURCE))
        .map(|(bit, name, purpose)| (*name, *purpose, effective >> bit & 1 == 1))
        .collect()
}

/// `none [integrity] confidentiality` brackets the mode that is in force.
fn chosen_word(text: &str) -> Option<String> {
    text.split_whitespace()
        .find_map(|word| Some(word.strip_prefix('[')?.strip_suffix(']')?.to_string()))
}

fn cgroup_mounts(mounts: &str) -> Vec<(String, bool)> {
    let of = |line: &str| {
        let mut fields = line.split(' ').skip(1);
        let (point, kind) = (fields.next()?, fields.next()?);
        kind.starts_with("cgroup")
            .then(|| (point.to_string(), kind == "cgroup2"))
    };
    mounts.lines().filter_map(of).collect()
}

impl Report {
    /// Whether recording would work.
    pub fn ok(&self) -> bool {
        self.chosen().is_some()
    }

    /// The backend that would be used.
    fn chosen(&self) -> Option<&Verdict> {
        self.backends
            .iter()
            .filter(|verdict| verdict.refused.is_none())
            .min_by_key(|verdict| verdict.inexact.is_some())
    }

    fn has(&self, capability: &str) -> bool {
        self.capabilities
            .iter()
            .any(|(name, _, has)| *name == capability && *has)
    }

    fn make_advice(&self) -> Vec<String> {
        let mut advice = Vec::new();
        let able = self.has("CAP_SYS_ADMIN") || (self.has("CAP_BPF") && self.has("CAP_PERFMON"));
        if !able {
            advice.push(
                "run mdf as root, or give it what it needs: setcap \
                 cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search+ep mdf"
                    .to_string(),
            );
        }
        if self.btf.is_none() {
            advice.push(
                "this kernel does not describe itself in /sys/kernel/btf/vmlinux: use one that is built with \
                 CONFIG_DEBUG_INFO_BTF, as those of all current distributions are; in a container, /sys must be mounted"
                    .to_string(),
            );
        }
        if self.lockdown.as_deref() == Some("confidentiality") {
            advice.push(
                "the kernel is locked down against reading its memory: boot it with lockdown=integrity or without \
                 lockdown"
                    .to_string(),
            );
        }
        if able && !self.ok() && self.seccomp {
            advice.push(
                "a seccomp filter holds here, as in containers, and may forbid bpf(2): start the container with \
                 --security-opt seccomp=unconfined (Kubernetes: seccompProfile Unconfined)"
                    .to_string(),
            );
        }
        if !self.cgroups.iter().any(|(_, version2)| *version2) {
            advice.push(
                "no control groups of version 2 are mounted: the containers of processes are not known; mount -t cgroup2 \
                 none /sys/fs/cgroup/unified"
                    .to_string(),
            );
        }
        if self.chosen().is_some_and(|verdict| verdict.backend == Backend::Kprobe) && self.tracefs.is_none() {
            advice.push(
                "mount tracefs (mount -t tracefs none /sys/kernel/tracing): without it few threads can wait in a send \
                 call at one time before returns are missed, and what was missed is not counted"
                    .to_string(),
            );
        }
        advice
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let yes = |has: bool| if has { "yes" } else { "no" };
        let or = |text: &Option<String>, none: &str| text.clone().unwrap_or_else(|| none.to_string());
        let mut line = |name: &str, text: String| {
            // Writing to a string does not fail.
            let _ = writeln!(out, "{name:<14}{text}");
        };
        line("kernel", format!("{} {}", self.kernel, self.arch));
        line(
            "BTF",
            self.btf
                .map_or("no".to_string(), |bytes| format!("yes, {}", human::bytes(bytes))),
        );
        let types = self
            .program_types
            .iter()
            .map(|(name, has)| format!("{name} {}", yes(*has)));
        line("program types", types.collect::<Vec<_>>().join(", "));
        for (i, (name, purpose, has)) in self.capabilities.iter().enumerate() {
            let heading = if i == 0 { "capabilities" } else { "" };
            line(heading, format!("{name:<20} {:<4} {purpose}", yes(*has)));
        }
        line("lockdown", or(&self.lockdown, "not known"));
        let version2 = self.cgroups.iter().find(|(_, version2)| *version2);
        line(
            "cgroups",
            match version2 {
                Some((point, _)) if self.cgroup_root => format!("version 2 at {point}"),
                Some((point, _)) => format!("version 2 at {point}, seen from inside a cgroup namespace"),
                None => "no version 2".to_string(),
            },
        );
        line("tracefs", or(&self.tracefs, "not mounted"));
        for (i, verdict) in self.backends.iter().enumerate() {
            let heading = if i == 0 { "backends" } else { "" };
            let what = match (&verdict.refused, verdict.inexact) {
                (None, Some(why)) => format!("works, not exactly: {why}"),
                (None, None) if verdict.tested => "works".to_string(),
                (None, None) => "loads; not tested, because nothing goes over loopback here".to_string(),
                (Some(why), _) => format!("refused: {why}"),
            };
            line(heading, format!("{:<8}{what}", verdict.backend.name()));
        }
        line(
            "recording",
            match self.chosen() {
                Some(verdict) => format!("works, with {}; it cannot see: {}", verdict.backend, verdict.cannot_see),
                None => "does not work here".to_string(),
            },
        );
        for (i, status) in self.names.iter().enumerate() {
            let heading = if i == 0 { "names" } else { "" };
            let Status { source, state, what } = status;
            let advice = attribution::advice(status).map_or(String::new(), |advice| format!(" ({advice})"));
            line(heading, format!("{source:<24}{}: {what}{advice}", state.name()));
        }
        for advice in &self.advice {
            line("advice", advice.clone());
        }
        out
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let backends = self.backends.iter().map(|verdict| {
            json!({
                "backend": verdict.backend.name(),
                "works": verdict.refused.is_none(),
                "tested": verdict.tested,
                "refused": verdict.refused,
                "inexact": verdict.inexact,
                "cannot_see": verdict.cannot_see,
            })
        });
        let types = self
            .program_types
            .iter()
            .map(|(name, has)| (name.to_string(), json!(has)));
        let capabilities = self
            .capabilities
            .iter()
            .map(|(name, _, has)| (name.to_string(), json!(has)));
        let names = self.names.iter().map(|status| {
            json!({
                "source": status.source,
                "state": status.state.name(),
                "what": status.what,
                "advice": attribution::advice(status),
            })
        });
        json!({
            "ok": self.ok(),
            "backend": self.chosen().map(|verdict| verdict.backend.name()),
            "kernel": self.kernel,
            "arch": self.arch,
            "btf_bytes": self.btf,
            "program_types": types.collect::<serde_json::Map<_, _>>(),
            "capabilities": capabilities.collect::<serde_json::Map<_, _>>(),
            "lockdown": self.lockdown,
            "cgroup_mounts": self.cgroups.iter().map(|(point, two)| json!({ "at": point, "version": if *two { 2 } else { 1 } })).collect::<Vec<_>>(),
            "cgroup_root": self.cgroup_root,
            "tracefs": self.tracefs,
            "backends": backends.collect::<Vec<_>>(),
            "names": names.collect::<Vec<_>>(),
            "advice": self.advice,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_in_brackets_holds() {
        assert_eq!(
            chosen_word("none [integrity] confidentiality").as_deref(),
            Some("integrity")
        );
        assert_eq!(chosen_word("none integrity"), None);
    }

    #[test]
    fn both_versions_of_cgroups_are_told_apart() {
        let mounts = "cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let found = [
            ("/sys/fs/cgroup/cpu".to_string(), false),
            ("/sys/fs/cgroup/unified".to_string(), true),
        ];
        assert_eq!(cgroup_mounts(mounts), found);
    }

    fn sound() -> Report {
        Report {
            btf: Some(1),
            capabilities: capabilities("CapEff:\t000001ffffffffff\n", true),
            cgroups: vec![("/sys/fs/cgroup".to_string(), true)],
            backends: vec![Verdict {
                backend: Backend::Fexit,
                refused: None,
                tested: true,
                inexact: None,
                cannot_see: String::new(),
            }],
            ..Report::default()
        }
    }

    #[test]
    fn a_sound_machine_needs_no_advice() {
        assert_eq!(sound().make_advice(), Vec::<String>::new());
        assert!(sound().ok());
    }

    #[test]
    fn each_lack_has_its_advice() {
        let unprivileged = Report {
            capabilities: capabilities("CapEff:\t0000000000000000\n", false),
            ..sound()
        };
        assert!(unprivileged.make_advice()[0].contains("setcap"));
        let filtered = Report {
            seccomp: true,
            backends: Vec::new(),
            ..sound()
        };
        assert!(filtered.make_advice()[0].contains("seccomp=unconfined"));
        let without_btf = Report { btf: None, ..sound() };
        assert!(without_btf.make_advice()[0].contains("CONFIG_DEBUG_INFO_BTF"));
        let locked = Report {
            lockdown: Some("confidentiality".to_string()),
            ..sound()
        };
        assert!(locked.make_advice()[0].contains("lockdown"));
        let version1 = Report {
            cgroups: vec![("/sys/fs/cgroup/cpu".to_string(), false)],
            ..sound()
        };
        assert!(version1.make_advice()[0].contains("cgroup2"));
    }

    #[test]
    fn nothing_that_works_is_not_ok() {
        let refused = Verdict {
            backend: Backend::Systp,
            refused: Some("why".to_string()),
            tested: false,
            inexact: None,
            cannot_see: String::new(),
        };
        let report = Report {
            backends: vec![refused],
            ..sound()
        };
        assert!(!report.ok());
        assert!(report.text().contains("refused: why"));
        assert_eq!(report.json()["ok"], false);
    }
}
