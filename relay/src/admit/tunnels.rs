//! Tunnels of an admitted node: what a certificate allows, who owns a name, and who takes over from whom.

use std::collections::BTreeSet;

use mytunnel_keys::{
    certificate::Claims,
    error::Code,
    feed::Report,
    id::{ProjectId, TunnelId, TunnelKind, TunnelName},
    wire::ToNode,
};

use libp2p::swarm::ConnectionId;

use super::{
    Admission, Command, Now,
    answer::{Refusal, closed, goodbye},
    budgets::Means,
};
use crate::{
    ports::{NoPort, Wanted},
    registry::Registration,
};

/// What a node is told that comes back too late.
const OVER: &str = "the time that this tunnel was given is over; give it more with --expires, or none with `mytunnel tunnels expire NAME --off`";

/// What to do without the right to let TLS end behind the relay.
const ASK_FOR_TLS: &str =
    "Mint the key with `--scope http,tls`, or share as a person who is signed in; or share without --e2e.";
const NO_PASSTHROUGH: &str =
    "Share without --e2e, or ask whoever runs the relay for `passthrough = true` in its settings.";

/// What to do about a name that its last account may still have back.
const KEPT: &str =
    "Choose another name: this one is kept from others for a day, so that nobody gets its visitors unawares.";

/// What a node asks for.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) request: u32,
    pub(super) name: TunnelName,
    pub(super) kind: TunnelKind,
    pub(super) instance: [u8; 16],
    /// The public port that is wanted.
    pub(super) port: Option<u16>,
    /// Nobody is to serve the name beside it.
    pub(super) alone: bool,
}

impl Admission {
    pub(super) fn handle_register(&mut self, connection: ConnectionId, request: Request, now: Now) {
        let number = request.request;
        if !self.registry.may_ask(connection, now.instant) {
            let refusal = Refusal::new(Code::RateLimited, "this key asks for tunnels too often");
            return self.command(Command::Send { connection, message: refusal.message(Some(number)) });
        }
        self.handle_request(connection, request, now);
    }

    /// Registers, refuses, or lets it wait for a lease of its key's budget.
    pub(super) fn handle_request(&mut self, connection: ConnectionId, request: Request, now: Now) {
        let number = request.request;
        if let Err(refusal) = self.register(connection, request, now) {
            self.refuse_registration(connection, number, refusal, now);
        }
    }

    pub(super) fn refuse_registration(
        &mut self,
        connection: ConnectionId,
        number: u32,
        refusal: Refusal,
        now: Now,
    ) {
        let refusal = match self.registry.session(connection) {
            Some(session) => refusal.of(session.claims.serial),
            None => refusal,
        };
        self.report_refusal(&refusal, now);
        self.command(Command::Send { connection, message: refusal.message(Some(number)) });
    }

    /// A node that ends what it has begun gets nothing new.
    pub(super) fn handle_leave(&mut self, connection: ConnectionId, id: &TunnelId) {
        if let Some(leaving) = self.registry.by_id(connection, id) {
            let place = leaving.place();
            self.command(Command::Spare { place });
        }
    }

    pub(super) fn handle_unregister(&mut self, connection: ConnectionId, id: &TunnelId, now: Now) {
        if let Some(gone) = self.registry.unregister(connection, id) {
            self.command(Command::Unroute { place: gone.place() });
            if gone.kind.has_port() && self.registry.members(&gone.name).is_empty() {
                self.command(Command::ClosePort { name: gone.name.clone() });
            }
            self.report_down(&gone, now);
            self.tell_the_rest([&gone]);
        }
    }

    fn register(&mut self, connection: ConnectionId, asked: Request, now: Now) -> Result<(), Refusal> {
        let Some(session) = self.registry.session(connection) else {
            return Err(Refusal::new(Code::BadRequest, "say hello first"));
        };
        let claims = &session.claims;
        self.may_act(claims, now)?;
        let project = self.may_serve(claims, &asked.name, asked.kind)?;
        let (serial, expires_at) = (claims.serial, claims.not_after);
        let (tenant, parent, account) = (claims.tenant.clone(), claims.parent, claims.account);
        if self.means(connection, now)? == Means::Awaited {
            return self.await_means(connection, asked, now);
        }
        let Request { request, name, kind, instance, port, alone } = asked;
        let tunnel = TunnelId::derive(self.trust.cluster(), &project, &name);
        if self.is_over(&tunnel) {
            self.command(Command::Retire { name });
            return Err(Refusal::new(Code::NotFound, OVER));
        }
        let new = Registration {
            id: tunnel,
            name: name.clone(),
            kind,
            project,
            tenant: tenant.clone(),
            serial,
            parent,
            account,
            connection,
            instance,
            alone,
            since: self.reached,
        };

        let displaced = self.registry.register(new.clone())?;
        self.report_up(&new, now);
        let gates = self.gates.get(&tunnel).cloned();
        self.command(Command::Route(new.clone(), gates));
        self.end_displaced(&new, displaced, now);
        if kind.has_port() {
            let shared = self.registry.members(&name).len() > 1;
            let wanted = Wanted { tunnel, tenant, name, kind, port, shared };
            self.command(Command::OpenPort { connection, request, wanted });
            return Ok(());
        }
        if kind == TunnelKind::Private {
            // Visitors have no business with it, not even to wait for it.
            self.command(Command::Forget { name: name.clone() });
        }
        let urls = match kind {
            TunnelKind::Private => Vec::new(),
            TunnelKind::Tls => self.policy.urls.passed_through(&name),
            TunnelKind::Http | TunnelKind::Tcp | TunnelKind::Udp => self.policy.urls.of(&name),
        };
        self.confirm(&new, request, urls, expires_at);
        Ok(())
    }

