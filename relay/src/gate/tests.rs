mod people;

use http::{
    HeaderValue, Method, StatusCode, Uri,
    header::{CONTENT_TYPE, COOKIE, LOCATION, RETRY_AFTER, SET_COOKIE, WWW_AUTHENTICATE},
};
use http_body_util::Full;
use mytunnel_keys::{
    feed::{AddressGate, BasicGate, BearerGate, PinGate, SessionKey, SignInGate},
    id::{TunnelId, TunnelKind},
};

use super::{
    basic::tests::{basic, hash, head},
    *,
};
use crate::{
    ingress::{failure::ERROR_HEADER, head::Visitor},
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
    Gates { basic: Some(basic), ..Gates::default() }
}

/// One that has nobody to sign in with.
fn gatekeeper() -> Gatekeeper {
    Gatekeeper::new(Arc::default(), "tun.test").unwrap()
}

fn sign_in() -> SignInGate {
    let (allowed_domains, allowed_emails) = (Vec::new(), Vec::new());
    let session_key = SessionKey::from_bytes([8; 32]);
    SignInGate { provider: "google".to_owned(), allowed_domains, allowed_emails, session_key }
}

fn tunnel(number: u8, gates: Gates) -> Tunnel {
    let (id, project) = (TunnelId::from_bytes([number; 16]), "proj_a".parse().unwrap());
    Tunnel::new(id, "web".parse().unwrap(), project, TunnelKind::Http, Arc::new(Nowhere))
        .gated(Some(Arc::new(gates)))
}

/// A request at this second.
const NOW: u64 = 1_800_000_000;

#[derive(Clone)]
struct Request {
    method: Method,
    path: &'static str,
    headers: HeaderMap,
    from: IpAddr,
    secure: bool,
    now: u64,
}

impl Request {
    fn get(headers: HeaderMap) -> Self {
        Self { method: Method::GET, path: "/a?b", headers, from: HOME, secure: true, now: NOW }
    }

    /// What the form of a page sends.
    fn form() -> Self {
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, form)]);
        Self { method: Method::POST, path: "/.mytunnel/pin?to=%2Fa%3Fb", ..Self::get(headers) }
    }

    async fn at(&self, keeper: &Gatekeeper, tunnel: &Tunnel, form: &'static str) -> Result<Outcome, Denied> {
        let Some(gates) = tunnel.gates() else { return Ok(Outcome::Passed(Passed::open())) };
        let (uri, visitor) = (Uri::from_static(self.path), Visitor::new(self.from, self.secure));
        let asked = Asked {
            method: &self.method,
            uri: &uri,
            headers: &self.headers,
            visitor: &visitor,
            host: "web.tun.test",
            now: self.now,
            signed_out: false,
        };
        match keeper.pass(tunnel, gates, &asked).await? {
            Entry::Passed(passed) => Ok(Outcome::Passed(passed)),
            Entry::Own(own) => {
                let body = Full::new(Bytes::from_static(form.as_bytes()));
                keeper.answer(&own, tunnel, &asked, body).await.map(Outcome::Answered)
            }
        }
    }

    async fn passes(&self, keeper: &Gatekeeper, tunnel: &Tunnel) -> Result<Passed, Failure> {
        match self.at(keeper, tunnel, "").await {
            Ok(Outcome::Passed(passed)) => Ok(passed),
            Ok(Outcome::Answered(answer)) => panic!("{answer:?}"),
            Err(denied) => Err(denied.failure),
        }
    }
}

#[derive(Debug)]
enum Outcome {
    Passed(Passed),
    Answered(Response<Bytes>),
}

async fn pass(keeper: &Gatekeeper, tunnel: &Tunnel, headers: &HeaderMap) -> Result<Passed, Denied> {
    match Request::get(headers.clone()).at(keeper, tunnel, "").await? {
        Outcome::Passed(passed) => Ok(passed),
        Outcome::Answered(answer) => panic!("{answer:?}"),
    }
}

