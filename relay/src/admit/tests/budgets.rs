//! Budgets: who waits, who is refused, whose tunnels end, and when.

use mytunnel_keys::usage::{Lease, MICRO, PriceList, Prices, Standing, Tell, Told, Usage};

use super::*;
use crate::{
    testing::{serial, verified},
    traffic::Fill,
};

fn budget(number: u8, standing: Standing) -> Change {
    Change::Budget { serial: serial(number), standing }
}

fn bytes(number: u8, bytes_out: u64) -> Used {
    let usage = Usage { bytes_out, ..Usage::default() };
    Used { serial: serial(number), parent: Some(serial(100)), usage }
}

impl Desk {
    /// The question that is due.
    fn asked(&mut self) -> Option<Tell> {
        self.admission.poll_tell(self.now())
    }

    /// Answers a question with so much for every key.
    fn grant(&mut self, tell: &Tell, amount: u64) -> Vec<Command> {
        let leases = tell.wants.iter().map(|want| Lease { key: want.key, amount, seconds: 60 }).collect();
        let prices = PriceList { version: 1, prices: Prices::default() };
        let told = Told { seq: tell.seq, prices, leases, refused: Vec::new() };
        self.admission.handle_told(Some(&told), self.now());
        self.commands()
    }

    fn fill(&self, number: u8) -> Fill {
        self.admission.fill(&serial(number), self.now())
    }

    /// A desk where the child 1 of the key 100 serves `web` by a lease of the key's budget.
    fn leased() -> (Self, ConnectionId) {
        let mut desk = Self::open();
        desk.delta(&[budget(100, Standing::Limited)]);
        let node = desk.enter(&child(1));
        assert_eq!(desk.register(node, "web", 1), []);
        let tell = desk.asked().unwrap();
        let commands = desk.grant(&tell, MICRO);
        assert!(matches!(commands[1], Command::Route(..)), "{commands:?}");
        (desk, node)
    }
}

#[test]
fn a_key_with_a_budget_is_served_when_a_lease_is_there() {
    let (desk, _) = Desk::leased();
    assert_eq!(desk.fill(100), Fill::Left(MICRO));
    assert_eq!(desk.fill(1), Fill::Free, "it has no budget of its own");
}

#[test]
fn without_a_lease_a_registration_is_refused() {
    let mut desk = Desk::open();
    desk.delta(&[budget(100, Standing::Limited)]);
    let node = desk.enter(&child(1));
    assert_eq!(desk.register(node, "web", 1), []);
    assert!(desk.admission.is_urgent(desk.now()));
    let tell = desk.asked().unwrap();
    assert_eq!(tell.wants.iter().map(|want| want.key).collect::<Vec<_>>(), [serial(100)]);
    let commands = desk.grant(&tell, 0);
    assert_eq!(code_of(&commands), Some(Code::BudgetExceeded));
    assert!(matches!(reports(&commands)[..], [Report::Refused { code: Code::BudgetExceeded, .. }]));
    assert!(farewells(&commands).is_empty(), "only the request is refused");
}

#[test]
fn a_coordinator_that_does_not_answer_leases_nothing() {
    let mut desk = Desk::open();
    desk.delta(&[budget(100, Standing::Limited)]);
    let node = desk.enter(&child(1));
    desk.register(node, "web", 1);
    desk.asked().unwrap();
    desk.admission.handle_told(None, desk.now());
    assert_eq!(desk.commands(), [], "it is asked again");
    assert!(desk.asked().is_some());
    assert_eq!(desk.wait(2), []);
    assert_eq!(code_of(&desk.wait(1)), Some(Code::BudgetExceeded));
}

