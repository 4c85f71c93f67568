//! The answers that come from the relay itself: what went wrong on the way to a tunnel, as a status, a code in
//! `x-mytunnel-error` and a short page. Neither names a server or anything internal.

mod page;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, RETRY_AFTER},
};
use mytunnel_keys::error::Code;

pub(crate) use page::Form;

/// Names the failure in every answer that the relay makes: by its [`Code`], or what a gate asks for.
pub const ERROR_HEADER: HeaderName = HeaderName::from_static("x-mytunnel-error");

const CLEAR_SITE_DATA: HeaderName = HeaderName::from_static("clear-site-data");

/// Why a visitor gets an answer from the relay instead of one from the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// The request's framing or host cannot be understood in only one way.
    BadRequest,
    /// The request's target is longer than any may be.
    TargetTooLong,
    /// The request's head has too many bytes or fields.
    HeadTooLarge,
    /// It has, and most of them are cookies: another site of the same domain may have set them.
    CookiesTooLarge,
    /// The request's body has too many bytes.
    BodyTooLarge,
    /// A method that would turn the relay into something else.
    MethodNotAllowed,
    /// The visitor stopped in the middle of a request.
    RequestTimeout,
    /// TLS for the name ends behind the relay, and the request came over TLS that ended here.
    Misdirected,
    /// No such name.
    UnknownName,
    /// The name exists; whoever served it has lost the right to.
    Ended,
    /// The name exists; its node did not come back in time.
    Away,
    /// The node is there; nothing answers at its local server.
    TargetRefused,
    /// The node or its local server went away before it answered.
    Broken,
    /// The local server did not answer in time.
    Timeout,
    /// The tunnel leads back to the relay, and so on.
    Loop,
    /// The tunnel has as many requests in flight as it may have.
    TunnelBusy,
    /// The tunnel's key has as many requests in flight as it may have.
    KeyBusy,
    /// More requests for the tunnel have begun in this second than may.
    TunnelHasty,
    /// More requests for the tunnels of its key have begun in this second than may.
    KeyHasty,
    /// What the tunnel may cost in this month is used up.
    Spent,
    /// The visitor's address has as many requests in flight as it may have.
    VisitorBusy,
    /// More requests of the visitor's address have begun in this second than may.
    VisitorHasty,
    /// The tunnel asks for a user name and a password, and these were none or the wrong ones.
    PasswordRequired,
    /// The tunnel asks for a number that people type.
    PinRequired,
    /// It was another one.
    PinWrong,
    /// The tunnel asks for a token, and this was none or a wrong one.
    TokenRequired,
    /// The tunnel lets nobody in from the visitor's address.
    AddressDenied,
    /// A page of another host has sent what only a page of this one may.
    CrossSite,
    /// Too many wrong passwords, numbers or tokens.
    TooManyGuesses,
    /// Too many passwords are being checked.
    GateBusy,
    /// The tunnel asks for a sign-in, and the relay offers none.
    SignInUnavailable,
    /// The tunnel asks for a sign-in.
    SignInRequired,
    /// The tunnel does not let in who has signed in.
    AccessDenied,
    /// A sign-in was begun too long ago, in another browser, or has ended already.
    SignInStale,
    /// Somebody, or their provider, did not agree.
    SignInDeclined,
    /// The provider cannot be asked.
    SignInDown,
    /// As many nodes wait at the WebSockets' door as may.
    NodesBusy,
}

impl Failure {
    /// Each of them, in this order.
    pub(crate) const ALL: [Self; 37] = [
        Self::BadRequest,
        Self::TargetTooLong,
        Self::HeadTooLarge,
        Self::CookiesTooLarge,
        Self::BodyTooLarge,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::Misdirected,
        Self::UnknownName,
        Self::Ended,
        Self::Away,
        Self::TargetRefused,
        Self::Broken,
        Self::Timeout,
        Self::Loop,
        Self::TunnelBusy,
        Self::KeyBusy,
        Self::TunnelHasty,
        Self::KeyHasty,
        Self::Spent,
        Self::VisitorBusy,
        Self::VisitorHasty,
        Self::PasswordRequired,
        Self::PinRequired,
        Self::PinWrong,
        Self::TokenRequired,
        Self::AddressDenied,
        Self::CrossSite,
        Self::TooManyGuesses,
        Self::GateBusy,
        Self::SignInUnavailable,
        Self::SignInRequired,
        Self::AccessDenied,
        Self::SignInStale,
        Self::SignInDeclined,
        Self::SignInDown,
        Self::NodesBusy,
    ];

