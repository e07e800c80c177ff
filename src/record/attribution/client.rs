//! Asking an HTTPS server politely: verified TLS, a token that is read again for each request (it is replaced while we
//! run) and never shown, no redirects, bounded answers, and timeouts for everything.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Body, http};

use crate::open;

/// A token has no more bytes.
const MAX_TOKEN: u64 = 1 << 20;
/// The largest answer read: a list page, or all pods of a node.
const ANSWER_MAX: u64 = 256 << 20;
/// The largest line of a watch. An object has at most 1.5 MiB in etcd.
const LINE_MAX: u64 = 8 << 20;

/// How long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    pub connect: Duration,
    /// For one answer, and for each piece of it.
    pub answer: Duration,
    /// A watch is ended by the server after this time, and begun again.
    pub watch: Duration,
    /// The first pause after a failure; each next one is twice as long.
    pub pause: Duration,
    pub pause_max: Duration,
    /// Between two polls of a source that cannot be watched.
    pub poll: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            connect: Duration::from_secs(3),
            answer: Duration::from_secs(20),
            watch: Duration::from_secs(240),
            pause: Duration::from_millis(500),
            pause_max: Duration::from_secs(60),
            poll: Duration::from_secs(10),
        }
    }
}

/// What proves who we are.
#[derive(Clone)]
pub enum Token {
    None,
    /// Read for each request.
    File(PathBuf),
    Text(String),
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The server refused: status code and its words.
    Status(u16, String),
    /// No answer, or none that makes sense.
    Other(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Status(401, _) => f.write_str("401 Unauthorized: the token is missing, wrong or expired"),
            Failure::Status(code, words) if words.is_empty() => write!(f, "answered {code}"),
            Failure::Status(code, words) => write!(f, "answered {code}: {words}"),
            Failure::Other(why) => f.write_str(why),
        }
    }
}

/// A server.
#[derive(Clone)]
pub struct Client {
    base: String,
    token: Token,
    roots: Option<Arc<Vec<Certificate<'static>>>>,
    identity: Option<ClientCert>,
    pinned: Option<IpAddr>,
    timing: Timing,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the token or the key.
        write!(f, "Client({})", self.base)
    }
}

impl Client {
    /// A server with TLS whose certificate must be signed by one of these authorities (PEM).
    pub fn new(base: &str, authorities: &[u8], timing: Timing) -> Result<Client, String> {
        if !base.starts_with("https://") {
            return Err(format!("{base} is not an https URL"));
        }
        let roots = certificates(authorities);
        if roots.is_empty() {
            return Err(format!("no certificate of an authority to verify {base} with"));
        }
        Ok(Client {
            base: base.trim_end_matches('/').to_owned(),
            token: Token::None,
            roots: Some(Arc::new(roots)),
            identity: None,
            pinned: None,
            timing,
        })
    }

    /// A server without TLS; it never gets a token.
    pub fn plain(base: &str, timing: Timing) -> Result<Client, String> {
        Ok(Client {
            base: base.trim_end_matches('/').to_owned(),
            token: Token::None,
            roots: None,
            identity: None,
            pinned: None,
            timing,
        })
    }

    /// With a token.
    pub fn with_token(self, token: Token) -> Client {
        Client { token, ..self }
    }

    /// With a certificate of our own (PEM), and its key.
    pub fn with_identity(self, certificate: &[u8], key: &[u8]) -> Result<Client, String> {
        let chain = certificates(certificate);
        let key = PrivateKey::from_pem(key).map_err(|_| "the client key is not a PEM private key".to_owned())?;
        if chain.is_empty() {
            return Err("the client certificate is not in PEM form".into());
        }
        Ok(Client {
            identity: Some(ClientCert::new_with_certs(&chain, key)),
            ..self
        })
    }

    /// At this address, whatever the name in the URL; the name is still what the certificate must contain.
    pub fn pinned(self, ip: IpAddr) -> Client {
        Client {
            pinned: Some(ip),
            ..self
        }
    }

    /// Where it is.
    pub fn base(&self) -> &str {
        &self.base
    }

    pub fn timing(&self) -> Timing {
        self.timing
    }

