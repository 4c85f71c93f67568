//! How a session ends, and what was said before that.

use super::*;

#[test]
fn who_lacks_words_of_a_session_that_is_closed_hears_them_before_the_goodbye() {
    let mut world = World::new(Verify::Ask);
    world.invite(1);
    let guest = world.admit(1, 10, at(1)).unwrap();
    let count = 3 * limits::WINDOW;
    for number in 0..count {
        world.room.say(chat(&number.to_string()), None, Vec::new(), at(2)).unwrap();
    }
    world.room.close(Why::Host, at(2));
    assert!(!world.room.is_over());
    world.run(at(2));
    assert_eq!(world.heard(guest).len() as u64, count);
    assert_eq!((world.seats[&guest].closed, world.room.is_over()), (Some(Why::Host), true));
    assert!(world.errors.is_empty(), "{:?}", world.errors);
}

#[test]
fn who_is_away_when_a_session_is_closed_may_come_back_for_the_last_words_for_a_while() {
    let mut world = World::new(Verify::Ask);
    world.invite(1);
    world.invite(2);
    let (back, gone) = (world.admit(1, 10, at(1)).unwrap(), world.admit(2, 11, at(1)).unwrap());
    world.cut(back, at(2));
    world.cut(gone, at(2));
    world.room.say(chat("the summary"), None, Vec::new(), at(3)).unwrap();
    world.room.close(Why::Host, at(3));
    world.mend(back, at(5)).unwrap();
    assert_eq!(world.heard(back), ["the summary"]);
    assert_eq!((world.seats[&back].closed, world.room.is_over()), (Some(Why::Host), false));
    world.room.tick(at(3 + limits::LAST_CALL.as_secs() - 1));
    assert!(!world.room.is_over());
    world.room.tick(at(3 + limits::LAST_CALL.as_secs()));
    assert!(world.room.is_over());
}

#[test]
fn who_does_not_read_the_last_words_is_waited_for_no_longer_than_the_bound() {
    let mut world = World::new(Verify::Ask);
    world.invite(1);
    let guest = world.admit(1, 10, at(1)).unwrap();
    world.cut.push(guest);
    world.room.say(chat("the summary"), None, Vec::new(), at(3)).unwrap();
    world.room.close(Why::Host, at(3));
    world.run(at(3));
    // It is there.
    world.room.on_message(guest, ToHost::Beat, at(8)).unwrap();
    world.room.tick(at(3 + limits::LAST_WORDS.as_secs() - 1));
    assert!(!world.room.is_over());
    world.room.tick(at(3 + limits::LAST_WORDS.as_secs()));
    assert!(world.room.is_over());
    let last = std::iter::from_fn(|| world.room.poll_message()).last().unwrap();
    assert!(matches!(last.message, ToGuest::Bye { why: Why::Host }));
}

#[test]
fn who_comes_back_late_for_the_last_words_has_the_time_to_hear_all_of_them() {
    let mut world = World::new(Verify::Ask);
    world.invite(1);
    let guest = world.admit(1, 10, at(1)).unwrap();
    world.cut(guest, at(2));
    let count = 3 * limits::WINDOW;
    for number in 0..count {
        world.room.say(chat(&number.to_string()), None, Vec::new(), at(3)).unwrap();
    }
    world.room.close(Why::Host, at(3));
    world.resume(guest, at(18)).unwrap();
    // Before it has said what it lacks.
    world.room.tick(at(18));
    assert!(!world.room.is_over());
    world.run(at(19));
    assert_eq!(world.heard(guest).len() as u64, count);
    assert_eq!((world.seats[&guest].closed, world.room.is_over()), (Some(Why::Host), true));
    assert!(world.errors.is_empty(), "{:?}", world.errors);
}

#[test]
fn who_vanished_without_a_word_before_the_end_may_come_back_for_the_last_words() {
    let mut world = World::new(Verify::Ask);
    world.invite(1);
    let guest = world.admit(1, 10, at(1)).unwrap();
    world.cut.push(guest);
    world.room.say(chat("the summary"), None, Vec::new(), at(3)).unwrap();
    world.room.close(Why::Host, at(3));
    world.run(at(3));
    for second in 4..=20 {
        world.room.tick(at(second));
        assert!(!world.room.is_over(), "{second}");
    }
    world.seats.get_mut(&guest).unwrap().disconnected(at(20));
    world.mend(guest, at(21)).unwrap();
    assert_eq!(world.heard(guest), ["the summary"]);
    assert_eq!((world.seats[&guest].closed, world.room.is_over()), (Some(Why::Host), true));
}

