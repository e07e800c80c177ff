//! Reads the text of files of /proc. Pure: bytes in, facts out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::format::record::{Endpoint, START_TICK_NS};

/// PF_KTHREAD of <linux/sched.h>.
const KERNEL_THREAD: u64 = 0x0020_0000;

/// The fields of /proc/PID/stat that matter here.
#[derive(Debug, PartialEq, Eq)]
pub struct Stat<'a> {
    pub comm: &'a [u8],
    pub ppid: u32,
    pub kernel_thread: bool,
    /// All its threads have ended; it only waits to be reaped.
    pub ended: bool,
    /// The reader's boot clock, ns, rounded down to a tick.
    pub start: u64,
}

/// Reads /proc/PID/stat. A comm may hold blanks and parentheses, so fields count from the last one.
pub fn stat(text: &[u8]) -> Option<Stat<'_>> {
    let open = text.iter().position(|b| *b == b'(')?;
    let close = text.iter().rposition(|b| *b == b')')?;
    let comm = text.get(open + 1..close)?;
    let rest = std::str::from_utf8(text.get(close + 1..)?).ok()?;
    // proc(5): state is field 3, the first after the comm.
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let is_zombie = matches!(fields.first(), Some(&"Z" | &"X"));
    Some(Stat {
        comm,
        ppid: u32::try_from(field(4)?).ok()?,
        kernel_thread: field(9)? & KERNEL_THREAD != 0,
        // A first thread that has ended stays a zombie while others run.
        ended: is_zombie && field(20)? <= 1,
        start: field(22)?.saturating_mul(START_TICK_NS),
    })
}

/// The fields of /proc/PID/status that matter here.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The real user id.
    pub uid: u32,
    /// The process's numbers, from the reader's pid namespace inwards.
    pub pids: Vec<u32>,
    /// The process that it is (a thread of), in the reader's pid namespace.
    pub tgid: Option<u32>,
}

/// Reads /proc/PID/status.
pub fn status(text: &[u8]) -> Status {
    let numbers = |name: &[u8]| -> Vec<u32> {
        text.split(|b| *b == b'\n')
            .find_map(|line| line.strip_prefix(name))
            .and_then(|line| std::str::from_utf8(line).ok())
            .map(|line| line.split_ascii_whitespace().filter_map(|n| n.parse().ok()).collect())
            .unwrap_or_default()
    };
    Status {
        uid: numbers(b"Uid:").first().copied().unwrap_or(0),
        pids: numbers(b"NSpid:"),
        tgid: numbers(b"Tgid:").first().copied(),
    }
}

/// The number in a link such as `net:[4026531840]` or `socket:[12345]`.
pub fn link_number(link: &[u8], kind: &str) -> Option<u64> {
    let number = link
        .strip_prefix(kind.as_bytes())?
        .strip_prefix(b":[")?
        .strip_suffix(b"]")?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

/// The path of a program in the link /proc/PID/exe. The kernel marks a file that was removed since.
pub fn program_path(link: &[u8]) -> &[u8] {
    link.strip_suffix(b" (deleted)").unwrap_or(link)
}

/// How many TCP sockets the kernel has, of all network namespaces, by /proc/net/sockstat.
pub fn tcp_sockets(sockstat: &str) -> Option<u32> {
    let mut words = sockstat
        .lines()
        .find_map(|line| line.strip_prefix("TCP:"))?
        .split_whitespace();
    words.find(|word| *word == "alloc")?;
    words.next()?.parse().ok()
}

/// A line of /proc/net/tcp or tcp6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpLine {
    pub local: Endpoint,
    pub remote: Endpoint,
    pub state: TcpState,
    /// 0 when no file descriptor belongs to it.
    pub inode: u64,
}

/// The states that are distinguished here (<net/tcp_states.h>).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TcpState {
    /// ESTABLISHED, or half closed with data still possible (FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT).
    Open,
    Listen,
    /// Opening, or closed for all that matters.
    Other,
}

/// Reads a line; `None` for the heading and for what does not look like a line.
pub fn tcp_line(line: &[u8]) -> Option<TcpLine> {
    let line = std::str::from_utf8(line).ok()?;
    let mut fields = line.split_ascii_whitespace();
    let local = endpoint(fields.nth(1)?)?;
    let remote = endpoint(fields.next()?)?;
    let state = match u8::from_str_radix(fields.next()?, 16).ok()? {
        0x01 | 0x04 | 0x05 | 0x08 => TcpState::Open,
        0x0a => TcpState::Listen,
        _ => TcpState::Other,
    };
    let inode = fields.nth(5)?.parse().ok()?;
    Some(TcpLine {
        local,
        remote,
        state,
        inode,
    })
}

