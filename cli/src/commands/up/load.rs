//! A file of tunnels, read and understood whole: it is taken with all that it says, or not at all.

use std::collections::BTreeSet;
use std::path::Path;

use mytunnel_keys::error::Code;
use mytunnel_keys::id::Scope;
use zeroize::Zeroizing;

use crate::commands::share::{
    Access, AddressFlags, EndToEndFlags, InspectFlags, Kind, Options, Plan, Wanted, nobody,
};
use crate::config::{self, KindFile, Made, Page, TunnelFile, UpFile};
use crate::context::Context;
use crate::failure::Failure;
use crate::secrets;
use crate::settings::referenced;

/// Tunnels of one process: as many as a node may have.
const MOST: usize = 64;

/// A file, with every tunnel planned.
pub(super) struct Loaded {
    pub(super) file: UpFile,
    pub(super) tunnels: Vec<Tunnel>,
}

/// One of them.
pub(super) struct Tunnel {
    /// What it is known by from one version of the file to the next.
    pub(super) label: String,
    pub(super) file: TunnelFile,
    pub(super) plan: Plan,
}

impl Loaded {
    /// Reads a file. What is wrong with it is told in one failure.
    pub(super) fn read(path: &Path, context: &Context) -> Result<Self, Failure> {
        Self::look(path, context).map_err(|mut problems| match problems.len() {
            1 => problems.remove(0),
            count => {
                let all: Vec<&str> = problems.iter().map(Failure::message).collect();
                let message = format!("{count} things are wrong with {}: {}", path.display(), all.join("; "));
                Failure::usage(message, "Mend each; `mytunnel up --check` says how.")
            }
        })
    }

    /// The same with everything that is wrong.
    pub(super) fn look(path: &Path, context: &Context) -> Result<Self, Vec<Failure>> {
        let file: UpFile = config::load(path).map_err(|error| vec![missing(path, error.into())])?;
        if file.tunnel.is_empty() {
            let message = format!("there is no tunnel in {}", path.display());
            return Err(vec![Failure::usage(message, "Write one: [[tunnel]] and below it target = 3000.")]);
        }
        if file.tunnel.len() > MOST {
            let message = format!("{} has {} tunnels", path.display(), file.tunnel.len());
            let help = format!("Write {MOST} at most, and the others in another file.");
            return Err(vec![Failure::new(Code::TunnelLimit, message).with_help(help)]);
        }
        let (mut labels, mut tunnels, mut problems) = (BTreeSet::new(), Vec::new(), Vec::new());
        for tunnel in &file.tunnel {
            let label = tunnel.label();
            match plan(tunnel, context) {
                Ok(_) if !labels.insert(label.clone()) => {
                    let message = format!("two tunnels are `{label}`");
                    problems.push(Failure::usage(message, "Give each a `name` of its own."));
                }
                Ok(plan) => tunnels.push(Tunnel { label, file: tunnel.clone(), plan }),
                Err(failure) => {
                    let message = format!("tunnel `{label}`: {}", failure.message());
                    problems.push(failure.with_message(message));
                }
            }
        }
        if problems.is_empty() { Ok(Self { file, tunnels }) } else { Err(problems) }
    }

    /// Whether there are gates to set, and the scope that a key which is made for it has to have by name.
    pub(super) fn needs(&self) -> (bool, Option<Scope>) {
        let is_gated = self.tunnels.iter().any(|tunnel| tunnel.plan.asked.is_some());
        (is_gated, self.tunnels.iter().find_map(|tunnel| tunnel.plan.scope()))
    }

    pub(super) fn is_end_to_end(&self) -> bool {
        self.tunnels.iter().any(|tunnel| tunnel.plan.is_end_to_end())
    }

    /// Whether a key that may have `most` tunnels at one time can share all of it; `is_here` where the relay is this process's own.
    pub(super) fn check_place(&self, most: u16, is_here: bool) -> Result<(), Failure> {
        if is_here && self.tunnels.iter().any(|tunnel| tunnel.plan.is_private()) {
            return Err(nobody());
        }
        let count = self.tunnels.len();
        if count <= usize::from(most) {
            return Ok(());
        }
        let may = if most == 1 { "one tunnel".to_owned() } else { format!("{most} tunnels") };
        let message = format!("the file has {count} tunnels, and this key may have {may} at one time");
        Err(Failure::new(Code::TunnelLimit, message).with_help(
            "Child keys, and whoever shares in a --project, have one each: sign in with `mytunnel login URL` and share as yourself, \
             or run `mytunnel share` with a key for each.",
        ))
    }
}

