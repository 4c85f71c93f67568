use std::collections::VecDeque;

use proptest::prelude::*;

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

/// A leg of the simulated network: bytes under way, each direction on its own, for as long as it is not cut.
#[derive(Default)]
struct Wire {
    beginning: Option<Beginning>,
    to_other: VecDeque<u8>,
    to_opener: VecDeque<u8>,
    is_cut: bool,
}

/// Two ends, the legs between them, and what their owners have written and read.
struct World {
    ends: [Flow; 2],
    legs: Vec<Wire>,
    written: [Vec<u8>; 2],
    read: [Vec<u8>; 2],
    wanted: [usize; 2],
    /// Of the other end: whether it knows the stream.
    has_met: bool,
    /// The other end has the stream no more; what it says of it.
    last_word: Option<[u8; 1]>,
}

/// What happens next.
#[derive(Debug, Clone)]
enum Step {
    Write(bool, usize),
    Read(bool),
    Transmit(bool, usize),
    Deliver(usize, bool, usize),
    Begin,
    Meet(usize),
    Cut(usize),
    Break(bool),
    /// The other end puts it away.
    Bury,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any::<bool>(), 1usize..30_000).prop_map(|(end, count)| Step::Write(end, count)),
        4 => any::<bool>().prop_map(Step::Read),
        6 => (any::<bool>(), 1usize..40_000).prop_map(|(end, most)| Step::Transmit(end, most)),
        8 => (any::<usize>(), any::<bool>(), 1usize..40_000).prop_map(|(leg, way, most)| Step::Deliver(leg, way, most)),
        1 => Just(Step::Begin),
        4 => any::<usize>().prop_map(Step::Meet),
        1 => any::<usize>().prop_map(Step::Cut),
    ]
}

/// Also what ends a stream early.
fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        60 => step(),
        1 => any::<bool>().prop_map(Step::Break),
        1 => Just(Step::Bury),
    ]
}

impl World {
    fn new(wanted: [usize; 2]) -> Self {
        let empty = || [Vec::new(), Vec::new()];
        Self {
            ends: [flow(), flow()],
            legs: Vec::new(),
            written: empty(),
            read: empty(),
            wanted,
            has_met: false,
            last_word: None,
        }
    }

