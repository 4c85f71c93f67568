//! What gates say of a request's head, in their order.

use std::net::IpAddr;

use mytunnel_keys::feed::{BasicGate, BearerGate, Gates, PinGate, SignInGate};

use super::{
    asked::Asked,
    basic::{self, Credentials},
    bearer::{self, Shown},
    cookies::Name,
    pin,
    sign_in::{self, Who, permits},
};
use crate::ingress::failure::Failure;

/// What gates say of a request.
#[derive(Debug)]
pub(super) enum Decision<'a> {
    /// It may not pass, whatever it shows.
    Deny(Failure),
    /// It may pass if this token is right.
    Program(Secret<'a>, Credentials),
    /// If these are right, it may go on to what else [`people`] are asked for.
    Person(Secret<'a>, Credentials),
    /// Nothing stands in its head that would have to be hashed.
    People(Door),
}

/// How far a request has come that shows no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// It may pass.
    Open(Guest),
    /// It has to show something that it did not.
    Ask(Failure),
    /// It comes from somebody whom the lists do not name.
    Reject(Who),
    /// It is for a page of the gates' own.
    Page(Page),
}

/// What sessions say of a visitor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Guest {
    /// Who it is, where people are asked that.
    pub(super) who: Option<Who>,
    /// The Unix second at which the first of their sessions ends, where there are any.
    pub(super) ends_at: Option<u64>,
}

/// A page of the gates' own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Page {
    /// Takes the number that somebody types.
    Pin,
    /// There is nothing to ask for there.
    LeadOn,
    /// Leads to the provider.
    SignIn,
    /// Takes who comes back from there.
    Ticket,
    SignOut(Option<Who>),
}

/// Something that only a hash is known of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Secret<'a> {
    pub(super) kind: Kind,
    /// Whose it is; nobody's is without a name.
    pub(super) user: &'a str,
    pub(super) hash: &'a str,
    pub(super) generation: u64,
}

/// What kind of secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Basic = 1,
    Pin = 2,
    Bearer = 3,
}

impl Kind {
    /// What to say of a wrong one.
    pub(super) fn wrong(self) -> Failure {
        match self {
            Self::Basic => Failure::PasswordRequired,
            Self::Pin => Failure::PinWrong,
            Self::Bearer => Failure::TokenRequired,
        }
    }
}

impl<'a> From<&'a BasicGate> for Secret<'a> {
    fn from(gate: &'a BasicGate) -> Self {
        Self { kind: Kind::Basic, user: &gate.user, hash: &gate.hash, generation: gate.generation }
    }
}

impl<'a> From<&'a PinGate> for Secret<'a> {
    fn from(gate: &'a PinGate) -> Self {
        Self { kind: Kind::Pin, user: "", hash: &gate.hash, generation: gate.generation }
    }
}

impl<'a> From<&'a BearerGate> for Secret<'a> {
    fn from(gate: &'a BearerGate) -> Self {
        Self { kind: Kind::Bearer, user: "", hash: &gate.hash, generation: gate.generation }
    }
}

/// Looks at the gates in their order. `is_offered`: whether there is a sign-in with the provider that they name.
pub(super) fn decide<'a>(gates: &'a Gates, asked: &Asked<'_>, is_offered: bool) -> Decision<'a> {
    // Named one by one: a gate that is added is not passed over.
    let Gates { basic, sign_in, pin, bearer, addresses, ends_at } = gates;
    if ends_at.is_some_and(|at| at <= asked.now) {
        return Decision::Deny(Failure::Ended);
    }
    if addresses.as_ref().is_some_and(|gate| !gate.admits(asked.address())) {
        return Decision::Deny(Failure::AddressDenied);
    }
    if let Some(gate) = bearer {
        match bearer::shown(asked.headers) {
            Shown::Token(token) => return Decision::Program(gate.into(), token),
            Shown::Garbage => return Decision::Deny(Failure::TokenRequired),
            Shown::Nothing if basic.is_none() && pin.is_none() && sign_in.is_none() => {
                return Decision::Deny(Failure::TokenRequired);
            }
            Shown::Nothing => {}
        }
    }
    if let Some(gate) = basic {
        return match basic::shown(asked.headers) {
            Some(credentials) => Decision::Person(gate.into(), credentials),
            None => Decision::Deny(Failure::PasswordRequired),
        };
    }
    Decision::People(people(gates, asked, is_offered))
}

