//! One pipe's requests and answers, written into the [`Store`] as they pass.

use std::collections::VecDeque;

use super::{
    exchange::{Exchange, RequestHead, ResponseHead, Trouble},
    message::{Framing, Part, Way},
    store::Store,
};
use mytunnel_keys::wire::PipeStatus;

/// Requests that may wait for their answers at a time; relays send one after the other.
const PIPELINED: usize = 64;

/// See the [module documentation](self).
#[derive(Debug)]
pub(super) struct Conversation {
    line: u64,
    replay_of: Option<u64>,
    up: Way,
    down: Way,
    /// The next bytes' places in their streams.
    up_at: u64,
    down_at: u64,
    /// The node's own answer to the relay came, which is the first byte of the way down.
    greeted: bool,
    /// Requests without a complete answer, the oldest first.
    waiting: VecDeque<Waiting>,
    /// Whose body is on its way up.
    sending: Option<u64>,
    standing: Standing,
}

#[derive(Debug)]
struct Waiting {
    id: u64,
    method: String,
    /// Its answer's body is on its way.
    answering: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Nothing was recorded.
    New,
    Http,
    /// Both ways are another protocol's.
    Upgraded,
    /// It cannot be followed any more.
    Lost,
}

/// A stretch of one direction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece<'a> {
    pub(super) bytes: &'a [u8],
    /// Its place in the stream; what lies between is body that was not copied.
    pub(super) place: u64,
    /// When it passed.
    pub(super) at: u64,
}

impl Conversation {
    pub(super) fn new(line: u64, replay_of: Option<u64>) -> Self {
        Self {
            line,
            replay_of,
            up: Way::new(),
            down: Way::new(),
            up_at: 0,
            down_at: 0,
            greeted: false,
            waiting: VecDeque::new(),
            sending: None,
            standing: Standing::New,
        }
    }

    /// Bytes passed towards the target.
    pub(super) fn up(&mut self, piece: Piece<'_>, store: &mut Store) {
        if self.standing == Standing::Lost {
            return;
        }
        let gap = piece.place.saturating_sub(self.up_at);
        self.up_at = piece.place + piece.bytes.len() as u64;
        if gap > 0 {
            if !self.up.skip(gap) {
                return self.lose(Trouble::Behind, piece.at, store);
            }
            self.count_up(gap, store);
        }
        if let Err(trouble) = self.read_up(piece, store) {
            self.lose(trouble, piece.at, store);
        }
    }

    /// Bytes passed towards the visitor.
    pub(super) fn down(&mut self, mut piece: Piece<'_>, store: &mut Store) {
        if self.standing == Standing::Lost {
            return;
        }
        let gap = piece.place.saturating_sub(self.down_at);
        self.down_at = piece.place + piece.bytes.len() as u64;
        if gap > 0 {
            if !self.down.skip(gap) {
                return self.lose(Trouble::Behind, piece.at, store);
            }
            self.count_down(gap, store);
        }
        if !self.greeted
            && let Some((&status, rest)) = piece.bytes.split_first()
        {
            self.greeted = true;
            piece.bytes = rest;
            if status != PipeStatus::Connected as u8 {
                return self.lose(Trouble::Unreachable, piece.at, store);
            }
        }
        if let Err(trouble) = self.read_down(piece, store) {
            self.lose(trouble, piece.at, store);
        }
    }

    /// The pipe is gone, after so many bytes each way.
    pub(super) fn end(&mut self, up: u64, down: u64, at: u64, store: &mut Store) {
        if self.standing == Standing::Lost {
            return;
        }
        let gaps = (up.saturating_sub(self.up_at), down.saturating_sub(self.down_at));
        if gaps.0 > 0 && self.up.skip(gaps.0) {
            self.count_up(gaps.0, store);
        }
        if gaps.1 > 0 && self.down.skip(gaps.1) {
            self.count_down(gaps.1, store);
        }
        if self.down.may_end() {
            self.answered(at, store);
        }
        let unread = self.standing == Standing::New && up > 0;
        self.lose(if unread { Trouble::NotHttp } else { Trouble::Cut }, at, store);
    }

