//! The files of a recording: their names, how they are created, when a part is full, and which old ones go.
//!
//! Captures hold people's payload, so files are made with mode 0600, and an existing file is never touched unless the
//! user says so.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

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

/// The parts of an earlier recording of this name.
pub fn existing_parts(base: &Path) -> Vec<PathBuf> {
    let folder = folder(base);
    let (Some(stem), Ok(entries)) = (base.file_stem(), std::fs::read_dir(folder)) else {
        return Vec::new();
    };
    let ending = base
        .extension()
        .map(|extension| [b".", extension.as_bytes()].concat())
        .unwrap_or_default();
    let is_part = |name: &[u8]| {
        name.strip_prefix(stem.as_bytes())
            .and_then(|rest| rest.strip_prefix(b"-"))
            .and_then(|rest| rest.strip_suffix(ending.as_slice()))
            .is_some_and(|digits| digits.len() >= 5 && digits.iter().all(u8::is_ascii_digit))
    };
    let mut parts: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| is_part(entry.file_name().as_bytes()))
        .map(|entry| entry.path())
        .collect();
    parts.sort();
    parts
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Whether this is something that takes bytes but is no file: a device or a pipe.
fn is_stream(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| {
        let kind = metadata.file_type();
        kind.is_char_device() || kind.is_fifo()
    })
}

/// Says before anything is attached whether the output can be made. `parts`: the recording makes several files.
pub fn check(base: &Path, parts: bool, force: bool) -> Result<()> {
    if base.file_name().is_none() {
        bail!("{} is not the name of a file", base.display());
    }
    let folder = folder(base);
    if !std::fs::metadata(folder)
        .with_context(|| format!("cannot write to {}", folder.display()))?
        .is_dir()
    {
        bail!("{} is not a directory", folder.display());
    }
    if force || (!parts && is_stream(base)) {
        return Ok(());
    }
    let in_the_way = match parts {
        true => existing_parts(base).into_iter().next(),
        false => base.symlink_metadata().is_ok().then(|| base.to_owned()),
    };
    match in_the_way {
        Some(path) => bail!("{} exists; give another name, or --force to replace it", path.display()),
        None => Ok(()),
    }
}

/// Removes the parts of an earlier recording of this name, so that the two do not mix. For `--force`.
pub fn remove_parts(base: &Path) -> io::Result<()> {
    existing_parts(base).iter().try_for_each(std::fs::remove_file)
}

/// Makes a file with mode 0600. With `force` an existing one is replaced, not written over: whoever has it open keeps it,
/// and its mode does not matter.
pub fn create(path: &Path, force: bool) -> io::Result<File> {
    if is_stream(path) {
        return OpenOptions::new().write(true).open(path);
    }
    if force && path.symlink_metadata().is_ok_and(|metadata| !metadata.is_dir()) {
        std::fs::remove_file(path)?;
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn parts_are_numbered_before_the_extension() {
        assert_eq!(part_path(Path::new("/a/cap.mdf"), 7), Path::new("/a/cap-00007.mdf"));
        assert_eq!(part_path(Path::new("cap"), 123_456), Path::new("cap-123456"));
        assert_eq!(part_path(Path::new("a.b.mdf"), 0), Path::new("a.b-00000.mdf"));
    }

    #[test]
    fn only_parts_of_this_name_are_found() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "cap-00001.mdf",
            "cap-00000.mdf",
            "cap.mdf",
            "cap-1.mdf",
            "cap-0000x.mdf",
            "cap2-00000.mdf",
            "cap-00002.pcap",
        ] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let base = folder.path().join("cap.mdf");
        let names: Vec<_> = existing_parts(&base)
            .into_iter()
            .map(|path| path.file_name().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["cap-00000.mdf", "cap-00001.mdf"]);
        remove_parts(&base).unwrap();
        assert!(existing_parts(&base).is_empty());
        assert!(base.exists() && folder.path().join("cap-1.mdf").exists());
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
        assert!(create(&path, false).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
        assert!(check(&path, false, true).is_ok());
        create(&path, true).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn a_capture_is_readable_by_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cap.mdf");
        let file = create(&path, false).unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_dangling_link_is_in_the_way_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cap.mdf");
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), &path).unwrap();
        assert!(check(&path, false, false).is_err());
        create(&path, true).unwrap();
        assert!(
            !folder.path().join("elsewhere").exists(),
            "the link is replaced, not followed"
        );
    }

    #[test]
    fn a_missing_directory_is_told_before_recording() {
        let folder = tempfile::tempdir().unwrap();
        let error = check(&folder.path().join("no/cap.mdf"), false, false).unwrap_err();
        assert!(format!("{error:#}").contains("cannot write to"), "{error:#}");
        assert!(
            check(Path::new("/dev/null"), false, false).is_ok(),
            "a device is written to as it is"
        );
    }

    #[test]
    fn parts_in_the_way_are_refused_even_without_a_first_one() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("cap-00004.mdf"), "").unwrap();
        let base = folder.path().join("cap.mdf");
        assert!(check(&base, true, false).is_err());
        assert!(check(&base, false, false).is_ok());
        assert!(check(&base, true, true).is_ok());
    }
}
