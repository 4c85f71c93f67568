//! The way to its node of a visitor whose bytes the relay does not read: a place at the tunnel, what its gates say of an
//! address, its budget, a pipe; and then bytes both ways, counted, until either end or the tunnel ends it.

use std::{
    io,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use mytunnel_carrier::{
    chunk::Chunk,
    splice::{Deaf, Ended, Watch, splice},
};
use mytunnel_keys::wire::MAX_BACKENDS;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    access_log::Session,
    gate,
    ingress::{Answered, Bounds, NoSeat, Seat},
    route::{Lookup, Pipe, PipeError, Routes, Tunnel},
    traffic::{Pause, Traffic},
};

/// When a silent visitor is asked whether it is still there, and how often, before it is given up.
const SILENCE: Duration = Duration::from_secs(60);
const PROBES: (Duration, u32) = (Duration::from_secs(15), 4);

/// Networks are away for as long and come back.
#[cfg(target_os = "linux")]
const LEAST_PATIENCE: Duration = Duration::from_secs(60);

/// Bytes that may lie in the system unsent. It says that there is room when half of them have gone.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 256 * 1024;

/// Whom to lead where.
#[derive(Debug)]
pub(crate) struct Errand<'a> {
    pub(crate) routes: &'a Routes,
    /// Of the tunnel.
    pub(crate) name: &'a str,
    pub(crate) visitor: IpAddr,
    /// The first payload: who it is.
    pub(crate) greeting: &'a [u8],
    /// How long to wait for a node that is away.
    pub(crate) patience: Duration,
    /// Visitors that the tunnel may have at once.
    pub(crate) most: Bounds,
}

/// Why a visitor is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Turned {
    #[error("no node serves the tunnel")]
    Away,
    #[error("the tunnel's gates do not let the visitor in")]
    Denied,
    #[error("the tunnel's budget is spent")]
    Spent,
    #[error("there are too many visitors")]
    Full,
    #[error("the node cannot be reached")]
    Broken,
}

/// Why a node does not get the visitor.
enum NoLine {
    /// Nor does another.
    Turned(Turned),
    /// It has just left.
    Gone,
    /// Its target has got nothing: another node may do. If there is none, this is the answer.
    Refused(Turned),
}

impl From<Turned> for NoLine {
    fn from(turned: Turned) -> Self {
        Self::Turned(turned)
    }
}

/// Nodes that are tried for a visitor: enough for all of a name, and for one that comes back meanwhile.
const TRIES: usize = 2 * MAX_BACKENDS;

/// What each of several nodes gets, however long the others before it took.
const TURN: Duration = Duration::from_secs(2);

