//! What becomes of rows: the sinks that the engine fills, and what is made of them between batches and at the end.

use std::io::Write;

use anyhow::Result;

use super::output::report as report_text;
use super::output::row_buffer::{Arrangement, RowBuffer, RowStream, Rows};
use super::output::target::{self, Target};
use super::output::{Facts, human};
use super::plan::{Plan, RowFilter, RowFilters, Shape, TablePlan};
use super::protocol::http::HttpMessage;
use super::protocol::mysql::MysqlMessage;
use super::query::expression::Expression;
use super::query::group::{GroupBy, Groups, Measured};
use super::report::{Aggregate, sections};
use super::row::{CaptureFacts, ConnectionRow, HttpRow, LossRow, MysqlRow, ProcessRow, Sink, Timed};
use super::selection::Span;
use super::table::capture::Capture;
use super::table::connections::Connections;
use super::table::derive::Templates;
use super::table::exchanges::Exchanges;
use super::table::losses::Losses;
use super::table::order::compare_rows;
use super::table::processes::Processes;
use super::table::{Columns, Scratch, Spec, Table, TableName};
use crate::create::{self, Pending};
use crate::message;
use crate::stdout;

/// Rows that are counted up by some columns.
enum Grouping {
    Http(Groups<Exchanges<HttpMessage>>),
    Mysql(Groups<Exchanges<MysqlMessage>>),
    Connections(Groups<Connections>),
    Processes(Groups<Processes>),
}

/// Takes the rows of one shard.
pub struct ShardSink {
    filters: RowFilters,
    /// Losses belong to the span in which they were noticed.
    span: Option<Span>,
    scratch: Scratch,
    aggregate: Option<Box<Aggregate>>,
    http: Option<RowBuffer<Exchanges<HttpMessage>>>,
    mysql: Option<RowBuffer<Exchanges<MysqlMessage>>>,
    connections: Option<RowBuffer<Connections>>,
    processes: Option<RowBuffer<Processes>>,
    losses: Option<RowBuffer<Losses>>,
    grouping: Option<Grouping>,
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
            filters: plan.filters.clone(),
            span: plan.span,
            scratch: scratch(plan),
            aggregate: None,
            http: None,
            mysql: None,
            connections: None,
            processes: None,
            losses: None,
            grouping: None,
            lost: false,
            reads_all: plan.reads_all,
            impossible_times: 0,
        };
        match &plan.shape {
            Shape::Report { .. } => sink.aggregate = Some(Box::new(Aggregate::new(scratch(plan)))),
            Shape::One(table) => sink.take_table(table, plan),
            Shape::All(_) => {
                for table in TableName::ALL {
                    sink.take_table(&TablePlan::whole(table), plan);
                }
            }
            Shape::Groups { table, by, .. } => sink.grouping = grouping(*table, by),
        }
        sink
    }

    fn take_table(&mut self, table: &TablePlan, plan: &Plan) {
        match table.table {
            TableName::Http => self.http = Some(RowBuffer::new(&table.columns)),
            TableName::Mysql => self.mysql = Some(RowBuffer::new(&table.columns)),
            TableName::Connections => self.connections = Some(RowBuffer::new(&table.columns)),
            TableName::Processes => self.processes = Some(RowBuffer::new(&table.columns)),
            TableName::Losses => self.losses = Some(RowBuffer::new(&table.columns)),
            TableName::Endpoints | TableName::Digests | TableName::Services => {
                self.aggregate
                    .get_or_insert_with(|| Box::new(Aggregate::new(scratch(plan))));
            }
            TableName::Capture => {}
        }
    }

    /// The collected rows of a table.
    fn take(&mut self, table: TableName) -> Option<Rows> {
        match table {
            TableName::Http => self.http.as_mut().map(RowBuffer::take),
            TableName::Mysql => self.mysql.as_mut().map(RowBuffer::take),
            TableName::Connections => self.connections.as_mut().map(RowBuffer::take),
            TableName::Processes => self.processes.as_mut().map(RowBuffer::take),
            TableName::Losses => self.losses.as_mut().map(RowBuffer::take),
            _ => None,
        }
    }
}

fn scratch(plan: &Plan) -> Scratch {
    let mut scratch = Scratch::default();
    scratch.templates = Templates::new(plan.patterns.clone());
    scratch
}

fn grouping(table: TableName, by: &GroupBy) -> Option<Grouping> {
    Some(match table {
        TableName::Http => Grouping::Http(Groups::new(by.clone())),
        TableName::Mysql => Grouping::Mysql(Groups::new(by.clone())),
        TableName::Connections => Grouping::Connections(Groups::new(by.clone())),
        TableName::Processes => Grouping::Processes(Groups::new(by.clone())),
        _ => return None,
    })
}

fn passes<T: Table>(filter: &RowFilter, row: &T::Row<'_>, scratch: &mut Scratch) -> bool {
    match filter {
        RowFilter::All => true,
        RowFilter::None => false,
        RowFilter::Where(expression) => {
            expression.matches(&mut |column, test| test.holds((T::defs()[column].get)(row, scratch)))
        }
    }
}

fn push<T: Table>(to: &mut Option<RowBuffer<T>>, row: &T::Row<'_>, scratch: &mut Scratch) {
    if let Some(to) = to {
        to.push(row, scratch);
    }
}

