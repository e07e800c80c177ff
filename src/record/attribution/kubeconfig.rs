//! Reading a kubeconfig: which server, whose certificate, and who we are.
//!
//! The file is YAML or JSON. Users that call a program for their token are refused: a recorder does not run other programs
//! as root.

use std::path::Path;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

use super::client::{Client, Timing, Token};
use crate::open::read_named;

/// A kubeconfig, or a certificate or key that it names, has no more bytes.
const MAX_BYTES: u64 = 16 << 20;

/// The server of the current context.
pub fn client(path: &Path, timing: Timing) -> Result<Client, String> {
    let text = read_named(path, MAX_BYTES)?;
    let text = std::str::from_utf8(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    from_text(text, folder, timing).map_err(|why| format!("{}: {why}", path.display()))
}

/// The same from the file's text; relative paths in it start at `folder`.
pub fn from_text(text: &str, folder: &Path, timing: Timing) -> Result<Client, String> {
    let config = match text.trim_start().starts_with('{') {
        true => serde_json::from_str(text).map_err(|error| error.to_string())?,
        false => yaml(text)?,
    };
    let word = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let current = word(&config, "current-context");
    let context = &named(&config, "contexts", &current)?["context"];
    let cluster = &named(&config, "clusters", &word(context, "cluster"))?["cluster"];
    let user = &named(&config, "users", &word(context, "user"))?["user"];
    // Contents are in the file itself, in base64, or in another file.
    let content = |value: &Value, key: &str| -> Result<Option<Vec<u8>>, String> {
        let data = word(value, &format!("{key}-data"));
        let file = word(value, key);
        if !data.is_empty() {
            return base64(&data)
                .map(Some)
                .ok_or_else(|| format!("{key}-data is not base64"));
        }
        if file.is_empty() {
            return Ok(None);
        }
        let path = folder.join(file);
        read_named(&path, MAX_BYTES).map(Some)
    };
    let skip = &cluster["insecure-skip-tls-verify"];
    if skip == "true" || skip == &Value::Bool(true) {
        return Err("insecure-skip-tls-verify is refused: the server's certificate is always verified".into());
    }
    let authority = content(cluster, "certificate-authority")?
        .ok_or("the cluster has no certificate-authority; without it the server cannot be verified")?;
    let mut client = Client::new(&word(cluster, "server"), &authority, timing)?;
    if let (Some(certificate), Some(key)) = (content(user, "client-certificate")?, content(user, "client-key")?) {
        client = client.with_identity(&certificate, &key)?;
    }
    let (token, token_file) = (word(user, "token"), word(user, "tokenFile"));
    if !token_file.is_empty() {
        client = client.with_token(Token::File(folder.join(token_file)));
    } else if !token.is_empty() {
        client = client.with_token(Token::Text(token));
    } else if user.get("exec").is_some() || user.get("auth-provider").is_some() {
        return Err(
            "its user gets a token from another program, which is not run; use a token, a token file or a \
                    client certificate"
                .into(),
        );
    }
    Ok(client)
}

fn named<'a>(config: &'a Value, list: &str, name: &str) -> Result<&'a Value, String> {
    config[list]
        .as_array()
        .and_then(|entries| entries.iter().find(|entry| entry["name"] == *name))
        .ok_or_else(|| format!("{list} has no {name:?}"))
}

/// Standard base64, with or without padding; blanks and line ends are passed over.
fn base64(text: &str) -> Option<Vec<u8>> {
    const CONFIG: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let text: String = text.split_ascii_whitespace().collect();
    GeneralPurpose::new(&STANDARD, CONFIG).decode(text).ok()
}

/// Deeper than this is no kubeconfig.
const DEPTH_MAX: usize = 32;

/// A mapping or a sequence that is not closed yet.
enum Open {
    /// With the key whose value comes next.
    Mapping(Map<String, Value>, Option<String>),
    Sequence(Vec<Value>),
}

