//! What it takes for guests to come through a relay: a key for the host's daemon, which serves one private share with it and
//! nothing else, and a ticket for each link. Made here, by whoever opens a session, so that the daemon holds neither a
//! person's sign-in nor a master key.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use data_encoding::BASE32_NOPAD;
use mytunnel_keys::error::Code;
use mytunnel_keys::id::{Scope, Scopes, Serial, TunnelName};
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
/// The longest that tickets and a key are taken back for.
const WITHDRAWING: Duration = Duration::from_millis(1_500);
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

/// What was made at a coordinator for links, so that it can be undone.
#[derive(Debug, Default, Clone)]
pub(crate) struct Made {
    /// Id of the host's key, where one was made.
    key: Option<String>,
    tickets: Vec<String>,
}

impl Made {
    /// Takes back what nobody will use. It ends by itself, too.
    pub(crate) fn undo(&self, context: &Context) {
        if self.key.is_none() && self.tickets.is_empty() {
            return;
        }
        let tickets = self.tickets.iter().map(|id| ticket_path(id));
        // The last, since its answer waits for relays, which may be what does not answer.
        let key = self.key.iter().map(|id| format!("/tokens/{id}?cascade=true&masters=false"));
        take_back(tickets.chain(key), context);
    }
}

fn ticket_path(id: &str) -> String {
    format!("/tickets/{id}")
}

/// Takes all of these back, one after the other. One that is gone keeps none of the others.
fn take_back(paths: impl Iterator<Item = String>, context: &Context) {
    let taken = api::within(WITHDRAWING, || {
        let session = Session::person_or_master(context, None)?;
        paths.map(|path| session.delete::<Value>(&path).map(drop)).fold(Ok(()), Result::and)
    });
    if let Err(failure) = taken {
        tracing::debug!(why = failure.message(), "what was made for links stays until it ends");
    }
}

/// What there is for it.
#[derive(Debug, Default)]
pub(crate) struct Offer {
    made: Made,
    grant: Option<RelayGrant>,
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
        let (began, mut made) = (Instant::now(), Made::default());
        let granted = match has_credentials(context) {
            Ok(true) => api::within(PREPARING, || granted((count, ttl), there, context, &mut made)),
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
                let left = OPEN.saturating_sub(began.elapsed());
                grant.wait_ms = u64::try_from(left.as_millis()).unwrap_or_default();
                Ok(Self { made, grant: Some(grant), trouble: None })
            }
            Err(failure) => {
                made.undo(context);
                match wish {
                    Wish::Maybe => Ok(Self { trouble: Some(failure), ..Self::default() }),
                    Wish::Demanded | Wish::Off => Err(failure),
                }
            }
        }
    }

    /// For a session that lives on, whatever comes of this. A key that was handed to it stays with it, and ends by itself: its next links go
    /// by that key.
    pub(crate) fn for_living(mut self) -> Self {
        self.made.key = None;
        self
    }

    /// What is to be undone if nothing comes of it.
    pub(crate) fn made(&self) -> Made {
        self.made.clone()
    }

    /// Asks the daemon with it, and says in the answer why there is no way, where there should be one.
    pub(crate) fn used(
        self,
        context: &Context,
        ask: impl FnOnce(Option<RelayGrant>) -> Result<Value, Failure>,
    ) -> Result<Value, Failure> {
        let mut answer = ask(self.grant).inspect_err(|_| self.made.undo(context))?;
        if let Some(failure) = self.trouble {
            answer["relay"] = json!({
                "state": "off",
                "code": failure.code().name(),
                "why": failure.message(),
                "help": failure.help(),
            });
        }
        Ok(answer)
    }
}

pub(super) fn has_credentials(context: &Context) -> Result<bool, Failure> {
    let login = Login::load(&context.config_dir()?, wanted_server(context, None)?.as_ref())?;
    Ok(login.is_some() || context.env.master.is_some())
}

fn granted(
    (count, ttl): (usize, u64),
    there: &Value,
    context: &Context,
    made: &mut Made,
) -> Result<RelayGrant, Failure> {
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
            made.key = Some(serial.nonce());
            let serial = serial.to_string();
            let about = [("name", name.to_string()), ("server", server), ("project", of), ("key", serial)];
            let about = about.into_iter().map(|(field, value)| (field.to_owned(), value)).collect();
            (name, Some(key), about)
        }
    };
    let mut tickets = Vec::new();
    for _ in 0..count {
        let within = ttl.clamp(SHORTEST, span::MAX_TTL);
        let (text, ticket) = ticket::make(&session, (name.clone(), project.clone()), within, span::MAX_TTL)?;
        made.tickets.push(ticket.id.clone());
        tickets.push(GrantedTicket { text: WayKey::new(text), id: ticket.id });
    }
    Ok(RelayGrant { key, about, tickets, wait_ms: 0 })
}

/// Nobody guesses it; and who could would need a certificate for it.
fn fresh_name() -> Result<TunnelName, Failure> {
    let letters = BASE32_NOPAD.encode(&random::<15>()?).to_lowercase();
    format!("pair-{letters}").parse().map_err(|_| Failure::new(Code::Internal, "that is no name"))
}

/// A key that serves this one name for as long as a session may last, and by what it is revoked.
fn host_key(
    session: &Session,
    name: &TunnelName,
    project: Option<mytunnel_keys::id::ProjectId>,
) -> Result<(WayKey, Serial), Failure> {
    let seed = Seed::from_bytes(random()?);
    let options = MintOptions {
        scope: Some(Scopes::from_iter([Scope::Private])),
        subdomain: vec![name.clone().into()],
        portable: true,
        ..MintOptions::for_one_share(None)
    };
    let answer = mint::ask(session, &seed, &options, project)?;
    let (root, server) = (*session.root(), session.server().clone());
    let token = ChildToken::new(Secret::Portable(seed), answer.certificate, root, server)?;
    Ok((ways::written(name, token), answer.serial))
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
    take_back(tickets.into_iter().map(ticket_path), context);
}
