//! From records to files: drain, queue and sink together, without a kernel.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use super::cgroup::Entry;
use super::counters::Counters;
use super::drain::{Drain, DrainConfig, Outlets};
use super::lookup::{Answer, Lookups, Question};
use super::loss::Count;
use super::output::Rotation;
use super::queue::{self, Batch, Consumer, Next, Order};
use super::sink::{Sink, SinkConfig};
use super::snapshot::{Found, Listeners, Snapshot};
use super::source::monitor::KernelLosses;
use crate::format::header::Header;
use crate::format::reader::Reader;
use crate::format::record::*;

fn config() -> DrainConfig {
    DrainConfig {
        block_age: Duration::from_millis(250),
        rotation: Rotation::default(),
        ring: None,
        max_events: None,
        max_sockets: 1000,
        proc: false,
        v1: false,
    }
}

fn header() -> Header {
    Header {
        tool_version: "test".into(),
        command_line: String::new(),
        hostname: "host".into(),
        boot_id: String::new(),
        kernel: String::new(),
        arch: String::new(),
        backend: "none".into(),
        filters: String::new(),
        snaplen: 4096,
        cpus: 1,
        clock: Clock {
            boot: 0,
            monotonic: 0,
            realtime: 0,
        },
        recording: 77,
        part: 0,
    }
}

fn sink_config(base: &Path) -> SinkConfig {
    SinkConfig {
        base: base.to_owned(),
        header: header(),
        force: false,
        parts: false,
        keep: None,
        max_size: None,
        ring: None,
    }
}

/// A drain with a queue to its file of this many batches.
fn drain(config: DrainConfig, batches: usize) -> (Drain, Consumer, Arc<Counters>) {
    let (sender, consumer) = queue::bounded(batches);
    let counters = Arc::new(Counters::default());
    let outlets = Outlets {
        file: Some(sender),
        print: None,
    };
    (
        Drain::new(config, outlets, counters.clone(), None, 0),
        consumer,
        counters,
    )
}

fn socket(id: u64) -> Socket {
    Socket {
        time: 10,
        id,
        opened: Opened::FirstSeen,
        role: Role::Undetermined,
        local: Endpoint::new([10, 0, 0, 1].into(), 80),
        remote: Endpoint::new([10, 0, 0, 2].into(), 50_000),
        netns: 9,
        pid: 0,
        cgroup: 5,
        send_pos: 1,
        receive_pos: 2,
        positions: true,
    }
}

fn data(id: u64, time: u64, payload: &[u8]) -> Data<'_> {
    Data {
        time,
        id,
        pos: 1,
        len: payload.len() as u32,
        pid: 7,
        tid: 7,
        cgroup: 5,
        direction: Direction::Sent,
        cut: Cut::Whole,
        payload,
        layer: Layer::Wire,
    }
}

fn process(pid: u32, start: u64, origin: Origin) -> Process<'static> {
    Process {
        time: start,
        origin,
        pid,
        ppid: 1,
        pid_in_ns: pid,
        start,
        uid: 0,
        cgroup: 5,
        netns: 9,
        comm: b"ls",
        exe: b"/bin/ls",
        argv: b"ls\0",
        argv_len: 3,
    }
}

/// Each record of a file in one word, and each loss with its numbers; clocks are left out.
fn words(path: &Path) -> Vec<String> {
    let bytes = std::fs::read(path).unwrap();
    let reader = Reader::open(&bytes).unwrap();
    assert!(
        reader.clean_end() && reader.damage().is_empty(),
        "{:?}",
        reader.damage()
    );
    let mut words = Vec::new();
    for block in reader.blocks() {
        let mut raw = Vec::new();
        block.inflate(&mut raw).unwrap();
        for record in crate::format::records(&raw) {
            words.push(match record.unwrap() {
                Record::Clock(_) => continue,
                Record::Loss(loss) => format!("{} {} {}", loss.reason.name(), loss.events, loss.bytes),
                Record::Socket(socket) => format!("socket {} {}", socket.id, socket.role.name()),
                Record::Process(process) => format!("process {} {}", process.pid, process.start),
                Record::Exit(exit) => format!("exit {} {}", exit.pid, exit.start),
                Record::Data(data) => format!("data {}", String::from_utf8_lossy(data.payload)),
                other => format!("{other:?}"),
            });
        }
    }
    words
}

fn taken(consumer: &Consumer) -> Arc<Batch> {
    match consumer.next(Duration::ZERO) {
        Next::Batch(batch) => batch,
        other => panic!("{other:?}"),
    }
}

fn finish(mut drain: Drain, consumer: &Consumer, sink: Sink) -> Vec<std::path::PathBuf> {
    let last = drain.finish(100);
    drain.take_outlets().file.unwrap().offer(&Arc::new(last)).unwrap();
    sink.run(consumer)
}

