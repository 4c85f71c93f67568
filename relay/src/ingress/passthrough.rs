//! TLS that ends behind the relay: a connection that asks for such a name goes to the node as it came, hello included,
//! behind a word of who the visitor is. The relay sees the name, the addresses, and how many bytes pass when.

use std::time::Duration;

use mytunnel_carrier::greeting::{Greeting, Transport};
use mytunnel_keys::id::TunnelKind;
use tokio::time::timeout;

use super::{
    Shared,
    hello::{Moved, Replayed},
    host::{self, Destination},
    seats::Bounds,
    visit::Visit,
};
use crate::{
    access_log::{Carried, Session},
    line::{self, Early, Errand},
    route::{Lookup, Routes},
};

/// A connection for a name whose TLS ends behind the relay.
#[derive(Debug)]
pub(crate) struct Passed {
    pub(super) stream: Replayed,
    /// The name.
    pub(super) label: Box<str>,
}

/// The name that a hello asks for, if its TLS ends behind the relay. A relay that has just started waits until it knows.
pub(super) async fn label(shared: &Shared, asked: Option<&str>) -> Result<Option<Box<str>>, Unheard> {
    let Some(asked) = asked.and_then(|asked| host::parse(asked.as_bytes()).ok()) else { return Ok(None) };
    let Destination::Tunnel(label) = shared.routes.destination(&asked.host, &shared.domain, &shared.console)
    else {
        return Ok(None);
    };
    let heard = shared.routes.heard_of(&label);
    timeout(shared.limits.away_patience, heard).await.map_err(|_| Unheard)?;
    Ok(is_passed_through(&shared.routes, &label).then(|| (*label).into()))
}

/// What a name carries was not heard in time, so that nobody may end its TLS.
#[derive(Debug, thiserror::Error)]
#[error("what the name carries was not heard in time")]
pub(crate) struct Unheard;

fn is_passed_through(routes: &Routes, label: &str) -> bool {
    match routes.find(label) {
        Lookup::Live(tunnel) => tunnel.kind() == TunnelKind::Tls,
        Lookup::Away | Lookup::Ended => routes.is_passed_through(label),
        Lookup::Unknown => false,
    }
}

/// Carries one connection to its end. One that does not end properly is reset.
pub(super) async fn serve(mut passed: Passed, shared: &Shared, visit: &Visit) {
    let host = || format!("{}.{}", passed.label, shared.domain);
    let session = shared.access_log.session(Carried::Tls, visit.visitor().ip(), host);
    let ended = carry(&mut passed, shared, visit, session.as_ref()).await;
    line::note(session.as_ref(), &ended);
    if let Err(early) = ended {
        tracing::debug!(error = &early as &dyn std::error::Error, "connection reset");
        line::reset(passed.stream.stream());
    }
}

/// A place among those of the visitor's address that are passed on: each takes one of the tunnel's for requests, of which one
/// address must not have all. A trusted proxy, which stands for many, needs none.
struct AtAddress<'a>(Option<&'a Visit>);

impl<'a> AtAddress<'a> {
    fn enter(visit: &'a Visit, shared: &Shared) -> Result<Self, Early> {
        if shared.proxies.trust(visit.visitor().ip()) {
            return Ok(Self(None));
        }
        let entered = visit.address().enter_passed(shared.limits.requests_per_address);
        // Not `then_some`: what is made is given back when it is dropped.
        entered.then(|| Self(Some(visit))).ok_or(Early::Busy)
    }
}

impl Drop for AtAddress<'_> {
    fn drop(&mut self) {
        if let Some(visit) = self.0 {
            visit.address().leave_passed();
        }
    }
}

async fn carry(
    passed: &mut Passed,
    shared: &Shared,
    visit: &Visit,
    session: Option<&Session>,
) -> Result<(), Early> {
    let Passed { stream, label } = passed;
    let _held = AtAddress::enter(visit, shared)?;
    line::prepare(stream.stream()).map_err(Early::Visitor)?;
    let addresses = stream.stream().peer_addr().and_then(|peer| Ok((peer, stream.stream().local_addr()?)));
    let (visitor, relay) = addresses.map_err(Early::Visitor)?;
    let limits = &shared.limits;
    let greeting = Greeting { transport: Transport::Stream, visitor, relay }.encode();
    let errand = Errand {
        routes: &shared.routes,
        name: label,
        visitor: visitor.ip().to_canonical(),
        greeting: &greeting,
        patience: limits.away_patience,
        most: Bounds::of_requests(limits),
    };
    let (moved, idle) = (stream.moved(), limits.tls_idle_timeout);
    let carried = async {
        let mut line = errand.run(|tunnel| tunnel.kind() == TunnelKind::Tls).await?;
        line.carry(stream, &greeting, session).await
    };
    tokio::select! {
        carried = carried => carried?,
        () = visit.aborted() => return Err(Early::Stopped),
        () = idled(moved, idle) => return Err(Early::Idle),
    }
    line::settle(passed.stream.stream()).map_err(Early::Visitor)
}

/// Returns when nothing went through for as long, at the latest twice that.
async fn idled(moved: Moved, patience: Duration) {
    let mut before = None;
    loop {
        let now = Some(moved.count());
        if now == before {
            return;
        }
        before = now;
        tokio::time::sleep(patience).await;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::{
        io::{AsyncWriteExt as _, duplex},
        time::Instant,
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_when_nothing_moved_for_the_whole_time() {
        let (near, _far) = duplex(64);
        let mut stream = Replayed::new(near, Bytes::new());
        let (patience, begun) = (Duration::from_secs(60), Instant::now());
        let moved = stream.moved();
        let busy = async {
            for _ in 0..3 {
                tokio::time::sleep(patience * 2 / 3).await;
                stream.write_all(b"x").await.unwrap();
            }
        };
        tokio::join!(idled(moved, patience), busy);
        // The last byte went through at 120 s; from the look at 120 s or the one after it on it is quiet.
        let over = begun.elapsed();
        assert!((3 * patience..=4 * patience).contains(&over), "{over:?}");
    }
}
