//! From rows to results: the sinks that the engine fills, and what is written from them between batches and at the end.
//! Owns the order of writing and the publishing of files; knows no protocol, and nothing of how rows are made.

use std::io::Write;

use anyhow::Result;

use super::catalog::TableName;
use super::exchange::Message;
use super::output::report as report_text;
use super::output::row_buffer::{Arrangement, RowBuffer, RowStream, Rows};
use super::output::target::{self, Target};
use super::output::{Facts, human};
use super::plan::{Plan, ResultKind, RowFilter, TablePlan};
use super::protocol::{ForProtocol, Protocol, for_each_protocol};
use super::query::expression::Expression;
use super::query::group::{AnyGroups, GroupBy, Groups, Measured};
use super::report::{Aggregate, sections};
use super::row::{CaptureFacts, ConnectionRow, ExchangeRow, Frame, LossRow, ProcessRow, Sink, Timed, WantedTurns};
use super::selection::Span;
use super::table::capture::Capture;
use super::table::connections::Connections;
use super::table::exchanges::{self, Exchanges};
use super::table::losses::Losses;
use super::table::order::compare_rows;
use super::table::processes::Processes;
use super::table::{Columns, Scratch, Spec, Table};
use super::template::Patterns;
use crate::create::{self, MadeFolders, Pending};
use crate::message;
use crate::stdout;

/// The rows of one table in one shard: filtered, and collected if the table is written.
struct TableRows<T: Table> {
    filter: RowFilter,
    scratch: Scratch<T::Derived>,
    rows: Option<RowBuffer<T>>,
}

impl<T: Table> TableRows<T> {
    fn new(filter: &RowFilter, patterns: &Patterns) -> Self {
        TableRows {
            filter: filter.clone(),
            scratch: Scratch::new(patterns),
            rows: None,
        }
    }

    /// Adds a row; false when it does not pass the filter.
    fn add(&mut self, row: &T::Row<'_>) -> bool {
        let passes = match &self.filter {
            RowFilter::All => true,
            RowFilter::None => false,
            RowFilter::Where(expression) => {
                expression.matches(&mut |column, test| test.holds((T::defs()[column].get)(row, &mut self.scratch)))
            }
        };
        if passes && let Some(rows) = &mut self.rows {
            rows.push(row, &mut self.scratch);
        }
        passes
    }

    fn collect(&mut self, columns: &[usize]) {
        self.rows = Some(RowBuffer::new(columns));
    }

    fn take(&mut self) -> Option<Rows> {
        self.rows.as_mut().map(RowBuffer::take)
    }
}

/// The rows of a table that can be grouped: collected, or aggregated by columns.
struct GroupedRows<T: Measured> {
    table: TableRows<T>,
    groups: Option<Box<Groups<T>>>,
}

impl<T: Measured> GroupedRows<T> {
    fn new(filter: &RowFilter, patterns: &Patterns) -> Self {
        GroupedRows {
            table: TableRows::new(filter, patterns),
            groups: None,
        }
    }

    fn add(&mut self, row: &T::Row<'_>) -> bool {
        let passes = self.table.add(row);
        if passes && let Some(groups) = &mut self.groups {
            groups.push(row, &mut self.table.scratch);
        }
        passes
    }
}

/// The rows of a table that can be grouped, whatever its type.
trait GroupableRows: Send {
    /// Collects rows from now on, with these columns.
    fn collect(&mut self, columns: &[usize]);

    /// Takes the rows that were collected.
    fn take(&mut self) -> Option<Rows>;

    /// Aggregates rows from now on.
    fn group_by(&mut self, by: &GroupBy);

    /// Takes the groups.
    fn take_groups(&mut self) -> Option<Box<dyn AnyGroups>>;
}

impl<T: Measured> GroupableRows for GroupedRows<T> {
    fn collect(&mut self, columns: &[usize]) {
        self.table.collect(columns);
    }

    fn take(&mut self) -> Option<Rows> {
        self.table.take()
    }

    fn group_by(&mut self, by: &GroupBy) {
        self.groups = Some(Box::new(Groups::new(by.clone())));
    }

