use http::StatusCode;
use mytunnel_keys::{feed::SignInGate, id::TunnelKind};

use super::{
    basic::tests::{basic, hash, head},
    *,
};
use crate::{
    ingress::failure::ERROR_HEADER,
    route::{Pipe, PipeError, PipeSource},
};

#[derive(Debug)]
struct Nowhere;

impl PipeSource for Nowhere {
    fn open(&self) -> futures::future::BoxFuture<'_, Result<Pipe, PipeError>> {
        Box::pin(std::future::ready(Err(PipeError::Gone)))
    }
}

const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

fn password(password: &str, generation: u64) -> Gates {
    let basic = BasicGate { user: "ann".to_owned(), hash: hash(password), generation };
    Gates { basic: Some(basic), sign_in: None }
}

fn sign_in() -> SignInGate {
    let (allowed_domains, allowed_emails) = (Vec::new(), Vec::new());
    SignInGate { provider: "google".to_owned(), allowed_domains, allowed_emails }
}

fn tunnel(number: u8, gates: Gates) -> Tunnel {
    let (id, project) = (TunnelId::from_bytes([number; 16]), "proj_a".parse().unwrap());
    Tunnel::new(id, "web".parse().unwrap(), project, TunnelKind::Http, Arc::new(Nowhere))
        .gated(Some(Arc::new(gates)))
}

async fn tried(keeper: &Gatekeeper, tunnel: &Tunnel, user: &str, password: &str) -> Result<Passed, Failure> {
    let headers = head(&[basic(user, password).as_bytes()]);
    keeper.pass(tunnel, &headers, HOME).await.map_err(|denied| denied.failure)
}

#[tokio::test]
async fn nobody_passes_without_the_password_and_the_answer_asks_for_it() {
    let (keeper, web) = (Gatekeeper::new().unwrap(), tunnel(1, password("correct horse", 1)));
    let denied = keeper.pass(&web, &HeaderMap::new(), HOME).await.unwrap_err();
    let page = denied.response(&HeaderMap::new());
    assert_eq!(page.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(page.headers()[WWW_AUTHENTICATE], "Basic realm=\"web\"");
    assert_eq!(page.headers()[ERROR_HEADER], "PASSWORD_REQUIRED");
    assert_eq!(tried(&keeper, &web, "ann", "wrong horse").await.unwrap_err(), Failure::PasswordRequired);
    assert_eq!(tried(&keeper, &web, "bob", "correct horse").await.unwrap_err(), Failure::PasswordRequired);
    tried(&keeper, &web, "ann", "correct horse").await.unwrap();
}

#[tokio::test]
async fn wrong_ones_are_limited_before_hashing_and_who_has_passed_is_not() {
    let (keeper, web) = (Gatekeeper::new().unwrap(), tunnel(1, password("correct horse", 1)));
    tried(&keeper, &web, "ann", "correct horse").await.unwrap();
    let mut failures = Vec::new();
    for number in 0..12 {
        failures.push(tried(&keeper, &web, "ann", &format!("guess {number}")).await.unwrap_err());
    }
    assert_eq!(failures[..10], [Failure::PasswordRequired; 10]);
    assert_eq!(failures[10..], [Failure::TooManyGuesses; 2]);
    let headers = head(&[basic("ann", "one more").as_bytes()]);
    let page = keeper.pass(&web, &headers, HOME).await.unwrap_err().response(&HeaderMap::new());
    assert_eq!(page.status(), StatusCode::TOO_MANY_REQUESTS);
    let wait: u64 = page.headers()[RETRY_AFTER].to_str().unwrap().parse().unwrap();
    assert!((200..=300).contains(&wait), "{wait}");
    // What was proven passes; what is right but was never shown is a guess like any other.
    tried(&keeper, &web, "ann", "correct horse").await.unwrap();
    web.set_gates(Some(Arc::new(password("correct horse", 2))));
    assert_eq!(tried(&keeper, &web, "ann", "correct horse").await.unwrap_err(), Failure::TooManyGuesses);
}

#[tokio::test]
async fn a_proof_is_void_once_the_gate_is_set_anew() {
    let (keeper, web) = (Gatekeeper::new().unwrap(), tunnel(1, password("correct horse", 1)));
    tried(&keeper, &web, "ann", "correct horse").await.unwrap();
    web.set_gates(Some(Arc::new(password("another horse", 2))));
    assert_eq!(tried(&keeper, &web, "ann", "correct horse").await.unwrap_err(), Failure::PasswordRequired);
    tried(&keeper, &web, "ann", "another horse").await.unwrap();
}

#[tokio::test]
async fn a_sign_in_keeps_everybody_out_also_beside_a_password() {
    let keeper = Gatekeeper::new().unwrap();
    let alone = tunnel(1, Gates { basic: None, sign_in: Some(sign_in()) });
    let beside = tunnel(2, Gates { sign_in: Some(sign_in()), ..password("correct horse", 1) });
    for web in [&alone, &beside] {
        let failure = tried(&keeper, web, "ann", "correct horse").await.unwrap_err();
        assert_eq!(failure, Failure::SignInUnavailable);
    }
    let page = keeper.pass(&alone, &HeaderMap::new(), HOME).await.unwrap_err().response(&HeaderMap::new());
    assert_eq!(page.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(page.headers()[ERROR_HEADER], "SIGN_IN_UNAVAILABLE");
    assert!(!page.headers().contains_key(WWW_AUTHENTICATE));
    // Gates without a kind are no open door.
    let odd = tunnel(3, Gates::default());
    assert!(keeper.pass(&odd, &HeaderMap::new(), HOME).await.is_err());
}

#[tokio::test]
async fn what_was_passed_holds_for_those_gates_only() {
    let (keeper, web) = (Gatekeeper::new().unwrap(), tunnel(1, password("correct horse", 1)));
    let passed = tried(&keeper, &web, "ann", "correct horse").await.unwrap();
    passed.check(&web).unwrap();
    web.set_gates(Some(Arc::new(password("correct horse", 1))));
    passed.check(&web).unwrap();
    web.set_gates(Some(Arc::new(password("correct horse", 2))));
    assert_eq!(passed.check(&web).unwrap_err().failure, Failure::PasswordRequired);
    web.set_gates(Some(Arc::new(Gates { basic: None, sign_in: Some(sign_in()) })));
    assert_eq!(passed.check(&web).unwrap_err().failure, Failure::SignInUnavailable);
    web.set_gates(None);
    passed.check(&web).unwrap();
    let open = keeper.pass(&web, &HeaderMap::new(), HOME).await.unwrap();
    web.set_gates(Some(Arc::new(password("correct horse", 3))));
    assert_eq!(open.check(&web).unwrap_err().failure, Failure::PasswordRequired);
}

#[tokio::test]
async fn the_header_goes_no_further_than_the_gate_that_read_it() {
    let (keeper, web) = (Gatekeeper::new().unwrap(), tunnel(1, password("correct horse", 1)));
    let headers = || head(&[basic("ann", "correct horse").as_bytes()]);
    let mut gated = headers();
    tried(&keeper, &web, "ann", "correct horse").await.unwrap().strip(&mut gated);
    assert!(gated.is_empty());
    web.set_gates(None);
    let mut open = headers();
    keeper.pass(&web, &open, HOME).await.unwrap().strip(&mut open);
    assert_eq!(open, headers());
}
