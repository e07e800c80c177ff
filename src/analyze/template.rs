//! Path templates: `/users/42` and `/users/77` are one endpoint, `/users/{id}`.
//!
//! A segment that names one item among many becomes a placeholder: numbers `{id}`, UUIDs `{uuid}`, hex hashes
//! `{hash}`, dates `{date}`, long random tokens `{token}`. Each of these has a digit, so a path without digits is its
//! own template, at the cost of a search for a digit. Patterns of the user come first; a limit on the number of templates
//! per host and method catches what no rule foresaw.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// The template of everything beyond the limit.
pub const OTHER: &str = "{*}";

/// The template of a path (no query, no authority).
pub fn of(path: &str) -> Cow<'_, str> {
    if !path.bytes().any(|byte| byte.is_ascii_digit()) && !path.contains(';') {
        return Cow::Borrowed(path);
    }
    let mut out = String::new();
    // How much of `path` is in `out`, or would be if anything had changed.
    let mut copied = 0;
    let mut at = 0;
    for segment in path.split('/') {
        // Matrix parameters (`;jsessionid=…`) belong to the request, not to the endpoint.
        let name = segment.split_once(';').map_or(segment, |(name, _)| name);
        let kept = match name.bytes().filter(|byte| *byte == b'.').count() {
            0 => placeholder(name).map(Cow::Borrowed),
            1 => dotted(name),
            // A token with dots in it (JWT) is one item.
            _ => placeholder(name).map(Cow::Borrowed).or_else(|| dotted(name)),
        };
        let kept = kept.unwrap_or(Cow::Borrowed(name));
        if kept != segment {
            out.push_str(&path[copied..at]);
            out.push_str(&kept);
            copied = at + segment.len();
        }
        at += segment.len() + 1;
    }
    if copied == 0 {
        return Cow::Borrowed(path);
    }
    out.push_str(path.get(copied..).unwrap_or_default());
    Cow::Owned(out)
}

/// The parts of `42.tar.gz` and `main.8e2f6d3c.js` on their own; `None` when none of them names one item among many. A
/// number among numbers does not: versions (`1.2.3`), addresses.
fn dotted(name: &str) -> Option<Cow<'static, str>> {
    let mut parts: Vec<&str> = name.split('.').collect();
    let mut changed = false;
    // The first part last: a number there counts when there is no other.
    for at in (0..parts.len()).rev() {
        let alone = at == 0
            && parts[1..]
                .iter()
                .all(|part| part.starts_with(|c: char| c == '{' || c.is_ascii_alphabetic()));
        if let Some(text) = placeholder(parts[at])
            && (text != "{id}" || alone)
        {
            parts[at] = text;
            changed = true;
        }
    }
    changed.then(|| Cow::Owned(parts.join(".")))
}

/// The placeholder of this segment, if it names one item among many.
fn placeholder(segment: &str) -> Option<&'static str> {
    let bytes = segment.as_bytes();
    let (mut digits, mut hex, mut lower, mut upper, mut others) = (0, 0, 0, 0, 0);
    for byte in bytes {
        match byte {
            b'0'..=b'9' => digits += 1,
            b'a'..=b'z' => {
                lower += 1;
                hex += usize::from(*byte <= b'f');
            }
            b'A'..=b'Z' => {
                upper += 1;
                hex += usize::from(*byte <= b'F');
            }
            b'-' | b'_' | b'.' | b'~' | b'=' | b'+' | b'%' => others += 1,
            b':' => others += 1,
            _ => return None,
        }
    }
    let len = bytes.len();
    if digits == 0 {
        return None;
    }
    if digits == len || (digits + 1 == len && bytes[0] == b'-') {
        return Some("{id}");
    }
    if len == 36 && digits + hex == 32 && [8, 13, 18, 23].iter().all(|at| bytes[*at] == b'-') {
        return Some("{uuid}");
    }
    if digits + hex == len && len >= 8 && digits >= 2 && (lower == 0 || upper == 0) {
        return Some("{hash}");
    }
    if is_date(bytes) {
        return Some("{date}");
    }
    // Random: all three sorts of characters, or many digits and no word separators.
    let token = len >= 20 && ((lower > 0 && upper > 0 && digits >= 2) || (digits >= 4 && others == 0));
    token.then_some("{token}")
}

/// `2024-01`, `2024-01-31`, and with a time after it (RFC 3339).
fn is_date(bytes: &[u8]) -> bool {
    let number = |range: std::ops::Range<usize>, limits: std::ops::RangeInclusive<u32>| {
        bytes.get(range).is_some_and(|digits| {
            digits.iter().all(u8::is_ascii_digit)
                && limits.contains(&digits.iter().fold(0, |n, digit| n * 10 + u32::from(digit - b'0')))
        })
    };
    let month = number(0..4, 1000..=2999) && bytes.get(4) == Some(&b'-') && number(5..7, 1..=12);
    let day = || bytes.get(7) == Some(&b'-') && number(8..10, 1..=31);
    match bytes.len() {
        7 => month,
        10 => month && day(),
        11.. if month => day() && matches!(bytes[10], b'T' | b't' | b'_') && number(11..13, 0..=23),
        // The basic format of ISO 8601: 20240131T120000Z.
        13.. => {
            let date = number(0..4, 1000..=2999) && number(4..6, 1..=12) && number(6..8, 1..=31);
            date && matches!(bytes[8], b'T' | b't') && number(9..11, 0..=23) && number(11..13, 0..=59)
        }
        _ => false,
    }
}

