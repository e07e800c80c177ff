//! What the user typed, and what it means. No files, no kernel: only words.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use masdeepflow::units::{Speed, parse_count, parse_duration, parse_size, parse_speed};

/// Version, commit, and what is built in.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), env!("MDF_BUILD"));

const EXAMPLES: &str = "\
Examples:
  sudo mdf record                               live lines of the whole host
  sudo mdf record -o cap.mdf -- curl localhost  record a program and its children into a file
  mdf analyze cap.mdf                           the report
  mdf analyze cap.mdf --table http --where 'status >= 500 and total_ns > 10ms'
  mdf analyze cap.mdf -o tables/                all tables as Parquet files
  mdf diff before.mdf after.mdf --fail-if 'p95>+10%'
  mdf doctor                                    what this machine allows

Exit codes: 0 clean, 1 failed, 2 wrong usage, 3 finished but data was lost or damaged.";

/// Record what programs send over TCP with eBPF; replay and analyse it later, anywhere.
#[derive(Debug, Parser)]
#[command(name = "mdf", version = VERSION, after_help = EXAMPLES)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Record this host's processes, connections and their data
    Record(Box<RecordArgs>),
    /// Analyse captures: a report, or tables
    #[command(alias = "analyse")]
    Analyze(Box<AnalyzeArgs>),
    /// Compare two captures: endpoints and digests that became slower, faster, or fail more
    Diff(DiffArgs),
    /// Print the live lines of a capture again
    Replay(ReplayArgs),
    /// Print what a capture file contains: header, blocks, losses
    Info(InfoArgs),
    /// Turn a packet capture (pcap, pcapng) into a capture file
    Import(ImportArgs),
    /// Print what this machine allows, which backend recording would use, and why not the others
    Doctor(DoctorArgs),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page
    Man(ManArgs),
}

const RECORD_EXAMPLES: &str = "\
Examples:
  sudo mdf record                                     the whole host, live
  sudo mdf record -o cap.mdf --duration 30s           half a minute, into a file
  sudo mdf record -o cap.mdf --pid 4242 --print       a process and its children, into a file and live
  sudo mdf record --port 3306                         MySQL only, live
  sudo mdf record --pod 'shop/*' -o shop.mdf          the pods of a namespace, also those that come later
  sudo mdf record -o cap.mdf -- ./run-tests --all     a command with all of its children, until it ends
  sudo mdf record -o ring.mdf --rotate-size 100MiB --keep 10
                                                      for weeks, in the last gigabyte

Without any filter the whole host is recorded. Filters of different kinds must all match; of one kind, any.
A command is recorded beside what --pid, --cgroup, --container, --pod, --namespace and --label choose.
Captures hold what programs sent: files are made with mode 0600, and never overwritten without --force. Under sudo they \
belong to the user who called it. -o - writes to standard output; COMMAND's output then goes to standard error.

COMMAND runs as the user who called sudo, otherwise as mdf does; --user overrides this. It gets mdf's environment; as \
another user, HOME, LOGNAME, USER and SHELL are set for that user, and MAIL and sudo's variables are removed.

The terminal sends Ctrl-C to COMMAND too: mdf records until COMMAND has ended, and a second Ctrl-C ends the recording now. A \
signal by kill, or a limit, ends COMMAND by SIGTERM. After a limit, or a signal other than SIGINT and SIGQUIT, COMMAND is \
recorded for at most 5 s.

Exit code: COMMAND's own if it ends by itself (128+N if signal N killed it), 0 if mdf ended it. 3 if data was lost, whatever \
COMMAND's exit code is. 1 or 2 if mdf failed; the reason is on a line that begins with \"mdf:\".";

#[derive(Debug, Args)]
#[command(after_help = RECORD_EXAMPLES)]
pub struct RecordArgs {
    /// Write a capture file; without it, print live lines
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
    /// Print live lines although there is a file
    #[arg(long)]
    pub print: bool,
    /// Overwrite existing files
    #[arg(long)]
    pub force: bool,

