//! A host and two guests whose processes die at any moment, before what they did is on disk or behind that, and whose
//! lines break: nothing that was confirmed is lost, nothing is doubled, and what was read stays as it was read.

mod bursts;
mod first;
mod people;

use std::collections::{BTreeMap, VecDeque};

use mytunnel_keys::secret::Seed;
use proptest::prelude::*;

use super::*;
use crate::{
    card::Card,
    content::{Content, HOST, MemberId, Said},
    hello::{Hello, SeatId},
    invite::Verifier,
    limits,
    link::{InviteId, InviteSecret},
    message::{ToGuest, ToHost, Verify},
    room::{Fresh, Opening, Outgoing},
    sas::Nonce,
    secret::ResumeSecret,
    store::{Batch, Store},
};

const ID: SessionId = SessionId([7; 8]);
const WALL: u64 = 1_800_000_000;

fn now() -> Now {
    Now { wall: WALL, steady: crate::era::BEGIN + Duration::from_secs(100) }
}

fn seed(byte: u8) -> Seed {
    Seed::from_bytes([byte; 32])
}

fn peer(byte: u8) -> libp2p::PeerId {
    mytunnel_carrier::peer_id(&seed(byte).public())
}

/// One process with its disk. What it does is staged until it is written.
struct End {
    place: tempfile::TempDir,
    store: Option<Store>,
    era: Era,
    runs: u64,
    /// Of the process that has written last.
    written: Era,
    session: Session,
    change: Option<Change>,
    staged: Vec<(MemberId, Vec<u8>)>,
    wire: VecDeque<(MemberId, Vec<u8>)>,
    /// What it has said, and is not on disk yet.
    said: Vec<String>,
    confirmed: Vec<String>,
    /// What whoever listens here was given.
    read: BTreeMap<u64, String>,
}

impl End {
    fn new(session: Session) -> Self {
        let place = tempfile::tempdir().unwrap();
        let mut end = Self {
            place,
            store: None,
            era: Era::of_machine(0, WALL),
            written: Era::of_machine(0, WALL),
            runs: 0,
            session,
            change: None,
            staged: Vec::new(),
            wire: VecDeque::new(),
            said: Vec::new(),
            confirmed: Vec::new(),
            read: BTreeMap::new(),
        };
        end.store = Some(end.open());
        end.stage();
        end.write();
        end
    }

    fn open(&self) -> Store {
        Store::open(&self.place.path().join("kept.db")).unwrap()
    }

    /// Behind everything that it does.
    fn stage(&mut self) {
        if let Some(change) = self.session.change(&self.era) {
            match &mut self.change {
                Some(waiting) => waiting.follow(change),
                None => self.change = Some(change),
            }
        }
        match &mut self.session.side {
            Side::Host(room) => {
                while let Some(Outgoing { member, message }) = room.poll_message() {
                    self.staged.push((member, message.to_bytes()));
                }
            }
            Side::Guest(seat, _) => {
                while let Some(message) = seat.poll_message() {
                    self.staged.push((HOST, message.to_bytes()));
                }
            }
        }
    }

    fn write(&mut self) {
        if let Some(change) = self.change.take() {
            let batch = Batch { changes: BTreeMap::from([(ID, change)]), ..Batch::default() };
            self.store.as_mut().unwrap().write(&batch, WALL).unwrap();
            self.written = self.era.clone();
        }
        self.wire.extend(self.staged.drain(..));
        self.confirmed.append(&mut self.said);
        for (number, text) in self.texts() {
            assert_eq!(*self.read.entry(number).or_insert_with(|| text.clone()), text, "entry {number}");
        }
    }

    /// The process is killed, and another begins.
    fn die(&mut self) {
        (self.change, self.store) = (None, None);
        self.staged.clear();
        self.wire.clear();
        self.said.clear();
        self.store = Some(self.open());
        let rows = self.store.as_ref().unwrap().read(ID).unwrap().unwrap();
        let mut same = Session::restored(ID, &rows, &self.written, now()).unwrap();
        assert!(same.change(&self.written).is_none(), "what was restored is what is on disk");
        self.runs += 1;
        self.era = Era::of_machine(self.runs, WALL);
        self.session = Session::restored(ID, &rows, &self.era, now()).unwrap();
        self.stage();
    }

    fn texts(&self) -> Vec<(u64, String)> {
        texts(&self.session)
    }

    fn room(&mut self) -> &mut Room {
        let Side::Host(room) = &mut self.session.side else { panic!("it is a guest") };
        room
    }

    fn seat(&mut self) -> &mut Seat {
        let Side::Guest(seat, _) = &mut self.session.side else { panic!("it is the host") };
        seat
    }
}

fn texts(session: &Session) -> Vec<(u64, String)> {
    let text = |entry: &Entry| match &entry.envelope.as_ref()?.content {
        Content::Said(said) => Some((entry.number, said.text().to_owned())),
        Content::System(_) => None,
    };
    session.after(0).filter_map(text).collect()
}

