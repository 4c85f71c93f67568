//! Domains of tenants' own: asked for, shown by a record, led to a tunnel, looked at again, taken away.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::{RData, Record};
use mytunnel_coordinator::StoreConfig;
use mytunnel_keys::error::Code;
use mytunnel_keys::feed::Change;
use mytunnel_keys::id::TunnelId;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

use crate::people::join;
use crate::support::{By, DAY, House, Lab, Relay, eventually, fresh_seed};

const DOMAIN: &str = "app.example.com";
const PATH: &str = "/api/v1/domains";

/// A name server with TXT records.
struct Zone {
    address: SocketAddr,
    /// Values by name; none stands for a server that fails.
    records: Arc<Mutex<HashMap<String, Option<Vec<String>>>>>,
    _task: JoinSet<()>,
}

impl Zone {
    async fn start() -> Self {
        // Both on one port: who finds the second taken tries another first.
        let (socket, listener) = loop {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            if let Ok(listener) = TcpListener::bind(socket.local_addr().unwrap()).await {
                break (socket, listener);
            }
        };
        let address = socket.local_addr().unwrap();
        let records: Arc<Mutex<HashMap<String, Option<Vec<String>>>>> = Arc::default();
        let mut task = JoinSet::new();
        let known = records.clone();
        task.spawn(async move {
            let mut buffer = [0; 512];
            loop {
                let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
                socket.send_to(&answer(&buffer[..length], &known), from).await.unwrap();
            }
        });
        let known = records.clone();
        task.spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut question = vec![0; stream.read_u16().await.unwrap().into()];
                stream.read_exact(&mut question).await.unwrap();
                let answer = answer(&question, &known);
                stream.write_u16(answer.len().try_into().unwrap()).await.unwrap();
                stream.write_all(&answer).await.unwrap();
            }
        });
        Self { address, records, _task: task }
    }

    fn set(&self, domain: &str, values: Option<&[&str]>) {
        let values = values.map(|values| values.iter().map(|value| (*value).to_owned()).collect());
        self.records.lock().unwrap().insert(format!("_mytunnel.{domain}"), values);
    }

    /// Whether a name has a server that fails.
    fn fail(&self, name: &str, fails: bool) {
        let mut records = self.records.lock().unwrap();
        let _ = if fails { records.insert(name.to_owned(), None) } else { records.remove(name) };
    }

    fn clear(&self, domain: &str) {
        self.records.lock().unwrap().remove(&format!("_mytunnel.{domain}"));
    }
}

fn answer(question: &[u8], known: &Mutex<HashMap<String, Option<Vec<String>>>>) -> Vec<u8> {
    let question = Message::from_vec(question).unwrap();
    let name = question.queries[0].name().clone();
    let mut answer = Message::response(question.metadata.id, OpCode::Query);
    answer.add_queries(question.queries.clone());
    let text = name.to_ascii().trim_end_matches('.').to_owned();
    match known.lock().unwrap().get(&text) {
        Some(Some(values)) => {
            let record = |value: &String| {
                Record::from_rdata(name.clone(), 0, RData::TXT(TXT::new(vec![value.clone()])))
            };
            answer.add_answers(values.iter().map(record).collect::<Vec<_>>());
        }
        Some(None) => answer.metadata.response_code = ResponseCode::ServFail,
        None => answer.metadata.response_code = ResponseCode::NXDomain,
    }
    answer.to_vec().unwrap()
}

struct Place {
    lab: Lab,
    zone: Zone,
    house: House,
    relay: Relay,
    tunnel: TunnelId,
}

/// A lab that asks a name server of its own, with a tunnel `web`.
async fn place() -> Place {
    let zone = Zone::start().await;
    let server = zone.address;
    let lab = Lab::open(StoreConfig::Memory, |config| config.name_servers = vec![server]).await.unwrap();
    let (house, mut relay) = (lab.house().await, lab.relay().await);
    let child = lab.child(&house.master).await;
    let tunnel = relay.up(&house.project, "web", &child).await;
    relay.delta().await;
    Place { lab, zone, house, relay, tunnel }
}

impl Place {
    async fn add(&self, domain: &str) -> Value {
        let body = json!({"domain": domain, "name": "web"});
        self.lab.call(By::Key(&self.house.device), "POST", PATH, body).await.ok()
    }

    /// What the record of an added domain has to be.
    async fn value(&self, domain: &str) -> String {
        self.add(domain).await["records"][0]["value"].as_str().unwrap().to_owned()
    }