#[test]
fn what_goes_in_is_in_the_file_state_first() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cap.mdf");
    let (mut drain, consumer, counters) = drain(config(), 4);
    let sink = Sink::new(sink_config(&path), counters.clone()).unwrap();
    drain.record(&Record::Data(data(1, 20, b"GET")));
    drain.record(&Record::Socket(socket(1)));
    drain.record(&Record::Data(data(1, 30, b"POST")));
    assert_eq!(drain.recorded(), Count { events: 2, bytes: 7 });
    finish(drain, &consumer, sink);
    assert_eq!(words(&path), ["socket 1 ", "data GET", "data POST"]);
    assert_eq!(counters.written.get(), std::fs::metadata(&path).unwrap().len());
}

/// A drain whose questions the test answers.
fn asking(config: DrainConfig, room: usize) -> (Drain, Consumer, Receiver<Question>, Sender<Answer>) {
    let (sender, consumer) = queue::bounded(100);
    let outlets = Outlets {
        file: Some(sender),
        print: None,
    };
    let (lookups, questions, answers) = Lookups::channel(room);
    let drain = Drain::new(config, outlets, Arc::default(), Some(lookups), 0);
    (drain, consumer, questions, answers)
}

fn data_of(pid: u32, time: u64) -> Record<'static> {
    Record::Data(Data {
        pid,
        ..data(1, time, b"GET")
    })
}

/// The state records of all blocks that are handed over, and of what is still open.
fn state(mut drain: Drain, consumer: &Consumer) -> Vec<String> {
    let last = Arc::new(drain.finish(100));
    let mut told = Vec::new();
    let handed_over = std::iter::from_fn(|| match consumer.next(Duration::ZERO) {
        Next::Batch(batch) => Some(batch),
        _ => None,
    });
    for block in handed_over.chain([last]).flat_map(|batch| batch.blocks.clone()) {
        for record in block.records().flatten() {
            match record {
                Record::Process(p) => {
                    let comm = String::from_utf8_lossy(p.comm);
                    told.push(format!("{} {} {} in {}", p.origin.name(), p.pid, comm, p.cgroup));
                }
                Record::Cgroup(c) => told.push(format!("cgroup {} {}", c.id, String::from_utf8_lossy(c.path))),
                _ => {}
            }
        }
    }
    told
}

fn found(pid: u32, start: u64, comm: &str) -> Found {
    Found {
        time: 50,
        pid,
        ppid: 1,
        pid_in_ns: pid,
        start,
        uid: 0,
        cgroup: 5,
        cgroup_path: b"/five".to_vec(),
        v2_cgroup: 5,
        netns: 9,
        comm: comm.as_bytes().to_vec(),
        exe: Vec::new(),
        argv: Vec::new(),
        argv_len: 0,
    }
}

fn proc() -> DrainConfig {
    DrainConfig { proc: true, ..config() }
}

/// The event of its exec may have been dropped.
#[test]
fn a_process_that_nothing_has_named_is_asked_for_once_and_named_by_proc() {
    let (mut drain, consumer, questions, answers) = asking(proc(), 10);
    for time in [20, 21, 22] {
        // Others take their turn in between, so that it is not only remembered as the last one.
        (7..13).for_each(|pid| drain.record(&data_of(pid, time)));
    }
    assert_eq!(questions.try_iter().count(), 6, "each is asked for once");
    answers
        .send(Answer::Process(7, Some(Box::new(found(7, 1, "nginx")))))
        .unwrap();
    answers.send(Answer::Process(8, None)).unwrap();
    drain.take_answers(1);
    assert_eq!(
        drain.unresolved().processes,
        0,
        "as many answers are taken as are wanted"
    );
    drain.take_answers(10);
    assert_eq!(drain.unresolved().processes, 1);
    drop(answers);
    drain.await_answers(Instant::now());
    assert_eq!(
        drain.unresolved().processes,
        5,
        "without an answer there is no name either"
    );
    assert_eq!(state(drain, &consumer), ["cgroup 5 /five", "snapshot 7 nginx in 5"]);
}

#[test]
fn a_process_that_the_snapshot_found_in_time_is_not_missing() {
    let (mut drain, _consumer, _questions, answers) = asking(proc(), 10);
    for pid in [7, 8, 9] {
        drain.record(&data_of(pid, 20));
        answers.send(Answer::Process(pid, None)).unwrap();
    }
    drain.take_answers(1);
    drain.snapshot(Snapshot {
        processes: vec![found(7, 1, "before"), found(8, 1, "after")],
        ..Snapshot::default()
    });
    while drain.is_taking_in() {
        drain.take_in(10);
    }
    drain.take_answers(10);
    assert_eq!(drain.unresolved().processes, 1);
}

