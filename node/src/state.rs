//! What the node decides, without a socket, a clock or a random source: the driver feeds events and the time in, and
//! carries out the commands that come out.

pub(crate) mod backoff;
pub(crate) mod belief;
pub(crate) mod chooser;
pub(crate) mod faith;
pub(crate) mod lanes;
pub(crate) mod link;
pub(crate) mod merge;
pub(crate) mod reach;
pub(crate) mod tunnels;
pub(crate) mod verdict;
