//! Gates before tunnels, tunnels that their owner closes, and the plan that allows gates.

mod names;
mod others;
mod sessions;

use std::time::Duration;

use mytunnel_keys::error::Code;
use mytunnel_keys::feed::{Accepted, Change, Gates, Report};
use mytunnel_keys::id::{ProjectId, TunnelId};
use serde_json::{Value, json};

use crate::support::{Answer, By, DAY, House, Key, Lab, Relay, eventually, named, store_at};

const USER: &str = "ann";
const PASSWORD: &str = "correct horse";

fn path(id: &TunnelId, rest: &str) -> String {
    format!("/api/v1/tunnels/{id}{rest}")
}

fn auth() -> Value {
    json!({"user": USER, "password": PASSWORD})
}

fn edge_auth() -> Value {
    json!({"provider": "google", "allowed_domains": ["Acme.Example"], "allowed_emails": []})
}

/// A house whose tunnel `web` is up on a relay, served by a child.
async fn house_with_tunnel(lab: &Lab) -> (House, Relay, Key, TunnelId) {
    let (house, mut relay) = (lab.house().await, lab.relay().await);
    let (child, _) = lab.mint(&house.master, Value::Null).await;
    let id = relay.up(&house.project, "web", &child).await;
    relay.delta().await;
    (house, relay, child, id)
}

/// Sends a request that relays have to confirm, and answers what they were told.
async fn confirmed(
    lab: &Lab,
    relay: &mut Relay,
    by: By<'_>,
    method: &str,
    path: &str,
    body: Value,
) -> (Answer, Vec<Change>) {
    tokio::join!(lab.call(by, method, path, body), relay.delta())
}

async fn audited(lab: &Lab, house: &House) -> Vec<(String, String)> {
    let log = lab.call(By::Key(&house.device), "GET", "/api/v1/audit", Value::Null).await.ok();
    let text = |entry: &Value, field: &str| entry[field].as_str().unwrap().to_owned();
    let entries = log["entries"].as_array().unwrap().iter();
    entries.map(|entry| (text(entry, "act"), text(entry, "subject"))).collect()
}

