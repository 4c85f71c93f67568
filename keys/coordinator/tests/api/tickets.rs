//! Tickets for private shares: one guest, one name, once; and never more than whoever made the ticket may do.

use std::sync::Arc;

use mytunnel_keys::api::{RedeemTicket, Ticket, TicketRedeemed};
use mytunnel_keys::certificate::{self, Claims, Kind};
use mytunnel_keys::error::Code;
use mytunnel_keys::feed::Change;
use mytunnel_keys::id::{NamePattern, TunnelId, TunnelKind};
use mytunnel_keys::secret::{Seed, TicketSecret};
use mytunnel_keys::token::{TicketToken, Token};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{Answer, By, DAY, EMAIL, House, Key, Lab, fresh_seed, mint_body, random};

const TICKETS: &str = "/api/v1/tickets";

/// A ticket as whoever made it has it.
pub(crate) struct Made {
    row: Ticket,
    pub(crate) text: String,
}

/// The text of a ticket that nobody knows yet.
pub(crate) fn text_of(lab: &Lab, secret: TicketSecret) -> String {
    let root = *lab.coordinator.root();
    Token::Ticket(TicketToken { secret, root, server: "http://localhost:8080".parse().unwrap() })
        .to_text()
        .to_string()
}

async fn ask(lab: &Lab, by: By<'_>, secret: &TicketSecret, more: Value) -> Answer {
    let digest = data_encoding::BASE64URL_NOPAD.encode(&secret.digest());
    let mut body = json!({"digest": digest, "name": "box", "within": 600, "ttl": 3600});
    if let (Some(body), Some(more)) = (body.as_object_mut(), more.as_object()) {
        body.extend(more.clone());
    }
    lab.call(by, "POST", TICKETS, body).await
}

/// Makes a ticket for `box`.
pub(crate) async fn issue(lab: &Lab, by: &Key, more: Value) -> Made {
    let secret = TicketSecret::from_bytes(random());
    let row = ask(lab, By::Key(by), &secret, more).await.read();
    Made { row, text: text_of(lab, secret) }
}

async fn refused(lab: &Lab, by: By<'_>, more: Value, code: Code) -> String {
    ask(lab, by, &TicketSecret::from_bytes(random()), more).await.refused(code)
}

async fn redeem(lab: &Lab, ticket: &str, guest: &Seed) -> Answer {
    let body = RedeemTicket { ticket: ticket.to_owned(), public_key: guest.public() };
    lab.call(By::Nobody, "POST", "/api/v1/tickets/redeem", serde_json::to_value(body).unwrap()).await
}

/// Uses a ticket up.
pub(crate) async fn enter(lab: &Lab, ticket: &Made) -> (Key, TicketRedeemed) {
    let seed = fresh_seed();
    let answer: TicketRedeemed = redeem(lab, &ticket.text, &seed).await.read();
    (Key { seed, serial: answer.key.serial }, answer)
}

fn claims(lab: &Lab, guest: &Key, answer: &TicketRedeemed) -> Claims {
    let (trust, subject) = (lab.coordinator.trust(), guest.seed.public());
    (*certificate::verify(&answer.key.certificate, &trust, &subject, lab.now()).unwrap()).clone()
}

async fn listed(lab: &Lab, by: By<'_>) -> Vec<Value> {
    let answer = lab.call(by, "GET", TICKETS, Value::Null).await.ok();
    answer["tickets"].as_array().unwrap().clone()
}

async fn withdraw(lab: &Lab, by: By<'_>, ticket: &Made) -> Answer {
    lab.call(by, "DELETE", &format!("{TICKETS}/{}", ticket.row.id), Value::Null).await
}

async fn house() -> (Lab, House) {
    let lab = Lab::new().await;
    let house = lab.house().await;
    (lab, house)
}

#[tokio::test]
async fn a_guest_gets_a_key_that_reaches_one_name_and_serves_nothing() {
    let (lab, house) = house().await;
    let ticket = issue(&lab, &house.master, json!({"ttl": 8 * 3600})).await;
    assert_eq!((ticket.row.expires_at, ticket.row.used_by.clone()), (lab.now() + 600, None));
    let (guest, answer) = enter(&lab, &ticket).await;
    assert_eq!((answer.name.as_str(), answer.from.as_str()), ("box", "web"));
    let claims = claims(&lab, &guest, &answer);
    assert_eq!((claims.kind, claims.parent), (Kind::Child, Some(house.master.serial)));
    assert_eq!((claims.project, claims.not_after), (Some(house.project.clone()), lab.now() + 8 * 3600));
    assert_eq!((claims.scopes.to_string().as_str(), claims.max_tunnels), ("private", 0));
    assert_eq!(claims.hosts, ["box".parse::<NamePattern>().unwrap()]);

    let of_device = issue(&lab, &house.device, json!({"project": house.project})).await;
    assert_eq!(enter(&lab, &of_device).await.1.from, EMAIL);
}

