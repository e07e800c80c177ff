//! The compressed layer of the pairing: frames out of one direction, and what to do when they are lost.

use super::Queue;
use super::compress::{self, Deframer, Piece};
use super::packet::Place;
use super::pair::{MysqlPairing, Step};
use super::probe::{Framed, Probe};
use crate::analyze::exchange::Side;
use crate::analyze::protocol::Missing;

/// A compressed direction.
#[derive(Debug, Default)]
pub(super) struct Outer {
    deframer: Deframer,
    pub(super) lost: bool,
    pub(super) probe: Probe,
}

impl MysqlPairing {
    pub(super) fn compress(&mut self, side: Side, lost: bool) {
        self.outer[side as usize] = Some(Box::new(Outer {
            lost,
            ..Outer::default()
        }));
    }

    pub(super) fn outer_bytes(
        &mut self,
        outer: &mut Outer,
        from: Side,
        pos: u64,
        bytes: &[u8],
        queue: &mut Queue,
    ) -> Step {
        let mut used = 0;
        if outer.lost {
            let older = outer.probe.has_begun();
            if !outer.probe.gather(&Place::linear(pos), bytes, &mut used, Framed::Yes) {
                return Step::Go;
            }
            let (probe, place) = outer.probe.take();
            if !compress::looks_like_frame(from, &probe) {
                // What was kept of the piece before is not the beginning of anything; this piece may be one.
                return if older {
                    self.outer_bytes(outer, from, pos, bytes, queue)
                } else {
                    Step::Go
                };
            }
            outer.lost = false;
            let step = self.frames(outer, from, place.begin(0), &probe, queue);
            if step != Step::Go {
                return step;
            }
        }
        self.frames(outer, from, pos.saturating_add(used as u64), &bytes[used..], queue)
    }

    pub(super) fn frames(&mut self, outer: &mut Outer, from: Side, pos: u64, bytes: &[u8], queue: &mut Queue) -> Step {
        let mut used = 0;
        while let Some(piece) = outer.deframer.next(bytes, &mut used, pos) {
            let step = match piece {
                Piece::Bytes(inner, place) => self.inner_bytes(from, place, inner, queue),
                Piece::Hole(len, place) => self.inner_missing(from, place, len, Missing::Unread, queue),
            };
            if matches!(step, Step::Leave(_)) {
                return step;
            }
        }
        Step::Go
    }

    pub(super) fn outer_missing(
        &mut self,
        outer: &mut Outer,
        from: Side,
        pos: u64,
        len: u64,
        why: Missing,
        queue: &mut Queue,
    ) {
        outer.probe.clear();
        let mut done = 0;
        while !outer.lost && done < len {
            let (n, piece) = outer.deframer.skip(len - done);
            done += n;
            if let Some(Piece::Hole(hole, place)) = piece {
                self.inner_missing(from, place, hole, why, queue);
            }
            if n == 0 {
                outer.lost = true;
                outer.deframer.reset();
            }
        }
        if done < len {
            // Both layers have lost their place.
            self.inner_lost(from, Place::linear(pos.saturating_add(done)), len - done, why, queue);
        }
    }
}
