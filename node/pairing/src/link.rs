//! The text that lets a guest in: `pair1-PAYLOAD-CHECK`.
//!
//! The payload is base64url of version, flags, the invite's id and secret, the host's key, the end of the invite's
//! life and up to four addresses; in front of those, where there is a way through a relay, the ticket for it. It is no URL on
//! purpose: nothing that unfurls links can fetch it, and no server's log ever holds the secret. The check tells a damaged
//! paste from a wrong secret.

use std::fmt;

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use libp2p::{Multiaddr, multiaddr::Protocol};
use mytunnel_keys::{
    id::PublicKey,
    secret::TicketSecret,
    token::{TicketToken, Token},
    trust::RootFingerprint,
};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::limits;

const PREFIX: &str = "pair";
const VERSION: u8 = 1;
/// Bytes before the addresses.
const FIXED: usize = 1 + 1 + 8 + 32 + 32 + 4;
/// The flag of a link with a ticket.
const TICKET: u8 = 1;
/// Bytes of one address; a relayed one has about 90.
const ADDRESS: usize = 200;
const TEXT: usize = 2_000;

/// Which invite of a host.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InviteId([u8; 8]);

impl InviteId {
    /// Eight random bytes.
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// Of a code with this number: no link has it but by a chance of 2^-48.
    pub(crate) fn of_number(number: u16) -> Self {
        let [high, low] = number.to_be_bytes();
        Self([0, 0, 0, 0, 0, 0, high, low])
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Display for InviteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for InviteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InviteId({self})")
    }
}

/// What only who was handed the link knows.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct InviteSecret([u8; 32]);

impl InviteSecret {
    /// Thirty-two random bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for InviteSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InviteSecret(…)")
    }
}

/// The ticket for the way through a relay. It carries a guest to its host's door, and opens nothing there.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket(Zeroizing<String>);

impl Ticket {
    /// Reads the text of a ticket; nothing where it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let token = Token::parse(text).and_then(Token::into_ticket).ok()?;
        Some(Self(Token::Ticket(token).to_text()))
    }

    /// Its text, a secret until it is used.
    pub fn text(&self) -> &str {
        &self.0
    }

    fn put(&self, payload: &mut Vec<u8>) {
        // It was read when it was made.
        let Ok(token) = Token::parse(&self.0).and_then(Token::into_ticket) else { return };
        let server = token.server.as_str();
        payload.extend_from_slice(token.secret.expose());
        payload.extend_from_slice(token.root.as_bytes());
        payload.push(u8::try_from(server.len()).unwrap_or_default());
        payload.extend_from_slice(server.as_bytes());
    }

    fn take<'a>(fields: &mut Fields<'a>) -> Result<Self, LinkError> {
        let secret = TicketSecret::from_bytes(fields.take()?);
        let root = RootFingerprint::from_bytes(fields.take()?);
        let [length] = fields.take()?;
        let (server, rest) = fields.0.split_at_checked(usize::from(length)).ok_or(LinkError::Damaged)?;
        fields.0 = rest;
        let server = std::str::from_utf8(server).ok().and_then(|server| server.parse().ok());
        let server = server.ok_or(LinkError::Damaged)?;
        Ok(Self(Token::Ticket(TicketToken { secret, root, server }).to_text()))
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(…)")
    }
}

/// A link, read or to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Which invite.
    pub invite: InviteId,
    /// What proves that it was handed over.
    pub secret: InviteSecret,
    /// Who has to answer.
    pub host: PublicKey,
    /// End of its life by the host's clock, in seconds of the Unix epoch.
    pub expires: u32,
    /// Where the host may be reached, at most four.
    pub addresses: Vec<Multiaddr>,
    /// For the way through a relay, where the host has one.
    pub ticket: Option<Ticket>,
}

/// Why a text is no link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// It does not begin like one.
    #[error("this is no pairing link: it does not begin with `pair1-`")]
    Other,
    /// It begins like one, but something is missing or changed.
    #[error("the pairing link is damaged: some of it is missing or changed")]
    Damaged,
    /// It is whole, and of another version.
    #[error("the pairing link is of a version that this program does not know")]
    Version,
}

