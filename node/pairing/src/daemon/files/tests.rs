use super::*;

const ONE: SessionId = SessionId([1; 8]);
const TWO: SessionId = SessionId([2; 8]);

fn files() -> Files {
    Files::new(Path::new("/home/ada/.config/mytunnel/pair/kept.db"))
}

fn source(dir: &Path, content: &str) -> (Digest, Source) {
    let path = dir.join(content);
    std::fs::write(&path, content).unwrap();
    let (source, file) = Source::open(&path, &Rules { within: None, own: dir, most: 100 }).unwrap();
    (file.blake3, source)
}

fn receiving(state: State) -> (watch::Sender<State>, Receiving) {
    let (sender, state) = watch::channel(state);
    (sender, Receiving { offer: Value::Null, state, ended: CancellationToken::new() })
}

#[test]
fn what_is_not_shared_is_the_folder_in_which_keys_are() {
    assert_eq!(files().own, Path::new("/home/ada/.config/mytunnel"));
}

#[test]
fn offers_are_bounded_and_the_oldest_makes_room() {
    let (dir, mut files) = (tempfile::tempdir().unwrap(), files());
    let mut roots = Vec::new();
    for number in 0..=limits::OFFERS {
        let (root, source) = source(dir.path(), &number.to_string());
        files.offer(ONE, root, source);
        roots.push(root);
    }
    assert!(files.source(ONE, roots[0]).is_none() && files.source(TWO, roots[1]).is_none());
    assert!(roots[1..].iter().all(|root| files.source(ONE, *root).is_some()));
    // The same file again is no further one.
    let (root, again) = source(dir.path(), "1");
    files.offer(ONE, root, again);
    assert_eq!(files.shared.len(), limits::OFFERS);
    files.close(ONE);
    assert!(files.shared.is_empty());
}

#[test]
fn one_guest_is_given_few_files_at_once_a_host_as_many_as_there_may_be() {
    let mut files = files();
    let held: Vec<_> = std::iter::from_fn(|| files.place(ONE, 3, None)).collect();
    assert_eq!(held.len(), limits::SENDING_TO_ONE);
    let of_host: Vec<_> = std::iter::from_fn(|| files.place(TWO, HOST, None)).collect();
    assert_eq!(of_host.len(), limits::SENDING - limits::SENDING_TO_ONE);
    assert!(files.place(ONE, 4, None).is_none());
    drop(of_host);
    assert!(files.place(ONE, 3, None).is_none() && files.place(ONE, 4, None).is_some());
    drop(held);
    let (one, two) = (files.place(ONE, 3, None).unwrap(), files.place(ONE, 4, None).unwrap());
    assert!(files.is_busy(ONE) && !files.is_busy(TWO));
    files.tick(ONE, |member| member != 3);
    assert!(one.ended.is_cancelled() && !two.ended.is_cancelled());
    files.close(ONE);
    assert!(two.ended.is_cancelled());
    drop((one, two));
    assert!(!files.is_busy(ONE));
}

#[test]
fn what_was_received_is_remembered_within_a_bound_and_what_is_under_way_stays() {
    let mut files = files();
    let (_sender, under_way) = receiving(State::Receiving { received: 0 });
    let ended = under_way.ended.clone();
    files.receive(ONE, 0, under_way);
    for offer in 1..2 * limits::RECEIVED as u64 {
        files.receive(ONE, offer, receiving(State::Received { path: PathBuf::new() }).1);
    }
    assert_eq!(files.receiving.len(), limits::RECEIVED);
    assert!(files.receiving.contains_key(&(ONE, 0)) && files.is_busy(ONE) && !ended.is_cancelled());
    files.close(TWO);
    assert!(!ended.is_cancelled());
    files.stop();
    assert!(ended.is_cancelled());
}

#[test]
fn another_session_under_the_same_id_knows_nothing_of_what_was_received_in_the_one_before() {
    let mut files = files();
    files.receive(ONE, 7, receiving(State::Received { path: PathBuf::from("earlier") }).1);
    files.receive(TWO, 7, receiving(State::Received { path: PathBuf::from("other") }).1);
    let (_sender, under_way) = receiving(State::Receiving { received: 0 });
    let ended = under_way.ended.clone();
    files.receive(ONE, 8, under_way);
    files.forget(ONE);
    assert!(files.state(ONE, 7).is_none() && files.state(ONE, 8).is_none() && ended.is_cancelled());
    assert!(files.state(TWO, 7).is_some());
}

#[test]
fn a_file_that_is_withdrawn_is_given_no_further_and_the_others_are() {
    let (dir, mut files) = (tempfile::tempdir().unwrap(), files());
    let [first, second] = ["first", "second"].map(|name| source(dir.path(), name));
    let (one, two) = (first.0, second.0);
    for (root, source) in [first, second] {
        files.offer(ONE, root, source);
    }
    let (_, again) = source(dir.path(), "first");
    files.offer(TWO, one, again);
    let given = [(ONE, Some(one)), (ONE, Some(two)), (ONE, None), (TWO, Some(one))];
    let given = given.map(|(session, own)| files.place(session, 3, own).unwrap());
    files.withdraw(ONE, one);
    assert!(files.source(ONE, one).is_none());
    assert!(files.source(ONE, two).is_some() && files.source(TWO, one).is_some());
    assert_eq!(given.map(|place| place.ended.is_cancelled()), [true, false, false, false]);
}
