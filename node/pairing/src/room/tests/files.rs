//! Who may ask for files, and what one that is on its way does to a session.

use super::*;
use crate::hello::Hello;

#[test]
fn only_a_member_asks_for_files_from_its_own_machine_with_its_own_key() {
    let mut world = World::new(Verify::Ask);
    world.invite(1);
    world.invite(2);
    let (one, two) = (world.admit(1, 10, at(1)).unwrap(), world.admit(2, 11, at(1)).unwrap());
    let key = |byte| seed(byte).public();
    let asks = |world: &World, seat, machine, signer| {
        world.room.asks_for_files(SeatId([seat; 8]), &peer(machine), &key(signer))
    };
    assert_eq!((asks(&world, 10, 10, 10), asks(&world, 11, 11, 11)), (Some(one), Some(two)));
    for (seat, machine, signer) in [(10, 11, 10), (10, 10, 11), (11, 10, 10), (12, 10, 10)] {
        assert_eq!(asks(&world, seat, machine, signer), None, "{seat}, {machine}, {signer}");
    }
    let hello = Hello::Files { seat: SeatId([10; 8]) };
    assert!(world.room.verifier(hello).is_some());
    assert!(world.seats[&one].verifier(hello).is_some() && world.seats[&two].verifier(hello).is_none());
    assert!(world.seats[&one].is_asked_for_files(SeatId([10; 8]), &peer(1), &key(1)));
    for (seat, machine, signer) in [(11, 1, 1), (10, 2, 1), (10, 1, 10)] {
        assert!(!world.seats[&one].is_asked_for_files(SeatId([seat; 8]), &peer(machine), &key(signer)));
    }
    world.room.kick(one, at(2)).unwrap();
    assert_eq!(asks(&world, 10, 10, 10), None);
    assert!(world.room.verifier(hello).is_none());
}

#[test]
fn nobody_asks_for_files_before_the_words_are_compared() {
    let mut world = World::new(Verify::Required);
    world.invite(1);
    let guest = world.admit(1, 10, at(1)).unwrap();
    let is_asked = |world: &World| {
        let host = world.seats[&guest].is_asked_for_files(SeatId([10; 8]), &peer(1), &seed(1).public());
        (world.room.asks_for_files(SeatId([10; 8]), &peer(10), &seed(10).public()), host)
    };
    assert_eq!(is_asked(&world), (None, false));
}

#[test]
fn a_session_in_which_a_file_is_on_its_way_is_not_idle() {
    let mut world = World::new(Verify::Ask);
    world.invite(1);
    let guest = world.admit(1, 10, at(1)).unwrap();
    let half = limits::IDLE.as_secs() / 2;
    for step in 1..6 {
        world.room.touch(at(step * half));
        world.room.tick(at(step * half));
        let seat = world.seats.get_mut(&guest).unwrap();
        seat.touch(at(step * half));
        seat.tick(at(step * half));
        assert_eq!((world.room.closed, world.seats[&guest].closed), (None, None), "{step}");
    }
    world.room.tick(at(5 * half + limits::IDLE.as_secs()));
    assert_eq!(world.room.closed, Some(Why::Idle));
}
