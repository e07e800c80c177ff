//! The table `digests`: commands by kind, fingerprint of their statement, and service.

use super::fingerprints::Fingerprints;
use super::{MysqlMessage, command_name};
use crate::analyze::column::Kind::{Count, Text};
use crate::analyze::column::Value;
use crate::analyze::ids::IdMap;
use crate::analyze::protocol::summary::{Heading, MAX_REMEMBERED, Summary, SummaryRow, summary_column};
use crate::analyze::row::ExchangeRow;
use crate::analyze::stats::counters::{ExchangeStats, Own, add};
use crate::analyze::stats::keyed::{KeyText, Keyed, Merge};
use crate::analyze::stats::label::write_named;
use crate::analyze::table::define::{Def, Key, SERVICE, Table, brief, column};
use crate::analyze::table::ends::columns_with_ends;
use crate::human::prefix;

/// Characters of a statement that are kept to show.
const SAMPLE: usize = 400;

/// What is counted of a digest beside what is counted of all protocols.
#[derive(Debug, Clone, Default)]
pub struct MysqlStats {
    pub digest: String,
    pub rows: u64,
    pub affected_rows: u64,
    pub no_index_used: u64,
    /// The slowest statement of this kind, cut to a readable length.
    pub sample: String,
    /// How long it took, ns.
    pub sample_ns: Option<u64>,
}

/// What one exchange adds.
#[derive(Debug, Clone, Copy)]
pub struct MysqlCount {
    no_index_used: bool,
    rows: u64,
    affected_rows: u64,
}

impl Own for MysqlStats {
    type One = MysqlCount;

    fn count(&mut self, one: &MysqlCount) {
        self.no_index_used += u64::from(one.no_index_used);
        add(&mut self.rows, one.rows);
        add(&mut self.affected_rows, one.affected_rows);
    }
}

impl Merge for MysqlStats {
    fn merge(&mut self, other: MysqlStats) {
        if self.digest.is_empty() {
            self.digest = other.digest;
        }
        // Without a time there is no sample.
        if other.sample_ns > self.sample_ns {
            self.sample = other.sample;
            self.sample_ns = other.sample_ns;
        }
        add(&mut self.rows, other.rows);
        add(&mut self.affected_rows, other.affected_rows);
        self.no_index_used += other.no_index_used;
    }
}

/// Finds the digest of a command.
#[derive(Default)]
pub struct ByDigest {
    fingerprints: Fingerprints,
    key: KeyText,
    /// By the numbers of the digest and of the callee, with the command between them.
    numbers: IdMap<(u64, u16, u32), u32>,
    /// The longest `total_ns` of each digest, by its number: asked for each exchange, and the counters are far away.
    slowest: Vec<Option<u64>>,
}

impl Summary for ByDigest {
    type Message = MysqlMessage;
    type Own = MysqlStats;
    type Table = Digests;

    const HEADING: Heading = Heading {
        name: "digests",
        title: "MySQL digests",
        about: "MySQL commands by fingerprint of their statement.",
    };
    const FIELDS: usize = 3;
    const LAST: Option<&'static str> = Some("fingerprint");

    fn number(
        &mut self,
        row: &ExchangeRow<'_, MysqlMessage>,
        callee: u32,
        keyed: &mut Keyed<ExchangeStats<MysqlStats>>,
    ) -> u32 {
        let message = row.message;
        let known = match message.statement.is_empty() {
            true => None,
            false => Some(self.fingerprints.of(&message.statement)),
        };
        let asked = (
            known.map_or(u64::MAX, |known| known.number),
            u16::from(message.command),
            callee,
        );
        let number = match self.numbers.get(&asked) {
            Some(number) => *number,
            None => {
                let key = &mut self.key;
                key.begin().field(command_name(message.command).unwrap_or("unknown"));
                key.field(known.map_or("", |known| &known.fingerprint));
                key.write(|to| write_named(to, row.server_party, &row.server));
                let number = keyed.number(key.done());
                if self.numbers.len() >= MAX_REMEMBERED {
                    self.numbers.clear();
                }
                self.numbers.insert(asked, number);
                if self.slowest.len() <= number as usize {
                    self.slowest.resize(number as usize + 1, None);
                }
                // What was counted together has no digest of its own.
                let is_one = !keyed.is_other(number);
                if let Some(stats) = keyed.at(number).filter(|stats| is_one && stats.own.digest.is_empty()) {
                    stats.own.digest.push_str(known.map_or("", |known| &known.digest));
                }
                number
            }
        };
        let slowest = &mut self.slowest[number as usize];
        if row.latency.total_ns > *slowest
            && let Some(stats) = keyed.at(number)
        {
            *slowest = row.latency.total_ns;
            stats.own.sample_ns = row.latency.total_ns;
            stats.own.sample.clear();
            stats.own.sample.push_str(prefix(&message.statement, SAMPLE));
        }
        number
    }

    fn one(row: &ExchangeRow<'_, MysqlMessage>) -> MysqlCount {
        let message = row.message;
        MysqlCount {
            no_index_used: message.no_index_used,
            rows: message.rows.unwrap_or(0),
            affected_rows: message.affected_rows.unwrap_or(0),
        }
    }
}

/// The table `digests`.
pub struct Digests;

impl Table for Digests {
    type Row<'r> = SummaryRow<'r, MysqlStats>;
    type Derived = ();

    #[rustfmt::skip]
    fn defs() -> &'static [Def<Digests>] {
        columns_with_ends!(Digests, "commands of the row", "--table mysql --group-by digest", [
            column("digest", Text, "id of the statement's fingerprint, as pt-query-digest computes it", |r, _| Value::text(&r.stats.own.digest)),
            brief("command", Text, "MySQL command: COM_QUERY, COM_STMT_EXECUTE, …", |r, _| Value::text(r.field(0))),
            brief("fingerprint", Text, "SQL text of the statements without their literals; null for commands without a statement", |r, _| Value::text(r.field(1))),
            column("service", Text, SERVICE, |r, _| Value::text(r.field(2))),
            brief("count", Count, "number of commands, incomplete ones included", |r, _| Value::Int(r.stats.count)),
            brief("errors", Count, "number of commands answered by an ERR packet, or without a whole response because the connection was reset", |r, _| Value::Int(r.stats.errors)),
            summary_column!(column error_rate),
            summary_column!(brief sum_ns),
            summary_column!(brief p50_ns),
            summary_column!(column p90_ns),
            summary_column!(brief p95_ns),
            summary_column!(brief p99_ns),
            summary_column!(brief max_ns),
            summary_column!(column mean_ns),
            summary_column!(column ttfb_p50_ns),
            summary_column!(column ttfb_p99_ns),
            summary_column!(column measured),
            summary_column!(column incomplete),
            brief("rows", Count, "number of rows in all result sets", |r, _| Value::Int(r.stats.own.rows)),
            column("affected_rows", Count, "number of affected rows in all OK packets", |r, _| Value::Int(r.stats.own.affected_rows)),
            column("no_index_used", Count, "number of commands for which no index, or no good one, was used", |r, _| Value::Int(r.stats.own.no_index_used)),
            summary_column!(column request_bytes),
            summary_column!(column response_bytes),
            column("sample", Text, "slowest statement with this fingerprint, cut to 400 characters", |r, _| Value::text(&r.stats.own.sample)),
        ])
    }

    fn key(row: &SummaryRow<'_, MysqlStats>) -> Key {
        (u64::MAX - row.stats.latency.total.sum(), u64::MAX - row.stats.count, 0)
    }
}
