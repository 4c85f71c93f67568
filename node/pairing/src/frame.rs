//! Messages of an established session as frames of Noise.
//!
//! A frame is two bytes of length and a ciphertext of at most 65,535 bytes. Inside, the first byte says whether the
//! message goes on in the next frame and whether the sender changes its key behind this one. A frame that was
//! changed, dropped, doubled or moved does not open, and ends the session's stream.

use std::time::Duration;

use snow::TransportState;

use crate::{handshake::Established, limits};

const TAG: usize = 16;
/// Bytes of a message in one frame.
const PIECE: usize = limits::FRAME - TAG - 1;
const MORE: u8 = 1;
const REKEY: u8 = 2;

/// One end of an established session: seals what goes out and opens what comes in, in order.
#[derive(Debug)]
pub(crate) struct Channel {
    noise: TransportState,
    sent: u32,
    keyed_at: Duration,
    received: u32,
    partial: Vec<u8>,
}

/// The stream is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    /// Somebody changed, dropped, doubled or moved a frame, or the other end is not what it was.
    #[error("a frame was not sealed by the other end, or not sent in this place")]
    Broken,
    /// A message is larger than any can be.
    #[error("a message is too large")]
    TooLarge,
}

impl Channel {
    /// Over an established handshake; `now` is the time on a clock that only goes forward.
    pub(crate) fn new(established: Established, now: Duration) -> Self {
        Self { noise: established.transport, sent: 0, keyed_at: now, received: 0, partial: Vec::new() }
    }

    /// The frames of a message, each behind its length, to be sent in this order.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`] for a message that the other end would not take.
    pub(crate) fn seal(&mut self, message: &[u8], now: Duration) -> Result<Vec<u8>, FrameError> {
        if message.len() > limits::MESSAGE {
            return Err(FrameError::TooLarge);
        }
        let mut frames = Vec::with_capacity(message.len() + (message.len() / PIECE + 1) * (TAG + 3));
        let mut rest = message;
        loop {
            let (piece, after) = rest.split_at(rest.len().min(PIECE));
            self.seal_piece(piece, !after.is_empty(), now, &mut frames)?;
            if after.is_empty() {
                return Ok(frames);
            }
            rest = after;
        }
    }

    fn seal_piece(
        &mut self,
        piece: &[u8],
        more: bool,
        now: Duration,
        out: &mut Vec<u8>,
    ) -> Result<(), FrameError> {
        self.sent += 1;
        let rekey =
            self.sent >= limits::REKEY_FRAMES || now.saturating_sub(self.keyed_at) >= limits::REKEY_AGE;
        let flags = if more { MORE } else { 0 } | if rekey { REKEY } else { 0 };
        let plain = [&[flags], piece].concat();
        let length = u16::try_from(plain.len() + TAG).map_err(|_| FrameError::TooLarge)?;
        out.extend_from_slice(&length.to_be_bytes());
        let begin = out.len();
        out.resize(begin + usize::from(length), 0);
        self.noise.write_message(&plain, &mut out[begin..]).map_err(|_| FrameError::Broken)?;
        if rekey {
            self.noise.rekey_outgoing();
            self.sent = 0;
            self.keyed_at = now;
        }
        Ok(())
    }

    /// Takes one frame, without its length; gives the message that it ends.
    ///
    /// # Errors
    /// [`FrameError`]; after one, nothing more can be opened.
    pub(crate) fn open(&mut self, frame: &[u8]) -> Result<Option<Vec<u8>>, FrameError> {
        let mut plain = vec![0; frame.len()];
        let length = self.noise.read_message(frame, &mut plain).map_err(|_| FrameError::Broken)?;
        let (&flags, piece) = plain[..length].split_first().ok_or(FrameError::Broken)?;
        if flags & !(MORE | REKEY) != 0 {
            return Err(FrameError::Broken);
        }
        // One that goes on and on would say nothing.
        if flags & MORE != 0 && piece.is_empty() {
            return Err(FrameError::Broken);
        }
        self.received += 1;
        if flags & REKEY != 0 {
            self.noise.rekey_incoming();
            self.received = 0;
        } else if self.received >= limits::REKEY_FRAMES {
            // The other end would go on with a key for longer than agreed.
            return Err(FrameError::Broken);
        }
        if self.partial.len() + piece.len() > limits::MESSAGE {
            return Err(FrameError::TooLarge);
        }
        self.partial.extend_from_slice(piece);
        Ok((flags & MORE == 0).then(|| std::mem::take(&mut self.partial)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::handshake;

    const NOW: Duration = Duration::ZERO;

    fn channels() -> (Channel, Channel) {
        let (guest, host) = handshake::tests::pair();
        (Channel::new(guest, NOW), Channel::new(host, NOW))
    }

    fn split(mut sealed: &[u8]) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        while let Some((length, rest)) = sealed.split_first_chunk::<2>() {
            let (frame, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)));
            frames.push(frame.to_vec());
            sealed = rest;
        }
        frames
    }

