//! For fuzzers: everything that a stranger or a peer can send, read as it is at each stage. The first byte says which.

use crate::{
    bytes,
    card::Card,
    content::{Envelope, Seal},
    files::{
        safe,
        talk::{ToSource, ToTaker, leaves_in},
    },
    hello::Hello,
    link::Link,
    message::{ToGuest, ToHost},
    transcript::Transcript,
};

/// Returns whether anything was read.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) -> bool {
    let Some((&stage, data)) = data.split_first() else { return false };
    match stage {
        b'l' => std::str::from_utf8(data).ok().and_then(|text| Link::parse(text).ok()).is_some_and(|link| {
            assert_eq!(Link::parse(&link.to_text()).as_ref(), Ok(&link), "a link is written as it was read");
            true
        }),
        b'h' => Hello::parse(data).is_some_and(|hello| {
            assert_eq!(hello.to_bytes(), data, "a hello is written as it was read");
            true
        }),
        b'c' => Card::open(data, &[0; 32]).is_some(),
        b'e' => bytes::decode::<Envelope>(data).is_some(),
        b's' => bytes::decode::<Seal>(data).is_some(),
        b'a' => ToSource::parse(data).is_some_and(|asked| {
            assert_eq!(
                ToSource::parse(&asked.to_bytes()).as_ref(),
                Some(&asked),
                "it is written as it was read"
            );
            true
        }),
        b'p' => ToTaker::parse(data).is_some_and(|given| {
            if let ToTaker::Leaves { hashes } = &given {
                let leaves = leaves_in(hashes, 1000).map(Iterator::count);
                assert!(leaves.is_none_or(|count| count * 32 == hashes.len() && count <= 1000));
            }
            assert_eq!(
                ToTaker::parse(&given.to_bytes()).as_ref(),
                Some(&given),
                "it is written as it was read"
            );
            true
        }),
        b'n' => std::str::from_utf8(data).is_ok_and(|name| {
            let safe_name = safe(name);
            assert_eq!(safe(&safe_name), safe_name, "a harmless name is left as it is");
            assert!(!safe_name.contains(['/', '\\', '\0']) && (1..=255).contains(&safe_name.len()));
            true
        }),
        b't' => ToHost::parse(data).is_some(),
        b'g' => ToGuest::parse(data).is_some(),
        b'r' => serde_json::from_slice::<Transcript>(data).is_ok_and(|record| record.verify().is_ok()),
        _ => false,
    }
}
