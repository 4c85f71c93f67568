//! Sign-in and devices.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use mytunnel_keys::api::{Device, Login, LoginAnswer, NewDevice, Setup};

use super::call::{Bearer, Call, Open};
use super::{ApiError, App};
use crate::accounts;

pub(super) async fn set_up(
    State(app): State<App>,
    call: Open<Json<Setup>>,
) -> Result<Json<LoginAnswer>, ApiError> {
    let access_token = app.set_up(call.body.0, call.address).await?;
    Ok(Json(LoginAnswer::Access { access_token }))
}

pub(super) async fn log_in(
    State(app): State<App>,
    call: Open<Json<Login>>,
) -> Result<Json<LoginAnswer>, ApiError> {
    let access_token = app.log_in(call.body.0, call.address).await?;
    Ok(Json(LoginAnswer::Access { access_token }))
}

pub(super) async fn log_out(State(app): State<App>, bearer: Bearer) -> Result<StatusCode, ApiError> {
    app.store.close_session(accounts::session_hash(&bearer.0)).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn add_device(
    State(app): State<App>,
    call: Call<Json<NewDevice>>,
) -> Result<Json<Device>, ApiError> {
    app.add_device(&call.caller, call.body.0).await.map(Json)
}
