//! Waiting for tasks of the thread pool.

use std::sync::mpsc::{Receiver, TryRecvError};

use rayon::Yield;

/// What a task sends next; `None` when it ended without sending. Meanwhile this thread runs other tasks of the pool.
pub fn receive<T>(from: &Receiver<T>) -> Option<T> {
    loop {
        match from.try_recv() {
            Err(TryRecvError::Empty) if rayon::yield_now() == Some(Yield::Executed) => {}
            Err(TryRecvError::Empty) => return from.recv().ok(),
            sent => return sent.ok(),
        }
    }
}
