//! The bounded queue between the drain, which must never wait, and a consumer that may (a disk, a terminal).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use crate::format::RawBlock;

/// What the consumer is to do before it takes the blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Go on.
    Append,
    /// Begin a new part of the recording; the blocks begin with the whole live state.
    NewPart,
    /// Write out the memory ring; the blocks are the whole live state, which goes before it.
    DumpRing,
}

/// Blocks that belong together: state before the events that may refer to it.
#[derive(Debug)]
pub struct Batch {
    pub order: Order,
    pub blocks: Vec<RawBlock>,
}

/// The drain's end.
#[derive(Debug)]
pub struct Sender {
    channel: SyncSender<Arc<Batch>>,
    waiting: Arc<AtomicUsize>,
    size: usize,
}

/// The consumer's end.
#[derive(Debug)]
pub struct Consumer {
    channel: Receiver<Arc<Batch>>,
    waiting: Arc<AtomicUsize>,
}

/// Why a batch was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The consumer is too slow.
    Full,
    /// The consumer has ended.
    Gone,
}

/// What comes out of the queue.
#[derive(Debug)]
pub enum Next {
    Batch(Arc<Batch>),
    /// Nothing yet.
    Nothing,
    /// There will be no more.
    End,
}

/// A queue of at most `batches`.
pub fn bounded(batches: usize) -> (Sender, Consumer) {
    let (sender, receiver) = sync_channel(batches);
    let waiting = Arc::new(AtomicUsize::new(0));
    (
        Sender {
            channel: sender,
            waiting: waiting.clone(),
            size: batches,
        },
        Consumer {
            channel: receiver,
            waiting,
        },
    )
}

impl Sender {
    /// Hands a batch over, or returns at once why not.
    pub fn offer(&self, batch: &Arc<Batch>) -> Result<(), Refused> {
        // Counted before it is sent: the consumer counts down after it received.
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.channel.try_send(batch.clone()).map_err(|error| {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            match error {
                TrySendError::Full(_) => Refused::Full,
                TrySendError::Disconnected(_) => Refused::Gone,
            }
        })
    }
}

impl Sender {
    /// Whether another batch would be taken now. Only this end adds, so the answer stays right until it does.
    pub fn has_room(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) < self.size
    }
}

impl Consumer {
    /// The next batch, if one comes in time.
    pub fn next(&self, timeout: Duration) -> Next {
        match self.channel.recv_timeout(timeout) {
            Ok(batch) => {
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                Next::Batch(batch)
            }
            Err(RecvTimeoutError::Timeout) => Next::Nothing,
            Err(RecvTimeoutError::Disconnected) => Next::End,
        }
    }

    /// How many batches wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> Arc<Batch> {
        Arc::new(Batch {
            order: Order::Append,
            blocks: Vec::new(),
        })
    }

    #[test]
    fn a_full_queue_refuses_at_once_and_takes_again_when_there_is_room() {
        let (sender, consumer) = bounded(2);
        assert_eq!(sender.offer(&batch()), Ok(()));
        assert_eq!(sender.offer(&batch()), Ok(()));
        assert_eq!(sender.offer(&batch()), Err(Refused::Full));
        assert_eq!(consumer.waiting(), 2);
        assert!(matches!(consumer.next(Duration::ZERO), Next::Batch(_)));
        assert_eq!(sender.offer(&batch()), Ok(()));
    }

    #[test]
    fn each_end_learns_that_the_other_is_gone() {
        let (sender, consumer) = bounded(1);
        sender.offer(&batch()).unwrap();
        drop(sender);
        assert!(
            matches!(consumer.next(Duration::ZERO), Next::Batch(_)),
            "what was sent is still delivered"
        );
        assert!(matches!(consumer.next(Duration::ZERO), Next::End));
        let (sender, consumer) = bounded(1);
        drop(consumer);
        assert_eq!(sender.offer(&batch()), Err(Refused::Gone));
    }
}
