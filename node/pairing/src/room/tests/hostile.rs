//! Guests and hosts that do what they should not.

use proptest::prelude::*;

use super::*;
use crate::signed::Hash;

#[test]
fn who_comes_late_hears_nothing_from_before_and_asks_for_the_record_once_on_a_connection() {
    let mut world = World::new(Verify::Ask);
    world.invite(1);
    world.room.say(chat("before"), None, Vec::new(), at(1)).unwrap();
    let guest = world.admit(1, 10, at(2)).unwrap();
    let resume = ToHost::Resume { number: Some(0) };
    assert_eq!(world.room.on_message(guest, resume.clone(), at(3)), Err(Code::PairRefused));

    world.room.say(chat("behind"), None, Vec::new(), at(3)).unwrap();
    world.run(at(3));
    world.room.disconnected(guest, at(4));
    world.room.resume(SeatId([10; 8]), 1, peer(10), at(5)).unwrap();
    world.room.on_message(guest, resume.clone(), at(5)).unwrap();
    assert_eq!(world.room.on_message(guest, resume, at(5)), Err(Code::PairRefused));
    let sent = std::iter::from_fn(|| world.room.poll_message()).filter_map(|sent| match sent.message {
        ToGuest::Entry { envelope, .. } => envelope?.open::<Envelope>(ENVELOPE, &seed(1).public()),
        _ => None,
    });
    let sent: Vec<_> = sent.map(|envelope| envelope.content).collect();
    assert!(
        matches!(sent.as_slice(), [
        Content::System(System::Joined { .. }),
        Content::Said(Said::Chat { text }),
    ] if text == "behind"),
        "{sent:?}"
    );
}

#[test]
fn who_was_kicked_or_is_in_already_is_refused_and_keeps_the_invite() {
    let mut world = World::new(Verify::Ask);
    (1..=3).for_each(|invite| world.invite(invite));
    let one = world.admit(1, 10, at(1)).unwrap();
    assert_eq!(world.admit(2, 10, at(2)), Err(Code::PairUsed));
    world.room.kick(one, at(3)).unwrap();
    world.run(at(3));
    assert_eq!(world.admit(2, 10, at(4)), Err(Code::PairDenied));
    assert_eq!(world.room.present().count(), 0);
    let two = world.admit(2, 11, at(5)).unwrap();
    world.seats.get_mut(&two).unwrap().leave(at(6));
    world.run(at(6));
    assert!(world.admit(3, 11, at(7)).is_ok(), "who left by itself may come again");
}

#[test]
fn nobody_says_anything_under_the_number_of_another() {
    let mut world = World::new(Verify::Ask);
    (1..=2).for_each(|invite| world.invite(invite));
    let (mallory, other) = (world.admit(1, 10, at(1)).unwrap(), world.admit(2, 11, at(1)).unwrap());
    world.run(at(1));
    let before = world.room.ledger.number();
    for author in [other, HOST] {
        let (number, last) = world.room.ledger.last_of(author);
        let envelope = Envelope {
            session: world.room.opening.session,
            author,
            number: number + 1,
            before: last,
            at: 0,
            reply_to: None,
            to: Vec::new(),
            content: Content::Said(chat("said by another")),
        };
        let envelope = Signed::sign(ENVELOPE, &envelope, &seed(10));
        let said = world.room.on_message(mallory, ToHost::Say { envelope }, at(2));
        assert_eq!(said, Err(Code::PairFork));
    }
    assert_eq!(world.room.ledger.number(), before);
}

