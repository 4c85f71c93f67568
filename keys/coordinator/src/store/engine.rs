//! Threads that own the database connections.
//!
//! One writer thread owns the only connection that writes. Operations queue up in a bounded channel; whatever
//! waits when a transaction starts goes into it together (group commit), each operation under a savepoint of
//! its own, and nobody hears of success before the commit has reached the disk. Reader threads own a
//! connection each and see the last commit. Where several coordinators share a server, one more thread writes what they
//! tell each other, beside the writer.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};

use super::siblings::CoordinatorId;
use super::sql::{Reading, Session, Writing};
use super::{Head, StoreError, postgres};
use crate::data_dir::DataDir;

/// Operations that may wait for the writer; a caller beyond it waits for a place.
pub(super) const QUEUE: usize = 1024;
/// Operations in one transaction: enough to share one sync of the disk among many, few enough that the first
/// of them does not wait long.
const BATCH: usize = 256;
/// A transaction takes nothing more in after that time: a revocation may be waiting behind it.
const FULL_AFTER: Duration = Duration::from_millis(3);

/// Called after the commit, or after it failed.
type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;
type ReadJob = Box<dyn FnOnce(Result<&Reading<'_>, StoreError>) + Send>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Yes,
    No,
}

/// One queued operation.
trait WriteJob: Send {
    /// Runs under a savepoint; says whether to keep what it wrote.
    fn run(self: Box<Self>, writing: &Writing<'_>) -> (Keep, Answer);
    /// Answers without running.
    fn refuse(self: Box<Self>, why: StoreError);
}

struct Operation<F, T, E> {
    operation: F,
    answer: oneshot::Sender<Result<T, E>>,
}

impl<F, T, E> WriteJob for Operation<F, T, E>
where
    T: Send + 'static,
    E: From<StoreError> + Send + 'static,
    F: FnOnce(&Writing<'_>) -> Result<T, E> + Send,
{
    fn run(self: Box<Self>, writing: &Writing<'_>) -> (Keep, Answer) {
        let Self { operation, answer } = *self;
        let outcome = operation(writing);
        let keep = if outcome.is_ok() { Keep::Yes } else { Keep::No };
        let settle = move |committed: Result<(), StoreError>| {
            let result = outcome.and_then(|value| committed.map(|()| value).map_err(E::from));
            // A caller that went away does not want the answer; what it asked for is done all the same.
            let _ = answer.send(result);
        };
        (keep, Box::new(settle))
    }

    fn refuse(self: Box<Self>, why: StoreError) {
        let _ = self.answer.send(Err(why.into()));
    }
}

/// A connection of either engine, for the thread that owns it.
#[derive(Debug)]
pub(super) enum Line {
    Sqlite(Connection),
    Postgres(Box<postgres::Line>),
}

impl Line {
    /// Begins a transaction that sees one state of the database.
    fn begin_read(&mut self) -> Result<Reading<'_>, StoreError> {
        self.begin("BEGIN").map(Reading::of)
    }

    /// Begins a transaction that nobody else's writes come between.
    fn begin_write(&mut self) -> Result<Writing<'_>, StoreError> {
        self.begin("BEGIN IMMEDIATE").map(Writing::of)
    }

    fn begin(&mut self, sqlite: &str) -> Result<Session<'_>, StoreError> {
        match self {
            Self::Sqlite(connection) => {
                connection.prepare_cached(sqlite)?.execute([])?;
                Ok(Session::Sqlite(connection))
            }
            Self::Postgres(line) => line.begin(),
        }
    }
}

