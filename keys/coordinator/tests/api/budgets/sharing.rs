//! Relays that share one budget, whatever happens to them and to what they say.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use mytunnel_keys::id::{ProjectId, PublicKey, Serial};
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
    /// What is used, each with the key whose leases it goes by.
    used: Vec<(Serial, Option<Serial>)>,
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
        for (key, parent) in &self.used {
            meter.set_standing(parent.unwrap_or(*key), Standing::Limited);
            meter.open(*key, *parent);
        }
        self.processes[at].meter = meter;
    }

    fn month(&self) -> Month {
        self.lab.month()
    }

    /// A burst of chunks, each let through only while something is left.
    fn carry(&mut self, at: usize, (key, parent): (Serial, Option<Serial>), chunks: u64) {
        let month = self.month();
        let meter = &mut self.processes[at].meter;
        for _ in 0..chunks {
            if meter.left(&parent.unwrap_or(key), self.now) == Some(0) {
                return;
            }
            meter.count(key, parent, month, Usage { bytes_out: CHUNK, ..Usage::default() });
            *self.carried.entry(key).or_default() += CHUNK;
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
                let used = self.used[usize::try_from(dice.below(self.used.len() as u64)).unwrap()];
                self.carry(at, used, dice.below(800));
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

/// Relays that serve these keys, whose budget goes by the leases of the second.
async fn world<'a>(
    lab: &'a Lab,
    house: &House,
    project: &ProjectId,
    keys: &[(&Key, Option<&Key>)],
) -> World<'a> {
    let mut processes = Vec::new();
    for _ in 0..RELAYS {
        processes.push(Process { relay: lab.enrolled().await, meter: Meter::new([0; 16]) });
    }
    let relays: Vec<_> = processes.iter().map(|process| process.relay).collect();
    let served: Vec<_> = keys.iter().map(|(key, _)| *key).collect();
    lab.served(house, project, &relays, &served).await;
    let mut world = World {
        lab,
        used: keys.iter().map(|(key, parent)| (key.serial, parent.map(|key| key.serial))).collect(),
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
    world
}

/// A master with a budget, and two children of it at work.
async fn family<'a>(lab: &'a Lab, house: &House, name: &str, cents: u64) -> (World<'a>, Key) {
    let (project, master) = lab.project(By::Key(&house.device), name).await;
    lab.limit(house, &master, Some(cents)).await;
    let (one, two) = (lab.child(&master).await, lab.child(&master).await);
    let keys = [(&one, Some(&master)), (&two, Some(&master))];
    (world(lab, house, &project, &keys).await, master)
}

/// Bytes and money as the coordinator has them, of keys with their children.
async fn known(lab: &Lab, house: &House, keys: &[&Key]) -> (u64, f64) {
    let (mut bytes, mut cents) = (0, 0.0);
    for key in keys {
        let query = format!("?key={}&from={}", key.serial.nonce(), crate::support::START - 86_400);
        let usage: Value = lab.usage(house, &query).await;
        let points = usage["points"].as_array().unwrap().iter();
        bytes += points.map(|point| point["bytes_out"].as_u64().unwrap()).sum::<u64>();
        cents += usage["total_cents"].as_f64().unwrap();
    }
    (bytes, cents)
}

/// Whatever is interleaved, lost, repeated or killed: what really goes through never costs more than the budget and one
/// chunk of each key for each process that there was; and what arrives is counted once, however it arrives. Answers whether
/// the budget came to its end.
async fn holds(world: &mut World<'_>, house: &House, keys: &[&Key], cents: u64, case: u64) -> bool {
    let mut dice = Dice(case);
    let lab = world.lab;
    let chunk = Prices::default().cost(&Usage { bytes_out: CHUNK, ..Usage::default() }) + 1;
    let chunk = chunk * keys.len() as u64;
    for _ in 0..400 {
        world.step(&mut dice).await;
        let most = cents * MICRO + world.lives * chunk;
        assert!(world.cost() <= most, "case {case}: {} of {most}", world.cost());
    }
    let arrived: u64 = world.arrived.values().sum();
    let (bytes, _) = known(lab, house, keys).await;
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
    let (bytes, cost) = known(lab, house, keys).await;
    assert_eq!(bytes, arrived, "case {case}: each byte that was told once and once only");
    assert!(bytes <= world.carried.values().sum(), "case {case}");
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let most = cents as f64 + (world.lives * chunk) as f64 / MICRO as f64;
    assert!(cost <= most, "case {case}: {cost} of {most}");
    world.cost() > cents * MICRO * 3 / 4
}

#[tokio::test]
async fn relays_never_spend_more_than_the_budget_together_and_nothing_is_counted_twice_or_lost() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let mut spent_up = 0;
    for case in 0..40 {
        let cents = 1 + case % 3;
        let (mut world, master) = family(&lab, &house, &format!("case {case}"), cents).await;
        spent_up += u64::from(holds(&mut world, &house, &[&master], cents, case).await);
    }
    assert!(spent_up > 5, "budgets come to their end in these cases: {spent_up}");
}

/// The same of a member's devices: they have one budget, however many there are.
#[tokio::test]
async fn devices_of_a_member_never_spend_more_than_one_budget_together() {
    let mut spent_up = 0;
    for case in 0..8 {
        let lab = Lab::new().await;
        let house = lab.house().await;
        let (browser, one) = crate::people::join(&lab, &house, "member").await;
        let cents = 1 + case % 3;
        lab.limit(&house, &one, Some(cents)).await;
        let (two, three) = (lab.device(&browser.access).await.0, lab.device(&browser.access).await.0);
        let keys = [&one, &two, &three];
        let home = house.project.clone();
        let mut world = world(&lab, &house, &home, &keys.map(|key| (key, None))).await;
        spent_up += u64::from(holds(&mut world, &house, &keys, cents, case).await);
    }
    assert!(spent_up > 1, "budgets come to their end in these cases: {spent_up}");
}

/// Two relays that both have much to carry use up a budget nearly whole, and not more.
#[tokio::test]
async fn two_busy_relays_use_a_budget_up() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let (mut world, master) = family(&lab, &house, "busy", 20).await;
    for round in 0..1000 {
        for at in 0..2 {
            let child = world.used[at];
            world.carry(at, child, 200);
            let relay = world.processes[at].relay;
            let now = world.now;
            lab.settle(relay, &mut world.processes[at].meter, now).await;
        }
        world.now += Duration::from_millis(50);
        let dry = (0..2).all(|at| world.processes[at].meter.left(&master.serial, world.now) == Some(0));
        if dry && round > 10 {
            break;
        }
    }
    let (cost, budget) = (world.cost(), 20 * MICRO);
    assert!(cost <= budget + 1000 && cost > budget * 99 / 100, "{cost} of {budget}");
}
