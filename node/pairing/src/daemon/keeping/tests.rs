//! The owner with its disk, and a guest at the other end of a line: nothing goes before it is written.

use std::{collections::BTreeSet, time::Duration};

use mytunnel_keys::error::Code;
use serde_json::Value;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::*;
use crate::{
    card::Card,
    content::Said,
    daemon::{
        net,
        passages::{Passages, Via},
        queue::{Queue, queue},
    },
    hello::SeatId,
    link::Link,
    message::{ToGuest, ToHost, Verify},
    room::{Fresh, Room},
    sas::Nonce,
    secret::ResumeSecret,
};

pub(in crate::daemon) struct Place(tempfile::TempDir);

impl Place {
    pub(in crate::daemon) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(in crate::daemon) fn path(&self) -> PathBuf {
        self.0.path().join("folder/kept.db")
    }

    pub(in crate::daemon) fn mend(&self) {
        std::fs::create_dir_all(self.path().parent().unwrap()).unwrap();
    }

    /// A daemon that begins here.
    pub(in crate::daemon) async fn daemon(&self) -> (Daemon, mpsc::Receiver<links::Event>) {
        self.daemon_of(Passages::new(None, true)).await
    }

    /// One that has ways made.
    pub(in crate::daemon) async fn daemon_with(
        &self,
        ways: std::sync::Arc<dyn crate::ways::Ways>,
    ) -> (Daemon, mpsc::Receiver<links::Event>) {
        self.daemon_of(Passages::new(Some(ways), true)).await
    }

    /// One that begins as its process does.
    pub(in crate::daemon) async fn daemon_at(
        &self,
        listen: Vec<SocketAddr>,
        ways: std::sync::Arc<dyn crate::ways::Ways>,
    ) -> (Daemon, mpsc::Receiver<links::Event>) {
        self.mend();
        let (dir, linger) = (self.0.path().join("folder"), Duration::ZERO);
        let config = crate::daemon::Config { dir, listen, linger, ways: Some(ways) };
        let (events, inbox) = mpsc::channel(8);
        let (changed, _) = watch::channel(0);
        (crate::daemon::begin(config, events, changed).await.unwrap(), inbox)
    }

    async fn daemon_of(&self, passages: Passages) -> (Daemon, mpsc::Receiver<links::Event>) {
        let begun = Instant::now();
        let era = Era::of_machine(u64::from_be_bytes(super::super::random().unwrap()), super::super::wall());
        let mut found = Found::read(self.path(), &era, super::super::now(begun)).await.unwrap();
        let seed = Seed::from_bytes([1; 32]);
        let keeper = found.keeper(self.path(), &Machine::new(&seed));
        let (events, inbox) = mpsc::channel(8);
        let (changed, _) = watch::channel(0);
        let mut daemon =
            Daemon::new(net::swarm(&seed).unwrap(), keeper, passages, (era, begun), events, changed);
        daemon.go_on(found);
        (daemon, inbox)
    }
}

fn open(keep: bool) -> Request {
    let (goal, name, agent) = ("goal".to_owned(), "ada".to_owned(), String::new());
    Request::Open {
        goal,
        invites: 1,
        code: false,
        ttl_s: 600,
        verify: Verify::Ask,
        name,
        agent,
        keep,
        relay: None,
    }
}

fn say(text: &str) -> Request {
    let said = Said::Chat { text: text.to_owned() };
    Request::Say { session: None, said, reply_to: None, to: Vec::new() }
}

fn ask(daemon: &mut Daemon, request: Request) -> oneshot::Receiver<Answer> {
    let (reply, answer) = oneshot::channel();
    daemon.on_asked(request, reply);
    answer
}

/// Everything that is on its way to the disk.
pub(in crate::daemon) async fn write(daemon: &mut Daemon) {
    while let Some(done) = daemon.keeper.done().await {
        daemon.on_kept(done);
    }
}

pub(in crate::daemon) async fn done(daemon: &mut Daemon, request: Request) -> Value {
    let answer = ask(daemon, request);
    write(daemon).await;
    answer.await.unwrap().unwrap()
}

fn room(daemon: &mut Daemon) -> &mut Room {
    let session = daemon.sessions.values_mut().next().unwrap();
    let Side::Host(room) = &mut session.side else { panic!("it is the host") };
    room
}

