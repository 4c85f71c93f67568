//! What is to be shared, as whom and where: decided before anything is started.

use std::time::Duration;

use http::HeaderValue;
use mytunnel_keys::certificate;
use mytunnel_keys::error::Code;
use mytunnel_keys::id::{Cluster, NamePattern, Scope, TunnelName};
use mytunnel_keys::trust::RootFingerprint;
use mytunnel_node::{Config as NodeConfig, OriginTrust, RelayAddress, Target, TargetError};

use super::end_to_end;
use super::gate::{Asked, At};
use super::inspect::Wish;
use super::{Access, Kind, Options};
use crate::bootstrap::{self, Known};
use crate::clock::Skew;
use crate::context::{Context, now, random};
use crate::failure::{Failure, chain};
use crate::identity::{self, Holder, Identity};
use crate::names::{self, Subject};
use crate::session::Session;
use crate::{files, span};

/// A share to be.
pub(super) struct Plan {
    pub(super) kind: Kind,
    pub(super) target: Target,
    pub(super) name: Naming,
    pub(super) alone: bool,
    pub(super) host_header: Option<HeaderValue>,
    pub(super) lifetime: Option<Duration>,
    /// What helps once the key is revoked, where that is known.
    pub(super) if_revoked: Option<String>,
    pub(super) place: Place,
    /// What its owner sees.
    pub(super) wish: Wish,
    /// What visitors are asked for at the relay.
    pub(super) asked: Option<Asked>,
    /// How TLS ends in this process, if it does.
    pub(super) end_to_end: Option<end_to_end::Wish>,
}

/// Where the relay is.
pub(super) enum Place {
    /// At a relay that is there; with who may set gates, which is always known where there are any to set.
    Relay { node: Box<NodeConfig>, skew: Skew, gate: Option<Box<At>> },
    /// In this process.
    Here,
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
    fn is_one_of_many(&self) -> bool {
        self.candidate(1).is_some_and(|next| Some(next) != self.candidate(0))
    }
}

impl Plan {
    pub(super) fn make(
        kind: Kind,
        target: &str,
        options: &Options,
        context: &Context,
    ) -> Result<Self, Failure> {
        // On this machine TLS protects from nobody, and few development servers have a certificate that anybody knows.
        let typed = target;
        let target = Target::parse(target)?.with_trust(OriginTrust::AnyOnLoopback);
        kind.check(&target)?;
        let asked = options.name.as_deref().map(names::asked).transpose()?;
        let host_header = options.host_header.as_deref().map(host_header).transpose()?;
        if options.end_to_end.e2e {
            end_to_end::refuse_sign_in(options.gates.provider())?;
        }
        let gates = Asked::read(&options.gates, options.expires, context)?;
        let (gates, own) = match kind {
            Kind::EndToEnd => gates.map_or_else(Default::default, Asked::split),
            Kind::Http | Kind::Tcp { .. } | Kind::Udp { .. } | Kind::Tls { .. } => (gates, Vec::new()),
        };
        let end_to_end = options.end_to_end.wish(own, context)?;
        let scope = Some(kind.tunnel().scope()).filter(|scope| *scope == Scope::Tls);
        let identity = identity::resolve(&options.access, scope, context)?;
        let if_revoked = match &identity {
            Identity::Key(holder) => holder.if_revoked.clone(),
            Identity::Nobody => None,
        };
        let (place, spot, hosts) = match identity {
            Identity::Nobody => (Place::Here, String::new(), Vec::new()),
            Identity::Key(holder) => at_relay(*holder, &options.access, gates.is_some(), context)?,
        };
        let name = match asked {
            Some(name) => Naming::Asked(name),
            None => Naming::Derived {
                secret: names_secret(context)?,
                place: spot,
                target: match kind {
                    Kind::Http | Kind::EndToEnd => target.to_string(),
                    Kind::Tcp { .. } | Kind::Udp { .. } | Kind::Tls { .. } => {
                        format!("{}://{}", kind.tunnel(), kind.described(&target))
                    }
                },
                hosts,
            },
        };
        let lifetime = options.expires.map(Duration::from_secs);
        let wish = options.inspect.wish(typed, context.report.is_json())?;
        // Each node has certificates and sessions of its own.
        let alone = options.alone || name.is_one_of_many() || kind == Kind::EndToEnd;
        Ok(Self {
            kind,
            target,
            name,
            alone,
            host_header,
            lifetime,
            place,
            wish,
            if_revoked,
            asked: gates,
            end_to_end,
        })
    }
}

