//! The published ways that go by HTTP/2, with the sources of [`smuggling`](crate::smuggling).

use crate::{
    house::House,
    http2::{Outcome, answer_to},
    smuggling::{can_be_read_in_one_way, watching},
};

/// Pseudo-fields and fields of HTTP/2 that become text for the node.
#[tokio::test]
async fn http_2_that_would_be_another_request_in_http_1_is_refused() {
    type Row = (&'static str, &'static [(&'static [u8], &'static [u8])]);
    let rows: &[Row] = &[
        ("sequel H2.TE", &[(b"transfer-encoding", b"chunked")]),
        ("sequel H2.TE, by its line", &[(b"x", b"y\r\ntransfer-encoding: chunked")]),
        ("sequel, in the name", &[(b"transfer-encoding: chunked\r\nx", b"y")]),
        ("sequel, colon in the name", &[(b"transfer-encoding:chunked", b"")]),
        ("sequel, space in the name", &[(b"transfer-encoding ", b"chunked")]),
        ("sequel, upper case", &[(b"Transfer-Encoding", b"chunked")]),
        ("sequel, in :method", &[(b":method", b"GET /smuggled HTTP/1.1\r\nx: y")]),
        ("sequel, in :method", &[(b":method", b"GET /smuggled")]),
        ("sequel, in :path", &[(b":path", b"/smuggled HTTP/1.1\r\nhost: other")]),
        ("sequel, space in :path", &[(b":path", b"/first /smuggled")]),
        ("sequel, tab in :path", &[(b":path", b"/first\t")]),
        ("rfc 9113 8.3.1, empty :path", &[(b":path", b"")]),
        ("rfc 9113 8.3.1, no slash", &[(b":path", b"first")]),
        ("rfc 9113 8.3.1, absolute :path", &[(b":path", b"http://other.tun.test/smuggled")]),
        ("sequel, in :scheme", &[(b":scheme", b"http://other.tun.test/?")]),
        ("sequel, in :authority", &[(b":authority", b"demo.tun.test\r\nx: y")]),
        ("sequel, path in :authority", &[(b":authority", b"demo.tun.test/smuggled?")]),
        ("sequel, user in :authority", &[(b":authority", b"a@demo.tun.test")]),
        ("sequel, :authority is not the host", &[(b"host", b"other.tun.test")]),
        ("sequel, host twice", &[(b"host", b"demo.tun.test"), (b"host", b"demo.tun.test")]),
        ("sequel H2.CL", &[(b"content-length", b"0"), (b"content-length", b"0")]),
        ("probe cl-leading-zeros", &[(b"content-length", b"00")]),
        ("sequel H2.CL, a sign", &[(b"content-length", b"+0")]),
        ("sequel, NUL", &[(b"x", b"a\0b")]),
        ("sequel, line feed alone", &[(b"x", b"a\nb: c")]),
        ("sequel, carriage return alone", &[(b"x", b"a\rb: c")]),
        ("rfc 9113 8.2.2", &[(b"connection", b"upgrade"), (b"upgrade", b"h2c")]),
        ("rfc 9113 8.2.2", &[(b"proxy-connection", b"keep-alive")]),
        ("rfc 9113 8.2.2", &[(b"keep-alive", b"1")]),
        ("sequel, what is expected", &[(b"expect", b"y 100-continue")]),
        ("rfc 9113 8.3, unknown pseudo-field", &[(b":smuggled", b"1")]),
    ];
    let (origin, seen) = watching();
    let (house, _) = House::with_demo(&origin).await;
    for (source, fields) in rows {
        let outcome = answer_to(&house, fields).await;
        assert!(matches!(outcome, Outcome::Reset(_) | Outcome::Status(400)), "{source}: {outcome:?}");
    }
    assert_eq!(*seen.lock().unwrap(), [""; 0]);
    // And what is no fault, or is taken out.
    for (source, fields) in [
        ("rfc 9113 8.1, a fragment", &[(&b":path"[..], &b"/first#smuggled"[..])][..]),
        ("sequel, names with underscores", &[(b"transfer_encoding", b"chunked"), (b"content_length", b"9")]),
    ] {
        let outcome = answer_to(&house, fields).await;
        assert!(matches!(outcome, Outcome::Status(200)), "{source}: {outcome:?}");
        let head = seen.lock().unwrap().pop().unwrap();
        can_be_read_in_one_way(head.split_once("\r\n\r\n").unwrap().0);
    }
}
