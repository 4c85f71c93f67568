use mytunnel_keys::secret::Seed;

use super::*;
use crate::content::{Introduced, Said};

const SESSION: SessionId = SessionId([7; 8]);

fn seed(member: MemberId) -> Seed {
    Seed::from_bytes([member + 1; 32])
}

/// Writes a record as an honest host does.
struct Writer {
    number: u64,
    head: Hash,
    last: BTreeMap<MemberId, (u64, Hash)>,
}

impl Writer {
    fn new() -> Self {
        Self { number: 0, head: Hash::default(), last: BTreeMap::new() }
    }

    fn write(&mut self, author: MemberId, content: Content) -> (Signed, Signed) {
        let (number, before) = self.last.get(&author).copied().unwrap_or_default();
        let envelope = Envelope {
            session: SESSION,
            author,
            number: number + 1,
            before,
            at: 0,
            reply_to: None,
            to: Vec::new(),
            content,
        };
        let signed = Signed::sign(ENVELOPE, &envelope, &seed(author));
        self.number += 1;
        let seal = Seal {
            session: SESSION,
            number: self.number,
            before: self.head,
            author,
            by_author: envelope.number,
            envelope: signed.hash(),
        };
        let seal = Signed::sign(SEAL, &seal, &seed(HOST));
        self.head = seal.hash();
        self.last.insert(author, (envelope.number, signed.hash()));
        (seal, signed)
    }
}

fn joined(id: MemberId) -> Content {
    let key = seed(id).public();
    let member = Introduced { id, name: format!("m{id}"), agent: String::new(), key, verified: false };
    Content::System(System::Joined { member })
}

fn chat(text: &str) -> Content {
    Content::Said(Said::Chat { text: text.to_owned() })
}

/// A record of five entries by the host and two members.
fn record() -> Vec<(Signed, Signed)> {
    let mut writer = Writer::new();
    vec![
        writer.write(HOST, joined(1)),
        writer.write(HOST, joined(2)),
        writer.write(1, chat("one")),
        writer.write(2, chat("two")),
        writer.write(1, chat("three")),
    ]
}

fn ledger() -> Ledger {
    Ledger::new(SESSION, seed(HOST).public(), 0, Hash::default())
}

fn read(entries: impl IntoIterator<Item = (Signed, Signed)>) -> Result<Ledger, Fork> {
    let mut ledger = ledger();
    for (seal, signed) in entries {
        ledger.accept(seal, Some(signed))?;
    }
    Ok(ledger)
}

#[test]
fn an_honest_record_is_taken_and_doubles_are_dropped() {
    let mut ledger = read(record()).unwrap();
    assert_eq!(ledger.number(), 5);
    let (seal, signed) = record().remove(2);
    assert_eq!(ledger.accept(seal, Some(signed)), Ok(false));
    assert_eq!(ledger.after(3).map(|entry| entry.author).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(ledger.last_of(1).0, 2);
}

#[test]
fn a_dropped_a_swapped_and_a_moved_entry_are_named() {
    for gone in 0..4 {
        let mut entries = record();
        entries.remove(gone);
        assert_eq!(read(entries).unwrap_err(), Fork { number: gone as u64 + 1 }, "{gone} dropped");
        let mut entries = record();
        entries.swap(gone, gone + 1);
        assert_eq!(read(entries).unwrap_err(), Fork { number: gone as u64 + 1 }, "{gone} swapped");
    }
}

#[test]
fn a_changed_envelope_is_named_also_under_a_seal_that_fits_it() {
    let mut entries = record();
    entries[2].1 = Signed::sign(ENVELOPE, &chat("other"), &seed(1));
    assert_eq!(read(entries).unwrap_err(), Fork { number: 3 });

    // The host itself puts words into a member's mouth.
    let mut writer = Writer::new();
    let mut entries = vec![writer.write(HOST, joined(1)), writer.write(1, chat("one"))];
    let envelope: Envelope = entries[1].1.open(ENVELOPE, &seed(1).public()).unwrap();
    let forged = Signed::sign(ENVELOPE, &Envelope { content: chat("pay"), ..envelope }, &seed(HOST));
    let place: Seal = entries[1].0.open(SEAL, &seed(HOST).public()).unwrap();
    let seal = Seal { envelope: forged.hash(), ..place };
    entries[1] = (Signed::sign(SEAL, &seal, &seed(HOST)), forged);
    assert_eq!(read(entries).unwrap_err(), Fork { number: 2 });
}

#[test]
fn a_host_that_tells_two_stories_of_one_entry_is_found_out() {
    let mut ledger = read(record()).unwrap();
    let mut writer = Writer::new();
    writer.write(HOST, joined(1));
    writer.write(HOST, joined(2));
    let (seal, signed) = writer.write(1, chat("another third"));
    assert!(ledger.accept(seal, Some(signed)).is_err());
}

#[test]
fn a_member_says_nothing_in_the_hosts_name_nor_under_anothers_number() {
    let mut writer = Writer::new();
    let entries = [writer.write(HOST, joined(1)), writer.write(1, Content::System(System::Locked))];
    assert_eq!(read(entries).unwrap_err(), Fork { number: 2 });
    let mut ledger = read([Writer::new().write(HOST, joined(0))]).unwrap();
    assert_eq!(ledger.authors.len(), 1);
    assert!(ledger.skip(0, Hash::default()).is_err());
}

#[test]
fn what_was_for_others_keeps_its_place() {
    let mut ledger = ledger();
    for (at, (seal, signed)) in record().into_iter().enumerate() {
        assert_eq!(ledger.accept(seal, (at != 2).then_some(signed)), Ok(true), "{at}");
    }
    assert!(ledger.after(2).next().unwrap().envelope.is_none());
}

#[test]
fn who_comes_later_checks_from_there_on() {
    let entries = record();
    let mut late = Ledger::new(SESSION, seed(HOST).public(), 2, entries[1].0.hash());
    late.introduce(1, seed(1).public());
    late.introduce(2, seed(2).public());
    for (seal, signed) in entries.into_iter().skip(2) {
        assert_eq!(late.accept(seal, Some(signed)), Ok(true));
    }
}

#[test]
fn a_record_is_kept_within_its_bounds() {
    let mut writer = Writer::new();
    let mut ledger = ledger();
    let text = "x".repeat(limits::KEPT_BYTES / 100);
    let (seal, signed) = writer.write(HOST, joined(1));
    ledger.accept(seal, Some(signed)).unwrap();
    for _ in 0..150 {
        let (seal, signed) = writer.write(HOST, chat(&text[..limits::TEXT]));
        ledger.accept(seal, Some(signed)).unwrap();
    }
    assert!(ledger.bytes <= limits::KEPT_BYTES);
    for _ in 0..limits::KEPT {
        let (seal, signed) = writer.write(HOST, chat("x"));
        ledger.accept(seal, Some(signed)).unwrap();
    }
    assert_eq!(ledger.entries.len(), limits::KEPT);
    assert_eq!(ledger.first_kept(), ledger.number() - limits::KEPT as u64 + 1);
}