/// The connections of a store, each on its thread.
#[derive(Debug)]
pub(super) struct Engine {
    /// Where work is put; none once the engine closes.
    queues: RwLock<Option<Queues>>,
    next_reader: AtomicUsize,
    head: watch::Sender<Head>,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Queues {
    writer: mpsc::Sender<Box<dyn WriteJob>>,
    /// Beside the writer; the writer itself where no other coordinator can be.
    aside: mpsc::Sender<Box<dyn WriteJob>>,
    readers: Vec<mpsc::Sender<ReadJob>>,
}

/// What a database needs beyond its writer and readers, where other coordinators may share it.
#[derive(Debug)]
pub(super) struct Sharing {
    pub(super) me: CoordinatorId,
    pub(super) aside: Line,
}

/// What is given up when the engine closes, in this order.
#[derive(Debug, Default)]
struct Held {
    readers: Vec<JoinHandle<()>>,
    aside: Option<JoinHandle<()>>,
    /// Closes last: the last connection to close tidies the write-ahead log, and readers may not write.
    writer: Option<JoinHandle<()>>,
    /// Another process may have the directory only when the threads have ended.
    dir: Option<DataDir>,
}

impl Engine {
    /// Starts the threads. Without readers (a database in memory has one connection only) the writer reads too.
    pub(super) fn start(
        mut writer: Line,
        readers: Vec<Line>,
        sharing: Option<Sharing>,
    ) -> Result<Self, StoreError> {
        let reading = writer.begin_read()?;
        let first = reading.head()?;
        reading.control("COMMIT")?;
        let head = watch::Sender::new(first);
        let mut held = Held::default();
        let mut queues = Vec::new();
        for line in readers {
            let (queue, jobs) = mpsc::channel(QUEUE);
            held.readers.push(spawn("store-reader", move || read_loop(line, jobs))?);
            queues.push(queue);
        }
        let (queue, jobs) = mpsc::channel(QUEUE);
        let (publish, me) = (head.clone(), sharing.as_ref().map(|sharing| sharing.me));
        held.writer = Some(spawn("store-writer", move || write_loop(writer, jobs, &publish, me))?);
        let aside = match sharing {
            None => queue.clone(),
            Some(Sharing { aside, .. }) => {
                let (beside, jobs) = mpsc::channel(QUEUE);
                let publish = head.clone();
                held.aside = Some(spawn("store-aside", move || write_loop(aside, jobs, &publish, None))?);
                beside
            }
        };
        Ok(Self {
            queues: RwLock::new(Some(Queues { writer: queue, aside, readers: queues })),
            next_reader: AtomicUsize::new(0),
            head,
            held: Mutex::new(held),
        })
    }

