//! Projects, minting and listing.

use mytunnel_keys::certificate::{self, Flags, Kind};
use mytunnel_keys::error::Code;
use mytunnel_keys::id::{Scopes, Serial, TunnelKind};
use serde_json::{Value, json};

use crate::support::{By, DAY, Lab, fresh_seed, mint_body, named_as, nonces};

#[tokio::test]
async fn a_project_has_a_master_key_from_birth_and_a_repeated_request_makes_no_second() {
    let lab = Lab::new().await;
    let token = lab.owner().await;
    let seed = fresh_seed();
    let body = json!({"name": " web ", "master": seed.public()});
    let made = lab.call(By::Bearer(&token), "POST", "/api/v1/projects", body.clone()).await.ok();
    assert!(made["id"].as_str().unwrap().starts_with("proj_"));
    assert_eq!(made["name"], "web");
    let again = lab.call(By::Bearer(&token), "POST", "/api/v1/projects", body).await.ok();
    assert_eq!(made, again);
    let taken = json!({"name": "web", "master": fresh_seed().public()});
    lab.call(By::Bearer(&token), "POST", "/api/v1/projects", taken).await.refused(Code::NameTaken);
    let stranger = json!({"name": "other", "master": seed.public()});
    lab.call(By::Bearer(&token), "POST", "/api/v1/projects", stranger).await.refused(Code::BadRequest);
    let listed = lab.call(By::Bearer(&token), "GET", "/api/v1/projects", Value::Null).await.ok();
    // Beside the tenant's own.
    assert_eq!(listed["projects"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn master_and_child_keys_make_no_projects() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let child = lab.child(&house.master).await;
    let body = json!({"name": "mine", "master": fresh_seed().public()});
    let answer = lab.call(By::Key(&house.master), "POST", "/api/v1/projects", body.clone()).await;
    answer.refused(Code::MasterCannotAct);
    lab.call(By::Key(&child), "POST", "/api/v1/projects", body).await.refused(Code::ScopeDenied);
}

#[tokio::test]
async fn a_child_has_what_its_certificate_says() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let more = json!({"ttl": 120, "scopes": "http", "hosts": ["preview-*"], "bound": true});
    let (child, minted) = lab.mint(&house.master, more).await;
    assert_eq!(minted.expires_at, lab.now() + 120);
    let claims =
        certificate::verify(&minted.certificate, &lab.coordinator.trust(), &child.seed.public(), lab.now())
            .unwrap();
    assert_eq!(claims.kind, Kind::Child);
    assert_eq!(claims.parent, Some(house.master.serial));
    assert_eq!(claims.project.as_ref(), Some(&house.project));
    assert_eq!(claims.scopes.to_string(), "http");
    assert_eq!(claims.max_tunnels, 1);
    assert!(claims.flags.contains(Flags::BOUND));
    assert!(
        claims.allows_name(&"preview-7".parse().unwrap()) && !claims.allows_name(&"web".parse().unwrap())
    );
}

#[tokio::test]
async fn what_is_left_out_is_as_wide_as_the_parent() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let (child, minted) = lab.mint(&house.master, Value::Null).await;
    let claims =
        certificate::verify(&minted.certificate, &lab.coordinator.trust(), &child.seed.public(), lab.now())
            .unwrap();
    assert_eq!(claims.scopes, Scopes::usual());
    assert!(claims.allows_name(&"anything".parse().unwrap()));
    assert!(!claims.flags.contains(Flags::BOUND) && claims.replaces.is_none());
}

#[tokio::test]
async fn only_a_child_that_was_asked_for_with_it_may_serve_names_whose_tls_ends_on_its_node() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let mut relay = lab.relay().await;
    let (asked, minted) = lab.mint(&house.master, json!({"scopes": "http tls"})).await;
    let claims = certificate::inspect(&minted.certificate).unwrap();
    assert_eq!(claims.peek().scopes.to_string(), "http tls");
    let usual = lab.child(&house.master).await;
    // What it does not have it is not believed to serve.
    relay.up_as(TunnelKind::Tls, &house.project, "mine", &usual).await;
    relay.up_as(TunnelKind::Tls, &house.project, "vault", &asked).await;
    assert_eq!(relay.delta().await, [named_as(TunnelKind::Tls, "vault", &house.project)]);
}