    fn take_groups(&mut self) -> Option<Box<dyn AnyGroups>> {
        let groups: Box<dyn AnyGroups> = self.groups.take()?;
        Some(groups)
    }
}

/// The rows of the exchanges of one protocol, whatever its type.
trait ExchangeRows: GroupableRows {
    /// Takes an exchange; false when it does not pass the filter.
    fn exchange(&mut self, frame: &Frame<'_>, message: &dyn Message) -> bool;
}

impl<M: exchanges::Columns> ExchangeRows for GroupedRows<Exchanges<M>> {
    fn exchange(&mut self, frame: &Frame<'_>, message: &dyn Message) -> bool {
        ExchangeRow::of(frame, message).is_some_and(|row| self.add(&row))
    }
}

/// The rows of the exchanges of each protocol, in the order of the registry.
fn exchange_rows(plan: &Plan) -> Vec<Box<dyn ExchangeRows>> {
    struct NewRows<'p>(&'p Plan);
    impl ForProtocol for NewRows<'_> {
        type Value = Box<dyn ExchangeRows>;

        fn value<P: Protocol>(&self) -> Self::Value {
            let filter = &self.0.filters.exchanges[P::PLACE];
            Box::new(GroupedRows::<Exchanges<P::Message>>::new(filter, &self.0.patterns))
        }
    }
    for_each_protocol(&NewRows(plan))
}

/// Takes the rows of one shard.
pub struct ShardSink {
    /// Losses belong to the span in which they were noticed.
    span: Option<Span>,
    aggregate: Option<Box<Aggregate>>,
    /// In the order of the registry.
    exchanges: Vec<Box<dyn ExchangeRows>>,
    connections: GroupedRows<Connections>,
    processes: GroupedRows<Processes>,
    losses: TableRows<Losses>,
    /// Whether data was lost: losses, and bytes missing from connections. Set also where those rows are not written.
    lost: bool,
    /// All blocks are read, so that bytes missing from a connection were lost, and not pruned.
    reads_all: bool,
    /// Rows with times that results cannot hold.
    impossible_times: u64,
    turns: WantedTurns,
}

impl ShardSink {
    fn new(plan: &Plan) -> ShardSink {
        let mut sink = ShardSink {
            span: plan.span,
            aggregate: None,
            exchanges: exchange_rows(plan),
            connections: GroupedRows::new(&plan.filters.connections, &plan.patterns),
            processes: GroupedRows::new(&plan.filters.processes, &plan.patterns),
            losses: TableRows::new(&plan.filters.losses, &plan.patterns),
            lost: false,
            reads_all: plan.reads_all,
            impossible_times: 0,
            turns: plan.turns(),
        };
        match &plan.kind {
            ResultKind::Report { .. } => sink.aggregate = Some(Box::new(Aggregate::new(&plan.patterns))),
            ResultKind::One(table) => sink.take_table(table, plan),
            ResultKind::All(_) => {
                for table in TableName::all() {
                    sink.take_table(&TablePlan::whole(table), plan);
                }
            }
            ResultKind::Groups { table, by, .. } => {
                if let Some(rows) = sink.groupable(*table) {
                    rows.group_by(by);
                }
            }
        }
        sink
    }

    fn take_table(&mut self, table: &TablePlan, plan: &Plan) {
        if table.table.is_aggregate() {
            self.aggregate
                .get_or_insert_with(|| Box::new(Aggregate::new(&plan.patterns)));
        } else if table.table == TableName::Losses {
            self.losses.collect(&table.columns);
        } else if let Some(rows) = self.groupable(table.table) {
            rows.collect(&table.columns);
        }
    }

    /// The rows of a table that can be grouped.
    fn groupable(&mut self, table: TableName) -> Option<&mut dyn GroupableRows> {
        match table {
            TableName::Exchanges(protocol) => self
                .exchanges
                .get_mut(protocol)
                .map(|rows| &mut **rows as &mut dyn GroupableRows),
            TableName::Connections => Some(&mut self.connections),
            TableName::Processes => Some(&mut self.processes),
            TableName::Summary(_) | TableName::Services | TableName::Losses | TableName::Capture => None,
        }
    }

