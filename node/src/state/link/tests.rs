mod busy;

use super::{
    search::{KNOWN_RESORT, LAST_RESORT},
    *,
};

const MS: Duration = Duration::from_millis(1);

/// A link under a clock that stands until it is moved.
struct Bench {
    link: Link,
    now: Instant,
}

fn connection(number: usize) -> ConnectionId {
    ConnectionId::new_unchecked(number)
}

fn refusal(code: Code) -> Refusal {
    Refusal { code, message: "no".to_owned(), help: String::new() }
}

impl Bench {
    fn new(relays: usize) -> Self {
        let now = Instant::now();
        Self { link: Link::new(relays, Carrier::Quic, now), now }
    }

    /// One that is online on connection 1, since long.
    fn online() -> Self {
        let mut bench = Self::new(1);
        bench.tick();
        bench.welcomed_on(1);
        bench.pass(STABLE);
        bench
    }

    fn commands(&mut self) -> Vec<Command> {
        std::iter::from_fn(|| self.link.next_command()).collect()
    }

    fn tick(&mut self) -> Vec<Command> {
        self.link.tick(self.now, 0, true);
        self.commands()
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// Moves the clock to the next timeout.
    fn wait(&mut self) -> Vec<Command> {
        self.now = self.link.next_timeout().expect("nothing to wait for").max(self.now);
        self.tick()
    }

    fn connected(&mut self, number: usize) -> Vec<Command> {
        self.link.on_connected(connection(number), 0, Carrier::Quic, self.now);
        self.commands()
    }

    fn welcomed_on(&mut self, number: usize) {
        assert_eq!(self.connected(number), [Command::Greet(connection(number))]);
        self.link.on_welcomed(connection(number), self.now, true);
        assert_eq!(self.commands().first(), Some(&Command::Online(connection(number))));
    }
}

fn dials(commands: &[Command]) -> Vec<(usize, Carrier)> {
    let dial = |command: &Command| match command {
        Command::Dial { relay, carrier } => Some((*relay, *carrier)),
        _ => None,
    };
    commands.iter().filter_map(dial).collect()
}

#[test]
fn the_preferred_carrier_has_a_head_start() {
    let mut bench = Bench::new(1);
    let begun = bench.now;
    assert_eq!(dials(&bench.tick()), [(0, Carrier::Quic)]);
    let mut seen = Vec::new();
    while seen.last() != Some(&(0, Carrier::Tcp)) {
        seen.extend(dials(&bench.wait()));
    }
    assert_eq!(bench.now - begun, HEAD_START);
}

#[test]
fn the_other_carrier_need_not_wait_for_one_that_failed() {
    let mut bench = Bench::new(1);
    bench.tick();
    bench.link.on_dial_failed(0, Carrier::Quic, Some("no route".to_owned()), bench.now);
    assert_eq!(dials(&bench.tick()), [(0, Carrier::Tcp)]);
}

#[test]
fn the_last_resort_is_for_when_all_others_have_failed_or_had_their_time() {
    let mut bench = Bench::new(1);
    let begun = bench.now;
    bench.tick();
    let mut seen = Vec::new();
    while seen.last() != Some(&(0, Carrier::WebSocket)) {
        seen.extend(dials(&bench.wait()));
    }
    assert_eq!(bench.now - begun, LAST_RESORT);

    let mut bench = Bench::new(1);
    bench.tick();
    bench.link.on_dial_failed(0, Carrier::Quic, Some("no route".to_owned()), bench.now);
    assert_eq!(dials(&bench.tick()), [(0, Carrier::Tcp)]);
    bench.link.on_dial_failed(0, Carrier::Tcp, Some("no route".to_owned()), bench.now);
    assert_eq!(dials(&bench.tick()), [(0, Carrier::WebSocket)]);
    bench.link.on_connected(connection(1), 0, Carrier::WebSocket, bench.now);
    bench.commands();
    assert!(bench.wait().contains(&Command::Greet(connection(1))));
    bench.link.on_welcomed(connection(1), bench.now, true);
    assert_eq!(bench.link.current(), Some(connection(1)));

    // Where it was what led to the relay, it is not waited for that long again.
    bench.pass(STABLE);
    bench.link.on_closed(connection(1), "gone", bench.now);
    let begun = bench.now;
    while !dials(&bench.wait()).contains(&(0, Carrier::WebSocket)) {}
    assert_eq!(bench.now - begun, KNOWN_RESORT);
}

/// Online over the last resort on connection 1, after all else has failed.
fn over_the_last_resort() -> Bench {
    let mut bench = Bench::new(1);
    bench.tick();
    for carrier in [Carrier::Quic, Carrier::Tcp] {
        bench.link.on_dial_failed(0, carrier, Some("no route".to_owned()), bench.now);
        bench.tick();
    }
    bench.link.on_connected(connection(1), 0, Carrier::WebSocket, bench.now);
    bench.link.on_dial_failed(0, Carrier::Quic, Some("no route".to_owned()), bench.now);
    bench.link.on_welcomed(connection(1), bench.now, true);
    assert_eq!(bench.commands().last(), Some(&Command::Online(connection(1))));
    bench
}

#[test]
fn who_came_by_the_last_resort_looks_for_a_better_way_now_and_then() {
    let mut bench = over_the_last_resort();
    let begun = bench.now;
    assert_eq!(dials(&bench.wait()), [(0, Carrier::Quic)]);
    assert_eq!(bench.now - begun, BETTER);
    bench.link.on_alive(connection(1));
    assert_eq!(dials(&bench.wait()), [(0, Carrier::Tcp)]);
    for carrier in [Carrier::Quic, Carrier::Tcp] {
        bench.link.on_dial_failed(0, carrier, Some("no route".to_owned()), bench.now);
    }
    while bench.now - begun < 2 * BETTER {
        let commands = bench.wait();
        assert!(bench.now - begun == 2 * BETTER || commands.is_empty(), "one try: {commands:?}");
    }
    let better = [Command::Online(connection(2)), Command::Close(connection(1))];
    assert_eq!(bench.connected(2), [Command::Greet(connection(2))]);
    bench.link.on_welcomed(connection(2), bench.now, true);
    assert_eq!(bench.commands(), better);
    assert_eq!(bench.link.next_timeout(), None, "there is no better one than this");
}

#[test]
fn nobody_looks_for_a_better_way_while_something_is_in_flight() {
    let mut bench = over_the_last_resort();
    bench.pass(BETTER);
    bench.link.tick(bench.now, 0, false);
    assert_eq!(bench.commands(), []);
    bench.pass(RECHECK);
    assert_eq!(dials(&bench.tick()), [(0, Carrier::Quic)]);
    bench.connected(2);
    bench.link.on_welcomed(connection(2), bench.now, false);
    assert_eq!(bench.commands(), [Command::Close(connection(2))], "something has begun");
    assert_eq!(bench.link.current(), Some(connection(1)));
    bench.pass(RECHECK);
    assert_eq!(dials(&bench.tick()), [(0, Carrier::Quic)]);
}

#[test]
fn what_is_refused_to_a_better_way_costs_the_session_that_stands_nothing() {
    let mut bench = over_the_last_resort();
    bench.wait();
    bench.connected(2);
    bench.link.on_refused(connection(2), refusal(Code::KeyRevoked), bench.now);
    assert_eq!(bench.commands(), [Command::Close(connection(2))]);
    assert_eq!(bench.link.current(), Some(connection(1)));
    bench.link.on_refused(connection(1), refusal(Code::KeyRevoked), bench.now);
    assert!(bench.commands().iter().any(|command| matches!(command, Command::GiveUp(_))));
}

#[test]
fn a_loss_while_a_better_way_is_looked_for_is_a_loss() {
    let mut bench = over_the_last_resort();
    bench.wait();
    bench.link.on_closed(connection(1), "gone", bench.now);
    let offline = |command: &Command| matches!(command, Command::Offline { reason, .. } if reason == "gone");
    assert!(bench.commands().iter().any(offline));
    while !dials(&bench.wait()).contains(&(0, Carrier::WebSocket)) {}
}

#[test]
fn who_is_reached_needs_no_last_resort() {
    let mut bench = Bench::new(1);
    bench.tick();
    bench.connected(1);
    // It does not greet, nor does anybody else answer: the search goes on as it began.
    let mut seen = Vec::new();
    while bench.now < bench.link.next_timeout().expect("a search") && seen.len() < 3 {
        seen.extend(dials(&bench.wait()));
    }
    assert!(!seen.is_empty() && seen.iter().all(|(_, carrier)| *carrier != Carrier::WebSocket), "{seen:?}");
}

#[test]
fn the_first_connection_is_greeted_and_others_are_closed() {
    let mut bench = Bench::new(1);
    bench.tick();
    assert_eq!(bench.connected(1), [Command::Greet(connection(1))]);
    assert_eq!(bench.connected(2), [Command::Close(connection(2))]);
    bench.link.on_welcomed(connection(1), bench.now, true);
    assert_eq!(bench.commands(), [Command::Online(connection(1))]);
    assert_eq!(bench.link.current(), Some(connection(1)));
    assert_eq!(bench.link.next_timeout(), None, "there is nothing left to do");
    assert_eq!(bench.connected(3), [Command::Close(connection(3))]);
}

#[test]
fn a_greeting_has_its_time() {
    let mut bench = Bench::new(1);
    bench.tick();
    bench.connected(1);
    let commands = bench.wait();
    assert_eq!(commands[0], Command::Close(connection(1)));
    assert!(!dials(&commands).is_empty(), "and the search goes on");
    bench.link.on_welcomed(connection(1), bench.now, true);
    assert_eq!(bench.link.current(), None, "a late welcome counts for nothing");
}

#[test]
fn after_a_loss_the_first_try_is_at_once_and_a_second_never_far() {
    let mut bench = Bench::online();
    let lost = bench.now;
    bench.link.on_closed(connection(1), "reset", bench.now);
    assert_eq!(bench.commands(), [Command::Offline { attempt: 0, reason: "reset".to_owned() }]);
    let mut tries = Vec::new();
    while bench.now < lost + Duration::from_secs(120) {
        for command in bench.wait() {
            match command {
                Command::Offline { .. } => tries.push(bench.now - lost),
                Command::Dial { carrier, .. } => {
                    bench.link.on_dial_failed(0, carrier, Some("refused".to_owned()), bench.now);
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(tries[0], Duration::ZERO);
    assert!(tries.windows(2).all(|pair| pair[1] - pair[0] <= 800 * MS), "{tries:?}");
    assert!(tries.len() > 60);
}

#[test]
fn dials_that_hang_are_bounded() {
    let mut bench = Bench::new(1);
    let mut begun = 0;
    for _ in 0..200 {
        begun += dials(&bench.wait()).len();
    }
    assert_eq!(begun, 3 * MOST_DIALS);
    bench.link.on_dial_failed(0, Carrier::Tcp, Some("timed out".to_owned()), bench.now);
    let next: Vec<_> = (0..4).flat_map(|_| dials(&bench.wait())).collect();
    assert_eq!(next, [(0, Carrier::Tcp)]);
}

#[test]
fn every_relay_has_its_turn() {
    let mut bench = Bench::new(3);
    let mut turns = Vec::new();
    while turns.len() < 6 {
        for (relay, carrier) in dials(&bench.wait()) {
            bench.link.on_dial_failed(relay, carrier, Some("refused".to_owned()), bench.now);
            if carrier == Carrier::Quic {
                turns.push(relay);
            }
        }
    }
    assert_eq!(turns, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn a_session_that_does_not_last_is_no_reason_to_hurry() {
    let mut bench = Bench::new(1);
    bench.tick();
    bench.welcomed_on(1);
    for number in 2..10 {
        bench.link.on_closed(connection(number - 1), "reset", bench.now);
        let lost = bench.now;
        bench.wait();
        assert!(bench.now - lost >= 100 * MS, "try {number} came after {:?}", bench.now - lost);
        bench.welcomed_on(number);
    }
}

#[test]
fn a_doubtful_connection_stays_until_another_is_welcomed() {
    let mut bench = Bench::online();
    bench.link.on_silent(connection(1), bench.now);
    assert!(!dials(&bench.tick()).is_empty());
    assert_eq!(bench.link.current(), Some(connection(1)), "what is in flight goes on");
    assert_eq!(bench.connected(2), [Command::Greet(connection(2))]);
    bench.link.on_welcomed(connection(2), bench.now, true);
    assert_eq!(bench.commands(), [Command::Online(connection(2)), Command::Close(connection(1))]);
    bench.link.on_closed(connection(1), "closed by us", bench.now);
    assert_eq!(bench.commands(), [], "the old one is nobody's business any more");
}

#[test]
fn a_false_alarm_ends_the_search() {
    let mut bench = Bench::online();
    bench.link.on_silent(connection(1), bench.now);
    bench.tick();
    bench.connected(2);
    bench.link.on_alive(connection(1));
    assert_eq!(bench.commands(), [Command::Close(connection(2))]);
    bench.link.on_welcomed(connection(2), bench.now, true);
    assert_eq!(bench.link.current(), Some(connection(1)));
    assert_eq!(bench.link.next_timeout(), None);
}

#[test]
fn lasting_silence_is_a_loss() {
    let mut bench = Bench::online();
    bench.link.on_silent(connection(1), bench.now);
    bench.pass(SILENCE - MS);
    bench.link.on_silent(connection(1), bench.now);
    assert_eq!(bench.commands(), [], "a congested path is given its time");
    bench.pass(MS);
    bench.link.on_silent(connection(1), bench.now);
    let commands = bench.commands();
    assert_eq!(commands[0], Command::Close(connection(1)));
    assert!(matches!(commands[1], Command::Offline { .. }));
    assert_eq!(bench.link.current(), None);
}

#[test]
fn a_final_refusal_ends_everything() {
    let mut bench = Bench::new(1);
    bench.tick();
    bench.connected(1);
    bench.link.on_refused(connection(1), refusal(Code::KeyRevoked), bench.now);
    let commands = bench.commands();
    assert!(commands.contains(&Command::GiveUp(refusal(Code::KeyRevoked))));
    assert!(commands.contains(&Command::Close(connection(1))));
    assert_eq!(bench.link.next_timeout(), None);
    bench.link.on_closed(connection(1), "closed", bench.now);
    assert_eq!(bench.tick(), []);
    assert_eq!(bench.connected(2), [Command::Close(connection(2))], "a dial that was under way");
}

#[test]
fn a_passing_refusal_is_tried_again_with_pauses() {
    let mut bench = Bench::new(1);
    bench.tick();
    let begun = bench.now;
    for number in 1..6 {
        bench.connected(number);
        bench.link.on_refused(connection(number), refusal(Code::RelayStale), bench.now);
        assert_eq!(bench.commands(), [Command::Close(connection(number))]);
        while dials(&bench.wait()).is_empty() {}
    }
    assert!(bench.now - begun >= 1000 * MS, "{:?}", bench.now - begun);
}

#[test]
fn a_false_relay_is_left_and_the_next_one_tried() {
    let mut bench = Bench::new(2);
    bench.tick();
    bench.connected(1);
    bench.link.on_false_relay(connection(1), "not a relay of this cluster", bench.now);
    assert_eq!(bench.commands(), [Command::Close(connection(1))]);
    let commands = bench.wait();
    assert_eq!(dials(&commands), [(1, Carrier::Quic)]);
    let reason = "not a relay of this cluster".to_owned();
    assert!(commands.contains(&Command::Offline { attempt: 2, reason }));
}

#[test]
fn a_goodbye_looks_for_a_new_connection_while_the_old_one_serves() {
    let mut bench = Bench::online();
    bench.link.on_goodbye(connection(1), refusal(Code::RelayUnreachable), bench.now);
    assert!(!dials(&bench.tick()).is_empty());
    assert_eq!(bench.link.current(), Some(connection(1)));
    bench.link.on_alive(connection(1));
    assert!(bench.link.next_timeout().is_some(), "that it still answers changes nothing");
    bench.welcomed_on(2);
    assert_eq!(bench.link.current(), Some(connection(2)));
}

#[test]
fn a_final_goodbye_ends_everything() {
    let mut bench = Bench::online();
    bench.link.on_goodbye(connection(1), refusal(Code::KeyExpired), bench.now);
    assert_eq!(bench.commands(), [Command::GiveUp(refusal(Code::KeyExpired))]);
    bench.link.on_ended(connection(1), "the relay closed the session", bench.now);
    assert_eq!(bench.commands(), [], "the relay closes the connection");
    bench.link.on_closed(connection(1), "closed", bench.now);
    assert_eq!(bench.link.next_timeout(), None);
}

#[test]
fn a_relay_that_does_not_close_after_its_last_goodbye_is_left() {
    let mut bench = Bench::online();
    bench.link.on_goodbye(connection(1), refusal(Code::KeyRevoked), bench.now);
    bench.commands();
    assert_eq!(bench.wait(), [Command::Close(connection(1))]);
    assert_eq!(bench.link.next_timeout(), None);
}

#[test]
fn a_session_that_ends_takes_its_connection_along() {
    let mut bench = Bench::online();
    bench.link.on_ended(connection(1), "the relay closed the session", bench.now);
    assert!(bench.commands().contains(&Command::Close(connection(1))));
    assert_eq!(bench.link.current(), None);
}

#[test]
fn what_other_connections_say_is_ignored() {
    let mut bench = Bench::online();
    bench.link.on_silent(connection(9), bench.now);
    bench.link.on_goodbye(connection(9), refusal(Code::KeyRevoked), bench.now);
    bench.link.on_refused(connection(9), refusal(Code::KeyRevoked), bench.now);
    bench.link.on_welcomed(connection(9), bench.now, true);
    bench.link.on_closed(connection(9), "gone", bench.now);
    assert_eq!(bench.commands(), []);
    assert_eq!(bench.link.current(), Some(connection(1)));
}

#[test]
fn the_other_carrier_waits_a_moment_for_the_preferred_one() {
    let connected = |bench: &mut Bench, number, carrier| {
        bench.link.on_connected(connection(number), 0, carrier, bench.now);
        bench.commands()
    };
    let again = Command::Dial { relay: 0, carrier: Carrier::Quic };

    let mut bench = Bench::new(1);
    bench.tick();
    assert_eq!(connected(&mut bench, 1, Carrier::Tcp), std::slice::from_ref(&again));
    let greeted = [Command::Close(connection(1)), Command::Greet(connection(2))];
    assert_eq!(connected(&mut bench, 2, Carrier::Quic), greeted);

    let mut bench = Bench::new(1);
    bench.tick();
    connected(&mut bench, 1, Carrier::Tcp);
    let begun = bench.now;
    assert_eq!(bench.wait(), [Command::Greet(connection(1))], "it has waited for long enough");
    assert_eq!(bench.now - begun, HEAD_START);

    let mut bench = Bench::new(1);
    bench.tick();
    connected(&mut bench, 1, Carrier::Tcp);
    bench.link.on_dial_failed(0, Carrier::Quic, None, bench.now);
    assert_eq!(bench.commands(), [Command::Greet(connection(1))], "there is nothing to wait for");

    let mut bench = Bench::new(1);
    bench.tick();
    connected(&mut bench, 1, Carrier::Tcp);
    bench.link.on_closed(connection(1), "reset", bench.now);
    assert!(!dials(&bench.wait()).is_empty(), "the search goes on");
}
