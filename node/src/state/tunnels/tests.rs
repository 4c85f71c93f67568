use super::*;

const UNIX: u64 = 1_800_000_000;
const INSTANCE: [u8; 16] = [7; 16];

struct Bench {
    tunnels: Tunnels,
    now: Instant,
    unix: u64,
}

fn name(text: &str) -> TunnelName {
    text.parse().unwrap()
}

fn wanted(name: TunnelName) -> Wanted {
    Wanted { name, kind: TunnelKind::Http, port: None, alone: false }
}

fn refusal(code: Code) -> Refusal {
    Refusal { code, message: "no".to_owned(), help: String::new() }
}

fn grant(life: u64) -> Grant {
    Grant {
        tunnel: TunnelId::from_bytes([1; 16]),
        name: name("web"),
        urls: vec!["https://web.example".to_owned()],
        expires_at: UNIX + life,
    }
}

impl Bench {
    fn new() -> Self {
        Self { tunnels: Tunnels::new(INSTANCE), now: Instant::now(), unix: UNIX }
    }

    /// With one tunnel that stands and whose credential ends in `life` seconds.
    fn live(life: u64) -> (Self, ShareId) {
        let mut bench = Self::new();
        bench.tunnels.on_online(bench.now);
        let id = bench.tunnels.add(wanted(name("web")), bench.now);
        let request = bench.request();
        bench.tunnels.on_registered(request, grant(life), bench.now, bench.unix);
        assert_eq!(bench.commands(), [Command::Ready(id, grant(life))]);
        (bench, id)
    }

    fn commands(&mut self) -> Vec<Command> {
        std::iter::from_fn(|| self.tunnels.next_command()).collect()
    }

    /// The number of the one registration that was sent.
    fn request(&mut self) -> u32 {
        match self.commands().as_slice() {
            [
                Command::Send(ToRelay::Register {
                    request,
                    name: asked,
                    kind: TunnelKind::Http,
                    instance,
                    port: None,
                    alone: false,
                }),
            ] => {
                assert_eq!((asked, *instance), (&name("web"), INSTANCE));
                *request
            }
            other => panic!("{other:?}"),
        }
    }

    /// Moves both clocks to the next timeout, and says by how many seconds.
    fn wait(&mut self) -> (u64, Vec<Command>) {
        let next = self.tunnels.next_timeout(self.now, self.unix).expect("nothing to wait for");
        let passed = next.saturating_duration_since(self.now);
        self.now += passed;
        self.unix += passed.as_secs();
        self.tunnels.tick(self.now, self.unix);
        (passed.as_secs(), self.commands())
    }
}

#[test]
fn others_that_serve_the_name_are_news_for_the_share_that_stands() {
    let (mut bench, share) = Bench::live(3600);
    bench.tunnels.on_backends(grant(1).tunnel, 2);
    assert_eq!(bench.commands(), [Command::Backends { share, count: 2 }]);
    bench.tunnels.on_backends(TunnelId::from_bytes([9; 16]), 2);
    assert_eq!(bench.commands(), [], "no share of ours");
    bench.tunnels.on_offline();
    bench.tunnels.on_backends(grant(1).tunnel, 3);
    assert_eq!(bench.commands(), [], "it does not stand");
}

#[test]
fn who_ends_says_so_where_others_can_take_its_visitors() {
    let (mut bench, _) = Bench::live(3600);
    bench.tunnels.leave();
    assert_eq!(bench.commands(), [], "it is the only one, and a relay may know nothing of others");
    let tunnel = grant(1).tunnel;
    bench.tunnels.on_backends(tunnel, 2);
    bench.commands();
    bench.tunnels.leave();
    assert_eq!(bench.commands(), [Command::Send(ToRelay::Leave { tunnel })]);
    bench.tunnels.on_offline();
    bench.tunnels.leave();
    assert_eq!(bench.commands(), []);
}

#[test]
fn who_wants_a_name_alone_says_so_each_time() {
    let mut bench = Bench::new();
    bench.tunnels.add(Wanted { alone: true, ..wanted(name("web")) }, bench.now);
    for _ in 0..2 {
        bench.tunnels.on_online(bench.now);
        let commands = bench.commands();
        assert!(
            matches!(&commands[..], [Command::Send(ToRelay::Register { alone: true, .. })]),
            "{commands:?}"
        );
    }
}