/// Finds the relay of a key. Without its coordinator, what was last known has to do.
fn at_relay(
    holder: Holder,
    access: &Access,
    is_gated: bool,
    context: &Context,
) -> Result<(Place, String, Vec<NamePattern>), Failure> {
    let found = bootstrap::fetch_or_recall(&context.config_dir()?, &holder.server, &holder.root);
    let skew = found.as_ref().map_or(Skew::UNKNOWN, |found| found.skew);
    check_life(&holder, skew)?;
    let found = found?;
    if let Some(failure) = &found.outage {
        context.report.warn(format_args!("{}; using what was known of it before", failure.message()));
    }
    let claims = certificate::inspect(&holder.certificate)
        .map_err(|error| Failure::new(Code::InvalidKey, chain(&error)))?;
    let spot = format!(
        "{}/{}",
        holder.root,
        claims.peek().project.as_ref().map(ToString::to_string).unwrap_or_default()
    );
    let hosts = claims.peek().hosts.clone();
    let (cluster, root) = (found.known.trust.cluster().clone(), holder.root);
    let at = || {
        let claims = claims.peek();
        Ok::<_, Failure>(Box::new(At {
            session: match holder.is_person {
                true => Session::signed_in(context, access.server.as_deref())?,
                false => Session::of_holder(&holder, claims.serial)?,
            },
            project: claims.project.clone().unwrap_or_else(|| claims.tenant.home_project()),
            cluster: cluster.clone(),
            relays: found.known.bootstrap.relays.iter().map(|relay| relay.peer_id).collect(),
        }))
    };
    let gate = match at() {
        Err(failure) if is_gated => return Err(failure),
        at => at.ok(),
    };
    let node = node_config(holder, cluster, root, &found.known)?;
    Ok((Place::Relay { node: Box::new(node), skew, gate }, spot, hosts))
}

fn check_life(holder: &Holder, skew: Skew) -> Result<(), Failure> {
    let now = now();
    if now < holder.expires_at {
        return Ok(());
    }
    let ago = span::human(now - holder.expires_at);
    Err(skew.explain(Failure::new(Code::KeyExpired, format!("this key expired {ago} ago"))))
}

fn node_config(
    holder: Holder,
    cluster: Cluster,
    root: RootFingerprint,
    known: &Known,
) -> Result<NodeConfig, Failure> {
    let relays: Vec<RelayAddress> = known
        .bootstrap
        .relays
        .iter()
        .filter_map(|relay| match RelayAddress::parse(&relay.peer_id.to_string(), &relay.addrs) {
            Ok(address) => Some(address),
            Err(error) => {
                tracing::warn!(%error, "a relay of {} is passed over", holder.server);
                None
            }
        })
        .collect();
    if relays.is_empty() {
        return Err(Failure::new(
            Code::RelayUnreachable,
            format!("{} has no relay that is up", holder.server),
        )
        .with_help("Start one, or wait until it has reached its coordinator, then try again."));
    }
    let mut config = NodeConfig::new(holder.seed, holder.certificate, cluster, root, relays);
    config.agent = concat!("mytunnel/", env!("CARGO_PKG_VERSION")).to_owned();
    Ok(config)
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
            _ if code == Code::NotFound => Self::new(code, message)
                .with_help("Check the path; a server is written as a port (3000) or host:port."),
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
