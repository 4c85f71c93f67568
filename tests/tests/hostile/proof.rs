//! A guest's half of the handshake, written from the page that describes it and not from the program: a hello, three messages
//! of Noise, and what is sealed behind them.

use anyhow::{Context, Result, ensure};
use ciborium::{Value, cbor};
use hkdf::Hkdf;
use mytunnel_carrier::libp2p::{PeerId, Stream};
use mytunnel_keys::secret::Seed;
use mytunnel_pairing::Link;
use sha2::{Digest as _, Sha256};
use snow::{
    HandshakeState, TransportState,
    params::{CipherChoice, DHChoice, HashChoice},
    resolvers::{CryptoResolver, RingResolver},
    types::{Cipher, Dh, Hash, Random},
};
use x25519_dalek::{X25519_BASEPOINT_BYTES, x25519};

use crate::stranger::{Stranger, framed, hear, say};

/// The hello of who was handed a link.
pub(crate) fn hello(invite: [u8; 8]) -> Vec<u8> {
    [&[0], invite.as_slice()].concat()
}

/// A guest who has said its hello and waits for the host's message.
pub(crate) struct Guest {
    noise: HandshakeState,
    pub(crate) stream: Stream,
    pub(crate) second: Vec<u8>,
}

/// A guest who has proved.
pub(crate) struct Proved {
    pub(crate) noise: TransportState,
    pub(crate) stream: Stream,
}

/// A seat that was given to a guest.
pub(crate) struct Seat {
    seat: [u8; 8],
    secret: [u8; 32],
    attempt: u32,
}

/// The secret that a link's guest proves.
pub(crate) fn of_link(link: &Link) -> Result<[u8; 32]> {
    derive(&secret(link)?, "mytunnel pair link 1", link.invite.as_bytes())
}

/// The secret of a link, which lies behind version, flags and the invite's id.
fn secret(link: &Link) -> Result<[u8; 32]> {
    let text = link.to_text();
    let payload = text.strip_prefix("pair1-").and_then(|rest| rest.rsplit_once('-')).context("a link")?.0;
    let payload = data_encoding::BASE64URL_NOPAD.decode(payload.as_bytes())?;
    Ok(*payload[10..].first_chunk().context("a secret")?)
}

/// Message 1 for this hello.
pub(crate) fn first(at: &Stranger, hello: &[u8], psk: &[u8; 32]) -> Result<(HandshakeState, Vec<u8>)> {
    let mut noise = begin(hello, &at.host, &at.peer, psk, true)?;
    let first = write(&mut noise, &[])?;
    Ok((noise, first))
}

impl Guest {
    /// Says hello and message 1, and hears message 2.
    pub(crate) async fn begin(at: &Stranger, hello: &[u8], psk: &[u8; 32]) -> Result<Self> {
        let mut stream = at.open().await?;
        say(&mut stream, &framed(hello)).await?;
        Self::go_on(stream, at, hello, psk).await
    }

    /// The same behind the hello, on a stream.
    pub(crate) async fn go_on(
        mut stream: Stream,
        at: &Stranger,
        hello: &[u8],
        psk: &[u8; 32],
    ) -> Result<Self> {
        let (noise, first) = first(at, hello, psk)?;
        say(&mut stream, &framed(&first)).await?;
        let second = hear(&mut stream).await?;
        Ok(Self { noise, stream, second })
    }

    /// Message 3, with the guest's card.
    pub(crate) fn third(&mut self) -> Result<Vec<u8>> {
        self.third_with(card)
    }

    /// The same with another card, which the handshake's hash makes.
    pub(crate) fn third_with(&mut self, card: impl FnOnce(&[u8]) -> Result<Vec<u8>>) -> Result<Vec<u8>> {
        self.noise.read_message(&self.second, &mut [0; 1024])?;
        let card = card(self.noise.get_handshake_hash())?;
        write(&mut self.noise, &card)
    }

    /// Says message 3.
    pub(crate) async fn prove(mut self) -> Result<Proved> {
        let third = self.third()?;
        say(&mut self.stream, &framed(&third)).await?;
        Ok(Proved { noise: self.noise.into_transport_mode()?, stream: self.stream })
    }
}

impl Proved {
    /// The next message of the host, of one frame: flags and what is said.
    pub(crate) async fn hear(&mut self) -> Result<Value> {
        let frame = hear(&mut self.stream).await?;
        let mut plain = vec![0; frame.len()];
        let length = self.noise.read_message(&frame, &mut plain)?;
        let message = plain[..length].split_first().context("flags")?.1;
        Ok(ciborium::from_reader(message)?)
    }

    /// A frame with these bytes in it, flags among them.
    pub(crate) fn seal(&mut self, plain: &[u8]) -> Result<Vec<u8>> {
        let mut frame = vec![0; plain.len() + 16];
        self.noise.write_message(plain, &mut frame)?;
        Ok(framed(&frame))
    }
}

