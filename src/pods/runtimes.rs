//! The files in which Docker and Podman keep the names of their containers.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};

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

/// Reads `containers.json` (and `volatile-containers.json`) of containers/storage, which Podman and CRI-O use. The list is as
/// long as its writer likes: no more than `most` containers, and one, are kept of it.
pub fn podman(json: &[u8], most: usize) -> Result<Vec<Plain>, serde_json::Error> {
    let mut text = serde_json::Deserializer::from_slice(json);
    let found = text.deserialize_seq(Entries { most })?;
    text.end()?;
    Ok(found)
}

struct Entries {
    most: usize,
}

impl<'de> Visitor<'de> for Entries {
    type Value = Vec<Plain>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of containers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Vec<Plain>, A::Error> {
        #[derive(Deserialize)]
        struct Entry {
            id: String,
            #[serde(default)]
            names: Option<FirstName>,
        }
        let mut found = Vec::new();
        while let Some(entry) = entries.next_element::<Entry>()? {
            let plain = Plain {
                id: entry.id,
                name: entry.names.and_then(|names| names.0).unwrap_or_default(),
                user: None,
                labels: BTreeMap::new(),
            };
            if found.len() <= self.most && is_valid(&plain) {
                found.push(plain);
            }
        }
        Ok(found)
    }
}

/// The first of a container's names; the others are read and not kept.
struct FirstName(Option<String>);

impl<'de> Deserialize<'de> for FirstName {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = FirstName;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of names")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<FirstName, A::Error> {
                let first = names.next_element()?;
                while names.next_element::<IgnoredAny>()?.is_some() {}
                Ok(FirstName(first))
            }
        }
        from.deserialize_seq(Names)
    }
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

    fn podman(json: &[u8]) -> Option<Vec<Plain>> {
        super::podman(json, 100).ok()
    }

    #[test]
    fn podman_keeps_a_list() {
        let json = br#"[{"id":"3a4f9c","names":["web"],"image":"77","layer":"88","metadata":"{\"name\":\"web\"}","created":"2026-01-05T10:00:00Z"},
            {"id":"4b","names":null},{"id":"4c"},{"id":"4d","names":[]},{"id":"4e","names":["db","other","third"]}]"#;
        let found = podman(json).unwrap();
        let names: Vec<_> = found
            .iter()
            .map(|plain| (plain.id.as_str(), plain.name.as_str()))
            .collect();
        assert_eq!(names, [("3a4f9c", "web"), ("4e", "db")]);
        assert_eq!(podman(b"[]"), Some(Vec::new()));
        for damaged in [
            "",
            "[",
            "{}",
            r#"[{"id":"3a4f9c","names":["web"]}"#,
            "[] []",
            r#"[{"names":["web"]}]"#,
        ] {
            assert_eq!(podman(damaged.as_bytes()), None, "{damaged}");
        }
        for (id, name) in [
            ("xyz", "web"),
            ("3a4f9c", "\\u001b[2J"),
            ("3a4f9c", "a b"),
            ("3a4f9c", ""),
            ("", "web"),
        ] {
            let json = format!(r#"[{{"id":"{id}","names":["{name}"]}}]"#);
            assert_eq!(podman(json.as_bytes()), Some(Vec::new()), "{json}");
        }
        let many = [r#"{"id":"3a","names":["web"]}"#; 10].join(",");
        assert_eq!(super::podman(format!("[{many}]").as_bytes(), 3).unwrap().len(), 4);
    }
}
