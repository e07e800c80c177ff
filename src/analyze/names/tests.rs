use proptest::prelude::*;

use super::*;
use crate::format::record::{Exit, Origin, Process, START_TICK_NS};
use crate::pods::kube;

const PATH: &[u8] =
    b"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod2f7a1c9e_1111_2222_3333_444455556666.slice/\
    cri-containerd-3a4f9c0d1e2b3a4f9c0d1e2b3a4f9c0d1e2b3a4f9c0d1e2b3a4f9c0d1e2b3a4f.scope";

fn host() -> Host {
    let clock = Clock {
        boot: 0,
        monotonic: 0,
        realtime: 0,
    };
    let mut host = Host::new("node1", clock);
    host.learn(&Record::Cgroup(Cgroup {
        time: 0,
        id: 7,
        path: PATH,
    }));
    host
}

fn pods() -> Arc<Pods> {
    let mut set = PodSet::default();
    let list = kube::list(include_bytes!("../../pods/set/pod_list.json")).unwrap();
    set.learn_list(0, list.items);
    Arc::new(Pods::new(set))
}

fn address(time: u64, name: &'static str) -> Record<'static> {
    Record::Address(Address {
        time,
        ip: endpoint().ip,
        kind: AddressKind::Pod,
        namespace: "shop",
        name,
        workload: "StatefulSet/cart",
    })
}

fn endpoint() -> Endpoint {
    Endpoint::new([10, 42, 3, 7].into(), 8080)
}

#[test]
fn a_path_alone_gives_the_container() {
    let party = host().party(0, 7, 0);
    assert_eq!(party.container, "3a4f9c0d1e2b", "a short form of the id");
    assert_eq!(party.container_id.len(), 64);
    assert_eq!((party.pod.as_str(), party.namespace.as_str()), ("", ""));
}

#[test]
fn a_pod_list_names_what_the_recorder_could_not() {
    let mut host = host();
    host.use_pods(Some(pods()));
    let party = host.party(0, 7, 0);
    assert_eq!(
        (party.namespace.as_str(), party.pod.as_str()),
        ("shop", "frontend-7d4f9c6b5-x2x2x")
    );
    assert_eq!(
        (party.container.as_str(), party.workload.as_str()),
        ("nginx", "Deployment/frontend")
    );
    let remote = host.party_at(&endpoint(), 5).unwrap();
    assert_eq!(
        (remote.pod.as_str(), remote.workload.as_str()),
        ("frontend-7d4f9c6b5-x2x2x", "Deployment/frontend")
    );
}

#[test]
fn what_was_recorded_counts_more_than_the_list() {
    let mut host = host();
    host.use_pods(Some(pods()));
    host.learn(&Record::Workload(Workload {
        time: 1,
        cgroup: 7,
        container_id: "3a4f",
        runtime: "containerd",
        container: "web",
        pod_uid: "",
        pod: "frontend-old",
        namespace: "shop",
        workload: "",
        labels: "",
    }));
    let party = host.party(0, 7, 0);
    assert_eq!((party.container.as_str(), party.pod.as_str()), ("web", "frontend-old"));
    assert_eq!(party.workload, "Deployment/frontend", "the list fills what is missing");
}

#[test]
fn an_address_belongs_to_one_pod_after_another() {
    let mut host = host();
    for (time, name) in [(300, "cart-1"), (100, "cart-0"), (300, "cart-1")] {
        host.learn(&address(time, name));
    }
    let at = |time| host.party_at(&endpoint(), time).unwrap().pod.clone();
    assert_eq!(at(50), "cart-0", "learnt a little late");
    assert_eq!(at(100), "cart-0");
    assert_eq!(at(299), "cart-0");
    assert_eq!(at(u64::MAX), "cart-1");
    assert!(
        host.party_at(&Endpoint::new([10, 42, 3, 8].into(), 8080), 100)
            .is_none()
    );
}

#[test]
fn on_a_v1_host_the_cgroup_of_the_process_counts() {
    let mut host = host();
    let v1 = CGROUP_V1 | 5;
    host.learn(&Record::Cgroup(Cgroup {
        time: 0,
        id: v1,
        path: b"/docker/5b4f9c0d1e2b3a4f9c0d1e2b3a4f9c0d1e2b3a4f9c0d1e2b3a4f9c0d1e2b3a4f",
    }));
    host.learn(&Record::Process(Process {
        time: 1,
        origin: Origin::Exec,
        pid: 42,
        ppid: 1,
        pid_in_ns: 42,
        start: 1,
        uid: 0,
        cgroup: v1,
        netns: 0,
        comm: b"app",
        exe: b"",
        argv: b"",
        argv_len: 0,
    }));
    assert_eq!(host.party(42, 1, 5).container, "5b4f9c0d1e2b");
    assert_eq!(host.party(42, 7, 5).container, "5b4f9c0d1e2b");
    assert_eq!(host.party(43, 7, 5).container, "3a4f9c0d1e2b", "another process");
}

fn process(pid: u32, start: u64, argv: &[u8]) -> Process<'_> {
    Process {
        time: start,
        origin: Origin::Exec,
        pid,
        ppid: 1,
        pid_in_ns: pid,
        start,
        uid: 0,
        cgroup: 7,
        netns: 0,
        comm: b"app",
        exe: b"",
        argv,
        argv_len: argv.len() as u32,
    }
}

