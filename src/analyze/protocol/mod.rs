//! Protocols: bytes in, exchanges out. Nothing here knows a socket, a clock, a process or a file.
//!
//! Each protocol has message types, a parser (one of three answers: a whole item, not enough yet, wrong) and a pairing
//! (a named struct per connection that pairs requests with responses).

pub mod conversation;
pub mod detect;
pub mod http1;
pub mod memcached;
pub mod mysql;
pub mod proxy;
mod recognise;
pub mod socks;
pub mod summary;
pub mod turn;
pub mod turns;

use std::fmt::Debug;

use conversation::{Conversation, Paired};
use summary::{Heading, Summary};

use super::column::Spec;
use super::exchange::{Exchange, Message, Queue, Side};
use super::table::define::specs_and_brief;
use super::table::exchanges::{Columns, Exchanges};

/// The registry.
macro_rules! protocols {
    ($($module:ident::$name:ident),+ $(,)?) => {
        /// The protocols that are read, in the order in which a connection is tried.
        pub static PROTOCOLS: &[&dyn AnyProtocol] = &[$(&$module::$name),+];

        /// Their places.
        enum Place {
            $($name),+
        }

        $(impl Registered for $module::$name {
            const PLACE: usize = Place::$name as usize;
        })+

        /// A value for each protocol, in this order.
        pub fn for_each_protocol<F: ForProtocol>(make: &F) -> Vec<F::Value> {
            vec![$(make.value::<$module::$name>()),+]
        }
    };
}

protocols! {
    http1::Http,
    mysql::Mysql,
    memcached::Memcached,
    turn::Turn,
}

/// What has a line in the registry.
pub trait Registered {
    /// Its place in [`PROTOCOLS`].
    const PLACE: usize;
}

/// Makes a value for each protocol, by code that is compiled for the types of each.
pub trait ForProtocol {
    type Value;

    fn value<P: Protocol>(&self) -> Self::Value;
}

