use std::{fs::OpenOptions, io::Write as _, os::unix::fs::symlink};

use rustix::io::Errno;

use super::*;

/// A project with a file in it, and something beside the project.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir_all(place.path("project/src")).unwrap();
        fs::create_dir_all(place.path("config")).unwrap();
        fs::write(place.path("project/src/notes.txt"), "work").unwrap();
        fs::write(place.path("outside.txt"), "not work").unwrap();
        place
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn open(&self, path: &str) -> Result<(Source, Shared), SourceError> {
        self.open_most(path, 1 << 20)
    }

    fn open_most(&self, path: &str, most: u64) -> Result<(Source, Shared), SourceError> {
        let (within, own) = (self.path("project"), self.path("config"));
        Source::open(&self.path(path), &Rules { within: Some(&within), own: &own, most })
    }
}

#[test]
fn a_file_of_the_project_is_offered_as_it_is() {
    let place = Place::new();
    let (source, shared) = place.open("project/src/notes.txt").unwrap();
    assert_eq!((shared.name.as_str(), shared.size, shared.media.as_str()), ("notes.txt", 4, "text/plain"));
    assert_eq!(shared.blake3, source.tree.root());
    assert_eq!(source.piece(0).unwrap(), b"work");
    assert_eq!(source.piece(1), Err(PieceError::Unreadable));
    fs::write(place.path("project/empty"), "").unwrap();
    let (source, shared) = place.open("project/empty").unwrap();
    assert_eq!((shared.size, source.piece(0)), (0, Err(PieceError::Unreadable)));
}

#[test]
fn links_lead_nowhere_out_of_the_project() {
    let place = Place::new();
    symlink(place.path("outside.txt"), place.path("project/link.txt")).unwrap();
    symlink("..", place.path("project/up")).unwrap();
    symlink("src/notes.txt", place.path("project/inside.txt")).unwrap();
    for path in ["project/link.txt", "project/up/outside.txt", "project/../outside.txt", "outside.txt"] {
        let denied = place.open(path);
        assert!(matches!(denied, Err(SourceError::Denied { .. })), "{path}: {denied:?}");
    }
    // A link to what is inside is what it leads to.
    assert_eq!(place.open("project/inside.txt").unwrap().1.name, "notes.txt");
}

#[test]
fn secrets_stay_by_where_they_are_by_their_name_under_a_link_and_by_what_they_hold() {
    let place = Place::new();
    fs::write(place.path("project/.env"), "x").unwrap();
    symlink(".env", place.path("project/settings.txt")).unwrap();
    symlink("src/notes.txt", place.path("project/id_rsa")).unwrap();
    fs::create_dir(place.path("project/.git")).unwrap();
    fs::write(place.path("project/.git/config"), "x").unwrap();
    for path in ["project/.env", "project/settings.txt", "project/id_rsa", "project/.git/config"] {
        assert!(matches!(place.open(path), Err(SourceError::Denied { .. })), "{path}");
    }
    fs::write(place.path("project/notes.md"), "-----BEGIN OPENSSH PRIVATE KEY-----\nb3").unwrap();
    assert!(matches!(place.open("project/notes.md"), Err(SourceError::Secret { .. })));
    let own = place.path("project");
    let rules = Rules { within: Some(&own), own: &own, most: 100 };
    let denied = Source::open(&place.path("project/src/notes.txt"), &rules);
    assert!(matches!(denied, Err(SourceError::Denied { .. })));
    // What a person has allowed is shared wherever it is.
    let rules = Rules { within: None, own: &own, most: 100 };
    assert!(Source::open(&place.path("project/.env"), &rules).is_ok());
    assert!(Source::open(&place.path("outside.txt"), &rules).is_ok());
}

#[test]
fn what_is_no_file_or_is_too_large_is_not_offered_and_keeps_nobody_waiting() {
    let place = Place::new();
    let pipe = place.path("project/pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for path in ["project/pipe", "project/src"] {
        let refused = place.open(path);
        assert!(
            matches!(refused, Err(SourceError::Denied { .. } | SourceError::Io { .. })),
            "{path}: {refused:?}"
        );
    }
    assert!(matches!(place.open("project/absent"), Err(SourceError::Io { .. })));
    assert!(place.open_most("project/src/notes.txt", 4).is_ok());
    let too_large = place.open_most("project/src/notes.txt", 3);
    assert!(matches!(too_large, Err(SourceError::TooLarge { most: 3, .. })), "{too_large:?}");
}

#[test]
fn a_file_that_changes_is_sent_no_further() {
    let place = Place::new();
    let path = place.path("project/long.bin");
    fs::write(&path, vec![7; 2 * PIECE + 5]).unwrap();
    let (source, _) = place.open("project/long.bin").unwrap();
    assert!((0..3).all(|number| source.piece(number).is_ok()));
    OpenOptions::new().write(true).open(&path).unwrap().write_all(b"x").unwrap();
    assert_eq!(source.piece(0), Err(PieceError::Changed));
    assert!(source.piece(1).is_ok());
    OpenOptions::new().write(true).open(&path).unwrap().set_len(PIECE as u64 + 1).unwrap();
    assert_eq!(source.piece(1), Err(PieceError::Changed));
    // Another file in its place changes nothing of what was offered.
    let (source, _) = place.open("project/long.bin").unwrap();
    fs::write(place.path("project/new"), "other").unwrap();
    fs::rename(place.path("project/new"), &path).unwrap();
    assert!(source.piece(1).is_ok());
}

/// Whoever exchanges a folder, or the file, for a link to another behind the look at it has nothing of that opened.
#[test]
fn a_folder_that_is_exchanged_for_a_link_gives_nothing_else_away() {
    let place = Place::new();
    fs::create_dir_all(place.path("secret/src")).unwrap();
    for path in ["secret/src/notes.txt", "secret/notes.txt"] {
        fs::write(place.path(path), "stay").unwrap();
    }
    let looked_at = fs::canonicalize(place.path("project/src/notes.txt")).unwrap();
    let exchanges =
        [("project", "secret"), ("project/src", "secret"), ("project/src/notes.txt", "secret/notes.txt")];
    for (there, other) in exchanges {
        assert!(opened(&looked_at).is_ok());
        let (there, away) = (place.path(there), place.path("away"));
        fs::rename(&there, &away).unwrap();
        symlink(place.path(other), &there).unwrap();
        assert_eq!(fs::read(&looked_at).unwrap(), b"stay", "it leads there");
        let refused = opened(&looked_at).unwrap_err();
        assert!(matches!(refused, Errno::LOOP | Errno::NOTDIR), "{refused}");
        fs::remove_file(&there).unwrap();
        fs::rename(&away, &there).unwrap();
    }
}