#[test]
fn an_answer_that_comes_late_names_nobody_else() {
    let (mut drain, consumer, _questions, answers) = asking(proc(), 10);
    drain.record(&data_of(7, 20));
    drain.record(&data_of(8, 20));
    // Meanwhile one has called execve, and the other's pid is another process's.
    drain.record(&Record::Process(process(7, 1, Origin::Exec)));
    drain.record(&Record::Process(process(8, 90_000_000, Origin::Exec)));
    for pid in [7, 8] {
        answers
            .send(Answer::Process(pid, Some(Box::new(found(pid, 1, "before")))))
            .unwrap();
    }
    drain.take_answers(10);
    assert_eq!(
        state(drain, &consumer),
        ["exec 7 ls in 5", "exec 8 ls in 5", "cgroup 5 /five"]
    );
}

/// The event of an execve may have been dropped, and the one of the fork before it not.
#[test]
fn a_forked_process_gets_the_name_that_proc_knows_where_events_were_lost() {
    for (lost, names) in [
        (false, &["fork 7 ls in 5"][..]),
        (true, &["fork 7 ls in 5", "cgroup 5 /five", "fork 7 nginx in 5"]),
    ] {
        let (mut drain, consumer, questions, answers) = asking(proc(), 10);
        drain.record(&Record::Process(process(7, 1, Origin::Fork)));
        for time in [20, 30, 40] {
            (7..13).for_each(|pid| drain.record(&data_of(pid, time)));
            if lost {
                drain.ring_record(b"malformed");
            }
            drain.sink_losses(time);
        }
        let asked = questions
            .try_iter()
            .filter(|question| *question == Question::Process(7))
            .count();
        assert_eq!(asked, usize::from(lost));
        for _ in 0..asked {
            // In a time namespace, /proc rounds the start differently.
            answers
                .send(Answer::Process(7, Some(Box::new(found(7, 5_000_000, "nginx")))))
                .unwrap();
        }
        drain.take_answers(10);
        (7..13).for_each(|pid| drain.record(&data_of(pid, 50)));
        assert_eq!(
            questions
                .try_iter()
                .filter(|question| *question == Question::Process(7))
                .count(),
            0,
            "once"
        );
        assert_eq!(state(drain, &consumer), names);
    }
}

/// 4,300 processes with long arguments were read again and again, and counted as lost each time.
#[test]
fn processes_that_find_no_room_are_neither_asked_for_again_nor_lost() {
    let (mut drain, _consumer, questions, _answers) = asking(proc(), 10_000);
    let argv = vec![b'x'; 4096];
    for pid in 1..=5000 {
        drain.record(&Record::Process(Process {
            argv: &argv,
            argv_len: 4096,
            ..process(pid, 1, Origin::Exec)
        }));
    }
    for time in [20, 30] {
        (1..=5000).for_each(|pid| drain.record(&data_of(pid, time)));
        drain.tick(time * 1_000_000_000);
    }
    assert_eq!(
        questions
            .try_iter()
            .filter(|question| matches!(question, Question::Process(_)))
            .count(),
        0
    );
    assert_eq!(drain.ledger().missing(), 0);
}

/// A full queue of questions costs names, and never time.
#[test]
fn a_process_that_finds_no_room_among_the_questions_is_asked_for_at_its_next_event() {
    let (mut drain, _consumer, questions, _answers) = asking(proc(), 1);
    for time in [20, 30] {
        (1..=5).for_each(|pid| drain.record(&data_of(pid, time)));
        let asked: Vec<Question> = questions.try_iter().collect();
        assert_eq!(asked.len(), 1);
    }
}

#[test]
fn cgroups_are_named_by_their_processes_or_by_a_walk_of_the_tree() {
    let (mut drain, consumer, questions, answers) = asking(proc(), 10);
    for (pid, cgroup) in [(7, 5), (8, 6), (9, 6), (10, 8)] {
        drain.record(&Record::Process(Process {
            cgroup,
            ..process(pid, 1, Origin::Fork)
        }));
    }
    let cgroup = |id, pid| Question::Cgroup { id, pid };
    assert_eq!(
        questions.try_iter().collect::<Vec<_>>(),
        [cgroup(5, 7), cgroup(6, 8), cgroup(8, 10)]
    );
    answers.send(Answer::Cgroup(5, Some(b"/five".to_vec()))).unwrap();
    answers.send(Answer::Cgroup(6, None)).unwrap();
    answers.send(Answer::Cgroup(8, None)).unwrap();
    drain.take_answers(10);
    drain.tick(10_000_000_000);
    drain.tick(20_000_000_000);
    let walks: Vec<Question> = questions.try_iter().collect();
    let [Question::Cgroups { unnamed, known }] = &walks[..] else {
        panic!("one walk at a time: {walks:?}");
    };
    assert!(
        known.is_empty() && unnamed.contains(&6) && unnamed.contains(&8),
        "{walks:?}"
    );
    let walked = Answer::Cgroups {
        named: vec![Entry {
            id: 6,
            path: b"/six".to_vec(),
        }],
        unnamed: vec![8],
        gone: HashSet::new(),
    };
    answers.send(walked).unwrap();
    drain.take_answers(10);
    assert_eq!(drain.unresolved().cgroups, 1);
    let told = state(drain, &consumer);
    assert_eq!(told[4..], ["cgroup 5 /five", "cgroup 6 /six"], "{told:?}");
}

