//! Signals as counts that the recorder looks at: the first SIGINT or SIGTERM ends the recording in order, the second at
//! once, and a third does not even ask. SIGUSR1 has the memory ring written out.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

/// What has come so far.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    ends: Arc<AtomicUsize>,
    dumps: Arc<AtomicUsize>,
}

impl Asked {
    /// Listens from now on.
    pub fn listen() -> io::Result<Asked> {
        let asked = Asked::default();
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR1])?;
        let told = asked.clone();
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            for signal in signals.forever() {
                match signal {
                    SIGUSR1 => {
                        told.dumps.fetch_add(1, Ordering::Relaxed);
                    }
                    _ if told.ends.fetch_add(1, Ordering::Relaxed) >= 2 => std::process::exit(1),
                    _ => {}
                }
            }
        })?;
        Ok(asked)
    }

    /// Whether the recording is to end.
    pub fn to_end(&self) -> bool {
        self.ends.load(Ordering::Relaxed) > 0
    }

    /// Whether it is to end without waiting for anything.
    pub fn at_once(&self) -> bool {
        self.ends.load(Ordering::Relaxed) > 1
    }

    /// Whether the memory ring is to be written out; asked once for any number of signals.
    pub fn to_dump(&self) -> bool {
        self.dumps.swap(0, Ordering::Relaxed) > 0
    }
}
