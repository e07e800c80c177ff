//! A row is named by what the process was at the time of the row.

use proptest::prelude::*;

use super::*;
use crate::format::record::{Cgroup, Exit, Owner};

/// Names of the processes at both ends, in the order of the rows.
#[derive(Default)]
struct Comms(Vec<(u64, u64, String)>);

impl Comms {
    fn push(&mut self, time: u64, sequence: u64, client: &Party, server: &Party) {
        self.0
            .push((time, sequence, format!("{} -> {}", client.comm, server.comm)));
    }
}

impl Sink for Comms {
    fn exchange(&mut self, row: &Frame<'_>, _: &dyn Message) {
        self.push(row.start, row.sequence, row.client_party, row.server_party);
    }
    fn connection(&mut self, row: &ConnectionRow<'_>) {
        self.push(u64::MAX, 0, row.client_party, row.server_party);
    }
}

fn comms(records: &[Record<'_>]) -> Vec<String> {
    let mut all: Vec<_> = sinks::<Comms>(&[records]).into_iter().flat_map(|sink| sink.0).collect();
    all.sort();
    all.into_iter().map(|(.., text)| text).collect()
}

fn process(pid: u32, start: u64, time: u64, origin: Origin, comm: &'static str) -> Record<'static> {
    Record::Process(Process {
        time,
        origin,
        pid,
        ppid: 1,
        pid_in_ns: pid,
        start,
        uid: 0,
        cgroup: 0,
        netns: 1,
        comm: comm.as_bytes(),
        exe: b"",
        argv: b"",
        argv_len: 0,
    })
}

fn exit(pid: u32, start: u64, time: u64) -> Record<'static> {
    let status = 0;
    Record::Exit(Exit {
        time,
        pid,
        start,
        status,
    })
}

/// The server becomes one program after the other and keeps its connection; the client stays what it is.
fn programs() -> Vec<Record<'static>> {
    vec![
        process(100, 1, 1, Origin::Snapshot, "curl"),
        process(200, 5, 5, Origin::Fork, "bash"),
        process(200, 5, 2000, Origin::Exec, "setsid"),
        process(200, 5, 3000, Origin::Exec, "env"),
        process(200, 5, 4000, Origin::Exec, "python"),
    ]
}

/// What the server is called at this time.
fn server_at(time: u64) -> &'static str {
    match time {
        ..2000 => "bash",
        2000..3000 => "setsid",
        3000..4000 => "env",
        _ => "python",
    }
}

/// The n-th exchange of the connection, at this time, as these ends see it.
fn exchange(n: u32, time: u64, ids: &[u64]) -> Vec<Record<'static>> {
    let (request, response) = (n * GET.len() as u32, n * OK.len() as u32);
    let mut records: Vec<_> = ids.iter().map(|id| up(*id, time + id % 2, request, GET)).collect();
    records.extend(ids.iter().map(|id| down(*id, time + 20 + id % 2, response, OK)));
    records
}

/// Times around each execve, and well within each program.
const TIMES: [u64; 7] = [1500, 1970, 2100, 2960, 3100, 3970, 5000];

#[test]
fn a_row_is_named_by_what_the_process_was_then_whoever_saw_it() {
    for ids in [&[CLIENT][..], &[SERVER], &[CLIENT, SERVER]] {
        let mut records = programs();
        records.extend([client(CLIENT, 5000), server(SERVER, 5000)]);
        for (n, time) in (0..).zip(TIMES) {
            records.extend(exchange(n, time, ids));
        }
        let mut expected: Vec<_> = TIMES
            .iter()
            .map(|time| format!("curl -> {}", server_at(*time)))
            .collect();
        // The connection is named by who was given it.
        expected.push("curl -> bash".to_owned());
        assert_eq!(comms(&records), expected, "{ids:?}");
    }
}

/// As where a window begins in the middle of an exchange: the first thing seen is its response.
#[test]
fn what_is_seen_first_may_be_a_response() {
    let mut records = programs();
    if let Record::Socket(socket) = server(SERVER, 5000) {
        let (opened, positions) = (Opened::Snapshot, false);
        records.push(Record::Socket(Socket {
            opened,
            positions,
            ..socket
        }));
    }
    records.push(down(SERVER, 5000, 0, OK));
    for n in 0..3 {
        let time = 5100 + u64::from(n) * 100;
        records.push(up(SERVER, time, n * GET.len() as u32, GET));
        records.push(down(SERVER, time + 20, (n + 1) * OK.len() as u32, OK));
    }
    assert_eq!(
        comms(&records),
        [" -> python", " -> python", " -> python", " -> python", " -> bash"]
    );
}

#[test]
fn a_pid_that_is_used_again_is_not_who_had_the_connection() {
    let mut records = vec![
        process(100, 1, 1, Origin::Snapshot, "curl"),
        process(200, 5, 5, Origin::Exec, "server"),
        exit(200, 5, 2000),
        process(200, 2500, 2600, Origin::Exec, "stranger"),
        client(CLIENT, 5000),
        server(SERVER, 5000),
    ];
    // The process that has the socket now does not read: only the client sees these.
    for (n, time) in (0..).zip([1000, 3000]) {
        records.extend(exchange(n, time, &[CLIENT]));
    }
    assert_eq!(comms(&records)[..2], ["curl -> server", "curl -> server"]);
}

