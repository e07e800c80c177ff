//! `mdf analyze`, from files to results.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

use super::engine::Engine;
use super::input::{self, Mapped};
use super::names::Pods;
use super::options::{AnalyzeOptions, DiffOptions, EngineOptions, ResultOptions};
use super::output::human;
use super::output::{Facts, Format, target};
use super::packets::{self, Packets};
use super::plan::Plan;
use super::progress::Meter;
use super::query::diff;
use super::report::Aggregate;
use super::results::{Results, ShardSink};
use super::row::{CaptureFacts, Sink};
use super::wanted::Wanted;
use crate::message;
use crate::outcome::{Outcome, Usage};
use crate::pods::{PodSet, kube};

/// Rows of a comparison that people see.
const SHOWN: usize = 40;

/// Reads captures and says what happened.
pub fn run(options: &AnalyzeOptions) -> Result<Outcome> {
    let mut plan = Plan::new(&options.result)?;
    plan.templates(&options.engine.path_templates)?;
    in_pool(&options.engine, || {
        let files = open(&options.inputs)?;
        let start = start_of(&files)?;
        let wanted = options.selection.wanted(start).and(plan.bounds());
        plan.select(&options.selection, start);
        let mut engine = Engine::new(|_| Results::sink(&plan));
        name_pods(&options.engine, &mut engine)?;
        let captures = input::captures(&files, &mut engine)?;
        let mut packets = packets::captures(&files, &mut engine)?;
        let facts = |packets: &[Packets<'_>], damage: &[(usize, String)]| -> Vec<CaptureFacts> {
            let stored = captures
                .iter()
                .map(|capture| input::facts(capture, &files[capture.file], damage));
            stored
                .chain(packets.iter().map(|packets| packets.facts().clone()))
                .collect()
        };
        let mut results = Results::new(plan.clone(), &facts(&packets, &[]))?;
        let mut meter = Meter::new(options.engine.progress && !plan.writes_to_terminal(), &packets);
        let unfed = first_of(&packets);
        input::feed(&captures, &wanted, &mut engine, |engine, progress| {
            meter.show(&progress);
            results.collect(engine.sinks());
            results.write_ready(|| engine.oldest_exchange().min(progress.unread_from).min(unfed))
        })?;
        let mut rest = packets.as_mut_slice();
        while let [one, later @ ..] = rest {
            let unfed = first_of(later);
            meter.next(one.facts().file_bytes);
            one.feed(&mut engine, |engine, progress| {
                meter.show(&progress);
                results.collect(engine.sinks());
                results.write_ready(|| engine.oldest_exchange().min(progress.unread_from).min(unfed))
            })?;
            rest = later;
        }
        drop(meter);
        let names: Vec<String> = files.iter().map(Mapped::name).collect();
        let (sinks, totals): (Vec<ShardSink>, _) = engine.finish(&names);
        let lost = results.finish(sinks, &facts(&packets, &totals.damage))?;
        Ok(Outcome::from_losses(lost || totals.malformed > 0))
    })
}

/// The first packet of these captures, UTC, ns.
fn first_of(packets: &[Packets<'_>]) -> u64 {
    packets.iter().map(|one| one.facts().first).min().unwrap_or(u64::MAX)
}

/// The first event of all files, UTC, ns.
fn start_of(files: &[Mapped]) -> Result<u64> {
    let mut engine = Engine::new(|_| Aggregate::default());
    let captures = input::captures(files, &mut engine)?;
    let first = |capture: &input::Capture<'_>| input::facts(capture, &files[capture.file], &[]).first;
    let packets = packets::captures(files, &mut engine)?;
    let first_packets = packets.iter().map(|packets| packets.facts().first);
    Ok(captures.iter().map(first).chain(first_packets).min().unwrap_or(0))
}

/// Compares two captures.
pub fn diff(options: &DiffOptions) -> Result<Outcome> {
    if options.format.is_binary() {
        return Err(Usage("a comparison is table, json, ndjson or csv".to_string()).into());
    }
    let (before, lost_before) = in_pool(&options.engine, || aggregate(&options.before, &options.engine))?;
    let (after, lost_after) = in_pool(&options.engine, || aggregate(&options.after, &options.engine))?;
    let changes = diff::compare(&before, &after, options.min_count);
    let columns = match options.format {
        Format::Table => diff::readable(&changes),
        _ => diff::columns(&changes),
    };
    let specs: Vec<_> = columns.specs().collect();
    let mut writer = options
        .format
        .writer(target::standard_output(), &specs, &Facts::default())?;
    let shown = match options.format {
        Format::Table => columns.rows().min(SHOWN),
        _ => columns.rows(),
    };
    writer.write_batch(&columns.gather(&(0..shown as u32).collect::<Vec<u32>>()))?;
    writer.finish()?;
    drop(writer);
    if shown < columns.rows() {
        let more = human::count((columns.rows() - shown) as u64);
        writeln!(std::io::stdout(), "  … and {more} more that changed less: --format csv")?;
    }
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

/// Counts one capture up; also returns whether data was lost or damaged.
fn aggregate(path: &Path, options: &EngineOptions) -> Result<(Aggregate, bool)> {
    let mut plan = Plan::new(&ResultOptions::default())?;
    plan.templates(&options.path_templates)?;
    let files = open(&[path.to_path_buf()])?;
    let mut engine = Engine::new(|_| Results::sink(&plan));
    name_pods(options, &mut engine)?;
    let captures = input::captures(&files, &mut engine)?;
    let mut packets = packets::captures(&files, &mut engine)?;
    let mut meter = Meter::new(options.progress, &packets);
    input::feed(&captures, &Wanted::default(), &mut engine, |_, progress| {
        meter.show(&progress);
        Ok(())
    })?;
    for packets in &mut packets {
        meter.next(packets.facts().file_bytes);
        packets.feed(&mut engine, |_, progress| {
            meter.show(&progress);
            Ok(())
        })?;
    }
    drop(meter);
    let names: Vec<String> = files.iter().map(Mapped::name).collect();
    let (sinks, totals) = engine.finish(&names);
    let damaged = captures
        .iter()
        .any(|capture| input::facts(capture, &files[capture.file], &totals.damage).is_damaged())
        || packets.iter().any(|packets| packets.facts().is_damaged());
    let (aggregate, lost) = Results::aggregate(sinks);
    Ok((aggregate, lost || damaged || totals.malformed > 0))
}

/// `--pods`: names what the captures do not name.
fn name_pods<S: Sink>(options: &EngineOptions, engine: &mut Engine<S>) -> Result<()> {
    let Some(path) = &options.pods else { return Ok(()) };
    let json = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let list = kube::list(&json).map_err(|why| anyhow!("cannot read {} as a pod list: {why}", path.display()))?;
    let mut set = PodSet::default();
    set.learn_list(0, list.items);
    engine.use_pods(Pods::new(set));
    Ok(())
}

fn open(paths: &[PathBuf]) -> Result<Vec<Mapped>> {
    paths.iter().map(|path| Mapped::open(path)).collect()
}

/// Does the work with as many threads as were asked for.
fn in_pool<R: Send>(options: &EngineOptions, work: impl FnOnce() -> Result<R> + Send) -> Result<R> {
    // Zero is as many as there are processors.
    rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads.unwrap_or(0))
        .build()
        .context("cannot start threads")?
        .install(work)
}
