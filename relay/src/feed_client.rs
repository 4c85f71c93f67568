//! Coordinators elsewhere, over HTTP: the feed of one of them is the body of one long answer, reports are small requests beside it.
//!
//! Every request is signed by the relay's key, so that neither a proxy in between nor a stolen address can follow or
//! report in the relay's name. What the feed says is believed for its own signatures only.

mod line;
mod servers;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use bytes::{Buf as _, Bytes, BytesMut};
use futures::{FutureExt as _, future::BoxFuture};
use http::{Method, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use mytunnel_keys::{
    api::{ErrorBody, RelayJoined},
    error::Code,
    feed::{MAX_FRAME, Report, Subscribe},
    id::{Cluster, Serial},
    proof::{self, Request},
    secret::Seed,
    token::ServerUrl,
    usage::{Tell, Told},
    wire::{self, MAX_MESSAGE, WireError},
};
use serde::Serialize;
use tokio::{
    sync::mpsc,
    time::{Duration, sleep, timeout},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::{Authority, AuthorityError, FeedLink};
pub use line::ConnectError;
use line::{Connector, Line};
use servers::Servers;

const FEED: &str = "/api/v1/relay/feed";
const REPORTS: &str = "/api/v1/relay/reports";
const USAGE: &str = "/api/v1/relay/usage";
const RENEW: &str = "/api/v1/relay/renew";

/// Frames that wait for the reader, and reports that wait for a request.
const QUEUE: usize = 64;

/// Reports in one request: with the longest names, well below the largest message.
const BATCH: usize = 128;

/// Time for a request of reports; a coordinator that needs longer gets more with each attempt, up to the last.
const REPORT_PATIENCE: Duration = Duration::from_secs(10);
const LAST_REPORT_PATIENCE: Duration = Duration::from_secs(60);

/// Wait before a batch of reports is sent again.
const REPORT_WAIT: Duration = Duration::from_secs(1);

/// The longest body of an answer that is read: a failure, or a certificate with a bundle of trust.
const MAX_ANSWER: usize = 16 * 1024;

/// The coordinators of a cluster, one of which is followed over HTTP.
#[derive(Debug)]
pub struct RemoteCoordinator {
    caller: Arc<Caller>,
    /// The connection on which usage was told last.
    telling: Mutex<Option<Line>>,
    tasks: TaskTracker,
    cancelled: CancellationToken,
    _cancel: DropGuard,
}

/// Who calls, and whom.
#[derive(Debug)]
struct Caller {
    servers: Servers,
    seed: Seed,
    serial: Serial,
    cluster: Cluster,
    report_patience: Duration,
}

impl RemoteCoordinator {
    /// The coordinators at `urls`, any of which will do, for the relay that holds `seed` and a certificate of this serial.
    ///
    /// # Errors
    /// When there is none, or the TLS library cannot be set up.
    pub fn new(
        urls: &[ServerUrl],
        seed: Seed,
        serial: Serial,
        cluster: Cluster,
    ) -> Result<Self, ConnectError> {
        let servers = Servers::new(urls)?;
        let caller = Caller { servers, seed, serial, cluster, report_patience: REPORT_PATIENCE };
        Ok(Self::of(caller))
    }

    fn of(caller: Caller) -> Self {
        let cancelled = CancellationToken::new();
        let guard = cancelled.clone().drop_guard();
        Self {
            caller: Arc::new(caller),
            telling: Mutex::default(),
            tasks: TaskTracker::new(),
            cancelled,
            _cancel: guard,
        }
    }
}

impl Authority for RemoteCoordinator {
    fn subscribe(&self, request: Subscribe) -> BoxFuture<'_, Result<FeedLink, AuthorityError>> {
        async move {
            let (at, line, answer) = self.caller.begin(&request).await?;
            let (frames_in, frames) = mpsc::channel(QUEUE);
            let (reports, reports_out) = mpsc::channel(QUEUE);
            let caller = Arc::clone(&self.caller);
            let carry = async move {
                let to = caller.servers.get(at);
                let carried = carry(line, answer.into_body(), frames_in, reports_out, &caller, to).await;
                if let Err(error) = carried {
                    tracing::debug!(error = &error as &dyn std::error::Error, "feed ended");
                }
            };
            self.tasks.spawn(self.cancelled.clone().run_until_cancelled_owned(carry));
            Ok(FeedLink { frames, reports })
        }
        .boxed()
    }

    fn tell(&self, tell: Tell) -> BoxFuture<'_, Result<Told, AuthorityError>> {
        async move {
            // Out of its place while it is in use: one that is given up half way is not used again.
            let kept = self.telling.lock().unwrap_or_else(PoisonError::into_inner).take();
            let (line, told) = self.caller.tell(kept.filter(Line::is_open), &tell).await?;
            *self.telling.lock().unwrap_or_else(PoisonError::into_inner) = Some(line);
            Ok(told)
        }
        .boxed()
    }

    fn renew(&self) -> BoxFuture<'_, Result<RelayJoined, AuthorityError>> {
        async move {
            let (_line, answer) = self.caller.renew().await?;
            let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
            let body = body.map_err(|_| AuthorityError::Protocol("the answer broke off"))?;
            serde_json::from_slice(&body.to_bytes())
                .map_err(|_| AuthorityError::Protocol("what should be a certificate is none"))
        }
        .boxed()
    }
}

