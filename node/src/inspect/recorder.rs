//! The one task that reads what the taps copied.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, atomic::Ordering},
};

use tokio::sync::mpsc;

use super::{
    Shared,
    conversation::{Conversation, Piece},
    exchange::Trouble,
    store::Store,
    tap::{Direction, Kind, Line, Message, What},
};

/// Messages that are read under one lock.
const BATCH: usize = 64;

/// Puts the copies together. One line of it at a time, and never on a visitor's way.
#[derive(Debug)]
pub struct Recorder {
    shared: Arc<Shared>,
    queue: mpsc::Receiver<Message>,
    lines: HashMap<u64, (Arc<Line>, Conversation)>,
}

impl Recorder {
    pub(super) fn new(shared: Arc<Shared>, queue: mpsc::Receiver<Message>) -> Self {
        Self { shared, queue, lines: HashMap::new() }
    }

    /// Works until it is dropped.
    pub async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        while self.queue.recv_many(&mut batch, BATCH).await > 0 {
            let shared = Arc::clone(&self.shared);
            let mut store = shared.store.lock().unwrap_or_else(PoisonError::into_inner);
            for message in batch.drain(..) {
                self.take(message, &mut store);
            }
            if shared.inlet.overflowed.swap(false, Ordering::Relaxed) {
                self.sweep(&mut store);
            }
            let (ended, version) = (store.take_ended(), store.version());
            drop(store);
            for exchange in ended {
                // Nobody needs to listen.
                let _ = shared.ended.send(Arc::new(exchange));
            }
            shared.version.send_replace(version);
        }
    }

    fn take(&mut self, Message { line, at, what }: Message, store: &mut Store) {
        match what {
            What::Passed { way, place, bytes } => {
                let (line, conversation) =
                    self.lines.entry(line.id).or_insert_with(|| (Arc::clone(&line), begun(&line)));
                let piece = Piece { bytes: &bytes, place, at };
                match way {
                    Direction::Up => conversation.up(piece, store),
                    Direction::Down => conversation.down(piece, store),
                }
                line.set_needless(conversation.needless(store));
            }
            What::Ended => {
                if let Some((line, mut conversation)) = self.lines.remove(&line.id) {
                    finish(&line, &mut conversation, at, store);
                }
            }
        }
    }

    /// A message was lost: the lines themselves tell what became of them.
    fn sweep(&mut self, store: &mut Store) {
        let at = self.shared.inlet.clock.now();
        self.lines.retain(|_, (line, conversation)| {
            if line.is_lost() {
                conversation.lose(Trouble::Behind, at, store);
            }
            !line.has_ended()
        });
    }
}

fn begun(line: &Line) -> Conversation {
    let replay_of = match line.kind {
        Kind::Visit => None,
        Kind::Replay { of } => Some(of),
    };
    Conversation::new(line.id, replay_of)
}

fn finish(line: &Line, conversation: &mut Conversation, at: u64, store: &mut Store) {
    if line.is_lost() {
        return conversation.lose(Trouble::Behind, at, store);
    }
    let (up, down) = line.totals();
    conversation.end(up, down, at, store);
}
