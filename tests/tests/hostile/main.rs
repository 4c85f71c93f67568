//! Strangers who do what no guest does, against the real daemon of pairing. A program of tests by itself, so that its floods
//! take nothing from the time that others are given.

mod agent;
mod crowd;
mod cutting;
mod dice;
mod frames;
mod proof;
mod refusals;
mod stranger;

/// One flood at a time.
static FLOOD: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
