//! Files of sessions: what this user offers, what he receives, and whom he gives what to. Each file has a stream and a task of
//! its own, so that nothing that is said waits behind one; the owner decides who gets which.

mod fetch;
mod line;
mod serve;
mod shown;
mod trouble;

use std::{
    collections::{BTreeMap, VecDeque},
    panic,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
};

use mytunnel_carrier::stream::Opener;
use mytunnel_keys::error::Code;
use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use self::fetch::{Errand, Fetch, State};
pub(super) use self::{
    line::{Line, Way},
    serve::{Asker, Given, Place, answer},
};
use super::{
    Daemon, links,
    session::{Session, Side},
    verbs::no_session,
};
use crate::{
    api::Trouble,
    content::{HOST, MemberId, Said, SessionId, Shared},
    files::{
        safe,
        source::{Rules, Source, SourceError},
        talk::No,
        tree::Digest,
    },
    ledger::Entry,
    limits,
};

type Reply = oneshot::Sender<Result<Value, Trouble>>;

/// What a file's task tells the owner.
pub(super) enum Event {
    /// A file of this machine was read, and may be offered.
    Read { session: SessionId, read: Result<(Source, Shared), SourceError>, said: Words, client: Reply },
    /// Somebody asks for a file.
    Asked { asker: Asker, offer: u64, root: Digest, reply: oneshot::Sender<Result<Given, No>> },
    /// One that was being received is no longer.
    Ended { session: SessionId },
}

/// What is said with an offer, and to whom.
pub(super) struct Words {
    text: String,
    to: Vec<String>,
}

/// What somebody wants to share.
pub(super) struct Wish {
    pub(super) session: Option<String>,
    pub(super) path: PathBuf,
    /// The folder that it has to be in; nothing where a person has allowed it.
    pub(super) within: Option<PathBuf>,
    pub(super) most: u64,
    pub(super) text: String,
    pub(super) to: Vec<String>,
}

/// What somebody wants to receive.
pub(super) struct Order {
    pub(super) session: Option<String>,
    pub(super) offer: u64,
    pub(super) inbox: PathBuf,
    pub(super) most: u64,
    pub(super) stop: bool,
}

/// See the module.
pub(super) struct Files {
    /// Where this program keeps keys.
    own: PathBuf,
    /// Files of this machine that are on offer, the oldest first.
    shared: VecDeque<(SessionId, Digest, Arc<Source>)>,
    /// How many are being read.
    reading: usize,
    giving: Vec<Giving>,
    receiving: BTreeMap<(SessionId, u64), Receiving>,
}

struct Giving {
    session: SessionId,
    member: MemberId,
    /// What of this machine; nothing where it is another's.
    own: Option<Digest>,
    held: Weak<()>,
    ended: CancellationToken,
}

struct Receiving {
    /// What was offered.
    offer: Value,
    state: watch::Receiver<State>,
    ended: CancellationToken,
}

impl Files {
    /// `store` is in the daemon's own folder, and that in the one where this program keeps keys.
    pub(super) fn new(store: &Path) -> Self {
        Self {
            own: store.ancestors().nth(2).unwrap_or(store).to_owned(),
            shared: VecDeque::new(),
            reading: 0,
            giving: Vec::new(),
            receiving: BTreeMap::new(),
        }
    }

    /// Whether a file of this session is on its way.
    pub(super) fn is_busy(&self, session: SessionId) -> bool {
        let receives =
            |(id, receiving): (&(SessionId, u64), &Receiving)| id.0 == session && receiving.is_under_way();
        self.giving.iter().any(|giving| giving.session == session && giving.held.strong_count() > 0)
            || self.receiving.iter().any(receives)
    }

    /// The session is over: nothing of it is offered, sent or received any more.
    pub(super) fn close(&mut self, session: SessionId) {
        self.shared.retain(|(of, ..)| *of != session);
        self.giving
            .iter()
            .filter(|giving| giving.session == session)
            .for_each(|giving| giving.ended.cancel());
        let of = self.receiving.range((session, 0)..=(session, u64::MAX));
        of.for_each(|(_, receiving)| receiving.ended.cancel());
    }

