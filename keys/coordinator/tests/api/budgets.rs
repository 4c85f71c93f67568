//! Budgets: who sets them, what is told of use, and what relays may spend.

mod lying;
mod sharing;

use std::time::Instant;

use mytunnel_keys::api::MintAnswer;
use mytunnel_keys::certificate;
use mytunnel_keys::error::Code;
use mytunnel_keys::feed::Change;
use mytunnel_keys::id::{ProjectId, PublicKey};
use mytunnel_keys::usage::{Count, Lease, MICRO, Meter, Month, Standing, Tell, Told, Usage, Want};
use serde_json::{Value, json};

use crate::support::{Answer, By, DAY, House, Key, Lab, START, eventually, fresh_seed, random};

/// A GiB, which costs five cents.
const GIB: u64 = 1 << 30;

impl Lab {
    async fn set_budget(&self, by: By<'_>, key: &Key, body: Value) -> Answer {
        let path = format!("/api/v1/tokens/{}/budget", key.serial.nonce());
        self.call(by, "PUT", &path, body).await
    }

    async fn limit(&self, house: &House, key: &Key, cents: Option<u64>) -> Value {
        let body = json!({"monthlyBudgetUsdCents": cents});
        self.set_budget(By::Key(&house.device), key, body).await.ok()
    }

    async fn enrolled(&self) -> PublicKey {
        let id = fresh_seed().public();
        self.coordinator.enroll_relay(id, Vec::new()).await.unwrap();
        id
    }

    /// A relay that has served these keys, and follows no longer.
    async fn teller(&self, house: &House, keys: &[&Key]) -> PublicKey {
        let relay = self.enrolled().await;
        self.served(house, &house.project, &[relay], keys).await;
        relay
    }

    async fn served(&self, house: &House, project: &ProjectId, relays: &[PublicKey], keys: &[&Key]) {
        let live = async |wanted: usize| {
            for key in keys {
                eventually(async || {
                    let row = self.show(By::Key(&house.device), key).await;
                    (row["live_tunnels"] == wanted).then_some(())
                })
                .await;
            }
        };
        // One after another: a tunnel at two relays counts once.
        for relay in relays {
            let link = self.subscribe(*relay, None).await;
            for key in keys {
                link.present(key).await;
                link.up(project, &format!("n{}", key.serial.nonce()), key).await;
            }
            live(1).await;
            drop(link);
            live(0).await;
        }
    }

    async fn tell(&self, relay: PublicKey, tell: Tell) -> Told {
        self.coordinator.take_usage(relay, tell).await.unwrap()
    }

    /// Tells all that the meter has, and gives it the answers.
    async fn settle(&self, relay: PublicKey, meter: &mut Meter, now: Instant) {
        while let Some(tell) = meter.next(now) {
            meter.told(&self.tell(relay, tell).await);
        }
    }

    async fn usage(&self, house: &House, query: &str) -> Value {
        self.call(By::Key(&house.device), "GET", &format!("/api/v1/usage{query}"), Value::Null).await.ok()
    }

    fn month(&self) -> Month {
        Month::of(self.now())
    }
}

fn told(seq: u64, counts: Vec<Count>, wants: Vec<Want>) -> Tell {
    Tell { incarnation: [7; 16], seq, prices: 0, counts, wants }
}

fn bytes(key: &Key, bytes_out: u64) -> Count {
    let total = Usage { bytes_out, ..Usage::default() };
    Count { serial: key.serial, month: Month::of(START), run: 1, total }
}

#[tokio::test]
async fn an_owner_sets_freezes_and_lifts_a_budget_and_relays_confirm() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let mut relay = lab.relay().await;
    for (cents, standing) in
        [(json!(5000), Standing::Limited), (json!(0), Standing::Frozen), (json!(null), Standing::Free)]
    {
        let set = async {
            let body = json!({"monthlyBudgetUsdCents": cents});
            lab.set_budget(By::Bearer(&house.token), &house.master, body).await.ok()
        };
        let (answer, changes) = tokio::join!(set, relay.delta());
        assert_eq!(changes, [Change::Budget { serial: house.master.serial, standing }]);
        assert_eq!(
            (&answer["budget_cents"], &answer["nonce"]),
            (&cents, &json!(house.master.serial.nonce()))
        );
        assert_eq!(answer["relays"][0]["applied"], true, "{answer}");
        assert_eq!(lab.show(By::Key(&house.device), &house.master).await["budget_cents"], cents);
    }
    let log = lab.call(By::Key(&house.device), "GET", "/api/v1/audit", Value::Null).await.ok();
    let acts: Vec<_> = log["entries"].as_array().unwrap().iter().take(3).map(|entry| &entry["act"]).collect();
    assert_eq!(acts, ["key.budget"; 3]);
}

