//! Sign-in at other providers, against a provider that can lie.

use std::sync::atomic::Ordering;

use axum::http::{HeaderValue, StatusCode, header};
use data_encoding::BASE64URL_NOPAD;
use mytunnel_coordinator::StoreConfig;
use mytunnel_keys::error::Code;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::issuer::{Issuer, Lie};
use crate::provider::{API, House, IDENTITIES, failed, lab, location, set_cookie, signed_in};
use crate::second_factor::{answer, code_at, enrol};
use crate::sessions::acts;
use crate::support::{By, EMAIL, Lab, START, eventually};

#[tokio::test]
async fn providers_are_listed_without_their_secrets() {
    let house = House::new().await;
    let answer = house.lab.call(By::Nobody, "GET", "/api/v1/auth/providers", Value::Null).await;
    let listed = answer.ok();
    assert_eq!(listed["providers"][0], json!({"id": "co", "name": "co"}));
    assert_eq!(listed["providers"][2], json!({"id": "github", "name": "GitHub"}));
    assert!(!String::from_utf8_lossy(&answer.body).contains("secret"));
    let nobody = house.get("/api/v1/auth/oauth/nobody/start", "").await;
    nobody.refused(Code::NotFound);
}

#[tokio::test]
async fn a_linked_identity_signs_in_until_it_is_unlinked() {
    let house = House::linked().await;
    let refresh = signed_in(&house.sign_in("co").await);
    let mut request = house.lab.request(By::Nobody, "POST", "/api/v1/auth/refresh", Vec::new());
    request.headers_mut().insert(header::COOKIE, HeaderValue::from_str(&refresh).unwrap());
    let access = house.lab.send(request).await.ok()["access_token"].as_str().unwrap().to_owned();
    let me = house.lab.call(By::Bearer(&access), "GET", "/api/v1/auth/me", Value::Null).await.ok();
    assert_eq!(me["email"], EMAIL);

    // Whatever the address at the provider is now, the subject is the person.
    house.issuer.person("subject-1", "new@elsewhere.example", false);
    signed_in(&house.sign_in("co").await);

    let listed = house.lab.call(By::Bearer(&access), "GET", IDENTITIES, Value::Null).await.ok();
    let identity = &listed["identities"][0];
    assert_eq!((&identity["provider"], &identity["email"]), (&json!("co"), &json!("new@elsewhere.example")));
    let path = format!("{IDENTITIES}/{}", identity["id"].as_str().unwrap());
    let gone = house.lab.call(By::Bearer(&house.token), "DELETE", &path, Value::Null).await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
    house.lab.call(By::Bearer(&house.token), "DELETE", &path, Value::Null).await.refused(Code::NotFound);
    house.issuer.person("subject-1", EMAIL, true);
    failed(&house.sign_in("co").await, "link_first");

    let acts = acts(&house.lab, &house.token).await;
    for act in ["identity.link", "identity.unlink", "login", "login.refused"] {
        assert!(acts.iter().any(|found| found == act), "{act}");
    }
}

#[tokio::test]
async fn a_new_password_by_mail_ends_what_was_linked() {
    let place = tempfile::tempdir().unwrap();
    let inbox = place.path().join("inbox");
    let script = format!("cat > {0}.part && mv {0}.part {0}", inbox.display());
    let issuer = Issuer::start(START).await;
    issuer.person("subject-1", EMAIL, true);
    let client = issuer.client(&["co", "other", "github"]);
    let lab = Lab::open(StoreConfig::Memory, |config| {
        config.sign_in = client;
        config.mail_command = ["/bin/sh", "-c", &script].map(str::to_owned).to_vec();
    });
    let lab = lab.await.unwrap();
    let token = lab.owner().await;
    let house = House { lab, issuer, token };
    let way = house.begin_link("co").await;
    house.back(&way).await;
    signed_in(&house.sign_in("co").await);

    house.lab.advance(1);
    let body = json!({"email": EMAIL});
    house.lab.call(By::Nobody, "POST", "/api/v1/auth/password/forgot", body).await;
    let mail = eventually(async || std::fs::read(&inbox).ok()).await;
    let mail: Value = serde_json::from_slice(&mail).unwrap();
    let (_, token) = mail["url"].as_str().unwrap().split_once("token=").unwrap();
    let body = json!({"token": token, "password": "another password"});
    let reset = house.lab.call(By::Nobody, "POST", "/api/v1/auth/password/reset", body).await;
    assert_eq!(reset.status, StatusCode::NO_CONTENT);
    failed(&house.sign_in("co").await, "link_first");
}

