//! Tables: rows become typed columns. Which columns there are, and what they mean, is said once, beside the code that
//! fills them; COLUMNS.md is made from that.
//!
#![doc = include_str!("COLUMNS.md")]

pub mod capture;
pub mod connections;
pub mod define;
pub mod derive;
pub mod digests;
pub mod document;
pub mod endpoints;
mod ends;
pub mod exchanges;
pub mod losses;
pub mod order;
pub mod processes;
pub mod services;

pub use crate::analyze::column::{Column, Columns, Kind, Spec, Value};
pub use define::{Def, Scratch, Table};

use crate::analyze::protocol::http::HttpMessage;
use crate::analyze::protocol::mysql::MysqlMessage;

/// The tables by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TableName {
    Processes,
    Connections,
    Http,
    Mysql,
    Endpoints,
    Digests,
    Services,
    Losses,
    Capture,
}

impl TableName {
    /// All tables, in the order of the documentation.
    pub const ALL: [TableName; 9] = [
        TableName::Http,
        TableName::Mysql,
        TableName::Connections,
        TableName::Processes,
        TableName::Endpoints,
        TableName::Digests,
        TableName::Services,
        TableName::Losses,
        TableName::Capture,
    ];

    /// As the user writes it; also the stem of its file.
    pub fn name(self) -> &'static str {
        match self {
            TableName::Processes => "processes",
            TableName::Connections => "connections",
            TableName::Http => "http",
            TableName::Mysql => "mysql",
            TableName::Endpoints => "endpoints",
            TableName::Digests => "digests",
            TableName::Services => "services",
            TableName::Losses => "losses",
            TableName::Capture => "capture",
        }
    }

    /// What a row of it is.
    pub fn about(self) -> &'static str {
        match self {
            TableName::Processes => "One row for each program that a process ran.",
            TableName::Connections => "One row for each TCP connection, both ends together, and for each listener.",
            TableName::Http => "One row for each HTTP/1.x exchange: a request with its response.",
            TableName::Mysql => "One row for each MySQL or MariaDB command with its response.",
            TableName::Endpoints => "HTTP exchanges by host, method and path template.",
            TableName::Digests => "MySQL commands by fingerprint of their statement.",
            TableName::Services => "The dependency map: who called whom, by protocol.",
            TableName::Losses => "One row for each loss that a capture reports.",
            TableName::Capture => "One row for each capture file.",
        }
    }

    /// Whether it is counted up from the rows of other tables.
    pub fn is_aggregate(self) -> bool {
        matches!(self, TableName::Endpoints | TableName::Digests | TableName::Services)
    }

    /// The columns, in order.
    pub fn specs(self) -> Vec<Spec> {
        self.specs_and_brief().into_iter().map(|(spec, _)| spec).collect()
    }

    /// The columns without those that only say in what the rows that were counted up agree; these come last.
    pub fn own_specs(self) -> Vec<Spec> {
        let mut specs = self.specs();
        if self.is_aggregate() {
            specs.truncate(specs.len() - ends::COLUMNS);
        }
        specs
    }

    /// The columns, in order, each with whether a terminal shows it unasked.
    pub fn specs_and_brief(self) -> Vec<(Spec, bool)> {
        fn specs<T: Table>() -> Vec<(Spec, bool)> {
            T::defs().iter().map(|def| (def.spec, def.brief)).collect()
        }
        match self {
            TableName::Processes => specs::<processes::Processes>(),
            TableName::Connections => specs::<connections::Connections>(),
            TableName::Http => specs::<exchanges::Exchanges<HttpMessage>>(),
            TableName::Mysql => specs::<exchanges::Exchanges<MysqlMessage>>(),
            TableName::Endpoints => specs::<endpoints::Endpoints>(),
            TableName::Digests => specs::<digests::Digests>(),
            TableName::Services => specs::<services::Services>(),
            TableName::Losses => specs::<losses::Losses>(),
            TableName::Capture => specs::<capture::Capture>(),
        }
    }
}

impl std::str::FromStr for TableName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        TableName::ALL
            .into_iter()
            .find(|table| table.name() == text)
            .ok_or_else(|| {
                let names: Vec<&str> = TableName::ALL.iter().map(|table| table.name()).collect();
                format!("no table {text:?}; there are {}", names.join(", "))
            })
    }
}