#[test]
fn a_tunnel_is_asked_for_once_a_session_stands() {
    let mut bench = Bench::new();
    let id = bench.tunnels.add(wanted(name("web")), bench.now);
    assert_eq!(bench.commands(), []);
    bench.tunnels.on_online(bench.now);
    let request = bench.request();
    bench.tunnels.on_registered(request, grant(3600), bench.now, UNIX);
    assert_eq!(bench.commands(), [Command::Ready(id, grant(3600))]);
}

#[test]
fn it_is_asked_for_again_after_a_loss_under_the_same_name_and_instance() {
    let (mut bench, id) = Bench::live(3600);
    bench.tunnels.on_offline();
    assert_eq!(bench.commands(), []);
    bench.tunnels.on_online(bench.now);
    let request = bench.request();
    bench.tunnels.on_registered(request, grant(3600), bench.now, UNIX);
    assert_eq!(bench.commands(), [Command::Ready(id, grant(3600))]);
}

#[test]
fn an_answer_of_an_earlier_session_counts_for_nothing() {
    let mut bench = Bench::new();
    bench.tunnels.add(wanted(name("web")), bench.now);
    bench.tunnels.on_online(bench.now);
    let stale = bench.request();
    bench.tunnels.on_offline();
    bench.tunnels.on_online(bench.now);
    let fresh = bench.request();
    assert_ne!(stale, fresh);
    bench.tunnels.on_refused(stale, refusal(Code::NameTaken), bench.now, 0);
    assert_eq!(bench.commands(), []);
}

#[test]
fn a_final_refusal_ends_the_share() {
    for code in
        [Code::NameTaken, Code::KeyRevoked, Code::TunnelLimit, Code::ScopeDenied, Code::BudgetExceeded]
    {
        let mut bench = Bench::new();
        bench.tunnels.on_online(bench.now);
        let share = bench.tunnels.add(wanted(name("web")), bench.now);
        let request = bench.request();
        bench.tunnels.on_refused(request, refusal(code), bench.now, 0);
        assert_eq!(bench.commands(), [Command::Ended { share, refusal: refusal(code) }]);
        bench.tunnels.on_online(bench.now);
        assert_eq!(bench.commands(), [], "it is not asked for again");
    }
}

#[test]
fn a_passing_refusal_is_asked_again_with_growing_pauses() {
    let mut bench = Bench::new();
    bench.tunnels.on_online(bench.now);
    let share = bench.tunnels.add(wanted(name("web")), bench.now);
    let begun = bench.now;
    for attempt in 1..6 {
        let request = bench.request();
        bench.tunnels.on_refused(request, refusal(Code::RelayStale), bench.now, 0);
        assert_eq!(bench.commands(), [Command::Waiting { share, attempt, reason: "no".to_owned() }]);
        let next = bench.tunnels.next_timeout(bench.now, bench.unix).unwrap();
        bench.now = next;
        bench.tunnels.tick(next, bench.unix);
    }
    assert_eq!(bench.now - begun, Duration::from_millis(100 + 200 + 400 + 800 + 800));
}

#[test]
fn a_relay_that_does_not_answer_is_asked_again() {
    let mut bench = Bench::new();
    bench.tunnels.on_online(bench.now);
    bench.tunnels.add(wanted(name("web")), bench.now);
    let first = bench.request();
    let (passed, commands) = bench.wait();
    assert_eq!(passed, ANSWER.as_secs());
    assert!(matches!(&commands[..], [Command::Send(ToRelay::Register { request, .. })] if *request != first));
}

#[test]
fn closing_by_the_relay_is_judged_by_its_code() {
    let (mut bench, share) = Bench::live(3600);
    let tunnel = grant(0).tunnel;
    bench.tunnels.on_closed(TunnelId::from_bytes([9; 16]), refusal(Code::KeyRevoked), bench.now, 0);
    assert_eq!(bench.commands(), [], "another tunnel's end is not ours");
    bench.tunnels.on_closed(tunnel, refusal(Code::RelayStale), bench.now, 0);
    assert!(matches!(&bench.commands()[..], [Command::Waiting { .. }]));

    let (mut bench, again) = Bench::live(3600);
    bench.tunnels.on_closed(tunnel, refusal(Code::KeyRevoked), bench.now, 0);
    assert_eq!(bench.commands(), [Command::Ended { share: again, refusal: refusal(Code::KeyRevoked) }]);
    assert_eq!(share, again);
}

