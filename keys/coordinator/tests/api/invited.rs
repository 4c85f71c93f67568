//! The first entry of somebody who was invited, by the word of a provider.

use axum::http::StatusCode;
use mytunnel_keys::error::Code;
use serde_json::{Value, json};

use crate::provider::{House, IDENTITIES, Way, failed, set_cookie, signed_in};
use crate::sessions::acts;
use crate::support::{Answer, By, Lab, PASSWORD};

const ANN: &str = "ann@example.org";
const BEGIN: &str = "/api/v1/auth/invitations/sign-in";

async fn invitation(house: &House) -> String {
    let body = json!({"email": ANN, "role": "member"});
    let made = house.lab.call(By::Bearer(&house.token), "POST", "/api/v1/invitations", body).await.ok();
    made["code"].as_str().unwrap().to_owned()
}

async fn begin(lab: &Lab, code: &str) -> Answer {
    lab.call(By::Nobody, "POST", BEGIN, json!({"code": code, "provider": "co"})).await
}

async fn begun(house: &House, code: &str) -> Way {
    let answer = begin(&house.lab, code).await;
    let address = answer.ok()["url"].as_str().unwrap().to_owned();
    let cookie = set_cookie(&answer, "__Host-mtk_flow").expect("a cookie");
    Way { provider: "co".to_owned(), cookie, address }
}

#[tokio::test]
async fn who_was_invited_may_enter_by_a_provider_and_needs_no_password() {
    let house = House::new().await;
    let code = invitation(&house).await;
    house.issuer.person("subject-ann", "Ann@Example.org", true);
    signed_in(&house.back(&begun(&house, &code).await).await);
    // The identity is the way in from now on, and the invitation is used up.
    signed_in(&house.sign_in("co").await);
    begin(&house.lab, &code).await.refused(Code::InvalidKey);
    let accounts =
        house.lab.call(By::Bearer(&house.token), "GET", "/api/v1/accounts", Value::Null).await.ok();
    let ann = accounts["accounts"].as_array().unwrap().iter().find(|row| row["email"] == ANN).unwrap();
    assert_eq!(ann["role"], "member");
    for password in ["", PASSWORD] {
        let login = json!({"email": ANN, "password": password});
        house.lab.call(By::Nobody, "POST", "/api/v1/auth/login", login).await.refused(Code::InvalidKey);
    }
    let acts = acts(&house.lab, &house.token).await;
    for act in ["account.create", "identity.link", "login"] {
        assert!(acts.iter().any(|found| found == act), "{act}");
    }
}

#[tokio::test]
async fn an_invitation_makes_no_account_for_anybody_else() {
    let house = House::new().await;
    let code = invitation(&house).await;
    // Who found the link, and who says to be Ann without that the provider knows it.
    house.issuer.person("subject-eve", "eve@example.org", true);
    failed(&house.back(&begun(&house, &code).await).await, "other_address");
    house.issuer.person("subject-eve", ANN, false);
    failed(&house.back(&begun(&house, &code).await).await, "unverified");
    // Ann's address alone is no invitation.
    house.issuer.person("subject-ann", ANN, true);
    failed(&house.sign_in("co").await, "no_account");
    begin(&house.lab, "AAAA-BBBB-CCCC-DDDD").await.refused(Code::InvalidKey);
    let other = json!({"code": code, "provider": "nobody"});
    house.lab.call(By::Nobody, "POST", BEGIN, other).await.refused(Code::BadRequest);
    // Withdrawn while she is at the provider.
    let way = begun(&house, &code).await;
    let open = house.lab.call(By::Bearer(&house.token), "GET", "/api/v1/invitations", Value::Null).await.ok();
    let path = format!("/api/v1/invitations/{}", open["invitations"][0]["id"].as_str().unwrap());
    let withdrawn = house.lab.call(By::Bearer(&house.token), "DELETE", &path, Value::Null).await;
    assert_eq!(withdrawn.status, StatusCode::NO_CONTENT);
    failed(&house.back(&way).await, "not_invited");
    let accounts =
        house.lab.call(By::Bearer(&house.token), "GET", "/api/v1/accounts", Value::Null).await.ok();
    assert_eq!(accounts["accounts"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn an_identity_is_linked_to_whom_the_session_is_that_asked() {
    let house = House::new().await;
    let accept = json!({"code": invitation(&house).await, "password": PASSWORD});
    let path = "/api/v1/auth/invitations/accept";
    let joined = house.lab.call(By::Nobody, "POST", path, accept).await.ok();
    let house = House { token: joined["access_token"].as_str().unwrap().to_owned(), ..house };
    house.back(&house.begin_link("co").await).await;
    let listed = house.lab.call(By::Bearer(&house.token), "GET", IDENTITIES, Value::Null).await.ok();
    assert_eq!(listed["identities"].as_array().unwrap().len(), 1, "{listed}");
}

#[tokio::test]
async fn an_identity_of_an_account_makes_no_second_one() {
    let house = House::linked().await;
    let code = invitation(&house).await;
    house.issuer.person("subject-1", ANN, true);
    failed(&house.back(&begun(&house, &code).await).await, "taken");
    let listed = house.lab.call(By::Bearer(&house.token), "GET", IDENTITIES, Value::Null).await.ok();
    assert_eq!(listed["identities"].as_array().unwrap().len(), 1);
}
