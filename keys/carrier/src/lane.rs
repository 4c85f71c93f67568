//! The fast lane: TLS 1.3 over TCP between the very keys that libp2p's handshake proves.
//!
//! A lane carries one pipe after another without a multiplexer in between. Neither end shows an X.509 certificate:
//! each shows its Ed25519 key as a raw public key (RFC 7250), so that the node proves possession of the key that its
//! certificate names, and the relay the key that the node dialled. What a lane may then do is decided elsewhere, by
//! the registration that this key holds.
//!
//! AES-GCM comes first because both ends are expected to have it in hardware; ChaCha20 stays for those that do not.
//! There is no session resumption: a lane lives long, and a ticket would outlive a revocation.

use std::sync::Arc;

use mytunnel_keys::{id::PublicKey, secret::Seed, wire::LANE_ALPN};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible,
    ServerConfig, SignatureScheme,
    client::{
        AlwaysResolvesClientRawPublicKeys, Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature_with_raw_key},
    pki_types::{
        CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
    },
    server::{
        AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
    version::TLS13,
};

/// An Ed25519 `SubjectPublicKeyInfo` up to its 32 bytes of key (RFC 8410 §4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// An Ed25519 PKCS #8 key of version 1 up to its 32 bytes of seed (RFC 8410 §7).
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// The relay's side: takes any node's key, which [`peer_key`] then tells.
///
/// # Errors
/// When the key cannot be used by the TLS library.
pub fn server_config(identity: &Seed) -> Result<ServerConfig, Error> {
    let provider = provider();
    let key = certified(identity, &provider)?;
    let verifier = Keys::any(&provider);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(key)));
    config.alpn_protocols = vec![LANE_ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// The node's side: accepts the relay of this key and no other.
///
/// # Errors
/// When the key cannot be used by the TLS library.
pub fn client_config(identity: &Seed, relay: &PublicKey) -> Result<ClientConfig, Error> {
    let provider = provider();
    let key = certified(identity, &provider)?;
    let verifier = Keys::only(relay, &provider);
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(key)));
    config.alpn_protocols = vec![LANE_ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok(config)
}

/// The key that the other end of a finished handshake has proved.
pub fn peer_key(presented: Option<&[CertificateDer<'_>]>) -> Option<PublicKey> {
    match presented {
        Some([key]) => parse(key),
        _ => None,
    }
}

fn parse(spki: &[u8]) -> Option<PublicKey> {
    let key = spki.strip_prefix(&SPKI_PREFIX)?.try_into().ok()?;
    PublicKey::from_bytes(key).ok()
}

fn provider() -> Arc<CryptoProvider> {
    use aws_lc_rs::cipher_suite::{
        TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
    };
    let cipher_suites =
        vec![TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256];
    Arc::new(CryptoProvider { cipher_suites, ..aws_lc_rs::default_provider() })
}

fn certified(identity: &Seed, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, Error> {
    let mut pkcs8 = PKCS8_PREFIX.to_vec();
    pkcs8.extend_from_slice(identity.expose());
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8));
    let key = provider.key_provider.load_private_key(key)?;
    let mut spki = SPKI_PREFIX.to_vec();
    spki.extend_from_slice(identity.public().as_bytes());
    Ok(Arc::new(CertifiedKey::new(vec![CertificateDer::from(spki)], key)))
}

/// Verifies raw Ed25519 keys: well formed, not weak, and the expected one where there is one.
#[derive(Debug)]
struct Keys {
    expected: Option<PublicKey>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Keys {
    fn any(provider: &CryptoProvider) -> Self {
        Self { expected: None, algorithms: provider.signature_verification_algorithms }
    }

    fn only(key: &PublicKey, provider: &CryptoProvider) -> Self {
        Self { expected: Some(*key), ..Self::any(provider) }
    }

    fn check(&self, presented: &CertificateDer<'_>, chain: &[CertificateDer<'_>]) -> Result<(), Error> {
        let key = parse(presented).filter(|_| chain.is_empty());
        let key = key.ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
        if self.expected.as_ref().is_some_and(|expected| *expected != key) {
            return Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure));
        }
        Ok(())
    }

    fn signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = SubjectPublicKeyInfoDer::from(key.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signature, &self.algorithms)
    }
}

impl ServerCertVerifier for Keys {
    fn verify_server_cert(
        &self,
        presented: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(presented, chain).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _key: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, key, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Keys {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        presented: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(presented, chain).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _key: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, key, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    fn seed(byte: u8) -> Seed {
        Seed::from_bytes([byte; 32])
    }

    async fn handshake(
        node: &Seed,
        dialled: &PublicKey,
        relay: &Seed,
    ) -> Result<(Vec<u8>, PublicKey), Error> {
        let acceptor = TlsAcceptor::from(Arc::new(server_config(relay)?));
        let connector = TlsConnector::from(Arc::new(client_config(node, dialled)?));
        let (near, far) = tokio::io::duplex(16 << 10);
        let name = ServerName::try_from("relay").map_err(|_| Error::General("a name".to_owned()))?;
        let node = async {
            let mut stream = connector.connect(name, near).await?;
            stream.write_all(b"hello").await?;
            stream.shutdown().await
        };
        let relay = async {
            let mut stream = acceptor.accept(far).await?;
            let mut text = Vec::new();
            stream.read_to_end(&mut text).await?;
            let key = peer_key(stream.get_ref().1.peer_certificates());
            std::io::Result::Ok((text, key))
        };
        let (sent, received) = tokio::join!(node, relay);
        sent.map_err(|error| Error::General(error.to_string()))?;
        let (text, key) = received.map_err(|error| Error::General(error.to_string()))?;
        Ok((text, key.expect("a finished handshake has proved a key")))
    }

    #[tokio::test]
    async fn both_ends_learn_the_others_key() {
        let (node, relay) = (seed(1), seed(2));
        let (text, key) = handshake(&node, &relay.public(), &relay).await.unwrap();
        assert_eq!((text.as_slice(), key), (b"hello".as_slice(), node.public()));
    }

    #[tokio::test]
    async fn a_relay_with_another_key_is_refused() {
        let refused = handshake(&seed(1), &seed(3).public(), &seed(2)).await;
        assert!(refused.is_err(), "{refused:?}");
    }

    #[tokio::test]
    async fn a_stranger_without_a_key_is_refused() {
        let acceptor = TlsAcceptor::from(Arc::new(server_config(&seed(2)).unwrap()));
        let provider = provider();
        let verifier = Arc::new(Keys::only(&seed(2).public(), &provider));
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.alpn_protocols = vec![LANE_ALPN.to_vec()];
        let connector = TlsConnector::from(Arc::new(config));
        let (near, far) = tokio::io::duplex(16 << 10);
        let name = ServerName::try_from("relay").unwrap();
        let (_, accepted) = tokio::join!(connector.connect(name, near), acceptor.accept(far));
        assert!(accepted.is_err());
    }

    #[test]
    fn a_weak_key_is_no_key() {
        let mut weak = SPKI_PREFIX.to_vec();
        weak.extend_from_slice(&{
            let mut identity_point = [0; 32];
            identity_point[0] = 1;
            identity_point
        });
        assert_eq!(peer_key(Some(&[CertificateDer::from(weak)])), None);
        assert_eq!(peer_key(Some(&[])), None);
        assert_eq!(peer_key(None), None);
    }
}