#[test]
fn the_names_of_a_host_have_bounded_memory() {
    let mut host = host();
    host.room = 1 << 20;
    let argv = [b'x'; 1000];
    for pid in 1..=10_000 {
        host.learn(&Record::Cgroup(Cgroup {
            time: 0,
            id: 7,
            path: PATH,
        }));
        host.learn(&Record::Process(process(pid, 1, &argv)));
        host.learn(&Record::Clock(Clock {
            boot: u64::from(pid),
            monotonic: 0,
            realtime: 0,
        }));
        host.learn(&address(u64::from(pid), "cart-0"));
    }
    let kept = host.programs.0.len() + host.clocks.len() - 1 + host.addresses.len();
    assert!(
        host.programs.0.len() < (1 << 20) / argv.len(),
        "{}",
        host.programs.0.len()
    );
    assert!(host.not_kept >= 30_000 - kept as u64, "what is not kept is counted");
    // A known record may be repeated.
    let before = host.not_kept;
    host.room = 1 << 20;
    for _ in 0..10_000 {
        host.learn(&Record::Process(process(1, 1, &argv)));
    }
    assert_eq!((host.room, host.not_kept), (1 << 20, before));
}

#[test]
fn texts_are_as_long_as_a_host_can_have_them() {
    let long = "ä".repeat(500_000);
    let mut host = host();
    host.learn(&Record::Cgroup(Cgroup {
        time: 0,
        id: 8,
        path: long.as_bytes(),
    }));
    host.learn(&Record::Workload(Workload {
        time: 1,
        cgroup: 8,
        container_id: &long,
        runtime: &long,
        container: &long,
        pod_uid: &long,
        pod: &long,
        namespace: &long,
        workload: &long,
        labels: &long,
    }));
    let comm = long.as_bytes();
    host.learn(&Record::Process(Process {
        comm,
        ..process(42, 1, b"")
    }));
    let mut parties = Parties::default();
    for pid in 1..=50_000 {
        let who = Who {
            pid,
            cgroup: 8,
            seen: 5,
        };
        let (party, _) = parties.party(0, &host, who, 5);
        assert!(party.text_bytes() <= MAX_PATH + 8 * MAX_NAME);
        assert!(parties.bytes <= MAX_PARTY_BYTES + party.text_bytes() && parties.known.len() <= MAX_PARTIES);
    }
}

/// The dump of a rotated part has what was found out since: on v1 hosts the cgroup of a container.
#[test]
fn a_repeated_record_adds_what_it_knows() {
    let mut host = host();
    host.learn(&Record::Process(process(42, 1, b"")));
    let cgroup = CGROUP_V1 | 5;
    host.learn(&Record::Process(Process {
        cgroup,
        ..process(42, 1, b"")
    }));
    assert_eq!(host.programs().len(), 1);
    assert_eq!(host.program(42, 5).map(|program| program.cgroup), Some(cgroup));
}

/// /proc shows what runs when it is read.
#[test]
fn proc_shows_no_program_from_before_an_execve() {
    let snapshot = |time| {
        Record::Process(Process {
            time,
            origin: Origin::Snapshot,
            comm: b"after",
            ..process(42, 1, b"")
        })
    };
    let exec = Record::Process(Process {
        time: 100,
        ..process(42, 1, b"")
    });
    for records in [[snapshot(150), exec], [exec, snapshot(150)]] {
        let mut host = host();
        records.iter().for_each(|record| host.learn(record));
        assert!(host.program(42, 50).is_none(), "what it was then is not known");
        assert_eq!(host.program(42, 120).map(|program| program.comm.as_str()), Some("app"));
    }
    for records in [[snapshot(90), exec], [exec, snapshot(90)]] {
        let mut host = host();
        records.iter().for_each(|record| host.learn(record));
        assert_eq!(host.program(42, 50).map(|program| program.comm.as_str()), Some("after"));
    }
}

