//! For fuzzers: entries of parsers that are nobody else's business.

pub use crate::{acme::fuzz as dns, gate::fuzz::gate, ingress::fuzz as request};
