//! The code that people speak: `7-amber-otter-plume`. The number tells hosts apart, the three words prove.
//!
//! Three words are 31 bits, few enough to try them all. SPAKE2 makes that useless: who listens learns nothing to try
//! words against, and each try against the host itself is one of three that it grants. The crate is the maintained
//! one, not audited and not of constant time; nothing but this module knows it.

use spake2::{Ed25519Group, Identity, Password, Spake2};
use zeroize::Zeroizing;

use crate::{
    handshake::{Ends, Refused},
    secret::{self, Psk},
    words,
};

/// Bytes of a message of SPAKE2.
pub(crate) const MESSAGE: usize = 33;
/// Numbers are easily said.
pub(crate) const NUMBERS: u16 = 999;

/// A spoken code.
#[derive(Clone)]
pub(crate) struct Spoken {
    number: u16,
    /// All of it, as it is compared.
    text: Zeroizing<String>,
}

/// A guest who waits for the host's message.
pub(crate) struct Asked {
    state: Spake2<Ed25519Group>,
    message: [u8; MESSAGE],
}

impl Spoken {
    /// Of random bits.
    pub(crate) fn new(number: u16, bits: u64) -> Self {
        let number = number % NUMBERS + 1;
        Self { number, text: Zeroizing::new(format!("{number}-{}", words::three(bits))) }
    }

    /// What somebody typed: a number, and words behind it. Case and spaces do not count.
    pub(crate) fn parse(typed: &str) -> Option<Self> {
        let text = Zeroizing::new(words::normal(typed.get(..200).unwrap_or(typed)));
        let (number, words) = text.split_once('-')?;
        let number = number.parse().ok().filter(|number| (1..=NUMBERS).contains(number))?;
        (words.split('-').count() >= 3).then(|| Self { number, text: text.clone() })
    }

    pub(crate) const fn number(&self) -> u16 {
        self.number
    }

    pub(crate) fn text(&self) -> &Zeroizing<String> {
        &self.text
    }

    /// The guest's side, with its message.
    pub(crate) fn ask(&self, ends: &Ends) -> Result<(Asked, [u8; MESSAGE]), Refused> {
        let [guest, host] = identities(ends);
        let (state, message) =
            Spake2::<Ed25519Group>::start_a(&Password::new(self.text.as_bytes()), &guest, &host);
        let message = message.try_into().map_err(|_| Refused)?;
        Ok((Asked { state, message }, message))
    }

    /// The host's side: what the guest has to prove, and the host's message.
    pub(crate) fn answer(&self, ends: &Ends, asked: &[u8; MESSAGE]) -> Result<(Psk, Vec<u8>), Refused> {
        let [guest, host] = identities(ends);
        let (state, message) =
            Spake2::<Ed25519Group>::start_b(&Password::new(self.text.as_bytes()), &guest, &host);
        let key = Zeroizing::new(state.finish(asked).map_err(|_| Refused)?);
        Ok((secret::of_code(&key, asked, &message), message))
    }
}

impl Asked {
    /// With the host's message.
    pub(crate) fn finish(self, answer: &[u8]) -> Result<Psk, Refused> {
        let key = Zeroizing::new(self.state.finish(answer).map_err(|_| Refused)?);
        Ok(secret::of_code(&key, &self.message, answer))
    }
}

impl std::fmt::Debug for Spoken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Spoken(…)")
    }
}

fn identities(ends: &Ends) -> [Identity; 2] {
    [Identity::new(&ends.guest.to_bytes()), Identity::new(&ends.host.to_bytes())]
}

#[cfg(test)]
mod tests {
    use mytunnel_keys::secret::Seed;

    use super::*;

    fn ends(host: u8) -> Ends {
        let peer = |byte| mytunnel_carrier::peer_id(&Seed::from_bytes([byte; 32]).public());
        Ends { host: peer(host), guest: peer(2) }
    }

    fn both(guest: &Spoken, host: &Spoken, of_guest: &Ends, of_host: &Ends) -> [Psk; 2] {
        let (asked, message) = guest.ask(of_guest).unwrap();
        let (psk, answer) = host.answer(of_host, &message).unwrap();
        [asked.finish(&answer).unwrap(), psk]
    }

    #[test]
    fn who_has_the_same_code_comes_to_the_same_secret_and_nobody_else() {
        let (code, other) = (Spoken::new(6, 1), Spoken::new(6, 2));
        let [guest, host] = both(&code, &code, &ends(1), &ends(1));
        assert_eq!(*guest, *host);
        let [again, _] = both(&code, &code, &ends(1), &ends(1));
        assert_ne!(*again, *guest);
        let [guest, host] = both(&code, &other, &ends(1), &ends(1));
        assert_ne!(*guest, *host);
        // Somebody who passes the messages of one host on to another guest gains nothing.
        let [guest, host] = both(&code, &code, &ends(1), &ends(3));
        assert_ne!(*guest, *host);
    }

    #[test]
    fn a_code_is_read_as_it_is_spoken() {
        let code = Spoken::new(998, 77);
        assert_eq!(code.number(), 999);
        let spoken = code.text().to_uppercase().replace('-', " ");
        assert_eq!(Spoken::parse(&spoken).map(|read| read.text().clone()), Some(code.text().clone()));
        for wrong in ["", "7", "7-a-b", "0-a-b-c", "1000-a-b-c", "x-a-b-c", "pair1-a-b-c"] {
            assert!(Spoken::parse(wrong).is_none(), "{wrong}");
        }
        assert_eq!(format!("{code:?}"), "Spoken(…)");
    }
}