    async fn verify(&self, domain: &str) -> Value {
        let path = format!("{PATH}/{domain}/verify");
        self.lab.call(By::Key(&self.house.device), "POST", &path, Value::Null).await.ok()
    }

    /// A domain that leads to `web`.
    async fn shown(&mut self, domain: &str) {
        let value = self.value(domain).await;
        self.zone.set(domain, Some(&[&value]));
        let path = format!("{PATH}/{domain}/verify");
        let call = self.lab.call(By::Key(&self.house.device), "POST", &path, Value::Null);
        let (answer, told) = tokio::join!(call, self.relay.delta());
        assert_eq!(answer.ok()["state"], "verified");
        assert!(matches!(&told[..], [Change::Domain { .. }]), "{told:?}");
    }

    async fn listed(&self) -> Value {
        self.lab.call(By::Key(&self.house.device), "GET", PATH, Value::Null).await.ok()["domains"].take()
    }

    /// What a relay is told that joins.
    async fn told_anew(&self) -> Vec<Change> {
        let relay = fresh_seed().public();
        self.lab.coordinator.enroll_relay(relay, Vec::new()).await.unwrap();
        self.lab.snapshot(relay).await
    }

    async fn acts(&self) -> Vec<String> {
        let log = self.lab.call(By::Key(&self.house.device), "GET", "/api/v1/audit", Value::Null).await.ok();
        let entries = log["entries"].as_array().unwrap().iter();
        let of_domains = entries.filter(|entry| entry["subject"] == format!("domain:{DOMAIN}"));
        of_domains.map(|entry| entry["act"].as_str().unwrap().to_owned()).collect()
    }
}

/// Lets what is due every ten minutes happen.
async fn ten_minutes() {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(600)).await;
    tokio::time::resume();
}

/// Waits for the next look at the only domain, so much later; answers how it stands then.
async fn look(place: &mut Place, after: u64) -> Value {
    let before = place.listed().await;
    place.lab.advance(after);
    ten_minutes().await;
    eventually(async || {
        let after = place.listed().await;
        (after != before).then(|| after[0].clone())
    })
    .await
}

#[tokio::test]
async fn a_domain_leads_to_its_tunnel_once_its_record_is_there_and_nowhere_once_it_is_removed() {
    let mut place = place().await;
    let added = place.add("App.Example.COM.").await;
    assert_eq!((&added["domain"], &added["state"]), (&json!(DOMAIN), &json!("pending")));
    assert_eq!((&added["tunnel"], &added["name"]), (&json!(place.tunnel), &json!("web")));
    let records = &added["records"];
    assert_eq!(
        (&records[0]["type"], &records[0]["name"]),
        (&json!("TXT"), &json!("_mytunnel.app.example.com"))
    );
    assert_eq!((&records[1]["type"], &records[1]["name"]), (&json!("CNAME"), &json!(DOMAIN)));
    assert_eq!(records[1]["value"], "web.localhost");
    let value = records[0]["value"].as_str().unwrap();
    assert!(value.starts_with("mytunnel-domain=") && value.len() == 48, "{value}");
    assert_eq!(
        place.add(DOMAIN).await["records"],
        *records,
        "the value stays as long as the domain is asked for"
    );

    let not_yet = place.verify(DOMAIN).await;
    assert_eq!(not_yet["state"], "pending");
    assert_eq!(not_yet["missing"], "there is no TXT record _mytunnel.app.example.com yet");
    place.zone.set(DOMAIN, Some(&["mytunnel-domain=other", "v=spf1"]));
    assert_eq!(
        place.verify(DOMAIN).await["missing"],
        "the TXT record _mytunnel.app.example.com has another value"
    );
    place.zone.set(DOMAIN, None);
    let failed = place.verify(DOMAIN).await["missing"].as_str().unwrap().to_owned();
    assert!(failed.contains("the name server says: "), "{failed}");
    assert_eq!(place.relay.names.len(), 1);

    place.zone.set(DOMAIN, Some(&["v=spf1", value]));
    let path = format!("{PATH}/{DOMAIN}/verify");
    let call = place.lab.call(By::Bearer(&place.house.token), "POST", &path, Value::Null);
    let (answer, told) = tokio::join!(call, place.relay.delta());
    let answer = answer.ok();
    assert_eq!((&answer["state"], &answer["missing"]), (&json!("verified"), &Value::Null));
    assert_eq!(
        (&answer["verified_at"], &answer["relays"][0]["applied"]),
        (&json!(place.lab.now()), &json!(true))
    );
    let leads = Change::Domain { domain: DOMAIN.parse().unwrap(), name: "web".parse().unwrap() };
    assert_eq!(told, [leads]);
    assert_eq!(place.verify(DOMAIN).await["relays"], json!([]), "once more changes nothing");

    let path = format!("{PATH}/{DOMAIN}");
    let call = place.lab.call(By::Key(&place.house.device), "DELETE", &path, Value::Null);
    let (answer, told) = tokio::join!(call, place.relay.delta());
    assert_eq!(answer.ok()["relays"][0]["applied"], true);
    assert_eq!(told, [Change::DomainGone { domain: DOMAIN.parse().unwrap() }]);
    assert_eq!(place.listed().await, json!([]));
    let again = place.lab.call(By::Key(&place.house.device), "DELETE", &path, Value::Null).await;
    again.refused(Code::NotFound);
    assert_eq!(place.acts().await, ["domain.remove", "domain.verify", "domain.add"]);
    // Another time there is another record to make.
    assert_ne!(place.value(DOMAIN).await, value);
}