#[tokio::test]
async fn an_address_at_a_provider_takes_no_account_over_and_makes_none() {
    let house = House::new().await;
    failed(&house.sign_in("co").await, "link_first");
    house.issuer.person("subject-1", EMAIL, false);
    failed(&house.sign_in("co").await, "unverified");
    for odd in ["x@evil.example@example.org", "ownér@example.org", "owner@example.org\u{2000}"] {
        house.issuer.person("subject-1", odd, true);
        failed(&house.sign_in("co").await, "unverified");
    }
    house.issuer.person("subject-1", "stranger@example.org", true);
    failed(&house.sign_in("co").await, "no_account");
    // Somebody else at the same provider, with the owner's address.
    let house = House::linked().await;
    house.issuer.person("subject-2", EMAIL, true);
    failed(&house.sign_in("co").await, "link_first");
    // The same subject at another provider is another person.
    let elsewhere = Issuer::start(START).await;
    assert_ne!(elsewhere.base(), house.issuer.base());
}

#[tokio::test]
async fn a_provider_does_not_stand_in_for_the_second_factor() {
    let house = House::linked().await;
    let enrolled = enrol(&house.lab, &house.token).await;
    let end = house.sign_in("co").await;
    let location = location(&end);
    let challenge = location.strip_prefix("/#/login?challenge_token=").expect("a challenge");
    assert_eq!(set_cookie(&end, "__Host-mtk_rt"), None);
    let as_access = house.lab.call(By::Bearer(challenge), "GET", "/api/v1/auth/me", Value::Null).await;
    as_access.refused(Code::InvalidKey);
    answer(&house.lab, challenge, "000000").await.refused(Code::MfaInvalid);
    house.lab.advance(30);
    let code = code_at(&enrolled.secret, house.lab.now());
    answer(&house.lab, challenge, &code).await.ok();
}

#[tokio::test]
async fn only_the_browser_that_began_comes_back_once_and_in_time() {
    let house = House::linked().await;
    let asked = house.asked_for_tokens();
    let stranger = house.begin("co", "").await.cookie;
    // Login CSRF and a stolen callback: another browser, or one that began something else.
    for cookie in ["", "__Host-mtk_flow=", stranger.as_str(), "__Host-mtk_flow=\u{e4}"] {
        let way = house.begin("co", "").await;
        let (code, state) = house.issuer.agree(&way.address);
        let query = format!("state={state}&code={code}");
        failed(&house.callback("co", &query, cookie).await, "stale");
        // It is used up with that: whoever saw the address may have the code.
        failed(&house.callback("co", &query, &way.cookie).await, "stale");
    }
    let way = house.begin("co", "").await;
    let twice = format!("{0}; {0}", way.cookie);
    let (code, state) = house.issuer.agree(&way.address);
    failed(&house.callback("co", &format!("state={state}&code={code}"), &twice).await, "stale");
    for query in
        [format!("code={code}"), format!("state=&code={code}"), format!("state={state}x&code={code}")]
    {
        failed(&house.callback("co", &query, &way.cookie).await, "stale");
    }
    assert_eq!(house.asked_for_tokens(), asked, "none of this reached the provider");

    let way = house.begin("co", "").await;
    let (code, state) = house.issuer.agree(&way.address);
    let query = format!("state={state}&code={code}");
    signed_in(&house.callback("co", &query, &way.cookie).await);
    failed(&house.callback("co", &query, &way.cookie).await, "stale");

    let way = house.begin("co", "").await;
    house.lab.advance(10 * 60);
    house.issuer.set_clock(house.lab.now());
    failed(&house.back(&way).await, "stale");
}

