//! Sessions whose people have signed out: their cookies count no more at this relay, wherever a copy of one may be.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use sha2::{Digest as _, Sha256};

use crate::{gate::session::MAX_VALUE, ingress::locked};

/// So many are remembered. Each has cost a sign-in with a provider.
const MOST: usize = 16 * 1024;

/// See the [module documentation](self). Each is remembered until it would have ended.
#[derive(Debug, Default)]
pub(in super::super) struct SignedOut {
    /// Whether there are any, which most relays need not look further for.
    any: AtomicBool,
    ends: Mutex<HashMap<[u8; 32], u64>>,
}

impl SignedOut {
    /// Whether the cookie of this value is one of them.
    pub(in super::super) fn has(&self, cookie: &[u8]) -> bool {
        if !self.any.load(Relaxed) || cookie.len() > MAX_VALUE {
            return false;
        }
        // Anybody may send a cookie of any kind: nobody else is to wait while it is looked at.
        let digest = digest(cookie);
        locked(&self.ends).contains_key(&digest)
    }

    /// It is from here on.
    pub(in super::super) fn note(&self, cookie: &[u8], ends_at: u64, now: u64) {
        let digest = digest(cookie);
        let mut ends = locked(&self.ends);
        if ends.len() >= MOST {
            ends.retain(|_, ends_at| *ends_at > now);
        }
        if ends.len() >= MOST {
            // One has to be forgotten: that which would have counted for the shortest time.
            let first = ends.iter().min_by_key(|(_, ends_at)| **ends_at).map(|(cookie, _)| *cookie);
            first.map(|first| ends.remove(&first));
        }
        ends.insert(digest, ends_at);
        self.any.store(true, Relaxed);
    }
}

fn digest(cookie: &[u8]) -> [u8; 32] {
    Sha256::digest(cookie).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_signed_out_is_remembered_and_nobody_else() {
        let left = SignedOut::default();
        assert!(!left.has(b"ann"));
        left.note(b"ann", 100, 50);
        assert!(left.has(b"ann") && !left.has(b"ben"));
    }

    #[test]
    fn what_is_too_long_for_a_session_is_not_looked_at() {
        let (left, long) = (SignedOut::default(), vec![b'a'; MAX_VALUE + 1]);
        left.note(&long, 100, 50);
        left.note(&long[1..], 100, 50);
        assert!(left.has(&long[1..]) && !left.has(&long));
    }

    #[test]
    fn they_are_bounded_and_what_lasts_longest_stays() {
        let left = SignedOut::default();
        left.note(b"short", 60, 50);
        left.note(b"over", 51, 50);
        for number in 2..MOST {
            left.note(&number.to_be_bytes(), 1000, 50);
        }
        left.note(b"one more", 1000, 51);
        assert!(
            left.has(b"one more") && left.has(b"short") && !left.has(b"over"),
            "what has ended goes first"
        );
        left.note(b"another", 1000, 52);
        assert!(left.has(b"another") && !left.has(b"short"));
        assert_eq!(locked(&left.ends).len(), MOST);
    }
}
