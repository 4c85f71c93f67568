use std::time::Duration;

use tokio::io::{DuplexStream, duplex};

use super::*;
use crate::{
    bytes,
    daemon::files::{line::Allowance, serve},
    files::{
        source::{Rules, Source},
        talk::No,
        tree::{Digest, PIECE},
    },
    frame::Channel,
    handshake, limits,
};

type End = Line<DuplexStream>;

#[test]
fn what_is_missing_is_asked_for_in_runs() {
    assert_eq!(runs(&[]), []);
    assert_eq!(runs(&[0, 1, 2, 5, 7, 8]), [(0, count(3)), (5, count(1)), (7, count(2))]);
}

fn count(count: u32) -> NonZeroU32 {
    NonZeroU32::new(count).unwrap()
}

/// A file on one side, and an inbox on the other.
struct World {
    dir: tempfile::TempDir,
    source: Arc<Source>,
    errand: Errand,
    content: Vec<u8>,
}

impl World {
    fn new(size: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..size).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect();
        let path = dir.path().join("file.bin");
        std::fs::write(&path, &content).unwrap();
        let rules = Rules { within: None, own: dir.path(), most: u64::MAX };
        let (source, file) = Source::open(&path, &rules).unwrap();
        let (inbox, session) = (dir.path().join("inbox"), SessionId([7; 8]));
        let errand = Errand { session, offer: 3, file, inbox, name: "3-file.bin".to_owned() };
        Self { dir, source: Arc::new(source), errand, content }
    }

    /// Fetches the file over a line at whose other end `source` is.
    async fn fetch<F: Future>(&self, source: impl FnOnce(End) -> F) -> Result<PathBuf, Trouble> {
        let (ours, theirs) = lines();
        let (state, _) = watch::channel(State::Receiving { received: 0 });
        let fetched = self.errand.run(|| std::future::ready(Ok(ours)), &state);
        let source = async {
            source(theirs).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            fetched = fetched => fetched,
            () = source => unreachable!("it waits for the other"),
        }
    }

    async fn fails<F: Future>(&self, source: impl FnOnce(End) -> F) -> Code {
        let trouble = self.fetch(source).await.unwrap_err();
        assert!(trouble.help.is_some() || trouble.code == Code::PairVersion, "{trouble:?}");
        let named = self.dir.path().join("inbox").join(self.errand.session.to_string());
        assert_eq!(std::fs::read_dir(named).unwrap().count(), 0, "{trouble:?}");
        trouble.code
    }

    fn leaves(&self) -> Vec<u8> {
        self.source.tree.leaves().concat()
    }

    fn piece(&self, number: u32) -> Vec<u8> {
        self.content.chunks(PIECE).nth(number as usize).unwrap().to_vec()
    }
}

fn lines() -> (End, End) {
    let (guest, host) = handshake::tests::pair();
    let (ours, theirs) = duplex(64 * 1024);
    let line = |wire, established| Line::new(wire, Channel::new(established, Duration::ZERO), Instant::now());
    (line(ours, guest), line(theirs, host))
}

async fn told(line: &mut End, message: &ToTaker) {
    line.say(&message.to_bytes()).await.unwrap();
}

async fn wanted(line: &mut End) -> ToSource {
    ToSource::parse(&line.hear().await.unwrap()).unwrap()
}

#[tokio::test]
async fn a_file_comes_whole_and_one_that_stopped_goes_on_with_what_is_missing() {
    let world = World::new(9 * PIECE + 5);
    // The sender goes away behind its third piece.
    let gone = world.fails(|mut line| {
        let world = &world;
        async move {
            assert!(matches!(wanted(&mut line).await, ToSource::Ask { offer: 3, .. }));
            told(&mut line, &ToTaker::Leaves { hashes: world.leaves() }).await;
            for number in 0..3 {
                wanted(&mut line).await;
                told(&mut line, &ToTaker::Piece { number, content: world.piece(number) }).await;
            }
        }
    });
    assert_eq!(gone.await, Code::PairPeerOffline);
    let honest = |line| {
        let source = Arc::clone(&world.source);
        async move {
            let mut line: End = line;
            wanted(&mut line).await;
            serve::give(&source, line).await;
        }
    };
    let first = Arc::new(std::sync::Mutex::new(None));
    let noted = Arc::clone(&first);
    let path = world
        .fetch(|mut line| {
            let world = &world;
            async move {
                wanted(&mut line).await;
                told(&mut line, &ToTaker::Leaves { hashes: world.leaves() }).await;
                loop {
                    let Ok(message) = line.hear().await else { return };
                    let Some(ToSource::Want { first, count }) = ToSource::parse(&message) else { return };
                    noted.lock().unwrap().get_or_insert(first);
                    for number in first..first + count.get() {
                        told(&mut line, &ToTaker::Piece { number, content: world.piece(number) }).await;
                    }
                }
            }
        })
        .await
        .unwrap();
    assert_eq!(*first.lock().unwrap(), Some(3));
    assert_eq!(std::fs::read(&path).unwrap(), world.content);
    // Once more, from the real sender.
    std::fs::remove_file(&path).unwrap();
    assert_eq!(world.fetch(honest).await.unwrap(), path);
    assert_eq!(std::fs::read(&path).unwrap(), world.content);
    // What is there already is not asked for again; something else that is there stays.
    let nobody = |line: End| async move { drop(line) };
    assert_eq!(world.fetch(nobody).await.unwrap(), path);
    std::fs::write(&path, "mine").unwrap();
    assert_eq!(world.fetch(honest).await.unwrap_err().code, Code::PairExists);
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
}

