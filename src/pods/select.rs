//! `--container`, `--pod`, `--namespace`, `--label`: which workloads are meant.

use super::set::Named;

/// Prefixes of container ids shorter than this are taken for names only: short names are often made of hexadecimal digits.
const SHORTEST_PREFIX: usize = 4;

/// The filters as they were typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Words {
    pub containers: Vec<String>,
    pub pods: Vec<String>,
    pub namespaces: Vec<String>,
    pub labels: Vec<String>,
}

/// What they mean. Different kinds must all match; of containers, pods and namespaces any, of labels all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selectors {
    words: Words,
    labels: Vec<LabelTest>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum LabelTest {
    Is(String, String),
    IsNot(String, String),
    Has(String),
    HasNot(String),
}

impl Selectors {
    /// Parses a selector, or returns what is wrong with it.
    pub fn new(words: Words) -> Result<Selectors, String> {
        let all = [
            ("--container", &words.containers),
            ("--pod", &words.pods),
            ("--namespace", &words.namespaces),
            ("--label", &words.labels),
        ];
        for (option, words) in all {
            if words.iter().any(|word| word.trim().is_empty()) {
                return Err(format!("an empty {option} matches nothing"));
            }
        }
        if let Some(word) = words.pods.iter().find(|word| word.matches('/').count() > 1) {
            return Err(format!("--pod {word}: expected a name or namespace/name"));
        }
        let labels = words
            .labels
            .iter()
            .flat_map(|word| word.split(','))
            .map(label_test)
            .collect::<Result<_, _>>()?;
        Ok(Selectors { words, labels })
    }

    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.words == Words::default()
    }

    /// Whether this workload is meant. A pod's own cgroup is, when its containers need not be distinguished.
    pub fn matches(&self, named: &Named) -> bool {
        let words = &self.words;
        let any = |words: &[String], test: &dyn Fn(&str) -> bool| words.is_empty() || words.iter().any(|w| test(w));
        !self.is_empty()
            && any(&words.containers, &|word| is_container(word, named))
            && any(&words.pods, &|word| is_pod(word, named))
            && any(&words.namespaces, &|word| {
                !named.namespace.is_empty() && glob(word, &named.namespace)
            })
            && self.labels.iter().all(|test| test.holds(named))
    }

    /// The filters in words, for the file's header.
    pub fn describe(&self) -> Vec<String> {
        let kinds = [
            ("container", &self.words.containers),
            ("pod", &self.words.pods),
            ("namespace", &self.words.namespaces),
            ("label", &self.words.labels),
        ];
        kinds
            .into_iter()
            .flat_map(|(kind, words)| words.iter().map(move |word| format!("{kind} {word}")))
            .collect()
    }
}

fn is_container(word: &str, named: &Named) -> bool {
    let by_name = !named.container.is_empty() && glob(word, &named.container);
    let by_id = word.len() >= SHORTEST_PREFIX && !named.container_id.is_empty() && named.container_id.starts_with(word);
    by_name || by_id
}

fn is_pod(word: &str, named: &Named) -> bool {
    let (namespace, pod) = word.split_once('/').unwrap_or(("*", word));
    !named.pod.is_empty() && glob(namespace, &named.namespace) && glob(pod, &named.pod)
}

fn label_test(word: &str) -> Result<LabelTest, String> {
    let pair = |(key, value): (&str, &str)| (key.trim().to_owned(), value.trim().to_owned());
    let word = word.trim();
    let test = if let Some((key, value)) = word.split_once("!=").map(pair) {
        LabelTest::IsNot(key, value)
    } else if let Some((key, value)) = word.split_once("==").or_else(|| word.split_once('=')).map(pair) {
        LabelTest::Is(key, value)
    } else if let Some(key) = word.strip_prefix('!') {
        LabelTest::HasNot(key.to_owned())
    } else {
        LabelTest::Has(word.to_owned())
    };
    match &test {
        LabelTest::Is(key, _) | LabelTest::IsNot(key, _) | LabelTest::Has(key) | LabelTest::HasNot(key)
            if key.is_empty() || key.contains(char::is_whitespace) =>
        {
            Err(format!("--label {word}: expected key=value, key!=value, key or !key"))
        }
        _ => Ok(test),
    }
}

impl LabelTest {
    fn holds(&self, named: &Named) -> bool {
        // What is no pod and has no labels is not meant by "does not have this label".
        let labelled = !named.labels.is_empty() || !named.pod.is_empty();
        match self {
            LabelTest::Is(key, value) => named.labels.get(key).is_some_and(|found| glob(value, found)),
            LabelTest::Has(key) => named.labels.contains_key(key),
            LabelTest::IsNot(key, value) => labelled && named.labels.get(key).is_none_or(|found| !glob(value, found)),
            LabelTest::HasNot(key) => labelled && !named.labels.contains_key(key),
        }
    }
}

