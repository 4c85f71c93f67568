//! Asking people for a number: a page of our own, which needs no script, and what it sends.

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderValue, Method, Response, StatusCode,
    header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderName, LOCATION,
        REFERRER_POLICY, SET_COOKIE,
    },
};
use http_body::Body;
use http_body_util::{BodyExt as _, Limited};
use mytunnel_keys::feed::PinGate;
use url::form_urlencoded;
use zeroize::Zeroizing;

use super::{
    asked::{Asked, OWN, at_home},
    basic::Credentials,
    cookies::{self, Name},
    session::Session,
};
use crate::ingress::failure::Failure;

/// The page's path below [`OWN`].
pub(super) const PAGE: &str = "pin";

/// For so many seconds nobody is asked again: half a day.
pub(super) const SESSION: u64 = 12 * 3600;

/// Largest form, and how long it may take to come.
const MAX_FORM: usize = 1024;
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) const STYLE: &str = ":root{color-scheme:light dark}body{font:1rem/1.5 system-ui,sans-serif;max-width:22rem;\
    margin:14vh auto;padding:0 1.5rem}h1{font-size:1.4rem}p{opacity:.85}p[role=alert]{opacity:1;font-weight:600}\
    label{display:block;margin:1.2rem 0 .4rem}input,button{box-sizing:border-box;width:100%;font:inherit;\
    padding:.7rem;border:1px solid;border-radius:.4rem}input{font-size:1.4rem;letter-spacing:.2em}\
    button{margin-top:1rem;cursor:pointer;background:CanvasText;color:Canvas}\
    :focus-visible{outline:3px solid #4c8dff;outline-offset:2px}";

/// Forbids everything but the page's own style and its form.
pub(super) const POLICY: &str = "default-src 'none'; style-src 'sha256-7Nmxdz7126/fHZN47Az1DBg4LJPXUeBONQUtcWtnNjE='; form-action 'self'; frame-ancestors 'none'; \
    base-uri 'none'";

/// What somebody typed, and where they were going.
#[derive(Debug)]
pub(super) struct Typed {
    pub(super) pin: Credentials,
}

/// The page, for who wants to go on to `way_back`.
pub(super) fn page(tunnel: &str, way_back: &str, failure: Failure) -> Bytes {
    let way_back: String = form_urlencoded::byte_serialize(way_back.as_bytes()).collect();
    let said = match failure == Failure::PinWrong {
        true => "<p role=\"alert\">That was not it. Try again.</p>",
        false => "",
    };
    Bytes::from(format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>PIN for {tunnel}</title>\
         <style>{STYLE}</style></head><body><main><h1>{tunnel} asks for a PIN</h1>\
         <p>Whoever gave you the address has it.</p>{said}\
         <form method=\"post\" action=\"{OWN}{PAGE}?to={way_back}\"><label for=\"pin\">PIN</label>\
         <input id=\"pin\" name=\"pin\" inputmode=\"numeric\" pattern=\"[0-9 ]*\" maxlength=\"24\" \
         autocomplete=\"off\" required autofocus><button>Open</button></form></main></body></html>\n"
    ))
}

/// What goes with the page.
pub(super) fn headers_of_page(headers: &mut HeaderMap) {
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    // With less than that, browsers hide from us whose page sends the form.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(HeaderName::from_static("x-frame-options"), HeaderValue::from_static("DENY"));
}

/// Where the form leads to.
pub(super) fn destination<'a>(query: Option<&'a str>) -> std::borrow::Cow<'a, str> {
    let given = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let to = given.into_iter().find(|(name, _)| name == "to").map(|(_, to)| to);
    to.filter(|to| at_home(to).is_some()).unwrap_or("/".into())
}

/// Whether a request is the form's, before anything of it is read.
pub(super) fn check(asked: &Asked<'_>) -> Result<(), Failure> {
    if asked.method != Method::POST {
        return Err(Failure::MethodNotAllowed);
    }
    if !asked.is_from_own_page() {
        return Err(Failure::CrossSite);
    }
    let kind = asked.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let form = b"application/x-www-form-urlencoded";
    let is_form = kind.get(..form.len()).is_some_and(|kind| kind.eq_ignore_ascii_case(form));
    if is_form { Ok(()) } else { Err(Failure::BadRequest) }
}

