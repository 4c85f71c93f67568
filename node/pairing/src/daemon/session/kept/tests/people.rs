//! What persons have decided, and how old a session is, over the end of processes.

use mytunnel_keys::error::Code;

use super::*;
use crate::{content::Why, seat::Words};

#[test]
fn words_that_were_not_compared_before_the_end_of_both_processes_are_the_same_behind_it() {
    let mut world = World::with(Verify::Required);
    let hosts = |world: &mut World| world.host.room().members[&1].words.clone().unwrap();
    let before = hosts(&mut world);
    (0..3).for_each(|which| world.die(which));
    world.settle();
    assert_eq!(hosts(&mut world), before);
    let Words::Known(guests) = world.guests[0].seat().words.clone() else { panic!("they were known") };
    assert_eq!(guests, before);
    assert!(world.guests[0].seat().goal.is_empty());

    world.guests[0].seat().verify(&before.host).unwrap();
    world.guests[0].stage();
    world.settle();
    world.die(0);
    world.die(1);
    world.settle();
    world.host.room().verify(1, &before.guest, now()).unwrap();
    world.host.stage();
    world.settle();
    assert_eq!(world.guests[0].seat().goal, "fix the build");
    world.say(0);
    world.settle();
    assert_eq!(world.guests[0].texts().len(), 1);
    assert!(world.guests[1].texts().is_empty() && world.guests[1].seat().goal.is_empty());
}

#[test]
fn who_was_put_out_stays_out_and_who_has_guessed_words_has_guessed_them() {
    let mut world = World::new();
    assert_eq!(world.host.room().verify(2, "acid acorn acre", now()), Err(Code::PairSasMismatch));
    world.host.room().kick(1, now()).unwrap();
    world.host.stage();
    world.host.write();
    world.die(0);
    let (hello, _) = world.guests[0].seat().next_attempt();
    let Hello::Resume { seat, attempt } = hello else { panic!("{hello:?}") };
    assert_eq!(world.host.room().resume(seat, attempt, peer(10), now()), Err(Code::PairDenied));
    for _ in 1..limits::WRONG_WORDS {
        assert_eq!(world.host.room().verify(2, "acid acorn acre", now()), Err(Code::PairSasMismatch));
    }
    assert_eq!(world.host.room().verify(2, "acid acorn acre", now()), Err(Code::PairDenied));
}

#[test]
fn a_session_that_is_kept_lasts_a_day_and_no_longer_however_many_processes_it_has() {
    let mut world = World::new();
    let behind =
        |seconds: u64| Now { wall: WALL + seconds, steady: now().steady + Duration::from_secs(seconds) };
    let (idle, life) = (limits::IDLE.as_secs(), limits::LIFE.as_secs());
    world.host.room().tick(behind(3 * idle));
    world.guests[0].seat().tick(behind(3 * idle));
    assert_eq!((world.host.room().closed, world.guests[0].seat().closed), (None, None));

    for which in [0, 1] {
        world.end(which).stage();
        world.end(which).write();
        let rows = world.end(which).store.as_ref().unwrap().read(ID).unwrap().unwrap();
        // The next process begins ten hours later, and has a clock that begins anew.
        let era = Era::of_machine(99, WALL + 36_000);
        let closed = |seconds: u64| {
            let now = Now {
                wall: WALL + 36_000 + seconds,
                steady: crate::era::BEGIN + Duration::from_secs(seconds),
            };
            let mut session = Session::restored(ID, &rows, &era, now).unwrap();
            // It began so many seconds behind the beginning of its process's clock.
            assert_eq!(session.since, WALL + 100);
            match &mut session.side {
                Side::Host(room) => room.tick(now),
                Side::Guest(seat, _) => seat.tick(now),
            }
            session.closed()
        };
        assert_eq!(closed(life - 36_200), None);
        assert_eq!(closed(life - 35_800), Some(Why::Old));
    }
}
