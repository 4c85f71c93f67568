//! What a stream is for, read off this relay's own part of multistream-select.
//!
//! Whichever end opens a stream, this relay writes the name of the protocol that was agreed on, or that it asks for, in a
//! message that begins with its length. What it writes before that are the header and refusals of other names.

use std::mem;

/// A peer asks this relay for a circuit, and this relay asks a peer to take one.
const CIRCUITS: [&[u8]; 2] = [b"/libp2p/circuit/relay/0.2.0/hop\n", b"/libp2p/circuit/relay/0.2.0/stop\n"];
const HEADER: &[u8] = b"/multistream/1.0.0\n";

/// What is kept of a message: no name that is looked for is longer.
const KEPT: usize = 64;

/// What a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A circuit, or the request for one.
    Circuit,
    /// Something else.
    Other,
}

/// What was written so far.
#[derive(Debug)]
pub(super) enum Negotiation {
    /// In the length of a message: what of it is known, and bits that are.
    Length(usize, u32),
    /// In a message: its beginning, and how much of it is still to come.
    Message(Vec<u8>, usize),
}

impl Default for Negotiation {
    fn default() -> Self {
        Self::Length(0, 0)
    }
}

impl Negotiation {
    /// This relay has written these; none while the purpose is not said.
    pub(super) fn said(&mut self, bytes: &[u8]) -> Option<Purpose> {
        bytes.iter().find_map(|byte| self.step(*byte))
    }

    fn step(&mut self, byte: u8) -> Option<Purpose> {
        match self {
            Self::Length(known, bits) => {
                *known |= usize::from(byte & 0x7f) << (*bits).min(21);
                *bits += 7;
                if byte & 0x80 == 0 {
                    *self = if *known == 0 { Self::default() } else { Self::Message(Vec::new(), *known) };
                }
                None
            }
            Self::Message(message, left) => {
                if message.len() < KEPT {
                    message.push(byte);
                }
                *left -= 1;
                if *left > 0 {
                    return None;
                }
                let message = mem::take(message);
                *self = Self::default();
                purpose(&message)
            }
        }
    }
}

/// A list of protocols, which a peer may ask for, begins with the length of the first.
fn purpose(message: &[u8]) -> Option<Purpose> {
    if CIRCUITS.contains(&message) {
        return Some(Purpose::Circuit);
    }
    let is_name = message.starts_with(b"/") && message.iter().filter(|byte| **byte == b'\n').count() <= 1;
    (is_name && message != HEADER).then_some(Purpose::Other)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framed(messages: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for message in messages {
            let mut length = message.len();
            while length >= 0x80 {
                bytes.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
                length >>= 7;
            }
            bytes.push(u8::try_from(length).unwrap());
            bytes.extend(*message);
        }
        bytes
    }

    #[test]
    fn either_end_of_a_circuit_is_known_whatever_was_proposed_before() {
        let list = framed(&[b"/mytunnel/auth/1\n", &[b'/'; 200], CIRCUITS[0]]);
        for circuit in CIRCUITS {
            for before in [vec![], vec![&b"na\n"[..]; 100], vec![&list[..]], vec![&list[..], b"na\n"]] {
                let said = framed(&[&[HEADER][..], &before, &[circuit]].concat());
                assert_eq!(Negotiation::default().said(&said), Some(Purpose::Circuit));
                let (last, all_but_last) = said.split_last().unwrap();
                let mut negotiation = Negotiation::default();
                assert_eq!(negotiation.said(all_but_last), None);
                assert_eq!(negotiation.said(&[*last]), Some(Purpose::Circuit));
            }
        }
    }

    #[test]
    fn another_protocol_stays_another_whatever_follows() {
        let said = framed(&[HEADER, b"/mytunnel/auth/1\n", CIRCUITS[0]]);
        assert_eq!(Negotiation::default().said(&said), Some(Purpose::Other));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic_or_grow(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let mut negotiation = Negotiation::default();
            negotiation.said(&bytes);
            if let Negotiation::Message(kept, _) = negotiation {
                prop_assert!(kept.len() <= KEPT);
            }
        }
    }
}
