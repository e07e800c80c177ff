//! The files of a recording: their names, what may be written to under them, when a part is full, and which old ones go.
//!
//! Captures hold people's payload, and root writes them into folders in which others may write too. So a file is always a
//! new one ([`crate::create`]); a name that is taken is not touched, unless the user gave it and says `--force`; and what
//! is removed is a part of this recording, or of an earlier one into the same parts, by its own header.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

pub use crate::create::is_standard_output;
use crate::create::{self, Stream, There};
use crate::descriptor;
use crate::format::header::Header;
use crate::format::layout::{FILE_HEAD_LEN, HEADER_LIMIT};
use crate::format::reader;
use crate::outcome::Usage;

/// When one part ends and the next begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rotation {
    pub size: Option<u64>,
    pub time: Option<Duration>,
}

impl Rotation {
    /// Whether there is more than one part.
    pub fn is_on(&self) -> bool {
        *self != Rotation::default()
    }

    /// Whether a part of this size and age (ns) is full.
    pub fn is_due(&self, size: u64, age_ns: u64) -> bool {
        self.size.is_some_and(|limit| size >= limit)
            || self.time.is_some_and(|limit| u128::from(age_ns) >= limit.as_nanos())
    }
}

/// The name of a part: `cap.mdf` becomes `cap-00000.mdf`. Five digits sort as the parts follow each other.
pub fn part_path(base: &Path, part: u32) -> PathBuf {
    let mut name = base.file_stem().unwrap_or_default().to_owned();
    name.push(format!("-{part:05}"));
    if let Some(extension) = base.extension() {
        name.push(".");
        name.push(extension);
    }
    base.with_file_name(name)
}

/// The number of a part's name.
fn part_number(base: &Path, part: &Path) -> Option<u32> {
    let stem = base.file_stem()?.as_bytes();
    let rest = part.file_name()?.as_bytes().strip_prefix(stem)?.strip_prefix(b"-")?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
    (part_path(base, number).file_name() == part.file_name()).then_some(number)
}

/// The parts of earlier recordings of this name, by their own headers: no other file is removed.
pub fn earlier_parts(base: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(create::folder(base)) else {
        return Vec::new();
    };
    let is_part = |path: &PathBuf| {
        part_number(base, path).is_some_and(|number| {
            // A part's name may be further on than the part, because others were taken.
            is_capture(path, |header| header.part <= number && writes_parts(header, base))
        })
    };
    let mut parts: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_part).collect();
    parts.sort();
    parts
}

/// Whether the command line in this header asked for parts with this name.
fn writes_parts(header: &Header, base: &Path) -> bool {
    let words = header.own_command_line();
    let name = base.file_name().unwrap_or_default().to_string_lossy();
    words.contains(&*name) && [" --rotate-", " --ring"].iter().any(|option| words.contains(option))
}

/// Whether there is a capture file under this name, not through a link, whose header is as it should be.
pub fn is_capture(path: &Path, is_right: impl FnOnce(&Header) -> bool) -> bool {
    let read = || -> io::Result<Vec<u8>> {
        // Without waiting, should it be a pipe.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)?;
        let mut start = Vec::new();
        if file.metadata()?.is_file() {
            let longest = (FILE_HEAD_LEN + HEADER_LIMIT) as u64;
            file.take(longest).read_to_end(&mut start)?;
        }
        Ok(start)
    };
    read().is_ok_and(|start| reader::header(&start).is_ok_and(|header| is_right(&header)))
}

/// The output's name for people.
pub fn name(path: &Path) -> String {
    match is_standard_output(path) {
        true => "standard output".to_owned(),
        false => path.display().to_string(),
    }
}

/// Checks before anything is attached whether the output can be made. `parts`: the recording makes several files.
pub fn check(base: &Path, parts: bool, force: bool) -> Result<()> {
    let in_the_way = match parts {
        true => check_parts(base)?,
        false => {
            let cannot = || format!("cannot write to {}", name(base));
            match create::look(base).with_context(cannot)? {
                There::Stream(stream @ Stream::Given(_)) => {
                    if stream.open(false).with_context(cannot)?.is_terminal() {
                        bail!("{} is a terminal; a capture is for files and pipes", name(base));
                    }
                    None
                }
                There::Stream(_) | There::Nothing => None,
                There::File => Some(base.to_owned()),
            }
        }
    };
    match in_the_way {
        Some(path) if !force => bail!("{} exists; give another name, or --force to replace it", path.display()),
        _ => Ok(()),
    }
}

