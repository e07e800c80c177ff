//! Standard output of this process. Its reader may have seen enough and close it, which is no failure; a broken pipe
//! anywhere else is one. Everything that prints results writes here, so that the two can be distinguished.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// Set for good by the first write that found nobody reading. Not kept in the error: polars passes on only its text.
static READER_IS_GONE: AtomicBool = AtomicBool::new(false);

/// Standard output; writes are as those of [`io::Stdout`].
#[derive(Debug)]
pub struct StandardOutput(io::Stdout);

/// Standard output.
pub fn stdout() -> StandardOutput {
    StandardOutput(io::stdout())
}

impl Write for StandardOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).inspect_err(note)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().inspect_err(note)
    }
}

fn note(error: &io::Error) {
    if error.kind() == io::ErrorKind::BrokenPipe {
        READER_IS_GONE.store(true, Ordering::Relaxed);
    }
}

/// Whether this error means that nobody reads our standard output any more.
pub fn reader_is_gone(error: &anyhow::Error) -> bool {
    READER_IS_GONE.load(Ordering::Relaxed)
        && error.chain().any(|cause| {
            let io = cause.downcast_ref::<io::Error>();
            io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
                || cause.to_string().contains("Broken pipe (os error 32)")
        })
}

/// Prints all of it, as far as somebody reads it.
pub fn print(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = stdout();
    let printed = out.write_all(bytes).and_then(|()| out.flush());
    unless_unread(printed.map_err(anyhow::Error::from))
}

/// The result, but for the error that nobody reads our standard output any more.
pub fn unless_unread(result: anyhow::Result<()>) -> anyhow::Result<()> {
    match result {
        Err(error) if reader_is_gone(&error) => Ok(()),
        result => result,
    }
}
