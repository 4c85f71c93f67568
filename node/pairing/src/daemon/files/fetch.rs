//! One file on its way to the inbox.

use std::{
    collections::VecDeque,
    num::NonZeroU32,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use mytunnel_keys::error::Code;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, watch},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    super::{links, wire::WireError},
    Event, blocking,
    line::{Line, Way},
    trouble,
};
use crate::{
    api::Trouble,
    content::{SessionId, Shared},
    files::{
        inbox::{Inbox, InboxError, Part},
        pace::Pace,
        talk::{ToSource, ToTaker, leaves_in},
        tree::{self, Tree},
    },
};

/// How often, and how far apart, a part that another still holds is asked for.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// What is to be fetched, and how its sender is asked.
pub(super) struct Fetch {
    /// Or why it is not asked.
    pub(super) way: Result<Way, Trouble>,
    pub(super) errand: Errand,
}

/// What is to be fetched to where.
pub(super) struct Errand {
    pub(super) session: SessionId,
    pub(super) offer: u64,
    pub(super) file: Shared,
    pub(super) inbox: PathBuf,
    /// Under which name it is put there.
    pub(super) name: String,
}

/// How far it is.
#[derive(Debug, Clone)]
pub(super) enum State {
    Receiving { received: u64 },
    Received { path: PathBuf },
    Failed(Trouble),
}

impl Fetch {
    /// Fetches it, unless it is ended before. What has come of it stays.
    pub(super) async fn run(
        self,
        state: Arc<watch::Sender<State>>,
        ended: CancellationToken,
        events: mpsc::Sender<links::Event>,
    ) {
        let open = async || match &self.way {
            Ok(way) => way.open().await.map_err(lost),
            Err(trouble) => Err(trouble.clone()),
        };
        let outcome = tokio::select! {
            biased;
            () = ended.cancelled() => Err(trouble::stopped()),
            outcome = self.errand.run(open, &state) => outcome,
        };
        state.send_replace(match outcome {
            Ok(path) => State::Received { path },
            Err(trouble) => State::Failed(trouble),
        });
        // Without an owner there is nobody to tell.
        let _ = events.send(links::Event::Files(Event::Ended { session: self.errand.session })).await;
    }
}

impl Errand {
    /// Fetches it over the line that `open` gives.
    async fn run<S, F>(
        &self,
        open: impl FnOnce() -> F,
        state: &watch::Sender<State>,
    ) -> Result<PathBuf, Trouble>
    where
        S: AsyncRead + AsyncWrite + Unpin,
        F: Future<Output = Result<Line<S>, Trouble>>,
    {
        if let Some(path) = self.found().await.map_err(|error| trouble::of_inbox(&error))? {
            return Ok(path);
        }
        let mut line = open().await?;
        // What is offered is known to be something before anything that has come is touched for it.
        let tree = self.tree(&mut line).await?;
        let mut part = self.part().await?;
        state.send_replace(State::Receiving { received: part.received() });
        // Once more where the machine failed in the meantime, and what was written is not there.
        for _ in 0..2 {
            part = self.pieces(&mut line, &tree, part, state).await?;
            let whole = tree.clone();
            let (checked, read) = blocking(move || (part.check(&whole), part)).await;
            part = read;
            let Some(sha256) = checked.map_err(|error| trouble::of_inbox(&error))? else { continue };
            line.part(None).await;
            if sha256 != self.file.sha256 {
                blocking(move || part.discard()).await;
                return Err(trouble::not_as_offered("its SHA-256 is not the one that was offered"));
            }
            let (session, name) = (self.session.to_string(), self.name.clone());
            let published = blocking(move || part.publish(&session, &name)).await;
            let published = match published {
                // Another may have put it there meanwhile.
                Err(InboxError::Exists { path }) => {
                    self.found().await.and_then(|found| found.ok_or(InboxError::Exists { path }))
                }
                published => published,
            };
            return published.map_err(|error| trouble::of_inbox(&error));
        }
        Err(trouble::not_as_written())
    }

    /// Where it is, if it was received before.
    async fn found(&self) -> Result<Option<PathBuf>, InboxError> {
        let (inbox, session, name) = (self.inbox.clone(), self.session.to_string(), self.name.clone());
        let (root, size) = (self.file.blake3, self.file.size);
        blocking(move || Inbox::open(&inbox)?.found(&session, &name, root, size)).await
    }

