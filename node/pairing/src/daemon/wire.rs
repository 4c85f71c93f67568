//! One stream between two daemons: frames in and out, the handshake at either end, and the loop behind it.
//!
//! A stream is written by one loop and read by another; they share the channel for the moment of sealing or opening, so
//! that neither waits for the other's socket.

use std::{
    io,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use libp2p::{Stream, core::upgrade::NegotiationError};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader},
    time::{Instant, sleep, timeout},
};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt as _};

use super::queue::Queue;
use crate::{
    frame::Channel,
    handshake::{Ends, Established, Guest, Host, Signer},
    hello::Hello,
    invite::Verifier,
    limits,
    secret::Psk,
    spoken::Spoken,
};

/// How long a refusal waits to be read.
const DRAIN: Duration = Duration::from_secs(2);
/// How long a link that its owner has ended may take for what is queued.
const LAST: Duration = Duration::from_secs(5);
/// Bytes that are read from a stream, or written to it, at once: what has come together is taken together.
const AT_ONCE: usize = 16 * 1024;
/// How many messages the owner is given at once: it hears others in between.
const BATCH: usize = 32;

/// A stream of the protocol.
pub(super) type Wire = Compat<Stream>;

/// Why a stream ended before it was a session's.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error("the other end refused")]
    Refused,
    #[error("the other end ended the stream and refused nothing")]
    Cut,
    #[error("the other end does not know this protocol")]
    Foreign,
    #[error("what came is no message of this protocol")]
    Garbage,
    #[error("the stream failed")]
    Io(#[from] io::Error),
}

pub(super) fn wire(stream: Stream) -> Wire {
    stream.compat()
}

/// One frame of at most `limit` bytes. An empty one is a refusal.
async fn read_frame(reader: &mut (impl AsyncRead + Unpin), limit: usize) -> Result<Vec<u8>, WireError> {
    let length = usize::from(reader.read_u16().await?);
    if length == 0 {
        return Err(WireError::Refused);
    }
    if length > limit {
        return Err(WireError::Garbage);
    }
    let mut frame = vec![0; length];
    reader.read_exact(&mut frame).await?;
    Ok(frame)
}

async fn write_frame(wire: &mut Wire, frame: &[u8]) -> Result<(), WireError> {
    let length = u16::try_from(frame.len()).map_err(|_| WireError::Garbage)?;
    wire.write_all(&[&length.to_be_bytes(), frame].concat()).await?;
    Ok(wire.flush().await?)
}

/// Refuses without a reason, and lets the other end read that before the stream ends.
pub(super) async fn refuse(mut wire: Wire) {
    let refused = async {
        wire.write_all(&[0, 0]).await?;
        wire.shutdown().await?;
        tokio::io::copy(&mut wire.take(limits::FRAME as u64), &mut tokio::io::sink()).await
    };
    if let Ok(Err(error)) | Err(error) = timeout(DRAIN, refused).await.map_err(io::Error::from) {
        tracing::trace!(%error, "a refusal was not read");
    }
}

/// How a guest means to prove itself.
pub(super) enum Approach {
    /// By a link or a seat.
    Psk(Hello, Psk),
    /// By a spoken code.
    Spoken(Spoken),
}

/// Who ends a stream and says nothing has more strangers than it hears out, or may tell.
fn cut(error: WireError) -> WireError {
    let WireError::Io(error) = error else { return error };
    // Protocols are negotiated along with what is said first.
    let is_foreign = error.get_ref().is_some_and(|inner| inner.is::<NegotiationError>());
    if is_foreign { WireError::Foreign } else { WireError::Cut }
}

/// The guest's half of the handshake. `shown` is set once the host may have been given the proof.
pub(super) async fn prove(
    wire: &mut Wire,
    approach: &Approach,
    ends: &Ends,
    signer: &Signer<'_>,
    shown: &mut bool,
) -> Result<Established, WireError> {
    prove_uncut(wire, approach, ends, signer, shown).await.map_err(cut)
}

async fn prove_uncut(
    wire: &mut Wire,
    approach: &Approach,
    ends: &Ends,
    signer: &Signer<'_>,
    shown: &mut bool,
) -> Result<Established, WireError> {
    let (hello, psk) = match approach {
        Approach::Psk(hello, psk) => {
            write_frame(wire, &hello.to_bytes()).await?;
            (*hello, psk.clone())
        }
        Approach::Spoken(code) => {
            let (asked, message) = code.ask(ends).map_err(|_| WireError::Garbage)?;
            let hello = Hello::Code { number: code.number(), message };
            write_frame(wire, &hello.to_bytes()).await?;
            let answer = read_frame(wire, limits::HELLO).await?;
            (hello, asked.finish(&answer).map_err(|_| WireError::Garbage)?)
        }
    };
    let (guest, first) = Guest::begin(hello, &psk, ends).map_err(|_| WireError::Garbage)?;
    write_frame(wire, &first).await?;
    let second = read_frame(wire, limits::HANDSHAKE).await?;
    let (established, third) = guest.prove(&second, signer).map_err(|_| WireError::Garbage)?;
    *shown = true;
    write_frame(wire, &third).await?;
    Ok(established)
}