#[test]
fn on_a_v1_host_a_process_is_in_its_parents_container_until_it_is_found_elsewhere() {
    let (mut drain, consumer, questions, answers) = asking(DrainConfig { v1: true, ..proc() }, 100);
    let v1 = |id| CGROUP_V1 | id;
    let entry = |id, path: &[u8]| Entry {
        id: v1(id),
        path: path.to_vec(),
    };
    let child = |pid, ppid, origin| {
        Record::Process(Process {
            ppid,
            ..process(pid, 1, origin)
        })
    };
    drain.record(&child(7, 1, Origin::Fork));
    drain.record(&child(7, 1, Origin::Exec));
    // Forked before the answer: it is asked for as well.
    drain.record(&child(8, 7, Origin::Fork));
    let asked: Vec<Question> = (questions.try_iter())
        .filter(|question| matches!(question, Question::Container(_)))
        .collect();
    assert_eq!(asked, [Question::Container(7), Question::Container(8)]);
    for pid in [7, 8] {
        answers
            .send(Answer::Container(pid, Some((1, entry(3, b"/docker/c")))))
            .unwrap();
    }
    drain.take_answers(10);
    drain.record(&child(9, 7, Origin::Fork));
    assert!(!questions.try_iter().any(|question| question == Question::Container(9)));
    // Of another process that had this pid.
    answers
        .send(Answer::Container(9, Some((90_000_000, entry(4, b"/docker/d")))))
        .unwrap();
    drain.take_answers(10);
    let told = state(drain, &consumer);
    let three = v1(3);
    assert_eq!(
        told,
        [
            "fork 7 ls in 5".to_owned(),
            "exec 7 ls in 5".to_owned(),
            "fork 8 ls in 5".to_owned(),
            format!("cgroup {three} /docker/c"),
            format!("exec 7 ls in {three}"),
            format!("fork 8 ls in {three}"),
            format!("fork 9 ls in {three}"),
            format!("cgroup {} /docker/d", v1(4)),
        ]
    );
}

/// 80,000 sockets at the start kept the ring waiting until it overflowed.
#[test]
fn a_snapshot_is_taken_in_by_pieces_and_what_is_recorded_meanwhile_keeps_its_id() {
    let (mut drain, _consumer, _questions, _answers) = asking(proc(), 10);
    let open = |n: u16| Socket {
        remote: Endpoint::new([10, 0, 0, 3].into(), n),
        ..socket(0)
    };
    let sockets: Vec<Socket> = (0..1000).map(open).collect();
    drain.snapshot(Snapshot {
        sockets,
        ..Snapshot::default()
    });
    let mut taken = drain.take_in(100);
    assert_eq!(taken.len(), 100);
    drain.record(&Record::Socket(Socket { id: 77, ..open(500) }));
    // Another snapshot waits for its turn.
    drain.snapshot(Snapshot {
        sockets: vec![open(3), open(2000)],
        ..Snapshot::default()
    });
    while drain.is_taking_in() {
        let more = drain.take_in(100);
        assert!(more.len() <= 100);
        taken.extend(more);
    }
    let ports: Vec<u16> = taken.iter().map(|socket| socket.remote.port).collect();
    let expected: Vec<u16> = (0..1000).filter(|port| *port != 500).chain([2000]).collect();
    assert_eq!(ports, expected);
    let ids: HashSet<u64> = taken.iter().map(|socket| socket.id).collect();
    assert_eq!(ids.len(), taken.len());
}

/// What is left out of a dump is missing in the part that begins with it, and nowhere else.
#[test]
fn what_a_part_does_not_repeat_is_lost_there() {
    let rotation = Rotation {
        size: Some(1),
        time: None,
    };
    for (rotation, missing) in [(Rotation::default(), 0), (rotation, 3)] {
        let config = DrainConfig {
            max_sockets: 1,
            rotation,
            ..config()
        };
        let (mut drain, _consumer, counters) = drain(config, 10);
        (0..5).for_each(|id| drain.record(&Record::Socket(socket(id))));
        drain.flush(10);
        counters.part_written.set(100);
        drain.tick(3_000_000_000);
        assert_eq!(drain.ledger().missing(), missing);
    }
}

