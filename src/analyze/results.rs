//! What becomes of rows: the sinks that the engine fills, and what is made of them between batches and at the end.

use std::io::Write;

use anyhow::Result;

use super::catalog::TableName;
use super::exchange::Message;
use super::output::report as report_text;
use super::output::row_buffer::{Arrangement, RowBuffer, RowStream, Rows};
use super::output::target::{self, Target};
use super::output::{Facts, human};
use super::plan::{Plan, RowFilter, Shape, TablePlan};
use super::protocol::{Protocol, Visitor, visit_each};
use super::query::expression::Expression;
use super::query::group::{AnyGroups, GroupBy, Groups, Measured};
use super::report::{Aggregate, sections};
use super::row::{CaptureFacts, ConnectionRow, ExchangeRow, Frame, LossRow, ProcessRow, Sink, Timed};
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

/// What becomes of the rows of one table in one shard.
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

    /// Takes a row; false when it does not pass the filter.
    fn take_in(&mut self, row: &T::Row<'_>) -> bool {
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

/// The same of a table whose rows can be counted up by some columns.
struct CountedRows<T: Measured> {
    table: TableRows<T>,
    groups: Option<Box<Groups<T>>>,
}

impl<T: Measured> CountedRows<T> {
    fn new(filter: &RowFilter, patterns: &Patterns) -> Self {
        CountedRows {
            table: TableRows::new(filter, patterns),
            groups: None,
        }
    }

    fn take_in(&mut self, row: &T::Row<'_>) -> bool {
        let passes = self.table.take_in(row);
        if passes && let Some(groups) = &mut self.groups {
            groups.push(row, &mut self.table.scratch);
        }
        passes
    }
}

/// What is wanted of rows that can be counted up.
trait Wanted: Send {
    /// They are collected, with these columns.
    fn collect(&mut self, columns: &[usize]);

    /// Takes those that were collected.
    fn take(&mut self) -> Option<Rows>;

    /// They are counted up.
    fn count_by(&mut self, by: &GroupBy);

    /// Takes what was counted.
    fn take_groups(&mut self) -> Option<Box<dyn AnyGroups>>;
}

impl<T: Measured> Wanted for CountedRows<T> {
    fn collect(&mut self, columns: &[usize]) {
        self.table.collect(columns);
    }

    fn take(&mut self) -> Option<Rows> {
        self.table.take()
    }

    fn count_by(&mut self, by: &GroupBy) {
        self.groups = Some(Box::new(Groups::new(by.clone())));
    }

    fn take_groups(&mut self) -> Option<Box<dyn AnyGroups>> {
        let groups: Box<dyn AnyGroups> = self.groups.take()?;
        Some(groups)
    }
}

/// The exchanges of a protocol that the caller need not know.
trait ExchangeRows: Wanted {
    /// Takes an exchange; false when it does not pass the filter.
    fn exchange(&mut self, frame: &Frame<'_>, message: &dyn Message) -> bool;
}

impl<M: exchanges::Columns> ExchangeRows for CountedRows<Exchanges<M>> {
    fn exchange(&mut self, frame: &Frame<'_>, message: &dyn Message) -> bool {
        ExchangeRow::of(frame, message).is_some_and(|row| self.take_in(&row))
    }
}

/// For the exchanges of each protocol of the registry.
fn exchange_rows(plan: &Plan) -> Vec<Box<dyn ExchangeRows>> {
    struct Each<'p>(&'p Plan, Vec<Box<dyn ExchangeRows>>);
    impl Visitor for Each<'_> {
        fn visit<P: Protocol>(&mut self) {
            let filter = &self.0.filters.exchanges[P::PLACE];
            let rows = CountedRows::<Exchanges<P::Message>>::new(filter, &self.0.patterns);
            self.1.push(Box::new(rows));
        }
    }
    let mut each = Each(plan, Vec::new());
    visit_each(&mut each);
    each.1
}

/// Takes the rows of one shard.
pub struct ShardSink {
    /// Losses belong to the span in which they were noticed.
    span: Option<Span>,
    aggregate: Option<Box<Aggregate>>,
    /// In the order of the registry.
    exchanges: Vec<Box<dyn ExchangeRows>>,
    connections: CountedRows<Connections>,
    processes: CountedRows<Processes>,
    losses: TableRows<Losses>,
    /// Losses that cost data, and bytes missing from connections, whatever else is asked.
    lost: bool,
    /// All of the captures is read, so that what is missing of a connection was lost.
    reads_all: bool,
    /// Rows with times that results cannot hold.
    impossible_times: u64,
}

