//! Compares the structs, enums and limits of bpf/ with their Rust twins, by the BTF of the compiled object.
//!
//! C gives the place of each field; the test puts another value into each, and the Rust side has to read it under the same
//! name, or to write the same bytes. So a field that was moved, resized, added or left out on one side is found.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::ops::Range;

use libbpf_rs::Btf;
use libbpf_rs::btf::types::{Array, Enum, Int, MemberAttr, Struct};
use libbpf_rs::btf::{BtfType, HasSize};

use super::config::{Command, Config, Filter, MAX_SNAPLEN};
use super::object::{self, MAX_FIXED_CGROUPS, OBJECT};
use super::plan::{Hook, Plan, Planned, STATE_NOPREEMPT, Uses, WHOAMI, must};
use super::process::wire::kind as process;
use super::tcp::wire as tcp;
use super::tcp::wire::kind;
use super::wire::{self, Control, Followed, loss};
use super::{SOURCES, decode};
use crate::format::record::{
    Cgroup, Close, Connect, Cut, Data, Direction, Ending, Endpoint, Exit, Layer, Opened, Origin, Owner, Process,
    Record, Role, Socket,
};
use crate::record::identity::Identity;
use crate::record::loss::Count;

/// Runs a check on the BTF of the object that is built into this program.
fn with_btf(check: impl FnOnce(&Btf<'_>)) {
    let object = zstd::decode_all(OBJECT).unwrap();
    check(&Btf::from_raw("probe", &object).unwrap().expect("the object has BTF"));
}

fn text(name: Option<&OsStr>) -> &str {
    name.and_then(OsStr::to_str).expect("named in UTF-8")
}

/// A C struct. Fields of structs inside of it are named as C names them: `ends.local`.
struct Layout {
    len: usize,
    fields: BTreeMap<String, Range<usize>>,
}

impl Layout {
    fn of(btf: &Btf<'_>, name: &str) -> Layout {
        let found: Struct<'_> = btf.type_by_name(name).unwrap_or_else(|| panic!("no struct {name}"));
        let mut fields = BTreeMap::new();
        collect(btf, &found, "", 0, &mut fields);
        Layout {
            len: found.size(),
            fields,
        }
    }

    /// The struct with these values, each as long as its field, and `padding` in all other places. Every field has to be
    /// there that is not padding by its name.
    fn bytes(&self, padding: u8, values: &[(&str, &[u8])]) -> Vec<u8> {
        let is_padding = |name: &str| name.rsplit('.').next().is_some_and(|last| last.starts_with("pad"));
        let mut expected: Vec<&str> = self.fields.keys().map(String::as_str).collect();
        expected.retain(|name| !is_padding(name));
        let mut given: Vec<&str> = values.iter().map(|(name, _)| *name).collect();
        given.sort_unstable();
        assert_eq!(given, expected, "the fields of C and the test");
        let mut bytes = vec![padding; self.len];
        for (name, value) in values {
            let range = self.fields[*name].clone();
            assert_eq!(range.len(), value.len(), "{name}");
            bytes[range].copy_from_slice(value);
        }
        bytes
    }
}

fn collect(btf: &Btf<'_>, of: &Struct<'_>, above: &str, base: usize, fields: &mut BTreeMap<String, Range<usize>>) {
    for member in of.iter() {
        let MemberAttr::Normal { offset } = member.attr else {
            panic!("a bit field")
        };
        let name = format!("{above}{}", text(member.name));
        let at = base + offset as usize / 8;
        let what: BtfType<'_> = btf.type_by_id(member.ty).expect("a type");
        match Struct::try_from(what.skip_mods_and_typedefs()) {
            Ok(inner) => collect(btf, &inner, &format!("{name}."), at, fields),
            Err(what) => drop(fields.insert(name, at..at + len(what))),
        }
    }
}

fn len(what: BtfType<'_>) -> usize {
    let what = what.skip_mods_and_typedefs();
    match (Int::try_from(what), Array::try_from(what)) {
        (Ok(int), _) => int.size(),
        (_, Ok(array)) => array.capacity() * len(array.contained_type()),
        _ => panic!("a field of kind {:?}", what.kind()),
    }
}

/// The words of an enum and their values.
fn values(btf: &Btf<'_>, name: &str) -> Vec<(String, i64)> {
    let found: Enum<'_> = btf.type_by_name(name).unwrap_or_else(|| panic!("no enum {name}"));
    let words = found.iter().map(|member| (text(member.name).to_owned(), member.value));
    words.collect()
}

macro_rules! ne {
    ($value:expr) => {
        &$value.to_ne_bytes()
    };
}

const LOCAL: Endpoint = Endpoint {
    ip: [0x11; 16],
    port: 0x1234,
};
const REMOTE: Endpoint = Endpoint {
    ip: [0x22; 16],
    port: 0x5678,
};

/// A ring record in C's layout with its variable part after it, as Rust reads it.
fn check_record(btf: &Btf<'_>, name: &str, fields: &[(&str, &[u8])], rest: &[u8], expected: Record<'_>) {
    let mut bytes = Layout::of(btf, name).bytes(0xff, fields);
    bytes.extend(rest);
    assert_eq!(decode(&bytes), Ok(expected), "{name}");
}

#[test]
fn process_and_exit_are_read_as_c_lays_them_out() {
    with_btf(|btf| {
        check_record(
            btf,
            "mdf_process",
            &[
                ("kind", ne!(process::PROCESS)),
                ("origin", &[Origin::Exec.byte()]),
                ("pid", ne!(1u32)),
                ("time", ne!(2u64)),
                ("start", ne!(3u64)),
                ("cgroup", ne!(4u64)),
                ("ppid", ne!(5u32)),
                ("pid_in_ns", ne!(6u32)),
                ("uid", ne!(7u32)),
                ("netns", ne!(8u32)),
                ("comm", b"name\0\0\0\0\0\0\0\0\0\0\0\0"),
                ("exe_len", ne!(4u32)),
                ("argv_len", ne!(3u32)),
                ("argv_total", ne!(9u32)),
            ],
            b"/exeabc",
            Record::Process(Process {
                time: 2,
                origin: Origin::Exec,
                pid: 1,
                ppid: 5,
                pid_in_ns: 6,
                start: 3,
                uid: 7,
                cgroup: 4,
                netns: 8,
                comm: b"name",
                exe: b"/exe",
                argv: b"abc",
                argv_len: 9,
            }),
        );
        check_record(
            btf,
            "mdf_exit",
            &[
                ("kind", ne!(process::EXIT)),
                ("pid", ne!(1u32)),
                ("time", ne!(2u64)),
                ("start", ne!(3u64)),
                ("status", ne!(4u32)),
            ],
            b"",
            Record::Exit(Exit {
                time: 2,
                pid: 1,
                start: 3,
                status: 4,
            }),
        );
        check_record(
            btf,
            "mdf_cgroup",
            &[
                ("kind", ne!(process::CGROUP)),
                ("path_len", ne!(5u32)),
                ("time", ne!(1u64)),
                ("id", ne!(2u64)),
            ],
            b"/path",
            Record::Cgroup(Cgroup {
                time: 1,
                id: 2,
                path: b"/path",
            }),
        );
    });
}

#[test]
fn records_of_sockets_are_read_as_c_lays_them_out() {
    with_btf(|btf| {
        check_record(
            btf,
            "mdf_socket",
            &[
                ("kind", ne!(kind::SOCKET)),
                ("opened", &[Opened::Accept.byte()]),
                ("role", &[Role::Client.byte()]),
                ("netns", ne!(1u32)),
                ("time", ne!(2u64)),
                ("id", ne!(3u64)),
                ("cgroup", ne!(4u64)),
                ("ends.local", &LOCAL.ip),
                ("ends.remote", &REMOTE.ip),
                ("ends.local_port", ne!(LOCAL.port)),
                ("ends.remote_port", ne!(REMOTE.port)),
                ("pid", ne!(5u32)),
                ("send_pos", ne!(6u32)),
                ("receive_pos", ne!(7u32)),
                ("positions", ne!(0u32)),
            ],
            b"",
            Record::Socket(Socket {
                time: 2,
                id: 3,
                opened: Opened::Accept,
                role: Role::Client,
                local: LOCAL,
                remote: REMOTE,
                netns: 1,
                pid: 5,
                cgroup: 4,
                send_pos: 6,
                receive_pos: 7,
                positions: false,
            }),
        );
        check_record(
            btf,
            "mdf_owner",
            &[
                ("kind", ne!(kind::OWNER)),
                ("pid", ne!(1u32)),
                ("time", ne!(2u64)),
                ("id", ne!(3u64)),
                ("cgroup", ne!(4u64)),
            ],
            b"",
            Record::Owner(Owner {
                time: 2,
                id: 3,
                pid: 1,
                cgroup: 4,
            }),
        );
        check_record(
            btf,
            "mdf_connect",
            &[
                ("kind", ne!(kind::CONNECT)),
                ("error", ne!(1u16)),
                ("time", ne!(2u64)),
                ("id", ne!(3u64)),
                ("connect_ns", ne!(4u64)),
                ("send_pos", ne!(5u32)),
                ("receive_pos", ne!(6u32)),
            ],
            b"",
            Record::Connect(Connect {
                time: 2,
                id: 3,
                error: 1,
                connect_ns: 4,
                send_pos: 5,
                receive_pos: 6,
            }),
        );
        check_record(
            btf,
            "mdf_close",
            &[
                ("kind", ne!(kind::CLOSE)),
                ("ending", &[Ending::TimedOut.byte()]),
                ("retransmits", ne!(1u32)),
                ("time", ne!(2u64)),
                ("id", ne!(3u64)),
                ("bytes_sent", ne!(4u64)),
                ("bytes_received", ne!(5u64)),
                ("srtt_us", ne!(6u32)),
            ],
            b"",
            Record::Close(Close {
                time: 2,
                id: 3,
                ending: Ending::TimedOut,
                bytes_sent: 4,
                bytes_received: 5,
                retransmits: 1,
                srtt_us: 6,
            }),
        );
        check_record(
            btf,
            "mdf_data",
            &[
                ("kind", ne!(kind::DATA)),
                ("direction", &[Direction::Received.byte()]),
                ("cut", &[Cut::Segments.byte()]),
                ("captured", ne!(3u32)),
                ("time", ne!(1u64)),
                ("id", ne!(2u64)),
                ("cgroup", ne!(4u64)),
                ("pos", ne!(5u32)),
                ("len", ne!(6u32)),
                ("pid", ne!(7u32)),
                ("tid", ne!(8u32)),
            ],
            b"abc and what fills the size class",
            Record::Data(Data {
                time: 1,
                id: 2,
                pos: 5,
                len: 6,
                pid: 7,
                tid: 8,
                cgroup: 4,
                direction: Direction::Received,
                cut: Cut::Segments,
                payload: b"abc",
                layer: Layer::Wire,
            }),
        );
    });
}

#[test]
fn settings_are_written_as_c_lays_them_out() {
    let filter = Filter {
        pids: vec![Identity { pid: 1, start: 2 }],
        comm: Some("name".to_owned()),
        cgroups: vec![11, 12, 13, 14],
        netns: Some(21),
        ..Filter::default()
    };
    let config = Config {
        filter,
        snaplen: 31,
        buffer_size: 1 << 20,
        ..Config::default()
    };
    let plan = |programs| Plan {
        programs,
        ..Plan::default()
    };
    let state_nopreempt = must(STATE_NOPREEMPT, Hook::Call);
    // What is on or off: one of them on at a time, so that none can be mistaken for another.
    let (on, off) = (ne!(1u32), ne!(0u32));
    let with = |change: fn(&mut Filter)| {
        let mut config = config.clone();
        config.filter = Filter::default();
        change(&mut config.filter);
        config
    };
    let cases: [(Option<&str>, Config, Vec<Planned>, bool); 7] = [
        (None, with(|_| {}), vec![], false),
        (
            Some("comm_filter"),
            with(|filter| filter.comm = Some(String::new())),
            vec![],
            false,
        ),
        (
            Some("port_filter"),
            with(|filter| filter.ports = vec![80]),
            vec![],
            false,
        ),
        (Some("twice"), with(|_| {}), vec![state_nopreempt], false),
        (Some("plain_loads"), with(|_| {}), vec![], true),
        (
            Some("pid_filter"),
            with(|filter| filter.pids = vec![Identity { pid: 1, start: 2 }]),
            vec![],
            false,
        ),
        // Beyond what is compared one by one.
        (
            Some("cgroup_dynamic"),
            with(|filter| filter.cgroups = vec![0; 5]),
            vec![],
            false,
        ),
    ];
    let cpus = libbpf_rs::num_possible_cpus().unwrap() as u32;
    with_btf(|btf| {
        let layout = Layout::of(btf, "mdf_config");
        let bytes = |changed: &[(&str, &[u8])]| {
            let mut fields: [(&str, &[u8]); 16] = [
                ("snaplen", ne!(31u32)),
                ("cpus", ne!(cpus)),
                ("wakeup_bytes", ne!((1u32 << 18))),
                ("netns", off),
                ("pid_filter", off),
                ("comm_filter", off),
                ("comm", &[0; 16]),
                ("cgroup_count", off),
                ("cgroup_dynamic", off),
                ("cgroups", &[0; 32]),
                ("cgroup_levels", &[0; 16]),
                ("port_filter", off),
                ("twice", off),
                ("all_cgroups", off),
                ("plain_loads", off),
                ("command", off),
            ];
            for field in &mut fields {
                if let Some((_, value)) = changed.iter().find(|(name, _)| *name == field.0) {
                    field.1 = value;
                }
            }
            layout.bytes(0, &fields)
        };
        for (which, config, programs, plain_loads) in &cases {
            let written = object::settings(
                config,
                Some(&[]),
                &plan(programs.clone()),
                Uses {
                    plain_loads: *plain_loads,
                },
            );
            let changed: Vec<(&str, &[u8])> = which.iter().map(|which| (*which, &on[..])).collect();
            assert_eq!(written, bytes(&changed), "{which:?}");
        }
        // Two at a time, by the side that they have in common.
        let dynamic = with(|filter| filter.dynamic = true);
        let written = object::settings(&dynamic, Some(&[]), &plan(vec![]), Uses::default());
        assert_eq!(written, bytes(&[("all_cgroups", on), ("cgroup_dynamic", on)]));
        let command = with(|filter| filter.command = Some(Command::InCgroup));
        let written = object::settings(&command, Some(&[]), &plan(vec![]), Uses::default());
        assert_eq!(written, bytes(&[("command", on), ("pid_filter", on)]));
        let written = object::settings(&config, Some(&[41, 42, 43, 44]), &plan(vec![]), Uses::default());
        let words: Vec<u8> = [11u64, 12, 13, 14].into_iter().flat_map(u64::to_ne_bytes).collect();
        let levels: Vec<u8> = [41u32, 42, 43, 44].into_iter().flat_map(u32::to_ne_bytes).collect();
        let changed: [(&str, &[u8]); 7] = [
            ("netns", ne!(21u32)),
            ("pid_filter", on),
            ("comm_filter", on),
            ("comm", b"name\0\0\0\0\0\0\0\0\0\0\0\0"),
            ("cgroup_count", ne!(4u32)),
            ("cgroups", &words),
            ("cgroup_levels", &levels),
        ];
        assert_eq!(written, bytes(&changed));
    });
}

#[test]
fn entries_of_maps_are_as_c_lays_them_out() {
    with_btf(|btf| {
        let socket = Socket {
            time: 0,
            id: 1,
            opened: Opened::Snapshot,
            role: Role::Server,
            local: LOCAL,
            remote: REMOTE,
            netns: 3,
            pid: 4,
            cgroup: 0,
            send_pos: 0,
            receive_pos: 0,
            positions: false,
        };
        let key = Layout::of(btf, "seed_key").bytes(
            0,
            &[
                ("ends.local", &LOCAL.ip),
                ("ends.remote", &REMOTE.ip),
                ("ends.local_port", ne!(LOCAL.port)),
                ("ends.remote_port", ne!(REMOTE.port)),
                ("netns", ne!(3u32)),
            ],
        );
        let value = Layout::of(btf, "seed").bytes(
            0,
            &[
                ("id", ne!(1u64)),
                ("role", ne!(u32::from(Role::Server.byte()))),
                ("pid", ne!(4u32)),
            ],
        );
        assert_eq!(tcp::seed(&socket), (key, value));

        let bytes = Layout::of(btf, "followed").bytes(0, &[("start", ne!(5u64)), ("of_command", ne!(1u32))]);
        let followed = Followed {
            start: 5,
            of_command: true,
        };
        assert_eq!((followed.bytes(), Followed::read(&bytes)), (bytes, Some(followed)));

        let bytes = Layout::of(btf, "control").bytes(
            0,
            &[
                ("own_tgid", ne!(1u32)),
                ("cgroup_generation", ne!(2u32)),
                ("only_self", ne!(3u32)),
            ],
        );
        let control = Control {
            own_tgid: 1,
            cgroup_generation: 2,
            only_self: 3,
        };
        assert_eq!((control.bytes(), Control::read(&bytes)), (bytes, Some(control)));

        let bytes = Layout::of(btf, "mdf_count").bytes(0, &[("events", ne!(6u64)), ("bytes", ne!(7u64))]);
        assert_eq!(wire::count(&bytes), Some(Count { events: 6, bytes: 7 }));

        // What kallsyms::pages gives, in its order.
        let bytes = Layout::of(btf, "pages").bytes(
            0,
            &[
                ("vmemmap_base", ne!(1u64)),
                ("page_offset_base", ne!(2u64)),
                ("vmemmap", ne!(3u64)),
                ("page_offset", ne!(4u64)),
            ],
        );
        let words: Vec<u8> = [1u64, 2, 3, 4].into_iter().flat_map(u64::to_ne_bytes).collect();
        assert_eq!(words, bytes);
    });
}

#[test]
fn enums_and_limits_have_the_values_of_c() {
    with_btf(|btf| {
        let check = |name: &str, rust: &[(&str, i64)]| {
            let c = values(btf, name);
            let c: Vec<(&str, i64)> = c.iter().map(|(word, value)| (word.as_str(), *value)).collect();
            assert_eq!(c, rust, "{name}");
        };
        check(
            "mdf_kind",
            &[
                ("MDF_PROCESS", process::PROCESS.into()),
                ("MDF_EXIT", process::EXIT.into()),
                ("MDF_CGROUP", process::CGROUP.into()),
                ("MDF_SOCKET", kind::SOCKET.into()),
                ("MDF_OWNER", kind::OWNER.into()),
                ("MDF_CONNECT", kind::CONNECT.into()),
                ("MDF_CLOSE", kind::CLOSE.into()),
                ("MDF_DATA", kind::DATA.into()),
            ],
        );
        check(
            "mdf_origin",
            &[
                ("MDF_ORIGIN_FORK", Origin::Fork.byte().into()),
                ("MDF_ORIGIN_EXEC", Origin::Exec.byte().into()),
            ],
        );
        check(
            "mdf_role",
            &[
                ("MDF_ROLE_UNDETERMINED", Role::Undetermined.byte().into()),
                ("MDF_ROLE_CLIENT", Role::Client.byte().into()),
                ("MDF_ROLE_SERVER", Role::Server.byte().into()),
                ("MDF_ROLE_LISTENER", Role::Listener.byte().into()),
            ],
        );
        check(
            "mdf_opened",
            &[
                ("MDF_OPENED_SNAPSHOT", Opened::Snapshot.byte().into()),
                ("MDF_OPENED_CONNECT", Opened::Connect.byte().into()),
                ("MDF_OPENED_ACCEPT", Opened::Accept.byte().into()),
                ("MDF_OPENED_FIRST_SEEN", Opened::FirstSeen.byte().into()),
                ("MDF_OPENED_LISTEN", Opened::Listen.byte().into()),
            ],
        );
        check(
            "mdf_direction",
            &[
                ("MDF_SENT", Direction::Sent.byte().into()),
                ("MDF_RECEIVED", Direction::Received.byte().into()),
            ],
        );
        check(
            "mdf_cut",
            &[
                ("MDF_CUT_WHOLE", Cut::Whole.byte().into()),
                ("MDF_CUT_SNAPLEN", Cut::Snaplen.byte().into()),
                ("MDF_CUT_PAGE_FAULT", Cut::PageFault.byte().into()),
                ("MDF_CUT_KERNEL_PAGES", Cut::KernelPages.byte().into()),
                ("MDF_CUT_SEGMENTS", Cut::Segments.byte().into()),
                ("MDF_CUT_NOT_VISIBLE", Cut::NotVisible.byte().into()),
                ("MDF_CUT_URGENT", Cut::Urgent.byte().into()),
            ],
        );
        check(
            "mdf_ending",
            &[
                ("MDF_ENDING_CLOSED", Ending::Closed.byte().into()),
                ("MDF_ENDING_RESET_BY_PEER", Ending::ResetByPeer.byte().into()),
                ("MDF_ENDING_RESET_LOCALLY", Ending::ResetLocally.byte().into()),
                ("MDF_ENDING_TIMED_OUT", Ending::TimedOut.byte().into()),
                ("MDF_ENDING_CONNECT_FAILED", Ending::ConnectFailed.byte().into()),
            ],
        );
        check(
            "mdf_loss",
            &[
                ("MDF_LOSS_RING_FULL", loss::RING_FULL.0.into()),
                ("MDF_LOSS_MAP_FULL", loss::MAP_FULL.0.into()),
                ("MDF_LOSS_PAGE_FAULT", loss::PAGE_FAULT.0.into()),
                ("MDF_LOSS_TRUNCATED", loss::TRUNCATED.0.into()),
                // How many there are.
                ("MDF_LOSSES", 4),
            ],
        );
        check(
            "mdf_limit",
            &[
                ("MDF_MAX_SNAPLEN", MAX_SNAPLEN.into()),
                ("MDF_MAX_CGROUPS", MAX_FIXED_CGROUPS as i64),
            ],
        );
    });
}

/// One that is not planned would never be attached, and one that may be missing would be left out without a word.
#[test]
fn what_the_sources_plan_is_what_is_there() {
    let object = zstd::decode_all(OBJECT).unwrap();
    let object = libbpf_rs::ObjectBuilder::default().open_memory(&object).unwrap();
    let there: BTreeSet<String> = object
        .progs()
        .map(|program| text(Some(program.name())).to_owned())
        .collect();
    let tables = super::tcp::PROGRAMS.iter().chain([&super::process::PROGRAMS]);
    let planned = tables
        .flat_map(|table| table.iter())
        .flat_map(Planned::names)
        .chain([WHOAMI]);
    let planned: BTreeSet<String> = planned.map(str::to_owned).collect();
    assert_eq!(planned, there);
}

#[test]
fn every_kind_and_every_loss_counter_of_c_belongs_to_a_source() {
    with_btf(|btf| {
        for (word, kind) in values(btf, "mdf_kind") {
            let mut readers = SOURCES.iter().filter(|source| source.kinds.contains(&(kind as u16)));
            assert!(readers.next().is_some() && readers.next().is_none(), "{word}");
        }
        for (word, key) in values(btf, "mdf_loss").iter().filter(|(word, _)| word != "MDF_LOSSES") {
            let mut counters = SOURCES.iter().flat_map(|source| source.counters);
            assert!(counters.any(|(read, _)| i64::from(*read) == *key), "{word}");
        }
    });
}
