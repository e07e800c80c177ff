//! Row filters by table: from `--where` and from the selection (`--from`, `--to`, `--port`, `--pid`, `--pod`). Which columns a
//! selection tests is decided here; tests themselves are in [`query`](crate::analyze::query).

use crate::analyze::catalog::TableName;
use crate::analyze::options::Selection;
use crate::analyze::query::expression::{Expression, QueryError};
use crate::analyze::query::test::{Operator, Test};
use crate::analyze::selection::{Span, pod_pattern};

/// Which rows of a table are kept.
#[derive(Debug, Clone, Default)]
pub enum RowFilter {
    #[default]
    All,
    None,
    Where(Expression),
}

/// The row filters by table.
#[derive(Debug, Clone)]
pub struct RowFilters {
    /// Of the exchanges of each protocol, in the order of the registry.
    pub exchanges: Vec<RowFilter>,
    pub connections: RowFilter,
    pub processes: RowFilter,
    pub losses: RowFilter,
}

impl RowFilters {
    /// The tables whose rows are filtered.
    pub fn chosen() -> Vec<TableName> {
        let others = [TableName::Connections, TableName::Processes];
        TableName::exchanges().chain(others).collect()
    }

    /// No filter.
    pub fn everything() -> RowFilters {
        RowFilters {
            exchanges: TableName::exchanges().map(|_| RowFilter::All).collect(),
            connections: RowFilter::All,
            processes: RowFilter::All,
            losses: RowFilter::All,
        }
    }

    fn nothing() -> RowFilters {
        RowFilters {
            exchanges: TableName::exchanges().map(|_| RowFilter::None).collect(),
            connections: RowFilter::None,
            processes: RowFilter::None,
            // Losses are reported for every request.
            losses: RowFilter::All,
        }
    }

    /// Keeps only rows of a selection, whose time span is `span`.
    pub fn select(&mut self, selection: &Selection, span: Option<Span>) {
        for table in RowFilters::chosen() {
            if let (Some(expression), Some(slot)) = (selected(selection, span, table), self.slot(table)) {
                *slot = match std::mem::take(slot) {
                    RowFilter::None => RowFilter::None,
                    RowFilter::All => RowFilter::Where(expression),
                    RowFilter::Where(other) => RowFilter::Where(Expression::all([expression, other])),
                };
            }
        }
    }

    fn slot(&mut self, table: TableName) -> Option<&mut RowFilter> {
        Some(match table {
            TableName::Exchanges(protocol) => &mut self.exchanges[protocol],
            TableName::Connections => &mut self.connections,
            TableName::Processes => &mut self.processes,
            TableName::Losses => &mut self.losses,
            _ => return None,
        })
    }

    /// Rows of one table only.
    pub fn only(table: TableName, expression: Expression) -> RowFilters {
        let mut filters = RowFilters::nothing();
        if let Some(slot) = filters.slot(table) {
            *slot = RowFilter::Where(expression);
        }
        filters
    }