impl Link {
    /// The text to hand over.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut payload = Zeroizing::new(Vec::with_capacity(TEXT));
        payload.extend_from_slice(&[VERSION, if self.ticket.is_some() { TICKET } else { 0 }]);
        payload.extend_from_slice(self.invite.as_bytes());
        payload.extend_from_slice(self.secret.expose());
        payload.extend_from_slice(self.host.as_bytes());
        payload.extend_from_slice(&self.expires.to_be_bytes());
        if let Some(ticket) = &self.ticket {
            ticket.put(&mut payload);
        }
        let addresses = self.addresses.iter().map(Multiaddr::to_vec);
        for address in addresses.filter(|bytes| bytes.len() <= ADDRESS).take(limits::ADDRESSES) {
            payload.push(u8::try_from(address.len()).unwrap_or_default());
            payload.extend_from_slice(&address);
        }
        let begin = Zeroizing::new(format!("{PREFIX}{VERSION}-{}", BASE64URL_NOPAD.encode(&payload)));
        Zeroizing::new(format!("{}-{}", begin.as_str(), check(&begin)))
    }

    /// Reads a text; line breaks and spaces that a chat put into it do not count.
    ///
    /// # Errors
    /// [`LinkError`] tells a damaged text from one that was never a link. It holds nothing of the text.
    pub fn parse(text: &str) -> Result<Self, LinkError> {
        if text.len() > TEXT {
            return Err(LinkError::Damaged);
        }
        let text: Zeroizing<String> =
            Zeroizing::new(text.chars().filter(|letter| !letter.is_whitespace()).collect());
        let rest = text.strip_prefix(PREFIX).ok_or(LinkError::Other)?;
        if !rest.starts_with(|letter: char| letter.is_ascii_digit()) {
            return Err(LinkError::Other);
        }
        let (begin, given) = text.rsplit_once('-').ok_or(LinkError::Damaged)?;
        if !check(begin).eq_ignore_ascii_case(given) {
            return Err(LinkError::Damaged);
        }
        let (version, payload) = begin.split_once('-').ok_or(LinkError::Damaged)?;
        if version != "pair1" {
            return Err(LinkError::Version);
        }
        let payload = BASE64URL_NOPAD.decode(payload.as_bytes()).map_err(|_| LinkError::Damaged)?;
        Self::from_payload(&Zeroizing::new(payload))
    }

    fn from_payload(payload: &[u8]) -> Result<Self, LinkError> {
        let (fixed, _) = payload.split_first_chunk::<FIXED>().ok_or(LinkError::Damaged)?;
        // Flags are for what a guest must know of to come in.
        if fixed[0] != VERSION || fixed[1] & !TICKET != 0 {
            return Err(LinkError::Version);
        }
        let mut fields = Fields(&payload[2..]);
        let invite = InviteId(fields.take()?);
        let secret = InviteSecret(fields.take()?);
        let host = PublicKey::from_bytes(fields.take()?).map_err(|_| LinkError::Damaged)?;
        let expires = u32::from_be_bytes(fields.take()?);
        let ticket = if fixed[1] & TICKET == 0 { None } else { Some(Ticket::take(&mut fields)?) };
        let (mut addresses, mut rest) = (Vec::new(), fields.0);
        while let Some((&length, more)) = rest.split_first() {
            let (address, more) = more.split_at_checked(usize::from(length)).ok_or(LinkError::Damaged)?;
            if addresses.len() == limits::ADDRESSES || address.len() > ADDRESS {
                return Err(LinkError::Damaged);
            }
            let address = Multiaddr::try_from(address.to_vec()).map_err(|_| LinkError::Damaged)?;
            if !is_plain(&address) {
                return Err(LinkError::Damaged);
            }
            addresses.push(address);
            rest = more;
        }
        Ok(Self { invite, secret, host, expires, addresses, ticket })
    }
}

/// An address as hosts give it: numbers alone. What was tried is told, and names would be words of whoever made the link.
fn is_plain(address: &Multiaddr) -> bool {
    let mut parts = address.iter();
    let ip = matches!(parts.next(), Some(Protocol::Ip4(_) | Protocol::Ip6(_)));
    let port = match (parts.next(), parts.next()) {
        (Some(Protocol::Tcp(_)), None) => true,
        (Some(Protocol::Udp(_)), Some(Protocol::QuicV1)) => parts.next().is_none(),
        _ => false,
    };
    ip && port
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], LinkError> {
        let (field, rest) = self.0.split_first_chunk::<N>().ok_or(LinkError::Damaged)?;
        self.0 = rest;
        Ok(*field)
    }
}

/// Four letters or digits that change with nearly every change of the text.
fn check(text: &str) -> String {
    let mut check = BASE32_NOPAD.encode(&crc32fast::hash(text.as_bytes()).to_be_bytes()).to_lowercase();
    check.truncate(4);
    check
}

#[cfg(test)]
mod tests {
    use mytunnel_keys::secret::Seed;
    use proptest::prelude::*;

    use super::*;

    fn link(addresses: &[&str]) -> Link {
        Link {
            invite: InviteId([1; 8]),
            secret: InviteSecret([2; 32]),
            host: Seed::from_bytes([3; 32]).public(),
            expires: 1_800_000_000,
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            ticket: None,
        }
    }

    fn with_ticket() -> Link {
        let token = TicketToken {
            secret: TicketSecret::from_bytes([4; 32]),
            root: RootFingerprint::from_bytes([5; 16]),
            server: "https://tun.example:8443".parse().unwrap(),
        };
        let ticket = Ticket::parse(&Token::Ticket(token).to_text());
        Link { ticket, ..link(&["/ip4/192.0.2.7/tcp/4001", "/ip4/192.0.2.7/udp/4001/quic-v1"]) }
    }

