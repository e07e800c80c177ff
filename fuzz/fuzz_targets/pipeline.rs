//! Any bytes through the whole analyzer, into rows and into lines: no panic, rows that keep their promises, and lines
//! that a terminal can be given.
//!
//! Bytes are a packet capture or a capture file if they begin like one. All others are taken as the records of a block,
//! because a fuzzer does not guess checksums.
#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use masdeepflow::analyze::engine::{Block, Engine, Source};
use masdeepflow::analyze::exchange::Message;
use masdeepflow::analyze::import::{Import, is_packet_capture};
use masdeepflow::analyze::live::Live;
use masdeepflow::analyze::row::{ConnectionRow, Frame, LossRow, ProcessRow, Sink};
use masdeepflow::format::Reader;
use masdeepflow::format::block::{BlockBuilder, Class, RawBlock};
use masdeepflow::format::header::Header;
use masdeepflow::format::layout::FILE_MAGIC;

static HEADER: LazyLock<Header> = LazyLock::new(|| {
    let good = Reader::open(include_bytes!("../../fixtures/format/v1.mdf")).expect("a good file");
    good.header().clone()
});

fuzz_target!(init: one_thread(), |bytes: &[u8]| {
    if bytes.starts_with(&FILE_MAGIC) {
        let Ok(reader) = Reader::open(bytes) else { return };
        let sources: Vec<Source<'_>> = reader.blocks().iter().map(|block| Source::Stored(*block)).collect();
        run(reader.header(), &sources);
    } else if is_packet_capture(bytes) {
        let blocks = imported(bytes);
        run(&HEADER, &blocks.iter().map(Source::Raw).collect::<Vec<_>>());
    } else {
        let mut block = BlockBuilder::new(Class::Events).take();
        block.bytes = bytes.to_vec();
        run(&HEADER, &[Source::Raw(&block)]);
    }
});

fn one_thread() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread();
    pool.build_global().expect("the first to build it");
}

fn run(header: &Header, sources: &[Source<'_>]) {
    // Names first, as from a file: then block by block or at once, the same rows.
    let one_by_one = rows(header, sources, true, 1);
    assert_eq!(rows(header, sources, true, sources.len()), one_by_one);
    // As while recording: what is translated is learnt too late for the connections that are followed already, so that
    // their number may differ.
    rows(header, sources, false, 1);

    let mut live = Live::new(header);
    let mut lines = live.lines(sources);
    lines.extend(live.finish().0);
    assert!(lines.iter().all(|line| !line.text.chars().any(char::is_control)));
}

/// The kind of rows that connections are; exchanges are of the kind of their protocol's place.
const CONNECTIONS: usize = usize::MAX;

/// How many rows there are of each kind when so many blocks are fed at once.
fn rows(header: &Header, sources: &[Source<'_>], names_first: bool, at_once: usize) -> BTreeMap<usize, u64> {
    let mut engine = Engine::new(|_| Rows::default());
    let host = engine.host(header);
    let blocks: Vec<Block<'_>> = sources.iter().map(|&source| Block { source, host, file: 0 }).collect();
    if names_first {
        engine.learn_names(&blocks);
    }
    blocks.chunks(at_once.max(1)).for_each(|batch| engine.feed(batch));
    let (sinks, _) = engine.finish(&[]);
    let mut all = BTreeMap::new();
    for (kind, rows) in sinks.into_iter().flat_map(|rows| rows.0) {
        *all.entry(kind).or_default() += rows;
    }
    all
}

fn imported(file: &[u8]) -> Vec<RawBlock> {
    let Ok(import) = Import::open(file) else {
        return Vec::new();
    };
    let mut blocks = Vec::new();
    let mut state = BlockBuilder::new(Class::State);
    let mut events = BlockBuilder::new(Class::Events);
    let _ = import.records(&mut |record| {
        if record.is_state() { &mut state } else { &mut events }.push(record);
        if events.len() > 4096 {
            blocks.extend([state.take(), events.take()]);
        }
    });
    blocks.extend([state.take(), events.take()]);
    blocks
}

/// How many rows of each kind were counted.
#[derive(Default)]
struct Rows(BTreeMap<usize, u64>);

impl Rows {
    fn check(&self, frame: &Frame<'_>) {
        for view in [frame.latency, frame.client_latency, frame.server_latency] {
            if let (Some(first), Some(last)) = (view.ttfb_ns, view.total_ns) {
                assert!(first <= last);
            }
        }
    }
}

impl Sink for Rows {
    fn exchange(&mut self, frame: &Frame<'_>, message: &dyn Message) {
        self.check(frame);
        *self.0.entry(message.protocol()).or_default() += 1;
    }
    fn connection(&mut self, _: &ConnectionRow<'_>) {
        *self.0.entry(CONNECTIONS).or_default() += 1;
    }
    fn process(&mut self, _: &ProcessRow<'_>) {}
    fn loss(&mut self, _: &LossRow<'_>) {}
}
