//! What the owner of a share sees of its requests.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use mytunnel_keys::error::Code;
use mytunnel_node::TunnelSpec;
use mytunnel_node::inspect::{Inspector, Keep, Replayer};
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::voice::Voice;
use crate::failure::{Failure, chain};
use crate::inspect::told::{self, Told};
use crate::inspect::{Api, Place, Server};

/// Which requests are told, and where.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "What you see of requests")]
pub(crate) struct InspectFlags {
    /// Show requests on a page of this machine, there [default: 127.0.0.1:4040, the next one that is free; off with --json]
    #[arg(long, value_name = "ADDR", num_args = 0..=1)]
    pub(crate) inspect: Option<Option<String>>,

    /// No page, and nothing of any request is kept
    #[arg(long, conflicts_with = "inspect")]
    pub(crate) no_inspect: bool,

    /// Print a line for each request: method, path, status, time
    #[arg(long)]
    pub(crate) requests: bool,
}

/// The same, decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wish {
    /// A page, there.
    page: Option<Place>,
    /// A line for each.
    lines: bool,
}

impl Wish {
    /// Nothing is seen.
    pub(super) const NONE: Self = Self { page: None, lines: false };
}

impl InspectFlags {
    /// `target` is what is shared, as it was typed or left out.
    pub(super) fn wish(&self, target: &str, json: bool) -> Result<Wish, Failure> {
        let page = match &self.inspect {
            Some(Some(address)) => Some(Place::At(address_of(address, target)?)),
            Some(None) => Some(Place::Usual),
            None => (!json && !self.no_inspect).then_some(Place::Usual),
        };
        Ok(Wish { page, lines: self.requests })
    }
}

/// A bare number can be a port of the page only where it cannot be the target.
fn address_of(text: &str, target: &str) -> Result<SocketAddr, Failure> {
    let local = |port| SocketAddr::new(IpAddr::from(Ipv4Addr::LOCALHOST), port);
    if let Ok(port) = text.parse::<u16>()
        && target != "."
    {
        return Ok(local(port));
    }
    let address = match text.strip_prefix("localhost:") {
        Some(port) => port.parse().ok().map(local),
        None => text.parse().ok(),
    };
    match address {
        Some(address) if address.ip().is_loopback() => Ok(address),
        Some(_) => Err(Failure::usage(
            format!("the page of requests would be open to others at {text}"),
            "Write an address of this machine, such as 127.0.0.1:4040; from elsewhere, reach it through `ssh -L`.",
        )),
        None => Err(Failure::usage(
            format!("`{text}` is no address for the page of requests"),
            "Write --inspect 127.0.0.1:4040; what is shared stands before it: mytunnel share 3000 --inspect.",
        )),
    }
}

/// What watches a share.
#[derive(Debug)]
pub(super) struct Watching {
    pub(super) inspector: Inspector,
    /// Where the page is, with its secret.
    pub(super) url: Option<String>,
}

impl Wish {
    /// Begins to watch, if anything is to be seen. `spec` is what visitors will reach.
    pub(super) async fn start(
        self,
        spec: &TunnelSpec,
        voice: &Voice,
        stop: &CancellationToken,
        tasks: &mut JoinSet<()>,
    ) -> Result<Option<Watching>, Failure> {
        if self.page.is_none() && !self.lines {
            return Ok(None);
        }
        let keep = if self.page.is_some() { Keep::WHOLE } else { Keep::LINES };
        let (inspector, recorder) = Inspector::new(keep);
        tasks.spawn(recorder.run());
        if self.lines {
            tasks.spawn(tell(inspector.clone(), voice.clone()));
        }
        let url = match self.page {
            Some(place) => Some(show(place, spec, &inspector, stop, tasks).await?),
            None => None,
        };
        if let Some(url) = &url {
            voice.note(format_args!("Inspect  {url}"));
        }
        Ok(Some(Watching { inspector, url }))
    }
}

async fn show(
    place: Place,
    spec: &TunnelSpec,
    inspector: &Inspector,
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> Result<String, Failure> {
    let mut spec = spec.clone();
    spec.inspector = Some(inspector.clone());
    let replayer =
        Replayer::new(&spec).map_err(|error| Failure::new(Code::TargetUnreachable, chain(&error)))?;
    let server = Server::bind(place).await?;
    let url = server.url();
    let api = Api { inspector: inspector.clone(), replayer, target: spec.target.clone() };
    tasks.spawn(server.serve(api, stop.clone()));
    Ok(url)
}

/// One line for each request, when it has ended.
async fn tell(inspector: Inspector, voice: Voice) {
    let mut ended = inspector.ended();
    loop {
        match ended.recv().await {
            Ok(exchange) => {
                voice.object(&Told::of(&exchange));
                voice.note(told::line(&exchange));
            }
            Err(RecvError::Lagged(count)) => {
                voice.warn(format_args!("{count} requests came too fast to be told"));
            }
            Err(RecvError::Closed) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(inspect: Option<Option<&str>>, target: &str, json: bool) -> Result<Option<Place>, Failure> {
        let inspect = inspect.map(|address| address.map(str::to_owned));
        InspectFlags { inspect, ..InspectFlags::default() }.wish(target, json).map(|wish| wish.page)
    }

    #[test]
    fn people_have_a_page_and_scripts_ask_for_it() {
        assert_eq!(wish(None, "3000", false).unwrap(), Some(Place::Usual));
        assert_eq!(wish(None, "3000", true).unwrap(), None);
        assert_eq!(wish(Some(None), "3000", true).unwrap(), Some(Place::Usual));
        let off = InspectFlags { no_inspect: true, ..InspectFlags::default() };
        assert_eq!(off.wish("3000", false).unwrap().page, None);
    }

    #[test]
    fn the_page_is_for_this_machine_and_its_port_is_not_mistaken_for_the_target() {
        let at = |text: &str, target: &str| wish(Some(Some(text)), target, false);
        let expected = |port| Some(Place::At(SocketAddr::from(([127, 0, 0, 1], port))));
        assert_eq!(at("127.0.0.1:5000", ".").unwrap(), expected(5000));
        assert_eq!(at("localhost:5000", ".").unwrap(), expected(5000));
        assert_eq!(at("5000", "3000").unwrap(), expected(5000));
        for (text, words) in
            [("3000", "no address"), ("0.0.0.0:4040", "open to others"), ("./dist", "no address")]
        {
            let failure = at(text, ".").unwrap_err();
            assert!(
                failure.exit_code() == 2 && failure.message().contains(words),
                "{text}: {}",
                failure.message()
            );
        }
    }
}
