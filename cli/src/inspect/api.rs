//! What the page and `mytunnel requests` ask a running share.

use std::time::Duration;

use data_encoding::BASE64;
use mytunnel_node::Target;
use mytunnel_node::inspect::{Again, Exchange, Header, Inspector, Query, Replayer};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::shown::{self, Secrets};
use super::signature::{self, Provider};
use super::{curl, mask};

/// How long a list waits for something new.
const WAIT: Duration = Duration::from_secs(20);

/// A share's requests, and the way to its target.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) inspector: Inspector,
    pub(crate) replayer: Replayer,
    pub(crate) target: Target,
}

/// A request to the page, as far as it matters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) post: bool,
    /// Below `api/`.
    pub(super) route: &'a str,
    pub(super) query: &'a str,
    pub(super) sent: &'a [u8],
}

/// What comes of it.
#[derive(Debug)]
pub(super) enum Answer {
    Found(Value),
    Missing,
    Bad(String),
    Failed(String),
}

/// A request that was edited; what is not named stays.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Edit {
    method: Option<String>,
    path: Option<String>,
    headers: Option<Vec<[String; 2]>>,
    text: Option<String>,
    base64: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Verify {
    provider: Provider,
    secret: String,
}

impl Api {
    pub(super) async fn answer(&self, asked: Asked<'_>) -> Answer {
        let mut parts = asked.route.split('/');
        let of = (asked.post, parts.next(), parts.next(), parts.next(), parts.next());
        let id = of.2.and_then(|id| id.parse().ok());
        match of {
            (false, Some("requests"), None, ..) => Answer::Found(self.list(asked.query).await),
            (true, Some("clear"), None, ..) => {
                self.inspector.clear();
                Answer::Found(json!({}))
            }
            (post, Some("requests"), Some(_), verb, None) => {
                let Some(exchange) = id.and_then(|id| self.inspector.exchange(id)) else {
                    return Answer::Missing;
                };
                self.one(post, verb, &exchange, asked).await
            }
            _ => Answer::Missing,
        }
    }

    async fn one(&self, post: bool, verb: Option<&str>, exchange: &Exchange, asked: Asked<'_>) -> Answer {
        match (post, verb) {
            (false, None) => {
                let shown = field(asked.query, "secrets").as_deref() == Some("show");
                let secrets = if shown { Secrets::Shown } else { Secrets::Masked };
                Answer::Found(shown::whole(exchange, secrets))
            }
            (false, Some("curl")) => match curl::command(exchange, &self.target) {
                Some(command) => Answer::Found(json!({"curl": command})),
                None => Answer::Bad("the request was not kept whole; of a body, 1 MiB is kept".to_owned()),
            },
            (true, Some("replay")) => self.replay(exchange, asked.sent).await,
            (true, Some("verify")) => verify(exchange, asked.sent),
            (..) => Answer::Missing,
        }
    }

    /// What changed after `after`; with `wait`, when there is something.
    async fn list(&self, query: &str) -> Value {
        let after = field(query, "after").and_then(|after| after.parse().ok()).unwrap_or(0);
        let mut changes = self.inspector.changes();
        if field(query, "wait").is_some() {
            // Nothing new is an answer too.
            let _ = timeout(WAIT, changes.wait_for(|version| *version > after)).await;
        }
        let version = *changes.borrow();
        let query = Query { after, text: field(query, "q").unwrap_or_default(), limit: 0 };
        let requests: Vec<Value> = self.inspector.find(&query).iter().map(shown::summary).collect();
        json!({
            "version": version,
            "oldest": self.inspector.oldest(),
            "missed": self.inspector.missed(),
            "target": self.target.to_string(),
            "requests": requests,
        })
    }

    async fn replay(&self, exchange: &Exchange, sent: &[u8]) -> Answer {
        let edit = match sent {
            b"" => Ok(Edit::default()),
            sent => serde_json::from_slice::<Edit>(sent).map_err(|error| error.to_string()),
        };
        let again = edit.and_then(|edit| edited(exchange, edit));
        match again {
            Err(reason) => Answer::Bad(reason),
            Ok(again) => match self.replayer.send(again).await {
                Ok(id) => Answer::Found(json!({"id": id})),
                Err(error) => Answer::Failed(error.to_string()),
            },
        }
    }
}