    /// The collected rows of a table.
    fn take(&mut self, table: TableName) -> Option<Rows> {
        match table {
            TableName::Losses => self.losses.take(),
            table => self.groupable(table)?.take(),
        }
    }

    /// The groups of the one table that is grouped.
    fn take_groups(&mut self) -> Option<Box<dyn AnyGroups>> {
        let mut exchanges = self.exchanges.iter_mut();
        exchanges
            .find_map(|rows| rows.take_groups())
            .or_else(|| self.connections.take_groups())
            .or_else(|| self.processes.take_groups())
    }
}

impl ShardSink {
    /// The row, without times that results cannot hold.
    fn possible<'r, R>(&mut self, row: &'r R, fixed: &'r Option<R>) -> &'r R {
        self.impossible_times += u64::from(fixed.is_some());
        fixed.as_ref().unwrap_or(row)
    }
}

impl Sink for ShardSink {
    fn turns(&self) -> WantedTurns {
        self.turns
    }

    fn exchange(&mut self, frame: &Frame<'_>, message: &dyn Message) {
        let fixed = frame.with_possible_times();
        let frame = self.possible(frame, &fixed);
        let rows = self.exchanges.get_mut(message.protocol());
        if rows.is_some_and(|rows| rows.exchange(frame, message))
            && let Some(aggregate) = &mut self.aggregate
        {
            aggregate.exchange(frame, message);
        }
    }

    fn connection(&mut self, row: &ConnectionRow<'_>) {
        let fixed = row.with_possible_times();
        let row = self.possible(row, &fixed);
        let passes = self.connections.add(row);
        self.lost |= row.lost_bytes > 0 && (passes || self.reads_all);
        if !passes {
            return;
        }
        if let Some(aggregate) = &mut self.aggregate {
            aggregate.connection(row);
        }
    }

    fn process(&mut self, row: &ProcessRow<'_>) {
        let fixed = row.with_possible_times();
        let row = self.possible(row, &fixed);
        if !self.processes.add(row) {
            return;
        }
        if let Some(aggregate) = &mut self.aggregate {
            aggregate.process(row);
        }
    }

    fn loss(&mut self, row: &LossRow<'_>) {
        let fixed = row.with_possible_times();
        let row = self.possible(row, &fixed);
        if self.span.is_some_and(|span| !span.contains(row.until)) {
            return;
        }
        self.lost |= row.is_lost();
        if !self.losses.add(row) {
            return;
        }
        if let Some(aggregate) = &mut self.aggregate {
            aggregate.loss(row);
        }
    }
}

impl TablePlan {
    /// All columns of a table, in the order of its keys.
    pub fn whole(table: TableName) -> TablePlan {
        let columns: Vec<usize> = (0..table.specs().len()).collect();
        let arrangement = Arrangement {
            visible: columns.len(),
            ..Arrangement::default()
        };
        TablePlan {
            table,
            columns,
            arrangement,
            filter: None,
        }
    }

    fn specs(&self) -> Vec<Spec> {
        let all = self.table.specs();
        self.columns.iter().map(|column| all[*column]).collect()
    }
}

/// The results of a run.
pub struct Results {
    plan: Plan,
    /// Tables whose rows stream out.
    streams: Vec<(TableName, RowStream)>,
    /// The files that get their names when everything is written.
    pending: Vec<Pending>,
    /// Goes after the files.
    folders: MadeFolders,
    facts: Vec<CaptureFacts>,
}

