//! Where secrets come from: a flag (with a warning, others on the machine can see it), a file, the environment.

use std::io::Read;
use std::path::Path;

use mytunnel_keys::error::Code;
use mytunnel_keys::token::{ChildToken, MasterToken, Token, TokenError};
use zeroize::Zeroizing;

use crate::context::Context;
use crate::failure::Failure;
use crate::files;

/// Reads a secret from a file, or from standard input where the file is `-`.
pub(crate) fn from_file(path: &Path) -> Result<Zeroizing<String>, Failure> {
    if path == Path::new("-") {
        let mut text = Zeroizing::new(String::new());
        let read = std::io::stdin().lock().take(64 * 1024).read_to_string(&mut text);
        read.map_err(|error| Failure::local(format!("cannot read standard input: {error}"), ""))?;
        return Ok(Zeroizing::new(text.trim().to_owned()));
    }
    files::read_private_text(path)?
        .ok_or_else(|| Failure::usage(format!("there is no file {}", path.display()), "Check the path."))
}

/// A secret from a flag, if it was given, with the warning that belongs to it.
pub(crate) fn from_flag(
    context: &Context,
    flag: &str,
    value: Option<&str>,
    instead: &str,
) -> Option<Zeroizing<String>> {
    let value = value?;
    context
        .report
        .warn(format_args!("others on this machine can read what is given to {flag}; use {instead}"));
    Some(Zeroizing::new(value.trim().to_owned()))
}

/// The password that a tunnel asks of its visitors: of a file, of a flag with what its value is called, of the
/// environment, or typed twice.
pub(crate) fn tunnel_password(
    context: &Context,
    file: Option<&Path>,
    flag: Option<(&str, &str)>,
) -> Result<Zeroizing<String>, Failure> {
    const INSTEAD: &str = "MYTUNNEL_TUNNEL_PASSWORD or a file";
    if let Some(file) = file {
        return from_file(file);
    }
    if let Some((name, value)) = flag
        && let Some(password) = from_flag(context, name, Some(value), INSTEAD)
    {
        return Ok(password);
    }
    if let Some(password) = &context.env.tunnel_password {
        return Ok(password.clone());
    }
    let ask = |prompt: &str| {
        rpassword::prompt_password(prompt).map(Zeroizing::new).map_err(|_| {
            Failure::usage("there is nobody to ask for the password", "Set MYTUNNEL_TUNNEL_PASSWORD.")
        })
    };
    let password = ask("Password for visitors: ")?;
    if ask("The same again: ")? == password {
        Ok(password)
    } else {
        Err(Failure::usage("the two passwords differ", "Try again; nothing was changed."))
    }
}

/// The number that a tunnel asks of its visitors: of a flag, of the environment, or none, so that one is made.
pub(crate) fn pin(context: &Context, flag: Option<&str>) -> Result<Option<Zeroizing<String>>, Failure> {
    let Some(pin) = from_flag(context, "--pin", flag, "MYTUNNEL_TUNNEL_PIN, or none to have one made") else {
        return Ok(context.env.tunnel_pin.clone());
    };
    if is_pin(&pin) {
        return Ok(Some(pin));
    }
    // What stands behind a flag that takes a value or none may have been meant for the target.
    let help = "Write --pin=123456, or --pin alone behind the target to have one made.";
    Err(Failure::usage("a PIN has 6 to 12 digits", help))
}

/// Whether a text can be a PIN.
pub(crate) fn is_pin(text: &str) -> bool {
    (6..=12).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether a text can be a token for programs.
pub(crate) const fn is_tunnel_token(text: &str) -> bool {
    text.len() >= 16
}

/// The token with which a tunnel lets programs in: of a flag, of the environment, or none, so that one is made.
pub(crate) fn tunnel_token(
    context: &Context,
    flag: Option<&str>,
) -> Result<Option<Zeroizing<String>>, Failure> {
    let instead = "MYTUNNEL_TUNNEL_TOKEN, or none to have one made";
    let Some(token) = from_flag(context, "--bearer", flag, instead) else {
        return Ok(context.env.tunnel_token.clone());
    };
    if is_tunnel_token(&token) {
        return Ok(Some(token));
    }
    let help = "Write --bearer=TOKEN, or --bearer alone behind the target to have one made.";
    Err(Failure::usage("a token has 16 characters at least", help))
}

/// The project's master key.
pub(crate) fn master(context: &Context, file: Option<&Path>) -> Result<MasterToken, Failure> {
    let text = match (file, &context.env.master) {
        (Some(file), _) => from_file(file)?,
        (None, Some(text)) => text.clone(),
        (None, None) => {
            return Err(Failure::usage(
                "there is no master key: MTK_MASTER is not set",
                "Set MTK_MASTER to the key that `mytunnel projects create` printed, or sign in and use `mytunnel keys create`.",
            ));
        }
    };
    match Token::parse(&text) {
        Ok(Token::Child(_)) => Err(Failure::new(Code::ScopeDenied, "a child key cannot mint")
            .with_help("Set MTK_MASTER to a master key, which `mytunnel projects create` prints.")),
        parsed => parsed.and_then(Token::into_master).map_err(|error| {
            Failure::from(error)
                .with_help("Copy the whole master key that `mytunnel projects create` printed.")
        }),
    }
}

/// A key to share with.
pub(crate) fn acting(text: &str) -> Result<ChildToken, Failure> {
    Ok(Token::parse(text).and_then(Token::into_acting)?)
}

impl From<TokenError> for Failure {
    fn from(error: TokenError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use mytunnel_keys::id::Serial;
    use mytunnel_keys::secret::Seed;
    use mytunnel_keys::trust::RootFingerprint;

    use super::*;
    use crate::environment::Environment;
    use crate::report::Report;

    fn master_text() -> Zeroizing<String> {
        Token::Master(MasterToken {
            seed: Seed::from_bytes([1; 32]),
            serial: Serial::from_bytes([2; 16]),
            project: "proj_a".parse().unwrap(),
            root: RootFingerprint::from_bytes([3; 16]),
            server: "http://localhost:8080".parse().unwrap(),
        })
        .to_text()
    }

    fn with_master(master: Option<Zeroizing<String>>) -> Context {
        Context { env: Environment { master, ..Environment::default() }, report: Report::new(true, true) }
    }

    #[test]
    fn the_environment_gives_the_master_key() {
        let token = master(&with_master(Some(master_text())), None).unwrap();
        assert_eq!(token.project.to_string(), "proj_a");
        assert_eq!(master(&with_master(None), None).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn a_file_wins_over_the_environment_and_may_end_in_a_newline() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("master");
        std::fs::write(&file, format!("{}\n", master_text().as_str())).unwrap();
        let context = with_master(Some(Zeroizing::new("nonsense".to_owned())));
        assert!(master(&context, Some(&file)).is_ok());
        assert_eq!(master(&context, Some(&dir.path().join("none"))).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn a_master_key_does_not_share_and_a_mistyped_key_is_invalid() {
        let text = master_text();
        let code = |text: &str| acting(text).unwrap_err().code();
        assert_eq!(code(&text), Code::MasterCannotAct);
        assert_eq!(code(&text[..text.len() - 3]), Code::InvalidKey);
        assert_eq!(code("hello"), Code::InvalidKey);
        let message = acting("hunter2").unwrap_err();
        assert!(!message.message().contains("hunter2"));
    }
}
