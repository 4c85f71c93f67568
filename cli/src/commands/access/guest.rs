//! A guest with a ticket: no account, and a key that is made for this process and lives in it.

use std::path::Path;

use mytunnel_keys::api::{RedeemTicket, TicketRedeemed};
use mytunnel_keys::error::Code;
use mytunnel_keys::id::TunnelName;
use mytunnel_keys::secret::Seed;
use mytunnel_keys::token::Token;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::api::{Api, As};
use crate::context::{Context, random};
use crate::failure::Failure;
use crate::identity::Holder;
use crate::inspect::told::printable;
use crate::{bootstrap, secrets, server, span};

/// What tickets begin with, and other tokens, which are no names either.
const BEGINNING: &str = "mtk_";

/// What helps a guest whose access is over, or never was.
pub(super) const ASK_AGAIN: &str =
    "Ask whoever gave you the ticket for another: each is good once, and for a short while.";

/// Where a ticket may come from.
pub(super) struct Given<'a> {
    /// What stands where a name would.
    pub(super) argument: Option<&'a str>,
    pub(super) file: Option<&'a Path>,
    /// Who names another server than the ticket does.
    pub(super) server: Option<&'a str>,
}

impl Given<'_> {
    /// The ticket's text, if there is one. A name that was typed wins over the environment.
    pub(super) fn ticket(&self, context: &Context) -> Result<Option<Zeroizing<String>>, Failure> {
        match (self.argument, self.file) {
            (Some(text), _) if text.starts_with(BEGINNING) => {
                Ok(secrets::from_flag(context, "access", Some(text), "MYTUNNEL_TICKET or --ticket-file"))
            }
            (Some(_), _) => Ok(None),
            (None, Some(file)) => secrets::from_file(file).map(Some),
            (None, None) => Ok(context.env.ticket.clone()),
        }
    }
}

/// Who was let in, and to what.
pub(super) struct Guest {
    pub(super) name: TunnelName,
    pub(super) holder: Holder,
}

#[derive(Serialize)]
#[serde(tag = "event", rename = "ticket")]
struct Admitted<'a> {
    name: &'a TunnelName,
    from: &'a str,
    expires_at: u64,
}

/// Uses a ticket up. Whatever can be known to be wrong before is told before.
pub(super) fn enter(text: &str, given: &Given<'_>, context: &Context) -> Result<Guest, Failure> {
    let ticket = Token::parse(text).and_then(Token::into_ticket).map_err(|error| {
        Failure::from(error).with_help("Copy the whole ticket: from mtk_ticket_ to its end.")
    })?;
    let server = match given.server {
        Some(url) => server::parse(url)?,
        None => ticket.server,
    };
    let api = Api::new(&server);
    let known = bootstrap::fetch(&api, &server, &ticket.root)?;
    if known.bootstrap.relays.is_empty() {
        let message = format!("no relay is connected to {server} at the moment; the ticket was not used");
        return Err(Failure::new(Code::RelayUnreachable, message));
    }
    let seed = Seed::from_bytes(random()?);
    let answer = redeem(&api, text, &seed)?;
    let from = printable(&answer.from);
    let expires_at = answer.key.expires_at;
    context.report.object(&Admitted { name: &answer.name, from: &from, expires_at });
    context.report.note(format_args!(
        "{from} shares {} with you until {}.",
        answer.name,
        span::utc(expires_at)
    ));
    let holder = Holder {
        seed,
        certificate: answer.key.certificate,
        root: ticket.root,
        server,
        expires_at,
        if_revoked: None,
        is_person: false,
    };
    Ok(Guest { name: answer.name, holder })
}

/// The answer may be lost on its way: the same key gets it again.
fn redeem(api: &Api, text: &str, seed: &Seed) -> Result<TicketRedeemed, Failure> {
    let request = RedeemTicket { ticket: text.to_owned(), public_key: seed.public() };
    let ask = || api.post(As::Anyone, "/tickets/redeem", &request);
    let answer = match ask() {
        Err(failure) if failure.code() == Code::CoordinatorUnreachable => ask(),
        answer => answer,
    };
    answer.map_err(told)
}

/// A refusal in words that fit a guest.
#[expect(clippy::wildcard_enum_match_arm, reason = "every other code has its own help")]
pub(super) fn told(failure: Failure) -> Failure {
    match failure.code() {
        Code::InvalidKey | Code::KeyExpired | Code::KeyRevoked | Code::NotFound => {
            failure.with_help(ASK_AGAIN)
        }
        _ => failure,
    }
}
