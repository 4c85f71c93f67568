//! Published ways to hide a request in another, row by row with where each was published. Each is either refused, and then
//! nothing of it reaches the tunnel, or it is passed on as one request that can be read in one way only.
//!
//! Sources, by the name that stands in a row:
//! - `reborn`, `sequel`, `must die`: James Kettle, "HTTP Desync Attacks: Request Smuggling Reborn" (2019), "HTTP/2: The Sequel is
//!   Always Worse" (2021), "Browser-Powered Desync Attacks" (2022, CL.0: `browser`), "HTTP/1.1 Must Die" (2025)
//! - `smuggler`: the permutations of github.com/defparam/smuggler (`configs/default.py`, `configs/exhaustive.py`)
//! - `probe`: the table of github.com/MDA2AV/Http11Probe (`docs/content/docs/smuggling`)
//! - `rfc`: RFC 9112 §2.2, §5, §6 and §7.1, RFC 9113 §8
//! - `te.0`: "Unveiling TE.0 HTTP Request Smuggling" (Bugcrowd, 2024)
//! - `funky`: Jeppe Bonde Weikop, "Funky chunks" (2025)
//! - `h2c`: Bishop Fox, "h2c Smuggling" (2020)

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};

use crate::house::{House, Origin, field, get, ok, read_head, read_request};

/// What a tunnel's server has read: each request as it came, and where the connection says that it ends.
pub(crate) type Seen = Arc<Mutex<Vec<String>>>;

pub(crate) fn watching() -> (Arc<Origin>, Seen) {
    let seen = Seen::default();
    let kept = Arc::clone(&seen);
    let origin = Origin::server(move |request| {
        kept.lock().unwrap().push(request.to_owned());
        ok("well")
    });
    (origin, seen)
}

