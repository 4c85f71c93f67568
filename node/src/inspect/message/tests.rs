use proptest::prelude::*;

use super::*;

/// A stream that is nearly one of requests, so that noise gets somewhere.
fn streams() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /x?y HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
        "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "5;a=b\r\nhello\r\n",
        "0\r\nTrailer: 1\r\n\r\n",
        "\r\n",
        "\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "ffffffffffffffff\r\n",
        "Content-Length: 18446744073709551616\r\n\r\n",
    ]);
    let piece = prop_oneof![
        8 => piece.prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..20),
    ];
    let pieces = prop::collection::vec(piece, 0..12);
    pieces.prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn it_does_not_matter_how_the_bytes_are_cut(step in 1_u8..40, bytes in streams()) {
        let mut data = vec![step];
        data.extend(bytes);
        fuzz(&data);
    }

    #[test]
    fn a_body_is_found_again_whatever_its_chunks(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..8)) {
        let mut bytes = b"POST / HTTP/1.1\r\ntransfer-encoding: gzip, Chunked\r\n\r\n".to_vec();
        for chunk in &chunks {
            bytes.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
            bytes.extend(chunk);
            bytes.extend(b"\r\n");
        }
        bytes.extend(b"0\r\n\r\nGET /next HTTP/1.1\r\n\r\n");
        let (found, trouble) = messages(&bytes, 7);
        prop_assert_eq!(trouble, None);
        prop_assert_eq!(&found[0].body, &chunks.concat());
        prop_assert_eq!(&found[1].head.target, "/next");
    }
}

#[test]
fn what_is_no_http_is_said_to_be_none() {
    let trouble = |bytes: &[u8]| messages(bytes, 3).1;
    assert_eq!(trouble(HTTP2), Some(Trouble::Http2));
    assert_eq!(trouble(b"\x16\x03\x01 hello\r\n\r\n"), Some(Trouble::NotHttp));
    assert_eq!(trouble(&[b'a'; MAX_HEAD + 1]), Some(Trouble::HeadTooLong));
    let length = |value: &str| format!("GET / HTTP/1.1\r\ncontent-length: {value}\r\n\r\n").into_bytes();
    for bad in ["-1", "+1", "1 1", "", "18446744073709551616"] {
        assert_eq!(trouble(&length(bad)), Some(Trouble::NotHttp), "{bad:?}");
    }
    let chunk = |size: &str| format!("GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n{size}\r\n");
    for bad in ["x", "ffffffffffffffff", "10000000000000000"] {
        assert_eq!(trouble(chunk(bad).as_bytes()), Some(Trouble::NotHttp), "{bad:?}");
    }
}
