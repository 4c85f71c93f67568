//! The answers that come from the relay itself: what went wrong on the way to a tunnel, as a status, a code in
//! `x-mytunnel-error` and a short page. Neither names a server or anything internal.
//!
//! The page is HTML for browsers, the API's error object for who accepts JSON, and one line of text for the rest
//! (curl, scripts).

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{ACCEPT, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, RETRY_AFTER},
};
use mytunnel_keys::error::Code;

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
    /// The tunnel has as many requests in flight as it may have.
    TunnelBusy,
    /// The tunnel's key has as many requests in flight as it may have.
    KeyBusy,
    /// More requests for the tunnel have begun in this second than may.
    TunnelHasty,
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
}

impl Failure {
    /// Each of them, in this order.
    pub(crate) const ALL: [Self; 34] = [
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
        Self::TunnelBusy,
        Self::KeyBusy,
        Self::TunnelHasty,
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
            | Self::Spent => StatusCode::SERVICE_UNAVAILABLE,
            Self::TargetRefused | Self::Broken | Self::SignInDown => StatusCode::BAD_GATEWAY,
            Self::SignInStale => StatusCode::BAD_REQUEST,
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Self::VisitorBusy | Self::VisitorHasty | Self::TunnelHasty | Self::TooManyGuesses => {
                StatusCode::TOO_MANY_REQUESTS
            }
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
            | Self::TunnelBusy
            | Self::KeyBusy
            | Self::TunnelHasty
            | Self::Spent
            | Self::VisitorBusy
            | Self::VisitorHasty
            | Self::TooManyGuesses
            | Self::GateBusy => self.code().name(),
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
            Self::Away | Self::TargetRefused | Self::Broken | Self::Timeout => Code::TargetUnreachable,
            Self::TunnelBusy
            | Self::KeyBusy
            | Self::TunnelHasty
            | Self::VisitorBusy
            | Self::VisitorHasty
            | Self::TooManyGuesses
            | Self::GateBusy => Code::RateLimited,
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
            Self::TunnelHasty | Self::VisitorHasty => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            Self::Away
            | Self::TunnelBusy
            | Self::KeyBusy
            | Self::VisitorBusy
            | Self::TooManyGuesses
            | Self::GateBusy => {
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

    fn title(self) -> &'static str {
        match self {
            Self::BadRequest => "This request cannot be understood",
            Self::TargetTooLong => "This address is too long",
            Self::HeadTooLarge => "The head of this request is too large",
            Self::CookiesTooLarge => "The cookies of this site are too many",
            Self::BodyTooLarge => "The body of this request is too large",
            Self::MethodNotAllowed => "This method is not allowed",
            Self::RequestTimeout => "The request did not arrive in time",
            Self::Misdirected => "This connection leads to another place",
            Self::UnknownName => "There is no tunnel with this name",
            Self::Ended => "This tunnel has ended",
            Self::Away => "This tunnel is not connected",
            Self::TargetRefused => "The local server does not answer",
            Self::Broken => "The connection to the local server broke",
            Self::Timeout => "The local server took too long",
            Self::TunnelBusy | Self::KeyBusy => "This tunnel is busy",
            Self::TunnelHasty => "This tunnel is asked too often",
            Self::Spent => "This tunnel has used up its budget",
            Self::VisitorBusy => "Too many requests at once",
            Self::VisitorHasty => "Too many requests in a second",
            Self::PasswordRequired => "This tunnel asks for a password",
            Self::PinRequired => "This tunnel asks for a PIN",
            Self::PinWrong => "This is not the PIN",
            Self::TokenRequired => "This tunnel asks for a token",
            Self::AddressDenied => "This tunnel cannot be reached from where you are",
            Self::CrossSite => "Another site has sent this",
            Self::TooManyGuesses => "Too many wrong guesses",
            Self::GateBusy => "Too many sign-ins at once",
            Self::SignInUnavailable => "This tunnel asks for a sign-in that is not available",
            Self::SignInRequired => "This tunnel asks for a sign-in",
            Self::AccessDenied => "You may not enter this tunnel",
            Self::SignInStale => "This sign-in counts no more",
            Self::SignInDeclined => "The sign-in was declined",
            Self::SignInDown => "The sign-in cannot be reached",
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Self::BadRequest => "Its host or its framing is missing, repeated or contradictory.",
            Self::TargetTooLong => "Shorten its path or its query.",
            Self::HeadTooLarge => "Shorten its fields.",
            Self::CookiesTooLarge => {
                "Your browser was asked to delete those of this site and of its neighbours: load the page again, and sign in again where you were. If it does not help, delete them by hand."
            }
            Self::BodyTooLarge => {
                "Send less at once. How much may come is set by the operator of this relay (`body_bytes`)."
            }
            Self::MethodNotAllowed => "CONNECT and TRACE are not passed on to tunnels.",
            Self::RequestTimeout => "Send it again, without a pause in the middle.",
            Self::Misdirected => {
                "The tunnel ends its TLS itself: open its https address on a connection of its own."
            }
            Self::UnknownName => "Check the address; whoever gave it to you may have ended the tunnel.",
            Self::Ended => {
                "Its key has ended or used up its budget, or its owner closed it. Ask whoever gave you the address."
            }
            Self::Away => {
                "The machine that shares it is offline or just reconnecting. Try again in a moment."
            }
            Self::TargetRefused => {
                "The tunnel is up, but nothing listens where it leads to. If it is yours, start the local server."
            }
            Self::Broken => {
                "It closed before a complete answer arrived. Try again; if it is yours, look at its log."
            }
            Self::Timeout => "The tunnel is up, but its local server has not answered. Try again later.",
            Self::Spent => "It may cost no more in this month. Ask whoever gave you the address.",
            Self::TunnelBusy => "It has as many requests in flight as it may have. Try again in a moment.",
            Self::KeyBusy => {
                "The tunnels of its key have as many requests in flight as they may have. Try again in a moment."
            }
            Self::TunnelHasty => "It takes no more requests in this second. Try again in the next.",
            Self::VisitorHasty => "Your address may ask no more in this second. Try again in the next.",
            Self::VisitorBusy => {
                "Your address has as many requests in flight as it may have. Wait for some to end."
            }
            Self::PasswordRequired => "Ask whoever gave you the address for the user name and the password.",
            Self::PinRequired => {
                "Open the address in a browser and type it there; whoever gave it to you has it."
            }
            Self::PinWrong => "Ask whoever gave you the address for it, then try again.",
            Self::TokenRequired => {
                "Send it as Authorization: Bearer TOKEN; whoever gave you the address has it."
            }
            Self::AddressDenied => {
                "Its owner lets visitors in by their network addresses. Ask whoever gave you the address."
            }
            Self::CrossSite => "Open the address itself and try again there.",
            Self::TooManyGuesses => "Wait as long as Retry-After says, then try again with the right one.",
            Self::GateBusy => "Others are signing in to it at this moment. Try again in a few seconds.",
            Self::SignInUnavailable => {
                "Its owner lets in only who signs in, and this relay has no such provider: its operator adds it to relay.toml as [[sign_in]]."
            }
            Self::SignInRequired => "Open the address in a browser and sign in there.",
            Self::AccessDenied => "You are signed in as somebody whom its owner does not let in.",
            Self::SignInStale => {
                "It took too long, was begun in another browser, or has ended already. Open the address of the tunnel again."
            }
            Self::SignInDeclined => {
                "Your provider did not let you sign in here. Open the address of the tunnel to try again."
            }
            Self::SignInDown => {
                "Whom this tunnel signs its visitors in with does not answer as it should. Try again in a moment."
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Html,
    Json,
    Text,
}

impl Form {
    /// The form in which an answer to a request with these headers is wanted.
    pub(crate) fn asked(headers: &HeaderMap) -> Self {
        let accept = headers.get(ACCEPT).map(HeaderValue::as_bytes).unwrap_or_default();
        let names = |kind: &[u8]| accept.windows(kind.len()).any(|window| window.eq_ignore_ascii_case(kind));
        if names(b"text/html") {
            Self::Html
        } else if names(b"json") {
            Self::Json
        } else {
            Self::Text
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Html => "text/html; charset=utf-8",
            Self::Json => "application/json",
            Self::Text => "text/plain; charset=utf-8",
        }
    }

    fn page(self, failure: Failure) -> Bytes {
        let (title, advice, name) = (failure.title(), failure.advice(), failure.name());
        let page = match self {
            Self::Html => format!(
                "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
                 <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{title}</title>\
                 <style>:root{{color-scheme:light dark}}body{{font:1rem/1.5 system-ui,sans-serif;max-width:34rem;\
                 margin:18vh auto;padding:0 1.5rem}}h1{{font-size:1.4rem}}p{{opacity:.85}}small{{opacity:.6}}</style>\
                 </head><body><h1>{title}</h1><p>{advice}</p><small>{status} · {name}</small></body></html>\n",
                status = failure.status().as_u16(),
            ),
            Self::Json => format!(
                "{{\"error\":{{\"code\":\"{}\",\"message\":\"{title}\",\"help\":\"{advice}\"}}}}\n",
                name.to_ascii_lowercase()
            ),
            Self::Text => format!("{title}. {advice} ({name})\n"),
        };
        Bytes::from(page)
    }
}

#[cfg(test)]
mod tests {
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
