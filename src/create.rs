//! New files. What mdf writes holds people's payload, so a file is made anew, for its owner alone, and never through a name
//! that somebody else has put there.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

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

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_new_file_is_readable_by_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let file = new_file(&folder.path().join("cap.mdf")).unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
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
        }
        assert_eq!(std::fs::read(path("file")).unwrap(), b"precious");
        assert!(!path("nowhere").exists());
    }
}