    /// Members that are in it no more get nothing more, either.
    pub(super) fn tick(&mut self, session: SessionId, is_in: impl Fn(MemberId) -> bool) {
        self.giving.retain(|giving| giving.held.strong_count() > 0);
        let of = self.giving.iter().filter(|giving| giving.session == session && !is_in(giving.member));
        of.for_each(|giving| giving.ended.cancel());
    }

    /// Ends everything.
    pub(super) fn stop(&mut self) {
        self.giving.iter().for_each(|giving| giving.ended.cancel());
        self.receiving.values().for_each(|receiving| receiving.ended.cancel());
    }

    /// Nothing is remembered of the session's files any more: it is not here, and another may come under its id.
    pub(super) fn forget(&mut self, session: SessionId) {
        self.close(session);
        self.receiving.retain(|(of, _), _| *of != session);
    }

    fn state(&self, session: SessionId, offer: u64) -> Option<State> {
        self.receiving.get(&(session, offer)).map(|receiving| receiving.state.borrow().clone())
    }

    fn source(&self, session: SessionId, root: Digest) -> Option<&Arc<Source>> {
        let found = self.shared.iter().find(|(of, hash, _)| (*of, *hash) == (session, root));
        found.map(|(_, _, source)| source)
    }

    /// Puts a file on offer. The oldest makes room.
    fn offer(&mut self, session: SessionId, root: Digest, source: Source) {
        self.shared.retain(|(of, hash, _)| (*of, *hash) != (session, root));
        while self.shared.len() >= limits::OFFERS {
            self.shared.pop_front();
        }
        self.shared.push_back((session, root, Arc::new(source)));
    }

    /// Offers a file no longer, and gives no more of it.
    fn withdraw(&mut self, session: SessionId, root: Digest) {
        self.shared.retain(|(of, hash, _)| (*of, *hash) != (session, root));
        let of = self.giving.iter().filter(|giving| (giving.session, giving.own) == (session, Some(root)));
        of.for_each(|giving| giving.ended.cancel());
    }

    /// A place for one more who is given a file, if there is one.
    fn place(&mut self, session: SessionId, member: MemberId, own: Option<Digest>) -> Option<Place> {
        self.giving.retain(|giving| giving.held.strong_count() > 0);
        let to_one = self.giving.iter().filter(|giving| (giving.session, giving.member) == (session, member));
        // A host asks for all of its guests.
        let most_to_one = if member == HOST { limits::SENDING } else { limits::SENDING_TO_ONE };
        if self.giving.len() >= limits::SENDING || to_one.count() >= most_to_one {
            return None;
        }
        let (held, ended) = (Arc::new(()), CancellationToken::new());
        self.giving.push(Giving { session, member, own, held: Arc::downgrade(&held), ended: ended.clone() });
        Some(Place { _held: held, ended })
    }

    /// Remembers one more that is being received; the first of those that are no longer makes room.
    fn receive(&mut self, session: SessionId, offer: u64, receiving: Receiving) {
        while self.receiving.len() >= limits::RECEIVED {
            let over = self.receiving.iter().find(|(_, one)| !one.is_under_way()).map(|(id, _)| *id);
            let Some(over) = over else { break };
            self.receiving.remove(&over);
        }
        self.receiving.insert((session, offer), receiving);
    }
}

impl Receiving {
    fn is_under_way(&self) -> bool {
        matches!(&*self.state.borrow(), State::Receiving { .. })
    }
}

impl Daemon {
    /// Reads a file of this machine, and then offers it.
    pub(super) fn share(&mut self, wish: Wish, client: Reply) {
        let may = self.may_share(&wish);
        let session = match may {
            Ok(session) => session,
            // The client may have gone.
            Err(trouble) => return drop(client.send(Err(trouble))),
        };
        self.files.reading += 1;
        let (own, events) = (self.files.own.clone(), self.events.clone());
        let Wish { path, within, most, text, to, .. } = wish;
        self.tasks.spawn(async move {
            let read = blocking(move || {
                let rules = Rules { within: within.as_deref(), own: &own, most: most.min(limits::FILE_MOST) };
                Source::open(&path, &rules)
            });
            let event = Event::Read { session, read: read.await, said: Words { text, to }, client };
            // Without an owner there is no client either.
            let _ = events.send(links::Event::Files(event)).await;
        });
    }

