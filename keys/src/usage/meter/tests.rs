use std::time::Duration;

use super::super::{Lease, MICRO, Prices};
use super::*;

const NOVEMBER: Month = Month::from_number(2026 * 12 + 10);

fn serial(number: u8) -> Serial {
    Serial::from_bytes([number; 16])
}

fn bytes(bytes_out: u64) -> Usage {
    Usage { bytes_out, ..Usage::default() }
}

fn answer(tell: &Tell, amount: u64) -> Told {
    let lease = |want: &Want| Lease { key: want.key, amount: amount.min(want.ask), seconds: 60 };
    let prices = PriceList { version: 1, prices: Prices::default() };
    Told { seq: tell.seq, prices, leases: tell.wants.iter().map(lease).collect(), refused: Vec::new() }
}

/// A meter on which the key 1 of the parent 9 has a tunnel, and the parent a budget with a lease of a cent.
fn leased(now: Instant) -> Meter {
    let mut meter = Meter::new([7; 16]);
    meter.set_standing(serial(9), Standing::Limited);
    meter.open(serial(1), Some(serial(9)));
    let tell = meter.next(now).unwrap();
    assert_eq!(tell.wants, [Want { key: serial(9), held: 0, ask: MICRO / 2 }]);
    meter.told(&answer(&tell, MICRO));
    meter
}

/// A meter whose coordinator has heard of it.
fn known() -> Meter {
    let mut meter = Meter::new([7; 16]);
    let first = meter.next(Instant::now()).unwrap();
    meter.told(&answer(&first, 0));
    meter
}

#[test]
fn a_process_says_once_that_it_is_there_and_until_it_was_heard() {
    let (mut meter, now) = (Meter::new([7; 16]), Instant::now());
    for seq in 1..=2 {
        let first = meter.next(now).unwrap();
        assert_eq!((first.seq, first.counts.len(), first.wants.len()), (seq, 0, 0));
        assert_eq!(meter.next(now), None, "one at a time");
        meter.failed();
    }
    let third = meter.next(now).unwrap();
    meter.told(&answer(&third, 0));
    assert_eq!(meter.next(now), None);
}

#[test]
fn totals_are_told_until_they_are_taken_and_no_longer() {
    let (mut meter, now) = (known(), Instant::now());
    assert_eq!(meter.next(now), None);
    meter.count(serial(1), None, NOVEMBER, bytes(5));
    let first = meter.next(now).unwrap();
    assert_eq!((first.seq, first.counts[0].total), (2, bytes(5)));
    assert_eq!(meter.next(now), None, "one at a time");
    meter.failed();
    meter.count(serial(1), None, NOVEMBER, bytes(2));
    let second = meter.next(now).unwrap();
    assert_eq!((second.seq, second.counts[0].total, second.counts[0].run), (3, bytes(7), 1));
    meter.told(&answer(&first, 0));
    assert_eq!(meter.next(now), None, "the answer to a message that was given up is none");
    meter.count(serial(1), None, NOVEMBER, bytes(1));
    meter.told(&answer(&second, 0));
    let third = meter.next(now).unwrap();
    assert_eq!(third.counts[0].total, bytes(8));
    meter.told(&answer(&third, 0));
    assert_eq!(meter.next(now), None);
}

#[test]
fn a_total_that_is_not_taken_is_told_again_for_a_while() {
    let (mut meter, now) = (Meter::new([7; 16]), Instant::now());
    meter.count(serial(1), None, NOVEMBER, bytes(5));
    meter.count(serial(2), None, NOVEMBER, bytes(6));
    let refused = |tell: &Tell| Told { refused: vec![serial(1)], ..answer(tell, 0) };
    for _ in 1..TRIES {
        let tell = meter.next(now).unwrap();
        assert!(tell.counts.iter().any(|count| count.serial == serial(1) && count.total == bytes(5)));
        meter.told(&refused(&tell));
    }
    let last = meter.next(now).unwrap();
    assert_eq!(last.counts.len(), 1);
    meter.told(&refused(&last));
    assert_eq!(meter.next(now), None, "it will never be");
    meter.count(serial(1), None, NOVEMBER, bytes(1));
    let tell = meter.next(now).unwrap();
    assert_eq!(tell.counts[0].total, bytes(6), "but it is part of the next");
    meter.told(&answer(&tell, 0));
    assert_eq!(meter.next(now), None);
}