impl Results {
    /// Opens the outputs. `captures` are the facts as far as they are known before reading; only their headers are used here.
    pub fn new(plan: Plan, captures: &[CaptureFacts]) -> Result<Results> {
        let mut results = Results {
            plan,
            streams: Vec::new(),
            pending: Vec::new(),
            folders: MadeFolders::default(),
            facts: captures.to_vec(),
        };
        match results.plan.kind.clone() {
            ResultKind::One(plan) if !plan.table.is_aggregate() && plan.table != TableName::Capture => {
                results.open_stream(&plan)?;
            }
            ResultKind::All(folder) => {
                results.folders = target::directory(&folder)?;
                for path in results.plan.outputs() {
                    create::check_free(&path, results.plan.force)?;
                }
                for table in TableName::all() {
                    if !table.is_aggregate() && table != TableName::Capture {
                        results.open_stream(&TablePlan::whole(table))?;
                    }
                }
            }
            // Refused now, and not after an hour's work.
            _ => {
                for path in results.plan.outputs() {
                    create::check_free(&path, results.plan.force)?;
                }
            }
        }
        Ok(results)
    }

    fn open_stream(&mut self, plan: &TablePlan) -> Result<()> {
        let specs = plan.specs();
        let shown = &specs[..plan.arrangement.visible];
        let to = self.target(plan.table)?;
        let writer = self.plan.format.writer(to, shown, &Facts::new(&self.facts, shown))?;
        self.streams
            .push((plan.table, RowStream::new(&specs, plan.arrangement.clone(), writer)));
        Ok(())
    }

    fn target(&mut self, table: TableName) -> Result<Target> {
        let Some(path) = self.plan.output_of(table) else {
            return Ok(target::standard_output());
        };
        let (target, pending) = target::create(&path, self.plan.force)?;
        self.pending.push(pending);
        Ok(target)
    }

    /// The sink of a shard.
    pub fn sink(plan: &Plan) -> ShardSink {
        ShardSink::new(plan)
    }

    /// The aggregates of all shards merged, and whether data was lost.
    pub fn aggregate(sinks: Vec<ShardSink>) -> (Aggregate, bool) {
        let lost = sinks.iter().any(|sink| sink.lost || sink.impossible_times > 0);
        let mut all = Aggregate::default();
        sinks
            .into_iter()
            .filter_map(|sink| sink.aggregate)
            .for_each(|one| all.merge(*one));
        (all, lost)
    }

