//! Values derived from what was said: path and query of a target, path templates, fingerprints and digest ids.
//!
//! The rules live beside their protocols; here their results are kept, because the same paths and statements come
//! again and again.

use super::column::FastMap;
use crate::analyze::protocol::mysql;
use crate::analyze::template;

/// The path and the query of a request target (RFC 9112, 3.2).
///
/// An absolute target gives the path behind its authority; an authority (CONNECT) or `*` is its own path.
pub fn path_and_query(target: &str) -> (&str, &str) {
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
    let target = target.split('#').next().unwrap_or(target);
    match target.split_once('?') {
        Some(("", query)) => ("/", query),
        Some((path, query)) => (path, query),
        None => (target, ""),
    }
}

/// Entries kept in a cache; when it is full it is emptied.
const MAX_KEPT: usize = 16_384;
/// Longer keys are not kept.
const MAX_KEY: usize = 1024;

/// Path templates.
#[derive(Default)]
pub struct Templates {
    kept: FastMap<Box<str>, Box<str>>,
    long: String,
}

impl Templates {
    /// The template of a path: `/users/42` is `/users/{id}`.
    pub fn template(&mut self, path: &str) -> &str {
        if path.len() > MAX_KEY {
            self.long = template_of(path);
            return &self.long;
        }
        if !self.kept.contains_key(path) {
            if self.kept.len() >= MAX_KEPT {
                self.kept.clear();
            }
            self.kept.insert(path.into(), template_of(path).into());
        }
        self.kept.get(path).map_or("", |template| template)
    }
}

/// What a statement is like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Digest {
    pub fingerprint: String,
    pub digest: String,
}

/// Fingerprints and digest ids.
#[derive(Default)]
pub struct Fingerprints {
    kept: FastMap<Box<str>, Digest>,
    other: Digest,
    other_of: String,
}

impl Fingerprints {
    /// The fingerprint of a statement and its id.
    pub fn of(&mut self, statement: &str) -> &Digest {
        if statement.len() > MAX_KEY {
            if self.other_of != statement {
                self.other = digest_of(statement);
                self.other_of.clear();
                self.other_of.push_str(statement);
            }
            return &self.other;
        }
        if !self.kept.contains_key(statement) {
            if self.kept.len() >= MAX_KEPT {
                self.kept.clear();
            }
            self.kept.insert(statement.into(), digest_of(statement));
        }
        self.kept.get(statement).unwrap_or(&self.other)
    }
}

fn template_of(path: &str) -> String {
    template::of(path).into_owned()
}

fn digest_of(statement: &str) -> Digest {
    let fingerprint = mysql::fingerprint(statement);
    let digest = mysql::digest(&fingerprint);
    Digest { fingerprint, digest }
}

#[cfg(test)]
mod tests {
    use super::path_and_query;

    #[test]
    fn each_form_of_target_has_a_path() {
        assert_eq!(path_and_query("/a/b?x=1&y"), ("/a/b", "x=1&y"));
        assert_eq!(path_and_query("/a"), ("/a", ""));
        assert_eq!(path_and_query("http://h:80/a?q"), ("/a", "q"));
        assert_eq!(path_and_query("http://h"), ("/", ""));
        assert_eq!(path_and_query("http://h?q"), ("/", "q"));
        assert_eq!(path_and_query("example.com:443"), ("example.com:443", ""));
        assert_eq!(path_and_query("*"), ("*", ""));
        assert_eq!(path_and_query(""), ("", ""));
        assert_eq!(
            path_and_query("/redirect?to=http://x/y"),
            ("/redirect", "to=http://x/y")
        );
    }
}
