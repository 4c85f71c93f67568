//! What is to be done, resolved once from flags, environment, files and defaults, in this order.
//!
//! The types here have no options left to decide: whoever gets one of them needs nothing else to begin.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{PathBuf, absolute};
use std::sync::Arc;

use mytunnel_coordinator::MetricsToken;
use mytunnel_keys::id::Cluster;
use mytunnel_keys::token::{RelayToken, ServerUrl, Token};
use mytunnel_relay::ingress::TrustedProxies;
use mytunnel_relay::{AccessLogConfig, AcmeConfig, PortRange, PublicPorts, TracesConfig};
use zeroize::Zeroizing;

use crate::commands::relay::Args as RelayArgs;
use crate::config::{self, LimitsFile, OneOrMore, Ports, PricesFile, RelayFile, SecretRef, TraceShare};
use crate::context::Context;
use crate::embedded::is_local;
use crate::embedded::joined::TOKEN_HELP;
use crate::failure::Failure;
use crate::places::default_data_dir;
use crate::{secrets, server};

/// A relay to run.
#[derive(Debug)]
pub(crate) struct RelaySettings {
    /// Base domain of the tunnels.
    pub(crate) domain: Cluster,
    /// Directory of everything that outlives the process.
    pub(crate) data: PathBuf,
    pub(crate) http: SocketAddr,
    pub(crate) https: SocketAddr,
    /// The public authority that certifies names; without one, an own authority does.
    pub(crate) acme: Option<AcmeConfig>,
    /// Visitors without TLS are led to it.
    pub(crate) only_https: bool,
    /// Names may be served whose TLS ends behind the relay.
    pub(crate) passthrough: bool,
    /// Where visitors' requests are noted down.
    pub(crate) access_log: Option<AccessLogConfig>,
    /// Where traces of visitors' requests go.
    pub(crate) traces: Option<TracesConfig>,
    /// Where a scraper reads the relay's metrics.
    pub(crate) metrics: Option<SocketAddr>,
    pub(crate) p2p: SocketAddr,
    /// Where TCP and UDP tunnels get ports.
    pub(crate) ports: Option<PublicPorts>,
    /// Host of the API and the sign-in.
    pub(crate) console: String,
    pub(crate) authority: AuthoritySettings,
    pub(crate) limits: LimitsFile,
    pub(crate) prices: PricesFile,
    /// Who else may vouch for people.
    pub(crate) sign_in: Arc<mytunnel_sign_in::Client>,
    /// Sends mail; empty: none is sent.
    pub(crate) mail_command: Vec<String>,
    /// Whom to ask whose a domain is; empty: this machine's name servers.
    pub(crate) name_servers: Vec<SocketAddr>,
    /// What a scraper shows to read the metrics.
    pub(crate) metrics_token: Option<MetricsToken>,
    /// Who is believed about visitors.
    pub(crate) proxies: TrustedProxies,
}

/// Whose authority a relay follows.
#[derive(Debug)]
pub(crate) enum AuthoritySettings {
    /// Its own, in the same process.
    Embedded,
    /// That of coordinators elsewhere, of which there is at least one. The token is needed the first time only.
    Joined { servers: Vec<ServerUrl>, token: Option<RelayToken> },
}

