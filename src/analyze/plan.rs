//! The plan of an analysis, checked before any file is read: which tables, columns and rows, in which format, to which
//! output. Owns the meaning of the options together; opens no file.

mod row_filters;

use std::path::{Path, PathBuf};

use super::catalog::TableName;
use super::options::{ResultOptions, Selection};
use super::output::Format;
use super::output::row_buffer::Arrangement;
use super::protocol::PROTOCOLS;
use super::query::expression::{Expression, QueryError};
use super::query::group::GroupBy;
use super::row::WantedTurns;
use super::selection::{BlockFilter, ConnectionRows, Rows, Span};
use super::table::Spec;
use super::table::order::column_number;
use super::template::Patterns;
use crate::outcome::Usage;

pub use row_filters::{RowFilter, RowFilters};

/// What is made of the rows.
#[derive(Debug, Clone)]
pub enum ResultKind {
    /// The report, for people or as one JSON object.
    Report { json: bool },
    /// One table.
    One(TablePlan),
    /// All tables, one file each, in a folder.
    All(PathBuf),
    /// One table, aggregated by groups.
    Groups {
        table: TableName,
        by: GroupBy,
        plan: TablePlan,
    },
}

/// Columns and order of one table.
#[derive(Debug, Clone)]
pub struct TablePlan {
    pub table: TableName,
    /// Numbers of the columns that are taken; those after `arrangement.visible` only to sort by.
    pub columns: Vec<usize>,
    pub arrangement: Arrangement,
    /// Applies to the finished rows of this table (aggregate tables).
    pub filter: Option<Expression>,
}

/// A checked request.
#[derive(Debug, Clone)]
pub struct Plan {
    pub kind: ResultKind,
    pub filters: RowFilters,
    /// `--where` has a test of connections, or of the numbers of exchanges in them.
    tests_connections: bool,
    tests_sequences: bool,
    /// The selected time span; set by [`Plan::select`].
    pub span: Option<Span>,
    pub format: Format,
    pub output: Option<PathBuf>,
    pub force: bool,
    pub colour: bool,
    /// The user's path templates.
    pub patterns: Patterns,
    /// Whether all blocks of the captures are read.
    pub reads_all: bool,
}

impl Plan {
    /// Of which connections turns are wanted.
    pub fn turns(&self) -> WantedTurns {
        let of = |table: TableName| match table {
            TableName::Exchanges(protocol) if PROTOCOLS[protocol].are_turns() => WantedTurns::All,
            TableName::Summary(protocol) if PROTOCOLS[protocol].are_turns() => WantedTurns::Unread,
            TableName::Services => WantedTurns::Unread,
            _ => WantedTurns::None,
        };
        match &self.kind {
            ResultKind::Report { .. } => WantedTurns::Unread,
            ResultKind::One(plan) => of(plan.table),
            ResultKind::All(_) => WantedTurns::All,
            ResultKind::Groups { table, .. } => of(*table),
        }
    }