#[tokio::test]
async fn a_guest_makes_neither_keys_nor_tickets_nor_a_tunnel() {
    let (lab, house) = house().await;
    let (guest, _) = enter(&lab, &issue(&lab, &house.master, Value::Null).await).await;
    let by = By::Key(&guest);
    let body = mint_body(&fresh_seed().public(), Value::Null);
    lab.call(by, "POST", "/api/v1/mint", body).await.refused(Code::ScopeDenied);
    refused(&lab, by, Value::Null, Code::ScopeDenied).await;
    lab.revoke(by, &house.master, true).await.refused(Code::NotFound);
    assert_eq!(listed(&lab, by).await, Vec::<Value>::new());

    let mut relay = lab.relay().await;
    relay.up_as(TunnelKind::Private, &house.project, "box", &guest).await;
    let child = lab.child(&house.master).await;
    relay.up_as(TunnelKind::Private, &house.project, "other", &child).await;
    // Reports are taken in order: when the last of them counts, the others do not.
    relay.delta().await;
    assert_eq!(relay.names.keys().map(ToString::to_string).collect::<Vec<_>>(), ["other"]);
}

#[tokio::test]
async fn a_guest_learns_nothing_of_other_names_and_costs_no_core() {
    let (lab, house) = house().await;
    let (guest, _) = enter(&lab, &issue(&lab, &house.master, Value::Null).await).await;
    let mut relay = lab.relay().await;
    let child = lab.child(&house.master).await;
    relay.up_as(TunnelKind::Private, &house.project, "served", &child).await;
    relay.delta().await;
    let mut told = Vec::new();
    for name in ["served", "nobody", "box"] {
        let id = TunnelId::derive(&"localhost".parse().unwrap(), &house.project, &name.parse().unwrap());
        let new = |kind: &str| json!({"project": house.project, "name": name, "kind": kind});
        for (path, body) in [
            ("expires", json!({"expires_in": 3600, "tunnel": new("private")})),
            ("auth", json!({"user": "ann", "password": "correct horse", "tunnel": new("http")})),
        ] {
            let answer =
                lab.call(By::Key(&guest), "PUT", &format!("/api/v1/tunnels/{id}/{path}"), body).await;
            told.push(answer.refused(Code::ScopeDenied));
        }
    }
    told.dedup();
    assert_eq!(told.len(), 1, "{told:?}");
}

#[tokio::test]
async fn a_ticket_lets_in_once_and_the_same_guest_again_while_it_lasts() {
    let (lab, house) = house().await;
    let ticket = issue(&lab, &house.master, Value::Null).await;
    let (guest, first) = enter(&lab, &ticket).await;
    let again: TicketRedeemed = redeem(&lab, &ticket.text, &guest.seed).await.read();
    assert_eq!(again, first);
    let message = redeem(&lab, &ticket.text, &fresh_seed()).await.refused(Code::InvalidKey);
    assert!(message.contains("was used"), "{message}");
    let shown = &listed(&lab, By::Key(&house.device)).await[0];
    assert_eq!(shown["used_by"], guest.serial.nonce());
    let key = lab.show(By::Key(&house.device), &guest).await;
    assert_eq!((&key["name"], &key["hosts"]), (&json!(ticket.row.id), &json!(["box"])));
    lab.advance(600);
    let message = redeem(&lab, &ticket.text, &guest.seed).await.refused(Code::InvalidKey);
    assert!(message.contains("was used"), "{message}");
}

