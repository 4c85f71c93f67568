//! For fuzzers: entries of parsers that are nobody else's business.

pub use crate::{
    acme::fuzz as dns,
    gate::fuzz::gate,
    ingress::{framing::beside_hyper as messages, fuzz as request},
};
