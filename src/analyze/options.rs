//! The options of `mdf analyze` and `mdf diff`, parsed but not yet checked together ([`plan`](super::plan) does that).

use std::path::PathBuf;

use super::catalog::TableName;
use super::output::Format;
use super::query::diff::Condition;
use super::selection::{BlockFilter, Span};
use super::table::order::SortBy;
use crate::outcome::Usage;

/// `mdf analyze`.
#[derive(Debug, Clone, Default)]
pub struct AnalyzeOptions {
    pub inputs: Vec<PathBuf>,
    pub selection: Selection,
    pub engine: EngineOptions,
    pub result: ResultOptions,
}

/// How the work is done; the results do not depend on it.
#[derive(Debug, Clone, Default)]
pub struct EngineOptions {
    /// `None` for all processors.
    pub threads: Option<usize>,
    /// Show progress on standard error; only when that is a terminal.
    pub progress: bool,
    /// A pod list (`kubectl get pods -A -o json`) that names what the capture does not.
    pub pods: Option<PathBuf>,
    /// The user's path templates, such as `/shop/{name}/cart`.
    pub path_templates: Vec<String>,
    /// Read every block, also those that cannot matter. For tests: the answer must be the same.
    pub read_all: bool,
}

/// A moment: absolute, or counted from the start of the capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// UTC, ns.
    Utc(u64),
    /// ns after the first event.
    AfterStart(u64),
}

/// Which part of the captures is read. Blocks that cannot match are not inflated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    pub from: Option<Moment>,
    pub to: Option<Moment>,
    /// Either end of a connection; any of them.
    pub ports: Vec<u16>,
    pub pids: Vec<u32>,
    /// `namespace/name`, or a name; `*` matches any characters.
    pub pods: Vec<String>,
}

impl Selection {
    /// The selected time span, if there is one. `start` is the first event of the files, UTC, ns.
    pub fn span(&self, start: u64) -> Option<Span> {
        let utc = |moment: Moment| match moment {
            Moment::Utc(ns) => ns,
            Moment::AfterStart(ns) => start.saturating_add(ns),
        };
        (self.from.is_some() || self.to.is_some()).then(|| Span {
            from: self.from.map_or(0, utc),
            to: self.to.map_or(u64::MAX, utc),
        })
    }

    /// Refuses a span that ends before it begins: nothing is in it.
    pub fn check(&self, start: u64) -> Result<(), Usage> {
        match self.span(start) {
            Some(span) if span.from >= span.to => {
                Err(Usage("nothing is selected: --to is not after --from".to_string()))
            }
            _ => Ok(()),
        }
    }

    /// Bounds on the events that are selected.
    pub fn filter(&self, start: u64) -> BlockFilter {
        BlockFilter {
            span: self.span(start),
            ports: self.ports.clone(),
            pids: self.pids.clone(),
            pods: self.pods.clone(),
        }
    }
}

/// What is shown, how, and where to.
#[derive(Debug, Clone, Default)]
pub struct ResultOptions {
    pub table: Option<TableName>,
    pub format: Option<Format>,
    pub output: Option<PathBuf>,
    /// Overwrite what exists.
    pub force: bool,
    /// `--where`.
    pub filter: Option<String>,
    /// Empty for the usual ones; `*` for all.
    pub columns: Vec<String>,
    pub sort: Vec<SortBy>,
    pub limit: Option<usize>,
    pub group_by: Vec<String>,
    /// Width of a time bucket, ns.
    pub bucket_ns: Option<u64>,
    /// Colours: standard output is a terminal, and NO_COLOR and the like do not forbid them.
    pub colour: bool,
}

/// `mdf diff`.
#[derive(Debug, Clone)]
pub struct DiffOptions {
    pub before: PathBuf,
    pub after: PathBuf,
    pub fail_if: Vec<Condition>,
    /// Keys that occur less often on both sides are left out.
    pub min_count: u64,
    pub format: Format,
    pub engine: EngineOptions,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_that_ends_before_it_begins_is_a_wrong_question() {
        let checked = |from: Option<Moment>, to: Option<Moment>| {
            let selection = Selection {
                from,
                to,
                ..Selection::default()
            };
            selection.check(100).is_ok()
        };
        use Moment::{AfterStart, Utc};
        for (from, to, is_right) in [
            (AfterStart(5), AfterStart(6), true),
            (AfterStart(5), AfterStart(5), false),
            (AfterStart(5), AfterStart(1), false),
            (Utc(7), Utc(3), false),
            (AfterStart(5), Utc(105), false),
            (AfterStart(5), Utc(106), true),
            (Utc(106), AfterStart(5), false),
        ] {
            assert_eq!(checked(Some(from), Some(to)), is_right, "{from:?} {to:?}");
        }
        assert!(checked(None, None) && checked(Some(Utc(u64::MAX - 1)), None) && checked(None, Some(Utc(1))));
    }
}