#[test]
fn who_sends_more_than_may_wait_is_cut_and_drives_nothing_out_of_what_is_kept() {
    let mut world = World::new(Verify::Ask);
    world.invite(1);
    let guest = world.admit(1, 10, at(1)).unwrap();
    let files = vec!["x".repeat(limits::PART); 50];
    let (session, mut before) = (world.room.opening.session, Hash::default());
    let mut say = |number| {
        let said = Said::Proposal {
            text: String::new(),
            action: String::new(),
            risk: String::new(),
            files: files.clone(),
        };
        let content = Content::Said(said);
        let envelope = Envelope {
            session,
            author: guest,
            number,
            before,
            at: 0,
            reply_to: None,
            to: Vec::new(),
            content,
        };
        let envelope = Signed::sign(ENVELOPE, &envelope, &seed(10));
        before = envelope.hash();
        world.room.on_message(guest, ToHost::Say { envelope }, at(2))
    };
    assert_eq!((1..100).map(&mut say).find_map(Result::err), Some(Code::PairRate));
    let taken = world.room.ledger.last_of(guest).0;
    assert!((10..25).contains(&taken), "{taken}");
    assert_eq!(world.room.ledger.first_kept(), 1);
}

#[test]
fn a_burst_is_taken_in_order_and_the_rest_of_it_later() {
    let mut world = World::new(Verify::Ask);
    world.invite(1);
    let guest = world.admit(1, 10, at(1)).unwrap();
    for _ in 0..80 {
        let said = Said::Chat { text: "x".repeat(limits::TEXT) };
        world.seats.get_mut(&guest).unwrap().say(said, None, Vec::new(), at(2)).unwrap();
    }
    world.run(at(2));
    let taken = world.room.ledger.last_of(guest).0;
    assert!((50..70).contains(&taken), "{taken}");
    world.room.tick(at(11));
    assert_eq!(world.room.ledger.last_of(guest).0, taken);
    world.room.tick(at(12));
    world.run(at(12));
    assert_eq!(world.room.ledger.last_of(guest).0, 80);
    assert!(world.errors.is_empty(), "{:?}", world.errors);
}

#[test]
fn a_link_on_which_too_much_comes_is_cut_whatever_it_is() {
    let mut world = World::new(Verify::Ask);
    world.invite(1);
    let guest = world.admit(1, 10, at(1)).unwrap();
    let mut beats = (0..=limits::MESSAGES).map(|_| world.room.on_message(guest, ToHost::Beat, at(2)));
    assert_eq!(beats.find(Result::is_err), Some(Err(Code::PairRate)));
    let seat = world.seats.get_mut(&guest).unwrap();
    let mut beats = (0..=limits::MESSAGES).map(|_| seat.on_message(ToGuest::Beat, at(2)));
    assert_eq!(beats.find(Result::is_err), Some(Err(Code::PairRate)));
}

/// Content that the host of `world` seals as the next for `member`, fitting or not.
fn sealed(world: &World, member: MemberId, content: Content) -> ToGuest {
    let ledger = world.seats[&member].ledger.as_ref().unwrap();
    let (number, before) = ledger.last_of(HOST);
    let session = world.room.opening.session;
    let envelope = Envelope {
        session,
        author: HOST,
        number: number + 1,
        before,
        at: 0,
        reply_to: None,
        to: Vec::new(),
        content,
    };
    let signed = Signed::sign(ENVELOPE, &envelope, &seed(1));
    let seal = Seal {
        session,
        number: ledger.number() + 1,
        before: ledger.head(),
        author: HOST,
        by_author: envelope.number,
        to: Vec::new(),
        envelope: signed.hash(),
    };
    ToGuest::Entry { seal: Signed::sign(SEAL, &seal, &seed(1)), envelope: Some(signed) }
}

