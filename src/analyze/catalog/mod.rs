//! The tables by name: those of all captures, and two for each protocol of the registry. Knows no protocol by name.

pub mod document;

use crate::analyze::protocol::{PROTOCOLS, Protocol};
use crate::analyze::table::capture::Capture;
use crate::analyze::table::connections::Connections;
use crate::analyze::table::define::specs_and_brief;
use crate::analyze::table::losses::Losses;
use crate::analyze::table::processes::Processes;
use crate::analyze::table::services::Services;
use crate::analyze::table::{Spec, ends};

/// A table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TableName {
    Processes,
    Connections,
    /// The exchanges of the protocol with this place in the registry.
    Exchanges(usize),
    /// The aggregate table of that protocol.
    Summary(usize),
    Services,
    Losses,
    Capture,
}

impl TableName {
    /// The exchanges of a protocol.
    pub const fn of<P: Protocol>() -> TableName {
        TableName::Exchanges(P::PLACE)
    }

    /// The aggregate table of a protocol.
    pub const fn summary_of<P: Protocol>() -> TableName {
        TableName::Summary(P::PLACE)
    }

    /// All tables, in the order of the documentation.
    pub fn all() -> Vec<TableName> {
        let mut all: Vec<TableName> = TableName::exchanges().collect();
        all.extend([TableName::Connections, TableName::Processes]);
        all.extend((0..PROTOCOLS.len()).map(TableName::Summary));
        all.extend([TableName::Services, TableName::Losses, TableName::Capture]);
        all
    }

    /// The exchanges of each protocol.
    pub fn exchanges() -> impl Iterator<Item = TableName> {
        (0..PROTOCOLS.len()).map(TableName::Exchanges)
    }

    /// As the user writes it; also the stem of its file.
    pub fn name(self) -> &'static str {
        match self {
            TableName::Processes => "processes",
            TableName::Connections => "connections",
            TableName::Exchanges(protocol) => PROTOCOLS[protocol].name(),
            TableName::Summary(protocol) => PROTOCOLS[protocol].summary().name,
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
            TableName::Exchanges(protocol) => PROTOCOLS[protocol].about(),
            TableName::Summary(protocol) => PROTOCOLS[protocol].summary().about,
            TableName::Services => "The dependency map: who called whom, by protocol.",
            TableName::Losses => "One row for each loss that a capture reports.",
            TableName::Capture => "One row for each capture file.",
        }
    }

    /// Whether it is an aggregate table: made from the rows of other tables.
    pub fn is_aggregate(self) -> bool {
        matches!(self, TableName::Summary(_) | TableName::Services)
    }

    /// The columns, in order.
    pub fn specs(self) -> Vec<Spec> {
        self.specs_and_brief().into_iter().map(|(spec, _)| spec).collect()
    }

    /// The columns without those of the common ends of the aggregated rows, which are last.
    pub fn own_specs(self) -> Vec<Spec> {
        let mut specs = self.specs();
        if self.is_aggregate() {
            specs.truncate(specs.len() - ends::COLUMNS);
        }
        specs
    }

    /// The columns, in order, each with whether a terminal shows it by default.
    pub fn specs_and_brief(self) -> Vec<(Spec, bool)> {
        match self {
            TableName::Processes => specs_and_brief::<Processes>(),
            TableName::Connections => specs_and_brief::<Connections>(),
            TableName::Exchanges(protocol) => PROTOCOLS[protocol].columns(),
            TableName::Summary(protocol) => PROTOCOLS[protocol].summary_columns(),
            TableName::Services => specs_and_brief::<Services>(),
            TableName::Losses => specs_and_brief::<Losses>(),
            TableName::Capture => specs_and_brief::<Capture>(),
        }
    }
}

impl std::str::FromStr for TableName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = TableName::all();
        let found = all.iter().find(|table| table.name() == text);
        found.copied().ok_or_else(|| {
            let names: Vec<&str> = all.iter().map(|table| table.name()).collect();
            format!("no table {text:?}; there are {}", names.join(", "))
        })
    }
}
