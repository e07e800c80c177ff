//! `mdf analyze`, from files to results.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::engine::Engine;
use super::input::{self, Mapped};
use super::options::{AnalyzeOptions, EngineOptions};
use super::plan::Plan;
use super::results::{Results, ShardSink};
use super::row::CaptureFacts;
use crate::outcome::Outcome;

/// Reads captures and says what happened.
pub fn run(options: &AnalyzeOptions) -> Result<Outcome> {
    let plan = Plan::new(&options.result)?;
    in_pool(&options.engine, || {
        let files = open(&options.inputs)?;
        let mut engine = Engine::new(|_| Results::sink(&plan));
        let captures = input::captures(&files, &mut engine)?;
        let facts = |damage: &[(usize, String)]| -> Vec<CaptureFacts> {
            captures
                .iter()
                .map(|capture| input::facts(capture, &files[capture.file], damage))
                .collect()
        };
        let mut results = Results::new(plan.clone(), &facts(&[]))?;
        input::feed(&captures, &mut engine, |engine, _| results.drain(engine.sinks(), 0))?;
        let names: Vec<String> = files.iter().map(Mapped::name).collect();
        let (sinks, totals): (Vec<ShardSink>, _) = engine.finish(&names);
        let lost = results.finish(sinks, &facts(&totals.damage))?;
        Ok(Outcome::from_losses(lost || totals.malformed > 0))
    })
}

fn open(paths: &[PathBuf]) -> Result<Vec<Mapped>> {
    paths.iter().map(|path| Mapped::open(path)).collect()
}

/// Does the work with as many threads as were asked for.
fn in_pool<R: Send>(options: &EngineOptions, work: impl FnOnce() -> Result<R> + Send) -> Result<R> {
    match options.threads {
        None => work(),
        Some(threads) => rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .context("cannot start threads")?
            .install(work),
    }
}