    fn leg(&mut self, number: usize) -> Option<(usize, &mut Wire)> {
        let count = self.legs.len();
        (count > 0).then(|| (number % count, &mut self.legs[number % count]))
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Write(end, count) => self.write(usize::from(end), count),
            Step::Read(end) => self.read(usize::from(end)),
            Step::Transmit(end, most) => self.transmit(usize::from(end), most),
            Step::Deliver(leg, way, most) => self.deliver(leg, way, most),
            Step::Begin => self.begin(),
            Step::Meet(leg) => self.meet(leg),
            Step::Break(end) => self.ends[usize::from(end)].break_off(),
            Step::Bury => self.bury(),
            Step::Cut(leg) => {
                if let Some((number, leg)) = self.leg(leg) {
                    leg.is_cut = true;
                    for end in &mut self.ends {
                        end.detach(number as u32, now());
                    }
                }
            }
        }
        for end in &self.ends {
            assert!(end.outgoing.bytes.len() <= LIMITS.window && end.incoming.unread.len() <= LIMITS.window);
        }
    }

    /// Bytes that tell their place.
    fn write(&mut self, end: usize, count: usize) {
        let from = self.written[end].len();
        let to = (from + count).min(self.wanted[end]);
        let bytes: Vec<u8> =
            (from..to).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8 ^ end as u8).collect();
        let taken = self.ends[end].write(&bytes);
        self.written[end].extend(&bytes[..taken]);
        if self.written[end].len() == self.wanted[end] {
            self.ends[end].finish();
        }
    }

    fn read(&mut self, end: usize) {
        let came = read(&mut self.ends[end]);
        self.read[end].extend(came);
        let sent = &self.written[1 - end];
        assert!(sent.starts_with(&self.read[end]), "lost, doubled or out of order");
    }

    fn transmit(&mut self, end: usize, most: usize) {
        let Flow { leg, next, .. } = &self.ends[end];
        let attempts: Vec<Attempt> = [leg, next].into_iter().flatten().map(|leg| leg.attempt).collect();
        for attempt in attempts {
            let mut bytes = Vec::new();
            self.ends[end].transmit(attempt, &mut bytes, most);
            let wire = &mut self.legs[attempt as usize];
            // What is written to a leg that is cut is gone.
            if !wire.is_cut {
                if end == 0 { &mut wire.to_other } else { &mut wire.to_opener }.extend(bytes);
            }
        }
    }

    /// Also what was under way when the leg was cut may still arrive, at any time.
    fn deliver(&mut self, leg: usize, to_other: bool, most: usize) {
        let Some((number, wire)) = self.leg(leg) else { return };
        if to_other && wire.beginning.is_some() {
            return;
        }
        let queue = if to_other { &mut wire.to_other } else { &mut wire.to_opener };
        let bytes: Vec<u8> = queue.iter().take(most).copied().collect();
        let taken = self.ends[usize::from(to_other)].on_bytes(number as u32, &bytes).unwrap();
        let wire = &mut self.legs[number];
        let queue = if to_other { &mut wire.to_other } else { &mut wire.to_opener };
        queue.drain(..taken);
    }

    fn begin(&mut self) {
        let beginning = self.ends[0].begin(now());
        assert_eq!(beginning.attempt as usize, self.legs.len());
        self.legs.push(Wire { beginning: Some(beginning), ..Wire::default() });
    }

    /// The beginning of a leg arrives, which may be long after that of a later one.
    fn meet(&mut self, leg: usize) {
        let (met, last_word) = (self.has_met, self.last_word);
        let Some((number, wire)) = self.leg(leg) else { return };
        let Some(beginning) = wire.beginning.take() else { return };
        if let Some(word) = last_word {
            wire.to_opener.extend(word);
            return;
        }
        if !met && !beginning.fresh {
            return;
        }
        self.has_met = true;
        self.ends[1].attach(beginning.attempt, beginning.received, now()).unwrap();
        if self.legs[number].is_cut {
            self.ends[1].detach(number as u32, now());
        }
    }

    /// Its last words on the leg are those that were transmitted.
    fn bury(&mut self) {
        if self.has_met && self.last_word.is_none() {
            let is_done = self.ends[1].standing() == Standing::Done;
            self.last_word = Some(if is_done { frames::ALL } else { frames::NOTHING });
            if !is_done {
                self.ends[1].break_off();
            }
        }
    }

    /// An end that takes a stream for done has all of the other, and the other has all of it.
    fn is_whole_where_it_is_done(&self) -> bool {
        let is_whole = |end: usize| {
            self.written[end].len() == self.wanted[end] && self.read[1 - end] == self.written[end]
        };
        self.ends.iter().all(|end| end.standing() != Standing::Done || (is_whole(0) && is_whole(1)))
    }

    /// From here on nothing is cut: everything must come to its end.
    fn settle(&mut self) {
        self.begin();
        let last = self.legs.len() - 1;
        self.meet(last);
        for _ in 0..1000 {
            for end in [0, 1] {
                self.write(end, 30_000);
                self.transmit(end, 100_000);
                self.deliver(last, end == 0, 100_000);
                self.read(1 - end);
            }
            if self.ends.iter().all(|end| end.standing() == Standing::Done) {
                break;
            }
        }
        for end in [0, 1] {
            assert_eq!(self.ends[end].standing(), Standing::Done);
            assert!(self.read[end] == self.written[1 - end] && self.written[end].len() == self.wanted[end]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn nothing_is_lost_doubled_or_out_of_order_whatever_becomes_of_the_legs(
        wanted in [0usize..200_000, 0usize..200_000],
        steps in prop::collection::vec(step(), 0..400),
    ) {
        let mut world = World::new(wanted);
        world.begin();
        for step in steps {
            world.take(step);
        }
        world.settle();
    }

    #[test]
    fn what_looks_done_is_whole_also_when_an_end_breaks_it_off_or_forgets_it(
        wanted in [0usize..60_000, 0usize..60_000],
        steps in prop::collection::vec(any_step(), 0..600),
    ) {
        let mut world = World::new(wanted);
        world.begin();
        for step in steps {
            world.take(step);
            prop_assert!(world.is_whole_where_it_is_done());
        }
        if world.ends[1].standing() != Standing::Open {
            world.bury();
        }
        // Who has broken it off begins no more legs.
        if world.ends[0].standing() == Standing::Open {
            world.begin();
        }
        for _ in 0..100 {
            for leg in 0..world.legs.len() {
                world.meet(leg);
                for end in [0, 1] {
                    world.write(end, 30_000);
                    world.transmit(end, 100_000);
                    world.deliver(leg, end == 0, 100_000);
                    world.read(1 - end);
                }
            }
            prop_assert!(world.is_whole_where_it_is_done());
        }
        // Whatever has become of it, nobody waits for more on a leg that stands.
        prop_assert!(world.ends[0].standing() != Standing::Open);
        prop_assert!(world.ends[1].standing() != Standing::Open || world.ends[1].leg.is_none());
    }

    #[test]
    fn whatever_a_leg_brings_is_taken_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let (_, mut other) = pair();
        let mut rest = &bytes[..];
        while let Ok(taken) = other.on_bytes(0, rest) {
            if taken == 0 || rest.len() == taken {
                break;
            }
            rest = &rest[taken..];
            read(&mut other);
        }
        prop_assert!(other.incoming.unread.len() <= LIMITS.window);
    }
}
