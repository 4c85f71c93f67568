//! What the owner of a share is told that two relays carry at once: the share is up while either has it.
//!
//! The owner hears what one relay says, the *voice*. When that one is lost, the other becomes the voice, and only when
//! both are lost is the share said to be away. A relay that says a name or a key's places are taken has seen something
//! that the other has not; while the other goes on, so does the share. Every other end is the end.

use mytunnel_keys::error::Code;

use crate::share::{Ready, ShareEvent};

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    First,
    Second,
}

/// See the [module documentation](self).
#[derive(Debug)]
pub(crate) struct Merge {
    voice: Side,
    first: Standing,
    second: Standing,
    /// What the owner was told last.
    told: Option<Ready>,
    expiry: Option<u64>,
}

#[derive(Debug)]
enum Standing {
    Away,
    Up(Ready),
    Over,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

impl Merge {
    /// Neither is up.
    pub(crate) fn new() -> Self {
        Self { voice: Side::First, first: Standing::Away, second: Standing::Away, told: None, expiry: None }
    }

    /// What the owner is told of what one relay says.
    pub(crate) fn on(&mut self, side: Side, event: ShareEvent) -> Option<ShareEvent> {
        match event {
            ShareEvent::Ready(ready) => self.on_ready(side, ready),
            ShareEvent::Reconnecting { .. } => {
                *self.standing(side) = Standing::Away;
                self.lost(side, event)
            }
            ShareEvent::Expiring { expires_at } => {
                (self.expiry.replace(expires_at) != Some(expires_at)).then_some(event)
            }
            ShareEvent::Path { .. } | ShareEvent::Backends { .. } => (side == self.voice).then_some(event),
            ShareEvent::Closed(ref closed) => {
                let is_of_this_relay = matches!(closed.code, Some(Code::NameTaken | Code::TunnelLimit));
                *self.standing(side) = Standing::Over;
                match self.standing(side.other()) {
                    Standing::Up(_) if is_of_this_relay => self.lost(side, event),
                    Standing::Up(_) | Standing::Away | Standing::Over => Some(event),
                }
            }
        }
    }

    fn on_ready(&mut self, side: Side, ready: Ready) -> Option<ShareEvent> {
        *self.standing(side) = Standing::Up(ready.clone());
        if !matches!(self.standing(side.other()), Standing::Up(_)) {
            self.voice = side;
        }
        (self.voice == side).then(|| self.tell(ready))
    }

    /// One has lost it. The other speaks on, if it is up; then `event` is no news.
    fn lost(&mut self, side: Side, event: ShareEvent) -> Option<ShareEvent> {
        let Standing::Up(ready) = self.standing(side.other()) else {
            return (side == self.voice).then_some(event);
        };
        let ready = ready.clone();
        self.voice = side.other();
        let is_news = self.told.as_ref().is_none_or(|told| told.urls != ready.urls);
        is_news.then(|| self.tell(ready))
    }

    fn tell(&mut self, ready: Ready) -> ShareEvent {
        self.told = Some(ready.clone());
        ShareEvent::Ready(ready)
    }

    fn standing(&mut self, side: Side) -> &mut Standing {
        match side {
            Side::First => &mut self.first,
            Side::Second => &mut self.second,
        }
    }
}

#[cfg(test)]
mod tests {
    use Side::{First, Second};

    use super::*;
    use crate::share::{Closed, Path};

    fn ready(relay: &str, port: u16) -> ShareEvent {
        ShareEvent::Ready(Ready {
            tunnel_id: mytunnel_keys::id::TunnelId::from_bytes([7; 16]),
            name: "web".parse().unwrap(),
            kind: "http".parse().unwrap(),
            urls: vec![format!("tcp://tun.example:{port}")],
            expires_at: 9,
            relay: relay.to_owned(),
            path: Path::Relayed,
        })
    }

    fn away(attempt: u32) -> ShareEvent {
        ShareEvent::Reconnecting { attempt, reason: "gone".to_owned() }
    }

    fn closed(code: Code) -> ShareEvent {
        ShareEvent::Closed(Closed { code: Some(code), message: String::new(), help: String::new() })
    }

    #[test]
    fn one_of_two_that_is_lost_is_no_news() {
        let mut merge = Merge::new();
        assert_eq!(merge.on(Second, away(1)), None, "the first speaks at the beginning");
        assert_eq!(merge.on(First, ready("a", 1)), Some(ready("a", 1)));
        assert_eq!(merge.on(Second, ready("b", 1)), None);
        assert_eq!(merge.on(First, away(1)), None);
        assert_eq!(merge.on(First, ready("a", 1)), None, "the other has not been away");
        assert_eq!(merge.on(First, away(1)), None);
        assert_eq!(merge.on(Second, away(1)), Some(away(1)), "now it is");
        assert_eq!(merge.on(First, away(2)), None, "one of them is enough to be told by");
        assert_eq!(merge.on(First, ready("a", 1)), Some(ready("a", 1)));
    }

    #[test]
    fn the_second_is_told_of_when_the_first_cannot_be_reached() {
        let mut merge = Merge::new();
        assert_eq!(merge.on(First, away(2)), Some(away(2)));
        assert_eq!(merge.on(Second, ready("b", 1)), Some(ready("b", 1)));
        assert_eq!(merge.on(First, away(3)), None);
        let backends = ShareEvent::Backends { count: 2 };
        assert_eq!(merge.on(First, backends.clone()), None);
        assert_eq!(merge.on(Second, backends.clone()), Some(backends));
    }

    #[test]
    fn other_addresses_are_news_once_only_they_are_left() {
        let mut merge = Merge::new();
        merge.on(First, ready("a", 1));
        assert_eq!(merge.on(Second, ready("b", 2)), None);
        assert_eq!(merge.on(First, away(1)), Some(ready("b", 2)));
    }

    #[test]
    fn an_end_is_the_end_unless_only_one_relay_knows_of_its_reason() {
        let mut merge = Merge::new();
        merge.on(First, ready("a", 1));
        merge.on(Second, ready("b", 1));
        assert_eq!(merge.on(Second, closed(Code::NameTaken)), None);
        assert_eq!(merge.on(First, away(1)), Some(away(1)), "nobody is left");
        assert_eq!(merge.on(First, closed(Code::NameTaken)), Some(closed(Code::NameTaken)));

        let mut merge = Merge::new();
        merge.on(First, ready("a", 1));
        assert_eq!(merge.on(Second, closed(Code::KeyRevoked)), Some(closed(Code::KeyRevoked)));
    }

    #[test]
    fn an_expiry_is_told_once() {
        let mut merge = Merge::new();
        let expiring = ShareEvent::Expiring { expires_at: 9 };
        assert_eq!(merge.on(Second, expiring.clone()), Some(expiring.clone()));
        assert_eq!(merge.on(First, expiring), None);
    }
}