impl ShardSink {
    fn new(plan: &Plan) -> ShardSink {
        let mut sink = ShardSink {
            span: plan.span,
            aggregate: None,
            exchanges: exchange_rows(plan),
            connections: CountedRows::new(&plan.filters.connections, &plan.patterns),
            processes: CountedRows::new(&plan.filters.processes, &plan.patterns),
            losses: TableRows::new(&plan.filters.losses, &plan.patterns),
            lost: false,
            reads_all: plan.reads_all,
            impossible_times: 0,
        };
        match &plan.shape {
            Shape::Report { .. } => sink.aggregate = Some(Box::new(Aggregate::new(&plan.patterns))),
            Shape::One(table) => sink.take_table(table, plan),
            Shape::All(_) => {
                for table in TableName::all() {
                    sink.take_table(&TablePlan::whole(table), plan);
                }
            }
            Shape::Groups { table, by, .. } => {
                if let Some(rows) = sink.wanted(*table) {
                    rows.count_by(by);
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
        } else if let Some(rows) = self.wanted(table.table) {
            rows.collect(&table.columns);
        }
    }

    /// The rows of a table that can be counted up.
    fn wanted(&mut self, table: TableName) -> Option<&mut dyn Wanted> {
        match table {
            TableName::Exchanges(protocol) => self
                .exchanges
                .get_mut(protocol)
                .map(|rows| &mut **rows as &mut dyn Wanted),
            TableName::Connections => Some(&mut self.connections),
            TableName::Processes => Some(&mut self.processes),
            TableName::Summary(_) | TableName::Services | TableName::Losses | TableName::Capture => None,
        }
    }

    /// The collected rows of a table.
    fn take(&mut self, table: TableName) -> Option<Rows> {
        match table {
            TableName::Losses => self.losses.take(),
            table => self.wanted(table)?.take(),
        }
    }

    /// What was counted up, of the one table of which that was asked.
    fn take_groups(&mut self) -> Option<Box<dyn AnyGroups>> {
        let mut exchanges = self.exchanges.iter_mut();
        exchanges
            .find_map(|rows| rows.take_groups())
            .or_else(|| self.connections.take_groups())
            .or_else(|| self.processes.take_groups())
    }
}

impl ShardSink {
    /// The row, or what is left of it without times that results cannot hold.
    fn possible<'r, R>(&mut self, row: &'r R, fixed: &'r Option<R>) -> &'r R {
        self.impossible_times += u64::from(fixed.is_some());
        fixed.as_ref().unwrap_or(row)
    }
}

impl Sink for ShardSink {
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
        let passes = self.connections.take_in(row);
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
        if !self.processes.take_in(row) {
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
        if !self.losses.take_in(row) {
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

/// All of a run's results.
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
    /// Opens what is written. `captures` are the facts as far as they are known before reading; only what the header
    /// says is used of them here.
    pub fn new(plan: Plan, captures: &[CaptureFacts]) -> Result<Results> {
        let mut results = Results {
            plan,
            streams: Vec::new(),
            pending: Vec::new(),
            folders: MadeFolders::default(),
            facts: captures.to_vec(),
        };
        match results.plan.shape.clone() {
            Shape::One(plan) if !plan.table.is_aggregate() && plan.table != TableName::Capture => {
                results.open_stream(&plan)?;
            }
            Shape::All(folder) => {
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
            // Better refused now than after an hour's work.
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

    /// Everything counted together, and whether data was lost.
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

    /// Writes the row groups that can leave. `horizon` says before when (UTC, ns) no exchange is still to come; it is
    /// asked only when there are rows enough.
    pub fn write_ready(&mut self, horizon: impl FnOnce() -> u64) -> Result<()> {
        if !self.streams.iter().any(|(_, stream)| stream.has_group()) {
            return Ok(());
        }
        let horizon = horizon();
        for (table, stream) in self.streams.iter_mut().filter(|(_, stream)| stream.has_group()) {
            // Connections and processes are known when they end: when the oldest began that is still open, nobody asks.
            let of_exchanges = matches!(table, TableName::Exchanges(_));
            stream.write_ready(if of_exchanges { horizon } else { 0 })?;
        }
        Ok(())
    }

    /// Writes everything that is left. `captures` are the facts after reading. Returns whether data was lost or damaged.
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
        // That is so whether or not somebody reads what is printed.
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
        match self.plan.shape.clone() {
            Shape::Report { json } => {
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
            Shape::One(plan) => {
                if let Some(columns) = whole_table(plan.table, aggregate.as_deref(), &self.facts) {
                    self.write_whole(&columns, &plan)?;
                }
            }
            Shape::All(_) => {
                for table in TableName::all() {
                    if let Some(columns) = whole_table(table, aggregate.as_deref(), &self.facts) {
                        self.write_whole(&columns, &TablePlan::whole(table))?;
                    }
                }
            }
            Shape::Groups { plan, .. } => {
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

/// The numbers of the rows that are wanted, in the order that is wanted. `sort` counts in `taken`.
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

/// A table that does not stream.
fn whole_table(table: TableName, aggregate: Option<&Aggregate>, captures: &[CaptureFacts]) -> Option<Columns> {
    match table {
        TableName::Capture => Some(sections::rows::<Capture>(captures.iter())),
        TableName::Summary(protocol) => aggregate.map(|aggregate| aggregate.summary(protocol)),
        TableName::Services => aggregate.map(sections::services),
        _ => None,
    }
}
