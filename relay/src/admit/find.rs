//! Where a private name is served: what a node may be told of others.
//!
//! Of names of another tenant nothing is told, not even that they exist.

use libp2p::swarm::ConnectionId;
use mytunnel_keys::{
    error::Code,
    id::{PublicKey, Scope, TunnelKind, TunnelName},
    wire::ToNode,
};

use super::{Admission, Command, Now, answer::Refusal};

impl Admission {
    /// A node looks for the nodes that serve a private name.
    pub(super) fn handle_find(
        &mut self,
        connection: ConnectionId,
        request: u32,
        name: &TunnelName,
        now: Now,
    ) {
        let message = match self.find(connection, name, now) {
            Ok(peers) => ToNode::Found { request, peers },
            Err(refusal) => self.not_found(connection, request, refusal, now),
        };
        self.command(Command::Send { connection, message });
    }

    fn find(
        &mut self,
        connection: ConnectionId,
        name: &TunnelName,
        now: Now,
    ) -> Result<Vec<PublicKey>, Refusal> {
        if !self.registry.may_ask(connection, now.instant) {
            return Err(Refusal::new(Code::RateLimited, "this key asks too often"));
        }
        // A lease that is on its way is waited for by the circuit.
        self.means(connection, now)?;
        let Some(session) = self.registry.session(connection) else {
            return Err(Refusal::new(Code::BadRequest, "say hello first"));
        };
        let claims = &session.claims;
        self.may_act(claims, now)?;
        if !claims.scopes.contains(Scope::Private) {
            return Err(Refusal::new(Code::ScopeDenied, "this key may not reach private shares"));
        }
        if !claims.allows_name(name) {
            return Err(Refusal::new(Code::ScopeDenied, format!("this key may not use the name {name}")));
        }
        let members = self.registry.members(name).iter().filter_map(|member| {
            let session = self.registry.session(member.connection)?;
            (session.claims.tenant == claims.tenant).then_some((member, session.claims.subject))
        });
        let members: Vec<_> = members.collect();
        let Some((first, _)) = members.first() else {
            let own = claims.project.clone().unwrap_or_else(|| claims.tenant.home_project());
            let is_away = self.names.owner(name) == Some(&own);
            return Err(Refusal::new(
                Code::NotFound,
                if is_away {
                    format!("no node shares {name} at this relay at the moment")
                } else {
                    format!("there is no private share {name}")
                },
            )
            .with_help("Start it on the other machine: `mytunnel share TARGET --private --name NAME`, at the same relay."));
        };
        if claims.project.as_ref().is_some_and(|project| *project != first.project) {
            return Err(Refusal::new(Code::ProjectMismatch, format!("{name} belongs to another project")));
        }
        if first.kind != TunnelKind::Private {
            let reason = format!("{name} is no private share, but a public one of kind {}", first.kind);
            return Err(Refusal::new(Code::NotFound, reason)
                .with_help("Open its address (`mytunnel tunnels list`), or share it with --private."));
        }
        Ok(members.into_iter().map(|(_, peer)| peer).collect())
    }

    /// Whether a name is served here, and not to visitors.
    pub(super) fn is_private(&self, name: &TunnelName) -> bool {
        self.registry.members(name).iter().any(|live| live.kind == TunnelKind::Private)
    }

    fn not_found(&mut self, connection: ConnectionId, request: u32, refusal: Refusal, now: Now) -> ToNode {
        // What is only away, or asked for too often, is no attempt at anything.
        if matches!(refusal.code, Code::ScopeDenied | Code::ProjectMismatch)
            && let Some(session) = self.registry.session(connection)
        {
            let refusal = refusal.clone().of(session.claims.serial);
            self.report_refusal(&refusal, now);
        }
        refusal.to_search(request)
    }
}