#[tokio::test]
async fn a_password_is_set_told_to_the_relays_and_taken_away() {
    let lab = Lab::new().await;
    let (house, mut relay, _, id) = house_with_tunnel(&lab).await;
    let by = By::Bearer(&house.token);
    let (answer, told) = confirmed(&lab, &mut relay, by, "PUT", &path(&id, "/auth"), auth()).await;
    let answer = answer.ok();
    assert_eq!((&answer["id"], &answer["auth_enabled"]), (&json!(id), &json!(true)));
    assert_eq!(answer["relays"][0]["applied"], true, "{answer}");
    let [Change::Gates { tunnel, gates: Gates { basic: Some(gate), sign_in: None, .. } }] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!((*tunnel, gate.user.as_str()), (id, USER));
    assert!(gate.hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", gate.hash);

    let shown = lab.call(by, "GET", &path(&id, ""), Value::Null).await.ok();
    assert_eq!((&shown["auth"], &shown["gates"]), (&json!({"user": USER}), &json!(["basic"])));
    assert_eq!((&shown["edge_auth"], &shown["online"]), (&Value::Null, &json!(true)));
    let listed = lab.call(by, "GET", "/api/v1/tunnels", Value::Null).await.ok();
    assert_eq!(listed["tunnels"][0]["gates"], json!(["basic"]));
    let log = audited(&lab, &house).await;
    assert!(log.contains(&("gate.set".to_owned(), "tunnel:web".to_owned())), "{log:?}");

    // The same once more is another setting, which voids what was proven to the first.
    let (_, again) = confirmed(&lab, &mut relay, by, "PUT", &path(&id, "/auth"), auth()).await;
    let [Change::Gates { gates: Gates { basic: Some(second), .. }, .. }] = &again[..] else {
        panic!("{again:?}")
    };
    assert!(second.generation > gate.generation && second.hash != gate.hash);

    let (answer, told) = confirmed(&lab, &mut relay, by, "DELETE", &path(&id, "/auth"), Value::Null).await;
    assert_eq!(answer.ok()["auth_enabled"], false);
    assert_eq!(told, [Change::Gates { tunnel: id, gates: Gates::default() }]);
    let nothing = lab.call(by, "DELETE", &path(&id, "/auth"), Value::Null).await.ok();
    assert_eq!((&nothing["auth_enabled"], &nothing["relays"][0]["applied"]), (&json!(false), &json!(true)));
    let drops = audited(&lab, &house).await.into_iter().filter(|(act, _)| act == "gate.drop").count();
    assert_eq!(drops, 1, "what changes nothing is no act");
    let log = lab.call(by, "GET", "/api/v1/audit", Value::Null).await.ok().to_string();
    assert!(!log.contains(PASSWORD) && !log.contains("argon2"));
}

#[tokio::test]
async fn a_sign_in_is_set_in_one_form_beside_the_password() {
    let lab = Lab::new().await;
    let (house, mut relay, _, id) = house_with_tunnel(&lab).await;
    let by = By::Key(&house.device);
    let edge = path(&id, "/edge-auth");
    let (answer, _) = confirmed(&lab, &mut relay, by, "PUT", &edge, edge_auth()).await;
    assert_eq!(answer.ok()["edge_auth_enabled"], true);
    let (_, told) = confirmed(&lab, &mut relay, by, "PUT", &path(&id, "/auth"), auth()).await;
    let [Change::Gates { gates: Gates { basic: Some(_), sign_in: Some(gate), .. }, .. }] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!(
        (gate.provider.as_str(), &gate.allowed_domains[..]),
        ("google", &["acme.example".to_owned()][..])
    );
    let shown = lab.call(by, "GET", &path(&id, ""), Value::Null).await.ok();
    assert_eq!(shown["gates"], json!(["basic", "oidc"]));
    let expected = json!({"provider": "google", "allowed_domains": ["acme.example"], "allowed_emails": []});
    assert_eq!(shown["edge_auth"], expected);

    let (answer, told) = confirmed(&lab, &mut relay, by, "DELETE", &edge, Value::Null).await;
    assert_eq!(answer.ok()["edge_auth_enabled"], false);
    assert!(
        matches!(&told[..], [Change::Gates { gates, .. }] if gates.basic.is_some() && gates.sign_in.is_none())
    );
}

#[tokio::test]
async fn a_port_takes_no_gate_that_its_visitors_could_not_pass() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let name: mytunnel_keys::id::TunnelName = "db".parse().unwrap();
    let home: ProjectId = house.project.clone();
    let id = TunnelId::derive(&"localhost".parse().unwrap(), &home, &name);
    let (child, _) = lab.mint(&house.master, Value::Null).await;
    let ahead = |kind: &str, gate: Value| {
        let mut body = gate;
        body["tunnel"] = json!({"project": home, "name": name, "kind": kind});
        body
    };
    for kind in ["tcp", "udp", "tls"] {
        for (rest, gate) in [
            ("/auth", auth()),
            ("/edge-auth", edge_auth()),
            ("/gates/pin", json!({})),
            ("/gates/bearer", json!({})),
        ] {
            let refused = lab.call(By::Key(&child), "PUT", &path(&id, rest), ahead(kind, gate)).await;
            let told = refused.refused(Code::BadRequest);
            assert!(told.contains(kind), "{told}");
        }
    }
    let addresses = ahead("tcp", json!({"allow": ["192.0.2.0/24"], "deny": []}));
    lab.call(By::Key(&child), "PUT", &path(&id, "/gates/ip"), addresses).await.ok();
    // A web site of that name is another matter, also where a port had the name before.
    lab.call(By::Key(&child), "PUT", &path(&id, "/gates/pin"), json!({})).await.refused(Code::BadRequest);
    lab.call(By::Key(&child), "PUT", &path(&id, "/gates/pin"), ahead("http", json!({}))).await.ok();
}

