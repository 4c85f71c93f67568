//! Control messages on a stream: a big-endian `u32` length, then that many bytes of CBOR (RFC 8949).
//!
//! A frame is at most [`MAX`] bytes; a longer claim ends the reading before anything is allocated for it. One frame
//! holds exactly one value: bytes after it are an error.

use std::io;

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use serde::{Serialize, de::DeserializeOwned};

/// The longest body of a frame in bytes, either way.
pub const MAX: usize = 64 * 1024;

const LENGTH: usize = size_of::<u32>();

/// Encodes `message` as a whole frame, ready to be written.
///
/// # Errors
/// [`FrameError::TooLong`] when the body exceeds [`MAX`]; [`FrameError::Encode`] when the value has no CBOR form.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0; LENGTH];
    ciborium::into_writer(message, &mut frame).map_err(FrameError::Encode)?;
    let body = frame.len() - LENGTH;
    let length = match u32::try_from(body) {
        Ok(length) if body <= MAX => length,
        _ => return Err(FrameError::TooLong { claimed: body }),
    };
    frame[..LENGTH].copy_from_slice(&length.to_be_bytes());
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
/// [`FrameError::TooLong`] for a claim above [`MAX`], [`FrameError::Decode`] when the body is not the CBOR of one
/// `T`, [`FrameError::Io`] when the stream fails or ends inside a frame.
pub async fn read<T: DeserializeOwned, S: AsyncRead + Unpin>(
    stream: &mut S,
) -> Result<Option<T>, FrameError> {
    let Some(claimed) = read_length(stream).await? else {
        return Ok(None);
    };
    if claimed > MAX {
        return Err(FrameError::TooLong { claimed });
    }
    let mut body = vec![0; claimed];
    stream.read_exact(&mut body).await?;
    decode(&body).map(Some)
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

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    let mut rest = body;
    let message = ciborium::from_reader(&mut rest).map_err(FrameError::Decode)?;
    if rest.is_empty() { Ok(message) } else { Err(FrameError::Trailing { bytes: rest.len() }) }
}

/// Why a frame was not written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The frame is longer than [`MAX`].
    #[error("frame of {claimed} bytes exceeds {MAX}")]
    TooLong {
        /// Length of the body in bytes.
        claimed: usize,
    },
    /// The frame holds more than one value.
    #[error("{bytes} bytes follow the message in its frame")]
    Trailing {
        /// Number of bytes left.
        bytes: usize,
    },
    /// The value has no CBOR form.
    #[error("message cannot be encoded")]
    Encode(#[source] ciborium::ser::Error<io::Error>),
    /// The body is not the CBOR of the expected message.
    #[error("frame does not hold the expected message")]
    Decode(#[source] ciborium::de::Error<io::Error>),
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
        assert!(matches!(encode(&message(MAX)), Err(FrameError::TooLong { .. })));

        let mut wire = Cursor::new((MAX as u32 + 1).to_be_bytes());
        let error = block_on(read::<Message, _>(&mut wire)).unwrap_err();
        assert!(matches!(error, FrameError::TooLong { claimed } if claimed == MAX + 1));
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
        assert!(matches!(error, FrameError::Trailing { bytes: 1 }));
    }

    #[test]
    fn noise_and_deep_nesting_are_errors() {
        for body in [vec![0x9f; 4096], vec![0xff; 8], vec![], vec![0xbb; 9]] {
            let mut frame = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
            frame.extend(body);
            let error = block_on(read::<Message, _>(&mut Cursor::new(frame))).unwrap_err();
            assert!(matches!(error, FrameError::Decode(_)), "{error:?}");
        }
    }
}
