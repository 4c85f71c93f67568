//! How a spoken code finds its host: by multicast DNS, with a record that says a number and a port and nothing else, and
//! that is there only while somebody may come.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use mdns_sd::{ServiceDaemon, ServiceEvent, ServiceInfo};
use tokio::time::{Instant, timeout_at};

const TYPE: &str = "_mytunnel-pair._tcp.local.";
const VERSION: &str = "1";
/// How many who answer to a number are tried: each could be somebody else.
pub(super) const RESPONDERS: usize = 3;
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// The records of this daemon's open codes.
#[derive(Default)]
pub(super) struct Discovery {
    daemon: Option<ServiceDaemon>,
    records: HashMap<u16, String>,
}

impl Discovery {
    /// Has a record for each of these numbers, and no other.
    pub(super) fn show(&mut self, numbers: &[u16], port: u16, random: impl Fn() -> String) {
        let gone: Vec<u16> =
            self.records.keys().filter(|number| !numbers.contains(number)).copied().collect();
        for number in gone {
            if let (Some(daemon), Some(name)) = (&self.daemon, self.records.remove(&number))
                && let Err(error) = daemon.unregister(&name)
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
            None => self.daemon.insert(ServiceDaemon::new()?),
        };
        let number = number.to_string();
        let fields = [("v", VERSION), ("n", number.as_str())];
        let host = format!("{name}.local.");
        let record = ServiceInfo::new(TYPE, name, &host, "", port, &fields[..])?.enable_addr_auto();
        let full = record.get_fullname().to_owned();
        daemon.register(record)?;
        Ok(full)
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        if let Some(daemon) = &self.daemon
            && let Err(error) = daemon.shutdown()
        {
            tracing::debug!(%error, "multicast DNS does not end");
        }
    }
}

/// Who on this network says that it has that number; one address of each.
pub(super) async fn find(number: u16) -> Vec<SocketAddr> {
    let found = async {
        let daemon = ServiceDaemon::new()?;
        let events = daemon.browse(TYPE)?;
        let (end, mut hosts) = (Instant::now() + PATIENCE, Vec::new());
        while hosts.len() < RESPONDERS {
            // Once somebody has answered, others have a moment more.
            let until = if hosts.is_empty() { end } else { end.min(Instant::now() + PATIENCE / 6) };
            let Ok(Ok(event)) = timeout_at(until, events.recv_async()).await else { break };
            let ServiceEvent::ServiceResolved(host) = event else { continue };
            let is_it = host.get_property_val_str("n") == Some(&number.to_string())
                && host.get_property_val_str("v") == Some(VERSION);
            let mut addresses: Vec<IpAddr> = host.get_addresses_v4().into_iter().map(IpAddr::V4).collect();
            addresses.sort_unstable();
            if let Some(ip) = addresses.first().filter(|_| is_it) {
                let address = SocketAddr::new(*ip, host.get_port());
                if !hosts.contains(&address) {
                    hosts.push(address);
                }
            }
        }
        daemon.shutdown()?;
        Ok::<_, mdns_sd::Error>(hosts)
    };
    found.await.unwrap_or_else(|error| {
        tracing::debug!(%error, "multicast DNS does not work here");
        Vec::new()
    })
}
