//! Streams between two nodes that outlive the paths they take.
//!
//! [`flow`] is the state of one such stream, [`frames`] what travels on its legs, [`exchange`] moves the bytes, and
//! [`pump`] is its task, which gives it one leg after the other.

pub(crate) mod exchange;
pub(crate) mod flow;
pub(crate) mod frames;
pub(crate) mod pump;
