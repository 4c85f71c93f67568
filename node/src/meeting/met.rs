//! Whose certificates the relays are to watch for us: those of every node that we have met, on whatever path. A relay that
//! does not say what it knows is made up for by one that does.

use std::collections::{BTreeMap, BTreeSet};

use mytunnel_keys::{id::Serial, wire::Signed};

use super::line::{LineId, Order};

/// Certificates in one message, of at most half a kilobyte each; a message may take 64.
const MOST_AT_ONCE: usize = 64;

/// What each relay was told, for as long as the session with it stands. See the [module documentation](self).
#[derive(Debug, Default)]
pub(super) struct Watches(BTreeMap<LineId, BTreeSet<Serial>>);

impl Watches {
    /// A session stands, in which nothing was told yet.
    pub(super) fn on_online(&mut self, line: LineId) {
        self.0.insert(line, BTreeSet::new());
    }

    /// None stands.
    pub(super) fn on_offline(&mut self, line: LineId) {
        self.0.remove(&line);
    }

    /// The relay has said that a certificate counts no longer, and watches it no more.
    pub(super) fn on_revoked(&mut self, line: LineId, serial: Serial) {
        if let Some(told) = self.0.get_mut(&line) {
            told.remove(&serial);
        }
    }

    /// What is to be said now that these certificates have been shown to us, and no others.
    pub(super) fn turn_to(&mut self, shown: &BTreeMap<Serial, &[u8]>) -> Vec<(LineId, Order)> {
        let mut orders = Vec::new();
        for (line, told) in &mut self.0 {
            let gone: Vec<Serial> =
                told.iter().filter(|serial| !shown.contains_key(serial)).copied().collect();
            for serial in &gone {
                told.remove(serial);
            }
            let new: Vec<_> = shown.iter().filter(|(serial, _)| told.insert(**serial)).collect();
            // Those that are gone make room.
            if !gone.is_empty() {
                orders.push((*line, Order::Unwatch(gone)));
            }
            for some in new.chunks(MOST_AT_ONCE) {
                let certificates = some.iter().map(|(_, bytes)| Signed(bytes.to_vec())).collect();
                orders.push((*line, Order::Watch(certificates)));
            }
        }
        orders
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serial(number: u8) -> Serial {
        Serial::from_bytes([number; 16])
    }

    fn shown(numbers: &[u8]) -> BTreeMap<Serial, &'static [u8]> {
        numbers.iter().map(|number| (serial(*number), &b"certificate"[..])).collect()
    }

    /// What is said: to which relay, how many more, and who no longer.
    fn said(watches: &mut Watches, numbers: &[u8]) -> Vec<(LineId, usize, Vec<Serial>)> {
        let orders = watches.turn_to(&shown(numbers)).into_iter();
        let said = orders.map(|(line, order)| match order {
            Order::Watch(certificates) => (line, certificates.len(), Vec::new()),
            Order::Unwatch(serials) => (line, 0, serials),
            Order::Find { .. } | Order::Dial(_) | Order::Seek(..) | Order::Close(_) => panic!("{order:?}"),
        });
        said.collect()
    }

    #[test]
    fn every_relay_is_told_once_and_again_when_it_comes_back() {
        let mut watches = Watches::default();
        assert_eq!(said(&mut watches, &[1]), [], "there is none");
        watches.on_online(0);
        watches.on_online(1);
        assert_eq!(said(&mut watches, &[1, 2]), [(0, 2, vec![]), (1, 2, vec![])]);
        assert_eq!(said(&mut watches, &[1, 2]), []);
        assert_eq!(said(&mut watches, &[2]), [(0, 0, vec![serial(1)]), (1, 0, vec![serial(1)])]);
        watches.on_offline(1);
        assert_eq!(said(&mut watches, &[2, 3]), [(0, 1, vec![])]);
        watches.on_online(1);
        assert_eq!(said(&mut watches, &[2, 3]), [(1, 2, vec![])]);
    }

    #[test]
    fn whoever_comes_back_with_what_was_revoked_is_asked_about_again() {
        let mut watches = Watches::default();
        watches.on_online(0);
        said(&mut watches, &[1]);
        watches.on_revoked(0, serial(1));
        assert_eq!(said(&mut watches, &[1]), [(0, 1, vec![])]);
    }

    #[test]
    fn many_are_told_in_messages_that_are_not_too_large() {
        let mut watches = Watches::default();
        watches.on_online(0);
        let all: Vec<u8> = (0..=128).collect();
        let counts: Vec<usize> = said(&mut watches, &all).into_iter().map(|(_, count, _)| count).collect();
        assert_eq!(counts, [64, 64, 1]);
        let certificates = vec![Signed(vec![0; mytunnel_keys::certificate::MAX_CERTIFICATE]); MOST_AT_ONCE];
        assert!(mytunnel_keys::wire::encode(&mytunnel_keys::wire::ToRelay::Watch { certificates }).is_ok());
    }
}
