//! The bytes inside a token. The first is the version of the format; texts have a byte of length in front.
//!
//! master: 1, seed, serial, root, project, server. Child and user: 1, form (0 bound, 1 portable), seed if portable, root,
//! server, certificate. Relay and ticket: 1, secret, root, server.

use zeroize::Zeroizing;

use super::{
    ChildToken, MasterToken, RelayToken, Secret, ServerUrl, TicketToken, Token, TokenError, TokenKind,
};
use crate::{
    id::Serial,
    secret::{JoinSecret, Seed, TicketSecret},
    trust::RootFingerprint,
};

const VERSION: u8 = 1;
const BOUND: u8 = 0;
const PORTABLE: u8 = 1;

pub(super) fn write(token: &Token) -> Zeroizing<Vec<u8>> {
    // Room for all of it, so that no copy of a secret is left behind by growing.
    let mut bytes = Zeroizing::new(Vec::with_capacity(super::MAX_TOKEN));
    bytes.push(VERSION);
    match token {
        Token::Master(token) => {
            bytes.extend(token.seed.expose());
            bytes.extend(token.serial.as_bytes());
            bytes.extend(token.root.as_bytes());
            put_text(&mut bytes, token.project.as_str());
            put_text(&mut bytes, token.server.as_str());
        }
        Token::Child(token) | Token::User(token) => {
            match &token.secret {
                Secret::Bound => bytes.push(BOUND),
                Secret::Portable(seed) => {
                    bytes.push(PORTABLE);
                    bytes.extend(seed.expose());
                }
            }
            bytes.extend(token.root.as_bytes());
            put_text(&mut bytes, token.server.as_str());
            bytes.extend(&token.certificate);
        }
        Token::Relay(token) => {
            put_one_time(&mut bytes, token.secret.expose(), &token.root, &token.server);
        }
        Token::Ticket(token) => {
            put_one_time(&mut bytes, token.secret.expose(), &token.root, &token.server);
        }
    }
    bytes
}

fn put_one_time(bytes: &mut Vec<u8>, secret: &[u8; 32], root: &RootFingerprint, server: &ServerUrl) {
    bytes.extend(secret);
    bytes.extend(root.as_bytes());
    put_text(bytes, server.as_str());
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.push(u8::try_from(text.len()).expect("ids and server addresses are shorter than 256"));
    bytes.extend(text.as_bytes());
}

pub(super) fn read(kind: TokenKind, payload: &[u8]) -> Result<Token, TokenError> {
    let mut rest = Rest(payload);
    match rest.byte()? {
        VERSION => {}
        other => return Err(TokenError::Version(other)),
    }
    match kind {
        TokenKind::Master => {
            let seed = Seed::from_bytes(rest.array()?);
            let serial = Serial::from_bytes(rest.array()?);
            let root = RootFingerprint::from_bytes(rest.array()?);
            let token = MasterToken { seed, serial, root, project: rest.text()?, server: rest.text()? };
            rest.finish(Token::Master(token))
        }
        TokenKind::Child | TokenKind::User => {
            let secret = match rest.byte()? {
                BOUND => Secret::Bound,
                PORTABLE => Secret::Portable(Seed::from_bytes(rest.array()?)),
                _ => return Err(TokenError::Payload),
            };
            let root = RootFingerprint::from_bytes(rest.array()?);
            let server = rest.text()?;
            let token = ChildToken::new(secret, rest.0.to_vec(), root, server)?.into_token();
            if token.kind() == kind { Ok(token) } else { Err(TokenError::Mismatch) }
        }
        TokenKind::Relay => {
            let secret = JoinSecret::from_bytes(rest.array()?);
            let root = RootFingerprint::from_bytes(rest.array()?);
            let token = RelayToken { secret, root, server: rest.text()? };
            rest.finish(Token::Relay(token))
        }
        TokenKind::Ticket => {
            let secret = TicketSecret::from_bytes(rest.array()?);
            let root = RootFingerprint::from_bytes(rest.array()?);
            let token = TicketToken { secret, root, server: rest.text()? };
            rest.finish(Token::Ticket(token))
        }
    }
}

struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn take(&mut self, length: usize) -> Result<&[u8], TokenError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(TokenError::Payload)?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, TokenError> {
        Ok(self.take(1)?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], TokenError> {
        self.take(N)?.try_into().map_err(|_| TokenError::Payload)
    }

    /// A text that is exactly how its type writes itself.
    fn text<T: std::str::FromStr + ToString>(&mut self) -> Result<T, TokenError> {
        let length = self.byte()?.into();
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| TokenError::Payload)?;
        let value: T = text.parse().map_err(|_| TokenError::Payload)?;
        if value.to_string() == text { Ok(value) } else { Err(TokenError::Payload) }
    }

    fn finish(self, token: Token) -> Result<Token, TokenError> {
        if self.0.is_empty() { Ok(token) } else { Err(TokenError::Payload) }
    }
}