/// The first document of a YAML text. Scalars stay text, but for a plain `null`.
fn yaml(text: &str) -> Result<Value, String> {
    let mut open: Vec<Open> = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| error.to_string())?;
        let refuse = |what: &str| format!("line {}: {what}", span.start.line());
        let value = match event {
            Event::Scalar(text, ScalarStyle::Plain, ..) if matches!(&*text, "" | "~" | "null") => Value::Null,
            Event::Scalar(text, ..) => Value::String(text.into_owned()),
            Event::MappingStart(..) | Event::SequenceStart(..) if open.len() == DEPTH_MAX => {
                return Err(refuse("nested too deep"));
            }
            Event::MappingStart(..) => {
                open.push(Open::Mapping(Map::new(), None));
                continue;
            }
            Event::SequenceStart(..) => {
                open.push(Open::Sequence(Vec::new()));
                continue;
            }
            Event::MappingEnd | Event::SequenceEnd => match open.pop() {
                Some(Open::Mapping(mapping, _)) => mapping.into(),
                Some(Open::Sequence(sequence)) => sequence.into(),
                None => return Err(refuse("not understood")),
            },
            // They can make much of little.
            Event::Alias(_) => return Err(refuse("aliases are not read")),
            Event::DocumentEnd | Event::StreamEnd => return Ok(Value::Null),
            Event::Nothing | Event::StreamStart | Event::DocumentStart(_) => continue,
        };
        match open.last_mut() {
            None => return Ok(value),
            Some(Open::Sequence(sequence)) => sequence.push(value),
            Some(Open::Mapping(mapping, key)) => match (key.take(), value) {
                (Some(key), value) => {
                    mapping.insert(key, value);
                }
                (None, Value::String(text)) => *key = Some(text),
                (None, _) => return Err(refuse("a key is no text")),
            },
        }
    }
    Ok(Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_as_kubeconfigs_have_it() {
        let text = "apiVersion: v1\n# made by hand\nclusters:\n- cluster:\n    server: https://10.0.0.1:6443 # here\n  name: \"a b\"\n\
                    contexts: []\npreferences: {}\nusers:\n  - name: x\n    user:\n      exec:\n        args:\n        - get-token\n        - --v\n\
                    \x20       env: null\n  -\n    name: 'it''s'\n";
        let expected = serde_json::json!({
            "apiVersion": "v1",
            "clusters": [{"cluster": {"server": "https://10.0.0.1:6443"}, "name": "a b"}],
            "contexts": [],
            "preferences": {},
            "users": [{"name": "x", "user": {"exec": {"args": ["get-token", "--v"], "env": null}}}, {"name": "it's"}],
        });
        assert_eq!(yaml(text).unwrap(), expected);
        for odd in ["a: b\n    c: d\n  e: f", "a: \"x", "a: *b", "? [x]\n: y"] {
            assert!(yaml(odd).is_err(), "{odd}");
        }
        for nothing in ["", "# only this\n", "---\n"] {
            assert_eq!(yaml(nothing).unwrap(), Value::Null);
        }
        let deep: String = (0..200).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
        assert!(yaml(&deep).unwrap_err().contains("too deep"));
        assert!(yaml(&"[".repeat(100_000)).is_err());
    }

    /// What the subset of YAML that was read here before got wrong, or refused.
    #[test]
    fn quotes_in_comments_and_all_styles_of_yaml_are_read() {
        let text = "a: 'x' # it's a comment\nb: \"y\" # \"quoted\"\n\"c: d\": {e: f, 'g': [h, i]}\nj: |\n  k\n  l\nm: >-\n  n\n  o\n\
                    p: https://[::1]:6443 # 'q\nr: plain 'quotes' inside\ns: \"\\u0041\\x42\\n\"\nt: !!str 5\n";
        let expected = serde_json::json!({
            "a": "x", "b": "y", "c: d": {"e": "f", "g": ["h", "i"]}, "j": "k\nl\n", "m": "n o",
            "p": "https://[::1]:6443", "r": "plain 'quotes' inside", "s": "AB\n", "t": "5",
        });
        assert_eq!(yaml(text).unwrap(), expected);
    }

    #[test]
    fn base64_as_certificates_have_it() {
        assert_eq!(base64("aGVsbG8gd29ybGQ=").unwrap(), b"hello world");
        assert_eq!(base64("aGVs\nbG8h").unwrap(), b"hello!");
        assert_eq!(base64("").unwrap(), b"");
        assert_eq!(base64("aGVsbG8gd29ybGQ").unwrap(), b"hello world");
        assert_eq!(base64("a-b"), None);
    }

    #[test]
    fn what_cannot_be_verified_or_would_run_a_program_is_refused() {
        let config = |cluster: &str, user: &str| {
            format!(
                "current-context: c\ncontexts:\n- name: c\n  context: {{}}\n- name: d\n  context:\n    cluster: k\n    user: u\n\
                 clusters:\n- name: k\n  cluster:\n    server: https://127.0.0.1:1\n    {cluster}\nusers:\n- name: u\n  user:\n    {user}\n"
            )
            .replace("current-context: c", "current-context: d")
        };
        let refused = |cluster: &str, user: &str| {
            from_text(&config(cluster, user), Path::new("/nowhere"), Timing::default()).unwrap_err()
        };
        assert!(refused("insecure-skip-tls-verify: true", "token: x").contains("always verified"));
        assert!(refused("x: y", "token: x").contains("no certificate-authority"));
        assert!(refused("certificate-authority: ca.pem", "token: x").contains("/nowhere/ca.pem"));
        assert!(refused("certificate-authority-data: '!'", "token: x").contains("not base64"));
        assert!(
            from_text("current-context: z\n", Path::new("/"), Timing::default())
                .unwrap_err()
                .contains("\"z\"")
        );
    }
}
