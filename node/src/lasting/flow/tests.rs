mod played;

use super::*;

const LIMITS: Limits = Limits { window: 70_000, patience: Duration::from_secs(60) };

fn now() -> Instant {
    Instant::now()
}

fn flow() -> Flow {
    Flow::new(LIMITS, now())
}

/// Two ends with a leg between them.
fn pair() -> (Flow, Flow) {
    let (mut opener, mut other) = (flow(), flow());
    meet(&mut opener, &mut other);
    (opener, other)
}

/// A new leg, agreed upon.
fn meet(opener: &mut Flow, other: &mut Flow) {
    let beginning = opener.begin(now());
    assert!(other.attach(beginning.attempt, beginning.received, now()).unwrap());
    carry(other, opener);
}

/// Everything that `from` has to say on the newest leg reaches `to`.
fn carry(from: &mut Flow, to: &mut Flow) {
    let bytes = say(from);
    let leg = from.leg.as_ref().expect("a leg to carry it").attempt;
    let taken = to.on_bytes(leg, &bytes).unwrap();
    assert_eq!(taken, bytes.len());
}

/// Everything that an end has to say on the leg that carries the stream.
fn say(flow: &mut Flow) -> Vec<u8> {
    let leg = flow.leg.as_ref().expect("a leg to say it on").attempt;
    let mut bytes = Vec::new();
    flow.transmit(leg, &mut bytes, usize::MAX);
    bytes
}

fn read(flow: &mut Flow) -> Vec<u8> {
    let mut read = Vec::new();
    while !flow.readable().is_empty() {
        read.extend(flow.readable());
        flow.consume(flow.readable().len());
    }
    read
}

#[test]
fn a_stream_ends_each_way_on_its_own_and_both_ends_know_it() {
    let (mut opener, mut other) = pair();
    assert_eq!(opener.write(b"question"), 8);
    opener.finish();
    carry(&mut opener, &mut other);
    assert_eq!(read(&mut other), b"question");
    assert!(other.has_ended());
    carry(&mut other, &mut opener);
    assert_eq!((opener.standing(), other.standing()), (Standing::Open, Standing::Open));
    other.write(b"answer");
    other.finish();
    carry(&mut other, &mut opener);
    assert_eq!(read(&mut opener), b"answer");
    carry(&mut opener, &mut other);
    assert_eq!((opener.standing(), other.standing()), (Standing::Done, Standing::Done));
}

#[test]
fn what_was_lost_with_a_leg_comes_on_the_next() {
    let (mut opener, mut other) = pair();
    opener.write(b"lost");
    say(&mut opener);
    other.write(b"lost too");
    other.finish();
    say(&mut other);
    meet(&mut opener, &mut other);
    carry(&mut opener, &mut other);
    carry(&mut other, &mut opener);
    assert_eq!(read(&mut other), b"lost");
    assert_eq!((read(&mut opener), opener.has_ended()), (b"lost too".to_vec(), true));
}

#[test]
fn what_comes_late_on_an_older_leg_is_thrown_away() {
    let (mut opener, mut other) = pair();
    opener.write(b"once");
    let late = say(&mut opener);
    meet(&mut opener, &mut other);
    carry(&mut opener, &mut other);
    assert_eq!(other.on_bytes(0, &late), Ok(late.len()));
    assert_eq!(read(&mut other), b"once");
    assert!(!other.attach(0, 0, now()).unwrap(), "and an older leg is not taken");
    assert!(!other.attach(1, 0, now()).unwrap(), "nor the same one twice");
}

#[test]
fn who_writes_waits_until_it_is_read_and_the_leg_is_never_left_unread() {
    let (mut opener, mut other) = pair();
    let much = vec![7; 2 * LIMITS.window];
    assert_eq!(opener.write(&much), LIMITS.window);
    assert_eq!((opener.write(b"more"), opener.room()), (0, 0));
    carry(&mut opener, &mut other);
    assert_eq!(
        other.incoming.unread.len(),
        LIMITS.window,
        "nothing is left on the leg, though nobody reads it"
    );
    assert_eq!(read(&mut other).len(), LIMITS.window);
    other.write(b"!");
    carry(&mut other, &mut opener);
    assert_eq!(opener.room(), LIMITS.window);
    assert!(opener.outgoing.bytes.capacity() <= KEPT, "an idle stream holds no large buffer");
}

