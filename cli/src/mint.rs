//! Making a child key: the pair is made here, the coordinator sees the public half only.

use mytunnel_keys::api::{Mint, MintAnswer};
use mytunnel_keys::id::{NamePattern, ProjectId, Scope, Scopes};
use mytunnel_keys::secret::Seed;
use mytunnel_keys::token::{ChildToken, Secret};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::context::{Context, random};
use crate::credentials::PendingSeed;
use crate::failure::Failure;
use crate::session::Session;
use crate::span;

/// The largest budget of a month, in cents.
pub(crate) const MAX_BUDGET: u64 = 1_000_000_000;

/// What can be said about a key to be made, by a master key or a person.
#[derive(Debug, clap::Args)]
pub(crate) struct MintOptions {
    /// Life of the key, 1m to 24h
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = span::parse_ttl)]
    pub(crate) ttl: u64,

    /// What the key may share, of http, tcp, udp, private, pair, tls [default: all but tls]
    #[arg(long, value_name = "KINDS", value_parser = scopes)]
    pub(crate) scope: Option<Scopes>,

    /// Only this name, or names with this beginning (pr-*); repeatable [default: any]
    #[arg(long, visible_alias = "name", value_name = "NAME")]
    pub(crate) subdomain: Vec<NamePattern>,

    /// Cents that the key may cost in a month, beside what the key that mints it may [default: that alone]
    #[arg(long, value_name = "CENTS", value_parser = clap::value_parser!(u64).range(1..=MAX_BUDGET))]
    pub(crate) budget: Option<u64>,

    /// Put the secret into the printed key, so that it works on another machine
    #[arg(long)]
    pub(crate) portable: bool,

    /// Print `export` lines for eval
    #[arg(long)]
    pub(crate) output_env: bool,
}

impl MintOptions {
    /// A key for as long as keys may live, that no other process will use; with this scope alone, if one is named.
    pub(crate) fn for_one_share(scope: Option<Scope>) -> Self {
        Self {
            ttl: span::MAX_TTL,
            scope: scope.map(|scope| Scopes::from_iter([scope])),
            subdomain: Vec::new(),
            budget: None,
            portable: false,
            output_env: false,
        }
    }
}

fn scopes(text: &str) -> Result<Scopes, String> {
    let words = Scope::ALL.map(Scope::as_str).join(", ");
    text.parse().map_err(|error| format!("{error}; choose of {words}, with commas between them"))
}

/// A key that was just made.
pub(crate) struct Minted {
    pub(crate) token: Zeroizing<String>,
    pub(crate) answer: MintAnswer,
    pub(crate) bound: bool,
}

/// Makes a key. The secret of a bound one is on disk before the coordinator is asked.
pub(crate) fn mint(
    context: &Context,
    session: &Session,
    options: &MintOptions,
    project: Option<ProjectId>,
) -> Result<Minted, Failure> {
    let seed = Seed::from_bytes(random()?);
    let config = context.config_dir()?;
    let pending = if options.portable { None } else { Some(PendingSeed::write(&config, &seed)?) };
    let answer = ask(session, &seed, options, project)?;
    let secret = match pending {
        Some(pending) => {
            pending.keep(&config, answer.serial)?;
            Secret::Bound
        }
        None => Secret::Portable(seed),
    };
    let token =
        ChildToken::new(secret, answer.certificate.clone(), *session.root(), session.server().clone())?;
    Ok(Minted { token: token.into_token().to_text(), answer, bound: !options.portable })
}

/// Asks for a certificate for the public half of a pair that was made here.
pub(crate) fn ask(
    session: &Session,
    seed: &Seed,
    options: &MintOptions,
    project: Option<ProjectId>,
) -> Result<MintAnswer, Failure> {
    let request = Mint {
        public_key: seed.public(),
        ttl: options.ttl,
        project,
        scopes: options.scope,
        hosts: options.subdomain.clone(),
        budget_cents: options.budget,
        bound: !options.portable,
        replaces: None,
    };
    session.post("/mint", &request)
}

/// Prints a key in the form that was asked for.
pub(crate) fn print(context: &Context, options: &MintOptions, minted: &Minted) {
    let report = context.report;
    let (token, project) = (minted.token.as_str(), minted.answer.project.to_string());
    report.object(&MintedObject {
        token,
        serial: minted.answer.serial.to_string(),
        project: &project,
        expires_at: minted.answer.expires_at,
        bound: minted.bound,
    });
    if options.output_env {
        report.line(format_args!("export MYTUNNEL_AUTH_TOKEN={}", shell_quoted(token)));
        report.line(format_args!("export MYTUNNEL_PROJECT={}", shell_quoted(&project)));
    } else {
        report.line(token);
    }
}

#[derive(Serialize)]
struct MintedObject<'a> {
    token: &'a str,
    serial: String,
    project: &'a str,
    expires_at: u64,
    bound: bool,
}

/// A word that a POSIX shell reads back as it is. What a server answers ends up in `eval`.
pub(crate) fn shell_quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:@%+=".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_eval_reads_is_one_word_whatever_it_holds() {
        assert_eq!(shell_quoted("mtk_child_abc123"), "mtk_child_abc123");
        assert_eq!(shell_quoted(""), "''");
        assert_eq!(shell_quoted("a; rm -rf ~"), "'a; rm -rf ~'");
        assert_eq!(shell_quoted("it's $(x) `y`"), r"'it'\''s $(x) `y`'");
    }

    #[test]
    fn a_shell_reads_it_back() {
        for word in ["plain", "two words", "it's", "$(echo no)", "a\nb", "`x`", "\\"] {
            let script = format!("printf %s {}", shell_quoted(word));
            let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
        }
    }
}
