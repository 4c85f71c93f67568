//! What a relay says when it is up.

use std::path::Path;

use mytunnel_keys::id::Cluster;
use mytunnel_keys::token::ServerUrl;
use mytunnel_relay::{Addrs, Relay, Status};
use serde::Serialize;
use serde_json::{Value, json};

use super::ask_for_owner;
use crate::failure::Failure;
use crate::report::{Report, Style, columns};
use crate::settings::RelaySettings;
use crate::{server, vouched};

/// A relay that is up, with the addresses that were really bound.
pub(super) struct Ready<'a> {
    pub(super) settings: &'a RelaySettings,
    pub(super) relay: &'a Relay,
    /// Where people sign in.
    pub(super) url: &'a ServerUrl,
    /// While there is no owner.
    pub(super) setup_code: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(tag = "event", rename = "ready")]
struct ReadyEvent<'a> {
    domain: &'a Cluster,
    console: &'a str,
    /// Where its API is.
    url: &'a str,
    /// The same as `mytunnel login` takes it, with the pin of the authority that vouches for it.
    login: &'a ServerUrl,
    http: Option<String>,
    https: Option<String>,
    p2p: Vec<String>,
    /// The ports of TCP and UDP tunnels.
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<String>,
    ports: Option<String>,
    data: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    setup_code: Option<&'a str>,
}

impl Ready<'_> {
    pub(super) fn tell(&self, report: Report) {
        let addrs = self.relay.addrs();
        report.object(&ReadyEvent {
            domain: &self.settings.domain,
            console: &self.settings.console,
            url: self.url.base(),
            login: self.url,
            http: addrs.http.map(|addr| addr.to_string()),
            https: addrs.https.map(|addr| addr.to_string()),
            p2p: addrs.p2p.iter().map(ToString::to_string).collect(),
            metrics: addrs.metrics.map(|addr| addr.to_string()),
            ports: self.settings.ports.map(|ports| ports.range.to_string()),
            data: self.settings.data.display().to_string(),
            setup_code: self.setup_code,
        });
        report.line(report.styled(Style::Strong, self.url));
        for line in columns(&self.rows()) {
            report.note(line);
        }
        ask_for_owner(report, self.url, self.setup_code);
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let domain = &self.settings.domain;
        let with_port = |scheme: &str, usual: u16, port: u16| {
            if port == usual {
                format!("{scheme}://NAME.{domain}")
            } else {
                format!("{scheme}://NAME.{domain}:{port}")
            }
        };
        let http = self.relay.addrs().http.map(|addr| with_port("http", 80, addr.port()));
        let https = self.relay.addrs().https.map(|addr| with_port("https", 443, addr.port()));
        let tunnels: Vec<String> = http.into_iter().chain(https).collect();
        let nodes =
            self.relay.addrs().p2p.iter().map(ToString::to_string).find(|addr| addr.contains("/tcp/"));
        let mut rows = vec![
            vec!["  tunnels".to_owned(), tunnels.join("  ")],
            vec!["  nodes".to_owned(), nodes.map(|addr| short(&addr)).unwrap_or_default() + " (UDP and TCP)"],
            vec!["  data".to_owned(), self.settings.data.display().to_string()],
        ];
        if let Some(ports) = self.settings.ports {
            rows.insert(2, vec!["  ports".to_owned(), format!("{} (TCP and UDP tunnels)", ports.range)]);
        }
        if let Some(acme) = &self.settings.acme {
            rows.push(vec!["  https".to_owned(), format!("with certificates from {}", acme.directory)]);
            if let Some(dns) = acme.dns {
                rows.push(vec![
                    "  dns".to_owned(),
                    format!("{dns} for _acme-challenge.{domain}, whose NS record leads here"),
                ]);
            }
        }
        if let Some(metrics) = self.relay.addrs().metrics {
            rows.push(vec!["  metrics".to_owned(), format!("http://{metrics}/metrics")]);
        }
        if let Some(ca) = self.relay.local_ca() {
            rows.push(vec!["  https".to_owned(), format!("for browsers that trust {}", ca.display())]);
        }
        rows
    }

    /// For `mytunnel status`.
    pub(super) fn status(&self) -> Value {
        json!({
            "tunnels": [], "peers": [],
            "servers": [{
                "role": "relay", "domain": self.settings.domain, "url": self.url.base(), "login": self.url,
                "ca": self.relay.local_ca(), "pid": std::process::id(),
                "http": self.relay.addrs().http.map(|addr| addr.to_string()),
                "https": self.relay.addrs().https.map(|addr| addr.to_string()),
                "p2p": self.relay.addrs().p2p.iter().map(ToString::to_string).collect::<Vec<_>>(),
            }],
        })
    }
}