#[test]
fn who_comes_back_again_and_again_and_hears_nothing_holds_no_session_open() {
    let mut world = World::new(Verify::Ask);
    world.invite(1);
    let guest = world.admit(1, 10, at(1)).unwrap();
    world.cut(guest, at(2));
    world.room.say(chat("the summary"), None, Vec::new(), at(3)).unwrap();
    world.room.close(Why::Host, at(3));
    let end = 3 + limits::LAST_CALL.as_secs() + limits::LAST_WORDS.as_secs();
    for second in (5..end).step_by(2) {
        world.resume(guest, at(second)).unwrap();
        world.room.tick(at(second));
        assert!(!world.room.is_over(), "{second}");
    }
    world.room.tick(at(end));
    assert!(world.room.is_over());
}

#[test]
fn a_guest_that_leaves_has_its_last_words_heard_first() {
    let mut world = World::new(Verify::Ask);
    world.invite(1);
    let guest = world.admit(1, 10, at(1)).unwrap();
    let seat = world.seats.get_mut(&guest).unwrap();
    for number in 0..2 * limits::WINDOW {
        seat.say(chat(&number.to_string()), None, Vec::new(), at(2)).unwrap();
    }
    seat.leave(at(2));
    assert_eq!((seat.closed, seat.is_over()), (Some(Why::Left), false));
    world.run(at(2));
    assert!(world.seats[&guest].is_over());
    assert_eq!(world.room.members[&guest].standing, Standing::Left);
    assert_eq!(world.room.ledger.last_of(guest).0, 2 * limits::WINDOW);
    // Nobody listens: it goes all the same.
    world.invite(2);
    let deaf = world.admit(2, 11, at(3)).unwrap();
    world.cut.push(deaf);
    let seat = world.seats.get_mut(&deaf).unwrap();
    seat.say(chat("lost"), None, Vec::new(), at(4)).unwrap();
    seat.leave(at(4));
    seat.tick(at(4 + limits::LAST_WORDS.as_secs()));
    assert!(seat.is_over());
}

#[test]
fn who_said_something_as_the_host_closed_is_told_that_nobody_has_heard_it() {
    let mut world = World::new(Verify::Ask);
    world.invite(1);
    let guest = world.admit(1, 10, at(1)).unwrap();
    let seat = world.seats.get_mut(&guest).unwrap();
    seat.say(chat("heard"), None, Vec::new(), at(2)).unwrap();
    world.run(at(2));
    let seat = world.seats.get_mut(&guest).unwrap();
    seat.say(chat("too late"), None, Vec::new(), at(3)).unwrap();
    assert_eq!(seat.lost(), 0);
    world.room.close(Why::Host, at(3));
    world.run(at(3));
    assert_eq!((world.heard(HOST), world.seats[&guest].lost()), (vec!["heard".to_owned()], 1));
    assert_eq!(world.seats[&guest].closed, Some(Why::Host));
    // Who leaves in order has lost nothing.
    let mut world = World::new(Verify::Ask);
    world.invite(1);
    let guest = world.admit(1, 10, at(1)).unwrap();
    let seat = world.seats.get_mut(&guest).unwrap();
    seat.say(chat("heard"), None, Vec::new(), at(2)).unwrap();
    seat.leave(at(2));
    world.run(at(2));
    assert_eq!((world.seats[&guest].is_over(), world.seats[&guest].lost()), (true, 0));
}

#[test]
fn delivered_is_what_those_say_to_have_whom_it_is_for() {
    let mut world = World::new(Verify::Ask);
    (1..=3).for_each(|invite| world.invite(invite));
    let [one, two, three] = [1, 2, 3].map(|byte| world.admit(byte, 9 + byte, at(1)).unwrap());
    world.cut(three, at(2));
    let number = world.room.say(chat("for all"), None, Vec::new(), at(3)).unwrap();
    let private = world.room.say(chat("for two"), None, vec![two], at(3)).unwrap();
    let of = |world: &World, number| -> Vec<(PeerId, Delivery)> {
        world.room.deliveries(number).map(|(member, delivery)| (member.peer, delivery)).collect()
    };
    let [first, second, third] = [10, 11, 12].map(peer);
    assert_eq!(
        of(&world, number),
        [(first, Delivery::Sent), (second, Delivery::Sent), (third, Delivery::Queued)]
    );
    world.cut.push(one);
    world.run(at(3));
    assert_eq!(
        of(&world, number),
        [(first, Delivery::Sent), (second, Delivery::There), (third, Delivery::Queued)]
    );
    assert_eq!(of(&world, private), [(second, Delivery::There)]);
}