/// `0100007F:1F90`: each 32-bit word of the address is printed as a number of the host's byte order.
fn endpoint(text: &str) -> Option<Endpoint> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        u32::from_str_radix(address.get(at..at + 8)?, 16)
            .ok()
            .map(u32::to_ne_bytes)
    };
    let ip = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut octets = [0u8; 16];
            for (n, chunk) in octets.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(n * 8)?);
            }
            IpAddr::V6(Ipv6Addr::from(octets))
        }
        _ => return None,
    };
    Some(Endpoint::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comm_may_look_like_the_end_of_itself() {
        let text = b"4711 (a) R (b) S 17 4711 17 0 -1 4194560 1 0 0 0 3 4 0 0 20 0 1 0 123456 1000 200 18446744073709551615 0\n";
        assert_eq!(
            stat(text),
            Some(Stat {
                comm: b"a) R (b",
                ppid: 17,
                kernel_thread: false,
                ended: false,
                start: 1_234_560_000_000
            })
        );
        assert_eq!(stat(b"4711 (cut"), None);
        assert_eq!(stat(b"4711 (cut) S 17"), None);
        assert_eq!(stat(b") ("), None);
    }

    #[test]
    fn a_kernel_thread_is_told_by_its_flag() {
        let text = b"2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 5 0 0 0 0\n";
        assert!(stat(text).unwrap().kernel_thread);
    }

    #[test]
    fn a_process_has_ended_when_all_its_threads_have() {
        let ended = |state: char, threads: u32| {
            let text = format!("7 (a) {state} 1 7 7 0 -1 4194560 1 0 0 0 3 4 0 0 20 0 {threads} 0 123456 0 0 0\n");
            stat(text.as_bytes()).unwrap().ended
        };
        assert!(ended('Z', 1));
        assert!(!ended('Z', 2), "the first thread has ended, another runs");
        assert!(!ended('S', 1));
    }

    #[test]
    fn a_status_gives_the_real_user_and_the_numbers_in_each_pid_namespace() {
        let text = b"Name:\tx\nTgid:\t4700\nUid:\t1000\t0\t0\t0\nNSpid:\t4711\t23\t1\n";
        assert_eq!(
            status(text),
            Status {
                uid: 1000,
                pids: vec![4711, 23, 1],
                tgid: Some(4700)
            }
        );
        assert_eq!(status(b""), Status::default());
    }

    #[test]
    fn numbers_come_out_of_links() {
        assert_eq!(link_number(b"net:[4026531840]", "net"), Some(4_026_531_840));
        assert_eq!(link_number(b"socket:[1]", "net"), None);
        assert_eq!(link_number(b"net:[x]", "net"), None);
    }

    #[test]
    fn sockstat_tells_how_many_sockets_there_are() {
        let text = "sockets: used 300\nTCP: inuse 7 orphan 0 tw 2 alloc 80123 mem 1\nUDP: inuse 1 mem 0\n";
        assert_eq!(tcp_sockets(text), Some(80_123));
        assert_eq!(tcp_sockets("TCP: inuse 7\n"), None);
    }

    #[test]
    fn a_program_keeps_its_path_when_its_file_is_removed() {
        assert_eq!(program_path(b"/usr/sbin/nginx (deleted)"), b"/usr/sbin/nginx");
        assert_eq!(program_path(b"/usr/bin/python3.13"), b"/usr/bin/python3.13");
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn tcp_lines_of_both_families_are_read() {
        let v4 = b"   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4242 1 0 100 0\n";
        let line = tcp_line(v4).unwrap();
        assert_eq!(line.local.to_string(), "127.0.0.1:8080");
        assert_eq!((line.state, line.inode), (TcpState::Listen, 4242));

        let v6 = b"   1: 00000000000000000000000001000000:0016 B80D0120000000000000000002000000:D431 01 00000000:00000000 02:000A 00000000     0        0 77 2";
        let line = tcp_line(v6).unwrap();
        assert_eq!(line.local.to_string(), "[::1]:22");
        assert_eq!(line.remote.to_string(), "[2001:db8::2]:54321");
        assert_eq!((line.state, line.inode), (TcpState::Open, 77));

        let mapped =
            b"   1: 0000000000000000FFFF00000100007F:0016 0000000000000000FFFF00000100007F:D431 06 0:0 02:0 0 0 0 0 3";
        let line = tcp_line(mapped).unwrap();
        assert_eq!(line.local.to_string(), "127.0.0.1:22", "IPv4 on an IPv6 socket is IPv4");
        assert_eq!(line.state, TcpState::Other);
    }

    #[test]
    fn what_is_no_tcp_line_is_passed_over() {
        for line in [
            &b"  sl  local_address rem_address   st tx_queue"[..],
            b"",
            b"0: 0100007F:1F90",
            b"0: zz:1 0:0 0A",
            b"\xff",
        ] {
            assert_eq!(tcp_line(line), None);
        }
    }
}
