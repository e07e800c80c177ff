//! The columns of the table `memcached` that are its own.

use super::MemcachedMessage;
use super::summary::Patterns;
use crate::analyze::table::define::{Def, Scratch};
use crate::analyze::table::exchanges::{Columns, Exchanges, exchange_columns};

impl Columns for MemcachedMessage {
    type Derived = Patterns;

    #[rustfmt::skip]
    fn defs() -> &'static [Def<Exchanges<MemcachedMessage>>] {
        exchange_columns!(MemcachedMessage, [
            brief("command", Text, "first word of the memcached command, as sent: get, set, …; null when only the response was captured", |r, _| Value::text(&r.message.command)),
            brief("key", Text, "first key of the memcached command", |r, _| Value::text(&r.message.key)),
            column("key_pattern", Text, "first key of the memcached command, with placeholders for what names one item among many: user:42 is user:{id}", |r, s: &mut Scratch<Patterns>| Value::text(s.derived.of(&r.message.key))),
            column("keys", Count, "number of keys that the memcached command names", |r, _| Value::Int(r.message.keys)),
            column("noreply", Flag, "true when the memcached command asks for no response", |r, _| Value::Flag(r.message.noreply)),
            column("value_bytes", Bytes, "data that the memcached command stores, in bytes", |r, _| Value::int(r.message.value_bytes)),
            brief("status", Text, "outcome of the memcached command: ok, client_error (ERROR, CLIENT_ERROR), server_error (SERVER_ERROR) or no_response", |r, _| Value::Text(r.message.status.name())),
            brief("answer", Text, "last line of the memcached response: STORED, NOT_FOUND, END, a number, an error with its text", |r, _| Value::text(&r.message.answer)),
            brief("hits", Count, "number of keys of the memcached command that the server had; null where the response does not show it", |r, _| Value::int(r.message.hits)),
            brief("misses", Count, "number of keys of the memcached command that the server did not have; null where the response does not show it", |r, _| Value::int(r.message.misses())),
            column("found_bytes", Bytes, "data in the memcached response, in bytes", |r, _| Value::Int(r.message.found_bytes)),
            column("why", Text, "what is wrong with the exchange: an answer to another command, an error without a command, …", |r, _| Value::text(r.message.why)),
        ])
    }
}
