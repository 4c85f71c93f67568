//! Who may come in: Noise `XXpsk3` with the invite's secret, inside the stream that libp2p has secured already.
//!
//! ```text
//! guest                         host
//!   hello, message 1   ----->
//!                      <-----   message 2
//!   message 3 (card)   ----->                 the secret and the card are checked here, and here only
//! ```
//!
//! The hash of the handshake covers the hello and both peer ids, so that nothing of it fits another stream. An unknown
//! invite goes through the same steps with a secret that nobody has: from outside it looks like a wrong secret.
//! Each state is consumed by its one message; a message that does not fit ends the handshake.

use libp2p::PeerId;
use mytunnel_keys::secret::Seed;
use snow::{HandshakeState, TransportState};
use zeroize::Zeroizing;

use crate::{card::Card, hello::Hello, limits, noise, secret, secret::Psk};

/// The two ends by what libp2p has proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    /// Who listens.
    pub host: PeerId,
    /// Who dialled.
    pub guest: PeerId,
}

/// The handshake is over: the other end has not shown what it should. Deliberately without a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the handshake failed")]
pub(crate) struct Refused;

impl From<snow::Error> for Refused {
    fn from(_: snow::Error) -> Self {
        Self
    }
}

/// A handshake that both ends have completed.
#[derive(Debug)]
pub(crate) struct Established {
    pub(crate) transport: TransportState,
    /// What both know of the handshake and nobody else can have the same of.
    pub hash: [u8; 32],
}

/// What a guest signs its card with.
#[derive(Debug)]
pub(crate) struct Signer<'a> {
    /// Name, as wished.
    pub name: &'a str,
    /// Kind of agent.
    pub agent: &'a str,
    /// Its key of this session.
    pub seed: &'a Seed,
}

/// A guest who waits for message 2.
#[derive(Debug)]
pub(crate) struct Guest(HandshakeState);

impl Guest {
    /// Begins with message 1, which goes behind the hello.
    pub(crate) fn begin(hello: Hello, psk: &Psk, ends: &Ends) -> Result<(Self, Vec<u8>), Refused> {
        let mut state = state(hello, psk, ends, |builder| builder.build_initiator())?;
        let first = write(&mut state, &[])?;
        Ok((Self(state), first))
    }

    /// Takes message 2 and gives message 3.
    pub(crate) fn prove(
        mut self,
        message: &[u8],
        signer: &Signer<'_>,
    ) -> Result<(Established, Vec<u8>), Refused> {
        read(&mut self.0, message)?;
        let card = Card::sign(signer.name, signer.agent, signer.seed, &hash(&self.0));
        let third = write(&mut self.0, &card.to_bytes())?;
        Ok((established(self.0)?, third))
    }
}

/// A host who waits for message 1.
#[derive(Debug)]
pub(crate) struct Host(HandshakeState);

/// A host who waits for message 3.
#[derive(Debug)]
pub(crate) struct HostAnswered(HandshakeState);

impl Host {
    /// Begins with what the hello names.
    pub(crate) fn begin(hello: Hello, psk: &Psk, ends: &Ends) -> Result<Self, Refused> {
        Ok(Self(state(hello, psk, ends, |builder| builder.build_responder())?))
    }

    /// Takes message 1 and gives message 2.
    pub(crate) fn answer(mut self, message: &[u8]) -> Result<(HostAnswered, Vec<u8>), Refused> {
        read(&mut self.0, message)?;
        let second = write(&mut self.0, &[])?;
        Ok((HostAnswered(self.0), second))
    }
}

impl HostAnswered {
    /// Takes message 3: who gets past here has the secret.
    pub(crate) fn verify(mut self, message: &[u8]) -> Result<(Established, Card), Refused> {
        let signed = hash(&self.0);
        let card = read(&mut self.0, message)?;
        let card = Card::open(&card, &signed).ok_or(Refused)?;
        Ok((established(self.0)?, card))
    }
}

fn state(
    hello: Hello,
    psk: &Psk,
    ends: &Ends,
    build: impl for<'a> FnOnce(snow::Builder<'a>) -> Result<HandshakeState, snow::Error>,
) -> Result<HandshakeState, Refused> {
    let prologue = secret::hash_of(
        "mytunnel-pair/1",
        &[&hello.to_bytes(), &ends.host.to_bytes(), &ends.guest.to_bytes()],
    );
    // A static key for this handshake alone: who somebody is, libp2p and the card say.
    let static_key = Zeroizing::new(noise::builder().generate_keypair()?.private);
    let builder = noise::builder().prologue(&prologue)?.local_private_key(&static_key)?.psk(3, psk)?;
    Ok(build(builder)?)
}

fn hash(state: &HandshakeState) -> [u8; 32] {
    *state.get_handshake_hash().first_chunk().expect("SHA-256 has 32 bytes")
}

fn established(state: HandshakeState) -> Result<Established, Refused> {
    let hash = hash(&state);
    Ok(Established { transport: state.into_transport_mode()?, hash })
}

fn write(state: &mut HandshakeState, payload: &[u8]) -> Result<Vec<u8>, Refused> {
    let mut message = vec![0; limits::HANDSHAKE];
    let length = state.write_message(payload, &mut message)?;
    message.truncate(length);
    Ok(message)
}

fn read(state: &mut HandshakeState, message: &[u8]) -> Result<Vec<u8>, Refused> {
    let mut payload = vec![0; limits::HANDSHAKE];
    let length = state.read_message(message, &mut payload)?;
    payload.truncate(length);
    Ok(payload)
}

#[cfg(test)]
pub(crate) mod tests;
