//! Gates belong to names: they may stand before a tunnel is open, and go with it.

use super::*;

#[tokio::test]
async fn a_gate_can_stand_before_its_tunnel_is_ever_open() {
    let lab = Lab::new().await;
    let (house, mut relay) = (lab.house().await, lab.relay().await);
    let cluster = "localhost".parse().unwrap();
    let id_of = |project: &ProjectId| TunnelId::derive(&cluster, project, &"shop".parse().unwrap());
    let ahead = |project: &ProjectId, name: &str| json!({"user": USER, "password": PASSWORD, "tunnel": {"project": project, "name": name}});
    let id = id_of(&house.project);
    let ask = async |by, id: &TunnelId, body| lab.call(by, "PUT", &path(id, "/auth"), body).await;
    let device = By::Key(&house.device);
    ask(device, &id, auth()).await.refused(Code::NotFound);
    ask(device, &id, ahead(&house.project, "other")).await.refused(Code::BadRequest);
    ask(device, &id, ahead(&house.project, "www")).await.refused(Code::BadRequest);
    ask(By::Bearer(&house.token), &id, ahead(&house.project, "shop")).await.refused(Code::NotFound);
    let stranger = lab.child(&lab.project(device, "third").await.1).await;
    ask(By::Key(&stranger), &id, ahead(&house.project, "shop")).await.refused(Code::ScopeDenied);
    ask(By::Key(&house.master), &id, ahead(&house.project, "shop")).await.refused(Code::MasterCannotAct);

    let (auth, whole) = (path(&id, "/auth"), ahead(&house.project, "shop"));
    let (answer, told) = confirmed(&lab, &mut relay, device, "PUT", &auth, whole).await;
    assert_eq!(answer.ok()["relays"][0]["applied"], true);
    let name = named("shop", &house.project);
    assert_eq!(told[0], name);
    assert!(matches!(&told[1], Change::Gates { tunnel, gates } if *tunnel == id && gates.basic.is_some()));
    let shown = lab.call(device, "GET", &path(&id, ""), Value::Null).await.ok();
    assert_eq!((&shown["online"], &shown["gates"]), (&json!(false), &json!(["basic"])));
    // The name is that project's: another gets neither it nor a gate on it.
    let (other, _) = lab.project(device, "other").await;
    ask(device, &id_of(&other), ahead(&other, "shop")).await.refused(Code::NameTaken);
}

#[tokio::test]
async fn gates_go_with_the_name_and_never_to_its_next_owner() {
    let lab = Lab::new().await;
    let (house, mut relay, _, id) = house_with_tunnel(&lab).await;
    let by = By::Key(&house.device);
    confirmed(&lab, &mut relay, by, "PUT", &path(&id, "/auth"), auth()).await.0.ok();
    let delete = format!("/api/v1/projects/{}", house.project);
    let (_, told) = confirmed(&lab, &mut relay, by, "DELETE", &delete, Value::Null).await;
    assert!(told.contains(&Change::Gates { tunnel: id, gates: Gates::default() }), "{told:?}");
    lab.call(by, "GET", &path(&id, ""), Value::Null).await.refused(Code::NotFound);

    let (project, master) = lab.project(by, "next").await;
    let child = lab.child(&master).await;
    let next = relay.up(&project, "web", &child).await;
    relay.delta().await;
    assert_ne!(next, id);
    let shown = lab.call(by, "GET", &path(&next, ""), Value::Null).await.ok();
    assert_eq!(shown["gates"], json!([]));
}

#[tokio::test]
async fn a_name_with_a_gate_is_not_freed_however_long_nobody_serves_it() {
    let lab = Lab::new().await;
    let (house, mut relay, _, id) = house_with_tunnel(&lab).await;
    let other = lab.child(&house.master).await;
    relay.up(&house.project, "open", &other).await;
    relay.delta().await;
    confirmed(&lab, &mut relay, By::Bearer(&house.token), "PUT", &path(&id, "/auth"), auth()).await.0.ok();
    drop(relay);
    lab.advance(31 * DAY);
    let mut relay = lab.relay().await;
    // The sweep is due every ten minutes.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(600)).await;
    tokio::time::resume();
    assert_eq!(relay.delta().await, [Change::NameFreed { name: "open".parse().unwrap() }]);
}
