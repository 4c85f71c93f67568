use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;
use crate::files::tree::PIECE;

const SESSION: &str = "0102030405060708";

struct Place {
    dir: tempfile::TempDir,
    content: Vec<u8>,
    tree: Tree,
    sha256: Digest,
}

impl Place {
    fn new(size: usize) -> Self {
        let content: Vec<u8> = (0..size).map(|at| u8::try_from(at % 253).unwrap()).collect();
        let tree::Hashed { tree, sha256, .. } = tree::hashed(content.as_slice(), u64::MAX).unwrap();
        Self { dir: tempfile::tempdir().unwrap(), content, tree, sha256 }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join("inbox").join(path)
    }

    fn inbox(&self) -> Inbox {
        Inbox::open(&self.path("")).unwrap()
    }

    fn part(&self) -> Part {
        self.part_at(SystemTime::now()).unwrap()
    }

    fn part_at(&self, now: SystemTime) -> Result<Part, InboxError> {
        self.inbox().part(self.tree.root(), self.tree.size(), now)
    }

    fn found(&self, name: &str) -> Result<Option<PathBuf>, InboxError> {
        self.inbox().found(SESSION, name, self.tree.root(), self.tree.size())
    }

    fn part_path(&self, ending: &str) -> PathBuf {
        self.path(&format!(".parts/{}-{}.{ending}", self.tree.root(), self.tree.size()))
    }

    fn piece(&self, number: u32) -> &[u8] {
        self.content.chunks(PIECE).nth(number as usize).unwrap()
    }

    fn fill(&self, part: &mut Part) {
        while let Some(number) = part.have().missing_from(0) {
            part.write(number, self.piece(number)).unwrap();
        }
    }

    fn left(&self) -> usize {
        std::fs::read_dir(self.path(".parts")).unwrap().count()
    }
}

#[test]
fn a_file_has_its_name_when_it_is_whole_and_is_its_owners_alone() {
    let place = Place::new(2 * PIECE + 9);
    let mut part = place.part();
    part.write(2, place.piece(2)).unwrap();
    assert_eq!(part.received(), 9);
    assert!(!place.path(SESSION).exists());
    place.fill(&mut part);
    assert_eq!(part.received(), place.tree.size());
    assert_eq!(part.check(&place.tree).unwrap(), Some(place.sha256));
    let path = part.publish(SESSION, "7-a.bin").unwrap();
    assert_eq!(path, place.path(&format!("{SESSION}/7-a.bin")));
    assert_eq!(std::fs::read(&path).unwrap(), place.content);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(&path), mode(&place.path(SESSION)), mode(&place.path(""))), (0o600, 0o700, 0o700));
    assert_eq!(place.left(), 0);
}

#[test]
fn what_has_come_is_there_when_it_goes_on() {
    let place = Place::new(5 * PIECE);
    let mut part = place.part();
    part.write(1, place.piece(1)).unwrap();
    part.write(4, place.piece(4)).unwrap();
    assert!(matches!(place.part_at(SystemTime::now()), Err(InboxError::Busy)));
    drop(part);
    let mut part = place.part();
    assert_eq!((part.have().count(), part.have().has(1), part.have().has(4)), (2, true, true));
    place.fill(&mut part);
    assert_eq!(part.check(&place.tree).unwrap(), Some(place.sha256));
    // What the machine lost of it is asked for again.
    part.file.write_all_at(b"lost", 4 * PIECE as u64 + 3).unwrap();
    assert_eq!(part.check(&place.tree).unwrap(), None);
    drop(part);
    let mut part = place.part();
    assert_eq!(part.have().missing_from(0), Some(4));
    place.fill(&mut part);
    part.publish(SESSION, "1-a").unwrap();
}

#[test]
fn what_is_no_part_of_this_file_is_begun_anew() {
    let place = Place::new(3 * PIECE);
    let bits = place.part_path("bits");
    let mut part = place.part();
    place.fill(&mut part);
    drop(part);
    let right = std::fs::read(&bits).unwrap();
    for wrong in [&b""[..], b"mtpart1\n", &[0; 17], &right[..HEAD], &[&right[..HEAD], &[0xff]].concat()] {
        std::fs::write(&bits, wrong).unwrap();
        assert_eq!(place.part().have().count(), 0, "{wrong:?}");
    }
    let mut part = place.part();
    place.fill(&mut part);
    drop(part);
    let file = place.part_path("part");
    File::options().write(true).open(&file).unwrap().set_len(10).unwrap();
    assert_eq!(place.part().have().count(), 0);
}