fn count<T: Measured>(groups: &mut Groups<T>, row: &T::Row<'_>, scratch: &mut Scratch) {
    groups.push(row, scratch);
}

impl ShardSink {
    /// The row, or what is left of it without times that results cannot hold.
    fn possible<'r, R>(&mut self, row: &'r R, fixed: &'r Option<R>) -> &'r R {
        self.impossible_times += u64::from(fixed.is_some());
        fixed.as_ref().unwrap_or(row)
    }
}

impl Sink for ShardSink {
    fn http(&mut self, row: &HttpRow<'_>) {
        let fixed = row.with_possible_times();
        let row = self.possible(row, &fixed);
        if !passes::<Exchanges<HttpMessage>>(&self.filters.http, row, &mut self.scratch) {
            return;
        }
        if let Some(aggregate) = &mut self.aggregate {
            aggregate.http(row);
        }
        push(&mut self.http, row, &mut self.scratch);
        if let Some(Grouping::Http(groups)) = &mut self.grouping {
            count(groups, row, &mut self.scratch);
        }
    }

    fn mysql(&mut self, row: &MysqlRow<'_>) {
        let fixed = row.with_possible_times();
        let row = self.possible(row, &fixed);
        if !passes::<Exchanges<MysqlMessage>>(&self.filters.mysql, row, &mut self.scratch) {
            return;
        }
        if let Some(aggregate) = &mut self.aggregate {
            aggregate.mysql(row);
        }
        push(&mut self.mysql, row, &mut self.scratch);
        if let Some(Grouping::Mysql(groups)) = &mut self.grouping {
            count(groups, row, &mut self.scratch);
        }
    }

    fn connection(&mut self, row: &ConnectionRow<'_>) {
        let fixed = row.with_possible_times();
        let row = self.possible(row, &fixed);
        let passes = passes::<Connections>(&self.filters.connections, row, &mut self.scratch);
        self.lost |= row.lost_bytes > 0 && (passes || self.reads_all);
        if !passes {
            return;
        }
        if let Some(aggregate) = &mut self.aggregate {
            aggregate.connection(row);
        }
        push(&mut self.connections, row, &mut self.scratch);
        if let Some(Grouping::Connections(groups)) = &mut self.grouping {
            count(groups, row, &mut self.scratch);
        }
    }

    fn process(&mut self, row: &ProcessRow<'_>) {
        let fixed = row.with_possible_times();
        let row = self.possible(row, &fixed);
        if !passes::<Processes>(&self.filters.processes, row, &mut self.scratch) {
            return;
        }
        if let Some(aggregate) = &mut self.aggregate {
            aggregate.process(row);
        }
        push(&mut self.processes, row, &mut self.scratch);
        if let Some(Grouping::Processes(groups)) = &mut self.grouping {
            count(groups, row, &mut self.scratch);
        }
    }

    fn loss(&mut self, row: &LossRow<'_>) {
        let fixed = row.with_possible_times();
        let row = self.possible(row, &fixed);
        if self.span.is_some_and(|span| !span.contains(row.until)) {
            return;
        }
        self.lost |= row.is_lost();
        if !passes::<Losses>(&self.filters.losses, row, &mut self.scratch) {
            return;
        }
        if let Some(aggregate) = &mut self.aggregate {
            aggregate.loss(row);
        }
        push(&mut self.losses, row, &mut self.scratch);
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
            facts: captures.to_vec(),
        };
        match results.plan.shape.clone() {
            Shape::One(plan) if !plan.table.is_aggregate() && plan.table != TableName::Capture => {
                results.open_stream(&plan)?;
            }
            Shape::All(folder) => {
                target::directory(&folder)?;
                for path in results.plan.outputs() {
                    create::check_free(&path, results.plan.force)?;
                }
                for table in TableName::ALL {
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
            let of_exchanges = matches!(table, TableName::Http | TableName::Mysql);
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
        let mut grouping: Option<Grouping> = None;
        for sink in sinks {
            if let Some(one) = sink.aggregate {
                aggregate.get_or_insert_default().merge(*one);
            }
            match (&mut grouping, sink.grouping) {
                (Some(Grouping::Http(all)), Some(Grouping::Http(one))) => all.merge(one),
                (Some(Grouping::Mysql(all)), Some(Grouping::Mysql(one))) => all.merge(one),
                (Some(Grouping::Connections(all)), Some(Grouping::Connections(one))) => all.merge(one),
                (Some(Grouping::Processes(all)), Some(Grouping::Processes(one))) => all.merge(one),
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
                for table in TableName::ALL {
                    if let Some(columns) = whole_table(table, aggregate.as_deref(), &self.facts) {
                        self.write_whole(&columns, &TablePlan::whole(table))?;
                    }
                }
            }
            Shape::Groups { plan, .. } => {
                let columns = match &grouping {
                    Some(Grouping::Http(groups)) => groups.columns(),
                    Some(Grouping::Mysql(groups)) => groups.columns(),
                    Some(Grouping::Connections(groups)) => groups.columns(),
                    Some(Grouping::Processes(groups)) => groups.columns(),
                    None => Columns::default(),
                };
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
        TableName::Endpoints => aggregate.map(sections::endpoints),
        TableName::Digests => aggregate.map(sections::digests),
        TableName::Services => aggregate.map(sections::services),
        _ => None,
    }
}