#[test]
fn each_month_has_its_own_total() {
    let (mut meter, now) = (Meter::new([7; 16]), Instant::now());
    meter.count(serial(1), None, NOVEMBER, bytes(5));
    meter.count(serial(1), None, NOVEMBER.after(), bytes(6));
    let mut counts = meter.next(now).unwrap().counts;
    counts.sort_by_key(|count| count.month);
    assert_eq!(counts.iter().map(|count| count.total.bytes_out).collect::<Vec<_>>(), [5, 6]);
}

#[test]
fn many_totals_take_several_messages_and_leases_come_last() {
    let (mut meter, now) = (Meter::new([7; 16]), Instant::now());
    meter.set_standing(serial(0), Standing::Limited);
    for number in 0..700_u16 {
        let mut of = [0; 16];
        of[..2].copy_from_slice(&(number + 1).to_be_bytes());
        meter.open(Serial::from_bytes(of), Some(serial(0)));
        meter.count(Serial::from_bytes(of), Some(serial(0)), NOVEMBER, bytes(1));
    }
    let mut shapes = Vec::new();
    while let Some(tell) = meter.next(now) {
        shapes.push((tell.counts.len(), tell.wants.len()));
        meter.told(&answer(&tell, MICRO));
    }
    assert_eq!(shapes, [(300, 0), (300, 0), (100, 1)]);
}

#[test]
fn a_child_spends_what_was_leased_to_its_parent() {
    let now = Instant::now();
    let mut meter = leased(now);
    assert_eq!(meter.left(&serial(9), now), Some(MICRO / 2));
    assert_eq!(meter.left(&serial(1), now), None, "it has no limit of its own");
    meter.count(serial(1), Some(serial(9)), NOVEMBER, bytes(1 << 26));
    assert_eq!(meter.left(&serial(9), now), Some(MICRO / 2 - 5 * MICRO / 16));
    assert!(meter.is_urgent(now), "more than half is gone");

    // What is told is not given back by being told; the answer says what there is beyond it.
    let tell = meter.next(now).unwrap();
    assert_eq!(tell.wants, [Want { key: serial(9), held: MICRO / 2 - 5 * MICRO / 16, ask: MICRO }]);
    assert_eq!(meter.left(&serial(9), now), Some(MICRO / 2 - 5 * MICRO / 16));
    meter.count(serial(1), Some(serial(9)), NOVEMBER, bytes(1 << 20));
    meter.told(&answer(&tell, 200_000));
    assert_eq!(meter.left(&serial(9), now), Some(200_000 - 4882));
}

#[test]
fn an_answer_that_is_lost_changes_nothing() {
    let now = Instant::now();
    let mut meter = leased(now);
    meter.count(serial(1), Some(serial(9)), NOVEMBER, bytes(1 << 26));
    let before = meter.left(&serial(9), now);
    meter.next(now).unwrap();
    meter.failed();
    assert_eq!(meter.left(&serial(9), now), before);
}

#[test]
fn a_lease_ends_by_time_and_is_renewed_before() {
    let now = Instant::now();
    let meter = leased(now);
    assert!(
        !meter.is_urgent(now + Duration::from_secs(29)) && meter.is_urgent(now + Duration::from_secs(30))
    );
    assert_eq!(meter.left(&serial(9), now + Duration::from_secs(59)), Some(MICRO / 2));
    assert_eq!(meter.left(&serial(9), now + Duration::from_secs(60)), Some(0));
}

