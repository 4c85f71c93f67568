//! What nodes are told: refusals, ends, and the URLs of a tunnel.

use std::borrow::Cow;

use mytunnel_keys::{
    certificate::VerifyError,
    error::Code,
    id::{Cluster, Serial, TunnelId, TunnelKind, TunnelName},
    wire::ToNode,
};

use crate::registry::Conflict;

/// Why something is not granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: Code,
    /// The key that was refused, if its certificate held.
    pub(super) serial: Option<Serial>,
    reason: Cow<'static, str>,
    /// What to do about it, where the code does not say it.
    help: Option<&'static str>,
}

impl Refusal {
    pub(super) fn new(code: Code, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { code, serial: None, reason: reason.into(), help: None }
    }

    /// Names the key that was refused.
    pub(super) fn of(self, serial: Serial) -> Self {
        Self { serial: Some(serial), ..self }
    }

    /// Says what to do about it.
    pub(super) fn with_help(self, help: &'static str) -> Self {
        Self { help: Some(help), ..self }
    }

    /// A certificate that does not hold. A clock that is off is often the cause, so it is named.
    pub(super) fn of_certificate(error: &VerifyError, node_clock: u64, now: u64) -> Self {
        let code = error.code();
        let apart = node_clock.abs_diff(now);
        if code == Code::KeyExpired && apart > CLOCKS_APART {
            return Self::new(code, format!("{error}; the clocks of node and relay are {apart} s apart"));
        }
        Self::new(code, error.to_string())
    }

    /// The answer to who looked for a private name.
    pub(super) fn to_search(&self, request: u32) -> ToNode {
        ToNode::NotFound {
            request,
            code: self.code,
            message: self.reason.clone().into_owned(),
            help: self.help.unwrap_or_else(|| self.code.help()).to_owned(),
        }
    }

    /// The answer to a request, or without a number to the whole connection.
    pub(super) fn message(&self, request: Option<u32>) -> ToNode {
        ToNode::Refused {
            request,
            code: self.code,
            message: self.reason.clone().into_owned(),
            help: self.help.unwrap_or_else(|| self.code.help()).to_owned(),
        }
    }
}

/// Seconds from which a difference between two clocks is worth a word.
const CLOCKS_APART: u64 = 60;

impl From<Conflict> for Refusal {
    fn from(conflict: Conflict) -> Self {
        Self { help: conflict.help, ..Self::new(conflict.code, conflict.reason) }
    }
}

pub(super) fn closed(tunnel: TunnelId, code: Code, reason: &str) -> ToNode {
    ToNode::Closed { tunnel, code, message: reason.to_owned() }
}

pub(super) fn goodbye(code: Code, reason: &str) -> ToNode {
    ToNode::Goodbye { code, message: reason.to_owned() }
}

/// Where visitors reach the names of a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Urls {
    /// The base domain.
    pub(crate) domain: Cluster,
    /// Public port without TLS.
    pub(crate) http: Option<u16>,
    /// Public port with TLS.
    pub(crate) https: Option<u16>,
}

impl Urls {
    /// The URLs of a name, the one to show first. On `localhost` that is the one that works without trust in a local
    /// CA, elsewhere the one with TLS.
    pub(crate) fn of(&self, name: &TunnelName) -> Vec<String> {
        let domain = self.domain.as_str();
        let url = |scheme: &str, port: u16, default: u16| {
            if port == default {
                format!("{scheme}://{name}.{domain}")
            } else {
                format!("{scheme}://{name}.{domain}:{port}")
            }
        };
        let http = self.http.map(|port| url("http", port, 80));
        let https = self.https.map(|port| url("https", port, 443));
        let local = domain == "localhost" || domain.ends_with(".localhost");
        let order = if local { [http, https] } else { [https, http] };
        order.into_iter().flatten().collect()
    }

    /// The URLs of a name whose TLS ends behind the relay, for programs and for browsers; none where TLS does not come in.
    pub(crate) fn passed_through(&self, name: &TunnelName) -> Vec<String> {
        let Some(port) = self.https else { return Vec::new() };
        let host = format!("{name}.{}", self.domain);
        let web = if port == 443 { format!("https://{host}") } else { format!("https://{host}:{port}") };
        vec![format!("tls://{host}:{port}"), web]
    }

    /// The URL of a port, such as `tcp://tun.example:20022`.
    pub(crate) fn of_port(&self, kind: TunnelKind, port: u16) -> String {
        format!("{kind}://{}:{port}", self.domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(domain: &str, http: Option<u16>, https: Option<u16>) -> Vec<String> {
        let urls = Urls { domain: domain.parse().unwrap(), http, https };
        urls.of(&"preview".parse().unwrap())
    }

    #[test]
    fn the_url_to_show_comes_first_and_default_ports_are_left_out() {
        assert_eq!(
            urls("tun.example", Some(80), Some(443)),
            ["https://preview.tun.example", "http://preview.tun.example"]
        );
        assert_eq!(
            urls("localhost", Some(8080), Some(8443)),
            ["http://preview.localhost:8080", "https://preview.localhost:8443"]
        );
        assert_eq!(urls("tun.example", Some(80), None), ["http://preview.tun.example"]);
        assert!(urls("tun.example", None, None).is_empty());
    }

    #[test]
    fn a_name_whose_tls_ends_elsewhere_is_reached_by_tls_alone() {
        let urls = |https| {
            let urls = Urls { domain: "tun.example".parse().unwrap(), http: Some(80), https };
            urls.passed_through(&"db".parse().unwrap())
        };
        assert_eq!(urls(Some(443)), ["tls://db.tun.example:443", "https://db.tun.example"]);
        assert_eq!(urls(Some(8443)), ["tls://db.tun.example:8443", "https://db.tun.example:8443"]);
        assert!(urls(None).is_empty());
    }

    #[test]
    fn an_expired_certificate_is_explained_by_clocks_that_differ() {
        let expired = VerifyError::Expired { not_after: 100, now: 4000 };
        let same = Refusal::of_certificate(&expired, 4000, 4000);
        let apart = Refusal::of_certificate(&expired, 400, 4000);
        assert_eq!(same.code, Code::KeyExpired);
        assert!(!same.reason.contains("clocks"), "{}", same.reason);
        assert!(apart.reason.contains("3600 s apart"), "{}", apart.reason);
    }
}
