//! Gates for who asks visitors himself, because relays cannot read what they show: by the same rules, and hashed in the same
//! way.

use mytunnel_keys::api::{SetAddresses, SetAuth, SetBearer, SetGate, SetPin};
use mytunnel_keys::feed::{BasicGate, BearerGate, Gates, PinGate, SessionKey};
use zeroize::Zeroizing;

use crate::accounts::Passwords;
use crate::authority;
use crate::coordinator::ActError;
use crate::gates::{given_or, made_pin, made_token};
use crate::http::ApiError;
use crate::random;

/// Gates, and what was made for them to be told once.
#[derive(Debug, Default)]
pub struct OwnGates {
    /// What to ask for.
    pub gates: Gates,
    /// The number, where none was given.
    pub pin: Option<String>,
    /// The token, where none was given.
    pub bearer: Option<String>,
}

impl OwnGates {
    /// Makes those of `asked` that need no relay and nobody else: a sign-in and an end are passed over.
    ///
    /// # Errors
    /// When what one says does not fit.
    pub async fn make(asked: Vec<SetGate>) -> Result<Self, ActError> {
        Ok(make(asked).await?)
    }
}

async fn make(asked: Vec<SetGate>) -> Result<OwnGates, ApiError> {
    let passwords = Passwords::of_gates();
    let mut own = OwnGates::default();
    // Nothing outlives this process that could have been proven to others of the same number.
    let generation = 1;
    for gate in asked {
        match gate {
            SetGate::Auth(SetAuth { user, password, .. }) => {
                let password = Zeroizing::new(password);
                let user = authority::gate_user(user)?;
                authority::check_gate_password(&password)?;
                let hash = passwords.hash(password).await?;
                own.gates.basic = Some(BasicGate { user, hash, generation });
            }
            SetGate::Pin(SetPin { pin, .. }) => {
                let (pin, made) = given_or(pin.map(Zeroizing::new), made_pin)?;
                authority::check_pin(&pin)?;
                let hash = passwords.hash(pin).await?;
                let session_key = SessionKey::from_bytes(random::bytes()?);
                own.gates.pin = Some(PinGate { hash, generation, session_key });
                own.pin = made;
            }
            SetGate::Bearer(SetBearer { token, .. }) => {
                let (token, made) = given_or(token.map(Zeroizing::new), made_token)?;
                authority::check_token(&token)?;
                own.gates.bearer = Some(BearerGate { hash: passwords.hash(token).await?, generation });
                own.bearer = made;
            }
            SetGate::Addresses(SetAddresses { allow, deny, .. }) => {
                own.gates.addresses = Some(authority::addresses(&allow, &deny)?);
            }
            SetGate::EdgeAuth(_) | SetGate::End(_) => {}
        }
    }
    Ok(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_asked_for_is_hashed_and_what_was_made_is_told() {
        let auth = SetAuth { user: "ann".to_owned(), password: "correct horse".to_owned(), tunnel: None };
        let pin = SetPin { pin: None, tunnel: None };
        let token = SetBearer { token: Some("sixteen-letters-or-more".to_owned()), tunnel: None };
        let asked = vec![SetGate::Auth(auth), SetGate::Pin(pin), SetGate::Bearer(token)];
        let own = OwnGates::make(asked).await.unwrap();
        assert_eq!(own.gates.names(), ["basic", "pin", "bearer"]);
        assert!(own.gates.basic.unwrap().hash.starts_with("$argon2id$"));
        assert_eq!(own.pin.unwrap().len(), 6);
        assert_eq!(own.bearer, None);
    }

    #[tokio::test]
    async fn the_rules_are_those_of_relays() {
        let auth = SetAuth { user: "ann".to_owned(), password: "short".to_owned(), tunnel: None };
        assert!(OwnGates::make(vec![SetGate::Auth(auth)]).await.is_err());
        let pin = SetPin { pin: Some("12".to_owned()), tunnel: None };
        assert!(OwnGates::make(vec![SetGate::Pin(pin)]).await.is_err());
    }
}
