use super::*;

#[test]
fn show() {
    let Ok(dir) = std::env::var("MDF_SHOW") else { return };
    for path in dir.split(',') {
        println!("== {path}");
        for events in connections(&std::fs::read(path).unwrap()) {
            let run = run(&events);
            println!("-- {} events, {:?}", events.len(), run.verdict);
            for (line, e) in run.lines().iter().zip(&run.exchanges) {
                let m = message(e);
                println!(
                    "{line} | {} {} {} {:#x} inf={} {}-{} {}-{}",
                    m.user,
                    m.database,
                    m.server_version,
                    m.status_flags,
                    m.inferred,
                    e.request.start,
                    e.request.end,
                    e.response.start,
                    e.response.end
                );
            }
            for n in [1, 3, 4, 7, 100] {
                let other = super::run(&cut(&events, n));
                assert_eq!(other.lines(), run.lines(), "{n}");
            }
        }
    }
}
