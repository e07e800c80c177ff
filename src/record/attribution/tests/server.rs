//! A server that does what a script says.
#![allow(unsafe_code, reason = "the standard library cannot reset a connection")]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::CA;

/// What the server does next.
pub enum Step {
    /// A whole answer.
    Answer(u16, String),
    /// The head of an answer that goes on.
    Begin,
    /// A piece of it.
    Line(String),
    /// Nothing until the client goes away.
    Hang,
    /// Nothing until the test sends a signal.
    Until(Arc<Mutex<Receiver<()>>>),
    /// Ends an answer that went on.
    End,
    /// The connection breaks.
    Reset,
}

/// What the server was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub path: String,
    pub authorization: String,
    /// The client showed a certificate.
    pub certificate: bool,
}

pub struct Server {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    news: Receiver<()>,
}

type Script = dyn Fn(usize, &Asked) -> Vec<Step> + Send + Sync;

impl Server {
    /// `script` gets the number of the request, from 0, and the request.
    pub fn start(script: impl Fn(usize, &Asked) -> Vec<Step> + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (tell, news) = mpsc::channel();
        let script: Arc<Script> = Arc::new(script);
        let log = Arc::clone(&asked);
        let config = config();
        // The threads end with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (script, log, config, tell) = (script.clone(), log.clone(), config.clone(), tell.clone());
                std::thread::spawn(move || serve(stream, config, &log, &tell, &*script));
            }
        });
        Server { address, asked, news }
    }

    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Waits for this number of requests.
    pub fn wait_for(&self, count: usize) -> Vec<Asked> {
        let end = Instant::now() + Duration::from_secs(60);
        while self.asked().len() < count {
            match self.news.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("{count} requests were expected, there are {:#?}", self.asked())
                }
            }
        }
        self.asked()
    }
}

fn config() -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = vec![CertificateDer::from_pem_slice(include_bytes!("server.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("server.key")).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(CA).unwrap()).unwrap();
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)
        .unwrap();
    Arc::new(config)
}

fn serve(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    log: &Mutex<Vec<Asked>>,
    tell: &mpsc::Sender<()>,
    script: &Script,
) {
    let mut tls = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match tls.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let header = |name: &str| {
        let line = head.lines().find(|line| line.to_lowercase().starts_with(name));
        line.map(|line| line[name.len()..].trim().to_owned())
            .unwrap_or_default()
    };
    let asked = Asked {
        path,
        authorization: header("authorization:"),
        certificate: tls.conn.peer_certificates().is_some(),
    };
    let number = {
        let mut log = log.lock().unwrap();
        log.push(asked.clone());
        log.len() - 1
    };
    let _ = tell.send(());
    for step in script(number, &asked) {
        let done = match step {
            Step::Answer(status, body) => write!(
                tls,
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            ),
            Step::Begin => write!(
                tls,
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
            ),
            Step::Line(line) => write!(tls, "{:x}\r\n{line}\r\n", line.len()),
            Step::End => write!(tls, "0\r\n\r\n"),
            Step::Hang => loop {
                match tls.read(&mut byte) {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                }
            },
            Step::Until(said) => {
                let _ = said.lock().unwrap().recv();
                Ok(())
            }
            Step::Reset => {
                let _ = tls.flush();
                // SAFETY: a plain struct, and a socket that is open as long as `tls`.
                unsafe {
                    let linger = libc::linger {
                        l_onoff: 1,
                        l_linger: 0,
                    };
                    let size = size_of::<libc::linger>() as libc::socklen_t;
                    use std::os::fd::AsRawFd;
                    libc::setsockopt(
                        tls.sock.as_raw_fd(),
                        libc::SOL_SOCKET,
                        libc::SO_LINGER,
                        (&raw const linger).cast(),
                        size,
                    );
                }
                return;
            }
        };
        if done
            .and_then(|()| tls.flush())
            .is_err_and(|error| error.kind() != ErrorKind::Interrupted)
        {
            return;
        }
    }
    tls.conn.send_close_notify();
    let _ = tls.flush();
}
