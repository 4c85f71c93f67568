//! A guest with a ticket: no account, and a key that is made for this process and lives in it.

use std::path::Path;
use std::time::Duration;

use mytunnel_keys::api::{RedeemTicket, TicketRedeemed};
use mytunnel_keys::error::Code;
use mytunnel_keys::id::TunnelName;
use mytunnel_keys::secret::Seed;
use mytunnel_keys::token::{ServerUrl, Token};
use mytunnel_keys::trust::RootFingerprint;
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
pub(super) const ASK_AGAIN: &str = "Ask whoever gave you the ticket for another: each is good once, and for a short while. If it was used, and not by you, \
     tell them so: somebody else is in, and `mytunnel ticket --list` shows the key to revoke.";

/// Nobody knows whether the last try was heard.
const UNCERTAIN: &str = "The ticket may have been used by this try, and its key is lost then. If the next try says that it was used, it was \
                         this one: ask for another.";
/// Where whoever made the ticket may not do what they promised.
const ASK_THEM: &str = "Tell whoever gave you the ticket: their key may not let you in any more.";

/// Seconds to wait before each time that the coordinator is asked again: a new process of it needs seconds.
const ASK_AFTER: [u64; 5] = [0, 1, 3, 8, 15];

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
    // It is needed soon, and what is missing then would have cost the ticket.
    context.config_dir().map_err(not_used)?;
    let api = ready(&server, &ticket.root)?;
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

/// The coordinator of a ticket, where nothing stands in the way of using it.
pub(crate) fn ready(server: &ServerUrl, root: &RootFingerprint) -> Result<Api, Failure> {
    let api = Api::new(server);
    let known = bootstrap::fetch(&api, server, root)?;
    if known.bootstrap.relays.is_empty() {
        let message = format!("no relay is connected to {server} at the moment");
        return Err(not_used(Failure::new(Code::RelayUnreachable, message)));
    }
    if let Some(complaint) = api.skew().complaint() {
        let failure = Failure::new(Code::InvalidKey, complaint);
        return Err(not_used(
            failure.with_help("Set the clock (`timedatectl set-ntp true`), then try again."),
        ));
    }
    Ok(api)
}

/// Shows a ticket. The same key gets the same answer again.
pub(crate) fn show(api: &Api, text: &str, seed: &Seed) -> Result<TicketRedeemed, Failure> {
    let request = RedeemTicket { ticket: text.to_owned(), public_key: seed.public() };
    api.post(As::Anyone, "/tickets/redeem", &request)
}

/// What went wrong before the ticket was shown to anybody.
pub(super) fn not_used(failure: Failure) -> Failure {
    let message = format!("{}; the ticket was not used", failure.message());
    failure.with_message(message)
}

/// The answer may be lost on its way, or the coordinator be starting anew: the same key gets it again.
#[expect(clippy::wildcard_enum_match_arm, reason = "every other code says for sure that it was not used now")]
fn redeem(api: &Api, text: &str, seed: &Seed) -> Result<TicketRedeemed, Failure> {
    let ask = || show(api, text, seed);
    let mut answer = ask();
    for pause in ASK_AFTER {
        match &answer {
            Err(failure) if matches!(failure.code(), Code::CoordinatorUnreachable | Code::Internal) => {
                rest(Duration::from_secs(pause));
                answer = ask();
            }
            Ok(_) | Err(_) => break,
        }
    }
    answer.map_err(|failure| match failure.code() {
        Code::CoordinatorUnreachable | Code::Internal => failure.with_help(UNCERTAIN),
        _ => told(failure),
    })
}

#[expect(clippy::disallowed_methods, reason = "a coordinator that starts anew tells nobody when it answers")]
fn rest(pause: Duration) {
    std::thread::sleep(pause);
}

/// A refusal in words that fit a guest.
#[expect(clippy::wildcard_enum_match_arm, reason = "every other code has its own help")]
pub(super) fn told(failure: Failure) -> Failure {
    match failure.code() {
        Code::ScopeDenied | Code::ProjectMismatch => failure.with_help(ASK_THEM),
        Code::InvalidKey | Code::KeyExpired | Code::KeyRevoked | Code::NotFound => {
            failure.with_help(ASK_AGAIN)
        }
        _ => failure,
    }
}
