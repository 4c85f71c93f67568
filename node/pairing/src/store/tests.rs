use std::os::unix::fs::PermissionsExt as _;

use proptest::prelude::*;

use super::*;

const NOW: u64 = 1_800_000_000;

fn id(byte: u8) -> SessionId {
    SessionId([byte; 8])
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("kept.db");
    (place, path)
}

fn change(state: &[u8]) -> Change {
    Change { state: Zeroizing::new(state.to_vec()), ..Change::default() }
}

/// The first of a session.
fn begins(state: &[u8]) -> Change {
    Change { begins: true, ..change(state) }
}

fn batch(changes: impl IntoIterator<Item = (SessionId, Change)>) -> Batch {
    Batch { changes: changes.into_iter().collect(), ..Batch::default() }
}

/// Everything in the folder, the log included.
fn bytes_of(place: &tempfile::TempDir) -> Vec<u8> {
    let files = fs::read_dir(place.path()).unwrap();
    files.flat_map(|file| fs::read(file.unwrap().path()).unwrap()).collect()
}

fn holds(place: &tempfile::TempDir, text: &[u8]) -> bool {
    bytes_of(place).windows(text.len()).any(|part| part == text)
}

#[test]
fn the_file_is_its_owners_alone_and_goes_with_the_last_session() {
    let (place, path) = place();
    assert!(!Store::exists(&path));
    let mut store = Store::open(&path).unwrap();
    store.write(&batch([(id(1), begins(b"one"))]), NOW).unwrap();
    for file in fs::read_dir(place.path()).unwrap() {
        assert_eq!(file.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    store.close().unwrap();
    assert!(Store::exists(&path));
    let mut store = Store::open(&path).unwrap();
    let machine = Some(Zeroizing::new(b"the machine's".to_vec()));
    store.write(&Batch { machine: machine.clone(), ..Batch::default() }, NOW).unwrap();
    store.close().unwrap();
    let mut store = Store::open(&path).unwrap();
    assert_eq!(store.machine().unwrap(), machine);
    store.write(&batch([(id(1), Change { over: true, ..change(b"one") })]), NOW).unwrap();
    store.close().unwrap();
    assert!(!holds(&place, b"the machine's"));
    let mut store = Store::open(&path).unwrap();
    assert_eq!(store.machine().unwrap(), None);
    store.write(&Batch { forget: [id(1)].into(), ..Batch::default() }, NOW).unwrap();
    store.close().unwrap();
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn what_is_forgotten_is_in_no_file_any_more() {
    let (place, path) = place();
    let mut store = Store::open(&path).unwrap();
    let said = |text: &[u8]| vec![(1, text.to_vec())];
    let (first, second) = (b"kept word of the first", b"kept word of the second");
    let one = Change { entries: said(first), ..begins(b"one") };
    let two = Change { entries: said(second), ..begins(b"two") };
    store.write(&batch([(id(1), one), (id(2), two)]), NOW).unwrap();
    assert!(holds(&place, first) && holds(&place, second));
    store.write(&Batch { forget: [id(1)].into(), ..Batch::default() }, NOW).unwrap();
    assert!(!holds(&place, first) && holds(&place, second));
    assert_eq!(store.read(id(1)).unwrap(), None);
}

#[test]
fn what_a_session_knew_by_which_to_come_in_is_in_no_file_when_it_is_over() {
    let (place, path) = place();
    let mut store = Store::open(&path).unwrap();
    let secret = b"the secret of a seat";
    store.write(&batch([(id(1), begins(secret))]), NOW).unwrap();
    assert!(holds(&place, secret));
    store.write(&batch([(id(1), Change { over: true, ..change(b"without it") })]), NOW).unwrap();
    assert!(!holds(&place, secret));
}

#[test]
fn a_session_begins_once_and_one_whose_record_is_gone_is_not_written_anew() {
    let (_place, path) = place();
    let mut store = Store::open(&path).unwrap();
    let first = || Change { entries: vec![(1, vec![1])], ..begins(b"first") };
    store.write(&batch([(id(1), first())]), NOW).unwrap();
    store.write(&batch([(id(1), Change { over: true, ..change(b"over") })]), NOW).unwrap();
    // Another under the same id would be taken for over, and sweep away what is kept of this one.
    let other = Change { entries: vec![(9, vec![9])], first: 9, ..begins(b"other") };
    assert!(store.write(&batch([(id(1), other)]), NOW).is_err());
    let kept = store.read(id(1)).unwrap().unwrap();
    assert_eq!((&**kept.state, kept.entries), (&b"over"[..], vec![vec![1]]));
    store.write(&Batch { forget: [id(1)].into(), ..Batch::default() }, NOW).unwrap();
    store.write(&batch([(id(1), Change { over: true, ..change(b"read") })]), NOW).unwrap();
    assert_eq!(store.read(id(1)).unwrap(), None);
    assert!(store.write(&batch([(id(1), change(b"open"))]), NOW).is_err());
}

#[test]
fn records_are_few_and_stay_for_a_day() {
    let (_place, path) = place();
    let mut store = Store::open(&path).unwrap();
    let over = |byte: u8| (id(byte), Change { over: true, ..begins(&[byte]) });
    store.write(&batch([(id(200), begins(b"open"))]), NOW).unwrap();
    for byte in 0..20 {
        store.write(&batch([over(byte)]), NOW + u64::from(byte)).unwrap();
    }
    let last: Vec<_> = (4..20).rev().map(id).collect();
    assert_eq!(store.sessions(true).unwrap(), last);
    // That it is written again does not make it younger.
    store.write(&batch([(id(4), Change { over: true, ..change(&[4]) })]), NOW + 50).unwrap();
    store.write(&Batch::default(), NOW + 4 + limits::RECORD.as_secs()).unwrap();
    assert_eq!(store.sessions(true).unwrap(), last[..15]);
    assert_eq!(store.sessions(false).unwrap(), [id(200)]);
}

#[test]
fn a_write_for_which_there_is_no_room_changes_nothing() {
    let (_place, path) = place();
    let mut store = Store::open(&path).unwrap();
    let entry = |number| vec![(number, vec![7; 50_000])];
    store.write(&batch([(id(1), Change { entries: entry(1), ..begins(b"before") })]), NOW).unwrap();
    let before = store.read(id(1)).unwrap();
    let pages: u32 = store.connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    store.connection.pragma_update_and_check(None, "max_page_count", pages + 4, |_| Ok(())).unwrap();
    let large =
        batch([(id(1), Change { entries: entry(2), ..change(b"behind") }), (id(2), begins(b"other"))]);
    let error = store.write(&large, NOW).unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }) && !error.help().is_empty(), "{error}");
    assert_eq!((store.read(id(1)).unwrap(), store.read(id(2)).unwrap()), (before, None));
    store.connection.pragma_update_and_check(None, "max_page_count", 1_000_000, |_| Ok(())).unwrap();
    store.write(&large, NOW).unwrap();
    assert_eq!(store.read(id(1)).unwrap().unwrap().entries.len(), 2);
}

