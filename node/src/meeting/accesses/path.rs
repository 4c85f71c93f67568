//! A connection that may lead to a share of another node.

use std::time::Duration;

use libp2p::{PeerId, swarm::ConnectionId};
use mytunnel_carrier::{public_key, stream::Opener};
use mytunnel_keys::{
    certificate,
    id::{PublicKey, Serial, TunnelId, TunnelName},
    trust::{CLOCK_SKEW, Trust},
    wire::peer::{Carries, VERSION},
};

use crate::{
    meeting::{
        Grounds,
        line::{Connected, LineId},
    },
    peers::rights::{self, FalseHost},
    share::Path,
    state::chooser::Candidate,
};

/// Pings in a row, of two seconds each, that a busy path may delay.
const MOST_SILENCES: u32 = 8;

/// See the [module documentation](self).
#[derive(Debug)]
pub(super) struct PathTo {
    pub(super) line: LineId,
    pub(super) peer: PeerId,
    pub(super) opener: Opener,
    pub(super) path: Path,
    /// Why this path.
    pub(super) why: &'static str,
    /// Once the other end has shown that it is the one.
    pub(super) welcomed: Option<Welcomed>,
    pub(super) rtt: Option<Duration>,
    /// Pings in a row that were not answered in time.
    silences: u32,
}

/// What the other end has shown.
#[derive(Debug)]
pub(super) struct Welcomed {
    pub(super) tunnel: TunnelId,
    pub(super) carries: Carries,
    pub(super) key: PublicKey,
    pub(super) serial: Serial,
    pub(super) certificate: Vec<u8>,
    /// The second in which its certificate ends for us.
    until: u64,
}

impl PathTo {
    pub(super) fn new(line: LineId, connected: &Connected) -> Self {
        let Connected { peer, opener, is_relayed, why, .. } = connected;
        let path = if *is_relayed { Path::Relayed } else { Path::Direct };
        Self { line, peer: *peer, opener: opener.clone(), path, why, welcomed: None, rtt: None, silences: 0 }
    }

    /// Whether the other end is the one that serves the name, by the certificate that it shows.
    pub(super) fn judge(
        &self,
        version: u16,
        (name, tunnel, carries): (&TunnelName, TunnelId, Carries),
        certificate: Vec<u8>,
        grounds: &Grounds<'_>,
    ) -> Result<Welcomed, FalseHost> {
        if version != VERSION {
            return Err(FalseHost::Version(version));
        }
        // Without a relay's welcome there was no way, and the key of a connection of ours is sound.
        let (Some(trust), Some(key)) = (grounds.trust, public_key(&self.peer)) else {
            return Err(FalseHost::Rights);
        };
        let claims = rights::of_host(&certificate, &key, name, &tunnel, trust, grounds.own, grounds.unix)?;
        let until = claims.not_after.saturating_add(CLOCK_SKEW);
        Ok(Welcomed { tunnel, carries, key, serial: claims.serial, certificate, until })
    }

    /// Of the certificate that the other end has shown.
    pub(super) fn serial(&self) -> Option<Serial> {
        self.welcomed.as_ref().map(|welcomed| welcomed.serial)
    }

    /// Seconds until the other end's certificate ends, once it has shown one.
    pub(super) fn left(&self, unix: u64) -> Option<u64> {
        self.welcomed.as_ref().map(|welcomed| welcomed.until.saturating_sub(unix))
    }

    /// Whether the other end's certificate holds no longer.
    pub(super) fn is_distrusted(&self, trust: &Trust, unix: u64) -> bool {
        self.welcomed.as_ref().is_some_and(|welcomed| {
            certificate::verify(&welcomed.certificate, trust, &welcomed.key, unix).is_err()
        })
    }

    /// The round trip was measured; whether for the first time. What is kept follows it slowly.
    pub(super) fn on_alive(&mut self, trip: Duration) -> bool {
        self.silences = 0;
        let smooth = self.rtt.map_or(trip, |held| (held * 3 + trip) / 4);
        self.rtt.replace(smooth).is_none()
    }

    /// A ping was not answered in time; whether that has gone on for too long.
    pub(super) fn is_silent(&mut self) -> bool {
        self.silences += 1;
        self.silences > MOST_SILENCES
    }

    /// As one to choose among, if it leads to the share.
    pub(super) fn candidate(&self, connection: ConnectionId) -> Option<Candidate> {
        self.welcomed.as_ref()?;
        Some(Candidate { connection, path: self.path, rtt: self.rtt, is_silent: self.silences > 0 })
    }
}
