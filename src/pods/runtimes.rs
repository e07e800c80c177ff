//! The files in which Docker and Podman keep the names of their containers.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A container outside Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plain {
    pub id: String,
    pub name: String,
    /// The user whose container it is; nothing: root.
    pub user: Option<u32>,
    pub labels: BTreeMap<String, String>,
}

/// Reads `/var/lib/docker/containers/<id>/config.v2.json`.
pub fn docker(json: &[u8]) -> Option<Plain> {
    #[derive(Deserialize)]
    struct File {
        #[serde(rename = "ID")]
        id: String,
        #[serde(rename = "Name")]
        name: String,
        #[serde(rename = "Config", default)]
        config: Option<Config>,
    }
    #[derive(Deserialize, Default)]
    struct Config {
        #[serde(rename = "Labels", default)]
        labels: Option<BTreeMap<String, String>>,
    }
    let file: File = serde_json::from_slice(json).ok()?;
    let plain = Plain {
        id: file.id,
        name: file.name.trim_start_matches('/').to_owned(),
        user: None,
        labels: labels(file.config.and_then(|config| config.labels)),
    };
    is_valid(&plain).then_some(plain)
}

/// Ids and names as both make them; anybody can write anything into a list of his own.
fn is_valid(plain: &Plain) -> bool {
    let is_id = !plain.id.is_empty() && plain.id.len() <= 64 && plain.id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let in_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    is_id && !plain.name.is_empty() && plain.name.len() <= 255 && plain.name.bytes().all(in_name)
}

/// Reads `containers.json` (and `volatile-containers.json`) of containers/storage, which Podman and CRI-O use.
pub fn podman(json: &[u8]) -> Vec<Plain> {
    #[derive(Deserialize)]
    struct Entry {
        id: String,
        #[serde(default)]
        names: Option<Vec<String>>,
    }
    let entries: Vec<Entry> = serde_json::from_slice(json).unwrap_or_default();
    let named = entries.into_iter().filter_map(|entry| {
        Some(Plain {
            id: entry.id,
            name: entry.names?.into_iter().next()?,
            user: None,
            labels: BTreeMap::new(),
        })
    });
    named.filter(is_valid).collect()
}

/// Those that can be stored as `key=value,…`; Docker's may contain anything.
fn labels(all: Option<BTreeMap<String, String>>) -> BTreeMap<String, String> {
    let short = |(key, value): &(String, String)| key.len() + value.len() <= 256 && !value.contains([',', '\n']);
    all.unwrap_or_default().into_iter().filter(short).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_keeps_one_file_for_each_container() {
        let json = br#"{"StreamConfig":{},"State":{"Running":true,"Pid":4711},"ID":"3a4f9c0d1e2b","Created":"2026-01-05T10:00:00Z",
            "Config":{"Hostname":"3a4f9c0d1e2b","Labels":{"com.docker.compose.service":"db","notes":"a,b"}},"Name":"/shop-db-1","Driver":"overlay2"}"#;
        let found = docker(json).unwrap();
        assert_eq!((found.id.as_str(), found.name.as_str()), ("3a4f9c0d1e2b", "shop-db-1"));
        assert_eq!(found.labels.len(), 1, "a label that cannot be stored is left out");
        assert_eq!(
            docker(br#"{"ID":"a","Name":"/b","Config":{"Labels":null}}"#)
                .unwrap()
                .name,
            "b"
        );
        assert_eq!(docker(b"{"), None);
    }

    #[test]
    fn podman_keeps_a_list() {
        let json = br#"[{"id":"3a4f9c","names":["web"],"image":"77","layer":"88","metadata":"{\"name\":\"web\"}","created":"2026-01-05T10:00:00Z"},
            {"id":"4b","names":null}]"#;
        let found = podman(json);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].id.as_str(), found[0].name.as_str()), ("3a4f9c", "web"));
        assert!(podman(b"[").is_empty());
        for (id, name) in [
            ("xyz", "web"),
            ("3a4f9c", "\\u001b[2J"),
            ("3a4f9c", "a b"),
            ("3a4f9c", ""),
            ("", "web"),
        ] {
            let json = format!(r#"[{{"id":"{id}","names":["{name}"]}}]"#);
            assert!(podman(json.as_bytes()).is_empty(), "{json}");
        }
    }
}
