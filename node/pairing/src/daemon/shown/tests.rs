use std::time::Duration;

use super::*;
use crate::daemon::session::tests::room;

#[test]
fn of_proposals_a_status_has_the_newest_and_of_each_what_can_be_read_at_once() {
    let now = Now { wall: 1_800_000_000, steady: Duration::from_secs(1) };
    let mut room = room(now);
    let mut propose = |text: String, risk: String, files: usize, file: &str| {
        let (action, files) = ("do it".to_owned(), vec![file.to_owned(); files]);
        room.say(Said::Proposal { text, action, risk, files }, None, Vec::new(), now).unwrap()
    };
    for _ in 0..20 {
        let (text, risk) = ("\"".repeat(limits::TEXT), "\"".repeat(limits::PART));
        propose(text, risk, 20, &"\"".repeat(limits::PART));
    }
    // What fits exactly is whole, and with one letter or file more it is not.
    let mut newest = Vec::new();
    for (text, files, cut) in [(1024, 16, false), (1025, 16, true), (0, 17, true), (0, 0, false)] {
        newest.push((json!(propose("y".repeat(text), String::new(), files, "a")), json!(cut)));
    }
    let shown = Session::new(Side::Host(room), false, now).approvals();
    let is = |one: &Value| (one["approval"].clone(), one["cut"].clone());
    assert_eq!(shown.iter().rev().take(4).rev().map(is).collect::<Vec<_>>(), newest);
    // All that there is room for, and of the others their beginning.
    assert!(
        shown.len() == 16 && shown[11]["cut"] == true && shown[11]["files"].as_array().unwrap().len() == 16
    );
    assert!(shown[0]["cut"] == true && shown[0]["files"] == json!([]));
    assert_eq!(shown[0]["text"].as_str().unwrap().len(), 100);
    let bytes = json!(shown).to_string().len();
    assert!(bytes <= (32 << 10) + 16 * 1024, "{bytes}");
}

#[test]
fn an_answer_is_bounded_by_all_that_it_holds_and_not_by_the_texts_alone() {
    let now = Now { wall: 1_800_000_000, steady: Duration::from_secs(1) };
    let mut room = room(now);
    for _ in 0..3 {
        let files = vec!["x".repeat(limits::PART); 20];
        let (text, action, risk) = (String::new(), String::new(), String::new());
        room.say(Said::Proposal { text, action, risk, files }, None, Vec::new(), now).unwrap();
    }
    let held = Session::new(Side::Host(room), false, now);
    let mut batch = Batch::default();
    let taken = held.after(0).take_while(|entry| batch.take(&held, entry, HOST, true, now)).count();
    // The first is that the session was opened.
    assert_eq!((taken, batch.messages.len(), batch.more), (2, 1, true));
    assert!(batch.bytes <= limits::BATCH_BYTES);
}

#[test]
fn when_something_was_said_is_told_by_its_senders_clock_and_never_in_the_future() {
    let at = |wall: u64, seconds| Now { wall: 1_800_000_000 + wall, steady: Duration::from_secs(seconds) };
    let mut room = room(at(0, 1));
    room.say(Said::Chat { text: "x".to_owned() }, None, Vec::new(), at(5, 6)).unwrap();
    let held = Session::new(Side::Host(room), false, at(0, 1));
    let told = |now: Now| {
        let mut batch = Batch::default();
        assert!(held.after(0).all(|entry| batch.take(&held, entry, HOST, true, now)));
        batch.messages[0]["at"].clone()
    };
    assert_eq!(told(at(60, 61)), 1_800_000_005_000_u64);
    // Whoever looks has set its clock back.
    assert_eq!(told(at(2, 63)), 1_800_000_002_999_u64);
    assert_eq!(held.status(SessionId([1; 8]), "", at(60, 61))["opened_at"], 1_800_000_000_000_u64);
}