#[test]
fn a_number_that_is_there_already_is_not_written_again() {
    let (_place, path) = place();
    let mut store = Store::open(&path).unwrap();
    let entry = |body: &[u8]| Change { entries: vec![(1, body.to_vec())], ..change(b"state") };
    store.write(&batch([(id(1), Change { begins: true, ..entry(b"first") })]), NOW).unwrap();
    assert!(store.write(&batch([(id(1), entry(b"second"))]), NOW).is_err());
    assert_eq!(store.read(id(1)).unwrap().unwrap().entries, [b"first"]);
}

#[test]
fn a_file_that_is_damaged_foreign_newer_or_in_use_is_left_as_it_is() {
    let (_place, path) = place();
    let fill = || {
        // What a case before has left.
        let _ = fs::remove_file(&path);
        let mut store = Store::open(&path).unwrap();
        let entries = (1..40).map(|number| (number, vec![9; 4000])).collect();
        store.write(&batch([(id(1), Change { entries, ..begins(b"state") })]), NOW).unwrap();
        store.close().unwrap();
    };
    let refused = |is: &dyn Fn(&StoreError) -> bool| {
        let before = fs::read(&path).unwrap();
        let error = Store::open(&path).unwrap_err();
        assert!(is(&error), "{error}");
        assert!(error.to_string().contains("kept.db") && !error.help().is_empty());
        assert_eq!(fs::read(&path).unwrap(), before);
    };
    fs::write(&path, vec![b'x'; 5000]).unwrap();
    refused(&|error| matches!(error, StoreError::Damaged { .. }));

    fill();
    let mut bytes = fs::read(&path).unwrap();
    let half = bytes.len() / 2;
    bytes[half..].fill(0xa5);
    fs::write(&path, bytes).unwrap();
    refused(&|error| matches!(error, StoreError::Damaged { .. }));

    fill();
    let set = |name: &str, value: u32| {
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update_and_check(None, "journal_mode", "delete", |_| Ok(())).unwrap();
        connection.pragma_update(None, name, value).unwrap();
    };
    set("user_version", 99);
    refused(&|error| matches!(error, StoreError::Newer { found: 99, .. }));
    set("application_id", 5);
    refused(&|error| matches!(error, StoreError::Foreign { .. }));

    fill();
    let mut first = Store::open(&path).unwrap();
    first.write(&batch([(id(2), begins(b"two"))]), NOW).unwrap();
    let error = Store::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::Busy { .. }), "{error}");
    first.write(&batch([(id(3), begins(b"three"))]), NOW).unwrap();
    assert_eq!(first.sessions(false).unwrap().len(), 3);
}

