//! The containers: pcap and pcapng in all their forms, compressed, cut, damaged.

use std::io::Write;

use super::build::*;
use crate::analyze::import::{Error, import, is_packet_capture};
use crate::format::Class;
use crate::format::record::{About, LossReason};

fn conversation() -> Dialog {
    let mut dialog = Dialog::opened();
    dialog
        .send(0, b"GET / HTTP/1.1\r\n\r\n")
        .send(1, b"HTTP/1.1 204 No Content\r\n\r\n")
        .fin(0)
        .fin(1);
    dialog
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

#[test]
fn pcap_reads_the_same_in_both_byte_orders_and_both_resolutions() {
    let dialog = conversation();
    let expected = dialog.run();
    assert_eq!(expected.client(), "GET / HTTP/1.1\r\n\r\n");
    for (nano, big) in [(false, false), (false, true), (true, true)] {
        assert_eq!(
            Run::of(&pcap(ETHERNET, &dialog.frames, nano, big)),
            expected,
            "nano {nano} big {big}"
        );
    }
}

#[test]
fn nanoseconds_are_kept() {
    let mut dialog = conversation();
    dialog.frames[0].time += 7;
    assert_eq!(dialog.run().sockets[0].time, START + 7);
}

#[test]
fn the_upper_bits_of_the_link_type_are_not_part_of_it() {
    let mut file = conversation().file();
    file[23] = 0x14; // a frame check sequence of 2 bytes
    assert_eq!(Run::of(&file).client(), conversation().run().client());
}

#[test]
fn compressed_files_read_as_their_content() {
    let file = conversation().file();
    let expected = Run::of(&file);
    let packed = [gzip(&file), zstd::encode_all(&file[..], 3).expect("memory")];
    for packed in packed {
        assert!(is_packet_capture(&packed));
        assert_eq!(Run::of(&packed), expected);
    }
    // gzip members one after the other are one file.
    let (front, back) = file.split_at(100);
    assert_eq!(Run::of(&[gzip(front), gzip(back)].concat()), expected);
}

#[test]
fn captures_are_known_by_their_magic() {
    for (nano, big) in [(false, false), (false, true), (true, false), (true, true)] {
        assert!(is_packet_capture(&pcap(1, &[], nano, big)));
    }
    assert!(is_packet_capture(&Pcapng::new(true).bytes));
    assert!(is_packet_capture(&Pcapng::new(false).bytes));
    for other in [
        &b""[..],
        b"\x0a\x0d\x0d\x0a",
        b"#!/bin/sh",
        b"\x1f\x8b\x08\x00",
        &gzip(b"text text text text"),
    ] {
        assert!(!is_packet_capture(other), "{other:?}");
    }
}

#[test]
fn something_else_is_refused_with_its_first_bytes() {
    let error = Run::checked(b"PK\x03\x04").expect_err("not a capture");
    assert_eq!(
        error.to_string(),
        "not a packet capture (pcap or pcapng): it begins with 50 4b 03 04"
    );
    assert!(matches!(Run::checked(b""), Err(Error::NotACapture { .. })));
}

#[test]
fn pcapng_reads_in_both_byte_orders() {
    let dialog = conversation();
    let expected = dialog.run();
    for big in [false, true] {
        let mut file = Pcapng::new(big);
        let options = file.option(9, &[9]);
        file.interface(ETHERNET, &options);
        for frame in &dialog.frames {
            file.packet(0, frame.time, &frame.bytes, &[]);
        }
        let mut run = Run::of(&file.bytes);
        assert_eq!(run.summary.snaplen, 262_144);
        run.summary.snaplen = expected.summary.snaplen;
        assert_eq!(run, expected, "big {big}");
    }
}

#[test]
fn each_interface_has_its_own_time_unit_offset_and_link_type() {
    let dialog = conversation();
    let mut file = Pcapng::new(false);
    let seconds = START / 1_000_000_000;
    let options = [
        (ETHERNET, Vec::new()),                           // microseconds unless told otherwise
        (ETHERNET, file.option(9, &[3])),                 // milliseconds
        (ETHERNET, file.option(9, &[0x80 | 10])),         // 1/1024 s
        (101, file.option(9, &[12])),                     // picoseconds; raw IP
        (ETHERNET, file.option(14, &file.long(seconds))), // seconds to add
    ];
    for (link, options) in &options {
        file.interface(*link, options);
    }
    let whole = |index: usize| &dialog.frames[index].bytes;
    file.packet(0, seconds * 1_000_000, whole(0), &[]);
    file.packet(1, seconds * 1000 + 1, whole(1), &[]);
    file.packet(2, seconds * 1024 + 512, whole(2), &[]);
    // A picosecond clock that fits into 64 bits is near 1970.
    file.packet(3, 5_000_000_000_123, &whole(3)[14..], &[]);
    file.packet(4, 750_000, whole(4), &[]);
    let run = Run::of(&file.bytes);
    assert_eq!(run.sockets[0].time, START);
    assert_eq!(run.connects[0].connect_ns, 500_000_000);
    assert_eq!(run.summary.first_time, 5_000_000_000);
    assert_eq!(run.summary.last_time, START + 750_000_000);
    assert_eq!(run.data[1].time, START + 750_000_000);
    assert_eq!(run.summary.remarks.not_understood(), 0);
}

#[test]
fn a_new_section_forgets_interfaces_and_may_turn_the_byte_order() {
    let dialog = conversation();
    let mut file = Pcapng::new(false);
    file.interface(101, &[]);
    file.packet(0, START / 1000, &dialog.frames[0].bytes[14..], &[]);
    file.section(true);
    file.packet(0, START / 1000, &dialog.frames[1].bytes, &[]);
    file.interface(ETHERNET, &[]);
    for frame in &dialog.frames[1..] {
        file.packet(0, frame.time / 1000, &frame.bytes, &[]);
    }
    let run = Run::of(&file.bytes);
    assert_eq!(run.remarks(), [(About::Interface.into(), 1)]);
    assert_eq!(run.client(), dialog.run().client());
    assert_eq!(run.connects.len(), 1);
}

#[test]
fn drop_counts_become_losses_once() {
    let dialog = conversation();
    for big in [false, true] {
        let mut file = Pcapng::new(big);
        file.interface(ETHERNET, &[]);
        let dropped = file.option(4, &file.long(3));
        file.packet(0, START / 1000, &dialog.frames[0].bytes, &dropped);
        let so_far = [
            file.option(4, &file.long(900)),
            file.option(5, &file.long(5)),
            file.option(7, &file.long(2)),
        ]
        .concat();
        file.statistics(0, START / 1000 + 1, &so_far);
        file.statistics(0, START / 1000 + 2, &so_far);
        let none = file.option(5, &file.long(u64::MAX));
        file.statistics(0, START / 1000 + 3, &none);
        let run = Run::of(&file.bytes);
        assert_eq!(run.summary.dropped, 7);
        assert!(run.losses.iter().all(|loss| loss.reason == LossReason::CaptureDropped));
        assert_eq!(run.losses.iter().map(|loss| loss.events).sum::<u64>(), 7);
    }
}

#[test]
fn simple_and_old_packet_blocks_are_read_and_other_blocks_passed_over() {
    let dialog = conversation();
    let mut file = Pcapng::new(false);
    // An interface name that is not UTF-8, and options without an end mark.
    let options = file.option(2, b"Ethernet \xe4\xff");
    file.interface(ETHERNET, &options);
    file.block(0x0000_000a, b"secrets of TLS")
        .block(0x8000_0001, &[0; 8])
        .block(4, &[1, 2, 3, 4]);
    file.packet(0, START / 1000, &dialog.frames[0].bytes, &[]);
    let mut simple = file.word(dialog.frames[1].bytes.len() as u32).to_vec();
    simple.extend(&dialog.frames[1].bytes);
    file.block(3, &simple);
    let frame = &dialog.frames[2];
    let mut old = [file.half(0), file.half(4)].concat();
    for value in [
        ((frame.time / 1000) >> 32) as u32,
        (frame.time / 1000) as u32,
        frame.original,
        frame.original,
    ] {
        old.extend(file.word(value));
    }
    old.extend(&frame.bytes);
    file.block(2, &old);
    let run = Run::of(&file.bytes);
    assert_eq!(run.summary.packets, 3);
    assert_eq!(run.summary.dropped, 4);
    assert_eq!(run.summary.remarks.not_understood(), 0);
    // The simple packet has no time of its own.
    assert_eq!(run.connects[0].connect_ns, frame.time - START);
}

#[test]
fn a_file_cut_anywhere_gives_what_was_before_the_cut() {
    let mut ng = Pcapng::new(false);
    ng.interface(ETHERNET, &[]);
    let dialog = conversation();
    for frame in &dialog.frames {
        ng.packet(0, frame.time / 1000, &frame.bytes, &[]);
    }
    for file in [dialog.file(), ng.bytes.clone(), gzip(&dialog.file())] {
        let whole = Run::of(&file);
        for end in 0..file.len() {
            let Ok(run) = Run::checked(&file[..end]) else {
                assert!(end < 60, "refused at {end}");
                continue;
            };
            assert!(run.summary.packets <= whole.summary.packets);
            assert!(whole.client().starts_with(&run.client()));
            // Only a cut between records cannot be seen.
            if run.summary.damage.is_none() {
                assert_eq!(run.remarks().len(), 0);
            } else {
                assert_eq!(run.remarks(), [(About::FileDamage.into(), 1)], "cut at {end}");
                assert!(run.losses.iter().any(|loss| loss.reason == LossReason::NotUnderstood));
            }
        }
    }
}

#[test]
fn impossible_lengths_end_the_reading_and_allocate_nothing() {
    let mut file = conversation().file();
    let third = 24 + 2 * (16 + 66);
    file[third + 8..third + 12].copy_from_slice(&u32::MAX.to_le_bytes());
    let run = Run::of(&file);
    assert_eq!(run.summary.packets, 2);
    assert_eq!(run.summary.damage.expect("damage").offset, third as u64);
    let mut ng = Pcapng::new(false);
    ng.bytes.extend([6, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0]);
    assert!(Run::of(&ng.bytes).summary.damage.is_some());
}

#[test]
fn a_block_that_contradicts_itself_costs_only_itself() {
    let dialog = conversation();
    let mut file = Pcapng::new(false);
    file.interface(ETHERNET, &[]);
    file.block(6, &[0; 20].map(|_: u8| 0xff)); // a captured length beyond the block
    file.block(6, &[0; 4]);
    for frame in &dialog.frames {
        file.packet(0, frame.time / 1000, &frame.bytes, &[]);
    }
    let run = Run::of(&file.bytes);
    assert_eq!(run.remarks(), [(About::Block.into(), 2)]);
    assert_eq!(run.client(), dialog.run().client());
}

#[test]
fn a_flipped_byte_never_panics() {
    let mut ng = Pcapng::new(true);
    ng.interface(ETHERNET, &[]);
    let dialog = conversation();
    for frame in &dialog.frames {
        ng.packet(0, frame.time / 1000, &frame.bytes, &[]);
    }
    for file in [
        dialog.file(),
        ng.bytes.clone(),
        zstd::encode_all(&dialog.file()[..], 1).expect("memory"),
    ] {
        for at in 0..file.len() {
            for flip in [1, 0x10, 0x80, 0xff] {
                let mut file = file.clone();
                file[at] ^= flip;
                let _ = Run::checked(&file);
            }
        }
    }
}

#[test]
fn blocks_have_state_before_the_events_that_refer_to_it() {
    let mut classes = Vec::new();
    let mut sockets = std::collections::HashSet::new();
    let file = conversation().file();
    import(&file[..], &mut |block| {
        classes.push(block.class);
        for record in block.records() {
            match record.expect("sound record") {
                crate::format::Record::Socket(r) => drop(sockets.insert(r.id)),
                crate::format::Record::Data(r) => assert!(sockets.contains(&r.id)),
                _ => {}
            }
        }
        Ok(())
    })
    .expect("a packet capture");
    assert_eq!(classes, [Class::State, Class::Events]);
}

#[test]
fn a_failing_sink_ends_the_import() {
    let file = conversation().file();
    let result = import(&file[..], &mut |_| Err(std::io::ErrorKind::StorageFull.into()));
    assert!(matches!(result, Err(Error::Store(_))));
}
