//! What the coordinator said its audit log ended with, kept where the coordinator cannot change it.
//!
//! Each line is a Unix time and the hash, in hex, that stood at the end of the log then. Whoever edits the log and makes
//! its chain fit again cannot make these fit: `mytunnel audit --verify --witness FILE` compares.

use std::{
    fmt::Write as _,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::Path,
};

use super::write;

/// The file in the relay's directory.
pub(super) const WITNESS: &str = "audit-witness";
/// A line for at most every five minutes: a year fits into 8 MB, and what is edited later than that stands out.
const EVERY: u64 = 300;
/// At that size the older half goes. The newest line alone vouches for everything before it.
const LARGEST: u64 = 8 * 1024 * 1024;

/// A hash that stood at the end of the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Witnessed {
    /// Unix second of this relay's clock.
    pub(crate) at: u64,
    pub(crate) head: [u8; 32],
}

impl Witnessed {
    /// What is to be kept after a heartbeat that told `head`.
    pub(crate) fn next(last: Option<Self>, head: [u8; 32], now: u64) -> Self {
        match last {
            // A clock that was set back does not stop the keeping.
            Some(last) if last.head == head || (last.at..last.at + EVERY).contains(&now) => last,
            Some(_) | None => Self { at: now, head },
        }
    }

    fn line(&self) -> String {
        let mut line = format!("{} ", self.at);
        for byte in self.head {
            // A string takes all that is written to it.
            let _ = write!(line, "{byte:02x}");
        }
        line.push('\n');
        line
    }
}

/// Appends a line; it is on the disk when this returns.
pub(super) fn append(dir: &Path, seen: &Witnessed) -> io::Result<()> {
    let path = dir.join(WITNESS);
    if fs::metadata(&path).is_ok_and(|meta| meta.len() > LARGEST) {
        let text = fs::read(&path)?;
        let half = text.len() / 2;
        let start =
            text[half..].iter().position(|byte| *byte == b'\n').map_or(text.len(), |at| half + at + 1);
        write(dir, WITNESS, &text[start..]).map_err(io::Error::other)?;
    }
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    file.write_all(seen.line().as_bytes())?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_head_is_kept_every_five_minutes_and_an_old_one_never_twice() {
        let first = Witnessed::next(None, [1; 32], 1000);
        assert_eq!(first, Witnessed { at: 1000, head: [1; 32] });
        let next = |head, now| Witnessed::next(Some(first), head, now);
        assert_eq!(next([2; 32], 1299), first, "too soon");
        assert_eq!(next([1; 32], 9000), first, "nothing new");
        assert_eq!(next([2; 32], 1300), Witnessed { at: 1300, head: [2; 32] });
        assert_eq!(next([2; 32], 10), Witnessed { at: 10, head: [2; 32] });
    }

    #[test]
    fn lines_add_up_and_the_older_half_goes_when_there_are_too_many() {
        let dir = tempfile::tempdir().unwrap();
        let text = || fs::read_to_string(dir.path().join(WITNESS)).unwrap();
        append(dir.path(), &Witnessed { at: 7, head: [0xab; 32] }).unwrap();
        append(dir.path(), &Witnessed { at: 8, head: [1; 32] }).unwrap();
        assert_eq!(text(), format!("7 {}\n8 {}\n", "ab".repeat(32), "01".repeat(32)));

        let line = format!("9 {}\n", "cd".repeat(32));
        let many = line.repeat(usize::try_from(LARGEST).unwrap() / line.len() + 1);
        fs::write(dir.path().join(WITNESS), &many).unwrap();
        append(dir.path(), &Witnessed { at: 10, head: [2; 32] }).unwrap();
        let kept = text();
        assert!(
            kept.len() < many.len() / 2 + 2 * line.len()
                && kept.ends_with(&format!("10 {}\n", "02".repeat(32)))
        );
        assert!(kept.lines().all(|line| line.split_once(' ').is_some_and(|(_, head)| head.len() == 64)));
    }
}
