//! What it takes for guests to come through a relay: a key for the host's daemon, which serves one private share with it and
//! nothing else, and a ticket for each link. Made here, by whoever opens a session, so that the daemon holds neither a
//! person's sign-in nor a master key.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use data_encoding::BASE32_NOPAD;
use mytunnel_keys::error::Code;
use mytunnel_keys::id::{Scope, Scopes, TunnelName};
use mytunnel_keys::secret::Seed;
use mytunnel_keys::token::{ChildToken, Secret};
use mytunnel_pairing::api::{GrantedTicket, RelayGrant, Request};
use mytunnel_pairing::limits;
use mytunnel_pairing::ways::WayKey;
use serde_json::{Value, json};

use super::ways;
use crate::commands::ticket;
use crate::context::{Context, random};
use crate::credentials::Login;
use crate::failure::Failure;
use crate::mint::{self, MintOptions};
use crate::session::{Session, wanted_server};
use crate::{api, span};

/// The longest that a coordinator may keep a session from being open.
const PREPARING: Duration = Duration::from_millis(2_000);
/// How much later than it was begun a session is open at the latest, if a relay does not answer; all else takes the rest of
/// the five seconds that are promised.
const OPEN: Duration = Duration::from_millis(3_000);
/// The same where nothing but a relay will do.
const OPEN_BY_RELAY: Duration = Duration::from_millis(4_500);
/// The longest that tickets are taken back for.
const WITHDRAWING: Duration = Duration::from_secs(2);
/// The shortest life of a ticket.
const SHORTEST: u64 = 60;

/// Whether guests are to come through a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// If there is something to do it with.
    Maybe,
    /// Nothing else will do.
    Demanded,
    /// No.
    Off,
}

/// What there is for it.
#[derive(Debug, Default)]
pub(crate) struct Offer {
    pub(crate) grant: Option<RelayGrant>,
    /// Why there is nothing, where there should be.
    trouble: Option<Failure>,
}

impl Offer {
    /// For so many links with this life. `there` is the way that the session has already, as its status tells.
    pub(crate) fn make(
        wish: Wish,
        (count, ttl): (usize, u64),
        there: &Value,
        context: &Context,
    ) -> Result<Self, Failure> {
        // Of a number that cannot be, the daemon says so; nobody is asked for tickets.
        if wish == Wish::Off || !(1..limits::MEMBERS).contains(&count) {
            return Ok(Self::default());
        }
        let began = Instant::now();
        let granted = match has_credentials(context) {
            Ok(true) => api::within(PREPARING, || granted(count, ttl, there, context)),
            Ok(false) if wish == Wish::Maybe => return Ok(Self::default()),
            Ok(false) => Err(Failure::new(
                Code::InvalidKey,
                "this machine is not signed in to a relay, through which guests could come",
            )
            .with_help("Sign in with `mytunnel login URL`, or set MTK_MASTER; or leave out --relay.")),
            Err(failure) => Err(failure),
        };
        match granted {
            Ok(mut grant) => {
                let end = if wish == Wish::Demanded { OPEN_BY_RELAY } else { OPEN };
                let left = end.saturating_sub(began.elapsed());
                grant.wait_ms = u64::try_from(left.as_millis()).unwrap_or_default();
                Ok(Self { grant: Some(grant), trouble: None })
            }
            Err(failure) if wish == Wish::Maybe => Ok(Self { grant: None, trouble: Some(failure) }),
            Err(failure) => Err(failure),
        }
    }

    /// Says in the answer why there is no way, where there should be one.
    pub(crate) fn tell(trouble: Option<Failure>, answer: &mut Value) {
        if let Some(failure) = trouble {
            answer["relay"] = json!({
                "state": "off",
                "code": failure.code().name(),
                "why": failure.message(),
                "help": failure.help(),
            });
        }
    }

    /// Both parts.
    pub(crate) fn parts(self) -> (Option<RelayGrant>, Option<Failure>) {
        (self.grant, self.trouble)
    }
}

pub(super) fn has_credentials(context: &Context) -> Result<bool, Failure> {
    let login = Login::load(&context.config_dir()?, wanted_server(context, None)?.as_ref())?;
    Ok(login.is_some() || context.env.master.is_some())
}

