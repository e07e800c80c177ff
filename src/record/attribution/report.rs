//! How each source is doing: for the user while recording, and for `mdf doctor`. Only changes are reported.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Notes about what one user has made.
const NOTES_MAX: usize = 4;

/// One source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// `log names`, `kubelet`, …
    pub source: &'static str,
    pub state: State,
    /// In words, without a full stop.
    pub what: String,
}

/// Whether a source gives names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Works,
    Fails,
    /// It is not there, and nobody asked for it.
    Absent,
}

impl State {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            State::Works => "works",
            State::Fails => "fails",
            State::Absent => "absent",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.source, self.what)
    }
}

type Notify = Box<dyn Fn(String) + Send>;

/// Counters by the threads that ask.
#[derive(Clone)]
pub struct Report {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    statuses: Vec<Status>,
    /// What was noted, by whose it is.
    notes: BTreeMap<String, BTreeSet<String>>,
    notify: Notify,
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.statuses()).finish()
    }
}

impl Report {
    /// `notify` gets what the user should know.
    pub fn new(notify: impl Fn(String) + Send + 'static) -> Report {
        Report {
            inner: Arc::new(Mutex::new(Inner {
                statuses: Vec::new(),
                notes: BTreeMap::new(),
                notify: Box::new(notify),
            })),
        }
    }

    /// A source works, fails, or is absent. A failure is reported once, until the source works again.
    pub fn set(&self, source: &'static str, state: State, what: impl Into<String>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        // A server's words are shown on a terminal.
        let what = what.into().replace(char::is_control, " ");
        let status = Status { source, state, what };
        let known = inner.statuses.iter().position(|known| known.source == source);
        let before = known.map(|at| inner.statuses[at].state);
        match (before, state) {
            (Some(State::Fails), State::Works) => (inner.notify)(format!("names: {source} answers again")),
            (before, State::Fails) if before != Some(State::Fails) => {
                let rest: Vec<&str> = inner
                    .statuses
                    .iter()
                    .filter(|known| known.source != source && known.state == State::Works)
                    .map(|known| known.source)
                    .collect();
                let fallback = match rest.is_empty() {
                    true => "containers are named by their cgroup paths".to_owned(),
                    false => format!("names come from: {}", rest.join(", ")),
                };
                (inner.notify)(format!("names: {status}; {fallback}"));
            }
            _ => {}
        }
        match known {
            Some(at) => inner.statuses[at] = status,
            None => inner.statuses.push(status),
        }
    }

    /// A part of a source gives no names. Reported once; of what belongs to one user (`whose`) only the first few, because
    /// a user can make as many as he likes.
    pub fn note(&self, whose: &str, what: &str) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let notes = inner.notes.entry(whose.to_owned()).or_default();
        if notes.len() < NOTES_MAX && notes.insert(what.to_owned()) {
            (inner.notify)(format!("names: {what}"));
        }
    }

    /// How all sources are doing.
    pub fn statuses(&self) -> Vec<Status> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.statuses.clone()
    }
}
