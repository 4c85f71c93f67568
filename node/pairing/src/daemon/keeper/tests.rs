use serde_json::json;

use super::*;

fn id(byte: u8) -> SessionId {
    SessionId([byte; 8])
}

fn keeper(place: &tempfile::TempDir) -> Keeper {
    Keeper::new(place.path().join("kept.db"), Zeroizing::new(vec![1]), None, OnDisk::default())
}

fn change(state: &[u8]) -> Change {
    Change { state: Zeroizing::new(state.to_vec()), ..Change::default() }
}

/// The first of a session.
fn first(state: &[u8]) -> Change {
    Change { begins: true, ..change(state) }
}

fn message(session: SessionId, byte: u8) -> Held {
    Held::Message { session, member: 1, link: None, bytes: vec![byte], last: false }
}

fn bytes_of(held: Vec<Held>) -> Vec<u8> {
    let byte = |held: Held| match held {
        Held::Message { bytes, .. } => bytes[0],
        _ => panic!("it is none"),
    };
    held.into_iter().map(byte).collect()
}

async fn finish(keeper: &mut Keeper) -> Outcome {
    let done = keeper.done().await.unwrap().unwrap();
    keeper.finish(done)
}

#[tokio::test]
async fn what_tells_of_a_change_goes_when_the_change_is_on_disk_and_in_order() {
    let place = tempfile::tempdir().unwrap();
    let mut keeper = keeper(&place);
    assert!(keeper.hold(Some(id(1)), message(id(1), 0)).is_some());
    keeper.put(id(1), first(b"one"));
    assert!(keeper.hold(Some(id(1)), message(id(1), 1)).is_none());
    // Of another session that is as it is on disk.
    assert!(keeper.hold(Some(id(2)), message(id(2), 9)).is_some());
    keeper.put(id(1), change(b"two"));
    assert!(keeper.hold(Some(id(1)), message(id(1), 2)).is_none());
    keeper.put(id(2), first(b"other"));
    assert!(keeper.hold(Some(id(2)), message(id(2), 3)).is_none());
    let outcome = finish(&mut keeper).await;
    assert_eq!(bytes_of(outcome.released), [1]);
    assert!(!keeper.is_idle());
    let outcome = finish(&mut keeper).await;
    assert_eq!((outcome.written, bytes_of(outcome.released)), ([id(1), id(2)].into(), vec![2, 3]));
    assert!(keeper.is_idle() && keeper.hold(None, message(id(1), 4)).is_some());
    keeper.close().await;
    let store = Store::open(&place.path().join("kept.db")).unwrap();
    assert_eq!(*store.read(id(1)).unwrap().unwrap().state, b"two");
    assert_eq!(**store.machine().unwrap().unwrap(), [1]);
}

#[tokio::test]
async fn of_what_could_not_be_written_nothing_is_told_and_what_is_on_disk_comes_back() {
    let place = tempfile::tempdir().unwrap();
    let mut keeper = keeper(&place);
    keeper.put(id(1), first(b"before"));
    finish(&mut keeper).await;
    // Its number is there already: it cannot be written.
    let twice = || Change { entries: vec![(1, vec![1]), (1, vec![2])], ..change(b"behind") };
    keeper.put(id(1), twice());
    assert!(keeper.hold(Some(id(1)), message(id(1), 1)).is_none());
    let tell = |keeper: &mut Keeper, answer: Value| {
        let (reply, answered) = oneshot::channel();
        assert!(keeper.hold(None, Held::Reply { answer: Ok(answer), reply }).is_none());
        answered
    };
    let of_it = tell(&mut keeper, json!({ "session": id(1).to_string() }));
    let of_another = tell(&mut keeper, json!({ "session": id(2).to_string() }));
    // What comes behind builds on it.
    keeper.put(id(1), change(b"later"));
    assert!(keeper.hold(Some(id(1)), message(id(1), 2)).is_none());
    let later = tell(&mut keeper, json!({ "sessions": [{ "session": id(1).to_string() }] }));
    let (reply, granted) = oneshot::channel();
    assert!(keeper.hold(Some(id(1)), Held::Grant { session: Some(id(1)), granted: true, reply }).is_none());

    let outcome = finish(&mut keeper).await;
    assert_eq!((outcome.undone, outcome.written), ([id(1)].into(), [].into()));
    assert!(outcome.read.is_empty());
    for held in outcome.released {
        let Held::Reply { answer, reply } = held else { panic!("no message of it goes") };
        reply.send(answer).unwrap();
    }
    assert_eq!(of_it.await.unwrap().unwrap_err().code, Code::PairStore);
    assert_eq!(later.await.unwrap().unwrap_err().code, Code::PairStore);
    assert!(of_another.await.unwrap().is_ok());
    assert!(granted.await.is_err());
    assert!(keeper.is_idle());
    let at = Duration::from_secs;
    keeper.rest(id(1), 7, at(1));
    keeper.rest(id(3), 0, at(1));
    assert_eq!(keeper.resting().collect::<Vec<_>>(), [id(1)], "of the other nothing is on disk");
    keeper.tick(at(5));
    assert!(keeper.is_idle());
    keeper.tick(at(6));
    let outcome = finish(&mut keeper).await;
    assert_eq!((&**outcome.read[0].1.state, outcome.read[0].2), (b"before".as_slice(), Some(7)));
    assert!(keeper.resting().next().is_none());
    keeper.put(id(1), change(b"again"));
    assert_eq!(finish(&mut keeper).await.written, [id(1)].into());
}

#[tokio::test]
async fn a_record_is_read_when_it_is_asked_for_and_forgotten_when_that_is_wanted() {
    let place = tempfile::tempdir().unwrap();
    let mut keeper = keeper(&place);
    keeper.put(id(1), Change { over: true, ..first(b"record") });
    finish(&mut keeper).await;
    assert_eq!(keeper.over(), [id(1)]);
    let (reply, _answered) = oneshot::channel();
    keeper.fetch(vec![id(1)], Request::Export { session: None }, reply);
    let outcome = finish(&mut keeper).await;
    assert_eq!(*outcome.read[0].1.state, b"record");
    assert!(matches!(outcome.released.as_slice(), [Held::Ask { .. }]));
    keeper.forget(id(1));
    assert_eq!(keeper.over(), []);
    finish(&mut keeper).await;
    keeper.close().await;
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn what_is_being_written_is_written_and_the_file_closed_before_another_may_have_it() {
    let place = tempfile::tempdir().unwrap();
    let mut keeper = keeper(&place);
    keeper.put(id(1), first(b"one"));
    keeper.put(id(1), change(b"two"));
    keeper.close().await;
    let files = || std::fs::read_dir(place.path()).unwrap().map(|file| file.unwrap().file_name());
    assert_eq!(files().collect::<Vec<_>>(), ["kept.db"], "its log was taken in");
    let store = Store::open(&place.path().join("kept.db")).unwrap();
    assert_eq!(*store.read(id(1)).unwrap().unwrap().state, b"one");
}
