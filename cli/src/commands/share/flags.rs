//! The flags that say what a share asks of its visitors.

use mytunnel_keys::network::Network;

/// What visitors have to pass, every one of these; it stays with the name.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "What visitors have to pass")]
pub(crate) struct GateFlags {
    /// Ask visitors for this user name and a password, before the first can enter; it stays with the name
    #[arg(long, value_name = "USER[:PASSWORD]")]
    pub(crate) basic: Option<String>,

    /// Ask visitors for a PIN of six digits or more; without one here it is made, and shown once
    #[arg(long, value_name = "PIN", num_args = 0..=1)]
    pub(crate) pin: Option<Option<String>>,

    /// Let programs in that send this token, in place of what people are asked; without one here it is made, and shown once
    #[arg(long, value_name = "TOKEN", num_args = 0..=1)]
    pub(crate) bearer: Option<Option<String>>,

    #[command(flatten)]
    pub(crate) addresses: AddressFlags,

    /// Ask visitors to sign in with Google
    #[arg(long, conflicts_with = "oidc", group = "sign_in")]
    pub(crate) google: bool,

    /// Ask visitors to sign in with a provider of the relay, by its id or its issuer's address
    #[arg(long, value_name = "ID|ISSUER", group = "sign_in")]
    pub(crate) oidc: Option<String>,

    /// Who may enter that has signed in: an address, or @domain for everybody there; may be repeated
    #[arg(long, value_name = "@DOMAIN|EMAIL", requires = "sign_in")]
    pub(crate) allow: Vec<String>,
}

/// Where visitors may come from.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct AddressFlags {
    /// Let visitors in from this address or network only; may be repeated
    #[arg(long, value_name = "CIDR")]
    pub(crate) allow_ip: Vec<Network>,

    /// Keep visitors from this address or network out, also if allowed; may be repeated
    #[arg(long, value_name = "CIDR")]
    pub(crate) deny_ip: Vec<Network>,
}

impl GateFlags {
    /// Whom visitors sign in with.
    pub(crate) fn provider(&self) -> Option<&str> {
        if self.google { Some("google") } else { self.oidc.as_deref() }
    }
}
