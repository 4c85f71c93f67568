//! The product's own binary, built beside the tests so that they always run what was just compiled.

fn main() -> std::process::ExitCode {
    mytunnel::run(std::env::args_os())
}
