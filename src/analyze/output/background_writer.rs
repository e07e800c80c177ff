//! Writes a batch in the background while the next is collected: one batch at a time, on any idle thread of the pool.

use std::sync::mpsc::{Receiver, channel};

use anyhow::bail;

use super::RowWriter;
use crate::analyze::table::Columns;
use crate::analyze::tasks::receive;

/// A writer, and the result of its last batch.
type Written = (Box<dyn RowWriter>, anyhow::Result<()>);

/// A writer that writes in the background.
pub struct BackgroundWriter(State);

enum State {
    Idle(Box<dyn RowWriter>),
    Busy(Receiver<Written>),
    /// It has failed, and has returned the error.
    Failed,
}

impl BackgroundWriter {
    /// Writes in the background with this writer.
    pub fn new(writer: Box<dyn RowWriter>) -> BackgroundWriter {
        BackgroundWriter(State::Idle(writer))
    }

    /// Begins to write a batch, as soon as the one before is written; errors are those of the one before. With one
    /// thread the batch is written at once: keeping it would only cost memory.
    pub fn write(&mut self, columns: Columns) -> anyhow::Result<()> {
        self.wait()?;
        let State::Idle(mut writer) = std::mem::replace(&mut self.0, State::Failed) else {
            return Ok(());
        };
        if rayon::current_num_threads() == 1 {
            writer.write_batch(&columns)?;
            self.0 = State::Idle(writer);
            return Ok(());
        }
        let (sender, written) = channel();
        rayon::spawn(move || {
            let result = writer.write_batch(&columns);
            drop(columns);
            // The receiver is gone where something else has failed.
            let _ = sender.send((writer, result));
        });
        self.0 = State::Busy(written);
        Ok(())
    }

    /// Waits until all batches are written.
    pub fn wait(&mut self) -> anyhow::Result<()> {
        let State::Busy(written) = &self.0 else { return Ok(()) };
        let last = receive(written);
        self.0 = State::Failed;
        match last {
            Some((writer, result)) => {
                result?;
                self.0 = State::Idle(writer);
                Ok(())
            }
            // A panic, which ends the program: the file must not be published meanwhile.
            None => bail!("the writer of results broke off"),
        }
    }

    /// Ends the file, after all batches.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        self.wait()?;
        match &mut self.0 {
            State::Idle(writer) => writer.finish(),
            State::Busy(_) | State::Failed => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::analyze::table::{Kind, Spec, Value};
    use crate::create::create;
    use crate::panic::tests::in_own_process;

    const SPEC: Spec = Spec {
        name: "n",
        kind: Kind::Count,
        doc: "",
    };

    /// Keeps what is written, and fails at a number.
    struct Kept(Arc<Mutex<Vec<u64>>>, u64);

    impl RowWriter for Kept {
        fn write_batch(&mut self, columns: &Columns) -> anyhow::Result<()> {
            let Value::Int(number) = columns.columns[0].get(0) else {
                panic!("a number");
            };
            anyhow::ensure!(number != self.1, "no room for {number}");
            self.0.lock().unwrap().push(number);
            Ok(())
        }

        fn finish(&mut self) -> anyhow::Result<()> {
            self.0.lock().unwrap().push(u64::MAX);
            Ok(())
        }
    }

    fn batch(number: u64) -> Columns {
        let mut columns = Columns::new([SPEC]);
        columns.push_row(&[Value::Int(number)]);
        columns
    }

    /// Runs `work` in a pool with `threads` threads; outside of any pool for 0.
    fn in_pool(threads: usize, work: impl FnOnce() + Send) {
        match threads {
            0 => work(),
            _ => rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap()
                .install(work),
        }
    }

    #[test]
    fn batches_are_written_in_order_by_any_number_of_threads() {
        for threads in [0, 1, 2, 3] {
            let kept = Arc::default();
            in_pool(threads, || {
                let mut writer = BackgroundWriter::new(Box::new(Kept(Arc::clone(&kept), 100)));
                (0..50).for_each(|number| writer.write(batch(number)).unwrap());
                writer.finish().unwrap();
            });
            let expected: Vec<u64> = (0..50).chain([u64::MAX]).collect();
            assert_eq!(*kept.lock().unwrap(), expected, "{threads} threads");
        }
    }

    #[test]
    fn an_error_is_returned_once_and_nothing_is_written_after_it() {
        for threads in [0, 1, 2] {
            let kept = Arc::default();
            in_pool(threads, || {
                let mut writer = BackgroundWriter::new(Box::new(Kept(Arc::clone(&kept), 3)));
                let errors: Vec<String> = (0..9)
                    .filter_map(|number| writer.write(batch(number)).err())
                    .map(|error| error.to_string())
                    .collect();
                assert_eq!(errors, ["no room for 3"]);
                writer.finish().unwrap();
            });
            assert_eq!(*kept.lock().unwrap(), [0, 1, 2], "{threads} threads");
        }
    }

    /// Panics at its second batch.
    struct Panics(bool);

    impl RowWriter for Panics {
        fn write_batch(&mut self, _: &Columns) -> anyhow::Result<()> {
            assert!(!self.0, "no second batch");
            self.0 = true;
            Ok(())
        }

        fn finish(&mut self) -> anyhow::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_writer_that_panics_ends_the_program_and_its_file_gets_no_name() {
        let name = "analyze::output::background_writer::tests::a_writer_that_panics_ends_the_program_and_its_file_gets_no_name";
        let (output, left) = in_own_process(name, |folder| {
            let (_file, pending) = create(&folder.join("result"), false).unwrap();
            in_pool(2, || {
                let mut writer = BackgroundWriter::new(Box::new(Panics(false)));
                let written = (0..3).try_for_each(|number| writer.write(batch(number)));
                written.and_then(|()| writer.finish()).unwrap();
            });
            pending.publish().unwrap();
        });
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains("no second batch"), "{stderr}");
        assert!(left.is_empty(), "{left:?}");
    }
}