    fn through(from: &mut Channel, to: &mut Channel, message: &[u8], now: Duration) -> Vec<u8> {
        let frames = split(&from.seal(message, now).unwrap());
        let (last, before) = frames.split_last().unwrap();
        for frame in before {
            assert_eq!(to.open(frame), Ok(None));
        }
        to.open(last).unwrap().unwrap()
    }

    #[test]
    fn messages_of_every_size_arrive_both_ways() {
        let (mut guest, mut host) = channels();
        for size in [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, limits::MESSAGE] {
            let message = vec![0x5a; size];
            assert_eq!(through(&mut guest, &mut host, &message, NOW), message, "{size}");
            assert_eq!(through(&mut host, &mut guest, &message, NOW), message, "{size}");
        }
        assert_eq!(guest.seal(&vec![0; limits::MESSAGE + 1], NOW), Err(FrameError::TooLarge));
    }

    #[test]
    fn keys_change_by_number_and_by_age_and_the_other_end_follows() {
        let (mut guest, mut host) = channels();
        for at in 0..2 * limits::REKEY_FRAMES + 7 {
            assert_eq!(through(&mut guest, &mut host, &at.to_be_bytes(), NOW), at.to_be_bytes());
        }
        assert_eq!(guest.sent, 7);
        assert_eq!(through(&mut guest, &mut host, b"late", limits::REKEY_AGE), b"late");
        assert_eq!((guest.sent, host.received), (0, 0));
        assert_eq!(through(&mut guest, &mut host, b"on", limits::REKEY_AGE), b"on");
    }

    #[test]
    fn a_frame_that_is_doubled_dropped_or_moved_does_not_open() {
        let frames = |guest: &mut Channel| -> Vec<Vec<u8>> {
            (0..3u8).flat_map(|at| split(&guest.seal(&[at], NOW).unwrap())).collect()
        };
        for (first, second) in [(0, 0), (0, 2), (1, 0)] {
            let (mut guest, mut host) = channels();
            let frames = frames(&mut guest);
            let opened = host.open(&frames[first]).and_then(|_| host.open(&frames[second]));
            assert_eq!(opened, Err(FrameError::Broken), "{first} then {second}");
        }
    }

    #[test]
    fn pieces_without_end_are_refused_at_the_bound() {
        let (mut guest, mut host) = channels();
        let mut opened = Ok(None);
        for _ in 0..limits::MESSAGE / PIECE + 2 {
            let mut out = Vec::new();
            guest.seal_piece(&vec![0; PIECE], true, NOW, &mut out).unwrap();
            opened = host.open(&out[2..]);
        }
        assert_eq!(opened, Err(FrameError::TooLarge));
    }

    #[test]
    fn a_piece_that_goes_on_and_says_nothing_is_refused() {
        let (mut guest, mut host) = channels();
        let mut out = Vec::new();
        guest.seal_piece(&[], true, NOW, &mut out).unwrap();
        assert_eq!(host.open(&out[2..]), Err(FrameError::Broken));
    }

    #[test]
    fn ten_thousand_frames_of_noise_open_nothing() {
        use proptest::{strategy::ValueTree as _, test_runner::TestRunner};
        let (mut guest, mut host) = channels();
        let right = split(&guest.seal(b"right", NOW).unwrap()).remove(0);
        let mut runner = TestRunner::deterministic();
        let noise = (prop::collection::vec(any::<u8>(), 0..200), any::<usize>(), any::<bool>());
        for _ in 0..10_000 {
            let (noise, at, whole) = noise.new_tree(&mut runner).unwrap().current();
            let mut frame = if whole { noise } else { right.clone() };
            if !whole {
                let at = at % frame.len();
                frame[at] ^= 1;
            }
            assert_eq!(host.open(&frame), Err(FrameError::Broken));
        }
    }
}
