//! A double of a provider, OpenID Connect and GitHub's shape in one, that can also lie. It stands in for what a real one
//! would never send; a real one is asked in the workspace's `tests/tests/real/sign_in.rs`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use mytunnel_sign_in::{Client, Provider, Settings};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use url::{Url, form_urlencoded};
use zeroize::Zeroizing;

const CLIENT: &str = "mytunnel-test";
const SECRET: &str = "a secret: of + the % client";

/// How the next ID token departs from a sound one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lie {
    pub(crate) claims: Value,
    /// `none`, or `HS256` keyed with the public key.
    pub(crate) algorithm: Option<&'static str>,
    /// Signed by a key that the key set does not have, under the name of one that it has.
    pub(crate) forged: bool,
    /// The token endpoint sends the client elsewhere.
    pub(crate) redirect: bool,
    /// The userinfo endpoint tells of somebody else.
    pub(crate) other_subject: bool,
}

/// What is asked of the provider.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    pub(crate) tokens: AtomicU64,
    pub(crate) keys: AtomicU64,
}

struct Inner {
    base: String,
    clock: Arc<AtomicU64>,
    asked: Asked,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    person: Value,
    lie: Lie,
    key: u8,
    names_itself: bool,
    codes: HashMap<String, HashMap<String, String>>,
}

/// The provider; it stops when it is dropped.
pub(crate) struct Issuer {
    inner: Arc<Inner>,
    _server: JoinSet<()>,
}

impl Issuer {
    pub(crate) async fn start(now: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let memory = Mutex::new(Memory { key: 1, ..Memory::default() });
        let clock = Arc::new(AtomicU64::new(now));
        let inner = Arc::new(Inner { base, clock, asked: Asked::default(), memory });
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(description))
            .route("/jwks", get(keys))
            .route("/token", post(token))
            .route("/me", get(me))
            .route("/login/oauth/access_token", post(github_token))
            .route("/api/v3/user", get(github_user))
            .route("/api/v3/user/emails", get(github_emails))
            .with_state(inner.clone());
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { inner, _server: server }
    }

    /// The provider as an operator configures it.
    pub(crate) fn provider(&self, id: &str) -> Provider {
        Provider::new(Settings {
            id: id.to_owned(),
            issuer: Some(self.inner.base.clone()),
            client_id: CLIENT.to_owned(),
            client_secret: Zeroizing::new(SECRET.to_owned()),
            ..Settings::default()
        })
        .unwrap()
    }

    pub(crate) fn client(&self, ids: &[&str]) -> Arc<Client> {
        Arc::new(Client::new(ids.iter().map(|id| self.provider(id)).collect()).unwrap())
    }

    pub(crate) fn base(&self) -> &str {
        &self.inner.base
    }

    pub(crate) fn asked(&self) -> &Asked {
        &self.inner.asked
    }

    /// Who sits before the browser from now on.
    pub(crate) fn person(&self, subject: &str, email: &str, verified: bool) {
        self.inner.memory.lock().unwrap().person =
            json!({"sub": subject, "email": email, "email_verified": verified});
    }

    pub(crate) fn lie(&self, lie: Lie) {
        self.inner.memory.lock().unwrap().lie = lie;
    }

    /// From now on another key signs.
    pub(crate) fn rotate(&self) {
        self.inner.memory.lock().unwrap().key += 1;
    }

    pub(crate) fn names_itself(&self) {
        self.inner.memory.lock().unwrap().names_itself = true;
    }

    pub(crate) fn set_clock(&self, now: u64) {
        self.inner.clock.store(now, Ordering::Relaxed);
    }

    /// The person agrees at the address to which the browser was sent; what the provider adds to the address back.
    pub(crate) fn agree(&self, address: &str) -> (String, String) {
        let asked: HashMap<String, String> =
            Url::parse(address).unwrap().query_pairs().into_owned().collect();
        assert_eq!(asked["response_type"], "code");
        assert_eq!(asked["code_challenge_method"], "S256");
        assert_eq!(asked["client_id"], CLIENT);
        let mut memory = self.inner.memory.lock().unwrap();
        let code = format!("code-{}", memory.codes.len());
        let state = asked["state"].clone();
        memory.codes.insert(code.clone(), asked);
        (code, state)
    }
}

/// RFC 8410: the prefix of a PKCS #8 document that holds a seed.
fn key(seed: u8) -> EncodingKey {
    let mut der = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    der.extend([seed; 32]);
    EncodingKey::from_ed_der(&der)
}

fn jwk(seed: u8) -> Value {
    let mut jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(&key(seed), Algorithm::EdDSA).unwrap();
    jwk.common.key_id = Some(format!("key-{seed}"));
    serde_json::to_value(jwk).unwrap()
}

async fn description(State(inner): State<Arc<Inner>>) -> Json<Value> {
    let base = &inner.base;
    Json(json!({
        "issuer": base, "authorization_endpoint": format!("{base}/auth"), "token_endpoint": format!("{base}/token"),
        "jwks_uri": format!("{base}/jwks"), "userinfo_endpoint": format!("{base}/me"),
        "authorization_response_iss_parameter_supported": inner.memory.lock().unwrap().names_itself,
    }))
}

