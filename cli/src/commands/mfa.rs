//! `mytunnel mfa enable|disable|recovery-codes|status`: the second factor of the own account.

use clap::Subcommand;
use mytunnel_keys::api::{Me, MfaCode, MfaEnabled, MfaEnrolment, MfaProof, MfaStatus, RecoveryCodes};
use mytunnel_keys::error::Code;
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use serde_json::json;

use crate::commands::projects::ServerArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::report::Style;
use crate::session::Session;
use crate::sign_in::{self, Person, PersonArgs};

/// Protect your account with an authenticator
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true, subcommand_required = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: MfaCommand,
}

#[derive(Debug, Subcommand)]
enum MfaCommand {
    /// Show a QR code for an authenticator, and switch the second factor on
    #[command(after_help = "\
For scripts: with --json the secret is a line of its own; the six digits that follow from it are read from standard input.")]
    Enable(PersonArgs),
    /// Switch the second factor off
    Disable(PersonArgs),
    /// Replace the recovery codes
    RecoveryCodes(PersonArgs),
    /// Say whether the second factor is on
    Status(ServerArgs),
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    match &args.command {
        MfaCommand::Enable(args) => with_session(args, context, enable),
        MfaCommand::Disable(args) => with_session(args, context, disable),
        MfaCommand::RecoveryCodes(args) => with_session(args, context, recovery_codes),
        MfaCommand::Status(args) => status(args, context),
    }
}

fn with_session(
    args: &PersonArgs,
    context: &Context,
    act: fn(&Person, &Context) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let person = Person::sign_in(context, args)?;
    let done = act(&person, context);
    person.end();
    done
}

fn enable(person: &Person, context: &Context) -> Result<(), Failure> {
    let shown: MfaEnrolment = person.post("/auth/mfa/enroll", &())?;
    let report = context.report;
    report.object(&json!({
        "event": "enrolment", "secret_base32": shown.secret_base32, "otpauth_uri": shown.otpauth_uri,
    }));
    report.note("Scan this with an authenticator:");
    if let Some(picture) = picture(&shown.otpauth_uri) {
        report.note(picture);
    }
    report.note(format_args!("Or type this secret into it: {}", shown.secret_base32));
    let code = sign_in::line("Six digits that it shows: ")
        .map_err(|error| Failure::local(format!("cannot read the six digits: {error}"), "Try again."))?;
    let code = code.ok_or_else(|| {
        Failure::new(Code::MfaRequired, "the six digits did not come; nothing was changed")
            .with_help("Write the six digits that follow from the secret to standard input.")
    })?;
    let proof = MfaProof { secret_base32: shown.secret_base32, code: code.as_str().to_owned() };
    let enabled: MfaEnabled = person.post("/auth/mfa/enroll/verify", &proof)?;
    report.object(&json!({
        "event": "enabled", "status": enabled.status, "recovery_codes": enabled.recovery_codes,
    }));
    report.note("The second factor is on. Other sessions of your account have ended.");
    show_codes(context, &enabled.recovery_codes);
    Ok(())
}

fn disable(person: &Person, context: &Context) -> Result<(), Failure> {
    // The sign-in of a moment ago gave the code.
    let done: MfaStatus = person.post("/auth/mfa/disable", &MfaCode::default())?;
    context.report.object(&done);
    context.report.line("The second factor is off.");
    Ok(())
}

fn recovery_codes(person: &Person, context: &Context) -> Result<(), Failure> {
    let fresh: RecoveryCodes = person.post("/auth/mfa/recovery-codes", &MfaCode::default())?;
    context.report.object(&fresh);
    show_codes(context, &fresh.recovery_codes);
    Ok(())
}

fn show_codes(context: &Context, codes: &[String]) {
    context
        .report
        .note("Recovery codes (save these — shown once); each is good once, in the place of the six digits:");
    for code in codes {
        context.report.line(context.report.styled(Style::Strong, code));
    }
}

fn status(args: &ServerArgs, context: &Context) -> Result<(), Failure> {
    let me: Me = Session::signed_in(context, args.server.as_deref())?.get("/auth/me")?;
    context.report.object(&json!({
        "account": me.email, "mfa_enabled": me.mfa_enabled, "recovery_codes_left": me.recovery_codes_left,
    }));
    context.report.line(match me.mfa_enabled {
        true => format!(
            "The second factor of {} is on; {} recovery codes are left.",
            me.email, me.recovery_codes_left
        ),
        false => format!("{} has no second factor; `mytunnel mfa enable` switches one on.", me.email),
    });
    Ok(())
}

/// The URI as a picture of half blocks, for terminals that write light on dark.
fn picture(uri: &str) -> Option<String> {
    let code = QrCode::new(uri).ok()?;
    let mut drawing = code.render::<Dense1x2>();
    Some(drawing.dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_a_light_border_that_scanners_need() {
        let picture =
            picture("otpauth://totp/mytunnel:a%40b.example?secret=GEZDGNBVGY3TQOJQ&issuer=mytunnel").unwrap();
        let lines: Vec<&str> = picture.lines().collect();
        assert!(lines.len() > 15);
        assert!(lines[0].chars().all(|block| block == '█') && lines[3].starts_with("████"), "{picture}");
    }
}
