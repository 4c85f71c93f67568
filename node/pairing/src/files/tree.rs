//! What a file hashes to, and each of its pieces: BLAKE3 is a tree, and a piece is a whole branch of it. So that the list of
//! the pieces' hashes proves itself against the file's own, and each piece against its line of the list.

use std::{
    io::{self, Read},
    sync::Arc,
};

use blake3::{
    Hasher,
    hazmat::{HasherExt as _, Mode, merge_subtrees_non_root, merge_subtrees_root},
};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

/// Bytes of a piece. Of the last of a file there may be less.
pub(crate) const PIECE: usize = 256 * 1024;
/// Bytes of a hash.
pub(crate) const HASH: usize = 32;

/// A hash of a whole file, written as hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub(crate) [u8; HASH]);

/// What a piece hashes to.
pub(crate) type Leaf = [u8; HASH];

/// A file's pieces, of which it was found that they are those of the file with this hash.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    root: Digest,
    size: u64,
    leaves: Arc<[Leaf]>,
}

/// What there is to know of a file's content.
#[derive(Debug)]
pub(crate) struct Hashed {
    pub(crate) tree: Tree,
    pub(crate) sha256: Digest,
    /// How it begins.
    pub(crate) begin: Vec<u8>,
}

/// How many pieces a file of this size has.
pub(crate) fn pieces(size: u64) -> Option<u32> {
    u32::try_from(size.div_ceil(PIECE as u64)).ok()
}

/// How long a piece is.
pub(crate) fn length(size: u64, number: u32) -> usize {
    let begin = u64::from(number) * PIECE as u64;
    usize::try_from(size.saturating_sub(begin)).unwrap_or(PIECE).min(PIECE)
}

/// Where it begins.
pub(crate) fn offset(number: u32) -> u64 {
    u64::from(number) * PIECE as u64
}

impl Tree {
    /// The leaves of a file of this size with this hash, if they are.
    pub(crate) fn checked(root: Digest, size: u64, leaves: Vec<Leaf>) -> Option<Self> {
        let fits = match leaves.as_slice() {
            [] => size == 0 && *blake3::hash(b"").as_bytes() == root.0,
            // A file of one piece has its own hash for a leaf: there is nothing above.
            [only] => *only == root.0,
            leaves => root_of(leaves) == root.0,
        };
        (fits && pieces(size).map(|pieces| pieces as usize) == Some(leaves.len())).then(|| Self {
            root,
            size,
            leaves: leaves.into(),
        })
    }

    pub(crate) const fn root(&self) -> Digest {
        self.root
    }

    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn leaves(&self) -> &[Leaf] {
        &self.leaves
    }

    /// Whether this is that piece of the file.
    pub(crate) fn fits(&self, number: u32, bytes: &[u8]) -> bool {
        let leaf = self.leaves.get(number as usize);
        bytes.len() == length(self.size, number)
            && leaf.is_some_and(|leaf| *leaf == leaf_of(number, bytes, self.leaves.len() == 1))
    }
}

