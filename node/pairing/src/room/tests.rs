mod ending;
mod files;
mod hostile;

use std::collections::BTreeMap;

use super::*;
use crate::{
    link::InviteSecret,
    seat::{Seat, Words},
};

fn at(seconds: u64) -> Now {
    Now { wall: 1_800_000_000 + seconds, steady: Duration::from_secs(100 + seconds) }
}

fn seed(byte: u8) -> Seed {
    Seed::from_bytes([byte; 32])
}

fn peer(byte: u8) -> PeerId {
    mytunnel_carrier::peer_id(&seed(byte).public())
}

fn id(byte: u8) -> InviteId {
    InviteId::from_bytes([byte; 8])
}

fn chat(text: &str) -> Said {
    Said::Chat { text: text.to_owned() }
}

/// A host, its guests, and lines between them that lose nothing until they are cut.
struct World {
    room: Room,
    seats: BTreeMap<MemberId, Seat>,
    cut: Vec<MemberId>,
    errors: Vec<Code>,
    /// What the guests' persons want.
    wanted: Verify,
}

impl World {
    fn new(verify: Verify) -> Self {
        let opening = Opening {
            session: SessionId([7; 8]),
            goal: "fix the build".to_owned(),
            name: "host".to_owned(),
            agent: String::new(),
            verify,
            seed: seed(1),
            keep: false,
        };
        let room = Room::open(opening, at(0));
        Self { room, seats: BTreeMap::new(), cut: Vec::new(), errors: Vec::new(), wanted: Verify::Off }
    }

    fn invite(&mut self, byte: u8) {
        let psk = secret::of_link(&InviteSecret::from_bytes([byte; 32]), id(byte));
        self.room.invite(id(byte), Verifier::Psk(psk), limits::TTL, at(0)).unwrap();
    }

    fn admit(&mut self, invite: u8, guest: u8, now: Now) -> Result<MemberId, Code> {
        let hash = [guest; 32];
        let card = Card::sign("guest", "", &seed(guest), &hash);
        let fresh = Fresh {
            seat: SeatId([guest; 8]),
            resume: ResumeSecret::from_bytes([guest; 32]),
            nonce: Nonce::from_bytes([guest; 16]),
        };
        let member = self.room.admit(id(invite), card, peer(guest), hash, fresh, now)?;
        let Some(Outgoing { message: ToGuest::Welcome(welcome), .. }) = self.room.poll_message() else {
            panic!("the first message is the welcome");
        };
        let nonce = Nonce::from_bytes([guest + 100; 16]);
        let seat = Seat::welcomed(*welcome, peer(1), hash, seed(guest), nonce, self.wanted, now)?;
        self.seats.insert(member, seat);
        self.run(now);
        Ok(member)
    }

    /// Carries messages until there are none; those of cut lines are lost.
    fn run(&mut self, now: Now) {
        loop {
            let mut quiet = true;
            while let Some(Outgoing { member, message }) = self.room.poll_message() {
                quiet = false;
                let seat = self.seats.get_mut(&member).filter(|_| !self.cut.contains(&member));
                if let Some(Err(code)) = seat.map(|seat| seat.on_message(message, now)) {
                    self.errors.push(code);
                }
            }
            for (member, seat) in &mut self.seats {
                while let Some(message) = seat.poll_message() {
                    quiet = false;
                    if !self.cut.contains(member)
                        && let Err(code) = self.room.on_message(*member, message, now)
                    {
                        self.errors.push(code);
                    }
                }
            }
            if quiet {
                return;
            }
        }
    }

    fn cut(&mut self, member: MemberId, now: Now) {
        self.cut.push(member);
        self.room.disconnected(member, now);
        self.seats.get_mut(&member).unwrap().disconnected(now);
        self.run(now);
    }

    fn mend(&mut self, member: MemberId, now: Now) -> Result<(), Code> {
        self.resume(member, now)?;
        self.run(now);
        Ok(())
    }

    /// A new line, on which nothing has come across yet.
    fn resume(&mut self, member: MemberId, now: Now) -> Result<(), Code> {
        self.cut.retain(|cut| *cut != member);
        let seat = self.seats.get_mut(&member).unwrap();
        let (hello, psk) = seat.next_attempt();
        assert!(matches!(self.room.verifier(hello), Some(Verifier::Psk(host)) if host == psk));
        let Hello::Resume { seat: id, attempt } = hello else { panic!("{hello:?}") };
        let guest = self.room.members[&member].peer;
        self.room.resume(id, attempt, guest, now).map(drop)
    }