#[tokio::test]
async fn bodies_say_all_and_nothing_else() {
    let lab = Lab::new().await;
    let (house, _relay, _, id) = house_with_tunnel(&lab).await;
    let refuse = async |rest: &str, body: Value, code: Code| {
        lab.call(By::Bearer(&house.token), "PUT", &path(&id, rest), body).await.refused(code)
    };
    for bad in [
        json!({}),
        json!([]),
        json!({"user": USER}),
        json!({"password": PASSWORD}),
        json!({"user": USER, "password": null}),
        json!({"user": "", "password": PASSWORD}),
        json!({"user": "a:b", "password": PASSWORD}),
        json!({"user": "a".repeat(65), "password": PASSWORD}),
        json!({"user": USER, "password": "1234567"}),
        json!({"user": USER, "password": PASSWORD, "enabled": false}),
    ] {
        refuse("/auth", bad, Code::BadRequest).await;
    }
    // Empty lists let in everybody who can sign in: that must be said, not left out.
    for bad in [
        json!({}),
        json!({"provider": "google"}),
        json!({"provider": "google", "allowed_domains": []}),
        json!({"provider": "google", "allowed_domains": [], "allowed_emails": null}),
        json!({"provider": "google", "allowed_domain": ["a.example"], "allowed_domains": [], "allowed_emails": []}),
        json!({"provider": "google", "allowed_domains": "a.example", "allowed_emails": []}),
        json!({"provider": "google", "allowed_domains": ["@a.example"], "allowed_emails": []}),
        json!({"provider": "google", "allowed_domains": [], "allowed_emails": ["x@evil.example@a.example"]}),
        json!({"provider": "google", "allowed_domains": vec!["a.example"; 101], "allowed_emails": []}),
    ] {
        refuse("/edge-auth", bad, Code::BadRequest).await;
    }
    let github = json!({"provider": "github", "allowed_domains": [], "allowed_emails": []});
    let answer = lab.call(By::Bearer(&house.token), "PUT", &path(&id, "/edge-auth"), github).await;
    assert_eq!(answer.status, 400);
    answer.refused(Code::UnsupportedProvider);
    let listed = lab.call(By::Bearer(&house.token), "GET", "/api/v1/tunnels", Value::Null).await.ok();
    assert_eq!(listed["tunnels"][0]["gates"], json!([]), "nothing of it was done");
}

#[tokio::test]
async fn who_may_not_change_gates_learns_and_changes_nothing() {
    let lab = Lab::new().await;
    let (house, _relay, _, id) = house_with_tunnel(&lab).await;
    let (_, other_master) = lab.project(By::Key(&house.device), "other").await;
    let other_child = lab.child(&other_master).await;
    for (method, rest, body) in
        [("PUT", "/auth", auth()), ("DELETE", "/auth", Value::Null), ("PUT", "/edge-auth", edge_auth())]
    {
        let ask = async |by| lab.call(by, method, &path(&id, rest), body.clone()).await;
        ask(By::Nobody).await.refused(Code::InvalidKey);
        ask(By::Key(&house.master)).await.refused(Code::MasterCannotAct);
        assert!(ask(By::Key(&other_child)).await.status.is_client_error());
    }
    let nowhere = path(&TunnelId::from_bytes([7; 16]), "/auth");
    lab.call(By::Bearer(&house.token), "PUT", &nowhere, auth()).await.refused(Code::NotFound);
    lab.call(By::Bearer(&house.token), "PUT", "/api/v1/tunnels/web/auth", auth())
        .await
        .refused(Code::NotFound);
    lab.call(By::Key(&other_child), "GET", &path(&id, ""), Value::Null).await.refused(Code::NotFound);
    lab.call(By::Key(&other_child), "DELETE", &path(&id, ""), Value::Null).await.refused(Code::NotFound);
    lab.call(By::Key(&house.master), "DELETE", &path(&id, ""), Value::Null)
        .await
        .refused(Code::MasterCannotAct);
    let shown = lab.call(By::Bearer(&house.token), "GET", &path(&id, ""), Value::Null).await.ok();
    assert_eq!(shown["gates"], json!([]));
}

