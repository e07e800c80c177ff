//! The header of the PROXY protocol (HAProxy's proxy-protocol.txt), versions 1 and 2: what a load balancer sends before the
//! first byte of the connection that it passes on. It belongs to no protocol behind it.

/// The longest header of version 1, with its line end.
const MAX_LINE: usize = 107;

/// What version 2 begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const FIXED: usize = 16;

/// Whether bytes begin with a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// It is so long, and may go on beyond the bytes.
    Long(u64),
    /// They may begin one.
    More,
    No,
}

/// Looks for a header at the start of what an end of a connection sends.
pub fn header(bytes: &[u8]) -> Header {
    let n = bytes.len().min(SIGNATURE.len());
    if bytes[..n] != SIGNATURE[..n] {
        return line(bytes);
    }
    let Some([.., command, family, high, low]) = bytes.first_chunk::<FIXED>() else {
        return Header::More;
    };
    // LOCAL or PROXY of version 2; unspecified, IPv4, IPv6 or Unix, and unspecified, stream or datagram.
    let fits = matches!(command, 0x20 | 0x21) && family >> 4 <= 3 && family & 15 <= 2;
    match fits {
        true => Header::Long(FIXED as u64 + u64::from(u16::from_be_bytes([*high, *low]))),
        false => Header::No,
    }
}

/// Version 1: `PROXY TCP4 192.0.2.7 198.51.100.1 56324 80`, or `PROXY UNKNOWN` and anything.
fn line(bytes: &[u8]) -> Header {
    const WORD: &[u8] = b"PROXY ";
    let n = bytes.len().min(WORD.len());
    if bytes[..n] != WORD[..n] {
        return Header::No;
    }
    let Some(newline) = memchr::memchr(b'\n', &bytes[..bytes.len().min(MAX_LINE)]) else {
        return if bytes.len() < MAX_LINE {
            Header::More
        } else {
            Header::No
        };
    };
    let Some(text) = bytes[..newline]
        .strip_suffix(b"\r")
        .and_then(|line| line.get(WORD.len()..))
    else {
        return Header::No;
    };
    let words: Vec<&[u8]> = text.split(|b| *b == b' ').collect();
    let is_number = |word: &[u8]| !word.is_empty() && word.len() <= 5 && word.iter().all(u8::is_ascii_digit);
    let fits = match words[..] {
        [b"UNKNOWN", ..] => true,
        [b"TCP4" | b"TCP6", .., from, to] => words.len() == 5 && is_number(from) && is_number(to),
        _ => false,
    };
    match fits {
        true => Header::Long(newline as u64 + 1),
        false => Header::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_known_from_every_prefix() {
        let v2 = [
            &SIGNATURE[..],
            b"\x21\x11\0\x0c\xc0\0\x02\x07\x0a\0\0\x02\xdc\x04\0\x50",
        ]
        .concat();
        let local = [&SIGNATURE[..], b"\x20\0\0\0"].concat();
        for header_bytes in [
            &b"PROXY TCP4 192.0.2.7 10.0.0.2 56324 80\r\n"[..],
            b"PROXY TCP6 2001:db8::1 2001:db8::2 56324 80\r\n",
            b"PROXY UNKNOWN\r\n",
            b"PROXY UNKNOWN ffff:f::1 ffff:f::2 65535 65535\r\n",
            &v2,
            &local,
        ] {
            let whole = Header::Long(header_bytes.len() as u64);
            for cut in 0..header_bytes.len() {
                let is = header(&header_bytes[..cut]);
                assert!(
                    is == Header::More || (is == whole && cut >= FIXED),
                    "{header_bytes:?} at {cut}: {is:?}"
                );
            }
            assert_eq!(header(&[header_bytes, b"GET / HTTP/1.1\r\n"].concat()), whole);
        }
    }

    #[test]
    fn what_only_begins_like_one_is_none() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"PRI * HTTP/2.0\r\n\r\n",
            b"PROXY /x HTTP/1.1\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.2 56324\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.2 56324 http\r\n",
            b"PROXY UNKNOWN\n",
            b"\r\n\r\nGET / HTTP/1.1\r\n",
            b"\r\n\r\n\0\r\nQUIT\n\x11\x11\0\x0c",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x41\0\x0c",
            &[&b"PROXY UNKNOWN "[..], &[b'x'; 100]].concat(),
        ] {
            assert_eq!(header(bytes), Header::No, "{bytes:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_do_no_harm(bytes: Vec<u8>, sign: bool) {
            let start: &[u8] = if sign { &SIGNATURE } else { b"PROXY " };
            header(&[start, &bytes].concat());
            header(&bytes);
        }
    }
}
