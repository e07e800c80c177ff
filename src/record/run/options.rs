//! What the user asked for, and what of it makes no sense.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::caller::Caller;
use crate::message::say;
use crate::outcome::Usage;
use crate::pods::{Selectors, select};
use crate::record::attribution;
use crate::record::cgroup::Tree;
use crate::record::child::Setting;
use crate::record::filter::Words;
use crate::record::output;
use crate::record::source::config::{Backend, Config, MAX_SNAPLEN};
use crate::record::user::User;

/// What the user asked for.
#[derive(Debug, Clone)]
pub struct Options {
    /// The capture file; nothing: live output only.
    pub output: Option<PathBuf>,
    /// Print live lines although there is a file.
    pub print: bool,
    /// Replace existing files.
    pub force: bool,
    pub filter: Words,
    /// Which containers and pods to record.
    pub pods: select::Words,
    /// Where the names of containers and pods come from.
    pub names: attribution::Options,
    /// A command to run and record; empty: none.
    pub command: Vec<OsString>,
    /// As whom it runs; nothing: as who called sudo, else as this process.
    pub user: Option<String>,
    pub duration: Option<Duration>,
    /// Bytes of all files together.
    pub max_size: Option<u64>,
    pub max_events: Option<u64>,
    /// Payload bytes kept of each data event.
    pub snaplen: u32,
    /// Bytes of the kernel's ring buffer.
    pub buffer_size: usize,
    /// Sockets that can be followed at one time; nothing: enough for twice as many as there are.
    pub max_sockets: Option<u32>,
    pub backend: Option<Backend>,
    pub rotate_size: Option<u64>,
    pub rotate_time: Option<Duration>,
    /// Parts kept; older ones are removed.
    pub keep: Option<u32>,
    /// Keep only this much, in memory, and write it out on SIGUSR1 and at the end.
    pub ring: Option<Duration>,
    /// Bytes of memory for `ring`, compressed.
    pub ring_size: usize,
    /// For the file's header.
    pub command_line: String,
}

impl Default for Options {
    fn default() -> Self {
        let config = Config::default();
        Options {
            output: None,
            print: false,
            force: false,
            filter: Words::default(),
            pods: select::Words::default(),
            names: attribution::Options::default(),
            command: Vec::new(),
            user: None,
            duration: None,
            max_size: None,
            max_events: None,
            snaplen: config.snaplen,
            buffer_size: config.buffer_size,
            max_sockets: None,
            backend: None,
            rotate_size: None,
            rotate_time: None,
            keep: None,
            ring: None,
            ring_size: 256 << 20,
            command_line: String::new(),
        }
    }
}

/// Refuses what makes no sense, and output that cannot be made.
pub fn check(options: &Options, can_print: bool) -> Result<()> {
    if prints(options) && !can_print {
        bail!("live output is not built into this program; give a file with -o");
    }
    if options.snaplen > MAX_SNAPLEN {
        return usage(format!(
            "--snaplen {} is more than {MAX_SNAPLEN}, the most that is kept of one event",
            options.snaplen
        ));
    }
    let rotates = options.rotate_size.is_some() || options.rotate_time.is_some();
    if options.keep.is_some() && !rotates {
        return usage("--keep needs --rotate-size or --rotate-time");
    }
    if options.keep == Some(0) {
        return usage("--keep 0 would keep nothing");
    }
    let filter = &options.filter;
    if !options.command.is_empty() && !filter.pids.is_empty() && !filter.cgroups.is_empty() {
        return usage("a command is recorded beside --pid or --cgroup, not beside both of them: leave one out");
    }
    if options.ring.is_some() && rotates {
        return usage("--ring and rotation exclude each other");
    }
    if options.user.is_some() && options.command.is_empty() {
        return usage("--user is for a command: give one after --");
    }
    match &options.output {
        Some(base) if options.print && output::is_standard_output(base) => {
            usage("--print and the capture cannot both go to standard output")
        }
        Some(base) => output::check(base, rotates || options.ring.is_some(), options.force),
        None if rotates || options.ring.is_some() => usage("rotation and --ring need a file: give -o"),
        None => Ok(()),
    }
}

fn usage<T>(text: impl Into<String>) -> Result<T> {
    Err(Usage(text.into()).into())
}

pub fn prints(options: &Options) -> bool {
    options.print || options.output.is_none()
}

/// Whether nobody gets anything of the recording once standard output is closed.
pub fn is_unread(options: &Options) -> bool {
    options.output.as_deref().is_none_or(output::is_standard_output)
}

/// Which containers and pods are to be recorded; refuses what cannot be combined with that.
pub fn selectors(options: &Options, tree: Option<&Tree>) -> Result<Selectors> {
    let selectors = Selectors::new(options.pods.clone()).map_err(Usage)?;
    if selectors.is_empty() {
        return Ok(selectors);
    }
    if !options.filter.pids.is_empty() || !options.filter.cgroups.is_empty() {
        return usage("--container, --pod, --namespace and --label choose cgroups; leave --pid and --cgroup out");
    }
    if options.names.off && !(options.pods.pods.is_empty() && options.pods.labels.is_empty()) {
        return usage("--no-names leaves no source to ask for pods");
    }
    if tree.is_none() {
        bail!("containers and pods are chosen by their cgroups, and /proc/mounts has none of type cgroup2");
    }
    Ok(selectors)
}

/// The user that the command runs as; printed where it is not that of this process.
pub fn setting(options: &Options) -> Result<Setting> {
    let user = match (&options.user, Caller::find()) {
        (Some(name), _) => Some(User::named(name)?),
        (None, Some(caller)) => {
            let user = User::of_caller(caller);
            say(&format!(
                "the command runs as {}, who called sudo; --user root has it run as root",
                user.describe()
            ));
            Some(user)
        }
        (None, None) => None,
    };
    Ok(Setting {
        user,
        // Its output would be in the middle of the capture.
        output_to_error: options.output.as_deref().is_some_and(output::is_standard_output),
    })
}
