//! What travels on a leg behind its beginning: bytes of the stream, how far the other end's were received, the end, a
//! break.
//!
//! A frame is one byte that says what it is, then `DATA` two bytes of length and so many bytes, `ACK` a position of eight
//! bytes, `HAVE` two of them, `END`, `BREAK`, `GONE` and `DONE` nothing. The end that did not open the stream says `HAVE`,
//! `GONE` or `DONE` first. Where the bytes stand in the stream is not said with them: a leg begins where both ends have agreed,
//! and keeps its order.

/// The longest run of bytes in one frame.
pub(super) const MOST: usize = 16 * 1024;

const DATA: u8 = 0;
const ACK: u8 = 1;
const END: u8 = 2;
const BREAK: u8 = 3;
const HAVE: u8 = 4;
const GONE: u8 = 5;
const DONE: u8 = 6;

/// Length of what stands before the bytes of the stream.
const HEAD: usize = 3;

/// What the other end says. Bytes may come in several pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    Data(&'a [u8]),
    Ack(u64),
    End,
    Break,
    /// How far the end that answers has received, and where its own bytes go on.
    Have {
        received: u64,
        from: u64,
    },
    /// The end that answers does not know the stream, or it ended early.
    Gone,
    /// At the end that answers the stream has ended as it should: all has come, and all was read.
    Done,
}

/// Not a frame: the other end is broken, or hostile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the other end does not keep to the protocol")]
pub(crate) struct Violation;

/// Appends bytes of the stream, [`MOST`] at most.
pub(super) fn put_data(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).expect("no more than MOST, which has two bytes");
    out.push(DATA);
    out.extend(length.to_be_bytes());
    out.extend(bytes);
}

pub(super) fn put_ack(out: &mut Vec<u8>, position: u64) {
    out.push(ACK);
    out.extend(position.to_be_bytes());
}

pub(super) fn put_end(out: &mut Vec<u8>) {
    out.push(END);
}

pub(super) fn put_break(out: &mut Vec<u8>) {
    out.push(BREAK);
}

pub(super) fn put_have(out: &mut Vec<u8>, received: u64, from: u64) {
    out.push(HAVE);
    out.extend(received.to_be_bytes());
    out.extend(from.to_be_bytes());
}

/// The answer to a beginning whose stream is not known, or has ended early.
pub(crate) const NOTHING: [u8; 1] = [GONE];

/// The answer to a beginning whose stream has ended as it should.
pub(crate) const ALL: [u8; 1] = [DONE];

/// Takes frames off what a leg brings. One for each leg.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// Bytes of the stream that the last head has announced and that have not come.
    left: usize,
}

impl Decoder {
    /// The first frame, or piece of one, in `bytes`, and how many bytes it took; none while they are too few.
    pub(super) fn next<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<(Frame<'a>, usize)>, Violation> {
        if self.left > 0 {
            return Ok(self.piece(bytes, 0));
        }
        let Some((&kind, rest)) = bytes.split_first() else { return Ok(None) };
        match kind {
            DATA => {
                let Some((length, rest)) = rest.split_first_chunk() else { return Ok(None) };
                let length = usize::from(u16::from_be_bytes(*length));
                if length == 0 || length > MOST {
                    return Err(Violation);
                }
                if rest.is_empty() {
                    return Ok(None);
                }
                self.left = length;
                Ok(self.piece(rest, HEAD))
            }
            ACK => Ok(position(rest).map(|(position, _)| (Frame::Ack(position), 1 + size_of::<u64>()))),
            HAVE => Ok(position(rest).and_then(|(received, rest)| {
                let (from, _) = position(rest)?;
                Some((Frame::Have { received, from }, 1 + 2 * size_of::<u64>()))
            })),
            GONE => Ok(Some((Frame::Gone, 1))),
            DONE => Ok(Some((Frame::Done, 1))),
            END => Ok(Some((Frame::End, 1))),
            BREAK => Ok(Some((Frame::Break, 1))),
            _ => Err(Violation),
        }
    }

    fn piece<'a>(&mut self, bytes: &'a [u8], head: usize) -> Option<(Frame<'a>, usize)> {
        let length = self.left.min(bytes.len());
        if length == 0 {
            return None;
        }
        self.left -= length;
        Some((Frame::Data(&bytes[..length]), head + length))
    }
}

fn position(bytes: &[u8]) -> Option<(u64, &[u8])> {
    bytes.split_first_chunk().map(|(position, rest)| (u64::from_be_bytes(*position), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Everything in `bytes`, which come in pieces of this length; the stream's bytes together.
    fn decoded(bytes: &[u8], step: usize) -> Result<(Vec<u8>, Vec<u64>, usize), Violation> {
        let (mut decoder, mut held) = (Decoder::default(), Vec::new());
        let (mut data, mut acks, mut others) = (Vec::new(), Vec::new(), 0);
        for piece in bytes.chunks(step) {
            held.extend(piece);
            while let Some((frame, taken)) = decoder.next(&held)? {
                match frame {
                    Frame::Data(bytes) => data.extend(bytes),
                    Frame::Ack(position) => acks.push(position),
                    Frame::End | Frame::Break | Frame::Have { .. } | Frame::Gone | Frame::Done => others += 1,
                }
                held.drain(..taken);
            }
        }
        assert!(held.len() < MOST, "nothing is held back for long");
        Ok((data, acks, others))
    }

    #[test]
    fn frames_come_out_as_they_were_put_in_however_they_are_cut() {
        let mut bytes = Vec::new();
        put_ack(&mut bytes, 7);
        put_data(&mut bytes, b"hello ");
        put_data(&mut bytes, &[b'x'; MOST]);
        put_ack(&mut bytes, u64::MAX);
        put_end(&mut bytes);
        put_break(&mut bytes);
        put_have(&mut bytes, 3, 4);
        bytes.extend(NOTHING);
        bytes.extend(ALL);
        for step in [1, 2, 3, 5, 1000, 100_000] {
            let (data, acks, others) = decoded(&bytes, step).unwrap();
            assert_eq!((data.len(), &data[..6]), (6 + MOST, b"hello ".as_slice()), "{step}");
            assert_eq!((acks, others), (vec![7, u64::MAX], 5));
        }
    }

    #[test]
    fn bytes_of_the_stream_come_as_soon_as_there_are_any() {
        let mut bytes = Vec::new();
        put_data(&mut bytes, b"abc");
        let mut decoder = Decoder::default();
        assert_eq!(decoder.next(&bytes[..3]), Ok(None));
        assert_eq!(decoder.next(&bytes[..5]), Ok(Some((Frame::Data(b"ab"), 5))));
        assert_eq!(decoder.next(b"c"), Ok(Some((Frame::Data(b"c"), 1))));
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        for bytes in [&[7][..], &[255, 0, 0], &[DATA, 0, 0, 1], &[DATA, 0xff, 0xff, 1]] {
            assert_eq!(Decoder::default().next(bytes), Err(Violation), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn noise_is_frames_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..2000), step in 1usize..100) {
            let _ = decoded(&bytes, step);
        }
    }
}