struct World {
    host: End,
    guests: Vec<End>,
    /// Whether there is a line to this guest.
    joined: Vec<bool>,
    count: u32,
}

impl World {
    fn new() -> Self {
        Self::with(Verify::Ask)
    }

    fn with(verify: Verify) -> Self {
        let opening = Opening {
            session: ID,
            goal: "fix the build".to_owned(),
            name: "host".to_owned(),
            agent: String::new(),
            verify,
            seed: seed(1),
            keep: true,
        };
        let mut room = Room::open(opening, now());
        let (mut welcomed, mut sent) = (Vec::new(), VecDeque::new());
        for byte in [10, 11] {
            let (invite, secret) = (InviteId::from_bytes([byte; 8]), InviteSecret::from_bytes([byte; 32]));
            let psk = secret::of_link(&secret, invite);
            room.invite(invite, Verifier::Psk(psk), limits::TTL, now()).unwrap();
            let card = Card::sign("guest", "", &seed(byte), &[byte; 32]);
            let nonce = Nonce::from_bytes([byte; 16]);
            let resume = ResumeSecret::from_bytes([byte + 100; 32]);
            let fresh = Fresh { seat: SeatId([byte; 8]), resume, nonce };
            room.admit(invite, card, peer(byte), [byte; 32], fresh, now()).unwrap();
            let mut welcome = None;
            while let Some(Outgoing { member, message }) = room.poll_message() {
                match message {
                    ToGuest::Welcome(first) => welcome = Some(first),
                    other => sent.push_back((member, other.to_bytes())),
                }
            }
            let seat =
                Seat::welcomed(*welcome.unwrap(), peer(1), [byte; 32], seed(byte), nonce, Verify::Off, now())
                    .unwrap();
            let way = Way { addresses: Vec::new(), failures: 0, next: now().steady, trying: false };
            welcomed.push(Session::new(Side::Guest(seat, way), true, now()));
        }
        let mut host = End::new(Session::new(Side::Host(room), true, now()));
        host.wire = sent;
        let guests = welcomed.into_iter().map(End::new).collect();
        let mut world = Self { host, guests, joined: vec![true; 2], count: 0 };
        world.settle();
        world
    }

    fn end(&mut self, which: usize) -> &mut End {
        match which % 3 {
            0 => &mut self.host,
            guest => &mut self.guests[guest - 1],
        }
    }

    fn say(&mut self, which: usize) {
        self.count += 1;
        let text = format!("{} {}", which % 3, self.count);
        let said = Said::Chat { text: text.clone() };
        let end = self.end(which);
        let taken = match &mut end.session.side {
            Side::Host(room) => room.say(said, None, Vec::new(), now()),
            Side::Guest(seat, _) => seat.say(said, None, Vec::new(), now()),
        };
        taken.unwrap();
        end.said.push(text);
        end.stage();
    }

    fn cut(&mut self, guest: usize) {
        let member = MemberId::try_from(guest + 1).unwrap();
        if std::mem::take(&mut self.joined[guest]) {
            let seat = &mut self.guests[guest];
            seat.seat().disconnected(now());
            seat.staged.clear();
            seat.wire.clear();
            seat.stage();
            self.host.staged.retain(|(to, _)| *to != member);
            self.host.wire.retain(|(to, _)| *to != member);
            self.host.room().disconnected(member, now());
            self.host.stage();
        }
    }

    /// The guest comes back, behind the first that a new process has written.
    fn mend(&mut self, guest: usize) {
        if self.joined[guest] || self.guests[guest].change.is_some() {
            return;
        }
        let seat = &mut self.guests[guest];
        let (hello, psk) = seat.seat().next_attempt();
        seat.stage();
        let proof = self.host.room().verifier(hello);
        let Some(Verifier::Psk(known)) = proof else { panic!("the host does not know {hello:?}") };
        assert_eq!(known, psk);
        let Hello::Resume { seat, attempt } = hello else { panic!("{hello:?}") };
        self.host.room().resume(seat, attempt, peer(u8::try_from(guest).unwrap() + 10), now()).unwrap();
        self.host.stage();
        self.joined[guest] = true;
    }

    fn die(&mut self, which: usize) {
        match which % 3 {
            0 => (0..2).for_each(|guest| self.cut(guest)),
            guest => self.cut(guest - 1),
        }
        self.end(which).die();
    }