#[test]
fn a_process_that_is_gone_does_not_lend_its_name_to_one_that_nothing_names() {
    let mut records = vec![
        process(200, 5, 5, Origin::Exec, "server"),
        exit(200, 5, 2000),
        server(SERVER, 5000),
    ];
    for (n, time) in (0..).zip([1000, 3000]) {
        records.extend(exchange(n, time, &[SERVER]));
    }
    assert_eq!(comms(&records)[..2], [" -> server", " -> "]);
}

/// The record of what ran before was lost.
#[test]
fn an_execve_names_nothing_that_was_before_it() {
    let mut records = vec![process(200, 5, 2000, Origin::Exec, "python"), server(SERVER, 5000)];
    for (n, time) in (0..).zip([1000, 3000]) {
        records.extend(exchange(n, time, &[SERVER]));
    }
    assert_eq!(comms(&records)[..2], [" -> ", " -> python"]);
}

#[test]
fn an_exchange_is_in_the_cgroup_of_its_time_though_the_connection_was_opened_in_another() {
    /// Cgroups of the server.
    #[derive(Default)]
    struct Cgroups(Vec<(u64, String)>);
    impl Sink for Cgroups {
        fn exchange(&mut self, row: &Frame<'_>, _: &dyn Message) {
            self.0.push((row.start, row.server_party.cgroup.clone()));
        }
        fn connection(&mut self, row: &ConnectionRow<'_>) {
            self.0.push((u64::MAX, row.server_party.cgroup.clone()));
        }
    }
    let mut records = programs();
    for (id, path) in [(7, &b"/before"[..]), (8, b"/after")] {
        records.push(Record::Cgroup(Cgroup { time: 1, id, path }));
    }
    records.push(client(CLIENT, 5000));
    if let Record::Socket(socket) = server(SERVER, 5000) {
        records.push(Record::Socket(Socket { cgroup: 7, ..socket }));
    }
    for (n, time, at) in [(0, 5000, 7), (1, 5100, 8), (2, 5200, 8)] {
        for mut record in exchange(n, time, &[SERVER]) {
            if let Record::Data(data) = &mut record {
                (data.pid, data.cgroup) = (200, at);
            }
            records.push(record);
        }
    }
    let mut cgroups: Vec<_> = sinks::<Cgroups>(&[&records])
        .into_iter()
        .flat_map(|sink| sink.0)
        .collect();
    cgroups.sort();
    let paths: Vec<&str> = cgroups.iter().map(|(_, path)| path.as_str()).collect();
    assert_eq!(paths, ["/before", "/after", "/after", "/before"], "the connection last");
}

#[test]
fn an_owner_that_becomes_known_late_has_the_name_of_the_time() {
    let mut records = programs();
    records.push(client(CLIENT, 5000));
    if let Record::Socket(socket) = server(SERVER, 5000) {
        records.push(Record::Socket(Socket { pid: 0, ..socket }));
    }
    let (time, id, pid, cgroup) = (4500, SERVER, 200, 0);
    records.push(Record::Owner(Owner { time, id, pid, cgroup }));
    records.extend(exchange(0, 2100, &[CLIENT]));
    assert_eq!(comms(&records), ["curl -> setsid", "curl -> python"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever runs when: each row has the name of its time, by either end, in one part or after a dump of what is known.
    #[test]
    fn names_are_those_of_the_time(
        execs in prop::collection::btree_map(1000u64..9000, prop::sample::select(vec!["a", "b", "c"]), 0..6),
        times in prop::collection::btree_set((11u64..90).prop_map(|n| n * 100), 1..8),
        seen in prop::sample::select(vec![&[CLIENT][..], &[SERVER], &[CLIENT, SERVER]]),
        repeated in any::<bool>(),
    ) {
        let mut records = vec![
            process(100, 1, 1, Origin::Snapshot, "curl"),
            process(200, 5, 5, Origin::Fork, "bash"),
        ];
        records.extend(execs.iter().map(|(time, comm)| process(200, 5, *time, Origin::Exec, comm)));
        if repeated {
            let again = records[1..].to_vec();
            records.extend(again);
        }
        records.extend([client(CLIENT, 5000), server(SERVER, 5000)]);
        for (n, time) in (0..).zip(&times) {
            records.extend(exchange(n, *time, seen));
        }
        // What an end does not see counts as when the other saw it first.
        let name = |time: u64| execs.range(..=time).next_back().map_or("bash", |(_, comm)| comm);
        let server_time = |time: u64| if seen.contains(&SERVER) { time } else { time + 1 };
        let expected: Vec<_> = times.iter().map(|time| format!("curl -> {}", name(server_time(*time)))).collect();
        prop_assert_eq!(&comms(&records)[..times.len()], &expected[..]);
    }
}

#[test]
fn names_that_find_no_room_are_a_loss() {
    #[derive(Default)]
    struct Losses(Vec<(LossReason, u64)>);
    impl Sink for Losses {
        fn exchange(&mut self, _: &Frame<'_>, _: &dyn Message) {}
        fn connection(&mut self, _: &ConnectionRow<'_>) {}
        fn loss(&mut self, row: &LossRow<'_>) {
            assert!(row.is_lost());
            self.0.push((row.reason, row.events));
        }
    }
    let mut engine = Engine::new(|_| Losses::default());
    engine.host(&header());
    engine.hosts[0].not_kept = 5;
    let (sinks, _) = engine.finish(&[]);
    assert_eq!(sinks[0].0, [(LossReason::MapFull, 5)]);
}
