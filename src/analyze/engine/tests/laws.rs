//! What must hold for every capture, shown on those of real programs: how it is fed, and by how many hosts it was
//! recorded, makes no difference.

use super::*;
use crate::analyze::engine::split::record_at;
use crate::analyze::import::Import;
use crate::format::Reader;

/// Blocks of a capture file, in memory.
pub(super) fn stored(path: &str) -> (Header, Vec<RawBlock>) {
    let bytes = std::fs::read(path).expect("fixture");
    let reader = Reader::open(&bytes).expect("a capture");
    let blocks = reader.blocks().iter().map(|stored| {
        let mut block = BlockBuilder::new(Class::Events).take();
        stored.inflate(&mut block.bytes).expect("a whole block");
        block
    });
    (reader.header().clone(), blocks.collect())
}

/// The same records in blocks of `size` records.
pub(super) fn split(blocks: &[RawBlock], size: usize) -> Vec<RawBlock> {
    let mut small = Vec::new();
    for block in blocks {
        let records: Vec<Record<'_>> = block::records(&block.bytes).flatten().collect();
        for some in records.chunks(size) {
            let mut builder = BlockBuilder::new(Class::Events);
            some.iter().for_each(|record| builder.push(record));
            small.push(builder.take());
        }
    }
    small
}

/// The rows of these blocks, so many of them fed at once. With each block the number of its host.
fn fed(headers: &[Header], blocks: &[(usize, &RawBlock)], at_once: usize) -> Vec<String> {
    let mut engine = Engine::new(|_| Texts::default());
    let hosts: Vec<u16> = headers.iter().map(|header| engine.host(header)).collect();
    let blocks: Vec<Block<'_>> = blocks
        .iter()
        .map(|(host, block)| Block {
            source: Source::Raw(block),
            host: hosts[*host],
            file: *host,
        })
        .collect();
    engine.learn_names(&blocks);
    blocks.chunks(at_once).for_each(|batch| engine.feed(batch));
    let (sinks, _) = engine.finish(&[]);
    let mut all: Vec<_> = sinks.into_iter().flat_map(|sink| sink.0).collect();
    all.sort();
    all.into_iter().map(|(.., text)| text).collect()
}

#[test]
fn fed_block_by_block_or_at_once_a_capture_gives_the_same_rows() {
    for name in [
        "format/v1",
        "nginx-curl",
        "nginx-wrk",
        "python-requests",
        "sysbench-prepared",
        "tiny",
        "not-http",
    ] {
        let (header, blocks) = stored(&format!("fixtures/{name}.mdf"));
        for size in [usize::MAX, 40, 7] {
            let blocks = split(&blocks, size);
            let blocks: Vec<_> = blocks.iter().map(|block| (0, block)).collect();
            let headers = std::slice::from_ref(&header);
            let expected = fed(headers, &blocks, blocks.len());
            assert!(!expected.is_empty());
            for at_once in [1, 2, 5] {
                assert_eq!(
                    fed(headers, &blocks, at_once),
                    expected,
                    "{name}: {at_once} at once, {size} records each"
                );
            }
        }
    }
}

#[test]
fn fed_block_by_block_or_at_once_an_import_gives_the_same_rows() {
    for name in [
        "http/nginx",
        "http/node",
        "pcap/http-zero-length-bodies-with-drops",
        "mysql/sysbench_auto",
    ] {
        let bytes = std::fs::read(format!("fixtures/{name}.pcap")).expect("fixture");
        let mut blocks = Vec::new();
        let import = Import::open(&bytes[..]).expect("a packet capture");
        let mut take = |block| {
            blocks.push(block);
            Ok(())
        };
        import.blocks(&mut take).expect("memory can be read");
        let blocks = split(&blocks, 10);
        let blocks: Vec<_> = blocks.iter().map(|block| (0, block)).collect();
        let headers = [super::header()];
        assert_eq!(
            fed(&headers, &blocks, 1),
            fed(&headers, &blocks, blocks.len()),
            "{name}"
        );
    }
}

/// What the client's host recorded in one file and the server's in another: the rows are those of one file with both.
#[test]
fn two_hosts_with_an_end_each_give_the_rows_of_one_with_both() {
    for name in ["nginx-curl", "python-requests"] {
        let (header, blocks) = stored(&format!("fixtures/{name}.mdf"));
        let whole: Vec<_> = blocks.iter().map(|block| (0, block)).collect();
        let expected = fed(std::slice::from_ref(&header), &whole, whole.len());
        let of_server: std::collections::HashSet<u64> = blocks
            .iter()
            .flat_map(|block| block::records(&block.bytes).flatten())
            .filter_map(|record| match record {
                Record::Socket(socket) if socket.role == Role::Server => Some(socket.id),
                _ => None,
            })
            .collect();
        assert!(!of_server.is_empty());
        let mut halves = Vec::new();
        for host in 0..2 {
            for block in &blocks {
                let mut builder = BlockBuilder::new(Class::Events);
                for frame in block::frames(&block.bytes).flatten() {
                    let is_server = frame.socket_id().map(|id| of_server.contains(&id));
                    if is_server.is_none_or(|is_server| is_server == (host == 1))
                        && let Some(record) = record_at(&block.bytes, frame.at as u32)
                    {
                        builder.push(&record);
                    }
                }
                halves.push((host, builder.take()));
            }
        }
        let halves: Vec<_> = halves.iter().map(|(host, block)| (*host, block)).collect();
        let other = Header {
            recording: !header.recording,
            ..header.clone()
        };
        let exchanges = |rows: &[String]| -> Vec<String> {
            let of_http = |row: &&String| !row.starts_with("connection");
            rows.iter().filter(of_http).cloned().collect()
        };
        let found = fed(&[header, other], &halves, halves.len());
        assert!(!exchanges(&expected).is_empty());
        assert_eq!(exchanges(&found), exchanges(&expected), "{name}");
    }
}
