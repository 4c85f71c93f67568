//! The state alone: its clock is set by hand, its commands are read off.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test picks out what it looks for")]

mod budgets;
mod certificate;
mod find;
mod gates;
mod hello;
mod news;
mod tunnels;
mod watch;

use libp2p::PeerId;
use mytunnel_keys::{
    certificate::Claims,
    feed::{Accepted, Change, Position},
    id::TunnelKind,
    secret::Seed,
    wire::VERSION,
};

use super::*;
use crate::testing::{Credential, NOW, child_claims, seed, trust};

/// The number of the relay's own key.
const RELAY: u8 = 77;

/// A relay's desk with a clock set by hand.
struct Desk {
    admission: Admission,
    start: Instant,
    elapsed: Duration,
    /// How far the clock on the wall is behind.
    behind: Duration,
    connections: usize,
    /// Whose the connections are.
    seeds: HashMap<ConnectionId, Seed>,
    epoch: u64,
}

impl Desk {
    /// A desk that has never heard of its coordinator.
    fn unheard() -> Self {
        Self::settling(0)
    }

    /// A desk that has not heard of its coordinator since its start, which was not its first.
    fn settling(seconds: u64) -> Self {
        Self::under(Self::policy(seconds))
    }

    fn policy(seconds: u64) -> Policy {
        Policy {
            id: seed(RELAY).public(),
            patience: Duration::from_secs(5),
            hard_staleness: Duration::from_secs(900),
            settling: Duration::from_secs(seconds),
            certificate: certificate::own(b"relay certificate", 365 * 86_400),
            urls: Urls { domain: "tun.example".parse().unwrap(), http: None, https: Some(443) },
            passthrough: true,
            lane_port: None,
            incarnation: [7; 16],
        }
    }

    fn under(policy: Policy) -> Self {
        let admission = Admission::new(policy, trust());
        let (start, elapsed, behind) = (Instant::now(), Duration::ZERO, Duration::ZERO);
        Self { admission, start, elapsed, behind, connections: 0, seeds: HashMap::new(), epoch: 0 }
    }

    /// A desk that has just had its first snapshot.
    fn open() -> Self {
        let mut desk = Self::unheard();
        desk.snapshot(&[]);
        desk
    }

    fn now(&self) -> Now {
        Now {
            instant: self.start + self.elapsed,
            unix: Duration::from_secs(NOW) + self.elapsed - self.behind,
        }
    }

    /// Lets time pass, and what is due happen.
    fn wait(&mut self, seconds: u64) -> Vec<Command> {
        self.elapsed += Duration::from_secs(seconds);
        self.admission.handle_timeout(self.now());
        self.commands()
    }

    fn commands(&mut self) -> Vec<Command> {
        std::iter::from_fn(|| self.admission.poll_command()).collect()
    }

    fn connect(&mut self, credential: &Credential) -> ConnectionId {
        let connection = self.connect_as(mytunnel_carrier::peer_id(&credential.seed.public()));
        self.seeds.insert(connection, credential.seed.clone());
        connection
    }

    fn connect_as(&mut self, peer: PeerId) -> ConnectionId {
        self.connections += 1;
        let connection = ConnectionId::new_unchecked(self.connections);
        self.admission.handle_connection(connection, peer, self.now());
        connection
    }

    fn hello(&mut self, connection: ConnectionId, certificate: &[u8]) -> Vec<Command> {
        let holder = self.seeds.get(&connection).cloned().unwrap_or_else(|| seed(0));
        let credential = Credential { seed: holder, certificate: certificate.to_vec() };
        let presence = credential.presence(&seed(RELAY).public(), self.now().seconds());
        self.show(connection, certificate, presence)
    }

    fn show(&mut self, connection: ConnectionId, certificate: &[u8], presence: Vec<u8>) -> Vec<Command> {
        let hello = ToRelay::Hello {
            version: VERSION,
            certificate: certificate.to_vec(),
            presence,
            agent: "test".to_owned(),
            clock: self.now().seconds(),
        };
        self.say(connection, hello)
    }

