//! Sessions of visitors: ended everywhere by a change of their key.

use super::*;

#[tokio::test]
async fn sessions_are_ended_by_another_key_and_the_lists_stay() {
    let lab = Lab::new().await;
    let (house, mut relay, child, id) = house_with_tunnel(&lab).await;
    let (by, edge) = (By::Bearer(&house.token), path(&id, "/edge-auth"));
    let sessions = path(&id, "/edge-auth/sessions");
    lab.call(by, "DELETE", &sessions, Value::Null).await.refused(Code::NotFound);
    let gate = |told: Vec<Change>| match told.into_iter().next() {
        Some(Change::Gates { gates: Gates { sign_in: Some(gate), .. }, .. }) => gate,
        other => panic!("{other:?}"),
    };
    let (_, told) = confirmed(&lab, &mut relay, by, "PUT", &edge, edge_auth()).await;
    let first = gate(told);
    let lists = json!({"provider": "google", "allowed_domains": [], "allowed_emails": ["ann@acme.example"]});
    let (_, told) = confirmed(&lab, &mut relay, by, "PUT", &edge, lists).await;
    let second = gate(told);
    assert_eq!(second.session_key, first.session_key, "lists change under the sessions");

    let (answer, told) = confirmed(&lab, &mut relay, by, "DELETE", &sessions, Value::Null).await;
    let answer = answer.ok();
    assert_eq!((&answer["edge_auth_enabled"], &answer["relays"][0]["applied"]), (&json!(true), &json!(true)));
    let third = gate(told);
    assert_ne!(third.session_key, first.session_key);
    assert_eq!((third.provider, third.allowed_emails), (second.provider, second.allowed_emails));
    let log = audited(&lab, &house).await;
    assert!(log.contains(&("gate.sessions.end".to_owned(), "tunnel:web".to_owned())), "{log:?}");
    lab.call(By::Key(&child), "DELETE", &sessions, Value::Null).await.refused(Code::ScopeDenied);
}

#[tokio::test]
async fn with_a_new_era_no_session_of_the_old_one_counts() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mytunnel.db");
    let keys = async |lab: &Lab| {
        let relay = lab.relay().await;
        let changes = lab.snapshot(relay.id).await;
        changes.into_iter().find_map(|change| match change {
            Change::Gates { gates: Gates { sign_in: Some(sign_in), pin: Some(pin), .. }, .. } => {
                Some((sign_in.session_key, pin.session_key))
            }
            _ => None,
        })
    };
    let lab = Lab::at(&file).await.unwrap();
    let (house, mut relay, _, id) = house_with_tunnel(&lab).await;
    let by = By::Bearer(&house.token);
    confirmed(&lab, &mut relay, by, "PUT", &path(&id, "/edge-auth"), edge_auth()).await.0.ok();
    confirmed(&lab, &mut relay, by, "PUT", &path(&id, "/gates/pin"), json!({})).await.0.ok();
    let before = keys(&lab).await.expect("both stand");
    drop(relay);
    lab.coordinator.shutdown().await;
    let lab = Lab::at(&file).await.unwrap();
    assert_eq!(keys(&lab).await.as_ref(), Some(&before), "a start is none");
    lab.coordinator.shutdown().await;
    let lab = Lab::open(store_at(&file), |config| config.new_era = true).await.unwrap();
    let after = keys(&lab).await.expect("both stand");
    assert!(after.0 != before.0 && after.1 != before.1);
}
