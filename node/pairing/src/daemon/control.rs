//! The socket by which clients of the same user come: one request and one answer on each connection.
//!
//! The directory is the user's alone, and locked while a daemon runs: two never serve one directory.

use std::{
    fs::{self, DirBuilder, File, Permissions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use mytunnel_keys::error::Code;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc, oneshot, watch},
    task::JoinSet,
    time::{Instant, sleep_until, timeout_at},
};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::{Command, DaemonError};
use crate::{
    api::{self, Answer, Request, Trouble},
    limits,
};

/// Clients at once; one more is turned away.
const CLIENTS: usize = 64;
/// Bytes of a request: the largest thing that can be said, written as JSON.
const REQUEST: u64 = 6 * limits::ENTRY as u64;
/// How long a client takes to ask.
const ASKING: Duration = Duration::from_secs(5);
/// The longest that an answer with invites waits for the way through a relay.
const WAY: Duration = Duration::from_secs(5);
/// How long what is said waits for its place in the record before it counts as queued.
const PLACE: Duration = Duration::from_secs(2);

/// The socket of a daemon; dropping it removes the file.
pub(super) struct Control {
    listener: UnixListener,
    path: PathBuf,
    busy: Arc<()>,
    /// Whose daemon it is.
    user: u32,
    _lock: File,
}

impl Control {
    pub(super) fn bind(dir: &Path) -> Result<Self, DaemonError> {
        let path = api::socket(dir);
        let failed = |source| DaemonError::Socket { path: path.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        let lock = File::open(dir).map_err(failed)?;
        // Who may write there could put a socket of his own in the place of this one.
        if lock.metadata().map_err(failed)?.permissions().mode() & 0o077 != 0 {
            let open = "others may use its folder: take that from them with `chmod 700`";
            return Err(failed(io::Error::new(io::ErrorKind::PermissionDenied, open)));
        }
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DaemonError::Running),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&path).map_err(failed)?;
        fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(failed)?;
        let user = UnixStream::pair().and_then(|(own, _)| own.peer_cred()).map_err(failed)?.uid();
        Ok(Self { listener, path, busy: Arc::new(()), user, _lock: lock })
    }

    /// Held once by the socket, and once more for each client.
    pub(super) fn busy(&self) -> Arc<()> {
        self.busy.clone()
    }

    /// Answers clients until it is stopped.
    pub(super) async fn serve(
        self,
        commands: mpsc::Sender<Command>,
        changes: watch::Receiver<u64>,
        stop: CancellationToken,
    ) {
        let places = Arc::new(Semaphore::new(CLIENTS));
        let mut clients = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = clients.join_next() => continue,
                accepted = self.listener.accept() => accepted,
            };
            if let Ok((stream, _)) = &accepted
                && stream.peer_cred().map_or(true, |peer| peer.uid() != self.user)
            {
                tracing::warn!("somebody else's program has asked");
                continue;
            }
            match (accepted, places.clone().try_acquire_owned()) {
                (Ok((stream, _)), Ok(place)) => {
                    let client = Client { commands: commands.clone(), changes: changes.clone() };
                    let busy = self.busy.clone();
                    clients.spawn(async move {
                        if let Err(error) = client.serve(stream).await {
                            tracing::debug!(%error, "a client went away");
                        }
                        drop((busy, place));
                    });
                }
                (Ok(_), Err(_)) => tracing::warn!("too many clients at once"),
                (Err(error), _) => {
                    tracing::warn!(%error, "control socket");
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            }
        }
        clients.shutdown().await;
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // If it is gone already, that is what was wanted.
        let _ = fs::remove_file(&self.path);
    }
}

struct Client {
    commands: mpsc::Sender<Command>,
    changes: watch::Receiver<u64>,
}