    /// What a member reads, its own words among them.
    fn heard(&self, member: MemberId) -> Vec<String> {
        let texts = |entries: &mut dyn Iterator<Item = &crate::ledger::Entry>| {
            entries
                .filter(|entry| entry.is_for(member))
                .filter_map(|entry| match &entry.envelope.as_ref()?.content {
                    Content::Said(said) => Some(said.text().to_owned()),
                    Content::System(_) => None,
                })
                .collect()
        };
        match self.seats.get(&member) {
            Some(seat) => texts(&mut seat.after(0)),
            None => texts(&mut self.room.ledger.after(0)),
        }
    }
}

#[test]
fn a_guest_learns_goal_and_roster_and_both_hear_each_other() {
    let mut world = World::new(Verify::Ask);
    world.invite(1);
    let guest = world.admit(1, 10, at(1)).unwrap();
    let seat = world.seats.get_mut(&guest).unwrap();
    assert_eq!((seat.goal.as_str(), seat.name.as_str()), ("fix the build", "guest"));
    assert_eq!(seat.members.len(), 2);
    seat.say(chat("hello"), None, Vec::new(), at(2)).unwrap();
    world.room.say(chat("welcome"), None, Vec::new(), at(2)).unwrap();
    world.run(at(2));
    assert_eq!(world.heard(HOST), world.heard(guest));
    assert_eq!(world.heard(HOST).len(), 2);
    assert!(world.errors.is_empty(), "{:?}", world.errors);
}

#[test]
fn of_what_comes_together_it_is_said_once_that_it_came_and_before_last_words() {
    let mut world = World::new(Verify::Ask);
    world.invite(1);
    let guest = world.admit(1, 10, at(1)).unwrap();
    let seat = world.seats.get_mut(&guest).unwrap();
    for number in 1..=5 {
        assert_eq!(seat.say(chat("words"), None, Vec::new(), at(2)), Ok(number));
    }
    let said: Vec<ToHost> = std::iter::from_fn(|| seat.poll_message()).collect();
    assert_eq!(said.len(), 5);
    said.into_iter().for_each(|message| world.room.on_message(guest, message, at(2)).unwrap());
    let answers: Vec<ToGuest> =
        std::iter::from_fn(|| world.room.poll_message()).map(|sent| sent.message).collect();
    let told = |number: usize| matches!(answers[number], ToGuest::Taken { number: 5 });
    assert!(answers.len() == 6 && told(5), "{answers:?}");
    let seat = world.seats.get_mut(&guest).unwrap();
    answers.into_iter().for_each(|message| seat.on_message(message, at(2)).unwrap());
    let has: Vec<ToHost> = std::iter::from_fn(|| seat.poll_message()).collect();
    let number = world.room.ledger.number();
    assert!(matches!(has[..], [ToHost::Have { number: has }] if has == number), "{has:?}");

    seat.say(chat("one more"), None, Vec::new(), at(3)).unwrap();
    let last = seat.poll_message().unwrap();
    world.room.on_message(guest, last, at(3)).unwrap();
    world.room.kick(guest, at(3)).unwrap();
    let to_guest: Vec<ToGuest> =
        std::iter::from_fn(|| world.room.poll_message()).map(|sent| sent.message).collect();
    assert!(
        matches!(to_guest[..], [ToGuest::Entry { .. }, ToGuest::Taken { number: 6 }, ToGuest::Bye { .. }]),
        "{to_guest:?}"
    );
}

#[test]
fn a_used_invite_is_used_whether_its_guest_is_there_or_left() {
    let mut world = World::new(Verify::Ask);
    world.invite(1);
    let guest = world.admit(1, 10, at(1)).unwrap();
    assert_eq!(world.admit(1, 11, at(2)), Err(Code::PairUsed));
    world.seats.get_mut(&guest).unwrap().leave(at(3));
    world.run(at(3));
    assert_eq!(world.room.members[&guest].standing, Standing::Left);
    assert_eq!(world.admit(1, 11, at(4)), Err(Code::PairUsed));
}

#[test]
fn who_has_left_hears_nothing_and_says_nothing_on_a_link_that_still_stands() {
    let mut world = World::new(Verify::Ask);
    world.invite(1);
    let guest = world.admit(1, 10, at(1)).unwrap();
    let seat = world.seats.get_mut(&guest).unwrap();
    seat.say(chat("kept back"), None, Vec::new(), at(2)).unwrap();
    let Some(said @ ToHost::Say { .. }) = seat.poll_message() else { panic!("it says something") };

    world.room.on_message(guest, ToHost::Bye, at(3)).unwrap();
    let last = std::iter::from_fn(|| world.room.poll_message()).last().unwrap();
    assert!(matches!(last, Outgoing { member, message: ToGuest::Bye { .. } } if member == guest));
    let before = world.room.ledger.number();
    for message in [ToHost::Resume { number: Some(0) }, ToHost::Resume { number: None }, said, ToHost::Beat] {
        assert_eq!(world.room.on_message(guest, message, at(4)), Err(Code::PairNoSession));
    }
    world.room.say(chat("among ourselves"), None, Vec::new(), at(5)).unwrap();
    assert_eq!(world.room.ledger.number(), before + 1);
    assert!(world.room.poll_message().is_none());
}

