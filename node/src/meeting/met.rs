//! Whose certificates the relays are to watch for us: those of every node that we have met, on whatever path. A relay that
//! does not say what it knows is made up for by one that does.
//!
//! Whoever has left is watched on while there is room: it may have streams that wait for a path, and is likely to come back.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use libp2p::PeerId;
use mytunnel_keys::{
    id::Serial,
    wire::{MAX_WATCHED, Signed},
};

use super::line::{LineId, Order};

/// Certificates in one message, of at most half a kilobyte each; a message may take 64.
const MOST_AT_ONCE: usize = 64;

/// How long a relay that does not watch what it was asked to is left alone.
const REST: Duration = Duration::from_secs(5);

/// The certificates that have been shown to us, with those who have shown them.
pub(super) type Shown<'a> = BTreeMap<Serial, (PeerId, &'a [u8])>;

/// What each relay was told, for as long as the session with it stands. See the [module documentation](self).
#[derive(Debug, Default)]
pub(super) struct Met(BTreeMap<LineId, Told>);

#[derive(Debug, Default)]
struct Told {
    watched: BTreeMap<Serial, PeerId>,
    /// When it may be asked again.
    rests: Option<Instant>,
}

impl Met {
    /// A session stands, in which nothing was told yet.
    pub(super) fn on_online(&mut self, line: LineId) {
        self.0.insert(line, Told::default());
    }

    /// None stands.
    pub(super) fn on_offline(&mut self, line: LineId) {
        self.0.remove(&line);
    }

    /// The relay has said that a certificate counts no longer, and watches it no more: whose it is. None where it was not asked
    /// to watch it.
    pub(super) fn on_revoked(&mut self, line: LineId, serial: Serial) -> Option<PeerId> {
        self.0.get_mut(&line)?.watched.remove(&serial)
    }

    /// The relay does not watch these for now.
    pub(super) fn on_unwatched(&mut self, line: LineId, serials: &[Serial], now: Instant) {
        if let Some(told) = self.0.get_mut(&line) {
            for serial in serials {
                told.watched.remove(serial);
            }
            told.rests = Some(now + REST);
        }
    }

    /// When to call [`Self::turn_to`], if nothing else happens.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.0.values().filter_map(|told| told.rests).min()
    }

    /// What is to be said now that these certificates have been shown to us.
    pub(super) fn turn_to(&mut self, shown: &Shown<'_>, now: Instant) -> Vec<(LineId, Order)> {
        let mut orders = Vec::new();
        for (line, told) in &mut self.0 {
            if told.rests.is_some_and(|until| until > now) {
                continue;
            }
            told.rests = None;
            let is_new = |serial: &Serial| !told.watched.contains_key(serial);
            let new: Vec<_> = shown.iter().filter(|(serial, _)| is_new(serial)).collect();
            let gone = told.make_room(shown, new.len());
            if !gone.is_empty() {
                orders.push((*line, Order::Unwatch(gone)));
            }
            for some in new.chunks(MOST_AT_ONCE) {
                let certificates = some.iter().map(|(_, (_, bytes))| Signed(bytes.to_vec())).collect();
                orders.push((*line, Order::Watch(certificates)));
            }
            told.watched.extend(new.iter().map(|(serial, (peer, _))| (**serial, *peer)));
        }
        orders
    }
}

impl Told {
    /// Forgets of those who have left as many as it takes for `new` more.
    fn make_room(&mut self, shown: &Shown<'_>, new: usize) -> Vec<Serial> {
        let excess = (self.watched.len() + new).saturating_sub(MAX_WATCHED);
        let gone = self.watched.keys().filter(|serial| !shown.contains_key(serial));
        let gone: Vec<Serial> = gone.take(excess).copied().collect();
        for serial in &gone {
            self.watched.remove(serial);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serial(number: u8) -> Serial {
        Serial::from_bytes([number; 16])
    }

    /// What is said once these have been met: to which relay, of how many more, and of how many no longer.
    fn said(
        met: &mut Met,
        numbers: impl IntoIterator<Item = u8>,
        now: Instant,
    ) -> Vec<(LineId, usize, usize)> {
        let peer = PeerId::random();
        let shown = numbers.into_iter().map(|number| (serial(number), (peer, &b"certificate"[..])));
        let orders = met.turn_to(&shown.collect(), now).into_iter();
        let said = orders.map(|(line, order)| match order {
            Order::Watch(certificates) => (line, certificates.len(), 0),
            Order::Unwatch(serials) => (line, 0, serials.len()),
            Order::Find { .. } | Order::Dial(_) | Order::Seek(..) | Order::Close(_) => panic!("{order:?}"),
        });
        said.collect()
    }

    #[test]
    fn every_relay_is_told_once_and_again_when_it_comes_back() {
        let (mut met, now) = (Met::default(), Instant::now());
        assert_eq!(said(&mut met, [1], now), [], "there is none");
        met.on_online(0);
        met.on_online(1);
        assert_eq!(said(&mut met, [1, 2], now), [(0, 2, 0), (1, 2, 0)]);
        assert_eq!(said(&mut met, [1, 2], now), []);
        assert_eq!(said(&mut met, [2], now), [], "it may come back, and has streams that wait");
        met.on_offline(1);
        assert_eq!(said(&mut met, [2, 3], now), [(0, 1, 0)]);
        met.on_online(1);
        assert_eq!(said(&mut met, [2, 3], now), [(1, 2, 0)]);
        assert_eq!(said(&mut met, [], now), []);
        assert!(met.on_revoked(0, serial(1)).is_some(), "it has left, and is watched still");
    }

    #[test]
    fn a_word_counts_from_whom_it_was_asked_and_whoever_comes_back_is_asked_about_again() {
        let (mut met, now) = (Met::default(), Instant::now());
        met.on_online(0);
        met.on_online(1);
        said(&mut met, [1], now);
        assert_eq!(met.on_revoked(0, serial(2)), None);
        assert!(met.on_revoked(0, serial(1)).is_some());
        assert_eq!(met.on_revoked(0, serial(1)), None, "it was said");
        assert_eq!(said(&mut met, [1], now), [(0, 1, 0)]);
    }

    #[test]
    fn what_a_relay_does_not_watch_it_is_asked_for_again_later() {
        let (mut met, now) = (Met::default(), Instant::now());
        met.on_online(0);
        said(&mut met, [1, 2], now);
        met.on_unwatched(0, &[serial(2)], now);
        assert_eq!(said(&mut met, [1, 2, 3], now), []);
        assert_eq!(met.next_timeout(), Some(now + REST));
        assert_eq!(said(&mut met, [1, 2, 3], now + REST), [(0, 2, 0)]);
        assert_eq!(met.next_timeout(), None);
    }

    #[test]
    fn many_are_told_in_messages_that_are_not_too_large_and_who_left_makes_room() {
        let (mut met, now) = (Met::default(), Instant::now());
        met.on_online(0);
        assert_eq!(said(&mut met, 0..128, now), [(0, 64, 0), (0, 64, 0)]);
        assert_eq!(said(&mut met, 3..=129, now), [(0, 0, 2), (0, 2, 0)], "of three that have left");
        let certificates = vec![Signed(vec![0; mytunnel_keys::certificate::MAX_CERTIFICATE]); MOST_AT_ONCE];
        assert!(mytunnel_keys::wire::encode(&mytunnel_keys::wire::ToRelay::Watch { certificates }).is_ok());
    }
}
