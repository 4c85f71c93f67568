//! What becomes of a share, told to people and to scripts.

use mytunnel_keys::id::{TunnelId, TunnelKind, TunnelName};
use mytunnel_node::{Closed, Ready, ShareEvent};
use serde::Serialize;

use super::gate::Made;
use super::voice::Voice;
use crate::context::now;
use crate::span;

/// Tells each event once, in the words of whoever listens.
#[derive(Debug)]
pub(super) struct Teller {
    voice: Voice,
    target: String,
    embedded: bool,
    /// The URL that stands on stdout.
    shown: Option<String>,
    away: bool,
    /// What visitors need to know that nobody has been told yet.
    made: Made,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    Ready {
        tunnel_id: TunnelId,
        name: &'a TunnelName,
        kind: String,
        /// None where there are no visitors.
        url: Option<&'a str>,
        /// What other machines reach it with, where there are none.
        #[serde(skip_serializing_if = "Option::is_none")]
        access: Option<&'a str>,
        urls: &'a [String],
        target: &'a str,
        relay: &'a str,
        path: String,
        expires_at: u64,
        /// Whether the relay is in this process, for visitors on this machine only.
        embedded: bool,
        /// What was made for visitors to show.
        #[serde(skip_serializing_if = "Option::is_none")]
        pin: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        bearer: Option<&'a str>,
    },
    Path {
        path: String,
        rtt_ms: f64,
        reason: &'a str,
    },
    Reconnecting {
        attempt: u32,
        reason: &'a str,
    },
    Backends {
        count: u16,
    },
    Expiring {
        expires_at: u64,
    },
    /// What visitors are asked for was changed.
    Gates {
        #[serde(skip_serializing_if = "Option::is_none")]
        pin: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        bearer: Option<&'a str>,
    },
    Closed {
        code: Option<&'a str>,
        reason: &'a str,
    },
}

impl Teller {
    pub(super) const fn new(voice: Voice, target: String, embedded: bool) -> Self {
        Self { voice, target, embedded, shown: None, away: false, made: Made { pin: None, bearer: None } }
    }

    pub(super) const fn voice(&self) -> &Voice {
        &self.voice
    }

    /// What was made for visitors to show, to be told with the URL.
    pub(super) fn made(&mut self, made: Made) {
        self.made = made;
    }

    /// The address that was told last.
    pub(super) fn shown(&self) -> Option<&str> {
        self.shown.as_deref()
    }

    /// Whether visitors have ever reached it.
    pub(super) const fn was_ready(&self) -> bool {
        self.shown.is_some()
    }

    pub(super) fn tell(&mut self, event: &ShareEvent) {
        match event {
            ShareEvent::Ready(ready) => self.ready(ready),
            ShareEvent::Path { path, rtt, reason } => {
                let rtt_ms = (rtt.as_secs_f64() * 1e6).round() / 1e3;
                self.voice.object(&Event::Path { path: path.to_string(), rtt_ms, reason });
            }
            ShareEvent::Reconnecting { attempt, reason } => self.reconnecting(*attempt, reason),
            ShareEvent::Backends { count } => {
                self.voice.object(&Event::Backends { count: *count });
                self.voice.note(company(*count));
            }
            ShareEvent::Expiring { expires_at } => {
                self.voice.object(&Event::Expiring { expires_at: *expires_at });
                let left = span::human(expires_at.saturating_sub(now()));
                self.voice.note(format_args!("The key ends in {left}, and the share with it."));
            }
            ShareEvent::Closed(Closed { code, message, .. }) => {
                self.closed(code.map(|code| code.name()), message);
            }
            other => tracing::debug!(?other, "an event without words"),
        }
    }

    /// Visitors are asked for something else from now on.
    pub(super) fn gates_changed(&mut self, made: &Made) {
        let (pin, bearer) = (made.pin.as_deref(), made.bearer.as_deref());
        self.voice.object(&Event::Gates { pin, bearer });
        self.voice.note("Visitors are asked for what the file says now.");
        self.show_made(made);
    }

    /// The end, by our own will or another's.
    pub(super) fn closed(&self, code: Option<&str>, reason: &str) {
        self.voice.object(&Event::Closed { code, reason });
    }