    /// Takes the rows out of the sinks.
    pub fn collect<'s>(&mut self, sinks: impl Iterator<Item = &'s mut ShardSink>) -> Result<()> {
        for sink in sinks {
            for (table, stream) in &mut self.streams {
                if let Some(rows) = sink.take(*table) {
                    stream.push(rows)?;
                }
            }
        }
        Ok(())
    }

    /// Writes the row groups that are complete. `horizon` gives the time (UTC, ns) before which no exchange is still to come;
    /// it is called only when there are enough rows.
    pub fn write_ready(&mut self, horizon: impl FnOnce() -> u64) -> Result<()> {
        if !self.streams.iter().any(|(_, stream)| stream.has_group()) {
            return Ok(());
        }
        let horizon = horizon();
        for (table, stream) in self.streams.iter_mut().filter(|(_, stream)| stream.has_group()) {
            // Connections and processes become rows when they end; the start of the oldest open one is not tracked.
            let of_exchanges = matches!(table, TableName::Exchanges(_));
            stream.write_ready(if of_exchanges { horizon } else { 0 })?;
        }
        Ok(())
    }

    /// Writes the rest. `captures` are the facts after reading. Returns whether data was lost or damaged.
    pub fn finish(self, sinks: Vec<ShardSink>, captures: &[CaptureFacts]) -> Result<bool> {
        let impossible_times = sinks.iter().map(|sink| sink.impossible_times).sum::<u64>();
        if impossible_times > 0 {
            message::say(&format!(
                "{} rows have times before 1970 or after 2262, which are left out",
                human::count(impossible_times)
            ));
        }
        let lost =
            impossible_times > 0 || sinks.iter().any(|sink| sink.lost) || captures.iter().any(CaptureFacts::is_damaged);
        // The exit code does not depend on anybody reading what is printed.
        stdout::unless_unread(self.write_rest(sinks, captures, impossible_times))?;
        Ok(lost)
    }

    fn write_rest(mut self, mut sinks: Vec<ShardSink>, captures: &[CaptureFacts], impossible_times: u64) -> Result<()> {
        self.facts = captures.to_vec();
        self.collect(sinks.iter_mut())?;
        for (_, stream) in std::mem::take(&mut self.streams) {
            stream.finish()?;
        }
        let mut aggregate: Option<Box<Aggregate>> = None;
        let mut groups: Option<Box<dyn AnyGroups>> = None;
        for mut sink in sinks {
            let counted = sink.take_groups();
            if let Some(one) = sink.aggregate {
                aggregate.get_or_insert_default().merge(*one);
            }
            match (&mut groups, counted) {
                (Some(all), Some(one)) => all.merge(one),
                (none, one) => *none = one.or(none.take()),
            }
        }
        match self.plan.kind.clone() {
            ResultKind::Report { json } => {
                let mut aggregate = aggregate.unwrap_or_default();
                aggregate.totals.impossible_times = impossible_times;
                let report = sections::report(&aggregate, &self.facts);
                let mut to = self.target(TableName::Capture)?;
                match json {
                    true => report_text::json(&report, &mut to)?,
                    false => report_text::text(&report, self.plan.colour, &mut to)?,
                }
                to.flush()?;
            }
            ResultKind::One(plan) => {
                if let Some(columns) = whole_table(plan.table, aggregate.as_deref(), &self.facts) {
                    self.write_whole(&columns, &plan)?;
                }
            }
            ResultKind::All(_) => {
                for table in TableName::all() {
                    if let Some(columns) = whole_table(table, aggregate.as_deref(), &self.facts) {
                        self.write_whole(&columns, &TablePlan::whole(table))?;
                    }
                }
            }
            ResultKind::Groups { plan, .. } => {
                let columns = groups.as_ref().map(|groups| groups.columns()).unwrap_or_default();
                self.write_whole(&columns, &plan)?;
            }
        }
        self.pending.into_iter().try_for_each(Pending::publish)
    }

    /// Writes a table that is in memory as a whole.
    fn write_whole(&mut self, columns: &Columns, plan: &TablePlan) -> Result<()> {
        let rows = select(
            columns,
            plan.filter.as_ref(),
            &plan.columns,
            &plan.arrangement.sort,
            plan.arrangement.limit,
        );
        let picked = |n: &usize| columns.columns[*n].gather(&rows);
        let shown = Columns {
            columns: plan.columns[..plan.arrangement.visible].iter().map(picked).collect(),
        };
        let specs: Vec<Spec> = shown.specs().collect();
        let to = self.target(plan.table)?;
        let mut writer = self.plan.format.writer(to, &specs, &Facts::new(&self.facts, &specs))?;
        writer.write_batch(&shown)?;
        writer.finish()
    }
}

/// The numbers of the rows that pass, sorted and limited. `sort` has indexes into `taken`.
fn select(
    columns: &Columns,
    filter: Option<&Expression>,
    taken: &[usize],
    sort: &[(usize, bool)],
    limit: Option<usize>,
) -> Vec<u32> {
    let passes = |row: &u32| {
        filter.is_none_or(|filter| filter.matches_values(|column| columns.columns[column].get(*row as usize)))
    };
    let mut rows: Vec<u32> = (0..columns.rows() as u32).filter(passes).collect();
    let by: Vec<(usize, bool)> = sort
        .iter()
        .map(|(column, descending)| (taken[*column], *descending))
        .collect();
    rows.sort_by(|a, b| compare_rows(columns, &by, *a as usize, *b as usize));
    rows.truncate(limit.unwrap_or(usize::MAX));
    rows
}

/// A table that is in memory as a whole; `None` for those that stream.
fn whole_table(table: TableName, aggregate: Option<&Aggregate>, captures: &[CaptureFacts]) -> Option<Columns> {
    match table {
        TableName::Capture => Some(sections::rows::<Capture>(captures.iter())),
        TableName::Summary(protocol) => aggregate.map(|aggregate| aggregate.summary(protocol)),
        TableName::Services => aggregate.map(sections::services),
        _ => None,
    }
}
