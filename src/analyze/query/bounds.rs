//! Bounds of an expression: time span, ports, processes and pods that its rows must have, so that other blocks are pruned.

use super::expression::{Expression, Node};
use super::test::{Operator, Test};
use crate::analyze::selection::{BlockFilter, Span};
use crate::analyze::table::Spec;

impl Expression {
    /// Bounds that every passing row satisfies; `specs` are the columns that it was parsed for.
    pub fn bounds(&self, specs: &[Spec]) -> BlockFilter {
        of_node(&self.root, specs)
    }
}

fn of_node(node: &Node, specs: &[Spec]) -> BlockFilter {
    match node {
        Node::And(nodes) => nodes
            .iter()
            .map(|node| of_node(node, specs))
            .fold(BlockFilter::default(), BlockFilter::and),
        Node::Or(nodes) => any(nodes.iter().map(|node| of_node(node, specs))),
        Node::Not(_) => BlockFilter::default(),
        Node::Test(column, test) => specs
            .get(*column)
            .map_or_else(BlockFilter::default, |spec| of_test(spec.name, test)),
    }
}

fn any(bounds: impl Iterator<Item = BlockFilter>) -> BlockFilter {
    bounds.reduce(BlockFilter::or).unwrap_or_default()
}

fn of_test(column: &str, test: &Test) -> BlockFilter {
    let mut bounds = BlockFilter::default();
    match (column, test) {
        (_, Test::OneOf(tests)) => return any(tests.iter().map(|test| of_test(column, test))),
        ("start", Test::Int(operator, time)) => bounds.span = span(*operator, *time),
        ("client_port" | "server_port", Test::Int(Operator::Equal, port)) => bounds.ports.extend(u16::try_from(*port)),
        ("client_pid" | "server_pid", Test::Int(Operator::Equal, pid)) => bounds.pids.extend(u32::try_from(*pid)),
        ("client_pod" | "server_pod", Test::Text(Operator::Equal, pod)) if !pod.contains(['/', '*', '?']) => {
            bounds.pods.push(pod.clone());
        }
        _ => {}
    }
    bounds
}

/// The span of times that compare like this with `time`.
fn span(operator: Operator, time: u64) -> Option<Span> {
    let after = time.saturating_add(1);
    let (from, to) = match operator {
        Operator::Equal => (time, after),
        Operator::AtLeast => (time, u64::MAX),
        Operator::Greater => (after, u64::MAX),
        Operator::Less => (0, time),
        Operator::AtMost => (0, after),
        Operator::NotEqual | Operator::Matches | Operator::MatchesNot => return None,
    };
    Some(Span { from, to })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::catalog::TableName;
    use crate::analyze::protocol::http1::Http;

    fn bounds(text: &str) -> BlockFilter {
        let specs = TableName::of::<Http>().specs();
        Expression::parse(text, "http", &specs).unwrap().bounds(&specs)
    }

    #[test]
    fn conjunctions_narrow_and_disjunctions_widen() {
        let span = |from, to| Some(Span { from, to });
        let window = "start >= 1970-01-01T00:00:02Z and start < 1970-01-01T00:00:03Z";
        let found = bounds(&format!("{window} and status = 500"));
        assert_eq!(found.span, span(2_000_000_000, 3_000_000_000));
        assert_eq!(bounds(&format!("{window} or status = 500")), BlockFilter::default());
        assert_eq!(bounds(&format!("not ({window})")), BlockFilter::default());
        let either = bounds(&format!("({window}) or start > 1970-01-01T00:00:02.5Z"));
        assert_eq!(either.span, span(2_000_000_000, u64::MAX));
        let at = bounds("start = 1970-01-01T00:00:02Z");
        assert_eq!(at.span, span(2_000_000_000, 2_000_000_001));
    }

    #[test]
    fn ports_processes_and_pods_are_lists_of_any() {
        assert_eq!(bounds("server_port in (80, 443)").ports, [80, 443]);
        assert_eq!(bounds("server_port = 80 or client_port = 81").ports, [80, 81]);
        assert_eq!(bounds("server_port = 80 or path = /").ports, [0u16; 0]);
        assert_eq!(bounds("client_pid = 7 and server_port > 80").pids, [7]);
        assert_eq!(bounds("server_pod = cart-0").pods, ["cart-0"]);
        assert!(bounds("server_port != 80").ports.is_empty());
    }
}