#[test]
fn twenty_who_race_one_invite_are_one_guest_and_nineteen_late_ones() {
    let mut world = World::new(Verify::Ask);
    world.invite(1);
    let outcomes: Vec<_> = (10..30).map(|guest| world.admit(1, guest, at(1))).collect();
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Err(Code::PairUsed)).count(), 19);
}

#[test]
fn sixteen_are_a_full_room_and_the_next_keeps_its_invite() {
    let mut world = World::new(Verify::Ask);
    (1..=16).for_each(|invite| world.invite(invite));
    for guest in 1..=15 {
        world.admit(guest, 20 + guest, at(1)).unwrap();
    }
    assert_eq!(world.admit(16, 60, at(2)), Err(Code::PairFull));
    assert_eq!(world.seats[&15].members.len(), 16);
    world.room.kick(3, at(3)).unwrap();
    world.run(at(3));
    assert_eq!(world.admit(16, 60, at(4)), Ok(16));
    assert!(world.errors.is_empty(), "{:?}", world.errors);
}

#[test]
fn two_hundred_from_each_side_at_once_are_the_same_in_one_order() {
    let mut world = World::new(Verify::Ask);
    world.invite(1);
    world.invite(2);
    let (one, two) = (world.admit(1, 10, at(1)).unwrap(), world.admit(2, 11, at(1)).unwrap());
    for count in 0..200 {
        for member in [one, two] {
            let text = format!("{member} {count}");
            world.seats.get_mut(&member).unwrap().say(chat(&text), None, Vec::new(), at(2)).unwrap();
        }
        world.room.say(chat(&format!("0 {count}")), None, Vec::new(), at(2)).unwrap();
    }
    world.run(at(2));
    assert_eq!(world.heard(HOST).len(), 600);
    assert_eq!(world.heard(one), world.heard(HOST));
    assert_eq!(world.heard(two), world.heard(HOST));
    assert!(world.errors.is_empty(), "{:?}", world.errors);
}

#[test]
fn where_words_have_to_be_compared_nothing_flows_before_both_have() {
    let mut world = World::new(Verify::Required);
    world.invite(1);
    let guest = world.admit(1, 10, at(1)).unwrap();
    assert!(world.seats[&guest].goal.is_empty() && world.seats[&guest].ledger.is_none());
    assert_eq!(world.room.say(chat("x"), None, Vec::new(), at(2)), Err(Code::PairUnverified));
    let seat = world.seats.get_mut(&guest).unwrap();
    assert_eq!(seat.say(chat("x"), None, Vec::new(), at(2)), Err(Code::PairUnverified));
    let Words::Known(words) = &seat.words else { panic!("the words are known") };
    let words = words.clone();
    assert_eq!(world.room.members[&guest].words.as_ref(), Some(&words));

    assert_eq!(seat.verify("acid acorn acre"), Err(Code::PairSasMismatch));
    // What its own machine shows is no answer.
    assert_eq!(seat.verify(&words.guest), Err(Code::PairSasMismatch));
    seat.verify(&words.host.to_uppercase().replace('-', " ")).unwrap();
    world.run(at(3));
    assert!(world.seats[&guest].ledger.is_none());
    assert_eq!(world.room.verify(guest, &words.host, at(4)), Err(Code::PairSasMismatch));
    world.room.verify(guest, &words.guest, at(4)).unwrap();
    world.run(at(4));
    assert_eq!(world.seats[&guest].goal, "fix the build");
    assert!(world.errors.is_empty(), "{:?}", world.errors);
}