    /// Keeps the lock of the directory until the engine is closed.
    pub(super) fn hold(&self, dir: DataDir) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).dir = Some(dir);
    }

    /// Does what is queued, takes nothing more, closes the database and gives the directory back. Blocks.
    pub(super) fn close(&self) {
        let queues = self.queues.write().unwrap_or_else(PoisonError::into_inner).take();
        let held = std::mem::take(&mut *self.held.lock().unwrap_or_else(PoisonError::into_inner));
        let writer = queues.map(|Queues { writer, aside, readers }| {
            drop((aside, readers));
            writer
        });
        held.readers.into_iter().chain(held.aside).for_each(join);
        drop(writer);
        held.writer.into_iter().for_each(join);
        drop(held.dir);
    }

    /// The state after the last commit.
    pub(super) fn head(&self) -> watch::Receiver<Head> {
        self.head.subscribe()
    }

    /// Another coordinator may have committed that.
    pub(super) fn learn(&self, head: Head) {
        publish(&self.head, head);
    }

    /// Operations in the queue of the writer.
    pub(super) fn writes_waiting(&self) -> usize {
        self.queue(|queues| Some(queues.writer.max_capacity() - queues.writer.capacity())).unwrap_or(0)
    }

    /// Runs `operation` in a transaction and answers once it is on the disk. An error undoes the operation and
    /// nothing else.
    pub(super) async fn write<T, E, F>(&self, operation: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&Writing<'_>) -> Result<T, E> + Send + 'static,
    {
        put(self.queue(|queues| Some(queues.writer.clone())), operation).await
    }

    /// The same beside the writer, without waiting for its transactions. It may not touch their rows, and a server that
    /// crashes may forget it.
    pub(super) async fn write_aside<T, E, F>(&self, operation: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&Writing<'_>) -> Result<T, E> + Send + 'static,
    {
        put(self.queue(|queues| Some(queues.aside.clone())), operation).await
    }

    /// Runs `query` on one consistent view of the database.
    pub(super) async fn read<T, E, F>(&self, query: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&Reading<'_>) -> Result<T, E> + Send + 'static,
    {
        let turn = self.next_reader.fetch_add(1, Ordering::Relaxed);
        let reader = self.queue(|queues| queues.readers.get(turn % queues.readers.len().max(1)).cloned());
        let Some(reader) = reader else {
            return self.write(move |writing| query(writing)).await;
        };
        let (answer, answered) = oneshot::channel();
        let job: ReadJob = Box::new(move |begun| {
            let _ = answer.send(begun.map_err(E::from).and_then(query));
        });
        reader.send(job).await.map_err(|_| StoreError::Closed)?;
        // The queue must not be held open while the engine waits for it to run dry.
        drop(reader);
        answered.await.map_err(|_| StoreError::Closed)?
    }

    fn queue<Q>(&self, choose: impl FnOnce(&Queues) -> Option<Q>) -> Option<Q> {
        self.queues.read().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(choose)
    }
}

async fn put<T, E, F>(queue: Option<mpsc::Sender<Box<dyn WriteJob>>>, operation: F) -> Result<T, E>
where
    T: Send + 'static,
    E: From<StoreError> + Send + 'static,
    F: FnOnce(&Writing<'_>) -> Result<T, E> + Send + 'static,
{
    let (answer, answered) = oneshot::channel();
    let job = Box::new(Operation { operation, answer });
    let queue = queue.ok_or(StoreError::Closed)?;
    queue.send(job).await.map_err(|_| StoreError::Closed)?;
    // It must not be held open while the engine waits for it to run dry.
    drop(queue);
    answered.await.map_err(|_| StoreError::Closed)?
}

/// Tells a head, unless a later one is known.
fn publish(head: &watch::Sender<Head>, new: Head) {
    head.send_if_modified(|old| {
        let later = new.is_after(old);
        if later {
            *old = new;
        }
        later
    });
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.close();
    }
}

fn join(thread: JoinHandle<()>) {
    if let Err(panic) = thread.join()
        && !thread::panicking()
    {
        resume_unwind(panic);
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    let thread = thread::Builder::new().name(name.to_owned()).spawn(body);
    thread.map_err(|source| StoreError::Thread(Arc::new(source)))
}

fn read_loop(mut line: Line, mut jobs: mpsc::Receiver<ReadJob>) {
    while let Some(job) = jobs.blocking_recv() {
        match line.begin_read() {
            Ok(reading) => {
                job(Ok(&reading));
                if let Err(error) = reading.control("COMMIT") {
                    tracing::error!(%error, "cannot end a read of the database");
                }
            }
            Err(error) => {
                tracing::error!(%error, "cannot read the database");
                job(Err(error));
            }
        }
    }
}

/// `me` tells the other coordinators of what was committed, if there can be any.
fn write_loop(
    mut line: Line,
    mut jobs: mpsc::Receiver<Box<dyn WriteJob>>,
    head: &watch::Sender<Head>,
    me: Option<CoordinatorId>,
) {
    let mut answers = Vec::with_capacity(BATCH);
    while let Some(first) = jobs.blocking_recv() {
        let writing = match line.begin_write() {
            Ok(writing) => writing,
            Err(error) => {
                tracing::error!(%error, "cannot begin a transaction");
                first.refuse(error);
                continue;
            }
        };
        let known = *head.borrow();
        // With others at work the database may be another than before: one that took over and knows less.
        let lost = match me {
            Some(_) => writing.head().map(|now| known.was_lost(&now)),
            None => Ok(false),
        };
        if let Err(error) = lost.and_then(|lost| if lost { Err(StoreError::WentBack) } else { Ok(()) }) {
            tracing::error!(%error, "nothing is written");
            undo(&writing);
            first.refuse(error);
            continue;
        }
        let outcome = transaction(&writing, first, &mut jobs, &mut answers).and_then(|new| {
            match me.filter(|_| new != known) {
                Some(me) => writing.commit_and_tell(me)?,
                None => writing.commit()?,
            }
            publish(head, new);
            Ok(())
        });
        if let Err(error) = &outcome {
            tracing::error!(%error, operations = answers.len(), "a transaction failed and was undone");
            undo(&writing);
        }
        for answer in answers.drain(..) {
            answer(outcome.clone());
        }
    }
}

/// Everything of a transaction but its end; answers where it leaves the head.
fn transaction(
    writing: &Writing<'_>,
    first: Box<dyn WriteJob>,
    jobs: &mut mpsc::Receiver<Box<dyn WriteJob>>,
    answers: &mut Vec<Answer>,
) -> Result<Head, StoreError> {
    let begun = Instant::now();
    let mut next = Some(first);
    while let Some(job) = next {
        run(writing, job, answers)?;
        let room = answers.len() < BATCH && begun.elapsed() < FULL_AFTER;
        next = if room { jobs.try_recv().ok() } else { None };
    }
    writing.head()
}

/// One operation under its savepoint. The error is the transaction's, not the operation's.
fn run(writing: &Writing<'_>, job: Box<dyn WriteJob>, answers: &mut Vec<Answer>) -> Result<(), StoreError> {
    if let Err(error) = writing.control("SAVEPOINT operation") {
        job.refuse(error.clone());
        return Err(error);
    }
    let (keep, answer) = job.run(writing);
    answers.push(answer);
    // A full disk or a failed write makes SQLite undo the whole transaction by itself, a lost connection PostgreSQL.
    if writing.is_undone() {
        return Err(writing.last_fault());
    }
    if keep == Keep::No {
        writing.control("ROLLBACK TO operation")?;
    }
    writing.control("RELEASE operation")
}

fn undo(writing: &Writing<'_>) {
    if !writing.is_undone()
        && let Err(error) = writing.control("ROLLBACK")
    {
        tracing::error!(%error, "cannot roll back");
    }
}
