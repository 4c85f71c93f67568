//! Who has lost its rights: the set that a relay keeps.
//!
//! A cascade is one entry on the parent's serial, whatever the number of children, also of those minted at the same
//! moment elsewhere. Entries go when the last certificate that they can concern is over, so that the set is bounded by
//! one day of revocations.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
};

use crate::{
    certificate::{Claims, Kind},
    error::Code,
    feed::Change,
    id::{ProjectId, Serial},
};

/// Revoked trees, keys and projects, each with the second until which it must be remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RevocationSet {
    trees: HashMap<Serial, u64>,
    serials: HashMap<Serial, u64>,
    projects: HashMap<ProjectId, u64>,
    before: Option<Before>,
}

/// What decides whether a certificate is revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descent {
    /// Its serial.
    pub serial: Serial,
    /// Serial of the key that minted it.
    pub parent: Option<Serial>,
    /// Its project; none for one that is good for all of its tenant.
    pub project: Option<ProjectId>,
    /// Whose key it is.
    pub kind: Kind,
    /// Unix second of issue.
    pub issued_at: u64,
}

impl From<&Claims> for Descent {
    fn from(claims: &Claims) -> Self {
        Self {
            serial: claims.serial,
            parent: claims.parent,
            project: claims.project.clone(),
            kind: claims.kind,
            issued_at: claims.issued_at,
        }
    }
}

/// Whatever was issued before a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Before {
    at: u64,
    until: u64,
}

impl RevocationSet {
    /// Takes a change in, and says whether it revokes anything that was not revoked. Changes that are no revocations
    /// change nothing.
    pub fn apply(&mut self, change: &Change) -> bool {
        match change {
            Change::RevokeTree { serial, until } => remember(&mut self.trees, *serial, *until),
            Change::Revoke { serial, until } => remember(&mut self.serials, *serial, *until),
            Change::RevokeProject { project, until } => remember(&mut self.projects, project.clone(), *until),
            Change::RevokeBefore { at, until } => {
                let known = self.before.unwrap_or(Before { at: 0, until: 0 });
                self.before = Some(Before { at: known.at.max(*at), until: known.until.max(*until) });
                *at > known.at
            }
            Change::Name { .. }
            | Change::NameFreed { .. }
            | Change::NameKept { .. }
            | Change::Trust { .. }
            | Change::Gates { .. }
            | Change::Domain { .. }
            | Change::DomainGone { .. }
            | Change::Close { .. }
            | Change::Budget { .. } => false,
        }
    }

    /// Why a certificate counts no longer, if so.
    pub fn is_revoked(&self, claims: &Claims) -> Option<Code> {
        let Claims { serial, parent, project, kind, issued_at, .. } = claims;
        self.find(serial, parent.as_ref(), project.as_ref(), (*kind, *issued_at))
    }

    /// The same, of a certificate of which no more was kept.
    pub fn revokes(&self, descent: &Descent) -> Option<Code> {
        let Descent { serial, parent, project, kind, issued_at } = descent;
        self.find(serial, parent.as_ref(), project.as_ref(), (*kind, *issued_at))
    }

    fn find(
        &self,
        serial: &Serial,
        parent: Option<&Serial>,
        project: Option<&ProjectId>,
        (kind, issued_at): (Kind, u64),
    ) -> Option<Code> {
        let of_tree = |serial: &Serial| self.trees.contains_key(serial);
        let early = |before: Before| kind != Kind::Relay && issued_at < before.at;
        let revoked = self.before.is_some_and(early)
            || self.serials.contains_key(serial)
            || of_tree(serial)
            || parent.is_some_and(of_tree)
            || project.is_some_and(|project| self.projects.contains_key(project));
        revoked.then_some(Code::KeyRevoked)
    }

    /// Forgets what can concern nobody any more.
    pub fn prune(&mut self, now: u64) {
        self.trees.retain(|_, until| *until > now);
        self.serials.retain(|_, until| *until > now);
        self.projects.retain(|_, until| *until > now);
        self.before = self.before.filter(|before| before.until > now);
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.trees.len() + self.serials.len() + self.projects.len() + usize::from(self.before.is_some())
    }

    /// Whether nothing is revoked.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn remember<K: Eq + Hash>(entries: &mut HashMap<K, u64>, key: K, until: u64) -> bool {
    match entries.entry(key) {
        Entry::Vacant(entry) => {
            entry.insert(until);
            true
        }
        Entry::Occupied(mut entry) => {
            // The longer memory counts: the earlier entry may cover a certificate that this one does not.
            let longest = until.max(*entry.get());
            entry.insert(longest);
            false
        }
    }
}