async fn tried(keeper: &Gatekeeper, tunnel: &Tunnel, user: &str, password: &str) -> Result<Passed, Failure> {
    let headers = head(&[basic(user, password).as_bytes()]);
    pass(keeper, tunnel, &headers).await.map_err(|denied| denied.failure)
}

#[tokio::test]
async fn nobody_passes_without_the_password_and_the_answer_asks_for_it() {
    let (keeper, web) = (gatekeeper(), tunnel(1, password("correct horse", 1)));
    let denied = pass(&keeper, &web, &HeaderMap::new()).await.unwrap_err();
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
    let (keeper, web) = (gatekeeper(), tunnel(1, password("correct horse", 1)));
    tried(&keeper, &web, "ann", "correct horse").await.unwrap();
    let mut failures = Vec::new();
    for number in 0..12 {
        failures.push(tried(&keeper, &web, "ann", &format!("guess {number}")).await.unwrap_err());
    }
    assert_eq!(failures[..10], [Failure::PasswordRequired; 10]);
    assert_eq!(failures[10..], [Failure::TooManyGuesses; 2]);
    let headers = head(&[basic("ann", "one more").as_bytes()]);
    let page = pass(&keeper, &web, &headers).await.unwrap_err().response(&HeaderMap::new());
    assert_eq!(page.status(), StatusCode::TOO_MANY_REQUESTS);
    let wait: u64 = page.headers()[RETRY_AFTER].to_str().unwrap().parse().unwrap();
    assert!((200..=300).contains(&wait), "{wait}");
    // What was proven passes, and a new setting begins anew.
    tried(&keeper, &web, "ann", "correct horse").await.unwrap();
    web.set_gates(Some(Arc::new(password("correct horse", 2))));
    tried(&keeper, &web, "ann", "correct horse").await.unwrap();
}

#[tokio::test]
async fn what_was_right_for_one_is_not_told_to_who_guesses() {
    let (keeper, web) = (gatekeeper(), tunnel(1, password("correct horse", 1)));
    tried(&keeper, &web, "ann", "correct horse").await.unwrap();
    let from = async |address: [u8; 4], password: &str| {
        let headers = head(&[basic("ann", password).as_bytes()]);
        let request = Request { from: address.into(), ..Request::get(headers) };
        request.passes(&keeper, &web).await.map(drop)
    };
    let elsewhere = [192, 0, 2, 99];
    for number in 0..10 {
        assert_eq!(from(elsewhere, &format!("guess {number}")).await, Err(Failure::PasswordRequired));
    }
    assert_eq!(from(elsewhere, "one more").await, Err(Failure::TooManyGuesses));
    assert_eq!(from(elsewhere, "correct horse").await, Err(Failure::TooManyGuesses), "also the right one");
    tried(&keeper, &web, "ann", "correct horse").await.unwrap();
    // In the network of who was right, whoever guesses without end learns nothing, either.
    for number in 0..110 {
        assert!(tried(&keeper, &web, "ann", &format!("guess {number}")).await.is_err());
    }
    let right = tried(&keeper, &web, "ann", "correct horse").await;
    assert_eq!(right.unwrap_err(), Failure::TooManyGuesses);
}

#[tokio::test]
async fn a_proof_is_void_once_the_gate_is_set_anew() {
    let (keeper, web) = (gatekeeper(), tunnel(1, password("correct horse", 1)));
    tried(&keeper, &web, "ann", "correct horse").await.unwrap();
    web.set_gates(Some(Arc::new(password("another horse", 2))));
    assert_eq!(tried(&keeper, &web, "ann", "correct horse").await.unwrap_err(), Failure::PasswordRequired);
    tried(&keeper, &web, "ann", "another horse").await.unwrap();
}

