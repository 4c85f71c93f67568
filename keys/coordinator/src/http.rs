//! The HTTP API under `/api/v1`: extract, call a verb, answer.

mod account;
mod call;
mod cookie;
mod domain;
mod error;
mod events;
mod key;
mod people;
mod relay;
mod sign_in;
mod system;
mod ticket;
mod tunnel;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::Response;
use axum::routing::{get, post, put};

pub use self::call::ClientAddress;
pub(crate) use self::error::ApiError;
pub use self::relay::FeedAnswer;
use crate::dashboard;
use crate::shared::Shared;

/// The path of a mint, which may be repeated.
const MINT: &str = "/api/v1/mint";

/// The path at which relays renew their certificates, also when they have ended.
const RENEW: &str = "/api/v1/relay/renew";

/// What handlers get.
#[derive(Debug, Clone)]
pub(crate) struct App(pub(crate) Arc<Shared>);

impl Deref for App {
    type Target = Arc<Shared>;

    fn deref(&self) -> &Arc<Shared> {
        &self.0
    }
}

/// Every route, and the pages.
pub(crate) fn router(app: App) -> Router {
    Router::new()
        .route("/api/v1/auth/setup", post(account::set_up))
        .route("/api/v1/auth/login", post(account::log_in))
        .route("/api/v1/auth/login/mfa", post(account::log_in_mfa))
        .route("/api/v1/auth/refresh", post(account::refresh))
        .route("/api/v1/auth/logout", post(account::log_out))
        .route("/api/v1/auth/me", get(account::me))
        .route("/api/v1/auth/mfa/enroll", post(account::enrol))
        .route("/api/v1/auth/mfa/enroll/verify", post(account::enrol_verify))
        .route("/api/v1/auth/mfa/disable", post(account::disable_mfa))
        .route("/api/v1/auth/mfa/recovery-codes", post(account::recovery_codes))
        .route("/api/v1/auth/providers", get(sign_in::providers))
        .route("/api/v1/auth/oauth/{id}/start", get(sign_in::start))
        .route("/api/v1/auth/oauth/{id}/callback", get(sign_in::callback))
        .route("/api/v1/auth/oauth/code", post(sign_in::redeem))
        .route("/api/v1/auth/again", post(sign_in::again))
        .route("/api/v1/auth/identities", get(sign_in::identities).post(sign_in::link))
        .route("/api/v1/auth/identities/{id}", axum::routing::delete(sign_in::unlink))
        .route("/api/v1/auth/password", post(people::change_password))
        .route("/api/v1/auth/password/forgot", post(people::forgot_password))
        .route("/api/v1/auth/password/reset", post(people::reset_password))
        .route("/api/v1/auth/invitations/accept", post(people::accept))
        .route("/api/v1/auth/invitations/sign-in", post(sign_in::invited))
        .route("/api/v1/accounts", get(people::accounts))
        .route("/api/v1/accounts/{id}", axum::routing::patch(people::set_role).delete(people::delete_account))
        .route("/api/v1/invitations", get(people::invitations).post(people::invite))
        .route("/api/v1/invitations/{id}", axum::routing::delete(people::withdraw))
        .route("/api/v1/sessions", get(account::sessions))
        .route("/api/v1/sessions/{id}", axum::routing::delete(account::end_session))
        .route("/api/v1/devices", get(people::devices).post(account::add_device))
        .route("/api/v1/projects", get(key::projects).post(key::create_project))
        .route("/api/v1/projects/{id}", axum::routing::delete(key::delete_project))
        .route(MINT, post(key::mint))
        .route("/api/v1/tokens", get(key::list))
        .route("/api/v1/tokens/{nonce}", get(key::show).delete(key::revoke))
        .route("/api/v1/tokens/{nonce}/budget", put(key::set_budget))
        .route("/api/v1/tickets", get(ticket::list).post(ticket::issue))
        .route("/api/v1/tickets/redeem", post(ticket::redeem))
        .route("/api/v1/tickets/{id}", axum::routing::delete(ticket::withdraw))
        .route("/api/v1/usage", get(key::usage))
        .route("/api/v1/tunnels", get(tunnel::list))
        .route("/api/v1/tunnels/{id}", get(tunnel::show).delete(tunnel::close))
        .route("/api/v1/tunnels/{id}/auth", put(tunnel::set_auth).delete(tunnel::drop_auth))
        .route("/api/v1/tunnels/{id}/edge-auth", put(tunnel::set_edge_auth).delete(tunnel::drop_edge_auth))
        .route("/api/v1/tunnels/{id}/edge-auth/sessions", axum::routing::delete(tunnel::end_visits))
        .route("/api/v1/tunnels/{id}/gates/pin", put(tunnel::set_pin).delete(tunnel::drop_pin))
        .route("/api/v1/tunnels/{id}/gates/bearer", put(tunnel::set_bearer).delete(tunnel::drop_bearer))
        .route("/api/v1/tunnels/{id}/gates/ip", put(tunnel::set_addresses).delete(tunnel::drop_addresses))
        .route("/api/v1/tunnels/{id}/expires", put(tunnel::set_end).delete(tunnel::drop_end))
        .route("/api/v1/domains", get(domain::list).post(domain::add))
        .route("/api/v1/domains/{domain}", axum::routing::delete(domain::remove))
        .route("/api/v1/domains/{domain}/verify", post(domain::verify))
        .route("/api/v1/tenant", get(tunnel::tenant))
        .route("/api/v1/tenant/plan", put(tunnel::set_plan))
        .route("/api/v1/audit", get(system::audit))
        .route("/api/v1/audit/verify", get(system::verify_audit).post(system::verify_audit_by))
        .route("/api/v1/relays", get(relay::list))
        .route("/api/v1/relays/{id}", axum::routing::delete(relay::revoke))
        .route("/api/v1/relays/join-tokens", post(relay::join_token))
        .route("/api/v1/relay/join", post(relay::join))
        .route(RENEW, post(relay::renew))
        .route("/api/v1/relay/feed", post(relay::feed))
        .route("/api/v1/relay/reports", post(relay::reports))
        .route("/api/v1/relay/usage", post(relay::usage))
        .route("/api/v1/bootstrap", get(system::bootstrap))
        .route("/api/v1/console", get(system::console))
        .route("/api/v1/events", get(events::follow))
        .route("/api/v1/openapi.json", get(system::description))
        .route("/healthz", get(system::alive))
        .route("/readyz", get(system::ready))
        .route("/metrics", get(system::metrics))
        .fallback(async || ApiError::Http(StatusCode::NOT_FOUND, "there is nothing here"))
        .method_not_allowed_fallback(async || {
            ApiError::Http(StatusCode::METHOD_NOT_ALLOWED, "this path does not take that method")
        })
        .layer(map_response(keep_private))
        .layer(from_fn_with_state(app.clone(), count))
        .merge(dashboard::router())
        .with_state(app)
}

