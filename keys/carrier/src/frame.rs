//! Control messages on a stream: a big-endian `u32` length, then that many bytes of CBOR (RFC 8949).
//!
//! A frame is at most [`MAX_MESSAGE`] bytes; a longer claim ends the reading before anything is allocated for it. One
//! frame holds exactly one value: bytes after it are an error.

use std::io;

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use mytunnel_keys::wire::{self, MAX_MESSAGE, WireError};
use serde::{Serialize, de::DeserializeOwned};

const LENGTH: usize = size_of::<u32>();

/// Encodes `message` as a whole frame, ready to be written.
///
/// # Errors
/// [`FrameError::Message`] when the value has no CBOR form or exceeds [`MAX_MESSAGE`].
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let body = wire::encode(message)?;
    let length = u32::try_from(body.len()).map_err(|_| WireError::TooLarge(body.len()))?;
    let mut frame = Vec::with_capacity(LENGTH + body.len());
    frame.extend(length.to_be_bytes());
    frame.extend(body);
    Ok(frame)
}

/// Writes `message` as one frame and flushes.
///
/// # Errors
/// As [`encode`], or [`FrameError::Io`] when the stream fails.
pub async fn write<T: Serialize, S: AsyncWrite + Unpin>(
    stream: &mut S,
    message: &T,
) -> Result<(), FrameError> {
    stream.write_all(&encode(message)?).await?;
    stream.flush().await?;
    Ok(())
}

/// Reads one frame; `None` when the other end closed between two frames.
///
/// Not safe to cancel: a part of a frame may have been read.
///
/// # Errors
/// [`FrameError::Message`] for a claim above [`MAX_MESSAGE`] or a body that is not the CBOR of one `T`,
/// [`FrameError::Io`] when the stream fails or ends inside a frame.
pub async fn read<T: DeserializeOwned, S: AsyncRead + Unpin>(
    stream: &mut S,
) -> Result<Option<T>, FrameError> {
    let Some(claimed) = read_length(stream).await? else {
        return Ok(None);
    };
    if claimed > MAX_MESSAGE {
        return Err(WireError::TooLarge(claimed).into());
    }
    let mut body = vec![0; claimed];
    stream.read_exact(&mut body).await?;
    Ok(Some(wire::decode(&body)?))
}

async fn read_length<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Option<usize>, FrameError> {
    let mut length = [0; LENGTH];
    let mut filled = 0;
    while filled < LENGTH {
        match stream.read(&mut length[filled..]).await? {
            0 if filled == 0 => return Ok(None),
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            n => filled += n,
        }
    }
    let length = u32::from_be_bytes(length);
    Ok(Some(usize::try_from(length).unwrap_or(usize::MAX)))
}

/// Why a frame was not written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The frame is too long, or does not hold the expected message.
    #[error("frame does not hold a message")]
    Message(#[from] WireError),
    /// The stream failed, or ended inside a frame.
    #[error("stream failed")]
    Io(#[from] io::Error),
}

#[cfg(test)]
mod tests {
    use futures::{executor::block_on, io::Cursor};
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Message {
        name: String,
        count: u64,
    }

    fn message(length: usize) -> Message {
        Message { name: "n".repeat(length), count: 7 }
    }

    #[test]
    fn frames_follow_each_other_and_end_cleanly() {
        let mut wire = Cursor::new(Vec::new());
        block_on(write(&mut wire, &message(3))).unwrap();
        block_on(write(&mut wire, &message(60_000))).unwrap();
        wire.set_position(0);

        assert_eq!(block_on(read::<Message, _>(&mut wire)).unwrap(), Some(message(3)));
        assert_eq!(block_on(read::<Message, _>(&mut wire)).unwrap(), Some(message(60_000)));
        assert_eq!(block_on(read::<Message, _>(&mut wire)).unwrap(), None);
    }

    #[test]
    fn claimed_length_is_the_length_of_the_body() {
        let frame = encode(&message(100)).unwrap();
        let claimed = u32::from_be_bytes(frame[..4].try_into().unwrap());
        assert_eq!(claimed as usize, frame.len() - 4);
    }

    #[test]
    fn too_long_is_refused_on_both_sides() {
        assert!(matches!(encode(&message(MAX_MESSAGE)), Err(FrameError::Message(WireError::TooLarge(_)))));

        let mut wire = Cursor::new((MAX_MESSAGE as u32 + 1).to_be_bytes());
        let error = block_on(read::<Message, _>(&mut wire)).unwrap_err();
        assert!(
            matches!(error, FrameError::Message(WireError::TooLarge(claimed)) if claimed == MAX_MESSAGE + 1)
        );
    }

    #[test]
    fn cut_frames_are_errors_not_ends() {
        let frame = encode(&message(10)).unwrap();
        for cut in 1..frame.len() {
            let error = block_on(read::<Message, _>(&mut Cursor::new(&frame[..cut]))).unwrap_err();
            assert!(
                matches!(error, FrameError::Io(e) if e.kind() == io::ErrorKind::UnexpectedEof),
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn bytes_after_the_value_are_refused() {
        let mut frame = encode(&message(1)).unwrap();
        frame.push(0);
        let claimed = u32::try_from(frame.len() - 4).unwrap();
        frame[..4].copy_from_slice(&claimed.to_be_bytes());
        let error = block_on(read::<Message, _>(&mut Cursor::new(frame))).unwrap_err();
        assert!(matches!(error, FrameError::Message(WireError::Trailing)));
    }

    #[test]
    fn noise_and_deep_nesting_are_errors() {
        for body in [vec![0x9f; 4096], vec![0xff; 8], vec![], vec![0xbb; 9]] {
            let mut frame = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
            frame.extend(body);
            let error = block_on(read::<Message, _>(&mut Cursor::new(frame))).unwrap_err();
            assert!(matches!(error, FrameError::Message(WireError::Malformed(_))), "{error:?}");
        }
    }
}