/// What a stranger says first.
pub(super) async fn hear_hello(wire: &mut Wire) -> Result<Hello, WireError> {
    Hello::parse(&read_frame(wire, limits::HELLO).await?).ok_or(WireError::Garbage)
}

/// The host's half of the handshake, behind the hello. `may` is asked before the proof is looked at.
pub(super) async fn check(
    wire: &mut Wire,
    hello: Hello,
    verifier: Verifier,
    ends: &Ends,
    may: impl AsyncFnOnce() -> bool,
) -> Result<(Established, crate::card::Card), WireError> {
    let psk = match (verifier, hello) {
        (Verifier::Psk(psk), _) => psk,
        (Verifier::Spoken(code), Hello::Code { message, .. }) => {
            let (psk, answer) = code.answer(ends, &message).map_err(|_| WireError::Garbage)?;
            write_frame(wire, &answer).await?;
            psk
        }
        (Verifier::Spoken(_), Hello::Link(_) | Hello::Resume { .. } | Hello::Files { .. }) => {
            return Err(WireError::Garbage);
        }
    };
    let host = Host::begin(hello, &psk, ends).map_err(|_| WireError::Garbage)?;
    let first = read_frame(wire, limits::HANDSHAKE).await?;
    let (host, second) = host.answer(&first).map_err(|_| WireError::Garbage)?;
    write_frame(wire, &second).await?;
    let third = read_frame(wire, limits::HANDSHAKE).await?;
    if !may().await {
        return Err(WireError::Refused);
    }
    host.verify(&third).map_err(|_| WireError::Garbage)
}

/// The next message behind the handshake.
pub(super) async fn read_message(
    reader: &mut (impl AsyncRead + Unpin),
    channel: &Mutex<Channel>,
) -> Result<Vec<u8>, WireError> {
    loop {
        if let Some(message) = read_piece(reader, channel).await? {
            return Ok(message);
        }
    }
}

/// The next frame, and the message that it ends.
async fn read_piece(
    reader: &mut (impl AsyncRead + Unpin),
    channel: &Mutex<Channel>,
) -> Result<Option<Vec<u8>>, WireError> {
    let frame = read_frame(reader, limits::FRAME).await?;
    let opened = channel.lock().unwrap_or_else(PoisonError::into_inner).open(&frame);
    opened.map_err(|_| WireError::Garbage)
}

/// Whether the next frame is here as a whole.
fn holds_frame(buffered: &[u8]) -> bool {
    let Some((length, rest)) = buffered.split_first_chunk() else { return false };
    rest.len() >= usize::from(u16::from_be_bytes(*length))
}

/// The first message behind the handshake, before the stream is shared by two loops. It is [`WireError::Cut`] where there is
/// none.
pub(super) async fn first_message(wire: &mut Wire, channel: &mut Channel) -> Result<Vec<u8>, WireError> {
    loop {
        let frame = read_frame(wire, limits::FRAME).await.map_err(cut)?;
        if let Some(message) = channel.open(&frame).map_err(|_| WireError::Garbage)? {
            return Ok(message);
        }
    }
}

fn seal(channel: &Mutex<Channel>, message: &[u8], begun: Instant) -> Result<Vec<u8>, WireError> {
    let sealed = channel.lock().unwrap_or_else(PoisonError::into_inner).seal(message, begun.elapsed());
    sealed.map_err(|_| WireError::Garbage)
}

/// Sends one message, and waits until it is out.
pub(super) async fn write_message(
    writer: &mut (impl AsyncWrite + Unpin),
    channel: &Mutex<Channel>,
    message: &[u8],
    begun: Instant,
) -> Result<(), WireError> {
    writer.write_all(&seal(channel, message, begun)?).await?;
    Ok(writer.flush().await?)
}