impl UpFile {
    /// What neither flags nor the environment say is said by the file.
    pub(super) fn complete(&self, access: &mut Access, context: &Context) {
        if access.server.is_none() && context.env.server.is_none() {
            access.server.clone_from(&self.server);
        }
        if access.project.is_none() && context.env.project.is_none() {
            access.project.clone_from(&self.project);
        }
        if access.token.is_none() && access.token_file.is_none() && context.env.auth_token.is_none() {
            access.token_file.clone_from(&self.token_file);
        }
        access.no_direct |= self.no_direct;
    }
}

fn missing(path: &Path, failure: Failure) -> Failure {
    match path.exists() {
        true => failure,
        false => failure
            .with_help("Write it (`mytunnel up --help` shows one), or say where it is: mytunnel up -f FILE."),
    }
}

fn plan(file: &TunnelFile, context: &Context) -> Result<Plan, Failure> {
    if let Some((message, help)) = file.contradiction() {
        return Err(Failure::usage(message, help));
    }
    let port = file.remote_port.map(std::num::NonZeroU16::get);
    let proxy_protocol = file.proxy_protocol;
    let kind = match file.kind {
        KindFile::Http | KindFile::Tcp if file.private => Kind::Private { datagrams: false },
        KindFile::Udp if file.private => Kind::Private { datagrams: true },
        KindFile::Http if file.e2e => Kind::EndToEnd,
        KindFile::Http => Kind::Http,
        KindFile::Tcp => Kind::Tcp { port, proxy_protocol },
        KindFile::Udp => Kind::Udp { port },
        KindFile::Tls => Kind::Tls { proxy_protocol },
    };
    let (inspect, no_inspect) = match &file.inspect {
        // Where there are many, pages that nobody asked for are noise.
        None | Some(Page::Wanted(false)) => (None, true),
        Some(Page::Wanted(true)) => (Some(None), false),
        Some(Page::At(address)) => (Some(Some(address.clone())), false),
    };
    let options = Options {
        name: file.name.clone(),
        private: file.private,
        alone: file.alone,
        expires: file.expires.map(|life| life.0),
        host_header: file.host_header.clone(),
        end_to_end: EndToEndFlags {
            e2e: file.e2e,
            e2e_cert: file.e2e_cert.clone(),
            e2e_key: file.e2e_key.clone(),
            e2e_acme: file.e2e_acme.clone(),
            e2e_acme_ca: file.e2e_acme_ca.clone(),
            e2e_email: file.e2e_email.clone(),
        },
        inspect: InspectFlags { inspect, no_inspect, requests: file.requests },
        ..Options::default()
    };
    Plan::make(kind, &file.target.to_string(), &options, || wanted(file), context)
}

/// What visitors are to be asked for, with its secrets read.
fn wanted(file: &TunnelFile) -> Result<Wanted, Failure> {
    let basic = file.basic.as_ref().map(|basic| {
        let password = referenced(&basic.password)?;
        Ok::<_, Failure>((basic.user.clone(), password))
    });
    let provider = if file.google { Some("google".to_owned()) } else { file.oidc.clone() };
    Ok(Wanted {
        addresses: AddressFlags {
            allow_ip: file.allow_ip.iter().map(|network| network.0).collect(),
            deny_ip: file.deny_ip.iter().map(|network| network.0).collect(),
        },
        basic: basic.transpose()?,
        pin: secret(file.pin.as_ref(), secrets::is_pin, "pin: a PIN has 6 to 12 digits")?,
        bearer: secret(
            file.bearer.as_ref(),
            secrets::is_tunnel_token,
            "bearer: a token has 16 characters at least",
        )?,
        sign_in: provider.map(|provider| (provider, file.allow.clone())),
        expires: file.expires.map(|life| life.0),
    })
}

/// A secret that is there, or one to be made; nothing where none is wanted.
fn secret(
    made: Option<&Made>,
    fits: impl Fn(&str) -> bool,
    rule: &str,
) -> Result<Option<Option<Zeroizing<String>>>, Failure> {
    match made {
        None | Some(Made::Here(false)) => Ok(None),
        Some(Made::Here(true)) => Ok(Some(None)),
        Some(Made::Given(reference)) => {
            let text = referenced(reference)?;
            if fits(&text) {
                return Ok(Some(Some(text)));
            }
            Err(Failure::usage(
                rule,
                "Correct it where the file says that it is, or write true to have one made.",
            ))
        }
    }
}
