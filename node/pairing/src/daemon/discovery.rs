//! How a spoken code finds its host: by multicast DNS, with a record that says a number and a port and nothing else, and
//! that is there only while somebody may come.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use mdns_sd::{ServiceDaemon, ServiceEvent, ServiceInfo};
use tokio::time::{Instant, timeout_at};

use crate::spoken;

const TYPE: &str = "_mytunnel-pair._tcp.local.";
const VERSION: &str = "1";
/// How many who answer to a number are tried: each could be somebody else.
pub(super) const RESPONDERS: usize = 3;
/// How long an answer is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);
/// Codes of others that are listed: anybody may say that there is one.
const WINDOWS: usize = 64;
/// No code has it: by this a machine looks for itself.
const NOBODY: u16 = 0;

/// Why multicast DNS does not work on this machine.
#[derive(Debug, thiserror::Error)]
#[error("multicast DNS cannot be used here")]
pub struct NoMulticast(#[from] mdns_sd::Error);

/// A code that is open on this network, as a record says that anybody there can make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The number that its code begins with.
    pub number: u16,
    /// Where its host is.
    pub at: SocketAddr,
}

/// The records of this daemon's open codes.
#[derive(Default)]
pub(super) struct Discovery {
    daemon: Option<Multicast>,
    records: HashMap<u16, String>,
}

impl Discovery {
    /// Has a record for each of these numbers, and no other.
    pub(super) fn show(&mut self, numbers: &[u16], port: u16, random: impl Fn() -> String) {
        let gone: Vec<u16> =
            self.records.keys().filter(|number| !numbers.contains(number)).copied().collect();
        for number in gone {
            if let (Some(daemon), Some(name)) = (&self.daemon, self.records.remove(&number))
                && let Err(error) = daemon.0.unregister(&name)
            {
                tracing::debug!(%error, "a record stays until it ends by itself");
            }
        }
        for number in
            numbers.iter().filter(|number| !self.records.contains_key(number)).copied().collect::<Vec<_>>()
        {
            match self.register(number, port, &random()) {
                Ok(name) => drop(self.records.insert(number, name)),
                Err(error) => {
                    tracing::warn!(%error, "codes are not found by multicast DNS; guests need --addr");
                    return;
                }
            }
        }
    }

    fn register(&mut self, number: u16, port: u16, name: &str) -> Result<String, mdns_sd::Error> {
        let daemon = match &self.daemon {
            Some(daemon) => daemon,
            None => self.daemon.insert(Multicast(ServiceDaemon::new()?)),
        };
        let number = number.to_string();
        let fields = [("v", VERSION), ("n", number.as_str())];
        let host = format!("{name}.local.");
        let record = ServiceInfo::new(TYPE, name, &host, "", port, &fields[..])?.enable_addr_auto();
        let full = record.get_fullname().to_owned();
        daemon.0.register(record)?;
        Ok(full)
    }
}

/// A thread of its own, which ends with this.
struct Multicast(ServiceDaemon);

impl Drop for Multicast {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown() {
            tracing::debug!(%error, "multicast DNS does not end");
        }
    }
}

/// Who on this network says that it has that number; one address of each.
pub(super) async fn find(number: u16) -> Vec<SocketAddr> {
    let (end, mut hosts) = (Instant::now() + PATIENCE, Vec::new());
    let found = browse(end, |window| {
        if window.number == number && !hosts.contains(&window.at) {
            hosts.push(window.at);
        }
        match hosts.len() {
            0 => end,
            // Once somebody has answered, others have a moment more.
            known if known < RESPONDERS => end.min(Instant::now() + PATIENCE / 6),
            _ => Instant::now(),
        }
    });
    if let Err(error) = found.await {
        tracing::debug!(%error, "multicast DNS does not work here");
    }
    hosts
}

/// The codes that are open on this network, as far as they are heard of in this time.
///
/// # Errors
/// [`NoMulticast`]
pub async fn windows(time: Duration) -> Result<Vec<Window>, NoMulticast> {
    let (end, mut windows) = (Instant::now() + time, Vec::new());
    browse(end, |window| {
        note(&mut windows, window);
        if windows.len() < WINDOWS { end } else { Instant::now() }
    })
    .await?;
    windows.sort_unstable_by_key(|window| (window.number, window.at));
    Ok(windows)
}

/// Lists one, unless no code can have such a number.
fn note(windows: &mut Vec<Window>, window: Window) {
    if (1..=spoken::NUMBERS).contains(&window.number) && !windows.contains(&window) {
        windows.push(window);
    }
}

/// Whether a record of this machine is heard by this machine; in most networks where it is not, no other hears it either.
/// `port` tells it from that of another who looks at the same time.
///
/// # Errors
/// [`NoMulticast`]
pub async fn hears_itself(port: u16) -> Result<bool, NoMulticast> {
    let mut own = Discovery::default();
    own.register(NOBODY, port, &format!("pair-look-{port}"))?;
    let (end, mut heard) = (Instant::now() + PATIENCE, false);
    browse(end, |window| {
        // Over the loopback it says nothing of the network.
        heard |= window.number == NOBODY && window.at.port() == port && !window.at.ip().is_loopback();
        if heard { Instant::now() } else { end }
    })
    .await?;
    Ok(heard)
}

/// Hears of codes until `end`, or what is answered to one instead.
async fn browse(end: Instant, mut heard: impl FnMut(Window) -> Instant) -> Result<(), mdns_sd::Error> {
    let daemon = Multicast(ServiceDaemon::new()?);
    let events = daemon.0.browse(TYPE)?;
    let next = || async { events.recv_async().await.ok() };
    hear(end, next, |event| {
        let ServiceEvent::ServiceResolved(host) = event else { return None };
        let number = host.get_property_val_str("n").and_then(|number| number.parse().ok())?;
        let is_ours = host.get_property_val_str("v") == Some(VERSION);
        let mut addresses: Vec<IpAddr> = host.get_addresses_v4().into_iter().map(IpAddr::V4).collect();
        addresses.sort_unstable_by_key(|ip| (ip.is_loopback(), *ip));
        let ip = addresses.first().filter(|_| is_ours)?;
        Some(heard(Window { number, at: SocketAddr::new(*ip, host.get_port()) }))
    })
    .await;
    Ok(())
}

/// Takes events until `end`, or what is answered to one instead; no longer also where they come without an end.
async fn hear<E, F: Future<Output = Option<E>>>(
    mut end: Instant,
    mut next: impl FnMut() -> F,
    mut heard: impl FnMut(E) -> Option<Instant>,
) {
    while Instant::now() < end {
        let Ok(Some(event)) = timeout_at(end, next()).await else { break };
        end = heard(event).unwrap_or(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn events_that_do_not_stop_coming_keep_nobody() {
        let (begun, time) = (Instant::now(), Duration::from_millis(10));
        let heard = |()| {
            assert!(begun.elapsed() < 1_000 * time, "it goes on");
            None
        };
        hear(begun + time, || std::future::ready(Some(())), heard).await;
        assert!(begun.elapsed() >= time);
    }

    #[test]
    fn codes_are_listed_once_and_none_that_nobody_can_have() {
        let mut windows = Vec::new();
        for number in [0, 1, 999, 999, 1_000, u16::MAX] {
            note(&mut windows, Window { number, at: ([192, 0, 2, 1], 4900).into() });
        }
        assert_eq!(windows.iter().map(|window| window.number).collect::<Vec<_>>(), [1, 999]);
    }
}