/// Patterns of the user (`--path-template`): segments are literal, `{name}` or `*` matches one segment, a last `{*}` or
/// `**` any number of them. The first that matches wins, and is the template.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patterns(Vec<Box<str>>);

/// A pattern that can match nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPattern {
    #[error("path template {0:?} does not begin with /")]
    NoSlash(String),
    #[error("path template {0:?} has {{*}} or ** before its end")]
    RestNotLast(String),
}

impl Patterns {
    /// Reads patterns as the user wrote them.
    pub fn new<S: AsRef<str>>(patterns: impl IntoIterator<Item = S>) -> Result<Self, BadPattern> {
        let mut all = Vec::new();
        for pattern in patterns {
            let pattern = pattern.as_ref();
            let Some(segments) = pattern.strip_prefix('/') else {
                return Err(BadPattern::NoSlash(pattern.into()));
            };
            let before_last = segments.rsplit_once('/').map_or("", |(before, _)| before);
            if before_last.split('/').any(is_rest) {
                return Err(BadPattern::RestNotLast(pattern.into()));
            }
            all.push(pattern.into());
        }
        Ok(Patterns(all))
    }

    /// The first pattern that matches.
    pub fn find(&self, path: &str) -> Option<&str> {
        self.0
            .iter()
            .map(|pattern| &**pattern)
            .find(|pattern| matches(pattern, path))
    }

    /// The template of a path: the first pattern that matches, else by the rules.
    pub fn template<'a>(&'a self, path: &'a str) -> Cow<'a, str> {
        match self.find(path) {
            Some(pattern) => Cow::Borrowed(pattern),
            None => of(path),
        }
    }
}

fn is_rest(segment: &str) -> bool {
    segment == "{*}" || segment == "**"
}

fn matches(pattern: &str, path: &str) -> bool {
    let mut path = path.split('/');
    for segment in pattern.split('/') {
        if is_rest(segment) {
            return true;
        }
        let Some(part) = path.next() else { return false };
        let any = segment == "*" || (segment.len() > 2 && segment.starts_with('{') && segment.ends_with('}'));
        if !(segment == part || any && !part.is_empty()) {
            return false;
        }
    }
    path.next().is_none()
}

/// Limits how many templates one host and method may have: the first `limit` are kept, the others are [`OTHER`].
#[derive(Debug, Clone)]
pub struct Limit {
    limit: usize,
    /// Bytes left for hosts, methods and templates.
    room: usize,
    seen: HashMap<(String, String), HashSet<String>>,
}

/// Templates per host and method; more is a rule that is missing, not an interface.
pub const DEFAULT_LIMIT: usize = 500;
/// Pairs of host and method that are kept. Beyond, every template counts as beyond the limit: clients choose the Host field.
const MAX_HOSTS: usize = 10_000;
/// Bytes of hosts, methods and templates that are kept. Beyond, every template counts as beyond the limit.
const MAX_BYTES: usize = 4 << 20;

impl Default for Limit {
    fn default() -> Self {
        Limit::new(DEFAULT_LIMIT)
    }
}

impl Limit {
    /// Keeps `limit` templates for each host and method.
    pub fn new(limit: usize) -> Self {
        Limit {
            limit,
            room: MAX_BYTES,
            seen: HashMap::new(),
        }
    }

