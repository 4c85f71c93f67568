//! `mytunnel ticket NAME`: one private share for somebody without an account, once.

use mytunnel_keys::api::{NewTicket, Ticket, Tickets};
use mytunnel_keys::error::Code;
use mytunnel_keys::id::{ProjectId, TunnelName};
use mytunnel_keys::secret::TicketSecret;
use mytunnel_keys::token::{TicketToken, Token};
use serde::Serialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::commands::projects::{self, ServerArgs};
use crate::context::{Context, now, random};
use crate::credentials::Login;
use crate::failure::Failure;
use crate::identity;
use crate::report::columns;
use crate::session::{Session, check_login, wanted_server};
use crate::{names, span};

/// Let somebody without an account reach one private share, once
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mytunnel ticket box                     prints what the guest types: mytunnel access mtk_ticket_…
  mytunnel ticket box --for 1h --ttl 8h   an hour to use it, then eight hours of access
  mytunnel ticket --list                  tickets that are open, or were within the last hour
  mytunnel ticket --withdraw tkt_…        takes one back that was not used

Whoever has the ticket reaches that one share and nothing else. It is good once; the guest's key
is a child of this device's, or of the master key in MTK_MASTER: `mytunnel keys list` shows it,
`mytunnel keys revoke ID` ends it at once, and with --cascade, for the key that made the ticket, all of its
guests. What is granted is the name: whatever is shared under it until the guest's key ends is reached.")]
pub(crate) struct Args {
    /// Name of the private share
    #[arg(required_unless_present_any = ["list", "withdraw"], conflicts_with_all = ["list", "withdraw"])]
    name: Option<String>,

    /// Time in which the ticket has to be used, 1m to 24h
    #[arg(long = "for", value_name = "TIME", default_value = "10m", value_parser = span::parse_within)]
    within: u64,

    /// How long the guest's access lasts from then on, 1m to 24h
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = span::parse_ttl)]
    ttl: u64,

    /// List the tickets that are open, or were within the last hour
    #[arg(long, conflicts_with = "withdraw")]
    list: bool,

    /// Take a ticket back that was not used
    #[arg(long, value_name = "ID")]
    withdraw: Option<String>,

    /// Project of the share, by id or name [default: the account's own, or the master key's]
    #[arg(long, value_name = "PROJECT")]
    project: Option<String>,

    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    match (&args.name, &args.withdraw) {
        (Some(name), _) => issue(names::asked(name)?, args, context),
        (None, Some(id)) => withdraw(id, args, context),
        (None, None) => list(args, context),
    }
}

/// The secret is made here, and goes to nobody but whoever is given the ticket.
fn issue(name: TunnelName, args: &Args, context: &Context) -> Result<(), Failure> {
    let (session, project) = issuer(args.server.server.as_deref(), args.project.as_deref(), context)?;
    let (text, made) = make(&session, (name, project), args.within, args.ttl)?;
    let command = format!("mytunnel access {}", *text);
    context.report.object(&Issued { ticket: &text, command: &command, row: &made });
    context.report.line(&command);
    context.report.note(format_args!(
        "Whoever types that within {} reaches {} for {}, and nothing else. It is good once; until then \
         `mytunnel ticket --withdraw {}` takes it back.",
        span::human(args.within),
        made.name,
        span::human(args.ttl),
        made.id,
    ));
    Ok(())
}

/// Makes one for a share of a project: its text, and what the coordinator knows of it.
pub(crate) fn make(
    session: &Session,
    (name, project): (TunnelName, Option<ProjectId>),
    within: u64,
    ttl: u64,
) -> Result<(Zeroizing<String>, Ticket), Failure> {
    let secret = TicketSecret::from_bytes(random()?);
    let digest = secret.digest();
    let made: Ticket = session.post("/tickets", &NewTicket { digest, name, project, within, ttl })?;
    let ticket =
        Token::Ticket(TicketToken { secret, root: *session.root(), server: session.server().clone() });
    Ok((ticket.to_text(), made))
}

#[derive(Serialize)]
struct Issued<'a> {
    ticket: &'a str,
    command: &'a str,
    #[serde(flatten)]
    row: &'a Ticket,
}

/// Who makes tickets, and for a share of which project; a master key has one only.
pub(crate) fn issuer(
    flag: Option<&str>,
    project: Option<&str>,
    context: &Context,
) -> Result<(Session, Option<ProjectId>), Failure> {
    let wanted = identity::wanted_project(project, context)?;
    let login = Login::load(&context.config_dir()?, wanted_server(context, flag)?.as_ref())?;
    let (session, home) = match login {
        Some(login) => {
            check_login(&login)?;
            let home = identity::home_project(&login)?;
            (Session::of_login(login), Some(home))
        }
        None => (Session::person_or_master(context, flag)?, None),
    };
    let project = match wanted {
        Some(wanted) => Some(projects::find(&session, &wanted)?.id),
        None => home,
    };
    Ok((session, project))
}

fn list(args: &Args, context: &Context) -> Result<(), Failure> {
    let session = Session::person_or_master(context, args.server.server.as_deref())?;
    let answer: Tickets = session.get("/tickets")?;
    context.report.object(&answer);
    let heading = ["TICKET", "SHARE", "PROJECT", "MADE BY", "STATE"].map(str::to_owned).to_vec();
    let now = now();
    let row = |ticket: &Ticket| {
        vec![
            ticket.id.clone(),
            ticket.name.to_string(),
            ticket.project.to_string(),
            ticket.parent.clone(),
            state(ticket, now),
        ]
    };
    let rows: Vec<_> = std::iter::once(heading).chain(answer.tickets.iter().map(row)).collect();
    for line in columns(&rows) {
        context.report.line(line);
    }
    Ok(())
}

fn state(ticket: &Ticket, now: u64) -> String {
    match &ticket.used_by {
        Some(guest) => format!("used; the guest's key is {guest}"),
        None if ticket.expires_at <= now => "over, not used".to_owned(),
        None if ticket.void => "void: the key that made it lets nobody in any more".to_owned(),
        None => format!("open for {}", span::human(ticket.expires_at - now)),
    }
}

fn withdraw(id: &str, args: &Args, context: &Context) -> Result<(), Failure> {
    if !id.starts_with("tkt_") || !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        // Never repeat it: it may be the ticket itself.
        return Err(Failure::new(Code::NotFound, "this is not the id of a ticket")
            .with_help("An id begins with tkt_; `mytunnel ticket --list` shows them."));
    }
    let session = Session::person_or_master(context, args.server.server.as_deref())?;
    session.delete::<Value>(&format!("/tickets/{id}")).map_err(|failure| {
        if failure.code() == Code::NotFound {
            failure.with_help("`mytunnel ticket --list` shows those that there are.")
        } else {
            failure
        }
    })?;
    context.report.object(&json!({"withdrawn": id}));
    context.report.line(format_args!("Withdrawn: {id}"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_says_what_became_of_each() {
        let open = Ticket {
            id: "tkt_a".to_owned(),
            name: "box".parse().unwrap(),
            project: "proj_a".parse().unwrap(),
            parent: "00".to_owned(),
            created_at: 0,
            expires_at: 600,
            ttl: 3600,
            used_by: None,
            void: false,
        };
        assert_eq!(state(&open, 0), "open for 10 min");
        assert!(state(&Ticket { void: true, ..open.clone() }, 0).starts_with("void: "));
        assert_eq!(state(&open, 600), "over, not used");
        let used = Ticket { used_by: Some("0011223344556677".to_owned()), ..open };
        assert_eq!(state(&used, 900), "used; the guest's key is 0011223344556677");
    }
}