#[test]
fn nothing_is_replaced_and_no_link_is_followed() {
    let place = Place::new(10);
    let whole = || {
        let mut part = place.part();
        place.fill(&mut part);
        part
    };
    assert_eq!(place.found("1-a").unwrap(), None);
    let outside = place.dir.path().join("outside");
    std::fs::write(&outside, "mine").unwrap();
    symlink(&outside, place.path(&format!("{SESSION}/1-a"))).unwrap();
    symlink("nowhere", place.path(&format!("{SESSION}/2-a"))).unwrap();
    std::fs::write(place.path(&format!("{SESSION}/3-a")), "mine").unwrap();
    for name in ["1-a", "2-a", "3-a"] {
        assert!(matches!(place.found(name), Err(InboxError::Exists { .. })), "{name}");
        let published = whole().publish(SESSION, name);
        assert!(matches!(published, Err(InboxError::Exists { .. })), "{name}: {published:?}");
    }
    assert_eq!(std::fs::read(&outside).unwrap(), b"mine");
    // A session that is a link to elsewhere.
    std::fs::create_dir(place.dir.path().join("elsewhere")).unwrap();
    symlink(place.dir.path().join("elsewhere"), place.path("linked")).unwrap();
    assert!(whole().publish("linked", "1-a").is_err());
    assert_eq!(std::fs::read_dir(place.dir.path().join("elsewhere")).unwrap().count(), 0);
    // A part that is a link.
    whole().discard();
    symlink(&outside, place.part_path("part")).unwrap();
    assert!(place.part_at(SystemTime::now()).is_err());
    std::fs::remove_file(place.part_path("part")).unwrap();
    for ending in ["part", "bits"] {
        let _ = std::fs::remove_file(place.part_path(ending));
        std::fs::hard_link(&outside, place.part_path(ending)).unwrap();
        let part = place.part_at(SystemTime::now());
        assert_eq!(part.is_ok(), ending == "part", "{part:?}");
        assert_eq!(std::fs::read(&outside).unwrap(), b"mine");
    }
}

#[test]
fn an_inbox_that_others_may_write_to_is_none() {
    let place = Place::new(10);
    drop(place.inbox());
    std::fs::set_permissions(place.path(""), PermissionsExt::from_mode(0o777)).unwrap();
    assert!(matches!(Inbox::open(&place.path("")), Err(InboxError::NotOwn { .. })));
    let link = place.dir.path().join("link");
    symlink(place.path(""), &link).unwrap();
    assert!(matches!(Inbox::open(&link), Err(InboxError::NoFolder { .. })));
}

#[test]
fn what_does_not_fit_on_the_disk_is_not_begun() {
    let place = Place::new(10);
    let no_room = place.inbox().part(place.tree.root(), 1 << 46, SystemTime::now());
    assert!(matches!(no_room, Err(InboxError::NoRoom { .. })), "{no_room:?}");
}

#[test]
fn a_part_that_nobody_goes_on_with_is_forgotten() {
    let place = Place::new(3 * PIECE);
    let mut part = place.part();
    part.write(0, place.piece(0)).unwrap();
    drop(part);
    assert_eq!(place.part().have().count(), 1);
    let late = SystemTime::now() + KEPT + Duration::from_secs(60);
    assert_eq!(place.part_at(late).unwrap().have().count(), 0);
}

#[test]
fn a_file_that_was_received_is_found_again_and_nothing_else_is_taken_for_it() {
    let place = Place::new(2 * PIECE + 9);
    assert_eq!(place.found("7-a").unwrap(), None);
    let mut part = place.part();
    place.fill(&mut part);
    let path = part.publish(SESSION, "7-a").unwrap();
    assert_eq!(place.found("7-a").unwrap(), Some(path.clone()));
    let other = |content: &[u8]| {
        std::fs::write(&path, content).unwrap();
        matches!(place.found("7-a"), Err(InboxError::Exists { .. }))
    };
    let mut changed = place.content.clone();
    changed[PIECE] ^= 1;
    assert!(other(&changed) && other(&place.content[1..]) && other(b""));
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(matches!(place.found("7-a"), Err(InboxError::Exists { .. })));
}

#[test]
fn who_waits_for_a_part_that_becomes_a_file_meanwhile_does_not_touch_it() {
    let place = Place::new(3 * PIECE);
    let (inbox, name) = (place.inbox(), PartName::new(place.tree.root(), place.tree.size()).part());
    let parts = inbox.folder(PARTS).unwrap();
    let mut part = place.part();
    // It is opened, and the other ends before it is locked.
    let opened = inbox.open_part(&parts, &name).unwrap();
    place.fill(&mut part);
    let path = part.publish(SESSION, "1-a").unwrap();
    assert!(matches!(inbox.locked(&parts, &name, &opened), Err(InboxError::Busy)));
    assert_eq!(std::fs::read(&path).unwrap(), place.content);
    drop(opened);
    // The same where there is another part by then, and where the other has given up.
    let part = place.part();
    let opened = inbox.open_part(&parts, &name).unwrap();
    part.discard();
    assert!(matches!(inbox.locked(&parts, &name, &opened), Err(InboxError::Busy)));
    drop(place.part());
    assert!(matches!(inbox.locked(&parts, &name, &opened), Err(InboxError::Busy)));
}

#[test]
fn a_move_that_was_cut_between_its_two_steps_leaves_a_file_and_nothing_in_the_way() {
    let place = Place::new(2 * PIECE);
    let mut part = place.part();
    place.fill(&mut part);
    drop(part);
    std::fs::create_dir(place.path(SESSION)).unwrap();
    let path = place.path(SESSION).join("1-a");
    std::fs::hard_link(place.part_path("part"), &path).unwrap();
    assert_eq!(place.part().have().count(), 0, "it is another");
    assert_eq!(std::fs::read(&path).unwrap(), place.content);
}