/// Has a guest in by the first invite, as somebody who has proved it.
fn admit(daemon: &mut Daemon, opened: &Value) -> (SessionId, Queue) {
    let invite = Link::parse(opened["invites"][0]["text"].as_str().unwrap()).unwrap().invite;
    let now = daemon.now();
    let (seed, hash) = (Seed::from_bytes([10; 32]), [10; 32]);
    let card = Card::sign("bob", "", &seed, &hash);
    let resume = ResumeSecret::from_bytes([11; 32]);
    let fresh = Fresh { seat: SeatId([10; 8]), resume, nonce: Nonce::from_bytes([12; 16]) };
    let peer = mytunnel_carrier::peer_id(&seed.public());
    let member = room(daemon).admit(invite, card, peer, hash, fresh, now).unwrap();
    let id = *daemon.sessions.keys().next().unwrap();
    let (outgoing, queued) = queue();
    daemon.add_link(id, member, outgoing, Via::Network);
    daemon.flush(id);
    (id, queued)
}

/// What has been sent on a line.
fn sent(queue: &mut Queue) -> Vec<ToGuest> {
    let sent = std::iter::from_fn(|| queue.try_next());
    sent.map(|queued| ToGuest::parse(&queued.bytes).unwrap()).collect()
}

#[tokio::test]
async fn neither_a_peer_nor_a_client_is_told_of_anything_before_it_is_on_disk() {
    let place = Place::new();
    place.mend();
    let (mut daemon, _inbox) = place.daemon().await;
    let mut opened = ask(&mut daemon, open(true));
    assert!(opened.try_recv().is_err());
    write(&mut daemon).await;
    let opened = opened.await.unwrap().unwrap();

    let (id, mut line) = admit(&mut daemon, &opened);
    assert!(sent(&mut line).is_empty(), "that the invite is used is not on disk");
    write(&mut daemon).await;
    assert!(matches!(sent(&mut line).first(), Some(ToGuest::Welcome(_))));

    let mut said = ask(&mut daemon, say("hello"));
    assert!(said.try_recv().is_err() && sent(&mut line).is_empty());
    write(&mut daemon).await;
    assert_eq!(said.await.unwrap().unwrap()["sent"][0], "bob");
    assert!(matches!(sent(&mut line).as_slice(), [ToGuest::Entry { .. }]));

    // Who has come back on another line is not told what was for the one before.
    let said = ask(&mut daemon, say("on its way"));
    let (outgoing, mut other) = queue();
    daemon.add_link(id, 1, outgoing, Via::Network);
    write(&mut daemon).await;
    assert!(said.await.unwrap().is_ok() && sent(&mut other).is_empty());

    // What changes nothing waits for nothing.
    let now = daemon.now();
    room(&mut daemon).on_message(1, ToHost::Beat, now).unwrap();
    room(&mut daemon).beat();
    daemon.flush(id);
    assert!(matches!(sent(&mut other).as_slice(), [ToGuest::Beat]));
}

#[tokio::test]
async fn a_session_that_nobody_keeps_waits_for_no_disk_and_leaves_none() {
    let place = Place::new();
    let (mut daemon, _inbox) = place.daemon().await;
    let opened = ask(&mut daemon, open(false)).try_recv().unwrap().unwrap();
    let (_, mut line) = admit(&mut daemon, &opened);
    assert!(!sent(&mut line).is_empty());
    assert!(ask(&mut daemon, say("hello")).try_recv().unwrap().is_ok());
    assert!(daemon.keeper.is_idle() && !place.path().exists());
    let forget = Request::Close { session: None, forget: true };
    assert_eq!(ask(&mut daemon, forget).try_recv().unwrap().unwrap_err().code, Code::BadRequest);
}

#[tokio::test]
async fn a_guess_is_granted_when_it_is_counted_on_disk() {
    let place = Place::new();
    place.mend();
    let (mut daemon, _inbox) = place.daemon().await;
    let Request::Open { goal, invites, ttl_s, verify, name, agent, keep, .. } = open(true) else { panic!() };
    let opened = Request::Open { goal, invites, code: true, ttl_s, verify, name, agent, keep, relay: None };
    let opened = done(&mut daemon, opened).await;
    let code = opened["invites"][0]["text"].as_str().unwrap();
    let number = code.split_once('-').unwrap().0.parse().unwrap();
    for granted in [true, true, true, false] {
        let (reply, mut answer) = oneshot::channel();
        daemon.on_events([links::Event::Guess { number, reply }]);
        assert_eq!(answer.try_recv().is_err(), granted);
        write(&mut daemon).await;
        if granted {
            assert!(answer.await.unwrap());
        }
    }
    daemon.keeper.close().await;
    // Nor has a daemon that begins anew any left.
    let (mut daemon, _inbox) = place.daemon().await;
    write(&mut daemon).await;
    let (reply, answer) = oneshot::channel();
    daemon.on_events([links::Event::Guess { number, reply }]);
    assert!(!answer.await.unwrap());
}