impl Seat {
    /// Joins by a link.
    pub(crate) async fn join(at: &Stranger, link: &Link) -> Result<Self> {
        let hello = hello(*link.invite.as_bytes());
        let mut proved = Guest::begin(at, &hello, &of_link(link)?).await?.prove().await?;
        let first = proved.hear().await?;
        let welcome = field(&first, "welcome")?;
        let bytes = |name| field(welcome, name)?.as_bytes().context("bytes");
        let (seat, secret) = (bytes("seat")?.as_slice(), bytes("resume")?.as_slice());
        Ok(Self { seat: seat.try_into()?, secret: secret.try_into()?, attempt: 0 })
    }

    /// Comes back to it, once the daemon knows its members.
    pub(crate) async fn come_back(&mut self, at: &Stranger) -> Result<Proved> {
        self.attempt += 1;
        let context = [self.seat.as_slice(), &self.attempt.to_be_bytes()].concat();
        let psk = derive(&self.secret, "mytunnel pair resume 1", &context)?;
        let hello = [&[2], context.as_slice()].concat();
        let mut proved = Guest::begin(at, &hello, &psk).await?.prove().await?;
        let first = proved.hear().await?;
        field(&first, "resumed")?;
        Ok(proved)
    }
}

/// What is under a name in a message.
pub(crate) fn field<'a>(of: &'a Value, name: &str) -> Result<&'a Value> {
    let found = of.as_map().and_then(|map| map.iter().find(|(key, _)| key.as_text() == Some(name)));
    Ok(&found.with_context(|| format!("no {name} in {of:?}"))?.1)
}

/// What a guest says of itself, signed for its handshake.
fn card(handshake: &[u8]) -> Result<Vec<u8>> {
    let seed = Seed::from_bytes([9; 32]);
    let (name, agent, version, key) = ("mallory", "", "1", seed.public());
    let parts = [handshake, name.as_bytes(), agent.as_bytes(), version.as_bytes(), key.as_bytes()];
    let signature = seed.sign(&hash_of("mytunnel pair card 1", &parts));
    let card = cbor!({
        "name" => name,
        "agent" => agent,
        "version" => version,
        "key" => Value::serialized(&key)?,
        "signature" => Value::Bytes(signature.to_vec()),
    })?;
    let mut bytes = Vec::new();
    ciborium::into_writer(&card, &mut bytes)?;
    Ok(bytes)
}

/// Message 2 for a guest's message 1: whoever is there can make it, since the secret comes with message 3.
pub(crate) fn second(hello: &[u8], first: &[u8], host: &PeerId, guest: &PeerId) -> Result<Vec<u8>> {
    let mut noise = begin(hello, host, guest, &[0; 32], false)?;
    noise.read_message(first, &mut [0; 1024])?;
    write(&mut noise, &[])
}

fn begin(
    hello: &[u8],
    host: &PeerId,
    guest: &PeerId,
    psk: &[u8; 32],
    initiates: bool,
) -> Result<HandshakeState> {
    let builder = || -> Result<snow::Builder<'_>> {
        let pattern = "Noise_XXpsk3_25519_ChaChaPoly_SHA256".parse()?;
        Ok(snow::Builder::with_resolver(pattern, Box::new(Resolver)))
    };
    let own = builder()?.generate_keypair()?.private;
    let prologue = hash_of("mytunnel-pair/1", &[hello, &host.to_bytes(), &guest.to_bytes()]);
    let noise = builder()?.prologue(&prologue)?.local_private_key(&own)?.psk(3, psk)?;
    Ok(if initiates { noise.build_initiator() } else { noise.build_responder() }?)
}

fn write(noise: &mut HandshakeState, payload: &[u8]) -> Result<Vec<u8>> {
    let mut message = vec![0; 1024];
    let length = noise.write_message(payload, &mut message)?;
    message.truncate(length);
    Ok(message)
}

fn derive(secret: &[u8], label: &str, context: &[u8]) -> Result<[u8; 32]> {
    let (mut psk, info) = ([0; 32], [label.as_bytes(), &[0], context].concat());
    let derived = Hkdf::<Sha256>::new(None, secret).expand(&info, &mut psk);
    ensure!(derived.is_ok(), "32 bytes are within HKDF's bound");
    Ok(psk)
}

/// SHA-256 over the parts, each behind its length.
fn hash_of(label: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in std::iter::once(&label.as_bytes()).chain(parts) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

struct Resolver;

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        RingResolver.resolve_rng()
    }

    fn resolve_dh(&self, _: &DHChoice) -> Option<Box<dyn Dh>> {
        Some(Box::new(X25519::default()))
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        RingResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        RingResolver.resolve_cipher(choice)
    }
}

#[derive(Default)]
struct X25519 {
    secret: [u8; 32],
    public: [u8; 32],
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    fn set(&mut self, secret: &[u8]) {
        self.secret.copy_from_slice(secret);
        self.public = x25519(self.secret, X25519_BASEPOINT_BYTES);
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), snow::Error> {
        let mut secret = [0; 32];
        rng.try_fill_bytes(&mut secret)?;
        self.set(&secret);
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        &self.secret
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        let public = public.first_chunk::<32>().ok_or(snow::Error::Dh)?;
        out.get_mut(..32).ok_or(snow::Error::Dh)?.copy_from_slice(&x25519(self.secret, *public));
        Ok(())
    }
}
