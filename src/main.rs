//! The program: reads the command line, calls one function, turns its outcome into an exit code.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")
)]

mod cli;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::builder::Resettable;
use clap::{CommandFactory, Parser};
use clap_mangen::roff::{self, Roff};
use masdeepflow::escape;
use masdeepflow::info::Info;
use masdeepflow::mapped::Mapped;
use masdeepflow::message;
use masdeepflow::open;
use masdeepflow::outcome::{Outcome, Usage};
use masdeepflow::panic::exit_on_panic;
use masdeepflow::stdout;

use cli::{Cli, Command, ManArgs};

fn main() -> ExitCode {
    exit_on_panic(cli::VERSION);
    outlive_file_size_limit();
    match run(command_line().command) {
        Ok(Outcome::Clean) => ExitCode::SUCCESS,
        Ok(Outcome::Negative) => ExitCode::from(1),
        Ok(Outcome::Losses) => ExitCode::from(3),
        Ok(Outcome::Command(code)) => ExitCode::from(code),
        Err(error) if stdout::reader_is_gone(&error) => ExitCode::SUCCESS,
        Err(error) => {
            message::say(&format!("{error:#}"));
            ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
        }
    }
}

/// What was typed. An error quotes it, and it may be a name that the shell put there (`mdf info *`): then it is escaped,
/// and goes without colours, which are escape sequences too.
fn command_line() -> Cli {
    Cli::try_parse().unwrap_or_else(|error| {
        let is_harmful = |word: std::ffi::OsString| word.to_string_lossy().contains(escape::is_harmful);
        if !error.use_stderr() || !std::env::args_os().any(is_harmful) {
            error.exit();
        }
        let text = escape::lines(&error.render().to_string());
        let _ = std::io::stderr().write_all(text.as_bytes());
        std::process::exit(error.exit_code())
    })
}

fn run(command: Command) -> Result<Outcome> {
    #[cfg(feature = "record")]
    match command {
        Command::Record(_) | Command::Doctor(_) => masdeepflow::record::privilege::put_aside(),
        _ => masdeepflow::record::privilege::give_back(),
    }
    match command {
        Command::Record(arguments) => record(*arguments),
        Command::Analyze(arguments) => analyze(*arguments),
        Command::Diff(arguments) => diff(arguments),
        Command::Replay(arguments) => replay(arguments),
        Command::Info(arguments) => info(&arguments),
        Command::Import(arguments) => import(arguments),
        Command::Doctor(arguments) => doctor(arguments),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "mdf", &mut text);
            print(&text)
        }
        Command::Man(arguments) => man(&arguments),
    }
}

fn print(bytes: &[u8]) -> Result<Outcome> {
    stdout::print(bytes)?;
    Ok(Outcome::Clean)
}

#[cfg(not(all(feature = "record", feature = "analyze")))]
fn not_built_in<T>(feature: &str) -> Result<T> {
    anyhow::bail!("this mdf was built without {feature}")
}

#[cfg(feature = "record")]
fn record(arguments: cli::RecordArgs) -> Result<Outcome> {
    Ok(masdeepflow::record::run::run(&arguments.options()?, printer())?.outcome())
}

#[cfg(not(feature = "record"))]
fn record(_: cli::RecordArgs) -> Result<Outcome> {
    not_built_in("the recorder")
}

/// Live lines come out of the analyzer, which the recorder does not know.
#[cfg(all(feature = "record", feature = "analyze"))]
fn printer() -> Option<masdeepflow::record::printer::MakePrinter> {
    use masdeepflow::analyze::live::{self, Live};
    use masdeepflow::format::RawBlock;
    use masdeepflow::record::printer::Printer;

    struct Lines(Live);

    impl Printer for Lines {
        fn feed(&mut self, blocks: &[RawBlock], out: &mut dyn Write) -> std::io::Result<()> {
            self.0.feed(blocks, out)
        }

        fn finish(self: Box<Self>, out: &mut dyn Write) -> std::io::Result<()> {
            live::print(&self.0.finish().0, out)
        }
    }

    Some(Box::new(|header| Box::new(Lines(Live::new(header)))))
}

#[cfg(all(feature = "record", not(feature = "analyze")))]
fn printer() -> Option<masdeepflow::record::printer::MakePrinter> {
    None
}

#[cfg(feature = "record")]
fn doctor(arguments: cli::DoctorArgs) -> Result<Outcome> {
    let json = arguments.json;
    let report = masdeepflow::record::doctor::examine(&arguments.names.options());
    let text = if json {
        escape::json(&format!("{:#}\n", report.json()))
    } else {
        escape::lines(&report.text())
    };
    print(text.as_bytes())?;
    Ok(if report.ok() { Outcome::Clean } else { Outcome::Negative })
}

#[cfg(not(feature = "record"))]
fn doctor(_arguments: cli::DoctorArgs) -> Result<Outcome> {
    not_built_in("the recorder")
}

#[cfg(feature = "analyze")]
fn analyze(arguments: cli::AnalyzeArgs) -> Result<Outcome> {
    if arguments.list_columns {
        return print(masdeepflow::analyze::catalog::document::columns_text().as_bytes());
    }
    use std::io::IsTerminal;
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    masdeepflow::analyze::run::run(&arguments.options(colour)?)
}

