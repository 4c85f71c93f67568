//! The error boundary: every way a run can fail becomes a code, a message, one line of help and an exit status.
//!
//! Library errors keep their own types; here, and only here, they are given the words a person reads. The codes
//! are those of the API and the wire, so that a script meets one vocabulary everywhere.

use std::error::Error;
use std::io;

use mytunnel_keys::api::ErrorDetail;
use mytunnel_keys::error::Code;
use serde::Serialize;

use crate::config::ConfigError;
use crate::credentials::StoreError;
use crate::files::FileError;
use crate::inspect::told::printable;
use crate::places::NoHome;

/// The longest that a coordinator's words are shown, in letters.
const MOST_WORDS: usize = 1000;

/// Exit status of wrong usage, as the shells and clap have it.
const USAGE: u8 = 2;

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    code: Code,
    exit: u8,
    message: String,
    help: String,
}

/// A failure, for scripts.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorEvent<'a> {
    event: &'static str,
    code: &'static str,
    message: &'a str,
    help: &'a str,
}

impl Failure {
    /// A failure with the help that goes with its code.
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            exit: code.exit_code(),
            message: message.into(),
            help: help_at_the_prompt(code).to_owned(),
        }
    }

    /// What was typed, or written in a file, cannot be meant so.
    pub(crate) fn usage(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { code: Code::BadRequest, exit: USAGE, message: message.into(), help: help.into() }
    }

    /// A failure of this machine: a file, a port, a permission.
    pub(crate) fn local(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { code: Code::Internal, exit: 1, message: message.into(), help: help.into() }
    }

    /// The same with another line of help.
    pub(crate) fn with_help(self, help: impl Into<String>) -> Self {
        Self { help: help.into(), ..self }
    }

    /// The same in other words.
    pub(crate) fn with_message(self, message: impl Into<String>) -> Self {
        Self { message: message.into(), ..self }
    }

    /// The coordinator's refusal. Its help is the server's, unless something nearer is at hand. Neither acts on a terminal, nor fills the
    /// context of an agent: whoever answers at an address that was typed need not be one.
    pub(crate) fn from_api(detail: ErrorDetail) -> Self {
        let words = |text: &str| printable(text).chars().take(MOST_WORDS).collect::<String>();
        let own = Self::new(detail.code, words(&detail.message));
        if own.help == detail.code.help() { own.with_help(words(&detail.help)) } else { own }
    }

    pub(crate) const fn code(&self) -> Code {
        self.code
    }

    pub(crate) const fn exit_code(&self) -> u8 {
        self.exit
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn help(&self) -> &str {
        &self.help
    }

    /// The last line of a failed run with `--json`.
    pub(crate) fn to_event(&self) -> ErrorEvent<'_> {
        ErrorEvent { event: "error", code: self.code.name(), message: &self.message, help: &self.help }
    }
}

/// What the reader of a terminal can do; the same as everywhere unless something nearer is at hand.
#[expect(clippy::wildcard_enum_match_arm, reason = "every other code has its own help")]
fn help_at_the_prompt(code: Code) -> &'static str {
    match code {
        Code::CoordinatorUnreachable => {
            "Check the address and the network, and that `mytunnel relay` runs there."
        }
        Code::RelayUnreachable => {
            "Check that UDP or TCP to the relay's address is let through, then try again."
        }
        Code::TunnelLimit => "End the other share of this key first, or mint one key for each tunnel.",
        Code::BadRequest => "Correct what the message names.",
        Code::NotFound => {
            "Check the name or id: `mytunnel keys list` and `mytunnel projects list` show what there is."
        }
        _ => code.help(),
    }
}

/// Help as a sentence of its own.
pub(crate) fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).chain(['.']).collect()
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // Some libraries repeat their cause in their own text.
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

/// What helps against an error of the operating system, where something does.
#[expect(clippy::wildcard_enum_match_arm, reason = "the system's kinds are many, those with a remedy few")]
pub(crate) fn io_help(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "Free some space on that disk; nothing was changed."
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "That disk is read-only: choose another directory, or mount it writable."
        }
        io::ErrorKind::PermissionDenied => "Check who owns it, or choose another directory.",
        io::ErrorKind::NotADirectory => "Check the path: a part of it is a file.",
        io::ErrorKind::NotFound => "Check the path.",
        _ => "",
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        Self::local(chain(&error), io_help(&error.source))
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let message = chain(&error);
        match error {
            StoreError::File(error) => error.into(),
            StoreError::Damaged { path } => {
                Self::local(message, format!("Move {} away and sign in, or mint, again.", path.display()))
            }
            StoreError::NotOnThisMachine { .. } => Self::new(Code::InvalidKey, message)
                .with_help("It was minted on another machine; mint one here, or there with `--portable`."),
        }
    }
}

impl From<NoHome> for Failure {
    fn from(error: NoHome) -> Self {
        Self::local(error.to_string(), "Set HOME or MYTUNNEL_CONFIG_DIR.")
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        match &error {
            ConfigError::Invalid { suggestion, .. } => {
                let help = suggestion.as_ref().map(|name| format!("Did you mean `{name}`?"));
                Self::usage(chain(&error), help.unwrap_or_else(|| "Correct that line.".to_owned()))
            }
            ConfigError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Self::usage(chain(&error), io_help(source))
            }
            ConfigError::Read { source, .. } => Self::local(chain(&error), io_help(source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_coordinator_says_acts_on_no_terminal_and_fills_no_context() {
        let text = format!("no\n\u{1b}[2J\u{202e}{}", "x".repeat(100_000));
        let detail = ErrorDetail { code: Code::KeyExpired, message: text.clone(), help: text };
        let failure = Failure::from_api(detail);
        for words in [failure.message(), failure.help()] {
            assert!(words.starts_with("no\u{fffd}\u{fffd}[2J\u{fffd}xxx"), "{words}");
            assert_eq!(words.chars().count(), MOST_WORDS);
        }
    }

    #[test]
    fn a_code_brings_its_exit_status_and_help() {
        let failure = Failure::new(Code::KeyExpired, "the key expired");
        assert_eq!(failure.exit_code(), 3);
        assert!(!failure.help().is_empty());
        assert_eq!(Failure::new(Code::MasterCannotAct, "").exit_code(), 4);
        assert_eq!(Failure::new(Code::CoordinatorUnreachable, "").exit_code(), 6);
        assert_eq!(Failure::usage("", "").exit_code(), 2);
        assert_eq!(Failure::local("", "").exit_code(), 1);
    }

    #[test]
    fn the_event_has_what_scripts_rely_on() {
        let failure = Failure::new(Code::NameTaken, "taken").with_help("choose another");
        let event = failure.to_event();
        assert_eq!(
            serde_json::to_value(&event).unwrap(),
            serde_json::json!({"event": "error", "code": "NAME_TAKEN", "message": "taken", "help": "choose another"})
        );
    }

    #[test]
    fn a_full_disk_says_so() {
        let source = io::Error::from(io::ErrorKind::StorageFull);
        let failure = Failure::from(FileError { action: "write", path: "/x/y".into(), source });
        assert!(failure.message().starts_with("cannot write /x/y: "), "{}", failure.message());
        assert!(failure.help().contains("Free some space"));
    }

    #[test]
    fn causes_are_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer: inner")]
        struct Outer(#[source] io::Error);
        assert_eq!(chain(&Outer(io::Error::other("inner"))), "outer: inner");
        assert_eq!(chain(&Outer(io::Error::other("deep"))), "outer: inner: deep");
    }
}