/// The request as it is to be sent: what was left masked has its secrets back.
fn edited(exchange: &Exchange, edit: Edit) -> Result<Again, String> {
    let mut again = Again::of(exchange).map_err(|error| error.to_string())?;
    if let Some(method) = edit.method {
        again.method = method;
    }
    if let Some(path) = edit.path {
        again.target = mask::restore_target(&path, &again.target);
    }
    match (edit.text, edit.base64) {
        (Some(text), None) => {
            let original = String::from_utf8_lossy(&again.body).into_owned();
            again.body = mask::restore_body(text, &original, &again.headers).into_bytes();
        }
        (None, Some(encoded)) => {
            again.body =
                BASE64.decode(encoded.as_bytes()).map_err(|_| "the body is not base64".to_owned())?;
        }
        (None, None) => {}
        (Some(_), Some(_)) => return Err("a body is text or base64, not both".to_owned()),
    }
    if let Some(headers) = edit.headers {
        let headers =
            headers.into_iter().map(|[name, value]| Header { name, value: value.into_bytes() }).collect();
        again.headers = mask::restore_headers(headers, &again.headers);
    }
    Ok(again)
}

fn verify(exchange: &Exchange, sent: &[u8]) -> Answer {
    let Verify { provider, secret } = match serde_json::from_slice(sent) {
        Ok(verify) => verify,
        Err(error) => return Answer::Bad(error.to_string()),
    };
    let Some(head) = &exchange.request else { return Answer::Missing };
    if !exchange.request_body.is_whole() {
        return Answer::Bad("the body was not kept whole; of a body, 1 MiB is kept".to_owned());
    }
    let arrived = exchange.started / 1_000_000;
    let verdict = signature::verify(provider, &secret, head, &exchange.request_body.kept, arrived);
    Answer::Found(json!(verdict))
}

/// A field of our own page's queries.
fn field(query: &str, name: &str) -> Option<String> {
    let value = query.split('&').find_map(|field| field.split_once('=').filter(|(key, _)| *key == name))?.1;
    Some(mask::decoded(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::told::tests::exchange;

    #[test]
    fn what_was_left_masked_is_sent_as_it_was() {
        let form = ("Content-Type", "application/x-www-form-urlencoded");
        let headers = [("Authorization", "Bearer abc"), ("Cookie", "a=1; b=2"), form];
        let exchange = exchange("POST", "/a?token=t&x=1", &headers, b"user=ann&password=p");
        let edit = Edit {
            path: Some("/b?token=***&x=2".to_owned()),
            headers: Some(vec![
                ["Authorization".to_owned(), "Bearer ***".to_owned()],
                ["Cookie".to_owned(), "a=9".to_owned()],
                ["X-New".to_owned(), "***".to_owned()],
            ]),
            text: Some("user=bob&password=***".to_owned()),
            ..Edit::default()
        };
        let again = edited(&exchange, edit).unwrap();
        assert_eq!((&*again.method, &*again.target), ("POST", "/b?token=t&x=2"));
        let values: Vec<_> =
            again.headers.iter().map(|header| String::from_utf8_lossy(&header.value)).collect();
        assert_eq!(values, ["Bearer abc", "a=9", "***"]);
        assert_eq!(again.body, b"user=bob&password=p");
    }

    #[test]
    fn an_edit_that_says_nothing_is_the_same_request() {
        let exchange = exchange("PUT", "/a", &[("A", "b")], b"\0\x01");
        assert_eq!(edited(&exchange, Edit::default()).unwrap(), Again::of(&exchange).unwrap());
        let edit = Edit { base64: Some("AAE".to_owned()), ..Edit::default() };
        assert!(edited(&exchange, edit).unwrap_err().contains("base64"));
    }

    #[test]
    fn fields_of_queries_are_decoded() {
        assert_eq!(field("after=3&q=a%20b%26c", "q").unwrap(), "a b&c");
        assert_eq!(field("after=3", "q"), None);
    }
}
