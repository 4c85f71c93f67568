//! The pages of a sign-in: who was not let in, and who goes.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY},
};
use url::form_urlencoded;

use super::{OWN, SIGN_IN, SIGN_OUT, Who};
use crate::gate::pin;

/// Names somebody who is signed in and may not enter, and leads to another sign-in.
pub(in super::super) fn denied(tunnel: &str, who: &Who, way_back: &str) -> Bytes {
    let to: String = form_urlencoded::byte_serialize(way_back.as_bytes()).collect();
    let name = escaped(&who.shown);
    whole(
        &format!("No entry to {tunnel}"),
        &format!(
            "<h1>You may not enter {tunnel}</h1><p>You are signed in as <strong>{name}</strong>, whom its owner does \
             not let in.</p><p><a href=\"{OWN}{SIGN_IN}?another=1&amp;to={to}\">Sign in as somebody else</a></p>"
        ),
    )
}

/// What goes with any of them.
pub(in super::super) fn headers(headers: &mut HeaderMap) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(pin::POLICY));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
}

pub(super) fn sign_out(tunnel: &str, who: Option<&Who>) -> Response<Bytes> {
    let name = match who {
        Some(who) => format!("<p>You are signed in as <strong>{}</strong>.</p>", escaped(&who.shown)),
        None => "<p>You are not signed in.</p>".to_owned(),
    };
    page(
        &format!("Sign out of {tunnel}"),
        &format!(
            "<h1>Sign out of {tunnel}</h1>{name}<form method=\"post\" action=\"{OWN}{SIGN_OUT}\">\
             <button autofocus>Sign out</button></form>"
        ),
    )
}

pub(super) fn signed_out(tunnel: &str) -> Response<Bytes> {
    page(
        &format!("Signed out of {tunnel}"),
        &format!(
            "<h1>You are signed out of {tunnel}</h1><p>Your provider may still know you: to let nobody else in \
             from here, sign out there, too.</p><p><a href=\"/\">Sign in again</a></p>"
        ),
    )
}

fn page(title: &str, body: &str) -> Response<Bytes> {
    let mut response = Response::new(whole(title, body));
    *response.status_mut() = StatusCode::OK;
    headers(response.headers_mut());
    response
}

fn whole(title: &str, body: &str) -> Bytes {
    Bytes::from(format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{title}</title>\
         <style>{}</style></head><body><main>{body}</main></body></html>\n",
        pin::STYLE
    ))
}

/// A provider's word for somebody, as text.
fn escaped(text: &str) -> String {
    let shown: String = text.chars().filter(|letter| !letter.is_control()).take(254).collect();
    shown
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_named_stays_text() {
        let shown = "\"><script>alert('x')</script>&amp;\u{7}".to_owned();
        let who = Who { subject: "7".to_owned(), email: None, shown };
        let text = String::from_utf8(denied("web", &who, "/a?b=\"'<").to_vec()).unwrap();
        assert!(
            text.contains("&quot;&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;amp;"),
            "{text}"
        );
        assert!(!text.contains("<script") && !text.contains('\u{7}'));
        assert!(text.contains("another=1&amp;to=%2Fa%3Fb%3D%22%27%3C\""), "{text}");
    }
}