/// Reads the form.
pub(super) async fn read<B>(body: B) -> Result<Typed, Failure>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let whole = tokio::time::timeout(PATIENCE, Limited::new(body, MAX_FORM).collect());
    let whole = whole.await.map_err(|_| Failure::RequestTimeout)?.map_err(|_| Failure::BadRequest)?;
    typed(&whole.to_bytes()).ok_or(Failure::BadRequest)
}

pub(super) fn typed(form: &[u8]) -> Option<Typed> {
    let mut fields = form_urlencoded::parse(form).filter(|(name, _)| name == "pin");
    let (Some((_, pin)), None) = (fields.next(), fields.next()) else { return None };
    // Numbers are read out in groups.
    let digits = Zeroizing::new(pin.bytes().filter(|byte| *byte != b' ').collect::<Vec<u8>>());
    Some(Typed { pin: Credentials::of_nobody(&digits) })
}

/// Leads on whoever knew the number.
pub(super) fn welcome(gate: &PinGate, asked: &Asked<'_>) -> Response<Bytes> {
    let session = Session { ends_at: asked.now + SESSION, who: Vec::new() };
    let value = session.seal(&gate.session_key, asked.host);
    let mut response = led_on(asked);
    if let Some(cookie) = cookies::set(Name::PIN, asked.visitor.is_secure(), &value, SESSION) {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}

/// Leads on whoever comes to the page with nothing left to ask.
pub(super) fn led_on(asked: &Asked<'_>) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::SEE_OTHER;
    let headers = response.headers_mut();
    let to = HeaderValue::try_from(&*destination(asked.uri.query()));
    headers.insert(LOCATION, to.unwrap_or(HeaderValue::from_static("/")));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64;
    use http_body_util::Full;
    use sha2::{Digest as _, Sha256};

    use super::*;

    #[test]
    fn the_policy_lets_this_style_through_and_no_other() {
        let hash = BASE64.encode(&Sha256::digest(STYLE.as_bytes()));
        assert!(POLICY.contains(&format!("style-src 'sha256-{hash}'")), "{hash}");
    }

    #[test]
    fn the_page_leads_back_and_nothing_of_the_address_can_break_it() {
        let text =
            |way_back: &str, failure| String::from_utf8(page("web", way_back, failure).to_vec()).unwrap();
        let first = text("/a?b=\"><script>alert(1)</script>&c='", Failure::PinRequired);
        assert!(first.contains("action=\"/.mytunnel/pin?to=%2Fa%3Fb%3D%22%3E%3Cscript"), "{first}");
        assert!(!first.contains("<script") && !first.contains("role=\"alert\""));
        assert!(text("/", Failure::PinWrong).contains("role=\"alert\""));
        let query = first.split("pin?").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!(destination(Some(query)), "/a?b=\"><script>alert(1)</script>&c='");
    }

    #[test]
    fn the_form_leads_nowhere_else() {
        for (query, to) in [
            ("to=%2Fa%3Fb", "/a?b"),
            ("x=y&to=/a&to=/b", "/a"),
            ("to=//evil.example", "/"),
            ("to=%2F%2Fevil.example", "/"),
            ("to=%2F%5Cevil.example", "/"),
            ("to=https%3A%2F%2Fevil.example", "/"),
            ("to=%2Fa%0d%0aSet-Cookie:x", "/"),
            ("to=%2F.mytunnel%2Fpin", "/"),
            ("to=", "/"),
            ("", "/"),
        ] {
            assert_eq!(destination(Some(query)), to, "{query}");
        }
        assert_eq!(destination(None), "/");
    }

    #[tokio::test]
    async fn a_form_has_one_number_and_an_end() {
        let read = async |text: String| {
            read(Full::new(Bytes::from(text))).await.map(|typed| typed.pin.as_bytes().to_vec())
        };
        assert_eq!(read("pin=123456".to_owned()).await, Ok(b":123456".to_vec()));
        assert_eq!(read("a=b&pin=12+34%2056".to_owned()).await, Ok(b":123456".to_vec()));
        for bad in [
            String::new(),
            "pin=1&pin=2".to_owned(),
            "PIN=1".to_owned(),
            format!("pin={}", "1".repeat(MAX_FORM)),
        ] {
            assert_eq!(read(bad.clone()).await, Err(Failure::BadRequest), "{bad}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_never_sends_the_form_is_not_waited_for() {
        let never = http_body_util::StreamBody::new(futures::stream::pending::<
            Result<http_body::Frame<Bytes>, std::io::Error>,
        >());
        assert_eq!(read(never).await.unwrap_err(), Failure::RequestTimeout);
    }
}