async fn keys(State(inner): State<Arc<Inner>>) -> Json<Value> {
    inner.asked.keys.fetch_add(1, Ordering::Relaxed);
    Json(json!({"keys": [jwk(inner.memory.lock().unwrap().key)]}))
}

/// The code's own request, if code, verifier, redirect URI and client fit; each code is good once.
fn exchange(inner: &Inner, body: &Bytes, client: bool) -> Option<HashMap<String, String>> {
    inner.asked.tokens.fetch_add(1, Ordering::Relaxed);
    let form: HashMap<String, String> = form_urlencoded::parse(body).into_owned().collect();
    let asked = inner.memory.lock().unwrap().codes.remove(&form["code"])?;
    let challenge = BASE64URL_NOPAD.encode(&Sha256::digest(form["code_verifier"].as_bytes()));
    let fits = asked["code_challenge"] == challenge && asked["redirect_uri"] == form["redirect_uri"];
    (fits && client).then_some(asked)
}

async fn token(State(inner): State<Arc<Inner>>, headers: HeaderMap, body: Bytes) -> Response {
    let lie = inner.memory.lock().unwrap().lie.clone();
    if lie.redirect {
        return (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, "/me")]).into_response();
    }
    let coded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = format!("{}:{}", coded(CLIENT), coded(SECRET));
    let expected = format!("Basic {}", data_encoding::BASE64.encode(pair.as_bytes()));
    let proven =
        headers.get(header::AUTHORIZATION).is_some_and(|value| value.as_bytes() == expected.as_bytes());
    let Some(asked) = exchange(&inner, &body, proven) else {
        return (StatusCode::BAD_REQUEST, Json(json!({"error": "invalid_grant"}))).into_response();
    };
    let now = inner.clock.load(Ordering::Relaxed);
    let memory = inner.memory.lock().unwrap();
    let mut claims = json!({
        "iss": inner.base, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": asked["nonce"],
    });
    // As issuers do: only who asks for it is told.
    if asked.contains_key("max_age") {
        claims["auth_time"] = json!(now);
    }
    let lies = lie.claims.as_object().cloned().unwrap_or_default();
    for (name, value) in memory.person.as_object().unwrap().clone().into_iter().chain(lies) {
        match value.is_null() {
            true => drop(claims.as_object_mut().unwrap().remove(&name)),
            false => claims[name] = value,
        }
    }
    let id_token = signed(&claims, memory.key, &lie);
    Json(json!({"access_token": "access", "token_type": "Bearer", "id_token": id_token})).into_response()
}

fn signed(claims: &Value, seed: u8, lie: &Lie) -> String {
    let mut header = Header::new(Algorithm::EdDSA);
    header.kid = Some(format!("key-{seed}"));
    match lie.algorithm {
        None => {
            let seed = if lie.forged { 200 } else { seed };
            jsonwebtoken::encode(&header, claims, &key(seed)).unwrap()
        }
        Some("none") => {
            let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
            format!("{}.{}.", part(&json!({"alg": "none", "kid": header.kid})), part(claims))
        }
        Some(_) => {
            header.alg = Algorithm::HS256;
            let public = BASE64URL_NOPAD.decode(jwk(seed)["x"].as_str().unwrap().as_bytes()).unwrap();
            jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(&public)).unwrap()
        }
    }
}

async fn me(State(inner): State<Arc<Inner>>) -> Json<Value> {
    let memory = inner.memory.lock().unwrap();
    let mut person = memory.person.clone();
    if memory.lie.other_subject {
        person["sub"] = json!("somebody else");
    }
    Json(person)
}

async fn github_token(State(inner): State<Arc<Inner>>, body: Bytes) -> Json<Value> {
    let form: HashMap<String, String> = form_urlencoded::parse(&body).into_owned().collect();
    let proven = form["client_id"] == CLIENT && form["client_secret"] == SECRET;
    // GitHub tells failures with status 200.
    Json(match exchange(&inner, &body, proven) {
        Some(_) => {
            json!({"access_token": "gho_access", "scope": "read:user,user:email", "token_type": "bearer"})
        }
        None => {
            json!({"error": "bad_verification_code", "error_description": "The code passed is incorrect or expired."})
        }
    })
}

fn is_github_token(headers: &HeaderMap) -> bool {
    headers.get(header::AUTHORIZATION).is_some_and(|value| value == "Bearer gho_access")
}

async fn github_user(State(inner): State<Arc<Inner>>, headers: HeaderMap) -> Response {
    if !is_github_token(&headers) {
        return (StatusCode::UNAUTHORIZED, Json(json!({"message": "Requires authentication"})))
            .into_response();
    }
    let id: u64 = inner.memory.lock().unwrap().person["sub"].as_str().unwrap().parse().unwrap();
    Json(json!({"id": id, "login": "octocat", "email": "shown@evil.example"})).into_response()
}

async fn github_emails(State(inner): State<Arc<Inner>>, headers: HeaderMap) -> Response {
    if !is_github_token(&headers) {
        return (StatusCode::UNAUTHORIZED, Json(json!({"message": "Requires authentication"})))
            .into_response();
    }
    let person = inner.memory.lock().unwrap().person.clone();
    Json(json!([
        {"email": "second@example.org", "primary": false, "verified": true, "visibility": null},
        {"email": person["email"], "primary": true, "verified": person["email_verified"], "visibility": "private"},
    ]))
    .into_response()
}