/// Whoever offers the hash of another's file with another size has it neither begun anew nor held.
#[tokio::test]
async fn an_offer_that_is_nothing_touches_nothing_of_what_has_come() {
    let mut world = World::new(4 * PIECE);
    let some = |line| {
        let world = &world;
        async move {
            let mut line = first(line, ToTaker::Leaves { hashes: world.leaves() }.to_bytes()).await;
            wanted(&mut line).await;
            told(&mut line, &ToTaker::Piece { number: 0, content: world.piece(0) }).await;
            wanted(&mut line).await;
        }
    };
    assert_eq!(world.fails(some).await, Code::PairPeerOffline);
    let parts = || -> Vec<_> {
        let parts = std::fs::read_dir(world.dir.path().join("inbox/.parts")).unwrap();
        let mut parts: Vec<_> = parts.map(|part| part.unwrap().path()).collect();
        parts.sort();
        parts.into_iter().map(|part| (part.clone(), std::fs::read(part).unwrap())).collect()
    };
    let before = parts();
    let (leaves, right) = (world.leaves(), world.errand.file.size);
    for size in [right - 1, right + 1, 1] {
        world.errand.file.size = size;
        let lie =
            ToTaker::Leaves { hashes: leaves[..tree::pieces(size).unwrap().min(4) as usize * 32].to_vec() };
        assert!(world.fails(|line| first(line, lie.to_bytes())).await != Code::PairExists);
        let now = parts();
        assert!(before.iter().all(|part| now.contains(part)), "{size}");
    }
}

/// Answers what is asked first with this, and then goes away.
async fn first(mut line: End, message: Vec<u8>) -> End {
    wanted(&mut line).await;
    line.say(&message).await.unwrap();
    line
}

#[tokio::test]
async fn a_sender_that_lies_is_found_out_and_nothing_gets_its_name() {
    let world = World::new(3 * PIECE);
    let mut wrong = world.leaves();
    wrong[40] ^= 1;
    let many = [world.leaves(), vec![0; 32]].concat();
    let cases = [
        (ToTaker::Leaves { hashes: wrong }.to_bytes(), Code::PairHash),
        (ToTaker::Leaves { hashes: many }.to_bytes(), Code::PairVersion),
        (ToTaker::Leaves { hashes: vec![0; 31] }.to_bytes(), Code::PairVersion),
        (ToTaker::Leaves { hashes: Vec::new() }.to_bytes(), Code::PairVersion),
        (ToTaker::Piece { number: 0, content: vec![1] }.to_bytes(), Code::PairVersion),
        (b"nonsense".to_vec(), Code::PairVersion),
        (ToTaker::No { why: No::Changed }.to_bytes(), Code::PairHash),
        (ToTaker::No { why: No::Gone }.to_bytes(), Code::NotFound),
        (ToTaker::No { why: No::Unknown }.to_bytes(), Code::NotFound),
        (ToTaker::No { why: No::Unreadable }.to_bytes(), Code::NotFound),
        (ToTaker::No { why: No::Busy }.to_bytes(), Code::PairRate),
        (ToTaker::No { why: No::Away }.to_bytes(), Code::PairPeerOffline),
    ];
    for (message, code) in cases {
        assert_eq!(world.fails(|line| first(line, message)).await, code);
    }
    let mut changed = world.piece(0);
    changed[PIECE / 2] ^= 1;
    let cases = [
        (ToTaker::Piece { number: 0, content: changed }.to_bytes(), Code::PairHash),
        (ToTaker::Piece { number: 0, content: Vec::new() }.to_bytes(), Code::PairHash),
        (ToTaker::Piece { number: 1, content: world.piece(1) }.to_bytes(), Code::PairVersion),
        (ToTaker::Leaves { hashes: world.leaves() }.to_bytes(), Code::PairVersion),
        (ToTaker::No { why: No::Changed }.to_bytes(), Code::PairHash),
        (b"nonsense".to_vec(), Code::PairVersion),
    ];
    for (message, code) in cases {
        let lies = |line| {
            let world = &world;
            async move {
                let mut line = first(line, ToTaker::Leaves { hashes: world.leaves() }.to_bytes()).await;
                wanted(&mut line).await;
                line.say(&message).await.unwrap();
                line
            }
        };
        assert_eq!(world.fails(lies).await, code);
    }
}

