//! What a share asks of its visitors.

use mytunnel_keys::api::{SetAddresses, SetAuth, SetBearer, SetEdgeAuth, SetEnd, SetGate, SetPin};
use mytunnel_keys::network::Network;
use zeroize::Zeroizing;

use super::flags::{AddressFlags, GateFlags};
use crate::context::Context;
use crate::failure::Failure;
use crate::secrets;

/// The relay ends a share by its own clock a little later than the share does: then it has ended calmly already.
const LATER: u64 = 2;

/// What visitors are asked for, and until when.
#[derive(Debug, Clone)]
pub(crate) struct Asked(Vec<SetGate>);

/// What was made where nothing was given, to be told once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Made {
    pub(super) pin: Option<String>,
    pub(super) bearer: Option<String>,
}

/// What is to be asked for, with the secrets that belong to it.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) addresses: AddressFlags,
    /// A user and the password.
    pub(crate) basic: Option<(String, Zeroizing<String>)>,
    /// The number, or one that is to be made.
    pub(crate) pin: Option<Option<Zeroizing<String>>>,
    /// The token, or one that is to be made.
    pub(crate) bearer: Option<Option<Zeroizing<String>>>,
    /// With whom to sign in, and who may enter then.
    pub(crate) sign_in: Option<(String, Vec<String>)>,
    /// Seconds.
    pub(crate) expires: Option<u64>,
}

impl Wanted {
    /// Reads the flags, and secrets from elsewhere where they are not there.
    pub(super) fn read(flags: &GateFlags, expires: Option<u64>, context: &Context) -> Result<Self, Failure> {
        let basic = flags.basic.as_deref().map(|flag| password(flag, context)).transpose()?;
        let pin = flags.pin.as_ref().map(|flag| secrets::pin(context, flag.as_deref())).transpose()?;
        let token = |flag: &Option<String>| secrets::tunnel_token(context, flag.as_deref());
        let bearer = flags.bearer.as_ref().map(token).transpose()?;
        let sign_in = flags.provider().map(|provider| (provider.to_owned(), flags.allow.clone()));
        Ok(Self { addresses: flags.addresses.clone(), basic, pin, bearer, sign_in, expires })
    }

    /// Whom visitors sign in with.
    pub(super) fn provider(&self) -> Option<&str> {
        self.sign_in.as_ref().map(|(provider, _)| provider.as_str())
    }
}

impl Asked {
    /// The same, as it is set. Nothing if nothing is asked.
    pub(super) fn of(wanted: Wanted) -> Option<Self> {
        let mut gates = Vec::new();
        let AddressFlags { allow_ip, deny_ip } = &wanted.addresses;
        if !(allow_ip.is_empty() && deny_ip.is_empty()) {
            let text = |networks: &[Network]| networks.iter().map(ToString::to_string).collect();
            let (allow, deny) = (text(allow_ip), text(deny_ip));
            gates.push(SetGate::Addresses(SetAddresses { allow, deny, tunnel: None }));
        }
        if let Some((user, password)) = wanted.basic {
            gates.push(SetGate::Auth(SetAuth { user, password: (*password).clone(), tunnel: None }));
        }
        if let Some(pin) = wanted.pin {
            gates.push(SetGate::Pin(SetPin { pin: pin.map(|pin| (*pin).clone()), tunnel: None }));
        }
        if let Some(token) = wanted.bearer {
            let token = token.map(|token| (*token).clone());
            gates.push(SetGate::Bearer(SetBearer { token, tunnel: None }));
        }
        if let Some((provider, allow)) = wanted.sign_in {
            let (allowed_domains, allowed_emails) = allowed(&allow);
            let asked = SetEdgeAuth { provider, allowed_domains, allowed_emails, tunnel: None };
            gates.push(SetGate::EdgeAuth(asked));
        }
        if let Some(seconds) = wanted.expires {
            let expires_in = seconds.saturating_add(LATER);
            gates.push(SetGate::End(SetEnd { expires_in, tunnel: None }));
        }
        (!gates.is_empty()).then_some(Self(gates))
    }

    #[cfg(test)]
    pub(super) const fn new(gates: Vec<SetGate>) -> Self {
        Self(gates)
    }

    pub(crate) fn gates(&self) -> &[SetGate] {
        &self.0
    }

