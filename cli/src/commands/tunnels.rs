//! `mytunnel tunnels list|auth|edge-auth|pin|bearer|ip|expire|close`: the tunnels of an account, and what they ask of visitors.

mod gates;
mod more_gates;

use clap::Subcommand;
use mytunnel_keys::api::{RelayApplied, TunnelClosed, TunnelRow, Tunnels};
use mytunnel_keys::error::Code;
use mytunnel_keys::id::TunnelId;
use serde_json::json;

use crate::commands::keys::confirmations;
use crate::commands::projects::{self, ServerArgs};
use crate::config::nearest;
use crate::context::Context;
use crate::failure::Failure;
use crate::report::{Style, columns};
use crate::session::Session;

/// See and close tunnels, and say what they ask of visitors
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true, subcommand_required = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: TunnelsCommand,
}

#[derive(Debug, Subcommand)]
enum TunnelsCommand {
    /// List tunnels: where they are, whether they are up, what they ask of visitors
    List(ListArgs),
    Auth(gates::AuthArgs),
    EdgeAuth(gates::EdgeAuthArgs),
    Pin(more_gates::PinArgs),
    Bearer(more_gates::BearerArgs),
    Ip(more_gates::IpArgs),
    Expire(more_gates::ExpireArgs),
    /// Close a tunnel now, for all its visitors; its name and its gates stay, and it may be opened again
    Close(CloseArgs),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Tunnels of this project only, by id or name
    #[arg(long, value_name = "PROJECT")]
    project: Option<String>,

    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
struct CloseArgs {
    #[command(flatten)]
    subject: Subject,
}

/// Which tunnel.
#[derive(Debug, clap::Args)]
struct Subject {
    /// The tunnel's name or id
    #[arg(value_name = "NAME")]
    tunnel: String,