#[test]
fn a_leg_that_is_begun_costs_the_one_that_carries_nothing_until_the_other_end_answers() {
    let (mut opener, mut other) = pair();
    let beginning = opener.begin(now());
    opener.write(b"while ");
    carry(&mut opener, &mut other);
    other.write(b"it waits");
    carry(&mut other, &mut opener);
    assert_eq!((read(&mut other), read(&mut opener)), (b"while ".to_vec(), b"it waits".to_vec()));
    carry(&mut opener, &mut other);
    // The other end has heard that eight bytes were read since the leg was begun, before it hears of that.
    assert_eq!(beginning.received, 0);
    assert!(other.attach(beginning.attempt, beginning.received, now()).unwrap());
    other.write(b", once");
    opener.write(b"lost on the old leg");
    say(&mut opener);
    carry(&mut other, &mut opener);
    assert!(opener.is_on(beginning.attempt));
    assert_eq!(read(&mut opener), b", once");
    carry(&mut opener, &mut other);
    assert_eq!(read(&mut other), b"lost on the old leg");
}

#[test]
fn what_came_on_the_earlier_leg_meanwhile_is_passed_over_on_the_new_one_its_end_too() {
    let (mut opener, mut other) = pair();
    let beginning = opener.begin(now());
    other.write(b"twice");
    other.finish();
    carry(&mut other, &mut opener);
    assert!(opener.has_ended());
    assert!(other.attach(beginning.attempt, beginning.received, now()).unwrap());
    carry(&mut other, &mut opener);
    assert_eq!(read(&mut opener), b"twice");
    opener.finish();
    carry(&mut opener, &mut other);
    carry(&mut other, &mut opener);
    assert_eq!((opener.standing(), other.standing()), (Standing::Done, Standing::Done));
}

#[test]
fn the_last_word_is_said_on_the_leg_that_the_other_end_has_gone_over_to() {
    let (mut opener, mut other) = pair();
    for end in [&mut opener, &mut other] {
        end.finish();
    }
    carry(&mut opener, &mut other);
    carry(&mut other, &mut opener);
    let beginning = opener.begin(now());
    say(&mut opener);
    assert_eq!(opener.standing(), Standing::Open, "that word is lost with the leg");
    assert!(other.attach(beginning.attempt, beginning.received, now()).unwrap());
    carry(&mut other, &mut opener);
    carry(&mut opener, &mut other);
    assert_eq!((opener.standing(), other.standing()), (Standing::Done, Standing::Done));
}

#[test]
fn a_leg_that_leads_nowhere_is_left_and_the_earlier_one_goes_on() {
    let (mut opener, mut other) = pair();
    let start = now();
    let beginning = opener.begin(start);
    assert_eq!(opener.late(start + ANSWER - Duration::from_millis(1)), None);
    assert_eq!(opener.poll_timeout(), Some(start + ANSWER));
    assert_eq!(opener.late(start + ANSWER), Some(beginning.attempt));
    opener.detach(beginning.attempt, start + ANSWER);
    assert_eq!(opener.poll_timeout(), None);
    opener.write(b"on");
    carry(&mut opener, &mut other);
    assert_eq!(read(&mut other), b"on");
    // Lost while another is begun, it leaves the stream to that.
    let beginning = opener.begin(now());
    opener.detach(0, now());
    assert!(opener.is_on(beginning.attempt) && opener.poll_timeout().is_some());
}

#[test]
fn a_break_reaches_the_other_end_and_ends_both() {
    let (mut opener, mut other) = pair();
    other.break_off();
    assert_eq!(other.standing(), Standing::Broken);
    carry(&mut other, &mut opener);
    assert_eq!(opener.standing(), Standing::Broken);
}

