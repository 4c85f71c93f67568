//! Tunnels as people see them, and the names that nobody uses any more.

use mytunnel_keys::api;
use mytunnel_keys::id::{ProjectId, TunnelId, TunnelKind, TunnelName};

use crate::authority::{self, Caller, Reach};
use crate::http::ApiError;
use crate::shared::{Public, Shared};
use crate::store::{StoreError, TunnelRow};

/// Tunnels in one answer.
const PAGE: u64 = 1000;
/// Tunnels that are noted in one transaction.
const KEPT: usize = 64;

/// Which tunnels to list.
#[derive(Debug, Clone, Default, serde::Deserialize)]
pub(crate) struct TunnelQuery {
    project: Option<ProjectId>,
    /// Continue behind this: the `next` of the answer before.
    after: Option<String>,
    limit: Option<u64>,
}

impl Shared {
    /// Tunnels that the caller may see, a page at a time.
    pub(crate) async fn tunnels(
        &self,
        caller: &Caller,
        query: TunnelQuery,
    ) -> Result<api::Tunnels, ApiError> {
        let reach = authority::reach_of_tunnels(caller)?;
        let reach = Reach { project: authority::narrowed(reach.project, query.project)?, ..reach };
        let after = query.after.as_deref().map(cursor).transpose()?;
        let limit = query.limit.unwrap_or(PAGE).clamp(1, PAGE);
        // One more than is answered, to know whether there is one.
        let mut rows = self.store.tunnels(reach, after, limit + 1).await?;
        let more = rows.len() as u64 > limit;
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let next = rows.last().filter(|_| more).map(|row| format!("{}.{}", row.name, row.id));
        Ok(api::Tunnels { tunnels: rows.into_iter().map(|row| self.tunnel_row(row)).collect(), next })
    }

    /// Notes of what is up here that it is, long before its name is taken for unused: at another coordinator nobody may know.
    async fn keep_tunnels(&self, before: u64, now: u64) -> Result<(), StoreError> {
        for some in self.followers.up_here().chunks(KEPT) {
            self.store.keep_tunnels(some.to_vec(), before, now).await?;
        }
        Ok(())
    }

    /// A tunnel as people see it.
    pub(crate) fn tunnel_row(&self, row: TunnelRow) -> api::TunnelRow {
        api::TunnelRow {
            url: self.public().tunnel_url(self.issuer.cluster().as_str(), &row.name, row.kind),
            online: self.followers.live().is_up(&row.id),
            id: row.id,
            name: row.name,
            project: row.project,
            kind: row.kind,
            gates: row.gates.into_iter().map(str::to_owned).collect(),
        }
    }

    /// Sweeps away what nobody needs: names that were not used for long, frames that every relay has.
    pub(crate) async fn sweep(&self, frames_kept: u64) -> Result<(), StoreError> {
        let now = self.clock.now();
        for relay in self.store.relays().await? {
            if self.followers.standing(&relay.id).connected {
                self.store.see_relay(relay.serial, None, now).await?;
            }
        }
        let unused = self.limits.unused_name.as_secs();
        self.keep_tunnels(now.saturating_sub(unused / 2), now).await?;
        let before = now.saturating_sub(unused);
        let mut after = None;
        loop {
            let (mut names, next) = self.store.unused_names(after, before, now).await?;
            {
                let (live, cluster) = (self.followers.live(), self.issuer.cluster());
                // Up by the word of a relay, which counts for as long as the key does.
                names.retain(|unused| {
                    !(unused.key_lives
                        && live.is_up(&TunnelId::derive(cluster, &unused.project, &unused.name)))
                });
            }
            if !names.is_empty() {
                self.store.free_names(names, before, now).await?;
            }
            after = next;
            if after.is_none() {
                break;
            }
        }
        self.store.free_kept_names(now).await?;
        self.store.forget_frames(now.saturating_sub(frames_kept)).await?;
        self.store.forget_siblings(now).await?;
        self.store.forget_tickets(now).await?;
        self.tidy_usage(now).await?;
        self.note_unwritten(now).await
    }
}

/// Where a page begins: behind this name and id.
fn cursor(text: &str) -> Result<(TunnelName, TunnelId), ApiError> {
    let parsed = text.split_once('.').and_then(|(name, id)| Some((name.parse().ok()?, id.parse().ok()?)));
    parsed.ok_or_else(|| ApiError::bad_request("after: this is not the next of an earlier answer"))
}

impl Public {
    /// Where visitors reach a tunnel: with TLS if there is any.
    fn tunnel_url(&self, domain: &str, name: &TunnelName, kind: TunnelKind) -> Option<String> {
        let secure = self.endpoints.https.as_deref().map(|endpoint| ("https", endpoint, ":443"));
        let plain = self.endpoints.http.as_deref().map(|endpoint| ("http", endpoint, ":80"));
        // Under localhost nobody but this machine's own CA has signed, which browsers do not know.
        let local = domain == "localhost" || domain.ends_with(".localhost");
        let (scheme, endpoint, usual) = if kind == TunnelKind::Tls {
            secure
        } else if local {
            plain.or(secure)
        } else {
            secure.or(plain)
        }?;
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
        url_of(TunnelKind::Http, domain, http, https)
    }

    fn url_of(kind: TunnelKind, domain: &str, http: Option<&str>, https: Option<&str>) -> Option<String> {
        let endpoints = Endpoints { http: http.map(str::to_owned), https: https.map(str::to_owned) };
        let public = Public { url: "http://localhost".parse().unwrap(), endpoints };
        public.tunnel_url(domain, &"web".parse().unwrap(), kind)
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
        let tls = |https| url_of(TunnelKind::Tls, "localhost", both.0, https);
        assert_eq!((tls(both.1).unwrap(), tls(None)), ("https://web.localhost".to_owned(), None));
    }
}