impl RelaySettings {
    /// Flags, then the file they name, then defaults that depend on the domain.
    pub(crate) fn resolve(args: &RelayArgs, context: &Context) -> Result<Self, Failure> {
        let file = match &args.config {
            Some(path) => config::load::<RelayFile>(path)?,
            None => RelayFile::default(),
        };
        let domain = args.domain.as_deref().or(file.domain.as_deref()).unwrap_or("localhost");
        let domain: Cluster = domain.trim().parse().map_err(|error| {
            Failure::usage(format!("`{domain}` cannot be a base domain: {error}"), "Write it like t.example.")
        })?;
        let defaults = Addresses::for_domain(&domain);
        let acme = acme(args, &file, &domain)?;
        let traces = traces(args.otlp.as_ref(), &file)?;
        let data = match args.data.clone().or(file.data) {
            Some(data) => data,
            None => default_data_dir(&context.env)?,
        };
        // Others are told where it is (`mytunnel status`), and may be in another directory.
        let data = absolute(&data).unwrap_or(data);
        let p2p = args.p2p.or(file.p2p).unwrap_or(defaults.p2p);
        let http = args.http.or(file.http).unwrap_or(defaults.http);
        let Ports(range) = args.ports.or(file.ports).unwrap_or(Ports(Some(PortRange::DEFAULT)));
        let proxies =
            if args.trusted_proxies.is_empty() { file.trusted_proxies } else { args.trusted_proxies.clone() };
        Ok(Self {
            data,
            http,
            // What nobody vouches for is not to be forced on anybody.
            only_https: file.redirect_http.unwrap_or(acme.is_some()),
            passthrough: file.passthrough.unwrap_or(true),
            acme,
            traces,
            metrics: args.metrics.or(file.metrics),
            access_log: args.access_log.clone().or(file.access_log).map(|path| AccessLogConfig {
                path: absolute(&path).unwrap_or(path),
                format: file.access_log_format.0,
            }),
            ports: range.map(|range| PublicPorts { ip: p2p.ip(), range }),
            https: args.https.or(file.https).unwrap_or(defaults.https),
            p2p,
            console: console(args.console.clone().or(file.console), &domain)?,
            authority: authority(args, context, file.coordinator, file.join.as_ref())?,
            domain,
            limits: file.limits,
            prices: file.prices,
            sign_in: config::sign_in(file.sign_in)?,
            mail_command: file.mail_command,
            name_servers: file.name_servers.iter().map(|server| server.0).collect(),
            metrics_token: metrics_token(file.metrics_token.as_ref())?,
            proxies: proxies.into_iter().collect(),
        })
    }
}

/// Where to send traces, with what was said of it.
fn traces(flag: Option<&String>, file: &RelayFile) -> Result<Option<TracesConfig>, Failure> {
    let Some(collector) = flag.or(file.otlp.as_ref()) else {
        return match file.trace_share {
            None => Ok(None),
            Some(_) => Err(Failure::usage(
                "the settings say how many requests to trace, and not where traces go",
                "Add `otlp = \"http://127.0.0.1:4318\"`, the address of your collector.",
            )),
        };
    };
    let is_http = collector.starts_with("http://") || collector.starts_with("https://");
    if !is_http || collector.contains(['?', '#']) {
        return Err(Failure::usage(
            format!("`{collector}` is not the address of a collector"),
            "Write the base URL of its OTLP over HTTP, such as http://127.0.0.1:4318.",
        ));
    }
    let share = file.trace_share.map(|TraceShare(share)| share).unwrap_or_default();
    Ok(Some(TracesConfig { collector: collector.clone(), share }))
}