#[tokio::test]
async fn a_plan_is_asked_where_a_password_is_set_and_nowhere_else() {
    let lab = Lab::new().await;
    let (house, mut relay, _, id) = house_with_tunnel(&lab).await;
    let by = By::Key(&house.device);
    let tenant = lab.call(by, "GET", "/api/v1/tenant", Value::Null).await.ok();
    assert_eq!((&tenant["plan"], &tenant["trial_ends_at"]), (&json!("pro"), &Value::Null));
    let set = async |body: Value| lab.call(by, "PUT", "/api/v1/tenant/plan", body).await;
    confirmed(&lab, &mut relay, by, "PUT", &path(&id, "/auth"), auth()).await.0.ok();

    let until = lab.now() + DAY;
    let trial = set(json!({"plan": "trial", "trial_ends_at": until})).await.ok();
    assert_eq!((&trial["plan"], &trial["trial_ends_at"]), (&json!("trial"), &json!(until)));
    confirmed(&lab, &mut relay, by, "PUT", &path(&id, "/auth"), auth()).await.0.ok();
    // What was signed a day ago is no news: another relay follows from here on.
    drop(relay);
    lab.advance(DAY);
    let mut relay = lab.relay().await;
    let over = lab.call(by, "PUT", &path(&id, "/auth"), auth()).await;
    assert_eq!(over.status, 402);
    assert!(over.refused(Code::UpgradeRequired).contains("trial"));

    lab.call(by, "PUT", "/api/v1/tenant/plan", json!({"plan": "free"})).await.ok();
    let over = lab.call(by, "PUT", &path(&id, "/auth"), auth()).await;
    assert_eq!(over.status, 402);
    over.refused(Code::UpgradeRequired);
    // What stands goes on, may be seen and taken away; a sign-in is on every plan.
    let shown = lab.call(by, "GET", &path(&id, ""), Value::Null).await.ok();
    assert_eq!(shown["gates"], json!(["basic"]));
    let (edge, told) = confirmed(&lab, &mut relay, by, "PUT", &path(&id, "/edge-auth"), edge_auth()).await;
    edge.ok();
    assert!(matches!(&told[..], [Change::Gates { gates, .. }] if gates.basic.is_some()));
    confirmed(&lab, &mut relay, by, "DELETE", &path(&id, "/auth"), Value::Null).await.0.ok();
    confirmed(&lab, &mut relay, by, "DELETE", &path(&id, ""), Value::Null).await.0.ok();
    let log = audited(&lab, &house).await;
    assert_eq!(log.iter().filter(|(act, _)| act == "plan.set").count(), 2);
}

#[tokio::test]
async fn a_plan_is_set_by_the_operator_in_whole() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let child = lab.child(&house.master).await;
    let set = async |by, body: Value| lab.call(by, "PUT", "/api/v1/tenant/plan", body).await;
    let by = By::Bearer(&house.token);
    for bad in [
        json!({}),
        json!({"plan": "gold"}),
        json!({"plan": "trial"}),
        json!({"plan": "trial", "trial_ends_at": -1}),
        json!({"plan": "trial", "trial_ends_at": u64::MAX}),
        json!({"plan": "pro", "trial_ends_at": 9}),
        json!({"plan": "free", "ends": 9}),
    ] {
        set(by, bad).await.refused(Code::BadRequest);
    }
    set(By::Key(&child), json!({"plan": "free"})).await.refused(Code::ScopeDenied);
    set(By::Key(&house.master), json!({"plan": "free"})).await.refused(Code::MasterCannotAct);
    let tenant = lab.call(By::Key(&child), "GET", "/api/v1/tenant", Value::Null).await.ok();
    assert_eq!(tenant["plan"], "pro");
}

#[tokio::test]
async fn a_closed_tunnel_is_told_to_all_relays_and_nothing_of_it_is_freed() {
    let lab = Lab::new().await;
    let (house, mut relay, child, id) = house_with_tunnel(&lab).await;
    let by = By::Bearer(&house.token);
    confirmed(&lab, &mut relay, by, "PUT", &path(&id, "/auth"), auth()).await.0.ok();
    let (answer, told) = confirmed(&lab, &mut relay, by, "DELETE", &path(&id, ""), Value::Null).await;
    let answer = answer.ok();
    assert_eq!((&answer["id"], &answer["relays"][0]["applied"]), (&json!(id), &json!(true)));
    let epoch = relay.reader.position().unwrap().epoch;
    assert_eq!(told, [Change::Close { tunnel: id, epoch }]);
    // Whoever serves a tunnel may close it, too; and the name, the gate and the key are as they were.
    confirmed(&lab, &mut relay, By::Key(&child), "DELETE", &path(&id, ""), Value::Null).await.0.ok();
    let shown = lab.call(by, "GET", &path(&id, ""), Value::Null).await.ok();
    assert_eq!(shown["gates"], json!(["basic"]));
    assert!(relay.names.contains_key(&"web".parse().unwrap()));
    let row = lab.show(by, &child).await;
    assert_eq!(row["revoked_at"], Value::Null);
    let closed = audited(&lab, &house).await.into_iter().filter(|(act, _)| act == "tunnel.close").count();
    assert_eq!(closed, 2);
}

