//! The sockets of the name server.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Length, QUESTION, Zone, rates::Rates};
use crate::ingress::Addresses;

/// Connections over TCP at once, in all and of one address (IPv6: of one /64). One more is closed at once.
const CONNECTIONS: usize = 64;
const OF_ONE: u32 = 4;

/// Time for a connection, and questions that are answered on it.
const PATIENCE: Duration = Duration::from_secs(5);
const QUESTIONS: usize = 16;

/// The pause after the system refuses something, of which there may soon be more.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// Sockets that are bound, and what is said there.
#[derive(Debug)]
pub(crate) struct NameServer {
    udp: UdpSocket,
    tcp: TcpListener,
    zone: Zone,
}

impl NameServer {
    pub(in crate::acme) async fn bind(addr: SocketAddr, zone: Zone) -> io::Result<Self> {
        let tcp = TcpListener::bind(addr).await?;
        let udp = UdpSocket::bind(tcp.local_addr()?).await?;
        Ok(Self { udp, tcp, zone })
    }

    #[cfg(test)]
    pub(super) fn addr(&self) -> SocketAddr {
        self.tcp.local_addr().unwrap()
    }

    /// Answers until cancelled.
    pub(crate) async fn run(self, cancelled: CancellationToken) {
        let (mut rates, addresses, mut connections) =
            (Rates::default(), Addresses::default(), JoinSet::new());
        let mut packet = [0; QUESTION as usize];
        loop {
            let outcome = tokio::select! {
                () = cancelled.cancelled() => break,
                asked = self.udp.recv_from(&mut packet) => asked.map(|(length, from)| {
                    let answer = rates
                        .ask(from.ip(), Instant::now())
                        .and_then(|length_of| self.zone.answer(&packet[..length], length_of));
                    // What does not fit into the system's buffer is lost, as on any way; who asked asks again.
                    if let Some(answer) = answer
                        && let Err(error) = self.udp.try_send_to(&answer, from)
                    {
                        tracing::debug!(%error, "an answer about a challenge is lost");
                    }
                }),
                accepted = self.tcp.accept() => accepted.map(|(stream, from)| {
                    if connections.len() < CONNECTIONS
                        && let Some(seat) = addresses.connect(from.ip(), OF_ONE)
                    {
                        let zone = self.zone.clone();
                        connections.spawn(async move {
                            let ended = timeout(PATIENCE, converse(stream, &zone)).await;
                            drop(seat);
                            ended
                        });
                    }
                }),
                Some(ended) = connections.join_next(), if !connections.is_empty() => {
                    match ended {
                        Ok(ended) => tracing::trace!(?ended, "a connection for DNS ended"),
                        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                        Err(_) => {}
                    }
                    Ok(())
                }
            };
            if let Err(error) = outcome {
                tracing::debug!(%error, "the socket for DNS fails");
                sleep(EXHAUSTED).await;
            }
        }
        connections.shutdown().await;
    }
}

/// Each message has its length in front (RFC 1035 §4.2.2).
async fn converse(mut stream: TcpStream, zone: &Zone) -> io::Result<()> {
    for _ in 0..QUESTIONS {
        let length = stream.read_u16().await?;
        if length > QUESTION {
            break;
        }
        let mut packet = vec![0; usize::from(length)];
        stream.read_exact(&mut packet).await?;
        let Some(answer) = zone.answer(&packet, Length::Whole) else { break };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes()[..], &answer].concat()).await?;
    }
    stream.shutdown().await
}