impl Client {
    async fn serve(mut self, stream: UnixStream) -> io::Result<()> {
        let (reader, mut writer) = stream.into_split();
        let mut reader = BufReader::new(reader.take(REQUEST));
        // It may hold an invite.
        let mut line = Zeroizing::new(Vec::new());
        timeout_at(Instant::now() + ASKING, reader.read_until(b'\n', &mut line)).await??;
        let answer = match serde_json::from_slice(&line) {
            Ok(request) => tokio::select! {
                answer = self.answer(request) => answer,
                // Nothing more is to come: an end means that the client has gone.
                _ = reader.read_u8() => return Ok(()),
            },
            Err(error) => Err(Trouble::new(Code::BadRequest, format!("the request cannot be read: {error}"))),
        };
        let answer = match answer {
            Ok(value) => Answer::Done(value),
            Err(trouble) => Answer::Failed(trouble),
        };
        let mut text = serde_json::to_vec(&answer).map_err(io::Error::other)?;
        text.push(b'\n');
        writer.write_all(&text).await?;
        writer.shutdown().await
    }

    async fn answer(&mut self, request: Request) -> Result<Value, Trouble> {
        match request {
            Request::Listen { session, reader, since, wait_ms, own } => {
                let end = Instant::now() + Duration::from_millis(wait_ms).min(limits::LISTEN);
                self.listen(end, session, |session| Request::Listen {
                    session,
                    reader: reader.clone(),
                    since,
                    wait_ms: 0,
                    own,
                })
                .await
            }
            Request::Say { session, said, reply_to, to } => {
                self.say(Request::Say { session, said, reply_to, to }).await
            }
            Request::Share { .. } => {
                let shared = self.ask(request).await?;
                let said = self.placed(shared.clone()).await?;
                Ok(merged(shared, said))
            }
            Request::Receive { session, offer, inbox, most, wait_ms, stop } => {
                let end = Instant::now() + Duration::from_millis(wait_ms).min(limits::LISTEN);
                let began = Request::Receive { session, offer, inbox, most, wait_ms, stop };
                let began = self.ask(began).await?;
                self.received(end, began, offer).await
            }
            Request::Join { .. } => self.join(request).await,
            Request::Open { .. } | Request::Invite { .. } => self.invited(request).await,
            Request::Revoke { .. }
            | Request::Lock { .. }
            | Request::Words { .. }
            | Request::Verify { .. }
            | Request::Deny { .. }
            | Request::Kick { .. }
            | Request::Read { .. }
            | Request::Withdraw { .. }
            | Request::Offers { .. }
            | Request::Received { .. }
            | Request::Status { .. }
            | Request::Said { .. }
            | Request::Export { .. }
            | Request::Close { .. } => self.ask(request).await,
        }
    }

