//! Creates the files that are written: the one way for captures and for results. What mdf writes holds people's payload, and
//! may be written by root into folders in which others may write too.
//!
//! - A file is a new one of mode 0600, whatever the mode of one that it replaces, and belongs to who called sudo.
//! - What has the name already is replaced, and only when asked for. Nothing is written to or truncated: where the name is a
//!   link, what it leads to stays as it is; so do other names of the same file, and a process that has it open keeps it.
//! - A result has a temporary name in its folder (`mdf-XXXXXX.tmp`) until it is whole ([`create`]): nobody takes a part for
//!   the whole, and a run that fails leaves nothing. Only a run that is killed leaves the temporary file. A capture that is
//!   recorded has its name from the beginning ([`new_file`]): it can be read at any time, also after a crash.
//! - What exists already and is written to as it is: a descriptor that this process was given ([`crate::descriptor`]), a
//!   device, and a named pipe. None of them is reached through another link. A pipe could have been put there by anybody, so
//!   it must be made by this user, by root or by who called sudo; who may read from it is decided by its owner, by its mode.
//!   For a result it counts as a file that exists.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, TryLockError};

use anyhow::{Context, Result};
use tempfile::{Builder, TempPath};

#[cfg(unix)]
use crate::caller::{self, Caller};
#[cfg(unix)]
use crate::descriptor;
use crate::message;
use crate::outcome::Usage;

/// What has the name of a file that is to be made.
#[derive(Debug)]
pub enum There {
    Nothing,
    /// A regular file, or a link.
    File,
    #[cfg(unix)]
    Stream(Stream),
}

/// What is written to as it is.
#[cfg(unix)]
#[derive(Debug)]
pub enum Stream {
    /// A descriptor of this process.
    Given(i32),
    Device(PathBuf, FileId),
    Fifo(PathBuf, FileId),
}

/// Looks at what there is under this name, without opening it. Fails where nothing may be written under the name.
pub fn look(path: &Path) -> io::Result<There> {
    let refuse = |why: &str| Err(io::Error::other(why));
    #[cfg(unix)]
    if let Some(number) = descriptor::named(path) {
        return Ok(There::Stream(Stream::Given(number)));
    }
    if path.file_name().is_none() {
        return refuse("it is not the name of a file");
    }
    let own = match fs::symlink_metadata(path) {
        Ok(own) => own,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // A missing folder is reported now.
            fs::metadata(folder(path))?;
            return Ok(There::Nothing);
        }
        Err(error) => return Err(error),
    };
    if path.is_dir() {
        return refuse("it is a folder");
    }
    #[cfg(unix)]
    if !own.is_file() && !own.is_symlink() {
        return stream(path, &own).map(There::Stream);
    }
    Ok(There::File)
}

/// The pipe or device of this name.
#[cfg(unix)]
fn stream(path: &Path, own: &fs::Metadata) -> io::Result<Stream> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};

    let id = FileId::of_metadata(own);
    // Only root can make devices.
    if own.file_type().is_char_device() {
        return Ok(Stream::Device(path.to_owned(), id));
    }
    if !own.file_type().is_fifo() {
        return Err(io::Error::other("it is neither a file nor a pipe"));
    }
    let owner = own.uid();
    let trusted = [0, caller::user()]
        .into_iter()
        .chain(Caller::find().map(|caller| caller.uid));
    match trusted.into_iter().any(|uid| uid == owner) {
        true => Ok(Stream::Fifo(path.to_owned(), id)),
        false => Err(io::Error::other(format!(
            "it is a named pipe of somebody else (user {owner}), who could have put it there to get what is written"
        ))),
    }
}

#[cfg(unix)]
impl Stream {
    /// Opens it. A named pipe that nobody reads from is waited for, or fails with [`io::ErrorKind::WouldBlock`].
    pub fn open(&self, wait: bool) -> io::Result<File> {
        use std::os::unix::fs::OpenOptionsExt;

        let (path, id) = match self {
            Stream::Given(number) => return descriptor::given(*number),
            Stream::Device(path, id) | Stream::Fifo(path, id) => (path, id),
        };
        let opened = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NOFOLLOW | if wait { 0 } else { libc::O_NONBLOCK })
            .open(path);
        let file = opened.map_err(|error| match (self, error.raw_os_error()) {
            (Stream::Fifo(..), Some(libc::ENXIO)) => {
                io::Error::new(io::ErrorKind::WouldBlock, "nobody reads from this pipe")
            }
            _ => error,
        })?;
        // The name may have got another meaning since it was looked at.
        if FileId::of(&file, path)? != *id {
            return Err(io::Error::other("something else has been put there"));
        }
        if !wait {
            descriptor::let_wait(&file)?;
        }
        Ok(file)
    }
}

/// Makes a file with mode 0600, to be written. Fails with [`io::ErrorKind::AlreadyExists`] where there is anything under this
/// name, be it a pipe or a link to nowhere: O_EXCL follows no link (open(2)).
pub fn new_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options.open(path)
}

