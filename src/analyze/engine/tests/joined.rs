//! Captures of real programs whose beginnings are cut off at many places: what is read of the rest is what is read of it in the
//! whole, and never anything else.

use super::*;
use crate::analyze::import::Import;
use crate::analyze::protocol::memcached::MemcachedMessage;

/// Cuts of one capture.
const CUTS: usize = 16;

/// What a row says, by its table, its start and its client.
type Facts = BTreeMap<(&'static str, u64, Endpoint), Row>;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    /// Method and target; the command.
    asked: String,
    /// The SQL text: known where its PREPARE was seen.
    statement: String,
    answered: String,
    is_complete: bool,
}

#[derive(Default)]
struct Rows {
    facts: Facts,
    protocols: Vec<String>,
}

impl Sink for Rows {
    fn exchange(&mut self, frame: &Frame<'_>, message: &dyn Message) {
        if let Some(row) = ExchangeRow::<HttpMessage>::of(frame, message) {
            let facts = Row {
                asked: format!("{} {}", row.message.method, row.message.target),
                statement: String::new(),
                answered: format!(
                    "{} {:?} {:?}",
                    row.message.status, row.response_bytes, row.latency.total_ns
                ),
                is_complete: row.incomplete.is_none(),
            };
            if !row.message.method.is_empty() {
                self.facts.insert(("http", row.start, row.client), facts);
            }
        }
        if let Some(row) = ExchangeRow::<MemcachedMessage>::of(frame, message) {
            let message = row.message;
            let facts = Row {
                asked: format!("{} {} {}", message.command, message.key, message.keys),
                statement: String::new(),
                answered: format!("{} {:?} {:?}", message.answer, message.hits, row.latency.total_ns),
                is_complete: row.incomplete.is_none(),
            };
            if !message.command.is_empty() {
                self.facts.insert(("memcached", row.start, row.client), facts);
            }
        }
        if let Some(row) = ExchangeRow::<MysqlMessage>::of(frame, message) {
            let message = row.message;
            let facts = Row {
                asked: message.command_name().to_string(),
                statement: message.statement.clone(),
                answered: format!("{:?} {} {:?}", message.status, message.error_code, row.latency.total_ns),
                is_complete: row.incomplete.is_none(),
            };
            if !message.is_unasked {
                self.facts.insert(("mysql", row.start, row.client), facts);
            }
        }
    }

    fn connection(&mut self, row: &ConnectionRow<'_>) {
        if !row.protocol.is_empty() {
            self.protocols.push(row.protocol.to_string());
        }
    }
}

/// The frames of a capture, after its header: the classic format, little endian.
fn frames(file: &[u8]) -> Vec<&[u8]> {
    let mut rest = &file[24..];
    let mut frames = Vec::new();
    while let Some(len) = rest.get(8..12) {
        let len = 16 + u32::from_le_bytes(len.try_into().unwrap()) as usize;
        let (frame, after) = rest.split_at(len);
        frames.push(frame);
        rest = after;
    }
    frames
}

fn analysed(file: &[u8]) -> Rows {
    let mut builder = BlockBuilder::new(Class::Events);
    Import::open(file)
        .expect("a capture")
        .records(&mut |record| builder.push(record))
        .expect("read");
    let block = builder.take();
    let mut engine = Engine::new(|_| Rows::default());
    let host = engine.host(&header());
    let block = Block {
        source: Source::Raw(&block),
        host,
        file: 0,
    };
    engine.feed(&[block]);
    let mut all = Rows::default();
    for sink in engine.finish(&[]).0 {
        all.facts.extend(sink.facts);
        all.protocols.extend(sink.protocols);
    }
    all
}

/// Each capture of a folder, as a whole and cut at many places: `check` is given its name, the whole and the rest.
fn cut_beginnings(folder: &str, mut check: impl FnMut(&str, &Rows, &Rows)) {
    let mut files: Vec<_> = std::fs::read_dir(format!("fixtures/{folder}"))
        .expect("fixtures")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "pcap"))
        .collect();
    files.sort();
    assert!(files.len() >= 5, "{folder}");
    for path in files {
        let file = std::fs::read(&path).expect("a fixture");
        let (whole, frames) = (analysed(&file), frames(&file));
        let name = format!("{}", path.display());
        for cut in 1..=CUTS.min(frames.len() - 1) {
            let from = cut * frames.len() / (CUTS.min(frames.len() - 1) + 1);
            let rest = [&file[..24], &frames[from..].concat()].concat();
            check(&format!("{name} from frame {from}"), &whole, &analysed(&rest));
        }
    }
}

#[test]
fn rows_of_the_rest_are_rows_of_the_whole() {
    let mut complete = 0;
    for folder in ["http", "pcap", "mysql", "detection"] {
        cut_beginnings(folder, |name, whole, rest| {
            for (key, row) in &rest.facts {
                let Some(same) = whole.facts.get(key) else {
                    // Joined behind the frame header of a compressed command: it begins there, and cannot be measured.
                    let of_same = |(_, _, client): &(_, _, Endpoint), same: &Row| {
                        (client, &same.asked, &same.statement) == (&key.2, &row.asked, &row.statement)
                    };
                    let is_part = whole.facts.iter().any(|(key, same)| of_same(key, same));
                    assert!(
                        is_part && !row.is_complete,
                        "{name}: {key:?} {row:?} is a row of nothing"
                    );
                    continue;
                };
                assert_eq!(row.asked, same.asked, "{name}: {key:?}");
                assert!(
                    row.statement.is_empty() || row.statement == same.statement,
                    "{name}: {row:?} {same:?}"
                );
                if row.is_complete {
                    assert_eq!(row.answered, same.answered, "{name}: {key:?}");
                    complete += 1;
                }
            }
        });
    }
    assert!(complete > 1000, "{complete} rows were compared");
}

#[test]
fn what_is_only_named_keeps_its_name_or_has_none() {
    let mut named = BTreeMap::new();
    cut_beginnings("detection", |name, whole, rest| {
        let expected = whole.protocols.first().expect("it has a name as a whole");
        for protocol in &rest.protocols {
            assert_eq!(protocol, expected, "{name}");
            *named.entry(expected.clone()).or_insert(0) += 1;
        }
    });
    for protocol in ["amqp", "http2", "mongodb", "postgresql", "redis", "tls"] {
        assert!(
            named.get(protocol).is_some_and(|count| *count > 0),
            "{protocol}: {named:?}"
        );
    }
}
