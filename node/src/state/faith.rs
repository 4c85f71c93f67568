//! Which of the nodes that serve a name are to be tried: streams that are open live on in one of them and nowhere else. So
//! for as long as one is reached it is the only one, and after a loss it is preferred for a while.

use std::time::{Duration, Instant};

use mytunnel_keys::id::PublicKey;

/// Time after a loss in which no other node is taken than the one that was there.
const FAITHFUL: Duration = Duration::from_secs(20);

/// See the [module documentation](self).
#[derive(Debug, Default)]
pub(crate) struct Faith {
    last: Option<PublicKey>,
    /// When the last way to it was lost.
    lost: Option<Instant>,
}

impl Faith {
    /// A node has shown that it serves the name. `false` when another one is reached.
    pub(crate) fn on_reached(&mut self, key: PublicKey) -> bool {
        if self.lost.is_none() && self.last.is_some_and(|last| last != key) {
            return false;
        }
        (self.last, self.lost) = (Some(key), None);
        true
    }

    /// No way is left to the node that was reached.
    pub(crate) fn on_lost(&mut self, now: Instant) {
        self.lost = Some(now);
    }

    /// Whether any node was ever reached.
    pub(crate) fn has_reached(&self) -> bool {
        self.last.is_some()
    }

    /// Those of `peers`, which a relay has named, that are to be tried, in their order.
    ///
    /// # Errors
    /// Why none of them is.
    pub(crate) fn choose(
        &self,
        mut peers: Vec<PublicKey>,
        now: Instant,
    ) -> Result<Vec<PublicKey>, &'static str> {
        let Some(last) = self.last else { return Ok(peers) };
        let at = peers.iter().position(|peer| *peer == last);
        match (at, self.lost) {
            (Some(_), None) => Ok(vec![last]),
            (None, None) => Err("this relay does not know the node that is reached"),
            (Some(at), Some(_)) => {
                peers.swap(0, at);
                Ok(peers)
            }
            (None, Some(lost)) if now.duration_since(lost) < FAITHFUL => {
                Err("the node that served it is not back yet")
            }
            (None, Some(_)) => Ok(peers),
        }
    }
}

#[cfg(test)]
mod tests {
    use mytunnel_keys::secret::Seed;

    use super::*;

    fn key(number: u8) -> PublicKey {
        Seed::from_bytes([number; 32]).public()
    }

    #[test]
    fn one_node_at_a_time_and_the_same_one_after_a_loss() {
        let (mut faith, now) = (Faith::default(), Instant::now());
        let [one, two] = [key(1), key(2)];
        assert_eq!(faith.choose(vec![two, one], now), Ok(vec![two, one]), "nobody is preferred");
        assert!(faith.on_reached(one) && faith.on_reached(one), "over two paths");
        assert!(!faith.on_reached(two), "streams live in the other one");
        assert_eq!(faith.choose(vec![two, one], now), Ok(vec![one]));
        assert!(faith.choose(vec![two], now).is_err());
        faith.on_lost(now);
        assert_eq!(faith.choose(vec![two, one], now), Ok(vec![one, two]), "it may not answer");
        assert!(faith.choose(vec![two], now + FAITHFUL - Duration::from_millis(1)).is_err());
        assert_eq!(faith.choose(vec![two], now + FAITHFUL), Ok(vec![two]));
        assert!(faith.on_reached(two) && faith.has_reached());
        assert!(!faith.on_reached(one));
    }
}
