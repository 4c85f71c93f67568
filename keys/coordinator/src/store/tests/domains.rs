//! Domains that several tenants ask for: the record decides, and nobody is in the way before.

use mytunnel_keys::api::NewDomain;
use mytunnel_keys::feed::{Change, FeedKey};
use mytunnel_keys::id::{DomainName, TenantId, TunnelId};
use mytunnel_keys::secret::Seed;

use super::*;
use crate::audit::Party;
use crate::authority::{Caller, Look, Person, Reach, Role, Shown, record_value};

const NOW: u64 = 1_800_000_000;

fn domain() -> DomainName {
    "app.example.com".parse().unwrap()
}

fn tenant(number: u8) -> TenantId {
    TenantId::from_entropy(&[number; 10])
}

fn owner(number: u8) -> Caller {
    Caller::Account(Person {
        id: format!("acc_{number}"),
        tenant: tenant(number),
        email: "ann@example.com".to_owned(),
        role: Role::Owner,
        session: "s".to_owned(),
        auth_time: NOW,
        began_at: NOW,
        proven: "pwd".parse().unwrap(),
    })
}

/// A store with two tenants, each with a tunnel: `web1` and `web2`.
async fn with_two(opened: Opened) -> Store {
    let store = opened.into_store(FeedSigner {
        key: FeedKey::new(Seed::from_bytes([5; 32])),
        cluster: "localhost".parse().unwrap(),
        sessions: crate::accounts::GateSessions::for_tests(),
    });
    let filled = store.engine.write(|writing| {
        for number in 1..=2_u8 {
            let (tenant, project, name) = (tenant(number), format!("proj_{number}"), format!("web{number}"));
            let id = TunnelId::derive(
                &"localhost".parse().unwrap(),
                &project.parse().unwrap(),
                &name.parse().unwrap(),
            );
            writing.change(
                "INSERT INTO tenants (id, created_at) VALUES ($1, $2)",
                params![tenant.as_str(), NOW],
            )?;
            writing.change(
                "INSERT INTO projects (id, tenant, name, created_at) VALUES ($1, $2, $3, $4)",
                params![project, tenant.as_str(), name, NOW],
            )?;
            writing.change(
                "INSERT INTO keys (serial, nonce, kind, subject, tenant, label, hosts, scopes, issued_at, max_tunnels,
                                   max_staleness, bound)
                 VALUES ($1, $2, 'user', $3, $4, '', '', '', $5, 1, 1, 0)",
                params![[number; 16], name, [number; 32], tenant.as_str(), NOW],
            )?;
            writing.change(
                "INSERT INTO names (name, project, created_at) VALUES ($1, $2, $3)",
                params![name, project, NOW],
            )?;
            writing.change(
                "INSERT INTO tunnels (id, project, name, kind, serial, created_at, seen_at)
                 VALUES ($1, $2, $3, 'http', $4, $5, $5)",
                params![id.to_string(), project, name, [number; 16], NOW],
            )?;
        }
        Ok::<_, StoreError>(())
    });
    filled.await.unwrap();
    store
}

/// Asks for the domain as a tenant; the token to show.
async fn ask(store: &Store, number: u8) -> String {
    let name = Some(format!("web{number}").parse().unwrap());
    let asked = NewDomain { domain: domain().to_string(), tunnel: None, name, project: None };
    let new = NewDomainRow { domain: domain(), asked, token: format!("token{number}") };
    let (row, epoch) = store.add_domain(owner(number), new, NOW).await.unwrap().unwrap();
    assert_eq!(epoch, None, "relays are told of nothing that is not shown");
    row.token
}

async fn show(store: &Store, number: u8, found: &[&str], now: u64) -> (DomainRow, Shown, bool) {
    let found = found.iter().map(|token| record_value(token)).collect();
    let shown = store.show_domain(Party::System, tenant(number), domain(), found, now).await;
    let ((row, epoch), shown) = shown.unwrap().unwrap();
    (row, shown, epoch.is_some())
}

