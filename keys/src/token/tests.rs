use proptest::prelude::*;

use super::*;
use crate::{
    error::Code,
    testing::{NOW, claims, holder, issuer, root, seed},
};

fn server() -> ServerUrl {
    "http://localhost:8080".parse().unwrap()
}

fn master() -> Token {
    Token::Master(MasterToken {
        seed: seed(6),
        serial: Serial::from_bytes([0xa7; 16]),
        project: claims().project.unwrap(),
        root: root().fingerprint(),
        server: server(),
    })
}

fn certified(secret: Secret, claims: &Claims) -> Result<Token, TokenError> {
    let certificate = certificate::issue(claims, &issuer()).map_err(|_| TokenError::Payload)?;
    Ok(ChildToken::new(secret, certificate, root().fingerprint(), server())?.into_token())
}

fn portable() -> Token {
    certified(Secret::Portable(holder()), &claims()).unwrap()
}

fn bound() -> Token {
    certified(Secret::Bound, &claims()).unwrap()
}

fn user() -> Token {
    let claims = Claims {
        kind: Kind::UserDevice,
        project: None,
        parent: None,
        not_after: NOW + 86_400 * 90,
        ..claims()
    };
    certified(Secret::Portable(holder()), &claims).unwrap()
}

fn relay() -> Token {
    let secret = JoinSecret::from_bytes([0x77; 32]);
    Token::Relay(RelayToken { secret, root: root().fingerprint(), server: server() })
}

fn ticket() -> Token {
    let secret = TicketSecret::from_bytes([0x78; 32]);
    Token::Ticket(TicketToken { secret, root: root().fingerprint(), server: server() })
}

fn all() -> [Token; 6] {
    [master(), portable(), bound(), user(), relay(), ticket()]
}

#[test]
fn every_kind_comes_back_as_it_was() {
    for token in all() {
        let text = token.to_text();
        let back = Token::parse(&format!("  {}\n", *text)).unwrap();
        assert_eq!(back.kind(), token.kind());
        assert_eq!(*back.to_text(), *text);
        assert_eq!((back.server(), back.root()), (&server(), &root().fingerprint()));
        assert_eq!(back.serial(), token.serial());
    }
    let child = Token::parse(&portable().to_text()).unwrap().into_acting().unwrap();
    let Secret::Portable(seed) = child.secret() else { panic!("the seed is in the token") };
    assert_eq!(seed.expose(), holder().expose());
    assert_eq!(child.claims(), &claims());
}