#[tokio::test]
async fn a_domain_can_be_led_to_another_tunnel_and_goes_with_its_project() {
    let mut place = place().await;
    place.shown(DOMAIN).await;
    let child = place.lab.child(&place.house.master).await;
    let shop = place.relay.up(&place.house.project, "shop", &child).await;
    place.relay.delta().await;
    let by = By::Key(&place.house.device);
    let body = json!({"domain": DOMAIN, "tunnel": shop});
    let (answer, told) = tokio::join!(place.lab.call(by, "POST", PATH, body), place.relay.delta());
    assert_eq!((&answer.ok()["state"], &answer.ok()["name"]), (&json!("verified"), &json!("shop")));
    assert_eq!(told, [Change::Domain { domain: DOMAIN.parse().unwrap(), name: "shop".parse().unwrap() }]);

    let path = format!("/api/v1/projects/{}", place.house.project);
    let (answer, told) = tokio::join!(place.lab.call(by, "DELETE", &path, Value::Null), place.relay.delta());
    answer.ok();
    let gone = Change::DomainGone { domain: DOMAIN.parse().unwrap() };
    assert!(told.contains(&gone), "{told:?}");
    assert_eq!(place.listed().await, json!([]));
}

#[tokio::test]
async fn a_name_is_not_freed_while_a_domain_leads_there() {
    let mut place = place().await;
    let child = place.lab.child(&place.house.master).await;
    place.relay.up(&place.house.project, "old", &child).await;
    place.relay.delta().await;
    place.shown(DOMAIN).await;
    place.lab.advance(31 * DAY);
    ten_minutes().await;
    let freed = place.relay.delta().await;
    assert!(matches!(&freed[..], [Change::NameFreed { name }] if name.as_str() == "old"), "{freed:?}");
    let leads = Change::Domain { domain: DOMAIN.parse().unwrap(), name: "web".parse().unwrap() };
    assert!(place.told_anew().await.contains(&leads), "who comes later is told too");
}

#[tokio::test]
async fn a_record_that_is_gone_for_days_takes_the_domain_along_and_a_failing_server_does_not() {
    let mut place = place().await;
    place.shown(DOMAIN).await;
    place.zone.set(DOMAIN, None);
    let unknown = look(&mut place, DAY).await;
    assert_eq!(
        (&unknown["checked_at"], &unknown["missing_since"]),
        (&json!(place.lab.now() - 23 * 3600), &Value::Null)
    );
    place.zone.clear(DOMAIN);
    let missing = look(&mut place, DAY).await;
    let since = place.lab.now();
    assert_eq!((&missing["checked_at"], &missing["missing_since"]), (&json!(since), &json!(since)));
    for _ in 0..2 {
        let still = look(&mut place, DAY).await;
        assert_eq!((&still["state"], &still["missing_since"]), (&json!("verified"), &json!(since)));
    }
    assert_eq!(look(&mut place, DAY).await["state"], "pending");
    let told = place.told_anew().await;
    assert!(!told.iter().any(|change| matches!(change, Change::Domain { .. })), "{told:?}");
    assert_eq!(place.acts().await[0], "domain.lose");
}

