//! `share --e2e`: TLS ends in this process. The relay passes connections on by their name, and what is in them meets here what
//! it would meet there: the checks, the limits, the gates.

use std::path::PathBuf;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use mytunnel_coordinator::OwnGates;
use mytunnel_keys::api::SetGate;
use mytunnel_keys::id::{Cluster, TunnelKind};
use mytunnel_node::{Local, Ready, Terminal, TunnelSpec};
use mytunnel_relay::AcmeConfig;
use mytunnel_relay::ingress::{Certificates, Inside, InsideError, Limits};
use mytunnel_relay::route::{Lookup, Pipe, PipeError, PipeSource, Routes, Tunnel};
use tokio::io::DuplexStream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::gate::Made;
use super::voice::Voice;
use crate::config::PersonFile;
use crate::context::Context;
use crate::embedded::is_local;
use crate::failure::{Failure, chain};
use crate::runtime::GRACE;

mod files;

pub(super) use self::files::CertificateFiles;

/// Where the TLS of a share ends, and with which certificate.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Encryption up to this machine")]
pub(crate) struct EndToEndFlags {
    /// End TLS here: the relay passes connections on by name, and can read nothing of what is in them
    #[arg(long)]
    pub(crate) e2e: bool,

    /// Certificate for that, in PEM form with its chain; read again when it changes [default: one of Let's Encrypt]
    #[arg(long, value_name = "FILE", requires_all = ["e2e", "e2e_key"])]
    pub(crate) e2e_cert: Option<PathBuf>,

    /// Private key of that certificate, in PEM form
    #[arg(long, value_name = "FILE", requires = "e2e_cert")]
    pub(crate) e2e_key: Option<PathBuf>,

    /// Directory of another ACME authority [default: Let's Encrypt]
    #[arg(long, value_name = "URL", requires = "e2e", conflicts_with = "e2e_cert", hide_short_help = true)]
    pub(crate) e2e_acme: Option<String>,

    /// Certificate that vouches for that directory's HTTPS, in PEM form
    #[arg(long, value_name = "FILE", requires = "e2e_acme", hide_short_help = true)]
    pub(crate) e2e_acme_ca: Option<PathBuf>,

    /// Address that the authority writes to when something is wrong
    #[arg(long, value_name = "EMAIL", requires = "e2e", conflicts_with = "e2e_cert", hide_short_help = true)]
    pub(crate) e2e_email: Option<String>,
}

/// The same, decided.
#[derive(Debug)]
pub(super) struct Wish {
    source: Source,
    /// Where accounts and certificates are kept.
    directory: PathBuf,
    /// What visitors are asked for here.
    asked: Vec<SetGate>,
}

/// Where the certificate comes from.
#[derive(Debug)]
enum Source {
    Files(CertificateFiles),
    /// This, or under `localhost` an authority of this machine's own.
    Acme(AcmeConfig),
}

impl EndToEndFlags {
    /// What was asked for, if anything; `asked` is for this process to ask of visitors.
    pub(super) fn wish(&self, asked: Vec<SetGate>, context: &Context) -> Result<Option<Wish>, Failure> {
        if !self.e2e {
            return Ok(None);
        }
        let source = match self.e2e_cert.as_deref().zip(self.e2e_key.as_deref()) {
            Some((certificate, key)) => Source::Files(CertificateFiles::open(certificate, key)?),
            None => Source::Acme(self.acme(context.person_file()?)?),
        };
        Ok(Some(Wish { source, directory: context.config_dir()?.end_to_end(), asked }))
    }

    fn acme(&self, file: PersonFile) -> Result<AcmeConfig, Failure> {
        let mut acme = AcmeConfig::new(self.e2e_email.clone().or(file.e2e_email).unwrap_or_default());
        if let Some(directory) = self.e2e_acme.clone().or(file.e2e_acme) {
            if !directory.starts_with("https://") {
                return Err(Failure::usage(
                    format!("`{directory}` is not an https:// URL"),
                    "Write --e2e-acme, or e2e_acme in mytunnel.toml, as its authority shows it.",
                ));
            }
            acme.directory = directory;
        }
        acme.directory_ca = self.e2e_acme_ca.clone().or(file.e2e_acme_ca);
        Ok(acme)
    }
}

/// An end of TLS for one share.
#[derive(Debug)]
pub(super) struct EndToEnd {
    inside: Arc<Inside>,
    routes: Routes,
    target: Arc<Local>,
    gates: OwnGates,
    domain: Cluster,
    /// Whose certificates are waited for, where they are.
    authority: Option<String>,
    /// The certificate, where it was brought.
    files: Option<Arc<CertificateFiles>>,
}

impl Wish {
    /// What visitors are asked for here.
    pub(super) fn asked(&self) -> &[SetGate] {
        &self.asked
    }

