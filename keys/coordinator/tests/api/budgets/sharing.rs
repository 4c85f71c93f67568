//! Relays that share one budget, whatever happens to them and to what they say.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use mytunnel_keys::id::{PublicKey, Serial};
use mytunnel_keys::usage::{MICRO, Meter, Month, Prices, Standing, Tell, Told, Usage};
use serde_json::Value;

use crate::support::{By, House, Key, Lab, random};

/// What a relay hands on before it looks whether it may go on.
const CHUNK: u64 = 64 * 1024;
const RELAYS: usize = 3;

/// A small generator of numbers that are the same each time (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// A relay's process.
struct Process {
    relay: PublicKey,
    meter: Meter,
}

/// Relays, the one coordinator, and messages that come late, twice or never.
struct World<'a> {
    lab: &'a Lab,
    master: Serial,
    children: Vec<Serial>,
    processes: Vec<Process>,
    /// Messages and answers that are on their way, by the relay.
    messages: Vec<Tell>,
    answers: Vec<(usize, Told)>,
    now: Instant,
    /// Processes that there ever were.
    lives: u64,
    /// Bytes that really went through, by child.
    carried: HashMap<Serial, u64>,
    /// The furthest totals that reached the coordinator, by process and child and run.
    arrived: HashMap<([u8; 16], Serial, u64), u64>,
}

impl World<'_> {
    fn begin(&mut self, at: usize, incarnation: [u8; 16]) {
        self.lives += 1;
        let mut meter = Meter::new(incarnation);
        meter.set_standing(self.master, Standing::Limited);
        for child in &self.children {
            meter.open(*child, Some(self.master));
        }
        self.processes[at].meter = meter;
    }

    fn month(&self) -> Month {
        self.lab.month()
    }

    /// A burst of chunks, each let through only while something is left.
    fn carry(&mut self, at: usize, child: Serial, chunks: u64) {
        let month = self.month();
        let meter = &mut self.processes[at].meter;
        for _ in 0..chunks {
            if meter.left(&self.master, self.now) == Some(0) {
                return;
            }
            meter.count(child, Some(self.master), month, Usage { bytes_out: CHUNK, ..Usage::default() });
            *self.carried.entry(child).or_default() += CHUNK;
        }
    }

    async fn deliver(&mut self, message: usize, again: bool) {
        let tell = if again { self.messages[message].clone() } else { self.messages.swap_remove(message) };
        let at = self.processes.iter().position(|process| process.meter_is(&tell));
        let relay = at.map_or(self.processes[0].relay, |at| self.processes[at].relay);
        // A message of a process that is gone is of its relay all the same.
        let relay = self.relay_of(&tell).unwrap_or(relay);
        let told = self.lab.tell(relay, tell.clone()).await;
        for count in &tell.counts {
            let furthest = self.arrived.entry((tell.incarnation, count.serial, count.run)).or_default();
            // Later messages have all that earlier ones had.
            *furthest = (*furthest).max(count.total.bytes_out);
        }
        if let Some(at) = at {
            self.answers.push((at, told));
        }
    }

    fn relay_of(&self, tell: &Tell) -> Option<PublicKey> {
        self.processes.get(usize::from(tell.incarnation[0])).map(|process| process.relay)
    }

    async fn step(&mut self, dice: &mut Dice) {
        let at = usize::try_from(dice.below(RELAYS as u64)).unwrap();
        match dice.below(20) {
            0..8 => {
                let child = self.children[usize::try_from(dice.below(2)).unwrap()];
                self.carry(at, child, dice.below(800));
            }
            8..12 => {
                if let Some(tell) = self.processes[at].meter.next(self.now) {
                    self.messages.push(tell);
                }
            }
            12..16 if !self.messages.is_empty() => {
                let message = usize::try_from(dice.below(self.messages.len() as u64)).unwrap();
                let again = dice.below(4) == 0;
                self.deliver(message, again).await;
            }
            16..18 if !self.answers.is_empty() => {
                let answer = usize::try_from(dice.below(self.answers.len() as u64)).unwrap();
                let (at, told) = self.answers.swap_remove(answer);
                self.processes[at].meter.told(&told);
            }
            18 => self.processes[at].meter.failed(),
            19 if dice.below(6) == 0 => {
                let mut incarnation: [u8; 16] = random();
                incarnation[0] = u8::try_from(at).unwrap();
                self.answers.retain(|(of, _)| *of != at);
                self.begin(at, incarnation);
            }
            19 => {
                let seconds = dice.below(40);
                self.now += Duration::from_secs(seconds);
                self.lab.advance(seconds);
            }
            _ => {}
        }
    }

    fn cost(&self) -> u64 {
        let cost = |bytes_out| Prices::default().cost(&Usage { bytes_out, ..Usage::default() });
        self.carried.values().copied().map(cost).sum()
    }
}

