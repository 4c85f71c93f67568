//! The limits of a relay that an operator may set, each with the default of the part it belongs to.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use mytunnel_coordinator::Limits as CoordinatorLimits;
use mytunnel_relay::Limits as RelayLimits;
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use super::changes::named;
use crate::span;

/// `[limits]` of `relay.toml`. What is left out has its default.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitsFile {
    /// Bytes of a visitor's request head: 65536.
    head_bytes: Option<usize>,
    /// Header fields of a request: 100.
    head_fields: Option<usize>,
    /// Bytes of a request's body: 0, for no bound.
    body_bytes: Option<u64>,
    /// Time to send a request's head: 10s.
    head_timeout: Option<Span>,
    /// Time that a visitor's connection may do nothing: 60s.
    idle_timeout: Option<Span>,
    /// Time that a local server may take to begin its answer: 2m.
    response_timeout: Option<Span>,
    /// Bytes a second that a visitor must at least send, on average, of a body that a local server waits for: 256; 0
    /// for no such bound.
    upload_rate: Option<u32>,
    /// Time that a visitor may fall behind that rate, or pause: 2m.
    upload_grace: Option<Span>,
    /// Time that a visitor may take no byte of an answer: 5m.
    stall_timeout: Option<Span>,
    /// Bytes a second that a visitor must at least take, on average, of an answer that waits for it: 256; 0 for no such
    /// bound.
    download_rate: Option<u32>,
    /// Time that a visitor may fall behind that rate: 5m.
    download_grace: Option<Span>,
    /// Time that a connection of HTTP/2 may be silent before it is asked whether anybody is there: 60s; and to answer: 10m.
    ping_interval: Option<Span>,
    ping_timeout: Option<Span>,
    /// Time that nothing may go through a connection whose TLS ends behind the relay: 1h.
    tls_idle: Option<Span>,
    /// Time that a visitor waits for a node that reconnects: 5s.
    away_patience: Option<Span>,
    /// Time that requests under way get when the relay stops: 10s.
    drain_timeout: Option<Span>,
    /// Connections of visitors: 16384; of one address: 4096.
    visitors: Option<usize>,
    visitors_per_address: Option<u32>,
    /// Requests under way on one HTTP/2 connection: 100.
    streams_per_connection: Option<u32>,
    /// Requests under way of one address: 640; of one tunnel: 2048.
    requests_per_address: Option<u32>,
    requests_per_tunnel: Option<usize>,
    /// Requests under way of one key, over all its tunnels: 4096.
    requests_per_key: Option<usize>,
    /// Requests that one address may begin in a second, and that may begin at one tunnel: 0, for no bound.
    requests_per_second_per_address: Option<u32>,
    requests_per_second_per_tunnel: Option<u32>,
    requests_per_second_per_key: Option<u32>,
    /// Connections and UDP visitors at all ports of tunnels: 16384; of one address: 1024; of one tunnel: 2048.
    port_visitors: Option<usize>,
    port_visitors_per_address: Option<u32>,
    port_visitors_per_tunnel: Option<usize>,
    /// Time that a UDP visitor and its server may be silent: 60s.
    udp_idle: Option<Span>,
    /// Time that the port of a node that is away is kept for it: 60s.
    port_kept: Option<Span>,
    /// Time that a name or port that was given up is kept from other tenants: 24h.
    given_up: Option<Span>,
    /// Connections of nodes: 65536.
    nodes: Option<u32>,
    /// Time that a node has to show its certificate: 5s.
    node_patience: Option<Span>,
    /// Time without news from the coordinator after which a relay ends what it serves: 15m.
    hard_staleness: Option<Span>,
    /// Life of a relay's certificate: 24h; 5s to 30d.
    relay_certificate: Option<RelayLife>,
    /// Time that a revocation waits for the relays to confirm: 2s.
    confirm: Option<Span>,
}

