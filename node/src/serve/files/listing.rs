//! The page that shows a folder: names, sizes, nothing that runs.

use std::{cmp::Reverse, fmt::Write as _, fs, io, path::Path};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::path;

/// Entries shown at most; a folder with more says so. Keeps a page under 2 MiB.
const MOST: usize = 5000;

/// What may stand in a path segment as it is (RFC 3986 `unreserved`).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

const STYLE: &str = ":root{color-scheme:light dark}\
body{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.1rem;font-weight:600;overflow-wrap:anywhere}\
table{width:100%;border-collapse:collapse}\
td{padding:.3rem .2rem;border-top:1px solid color-mix(in srgb,currentColor 15%,transparent);overflow-wrap:anywhere}\
td+td{text-align:right;white-space:nowrap;opacity:.65;font-variant-numeric:tabular-nums}\
a{text-decoration:none}a:hover{text-decoration:underline}p{opacity:.65}";

/// A folder's entries as a visitor may see them, folders first, then by name.
#[derive(Debug)]
pub(super) struct Listing {
    /// The folders from the shared one down to this one.
    trail: Vec<String>,
    entries: Vec<Entry>,
    cut: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    name: String,
    /// `None` for a folder.
    size: Option<u64>,
}

impl Listing {
    /// Reads `folder`, which is canonical and inside `root`. Leaves out what would not be served.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub(super) fn read(root: &Path, folder: &Path, trail: &[String]) -> io::Result<Self> {
        let shown = fs::read_dir(folder)?.filter_map(Result::ok).filter_map(|entry| shown(root, &entry));
        let mut entries: Vec<_> = shown.take(MOST + 1).collect();
        let cut = entries.len() > MOST;
        entries.truncate(MOST);
        entries.sort_by_cached_key(|entry| {
            (Reverse(entry.size.is_none()), entry.name.to_lowercase(), entry.name.clone())
        });
        Ok(Self { trail: trail.to_vec(), entries, cut })
    }

    pub(super) fn to_html(&self) -> String {
        let title = format!("/{}", self.trail.join("/"));
        let mut body = format!("<h1>{}</h1><table>", Escaped(&title));
        if !self.trail.is_empty() {
            body.push_str("<tr><td><a href=\"../\">../</a></td><td></td></tr>");
        }
        for entry in &self.entries {
            entry.write_to(&mut body);
        }
        body.push_str("</table>");
        if self.cut {
            let _ = write!(body, "<p>Only {MOST} entries are shown.</p>");
        } else if self.entries.is_empty() {
            body.push_str("<p>This folder is empty.</p>");
        }
        page(&title, &body)
    }
}

impl Entry {
    fn write_to(&self, html: &mut String) {
        let slash = if self.size.is_none() { "/" } else { "" };
        let link = utf8_percent_encode(&self.name, SEGMENT);
        let size = self.size.map(human).unwrap_or_default();
        let name = Escaped(&self.name);
        // Writing to a String cannot fail.
        let _ =
            write!(html, "<tr><td><a href=\"./{link}{slash}\">{name}{slash}</a></td><td>{size}</td></tr>");
    }
}

/// A page that says one thing.
pub(super) fn message(text: &str) -> String {
    page(text, &format!("<h1>{}</h1>", Escaped(text)))
}

fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{}</title>\
         <style>{STYLE}</style><body>{body}</body></html>\n",
        Escaped(title)
    )
}

fn shown(root: &Path, entry: &fs::DirEntry) -> Option<Entry> {
    let name = entry.file_name().into_string().ok().filter(|name| !path::is_hidden(name))?;
    let is_link = entry.file_type().ok()?.is_symlink();
    let metadata = if is_link {
        fs::metadata(path::inside(root, &entry.path()).ok()?).ok()?
    } else {
        entry.metadata().ok()?
    };
    match (metadata.is_dir(), metadata.is_file()) {
        (true, _) => Some(Entry { name, size: None }),
        (_, true) => Some(Entry { name, size: Some(metadata.len()) }),
        _ => None,
    }
}

/// Bytes, with three digits and a unit of 1024.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn human(bytes: u64) -> String {
    let mut size = bytes as f64;
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    while size >= 999.5 {
        let Some(larger) = units.next() else { break };
        (size, unit) = (size / 1024.0, larger);
    }
    if unit == "B" || size >= 99.5 { format!("{size:.0} {unit}") } else { format!("{size:.1} {unit}") }
}

/// Text as HTML shows it, in elements and quoted attributes.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            // A name may hold line breaks and the marks that turn the direction of text.
            c if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {
                f.write_char('\u{fffd}')
            }
            c => f.write_char(c),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_out_of_the_page() {
        let name = "<img src=x onerror=alert(1)>\"'&.txt".to_owned();
        let listing = Listing { trail: vec![], entries: vec![Entry { name, size: Some(1) }], cut: false };
        let html = listing.to_html();
        assert!(html.contains("&lt;img src=x onerror=alert(1)&gt;&quot;&#39;&amp;.txt</a>"), "{html}");
        assert!(
            html.contains("href=\"./%3Cimg%20src%3Dx%20onerror%3Dalert%281%29%3E%22%27%26.txt\""),
            "{html}"
        );
        assert!(!html.contains("<img"));
    }

    #[test]
    fn a_name_with_a_colon_is_no_scheme() {
        let entries = vec![Entry { name: "javascript:alert(1)".to_owned(), size: Some(1) }];
        let html = Listing { trail: vec![], entries, cut: false }.to_html();
        assert!(html.contains("href=\"./javascript%3Aalert%281%29\""), "{html}");
    }

    #[test]
    fn the_shared_folder_has_no_way_up() {
        let page = |trail: Vec<String>| Listing { trail, entries: vec![], cut: false }.to_html();
        assert!(!page(vec![]).contains("../"));
        assert!(page(vec!["a".to_owned()]).contains("href=\"../\""));
    }

    #[test]
    fn sizes_read_well() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (10 << 20, "10.0 MiB"),
            (200 << 20, "200 MiB"),
            (5 << 30, "5.0 GiB"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }
}
