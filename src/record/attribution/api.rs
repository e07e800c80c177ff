//! Lists and watches pods and Services at the API server: once listed, only changes are sent.
//!
//! The protocol: <https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes>. A watch
//! goes on from a version; when that is too old (410 Gone), everything is listed again. Bookmarks bring newer versions
//! while nothing changes.

use std::sync::mpsc::Sender;
use std::time::Instant;

use super::client::{Client, Failure, Pause};
use super::input::Input;
use super::report::{Report, State};
use crate::pods::kube::{self, Event, Item};

/// Objects on one page of a list.
const PAGE: u32 = 500;
/// Watches that break before anything came are given up for a new list after this many in a row.
const BROKEN_MAX: u32 = 3;

/// What is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The name of the source in reports.
    pub source: &'static str,
    /// Its number among the lists.
    pub list: u32,
    /// `Pod` or `Service`.
    pub kind: &'static str,
    path: String,
    /// Whose pods, in words.
    whose: String,
}

impl Target {
    /// The pods of a node; of all nodes without one.
    pub fn pods(node: Option<&str>) -> Target {
        let path = match node {
            Some(node) => format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{}&", escape(node)),
            None => "/api/v1/pods?".to_owned(),
        };
        Target {
            source: "API server (pods)",
            list: 2,
            kind: "Pod",
            path,
            whose: node.map_or("of all nodes".to_owned(), |node| format!("of node {node}")),
        }
    }

    /// The Services of the cluster.
    pub fn services() -> Target {
        Target {
            source: "API server (Services)",
            list: 3,
            kind: "Service",
            path: "/api/v1/services?".to_owned(),
            whose: "of the cluster".to_owned(),
        }
    }
}

/// For a query; node names need it hardly ever.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

/// Why a watch ended.
enum End {
    /// By the server, as it does every few minutes, or by a broken connection.
    Ended,
    /// The version is too old.
    Expired,
    /// Nobody listens to us any more.
    Unheard,
}

/// Lists and watches until nobody listens any more.
pub fn run(client: &Client, target: &Target, to: &Sender<Input>, report: &Report) {
    let mut pause = Pause::new(client.timing());
    loop {
        match list(client, target) {
            Ok((items, mut version)) => {
                report.set(target.source, State::Works, works(client, target, items.len()));
                pause.reset();
                if to.send(Input::List(target.list, items)).is_err() {
                    return;
                }
                let mut broken = 0;
                while broken < BROKEN_MAX {
                    let begun = Instant::now();
                    let before = version.clone();
                    match watch(client, target, &mut version, to) {
                        Ok(End::Unheard) => return,
                        Ok(End::Expired) => break,
                        Ok(End::Ended) => {
                            report.set(target.source, State::Works, format!("watched at {}", client.base()));
                        }
                        Err(failure) => report.set(target.source, State::Fails, fails(client, &failure)),
                    }
                    if version != before || begun.elapsed() >= client.timing().watch / 2 {
                        broken = 0;
                        pause.reset();
                    } else {
                        broken += 1;
                        std::thread::sleep(pause.after_failure());
                    }
                }
            }
            Err(failure) => {
                report.set(target.source, State::Fails, fails(client, &failure));
                if to.send(Input::Failed(target.list)).is_err() {
                    return;
                }
                std::thread::sleep(pause.after_failure());
            }
        }
    }
}

fn works(client: &Client, target: &Target, count: usize) -> String {
    let mut what = format!(
        "{count} {}s {} at {}",
        target.kind.to_lowercase(),
        target.whose,
        client.base()
    );
    if count == 0 && target.kind == "Pod" {
        what.push_str(" (is that the node's name? --node or NODE_NAME gives it)");
    }
    what
}

fn fails(client: &Client, failure: &Failure) -> String {
    format!("{} {failure}", client.base())
}

/// Everything, and the version from which a watch goes on.
fn list(client: &Client, target: &Target) -> Result<(Vec<Item>, String), Failure> {
    let mut items = Vec::new();
    let mut next = String::new();
    loop {
        let mut path = format!("{}limit={PAGE}", target.path);
        if !next.is_empty() {
            path.push_str("&continue=");
            path.push_str(&escape(&next));
        }
        let page = match client.get(&path) {
            // The list took too long and its rest is gone: take it in one piece.
            Err(Failure::Status(410, _)) if !next.is_empty() => {
                let page = client.get(target.path.trim_end_matches(['?', '&']))?;
                let page = kube::list(&page).map_err(Failure::Other)?;
                return Ok((page.items, page.resource_version));
            }
            page => kube::list(&page?).map_err(Failure::Other)?,
        };
        items.extend(page.items);
        if page.next.is_empty() {
            return Ok((items, page.resource_version));
        }
        next = page.next;
    }
}

/// Passes changes on until the watch ends. `version` is where the next one goes on.
fn watch(client: &Client, target: &Target, version: &mut String, to: &Sender<Input>) -> Result<End, Failure> {
    let path = format!(
        "{}watch=1&allowWatchBookmarks=true&resourceVersion={}&timeoutSeconds={}",
        target.path,
        escape(version),
        client.timing().watch.as_secs().max(1)
    );
    let mut end = Ok(End::Ended);
    let result = client.lines(&path, |line| {
        let (ask, newer) = match kube::event(line, target.kind) {
            Ok(Event::Applied(item, newer)) => (Some(Input::Applied(item)), newer),
            Ok(Event::Deleted(item, newer)) => (Some(Input::Deleted(item)), newer),
            Ok(Event::Bookmark(newer)) => (None, newer),
            Ok(Event::Other) => (None, String::new()),
            Ok(Event::Error { code: 410, .. }) => {
                end = Ok(End::Expired);
                return false;
            }
            Ok(Event::Error { code, message }) => {
                end = Err(Failure::Status(code, message));
                return false;
            }
            // Cut off in the middle of a line.
            Err(_) => return false,
        };
        if !newer.is_empty() {
            *version = newer;
        }
        if ask.is_some_and(|ask| to.send(ask).is_err()) {
            end = Ok(End::Unheard);
            return false;
        }
        true
    });
    match result {
        Err(Failure::Status(410, _)) => Ok(End::Expired),
        Err(failure) => Err(failure),
        Ok(()) => end,
    }
}

/// Lists once, for `mdf doctor`.
pub fn try_once(client: &Client, target: &Target, report: &Report) {
    match list(client, target) {
        Ok((items, _)) => report.set(target.source, State::Works, works(client, target, items.len())),
        Err(failure) => report.set(target.source, State::Fails, fails(client, &failure)),
    }
}
