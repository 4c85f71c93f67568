//! `mytunnel devices list|revoke`: the machines that people are signed in on.

use clap::Subcommand;
use mytunnel_keys::api::{DeviceRow, Devices, RevokeAnswer};
use mytunnel_keys::error::Code;

use crate::commands::keys::{masters_left, relays};
use crate::commands::projects::ServerArgs;
use crate::context::{Context, now};
use crate::failure::Failure;
use crate::report::{Style, columns};
use crate::session::Session;
use crate::span;

/// List and revoke the machines that you signed in
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true, subcommand_required = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: DevicesCommand,
}

#[derive(Debug, Subcommand)]
enum DevicesCommand {
    /// List devices: owners see everybody's
    List(ServerArgs),
    /// Revoke a device and every child key it minted
    Revoke(RevokeArgs),
}

#[derive(Debug, clap::Args)]
struct RevokeArgs {
    /// Id or name of the device
    device: String,

    /// Revoke the master keys that it made, too, with their children
    #[arg(long)]
    masters: bool,

    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    match &args.command {
        DevicesCommand::List(args) => list(args, context),
        DevicesCommand::Revoke(args) => revoke(args, context),
    }
}

fn list(args: &ServerArgs, context: &Context) -> Result<(), Failure> {
    let answer: Devices = Session::signed_in(context, args.server.as_deref())?.get("/devices")?;
    context.report.object(&answer);
    let heading = ["DEVICE", "NAME", "ACCOUNT", "TIME LEFT", "TUNNELS"].map(str::to_owned).to_vec();
    let row = |device: &DeviceRow| {
        let left = device.expires_at.map_or_else(String::new, |end| span::human(end.saturating_sub(now())));
        let account = device.account.clone().unwrap_or_else(|| "this server's own".to_owned());
        vec![device.nonce.clone(), device.name.clone(), account, left, device.live_tunnels.to_string()]
    };
    let rows: Vec<_> = std::iter::once(heading).chain(answer.devices.iter().map(row)).collect();
    for (at, line) in columns(&rows).into_iter().enumerate() {
        context.report.line(if at == 0 { context.report.styled(Style::Faint, line) } else { line });
    }
    Ok(())
}

fn revoke(args: &RevokeArgs, context: &Context) -> Result<(), Failure> {
    let session = Session::signed_in(context, args.server.server.as_deref())?;
    let all: Devices = session.get("/devices")?;
    let nonce = chosen(&all.devices, args.device.trim())?;
    let path = format!("/tokens/{nonce}?cascade=true&masters={}", args.masters);
    let answer: RevokeAnswer = session.delete(&path)?;
    context.report.object(&answer);
    context.report.line(format_args!("Revoked {nonce}, with {} child keys.", answer.revoked_children));
    if args.masters {
        let masters = answer.revoked_masters.saturating_sub(1);
        context.report.line(format_args!("Revoked {masters} master keys that it made."));
    }
    for line in relays(&answer.relays) {
        context.report.note(line);
    }
    if let Some(warning) = masters_left(&answer.masters_left, Some(nonce)) {
        context.report.warn(warning);
    }
    Ok(())
}

/// The device of that id, or the only one of that name.
fn chosen<'a>(devices: &'a [DeviceRow], named: &str) -> Result<&'a str, Failure> {
    let mut found = devices.iter().filter(|device| device.nonce == named || device.name == named);
    match (found.next(), found.next()) {
        (Some(device), None) => Ok(&device.nonce),
        (Some(_), Some(_)) => Err(Failure::usage(
            format!("several devices are called {named}"),
            "Give its id: `mytunnel devices list` shows them.",
        )),
        (None, _) => Err(Failure::new(Code::NotFound, format!("there is no device {named}"))
            .with_help("`mytunnel devices list` shows which there are.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_chosen_by_its_id_or_by_a_name_that_only_it_has() {
        let device = |nonce: &str, name: &str| DeviceRow {
            nonce: nonce.to_owned(),
            name: name.to_owned(),
            account: None,
            created_at: 0,
            expires_at: None,
            live_tunnels: 0,
        };
        let devices = [device("a1", "laptop"), device("b2", "tower"), device("c3", "laptop")];
        assert_eq!(chosen(&devices, "c3").unwrap(), "c3");
        assert_eq!(chosen(&devices, "tower").unwrap(), "b2");
        assert_eq!(chosen(&devices, "laptop").unwrap_err().exit_code(), 2);
        assert_eq!(chosen(&devices, "phone").unwrap_err().code(), Code::NotFound);
    }
}