/// A protocol that is read: all that the rest of the analyzer asks of it.
pub trait Protocol: Registered + Debug + Sync + 'static {
    /// What an exchange says, with the columns of its table.
    type Message: Columns + Default;
    /// Parser and pairing.
    type Pairing: WholeMessages<Message = Self::Message>;
    /// How exchanges are counted up.
    type Summary: Summary<Message = Self::Message>;

    /// In the `protocol` column; also the name of the table of its exchanges.
    const NAME: &'static str;
    /// What a row of this table is.
    const ABOUT: &'static str;
    /// The slowest exchanges in the report: their heading, and what is asked in them.
    const SLOWEST: (&'static str, &'static str);

    /// Its rows are turns of connections, and no exchanges.
    const ARE_TURNS: bool = false;

    /// Whether the report and the aggregate tables count it.
    fn is_counted(message: &Self::Message) -> bool {
        let _ = message;
        true
    }

    /// What the table `services` calls the protocol of this exchange.
    fn carried_by(message: &Self::Message) -> &'static str {
        let _ = message;
        Self::NAME
    }

    /// Whether it is what a client sent. `joined`: these are not the first bytes of the connection.
    fn of_client(sent: Sent<'_>, joined: bool) -> Detected;

    /// Whether it is what a server sent.
    fn of_server(sent: Sent<'_>, joined: bool) -> Detected;

    /// Whether the answer may still show that it is what a client sent, although it does not look so: servers answer what
    /// they do not understand, too.
    fn may_be_answered(sent: Sent<'_>) -> bool {
        let _ = sent;
        false
    }

    /// Whether it is what both sent, where neither alone makes sure.
    fn of_both(client: Sent<'_>, server: Sent<'_>, joined: bool) -> Detected {
        let _ = (client, server, joined);
        Detected::No
    }
}

/// A protocol that the caller need not know.
pub trait AnyProtocol: Debug + Sync {
    /// See [`Protocol::NAME`].
    fn name(&self) -> &'static str;

    /// See [`Protocol::ABOUT`].
    fn about(&self) -> &'static str;

    /// See [`Protocol::SLOWEST`].
    fn slowest(&self) -> (&'static str, &'static str);

    /// See [`Protocol::ARE_TURNS`].
    fn are_turns(&self) -> bool;

    /// The table that its exchanges are counted up to.
    fn summary(&self) -> Heading;

    /// The columns of its exchanges, each with whether a terminal shows it unasked.
    fn columns(&self) -> Vec<(Spec, bool)>;

    /// The same of that table.
    fn summary_columns(&self) -> Vec<(Spec, bool)>;

    /// See [`Protocol::of_client`].
    fn of_client(&self, sent: Sent<'_>, joined: bool) -> Detected;

    /// See [`Protocol::of_server`].
    fn of_server(&self, sent: Sent<'_>, joined: bool) -> Detected;

    /// See [`Protocol::may_be_answered`].
    fn may_be_answered(&self, sent: Sent<'_>) -> bool;

    /// See [`Protocol::of_both`].
    fn of_both(&self, client: Sent<'_>, server: Sent<'_>, joined: bool) -> Detected;

    /// The exchanges of a connection that speaks it, as [`Pairing::begin`] says.
    fn conversation(&'static self, joined: bool) -> Box<dyn Conversation>;
}

impl<P: Protocol> AnyProtocol for P {
    fn name(&self) -> &'static str {
        P::NAME
    }

    fn about(&self) -> &'static str {
        P::ABOUT
    }

    fn slowest(&self) -> (&'static str, &'static str) {
        P::SLOWEST
    }

    fn are_turns(&self) -> bool {
        P::ARE_TURNS
    }

    fn summary(&self) -> Heading {
        P::Summary::HEADING
    }

    fn columns(&self) -> Vec<(Spec, bool)> {
        specs_and_brief::<Exchanges<P::Message>>()
    }

    fn summary_columns(&self) -> Vec<(Spec, bool)> {
        specs_and_brief::<<P::Summary as Summary>::Table>()
    }

    fn of_client(&self, sent: Sent<'_>, joined: bool) -> Detected {
        P::of_client(sent, joined)
    }

    fn of_server(&self, sent: Sent<'_>, joined: bool) -> Detected {
        P::of_server(sent, joined)
    }

    fn may_be_answered(&self, sent: Sent<'_>) -> bool {
        P::may_be_answered(sent)
    }

    fn of_both(&self, client: Sent<'_>, server: Sent<'_>, joined: bool) -> Detected {
        P::of_both(client, server, joined)
    }

    fn conversation(&'static self, joined: bool) -> Box<dyn Conversation> {
        Box::new(Paired::<P::Pairing>::new(self, joined))
    }
}

impl PartialEq for dyn AnyProtocol {
    fn eq(&self, other: &dyn AnyProtocol) -> bool {
        self.name() == other.name()
    }
}

impl Eq for dyn AnyProtocol {}

/// Replaces `text` by `bytes`; bytes that are not UTF-8 become U+FFFD.
fn set_text(text: &mut String, bytes: &[u8]) {
    // Much comes again and again (methods, hosts): comparing is cheaper than validating.
    if text.as_bytes() == bytes {
        return;
    }
    text.clear();
    match std::str::from_utf8(bytes) {
        Ok(valid) => text.push_str(valid),
        Err(_) => text.push_str(&String::from_utf8_lossy(bytes)),
    }
}

/// What one end sent from some point on, as far as it was given so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sent<'a> {
    /// The bytes, up to the first that was not captured.
    pub bytes: &'a [u8],
    /// How many bytes were sent, captured or not.
    pub len: u64,
}

impl<'a> Sent<'a> {
    /// Bytes of which all were captured.
    pub fn whole(bytes: &'a [u8]) -> Self {
        Sent {
            bytes,
            len: bytes.len() as u64,
        }
    }

    /// What comes after so many bytes.
    pub fn from(self, at: usize) -> Self {
        Sent {
            bytes: self.bytes.get(at..).unwrap_or_default(),
            len: self.len.saturating_sub(at as u64),
        }
    }
}

/// What a protocol makes of the first bytes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detected {
    Yes,
    No,
    /// Too few bytes to tell.
    More,
    /// Something that is known by this name only.
    Named(&'static str),
}

/// Why bytes of a stream are not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// They were lost: nobody captured them.
    Lost,
    /// Their number is known and their content is not (snaplen, kernel pages).
    Unread,
    /// They were sent before the capture began.
    Before,
}

/// What a pairing makes of what it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Continue,
    /// From here on this connection speaks something else; the text says what, for the `why` column.
    Leave(&'static str),
    /// It speaks something else, and has from the start, if nothing was read of it; the text says what.
    Mistaken(&'static str),
    /// From here on this connection carries another, which begins here; the text says in what.
    Tunnel(&'static str),
}

/// What one end sent, kept until it is known what it is.
#[derive(Debug)]
pub enum Piece {
    Bytes(u64, Vec<u8>),
    Missing(u64, u64, Missing),
    /// Where it ends, and whether nothing is missing there.
    End(u64, bool),
}

/// One connection's protocol state. Positions count bytes of one direction from the start of the connection; they
/// only grow. Bytes and holes of one direction arrive in order and without overlap; the order *between* the two
/// directions is only roughly right (events of two CPUs), so a pairing must accept a response before its request was
/// read, and hold it (bounded) until it comes, or until `settle`.
pub trait Pairing: Debug + Default + Send + 'static {
    type Message: Message + Default;

    /// Responses may come in another order than their requests, or several at a time: exchanges are taken as they finish, not
    /// from the oldest on.
    const ANY_ORDER: bool = false;

    /// Starts over, keeping its buffers: on a connection from its first byte on; or, `joined`, from somewhere in its middle.
    fn begin(&mut self, joined: bool);

    /// The client began with bytes that are no request, to which the server answers all the same.
    fn after_foreign(&mut self) {}

    /// Bytes that `from` sent, beginning at stream position `pos`.
    fn bytes(&mut self, from: Side, pos: u64, bytes: &[u8], queue: &mut Queue<Self::Message>) -> Verdict;

    /// `len` bytes of what `from` sent, beginning at `pos`, are not there.
    fn missing(&mut self, from: Side, pos: u64, len: u64, why: Missing, queue: &mut Queue<Self::Message>) -> Verdict;

    /// Nothing older than what was given is still to come in either direction: what waits for the other direction
    /// must decide now.
    fn settle(&mut self, queue: &mut Queue<Self::Message>) -> Verdict;

    /// A response is held that came before any request for it.
    fn holds_response(&self) -> bool {
        false
    }

    /// A hole has hidden where messages begin, or which request a response answers, and that is not found yet.
    fn is_in_doubt(&self) -> bool;

    /// The capture is over: unfinished messages that are no exchange yet become one.
    fn finish(&mut self, queue: &mut Queue<Self::Message>) {
        let _ = queue;
    }

    /// What was given and is of the tunnel that begins here.
    fn take_rest(&mut self) -> Vec<(Side, Piece)> {
        Vec::new()
    }

    /// `from` will send nothing more. A response delimited by close ends here. `is_all`: nothing that it sent is missing at its
    /// end, as far as anybody knows.
    fn end(&mut self, from: Side, pos: u64, is_all: bool, queue: &mut Queue<Self::Message>);
}

/// A pairing that can read a whole message without its state machines, where they stand still: the fast path. One that cannot
/// is never at rest.
pub trait WholeMessages: Pairing {
    /// Nothing is under way in either direction, and nothing is in doubt.
    fn is_at_rest(&self) -> bool {
        false
    }

    /// At rest, reads a request of which `bytes`, beginning at `pos`, are all into an exchange, as `bytes` would; false when
    /// they are something else, or this takes a change of state. The exchange may hold anything before, and does after false.
    fn whole_request(&mut self, pos: u64, bytes: &[u8], exchange: &mut Exchange<Self::Message>) -> bool {
        let _ = (pos, bytes, exchange);
        false
    }

    /// The same for the response to such a request, which is `len` bytes long and of which `bytes` were captured.
    fn whole_response(&mut self, pos: u64, len: u64, bytes: &[u8], exchange: &mut Exchange<Self::Message>) -> bool {
        let _ = (pos, len, bytes, exchange);
        false
    }
}
