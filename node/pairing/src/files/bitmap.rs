//! Which pieces of a file are there.

/// One bit for each piece, the first in the lowest bit of the first byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bitmap {
    bits: Vec<u8>,
    pieces: u32,
    set: u32,
}

impl Bitmap {
    /// None of them.
    pub(crate) fn new(pieces: u32) -> Self {
        Self { bits: vec![0; Self::bytes(pieces)], pieces, set: 0 }
    }

    /// As it was written; nothing where these bytes are none of so many pieces.
    pub(crate) fn parse(bytes: &[u8], pieces: u32) -> Option<Self> {
        let mut bitmap = Self { bits: bytes.to_vec(), pieces, set: 0 };
        let beyond = (pieces..u32::try_from(bytes.len() * 8).ok()?).any(|number| bitmap.bit(number));
        if bytes.len() != Self::bytes(pieces) || beyond {
            return None;
        }
        bitmap.set = bytes.iter().map(|byte| byte.count_ones()).sum();
        Some(bitmap)
    }

    /// How long it is when it is written.
    pub(crate) const fn bytes(pieces: u32) -> usize {
        pieces.div_ceil(8) as usize
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bits
    }

    pub(crate) fn has(&self, number: u32) -> bool {
        number < self.pieces && self.bit(number)
    }

    /// The byte that has changed, and its place.
    pub(crate) fn set(&mut self, number: u32, is_there: bool) -> Option<(usize, u8)> {
        let (at, mask) = (number as usize / 8, 1 << (number % 8));
        let byte = self.bits.get_mut(at).filter(|_| number < self.pieces)?;
        match (*byte & mask != 0, is_there) {
            (false, true) => self.set += 1,
            (true, false) => self.set -= 1,
            (true, true) | (false, false) => {}
        }
        *byte = if is_there { *byte | mask } else { *byte & !mask };
        Some((at, *byte))
    }

    /// The first that is missing, from `first` on.
    pub(crate) fn missing_from(&self, first: u32) -> Option<u32> {
        (first..self.pieces).find(|number| !self.bit(*number))
    }

    /// How many are there.
    pub(crate) const fn count(&self) -> u32 {
        self.set
    }

    fn bit(&self, number: u32) -> bool {
        self.bits.get(number as usize / 8).is_some_and(|byte| byte & (1 << (number % 8)) != 0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_a_set_would(
            pieces in 0_u32..200,
            changes in prop::collection::vec((0_u32..220, any::<bool>()), 0..300),
        ) {
            let (mut bitmap, mut model) = (Bitmap::new(pieces), BTreeSet::new());
            for (number, is_there) in changes {
                let changed = bitmap.set(number, is_there);
                prop_assert_eq!(changed.is_some(), number < pieces);
                if number < pieces {
                    if is_there { model.insert(number); } else { model.remove(&number); }
                    let (at, byte) = changed.unwrap();
                    prop_assert_eq!(bitmap.as_bytes()[at], byte);
                }
            }
            prop_assert_eq!(bitmap.count() as usize, model.len());
            prop_assert!((0..220).all(|number| bitmap.has(number) == model.contains(&number)));
            let missing = (0..pieces).find(|number| !model.contains(number));
            prop_assert_eq!(bitmap.missing_from(0), missing);
            prop_assert_eq!(Bitmap::parse(bitmap.as_bytes(), pieces), Some(bitmap));
        }

        #[test]
        fn bytes_of_other_pieces_are_none_of_these(bytes in prop::collection::vec(any::<u8>(), 0..8), pieces in 0_u32..70) {
            if let Some(bitmap) = Bitmap::parse(&bytes, pieces) {
                prop_assert_eq!(bytes.len(), Bitmap::bytes(pieces));
                prop_assert!(bitmap.count() <= pieces);
                prop_assert_eq!(bitmap.as_bytes(), bytes);
            }
        }
    }
}