    /// Makes ready for visitors of names under `domain`, who are led to the target of `spec`.
    pub(super) async fn open(
        self,
        domain: Cluster,
        spec: &TunnelSpec,
        voice: &Voice,
        stop: &CancellationToken,
        tasks: &mut JoinSet<()>,
    ) -> Result<EndToEnd, Failure> {
        let gates = OwnGates::make(self.asked).await?;
        let target = Arc::new(
            Local::new(spec).map_err(|error| Failure::from(mytunnel_node::ShareError::from(error)))?,
        );
        let (mut authority, mut brought) = (None, None);
        let certificates = match self.source {
            Source::Files(files) => {
                let files = Arc::new(files);
                tasks.spawn(Arc::clone(&files).follow(voice.clone(), stop.clone()));
                Certificates::Own(Arc::clone(brought.insert(files)) as _)
            }
            Source::Acme(_) if is_local(&domain) => Certificates::Local(self.directory),
            Source::Acme(acme) => {
                authority = Some(acme.directory.clone());
                Certificates::Public(acme, self.directory)
            }
        };
        let limits = Limits { drain_timeout: GRACE, ..Limits::default() };
        let routes = Routes::new();
        let (inside, upkeep) = Inside::open(domain.as_str(), certificates, limits, routes.clone())?;
        tasks.spawn(upkeep.run(stop.clone()));
        Ok(EndToEnd { inside: Arc::new(inside), routes, target, gates, domain, authority, files: brought })
    }
}

impl EndToEnd {
    /// Who takes visitors' connections.
    pub(super) fn terminal(&self) -> Arc<dyn Terminal> {
        Arc::new(Ends(Arc::clone(&self.inside)))
    }

    /// What was made for visitors to show.
    pub(super) fn made(&self) -> Made {
        Made { pin: self.gates.pin.clone(), bearer: self.gates.bearer.clone() }
    }

    /// The relay passes connections through. Returns when the certificate stands too, and says how to trust it.
    pub(super) async fn up(&self, ready: &Ready, voice: &Voice) -> Result<(), Failure> {
        if matches!(self.routes.find(ready.name.as_str()), Lookup::Live(_)) {
            return Ok(());
        }
        let source = Arc::new(Target(Arc::clone(&self.target)));
        let project =
            "proj_e2e".parse().map_err(|_| Failure::local("the project's name is none", "Report this."))?;
        let tunnel = Tunnel::new(ready.tunnel_id, ready.name.clone(), project, TunnelKind::Http, source);
        let gates = &self.gates.gates;
        self.routes.insert(tunnel.gated((!gates.is_open()).then(|| Arc::new(gates.clone()))));
        let host = format!("{}.{}", ready.name, self.domain);
        if let Some(authority) = self.authority.as_ref().filter(|_| !self.inside.has_certificate(&host)) {
            voice.note(format_args!("Getting a certificate for {host} from {authority} …"));
        }
        self.inside.certified(&host).await.map_err(|why| no_certificate(&host, &why))?;
        if self.files.as_ref().is_some_and(|files| !files.is_for(&host)) {
            voice.warn(format_args!(
                "the certificate of --e2e-cert is not for {host}: visitors will not take it"
            ));
        }
        if let Some(ca) = self.inside.local_ca() {
            voice.note(format_args!(
                "TLS ends here, with a certificate for who trusts {} (curl --cacert FILE; browsers import it).",
                ca.display()
            ));
        }
        Ok(())
    }

    /// Lets requests under way end, for a while.
    pub(super) async fn drain(&self) {
        self.inside.drain().await;
    }
}

/// Leaves the URLs that browsers take.
pub(super) fn web(urls: &mut Vec<String>) {
    urls.retain(|url| is_web(url));
}

pub(super) fn is_web(url: &str) -> bool {
    url.starts_with("https://")
}

fn no_certificate(host: &str, why: &str) -> Failure {
    Failure::local(
        format!("there is no certificate for {host}: {why}"),
        format!(
            "The authority has to reach {host} at port 443 of the relay: look at its DNS name and its firewall, then try again in a minute. \
         Or bring a certificate: --e2e-cert FILE --e2e-key FILE."
        ),
    )
}

#[derive(Debug)]
struct Ends(Arc<Inside>);

impl Terminal for Ends {
    fn connect(&self, visitor: std::net::SocketAddr) -> Option<DuplexStream> {
        self.0.connect(visitor)
    }
}

#[derive(Debug)]
struct Target(Arc<Local>);

impl PipeSource for Target {
    fn open(&self) -> BoxFuture<'_, Result<Pipe, PipeError>> {
        let pipe: Pipe = Box::new(self.0.open());
        std::future::ready(Ok(pipe)).boxed()
    }
}

impl From<InsideError> for Failure {
    fn from(error: InsideError) -> Self {
        Self::local(
            format!("TLS cannot end here: {}", chain(&error)),
            "Look at the files that it names, or bring a certificate: --e2e-cert FILE --e2e-key FILE.",
        )
    }
}

/// A sign-in begins at the relay, which is not to read anything here.
pub(super) fn refuse_sign_in(provider: Option<&str>) -> Result<(), Failure> {
    match provider {
        None => Ok(()),
        Some(provider) => Err(Failure::usage(
            format!(
                "visitors cannot sign in with {provider} where TLS ends on this machine: the relay vouches for them, and with --e2e it reads and changes nothing"
            ),
            "Ask for --basic or --pin, which this machine does itself, or leave --e2e away.",
        )),
    }
}
