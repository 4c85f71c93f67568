//! Reading `relay.toml` again while the relay runs, on `SIGHUP`.
//!
//! What visitors are held to, whom proxies are believed to be, who vouches and what use costs holds from then on; what
//! else was changed is named, because it waits for a restart. A file that cannot be understood whole changes nothing.

use std::sync::Arc;

use mytunnel_coordinator::Coordinator;
use mytunnel_relay::Relay;
use mytunnel_relay::ingress::Terms;
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Args;
use crate::config::{self, RelayFile};
use crate::context::Context;
use crate::failure::Failure;
use crate::settings::RelaySettings;

/// Hears that the file is to be read again, and remembers what it said.
pub(super) struct Reload<'a> {
    args: &'a Args,
    heard: Option<Signal>,
    file: RelayFile,
}

impl<'a> Reload<'a> {
    /// Without a file there is nothing to hear: then the signal means what it means to every program.
    pub(super) fn install(args: &'a Args) -> Result<Self, Failure> {
        let Some(path) = &args.config else {
            return Ok(Self { args, heard: None, file: RelayFile::default() });
        };
        let heard = signal(SignalKind::hangup())
            .map_err(|error| Failure::local(format!("cannot watch signals: {error}"), ""))?;
        Ok(Self { args, heard: Some(heard), file: config::load(path)? })
    }

    /// Waits for the signal. Safe to cancel.
    pub(super) async fn heard(&mut self) {
        let heard = match &mut self.heard {
            Some(signal) => signal.recv().await,
            None => None,
        };
        if heard.is_none() {
            std::future::pending().await
        }
    }

    /// Reads the file, and lets what can change do so.
    pub(super) async fn act(&mut self, running: Running<'_>, context: &Context) {
        let report = context.report;
        match self.read(running, context).await {
            Ok(Change { applied, waiting }) => {
                report.object(&json!({"event": "reloaded", "applied": applied, "needs_restart": waiting}));
                report.note(match applied.is_empty() {
                    true => "Settings read again: nothing that a running relay takes was changed.".to_owned(),
                    false => format!("Settings read again; these hold from now on: {}.", applied.join(", ")),
                });
                if !waiting.is_empty() {
                    report.warn(format_args!("these wait for a restart: {}", waiting.join(", ")));
                }
            }
            Err(failure) => {
                let (code, message, help) = (failure.code().name(), failure.message(), failure.help());
                report.object(
                    &json!({"event": "reload_failed", "code": code, "message": message, "help": help}),
                );
                report.warn(format_args!("the settings stay as they were: {message}"));
                report.note(help);
            }
        }
    }

    async fn read(&mut self, running: Running<'_>, context: &Context) -> Result<Change, Failure> {
        let path = self.args.config.as_deref().unwrap_or_else(|| std::path::Path::new("relay.toml"));
        let file: RelayFile = config::load(path)?;
        let settings = RelaySettings::resolve(self.args, context)?;
        if let Some(coordinator) = running.coordinator {
            coordinator.set_prices(settings.prices.prices()).await?;
        }
        running.relay.set_terms(Terms {
            limits: settings.limits.relay().ingress,
            proxies: settings.proxies,
            // Whether there is a certificate that everybody believes does not change before the next start.
            only_https: file.redirect_http.unwrap_or(running.settings.acme.is_some()),
        });
        // Also when the file says the same: the secrets are elsewhere.
        if let Some(vouching) = Arc::into_inner(settings.sign_in) {
            running.settings.sign_in.replace(vouching);
        }
        let change = Change { applied: self.file.applied(&file), waiting: self.file.waiting(&file) };
        // What waits is said again until it is done.
        self.file.take(file);
        Ok(change)
    }
}

/// What runs by the settings.
#[derive(Clone, Copy)]
pub(super) struct Running<'a> {
    pub(super) settings: &'a RelaySettings,
    pub(super) relay: &'a Relay,
    /// The one in this process.
    pub(super) coordinator: Option<&'a Coordinator>,
}

/// What a new file came to: keys by their names.
struct Change {
    applied: Vec<&'static str>,
    waiting: Vec<&'static str>,
}