#[tokio::test]
async fn a_tenant_that_changes_budgets_without_end_is_told_to_wait_but_may_freeze() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    for cents in 1..=300 {
        lab.limit(&house, &house.master, Some(cents)).await;
    }
    let set = async |cents| {
        let body = json!({"monthlyBudgetUsdCents": cents});
        lab.set_budget(By::Key(&house.device), &house.master, body).await
    };
    set(Some(301)).await.refused(Code::RateLimited);
    assert_eq!(set(Some(0)).await.ok()["budget_cents"], 0);
    set(None).await.refused(Code::RateLimited);
    lab.advance(60);
    assert_eq!(set(None).await.ok()["budget_cents"], Value::Null);
}

#[tokio::test]
async fn what_is_no_budget_changes_nothing() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    lab.limit(&house, &house.master, Some(700)).await;
    for (body, status) in [
        (json!({}), 422),
        (json!({"monthlyBudgetUSDCents": null}), 422),
        (json!({"monthlyBudgetUsdCents": -1}), 400),
        (json!({"monthlyBudgetUsdCents": 1_000_000_001}), 400),
        (json!({"monthlyBudgetUsdCents": 1.5}), 400),
        (json!({"monthlyBudgetUsdCents": "5"}), 400),
        (json!([]), 422),
        (json!(5), 400),
    ] {
        let answer = lab.set_budget(By::Bearer(&house.token), &house.master, body.clone()).await;
        assert_eq!(answer.status, status, "{body}");
        answer.refused(Code::BadRequest);
        assert_eq!(lab.show(By::Key(&house.device), &house.master).await["budget_cents"], 700, "{body}");
    }
}

#[tokio::test]
async fn no_holder_of_a_key_sets_its_budget() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let child = lab.child(&house.master).await;
    lab.limit(&house, &house.master, Some(5)).await;
    let raise = json!({"monthlyBudgetUsdCents": null});
    for target in [&house.master, &child] {
        lab.set_budget(By::Key(&house.master), target, raise.clone()).await.refused(Code::MasterCannotAct);
        lab.set_budget(By::Key(&child), target, raise.clone()).await.refused(Code::ScopeDenied);
    }
    let own = lab.set_budget(By::Key(&house.device), &house.device, raise.clone()).await;
    assert!(own.refused(Code::ScopeDenied).contains("its own budget"));
    assert_eq!(lab.set_budget(By::Nobody, &house.master, raise.clone()).await.status, 401);
    let missing = Key { seed: fresh_seed(), ..child.clone() };
    let missing = Key { serial: mytunnel_keys::id::Serial::from_bytes(random()), ..missing };
    lab.set_budget(By::Key(&house.device), &missing, raise).await.refused(Code::NotFound);
    assert_eq!(lab.show(By::Key(&house.device), &house.master).await["budget_cents"], 5);
}

