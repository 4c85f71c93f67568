use serde_json::json;

use super::*;
use crate::secret::Seed;

#[test]
fn a_failure_has_the_shape_of_the_contract() {
    let body = ErrorBody::new(Code::NameTaken, "the name is taken");
    assert_eq!(
        serde_json::to_value(&body).unwrap(),
        json!({"error": {"code": "name_taken", "message": "the name is taken", "help": Code::NameTaken.help()}})
    );
    let back: ErrorBody = serde_json::from_value(serde_json::to_value(&body).unwrap()).unwrap();
    assert_eq!(back, body);
}

#[test]
fn login_answers_are_told_apart_by_their_fields() {
    let access = json!({"access_token": "t"});
    let mfa = json!({"mfa_required": true, "challenge_token": "c"});
    assert_eq!(
        serde_json::from_value::<LoginAnswer>(access).unwrap(),
        LoginAnswer::Access { access_token: "t".to_owned() }
    );
    assert_eq!(
        serde_json::from_value::<LoginAnswer>(mfa).unwrap(),
        LoginAnswer::Mfa { mfa_required: true, challenge_token: "c".to_owned() }
    );
}

#[test]
fn a_mint_needs_only_a_key_and_a_life() {
    let key = Seed::from_bytes([1; 32]).public();
    let mint: Mint = serde_json::from_value(json!({"public_key": key, "ttl": 3600, "later": 1})).unwrap();
    assert_eq!((mint.public_key, mint.ttl, mint.bound, mint.scopes), (key, 3600, false, None));
    let body = serde_json::to_value(&mint).unwrap();
    assert_eq!(body, json!({"public_key": key, "ttl": 3600, "bound": false}));
}

#[test]
fn a_weak_key_does_not_enter_by_json() {
    let body = json!({"public_key": "12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH", "name": "x"});
    assert!(serde_json::from_value::<NewDevice>(body).unwrap_err().to_string().contains("weak"));
}

#[test]
fn debug_output_holds_no_password_or_token() {
    let login = Login { email: "a@b".to_owned(), password: "hunter2".to_owned() };
    let setup = Setup { code: "hunter2".to_owned(), email: "a@b".to_owned(), password: "hunter2".to_owned() };
    let answer = LoginAnswer::Access { access_token: "hunter2".to_owned() };
    let token = JoinToken { token: "hunter2".to_owned(), expires_at: 0 };
    let public_key = Seed::from_bytes([1; 32]).public();
    let ticket = RedeemTicket { ticket: "hunter2".to_owned(), public_key };
    assert!(!format!("{login:?}{setup:?}{answer:?}{token:?}{ticket:?}").contains("hunter2"));
}

#[test]
fn a_created_project_is_one_flat_object() {
    let created = ProjectCreated {
        project: Project { id: "proj_a".parse().unwrap(), name: "a".to_owned(), created_at: 5 },
        serial: crate::id::Serial::from_bytes([0; 16]),
    };
    let body =
        json!({"id": "proj_a", "name": "a", "created_at": 5, "serial": "00000000000000000000000000000000"});
    assert_eq!(serde_json::to_value(&created).unwrap(), body);
    assert_eq!(serde_json::from_value::<ProjectCreated>(body).unwrap(), created);
}
