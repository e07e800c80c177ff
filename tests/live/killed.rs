//! kill -9 of the recorder, whenever: the finished blocks of its file are all read.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use masdeepflow::format::reader::Reader;

use crate::harness::{Group, Live, Recorder};
use crate::support::{Guard, mdf, run, traffic_gen_path};

#[test]
fn a_killed_recorder_leaves_a_file_whose_finished_blocks_are_read() {
    let Some(live) = Live::begin("kill -9 of the recorder", &[]) else {
        return;
    };
    for moment in [0, 3, 17, 61, 150, 333, 700, 1100] {
        let group = Group::make();
        let file = live.path(&format!("cap-{moment}.mdf"));
        let recorder = Recorder::start(&[
            "-o".as_ref(),
            file.as_os_str(),
            "--cgroup".as_ref(),
            group.path().as_ref(),
        ]);
        let mut traffic = group.command(traffic_gen_path());
        traffic
            .args(["http", "-n", "10000000", "-c", "2"])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let traffic = Guard(traffic.spawn().expect("the generator can be started"));
        // Not a wait for something to happen: the moment is what varies.
        std::thread::sleep(Duration::from_millis(moment));
        recorder.signal(libc::SIGKILL);
        let killed = recorder.wait();
        assert_eq!(killed.status.code(), None, "it was killed");
        drop(traffic);

        let bytes = fs::read(&file).expect("the file is there");
        let blocks = match Reader::open(&bytes) {
            Ok(reader) => {
                assert!(!reader.clean_end(), "nobody finished this file");
                let mut raw = Vec::new();
                for block in reader.blocks() {
                    block.inflate(&mut raw).expect("a finished block is whole");
                }
                reader.blocks().len()
            }
            // Killed before the header was written.
            Err(error) => {
                assert!(bytes.len() < 4096, "{error}");
                continue;
            }
        };
        println!("killed after {moment} ms: {} bytes, {blocks} blocks", bytes.len());
        let info = run(mdf().arg("info").arg(&file)).expect_code(&[0, 3]);
        assert!(!info.stdout.is_empty());
        run(mdf().arg("analyze").arg(&file)).expect_code(&[0, 3]);
    }
}
