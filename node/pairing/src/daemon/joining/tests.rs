//! A host that says under which id a session is.

use super::*;
use crate::{
    api::Request,
    card::Card,
    daemon::{
        keeping::tests::{Place, done, status, write},
        queue::queue,
    },
    hello::SeatId,
    invite::Verifier,
    limits,
    link::InviteId,
    room::{Fresh, Opening, Outgoing, Room},
    secret::{Psk, ResumeSecret},
};

const ID: SessionId = SessionId([7; 8]);

/// What a guest is told who has come in at a host, and what is known of that.
fn invited(now: Now, keep: bool) -> (Welcome, Begun, oneshot::Receiver<Result<serde_json::Value, Trouble>>) {
    let seed = |byte| Seed::from_bytes([byte; 32]);
    let opening = Opening {
        session: ID,
        goal: "fix the build".to_owned(),
        name: "host".to_owned(),
        agent: String::new(),
        verify: Verify::Ask,
        seed: seed(2),
        keep: false,
    };
    let mut room = Room::open(opening, now);
    let invite = InviteId::from_bytes([3; 8]);
    room.invite(invite, Verifier::Psk(Psk::default()), limits::TTL, now).unwrap();
    let (handshake, nonce) = ([4; 32], Nonce::from_bytes([5; 16]));
    let card = Card::sign("guest", "", &seed(6), &handshake);
    let fresh = Fresh { seat: SeatId([6; 8]), resume: ResumeSecret::from_bytes([7; 32]), nonce };
    let peer = mytunnel_carrier::peer_id(&seed(6).public());
    room.admit(invite, card, peer, handshake, fresh, now).unwrap();
    let Some(Outgoing { message: ToGuest::Welcome(welcome), .. }) = room.poll_message() else {
        panic!("the first message is the welcome");
    };
    let (outgoing, _queue) = queue();
    let (client, answer) = oneshot::channel();
    let begun = Begun {
        host: mytunnel_carrier::peer_id(&seed(2).public()),
        handshake,
        seed: seed(6),
        wishes: Wishes { verify: Verify::Off, keep, relay: true },
        addresses: Vec::new(),
        outgoing,
        connection: ConnectionId::new_unchecked(1),
        ticket: None,
        client,
    };
    (*welcome, begun, answer)
}

async fn join(daemon: &mut Daemon, keep: bool) -> Result<serde_json::Value, Trouble> {
    let (welcome, begun, answer) = invited(daemon.now(), keep);
    let (reply, _linked) = oneshot::channel();
    daemon.on_joined(Joined::New { welcome: Box::new(welcome), begun: Box::new(begun), reply });
    write(daemon).await;
    answer.await.unwrap()
}

#[tokio::test]
async fn a_host_that_invites_again_under_the_id_of_a_session_on_disk_is_refused_and_its_record_stays() {
    let place = Place::new();
    place.mend();
    let (mut daemon, _inbox) = place.daemon().await;
    join(&mut daemon, true).await.unwrap();
    let Some(Session { side: Side::Guest(seat, _), .. }) = daemon.sessions.get_mut(&ID) else { panic!() };
    seat.close(Why::Host);
    daemon.flush(ID);
    write(&mut daemon).await;
    daemon.keeper.close().await;
    for keep in [true, false] {
        let (mut daemon, _inbox) = place.daemon().await;
        write(&mut daemon).await;
        assert!(daemon.sessions.is_empty());
        let refused = join(&mut daemon, keep).await.unwrap_err();
        assert!(refused.code == Code::PairUsed && refused.help.is_some(), "{refused}");
        assert!(daemon.sessions.is_empty());
        assert_eq!(status(&mut daemon).await["records"][0], ID.to_string());
        daemon.keeper.close().await;
    }
    // Who wants to come in again lets the record go.
    let (mut daemon, _inbox) = place.daemon().await;
    done(&mut daemon, Request::Close { session: Some(ID.to_string()), forget: true }).await;
    daemon.sessions.clear();
    join(&mut daemon, true).await.unwrap();
}
