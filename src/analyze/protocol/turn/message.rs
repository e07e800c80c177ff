//! What is known of a turn besides its times and bytes.

use super::Turn;
use crate::analyze::exchange::{Incomplete, Message, Timing};
use crate::analyze::protocol::Registered;

/// A turn.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TurnMessage {
    /// What the connection was recognised as (`tls`, `redis`, …); empty where nothing is known.
    pub protocol: &'static str,
    /// Both sides were seen to send at the same time: what answers what cannot be known from here on.
    pub overlapping: bool,
    /// The server sent it without being asked.
    pub unasked: bool,
    /// The exchanges of its connection are rows of the table of its protocol.
    pub has_exchanges: bool,
}

impl Message for TurnMessage {
    fn clear_response(&mut self) {}

    fn is_error(&self) -> bool {
        false
    }

    fn protocol(&self) -> usize {
        Turn::PLACE
    }

    fn asked(&self, _limit: usize) -> String {
        self.protocol.to_owned()
    }

    fn answered(&self) -> String {
        String::new()
    }

    fn line(&self, _incomplete: Option<Incomplete>, _limit: usize) -> String {
        self.protocol.to_owned()
    }

    fn timing(&self) -> Timing {
        match self.overlapping {
            true => Timing::Unknown,
            false => Timing::LastByte,
        }
    }
}