/// Whether a text is of a pattern with `*` (any text) and `?` (any one character).
pub fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // After the last star: where the pattern goes on, and how far the star has eaten.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p + 1, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((after, eaten)) => {
                    star = Some((after, eaten + 1));
                    p = after;
                    t = eaten + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cart() -> Named {
        Named {
            container_id: "3a4f9c0d1e2b3a4f9c0d1e2b3a4f9c0d1e2b3a4f9c0d1e2b3a4f9c0d1e2b3a4f".into(),
            container: "app".into(),
            pod: "cart-0".into(),
            namespace: "shop".into(),
            labels: [("app", "cart"), ("tier", "backend")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            ..Named::default()
        }
    }

    fn words(kind: &str, words: &[&str]) -> Words {
        let list: Vec<String> = words.iter().map(ToString::to_string).collect();
        let mut words = Words::default();
        match kind {
            "container" => words.containers = list,
            "pod" => words.pods = list,
            "namespace" => words.namespaces = list,
            _ => words.labels = list,
        }
        words
    }

    fn takes(kind: &str, list: &[&str]) -> bool {
        Selectors::new(words(kind, list)).unwrap().matches(&cart())
    }

    #[test]
    fn a_container_is_known_by_its_name_and_by_any_prefix_of_its_id() {
        for word in ["app", "ap*", "3a4f", "3a4f9c0d1e2b", &cart().container_id] {
            assert!(takes("container", &[word]), "{word}");
        }
        for word in ["ap", "3a5f", "f9c0d1e2b"] {
            assert!(!takes("container", &[word]), "{word}");
        }
        assert!(!takes("container", &["3a"]), "too short for an id");
        assert!(takes("container", &["nobody", "app"]), "any of several");
    }

    #[test]
    fn a_pod_is_known_with_and_without_its_namespace() {
        for word in ["cart-0", "shop/cart-0", "shop/cart-*", "*/cart-?", "sh*/*"] {
            assert!(takes("pod", &[word]), "{word}");
        }
        for word in ["cart", "store/cart-0", "shop/cart-??"] {
            assert!(!takes("pod", &[word]), "{word}");
        }
    }

    #[test]
    fn labels_must_all_hold() {
        for word in [
            "app=cart",
            "app==cart",
            "app=c*",
            "tier",
            "app!=web",
            "!gone",
            "app=cart,tier=backend",
        ] {
            assert!(takes("label", &[word]), "{word}");
        }
        for word in ["app=web", "gone", "app!=cart", "!app", "app=cart,tier=frontend"] {
            assert!(!takes("label", &[word]), "{word}");
        }
        assert!(!takes("label", &["app=cart", "tier=frontend"]));
        let unit = Named::default();
        let not = Selectors::new(words("label", &["app!=cart"])).unwrap();
        assert!(!not.matches(&unit), "a filter on labels takes no plain service");
    }

    #[test]
    fn different_kinds_must_all_match() {
        let both = Words {
            namespaces: vec!["shop".into()],
            ..words("container", &["app"])
        };
        assert!(Selectors::new(both.clone()).unwrap().matches(&cart()));
        let wrong = Words {
            namespaces: vec!["store".into()],
            ..both
        };
        let wrong = Selectors::new(wrong).unwrap();
        assert!(!wrong.matches(&cart()));
        assert_eq!(wrong.describe(), ["container app", "namespace store"]);
        assert!(!Selectors::default().matches(&cart()), "no filter selects nothing");
    }

    #[test]
    fn nonsense_is_refused() {
        for (kind, word) in [
            ("pod", ""),
            ("pod", "a/b/c"),
            ("label", "=x"),
            ("label", "a b=c"),
            ("namespace", " "),
        ] {
            assert!(Selectors::new(words(kind, &[word])).is_err(), "{kind} {word:?}");
        }
    }

    #[test]
    fn globs() {
        for (pattern, text) in [
            ("*", ""),
            ("a*b*c", "axxbyybzc"),
            ("**", "x"),
            ("?*", "x"),
            ("*-0", "a-0-0"),
        ] {
            assert!(glob(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("", "x"), ("a*b", "axc"), ("?", ""), ("a", "ab"), ("*x", "xy")] {
            assert!(!glob(pattern, text), "{pattern} {text}");
        }
    }
}
