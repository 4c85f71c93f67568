//! Requests signed by a key: no session, no secret on the way.

use mytunnel_keys::id::{Cluster, Serial};
use mytunnel_keys::proof::{Request, sign_request};
use mytunnel_keys::secret::Seed;

use crate::context::random;
use crate::failure::Failure;

/// A key that can prove requests to one cluster.
#[derive(Debug)]
pub(crate) struct Signer {
    pub(crate) seed: Seed,
    pub(crate) serial: Serial,
    /// Known from a trust bundle that was checked against a pinned root.
    pub(crate) cluster: Cluster,
}

impl Signer {
    pub(super) fn authorization(
        &self,
        method: &str,
        path: &str,
        body: &[u8],
        now: u64,
    ) -> Result<String, Failure> {
        let request = Request { cluster: &self.cluster, method, path, body };
        Ok(sign_request(&self.seed, &self.serial, &request, now, random()?))
    }
}
