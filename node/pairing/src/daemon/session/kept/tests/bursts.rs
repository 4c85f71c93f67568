//! What a guest takes together: a session that is kept on disk, and one that is not.

use mytunnel_keys::error::Code;

use super::*;
use crate::{
    content::{Seal, Why},
    signed::Signed,
};

/// What the host says next, as it comes to the first guest.
fn said(world: &mut World, count: usize) -> Vec<Vec<u8>> {
    (0..count).for_each(|_| world.say(0));
    world.host.write();
    let wire = world.host.wire.drain(..).filter(|(to, _)| *to == 1);
    wire.map(|(_, bytes)| bytes).collect()
}

/// The same entry with a seal that nobody has signed, and, if wanted, without what it says.
fn changed(bytes: &[u8], empty: bool) -> Vec<u8> {
    let Some(ToGuest::Entry { seal, envelope }) = ToGuest::parse(bytes) else { panic!("it is an entry") };
    let place: Seal = seal.claimed().unwrap();
    let seal = if empty { seal } else { Signed::sign("something else", &place, &seed(1)) };
    ToGuest::Entry { seal, envelope: envelope.filter(|_| !empty) }.to_bytes()
}

/// The first guest's session, with its disk or without.
fn guest(world: &mut World, keep: bool) -> &mut Session {
    let End { session, .. } = &mut world.guests[0];
    if !keep {
        session.marks = None;
    }
    session
}

#[test]
fn a_session_on_disk_takes_nothing_by_a_later_signature_and_another_does() {
    for keep in [true, false] {
        let mut world = World::new();
        let mut batch = said(&mut world, 3);
        batch[1] = changed(&batch[1], false);
        let session = guest(&mut world, keep);
        let before = session.last();
        let taken = session.on_messages(HOST, &batch, now());
        if keep {
            assert_eq!((taken, session.last()), (Err(Code::PairFork), before + 1));
            assert_eq!(session.closed(), Some(Why::Fork));
        } else {
            assert_eq!((taken, session.last()), (Ok(()), before + 3));
            assert_eq!(session.closed(), None);
        }
    }
}

#[test]
fn a_burst_that_breaks_leaves_what_is_proved_and_ends_the_session() {
    let mut world = World::new();
    let mut batch = said(&mut world, 4);
    (batch[1], batch[2]) = (changed(&batch[1], false), changed(&batch[2], true));
    let session = guest(&mut world, false);
    let before = session.last();
    assert_eq!(session.on_messages(HOST, &batch, now()), Err(Code::PairFork));
    assert_eq!((session.last(), session.closed()), (before + 1, Some(Why::Fork)));
    let Side::Guest(seat, _) = &session.side else { panic!("it is a guest's") };
    assert!(seat.ledger.as_ref().unwrap().export(seat.seed()).verify().is_ok());
}

#[test]
fn what_stands_before_something_unreadable_is_heard_and_nothing_behind_it() {
    let mut world = World::new();
    let mut batch = said(&mut world, 3);
    batch[1] = b"no message".to_vec();
    let session = guest(&mut world, false);
    let before = session.last();
    assert_eq!(session.on_messages(HOST, &batch, now()), Err(Code::PairVersion));
    assert_eq!((session.last(), session.closed()), (before + 1, None));
}

#[test]
fn nothing_is_heard_behind_the_end() {
    let mut world = World::new();
    let mut batch = said(&mut world, 3);
    batch.insert(1, ToGuest::Bye { why: Why::Kicked }.to_bytes());
    let session = guest(&mut world, false);
    let before = session.last();
    assert_eq!(session.on_messages(HOST, &batch, now()), Ok(()));
    assert_eq!((session.last(), session.closed()), (before + 1, Some(Why::Kicked)));
}