    /// Record this process and its children (repeatable)
    #[arg(long, value_name = "PID", help_heading = "Filters")]
    pub pid: Vec<u32>,
    /// Record processes of this name (at most 15 bytes, as in /proc/PID/comm)
    #[arg(long, value_name = "NAME", help_heading = "Filters")]
    pub comm: Option<String>,
    /// Record this cgroup and those below it: a path or an id (repeatable)
    #[arg(long, value_name = "PATH|ID", help_heading = "Filters")]
    pub cgroup: Vec<String>,
    /// Record connections with this local or remote port (repeatable)
    #[arg(long, value_name = "PORT", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..), help_heading = "Filters")]
    pub port: Vec<u16>,
    /// Record this network namespace: an inode number, a path, or a name of ip-netns(8)
    #[arg(long, value_name = "NETNS", help_heading = "Filters")]
    pub netns: Option<String>,

    /// Record containers of this name, or whose id begins so; * for any characters (repeatable)
    #[arg(long, value_name = "NAME|ID", help_heading = "Filters")]
    pub container: Vec<String>,
    /// Record pods of this name: name or namespace/name, * for any characters (repeatable)
    #[arg(long, value_name = "POD", help_heading = "Filters")]
    pub pod: Vec<String>,
    /// Record the pods of this namespace (repeatable)
    #[arg(long, value_name = "NAME", help_heading = "Filters")]
    pub namespace: Vec<String>,
    /// Record pods and containers with this label: key=value, key!=value, key, !key (repeatable; all must hold)
    #[arg(long, value_name = "LABEL", help_heading = "Filters")]
    pub label: Vec<String>,

    /// Stop after this time (30s, 5m, 1h30m)
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Limits")]
    pub duration: Option<Duration>,
    /// Stop when the files have this size together (512MiB, 10GB)
    #[arg(long, value_name = "SIZE", value_parser = parse_size, help_heading = "Limits")]
    pub max_size: Option<u64>,
    /// Stop after this many events (5000, 2M)
    #[arg(long, value_name = "N", value_parser = parse_count, help_heading = "Limits")]
    pub max_events: Option<u64>,
    /// Payload bytes kept of each event; the length beyond is still counted
    #[arg(long, value_name = "SIZE", value_parser = parse_size, help_heading = "Limits")]
    pub snaplen: Option<u64>,
    /// Size of the kernel's ring buffer
    #[arg(long, value_name = "SIZE", value_parser = parse_size, help_heading = "Limits")]
    pub buffer_size: Option<u64>,
    /// Sockets that can be followed at one time [default: twice as many as there are, at least 65536]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(16..=16_777_216), help_heading = "Limits")]
    pub max_sockets: Option<u32>,

    /// Begin a new file when one has this size; a file ends with a whole block, of at most about 1 MiB
    #[arg(long, value_name = "SIZE", value_parser = parse_size, requires = "output", help_heading = "Flight recorder")]
    pub rotate_size: Option<u64>,
    /// Begin a new file after this time
    #[arg(long, value_name = "TIME", value_parser = parse_duration, requires = "output", help_heading = "Flight recorder")]
    pub rotate_time: Option<Duration>,
    /// Keep only the last N files
    #[arg(long, value_name = "N", requires = "output", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Flight recorder")]
    pub keep: Option<u32>,
    /// Keep only the last moments, in memory; write them on SIGUSR1 and at the end
    #[arg(long, value_name = "TIME", value_parser = parse_duration, requires = "output", help_heading = "Flight recorder")]
    pub ring: Option<Duration>,
    /// Memory for --ring
    #[arg(long, value_name = "SIZE", value_parser = parse_size, requires = "ring", help_heading = "Flight recorder")]
    pub ring_size: Option<u64>,

    #[command(flatten)]
    pub names: NamesArgs,

    /// Use this backend: fexit, socktp, kprobe, systp (by default the best one that works)
    #[arg(long, value_name = "BACKEND", value_parser = ["fexit", "socktp", "kprobe", "systp"])]
    pub backend: Option<String>,