#[tokio::test]
async fn a_child_may_have_a_narrower_budget_from_birth() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    lab.limit(&house, &house.master, Some(500)).await;
    let body =
        |cents: Value| json!({"public_key": fresh_seed().public(), "ttl": 3600, "budget_cents": cents});
    let mint = async |cents| lab.call(By::Key(&house.master), "POST", "/api/v1/mint", body(cents)).await;
    mint(json!(501)).await.refused(Code::ScopeDenied);
    mint(json!(0)).await.refused(Code::BadRequest);
    let (child, minted): (Key, MintAnswer) = lab.mint(&house.master, json!({"budget_cents": 500})).await;
    assert_eq!(lab.show(By::Key(&house.device), &child).await["budget_cents"], 500);
    let claims =
        certificate::verify(&minted.certificate, &lab.coordinator.trust(), &child.seed.public(), lab.now())
            .unwrap();
    assert_eq!(claims.budget.as_ref().map(|id| &id[..]), Some(&child.serial.as_bytes()[..8]));
    let (_, plain) = lab.mint(&house.master, Value::Null).await;
    assert!(!plain.certificate.windows(8).any(|part| part == &child.serial.as_bytes()[..8]));

    // It is leased from both, and a new relay learns from the feed of the one that an owner set.
    let relay = lab.enrolled().await;
    let wants = [&child, &house.master].map(|key| Want { key: key.serial, held: 0, ask: u64::MAX });
    let leases = lab.tell(relay, told(1, Vec::new(), wants.to_vec())).await.leases;
    assert!(leases.iter().all(|lease| lease.amount == 125 * MICRO), "{leases:?}");
    let budget = Change::Budget { serial: house.master.serial, standing: Standing::Limited };
    assert_eq!(lab.snapshot(relay).await, [budget]);
}

/// Whoever revokes their own key and not its children does not set these free.
#[tokio::test]
async fn children_that_outlive_their_parent_pay_by_its_budget() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    lab.child(&house.master).await;
    lab.limit(&house, &house.master, Some(100)).await;
    lab.revoke(By::Key(&house.master), &house.master, false).await.ok();
    let budget = Change::Budget { serial: house.master.serial, standing: Standing::Limited };
    assert!(lab.snapshot(lab.enrolled().await).await.contains(&budget));
    // With the last of them it is no more to anybody.
    lab.advance(DAY + 300);
    assert!(!lab.snapshot(lab.enrolled().await).await.contains(&budget));
}

#[tokio::test]
async fn what_is_told_is_charged_once_to_a_key_and_its_parent() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let (one, two) = (lab.child(&house.master).await, lab.child(&house.master).await);
    let relay = lab.teller(&house, &[&one, &two]).await;
    lab.tell(relay, told(1, vec![bytes(&one, GIB), bytes(&two, 2 * GIB)], vec![])).await;
    // Again, late, and from a process that is not the relay's own.
    lab.tell(relay, told(1, vec![bytes(&one, 9 * GIB)], vec![])).await;
    lab.tell(relay, told(3, vec![bytes(&one, 3 * GIB)], vec![])).await;
    lab.tell(relay, told(2, vec![bytes(&one, 2 * GIB)], vec![])).await;
    let other = lab.teller(&house, &[&one]).await;
    lab.tell(other, told(4, vec![bytes(&one, 4 * GIB)], vec![])).await;

    let spent = async |key: &Key| lab.show(By::Key(&house.device), key).await["spent_cents"].clone();
    assert_eq!(
        (spent(&one).await, spent(&two).await, spent(&house.master).await),
        (json!(15), json!(10), json!(25))
    );
    let usage = lab.usage(&house, "").await;
    assert_eq!(
        (&usage["total_cents"], &usage["currency"], &usage["month"]),
        (&json!(25.0), &json!("USD"), &json!("2027-01"))
    );
    assert_eq!(usage["points"][0]["bytes_out"], 5 * GIB);
    let keys: Vec<_> =
        usage["keys"].as_array().unwrap().iter().map(|key| (&key["nonce"], &key["cents"])).collect();
    let nonce = |key: &Key| json!(key.serial.nonce());
    assert_eq!(
        keys,
        [(&nonce(&house.master), &json!(25.0)), (&nonce(&one), &json!(15.0)), (&nonce(&two), &json!(10.0)),]
    );
    let only = lab.usage(&house, &format!("?key={}&by=hour", two.serial.nonce())).await;
    assert_eq!(only["total_cents"], 10.0);

    // A child sees its own use, a master that of its children, and nobody that of others.
    let by = async |key| {
        lab.call(By::Key(key), "GET", "/api/v1/usage", Value::Null).await.ok()["total_cents"].clone()
    };
    assert_eq!((by(&two).await, by(&house.master).await), (json!(10.0), json!(25.0)));
    let (_, foreign) = lab.project(By::Key(&house.device), "other").await;
    assert_eq!(by(&foreign).await, 0.0);
}

