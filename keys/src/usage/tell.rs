//! What a relay tells of usage, and the answer: CBOR. Fields may be added in later versions.

use serde::{Deserialize, Serialize};

use super::{Month, PriceList, Usage};
use crate::id::Serial;

/// Counts, and wants, in one message: with the largest numbers it stays below the largest message.
pub const MAX_COUNTS: usize = 300;

/// Totals that have grown, and leases that are wanted. The answer is [`Told`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tell {
    /// 16 random bytes of the relay's process: its totals begin at nothing.
    #[serde(with = "crate::bytes")]
    pub incarnation: [u8; 16],
    /// Number of the message, which grows. One that is not beyond those that were taken is passed over.
    pub seq: u64,
    /// Version of the prices that the relay counted by; 0 for whichever there are.
    pub prices: u64,
    /// Totals.
    pub counts: Vec<Count>,
    /// Keys with a budget. Every total that bears on one was told before it or beside it.
    pub wants: Vec<Want>,
}

/// The total of one key in one month.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// The key.
    pub serial: Serial,
    /// The month.
    pub month: Month,
    /// Tells totals of one key and month apart: a relay that has forgotten one begins another.
    pub run: u64,
    /// The total.
    pub total: Usage,
}

/// A wish to spend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// The key whose budget it is.
    pub key: Serial,
    /// Micro-cents that the relay may spend yet, beyond what it has told.
    pub held: u64,
    /// Micro-cents that it would like to have instead. 0 gives the lease back.
    pub ask: u64,
}

/// The answer to [`Tell`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Number of the message that it answers.
    pub seq: u64,
    /// The prices.
    pub prices: PriceList,
    /// One for each want, in place of what the relay held.
    pub leases: Vec<Lease>,
    /// Keys whose counts were not taken: the coordinator does not know that they were served there. It may be told so any
    /// moment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Serial>,
}

/// What a relay may spend beyond what it has told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The key whose budget it is.
    pub key: Serial,
    /// Micro-cents. 0: there is nothing left to lease.
    pub amount: u64,
    /// For so many seconds, from the moment at which the relay asked.
    pub seconds: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;

    #[test]
    fn the_largest_message_fits() {
        let serial = Serial::from_bytes([0xff; 16]);
        let total =
            Usage { bytes_in: u64::MAX, bytes_out: u64::MAX, requests: u64::MAX, tunnel_seconds: u64::MAX };
        let count = Count { serial, month: Month::from_number(u32::MAX), run: u64::MAX, total };
        let want = Want { key: serial, held: u64::MAX, ask: u64::MAX };
        let tell = Tell {
            incarnation: [1; 16],
            seq: u64::MAX,
            prices: u64::MAX,
            counts: vec![count; MAX_COUNTS],
            wants: vec![want; MAX_COUNTS],
        };
        assert_eq!(wire::decode::<Tell>(&wire::encode(&tell).unwrap()), Ok(tell));
        let lease = Lease { key: serial, amount: u64::MAX, seconds: u32::MAX };
        let (leases, refused) = (vec![lease; MAX_COUNTS], vec![serial; MAX_COUNTS]);
        let told = Told { seq: 1, prices: PriceList::default(), leases, refused };
        assert_eq!(wire::decode::<Told>(&wire::encode(&told).unwrap()), Ok(told));
    }
}
