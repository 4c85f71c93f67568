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
        bench.reach.on_connected(connection(1), bench.now);
        bench.reach.on_welcomed(connection(1));
        assert_eq!(bench.commands(), [Command::Greet(connection(1)), Command::Stand(connection(1))]);
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

    fn found(&mut self, keys: &[u8]) -> Vec<Command> {
        let peers = keys.iter().map(|number| key(*number)).collect();
        self.reach.on_found(peers, self.now, 0);
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
    bench.reach.on_dial_failed("down", bench.now, 0);
    assert_eq!(bench.commands(), [Command::Dial(key(2))]);
    bench.reach.on_connected(connection(1), bench.now);
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
fn a_name_that_never_was_there_is_given_up_and_one_that_was_is_waited_for() {
    for code in [Code::NotFound, Code::ScopeDenied, Code::ProjectMismatch] {
        let mut bench = Bench::asked();
        bench.reach.on_not_found(refusal(code), bench.now, 0);
        assert_eq!(bench.commands(), [Command::GiveUp(refusal(code))]);
        assert_eq!(bench.reach.next_timeout(), None);
    }
    let mut bench = Bench::standing();
    bench.reach.on_closed(connection(1), bench.now, 0);
    assert!(matches!(bench.commands()[..], [Command::Away { attempt: 0, .. }]));
    assert_eq!(bench.next(), [Command::Find]);
    bench.reach.on_not_found(refusal(Code::NotFound), bench.now, 0);
    assert!(matches!(bench.commands()[..], [Command::Away { attempt: 1, .. }]));
    assert_eq!(bench.next(), [Command::Find]);
    bench.reach.on_not_found(refusal(Code::ProjectMismatch), bench.now, 0);
    assert!(matches!(bench.commands()[..], [Command::GiveUp(_)]));
}

#[test]
fn after_a_loss_the_same_node_is_taken_and_another_only_later() {
    let mut bench = Bench::standing();
    bench.reach.on_closed(connection(1), bench.now, 0);
    bench.commands();
    let lost = bench.now;
    assert_eq!(bench.next(), [Command::Find]);
    assert!(matches!(bench.found(&[2])[..], [Command::Away { .. }]));
    bench.next();
    assert_eq!(bench.found(&[2, 1]), [Command::Dial(key(1))]);
    bench.reach.on_dial_failed("down", bench.now, 0);
    assert_eq!(bench.commands(), [Command::Dial(key(2))], "it is asked for, and does not answer");
    bench.reach.on_dial_failed("down", bench.now, 0);
    bench.commands();
    bench.now = lost + FAITHFUL;
    assert_eq!(bench.wait(Duration::from_secs(1)), [Command::Find]);
    assert_eq!(bench.found(&[2]), [Command::Dial(key(2))]);
}

#[test]
fn a_refusal_of_the_other_end_is_final_when_nobody_else_is_left() {
    let mut bench = Bench::asked();
    bench.found(&[1, 2]);
    bench.reach.on_connected(connection(1), bench.now);
    bench.reach.on_refused(connection(1), refusal(Code::ScopeDenied), bench.now, 0);
    assert_eq!(bench.commands()[1..], [Command::Close(connection(1)), Command::Dial(key(2))]);
    bench.reach.on_connected(connection(2), bench.now);
    bench.reach.on_refused(connection(2), refusal(Code::ScopeDenied), bench.now, 0);
    assert_eq!(
        bench.commands()[1..],
        [Command::Close(connection(2)), Command::GiveUp(refusal(Code::ScopeDenied))]
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
    bench.reach.on_found(vec![key(2)], bench.now, 0);
    bench.reach.on_not_found(refusal(Code::NotFound), bench.now, 0);
    bench.reach.on_dial_failed("late", bench.now, 0);
    bench.reach.on_refused(connection(9), refusal(Code::ScopeDenied), bench.now, 0);
    bench.reach.on_closed(connection(9), bench.now, 0);
    assert_eq!(bench.commands(), []);
    bench.reach.on_connected(connection(9), bench.now);
    assert_eq!(bench.commands(), [Command::Close(connection(9))]);
}

#[test]
fn a_connection_that_was_not_welcomed_is_closed_when_the_search_begins_anew() {
    for is_online in [true, false] {
        let mut bench = Bench::asked();
        bench.found(&[1]);
        bench.reach.on_connected(connection(1), bench.now);
        assert_eq!(bench.commands(), [Command::Greet(connection(1))]);
        if is_online {
            bench.reach.on_online(bench.now);
        } else {
            bench.reach.on_offline(bench.now);
        }
        assert_eq!(bench.commands(), [Command::Close(connection(1))]);
    }
}
