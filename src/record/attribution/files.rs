//! Files of the host that name its containers. They are read with more rights than the user has, and some are where any user
//! can put something else in their place: so only regular files of the right owner, no larger than they may be, and in a
//! user's own folder no links and no other file system.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::SystemTime;

use crate::human;
use crate::record::{privilege, sys};

/// Entries of one folder that are looked at.
const ENTRIES_MAX: usize = 100_000;
/// Who may write besides the owner: the group, and all.
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;

/// Identifies a file and its state: another file, or other contents, has another stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    modified: Option<SystemTime>,
    pub len: u64,
}

impl Stamp {
    /// Whether it is one file, by whatever name: hard links are many names of one.
    pub fn is_same_file(&self, other: &Stamp) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

/// A folder below which files are looked for.
#[derive(Debug)]
pub struct Base {
    folder: OwnedFd,
    /// Whose files count.
    owner: u32,
    /// As for openat2(2).
    resolve: u64,
}

impl Base {
    /// The root of the host's file system. What is below counts where it is root's; links stay within.
    pub fn root(path: &Path) -> io::Result<Base> {
        // The user named it: no rights are taken up for it.
        let folder = File::options()
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
            .open(path)?;
        Ok(Base {
            folder: folder.into(),
            owner: 0,
            resolve: libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS,
        })
    }

    /// A user's own folder below this one, by its path. What is in it counts where it is the same user's.
    pub fn home(&self, path: &Path) -> io::Result<Base> {
        let _all = privilege::read_all();
        let folder = sys::open_below(
            self.folder.as_fd(),
            path,
            libc::O_PATH | libc::O_DIRECTORY,
            self.resolve,
        )?;
        let owner = metadata(&folder)?.uid();
        Ok(Base {
            folder,
            owner,
            resolve: libc::RESOLVE_BENEATH
                | libc::RESOLVE_NO_MAGICLINKS
                | libc::RESOLVE_NO_SYMLINKS
                | libc::RESOLVE_NO_XDEV,
        })
    }

    /// The user whose files count.
    pub fn owner(&self) -> u32 {
        self.owner
    }

    /// The bytes of a file that has at most `most` bytes.
    pub fn read(&self, path: &Path, most: u64) -> io::Result<Vec<u8>> {
        let _all = privilege::read_all();
        let (found, is) = self.open(path)?;
        if !is.is_file() {
            return Err(not_a_file());
        }
        if is.len() > most {
            return Err(io::Error::other(format!("it has more than {}", human::bytes(most))));
        }
        let mut bytes = Vec::new();
        // Opened once more, now that it is known what it is; it is the same file.
        File::open(handle(&found))?.take(most + 1).read_to_end(&mut bytes)?;
        match bytes.len() as u64 <= most {
            true => Ok(bytes),
            false => Err(io::Error::other("it grows while it is read")),
        }
    }

    /// The names in a folder.
    pub fn names(&self, path: &Path) -> io::Result<Vec<String>> {
        let _all = privilege::read_all();
        let (found, is) = self.open(path)?;
        if !is.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let entries = std::fs::read_dir(handle(&found))?.take(ENTRIES_MAX).flatten();
        Ok(entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect())
    }

    /// Which file it is, without opening it. It is one that may be read, if it is not too large.
    pub fn stamp(&self, path: &Path) -> io::Result<Stamp> {
        let _all = privilege::read_all();
        let (_, is) = self.open(path)?;
        if !is.is_file() {
            return Err(not_a_file());
        }
        Ok(Stamp {
            device: is.dev(),
            inode: is.ino(),
            modified: is.modified().ok(),
            len: is.len(),
        })
    }

    /// When a file or folder was changed last.
    pub fn changed(&self, path: &Path) -> Option<SystemTime> {
        let _all = privilege::read_all();
        self.open(path).ok()?.1.modified().ok()
    }

    /// Whether there is such a folder.
    pub fn has_folder(&self, path: &Path) -> bool {
        let _all = privilege::read_all();
        self.open(path).is_ok_and(|(_, is)| is.is_dir())
    }

