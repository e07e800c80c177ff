//! `--sort`: by which columns, in which direction.

use std::cmp::Ordering;

use crate::analyze::column::unknown_column;
use crate::analyze::table::{Columns, Spec, Value};

/// One column to sort by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SortBy {
    pub column: String,
    pub descending: bool,
}

impl std::str::FromStr for SortBy {
    type Err = String;

    /// `total_ns` is ascending, `-total_ns` and `total_ns:desc` are descending.
    fn from_str(text: &str) -> Result<Self, String> {
        let (column, descending) = match text.strip_prefix('-') {
            Some(column) => (column, true),
            None => match text.split_once(':') {
                None => (text, false),
                Some((column, "asc")) => (column, false),
                Some((column, "desc")) => (column, true),
                Some((_, other)) => return Err(format!("{other:?} is neither asc nor desc")),
            },
        };
        match column {
            "" => Err("a column is missing".to_string()),
            column => Ok(SortBy {
                column: column.to_string(),
                descending,
            }),
        }
    }
}

/// The number of the column of this name.
pub fn column_number(name: &str, table: &str, specs: &[Spec]) -> Result<usize, String> {
    Spec::find(name, specs).ok_or_else(|| unknown_column(name, table, specs))
}

/// Null comes last in ascending order.
fn compare(a: Value<'_>, b: Value<'_>) -> Ordering {
    match (a, b) {
        (Value::Null, Value::Null) => Ordering::Equal,
        (Value::Null, _) => Ordering::Greater,
        (_, Value::Null) => Ordering::Less,
        (Value::Int(a), Value::Int(b)) => a.cmp(&b),
        (Value::Float(a), Value::Float(b)) => a.total_cmp(&b),
        (Value::Flag(a), Value::Flag(b)) => a.cmp(&b),
        (Value::Text(a), Value::Text(b)) => a.cmp(b),
        _ => Ordering::Equal,
    }
}

/// The order of two rows; null is last in both directions.
pub fn compare_rows(columns: &Columns, by: &[(usize, bool)], a: usize, b: usize) -> Ordering {
    let value = |row| move |column: usize| columns.columns[column].get(row);
    compare_by(by, value(a), value(b))
}

/// The order of two rows whose values `a` and `b` give by the numbers of columns; null is last in both directions.
pub fn compare_by<'v>(
    by: &[(usize, bool)],
    a: impl Fn(usize) -> Value<'v>,
    b: impl Fn(usize) -> Value<'v>,
) -> Ordering {
    for (column, descending) in by {
        let (left, right) = (a(*column), b(*column));
        let order = match *descending && left != Value::Null && right != Value::Null {
            true => compare(right, left),
            false => compare(left, right),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    Ordering::Equal
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::table::Kind;

    #[test]
    fn rows_are_ordered_with_null_last() {
        let spec = Spec {
            name: "n",
            kind: Kind::Count,
            doc: "",
        };
        let mut columns = Columns::new([spec]);
        for value in [Value::Int(2), Value::Null, Value::Int(3)] {
            columns.push_row(&[value]);
        }
        let sorted = |descending| {
            let mut rows: Vec<usize> = vec![0, 1, 2];
            rows.sort_by(|a, b| compare_rows(&columns, &[(0, descending)], *a, *b));
            rows
        };
        assert_eq!(sorted(false), [0, 2, 1]);
        assert_eq!(sorted(true), [2, 0, 1]);
    }

    #[test]
    fn directions_are_read() {
        let by = |text: &str| text.parse::<SortBy>().map(|by| (by.column, by.descending));
        assert_eq!(by("a"), Ok(("a".into(), false)));
        assert_eq!(by("-a"), Ok(("a".into(), true)));
        assert_eq!(by("a:desc"), Ok(("a".into(), true)));
        assert!(by("a:down").is_err());
        assert!(by("-").is_err());
    }
}
