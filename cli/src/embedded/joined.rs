//! A relay whose coordinator is elsewhere: it joins once with a token, and from then on is known by its key.
//!
//! What the coordinator gave it is kept in `DATA/membership.json`, so that it starts while the coordinator is down. Where
//! there are several of one cluster, the first that answers is asked.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;

use mytunnel_keys::api::{RelayJoin, RelayJoined};
use mytunnel_keys::certificate::{self, Claims};
use mytunnel_keys::error::Code;
use mytunnel_keys::id::Cluster;
use mytunnel_keys::secret::Seed;
use mytunnel_keys::token::{RelayToken, ServerUrl};
use mytunnel_keys::trust::{RootFingerprint, Trust};
use mytunnel_relay::{Authority, RemoteCoordinator};
use serde::{Deserialize, Serialize};

use super::{Member, opening};
use crate::api::{Api, As, Signer};
use crate::context::now;
use crate::failure::{Failure, chain};
use crate::files;

/// What helps where a join token is of no use.
pub(crate) const TOKEN_HELP: &str =
    "Make a new one with `mytunnel keys join-token` on the coordinator's side.";

/// A member, and the coordinator that it follows.
pub(crate) struct Joined {
    pub(crate) member: Member,
    pub(crate) authority: Arc<dyn Authority>,
    /// The coordinator that answered, or the first.
    pub(crate) server: ServerUrl,
    /// Why the coordinator could not be asked for a new certificate, if it could not.
    pub(crate) outage: Option<Failure>,
}

/// The coordinators of a cluster.
struct Apis {
    apis: Vec<(Api, ServerUrl)>,
    /// The one that answered last.
    current: Cell<usize>,
}

impl Apis {
    /// At least one.
    fn new(servers: &[ServerUrl]) -> Self {
        let apis = servers.iter().map(|server| (Api::new(server), server.clone())).collect();
        Self { apis, current: Cell::new(0) }
    }

    fn current(&self) -> (&Api, &ServerUrl) {
        let (api, server) = &self.apis[self.current.get()];
        (api, server)
    }

    /// Asks the one that answered last, and then the others, until one can answer.
    fn ask<T>(&self, ask: impl Fn(&Api) -> Result<T, Failure>) -> Result<T, Failure> {
        let first = self.current.get();
        let mut failed = None;
        for at in (first..first + self.apis.len()).map(|at| at % self.apis.len()) {
            match ask(&self.apis[at].0) {
                Err(failure) if matches!(failure.code(), Code::CoordinatorUnreachable | Code::Internal) => {
                    failed.get_or_insert(failure);
                }
                answered => {
                    self.current.set(at);
                    return answered;
                }
            }
        }
        Err(failed.unwrap_or_else(|| Failure::new(Code::CoordinatorUnreachable, "no coordinator is named")))
    }
}

#[derive(Serialize, Deserialize)]
struct Membership {
    root: RootFingerprint,
    joined: RelayJoined,
}

/// Becomes a member, or finds out that it is one. Asks over the network, blocking.
pub(crate) fn join(
    data: &Path,
    domain: &Cluster,
    servers: &[ServerUrl],
    token: Option<&RelayToken>,
) -> Result<Joined, Failure> {
    let seed = opening::seed(data)?;
    let apis = Apis::new(servers);
    let kept = recall(data)?.filter(|kept| token.is_none_or(|token| token.root == kept.root));
    let (membership, outage) = match (kept, token) {
        (Some(kept), token) => renew(kept, &apis, &seed, token)?,
        (None, Some(token)) => (enter(&apis, &seed, token)?, None),
        (None, None) => return Err(not_yet(servers)),
    };
    let (api, server) = apis.current();
    keep(data, &membership)?;
    let trust = checked(&membership)?;
    if trust.cluster() != domain {
        return Err(Failure::usage(
            format!("{server} is the coordinator of {}, not of {domain}", trust.cluster()),
            format!("Start the relay with --domain {}.", trust.cluster()),
        ));
    }
    if outage.is_none() {
        fresh(&membership.joined, &trust, &seed, api)?;
    }
    let serial = claims(&membership.joined)?.serial;
    let authority = RemoteCoordinator::new(servers, seed.clone(), serial, trust.cluster().clone())
        .map_err(|error| Failure::new(Code::CoordinatorUnreachable, chain(&error)))?;
    let member = Member { seed, certificate: membership.joined.certificate, trust };
    Ok(Joined { member, authority: Arc::new(authority), server: server.clone(), outage })
}

