//! Numbers, tokens, addresses and ends: set, told to the relays, shown and taken away like a password.

use super::*;

/// Sets a gate and answers what was said and what relays were told of the tunnel.
async fn set(lab: &Lab, relay: &mut Relay, by: By<'_>, path: &str, body: Value) -> (Value, Gates) {
    let (answer, told) = confirmed(lab, relay, by, "PUT", path, body).await;
    let answer = answer.ok();
    assert_eq!(
        (&answer["enabled"], &answer["relays"][0]["applied"]),
        (&json!(true), &json!(true)),
        "{answer}"
    );
    let [Change::Gates { gates, .. }] = &told[..] else { panic!("{told:?}") };
    (answer, gates.clone())
}

#[tokio::test]
async fn a_number_and_a_token_are_made_shown_once_and_kept_as_hashes() {
    let lab = Lab::new().await;
    let (house, mut relay, _, id) = house_with_tunnel(&lab).await;
    let by = By::Key(&house.device);
    let (pin, bearer) = (path(&id, "/gates/pin"), path(&id, "/gates/bearer"));
    let (answer, gates) = set(&lab, &mut relay, by, &pin, json!({})).await;
    let made = answer["secret"].as_str().unwrap().to_owned();
    assert!(made.len() == 6 && made.bytes().all(|byte| byte.is_ascii_digit()), "{answer}");
    let first = gates.pin.unwrap();
    assert!(first.hash.starts_with("$argon2id$"));

    let (answer, gates) = set(&lab, &mut relay, by, &pin, json!({"pin": "123456"})).await;
    assert_eq!(answer.get("secret"), None, "what was given is not said again");
    let second = gates.pin.unwrap();
    assert!(second.generation > first.generation);
    assert_ne!(second.session_key, first.session_key, "sessions of the number before end");

    let (answer, gates) = set(&lab, &mut relay, by, &bearer, json!({"token": null})).await;
    let token = answer["secret"].as_str().unwrap().to_owned();
    assert_eq!(token.len(), 43, "32 random bytes");
    assert!(gates.bearer.unwrap().hash.starts_with("$argon2id$") && gates.pin == Some(second));

    let shown = lab.call(by, "GET", &path(&id, ""), Value::Null).await.ok();
    assert_eq!(shown["gates"], json!(["pin", "bearer"]));
    let log = lab.call(by, "GET", "/api/v1/audit", Value::Null).await.ok().to_string();
    for secret in [&made, &token, "argon2"] {
        assert!(!shown.to_string().contains(secret) && !log.contains(secret), "{secret}");
    }
    for (path, gate, left) in [(&pin, "pin", json!(["bearer"])), (&bearer, "bearer", json!([]))] {
        let (answer, _) = confirmed(&lab, &mut relay, by, "DELETE", path, Value::Null).await;
        let answer = answer.ok();
        assert_eq!((&answer["gate"], &answer["enabled"]), (&json!(gate), &json!(false)));
        let shown = lab.call(by, "GET", "/api/v1/tunnels", Value::Null).await.ok();
        assert_eq!(shown["tunnels"][0]["gates"], left);
    }
    let acts = audited(&lab, &house).await;
    let count = |act: &str| acts.iter().filter(|(done, _)| done == act).count();
    assert_eq!((count("gate.set"), count("gate.drop")), (3, 2));
}

