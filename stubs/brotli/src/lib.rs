//! Takes the place of the crate `brotli` in polars-parquet, which cannot be built without that codec: its feature is part
//! of polars' feature `parquet`. mdf writes Parquet with zstd and reads none, so the 0.9 MB of the codec are never run.
//! This has the two types that polars-parquet names, and each of their calls is an error that says so.

use std::io::{self, Read, Write};

fn unsupported() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "this program was built without brotli")
}

/// Refuses everything that is written to it.
pub struct CompressorWriter<W>(W);

impl<W: Write> CompressorWriter<W> {
    pub fn new(to: W, _buffer_size: usize, _quality: u32, _lg_window: u32) -> Self {
        CompressorWriter(to)
    }
}

impl<W: Write> Write for CompressorWriter<W> {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(unsupported())
    }

    fn flush(&mut self) -> io::Result<()> {
        // Also where nothing was to be compressed: the end of a brotli stream would be missing.
        Err(unsupported())
    }
}

/// Refuses to be read from.
pub struct Decompressor<R>(R);

impl<R: Read> Decompressor<R> {
    pub fn new(from: R, _buffer_size: usize) -> Self {
        Decompressor(from)
    }
}

impl<R: Read> Read for Decompressor<R> {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(unsupported())
    }
}