#[cfg(test)]
#[cfg(feature = "issue")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{NOW, claims};

    const UNTIL: u64 = NOW + 86_700;

    fn set(changes: &[Change]) -> RevocationSet {
        let mut set = RevocationSet::default();
        for change in changes {
            set.apply(change);
        }
        set
    }

    fn child(serial: u8, parent: Option<u8>) -> Claims {
        let parent = parent.map(|byte| Serial::from_bytes([byte; 16]));
        Claims { serial: Serial::from_bytes([serial; 16]), parent, ..claims() }
    }

    fn tree(serial: u8, until: u64) -> Change {
        Change::RevokeTree { serial: Serial::from_bytes([serial; 16]), until }
    }

    #[test]
    fn one_entry_revokes_a_parent_and_all_its_children() {
        let set = set(&[tree(1, UNTIL)]);
        assert_eq!(set.len(), 1);
        for serial in 10..200 {
            assert_eq!(set.is_revoked(&child(serial, Some(1))), Some(Code::KeyRevoked));
            assert_eq!(set.is_revoked(&child(serial, Some(2))), None);
        }
        assert_eq!(set.is_revoked(&child(1, None)), Some(Code::KeyRevoked));
    }

    #[test]
    fn one_key_is_revoked_without_its_siblings_and_children() {
        let set = set(&[Change::Revoke { serial: Serial::from_bytes([5; 16]), until: UNTIL }]);
        assert_eq!(set.is_revoked(&child(5, Some(1))), Some(Code::KeyRevoked));
        assert_eq!(set.is_revoked(&child(6, Some(1))), None);
        assert_eq!(set.is_revoked(&child(7, Some(5))), None);
    }

    #[test]
    fn a_project_is_revoked_with_all_its_keys() {
        let project = claims().project.unwrap();
        let set = set(&[Change::RevokeProject { project, until: UNTIL }]);
        assert_eq!(set.is_revoked(&claims()), Some(Code::KeyRevoked));
        let other = Claims { project: Some("proj_other".parse().unwrap()), ..claims() };
        assert_eq!(set.is_revoked(&other), None);
        assert_eq!(set.is_revoked(&Claims { project: None, ..claims() }), None);
    }

    #[test]
    fn what_was_issued_before_a_time_is_revoked_but_for_relays() {
        let mut set = set(&[Change::RevokeBefore { at: NOW, until: UNTIL }]);
        let issued = |at, kind| Claims { issued_at: at, kind, ..claims() };
        for kind in [Kind::Child, Kind::UserDevice] {
            assert_eq!(set.is_revoked(&issued(NOW - 1, kind)), Some(Code::KeyRevoked));
            assert_eq!(set.is_revoked(&issued(NOW, kind)), None);
        }
        assert_eq!(set.is_revoked(&issued(NOW - 1, Kind::Relay)), None);
        assert!(
            !set.apply(&Change::RevokeBefore { at: NOW - 9, until: UNTIL }),
            "an earlier time takes nothing back"
        );
        assert!(set.is_revoked(&issued(NOW - 1, Kind::Child)).is_some());
        set.prune(UNTIL);
        assert!(set.is_empty());
    }

    #[test]
    fn entries_are_forgotten_at_their_time_and_not_before() {
        let mut set = set(&[tree(1, UNTIL)]);
        set.prune(UNTIL - 1);
        assert!(set.is_revoked(&child(9, Some(1))).is_some());
        set.prune(UNTIL);
        assert!(set.is_empty());
    }

    #[test]
    fn revoking_again_is_no_news_and_never_shortens() {
        let mut set = RevocationSet::default();
        assert!(set.apply(&tree(1, UNTIL)));
        assert!(!set.apply(&tree(1, UNTIL - 100)));
        set.prune(UNTIL - 1);
        assert_eq!(set.len(), 1);
        assert!(!set.apply(&tree(1, UNTIL + 100)));
        set.prune(UNTIL);
        assert_eq!(set.len(), 1);
        assert!(!set.apply(&Change::NameFreed { name: "web".parse().unwrap() }));
    }

    proptest! {
        #[test]
        fn the_order_of_revocations_does_not_matter(changes in prop::collection::vec((0..6_u8, 1..500_u64), 0..20)) {
            let changes: Vec<_> = changes.iter().map(|(serial, until)| tree(*serial, *until)).collect();
            let forwards = set(&changes);
            let backwards = set(&changes.iter().cloned().rev().collect::<Vec<_>>());
            prop_assert_eq!(forwards, backwards);
        }
    }
}