#[test]
fn it_ends_by_itself_when_the_credential_does() {
    for (life, warned_before) in [(3600, 300), (100, 10), (9, 0)] {
        let (mut bench, share) = Bench::live(life);
        let mut events = Vec::new();
        while events.len() < if warned_before > 0 { 2 } else { 1 } {
            let (_, commands) = bench.wait();
            events.extend(commands.into_iter().filter_map(|command| match command {
                Command::Expiring { share: id, expires_at } if id == share => {
                    Some(("warned", expires_at - bench.unix))
                }
                Command::Ended { share: id, refusal } if id == share => {
                    assert_eq!(refusal.code, Code::KeyExpired);
                    Some(("ended", bench.unix - UNIX))
                }
                Command::Send(ToRelay::Unregister { .. }) => None,
                other => panic!("{other:?}"),
            }));
        }
        if warned_before > 0 {
            assert_eq!(events, [("warned", warned_before), ("ended", life)]);
        } else {
            assert_eq!(events, [("ended", life)]);
        }
        assert_eq!(bench.tunnels.next_timeout(bench.now, bench.unix), None);
    }
}

#[test]
fn it_ends_while_no_relay_is_there_to_say_so() {
    let (mut bench, share) = Bench::live(60);
    bench.tunnels.on_offline();
    bench.unix += 60;
    bench.tunnels.tick(bench.now, bench.unix);
    let commands = bench.commands();
    assert!(
        matches!(&commands[..], [Command::Ended { share: id, refusal }]
            if *id == share && refusal.code == Code::KeyExpired),
        "{commands:?}"
    );
}

#[test]
fn a_clock_that_is_set_is_noticed() {
    let (bench, _) = Bench::live(3600);
    let next = bench.tunnels.next_timeout(bench.now, bench.unix).unwrap();
    assert!(next - bench.now <= LOOK);
}

#[test]
fn what_is_not_wanted_is_given_back() {
    let (mut bench, share) = Bench::live(3600);
    let tunnel = grant(0).tunnel;
    bench.tunnels.remove(share);
    assert_eq!(bench.commands(), [Command::Send(ToRelay::Unregister { tunnel })]);

    let late = bench.tunnels.add(wanted(name("web")), bench.now);
    let request = bench.request();
    bench.tunnels.remove(late);
    bench.tunnels.on_registered(request, grant(3600), bench.now, UNIX);
    assert_eq!(bench.commands(), [Command::Send(ToRelay::Unregister { tunnel })], "granted too late");
}

#[test]
fn a_name_is_wanted_once() {
    let (mut bench, share) = Bench::live(3600);
    assert!(bench.tunnels.has(&name("web")) && !bench.tunnels.has(&name("other")));
    bench.tunnels.remove(share);
    assert!(!bench.tunnels.has(&name("web")));
}

#[test]
fn all_end_for_one_reason() {
    let (mut bench, share) = Bench::live(3600);
    bench.tunnels.end_all(&refusal(Code::KeyRevoked));
    assert_eq!(bench.commands(), [Command::Ended { share, refusal: refusal(Code::KeyRevoked) }]);
    assert!(!bench.tunnels.has(&name("web")));
}

#[test]
fn many_are_asked_for_a_few_at_a_time() {
    let mut bench = Bench::new();
    for number in 0..20 {
        bench.tunnels.add(wanted(name(&format!("web-{number}"))), bench.now);
    }
    bench.tunnels.on_online(bench.now);
    let mut granted = 0;
    let mut open: VecDeque<u32> = VecDeque::new();
    loop {
        open.extend(bench.commands().into_iter().filter_map(|command| match command {
            Command::Send(ToRelay::Register { request, .. }) => Some(request),
            _ => None,
        }));
        assert!(open.len() <= MOST_ASKED);
        let Some(request) = open.pop_front() else { break };
        bench.tunnels.on_registered(request, grant(3600), bench.now, UNIX);
        granted += 1;
    }
    assert_eq!(granted, 20);
}