    async fn ask(&self, request: Request) -> Result<Value, Trouble> {
        let stopping = || Trouble::new(Code::PairClosed, "the daemon is stopping");
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command { request, reply }).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }

    /// Asks anew whenever something has changed, until there is something, or the time is over. It is one session that is
    /// listened to, whatever begins or ends in the meantime.
    async fn listen(
        &mut self,
        end: Instant,
        mut session: Option<String>,
        request: impl Fn(Option<String>) -> Request,
    ) -> Result<Value, Trouble> {
        loop {
            self.changes.borrow_and_update();
            let answer = self.ask(request(session)).await?;
            session = answer.get("session").and_then(Value::as_str).map(str::to_owned);
            let reason = answer.get("reason").and_then(Value::as_str);
            if matches!(reason, Some("message" | "closed")) || Instant::now() >= end {
                return Ok(answer);
            }
            tokio::select! {
                changed = self.changes.changed() => if changed.is_err() { return Ok(answer) },
                () = sleep_until(end) => {}
            }
        }
    }

    /// Waits a moment until the way through a relay stands, where there is to be one.
    async fn invited(&mut self, request: Request) -> Result<Value, Trouble> {
        let wait = if let Request::Open { relay: Some(relay), .. }
        | Request::Invite { relay: Some(relay), .. } = &request
        {
            Duration::from_millis(relay.wait_ms).min(WAY)
        } else {
            Duration::ZERO
        };
        let end = Instant::now() + wait;
        let mut invited = self.ask(request).await?;
        let session = invited["session"].as_str().map(str::to_owned);
        while invited["relay"]["state"] == "opening" && Instant::now() < end {
            self.changes.borrow_and_update();
            let status = Request::Status { session: session.clone(), reader: String::new() };
            let mut status = self.ask(status).await?;
            invited["relay"] = status["sessions"][0]["relay"].take();
            if invited["relay"]["state"] != "opening" {
                break;
            }
            tokio::select! {
                changed = self.changes.changed() => if changed.is_err() { break },
                () = sleep_until(end) => {}
            }
        }
        Ok(invited)
    }

    /// Waits a moment until the host has told what there is to know of the session.
    async fn join(&mut self, request: Request) -> Result<Value, Trouble> {
        let mut joined = self.ask(request).await?;
        let session = joined.get("session").and_then(Value::as_str).map(str::to_owned);
        let end = Instant::now() + PLACE;
        let is_told = |joined: &Value| {
            let knows_words = joined["can_verify"] == true;
            if joined["verify"] == "required" { knows_words } else { !joined["members"][0].is_null() }
        };
        while !is_told(&joined) && Instant::now() < end {
            self.changes.borrow_and_update();
            let mut status =
                self.ask(Request::Status { session: session.clone(), reader: String::new() }).await?;
            joined = status["sessions"][0].take();
            if is_told(&joined) {
                break;
            }
            tokio::select! {
                changed = self.changes.changed() => if changed.is_err() { break },
                () = sleep_until(end) => {}
            }
        }
        Ok(joined)
    }

    /// Waits a moment until what was said has its place, and who is there has it.
    async fn say(&mut self, request: Request) -> Result<Value, Trouble> {
        let said = self.ask(request).await?;
        self.placed(said).await
    }

    /// Waits until a file is there, or does not come, or the time is over.
    async fn received(&mut self, end: Instant, mut answer: Value, offer: u64) -> Result<Value, Trouble> {
        let session = answer.get("session").and_then(Value::as_str).map(str::to_owned);
        while answer["state"] == "receiving" && Instant::now() < end {
            self.changes.borrow_and_update();
            answer = self.ask(Request::Received { session: session.clone(), offer }).await?;
            if answer["state"] != "receiving" {
                break;
            }
            tokio::select! {
                changed = self.changes.changed() => if changed.is_err() { break },
                () = sleep_until(end) => {}
            }
        }
        Ok(answer)
    }

    /// See [`Self::say`].
    async fn placed(&mut self, mut answer: Value) -> Result<Value, Trouble> {
        let end = Instant::now() + PLACE;
        let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        let (session, number) = (text(&answer, "session"), answer.get("number").and_then(Value::as_u64));
        let Some(number) = number else { return Ok(answer) };
        let is_on_the_way = |answer: &Value| {
            let sent = answer.get("sent").and_then(Value::as_array);
            answer.get("seq").is_none_or(Value::is_null) || sent.is_some_and(|sent| !sent.is_empty())
        };
        while is_on_the_way(&answer) && Instant::now() < end {
            self.changes.borrow_and_update();
            answer = self.ask(Request::Said { session: session.clone(), number }).await?;
            if !is_on_the_way(&answer) {
                break;
            }
            tokio::select! {
                changed = self.changes.changed() => if changed.is_err() { break },
                () = sleep_until(end) => {}
            }
        }
        Ok(answer)
    }
}

/// What is known of a file with what is known of the entry that offers it.
fn merged(mut shared: Value, said: Value) -> Value {
    let offer = said.get("seq").cloned().unwrap_or_default();
    if let (Some(fields), Value::Object(said)) = (shared.as_object_mut(), said) {
        fields.extend(said);
        fields.insert("offer".to_owned(), offer);
    }
    shared
}

#[cfg(test)]
mod tests;