#[tokio::test]
async fn a_relay_that_comes_back_gets_all_gates_and_the_closings_of_its_absence() {
    let lab = Lab::new().await;
    let (house, mut relay, _, id) = house_with_tunnel(&lab).await;
    let by = By::Bearer(&house.token);
    confirmed(&lab, &mut relay, by, "PUT", &path(&id, "/auth"), auth()).await.0.ok();
    let (seed, last) = (relay.id, relay.reader.position());
    drop(relay);
    lab.call(by, "PUT", &path(&id, "/edge-auth"), edge_auth()).await.ok();
    let answer = lab.call(by, "DELETE", &path(&id, ""), Value::Null).await.ok();
    assert_eq!(answer["relays"][0]["applied"], false, "one that did not confirm is named: {answer}");

    let snapshot = async |last| {
        let mut frames = lab.frames(seed, last).await;
        let trust = lab.coordinator.trust();
        let mut reader = mytunnel_keys::feed::FeedReader::new(frames.nonce, trust, last);
        loop {
            if let Accepted::Snapshot { changes, .. } = frames.next(&mut reader).await.unwrap() {
                return changes;
            }
        }
    };
    let changes = snapshot(last).await;
    let gates = changes.iter().find_map(|change| match change {
        Change::Gates { tunnel, gates } if *tunnel == id => Some(gates),
        _ => None,
    });
    assert!(gates.is_some_and(|gates| gates.basic.is_some() && gates.sign_in.is_some()), "{changes:?}");
    assert!(changes.iter().any(|change| matches!(change, Change::Close { tunnel, .. } if *tunnel == id)));
    lab.advance(2 * 3600 + 1);
    let later = snapshot(last).await;
    assert!(!later.iter().any(|change| matches!(change, Change::Close { .. })), "nobody serves it any more");
}

#[tokio::test]
async fn a_child_may_ask_for_a_password_but_not_touch_the_owners() {
    let lab = Lab::new().await;
    let (house, mut relay, child, id) = house_with_tunnel(&lab).await;
    let (auth_path, owner) = (path(&id, "/auth"), By::Key(&house.device));
    let ahead =
        json!({"user": USER, "password": PASSWORD, "tunnel": {"project": house.project, "name": "web"}});
    confirmed(&lab, &mut relay, By::Key(&child), "PUT", &auth_path, auth()).await.0.ok();
    // Its like may go on with it, before they serve the name and without taking it over.
    let sibling = lab.child(&house.master).await;
    lab.call(By::Key(&sibling), "PUT", &auth_path, auth()).await.refused(Code::NotFound);
    confirmed(&lab, &mut relay, By::Key(&sibling), "PUT", &auth_path, ahead.clone()).await.0.ok();
    lab.call(By::Key(&sibling), "GET", &path(&id, ""), Value::Null).await.refused(Code::NotFound);
    confirmed(&lab, &mut relay, By::Key(&child), "DELETE", &auth_path, Value::Null).await.0.ok();

    confirmed(&lab, &mut relay, owner, "PUT", &auth_path, auth()).await.0.ok();
    for (method, body) in [("PUT", auth()), ("PUT", ahead), ("DELETE", Value::Null)] {
        lab.call(By::Key(&child), method, &auth_path, body).await.refused(Code::ScopeDenied);
    }
    let of_device = lab.mint(&house.device, json!({"project": house.project})).await.0;
    confirmed(&lab, &mut relay, owner, "DELETE", &auth_path, Value::Null).await.0.ok();
    confirmed(&lab, &mut relay, By::Key(&child), "PUT", &auth_path, auth()).await.0.ok();
    let other =
        json!({"user": USER, "password": PASSWORD, "tunnel": {"project": house.project, "name": "web"}});
    let by = By::Key(&of_device);
    lab.call(by, "PUT", &auth_path, other.clone()).await.refused(Code::NameTaken);
    let down = Report::TunnelDown { tunnel: id, serial: child.serial, at: 0 };
    relay.link.reports.send(down).await.unwrap();
    eventually(async || {
        let shown = lab.call(owner, "GET", &path(&id, ""), Value::Null).await.ok();
        (shown["online"] == false).then_some(())
    })
    .await;
    lab.call(by, "PUT", &auth_path, other).await.refused(Code::ScopeDenied);
}

