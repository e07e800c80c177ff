//! The loaded eBPF object: settings in, programs and maps out. One backend at a time.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use libbpf_rs::{
    ErrorExt, Link, Map, MapCore, MapFlags, MapHandle, Object, ObjectBuilder, PrintLevel, ProgramInput, ProgramType,
    RingBuffer, RingBufferBuilder,
};
use std::os::fd::{AsRawFd, IntoRawFd};

use super::config::{Command, Config, MAX_SNAPLEN};
use super::kallsyms;
use super::kretprobe::Kretprobes;
use super::monitor::{KernelLosses, Monitor};
use super::plan::{CGROUP_ENTERED, FIND_PAGES, Hook, Plan, Planned, STATE_NOPREEMPT, Uses, WHOAMI};
use super::wire::{Control, Followed};
use crate::record::cgroup::{TRUE_ROOT, Tree};
use crate::record::identity::Identity;
use crate::record::kernelfs::Mount;

/// The kernel side, packed by zstd.
pub(super) static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/probe.bpf.o.zst"));

/// Limit of `struct mdf_config`.
pub(super) const MAX_FIXED_CGROUPS: usize = 4;

pub struct Loaded {
    links: Vec<Link>,
    /// Dropped after the links that use them.
    kretprobes: Option<Kretprobes>,
    /// Dropped after the kretprobes that use it.
    tracefs: Option<Mount>,
    object: Arc<Object>,
    plan: Arc<Plan>,
    /// What the self-test lost is no loss of the recording.
    lost_before: KernelLosses,
}

/// What libbpf printed while loading: the verifier's reasons. libbpf has one callback for the whole process.
static LIBBPF_LOG: Mutex<String> = Mutex::new(String::new());

fn libbpf_log() -> MutexGuard<'static, String> {
    LIBBPF_LOG.lock().unwrap_or_else(PoisonError::into_inner)
}

fn keep_libbpf_log() {
    libbpf_rs::set_print(Some((PrintLevel::Warn, |_, text| {
        let mut log = libbpf_log();
        if log.len() < 1 << 16 {
            log.push_str(&text);
        }
    })));
}

/// What libbpf printed since the last call.
pub fn take_libbpf_log() -> String {
    std::mem::take(&mut *libbpf_log())
}

fn io_error(error: libbpf_rs::Error) -> io::Error {
    io::Error::other(error)
}

/// `struct mdf_config` of bpf/event.h.
pub(super) fn settings(config: &Config, levels: Option<&[u32]>, plan: &Plan, uses: Uses) -> Vec<u8> {
    let filter = &config.filter;
    let fixed = !filter.dynamic && levels.is_some() && filter.cgroups.len() <= MAX_FIXED_CGROUPS;
    let cgroup_filter = !filter.cgroups.is_empty() || (filter.dynamic && filter.pids.is_empty());
    let mut bytes = Vec::new();
    let mut word = |value: u32| bytes.extend(value.to_ne_bytes());
    word(config.snaplen.min(MAX_SNAPLEN));
    word(libbpf_rs::num_possible_cpus().unwrap_or(1) as u32);
    word((ring_size(config) / 4) as u32);
    word(filter.netns.unwrap_or(0));
    word(u32::from(!filter.pids.is_empty() || filter.command.is_some()));
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
    bytes.extend(u32::from(!filter.ports.is_empty()).to_ne_bytes());
    bytes.extend(u32::from(plan.has(STATE_NOPREEMPT)).to_ne_bytes());
    // A choice among cgroups at run time needs to see each of them.
    bytes.extend(u32::from(filter.dynamic).to_ne_bytes());
    bytes.extend(u32::from(uses.plain_loads).to_ne_bytes());
    bytes.extend(u32::from(filter.command.is_some()).to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    bytes
}

/// `wanted_ports` of bpf/maps.h.
fn port_bits(ports: &[u16]) -> Vec<u8> {
    let mut bits = vec![0; 65_536 / 8];
    for port in ports {
        bits[usize::from(port / 8)] |= 1 << (port % 8);
    }
    bits
}

/// Whether followed processes may be outside of the filter's cgroups from the beginning, or could leave them unseen.
fn has_strays(config: &Config, plan: &Plan) -> bool {
    config.filter.command == Some(Command::Anywhere) || !config.filter.pids.is_empty() || !plan.has(CGROUP_ENTERED)
}

/// The depths of the cgroups of the filter below the true root of the hierarchy, so that the kernel side can compare
/// ancestors without looking into a map. None when that is not known: in a cgroup namespace the root that we see is
/// somewhere below it.
fn cgroup_levels(config: &Config) -> Option<Vec<u32>> {
    if config.filter.cgroups.is_empty() {
        return Some(Vec::new());
    }
    // Tracing programs may call it since 5.11 or so.
    let helper = libbpf_rs::libbpf_sys::BPF_FUNC_get_current_ancestor_cgroup_id;
    if !ProgramType::RawTracepoint.is_helper_supported(helper).unwrap_or(false) {
        return None;
    }
    let tree = Tree::find(None)?;
    if tree.id(b"/").ok()? != TRUE_ROOT {
        return None;
    }
    let paths = tree.by_id();
    let depth = |path: &Vec<u8>| path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).count() as u32;
    config
        .filter
        .cgroups
        .iter()
        .map(|id| paths.get(id).map(depth))
        .collect()
}