fn bytes(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// Sends it, and behind it a request that must not be part of it; returns all answers.
async fn answers(house: &House, request: &[u8]) -> String {
    let mut visitor = house.visitor().await;
    let last = get("/last").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    // A refusal may come, and the connection be closed, before all of it is sent.
    drop(visitor.stream.write_all(&bytes(&[request, last.as_bytes()])).await);
    let mut all = Vec::new();
    drop(crate::house::within(visitor.stream.read_to_end(&mut all)).await);
    String::from_utf8_lossy(&all).into_owned()
}

/// Every reader of this head agrees where its message ends.
pub(crate) fn can_be_read_in_one_way(head: &str) {
    let names: Vec<_> = head.lines().skip(1).filter_map(|line| line.split_once(':')).collect();
    let framing = names.iter().filter(|(name, _)| {
        let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
        ["contentlength", "transferencoding"].contains(&&*plain.to_ascii_lowercase())
    });
    let framing: Vec<_> = framing.collect();
    assert!(framing.len() <= 1, "{head}");
    for (name, value) in framing {
        let value = value.trim_matches(' ');
        let good = match &*name.to_ascii_lowercase() {
            "content-length" => value.parse::<u64>().is_ok_and(|length| length.to_string() == value),
            "transfer-encoding" => value == "chunked",
            _ => false,
        };
        assert!(good, "{name}: {value:?}");
    }
    assert_eq!(names.iter().filter(|(name, _)| name.eq_ignore_ascii_case("host")).count(), 1, "{head}");
    assert!(!head.to_ascii_lowercase().contains("\nupgrade:"), "{head}");
    assert!(field(head, "expect").is_none_or(|expected| expected == "100-continue"), "{head}");
    let line: Vec<_> = head.lines().next().unwrap().split(' ').collect();
    assert!(line.len() == 3 && line[1].starts_with('/') && !line[1].contains('#'), "{line:?}");
    assert_eq!(line[2], "HTTP/1.1");
}

/// All of them with a length beside it that makes a request of the body, and without one.
#[tokio::test]
async fn odd_spellings_of_a_coding_or_a_length_are_refused() {
    let rows: &[(&str, &[u8])] = &[
        ("smuggler nameprefix1", b" Transfer-Encoding: chunked"),
        ("smuggler tabprefix2", b"Transfer-Encoding\t:\tchunked"),
        ("smuggler spacejoin1", b"Transfer Encoding: chunked"),
        ("smuggler smashed", b"Transfer Encoding:chunked"),
        ("smuggler space1", b"Transfer-Encoding : chunked"),
        ("smuggler vertprefix1", b"Transfer-Encoding:\x0bchunked"),
        ("smuggler commaCow", b"Transfer-Encoding: chunked, cow"),
        ("smuggler cowComma", b"Transfer-Encoding: cow, chunked"),
        ("smuggler linewrapped1", b"Transfer-Encoding:\n chunked"),
        ("smuggler quoted", b"Transfer-Encoding: \"chunked\""),
        ("smuggler aposed", b"Transfer-Encoding: 'chunked'"),
        ("smuggler lazygrep", b"Transfer-Encoding: chunk"),
        ("smuggler 0dsuffix", b"Transfer-Encoding: chunked\r"),
        ("smuggler 0dspam", b"Transfer\r-Encoding: chunked"),
        ("smuggler revdualchunk", b"Transfer-Encoding: cow\r\nTransfer-Encoding: chunked"),
        ("smuggler revdualchunkinv", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: cow"),
        ("smuggler revdualchunkinv2", b"Transfer-Encoding: chunked\rTransfer-Encoding: cow"),
        ("smuggler nested", b"Transfer-Encoding: cow chunked bar"),
        ("smuggler spaceFF", b"Transfer-Encoding:\xffchunked"),
        ("smuggler accentTE", b"Transf\x82r-Encoding: chunked"),
        ("smuggler accentCH", b"Transfer-Encoding: ch\x96nked"),
        ("smuggler x-rout", b"X:X\rTransfer-Encoding: chunked"),
        ("smuggler x-nout", b"X:X\nTransfer-Encoding: chunked"),
        ("smuggler spjunk", b"Transfer-Encoding x: chunked"),
        ("smuggler backslash", b"Transfer\\Encoding: chunked"),
        ("smuggler chunkedchunked2", b"Transfer-Encoding: chunkedchunked"),
        ("smuggler suffix 01", b"Transfer-Encoding: chunked\x01"),
        ("smuggler suffix 0c", b"Transfer-Encoding: chunked\x0c"),
        ("smuggler suffix 1f", b"Transfer-Encoding: chunked\x1f"),
        ("smuggler suffix 7f", b"Transfer-Encoding: chunked\x7f"),
        ("smuggler suffix 85", b"Transfer-Encoding: chunked\x85"),
        ("smuggler suffix a0", b"Transfer-Encoding: chunked\xa0"),
        ("smuggler suffix ff", b"Transfer-Encoding: chunked\xff"),
        ("smuggler prefix 00", b"\0Transfer-Encoding: chunked"),
        ("smuggler prefix 0b", b"\x0bTransfer-Encoding: chunked"),
        ("smuggler prefix a0", b"\xa0Transfer-Encoding: chunked"),
        ("smuggler before the colon 00", b"Transfer-Encoding\0: chunked"),
        ("smuggler before the colon a0", b"Transfer-Encoding\xa0: chunked"),
        ("probe te-null", b"Transfer-Encoding: chunked\0"),
        ("probe te-vtab", b"Transfer-Encoding: chunked\x0b"),
        ("probe te-formfeed", b"Transfer-Encoding: \x0cchunked"),
        ("probe te-leading-comma", b"Transfer-Encoding: , chunked"),
        ("probe te-trailing-comma", b"Transfer-Encoding: chunked,"),
        ("probe te-empty-value", b"Transfer-Encoding:"),
        ("probe te-double-chunked", b"Transfer-Encoding: chunked, chunked"),
        ("probe chunked-with-params", b"Transfer-Encoding: chunked;ext=val"),
        ("reborn", b"X: X\r\n Transfer-Encoding: chunked"),
        ("reborn", b"Foo: bar\r\n\rTransfer-Encoding: chunked"),
        ("probe cl-negative", b"Content-Length: -1"),
        ("probe cl-negative-zero", b"Content-Length: -0"),
        ("probe cl-octal", b"Content-Length: 0o5"),
        ("probe cl-leading-zeros", b"Content-Length: 005"),
        ("probe cl-leading-zeros-octal", b"Content-Length: 0200"),
        ("probe cl-double-zero", b"Content-Length: 00"),
        ("probe cl-internal-space", b"Content-Length: 1 0"),
        ("probe cl-comma-triple", b"Content-Length: 5, 5, 5"),
        ("probe chunk-underscore, as a length", b"Content-Length: 1_0"),
        ("smuggler, as a length", b"Content-Length: 5\x0b"),
        ("smuggler, as a length", b"Content-Length\0: 5"),
        ("smuggler, as a length", b"Content-Length: \xa05"),
        ("rfc 9112 5", b"Content-Length: 5\r\n\t6"),
        ("probe bare-cr-header-value", b"X: a\rContent-Length: 5"),
    ];
    let (origin, seen) = watching();
    let (house, _) = House::with_demo(&origin).await;
    let smuggled = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: demo.tun.test\r\n\r\n";
    let length = format!("Content-Length: {}\r\n", smuggled.len());
    for (source, field) in rows {
        for length in ["", &length] {
            let head: &[u8] = b"POST /first HTTP/1.1\r\nHost: demo.tun.test\r\n";
            let request = bytes(&[head, length.as_bytes(), field, b"\r\n\r\n", smuggled]);
            let answers = answers(&house, &request).await;
            let shown = format!("{source}: {:?} {length:?}: {answers}", String::from_utf8_lossy(field));
            assert!(answers.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{shown}");
            assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{shown}");
        }
    }
    assert_eq!(*seen.lock().unwrap(), [""; 0]);
}

#[tokio::test]
async fn chunks_that_end_in_two_ways_are_refused() {
    let rows: &[(&str, &[u8])] = &[
        ("funky TERM.EXT", b"2;\nxx\r\n4c\r\n0\r\n\r\n"),
        ("funky EXT.TERM", b"2;a\rb\r\nxx\r\n0\r\n\r\n"),
        ("funky TERM.SPILL", b"5\r\nAAAAAXX2\r\n45\r\n0\r\n\r\n"),
        ("funky ONE.TWO", b"5\r\nAAAAA\n2\r\n45\r\n0\r\n\r\n"),
        ("probe chunk-ext-lf", b"5;ext\nhello\r\n0\r\n\r\n"),
        ("probe chunk-ext-ctrl", b"5;\0ext\r\nhello\r\n0\r\n\r\n"),
        ("probe chunk-bare-cr-term", b"5\rhello\r\n0\r\n\r\n"),
        ("probe chunk-lf-term", b"5\r\nhello\n0\r\n\r\n"),
        ("probe chunk-lf-trailer", b"5\r\nhello\r\n0\r\n\n"),
        ("probe chunk-leading-sp", b" 5\r\nhello\r\n0\r\n\r\n"),
        ("probe chunk-size-trailing-ows", b"5 \r\nhello\r\n0\r\n\r\n"),
        ("probe chunk-size-plus", b"+5\r\nhello\r\n0\r\n\r\n"),
        ("probe chunk-negative", b"-5\r\nhello\r\n0\r\n\r\n"),
        ("probe chunk-underscore", b"0_5\r\nhello\r\n0\r\n\r\n"),
        ("probe chunk-hex-prefix", b"0x5\r\nhello\r\n0\r\n\r\n"),
        ("probe chunk-spill", b"5\r\nhello!!\r\n0\r\n\r\n"),
        ("rfc 9112 7.1", b"ffffffffffffffff1\r\nhello\r\n0\r\n\r\n"),
        ("smuggler, as a size", b"5\xa0\r\nhello\r\n0\r\n\r\n"),
        ("smuggler, as a size", b"5\x0b\r\nhello\r\n0\r\n\r\n"),
        ("smuggler, as a size", b"5\0\r\nhello\r\n0\r\n\r\n"),
    ];
    for (source, body) in rows {
        let (origin, seen) = watching();
        let (house, _) = House::with_demo(&origin).await;
        let head = b"POST /first HTTP/1.1\r\nHost: demo.tun.test\r\nTransfer-Encoding: chunked\r\n\r\n";
        let answers = answers(&house, &bytes(&[head, body])).await;
        let shown = format!("{source}: {:?}: {answers}", String::from_utf8_lossy(body));
        assert!(answers.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{shown}");
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{shown}");
        assert_eq!(*seen.lock().unwrap(), [""; 0], "{source}");
    }
}

/// What is no fault is passed on, as so many requests as it is for who reads it by the RFC.
#[tokio::test]
async fn what_is_passed_on_is_one_request_for_every_reader() {
    const HIDDEN: &str = "GET /smuggled HTTP/1.1\r\nHost: demo.tun.test\r\n\r\n";
    let host = "Host: demo.tun.test\r\n";
    let length = format!("Content-Length: {}\r\n", HIDDEN.len());
    let chunk = format!("{:x}\r\n{HIDDEN}\r\n", HIDDEN.len());
    let chunked = "Transfer-Encoding: chunked\r\n";
    let rows = [
        ("browser CL.0", format!("GET /first HTTP/1.1\r\n{host}{length}\r\n{HIDDEN}")),
        ("browser CL.0", format!("HEAD /first HTTP/1.1\r\n{host}{length}\r\n{HIDDEN}")),
        ("browser CL.0", format!("OPTIONS /first HTTP/1.1\r\n{host}{length}\r\n{HIDDEN}")),
        ("te.0", format!("OPTIONS /first HTTP/1.1\r\n{host}{chunked}\r\n{chunk}0\r\n\r\n")),
        ("te.0", format!("GET /first HTTP/1.1\r\n{host}{chunked}\r\n{chunk}0\r\n\r\n")),
        (
            "smuggler underjoin1",
            format!("POST /first HTTP/1.1\r\n{host}{length}Transfer_Encoding: chunked\r\n\r\n{HIDDEN}"),
        ),
        (
            "probe cl-underscore",
            format!("POST /first HTTP/1.1\r\n{host}{length}Content_Length: 5\r\n\r\n{HIDDEN}"),
        ),
        (
            "smuggler contentEnc",
            format!("POST /first HTTP/1.1\r\n{host}{length}Content-Encoding: chunked\r\n\r\n{HIDDEN}"),
        ),
        (
            "smuggler yelling",
            format!("POST /first HTTP/1.1\r\n{host}TRANSFER-ENCODING: CHUNKED\r\n\r\n{chunk}0\r\n\r\n"),
        ),
        (
            "smuggler tabprefix1",
            format!("POST /first HTTP/1.1\r\n{host}Transfer-Encoding:\tchunked\r\n\r\n{chunk}0\r\n\r\n"),
        ),
        (
            "smuggler tabsuffix",
            format!("POST /first HTTP/1.1\r\n{host}Transfer-Encoding: chunked\t\r\n\r\n{chunk}0\r\n\r\n"),
        ),
        (
            "smuggler connection",
            format!(
                "POST /first HTTP/1.1\r\n{host}Connection: Transfer-Encoding\r\n{chunked}\r\n{chunk}0\r\n\r\n"
            ),
        ),
        (
            "must die, Connection: Content-Length",
            format!("POST /first HTTP/1.1\r\n{host}Connection: Content-Length\r\n{length}\r\n{HIDDEN}"),
        ),
        (
            "probe trailer-cl",
            format!("POST /first HTTP/1.1\r\n{host}{chunked}\r\n{chunk}0\r\nContent-Length: 5\r\n\r\n"),
        ),
        ("probe trailer-te", format!("POST /first HTTP/1.1\r\n{host}{chunked}\r\n{chunk}0\r\n{chunked}\r\n")),
        (
            "probe trailer-host",
            format!("POST /first HTTP/1.1\r\n{host}{chunked}\r\n{chunk}0\r\nHost: other.tun.test\r\n\r\n"),
        ),
        (
            "probe trailer-auth",
            format!(
                "POST /first HTTP/1.1\r\n{host}{chunked}\r\n{chunk}0\r\nAuthorization: Bearer x\r\nTrailer: x\r\n\r\n"
            ),
        ),
        (
            "probe chunk-bare-semicolon",
            format!(
                "POST /first HTTP/1.1\r\n{host}{chunked}\r\n{}0;\r\n\r\n",
                chunk.replacen('\r', ";\r", 1)
            ),
        ),
        (
            "h2c",
            format!(
                "GET /first HTTP/1.1\r\n{host}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n"
            ),
        ),
        (
            "h2c, beside another",
            format!(
                "GET /first HTTP/1.1\r\n{host}Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n\r\n"
            ),
        ),
        (
            "h2c, with a body",
            format!(
                "GET /first HTTP/1.1\r\n{host}Connection: Upgrade\r\nUpgrade: websocket\r\n{length}\r\n{HIDDEN}"
            ),
        ),
        (
            "rfc 9112 2.2, an empty line first",
            format!("\r\n\r\nPOST /first HTTP/1.1\r\n{host}{length}\r\n{HIDDEN}"),
        ),
        (
            "rfc 9112 3.2.2, absolute form",
            format!("POST http://demo.tun.test/first HTTP/1.1\r\n{host}{length}\r\n{HIDDEN}"),
        ),
    ];
    for (source, request) in rows {
        let (origin, seen) = watching();
        let (house, _) = House::with_demo(&origin).await;
        let answers = answers(&house, request.as_bytes()).await;
        let shown = format!("{source}: {request:?}: {answers}");
        assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2, "{shown}");
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 2, "{shown}");
        let seen = seen.lock().unwrap();
        let heads: Vec<_> = seen.iter().map(|request| request.split_once("\r\n\r\n").unwrap().0).collect();
        assert_eq!(heads.len(), 2, "{source}: {heads:?}");
        for (head, path) in heads.iter().zip(["/first", "/last"]) {
            assert_eq!(head.split(' ').nth(1), Some(path), "{shown}");
            can_be_read_in_one_way(head);
        }
    }
}

/// The first line, the host, and what is expected.
#[tokio::test]
async fn first_lines_hosts_and_expectations_that_servers_read_differently_are_refused() {
    let host = "Host: demo.tun.test\r\n";
    let rows = [
        ("rfc 9112 3, two spaces", format!("GET  /first HTTP/1.1\r\n{host}\r\n")),
        ("rfc 9112 3, a tab", format!("GET\t/first HTTP/1.1\r\n{host}\r\n")),
        ("rfc 9112 3, a space inside", format!("GET /first second HTTP/1.1\r\n{host}\r\n")),
        ("rfc 9112 3, a space before", format!(" GET /first HTTP/1.1\r\n{host}\r\n")),
        ("rfc 9112 3, twice", format!("GET /first HTTP/1.1 HTTP/1.1\r\n{host}\r\n")),
        ("rfc 9112 3, HTTP/0.9", "GET /first\r\n\r\n".to_owned()),
        ("rfc 9112 3.2, no path", format!("GET first HTTP/1.1\r\n{host}\r\n")),
        ("rfc 9112 3.2, NUL", format!("GET /fir\0st HTTP/1.1\r\n{host}\r\n")),
        ("rfc 9112 3.2, a vertical tab", format!("GET /fir\x0bst HTTP/1.1\r\n{host}\r\n")),
        (
            "probe absolute-uri-host-mismatch",
            format!("GET http://other.tun.test/first HTTP/1.1\r\n{host}\r\n"),
        ),
        (
            "rfc 9112 3.2, user information",
            format!("GET http://a@demo.tun.test/first HTTP/1.1\r\n{host}\r\n"),
        ),
        ("rfc 9112 3.2, no host", "GET /first HTTP/1.1\r\n\r\n".to_owned()),
        ("rfc 9112 3.2, two hosts", format!("GET /first HTTP/1.1\r\n{host}{host}\r\n")),
        (
            "probe multiple-host-comma",
            "GET /first HTTP/1.1\r\nHost: demo.tun.test, other.tun.test\r\n\r\n".to_owned(),
        ),
        (
            "must die, a space before the colon",
            "GET /first HTTP/1.1\r\nHost : demo.tun.test\r\n\r\n".to_owned(),
        ),
        (
            "must die, a space before the name",
            format!("GET /first HTTP/1.1\r\n Host: other.tun.test\r\n{host}\r\n"),
        ),
        ("must die, a path in the host", "GET /first HTTP/1.1\r\nHost: demo.tun.test/x\r\n\r\n".to_owned()),
        ("must die, a user in the host", "GET /first HTTP/1.1\r\nHost: x@demo.tun.test\r\n\r\n".to_owned()),
        (
            "must die, obfuscated Expect",
            format!("POST /first HTTP/1.1\r\n{host}Expect: y 100-continue\r\nContent-Length: 5\r\n\r\nhello"),
        ),
        (
            "must die, obfuscated Expect",
            format!("POST /first HTTP/1.1\r\n{host}Expect:\n100-continue\r\nContent-Length: 5\r\n\r\nhello"),
        ),
        (
            "must die, obfuscated Expect",
            format!(
                "POST /first HTTP/1.1\r\n{host}Expect: 100-continue, x\r\nContent-Length: 5\r\n\r\nhello"
            ),
        ),
        (
            "must die, Expect twice",
            format!(
                "POST /first HTTP/1.1\r\n{host}Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello"
            ),
        ),
        (
            "must die, Expect of something else",
            format!("POST /first HTTP/1.1\r\n{host}Expect: x\r\nContent-Length: 5\r\n\r\nhello"),
        ),
        (
            "must die, Expect without a body",
            format!("GET /first HTTP/1.1\r\n{host}Expect: y 100-continue\r\n\r\n"),
        ),
    ];
    for (source, request) in rows {
        let (origin, seen) = watching();
        let (house, _) = House::with_demo(&origin).await;
        let answers = answers(&house, request.as_bytes()).await;
        let shown = format!("{source}: {request:?}: {answers}");
        let status = answers.split(' ').nth(1).unwrap_or_default();
        assert!(["400", "417"].contains(&status), "{shown}");
        let seen = seen.lock().unwrap();
        assert!(seen.iter().all(|request| request.starts_with("GET /last ")), "{shown}: {seen:?}");
    }
}

/// A server that answers before it was sent the body (0.CL, CL.0 by `Expect`) does not get the rest of it as a request.
#[tokio::test]
async fn who_is_answered_without_being_asked_for_the_body_smuggles_nothing_with_it() {
    let seen = Seen::default();
    let kept = Arc::clone(&seen);
    let origin = Origin::new(move |_, pipe| {
        let kept = Arc::clone(&kept);
        async move {
            let mut pipe = BufReader::new(pipe);
            // Reads heads only, whatever they announce.
            while let Ok(head) = read_head(&mut pipe).await {
                kept.lock().unwrap().push(head);
                if pipe.write_all(ok("early").as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    });
    let (house, _) = House::with_demo(&origin).await;
    let mut visitor = house.visitor().await;
    let hidden = get("/smuggled");
    let head = format!(
        "POST /first HTTP/1.1\r\nHost: demo.tun.test\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        hidden.len()
    );
    visitor.send(head).await;
    assert_eq!(visitor.reply().await.text(), "early");
    drop(visitor.stream.write_all(hidden.as_bytes()).await);
    visitor.gone().await;
    assert_eq!(house.ask(get("/next")).await.text(), "early");
    let seen = seen.lock().unwrap();
    let paths: Vec<_> = seen.iter().map(|head| head.split(' ').nth(1).unwrap()).collect();
    assert_eq!(paths, ["/first", "/next"]);
}

/// An answer that two readers end at two places never gets to a visitor.
#[tokio::test]
async fn answers_that_can_be_read_in_two_ways_are_not_passed_on() {
    const CONTROL: &str = "the same that can be read in one way";
    for (source, fields) in [
        (CONTROL, "Transfer-Encoding: chunked\r\n"),
        (CONTROL, "Upgrade: h2c\r\nConnection: Upgrade\r\nTransfer-Encoding: chunked\r\n"),
        ("rfc 9112 6.3", "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"),
        ("rfc 9112 6.3", "Content-Length: 3\r\nContent-Length: 4\r\n"),
        ("rfc 9112 6.3", "Content-Length: 3, 4\r\n"),
        ("rfc 9112 6.1", "Transfer-Encoding: gzip, chunked\r\n"),
        ("smuggler vertprefix1", "Transfer-Encoding: \x0bchunked\r\n"),
        ("smuggler revdualchunk", "Transfer-Encoding: cow\r\nTransfer-Encoding: chunked\r\n"),
        ("probe cl-hex-prefix", "Content-Length: 0x3\r\n"),
        ("sequel, h2c", "Upgrade: h2c\r\nConnection: Upgrade\r\nTransfer-Encoding: chunked, x\r\n"),
    ] {
        let origin = Origin::new(move |_, pipe| async move {
            let mut pipe = BufReader::new(pipe);
            read_request(&mut pipe).await;
            let answer = format!("HTTP/1.1 200 OK\r\n{fields}\r\n3\r\nabc\r\n0\r\n\r\n");
            drop(pipe.write_all(answer.as_bytes()).await);
            drop(pipe.read_to_end(&mut Vec::new()).await);
        });
        let (house, _) = House::with_demo(&origin).await;
        let reply = house.ask(get("/")).await;
        let expected = if source == CONTROL { (200, "abc") } else { (502, reply.text()) };
        assert_eq!((reply.status, reply.text()), expected, "{source}: {fields:?}");
    }
}