#[tokio::test]
async fn addresses_and_an_end_are_told_as_they_are_shown() {
    let lab = Lab::new().await;
    let (house, mut relay, _, id) = house_with_tunnel(&lab).await;
    let by = By::Bearer(&house.token);
    let lists = json!({"allow": ["10.1.2.3/8", "2001:db8::/32"], "deny": ["10.0.0.7"]});
    let (_, gates) = set(&lab, &mut relay, by, &path(&id, "/gates/ip"), lists).await;
    let gate = gates.addresses.unwrap();
    assert!(gate.admits("10.9.9.9".parse().unwrap()) && !gate.admits("10.0.0.7".parse().unwrap()));
    let (answer, gates) =
        set(&lab, &mut relay, by, &path(&id, "/expires"), json!({"expires_in": 7200})).await;
    let end = lab.now() + 7200;
    assert_eq!((gates.ends_at, &answer["expires_at"]), (Some(end), &json!(end)));
    let shown = lab.call(by, "GET", &path(&id, ""), Value::Null).await.ok();
    assert_eq!(shown["ip"], json!({"allow": ["10.0.0.0/8", "2001:db8::/32"], "deny": ["10.0.0.7/32"]}));
    assert_eq!((&shown["expires_at"], &shown["gates"]), (&json!(end), &json!(["ip"])));

    let (answer, told) = confirmed(&lab, &mut relay, by, "DELETE", &path(&id, "/expires"), Value::Null).await;
    assert_eq!(answer.ok()["gate"], "expires");
    assert!(matches!(&told[..], [Change::Gates { gates, .. }] if gates.ends_at.is_none()));
    // A relay that comes later has all of it from its snapshot.
    let mut frames = lab.frames(relay.id, None).await;
    let mut reader = mytunnel_keys::feed::FeedReader::new(frames.nonce, lab.coordinator.trust(), None);
    let changes = loop {
        if let Accepted::Snapshot { changes, .. } = frames.next(&mut reader).await.unwrap() {
            break changes;
        }
    };
    assert!(changes.iter().any(|change| matches!(change, Change::Gates { tunnel, gates }
        if *tunnel == id && gates.addresses.as_ref() == Some(&gate))));
}

#[tokio::test]
async fn bodies_of_other_gates_say_what_they_must() {
    let lab = Lab::new().await;
    let (house, _relay, _, id) = house_with_tunnel(&lab).await;
    for (rest, bad) in [
        ("/gates/pin", json!({"pin": "12345"})),
        ("/gates/pin", json!({"pin": "12345a"})),
        ("/gates/pin", json!({"pin": 123_456})),
        ("/gates/pin", json!({"code": "123456"})),
        ("/gates/bearer", json!({"token": "short"})),
        ("/gates/bearer", json!({"token": "sixteen letters and blanks"})),
        ("/gates/ip", json!({})),
        ("/gates/ip", json!({"allow": ["10.0.0.0/8"]})),
        ("/gates/ip", json!({"allow": [], "deny": []})),
        ("/gates/ip", json!({"allow": ["a.example"], "deny": []})),
        ("/gates/ip", json!({"allow": vec!["10.0.0.1"; 101], "deny": []})),
        ("/expires", json!({})),
        ("/expires", json!({"expires_in": 0})),
        ("/expires", json!({"expires_in": -1})),
        ("/expires", json!({"expires_in": u64::MAX})),
        ("/expires", json!({"expires_at": 1_900_000_000})),
    ] {
        let answer = lab.call(By::Bearer(&house.token), "PUT", &path(&id, rest), bad.clone()).await;
        assert_eq!(answer.status, 400, "{rest} {bad}");
        answer.refused(Code::BadRequest);
    }
}

#[tokio::test]
async fn a_plan_is_asked_for_every_gate_but_a_sign_in_and_an_end() {
    let lab = Lab::new().await;
    let (house, mut relay, _, id) = house_with_tunnel(&lab).await;
    let by = By::Key(&house.device);
    set(&lab, &mut relay, by, &path(&id, "/gates/pin"), json!({})).await;
    lab.call(by, "PUT", "/api/v1/tenant/plan", json!({"plan": "free"})).await.ok();
    for (rest, body) in [
        ("/gates/pin", json!({})),
        ("/gates/bearer", json!({})),
        ("/gates/ip", json!({"allow": ["10.0.0.0/8"], "deny": []})),
    ] {
        let refused = lab.call(by, "PUT", &path(&id, rest), body).await;
        assert_eq!(refused.status, 402, "{rest}");
        refused.refused(Code::UpgradeRequired);
    }
    set(&lab, &mut relay, by, &path(&id, "/expires"), json!({"expires_in": 60})).await;
    let shown = lab.call(by, "GET", &path(&id, ""), Value::Null).await.ok();
    assert_eq!(shown["gates"], json!(["pin"]), "what stands stays");
    confirmed(&lab, &mut relay, by, "DELETE", &path(&id, "/gates/pin"), Value::Null).await.0.ok();
}

