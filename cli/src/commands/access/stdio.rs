//! One connection over standard input and output.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::failure::Failure;

/// Standard input and output as files: whatever they are, they are read and written by threads that may wait.
#[derive(Debug)]
pub(super) struct Stdio {
    input: File,
    /// Until the other end has said all: whoever reads our output is to see its end, though our input goes on.
    output: Option<File>,
}

impl Stdio {
    /// Takes them from the process; what is printed from here on goes nowhere.
    pub(super) fn take() -> Result<Self, Failure> {
        let failed =
            |error: io::Error| Failure::local(format!("cannot use standard input or output: {error}"), "");
        let input = io::stdin().as_fd().try_clone_to_owned().map_err(failed)?;
        let output = io::stdout().as_fd().try_clone_to_owned().map_err(failed)?;
        // Were the process's own left open, closing ours would not end it.
        let nowhere = std::fs::OpenOptions::new().write(true).open("/dev/null").map_err(failed)?;
        rustix::stdio::dup2_stdout(nowhere).map_err(|error| failed(error.into()))?;
        Ok(Self::of(input, output))
    }

    fn of(input: OwnedFd, output: OwnedFd) -> Self {
        let file = |owned: OwnedFd| File::from_std(std::fs::File::from(owned));
        Self { input: file(input), output: Some(file(output)) }
    }
}

impl AsyncRead for Stdio {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stdio {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.output {
            Some(output) => Pin::new(output).poll_write(cx, bytes),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.output {
            Some(output) => Pin::new(output).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        // Nothing is under way: with the last handle the file closes.
        self.output = None;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn whoever_reads_the_output_sees_its_end_while_the_input_goes_on() {
        let ((input, mut typed), (mut shown, output)) = (io::pipe().unwrap(), io::pipe().unwrap());
        let mut stdio = Stdio::of(input.into(), output.into());
        stdio.write_all(b"goodbye").await.unwrap();
        stdio.shutdown().await.unwrap();
        let reader = tokio::task::spawn_blocking(move || {
            let mut all = String::new();
            shown.read_to_string(&mut all).map(|_| all)
        });
        let read = tokio::time::timeout(std::time::Duration::from_secs(10), reader).await;
        // Lets the reader's thread end where it waits in vain.
        drop(stdio.output.take());
        assert_eq!(read.expect("it ends").unwrap().unwrap(), "goodbye");
        io::Write::write_all(&mut typed, b"still here").unwrap();
        let mut said = [0; 10];
        stdio.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"still here");
    }
}
