//! The product as a user meets it: the real binary in real processes, driven through its command line and its sockets.

mod access_log;
mod apart;
mod audit;
mod backends;
mod backup;
mod budgets;
mod budgets_shared;
mod credentials;
mod doctor;
mod domains;
mod end_to_end;
mod faults;
mod floods;
mod gates;
mod gates_of_all_kinds;
mod inspect;
mod metrics;
mod names;
mod pairing;
mod ports;
mod private;
mod private_paths;
mod reload;
mod renewal;
mod revocation;
mod streams;
mod tickets;
mod two_relays;
mod up;
mod visitors;

use std::path::Path;

use anyhow::Result;
use mytunnel_tests::lab::Lab;

/// A running deployment of the binary that was just built.
async fn lab() -> Result<Lab> {
    Lab::start(Path::new(env!("CARGO_BIN_EXE_mytunnel-e2e"))).await
}
