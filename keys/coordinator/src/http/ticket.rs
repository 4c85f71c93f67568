//! Tickets for private shares.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use mytunnel_keys::api::{NewTicket, RedeemTicket, Ticket, TicketRedeemed, Tickets};

use super::call::{Call, Open, Segment};
use super::{ApiError, App};

pub(super) async fn issue(
    State(app): State<App>,
    call: Call<Json<NewTicket>>,
) -> Result<Json<Ticket>, ApiError> {
    app.issue_ticket(&call.caller, call.body.0).await.map(Json)
}

pub(super) async fn list(State(app): State<App>, call: Call<()>) -> Result<Json<Tickets>, ApiError> {
    app.tickets(&call.caller).await.map(Json)
}

pub(super) async fn withdraw(
    State(app): State<App>,
    Segment(id): Segment<String>,
    call: Call<()>,
) -> Result<StatusCode, ApiError> {
    app.withdraw_ticket(call.caller, id).await.map(|()| StatusCode::NO_CONTENT)
}

pub(super) async fn redeem(
    State(app): State<App>,
    call: Open<Json<RedeemTicket>>,
) -> Result<Json<TicketRedeemed>, ApiError> {
    app.redeem(call.body.0, call.visit.address).await.map(Json)
}