/// Gives a new file to who called sudo, if somebody did.
pub fn give_to_caller(_file: &File) -> io::Result<()> {
    #[cfg(unix)]
    if let Some(caller) = Caller::find() {
        return caller.give(_file);
    }
    Ok(())
}

/// A new file that does not have its name yet. Without [`Pending::publish`] it goes away again.
#[derive(Debug)]
#[must_use]
pub struct Pending(Option<Unpublished>);

#[derive(Debug)]
struct Unpublished {
    temporary: TempPath,
    listed: Listed,
    path: PathBuf,
    replace: bool,
}

impl Pending {
    /// Gives the file its name, once all is written. What has been put there meanwhile is replaced only if that was asked for.
    pub fn publish(self) -> Result<()> {
        let Some(Unpublished {
            temporary,
            listed: _listed,
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

/// The temporary files there are. Destructors remove them, except after a panic, when none runs.
static UNPUBLISHED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// The entry of a temporary file in [`UNPUBLISHED`].
#[derive(Debug)]
struct Listed(PathBuf);

impl Listed {
    fn new(temporary: &Path) -> Listed {
        let mut paths = UNPUBLISHED.lock().unwrap_or_else(PoisonError::into_inner);
        paths.insert(temporary.to_owned());
        Listed(temporary.to_owned())
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut paths = UNPUBLISHED.lock().unwrap_or_else(PoisonError::into_inner);
        paths.remove(&self.0);
    }
}

/// Removes the temporary files of all results that are not whole, for a program that ends without running destructors.
pub fn discard_unpublished() {
    let paths = match UNPUBLISHED.try_lock() {
        Ok(paths) => paths,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        // Held by the very thread that ends the program, maybe: a file that stays is better than waiting for ever.
        Err(TryLockError::WouldBlock) => return,
    };
    for path in paths.iter() {
        let _ = fs::remove_file(path);
    }
}

/// Whether this output is standard output.
pub fn is_standard_output(path: &Path) -> bool {
    #[cfg(unix)]
    return descriptor::named(path) == Some(libc::STDOUT_FILENO);
    #[cfg(not(unix))]
    return path == Path::new("-");
}

/// Opens what a result is to be written to under this name. With `force`, a file that is there is replaced.
pub fn create(path: &Path, force: bool) -> Result<(File, Pending)> {
    match check(path, force)? {
        There::Nothing | There::File => {}
        #[cfg(unix)]
        There::Stream(stream) => {
            let file = stream
                .open(true)
                .with_context(|| format!("cannot write to {}", path.display()))?;
            return Ok((file, Pending(None)));
        }
    }
    let (file, temporary) = Builder::new()
        .prefix("mdf-")
        .suffix(".tmp")
        .tempfile_in(folder(path))
        .with_context(|| format!("cannot create {}", path.display()))?
        .into_parts();
    if let Err(error) = give_to_caller(&file) {
        message::say(&format!("{} stays root's: {error}", path.display()));
    }
    Ok((
        file,
        Pending(Some(Unpublished {
            listed: Listed::new(&temporary),
            temporary,
            path: path.to_owned(),
            replace: force,
        })),
    ))
}

/// A file that is written, with its name in every error: `No space left on device` alone does not name the file.
#[derive(Debug)]
pub struct Named {
    file: File,
    path: PathBuf,
}

impl Named {
    /// Names the errors of writing to a file by this path.
    pub fn new(file: File, path: &Path) -> Named {
        let path = path.to_owned();
        Named { file, path }
    }

    fn name(&self, error: &io::Error) -> io::Error {
        // The kind stays: it shows whether a write is to be tried again, and whether a pipe has no reader.
        io::Error::new(error.kind(), format!("cannot write {}: {error}", self.path.display()))
    }
}

impl Write for Named {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes).map_err(|error| self.name(&error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush().map_err(|error| self.name(&error))
    }
}

/// Refuses early what [`create`] would refuse: better now than after an hour's work.
pub fn check_free(path: &Path, force: bool) -> Result<()> {
    check(path, force).map(drop)
}

fn check(path: &Path, force: bool) -> Result<There> {
    let there = look(path).with_context(|| format!("cannot create {}", path.display()))?;
    let is_taken = match there {
        There::Nothing => false,
        There::File => true,
        #[cfg(unix)]
        There::Stream(ref stream) => matches!(stream, Stream::Fifo(..)),
    };
    match is_taken && !force {
        true => Err(exists(path)),
        false => Ok(there),
    }
}

fn exists(path: &Path) -> anyhow::Error {
    anyhow::anyhow!("{} exists; --force replaces it", path.display())
}

/// Folders that were made. Those that are still empty in the end go away again.
#[derive(Debug, Default)]
pub struct MadeFolders(Vec<PathBuf>);

impl MadeFolders {
    /// Makes a folder and those that it is in, where they are missing. They belong to who called sudo, as the files in them.
    pub fn make(path: &Path) -> io::Result<MadeFolders> {
        let missing: Vec<&Path> = path
            .ancestors()
            .take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists())
            .collect();
        let mut made = MadeFolders::default();
        for folder in missing.into_iter().rev() {
            match fs::create_dir(folder) {
                // Somebody else was faster, or it is called `here/.`.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => continue,
                created => created?,
            }
            made.0.push(folder.to_owned());
            if let Err(error) = give_folder_to_caller(folder) {
                message::say(&format!("{} stays root's: {error}", folder.display()));
            }
        }
        Ok(made)
    }
}

impl Drop for MadeFolders {
    fn drop(&mut self) {
        for folder in self.0.iter().rev() {
            // Fails where something is in it.
            let _ = fs::remove_dir(folder);
        }
    }
}

fn give_folder_to_caller(_folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    if let Some(caller) = Caller::find() {
        use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
            .open(_folder)?;
        // The name may have got another meaning since the folder was made.
        if opened.metadata()?.uid() != caller::user() {
            return Err(io::Error::other("something else has been put there"));
        }
        return caller.give(&opened);
    }
    Ok(())
}

/// The folder that a file is in.
pub fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
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
    pub fn is_at(&self, path: &Path) -> bool {
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

#[cfg(all(test, unix))]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};

    use super::*;

    fn pipe(path: &Path) {
        let made = std::process::Command::new("mkfifo").arg(path).status().unwrap();
        assert!(made.success());
    }

    fn open(path: &Path, wait: bool) -> io::Result<File> {
        match look(path) {
            Ok(There::Stream(stream)) => stream.open(wait),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_new_file_is_readable_by_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let file = new_file(&folder.path().join("cap.mdf")).unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn folders_that_were_made_go_away_again_if_nothing_comes_into_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        drop(MadeFolders::make(&path("a/b/c")).unwrap());
        assert!(!path("a").exists());
        std::fs::create_dir(path("there")).unwrap();
        drop(MadeFolders::make(&path("there")).unwrap());
        assert!(path("there").exists(), "it was there before");
        let made = MadeFolders::make(&path("there/x/y/")).unwrap();
        std::fs::write(path("there/x/file"), "result").unwrap();
        drop(made);
        assert!(path("there/x/file").exists() && !path("there/x/y").exists());
    }

    #[test]
    fn a_name_that_is_taken_is_neither_followed_nor_touched() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("file"), "precious").unwrap();
        symlink(path("file"), path("link")).unwrap();
        symlink(path("nowhere"), path("dangling")).unwrap();
        std::fs::create_dir(path("folder")).unwrap();
        for name in ["file", "link", "dangling", "folder"] {
            let error = new_file(&path(name)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{name}");
            assert!(create(&path(name), false).is_err(), "{name}");
        }
        assert_eq!(std::fs::read(path("file")).unwrap(), b"precious");
        assert!(!path("nowhere").exists());
    }

    #[test]
    fn no_pipe_or_device_is_reached_through_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        pipe(&path("pipe"));
        for (name, target) in [
            ("a", path("pipe")),
            ("b", "/dev/null".into()),
            ("c", "/dev/fd/1".into()),
        ] {
            symlink(target, path(name)).unwrap();
            assert!(matches!(look(&path(name)), Ok(There::File)), "{name}");
            assert!(create(&path(name), false).is_err(), "{name}");
            let (file, pending) = create(&path(name), true).unwrap();
            assert!(file.metadata().unwrap().is_file());
            pending.publish().unwrap();
            assert!(path(name).symlink_metadata().unwrap().is_file(), "the link is replaced");
        }
    }

    #[test]
    fn a_pipe_of_ones_own_is_written_to_and_its_reader_is_waited_for_only_if_asked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        pipe(&path);
        assert_eq!(open(&path, false).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let mut reader = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&path)
            .unwrap();
        for wait in [false, true] {
            open(&path, wait).unwrap().write_all(b"capture").unwrap();
            let mut bytes = [0; 7];
            reader.read_exact(&mut bytes).unwrap();
            assert_eq!(&bytes, b"capture");
        }
    }

    #[test]
    fn a_pipe_of_somebody_else_gets_nothing_neither_captures_nor_results() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        pipe(&path);
        let own = path.metadata().unwrap().uid();
        for (owner, trusted) in [(own, true), (0, true), (own + 1, false)] {
            if owner != own {
                if crate::caller::user() != 0 {
                    continue;
                }
                std::os::unix::fs::chown(&path, Some(owner), None).unwrap();
            }
            assert_eq!(look(&path).is_ok(), trusted, "{owner}");
            assert_eq!(check_free(&path, true).is_ok(), trusted, "{owner}");
            assert!(check_free(&path, false).is_err(), "a result does not go there unasked");
        }
    }
}
