//! Where an invite comes from: the environment, a prompt, or standard input. Never the command line, which others on
//! the machine can read and shells keep.

use std::io::{self, IsTerminal, Read};

use zeroize::Zeroizing;

use crate::context::Context;
use crate::failure::Failure;

/// No invite is longer.
const LONGEST: u64 = 4 * 1024;

pub(crate) fn invite(context: &Context) -> Result<Zeroizing<String>, Failure> {
    if let Some(secret) = &context.env.pair_secret {
        return Ok(secret.clone());
    }
    read("Invite: ", "there is nobody to ask for the invite", "Set MYTUNNEL_PAIR_SECRET, or pipe it in.")
}

fn read(prompt: &str, nobody: &str, help: &str) -> Result<Zeroizing<String>, Failure> {
    if io::stdin().is_terminal() {
        return rpassword::prompt_password(prompt)
            .map(Zeroizing::new)
            .map_err(|_| Failure::usage(nobody, help));
    }
    let mut text = Zeroizing::new(String::new());
    let read = io::stdin().lock().take(LONGEST).read_to_string(&mut text);
    read.map_err(|error| Failure::local(format!("cannot read standard input: {error}"), help))?;
    if text.trim().is_empty() { Err(Failure::usage(nobody, help)) } else { Ok(text) }
}