    /// Checks the options.
    pub fn new(options: &ResultOptions) -> Result<Plan, Usage> {
        let grouped = !options.group_by.is_empty() || options.bucket_ns.is_some();
        let format = format(options, grouped)?;
        let filter = options.filter.as_deref();
        let mut filters = RowFilters::everything();
        let kind = match (options.table, grouped) {
            (table, true) => {
                let table = table.unwrap_or(TableName::Exchanges(0));
                if !RowFilters::chosen().contains(&table) {
                    let exchanges: Vec<&str> = TableName::exchanges().map(TableName::name).collect();
                    return Err(Usage(format!(
                        "--group-by and --bucket are for {}, connections and processes; {} is aggregated already",
                        exchanges.join(", "),
                        table.name()
                    )));
                }
                let specs = table.specs();
                let by = GroupBy::new(&options.group_by, options.bucket_ns.unwrap_or(0), table.name(), &specs)
                    .map_err(Usage)?;
                if let Some(text) = filter {
                    let expression = Expression::parse(text, table.name(), &specs).map_err(where_error)?;
                    filters = RowFilters::only(table, expression);
                }
                let plan = table_plan(table, &by.specs(&specs), &options.columns, true, options)?;
                ResultKind::Groups { table, by, plan }
            }
            (Some(table), false) => {
                let all = format != Format::Table;
                let mut plan = table_plan(table, &table.specs(), &options.columns, all, options)?;
                if let Some(text) = filter {
                    match Expression::parse(text, table.name(), &table.own_specs()) {
                        Ok(expression) if table.is_aggregate() || table == TableName::Capture => {
                            plan.filter = Some(expression);
                        }
                        Ok(expression) => filters = RowFilters::only(table, expression),
                        // `--table endpoints --where "status >= 500"` filters the exchanges before they are aggregated. So
                        // does `server_pod = "cart-0"`: it counts the responses of that pod, also where other pods respond too.
                        Err(error) if error.unknown_column && table.is_aggregate() => match RowFilters::parse(text) {
                            Ok(of_exchanges) => filters = of_exchanges,
                            Err(_) => {
                                let expression = Expression::parse(text, table.name(), &table.specs());
                                plan.filter = Some(expression.map_err(where_error)?);
                            }
                        },
                        Err(error) => return Err(where_error(error)),
                    }
                }
                ResultKind::One(plan)
            }
            (None, false) => {
                if !options.columns.is_empty() || !options.sort.is_empty() || options.limit.is_some() {
                    return Err(Usage(
                        "--columns, --sort and --limit need --table or --group-by".to_string(),
                    ));
                }
                if let Some(text) = filter {
                    filters = RowFilters::parse(text).map_err(where_error)?;
                }
                match (format, &options.output) {
                    (Format::Table, _) => ResultKind::Report { json: false },
                    (Format::Json, _) => ResultKind::Report { json: true },
                    (format, Some(path)) if Format::of_name(path).is_some() && !is_folder(path) => {
                        return Err(Usage(format!(
                            "{} holds one table: name it with --table, or give a folder for all tables with -o {}/ --format {}",
                            path.display(),
                            path.with_extension("").display(),
                            format.extension()
                        )));
                    }
                    (_, Some(folder)) => ResultKind::All(folder.clone()),
                    (format, None) => {
                        return Err(Usage(format!(
                            "{} holds one table: name it with --table, or give a folder for all tables with -o",
                            format.extension()
                        )));
                    }
                }
            }
        };
        let tests_sequences = TableName::exchanges().zip(&filters.exchanges).any(
            |(table, filter)| matches!(filter, RowFilter::Where(test) if sequence(table).is_some_and(|n| test.uses(n))),
        );
        Ok(Plan {
            tests_connections: matches!(filters.connections, RowFilter::Where(_)),
            tests_sequences,
            kind,
            filters,
            span: None,
            format,
            output: options.output.clone(),
            force: options.force,
            colour: options.colour && options.output.is_none(),
            patterns: Patterns::default(),
            reads_all: true,
        })
    }
}

impl Plan {
    /// The files that are to be written.
    pub fn outputs(&self) -> Vec<PathBuf> {
        match &self.kind {
            ResultKind::All(_) => TableName::all()
                .into_iter()
                .filter_map(|table| self.output_of(table))
                .collect(),
            _ => self.output.iter().cloned().collect(),
        }
    }

    /// The file that this table is written to; `None` for standard output.
    pub fn output_of(&self, table: TableName) -> Option<PathBuf> {
        match &self.kind {
            ResultKind::All(folder) => Some(folder.join(format!("{}.{}", table.name(), self.format.extension()))),
            _ => self.output.clone(),
        }
    }

    /// Sets the user's path templates, which are tried before the rules.
    pub fn templates(&mut self, templates: &[String]) -> Result<(), Usage> {
        self.patterns = Patterns::new(templates).map_err(|error| Usage(format!("--path-template: {error}")))?;
        Ok(())
    }

    /// Whether rows go to a terminal while captures are read.
    pub fn writes_to_terminal(&self) -> bool {
        use std::io::IsTerminal;
        let streams = matches!(&self.kind, ResultKind::One(plan) if !plan.table.is_aggregate());
        streams && self.output.is_none() && std::io::stdout().is_terminal()
    }

