//! Who is being served by one tunnel: a bounded set of places for exchanges in flight and for visitors of its port, all of
//! whom can be cut at once.

use std::sync::{Arc, Mutex};

use tokio_util::sync::CancellationToken;

use super::{locked, visit::Visit};

/// The exchanges in flight of one tunnel, and the visitors of its port.
#[derive(Debug, Default)]
pub(crate) struct Seats(Mutex<State>);

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
pub(crate) struct Seat(usize);

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoSeat {
    /// The tunnel was closed.
    Closed,
    /// All places are taken.
    Full,
}

impl Seats {
    /// Takes one of `limit` places for an exchange on `visit`.
    pub(crate) fn enter(&self, visit: &Arc<Visit>, limit: usize) -> Result<Seat, NoSeat> {
        self.take(|| Guest::Exchange(Arc::clone(visit)), limit)
    }

    /// Takes one of `limit` places for a visitor of the tunnel's port, who is cut by `cut`.
    pub(crate) fn enter_line(&self, cut: &CancellationToken, limit: usize) -> Result<Seat, NoSeat> {
        self.take(|| Guest::Line(cut.clone()), limit)
    }

    fn take(&self, guest: impl FnOnce() -> Guest, limit: usize) -> Result<Seat, NoSeat> {
        let mut state = locked(&self.0);
        if state.closed {
            return Err(NoSeat::Closed);
        }
        if state.taken >= limit {
            return Err(NoSeat::Full);
        }
        state.taken += 1;
        let guest = Some(guest());
        if let Some(slot) = state.free.pop() {
            state.slots[slot] = guest;
            return Ok(Seat(slot));
        }
        state.slots.push(guest);
        Ok(Seat(state.slots.len() - 1))
    }

    pub(crate) fn leave(&self, seat: Seat) {
        let guest = {
            let mut state = locked(&self.0);
            state.taken -= 1;
            state.free.push(seat.0);
            state.slots[seat.0].take()
        };
        drop(guest);
    }

    /// Refuses everybody from now on and cuts whoever is inside.
    pub(crate) fn close(&self) {
        locked(&self.0).closed = true;
        self.cut();
    }

    /// Cuts whoever is inside.
    pub(crate) fn cut(&self) {
        let inside: Vec<Guest> = locked(&self.0).slots.iter().flatten().cloned().collect();
        for guest in inside {
            guest.cut();
        }
    }

    pub(crate) fn taken(&self) -> usize {
        locked(&self.0).taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingress::visit::tests::visit;

    #[test]
    fn seats_are_limited_and_used_again() {
        let (seats, visit) = (Seats::default(), visit());
        let first = seats.enter(&visit, 2).unwrap();
        let second = seats.enter(&visit, 2).unwrap();
        assert_eq!(seats.enter(&visit, 2).unwrap_err(), NoSeat::Full);
        seats.leave(first);
        let third = seats.enter(&visit, 2).unwrap();
        assert_eq!(seats.taken(), 2);
        seats.leave(second);
        seats.leave(third);
        assert_eq!(seats.taken(), 0);
        assert!(locked(&seats.0).slots.len() <= 2);
        assert_eq!(Arc::strong_count(&visit), 1);
    }

    #[test]
    fn closing_cuts_who_is_inside_and_nobody_else() {
        let (seats, inside, left) = (Seats::default(), visit(), visit());
        let seat = seats.enter(&left, 9).unwrap();
        seats.leave(seat);
        let _seat = seats.enter(&inside, 9).unwrap();
        let line = CancellationToken::new();
        let _line = seats.enter_line(&line, 9).unwrap();
        seats.close();
        assert!(inside.is_cut() && !left.is_cut() && line.is_cancelled());
        assert_eq!(seats.enter(&left, 9).unwrap_err(), NoSeat::Closed);
    }
}