    /// Finds a file or folder without opening it: that alone can wait for ever (a FIFO), or do something (a device).
    fn open(&self, path: &Path) -> io::Result<(OwnedFd, Metadata)> {
        let found = sys::open_below(self.folder.as_fd(), path, libc::O_PATH, self.resolve)?;
        let is = metadata(&found)?;
        let writes = |bits: u32| is.mode() & bits != 0;
        let is_owners = is.uid() == self.owner || (self.owner == 0 && is_own(is.uid()));
        if !is_owners {
            return Err(io::Error::other(format!("it belongs to user {}", is.uid())));
        }
        if writes(OTHERS_WRITE) || (writes(GROUP_WRITES) && is.gid() != is.uid()) {
            return Err(io::Error::other("others may write it"));
        }
        Ok((found, is))
    }
}

/// Without lent rights, what is the user's own may be read as well as what is root's.
fn is_own(uid: u32) -> bool {
    uid == sys::user() && !privilege::are_lent()
}

fn not_a_file() -> io::Error {
    io::Error::other("it is not a regular file")
}

fn metadata(file: &OwnedFd) -> io::Result<Metadata> {
    File::from(file.try_clone()?).metadata()
}

/// What was found, by a path that leads nowhere else.
fn handle(found: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", found.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    const MOST: u64 = 1000;

    fn folder() -> (tempfile::TempDir, Base) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("home/alice/lists")).unwrap();
        let base = Base::root(folder.path()).unwrap();
        (folder, base)
    }

    fn read(base: &Base, path: &str) -> Result<Vec<u8>, String> {
        base.read(Path::new(path), MOST).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_is_read_and_a_larger_one_is_not() {
        let (folder, base) = folder();
        let write = |len: u64| std::fs::write(folder.path().join("list"), vec![b'x'; len as usize]).unwrap();
        write(MOST);
        assert_eq!(read(&base, "list").unwrap().len() as u64, MOST);
        assert_eq!(
            read(&base, "/list").unwrap().len() as u64,
            MOST,
            "a path starts at the root"
        );
        write(MOST + 1);
        assert!(read(&base, "list").unwrap_err().contains("more than 1000 B"));
        assert!(read(&base, "none").is_err());
    }

    /// Opening these can wait for ever, or never end.
    #[test]
    #[allow(unsafe_code, reason = "the standard library has no mkfifo")]
    fn what_is_no_regular_file_is_not_opened() {
        let (folder, base) = folder();
        let fifo = folder.path().join("fifo");
        let name = CString::new(fifo.as_os_str().as_bytes()).unwrap();
        // SAFETY: the path ends with a NUL byte.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
        for path in ["fifo", "socket", "home"] {
            assert_eq!(read(&base, path), Err("it is not a regular file".to_owned()), "{path}");
        }
        assert!(base.names(Path::new("fifo")).is_err());
        // Where the host's root is this one, so is its /dev.
        let host = Base::root(Path::new("/")).unwrap();
        for path in ["dev/zero", "dev/null", "proc/self/fd/0"] {
            assert!(read(&host, path).is_err(), "{path}");
        }
    }

    #[test]
    fn links_in_a_users_folder_are_not_followed_and_others_stay_within_the_root() {
        let (folder, base) = folder();
        std::fs::write(folder.path().join("secret"), "root's").unwrap();
        let home = base.home(Path::new("home/alice")).unwrap();
        std::fs::write(folder.path().join("home/alice/lists/real"), "alice's").unwrap();
        assert_eq!(read(&home, "lists/real").unwrap(), b"alice's");
        let link = |to: &Path, name: &str| symlink(to, folder.path().join(name)).unwrap();
        link(Path::new("/dev/zero"), "home/alice/zero");
        link(&folder.path().join("secret"), "home/alice/stolen");
        link(Path::new("../../secret"), "home/alice/up");
        link(Path::new("lists"), "home/alice/within");
        for path in ["zero", "stolen", "up", "within/real", "../../secret", "/secret"] {
            assert!(read(&home, path).is_err(), "{path}");
            assert!(home.names(Path::new(path)).is_err(), "{path}");
        }
        // Below the host's root, where a link is root's to make.
        link(Path::new("/home"), "data");
        link(Path::new("../../../../etc"), "outside");
        assert_eq!(read(&base, "data/alice/lists/real").unwrap(), b"alice's");
        assert!(read(&base, "outside/passwd").is_err(), "not this machine's");
    }

    #[test]
    fn what_others_may_write_does_not_count() {
        let (folder, base) = folder();
        let path = folder.path().join("list");
        std::fs::write(&path, "x").unwrap();
        let allow = |mode: u32| std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        for (mode, counts) in [(0o600, true), (0o644, true), (0o666, false), (0o602, false)] {
            allow(mode);
            assert_eq!(read(&base, "list").is_ok(), counts, "{mode:o}");
        }
        if !sys::is_root() {
            return;
        }
        allow(0o644);
        std::os::unix::fs::chown(&path, Some(65_534), Some(65_534)).unwrap();
        assert_eq!(read(&base, "list"), Err("it belongs to user 65534".to_owned()));
        let home = base.home(Path::new("home/alice")).unwrap();
        std::os::unix::fs::chown(folder.path().join("home/alice/lists"), Some(65_534), None).unwrap();
        assert!(home.names(Path::new("lists")).is_err(), "not alice's");
    }
}
