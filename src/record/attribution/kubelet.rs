//! Asks the kubelet for the pods of its node: now and then, and when a cgroup appeared that has no name yet. It cannot
//! be watched.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use super::client::{Client, Pause};
use super::input::Input;
use super::report::{Report, State};
use crate::pods::kube;

/// The name of the source in reports.
pub const SOURCE: &str = "kubelet";
/// Its number among the lists.
pub const LIST: u32 = 1;
/// Between two questions, however many cgroups turn up.
const GAP: Duration = Duration::from_millis(300);

/// Asks until nobody listens any more. `wake` brings reasons to ask at once.
pub fn run(client: &Client, every: Duration, wake: &Receiver<()>, to: &Sender<Input>, report: &Report) {
    let mut pause = Pause::new(client.timing());
    loop {
        let asked = Instant::now();
        let wait = match ask(client, report) {
            Some(list) => {
                pause.reset();
                if to.send(Input::List(LIST, list.items)).is_err() {
                    return;
                }
                every
            }
            None => {
                if to.send(Input::Failed(LIST)).is_err() {
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

/// Asks once, and reports whether it worked.
pub fn ask(client: &Client, report: &Report) -> Option<kube::List> {
    let base = client.base();
    let answer = client.get("/pods").map_err(|failure| failure.to_string());
    match answer.and_then(|json| kube::list(&json)) {
        Ok(list) => {
            report.set(SOURCE, State::Works, format!("{} pods from {base}", list.items.len()));
            Some(list)
        }
        Err(why) => {
            report.set(SOURCE, State::Fails, format!("{base} {why}"));
            None
        }
    }
}
