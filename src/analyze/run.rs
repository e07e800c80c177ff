//! `mdf analyze` and `mdf diff`: the steps from files to results, in order.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

use super::engine::{Engine, Totals};
use super::names::Pods;
use super::options::{AnalyzeOptions, DiffOptions, EngineOptions, ResultOptions};
use super::output::human;
use super::output::{Facts, Format, target};
use super::plan::Plan;
use super::query::diff;
use super::report::Aggregate;
use super::results::{Results, ShardSink};
use super::row::CaptureFacts;
use super::selection::{Ask, BlockFilter};
use super::sources::Inputs;
use crate::create::FileId;
use crate::message;
use crate::open;
use crate::outcome::{Outcome, Usage};
use crate::pods::{PodSet, kube};
use crate::stdout;

/// Rows of a comparison that the text output shows.
const SHOWN: usize = 40;
/// A list of pods has no more bytes: some hundred thousand pods.
const MAX_PODS: u64 = 1 << 30;
/// Most threads that are started, whatever `--threads` is. Thousands would only search each other's queues for work.
const MAX_THREADS: usize = 64;

/// Runs `mdf analyze`.
pub fn run(options: &AnalyzeOptions) -> Result<Outcome> {
    let mut plan = Plan::new(&options.result)?;
    plan.templates(&options.engine.path_templates)?;
    let mut known_losses = false;
    let done = in_pool(&options.engine, || {
        let mut inputs = Inputs::open(&options.inputs);
        let outputs = plan.outputs();
        inputs.refuse_as_outputs(&outputs)?;
        let pods = pods(&options.engine, &outputs)?;
        let mut sources = inputs.sources()?;
        known_losses = sources.has_known_losses();
        let start = sources.start();
        options.selection.check(start)?;
        let filter = options.selection.filter(start).and(plan.bounds());
        plan.select(&options.selection, start);
        plan.reads_all = filter == BlockFilter::default();
        let ask = Ask {
            filter,
            span: plan.span,
            rows: plan.rows(),
            read_all: options.engine.read_all,
        };
        let mut engine = engine(&plan, pods);
        if let Some(span) = plan.span {
            engine.count_within(span);
        }
        sources.give_hosts(&mut engine);
        let mut results = Results::new(plan.clone(), &sources.facts(&Totals::default()))?;
        let progress = options.engine.progress && !plan.writes_to_terminal();
        sources.feed(&ask, &mut engine, progress, |engine, unread_from| {
            results.collect(engine.sinks())?;
            results.write_ready(|| engine.oldest_exchange().min(unread_from))
        })?;
        let (sinks, totals): (Vec<ShardSink>, _) = engine.finish(&sources.names());
        let lost = results.finish(sinks, &sources.facts(&totals))?;
        Ok(Outcome::from_losses(lost))
    });
    match done {
        // The reader of standard output has gone, and reading stopped; losses known before reading still count.
        Err(error) if stdout::reader_is_gone(&error) => Ok(Outcome::from_losses(known_losses)),
        done => done,
    }
}

/// Runs `mdf diff`.
pub fn diff(options: &DiffOptions) -> Result<Outcome> {
    if options.format.is_binary() {
        return Err(Usage("a comparison is table, json, ndjson or csv".to_string()).into());
    }
    let (before, lost_before) = in_pool(&options.engine, || aggregate(&options.before, &options.engine))?;
    let (after, lost_after) = in_pool(&options.engine, || aggregate(&options.after, &options.engine))?;
    let changes = diff::compare(&before, &after, options.min_count);
    // The exit code does not depend on anybody reading the table.
    stdout::unless_unread(print_changes(&changes, options.format))?;
    let mut failed = false;
    for condition in &options.fail_if {
        for change in changes.iter().filter(|change| condition.fails(change)) {
            failed = true;
            message::say(&format!("{}: {} {}", condition.text(), change.protocol, change.what));
        }
    }
    Ok(if failed {
        Outcome::Negative
    } else {
        Outcome::from_losses(lost_before || lost_after)
    })
}

fn print_changes(changes: &[diff::Change<'_>], format: Format) -> Result<()> {
    let columns = match format {
        Format::Table => diff::readable(changes),
        _ => diff::columns(changes),
    };
    let specs: Vec<_> = columns.specs().collect();
    let mut writer = format.writer(target::standard_output(), &specs, &Facts::default())?;
    let shown = match format {
        Format::Table => columns.rows().min(SHOWN),
        _ => columns.rows(),
    };
    writer.write_batch(&columns.gather(&(0..shown as u32).collect::<Vec<u32>>()))?;
    writer.finish()?;
    drop(writer);
    if shown < columns.rows() {
        let more = human::count((columns.rows() - shown) as u64);
        writeln!(stdout::stdout(), "  … and {more} more that changed less: --format csv")?;
    }
    Ok(())
}

/// The aggregate of one capture, and whether data was lost or damaged.
fn aggregate(path: &Path, options: &EngineOptions) -> Result<(Aggregate, bool)> {
    let mut plan = Plan::new(&ResultOptions::default())?;
    plan.templates(&options.path_templates)?;
    let mut inputs = Inputs::open(&[path.to_path_buf()]);
    inputs.refuse_as_outputs(&[])?;
    let mut engine = engine(&plan, pods(options, &[])?);
    let mut sources = inputs.sources()?;
    sources.give_hosts(&mut engine);
    sources.feed(&Ask::default(), &mut engine, options.progress, |_, _| Ok(()))?;
    let (sinks, totals) = engine.finish(&sources.names());
    let damaged = sources.facts(&totals).iter().any(CaptureFacts::is_damaged);
    let (aggregate, lost) = Results::aggregate(sinks);
    Ok((aggregate, lost || damaged))
}

fn engine(plan: &Plan, pods: Option<Pods>) -> Engine<ShardSink> {
    let mut engine = Engine::new(|_| Results::sink(plan));
    if let Some(pods) = pods {
        engine.use_pods(pods);
    }
    engine
}

/// `--pods`: names for what the captures do not name.
fn pods(options: &EngineOptions, outputs: &[PathBuf]) -> Result<Option<Pods>> {
    let Some(path) = &options.pods else { return Ok(None) };
    let wrong = || format!("cannot read {}", path.display());
    if path.is_file() {
        let file = File::open(path).with_context(wrong)?;
        FileId::of(&file, path)?.refuse_as_output(outputs.iter().map(PathBuf::as_path))?;
    }
    let json = open::read_whole(path, MAX_PODS).with_context(wrong)?;
    let list = kube::list(&json).map_err(|why| anyhow!("cannot read {} as a pod list: {why}", path.display()))?;
    let mut set = PodSet::default();
    set.learn_list(0, list.items);
    Ok(Some(Pods::new(set)))
}

/// Runs `work` in a pool with the number of threads in the options.
fn in_pool<R: Send>(options: &EngineOptions, work: impl FnOnce() -> Result<R> + Send) -> Result<R> {
    // 0: as many as there are processors.
    rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads.unwrap_or(0).min(MAX_THREADS))
        .build()
        .context("cannot start threads")?
        .install(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_threads_than_are_of_use_are_started() {
        let threads = |asked: Option<usize>| {
            let options = EngineOptions {
                threads: asked,
                ..EngineOptions::default()
            };
            in_pool(&options, || Ok(rayon::current_num_threads())).unwrap()
        };
        for (asked, started) in [(1, 1), (3, 3), (MAX_THREADS, MAX_THREADS), (5000, MAX_THREADS)] {
            assert_eq!(threads(Some(asked)), started, "{asked}");
        }
        assert!(threads(None) >= 1);
    }
}
