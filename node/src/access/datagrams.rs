//! Datagrams that come to a port of this machine, led to a share: each sender has a stream of its own, for as long as
//! there is something to say. What comes faster than a stream takes it is dropped, as a network would.

use std::{collections::HashMap, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use mytunnel_carrier::datagram;
use tokio::{
    io::{self, AsyncWriteExt as _, duplex},
    net::UdpSocket,
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::Door;

/// Senders at once, which leaves a peer's streams ([`crate::meeting`]) some for those that are about to end. One more takes
/// the place of the one that has been silent for longest.
const MOST: usize = 240;

/// Datagrams of one sender that wait for its stream.
const QUEUE: usize = 64;

/// Bytes under way in each direction.
const BUFFER: usize = 128 * 1024;

/// A sender that says nothing for so long is forgotten (RFC 4787, REQ-5 asks for two minutes at least).
const IDLE: Duration = Duration::from_secs(180);

/// Time for a sender's stream to end.
const FAREWELL: Duration = Duration::from_secs(5);

/// How long receiving rests when the system fails.
const EXHAUSTED: Duration = Duration::from_millis(100);

impl Door {
    /// Takes datagrams until the access is [broken off](super::Access::break_off). Dropping the future ends what is open.
    pub async fn serve_datagrams(self, socket: UdpSocket) {
        let socket = Arc::new(socket);
        let mut senders = Senders::default();
        let mut tasks = JoinSet::new();
        let mut buffer = vec![0; datagram::MAX];
        loop {
            tokio::select! {
                () = self.ending.cancelled() => break,
                Some(ended) = tasks.join_next(), if !tasks.is_empty() => match ended {
                    Ok((sender, number)) => senders.forget(sender, number),
                    Err(error) => if let Ok(reason) = error.try_into_panic() {
                        std::panic::resume_unwind(reason);
                    },
                },
                received = socket.recv_from(&mut buffer) => {
                    let (length, sender) = match received {
                        Ok(received) => received,
                        // A word about a sender whom an answer did not reach.
                        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                        Err(error) => {
                            tracing::warn!(%error, "cannot receive datagrams");
                            sleep(EXHAUSTED).await;
                            continue;
                        }
                    };
                    let bytes = buffer.get(..length).unwrap_or_default().to_vec();
                    // Those that end count too, for as long as they take.
                    let has_place = tasks.len() < 2 * MOST;
                    if let Some((number, queued)) = senders.pass(sender, bytes, has_place, Instant::now()) {
                        let (door, socket) = (self.clone(), Arc::clone(&socket));
                        tasks.spawn(async move {
                            door.converse(&socket, sender, queued).await;
                            (sender, number)
                        });
                    }
                }
            }
        }
        drop(senders);
        while tasks.join_next().await.is_some() {}
    }

    /// Carries what one sender says, and what it is answered.
    async fn converse(&self, socket: &UdpSocket, sender: SocketAddr, mut queued: mpsc::Receiver<Vec<u8>>) {
        let Ok(here) = socket.local_addr() else { return };
        let (near, far) = duplex(BUFFER);
        let (mut from, mut to) = io::split(near);
        let up = async {
            while let Ok(Some(bytes)) = timeout(IDLE, queued.recv()).await {
                datagram::write(&mut to, &bytes).await?;
                to.flush().await?;
            }
            to.shutdown().await
        };
        let down = async {
            let mut bytes = Vec::new();
            while datagram::read(&mut from, &mut bytes).await? {
                if let Err(error) = socket.send_to(&bytes, sender).await {
                    tracing::debug!(%error, "a datagram was lost");
                }
            }
            io::Result::Ok(())
        };
        let carried = async {
            let (outcome, far) = self.carry(far, sender, here).await;
            drop(far);
            tracing::debug!(%outcome, "a sender's stream ended");
        };
        let mut carried = pin!(async { tokio::join!(carried, down) });
        tokio::select! {
            _ = &mut carried => {}
            said = up => {
                drop(said);
                // The other end is told that nothing follows.
                let _ = timeout(FAREWELL, carried).await;
            }
        }
    }
}

/// Who has sent something, and where it is queued.
#[derive(Debug, Default)]
struct Senders {
    held: HashMap<SocketAddr, Sender>,
    next: u64,
}

#[derive(Debug)]
struct Sender {
    /// Tells it from an earlier one of the same address.
    number: u64,
    queue: mpsc::Sender<Vec<u8>>,
    last: Instant,
}

impl Senders {
    /// Queues a datagram; of a new sender, answers with its number and the end of its queue. What has no place is dropped.
    fn pass(
        &mut self,
        from: SocketAddr,
        bytes: Vec<u8>,
        has_place: bool,
        now: Instant,
    ) -> Option<(u64, mpsc::Receiver<Vec<u8>>)> {
        if let Some(sender) = self.held.get_mut(&from) {
            sender.last = now;
            // Full: dropped.
            let _ = sender.queue.try_send(bytes);
            return None;
        }
        if !has_place {
            tracing::debug!(%from, "a datagram was dropped: there are too many senders");
            return None;
        }
        if self.held.len() >= MOST
            && let Some(idlest) = self.held.iter().min_by_key(|(_, sender)| sender.last).map(|(at, _)| *at)
        {
            self.held.remove(&idlest);
        }
        let (queue, queued) = mpsc::channel(QUEUE);
        let _ = queue.try_send(bytes);
        let number = self.next;
        self.next += 1;
        self.held.insert(from, Sender { number, queue, last: now });
        Some((number, queued))
    }

    /// Its stream has ended.
    fn forget(&mut self, from: SocketAddr, number: u64) {
        if self.held.get(&from).is_some_and(|sender| sender.number == number) {
            self.held.remove(&from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: usize) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).unwrap()))
    }

    #[test]
    fn a_new_sender_takes_the_place_of_the_one_that_was_silent_for_longest() {
        let (mut senders, start) = (Senders::default(), Instant::now());
        let at = |second: usize| start + Duration::from_secs(second as u64);
        let mut queues: Vec<_> = (1..=MOST)
            .map(|port| senders.pass(address(port), vec![1], true, at(port)).expect("it is new").1)
            .collect();
        assert!(senders.pass(address(1), vec![2], true, at(MOST + 1)).is_none(), "the first is back");
        let (number, _queue) = senders.pass(address(9999), vec![3], true, at(MOST + 2)).unwrap();
        assert_eq!(senders.held.len(), MOST);
        assert_eq!((queues[0].try_recv(), queues[0].try_recv()), (Ok(vec![1]), Ok(vec![2])));
        assert_eq!(queues[1].try_recv(), Ok(vec![1]), "what it has said still goes");
        assert_eq!(queues[1].try_recv(), Err(mpsc::error::TryRecvError::Disconnected), "then it ends");
        senders.forget(address(9999), number + 1);
        assert!(senders.held.contains_key(&address(9999)), "that was an earlier one");
        senders.forget(address(9999), number);
        assert!(senders.pass(address(9999), vec![4], false, at(MOST + 3)).is_none(), "there is no place");
    }
}
