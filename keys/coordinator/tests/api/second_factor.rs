//! The second factor: enrolment that keeps nothing before its proof, codes that are good once, guesses that are counted.

use std::path::Path;

use axum::http::StatusCode;
use data_encoding::BASE32_NOPAD;
use mytunnel_coordinator::{ClientAddress, OpenError};
use mytunnel_keys::error::Code;
use serde_json::{Value, json};
use totp_rs::{Builder, Secret};

use crate::sessions::{Browser, acts, log_in};
use crate::support::{Answer, By, EMAIL, Lab, PASSWORD};

const ENROL: &str = "/api/v1/auth/mfa/enroll";
const VERIFY: &str = "/api/v1/auth/mfa/enroll/verify";
const DISABLE: &str = "/api/v1/auth/mfa/disable";
const RENEW: &str = "/api/v1/auth/mfa/recovery-codes";

/// An account with a second factor.
pub(crate) struct Enrolled {
    pub(crate) secret: String,
    recovery: Vec<String>,
}

async fn post(lab: &Lab, token: &str, path: &str, body: Value) -> Answer {
    lab.call(By::Bearer(token), "POST", path, body).await
}

pub(crate) fn code_at(secret: &str, time: u64) -> String {
    let secret: [u8; 20] = BASE32_NOPAD.decode(secret.as_bytes()).unwrap().try_into().unwrap();
    let totp = Builder::new().with_secret(Secret::new_stack(secret)).build().unwrap();
    totp.generate(time).to_string()
}

pub(crate) async fn enrol(lab: &Lab, token: &str) -> Enrolled {
    let secret =
        post(lab, token, ENROL, Value::Null).await.ok()["secret_base32"].as_str().unwrap().to_owned();
    let proof = json!({"secret_base32": secret, "code": code_at(&secret, lab.now())});
    let enabled = post(lab, token, VERIFY, proof).await.ok();
    assert_eq!(enabled["status"], "enabled");
    let recovery = enabled["recovery_codes"].as_array().unwrap();
    Enrolled { secret, recovery: recovery.iter().map(|code| code.as_str().unwrap().to_owned()).collect() }
}

async fn challenge(lab: &Lab) -> String {
    let answer = log_in(lab).await;
    assert!(!answer.headers.contains_key("set-cookie"));
    let answer = answer.ok();
    assert_eq!(answer["mfa_required"], true);
    assert_eq!(answer.get("access_token"), None);
    answer["challenge_token"].as_str().unwrap().to_owned()
}

pub(crate) async fn answer(lab: &Lab, challenge: &str, code: &str) -> Answer {
    let body = json!({"challenge_token": challenge, "code": code});
    lab.call(By::Nobody, "POST", "/api/v1/auth/login/mfa", body).await
}

/// Signs in with both factors.
async fn log_in_with(lab: &Lab, code: &str) -> Browser {
    let challenge = challenge(lab).await;
    Browser::of(&answer(lab, &challenge, code).await)
}

#[tokio::test]
async fn enrolment_keeps_nothing_before_its_proof() {
    let lab = Lab::new().await;
    let token = lab.owner().await;
    let shown = post(&lab, &token, ENROL, Value::Null).await.ok();
    let secret = shown["secret_base32"].as_str().unwrap();
    assert_eq!(BASE32_NOPAD.decode(secret.as_bytes()).unwrap().len(), 20);
    let uri = shown["otpauth_uri"].as_str().unwrap();
    assert!(uri.starts_with("otpauth://totp/") && uri.contains(secret), "{uri}");
    assert!(shown["qr_svg"].as_str().unwrap().contains("<svg"));
    log_in(&lab).await.ok()["access_token"].as_str().expect("no second factor yet");

    let wrong = json!({"secret_base32": secret, "code": code_at(secret, lab.now() + 3600)});
    post(&lab, &token, VERIFY, wrong).await.refused(Code::MfaInvalid);
    log_in(&lab).await.ok()["access_token"].as_str().expect("still none");
    // The same secret within its time; the answer may have been lost.
    assert_eq!(post(&lab, &token, ENROL, Value::Null).await.ok()["secret_base32"], secret);
    let proof = json!({"secret_base32": secret.to_lowercase(), "code": code_at(secret, lab.now())});
    let enabled = post(&lab, &token, VERIFY, proof).await.ok();
    let codes = enabled["recovery_codes"].as_array().unwrap();
    assert!(codes.len() == 10 && codes.iter().all(|code| code.as_str().unwrap().len() == 9), "{codes:?}");
    challenge(&lab).await;
    let me = lab.call(By::Bearer(&token), "GET", "/api/v1/auth/me", Value::Null).await.ok();
    assert_eq!((&me["mfa_enabled"], &me["recovery_codes_left"]), (&json!(true), &json!(10)));
}

