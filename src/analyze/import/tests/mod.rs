//! Tests of the import, on packets made here; the real captures are in `tests/import.rs`.

mod build;
mod connections;
mod copies;
mod files;
mod packets;
mod properties;
mod robust;
mod several;
mod tunnels;
