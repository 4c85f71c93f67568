//! A coordinator whose people may sign in at a provider that can lie, and a browser on its way there and back.

use std::sync::atomic::Ordering;

use axum::http::{HeaderValue, StatusCode, header};
use mytunnel_coordinator::StoreConfig;
use serde_json::json;

use crate::issuer::Issuer;
use crate::support::{Answer, By, EMAIL, Lab, START};

pub(crate) const API: &str = "/api/v1/auth";
pub(crate) const IDENTITIES: &str = "/api/v1/auth/identities";

/// A coordinator whose owner may sign in at a provider.
pub(crate) struct House {
    pub(crate) lab: Lab,
    pub(crate) issuer: Issuer,
    pub(crate) token: String,
}

/// A browser on its way through a provider.
pub(crate) struct Way {
    pub(crate) provider: String,
    pub(crate) cookie: String,
    pub(crate) address: String,
}

impl House {
    pub(crate) async fn new() -> Self {
        let issuer = Issuer::start(START).await;
        issuer.person("subject-1", EMAIL, true);
        let lab = lab(&issuer).await;
        let token = lab.owner().await;
        Self { lab, issuer, token }
    }

    /// The same with the owner's identity linked.
    pub(crate) async fn linked() -> Self {
        let house = Self::new().await;
        let way = house.begin_link("co").await;
        let end = house.back(&way).await;
        assert_eq!(location(&end), "/#/security?linked=co");
        house
    }

    pub(crate) async fn begin(&self, provider: &str, query: &str) -> Way {
        let answer = self.get(&format!("{API}/oauth/{provider}/start{query}"), "").await;
        assert_eq!(answer.status, StatusCode::FOUND, "{}", String::from_utf8_lossy(&answer.body));
        let cookie = set_cookie(&answer, "__Host-mtk_flow").expect("a cookie");
        Way { provider: provider.to_owned(), cookie, address: location(&answer) }
    }

    pub(crate) async fn begin_link(&self, provider: &str) -> Way {
        let body = json!({"provider": provider});
        let answer = self.lab.call(By::Bearer(&self.token), "POST", IDENTITIES, body).await;
        let address = answer.ok()["url"].as_str().unwrap().to_owned();
        let cookie = set_cookie(&answer, "__Host-mtk_flow").expect("a cookie");
        Way { provider: provider.to_owned(), cookie, address }
    }

    /// The person agrees, and the browser comes back.
    pub(crate) async fn back(&self, way: &Way) -> Answer {
        let (code, state) = self.issuer.agree(&way.address);
        self.callback(&way.provider, &format!("state={state}&code={code}"), &way.cookie).await
    }

    pub(crate) async fn callback(&self, provider: &str, query: &str, cookie: &str) -> Answer {
        self.get(&format!("{API}/oauth/{provider}/callback?{query}"), cookie).await
    }

    pub(crate) async fn get(&self, path: &str, cookie: &str) -> Answer {
        let mut request = self.lab.request(By::Nobody, "GET", path, Vec::new());
        if !cookie.is_empty() {
            request.headers_mut().insert(header::COOKIE, HeaderValue::from_str(cookie).unwrap());
        }
        self.lab.send(request).await
    }

    /// A whole sign-in in one browser.
    pub(crate) async fn sign_in(&self, provider: &str) -> Answer {
        let way = self.begin(provider, "").await;
        self.back(&way).await
    }

    pub(crate) fn asked_for_tokens(&self) -> u64 {
        self.issuer.asked().tokens.load(Ordering::Relaxed)
    }
}

pub(crate) async fn lab(issuer: &Issuer) -> Lab {
    let client = issuer.client(&["co", "other", "github"]);
    Lab::open(StoreConfig::Memory, |config| config.sign_in = client).await.unwrap()
}

#[track_caller]
pub(crate) fn location(answer: &Answer) -> String {
    answer.headers.get(header::LOCATION).expect("a redirect").to_str().unwrap().to_owned()
}

pub(crate) fn set_cookie(answer: &Answer, name: &str) -> Option<String> {
    let lines = answer.headers.get_all(header::SET_COOKIE).iter().map(|line| line.to_str().unwrap());
    let line = lines.into_iter().find(|line| line.starts_with(&format!("{name}=")))?;
    for part in ["Path=/", "Secure", "HttpOnly", "SameSite="] {
        assert!(line.contains(part) && !line.contains("Domain"), "{line}");
    }
    line.split(';').next().map(str::to_owned)
}

#[track_caller]
pub(crate) fn failed(answer: &Answer, trouble: &str) {
    assert_eq!(location(answer), format!("/#/login?error={trouble}"));
    assert_eq!(set_cookie(answer, "__Host-mtk_rt"), None);
}

#[track_caller]
pub(crate) fn signed_in(answer: &Answer) -> String {
    assert_eq!(location(answer), "/#/login?signed_in=1");
    set_cookie(answer, "__Host-mtk_rt").expect("a session")
}
