use mytunnel_keys::secret::Seed;

use super::*;

fn key(number: u8) -> PublicKey {
    Seed::from_bytes([number; 32]).public()
}

fn connection(number: usize) -> ConnectionId {
    ConnectionId::new_unchecked(number)
}

fn refusal(code: Code) -> Refusal {
    Refusal { code, message: "no".to_owned(), help: String::new() }
}

struct Bench {
    reach: Reach,
    now: Instant,
}

impl Bench {
    /// Has asked the relay.
    fn asked() -> Self {
        let now = Instant::now();
        let mut bench = Self { reach: Reach::new(true, now), now };
        assert_eq!(bench.wait(Duration::ZERO), [Command::Find]);
        bench
    }

    /// Has a way to node 1 over connection 1.
    fn standing() -> Self {
        let mut bench = Self::asked();
        bench.found(&[1]);
        bench.connected(1);
        bench.reach.on_welcomed(connection(1));
        assert_eq!(bench.commands(), [Command::Greet(connection(1))]);
        bench
    }

    fn wait(&mut self, time: Duration) -> Vec<Command> {
        self.now += time;
        self.reach.tick(self.now, 0);
        self.commands()
    }

    /// Waits for what comes next by itself.
    fn next(&mut self) -> Vec<Command> {
        self.now = self.reach.next_timeout().expect("something is to come");
        self.reach.tick(self.now, 0);
        self.commands()
    }

    /// The dial that is wanted leads to this connection.
    fn connected(&mut self, number: usize) {
        self.reach.on_dialling(connection(number));
        self.reach.on_connected(connection(number), self.now);
    }

    /// The dial that is wanted cannot even begin.
    fn not_dialled(&mut self) {
        self.reach.on_dial_failed(None, "down", self.now, 0);
    }

    fn found(&mut self, keys: &[u8]) -> Vec<Command> {
        let peers = keys.iter().map(|number| key(*number)).collect();
        self.reach.on_found(Ok(peers), self.now, 0);
        let commands = self.commands();
        assert!(commands.iter().all(|command| matches!(command, Command::Dial(_) | Command::Away { .. })));
        commands
    }

    fn commands(&mut self) -> Vec<Command> {
        std::iter::from_fn(|| self.reach.next_command()).collect()
    }
}

#[test]
fn every_node_of_the_name_is_tried_in_turn() {
    let mut bench = Bench::asked();
    assert_eq!(bench.found(&[1, 2, 3]), [Command::Dial(key(1))]);
    bench.not_dialled();
    assert_eq!(bench.commands(), [Command::Dial(key(2))]);
    bench.connected(1);
    bench.reach.on_false_host(connection(1), "another one", bench.now, 0);
    let greeted = Command::Greet(connection(1));
    assert_eq!(bench.commands(), [greeted, Command::Close(connection(1)), Command::Dial(key(3))]);
    assert_eq!(
        bench.wait(ANSWER),
        [Command::Away { attempt: 1, reason: "the other node does not answer".to_owned() }]
    );
    assert_eq!(bench.next(), [Command::Find]);
}

#[test]
fn a_name_that_is_not_there_is_said_to_be_nowhere_and_asked_for_again() {
    for code in [Code::NotFound, Code::ScopeDenied, Code::ProjectMismatch] {
        let mut bench = Bench::asked();
        bench.reach.on_not_found(refusal(code), false, bench.now, 0);
        assert_eq!(bench.commands(), [Command::Nowhere(refusal(code))]);
        assert_eq!(bench.next(), [Command::Find], "another relay may lead to it meanwhile");
    }
    let mut bench = Bench::standing();
    bench.reach.on_closed(connection(1), bench.now, 0);
    assert_eq!(bench.next(), [Command::Find]);
    bench.reach.on_not_found(refusal(Code::NotFound), true, bench.now, 0);
    assert!(matches!(bench.commands()[..], [Command::Away { attempt: 1, .. }]), "it was there");
    assert_eq!(bench.next(), [Command::Find]);
    bench.reach.on_not_found(refusal(Code::ProjectMismatch), true, bench.now, 0);
    assert!(matches!(bench.commands()[..], [Command::Nowhere(_)]));
}