async fn leads_to(store: &Store) -> Vec<String> {
    let changes = store.state(NOW).await.unwrap().changes;
    let led = changes.into_iter().filter_map(|change| {
        let Change::Domain { domain: led, name } = change else { return None };
        (led == domain()).then(|| name.to_string())
    });
    led.collect()
}

#[tokio::test]
async fn who_asks_first_is_in_nobodys_way_and_the_record_decides() {
    let (_places, stores) = each().await;
    for opened in stores {
        let store = with_two(opened).await;
        let (first, second) = (ask(&store, 1).await, ask(&store, 2).await);
        assert_ne!(first, second);
        // What one was told to make shows nothing for the other.
        assert_eq!(show(&store, 2, &[&first], NOW).await.1, Shown::Not { others: true });
        assert_eq!(leads_to(&store).await, [""; 0]);
        let (row, shown, told) = show(&store, 2, &[&second], NOW).await;
        assert_eq!((row.verified_at, shown, told), (Some(NOW), Shown::Now, true));
        assert_eq!(leads_to(&store).await, ["web2"]);
        let pending = store.domain(tenant(1), domain()).await.unwrap().unwrap();
        assert_eq!(pending.verified_at, None);
        store.close().await;
    }
}

#[tokio::test]
async fn a_domain_goes_to_who_shows_it_now_unless_who_has_it_still_does() {
    let (_places, stores) = each().await;
    for opened in stores {
        let store = with_two(opened).await;
        let (first, second) = (ask(&store, 1).await, ask(&store, 2).await);
        show(&store, 1, &[&first], NOW).await;
        let (row, shown, told) = show(&store, 2, &[&first, &second], NOW + 5).await;
        assert_eq!((row.verified_at, shown, told), (None, Shown::Both, false));
        assert_eq!(leads_to(&store).await, ["web1"]);

        let seen = store.domain(tenant(1), domain()).await.unwrap().unwrap();
        assert_eq!(show(&store, 2, &[&second], NOW + 9).await.1, Shown::Now);
        assert_eq!(leads_to(&store).await, ["web2"]);
        // A look that was under way meanwhile gives nothing back and takes nothing away.
        store.look_at_domain(seen.clone(), Look::There, NOW + 10).await.unwrap();
        store.look_at_domain(seen, Look::Missing, NOW + 10).await.unwrap();
        let lost = store.domain(tenant(1), domain()).await.unwrap().unwrap();
        assert_eq!((lost.verified_at, lost.doubts.missing_since), (None, None));
        assert_eq!(leads_to(&store).await, ["web2"]);
        // Who has lost it sees and removes their own row only.
        let removed = store.remove_domain(Party::System, tenant(1), domain(), NOW + 20).await.unwrap();
        assert_eq!(removed.unwrap(), None);
        assert_eq!(leads_to(&store).await, ["web2"]);
        let reach = |number| Reach { tenant: tenant(number), project: None, family: None };
        assert_eq!(store.domains(reach(1)).await.unwrap(), []);
        assert_eq!(store.domains(reach(2)).await.unwrap().len(), 1);
        store.close().await;
    }
}

#[tokio::test]
async fn nobody_leads_a_domain_to_anothers_tunnel() {
    let (_places, stores) = each().await;
    for opened in stores {
        let store = with_two(opened).await;
        let id = TunnelId::derive(
            &"localhost".parse().unwrap(),
            &"proj_2".parse().unwrap(),
            &"web2".parse().unwrap(),
        );
        for (tunnel, name) in [(Some(id), None), (None, Some("web2".parse().unwrap()))] {
            let asked = NewDomain { domain: domain().to_string(), tunnel, name, project: None };
            let new = NewDomainRow { domain: domain(), asked, token: "x".to_owned() };
            let refused = store.add_domain(owner(1), new, NOW).await.unwrap().unwrap_err();
            assert_eq!(refused.code, mytunnel_keys::error::Code::NotFound);
        }
        store.close().await;
    }
}
