//! `pair open`, `join` and `invite`.

use std::net::SocketAddr;

use clap::ValueEnum;
use mytunnel_keys::error::Code;
use mytunnel_pairing::{Verify, api::Request};
use serde_json::Value;

use super::relay::{self, Offer, Wish};
use super::{client, secret};
use crate::context::Context;
use crate::failure::Failure;
use crate::report::Style;
use crate::span;

/// What is told to who waits for a host.
const LOOKING: &str = "Looking for the host, by the network and through a relay where the invite names one: for 40 seconds at most.";

#[derive(Debug, clap::Args)]
pub(crate) struct OpenArgs {
    /// What the session is for; members alone see it
    #[arg(long, default_value = "")]
    goal: String,

    /// How many guests to make invites for
    #[arg(long, value_name = "N", default_value_t = 1)]
    invites: usize,

    /// A code to be spoken instead of a link, for a guest on this network
    #[arg(long)]
    code: bool,

    /// Life of the invites, from 30s to 24h
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = span::parse_some)]
    ttl: u64,

    /// Whether both persons compare three words before anything is said
    #[arg(long, value_enum, default_value_t = VerifyArg::Ask)]
    verify: VerifyArg,

    #[command(flatten)]
    keep: KeepArgs,

    #[command(flatten)]
    relay: RelayArgs,

    #[command(flatten)]
    who: WhoArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct JoinArgs {
    /// Where the host is, if the addresses in the invite do not lead there; may be given several times
    #[arg(long, value_name = "IP:PORT")]
    addr: Vec<SocketAddr>,

    /// Whether both persons compare three words before anything is said; the stricter of both sides counts
    #[arg(long, value_enum, default_value_t = VerifyArg::Ask)]
    verify: VerifyArg,

    /// By the network alone, also where the invite leads through a relay
    #[arg(long)]
    no_relay: bool,

    #[command(flatten)]
    keep: KeepArgs,

    #[command(flatten)]
    who: WhoArgs,

    /// Refused: others could read it
    #[arg(hide = true)]
    invite: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct InviteArgs {
    /// How many
    #[arg(long, value_name = "N", default_value_t = 1)]
    count: usize,

    /// Codes to be spoken instead of links
    #[arg(long)]
    code: bool,

    /// Their life, from 30s to 24h
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = span::parse_some)]
    ttl: u64,

    #[command(flatten)]
    relay: RelayArgs,

    #[command(flatten)]
    session: super::SessionArgs,
}

#[derive(Debug, clap::Args)]
struct RelayArgs {
    /// Fail where guests cannot come through a relay [default: they can, if this machine is signed in to one or has MTK_MASTER]
    #[arg(long, conflicts_with_all = ["no_relay", "code"])]
    relay: bool,

    /// Guests come by the network alone
    #[arg(long)]
    no_relay: bool,
}

impl RelayArgs {
    /// A code is found on the network alone.
    const fn wish(&self, code: bool) -> Wish {
        match (self.relay, self.no_relay || code) {
            (true, _) => Wish::Demanded,
            (false, true) => Wish::Off,
            (false, false) => Wish::Maybe,
        }
    }
}

#[derive(Debug, clap::Args)]
struct KeepArgs {
    /// Keep the session on this machine's disk: it goes on after a restart, its record can be exported for a day
    #[arg(long)]
    keep: bool,

    /// Keep nothing on disk, as without --keep
    #[arg(long, conflicts_with = "keep")]
    memory: bool,
}

#[derive(Debug, clap::Args)]
struct WhoArgs {
    /// Your name in the session [default: your user name]
    #[arg(long)]
    name: Option<String>,

