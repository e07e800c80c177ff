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
            brief("command", Text, "first word of the command, as sent: get, set, …; null when only the answer was seen", |r, _| Value::text(&r.message.command)),
            brief("key", Text, "its first key", |r, _| Value::text(&r.message.key)),
            column("key_pattern", Text, "the key without what names one thing among many: user:42 is user:{id}", |r, s: &mut Scratch<Patterns>| Value::text(s.derived.of(&r.message.key))),
            column("keys", Count, "how many keys it names", |r, _| Value::Int(r.message.keys)),
            column("noreply", Flag, "it asks for no answer", |r, _| Value::Flag(r.message.noreply)),
            column("value_bytes", Bytes, "data that it stores", |r, _| Value::int(r.message.value_bytes)),
            brief("status", Text, "ok, client_error (ERROR, CLIENT_ERROR), server_error (SERVER_ERROR) or no_response", |r, _| Value::Text(r.message.status.name())),
            brief("answer", Text, "last line of the answer: STORED, NOT_FOUND, END, a number, an error with its words", |r, _| Value::text(&r.message.answer)),
            brief("hits", Count, "of the keys, how many were there; null where the answer does not say", |r, _| Value::int(r.message.hits)),
            brief("misses", Count, "of the keys, how many were not there", |r, _| Value::int(r.message.misses())),
            column("found_bytes", Bytes, "data in the answer", |r, _| Value::Int(r.message.found_bytes)),
            column("why", Text, "what is wrong with it, in words: an answer to another command, an error without a command, …", |r, _| Value::text(r.message.why)),
        ])
    }
}
