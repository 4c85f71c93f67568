//! A relay that lies about use, for its own gain or to harm somebody.

use super::*;

/// As much as can be said.
fn everything(key: &Key, month: Month, run: u64) -> Count {
    let most = u64::MAX;
    let total = Usage { bytes_in: most, bytes_out: most, requests: most, tunnel_seconds: most };
    Count { serial: key.serial, month, run, total }
}

impl Lab {
    async fn spent(&self, house: &House, key: &Key) -> Value {
        self.show(By::Key(&house.device), key).await["spent_cents"].clone()
    }

    async fn strays(&self, house: &House) -> usize {
        let log = self.call(By::Key(&house.device), "GET", "/api/v1/audit?limit=500", Value::Null).await.ok();
        let entries = log["entries"].as_array().unwrap();
        entries.iter().filter(|entry| entry["act"] == "usage.refused").count()
    }
}

#[tokio::test]
async fn use_of_a_key_that_a_relay_has_not_served_counts_for_nothing() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let (served, other) = (lab.child(&house.master).await, lab.child(&house.master).await);
    let relay = lab.teller(&house, &[&served]).await;
    lab.teller(&house, &[&other]).await;
    let unknown = Key { serial: mytunnel_keys::id::Serial::from_bytes(random()), ..served.clone() };
    let counts = [&served, &other, &unknown, &house.master, &house.device].map(|key| bytes(key, GIB));
    let mut refused = lab.tell(relay, told(1, counts.to_vec(), vec![])).await.refused;
    let mut expected = [&other, &unknown, &house.master, &house.device].map(|key| key.serial).to_vec();
    refused.sort();
    expected.sort();
    assert_eq!(refused, expected);
    assert_eq!((lab.spent(&house, &served).await, lab.spent(&house, &other).await), (json!(5), json!(0)));
    assert_eq!(lab.spent(&house, &house.master).await, 5);
}

/// Its word that it serves a key is worth nothing: a node must have said so, to this relay, with this key, lately.
#[tokio::test]
async fn a_relay_that_only_says_that_it_serves_a_key_uses_up_nothing_of_its_budget() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let child = lab.child(&house.master).await;
    lab.limit(&house, &house.master, Some(100)).await;
    let (liar, honest) = (lab.relay().await, lab.relay().await);
    let own = Key { seed: fresh_seed(), ..child.clone() };
    for false_word in [
        Vec::new(),
        child.presence(&honest.id, lab.now()),
        own.presence(&liar.id, lab.now()),
        house.device.presence(&liar.id, lab.now()),
        child.presence(&liar.id, lab.now() - DAY - 1),
        child.presence(&liar.id, lab.now() + DAY + 1),
    ] {
        liar.show(false_word).await;
    }
    liar.up(&house.project, "web", &child).await;
    eventually(async || {
        let row = lab.show(By::Key(&house.device), &child).await;
        (row["live_tunnels"] == 1).then_some(())
    })
    .await;
    let want = || vec![Want { key: house.master.serial, held: 0, ask: u64::MAX }];
    for number in 1..=3 {
        let lies = vec![everything(&child, lab.month(), 1)];
        let told = lab.tell(liar.id, Tell { incarnation: [number; 16], ..told(1, lies, want()) }).await;
        assert_eq!(told.refused, [child.serial]);
    }
    assert_eq!(
        (lab.spent(&house, &child).await, lab.spent(&house, &house.master).await),
        (json!(0), json!(0))
    );

    honest.present(&child).await;
    let mut meter = Meter::new([9; 16]);
    let used = Usage { bytes_in: GIB, ..Usage::default() };
    meter.count(child.serial, Some(house.master.serial), lab.month(), used);
    eventually(async || {
        lab.settle(honest.id, &mut meter, Instant::now()).await;
        (lab.spent(&house, &house.master).await == 5).then_some(())
    })
    .await;
}