    fn may_share(&mut self, wish: &Wish) -> Result<SessionId, Trouble> {
        if self.files.reading >= limits::SHARING {
            return Err(Trouble::new(Code::PairRate, "several files are being read already"));
        }
        if !wish.path.is_absolute() {
            return Err(Trouble::new(Code::BadRequest, "a file is named by its whole path"));
        }
        let (id, held) = self.live(wish.session.as_deref())?;
        wish.to.iter().try_for_each(|name| held.member(name).map(drop))?;
        Ok(id)
    }

    pub(super) fn on_files(&mut self, event: Event) {
        match event {
            Event::Read { session, read, said, client } => {
                self.files.reading = self.files.reading.saturating_sub(1);
                let offered = self.offer(session, read, said);
                self.reply(offered, client);
            }
            Event::Asked { asker, offer, root, reply } => {
                // Who asked may have gone, which gives the place back.
                let _ = reply.send(self.asked(&asker, offer, root));
            }
            Event::Ended { session } => self.flush(session),
        }
    }

    fn offer(
        &mut self,
        session: SessionId,
        read: Result<(Source, Shared), SourceError>,
        said: Words,
    ) -> Result<Value, Trouble> {
        let (source, file) = read.map_err(|error| trouble::of_source(&error))?;
        let now = self.now();
        let offer = Said::Offer { text: said.text, file: file.clone() };
        let mut answer = self.say(Some(&session.to_string()), offer, None, &said.to, now)?;
        self.files.offer(session, file.blake3, source);
        answer["name"] = file.name.into();
        answer["size"] = file.size.into();
        answer["media"] = file.media.into();
        answer["blake3"] = file.blake3.to_string().into();
        answer["sha256"] = file.sha256.to_string().into();
        Ok(answer)
    }

    /// Offers a file of this machine no longer, under whatever number it was offered.
    pub(super) fn withdraw(&mut self, session: Option<&str>, offer: u64) -> Result<Value, Trouble> {
        let id = self.chosen(session)?;
        let held = self.sessions.get(&id).ok_or_else(no_session)?;
        let own = held.offer(offer).filter(|(entry, _)| entry.author == held.me());
        let (entry, file) = own.ok_or_else(|| {
            Trouble::new(Code::NotFound, format!("this machine offers no file {offer} in this session"))
                .with_help("`mytunnel pair offers` shows which it does.")
        })?;
        self.files.withdraw(id, file.blake3);
        let mut shown = self.shown_offer(id, held, entry, file);
        shown["session"] = id.to_string().into();
        self.changed.send_modify(|count| *count += 1);
        Ok(shown)
    }

    /// What somebody gets who asks for a file.
    fn asked(&mut self, asker: &Asker, offer: u64, root: Digest) -> Result<Given, No> {
        let found =
            self.sessions.iter().find_map(|(id, held)| held.asks(asker).map(|member| (*id, held, member)));
        let (id, held, member) = found.filter(|(_, held, _)| held.closed().is_none()).ok_or(No::Unknown)?;
        let (entry, file) = held.offer(offer).filter(|(_, file)| file.blake3 == root).ok_or(No::Unknown)?;
        // A host asks for those for whom it is, too.
        if !entry.is_for(member) && member != HOST || entry.author == member {
            return Err(No::Unknown);
        }
        let size = file.size;
        if entry.author == held.me() {
            let source = Arc::clone(self.files.source(id, root).ok_or(No::Gone)?);
            let place = self.files.place(id, member, Some(root)).ok_or(No::Busy)?;
            return Ok(Given::Own(source, place));
        }
        if !matches!(held.side, Side::Host(_)) {
            return Err(No::Unknown);
        }
        let way = self.way(held, entry.author).ok_or(No::Away)?;
        let place = self.files.place(id, member, None).ok_or(No::Busy)?;
        Ok(Given::Others(Box::new(way), size, place))
    }

