//! `mdf analyze`, from files to results.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

use super::engine::{Engine, Totals};
use super::input::{self, Mapped};
use super::names::Pods;
use super::options::{AnalyzeOptions, DiffOptions, EngineOptions, ResultOptions};
use super::output::human::{self, safe};
use super::output::{Facts, Format, target};
use super::packets::{self, Packets};
use super::plan::Plan;
use super::progress::Meter;
use super::prune::Ask;
use super::query::diff;
use super::report::Aggregate;
use super::results::{Results, ShardSink};
use super::row::{CaptureFacts, Sink};
use super::same;
use crate::outcome::{Outcome, Usage};
use crate::pods::{PodSet, kube};

/// Rows of a comparison that people see.
const SHOWN: usize = 40;
/// Threads that can be asked for; more count as this. Thousands would only search one another's queues for work, without end.
const MAX_THREADS: usize = 64;

/// Reads captures and says what happened.
pub fn run(options: &AnalyzeOptions) -> Result<Outcome> {
    let mut plan = Plan::new(&options.result)?;
    plan.templates(&options.engine.path_templates)?;
    in_pool(&options.engine, || {
        let (files, same): (Vec<Mapped>, Vec<Vec<String>>) = same::distinct(open(&options.inputs)?).into_iter().unzip();
        for (file, same) in files.iter().zip(&same) {
            for name in same {
                let (name, file) = (safe(name), safe(&file.name()));
                let _ = writeln!(
                    std::io::stderr(),
                    "mdf: {name} is the same capture as {file}: it is read once"
                );
            }
        }
        let start = start_of(&files)?;
        let filter = options.selection.filter(start).and(plan.bounds());
        plan.select(&options.selection, start);
        let ask = Ask {
            filter,
            span: plan.span,
            rows: plan.rows(),
            read_all: options.engine.read_all,
        };
        let mut engine = Engine::new(|_| Results::sink(&plan));
        if let Some(span) = plan.span {
            engine.count_within(span);
        }
        name_pods(&options.engine, &mut engine)?;
        let captures = input::captures(&files, &mut engine)?;
        let mut packets = packets::captures(&files, &mut engine)?;
        let facts = |packets: &[Packets<'_>], totals: &Totals| -> Vec<CaptureFacts> {
            let stored = captures
                .iter()
                .map(|capture| (capture.file, input::facts(capture, &files[capture.file], totals)));
            let imported = packets
                .iter()
                .map(|packets| (packets.file(), packets.facts_with(totals)));
            let all = stored.chain(imported).map(|(file, mut facts)| {
                let given_again = |name: &String| format!("read once, although it was also given as {name}");
                facts.remarks.extend(same[file].iter().map(given_again));
                facts
            });
            all.collect()
        };
        let mut results = Results::new(plan.clone(), &facts(&packets, &Totals::default()))?;
        let mut meter = Meter::new(options.engine.progress && !plan.writes_to_terminal(), &packets);
        let unfed = first_of(&packets);
        input::feed(&captures, &ask, &mut engine, |engine, progress| {
            meter.show(&progress);
            results.collect(engine.sinks())?;
            results.write_ready(|| engine.oldest_exchange().min(progress.unread_from).min(unfed))
        })?;
        let mut rest = packets.as_mut_slice();
        while let [one, later @ ..] = rest {
            let unfed = first_of(later);
            meter.next(one.facts().file_bytes);
            one.feed(&mut engine, |engine, progress| {
                meter.show(&progress);
                results.collect(engine.sinks())?;
                results.write_ready(|| engine.oldest_exchange().min(progress.unread_from).min(unfed))
            })?;
            rest = later;
        }
        drop(meter);
        let names: Vec<String> = files.iter().map(Mapped::name).collect();
        let (sinks, totals): (Vec<ShardSink>, _) = engine.finish(&names);
        let lost = results.finish(sinks, &facts(&packets, &totals))?;
        Ok(Outcome::from_losses(lost))
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
    let first = |capture: &input::Capture<'_>| input::facts(capture, &files[capture.file], &Totals::default()).first;
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
            let what = safe(&change.what);
            let _ = writeln!(
                std::io::stderr(),
                "mdf: {}: {} {what}",
                condition.text(),
                change.protocol
            );
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
    input::feed(&captures, &Ask::default(), &mut engine, |_, progress| {
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
        .any(|capture| input::facts(capture, &files[capture.file], &totals).is_damaged())
        || packets.iter().any(|packets| packets.facts().is_damaged());
    let (aggregate, lost) = Results::aggregate(sinks);
    Ok((aggregate, lost || damaged))
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
    // Zero means one for each processor.
    rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads.unwrap_or(0).min(MAX_THREADS))
        .build()
        .context("cannot start threads")?
        .install(work)
}
