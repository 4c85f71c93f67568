//! The product among programs that are not ours: curl, Chromium, Python, Vite, git, oathtool, PostgreSQL, an OpenID provider, clients of MCP, a clock that is off. `.ci/run` installs them; a program
//! that is missing fails its test and says which.

mod acme;
mod agents;
mod authenticator;
mod book;
mod browser;
mod clock;
mod curl;
mod dashboard;
mod end_to_end;
mod git;
mod grpc;
mod inspect;
mod mcp;
mod openapi;
mod pair;
mod ports;
mod scanner;
mod sign_in;
mod traces;
mod trust;
mod visitors;

use std::path::Path;

use anyhow::{Context, Result, ensure};
use mytunnel_tests::lab::Lab;
use tokio::process::Command;

async fn lab() -> Result<Lab> {
    Lab::start(Path::new(env!("CARGO_BIN_EXE_mytunnel-e2e"))).await
}

/// Runs a program to its end and returns its standard output; a failure shows both outputs.
async fn output(command: &mut Command) -> Result<String> {
    Ok(spoken(command).await?.0)
}

/// The same with what it said beside it.
async fn spoken(command: &mut Command) -> Result<(String, String)> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let output = command.output().await.with_context(|| format!("{program} is not installed"))?;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{program}: {}\n{stdout}\n{stderr}", output.status);
    Ok((stdout.into_owned(), stderr.into_owned()))
}

/// Waits until something listens.
async fn listening(port: u16) -> Result<()> {
    let started = tokio::time::Instant::now();
    while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        ensure!(started.elapsed().as_secs() < 30, "nothing listens on port {port}");
        tokio::task::yield_now().await;
    }
    Ok(())
}
