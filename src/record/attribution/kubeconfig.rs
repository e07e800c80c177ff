//! Reading a kubeconfig: which server, whose certificate, and who we are.
//!
//! The file is YAML, of which only what such files contain is understood: block mappings and sequences, plain and quoted
//! scalars, comments, empty flow collections. JSON is read as well. Users that call a program for their token are refused:
//! a recorder does not run other programs as root.

use std::path::Path;

use serde_json::{Map, Value};

use super::client::{Client, Timing, Token};

/// The server of the current context.
pub fn client(path: &Path, timing: Timing) -> Result<Client, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    from_text(&text, folder, timing).map_err(|why| format!("{}: {why}", path.display()))
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
    // Contents stand in the file, in base64, or in another file.
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
        let bytes = std::fs::read(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        Ok(Some(bytes))
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

/// Standard base64; blanks and line ends are passed over.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0u32, 0);
    for byte in text.bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != b'=') {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Some(bytes)
}

/// A line that says something.
struct Line<'a> {
    indent: usize,
    text: &'a str,
    number: usize,
}

/// Deeper than this is no kubeconfig.
const DEPTH_MAX: usize = 32;

/// Reads the subset of YAML that the module says. Scalars stay text.
fn yaml(text: &str) -> Result<Value, String> {
    let mut lines: Vec<Line<'_>> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let content = line.trim_start_matches(' ');
        let trimmed = content.trim_end();
        if trimmed.is_empty() || trimmed.starts_with('#') || trimmed == "---" {
            continue;
        }
        lines.push(Line {
            indent: line.len() - content.len(),
            text: trimmed,
            number: at + 1,
        });
    }
    let mut at = 0;
    let value = block(&mut lines, &mut at, 0, DEPTH_MAX)?;
    match lines.get(at) {
        None => Ok(value),
        Some(line) => Err(format!("line {} is not understood", line.number)),
    }
}

/// A mapping or a sequence whose entries stand at least at this column.
fn block(lines: &mut [Line<'_>], at: &mut usize, least: usize, depth: usize) -> Result<Value, String> {
    let Some(first) = lines.get(*at).filter(|line| line.indent >= least) else {
        return Ok(Value::Null);
    };
    let (indent, is_sequence) = (first.indent, is_item(first.text));
    if depth == 0 {
        return Err(format!("line {} is nested too deep", first.number));
    }
    let mut sequence = Vec::new();
    let mut mapping = Map::new();
    while let Some(line) = lines.get_mut(*at) {
        if line.indent != indent || is_item(line.text) != is_sequence {
            break;
        }
        let (text, number) = (line.text, line.number);
        if is_sequence {
            let rest = text[1..].trim_start();
            if rest.is_empty() {
                *at += 1;
                sequence.push(block(lines, at, indent + 1, depth - 1)?);
            } else if key(rest).is_some() || is_item(rest) {
                // "- a: b" begins a block at the column of the a.
                line.indent = indent + (text.len() - rest.len());
                line.text = rest;
                sequence.push(block(lines, at, indent + 1, depth - 1)?);
            } else {
                *at += 1;
                sequence.push(scalar(rest, number)?);
            }
            continue;
        }
        let (name, rest) = key(text).ok_or_else(|| format!("line {number} is not understood"))?;
        *at += 1;
        let value = match rest {
            // A sequence may stand at the column of its key.
            "" if lines
                .get(*at)
                .is_some_and(|next| next.indent == indent && is_item(next.text)) =>
            {
                block(lines, at, indent, depth - 1)?
            }
            "" => block(lines, at, indent + 1, depth - 1)?,
            rest => scalar(rest, number)?,
        };
        mapping.insert(name, value);
    }
    Ok(if is_sequence { sequence.into() } else { mapping.into() })
}

fn is_item(text: &str) -> bool {
    text == "-" || text.starts_with("- ")
}

/// `key: rest`.
fn key(text: &str) -> Option<(String, &str)> {
    let (name, rest) = match text.strip_suffix(':') {
        Some(name) if !name.contains(": ") => (name, ""),
        _ => text.split_once(": ")?,
    };
    let name = name.trim_end().trim_matches(['"', '\'']);
    let rest = rest.trim_start();
    (!name.is_empty()).then(|| (name.to_owned(), if rest.starts_with('#') { "" } else { rest }))
}

fn scalar(text: &str, number: usize) -> Result<Value, String> {
    let odd = || format!("line {number} is not understood");
    if let Some(rest) = text.strip_prefix('"') {
        // What may follow a backslash in JSON may in YAML too.
        let end = rest.rfind('"').ok_or_else(odd)?;
        return serde_json::from_str(&text[..end + 2]).map_err(|_| odd());
    }
    if let Some(rest) = text.strip_prefix('\'') {
        let end = rest.rfind('\'').ok_or_else(odd)?;
        return Ok(rest[..end].replace("''", "'").into());
    }
    match text {
        "{}" => return Ok(Map::new().into()),
        "[]" => return Ok(Vec::<Value>::new().into()),
        "null" | "~" => return Ok(Value::Null),
        _ => {}
    }
    if text.starts_with(['{', '[', '|', '>', '&', '*', '!']) {
        return Err(odd());
    }
    let plain = text.split(" #").next().unwrap_or(text);
    Ok(plain.trim_end().into())
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
        for odd in ["a: {b: c}", "a: |\n  x", "a", "a: b\n    c: d\n  e: f", "a: \"x"] {
            assert!(yaml(odd).is_err(), "{odd}");
        }
        let deep: String = (0..200).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
        assert!(yaml(&deep).unwrap_err().contains("too deep"));
    }

    #[test]
    fn base64_as_certificates_have_it() {
        assert_eq!(base64("aGVsbG8gd29ybGQ=").unwrap(), b"hello world");
        assert_eq!(base64("aGVs\nbG8h").unwrap(), b"hello!");
        assert_eq!(base64("").unwrap(), b"");
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
