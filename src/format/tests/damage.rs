//! What survives damage: everything outside the touched block.

use proptest::prelude::*;

use super::sample;
use crate::format::{Reader, What};

/// Whether all blocks but those in `except` are read whole and in order.
fn others_survive(read: &[Option<Vec<String>>], whole: &[Option<Vec<String>>], except: &[usize]) -> bool {
    let mut found = read.iter().flatten();
    whole
        .iter()
        .enumerate()
        .filter(|(at, _)| !except.contains(at))
        .all(|(_, block)| found.any(|f| Some(f) == block.as_ref()))
}

#[test]
fn a_file_cut_anywhere_is_read_up_to_the_cut() {
    let file = sample::file();
    let whole = sample::read(&file).expect("a good file");
    let ranges = sample::ranges(&file);
    for cut in 0..file.len() {
        let Ok(read) = sample::read(&file[..cut]) else {
            assert!(cut < ranges[0].start, "cut at {cut}");
            continue;
        };
        let expected = ranges.iter().filter(|range| range.end <= cut).count();
        assert_eq!(read, whole[..expected], "cut at {cut}");
        let reader = Reader::open(&file[..cut]).expect("opened before");
        assert!(!reader.clean_end() && !reader.damage().is_empty(), "cut at {cut}");
        let cut_block = ranges.iter().find(|range| range.start + 360 <= cut && cut < range.end);
        let reported = reader.damage().iter().find(|damage| damage.what == What::CutBlock);
        assert_eq!(
            reported.map(|d| d.offset as usize),
            cut_block.map(|range| range.start),
            "cut at {cut}"
        );
    }
}

#[test]
fn a_flipped_byte_costs_at_most_its_block() {
    for file in [sample::file(), sample::crashed_file()] {
        let whole = sample::read(&file).expect("a good file");
        let ranges = sample::ranges(&file);
        let closed = Reader::open(&file).expect("a good file").clean_end();
        for at in 0..file.len() {
            for mask in [0x01, 0x80, 0xff] {
                let mut file = file.clone();
                file[at] ^= mask;
                let Ok(read) = sample::read(&file) else {
                    assert!(
                        !closed && at < ranges[0].start,
                        "byte {at}: only a header without a copy may fail"
                    );
                    continue;
                };
                let touched: Vec<_> = (0..ranges.len()).filter(|&block| ranges[block].contains(&at)).collect();
                assert!(
                    others_survive(&read, &whole, &touched),
                    "byte {at} ^ {mask:02x}: {read:?}"
                );
                assert!(
                    read.iter().flatten().all(|block| whole.contains(&Some(block.clone()))),
                    "byte {at}: invented"
                );
            }
        }
    }
}

#[test]
fn a_flipped_byte_of_index_or_trailer_loses_nothing_and_is_told() {
    let file = sample::file();
    let start = sample::crashed_file().len();
    for at in start..file.len() {
        let mut file = file.clone();
        file[at] ^= 0x10;
        let reader = Reader::open(&file).expect("the front is good");
        assert_eq!(reader.blocks().len(), 4, "byte {at}");
        assert!(!reader.clean_end() && !reader.damage().is_empty(), "byte {at}");
    }
}

#[test]
fn a_damaged_header_is_replaced_by_its_copy() {
    let mut file = sample::file();
    file[25] ^= 1;
    let reader = Reader::open(&file).expect("the index has a copy");
    assert_eq!(reader.header(), &sample::header());
    assert_eq!(
        reader.damage().iter().map(|d| (d.what, d.loses())).collect::<Vec<_>>(),
        [(What::Header, false)]
    );
}

#[test]
fn bytes_cut_out_of_a_block_cost_that_block() {
    for file in [sample::file(), sample::crashed_file()] {
        let whole = sample::read(&file).expect("a good file");
        let ranges = sample::ranges(&file);
        for (block, range) in ranges.iter().enumerate() {
            for at in [range.start + 4, range.start + 200, range.start + 370] {
                let mut file = file.clone();
                file.drain(at..at + 3);
                let read = sample::read(&file).expect("the header is good");
                assert!(others_survive(&read, &whole, &[block]), "block {block}, byte {at}");
                let reader = Reader::open(&file).expect("opened before");
                assert!(reader.damage().iter().any(|d| d.loses()), "block {block}, byte {at}");
            }
        }
    }
}

#[test]
fn a_second_file_glued_to_the_end_is_not_mixed_in() {
    let mut file = sample::file();
    let len = file.len();
    let mut other = sample::header();
    other.recording += 1;
    let second = crate::format::Writer::new(Vec::new(), &other, 3).and_then(|mut writer| {
        let mut builder = crate::format::BlockBuilder::new(crate::format::Class::Events);
        sample::events().iter().for_each(|record| builder.push(record));
        writer.write(&builder.take())?;
        Ok(writer.finish()?.0)
    });
    let second = second.expect("memory");
    file.extend_from_slice(&second[..second.len() - 1]);
    let reader = Reader::open(&file).expect("the first file is good");
    assert_eq!(reader.blocks().len(), 4);
    let trailing = reader.damage().iter().find(|damage| damage.what == What::Trailing);
    assert_eq!(trailing.map(|damage| damage.offset as usize), Some(len));
}

proptest! {
    #[test]
    fn many_damages_never_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        cut in any::<prop::sample::Index>(),
        closed in any::<bool>(),
    ) {
        let mut file = if closed { sample::file() } else { sample::crashed_file() };
        for (at, byte) in flips {
            let at = at.index(file.len());
            file[at] = byte;
        }
        let _ = sample::read(&file);
        let cut = cut.index(file.len());
        let _ = sample::read(&file[..cut]);
        let _ = sample::read(&file[cut..]);
    }

    #[test]
    fn ranges_moved_about_never_panic(from in any::<prop::sample::Index>(), len in 0usize..2000, to in any::<prop::sample::Index>()) {
        let mut file = sample::file();
        let from = from.index(file.len());
        let moved: Vec<u8> = file.drain(from..(from + len).min(file.len())).collect();
        if !file.is_empty() {
            let to = to.index(file.len());
            file.splice(to..to, moved);
        }
        let _ = sample::read(&file);
    }
}
