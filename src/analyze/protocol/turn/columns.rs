//! The columns of the table `turns` that are its own.

use super::TurnMessage;
use crate::analyze::table::define::Def;
use crate::analyze::table::exchanges::{Columns, Exchanges, exchange_columns};

impl Columns for TurnMessage {
    type Derived = ();

    #[rustfmt::skip]
    fn defs() -> &'static [Def<Exchanges<TurnMessage>>] {
        exchange_columns!(TurnMessage, [
            brief("protocol", Text, "protocol that the connection was recognised as (tls, redis, …); null where nothing is known", |r, _| Value::text(r.message.protocol)),
            brief("overlapping", Flag, "true when client and server were seen to send at the same time on this connection, now or before, so that no latency is given", |r, _| Value::Flag(r.message.overlapping)),
            column("unasked", Flag, "true when the server sent this without a request: a greeting, a push", |r, _| Value::Flag(r.message.unasked)),
            column("has_exchanges", Flag, "true when the exchanges of the connection are read, and are rows of the table of its protocol; such turns are not counted in turn_services", |r, _| Value::Flag(r.message.has_exchanges)),
        ])
    }
}