#[test]
fn a_host_gives_nobody_another_name_key_or_number() {
    let new = |world: &World| content::Introduced {
        id: 3,
        name: "eve".to_owned(),
        ..world.room.members[&2].introduced(2)
    };
    type Change = fn(&mut content::Introduced);
    let changes: [(Change, bool); 7] = [
        (|_| {}, true),
        (|member| member.id = HOST, false),
        (|member| member.id = 1, false),
        (|member| member.id = 2, false),
        (|member| member.name = "GUEST-2".to_owned(), false),
        (|member| member.name = "a\nb".to_owned(), false),
        (|member| member.agent = "x".repeat(limits::FIELD + 1), false),
    ];
    for (case, (change, fits)) in changes.into_iter().enumerate() {
        let mut world = World::new(Verify::Ask);
        world.invite(1);
        world.invite(2);
        let (one, _) = (world.admit(1, 10, at(1)).unwrap(), world.admit(2, 11, at(1)).unwrap());
        let mut member = new(&world);
        change(&mut member);
        let joined = sealed(&world, one, Content::System(System::Joined { member }));
        let taken = world.seats.get_mut(&one).unwrap().on_message(joined, at(2));
        assert_eq!(taken, if fits { Ok(()) } else { Err(Code::PairFork) }, "{case}");
    }
}

#[test]
fn who_was_away_too_long_goes_on_with_whoever_is_there_now_and_is_told_of_no_other() {
    let mut world = World::new(Verify::Ask);
    (1..=4).for_each(|invite| world.invite(invite));
    let one = world.admit(1, 10, at(1)).unwrap();
    let two = world.admit(2, 11, at(1)).unwrap();
    world.cut(one, at(2));
    world.room.kick(two, at(2)).unwrap();
    world.run(at(2));
    let three = world.admit(3, 12, at(2)).unwrap();
    for count in 0..=limits::KEPT {
        world.room.say(chat(&count.to_string()), None, Vec::new(), at(3)).unwrap();
    }
    world.run(at(3));
    let four = world.admit(4, 13, at(3)).unwrap();
    world.seats.get_mut(&three).unwrap().say(chat("from three"), None, Vec::new(), at(3)).unwrap();
    world.run(at(3));
    world.mend(one, at(4)).unwrap();
    let seat = &world.seats[&one];
    assert!(seat.missed > 0);
    assert_eq!(seat.members.keys().copied().collect::<Vec<_>>(), [HOST, one, three, four]);
    assert_eq!(world.heard(one).last().unwrap(), "from three");
    assert!(world.errors.is_empty(), "{:?}", world.errors);

    let skip = |world: &World, name: &str| {
        let member =
            content::Introduced { name: name.to_owned(), ..world.room.members[&three].introduced(three) };
        let (session, number) = (world.room.opening.session, world.room.ledger.number() + 5);
        let skip = Skip { session, number, head: Hash::default(), members: vec![member] };
        ToGuest::Skip { skip: Signed::sign(SKIP, &skip, &seed(1)) }
    };
    let renamed = skip(&world, "somebody else");
    assert_eq!(world.seats.get_mut(&one).unwrap().on_message(renamed, at(5)), Err(Code::PairFork));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_words_of_a_stranger_get_into_the_record(body in prop::collection::vec(any::<u8>(), 0..100)) {
        let mut world = World::new(Verify::Ask);
        world.invite(1);
        let guest = world.admit(1, 10, at(1)).unwrap();
        let before = world.room.ledger.number();
        let said = world.room.on_message(guest, ToHost::Say { envelope: Signed::sign("other", &body, &seed(10)) }, at(2));
        prop_assert_eq!(said, Err(Code::PairFork));
        prop_assert_eq!(world.room.ledger.number(), before);
    }
}

#[test]
fn a_host_that_counts_from_where_no_disk_can_follow_is_left() {
    for number in [(1 << 63) - 2, u64::MAX] {
        let mut world = World::new(Verify::Required);
        world.wanted = Verify::Off;
        world.invite(1);
        let guest = world.admit(1, 10, at(1)).unwrap();
        let seat = world.seats.get_mut(&guest).unwrap();
        seat.verified_here = true;
        let (goal, members) = (String::new(), Vec::new());
        let admitted = ToGuest::Admitted { goal, members, number, head: Hash::default() };
        assert_eq!(seat.on_message(admitted, at(2)), Err(Code::PairFork), "{number}");
    }
}