/// Names of the same cgroups that become longer and longer take memory as new ones do.
#[test]
fn what_is_replaced_by_something_longer_takes_memory_too() {
    let mut host = host();
    host.room = 1 << 20;
    let long = "x".repeat(1000);
    let mut learnt = 0;
    for path in [&b"/"[..], long.as_bytes()] {
        for id in 1..=3000 {
            learnt += 1;
            host.learn(&Record::Cgroup(Cgroup { time: 0, id, path }));
        }
    }
    let kept: usize = host.cgroups.values().map(String::len).sum();
    assert!(kept <= 1 << 20, "{kept}");
    assert!(
        host.not_kept > 0 && host.not_kept < learnt,
        "{} of {learnt}",
        host.not_kept
    );
}

/// A recorder that runs for long repeats its names in each part.
#[test]
fn what_is_known_takes_memory_once() {
    let mut host = host();
    let mut room = None;
    for _ in 0..3 {
        host.learn(&Record::Cgroup(Cgroup {
            time: 0,
            id: 8,
            path: PATH,
        }));
        host.learn(&Record::Process(process(7, 1, b"")));
        host.learn(&address(5, "cart-0"));
        assert_eq!(*room.get_or_insert(host.room), host.room);
    }
}

proptest! {
    /// No order of times in a capture is impossible.
    #[test]
    fn any_process_records_are_accepted(
        records in prop::collection::vec(
            (0..3u8, prop::sample::select(vec![0, 1, 5, 6, u64::MAX - 1, u64::MAX]), prop::sample::select(vec![0, 1, 5, u64::MAX])),
            0..12,
        ),
        asked in prop::collection::vec((any::<bool>(), 0..8u64, 0..8u64), 1..6),
    ) {
        let mut host = host();
        for (what, time, start) in records {
            host.learn(&match what {
                0 => Record::Exit(Exit { time, pid: 7, start, status: 0 }),
                1 => Record::Process(Process { time, origin: Origin::Snapshot, ..process(7, start, b"") }),
                _ => Record::Process(Process { time, origin: Origin::Exec, ..process(7, start, b"") }),
            });
        }
        host.programs();
        for (late, seen, time) in asked {
            let seen = if late { u64::MAX - seen } else { seen };
            for time in [time, u64::MAX - time] {
                let who = Who { pid: 7, cgroup: 0, seen };
                let Found { program, valid } = host.programs.find(who.pid, who.seen, time);
                let program = program.map(|program| program.began);
                // The result holds for all times of its range.
                for other in [valid.start, valid.end.saturating_sub(1)].into_iter().filter(|other| valid.contains(other)) {
                    if valid.contains(&time) {
                        prop_assert_eq!(host.programs.find(who.pid, who.seen, other).program.map(|program| program.began), program);
                    }
                }
            }
        }
    }
}

#[test]
fn an_exit_is_of_the_process_whose_start_proc_rounded_otherwise() {
    use Origin::{Exec, Snapshot};
    let start = 3 * START_TICK_NS;
    let exited = |origins: &[Origin], exit_start: u64| -> Vec<bool> {
        let mut host = host();
        for (number, origin) in (0..).zip(origins) {
            host.learn(&Record::Process(Process {
                time: start + number,
                origin: *origin,
                ..process(7, start, b"")
            }));
        }
        host.learn(&Record::Exit(Exit {
            time: 2 * start,
            pid: 7,
            start: exit_start,
            status: 0,
        }));
        host.programs.0.values().map(|program| program.exit.is_some()).collect()
    };
    assert!(exited(&[Snapshot], start) == [true] && exited(&[Exec], start) == [true]);
    for other in [start + START_TICK_NS - 1, start - START_TICK_NS + 1] {
        assert_eq!(exited(&[Snapshot], other), [true], "{other}");
        assert_eq!(
            exited(&[Snapshot, Exec], other),
            [false, true],
            "what it ran last: {other}"
        );
        assert_eq!(
            exited(&[Exec], other),
            [false],
            "the kernel side does not round twice: {other}"
        );
    }
    assert_eq!(exited(&[Exec], start + 1), [false]);
    assert_eq!(
        exited(&[Snapshot], start + START_TICK_NS),
        [false],
        "another process with this pid"
    );
}
