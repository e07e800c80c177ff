//! Tests whether the loaded programs record what they should: one connection of our own over loopback, checked byte by
//! byte.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::wire;
use crate::format::record::{Cut, Direction, Endpoint, Record};
use crate::record::source::Tested;
use crate::record::source::object::Loaded;
use crate::record::source::wire::Fields;

/// How long the events may take.
const PATIENCE: Duration = Duration::from_millis(1500);

const PLAIN: &[u8] = b"mdf self-test, plain write";
const PIECES: [&[u8]; 3] = [b"in ", b"three ", b"pieces"];
const ANSWER: &[u8] = b"and back again";

/// The bytes of a stream; None for those beyond the snaplen.
type Bytes = Vec<Option<u8>>;

/// What the programs recorded: the ids of the two ends, and the data.
#[derive(Default)]
struct Received {
    client: Option<u64>,
    server: Option<u64>,
    data: Vec<(u64, Direction, u32, Bytes)>,
}

impl Received {
    fn take(&mut self, bytes: &[u8], client: &Endpoint, server: &Endpoint) {
        match Fields::of(bytes).and_then(wire::decode) {
            Ok(Record::Socket(socket)) if (socket.local, socket.remote) == (*client, *server) => {
                self.client = Some(socket.id);
            }
            Ok(Record::Socket(socket)) if (socket.local, socket.remote) == (*server, *client) => {
                self.server = Some(socket.id);
            }
            Ok(Record::Data(data)) if data.cut == Cut::Whole || data.cut == Cut::Snaplen => {
                let mut bytes: Bytes = data.payload.iter().copied().map(Some).collect();
                bytes.resize(data.len as usize, None);
                self.data.push((data.id, data.direction, data.pos, bytes));
            }
            _ => {}
        }
    }

    /// The first position and all bytes of one end and direction, if it has no holes.
    fn stream(&self, id: Option<u64>, direction: Direction) -> Option<(u32, Bytes)> {
        let mut pieces = self
            .data
            .iter()
            .filter(|(of, way, ..)| Some(*of) == id && *way == direction);
        let (_, _, start, first) = pieces.next()?;
        let mut bytes = first.clone();
        for (_, _, pos, piece) in pieces {
            if *pos != start.wrapping_add(bytes.len() as u32) {
                return None;
            }
            bytes.extend(piece);
        }
        Some((*start, bytes))
    }

    fn complete(&self) -> Result<(), String> {
        let request = [PLAIN, &PIECES.concat()].concat();
        for (what, sent, received, expected) in [
            (
                "the request",
                (self.client, "client"),
                (self.server, "server"),
                &request[..],
            ),
            ("the answer", (self.server, "server"), (self.client, "client"), ANSWER),
        ] {
            let out = self.stream(sent.0, Direction::Sent);
            let into = self.stream(received.0, Direction::Received);
            let (Some(out), Some(into)) = (out, into) else {
                return Err(format!("{what} was not recorded at both ends"));
            };
            let right = |received: &Bytes| {
                received.len() == expected.len()
                    && received.iter().zip(expected).all(|(h, e)| h.is_none_or(|h| h == *e))
            };
            if !right(&out.1) || !right(&into.1) {
                return Err(format!("{what} was recorded with other bytes than were sent"));
            }
            if out.0 != into.0 {
                return Err(format!(
                    "{what} has other positions at the {} than at the {}",
                    sent.1, received.1
                ));
            }
        }
        Ok(())
    }
}

/// Makes the connection and waits for its events.
pub fn run(loaded: &Loaded) -> Tested {
    let (client, server, talk) = match connect() {
        Ok(made) => made,
        Err(error) => return Tested::NotMade(format!("no connection over loopback: {error}")),
    };
    let received = Arc::new(Mutex::new(Received::default()));
    let sink = Arc::clone(&received);
    let each = move |bytes: &[u8]| {
        sink.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(bytes, &client, &server);
    };
    let ring = match loaded.ring(each) {
        Ok(ring) => ring,
        Err(error) => return Tested::Wrong(format!("the ring cannot be read: {error}")),
    };
    if let Err(error) = exchange(talk) {
        return Tested::NotMade(format!("no traffic over loopback: {error}"));
    }
    let until = Instant::now() + PATIENCE;
    loop {
        let failed = ring.consume_raw() < 0;
        let complete = received.lock().unwrap_or_else(PoisonError::into_inner).complete();
        match complete {
            Ok(()) => return Tested::Right,
            Err(why) if failed || Instant::now() > until => return Tested::Wrong(why),
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

fn connect() -> io::Result<(Endpoint, Endpoint, (TcpStream, TcpStream))> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let at = listener.local_addr()?;
    let client = TcpStream::connect_timeout(&at, PATIENCE)?;
    let (server, _) = listener.accept()?;
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
    }
    let from = client.local_addr()?;
    Ok((
        Endpoint::new(from.ip(), from.port()),
        Endpoint::new(at.ip(), at.port()),
        (client, server),
    ))
}

/// One plain write, one writev, one answer; each read in whole.
fn exchange((mut client, mut server): (TcpStream, TcpStream)) -> io::Result<()> {
    client.write_all(PLAIN)?;
    let sent = client.write_vectored(&PIECES.map(IoSlice::new))?;
    let mut request = vec![0; PLAIN.len() + sent];
    server.read_exact(&mut request)?;
    server.write_all(ANSWER)?;
    let mut answer = [0; ANSWER.len()];
    client.read_exact(&mut answer)
}
