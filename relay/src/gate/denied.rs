//! What a request is told that does not pass: a page that can be acted upon, and for programs what to show.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Response,
    header::{RETRY_AFTER, WWW_AUTHENTICATE},
};
use mytunnel_keys::{feed::Gates, id::TunnelName};

use super::{
    asked::Asked,
    pin,
    sign_in::{self, Who},
};
use crate::ingress::failure::{Failure, Form};

/// Why a request does not pass.
#[derive(Debug)]
pub(crate) struct Denied {
    pub(super) failure: Failure,
    tunnel: TunnelName,
    /// Whether a password and a token would be looked at.
    takes: Takes,
    /// Where it was going.
    way_back: String,
    /// Who is not let in, where that is known.
    who: Option<Box<Who>>,
    /// Seconds after which it may try again.
    wait: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Takes {
    password: bool,
    token: bool,
}

impl Denied {
    pub(super) fn new(failure: Failure, tunnel: &TunnelName, gates: &Gates, asked: &Asked<'_>) -> Self {
        let way_back = match asked.own_page() {
            None => asked.way_back().to_owned(),
            Some(_) => pin::destination(asked.uri.query()).into_owned(),
        };
        Self { way_back, ..Self::changed(failure, tunnel, gates) }
    }

    /// Of a request of which nothing more is known.
    pub(super) fn changed(failure: Failure, tunnel: &TunnelName, gates: &Gates) -> Self {
        let takes = Takes { password: gates.basic.is_some(), token: gates.bearer.is_some() };
        Self { failure, tunnel: tunnel.clone(), takes, way_back: "/".to_owned(), who: None, wait: None }
    }

    /// Why.
    pub(crate) const fn failure(&self) -> Failure {
        self.failure
    }

    /// The same, with the seconds after which it may try again.
    pub(super) fn after(self, seconds: u64) -> Self {
        Self { wait: Some(seconds), ..self }
    }

    /// The same, of somebody who has signed in.
    pub(super) fn named(self, who: Who) -> Self {
        Self { who: Some(Box::new(who)), ..self }
    }

    /// The answer, in the form that `accept` (the request's headers) asks for.
    pub(crate) fn response(&self, accept: &HeaderMap) -> Response<Bytes> {
        let mut response = self.failure.response(accept);
        let asks_for_pin = matches!(self.failure, Failure::PinRequired | Failure::PinWrong);
        if asks_for_pin && Form::asked(accept) == Form::Html {
            *response.body_mut() = pin::page(self.tunnel.as_str(), &self.way_back, self.failure);
            pin::headers_of_page(response.headers_mut());
        }
        if let (Some(who), Form::Html) = (&self.who, Form::asked(accept)) {
            *response.body_mut() = sign_in::denied(self.tunnel.as_str(), who, &self.way_back);
            pin::headers_of_page(response.headers_mut());
        }
        let headers = response.headers_mut();
        for challenge in self.challenges() {
            headers.append(WWW_AUTHENTICATE, challenge);
        }
        if let Some(wait) = self.wait {
            headers.insert(RETRY_AFTER, HeaderValue::from(wait));
        }
        response
    }

    /// What would be let through in the header.
    fn challenges(&self) -> impl Iterator<Item = HeaderValue> {
        let Takes { password, token } = self.takes;
        let asks_for_secret = matches!(self.failure, Failure::PasswordRequired | Failure::TokenRequired);
        let basic = password && asks_for_secret;
        // A scheme that stands for a form, so that nothing but the page asks (draft-broyer-http-cookie-auth).
        let for_pin = matches!(self.failure, Failure::PinRequired | Failure::PinWrong);
        let for_sign_in = (self.failure == Failure::SignInRequired).then_some(sign_in::SIGN_IN);
        let page = if for_pin { Some(pin::PAGE) } else { for_sign_in };
        let bearer = token && (asks_for_secret || page.is_some());
        let realm = self.tunnel.as_str();
        let all = [
            basic.then(|| format!("Basic realm=\"{realm}\"")),
            bearer.then(|| format!("Bearer realm=\"{realm}\"")),
            page.map(|page| format!("Cookie realm=\"{realm}\", form-action=\"{}{page}\"", super::asked::OWN)),
        ];
        all.into_iter().flatten().filter_map(|challenge| HeaderValue::try_from(challenge).ok())
    }
}
