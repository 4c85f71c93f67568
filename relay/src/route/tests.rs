use futures::{FutureExt as _, future::BoxFuture};
use mytunnel_keys::id::Cluster;

use tokio::time::Instant;

use super::*;
use crate::ingress::{Bounds, host};

#[derive(Debug)]
struct NoPipes;

impl PipeSource for NoPipes {
    fn open(&self) -> BoxFuture<'_, Result<Pipe, PipeError>> {
        Box::pin(async { Err(PipeError::Gone) })
    }
}

fn tunnel(name: &str) -> Tunnel {
    let (cluster, project): (Cluster, ProjectId) = ("tun.test".parse().unwrap(), "proj_a".parse().unwrap());
    let name: TunnelName = name.parse().unwrap();
    Tunnel::new(
        TunnelId::derive(&cluster, &project, &name),
        name,
        project,
        TunnelKind::Http,
        Arc::new(NoPipes),
    )
}

fn is_live(found: &Lookup, tunnel: &Arc<Tunnel>) -> bool {
    matches!(found, Lookup::Live(found) if Arc::ptr_eq(found, tunnel))
}

#[test]
fn a_name_is_unknown_away_or_live() {
    let routes = Routes::new();
    assert!(matches!(routes.find("web"), Lookup::Unknown));
    routes.note_known(&"web".parse().unwrap(), None);
    assert!(matches!(routes.find("web"), Lookup::Away));
    let first = routes.insert(tunnel("web"));
    assert!(is_live(&routes.find("web"), &first));
    routes.note_known(&"web".parse().unwrap(), None);
    assert!(is_live(&routes.find("web"), &first), "noting a name does not take its tunnel");
    routes.remove(&first);
    assert!(first.is_closed());
    assert!(matches!(routes.find("web"), Lookup::Away));
    routes.remove(&first);
    assert!(matches!(routes.find("web"), Lookup::Away));
    routes.forget(&"web".parse().unwrap());
    assert!(matches!(routes.find("web"), Lookup::Unknown));
}

#[tokio::test(start_paused = true)]
async fn what_a_name_carries_is_known_by_who_serves_it_and_by_the_last_news() {
    let (routes, name) = (Routes::partial(), "web".parse().unwrap());
    let unheard = async |routes: &Routes| {
        let heard = tokio::time::timeout(Duration::from_secs(9), routes.heard_of("web"));
        heard.await.is_err()
    };
    assert!(unheard(&routes).await);
    routes.note_known(&name, None);
    assert!(unheard(&routes).await, "that it exists says nothing");
    let (heard, ()) = tokio::join!(unheard(&routes), async {
        tokio::task::yield_now().await;
        routes.note_known(&name, Some(TunnelKind::Tls));
        routes.note_heard();
    });
    assert!(!heard && routes.is_passed_through("web"));
    let first = routes.insert(tunnel("web"));
    routes.note_known(&name, Some(TunnelKind::Tls));
    assert!(!routes.is_passed_through("web"), "who serves it knows better");
    routes.remove(&first);
    routes.note_known(&name, Some(TunnelKind::Tls));
    assert!(routes.is_passed_through("web"));
    routes.forget(&name);
    assert_eq!(routes.known_kind("web"), None);
    routes.set_whole();
    assert!(!unheard(&routes).await, "there is nothing more to be heard");
}

#[tokio::test(start_paused = true)]
async fn a_retired_name_is_not_waited_for_until_it_is_served_again() {
    let routes = Routes::new();
    let name: TunnelName = "web".parse().unwrap();
    let first = routes.insert(tunnel("web"));
    routes.retire(&name);
    assert!(is_live(&routes.find("web"), &first), "a live tunnel is not touched");
    routes.remove(&first);
    let started = Instant::now();
    let (waited, ()) = tokio::join!(routes.wait_live("web", Duration::from_secs(5)), async {
        tokio::task::yield_now().await;
        routes.retire(&name);
    });
    assert!(matches!(waited, Lookup::Ended), "who waits is told");
    assert!(matches!(routes.wait_live("web", Duration::from_secs(5)).await, Lookup::Ended));
    assert_eq!(started.elapsed(), Duration::ZERO);
    routes.note_known(&name, None);
    assert!(matches!(routes.find("web"), Lookup::Ended), "that the name exists is nothing new");
    let again = routes.insert(tunnel("web"));
    assert!(is_live(&routes.find("web"), &again));
    routes.retire(&"other".parse().unwrap());
    assert!(matches!(routes.find("other"), Lookup::Unknown));
}

