use mytunnel_keys::secret::Seed;

use super::*;
use crate::{
    content::{Introduced, SEAL, Said},
    transcript::TranscriptError,
};

const SESSION: SessionId = SessionId([7; 8]);

fn seed(member: MemberId) -> Seed {
    Seed::from_bytes([member + 1; 32])
}

/// Writes a record as an honest host does.
struct Writer {
    number: u64,
    head: Hash,
    last: BTreeMap<MemberId, (u64, Hash)>,
    /// For whom the next is; everybody if empty.
    to: Vec<MemberId>,
}

impl Writer {
    fn new() -> Self {
        Self { number: 0, head: Hash::default(), last: BTreeMap::new(), to: Vec::new() }
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
            to: self.to.clone(),
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
            to: std::mem::take(&mut self.to),
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
    Ledger::new(SESSION, seed(HOST).public(), HOST)
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
    for taken in [HOST, 1] {
        let mut writer = Writer::new();
        let entries = [writer.write(HOST, joined(1)), writer.write(HOST, joined(taken))];
        assert_eq!(read(entries).unwrap_err(), Fork { number: 2 }, "{taken}");
    }
}

#[test]
fn what_was_for_others_keeps_its_place() {
    let mut writer = Writer::new();
    let mut ledger = Ledger::new(SESSION, seed(HOST).public(), 2);
    for member in [1, 2] {
        let (seal, signed) = writer.write(HOST, joined(member));
        ledger.accept(seal, Some(signed)).unwrap();
    }
    writer.to = vec![HOST];
    let (seal, _) = writer.write(1, chat("for the host"));
    assert_eq!(ledger.accept(seal, None), Ok(true));
    assert!(ledger.after(2).next().unwrap().envelope.is_none());

    // What is for this reader, too, is missed.
    for to in [vec![], vec![2], vec![HOST, 2]] {
        writer.to = to;
        let (seal, signed) = writer.write(1, chat("for two"));
        assert_eq!(ledger.accept(seal.clone(), None), Err(Fork { number: ledger.number() + 1 }));
        assert_eq!(ledger.accept(seal, Some(signed)), Ok(true));
    }
}

#[test]
fn a_seal_says_for_whom_it_is_as_the_author_did() {
    let mut writer = Writer::new();
    let entries = [writer.write(HOST, joined(1)), writer.write(1, chat("for all"))];
    let place: Seal = entries[1].0.open(SEAL, &seed(HOST).public()).unwrap();
    let narrower = Signed::sign(SEAL, &Seal { to: vec![HOST], ..place }, &seed(HOST));
    let mut ledger = read(entries[..1].to_vec()).unwrap();
    assert_eq!(ledger.accept(narrower, Some(entries[1].1.clone())), Err(Fork { number: 2 }));
}

fn skip(number: u64, head: Hash, members: &[MemberId]) -> Skip {
    let introduced = |id: &MemberId| Introduced {
        id: *id,
        name: format!("m{id}"),
        agent: String::new(),
        key: seed(*id).public(),
        verified: false,
    };
    Skip { session: SESSION, number, head, members: members.iter().map(introduced).collect() }
}

#[test]
fn nothing_that_was_known_before_a_skip_is_taken_again_behind_it() {
    let mut ledger = read(record()).unwrap();
    let old = record().remove(2).1;
    ledger.skip(&Signed::sign(SKIP, &skip(9, Hash([9; 32]), &[HOST, 1, 2]), &seed(HOST))).unwrap();

    // The host seals a member's old words anew.
    let again = Seal {
        session: SESSION,
        number: 10,
        before: Hash([9; 32]),
        author: 1,
        by_author: 1,
        to: Vec::new(),
        envelope: old.hash(),
    };
    let again = Signed::sign(SEAL, &again, &seed(HOST));
    assert_eq!(ledger.accept(again, Some(old)), Err(Fork { number: 10 }));

    let mut writer = Writer { number: 9, head: Hash([9; 32]), ..Writer::new() };
    writer.last.insert(1, (4, Hash([4; 32])));
    let (seal, signed) = writer.write(1, chat("new"));
    assert_eq!(ledger.accept(seal, Some(signed)), Ok(true));
}

#[test]
fn a_record_with_a_gap_is_exported_from_behind_the_gap_on() {
    let mut ledger = read(record()).unwrap();
    ledger.skip(&Signed::sign(SKIP, &skip(9, Hash([9; 32]), &[HOST, 1, 2]), &seed(HOST))).unwrap();
    let exported = ledger.export(&seed(HOST));
    assert_eq!((exported.verify().unwrap().entries, exported.after), (0, 9));
    let mut writer = Writer { number: 9, head: Hash([9; 32]), ..Writer::new() };
    writer.last.insert(1, (4, Hash([4; 32])));
    for text in ["new", "newer"] {
        let (seal, signed) = writer.write(1, chat(text));
        ledger.accept(seal, Some(signed)).unwrap();
    }
    let exported = ledger.export(&seed(HOST));
    assert_eq!((exported.verify().unwrap().entries, exported.after), (2, 9));
}

#[test]
fn a_number_that_no_record_reaches_in_its_life_is_not_taken_whoever_signs_it() {
    let mut ledger = read(record()).unwrap();
    let far = skip(1 << 63, Hash([9; 32]), &[HOST, 1, 2]);
    assert_eq!(ledger.skip(&Signed::sign(SKIP, &far, &seed(HOST))).unwrap_err(), Fork { number: 6 });
    // The last that is taken, and the one behind it.
    let last = skip(limits::NUMBER - 1, Hash([9; 32]), &[HOST, 1, 2]);
    ledger.skip(&Signed::sign(SKIP, &last, &seed(HOST))).unwrap();
    let mut writer = Writer { number: limits::NUMBER - 1, head: Hash([9; 32]), ..Writer::new() };
    writer.last.insert(1, (4, Hash([4; 32])));
    let (seal, signed) = writer.write(1, chat("the last"));
    assert_eq!(ledger.accept(seal, Some(signed)), Ok(true));
    let (seal, signed) = writer.write(1, chat("one too many"));
    assert_eq!(ledger.accept(seal, Some(signed)), Err(Fork { number: limits::NUMBER + 1 }));
}

#[test]
fn a_skip_that_leads_nowhere_or_is_anybodys_or_swaps_members_is_named() {
    let entries = record();
    let fork = Err(Fork { number: 6 });
    let mut ledger = read(entries).unwrap();
    let sign = |skip: &Skip, member: MemberId| Signed::sign(SKIP, skip, &seed(member));
    for number in [0, 4, 5] {
        assert_eq!(ledger.skip(&sign(&skip(number, Hash([9; 32]), &[HOST]), HOST)), fork, "{number}");
    }
    assert_eq!(ledger.skip(&sign(&skip(9, Hash([9; 32]), &[HOST]), 1)), fork);
    let other = Skip { session: SessionId([8; 8]), ..skip(9, Hash([9; 32]), &[HOST]) };
    assert_eq!(ledger.skip(&sign(&other, HOST)), fork);
    let mut swapped = skip(9, Hash([9; 32]), &[HOST, 1]);
    swapped.members[1].key = seed(2).public();
    assert!(ledger.skip(&sign(&swapped, HOST)).is_err());
    let last = skip(limits::NUMBER, Hash([9; 32]), &[HOST, 3]);
    assert_eq!(ledger.skip(&sign(&last, HOST)), Ok(last));
}

#[test]
fn an_exported_record_holds_and_what_is_taken_out_of_it_is_named() {
    let ledger = read(record()).unwrap();
    let record = ledger.export(&seed(HOST));
    let checked = record.verify().unwrap();
    assert_eq!((checked.entries, checked.withheld), (5, 0));
    assert_eq!((checked.host, checked.reader), (seed(HOST).public(), seed(HOST).public()));

    let named = |change: &dyn Fn(&mut Transcript)| {
        let mut changed = record.clone();
        change(&mut changed);
        match changed.verify() {
            Err(TranscriptError::Fork(fork)) => fork.number,
            other => panic!("{other:?}"),
        }
    };
    let blank = |record: &mut Transcript| {
        let mut line = serde_json::to_value(&record.entries[2]).unwrap();
        line["envelope"] = serde_json::Value::Null;
        record.entries[2] = serde_json::from_value(line).unwrap();
    };
    assert_eq!(named(&blank), 3);
    let cut = |record: &mut Transcript| {
        record.entries.pop();
        record.last -= 1;
    };
    assert_eq!(named(&cut), 5);
    // Nor is it made another's, who may not have been told.
    let others = |record: &mut Transcript| record.reader = 2;
    assert_eq!(named(&others), 6);
}

#[test]
fn who_comes_later_checks_from_there_on() {
    let entries = record();
    let mut late = Ledger::behind(SESSION, seed(HOST).public(), 2, 2, entries[1].0.hash()).unwrap();
    late.introduce(1, seed(1).public()).unwrap();
    late.introduce(2, seed(2).public()).unwrap();
    assert!(late.introduce(2, seed(1).public()).is_err());
    for (seal, signed) in entries.into_iter().skip(2) {
        assert_eq!(late.accept(seal, Some(signed)), Ok(true));
    }
}

#[test]
fn what_is_too_large_to_be_said_is_not_heard_either() {
    let mut writer = Writer::new();
    let said = Said::Proposal {
        text: String::new(),
        action: String::new(),
        risk: String::new(),
        files: vec![String::new(); limits::PARTS + 1],
    };
    let entries = [writer.write(HOST, joined(1)), writer.write(1, Content::Said(said))];
    assert_eq!(read(entries).unwrap_err(), Fork { number: 2 });
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

fn together(ledger: &mut Ledger, entries: &[(Signed, Signed)]) -> Result<(), Fork> {
    ledger.foresee(entries.iter().map(|(seal, _)| seal));
    let mut entries = entries.iter().cloned();
    let taken = entries.try_for_each(|(seal, signed)| ledger.accept(seal, Some(signed)).map(drop));
    ledger.settle().and(taken)
}

/// The same words under a signature that is nobody's.
fn unsigned(seal: &Signed) -> Signed {
    let place: Seal = seal.claimed().unwrap();
    Signed::sign("something else", &place, &seed(HOST))
}

#[test]
fn what_comes_together_is_the_same_record() {
    let entries = record();
    let mut ledger = ledger();
    together(&mut ledger, &entries).unwrap();
    let alone = read(entries.clone()).unwrap();
    assert_eq!((ledger.number(), ledger.head()), (alone.number(), alone.head()));
    assert!(ledger.export(&seed(HOST)).verify().is_ok());
    // Once more, as after a cut.
    together(&mut ledger, &entries).unwrap();
    assert_eq!(ledger.number(), 5);
}

#[test]
fn a_burst_that_the_host_has_not_signed_to_its_end_is_taken_as_far_as_each_is_signed() {
    for missing in 0..5 {
        let mut entries = record();
        entries.truncate(missing + 1);
        entries[missing].0 = unsigned(&entries[missing].0);
        let mut ledger = ledger();
        assert_eq!(together(&mut ledger, &entries), Err(Fork { number: missing as u64 + 1 }));
        assert_eq!(ledger.number(), missing as u64);
        assert!(ledger.export(&seed(HOST)).verify().is_ok());
    }
}

#[test]
fn an_envelope_that_is_not_its_authors_is_named_in_a_burst_too() {
    let mut entries = record();
    let forged: Envelope = entries[2].1.claimed().unwrap();
    entries[2].1 = Signed::sign(ENVELOPE, &forged, &seed(2));
    let mut ledger = ledger();
    assert_eq!(together(&mut ledger, &entries), Err(Fork { number: 3 }));
}

#[test]
fn a_burst_with_a_gap_or_of_another_record_is_named() {
    let entries = record();
    for dropped in 0..4 {
        let mut ledger = ledger();
        let rest: Vec<_> =
            entries.iter().enumerate().filter(|(at, _)| *at != dropped).map(|(_, e)| e.clone()).collect();
        assert_eq!(together(&mut ledger, &rest), Err(Fork { number: dropped as u64 + 1 }));
    }
    // What was foreseen and did not come is no word for anything else.
    let mut ledger = ledger();
    ledger.foresee(entries.iter().map(|(seal, _)| seal));
    let (seal, signed) = entries[0].clone();
    ledger.accept(seal, Some(signed)).unwrap();
    let (_, signed) = entries[1].clone();
    assert_eq!(ledger.accept(unsigned(&entries[2].0), Some(signed)), Err(Fork { number: 2 }));
}

#[test]
fn a_place_is_proved_by_a_later_signature_and_it_is_said_where_it_is() {
    let mut entries = record();
    entries[3].0 = unsigned(&entries[3].0);
    let mut ledger = ledger();
    together(&mut ledger, &entries).unwrap();
    assert_eq!(ledger.number(), 5);
    let mut record = ledger.export(&seed(HOST));
    assert_eq!(record.verify(), Err(TranscriptError::Unsigned { number: 4 }));
    // Only as long as that is there: neither without it nor with another.
    record.entries.pop();
    assert_eq!(record.verify(), Err(TranscriptError::Fork(Fork { number: 4 })));
}

#[test]
fn a_burst_that_breaks_leaves_nothing_that_the_record_does_not_prove() {
    for (unsigned_at, broken_at, left) in [(1, 3, 1), (2, 3, 2), (0, 4, 0)] {
        let mut entries = record();
        entries[unsigned_at].0 = unsigned(&entries[unsigned_at].0);
        // Its author never said that.
        entries[broken_at].1 = entries[0].1.clone();
        let mut ledger = ledger();
        assert_eq!(together(&mut ledger, &entries), Err(Fork { number: left + 1 }));
        assert_eq!(ledger.number(), left);
        assert_eq!(ledger.export(&seed(HOST)).verify().unwrap().entries, left);
    }
}

proptest::proptest! {
    /// However a record is cut into bursts, and whatever is damaged in it: what an end takes, it can prove, and it takes nothing
    /// that was not said or is not in its place.
    #[test]
    fn what_bursts_take_is_proved_and_as_it_was_said(
        cuts in proptest::collection::vec(1..6_usize, 5),
        damages in proptest::collection::vec((0..5_usize, 0..4_u8), 0..3),
    ) {
        let whole = record();
        let mut entries = whole.clone();
        for (at, how) in damages {
            let at = at % entries.len();
            match how {
                0 => entries[at].0 = unsigned(&entries[at].0),
                1 => entries[at].1 = unsigned(&entries[at].0),
                2 => entries.swap(at, 0),
                _ => drop(entries.remove(at)),
            }
        }
        let mut alone = ledger();
        // What is wrong is found where it is.
        let _ = entries.iter().cloned().try_for_each(|(seal, said)| alone.accept(seal, Some(said)).map(drop));
        let mut ledger = ledger();
        let mut rest = entries.as_slice();
        for cut in cuts {
            let (burst, behind) = rest.split_at(cut.min(rest.len()));
            if together(&mut ledger, burst).is_err() {
                break;
            }
            rest = behind;
        }
        let number = usize::try_from(ledger.number()).unwrap();
        proptest::prop_assert!(number >= usize::try_from(alone.number()).unwrap());
        let head = number.checked_sub(1).map_or_else(Hash::default, |last| whole[last].0.hash());
        proptest::prop_assert_eq!(ledger.head(), head);
        let told = ledger.export(&seed(HOST)).verify();
        let is_signed = !matches!(told, Err(TranscriptError::Unsigned { .. }));
        proptest::prop_assert!(told.is_ok() || !is_signed);
        // Also then it is whole.
        proptest::prop_assert!(is_signed || number > usize::try_from(alone.number()).unwrap());
    }
}
