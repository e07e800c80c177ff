//! Opens what the command line names to be read: a file, a pipe, or standard input (`-`).

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail, ensure};

/// The name of standard input.
const STANDARD_INPUT: &str = "-";

/// What can be read.
pub enum Input {
    /// A regular file.
    File(File),
    /// A pipe or a socket, which can be read once.
    Stream(Box<dyn Read + Send>),
}

impl Input {
    /// Its bytes, from its beginning, once.
    pub fn into_reader(self) -> Box<dyn Read + Send> {
        match self {
            Input::File(file) => Box::new(file),
            Input::Stream(stream) => stream,
        }
    }
}

/// Opens a file, a pipe or standard input. A named pipe is waited for until somebody writes to it.
pub fn open(path: &Path) -> Result<Input> {
    let file = match is_standard_input(path) {
        true => standard_input()?,
        false => File::open(path).with_context(|| format!("cannot open {}", path.display()))?,
    };
    let kind = file
        .metadata()
        .with_context(|| format!("cannot read {}", name(path)))?
        .file_type();
    if kind.is_file() {
        return Ok(Input::File(file));
    }
    ensure!(!kind.is_dir(), "{} is a folder", name(path));
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        // A device may have no end.
        ensure!(
            kind.is_fifo() || kind.is_socket(),
            "{} is neither a file nor a pipe",
            name(path)
        );
    }
    Ok(Input::Stream(Box::new(file)))
}

/// What messages call it.
pub fn name(path: &Path) -> String {
    match is_standard_input(path) {
        true => "standard input".to_string(),
        false => path.display().to_string(),
    }
}

fn is_standard_input(path: &Path) -> bool {
    path == Path::new(STANDARD_INPUT)
}

/// A handle of its own, whose type can be asked for.
fn standard_input() -> Result<File> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        bail!("standard input is named twice, and can be read once");
    }
    #[cfg(unix)]
    let handle = std::os::fd::AsFd::as_fd(&io::stdin()).try_clone_to_owned();
    #[cfg(windows)]
    let handle = std::os::windows::io::AsHandle::as_handle(&io::stdin()).try_clone_to_owned();
    Ok(File::from(handle.context("cannot read standard input")?))
}