    /// One expression for all tables that have its columns; rows of the others are left out.
    pub fn parse(text: &str) -> Result<RowFilters, QueryError> {
        let mut filters = RowFilters::nothing();
        let mut first_error = None;
        let mut understood = false;
        for table in RowFilters::chosen() {
            match Expression::parse(text, table.name(), &table.specs()) {
                Ok(expression) => {
                    understood = true;
                    if let Some(slot) = filters.slot(table) {
                        *slot = RowFilter::Where(expression);
                    }
                }
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
        }
        match first_error {
            Some(error) if !understood => Err(error),
            _ => Ok(filters),
        }
    }
}

/// The rows of a table that belong to a selection; `None` where nothing of it concerns this table.
///
/// An exchange belongs to the span of time in which its request begins. What lasts (a connection, a process) belongs to
/// every span that it reaches into; null, an open end, is outside of none.
fn selected(selection: &Selection, span: Option<Span>, table: TableName) -> Option<Expression> {
    let specs = table.specs();
    let test = |name: &str, test: Test| match specs.iter().position(|spec| spec.name == name) {
        Some(column) => Expression::test(column, test),
        // Without the column no row belongs; a test below checks that all these columns exist.
        None => Expression::any([]),
    };
    let process = table == TableName::Processes;
    let mut parts = Vec::new();
    if let Some(Span { from, to }) = span {
        let at_least = |name| test(name, Test::Int(Operator::AtLeast, from));
        let before = |name| test(name, Test::Int(Operator::Less, to));
        let or_null = |one: Expression, name| Expression::any([one, test(name, Test::IsNull(true))]);
        match table {
            TableName::Exchanges(_) => parts.extend([at_least("start"), before("start")]),
            TableName::Connections => {
                parts.extend([or_null(at_least("close"), "close"), or_null(before("open"), "open")]);
            }
            _ => parts.extend([or_null(at_least("exit"), "exit"), or_null(before("start"), "start")]),
        }
    }
    let sides: &[&str] = if process { &[""] } else { &["client_", "server_"] };
    let one_of = |name: &str, numbers: &mut dyn Iterator<Item = u64>| {
        let tests: Vec<Test> = numbers.map(|number| Test::Int(Operator::Equal, number)).collect();
        Expression::any(
            sides
                .iter()
                .map(|side| test(&format!("{side}{name}"), Test::OneOf(tests.clone()))),
        )
    };
    if !selection.ports.is_empty() && !process {
        parts.push(one_of("port", &mut selection.ports.iter().copied().map(u64::from)));
    }
    if !selection.pids.is_empty() {
        parts.push(one_of("pid", &mut selection.pids.iter().copied().map(u64::from)));
    }
    if !selection.pods.is_empty() {
        let pairs = selection
            .pods
            .iter()
            .flat_map(|pod| sides.iter().map(move |side| (pod, side)));
        parts.push(Expression::any(pairs.map(|(pod, side)| {
            let (namespace, name) = pod_pattern(pod);
            let is = |what: &str, pattern: &str| test(&format!("{side}{what}"), Test::Glob(pattern.to_string()));
            Expression::all(
                [is("pod", name)]
                    .into_iter()
                    .chain(namespace.map(|namespace| is("namespace", namespace))),
            )
        })));
    }
    (!parts.is_empty()).then(|| Expression::all(parts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::options::Moment;
    use crate::analyze::table::Value;

    #[test]
    fn every_part_of_a_selection_asks_for_columns_that_are_there() {
        let is_there = |selection: &Selection, table: TableName| {
            let span = selection.span(7);
            // A column that does not exist would make the filter pass no row.
            let specs = table.specs();
            let row = |column: usize| match specs[column].name {
                "start" | "open" | "exit" | "close" => Value::Int(10),
                "client_port" | "client_pid" | "pid" => Value::Int(1),
                "client_pod" | "pod" => Value::Text("cart-0"),
                "client_namespace" | "namespace" => Value::Text("shop"),
                _ => Value::Null,
            };
            selected(selection, span, table).map(|one| one.matches_values(row))
        };
        let selection = |change: &dyn Fn(&mut Selection)| {
            let mut selection = Selection::default();
            change(&mut selection);
            selection
        };
        let single = [
            selection(&|s| s.from = Some(Moment::AfterStart(3))),
            selection(&|s| s.to = Some(Moment::Utc(11))),
            selection(&|s| s.ports = vec![80, 1]),
            selection(&|s| s.pids = vec![1, 2]),
            selection(&|s| s.pods = vec!["a\"b\\.c".into(), "shop/cart-*".into()]),
        ];
        for (number, selection) in single.iter().enumerate() {
            for table in RowFilters::chosen() {
                let concerns = number != 2 || table != TableName::Processes;
                assert_eq!(
                    is_there(selection, table),
                    concerns.then_some(true),
                    "{number} {table:?}"
                );
            }
        }
        for selection in [
            selection(&|s| s.from = Some(Moment::AfterStart(4))),
            selection(&|s| s.to = Some(Moment::Utc(10))),
            selection(&|s| s.pids = vec![2]),
            selection(&|s| s.pods = vec!["other/cart-*".into()]),
        ] {
            assert_eq!(is_there(&selection, TableName::Processes), Some(false), "{selection:?}");
        }
        assert!(
            RowFilters::chosen()
                .iter()
                .all(|table| selected(&Selection::default(), None, *table).is_none())
        );
    }
}
