//! What an expression says about where in a capture its rows can be, so that other blocks need not be read.

use super::expression::{Expression, Node};
use super::test::{Operator, Test};
use crate::analyze::table::Spec;
use crate::analyze::wanted::Wanted;

impl Expression {
    /// Bounds that every row which passes is within; `specs` are the columns that it was parsed for.
    pub fn bounds(&self, specs: &[Spec]) -> Wanted {
        of_node(&self.root, specs)
    }
}

fn of_node(node: &Node, specs: &[Spec]) -> Wanted {
    match node {
        Node::And(nodes) => nodes
            .iter()
            .map(|node| of_node(node, specs))
            .fold(Wanted::default(), Wanted::and),
        Node::Or(nodes) => any(nodes.iter().map(|node| of_node(node, specs))),
        Node::Not(_) => Wanted::default(),
        Node::Test(column, test) => specs
            .get(*column)
            .map_or_else(Wanted::default, |spec| of_test(spec.name, test)),
    }
}

fn any(bounds: impl Iterator<Item = Wanted>) -> Wanted {
    bounds.reduce(Wanted::or).unwrap_or_default()
}

fn of_test(column: &str, test: &Test) -> Wanted {
    let mut bounds = Wanted::default();
    match (column, test) {
        (_, Test::OneOf(tests)) => return any(tests.iter().map(|test| of_test(column, test))),
        ("start", Test::Int(Operator::Greater | Operator::AtLeast, time)) => bounds.from = Some(*time),
        ("start", Test::Int(Operator::Less | Operator::AtMost, time)) => bounds.to = Some(*time),
        ("start", Test::Int(Operator::Equal, time)) => (bounds.from, bounds.to) = (Some(*time), Some(*time)),
        ("client_port" | "server_port", Test::Int(Operator::Equal, port)) => bounds.ports.extend(u16::try_from(*port)),
        ("client_pid" | "server_pid", Test::Int(Operator::Equal, pid)) => bounds.pids.extend(u32::try_from(*pid)),
        ("client_pod" | "server_pod", Test::Text(Operator::Equal, pod)) if !pod.contains(['/', '*', '?']) => {
            bounds.pods.push(pod.clone());
        }
        _ => {}
    }
    bounds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::table::TableName;

    fn bounds(text: &str) -> Wanted {
        let specs = TableName::Http.specs();
        Expression::parse(text, "http", &specs).unwrap().bounds(&specs)
    }

    #[test]
    fn conjunctions_narrow_and_disjunctions_widen() {
        let (two, three) = (Some(2_000_000_000), Some(3_000_000_000));
        let window = "start >= 1970-01-01T00:00:02Z and start < 1970-01-01T00:00:03Z";
        let found = bounds(&format!("{window} and status = 500"));
        assert_eq!((found.from, found.to), (two, three));
        assert_eq!(bounds(&format!("{window} or status = 500")), Wanted::default());
        assert_eq!(bounds(&format!("not ({window})")), Wanted::default());
        let either = bounds(&format!("({window}) or start > 1970-01-01T00:00:02.5Z"));
        assert_eq!((either.from, either.to), (two, None));
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
