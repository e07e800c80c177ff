//! Path and query of a request target, and the templates of paths, which are kept because the same come again and again.

use crate::analyze::protocol::summary::Remembered;
use crate::analyze::table::define::Derived;
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

/// Longer paths are not kept.
const MAX_KEY: usize = 1024;

/// Path templates.
#[derive(Default)]
pub struct Templates {
    patterns: Patterns,
    kept: Remembered<Box<str>>,
    long: String,
}

impl Derived for Templates {
    /// Templates by these patterns, and by the rules where none fits.
    fn use_patterns(&mut self, patterns: &Patterns) {
        self.patterns = patterns.clone();
    }
}

impl Templates {
    /// The template of a path: `/users/42` is `/users/{id}`.
    pub fn template(&mut self, path: &str) -> &str {
        if path.len() > MAX_KEY {
            self.long = self.patterns.template(path).into_owned();
            return &self.long;
        }
        let patterns = &self.patterns;
        self.kept.made_of(path, |path| patterns.template(path).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::protocol::summary::MAX_REMEMBERED_BYTES;

    #[test]
    fn what_is_remembered_is_bounded_in_bytes() {
        let mut templates = Templates::default();
        for n in 0..3000 {
            // Letters, which no template replaces.
            let name: String = format!("{n:04}").bytes().map(|digit| char::from(digit + 49)).collect();
            let path = format!("/{}", name.repeat(200));
            templates.template(&path);
            let kept = templates.kept.bytes();
            assert!(kept <= MAX_REMEMBERED_BYTES + 2 * path.len(), "{kept} bytes of paths");
        }
    }

    #[test]
    fn the_templates_of_the_user_come_first() {
        let mut templates = Templates::default();
        templates.use_patterns(&Patterns::new(["/shop/{name}/cart"]).unwrap());
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