#[tokio::test]
async fn a_life_is_between_a_minute_and_a_day() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    for (ttl, fits) in [(0, false), (59, false), (60, true), (DAY, true), (DAY + 1, false), (u64::MAX, false)]
    {
        let body = mint_body(&fresh_seed().public(), json!({"ttl": ttl}));
        let answer = lab.call(By::Key(&house.master), "POST", "/api/v1/mint", body).await;
        if fits {
            answer.ok();
        } else {
            answer.refused(Code::BadRequest);
        }
    }
}

#[tokio::test]
async fn the_same_request_again_gives_the_same_child() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let body = mint_body(&fresh_seed().public(), Value::Null).to_string().into_bytes();
    let header = house.master.sign("POST", "/api/v1/mint", &body, lab.now());
    let replay = async || {
        let mut request = lab.request(By::Nobody, "POST", "/api/v1/mint", body.clone());
        request.headers_mut().insert("authorization", header.parse().unwrap());
        lab.send(request).await
    };
    let first = replay().await.ok();
    lab.advance(60);
    // The very same bytes, as a proxy or an attacker would send them again.
    assert_eq!(replay().await.ok(), first);
    let listed = lab.call(By::Key(&house.master), "GET", "/api/v1/tokens", Value::Null).await.ok();
    let keys = listed["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 2, "the master and one child");
    for key in keys {
        let scopes = if key["kind"] == "master" { "" } else { "http tcp udp private pair" };
        assert_eq!(key["scopes"], scopes, "a master key only mints and revokes");
    }
}

#[tokio::test]
async fn a_public_key_has_one_owner() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let (_, other_master) = lab.project(By::Key(&house.device), "other").await;
    let child = lab.child(&house.master).await;
    for key in [&child, &house.master, &house.device] {
        let body = mint_body(&key.seed.public(), Value::Null);
        let answer = lab.call(By::Key(&other_master), "POST", "/api/v1/mint", body).await;
        answer.refused(Code::BadRequest);
    }
}

#[tokio::test]
async fn only_masters_and_devices_mint_and_only_for_their_own() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let (other, _) = lab.project(By::Key(&house.device), "other").await;
    let child = lab.child(&house.master).await;
    let body = |more| mint_body(&fresh_seed().public(), more);
    let mint = async |by: By<'_>, more| lab.call(by, "POST", "/api/v1/mint", body(more)).await;
    mint(By::Key(&child), Value::Null).await.refused(Code::ScopeDenied);
    mint(By::Bearer(&house.token), json!({"project": house.project})).await.refused(Code::ScopeDenied);
    mint(By::Nobody, Value::Null).await.refused(Code::InvalidKey);
    mint(By::Key(&house.master), json!({"project": other})).await.refused(Code::ProjectMismatch);
    mint(By::Key(&house.master), json!({"project": house.project})).await.ok();
    mint(By::Key(&house.device), json!({"project": other})).await.ok();
    mint(By::Key(&house.device), Value::Null).await.refused(Code::BadRequest);
    mint(By::Key(&house.device), json!({"project": "proj_nowhere"})).await.refused(Code::NotFound);
}

#[tokio::test]
async fn a_local_device_mints_for_its_own_project_only() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let seed = fresh_seed();
    let device = lab.coordinator.local_owner_device(seed.public()).await.unwrap();
    let local = crate::support::Key { seed, serial: device.serial };
    lab.child(&local).await;
    let body = mint_body(&fresh_seed().public(), json!({"project": house.project}));
    lab.call(By::Key(&local), "POST", "/api/v1/mint", body).await.refused(Code::ProjectMismatch);
    lab.revoke(By::Key(&local), &house.master, true).await.refused(Code::NotFound);
    lab.call(By::Key(&local), "GET", "/api/v1/audit", Value::Null).await.refused(Code::ScopeDenied);
}

#[tokio::test]
async fn a_mint_that_cannot_be_kept_to_is_refused() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let many: Vec<String> = (0..9).map(|number| format!("name-{number}")).collect();
    let long: Vec<String> = ('a'..='f').map(|letter| letter.to_string().repeat(60)).collect();
    for more in [
        json!({"hosts": many}),
        json!({"hosts": long}),
        json!({"hosts": ["a.b"]}),
        json!({"hosts": ["www"]}),
        json!({"scopes": ""}),
        json!({"scopes": "http admin"}),
        json!({"budget_cents": 0}),
        json!({"public_key": "12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH"}),
    ] {
        let body = mint_body(&fresh_seed().public(), more.clone());
        let answer = lab.call(By::Key(&house.master), "POST", "/api/v1/mint", body).await;
        assert!(!answer.refused(Code::BadRequest).is_empty(), "{more}");
    }
}

