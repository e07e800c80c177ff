//! Live lines: what the engine gives of each record as an event.

use super::lifetime::{closes, each_alone, one_exchange};
use super::*;
use crate::analyze::live::Live;

/// The lines of these blocks, each read alone.
fn lines(live: &mut Live, blocks: &[RawBlock]) -> Vec<String> {
    let lines = blocks.iter().flat_map(|block| live.lines(&[Source::Raw(block)]));
    lines.map(|line| line.text).collect()
}

#[test]
fn what_is_read_after_the_close_has_its_live_line() {
    let [asked, .., received] = one_exchange();
    let [closed, _] = closes(Ending::Closed);
    let blocks = each_alone(&[&[client(CLIENT, 5000), asked], &[closed], &[received]]);
    let mut live = Live::new(&header());
    let lines: Vec<String> = blocks
        .iter()
        .flat_map(|block| live.lines(&[Source::Raw(block)]))
        .map(|line| line.text)
        .collect();
    let received = format!("received {} bytes", OK.len());
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("DATA") && line.ends_with(&received)),
        "{lines:#?}"
    );
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("HTTP") && line.contains("200")),
        "{lines:#?}"
    );
    assert_eq!(live.finish(), (Vec::new(), true));
}

#[test]
fn events_that_nobody_can_attribute_have_a_live_line_at_the_end() {
    let blocks = each_alone(&[&one_exchange()[..1]]);
    let mut live = Live::new(&header());
    assert!(live.lines(&[Source::Raw(&blocks[0])]).is_empty());
    let (lines, is_whole) = live.finish();
    let lines: Vec<_> = lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(lines, ["LOSS    1 events, 28 bytes: no_socket"]);
    assert!(!is_whole);
}

#[test]
fn a_line_names_the_remote_end_as_its_own_host_knows_it() {
    let [_, records] = service_records([&[], &[true, false]]);
    let blocks = each_alone(&[&records]);
    let lines = lines(&mut Live::new(&header()), &blocks);
    let of = |kind: &str, socket: &str| {
        let ends = lines.iter().filter(|line| line.starts_with(kind));
        ends.filter(|line| line.contains(socket)).count()
    };
    let (dialled, behind) = ("10.0.0.1:5000 -> 10.0.0.96:80", "10.0.0.2:8080 <- 10.0.0.1:5000");
    assert_eq!([of("DATA", dialled), of("DATA", behind)], [2, 2], "{lines:#?}");
    assert_eq!([of("CLOSE", dialled), of("CLOSE", behind)], [1, 1], "{lines:#?}");
    assert_eq!(of("ACCEPT", behind), 1, "{lines:#?}");
    let http: Vec<&String> = lines.iter().filter(|line| line.starts_with("HTTP")).collect();
    assert!(
        http.len() == 1 && http[0].contains("10.0.0.1:5000") && http[0].contains("10.0.0.2:8080"),
        "one exchange of the two ends: {lines:#?}"
    );
}

#[test]
fn a_socket_that_comes_after_records_of_both_ends_has_lines_from_then_on() {
    let [asked, received_request, answered, received] = one_exchange();
    let blocks = each_alone(&[&[
        asked,
        received_request,
        client(CLIENT, 5000),
        server(SERVER, 5000),
        answered,
        received,
    ]]);
    let mut live = Live::new(&header());
    let lines = lines(&mut live, &blocks);
    let kinds: Vec<&str> = lines.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(kinds, ["ACCEPT", "DATA", "DATA", "HTTP"], "{lines:#?}");
    assert!(live.finish().1);
}

#[test]
fn data_of_another_layer_has_its_line() {
    let [asked, ..] = one_exchange();
    let plaintext = match asked {
        Record::Data(data) => Record::Data(Data {
            layer: Layer::TlsPlaintext,
            ..data
        }),
        other => other,
    };
    let blocks = each_alone(&[&[client(CLIENT, 5000), plaintext]]);
    let lines = lines(&mut Live::new(&header()), &blocks);
    let expected = format!("sent {} bytes ({})", GET.len(), Layer::TlsPlaintext.name());
    assert!(lines.len() == 1 && lines[0].ends_with(&expected), "{lines:#?}");
}

/// The batch has learnt all names before the first of its lines is made.
#[test]
fn the_end_of_a_process_names_what_a_later_block_says_it_was() {
    let exit = Record::Exit(crate::format::record::Exit {
        time: 300,
        pid: 9,
        start: 100,
        status: 9,
    });
    let process = Record::Process(Process {
        time: 150,
        origin: Origin::Exec,
        pid: 9,
        ppid: 1,
        pid_in_ns: 9,
        start: 100,
        uid: 0,
        cgroup: 5,
        netns: 0,
        comm: b"ls",
        exe: b"/bin/ls",
        argv: b"ls\0",
        argv_len: 3,
    });
    let blocks = each_alone(&[&[exit], &[process]]);
    let sources: Vec<Source<'_>> = blocks.iter().map(Source::Raw).collect();
    let lines = Live::new(&header()).lines(&sources);
    let lines: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(lines, ["PROCESS ls[9] ppid 1 ls", "EXIT    ls[9] killed by signal 9"]);
}