#[test]
fn a_forked_process_runs_what_its_parent_runs() {
    let (mut drain, _consumer, _questions, _answers) = asking(proc(), 10);
    drain.record(&Record::Process(process(7, 1, Origin::Exec)));
    let fork = |pid, ppid| {
        Record::Process(Process {
            ppid,
            exe: b"",
            ..process(pid, 2, Origin::Fork)
        })
    };
    [fork(8, 7), fork(9, 8), fork(10, 77)]
        .iter()
        .for_each(|record| drain.record(record));
    let last = drain.finish(100);
    let records = last.blocks.iter().flat_map(|block| block.records().flatten());
    let exes: Vec<&[u8]> = records
        .filter_map(|record| {
            if let Record::Process(process) = record {
                Some(process.exe)
            } else {
                None
            }
        })
        .collect();
    assert_eq!(exes, [&b"/bin/ls"[..], b"/bin/ls", b"/bin/ls", b""]);
}

#[test]
fn blocks_are_written_by_age_so_that_a_killed_recorder_leaves_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cap.mdf");
    let (mut drain, consumer, _) = drain(config(), 4);
    drain.record(&Record::Data(data(1, 20, b"GET")));
    drain.tick(crate::record::sys::boot_ns());
    assert_eq!(consumer.waiting(), 0, "young");
    drain.tick(crate::record::sys::boot_ns() + 250_000_000);
    assert_eq!(consumer.waiting(), 1);
    let mut sink = Sink::new(sink_config(&path), Arc::default()).unwrap();
    let batch = taken(&consumer);
    sink.batch(&batch);
    // No end was written: as after kill -9.
    let bytes = std::fs::read(&path).unwrap();
    let reader = Reader::open(&bytes).unwrap();
    assert!(!reader.clean_end());
    assert_eq!(reader.blocks().len(), 1);
}

#[test]
fn what_a_full_queue_refuses_is_counted_and_recorded_and_state_comes_later() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cap.mdf");
    let (mut drain, consumer, counters) = drain(config(), 1);
    let sink = Sink::new(sink_config(&path), counters).unwrap();
    drain.record(&Record::Data(data(1, 20, b"one")));
    drain.flush(30);
    drain.record(&Record::Socket(socket(2)));
    drain.record(&Record::Data(data(2, 40, b"three")));
    drain.record(&Record::Data(data(2, 41, b"4")));
    drain.flush(50);
    drain.record(&Record::Data(data(2, 60, b"five!")));
    drain.flush(70);
    assert_eq!(drain.ledger().missing(), 3);
    // Room again.
    let first = taken(&consumer);
    assert_eq!(first.order, Order::Append);
    drain.record(&Record::Data(data(2, 80, b"six")));
    finish(drain, &consumer, sink);
    assert_eq!(words(&path), ["socket 2 ", "data six", "queue_full 3 11"]);
}

#[test]
fn a_loss_is_recorded_once_although_its_block_is_refused() {
    let (mut drain, consumer, _) = drain(config(), 1);
    drain.record(&Record::Data(data(1, 20, b"x")));
    drain.flush(20);
    let losses = KernelLosses::from_iter([(LossReason::RingFull, Count { events: 5, bytes: 50 })]);
    drain.kernel_losses(&losses, 30);
    drain.flush(40);
    drain.kernel_losses(&losses, 50);
    taken(&consumer);
    drain.flush(60);
    let batch = taken(&consumer);
    let told: Vec<(u64, u64)> = batch.blocks[0]
        .losses
        .iter()
        .map(|loss| (loss.events, loss.bytes))
        .collect();
    assert_eq!(told, [(5, 50)]);
    assert_eq!(drain.ledger().missing(), 5);
}

#[test]
fn the_limit_on_events_is_exact() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cap.mdf");
    let (mut drain, consumer, counters) = drain(
        DrainConfig {
            max_events: Some(2),
            ..config()
        },
        4,
    );
    let sink = Sink::new(sink_config(&path), counters).unwrap();
    for text in ["one", "two", "three"] {
        drain.record(&Record::Data(data(1, 20, text.as_bytes())));
    }
    assert!(drain.limit_reached());
    assert_eq!(drain.recorded().events, 2);
    finish(drain, &consumer, sink);
    assert_eq!(words(&path), ["data one", "data two"]);
}

