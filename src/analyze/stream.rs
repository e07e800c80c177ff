//! One direction of one connection: segments by position become bytes in order, each once, with gaps said.
//!
//! Segments come from the recorder (system calls of one or both ends), or from packets. They may be out of order
//! (two CPUs, a network), repeated (the other end's view, a retransmission), overlapping, or missing.

/// Where positions begin, so that bytes before the first one seen still have a position.
pub(super) const ORIGIN: u64 = 1 << 40;

/// How far before its first known position a stream may begin: what one call moves.
const MAX_BEFORE: u64 = 64 << 20;

/// Bytes that one observer saw go one way, with the call that carried them.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'a> {
    /// Position of the first byte; see [`Stream::position`].
    pub pos: u64,
    /// Original length.
    pub len: u64,
    /// Captured prefix.
    pub payload: &'a [u8],
    /// Which observer: 0 and 1 are the two ends, 2 is the wire.
    pub observer: u8,
    /// The observer's boot clock, ns.
    pub time: u64,
    pub pid: u32,
    pub tid: u32,
    pub cgroup: u64,
    /// One byte of urgent data: it has its position, and no protocol reads it.
    pub urgent: bool,
}

impl<'a> Segment<'a> {
    /// Position after the last byte.
    pub fn end(&self) -> u64 {
        self.pos + self.len
    }

    /// What comes after the first `n` bytes.
    pub fn after(&self, n: u64) -> Segment<'a> {
        Segment {
            pos: self.pos + n,
            len: self.len - n,
            payload: self.payload.get(n as usize..).unwrap_or_default(),
            ..*self
        }
    }

    /// What comes before the last byte, and the last byte as urgent data.
    ///
    /// It is left out also where the receiver reads it in its place (SO_OOBINLINE), if the sender tells of it first: no
    /// protocol that is understood here makes use of urgent data, and what a receiver will do with it nobody knows.
    pub fn with_last_urgent(self) -> (Segment<'a>, Segment<'static>) {
        let len = self.len.saturating_sub(1);
        let before = Segment {
            len,
            payload: self.payload.get(..len as usize).unwrap_or(self.payload),
            ..self
        };
        let urgent = Segment {
            pos: self.pos + len,
            len: self.len - len,
            payload: &[],
            urgent: true,
            ..self
        };
        (before, urgent)
    }
}

/// A segment that waits, with its own copy of the bytes.
#[derive(Debug)]
pub struct Held {
    segment: Segment<'static>,
    payload: Box<[u8]>,
}

impl Held {
    /// A copy of this segment.
    pub fn new(segment: &Segment<'_>) -> Self {
        Held {
            segment: Segment {
                payload: &[],
                ..*segment
            },
            payload: segment.payload.into(),
        }
    }

    /// The segment.
    pub fn segment(&self) -> Segment<'_> {
        Segment {
            payload: &self.payload,
            ..self.segment
        }
    }
}

/// The state of one direction.
#[derive(Debug, Default, Clone, Copy)]
pub struct Stream {
    /// Sequence number of the byte at `ORIGIN`.
    base: u32,
    /// Position of the next byte to read.
    next: u64,
    started: bool,
    /// Something was read, or given up.
    moved: bool,
}

impl Stream {
    /// Whether any position is known.
    pub fn is_started(&self) -> bool {
        self.started
    }

    /// The stream begins with this sequence number; earlier knowledge stays.
    pub fn start(&mut self, sequence: u32) {
        if !self.started {
            *self = Stream {
                base: sequence,
                next: ORIGIN,
                started: true,
                ..Stream::default()
            };
        }
    }

    /// Position of the next byte to read.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The position of a sequence number, which wraps every 4 GiB: the nearest to what was read last (RFC 9293, 3.4).
    pub fn position(&self, sequence: u32) -> u64 {
        // A stream may begin before what was taken for its start.
        let expected = self.base.wrapping_add(self.next.wrapping_sub(ORIGIN) as u32);
        let distance = sequence.wrapping_sub(expected) as i32;
        self.next.saturating_add_signed(i64::from(distance))
    }

