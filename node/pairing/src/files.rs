//! Files of a session: what may be offered, how each piece of it is known to be right, and where it is put.
//!
//! An offer is an entry of the record, signed by who has the file. Who wants it asks for it on a stream of its own, piece by
//! piece; each piece is checked against the hash in the offer before it is written. Nothing here waits for a socket.

pub(crate) mod bitmap;
pub(crate) mod inbox;
mod kind;
mod name;
pub(crate) mod pace;
mod rules;
pub(crate) mod source;
pub(crate) mod talk;
pub(crate) mod tree;

use std::path::{Path, PathBuf};

pub(crate) use kind::media_type;
pub(crate) use name::{offered, safe};

/// The folder within which a caller may share: the repository around `cwd`, or that folder itself. Nothing where that is
/// the whole disk, or the home of a user: whoever starts a program there means none of what is in it. Nor is a folder
/// work that is no repository and is hidden in the home, where programs put what they know, or where nobody can tell.
pub fn folder(cwd: &Path, home: Option<&Path>) -> Option<PathBuf> {
    let is_work =
        |folder: &Path| folder.parent().is_some() && !home.is_some_and(|home| home.starts_with(folder));
    // A repository that is the whole home is no project's either.
    let repository =
        cwd.ancestors().find(|folder| folder.join(".git").exists()).filter(|found| is_work(found));
    let is_in_sight =
        |folder: &Path| home.is_some_and(|home| !folder.strip_prefix(home).is_ok_and(is_hidden));
    repository.or_else(|| Some(cwd).filter(|cwd| is_work(cwd) && is_in_sight(cwd))).map(Path::to_owned)
}

/// Whether any part of a path is hidden.
fn is_hidden(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str().as_encoded_bytes().starts_with(b"."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_shares_within_the_repository_or_the_folder_and_never_all_of_a_disk_or_a_home() {
        let home = tempfile::tempdir().unwrap();
        let project = home.path().join("project");
        std::fs::create_dir_all(project.join("src/deep")).unwrap();
        let of = |cwd: &Path| folder(cwd, Some(home.path()));
        assert_eq!(of(&project.join("src")), Some(project.join("src")));
        std::fs::create_dir(project.join(".git")).unwrap();
        assert_eq!(of(&project.join("src/deep")), Some(project.clone()));
        assert_eq!(of(home.path()), None);
        assert_eq!(of(home.path().parent().unwrap()), None);
        assert_eq!(folder(Path::new("/"), None), None);
        // A home under version control gives nothing away by that.
        std::fs::create_dir(home.path().join(".git")).unwrap();
        assert_eq!(of(home.path()), None);
        std::fs::remove_dir(project.join(".git")).unwrap();
        assert_eq!(of(&project.join("src")), Some(project.join("src")));
    }

    #[test]
    fn what_is_hidden_in_a_home_is_no_work_unless_it_is_a_repository() {
        let home = tempfile::tempdir().unwrap();
        let of = |cwd: &str| folder(&home.path().join(cwd), Some(home.path()));
        for hidden in [".config/gh", ".codex", ".local/share/app", "work/.cache/deep"] {
            std::fs::create_dir_all(home.path().join(hidden)).unwrap();
            assert_eq!(of(hidden), None, "{hidden}");
        }
        std::fs::create_dir(home.path().join(".config/gh/.git")).unwrap();
        assert_eq!(of(".config/gh"), Some(home.path().join(".config/gh")));
        assert_eq!(of("work"), Some(home.path().join("work")));
        // Without a home nobody knows what is one: a repository is work all the same.
        assert_eq!(folder(&home.path().join("work"), None), None);
        let repository = home.path().join(".config/gh");
        assert_eq!(folder(&repository, None), Some(repository));
    }
}