/// Why a connection ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Early {
    #[error(transparent)]
    Turned(#[from] Turned),
    #[error("the tunnel was closed, or has other gates")]
    Cut,
    #[error("nothing went through for too long")]
    Idle,
    #[error("the visitor's address has as many connections and requests as it may have")]
    Busy,
    #[error("the relay shuts down")]
    Stopped,
    #[error("the visitor failed")]
    Visitor(#[source] io::Error),
    #[error("the node failed, or its target does not accept")]
    Node(#[source] io::Error),
}

impl Turned {
    /// What a request would be answered.
    pub(crate) const fn status(self) -> u16 {
        match self {
            Self::Away | Self::Broken => 502,
            Self::Denied => 403,
            Self::Spent | Self::Full => 503,
        }
    }
}

impl Early {
    /// As [`Turned::status`].
    const fn status(&self) -> u16 {
        match self {
            Self::Turned(turned) => turned.status(),
            Self::Visitor(_) => 499,
            Self::Idle => 408,
            Self::Busy => 429,
            Self::Cut | Self::Stopped => 503,
            Self::Node(_) => 502,
        }
    }
}

/// Notes down how a connection has ended.
pub(crate) fn note(session: Option<&Session>, ended: &Result<(), Early>) {
    let Some(session) = session else { return };
    match ended {
        Ok(()) => session.ended(200, None),
        Err(early) => session.ended(early.status(), Some(early)),
    }
}

/// A visitor's place at the tunnel, and the way to its node.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) node: Answered,
    /// The node has got the greeting.
    pub(crate) greeted: bool,
    pub(crate) tunnel: Arc<Tunnel>,
    /// How often something has moved on it, and in the lowest bit whether the last of it came from the visitor.
    pub(crate) moved: Arc<AtomicU64>,
    /// Ends it: the tunnel was closed, or has other gates.
    pub(crate) cut: CancellationToken,
    seat: Option<Seat>,
}

impl Errand<'_> {
    /// Leads the visitor to the node of the tunnel that `fits`, for which it waits while it is away.
    pub(crate) async fn run(&self, fits: impl Fn(&Tunnel) -> bool) -> Result<Line, Turned> {
        let live = |found: Lookup| match found {
            Lookup::Live(tunnel) if fits(&tunnel) => Ok(tunnel),
            Lookup::Live(_) | Lookup::Away | Lookup::Ended | Lookup::Unknown => Err(Turned::Away),
        };
        let until = Instant::now() + self.patience;
        let mut tunnel = live(self.routes.wait_live(self.name, self.patience).await)?;
        // Whom its gates do not let in takes no trial of a node that may be well again.
        if !gate::admits_line(tunnel.gates().as_deref(), self.visitor) {
            return Err(Turned::Denied);
        }
        if let Some(other) = self.routes.settle(&tunnel) {
            tunnel = other;
        }
        let mut asked = Vec::new();
        for _ in 0..TRIES {
            let turned = match self.open(&tunnel, until).await {
                Ok(line) => return Ok(line),
                Err(NoLine::Turned(turned)) => return Err(turned),
                Err(NoLine::Gone) => None,
                Err(NoLine::Refused(turned)) => Some(turned),
            };
            asked.push(Arc::clone(&tunnel));
            tunnel = match (self.routes.another(&asked), turned) {
                (Some(other), _) => other,
                (None, Some(turned)) => return Err(turned),
                (None, None) => {
                    let left = until.checked_duration_since(Instant::now()).ok_or(Turned::Away)?;
                    live(self.routes.wait_other(&tunnel, left).await)?
                }
            };
        }
        Err(Turned::Away)
    }

    async fn open(&self, tunnel: &Arc<Tunnel>, until: Instant) -> Result<Line, NoLine> {
        let cut = CancellationToken::new();
        let seat = tunnel.seats().enter_line(&cut, self.most);
        let seat = seat.map_err(|none| match none {
            NoSeat::Full | NoSeat::KeyFull => NoLine::Refused(Turned::Full),
            NoSeat::Closed => NoLine::Gone,
        })?;
        // Its gates are looked at with a seat taken: from then on a change cuts it.
        let mut line = Opening { tunnel: Arc::clone(tunnel), cut, seat: Some(seat) };
        if !gate::admits_line(tunnel.gates().as_deref(), self.visitor) {
            return Err(Turned::Denied.into());
        }
        if !tunnel.traffic().ready().await {
            return Err(Turned::Spent.into());
        }
        let (greeted, turn) = (tunnel.is_accompanied(), Instant::now() + TURN);
        let patience = if greeted { turn } else { until.max(turn) };
        let mut node = Answered::new(pipe(tunnel, patience).await?, tunnel.life());
        if greeted {
            // With others to turn to, the visitor waits until the node's target has taken it.
            let answered = tokio::select! {
                answered = timeout(TURN, greet(&mut node, self.greeting)) => answered,
                () = line.cut.cancelled() => return Err(NoLine::Gone),
            };
            match answered {
                Ok(Ok(())) => tunnel.note_answered(),
                Ok(Err(_)) | Err(_) => {
                    tunnel.note_refused();
                    return Err(NoLine::Refused(Turned::Broken));
                }
            }
        }
        tunnel.traffic().count_request(0);
        let (cut, seat) = (line.cut.clone(), line.seat.take());
        Ok(Line { node, greeted, tunnel: Arc::clone(tunnel), moved: Arc::default(), cut, seat })
    }
}

async fn pipe(tunnel: &Tunnel, until: Instant) -> Result<Pipe, NoLine> {
    if let Some(lane) = tunnel.source().take_lane() {
        return Ok(lane);
    }
    match timeout_at(until, tunnel.source().open()).await {
        Ok(Ok(pipe)) => Ok(pipe),
        Ok(Err(PipeError::Gone)) => {
            tunnel.note_lost();
            Err(NoLine::Gone)
        }
        Ok(Err(PipeError::Busy)) => Err(NoLine::Refused(Turned::Full)),
        Ok(Err(PipeError::Open(_))) | Err(_) => {
            tunnel.note_refused();
            Err(NoLine::Refused(Turned::Broken))
        }
    }
}

/// Says who the visitor is, and waits for the word of the node's target.
async fn greet(node: &mut Answered, greeting: &[u8]) -> io::Result<()> {
    node.write_all(greeting).await?;
    node.flush().await?;
    node.answer().await
}