#[tokio::test]
async fn nobody_brings_a_secret_of_their_own() {
    let lab = Lab::new().await;
    let token = lab.owner().await;
    let own = BASE32_NOPAD.encode(&[0; 20]);
    let weak = json!({"secret_base32": own, "code": code_at(&own, lab.now())});
    post(&lab, &token, VERIFY, weak).await.refused(Code::BadRequest);
    for bad in ["", "not base32", "A"] {
        post(&lab, &token, VERIFY, json!({"secret_base32": bad, "code": "123456"}))
            .await
            .refused(Code::BadRequest);
    }
    // Nor one that was shown long ago.
    let old = post(&lab, &token, ENROL, Value::Null).await.ok()["secret_base32"].as_str().unwrap().to_owned();
    lab.advance(14 * 60);
    let proof = json!({"secret_base32": old, "code": code_at(&old, lab.now())});
    let answer = post(&lab, &token, VERIFY, proof).await;
    let confirmable = (lab.now() - 14 * 60) / 600 + 1 >= lab.now() / 600;
    assert_eq!(answer.status.is_success(), confirmable);
    lab.advance(6 * 60 - 1);
    post(&lab, &token, ENROL, Value::Null).await.refused(Code::InvalidKey);
}

#[tokio::test]
async fn each_code_is_good_once_and_a_step_early_or_late() {
    let lab = Lab::new().await;
    let token = lab.owner().await;
    let enrolled = enrol(&lab, &token).await;
    let code = |shift: i64| code_at(&enrolled.secret, lab.now().checked_add_signed(shift).unwrap());
    let first = challenge(&lab).await;
    answer(&lab, &first, &code(0)).await.refused(Code::MfaInvalid);
    let browser = Browser::of(&answer(&lab, &first, &code(30)).await);
    lab.call(By::Bearer(&browser.access), "GET", "/api/v1/projects", Value::Null).await.ok();
    let second = challenge(&lab).await;
    answer(&lab, &second, &code(30)).await.refused(Code::MfaInvalid);
    answer(&lab, &second, &code(0)).await.refused(Code::MfaInvalid);
    lab.advance(120);
    answer(&lab, &second, &code(-60)).await.refused(Code::MfaInvalid);
    answer(&lab, &second, &code(-30)).await.ok();
    let third = challenge(&lab).await;
    answer(&lab, &third, &code(60)).await.refused(Code::MfaInvalid);
    answer(&lab, &third, &code(0)).await.ok();
}

#[tokio::test]
async fn a_challenge_is_good_once_for_five_minutes_and_for_nothing_else() {
    let lab = Lab::new().await;
    let token = lab.owner().await;
    let enrolled = enrol(&lab, &token).await;
    lab.advance(60);
    let used = challenge(&lab).await;
    lab.call(By::Bearer(&used), "GET", "/api/v1/projects", Value::Null).await.refused(Code::InvalidKey);
    answer(&lab, &used, &code_at(&enrolled.secret, lab.now())).await.ok();
    lab.advance(60);
    answer(&lab, &used, &code_at(&enrolled.secret, lab.now())).await.refused(Code::InvalidKey);
    let late = challenge(&lab).await;
    lab.advance(5 * 60);
    answer(&lab, &late, &code_at(&enrolled.secret, lab.now())).await.refused(Code::InvalidKey);
    answer(&lab, "nonsense", "123456").await.refused(Code::InvalidKey);
}

