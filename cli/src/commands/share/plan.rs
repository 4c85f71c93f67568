//! What is to be shared: decided before anything is started.

use std::{path::Path, time::Duration};

use http::HeaderValue;
use mytunnel_keys::error::Code;
use mytunnel_keys::id::{NamePattern, Scope, TunnelKind, TunnelName};
use mytunnel_node::{OriginTrust, Target, TargetError};

use super::end_to_end;
use super::gate::{Asked, Wanted};
use super::inspect::Wish;
use super::{Kind, Options};
use crate::context::{Context, random};
use crate::failure::{Failure, chain};
use crate::files;
use crate::names::{self, Subject};
use crate::suggestion;

/// A share to be.
pub(crate) struct Plan {
    pub(super) kind: Kind,
    pub(super) target: Target,
    /// The name that somebody asked for.
    pub(super) name: Option<TunnelName>,
    /// As it was asked for: without a name of its own a share is alone anyway.
    pub(super) alone: bool,
    pub(super) host_header: Option<HeaderValue>,
    pub(super) lifetime: Option<Duration>,
    /// What its owner sees.
    pub(super) wish: Wish,
    /// What visitors are asked for at the relay.
    pub(crate) asked: Option<Asked>,
    /// How TLS ends in this process, if it does.
    pub(super) end_to_end: Option<end_to_end::Wish>,
}

/// What the share is called.
#[derive(Debug)]
pub(super) enum Naming {
    /// As somebody asked.
    Asked(TunnelName),
    /// As it was called the last time.
    Derived { secret: [u8; 32], place: String, target: String, hosts: Vec<NamePattern> },
}

impl Naming {
    /// The `attempt`-th name to try. A name that was asked for is tried once.
    pub(super) fn candidate(&self, attempt: u8) -> Option<TunnelName> {
        match self {
            Self::Asked(name) => (attempt == 0).then(|| name.clone()),
            Self::Derived { secret, place, target, hosts } => {
                names::choose(hosts, secret, Subject { place, target }, attempt)
            }
        }
    }

    /// Whether it can be exchanged for another: whoever has such a name by chance is no company.
    pub(super) fn is_one_of_many(&self) -> bool {
        self.candidate(1).is_some_and(|next| Some(next) != self.candidate(0))
    }
}

impl Plan {
    pub(crate) fn make(
        kind: Kind,
        target: &str,
        options: &Options,
        gates: impl FnOnce() -> Result<Wanted, Failure>,
        context: &Context,
    ) -> Result<Self, Failure> {
        let typed = target;
        // On this machine TLS protects from nobody, and few development servers have a certificate that anybody knows.
        let target = Target::parse(target)?.with_trust(OriginTrust::AnyOnLoopback);
        kind.check(&target)?;
        let name = options.name.as_deref().map(names::asked).transpose()?;
        let host_header = options.host_header.as_deref().map(host_header).transpose()?;
        let gates = gates()?;
        if options.end_to_end.e2e {
            end_to_end::refuse_sign_in(gates.provider())?;
        }
        let gates = Asked::of(gates);
        let (asked, own) = match kind {
            Kind::EndToEnd => gates.map_or_else(Default::default, Asked::split),
            Kind::Http | Kind::Tcp { .. } | Kind::Udp { .. } | Kind::Tls { .. } => (gates, Vec::new()),
            // It has no visitors, who alone could be asked, and held to an end by a relay.
            Kind::Private { .. } => (None, Vec::new()),
        };
        let end_to_end = options.end_to_end.wish(own, context)?;
        let lifetime = options.expires.map(Duration::from_secs);
        let wish = match kind {
            Kind::Private { .. } => Wish::NONE,
            Kind::Http | Kind::EndToEnd | Kind::Tcp { .. } | Kind::Udp { .. } | Kind::Tls { .. } => {
                options.inspect.wish(typed, context.report.is_json())?
            }
        };
        // Each node has certificates and sessions of its own.
        let alone = options.alone || kind == Kind::EndToEnd;
        Ok(Self { kind, target, name, alone, host_header, lifetime, wish, asked, end_to_end })
    }

    /// What visitors are asked for, at the relay and here, to be compared with what they were asked for before.
    pub(crate) fn gates(&self) -> serde_json::Value {
        let own = self.end_to_end.as_ref().map(end_to_end::Wish::asked).unwrap_or_default();
        serde_json::json!([self.asked.as_ref().map(Asked::gates), own])
    }

    /// Whether it is for other nodes only.
    pub(crate) fn is_private(&self) -> bool {
        matches!(self.kind, Kind::Private { .. })
    }

    /// The scope that a key which is made for it has to have by name.
    pub(crate) fn scope(&self) -> Option<Scope> {
        Some(self.kind.tunnel().scope()).filter(|scope| *scope == Scope::Tls)
    }

