//! Tunnels as people see them, and the names that nobody uses any more.

use mytunnel_keys::api;
use mytunnel_keys::id::{TunnelId, TunnelName};

use crate::authority::{self, Caller};
use crate::http::ApiError;
use crate::shared::{Public, Shared};
use crate::store::StoreError;

/// Tunnels in one answer.
const MAX_TUNNELS: u64 = 10_000;

impl Shared {
    /// Tunnels that the caller may see.
    pub(crate) async fn tunnels(&self, caller: &Caller) -> Result<api::Tunnels, ApiError> {
        let reach = authority::reach_of_tunnels(caller)?;
        let rows = self.store.tunnels(reach.tenant, reach.project, reach.family, MAX_TUNNELS).await?;
        let public = self.public();
        let live = self.followers.live();
        let tunnels = rows.into_iter().map(|row| api::TunnelRow {
            url: public.tunnel_url(self.issuer.cluster().as_str(), &row.name),
            online: live.is_up(&row.id),
            id: row.id,
            name: row.name,
            project: row.project,
            kind: row.kind,
            gates: Vec::new(),
        });
        Ok(api::Tunnels { tunnels: tunnels.collect() })
    }

    /// Sweeps away what nobody needs: names that were not used for long, frames that every relay has.
    pub(crate) async fn sweep(&self, frames_kept: u64) -> Result<(), StoreError> {
        let now = self.clock.now();
        for relay in self.store.relays().await? {
            if self.followers.standing(&relay.id).connected {
                self.store.see_relay(relay.serial, None, now).await?;
            }
        }
        let before = now.saturating_sub(self.limits.unused_name.as_secs());
        let mut names = self.store.unused_names(before, now).await?;
        {
            let (live, cluster) = (self.followers.live(), self.issuer.cluster());
            // Up by the word of a relay, which counts for as long as the key does.
            names.retain(|unused| {
                !(unused.key_lives && live.is_up(&TunnelId::derive(cluster, &unused.project, &unused.name)))
            });
        }
        self.store.free_names(names, before, now).await?;
        self.store.forget_frames(now.saturating_sub(frames_kept)).await?;
        self.tidy_usage(now).await
    }
}

impl Public {
    /// Where visitors reach a tunnel: with TLS if there is any.
    fn tunnel_url(&self, domain: &str, name: &TunnelName) -> Option<String> {
        let secure = self.endpoints.https.as_deref().map(|endpoint| ("https", endpoint, ":443"));
        let plain = self.endpoints.http.as_deref().map(|endpoint| ("http", endpoint, ":80"));
        // Under localhost nobody but this machine's own CA has signed, which browsers do not know.
        let local = domain == "localhost" || domain.ends_with(".localhost");
        let (scheme, endpoint, usual) = if local { plain.or(secure) } else { secure.or(plain) }?;
        let port = endpoint.rfind(':').map_or("", |colon| &endpoint[colon..]);
        let port = if port == usual { "" } else { port };
        Some(format!("{scheme}://{name}.{domain}{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Endpoints;

    fn url(domain: &str, http: Option<&str>, https: Option<&str>) -> Option<String> {
        let endpoints = Endpoints { http: http.map(str::to_owned), https: https.map(str::to_owned) };
        let public = Public { url: "http://localhost".parse().unwrap(), endpoints };
        public.tunnel_url(domain, &"web".parse().unwrap())
    }

    #[test]
    fn visitors_are_sent_to_tls_where_browsers_trust_it() {
        let both = (Some("0.0.0.0:80"), Some("0.0.0.0:443"));
        assert_eq!(url("tun.example", both.0, both.1).unwrap(), "https://web.tun.example");
        assert_eq!(url("localhost", both.0, both.1).unwrap(), "http://web.localhost");
        assert_eq!(url("a.localhost", Some(":8080"), None).unwrap(), "http://web.a.localhost:8080");
        assert_eq!(url("localhost", None, Some(":8443")).unwrap(), "https://web.localhost:8443");
        assert_eq!(url("tun.example", Some("[::]:8080"), None).unwrap(), "http://web.tun.example:8080");
        assert_eq!(url("tun.example", None, None), None);
    }
}
