//! What is known of the shares of this process beside what their node knows, for whoever asks for their status.

use std::collections::BTreeMap;

use mytunnel_keys::id::{TunnelKind, TunnelName};
use mytunnel_node::Status;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::end_to_end;

/// See the [module](self). Clones are the same one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Board(watch::Sender<Entries>);

type Entries = BTreeMap<u64, Entry>;

/// One share.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The name that it has, or that is tried.
    pub(crate) name: Option<TunnelName>,
    pub(crate) target: String,
    /// The page of its requests.
    pub(crate) page: Option<String>,
    /// Its TLS ends in this process.
    pub(crate) is_end_to_end: bool,
    /// The address that was told last.
    pub(crate) url: Option<String>,
}

/// A share's place on the board, for as long as this lives.
#[derive(Debug)]
pub(super) struct Listed {
    board: Board,
    id: u64,
}

impl Board {
    pub(super) fn list(&self, entry: Entry) -> Listed {
        let mut id = 0;
        self.0.send_modify(|entries| {
            id = entries.last_key_value().map_or(0, |(last, _)| last + 1);
            entries.insert(id, entry);
        });
        Listed { board: self.clone(), id }
    }

    /// Shares in the order of their beginning.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.0.borrow().values().cloned().collect()
    }

    /// Tells of every change.
    pub(crate) fn watch(&self) -> watch::Receiver<Entries> {
        self.0.subscribe()
    }

    /// The answer to `mytunnel status`.
    pub(crate) fn described(&self, status: &Status) -> Value {
        let entries = self.0.borrow();
        let entry = |name| entries.values().rev().find(|entry| entry.name.as_ref() == Some(name));
        let rtt_ms = status.relay.rtt.map(|rtt| (rtt.as_secs_f64() * 1e6).round() / 1e3);
        let tunnels: Vec<Value> = status
            .tunnels
            .iter()
            .map(|tunnel| {
                let entry = entry(&tunnel.name);
                let is_web = entry.is_some_and(|entry| entry.is_end_to_end);
                json!({
                    "id": tunnel.id, "name": tunnel.name, "kind": tunnel.kind,
                    "url": tunnel.urls.iter().find(|url| !is_web || end_to_end::is_web(url)),
                    "target": tunnel.target, "online": tunnel.online, "path": tunnel.path.to_string(),
                    "rtt_ms": rtt_ms, "expires_at": tunnel.expires_at, "backends": tunnel.backends, "pid": std::process::id(),
                    "inspect": entry.and_then(|entry| entry.page.as_deref()),
                })
            })
            .collect();
        let is_public = status.tunnels.iter().any(|tunnel| tunnel.kind != TunnelKind::Private);
        let relay = status.relay.peer.iter().filter(|_| is_public);
        let relay = relay.map(|peer| json!({"id": peer, "path": "relayed", "rtt_ms": rtt_ms, "reason": "visitors come in through the relay"}));
        let peers: Vec<Value> = relay.chain(peers(status)).collect();
        json!({
            "tunnels": tunnels, "peers": peers,
            "inspect": entries.values().find_map(|entry| entry.page.as_deref()),
            "relay": {"addr": status.relay.address, "connected": status.relay.connected},
        })
    }
}

impl Listed {
    pub(super) fn put(&self, change: impl FnOnce(&mut Entry)) {
        self.board.0.send_modify(|entries| change(entries.entry(self.id).or_default()));
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.board.0.send_modify(|entries| drop(entries.remove(&self.id)));
    }
}

/// The other nodes of private shares.
pub(crate) fn peers(status: &Status) -> impl Iterator<Item = Value> {
    status.peers.iter().map(|peer| {
        let rtt_ms = peer.rtt.map(|rtt| (rtt.as_secs_f64() * 1e6).round() / 1e3);
        json!({
            "id": peer.id, "path": peer.path.to_string(), "rtt_ms": rtt_ms, "reason": peer.reason,
            "paths": peer.paths,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_that_takes_anothers_place_is_not_taken_away_with_it() {
        let board = Board::default();
        let entry = |target: &str| Entry { target: target.to_owned(), ..Entry::default() };
        let old = board.list(entry("old"));
        let new = board.list(entry("new"));
        new.put(|entry| entry.url = Some("u".to_owned()));
        drop(old);
        let left = board.entries();
        assert_eq!((left.len(), left[0].target.as_str(), left[0].url.as_deref()), (1, "new", Some("u")));
        drop(new);
        assert!(board.entries().is_empty());
    }
}
