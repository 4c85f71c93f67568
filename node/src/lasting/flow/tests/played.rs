//! Streams on a network that cuts and delays as it likes, played step by step.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

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
