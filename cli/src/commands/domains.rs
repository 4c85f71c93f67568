//! `mytunnel domains add|list|verify|remove`: domains of one's own that lead to tunnels.

use std::time::{Duration, Instant};

use clap::Subcommand;
use mytunnel_keys::api::{Domain, DomainAnswer, DomainRemoved, DomainState, Domains, NewDomain};
use mytunnel_keys::error::Code;
use mytunnel_keys::id::{DomainName, TunnelId, TunnelKind};
use serde_json::json;

use crate::commands::keys::confirmations;
use crate::commands::projects::{self, ServerArgs};
use crate::context::Context;
use crate::failure::Failure;
use crate::report::{Style, columns};
use crate::session::Session;
use crate::span;

/// Time between two looks.
const PAUSE: Duration = Duration::from_secs(5);

/// Let visitors reach a tunnel by a domain of your own
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true, subcommand_required = true)]
#[command(after_help = "\
Examples:
  mytunnel domains add app.example.com --name web    says which DNS records to make
  mytunnel domains verify app.example.com            waits until they are seen")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: DomainsCommand,
}

#[derive(Debug, Subcommand)]
enum DomainsCommand {
    /// Add a domain, or lead one that is there to another tunnel; says which DNS records to make
    Add(AddArgs),
    /// List domains, where they lead, and which have to be verified
    List(ServerArgs),
    /// Look for the TXT record of a domain until it is there; the domain leads to its tunnel from then on
    Verify(VerifyArgs),
    /// Take a domain away: its visitors are answered 404 from then on
    Remove(RemoveArgs),
}

#[derive(Debug, clap::Args)]
struct AddArgs {
    /// The domain, such as app.example.com
    domain: String,

    /// Name or id of the tunnel, which has been open once; has to be said
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// The project that the tunnel belongs to
    #[arg(long, value_name = "PROJECT")]
    project: Option<String>,

    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
struct VerifyArgs {
    /// The domain
    #[arg(value_parser = domain)]
    domain: DomainName,

    /// How long to wait for the record
    #[arg(long, value_name = "TIME", value_parser = span::parse, default_value = "10m", conflicts_with = "once")]
    wait: u64,