    /// What there is of it. One that was just stopped may still be writing its last piece.
    async fn part(&self) -> Result<Part, Trouble> {
        let mut tries = TRIES;
        loop {
            let inbox = self.inbox.clone();
            let (root, size) = (self.file.blake3, self.file.size);
            let part = blocking(move || Inbox::open(&inbox)?.part(root, size, SystemTime::now()));
            tries -= 1;
            match part.await {
                Err(InboxError::Busy) if tries > 0 => sleep(PAUSE).await,
                part => return part.map_err(|error| trouble::of_inbox(&error)),
            }
        }
    }

    /// Asks for the file, and for what its pieces hash to.
    async fn tree<S>(&self, line: &mut Line<S>) -> Result<Tree, Trouble>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (offer, root, size) = (self.offer, self.file.blake3, self.file.size);
        line.say(&ToSource::Ask { offer, root }.to_bytes()).await.map_err(lost)?;
        let count = tree::pieces(size).unwrap_or_default() as usize;
        let mut leaves = Vec::new();
        while leaves.len() < count {
            match ToTaker::parse(&line.hear().await.map_err(lost)?) {
                Some(ToTaker::Leaves { hashes }) => {
                    leaves.extend(leaves_in(&hashes, count - leaves.len()).ok_or_else(garbage)?);
                }
                Some(ToTaker::No { why }) => return Err(trouble::of_no(why)),
                Some(ToTaker::Piece { .. }) | None => return Err(garbage()),
            }
        }
        let wrong = || trouble::not_as_offered("its pieces do not make up what was offered");
        Tree::checked(root, size, leaves).ok_or_else(wrong)
    }

    /// Fetches what is missing.
    async fn pieces<S>(
        &self,
        line: &mut Line<S>,
        tree: &Tree,
        mut part: Part,
        state: &watch::Sender<State>,
    ) -> Result<Part, Trouble>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (mut pace, mut wanted, mut next) = (Pace::new(), VecDeque::new(), 0);
        loop {
            let mut more = Vec::new();
            while wanted.len() + more.len() < pace.window() {
                let Some(number) = part.have().missing_from(next) else { break };
                more.push(number);
                next = number + 1;
            }
            for (first, count) in runs(&more) {
                line.say(&ToSource::Want { first, count }.to_bytes()).await.map_err(lost)?;
            }
            let now = Instant::now();
            wanted.extend(more.into_iter().map(|number| (number, now)));
            let Some((number, asked)) = wanted.pop_front() else { return Ok(part) };
            let content = match ToTaker::parse(&line.hear().await.map_err(lost)?) {
                Some(ToTaker::Piece { number: given, content }) if given == number => content,
                Some(ToTaker::No { why }) => return Err(trouble::of_no(why)),
                Some(ToTaker::Piece { .. } | ToTaker::Leaves { .. }) | None => return Err(garbage()),
            };
            pace.arrived(asked.elapsed());
            part = put(part, tree, number, content).await?;
            state.send_replace(State::Receiving { received: part.received() });
        }
    }
}

/// Puts a piece in its place, if it is the right one.
async fn put(mut part: Part, tree: &Tree, number: u32, content: Vec<u8>) -> Result<Part, Trouble> {
    let tree = tree.clone();
    let put = blocking(move || {
        if !tree.fits(number, &content) {
            return Err(trouble::not_as_offered("a piece of it is not what was offered"));
        }
        part.write(number, &content).map_err(|error| trouble::of_inbox(&error))?;
        Ok(part)
    });
    put.await
}

/// Numbers in a row as the first of them and how many there are.
fn runs(numbers: &[u32]) -> Vec<(u32, NonZeroU32)> {
    let mut runs: Vec<(u32, NonZeroU32)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((first, count)) if first.checked_add(count.get()) == Some(*number) => {
                *count = count.saturating_add(1);
            }
            Some(_) | None => runs.push((*number, NonZeroU32::MIN)),
        }
    }
    runs
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn lost(error: WireError) -> Trouble {
    tracing::debug!(%error, "a file comes no further");
    trouble::away()
}

fn garbage() -> Trouble {
    Trouble::new(Code::PairVersion, "the sender says something else than pieces of the file")
}

#[cfg(test)]
mod tests;