    /// Which rows are needed, and what is shown of them.
    pub fn rows(&self) -> Rows {
        let takes = |table: TableName| match table {
            TableName::Exchanges(protocol) => !matches!(self.filters.exchanges[protocol], RowFilter::None),
            TableName::Connections => !matches!(self.filters.connections, RowFilter::None),
            _ => !matches!(self.filters.processes, RowFilter::None),
        };
        let exchanges = TableName::exchanges().any(takes);
        // The user's filter may test totals of a connection.
        let counted = match (takes(TableName::Connections), self.span) {
            (false, _) => ConnectionRows::None,
            (true, Some(_)) if !self.tests_connections => ConnectionRows::WithinSpan,
            (true, _) => ConnectionRows::Whole,
        };
        let whole = Rows {
            damage: false,
            exchanges,
            sequences: self.tests_sequences,
            connections: ConnectionRows::None,
            processes: false,
        };
        let of_table = |table: TableName, columns: &[usize]| match table {
            TableName::Exchanges(_) => Rows {
                sequences: whole.sequences || columns.iter().any(|column| Some(*column) == sequence(table)),
                ..whole
            },
            TableName::Connections => Rows {
                exchanges: false,
                connections: ConnectionRows::Whole,
                ..whole
            },
            TableName::Processes => Rows {
                exchanges: false,
                processes: true,
                ..whole
            },
            TableName::Services => Rows {
                connections: counted,
                ..whole
            },
            TableName::Summary(_) => whole,
            TableName::Losses => Rows {
                exchanges: false,
                ..whole
            },
            TableName::Capture => Rows { damage: true, ..whole },
        };
        match &self.kind {
            ResultKind::Report { .. } => Rows {
                connections: counted,
                processes: takes(TableName::Processes),
                ..whole
            },
            ResultKind::One(plan) => of_table(plan.table, &plan.columns),
            ResultKind::Groups { table, by, .. } => of_table(*table, &by.columns),
            ResultKind::All(_) => Rows { damage: true, ..whole },
        }
    }

    /// Bounds that all rows of exchanges and connections satisfy that pass `--where`.
    pub fn bounds(&self) -> BlockFilter {
        let exchanges = TableName::exchanges().zip(&self.filters.exchanges);
        let tables = exchanges.chain([(TableName::Connections, &self.filters.connections)]);
        let bounds = |(table, filter): (TableName, &RowFilter)| match filter {
            RowFilter::None => None,
            RowFilter::All => Some(BlockFilter::default()),
            RowFilter::Where(expression) => Some(expression.bounds(&table.specs())),
        };
        tables.filter_map(bounds).reduce(BlockFilter::or).unwrap_or_default()
    }

    /// Keeps only rows of this part of the capture, which starts at `start` (UTC, ns).
    pub fn select(&mut self, selection: &Selection, start: u64) {
        self.span = selection.span(start);
        self.filters.select(selection, self.span);
    }
}

/// The column that numbers the exchanges of a connection.
fn sequence(table: TableName) -> Option<usize> {
    table.specs().iter().position(|spec| spec.name == "sequence")
}

fn where_error(error: QueryError) -> Usage {
    Usage(format!("--where: {error}"))
}

/// Whether this is the name of a folder: it ends in `/`, or the folder exists.
fn is_folder(path: &Path) -> bool {
    path.as_os_str().to_string_lossy().ends_with('/') || path.is_dir()
}

/// The format, from `--format` or from the name of the output file. `grouped`: the rows are grouped.
fn format(options: &ResultOptions, grouped: bool) -> Result<Format, Usage> {
    let all_tables = options.table.is_none() && !grouped;
    let format = match (options.format, &options.output) {
        (Some(format), _) => format,
        (None, None) => Format::Table,
        (None, Some(path)) => match Format::of_name(path) {
            Some(format) => format,
            None if all_tables && (path.extension().is_none() || is_folder(path)) => Format::Parquet,
            None => {
                let endings = Format::ALL.map(|format| format!(".{}", format.extension())).join(", ");
                let folder = if all_tables {
                    ", or in / for a folder of Parquet files"
                } else {
                    ""
                };
                return Err(Usage(format!(
                    "the name {} does not give a format; use --format, or end it in {endings}{folder}",
                    path.display()
                )));
            }
        },
    };
    if format.is_binary() && options.output.is_none() {
        use std::io::IsTerminal;
        if std::io::stdout().is_terminal() {
            return Err(Usage(format!(
                "{} is not for terminals; give -o FILE",
                format.extension()
            )));
        }
    }
    Ok(format)
}

