use std::sync::Arc;

use http::{
    HeaderMap, Uri,
    header::{COOKIE, HOST},
};
use mytunnel_keys::{feed::Gates, id::TunnelId};
use mytunnel_sign_in::{Provider, Settings};

use super::*;
use crate::{
    ingress::head::Visitor,
    route::{Pipe, PipeError, PipeSource, Tunnel},
};

const NOW: u64 = 1_800_000_000;
const CONSOLE: &str = "tun.test";

#[derive(Debug)]
struct Nowhere;

impl PipeSource for Nowhere {
    fn open(&self) -> futures::future::BoxFuture<'_, Result<Pipe, PipeError>> {
        Box::pin(std::future::ready(Err(PipeError::Gone)))
    }
}

fn gate() -> SignInGate {
    SignInGate {
        provider: "github".to_owned(),
        allowed_domains: Vec::new(),
        allowed_emails: Vec::new(),
        session_key: SessionKey::from_bytes([7; 32]),
    }
}

/// GitHub's addresses are known without asking it.
fn client() -> Client {
    client_at(None)
}

/// The same with a GitHub of one's own.
fn client_at(issuer: Option<String>) -> Client {
    let settings = Settings {
        id: "github".to_owned(),
        issuer,
        client_id: "us".to_owned(),
        client_secret: Zeroizing::new("secret".to_owned()),
        ..Settings::default()
    };
    Client::new(vec![Provider::new(settings).unwrap()]).unwrap()
}

fn routes() -> Routes {
    let routes = Routes::new();
    let (id, project) = (TunnelId::from_bytes([1; 16]), "proj_a".parse().unwrap());
    let gates = Gates { sign_in: Some(gate()), ..Gates::default() };
    let tunnel = Tunnel::new(id, "web".parse().unwrap(), project, TunnelKind::Http, Arc::new(Nowhere));
    routes.insert(tunnel.gated(Some(Arc::new(gates))));
    routes
}

/// A browser's request over TLS, with the cookies that it has.
struct Asking {
    uri: Uri,
    headers: HeaderMap,
    visitor: Visitor,
    host: String,
    now: u64,
}

impl Asking {
    fn get(address: &str, cookies: &[String]) -> Self {
        let uri: Uri = address.parse().unwrap();
        let authority = uri.authority().unwrap().clone();
        let mut headers = HeaderMap::from_iter([(HOST, HeaderValue::from_str(authority.as_str()).unwrap())]);
        if !cookies.is_empty() {
            headers.insert(COOKIE, HeaderValue::from_str(&cookies.join("; ")).unwrap());
        }
        let visitor = Visitor::new([192, 0, 2, 1].into(), true);
        Self { uri, headers, visitor, host: authority.host().to_owned(), now: NOW }
    }

    fn asked(&self) -> Asked<'_> {
        let (uri, headers, visitor) = (&self.uri, &self.headers, &self.visitor);
        Asked {
            method: &Method::GET,
            uri,
            headers,
            visitor,
            host: &self.host,
            now: self.now,
            signed_out: false,
        }
    }
}

fn led_to(response: &Response<Bytes>) -> &str {
    response.headers()[LOCATION].to_str().unwrap()
}

/// Cookies that an answer sets, as a browser sends them.
fn set(response: &Response<Bytes>) -> Vec<String> {
    let all = response.headers().get_all(SET_COOKIE).iter();
    all.map(|cookie| cookie.to_str().unwrap().split(';').next().unwrap().to_owned()).collect()
}

fn begun(address: &str) -> Response<Bytes> {
    begin(&gate(), &Asking::get(address, &[]).asked(), CONSOLE, [3; 32]).unwrap()
}

async fn started(address: &str, routes: &Routes, now: u64) -> Result<Response<Bytes>, Failure> {
    let asking = Asking { now, ..Asking::get(address, &[]) };
    let places = Places { routes, domain: "tun.test", console: CONSOLE };
    at_console((&client(), &Mutex::default()), &asking.asked(), places, [5; 64]).await
}

