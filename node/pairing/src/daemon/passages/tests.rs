//! Ways that are made by nobody, so that it is seen what is asked of them.

use std::sync::{Mutex, PoisonError};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture};
use mytunnel_keys::{
    secret::TicketSecret,
    token::{TicketToken, Token},
    trust::RootFingerprint,
};

use super::anew::{ANEW, ANEW_MOST};
use super::*;
use crate::{
    api::{GrantedTicket, RelayGrant, Request},
    daemon::keeping::tests::{Place, done, status},
    link::Link,
    message::Verify,
};

#[derive(Debug, Default)]
struct Asked(Mutex<Vec<(Option<SocketAddr>, Line)>>, Mutex<Vec<bool>>);

impl Asked {
    fn all<T>(&self, look: impl FnOnce(&[(Option<SocketAddr>, Line)]) -> T) -> T {
        look(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Of each guest's way, whether it began with a key.
    fn passes(&self) -> Vec<bool> {
        self.1.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, target: Option<SocketAddr>, line: Line) -> BoxFuture<'static, ()> {
        let stop = line.stop.clone();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((target, line));
        async move { stop.cancelled().await }.boxed()
    }
}

impl Ways for Asked {
    fn serve(&self, _key: WayKey, target: SocketAddr, line: Line) -> BoxFuture<'static, ()> {
        self.note(Some(target), line)
    }

    fn reach(&self, pass: Pass, line: Line) -> BoxFuture<'static, ()> {
        self.1.lock().unwrap_or_else(PoisonError::into_inner).push(matches!(pass, Pass::Key(_)));
        self.note(None, line)
    }
}

fn ticket(byte: u8) -> String {
    let secret = TicketSecret::from_bytes([byte; 32]);
    let root = RootFingerprint::from_bytes([1; 16]);
    let server = "https://tun.example".parse().unwrap();
    Token::Ticket(TicketToken { secret, root, server }).to_text().to_string()
}

fn key(text: &str) -> WayKey {
    WayKey::new(text.to_owned().into())
}

fn grant(name: &str, has_key: bool) -> RelayGrant {
    RelayGrant {
        key: has_key.then(|| key("a key")),
        about: BTreeMap::from([("name".to_owned(), name.to_owned())]),
        tickets: vec![GrantedTicket { text: key(&ticket(1)), id: "tkt_1".to_owned() }],
        wait_ms: 0,
    }
}

fn open(relay: Option<RelayGrant>) -> Request {
    open_and_keep(relay, false)
}

fn open_and_keep(relay: Option<RelayGrant>, keep: bool) -> Request {
    let (goal, name, agent) = (String::new(), "ada".to_owned(), String::new());
    let (code, ttl_s, verify) = (false, 600, Verify::Ask);
    Request::Open { goal, invites: 1, code, ttl_s, verify, name, agent, keep, relay }
}