fn granted(count: usize, ttl: u64, there: &Value, context: &Context) -> Result<RelayGrant, Failure> {
    let (session, project) = ticket::issuer(None, None, context)?;
    let server = session.server().base().to_owned();
    let of = project.as_ref().map(ToString::to_string).unwrap_or_default();
    let (name, key, about) = match there["name"].as_str() {
        Some(_) if there["server"] != server.as_str() || there["project"] != of.as_str() => {
            let message = "the session has its way by another relay or project than this machine's now";
            return Err(Failure::new(Code::ProjectMismatch, message)
                .with_help("Sign in there again, or open another session."));
        }
        Some(name) => {
            let name: TunnelName = name
                .parse()
                .map_err(|_| Failure::new(Code::Internal, "the daemon tells no name of its way"))?;
            let about = BTreeMap::from([("name".to_owned(), name.to_string())]);
            (name, None, about)
        }
        None => {
            let name = fresh_name()?;
            let (key, serial) = host_key(&session, &name, project.clone())?;
            let about = [("name", name.to_string()), ("server", server), ("project", of), ("key", serial)];
            let about = about.into_iter().map(|(field, value)| (field.to_owned(), value)).collect();
            (name, Some(key), about)
        }
    };
    let mut tickets = Vec::new();
    for _ in 0..count {
        let within = ttl.clamp(SHORTEST, span::MAX_TTL);
        let (text, made) = ticket::make(&session, (name.clone(), project.clone()), within, span::MAX_TTL)?;
        tickets.push(GrantedTicket { text: WayKey::new(text), id: made.id });
    }
    Ok(RelayGrant { key, about, tickets, wait_ms: 0 })
}

/// Nobody guesses it; and who could would need a certificate for it.
fn fresh_name() -> Result<TunnelName, Failure> {
    let letters = BASE32_NOPAD.encode(&random::<15>()?).to_lowercase();
    format!("pair-{letters}").parse().map_err(|_| Failure::new(Code::Internal, "that is no name"))
}

/// A key that serves this one name for as long as a session may last, and its serial.
fn host_key(
    session: &Session,
    name: &TunnelName,
    project: Option<mytunnel_keys::id::ProjectId>,
) -> Result<(WayKey, String), Failure> {
    let seed = Seed::from_bytes(random()?);
    let options = MintOptions {
        scope: Some(Scopes::from_iter([Scope::Private])),
        subdomain: vec![name.clone().into()],
        portable: true,
        ..MintOptions::for_one_share(None)
    };
    let answer = mint::ask(session, &seed, &options, project)?;
    let serial = answer.serial.to_string();
    let (root, server) = (*session.root(), session.server().clone());
    let token = ChildToken::new(Secret::Portable(seed), answer.certificate, root, server)?;
    Ok((ways::written(name, token), serial))
}

/// The way that a session has, as its status tells.
pub(crate) fn there(
    session: Option<String>,
    ask: impl FnOnce(&Request) -> Result<Value, Failure>,
) -> Result<Value, Failure> {
    let mut status = ask(&Request::Status { session, reader: String::new() })?;
    // Of several that are open none is meant by who names none, which the daemon says.
    let sessions = status["sessions"].as_array_mut().into_iter().flatten();
    let mut open = sessions.filter(|one| one["state"] != "closed");
    Ok(match (open.next(), open.next()) {
        (Some(one), None) => one["relay"].take(),
        (_, Some(_)) | (None, None) => Value::Null,
    })
}

/// Whether all invites of an answer lead through a relay.
pub(crate) fn leads(answer: &Value) -> bool {
    answer["invites"].as_array().is_some_and(|all| all.iter().all(|one| one["relay"] == true))
}

/// Takes back the tickets of links that let nobody in any more. They end by themselves, too, and lead to a door that is shut.
pub(crate) fn withdraw(answer: &mut Value, context: &Context) {
    let tickets = answer.as_object_mut().and_then(|fields| fields.remove("tickets")).unwrap_or_default();
    let tickets: Vec<&str> = tickets.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if tickets.is_empty() {
        return;
    }
    let withdrawn = api::within(WITHDRAWING, || {
        let session = Session::person_or_master(context, None)?;
        tickets.iter().try_for_each(|id| session.delete::<Value>(&format!("/tickets/{id}")).map(drop))
    });
    if let Err(failure) = withdrawn {
        tracing::debug!(why = failure.message(), "tickets stay until they end");
    }
}