    /// Run COMMAND as this user, by name or number (otherwise as who called sudo)
    #[arg(long, value_name = "USER", help_heading = "Command")]
    pub user: Option<String>,

    /// Store COMMAND's arguments in the head of the file; they may hold passwords, so only its name is otherwise
    #[arg(long, help_heading = "Command")]
    pub store_arguments: bool,

    /// Run this command in a cgroup of its own and record its whole tree, wherever that goes, until it ends
    #[arg(last = true, value_name = "COMMAND", value_hint = ValueHint::CommandWithArguments)]
    pub command: Vec<OsString>,
}

/// Where the names of containers and pods come from.
#[derive(Debug, Args)]
pub struct NamesArgs {
    /// Where the host's file system is mounted, when recording in a container
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, help_heading = "Names of containers and pods")]
    pub host_root: Option<PathBuf>,
    /// Name pods by this list (kubectl get pods -A -o json)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Names of containers and pods")]
    pub pods: Option<PathBuf>,
    /// Ask the API server of this kubeconfig; in a pod, the service account's is asked
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Names of containers and pods")]
    pub kubeconfig: Option<PathBuf>,
    /// This node's name at the API server (otherwise NODE_NAME, or the host name)
    #[arg(long, value_name = "NAME", help_heading = "Names of containers and pods")]
    pub node: Option<String>,
    /// The kubelet, where it is not at NODE_IP or 127.0.0.1
    #[arg(long, value_name = "HOST[:PORT]|URL", help_heading = "Names of containers and pods")]
    pub kubelet: Option<String>,
    /// The authority that signed the kubelet's certificate (PEM), beside those found on the node
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Names of containers and pods")]
    pub kubelet_ca: Option<PathBuf>,
    /// The token for the kubelet (otherwise the service account's)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Names of containers and pods")]
    pub token_file: Option<PathBuf>,
    /// Ask for the pods of all nodes: remote ends are named too
    #[arg(long, help_heading = "Names of containers and pods")]
    pub all_pods: bool,
    /// Ask no source of names; use cgroup paths alone
    #[arg(long, help_heading = "Names of containers and pods")]
    pub no_names: bool,
}

const ANALYZE_EXAMPLES: &str = "\
Examples:
  mdf analyze cap.mdf                            the report
  mdf analyze cap-*.mdf                          rotated parts, or several hosts, as one capture
  mdf analyze trace.pcapng                       an ordinary packet capture
  ssh host tcpdump -w - | mdf analyze -          one that comes through a pipe
  mdf analyze cap.mdf --format json              the report as one JSON object
  mdf analyze cap.mdf --table http --sort -total_ns --limit 20
  mdf analyze cap.mdf --table mysql --where 'status = error' --columns start,user,statement,error_message
  mdf analyze cap.mdf --group-by server_comm,status
  mdf analyze cap.mdf --table mysql --bucket 1s --format csv
  mdf analyze cap.mdf -o tables/                 all tables as Parquet, one file each
  mdf analyze cap.mdf --table http -o http.csv

Expressions (--where): columns compared by = != < <= > >=, ~ and !~ (regular expression found anywhere), in (a, b),
is null, is not null; joined by and, or, not and brackets. Durations, sizes and times carry their units: 10ms, 4KiB,
2026-01-31T12:00:00Z. As in SQL, a comparison with null is neither true nor false: neither status != 200 nor
not status = 200 includes requests without a response; status != 200 or status is null does. Without --table they choose
the exchanges, connections and processes that the report counts.
Columns of all tables: mdf analyze --list-columns.";

/// The tables that can be asked for.
fn table_names() -> clap::builder::ValueParser {
    #[cfg(feature = "analyze")]
    {
        use masdeepflow::analyze::catalog::TableName;
        let first = [TableName::Processes, TableName::Connections];
        let others = TableName::all().into_iter().filter(|table| !first.contains(table));
        let names = first.into_iter().chain(others).map(TableName::name);
        clap::builder::PossibleValuesParser::new(names).into()
    }
    #[cfg(not(feature = "analyze"))]
    clap::builder::ValueParser::string()
}

