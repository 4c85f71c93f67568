//! `mytunnel dashboard`: where the pages of a relay are.

use mytunnel_keys::error::Code;
use serde_json::json;

use crate::commands::projects::ServerArgs;
use crate::context::Context;
use crate::credentials::Login;
use crate::failure::Failure;
use crate::report::Style;
use crate::session::wanted_server;

/// Print the address of the dashboard: projects, keys, tunnels and the audit log in a browser
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let wanted = wanted_server(context, args.server.server.as_deref())?;
    let server = match wanted {
        Some(server) => server,
        None => Login::load(&context.config_dir()?, None)?.ok_or_else(unknown)?.server,
    };
    // The pin is for programs that check it; a browser asks the authorities that it knows.
    let url = format!("{}/", server.base());
    context.report.object(&json!({"url": url}));
    context.report.line(context.report.styled(Style::Strong, &url));
    if server.pin().is_some() {
        context
            .report
            .note("A browser warns of its certificate until you import the relay's local-ca-DOMAIN.pem.");
    }
    Ok(())
}

fn unknown() -> Failure {
    Failure::new(Code::InvalidKey, "nobody is signed in here, so there is no relay to show")
        .with_help("Name it: mytunnel dashboard --server https://relay.example")
}