#[tokio::test]
async fn the_way_to_the_provider_is_sealed_and_has_its_time() {
    let first = begun("https://web.tun.test:8443/a?b");
    let to = led_to(&first);
    assert!(to.starts_with("https://tun.test:8443/.mytunnel/sign-in?begin="), "{to}");
    assert!(set(&first)[0].starts_with("__Host-mtk_pre="), "{:?}", set(&first));

    let routes = routes();
    let second = started(to, &routes, NOW).await.unwrap();
    let address = led_to(&second);
    assert!(address.starts_with("https://github.com/login/oauth/authorize?"), "{address}");
    assert!(
        address.contains("redirect_uri=https%3A%2F%2Ftun.test%3A8443%2F.mytunnel%2Fcallback"),
        "{address}"
    );
    assert!(address.contains("code_challenge_method=S256") && address.contains("&state="));
    assert!(set(&second)[0].starts_with("__Host-mtk_visit="));

    assert_eq!(started(to, &routes, NOW + PATIENCE).await.unwrap_err(), Failure::SignInStale);
    assert_eq!(started(&format!("{to}A"), &routes, NOW).await.unwrap_err(), Failure::SignInStale);
    // Of a host that is none of ours, or a tunnel without the gate, nothing is taken.
    for host in ["web.evil.example", "evil.example", "tun.test", "a.web.tun.test"] {
        let begun = begun(&format!("https://{host}/"));
        let to = format!("https://tun.test{}", led_to(&begun).split_once(CONSOLE).unwrap().1);
        assert_eq!(started(&to, &routes, NOW).await.unwrap_err(), Failure::SignInStale, "{host}");
    }
    let own = begun("https://app.example.com/");
    assert_eq!(started(led_to(&own), &routes, NOW).await.unwrap_err(), Failure::SignInStale);
    routes.point(&"app.example.com".parse().unwrap(), &"web".parse().unwrap());
    assert!(
        started(led_to(&own), &routes, NOW).await.is_ok(),
        "a domain of the tunnel's own is its host too"
    );
    let other = begun("https://other.tun.test/");
    assert_eq!(started(led_to(&other), &routes, NOW).await.unwrap_err(), Failure::UnknownName);
    routes.find("web");
    if let Lookup::Live(tunnel) = routes.find("web") {
        tunnel.set_gates(None);
    }
    assert_eq!(started(to, &routes, NOW).await.unwrap_err(), Failure::SignInStale);
}

#[tokio::test]
async fn a_relay_where_the_node_is_not_does_its_steps_as_well() {
    let (first, routes, name) = (begun("https://web.tun.test/"), Routes::new(), "web".parse().unwrap());
    routes.note_known(&name, None);
    assert_eq!(started(led_to(&first), &routes, NOW).await.unwrap_err(), Failure::Away);
    let gates = |sign_in| Some(Arc::new(Gates { sign_in, ..Gates::default() }));
    routes.note_gates(&name, gates(Some(gate())));
    let led = started(led_to(&first), &routes, NOW).await.unwrap();
    assert!(led_to(&led).starts_with("https://github.com/"), "{}", led_to(&led));
    routes.note_gates(&name, gates(None));
    assert_eq!(started(led_to(&first), &routes, NOW).await.unwrap_err(), Failure::SignInStale);
}

#[tokio::test]
async fn of_two_pages_that_sign_in_at_once_each_comes_to_its_end() {
    let routes = routes();
    let places = Places { routes: &routes, domain: "tun.test", console: CONSOLE };
    let first = begun("https://web.tun.test/one");
    let start = async |to: &str, cookies: &[String], random: u8| {
        let desk = (&client(), &Mutex::default());
        at_console(desk, &Asking::get(to, cookies).asked(), places, [random; 64]).await.unwrap()
    };
    let one = start(led_to(&first), &[], 5).await;
    let two = start(led_to(&first), &set(&one), 6).await;
    assert_eq!(set(&one), set(&two), "the second leaves the first its cookie");
    let state = |to: &Response<Bytes>| led_to(to).split("&state=").nth(1).unwrap().to_owned();
    assert_ne!(state(&one), state(&two), "and is a sign-in of its own");

    // Back at the tunnel's host the first to come is let in, and takes the cookie away that both were bound to.
    let pre = BASE64URL_NOPAD.encode(&[3; 32]);
    let who = |subject: &str| Who { subject: subject.to_owned(), email: None, shown: subject.to_owned() };
    let ticket = |back: &str, who: Who| {
        let way = Way { host: "web.tun.test".to_owned(), back: back.to_owned(), pre: hash(&pre) };
        let ticket = Ticket { way, who, ends_at: NOW + TICKET_LIFE, salt: back.to_owned() };
        sealed::seal(&gate().session_key, &ticket).unwrap()
    };
    let mut spent = Spent::default();
    let mut redeemed = |ticket: &str, cookies: &[String]| {
        let asking = Asking::get(&format!("https://web.tun.test/.mytunnel/ticket?ticket={ticket}"), cookies);
        redeem(&gate(), &asking.asked(), |ticket, now| spent.spend(ticket, now))
    };
    let (one, two) = (ticket("/one", who("ann")), ticket("/two", who("ann")));
    let entered = redeemed(&one, &[format!("__Host-mtk_pre={pre}")]).unwrap();
    let session = &set(&entered)[..1];
    let second = redeemed(&two, session).unwrap();
    assert_eq!((led_to(&second), set(&second).len()), ("/two", 0), "it goes on with the session that stands");
    assert_eq!(led_to(&redeemed(&one, session).unwrap()), "/one", "also who looks at it again");
    // Who is not in is not let in by a ticket without its cookie, nor by one that was used.
    for cookies in [&[][..], &["__Host-mtk_gate=AAAA".to_owned()]] {
        assert_eq!(redeemed(&two, cookies).unwrap_err(), Failure::SignInStale);
    }
    assert_eq!(redeemed(&one, &[format!("__Host-mtk_pre={pre}")]).unwrap_err(), Failure::SignInStale);
    let evil = ticket("//evil.example", who("eve"));
    assert_eq!(led_to(&redeemed(&evil, session).unwrap()), "/", "nowhere else");
}