#[tokio::test]
async fn a_name_server_that_is_silent_for_a_month_takes_its_domain_along_unless_all_are() {
    let mut place = place().await;
    place.shown(DOMAIN).await;
    place.zone.set(DOMAIN, None);
    let silent = look(&mut place, DAY).await;
    let since = place.lab.now();
    assert_eq!(silent["unknown_since"], json!(since));
    place.zone.fail("", true);
    look(&mut place, 20 * DAY).await;
    // A device is signed in for thirty days.
    (place.house.device, _) = place.lab.device(&place.lab.owner_again().await).await;
    let deaf = look(&mut place, 20 * DAY).await;
    assert_eq!((&deaf["state"], &deaf["unknown_since"]), (&json!("verified"), &json!(since)));
    place.zone.fail("", false);
    assert_eq!(look(&mut place, DAY).await["state"], "pending");
    assert_eq!(place.acts().await[0], "domain.lose");
}

#[tokio::test]
async fn only_owners_change_domains_and_agents_do_not_see_them() {
    let place = place().await;
    place.add(DOMAIN).await;
    let child = place.lab.child(&place.house.master).await;
    let (member, device) = join(&place.lab, &place.house, "member").await;
    let body = json!({"domain": "b.example.com", "name": "web"});
    let verify = format!("{PATH}/{DOMAIN}/verify");
    let remove = format!("{PATH}/{DOMAIN}");
    for (by, code) in [
        (By::Key(&child), Code::ScopeDenied),
        (By::Key(&place.house.master), Code::MasterCannotAct),
        (By::Bearer(&member.access), Code::ScopeDenied),
        (By::Key(&device), Code::ScopeDenied),
        (By::Nobody, Code::InvalidKey),
    ] {
        for (method, path, body) in
            [("POST", PATH, body.clone()), ("POST", &verify, Value::Null), ("DELETE", &remove, Value::Null)]
        {
            place.lab.call(by, method, path, body).await.refused(code);
        }
    }
    for (by, sees) in [
        (By::Bearer(&member.access), true),
        (By::Key(&device), true),
        (By::Key(&child), false),
        (By::Key(&place.house.master), false),
    ] {
        assert_eq!(place.lab.call(by, "GET", PATH, Value::Null).await.status.is_success(), sees, "{by:?}");
    }
    assert_eq!(place.listed().await.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_cannot_be_a_domain_or_its_tunnel_is_refused_and_there_is_a_bound() {
    let place = place().await;
    let ask = async |body: Value| place.lab.call(By::Key(&place.house.device), "POST", PATH, body).await;
    for (domain, code) in [
        ("com", Code::BadRequest),
        ("*.example.com", Code::BadRequest),
        ("192.0.2.1", Code::BadRequest),
        ("web.localhost", Code::BadRequest),
        ("app.example.com/x", Code::BadRequest),
    ] {
        ask(json!({"domain": domain, "name": "web"})).await.refused(code);
    }
    for (body, code) in [
        (json!({"domain": DOMAIN}), Code::BadRequest),
        (json!({"domain": DOMAIN, "name": "web", "tunnel": place.tunnel}), Code::BadRequest),
        (json!({"domain": DOMAIN, "name": "web", "more": 1}), Code::BadRequest),
        (json!({"name": "web"}), Code::BadRequest),
        (json!({"domain": DOMAIN, "name": "nobody"}), Code::NotFound),
        (json!({"domain": DOMAIN, "name": "web", "project": "proj_other"}), Code::NotFound),
        (json!({"domain": DOMAIN, "tunnel": TunnelId::from_bytes([9; 16])}), Code::NotFound),
    ] {
        ask(body).await.refused(code);
    }
    let path = format!("{PATH}/b.example.com/verify");
    place.lab.call(By::Key(&place.house.device), "POST", &path, Value::Null).await.refused(Code::NotFound);
    for number in 0..50 {
        ask(json!({"domain": format!("{number}.example.com"), "name": "web"})).await.ok();
    }
    ask(json!({"domain": DOMAIN, "name": "web"})).await.refused(Code::TunnelLimit);
    ask(json!({"domain": "7.example.com", "name": "web"})).await.ok();
}

#[tokio::test]
async fn name_servers_are_not_asked_without_end() {
    let place = place().await;
    place.add(DOMAIN).await;
    let path = format!("{PATH}/{DOMAIN}/verify");
    let verify = || place.lab.call(By::Key(&place.house.device), "POST", &path, Value::Null);
    for _ in 0..60 {
        verify().await.ok();
    }
    verify().await.refused(Code::RateLimited);
    place.lab.advance(120);
    verify().await.ok();
}
