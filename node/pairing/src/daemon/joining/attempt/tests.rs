//! A guest at whose end a way stands.

use mytunnel_keys::{
    secret::{Seed, TicketSecret},
    token::{TicketToken, Token},
    trust::RootFingerprint,
};

use super::*;

fn detour(events: mpsc::Sender<links::Event>) -> Detour {
    let secret = TicketSecret::from_bytes([1; 32]);
    let (root, server) = (RootFingerprint::from_bytes([1; 16]), "https://tun.example".parse().unwrap());
    let ticket = Token::Ticket(TicketToken { secret, root, server }).to_text();
    let ticket = Ticket::parse(&ticket).unwrap();
    Detour {
        host: mytunnel_carrier::peer_id(&Seed::from_bytes([1; 32]).public()),
        wanted: Wanted::Join(ticket),
        events,
    }
}

/// How many dials a guest makes through a way that stands so, and what it says in the end.
async fn dials(stand: Stand) -> (usize, NoWay) {
    let (events, mut inbox) = mpsc::channel(8);
    let (_keep, told) = watch::channel(stand);
    let owner = async {
        let mut dials = 0;
        while let Some(event) = inbox.recv().await {
            match event {
                links::Event::Detour { reply, .. } => reply.send(told.clone()).unwrap(),
                // Nobody is found.
                links::Event::DialThrough { found, .. } => {
                    dials += 1;
                    found.send(None).unwrap();
                }
                _ => panic!("a guest asks for nothing else"),
            }
        }
        dials
    };
    let reached = async move { detour(events).reach().await.map(drop).unwrap_err() };
    tokio::join!(owner, reached)
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_not_reached_through_a_way_at_once_is_dialled_again_while_there_is_time() {
    let began = Instant::now();
    let at = Some("127.0.0.1:1".parse().unwrap());
    let (dials, no_way) = dials(Stand { state: State::Open, at, ..Stand::default() }).await;
    assert!(dials > 10 && no_way.why.contains("does not answer"), "{dials} {no_way:?}");
    let took = began.elapsed();
    assert!(took > DETOUR - 2 * REDIAL && took <= DETOUR, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn why_there_is_no_way_comes_with_what_helps() {
    let (why, help) = ("not now".to_owned(), "Set the clock.".to_owned());
    let (dials, no_way) = dials(Stand { state: State::Closed, why, help, ..Stand::default() }).await;
    assert_eq!(dials, 0);
    let told = Failed::no_way(no_way).told(&[]);
    assert_eq!((told.code, told.help.as_deref()), (Code::PairUnreachable, Some("Set the clock.")), "{told}");
}

#[test]
fn of_an_invite_that_has_expired_it_is_said_since_when() {
    let said = |code, left| in_time(Trouble::new(code, "x"), left).to_string();
    for (left, minutes) in [(0, 1), (-1, 1), (-60, 1), (-61, 2), (-3600, 60)] {
        let said = said(Code::PairExpired, Some(left));
        assert!(said.contains(&format!("expired {minutes} min ago")), "{said}");
    }
    // By the host's clock, and not by this one; or it is not written in it.
    assert!(
        !said(Code::PairExpired, Some(5)).contains("ago") && !said(Code::PairExpired, None).contains("ago")
    );
    assert!(!said(Code::PairUsed, Some(-5)).contains("ago"));
}
