//! Signals as counts that the recorder looks at. SIGINT, SIGTERM, SIGQUIT, SIGHUP and all others that would end a process
//! end the recording in order, so that no file stays unclosed and no cgroup is left over; each further one gives up what is being
//! waited for then, and the fourth ends the process at once. SIGUSR1 has the memory ring written out.
//!
//! A terminal sends its signals (Ctrl-C, Ctrl-\, and SIGHUP when it goes away) to the command that is recorded too; a signal
//! by kill(2) comes to the recorder alone. The signal's code shows which it was.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{
    SIGABRT, SIGALRM, SIGHUP, SIGINT, SIGIO, SIGPROF, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXCPU,
};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithRawSiginfo;

use super::sys;

/// Signals closer to each other than this are one: timeout(1) and others send theirs to the process and to its group.
const ONE: Duration = Duration::from_millis(50);
/// Signals that end a process which does not handle them (signal(7)), and that somebody or something may send; those by which
/// the kernel reports a fault of the program are not among them. abort(3) ends this process all the same: it takes the
/// handler of SIGABRT away after that has returned.
const ENDING: [i32; 11] = [
    SIGHUP,
    SIGQUIT,
    SIGUSR2,
    SIGALRM,
    SIGABRT,
    SIGXCPU,
    SIGVTALRM,
    SIGPROF,
    SIGIO,
    libc::SIGPWR,
    libc::SIGSTKFLT,
];
/// With this many, the process ends at once.
const ENOUGH: usize = 4;

/// What has come so far.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    ends: Arc<AtomicUsize>,
    dumps: Arc<AtomicUsize>,
    by_terminal: Arc<AtomicBool>,
    /// How often it had been asked to end when it did.
    acknowledged: Arc<AtomicUsize>,
    soon: Arc<AtomicBool>,
}

impl Asked {
    /// Handles them from now on. What the caller had this process ignore (SIGHUP under nohup(1)) stays ignored.
    pub fn listen() -> io::Result<Asked> {
        let asked = Asked::default();
        let mut handled = vec![SIGINT, SIGTERM, SIGUSR1];
        handled.extend(ENDING.into_iter().filter(|signal| !sys::is_ignored(*signal)));
        let mut signals = SignalsInfo::<WithRawSiginfo>::new(handled)?;
        let counts = asked.clone();
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            let mut last: Option<Instant> = None;
            for signal in signals.forever() {
                let again = last.is_some_and(|last| last.elapsed() < ONE);
                counts.take(signal.si_signo, signal.si_code == libc::SI_KERNEL, again);
                if counts.ends() >= ENOUGH {
                    std::process::exit(1);
                }
                if signal.si_signo != SIGUSR1 {
                    last = Some(Instant::now());
                }
            }
        })?;
        Ok(asked)
    }

    /// Takes one signal. `again`: it follows so closely upon the last one that it is the same request.
    fn take(&self, signal: i32, by_terminal: bool, again: bool) {
        if signal == SIGUSR1 {
            self.dumps.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if !matches!(signal, SIGINT | SIGQUIT) {
            self.soon.store(true, Ordering::Relaxed);
        }
        let first = self.ends() == 0;
        if first {
            self.by_terminal.store(by_terminal, Ordering::Relaxed);
        }
        // A terminal that goes away has it sent by the kernel and by the shell, and means one request.
        if first || !(again || signal == SIGHUP) {
            self.ends.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often the recording was asked to end.
    pub fn ends(&self) -> usize {
        self.ends.load(Ordering::Relaxed)
    }

    /// Whether the recording is to end.
    pub fn to_end(&self) -> bool {
        self.ends() > 0
    }

    /// The recording has ended; what is left is to write it down.
    pub fn acknowledge(&self) {
        self.acknowledged.store(self.ends(), Ordering::Relaxed);
    }

    /// Whether this is to end without waiting for a disk: somebody has asked again since [`Asked::acknowledge`].
    pub fn at_once(&self) -> bool {
        self.ends() > self.acknowledged.load(Ordering::Relaxed).max(1)
    }

    /// Whether it was a terminal that asked first: it has asked all processes of this one's group.
    pub fn by_terminal(&self) -> bool {
        self.by_terminal.load(Ordering::Relaxed)
    }

    /// Whether somebody wants the end soon, who will not be there to ask again: a supervisor (SIGTERM and the like), or a
    /// terminal that is gone (SIGHUP).
    pub fn soon(&self) -> bool {
        self.soon.load(Ordering::Relaxed)
    }

    /// Whether the memory ring is to be written out; asked once for any number of signals.
    pub fn to_dump(&self) -> bool {
        self.dumps.swap(0, Ordering::Relaxed) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_is_sent_twice_is_one_request() {
        let asked = Asked::default();
        asked.take(SIGTERM, false, false);
        asked.take(SIGTERM, false, true);
        assert_eq!(asked.ends(), 1);
        asked.take(SIGTERM, false, false);
        assert_eq!(asked.ends(), 2);
    }

    #[test]
    fn a_terminal_that_goes_away_asks_once_and_wants_it_soon() {
        let asked = Asked::default();
        asked.take(SIGHUP, true, false);
        asked.take(SIGHUP, false, false);
        assert_eq!(asked.ends(), 1);
        assert!(asked.soon() && asked.by_terminal());

        let asked = Asked::default();
        asked.take(SIGINT, true, false);
        assert!(!asked.soon());
        asked.take(SIGHUP, true, false);
        assert!(asked.soon() && asked.ends() == 1);
    }

    #[test]
    fn each_request_gives_up_one_thing_that_is_waited_for() {
        let asked = Asked::default();
        // The limit on time was reached: the first signal is no second one.
        asked.acknowledge();
        asked.take(SIGTERM, false, false);
        assert!(!asked.at_once());
        asked.take(SIGTERM, false, false);
        assert!(asked.at_once());

        let asked = Asked::default();
        asked.take(SIGINT, true, false);
        asked.take(SIGINT, true, false);
        asked.acknowledge();
        assert!(!asked.at_once(), "the second was for the command");
        asked.take(SIGINT, true, false);
        assert!(asked.at_once());
    }

    #[test]
    fn every_signal_that_would_end_the_process_ends_the_recording_in_order() {
        for signal in ENDING {
            let asked = Asked::default();
            asked.take(signal, false, false);
            assert!(asked.to_end() && !asked.to_dump(), "{signal}");
            assert_eq!(asked.soon(), signal != SIGQUIT, "{signal}");
        }
    }

    #[test]
    fn a_dump_ends_nothing() {
        let asked = Asked::default();
        asked.take(SIGUSR1, false, false);
        assert!(!asked.to_end() && asked.to_dump() && !asked.to_dump());
    }
}