#[test]
fn without_a_leg_it_is_lost_after_its_patience() {
    let start = now();
    let mut opener = Flow::new(LIMITS, start);
    assert!(!opener.is_lost(start + LIMITS.patience - Duration::from_millis(1)));
    assert!(opener.is_lost(start + LIMITS.patience));
    opener.begin(start);
    let mut answer = Vec::new();
    frames::put_have(&mut answer, 0, 0);
    opener.on_bytes(0, &answer).unwrap();
    assert_eq!(opener.poll_timeout(), None);
    let later = start + 9 * LIMITS.patience;
    opener.detach(0, later);
    assert_eq!(opener.poll_timeout(), Some(later + LIMITS.patience));
    opener.begin(later + LIMITS.patience / 2);
    assert!(opener.is_lost(later + LIMITS.patience), "a try is no leg");
}

#[test]
fn a_break_comes_wherever_the_other_end_is_while_the_stream_moves() {
    // It has heard of the new leg, and left the earlier one; or it has not; or there was no earlier one.
    for (has_heard, is_first_lost) in [(true, false), (false, false), (true, true)] {
        let (mut opener, mut other) = pair();
        if is_first_lost {
            opener.detach(0, now());
        }
        let beginning = opener.begin(now());
        if has_heard {
            assert!(other.attach(beginning.attempt, beginning.received, now()).unwrap());
        }
        opener.break_off();
        for leg in [0, 1] {
            let mut bytes = Vec::new();
            opener.transmit(leg, &mut bytes, usize::MAX);
            assert_eq!(other.on_bytes(leg, &bytes), Ok(bytes.len()));
            opener.transmit(leg, &mut bytes, usize::MAX);
            assert!(bytes.len() <= 1, "it is said once on each");
        }
        assert_eq!(other.standing(), Standing::Broken);
    }
}

/// The opener's end, which has the other's end and has sent all, on a leg that may have lost it.
fn all_sent() -> Flow {
    let (mut opener, mut other) = pair();
    other.finish();
    carry(&mut other, &mut opener);
    opener.write(b"all");
    opener.finish();
    say(&mut opener);
    opener.begin(now());
    opener
}

#[test]
fn a_stream_that_the_other_end_has_no_more_is_done_only_if_that_says_so() {
    let mut opener = all_sent();
    opener.on_bytes(1, &frames::ALL).unwrap();
    assert_eq!(opener.standing(), Standing::Done, "only the last word of it is missing");
    let mut opener = all_sent();
    opener.on_bytes(1, &frames::NOTHING).unwrap();
    assert_eq!(opener.standing(), Standing::Broken, "what was sent may have been lost with its leg");
    for word in [frames::ALL, frames::NOTHING] {
        let (mut opener, _) = pair();
        opener.write(b"some");
        opener.begin(now());
        opener.on_bytes(1, &word).unwrap();
        assert_eq!(opener.standing(), Standing::Broken, "it cannot be done before our end has come");
        let (mut opener, _) = pair();
        assert_eq!(opener.on_bytes(0, &word), Err(Violation), "it knows the stream");
    }
}

#[test]
fn positions_that_cannot_be_are_refused() {
    let (mut opener, mut other) = pair();
    opener.write(b"four");
    carry(&mut opener, &mut other);
    read(&mut other);
    other.write(b"!");
    carry(&mut other, &mut opener);
    for (attempt, wrong, why) in [(1, 3, "it had four"), (2, 5, "five were never sent")] {
        opener.begin(now());
        let mut answer = Vec::new();
        frames::put_have(&mut answer, wrong, 0);
        assert_eq!(opener.on_bytes(attempt, &answer), Err(Violation), "{why}");
    }
    let mut lie = Vec::new();
    frames::put_ack(&mut lie, 9);
    assert_eq!(other.on_bytes(0, &lie), Err(Violation));
    let (_, mut other) = pair();
    let mut too_much = Vec::new();
    for _ in 0..=LIMITS.window / frames::MOST {
        frames::put_data(&mut too_much, &[0; frames::MOST]);
    }
    assert_eq!(other.on_bytes(0, &too_much), Err(Violation), "more than the window");
    let (_, mut other) = pair();
    let mut after_end = Vec::new();
    frames::put_end(&mut after_end);
    frames::put_data(&mut after_end, b"more");
    assert_eq!(other.on_bytes(0, &after_end), Err(Violation));
}