impl Caller {
    /// Begins a subscription at the first coordinator that grants one; tells which.
    async fn begin(&self, request: &Subscribe) -> Result<(usize, Line, Response<Incoming>), AuthorityError> {
        let mut last = None;
        for (at, connector) in self.servers.to_follow() {
            match self.ask(connector, FEED, request).await {
                Ok((line, answer)) => {
                    self.servers.follows(at);
                    return Ok((at, line, answer));
                }
                Err(error) if may_differ(&error) => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| unreachable(ConnectError::Nobody)))
    }

    /// Tells the coordinator that is followed, or another if that one cannot take it: what is told twice counts once.
    async fn tell(&self, kept: Option<Line>, tell: &Tell) -> Result<(Line, Told), AuthorityError> {
        let mut last = None;
        if let Some(line) = kept {
            match self.told(line, tell).await {
                Err(error) if may_differ(&error) => last = Some(error),
                told => return told,
            }
        }
        for connector in self.servers.in_turn() {
            let told = match connector.connect().await {
                Ok(line) => self.told(line, tell).await,
                Err(error) => Err(unreachable(error)),
            };
            match told {
                Err(error) if may_differ(&error) => last = Some(error),
                told => return told,
            }
        }
        Err(last.unwrap_or_else(|| unreachable(ConnectError::Nobody)))
    }

    async fn told(&self, mut line: Line, tell: &Tell) -> Result<(Line, Told), AuthorityError> {
        let answer = self.post(&mut line, USAGE, tell).await?;
        if answer.status() != StatusCode::OK {
            return Err(refusal(answer).await);
        }
        let body = Limited::new(answer.into_body(), MAX_MESSAGE).collect().await;
        let body = body.map_err(|_| AuthorityError::Protocol("the answer broke off"))?;
        let told =
            wire::decode(&body.to_bytes()).map_err(|_| AuthorityError::Protocol("leases that are none"))?;
        Ok((line, told))
    }

    async fn renew(&self) -> Result<(Line, Response<Incoming>), AuthorityError> {
        let mut last = None;
        for connector in self.servers.in_turn() {
            match self.ask(connector, RENEW, &()).await {
                Err(error) if may_differ(&error) => last = Some(error),
                answered => return answered,
            }
        }
        Err(last.unwrap_or_else(|| unreachable(ConnectError::Nobody)))
    }

    /// Asks one coordinator; whatever is no success is a failure.
    async fn ask(
        &self,
        connector: &Connector,
        path: &str,
        body: &impl Serialize,
    ) -> Result<(Line, Response<Incoming>), AuthorityError> {
        let mut line = connector.connect().await.map_err(unreachable)?;
        let answer = self.post(&mut line, path, body).await?;
        if answer.status() != StatusCode::OK {
            return Err(refusal(answer).await);
        }
        Ok((line, answer))
    }

    async fn post(
        &self,
        line: &mut Line,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Response<Incoming>, AuthorityError> {
        let body = wire::encode(body)?;
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|error| AuthorityError::Unreachable(Box::new(error)))?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let signed = Request { cluster: &self.cluster, method: Method::POST.as_str(), path, body: &body };
        let proof = proof::sign_request(&self.seed, &self.serial, &signed, now, id);
        let request = http::Request::post(path)
            .header(header::HOST, line.authority())
            .header(header::AUTHORIZATION, proof)
            .header(header::CONTENT_TYPE, "application/cbor")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| AuthorityError::Unreachable(Box::new(error)))?;
        line.send(request).await.map_err(unreachable)
    }
}

/// May another coordinator answer otherwise? What one says about the relay, all say.
const fn may_differ(error: &AuthorityError) -> bool {
    match error {
        AuthorityError::Unreachable(_) | AuthorityError::Protocol(_) => true,
        AuthorityError::Refused { code, .. } => {
            matches!(code, Code::CoordinatorUnreachable | Code::RateLimited | Code::Internal)
        }
    }
}

fn unreachable(error: ConnectError) -> AuthorityError {
    AuthorityError::Unreachable(Box::new(error))
}

impl From<WireError> for AuthorityError {
    fn from(_: WireError) -> Self {
        Self::Protocol("a message has no encoding")
    }
}

