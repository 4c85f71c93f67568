use proptest::prelude::*;

use super::*;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn scan(bytes: &[u8]) -> Result<Scanner, Objection> {
    let mut scanner = Scanner::new(64 * 1024);
    scanner.scan(bytes).map(|()| scanner)
}

fn post(fields: &str, body: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}").into_bytes()
}

#[test]
fn plain_messages_pass_and_are_counted() {
    let mut all = GET.to_vec();
    all.extend(post("Content-Length: 5\r\n", "hello"));
    all.extend(b"\r\n");
    all.extend(post("Transfer-Encoding: Chunked\r\n", "5;a=b\r\nhello\r\n0\r\nX-T: 1\r\n\r\n"));
    all.extend(post("Content-Length: 0\r\n", ""));
    all.extend(GET);
    let scanner = scan(&all).unwrap();
    assert_eq!(scanner.heads(), 5);
    assert_eq!(scanner.position(), Position::Between);
}

#[test]
fn says_where_it_stands() {
    assert_eq!(scan(b"").unwrap().position(), Position::Between);
    assert_eq!(scan(b"\r\n").unwrap().position(), Position::Between);
    assert_eq!(scan(b"G").unwrap().position(), Position::Head);
    assert_eq!(scan(b"GET / HTTP/1.1\r\nHo").unwrap().position(), Position::Head);
    assert_eq!(scan(&post("Content-Length: 5\r\n", "hell")).unwrap().position(), Position::Body);
    assert_eq!(scan(&post("Transfer-Encoding: chunked\r\n", "0\r\n")).unwrap().position(), Position::Body);
}

#[test]
fn ambiguous_framing_is_objected_to() {
    let both = Objection::LengthAndCoding;
    let corpus = [
        (post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", ""), both),
        (post("Transfer-Encoding: chunked\r\ncontent-length: 5\r\n", ""), both),
        (post("Transfer-Encoding : chunked\r\ncontent-length : 5\r\n", ""), both),
        (post("Content-Length: 5\r\nContent-Length: 5\r\n", ""), Objection::RepeatedLength),
        (post("Content-Length: 5\r\nContent-Length: 6\r\n", ""), Objection::RepeatedLength),
        (post("Content-Length: 5, 5\r\n", ""), Objection::InvalidLength),
        (post("Content-Length: +5\r\n", ""), Objection::InvalidLength),
        (post("Content-Length: -5\r\n", ""), Objection::InvalidLength),
        (post("Content-Length: 0x5\r\n", ""), Objection::InvalidLength),
        (post("Content-Length: 05\r\n", ""), Objection::InvalidLength),
        (post("Content-Length: 00\r\n", ""), Objection::InvalidLength),
        (post("Content-Length:\r\n", ""), Objection::InvalidLength),
        (post("Content-Length: 99999999999999999999\r\n", ""), Objection::InvalidLength),
        (post("Transfer-Encoding: gzip, chunked\r\n", ""), Objection::UnknownCoding),
        (post("Transfer-Encoding: identity\r\n", ""), Objection::UnknownCoding),
        (post("Transfer-Encoding: xchunked\r\n", ""), Objection::UnknownCoding),
        (post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", ""), Objection::UnknownCoding),
        (post("Transfer-Encoding:\r\n chunked\r\n", ""), Objection::UnknownCoding),
        (post("X: a\r\n b\r\n", ""), Objection::Folded),
        (b"GET / HTTP/1.1\nHost: a\r\n\r\n".to_vec(), Objection::BareLineFeed),
        (b"GET / HTTP/1.1\r\nHost: a\n\r\n".to_vec(), Objection::BareLineFeed),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\n".to_vec(), Objection::BareLineFeed),
    ];
    for (bytes, objection) in corpus {
        assert_eq!(scan(&bytes).unwrap_err(), objection, "{:?}", String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn bad_chunks_are_objected_to() {
    let bodies = [
        "\r\n",
        "0x5\r\n",
        "5 \r\n",
        " 5\r\n",
        "-1\r\n",
        "g\r\n",
        "5\n",
        "5\r\r",
        "5\r\nhelloX",
        "5\r\nhello\n0",
        "5;a\nhello",
        "5;\u{1}\r\n",
        "11111111111111111\r\n",
        "0\r\nX: 1\n\r\n",
    ];
    for body in bodies {
        let bytes = post("Transfer-Encoding: chunked\r\n", body);
        assert_eq!(scan(&bytes).unwrap_err(), Objection::InvalidChunk, "{body:?}");
    }
}

#[test]
fn an_objection_is_made_once_and_concerns_one_message() {
    let mut scanner = Scanner::new(1024);
    scanner.scan(GET).unwrap();
    assert!(scanner.scan(b"GET / HTTP/1.1\n").is_err());
    assert_eq!((scanner.heads(), scanner.message()), (1, 2));
    assert_eq!(scanner.scan(b"\n\n\n"), Ok(()));
    assert_eq!(scanner.position(), Position::Body);

    let mut scanner = Scanner::new(1024);
    assert!(scanner.scan(&post("Transfer-Encoding: chunked\r\n", "x")).is_err());
    assert_eq!((scanner.heads(), scanner.message()), (1, 1));
}

#[test]
fn a_line_kept_for_later_is_bounded() {
    let mut scanner = Scanner::new(100);
    scanner.scan(&[b'a'; 100]).unwrap();
    assert_eq!(scanner.scan(b"a"), Err(Objection::TooLong));
    // Nor may one be longer because it came in one piece.
    let line = [&b"GET /"[..], &[b'a'; 100], b" HTTP/1.1\r\n"].concat();
    assert_eq!(Scanner::new(100).scan(&line), Err(Objection::TooLong));
}

proptest! {
    #[test]
    fn the_cut_into_reads_does_not_matter(
        pieces in proptest::collection::vec(prop_oneof![
            Just(GET.to_vec()),
            Just(post("Content-Length: 5\r\n", "hello")),
            Just(post("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n")),
            Just(b"\n".to_vec()),
            Just(b"\r\n".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..8),
        ], 0..6),
        cuts in proptest::collection::vec(1usize..9, 1..60),
    ) {
        let bytes = pieces.concat();
        let mut whole = Scanner::new(1 << 16);
        let at_once = whole.scan(&bytes);
        let mut parts = Scanner::new(1 << 16);
        let (mut rest, mut in_parts) = (&bytes[..], Ok(()));
        for cut in cuts.iter().cycle() {
            if rest.is_empty() || in_parts.is_err() {
                break;
            }
            let (head, tail) = rest.split_at((*cut).min(rest.len()));
            in_parts = parts.scan(head);
            rest = tail;
        }
        prop_assert_eq!(at_once, in_parts);
        prop_assert_eq!(whole.heads(), parts.heads());
        prop_assert_eq!(whole.position(), parts.position());
    }
}
