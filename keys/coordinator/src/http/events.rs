//! The stream of hints for the dashboard.

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::stream;
use mytunnel_keys::error::Code;

use super::call::{Call, MaybeBearer};
use super::{ApiError, App};
use crate::accounts;
use crate::authority::Caller;
use crate::events::Stream;

pub(super) async fn follow(
    State(app): State<App>,
    MaybeBearer(access): MaybeBearer,
    call: Call<()>,
) -> Result<Response, ApiError> {
    let (Caller::Account(person), Some(access)) = (call.caller, access) else {
        return Err(ApiError::refused(Code::ScopeDenied, "the changes are for people who are signed in"));
    };
    let stream = Stream::open(app.0, person, accounts::access_hash(&access))?;
    let pieces = stream::unfold(stream, async |mut stream| {
        let piece = stream.next().await?;
        Some((Ok::<_, std::convert::Infallible>(piece), stream))
    });
    // A proxy that collects answers would hold hints back.
    let headers = [(header::CONTENT_TYPE.as_str(), "text/event-stream"), ("x-accel-buffering", "no")];
    Ok((headers, Body::from_stream(pieces)).into_response())
}