#[test]
fn payload_that_was_cut_is_counted_by_cause() {
    let (mut drain, _consumer, _) = drain(config(), 4);
    drain.record(&Record::Data(Data {
        len: 100,
        cut: Cut::Snaplen,
        ..data(1, 20, b"abc")
    }));
    drain.record(&Record::Data(Data {
        len: 10,
        cut: Cut::KernelPages,
        ..data(1, 20, b"")
    }));
    assert_eq!(
        drain.cuts(),
        [
            (Cut::Snaplen, Count { events: 1, bytes: 97 }),
            (Cut::KernelPages, Count { events: 1, bytes: 10 })
        ]
    );
}

#[test]
fn a_connection_seen_before_the_listeners_were_known_becomes_a_servers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cap.mdf");
    let (mut drain, consumer, counters) = drain(config(), 4);
    let sink = Sink::new(sink_config(&path), counters).unwrap();
    drain.record(&Record::Socket(socket(1)));
    let mut listeners = Listeners::default();
    listeners.add(9, Endpoint::new([0, 0, 0, 0].into(), 80));
    let idle = Socket {
        id: 0,
        remote: Endpoint::new([10, 0, 0, 3].into(), 1),
        role: Role::Server,
        ..socket(0)
    };
    let again = Socket { id: 0, ..socket(0) };
    drain.snapshot(Snapshot {
        sockets: vec![idle, again],
        listeners,
        ..Snapshot::default()
    });
    let open = drain.take_in(10);
    assert_eq!(open.len(), 1, "the one that was recorded already keeps its id");
    assert_eq!(open[0].id & 0x8000_0000, 0x8000_0000);
    drain.record(&Record::Socket(socket(2)));
    finish(drain, &consumer, sink);
    let idle = format!("socket {} server", open[0].id);
    assert_eq!(words(&path), ["socket 1 ", "socket 1 server", &idle, "socket 2 server"]);
}

#[test]
fn a_process_of_the_snapshot_keeps_its_start_through_exec_and_exit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cap.mdf");
    let (mut drain, consumer, counters) = drain(config(), 4);
    let sink = Sink::new(sink_config(&path), counters).unwrap();
    drain.record(&Record::Process(process(7, 120_000_000, Origin::Snapshot)));
    drain.record(&Record::Process(process(7, 123_456_789, Origin::Exec)));
    drain.record(&Record::Exit(Exit {
        time: 200_000_000,
        pid: 7,
        start: 123_456_789,
        status: 0,
    }));
    finish(drain, &consumer, sink);
    assert_eq!(
        words(&path),
        ["process 7 120000000", "process 7 120000000", "exit 7 120000000"]
    );
}

#[test]
fn each_part_is_complete_and_together_they_are_everything() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("cap.mdf");
    let rotation = Rotation {
        size: Some(1),
        time: None,
    };
    let (mut drain, consumer, counters) = drain(DrainConfig { rotation, ..config() }, 100);
    let mut sink = Sink::new(
        SinkConfig {
            parts: true,
            ..sink_config(&base)
        },
        counters,
    )
    .unwrap();
    drain.record(&Record::Socket(socket(1)));
    for n in 0..3 {
        drain.record(&Record::Data(data(1, n, format!("{n}").as_bytes())));
        drain.flush(n);
        while let Next::Batch(batch) = consumer.next(Duration::ZERO) {
            sink.batch(&batch);
        }
        drain.tick(n);
    }
    let files = finish(drain, &consumer, sink);
    let names: Vec<_> = files
        .iter()
        .map(|file| file.file_name().unwrap().to_str().unwrap())
        .collect();
    assert_eq!(
        names,
        ["cap-00000.mdf", "cap-00001.mdf", "cap-00002.mdf", "cap-00003.mdf"]
    );
    for (n, file) in files.iter().enumerate() {
        let bytes = std::fs::read(file).unwrap();
        let reader = Reader::open(&bytes).unwrap();
        assert_eq!((reader.header().recording, reader.header().part), (77, n as u32));
        let words = words(file);
        assert_eq!(words[0], "socket 1 ", "every part names what its events refer to");
        let told: Vec<&str> = words[1..].iter().map(String::as_str).collect();
        assert_eq!(told, if n < 3 { vec![format!("data {n}")] } else { vec![] });
    }
}

