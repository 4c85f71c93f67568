//! What a file says that it is, by its name, or else by how it begins. Nobody relies on it.

use std::path::Path;

const KNOWN: [(&str, &str); 30] = [
    ("c", "text/x-c"),
    ("css", "text/css"),
    ("csv", "text/csv"),
    ("diff", "text/x-diff"),
    ("gif", "image/gif"),
    ("go", "text/x-go"),
    ("gz", "application/gzip"),
    ("html", "text/html"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript"),
    ("json", "application/json"),
    ("log", "text/plain"),
    ("md", "text/markdown"),
    ("mp4", "video/mp4"),
    ("patch", "text/x-diff"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("py", "text/x-python"),
    ("rs", "text/x-rust"),
    ("sh", "application/x-sh"),
    ("svg", "image/svg+xml"),
    ("tar", "application/x-tar"),
    ("toml", "application/toml"),
    ("ts", "text/typescript"),
    ("txt", "text/plain"),
    ("xml", "application/xml"),
    ("yaml", "application/yaml"),
    ("yml", "application/yaml"),
    ("zip", "application/zip"),
];

/// `begin` is the first piece of the file.
pub(crate) fn media_type(name: &str, begin: &[u8]) -> &'static str {
    let ending = Path::new(name).extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    let known = KNOWN.iter().find(|(known, _)| ending.eq_ignore_ascii_case(known));
    known.map_or_else(|| by_content(begin), |(_, kind)| *kind)
}

fn by_content(begin: &[u8]) -> &'static str {
    let is_text = match std::str::from_utf8(begin) {
        Ok(text) => !text.contains('\0'),
        // The piece may end within a letter.
        Err(error) => error.error_len().is_none() && !begin.contains(&0),
    };
    if is_text { "text/plain" } else { "application/octet-stream" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_it_or_else_the_content() {
        assert_eq!(media_type("a.PDF", b""), "application/pdf");
        assert_eq!(media_type("notes", "Grüße".as_bytes()), "text/plain");
        assert_eq!(media_type("notes", &"ü".as_bytes()[..1]), "text/plain");
        assert_eq!(media_type("notes", b"a\0b"), "application/octet-stream");
        assert_eq!(media_type("notes", &[0xff, 0xfe]), "application/octet-stream");
    }
}