#[tokio::test]
async fn what_cannot_be_written_did_not_happen_and_happens_when_it_can() {
    let place = Place::new();
    let (mut daemon, _inbox) = place.daemon().await;
    // There is no folder: nothing was ever written, so that nothing is left of it.
    let opened = ask(&mut daemon, open(true));
    write(&mut daemon).await;
    let trouble = opened.await.unwrap().unwrap_err();
    assert!(trouble.code == Code::PairStore && trouble.message.contains("kept.db"), "{trouble}");
    assert!(daemon.sessions.is_empty() && daemon.is_idle());

    place.mend();
    let opened = done(&mut daemon, open(true)).await;
    let (id, mut line) = admit(&mut daemon, &opened);
    write(&mut daemon).await;
    sent(&mut line);
    daemon.keeper.refuse_writes(true);
    let said = ask(&mut daemon, say("not to be heard"));
    write(&mut daemon).await;
    assert_eq!(said.await.unwrap().unwrap_err().code, Code::PairStore);
    assert!(sent(&mut line).is_empty() && line.ended.is_cancelled());
    // It rests, which is no end; who asks for it has it tried at once.
    assert!(daemon.sessions.is_empty() && !daemon.is_idle());
    let session = Some(id.to_string());
    let asked = Request::Export { session: session.clone() };
    assert!(done(&mut daemon, asked).await["entries"].as_array().unwrap().len() > 1);
    let said = ask(&mut daemon, say("nor this"));
    write(&mut daemon).await;
    assert_eq!(said.await.unwrap().unwrap_err().code, Code::PairStore);
    let again = ask(&mut daemon, say("nor that"));
    write(&mut daemon).await;
    assert_eq!(again.await.unwrap().unwrap_err().code, Code::PairStore);

    daemon.keeper.refuse_writes(false);
    daemon.begun -= Duration::from_secs(60);
    daemon.tick();
    write(&mut daemon).await;
    done(&mut daemon, say("heard")).await;
    let log = Request::Listen { session, reader: "me".to_owned(), since: Some(0), wait_ms: 0, own: true };
    let log = done(&mut daemon, log).await;
    assert_eq!(log["messages"].as_array().unwrap().len(), 1);
    assert_eq!((&log["messages"][0]["text"], &log["peers"][0]["name"]), (&"heard".into(), &"bob".into()));
}

#[tokio::test]
async fn a_daemon_that_begins_anew_has_the_sessions_of_the_one_before_and_their_places() {
    let place = Place::new();
    place.mend();
    let (mut daemon, _inbox) = place.daemon().await;
    let opened = done(&mut daemon, open(true)).await;
    let (id, _line) = admit(&mut daemon, &opened);
    done(&mut daemon, say("hello")).await;
    let (session, reader) = (Some(id.to_string()), "me".to_owned());
    done(&mut daemon, Request::Read { session: session.clone(), reader, number: 2, end: false }).await;
    // As a process that is killed: nothing more is done.
    drop(daemon);

    let (mut daemon, _inbox) = place.daemon().await;
    write(&mut daemon).await;
    let status = done(&mut daemon, Request::Status { session: None, reader: "me".to_owned() }).await;
    let status = &status["sessions"][0];
    assert_eq!(
        (&status["goal"], &status["kept"], &status["cursor"]),
        (&"goal".into(), &true.into(), &2.into())
    );
    assert_eq!(
        (&status["members"][0]["name"], &status["members"][0]["online"]),
        (&"bob".into(), &false.into())
    );
    assert_eq!(status["invites"][0]["state"], "consumed");
    done(&mut daemon, Request::Close { session: session.clone(), forget: true }).await;
    daemon.begun -= Duration::from_secs(60);
    daemon.tick();
    write(&mut daemon).await;
    assert!(daemon.sessions.values().all(Session::is_over));
    daemon.keeper.close().await;
    assert!(!place.path().exists());
}

