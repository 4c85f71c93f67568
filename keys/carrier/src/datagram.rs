//! Datagrams on a pipe, which knows no bounds of its own: each stands behind its length, two bytes, the high one first.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The longest payload of a UDP datagram over IPv4, in bytes; also of one over IPv6 that any network carries.
pub const MAX: usize = 65_507;

/// Writes one datagram; the flush is the caller's.
///
/// # Errors
/// Those of the pipe; `InvalidInput` for one over [`MAX`].
pub async fn write<W: AsyncWrite + Unpin>(pipe: &mut W, datagram: &[u8]) -> io::Result<()> {
    let length = u16::try_from(datagram.len()).ok().filter(|length| usize::from(*length) <= MAX);
    let length = length.ok_or(io::ErrorKind::InvalidInput)?;
    pipe.write_all(&length.to_be_bytes()).await?;
    pipe.write_all(datagram).await
}

/// Reads the next datagram in place of what `into` holds; `false` at the end of the pipe. Not to be cancelled: what was
/// read of one is lost.
///
/// # Errors
/// Those of the pipe; `UnexpectedEof` when it ends within a datagram; `InvalidData` for one over [`MAX`].
pub async fn read<R: AsyncRead + Unpin>(pipe: &mut R, into: &mut Vec<u8>) -> io::Result<bool> {
    let mut length = [0; 2];
    if pipe.read(&mut length[..1]).await? == 0 {
        return Ok(false);
    }
    pipe.read_exact(&mut length[1..]).await?;
    let length = usize::from(u16::from_be_bytes(length));
    if length > MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    into.resize(length, 0);
    pipe.read_exact(into).await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    #[tokio::test]
    async fn datagrams_keep_their_bounds() {
        let (mut near, mut far) = duplex(100);
        let sent = [b"one".to_vec(), Vec::new(), vec![7; MAX]];
        let writing = async {
            for datagram in &sent {
                write(&mut near, datagram).await.unwrap();
            }
            near.shutdown().await.unwrap();
        };
        let reading = async {
            let (mut received, mut datagram) = (Vec::new(), Vec::new());
            while read(&mut far, &mut datagram).await.unwrap() {
                received.push(datagram.clone());
            }
            received
        };
        assert!(tokio::join!(writing, reading).1 == sent);
    }

    #[tokio::test]
    async fn what_is_too_long_or_cut_is_an_error() {
        let error = write(&mut Vec::new(), &vec![0; MAX + 1]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        for (bytes, kind) in [
            (&[0xff, 0xff][..], io::ErrorKind::InvalidData),
            (&[0], io::ErrorKind::UnexpectedEof),
            (&[0, 3, 1, 2], io::ErrorKind::UnexpectedEof),
        ] {
            let error = read(&mut &*bytes, &mut Vec::new()).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{bytes:?}");
        }
    }
}
