//! Names of peers' files, which are hostile text until they have been through here.

use crate::text;

/// Bytes of a name. With a number before it, and what a file system adds, it fits everywhere.
const LONGEST: usize = 200;
/// Bytes of an ending that is kept where the name is too long.
const ENDING: usize = 16;
/// What is taken where nothing is left of a name.
const NOTHING: &str = "file";

/// A name under which a file can be put beside others, whatever a peer calls it: one component, without what acts on a
/// terminal or means something to a file system, and none that Windows keeps for devices. It stays what it is if it goes
/// through here again.
pub(crate) fn safe(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let (neutral, _) = text::neutral(last);
    let plain: String = neutral.chars().map(|letter| if is_plain(letter) { letter } else { '_' }).collect();
    let short = shortened(trimmed(&plain));
    match trimmed(&short) {
        "" => NOTHING.to_owned(),
        device if is_device(device) => trimmed(&shortened(&format!("_{device}"))).to_owned(),
        name => name.to_owned(),
    }
}

/// Under which name a file of this machine is offered.
pub(crate) fn offered(path: &std::path::Path) -> String {
    safe(&path.file_name().unwrap_or_default().to_string_lossy())
}

/// Spaces at the ends, and dots at the end, are dropped by Windows; dots at the start hide a file.
fn trimmed(name: &str) -> &str {
    name.trim_start_matches(is_edge).trim_end_matches(is_edge)
}

fn is_edge(letter: char) -> bool {
    letter == '.' || letter.is_whitespace()
}

fn is_plain(letter: char) -> bool {
    let means_something = matches!(letter, '<' | '>' | ':' | '"' | '/' | '\\' | '|' | '?' | '*');
    !means_something && !letter.is_control() && (letter == ' ' || !letter.is_whitespace())
}

fn shortened(name: &str) -> String {
    if name.len() <= LONGEST {
        return name.to_owned();
    }
    let ending = name.rfind('.').map(|at| &name[at..]).filter(|ending| ending.len() <= ENDING);
    let ending = ending.unwrap_or_default();
    let room = LONGEST - ending.len();
    let end = (0..=room).rev().find(|at| name.is_char_boundary(*at)).unwrap_or_default();
    format!("{}{ending}", &name[..end])
}

/// Names that are no files on Windows, with any ending: `nul.txt` is none, either.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_ascii_uppercase();
    let numbered = |kind: &str| {
        let mut rest = stem.strip_prefix(kind).unwrap_or_default().chars();
        let is_digit = |letter: char| matches!(letter, '0'..='9' | '¹' | '²' | '³');
        rest.next().is_some_and(is_digit) && rest.next().is_none()
    };
    matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$")
        || numbered("COM")
        || numbered("LPT")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_keep_what_people_read_and_lose_what_acts() {
        let long = "x".repeat(300);
        let cases = [
            ("report.pdf", "report.pdf"),
            ("Grüße an alle.txt", "Grüße an alle.txt"),
            ("../../etc/passwd", "passwd"),
            ("..\\..\\windows\\system32", "system32"),
            ("/", "file"),
            ("..", "file"),
            ("", "file"),
            (".bashrc", "bashrc"),
            ("a\0b", "ab"),
            ("a\nb\r\u{1b}[2J", "a_b[2J"),
            ("invoice\u{202e}fdp.exe", "invoicefdp.exe"),
            ("a\u{200b}b", "ab"),
            ("what?<is>:this|*\"", "what__is__this___"),
            ("CON", "_CON"),
            ("nul.txt", "_nul.txt"),
            ("Com1.tar.gz", "_Com1.tar.gz"),
            ("LPT¹", "_LPT¹"),
            ("COM10", "COM10"),
            ("console", "console"),
            ("trailing. . ", "trailing"),
        ];
        for (given, wanted) in cases {
            assert_eq!(safe(given), wanted, "{given:?}");
        }
        assert_eq!(safe(&long).len(), LONGEST);
        let with_ending = safe(&format!("{long}.tar"));
        assert!(with_ending.len() == LONGEST && with_ending.ends_with("x.tar"), "{with_ending}");
        assert!(safe(&"ü".repeat(150)).len() <= LONGEST);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]

        #[test]
        fn whatever_a_peer_writes_is_one_harmless_component(
            name in prop_oneof![
                any::<String>(),
                "[./\\\\ a-c\\u{202e}\\u{0}\\n:]{0,12}",
                "(con|nul|com1|lpt9)[. ]{0,3}[a-z]{0,3}",
                "(con|nul)[ ]{190,210}[a-z.]{0,6}",
                "(con|nul)[.][a-z]{190,210}",
                "[a.]{190,270}",
                "[ü. ]{90,140}",
            ]
        ) {
            let safe_name = safe(&name);
            prop_assert!(!safe_name.is_empty() && safe_name.len() <= LONGEST, "{safe_name:?}");
            prop_assert!(!safe_name.starts_with(is_edge) && !safe_name.ends_with(is_edge), "{safe_name:?}");
            prop_assert!(safe_name.chars().all(is_plain) && !is_device(&safe_name), "{safe_name:?}");
            prop_assert_eq!(text::neutral(&safe_name).1, 0);
            let path = std::path::Path::new(&safe_name);
            prop_assert_eq!(path.components().count(), 1);
            prop_assert_eq!(safe(&safe_name), safe_name);
        }
    }
}
