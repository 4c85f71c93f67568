//! What is told of a file that is not shared or does not come, with what to do about it.

use std::io;

use mytunnel_keys::error::Code;

use crate::{
    api::Trouble,
    files::{inbox::InboxError, source::SourceError, talk::No},
};

const PERSON: &str = "A person at a terminal may share it all the same: `mytunnel pair share --anyway PATH`.";
const AGAIN: &str = "Receive it again when that is mended: it goes on where it stopped.";

pub(super) fn of_source(error: &SourceError) -> Trouble {
    let message = error.to_string();
    match error {
        SourceError::Denied { .. } => Trouble::new(Code::PairPathDenied, message)
            .with_help(format!("Share a file of the project's own folder. {PERSON}")),
        SourceError::Secret { .. } => Trouble::new(Code::PairNeedsApproval, message).with_help(PERSON),
        SourceError::TooLarge { .. } => Trouble::new(Code::PairTooLarge, message)
            .with_help("Share less of it, or allow more with `--max-size`, up to 10G."),
        SourceError::Changed { .. } => {
            Trouble::new(Code::PairHash, message).with_help("Share it when nobody writes to it.")
        }
        SourceError::Io { source, .. } => Trouble::new(Code::NotFound, format!("{message}: {source}"))
            .with_help("Check the path, and that this user may read it."),
    }
}

pub(super) fn of_inbox(error: &InboxError) -> Trouble {
    let message = error.to_string();
    match error {
        InboxError::NotOwn { .. } => Trouble::new(Code::PairPathDenied, message)
            .with_help("Take the right to write there from others (`chmod go-w`), and links out of the way."),
        InboxError::NoFolder { .. } => Trouble::new(Code::PairPathDenied, message).with_help(
            "Let the inbox be a folder itself: set XDG_DATA_HOME, or name one with `--into` at a terminal.",
        ),
        InboxError::Exists { .. } => Trouble::new(Code::PairExists, message)
            .with_help("Nothing that a peer sends replaces a file: move that away, then receive again."),
        InboxError::Busy => Trouble::new(Code::PairRate, message)
            .with_help("Wait for the other one; `mytunnel pair offers` shows it."),
        InboxError::NoRoom { .. } => Trouble::new(Code::Internal, message)
            .with_help("Free some space on that disk, then receive again: it goes on where it stopped."),
        InboxError::Io { source, .. } => Trouble::new(Code::Internal, format!("{message}: {source}"))
            .with_help(if source.kind() == io::ErrorKind::StorageFull {
                "Free some space on that disk, then receive again: it goes on where it stopped."
            } else {
                AGAIN
            }),
    }
}

pub(super) fn of_no(why: No) -> Trouble {
    match why {
        No::Unknown => Trouble::new(Code::NotFound, "the sender knows of no such offer for this member")
            .with_help("`mytunnel pair offers` shows what there is."),
        No::Gone => Trouble::new(Code::NotFound, "the file is offered no more")
            .with_help("Ask the sender to share it again."),
        No::Changed => not_as_offered("it was changed at the sender since it was offered"),
        No::Unreadable => Trouble::new(Code::NotFound, "the sender cannot read the file any more")
            .with_help("Ask the sender to share it again."),
        No::Busy => Trouble::new(Code::PairRate, "too many files are on their way there")
            .with_help("Wait until one has arrived, then receive it again."),
        No::Away => away(),
    }
}

/// Who has the file is not reached, or not any more.
pub(super) fn away() -> Trouble {
    Trouble::new(Code::PairPeerOffline, "the sender is not there, or not any more")
        .with_help("Receive it again when the sender is back: it goes on where it stopped.")
}

pub(super) fn not_as_offered(how: &str) -> Trouble {
    Trouble::new(Code::PairHash, format!("the file is not what was offered: {how}"))
        .with_help("Ask the sender to share it again, and receive that offer.")
}

/// What was written twice cannot be read.
pub(super) fn not_as_written() -> Trouble {
    Trouble::new(Code::PairHash, "the file does not stay on the disk as it was written")
        .with_help("Check that disk, then receive it again.")
}

pub(super) fn stopped() -> Trouble {
    Trouble::new(
        Code::PairClosed,
        "the file was not received to its end: that was stopped, or the session is over",
    )
    .with_help(
        "In the same session, or in another where the same file is offered, it goes on where it stopped.",
    )
}
