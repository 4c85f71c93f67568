//! The preface of a pipe: what stands on a [`PIPE_PROTOCOL`](mytunnel_keys::wire::PIPE_PROTOCOL) stream before the
//! raw bytes.
//!
//! The relay opens the stream and sends the 16 bytes of the tunnel's id, once. The node answers one [`PipeStatus`] byte
//! before its first byte of payload; it may wait for the relay's first payload byte before it connects to the
//! target, so that a pooled pipe in reserve costs the target no connection.

use std::io;

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use mytunnel_keys::wire::PipeStatus;

/// Length of the preface in bytes.
pub const PREFACE: usize = 16;

/// Writes the preface. The flush of the first payload takes it along.
///
/// # Errors
/// Those of the stream.
pub async fn write_preface<S: AsyncWrite + Unpin>(stream: &mut S, tunnel: &[u8; PREFACE]) -> io::Result<()> {
    stream.write_all(tunnel).await
}

/// Reads the preface: the id of the tunnel the pipe belongs to.
///
/// # Errors
/// Those of the stream; `UnexpectedEof` when it ends early.
pub async fn read_preface<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<[u8; PREFACE]> {
    let mut tunnel = [0; PREFACE];
    stream.read_exact(&mut tunnel).await?;
    Ok(tunnel)
}

/// Sends the status byte and flushes.
///
/// # Errors
/// Those of the stream.
pub async fn write_status<S: AsyncWrite + Unpin>(stream: &mut S, status: PipeStatus) -> io::Result<()> {
    stream.write_all(&[status as u8]).await?;
    stream.flush().await
}

/// Reads the status byte.
///
/// # Errors
/// Those of the stream; `UnexpectedEof` when it ends early; `InvalidData` for an unknown status.
pub async fn read_status<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<PipeStatus> {
    let mut byte = [0];
    stream.read_exact(&mut byte).await?;
    PipeStatus::try_from(byte[0]).map_err(|unknown| io::Error::new(io::ErrorKind::InvalidData, unknown))
}

#[cfg(test)]
mod tests {
    use futures::{executor::block_on, io::Cursor};

    use super::*;

    #[test]
    fn preface_and_status_travel_and_leave_the_payload_alone() {
        let mut wire = Cursor::new(Vec::new());
        block_on(write_preface(&mut wire, &[7; PREFACE])).unwrap();
        block_on(write_status(&mut wire, PipeStatus::TargetUnreachable)).unwrap();
        block_on(wire.write_all(b"payload")).unwrap();
        wire.set_position(0);

        assert_eq!(block_on(read_preface(&mut wire)).unwrap(), [7; PREFACE]);
        assert_eq!(block_on(read_status(&mut wire)).unwrap(), PipeStatus::TargetUnreachable);
        let mut rest = Vec::new();
        block_on(wire.read_to_end(&mut rest)).unwrap();
        assert_eq!(rest, b"payload");
    }

    #[test]
    fn an_unknown_status_is_an_error() {
        let error = block_on(read_status(&mut Cursor::new([3]))).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_cut_preface_is_an_error() {
        let error = block_on(read_preface(&mut Cursor::new([0; PREFACE - 1]))).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