    /// What runs here, such as claude-code
    #[arg(long, default_value = "")]
    agent: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum VerifyArg {
    /// Nothing is said, told or shown before both have
    Required,
    /// They can; whether they have is shown
    Ask,
    /// They do not
    Off,
}

impl From<VerifyArg> for Verify {
    fn from(wanted: VerifyArg) -> Self {
        match wanted {
            VerifyArg::Required => Self::Required,
            VerifyArg::Ask => Self::Ask,
            VerifyArg::Off => Self::Off,
        }
    }
}

impl WhoArgs {
    fn name(&self, context: &Context, otherwise: &str) -> String {
        self.name.clone().unwrap_or_else(|| user_name(context, otherwise))
    }
}

/// The name of this machine's user, if it can be one in a session.
pub(crate) fn user_name(context: &Context, otherwise: &str) -> String {
    let user = context.env.user.as_deref().and_then(mytunnel_pairing::name);
    user.unwrap_or_else(|| otherwise.to_owned())
}

pub(crate) fn open(args: &OpenArgs, context: &Context) -> Result<(), Failure> {
    let wish = args.relay.wish(args.code);
    let offer = Offer::make(wish, (args.invites, args.ttl), &Value::Null, context)?;
    let made = offer.made();
    let answer = offer.used(context, |relay| {
        let request = Request::Open {
            goal: args.goal.clone(),
            invites: args.invites,
            code: args.code,
            ttl_s: args.ttl,
            verify: args.verify.into(),
            name: args.who.name(context, "host"),
            agent: args.who.agent.clone(),
            keep: args.keep.keep,
            relay,
        };
        client::ask_or_start(&request, context)
    })?;
    if wish == Wish::Demanded && !(answer["relay"]["state"] == "open" && relay::leads(&answer)) {
        let session = answer["session"].as_str().map(str::to_owned);
        let closed = client::ask(&Request::Close { session, forget: args.keep.keep }, context);
        made.undo(context);
        warn_of(closed, "the session stays open", context);
        return Err(no_relay(&answer["relay"]));
    }
    context.report.object(&answer);
    print_invites(&answer, context);
    if args.code {
        let addresses: Vec<&str> =
            answer["addresses"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        context.report.note(format_args!("Where the code finds nobody: --addr {}", addresses.join(" or ")));
    }
    context.report.note(format_args!("Session {} is open.", text(&answer, "session")));
    Ok(())
}

pub(crate) fn invite(args: &InviteArgs, context: &Context) -> Result<(), Failure> {
    let session = args.session.session.clone();
    let wish = args.relay.wish(args.code);
    let there = match wish {
        Wish::Off => Value::Null,
        Wish::Maybe | Wish::Demanded => relay::there(session.clone(), |ask| client::ask(ask, context))?,
    };
    let offer = Offer::make(wish, (args.count, args.ttl), &there, context)?.for_living();
    let made = offer.made();
    let (count, code, ttl_s) = (args.count, args.code, args.ttl);
    let answer = offer.used(context, |relay| {
        client::ask(&Request::Invite { session, count, code, ttl_s, relay }, context)
    })?;
    if wish == Wish::Demanded && !(answer["relay"]["state"] == "open" && relay::leads(&answer)) {
        // Nobody has seen them.
        let ids = answer["invites"].as_array().into_iter().flatten();
        let invites: Vec<String> = ids.map(|invite| text(invite, "id").to_owned()).collect();
        let session = answer["session"].as_str().map(str::to_owned);
        let revoked = client::ask(&Request::Revoke { session, invites }, context);
        made.undo(context);
        warn_of(revoked, "the invites stay open", context);
        return Err(no_relay(&answer["relay"]));
    }
    context.report.object(&answer);
    print_invites(&answer, context);
    Ok(())
}

/// What could not be taken back is told beside why there is no relay.
fn warn_of(undone: Result<Value, Failure>, what: &str, context: &Context) {
    if let Err(failure) = undone {
        context.report.warn(format_args!("{what}: {}", failure.message()));
    }
}

fn no_relay(relay: &Value) -> Failure {
    let why = text(relay, "why");
    let why = if why.is_empty() { "it does not answer" } else { why };
    Failure::new(Code::RelayUnreachable, format!("guests cannot come through the relay: {why}"))
        .with_help("Try again when it is up, or leave out --relay: guests of this network come without it.")
}

/// Whether guests may be elsewhere, and if not, why and what helps.
fn print_relay(relay: &Value, context: &Context) {
    let (server, why, help) = (text(relay, "server"), text(relay, "why"), text(relay, "help"));
    let why = if why.is_empty() { "no answer yet" } else { why };
    match text(relay, "state") {
        "open" => context.report.note(format_args!(
            "Guests of other networks come through the relay of {server}, which reads nothing of it."
        )),
        "opening" => context.report.warn(format_args!(
            "The relay of {server} is not reached yet ({why}): until it is, guests of this network only come in. \
             `mytunnel pair status` says when."
        )),
        "closed" => context.report.warn(format_args!("Guests of this network only come in: {why}.")),
        "off" => context.report.warn(format_args!(
            "Guests of this network only come in: {why}. {help} Then `mytunnel pair invite` makes an invite for others."
        )),
        _ => {}
    }
}

fn print_invites(answer: &Value, context: &Context) {
    let invites = answer["invites"].as_array().map(Vec::as_slice).unwrap_or_default();
    for invite in invites {
        context.report.line(context.report.styled(Style::Strong, text(invite, "text")));
    }
    if let Some(life) = invites.first().and_then(|invite| invite["expires_in_s"].as_u64()) {
        let life = span::human(life);
        context.report.note(format_args!(
            "Each invite lets one guest in, once, within {life}. Hand it over by a way that only the guest reads; \
             the guest runs `mytunnel pair join` and pastes it there."
        ));
    }
    // Of a way that stands beside invites that do not lead there is nothing to say.
    let stands = answer["relay"]["state"] == "open" || answer["relay"]["state"] == "opening";
    if relay::leads(answer) || !stands {
        print_relay(&answer["relay"], context);
    }
}

pub(crate) fn join(args: &JoinArgs, context: &Context) -> Result<(), Failure> {
    if args.invite.is_some() {
        return Err(Failure::usage(
            "an invite does not belong on the command line: others on this machine can read it there",
            "Run `mytunnel pair join` alone and paste it at the prompt, pipe it in, or set MYTUNNEL_PAIR_SECRET.",
        ));
    }
    let request = Request::Join {
        secret: secret::invite(context)?,
        name: args.who.name(context, "guest"),
        agent: args.who.agent.clone(),
        addresses: args.addr.clone(),
        verify: args.verify.into(),
        keep: args.keep.keep,
        relay: !args.no_relay,
    };
    let answer = client::ask_and_tell(&request, LOOKING, context)?;
    context.report.object(&answer);
    context.report.line(text(&answer, "session"));
    if text(&answer, "state") == "unverified" {
        context
            .report
            .note("Nothing is shown before both persons have compared words: `mytunnel pair verify`.");
    } else {
        context.report.note(format_args!("Goal, as the host says: {}", text(&answer, "goal")));
    }
    if answer["host_keeps"] == true {
        context.report.note("The host keeps what is said here on its disk.");
    }
    Ok(())
}

pub(crate) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}
