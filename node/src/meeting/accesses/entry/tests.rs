use mytunnel_keys::secret::Seed;

use super::{super::RESTART, *};

fn refusal(code: Code) -> Refusal {
    Refusal { code, message: String::new(), help: String::new() }
}

fn entry(lines: &[LineState], now: Instant) -> Entry {
    Entry::new("box".parse().unwrap(), lines, broadcast::channel(1).0, watch::channel(None).0, now)
}

fn online() -> LineState {
    LineState::Online("/ip4/127.0.0.1/tcp/1".parse().unwrap())
}

#[test]
fn a_name_that_was_there_is_not_given_up_because_one_relay_does_not_know_it() {
    let now = Instant::now();
    let lines = [online(), LineState::Away { since: now }];
    let mut entry = entry(&lines, now);
    entry.on_nowhere(0, refusal(Code::NotFound));
    entry.faith.on_reached(Seed::from_bytes([1; 32]).public());
    entry.conclude(&lines, now + 100 * RESTART);
    assert!(!entry.is_over, "the relay that leads to it may come back, whenever that is");
    entry.on_nowhere(0, refusal(Code::ScopeDenied));
    entry.conclude(&lines, now + 100 * RESTART);
    assert!(entry.is_over, "that it may not be reached passes for no relay");
}

#[test]
fn a_name_that_was_never_there_is_given_up_when_the_other_relay_had_time_to_restart() {
    let now = Instant::now();
    let lines = [online(), LineState::Away { since: now }];
    let mut entry = entry(&lines, now);
    assert!(entry.gives_up(&lines, now).is_none(), "nobody has said anything");
    entry.on_nowhere(0, refusal(Code::NotFound));
    assert_eq!(entry.gives_up(&lines, now).map(|(at, _)| at), Some(now + RESTART));
    for other in [LineState::Connecting, online()] {
        assert!(entry.gives_up(&[online(), other], now).is_none(), "it may know the name");
    }
    entry.conclude(&lines, now + RESTART - Duration::from_millis(1));
    assert!(!entry.is_over);
    entry.conclude(&lines, now + RESTART);
    assert!(entry.is_over && entry.gives_up(&lines, now).is_none());
}
