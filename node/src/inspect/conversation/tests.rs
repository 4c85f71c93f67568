use super::*;
use crate::inspect::Keep;

const KEEP: Keep = Keep { exchanges: 10, total: 1 << 20, body: 100 };

/// A pipe under a recorder's eyes; time is the number of the piece.
struct Pipe {
    conversation: Conversation,
    store: Store,
    places: [u64; 2],
    at: u64,
}

impl Pipe {
    fn new() -> Self {
        let mut pipe =
            Self { conversation: Conversation::new(1, None), store: Store::new(KEEP), places: [0; 2], at: 0 };
        pipe.down(&[PipeStatus::Connected as u8]);
        pipe
    }

    fn up(&mut self, bytes: &[u8]) -> &mut Self {
        self.at += 1;
        self.conversation.up(Piece { bytes, place: self.places[0], at: self.at }, &mut self.store);
        self.places[0] += bytes.len() as u64;
        self
    }

    fn down(&mut self, bytes: &[u8]) -> &mut Self {
        self.at += 1;
        self.conversation.down(Piece { bytes, place: self.places[1], at: self.at }, &mut self.store);
        self.places[1] += bytes.len() as u64;
        self
    }

    fn ended(&mut self) -> Vec<Exchange> {
        self.at += 1;
        self.conversation.end(self.places[0], self.places[1], self.at, &mut self.store);
        (1..=10).filter_map(|id| self.store.get(id).cloned()).collect()
    }
}

#[test]
fn requests_of_a_kept_connection_are_told_apart() {
    let mut pipe = Pipe::new();
    pipe.up(b"POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nab").up(b"c");
    pipe.down(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\nok");
    pipe.up(b"HEAD /b HTTP/1.1\r\n\r\n").down(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n");
    pipe.up(b"GET /c HTTP/1.1\r\n\r\n").down(b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n");
    let all = pipe.ended();
    let seen: Vec<_> =
        all.iter().map(|one| (one.method(), one.target(), one.status(), one.trouble)).collect();
    let expected = [("POST", "/a", Some(201)), ("HEAD", "/b", Some(200)), ("GET", "/c", Some(304))];
    assert_eq!(seen, expected.map(|(method, target, status)| (method, target, status, None)));
    assert_eq!((&*all[0].request_body.kept, &*all[0].response_body.kept), (&b"abc"[..], &b"ok"[..]));
    assert!(all.iter().all(|one| one.ended.is_some()));
}

#[test]
fn an_answer_without_a_length_ends_with_the_connection() {
    let mut pipe = Pipe::new();
    pipe.up(b"GET / HTTP/1.1\r\n\r\n").down(b"HTTP/1.1 200 OK\r\n\r\nsome").down(b" more");
    let all = pipe.ended();
    assert_eq!((all[0].trouble, &*all[0].response_body.kept), (None, &b"some more"[..]));
}

#[test]
fn an_answer_that_is_cut_says_so() {
    let mut pipe = Pipe::new();
    pipe.up(b"GET / HTTP/1.1\r\n\r\n").down(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nsome");
    assert_eq!(pipe.ended()[0].trouble, Some(Trouble::Cut));
    let mut silent = Pipe::new();
    silent.up(b"GET / HTTP/1.1\r\n\r\n");
    let all = silent.ended();
    assert_eq!((all.len(), all[0].trouble, all[0].status()), (1, Some(Trouble::Cut), None));
}

#[test]
fn what_follows_an_upgrade_is_counted_only() {
    let mut pipe = Pipe::new();
    pipe.up(b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n");
    pipe.down(b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x00").up(b"GET / HTTP/1.1\r\n\r\n");
    let all = pipe.ended();
    assert_eq!(all.len(), 1);
    assert!(all[0].upgraded && all[0].trouble.is_none());
    assert_eq!((all[0].request_body.length, all[0].response_body.length), (18, 2));
}

#[test]
fn a_target_that_is_down_is_told() {
    let mut store = Store::new(KEEP);
    let mut conversation = Conversation::new(1, None);
    conversation.up(Piece { bytes: b"GET /a HTTP/1.1\r\n\r\n", place: 0, at: 1 }, &mut store);
    let status = [PipeStatus::TargetUnreachable as u8];
    conversation.down(Piece { bytes: &status, place: 0, at: 2 }, &mut store);
    conversation.end(18, 1, 3, &mut store);
    let all = store.find(&crate::inspect::Query::default());
    assert_eq!((all.len(), all[0].target(), all[0].trouble), (1, "/a", Some(Trouble::Unreachable)));
}

#[test]
fn another_protocol_is_one_exchange_and_disturbs_nothing() {
    let mut pipe = Pipe::new();
    pipe.up(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").down(b"\0\0\0\x04").up(b"GET / HTTP/1.1\r\n\r\n");
    let all = pipe.ended();
    assert_eq!((all.len(), all[0].trouble), (1, Some(Trouble::Http2)));
    let mut silent = Pipe::new();
    silent.up(b"\x16\x03");
    assert_eq!(silent.ended()[0].trouble, Some(Trouble::NotHttp));
    assert_eq!(Pipe::new().ended(), [], "a pipe that was not used is no exchange");
}

#[test]
fn a_body_that_is_not_kept_needs_no_copy_and_is_counted() {
    let mut pipe = Pipe::new();
    pipe.up(b"GET / HTTP/1.1\r\n\r\n");
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n";
    pipe.down(head).down(&[b'x'; 100]);
    let (up, down) = pipe.conversation.needless(&pipe.store);
    assert_eq!((up, down), (18, 1 + head.len() as u64 + 999), "all but the last byte");
    pipe.places[1] = down;
    pipe.down(b"x").up(b"GET /b HTTP/1.1\r\n\r\n").down(b"HTTP/1.1 204 No Content\r\n\r\n");
    let all = pipe.ended();
    assert_eq!((all[0].response_body.length, all[0].response_body.kept.len()), (1000, 100));
    assert_eq!((all[0].trouble, all[1].status()), (None, Some(204)));
}

#[test]
fn a_gap_in_a_head_ends_the_record() {
    let mut pipe = Pipe::new();
    pipe.up(b"GET /a HT");
    pipe.places[0] += 5;
    pipe.up(b"\r\n\r\nGET /b HTTP/1.1\r\n\r\n").down(b"HTTP/1.1 200 OK\r\n\r\n");
    let all = pipe.ended();
    assert_eq!((all.len(), all[0].trouble), (1, Some(Trouble::Behind)));
}

#[test]
fn what_is_kept_is_bounded_and_the_oldest_goes_first() {
    let mut pipe = Pipe::new();
    for number in 0..25 {
        pipe.up(format!("GET /{number} HTTP/1.1\r\n\r\n").as_bytes());
        pipe.down(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    }
    let all = pipe.store.find(&crate::inspect::Query::default());
    assert_eq!((all.len(), all[0].target(), all[9].target()), (10, "/24", "/15"));
    let found = pipe.store.find(&crate::inspect::Query { text: "get /2".to_owned(), ..Default::default() });
    assert_eq!(found.len(), 5);
    let newest = crate::inspect::Query { after: all[1].version, ..Default::default() };
    assert_eq!(pipe.store.find(&newest).len(), 1);

    let mut store = Store::new(Keep { total: 2000, body: 1 << 20, ..KEEP });
    for _ in 0..5 {
        let id = store.open(Exchange::default());
        store.grow(id, |exchange| &mut exchange.request_body, &[0; 900]);
    }
    assert_eq!(store.find(&crate::inspect::Query::default()).len(), 1, "of 1,156 bytes each");
}
