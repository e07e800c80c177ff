//! How a command ended. `main` alone makes exit codes of it.

use std::fmt;

/// A command that ran to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was lost: exit code 0.
    Clean,
    /// Data was lost or damaged, before or now, and was reported: exit code 3.
    Losses,
    /// The answer to what was asked is no (`doctor`, `diff --fail-if`): exit code 1.
    Negative,
    /// The command that was recorded failed: its exit code.
    Command(u8),
}

impl Outcome {
    /// `Losses` if something was lost.
    pub fn from_losses(lost: bool) -> Outcome {
        if lost { Outcome::Losses } else { Outcome::Clean }
    }
}

/// The command line asks for something that makes no sense: exit code 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage(pub String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}
