//! Tunnels, their gates, and the plan that allows gates.

use axum::Json;
use axum::extract::State;
use mytunnel_keys::api::{
    AuthAnswer, EdgeAuthAnswer, GateAnswer, SetAddresses, SetAuth, SetBearer, SetEdgeAuth, SetEnd, SetPin,
    SetPlan, Tenant, Tunnel, TunnelClosed, Tunnels,
};
use mytunnel_keys::id::TunnelId;

use super::call::{Call, Params, Segment};
use super::{ApiError, App};
use crate::authority::GateKind;
use crate::relays::TunnelQuery;

pub(super) async fn list(
    State(app): State<App>,
    Params(query): Params<TunnelQuery>,
    call: Call<()>,
) -> Result<Json<Tunnels>, ApiError> {
    app.tunnels(&call.caller, query).await.map(Json)
}

pub(super) async fn show(
    State(app): State<App>,
    Segment(id): Segment<TunnelId>,
    call: Call<()>,
) -> Result<Json<Tunnel>, ApiError> {
    app.tunnel(&call.caller, id).await.map(Json)
}

pub(super) async fn close(
    State(app): State<App>,
    Segment(id): Segment<TunnelId>,
    call: Call<()>,
) -> Result<Json<TunnelClosed>, ApiError> {
    app.close_tunnel(&call.caller, id).await.map(Json)
}

pub(super) async fn set_auth(
    State(app): State<App>,
    Segment(id): Segment<TunnelId>,
    call: Call<Json<SetAuth>>,
) -> Result<Json<AuthAnswer>, ApiError> {
    app.set_auth(&call.caller, id, call.body.0).await.map(Json)
}

pub(super) async fn drop_auth(
    State(app): State<App>,
    Segment(id): Segment<TunnelId>,
    call: Call<()>,
) -> Result<Json<AuthAnswer>, ApiError> {
    app.drop_auth(&call.caller, id).await.map(Json)
}

pub(super) async fn set_edge_auth(
    State(app): State<App>,
    Segment(id): Segment<TunnelId>,
    call: Call<Json<SetEdgeAuth>>,
) -> Result<Json<EdgeAuthAnswer>, ApiError> {
    app.set_edge_auth(&call.caller, id, call.body.0).await.map(Json)
}

pub(super) async fn drop_edge_auth(
    State(app): State<App>,
    Segment(id): Segment<TunnelId>,
    call: Call<()>,
) -> Result<Json<EdgeAuthAnswer>, ApiError> {
    app.drop_edge_auth(&call.caller, id).await.map(Json)
}

pub(super) async fn end_visits(
    State(app): State<App>,
    Segment(id): Segment<TunnelId>,
    call: Call<()>,
) -> Result<Json<EdgeAuthAnswer>, ApiError> {
    app.end_visits(&call.caller, id).await.map(Json)
}

pub(super) async fn set_pin(
    State(app): State<App>,
    Segment(id): Segment<TunnelId>,
    call: Call<Json<SetPin>>,
) -> Result<Json<GateAnswer>, ApiError> {
    app.set_pin(&call.caller, id, call.body.0).await.map(Json)
}

pub(super) async fn set_bearer(
    State(app): State<App>,
    Segment(id): Segment<TunnelId>,
    call: Call<Json<SetBearer>>,
) -> Result<Json<GateAnswer>, ApiError> {
    app.set_bearer(&call.caller, id, call.body.0).await.map(Json)
}

pub(super) async fn set_addresses(
    State(app): State<App>,
    Segment(id): Segment<TunnelId>,
    call: Call<Json<SetAddresses>>,
) -> Result<Json<GateAnswer>, ApiError> {
    app.set_addresses(&call.caller, id, call.body.0).await.map(Json)
}

pub(super) async fn set_end(
    State(app): State<App>,
    Segment(id): Segment<TunnelId>,
    call: Call<Json<SetEnd>>,
) -> Result<Json<GateAnswer>, ApiError> {
    app.set_end(&call.caller, id, call.body.0).await.map(Json)
}

pub(super) async fn drop_pin(
    State(app): State<App>,
    Segment(id): Segment<TunnelId>,
    call: Call<()>,
) -> Result<Json<GateAnswer>, ApiError> {
    app.drop_gate(&call.caller, id, GateKind::Pin).await.map(Json)
}

pub(super) async fn drop_bearer(
    State(app): State<App>,
    Segment(id): Segment<TunnelId>,
    call: Call<()>,
) -> Result<Json<GateAnswer>, ApiError> {
    app.drop_gate(&call.caller, id, GateKind::Bearer).await.map(Json)
}

pub(super) async fn drop_addresses(
    State(app): State<App>,
    Segment(id): Segment<TunnelId>,
    call: Call<()>,
) -> Result<Json<GateAnswer>, ApiError> {
    app.drop_gate(&call.caller, id, GateKind::Addresses).await.map(Json)
}

pub(super) async fn drop_end(
    State(app): State<App>,
    Segment(id): Segment<TunnelId>,
    call: Call<()>,
) -> Result<Json<GateAnswer>, ApiError> {
    app.drop_gate(&call.caller, id, GateKind::End).await.map(Json)
}

pub(super) async fn tenant(State(app): State<App>, call: Call<()>) -> Result<Json<Tenant>, ApiError> {
    app.tenant(&call.caller).await.map(Json)
}

pub(super) async fn set_plan(
    State(app): State<App>,
    call: Call<Json<SetPlan>>,
) -> Result<Json<Tenant>, ApiError> {
    app.set_plan(&call.caller, call.body.0).await.map(Json)
}