#[derive(Debug, Args)]
#[command(after_help = ANALYZE_EXAMPLES)]
pub struct AnalyzeArgs {
    /// Captures: rotated parts of one host, files of several hosts, packet captures; - for standard input
    #[arg(required_unless_present = "list_columns", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub files: Vec<PathBuf>,
    /// Print all tables with their columns
    #[arg(long)]
    pub list_columns: bool,

    /// One table instead of the report
    #[arg(short, long, value_name = "NAME", value_parser = table_names(), help_heading = "Output")]
    pub table: Option<String>,
    /// Form of the output; otherwise by the name of the file, or for people
    #[arg(short, long, value_enum, help_heading = "Output")]
    pub format: Option<FormatArg>,
    /// Write here: a file with --table, a folder of one file per table without; - for standard output
    #[arg(short, long, value_name = "PATH", value_hint = ValueHint::AnyPath, help_heading = "Output")]
    pub output: Option<PathBuf>,
    /// Replace existing files; never those that are read
    #[arg(long, help_heading = "Output")]
    pub force: bool,

    /// Only rows for which this holds: 'status >= 500 and path ~ "/api" and total_ns > 10ms'
    #[arg(short = 'w', long = "where", value_name = "EXPR", help_heading = "Rows and columns")]
    pub filter: Option<String>,
    /// Only these columns, in this order; * for all
    #[arg(
        short,
        long,
        value_name = "NAME,…",
        value_delimiter = ',',
        help_heading = "Rows and columns"
    )]
    pub columns: Vec<String>,
    /// Sort by these columns; -NAME for descending
    #[arg(
        short,
        long,
        value_name = "NAME,…",
        value_delimiter = ',',
        allow_hyphen_values = true,
        help_heading = "Rows and columns"
    )]
    pub sort: Vec<String>,
    /// At most this many rows
    #[arg(short = 'n', long, value_name = "N", help_heading = "Rows and columns")]
    pub limit: Option<usize>,
    /// Count rows by the values of these columns: count, error rate, bytes, percentiles
    #[arg(
        short,
        long,
        value_name = "NAME,…",
        value_delimiter = ',',
        help_heading = "Rows and columns"
    )]
    pub group_by: Vec<String>,
    /// Count rows by spans of time (1s, 500ms)
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Rows and columns")]
    pub bucket: Option<Duration>,

    #[command(flatten)]
    pub selection: SelectionArgs,
    #[command(flatten)]
    pub engine: EngineArgs,
}

/// Which part of a capture.
#[derive(Debug, Args)]
pub struct SelectionArgs {
    /// From this time on: 2026-01-31T12:00:00Z, or +30s after the start
    #[arg(long, value_name = "TIME", help_heading = "Part of the capture")]
    pub from: Option<String>,
    /// Until before this time
    #[arg(long, value_name = "TIME", help_heading = "Part of the capture")]
    pub to: Option<String>,
    /// Only connections with this port at either end (repeatable)
    #[arg(
        long,
        value_name = "PORT",
        value_delimiter = ',',
        help_heading = "Part of the capture"
    )]
    pub port: Vec<u16>,
    /// Only this process (repeatable)
    #[arg(
        long,
        value_name = "PID",
        value_delimiter = ',',
        help_heading = "Part of the capture"
    )]
    pub pid: Vec<u32>,
    /// Only this pod, at either end: name or namespace/name, * for any characters (repeatable)
    #[arg(
        long,
        value_name = "POD",
        value_delimiter = ',',
        help_heading = "Part of the capture"
    )]
    pub pod: Vec<String>,
}

