//! Asks the kubelet for the pods of its node: now and then, and when a cgroup turned up that nobody can name. It cannot
//! be watched.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use super::client::{Client, Pause};
use super::report::{Report, State};
use super::worker::Ask;
use crate::pods::kube;

/// The name of the source in reports.
pub const SOURCE: &str = "kubelet";
/// Its number among the lists.
pub const LIST: u32 = 1;
/// Between two questions, however many cgroups turn up.
const GAP: Duration = Duration::from_millis(300);

/// Asks until nobody listens any more. `wake` brings reasons to ask at once.
pub fn run(ways: &[Result<Client, String>], every: Duration, wake: &Receiver<()>, to: &Sender<Ask>, report: &Report) {
    let Some(timing) = ways.iter().flatten().next().map(Client::timing) else {
        report.set(SOURCE, State::Fails, refusals(ways, &[]));
        return;
    };
    let mut pause = Pause::new(timing);
    let mut way = None;
    loop {
        let asked = Instant::now();
        let wait = match ask(ways, &mut way) {
            Ok(list) => {
                let from = way
                    .and_then(|way: usize| ways[way].as_ref().ok())
                    .map_or("", Client::base);
                let pods = list.items.len();
                report.set(SOURCE, State::Works, format!("{pods} pods from {from}"));
                pause.reset();
                if to.send(Ask::List(LIST, list.items)).is_err() {
                    return;
                }
                every
            }
            Err(why) => {
                report.set(SOURCE, State::Fails, why);
                if to.send(Ask::Failed(LIST)).is_err() {
                    return;
                }
                pause.after_failure().max(GAP)
            }
        };
        let failed = pause.has_failed();
        match wake.recv_timeout(wait) {
            // After a failure the pause counts, not the wish.
            Ok(()) if failed => std::thread::sleep(wait.saturating_sub(asked.elapsed()).min(wait)),
            Ok(()) => std::thread::sleep(GAP.saturating_sub(asked.elapsed())),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        while wake.try_recv().is_ok() {}
    }
}

/// Asks by the way that worked last, else by the first that works.
fn ask(ways: &[Result<Client, String>], way: &mut Option<usize>) -> Result<kube::List, String> {
    let mut errors = Vec::new();
    let order = way
        .iter()
        .copied()
        .chain((0..ways.len()).filter(|number| Some(*number) != *way));
    for number in order.collect::<Vec<_>>() {
        let Ok(client) = &ways[number] else { continue };
        let answer = client.get("/pods").map_err(|failure| failure.to_string());
        match answer.and_then(|json| kube::list(&json)) {
            Ok(list) => {
                *way = Some(number);
                return Ok(list);
            }
            Err(why) => errors.push(format!("{} {why}", client.base())),
        }
    }
    Err(refusals(ways, &errors))
}

fn refusals(ways: &[Result<Client, String>], errors: &[String]) -> String {
    let not_made = ways.iter().filter_map(|way| way.as_ref().err()).map(String::as_str);
    let all: Vec<&str> = errors.iter().map(String::as_str).chain(not_made).collect();
    all.join("; ")
}

/// Asks once, for `mdf doctor`.
pub fn try_once(ways: &[Result<Client, String>], report: &Report) {
    let mut way = None;
    match ask(ways, &mut way) {
        Ok(list) => {
            let from = way.and_then(|way| ways[way].as_ref().ok()).map_or("", Client::base);
            report.set(SOURCE, State::Works, format!("{} pods from {from}", list.items.len()));
        }
        Err(why) => report.set(SOURCE, State::Fails, why),
    }
}