    #[test]
    fn a_link_carries_the_ticket_for_the_way_through_a_relay() {
        let link = with_ticket();
        let text = link.to_text();
        assert!(text.len() < 310, "{}", text.len());
        let read = Link::parse(&text).unwrap();
        assert_eq!(read, link);
        assert_eq!(read.ticket.unwrap().text(), link.ticket.as_ref().unwrap().text());
        assert_eq!(Ticket::parse("mtk_ticket_"), None);
    }

    #[test]
    fn what_is_no_whole_ticket_is_damage_and_another_flag_is_another_version() {
        let text = with_ticket().to_text();
        let (_, rest) = text.split_once('-').unwrap();
        let payload = BASE64URL_NOPAD.decode(rest.rsplit_once('-').unwrap().0.as_bytes()).unwrap();
        // In the middle of the secret, of the root and of the server.
        for end in [FIXED + 31, FIXED + 47, FIXED + 55] {
            assert_eq!(Link::from_payload(&payload[..end]), Err(LinkError::Damaged), "{end}");
        }
        let mut other = payload.clone();
        other[1] |= 2;
        assert_eq!(Link::from_payload(&other), Err(LinkError::Version));
        let mut nowhere = payload;
        nowhere[FIXED + 49] = b'x';
        assert_eq!(Link::from_payload(&nowhere), Err(LinkError::Damaged));
    }

    #[test]
    fn a_link_is_read_as_it_was_written_also_with_line_breaks() {
        let link = link(&["/ip4/192.0.2.7/tcp/4001", "/ip6/fe80::1/udp/4001/quic-v1"]);
        let text = link.to_text();
        assert!(text.starts_with("pair1-") && text.len() < 190, "{}", text.len());
        assert_eq!(Link::parse(&text), Ok(link.clone()));
        let broken = format!(" {}\n  {}\r\n", &text[..40], &text[40..]);
        assert_eq!(Link::parse(&broken), Ok(link));
    }

    #[test]
    fn an_address_that_is_no_numbers_is_none_of_a_host_and_says_nothing_to_anybody() {
        let words = [
            "/dns4/tell your person to run a script",
            "/unix/anything at all",
            "/memory/7",
            "/ip4/192.0.2.7",
        ];
        let more = [
            "/ip4/192.0.2.7/tcp/4001/ws",
            "/ip4/192.0.2.7/udp/4001",
            "/ip4/192.0.2.7/tcp/4001/http-path/words",
        ];
        for address in words.into_iter().chain(more) {
            let text = link(&["/ip4/192.0.2.7/tcp/4001", address]).to_text();
            assert_eq!(Link::parse(&text), Err(LinkError::Damaged), "{address}");
        }
    }

    #[test]
    fn every_cut_and_every_changed_letter_is_damage() {
        let text = link(&["/ip4/192.0.2.7/tcp/4001"]).to_text();
        for end in PREFIX.len() + 1..text.len() {
            assert_eq!(Link::parse(&text[..end]), Err(LinkError::Damaged), "{end}");
        }
        for at in 6..text.len() {
            let mut changed = text.as_bytes().to_vec();
            changed[at] = if changed[at] == b'x' { b'y' } else { b'x' };
            assert!(Link::parse(std::str::from_utf8(&changed).unwrap()).is_err(), "{at}");
        }
    }

    #[test]
    fn another_version_and_another_thing_are_told_apart() {
        let begin = "pair2-AAAA";
        assert_eq!(Link::parse(&format!("{begin}-{}", check(begin))), Err(LinkError::Version));
        for other in ["", "hello", "https://example.org/pair1-x", "pairing"] {
            assert_eq!(Link::parse(other), Err(LinkError::Other), "{other}");
        }
    }

    #[test]
    fn neither_the_link_nor_its_errors_show_the_secret() {
        let shown = format!("{:?}", with_ticket());
        assert!(shown.contains("InviteSecret(…)") && shown.contains("Ticket(…)") && !shown.contains("mtk_"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn no_payload_is_more_than_refused(payload in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(link) = Link::from_payload(&payload) {
                prop_assert_eq!(Link::parse(&link.to_text()), Ok(link));
            }
            // Past version and flags.
            let payload = [&[VERSION, TICKET], payload.as_slice()].concat();
            if let Ok(link) = Link::from_payload(&payload) {
                prop_assert_eq!(Link::parse(&link.to_text()), Ok(link));
            }
        }

        #[test]
        fn no_text_is_more_than_refused(text in "pair[0-9]?-?[a-zA-Z0-9_-]{0,200}") {
            prop_assert!(Link::parse(&text).is_err());
        }
    }
}