    /// What a relay can ask for without reading anything, and what is left for who ends TLS. Where visitors come from is looked
    /// at by both.
    pub(super) fn split(self) -> (Option<Self>, Vec<SetGate>) {
        let blind = |gate: &SetGate| matches!(gate, SetGate::Addresses(_) | SetGate::End(_));
        let at_relay: Vec<_> = self.0.iter().filter(|gate| blind(gate)).cloned().collect();
        let here = self.0.into_iter().filter(|gate| !matches!(gate, SetGate::End(_))).collect();
        ((!at_relay.is_empty()).then_some(Self(at_relay)), here)
    }
}

/// What begins with `@` is a domain. What neither may be is for the server to say.
pub(crate) fn allowed(allow: &[String]) -> (Vec<String>, Vec<String>) {
    let (domains, emails): (Vec<&String>, Vec<&String>) =
        allow.iter().partition(|entry| entry.starts_with('@'));
    let domains = domains.iter().map(|domain| domain[1..].to_owned()).collect();
    (domains, emails.into_iter().cloned().collect())
}

/// Reads `USER[:PASSWORD]`, and the password from elsewhere where it is not there.
fn password(flag: &str, context: &Context) -> Result<(String, Zeroizing<String>), Failure> {
    let (user, password) = flag.split_once(':').map_or((flag, None), |(user, rest)| (user, Some(rest)));
    if user.is_empty() {
        return Err(Failure::usage("--basic needs a user name", "Write --basic USER."));
    }
    let password = secrets::tunnel_password(context, None, password.map(|text| ("--basic", text)))?;
    Ok((user.to_owned(), password))
}

impl Made {
    pub(super) fn take(&mut self, gate: &SetGate, secret: Option<String>) {
        match gate {
            SetGate::Pin(_) => self.pin = secret,
            SetGate::Bearer(_) => self.bearer = secret,
            SetGate::Auth(_) | SetGate::EdgeAuth(_) | SetGate::Addresses(_) | SetGate::End(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Environment;
    use crate::report::Report;

    fn read(flags: &GateFlags, expires: Option<u64>) -> Vec<String> {
        let report = Report::new(true, true);
        let context = Context { env: Environment::default(), report };
        let asked = Asked::of(Wanted::read(flags, expires, &context).unwrap());
        asked.map_or_else(Vec::new, |asked| {
            let bodies = asked
                .0
                .iter()
                .map(|gate| format!("{} {}", gate.path(), serde_json::to_string(gate).unwrap()));
            bodies.collect()
        })
    }

    #[test]
    fn flags_become_the_gates_that_they_name() {
        assert_eq!(read(&GateFlags::default(), None), Vec::<String>::new());
        let flags = GateFlags {
            pin: Some(None),
            bearer: Some(Some("sixteen-letters-or-more".to_owned())),
            addresses: AddressFlags { allow_ip: vec!["10.0.0.0/8".parse().unwrap()], deny_ip: vec![] },
            google: true,
            allow: vec!["@acme.example".to_owned(), "ann@b.example".to_owned()],
            ..GateFlags::default()
        };
        assert_eq!(
            read(&flags, Some(60)),
            [
                r#"gates/ip {"allow":["10.0.0.0/8"],"deny":[]}"#,
                "gates/pin {}",
                r#"gates/bearer {"token":"sixteen-letters-or-more"}"#,
                r#"edge-auth {"provider":"google","allowed_domains":["acme.example"],"allowed_emails":["ann@b.example"]}"#,
                r#"expires {"expires_in":62}"#,
            ]
        );
    }

    #[test]
    fn where_tls_ends_here_the_relay_is_left_what_it_can_see() {
        let flags = GateFlags {
            pin: Some(None),
            addresses: AddressFlags { allow_ip: vec!["10.0.0.0/8".parse().unwrap()], deny_ip: vec![] },
            ..GateFlags::default()
        };
        let context = Context { env: Environment::default(), report: Report::new(true, true) };
        let asked = Asked::of(Wanted::read(&flags, Some(60), &context).unwrap()).unwrap();
        let paths = |gates: &[SetGate]| gates.iter().map(SetGate::path).collect::<Vec<_>>();
        let (at_relay, here) = asked.split();
        assert_eq!(paths(&at_relay.unwrap().0), ["gates/ip", "expires"]);
        assert_eq!(paths(&here), ["gates/ip", "gates/pin"]);
    }

    #[test]
    fn domains_begin_with_an_at_and_addresses_have_it_inside() {
        let (domains, emails) =
            allowed(&["@acme.example".to_owned(), "ann@b.example".to_owned(), "c".to_owned()]);
        assert_eq!(domains, ["acme.example"]);
        assert_eq!(emails, ["ann@b.example", "c"]);
    }
}
