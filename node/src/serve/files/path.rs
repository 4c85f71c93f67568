//! From a request's path to a path in the file system that may be shown.

use std::{
    io,
    path::{Component, Path, PathBuf},
};

use percent_encoding::percent_decode_str;

/// The names between the slashes of a URL path, decoded. `None` if one of them must not be looked for: it is hidden,
/// climbs, is not UTF-8, or holds what separates paths.
pub(super) fn names(path: &str) -> Option<Vec<String>> {
    path.split('/').filter(|segment| !segment.is_empty()).map(name).collect()
}

fn name(segment: &str) -> Option<String> {
    let name = percent_decode_str(segment).decode_utf8().ok()?;
    let separates = |c: char| matches!(c, '/' | '\0') || (cfg!(windows) && matches!(c, '\\' | ':'));
    (!is_hidden(&name) && !name.contains(separates)).then(|| name.into_owned())
}

/// `.` and `..` included.
pub(super) fn is_hidden(name: &str) -> bool {
    name.starts_with('.')
}

/// Where `asked` really is, if that is inside of the canonical `root` and hidden nowhere on the way.
pub(super) fn inside(root: &Path, asked: &Path) -> io::Result<PathBuf> {
    let found = asked.canonicalize()?;
    let shown = found.strip_prefix(root).is_ok_and(|rest| rest.components().all(is_shown));
    if shown { Ok(found) } else { Err(io::ErrorKind::NotFound.into()) }
}

fn is_shown(component: Component<'_>) -> bool {
    match component {
        Component::Normal(name) => !name.as_encoded_bytes().starts_with(b"."),
        Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn reads(path: &str, expected: &[&str]) {
        assert_eq!(names(path).unwrap(), expected);
    }

    #[test]
    fn ordinary_paths_become_names() {
        reads("/", &[]);
        reads("/a/b.txt", &["a", "b.txt"]);
        reads("//a///b/", &["a", "b"]);
        reads("/with%20space/gr%C3%BC%C3%9Fe", &["with space", "grüße"]);
        reads("/100%25/a..b/a%2eb", &["100%", "a..b", "a.b"]);
    }

    #[test]
    fn climbing_hidden_and_broken_paths_are_no_names() {
        for path in [
            "/..",
            "/a/../b",
            "/%2e%2e/etc",
            "/..%2fetc",
            "/a%2f..%2f..%2fetc/passwd",
            "/.",
            "/.git/config",
            "/%2egit",
            "/a/.env",
            "/a%00b",
            "/%ff",
            "/...",
        ] {
            assert_eq!(names(path), None, "{path}");
        }
    }

    #[test]
    fn decoding_happens_once() {
        reads("/%252e%252e/x", &["%2e%2e", "x"]);
    }
}
