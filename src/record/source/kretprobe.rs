//! Kretprobes with room for many threads, through tracefs.
//!
//! A kretprobe made by perf_event_open has room for about two calls per CPU in progress at one time; returns of further
//! calls are missed. Only tracefs allows more, and counts how many were missed.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::record::kernelfs::Mount;

/// Calls in progress that can be followed at one time: the kernel's upper bound.
const MAXACTIVE: u32 = 4096;

/// Our events in tracefs; they go away with this value.
pub struct Kretprobes {
    tracefs: PathBuf,
    group: String,
    functions: Vec<&'static str>,
}

const PREFIX: &str = "mdf_";

impl Kretprobes {
    /// `tracefs` has to live longer.
    pub fn new(tracefs: &Mount) -> Kretprobes {
        let made = Kretprobes {
            group: format!("{PREFIX}{}", std::process::id()),
            tracefs: tracefs.path().to_path_buf(),
            functions: Vec::new(),
        };
        made.clear_stale();
        made
    }

    /// The trace group of our events.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// Makes the event for the returns of a function; gives its name.
    pub fn add(&mut self, function: &'static str) -> io::Result<String> {
        self.command(&format!("r{MAXACTIVE}:{}/{function} {function}", self.group))?;
        self.functions.push(function);
        Ok(function.to_string())
    }

    /// Where it is counted what they miss.
    pub fn profile(&self) -> Profile {
        Profile {
            path: self.tracefs.join("kprobe_profile"),
            functions: self.functions.clone(),
        }
    }

    fn command(&self, line: &str) -> io::Result<()> {
        let mut file = fs::OpenOptions::new()
            .append(true)
            .open(self.tracefs.join("kprobe_events"))?;
        file.write_all(format!("{line}\n").as_bytes())
    }

    /// A recorder that was killed does not remove its events.
    fn clear_stale(&self) {
        let events = fs::read_to_string(self.tracefs.join("kprobe_events")).unwrap_or_default();
        for (group, event) in events.lines().filter_map(own_event) {
            let pid = group.trim_start_matches(PREFIX);
            if group == self.group || !Path::new("/proc").join(pid).exists() {
                // In use by somebody else, then: no harm.
                let _ = self.command(&format!("-:{group}/{event}"));
            }
        }
    }
}

/// The counters of our events.
#[derive(Clone)]
pub struct Profile {
    path: PathBuf,
    functions: Vec<&'static str>,
}

impl Profile {
    /// Returns that were missed, of all our events.
    pub fn missed(&self) -> u64 {
        let profile = fs::read_to_string(&self.path).unwrap_or_default();
        missed(&profile, &self.functions)
    }
}

impl Drop for Kretprobes {
    fn drop(&mut self) {
        for function in &self.functions {
            let _ = self.command(&format!("-:{}/{function}", self.group));
        }
    }
}

/// Group and event of a line of kprobe_events (`r4096:group/event function`), if it is a recorder's.
fn own_event(line: &str) -> Option<(&str, &str)> {
    let (_, name) = line.split_once(':')?;
    let (group, event) = name.split(' ').next()?.split_once('/')?;
    let own = group.strip_prefix(PREFIX)?;
    (!own.is_empty() && own.bytes().all(|byte| byte.is_ascii_digit())).then_some((group, event))
}

/// Sums the last column of kprobe_profile (event, hits, misses) over our events.
fn missed(profile: &str, events: &[&str]) -> u64 {
    let of = |line: &str| -> Option<u64> {
        let mut fields = line.split_whitespace();
        let event = fields.next()?;
        let misses = fields.nth(1)?;
        if events.contains(&event) {
            misses.parse().ok()
        } else {
            None
        }
    };
    profile.lines().filter_map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_events_are_cleared() {
        assert_eq!(
            own_event("r4096:mdf_77/inet_sendmsg inet_sendmsg"),
            Some(("mdf_77", "inet_sendmsg"))
        );
        assert_eq!(own_event("p:kprobes/tcp_close_0 tcp_close"), None);
        assert_eq!(own_event("r4096:mdf_/x y"), None);
    }

    #[test]
    fn misses_are_summed_over_our_events() {
        let profile = "  inet_sendmsg                 100               7\n  other    5    3\n  inet6_sendmsg 1 2\n";
        assert_eq!(missed(profile, &["inet_sendmsg", "inet6_sendmsg"]), 9);
    }
}