#[tokio::test]
async fn a_way_back_asks_the_provider_once() {
    let knocks = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = knocks.local_addr().unwrap();
    // Nobody listens there any more, so that it is unreachable at once.
    drop(knocks);
    let (routes, states) = (routes(), Mutex::default());
    let client = client_at(Some(format!("https://{address}")));
    let places = Places { routes: &routes, domain: "tun.test", console: CONSOLE };
    let ask = async |to: &str, cookies: &[String]| {
        at_console((&client, &states), &Asking::get(to, cookies).asked(), places, [5; 64]).await
    };
    let first = begun("https://web.tun.test/");
    let second = ask(led_to(&first), &[]).await.unwrap();
    let state = led_to(&second).split("&state=").nth(1).unwrap().split('&').next().unwrap().to_owned();
    let back = |what: &str| format!("https://tun.test/.mytunnel/callback?state={state}&{what}");
    for _ in 0..2 {
        let declined = ask(&back("error=access_denied"), &set(&second)).await;
        assert_eq!(declined.unwrap_err(), Failure::SignInDeclined);
    }
    assert_eq!(ask(&back("code=one"), &[]).await.unwrap_err(), Failure::SignInStale, "another browser's");
    assert_eq!(ask(&back("code=one"), &set(&second)).await.unwrap_err(), Failure::SignInDown);
    for code in ["code=one", "code=two"] {
        assert_eq!(ask(&back(code), &set(&second)).await.unwrap_err(), Failure::SignInStale, "{code}");
    }
}

#[test]
fn pages_that_are_opened_at_once_are_one_sign_in() {
    let first = set(&begun("https://web.tun.test/"));
    let asking = Asking::get("https://web.tun.test/", &first);
    let second = begin(&gate(), &asking.asked(), CONSOLE, [9; 32]).unwrap();
    assert_eq!(set(&second), first);
    // What a sibling tossed there is none of ours.
    let odd = Asking::get("https://web.tun.test/", &["__Host-mtk_pre=short".to_owned()]);
    let third = begin(&gate(), &odd.asked(), CONSOLE, [9; 32]).unwrap();
    assert_ne!(set(&third)[0], "__Host-mtk_pre=short");
}

#[test]
fn a_ticket_is_for_one_browser_one_host_and_one_minute() {
    let pre = BASE64URL_NOPAD.encode(&[3; 32]);
    let way = Way { host: "web.tun.test".to_owned(), back: "/a?b".to_owned(), pre: hash(&pre) };
    let who = Who { subject: "7".to_owned(), email: None, shown: "ann".to_owned() };
    let ticket = |way: &Way| {
        let ticket =
            Ticket { way: way.clone(), who: who.clone(), ends_at: NOW + TICKET_LIFE, salt: String::new() };
        sealed::seal(&gate().session_key, &ticket).unwrap()
    };
    let redeemed = |host: &str, ticket: &str, cookie: &str, now| {
        let address = format!("https://{host}/.mytunnel/ticket?ticket={ticket}");
        let asking = Asking { now, ..Asking::get(&address, &[format!("__Host-mtk_pre={cookie}")]) };
        redeem(&gate(), &asking.asked(), |_, _| Ok(()))
    };
    let good = ticket(&way);
    let entered = redeemed("web.tun.test", &good, &pre, NOW).unwrap();
    assert_eq!(led_to(&entered), "/a?b");
    let cookies = set(&entered);
    assert!(cookies[0].starts_with("__Host-mtk_gate=") && cookies[1] == "__Host-mtk_pre=", "{cookies:?}");
    let asking = Asking::get("https://web.tun.test/", &cookies[..1]);
    let session = asking.asked().session(Name::GATE, &gate().session_key).unwrap();
    assert_eq!(Who::read(&session), Some(who.clone()));

    let stale =
        |answer: Result<Response<Bytes>, Failure>| assert_eq!(answer.unwrap_err(), Failure::SignInStale);
    stale(redeemed("web.tun.test", &good, &pre, NOW + TICKET_LIFE));
    stale(redeemed("other.tun.test", &good, &pre, NOW));
    stale(redeemed("web.tun.test", &good, &BASE64URL_NOPAD.encode(&[4; 32]), NOW));
    stale(redeemed("web.tun.test", "AAAA", &pre, NOW));
    // One kind of what is carried is no other.
    let begin = led_to(&begun("https://web.tun.test/")).split_once('=').unwrap().1.to_owned();
    stale(redeemed("web.tun.test", &begin, &pre, NOW));
    // Whatever stands in it, the way back stays at home.
    let elsewhere = ticket(&Way { back: "//evil.example".to_owned(), ..way });
    assert_eq!(led_to(&redeemed("web.tun.test", &elsewhere, &pre, NOW).unwrap()), "/");
}