#[tokio::test]
async fn a_sign_in_keeps_everybody_out_also_beside_a_password() {
    let keeper = gatekeeper();
    let alone = tunnel(1, Gates { sign_in: Some(sign_in()), ..Gates::default() });
    let beside = tunnel(2, Gates { sign_in: Some(sign_in()), ..password("correct horse", 1) });
    for web in [&alone, &beside] {
        let failure = tried(&keeper, web, "ann", "correct horse").await.unwrap_err();
        assert_eq!(failure, Failure::SignInUnavailable);
    }
    let page = pass(&keeper, &alone, &HeaderMap::new()).await.unwrap_err().response(&HeaderMap::new());
    assert_eq!(page.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(page.headers()[ERROR_HEADER], "SIGN_IN_UNAVAILABLE");
    assert!(!page.headers().contains_key(WWW_AUTHENTICATE));
}

#[tokio::test]
async fn what_was_passed_holds_for_those_gates_only() {
    let (keeper, web) = (gatekeeper(), tunnel(1, password("correct horse", 1)));
    let passed = tried(&keeper, &web, "ann", "correct horse").await.unwrap();
    passed.check(&web).unwrap();
    web.set_gates(Some(Arc::new(password("correct horse", 1))));
    passed.check(&web).unwrap();
    web.set_gates(Some(Arc::new(Gates { ends_at: Some(u64::MAX), ..password("correct horse", 1) })));
    passed.check(&web).unwrap();
    web.set_gates(Some(Arc::new(password("correct horse", 2))));
    assert_eq!(passed.check(&web).unwrap_err().failure, Failure::PasswordRequired);
    web.set_gates(Some(Arc::new(Gates { sign_in: Some(sign_in()), ..Gates::default() })));
    assert_eq!(passed.check(&web).unwrap_err().failure, Failure::SignInRequired);
    web.set_gates(None);
    passed.check(&web).unwrap();
    let open = pass(&keeper, &web, &HeaderMap::new()).await.unwrap();
    web.set_gates(Some(Arc::new(Gates { ends_at: Some(u64::MAX), ..Gates::default() })));
    open.check(&web).unwrap();
    web.set_gates(Some(Arc::new(password("correct horse", 3))));
    assert_eq!(open.check(&web).unwrap_err().failure, Failure::PasswordRequired);
}

#[tokio::test]
async fn the_header_goes_no_further_than_the_gate_that_read_it() {
    let (keeper, web) = (gatekeeper(), tunnel(1, password("correct horse", 1)));
    let headers = || head(&[basic("ann", "correct horse").as_bytes()]);
    let mut gated = headers();
    tried(&keeper, &web, "ann", "correct horse").await.unwrap().strip(&mut gated);
    assert!(gated.is_empty());
    web.set_gates(None);
    let mut open = headers();
    pass(&keeper, &web, &open).await.unwrap().strip(&mut open);
    assert_eq!(open, headers());
}

fn number(pin: &str, generation: u64) -> Gates {
    let session_key = SessionKey::from_bytes([u8::try_from(generation).unwrap(); 32]);
    Gates { pin: Some(PinGate { hash: hash(pin), generation, session_key }), ..Gates::default() }
}

fn bearer(token: &str) -> Gates {
    Gates { bearer: Some(BearerGate { hash: hash(token), generation: 1 }), ..Gates::default() }
}

fn addresses(allow: &[&str], deny: &[&str]) -> Gates {
    let networks = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    Gates {
        addresses: Some(AddressGate { allow: networks(allow), deny: networks(deny) }),
        ..Gates::default()
    }
}

fn authorized(value: &str) -> HeaderMap {
    head(&[value.as_bytes()])
}

/// The session that a right number gives.
async fn session(keeper: &Gatekeeper, web: &Tunnel, request: &Request) -> HeaderMap {
    let Ok(Outcome::Answered(answer)) = request.at(keeper, web, "pin=123456").await else {
        panic!("no answer")
    };
    assert_eq!(
        (answer.status(), answer.headers()[LOCATION].as_bytes()),
        (StatusCode::SEE_OTHER, &b"/a?b"[..])
    );
    let cookie = answer.headers()[SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned();
    HeaderMap::from_iter([(COOKIE, HeaderValue::try_from(cookie).unwrap())])
}

#[tokio::test]
async fn who_types_the_number_gets_a_session_that_counts_for_its_setting() {
    let (keeper, web) = (gatekeeper(), tunnel(1, number("123456", 1)));
    let mut html = HeaderMap::new();
    html.insert("accept", HeaderValue::from_static("text/html"));
    let denied = pass(&keeper, &web, &html).await.unwrap_err();
    let page = denied.response(&html);
    assert_eq!(page.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(page.headers()[ERROR_HEADER], "PIN_REQUIRED");
    let text = std::str::from_utf8(page.body()).unwrap();
    assert!(text.contains("action=\"/.mytunnel/pin?to=%2Fa%3Fb\""), "{text}");
    assert!(page.headers()[WWW_AUTHENTICATE].to_str().unwrap().starts_with("Cookie realm=\"web\""));

    let wrong = Request::form().at(&keeper, &web, "pin=654321").await.unwrap_err();
    assert_eq!(wrong.failure, Failure::PinWrong);
    let page = wrong.response(&html);
    assert!(
        std::str::from_utf8(page.body()).unwrap().contains("to=%2Fa%3Fb"),
        "it is still known where to go"
    );

    let known = session(&keeper, &web, &Request::form()).await;
    let mut forwarded = known.clone();
    forwarded.append(COOKIE, HeaderValue::from_static("own=1"));
    pass(&keeper, &web, &known).await.unwrap().strip(&mut forwarded);
    assert_eq!(forwarded.get_all(COOKIE).iter().collect::<Vec<_>>(), ["own=1"]);
    // Another relay, or the same after its start, knows nothing but the gate.
    pass(&gatekeeper(), &web, &known).await.unwrap();
    let later = Request { now: NOW + pin::SESSION, ..Request::get(known.clone()) };
    assert_eq!(later.passes(&keeper, &web).await.unwrap_err(), Failure::PinRequired);
    web.set_gates(Some(Arc::new(number("123456", 2))));
    assert_eq!(pass(&keeper, &web, &known).await.unwrap_err().failure, Failure::PinRequired);
    let other = tunnel(2, number("123456", 3));
    assert_eq!(pass(&keeper, &other, &known).await.unwrap_err().failure, Failure::PinRequired);
}

#[tokio::test]
async fn a_session_of_plain_http_is_none_of_tls() {
    let (keeper, web) = (gatekeeper(), tunnel(1, number("123456", 1)));
    let plain = Request { secure: false, ..Request::form() };
    let known = session(&keeper, &web, &plain).await;
    assert!(known[COOKIE].to_str().unwrap().starts_with("mtk_pin="));
    Request { secure: false, ..Request::get(known.clone()) }.passes(&keeper, &web).await.unwrap();
    // Over TLS only a name counts that no sibling can set.
    assert_eq!(pass(&keeper, &web, &known).await.unwrap_err().failure, Failure::PinRequired);
}

#[tokio::test]
async fn the_form_is_taken_from_its_own_page_and_nothing_else_is() {
    let (keeper, web) = (gatekeeper(), tunnel(1, number("123456", 1)));
    let sent = async |request: Request| match request.at(&keeper, &web, "pin=123456").await {
        Ok(outcome) => panic!("{outcome:?}"),
        Err(denied) => denied.failure,
    };
    let with = |name: &'static str, value: &'static str| {
        let mut request = Request::form();
        request.headers.insert(name, HeaderValue::from_static(value));
        request
    };
    assert_eq!(sent(with("sec-fetch-site", "same-site")).await, Failure::CrossSite);
    assert_eq!(sent(with("origin", "https://evil.tun.test")).await, Failure::CrossSite);
    assert_eq!(sent(with("content-type", "text/plain")).await, Failure::BadRequest);
    let put = Request { method: Method::PUT, ..Request::form() };
    assert_eq!(sent(put).await, Failure::PinRequired);
    let elsewhere = Request { path: "/.mytunnel/pins", ..Request::form() };
    assert_eq!(sent(elsewhere).await, Failure::PinRequired);
    // With nothing to ask for, the gates' own pages lead on and never to the node.
    let known = session(&keeper, &web, &Request::form()).await;
    for path in ["/.mytunnel/pin?to=%2Fa", "/.mytunnel/x"] {
        let request = Request { path, ..Request::get(known.clone()) };
        assert!(matches!(request.at(&keeper, &web, "").await, Ok(Outcome::Answered(_))), "{path}");
    }
}

#[tokio::test]
async fn numbers_are_guessed_five_times_a_minute_and_fifty_times_an_hour_from_anywhere() {
    let (keeper, web) = (gatekeeper(), tunnel(1, number("123456", 1)));
    let known = session(&keeper, &web, &Request::form()).await;
    let forms: Vec<&'static str> =
        (0..60).map(|number| &*Box::leak(format!("pin=9{number:05}").into_boxed_str())).collect();
    let from = |address: u8| Request { from: [192, 0, 2, address].into(), ..Request::form() };
    let guess = async |address: u8, number: usize| {
        from(address).at(&keeper, &web, forms[number]).await.unwrap_err().failure
    };
    for number in 0..5 {
        assert_eq!(guess(1, number).await, Failure::PinWrong);
    }
    assert_eq!(guess(1, 5).await, Failure::TooManyGuesses);
    // Nor is the right one told apart, because it was right for somebody.
    let right = async |address| from(address).at(&keeper, &web, "pin=123456").await;
    assert_eq!(right(1).await.unwrap_err().failure, Failure::TooManyGuesses);
    for number in 5..50 {
        assert_eq!(guess(u8::try_from(number).unwrap(), number).await, Failure::PinWrong, "{number}");
    }
    let denied = from(200).at(&keeper, &web, forms[50]).await.unwrap_err();
    assert_eq!(denied.failure, Failure::TooManyGuesses);
    let page = denied.response(&HeaderMap::new());
    let wait: u64 = page.headers()[RETRY_AFTER].to_str().unwrap().parse().unwrap();
    assert!((3000..=3600).contains(&wait), "{wait}");
    assert_eq!(right(201).await.unwrap_err().failure, Failure::TooManyGuesses);
    // Who was in stays in.
    pass(&keeper, &web, &known).await.unwrap();
}

#[tokio::test]
async fn a_right_token_stands_for_all_that_people_are_asked_and_for_nothing_else() {
    let keeper = gatekeeper();
    let right = authorized("Bearer sixteen-letters-or-more");
    let wrong = authorized("Bearer sixteen-letters-or-less");
    let token = || bearer("sixteen-letters-or-more");
    let alone = tunnel(1, token());
    let beside = tunnel(
        2,
        Gates {
            basic: password("correct horse", 1).basic,
            pin: number("123456", 1).pin,
            sign_in: Some(sign_in()),
            ..token()
        },
    );
    for web in [&alone, &beside] {
        let mut forwarded = right.clone();
        pass(&keeper, web, &right).await.unwrap().strip(&mut forwarded);
        assert!(forwarded.is_empty(), "the token goes no further");
        let denied = pass(&keeper, web, &wrong).await.unwrap_err();
        assert_eq!(denied.failure, Failure::TokenRequired);
        let page = denied.response(&HeaderMap::new());
        assert_eq!(page.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(page.headers()[ERROR_HEADER], "TOKEN_REQUIRED");
        let challenges = page.headers().get_all(WWW_AUTHENTICATE).iter();
        assert!(challenges.into_iter().any(|challenge| challenge == "Bearer realm=\"web\""));
    }
    let asked = pass(&keeper, &alone, &HeaderMap::new()).await.unwrap_err();
    assert_eq!(asked.failure, Failure::TokenRequired);
    let asked = pass(&keeper, &beside, &HeaderMap::new()).await.unwrap_err();
    assert_eq!(asked.failure, Failure::PasswordRequired);
    // Where they may come from is asked of programs, too.
    let elsewhere = tunnel(3, Gates { addresses: addresses(&["198.51.100.0/24"], &[]).addresses, ..token() });
    assert_eq!(pass(&keeper, &elsewhere, &right).await.unwrap_err().failure, Failure::AddressDenied);
    // A tunnel without the gate has tokens of its own.
    let other = tunnel(4, addresses(&["192.0.2.0/24"], &[]));
    let mut forwarded = right.clone();
    pass(&keeper, &other, &right).await.unwrap().strip(&mut forwarded);
    assert_eq!(forwarded, right);
}

#[tokio::test]
async fn a_wrong_token_is_refused_whatever_comes_with_it_and_guessed_ten_times() {
    let keeper = gatekeeper();
    let web = tunnel(1, Gates { pin: number("123456", 1).pin, ..bearer("sixteen-letters-or-more") });
    let known = session(&keeper, &web, &Request::form()).await;
    pass(&keeper, &web, &known).await.unwrap();
    let with = |token: &str| {
        let mut headers = known.clone();
        headers.insert(AUTHORIZATION, HeaderValue::try_from(format!("Bearer {token}")).unwrap());
        headers
    };
    assert_eq!(pass(&keeper, &web, &with("a b")).await.unwrap_err().failure, Failure::TokenRequired);
    for number in 0..10 {
        let denied = pass(&keeper, &web, &with(&format!("guess-{number}"))).await.unwrap_err();
        assert_eq!(denied.failure, Failure::TokenRequired);
    }
    assert_eq!(pass(&keeper, &web, &with("one-more")).await.unwrap_err().failure, Failure::TooManyGuesses);
    // With the session alone nothing of the application's own is taken away.
    let mut own = known.clone();
    own.insert(AUTHORIZATION, HeaderValue::from_static("Basic YTpi"));
    let passed = pass(&keeper, &web, &own).await.unwrap();
    passed.strip(&mut own);
    assert!(own.contains_key(AUTHORIZATION) && !own.contains_key(COOKIE));
}

#[tokio::test]
async fn every_gate_that_people_are_asked_at_is_passed_in_its_order() {
    let keeper = gatekeeper();
    let all = Gates {
        basic: password("correct horse", 1).basic,
        addresses: addresses(&["192.0.2.0/24"], &["192.0.2.9"]).addresses,
        ends_at: Some(NOW + 60),
        ..number("123456", 1)
    };
    let web = tunnel(1, all);
    let with_password = authorized(&basic("ann", "correct horse"));
    let request = Request::get(HeaderMap::new());
    let told = async |request: &Request| request.passes(&keeper, &web).await.unwrap_err();
    let late = Request { now: NOW + 60, from: [203, 0, 113, 1].into(), ..request.clone() };
    assert_eq!(told(&late).await, Failure::Ended);
    for from in [[203, 0, 113, 1], [192, 0, 2, 9]] {
        let elsewhere = Request { from: from.into(), ..Request::get(with_password.clone()) };
        assert_eq!(told(&elsewhere).await, Failure::AddressDenied, "{from:?}");
    }
    assert_eq!(told(&request).await, Failure::PasswordRequired);
    assert_eq!(told(&Request::get(with_password.clone())).await, Failure::PinRequired);
    // The number is not asked for before the password: nobody else's guesses count.
    let early = Request::form().at(&keeper, &web, "pin=123456").await.unwrap_err();
    assert_eq!(early.failure, Failure::PasswordRequired);
    let mut form = Request::form();
    form.headers.extend(with_password.clone());
    let mut known = session(&keeper, &web, &form).await;
    assert_eq!(told(&Request::get(known.clone())).await, Failure::PasswordRequired);
    known.extend(with_password);
    pass(&keeper, &web, &known).await.unwrap();
}
