//! Datagrams that come to a port of this machine, led to a share: each sender has a stream of its own, for as long as
//! there is something to say. What comes faster than a stream takes it is dropped, as a network would.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use mytunnel_carrier::datagram;
use tokio::{
    io::{self, AsyncWriteExt as _, duplex},
    net::UdpSocket,
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::Door;

/// Senders at once; what further ones send is dropped.
const MOST: usize = 256;

/// Datagrams of one sender that wait for its stream.
const QUEUE: usize = 64;

/// Bytes under way in each direction.
const BUFFER: usize = 128 * 1024;

/// A sender that says nothing for so long is forgotten (RFC 4787, REQ-5 asks for two minutes at least).
const IDLE: Duration = Duration::from_secs(180);

/// How long receiving rests when the system fails.
const EXHAUSTED: Duration = Duration::from_millis(100);

impl Door {
    /// Takes datagrams for ever. Dropping the future ends what is open.
    pub async fn serve_datagrams(self, socket: UdpSocket) {
        let socket = Arc::new(socket);
        let mut senders: HashMap<SocketAddr, mpsc::Sender<Vec<u8>>> = HashMap::new();
        let mut tasks = JoinSet::new();
        let mut buffer = vec![0; datagram::MAX];
        loop {
            tokio::select! {
                Some(ended) = tasks.join_next(), if !tasks.is_empty() => match ended {
                    Ok(sender) => drop(senders.remove(&sender)),
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
                    if let Some(queue) = senders.get(&sender) {
                        // Full: dropped.
                        let _ = queue.try_send(bytes);
                    } else if senders.len() < MOST {
                        let (queue, queued) = mpsc::channel(QUEUE);
                        let _ = queue.try_send(bytes);
                        senders.insert(sender, queue);
                        let (door, socket) = (self.clone(), Arc::clone(&socket));
                        tasks.spawn(async move {
                            door.converse(&socket, sender, queued).await;
                            sender
                        });
                    }
                }
            }
        }
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
            io::Result::Ok(())
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
        tokio::select! {
            (outcome, _) = self.carry(far, sender, here) => tracing::debug!(%outcome, "a sender's stream ended"),
            said = up => drop(said),
            heard = down => drop(heard),
        }
    }
}
