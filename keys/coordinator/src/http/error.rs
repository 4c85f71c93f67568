//! Failures as the API tells them: a code, words, a remedy, and nothing internal.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use mytunnel_keys::api::ErrorBody;
use mytunnel_keys::error::Code;

use crate::accounts::HashError;
use crate::authority::Refusal;
use crate::issuer::IssueError;
use crate::random::NoRandomness;
use crate::store::{CodeError, StoreError};

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// It was understood and refused.
    #[error("{0}")]
    Refused(Refusal),
    /// Too many tries; come back after so many seconds.
    #[error("too many tries")]
    TooMany(u64),
    /// Refused by HTTP's own rules, with a status of its own.
    #[error("{1}")]
    Http(StatusCode, &'static str),
    /// Nobody should ask this server.
    #[error("{0}")]
    Unready(String),
    /// It is well formed, and lacks something.
    #[error("{0}")]
    Unprocessable(&'static str),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something else failed inside.
    #[error("{0}")]
    Internal(Box<dyn std::error::Error + Send + Sync>),
}

impl ApiError {
    pub(crate) fn refused(code: Code, message: impl Into<String>) -> Self {
        Self::Refused(Refusal::new(code, message))
    }

    /// Is it that there is no such thing?
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.code == Code::NotFound)
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::refused(Code::BadRequest, message)
    }

    /// Neither cookie nor token of a session.
    pub(crate) fn no_session() -> Self {
        Self::refused(Code::InvalidKey, "there is no session here; sign in")
    }

    fn status_and_body(&self) -> (StatusCode, ErrorBody) {
        match self {
            Self::Refused(refusal) => (status(refusal.code), ErrorBody::new(refusal.code, &refusal.message)),
            Self::TooMany(seconds) => {
                let message = format!("too many tries; try again in {seconds} s");
                (status(Code::RateLimited), ErrorBody::new(Code::RateLimited, message))
            }
            Self::Http(status, message) => {
                let code = match *status {
                    StatusCode::NOT_FOUND => Code::NotFound,
                    StatusCode::PAYLOAD_TOO_LARGE => Code::PayloadTooLarge,
                    _ => Code::BadRequest,
                };
                (*status, ErrorBody::new(code, *message))
            }
            Self::Unready(why) => (StatusCode::SERVICE_UNAVAILABLE, ErrorBody::new(Code::Internal, why)),
            Self::Unprocessable(message) => {
                (StatusCode::UNPROCESSABLE_ENTITY, ErrorBody::new(Code::BadRequest, *message))
            }
            Self::Store(error) => {
                let message = match error {
                    StoreError::Full => "nothing was changed: the server's disk is full",
                    StoreError::ReadOnly => "nothing was changed: the server's disk is read-only",
                    StoreError::Damaged(_) => "nothing was changed: the server's database is damaged",
                    StoreError::Closed => "nothing was changed: the server is shutting down",
                    StoreError::WentBack => {
                        "nothing was changed: the server's database knows less than it did before"
                    }
                    StoreError::Unreachable(_) => "nothing was changed: the server cannot reach its database",
                    StoreError::Uncertain(_) => {
                        "the server lost its database in the middle of this: look whether it was done, or ask again"
                    }
                    StoreError::Thread(_)
                    | StoreError::Engine(_)
                    | StoreError::Malformed(_)
                    | StoreError::Column { .. } => "nothing was changed: the server's database failed",
                };
                (StatusCode::SERVICE_UNAVAILABLE, ErrorBody::new(Code::Internal, message))
            }
            Self::Internal(_) => {
                let body = ErrorBody::new(Code::Internal, "the server failed; its log has the cause");
                (status(Code::Internal), body)
            }
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<NoRandomness> for ApiError {
    fn from(error: NoRandomness) -> Self {
        Self::Internal(error.into())
    }
}

impl From<IssueError> for ApiError {
    fn from(error: IssueError) -> Self {
        Self::Internal(error.into())
    }
}

impl From<CodeError> for ApiError {
    fn from(error: CodeError) -> Self {
        match error {
            CodeError::Wrong => {
                Self::refused(Code::MfaInvalid, "this code is wrong, too old, or was used before")
            }
            CodeError::Wait(seconds) => Self::TooMany(seconds),
            CodeError::Off => Self::bad_request("this account has no second factor"),
        }
    }
}

impl From<HashError> for ApiError {
    fn from(error: HashError) -> Self {
        match error {
            HashError::Busy => Self::TooMany(2),
            HashError::Failed => Self::Internal(error.into()),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, body) = self.status_and_body();
        if status.is_server_error() {
            tracing::error!(error = &self as &dyn std::error::Error, "a request failed");
        }
        let mut response = (status, Json(body)).into_response();
        if let Self::TooMany(seconds) = self {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            let schemes = HeaderValue::from_static("Bearer, Mytunnel");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, schemes);
        }
        response
    }
}

fn status(code: Code) -> StatusCode {
    StatusCode::from_u16(code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}
