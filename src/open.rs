//! Opens what the command line names to be read: a file, a pipe, or standard input (`-`).

use std::fs::{File, FileType, OpenOptions};
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

#[cfg(unix)]
use crate::{descriptor, message};

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

/// Opens a file, a pipe or standard input. Somebody has to write to a named pipe within half a minute: one that is left over in
/// a folder, and named with the files in it, would be waited for for ever (fifo(7)).
pub fn open(path: &Path) -> Result<Input> {
    let file = match is_standard_input(path) {
        true => standard_input()?,
        false => open_at_once(path).with_context(|| format!("cannot open {}", path.display()))?,
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
        if !is_standard_input(path) {
            // Others that were named with one that was given up had the same time to be written to.
            static HAS_GIVEN_UP: AtomicBool = AtomicBool::new(false);
            let patience = match HAS_GIVEN_UP.load(Ordering::Relaxed) {
                true => SILENCE,
                false => PATIENCE,
            };
            let stream = await_writer(path, file, patience).inspect_err(|error| {
                HAS_GIVEN_UP.fetch_or(error.kind() == io::ErrorKind::TimedOut, Ordering::Relaxed);
            });
            return Ok(Input::Stream(
                stream.with_context(|| format!("cannot read {}", name(path)))?,
            ));
        }
    }
    Ok(Input::Stream(Box::new(file)))
}

/// How long a pipe may give nothing where it is read whole, and be without a writer in any case.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a pipe is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// After this time a message names what is waited for.
#[cfg(unix)]
const SILENCE: Duration = Duration::from_secs(1);

/// Opens a file or a pipe without waiting for anybody; reads do not wait either.
fn open_at_once(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
    options.open(path)
}

/// What comes through a pipe that was opened at once; reads wait from now on. The first bytes are waited for: as long as
/// somebody has it open for writing, else for `patience`. A message names what it waits for.
#[cfg(unix)]
fn await_writer(path: &Path, mut pipe: File, patience: Duration) -> io::Result<Box<dyn Read + Send>> {
    // Who has one without a name (`<(…)`, `/dev/stdin`) had a writer for it.
    let mut had_writer = is_without_name(&pipe);
    let mut first = vec![0; 1 << 12];
    let (since, mut is_said) = (Instant::now(), false);
    let len = loop {
        match pipe.read(&mut first) {
            Ok(0) if !had_writer => {
                if since.elapsed() >= patience {
                    return Err(nobody_wrote(patience));
                }
            }
            Ok(len) => break len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => had_writer = true,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if !is_said && since.elapsed() >= SILENCE {
            is_said = true;
            message::say(&format!("waiting for somebody to write to the pipe {}", path.display()));
        }
        std::thread::sleep(LOOK);
    };
    first.truncate(len);
    descriptor::let_wait(&pipe)?;
    Ok(Box::new(io::Cursor::new(first).chain(pipe)))
}

/// Whether it is a pipe that pipe(2) made.
#[cfg(unix)]
fn is_without_name(pipe: &File) -> bool {
    use std::os::fd::AsRawFd;
    use std::os::unix::ffi::OsStrExt;
    let link = std::fs::read_link(format!("/proc/self/fd/{}", pipe.as_raw_fd()));
    link.is_ok_and(|target| target.as_os_str().as_bytes().starts_with(b"pipe:"))
}

fn nobody_wrote(patience: Duration) -> io::Error {
    let why = format!("nobody wrote to this pipe for {} s", patience.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, why)
}

/// All bytes of a file or pipe that the command line or a configuration names: a list of pods, a certificate, a token. An
/// error where there are more than `most`, where it is a folder or a device, and where a pipe gives nothing for half a
/// minute: opening one without a writer would wait for ever (fifo(7)).
pub fn read_whole(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    read_within(path, most, PATIENCE)
}

/// As [`read_whole`], with the error in words.
pub fn read_named(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    read_whole(path, most).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn read_within(path: &Path, most: u64, patience: Duration) -> io::Result<Vec<u8>> {
    let file = open_at_once(path)?;
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
            return Err(nobody_wrote(patience));
        }
        std::thread::sleep(LOOK);
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

#[cfg(not(unix))]
fn is_pipe(_: FileType) -> bool {
    false
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

    fn fifo(folder: &Path, name: &str) -> std::path::PathBuf {
        let path = folder.join(name);
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        path
    }

    #[test]
    fn a_pipe_without_a_writer_is_an_error_and_one_with_a_writer_is_read_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = fifo(folder.path(), "pipe");
        let open = |patience| await_writer(&path, open_at_once(&path).unwrap(), patience);
        let error = open(Duration::ZERO).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        // A writer may take its time with the first byte, and with those after it.
        let reader = open_at_once(&path).unwrap();
        let mut writer = File::options().write(true).open(&path).unwrap();
        let (release, released) = std::sync::mpsc::channel();
        let (go, gone) = std::sync::mpsc::channel();
        let late = std::thread::spawn(move || {
            released.recv().unwrap();
            io::Write::write_all(&mut writer, b"ab").unwrap();
            gone.recv().unwrap();
            io::Write::write_all(&mut writer, &[b'c'; 10_000]).unwrap();
        });
        release.send(()).unwrap();
        let mut stream = open(Duration::ZERO).unwrap();
        drop(reader);
        go.send(()).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        assert_eq!((bytes.len(), &bytes[..3]), (10_002, &b"abc"[..]));
        late.join().unwrap();
        // One without bytes is an empty file.
        let (reader, writer) = io::pipe().unwrap();
        drop(writer);
        let pipe = File::from(std::os::fd::OwnedFd::from(reader));
        let mut stream = await_writer(&path, pipe, Duration::ZERO).unwrap();
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    }

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
        let pipe = fifo(folder.path(), "pipe");
        assert_eq!(read(&pipe, 5).unwrap_err().kind(), io::ErrorKind::TimedOut);
        let writer = {
            let pipe = pipe.clone();
            std::thread::spawn(move || std::fs::write(pipe, b"abc").unwrap())
        };
        assert_eq!(read_within(&pipe, 5, Duration::from_secs(60)).unwrap(), b"abc");
        writer.join().unwrap();
    }
}
