//! Domains of a tenant's own.

use axum::Json;
use axum::extract::State;
use mytunnel_keys::api::{DomainAnswer, DomainRemoved, Domains, NewDomain};
use mytunnel_keys::id::DomainName;

use super::call::{Call, Segment};
use super::{ApiError, App};

pub(super) async fn list(State(app): State<App>, call: Call<()>) -> Result<Json<Domains>, ApiError> {
    app.domains(&call.caller).await.map(Json)
}

pub(super) async fn add(
    State(app): State<App>,
    call: Call<Json<NewDomain>>,
) -> Result<Json<DomainAnswer>, ApiError> {
    app.add_domain(&call.caller, call.body.0).await.map(Json)
}

pub(super) async fn verify(
    State(app): State<App>,
    Segment(domain): Segment<DomainName>,
    call: Call<()>,
) -> Result<Json<DomainAnswer>, ApiError> {
    app.verify_domain(&call.caller, domain).await.map(Json)
}

pub(super) async fn remove(
    State(app): State<App>,
    Segment(domain): Segment<DomainName>,
    call: Call<()>,
) -> Result<Json<DomainRemoved>, ApiError> {
    app.remove_domain(&call.caller, domain).await.map(Json)
}
