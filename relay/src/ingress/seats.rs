//! Who is being served by one tunnel: a bounded set of places for exchanges in flight and for visitors of its port, all of
//! whom can be cut at once.

use std::sync::{Arc, Mutex};

use tokio_util::sync::CancellationToken;

use super::{
    Limits, locked,
    terms::{Crowd, Place},
    visit::Visit,
};

/// The exchanges in flight of one tunnel, and the visitors of its port.
#[derive(Debug, Default)]
pub(crate) struct Seats {
    state: Mutex<State>,
    /// Those at all tunnels of the key.
    key: Arc<Crowd>,
}

/// How many there may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Of one tunnel.
    pub(crate) tunnel: usize,
    /// Of all tunnels of its key; none for those who do not count there.
    pub(crate) key: Option<usize>,
}

impl Bounds {
    /// For requests, and for connections that carry them unread.
    pub(crate) fn of_requests(limits: &Limits) -> Self {
        Self { tunnel: limits.requests_per_tunnel, key: Some(limits.requests_per_key) }
    }
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    taken: usize,
    slots: Vec<Option<Guest>>,
    free: Vec<usize>,
}

/// Who sits there.
#[derive(Debug, Clone)]
enum Guest {
    Exchange(Arc<Visit>),
    Line(CancellationToken),
}

impl Guest {
    fn cut(&self) {
        match self {
            Self::Exchange(visit) => visit.cut(),
            Self::Line(cut) => cut.cancel(),
        }
    }
}

/// One place; to be given back with [`Seats::leave`].
#[derive(Debug)]
#[must_use = "a seat that is not left stays taken"]
pub(crate) struct Seat {
    slot: usize,
    _at_key: Option<Place>,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoSeat {
    /// The tunnel was closed.
    Closed,
    /// All places are taken.
    Full,
    /// All places of its key are taken.
    KeyFull,
}

impl Seats {
    /// Those of a tunnel whose key has these in flight.
    pub(crate) fn of_key(key: Arc<Crowd>) -> Self {
        Self { key, ..Self::default() }
    }

    /// Counts a request in the second `now`, unless it is one too many for its key, of which `most` may begin; 0 for no bound.
    pub(crate) fn begin(&self, most: u32, now: u64) -> bool {
        self.key.begin(most, now)
    }

    /// Takes a place for an exchange on `visit`.
    pub(crate) fn enter(&self, visit: &Arc<Visit>, bounds: Bounds) -> Result<Seat, NoSeat> {
        self.take(|| Guest::Exchange(Arc::clone(visit)), bounds)
    }

    /// Takes a place for a visitor whose bytes are not read, who is cut by `cut`.
    pub(crate) fn enter_line(&self, cut: &CancellationToken, bounds: Bounds) -> Result<Seat, NoSeat> {
        self.take(|| Guest::Line(cut.clone()), bounds)
    }

    fn take(&self, guest: impl FnOnce() -> Guest, bounds: Bounds) -> Result<Seat, NoSeat> {
        let mut state = locked(&self.state);
        if state.closed {
            return Err(NoSeat::Closed);
        }
        if state.taken >= bounds.tunnel {
            return Err(NoSeat::Full);
        }
        let at_key = bounds.key.map(|most| self.key.enter(most).ok_or(NoSeat::KeyFull)).transpose()?;
        state.taken += 1;
        let guest = Some(guest());
        if let Some(slot) = state.free.pop() {
            state.slots[slot] = guest;
            return Ok(Seat { slot, _at_key: at_key });
        }
        state.slots.push(guest);
        Ok(Seat { slot: state.slots.len() - 1, _at_key: at_key })
    }

    pub(crate) fn leave(&self, seat: Seat) {
        let guest = {
            let mut state = locked(&self.state);
            state.taken -= 1;
            state.free.push(seat.slot);
            state.slots[seat.slot].take()
        };
        drop(guest);
    }

    /// Refuses everybody from now on and cuts whoever is inside.
    pub(crate) fn close(&self) {
        locked(&self.state).closed = true;
        self.cut();
    }

    /// Cuts whoever is inside.
    pub(crate) fn cut(&self) {
        // With the table in hand: who has left is not cut afterwards, where it may be another tunnel's guest by then.
        for guest in locked(&self.state).slots.iter().flatten() {
            guest.cut();
        }
    }

    pub(crate) fn taken(&self) -> usize {
        locked(&self.state).taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingress::visit::tests::visit;

    fn to(tunnel: usize) -> Bounds {
        Bounds { tunnel, key: None }
    }

    #[test]
    fn seats_are_limited_and_used_again() {
        let (seats, visit) = (Seats::default(), visit());
        let first = seats.enter(&visit, to(2)).unwrap();
        let second = seats.enter(&visit, to(2)).unwrap();
        assert_eq!(seats.enter(&visit, to(2)).unwrap_err(), NoSeat::Full);
        seats.leave(first);
        let third = seats.enter(&visit, to(2)).unwrap();
        assert_eq!(seats.taken(), 2);
        seats.leave(second);
        seats.leave(third);
        assert_eq!(seats.taken(), 0);
        assert!(locked(&seats.state).slots.len() <= 2);
        assert_eq!(Arc::strong_count(&visit), 1);
    }

    #[test]
    fn closing_cuts_who_is_inside_and_nobody_else() {
        let (seats, inside, left) = (Seats::default(), visit(), visit());
        let seat = seats.enter(&left, to(9)).unwrap();
        seats.leave(seat);
        let _seat = seats.enter(&inside, to(9)).unwrap();
        let line = CancellationToken::new();
        let _line = seats.enter_line(&line, to(9)).unwrap();
        seats.close();
        assert!(inside.is_cut() && !left.is_cut() && line.is_cancelled());
        assert_eq!(seats.enter(&left, to(9)).unwrap_err(), NoSeat::Closed);
    }

    #[test]
    fn the_tunnels_of_a_key_share_its_places_and_give_them_back() {
        let (key, visit) = (Arc::<Crowd>::default(), visit());
        let [one, two] = [Seats::of_key(Arc::clone(&key)), Seats::of_key(key)];
        let bounds = Bounds { tunnel: 9, key: Some(2) };
        let (first, second) = (one.enter(&visit, bounds).unwrap(), two.enter(&visit, bounds).unwrap());
        assert_eq!(two.enter(&visit, bounds).unwrap_err(), NoSeat::KeyFull);
        assert_eq!((one.taken(), two.taken()), (1, 1));
        let port = one.enter_line(&CancellationToken::new(), to(9)).unwrap();
        one.leave(first);
        two.leave(two.enter(&visit, bounds).unwrap());
        one.leave(port);
        two.leave(second);
        assert!(Seats::default().enter(&visit, bounds).is_ok(), "another key has places of its own");
    }
}
