//! People: accounts, invitations, devices, passwords.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use mytunnel_keys::api::{
    AcceptInvitation, Account, Accounts, Devices, ForgotPassword, InvitationCreated, Invitations,
    NewInvitation, PasswordAsked, PasswordChange, PasswordReset, RevokeAnswer, RoleChange,
};
use serde::Deserialize;

use super::account::entered;
use super::call::{Call, Open, Params, Segment};
use super::{ApiError, App};

pub(super) async fn accounts(State(app): State<App>, call: Call<()>) -> Result<Json<Accounts>, ApiError> {
    app.accounts(&call.caller).await.map(Json)
}

pub(super) async fn set_role(
    State(app): State<App>,
    Segment(id): Segment<String>,
    call: Call<Json<RoleChange>>,
) -> Result<Json<Account>, ApiError> {
    app.set_role(&call.caller, id, call.body.0).await.map(Json)
}

#[derive(Debug, Deserialize)]
pub(super) struct Removal {
    /// The master keys that the account made, too.
    #[serde(default)]
    masters: bool,
}

pub(super) async fn delete_account(
    State(app): State<App>,
    Segment(id): Segment<String>,
    Params(query): Params<Removal>,
    call: Call<()>,
) -> Result<Json<RevokeAnswer>, ApiError> {
    app.delete_account(&call.caller, id, query.masters).await.map(Json)
}

pub(super) async fn invite(
    State(app): State<App>,
    call: Call<Json<NewInvitation>>,
) -> Result<Json<InvitationCreated>, ApiError> {
    app.invite(&call.caller, call.body.0).await.map(Json)
}

pub(super) async fn invitations(
    State(app): State<App>,
    call: Call<()>,
) -> Result<Json<Invitations>, ApiError> {
    app.invitations(&call.caller).await.map(Json)
}

pub(super) async fn withdraw(
    State(app): State<App>,
    Segment(id): Segment<String>,
    call: Call<()>,
) -> Result<StatusCode, ApiError> {
    app.withdraw(&call.caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn accept(
    State(app): State<App>,
    call: Open<Json<AcceptInvitation>>,
) -> Result<Response, ApiError> {
    app.accept_invitation(call.body.0, call.visit).await.map(entered)
}

pub(super) async fn devices(State(app): State<App>, call: Call<()>) -> Result<Json<Devices>, ApiError> {
    app.devices(&call.caller).await.map(Json)
}

pub(super) async fn change_password(
    State(app): State<App>,
    call: Call<Json<PasswordChange>>,
) -> Result<StatusCode, ApiError> {
    app.change_password(&call.caller, call.body.0, call.visit).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn forgot_password(
    State(app): State<App>,
    call: Open<Json<ForgotPassword>>,
) -> Result<(StatusCode, Json<PasswordAsked>), ApiError> {
    let mail = app.forgot_password(&call.body.0, &call.visit)?;
    Ok((StatusCode::ACCEPTED, Json(PasswordAsked { mail })))
}

pub(super) async fn reset_password(
    State(app): State<App>,
    call: Open<Json<PasswordReset>>,
) -> Result<StatusCode, ApiError> {
    app.reset_password(call.body.0, &call.visit).await?;
    Ok(StatusCode::NO_CONTENT)
}
