//! Sign-in, sessions, second factors, devices.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use mytunnel_keys::api::{
    Device, Login, LoginAnswer, LoginMfa, Me, MfaCode, MfaEnabled, MfaEnrolment, MfaProof, MfaStatus,
    NewDevice, RecoveryCodes, Sessions, Setup,
};
use zeroize::Zeroizing;

use super::call::{Call, MaybeBearer, Open, Segment};
use super::cookie::{self, RefreshCookie};
use super::{ApiError, App};
use crate::accounts::{Entered, Renewed, SignedIn};

pub(super) async fn set_up(State(app): State<App>, call: Open<Json<Setup>>) -> Result<Response, ApiError> {
    app.set_up(call.body.0, call.visit).await.map(entered)
}

pub(super) async fn log_in(State(app): State<App>, call: Open<Json<Login>>) -> Result<Response, ApiError> {
    app.log_in(call.body.0, call.visit).await.map(entered)
}

pub(super) async fn log_in_mfa(
    State(app): State<App>,
    call: Open<Json<LoginMfa>>,
) -> Result<Response, ApiError> {
    app.log_in_mfa(call.body.0, call.visit).await.map(signed_in)
}

/// How the API tells what came of a proof of identity.
pub(super) fn entered(entered: Entered) -> Response {
    match entered {
        Entered::Session(session) => signed_in(session),
        Entered::Challenge(token) => {
            let challenge_token = token.as_str().to_owned();
            Json(LoginAnswer::Mfa { mfa_required: true, challenge_token }).into_response()
        }
    }
}

/// The access token in the body, the refresh token in its cookie.
fn signed_in(session: SignedIn) -> Response {
    ([(header::SET_COOKIE, cookie::set(&session.refresh))], access(&session.access)).into_response()
}

fn access(token: &Zeroizing<String>) -> Json<LoginAnswer> {
    Json(LoginAnswer::Access { access_token: token.as_str().to_owned() })
}

pub(super) async fn refresh(
    State(app): State<App>,
    RefreshCookie(token): RefreshCookie,
    call: Open<()>,
) -> Result<Response, ApiError> {
    let token = token.ok_or_else(ApiError::no_session)?;
    match app.refresh(&token, call.visit.address).await {
        Ok(Renewed::Pair(session)) => Ok(signed_in(session)),
        Ok(Renewed::Access(token)) => Ok(access(&token).into_response()),
        // What is of no use is not kept.
        Err(error @ ApiError::Refused(_)) => {
            Ok(([(header::SET_COOKIE, cookie::CLEAR)], error).into_response())
        }
        Err(error) => Err(error),
    }
}

pub(super) async fn log_out(
    State(app): State<App>,
    RefreshCookie(refresh): RefreshCookie,
    MaybeBearer(access): MaybeBearer,
) -> Result<Response, ApiError> {
    if refresh.is_none() && access.is_none() {
        return Err(ApiError::no_session());
    }
    app.log_out(access.as_deref(), refresh.as_ref().map(|token| token.as_str())).await?;
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie::CLEAR)]).into_response())
}

pub(super) async fn me(State(app): State<App>, call: Call<()>) -> Result<Json<Me>, ApiError> {
    app.me(&call.caller).await.map(Json)
}

pub(super) async fn sessions(State(app): State<App>, call: Call<()>) -> Result<Json<Sessions>, ApiError> {
    app.sessions(&call.caller).await.map(Json)
}

pub(super) async fn end_session(
    State(app): State<App>,
    Segment(id): Segment<String>,
    call: Call<()>,
) -> Result<StatusCode, ApiError> {
    app.end_session(&call.caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn enrol(State(app): State<App>, call: Call<()>) -> Result<Json<MfaEnrolment>, ApiError> {
    app.enrol(&call.caller).map(Json)
}

pub(super) async fn enrol_verify(
    State(app): State<App>,
    call: Call<Json<MfaProof>>,
) -> Result<Json<MfaEnabled>, ApiError> {
    app.enrol_verify(&call.caller, call.body.0).await.map(Json)
}

pub(super) async fn disable_mfa(
    State(app): State<App>,
    call: Call<Option<Json<MfaCode>>>,
) -> Result<Json<MfaStatus>, ApiError> {
    let proof = call.body.map_or_else(MfaCode::default, |body| body.0);
    app.disable_mfa(&call.caller, proof).await.map(Json)
}

pub(super) async fn recovery_codes(
    State(app): State<App>,
    call: Call<Option<Json<MfaCode>>>,
) -> Result<Json<RecoveryCodes>, ApiError> {
    let proof = call.body.map_or_else(MfaCode::default, |body| body.0);
    app.renew_recovery_codes(&call.caller, proof).await.map(Json)
}

pub(super) async fn add_device(
    State(app): State<App>,
    call: Call<Json<NewDevice>>,
) -> Result<Json<Device>, ApiError> {
    app.add_device(&call.caller, call.body.0).await.map(Json)
}