#[tokio::test]
async fn an_answer_counts_for_the_provider_that_was_asked() {
    let house = House::linked().await;
    // The answer of one comes to the address of another.
    let way = house.begin("co", "").await;
    let (code, state) = house.issuer.agree(&way.address);
    let asked = house.asked_for_tokens();
    failed(&house.callback("other", &format!("state={state}&code={code}"), &way.cookie).await, "stale");
    // RFC 9207: another one's name in the answer.
    let way = house.begin("co", "").await;
    let (code, state) = house.issuer.agree(&way.address);
    let query = format!("state={state}&code={code}&iss=https%3A%2F%2Fevil.example");
    failed(&house.callback("co", &query, &way.cookie).await, "answer");
    assert_eq!(house.asked_for_tokens(), asked, "the code went nowhere");
    let way = house.begin("co", "").await;
    let (code, state) = house.issuer.agree(&way.address);
    let query = format!("state={state}&code={code}&iss={}", house.issuer.base());
    signed_in(&house.callback("co", &query, &way.cookie).await);
}

#[tokio::test]
async fn an_issuer_that_names_itself_has_to() {
    let issuer = Issuer::start(START).await;
    issuer.names_itself();
    issuer.person("subject-1", EMAIL, true);
    let lab = lab(&issuer).await;
    let token = lab.owner().await;
    let house = House { lab, issuer, token };
    failed(&house.sign_in("co").await, "answer");
}

#[tokio::test]
async fn a_code_of_another_sign_in_is_of_no_use() {
    let house = House::linked().await;
    // The attacker's code in the victim's callback: the verifier does not fit.
    let (attacker, victim) = (house.begin("co", "").await, house.begin("co", "").await);
    let (code, _) = house.issuer.agree(&attacker.address);
    let (_, state) = house.issuer.agree(&victim.address);
    failed(&house.callback("co", &format!("state={state}&code={code}"), &victim.cookie).await, "answer");
}

#[tokio::test]
async fn no_lie_in_an_id_token_is_believed() {
    let house = House::linked().await;
    let now = house.lab.now();
    let claims = |claims: Value| Lie { claims, ..Lie::default() };
    let lies = [
        claims(json!({"nonce": "another"})),
        claims(json!({"nonce": null})),
        claims(json!({"iss": "https://evil.example"})),
        claims(json!({"aud": "another client"})),
        claims(json!({"aud": ["mytunnel-test", "another client"]})),
        claims(json!({"exp": now - 61, "iat": now - 300})),
        claims(json!({"iat": now + 3600})),
        claims(json!({"exp": null})),
        claims(json!({"sub": null})),
        Lie { algorithm: Some("none"), ..Lie::default() },
        Lie { algorithm: Some("HS256"), ..Lie::default() },
        Lie { forged: true, ..Lie::default() },
        Lie { redirect: true, ..Lie::default() },
        Lie { claims: json!({"email": null}), other_subject: true, ..Lie::default() },
    ];
    for lie in lies {
        house.issuer.lie(lie.clone());
        let end = house.sign_in("co").await;
        assert_eq!(location(&end), "/#/login?error=answer", "{lie:?}");
        assert_eq!(set_cookie(&end, "__Host-mtk_rt"), None, "{lie:?}");
    }
    house.issuer.lie(claims(json!({"email": null})));
    signed_in(&house.sign_in("co").await);
}

