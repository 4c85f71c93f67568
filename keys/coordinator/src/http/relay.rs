//! Relays.

use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use mytunnel_keys::api::{JoinToken, RelayJoin, RelayJoined, Relays, RevokeAnswer};
use mytunnel_keys::feed::{Report, Subscribe};
use mytunnel_keys::id::PublicKey;
use mytunnel_keys::usage::Tell;
use mytunnel_keys::wire;
use serde::Deserialize;

use super::call::{Call, Cbor, Open, Params, Segment};
use super::{ApiError, App};
use crate::relays::relay_key;

pub(super) async fn list(State(app): State<App>, call: Call<()>) -> Result<Json<Relays>, ApiError> {
    app.relays(&call.caller).await.map(Json)
}

pub(super) async fn revoke(
    State(app): State<App>,
    Segment(id): Segment<PublicKey>,
    call: Call<()>,
) -> Result<Json<RevokeAnswer>, ApiError> {
    app.revoke_relay(call.caller, id).await.map(Json)
}

#[derive(Debug, Deserialize)]
pub(super) struct Ttl {
    /// Seconds that the token is good for.
    ttl: Option<u64>,
}

pub(super) async fn join_token(
    State(app): State<App>,
    Params(query): Params<Ttl>,
    call: Call<()>,
) -> Result<Json<JoinToken>, ApiError> {
    app.join_token(&call.caller, query.ttl).await.map(Json)
}

pub(super) async fn join(
    State(app): State<App>,
    call: Open<Json<RelayJoin>>,
) -> Result<Json<RelayJoined>, ApiError> {
    app.join(call.body.0, call.visit.address).await.map(Json)
}

pub(super) async fn renew(State(app): State<App>, call: Call<()>) -> Result<Json<RelayJoined>, ApiError> {
    app.renew_relay(relay_key(&call.caller)?).await.map(Json)
}

/// Marks, among an answer's extensions, the one that a relay follows for as long as it can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedAnswer;

pub(super) async fn feed(State(app): State<App>, call: Call<Cbor<Subscribe>>) -> Result<Response, ApiError> {
    let frames: Body = app.follow(relay_key(&call.caller)?, call.body.0).await?.into_body();
    let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
    Ok((kind, Extension(FeedAnswer), frames).into_response())
}

pub(super) async fn usage(State(app): State<App>, call: Call<Cbor<Tell>>) -> Result<Response, ApiError> {
    let told = app.take_usage(relay_key(&call.caller)?, call.body.0).await?;
    let body = wire::encode(&told).map_err(|error| ApiError::Internal(error.into()))?;
    Ok(([(header::CONTENT_TYPE, "application/cbor")], body).into_response())
}

pub(super) async fn reports(
    State(app): State<App>,
    call: Call<Cbor<Vec<Report>>>,
) -> Result<StatusCode, ApiError> {
    app.report(&call.caller, call.body.0).await?;
    Ok(StatusCode::NO_CONTENT)
}
