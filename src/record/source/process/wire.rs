//! The ring records of processes and cgroups. Pure; no IO, no unsafe.

use crate::format::record::{Cgroup, Exit, Origin, Process, Record};
use crate::record::source::wire::{Fields, WireError};

/// Those of `enum mdf_kind` that are of this source.
pub(in crate::record::source) mod kind {
    pub const PROCESS: u16 = 1;
    pub const EXIT: u16 = 2;
    pub const CGROUP: u16 = 3;
}

/// Reads one ring record. Borrows names from it.
#[inline]
pub(in crate::record::source) fn decode(f: Fields<'_>) -> Result<Record<'_>, WireError> {
    match f.kind {
        kind::PROCESS => process(f),
        kind::EXIT => exit(f),
        kind::CGROUP => cgroup(f),
        kind => Err(WireError::Kind { kind }),
    }
}

/// `struct mdf_process`.
fn process(mut f: Fields<'_>) -> Result<Record<'_>, WireError> {
    let origin = Origin::from(f.u8()?);
    f.u8()?;
    let pid = f.u32()?;
    let time = f.u64()?;
    let start = f.u64()?;
    let cgroup = f.u64()?;
    let ppid = f.u32()?;
    let pid_in_ns = f.u32()?;
    let uid = f.u32()?;
    let netns = f.u32()?;
    let comm = f.bytes(16)?;
    let exe_len = f.u32()?;
    let argv_len = f.u32()?;
    let argv_total = f.u32()?;
    f.u32()?;
    let exe = f.tail(exe_len)?;
    let argv = f.tail(argv_len)?;
    let comm = comm.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(Record::Process(Process {
        time,
        origin,
        pid,
        ppid,
        pid_in_ns,
        start,
        uid,
        cgroup,
        netns,
        comm,
        exe,
        argv,
        argv_len: argv_total,
    }))
}

/// `struct mdf_exit`.
fn exit(mut f: Fields<'_>) -> Result<Record<'_>, WireError> {
    f.u16()?;
    let pid = f.u32()?;
    let time = f.u64()?;
    let start = f.u64()?;
    let status = f.u32()?;
    Ok(Record::Exit(Exit {
        time,
        pid,
        start,
        status,
    }))
}

/// `struct mdf_cgroup`.
fn cgroup(mut f: Fields<'_>) -> Result<Record<'_>, WireError> {
    f.u16()?;
    let path_len = f.u32()?;
    let time = f.u64()?;
    let id = f.u64()?;
    let path = f.tail(path_len)?;
    Ok(Record::Cgroup(Cgroup { time, id, path }))
}
