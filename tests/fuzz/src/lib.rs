//! What the fuzzer calls: one function for each parser of a stranger's bytes. `keys/tests/fuzz_corpus.rs` calls the same
//! functions with the committed seeds, on a stable compiler.
//!
//! Behind a signature no fuzzer gets by itself, so that each input is tried twice: as the whole message, and as the
//! content of a message that the right key has signed. The keys are those of the golden vectors. Each function says whether
//! the latter was accepted, so that a replay can tell that it gets that far.
//!
//! `cargo +nightly fuzz run --fuzz-dir tests/fuzz certificate`; see `CONTRIBUTING.md`.

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use mytunnel_keys::{
    certificate,
    feed::{FeedReader, Report, Subscribe},
    id::Kid,
    proof::{Request, UnverifiedRequest},
    secret::Seed,
    token::Token,
    trust::{RootFingerprint, Trust, TrustBundle},
    wire::{self, ToNode, ToRelay},
};

const BUNDLE: &str = include_str!("../../../keys/tests/vectors/bundle.hex");
const CERTIFICATE: &str = include_str!("../../../keys/tests/vectors/certificate.hex");
const NONCE: [u8; 16] = [0x0c; 16];
const NOW: u64 = 1_800_000_000;

/// A certificate: only the golden one may verify as it is.
pub fn certificate(data: &[u8]) -> bool {
    let trust = trust_of_vectors();
    let holder = seed(4).public();
    let verified = certificate::verify(data, &trust, &holder, NOW).is_ok();
    assert_eq!(verified, data == vector(CERTIFICATE), "a certificate that nobody issued");
    let _ = certificate::inspect(data);
    let issuer = seed(2);
    let sealed = certificate::verify(&seal("mtk+cwt", &kid(&issuer), data, &issuer), &trust, &holder, NOW);
    if let Ok(claims) = &sealed {
        assert_eq!(claims.check(), Ok(()));
        assert_eq!(claims.subject, holder);
    }
    sealed.is_ok()
}

/// A trust bundle.
pub fn trust(data: &[u8]) -> bool {
    let root = seed(1);
    let fingerprint = RootFingerprint::of(&root.public());
    let verified = TrustBundle::verify(data, &fingerprint).is_ok();
    assert_eq!(verified, data == vector(BUNDLE), "a bundle that the root never signed");
    let sealed = seal("mtk-trust+cwt", &kid(&root), data, &root);
    let mut opened = Trust::open(&sealed, &fingerprint);
    if let Ok(trust) = &mut opened {
        assert_eq!(trust.update(&sealed), Ok(false));
        let _ = trust.update(&vector(BUNDLE));
    }
    opened.is_ok()
}

/// A token, as text and as the payload of a text with the right checksum: what is read is written alike.
pub fn token(data: &[u8]) -> bool {
    if let Ok(text) = std::str::from_utf8(data) {
        same_token(text);
    }
    // Base58 takes quadratic time, and longer texts are refused unread.
    let kinds = ["master", "child", "user", "relay"].iter().filter(|_| data.len() <= 800);
    let read = kinds.filter(|kind| {
        let text = format!("mtk_{kind}_{}", bs58::encode(data).into_string());
        same_token(&format!("{text}{}", base62(crc32fast::hash(text.as_bytes()))))
    });
    read.count() > 0
}

/// A request proof, as header and as signed content.
pub fn proof(data: &[u8]) -> bool {
    if let Ok(header) = std::str::from_utf8(data) {
        let _ = UnverifiedRequest::parse(header);
    }
    let signer = seed(6);
    let sealed = seal("mtk-request+cwt", &[0xa7; 16], data, &signer);
    let cluster = trust_of_vectors().cluster().clone();
    let request =
        Request { cluster: &cluster, method: "POST", path: "/api/v1/mint", body: b"{\"ttl\":3600}" };
    UnverifiedRequest::parse(&format!("Mytunnel {}", BASE64URL_NOPAD.encode(&sealed)))
        .is_ok_and(|proof| proof.verify(&signer.public(), &request, NOW).is_ok())
}

/// Frames of a feed: the whole input as one, and then its parts (two bytes of length in front of each) as the signed
/// contents of one subscription.
pub fn feed(data: &[u8]) -> bool {
    let mut reader = FeedReader::new(NONCE, trust_of_vectors(), None);
    let _ = reader.accept(data, NOW);

    let mut reader = FeedReader::new(NONCE, trust_of_vectors(), None);
    let signer = seed(3);
    let mut rest = data;
    while let Some((length, behind)) = rest.split_first_chunk::<2>() {
        let (payload, behind) = behind.split_at(behind.len().min(u16::from_be_bytes(*length).into()));
        let before = reader.position();
        if reader.accept(&seal("mtk-feed+cwt", &kid(&signer), payload, &signer), NOW).is_err() {
            assert_eq!(reader.position(), before, "a refused frame has changed the reader");
        }
        rest = behind;
    }
    reader.position().is_some()
}

/// Control messages, reports and subscriptions: what is read is written alike.
pub fn wire(data: &[u8]) -> bool {
    same_message::<ToRelay>(data)
        | same_message::<ToNode>(data)
        | same_message::<Vec<Report>>(data)
        | same_message::<Subscribe>(data)
}

fn same_message<T>(data: &[u8]) -> bool
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    wire::decode::<T>(data).is_ok_and(|message| {
        let written =
            wire::encode(&message).expect("a message is not longer than the bytes it was read from");
        assert_eq!(wire::decode::<T>(&written).as_ref(), Ok(&message));
        true
    })
}

fn same_token(text: &str) -> bool {
    Token::parse(text).is_ok_and(|token| {
        assert_eq!(token.to_text().as_str(), text.trim_ascii(), "one token, two texts");
        true
    })
}

fn base62(mut number: u32) -> String {
    const DIGITS: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut digits = [0; 6];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(number % 62) as usize];
        number /= 62;
    }
    String::from_utf8_lossy(&digits).into_owned()
}

fn seed(byte: u8) -> Seed {
    Seed::from_bytes([byte; 32])
}

fn kid(key: &Seed) -> [u8; 8] {
    *Kid::of(&key.public()).as_bytes()
}

fn vector(hex: &str) -> Vec<u8> {
    HEXLOWER.decode(hex.trim_end().as_bytes()).expect("the vectors are hex")
}

fn trust_of_vectors() -> Trust {
    let root = RootFingerprint::of(&seed(1).public());
    Trust::open(&vector(BUNDLE), &root).expect("the golden bundle verifies")
}

/// A COSE_Sign1 message, put together from RFC 9052 alone.
fn seal(typ: &str, kid: &[u8], payload: &[u8], key: &Seed) -> Vec<u8> {
    let header =
        [&[0xa3, 0x01, 0x32, 0x04], &*bytes(0x40, kid), &[0x10], &*bytes(0x60, typ.as_bytes())].concat();
    let (header, payload) = (bytes(0x40, &header), bytes(0x40, payload));
    let signed = [&[0x84], &*bytes(0x60, b"Signature1"), &header, &[0x40], &payload].concat();
    [&[0xd2, 0x84], &*header, &[0xa0], &payload, &bytes(0x40, &key.sign(&signed))].concat()
}

/// A CBOR string of a major type: bytes 0x40, text 0x60.
fn bytes(major: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let head = match length {
        0..24 => vec![major + length as u8],
        24..256 => vec![major + 24, length as u8],
        256..65_536 => vec![major + 25, (length >> 8) as u8, length as u8],
        _ => [&[major + 26][..], &(length as u32).to_be_bytes()].concat(),
    };
    [&head, content].concat()
}
