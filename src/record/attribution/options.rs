//! Where names may come from, by the command line and the environment.

use std::path::{Path, PathBuf};

use super::client::{Client, Timing, Token};
use super::files::Base;
use super::kubeconfig;
use crate::open::read_named;

/// Where a pod finds its service account.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// The kubelet's port, with TLS and a token. Its read-only port (10255) is not asked: without TLS any user of the node can
/// answer there, where the kubelet does not.
const PORT: u16 = 10250;
/// Certificates that a kubelet or its cluster's authority leaves on the node.
const NODE_AUTHORITIES: [&str; 4] = [
    "var/lib/kubelet/pki/kubelet.crt",
    "etc/kubernetes/pki/ca.crt",
    "var/lib/rancher/k3s/agent/server-ca.crt",
    "var/lib/rancher/k3s/server/tls/server-ca.crt",
];

/// The largest of them, bytes.
const AUTHORITY_MAX: u64 = 1 << 20;

/// What the user asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Where the host's file system is mounted; nothing: `/`.
    pub host_root: Option<PathBuf>,
    /// A pod list (`kubectl get pods -A -o json`).
    pub pods: Option<PathBuf>,
    /// Ask the API server that this file names.
    pub kubeconfig: Option<PathBuf>,
    /// The node's name at the API server; otherwise `NODE_NAME`, otherwise the host name.
    pub node: Option<String>,
    /// The kubelet: a host, `host:port` or a URL (one with `http://` is believed without proof); otherwise `NODE_IP`,
    /// otherwise this host.
    pub kubelet: Option<String>,
    /// Whose certificates to accept from the kubelet, beside those found on the node.
    pub kubelet_ca: Option<PathBuf>,
    /// The token for the kubelet; otherwise the service account's.
    pub token_file: Option<PathBuf>,
    /// Ask for the pods of all nodes: their addresses get names too.
    pub all_pods: bool,
    /// Ask nobody.
    pub off: bool,
}

/// The part of the environment that matters.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    pub service_account: PathBuf,
    pub api_host: Option<String>,
    pub api_port: Option<String>,
    pub node_name: Option<String>,
    pub node_ip: Option<String>,
    pub hostname: String,
}

impl Environment {
    /// This process's.
    pub fn find() -> Environment {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Environment {
            service_account: SERVICE_ACCOUNT.into(),
            api_host: variable("KUBERNETES_SERVICE_HOST"),
            api_port: variable("KUBERNETES_SERVICE_PORT"),
            node_name: variable("NODE_NAME"),
            node_ip: variable("NODE_IP"),
            hostname: hostname.trim().to_lowercase(),
        }
    }
}

/// A source that is asked over the network: whom, and why not if that cannot be.
pub type Found<T> = Option<Result<T, String>>;

impl Options {
    /// The root of the host's file system.
    pub fn root(&self) -> &Path {
        self.host_root.as_deref().unwrap_or(Path::new("/"))
    }

    /// The node's name, and whether somebody gave it.
    pub fn node_name(&self, environment: &Environment) -> (String, bool) {
        match self.node.clone().or_else(|| environment.node_name.clone()) {
            Some(name) => (name, true),
            None => (environment.hostname.clone(), false),
        }
    }

    /// The API server; `None` when there is no reason to think that there is one.
    pub fn api(&self, environment: &Environment, timing: Timing) -> Found<Client> {
        if let Some(path) = &self.kubeconfig {
            return Some(kubeconfig::client(path, timing));
        }
        let host = environment.api_host.as_ref()?;
        let port = environment.api_port.as_deref().unwrap_or("443");
        // An IPv6 address is in brackets in a URL.
        let host = match host.contains(':') {
            true => format!("[{host}]"),
            false => host.clone(),
        };
        let folder = &environment.service_account;
        let client = read_named(&folder.join("ca.crt"), AUTHORITY_MAX)
            .and_then(|ca| Client::new(&format!("https://{host}:{port}"), &ca, timing))
            .map(|client| client.with_token(Token::File(folder.join("token"))));
        Some(client)
    }

    /// The kubelet; `None` when there is no reason to think that there is one.
    pub fn kubelet(&self, environment: &Environment, timing: Timing) -> Found<Client> {
        let host = match &self.kubelet {
            Some(word) if word.contains("://") => {
                return Some(self.kubelet_client(word, None, environment, timing));
            }
            Some(word) => word.clone(),
            None if Base::root(self.root()).is_ok_and(|base| base.has_folder(Path::new("var/lib/kubelet"))) => {
                environment.node_ip.clone().unwrap_or_else(|| "127.0.0.1".into())
            }
            None => return None,
        };
        if host.rsplit_once(':').is_some_and(|(name, _)| !name.contains(':')) {
            return Some(self.kubelet_client(&format!("https://{host}"), None, environment, timing));
        }
        let ip: Option<std::net::IpAddr> = host.parse().ok();
        let host = match ip {
            Some(std::net::IpAddr::V6(ip)) => format!("[{ip}]"),
            _ => host,
        };
        // A kubelet's certificate names its node, not the loopback address.
        let (name, pinned) = match ip {
            Some(ip) if ip.is_loopback() => (self.node_name(environment).0, Some(ip)),
            _ => (host.clone(), None),
        };
        Some(self.kubelet_client(&format!("https://{name}:{PORT}"), pinned, environment, timing))
    }

    fn kubelet_client(
        &self,
        url: &str,
        pinned: Option<std::net::IpAddr>,
        environment: &Environment,
        timing: Timing,
    ) -> Result<Client, String> {
        if url.starts_with("http://") {
            return Client::plain(url, timing);
        }
        let mut authorities = match &self.kubelet_ca {
            Some(path) => read_named(path, AUTHORITY_MAX)?,
            None => Vec::new(),
        };
        let of_node = Base::root(self.root()).ok();
        let of_node = NODE_AUTHORITIES
            .iter()
            .filter_map(|path| of_node.as_ref()?.read(Path::new(path), AUTHORITY_MAX).ok());
        let of_account = std::fs::read(environment.service_account.join("ca.crt")).ok();
        for found in of_node.chain(of_account) {
            authorities.extend(found);
            authorities.push(b'\n');
        }
        let token = self
            .token_file
            .clone()
            .unwrap_or_else(|| environment.service_account.join("token"));
        let client = Client::new(url, &authorities, timing)?.with_token(Token::File(token));
        Ok(match pinned {
            Some(ip) => client.pinned(ip),
            None => client,
        })
    }
}
