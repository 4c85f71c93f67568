//! The dashboard: the console's pages, embedded in the program.
//!
//! One shell at `/`, and its parts under a path that has a digest of all of them in it: browsers may keep a part for
//! as long as they like, and a new release is a new path. The pages are an API client like any other; nothing here
//! knows an account or a key. What a browser is allowed to do with them is said in [`POLICY`]: no script, style or
//! connection but our own, no script from a string, no frame.

use std::sync::LazyLock;

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

/// What a page may do. Trusted types without a policy: whatever would make markup or code of a string, throws.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

/// Headers of every answer, beside the policy.
const GUARDS: [(HeaderName, &str); 5] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=(), payment=()"),
];

/// Asked again before each use.
const REVALIDATE: &str = "no-cache";
/// Kept for a year: another content has another path.
const FOREVER: &str = "public, max-age=31536000, immutable";

/// What stands in the shell for the digest.
const PLACE: &str = "VERSION";

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const PICTURE: &str = "image/svg+xml";

const SHELL: &str = include_str!("dashboard/index.html");

/// One file behind the shell.
#[derive(Debug)]
struct Part {
    name: &'static str,
    kind: &'static str,
    content: &'static [u8],
}

macro_rules! parts {
    ($($name:literal: $kind:expr),* $(,)?) => {
        &[$(Part { name: $name, kind: $kind, content: include_bytes!(concat!("dashboard/", $name)) }),*]
    };
}

const PARTS: &[Part] = parts! {
    "again.js": SCRIPT,
    "api.js": SCRIPT,
    "app.css": STYLE,
    "app.js": SCRIPT,
    "audit.js": SCRIPT,
    "chart.js": SCRIPT,
    "devices.js": SCRIPT,
    "dialog.js": SCRIPT,
    "dom.js": SCRIPT,
    "format.js": SCRIPT,
    "gates.js": SCRIPT,
    "icon.svg": PICTURE,
    "keys.js": SCRIPT,
    "live.js": SCRIPT,
    "more-gates.js": SCRIPT,
    "overview.js": SCRIPT,
    "people.js": SCRIPT,
    "plan.js": SCRIPT,
    "projects.js": SCRIPT,
    "revoke.js": SCRIPT,
    "security.js": SCRIPT,
    "sign-in.js": SCRIPT,
    "token.js": SCRIPT,
    "tunnels.js": SCRIPT,
    "ui.js": SCRIPT,
    "usage.js": SCRIPT,
};

/// The shell with the digest of everything in it.
#[derive(Debug)]
struct Shell {
    version: String,
    page: String,
}

static READY: LazyLock<Shell> = LazyLock::new(|| {
    let mut digest = Sha256::new();
    let parts = PARTS.iter().map(|part| (part.name, part.content));
    for (name, content) in parts.chain([("", SHELL.as_bytes())]) {
        // With its length, so that nothing can move from one part to the next.
        digest.update(name.as_bytes());
        digest.update((content.len() as u64).to_be_bytes());
        digest.update(content);
    }
    let version = HEXLOWER.encode(&digest.finalize()[..8]);
    let page = SHELL.replace(PLACE, &version);
    Shell { version, page }
});

/// The pages' routes.
pub(crate) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/", get(shell)).route("/dashboard/{version}/{name}", get(part))
}

async fn shell(asked: HeaderMap) -> Response {
    answer(&asked, HTML, REVALIDATE, Body::from(READY.page.as_str()))
}

async fn part(Path((version, name)): Path<(String, String)>, asked: HeaderMap) -> Response {
    let Some(part) = PARTS.iter().find(|part| part.name == name) else {
        return guarded((StatusCode::NOT_FOUND, "there is nothing here\n").into_response());
    };
    // The shell of another release, beside this one or before it, gets what there is, to be asked for again.
    let keep = if version == READY.version { FOREVER } else { REVALIDATE };
    answer(&asked, part.kind, keep, Body::from(part.content))
}

fn answer(asked: &HeaderMap, kind: &'static str, keep: &'static str, content: Body) -> Response {
    let tag = format!("\"{}\"", READY.version);
    let known = asked.get_all(IF_NONE_MATCH).iter().any(|value| names(value.as_bytes(), tag.as_bytes()));
    let mut response = if known { StatusCode::NOT_MODIFIED.into_response() } else { Response::new(content) };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(keep));
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(ETAG, tag);
    }
    guarded(response)
}

/// Is the tag in the list of an `If-None-Match`? They compare weakly (RFC 9110, section 13.1.2).
fn names(list: &[u8], tag: &[u8]) -> bool {
    list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).any(|one| {
        let one = one.strip_prefix(b"W/").unwrap_or(one);
        one == tag || one == b"*"
    })
}

fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    for (name, value) in GUARDS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests;
