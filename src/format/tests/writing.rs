//! The writer stopped after every byte.

use std::io::{self, Write};

use super::sample;
use crate::format::layout::RAW_LIMIT;
use crate::format::record::Data;
use crate::format::{BlockBuilder, Class, Reader, Record, Writer};

/// A disk that refuses one range of writes: what would pass byte `full_at` fails, `failures` times; then there is room again.
struct Disk {
    bytes: Vec<u8>,
    full_at: usize,
    failures: usize,
}

impl Write for Disk {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.failures > 0 && self.bytes.len() + buf.len() > self.full_at {
            let room = self.full_at.saturating_sub(self.bytes.len());
            if room == 0 {
                self.failures -= 1;
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.bytes.extend_from_slice(&buf[..room]);
            return Ok(room);
        }
        self.bytes.extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_writer_stopped_after_any_byte_leaves_a_readable_file() {
    let file = sample::file();
    for stop in 0..file.len() {
        let mut disk = Disk {
            bytes: Vec::new(),
            full_at: stop,
            failures: usize::MAX,
        };
        let written = write_sample(&mut disk);
        assert_eq!(disk.bytes, file[..stop]);
        assert!(written < 4 || stop >= sample::crashed_file().len());
    }
}

#[test]
fn a_block_that_failed_does_not_hide_the_later_ones() {
    let file = sample::file();
    let ranges = sample::ranges(&file);
    let whole = sample::read(&file).expect("a good file");
    for stop in ranges[0].start..ranges[3].end {
        let mut disk = Disk {
            bytes: Vec::new(),
            full_at: stop,
            failures: 1,
        };
        assert_eq!(write_sample(&mut disk), 3, "stopped at {stop}");
        let lost = ranges
            .iter()
            .position(|range| stop < range.end)
            .expect("inside a block");
        let mut expected = whole.clone();
        expected.remove(lost);
        // With the index, and without it.
        let end = disk.bytes.len();
        for len in [end, end - 1] {
            let read = sample::read(&disk.bytes[..len]).expect("the header is good");
            // A part of the last block may still look like a block; its checksum decides.
            let read: Vec<_> = read.into_iter().filter(Option::is_some).collect();
            assert_eq!(read, expected, "stopped at {stop}");
        }
        let reader = Reader::open(&disk.bytes).expect("the header is good");
        assert!(reader.clean_end());
        assert_eq!(reader.damage().len(), usize::from(stop > ranges[lost].start));
        let numbers: Vec<_> = reader.blocks().iter().map(|block| block.number() as usize).collect();
        assert_eq!(numbers, (0..4).filter(|&number| number != lost).collect::<Vec<_>>());
    }
}

/// Writes the sample; returns how many blocks the writer accepted.
fn write_sample(disk: &mut Disk) -> usize {
    let Ok(mut writer) = Writer::new(disk, &sample::header(), 3) else {
        return 0;
    };
    let mut written = 0;
    for (class, records) in sample::blocks() {
        let mut builder = BlockBuilder::new(class);
        records.iter().for_each(|record| builder.push(record));
        written += usize::from(writer.write(&builder.take()).is_ok());
    }
    let _ = writer.finish();
    written
}

#[test]
fn a_block_beyond_the_limit_is_refused_and_the_writer_goes_on() {
    let mut builder = BlockBuilder::new(Class::Events);
    let payload = vec![b'x'; 100_000];
    let Record::Data(data) = sample::events()[2] else {
        panic!("a data record")
    };
    while builder.len() <= RAW_LIMIT {
        builder.push(&Record::Data(Data {
            payload: &payload,
            len: 100_000,
            ..data
        }));
    }
    let mut writer = Writer::new(Vec::new(), &sample::header(), 3).expect("memory");
    let refused = writer.write(&builder.take()).map_err(|error| error.kind());
    assert_eq!(refused, Err(io::ErrorKind::InvalidInput));
    builder.push(&Record::Data(data));
    assert!(writer.write(&builder.take()).is_ok_and(|bytes| bytes > 360));
    let file = writer.finish().expect("memory").0;
    assert_eq!(Reader::open(&file).map(|reader| reader.blocks().len()), Ok(1));
}

#[test]
fn an_empty_block_is_not_written() {
    let mut writer = Writer::new(Vec::new(), &sample::header(), 3).expect("memory");
    let before = writer.written();
    assert_eq!(writer.write(&BlockBuilder::new(Class::State).take()).ok(), Some(0));
    assert_eq!(writer.written(), before);
}

#[test]
fn the_level_can_change_between_blocks() {
    let mut writer = Writer::new(Vec::new(), &sample::header(), 3).expect("memory");
    for level in [1, 19, -5] {
        writer.set_level(level).expect("a zstd level");
        let mut builder = BlockBuilder::new(Class::Events);
        sample::events().iter().for_each(|record| builder.push(record));
        writer.write(&builder.take()).expect("memory");
    }
    let (file, summary) = writer.finish().expect("memory");
    assert_eq!(
        (summary.blocks, summary.records, summary.bytes),
        (3, 21, file.len() as u64)
    );
    let read = sample::read(&file).expect("a good file");
    assert!(read.iter().all(|block| *block == read[0] && block.is_some()));
}

#[test]
fn a_header_with_a_very_long_command_line_is_shortened() {
    let mut header = sample::header();
    header.command_line = "ä".repeat(2 << 20);
    let file = Writer::new(Vec::new(), &header, 3)
        .and_then(Writer::finish)
        .expect("memory")
        .0;
    let reader = Reader::open(&file).expect("a good file");
    assert!(header.command_line.starts_with(&reader.header().command_line));
    assert_eq!(reader.header().command_line.len(), 1 << 16);
}