/// Changes what is on disk while nobody has it open.
fn tamper(place: &Place, sql: &str, id: SessionId) {
    let connection = rusqlite::Connection::open(place.path()).unwrap();
    assert_eq!(connection.execute(sql, [id.0]).unwrap(), 1);
}

pub(in crate::daemon) async fn status(daemon: &mut Daemon) -> Value {
    done(daemon, Request::Status { session: None, reader: "me".to_owned() }).await
}

fn ids(status: &Value) -> BTreeSet<String> {
    let sessions = status["sessions"].as_array().unwrap();
    sessions.iter().map(|session| session["session"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_session_that_cannot_be_read_is_set_aside_and_the_others_go_on() {
    let place = Place::new();
    place.mend();
    let (mut daemon, _inbox) = place.daemon().await;
    done(&mut daemon, open(true)).await;
    let spoilt = *daemon.sessions.keys().next().unwrap();
    done(&mut daemon, open(true)).await;
    let sound = *daemon.sessions.keys().find(|id| **id != spoilt).unwrap();
    let machine = daemon.keeper.machine();
    drop(daemon);
    let spoil = [
        ("DELETE FROM entry WHERE session = ?1", "it does not fit together"),
        ("UPDATE session SET state = x'7f00' WHERE id = ?1", "another version of mytunnel has written it"),
    ];
    for (spoil, why) in spoil {
        tamper(&place, spoil, spoilt);
        let (mut daemon, _inbox) = place.daemon().await;
        write(&mut daemon).await;
        let shown = status(&mut daemon).await;
        assert_eq!(ids(&shown), [sound.to_string()].into());
        let aside = &shown["unreadable"][0];
        assert_eq!((&aside["session"], &aside["why"]), (&spoilt.to_string().into(), &why.into()), "{shown}");
        let say = Request::Say {
            session: Some(sound.to_string()),
            said: Said::Chat { text: "on".to_owned() },
            reply_to: None,
            to: Vec::new(),
        };
        done(&mut daemon, say).await;
        let session = Some(spoilt.to_string());
        let asked = ask(&mut daemon, Request::Export { session });
        write(&mut daemon).await;
        assert_eq!(asked.await.unwrap().unwrap_err().code, Code::PairStore);
        drop(daemon);
    }
    // Alone it has the daemon keep the machine's key, for who can read it.
    let (mut daemon, _inbox) = place.daemon().await;
    done(&mut daemon, Request::Close { session: Some(sound.to_string()), forget: true }).await;
    daemon.keeper.close().await;
    let found = Found::read(place.path(), &Era::of_machine(0, 0), super::super::now(Instant::now())).await;
    let found = found.unwrap();
    assert!(found.sessions.is_empty() && found.machine.as_ref().map(Machine::to_bytes) == Some(machine));
    drop(found);
    let (mut daemon, _inbox) = place.daemon().await;
    assert!(daemon.is_idle(), "it keeps no daemon up");
    let session = Some(spoilt.to_string());
    done(&mut daemon, Request::Close { session, forget: true }).await;
    assert!(status(&mut daemon).await["unreadable"].as_array().unwrap().is_empty());
    daemon.keeper.close().await;
    assert!(!place.path().exists());
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_set_aside_when_it_is_asked_for() {
    let place = Place::new();
    place.mend();
    let (mut daemon, _inbox) = place.daemon().await;
    done(&mut daemon, open(true)).await;
    let id = *daemon.sessions.keys().next().unwrap();
    let session = Some(id.to_string());
    done(&mut daemon, Request::Close { session: session.clone(), forget: false }).await;
    daemon.keeper.close().await;
    tamper(&place, "UPDATE session SET state = x'' WHERE id = ?1", id);
    let (mut daemon, _inbox) = place.daemon().await;
    assert_eq!(status(&mut daemon).await["records"][0], id.to_string());
    let asked = ask(&mut daemon, Request::Export { session: session.clone() });
    write(&mut daemon).await;
    assert_eq!(asked.await.unwrap().unwrap_err().code, Code::PairStore);
    assert_eq!(status(&mut daemon).await["unreadable"][0]["session"], id.to_string());
    done(&mut daemon, Request::Close { session, forget: true }).await;
    assert!(status(&mut daemon).await["unreadable"].as_array().unwrap().is_empty());
}
