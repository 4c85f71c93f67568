//! Fixed keys and times for this crate's tests.

#[path = "../tests/vectors/fixtures.rs"]
mod fixtures;

pub(crate) use self::fixtures::{NOW, bundle, claims, cluster, seed};
use crate::{
    certificate::IssuerKey,
    secret::Seed,
    trust::{RootKey, Trust},
};

pub(crate) fn root() -> RootKey {
    RootKey::new(seed(1))
}

pub(crate) fn issuer() -> IssuerKey {
    IssuerKey::new(seed(2))
}

pub(crate) fn feed_seed() -> Seed {
    seed(3)
}

pub(crate) fn holder() -> Seed {
    seed(4)
}

pub(crate) fn trust() -> Trust {
    Trust::open(&root().sign(&bundle()), &root().fingerprint()).unwrap()
}