/// Whom to ask for certificates, with what was said of it.
fn acme(args: &RelayArgs, file: &RelayFile, domain: &Cluster) -> Result<Option<AcmeConfig>, Failure> {
    let dns = args.acme_dns.or(file.acme_dns);
    let Some(email) = args.acme.as_ref().or(file.acme.as_ref()) else {
        let how = file.acme_directory.is_some() || file.acme_directory_ca.is_some();
        if how || dns.is_some() || !file.acme_dns_hook.is_empty() {
            return Err(Failure::usage(
                "the settings say how to get certificates by ACME, and not for whom",
                "Add `acme = \"you@example.com\"`, or --acme you@example.com.",
            ));
        }
        return Ok(None);
    };
    if email.split('@').filter(|part| !part.is_empty()).count() != 2 || email.contains(char::is_whitespace) {
        return Err(Failure::usage(
            format!("`{email}` is not an e-mail address"),
            "Write --acme you@example.com; the authority writes there when something is wrong.",
        ));
    }
    if is_local(domain) {
        return Err(Failure::usage(
            format!("no public authority vouches for {domain}"),
            "Leave --acme away, or give the public --domain of this relay.",
        ));
    }
    let mut acme = AcmeConfig::new(email.clone());
    if let Some(directory) = &file.acme_directory {
        if !directory.starts_with("https://") {
            return Err(Failure::usage(
                "acme_directory: it is not an https:// URL",
                "Write it as its authority shows it.",
            ));
        }
        acme.directory.clone_from(directory);
    }
    acme.directory_ca.clone_from(&file.acme_directory_ca);
    if dns.is_some() && !file.acme_dns_hook.is_empty() {
        return Err(Failure::usage(
            "the settings name two ways to show that the domain is yours: acme_dns and acme_dns_hook",
            "Leave one away: with acme_dns the relay answers itself, with acme_dns_hook a program sets the record.",
        ));
    }
    acme.dns = dns;
    acme.dns_hook.clone_from(&file.acme_dns_hook);
    Ok(Some(acme))
}

/// The token for the metrics, from where the settings say that it is.
pub(crate) fn metrics_token(reference: Option<&SecretRef>) -> Result<Option<MetricsToken>, Failure> {
    let Some(reference) = reference else { return Ok(None) };
    let token = MetricsToken::new(referenced(reference)?).ok_or_else(|| {
        Failure::usage(
            format!("metrics_token: it has fewer than {} characters, or a space in it", MetricsToken::MIN),
            "Make one with: openssl rand -hex 32",
        )
    })?;
    Ok(Some(token))
}

struct Addresses {
    http: SocketAddr,
    https: SocketAddr,
    p2p: SocketAddr,
}

impl Addresses {
    /// This machine's own domain is for this machine's visitors, at ports that need no rights.
    fn for_domain(domain: &Cluster) -> Self {
        let name = domain.as_str();
        let (ip, http, https) = if name == "localhost" || name.ends_with(".localhost") {
            (IpAddr::from(Ipv4Addr::LOCALHOST), 8080, 8443)
        } else {
            (IpAddr::from(Ipv4Addr::UNSPECIFIED), 80, 443)
        };
        let at = |port| SocketAddr::new(ip, port);
        Self { http: at(http), https: at(https), p2p: at(4001) }
    }
}

fn console(wanted: Option<String>, domain: &Cluster) -> Result<String, Failure> {
    let Some(host) = wanted else { return Ok(domain.as_str().to_owned()) };
    // A host name has the form of a base domain: labels and dots.
    let host = host.trim().to_ascii_lowercase();
    match host.parse::<Cluster>() {
        Ok(_) => Ok(host),
        Err(error) => Err(Failure::usage(
            format!("`{host}` cannot be the console's host: {error}"),
            "Write a host name without scheme and port, like console.example.",
        )),
    }
}

fn authority(
    args: &RelayArgs,
    context: &Context,
    in_file: Option<OneOrMore>,
    join_in_file: Option<&SecretRef>,
) -> Result<AuthoritySettings, Failure> {
    let token = join_token(args, context, join_in_file)?;
    let named = match args.coordinators.is_empty() {
        false => args.coordinators.clone(),
        true => in_file.map(Vec::from).unwrap_or_default(),
    };
    let mut servers = named.iter().map(|text| server::parse(text)).collect::<Result<Vec<_>, _>>()?;
    if servers.is_empty() {
        servers.extend(token.as_ref().map(|token| token.server.clone()));
    }
    Ok(match servers.is_empty() {
        true => AuthoritySettings::Embedded,
        false => AuthoritySettings::Joined { servers, token },
    })
}