#[test]
fn nobody_who_is_to_be_tried_is_a_try_that_failed() {
    let mut bench = Bench::asked();
    bench.reach.on_found(Err("not back yet"), bench.now, 0);
    assert_eq!(bench.commands(), [Command::Away { attempt: 1, reason: "not back yet".to_owned() }]);
    bench.next();
    assert!(matches!(bench.found(&[])[..], [Command::Away { attempt: 2, .. }]));
}

#[test]
fn a_refusal_of_the_other_end_is_final_when_nobody_else_is_left() {
    let mut bench = Bench::asked();
    bench.found(&[1, 2]);
    bench.connected(1);
    bench.reach.on_refused(connection(1), refusal(Code::ScopeDenied), bench.now, 0);
    assert_eq!(bench.commands()[1..], [Command::Close(connection(1)), Command::Dial(key(2))]);
    bench.connected(2);
    bench.reach.on_refused(connection(2), refusal(Code::ScopeDenied), bench.now, 0);
    assert_eq!(
        bench.commands()[1..],
        [Command::Close(connection(2)), Command::Nowhere(refusal(Code::ScopeDenied))]
    );
}

#[test]
fn without_a_relay_it_waits_and_a_way_that_stands_is_kept() {
    let mut bench = Bench::asked();
    bench.reach.on_offline(bench.now);
    assert_eq!(bench.reach.next_timeout(), None);
    bench.reach.on_online(bench.now);
    assert_eq!(bench.next(), [Command::Find]);
    let mut bench = Bench::standing();
    bench.reach.on_offline(bench.now);
    bench.reach.on_online(bench.now);
    assert_eq!((bench.commands(), bench.reach.next_timeout()), (vec![], None));
}

#[test]
fn what_comes_late_changes_nothing() {
    let mut bench = Bench::standing();
    bench.reach.on_found(Ok(vec![key(2)]), bench.now, 0);
    bench.reach.on_not_found(refusal(Code::NotFound), false, bench.now, 0);
    bench.reach.on_dial_failed(Some(connection(9)), "late", bench.now, 0);
    bench.reach.on_refused(connection(9), refusal(Code::ScopeDenied), bench.now, 0);
    bench.reach.on_closed(connection(9), bench.now, 0);
    assert_eq!(bench.commands(), []);
    bench.reach.on_connected(connection(9), bench.now);
    assert_eq!(bench.commands(), [Command::Close(connection(9))]);
}

#[test]
fn what_becomes_of_an_earlier_dial_does_not_count_for_a_later_one() {
    let mut bench = Bench::asked();
    bench.found(&[1, 2]);
    bench.reach.on_dialling(connection(1));
    assert_eq!(bench.wait(ANSWER), [Command::Dial(key(2))]);
    bench.reach.on_dialling(connection(2));
    bench.reach.on_dial_failed(Some(connection(1)), "late", bench.now, 0);
    assert_eq!(bench.commands(), []);
    bench.reach.on_connected(connection(1), bench.now);
    assert_eq!(bench.commands(), [Command::Close(connection(1))], "it is not greeted as the other one");
    bench.reach.on_connected(connection(2), bench.now);
    assert_eq!(bench.commands(), [Command::Greet(connection(2))]);
}

#[test]
fn a_connection_that_was_not_welcomed_is_closed_when_the_search_begins_anew() {
    for is_online in [true, false] {
        let mut bench = Bench::asked();
        bench.found(&[1]);
        bench.connected(1);
        assert_eq!(bench.commands(), [Command::Greet(connection(1))]);
        if is_online {
            bench.reach.on_online(bench.now);
        } else {
            bench.reach.on_offline(bench.now);
        }
        assert_eq!(bench.commands(), [Command::Close(connection(1))]);
    }
}