/// A session lasts for days without another word of its node, and no longer than its key.
#[tokio::test]
async fn a_word_that_was_shown_is_good_while_its_relay_tells_and_the_certificate_lives() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let child = lab.mint(&house.master, json!({"ttl": DAY})).await.0;
    let relay = lab.teller(&house, &[&child]).await;
    let tell = async |seq: u64| {
        let counts = vec![bytes(&child, seq * GIB)];
        lab.coordinator.renew_relay(relay).await.unwrap();
        lab.tell(relay, told(seq, counts, vec![])).await.refused
    };
    for seq in 1..=7 {
        assert_eq!(tell(seq).await, [], "{seq}");
        lab.advance(DAY / 4);
    }
    lab.advance(DAY / 2);
    assert_eq!(tell(8).await, [child.serial], "a day after its last word that was in time");
}

#[tokio::test]
async fn a_relay_that_makes_use_up_is_written_down_once() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let child = lab.child(&house.master).await;
    let relay = lab.enrolled().await;
    for seq in 1..=10 {
        lab.tell(relay, told(seq, vec![bytes(&child, GIB)], vec![])).await;
    }
    assert_eq!(lab.strays(&house).await, 0, "its reports may be late");
    for seq in 11..60 {
        lab.tell(relay, told(seq, vec![bytes(&child, GIB)], vec![])).await;
    }
    assert_eq!(lab.strays(&house).await, 1);
}

#[tokio::test]
async fn what_was_told_too_early_counts_when_the_report_is_there() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let child = lab.child(&house.master).await;
    let relay = lab.enrolled().await;
    let mut meter = Meter::new([7; 16]);
    let now = Instant::now();
    let used = Usage { bytes_in: GIB, ..Usage::default() };
    meter.count(child.serial, Some(house.master.serial), lab.month(), used);
    let early = lab.tell(relay, meter.next(now).unwrap()).await;
    meter.told(&early);
    assert_eq!((early.refused, lab.spent(&house, &child).await), (vec![child.serial], json!(0)));
    lab.served(&house, &house.project, &[relay], &[&child]).await;
    lab.settle(relay, &mut meter, now).await;
    assert_eq!(lab.spent(&house, &child).await, 5);
}

#[tokio::test]
async fn a_relay_that_says_that_it_holds_much_freezes_nobody() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let child = lab.child(&house.master).await;
    lab.limit(&house, &house.master, Some(100)).await;
    let liar = lab.teller(&house, &[&child]).await;
    for (seq, held) in [(1, u64::MAX), (2, u64::MAX), (3, 1 << 40)] {
        lab.tell(liar, told(seq, vec![], vec![Want { key: house.master.serial, held, ask: 0 }])).await;
    }
    let honest = lab.enrolled().await;
    let want = vec![Want { key: house.master.serial, held: 0, ask: u64::MAX }];
    let lease = lab.tell(honest, Tell { incarnation: [9; 16], ..told(1, vec![], want) }).await.leases[0];
    assert_eq!(lease.amount, 25 * MICRO);
}

#[tokio::test]
async fn a_relay_that_asks_and_forgets_uses_up_no_budget() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let child = lab.child(&house.master).await;
    lab.limit(&house, &house.master, Some(100)).await;
    let want = || vec![Want { key: house.master.serial, held: 0, ask: u64::MAX }];
    let again = |number: u8| Tell { incarnation: [number; 16], ..told(1, vec![], want()) };
    let liar = lab.enrolled().await;
    for number in 1..=10 {
        assert_eq!(lab.tell(liar, again(number)).await.leases[0].amount, 25 * MICRO);
    }
    assert_eq!(lab.spent(&house, &house.master).await, 0);
    // Nothing starts anew so often.
    assert_eq!(lab.tell(liar, again(11)).await.leases, []);
    // Who has served the key is charged for what it held.
    let honest = lab.teller(&house, &[&child]).await;
    lab.tell(honest, again(21)).await;
    lab.tell(honest, again(22)).await;
    assert_ne!(lab.spent(&house, &house.master).await, 0);
}

