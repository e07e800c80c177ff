//! The loaded eBPF object: settings in, programs and maps out. One backend at a time.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use libbpf_rs::{
    Link, Map, MapCore, MapFlags, Object, ObjectBuilder, PrintLevel, ProgramInput, RingBuffer, RingBufferBuilder,
};
use std::os::fd::{AsFd, AsRawFd};

use super::probe::{Backend, Config, Count, KernelLosses, MAX_SNAPLEN};

static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/probe.bpf.o"));

/// Programs that every backend needs.
const LIFECYCLE: &[&str] = &[
    "state_changed",
    "socket_destroyed",
    "process_forked",
    "process_executed",
    "process_exited",
    "whoami",
];
/// Programs that add something where their tracepoint exists.
const OPTIONAL: &[&str] = &["retransmitted", "cgroup_made"];

/// The programs of a backend: all must load and attach.
fn programs(backend: Backend) -> &'static [&'static str] {
    match backend {
        Backend::Socktp => &["socktp_sent", "socktp_received"],
        Backend::Fexit | Backend::Kprobe | Backend::Systp => &[],
    }
}

/// Limits of `struct mdf_config`.
pub const MAX_PORTS: usize = 16;
const MAX_FIXED_CGROUPS: usize = 4;

pub struct Loaded {
    object: Object,
    links: Vec<Link>,
}

/// What libbpf said while loading: the verifier's reasons. libbpf has one callback for the whole process.
static SAID: Mutex<String> = Mutex::new(String::new());

fn said() -> MutexGuard<'static, String> {
    SAID.lock().unwrap_or_else(PoisonError::into_inner)
}

fn listen_to_libbpf() {
    libbpf_rs::set_print(Some((PrintLevel::Warn, |_, text| {
        let mut said = said();
        if said.len() < 1 << 16 {
            said.push_str(&text);
        }
    })));
}

/// What libbpf said since the last call.
pub fn take_said() -> String {
    std::mem::take(&mut *said())
}

fn io_error(error: libbpf_rs::Error) -> io::Error {
    io::Error::other(error)
}

/// `struct mdf_config` of bpf/event.h.
fn settings(config: &Config, levels: Option<&[u32]>) -> Vec<u8> {
    let filter = &config.filter;
    let fixed = !filter.dynamic && levels.is_some() && filter.cgroups.len() <= MAX_FIXED_CGROUPS;
    let cgroup_filter = !filter.cgroups.is_empty() || (filter.dynamic && filter.pids.is_empty());
    let mut bytes = Vec::new();
    let mut word = |value: u32| bytes.extend(value.to_ne_bytes());
    word(config.snaplen.min(MAX_SNAPLEN));
    word(libbpf_rs::num_possible_cpus().unwrap_or(1) as u32);
    word((ring_size(config) / 4) as u32);
    word(filter.netns.unwrap_or(0));
    word(u32::from(!filter.pids.is_empty()));
    word(u32::from(filter.comm.is_some()));
    let mut comm = [0; 16];
    for (to, from) in comm
        .iter_mut()
        .take(15)
        .zip(filter.comm.iter().flat_map(|comm| comm.bytes()))
    {
        *to = from;
    }
    bytes.extend(comm);
    bytes.extend((if fixed { filter.cgroups.len() as u32 } else { 0 }).to_ne_bytes());
    bytes.extend(u32::from(cgroup_filter && !fixed).to_ne_bytes());
    for i in 0..MAX_FIXED_CGROUPS {
        bytes.extend(filter.cgroups.get(i).copied().unwrap_or(0).to_ne_bytes());
    }
    for i in 0..MAX_FIXED_CGROUPS {
        bytes.extend(
            levels
                .and_then(|levels| levels.get(i))
                .copied()
                .unwrap_or(0)
                .to_ne_bytes(),
        );
    }
    bytes.extend((filter.ports.len().min(MAX_PORTS) as u32).to_ne_bytes());
    bytes.extend(1u32.to_ne_bytes());
    for i in 0..MAX_PORTS {
        bytes.extend(filter.ports.get(i).copied().unwrap_or(0).to_ne_bytes());
    }
    bytes
}

/// The ring's size: a power of two, at least one page of every architecture.
fn ring_size(config: &Config) -> usize {
    config.buffer_size.clamp(64 << 10, 1 << 30).next_power_of_two()
}

impl Loaded {
    /// Opens, configures, loads and attaches one backend.
    pub fn new(backend: Backend, config: &Config) -> Result<Loaded, libbpf_rs::Error> {
        listen_to_libbpf();
        take_said();
        let mut open = ObjectBuilder::default().open_memory(OBJECT)?;
        for mut map in open.maps_mut() {
            match map.name().to_str() {
                Some(".rodata.config") => map.set_initial_value(&settings(config, None))?,
                Some("ring") => map.set_max_entries(ring_size(config) as u32)?,
                Some("sockets" | "seeds") => map.set_max_entries(config.max_sockets.max(16))?,
                _ => {}
            }
        }
        for mut program in open.progs_mut() {
            let wanted = program.name().to_str().is_some_and(|name| {
                LIFECYCLE.contains(&name) || OPTIONAL.contains(&name) || programs(backend).contains(&name)
            });
            program.set_autoload(wanted);
        }
        let object = open.load()?;
        let mut loaded = Loaded {
            object,
            links: Vec::new(),
        };
        loaded.program("whoami")?.test_run(ProgramInput::default())?;
        for id in &config.filter.cgroups {
            loaded.put("wanted_cgroups", &id.to_ne_bytes(), &1u32.to_ne_bytes())?;
        }
        for pid in &config.filter.pids {
            loaded.put("followed", &pid.to_ne_bytes(), &1u32.to_ne_bytes())?;
        }
        loaded.attach(backend)?;
        Ok(loaded)
    }

