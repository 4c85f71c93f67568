//! What tunnels use, what that costs, and how relays share a budget without ever spending more than it.
//!
//! A relay counts bytes, requests and tunnel-seconds per key and month. It tells them as totals that only grow, under
//! the random number of its own process ([`Tell::incarnation`]) and a number of the message, so that a message which
//! comes twice, late or never changes nothing: [`grown`] is what a total has grown by since the last that was taken.
//!
//! A key may have a budget. Then a relay may only spend what the coordinator has *leased* to it, and it never waits for
//! the truth about what others spend: what is leased to one is granted to nobody else ([`grant`]). [`Meter`] is the
//! relay's side. It decides without clock or socket; what it may still spend at a moment is [`Meter::left`].
//!
//! Promise: what was spent, as it was told, and what all relays may yet spend without telling, together are never more
//! than the budget. What a relay says that it holds counts as far as it was granted. A relay that ends without a word leaves
//! its lease behind, and what is left of that is charged.

mod lease;
mod meter;
mod month;
mod price;
mod tell;

pub use self::{
    lease::{Facts, grant, grown},
    meter::{Meter, Standing},
    month::{Month, MonthError},
    price::{MICRO, PriceList, Prices, Usage},
    tell::{Count, Lease, MAX_COUNTS, Tell, Told, Want},
};
