//! The tables that no protocol owns, and how a table is defined: columns with a name, a kind, documentation and the function
//! that takes the value from a row. COLUMNS.md is generated from these. Knows no protocol and no output format.
//!
#![doc = include_str!("COLUMNS.md")]

pub mod capture;
pub mod connections;
pub mod define;
pub mod ends;
pub mod exchanges;
pub mod losses;
pub mod order;
pub mod processes;
pub mod services;

pub use crate::analyze::column::{Column, Columns, Kind, Spec, Value};
pub use define::{Def, Scratch, Table};
