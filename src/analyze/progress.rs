//! The progress bar on standard error, with throughput and time left. Only where that is a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::input::Progress;
use super::packets::Packets;

const TEMPLATE: &str =
    "{bar:40} {percent:>3} %  {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  {eta} left";

/// The bar; it goes away when dropped.
pub struct Meter {
    bar: ProgressBar,
    /// Bytes of the files that are done, and of those that come later.
    before: u64,
    later: u64,
    now: u64,
}

impl Meter {
    /// A bar for capture files, whose size [`Meter::show`] gets, with `packets` after them.
    pub fn new(visible: bool, packets: &Packets<'_>) -> Meter {
        let target = match visible {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let style = ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
        Meter {
            bar: ProgressBar::with_draw_target(None, target).with_style(style),
            before: 0,
            later: packets.file_bytes(),
            now: 0,
        }
    }

    /// Shows the progress.
    pub fn show(&mut self, progress: &Progress) {
        self.now = progress.total;
        self.bar.set_length(self.before + progress.total + self.later);
        self.bar.set_position(self.before + progress.read);
    }

    /// Ends the part shown so far; a packet capture of this size is next.
    pub fn next(&mut self, bytes: u64) {
        self.before += std::mem::take(&mut self.now);
        self.later = self.later.saturating_sub(bytes);
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
