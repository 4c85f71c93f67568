//! `[[sign_in]]`: who else may vouch for people.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mytunnel_sign_in::{Client, Provider, Settings};
use serde::Deserialize;

use super::{NameServer, SecretRef};
use crate::failure::Failure;
use crate::settings::referenced;

/// One `[[sign_in]]` of `relay.toml` or of the coordinator's file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignInFile {
    id: String,
    name: Option<String>,
    issuer: Option<String>,
    client_id: String,
    client_secret: SecretRef,
    #[serde(default)]
    allowed_domains: Vec<String>,
    ca: Option<PathBuf>,
}

/// The file of `mytunnel coordinator --config`.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CoordinatorFile {
    pub(crate) metrics_token: Option<SecretRef>,
    #[serde(default)]
    pub(crate) name_servers: Vec<NameServer>,
    #[serde(default)]
    pub(crate) sign_in: Vec<SignInFile>,
}

/// Everybody who vouches, with their secrets read.
pub(crate) fn client(files: Vec<SignInFile>) -> Result<Arc<Client>, Failure> {
    let wrong = |error: mytunnel_sign_in::SettingsError| {
        Failure::usage(format!("[[sign_in]]: {error}"), "Mend it in the file of settings.")
    };
    let providers = files.into_iter().map(|file| {
        let client_secret = referenced(&file.client_secret)?;
        let SignInFile { id, name, issuer, client_id, allowed_domains, ca, .. } = file;
        let authorities = ca.map(|path| authorities(&path)).transpose()?;
        let settings = Settings { id, name, issuer, client_id, client_secret, allowed_domains, authorities };
        Provider::new(settings).map_err(wrong)
    });
    Client::new(providers.collect::<Result<_, _>>()?).map(Arc::new).map_err(wrong)
}

fn authorities(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| {
        Failure::usage(
            format!("[[sign_in]]: cannot read ca = '{}': {error}", path.display()),
            "Name the file that holds the certificate of the authority which vouches for the issuer.",
        )
    })
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::config::parse;

    fn read(text: &str) -> Result<Arc<Client>, Failure> {
        let file: CoordinatorFile = parse(Path::new("coordinator.toml"), text)?;
        client(file.sign_in)
    }

    #[test]
    fn providers_are_read_with_their_secrets_from_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("secret");
        crate::files::write_private(&secret, b"s3cret\n").unwrap();
        let one = |more: &str| {
            format!(
                "[[sign_in]]\nclient_id = 'me'\nclient_secret = {{ file = '{}' }}\n{more}\n",
                secret.display()
            )
        };
        let client =
            read(&(one("id = 'google'") + &one("id = 'co'\nissuer = 'https://id.example.com'"))).unwrap();
        let names: Vec<String> =
            client.providers().iter().map(|provider| provider.name().to_owned()).collect();
        assert_eq!(names, ["Google", "co"]);
        assert!(!format!("{client:?}").contains("s3cret"));

        for bad in [
            one("id = 'co'"),
            one("id = 'co'\nissuer = 'http://id.example.com'"),
            one("id = 'google'") + &one("id = 'google'"),
            one("id = 'google'\nallowed_domains = ['@a.com']"),
            one("id = 'google'\ndomains = ['a.com']"),
            one("id = 'google'\nca = '/no/such.pem'"),
            one(&format!("id = 'google'\nca = '{}'", secret.display())),
            "[[sign_in]]\nid = 'google'\nclient_id = 'me'\nclient_secret = 's3cret'".to_owned(),
            "[[sign_in]]\nid = 'google'\nclient_id = 'me'\nclient_secret = { file = '/no/such' }".to_owned(),
        ] {
            let failure = read(&bad).unwrap_err();
            assert_eq!(failure.exit_code(), 2, "{bad}");
            assert!(!failure.message().contains("s3cret"), "{}", failure.message());
        }
    }
}