/// A seat that is given back when nothing comes of it.
struct Opening {
    tunnel: Arc<Tunnel>,
    cut: CancellationToken,
    seat: Option<Seat>,
}

impl Drop for Opening {
    fn drop(&mut self) {
        if let Some(seat) = self.seat.take() {
            self.tunnel.seats().leave(seat);
        }
    }
}

impl Line {
    /// Copies both ways, the greeting first, until both ends have ended properly.
    pub(crate) async fn carry<V>(
        &mut self,
        visitor: &mut V,
        greeting: &[u8],
        session: Option<&Session>,
    ) -> Result<(), Early>
    where
        V: AsyncRead + AsyncWrite + Unpin,
    {
        let mut first = Chunk::take();
        if !self.greeted {
            first.push(greeting);
        }
        let mut meter = Meter { session, moved: Some(&self.moved), ..Meter::of(&self.tunnel) };
        let held = (Chunk::take(), first);
        let ended = tokio::select! {
            ended = splice(&mut self.node, visitor, held, Deaf::HasFailed, &mut meter) => ended,
            () = self.cut.cancelled() => return Err(Early::Cut),
        };
        match ended {
            Ended::Properly => Ok(()),
            Ended::OriginFailed(error) => Err(Early::Visitor(error)),
            Ended::PipeLost(error) => Err(Early::Node(error)),
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(seat) = self.seat.take() {
            self.tunnel.seats().leave(seat);
        }
    }
}

/// Until it has ended properly, a connection that is dropped, by whomever, is one that is reset.
pub(crate) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_zero_linger()?;
    attend(stream)
}

/// What is written goes out at once, and who is gone without a word is noticed.
pub(crate) fn attend(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(SILENCE).with_interval(PROBES.0).with_retries(PROBES.1);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// The same for who reads answers, as the system tells it: what is sent and not acknowledged, or not taken, in this time ends the
/// connection, as its silence does (RFC 5482, as Linux has it; without it that takes a quarter of an hour). What waits for the visitor waits
/// here and not there, so that it is seen to be taken in small pieces.
pub(crate) fn attend_reader(stream: &TcpStream, patience: Duration) -> io::Result<()> {
    attend(stream)?;
    #[cfg(target_os = "linux")]
    {
        let socket = SockRef::from(stream);
        socket.set_tcp_user_timeout(Some(patience.max(LEAST_PATIENCE)))?;
        socket.set_tcp_notsent_lowat(UNSENT)?;
    }
    #[cfg(not(target_os = "linux"))]
    let _ = patience;
    Ok(())
}

/// Both ends have said that they are done: what is still under way may arrive.
pub(crate) fn settle(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).set_linger(None)
}

/// A visitor is not to take what came so far for the whole.
pub(crate) fn reset(stream: &TcpStream) {
    // Gone already is as good.
    let _ = stream.set_zero_linger();
}

/// Counts what passes, and holds it up while the tunnel's budget is being filled.
#[derive(Debug)]
pub(crate) struct Meter<'a> {
    traffic: &'a Traffic,
    pause: Pause,
    /// The visitor's line in the access log.
    session: Option<&'a Session>,
    /// Counts how often something passes, with its direction.
    moved: Option<&'a AtomicU64>,
}

impl<'a> Meter<'a> {
    pub(crate) fn of(tunnel: &'a Tunnel) -> Self {
        Self { traffic: tunnel.traffic(), pause: Pause::default(), session: None, moved: None }
    }

    /// One task writes it, so that no read-modify-write is needed.
    fn note_moved(&self, is_from_visitor: bool) {
        if let Some(moved) = self.moved {
            let count = (moved.load(Relaxed) >> 1).wrapping_add(1);
            moved.store(count << 1 | u64::from(is_from_visitor), Relaxed);
        }
    }
}

impl Watch for Meter<'_> {
    // The pipe is the node's end: what goes up from it goes out to the visitor.
    fn up(&mut self, bytes: usize) {
        self.traffic.count_out(bytes as u64);
        self.note_moved(false);
        if let Some(session) = self.session {
            session.count_out(bytes as u64);
        }
    }

    fn down(&mut self, bytes: usize) {
        self.traffic.count_in(bytes as u64);
        self.note_moved(true);
        if let Some(session) = self.session {
            session.count_in(bytes as u64);
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.traffic.poll_ready(&mut self.pause, cx)
    }
}

#[cfg(test)]
mod tests;