#[tokio::test]
async fn a_frozen_budget_leases_nothing_and_a_raised_one_leases_again() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let relay = lab.enrolled().await;
    let want = |held| vec![Want { key: house.master.serial, held, ask: 10 * MICRO }];
    lab.limit(&house, &house.master, Some(0)).await;
    let amount = async |seq, held| lab.tell(relay, told(seq, vec![], want(held))).await.leases[0].amount;
    assert_eq!(amount(1, 0).await, 0);
    lab.limit(&house, &house.master, Some(8)).await;
    assert_eq!(amount(2, 0).await, 2 * MICRO);
    lab.limit(&house, &house.master, None).await;
    assert_eq!(amount(3, 0).await, 10 * MICRO, "there is no limit");
}

#[tokio::test]
async fn what_a_relay_left_behind_is_charged_until_it_tells_after_all() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let child = lab.child(&house.master).await;
    lab.limit(&house, &house.master, Some(100)).await;
    let (relay, other) = (lab.teller(&house, &[&child]).await, lab.enrolled().await);
    let want = |held| vec![Want { key: house.master.serial, held, ask: u64::MAX }];
    assert_eq!(lab.tell(relay, told(1, vec![], want(0))).await.leases[0].amount, 25 * MICRO);
    let spent = async || lab.show(By::Key(&house.device), &house.master).await["spent_cents"].clone();
    assert_eq!(spent().await, 0);
    let elsewhere = Tell { incarnation: [9; 16], ..told(1, vec![], want(0)) };
    let lease = lab.tell(other, elsewhere).await.leases[0];
    assert_eq!(lease, Lease { key: house.master.serial, amount: 75 * MICRO / 4, seconds: 60 });

    // The other process of the same relay: the first is gone for good.
    let again = Tell { incarnation: [8; 16], ..told(1, vec![], vec![]) };
    lab.tell(relay, again).await;
    assert_eq!(spent().await, 25);
    assert_eq!(lab.usage(&house, "").await["total_cents"], 25.0);
    // A message of it was on its way all the time.
    lab.tell(relay, told(2, vec![bytes(&child, GIB)], want(20 * MICRO))).await;
    assert_eq!(spent().await, 5);
    assert_eq!(lab.tell(relay, told(3, vec![], want(0))).await.leases[0].amount, 0, "it has ended");
}

#[tokio::test]
async fn a_month_begins_with_its_budget_and_old_hours_become_days() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let child = lab.child(&house.master).await;
    lab.limit(&house, &house.master, Some(10)).await;
    let relay = lab.teller(&house, &[&child]).await;
    let mut meter = Meter::new([7; 16]);
    meter.set_standing(house.master.serial, Standing::Limited);
    meter.open(child.serial, Some(house.master.serial));
    let now = Instant::now();
    let used = Usage { bytes_in: 2 * GIB, ..Usage::default() };
    meter.count(child.serial, Some(house.master.serial), lab.month(), used);
    lab.settle(relay, &mut meter, now).await;
    assert_eq!(meter.left(&house.master.serial, now), Some(0));
    assert_eq!(lab.show(By::Key(&house.device), &house.master).await["spent_cents"], 10);

    let before = lab.now();
    lab.advance(lab.month().after().start() - lab.now());
    lab.coordinator.enroll_relay(relay, Vec::new()).await.unwrap();
    meter.ask(house.master.serial);
    lab.settle(relay, &mut meter, now).await;
    assert_eq!(meter.left(&house.master.serial, now), Some(MICRO / 2));
    let row = lab.call(By::Bearer(&house.token), "GET", "/api/v1/tokens", Value::Null).await;
    // The session is over by then; its owner signs in again.
    assert_eq!(row.status, 401);
    let owner = lab.owner_again().await;
    let (device, _) = lab.device(&owner).await;
    assert_eq!(lab.show(By::Key(&device), &house.master).await["spent_cents"], 0);
    let house = House { token: owner, device, ..house };
    let picture = lab.usage(&house, &format!("?from={before}&by=month")).await;
    assert_eq!(picture["points"].as_array().map(Vec::len), Some(1), "{picture}");
    let hourly = lab.usage(&house, &format!("?from={}&by=hour", before - DAY)).await;
    assert_eq!(hourly["points"][0]["at"], before - before % 3600);
}