    /// Look once and do not wait
    #[arg(long)]
    once: bool,

    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
struct RemoveArgs {
    /// The domain
    #[arg(value_parser = domain)]
    domain: DomainName,

    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    match &args.command {
        DomainsCommand::Add(args) => add(args, context),
        DomainsCommand::List(args) => list(args, context),
        DomainsCommand::Verify(args) => verify(args, context),
        DomainsCommand::Remove(args) => remove(args, context),
    }
}

fn add(args: &AddArgs, context: &Context) -> Result<(), Failure> {
    let wanted = args.name.as_deref().ok_or_else(|| {
        let message = format!("it is not said which tunnel {} is to lead to", args.domain);
        let help = format!(
            "Add its name: mytunnel domains add {} --name web. `mytunnel tunnels list` shows the names.",
            args.domain
        );
        Failure::usage(message, help)
    })?;
    let session = Session::signed_in(context, args.server.server.as_deref())?;
    let project = match &args.project {
        Some(project) => Some(projects::find(&session, project)?.id),
        None => None,
    };
    let (tunnel, name) = match wanted.parse::<TunnelId>() {
        Ok(id) => (Some(id), None),
        Err(_) => (None, Some(crate::names::asked(wanted)?)),
    };
    let asked = NewDomain { domain: args.domain.clone(), tunnel, name, project };
    let answer: DomainAnswer = session.post("/domains", &asked)?;
    context.report.object(&answer);
    let Domain { domain, name, state, .. } = &answer.domain;
    match state {
        DomainState::Verified => context.report.line(format_args!("{domain} leads to {name}.")),
        DomainState::Pending => {
            context.report.line(format_args!("{domain} will lead to {name}. Make these DNS records:"));
            context.report.line("");
            for line in records(&answer.domain) {
                context.report.line(line);
            }
            context.report.line("");
            context.report.note(format_args!("Then run: mytunnel domains verify {domain}"));
        }
    }
    if let Some(warning) = warning(&answer.domain) {
        context.report.warn(warning);
    }
    say_where(context, &answer);
    Ok(())
}

/// What else is needed where TLS ends behind the relay.
fn warning(Domain { domain, name, kind, .. }: &Domain) -> Option<String> {
    (*kind == Some(TunnelKind::Tls)).then(|| {
        format!(
            "{name} ends TLS on its own machine: the server there needs a certificate for {domain} too, \
             and `share --e2e` has one for its own name only"
        )
    })
}

fn list(args: &ServerArgs, context: &Context) -> Result<(), Failure> {
    let session = Session::signed_in(context, args.server.as_deref())?;
    let Domains { domains } = session.get("/domains")?;
    context.report.object(&json!({"domains": domains}));
    if domains.is_empty() {
        context.report.note("There are no domains; add one with `mytunnel domains add DOMAIN --name NAME`.");
        return Ok(());
    }
    for (at, line) in lines(&domains).into_iter().enumerate() {
        context.report.line(if at == 0 { context.report.styled(Style::Faint, line) } else { line });
    }
    Ok(())
}

fn verify(args: &VerifyArgs, context: &Context) -> Result<(), Failure> {
    let session = Session::signed_in(context, args.server.server.as_deref())?;
    let path = format!("/domains/{}/verify", args.domain);
    let until = Instant::now() + if args.once { Duration::ZERO } else { Duration::from_secs(args.wait) };
    let mut told = None;
    let answer = loop {
        let answer: DomainAnswer = session.post(&path, &json!({}))?;
        let missing = answer.missing.clone();
        if missing.is_none() || Instant::now() + PAUSE > until {
            break answer;
        }
        // Once for each reason: a name server may be slow to know.
        if told != missing {
            context.report.note(format_args!("Waiting: {}.", missing.as_deref().unwrap_or_default()));
            told = missing;
        }
        pause();
    };
    if let Some(missing) = &answer.missing {
        let record = answer.domain.records.first();
        let record = record.map(|record| format!("{} {} {}", record.name, record.kind, record.value));
        let help = format!(
            "Make the record `{}`, and run this again; name servers may take a while to know it.",
            record.unwrap_or_default()
        );
        return Err(Failure::new(Code::NotFound, format!("{} is not verified: {missing}", args.domain))
            .with_help(help));
    }
    context.report.object(&answer);
    context.report.line(format_args!("{} leads to {}.", answer.domain.domain, answer.domain.name));
    say_where(context, &answer);
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "no name server tells when it knows a record")]
fn pause() {
    std::thread::sleep(PAUSE);
}

fn remove(args: &RemoveArgs, context: &Context) -> Result<(), Failure> {
    let session = Session::signed_in(context, args.server.server.as_deref())?;
    let answer: DomainRemoved = session.delete(&format!("/domains/{}", args.domain))?;
    context.report.object(&answer);
    context.report.line(format_args!("Removed {}. Take its DNS records away too.", answer.domain));
    for line in confirmations(&answer.relays) {
        context.report.note(line);
    }
    Ok(())
}

fn say_where(context: &Context, answer: &DomainAnswer) {
    for line in confirmations(&answer.relays) {
        context.report.note(line);
    }
}

/// The records, as a zone file has them, each with its reason below.
fn records(domain: &Domain) -> Vec<String> {
    let record = |record: &mytunnel_keys::api::DnsRecord| {
        let value =
            if record.kind == "TXT" { format!("\"{}\"", record.value) } else { format!("{}.", record.value) };
        [format!("  {}. {} {value}", record.name, record.kind), format!("      {}", record.purpose)]
    };
    domain.records.iter().flat_map(record).collect()
}

fn lines(domains: &[Domain]) -> Vec<String> {
    let heading = ["DOMAIN", "STATE", "TUNNEL", "PROJECT"].map(str::to_owned).to_vec();
    let row = |domain: &Domain| {
        let state = match (domain.state, domain.missing_since, domain.unknown_since) {
            (DomainState::Pending, _, _) => "pending",
            (DomainState::Verified, Some(_), _) => "record missing",
            (DomainState::Verified, None, Some(_)) => "name server silent",
            (DomainState::Verified, None, None) => "verified",
        };
        vec![domain.domain.to_string(), state.to_owned(), domain.name.to_string(), domain.project.to_string()]
    };
    columns(&std::iter::once(heading).chain(domains.iter().map(row)).collect::<Vec<_>>())
}

/// A domain as somebody writes it, in the form of the DNS.
fn domain(text: &str) -> Result<DomainName, String> {
    let wrong = || "write a domain, such as app.example.com".to_owned();
    let ascii = idna::domain_to_ascii(text.trim().trim_end_matches('.')).map_err(|_| wrong())?;
    ascii.parse().map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use mytunnel_keys::api::DnsRecord;

    use super::*;

    fn pending() -> Domain {
        let record = |kind: &str, name: &str, value: &str| DnsRecord {
            kind: kind.to_owned(),
            name: name.to_owned(),
            value: value.to_owned(),
            purpose: "why".to_owned(),
        };
        Domain {
            domain: "app.example.com".parse().unwrap(),
            tunnel: TunnelId::from_bytes([1; 16]),
            name: "web".parse().unwrap(),
            project: "proj_a".parse().unwrap(),
            kind: Some(TunnelKind::Http),
            state: DomainState::Pending,
            created_at: 1,
            verified_at: None,
            checked_at: None,
            missing_since: None,
            unknown_since: None,
            records: vec![
                record("TXT", "_mytunnel.app.example.com", "mytunnel-domain=abc"),
                record("CNAME", "app.example.com", "web.t.example"),
            ],
        }
    }

    #[test]
    fn records_are_shown_as_a_zone_file_has_them() {
        let lines = records(&pending());
        assert_eq!(lines[0], "  _mytunnel.app.example.com. TXT \"mytunnel-domain=abc\"");
        assert_eq!(lines[2], "  app.example.com. CNAME web.t.example.");
    }

    #[test]
    fn the_table_says_how_each_stands() {
        let verified = Domain { state: DomainState::Verified, verified_at: Some(2), ..pending() };
        let missing = Domain { missing_since: Some(3), ..verified.clone() };
        let silent = Domain { unknown_since: Some(3), ..verified.clone() };
        let lines = lines(&[pending(), verified, missing, silent]);
        assert!(lines[1].contains("pending") && lines[2].contains("verified"), "{lines:?}");
        assert!(lines[3].contains("record missing"), "{lines:?}");
        assert!(lines[4].contains("name server silent"), "{lines:?}");
    }

    #[test]
    fn a_domain_of_a_tunnel_that_ends_tls_itself_needs_a_certificate_there() {
        assert_eq!(warning(&pending()), None);
        let sealed = warning(&Domain { kind: Some(TunnelKind::Tls), ..pending() }).unwrap();
        assert!(sealed.contains("app.example.com") && sealed.contains("--e2e"), "{sealed}");
    }

    #[test]
    fn a_domain_is_read_in_any_spelling() {
        assert_eq!(domain(" App.Example.com. ").unwrap().as_str(), "app.example.com");
        assert_eq!(domain("café.example").unwrap().as_str(), "xn--caf-dma.example");
        assert!(domain("com").is_err() && domain("a b.example").is_err());
    }
}
