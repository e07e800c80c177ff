//! A simulated kubelet and API server over TLS, and the worker with sources that are slow, refuse, or are broken.

mod flow;
mod server;
mod sources;

use std::time::Duration;

use super::client::Timing;

pub const CA: &[u8] = include_bytes!("tests/ca.pem");
pub const OTHER_CA: &[u8] = include_bytes!("tests/other.pem");

/// Quick, so that tests are.
pub fn timing() -> Timing {
    Timing {
        connect: Duration::from_secs(5),
        answer: Duration::from_millis(400),
        watch: Duration::from_millis(900),
        pause: Duration::from_millis(5),
        pause_max: Duration::from_millis(20),
        poll: Duration::from_millis(30),
    }
}

/// A pod as the API writes it.
pub fn pod(name: &str, uid: &str, version: u32) -> String {
    format!(
        r#"{{"kind":"Pod","apiVersion":"v1","metadata":{{"name":"{name}","namespace":"shop","uid":"{uid}","resourceVersion":"{version}","labels":{{"app":"{name}"}}}},"spec":{{"nodeName":"node1"}},"status":{{"phase":"Running","podIP":"10.42.3.7"}}}}"#
    )
}

/// A page of a list of pods.
pub fn list(pods: &[String], version: u32, next: &str) -> String {
    format!(
        r#"{{"kind":"PodList","apiVersion":"v1","metadata":{{"resourceVersion":"{version}","continue":"{next}"}},"items":[{}]}}"#,
        pods.join(",")
    )
}