    /// Nothing more is recorded; what was under way says why.
    pub(super) fn lose(&mut self, trouble: Trouble, at: u64, store: &mut Store) {
        if self.standing == Standing::Lost {
            return;
        }
        let silent = trouble == Trouble::Cut;
        if self.waiting.is_empty() && !silent {
            let (line, replay_of) = (self.line, self.replay_of);
            let id = store.open(Exchange { started: at, line, replay_of, ..Exchange::default() });
            store.end(id, Some(trouble), at);
        }
        for waiting in self.waiting.drain(..) {
            store.end(waiting.id, Some(trouble), at);
        }
        self.standing = Standing::Lost;
        (self.up, self.down) = (Way::new(), Way::new());
    }

    /// Up to which places in their streams the bytes of both ways need not be copied: they are body, and no more of it
    /// is kept.
    pub(super) fn needless(&self, store: &Store) -> (u64, u64) {
        if self.standing == Standing::Lost {
            return (u64::MAX, u64::MAX);
        }
        let up = self.sending.is_none_or(|id| store.is_full(id, |exchange| &exchange.request_body));
        let answering = self.waiting.front().filter(|waiting| waiting.answering);
        let down =
            answering.is_some_and(|waiting| store.is_full(waiting.id, |exchange| &exchange.response_body));
        (
            if up { self.up_at.saturating_add(self.up.certain()) } else { 0 },
            if down { self.down_at.saturating_add(self.down.certain()) } else { 0 },
        )
    }

    fn read_up(&mut self, piece: Piece<'_>, store: &mut Store) -> Result<(), Trouble> {
        let mut bytes = piece.bytes;
        while let Some(part) = self.up.next::<RequestHead>(&mut bytes)? {
            match part {
                Part::Head(head) => {
                    if self.waiting.len() == PIPELINED {
                        return Err(Trouble::Behind);
                    }
                    let framing = Framing::of_request(&head);
                    let method = head.method.clone();
                    let id = store.open(Exchange {
                        started: piece.at,
                        request: Some(head),
                        line: self.line,
                        replay_of: self.replay_of,
                        ..Exchange::default()
                    });
                    self.waiting.push_back(Waiting { id, method, answering: false });
                    self.sending = Some(id);
                    self.standing = Standing::Http;
                    self.up.begin(framing?);
                }
                Part::Body(data) => {
                    if let Some(id) = self.sending {
                        store.grow(id, |exchange| &mut exchange.request_body, data);
                    }
                }
                Part::End => self.sending = None,
            }
        }
        Ok(())
    }

    fn read_down(&mut self, piece: Piece<'_>, store: &mut Store) -> Result<(), Trouble> {
        let mut bytes = piece.bytes;
        while let Some(part) = self.down.next::<ResponseHead>(&mut bytes)? {
            match part {
                Part::Head(head) => self.answer(head, piece.at, store)?,
                Part::Body(data) => {
                    if let Some(waiting) = self.waiting.front() {
                        store.grow(waiting.id, |exchange| &mut exchange.response_body, data);
                    }
                }
                Part::End => self.answered(piece.at, store),
            }
        }
        Ok(())
    }

    /// The oldest request's answer is complete; an interim one completes nothing.
    fn answered(&mut self, at: u64, store: &mut Store) {
        if self.waiting.front().is_some_and(|waiting| waiting.answering)
            && let Some(done) = self.waiting.pop_front()
        {
            store.end(done.id, None, at);
        }
    }

    fn answer(&mut self, head: ResponseHead, at: u64, store: &mut Store) -> Result<(), Trouble> {
        // An answer that nobody asked for, as servers send before they close.
        let Some(waiting) = self.waiting.front_mut() else { return Err(Trouble::Cut) };
        let framing = Framing::of_response(&head, &waiting.method)?;
        let interim = (100..=199).contains(&head.status) && framing != Framing::Tunnel;
        if interim {
            self.down.begin(framing);
            return Ok(());
        }
        waiting.answering = true;
        let upgraded = framing == Framing::Tunnel;
        store.answer(waiting.id, head, at, upgraded);
        self.down.begin(framing);
        if upgraded {
            self.standing = Standing::Upgraded;
            self.sending = Some(waiting.id);
            self.up.begin(Framing::Tunnel);
        }
        Ok(())
    }

    fn count_up(&mut self, count: u64, store: &mut Store) {
        if let Some(id) = self.sending {
            store.count(id, |exchange| &mut exchange.request_body, count);
        }
    }

    fn count_down(&mut self, count: u64, store: &mut Store) {
        if let Some(waiting) = self.waiting.front() {
            store.count(waiting.id, |exchange| &mut exchange.response_body, count);
        }
    }
}

#[cfg(test)]
mod tests;
