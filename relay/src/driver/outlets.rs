//! What the state commands, carried out: on the routes, on the nodes' control streams, and towards the coordinator.

use std::{mem, sync::Arc};

use libp2p::{PeerId, swarm::ConnectionId};
use mytunnel_carrier::public_key;
use mytunnel_keys::{
    feed::Gates,
    id::{Serial, TunnelKind},
    wire::ToNode,
};

use super::{Connection, ControlStream, Driver, now};
use crate::{
    admit::Command,
    circuits::Pass,
    lanes::LanesFirst,
    pipes::StreamPipes,
    registry::{Place, Registration},
    route::Tunnel,
};

impl Driver {
    pub(super) fn carry_out(&mut self) {
        let mut heard = false;
        while let Some(command) = self.admission.poll_command() {
            match command {
                Command::Admit { connection, peer, pass } => self.admit(connection, peer, pass),
                Command::Dismiss { peer, .. } => {
                    if self.around.admitted.remove(&peer) {
                        self.gauges.close_circuits(&peer);
                    }
                }
                Command::Route(registration, gates) => self.route(registration, gates),
                Command::OpenPort { connection, request, wanted } => {
                    let name = wanted.name.clone();
                    let port = self.ports.open(wanted, now().instant);
                    self.admission.handle_port((connection, request), &name, port, now());
                }
                Command::ClosePort { name } => self.ports.close(&name, now().instant),
                Command::Gate { place, gates } => {
                    if let Some(tunnel) = self.tunnels.get(&place) {
                        tracing::debug!(name = %place.0, gated = gates.is_some(), "gates changed");
                        tunnel.set_gates(gates);
                    }
                }
                Command::Spare { place } => {
                    if let Some(tunnel) = self.tunnels.get(&place) {
                        tunnel.note_leaving();
                    }
                }
                Command::Unroute { place } => self.unroute(&place),
                Command::Retire { name } => {
                    self.around.routes.retire(&name);
                    self.ports.close(&name, now().instant);
                }
                Command::Send { connection, message } => self.send(connection, message),
                Command::Farewell { connection, messages } => self.bid_farewell(connection, messages),
                Command::KnownGates { name, gates } => self.around.routes.note_gates(&name, gates),
                Command::Known { name, project, kind } => {
                    self.around.routes.note_known(&name, kind);
                    self.around.routes.note_owner(&name, &project);
                    heard = true;
                }
                Command::Forget { name } => {
                    self.around.routes.forget(&name);
                    self.ports.close(&name, now().instant);
                }
                Command::Lead { domain, name } => self.around.routes.point(&domain, &name),
                Command::LeadNowhere { domain } => self.around.routes.point_nowhere(&domain),
                Command::Whole => self.around.routes.set_whole(),
                Command::Report(report) => self.reports.push(report),
            }
        }
        if heard {
            self.around.routes.note_heard();
        }
    }

    fn admit(&mut self, connection: ConnectionId, peer: PeerId, pass: Pass) {
        tracing::debug!(%connection, %peer, "node admitted");
        let (now, prices) = (now(), self.admission.prices().prices);
        let fill = |key: &Serial| self.admission.fill(key, now);
        let traffic = self.gauges.open_circuits(peer, &pass, &prices, fill);
        self.around.admitted.insert(peer, pass, &traffic);
        self.swarm.behaviour_mut().0.strangers.admitted(connection);
    }

    fn route(&mut self, registration: Registration, gates: Option<Arc<Gates>>) {
        let connection = registration.connection;
        let Some(Connection { peer, opener, places, life, .. }) = self.connections.get(&connection) else {
            return;
        };
        // Without such a key it would not have been admitted.
        let Some(key) = public_key(peer) else { return };
        let (now, prices) = (now(), self.admission.prices().prices);
        let fill = |key: &Serial| self.admission.fill(key, now);
        let traffic = self.gauges.open(&registration, &prices, fill, now.instant);
        let crowd = self.gauges.crowd(registration.serial);
        let Registration { id, name, project, tenant, kind, .. } = registration;
        if kind == TunnelKind::Private {
            // Other nodes come by circuits, which are counted as such; here it only takes its time.
            tracing::debug!(%connection, %name, "private name up");
            return self.leave_the_public(&(name, connection));
        }
        let streams = StreamPipes::new(opener.clone(), id, Arc::clone(places));
        let pipes = LanesFirst::new(self.around.lanes.admit(id, key, connection), streams);
        if !kind.has_port() {
            // It may have had a port as another kind.
            self.ports.close(&name, now.instant);
        }
        tracing::debug!(%connection, %name, "tunnel up");
        // Its gates stand before anybody can find it.
        let tunnel = Tunnel::new(id, name.clone(), project, kind, Arc::new(pipes));
        let tunnel = tunnel.gated(gates).counted(traffic).of_key(crowd).of_node(life);
        // Whose it is as well: what is ordered for it counts to that tenant.
        self.around.routes.note_tenant(&name, tunnel.project(), tenant);
        let tunnel = self.around.routes.insert(tunnel);
        // Asked for again on the same connection: the new one is there before the old one goes.
        if let Some(before) = self.tunnels.insert((name, connection), tunnel) {
            self.around.routes.remove(&before);
        }
    }

    fn unroute(&mut self, place: &Place) {
        let (name, connection) = place;
        tracing::debug!(%connection, %name, "tunnel down");
        self.leave_the_public(place);
        self.gauges.close(place, now().instant);
        if !self.around.routes.is_served(name) {
            self.ports.away(name, now().instant);
        }
    }

    /// Visitors are led to this node under the name no longer.
    fn leave_the_public(&mut self, place: &Place) {
        if let Some(tunnel) = self.tunnels.remove(place) {
            self.around.routes.remove(&tunnel);
            self.around.lanes.dismiss(tunnel.id(), place.1);
        }
    }

    fn send(&mut self, connection: ConnectionId, message: ToNode) {
        let Some(Connection { control: ControlStream::Open(control), .. }) =
            self.connections.get_mut(&connection)
        else {
            return;
        };
        if control.send(message).is_err() {
            tracing::debug!(%connection, "node does not read its control stream; dropped");
            self.swarm.close_connection(connection);
        }
    }

    /// The connection is closed when its control stream has ended, or at once when there is none to say it on.
    fn bid_farewell(&mut self, connection: ConnectionId, messages: Vec<ToNode>) {
        let Some(known) = self.connections.get_mut(&connection) else { return };
        let told = known.control.end().is_some_and(|control| control.finish(messages).is_ok());
        if !told {
            self.swarm.close_connection(connection);
        }
    }

    pub(super) fn publish_status(&self) {
        let now = self.admission.status();
        self.around.status.send_if_modified(|status| mem::replace(status, now) != now);
    }
}
