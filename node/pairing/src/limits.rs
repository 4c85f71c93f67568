//! Every bound of a session, in one place.

use std::time::Duration;

/// Bytes of the first message of a stream.
pub const HELLO: usize = 64;
/// Bytes of a message of the handshake.
pub const HANDSHAKE: usize = 1024;
/// Bytes of a frame on the stream, what Noise can encrypt at once.
pub const FRAME: usize = 65_535;
/// Bytes of a message in its frames: an entry with the host's seal and the names of its fields.
pub const MESSAGE: usize = ENTRY + 4 * 1024;
/// Bytes of an entry of the record.
pub const ENTRY: usize = 256 * 1024;
/// Bytes of a text that somebody says.
pub const TEXT: usize = 64 * 1024;
/// Bytes of each other part of what somebody says: a path, a step, a risk.
pub const PART: usize = 4 * 1024;
/// Steps of a plan, files of a proposal.
pub const PARTS: usize = 256;
/// Characters of a session's goal.
pub const GOAL: usize = 500;
/// Characters of a member's name.
pub const NAME: usize = 32;
/// Bytes of what a member says of itself: its name as wished, what runs there and in which version.
pub const FIELD: usize = 64;
/// Members of a session, the host among them.
pub const MEMBERS: usize = 16;
/// Invites of a session that are kept, used ones among them, so that who comes late is told why.
pub const INVITES: usize = 256;
/// Addresses in a link.
pub const ADDRESSES: usize = 4;
/// Life of an invite, unless another is asked for.
pub const TTL: Duration = Duration::from_secs(600);
/// Shortest life of an invite.
pub const TTL_MIN: Duration = Duration::from_secs(30);
/// Longest life of an invite.
pub const TTL_MAX: Duration = Duration::from_secs(24 * 3600);
/// Wrong guesses of a spoken code.
pub const GUESSES: u8 = 3;
/// Wrong words that may be typed when words are compared.
pub const WRONG_WORDS: u8 = 10;
/// What a member may say in [`RATE_SPAN`].
pub const RATE: u32 = 1_000;
/// Bytes of what a member may say in [`RATE_SPAN`]: a part of what is kept for who is away.
pub const RATE_BYTES: u32 = 4 << 20;
/// Bytes of what waits because it is beyond that.
pub const HELD_BYTES: usize = 4 << 20;
/// Messages of any kind on one link in [`RATE_SPAN`]: in a full room, each member acknowledges what all the others say.
pub const MESSAGES: u32 = 20 * RATE;
/// See [`RATE`].
pub const RATE_SPAN: Duration = Duration::from_secs(10);
/// Entries of a session that are kept for who is away.
pub const KEPT: usize = 1_000;
/// The number that no entry of a session goes beyond: one comes by the host's word, and disks count to no more than twice that.
pub const NUMBER: u64 = 1 << 62;
/// Bytes of a session's entries that are kept for who is away.
pub const KEPT_BYTES: usize = 16 << 20;
/// Things said by this machine that wait for the host.
pub const OUTBOX: usize = 1_000;
/// What one end may have sent before the other says that it has it.
pub const WINDOW: u64 = 64;
/// The same in bytes, of what a guest says.
pub const WINDOW_BYTES: usize = 2 << 20;
/// A session in which nobody says anything for this long ends.
pub const IDLE: Duration = Duration::from_secs(30 * 60);
/// See [`IDLE`]; one that its host keeps waits for who is away as long as it may last.
pub const fn idle(kept: bool) -> Duration {
    if kept { LIFE } else { IDLE }
}

/// No session lasts longer.
pub const LIFE: Duration = Duration::from_secs(24 * 3600);
/// The record of a session that is kept stays so long behind its end.
pub const RECORD: Duration = Duration::from_secs(24 * 3600);
/// Records of sessions that are over.
pub const RECORDS: u32 = 16;
/// Each end says at least this often that it is there.
pub const BEAT: Duration = Duration::from_secs(5);
/// Silence after which the other end is taken to be away. Beats are 5 to 6 s apart, so that one may be lost and the next late;
/// it is looked at each second, so that an end that is gone is told within 15 s. Whoever takes nothing for as long is left, too.
pub const SILENCE: Duration = Duration::from_secs(13);
/// Frames after which a direction changes its key.
pub const REKEY_FRAMES: u32 = 1_000;
/// Time after which a direction changes its key.
pub const REKEY_AGE: Duration = Duration::from_secs(600);
/// Time from a stranger's stream to the proof.
pub const PROOF: Duration = Duration::from_secs(5);
/// Streams of strangers that have proved nothing.
pub const STRANGERS: usize = 64;
/// Connections whose handshake is under way; each has 5 s.
pub const PENDING: usize = 1_024;
/// The same from one address.
pub const PENDING_OF_ONE: usize = 128;
/// Connections of strangers.
pub const CONNECTIONS: usize = 512;
/// The same from one address.
pub const CONNECTIONS_OF_ONE: usize = 64;
/// Attempts of one peer in [`TRIES_SPAN`].
pub const TRIES: u32 = 10;
/// Attempts of all from one address in [`TRIES_SPAN`]: several peers may be behind one router.
pub const TRIES_OF_ONE: u32 = 120;
/// How often a member may come back, or ask for a file, in [`TRIES_SPAN`].
pub const RETURNS: u32 = 600;
/// Of how many peers and addresses the attempts are counted.
pub const TRIED: usize = 4_096;
/// See [`TRIES`].
pub const TRIES_SPAN: Duration = Duration::from_secs(60);
/// Sessions of one daemon.
pub const SESSIONS: usize = 8;
/// Readers on this machine that have a place of their own in a session.
pub const READERS: usize = 8;
/// How long a session that is over waits to be read to its end.
pub const UNREAD: Duration = Duration::from_secs(600);
/// How long the last words of a session that is being closed may take to who is there, or comes back.
pub const LAST_WORDS: Duration = Duration::from_secs(10);
/// The same where somebody is away, and comes back if the network was gone for a moment.
pub const LAST_CALL: Duration = Duration::from_secs(30);
/// Messages in one answer to `listen`.
pub const BATCH: usize = 50;
/// Bytes of messages in one answer to `listen`, as they are shown.
pub const BATCH_BYTES: usize = 128 * 1024;
/// Who joins is told within this what became of it.
pub const JOIN: Duration = Duration::from_secs(40);
/// A `listen` waits no longer, so that it answers within 25 seconds.
pub const LISTEN: Duration = Duration::from_millis(24_500);
/// Bytes of the name of a file that is offered.
pub const FILE_NAME: usize = 255;
/// Bytes of a file, unless a larger one is asked for.
pub const FILE: u64 = 100 << 20;
/// Bytes of a file that nobody exceeds.
pub const FILE_MOST: u64 = 10 << 30;
/// Files of this machine that are on offer; one more takes the place of the oldest.
pub const OFFERS: usize = 64;
/// Offers that are listed, the newest.
pub const OFFERS_SHOWN: usize = 100;
/// Offers that are in the status of a session, the newest.
pub const OFFERS_IN_STATUS: usize = 16;
/// Files that are being received at once.
pub const RECEIVING: usize = 8;
/// Files that are being sent or passed on at once,
pub const SENDING: usize = 16;
/// and of these to one member.
pub const SENDING_TO_ONE: usize = 4;
/// Files that are being read to be offered.
pub const SHARING: usize = 4;
/// What is remembered of files that were received, in all sessions.
pub const RECEIVED: usize = 256;
/// Silence after which a file's stream is given up.
pub const FILE_SILENCE: Duration = Duration::from_secs(60);