/// What the coordinator has issued just now holds just now, unless a clock is wrong.
fn fresh(joined: &RelayJoined, trust: &Trust, seed: &Seed, api: &Api) -> Result<(), Failure> {
    let verified = certificate::verify(&joined.certificate, trust, &seed.public(), now());
    verified.map(drop).map_err(|error| {
        let failure =
            Failure::new(error.code(), format!("the relay's certificate is refused: {}", chain(&error)));
        api.skew().explain(failure.with_help("Check this machine's clock (`timedatectl set-ntp true`)."))
    })
}

/// Neither a member nor with a token to become one.
pub(crate) fn not_yet(servers: &[ServerUrl]) -> Failure {
    let servers: Vec<_> = servers.iter().map(ToString::to_string).collect();
    Failure::usage(
        format!("this relay has not joined {} yet", servers.join(" or ")),
        "Give it a join token with --join-file (`mytunnel keys join-token` makes one).",
    )
}

/// A new life for the certificate at every start, also for one that ended while the relay was switched off: the request
/// proves the relay's key, and the coordinator grants it unless the relay was revoked. Later ones are the relay's own
/// doing. A coordinator that is down is no reason not to start; one that does not know this relay any more is asked to
/// take it in again, where there is a token.
fn renew(
    kept: Membership,
    apis: &Apis,
    seed: &Seed,
    token: Option<&RelayToken>,
) -> Result<(Membership, Option<Failure>), Failure> {
    let signer = Signer {
        seed: seed.clone(),
        serial: claims(&kept.joined)?.serial,
        cluster: checked(&kept)?.cluster().clone(),
    };
    match apis.ask(|api| api.post::<RelayJoined>(As::Key(&signer), "/relay/renew", &())) {
        Ok(joined) => Ok((Membership { root: kept.root, joined }, None)),
        Err(failure)
            // One that has ended will do: the relay takes nothing before the coordinator is there to renew it.
            if failure.code() == Code::CoordinatorUnreachable =>
        {
            Ok((kept, Some(failure)))
        }
        Err(failure) => match token {
            Some(token) => Ok((enter(apis, seed, token)?, None)),
            None => Err(failure),
        },
    }
}

fn enter(apis: &Apis, seed: &Seed, token: &RelayToken) -> Result<Membership, Failure> {
    let request = RelayJoin { public_key: seed.public(), secret: *token.secret.expose() };
    let asked = apis.ask(|api| api.post(As::Anyone, "/relay/join", &request));
    let joined = asked.map_err(|failure: Failure| {
        let refused = matches!(failure.code(), Code::InvalidKey | Code::KeyExpired | Code::KeyRevoked);
        if refused { failure.with_help(TOKEN_HELP) } else { failure }
    })?;
    let membership = Membership { root: token.root, joined };
    checked(&membership)?;
    Ok(membership)
}

fn checked(membership: &Membership) -> Result<Trust, Failure> {
    Trust::open(&membership.joined.trust, &membership.root).map_err(|error| {
        Failure::new(
            Code::InvalidKey,
            format!("the coordinator does not prove whom to trust: {}", chain(&error)),
        )
        .with_help("Use the coordinator that made the join token.")
    })
}

fn claims(joined: &RelayJoined) -> Result<Claims, Failure> {
    let claims = certificate::inspect(&joined.certificate);
    claims.map(|claims| claims.peek().clone()).map_err(|error| {
        Failure::new(Code::InvalidKey, format!("the relay's certificate: {}", chain(&error)))
    })
}

fn recall(data: &Path) -> Result<Option<Membership>, Failure> {
    let path = data.join("membership.json");
    let Some(content) = files::read_private(&path)? else { return Ok(None) };
    serde_json::from_slice(&content).map(Some).map_err(|_| {
        Failure::local(
            format!("{} is damaged", path.display()),
            "Move it away and join again with a new token.",
        )
    })
}

fn keep(data: &Path, membership: &Membership) -> Result<(), Failure> {
    let path = data.join("membership.json");
    let text = serde_json::to_vec_pretty(membership)
        .map_err(|error| Failure::new(Code::Internal, format!("cannot write {}: {error}", path.display())))?;
    Ok(files::write_private(&path, &text)?)
}
