//! The TXT records of a name, asked of a recursive name server.
//!
//! Each question goes from a port of its own with a number of its own, and an answer counts if it comes from the
//! server's address and repeats both and the question. That can be guessed by who sends enough: an answer by which a domain
//! changes hands comes over TCP. The wire format is `hickory-proto`'s.

mod turns;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::ProtoError;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use hickory_proto::serialize::binary::DecodeError;
use mytunnel_keys::id::TenantId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use self::turns::Turns;
use crate::random::{self, NoRandomness};

/// The system's list of name servers.
const SYSTEM: &str = "/etc/resolv.conf";
/// Servers of that list that are asked, as everywhere.
const SERVERS: usize = 3;
/// Time for one answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often each server is asked.
const ROUNDS: usize = 2;
/// Largest answer over UDP that is not cut into fragments on its way.
const PAYLOAD: u16 = 1232;
/// Largest answer over TCP that is read. Nobody needs as many records under a name that is for this alone.
const MAX_ANSWER: usize = 16 * 1024;
/// Questions on their way at a time for those who wait for the answer.
const AT_ONCE: usize = 12;
/// Beside those, for domains that are looked at again: whoever asks without end does not keep these from being asked.
pub(crate) const LOOKS: usize = 4;

/// Why it is not known which records there are.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookupError {
    #[error("the name is not one of the DNS")]
    Name(#[source] ProtoError),
    #[error(transparent)]
    Random(#[from] NoRandomness),
    #[error("the question cannot be written")]
    Write(#[source] ProtoError),
    #[error("the name server cannot be reached")]
    Io(#[from] io::Error),
    #[error("the name server did not answer in time")]
    Late,
    #[error("the name server's answer cannot be read")]
    Read(#[source] DecodeError),
    #[error("the name server's answer is to another question")]
    Other,
    #[error("the name server's answer is too long")]
    TooLong,
    #[error("the name server says: {0}")]
    Failed(ResponseCode),
    #[error("too many look-ups are under way")]
    Busy,
    #[error("the record is there, but the name server has to say so over TCP, which nobody can forge: {0}")]
    Unproven(#[source] Box<Self>),
}

/// Asks name servers.
#[derive(Debug)]
pub(crate) struct Resolver {
    servers: Vec<SocketAddr>,
    places: Semaphore,
    looks: Semaphore,
    turns: Turns,
}

/// How name servers are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Over UDP, and over TCP where the answer is too long for that.
    Usual,
    Tcp,
}

impl Resolver {
    /// One that asks these, or the system's where there are none.
    pub(crate) fn new(servers: Vec<SocketAddr>) -> Self {
        let (places, looks) = (Semaphore::new(AT_ONCE), Semaphore::new(LOOKS));
        Self { servers, places, looks, turns: Turns::default() }
    }

    /// The values of the TXT records of a name, none if it does not exist, for a tenant whose one is `value`. A tenant has
    /// one look-up at a time.
    pub(crate) async fn shown(
        &self,
        tenant: &TenantId,
        name: &str,
        value: &str,
    ) -> Result<Vec<String>, LookupError> {
        let turn = timeout(PATIENCE, self.turns.enter(tenant)).await;
        let (_turn, _place) = (turn.map_err(|_| LookupError::Busy)?, place(&self.places).await?);
        let found = self.txt(name, Way::Usual).await?;
        if !found.iter().any(|one| one == value) {
            return Ok(found);
        }
        self.txt(name, Way::Tcp).await.map_err(|error| LookupError::Unproven(Box::new(error)))
    }

    /// The same for a domain that is looked at again.
    pub(crate) async fn look(&self, name: &str) -> Result<Vec<String>, LookupError> {
        let _place = place(&self.looks).await?;
        self.txt(name, Way::Usual).await
    }

    /// Whether the name servers answer for what there always is: the root.
    pub(crate) async fn hears(&self) -> bool {
        self.look(".").await.is_ok()
    }

    async fn txt(&self, name: &str, way: Way) -> Result<Vec<String>, LookupError> {
        let mut name = Name::from_ascii(name).map_err(LookupError::Name)?;
        name.set_fqdn(true);
        let servers = if self.servers.is_empty() { system().await } else { self.servers.clone() };
        let mut last = LookupError::Late;
        for server in servers.iter().cycle().take(servers.len() * ROUNDS) {
            match ask(*server, &name, way).await {
                Ok(found) => return Ok(found),
                Err(error) => {
                    tracing::debug!(%server, %name, error = &error as &dyn std::error::Error, "no answer");
                    last = error;
                }
            }
        }
        Err(last)
    }
}

async fn place(of: &Semaphore) -> Result<SemaphorePermit<'_>, LookupError> {
    timeout(PATIENCE, of.acquire()).await.ok().and_then(Result::ok).ok_or(LookupError::Busy)
}

async fn ask(server: SocketAddr, name: &Name, way: Way) -> Result<Vec<String>, LookupError> {
    let id = u16::from_be_bytes(random::bytes()?);
    let mut question = Message::new(id, MessageType::Query, OpCode::Query);
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(name.clone(), RecordType::TXT));
    let mut extended = Edns::new();
    extended.set_max_payload(PAYLOAD);
    question.set_edns(extended);
    let bytes = question.to_vec().map_err(LookupError::Write)?;
    let late = |_| LookupError::Late;
    let short = match way {
        Way::Usual => Some(timeout(PATIENCE, over_udp(server, &bytes, &question)).await.map_err(late)??),
        Way::Tcp => None,
    };
    let answer = match short.filter(|short| !short.metadata.truncation) {
        Some(short) => short,
        None => timeout(PATIENCE, over_tcp(server, &bytes, &question)).await.map_err(late)??,
    };
    let code = answer.metadata.response_code;
    if code == ResponseCode::NoError || code == ResponseCode::NXDomain {
        Ok(texts(&answer))
    } else {
        Err(LookupError::Failed(code))
    }
}

async fn over_udp(server: SocketAddr, bytes: &[u8], question: &Message) -> Result<Message, LookupError> {
    let any = match server {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    // From here on the system passes over what comes from elsewhere.
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = [0; PAYLOAD as usize];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // Somebody else's guess is no reason to give up.
        if let Ok(answer) = read(&buffer[..length], question) {
            return Ok(answer);
        }
    }
}

async fn over_tcp(server: SocketAddr, bytes: &[u8], question: &Message) -> Result<Message, LookupError> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(|_| LookupError::TooLong)?;
    stream.write_all(&[&length.to_be_bytes()[..], bytes].concat()).await?;
    let length = usize::from(stream.read_u16().await?);
    if length > MAX_ANSWER {
        return Err(LookupError::TooLong);
    }
    let mut buffer = vec![0; length];
    stream.read_exact(&mut buffer).await?;
    read(&buffer, question)
}

fn read(bytes: &[u8], question: &Message) -> Result<Message, LookupError> {
    let answer = Message::from_vec(bytes).map_err(LookupError::Read)?;
    let (asked, said) = (&question.metadata, &answer.metadata);
    let fits = said.id == asked.id
        && said.message_type == MessageType::Response
        && said.op_code == OpCode::Query
        && answer.queries == question.queries;
    fits.then_some(answer).ok_or(LookupError::Other)
}

/// The values; of one in several parts, put together. The records of what an alias leads to count: the server has
/// followed it.
fn texts(answer: &Message) -> Vec<String> {
    let texts = answer.answers.iter().filter_map(|record| {
        let RData::TXT(text) = &record.data else { return None };
        String::from_utf8(text.txt_data.concat()).ok()
    });
    texts.collect()
}

/// The system's name servers, as they are set at this moment.
async fn system() -> Vec<SocketAddr> {
    let text = tokio::fs::read_to_string(SYSTEM).await.unwrap_or_default();
    let servers = listed(&text);
    // What the resolver of the system takes as well.
    if servers.is_empty() { vec![(Ipv4Addr::LOCALHOST, 53).into()] } else { servers }
}

fn listed(text: &str) -> Vec<SocketAddr> {
    let addresses = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse::<IpAddr>().ok())?
    });
    addresses.take(SERVERS).map(|address| (address, 53).into()).collect()
}

#[cfg(test)]
mod tests;