    /// How the member is asked that has a file: a host asks who it is, a guest always its host.
    fn way(&self, held: &Session, author: MemberId) -> Option<Way> {
        let (peer, (hello, psk), name, seed) = match &held.side {
            Side::Host(room) => {
                let member = room.members.get(&author).filter(|member| member.is_online())?;
                (member.peer, member.for_files(), &room.opening.name, &room.opening.seed)
            }
            Side::Guest(seat, _) if seat.away_since.is_none() => {
                (seat.host, seat.for_files(), &seat.name, seat.seed())
            }
            Side::Guest(..) => return None,
        };
        let opener = self.connected.get(&peer)?.iter().find(|opener: &&Opener| !opener.is_closed())?.clone();
        let (own, begun) = (self.own, self.begun);
        Some(Way { opener, hello, psk, own, name: name.clone(), seed: seed.clone(), begun })
    }

    /// Begins to receive a file, or goes on, and says how far it is.
    pub(super) fn receive(&mut self, order: &Order) -> Result<Value, Trouble> {
        let id = self.chosen(order.session.as_deref())?;
        if order.stop {
            let receiving = self.files.receiving.get(&(id, order.offer));
            let receiving = receiving.filter(|receiving| receiving.is_under_way()).ok_or_else(|| {
                Trouble::new(Code::NotFound, format!("no file {} is on its way", order.offer))
                    .with_help("`mytunnel pair offers` shows which are.")
            })?;
            receiving.ended.cancel();
            return Ok(json!({ "session": id.to_string(), "offer": order.offer, "state": "stopped" }));
        }
        if let Some((fetch, offer)) = self.fetch(id, order)? {
            let (sender, state) = watch::channel(State::Receiving { received: 0 });
            let ended = CancellationToken::new();
            self.files.receive(id, order.offer, Receiving { offer, state, ended: ended.clone() });
            self.tasks.spawn(fetch.run(Arc::new(sender), ended, self.events.clone()));
        }
        self.received(order.session.as_deref(), order.offer)
    }

    /// What is to be done to have it; nothing where it is on its way, or all that is known is that it was received.
    fn fetch(&self, id: SessionId, order: &Order) -> Result<Option<(Fetch, Value)>, Trouble> {
        let offer = order.offer;
        let was_received = match self.files.state(id, offer) {
            Some(State::Receiving { .. }) => return Ok(None),
            Some(State::Received { .. }) => true,
            Some(State::Failed(_)) | None => false,
        };
        let held = self.sessions.get(&id).ok_or_else(no_session)?;
        let Some((entry, file)) = held.offer(offer) else {
            let unknown =
                || trouble::of_no(No::Unknown).with_message(format!("{offer} is no offer of this session"));
            return if was_received { Ok(None) } else { Err(unknown()) };
        };
        let way = match self.may_fetch(held, entry, file, order.most) {
            // What was received may still be there: that is looked at first.
            Err(trouble) if !was_received => return Err(trouble),
            way => way,
        };
        let under_way = self.files.receiving.values().filter(|receiving| receiving.is_under_way());
        if under_way.count() >= limits::RECEIVING {
            return Err(trouble::of_no(No::Busy));
        }
        let (file, name) = (file.clone(), format!("{offer}-{}", safe(&file.name)));
        let described = held.described(entry, &file);
        let errand = Errand { session: id, offer, file, inbox: order.inbox.clone(), name };
        Ok(Some((Fetch { way, errand }, described)))
    }

    /// How who offers it is asked.
    fn may_fetch(&self, held: &Session, entry: &Entry, file: &Shared, most: u64) -> Result<Way, Trouble> {
        if held.closed().is_some() {
            return Err(Trouble::new(Code::PairClosed, "the session is over"));
        }
        if entry.author == held.me() {
            return Err(Trouble::new(Code::BadRequest, "this file is offered by this machine itself"));
        }
        let most = most.min(limits::FILE_MOST);
        if file.size > most {
            let message = format!("the file has {} bytes, and {most} is the limit", file.size);
            let help = "A person may allow more, up to 10G: `mytunnel pair receive --max-size 1G NUMBER`.";
            return Err(Trouble::new(Code::PairTooLarge, message).with_help(help));
        }
        let is_there = held.is_there(entry.author);
        self.way(held, entry.author).filter(|_| is_there).ok_or_else(trouble::away)
    }
}

/// Does something that waits for the disk or for the processor, beside the others.
async fn blocking<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(act).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => panic::resume_unwind(panic),
            // The process ends.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests;