    fn say(&mut self, connection: ConnectionId, message: ToRelay) -> Vec<Command> {
        self.admission.handle_message(connection, message, self.now());
        self.commands()
    }

    /// Connects with a certificate that must be good.
    fn enter(&mut self, credential: &Credential) -> ConnectionId {
        let connection = self.connect(credential);
        let commands = self.hello(connection, &credential.certificate);
        assert!(matches!(commands[0], Command::Admit { .. }), "{commands:?}");
        connection
    }

    fn register(&mut self, connection: ConnectionId, name: &str, instance: u8) -> Vec<Command> {
        let name = name.parse().unwrap();
        let instance = [instance; 16];
        self.say(
            connection,
            ToRelay::Register {
                request: 9,
                name,
                kind: TunnelKind::Http,
                instance,
                port: None,
                alone: false,
            },
        )
    }

    /// Registers what must be possible.
    fn serve(&mut self, connection: ConnectionId, name: &str, instance: u8) {
        let commands = self.register(connection, name, instance);
        assert_eq!(code_of(&commands), None, "{commands:?}");
    }

    fn snapshot(&mut self, changes: &[Change]) -> Vec<Command> {
        self.news(|position| Accepted::Snapshot { position, changes: changes.to_vec(), offset: 0 })
    }

    fn delta(&mut self, changes: &[Change]) -> Vec<Command> {
        self.epoch += 1;
        self.news(|position| Accepted::Delta { position, changes: changes.to_vec() })
    }

    fn heartbeat(&mut self) -> Vec<Command> {
        self.news(|position| Accepted::Heartbeat { position, offset: 0, audit_head: [0; 32] })
    }

    fn news(&mut self, news: impl FnOnce(Position) -> Accepted) -> Vec<Command> {
        let position = Position { epoch: self.epoch, ..Position::start(1) };
        self.admission.handle_news(news(position), self.now());
        self.commands()
    }
}

fn child(number: u8) -> Credential {
    issued(number, child_claims(number, NOW))
}

fn issued(number: u8, claims: Claims) -> Credential {
    Credential::issue(number, claims)
}

/// The code in the first message to a node that carries one.
fn code_of(commands: &[Command]) -> Option<Code> {
    let code = |message: &ToNode| match message {
        ToNode::Refused { code, .. } | ToNode::Closed { code, .. } | ToNode::Goodbye { code, .. } => {
            Some(*code)
        }
        ToNode::Welcome { .. }
        | ToNode::Registered { .. }
        | ToNode::Backends { .. }
        | ToNode::Found { .. }
        | ToNode::Revoked { .. }
        | ToNode::Unwatched { .. }
        | ToNode::NotFound { .. } => None,
    };
    commands.iter().find_map(|command| match command {
        Command::Send { message, .. } => code(message),
        Command::Farewell { messages, .. } => messages.iter().find_map(code),
        _ => None,
    })
}

/// The connections that are bidden farewell.
fn farewells(commands: &[Command]) -> Vec<ConnectionId> {
    let farewell = |command: &Command| match command {
        Command::Farewell { connection, .. } => Some(*connection),
        _ => None,
    };
    commands.iter().filter_map(farewell).collect()
}

fn unrouted(commands: &[Command]) -> Vec<&str> {
    let mut names = Vec::new();
    for command in commands {
        if let Command::Unroute { place: (name, _) } = command {
            names.push(name.as_str());
        }
    }
    names
}

fn reports(commands: &[Command]) -> Vec<&Report> {
    let mut reports = Vec::new();
    for command in commands {
        if let Command::Report(report) = command {
            reports.push(report);
        }
    }
    reports
}

#[test]
fn a_shutdown_takes_leave_of_everybody() {
    let mut desk = Desk::open();
    let node = desk.enter(&child(1));
    desk.serve(node, "web", 1);
    let stranger = desk.connect(&child(2));
    desk.admission.handle_shutdown(desk.now());
    let commands = desk.commands();
    let mut left = farewells(&commands);
    left.sort();
    assert_eq!(left, [node, stranger]);
    assert_eq!(unrouted(&commands), ["web"]);
    assert_eq!(code_of(&commands), Some(Code::RelayUnreachable));
}