impl Process {
    /// Whether a message is of the process that runs now.
    fn meter_is(&self, tell: &Tell) -> bool {
        self.meter.incarnation() == tell.incarnation
    }
}

async fn world<'a>(lab: &'a Lab, house: &House, name: &str, cents: u64) -> (World<'a>, Key) {
    let (project, master) = lab.project(By::Key(&house.device), name).await;
    lab.limit(house, &master, Some(cents)).await;
    let (one, two) = (lab.child(&master).await, lab.child(&master).await);
    let children = vec![one.serial, two.serial];
    let mut processes = Vec::new();
    for _ in 0..RELAYS {
        processes.push(Process { relay: lab.enrolled().await, meter: Meter::new([0; 16]) });
    }
    let relays: Vec<_> = processes.iter().map(|process| process.relay).collect();
    lab.served(house, &project, &relays, &[&one, &two]).await;
    let mut world = World {
        lab,
        master: master.serial,
        children,
        processes,
        messages: Vec::new(),
        answers: Vec::new(),
        now: Instant::now(),
        lives: 0,
        carried: HashMap::new(),
        arrived: HashMap::new(),
    };
    for at in 0..RELAYS {
        let mut incarnation: [u8; 16] = random();
        incarnation[0] = u8::try_from(at).unwrap();
        world.begin(at, incarnation);
    }
    (world, master)
}

/// Bytes and money as the coordinator has them, of a master key.
async fn known(lab: &Lab, house: &House, master: &Key) -> (u64, f64) {
    let query = format!("?key={}&from={}", master.serial.nonce(), crate::support::START - 86_400);
    let usage: Value = lab.usage(house, &query).await;
    let bytes = usage["points"].as_array().unwrap().iter().map(|point| point["bytes_out"].as_u64().unwrap());
    (bytes.sum(), usage["total_cents"].as_f64().unwrap())
}

/// Whatever is interleaved, lost, repeated or killed: what really goes through never costs more than the budget and one
/// chunk for each process that there was; and what arrives is counted once, however it arrives.
#[tokio::test]
async fn relays_never_spend_more_than_the_budget_together_and_nothing_is_counted_twice_or_lost() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let chunk = Prices::default().cost(&Usage { bytes_out: CHUNK, ..Usage::default() }) + 1;
    let mut spent_up = 0;
    for case in 0..40 {
        let mut dice = Dice(case);
        let cents = 1 + case % 3;
        let (mut world, master) = world(&lab, &house, &format!("case {case}"), cents).await;
        for _ in 0..400 {
            world.step(&mut dice).await;
            let most = cents * MICRO + world.lives * chunk;
            assert!(world.cost() <= most, "case {case}: {} of {most}", world.cost());
        }
        let arrived: u64 = world.arrived.values().sum();
        let (bytes, _) = known(&lab, &house, &master).await;
        assert!(arrived >= bytes, "case {case}");
        // All that still lives tells all that it has, in order; the answer to what was told before is lost.
        for at in 0..RELAYS {
            world.processes[at].meter.failed();
            let relay = world.processes[at].relay;
            while let Some(tell) = world.processes[at].meter.next(world.now) {
                for count in &tell.counts {
                    let key = (tell.incarnation, count.serial, count.run);
                    world.arrived.insert(key, count.total.bytes_out);
                }
                let told = lab.tell(relay, tell).await;
                world.processes[at].meter.told(&told);
            }
        }
        let arrived: u64 = world.arrived.values().sum();
        let (bytes, cost) = known(&lab, &house, &master).await;
        assert_eq!(bytes, arrived, "case {case}: each byte that was told once and once only");
        assert!(bytes <= world.carried.values().sum(), "case {case}");
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let most = cents as f64 + (world.lives * chunk) as f64 / MICRO as f64;
        assert!(cost <= most, "case {case}: {cost} of {most}");
        spent_up += u64::from(world.cost() > cents * MICRO * 3 / 4);
    }
    assert!(spent_up > 5, "budgets come to their end in these cases: {spent_up}");
}

/// Two relays that both have much to carry use up a budget nearly whole, and not more.
#[tokio::test]
async fn two_busy_relays_use_a_budget_up() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let (mut world, _) = world(&lab, &house, "busy", 20).await;
    for round in 0..1000 {
        for at in 0..2 {
            let child = world.children[at];
            world.carry(at, child, 200);
            let relay = world.processes[at].relay;
            let now = world.now;
            lab.settle(relay, &mut world.processes[at].meter, now).await;
        }
        world.now += Duration::from_millis(50);
        let dry = (0..2).all(|at| world.processes[at].meter.left(&world.master, world.now) == Some(0));
        if dry && round > 10 {
            break;
        }
    }
    let (cost, budget) = (world.cost(), 20 * MICRO);
    assert!(cost <= budget + 1000 && cost > budget * 99 / 100, "{cost} of {budget}");
}
