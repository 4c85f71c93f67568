//! Places of exchanges over HTTP/2 that are over for hyper, while what they handed over may still lie here: a visitor who takes
//! nothing from its socket would otherwise have the relay keep the answers of any number of requests.

use std::sync::{Arc, Mutex};

use super::{limits::AddressSeat, locked, visit::Guest};

/// The places that one connection owes. There are no more of them than its visitor may have.
#[derive(Debug, Default)]
pub(crate) struct Owed(Mutex<Vec<Place>>);

/// A place for one request, which is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    /// Whose address has it.
    at: Option<Arc<Guest>>,
    /// Whose address has it behind a proxy.
    behind: Option<AddressSeat>,
}

impl Place {
    pub(crate) fn new(at: Option<Arc<Guest>>, behind: Option<AddressSeat>) -> Self {
        Self { at, behind }
    }

    /// Whether there is anything to give back.
    pub(crate) fn is_taken(&self) -> bool {
        self.at.is_some() || self.behind.is_some()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(guest) = &self.at {
            guest.address.leave();
        }
    }
}

impl Owed {
    /// Keeps a place until [`Self::give_back`], or the connection's end.
    pub(super) fn keep(&self, place: Place) {
        locked(&self.0).push(place);
    }

    /// The socket has taken all that was handed over.
    pub(super) fn give_back(&self) {
        let places = std::mem::take(&mut *locked(&self.0));
        drop(places);
    }
}