#[cfg(feature = "analyze")]
fn diff(arguments: cli::DiffArgs) -> Result<Outcome> {
    masdeepflow::analyze::run::diff(&arguments.options()?)
}

#[cfg(feature = "analyze")]
fn replay(arguments: cli::ReplayArgs) -> Result<Outcome> {
    let mut out = std::io::BufWriter::new(stdout::stdout());
    let whole = masdeepflow::analyze::replay::replay(&arguments.file, arguments.speed, &mut out)?;
    Ok(Outcome::from_losses(!whole))
}

#[cfg(feature = "analyze")]
fn import(arguments: cli::ImportArgs) -> Result<Outcome> {
    let (input, output) = (&arguments.file, &arguments.output);
    let summary = masdeepflow::analyze::import::import_file(input, output, arguments.force)?;
    let _ = write!(std::io::stderr(), "{summary}");
    Ok(Outcome::from_losses(!summary.is_whole()))
}

#[cfg(not(feature = "analyze"))]
fn analyze(_: cli::AnalyzeArgs) -> Result<Outcome> {
    not_built_in("the analyzer")
}

#[cfg(not(feature = "analyze"))]
fn diff(_: cli::DiffArgs) -> Result<Outcome> {
    not_built_in("the analyzer")
}

#[cfg(not(feature = "analyze"))]
fn replay(_: cli::ReplayArgs) -> Result<Outcome> {
    not_built_in("the analyzer")
}

#[cfg(not(feature = "analyze"))]
fn import(_: cli::ImportArgs) -> Result<Outcome> {
    not_built_in("the analyzer")
}

/// A file that has reached the limit of its size (`ulimit -f`) is a failed write, as on a full disk, and no reason to die
/// without a word.
#[allow(unsafe_code, reason = "one call to the C library, at the start")]
fn outlive_file_size_limit() {
    #[cfg(unix)]
    // SAFETY: two constants; no other thread runs yet.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}

/// Needs neither recorder nor analyzer.
fn info(arguments: &cli::InfoArgs) -> Result<Outcome> {
    let mut lossy = false;
    let mut printed = 0;
    let mut failed = None;
    for path in &arguments.files {
        let info = match info_of(path) {
            Ok(info) => info,
            // The other files are described all the same.
            Err(error) => {
                if let Some(error) = failed.replace(error) {
                    message::say(&format!("{error:#}"));
                }
                continue;
            }
        };
        lossy |= info.lossy();
        let mut text = match arguments.json {
            true => info.to_json()? + "\n",
            false => info.to_text(),
        };
        if arguments.files.len() > 1 && !arguments.json {
            let name = escape::text(&open::name(path));
            text = format!("{}{name}\n{text}", if printed > 0 { "\n" } else { "" });
        }
        print(text.as_bytes())?;
        printed += 1;
    }
    match failed {
        Some(error) if printed == 0 => Err(error),
        Some(error) => {
            message::say(&format!("{error:#}"));
            Ok(Outcome::Losses)
        }
        None => Ok(Outcome::from_losses(lossy)),
    }
}

fn info_of(path: &Path) -> Result<Info> {
    let mapped = Mapped::open(path)?;
    let info = Info::gather(&mapped.reader()?);
    mapped.check_whole()?;
    Ok(info)
}

/// The manual page of a command, or the pages of all.
fn man(arguments: &ManArgs) -> Result<Outcome> {
    let mut mdf = Cli::command();
    // Gives the commands below their full names.
    mdf.build();
    let page = |command: &clap::Command, name: &str| -> Result<Vec<u8>> {
        let mut page = Vec::new();
        clap_mangen::Man::new(command.clone().after_help(Resettable::Reset))
            .title(name.to_uppercase())
            .render(&mut page)?;
        if let Some(notes) = command.get_after_help() {
            // Not filled: lines of examples stay lines.
            let mut roff = Roff::new();
            roff.control("SH", ["NOTES"]).control("nf", []);
            for line in notes.to_string().lines() {
                roff.text([roff::roman(line)]);
            }
            roff.control("fi", []).to_writer(&mut page)?;
        }
        Ok(page)
    };
    let has_page = |command: &&clap::Command| command.get_name() != "help";
    let below: Vec<clap::Command> = mdf.get_subcommands().filter(has_page).cloned().collect();
    if let Some(folder) = &arguments.output {
        write_page(folder, "mdf", &page(&mdf, "mdf")?)?;
        for command in &below {
            let name = format!("mdf-{}", command.get_name());
            write_page(folder, &name, &page(command, &name)?)?;
        }
        return Ok(Outcome::Clean);
    }
    match &arguments.command {
        None => print(&page(&mdf, "mdf")?),
        Some(name) => match mdf.find_subcommand(name).filter(has_page) {
            Some(command) => print(&page(command, &format!("mdf-{}", command.get_name()))?),
            None => Err(Usage(format!("mdf has no command {name:?}")).into()),
        },
    }
}

fn write_page(folder: &Path, name: &str, page: &[u8]) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let path = folder.join(format!("{name}.1"));
    std::fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))
}