#[tokio::test]
async fn a_key_that_is_there_already_gets_nothing_by_a_ticket_and_leaves_it_good() {
    let (lab, house) = house().await;
    let ticket = issue(&lab, &house.master, Value::Null).await;
    for there in [&house.device, &house.master, &lab.child(&house.master).await] {
        redeem(&lab, &ticket.text, &there.seed).await.refused(Code::BadRequest);
    }
    enter(&lab, &ticket).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_guests_who_come_at_once_one_enters() {
    let place = tempfile::tempdir().unwrap();
    let lab = Arc::new(Lab::at(&place.path().join("mytunnel.db")).await.unwrap());
    let house = lab.house().await;
    for _ in 0..5 {
        let ticket = issue(&lab, &house.master, Value::Null).await;
        let mut guests = JoinSet::new();
        for _ in 0..4 {
            let (lab, text) = (lab.clone(), ticket.text.clone());
            guests.spawn(async move { redeem(&lab, &text, &fresh_seed()).await });
        }
        let answers = guests.join_all().await;
        let (entered, others): (Vec<_>, Vec<_>) =
            answers.into_iter().partition(|answer| answer.status.is_success());
        assert_eq!(entered.len(), 1);
        for other in others {
            other.refused(Code::InvalidKey);
        }
    }
}

#[tokio::test]
async fn whoever_comes_late_is_told_so_and_what_is_long_over_is_not_listed() {
    let (lab, house) = house().await;
    let ticket = issue(&lab, &house.master, json!({"within": 60})).await;
    lab.advance(60);
    redeem(&lab, &ticket.text, &fresh_seed()).await.refused(Code::KeyExpired);
    assert_eq!(listed(&lab, By::Key(&house.master)).await.len(), 1);
    lab.advance(3600);
    assert_eq!(listed(&lab, By::Key(&house.master)).await.len(), 0);
}

#[tokio::test]
async fn a_ticket_is_void_with_the_key_that_made_it_and_its_guests_end_with_it() {
    let (lab, house) = house().await;
    let mut relay = lab.relay().await;
    let (open, used) =
        (issue(&lab, &house.master, Value::Null).await, issue(&lab, &house.master, Value::Null).await);
    let (guest, answer) = enter(&lab, &used).await;
    let guest = claims(&lab, &guest, &answer);
    let (revoked, changes) =
        tokio::join!(lab.revoke(By::Key(&house.device), &house.master, true), relay.delta());
    assert_eq!(revoked.ok()["revoked_children"], 1);
    assert!(matches!(&changes[..], [Change::RevokeTree { .. }]), "{changes:?}");
    assert!(relay.revoked.is_revoked(&guest).is_some());
    let message = redeem(&lab, &open.text, &fresh_seed()).await.refused(Code::KeyRevoked);
    assert!(message.contains("whoever made this ticket"), "{message}");
    let void: Vec<_> = listed(&lab, By::Key(&house.device))
        .await
        .iter()
        .map(|row| (row["id"].clone(), row["void"].clone()))
        .collect();
    let wanted = [(&open, true), (&used, false)].map(|(ticket, void)| (json!(ticket.row.id), json!(void)));
    assert!(wanted.iter().all(|row| void.contains(row)) && void.len() == 2, "{void:?}");
    redeem(&lab, &used.text, &fresh_seed()).await.refused(Code::InvalidKey);
}

#[tokio::test]
async fn a_ticket_of_a_device_is_void_with_the_project_and_with_the_device_alone() {
    let (lab, house) = house().await;
    let (other, _) = lab.project(By::Key(&house.device), "other").await;
    let gone = issue(&lab, &house.device, json!({"project": other})).await;
    let path = format!("/api/v1/projects/{other}");
    lab.call(By::Key(&house.device), "DELETE", &path, Value::Null).await.ok();
    redeem(&lab, &gone.text, &fresh_seed()).await.refused(Code::NotFound);
    let open = issue(&lab, &house.device, json!({"project": house.project})).await;
    lab.revoke(By::Bearer(&house.token), &house.device, false).await.ok();
    redeem(&lab, &open.text, &fresh_seed()).await.refused(Code::KeyRevoked);
}

#[tokio::test]
async fn a_guest_is_revoked_like_every_key_and_the_ticket_brings_nobody_back() {
    let (lab, house) = house().await;
    let ticket = issue(&lab, &house.master, Value::Null).await;
    let (guest, _) = enter(&lab, &ticket).await;
    lab.revoke(By::Key(&house.device), &guest, false).await.ok();
    let message = redeem(&lab, &ticket.text, &guest.seed).await.refused(Code::KeyRevoked);
    assert!(message.contains("this child key"), "{message}");
    redeem(&lab, &ticket.text, &fresh_seed()).await.refused(Code::InvalidKey);
}

#[tokio::test]
async fn only_what_may_mint_makes_tickets_and_within_its_own_rights() {
    let (lab, house) = house().await;
    let child = lab.child(&house.master).await;
    refused(&lab, By::Key(&child), Value::Null, Code::ScopeDenied).await;
    refused(&lab, By::Bearer(&house.token), Value::Null, Code::ScopeDenied).await;
    refused(&lab, By::Nobody, Value::Null, Code::InvalidKey).await;
    refused(&lab, By::Key(&house.device), Value::Null, Code::BadRequest).await;
    let (other, stranger) = lab.project(By::Key(&house.device), "other").await;
    refused(&lab, By::Key(&house.master), json!({"project": other}), Code::ProjectMismatch).await;
    for wrong in
        [json!({"within": 59}), json!({"within": DAY + 1}), json!({"ttl": 59}), json!({"ttl": DAY + 1})]
    {
        refused(&lab, By::Key(&house.master), wrong, Code::BadRequest).await;
    }
    refused(&lab, By::Key(&house.master), json!({"name": "Not a name"}), Code::BadRequest).await;

    // A name that another project has is none that this key could let anybody reach.
    let relay = lab.relay().await;
    let sharer = lab.child(&stranger).await;
    relay.up_as(TunnelKind::Private, &other, "box", &sharer).await;
    let message = crate::support::eventually(async || {
        let secret = TicketSecret::from_bytes(random());
        let answer = ask(&lab, By::Key(&house.master), &secret, Value::Null).await;
        (!answer.status.is_success()).then(|| answer.refused(Code::ProjectMismatch))
    })
    .await;
    assert!(message.contains("another project"), "{message}");

    let secret = TicketSecret::from_bytes(random());
    ask(&lab, By::Key(&stranger), &secret, Value::Null).await.ok();
    ask(&lab, By::Key(&stranger), &secret, Value::Null).await.refused(Code::BadRequest);
}

#[tokio::test]
async fn a_ticket_is_withdrawn_by_whoever_may_revoke_its_key() {
    let (lab, house) = house().await;
    let (_, stranger) = lab.project(By::Key(&house.device), "other").await;
    let child = lab.child(&house.master).await;
    let ticket = issue(&lab, &house.master, Value::Null).await;
    for by in [By::Key(&stranger), By::Key(&child)] {
        withdraw(&lab, by, &ticket).await.refused(Code::NotFound);
        assert_eq!(listed(&lab, by).await.len(), 0);
    }
    for by in [By::Key(&house.master), By::Key(&house.device), By::Bearer(&house.token)] {
        let ticket = issue(&lab, &house.master, Value::Null).await;
        withdraw(&lab, by, &ticket).await;
        redeem(&lab, &ticket.text, &fresh_seed()).await.refused(Code::InvalidKey);
        withdraw(&lab, by, &ticket).await.refused(Code::NotFound);
    }
    let (guest, _) = enter(&lab, &ticket).await;
    let message = withdraw(&lab, By::Key(&house.master), &ticket).await.refused(Code::BadRequest);
    assert!(message.contains(&guest.serial.nonce()), "{message}");
}

#[tokio::test]
async fn the_log_says_who_made_a_ticket_who_came_and_who_was_refused() {
    let (lab, house) = house().await;
    let ticket = issue(&lab, &house.master, Value::Null).await;
    let (guest, _) = enter(&lab, &ticket).await;
    redeem(&lab, &ticket.text, &fresh_seed()).await.refused(Code::InvalidKey);
    let other = issue(&lab, &house.master, Value::Null).await;
    withdraw(&lab, By::Key(&house.device), &other).await;
    let log = lab.call(By::Key(&house.device), "GET", "/api/v1/audit?limit=5", Value::Null).await.ok();
    let rows: Vec<_> = log["entries"].as_array().unwrap().iter().rev().collect();
    let said = rows
        .iter()
        .map(|row| [&row["act"], &row["actor"], &row["subject"]].map(|text| text.as_str().unwrap()));
    let (master, device) = (house.master.serial.nonce(), house.device.serial.nonce());
    let (first, second) = (format!("ticket:{}", ticket.row.id), format!("ticket:{}", other.row.id));
    assert_eq!(
        said.collect::<Vec<_>>(),
        [
            ["ticket.create", &format!("master:{master}"), &first],
            ["ticket.use", &first, &format!("child:{}", guest.serial.nonce())],
            ["ticket.refused", "address:192.0.2.1", &first],
            ["ticket.create", &format!("master:{master}"), &second],
            ["ticket.delete", &format!("user:{device}"), &second],
        ]
    );
}

#[tokio::test]
async fn a_key_has_a_hundred_tickets_at_most_and_takes_none_from_another() {
    let (lab, house) = house().await;
    for _ in 0..100 {
        issue(&lab, &house.master, Value::Null).await;
    }
    refused(&lab, By::Key(&house.master), Value::Null, Code::RateLimited).await;
    let of_device = issue(&lab, &house.device, json!({"project": house.project})).await;
    assert!(withdraw(&lab, By::Key(&house.device), &of_device).await.status.is_success());
    lab.advance(600 + 3600);
    issue(&lab, &house.master, Value::Null).await;
}

#[tokio::test]
async fn what_is_no_ticket_is_told_apart_from_one_that_is_not_good() {
    let (lab, house) = house().await;
    let ticket = issue(&lab, &house.master, Value::Null).await;
    let mut mistyped = ticket.text.clone();
    let last = mistyped.pop().unwrap();
    mistyped.push(if last == 'a' { 'b' } else { 'a' });
    let message = redeem(&lab, &mistyped, &fresh_seed()).await.refused(Code::InvalidKey);
    assert!(message.contains("mistyped"), "{message}");
    let never = text_of(&lab, TicketSecret::from_bytes(random()));
    let message = redeem(&lab, &never, &fresh_seed()).await.refused(Code::InvalidKey);
    assert!(message.contains("not known"), "{message}");
    enter(&lab, &ticket).await;
}
