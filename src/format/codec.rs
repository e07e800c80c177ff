//! The inside of records: the only file that names bincode's functions.
//!
//! bincode fills what SPEC.md calls a body, nothing else: frames, blocks and checksums are ours. It always runs with a
//! limit, because a lying length could otherwise ask for any amount of memory. The derives stand at the structs of
//! `record` and `header`.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bincode::enc::write::Writer;
use bincode::error::EncodeError;

use super::header::Header;
use super::kind::Kind;
use super::layout::RECORD_LIMIT;
use super::record::Record;

/// Little-endian, fixed width (decodes several times faster than variable width, and zstd evens out the size).
const CONFIG: Configuration<LittleEndian, Fixint, Limit<RECORD_LIMIT>> = bincode::config::standard()
    .with_little_endian()
    .with_fixed_int_encoding()
    .with_limit::<RECORD_LIMIT>();

/// The bytes are not a record of the kind that they claim to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

struct Append<'a>(&'a mut Vec<u8>);

impl Writer for Append<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// Appends the body of a record. Writing to memory cannot fail; the caller checks the length.
#[inline]
pub fn encode(record: &Record<'_>, out: &mut Vec<u8>) {
    let out = Append(out);
    let done = match record {
        Record::Data(r) => bincode::encode_into_writer(r, out, CONFIG),
        Record::Process(r) => bincode::encode_into_writer(r, out, CONFIG),
        Record::Cgroup(r) => bincode::encode_into_writer(r, out, CONFIG),
        Record::Workload(r) => bincode::encode_into_writer(r, out, CONFIG),
        Record::Address(r) => bincode::encode_into_writer(r, out, CONFIG),
        Record::Socket(r) => bincode::encode_into_writer(r, out, CONFIG),
        Record::Owner(r) => bincode::encode_into_writer(r, out, CONFIG),
        Record::Exit(r) => bincode::encode_into_writer(r, out, CONFIG),
        Record::Connect(r) => bincode::encode_into_writer(r, out, CONFIG),
        Record::Close(r) => bincode::encode_into_writer(r, out, CONFIG),
        Record::Loss(r) => bincode::encode_into_writer(r, out, CONFIG),
        Record::Clock(r) => bincode::encode_into_writer(r, out, CONFIG),
    };
    debug_assert!(done.is_ok());
}

/// Reads the body of a record; slices and strings borrow from `body`. Bytes after the last known field are fields of
/// a later version and are passed over.
#[inline]
pub fn decode(kind: Kind, body: &[u8]) -> Result<Record<'_>, Malformed> {
    Ok(match kind {
        Kind::Data => Record::Data(inside(body)?),
        Kind::Process => Record::Process(inside(body)?),
        Kind::Cgroup => Record::Cgroup(inside(body)?),
        Kind::Workload => Record::Workload(inside(body)?),
        Kind::Address => Record::Address(inside(body)?),
        Kind::Socket => Record::Socket(inside(body)?),
        Kind::Owner => Record::Owner(inside(body)?),
        Kind::Exit => Record::Exit(inside(body)?),
        Kind::Connect => Record::Connect(inside(body)?),
        Kind::Close => Record::Close(inside(body)?),
        Kind::Loss => Record::Loss(inside(body)?),
        Kind::Clock => Record::Clock(inside(body)?),
    })
}

#[inline]
fn inside<'a, T: bincode::BorrowDecode<'a, ()>>(body: &'a [u8]) -> Result<T, Malformed> {
    match bincode::borrow_decode_from_slice(body, CONFIG) {
        Ok((inside, _)) => Ok(inside),
        Err(_) => Err(Malformed),
    }
}

/// The body of a file header.
pub fn encode_header(header: &Header) -> Vec<u8> {
    let mut out = Vec::new();
    let done = bincode::encode_into_writer(header, Append(&mut out), CONFIG);
    debug_assert!(done.is_ok());
    out
}

/// Reads the body of a file header.
pub fn decode_header(body: &[u8]) -> Result<Header, Malformed> {
    inside(body)
}