#[tokio::test]
async fn a_hash_that_was_offered_and_is_not_the_files_is_found_at_the_end() {
    let mut world = World::new(10);
    world.errand.file.sha256 = Digest([0; 32]);
    let source = Arc::clone(&world.source);
    let honest = |mut line: End| async move {
        wanted(&mut line).await;
        serve::give(&source, line).await;
    };
    assert_eq!(world.fails(honest).await, Code::PairHash);
    let parts = std::fs::read_dir(world.dir.path().join("inbox/.parts")).unwrap();
    assert_eq!(parts.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_says_nothing_is_given_up() {
    let world = World::new(PIECE);
    let begun = Instant::now();
    let silent = |mut line: End| async move {
        wanted(&mut line).await;
        std::future::pending::<()>().await;
    };
    assert_eq!(world.fails(silent).await, Code::PairPeerOffline);
    assert!(begun.elapsed() >= limits::FILE_SILENCE);
}

/// [`ToSource`] as anybody may write it.
#[derive(serde::Serialize)]
#[serde(rename_all = "snake_case")]
enum Raw {
    Want { first: u32, count: u32 },
}

#[tokio::test]
async fn who_asks_for_too_much_or_for_nonsense_gets_no_more() {
    let world = World::new(3 * PIECE);
    let asks = [
        ToSource::Want { first: 0, count: count(7) }.to_bytes(),
        ToSource::Want { first: 0, count: count(u32::MAX) }.to_bytes(),
        ToSource::Ask { offer: 3, root: world.errand.file.blake3 }.to_bytes(),
        b"nonsense".to_vec(),
    ];
    for ask in asks {
        let (mut ours, theirs) = lines();
        let taker = async {
            assert!(matches!(ToTaker::parse(&ours.hear().await.unwrap()), Some(ToTaker::Leaves { .. })));
            ours.say(&ask).await.unwrap();
            ours.hear().await.is_err()
        };
        let (ended, ()) = tokio::join!(taker, serve::give(&world.source, theirs));
        assert!(ended, "{ask:?}");
    }
    // What asks for nothing costs nothing, and has no end.
    let (mut ours, theirs) = lines();
    let nothing = async {
        ours.hear().await.unwrap();
        ours.say(&bytes::encode(&Raw::Want { first: 0, count: 0 })).await.unwrap();
        ours.say(&bytes::encode(&Raw::Want { first: 0, count: 1 })).await.unwrap();
        ours.hear().await.is_err()
    };
    let (ended, ()) = tokio::join!(nothing, serve::give(&world.source, theirs));
    assert!(ended);
    let (mut ours, theirs) = lines();
    let beyond = async {
        ours.hear().await.unwrap();
        ours.say(&ToSource::Want { first: 3, count: count(1) }.to_bytes()).await.unwrap();
        ToTaker::parse(&ours.hear().await.unwrap())
    };
    let (told, ()) = tokio::join!(beyond, serve::give(&world.source, theirs));
    assert_eq!(told, Some(ToTaker::No { why: No::Unreadable }));
}

/// What the taker of a file of two pieces hears of its source through the host when each has said this, and the source of it.
async fn passed_on(asks: &[Vec<u8>], gives: &[Vec<u8>]) -> (usize, usize) {
    let ((mut taker, first), (second, mut source)) = (lines(), lines());
    let heard = async |line: &mut End, wanted: usize| {
        let mut heard = 0;
        while heard < wanted && line.hear().await.is_ok() {
            heard += 1;
        }
        heard
    };
    let ends = async {
        for message in asks {
            taker.say(message).await.unwrap();
        }
        let asked = heard(&mut source, asks.len()).await;
        let giving = async {
            for message in gives {
                source.say(message).await.unwrap();
            }
        };
        let ((), given) = tokio::join!(giving, heard(&mut taker, gives.len()));
        (asked, given)
    };
    let joined = async {
        Line::join(first, second, Allowance::of(2 * PIECE as u64)).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        heard = ends => heard,
        () = joined => unreachable!("it waits for the other"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_passes_on_both_ways_and_no_more_than_a_file_takes() {
    let want = |first, pieces| ToSource::Want { first, count: count(pieces) }.to_bytes();
    let bytes = 4 * PIECE + 66 * 256;
    let most =
        vec![vec![7; PIECE], vec![8; PIECE], vec![7; PIECE], vec![8; PIECE], vec![9; bytes - 4 * PIECE]];
    assert_eq!(passed_on(&[want(0, 2), want(0, 1), want(1, 1)], &most).await, (3, 5));
    let more = [most, vec![vec![1]]].concat();
    assert_eq!(passed_on(&[want(0, 1)], &more).await, (1, 5));
    // Nor are they anything but asked for pieces, or for more of them.
    assert_eq!(passed_on(&[want(0, 4), want(0, 1)], &[]).await, (1, 0));
    assert_eq!(passed_on(&[want(0, 1), vec![7; 1000]], &[]).await, (1, 0));
    let again = ToSource::Ask { offer: 3, root: Digest([0; 32]) }.to_bytes();
    assert_eq!(passed_on(&[again], &[]).await, (0, 0));
}