#[tokio::test]
async fn what_one_device_of_a_member_costs_is_gone_for_the_others() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let (browser, one) = crate::people::join(&lab, &house, "member").await;
    lab.limit(&house, &one, Some(12)).await;
    let (two, _) = lab.device(&browser.access).await;
    let child = lab.mint(&one, json!({"project": house.project})).await.0;
    let (relay, other) = (lab.enrolled().await, lab.enrolled().await);
    lab.served(&house, &house.project, &[relay, other], &[&one, &two]).await;
    lab.served(&house, &house.project, &[relay], &[&child]).await;
    let ask = |key: &Key| Want { key: key.serial, held: 0, ask: u64::MAX };
    let of_other = |seq, counts, wants| Tell { incarnation: [9; 16], ..told(seq, counts, wants) };
    let amounts = |told: Told| told.leases.iter().map(|lease| lease.amount).collect::<Vec<_>>();
    // What one device is leased is granted to no other, whichever relay asks: a quarter each time of what is left.
    let leased = amounts(lab.tell(relay, told(1, vec![], vec![ask(&one), ask(&two)])).await);
    let leased_elsewhere = amounts(lab.tell(other, of_other(1, vec![], vec![ask(&two)])).await);
    let mut sums: Vec<_> = leased.into_iter().chain(leased_elsewhere).collect();
    sums.sort_unstable_by(|one, other| other.cmp(one));
    assert_eq!(sums, [3 * MICRO, 9 * MICRO / 4, 27 * MICRO / 16]);
    // Give it back, and use: by a device, by a child of the other.
    let back = |key: &Key| Want { key: key.serial, held: 0, ask: 0 };
    lab.tell(other, of_other(2, vec![], vec![back(&two)])).await;
    let used = vec![bytes(&child, GIB), bytes(&two, GIB)];
    lab.tell(relay, told(2, used, vec![back(&one), back(&two)])).await;
    for (key, own) in [(&one, 5), (&two, 5)] {
        let row = lab.show(By::Key(&house.device), key).await;
        assert_eq!((&row["spent_cents"], &row["shared_spent_cents"]), (&json!(own), &json!(10)), "{row}");
    }
    assert!(lab.show(By::Key(&house.device), &child).await["shared_spent_cents"].is_null());
    // Of what is left nobody is charged more than once, and then nothing is leased, to a new device neither.
    lab.tell(other, of_other(3, vec![bytes(&two, GIB)], vec![])).await;
    assert_eq!(lab.show(By::Key(&house.device), &one).await["shared_spent_cents"], 12);
    let (three, _) = lab.device(&browser.access).await;
    let nothing = told(3, vec![], [&one, &two, &three].map(ask).to_vec());
    assert_eq!(amounts(lab.tell(relay, nothing).await), [0; 3]);
    // The next month has it all again.
    lab.advance(40 * DAY);
    let next = Tell { incarnation: [5; 16], ..told(1, vec![], vec![ask(&three)]) };
    assert_eq!(amounts(lab.tell(lab.enrolled().await, next).await), [3 * MICRO]);
}

#[tokio::test]
async fn what_a_relay_leaves_behind_is_charged_to_the_account_and_given_back() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let (browser, one) = crate::people::join(&lab, &house, "member").await;
    lab.limit(&house, &one, Some(100)).await;
    let (two, _) = lab.device(&browser.access).await;
    let relay = lab.teller(&house, &[&one]).await;
    let want = vec![Want { key: one.serial, held: 0, ask: 20 * MICRO }];
    lab.tell(relay, told(1, vec![], want)).await;
    // A new process of it: what the old one held is gone, for the other device too.
    lab.tell(relay, Tell { incarnation: [8; 16], ..told(1, vec![], vec![]) }).await;
    let gone = async || lab.show(By::Key(&house.device), &two).await["shared_spent_cents"].clone();
    assert_eq!(gone().await, 20);
    // It was there after all, and tells.
    lab.tell(relay, told(2, vec![], vec![])).await;
    assert_eq!(gone().await, 0);
}
