//! Bounds on the events that the selected rows are made of: time span, ports, processes, pods.

use crate::analyze::row::Party;
use crate::pods::select::glob;

/// A time span, from `from` on and before `to`: UTC, ns. 0 and `u64::MAX` are open ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub from: u64,
    pub to: u64,
}

impl Span {
    /// Whether a time is within the span.
    pub fn contains(self, time: u64) -> bool {
        self.from <= time && time < self.to
    }

    fn and(self, other: Span) -> Span {
        Span {
            from: self.from.max(other.from),
            to: self.to.min(other.to),
        }
    }

    fn or(self, other: Span) -> Span {
        Span {
            from: self.from.min(other.from),
            to: self.to.max(other.to),
        }
    }
}

/// Which events matter. An empty field sets no bound.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockFilter {
    pub span: Option<Span>,
    /// Either end of a connection; any of them.
    pub ports: Vec<u16>,
    pub pids: Vec<u32>,
    /// `namespace/name`, or a name; `*` matches any characters.
    pub pods: Vec<String>,
}

impl BlockFilter {
    /// The bounds of both. Of two lists only the first is kept, which is enough to prune by.
    pub fn and(mut self, other: BlockFilter) -> BlockFilter {
        fn first<T>(a: &mut Vec<T>, b: Vec<T>) {
            if a.is_empty() {
                *a = b;
            }
        }
        self.span = match (self.span, other.span) {
            (Some(a), Some(b)) => Some(a.and(b)),
            (a, b) => a.or(b),
        };
        first(&mut self.ports, other.ports);
        first(&mut self.pids, other.pids);
        first(&mut self.pods, other.pods);
        self
    }

    /// Bounds that hold where either holds.
    pub fn or(mut self, other: BlockFilter) -> BlockFilter {
        fn both<T: PartialEq>(a: &mut Vec<T>, b: Vec<T>) {
            match a.is_empty() || b.is_empty() {
                true => a.clear(),
                false => b.into_iter().for_each(|one| {
                    if !a.contains(&one) {
                        a.push(one);
                    }
                }),
            }
        }
        self.span = self.span.zip(other.span).map(|(a, b)| a.or(b));
        both(&mut self.ports, other.ports);
        both(&mut self.pids, other.pids);
        both(&mut self.pods, other.pods);
        self
    }

    /// Whether only connections of some processes match.
    pub fn is_of_processes(&self) -> bool {
        !self.pids.is_empty() || !self.pods.is_empty()
    }

    /// Whether this process is in a pod that matches.
    pub fn is_pod(&self, party: &Party) -> bool {
        self.pods.iter().map(|pod| pod_pattern(pod)).any(|(namespace, name)| {
            namespace.is_none_or(|namespace| glob(namespace, &party.namespace)) && glob(name, &party.pod)
        })
    }
}

/// The patterns of namespace and name in an argument of `--pod`.
pub fn pod_pattern(typed: &str) -> (Option<&str>, &str) {
    typed
        .split_once('/')
        .map_or((None, typed), |(namespace, name)| (Some(namespace), name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn and_narrows_and_or_widens() {
        let early = BlockFilter {
            span: Some(Span { from: 10, to: 20 }),
            ports: vec![80],
            ..BlockFilter::default()
        };
        let late = BlockFilter {
            span: Some(Span { from: 15, to: u64::MAX }),
            pids: vec![7],
            ..BlockFilter::default()
        };
        let both = early.clone().and(late.clone());
        assert_eq!(both.span, Some(Span { from: 15, to: 20 }));
        assert_eq!((both.ports, both.pids), (vec![80], vec![7]));
        let either = early.or(late);
        assert_eq!(either.span, Some(Span { from: 10, to: u64::MAX }));
        assert!(either.ports.is_empty() && either.pids.is_empty());
    }
}