    /// Tells a node that its tunnel stands, and those who serve the name beside it that there is one more.
    fn confirm(&mut self, live: &Registration, request: u32, urls: Vec<String>, expires_at: u64) {
        let backends = self.backends(&live.name);
        let (tunnel, name, connection) = (live.id, live.name.clone(), live.connection);
        let message = ToNode::Registered { request, tunnel, name, urls, expires_at, backends };
        self.command(Command::Send { connection, message });
        self.tell_backends(&live.name, Some(connection));
    }

    /// Tells those who still serve these names how many they are.
    pub(super) fn tell_the_rest<'a>(&mut self, gone: impl IntoIterator<Item = &'a Registration>) {
        let names: BTreeSet<_> = gone.into_iter().map(|gone| gone.name.clone()).collect();
        for name in names {
            self.tell_backends(&name, None);
        }
    }

    fn tell_backends(&mut self, name: &TunnelName, except: Option<ConnectionId>) {
        let count = self.backends(name);
        let others = self.registry.members(name).iter().filter(|live| Some(live.connection) != except);
        let messages: Vec<_> =
            others.map(|live| (live.connection, ToNode::Backends { tunnel: live.id, count })).collect();
        for (connection, message) in messages {
            self.command(Command::Send { connection, message });
        }
    }

    fn backends(&self, name: &TunnelName) -> u16 {
        u16::try_from(self.registry.members(name).len()).unwrap_or(u16::MAX)
    }

    /// The project in which these claims may serve this name, if they may.
    fn may_serve(&self, claims: &Claims, name: &TunnelName, kind: TunnelKind) -> Result<ProjectId, Refusal> {
        if !claims.allows_kind(kind) {
            let refusal = Refusal::new(Code::ScopeDenied, format!("this key may not serve {kind} tunnels"));
            return Err(match kind {
                TunnelKind::Tls => refusal.with_help(ASK_FOR_TLS),
                TunnelKind::Http | TunnelKind::Tcp | TunnelKind::Udp | TunnelKind::Private => refusal,
            });
        }
        if kind == TunnelKind::Tls && !self.policy.passthrough {
            let refusal = Refusal::new(Code::ScopeDenied, "this relay lets no TLS end behind it");
            return Err(refusal.with_help(NO_PASSTHROUGH));
        }
        if kind == TunnelKind::Tls && self.policy.urls.https.is_none() {
            return Err(Refusal::new(Code::BadRequest, "this relay has no port for TLS"));
        }
        if !claims.allows_name(name) {
            return Err(Refusal::new(Code::ScopeDenied, format!("this key may not use the name {name}")));
        }
        let project = claims.project.clone().unwrap_or_else(|| claims.tenant.home_project());
        if self.names.owner(name).is_some_and(|owner| *owner != project) {
            return Err(Refusal::new(Code::NameTaken, "the name belongs to another project"));
        }
        if self.names.kept_for(name).is_some_and(|tenant| *tenant != claims.tenant) {
            let refusal =
                Refusal::new(Code::NameTaken, "another account gave this name up a short while ago");
            return Err(refusal.with_help(KEPT));
        }
        Ok(project)
    }

    /// The port of a tunnel was opened, as [`Command::OpenPort`] asks, or not: then the tunnel is none.
    pub(crate) fn handle_port(
        &mut self,
        (connection, request): (ConnectionId, u32),
        name: &TunnelName,
        port: Result<u16, NoPort>,
        now: Now,
    ) {
        // It may have been given up or taken over meanwhile.
        let Some(live) = self.registry.member(name, connection).cloned() else { return };
        let port = match port {
            Ok(port) => port,
            Err(none) => {
                self.handle_unregister(connection, &live.id, now);
                let refusal = Refusal::new(none.code(), none.to_string());
                return self.refuse_registration(connection, request, refusal, now);
            }
        };
        let Some(session) = self.registry.session(connection) else { return };
        let expires_at = session.claims.not_after;
        let urls = vec![self.policy.urls.of_port(live.kind, port)];
        self.confirm(&live, request, urls, expires_at);
    }

    /// Ends what a new registration has taken over from.
    fn end_displaced(&mut self, new: &Registration, displaced: Vec<Registration>, now: Now) {
        for old in displaced {
            // The new route is there already, so that visitors see no gap; on the same connection it is in its place.
            if old.place() != new.place() {
                self.command(Command::Unroute { place: old.place() });
                self.report_down(&old, now);
            }
            if old.name != new.name {
                self.tell_the_rest([&old]);
            }
            if old.connection == new.connection {
                continue;
            }
            let message = closed(old.id, Code::TunnelLimit, "it is served from another connection now");
            if old.serial == new.serial && self.registry.is_idle(old.connection) {
                // What a process left behind when it came back: half dead.
                let farewell = goodbye(Code::TunnelLimit, "the node came back on another connection");
                self.take_down(&[old.connection], now);
                self.command(Command::Farewell {
                    connection: old.connection,
                    messages: vec![message, farewell],
                });
            } else {
                self.command(Command::Send { connection: old.connection, message });
            }
        }
    }

    pub(super) fn report_up(&mut self, live: &Registration, now: Now) {
        let Registration { id: tunnel, name, project, serial, kind, .. } = live.clone();
        self.report(Report::TunnelUp { tunnel, name, project, serial, kind, at: now.seconds() });
    }

    /// Not while the same key serves the name from another process or connection.
    pub(super) fn report_down(&mut self, gone: &Registration, now: Now) {
        if self.registry.members(&gone.name).iter().any(|live| live.serial == gone.serial) {
            return;
        }
        self.report(Report::TunnelDown { tunnel: gone.id, serial: gone.serial, at: now.seconds() });
    }
}