/// Who was killed tells no more what it held; whoever starts in its place says that it is over.
#[tokio::test]
async fn a_relay_that_starts_again_frees_what_was_reserved_for_it_by_its_first_word() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let child = lab.child(&house.master).await;
    lab.limit(&house, &house.master, Some(100)).await;
    let relay = lab.teller(&house, &[&child]).await;
    let want = vec![Want { key: house.master.serial, held: 0, ask: 20 * MICRO }];
    let leases = lab.tell(relay, told(1, vec![bytes(&child, GIB)], want)).await.leases;
    assert_eq!((leases[0].amount, lab.spent(&house, &house.master).await), (20 * MICRO, json!(5)));
    let mut again = Meter::new([9; 16]);
    let first = again.next(Instant::now()).expect("it has nothing to tell but that it is there");
    assert_eq!((first.counts.len(), first.wants.len()), (0, 0));
    lab.tell(relay, first).await;
    assert_eq!(lab.spent(&house, &house.master).await, 25);
}

#[tokio::test]
async fn no_relay_charges_a_key_beyond_its_budget_or_what_others_were_granted() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let child = lab.child(&house.master).await;
    lab.limit(&house, &house.master, Some(100)).await;
    let (liar, honest) = (lab.teller(&house, &[&child]).await, lab.teller(&house, &[&child]).await);
    let want = |ask| vec![Want { key: house.master.serial, held: 0, ask }];
    let of_honest = |seq, counts| Tell { incarnation: [9; 16], ..told(seq, counts, vec![]) };
    let granted = Tell { wants: want(20 * MICRO), ..of_honest(1, vec![]) };
    assert_eq!(lab.tell(honest, granted).await.leases[0].amount, 20 * MICRO);
    for run in 1..5 {
        lab.tell(liar, told(run, vec![everything(&child, lab.month(), run)], vec![])).await;
    }
    assert_eq!(lab.spent(&house, &house.master).await, 80);
    // What the other was granted it can still tell.
    lab.tell(honest, of_honest(2, vec![bytes(&child, 2 * GIB)])).await;
    assert_eq!(lab.spent(&house, &house.master).await, 90);
    lab.tell(honest, of_honest(3, vec![bytes(&child, 9 * GIB)])).await;
    assert_eq!(lab.spent(&house, &house.master).await, 100);
    assert_eq!(lab.usage(&house, "").await["total_cents"], 100.0);
}

#[tokio::test]
async fn months_to_come_cannot_be_charged() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let child = lab.child(&house.master).await;
    let relay = lab.teller(&house, &[&child]).await;
    let next = lab.month().after();
    lab.tell(relay, told(1, vec![everything(&child, next, 1)], vec![])).await;
    let all = format!("?to={}", next.after().start());
    assert_eq!(lab.usage(&house, &all).await["points"], json!([]));
}

/// However much is said, everything goes on, and the numbers stay where they end.
#[tokio::test]
async fn the_largest_numbers_end_where_they_must() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let children = [lab.child(&house.master).await, lab.child(&house.master).await];
    let relay = lab.teller(&house, &[&children[0], &children[1]]).await;
    for run in 1..1500 {
        let counts = children.iter().map(|child| everything(child, lab.month(), run)).collect();
        let told = lab.tell(relay, told(run, counts, vec![])).await;
        assert_eq!((told.seq, told.refused), (run, vec![]));
    }
    let usage = lab.usage(&house, "").await;
    assert_eq!(usage["points"][0]["bytes_in"], 1_u64 << 60, "{usage}");
    assert!(usage["total_cents"].as_f64().unwrap() > 1e12, "{usage}");
    assert!(lab.spent(&house, &house.master).await.as_u64().unwrap() > 1_000_000_000_000);
    // A limit is obeyed from here on, and taken away again.
    lab.limit(&house, &house.master, Some(1_000_000_000)).await;
    let want = vec![Want { key: house.master.serial, held: 0, ask: u64::MAX }];
    assert_eq!(lab.tell(relay, told(2000, vec![], want)).await.leases[0].amount, 0);
}