#[tokio::test]
async fn guesses_are_counted_for_the_account_whatever_the_challenge_and_the_address() {
    let lab = Lab::new().await;
    let token = lab.owner().await;
    let enrolled = enrol(&lab, &token).await;
    lab.advance(60);
    for guess in 0..5_u8 {
        let challenge = challenge(&lab).await;
        let body = json!({"challenge_token": challenge, "code": "nonsense"}).to_string();
        let mut request = lab.request(By::Nobody, "POST", "/api/v1/auth/login/mfa", body.into());
        request.extensions_mut().insert(ClientAddress([198, 51, 100, guess].into()));
        lab.send(request).await.refused(Code::MfaInvalid);
    }
    let fresh = challenge(&lab).await;
    let put_off = answer(&lab, &fresh, &code_at(&enrolled.secret, lab.now())).await;
    put_off.refused(Code::RateLimited);
    assert_eq!(put_off.status, StatusCode::TOO_MANY_REQUESTS);
    answer(&lab, &fresh, &enrolled.recovery[0]).await.refused(Code::RateLimited);
    // Nor by another door.
    post(&lab, &token, DISABLE, json!({"code": code_at(&enrolled.secret, lab.now())}))
        .await
        .refused(Code::RateLimited);
    let wait: u64 = put_off.headers["retry-after"].to_str().unwrap().parse().unwrap();
    lab.advance(wait);
    let fresh = challenge(&lab).await;
    answer(&lab, &fresh, &code_at(&enrolled.secret, lab.now())).await.ok();
}

#[tokio::test]
async fn a_recovery_code_is_good_once() {
    let lab = Lab::new().await;
    let token = lab.owner().await;
    let enrolled = enrol(&lab, &token).await;
    let browser = log_in_with(&lab, &enrolled.recovery[3].to_uppercase().replace('-', " ")).await;
    let me = lab.call(By::Bearer(&browser.access), "GET", "/api/v1/auth/me", Value::Null).await.ok();
    assert_eq!(me["recovery_codes_left"], 9);
    let again = challenge(&lab).await;
    answer(&lab, &again, &enrolled.recovery[3]).await.refused(Code::MfaInvalid);

    lab.advance(60);
    post(&lab, &token, RENEW, json!({"code": "000000"})).await.refused(Code::MfaInvalid);
    let fresh = post(&lab, &token, RENEW, json!({"code": code_at(&enrolled.secret, lab.now())})).await.ok();
    let fresh = fresh["recovery_codes"].as_array().unwrap();
    answer(&lab, &again, &enrolled.recovery[4]).await.refused(Code::MfaInvalid);
    answer(&lab, &again, fresh[9].as_str().unwrap()).await.ok();
}

#[tokio::test]
async fn only_a_fresh_proof_switches_it_off() {
    let lab = Lab::new().await;
    let token = lab.owner().await;
    let enrolled = enrol(&lab, &token).await;
    lab.advance(60);
    let browser = log_in_with(&lab, &code_at(&enrolled.secret, lab.now())).await;
    lab.advance(10 * 60);
    let answer = post(&lab, &browser.access, DISABLE, Value::Null).await;
    answer.refused(Code::StepUpRequired);
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    post(&lab, &browser.access, DISABLE, json!({"code": null})).await.refused(Code::StepUpRequired);
    post(&lab, &browser.access, DISABLE, json!({"code": ""})).await.refused(Code::MfaInvalid);
    post(&lab, &browser.access, DISABLE, json!({"code": enrolled.recovery[0]})).await.ok();
    log_in(&lab).await.ok()["access_token"].as_str().expect("no second factor any more");
    post(&lab, &browser.access, DISABLE, json!({"code": "123456"})).await.refused(Code::BadRequest);

    // A sign-in with it, minutes ago, is a proof; and a code that was used before it went is not good after it came back.
    let fresh = Browser::of(&log_in(&lab).await);
    let again = enrol(&lab, &fresh.access).await;
    lab.advance(30);
    let used = code_at(&again.secret, lab.now());
    let browser = log_in_with(&lab, &used).await;
    assert_eq!(post(&lab, &browser.access, DISABLE, Value::Null).await.ok()["status"], "disabled");
    let fresh = Browser::of(&log_in(&lab).await);
    let shown = post(&lab, &fresh.access, ENROL, Value::Null).await.ok();
    if shown["secret_base32"] == again.secret {
        let replayed = json!({"secret_base32": again.secret, "code": used});
        post(&lab, &fresh.access, VERIFY, replayed).await.refused(Code::MfaInvalid);
    }
    let acts = acts(&lab, &fresh.access).await;
    assert_eq!(acts.iter().filter(|act| *act == "mfa.disable").count(), 2);
    assert_eq!(acts.iter().filter(|act| *act == "mfa.enable").count(), 2);
}