#[test]
fn a_guest_that_wants_words_compared_neither_hears_nor_says_anything_before_whatever_the_host_wants() {
    for (host, back) in [(Verify::Off, false), (Verify::Ask, false), (Verify::Ask, true)] {
        let mut world = World::new(host);
        world.wanted = Verify::Required;
        world.invite(1);
        let guest = world.admit(1, 10, at(1)).unwrap();
        world.room.say(chat("too early"), None, Vec::new(), at(2)).unwrap();
        world.run(at(2));
        if back {
            world.cut(guest, at(3));
            world.mend(guest, at(4)).unwrap();
        }
        let seat = world.seats.get_mut(&guest).unwrap();
        assert!(seat.goal.is_empty() && seat.ledger.is_none());
        assert_eq!(seat.say(chat("x"), None, Vec::new(), at(5)), Err(Code::PairUnverified));
        let Words::Known(words) = &seat.words else { panic!("the words are known") };
        let words = words.clone();
        seat.verify(&words.host).unwrap();
        world.run(at(6));
        world.room.say(chat("now"), None, Vec::new(), at(7)).unwrap();
        world.run(at(7));
        assert_eq!(world.seats[&guest].goal, "fix the build");
        assert_eq!(world.heard(guest), ["now"]);
        assert!(world.errors.is_empty(), "{:?}", world.errors);
    }
}

#[test]
fn a_guest_that_is_denied_burns_its_invite_and_does_not_come_back() {
    let mut world = World::new(Verify::Required);
    world.invite(1);
    let guest = world.admit(1, 10, at(1)).unwrap();
    world.room.deny(guest, at(2)).unwrap();
    world.run(at(2));
    assert_eq!(world.seats[&guest].closed, Some(Why::Denied));
    assert_eq!(world.admit(1, 11, at(3)), Err(Code::PairBurned));
    assert_eq!(world.mend(guest, at(4)), Err(Code::PairDenied));
}

#[test]
fn a_cut_loses_nothing_and_doubles_nothing() {
    let mut world = World::new(Verify::Ask);
    world.invite(1);
    let guest = world.admit(1, 10, at(1)).unwrap();
    world.cut(guest, at(2));
    for count in 0..300 {
        world.room.say(chat(&format!("host {count}")), None, Vec::new(), at(3)).unwrap();
        let seat = world.seats.get_mut(&guest).unwrap();
        seat.say(chat(&format!("guest {count}")), None, Vec::new(), at(3)).unwrap();
    }
    world.run(at(3));
    assert!(world.heard(guest).is_empty());
    world.mend(guest, at(33)).unwrap();
    assert_eq!(world.heard(guest).len(), 600);
    assert_eq!(world.heard(guest), world.heard(HOST));
    assert!(world.errors.is_empty(), "{:?}", world.errors);
}

#[test]
fn a_proof_of_a_seat_holds_for_one_attempt_and_for_its_own_machine() {
    let mut world = World::new(Verify::Ask);
    world.invite(1);
    let guest = world.admit(1, 10, at(1)).unwrap();
    world.cut(guest, at(2));
    world.mend(guest, at(3)).unwrap();
    let again = Hello::Resume { seat: SeatId([10; 8]), attempt: 1 };
    assert!(world.room.verifier(again).is_none());
    assert_eq!(world.room.resume(SeatId([10; 8]), 1, peer(10), at(4)), Err(Code::PairRefused));
    assert_eq!(world.room.resume(SeatId([10; 8]), 2, peer(11), at(4)), Err(Code::PairRefused));
}

#[test]
fn silence_is_shown_and_idle_and_old_sessions_end() {
    let mut world = World::new(Verify::Ask);
    world.invite(1);
    let guest = world.admit(1, 10, at(1)).unwrap();
    world.room.tick(at(13));
    assert!(world.room.members[&guest].is_online(), "two of its beats may be late");
    world.room.tick(at(14));
    assert!(!world.room.members[&guest].is_online());
    world.room.tick(at(30 * 60 + 1));
    assert_eq!(world.room.closed, Some(Why::Idle));
}

#[test]
fn what_is_for_one_is_read_by_one_and_the_record_holds_for_all() {
    let mut world = World::new(Verify::Ask);
    world.invite(1);
    world.invite(2);
    let (one, two) = (world.admit(1, 10, at(1)).unwrap(), world.admit(2, 11, at(1)).unwrap());
    world.seats.get_mut(&one).unwrap().say(chat("secret"), None, vec![HOST], at(2)).unwrap();
    world.room.say(chat("for two"), None, vec![two], at(2)).unwrap();
    world.run(at(2));
    assert_eq!(world.heard(one), ["secret"]);
    assert_eq!(world.heard(two), ["for two"]);
    assert!(world.errors.is_empty(), "{:?}", world.errors);
}

#[test]
fn a_locked_room_takes_nobody_and_a_closed_one_says_so() {
    let mut world = World::new(Verify::Ask);
    world.invite(1);
    world.invite(2);
    let guest = world.admit(1, 10, at(1)).unwrap();
    world.room.lock(at(2));
    assert_eq!(world.admit(2, 11, at(3)), Err(Code::PairLocked));
    world.room.close(Why::Host, at(4));
    world.run(at(4));
    assert_eq!(world.seats[&guest].closed, Some(Why::Host));
}
