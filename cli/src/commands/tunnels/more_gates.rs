//! `mytunnel tunnels pin|bearer|ip|expire`: what else a tunnel asks of its visitors, and when it ends.

use std::path::PathBuf;

use mytunnel_keys::api::{GateAnswer, SetAddresses, SetBearer, SetEnd, SetGate, SetPin};
use mytunnel_keys::network::Network;

use super::{Subject, say_where};
use crate::context::{Context, now};
use crate::failure::Failure;
use crate::{secrets, span};

/// Ask visitors of a tunnel for a PIN, from their next request on
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mytunnel tunnels pin demo          makes a PIN and shows it once
  mytunnel tunnels pin demo --off    asks visitors for none any more

For scripts: MYTUNNEL_TUNNEL_PIN, or --pin-file.")]
pub(super) struct PinArgs {
    #[command(flatten)]
    subject: Subject,

    /// File that holds the PIN, or - for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["off", "pin"])]
    pin_file: Option<PathBuf>,

    /// The PIN, 6 to 12 digits; better not here, where others on this machine can see it
    #[arg(long, value_name = "PIN", conflicts_with = "off", hide_short_help = true)]
    pin: Option<String>,

    /// Ask for no PIN any more
    #[arg(long)]
    off: bool,
}

/// Let programs in that send a token, in place of what people are asked, from their next request on
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mytunnel tunnels bearer demo          makes a token and shows it once
  mytunnel tunnels bearer demo --off    lets none in any more

For scripts: MYTUNNEL_TUNNEL_TOKEN, or --bearer-file.")]
pub(super) struct BearerArgs {
    #[command(flatten)]
    subject: Subject,

    /// File that holds the token, or - for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["off", "bearer"])]
    bearer_file: Option<PathBuf>,

    /// The token, 16 characters or more; better not here, where others on this machine can see it
    #[arg(long, value_name = "TOKEN", conflicts_with = "off", hide_short_help = true)]
    bearer: Option<String>,

    /// Let no token in any more
    #[arg(long)]
    off: bool,
}

/// Let visitors of a tunnel in by where they come from, from their next request on
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mytunnel tunnels ip demo --allow 192.0.2.0/24 --deny 192.0.2.7
  mytunnel tunnels ip demo --off    lets them in from everywhere

The lists take the place of those before.")]
pub(super) struct IpArgs {
    #[command(flatten)]
    subject: Subject,

    /// Address or network that visitors may come from, and no others; may be repeated
    #[arg(long, value_name = "CIDR", required_unless_present_any = ["deny", "off"], conflicts_with = "off")]
    allow: Vec<Network>,

    /// Address or network that they may not come from, also if allowed; may be repeated
    #[arg(long, value_name = "CIDR", conflicts_with = "off")]
    deny: Vec<Network>,

    /// Let visitors in from everywhere
    #[arg(long)]
    off: bool,
}

/// Give a tunnel an end, on every relay
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mytunnel tunnels expire demo --in 2h
  mytunnel tunnels expire demo --off    lets it go on, and be opened again

At its end the tunnel closes, and cannot be opened again before it has another end or none.")]
pub(super) struct ExpireArgs {
    #[command(flatten)]
    subject: Subject,

    /// Time from now, e.g. 2h
    #[arg(
        long = "in",
        value_name = "TIME",
        value_parser = span::parse_some,
        required_unless_present = "off",
        conflicts_with = "off"
    )]
    after: Option<u64>,

    /// Let it go on without an end
    #[arg(long)]
    off: bool,
}

pub(super) fn pin(args: &PinArgs, context: &Context) -> Result<(), Failure> {
    let gate = match (args.off, &args.pin_file) {
        (true, _) => None,
        (false, Some(file)) => Some(Some(secrets::from_file(file)?)),
        (false, None) => Some(secrets::pin(context, args.pin.as_deref())?),
    };
    let pin =
        |pin: Option<zeroize::Zeroizing<String>>| SetPin { pin: pin.map(|pin| (*pin).clone()), tunnel: None };
    let change = gate.map(|given| SetGate::Pin(pin(given)));
    let told = set(&args.subject, "gates/pin", change, context)?;
    told.say(context, "asks for a PIN", "asks for no PIN");
    if let Some(pin) = &told.answer.secret {
        context.report.note(format_args!("PIN for visitors: {pin}"));
    }
    Ok(())
}

pub(super) fn bearer(args: &BearerArgs, context: &Context) -> Result<(), Failure> {
    let gate = match (args.off, &args.bearer_file) {
        (true, _) => None,
        (false, Some(file)) => Some(Some(secrets::from_file(file)?)),
        (false, None) => Some(secrets::tunnel_token(context, args.bearer.as_deref())?),
    };
    let token = |token: Option<zeroize::Zeroizing<String>>| SetBearer {
        token: token.map(|token| (*token).clone()),
        tunnel: None,
    };
    let change = gate.map(|given| SetGate::Bearer(token(given)));
    let told = set(&args.subject, "gates/bearer", change, context)?;
    told.say(context, "lets programs in by a token", "lets no token in");
    if let Some(token) = &told.answer.secret {
        context.report.note(format_args!("For programs: Authorization: Bearer {token}"));
    }
    Ok(())
}

pub(super) fn ip(args: &IpArgs, context: &Context) -> Result<(), Failure> {
    let text = |networks: &[Network]| networks.iter().map(ToString::to_string).collect();
    let lists = || SetAddresses { allow: text(&args.allow), deny: text(&args.deny), tunnel: None };
    let change = (!args.off).then(|| SetGate::Addresses(lists()));
    let told = set(&args.subject, "gates/ip", change, context)?;
    told.say(context, "lets visitors in by their addresses", "lets visitors in from everywhere");
    Ok(())
}

pub(super) fn expire(args: &ExpireArgs, context: &Context) -> Result<(), Failure> {
    let change = args.after.map(|expires_in| SetGate::End(SetEnd { expires_in, tunnel: None }));
    let told = set(&args.subject, "expires", change, context)?;
    let left = told.answer.expires_at.map(|at| span::human(at.saturating_sub(now())));
    told.say(context, &format!("ends in {}", left.unwrap_or_default()), "has no end");
    Ok(())
}

/// What the coordinator said about a tunnel.
struct Told {
    name: String,
    answer: GateAnswer,
}

/// Sets a gate, or takes it away where there is none to set.
fn set(subject: &Subject, path: &str, gate: Option<SetGate>, context: &Context) -> Result<Told, Failure> {
    let (session, tunnel) = subject.find(context)?;
    let path = format!("/tunnels/{}/{path}", tunnel.id);
    let answer: GateAnswer = match gate {
        Some(gate) => session.put(&path, &gate)?,
        None => session.delete(&path)?,
    };
    context.report.object(&answer);
    Ok(Told { name: tunnel.name.to_string(), answer })
}

impl Told {
    fn say(&self, context: &Context, on: &str, off: &str) {
        let does = if self.answer.enabled { on } else { off };
        context.report.line(format_args!("{} {does}.", self.name));
        say_where(context, &self.answer.relays);
    }
}