    /// The HTTP status.
    pub fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadTooLarge | Self::CookiesTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::UnknownName | Self::Ended => StatusCode::NOT_FOUND,
            Self::Away
            | Self::TunnelBusy
            | Self::KeyBusy
            | Self::GateBusy
            | Self::SignInUnavailable
            | Self::NodesBusy
            | Self::Spent => StatusCode::SERVICE_UNAVAILABLE,
            Self::TargetRefused | Self::Broken | Self::SignInDown => StatusCode::BAD_GATEWAY,
            Self::SignInStale => StatusCode::BAD_REQUEST,
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Loop => StatusCode::LOOP_DETECTED,
            Self::VisitorBusy
            | Self::VisitorHasty
            | Self::TunnelHasty
            | Self::KeyHasty
            | Self::TooManyGuesses => StatusCode::TOO_MANY_REQUESTS,
            Self::PasswordRequired
            | Self::PinRequired
            | Self::PinWrong
            | Self::TokenRequired
            | Self::SignInRequired => StatusCode::UNAUTHORIZED,
            Self::AddressDenied | Self::CrossSite | Self::AccessDenied | Self::SignInDeclined => {
                StatusCode::FORBIDDEN
            }
        }
    }

    /// What `x-mytunnel-error` says: the name of a [`Code`], but for what only a gate can say.
    pub fn name(self) -> &'static str {
        match self {
            Self::PasswordRequired => "PASSWORD_REQUIRED",
            Self::PinRequired | Self::PinWrong => "PIN_REQUIRED",
            Self::TokenRequired => "TOKEN_REQUIRED",
            Self::AddressDenied => "ADDRESS_DENIED",
            Self::CrossSite => "CROSS_SITE",
            Self::SignInUnavailable => "SIGN_IN_UNAVAILABLE",
            Self::SignInRequired => "SIGN_IN_REQUIRED",
            Self::AccessDenied => "ACCESS_DENIED",
            Self::SignInStale => "SIGN_IN_STALE",
            Self::SignInDeclined => "SIGN_IN_DECLINED",
            Self::SignInDown => "SIGN_IN_DOWN",
            Self::BadRequest
            | Self::TargetTooLong
            | Self::HeadTooLarge
            | Self::CookiesTooLarge
            | Self::BodyTooLarge
            | Self::MethodNotAllowed
            | Self::RequestTimeout
            | Self::Misdirected
            | Self::UnknownName
            | Self::Ended
            | Self::Away
            | Self::TargetRefused
            | Self::Broken
            | Self::Timeout
            | Self::Loop
            | Self::TunnelBusy
            | Self::KeyBusy
            | Self::TunnelHasty
            | Self::KeyHasty
            | Self::Spent
            | Self::VisitorBusy
            | Self::VisitorHasty
            | Self::TooManyGuesses
            | Self::GateBusy
            | Self::NodesBusy => self.code().name(),
        }
    }

    /// The nearest of the codes that all parts of mytunnel share.
    pub fn code(self) -> Code {
        match self {
            Self::BadRequest
            | Self::TargetTooLong
            | Self::HeadTooLarge
            | Self::CookiesTooLarge
            | Self::BodyTooLarge
            | Self::MethodNotAllowed
            | Self::Misdirected
            | Self::RequestTimeout => Code::BadRequest,
            Self::UnknownName | Self::Ended => Code::NotFound,
            Self::Away | Self::TargetRefused | Self::Broken | Self::Timeout | Self::Loop => {
                Code::TargetUnreachable
            }
            Self::TunnelBusy
            | Self::KeyBusy
            | Self::TunnelHasty
            | Self::KeyHasty
            | Self::VisitorBusy
            | Self::VisitorHasty
            | Self::TooManyGuesses
            | Self::GateBusy
            | Self::NodesBusy => Code::RateLimited,
            Self::PasswordRequired
            | Self::PinRequired
            | Self::PinWrong
            | Self::TokenRequired
            | Self::SignInRequired => Code::InvalidKey,
            Self::AddressDenied | Self::CrossSite | Self::AccessDenied | Self::SignInDeclined => {
                Code::ScopeDenied
            }
            Self::SignInStale => Code::BadRequest,
            Self::SignInDown => Code::TargetUnreachable,
            Self::SignInUnavailable => Code::UnsupportedProvider,
            Self::Spent => Code::BudgetExceeded,
        }
    }

    /// The answer, in the form that `accept` (the request's headers) asks for.
    pub fn response(self, accept: &HeaderMap) -> Response<Bytes> {
        let form = Form::asked(accept);
        let mut response = Response::new(form.page(self));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(ERROR_HEADER, HeaderValue::from_static(self.name()));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(form.content_type()));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match self {
            Self::TunnelHasty | Self::KeyHasty | Self::VisitorHasty => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            Self::Away
            | Self::TunnelBusy
            | Self::KeyBusy
            | Self::VisitorBusy
            | Self::TooManyGuesses
            | Self::GateBusy
            | Self::NodesBusy => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
            }
            Self::MethodNotAllowed => {
                headers
                    .insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
            }
            Self::CookiesTooLarge => {
                // Whoever could set so many could as well have pushed out those that are to be kept.
                headers.insert(CLEAR_SITE_DATA, HeaderValue::from_static("\"cookies\""));
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            // What follows on the connection can't be trusted to be a request.
            Self::BadRequest
            | Self::TargetTooLong
            | Self::HeadTooLarge
            | Self::BodyTooLarge
            | Self::RequestTimeout => {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Self::Misdirected
            | Self::UnknownName
            | Self::Ended
            | Self::TargetRefused
            | Self::Broken
            | Self::Timeout
            | Self::Loop
            | Self::Spent
            | Self::PasswordRequired
            | Self::PinRequired
            | Self::PinWrong
            | Self::TokenRequired
            | Self::AddressDenied
            | Self::CrossSite
            | Self::SignInUnavailable
            | Self::SignInRequired
            | Self::AccessDenied
            | Self::SignInStale
            | Self::SignInDeclined
            | Self::SignInDown => {}
        }
        if form == Form::Html {
            let policy = "default-src 'none'; style-src 'unsafe-inline'";
            headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use http::header::ACCEPT;

    use super::*;

    fn asking(accept: &str) -> HeaderMap {
        HeaderMap::from_iter([(ACCEPT, HeaderValue::from_str(accept).unwrap())])
    }

    #[test]
    fn the_form_follows_accept() {
        let form = |accept: &str| Failure::Away.response(&asking(accept)).headers()[CONTENT_TYPE].clone();
        assert_eq!(form("text/html,application/xhtml+xml,*/*;q=0.8"), "text/html; charset=utf-8");
        assert_eq!(form("application/json"), "application/json");
        assert_eq!(form("application/problem+JSON"), "application/json");
        assert_eq!(form("*/*"), "text/plain; charset=utf-8");
        let silent = Failure::Away.response(&HeaderMap::new());
        assert_eq!(silent.headers()[CONTENT_TYPE], "text/plain; charset=utf-8");
    }

    #[test]
    fn every_failure_reads_well_in_every_form() {
        for failure in Failure::ALL {
            for accept in ["text/html", "application/json", "*/*"] {
                let response = failure.response(&asking(accept));
                assert_eq!(response.headers()[ERROR_HEADER], failure.name());
                assert!(!response.headers().contains_key("server"));
                let page = std::str::from_utf8(response.body()).unwrap();
                assert!(page.contains(failure.title()) && page.ends_with('\n'), "{page}");
                assert!(page.len() < 1500, "{}", page.len());
            }
            let json = failure.response(&asking("application/json"));
            let object: serde_json::Value = serde_json::from_slice(json.body()).unwrap();
            assert_eq!(object["error"]["code"], failure.name().to_ascii_lowercase());
            assert!(object["error"]["help"].is_string());
        }
    }
}