/// What else people have to pass who need no password, or had the right one: a sign-in, then a number.
pub(super) fn people(gates: &Gates, asked: &Asked<'_>, is_offered: bool) -> Door {
    let mut guest = Guest::default();
    if let Some(gate) = &gates.sign_in {
        if !is_offered {
            return Door::Ask(Failure::SignInUnavailable);
        }
        match signed_in(gate, asked) {
            Ok((who, ends_at)) => guest = Guest { who: Some(who), ends_at: Some(ends_at) },
            Err(door) => return door,
        }
    }
    let Some(gate) = &gates.pin else {
        return match asked.own_page() {
            Some(_) if guest.who.is_some() => Door::Page(Page::LeadOn),
            Some(_) | None => Door::Open(guest),
        };
    };
    match (asked.own_page(), asked.session(Name::PIN, &gate.session_key)) {
        (None, Some(known)) => {
            let ends_at = guest.ends_at.map_or(known.ends_at, |first| first.min(known.ends_at));
            Door::Open(Guest { ends_at: Some(ends_at), ..guest })
        }
        (Some(pin::PAGE), None) if asked.method == http::Method::POST => Door::Page(Page::Pin),
        (Some(_), Some(_)) => Door::Page(Page::LeadOn),
        (Some(_) | None, None) => Door::Ask(Failure::PinRequired),
    }
}

/// Who has signed in and until when, if they may enter; else where that ends.
fn signed_in(gate: &SignInGate, asked: &Asked<'_>) -> Result<(Who, u64), Door> {
    let session = asked.session(Name::GATE, &gate.session_key);
    let known = session.and_then(|session| Some((Who::read(&session)?, session.ends_at)));
    match asked.own_page() {
        Some(sign_in::SIGN_IN) => return Err(Door::Page(Page::SignIn)),
        Some(sign_in::TICKET) => return Err(Door::Page(Page::Ticket)),
        Some(sign_in::SIGN_OUT) => return Err(Door::Page(Page::SignOut(known.map(|(who, _)| who)))),
        Some(_) | None => {}
    }
    match known {
        Some((who, ends_at)) if permits(gate, &who) => Ok((who, ends_at)),
        Some((who, _)) => Err(Door::Reject(who)),
        None if asked.is_navigation() => Err(Door::Page(Page::SignIn)),
        None => Err(Door::Ask(Failure::SignInRequired)),
    }
}

/// Whether a visitor may come to a port. Nobody can show there what people and programs are asked for.
pub(super) fn admits_line(gates: &Gates, visitor: IpAddr, now: u64) -> bool {
    let Gates { basic, sign_in, pin, bearer, addresses, ends_at } = gates;
    let asks = basic.is_some() || sign_in.is_some() || pin.is_some() || bearer.is_some();
    !asks && addresses.as_ref().is_none_or(|gate| gate.admits(visitor)) && ends_at.is_none_or(|at| now < at)
}

/// What a request is told whose gates were changed before it was through.
pub(super) fn first_question(gates: &Gates) -> Failure {
    if gates.basic.is_some() {
        Failure::PasswordRequired
    } else if gates.sign_in.is_some() {
        Failure::SignInRequired
    } else if gates.pin.is_some() {
        Failure::PinRequired
    } else if gates.bearer.is_some() {
        Failure::TokenRequired
    } else if gates.addresses.is_some() {
        Failure::AddressDenied
    } else {
        Failure::Away
    }
}

#[cfg(test)]
mod tests;