/// Counts what is answered, by the route and not by what was asked.
async fn count(State(app): State<App>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let (method, begun) = (request.method().clone(), Instant::now());
    let response = next.run(request).await;
    let route = route.as_ref().map(MatchedPath::as_str);
    app.metrics.answered(route, method.as_str(), response.status().as_u16(), begun.elapsed());
    response
}

/// Answers are for the one who asked: no cache keeps them, no page frames or guesses at them.
async fn keep_private(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    /// Every route with its methods, as the router's own text has them.
    fn routed() -> BTreeSet<String> {
        let source = include_str!("http.rs")
            .replace("MINT,", "\"/api/v1/mint\",")
            .replace("RENEW,", "\"/api/v1/relay/renew\",");
        let mut found = BTreeSet::new();
        for route in source.split(".route(").skip(1) {
            let route = &route[..route.find("))").unwrap_or(route.len())];
            let Some(path) = route.split('"').nth(1) else { continue };
            for method in ["get(", "post(", "put(", "patch(", "delete("] {
                if route.contains(method) {
                    found.insert(format!("{} {path}", method.trim_end_matches('(')));
                }
            }
        }
        found
    }

    #[test]
    fn the_description_has_every_route_and_no_other() {
        let document: Value = serde_json::from_str(super::system::OPENAPI).unwrap();
        let mut described = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for method in methods.as_object().unwrap().keys() {
                described.insert(format!("{method} {path}"));
            }
        }
        assert_eq!(described, routed());
        assert!(described.len() > 20);
    }

    #[test]
    fn every_reference_in_the_description_leads_somewhere() {
        let document: Value = serde_json::from_str(super::system::OPENAPI).unwrap();
        for (at, _) in super::system::OPENAPI.match_indices("\"#/") {
            let pointer = super::system::OPENAPI[at + 2..].split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
    }
}
