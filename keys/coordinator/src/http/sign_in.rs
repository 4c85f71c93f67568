//! Sign-in at another provider: the browser's way there and back.
//!
//! Nothing in these addresses says where the browser goes afterwards, so that nobody can make it go elsewhere.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use data_encoding::BASE64URL_NOPAD;
use mytunnel_keys::api::{Identities, InvitedSignIn, LinkAddress, NewIdentity, Providers, SignInCode};
use mytunnel_sign_in::Callback;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::call::{Call, Open, Params, Segment};
use super::{ApiError, App, account, cookie};
use crate::accounts::{Begun, Ended, Failed, Page, Trouble};
use crate::authority::SIGN_IN_LIFE;
use crate::store::{Purpose, Visit};

/// `__Host-`: no other host can have set it.
const COOKIE: &str = "__Host-mtk_flow";
/// Lax, because the provider's page is what leads back.
const CLEAR: HeaderValue =
    HeaderValue::from_static("__Host-mtk_flow=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Lax");

pub(super) async fn providers(State(app): State<App>) -> Json<Providers> {
    Json(app.providers())
}

/// What an address that begins a sign-in may say.
#[derive(Debug, Deserialize)]
pub(super) struct Start {
    /// SHA-256 of the secret of a terminal, which wants a code.
    terminal: Option<String>,
}

pub(super) async fn start(
    State(app): State<App>,
    Segment(provider): Segment<String>,
    Params(start): Params<Start>,
    call: Open<()>,
) -> Result<Response, ApiError> {
    if app.sign_in.provider(&provider).is_none() {
        return Err(ApiError::Http(StatusCode::NOT_FOUND, "there is no such sign-in"));
    }
    let purpose = match start.terminal {
        None => Purpose::Browser,
        Some(challenge) => {
            let bytes = BASE64URL_NOPAD.decode(challenge.as_bytes()).ok();
            let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
            Purpose::Terminal(bytes.ok_or_else(|| ApiError::bad_request("terminal: this is no challenge"))?)
        }
    };
    let page = Page::of(&purpose);
    Ok(match app.begin_sign_in(provider, purpose, &call.visit).await {
        Ok(begun) => (flow_cookie(&begun), go(&begun.address)).into_response(),
        Err(trouble) => failed(Failed { trouble, page }),
    })
}

/// What a provider sends a browser back with.
#[derive(Deserialize)]
pub(super) struct Back {
    state: Option<String>,
    code: Option<String>,
    iss: Option<String>,
    error: Option<String>,
}

pub(super) async fn callback(
    State(app): State<App>,
    Segment(provider): Segment<String>,
    headers: HeaderMap,
    Params(back): Params<Back>,
    call: Open<()>,
) -> Response {
    let cookie = cookie::read(&headers, COOKIE);
    let stale = Failed { trouble: Trouble::Stale, page: Page::Login };
    let (Ok(cookie), Some(state)) = (cookie, back.state.map(Zeroizing::new)) else { return failed(stale) };
    let callback = Callback { code: back.code.map(Zeroizing::new), iss: back.iss, error: back.error };
    let ended = app.end_sign_in(&provider, state, callback, cookie, call.visit).await;
    let mut response = match ended {
        Ok(Ended::Session(session)) => {
            ([(header::SET_COOKIE, cookie::set(&session.refresh))], go("/#/login?signed_in=1"))
                .into_response()
        }
        Ok(Ended::Challenge(token)) => {
            go(&format!("/#/login?challenge_token={}", token.as_str())).into_response()
        }
        Ok(Ended::Linked(provider)) => go(&format!("/#/security?linked={provider}")).into_response(),
        Ok(Ended::Code(code)) => page(StatusCode::OK, "Almost signed in", &terminal_text(&code)),
        Err(error) => return failed(error),
    };
    response.headers_mut().append(header::SET_COOKIE, CLEAR);
    response
}

pub(super) async fn redeem(
    State(app): State<App>,
    call: Open<Json<SignInCode>>,
) -> Result<Response, ApiError> {
    app.redeem_code(call.body.0, call.visit).await.map(account::entered)
}

pub(super) async fn identities(State(app): State<App>, call: Call<()>) -> Result<Json<Identities>, ApiError> {
    app.identities(&call.caller).await.map(Json)
}

pub(super) async fn link(
    State(app): State<App>,
    visit: Visit,
    call: Call<Json<NewIdentity>>,
) -> Result<Response, ApiError> {
    let begun = app.begin_link(&call.caller, call.body.0, &visit).await?;
    Ok((flow_cookie(&begun), Json(LinkAddress { url: begun.address })).into_response())
}

pub(super) async fn again(
    State(app): State<App>,
    visit: Visit,
    call: Call<Json<NewIdentity>>,
) -> Result<Response, ApiError> {
    let begun = app.begin_again(&call.caller, call.body.0, &visit).await?;
    Ok((flow_cookie(&begun), Json(LinkAddress { url: begun.address })).into_response())
}

pub(super) async fn invited(
    State(app): State<App>,
    call: Open<Json<InvitedSignIn>>,
) -> Result<Response, ApiError> {
    let begun = app.begin_invited(call.body.0, &call.visit).await?;
    Ok((flow_cookie(&begun), Json(LinkAddress { url: begun.address })).into_response())
}

pub(super) async fn unlink(
    State(app): State<App>,
    Segment(id): Segment<String>,
    call: Call<()>,
) -> Result<StatusCode, ApiError> {
    app.unlink(&call.caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The header that ties a sign-in to this browser.
fn flow_cookie(begun: &Begun) -> [(HeaderName, HeaderValue); 1] {
    let token = begun.cookie.as_str();
    let text = format!("{COOKIE}={token}; Path=/; Max-Age={SIGN_IN_LIFE}; Secure; HttpOnly; SameSite=Lax");
    // The token is base64url.
    let mut value = HeaderValue::from_str(&text).unwrap_or(CLEAR);
    value.set_sensitive(true);
    [(header::SET_COOKIE, value)]
}

/// Sends the browser on, without telling there where it came from: that address holds a code.
fn go(address: &str) -> (StatusCode, [(HeaderName, HeaderValue); 2]) {
    let location = HeaderValue::from_str(address).unwrap_or(HeaderValue::from_static("/"));
    let silent = HeaderValue::from_static("no-referrer");
    (StatusCode::FOUND, [(header::LOCATION, location), (header::REFERRER_POLICY, silent)])
}

/// Tells why a sign-in came to nothing, where whoever began it looks.
fn failed(failed: Failed) -> Response {
    let trouble = failed.trouble;
    match failed.page {
        Page::Login => go(&format!("/#/login?error={}", trouble.name())).into_response(),
        Page::Security => go(&format!("/#/security?error={}", trouble.name())).into_response(),
        Page::Terminal => {
            page(StatusCode::BAD_REQUEST, "Not signed in", &format!("<p>{}</p>", trouble.sentence()))
        }
    }
}

fn terminal_text(code: &str) -> String {
    format!(
        "<p>Type this code in the terminal that sent you here. It is good once, for five minutes.</p>\n\
         <p><strong><code>{code}</code></strong></p>\n\
         <p>If you did not run <code>mytunnel login</code> yourself just now, close this page and give the code to nobody.</p>"
    )
}

/// A page without anything that could run, be framed or be loaded.
fn page(status: StatusCode, title: &str, text: &str) -> Response {
    let body = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n<h1>{title}</h1>\n{text}\n"
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (status, headers, body).into_response()
}