/// Columns and order of a table. `all`: all columns when none are named, else the brief ones.
fn table_plan(
    table: TableName,
    specs: &[Spec],
    names: &[String],
    all: bool,
    options: &ResultOptions,
) -> Result<TablePlan, Usage> {
    let number = |name: &str| column_number(name, table.name(), specs).map_err(Usage);
    let mut columns: Vec<usize> = Vec::new();
    if names.is_empty() {
        let brief = table.specs_and_brief();
        let shown = |n: &usize| all || brief.get(*n).is_some_and(|(_, brief)| *brief);
        columns.extend((0..specs.len()).filter(shown));
    }
    for name in names {
        match name.as_str() {
            "*" | "all" => columns.extend(0..specs.len()),
            name => columns.push(number(name)?),
        }
    }
    let mut seen = vec![false; specs.len()];
    columns.retain(|column| !std::mem::replace(&mut seen[*column], true));
    let visible = columns.len();
    let mut sort = Vec::new();
    for by in &options.sort {
        let column = number(&by.column)?;
        let place = columns.iter().position(|taken| *taken == column).unwrap_or_else(|| {
            columns.push(column);
            columns.len() - 1
        });
        sort.push((place, by.descending));
    }
    let arrangement = Arrangement {
        sort,
        limit: options.limit,
        visible,
    };
    Ok(TablePlan {
        table,
        columns,
        arrangement,
        filter: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::protocol::Registered;
    use crate::analyze::protocol::http1::Http;
    use crate::analyze::protocol::mysql::Mysql;

    fn plan(change: impl FnOnce(&mut ResultOptions)) -> Result<Plan, String> {
        let mut options = ResultOptions::default();
        change(&mut options);
        Plan::new(&options).map_err(|usage| usage.0)
    }

    #[test]
    fn the_report_is_the_default() {
        assert!(matches!(plan(|_| {}).unwrap().kind, ResultKind::Report { json: false }));
        let json = plan(|o| o.format = Some(Format::Json)).unwrap();
        assert!(matches!(json.kind, ResultKind::Report { json: true }));
    }

    #[test]
    fn a_folder_takes_all_tables_and_a_file_one() {
        let all = plan(|o| o.output = Some("out".into())).unwrap();
        assert!(matches!((&all.kind, all.format), (ResultKind::All(_), Format::Parquet)));
        let one = plan(|o| {
            o.output = Some("x.csv".into());
            o.table = Some(TableName::of::<Http>());
        });
        assert_eq!(one.unwrap().format, Format::Csv);
        let unknown = plan(|o| {
            o.output = Some("x.dat".into());
            o.table = Some(TableName::of::<Http>());
        });
        assert!(unknown.unwrap_err().contains("does not give a format"));
        assert!(plan(|o| o.format = Some(Format::Csv)).unwrap_err().contains("--table"));
    }

    #[test]
    fn an_ending_that_says_nothing_makes_no_folder() {
        let folder = tempfile::tempdir().unwrap();
        let there = folder.path().join("tables.d");
        std::fs::create_dir(&there).unwrap();
        for (output, grouped, expected) in [
            (
                "rep.html",
                false,
                Err("end it in .txt, .json, .ndjson, .csv, .parquet, .arrow, or in /"),
            ),
            (
                "rep.xlsx",
                true,
                Err("end it in .txt, .json, .ndjson, .csv, .parquet, .arrow"),
            ),
            ("rep", true, Err("does not give a format")),
            ("rep.csv", false, Err("rep.csv holds one table: name it with --table")),
            ("rep.csv", true, Ok(Format::Csv)),
            ("rep.txt", false, Ok(Format::Table)),
            ("rep.json", false, Ok(Format::Json)),
            ("rep", false, Ok(Format::Parquet)),
            ("rep.html/", false, Ok(Format::Parquet)),
            ("rep.csv/", false, Ok(Format::Csv)),
            (there.to_str().unwrap(), false, Ok(Format::Parquet)),
        ] {
            let plan = plan(|o| {
                o.output = Some(output.into());
                o.group_by = grouped.then(|| "method".to_string()).into_iter().collect();
            });
            match (plan, expected) {
                (Ok(plan), Ok(format)) => assert_eq!(plan.format, format, "{output}"),
                (Err(error), Err(expected)) => assert!(error.contains(expected), "{output}: {error}"),
                (plan, _) => panic!("{output}: {:?}", plan.map(|plan| plan.format)),
            }
        }
    }

    #[test]
    fn columns_are_called_by_their_names_and_by_their_headings() {
        for table in TableName::all() {
            let specs = table.specs();
            for (number, spec) in specs.iter().enumerate() {
                for name in [spec.name.to_string(), spec.heading(), spec.heading().replace(' ', "_")] {
                    assert_eq!(Spec::find(&name, &specs), Some(number), "{} {name}", table.name());
                }
            }
        }
        let plan = |name: &str| {
            plan(|o| {
                o.table = Some(TableName::summary_of::<Http>());
                o.filter = Some(format!("{name} > 5ms"));
                (o.columns, o.sort) = (vec![name.into()], vec![format!("-{name}").parse().unwrap()]);
            })
        };
        let kind = |plan: Result<Plan, String>| match plan.unwrap().kind {
            ResultKind::One(one) => format!("{one:?}"),
            _ => panic!("one table"),
        };
        assert_eq!(kind(plan("p95")), kind(plan("p95_ns")));
        assert!(plan("p96").is_err());
    }

    #[test]
    fn filters_reach_the_tables_that_have_their_columns() {
        let report = plan(|o| o.filter = Some("method = GET".into())).unwrap();
        assert!(matches!(report.filters.exchanges[Http::PLACE], RowFilter::Where(_)));
        assert!(matches!(report.filters.exchanges[Mysql::PLACE], RowFilter::None));
        assert!(matches!(report.filters.losses, RowFilter::All));
        let both = plan(|o| o.filter = Some("total_ns > 10ms".into())).unwrap();
        assert!(matches!(
            (
                &both.filters.exchanges[Http::PLACE],
                &both.filters.exchanges[Mysql::PLACE]
            ),
            (RowFilter::Where(_), RowFilter::Where(_))
        ));
        let endpoints = plan(|o| {
            o.table = Some(TableName::summary_of::<Http>());
            o.filter = Some("status >= 500".into());
        });
        assert!(matches!(
            endpoints.unwrap().filters.exchanges[Http::PLACE],
            RowFilter::Where(_)
        ));
        for (text, of_exchanges) in [
            ("server_pod = 'cart-0'", true),
            ("server_pod = 'cart-0' and count > 1", false),
        ] {
            for table in [TableName::summary_of::<Http>(), TableName::summary_of::<Mysql>()] {
                let plan = plan(|o| (o.table, o.filter) = (Some(table), Some(text.into()))).unwrap();
                assert_eq!(
                    matches!(plan.filters.exchanges[Mysql::PLACE], RowFilter::Where(_)),
                    of_exchanges,
                    "{text}"
                );
                let ResultKind::One(one) = plan.kind else {
                    panic!("one table")
                };
                assert_eq!(one.filter.is_some(), !of_exchanges, "{text}");
            }
        }
        let wrong = plan(|o| o.filter = Some("flavour = 1".into())).unwrap_err();
        assert!(
            wrong.starts_with("--where: table http has no column flavour"),
            "{wrong}"
        );
    }

    #[test]
    fn a_filter_bounds_what_is_read_when_every_table_that_takes_rows_is_bounded() {
        let bounds = |text: &str, table: Option<TableName>| {
            let plan = plan(|o| (o.filter, o.table) = (Some(text.into()), table));
            plan.unwrap().bounds()
        };
        assert_eq!(bounds("server_port = 80", None).ports, [80]);
        assert_eq!(
            bounds(
                "server_port = 80 and status >= 500",
                Some(TableName::summary_of::<Http>())
            )
            .ports,
            [80]
        );
        let late = "start >= 2026-01-31T12:00:00Z";
        assert!(bounds(late, None).span.is_some());
        assert_eq!(
            bounds("duration_ns > 1s or server_port = 80", Some(TableName::Connections)),
            BlockFilter::default()
        );
    }

    #[test]
    fn columns_that_are_only_sorted_by_are_not_shown() {
        let plan = plan(|o| {
            o.table = Some(TableName::of::<Http>());
            o.columns = vec!["path".into(), "status".into()];
            o.sort = vec!["-total_ns".parse().unwrap()];
        });
        let ResultKind::One(plan) = plan.unwrap().kind else {
            panic!()
        };
        assert_eq!((plan.columns.len(), plan.arrangement.visible), (3, 2));
        assert_eq!(plan.arrangement.sort, [(2, true)]);
    }

    #[test]
    fn groups_take_the_server_when_the_side_is_left_open() {
        let plan = plan(|o| o.group_by = vec!["pod".into()]).unwrap();
        let ResultKind::Groups { by, .. } = plan.kind else {
            panic!()
        };
        assert_eq!(TableName::of::<Http>().specs()[by.columns[0]].name, "server_pod");
    }
}