#[test]
fn every_version_before_is_brought_up_to_date() {
    for from in 0..=schema::MIGRATIONS.len() {
        let (_place, path) = place();
        {
            let connection = Connection::open(&path).unwrap();
            for step in &schema::MIGRATIONS[..from] {
                connection.execute_batch(step).unwrap();
            }
            if from > 0 {
                connection.pragma_update(None, "application_id", 0x4d54_5052).unwrap();
                connection.pragma_update(None, "user_version", u32::try_from(from).unwrap()).unwrap();
            }
        }
        let mut store = Store::open(&path).unwrap();
        store.write(&batch([(id(1), begins(b"state"))]), NOW).unwrap();
        store.close().unwrap();
        Store::open(&path).unwrap();
    }
}

/// Rows by their numbers, which only grow.
#[derive(Debug, Default, Clone)]
struct Numbered {
    rows: BTreeMap<u64, Vec<u8>>,
    first: u64,
    last: u64,
}

impl Numbered {
    /// Some more rows behind the last, and from where on they are kept.
    fn next(&self, byte: u8, new: u64, dropped: u64) -> (Vec<(u64, Vec<u8>)>, u64) {
        let rows = (self.last + 1..=self.last + new).map(|number| (number, vec![byte; 50]));
        (rows.collect(), (self.first + dropped).min(self.last + new + 1))
    }

    fn write(&mut self, rows: &[(u64, Vec<u8>)], first: u64) {
        self.last += rows.len() as u64;
        self.first = first;
        self.rows.extend(rows.iter().cloned());
        self.rows.retain(|number, _| *number >= first);
    }

    fn bodies(&self) -> Vec<Vec<u8>> {
        self.rows.values().cloned().collect()
    }
}

/// A session as [`Store`] has it, in memory.
#[derive(Debug, Default, Clone)]
struct Model {
    state: Vec<u8>,
    entries: Numbered,
    outbox: Numbered,
}

impl Model {
    /// A change, as it is from here on.
    fn next(&mut self, (byte, new, dropped): (u8, u64, u64)) -> Change {
        let begins = self.state.is_empty();
        let (entries, first) = self.entries.next(byte, new, dropped);
        let (outbox, unsaid) = self.outbox.next(byte, dropped, new);
        self.state = vec![byte; 40];
        self.entries.write(&entries, first);
        self.outbox.write(&outbox, unsaid);
        let state = Zeroizing::new(self.state.clone());
        Change { state, loose: vec![byte; 3], begins, over: false, entries, first, outbox, unsaid }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_stored_comes_back_whenever_the_file_is_opened_anew(
        steps in prop::collection::vec((0_u8..3, (any::<u8>(), 0_u64..4, 0_u64..4), any::<bool>(), 0_u8..12), 1..20),
    ) {
        let (_place, path) = place();
        let mut models = BTreeMap::<SessionId, Model>::new();
        let mut store = Store::open(&path).unwrap();
        for (session, what, twice, forget) in steps {
            let session = id(session);
            let mut batch = Batch::default();
            if forget == 0 {
                models.remove(&session);
                batch.forget.insert(session);
            } else {
                let model = models.entry(session).or_default();
                let mut change = model.next(what);
                if twice {
                    change.follow(model.next(what));
                }
                batch.changes.insert(session, change);
            }
            store.write(&batch, NOW).unwrap();
            drop(store);
            store = Store::open(&path).unwrap();
            for session in (0..3).map(id) {
                let found = store.read(session).unwrap();
                let found = found.map(|rows| (rows.state.to_vec(), rows.entries, rows.outbox));
                let known = models.get(&session);
                let known = known.map(|model| (model.state.clone(), model.entries.bodies(), model.outbox.bodies()));
                prop_assert_eq!(found, known);
            }
        }
    }
}