/// The first part that there is already.
fn check_parts(base: &Path) -> Result<Option<PathBuf>> {
    if descriptor::named(base).is_some() {
        return Err(Usage(format!("rotation and --ring make files; {} is none", name(base))).into());
    }
    if base.file_name().is_none() {
        bail!("{} is not the name of a file", base.display());
    }
    let folder = create::folder(base);
    if !std::fs::metadata(folder)
        .with_context(|| format!("cannot write to {}", folder.display()))?
        .is_dir()
    {
        bail!("{} is not a directory", folder.display());
    }
    Ok(earlier_parts(base).into_iter().next())
}

/// Removes the parts of an earlier recording of this name, so that the two do not mix. For `--force`.
pub fn remove_parts(base: &Path) -> io::Result<()> {
    earlier_parts(base).iter().try_for_each(std::fs::remove_file)
}

/// What is written to.
#[derive(Debug)]
pub struct Output {
    pub file: File,
    /// A file that was made for this, not a pipe or device that was there.
    pub is_new: bool,
}

/// Opens what the user named. With `force` an existing file is replaced, not written over: a process that has it open keeps it,
/// and its mode does not matter. Fails with [`io::ErrorKind::WouldBlock`] where it is a pipe that nobody reads from yet.
pub fn open(path: &Path, force: bool) -> io::Result<Output> {
    match create::look(path)? {
        There::Stream(stream) => {
            let file = stream.open(false)?;
            return Ok(Output { file, is_new: false });
        }
        There::File if force => std::fs::remove_file(path)?,
        There::File | There::Nothing => {}
    }
    let file = create::new_file(path)?;
    Ok(Output { file, is_new: true })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::{FileTypeExt, MetadataExt};

    use super::*;
    use crate::format::Writer;
    use crate::format::tests::sample;
    use crate::record::sys;

    #[test]
    fn parts_are_numbered_before_the_extension() {
        assert_eq!(part_path(Path::new("/a/cap.mdf"), 7), Path::new("/a/cap-00007.mdf"));
        assert_eq!(part_path(Path::new("cap"), 123_456), Path::new("cap-123456"));
        assert_eq!(part_path(Path::new("a.b.mdf"), 0), Path::new("a.b-00000.mdf"));
    }

    /// Writes a capture with this number, made by this command line.
    fn capture(path: &Path, part: u32, command_line: &str) {
        let header = Header {
            part,
            command_line: command_line.to_owned(),
            ..sample::header()
        };
        Writer::new(File::create(path).unwrap(), &header, 1)
            .unwrap()
            .finish()
            .unwrap();
    }

    #[test]
    fn only_what_is_a_part_by_its_own_words_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let into_parts = "mdf record --output=/captures/cap.mdf --force --rotate-size=1MiB --keep=8";
        capture(&path("cap-00000.mdf"), 0, into_parts);
        capture(&path("cap-00007.mdf"), 5, into_parts);
        capture(
            &path("cap-100000.mdf"),
            100_000,
            "mdf record -o cap.mdf --ring 60s -- server",
        );
        let parts = ["cap-00000.mdf", "cap-00007.mdf", "cap-100000.mdf"].map(path);

        // Somebody's files, whatever they are called.
        for name in [
            "cap-20261128.mdf",
            "cap-123456789.mdf",
            "cap-00001.mdf",
            "cap-1.mdf",
            "cap.mdf",
        ] {
            std::fs::write(path(name), "precious").unwrap();
        }
        let taken = std::fs::read(path("cap-00000.mdf")).unwrap();
        std::fs::write(path("cap-000003.mdf"), &taken).unwrap();
        std::fs::write(path("cap-00008.pcap"), &taken).unwrap();
        std::fs::write(path("other-00000.mdf"), &taken).unwrap();
        std::os::unix::fs::symlink(path("cap-00000.mdf"), path("cap-00009.mdf")).unwrap();
        capture(&path("cap-20261129.mdf"), 0, "mdf record -o cap-20261129.mdf");
        capture(
            &path("cap-20261130.mdf"),
            0,
            "mdf record -o cap-20261130.mdf -- tool --rotate-size 1 cap.mdf",
        );
        capture(&path("cap-00003.mdf"), 4, into_parts);
        let before = std::fs::read_dir(folder.path()).unwrap().count();

        let base = path("cap.mdf");
        assert_eq!(earlier_parts(&base), parts);
        remove_parts(&base).unwrap();
        assert!(parts.iter().all(|part| !part.exists()));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), before - parts.len());
    }

    #[test]
    fn a_part_is_full_by_size_or_by_age() {
        let rotation = Rotation {
            size: Some(100),
            time: Some(Duration::from_nanos(50)),
        };
        assert!(!rotation.is_due(99, 49));
        assert!(rotation.is_due(100, 0));
        assert!(rotation.is_due(0, 50));
        assert!(!Rotation::default().is_due(u64::MAX, u64::MAX));
    }

    #[test]
    fn an_existing_file_is_refused_and_replaced_only_by_force() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cap.mdf");
        assert!(check(&path, false, false).is_ok());
        std::fs::write(&path, "precious").unwrap();
        assert!(check(&path, false, false).unwrap_err().to_string().contains("--force"));
        assert!(open(&path, false).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
        assert!(check(&path, false, true).is_ok());
        assert!(open(&path, true).unwrap().is_new);
        assert_eq!(std::fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn a_link_is_replaced_and_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cap.mdf");
        for target in ["elsewhere", "/dev/null"] {
            std::os::unix::fs::symlink(folder.path().join(target), &path).unwrap();
            assert!(check(&path, false, false).is_err(), "{target}");
            assert!(open(&path, false).is_err(), "{target}");
            assert!(open(&path, true).unwrap().is_new, "{target}");
            std::fs::remove_file(&path).unwrap();
        }
        assert!(!folder.path().join("elsewhere").exists());
    }

    #[test]
    fn a_folder_or_a_socket_is_replaced_by_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cap.mdf");
        let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        for path in [folder.path(), path.as_path()] {
            assert!(check(path, false, true).is_err());
            assert!(open(path, true).is_err());
            assert!(path.exists());
        }
    }

    #[test]
    fn a_missing_directory_is_told_before_recording() {
        let folder = tempfile::tempdir().unwrap();
        let error = check(&folder.path().join("no/cap.mdf"), false, false).unwrap_err();
        assert!(format!("{error:#}").contains("cannot write to"), "{error:#}");
    }

    #[test]
    fn a_device_is_written_to_as_it_is() {
        assert!(check(Path::new("/dev/null"), false, false).is_ok());
        assert!(!open(Path::new("/dev/null"), true).unwrap().is_new);
    }

    fn pipe(path: &Path) {
        let made = std::process::Command::new("mkfifo").arg(path).status().unwrap();
        assert!(made.success());
    }

    #[test]
    fn a_pipe_of_ones_own_is_written_to_and_nobody_waits_for_its_reader() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        pipe(&path);
        assert!(check(&path, false, false).is_ok());
        assert_eq!(open(&path, false).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let mut reader = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&path)
            .unwrap();
        let mut output = open(&path, true).unwrap();
        assert!(!output.is_new);
        output.file.write_all(b"capture").unwrap();
        let mut bytes = [0; 7];
        reader.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"capture");
    }

    #[test]
    fn a_pipe_of_somebody_else_gets_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        pipe(&path);
        let own = path.metadata().unwrap().uid();
        for (owner, trusted) in [(own, true), (0, true), (own + 1, false)] {
            if owner != own {
                if !sys::is_root() {
                    continue;
                }
                std::os::unix::fs::chown(&path, Some(owner), None).unwrap();
            }
            for force in [false, true] {
                assert_eq!(check(&path, false, force).is_ok(), trusted, "{owner}");
                let error = open(&path, force).unwrap_err();
                assert_eq!(error.kind() == io::ErrorKind::WouldBlock, trusted, "{error}");
            }
            assert!(path.metadata().unwrap().file_type().is_fifo(), "it is left alone");
        }
    }

    #[test]
    fn names_of_descriptors_are_known_and_only_those_that_were_given_are_used() {
        for name in ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
            assert!(is_standard_output(Path::new(name)), "{name}");
        }
        for name in ["./-", "stdout", "/dev/fd/", "/dev/fd/x", "/dev/null"] {
            assert_eq!(descriptor::named(Path::new(name)), None, "{name}");
        }
        assert!(check(Path::new("-"), true, false).is_err(), "parts are files");
        let own = File::open("/dev/null").unwrap();
        let path = PathBuf::from(format!("/dev/fd/{}", own.as_raw_fd()));
        assert!(check(&path, false, false).is_err(), "opened by this process itself");
        assert!(open(&path, true).is_err());
        assert!(check(Path::new("/dev/fd/9999"), false, false).is_err());
    }

    #[test]
    fn parts_in_the_way_are_refused_even_without_a_first_one() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("cap.mdf");
        std::fs::write(folder.path().join("cap-00003.mdf"), "").unwrap();
        assert!(check(&base, true, false).is_ok(), "that is no part, and is passed over");
        capture(
            &folder.path().join("cap-00004.mdf"),
            4,
            "mdf record -o cap.mdf --rotate-time 1h",
        );
        assert!(check(&base, true, false).is_err());
        assert!(check(&base, false, false).is_ok());
        assert!(check(&base, true, true).is_ok());
    }
}
