//! As whom and where something is shared: found out before anything is started.

use mytunnel_keys::certificate;
use mytunnel_keys::error::Code;
use mytunnel_keys::id::{Cluster, NamePattern, Scope};
use mytunnel_keys::trust::RootFingerprint;
use mytunnel_node::{Config as NodeConfig, RelayAddress};

use super::Access;
use super::setter::At;
use crate::bootstrap::{self, Found, Known};
use crate::clock::Skew;
use crate::context::{Context, now};
use crate::failure::{Failure, chain};
use crate::identity::{self, Holder, Identity};
use crate::session::Session;
use crate::span;

/// As whom and where.
pub(crate) struct Spot {
    pub(super) place: Place,
    /// What names are derived from, beside what is shared.
    pub(super) subject: String,
    /// Names that the key may use; none for any.
    pub(super) hosts: Vec<NamePattern>,
    /// Tunnels that the key may have at one time.
    pub(crate) most: u16,
    /// What helps once the key is revoked, where that is known.
    pub(super) if_revoked: Option<String>,
}

/// Where the relay is.
pub(super) enum Place {
    /// At a relay that is there; with who may set gates, which is always known where there are any to set.
    Relay { node: Box<NodeConfig>, skew: Skew, gate: Option<Box<At>> },
    /// In this process.
    Here,
}

impl Spot {
    /// Whether the relay is in this process.
    pub(crate) fn is_here(&self) -> bool {
        matches!(self.place, Place::Here)
    }

    /// Finds both out. `is_gated`: gates are going to be set; `scope`: what a key that is made for this has to have by name.
    pub(crate) fn find(
        access: &Access,
        (is_gated, scope): (bool, Option<Scope>),
        context: &Context,
    ) -> Result<Self, Failure> {
        match identity::resolve(access, scope, context)? {
            Identity::Nobody => Ok(Self {
                place: Place::Here,
                subject: String::new(),
                hosts: Vec::new(),
                most: u16::MAX,
                if_revoked: None,
            }),
            Identity::Key(holder) => at_relay(*holder, access, is_gated, context),
        }
    }
}

/// Finds the relay of a key. Without its coordinator, what was last known has to do.
fn at_relay(holder: Holder, access: &Access, is_gated: bool, context: &Context) -> Result<Spot, Failure> {
    let Found { known, skew, .. } = locate(&holder, context)?;
    let claims = certificate::inspect(&holder.certificate)
        .map_err(|error| Failure::new(Code::InvalidKey, chain(&error)))?;
    let subject = format!(
        "{}/{}",
        holder.root,
        claims.peek().project.as_ref().map(ToString::to_string).unwrap_or_default()
    );
    let (hosts, most) = (claims.peek().hosts.clone(), claims.peek().max_tunnels);
    let (cluster, root) = (known.trust.cluster().clone(), holder.root);
    let at = || {
        let claims = claims.peek();
        Ok::<_, Failure>(Box::new(At {
            session: match holder.is_person {
                true => Session::signed_in(context, access.server.as_deref())?,
                false => Session::of_holder(&holder, claims.serial)?,
            },
            project: claims.project.clone().unwrap_or_else(|| claims.tenant.home_project()),
            cluster: cluster.clone(),
            relays: known.bootstrap.relays.iter().map(|relay| relay.peer_id).collect(),
        }))
    };
    let gate = match at() {
        Err(failure) if is_gated => return Err(failure),
        at => at.ok(),
    };
    let if_revoked = holder.if_revoked.clone();
    let node = node_config(holder, access, (cluster, root), &known, context)?;
    Ok(Spot { place: Place::Relay { node: Box::new(node), skew, gate }, subject, hosts, most, if_revoked })
}

/// A node for a key, at the relays that are known now.
pub(crate) fn node_of(
    holder: Holder,
    access: &Access,
    context: &Context,
) -> Result<(NodeConfig, Skew), Failure> {
    let Found { known, skew, .. } = locate(&holder, context)?;
    let (cluster, root) = (known.trust.cluster().clone(), holder.root);
    Ok((node_config(holder, access, (cluster, root), &known, context)?, skew))
}

fn locate(holder: &Holder, context: &Context) -> Result<Found, Failure> {
    let found = bootstrap::fetch_or_recall(&context.config_dir()?, &holder.server, &holder.root);
    let skew = found.as_ref().map_or(Skew::UNKNOWN, |found| found.skew);
    check_life(holder, skew)?;
    let found = found?;
    if let Some(failure) = &found.outage {
        context.report.warn(format_args!("{}; using what was known of it before", failure.message()));
    }
    Ok(found)
}

/// Private shares are between machines that know the same relay.
pub(crate) fn nobody() -> Failure {
    let message = "a private share needs a relay that both machines are signed in to, or hold keys of";
    Failure::new(Code::InvalidKey, message)
        .with_help("Sign in with `mytunnel login URL`, or set MYTUNNEL_AUTH_TOKEN.")
}

fn check_life(holder: &Holder, skew: Skew) -> Result<(), Failure> {
    let now = now();
    if now < holder.expires_at {
        return Ok(());
    }
    let ago = span::ago(now - holder.expires_at);
    Err(skew.explain(Failure::new(Code::KeyExpired, format!("this key expired {ago}"))))
}

fn node_config(
    holder: Holder,
    access: &Access,
    (cluster, root): (Cluster, RootFingerprint),
    known: &Known,
    context: &Context,
) -> Result<NodeConfig, Failure> {
    let mut config = plain_node(holder, (cluster, root), known)?;
    config.direct = !access.no_direct;
    config.proxies = context.env.proxies()?;
    Ok(config)
}

/// A node for a key, at the relays that are known, without what only a person says.
pub(crate) fn plain_node(
    holder: Holder,
    (cluster, root): (Cluster, RootFingerprint),
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