impl LimitsFile {
    /// The relay's limits, with what is set here.
    pub(crate) fn relay(&self) -> RelayLimits {
        let mut limits = RelayLimits::default();
        let ingress = &mut limits.ingress;
        set(&mut ingress.head_bytes, self.head_bytes);
        set(&mut ingress.head_fields, self.head_fields);
        set(&mut ingress.body_bytes, self.body_bytes);
        set(&mut ingress.head_timeout, self.head_timeout);
        set(&mut ingress.idle_timeout, self.idle_timeout);
        set(&mut ingress.response_timeout, self.response_timeout);
        set(&mut ingress.upload_rate, self.upload_rate);
        set(&mut ingress.upload_grace, self.upload_grace);
        set(&mut ingress.stall_timeout, self.stall_timeout);
        set(&mut ingress.download_rate, self.download_rate);
        set(&mut ingress.download_grace, self.download_grace);
        set(&mut ingress.ping_interval, self.ping_interval);
        set(&mut ingress.ping_timeout, self.ping_timeout);
        set(&mut ingress.tls_idle_timeout, self.tls_idle);
        set(&mut ingress.away_patience, self.away_patience);
        set(&mut ingress.drain_timeout, self.drain_timeout);
        set(&mut ingress.connections, self.visitors);
        set(&mut ingress.connections_per_address, self.visitors_per_address);
        set(&mut ingress.streams_per_connection, self.streams_per_connection);
        set(&mut ingress.requests_per_address, self.requests_per_address);
        set(&mut ingress.requests_per_tunnel, self.requests_per_tunnel);
        set(&mut ingress.requests_per_key, self.requests_per_key);
        set(&mut ingress.requests_per_second_per_address, self.requests_per_second_per_address);
        set(&mut ingress.requests_per_second_per_tunnel, self.requests_per_second_per_tunnel);
        set(&mut ingress.requests_per_second_per_key, self.requests_per_second_per_key);
        let ports = &mut limits.ports;
        set(&mut ports.visitors, self.port_visitors);
        set(&mut ports.visitors_per_address, self.port_visitors_per_address);
        set(&mut ports.visitors_per_tunnel, self.port_visitors_per_tunnel);
        set(&mut ports.udp_idle, self.udp_idle);
        set(&mut ports.kept, self.port_kept);
        set(&mut ports.given_up, self.given_up);
        set(&mut limits.connections, self.nodes);
        set(&mut limits.patience, self.node_patience);
        set(&mut limits.hard_staleness, self.hard_staleness);
        limits
    }

    /// The coordinator's limits, with what is set here.
    pub(crate) fn coordinator(&self) -> CoordinatorLimits {
        let mut limits = CoordinatorLimits::default();
        set(&mut limits.confirm, self.confirm);
        set(&mut limits.hard_staleness, self.hard_staleness);
        set(&mut limits.relay_certificate, self.relay_certificate);
        set(&mut limits.given_up, self.given_up);
        limits
    }

    /// Those of visitors alone, which a running relay takes: the rest is as if it were not written.
    pub(super) fn visitors(&self) -> Self {
        self.clone().with_others_of(&Self::default())
    }

    /// Takes from `newer` what a running relay takes.
    pub(super) fn take(&mut self, newer: Self) {
        *self = newer.with_others_of(self);
    }

    /// The same for visitors, with everything else as `other` says.
    fn with_others_of(self, other: &Self) -> Self {
        Self {
            port_visitors: other.port_visitors,
            port_visitors_per_address: other.port_visitors_per_address,
            port_visitors_per_tunnel: other.port_visitors_per_tunnel,
            udp_idle: other.udp_idle,
            port_kept: other.port_kept,
            given_up: other.given_up,
            nodes: other.nodes,
            node_patience: other.node_patience,
            hard_staleness: other.hard_staleness,
            relay_certificate: other.relay_certificate,
            confirm: other.confirm,
            ..self
        }
    }

    /// What says something else in `newer`, and waits for the relay's next start.
    pub(super) fn waiting(&self, newer: &Self) -> Vec<&'static str> {
        named([
            ("limits.port_visitors", self.port_visitors != newer.port_visitors),
            (
                "limits.port_visitors_per_address",
                self.port_visitors_per_address != newer.port_visitors_per_address,
            ),
            (
                "limits.port_visitors_per_tunnel",
                self.port_visitors_per_tunnel != newer.port_visitors_per_tunnel,
            ),
            ("limits.udp_idle", self.udp_idle != newer.udp_idle),
            ("limits.port_kept", self.port_kept != newer.port_kept),
            ("limits.given_up", self.given_up != newer.given_up),
            ("limits.nodes", self.nodes != newer.nodes),
            ("limits.node_patience", self.node_patience != newer.node_patience),
            ("limits.hard_staleness", self.hard_staleness != newer.hard_staleness),
            ("limits.relay_certificate", self.relay_certificate != newer.relay_certificate),
            ("limits.confirm", self.confirm != newer.confirm),
        ])
    }
}

/// How long a relay's certificate may live: it is renewed at half of that, which takes a moment; and nodes believe a
/// relay that was revoked for as long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Span")]
pub(crate) struct RelayLife(Duration);

impl TryFrom<Span> for RelayLife {
    type Error = &'static str;

    fn try_from(Span(life): Span) -> Result<Self, Self::Error> {
        if (Duration::from_secs(5)..=Duration::from_secs(30 * 24 * 3600)).contains(&life) {
            Ok(Self(life))
        } else {
            Err("a relay's certificate lives from 5s to 30d")
        }
    }
}