    /// Carries the first message of an end; says whether there was any.
    fn carry(&mut self, which: usize) -> bool {
        let Some((to, bytes)) = self.end(which).wire.pop_front() else { return false };
        match which % 3 {
            0 => {
                let guest = usize::from(to) - 1;
                if self.joined[guest] {
                    let message = ToGuest::parse(&bytes).unwrap();
                    self.guests[guest].seat().on_message(message, now()).unwrap();
                    self.guests[guest].stage();
                }
            }
            guest => {
                if self.joined[guest - 1] {
                    let message = ToHost::parse(&bytes).unwrap();
                    let member = MemberId::try_from(guest).unwrap();
                    self.host.room().on_message(member, message, now()).unwrap();
                    self.host.stage();
                }
            }
        }
        true
    }

    fn settle(&mut self) {
        (0..3).for_each(|which| self.end(which).write());
        (0..2).for_each(|guest| self.mend(guest));
        loop {
            (0..3).for_each(|which| self.end(which).write());
            if !(0..3).fold(false, |any, which| self.carry(which) | any) {
                return;
            }
        }
    }

    fn check(&mut self) {
        self.settle();
        let log = self.host.texts();
        for which in 0..3 {
            let end = self.end(which);
            assert_eq!(end.texts(), log);
            for text in &end.confirmed {
                assert_eq!(log.iter().filter(|(_, logged)| logged == text).count(), 1, "{text}");
            }
        }
        let mut texts: Vec<_> = log.iter().map(|(_, text)| text).collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), log.len(), "nothing is there twice");
    }
}

#[test]
fn what_was_said_to_who_is_killed_is_there_when_it_comes_back() {
    let mut world = World::new();
    for which in [0, 1, 2] {
        world.say(which);
        world.die((which + 1) % 3);
        world.check();
        world.say(which);
        world.end(which).write();
        world.die(which);
        world.check();
    }
    assert_eq!(world.host.texts().len(), 6);
}

#[test]
fn what_was_not_confirmed_before_the_end_of_the_process_was_not_heard_by_anybody() {
    let mut world = World::new();
    world.say(0);
    world.say(1);
    world.die(0);
    world.die(1);
    world.check();
    assert!(world.host.texts().is_empty());
}

#[test]
fn rows_that_were_changed_dropped_or_swapped_are_found() {
    let mut world = World::new();
    (0..6).for_each(|which| world.say(which));
    world.settle();
    world.cut(0);
    world.say(1);
    world.say(1);
    world.guests[0].write();
    for which in [0, 1] {
        let end = world.end(which);
        let rows = end.store.as_ref().unwrap().read(ID).unwrap().unwrap();
        let holds = |rows: &Rows| Session::restored(ID, rows, &end.era, now()).is_ok();
        assert!(holds(&rows));
        let spoilt = |spoil: &dyn Fn(&mut Rows)| {
            let mut rows = rows.clone();
            spoil(&mut rows);
            !holds(&rows)
        };
        assert!(spoilt(&|rows| drop(rows.entries.remove(1))));
        assert!(spoilt(&|rows| drop(rows.entries.pop())));
        assert!(spoilt(&|rows| rows.entries.swap(1, 2)));
        assert!(spoilt(&|rows| rows.entries[2][60] ^= 1));
        assert!(spoilt(&|rows| rows.state.truncate(100)));
        if which == 1 {
            assert_eq!(rows.outbox.len(), 2);
            assert!(spoilt(&|rows| drop(rows.outbox.pop())));
            assert!(spoilt(&|rows| rows.outbox.swap(0, 1)));
        }
    }
}

#[test]
fn a_session_that_is_over_keeps_its_record_and_no_secret_to_come_in_by() {
    let mut world = World::new();
    world.say(0);
    world.settle();
    let secrets = |end: &End| {
        let rows = end.store.as_ref().unwrap().read(ID).unwrap().unwrap();
        rows.state.windows(32).any(|part| part == [110; 32])
    };
    assert!(secrets(&world.host));
    world.host.room().close(crate::content::Why::Host, now());
    world.host.stage();
    loop {
        (0..3).for_each(|which| world.end(which).write());
        if !(0..3).fold(false, |any, which| world.carry(which) | any) {
            break;
        }
    }
    assert!(world.host.session.is_over());
    world.host.session.note_end(now());
    world.host.stage();
    world.host.write();
    world.host.die();
    assert!(world.host.session.is_over() && !world.host.texts().is_empty());
    assert!(!secrets(&world.host));
    assert_eq!(world.host.store.as_ref().unwrap().sessions(true).unwrap(), [ID]);
    assert!(world.host.room().invites.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whenever_processes_die_and_lines_break_nothing_is_lost_or_doubled(
        steps in prop::collection::vec((0_u8..10, 0_usize..3), 1..80),
    ) {
        let mut world = World::new();
        for (step, which) in steps {
            match step {
                0..=2 => world.say(which),
                3 | 4 => drop(world.carry(which)),
                5 | 6 => world.end(which).write(),
                7 => world.die(which),
                8 => world.cut(which % 2),
                _ => world.mend(which % 2),
            }
        }
        world.check();
    }
}
