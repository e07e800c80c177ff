//! Creates the files that results go to: the one way for all of them.
//!
//! - Until it is whole, a file has a temporary name in its folder (`mdf-XXXXXX.tmp`): nobody takes a part for the whole, and
//!   a run that fails leaves nothing. Only a run that is killed leaves the temporary file.
//! - What has the name already is replaced, and only when asked for. Nothing is written to or truncated: where the name is a
//!   link, what it leads to stays as it is; so do other names of the same file, and whoever has it open keeps it.
//! - A new file has mode 0600, whatever the mode of the one that it replaces: what is made of captures holds what people said,
//!   as captures do. The old mode was given to another content; who wants the new one to be read by others says so.
//! - Devices and pipes are written to as they are. A named pipe counts as a file that exists: anyone may have put it there.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use tempfile::{Builder, TempPath};

use crate::outcome::Usage;

/// What has the name of a file that is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum There {
    Nothing,
    /// A regular file, or a link.
    File,
    Fifo,
    /// A character device, or a pipe that this process has open (`/dev/fd/63`).
    Stream,
}

/// A new file that does not have its name yet. Without [`Pending::publish`] it goes away again.
#[derive(Debug)]
#[must_use]
pub struct Pending(Option<Unpublished>);

#[derive(Debug)]
struct Unpublished {
    temporary: TempPath,
    path: PathBuf,
    replace: bool,
}

impl Pending {
    /// Gives the file its name, once all is written. What has been put there meanwhile is replaced only if that was asked for.
    pub fn publish(self) -> Result<()> {
        let Some(Unpublished {
            temporary,
            path,
            replace,
        }) = self.0
        else {
            return Ok(());
        };
        let published = match replace {
            true => temporary.persist(&path),
            false => temporary.persist_noclobber(&path),
        };
        match published.map_err(|error| error.error) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(exists(&path)),
            published => published.with_context(|| format!("cannot create {}", path.display())),
        }
    }
}

/// Whether this output is standard output.
pub fn is_standard_output(path: &Path) -> bool {
    [Path::new("-"), Path::new("/dev/stdout")].contains(&path)
}

/// Opens what is to be written under this name. With `force`, a file that is there is replaced.
pub fn create(path: &Path, force: bool) -> Result<(File, Pending)> {
    match check(path, force)? {
        There::Nothing | There::File => {}
        There::Fifo | There::Stream => return Ok((open_stream(path)?, Pending(None))),
    }
    let (file, temporary) = Builder::new()
        .prefix("mdf-")
        .suffix(".tmp")
        .tempfile_in(folder(path))
        .with_context(|| format!("cannot create {}", path.display()))?
        .into_parts();
    Ok((
        file,
        Pending(Some(Unpublished {
            temporary,
            path: path.to_owned(),
            replace: force,
        })),
    ))
}

/// Refuses early what [`create`] would refuse: better now than after an hour's work.
pub fn check_free(path: &Path, force: bool) -> Result<()> {
    check(path, force).map(drop)
}

fn check(path: &Path, force: bool) -> Result<There> {
    ensure!(
        path.file_name().is_some(),
        "{} is not the name of a file",
        path.display()
    );
    let there = what_is_at(path).with_context(|| format!("cannot create {}", path.display()))?;
    if !force && matches!(there, There::File | There::Fifo) {
        return Err(exists(path));
    }
    Ok(there)
}

fn exists(path: &Path) -> anyhow::Error {
    anyhow::anyhow!("{} exists; --force replaces it", path.display())
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn what_is_at(path: &Path) -> Result<There> {
    let own = match fs::symlink_metadata(path) {
        Ok(own) => own.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // A folder that is missing is told now.
            fs::metadata(folder(path))?;
            return Ok(There::Nothing);
        }
        Err(error) => return Err(error.into()),
    };
    ensure!(!own.is_dir(), "it is a folder");
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        // `/dev/stderr` is a link to `/proc/self/fd/2`, which leads to what is open there.
        let first = fs::read_link(path).unwrap_or_else(|_| path.to_owned());
        let is_open = fs::canonicalize(folder(&first)).is_ok_and(|folder| folder.starts_with("/proc"));
        match fs::metadata(path).map(|target| target.file_type()) {
            Ok(target) if target.is_dir() => bail!("it is a folder"),
            Ok(target) if target.is_char_device() || (target.is_fifo() && is_open) => return Ok(There::Stream),
            Ok(target) if target.is_fifo() => return Ok(There::Fifo),
            _ if is_open => bail!("it stands for a file that is open already"),
            _ => {}
        }
        ensure!(
            !own.is_block_device() && !own.is_socket(),
            "it is neither a file nor a pipe"
        );
    }
    Ok(There::File)
}

/// Opens a device or a pipe, and nothing else: it may have been changed for a file since it was looked at.
fn open_stream(path: &Path) -> Result<File> {
    let open = || -> Result<File> {
        let file = OpenOptions::new().write(true).open(path)?;
        ensure!(!file.metadata()?.is_file(), "it has become a file");
        Ok(file)
    };
    open().with_context(|| format!("cannot write to {}", path.display()))
}

/// Which file this is, by whatever name it is reached. The same for as long as the file is open or mapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileId(
    /// Device and inode.
    #[cfg(unix)]
    (u64, u64),
    /// Without links.
    #[cfg(not(unix))]
    Option<PathBuf>,
);

impl FileId {
    /// Of a file that was opened by this name.
    pub fn of(file: &File, _path: &Path) -> io::Result<FileId> {
        #[cfg(unix)]
        return Ok(FileId::of_metadata(&file.metadata()?));
        #[cfg(not(unix))]
        return file.metadata().map(|_| FileId(fs::canonicalize(_path).ok()));
    }

    #[cfg(unix)]
    fn of_metadata(metadata: &fs::Metadata) -> FileId {
        use std::os::unix::fs::MetadataExt;
        FileId((metadata.dev(), metadata.ino()))
    }

    /// Whether this name leads to it, maybe by links.
    fn is_at(&self, path: &Path) -> bool {
        #[cfg(unix)]
        return fs::metadata(path).is_ok_and(|metadata| FileId::of_metadata(&metadata) == *self);
        #[cfg(not(unix))]
        return self.0.is_some() && fs::canonicalize(path).ok() == self.0;
    }

    /// Refuses to write to this file, which is read: as one of these outputs, or as standard output
    /// (`mdf analyze cap.mdf >> cap.mdf`).
    pub fn refuse_as_output<'p>(&self, outputs: impl IntoIterator<Item = &'p Path>) -> Result<(), Usage> {
        if let Some(path) = outputs.into_iter().find(|path| self.is_at(path)) {
            return Err(Usage(format!("{} is read, so it cannot be written to", path.display())));
        }
        match self.is_standard_output() {
            true => Err(Usage("standard output goes to a file that is read".to_string())),
            false => Ok(()),
        }
    }

    #[cfg(unix)]
    fn is_standard_output(&self) -> bool {
        use std::os::fd::AsFd;
        let handle = io::stdout().as_fd().try_clone_to_owned().map(File::from);
        let metadata = handle.and_then(|file| file.metadata());
        metadata.is_ok_and(|metadata| FileId::of_metadata(&metadata) == *self)
    }

    #[cfg(not(unix))]
    fn is_standard_output(&self) -> bool {
        false
    }
}