/// How the work is done.
#[derive(Debug, Args)]
pub struct EngineArgs {
    /// Threads, 1 to 64; the result does not depend on it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64), help_heading = "Work")]
    pub threads: Option<u16>,
    /// Name pods by this list (kubectl get pods -A -o json)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Work")]
    pub pods: Option<PathBuf>,
    /// A further path template, such as /shop/{name}/cart (repeatable)
    #[arg(long, value_name = "TEMPLATE", help_heading = "Work")]
    pub path_template: Vec<String>,
    /// No progress bar
    #[arg(long, help_heading = "Work")]
    pub no_progress: bool,
    /// Read also the blocks that cannot matter: slower, with the same result
    #[arg(long, hide = true)]
    pub read_all: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FormatArg {
    /// For people
    Table,
    /// One array; without --table, the report as one object
    Json,
    /// One object on each line
    Ndjson,
    /// As captured; a spreadsheet may take a field that begins with = + - @ for a formula: import fields as text
    Csv,
    Parquet,
    /// Arrow IPC file
    Arrow,
}

const DIFF_EXAMPLES: &str = "\
Examples:
  mdf diff before.mdf after.mdf
  mdf diff before.mdf after.mdf --fail-if 'p95>+10%' --fail-if 'error_rate>+1%'

A condition names count, error_rate, mean, p50, p90, p95, p99 or max, then > or <, then a change: +10% is relative
(for error_rate in points), +5ms is absolute. Only changes that are more than chance fail: exit code 1.
* marks a change that is more than chance (95 %), ** one that surely is (99.9 %).";

#[derive(Debug, Args)]
#[command(after_help = DIFF_EXAMPLES)]
pub struct DiffArgs {
    /// The capture to compare with
    #[arg(value_hint = ValueHint::FilePath)]
    pub before: PathBuf,
    /// The capture to judge
    #[arg(value_hint = ValueHint::FilePath)]
    pub after: PathBuf,
    /// Fail when an endpoint or digest changed so: 'p95>+10%' (repeatable)
    #[arg(long, value_name = "CONDITION")]
    pub fail_if: Vec<String>,
    /// Leave out what came less often than this on either side
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub min_count: u64,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table")]
    pub format: FormatArg,
    #[command(flatten)]
    pub engine: EngineArgs,
}

#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The capture; - for standard input
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// How many times as fast as it happened (1, 0.5, 10), or max for without waiting
    #[arg(long, value_name = "N|max", default_value = "max", value_parser = parse_speed)]
    pub speed: Speed,
}

#[derive(Debug, Args)]
pub struct InfoArgs {
    /// The captures; - for standard input
    #[arg(required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub files: Vec<PathBuf>,
    /// As one JSON object for each file
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The packet capture: pcap or pcapng, plain or compressed by gzip or zstd; - for standard input
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// The capture file to make; - for standard output
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: PathBuf,
    /// Replace an existing file
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// As one JSON object
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub names: NamesArgs,
}

#[derive(Debug, Args)]
pub struct ManArgs {
    /// The page of a command; without it, the page of mdf
    pub command: Option<String>,
    /// Write the pages of all commands into this folder
    #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath, conflicts_with = "command")]
    pub output: Option<PathBuf>,
}

#[cfg(feature = "record")]
mod record {
    use super::{NamesArgs, RecordArgs};
    use masdeepflow::outcome::Usage;
    use masdeepflow::record::filter::Words;
    use masdeepflow::record::run::Options;

    impl NamesArgs {
        /// Where names may come from.
        pub fn options(self) -> masdeepflow::record::attribution::Options {
            masdeepflow::record::attribution::Options {
                host_root: self.host_root,
                pods: self.pods,
                kubeconfig: self.kubeconfig,
                node: self.node,
                kubelet: self.kubelet,
                kubelet_ca: self.kubelet_ca,
                token_file: self.token_file,
                all_pods: self.all_pods,
                off: self.no_names,
            }
        }
    }

