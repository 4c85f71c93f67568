//! A stream is served to its end, or cut where it is served.

use crate::lasting::pump::Outcome;

/// The outcome of a stream whose one end is `served`, which says whether all went well, and whose other `carried`, which
/// gives the end that is served back.
///
/// A stream that has ended early must not look whole to what serves it: it is cut there before it could read an end.
pub(super) async fn until_both<L>(
    served: impl Future<Output = bool>,
    carried: impl Future<Output = (Outcome, L)>,
) -> Outcome {
    let (mut served, mut carried) = (Box::pin(served), Box::pin(carried));
    tokio::select! {
        biased;
        (outcome, near) = &mut carried => match outcome {
            Outcome::Done => {
                drop(near);
                if served.await { Outcome::Done } else { Outcome::Broken }
            }
            early @ (Outcome::Broken | Outcome::TargetUnreachable | Outcome::Lost | Outcome::Moved) => {
                drop(served);
                early
            }
        },
        is_well = &mut served => {
            let (outcome, _) = carried.await;
            if outcome == Outcome::Done && !is_well { Outcome::Broken } else { outcome }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    /// What serves a stream: reads to the end, and says how much it got if it has seen one.
    async fn reader(mut far: DuplexStream, seen: &std::cell::Cell<Option<usize>>) -> bool {
        let mut bytes = Vec::new();
        let end = far.read_to_end(&mut bytes).await;
        seen.set(end.ok());
        true
    }

    #[tokio::test]
    async fn what_serves_a_stream_sees_an_end_only_if_the_stream_is_whole() {
        for early in [Outcome::Lost, Outcome::Broken] {
            let (mut near, far) = duplex(64);
            let seen = std::cell::Cell::new(None);
            let carried = async {
                near.write_all(b"half").await.unwrap();
                tokio::task::yield_now().await;
                (early, near)
            };
            assert_eq!(until_both(reader(far, &seen), carried).await, early);
            assert_eq!(seen.get(), None, "a stump looks whole");
        }
        let (near, far) = duplex(64);
        let seen = std::cell::Cell::new(None);
        assert_eq!(until_both(reader(far, &seen), async { (Outcome::Done, near) }).await, Outcome::Done);
        assert_eq!(seen.get(), Some(0));
    }

    #[tokio::test]
    async fn a_stream_that_its_target_did_not_take_is_not_done() {
        let (near, far) = duplex(64);
        let failing = async {
            drop(far);
            false
        };
        assert_eq!(until_both(failing, async { (Outcome::Done, near) }).await, Outcome::Broken);
    }
}