fn join_token(
    args: &RelayArgs,
    context: &Context,
    in_file: Option<&SecretRef>,
) -> Result<Option<RelayToken>, Failure> {
    let text = match (&args.join, &args.join_file, in_file) {
        (Some(text), _, _) => secrets::from_flag(context, "--join", Some(text), "--join-file"),
        (None, Some(path), _) => Some(secrets::from_file(path)?),
        (None, None, Some(reference)) => Some(referenced(reference)?),
        (None, None, None) => None,
    };
    text.map(|text| {
        Token::parse(&text)
            .and_then(Token::into_relay)
            .map_err(|error| Failure::from(error).with_help(TOKEN_HELP))
    })
    .transpose()
}

/// The secret that a file of settings refers to.
pub(crate) fn referenced(reference: &SecretRef) -> Result<Zeroizing<String>, Failure> {
    match reference {
        SecretRef::File(path) => secrets::from_file(path),
        SecretRef::Env(name) => match std::env::var(name) {
            Ok(value) if !value.trim().is_empty() => Ok(Zeroizing::new(value.trim().to_owned())),
            Ok(_) | Err(_) => Err(Failure::usage(
                format!("the settings name the variable {name}, which is not set"),
                "Set it, or remove it from the file.",
            )),
        },
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::environment::Environment;
    use crate::report::Report;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        relay: RelayArgs,
    }

    fn resolve(line: &[&str]) -> Result<RelaySettings, Failure> {
        let env = Environment { home: Some("/home/u".into()), ..Environment::default() };
        let context = Context { env, report: Report::new(true, true) };
        let line = std::iter::once(&"relay").chain(line);
        let line = Line::try_parse_from(line).map_err(|error| Failure::usage(error.to_string(), ""))?;
        RelaySettings::resolve(&line.relay, &context)
    }

    #[test]
    fn the_defaults_are_those_of_this_machine() {
        let settings = resolve(&[]).unwrap();
        assert_eq!(settings.domain.as_str(), "localhost");
        assert_eq!(settings.console, "localhost");
        assert_eq!(settings.http.to_string(), "127.0.0.1:8080");
        assert_eq!(settings.https.to_string(), "127.0.0.1:8443");
        assert_eq!(settings.p2p.to_string(), "127.0.0.1:4001");
        let ports = settings.ports.unwrap();
        assert_eq!((ports.ip.to_string(), ports.range), ("127.0.0.1".to_owned(), PortRange::DEFAULT));
        assert_eq!(resolve(&["--ports", "none"]).unwrap().ports, None);
        assert_eq!(resolve(&["--ports", "7-5"]).unwrap_err().exit_code(), 2);
        assert_eq!(settings.data, std::path::Path::new("/home/u/.local/share/mytunnel"));
        assert!(matches!(settings.authority, AuthoritySettings::Embedded));
    }

    #[test]
    fn certificates_by_acme_are_for_public_domains() {
        let settings = resolve(&["--domain", "t.example", "--acme", "me@example.com"]).unwrap();
        let acme = settings.acme.unwrap();
        assert_eq!(acme.email, "me@example.com");
        assert!(acme.directory.contains("letsencrypt.org") && acme.dns_hook.is_empty());
        for wrong in [
            vec!["--acme", "me@example.com"],
            vec!["--domain", "t.example", "--acme", "me"],
            vec!["--domain", "t.example", "--acme", "me@"],
        ] {
            assert_eq!(resolve(&wrong).unwrap_err().exit_code(), 2, "{wrong:?}");
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("relay.toml");
        std::fs::write(&file, "acme_dns_hook = ['/bin/hook', 'x']\n").unwrap();
        let file = file.to_str().unwrap();
        assert!(resolve(&["--domain", "t.example", "--config", file]).is_err(), "for whom?");
        let flags = ["--domain", "t.example", "--config", file, "--acme", "me@example.com"];
        assert_eq!(resolve(&flags).unwrap().acme.unwrap().dns_hook, ["/bin/hook", "x"]);
        let both = [&flags[..], &["--acme-dns", "192.0.2.1:53"]].concat();
        assert!(resolve(&both).unwrap_err().message().contains("two ways"));
    }

    #[test]
    fn the_relay_answers_for_its_own_record_where_the_flag_or_the_file_says() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("relay.toml");
        std::fs::write(&file, "acme = 'me@example.com'\nacme_dns = '192.0.2.1:53'\n").unwrap();
        let line = ["--domain", "t.example", "--config", file.to_str().unwrap()];
        let of = |line: &[&str]| resolve(line).unwrap().acme.unwrap().dns.unwrap().to_string();
        assert_eq!(of(&line), "192.0.2.1:53");
        assert_eq!(of(&[&line[..], &["--acme-dns", "[::1]:5353"]].concat()), "[::1]:5353");
        let nobody = resolve(&["--domain", "t.example", "--acme-dns", "192.0.2.1:53"]);
        assert!(nobody.unwrap_err().message().contains("not for whom"));
    }

    #[test]
    fn a_relative_data_directory_means_the_same_to_everybody() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(resolve(&["--data", "relay"]).unwrap().data, here.join("relay"));
    }

    #[test]
    fn a_public_domain_listens_to_everybody() {
        let settings = resolve(&["--domain", "t.example"]).unwrap();
        assert_eq!(settings.http.to_string(), "0.0.0.0:80");
        assert_eq!(settings.https.to_string(), "0.0.0.0:443");
        assert_eq!(settings.p2p.to_string(), "0.0.0.0:4001");
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("relay.toml");
        std::fs::write(&file, "domain = 't.example'\nhttp = '10.0.0.1:80'\nhttps = '10.0.0.1:443'\n")
            .unwrap();
        let file = file.to_str().unwrap();
        let settings = resolve(&["--config", file, "--http", "127.0.0.1:0"]).unwrap();
        assert_eq!(settings.http.to_string(), "127.0.0.1:0");
        assert_eq!(settings.https.to_string(), "10.0.0.1:443");
        assert_eq!(settings.p2p.to_string(), "0.0.0.0:4001");
        assert_eq!(settings.console, "t.example");

        let proxy = "10.0.0.1".parse().unwrap();
        assert!(!settings.proxies.trust(proxy));
        std::fs::write(file, "trusted_proxies = ['10.0.0.0/8']\n").unwrap();
        assert!(resolve(&["--config", file]).unwrap().proxies.trust(proxy));
        let flags = ["--config", file, "--trusted-proxy", "10.1.0.0/16", "--trusted-proxy", "::1"];
        let settings = resolve(&flags).unwrap();
        assert!(!settings.proxies.trust(proxy) && settings.proxies.trust("::1".parse().unwrap()));
    }

    #[test]
    fn what_cannot_be_meant_is_a_usage_error_with_a_remedy() {
        for line in [
            &["--domain", "not a domain"][..],
            &["--console", "https://x"],
            &["--config", "/no/such/relay.toml"],
            &["--coordinator", "ftp://x"],
        ] {
            let failure = resolve(line).unwrap_err();
            assert_eq!(failure.exit_code(), 2, "{line:?}");
            assert!(!failure.help().is_empty(), "{line:?}");
        }
    }

    #[test]
    fn several_coordinators_keep_their_order() {
        let two = resolve(&["--coordinator", "https://b.example", "--coordinator", "https://a.example"]);
        let AuthoritySettings::Joined { servers, .. } = two.unwrap().authority else { panic!("embedded") };
        let named: Vec<_> = servers.iter().map(ToString::to_string).collect();
        assert_eq!(named, ["https://b.example", "https://a.example"]);
    }

    #[test]
    fn a_coordinator_elsewhere_needs_its_token_once_only() {
        let settings = resolve(&["--coordinator", "https://c.example"]).unwrap();
        assert!(matches!(settings.authority, AuthoritySettings::Joined { token: None, .. }));
        let wrong = resolve(&["--coordinator", "https://c.example", "--join", "mtk_relay_x"]).unwrap_err();
        assert_eq!(wrong.exit_code(), 3);
    }
}
