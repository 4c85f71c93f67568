//! What waits to be sent on one link: bounded in number and in bytes, and ended with the link.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::limits;

/// Messages for a peer that does not read. One that lets them fill is cut off, and comes back.
const MESSAGES: usize = 512;
/// Their bytes: a window of the largest entries, and what is said besides.
const BYTES: usize = (limits::WINDOW as usize + 16) * limits::MESSAGE;

/// The owner's end of a link. The link ends when this is dropped.
pub(super) struct Outbound {
    messages: mpsc::Sender<Queued>,
    room: Arc<Semaphore>,
    _ended: DropGuard,
}

/// The link's end.
pub(super) struct Queue {
    messages: mpsc::Receiver<Queued>,
    pub(super) ended: CancellationToken,
}

/// A message, and the room that it takes until it is dropped.
pub(super) struct Queued {
    pub(super) bytes: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

pub(super) fn queue() -> (Outbound, Queue) {
    let (sender, messages) = mpsc::channel(MESSAGES);
    let ended = CancellationToken::new();
    let outbound = Outbound {
        messages: sender,
        room: Arc::new(Semaphore::new(BYTES)),
        _ended: ended.clone().drop_guard(),
    };
    (outbound, Queue { messages, ended })
}

impl Outbound {
    /// Whether there was room for it.
    pub(super) fn send(&self, bytes: Vec<u8>) -> bool {
        let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).try_acquire_many_owned(size);
        room.is_ok_and(|room| self.messages.try_send(Queued { bytes, _room: room }).is_ok())
    }
}

impl Queue {
    /// The next message; nothing behind the last, once the owner has ended the link.
    pub(super) async fn next(&mut self) -> Option<Queued> {
        self.messages.recv().await
    }

    /// The next that is there already.
    pub(super) fn try_next(&mut self) -> Option<Queued> {
        self.messages.try_recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_bounded_in_number_and_in_bytes() {
        let (outbound, _queue) = queue();
        assert_eq!((0..).take_while(|_| outbound.send(vec![0])).count(), MESSAGES);
        let (outbound, mut queue) = queue_of_large();
        assert!(!outbound.send(vec![0; limits::MESSAGE]));
        assert!(queue.messages.try_recv().is_ok());
        assert!(outbound.send(vec![0; limits::MESSAGE]));
    }

    fn queue_of_large() -> (Outbound, Queue) {
        let (outbound, queue) = queue();
        let sent = (0..MESSAGES).take_while(|_| outbound.send(vec![0; limits::MESSAGE])).count();
        assert_eq!(sent, BYTES / limits::MESSAGE);
        (outbound, queue)
    }
}