    fn attach(&mut self, backend: Backend) -> Result<(), libbpf_rs::Error> {
        let mut links = Vec::new();
        for program in self.object.progs_mut() {
            let Some(name) = program.name().to_str() else { continue };
            if name == "whoami" {
                continue;
            }
            if LIFECYCLE.contains(&name) || programs(backend).contains(&name) {
                links.push(program.attach()?);
            } else if OPTIONAL.contains(&name) {
                links.extend(program.attach().ok());
            }
        }
        self.links = links;
        Ok(())
    }

    fn program(&self, name: &str) -> Result<libbpf_rs::ProgramMut<'_>, libbpf_rs::Error> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, format!("no program {name}"));
        self.object
            .progs_mut()
            .find(|program| program.name() == name)
            .ok_or_else(|| missing().into())
    }

    fn map(&self, name: &str) -> Result<Map<'_>, libbpf_rs::Error> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, format!("no map {name}"));
        self.object
            .maps()
            .find(|map| map.name() == name)
            .ok_or_else(|| missing().into())
    }

    fn put(&self, map: &str, key: &[u8], value: &[u8]) -> Result<(), libbpf_rs::Error> {
        self.map(map)?.update(key, value, MapFlags::ANY)
    }

    pub fn put_io(&self, map: &str, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.put(map, key, value).map_err(io_error)
    }

    pub fn remove_io(&self, map: &str, key: &[u8]) -> io::Result<()> {
        self.map(map).and_then(|map| map.delete(key)).map_err(io_error)
    }

    /// `struct control`: own thread group, generation of the wanted cgroups.
    fn control(&self) -> Result<(u32, u32), libbpf_rs::Error> {
        let value = self
            .map(".data.control")?
            .lookup(&0u32.to_ne_bytes(), MapFlags::ANY)?
            .unwrap_or_default();
        let mut words = value
            .chunks_exact(4)
            .map(|word| word.try_into().map_or(0, u32::from_ne_bytes));
        Ok((words.next().unwrap_or(0), words.next().unwrap_or(0)))
    }

    pub fn own_tgid(&self) -> u32 {
        self.control().map_or(0, |(own_tgid, _)| own_tgid)
    }

    /// Cached verdicts about cgroups count no more.
    pub fn cgroups_changed(&self) -> io::Result<()> {
        let (own_tgid, generation) = self.control().map_err(io_error)?;
        let mut value = own_tgid.to_ne_bytes().to_vec();
        value.extend(generation.wrapping_add(1).to_ne_bytes());
        self.put_io(".data.control", &0u32.to_ne_bytes(), &value)
    }

    /// The loss counters, added up over all CPUs.
    pub fn losses(&self) -> io::Result<KernelLosses> {
        let map = self.map("losses").map_err(io_error)?;
        let count = |reason: u32| -> io::Result<Count> {
            let values = map
                .lookup_percpu(&reason.to_ne_bytes(), MapFlags::ANY)
                .map_err(io_error)?
                .unwrap_or_default();
            let mut total = Count::default();
            for value in values {
                let mut words = value
                    .chunks_exact(8)
                    .map(|word| word.try_into().map_or(0, u64::from_ne_bytes));
                total.events += words.next().unwrap_or(0);
                total.bytes += words.next().unwrap_or(0);
            }
            Ok(total)
        };
        // The order of `enum mdf_loss`.
        Ok(KernelLosses {
            ring_full: count(0)?,
            map_full: count(1)?,
            page_fault: count(2)?,
            truncated: count(3)?,
            missed: Count {
                events: self.missed(),
                bytes: 0,
            },
        })
    }

    /// Runs that the kernel skipped because the program ran on that CPU already (told since 5.12).
    fn missed(&self) -> u64 {
        let of = |program: libbpf_rs::ProgramMut<'_>| -> Option<u64> {
            let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_fd().as_raw_fd())).ok()?;
            let line = info.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?;
            line.trim().parse().ok()
        };
        self.object
            .progs_mut()
            .filter(|program| program.autoload())
            .filter_map(of)
            .sum()
    }

    pub fn ring<'cb>(&self, mut each: impl FnMut(&[u8]) + Send + 'cb) -> io::Result<RingBuffer<'cb>> {
        let map = self.map("ring").map_err(io_error)?;
        let mut builder = RingBufferBuilder::new();
        let callback = move |bytes: &[u8]| {
            each(bytes);
            0
        };
        builder.add(&map, callback).map_err(io_error)?;
        builder.build().map_err(io_error)
    }

    pub fn detach(&mut self) {
        self.links.clear();
    }
}