#[test]
fn only_the_newest_parts_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("cap.mdf");
    let rotation = Rotation {
        size: Some(1),
        time: None,
    };
    let (mut drain, consumer, counters) = drain(DrainConfig { rotation, ..config() }, 100);
    let mut sink = Sink::new(
        SinkConfig {
            parts: true,
            keep: Some(2),
            ..sink_config(&base)
        },
        counters,
    )
    .unwrap();
    for n in 0..5 {
        drain.record(&Record::Data(data(1, n, b"x")));
        drain.flush(n);
        while let Next::Batch(batch) = consumer.next(Duration::ZERO) {
            sink.batch(&batch);
        }
        drain.tick(n);
    }
    let files = finish(drain, &consumer, sink);
    assert_eq!(files, in_folder(folder.path()));
    assert_eq!(files.len(), 2);
    assert!(files[1].ends_with("cap-00005.mdf"));
}

/// Everything in a folder, by name.
fn in_folder(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn names_that_are_taken_are_passed_over_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let base = path("cap.mdf");
    let rotation = Rotation {
        size: Some(1),
        time: None,
    };
    let (mut drain, consumer, counters) = drain(DrainConfig { rotation, ..config() }, 100);
    let parts = SinkConfig {
        parts: true,
        ..sink_config(&base)
    };
    let mut sink = Sink::new(parts, counters.clone()).unwrap();
    // Put there while the recording goes on.
    std::fs::write(path("cap-00001.mdf"), "precious").unwrap();
    let fifo = std::process::Command::new("mkfifo").arg(path("cap-00002.mdf")).status();
    assert!(fifo.unwrap().success());
    std::os::unix::fs::symlink(path("elsewhere"), path("cap-00003.mdf")).unwrap();
    for n in 0..3 {
        drain.record(&Record::Data(data(1, n, b"x")));
        drain.flush(n);
        while let Next::Batch(batch) = consumer.next(Duration::ZERO) {
            sink.batch(&batch);
        }
        drain.tick(n);
    }
    let files = finish(drain, &consumer, sink);
    let names = ["cap-00000.mdf", "cap-00004.mdf", "cap-00005.mdf", "cap-00006.mdf"];
    assert_eq!(files, names.map(path));
    for (part, file) in files.iter().enumerate() {
        let bytes = std::fs::read(file).unwrap();
        assert_eq!(Reader::open(&bytes).unwrap().header().part as usize, part);
    }
    let told: usize = files.iter().map(|file| words(file).len()).sum();
    assert_eq!(told, 3, "every event is in one of them");
    assert_eq!(counters.disk_error.get(), Count::default());
    let (first, last) = (path("cap-00001.mdf"), path("cap-00003.mdf"));
    let note = format!(
        "3 names from {} to {} exist and are passed over",
        first.display(),
        last.display()
    );
    assert_eq!(
        counters.take_notes(),
        [note],
        "passing over is told once, with all names"
    );
    assert_eq!(std::fs::read(path("cap-00001.mdf")).unwrap(), b"precious");
    assert!(!path("elsewhere").exists());
}

#[test]
fn what_stands_in_the_place_of_an_old_part_is_not_removed() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("cap.mdf");
    let config = SinkConfig {
        parts: true,
        keep: Some(1),
        ..sink_config(&base)
    };
    let mut sink = Sink::new(config, Arc::new(Counters::default())).unwrap();
    let new_part = Batch {
        order: Order::NewPart,
        blocks: Vec::new(),
    };
    let first = folder.path().join("cap-00000.mdf");
    std::fs::rename(&first, folder.path().join("kept.mdf")).unwrap();
    std::fs::write(&first, "precious").unwrap();
    sink.batch(&new_part);
    assert_eq!(std::fs::read(&first).unwrap(), b"precious");
    // Another recording's part of this name is not ours either.
    let second = folder.path().join("cap-00001.mdf");
    std::fs::remove_file(&second).unwrap();
    let mut other = header();
    (other.recording, other.part) = (78, 1);
    let file = std::fs::File::create(&second).unwrap();
    crate::format::Writer::new(file, &other, 1).unwrap().finish().unwrap();
    sink.batch(&new_part);
    sink.batch(&new_part);
    let left = ["cap-00000.mdf", "cap-00001.mdf", "cap-00003.mdf", "kept.mdf"];
    assert_eq!(in_folder(folder.path()), left.map(|name| folder.path().join(name)));
}