#[test]
fn a_change_of_the_budget_voids_the_lease_and_what_was_asked_before_it() {
    let now = Instant::now();
    let mut meter = leased(now);
    meter.set_standing(serial(9), Standing::Frozen);
    assert_eq!((meter.standing(&serial(9)), meter.left(&serial(9), now)), (Standing::Frozen, Some(0)));
    assert_eq!(meter.next(now), None, "there is nothing to ask for");

    meter.set_standing(serial(9), Standing::Limited);
    let asked = meter.next(now).unwrap();
    meter.set_standing(serial(9), Standing::Limited);
    meter.told(&answer(&asked, MICRO));
    assert_eq!(meter.left(&serial(9), now), Some(0), "granted from the budget that was before");
    let again = meter.next(now).unwrap();
    meter.told(&answer(&again, MICRO));
    assert_eq!(meter.left(&serial(9), now), Some(MICRO / 2));

    meter.set_standing(serial(9), Standing::Free);
    assert_eq!(meter.left(&serial(9), now), None);
}

#[test]
fn a_lease_that_nobody_uses_is_given_back() {
    let now = Instant::now();
    let mut meter = leased(now);
    meter.close(serial(1), Some(serial(9)));
    let back = meter.next(now).unwrap();
    assert_eq!(back.wants, [Want { key: serial(9), held: 0, ask: 0 }]);
    assert_eq!(meter.left(&serial(9), now), Some(0));
    meter.failed();
    let back = meter.next(now).unwrap();
    assert_eq!(back.wants.len(), 1, "until it is known");
    meter.told(&answer(&back, 0));
    assert_eq!(meter.next(now), None);
}

#[test]
fn a_key_whose_certificate_has_a_budget_waits_for_a_lease() {
    let (mut meter, now) = (Meter::new([7; 16]), Instant::now());
    meter.claim(serial(1));
    assert_eq!(meter.left(&serial(1), now), Some(0));
    meter.ask(serial(1));
    assert!(meter.is_asking(&serial(1)) && meter.is_urgent(now));
    let tell = meter.next(now).unwrap();
    meter.told(&answer(&tell, MICRO));
    assert!(!meter.is_asking(&serial(1)));
    assert_eq!(meter.left(&serial(1), now), Some(MICRO / 2));
    meter.replace_standings([]);
    assert_eq!(meter.standing(&serial(1)), Standing::Limited, "the feed does not name those");
    meter.set_standing(serial(1), Standing::Free);
    meter.claim(serial(1));
    assert_eq!(meter.standing(&serial(1)), Standing::Free, "the owner's word counts more");
}

#[test]
fn a_lease_that_was_refused_is_not_asked_for_at_once_again() {
    let now = Instant::now();
    let mut meter = leased(now);
    meter.count(serial(1), Some(serial(9)), NOVEMBER, bytes(1 << 30));
    assert!(!meter.is_spent(&serial(9), now), "there may be more to come");
    let tell = meter.next(now).unwrap();
    meter.told(&answer(&tell, 0));
    assert!(meter.is_spent(&serial(9), now) && !meter.is_urgent(now));
    assert_eq!(meter.next(now), None);
    assert!(meter.next(now + Duration::from_secs(1)).is_some());
    meter.set_standing(serial(9), Standing::Limited);
    assert!(!meter.is_spent(&serial(9), now) && meter.is_urgent(now), "it may have been raised");
}

#[test]
fn what_is_of_no_use_is_forgotten_and_begins_another_run() {
    let (mut meter, now) = (Meter::new([7; 16]), Instant::now());
    let of = |number: u32| {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        Serial::from_bytes(bytes)
    };
    meter.open(of(0), None);
    for number in 0..=u32::try_from(KEPT).unwrap() {
        meter.count(of(number), None, NOVEMBER, bytes(1));
    }
    while let Some(tell) = meter.next(now) {
        meter.told(&answer(&tell, 0));
    }
    assert_eq!(meter.totals.len(), 1, "the one that is live");
    meter.count(of(5), None, NOVEMBER, bytes(1));
    let count = meter.next(now).unwrap().counts.remove(0);
    assert_eq!((count.total, count.run > KEPT as u64), (bytes(1), true));
}
