//! What becomes of an access, told to people and to scripts.

use mytunnel_keys::id::{TunnelId, TunnelName};
use mytunnel_keys::wire::peer::Carries;
use mytunnel_node::{AccessEvent, Path, Reached};
use serde::Serialize;

use crate::report::{Report, Style};

/// Tells each event once, in the words of whoever listens.
#[derive(Debug)]
pub(super) struct Teller {
    report: Report,
    /// Standard output is the connection's.
    is_quiet: bool,
    /// The address on this machine.
    bind: Option<String>,
    was_ready: bool,
    is_away: bool,
    /// How the other machine is reached, as was told last.
    path: Option<Path>,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    Ready {
        tunnel_id: TunnelId,
        name: &'a TunnelName,
        carries: Carries,
        bind: Option<&'a str>,
        peer: &'a str,
        path: String,
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
    Closed {
        code: Option<&'a str>,
        reason: &'a str,
    },
}

impl Teller {
    pub(super) const fn new(report: Report, is_quiet: bool) -> Self {
        Self { report, is_quiet, bind: None, was_ready: false, is_away: false, path: None }
    }

    /// The share is reached at this address of this machine.
    pub(super) fn bound(&mut self, bind: String, carries: Carries) {
        let shown = if carries == Carries::Web { format!("http://{bind}") } else { bind.clone() };
        self.report.line(self.report.styled(Style::Strong, shown));
        self.bind = Some(bind);
    }

    pub(super) fn tell(&mut self, event: &AccessEvent) {
        match event {
            AccessEvent::Ready(reached) => self.ready(reached),
            AccessEvent::Path { path, rtt, reason } => {
                let rtt_ms = (rtt.as_secs_f64() * 1e6).round() / 1e3;
                self.report.object(&Event::Path { path: path.to_string(), rtt_ms, reason });
                self.moved(*path, rtt_ms, reason);
            }
            AccessEvent::Reconnecting { attempt, reason } => self.reconnecting(*attempt, reason),
            AccessEvent::Closed(_) | _ => tracing::debug!(?event, "an event without words"),
        }
    }

    pub(super) fn ready(&mut self, reached: &Reached) {
        self.report.object(&Event::Ready {
            tunnel_id: reached.tunnel_id,
            name: &reached.name,
            carries: reached.carries,
            bind: self.bind.as_deref(),
            peer: &reached.peer,
            path: reached.path.to_string(),
        });
        if self.is_away && self.was_ready {
            self.report.note("Connected again.");
        } else if !self.was_ready && !self.is_quiet {
            let name = &reached.name;
            self.report.note(format_args!(
                "Leads to {name}, {} and encrypted end to end. Ctrl-C ends it.",
                reached.path
            ));
        }
        (self.was_ready, self.is_away, self.path) = (true, false, Some(reached.path));
    }

    /// People are told when it is another kind of path than before.
    fn moved(&mut self, path: Path, rtt_ms: f64, reason: &str) {
        let before = self.path.replace(path);
        if self.is_quiet || before.is_none_or(|before| before == path) {
            return;
        }
        self.report.note(match path {
            Path::Direct => format!("Direct from now on ({reason}, {rtt_ms:.0} ms)."),
            Path::Relayed => format!("Through the relay from now on ({reason})."),
        });
    }

    pub(super) fn reconnecting(&mut self, attempt: u32, reason: &str) {
        self.report.object(&Event::Reconnecting { attempt, reason });
        // People are told once for each outage; before the first way there is nothing to come back to.
        if self.was_ready && !self.is_away {
            self.report
                .note(format_args!("Connection lost ({reason}); what is open waits until it is back …"));
        }
        self.is_away = true;
    }

    /// Nobody shares it yet.
    pub(super) fn waiting(&mut self, attempt: u32, reason: &str) {
        if attempt == 1 {
            self.report.note(format_args!("Waiting: {reason} …"));
        }
        self.reconnecting(attempt, reason);
    }

    /// The end, by our own will or another's.
    pub(super) fn closed(&self, code: Option<&str>, reason: &str) {
        self.report.object(&Event::Closed { code, reason });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_the_fields_that_scripts_rely_on() {
        let ready = Event::Ready {
            tunnel_id: TunnelId::from_bytes([1; 16]),
            name: &"box".parse().unwrap(),
            carries: Carries::Streams,
            bind: Some("127.0.0.1:2222"),
            peer: "12D3",
            path: "relayed".to_owned(),
        };
        let told = serde_json::to_value(&ready).unwrap();
        assert_eq!((&told["event"], &told["name"]), (&"ready".into(), &"box".into()));
        assert_eq!((&told["bind"], &told["path"]), (&"127.0.0.1:2222".into(), &"relayed".into()));
        assert_eq!(told["carries"], "streams");
    }
}