#[test]
fn a_file_whose_name_was_taken_while_it_was_gone_goes_on_under_another() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cap.mdf");
    let (mut drain, consumer, counters) = drain(config(), 100);
    let mut sink = Sink::new(sink_config(&path), counters).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "precious").unwrap();
    sink.check_file_now();
    drain.tick(3_000_000_000);
    drain.record(&Record::Data(data(1, 50, b"kept")));
    let files = finish(drain, &consumer, sink);
    assert_eq!(files, [folder.path().join("cap-00001.mdf")]);
    assert_eq!(words(&files[0]), ["data kept"]);
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[test]
fn the_memory_ring_is_written_when_asked_and_begins_again() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("cap.mdf");
    let ring = Duration::from_secs(1_000_000);
    let (mut drain, consumer, counters) = drain(
        DrainConfig {
            ring: Some(ring),
            ..config()
        },
        100,
    );
    let config = SinkConfig {
        parts: true,
        ring: Some((ring, 1 << 20)),
        ..sink_config(&base)
    };
    let sink = Sink::new(config, counters).unwrap();
    assert!(
        in_folder(folder.path()).is_empty(),
        "nothing is written before it is asked for"
    );
    drain.record(&Record::Socket(socket(1)));
    drain.record(&Record::Data(data(1, 20, b"one")));
    drain.dump_ring(30).unwrap();
    drain.record(&Record::Data(data(1, 40, b"two")));
    let last = drain.finish(50);
    let dump = drain.last_dump();
    let outlets = drain.take_outlets();
    for batch in [last, dump] {
        outlets.file.as_ref().unwrap().offer(&Arc::new(batch)).unwrap();
    }
    drop(outlets);
    let files = sink.run(&consumer);
    assert_eq!(files.len(), 2);
    assert_eq!(words(&files[0]), ["socket 1 ", "data one"]);
    assert_eq!(words(&files[1]), ["socket 1 ", "data two"]);
}

#[test]
fn the_limit_on_size_stops_writing_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cap.mdf");
    let (mut drain, consumer, counters) = drain(config(), 100);
    let sink = Sink::new(
        SinkConfig {
            max_size: Some(1),
            ..sink_config(&path)
        },
        counters.clone(),
    )
    .unwrap();
    for n in 0..3 {
        drain.record(&Record::Data(data(1, n, b"xyz")));
        drain.flush(n);
    }
    finish(drain, &consumer, sink);
    assert!(counters.size_reached.is_raised());
    assert_eq!(words(&path).len(), 1);
    assert_eq!(counters.over_limit.get(), Count { events: 2, bytes: 6 });
}

#[test]
fn a_removed_file_is_noticed_its_events_are_lost_and_a_new_one_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("below/cap.mdf");
    std::fs::create_dir(folder.path().join("below")).unwrap();
    let (mut drain, consumer, counters) = drain(config(), 100);
    let mut sink = Sink::new(sink_config(&path), counters.clone()).unwrap();
    drain.record(&Record::Socket(socket(1)));
    drain.record(&Record::Data(data(1, 20, b"gone")));
    drain.flush(30);
    sink.batch(&taken(&consumer));
    std::fs::remove_dir_all(folder.path().join("below")).unwrap();
    sink.check_file_now();
    assert_eq!(counters.disk_error.get(), Count { events: 1, bytes: 4 });
    assert_eq!(counters.take_notes().len(), 1);

    // No directory: what comes is lost, its records of losses too, and nothing breaks.
    drain.record(&Record::Data(data(1, 40, b"too")));
    let now = 3_000_000_000;
    let losses = KernelLosses::from_iter([(LossReason::RingFull, Count { events: 5, bytes: 50 })]);
    drain.kernel_losses(&losses, now);
    drain.tick(now);
    drain.flush(now);
    while let Next::Batch(batch) = consumer.next(Duration::ZERO) {
        sink.batch(&batch);
    }
    assert_eq!(counters.disk_error.get().events, 2);

    std::fs::create_dir(folder.path().join("below")).unwrap();
    drain.sink_losses(now);
    drain.tick(now + 2_000_000_000);
    drain.record(&Record::Data(data(1, 50, b"kept")));
    finish(drain, &consumer, sink);
    // State comes first, and what was lost before is recorded.
    assert_eq!(
        words(&path),
        ["socket 1 ", "data kept", "ring_full 5 50", "disk_error 2 7"]
    );
}

/// What these need from files is looked up on another thread ([`super::lookup`]): a tree of 5,000 cgroups took longer to walk than
/// the ring holds events.
#[test]
fn the_thread_that_reads_the_ring_does_no_file_system_work() {
    let sources = [
        ("drain.rs", include_str!("drain.rs")),
        ("drain/resolve.rs", include_str!("drain/resolve.rs")),
        ("state.rs", include_str!("state.rs")),
        ("wire.rs", include_str!("source/wire.rs")),
        ("process/wire.rs", include_str!("source/process/wire.rs")),
        ("tcp/wire.rs", include_str!("source/tcp/wire.rs")),
        ("loss.rs", include_str!("loss.rs")),
        ("queue.rs", include_str!("queue.rs")),
    ];
    for (name, source) in sources {
        for word in [
            "std::fs",
            "File::",
            "snapshot::process",
            "snapshot::take",
            "cgroup::Tree",
            "Path",
        ] {
            assert!(!source.contains(word), "{name} has {word}");
        }
    }
}
