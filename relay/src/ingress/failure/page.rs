//! What the relay's own pages say, as HTML for browsers, as the API's error object for who accepts JSON, and as one line of text for
//! the rest (curl, scripts).

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header::ACCEPT};

use super::Failure;

impl Failure {
    pub(super) fn title(self) -> &'static str {
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
            Self::Loop => "This tunnel leads back to itself",
            Self::TunnelBusy | Self::KeyBusy => "This tunnel is busy",
            Self::TunnelHasty | Self::KeyHasty => "This tunnel is asked too often",
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
            Self::NodesBusy => "Too many nodes at once",
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
            Self::Loop => {
                "Its target is this relay again. If it is yours, share the local server instead of its public address."
            }
            Self::Spent => "It may cost no more in this month. Ask whoever gave you the address.",
            Self::TunnelBusy => "It has as many requests in flight as it may have. Try again in a moment.",
            Self::KeyBusy => {
                "The tunnels of its key have as many requests in flight as they may have. Try again in a moment."
            }
            Self::KeyHasty => {
                "The tunnels of its key take no more requests in this second. Try again in the next."
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
            Self::NodesBusy => "Others are connecting to this relay. The node tries again by itself.",
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

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Html => "text/html; charset=utf-8",
            Self::Json => "application/json",
            Self::Text => "text/plain; charset=utf-8",
        }
    }

    pub(super) fn page(self, failure: Failure) -> Bytes {
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
