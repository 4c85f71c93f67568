//! Signatures of webhooks: whether a recorded request is from who says so, by the secret that both know.

mod twilio;

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use hmac::{Hmac, KeyInit, Mac};
use mytunnel_node::inspect::{Header, RequestHead};
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::Sha256;

/// Receivers refuse what was signed longer before, as the providers tell them to.
const TOLERANCE: u64 = 5 * 60;

/// Whose way of signing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Provider {
    /// `Stripe-Signature: t=…,v1=…`
    Stripe,
    /// `X-Hub-Signature-256: sha256=…`
    GitHub,
    /// `X-Slack-Signature: v0=…` with `X-Slack-Request-Timestamp`
    Slack,
    /// `X-Shopify-Hmac-Sha256`, in base64
    Shopify,
    /// Standard Webhooks, as of Svix and others: `webhook-signature: v1,…`
    Standard,
    /// `X-Twilio-Signature`, in base64
    Twilio,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Verdict {
    pub(crate) valid: bool,
    pub(crate) reason: String,
}

/// What was signed, when, and the signatures that it came with.
struct Claim {
    /// The ways in which the provider may have written it.
    texts: Vec<Vec<u8>>,
    /// What it has hashed with.
    hash: Hash,
    signed_at: Option<u64>,
    signatures: Vec<Vec<u8>>,
}

#[derive(Clone, Copy)]
enum Hash {
    Sha1,
    Sha256,
}

impl Hash {
    /// Whether one of the signatures is that of this text. Each comparison takes the same time wherever they differ.
    fn has_made(self, signatures: &[Vec<u8>], key: &[u8], text: &[u8]) -> bool {
        match self {
            Self::Sha1 => is_one(&Hmac::<Sha1>::new_from_slice(key), signatures, text),
            Self::Sha256 => is_one(&Hmac::<Sha256>::new_from_slice(key), signatures, text),
        }
    }
}

/// A key of any length will do, so that there is a MAC.
fn is_one<M: Mac + Clone, E>(mac: &Result<M, E>, signatures: &[Vec<u8>], text: &[u8]) -> bool {
    let is_of_text = |mac: &M, signature: &Vec<u8>| {
        let mut mac = mac.clone();
        mac.update(text);
        mac.verify_slice(signature).is_ok()
    };
    mac.as_ref().is_ok_and(|mac| signatures.iter().any(|signature| is_of_text(mac, signature)))
}

/// Checks a request that came at `arrived`, in seconds of the Unix epoch.
pub(crate) fn verify(
    provider: Provider,
    secret: &str,
    head: &RequestHead,
    body: &[u8],
    arrived: u64,
) -> Verdict {
    let verdict = claim(provider, head, body).and_then(|claim| {
        let key = key(provider, secret.trim())?;
        judge(&claim, &key, arrived)
    });
    match verdict {
        Ok(()) => {
            Verdict { valid: true, reason: "the signature is that of this secret and this body".to_owned() }
        }
        Err(reason) => Verdict { valid: false, reason },
    }
}

fn judge(claim: &Claim, key: &[u8], arrived: u64) -> Result<(), String> {
    if !claim.texts.iter().any(|text| claim.hash.has_made(&claim.signatures, key, text)) {
        return Err("the signature is not that of this secret and this body: is it the secret of this very endpoint, \
                    and does nothing on the way change the body?"
            .to_owned());
    }
    match claim.signed_at {
        Some(at) if arrived.abs_diff(at) > TOLERANCE => Err(format!(
            "the signature is right, but {} s {} the request came; receivers allow {TOLERANCE} s (a replay keeps its old time)",
            arrived.abs_diff(at),
            if at < arrived { "older than when" } else { "later than when" },
        )),
        Some(_) | None => Ok(()),
    }
}

fn key(provider: Provider, secret: &str) -> Result<Vec<u8>, String> {
    if secret.is_empty() {
        return Err("no secret was given".to_owned());
    }
    match provider {
        Provider::Standard => BASE64
            .decode(secret.strip_prefix("whsec_").unwrap_or(secret).as_bytes())
            .map_err(|_| "the secret is not base64; it is written as whsec_… where it was made".to_owned()),
        Provider::Stripe | Provider::GitHub | Provider::Slack | Provider::Shopify | Provider::Twilio => {
            Ok(secret.as_bytes().to_vec())
        }
    }
}

fn claim(provider: Provider, head: &RequestHead, body: &[u8]) -> Result<Claim, String> {
    let headers = &head.headers;
    let followed_by_body = |start: &str| [start.as_bytes(), body].concat();
    let hex = |text: &str| HEXLOWER_PERMISSIVE.decode(text.trim().as_bytes()).ok();
    let base64 = |text: &str| BASE64.decode(text.trim().as_bytes()).ok();
    let (text, signed_at, signatures): (_, _, Vec<_>) = match provider {
        Provider::Stripe => {
            let value = sent(headers, "stripe-signature")?;
            let fields = || value.split(',').filter_map(|field| field.trim().split_once('='));
            let at = fields().find(|(name, _)| *name == "t").map(|(_, at)| at);
            let at = at.ok_or("Stripe-Signature has no t=")?;
            let signatures = fields().filter(|(name, _)| *name == "v1").filter_map(|(_, value)| hex(value));
            (followed_by_body(&format!("{at}.")), Some(time(at)?), signatures.collect())
        }
        Provider::GitHub => {
            let value = sent(headers, "x-hub-signature-256")?;
            (body.to_vec(), None, value.trim().strip_prefix("sha256=").and_then(hex).into_iter().collect())
        }
        Provider::Slack => {
            let at = sent(headers, "x-slack-request-timestamp")?;
            let value = sent(headers, "x-slack-signature")?;
            let signatures = value.trim().strip_prefix("v0=").and_then(hex).into_iter().collect();
            (followed_by_body(&format!("v0:{at}:")), Some(time(&at)?), signatures)
        }
        Provider::Shopify => {
            (body.to_vec(), None, base64(&sent(headers, "x-shopify-hmac-sha256")?).into_iter().collect())
        }
        Provider::Standard => {
            let either = |name: &str| {
                sent(headers, &format!("webhook-{name}"))
                    .or_else(|missing| sent(headers, &format!("svix-{name}")).map_err(|_| missing))
            };
            let (id, at, value) = (either("id")?, either("timestamp")?, either("signature")?);
            let signatures =
                value.split(' ').filter_map(|one| one.strip_prefix("v1,").and_then(base64)).collect();
            (followed_by_body(&format!("{id}.{at}.")), Some(time(&at)?), signatures)
        }
        Provider::Twilio => {
            let signatures = base64(&sent(headers, "x-twilio-signature")?).into_iter().collect();
            let texts = twilio::signed(head, body)?;
            return Claim { texts, hash: Hash::Sha1, signed_at: None, signatures }.that_has_any();
        }
    };
    Claim { texts: vec![text], hash: Hash::Sha256, signed_at, signatures }.that_has_any()
}

impl Claim {
    fn that_has_any(self) -> Result<Self, String> {
        if self.signatures.is_empty() {
            return Err("the signature's header has none in the form that this provider uses".to_owned());
        }
        Ok(self)
    }
}

fn sent(headers: &[Header], name: &str) -> Result<String, String> {
    headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case(name))
        .map(|header| String::from_utf8_lossy(&header.value).into_owned())
        .ok_or_else(|| format!("the request has no {name}: it was not signed this way"))
}

fn time(text: &str) -> Result<u64, String> {
    text.trim().parse().map_err(|_| "the signature's time is no number of seconds".to_owned())
}

#[cfg(test)]
mod tests;