#[tokio::test]
async fn an_issuer_may_change_its_keys_and_is_not_asked_for_them_all_the_time() {
    let house = House::linked().await;
    let asked = || house.issuer.asked().keys.load(Ordering::Relaxed);
    signed_in(&house.sign_in("co").await);
    assert_eq!(asked(), 1);
    house.lab.advance(60);
    house.issuer.set_clock(house.lab.now());
    house.issuer.rotate();
    signed_in(&house.sign_in("co").await);
    assert_eq!(asked(), 2);
    house.issuer.rotate();
    failed(&house.sign_in("co").await, "answer");
    failed(&house.sign_in("co").await, "answer");
    assert_eq!(asked(), 2, "within half a minute nobody makes us ask again");
}

#[tokio::test]
async fn nobody_is_sent_anywhere_else() {
    let house = House::linked().await;
    for query in
        ["?next=//evil.example", "?redirect_uri=https://evil.example", "?return_to=%2F%5Cevil.example"]
    {
        let way = house.begin("co", query).await;
        assert!(
            way.address.starts_with(house.issuer.base()) && !way.address.contains("evil"),
            "{}",
            way.address
        );
        let (code, state) = house.issuer.agree(&way.address);
        let query = format!("state={state}&code={code}&next=//evil.example");
        let end = house.callback("co", &query, &way.cookie).await;
        signed_in(&end);
        assert_eq!(end.headers.get(header::REFERRER_POLICY).unwrap(), "no-referrer");
    }
    // A forwarded host does not choose where the provider sends the code.
    let path = format!("{API}/oauth/co/start");
    let mut request = house.lab.request(By::Nobody, "GET", &path, Vec::new());
    for name in ["host", "x-forwarded-host"] {
        request.headers_mut().insert(name, HeaderValue::from_static("evil.example"));
    }
    assert!(!location(&house.lab.send(request).await).contains("evil"));
}

#[tokio::test]
async fn what_a_provider_says_instead_of_a_code_ends_on_the_page_of_sign_in() {
    let house = House::linked().await;
    for (error, trouble) in
        [("access_denied", "declined"), ("server_error", "answer"), ("%3Cscript%3E", "answer")]
    {
        let way = house.begin("co", "").await;
        let (_, state) = house.issuer.agree(&way.address);
        failed(&house.callback("co", &format!("state={state}&error={error}"), &way.cookie).await, trouble);
    }
    let House { lab, issuer, token } = house;
    drop(issuer);
    let gone = Issuer::start(START).await;
    let house = House { lab, issuer: gone, token };
    house.lab.advance(3600);
    let answer = house.get("/api/v1/auth/oauth/co/start", "").await;
    assert_eq!(answer.status, 302, "what it said of itself counts for a day");
    house.lab.advance(24 * 3600);
    let answer = house.get("/api/v1/auth/oauth/co/start", "").await;
    failed(&answer, "unreachable");
}

#[tokio::test]
async fn linking_is_for_the_session_that_asked() {
    let house = House::new().await;
    // Somebody else's browser comes back: the victim's identity is not linked to the attacker's account.
    let way = house.begin_link("co").await;
    let (code, state) = house.issuer.agree(&way.address);
    failed(&house.callback("co", &format!("state={state}&code={code}"), "").await, "stale");
    // The session ended meanwhile.
    let way = house.begin_link("co").await;
    house.lab.call(By::Bearer(&house.token), "POST", "/api/v1/auth/logout", Value::Null).await;
    failed(&house.back(&way).await, "stale");
    failed(&house.sign_in("co").await, "link_first");
    // A session of an hour ago is not proof enough.
    let house = House::new().await;
    house.lab.advance(11 * 60);
    let body = json!({"provider": "co"});
    let old = house.lab.call(By::Bearer(&house.token), "POST", IDENTITIES, body.clone()).await;
    old.refused(Code::StepUpRequired);
    house.lab.call(By::Nobody, "POST", IDENTITIES, body).await.refused(Code::InvalidKey);
}