impl FromStr for RelayLife {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let seconds = span::parse(text).map_err(|error| error.to_string())?;
        Self::try_from(Span(Duration::from_secs(seconds))).map_err(str::to_owned)
    }
}

impl From<RelayLife> for Duration {
    fn from(life: RelayLife) -> Self {
        life.0
    }
}

fn set<T, V: Into<T>>(limit: &mut T, value: Option<V>) {
    if let Some(value) = value {
        *limit = value.into();
    }
}

/// A length of time in a file: `"90s"`, `"15m"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span(Duration);

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        span.0
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a length of time such as \"90s\" or \"15m\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Span, E> {
                span::parse(text).map(|seconds| Span(Duration::from_secs(seconds))).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_replaces_the_default_and_the_rest_stays() {
        let file: LimitsFile = toml::from_str(
            "head_bytes = 1024\nidle_timeout = '90s'\nhard_staleness = '5m'\nconfirm = '1s'\n",
        )
        .unwrap();
        let (relay, coordinator) = (file.relay(), file.coordinator());
        assert_eq!((relay.ingress.head_bytes, relay.ingress.idle_timeout), (1024, Duration::from_secs(90)));
        assert_eq!(relay.ingress.head_fields, RelayLimits::default().ingress.head_fields);
        assert_eq!(relay.hard_staleness, coordinator.hard_staleness);
        assert_eq!(coordinator.confirm, Duration::from_secs(1));
    }

    #[test]
    fn the_defaults_written_beside_the_keys_are_true() {
        let limits = LimitsFile::default().relay();
        let seconds = |span: Duration| span.as_secs();
        assert_eq!((limits.ingress.head_bytes, limits.ingress.head_fields), (65_536, 100));
        assert_eq!((seconds(limits.ingress.head_timeout), seconds(limits.ingress.idle_timeout)), (10, 60));
        assert_eq!(
            (seconds(limits.ingress.response_timeout), seconds(limits.ingress.stall_timeout)),
            (120, 300)
        );
        assert_eq!((limits.ingress.upload_rate, seconds(limits.ingress.upload_grace)), (256, 120));
        assert_eq!((limits.ingress.download_rate, seconds(limits.ingress.download_grace)), (256, 300));
        assert_eq!((seconds(limits.ingress.ping_interval), seconds(limits.ingress.ping_timeout)), (60, 600));
        assert_eq!((seconds(limits.ingress.away_patience), seconds(limits.ingress.drain_timeout)), (5, 10));
        assert_eq!((limits.ingress.connections, limits.ingress.connections_per_address), (16_384, 4096));
        assert_eq!(limits.ingress.streams_per_connection, 100);
        assert_eq!((limits.ingress.requests_per_address, limits.ingress.requests_per_tunnel), (640, 2048));
        assert_eq!(limits.ingress.requests_per_key, 4096);
        let ingress = &limits.ingress;
        let rates = [
            ingress.requests_per_second_per_address,
            ingress.requests_per_second_per_tunnel,
            ingress.requests_per_second_per_key,
        ];
        assert_eq!(rates, [0; 3]);
        let ports = &limits.ports;
        assert_eq!(
            (ports.visitors, ports.visitors_per_address, ports.visitors_per_tunnel),
            (16_384, 1024, 2048)
        );
        assert_eq!((seconds(ports.udp_idle), seconds(ports.kept)), (60, 60));
        assert_eq!((limits.connections, seconds(limits.patience)), (65_536, 5));
        assert_eq!(seconds(limits.hard_staleness), 900);
        let coordinator = LimitsFile::default().coordinator();
        assert_eq!((seconds(coordinator.confirm), seconds(coordinator.relay_certificate)), (2, 86_400));
    }

    #[test]
    fn a_relays_certificate_lives_neither_for_a_moment_nor_for_ever() {
        let of = |life: &str| toml::from_str::<LimitsFile>(&format!("relay_certificate = '{life}'"));
        assert_eq!(of("7d").unwrap().coordinator().relay_certificate, Duration::from_secs(7 * 86_400));
        assert!(of("5s").is_ok() && of("30d").is_ok());
        assert!(of("4s").is_err() && of("31d").unwrap_err().to_string().contains("5s to 30d"));
        assert!("31d".parse::<RelayLife>().is_err() && "x".parse::<RelayLife>().is_err());
    }

    #[test]
    fn a_number_without_a_unit_is_refused() {
        for bad in ["idle_timeout = 90", "idle_timeout = '90'", "idle_timeuot = '90s'", "head_bytes = -1"] {
            assert!(toml::from_str::<LimitsFile>(bad).is_err(), "{bad}");
        }
    }
}