#[tokio::test]
async fn a_child_cannot_open_by_a_token_what_the_owner_has_closed() {
    let lab = Lab::new().await;
    let (house, mut relay, child, id) = house_with_tunnel(&lab).await;
    let (owner, child) = (By::Key(&house.device), By::Key(&child));
    let bearer = path(&id, "/gates/bearer");
    set(&lab, &mut relay, child, &bearer, json!({})).await;
    set(&lab, &mut relay, child, &path(&id, "/gates/pin"), json!({})).await;
    confirmed(&lab, &mut relay, child, "DELETE", &bearer, Value::Null).await.0.ok();
    confirmed(&lab, &mut relay, owner, "PUT", &path(&id, "/edge-auth"), edge_auth()).await.0.ok();
    lab.call(child, "PUT", &bearer, json!({})).await.refused(Code::ScopeDenied);
    lab.call(child, "PUT", &path(&id, "/edge-auth"), edge_auth()).await.refused(Code::ScopeDenied);
    lab.call(child, "DELETE", &path(&id, "/edge-auth"), Value::Null).await.refused(Code::ScopeDenied);
    let refused = ("gate.refused".to_owned(), "tunnel:web".to_owned());
    assert!(audited(&lab, &house).await.contains(&refused));
    // What it has set it may change all the same.
    set(&lab, &mut relay, child, &path(&id, "/gates/pin"), json!({})).await;
    lab.call(By::Key(&house.master), "PUT", &bearer, json!({})).await.refused(Code::MasterCannotAct);
    lab.call(By::Nobody, "PUT", &bearer, json!({})).await.refused(Code::InvalidKey);
}

#[tokio::test]
async fn who_has_signed_in_stays_so_while_only_the_lists_change() {
    let lab = Lab::new().await;
    let (house, mut relay, _, id) = house_with_tunnel(&lab).await;
    let by = By::Key(&house.device);
    let edge = path(&id, "/edge-auth");
    let mut keys = Vec::new();
    for domain in ["a.example", "b.example"] {
        let lists = json!({"provider": "google", "allowed_domains": [domain], "allowed_emails": []});
        let (_, told) = confirmed(&lab, &mut relay, by, "PUT", &edge, lists).await;
        let [Change::Gates { gates, .. }] = &told[..] else { panic!("{told:?}") };
        keys.push(gates.sign_in.as_ref().unwrap().session_key.clone());
    }
    assert_eq!(keys[0], keys[1]);
    confirmed(&lab, &mut relay, by, "DELETE", &edge, Value::Null).await.0.ok();
    let (_, told) = confirmed(&lab, &mut relay, by, "PUT", &edge, edge_auth()).await;
    let [Change::Gates { gates, .. }] = &told[..] else { panic!("{told:?}") };
    assert_ne!(
        gates.sign_in.as_ref().unwrap().session_key,
        keys[0],
        "a gate that is set anew is another one"
    );
}

#[tokio::test]
async fn an_end_keeps_no_name_and_a_number_does() {
    let lab = Lab::new().await;
    let (house, mut relay, _, id) = house_with_tunnel(&lab).await;
    let by = By::Bearer(&house.token);
    set(&lab, &mut relay, by, &path(&id, "/gates/pin"), json!({})).await;
    let other = lab.child(&house.master).await;
    let open = relay.up(&house.project, "open", &other).await;
    relay.delta().await;
    set(&lab, &mut relay, by, &path(&open, "/expires"), json!({"expires_in": 60})).await;
    drop(relay);
    lab.advance(31 * DAY);
    let mut relay = lab.relay().await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(600)).await;
    tokio::time::resume();
    let told = relay.delta().await;
    assert!(told.contains(&Change::NameFreed { name: "open".parse().unwrap() }), "{told:?}");
    assert!(told.contains(&Change::Gates { tunnel: open, gates: Gates::default() }), "{told:?}");
    assert_eq!(told.len(), 2);
}
