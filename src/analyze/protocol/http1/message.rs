//! What an HTTP exchange says, as the tables need it.

use super::Http;
use super::parse::RequestHead;
use super::path::path_and_query;
use crate::analyze::exchange::{Incomplete, Message};
use crate::analyze::protocol::Registered;
use crate::analyze::protocol::set_text;
use crate::human::{prefix, shortened};

/// A request and what its response says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpMessage {
    /// As sent; empty when only a response was seen.
    pub method: String,
    /// The request target as sent (origin, absolute, authority or asterisk form; RFC 9112, 3.2).
    pub target: String,
    /// The end of the target was not seen: what is there of it names no path, and perhaps no host.
    pub is_target_cut: bool,
    /// The Host field, or the authority of an absolute target.
    pub host: String,
    /// Of a request that came before.
    pub known: Known,
    /// Major * 10 + minor: 9, 10 or 11; 0 when unknown.
    pub version: u8,
    /// 0 when no final response was seen.
    pub status: u16,
    /// Content-Type of the response, as sent.
    pub content_type: String,
    /// The protocol that a 101 answer switched to; `tunnel` after a 2xx answer to CONNECT.
    pub upgrade: String,
    /// Status of the last interim response (100, 103); 0 when there was none.
    pub interim: u16,
    /// What was wrong with it; empty when nothing was. It may be measured all the same.
    pub problem: &'static str,
}

/// A number for method, target and host: requests that have the same one ask the same. 0 when there is none. It says
/// nothing that the three do not say, so all are equal.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known(pub u64);

impl PartialEq for Known {
    fn eq(&self, _: &Known) -> bool {
        true
    }
}

impl Eq for Known {}

impl HttpMessage {
    /// Empties every field and keeps the buffers.
    pub fn clear(&mut self) {
        self.ask(&RequestHead::default(), Known(0));
        self.clear_response();
    }

    /// Takes what a request asks, and the number of that.
    pub(super) fn ask(&mut self, head: &RequestHead<'_>, known: Known) {
        if known.0 == 0 || self.known.0 != known.0 {
            set_text(&mut self.method, head.method);
            set_text(&mut self.target, head.target);
            set_text(&mut self.host, head.authority());
            self.known = known;
        }
        self.version = head.version;
        self.problem = head.remark;
        self.is_target_cut = false;
    }

    /// Path and query of the target; no path where the end of the target was not seen.
    pub fn path_and_query(&self) -> (&str, Option<&str>) {
        match self.is_target_cut {
            true => ("", None),
            false => path_and_query(&self.target),
        }
    }

    /// Takes method, target and host of a request that came before.
    pub(super) fn ask_again(&mut self, words: [&str; 3], version: u8, known: Known) {
        if self.known.0 != known.0 {
            for (text, word) in [&mut self.method, &mut self.target, &mut self.host]
                .into_iter()
                .zip(words)
            {
                word.clone_into(text);
            }
            self.known = known;
        }
        self.version = version;
        self.problem = "";
        self.is_target_cut = false;
    }
}

impl Message for HttpMessage {
    fn clear_response(&mut self) {
        self.status = 0;
        self.content_type.clear();
        self.upgrade.clear();
        self.interim = 0;
    }

    fn is_error(&self) -> bool {
        self.status >= 500
    }

    fn protocol(&self) -> usize {
        Http::PLACE
    }

    fn asked(&self, limit: usize) -> String {
        format!("{} {}", self.method, prefix(&self.target, limit))
    }

    fn answered(&self) -> String {
        match self.status {
            0 => String::new(),
            status => status.to_string(),
        }
    }

    fn line(&self, _: Option<Incomplete>, limit: usize) -> String {
        let status = match self.status {
            0 => "no response".to_owned(),
            status => status.to_string(),
        };
        let host = match self.target.starts_with('/') {
            true => self.host.as_str(),
            false => "",
        };
        format!("{} {host}{} {status}", self.method, shortened(&self.target, limit))
    }

    /// After these two the connection carries something else.
    fn is_restart(&self) -> bool {
        self.status != 101 && self.method != "CONNECT"
    }
}
