//! Who has kept sessions written, one batch at a time and off the owner's loop, and holds back what may not be seen before.
//!
//! Whatever leaves the daemon because of a change (a message to a peer, an answer to a client, a guess that is granted) waits
//! here until the change is on disk: a process that is killed has told nobody of what it then does not know any more. What
//! changes while a batch is written makes up the next.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    path::{Path, PathBuf},
    time::Duration,
};

use mytunnel_keys::error::Code;
use serde_json::Value;
use tokio::{
    sync::oneshot,
    task::{JoinError, JoinSet},
};
use zeroize::Zeroizing;

use super::{LinkId, session::Unreadable};
use crate::{
    api::{Request, Trouble},
    content::{MemberId, SessionId},
    store::{Batch, Change, Rows, Store, StoreError},
};

/// How long a session that could not be written rests, so that its peers do not have it tried all the time.
const REST: Duration = Duration::from_secs(5);

/// What a client is told.
pub(super) type Answer = Result<Value, Trouble>;

/// What waits for the disk.
pub(super) enum Held {
    /// For a peer; `last` says that its link ends with it.
    Message { session: SessionId, member: MemberId, link: Option<LinkId>, bytes: Vec<u8>, last: bool },
    /// For a client.
    Reply { answer: Answer, reply: oneshot::Sender<Answer> },
    /// For a stranger who guesses at a code.
    Grant { session: Option<SessionId>, granted: bool, reply: oneshot::Sender<bool> },
    /// A client's question, which is looked at when what it needs was read or written.
    Ask { request: Box<Request>, reply: oneshot::Sender<Answer> },
}

/// Whether a session's changes are on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stand {
    /// All of them.
    Written,
    /// They are being written.
    Running,
    /// They are part of what is written next.
    Next,
}

/// What became of a batch.
pub(super) struct Outcome {
    /// Sessions to be made of what was read, and the last attempts of those that rested.
    pub(super) read: Vec<(SessionId, Rows, Option<u32>)>,
    /// Of these it is not on disk what their owner knows: that is to be forgotten.
    pub(super) undone: BTreeSet<SessionId>,
    /// These were in it and are written.
    pub(super) written: BTreeSet<SessionId>,
    pub(super) released: Vec<Held>,
}

/// See the module.
pub(super) struct Keeper {
    path: PathBuf,
    /// What the next process needs to be this machine.
    machine: Zeroizing<Vec<u8>>,
    /// Not there while it is written, nor before anything is kept.
    store: Option<Store>,
    has_machine: bool,
    jobs: JoinSet<Done>,
    running: Option<BTreeSet<SessionId>>,
    behind_running: Vec<Held>,
    next: Batch,
    behind_next: Vec<Held>,
    disk: OnDisk,
    /// Those that could not be written and are on disk alone: until when they rest, and the number of their last attempt to
    /// come back.
    resting: BTreeMap<SessionId, (Duration, u32)>,
}

/// Which sessions are on disk.
#[derive(Debug, Default)]
pub(super) struct OnDisk {
    /// All of them.
    pub(super) known: BTreeSet<SessionId>,
    /// Those that are over, the last first.
    pub(super) over: Vec<SessionId>,
    /// Those of which no session can be made. They stay as they are, for a version that can, or until they are forgotten.
    pub(super) unreadable: BTreeMap<SessionId, Unreadable>,
}

/// What comes back from the disk.
pub(super) struct Done {
    store: Option<Store>,
    sessions: BTreeSet<SessionId>,
    fetched: BTreeSet<SessionId>,
    result: Result<Read, StoreError>,
}

struct Read {
    known: BTreeSet<SessionId>,
    over: Vec<SessionId>,
    rows: Vec<(SessionId, Rows)>,
}