/// Carries messages until either end is done: the owner drops its sender, or the other end its stream. `incoming` is given
/// what has come, in its order: one message, and those that are here with it. An owner that is
/// done hears nothing more, and the other end has [`LAST`] for reading what was sent until then.
pub(super) async fn carry<F: Future<Output = bool>>(
    wire: impl AsyncRead + AsyncWrite,
    channel: Channel,
    outgoing: Queue,
    begun: Instant,
    mut incoming: impl FnMut(Vec<Vec<u8>>) -> F,
) -> Result<(), WireError> {
    let channel = Mutex::new(channel);
    let ended = outgoing.ended.clone();
    let late = async {
        ended.cancelled().await;
        sleep(LAST).await;
    };
    let (reader, writer) = tokio::io::split(wire);
    let mut reader = BufReader::with_capacity(AT_ONCE, reader);
    let read = async {
        let mut batch = Vec::new();
        loop {
            let read = read_piece(&mut reader, &channel).await;
            let failed = read.map(|message| batch.extend(message)).err();
            let is_whole = !batch.is_empty() && (batch.len() >= BATCH || !holds_frame(reader.buffer()));
            if failed.is_none() && !is_whole {
                continue;
            }
            let batch = std::mem::take(&mut batch);
            let goes_on = batch.is_empty() || ended.is_cancelled() || incoming(batch).await;
            match failed {
                Some(error) => return Err(error),
                None if !goes_on => return Ok::<(), WireError>(()),
                None => {}
            }
        }
    };
    let ended = tokio::select! {
        ended = read => return ended,
        ended = write_all(writer, &channel, outgoing, begun) => ended,
        () = late => return Err(io::Error::from(io::ErrorKind::TimedOut).into()),
    };
    if ended.is_ok() {
        drain(&mut reader).await;
    }
    ended
}

async fn write_all(
    mut writer: impl AsyncWrite + Unpin,
    channel: &Mutex<Channel>,
    mut outgoing: Queue,
    begun: Instant,
) -> Result<(), WireError> {
    while let Some(first) = outgoing.next().await {
        // What is being written has its room until it is out.
        let mut batch = vec![first];
        let (mut sealed, mut failed) = (Vec::new(), None);
        while let Some(message) = batch.last() {
            match seal(channel, &message.bytes, begun) {
                Ok(frames) => sealed.extend(frames),
                Err(error) => failed = Some(error),
            }
            if sealed.len() >= AT_ONCE || failed.is_some() {
                break;
            }
            let Some(next) = outgoing.try_next() else { break };
            batch.push(next);
        }
        let written = async {
            writer.write_all(&sealed).await?;
            writer.flush().await
        };
        timeout(limits::SILENCE, written).await.map_err(io::Error::from)??;
        if let Some(error) = failed {
            return Err(error);
        }
    }
    writer.shutdown().await?;
    Ok(())
}

