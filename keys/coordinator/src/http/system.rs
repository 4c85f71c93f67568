//! The audit log, bootstrap, and signs of life.

use axum::Json;
use axum::extract::{FromRequest as _, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use mytunnel_keys::api::{AuditLog, AuditWitness, Bootstrap, Console};
use serde_json::{Value, json};

use super::call::{Call, ClientAddress, Params};
use super::{ApiError, App};
use crate::agreement::{self, Agreement};
use crate::audit::{AuditQuery, Verdict};
use crate::metrics;

/// The description of this API, OpenAPI 3.1.
pub(super) const OPENAPI: &str = include_str!("openapi.json");
/// By these a proxy says that it asks for somebody else.
const FORWARDED: [&str; 3] = ["forwarded", "x-forwarded-for", "via"];

pub(super) async fn description() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

pub(super) async fn audit(
    State(app): State<App>,
    Params(query): Params<AuditQuery>,
    call: Call<()>,
) -> Result<Json<AuditLog>, ApiError> {
    app.audit(&call.caller, query).await.map(Json)
}

pub(super) async fn verify_audit(State(app): State<App>, call: Call<()>) -> Result<Json<Verdict>, ApiError> {
    app.verify_audit(&call.caller, AuditWitness::default()).await.map(Json)
}

pub(super) async fn verify_audit_by(
    State(app): State<App>,
    call: Call<Json<AuditWitness>>,
) -> Result<Json<Verdict>, ApiError> {
    app.verify_audit(&call.caller, call.body.0).await.map(Json)
}

pub(super) async fn bootstrap(State(app): State<App>) -> Result<Json<Bootstrap>, ApiError> {
    app.bootstrap().await.map(Json)
}

/// What the pages must know before anybody is signed in.
pub(super) async fn console(State(app): State<App>) -> Result<Json<Console>, ApiError> {
    Ok(Json(Console {
        cluster: app.issuer.cluster().clone(),
        url: app.public().url,
        root: *app.issuer.root(),
        lacks_owner: app.store.lacks_owner().await?,
    }))
}

/// The process runs.
pub(super) async fn alive() -> Json<Value> {
    Json(json!({"status": "alive"}))
}

/// The store answers, so that requests can be served.
pub(super) async fn ready(State(app): State<App>) -> Result<Json<Value>, ApiError> {
    if app.stop.is_cancelled() {
        return Err(ApiError::Http(StatusCode::SERVICE_UNAVAILABLE, "the server is shutting down"));
    }
    app.store.lacks_owner().await?;
    let offset = app.store.clock_offset();
    if agreement::judge(offset, app.limits.clock_offset.as_secs()) == Agreement::TooFar {
        let why = format!("the server's clock is {} its database's", agreement::told(offset));
        return Err(ApiError::Unready(why));
    }
    Ok(Json(json!({"status": "ready"})))
}

/// What an operator watches: for whoever shows the token for it, or without such a token for this machine; and for
/// owners from anywhere.
pub(super) async fn metrics(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    let from = request.extensions().get::<ClientAddress>().map(|address| address.0);
    let forwarded = request.headers().keys().any(|name| FORWARDED.contains(&name.as_str()));
    let open = match &app.metrics_token {
        Some(token) => token.is(shown(&request)),
        None => metrics::is_local(from, asked_for(&request), forwarded),
    };
    if !open {
        let call = Call::<()>::from_request(request, &app).await?;
        app.operator(&call.caller, "read the metrics")?;
    }
    Ok(([(header::CONTENT_TYPE, metrics::MEDIA_TYPE)], app.metrics_text().await?).into_response())
}

/// Which host a request is for, if that is said once.
fn asked_for(request: &Request) -> Option<&str> {
    if let Some(authority) = request.uri().authority() {
        return Some(authority.as_str());
    }
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = hosts.next()?;
    if hosts.next().is_some() { None } else { host.to_str().ok() }
}

/// The token that a request shows.
fn shown(request: &Request) -> &[u8] {
    let value = request.headers().get(header::AUTHORIZATION).map(|value| value.as_bytes());
    value.and_then(|value| value.strip_prefix(b"Bearer ")).unwrap_or_default()
}
