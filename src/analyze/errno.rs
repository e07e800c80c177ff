//! Names of Linux errors, as in errno(3). Captures are read on other systems too, whose numbers differ.

use std::fmt::Write;

/// By their numbers, from 1 (asm-generic/errno-base.h and errno.h of Linux, which x86 and arm64 use). Two names of one number:
/// the first. Numbers without an error are empty.
#[rustfmt::skip]
const NAMES: [&str; 133] = [
    "EPERM", "ENOENT", "ESRCH", "EINTR", "EIO", "ENXIO", "E2BIG", "ENOEXEC", "EBADF", "ECHILD", "EAGAIN", "ENOMEM",
    "EACCES", "EFAULT", "ENOTBLK", "EBUSY", "EEXIST", "EXDEV", "ENODEV", "ENOTDIR", "EISDIR", "EINVAL", "ENFILE",
    "EMFILE", "ENOTTY", "ETXTBSY", "EFBIG", "ENOSPC", "ESPIPE", "EROFS", "EMLINK", "EPIPE", "EDOM", "ERANGE",
    "EDEADLK", "ENAMETOOLONG", "ENOLCK", "ENOSYS", "ENOTEMPTY", "ELOOP", "", "ENOMSG", "EIDRM", "ECHRNG", "EL2NSYNC",
    "EL3HLT", "EL3RST", "ELNRNG", "EUNATCH", "ENOCSI", "EL2HLT", "EBADE", "EBADR", "EXFULL", "ENOANO", "EBADRQC",
    "EBADSLT", "", "EBFONT", "ENOSTR", "ENODATA", "ETIME", "ENOSR", "ENONET", "ENOPKG", "EREMOTE", "ENOLINK", "EADV",
    "ESRMNT", "ECOMM", "EPROTO", "EMULTIHOP", "EDOTDOT", "EBADMSG", "EOVERFLOW", "ENOTUNIQ", "EBADFD", "EREMCHG",
    "ELIBACC", "ELIBBAD", "ELIBSCN", "ELIBMAX", "ELIBEXEC", "EILSEQ", "ERESTART", "ESTRPIPE", "EUSERS", "ENOTSOCK",
    "EDESTADDRREQ", "EMSGSIZE", "EPROTOTYPE", "ENOPROTOOPT", "EPROTONOSUPPORT", "ESOCKTNOSUPPORT", "EOPNOTSUPP",
    "EPFNOSUPPORT", "EAFNOSUPPORT", "EADDRINUSE", "EADDRNOTAVAIL", "ENETDOWN", "ENETUNREACH", "ENETRESET",
    "ECONNABORTED", "ECONNRESET", "ENOBUFS", "EISCONN", "ENOTCONN", "ESHUTDOWN", "ETOOMANYREFS", "ETIMEDOUT",
    "ECONNREFUSED", "EHOSTDOWN", "EHOSTUNREACH", "EALREADY", "EINPROGRESS", "ESTALE", "EUCLEAN", "ENOTNAM", "ENAVAIL",
    "EISNAM", "EREMOTEIO", "EDQUOT", "ENOMEDIUM", "EMEDIUMTYPE", "ECANCELED", "ENOKEY", "EKEYEXPIRED", "EKEYREVOKED",
    "EKEYREJECTED", "EOWNERDEAD", "ENOTRECOVERABLE", "ERFKILL", "EHWPOISON",
];

/// The name of an error.
pub fn name(errno: u16) -> Option<&'static str> {
    let name = NAMES.get(usize::from(errno).checked_sub(1)?)?;
    Some(*name).filter(|name| !name.is_empty())
}

/// Writes the name of an error, else its number.
pub fn write(to: &mut String, errno: u16) {
    match name(errno) {
        Some(name) => to.push_str(name),
        None => {
            let _ = write!(to, "errno {errno}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_their_linux_names_on_every_system() {
        let known = [
            (1, "EPERM"),
            (11, "EAGAIN"),
            (13, "EACCES"),
            (22, "EINVAL"),
            (40, "ELOOP"),
            (59, "EBFONT"),
            (97, "EAFNOSUPPORT"),
            (99, "EADDRNOTAVAIL"),
            (101, "ENETUNREACH"),
            (104, "ECONNRESET"),
            (110, "ETIMEDOUT"),
            (111, "ECONNREFUSED"),
            (113, "EHOSTUNREACH"),
            (115, "EINPROGRESS"),
            (133, "EHWPOISON"),
        ];
        for (errno, expected) in known {
            assert_eq!(name(errno), Some(expected));
        }
        for errno in [0, 41, 58, 134, u16::MAX] {
            assert_eq!(name(errno), None);
            let mut text = String::new();
            write(&mut text, errno);
            assert_eq!(text, format!("errno {errno}"));
        }
    }
}
