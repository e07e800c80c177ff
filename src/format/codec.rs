//! The inside of records: the only file that names bincode's functions.
//!
//! bincode fills what SPEC.md calls a body, nothing else: frames, blocks and checksums are ours. It always runs with a
//! limit, because a false length could otherwise ask for any amount of memory. The derives are at the structs of
//! `record` and `header`.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bincode::enc::write::Writer;
use bincode::error::EncodeError;

use super::header::Header;
use super::kind::Kind;
use super::layout::{RECORD_LIMIT, u32_at, u64_at};
use super::record::{Cut, Data, Direction, Layer, Record};

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
        Record::Data(r) => {
            encode_data(r, out.0);
            Ok(())
        }
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
        Record::Remark(r) => bincode::encode_into_writer(r, out, CONFIG),
    };
    debug_assert!(done.is_ok());
}

/// Reads the body of a record; slices and strings borrow from `body`. Bytes after the last known field are fields of
/// a later version and are passed over.
#[inline]
pub fn decode(kind: Kind, body: &[u8]) -> Result<Record<'_>, Malformed> {
    if body.len() > RECORD_LIMIT {
        return Err(Malformed);
    }
    Ok(match kind {
        Kind::Data => Record::Data(decode_data(body).ok_or(Malformed)?),
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
        Kind::Remark => Record::Remark(inside(body)?),
    })
}

#[inline]
fn inside<'a, T: bincode::BorrowDecode<'a, ()>>(body: &'a [u8]) -> Result<T, Malformed> {
    match bincode::borrow_decode_from_slice(body, CONFIG) {
        Ok((inside, _)) => Ok(inside),
        Err(_) => Err(Malformed),
    }
}

/// Length of a data record's fixed fields before the payload, the length of that included.
const DATA_FIXED: usize = 50;

/// [`Data`] by hand, in one copy: nearly all records are data, and bincode takes three times as long. A test holds the two
/// together. The layer comes last, and where it is the wire it is left out (SPEC.md).
#[inline]
fn encode_data(r: &Data<'_>, out: &mut Vec<u8>) {
    let mut fixed = [0; DATA_FIXED];
    fixed[0..8].copy_from_slice(&r.time.to_le_bytes());
    fixed[8..16].copy_from_slice(&r.id.to_le_bytes());
    fixed[16..20].copy_from_slice(&r.pos.to_le_bytes());
    fixed[20..24].copy_from_slice(&r.len.to_le_bytes());
    fixed[24..28].copy_from_slice(&r.pid.to_le_bytes());
    fixed[28..32].copy_from_slice(&r.tid.to_le_bytes());
    fixed[32..40].copy_from_slice(&r.cgroup.to_le_bytes());
    fixed[40] = r.direction.byte();
    fixed[41] = r.cut.byte();
    fixed[42..50].copy_from_slice(&(r.payload.len() as u64).to_le_bytes());
    out.extend_from_slice(&fixed);
    out.extend_from_slice(r.payload);
    if r.layer != Layer::Wire {
        out.push(r.layer.byte());
    }
}

/// The other way of [`encode_data`]; nothing when it is malformed.
#[inline]
pub fn decode_data(body: &[u8]) -> Option<Data<'_>> {
    if body.len() > RECORD_LIMIT {
        return None;
    }
    let (fixed, rest) = body.split_first_chunk::<DATA_FIXED>()?;
    let len = usize::try_from(u64_at(fixed, 42)).ok()?;
    let (payload, rest) = rest.split_at_checked(len)?;
    Some(Data {
        time: u64_at(fixed, 0),
        id: u64_at(fixed, 8),
        pos: u32_at(fixed, 16),
        len: u32_at(fixed, 20),
        pid: u32_at(fixed, 24),
        tid: u32_at(fixed, 28),
        cgroup: u64_at(fixed, 32),
        direction: Direction::from(fixed[40]),
        cut: Cut::from(fixed[41]),
        payload,
        layer: rest.first().map_or(Layer::Wire, |byte| Layer::from(*byte)),
    })
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

#[cfg(test)]
mod tests {
    use bincode::{BorrowDecode, Encode};
    use proptest::prelude::*;

    use super::*;

    /// The fields that every data record has, for bincode.
    #[derive(Encode, BorrowDecode)]
    struct Fields<'a> {
        time: u64,
        id: u64,
        pos: u32,
        len: u32,
        pid: u32,
        tid: u32,
        cgroup: u64,
        direction: Direction,
        cut: Cut,
        payload: &'a [u8],
    }

    /// What bincode alone would read, and the rest.
    fn by_bincode(body: &[u8]) -> Option<Data<'_>> {
        let (f, len): (Fields<'_>, usize) = bincode::borrow_decode_from_slice(body, CONFIG).ok()?;
        let layer = body.get(len).map_or(Layer::Wire, |byte| Layer::from(*byte));
        Some(Data {
            time: f.time,
            id: f.id,
            pos: f.pos,
            len: f.len,
            pid: f.pid,
            tid: f.tid,
            cgroup: f.cgroup,
            direction: f.direction,
            cut: f.cut,
            payload: f.payload,
            layer,
        })
    }

    /// What bincode alone would write.
    fn to_bincode(r: &Data<'_>) -> Vec<u8> {
        let fields = Fields {
            time: r.time,
            id: r.id,
            pos: r.pos,
            len: r.len,
            pid: r.pid,
            tid: r.tid,
            cgroup: r.cgroup,
            direction: r.direction,
            cut: r.cut,
            payload: r.payload,
        };
        bincode::encode_to_vec(fields, CONFIG).expect("memory")
    }

    proptest! {
        #[test]
        fn data_by_hand_reads_what_bincode_reads(mut body in prop::collection::vec(any::<u8>(), 0..90), len in 0u64..60) {
            if let Some(field) = body.get_mut(42..50) {
                field.copy_from_slice(&len.to_le_bytes());
            }
            prop_assert_eq!(decode_data(&body), by_bincode(&body));
        }

        #[test]
        fn data_by_hand_writes_what_bincode_writes(body in prop::collection::vec(any::<u8>(), 50..90)) {
            let mut body = body;
            let len = body.len() as u64 - 50;
            body[42..50].copy_from_slice(&len.to_le_bytes());
            let data = decode_data(&body).expect("whole");
            let mut by_hand = Vec::new();
            encode_data(&data, &mut by_hand);
            prop_assert_eq!(&by_hand, &body);
            prop_assert_eq!(to_bincode(&data), by_hand);
        }

        #[test]
        fn a_layer_is_one_byte_behind_the_payload_and_none_where_it_is_the_wire(body in prop::collection::vec(any::<u8>(), 50..90), byte in any::<u8>()) {
            let mut body = body;
            let len = body.len() as u64 - 50;
            body[42..50].copy_from_slice(&len.to_le_bytes());
            let wire = decode_data(&body).expect("whole");
            prop_assert_eq!(wire.layer, Layer::Wire);
            let data = Data { layer: Layer::from(byte), ..wire };
            let mut stored = Vec::new();
            encode_data(&data, &mut stored);
            prop_assert_eq!(decode_data(&stored), Some(data));
            body.extend((byte != 0).then_some(byte));
            prop_assert_eq!(stored, body);
        }
    }
}
