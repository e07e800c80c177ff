//! Values derived from what was said: path and query of a target, path templates, fingerprints and digest ids.
//!
//! The rules live beside their protocols; here their results are kept, because the same paths and statements come
//! again and again.

use std::hash::Hasher;

use crate::analyze::column::FastMap;
use crate::analyze::ids::IdHasher;
use crate::analyze::protocol::mysql::{self, Begun, Shape};
use crate::analyze::template::Patterns;

/// The path and the query of a request target (RFC 9112, 3.2).
///
/// An absolute target gives the path behind its authority; an authority (CONNECT) or `*` is its own path. A query may be
/// empty (`/x?`), which is another target than one without.
pub fn path_and_query(target: &str) -> (&str, Option<&str>) {
    let (path, rest) = path_and_rest(target);
    let query = rest.strip_prefix('?').and_then(|query| query.split('#').next());
    (path, query)
}

/// The path of a request target, as [`path_and_query`] gives it.
pub fn path(target: &str) -> &str {
    path_and_rest(target).0
}

/// The path, and what follows it from `?` or `#` on.
fn path_and_rest(target: &str) -> (&str, &str) {
    let target = match target.as_bytes().first() {
        Some(b'/') => target,
        _ => match target.find("://") {
            Some(scheme) => {
                let authority = &target[scheme + 3..];
                match authority.find(['/', '?']) {
                    Some(end) => &authority[end..],
                    None => "/",
                }
            }
            None => target,
        },
    };
    let end = memchr::memchr2(b'?', b'#', target.as_bytes()).unwrap_or(target.len());
    let (path, rest) = target.split_at(end);
    (
        if path.is_empty() && rest.starts_with('?') {
            "/"
        } else {
            path
        },
        rest,
    )
}

/// Entries kept in a cache; when it is full it is emptied.
const MAX_KEPT: usize = 16_384;
/// The same in bytes of texts.
const MAX_KEPT_BYTES: usize = 2 << 20;
/// Longer keys are not kept.
const MAX_KEY: usize = 1024;

/// Path templates.
#[derive(Default)]
pub struct Templates {
    patterns: Patterns,
    kept: FastMap<Box<str>, Box<str>>,
    kept_bytes: usize,
    long: String,
}

impl Templates {
    /// Templates by these patterns of the user's, and by the rules where none fits.
    pub fn new(patterns: Patterns) -> Templates {
        Templates {
            patterns,
            ..Templates::default()
        }
    }

    /// The template of a path: `/users/42` is `/users/{id}`.
    pub fn template(&mut self, path: &str) -> &str {
        if path.len() > MAX_KEY {
            self.long = self.patterns.template(path).into_owned();
            return &self.long;
        }
        if !self.kept.contains_key(path) {
            if self.kept.len() >= MAX_KEPT || self.kept_bytes >= MAX_KEPT_BYTES {
                self.kept.clear();
                self.kept_bytes = 0;
            }
            let template = self.patterns.template(path);
            self.kept_bytes += path.len() + template.len();
            self.kept.insert(path.into(), template.into());
        }
        self.kept.get(path).map_or("", |template| template)
    }
}

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
    slots: Vec<(Shape, u32)>,
    /// Each fingerprint once, with its id.
    digests: Vec<Digest>,
    numbers: FastMap<Box<str>, u32>,
    /// Of statements without their values.
    begun: FastMap<Box<[u8]>, u32>,
    /// Bytes of these texts.
    kept_bytes: usize,
    text: Vec<u8>,
    /// Of a long statement.
    long: (Shape, u32),
    /// How often all was forgotten.
    forgotten: u32,
}

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
        hasher.write(mysql::literal(statement.as_bytes()));
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
        match mysql::begin_fingerprint(statement, &mut self.text) {
            Begun::Whole(fingerprint) => self.number(fingerprint),
            Begun::Values => {
                if let Some(number) = self.begun.get(self.text.as_slice()) {
                    return *number;
                }
                let number = self.number(mysql::finish_fingerprint(&self.text));
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
            digest: mysql::digest(&fingerprint),
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
            assert_eq!(found.fingerprint, mysql::fingerprint(&statement(n)));
            assert_eq!(found.digest, mysql::digest(&found.fingerprint));
        }
        assert_eq!(fingerprints.digests.len(), 7);
    }

    #[test]
    fn what_is_remembered_is_bounded_in_bytes() {
        let mut fingerprints = Fingerprints::default();
        let mut templates = Templates::default();
        for n in 0..3000 {
            // Letters, which no fingerprint and no template replaces.
            let name: String = format!("{n:04}").bytes().map(|digit| char::from(digit + 49)).collect();
            let statement = format!("select {} from t", name.repeat(500));
            assert_eq!(fingerprints.of(&statement).fingerprint, statement);
            let kept: usize = fingerprints.digests.iter().map(|digest| digest.fingerprint.len()).sum();
            assert!(kept <= MAX_KEPT_BYTES, "{kept} bytes of statements");
            let path = format!("/{}", name.repeat(200));
            templates.template(&path);
            let kept: usize = templates
                .kept
                .iter()
                .map(|(path, template)| path.len() + template.len())
                .sum();
            assert!(kept <= MAX_KEPT_BYTES + 2 * path.len(), "{kept} bytes of paths");
        }
    }

    #[test]
    fn the_templates_of_the_user_come_first() {
        let mut templates = Templates::new(Patterns::new(["/shop/{name}/cart"]).unwrap());
        assert_eq!(templates.template("/shop/anna/cart"), "/shop/{name}/cart");
        assert_eq!(templates.template("/users/42"), "/users/{id}");
    }

    #[test]
    fn each_form_of_target_has_a_path() {
        assert_eq!(path_and_query("/a/b?x=1&y"), ("/a/b", Some("x=1&y")));
        assert_eq!(path_and_query("/a"), ("/a", None));
        assert_eq!(path_and_query("http://h:80/a?q"), ("/a", Some("q")));
        assert_eq!(path_and_query("http://h"), ("/", None));
        assert_eq!(path_and_query("http://h?q"), ("/", Some("q")));
        assert_eq!(path_and_query("example.com:443"), ("example.com:443", None));
        assert_eq!(path_and_query("*"), ("*", None));
        assert_eq!(path_and_query("/a#f?g"), ("/a", None));
        assert_eq!(path_and_query("/a?q#f"), ("/a", Some("q")));
        assert_eq!(path_and_query("/é?ü"), ("/é", Some("ü")));
        assert_eq!(path_and_query(""), ("", None));
        assert_eq!(
            path_and_query("/redirect?to=http://x/y"),
            ("/redirect", Some("to=http://x/y"))
        );
        assert_eq!(path_and_query("/x?"), ("/x", Some("")), "an empty query is one");
        assert_eq!(path_and_query("/x?#f"), ("/x", Some("")));
    }
}
