//! The latest exchanges, within their bounds.

use std::collections::VecDeque;

use memchr::memmem;

use super::{
    Keep,
    exchange::{Body, Exchange, Header, ResponseHead, Trouble},
};

/// Bytes of a body that are searched.
const SEARCHED: usize = 64 * 1024;

/// Which exchanges are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Only those that changed after this change.
    pub after: u64,
    /// Only those with this text in their method, target, status, headers or bodies; capitals do not matter outside of
    /// bodies.
    pub text: String,
    /// At most so many, if it is not 0.
    pub limit: usize,
}

/// See the [module documentation](self).
#[derive(Debug)]
pub(super) struct Store {
    keep: Keep,
    /// By id, without gaps.
    exchanges: VecDeque<Exchange>,
    bytes: usize,
    last: u64,
    version: u64,
    /// Ended, and not yet announced.
    ended: Vec<u64>,
}

impl Store {
    pub(super) const fn new(keep: Keep) -> Self {
        Self { keep, exchanges: VecDeque::new(), bytes: 0, last: 0, version: 0, ended: Vec::new() }
    }

    /// Takes an exchange in, and gives it its number.
    pub(super) fn open(&mut self, mut exchange: Exchange) -> u64 {
        self.last += 1;
        self.version += 1;
        (exchange.id, exchange.version) = (self.last, self.version);
        self.bytes += exchange.size();
        self.exchanges.push_back(exchange);
        self.make_room();
        self.last
    }

    /// The final answer's head.
    pub(super) fn answer(&mut self, id: u64, head: ResponseHead, at: u64, upgraded: bool) {
        self.change(id, |exchange, _| {
            exchange.response = Some(head);
            exchange.answered = Some(at);
            exchange.upgraded = upgraded;
        });
    }

    /// Bytes of a body.
    pub(super) fn grow(&mut self, id: u64, body: fn(&mut Exchange) -> &mut Body, bytes: &[u8]) {
        self.change(id, |exchange, keep| body(exchange).push(bytes, keep.body));
    }

    /// Bytes of a body that nobody saw.
    pub(super) fn count(&mut self, id: u64, body: fn(&mut Exchange) -> &mut Body, count: u64) {
        self.change(id, |exchange, _| body(exchange).length += count);
    }

    /// The exchange is over.
    pub(super) fn end(&mut self, id: u64, trouble: Option<Trouble>, at: u64) {
        self.change(id, |exchange, _| {
            exchange.ended = Some(at);
            exchange.trouble = trouble;
        });
        self.ended.push(id);
    }

    /// Those that ended since this was asked last, without their bodies.
    pub(super) fn take_ended(&mut self) -> Vec<Exchange> {
        let ended = std::mem::take(&mut self.ended);
        ended.into_iter().filter_map(|id| self.get(id).map(without_bodies)).collect()
    }

    /// The number of the last change.
    pub(super) const fn version(&self) -> u64 {
        self.version
    }

    /// Whether no more of a body is kept.
    pub(super) fn is_full(&self, id: u64, body: fn(&Exchange) -> &Body) -> bool {
        self.get(id).is_none_or(|exchange| body(exchange).kept.len() >= self.keep.body)
    }

    /// The number of the oldest, or of the next one.
    pub(super) fn oldest(&self) -> u64 {
        self.exchanges.front().map_or(self.last + 1, |exchange| exchange.id)
    }

    pub(super) fn get(&self, id: u64) -> Option<&Exchange> {
        self.exchanges.get(self.index(id)?)
    }

    /// The latest first.
    pub(super) fn find(&self, query: &Query) -> Vec<Exchange> {
        let limit = if query.limit == 0 { usize::MAX } else { query.limit };
        let lower = query.text.to_ascii_lowercase();
        let wanted = |exchange: &&Exchange| {
            exchange.version > query.after && (lower.is_empty() || has(exchange, &query.text, &lower))
        };
        self.exchanges.iter().rev().filter(wanted).take(limit).map(without_bodies).collect()
    }

    /// The latest exchange of a connection.
    pub(super) fn of_line(&self, line: u64) -> Option<u64> {
        self.exchanges.iter().rev().find(|exchange| exchange.line == line).map(|exchange| exchange.id)
    }

    /// Forgets what has ended before the first that has not.
    pub(super) fn clear(&mut self) {
        while self.exchanges.front().is_some_and(|exchange| exchange.ended.is_some()) {
            self.forget_oldest();
        }
    }

    fn change(&mut self, id: u64, change: impl FnOnce(&mut Exchange, Keep)) {
        let (keep, version) = (self.keep, self.version + 1);
        let Some(exchange) = self.index(id).and_then(|index| self.exchanges.get_mut(index)) else { return };
        let before = exchange.size();
        change(exchange, keep);
        exchange.version = version;
        self.version = version;
        self.bytes = self.bytes - before + exchange.size();
        self.make_room();
    }

    fn index(&self, id: u64) -> Option<usize> {
        usize::try_from(id.checked_sub(self.exchanges.front()?.id)?).ok()
    }

    fn make_room(&mut self) {
        while self.exchanges.len() > self.keep.exchanges || self.bytes > self.keep.total {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.exchanges.pop_front() {
            self.bytes -= oldest.size();
        }
    }
}

/// For lists, which need no bodies but their lengths.
fn without_bodies(exchange: &Exchange) -> Exchange {
    let counted = |body: &Body| Body { kept: Vec::new(), length: body.length };
    Exchange {
        id: exchange.id,
        started: exchange.started,
        ended: exchange.ended,
        request: exchange.request.clone(),
        request_body: counted(&exchange.request_body),
        response: exchange.response.clone(),
        answered: exchange.answered,
        response_body: counted(&exchange.response_body),
        upgraded: exchange.upgraded,
        trouble: exchange.trouble,
        replay_of: exchange.replay_of,
        line: exchange.line,
        version: exchange.version,
    }
}

fn has(exchange: &Exchange, text: &str, lower: &str) -> bool {
    let in_text = |text: &str| text.to_ascii_lowercase().contains(lower);
    let in_headers = |headers: &[Header]| {
        headers.iter().any(|header| in_text(&header.name) || in_text(&String::from_utf8_lossy(&header.value)))
    };
    let in_body = |body: &Body| {
        let searched = &body.kept[..body.kept.len().min(SEARCHED)];
        memmem::find(searched, text.as_bytes()).is_some()
    };
    in_text(&format!("{} {}", exchange.method(), exchange.target()))
        || exchange.status().is_some_and(|status| status.to_string() == lower)
        || exchange.request.as_ref().is_some_and(|head| in_headers(&head.headers))
        || exchange.response.as_ref().is_some_and(|head| in_headers(&head.headers))
        || in_body(&exchange.request_body)
        || in_body(&exchange.response_body)
}
