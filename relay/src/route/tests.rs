use mytunnel_keys::id::Cluster;

use super::*;

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
    routes.note_known(&"web".parse().unwrap());
    assert!(matches!(routes.find("web"), Lookup::Away));
    let first = routes.insert(tunnel("web"));
    assert!(is_live(&routes.find("web"), &first));
    routes.note_known(&"web".parse().unwrap());
    assert!(is_live(&routes.find("web"), &first), "noting a name does not take its tunnel");
    assert!(routes.remove(&first) && first.is_closed());
    assert!(matches!(routes.find("web"), Lookup::Away));
    assert!(!routes.remove(&first));
    routes.forget(&"web".parse().unwrap());
    assert!(matches!(routes.find("web"), Lookup::Unknown));
}

#[tokio::test(start_paused = true)]
async fn a_retired_name_is_not_waited_for_until_it_is_served_again() {
    let routes = Routes::new();
    let name: TunnelName = "web".parse().unwrap();
    let first = routes.insert(tunnel("web"));
    routes.retire(&name);
    assert!(is_live(&routes.find("web"), &first), "a live tunnel is not touched");
    routes.remove(&first);
    let started = tokio::time::Instant::now();
    let (waited, ()) = tokio::join!(routes.wait_live("web", Duration::from_secs(5)), async {
        tokio::task::yield_now().await;
        routes.retire(&name);
    });
    assert!(matches!(waited, Lookup::Ended), "who waits is told");
    assert!(matches!(routes.wait_live("web", Duration::from_secs(5)).await, Lookup::Ended));
    assert_eq!(started.elapsed(), Duration::ZERO);
    routes.note_known(&name);
    assert!(matches!(routes.find("web"), Lookup::Ended), "that the name exists is nothing new");
    let again = routes.insert(tunnel("web"));
    assert!(is_live(&routes.find("web"), &again));
    routes.retire(&"other".parse().unwrap());
    assert!(matches!(routes.find("other"), Lookup::Unknown));
}

#[test]
fn a_later_registration_replaces_and_outlives_the_earlier() {
    let routes = Routes::new();
    let first = routes.insert(tunnel("web"));
    let second = routes.insert(tunnel("web"));
    assert_eq!(first.id(), second.id());
    assert!(first.is_closed() && !second.is_closed());
    assert!(!routes.remove(&first));
    assert!(is_live(&routes.find("web"), &second) && !second.is_closed());
    assert_eq!(routes.live().len(), 1);
    routes.forget(second.name());
    assert!(second.is_closed());
}

#[tokio::test(start_paused = true)]
async fn until_the_table_is_whole_every_name_may_exist() {
    let routes = Routes::partial();
    let patience = Duration::from_secs(5);
    assert!(matches!(routes.find("web"), Lookup::Away));
    let before = tokio::time::Instant::now();
    let (missing, found, web) =
        tokio::join!(routes.wait_live("none", patience), routes.wait_live("web", patience), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            routes.note_known(&"web".parse().unwrap());
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
    routes.note_known(&"web".parse().unwrap());
    let before = tokio::time::Instant::now();
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
