//! Fingerprints of statements and their digest ids, kept because the same statements come again and again.

use std::hash::Hasher;

use super::fingerprint::{Begun, begin, digest, finish};
use super::statement_template::{StatementTemplate, literal};
use crate::analyze::column::FastMap;
use crate::analyze::ids::IdHasher;
use crate::analyze::table::define::Derived;

/// Entries kept in a cache; when it is full it is emptied.
const MAX_KEPT: usize = 16_384;
/// The same in bytes of texts.
const MAX_KEPT_BYTES: usize = 2 << 20;
/// Longer keys are not kept.
const MAX_KEY: usize = 1024;

/// What a statement is like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Digest {
    pub fingerprint: String,
    pub digest: String,
    /// What no other digest of the same [`Fingerprints`] has.
    pub number: u64,
}

/// Shapes of statements that are remembered, each in the one place that the hash of its beginning gives: programs send few
/// statements, with ever other values.
const SLOTS: usize = 1024;

/// Fingerprints and digest ids.
#[derive(Default)]
pub struct Fingerprints {
    slots: Vec<(StatementTemplate, u32)>,
    /// Each fingerprint once, with its id.
    digests: Vec<Digest>,
    numbers: FastMap<Box<str>, u32>,
    /// Of statements without their values.
    begun: FastMap<Box<[u8]>, u32>,
    /// Bytes of these texts.
    kept_bytes: usize,
    text: Vec<u8>,
    /// Of a long statement.
    long: (StatementTemplate, u32),
    /// How often all was forgotten.
    forgotten: u32,
}

impl Derived for Fingerprints {}

impl Fingerprints {
    /// The fingerprint of a statement and its id.
    pub fn of(&mut self, statement: &str) -> &Digest {
        if self.digests.len() >= MAX_KEPT || self.kept_bytes >= MAX_KEPT_BYTES {
            *self = Fingerprints {
                forgotten: self.forgotten + 1,
                ..Fingerprints::default()
            };
        }
        let long = statement.len() > MAX_KEY;
        if !long && self.slots.is_empty() {
            self.slots.resize_with(SLOTS, Default::default);
        }
        let mut hasher = IdHasher::default();
        hasher.write(literal(statement.as_bytes()));
        let place = (hasher.finish() >> 32) as usize % SLOTS;
        let known = if long { &self.long } else { &self.slots[place] };
        let number = match known.0.fits(statement) && !statement.is_empty() {
            true => known.1,
            false => {
                let number = self.learn(statement);
                let slot = if long { &mut self.long } else { &mut self.slots[place] };
                slot.0.take(statement);
                slot.1 = number;
                number
            }
        };
        &self.digests[number as usize]
    }

    fn learn(&mut self, statement: &str) -> u32 {
        match begin(statement, &mut self.text) {
            Begun::Whole(fingerprint) => self.number(fingerprint),
            Begun::Values => {
                if let Some(number) = self.begun.get(self.text.as_slice()) {
                    return *number;
                }
                let number = self.number(finish(&self.text));
                if self.text.len() <= MAX_KEY && self.begun.len() < MAX_KEPT {
                    self.kept_bytes += self.text.len();
                    self.begun.insert(self.text.as_slice().into(), number);
                }
                number
            }
        }
    }

    fn number(&mut self, fingerprint: String) -> u32 {
        if let Some(number) = self.numbers.get(fingerprint.as_str()) {
            return *number;
        }
        let number = self.digests.len() as u32;
        self.kept_bytes += 2 * fingerprint.len();
        self.numbers.insert(fingerprint.as_str().into(), number);
        self.digests.push(Digest {
            digest: digest(&fingerprint),
            fingerprint,
            number: u64::from(self.forgotten) << 32 | u64::from(number),
        });
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_keep_their_fingerprints_whatever_came_between() {
        let mut fingerprints = Fingerprints::default();
        let statement = |n: usize| {
            format!(
                "SELECT {} FROM t WHERE id = {n} -- {}",
                ["a", "b", "c", "d", "e", "f", "g"][n % 7],
                "x".repeat(n % 3 * 700)
            )
        };
        for n in (0..3000).chain(0..3000) {
            let found = fingerprints.of(&statement(n)).clone();
            assert_eq!(found.fingerprint, super::super::fingerprint(&statement(n)));
            assert_eq!(found.digest, digest(&found.fingerprint));
        }
        assert_eq!(fingerprints.digests.len(), 7);
    }

    #[test]
    fn what_is_remembered_is_bounded_in_bytes() {
        let mut fingerprints = Fingerprints::default();
        for n in 0..3000 {
            // Letters, which no fingerprint replaces.
            let name: String = format!("{n:04}").bytes().map(|digit| char::from(digit + 49)).collect();
            let statement = format!("select {} from t", name.repeat(500));
            assert_eq!(fingerprints.of(&statement).fingerprint, statement);
            let kept: usize = fingerprints.digests.iter().map(|digest| digest.fingerprint.len()).sum();
            assert!(kept <= MAX_KEPT_BYTES, "{kept} bytes of statements");
        }
    }
}