    /// The template, or [`OTHER`]. To be called once for each new key of a table, not for each row.
    pub fn admit<'a>(&mut self, method: &str, host: &str, template: &'a str) -> &'a str {
        let key = (method.to_string(), host.to_string());
        let is_known = self.seen.contains_key(&key);
        if !is_known && self.seen.len() >= MAX_HOSTS {
            return OTHER;
        }
        let len = template.len() + if is_known { 0 } else { method.len() + host.len() };
        if len > self.room && !self.seen.get(&key).is_some_and(|seen| seen.contains(template)) {
            return OTHER;
        }
        let templates = self.seen.entry(key).or_default();
        if templates.contains(template) {
            return template;
        }
        if templates.len() >= self.limit {
            return OTHER;
        }
        self.room -= len;
        templates.insert(template.to_string());
        template
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_item_among_many_become_placeholders() {
        for (path, template) in [
            ("/users/42", "/users/{id}"),
            ("/users/42/orders/7/", "/users/{id}/orders/{id}/"),
            ("/u/-17", "/u/{id}"),
            ("/o/3f2504e0-4f89-11d3-9a0c-0305e82c3301/x", "/o/{uuid}/x"),
            ("/o/3F2504E0-4F89-11D3-9A0C-0305E82C3301", "/o/{uuid}"),
            ("/blob/d41d8cd98f00b204e9800998ecf8427e", "/blob/{hash}"),
            ("/containers/cc4fc8e49cad/json", "/containers/{hash}/json"),
            ("/logs/2024-01-31", "/logs/{date}"),
            ("/logs/2024-01", "/logs/{date}"),
            ("/logs/2024-01-31T10:20:30Z/tail", "/logs/{date}/tail"),
            ("/img/12345.jpg", "/img/{id}.jpg"),
            ("/s/eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc", "/s/{token}"),
            ("/ulid/01ARZ3NDEKTSV4RRFFQ69G5FAV", "/ulid/{token}"),
            ("/cart;jsessionid=1A2B3C/view", "/cart/view"),
            ("/cart/42;v=1/view", "/cart/{id}/view"),
            ("/get/42.tar.gz", "/get/{id}.tar.gz"),
            ("/js/main.8e2f6d3c.js", "/js/main.{hash}.js"),
            ("/js/7.8e2f6d3c.chunk.js", "/js/{id}.{hash}.chunk.js"),
            ("/logs/2024-01-31.json", "/logs/{date}.json"),
            ("/backup/20240131T120000Z", "/backup/{date}"),
            ("/o/3f2504e0-4f89-11d3-9a0c-0305e82c3301.png", "/o/{uuid}.png"),
            ("42", "{id}"),
        ] {
            assert_eq!(of(path), template, "{path}");
        }
    }

    #[test]
    fn names_stay() {
        for path in [
            "/",
            "",
            "*",
            "/index.html",
            "/v1/users",
            "/simple/1.2.3",
            "/host/10.0.0.1",
            "/pi/3.14",
            "/js/jquery-3.6.0.min.js",
            "/42./x",
            "/api/v1.41/info",
            "/img/logo2x.png",
            "/css/bootstrap-4.5.min.css",
            "/sha256",
            "/posts/how-to-write-a-book-in-30-days",
            "/feedface/cafe",
            "/h2/p3",
            "db:3306",
            "/файл/7x",
            "/.well-known/acme",
            "/2024-13",
            "//",
        ] {
            assert!(
                matches!(of(path), Cow::Borrowed(same) if same == path),
                "{path}: {}",
                of(path)
            );
        }
    }

    #[test]
    fn patterns_come_first() {
        let patterns = Patterns::new(["/shop/{category}/item", "/static/{*}", "/a/**"]).unwrap();
        assert_eq!(patterns.template("/shop/shoes/item"), "/shop/{category}/item");
        assert_eq!(patterns.template("/shop/shoes/item/7"), "/shop/shoes/item/{id}");
        assert_eq!(patterns.template("/shop//item"), "/shop//item");
        assert_eq!(patterns.template("/static/js/app.8f3a.js"), "/static/{*}");
        assert_eq!(patterns.template("/a/b/c"), "/a/**");
        assert_eq!(patterns.template("/b/1"), "/b/{id}");
        let patterns = Patterns::new(["/users/*/orders"]).unwrap();
        assert_eq!(patterns.template("/users/al/orders"), "/users/*/orders");
        assert_eq!(patterns.template("/users//orders"), "/users//orders");
    }

    #[test]
    fn patterns_that_match_nothing_are_refused() {
        assert_eq!(
            Patterns::new(["users/{id}"]),
            Err(BadPattern::NoSlash("users/{id}".into()))
        );
        assert_eq!(
            Patterns::new(["/a/{*}/b"]),
            Err(BadPattern::RestNotLast("/a/{*}/b".into()))
        );
    }

    #[test]
    fn templates_are_limited_by_host_and_method() {
        let mut limit = Limit::new(2);
        assert_eq!(limit.admit("GET", "a", "/1x"), "/1x");
        assert_eq!(limit.admit("GET", "a", "/2x"), "/2x");
        assert_eq!(limit.admit("GET", "a", "/3x"), OTHER);
        assert_eq!(limit.admit("GET", "a", "/1x"), "/1x");
        assert_eq!(limit.admit("PUT", "a", "/3x"), "/3x");
        assert_eq!(limit.admit("GET", "b", "/3x"), "/3x");
    }

    #[test]
    fn templates_are_limited_in_bytes() {
        let mut limit = Limit::new(usize::MAX);
        let template = |n: usize| format!("/{n:04}{}", "x".repeat(4096));
        let kept = (0..2000)
            .filter(|n| limit.admit("GET", "a", &template(*n)) != OTHER)
            .count();
        assert_eq!(kept, (MAX_BYTES - "GETa".len()) / template(0).len());
        assert_eq!(limit.admit("GET", "a", &template(0)), template(0), "a known one stays");
        assert_eq!(limit.admit("GET", &"h".repeat(5000), "/"), OTHER);
    }

    proptest::proptest! {
        #[test]
        fn any_path_has_a_template_that_is_its_own(path: String) {
            let once = of(&path).into_owned();
            proptest::prop_assert_eq!(of(&once), once.as_str());
        }
    }
}