impl Keeper {
    /// `store` is the one that is open already, if there is any, with what is in it.
    pub(super) fn new(
        path: PathBuf,
        machine: Zeroizing<Vec<u8>>,
        store: Option<Store>,
        disk: OnDisk,
    ) -> Self {
        Self {
            path,
            machine,
            store,
            has_machine: false,
            jobs: JoinSet::new(),
            running: None,
            behind_running: Vec::new(),
            next: Batch::default(),
            behind_next: Vec::new(),
            disk,
            resting: BTreeMap::new(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Sessions that could not be written, and wait for the next try.
    pub(super) fn resting(&self) -> impl Iterator<Item = SessionId> {
        self.resting.keys().copied()
    }

    /// A session that could not be written is its owner's no more; `attempt` is its last to come back.
    pub(super) fn rest(&mut self, session: SessionId, attempt: u32, now: Duration) {
        if self.disk.known.contains(&session) {
            self.resting.insert(session, (now + REST, attempt));
        }
    }

    /// Those that have rested are tried again.
    pub(super) fn tick(&mut self, now: Duration) {
        for (session, (until, _)) in &mut self.resting {
            if *until <= now {
                *until = now + REST;
                self.next.fetch.insert(*session);
            }
        }
        self.start();
    }

    /// Sessions that are over and of which there is a record, the last first.
    pub(super) fn over(&self) -> &[SessionId] {
        &self.disk.over
    }

    /// Whether something of a session is on disk, or on its way there.
    pub(super) fn knows(&self, session: SessionId) -> bool {
        self.disk.known.contains(&session) || self.stand(session) != Stand::Written
    }

    /// No session can be made of what is on disk of this one.
    pub(super) fn set_aside(&mut self, session: SessionId, why: Unreadable) {
        tracing::error!(%session, error = %why, "what is kept of a session cannot be used");
        self.disk.set_aside(session, why);
    }

    /// Sessions that were set aside, and why.
    pub(super) const fn unreadable(&self) -> &BTreeMap<SessionId, Unreadable> {
        &self.disk.unreadable
    }

    /// Something of a session is to be written.
    pub(super) fn put(&mut self, session: SessionId, change: Change) {
        self.need_machine();
        match self.next.changes.get_mut(&session) {
            Some(waiting) => waiting.follow(change),
            None => drop(self.next.changes.insert(session, change)),
        }
        self.start();
    }

    /// Nothing of a session is to stay.
    pub(super) fn forget(&mut self, session: SessionId) {
        self.next.changes.remove(&session);
        self.next.forget.insert(session);
        self.disk.over.retain(|over| *over != session);
        self.disk.unreadable.remove(&session);
        self.resting.remove(&session);
        self.start();
    }

    /// Asks again when the sessions were read.
    pub(super) fn fetch(
        &mut self,
        sessions: Vec<SessionId>,
        request: Request,
        reply: oneshot::Sender<Answer>,
    ) {
        self.next.fetch.extend(sessions);
        self.behind_next.push(Held::Ask { request: Box::new(request), reply });
        self.start();
    }

    /// Whether something was written here already: else it is tried, and asked again behind that, so that what fails costs
    /// nothing yet.
    pub(super) const fn is_proved(&self) -> bool {
        self.has_machine
    }

    /// See [`Self::is_proved`].
    pub(super) fn prove(&mut self, request: Request, reply: oneshot::Sender<Answer>) {
        self.need_machine();
        self.behind_next.push(Held::Ask { request: Box::new(request), reply });
        self.start();
    }

    pub(super) fn stand(&self, session: SessionId) -> Stand {
        if self.next.changes.contains_key(&session) || self.next.forget.contains(&session) {
            Stand::Next
        } else if self.running.as_ref().is_some_and(|running| running.contains(&session)) {
            Stand::Running
        } else {
            Stand::Written
        }
    }

    /// Holds it back where something of its session, or without one of any, is not on disk yet; else it is given back.
    pub(super) fn hold(&mut self, session: Option<SessionId>, held: Held) -> Option<Held> {
        let stand = match session {
            Some(session) => self.stand(session),
            None if !self.next.is_empty() => Stand::Next,
            None if self.running.is_some() => Stand::Running,
            None => Stand::Written,
        };
        match stand {
            Stand::Written => return Some(held),
            Stand::Running => self.behind_running.push(held),
            Stand::Next => self.behind_next.push(held),
        }
        None
    }

    /// What comes back from the disk next; nothing where nothing is on its way.
    pub(super) async fn done(&mut self) -> Option<Result<Done, JoinError>> {
        self.jobs.join_next().await
    }

    /// Whether nothing is on its way to the disk.
    pub(super) const fn is_idle(&self) -> bool {
        self.running.is_none()
    }

    /// What was held back behind this batch is free, or, where it was not written, undone.
    pub(super) fn finish(&mut self, done: Done) -> Outcome {
        let Done { store, sessions, fetched, result } = done;
        (self.store, self.running) = (store, None);
        let held = mem::take(&mut self.behind_running);
        let outcome = match result {
            Ok(Read { known, over, rows }) => {
                self.disk.is_now(known, over);
                let awake = |(id, rows)| (id, rows, self.resting.get(&id).map(|(_, attempt)| *attempt));
                let read = rows.into_iter().map(awake).collect();
                self.resting.retain(|session, _| !fetched.contains(session));
                Outcome { read, undone: BTreeSet::new(), written: sessions, released: held }
            }
            Err(error) => {
                tracing::warn!(%error, "what is kept could not be written");
                self.has_machine = false;
                for session in &sessions {
                    self.next.changes.remove(session);
                    self.next.forget.remove(session);
                }
                if !self.next.changes.is_empty() {
                    self.need_machine();
                }
                let trouble = Trouble::new(Code::PairStore, error.to_string());
                let mut released = undo(held, &sessions, &trouble, true);
                let waiting = undo(mem::take(&mut self.behind_next), &sessions, &trouble, false);
                self.behind_next = waiting;
                // Whoever waits for nothing any more is answered.
                if self.next.is_empty() {
                    released.append(&mut self.behind_next);
                }
                Outcome { read: Vec::new(), undone: sessions, written: BTreeSet::new(), released }
            }
        };
        self.start();
        outcome
    }

    /// Closes the file, which goes if nothing is in it, when what is being written is: another process may have it then.
    pub(super) async fn close(mut self) {
        while let Some(done) = self.jobs.join_next().await {
            match done {
                Ok(Done { store, result, .. }) => {
                    self.store = store;
                    if let Err(error) = result {
                        tracing::warn!(%error, "what is kept could not be written");
                    }
                }
                Err(error) => tracing::error!(%error, "what is kept was left while it was written"),
            }
        }
        if let Some(Err(error)) = self.store.map(Store::close) {
            tracing::warn!(%error, "what is kept was not closed");
        }
    }

    fn need_machine(&mut self) {
        if !self.has_machine {
            self.has_machine = true;
            self.next.machine = Some(self.machine.clone());
        }
    }

    fn start(&mut self) {
        if self.running.is_some() || self.next.is_empty() {
            return;
        }
        let (batch, store, path) = (mem::take(&mut self.next), self.store.take(), self.path.clone());
        self.behind_running = mem::take(&mut self.behind_next);
        self.running = Some(batch.changes.keys().chain(&batch.forget).copied().collect());
        self.jobs.spawn_blocking(move || run(&batch, store, &path));
    }
}

impl OnDisk {
    /// As the disk says. What was set aside is so until it is gone.
    fn is_now(&mut self, known: BTreeSet<SessionId>, over: Vec<SessionId>) {
        (self.known, self.over) = (known, over);
        self.unreadable.retain(|session, _| self.known.contains(session));
        self.over.retain(|session| !self.unreadable.contains_key(session));
    }

    pub(super) fn set_aside(&mut self, session: SessionId, why: Unreadable) {
        self.over.retain(|over| *over != session);
        self.unreadable.insert(session, why);
    }
}

/// Writes a batch, and reads what was asked for.
fn run(batch: &Batch, store: Option<Store>, path: &Path) -> Done {
    let sessions = batch.changes.keys().chain(&batch.forget).copied().collect();
    let fetched = batch.fetch.clone();
    match store.map_or_else(|| Store::open(path), Ok) {
        Ok(mut store) => {
            let result = written(&mut store, batch, super::wall());
            Done { store: Some(store), sessions, fetched, result }
        }
        Err(error) => Done { store: None, sessions, fetched, result: Err(error) },
    }
}

fn written(store: &mut Store, batch: &Batch, now: u64) -> Result<Read, StoreError> {
    if batch.writes() {
        store.write(batch, now)?;
    }
    let mut rows = Vec::new();
    for session in &batch.fetch {
        if let Some(found) = store.read(*session)? {
            rows.push((*session, found));
        }
    }
    let over = store.sessions(true)?;
    let known = store.sessions(false)?.into_iter().chain(over.iter().copied()).collect();
    Ok(Read { known, over, rows })
}

/// What is left of what waited where these sessions were not written: no message of theirs, and for clients that they were
/// not. `all` says that also who waits for another thing waited for this batch.
fn undo(held: Vec<Held>, sessions: &BTreeSet<SessionId>, trouble: &Trouble, all: bool) -> Vec<Held> {
    let undone = |held: Held| match held {
        Held::Message { session, .. } | Held::Grant { session: Some(session), .. }
            if sessions.contains(&session) =>
        {
            None
        }
        Held::Reply { answer: Ok(answer), reply } if is_of(&answer, sessions) => {
            Some(Held::Reply { answer: Err(trouble.clone()), reply })
        }
        Held::Ask { reply, .. } if all => Some(Held::Reply { answer: Err(trouble.clone()), reply }),
        other @ (Held::Message { .. } | Held::Reply { .. } | Held::Grant { .. } | Held::Ask { .. }) => {
            Some(other)
        }
    };
    held.into_iter().filter_map(undone).collect()
}

/// Whether an answer tells of one of these.
fn is_of(answer: &Value, sessions: &BTreeSet<SessionId>) -> bool {
    let tells = |value: &Value| {
        value["session"].as_str().is_some_and(|id| sessions.iter().any(|session| session.to_string() == id))
    };
    tells(answer) || answer["sessions"].as_array().is_some_and(|all| all.iter().any(tells))
}

#[cfg(test)]
impl Keeper {
    pub(super) fn machine(&self) -> Zeroizing<Vec<u8>> {
        self.machine.clone()
    }

    /// As a disk that is full.
    pub(super) fn refuse_writes(&self, refuse: bool) {
        self.store.as_ref().expect("nothing is on its way").refuse_writes(refuse);
    }
}

#[cfg(test)]
mod tests;
