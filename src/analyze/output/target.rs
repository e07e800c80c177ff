//! Output targets: standard output, a file, or a folder of files.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::Path;

use anyhow::{Context, bail};

use crate::create::{self, MadeFolders, Named, Pending};
use crate::stdout::stdout;

/// Where the bytes of a result are written.
pub struct Target {
    to: Box<dyn Write + Send>,
    is_terminal: bool,
}

impl Target {
    /// A target that is no terminal.
    pub fn new(to: impl Write + Send + 'static) -> Target {
        Target {
            to: Box::new(to),
            is_terminal: false,
        }
    }

    /// Whether it is a terminal.
    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Bytes that are written at once.
const BUFFER: usize = 1 << 16;

/// A file, which gets its name when it is published.
pub fn create(path: &Path, force: bool) -> anyhow::Result<(Target, Pending)> {
    let (file, pending) = create::create(path, force)?;
    let target = Target {
        is_terminal: file.is_terminal(),
        to: Box::new(BufWriter::with_capacity(BUFFER, Named::new(file, path))),
    };
    Ok((target, pending))
}

/// A folder for one file of each table; made if it is not there, and removed again if nothing is written.
pub fn directory(path: &Path) -> anyhow::Result<MadeFolders> {
    if path.exists() && !path.is_dir() {
        bail!(
            "{} is not a folder; a file holds one table, so name it with --table",
            path.display()
        );
    }
    MadeFolders::make(path).with_context(|| format!("cannot create {}", path.display()))
}

/// Standard output, buffered.
pub fn standard_output() -> Target {
    Target {
        is_terminal: io::stdout().is_terminal(),
        to: Box::new(BufWriter::with_capacity(BUFFER, stdout())),
    }
}