#[tokio::test]
async fn a_terminal_signs_in_by_the_code_that_the_browser_shows() {
    let house = House::linked().await;
    let challenge = |verifier: &str| BASE64URL_NOPAD.encode(&Sha256::digest(verifier.as_bytes()));
    let shown = async |verifier: &str| {
        let way = house.begin("co", &format!("?terminal={}", challenge(verifier))).await;
        let page = house.back(&way).await;
        assert_eq!(set_cookie(&page, "__Host-mtk_rt"), None, "the browser gets no session");
        let policy = page.headers.get(header::CONTENT_SECURITY_POLICY).unwrap().to_str().unwrap();
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
        let text = page.text();
        text.split("<code>").nth(1).unwrap().split("</code>").next().unwrap().to_owned()
    };
    let redeem = async |code: &str, verifier: &str| {
        let body = json!({"code": code, "verifier": verifier});
        house.lab.call(By::Nobody, "POST", "/api/v1/auth/oauth/code", body).await
    };
    let code = shown("mine").await;
    let typed = code.to_lowercase().replace('-', " ");
    let access = redeem(&typed, "mine").await.ok()["access_token"].as_str().unwrap().to_owned();
    house.lab.device(&access).await;
    redeem(&code, "mine").await.refused(Code::InvalidKey);

    // Whoever made somebody follow an address of theirs has no code; whoever has the code has no verifier.
    let code = shown("mine").await;
    redeem(&code, "yours").await.refused(Code::InvalidKey);
    redeem(&code, "mine").await.refused(Code::InvalidKey);
    let code = shown("mine").await;
    house.lab.advance(5 * 60);
    redeem(&code, "mine").await.refused(Code::InvalidKey);

    let bad = house.get("/api/v1/auth/oauth/co/start?terminal=short", "").await;
    bad.refused(Code::BadRequest);
}

#[tokio::test]
async fn a_terminal_needs_the_second_factor_too() {
    let house = House::linked().await;
    enrol(&house.lab, &house.token).await;
    let challenge = BASE64URL_NOPAD.encode(&Sha256::digest(b"mine"));
    let way = house.begin("co", &format!("?terminal={challenge}")).await;
    let text = house.back(&way).await.text();
    let code = text.split("<code>").nth(1).unwrap().split("</code>").next().unwrap();
    let body = json!({"code": code, "verifier": "mine"});
    let answer = house.lab.call(By::Nobody, "POST", "/api/v1/auth/oauth/code", body).await.ok();
    assert_eq!(answer["mfa_required"], true);
    assert_eq!(answer.get("access_token"), None);
}

#[tokio::test]
async fn github_signs_in_by_the_number_of_the_person() {
    let house = House::new().await;
    house.issuer.person("583231", EMAIL, true);
    failed(&house.sign_in("github").await, "link_first");
    let way = house.begin_link("github").await;
    assert!(way.address.contains("/login/oauth/authorize?"), "{}", way.address);
    assert_eq!(location(&house.back(&way).await), "/#/security?linked=github");
    house.issuer.person("583231", "new@example.org", false);
    signed_in(&house.sign_in("github").await);
    house.issuer.person("583232", EMAIL, true);
    failed(&house.sign_in("github").await, "link_first");
    house.issuer.person("583233", "owner@example.org.evil.example", false);
    failed(&house.sign_in("github").await, "unverified");
    // The wrong code is told with status 200.
    let way = house.begin("github", "").await;
    let (_, state) = house.issuer.agree(&way.address);
    failed(&house.callback("github", &format!("state={state}&code=guessed"), &way.cookie).await, "answer");
}

#[tokio::test]
async fn a_stranger_does_not_begin_without_end() {
    let house = House::new().await;
    let mut begun = 0;
    loop {
        let answer = house.get("/api/v1/auth/oauth/co/start", "").await;
        if set_cookie(&answer, "__Host-mtk_flow").is_none() {
            failed(&answer, "busy");
            break;
        }
        begun += 1;
        assert!(begun <= 100);
    }
    assert!(begun >= 30, "{begun}");
}