#[test]
fn scanners_can_find_every_kind() {
    for token in all() {
        let text = token.to_text();
        let body = text.strip_prefix(&format!("mtk_{}_", token.kind())).unwrap();
        let (body, sum) = body.split_at(body.len() - 6);
        assert!((60..=900).contains(&body.len()), "{} {}", token.kind(), body.len());
        assert!(body.bytes().all(|byte| byte.is_ascii_alphanumeric() && !b"0OIl".contains(&byte)));
        assert!(sum.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }
}

#[test]
fn the_largest_certificate_and_server_still_make_a_token() {
    let with_hosts = |length: usize| {
        let host = |length: usize| "y".repeat(length).parse().unwrap();
        let hosts = vec![host(63), host(60), host(40), host(length)];
        certificate::issue(&Claims { hosts, ..claims() }, &issuer())
    };
    let certificate = (1..=63).rev().find_map(|length| with_hosts(length).ok()).unwrap();
    assert_eq!(certificate.len(), certificate::MAX_CERTIFICATE);
    let server = format!("https://{}", "a".repeat(88)).parse().unwrap();
    let token = ChildToken::new(Secret::Portable(holder()), certificate, root().fingerprint(), server);
    let text = token.unwrap().into_token().to_text();
    assert!(text.len() <= 916, "{}", text.len());
    assert!(Token::parse(&text).is_ok());
}

#[test]
fn a_bound_token_holds_no_secret() {
    let holds_seed = |token: &Token| layout::write(token).windows(32).any(|part| part == holder().expose());
    assert!(holds_seed(&portable()) && !holds_seed(&bound()));
    assert!(bound().to_text().len() < portable().to_text().len());
    assert!(matches!(bound().into_acting().unwrap().secret(), Secret::Bound));
}

#[test]
fn debug_output_names_the_serial_and_never_a_secret() {
    for token in all() {
        let text = format!("{token:?}");
        assert!(!text.contains("mtk_") && !text.contains("0606") && !text.contains("[6, 6"), "{text}");
        assert!(!text.contains("119, 119") && !text.contains("7777"), "{text}");
    }
    assert!(format!("{:?}", master()).contains(&Serial::from_bytes([0xa7; 16]).nonce()));
}

#[test]
fn a_wrong_kind_is_named() {
    let error = master().into_acting().unwrap_err();
    assert_eq!(error.to_string(), "this is a master key, but a child key is needed");
    assert_eq!(error.code(), Code::MasterCannotAct);
    let error = portable().into_master().unwrap_err();
    assert_eq!(error.to_string(), "this is a child key, but a master key is needed");
    assert_eq!(error.code(), Code::InvalidKey);
    assert_eq!(
        relay().into_acting().unwrap_err(),
        TokenError::WrongKind { expected: TokenKind::Child, found: TokenKind::Relay }
    );
    assert!(user().into_acting().is_ok() && master().into_master().is_ok() && relay().into_relay().is_ok());
}

#[test]
fn a_token_under_another_kinds_prefix_is_refused() {
    let renamed = text::seal(TokenKind::User, &layout::write(&portable()));
    assert_eq!(Token::parse(&renamed).unwrap_err(), TokenError::Mismatch);
    let renamed = text::seal(TokenKind::Relay, &layout::write(&master()));
    assert_eq!(Token::parse(&renamed).unwrap_err(), TokenError::Payload);
}

#[test]
fn a_certificate_for_another_key_or_kind_is_refused() {
    assert_eq!(certified(Secret::Portable(seed(9)), &claims()).unwrap_err(), TokenError::Mismatch);
    let relay = Claims { kind: Kind::Relay, ..claims() };
    assert_eq!(certified(Secret::Portable(holder()), &relay).unwrap_err(), TokenError::Mismatch);
}

#[test]
fn damage_behind_a_right_checksum_is_refused() {
    let payload = layout::write(&master());
    let changed = |change: fn(&mut Vec<u8>)| {
        let mut payload = payload.to_vec();
        change(&mut payload);
        Token::parse(&text::seal(TokenKind::Master, &payload)).unwrap_err()
    };
    assert_eq!(changed(|payload| payload[0] = 2), TokenError::Version(2));
    assert_eq!(changed(|payload| payload.push(0)), TokenError::Payload);
    assert_eq!(changed(|payload| payload.truncate(payload.len() - 1)), TokenError::Payload);
    assert_eq!(changed(|payload| payload[65] = 0xff), TokenError::Payload);
    // A server in capitals would be a second text for the same token.
    assert_eq!(changed(|payload| *payload.last_mut().unwrap() = b'/'), TokenError::Payload);
}

proptest! {
    #[test]
    fn a_changed_character_is_refused(kind in 0..5_usize, at in 0..1000_usize, new in "[0-9A-Za-z_]") {
        let mut text = all()[kind].to_text().to_string();
        let at = at % text.len();
        prop_assume!(text[at..=at] != new);
        text.replace_range(at..=at, &new);
        prop_assert!(Token::parse(&text).is_err());
    }

    #[test]
    fn a_cut_token_is_refused(kind in 0..5_usize, keep in 0..1000_usize) {
        let text = all()[kind].to_text();
        prop_assert!(Token::parse(&text[..keep % text.len()]).is_err());
    }

    #[test]
    fn noise_is_refused_and_never_panics(noise in "(mtk_(master|child|user|relay|ticket)_)?\\PC{0,300}", payload: Vec<u8>) {
        prop_assert!(Token::parse(&noise).is_err());
        for kind in TokenKind::ALL {
            // Sealing makes the checksum right, so that the payload itself has to be judged.
            if let Ok(token) = Token::parse(&text::seal(kind, &payload)) {
                prop_assert_eq!(&*token.to_text(), &*text::seal(kind, &payload));
            }
        }
    }

    #[test]
    fn master_keys_come_back(seed: [u8; 32], serial: [u8; 16], root: [u8; 16], project in "proj_[a-z0-9]{1,40}") {
        let token = Token::Master(MasterToken {
            seed: Seed::from_bytes(seed),
            serial: Serial::from_bytes(serial),
            project: project.parse().unwrap(),
            root: RootFingerprint::from_bytes(root),
            server: server(),
        });
        let back = Token::parse(&token.to_text()).unwrap().into_master().unwrap();
        prop_assert_eq!(back.seed.expose(), &seed);
        prop_assert_eq!(back.serial.as_bytes(), &serial);
        prop_assert_eq!(back.root.as_bytes(), &root);
        prop_assert_eq!(back.project.as_str(), project);
    }
}