/// What `mytunnel status` says of the relay's certificate, beside all that does not change.
pub(super) fn standing(mut state: Value, live: &Status, now: u64) -> Value {
    let trouble = if live.expelled {
        Some("its coordinator has revoked it, or does not know it: it takes no tunnels")
    } else if now >= live.certificate_ends {
        Some("its certificate has ended: it takes no tunnels until its coordinator renews it")
    } else {
        None
    };
    state["servers"][0]["certificate_ends"] = json!(live.certificate_ends);
    state["servers"][0]["trouble"] = json!(trouble);
    state
}

/// `/ip4/1.2.3.4/tcp/4001/p2p/…` as `1.2.3.4:4001`.
fn short(addr: &str) -> String {
    let mut parts = addr.split('/').skip(2);
    let host = parts.next().unwrap_or_default();
    let port = parts.nth(1).unwrap_or_default();
    format!("{host}:{port}")
}

/// Where people and keys reach the console, from what was bound: over HTTP on this machine, and from elsewhere over
/// HTTPS: with the pin of the authority that vouches for it, or without one where a public authority does.
pub(super) fn address(
    console: &str,
    addrs: &Addrs,
    ca: Option<&Path>,
    is_public: bool,
) -> Result<ServerUrl, Failure> {
    let elsewhere = !server::is_this_machine(console);
    let pin = ca.filter(|_| elsewhere).and_then(vouched::pin);
    match addrs.https.filter(|_| elsewhere && (is_public || pin.is_some())) {
        Some(https) => {
            let port = if https.port() == 443 { String::new() } else { format!(":{}", https.port()) };
            let url = server::parse(&format!("https://{console}{port}"))?;
            Ok(match pin {
                Some(pin) => url.with_pin(pin),
                None => url,
            })
        }
        None => console_url(console, addrs.http.map_or(0, |addr| addr.port())),
    }
}

/// Where people reach the console over HTTP.
pub(super) fn console_url(console: &str, port: u16) -> Result<ServerUrl, Failure> {
    // Port 0 is any port: until one is bound, nobody can be told of it.
    let text =
        if matches!(port, 0 | 80) { format!("http://{console}") } else { format!("http://{console}:{port}") };
    server::parse(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_port_only_where_it_is_not_the_usual_one() {
        assert_eq!(console_url("t.example", 80).unwrap().as_str(), "http://t.example");
        assert_eq!(console_url("localhost", 8080).unwrap().as_str(), "http://localhost:8080");
    }

    #[test]
    fn the_state_names_what_is_wrong_with_the_certificate() {
        let state = || json!({"servers": [{"role": "relay"}]});
        let mut live = Status::default();
        live.certificate_ends = 100;
        assert_eq!(
            standing(state(), &live, 99)["servers"][0],
            json!({"role": "relay", "certificate_ends": 100, "trouble": null})
        );
        let trouble = |live: &Status| standing(state(), live, 100)["servers"][0]["trouble"].to_string();
        assert!(trouble(&live).contains("has ended"));
        live.expelled = true;
        assert!(trouble(&live).contains("revoked"));
    }

    #[test]
    fn an_address_for_nodes_is_shown_as_host_and_port() {
        assert_eq!(short("/ip4/127.0.0.1/tcp/4001/p2p/12D3Koo"), "127.0.0.1:4001");
        assert_eq!(short("/dns/t.example/tcp/4001"), "t.example:4001");
    }
}
