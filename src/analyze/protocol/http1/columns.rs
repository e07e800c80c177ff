//! The columns of the table `http` that are its own.

use super::HttpMessage;
use super::path::Templates;
use crate::analyze::column::Value;
use crate::analyze::table::define::{Def, Scratch};
use crate::analyze::table::exchanges::{Columns, Exchanges, exchange_columns};

impl Columns for HttpMessage {
    type Derived = Templates;

    #[rustfmt::skip]
    fn defs() -> &'static [Def<Exchanges<HttpMessage>>] {
        exchange_columns!(HttpMessage, [
            brief("method", Text, "HTTP method as sent; null when only the response was captured", |r, _| Value::text(&r.message.method)),
            column("host", Text, "Host field of the request, or the authority of an absolute target", |r, _| Value::text(&r.message.host)),
            brief("path", Text, "path of the request target; null when the end of the target was not captured", |r, _| Value::text(r.message.path_and_query().0)),
            column("query", Text, "query of the request target, without the question mark; null when there is none, empty in /x?", |r, _| r.message.path_and_query().1.map_or(Value::Null, Value::Text)),
            column("endpoint", Text, "path template of the request: /users/42 is /users/{id}", |r, s: &mut Scratch<Templates>| Value::text(s.derived.template(r.message.path_and_query().0))),
            column("version", Text, "HTTP version: 1.1, 1.0, 0.9", |r, _| version(r.message.version)),
            brief("status", Number, "status code of the final response", |r, _| Value::nonzero(r.message.status.into())),
            column("content_type", Text, "Content-Type field of the response", |r, _| Value::text(&r.message.content_type)),
            column("upgrade", Text, "protocol that a 101 response switched to; tunnel after CONNECT", |r, _| Value::text(&r.message.upgrade)),
            column("why", Text, "what is wrong with the exchange: chunk size overflows, head not captured in full, answer to bytes that are no request, …", |r, _| Value::text(r.message.problem)),
        ])
    }
}

/// The word in `version`.
fn version(version: u8) -> Value<'static> {
    match version {
        9 => Value::Text("0.9"),
        10 => Value::Text("1.0"),
        11 => Value::Text("1.1"),
        _ => Value::Null,
    }
}