/// What a coordinator says when it does not do what was asked.
async fn refusal(answer: Response<Incoming>) -> AuthorityError {
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
    let Ok(body) = body else { return AuthorityError::Protocol("the answer broke off") };
    match serde_json::from_slice::<ErrorBody>(&body.to_bytes()) {
        Ok(ErrorBody { error }) => AuthorityError::Refused { code: error.code, message: error.message },
        Err(_) if status.is_server_error() => {
            AuthorityError::Refused { code: Code::CoordinatorUnreachable, message: status.to_string() }
        }
        Err(_) => AuthorityError::Protocol("a failure without a code"),
    }
}

/// Why a subscription ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the answer broke off")]
    Body(#[from] hyper::Error),
    #[error("a frame of {0} bytes is too long")]
    TooLong(usize),
    #[error("reports were not taken")]
    Reports(#[source] Untaken),
}

/// Carries frames one way and reports the other until either end is over. `line` carries `body`.
async fn carry(
    line: Line,
    body: Incoming,
    frames: mpsc::Sender<Bytes>,
    reports: mpsc::Receiver<Report>,
    caller: &Caller,
    to: &Connector,
) -> Result<(), Ended> {
    let ended = tokio::select! {
        ended = pass_on(body, &frames) => ended,
        ended = report(reports, caller, to) => ended,
        () = frames.closed() => Ok(()),
    };
    drop(line);
    ended
}

async fn pass_on(mut body: Incoming, frames: &mpsc::Sender<Bytes>) -> Result<(), Ended> {
    let mut buffer = BytesMut::new();
    while let Some(part) = body.frame().await {
        let Ok(data) = part?.into_data() else { continue };
        buffer.extend_from_slice(&data);
        while let Some(frame) = next_frame(&mut buffer)? {
            if frames.send(frame).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Takes a whole frame off the front: four bytes of length, big endian, then the frame.
fn next_frame(buffer: &mut BytesMut) -> Result<Option<Bytes>, Ended> {
    let Some(length) = buffer.first_chunk() else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if length > MAX_FRAME {
        return Err(Ended::TooLong(length));
    }
    if buffer.len() < 4 + length {
        return Ok(None);
    }
    buffer.advance(4);
    Ok(Some(buffer.split_to(length).freeze()))
}

/// Sends reports in the order in which they come, as many at once as have come meanwhile. A batch that does not get
/// through is sent again, and the frames go on meanwhile: a revocation does not wait for what this relay has to tell.
async fn report(mut reports: mpsc::Receiver<Report>, caller: &Caller, to: &Connector) -> Result<(), Ended> {
    let mut line = None;
    let mut batch = Vec::with_capacity(BATCH);
    while reports.recv_many(&mut batch, BATCH).await > 0 {
        let mut patience = caller.report_patience;
        while let Err(untaken) = send_in_time(&mut line, &batch, caller, to, patience).await {
            untaken.passes()?;
            patience = (patience * 2).min(LAST_REPORT_PATIENCE);
            sleep(REPORT_WAIT.min(patience)).await;
        }
        batch.clear();
    }
    Ok(())
}

/// Why a batch is not with the coordinator.
#[derive(Debug, thiserror::Error)]
enum Untaken {
    #[error("reports took too long")]
    Late,
    #[error(transparent)]
    Failed(#[from] AuthorityError),
}

impl Untaken {
    /// Whether the same request may be taken later; if not, the subscription is no good either.
    fn passes(self) -> Result<(), Ended> {
        match self {
            Self::Failed(AuthorityError::Protocol(_)) => {}
            Self::Failed(AuthorityError::Refused { code, .. })
                if !matches!(code, Code::CoordinatorUnreachable | Code::RateLimited | Code::Internal) => {}
            Self::Late | Self::Failed(AuthorityError::Unreachable(_) | AuthorityError::Refused { .. }) => {
                tracing::debug!(error = &self as &dyn std::error::Error, "reports are sent again");
                return Ok(());
            }
        }
        Err(Ended::Reports(self))
    }
}

async fn send_in_time(
    line: &mut Option<Line>,
    batch: &[Report],
    caller: &Caller,
    to: &Connector,
    patience: Duration,
) -> Result<(), Untaken> {
    let sent = timeout(patience, send(line, batch, caller, to)).await;
    Ok(sent.map_err(|_| Untaken::Late)??)
}

/// Sends one batch on the line that is there, or on a new one when that has ended meanwhile.
async fn send(
    line: &mut Option<Line>,
    batch: &[Report],
    caller: &Caller,
    to: &Connector,
) -> Result<(), AuthorityError> {
    let mut open = match line.take().filter(Line::is_open) {
        Some(line) => line,
        None => to.connect().await.map_err(unreachable)?,
    };
    let answer = caller.post(&mut open, REPORTS, &batch).await?;
    if !answer.status().is_success() {
        return Err(refusal(answer).await);
    }
    // The line is free for the next request once this answer is read.
    let read = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
    *line = read.is_ok().then_some(open);
    Ok(())
}

#[cfg(test)]
mod tests;