    fn agent(&self, read: Duration, whole: Duration) -> Agent {
        let mut tls = TlsConfig::builder().client_cert(self.identity.clone());
        if let Some(roots) = &self.roots {
            tls = tls.root_certs(RootCerts::Specific(Arc::clone(roots)));
        }
        let config = Agent::config_builder()
            .tls_config(tls.build())
            .https_only(self.roots.is_some())
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .user_agent(concat!("mdf/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(self.timing.connect))
            .timeout_per_read(Some(read))
            .timeout_recv_response(Some(read))
            .timeout_global(Some(whole))
            .build();
        let resolver = Pinned(self.pinned, DefaultResolver::default());
        Agent::with_parts(config, DefaultConnector::default(), resolver)
    }

    fn call(&self, agent: &Agent, path: &str) -> Result<http::Response<Body>, Failure> {
        let mut request = agent
            .get(format!("{}{path}", self.base))
            .header("accept", "application/json");
        let token = match (&self.token, &self.roots) {
            (Token::None, _) | (_, None) => None,
            (Token::Text(token), _) => Some(token.clone()),
            (Token::File(path), _) => open::read_whole(path, MAX_TOKEN)
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok()),
        };
        let token = token.as_deref().map(str::trim).filter(|token| !token.is_empty());
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let mut response = request.call().map_err(failure)?;
        let status = response.status().as_u16();
        if status == 200 {
            return Ok(response);
        }
        let body = response.body_mut().with_config().limit(64 << 10).read_to_vec();
        let words = body.ok().and_then(|body| crate::pods::kube::status_message(&body));
        let words = words.unwrap_or_default();
        // A server may repeat what it was shown.
        let words = token.map_or(words.clone(), |token| words.replace(token, "…"));
        Err(Failure::Status(status, words))
    }

    /// One whole answer.
    pub fn get(&self, path: &str) -> Result<Vec<u8>, Failure> {
        let agent = self.agent(self.timing.answer, self.timing.answer * 3);
        let mut response = self.call(&agent, path)?;
        let body = response.body_mut().with_config().limit(ANSWER_MAX).read_to_vec();
        body.map_err(failure)
    }

    /// An answer that goes on, line by line. `each` returns whether to go on.
    pub fn lines(&self, path: &str, mut each: impl FnMut(&[u8]) -> bool) -> Result<(), Failure> {
        let grace = self.timing.watch + self.timing.answer;
        let agent = self.agent(grace, grace * 2);
        let response = self.call(&agent, path)?;
        let mut reader = BufReader::new(response.into_body().into_with_config().limit(u64::MAX).reader());
        let mut line = Vec::new();
        loop {
            line.clear();
            match reader.by_ref().take(LINE_MAX).read_until(b'\n', &mut line) {
                Ok(0) => return Ok(()),
                Ok(_) if line.len() as u64 >= LINE_MAX => {
                    return Err(Failure::Other("a line of the watch is too long".into()));
                }
                Ok(_) if line.iter().all(u8::is_ascii_whitespace) => {}
                Ok(_) => {
                    if !each(&line) {
                        return Ok(());
                    }
                }
                Err(error) => return Err(Failure::Other(error.to_string())),
            }
        }
    }
}

fn failure(error: ureq::Error) -> Failure {
    match error {
        ureq::Error::StatusCode(code) => Failure::Status(code, String::new()),
        ureq::Error::Timeout(_) => Failure::Other("no answer in time".into()),
        ureq::Error::Io(error) => Failure::Other(error.to_string()),
        error => Failure::Other(error.to_string()),
    }
}

fn certificates(pem: &[u8]) -> Vec<Certificate<'static>> {
    let items = parse_pem(pem).filter_map(Result::ok);
    items
        .filter_map(|item| match item {
            PemItem::Certificate(certificate) => Some(certificate),
            _ => None,
        })
        .collect()
}

/// Finds the address of a host, or knows it already.
#[derive(Debug)]
struct Pinned(Option<IpAddr>, DefaultResolver);

impl Resolver for Pinned {
    fn resolve(
        &self,
        uri: &http::Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        match self.0 {
            Some(ip) => {
                let mut addresses = self.empty();
                addresses.push(SocketAddr::new(ip, uri.port_u16().unwrap_or(443)));
                Ok(addresses)
            }
            None => self.1.resolve(uri, config, timeout),
        }
    }
}

/// Pauses that grow with each failure.
#[derive(Debug)]
pub struct Pause {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Pause {
    pub fn new(timing: Timing) -> Pause {
        Pause {
            first: timing.pause,
            longest: timing.pause_max,
            failures: 0,
        }
    }

    /// It worked.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Whether the last thing that happened was a failure.
    pub fn has_failed(&self) -> bool {
        self.failures > 0
    }

    /// It failed: how long to wait. Spread, so that the nodes of a cluster do not all come back at the same moment.
    pub fn after_failure(&mut self) -> Duration {
        use std::hash::{BuildHasher, Hasher};
        let pause = self.first.saturating_mul(1 << self.failures.min(16)).min(self.longest);
        self.failures += 1;
        let random = std::hash::RandomState::new().build_hasher().finish() % 1024;
        pause.mul_f64(0.75 + random as f64 / 2048.0)
    }
}