    /// The project it belongs to, where several have one of that name
    #[arg(long, value_name = "PROJECT")]
    project: Option<String>,

    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    match &args.command {
        TunnelsCommand::List(args) => list(args, context),
        TunnelsCommand::Auth(args) => gates::auth(args, context),
        TunnelsCommand::EdgeAuth(args) => gates::edge_auth(args, context),
        TunnelsCommand::Pin(args) => more_gates::pin(args, context),
        TunnelsCommand::Bearer(args) => more_gates::bearer(args, context),
        TunnelsCommand::Ip(args) => more_gates::ip(args, context),
        TunnelsCommand::Expire(args) => more_gates::expire(args, context),
        TunnelsCommand::Close(args) => close(args, context),
    }
}

fn list(args: &ListArgs, context: &Context) -> Result<(), Failure> {
    let session = Session::signed_in(context, args.server.server.as_deref())?;
    let tunnels = all(&session, args.project.as_deref())?;
    context.report.object(&json!({"tunnels": tunnels}));
    if tunnels.is_empty() {
        context.report.note("There are no tunnels yet; open one with `mytunnel share`.");
        return Ok(());
    }
    for (at, line) in lines(&tunnels).into_iter().enumerate() {
        context.report.line(if at == 0 { context.report.styled(Style::Faint, line) } else { line });
    }
    Ok(())
}

fn lines(tunnels: &[TunnelRow]) -> Vec<String> {
    let heading = ["NAME", "STATE", "ASKS FOR", "PROJECT", "URL"].map(str::to_owned).to_vec();
    let row = |tunnel: &TunnelRow| {
        vec![
            tunnel.name.to_string(),
            if tunnel.online { "up" } else { "down" }.to_owned(),
            asks(&tunnel.gates),
            tunnel.project.to_string(),
            tunnel.url.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    };
    columns(&std::iter::once(heading).chain(tunnels.iter().map(row)).collect::<Vec<_>>())
}

/// What visitors are asked for, in words.
fn asks(gates: &[String]) -> String {
    let words: Vec<&str> = gates
        .iter()
        .map(|gate| match gate.as_str() {
            "basic" => "password",
            "oidc" => "sign-in",
            "pin" => "PIN",
            "bearer" => "token",
            "ip" => "address",
            other => other,
        })
        .collect();
    if words.is_empty() { "nothing".to_owned() } else { words.join(", ") }
}

/// Every tunnel, page by page.
fn all(session: &Session, project: Option<&str>) -> Result<Vec<TunnelRow>, Failure> {
    let project = match project {
        Some(project) => format!("&project={}", projects::find(session, project)?.id),
        None => String::new(),
    };
    let mut tunnels = Vec::new();
    let mut after = String::new();
    loop {
        let page: Tunnels = session.get(&format!("/tunnels?limit=1000{project}{after}"))?;
        tunnels.extend(page.tunnels);
        match page.next {
            Some(next) => after = format!("&after={next}"),
            None => return Ok(tunnels),
        }
    }
}

fn close(args: &CloseArgs, context: &Context) -> Result<(), Failure> {
    let (session, tunnel) = args.subject.find(context)?;
    let answer: TunnelClosed = session.delete(&format!("/tunnels/{}", tunnel.id))?;
    context.report.object(&answer);
    context.report.line(format_args!("Closed {}.", tunnel.name));
    say_where(context, &answer.relays);
    Ok(())
}

/// Where a change is true by now.
fn say_where(context: &Context, relays: &[RelayApplied]) {
    for line in confirmations(relays) {
        context.report.note(line);
    }
}

impl Subject {
    fn find(&self, context: &Context) -> Result<(Session, TunnelRow), Failure> {
        let session = Session::signed_in(context, self.server.server.as_deref())?;
        let tunnels = all(&session, self.project.as_deref())?;
        let found = pick(tunnels, &self.tunnel)?;
        Ok((session, found))
    }
}

/// The tunnel of an id or, where it is the only one of it, a name.
fn pick(tunnels: Vec<TunnelRow>, wanted: &str) -> Result<TunnelRow, Failure> {
    let id = wanted.parse::<TunnelId>().ok();
    let is_it = |tunnel: &&TunnelRow| id == Some(tunnel.id) || tunnel.name.as_str() == wanted;
    let found: Vec<&TunnelRow> = tunnels.iter().filter(is_it).collect();
    match found.as_slice() {
        [tunnel] => Ok((*tunnel).clone()),
        [] => {
            let near = nearest(wanted, tunnels.iter().map(|tunnel| tunnel.name.as_str()));
            let help = match near {
                Some(name) => format!("Did you mean `{name}`?"),
                None => "`mytunnel tunnels list` shows what there is; a tunnel exists once it was open."
                    .to_owned(),
            };
            Err(Failure::new(Code::NotFound, format!("there is no tunnel `{wanted}`")).with_help(help))
        }
        several => Err(Failure::usage(
            format!("{} projects have a tunnel called `{wanted}`", several.len()),
            "Say which one with --project, or give its id.",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tunnel(name: &str, project: &str, gates: &[&str]) -> TunnelRow {
        let project = project.parse().unwrap();
        let name = name.parse().unwrap();
        TunnelRow {
            id: TunnelId::derive(&"t.example".parse().unwrap(), &project, &name),
            name,
            project,
            kind: mytunnel_keys::id::TunnelKind::Http,
            url: Some("https://x.t.example".to_owned()),
            online: true,
            gates: gates.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn a_tunnel_is_found_by_id_or_by_its_only_name() {
        let all = || {
            vec![tunnel("web", "proj_a", &[]), tunnel("shop", "proj_a", &[]), tunnel("shop", "proj_b", &[])]
        };
        assert_eq!(pick(all(), "web").unwrap().name.as_str(), "web");
        let id = all()[2].id;
        assert_eq!(pick(all(), &id.to_string()).unwrap().project.to_string(), "proj_b");
        assert_eq!(pick(all(), "shop").unwrap_err().exit_code(), 2);
        let near = pick(all(), "wev").unwrap_err();
        assert_eq!((near.code(), near.help()), (Code::NotFound, "Did you mean `web`?"));
    }

    #[test]
    fn the_table_says_what_visitors_are_asked() {
        let lines =
            lines(&[tunnel("web", "proj_a", &[]), tunnel("shop", "proj_a", &["basic", "oidc", "pin"])]);
        assert!(lines[1].contains("nothing") && lines[2].contains("password, sign-in, PIN"), "{lines:?}");
    }
}
