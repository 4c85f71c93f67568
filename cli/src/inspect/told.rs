//! An exchange in one line: an object for scripts, a few words for people. Never with a secret in it.

use mytunnel_node::inspect::Exchange;
use serde::Serialize;

use super::mask;

/// What `share --requests` tells of a request that has ended.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Told {
    Request {
        id: u64,
        method: String,
        path: String,
        /// None where there was no answer.
        status: Option<u16>,
        ms: f64,
        bytes_in: u64,
        bytes_out: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        replay_of: Option<u64>,
    },
}

impl Told {
    pub(crate) fn of(exchange: &Exchange) -> Self {
        Self::Request {
            id: exchange.id,
            method: exchange.method().to_owned(),
            path: mask::target(exchange.target()),
            status: exchange.status(),
            ms: exchange.millis().unwrap_or_default(),
            bytes_in: exchange.request_body.length,
            bytes_out: exchange.response_body.length,
            error: exchange.trouble.map(|trouble| trouble.to_string()),
            replay_of: exchange.replay_of,
        }
    }
}

/// `GET /path 200 12 ms`.
pub(crate) fn line(exchange: &Exchange) -> String {
    let mut words = Vec::new();
    if exchange.request.is_some() {
        words.push(printable(&format!("{} {}", exchange.method(), mask::target(exchange.target()))));
    }
    if let Some(status) = exchange.status() {
        words.push(status.to_string());
    }
    if let Some(trouble) = exchange.trouble {
        words.push(format!("({trouble})"));
    }
    if let Some(millis) = exchange.millis() {
        words.push(format!("{millis:.0} ms"));
    }
    if let Some(of) = exchange.replay_of {
        words.push(format!("(replay of {of})"));
    }
    words.join(" ")
}

/// A stranger's text must not move the cursor.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|char| if is_harmless(char) { char } else { '\u{fffd}' }).collect()
}

/// Whether a terminal shows it as itself, on the same line: neither moves the cursor, nor turns the direction of writing, nor is invisible.
pub(crate) fn is_harmless(char: char) -> bool {
    !matches!(char, '\n' | '\t') && !mytunnel_pairing::acts(char)
}

#[cfg(test)]
pub(crate) mod tests {
    use mytunnel_node::inspect::{Header, RequestHead, ResponseHead, Trouble};

    use super::*;

    /// An exchange as it was recorded.
    pub(crate) fn exchange(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Exchange {
        let headers = headers
            .iter()
            .map(|(name, value)| Header { name: (*name).to_owned(), value: value.as_bytes().to_vec() })
            .collect();
        let mut exchange = Exchange::default();
        exchange.id = 1;
        exchange.ended = Some(12_300);
        exchange.request =
            Some(RequestHead { method: method.to_owned(), target: target.to_owned(), headers });
        exchange.request_body.kept = body.to_vec();
        exchange.request_body.length = body.len() as u64;
        exchange.response = Some(ResponseHead { status: 200, reason: "OK".to_owned(), headers: Vec::new() });
        exchange
    }

    #[test]
    fn a_request_has_the_fields_that_scripts_rely_on() {
        let told = serde_json::to_value(Told::of(&exchange("POST", "/a?token=x", &[], b"hi"))).unwrap();
        let expected = serde_json::json!({
            "event": "request", "id": 1, "method": "POST", "path": "/a?token=***", "status": 200, "ms": 12.3,
            "bytes_in": 2, "bytes_out": 0,
        });
        assert_eq!(told, expected);
    }

    #[test]
    fn a_line_is_short_and_moves_no_cursor() {
        assert_eq!(line(&exchange("GET", "/a?key=x", &[], b"")), "GET /a?key=*** 200 12 ms");
        let mut lost = exchange("GET", "/\u{1b}[2J", &[], b"");
        lost.response = None;
        lost.trouble = Some(Trouble::Unreachable);
        lost.replay_of = Some(7);
        assert_eq!(line(&lost), "GET /\u{fffd}[2J (the target could not be reached) 12 ms (replay of 7)");
    }
}
