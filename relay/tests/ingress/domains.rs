//! Domains of tenants' own: another name of one tunnel, with everything that stands before it.

use std::sync::Arc;

use argon2::{Argon2, Params, PasswordHash, PasswordHasher as _};
use mytunnel_keys::{
    feed::{Gates, PinGate, SessionKey},
    id::DomainName,
};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    sync::mpsc,
};

use crate::house::{House, Origin, name, read_request};

fn domain(text: &str) -> DomainName {
    text.parse().unwrap()
}

fn to(host: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

#[tokio::test]
async fn a_domain_leads_to_its_tunnel_and_to_nothing_once_it_is_gone() {
    let (house, _) = House::with_demo(&Origin::echo()).await;
    house.share("other", &Origin::saying("other"));
    let app = domain("app.example.com");
    assert_eq!(house.ask(to("app.example.com")).await.error(), (404, Some("NOT_FOUND")));
    house.routes.point(&app, &name("demo"));
    for host in ["app.example.com", "APP.Example.COM", "app.example.com:8443", "app.example.com."] {
        let reply = house.ask(to(host)).await;
        assert_eq!(reply.status, 200, "{host}");
        let seen = reply.text().to_ascii_lowercase();
        assert!(seen.contains(&format!("x-forwarded-host: {}\r\n", host.to_ascii_lowercase())), "{seen}");
    }
    for host in ["example.com", "a.app.example.com", "app.example.com.tun.test", "xapp.example.com"] {
        assert_eq!(house.ask(to(host)).await.error(), (404, Some("NOT_FOUND")), "{host}");
    }
    house.routes.point(&app, &name("other"));
    assert_eq!(house.ask(to("app.example.com")).await.text(), "other");

    let mut open = house.visitor().await;
    open.send(to("app.example.com")).await;
    assert_eq!(open.reply().await.status, 200);
    house.routes.point_nowhere(&app);
    open.send(to("app.example.com")).await;
    assert_eq!(open.reply().await.error(), (404, Some("NOT_FOUND")), "also on a connection that is open");
    // A name that is given up takes its domains along, whoever gets it next.
    house.routes.point(&app, &name("other"));
    house.routes.forget(&name("other"));
    house.share("other", &Origin::saying("somebody else's"));
    assert_eq!(house.ask(to("app.example.com")).await.status, 404);
}

#[tokio::test]
async fn a_domain_led_elsewhere_takes_along_who_waits_for_its_node() {
    for (elsewhere, status) in [(Some("other"), 503), (None, 404)] {
        let house = House::open().await;
        house.routes.note_known(&name("demo"), None);
        let app = domain("app.example.com");
        house.routes.point(&app, &name("demo"));
        let mut waiting = house.visitor().await;
        waiting.send(to("app.example.com")).await;
        let mut by_name = house.visitor().await;
        by_name.send(to("demo.tun.test")).await;
        // Both are inside once an unknown name, sent after them on another connection, has been answered.
        assert_eq!(house.ask(to("x.tun.test")).await.status, 404);
        match elsewhere {
            Some(other) => house.routes.point(&app, &name(other)),
            None => house.routes.point_nowhere(&app),
        }
        house.share("demo", &Origin::saying("not for them any more"));
        assert_eq!(waiting.reply().await.status, status);
        assert_eq!(by_name.reply().await.text(), "not for them any more");
    }
}

#[tokio::test]
async fn no_domain_takes_the_relays_own_names() {
    let (house, _) = House::with_demo(&Origin::saying("demo")).await;
    house.share("other", &Origin::saying("other"));
    for host in ["demo.tun.test", "console.test"] {
        let before = house.ask(to(host)).await;
        house.routes.point(&domain(host), &name("other"));
        let after = house.ask(to(host)).await;
        assert_eq!((before.status, before.text()), (after.status, after.text()), "{host}");
    }
}

#[tokio::test]
async fn who_is_served_is_cut_when_the_domain_leads_elsewhere() {
    let (asked, mut heard) = mpsc::channel(8);
    let origin = Origin::new(move |_, pipe| {
        let asked = asked.clone();
        async move {
            let mut pipe = BufReader::new(pipe);
            read_request(&mut pipe).await.unwrap();
            pipe.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nbegun").await.unwrap();
            asked.send(()).await.unwrap();
            std::future::pending::<()>().await;
        }
    });
    let (house, _) = House::with_demo(&origin).await;
    house.share("other", &Origin::saying("other"));
    let app = domain("app.example.com");
    for leave in [
        (|house: &House, app: &DomainName| house.routes.point_nowhere(app)) as fn(&House, &DomainName),
        |house, app| house.routes.point(app, &name("other")),
    ] {
        house.routes.point(&app, &name("demo"));
        let mut visitor = house.visitor().await;
        visitor.send(to("app.example.com")).await;
        heard.recv().await.unwrap();
        house.routes.point(&app, &name("demo"));
        leave(&house, &app);
        visitor.gone().await;
    }
}

#[tokio::test]
async fn a_gate_stands_before_the_domain_too_and_who_entered_by_one_name_has_not_by_the_other() {
    let (house, tunnel) = House::with_demo(&Origin::echo()).await;
    house.routes.point(&domain("app.example.com"), &name("demo"));
    let cheap = Argon2::from(Params::new(8, 1, 1, None).unwrap());
    let hash: PasswordHash = cheap.hash_password_with_salt(b"123456", &[7; 16]).unwrap();
    let session_key = SessionKey::from_bytes([1; 32]);
    let pin = PinGate { hash: hash.to_string(), generation: 1, session_key };
    tunnel.set_gates(Some(Arc::new(Gates { pin: Some(pin), ..Gates::default() })));
    assert_eq!(house.ask(to("app.example.com")).await.error(), (401, Some("PIN_REQUIRED")));
    let form = "POST /.mytunnel/pin?to=%2F HTTP/1.1\r\nHost: app.example.com\r\nOrigin: http://app.example.com\r\n\
                Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 10\r\n\r\npin=123456";
    let entered = house.ask(form).await;
    assert_eq!(entered.status, 303);
    let set = entered.field("set-cookie").unwrap();
    assert!(!set.to_ascii_lowercase().contains("domain="), "{set}");
    let cookie = set.split(';').next().unwrap();
    let with = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\n\r\n");
    assert_eq!(house.ask(with("app.example.com")).await.status, 200);
    assert_eq!(house.ask(with("demo.tun.test")).await.status, 401);
    assert_eq!(tunnel.traffic().requests(), 1);
}
