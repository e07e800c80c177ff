//! Tables: rows become typed columns. Which columns there are, and what they mean, is said once, beside the code that
//! fills them; COLUMNS.md is made from that.
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
