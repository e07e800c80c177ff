//! Where results go: standard output, a file, or a folder of files. Nothing is overwritten unasked. A file has its name from
//! the start and is written in place, because it may be a pipe or a device; what a run that failed leaves there is a part.

use std::fs::{self, OpenOptions};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// Where the bytes of a result go.
pub struct Target {
    to: Box<dyn Write + Send>,
    is_terminal: bool,
}

impl Target {
    /// Bytes for programs.
    pub fn new(to: impl Write + Send + 'static) -> Target {
        Target {
            to: Box::new(to),
            is_terminal: false,
        }
    }

    /// Whether people read it as it is written.
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

/// Makes a file that did not exist. Captures hold people's payload, and so does what is made of them: mode 0600.
pub fn create(path: &Path, force: bool) -> anyhow::Result<Target> {
    let mut options = OpenOptions::new();
    options.write(true);
    match force {
        true => options.create(true).truncate(true),
        false => options.create_new(true),
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    match options.open(path) {
        Ok(file) => Ok(Target {
            is_terminal: file.is_terminal(),
            to: Box::new(BufWriter::with_capacity(BUFFER, file)),
        }),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            bail!("{} exists; --force overwrites it", path.display())
        }
        Err(error) => Err(error).with_context(|| format!("cannot create {}", path.display())),
    }
}

/// A folder for one file of each table; made if it is not there.
pub fn directory(path: &Path) -> anyhow::Result<PathBuf> {
    if path.exists() && !path.is_dir() {
        bail!(
            "{} is not a folder; a file holds one table, so name it with --table",
            path.display()
        );
    }
    fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))?;
    Ok(path.to_path_buf())
}

/// Standard output, buffered.
pub fn standard_output() -> Target {
    Target {
        is_terminal: io::stdout().is_terminal(),
        to: Box::new(BufWriter::with_capacity(BUFFER, io::stdout())),
    }
}

/// Refuses early what [`create`] would refuse.
pub fn check_free(path: &Path, force: bool) -> anyhow::Result<()> {
    if !force && path.exists() {
        bail!("{} exists; --force overwrites it", path.display());
    }
    Ok(())
}
