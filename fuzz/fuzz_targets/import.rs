//! Any bytes as a packet capture: a result or an error, never a panic, and no memory beyond the stated limits. What
//! comes out keeps the promises of an import: a socket before its data, each position once and in order.
//!
//! The same bytes are also taken as the frames of a file, so that the fuzzer need not find the containers first.
#![no_main]

use std::collections::HashMap;

use libfuzzer_sys::fuzz_target;
use masdeepflow::analyze::import::Import;
use masdeepflow::format::Record;

fuzz_target!(|bytes: &[u8]| {
    run(bytes);
    if let Some((link, frames)) = bytes.split_first() {
        run(&pcap(u32::from(*link), frames));
    }
});

fn run(file: &[u8]) {
    let Ok(started) = Import::open(file) else { return };
    let mut sockets = HashMap::new();
    let mut next: HashMap<(u64, u8), u32> = HashMap::new();
    let summary = started
        .records(&mut |record| match record {
            Record::Socket(r) => assert!(sockets.insert(r.id, false).is_none()),
            Record::Close(r) => assert_eq!(sockets.insert(r.id, true), Some(false)),
            Record::Data(r) => {
                assert_eq!(sockets.get(&r.id), Some(&false));
                assert!(r.payload.len() <= r.len as usize);
                let end = r.pos.wrapping_add(r.len);
                let expected = next.insert((r.id, r.direction.byte()), end).unwrap_or(r.pos);
                assert!(r.pos.wrapping_sub(expected) <= 1 << 31);
            }
            _ => {}
        })
        .expect("memory can be read");
    assert!(summary.segments <= summary.packets);
}

/// A file of frames, each led by its length in one byte.
fn pcap(link: u32, mut frames: &[u8]) -> Vec<u8> {
    let mut file = [
        0xa1b2_c3d4_u32.to_le_bytes(),
        [2, 0, 4, 0],
        [0; 4],
        [0; 4],
        [0, 0, 4, 0],
        link.to_le_bytes(),
    ]
    .concat();
    let mut time = 0u32;
    while let Some((len, rest)) = frames.split_first() {
        let (frame, after) = rest.split_at(usize::from(*len).min(rest.len()));
        time += 1000;
        for word in [
            time / 1_000_000,
            time % 1_000_000,
            frame.len() as u32,
            frame.len() as u32,
        ] {
            file.extend(word.to_le_bytes());
        }
        file.extend(frame);
        frames = after;
    }
    file
}