    pub(crate) fn kind(&self) -> TunnelKind {
        self.kind.tunnel()
    }

    pub(crate) fn target(&self) -> String {
        self.kind.described(&self.target)
    }

    pub(crate) const fn is_end_to_end(&self) -> bool {
        self.end_to_end.is_some()
    }

    /// What it is called there.
    pub(super) fn naming(
        &self,
        subject: &str,
        hosts: &[NamePattern],
        context: &Context,
    ) -> Result<Naming, Failure> {
        if let Some(name) = &self.name {
            return Ok(Naming::Asked(name.clone()));
        }
        Ok(Naming::Derived {
            secret: names_secret(context)?,
            place: subject.to_owned(),
            target: match self.kind {
                Kind::Http | Kind::EndToEnd => self.target.to_string(),
                Kind::Tcp { .. } | Kind::Udp { .. } | Kind::Tls { .. } | Kind::Private { .. } => {
                    format!("{}://{}", self.kind.tunnel(), self.kind.described(&self.target))
                }
            },
            hosts: hosts.to_vec(),
        })
    }
}

fn host_header(text: &str) -> Result<HeaderValue, Failure> {
    let wrong =
        || Failure::usage(format!("`{text}` cannot be a Host header"), "Write a host name, or host:port.");
    text.parse::<http::uri::Authority>().map_err(|_| wrong())?;
    HeaderValue::from_str(text).map_err(|_| wrong())
}

/// The secret behind this user's names. Where it cannot be kept, names last for one run.
fn names_secret(context: &Context) -> Result<[u8; 32], Failure> {
    let path = context.config_dir()?.names_secret();
    let kept = files::read_private(&path).ok().flatten();
    if let Some(secret) = kept.and_then(|content| <[u8; 32]>::try_from(content.as_slice()).ok()) {
        return Ok(secret);
    }
    let secret = random()?;
    if let Err(error) = files::write_private(&path, &secret) {
        context.report.warn(format_args!("{}; the name will be another one next time", chain(&error)));
    }
    Ok(secret)
}

impl From<TargetError> for Failure {
    fn from(error: TargetError) -> Self {
        let code = error.code();
        let message = chain(&error);
        // The library's messages end in what to do: "…: write a port (3000), …".
        match message.split_once(": ") {
            Some((what, how)) if !how.is_empty() && code == Code::BadRequest => {
                let mut how = how.to_owned();
                how[..1].make_ascii_uppercase();
                Self::new(code, what).with_help(format!("{how}."))
            }
            _ if let TargetError::NotFound(text) = &error => {
                let meant = suggestion::neighbour(Path::new(text));
                let meant = meant.map_or_else(String::new, |name| format!("Did you mean {name}? "));
                let how = "Check the path; a server is written as a port (3000) or host:port.";
                Self::new(code, message).with_help(format!("{meant}{how}"))
            }
            _ => Self::new(code, message)
                .with_help("Check who may read it; a unix socket is written as unix:PATH."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_asked_name_is_tried_once_and_a_derived_one_has_successors() {
        let asked = Naming::Asked("demo".parse().unwrap());
        assert_eq!(asked.candidate(0).unwrap().as_str(), "demo");
        assert_eq!(asked.candidate(1), None);
        assert!(!asked.is_one_of_many());
        let derived = Naming::Derived {
            secret: [1; 32],
            place: String::new(),
            target: "/site".to_owned(),
            hosts: vec![],
        };
        assert!(derived.is_one_of_many());
        assert_ne!(derived.candidate(0), derived.candidate(1));
        assert_eq!(derived.candidate(3), derived.candidate(3));
        let of_key = |pattern: &str| Naming::Derived {
            secret: [1; 32],
            place: String::new(),
            target: "/site".to_owned(),
            hosts: vec![pattern.parse().unwrap()],
        };
        assert!(of_key("pr-*").is_one_of_many());
        assert!(!of_key("demo").is_one_of_many(), "the one name of a key is as good as asked for");
    }

    #[test]
    fn a_target_that_is_none_has_its_fix_in_the_help() {
        let failure = |text: &str| Failure::from(Target::parse(text).unwrap_err());
        let port = failure("0");
        assert_eq!((port.exit_code(), port.message()), (2, "0 is not a port"));
        assert_eq!(port.help(), "Write a number from 1 to 65535.");
        let missing = failure("/no/such/folder");
        assert_eq!((missing.exit_code(), missing.code()), (1, Code::NotFound));
        assert!(missing.help().contains("Check the path"));
        assert!(failure("ftp://x").help().contains("http://"));
    }

    #[test]
    fn a_host_header_is_a_host() {
        assert!(host_header("app.local:3000").is_ok());
        for bad in ["a b", "http://x", ""] {
            assert_eq!(host_header(bad).unwrap_err().exit_code(), 2, "{bad:?}");
        }
    }
}