#[tokio::test]
async fn a_child_takes_over_from_its_sibling_only() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let (_, other) = lab.project(By::Key(&house.device), "other").await;
    let old = lab.child(&house.master).await;
    let stranger = lab.child(&other).await;
    let (new, minted) = lab.mint(&house.master, json!({"replaces": old.serial})).await;
    let claims =
        certificate::verify(&minted.certificate, &lab.coordinator.trust(), &new.seed.public(), lab.now())
            .unwrap();
    assert_eq!(claims.replaces, Some(old.serial));
    // Another master's child, a device, the master itself, and a serial that nobody has.
    for serial in [stranger.serial, house.device.serial, house.master.serial, Serial::from_bytes([9; 16])] {
        let body = mint_body(&fresh_seed().public(), json!({"replaces": serial}));
        lab.call(By::Key(&house.master), "POST", "/api/v1/mint", body).await.refused(Code::NotFound);
    }
    // A child that a device minted in the same project has another parent.
    let (cousin, _) = lab.mint(&house.device, json!({"project": house.project})).await;
    let body = mint_body(&fresh_seed().public(), json!({"replaces": cousin.serial}));
    lab.call(By::Key(&house.master), "POST", "/api/v1/mint", body).await.refused(Code::NotFound);
}

#[tokio::test]
async fn a_childs_life_ends_with_its_parents() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    lab.advance(30 * DAY - 100);
    let (_, minted) = lab.mint(&house.device, json!({"project": house.project})).await;
    assert_eq!(minted.expires_at, lab.now() + 100);
    let (_, minted) = lab.mint(&house.master, Value::Null).await;
    assert_eq!(minted.expires_at, lab.now() + 3600);
}

#[tokio::test]
async fn listings_hold_what_the_caller_may_see() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let (_, other_master) = lab.project(By::Key(&house.device), "other").await;
    let child = lab.child(&house.master).await;
    let sibling = lab.child(&house.master).await;
    let stranger = lab.child(&other_master).await;
    let list = async |by: By<'_>| nonces(&lab.call(by, "GET", "/api/v1/tokens", Value::Null).await.ok());
    let of = |keys: &[&crate::support::Key]| keys.iter().map(|key| key.serial.nonce()).collect();
    assert_eq!(list(By::Key(&child)).await, of(&[&child]));
    assert_eq!(list(By::Key(&house.master)).await, of(&[&house.master, &child, &sibling]));
    let all = of(&[&house.device, &house.master, &other_master, &child, &sibling, &stranger]);
    assert_eq!(list(By::Key(&house.device)).await, all);
    assert_eq!(list(By::Bearer(&house.token)).await, all);
    let path = format!("/api/v1/tokens/{}", stranger.serial.nonce());
    lab.call(By::Key(&house.master), "GET", &path, Value::Null).await.refused(Code::NotFound);
    let shown = lab.show(By::Key(&house.master), &child).await;
    assert_eq!(shown["parent"], house.master.serial.nonce());
    assert_eq!((&shown["kind"], &shown["live_tunnels"]), (&json!("child"), &json!(0)));
    // The whole serial names it too.
    let path = format!("/api/v1/tokens/{}", child.serial);
    assert_eq!(lab.call(By::Key(&child), "GET", &path, Value::Null).await.ok(), shown);
}

#[tokio::test]
async fn long_listings_come_in_pages_and_leave_out_what_ended_long_ago() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    for second in 0..5 {
        lab.advance(second % 2);
        lab.child(&house.master).await;
    }
    let page = async |query: &str| {
        lab.call(By::Key(&house.master), "GET", &format!("/api/v1/tokens{query}"), Value::Null).await.ok()
    };
    let mut seen = std::collections::HashSet::new();
    let mut query = "?limit=2".to_owned();
    loop {
        let answer = page(&query).await;
        assert!(nonces(&answer).iter().all(|nonce| seen.insert(nonce.clone())), "a key came twice");
        let Some(next) = answer["next"].as_str() else { break };
        query = format!("?limit=2&after={next}");
    }
    assert_eq!(seen.len(), 6);
    lab.advance(3600 + DAY + 1);
    assert_eq!(nonces(&page("").await), [house.master.serial.nonce()].into());
    assert_eq!(nonces(&page("?all=true").await), seen);
}
