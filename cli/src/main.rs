//! `mytunnel`: see [`mytunnel::run`].

use std::process::ExitCode;

fn main() -> ExitCode {
    mytunnel::run(std::env::args_os())
}