    fn ready(&mut self, ready: &Ready) {
        let is_private = ready.kind == TunnelKind::Private;
        let access = is_private.then(|| format!("mytunnel access {}", ready.name));
        let Some(shown) = access.as_ref().or(ready.urls.first()) else {
            tracing::error!("the relay gave no URL");
            return;
        };
        self.voice.object(&Event::Ready {
            tunnel_id: ready.tunnel_id,
            name: &ready.name,
            kind: ready.kind.to_string(),
            url: ready.urls.first().map(String::as_str),
            access: access.as_deref(),
            urls: &ready.urls,
            target: &self.target,
            relay: &ready.relay,
            path: ready.path.to_string(),
            expires_at: ready.expires_at,
            embedded: self.embedded,
            pin: self.made.pin.as_deref(),
            bearer: self.made.bearer.as_deref(),
        });
        if self.away {
            self.voice.note("Connected again.");
        }
        self.away = false;
        if self.shown.as_ref() != Some(shown) {
            self.voice.line(shown);
            if is_private {
                self.voice.note("Run this on the other machine, signed in to the same relay or with a key of the same project.");
            }
            self.show_made(&self.made);
            // Where there are several, whoever has started them says what they are.
            if self.voice.is_alone() {
                self.voice.note(sharing(&self.target, ready.expires_at.saturating_sub(now())));
            }
            self.shown = Some(shown.clone());
        }
    }

    fn show_made(&self, made: &Made) {
        if let Some(pin) = &made.pin {
            self.voice.note(format_args!("PIN for visitors: {pin}"));
        }
        if let Some(token) = &made.bearer {
            self.voice.note(format_args!("For programs: Authorization: Bearer {token}"));
        }
    }

    fn reconnecting(&mut self, attempt: u32, reason: &str) {
        self.voice.object(&Event::Reconnecting { attempt, reason });
        // People are told once for each outage; before the first URL there is nothing to come back to.
        if self.shown.is_some() && !self.away {
            self.voice.note(format_args!("Connection lost ({reason}); trying to get it back …"));
        }
        self.away = true;
    }
}

/// How many nodes serve the name.
fn company(count: u16) -> String {
    match count {
        1 => "This node serves the name alone now.".to_owned(),
        count => format!("{count} nodes serve this name; visitors are spread over them."),
    }
}

/// A key that ends today ends the share with it, which is worth knowing at its start.
fn sharing(target: &str, left: u64) -> String {
    if left > span::MAX_TTL {
        return format!("Sharing {target}. Ctrl-C ends it.");
    }
    format!("Sharing {target}, for the {} that its key lives. Ctrl-C ends it.", span::human(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_ends_today_is_mentioned() {
        assert_eq!(sharing("/site", 30 * 86_400), "Sharing /site. Ctrl-C ends it.");
        assert_eq!(
            sharing("/site", 3540),
            "Sharing /site, for the 59 min that its key lives. Ctrl-C ends it."
        );
    }

    #[test]
    fn company_is_counted() {
        assert_eq!(company(2), "2 nodes serve this name; visitors are spread over them.");
        assert_eq!(company(1), "This node serves the name alone now.");
    }

    #[test]
    fn events_have_the_fields_that_scripts_rely_on() {
        let told = |event: &Event<'_>| serde_json::to_value(event).unwrap();
        let closed = told(&Event::Closed { code: Some("KEY_REVOKED"), reason: "revoked" });
        assert_eq!(
            closed,
            serde_json::json!({"event": "closed", "code": "KEY_REVOKED", "reason": "revoked"})
        );
        let backends = told(&Event::Backends { count: 2 });
        assert_eq!(backends, serde_json::json!({"event": "backends", "count": 2}));
        let path = told(&Event::Path { path: "relayed".to_owned(), rtt_ms: 1.5, reason: "r" });
        assert_eq!(path["event"], "path");
        let again = serde_json::to_string(&Event::Reconnecting { attempt: 2, reason: "r" }).unwrap();
        assert!(again.starts_with(r#"{"event":"reconnecting","attempt":2"#), "{again}");
    }
}
