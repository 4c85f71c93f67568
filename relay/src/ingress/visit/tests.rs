use super::*;
use crate::ingress::limits::Addresses;

/// A visit of its own.
pub(crate) fn visit() -> Arc<Visit> {
    let address = "192.0.2.1".parse().unwrap();
    let seat = Addresses::default().connect(address, 1).unwrap();
    let guest = Guest { visitor: Visitor::new(address, false), address: seat };
    Arc::new(Visit::new(Arc::new(guest), Arc::new(Limits::default()), Tally::default(), Instant::now()))
}

#[tokio::test(start_paused = true)]
async fn the_watchdog_is_set_again_only_for_an_earlier_deadline() {
    let visit = visit();
    let start = Instant::now();
    visit.request();
    assert_eq!(visit.rearmed(), None);
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(visit.judge(), Err(start + Duration::from_millis(120_001)));
    visit.enter(Stage::Idle);
    assert_eq!(visit.rearmed(), Some(start + Duration::from_secs(70)));
    visit.enter(Stage::Head);
    assert_eq!(visit.rearmed(), Some(start + Duration::from_secs(20)));
    assert_eq!(visit.rearmed(), None);
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(visit.judge(), Ok(Verdict::Close));
}

#[tokio::test(start_paused = true)]
async fn an_objection_holds_for_its_request_and_those_after() {
    let visit = visit();
    visit.object(2);
    visit.request();
    assert!(!visit.is_objected());
    visit.request();
    assert!(visit.is_objected());
    visit.request();
    assert!(visit.is_objected());
}

#[tokio::test(start_paused = true)]
async fn a_time_out_concerns_one_request() {
    let visit = visit();
    visit.request();
    tokio::time::advance(Duration::from_secs(130)).await;
    assert_eq!(visit.judge(), Ok(Verdict::Answer));
    assert!(visit.is_expired());
    visit.request();
    assert!(!visit.is_expired());
}
