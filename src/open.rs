//! Opens what the command line names to be read: a file, a pipe, or standard input (`-`).

use std::fs::File;
#[cfg(unix)]
use std::fs::FileType;
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
#[cfg(unix)]
use std::time::{Duration, Instant};

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
        // A device may have no end.
        ensure!(is_pipe(kind), "{} is neither a file nor a pipe", name(path));
    }
    Ok(Input::Stream(Box::new(file)))
}

/// How long a pipe may give nothing where it is read whole.
#[cfg(unix)]
const PATIENCE: Duration = Duration::from_secs(30);

/// All bytes of a file or pipe that the command line or a configuration names: a list of pods, a certificate, a token. An
/// error where there are more than `most`, where it is a folder or a device, and where a pipe gives nothing for half a
/// minute: opening one without a writer would wait for ever (fifo(7)).
#[cfg(unix)]
pub fn read_whole(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    read_within(path, most, PATIENCE)
}

/// As [`read_whole`], with the error in words.
#[cfg(unix)]
pub fn read_named(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    read_whole(path, most).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

#[cfg(unix)]
fn read_within(path: &Path, most: u64, patience: Duration) -> io::Result<Vec<u8>> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let kind = file.metadata()?.file_type();
    let is_pipe = is_pipe(kind);
    if !is_pipe && !kind.is_file() {
        return Err(io::Error::other("it is neither a file nor a pipe"));
    }
    let mut bytes = Vec::new();
    let mut since = Instant::now();
    loop {
        let before = bytes.len();
        let room = (most + 1).saturating_sub(before as u64);
        match (&file).take(room).read_to_end(&mut bytes) {
            // A pipe that nobody has opened for writing ends at once.
            Ok(_) if !is_pipe || !bytes.is_empty() => break,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        if bytes.len() > before {
            since = Instant::now();
        }
        if since.elapsed() >= patience {
            let why = format!("nobody wrote to this pipe for {} s", patience.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, why));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    match bytes.len() as u64 > most {
        true => Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it has more than {}", crate::human::bytes(most)),
        )),
        false => Ok(bytes),
    }
}

#[cfg(unix)]
fn is_pipe(kind: FileType) -> bool {
    use std::os::unix::fs::FileTypeExt;
    kind.is_fifo() || kind.is_socket()
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

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_whole_has_an_end_a_limit_and_a_writer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let read = |path: &Path, most| read_within(path, most, Duration::ZERO);
        std::fs::write(&path, b"12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        assert_eq!(read(&path, 4).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        std::fs::write(&path, b"").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"");
        for other in [Path::new("/dev/zero"), folder.path()] {
            assert!(read(other, 5).is_err(), "{}", other.display());
        }
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        assert_eq!(read(&pipe, 5).unwrap_err().kind(), io::ErrorKind::TimedOut);
        let writer = {
            let pipe = pipe.clone();
            std::thread::spawn(move || std::fs::write(pipe, b"abc").unwrap())
        };
        assert_eq!(read_within(&pipe, 5, Duration::from_secs(60)).unwrap(), b"abc");
        writer.join().unwrap();
    }
}