    /// How far a sequence number is from what comes next, in bytes.
    pub fn distance(&self, sequence: u32) -> u64 {
        self.position(sequence).abs_diff(self.next)
    }

    /// Marks everything before `end` as read. Returns how many bytes of the segment had been read before.
    pub fn advance(&mut self, segment: &Segment<'_>) -> u64 {
        // The recorder tells of a socket when its filter says yes, which may be within the first call that moves bytes:
        // where the stream stands by then is behind those bytes.
        if !self.moved {
            self.moved = true;
            if self.next - segment.pos.min(self.next) <= MAX_BEFORE {
                self.next = self.next.min(segment.pos);
            }
        }
        let seen = self.next.saturating_sub(segment.pos).min(segment.len);
        self.next = self.next.max(segment.end());
        seen
    }

    /// Gives up the bytes before `upto`. Returns the position and length of the gap, if there is one.
    pub fn give_up(&mut self, upto: u64) -> Option<(u64, u64)> {
        let gap = (upto > self.next).then(|| (self.next, upto - self.next))?;
        self.next = upto;
        self.moved = true;
        Some(gap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an end shows whole.
    fn segment(pos: u64, payload: &[u8]) -> Segment<'_> {
        Segment {
            pos,
            len: payload.len() as u64,
            payload,
            observer: 0,
            time: 0,
            pid: 0,
            tid: 0,
            cgroup: 0,
            urgent: false,
        }
    }

    #[test]
    fn sequence_numbers_wrap_without_a_gap() {
        let mut stream = Stream::default();
        stream.start(u32::MAX - 1);
        let pos = stream.position(u32::MAX - 1);
        let first = segment(pos, b"abcd");
        assert_eq!(stream.advance(&first), 0);
        assert_eq!(stream.position(2), stream.next());
        assert_eq!(stream.position(1), stream.next() - 1);
    }

    #[test]
    fn a_stream_may_begin_before_its_known_start() {
        let mut stream = Stream::default();
        stream.start(103);
        let early = segment(stream.position(100), b"abc");
        assert_eq!(stream.advance(&early), 0);
        assert_eq!(stream.position(103), stream.next());
        // Once something was read, what is before it was read too.
        let again = segment(stream.position(98), b"xx");
        assert_eq!(stream.advance(&again), 2);
        stream = Stream::default();
        stream.start(103);
        let zero = segment(stream.position(101), b"x");
        stream.advance(&zero);
        assert_eq!(stream.position(102), stream.next());
    }

    #[test]
    fn giving_up_tells_the_size_of_the_gap() {
        let mut stream = Stream::default();
        stream.start(0);
        let pos = stream.position(10);
        assert_eq!(stream.give_up(pos), Some((pos - 10, 10)));
        assert_eq!(stream.next(), pos);
        assert_eq!(stream.give_up(pos), None);
    }

    #[test]
    fn a_repeated_segment_is_read_once() {
        let mut stream = Stream::default();
        stream.start(0);
        let pos = stream.position(0);
        let once = segment(pos, b"abcd");
        assert_eq!(stream.advance(&once), 0);
        assert_eq!(stream.advance(&once), 4);
        let longer = segment(pos, b"abcdef");
        assert_eq!(stream.advance(&longer), 4);
    }

    #[test]
    fn the_last_byte_is_urgent_captured_or_not() {
        for payload in [&b"abc!"[..], b"abc", b"ab", b""] {
            let sent = Segment {
                len: 4,
                ..segment(10, payload)
            };
            let (before, urgent) = sent.with_last_urgent();
            assert_eq!((before.pos, before.len, before.urgent), (10, 3, false));
            assert_eq!(before.payload, &payload[..payload.len().min(3)]);
            assert_eq!((urgent.pos, urgent.len, urgent.urgent), (13, 1, true));
        }
    }
}
