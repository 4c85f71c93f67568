//! Projects and keys.

use axum::Json;
use axum::extract::State;
use mytunnel_keys::api::{
    BudgetAnswer, Mint, MintAnswer, NewProject, ProjectCreated, Projects, RevokeAnswer, SetBudget, TokenRow,
    UsageAnswer,
};
use mytunnel_keys::id::ProjectId;
use serde::Deserialize;

use super::call::{Call, Params, Segment};
use super::{ApiError, App};
use crate::delegation::{KeyPage, KeyQuery, Nonce};
use crate::store::Along;
use crate::usage::UsageQuery;

pub(super) async fn projects(State(app): State<App>, call: Call<()>) -> Result<Json<Projects>, ApiError> {
    app.projects(&call.caller).await.map(Json)
}

pub(super) async fn create_project(
    State(app): State<App>,
    call: Call<Json<NewProject>>,
) -> Result<Json<ProjectCreated>, ApiError> {
    app.create_project(&call.caller, call.body.0).await.map(Json)
}

pub(super) async fn delete_project(
    State(app): State<App>,
    Segment(id): Segment<ProjectId>,
    call: Call<()>,
) -> Result<Json<RevokeAnswer>, ApiError> {
    app.delete_project(&call.caller, id).await.map(Json)
}

pub(super) async fn mint(
    State(app): State<App>,
    call: Call<Json<Mint>>,
) -> Result<Json<MintAnswer>, ApiError> {
    app.mint(&call.caller, call.body.0).await.map(Json)
}

pub(super) async fn list(
    State(app): State<App>,
    Params(query): Params<KeyQuery>,
    call: Call<()>,
) -> Result<Json<KeyPage>, ApiError> {
    app.keys(&call.caller, query).await.map(Json)
}

pub(super) async fn show(
    State(app): State<App>,
    Segment(nonce): Segment<Nonce>,
    call: Call<()>,
) -> Result<Json<TokenRow>, ApiError> {
    app.key(&call.caller, &nonce).await.map(Json)
}

pub(super) async fn set_budget(
    State(app): State<App>,
    Segment(nonce): Segment<Nonce>,
    call: Call<Json<SetBudget>>,
) -> Result<Json<BudgetAnswer>, ApiError> {
    app.set_budget(call.caller, nonce, call.body.0).await.map(Json)
}

pub(super) async fn usage(
    State(app): State<App>,
    Params(query): Params<UsageQuery>,
    call: Call<()>,
) -> Result<Json<UsageAnswer>, ApiError> {
    app.usage(&call.caller, query).await.map(Json)
}

#[derive(Debug, Deserialize)]
pub(super) struct Revoke {
    #[serde(default)]
    cascade: bool,
    #[serde(default)]
    masters: bool,
}

pub(super) async fn revoke(
    State(app): State<App>,
    Segment(nonce): Segment<Nonce>,
    Params(query): Params<Revoke>,
    call: Call<()>,
) -> Result<Json<RevokeAnswer>, ApiError> {
    let along = Along { children: query.cascade, masters: query.masters };
    app.revoke(call.caller, nonce, along).await.map(Json)
}