#[test]
fn a_later_registration_stands_beside_the_earlier_and_outlives_it() {
    let routes = Routes::new();
    let first = routes.insert(tunnel("web"));
    assert!(!first.is_accompanied());
    let second = routes.insert(tunnel("web"));
    assert_eq!(first.id(), second.id());
    assert!(!first.is_closed() && !second.is_closed());
    assert!(first.is_accompanied() && second.is_accompanied());
    assert_eq!(routes.live().len(), 2);
    routes.remove(&first);
    assert!(first.is_closed() && !second.is_closed() && !second.is_accompanied());
    assert!(is_live(&routes.find("web"), &second) && routes.is_served(second.name()));
    routes.remove(&first);
    assert!(is_live(&routes.find("web"), &second), "what is out already takes nobody with it");
    let third = routes.insert(tunnel("web"));
    routes.forget(second.name());
    assert!(second.is_closed() && third.is_closed());
}

fn led(routes: &Routes) -> Arc<Tunnel> {
    match routes.lead("web") {
        Lookup::Live(tunnel) => tunnel,
        other @ (Lookup::Away | Lookup::Ended | Lookup::Unknown) => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn visitors_are_led_to_who_serves_fewest_and_past_who_cannot() {
    let routes = Routes::new();
    let [one, two, three] = [(); 3].map(|()| routes.insert(tunnel("web")));
    let cut = CancellationToken::new();
    let bounds = Bounds { tunnel: 9, key: None };
    let _seats = [&one, &one, &three].map(|busy| busy.seats().enter_line(&cut, bounds).unwrap());
    assert!((0..6).all(|_| Arc::ptr_eq(&led(&routes), &two)));

    two.note_lost();
    assert!((0..6).all(|_| Arc::ptr_eq(&led(&routes), &three)));
    three.note_refused();
    assert!((0..6).all(|_| Arc::ptr_eq(&led(&routes), &one)));
    assert!(routes.another(slice::from_ref(&one)).is_none(), "one rests, one is lost");

    tokio::time::advance(Duration::from_secs(3)).await;
    assert!((0..6).all(|_| Arc::ptr_eq(&led(&routes), &three)), "who may not be let in takes no trial");
    assert!(routes.settle(&three).is_none(), "one visitor tries it");
    assert!(Arc::ptr_eq(&routes.settle(&three).unwrap(), &one), "who was led there with that one does not");
    assert!(Arc::ptr_eq(&led(&routes), &one) && routes.settle(&one).is_none());
    three.note_answered();
    assert!(Arc::ptr_eq(&led(&routes), &three));

    three.note_refused();
    one.note_refused();
    assert!(Arc::ptr_eq(&led(&routes), &three), "when all rest, they serve as if they did not");
    one.close();
    three.close();
    assert!(matches!(routes.lead("web"), Lookup::Away), "closed, or lost");
}

/// A node that does not say whether it is there.
#[derive(Debug)]
struct Still;

impl PipeSource for Still {
    fn open(&self) -> BoxFuture<'_, Result<Pipe, PipeError>> {
        Box::pin(std::future::pending())
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), PipeError>> {
        Box::pin(std::future::pending())
    }
}

fn still() -> Tunnel {
    Tunnel { source: Arc::new(Still), ..tunnel("web") }
}

#[tokio::test(start_paused = true)]
async fn who_is_being_asked_whether_it_is_there_takes_what_another_refuses() {
    let routes = Routes::new();
    let (one, two) = (routes.insert(still()), routes.insert(tunnel("web")));
    let mut asked = Box::pin(one.ask());
    assert!(asked.as_mut().now_or_never().is_none());
    assert!(Arc::ptr_eq(&led(&routes), &two), "nobody new while there is another");
    assert!(Arc::ptr_eq(&routes.another(slice::from_ref(&two)).unwrap(), &one));
    assert!(routes.has_another(&[], &two) && !routes.has_another(slice::from_ref(&one), &two));
    // Who asked may leave: it is found out all the same.
    drop(asked);
    one.ask().await;
    assert!(one.is_silent());
    assert!(routes.another(slice::from_ref(&two)).is_none() && !routes.has_another(&[], &two));
    // Looking takes nobody's trial.
    tokio::time::advance(Duration::from_secs(10)).await;
    assert!(routes.has_another(&[], &two) && routes.has_another(&[], &two));
    assert!(Arc::ptr_eq(&routes.another(slice::from_ref(&two)).unwrap(), &one));
}

#[tokio::test(start_paused = true)]
async fn who_leaves_while_a_node_is_asked_keeps_nobody_from_finding_out() {
    let one = still();
    let began = Instant::now();
    for _ in 0..100 {
        // Each has half of the time that it takes.
        drop(tokio::time::timeout(Duration::from_secs(1), one.ask()).await);
        if one.is_silent() {
            break;
        }
    }
    assert!(one.is_silent() && began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_node_is_not_silent_while_anything_is_heard_of_it_on_whatever_tunnel() {
    let life = Arc::default();
    let [one, other] = [(); 2].map(|()| still().of_node(&life));
    let asked = std::pin::pin!(one.ask());
    let heard = async {
        tokio::time::sleep(Duration::from_millis(1900)).await;
        other.life().hear();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = asked => {}
        () = heard => {}
    }
    assert!(!one.is_silent());
    one.ask().await;
    assert!(one.is_silent(), "what was heard before it was asked is no answer");
    other.life().hear();
    assert!(!one.is_silent() && one.is_well(), "heard again");
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_line_is_busy_has_longer_to_say_that_it_is_there_but_not_for_ever() {
    let took = async |bytes: usize| {
        let (one, began) = (still(), Instant::now());
        let uploads = async {
            loop {
                tokio::time::sleep(Duration::from_millis(100)).await;
                one.life().take(bytes);
            }
        };
        tokio::select! {
            () = one.ask() => {}
            () = uploads => {}
        }
        assert!(one.is_silent(), "a kernel takes bytes, too");
        began.elapsed().as_secs()
    };
    assert_eq!([took(0).await, took(100).await, took(64 * 1024).await], [2, 2, 8]);
}

#[test]
fn who_is_about_to_end_gets_nobody_new_while_there_is_another() {
    let routes = Routes::new();
    let [one, two] = [(); 2].map(|()| routes.insert(tunnel("web")));
    one.note_leaving();
    assert!((0..4).all(|_| Arc::ptr_eq(&led(&routes), &two)));
    assert!(!one.is_closed());
    two.note_leaving();
    assert!(routes.another(slice::from_ref(&one)).is_none());
    led(&routes);
    routes.remove(&two);
    assert!(Arc::ptr_eq(&led(&routes), &one), "somebody has to");
}

#[tokio::test(start_paused = true)]
async fn who_turns_from_one_finds_another_at_once() {
    let routes = Routes::new();
    let one = routes.insert(tunnel("web"));
    assert!(routes.another(slice::from_ref(&one)).is_none());
    let two = routes.insert(tunnel("web"));
    let started = Instant::now();
    assert!(Arc::ptr_eq(&routes.another(slice::from_ref(&one)).unwrap(), &two));
    routes.remove(&one);
    assert!(
        Arc::ptr_eq(&routes.another(slice::from_ref(&one)).unwrap(), &two),
        "also who was with one that left"
    );
    assert!(is_live(&routes.wait_other(&one, Duration::from_secs(5)).await, &two));
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_led_to_another_tunnel_that_has_the_name_by_now() {
    let routes = Routes::new();
    let [one, two] = [(); 2].map(|()| routes.insert(tunnel("web")));
    let other = Tunnel { id: TunnelId::from_bytes([9; 16]), ..tunnel("web") };
    for next in [other, Tunnel { kind: TunnelKind::Tls, ..tunnel("web") }] {
        let next = routes.insert(next);
        assert!(one.is_accompanied() && two.is_closed());
        assert!(routes.another(slice::from_ref(&one)).is_none());
        assert!(matches!(routes.wait_other(&one, Duration::from_secs(5)).await, Lookup::Unknown));
        assert!(
            is_live(&routes.wait_live("web", Duration::from_secs(5)).await, &next),
            "who comes for it is"
        );
    }
}

#[test]
fn domains_go_with_the_name_that_they_led_to_last() {
    let routes = Routes::new();
    let [web, app] = ["web", "app"].map(|name| name.parse().unwrap());
    let [one, two] = ["one.example", "two.example"].map(|domain| domain.parse().unwrap());
    routes.point(&one, &web);
    routes.point(&two, &web);
    routes.point(&two, &app);
    let leads = |host: &str| match routes.destination(host, "t.example", "t.example") {
        host::Destination::Tunnel(label) => label.into_owned(),
        host::Destination::Console | host::Destination::Nowhere => String::new(),
    };
    assert_eq!((leads("one.example"), leads("two.example")), ("web".to_owned(), "app".to_owned()));
    routes.forget(&web);
    assert_eq!((leads("one.example"), leads("two.example")), (String::new(), "app".to_owned()));
    routes.point_nowhere(&two);
    routes.point(&one, &app);
    routes.forget(&app);
    assert_eq!((leads("one.example"), leads("two.example")), (String::new(), String::new()));
}

#[tokio::test(start_paused = true)]
async fn until_the_table_is_whole_every_name_may_exist() {
    let routes = Routes::partial();
    let patience = Duration::from_secs(5);
    assert!(matches!(routes.find("web"), Lookup::Away));
    let before = Instant::now();
    let (missing, found, web) =
        tokio::join!(routes.wait_live("none", patience), routes.wait_live("web", patience), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            routes.note_known(&"web".parse().unwrap(), None);
            routes.set_whole();
            tokio::time::sleep(Duration::from_secs(1)).await;
            routes.insert(tunnel("web"))
        });
    assert!(matches!(missing, Lookup::Unknown), "told as soon as it is known");
    assert!(is_live(&found, &web));
    assert_eq!(before.elapsed(), Duration::from_secs(2));
    assert!(matches!(routes.find("none"), Lookup::Unknown));
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_with_the_tunnel_the_name_or_patience() {
    let routes = Routes::new();
    let patience = Duration::from_secs(5);
    assert!(matches!(routes.wait_live("web", patience).await, Lookup::Unknown));
    routes.note_known(&"web".parse().unwrap(), None);
    let before = Instant::now();
    assert!(matches!(routes.wait_live("web", patience).await, Lookup::Away));
    assert_eq!(before.elapsed(), patience);

    let (found, tunnel) = tokio::join!(routes.wait_live("web", patience), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        routes.insert(tunnel("other"));
        tokio::time::sleep(Duration::from_secs(1)).await;
        routes.insert(tunnel("web"))
    });
    assert!(is_live(&found, &tunnel));
    assert!(is_live(&routes.wait_live("web", patience).await, &tunnel));

    let (found, ()) = tokio::join!(routes.wait_other(&tunnel, patience), async {
        tokio::task::yield_now().await;
        routes.forget(&"web".parse().unwrap());
    });
    assert!(matches!(found, Lookup::Unknown));
}

#[tokio::test(start_paused = true)]
async fn a_closed_tunnel_in_the_table_counts_as_away() {
    let routes = Routes::new();
    let dead = routes.insert(tunnel("web"));
    dead.close();
    dead.closed().await;
    assert!(matches!(routes.wait_live("web", Duration::from_secs(5)).await, Lookup::Away));
    let dying = routes.insert(tunnel("web"));
    assert!(matches!(routes.wait_other(&dying, Duration::from_secs(5)).await, Lookup::Away));
}

#[test]
fn what_stands_before_a_name_goes_with_the_name() {
    let (routes, name) = (Routes::new(), "web".parse().unwrap());
    let gates = Arc::new(Gates { ends_at: Some(1), ..Gates::default() });
    routes.note_gates(&name, Some(Arc::clone(&gates)));
    assert_eq!(routes.known_gates("web"), Some(gates));
    routes.forget(&name);
    assert_eq!(routes.known_gates("web"), None);
}