#[tokio::test]
async fn nobody_asks_anything_of_the_visitors_of_anothers_live_tunnel_nor_ends_it() {
    let lab = Lab::new().await;
    let (house, mut relay) = (lab.house().await, lab.relay().await);
    let id = relay.up(&house.project, "prod", &house.device).await;
    relay.delta().await;
    let stranger = lab.mint(&house.master, Value::Null).await.0;
    let new = json!({"project": house.project, "name": "prod"});
    let of = |mut body: Value| {
        body["tunnel"] = new.clone();
        body
    };
    for (at, body) in [
        ("/auth", of(auth())),
        ("/edge-auth", of(edge_auth())),
        ("/gates/pin", of(json!({}))),
        ("/gates/bearer", of(json!({}))),
        ("/gates/ip", of(json!({"allow": ["192.0.2.0/24"], "deny": []}))),
        ("/expires", of(json!({"expires_in": 1}))),
    ] {
        lab.call(By::Key(&stranger), "PUT", &path(&id, at), body).await.refused(Code::NameTaken);
    }
    let shown = lab.call(By::Key(&house.device), "GET", &path(&id, ""), Value::Null).await.ok();
    assert_eq!((shown["gates"].clone(), shown["expires_at"].clone()), (json!([]), Value::Null), "{shown}");
    // Also one that has joined the name, or that the last word of a relay is of, changes nothing for the other.
    let sibling = lab.mint(&house.master, Value::Null).await.0;
    let other = relay.up(&house.project, "shared", &stranger).await;
    relay.delta().await;
    let new = json!({"project": house.project, "name": "shared"});
    let end = json!({"expires_in": 60, "tunnel": new});
    lab.call(By::Key(&sibling), "PUT", &path(&other, "/expires"), end).await.refused(Code::NameTaken);
    relay.up(&house.project, "shared", &sibling).await;
    eventually(async || {
        let refused = lab.call(By::Key(&sibling), "DELETE", &path(&other, ""), Value::Null).await;
        (refused.status == 409).then_some(())
    })
    .await;
    // Of a name in another project nobody learns whether it is served.
    let (next, _) = lab.project(By::Key(&house.device), "next").await;
    let foreign = relay.up(&next, "hidden", &house.device).await;
    relay.delta().await;
    lab.call(By::Key(&stranger), "PUT", &path(&foreign, "/auth"), auth()).await.refused(Code::NotFound);
}

#[tokio::test]
async fn tunnels_are_listed_a_page_at_a_time() {
    let lab = Lab::new().await;
    let (house, relay) = (lab.house().await, lab.relay().await);
    for number in 0..5 {
        let child = lab.child(&house.master).await;
        relay.up(&house.project, &format!("t{number}"), &child).await;
    }
    let get = async |query: &str| {
        let path = format!("/api/v1/tunnels{query}");
        lab.call(By::Bearer(&house.token), "GET", &path, Value::Null).await
    };
    eventually(async || (get("").await.ok()["tunnels"].as_array().unwrap().len() == 5).then_some(())).await;
    assert_eq!(get("").await.ok().get("next"), None);
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = get(&format!("?limit=2{after}")).await.ok();
        let rows = page["tunnels"].as_array().unwrap();
        assert!(rows.len() <= 2);
        seen.extend(rows.iter().map(|row| row["name"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(seen, ["t0", "t1", "t2", "t3", "t4"]);
    let none = get(&format!("?project={}", lab.project(By::Key(&house.device), "none").await.0)).await.ok();
    assert_eq!(none["tunnels"], json!([]));
    for bad in ["?after=x", "?limit=x", "?after=web.7"] {
        get(bad).await.refused(Code::BadRequest);
    }
}