    impl RecordArgs {
        /// What was asked for.
        pub fn options(self) -> Result<Options, Usage> {
            let default = Options::default();
            let size = |value: Option<u64>, default: usize| {
                value.map_or(default, |value| usize::try_from(value).unwrap_or(usize::MAX))
            };
            let words: Vec<String> = std::env::args_os()
                .map(|word| word.to_string_lossy().into_owned())
                .collect();
            let arguments = self.command.len().saturating_sub(1);
            Ok(Options {
                output: self.output,
                print: self.print,
                force: self.force,
                filter: Words {
                    pids: self.pid,
                    comm: self.comm,
                    cgroups: self.cgroup,
                    ports: self.port,
                    netns: self.netns,
                },
                pods: masdeepflow::pods::select::Words {
                    containers: self.container,
                    pods: self.pod,
                    namespaces: self.namespace,
                    labels: self.label,
                },
                names: self.names.options(),
                command: self.command,
                user: self.user,
                duration: self.duration,
                max_size: self.max_size,
                max_events: self.max_events,
                snaplen: self
                    .snaplen
                    .map_or(default.snaplen, |value| u32::try_from(value).unwrap_or(u32::MAX)),
                buffer_size: size(self.buffer_size, default.buffer_size),
                max_sockets: self.max_sockets,
                backend: self.backend.as_deref().map(str::parse).transpose().map_err(Usage)?,
                rotate_size: self.rotate_size,
                rotate_time: self.rotate_time,
                keep: self.keep,
                ring: self.ring,
                ring_size: size(self.ring_size, default.ring_size),
                command_line: match self.store_arguments {
                    true => words.join(" "),
                    false => without_last(&words, arguments),
                },
            })
        }
    }

    /// The words but for the last `hidden`.
    fn without_last(words: &[String], hidden: usize) -> String {
        let shown = words[..words.len().saturating_sub(hidden)].join(" ");
        if hidden > 0 { shown + " …" } else { shown }
    }

    #[cfg(test)]
    mod tests {
        #[test]
        fn arguments_of_the_command_are_not_in_the_command_line() {
            let words: Vec<String> = ["mdf", "record", "--", "mysql", "-pSECRET", "shop"]
                .map(str::to_owned)
                .into();
            assert_eq!(super::without_last(&words, 2), "mdf record -- mysql …");
            assert_eq!(super::without_last(&words[..4], 0), "mdf record -- mysql");
        }
    }
}

#[cfg(feature = "analyze")]
mod analyze {
    use super::{AnalyzeArgs, DiffArgs, EngineArgs, FormatArg, SelectionArgs};
    use masdeepflow::analyze::options::{AnalyzeOptions, DiffOptions, EngineOptions, Moment, ResultOptions, Selection};
    use masdeepflow::analyze::output::Format;
    use masdeepflow::create::is_standard_output;
    use masdeepflow::outcome::Usage;
    use masdeepflow::units::{parse_duration, parse_time};

    impl From<FormatArg> for Format {
        fn from(format: FormatArg) -> Format {
            match format {
                FormatArg::Table => Format::Table,
                FormatArg::Json => Format::Json,
                FormatArg::Ndjson => Format::Ndjson,
                FormatArg::Csv => Format::Csv,
                FormatArg::Parquet => Format::Parquet,
                FormatArg::Arrow => Format::Arrow,
            }
        }
    }

    impl AnalyzeArgs {
        /// What is asked for; `colour`: whether standard output takes colours.
        pub fn options(self, colour: bool) -> Result<AnalyzeOptions, Usage> {
            let table = self.table.as_deref().map(str::parse).transpose().map_err(Usage)?;
            let sort = self
                .sort
                .iter()
                .map(|text| text.parse())
                .collect::<Result<_, _>>()
                .map_err(Usage)?;
            let bucket_ns = match self.bucket {
                Some(bucket) if bucket.is_zero() => return Err(Usage("--bucket 0 has no width".to_string())),
                bucket => bucket.map(|bucket| u64::try_from(bucket.as_nanos()).unwrap_or(u64::MAX)),
            };
            Ok(AnalyzeOptions {
                inputs: self.files,
                selection: self.selection.selection()?,
                engine: self.engine.options(),
                result: ResultOptions {
                    table,
                    format: self.format.map(Format::from),
                    output: self.output.filter(|path| !is_standard_output(path)),
                    force: self.force,
                    filter: self.filter,
                    columns: self.columns,
                    sort,
                    limit: self.limit,
                    group_by: self.group_by,
                    bucket_ns,
                    colour,
                },
            })
        }
    }