fn link(answer: &Value) -> Link {
    Link::parse(answer["invites"][0]["text"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn a_session_with_a_way_has_a_door_of_its_own_that_nobody_is_told_of_until_it_is_over() {
    let (place, asked) = (Place::new(), Arc::new(Asked::default()));
    let (mut daemon, _inbox) = place.daemon_with(asked.clone()).await;
    let opened = done(&mut daemon, open(Some(grant("pair-a", true)))).await;
    assert_eq!(opened["relay"]["state"], "opening");
    assert!(link(&opened).ticket.is_some() && opened["invites"][0]["relay"] == true);
    while daemon.passages.of.is_empty() {
        let event = daemon.swarm.select_next_some().await;
        daemon.on_swarm(event);
    }
    let door = asked.all(|asked| asked[0].0.unwrap());
    assert!(door.ip().is_loopback());
    let is_door = |address: &Multiaddr| address::socket(address).is_some_and(|(socket, _)| socket == door);
    assert!(daemon.swarm.listeners().any(is_door) && !daemon.own_addresses().iter().any(is_door));
    asked.all(|asked| asked[0].1.stand.send_modify(|stand| stand.state = State::Open));
    assert_eq!(status(&mut daemon).await["sessions"][0]["relay"]["state"], "open");

    // More tickets for it, and none that would lead elsewhere.
    for (name, leads) in [("pair-a", true), ("pair-b", false)] {
        let relay = Some(grant(name, false));
        let more = Request::Invite { session: None, count: 1, code: false, ttl_s: 600, relay };
        assert_eq!(link(&done(&mut daemon, more).await).ticket.is_some(), leads, "{name}");
    }
    let closed = done(&mut daemon, Request::Close { session: None, forget: false }).await;
    assert_eq!(closed["tickets"], json!(["tkt_1", "tkt_1"]));
    let now = daemon.now();
    daemon.tick_passages(now);
    assert!(asked.all(|asked| asked[0].1.stop.is_cancelled()));
    while daemon.swarm.listeners().any(is_door) {
        let event = daemon.swarm.select_next_some().await;
        daemon.on_swarm(event);
    }
    daemon.passages.stop().await;
}

#[tokio::test]
async fn whoever_tries_again_has_the_same_way_and_no_more_than_some_are_kept_for_a_while() {
    let (place, asked) = (Place::new(), Arc::new(Asked::default()));
    let (mut daemon, _inbox) = place.daemon_with(asked.clone()).await;
    let ask = |daemon: &mut Daemon, byte| {
        let (reply, mut stand) = oneshot::channel();
        daemon.detour(Wanted::Join(Ticket::parse(&ticket(byte)).unwrap()), reply);
        stand.try_recv().unwrap()
    };
    for _ in 0..3 {
        ask(&mut daemon, 1);
    }
    assert_eq!(asked.all(<[_]>::len), 1);
    for byte in 2..=u8::try_from(EARLY).unwrap() + 1 {
        ask(&mut daemon, byte);
    }
    let ended =
        |asked: &Asked| asked.all(|all| all.iter().filter(|(_, line)| line.stop.is_cancelled()).count());
    assert_eq!((ended(&asked), daemon.passages.early.len()), (1, EARLY));
    assert!(!daemon.is_idle());
    let mut now = daemon.now();
    now.steady += RETRY;
    daemon.tick_passages(now);
    assert_eq!((ended(&asked), daemon.passages.early.len()), (1 + EARLY, 0));
    assert!(daemon.is_idle());
    daemon.passages.stop().await;
}

#[tokio::test]
async fn an_invite_is_taken_back_by_its_id_with_its_ticket_and_no_other() {
    let (place, asked) = (Place::new(), Arc::new(Asked::default()));
    let (mut daemon, _inbox) = place.daemon_with(asked).await;
    let opened = done(&mut daemon, open(Some(grant("pair-a", true)))).await;
    let mut relay = grant("pair-a", false);
    relay.tickets[0].id = "tkt_2".to_owned();
    let more = Request::Invite { session: None, count: 1, code: false, ttl_s: 600, relay: Some(relay) };
    let invited = done(&mut daemon, more).await;
    let id = |answer: &Value| answer["invites"][0]["id"].as_str().unwrap().to_owned();
    let revoke = Request::Revoke { session: None, invites: vec![id(&invited)] };
    let revoked = done(&mut daemon, revoke).await;
    assert_eq!((&revoked["revoked"], &revoked["tickets"]), (&json!(1), &json!(["tkt_2"])));
    let status = status(&mut daemon).await;
    let invites = status["sessions"][0]["invites"].as_array().unwrap();
    let state = |wanted: &str| &invites.iter().find(|invite| invite["id"] == wanted).unwrap()["state"];
    assert_eq!((state(&id(&opened)), state(&id(&invited))), (&"open".into(), &"revoked".into()));
    let closed = done(&mut daemon, Request::Close { session: None, forget: false }).await;
    assert_eq!(closed["tickets"], json!(["tkt_1"]));
    daemon.passages.stop().await;
}

#[tokio::test]
async fn of_the_ways_of_guests_the_one_that_was_not_asked_for_the_longest_makes_room() {
    let (place, asked) = (Place::new(), Arc::new(Asked::default()));
    let (mut daemon, _inbox) = place.daemon_with(asked.clone()).await;
    for byte in [1, 2, 3, 4, 1, 5] {
        let (reply, mut stand) = oneshot::channel();
        daemon.detour(Wanted::Join(Ticket::parse(&ticket(byte)).unwrap()), reply);
        stand.try_recv().unwrap();
    }
    let ended: Vec<bool> = asked.all(|all| all.iter().map(|(_, line)| line.stop.is_cancelled()).collect());
    assert_eq!(ended, [false, true, false, false, false]);
    daemon.passages.stop().await;
}

#[tokio::test]
async fn a_way_that_ended_for_a_reason_that_may_pass_begins_anew_later_and_later() {
    let (place, asked) = (Place::new(), Arc::new(Asked::default()));
    let (mut daemon, _inbox) = place.daemon_with(asked.clone()).await;
    done(&mut daemon, open(Some(grant("pair-a", true)))).await;
    while daemon.passages.of.is_empty() {
        let event = daemon.swarm.select_next_some().await;
        daemon.on_swarm(event);
    }
    let close = |passes| {
        asked.all(|asked| {
            asked.last().unwrap().1.stand.send_modify(|stand| {
                *stand = Stand { state: State::Closed, why: "x".to_owned(), passes, ..Stand::default() };
            });
        });
    };
    let mut now = daemon.now();
    for (count, pause) in [(1, ANEW), (2, 2 * ANEW), (3, 4 * ANEW)] {
        close(true);
        daemon.tick_passages(now);
        now.steady += pause - Duration::from_secs(1);
        daemon.tick_passages(now);
        assert_eq!(asked.all(<[_]>::len), count, "not yet");
        now.steady += Duration::from_secs(1);
        daemon.tick_passages(now);
        assert_eq!(asked.all(<[_]>::len), count + 1);
    }
    let doors = asked.all(|asked| asked.iter().map(|(door, _)| door.unwrap()).collect::<HashSet<_>>());
    assert_eq!(doors.len(), 1, "it leads to the same door");
    close(false);
    daemon.tick_passages(now);
    now.steady += 2 * ANEW_MOST;
    daemon.tick_passages(now);
    assert_eq!(asked.all(<[_]>::len), 4, "what is over for good stays so");
    daemon.passages.stop().await;
}

#[tokio::test]
async fn who_tries_a_link_again_whose_way_is_over_for_now_gets_another_with_what_it_got_for_its_ticket() {
    let (place, asked) = (Place::new(), Arc::new(Asked::default()));
    let (mut daemon, _inbox) = place.daemon_with(asked.clone()).await;
    let mut ask = |byte| {
        let (reply, mut stand) = oneshot::channel();
        daemon.detour(Wanted::Join(Ticket::parse(&ticket(byte)).unwrap()), reply);
        stand.try_recv().unwrap()
    };
    for (passes, count) in [(true, 2), (false, 2)] {
        ask(1);
        asked.all(|asked| {
            asked.last().unwrap().1.stand.send_modify(|stand| {
                *stand = Stand { state: State::Closed, passes, key: Some(key("k")), ..Stand::default() };
            });
        });
        ask(1);
        assert_eq!(asked.all(<[_]>::len), count);
    }
    assert_eq!(asked.passes(), [false, true], "the ticket, and then the key");
    daemon.passages.stop().await;
}

/// Which paths may be looked for is decided by where peers come, also of those who started no process themselves.
#[tokio::test]
async fn ways_open_nothing_else_where_it_was_said_where_to_listen_also_after_a_restart_where_it_was_not() {
    let narrow = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
    for (said, direct) in [(narrow, false), (Vec::new(), true)] {
        let place = Place::new();
        for (listen, is_new) in [(said, true), (Vec::new(), false)] {
            let asked = Arc::new(Asked::default());
            let (mut daemon, _inbox) = place.daemon_at(listen, asked.clone()).await;
            if is_new {
                done(&mut daemon, open_and_keep(Some(grant("pair-a", true)), true)).await;
            }
            while daemon.passages.of.is_empty() {
                let event = daemon.swarm.select_next_some().await;
                daemon.on_swarm(event);
            }
            assert_eq!(asked.all(|asked| asked[0].1.direct), direct, "new: {is_new}");
            daemon.passages.stop().await;
            daemon.keeper.close().await;
        }
    }
}

#[tokio::test]
async fn without_anything_that_makes_ways_there_are_none() {
    let place = Place::new();
    let (mut daemon, _inbox) = place.daemon().await;
    let opened = done(&mut daemon, open(Some(grant("pair-a", true)))).await;
    assert!(opened["relay"].is_null() && link(&opened).ticket.is_none());
}
