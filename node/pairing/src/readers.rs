//! Who reads a session on this machine, and how far each has come: a place moves when its reader says that it has read,
//! and not when something was handed out.

use std::collections::BTreeMap;

use mytunnel_keys::error::Code;
use serde::{Deserialize, Serialize};

use crate::limits;

/// See the module.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Readers(BTreeMap<String, Place>);

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Place {
    read: u64,
    /// It was told that the session is over.
    knows_end: bool,
}

impl Readers {
    /// Behind which number `reader` goes on; it has a place from here on.
    ///
    /// # Errors
    /// [`Code::BadRequest`] for a name that is none, or one too many.
    pub(crate) fn place(&mut self, reader: &str) -> Result<u64, Code> {
        self.of(reader).map(|place| place.read)
    }

    /// `reader` has read up to `number`, and whether that it is over.
    ///
    /// # Errors
    /// As [`Self::place`].
    pub(crate) fn has_read(&mut self, reader: &str, number: u64, end: bool) -> Result<(), Code> {
        let place = self.of(reader)?;
        place.read = place.read.max(number);
        place.knows_end |= end;
        Ok(())
    }

    /// The place of `reader`, where it has one.
    pub(crate) fn known(&self, reader: &str) -> Option<u64> {
        self.0.get(reader).map(|place| place.read)
    }

    /// Whether everybody who reads here has read up to `last` and knows of the end, and there is anybody.
    pub(crate) fn are_done(&self, last: u64) -> bool {
        !self.0.is_empty() && self.0.values().all(|place| place.read >= last && place.knows_end)
    }

    fn of(&mut self, reader: &str) -> Result<&mut Place, Code> {
        let is_new = !self.0.contains_key(reader);
        if !(1..=limits::NAME).contains(&reader.len()) || is_new && self.0.len() >= limits::READERS {
            return Err(Code::BadRequest);
        }
        Ok(self.0.entry(reader.to_owned()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reader_has_a_place_that_moves_forward_when_it_says_so() {
        let mut readers = Readers::default();
        assert!(!readers.are_done(0));
        assert_eq!((readers.place("agent"), readers.place("agent")), (Ok(0), Ok(0)));
        readers.has_read("agent", 7, false).unwrap();
        readers.has_read("agent", 3, false).unwrap();
        assert_eq!((readers.place("agent"), readers.place("terminal")), (Ok(7), Ok(0)));
        readers.has_read("agent", 7, true).unwrap();
        assert!(!readers.are_done(7));
        readers.has_read("terminal", 7, true).unwrap();
        assert!(readers.are_done(7) && !readers.are_done(8));
    }

    #[test]
    fn readers_are_few_and_have_names() {
        let mut readers = Readers::default();
        for one in 0..limits::READERS {
            readers.place(&one.to_string()).unwrap();
        }
        for bad in ["", "another", &"x".repeat(limits::NAME + 1)] {
            assert_eq!(readers.place(bad), Err(Code::BadRequest), "{bad}");
        }
        assert_eq!(readers.place("0"), Ok(0));
    }
}