    impl SelectionArgs {
        fn selection(self) -> Result<Selection, Usage> {
            Ok(Selection {
                from: self.from.as_deref().map(moment).transpose().map_err(Usage)?,
                to: self.to.as_deref().map(moment).transpose().map_err(Usage)?,
                ports: self.port,
                pids: self.pid,
                pods: self.pod,
            })
        }
    }

    fn moment(text: &str) -> Result<Moment, String> {
        match text.strip_prefix('+') {
            Some(after) => {
                let after = parse_duration(after)?.as_nanos();
                Ok(Moment::AfterStart(u64::try_from(after).unwrap_or(u64::MAX)))
            }
            None => parse_time(text).map(Moment::Utc),
        }
    }

    impl DiffArgs {
        /// What is compared.
        pub fn options(self) -> Result<DiffOptions, Usage> {
            let fail_if = self
                .fail_if
                .iter()
                .map(|text| text.parse())
                .collect::<Result<_, _>>()
                .map_err(Usage)?;
            Ok(DiffOptions {
                before: self.before,
                after: self.after,
                fail_if,
                min_count: self.min_count,
                format: self.format.into(),
                engine: self.engine.options(),
            })
        }
    }

    impl EngineArgs {
        /// How the work is to be done.
        pub fn options(self) -> EngineOptions {
            EngineOptions {
                threads: self.threads.map(usize::from),
                progress: !self.no_progress,
                pods: self.pods,
                path_templates: self.path_template,
                read_all: self.read_all,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_option_says_what_it_is_for() {
        fn check(command: &clap::Command) {
            for argument in command.get_arguments() {
                assert!(
                    argument.get_help().is_some(),
                    "{} {}",
                    command.get_name(),
                    argument.get_id()
                );
            }
            for below in command.get_subcommands() {
                assert!(below.get_about().is_some(), "{}", below.get_name());
                check(below);
            }
        }
        check(&Cli::command());
    }

    #[test]
    fn a_command_to_record_keeps_its_own_options() {
        let cli = Cli::try_parse_from(["mdf", "record", "-o", "x", "--", "ls", "-o", "y"]).unwrap();
        let Command::Record(record) = cli.command else { panic!() };
        assert_eq!(record.command, ["ls", "-o", "y"]);
        assert_eq!(record.output, Some("x".into()));
    }

    #[test]
    fn descending_columns_are_not_options() {
        let cli = Cli::try_parse_from(["mdf", "analyze", "x", "--sort", "-total_ns,path"]).unwrap();
        let Command::Analyze(analyze) = cli.command else {
            panic!()
        };
        assert_eq!(analyze.sort, ["-total_ns", "path"]);
    }

    #[test]
    fn sizes_durations_and_speeds_are_read() {
        let cli = Cli::try_parse_from(["mdf", "record", "--duration", "1m30s", "--max-size", "2GiB"]).unwrap();
        let Command::Record(record) = cli.command else { panic!() };
        assert_eq!(record.duration, Some(Duration::from_secs(90)));
        assert_eq!(record.max_size, Some(2 << 30));
        assert_eq!(parse_speed("2.5x"), Ok(Speed::Times(2.5)));
        assert_eq!(parse_speed("max"), Ok(Speed::Max));
        assert!(parse_speed("0").is_err());
        for wrong in [
            &["mdf", "record", "--port", "0"][..],
            &["mdf", "record", "--keep", "3"],
            &["mdf", "analyze"],
            &["mdf", "analyze", "x", "--table", "nothing"],
            &["mdf", "replay", "x", "--speed", "-1"],
        ] {
            let error = Cli::try_parse_from(wrong).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{wrong:?}");
        }
    }
}