/// Reads what the other end still sends, until it ends too, so that our last words are not lost with the stream.
pub(super) async fn drain(reader: &mut (impl AsyncRead + Unpin)) {
    let (mut rest, mut nowhere) = (reader.take(limits::FRAME as u64), tokio::io::sink());
    let drained = tokio::io::copy(&mut rest, &mut nowhere);
    if let Ok(Err(error)) | Err(error) = timeout(DRAIN, drained).await.map_err(io::Error::from) {
        tracing::trace!(%error, "a stream did not end");
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::{super::queue::queue, *};

    #[tokio::test(start_paused = true)]
    async fn a_link_ends_with_its_owner_or_in_time_though_the_other_end_reads_nothing() {
        for owner_ends in [true, false] {
            // Held, and never read.
            let (ours, _theirs) = duplex(16);
            let (_, established) = crate::handshake::tests::pair();
            let begun = Instant::now();
            let channel = Channel::new(established, Duration::ZERO);
            let (outgoing, queued) = queue();
            assert!(outgoing.send(vec![0; 1000]) && outgoing.send(vec![0; 1000]));
            let _kept = (!owner_ends).then_some(outgoing);
            let carried = carry(ours, channel, queued, begun, |_| async { true }).await;
            assert!(matches!(carried, Err(WireError::Io(error)) if error.kind() == io::ErrorKind::TimedOut));
            assert_eq!(begun.elapsed().as_secs(), if owner_ends { LAST } else { limits::SILENCE }.as_secs());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_owner_that_is_done_hears_nothing_more() {
        let (ours, mut theirs) = duplex(4096);
        let (guest, host) = crate::handshake::tests::pair();
        let mut guest = Channel::new(guest, Duration::ZERO);
        let (outgoing, queued) = queue();
        assert!(outgoing.send(vec![0; 8000]));
        drop(outgoing);
        theirs.write_all(&guest.seal(b"still here", Duration::ZERO).unwrap()).await.unwrap();
        let channel = Channel::new(host, Duration::ZERO);
        let carried = carry(ours, channel, queued, Instant::now(), |_| async { panic!("it is heard") });
        assert!(carried.await.is_err());
    }

    /// Messages on their way from a host, sealed, and the guest's channel.
    fn sealed(messages: &[&[u8]]) -> (Vec<u8>, Channel) {
        let (guest, host) = crate::handshake::tests::pair();
        let (mut from, to) = (Channel::new(host, Duration::ZERO), Channel::new(guest, Duration::ZERO));
        let sealed =
            messages.iter().flat_map(|message| from.seal(message, Duration::ZERO).unwrap()).collect();
        (sealed, to)
    }

    /// In which batches they are given to the owner, and how the link ends.
    async fn given(stream: &[u8], channel: Channel) -> (Vec<Vec<Vec<u8>>>, Result<(), WireError>) {
        let (ours, mut theirs) = duplex(1 << 20);
        theirs.write_all(stream).await.unwrap();
        theirs.shutdown().await.unwrap();
        let (_owner, queued) = queue();
        let batches = Mutex::new(Vec::new());
        let carried = carry(ours, channel, queued, Instant::now(), async |batch| {
            batches.lock().unwrap().push(batch);
            true
        });
        let ended = carried.await;
        (batches.into_inner().unwrap(), ended)
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_together_is_given_together_and_in_bounds() {
        let numbers: Vec<[u8; 1]> = (0..100).map(|number| [number]).collect();
        let messages: Vec<&[u8]> = numbers.iter().map(<[u8; 1]>::as_slice).collect();
        let (stream, channel) = sealed(&messages);
        let (batches, ended) = given(&stream, channel).await;
        assert_eq!(batches.concat(), messages);
        assert!(matches!(ended, Err(WireError::Io(_))), "{ended:?}");
        let sizes: Vec<usize> = batches.iter().map(Vec::len).collect();
        assert_eq!(sizes, [BATCH, BATCH, BATCH, 100 - 3 * BATCH]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_does_not_wait_for_one_that_is_not_here_as_a_whole() {
        let large = vec![7; limits::MESSAGE];
        // None of the frame's length, half of it, some of the frame, all of it but a byte.
        for here in [0, 1, 1000, limits::FRAME + 1, large.len()] {
            let (stream, channel) = sealed(&[b"small", &large]);
            let small = 2 + 1 + 5 + 16;
            let (ours, mut theirs) = duplex(1 << 20);
            let (_owner, queued) = queue();
            let (given, mut batches) = tokio::sync::mpsc::channel(8);
            let carried =
                carry(ours, channel, queued, Instant::now(), async |batch| given.send(batch).await.is_ok());
            let watched = async {
                theirs.write_all(&stream[..small + here]).await.unwrap();
                assert_eq!(batches.recv().await.unwrap(), [b"small"]);
                theirs.write_all(&stream[small + here..]).await.unwrap();
                assert!(batches.recv().await.unwrap() == [large.as_slice()]);
            };
            tokio::select! {
                ended = carried => panic!("{ended:?}"),
                watched = timeout(limits::SILENCE, watched) => watched.unwrap(),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_said_before_a_frame_that_is_none_is_heard_and_nothing_behind_it() {
        let (mut stream, channel) = sealed(&[b"one", b"two", b"three"]);
        let end = stream.len();
        stream[end - 1 - (2 + 1 + 5 + 16)] ^= 1;
        let (batches, ended) = given(&stream, channel).await;
        assert_eq!(batches.concat(), [b"one"]);
        assert!(matches!(ended, Err(WireError::Garbage)), "{ended:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_read_in_the_order_in_which_it_was_said() {
        let (guest, host) = crate::handshake::tests::pair();
        let (ours, theirs) = duplex(1 << 20);
        let (outgoing, queued) = queue();
        let messages: Vec<Vec<u8>> =
            (0..200).map(|number| vec![number; 1 + 50 * usize::from(number)]).collect();
        assert!(messages.iter().all(|message| outgoing.send(message.clone())));
        drop(outgoing);
        let (_owner, silent) = queue();
        let heard = Mutex::new(Vec::new());
        let there =
            carry(theirs, Channel::new(guest, Duration::ZERO), silent, Instant::now(), async |batch| {
                heard.lock().unwrap().extend(batch);
                true
            });
        let here = carry(ours, Channel::new(host, Duration::ZERO), queued, Instant::now(), async |_| true);
        // The host is done, and its guest's stream ends with that.
        let (here, there) = tokio::join!(here, there);
        assert!(here.is_ok() && there.is_err());
        assert!(*heard.lock().unwrap() == messages);
    }
}