#[test]
fn a_budget_of_a_keys_own_is_known_by_its_certificate() {
    let mut desk = Desk::open();
    let claims = Claims { budget: Some([1; 8]), ..child_claims(1, NOW) };
    assert_eq!(verified(claims.clone()).budget, Some([1; 8]));
    let node = desk.enter(&issued(1, claims));
    assert_eq!(desk.register(node, "web", 1), []);
    let tell = desk.asked().unwrap();
    assert_eq!(tell.wants.iter().map(|want| want.key).collect::<Vec<_>>(), [serial(1)]);
    desk.grant(&tell, MICRO);
    assert_eq!(desk.fill(1), Fill::Left(MICRO));
}

#[test]
fn a_freeze_ends_everything_at_once_and_lets_nobody_in() {
    let (mut desk, node) = Desk::leased();
    let commands = desk.delta(&[budget(100, Standing::Frozen)]);
    assert_eq!((unrouted(&commands), farewells(&commands)), (vec!["web"], vec![node]));
    assert_eq!(code_of(&commands), Some(Code::BudgetExceeded));
    assert!(commands.iter().any(|command| matches!(command, Command::Retire { .. })));
    assert!(matches!(reports(&commands).last(), Some(Report::Applied { closed: 1, .. })));

    let other = desk.connect(&child(2));
    assert_eq!(code_of(&desk.hello(other, &child(2).certificate)), Some(Code::BudgetExceeded));
    desk.delta(&[budget(100, Standing::Free)]);
    let node = desk.enter(&child(1));
    desk.serve(node, "web", 1);
    // What a snapshot does not name has no budget.
    desk.delta(&[budget(100, Standing::Frozen)]);
    desk.snapshot(&[]);
    let node = desk.enter(&child(1));
    desk.serve(node, "web", 1);
}

#[test]
fn what_is_spent_is_asked_for_again_and_ended_after_the_grace() {
    let (mut desk, node) = Desk::leased();
    desk.admission.handle_usage(&[bytes(1, 1 << 27)], desk.now());
    assert_eq!(desk.fill(100), Fill::Left(MICRO - 5 * MICRO / 8));
    assert!(desk.admission.is_urgent(desk.now()), "it is low");
    let tell = desk.asked().unwrap();
    assert_eq!(tell.counts[0].total.bytes_out, 1 << 27);
    desk.grant(&tell, 1000);
    desk.admission.handle_usage(&[bytes(1, 1 << 30)], desk.now());
    assert_eq!((desk.commands(), desk.fill(100)), (vec![], Fill::Left(0)));
    let tell = desk.asked().unwrap();
    assert_eq!(desk.grant(&tell, 0), []);
    assert_eq!(desk.fill(100), Fill::Shut, "new requests are refused at once");
    assert_eq!(desk.wait(2), []);
    let commands = desk.wait(1);
    assert_eq!((unrouted(&commands), farewells(&commands)), (vec!["web"], vec![node]));
    assert_eq!(code_of(&commands), Some(Code::BudgetExceeded));
}

#[test]
fn a_budget_that_is_raised_in_time_ends_nothing() {
    let (mut desk, _) = Desk::leased();
    desk.admission.handle_usage(&[bytes(1, 1 << 30)], desk.now());
    let tell = desk.asked().unwrap();
    desk.grant(&tell, 0);
    desk.wait(2);
    let commands = desk.delta(&[budget(100, Standing::Limited)]);
    assert!(unrouted(&commands).is_empty());
    let tell = desk.asked().unwrap();
    desk.grant(&tell, MICRO);
    assert_eq!(desk.wait(10), []);
    assert_eq!(desk.fill(100), Fill::Left(MICRO));
}

#[test]
fn a_relay_that_is_cut_off_stops_at_the_end_of_its_lease() {
    let (mut desk, node) = Desk::leased();
    desk.wait(57);
    desk.heartbeat();
    assert_eq!(desk.fill(100), Fill::Left(MICRO));
    assert_eq!(desk.wait(3), []);
    assert_eq!(desk.fill(100), Fill::Left(0));
    desk.heartbeat();
    assert_eq!(farewells(&desk.wait(3)), [node]);
}
