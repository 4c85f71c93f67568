//! Control messages, made up: what is written is read alike, noise is refused, and a claim of length is only a claim.

#![cfg(test)]

use mytunnel_keys::{
    error::Code,
    id::{TunnelId, TunnelKind},
    wire::{self, MAX_MESSAGE, ToNode, ToRelay, WireError},
};
use proptest::{collection::vec, prelude::*, sample::select};

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,40}"
}

fn name<T>() -> impl Strategy<Value = T>
where
    T: std::str::FromStr<Err: std::fmt::Debug> + std::fmt::Debug,
{
    "[a-z][a-z0-9]{3,20}x".prop_map(|name| name.parse().unwrap())
}

fn tunnel() -> impl Strategy<Value = TunnelId> {
    any::<[u8; 16]>().prop_map(TunnelId::from_bytes)
}

fn code() -> impl Strategy<Value = Code> {
    select(Code::ALL)
}

fn to_relay() -> impl Strategy<Value = ToRelay> {
    let bytes = || vec(any::<u8>(), 0..600);
    let hello = (any::<u16>(), bytes(), bytes(), text(), any::<u64>()).prop_map(
        |(version, certificate, presence, agent, clock)| ToRelay::Hello {
            version,
            certificate,
            presence,
            agent,
            clock,
        },
    );
    let kind = select(TunnelKind::ALL.to_vec());
    let register = (any::<u32>(), name(), kind, any::<[u8; 16]>(), any::<Option<u16>>(), any::<bool>())
        .prop_map(|(request, name, kind, instance, port, alone)| ToRelay::Register {
            request,
            name,
            kind,
            instance,
            port,
            alone,
        });
    let unregister = tunnel().prop_map(|tunnel| ToRelay::Unregister { tunnel });
    let leave = tunnel().prop_map(|tunnel| ToRelay::Leave { tunnel });
    prop_oneof![hello, register, leave, unregister]
}

fn to_node() -> impl Strategy<Value = ToNode> {
    let bytes = || vec(any::<u8>(), 0..600);
    let welcome = (any::<u16>(), bytes(), bytes(), name(), any::<Option<u16>>(), any::<u64>()).prop_map(
        |(version, certificate, trust, domain, lane_port, time)| ToNode::Welcome {
            version,
            certificate,
            trust,
            domain,
            lane_port,
            time,
        },
    );
    let registered = (any::<u32>(), tunnel(), name(), vec(text(), 0..3), any::<u64>(), any::<u16>())
        .prop_map(|(request, tunnel, name, urls, expires_at, backends)| ToNode::Registered {
            request,
            tunnel,
            name,
            urls,
            expires_at,
            backends,
        });
    let backends = (tunnel(), any::<u16>()).prop_map(|(tunnel, count)| ToNode::Backends { tunnel, count });
    let refused = (any::<Option<u32>>(), code(), text(), text())
        .prop_map(|(request, code, message, help)| ToNode::Refused { request, code, message, help });
    let closed = (tunnel(), code(), text()).prop_map(|(tunnel, code, message)| ToNode::Closed {
        tunnel,
        code,
        message,
    });
    let goodbye = (code(), text()).prop_map(|(code, message)| ToNode::Goodbye { code, message });
    prop_oneof![welcome, registered, backends, refused, closed, goodbye]
}

proptest! {
    #[test]
    fn what_a_node_says_comes_back(message in to_relay()) {
        let bytes = wire::encode(&message).unwrap();
        prop_assert!(bytes.len() <= MAX_MESSAGE);
        prop_assert_eq!(wire::decode(&bytes), Ok(message));
    }

    #[test]
    fn what_a_relay_says_comes_back(message in to_node()) {
        let bytes = wire::encode(&message).unwrap();
        prop_assert!(bytes.len() <= MAX_MESSAGE);
        prop_assert_eq!(wire::decode(&bytes), Ok(message));
    }

    #[test]
    fn a_part_is_no_message_and_more_is_none_either(message in to_node(), cut in any::<prop::sample::Index>()) {
        let mut bytes = wire::encode(&message).unwrap();
        let part = &bytes[..cut.index(bytes.len())];
        prop_assert!(matches!(wire::decode::<ToNode>(part), Err(WireError::Malformed(_))));
        bytes.push(0xf6);
        prop_assert_eq!(wire::decode::<ToNode>(&bytes), Err(WireError::Trailing));
    }

    #[test]
    fn noise_is_refused_in_peace(noise in vec(any::<u8>(), 0..300)) {
        if let Ok(message) = wire::decode::<ToRelay>(&noise) {
            prop_assert_eq!(wire::decode(&wire::encode(&message).unwrap()), Ok(message));
        }
        let _ = wire::decode::<ToNode>(&noise);
    }

    #[test]
    fn a_changed_byte_is_another_message_or_none(
        message in to_relay(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = wire::encode(&message).unwrap();
        let at = at.index(bytes.len());
        prop_assume!(bytes[at] != byte);
        bytes[at] = byte;
        if let Ok(read) = wire::decode::<ToRelay>(&bytes) {
            prop_assert_eq!(wire::decode(&wire::encode(&read).unwrap()), Ok(read));
        }
    }

    /// Strings, lists and maps that claim up to 2^64 - 1 of what is not there.
    #[test]
    fn what_a_length_claims_is_not_believed(
        field in select(vec!["certificate", "agent", "version"]),
        major in select(vec![0x5b_u8, 0x7b, 0x9b, 0xbb]),
        claim in (1_u64 << 20)..=u64::MAX,
        rest in vec(any::<u8>(), 0..40),
    ) {
        let mut bytes = b"\xa1\x65hello\xa1".to_vec();
        bytes.push(0x60 + u8::try_from(field.len()).unwrap());
        bytes.extend(field.as_bytes());
        bytes.push(major);
        bytes.extend(claim.to_be_bytes());
        bytes.extend(rest);
        prop_assert!(matches!(wire::decode::<ToRelay>(&bytes), Err(WireError::Malformed(_))));
    }
}