/// Reads a file to its end.
///
/// # Errors
/// It cannot be read, or has more than `most` bytes.
pub(crate) fn hashed(mut file: impl Read, most: u64) -> io::Result<Hashed> {
    let (mut leaves, mut sha256, mut size) = (Vec::new(), Sha256::new(), 0_u64);
    let (mut begin, mut only) = (Vec::new(), *blake3::hash(b"").as_bytes());
    let mut piece = vec![0; PIECE];
    loop {
        let length = read_full(&mut file, &mut piece)?;
        let bytes = &piece[..length];
        if length == 0 {
            break;
        }
        size += length as u64;
        if size > most {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        let number = u32::try_from(leaves.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        if leaves.is_empty() {
            only = leaf_of(0, bytes, true);
            begin = bytes.to_vec();
        }
        leaves.push(leaf_of(number, bytes, false));
        sha256.update(bytes);
        if length < PIECE {
            break;
        }
    }
    let root = match leaves.as_mut_slice() {
        [] => only,
        [leaf] => {
            *leaf = only;
            only
        }
        leaves => root_of(leaves),
    };
    let tree = Tree { root: Digest(root), size, leaves: leaves.into() };
    Ok(Hashed { tree, sha256: Digest(sha256.finalize().into()), begin })
}

/// Fills `buffer` unless the file ends first; says how far.
pub(crate) fn read_full(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn leaf_of(number: u32, bytes: &[u8], is_only: bool) -> Leaf {
    if is_only {
        return *blake3::hash(bytes).as_bytes();
    }
    let mut hasher = Hasher::new();
    hasher.set_input_offset(offset(number));
    hasher.update(bytes);
    hasher.finalize_non_root()
}

/// The root above two leaves or more.
fn root_of(leaves: &[Leaf]) -> Leaf {
    let (left, right) = leaves.split_at(left_of(leaves.len()));
    *merge_subtrees_root(&branch(left), &branch(right), Mode::Hash).as_bytes()
}

fn branch(leaves: &[Leaf]) -> Leaf {
    match leaves {
        [leaf] => *leaf,
        leaves => {
            let (left, right) = leaves.split_at(left_of(leaves.len()));
            merge_subtrees_non_root(&branch(left), &branch(right), Mode::Hash)
        }
    }
}

/// How many of these are on the left: the largest power of two that leaves something for the right.
const fn left_of(leaves: usize) -> usize {
    leaves.next_power_of_two() / 2
}

impl Digest {
    /// Reads 64 lower-case hexadecimal digits.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok().map(Self)
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom("a hash has 64 lower-case hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn content(size: usize) -> Vec<u8> {
        (0..size).map(|at| u8::try_from((at * 31 + at / 255) % 251).unwrap()).collect()
    }

    #[test]
    fn the_root_is_the_files_own_hash_and_each_piece_fits_only_its_place() {
        for size in [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 3 * PIECE + 7, 5 * PIECE, 9 * PIECE + 1] {
            let bytes = content(size);
            let hashed = hashed(bytes.as_slice(), u64::MAX).unwrap();
            assert_eq!(hashed.tree.root().0, *blake3::hash(&bytes).as_bytes(), "{size}");
            assert_eq!(hashed.sha256.0, <[u8; 32]>::from(Sha256::digest(&bytes)), "{size}");
            assert_eq!(hashed.tree.size(), size as u64);
            let tree = Tree::checked(hashed.tree.root(), size as u64, hashed.tree.leaves().to_vec()).unwrap();
            let pieces: Vec<&[u8]> = bytes.chunks(PIECE).collect();
            assert_eq!(pieces.len(), pieces_of(size));
            for (number, piece) in (0..).zip(&pieces) {
                assert_eq!(piece.len(), length(size as u64, number));
                assert!(tree.fits(number, piece), "{size}, {number}");
                assert!(!tree.fits(number + 1, piece), "{size}, {number}");
                let mut changed = piece.to_vec();
                changed[piece.len() / 2] ^= 1;
                assert!(!tree.fits(number, &changed) && !tree.fits(number, &piece[1..]), "{size}, {number}");
            }
        }
    }

    fn pieces_of(size: usize) -> usize {
        pieces(size as u64).unwrap() as usize
    }

    #[test]
    fn leaves_of_another_file_or_another_size_are_found() {
        let bytes = content(3 * PIECE + 7);
        let size = bytes.len() as u64;
        let hashed = hashed(bytes.as_slice(), u64::MAX).unwrap();
        let (root, leaves) = (hashed.tree.root(), hashed.tree.leaves().to_vec());
        for at in 0..leaves.len() {
            let mut wrong = leaves.clone();
            wrong[at][0] ^= 1;
            assert!(Tree::checked(root, size, wrong).is_none());
        }
        assert!(Tree::checked(root, size, leaves[1..].to_vec()).is_none());
        assert!(Tree::checked(root, size + PIECE as u64, leaves.clone()).is_none());
        let mut swapped = leaves;
        swapped.swap(0, 1);
        assert!(Tree::checked(root, size, swapped).is_none());
        assert!(Tree::checked(root, 0, Vec::new()).is_none());
    }

    #[test]
    fn a_file_that_is_larger_than_it_may_be_is_not_read_to_its_end() {
        let error = hashed(io::repeat(7), 10 * PIECE as u64).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert!(hashed(content(10).as_slice(), 10).is_ok());
    }

    proptest! {
        #[test]
        fn a_hash_is_read_as_it_is_written_and_nothing_else_is(bytes in any::<[u8; 32]>(), noise in ".{0,70}") {
            let digest = Digest(bytes);
            prop_assert_eq!(Digest::parse(&digest.to_string()), Some(digest));
            if let Some(read) = Digest::parse(&noise) {
                prop_assert_eq!(read.to_string(), noise);
            }
        }
    }
}
