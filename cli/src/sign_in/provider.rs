//! Signing in at another provider: in a browser, on whatever machine, from which the person carries a code back here.
//!
//! The address names a challenge only. Whoever makes somebody else open it has no code, and whoever sees the code has not
//! what opens the challenge: that never leaves this process but in the exchange at the end.

use std::io::IsTerminal as _;

use data_encoding::BASE64URL_NOPAD;
use mytunnel_keys::api::{LoginAnswer, Providers, SignInCode};
use mytunnel_keys::error::Code;
use mytunnel_keys::token::ServerUrl;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{Access, TRIES, complete, line};
use crate::api::{Api, As};
use crate::context::{Context, random};
use crate::failure::Failure;
use crate::report::Style;

/// Signs in at the provider of that id.
pub(crate) fn by_provider(
    api: &Api,
    context: &Context,
    server: &ServerUrl,
    id: &str,
) -> Result<Access, Failure> {
    let providers: Providers = api.get(As::Anyone, "/auth/providers")?;
    let Some(provider) = providers.providers.iter().find(|provider| provider.id == id) else {
        return Err(Failure::usage(format!("{server} has no sign-in called {id}"), known(&providers)));
    };
    let verifier = Zeroizing::new(BASE64URL_NOPAD.encode(Zeroizing::new(random::<32>()?).as_slice()));
    let challenge = BASE64URL_NOPAD.encode(&Sha256::digest(verifier.as_bytes()));
    let url = format!("{}/api/v1/auth/oauth/{id}/start?terminal={challenge}", server.base());
    context.report.object(&json!({"event": "sign_in", "url": url}));
    context
        .report
        .note(format_args!("Open this in a browser, on any machine, and sign in with {}:", provider.name));
    context.report.line(context.report.styled(Style::Strong, &url));
    let mut tries = if std::io::stdin().is_terminal() { TRIES } else { 1 };
    loop {
        let code = line("Code that the browser shows: ")
            .map_err(|error| Failure::local(format!("cannot read the code: {error}"), "Try again."))?;
        let code = code.ok_or_else(|| {
            Failure::usage(
                "the code did not come; nobody is signed in",
                "Type the code that the browser shows, or write it to standard input.",
            )
        })?;
        let asked = SignInCode { code: code.as_str().to_owned(), verifier: verifier.as_str().to_owned() };
        tries -= 1;
        match api.post::<LoginAnswer>(As::Anyone, "/auth/oauth/code", &asked) {
            Ok(answer) => return complete(api, context, answer),
            Err(failure) if failure.code() == Code::InvalidKey && tries > 0 => {
                context.report.warn(failure.message());
            }
            Err(failure) if failure.code() == Code::InvalidKey => {
                return Err(failure
                    .with_help("Run this again, and type the code of the new page within five minutes."));
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// How else somebody may sign in there, for those whom a password does not help; none if there is no other way.
pub(crate) fn others(api: &Api, server: &ServerUrl) -> Option<String> {
    // Where they cannot be asked for, the password is the way.
    let listed: Providers = api.get(As::Anyone, "/auth/providers").ok()?;
    let ways = listed.providers.iter().map(|provider| {
        format!("with {}: `mytunnel login '{server}' --sign-in {}`", provider.name, provider.id)
    });
    let ways: Vec<String> = ways.collect();
    (!ways.is_empty()).then(|| ways.join(", "))
}

fn known(providers: &Providers) -> String {
    let ids: Vec<&str> = providers.providers.iter().map(|provider| provider.id.as_str()).collect();
    match ids.is_empty() {
        true => "Sign in with the password; its operator can add others by [[sign_in]].".to_owned(),
        false => format!("It has: {}.", ids.join(", ")),
    }
}