/// The ring's size: a power of two, at least one page of every architecture.
fn ring_size(config: &Config) -> usize {
    config.buffer_size.clamp(64 << 10, 1 << 30).next_power_of_two()
}

impl Loaded {
    /// Opens, configures, loads and attaches one backend. For the self-test at first: nothing but this process's own
    /// thread group is recorded until [`Loaded::go`].
    pub fn new(plan: Plan, config: &Config) -> Result<Loaded, libbpf_rs::Error> {
        let plan = Arc::new(plan);
        let loaded = Loaded::load(&plan, config, plan.uses);
        // Only what the verifier refuses is tried with less.
        if loaded.is_ok() || plan.uses == Uses::default() || !libbpf_log().contains("PROG LOAD LOG") {
            return loaded;
        }
        Loaded::load(&plan, config, Uses::default())
    }

    fn load(plan: &Arc<Plan>, config: &Config, uses: Uses) -> Result<Loaded, libbpf_rs::Error> {
        keep_libbpf_log();
        take_libbpf_log();
        let object =
            zstd::decode_all(OBJECT).map_err(|error| libbpf_rs::Error::from(error).context("the kernel side"))?;
        let mut open = ObjectBuilder::default().open_memory(&object)?;
        for mut map in open.maps_mut() {
            match map.name().to_str() {
                Some(".rodata.config") => {
                    map.set_initial_value(&settings(config, cgroup_levels(config).as_deref(), plan, uses))?;
                }
                Some(".rodata.ports") => map.set_initial_value(&port_bits(&config.filter.ports))?,
                Some(".data.strays") => {
                    map.set_initial_value(&u32::from(has_strays(config, plan)).to_ne_bytes())?;
                }
                Some("ring") => map.set_max_entries(ring_size(config) as u32)?,
                Some("sockets" | "seeds") => map.set_max_entries(config.max_sockets.max(16))?,
                _ => {}
            }
        }
        for mut program in open.progs_mut() {
            let name = program.name();
            program.set_autoload(name.to_str().is_some_and(|name| name == WHOAMI || plan.has(name)));
        }
        let object = Arc::new(open.load()?);
        let mut loaded = Loaded {
            object,
            plan: plan.clone(),
            links: Vec::new(),
            kretprobes: None,
            tracefs: None,
            lost_before: KernelLosses::default(),
        };
        loaded.program(WHOAMI)?.test_run(ProgramInput::default())?;
        loaded.change_control(|control| control.only_self = 1)?;
        for id in &config.filter.cgroups {
            loaded.put("wanted_cgroups", &id.to_ne_bytes(), &1u32.to_ne_bytes())?;
        }
        for process in &config.filter.pids {
            loaded.follow(*process)?;
        }
        loaded.attach(plan)?;
        loaded.find_pages(plan)?;
        Ok(loaded)
    }

    /// Gives the programs the addresses of the kernel's pages. Reading /proc/kallsyms can take the better part of a second,
    /// so it is waited for only a while; until it is done, payload in pages is not read.
    fn find_pages(&self, plan: &Plan) -> Result<(), libbpf_rs::Error> {
        let reads_pages = |hook: Hook| {
            matches!(
                hook,
                Hook::Exit(_) | Hook::Kprobe(_) | Hook::Tracepoint("tcp_sendmsg_locked")
            )
        };
        if !plan.programs.iter().any(|planned| reads_pages(planned.hook)) {
            return Ok(());
        }
        if plan.programs.iter().any(|planned| planned.hook == Hook::Call)
            && self
                .program(FIND_PAGES)?
                .test_run(ProgramInput::default())?
                .return_value
                == 0
        {
            return Ok(());
        }
        let map = MapHandle::try_from(&self.map(".data.pages")?)?;
        let (done, wait) = mpsc::channel();
        std::thread::spawn(move || {
            if let Some(pages) = kallsyms::pages() {
                let value: Vec<u8> = pages.into_iter().flat_map(u64::to_ne_bytes).collect();
                // The programs may be gone by now.
                let _ = map.update(&0u32.to_ne_bytes(), &value, MapFlags::ANY);
            }
            let _ = done.send(());
        });
        let _ = wait.recv_timeout(Duration::from_millis(400));
        Ok(())
    }