#[tokio::test]
async fn enrolment_needs_a_fresh_sign_in_and_ends_sessions_without_a_second_factor() {
    let lab = Lab::new().await;
    let other = lab.owner().await;
    let house_device = lab.device(&other).await.0;
    lab.call(By::Key(&house_device), "POST", ENROL, Value::Null).await.refused(Code::ScopeDenied);
    lab.advance(10 * 60);
    post(&lab, &other, ENROL, Value::Null).await.refused(Code::StepUpRequired);
    let fresh = Browser::of(&log_in(&lab).await);
    enrol(&lab, &fresh.access).await;
    lab.call(By::Bearer(&other), "GET", "/api/v1/auth/me", Value::Null).await.refused(Code::InvalidKey);
    lab.call(By::Bearer(&fresh.access), "GET", "/api/v1/auth/me", Value::Null).await.ok();
    let again = post(&lab, &fresh.access, ENROL, Value::Null).await.ok();
    let secret = again["secret_base32"].as_str().unwrap();
    let proof = json!({"secret_base32": secret, "code": code_at(secret, lab.now() + 30)});
    assert!(post(&lab, &fresh.access, VERIFY, proof).await.refused(Code::BadRequest).contains("on already"));
}

/// Every byte that lies in a directory.
fn bytes_in(place: &Path) -> Vec<u8> {
    let files = std::fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.extension().is_none_or(|kind| kind != "key"))
        .flat_map(|path| std::fs::read(path).unwrap())
        .collect()
}

#[tokio::test]
async fn a_stolen_database_holds_no_secret_that_signs_anybody_in() {
    let place = tempfile::tempdir().unwrap();
    // In a file whatever the others run on: what is stored is the same, and here all of it can be read.
    let lab = Lab::sqlite(&place.path().join("mytunnel.db")).await.unwrap();
    let token = lab.owner().await;
    let enrolled = enrol(&lab, &token).await;
    lab.advance(60);
    let browser = log_in_with(&lab, &code_at(&enrolled.secret, lab.now())).await;
    let open = challenge(&lab).await;
    lab.coordinator.shutdown().await;
    let bytes = bytes_in(place.path());
    let holds = |secret: &[u8]| bytes.windows(secret.len()).any(|part| part == secret);
    assert!(holds(EMAIL.as_bytes()), "it is the database");
    let raw = BASE32_NOPAD.decode(enrolled.secret.as_bytes()).unwrap();
    let refresh = browser.cookie.trim_start_matches("__Host-mtk_rt=");
    for secret in [&enrolled.secret, PASSWORD, token.as_str(), &browser.access, refresh, &open] {
        assert!(!holds(secret.as_bytes()), "{secret}");
    }
    assert!(!holds(&raw));
    for code in &enrolled.recovery {
        for form in
            [code.clone(), code.to_uppercase(), code.replace('-', ""), code.replace('-', "").to_uppercase()]
        {
            assert!(!holds(form.as_bytes()), "{code}");
        }
    }
}

#[tokio::test]
async fn second_factors_outlive_a_restart_and_their_key_is_missed_at_once() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("mytunnel.db");
    let lab = Lab::at(&path).await.unwrap();
    let token = lab.owner().await;
    let enrolled = enrol(&lab, &token).await;
    let now = lab.now() + 60;
    lab.coordinator.shutdown().await;
    let lab = Lab::at(&path).await.unwrap();
    lab.advance(60);
    assert_eq!(lab.now(), now);
    log_in_with(&lab, &code_at(&enrolled.secret, now)).await;
    lab.coordinator.shutdown().await;
    let key = place.path().join("accounts.key");
    let kept = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    assert!(matches!(Lab::at(&path).await.err(), Some(OpenError::KeyMissing { path }) if path == key));
    let other: String = "0123456789abcdef".repeat(4);
    std::fs::write(&key, other).unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert!(matches!(Lab::at(&path).await.err(), Some(OpenError::KeyWrong { path, .. }) if path == key));
    std::fs::write(&key, kept).unwrap();
    Lab::at(&path).await.unwrap();
}
