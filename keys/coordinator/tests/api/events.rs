//! Hints that something has changed.

use std::time::Duration;

use axum::body::Body;
use axum::http::{StatusCode, header};
use http_body_util::BodyExt as _;
use mytunnel_keys::error::Code;
use mytunnel_keys::feed::Report;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::support::{By, Lab, START};

/// A stream as a browser reads it.
struct Stream(Body);

impl Stream {
    async fn open(lab: &Lab, token: &str) -> Self {
        let request = lab.request(By::Bearer(token), "GET", "/api/v1/events", Vec::new());
        let response = lab.coordinator.handle(request).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
        let mut stream = Self(response.into_body());
        assert!(stream.piece().await.unwrap().starts_with(':'));
        stream
    }

    async fn piece(&mut self) -> Option<String> {
        let frame = timeout(Duration::from_secs(30), self.0.frame()).await.unwrap()?;
        Some(String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap())
    }

    /// Topics of the next hint.
    async fn hint(&mut self) -> Option<Vec<String>> {
        loop {
            let piece = self.piece().await?;
            let Some(data) = piece.strip_prefix("event: changed\ndata: ") else { continue };
            let hint: Value = serde_json::from_str(data.trim_end()).unwrap();
            assert_eq!(hint.as_object().unwrap().len(), 1, "a hint has no data: {hint}");
            let topics = hint["topics"].as_array().unwrap().iter();
            return Some(topics.map(|topic| topic.as_str().unwrap().to_owned()).collect());
        }
    }

    async fn until(&mut self, topic: &str) {
        while !self.hint().await.expect("the stream goes on").iter().any(|found| found == topic) {}
    }

    async fn ends(&mut self) {
        while self.hint().await.is_some() {}
    }
}

#[tokio::test]
async fn what_is_committed_and_what_relays_report_is_hinted_at() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let mut stream = Stream::open(&lab, &house.token).await;
    let child = lab.child(&house.master).await;
    let topics = stream.hint().await.unwrap();
    assert!(["keys", "audit"].iter().all(|topic| topics.iter().any(|found| found == topic)), "{topics:?}");
    let relay = lab.relay().await;
    let tunnel = relay.up(&house.project, "preview", &child).await;
    let is_up = async || {
        let tunnels = lab.call(By::Bearer(&house.token), "GET", "/api/v1/tunnels", Value::Null).await.ok();
        tunnels["tunnels"][0]["online"] == true
    };
    while !is_up().await {
        stream.until("tunnels").await;
    }
    // That it is down is in no log: only the relay knows.
    let down = Report::TunnelDown { tunnel, serial: child.serial, at: START };
    relay.link.reports.send(down).await.unwrap();
    while is_up().await {
        stream.until("tunnels").await;
    }
}

#[tokio::test]
async fn a_stream_ends_with_its_session_and_with_the_coordinator() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let mut stream = Stream::open(&lab, &house.token).await;
    lab.call(By::Bearer(&house.token), "POST", "/api/v1/auth/logout", Value::Null).await;
    lab.child(&house.master).await;
    stream.ends().await;
    let login = json!({"email": crate::support::EMAIL, "password": crate::support::PASSWORD});
    let login = lab.call(By::Nobody, "POST", "/api/v1/auth/login", login).await.ok();
    let mut stream = Stream::open(&lab, login["access_token"].as_str().unwrap()).await;
    lab.coordinator.shutdown().await;
    stream.ends().await;
}

#[tokio::test]
async fn streams_are_for_people_and_have_a_bound() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    for by in [By::Nobody, By::Bearer("x"), By::Key(&house.device), By::Key(&house.master)] {
        lab.call(by, "GET", "/api/v1/events", Value::Null).await.refused(Code::InvalidKey);
    }
    let mut open = Vec::new();
    for _ in 0..8 {
        open.push(Stream::open(&lab, &house.token).await);
    }
    lab.call(By::Bearer(&house.token), "GET", "/api/v1/events", Value::Null).await.refused(Code::RateLimited);
    open.pop();
    open.push(Stream::open(&lab, &house.token).await);
}