    /// The self-test is over: record what the filter selects.
    pub fn go(&mut self) -> io::Result<()> {
        self.lost_before = self.monitor().losses()?;
        // What this process did since the test had seen enough, such as closing its connection.
        self.ring(|_| {})?.consume_raw();
        self.change_control(|control| control.only_self = 0).map_err(io_error)
    }

    fn attach(&mut self, plan: &Plan) -> Result<(), libbpf_rs::Error> {
        let any = |is: fn(&Hook) -> bool| plan.programs.iter().any(|planned| is(&planned.hook));
        if any(|hook| matches!(hook, Hook::Kretprobe(_) | Hook::Event(..))) {
            self.tracefs = Mount::tracefs();
        }
        if any(|hook| matches!(hook, Hook::Kretprobe(_))) {
            self.kretprobes = self.tracefs.as_ref().map(Kretprobes::new);
        }
        for planned in plan.programs.iter().filter(|planned| planned.hook != Hook::Call) {
            let attached = self.attach_one(planned);
            match attached {
                Ok(link) => self.links.push(link),
                Err(error) if planned.required => {
                    return Err(error.context(format!("{} cannot be attached", planned.program)));
                }
                Err(_) => {}
            }
        }
        Ok(())
    }

    fn attach_one(&mut self, planned: &Planned) -> Result<Link, libbpf_rs::Error> {
        if let (Hook::Kretprobe(function), Some(kretprobes)) = (planned.hook, &mut self.kretprobes)
            && let Ok(event) = kretprobes.add(function)
        {
            let group = kretprobes.group().to_string();
            return self.attach_event(planned.program, &group, &event);
        }
        if let Hook::Event(group, name) = planned.hook {
            return self.attach_event(planned.program, group, name);
        }
        self.program(planned.program)?.attach()
    }

    /// As libbpf does it, but wherever tracefs is.
    fn attach_event(&self, program: &str, group: &str, name: &str) -> Result<Link, libbpf_rs::Error> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, "no tracefs");
        let event = self.tracefs.as_ref().ok_or_else(missing)?.event(group, name)?;
        let link = self.program(program)?.attach_perf_event(event.as_raw_fd())?;
        // Now it is the link's.
        let _ = event.into_raw_fd();
        Ok(link)
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

    pub fn follow(&self, process: Identity) -> io::Result<()> {
        let value = Followed {
            start: process.start,
            of_command: false,
        };
        self.put_io("followed", &process.pid.to_ne_bytes(), &value.bytes())
    }

    fn control(&self) -> Result<Control, libbpf_rs::Error> {
        let value = self
            .map(".data.control")?
            .lookup(&0u32.to_ne_bytes(), MapFlags::ANY)?
            .unwrap_or_default();
        Ok(Control::read(&value).unwrap_or_default())
    }

    fn change_control(&self, change: impl FnOnce(&mut Control)) -> Result<(), libbpf_rs::Error> {
        let mut control = self.control()?;
        change(&mut control);
        self.put(".data.control", &0u32.to_ne_bytes(), &control.bytes())
    }

    pub fn own_tgid(&self) -> u32 {
        self.control().map_or(0, |control| control.own_tgid)
    }

    /// Cached verdicts about cgroups count no more.
    pub fn cgroups_changed(&self) -> io::Result<()> {
        let newer = |control: &mut Control| control.cgroup_generation = control.cgroup_generation.wrapping_add(1);
        self.change_control(newer).map_err(io_error)
    }

    /// What can be read of it on other threads.
    pub fn monitor(&self) -> Monitor {
        Monitor {
            object: self.object.clone(),
            plan: self.plan.clone(),
            kretprobes: self.kretprobes.as_ref().map(Kretprobes::profile),
            lost_before: self.lost_before.clone(),
        }
    }

    pub fn ring<'cb>(&self, mut each: impl FnMut(&[u8]) + 'cb) -> io::Result<RingBuffer<'cb>> {
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
