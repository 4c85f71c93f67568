//! Other people, their devices, and passwords that were forgotten, from the command line.

use serde_json::Value;

use crate::delegation::House;
use crate::program::User;

const PASSWORD: (&str, &str) = ("MYTUNNEL_PASSWORD", "correct horse battery");

#[test]
fn somebody_is_invited_given_a_role_and_removed() {
    let house = House::new();
    let run = |line: &[&str]| house.user.run_with(line, &[PASSWORD]);
    // A device alone lets nobody in.
    let alone = ["accounts", "invite", "ann@example.com", "--role", "owner", "--json"];
    let refused = house.user.run(&alone).failed("STEP_UP_REQUIRED", 3);
    assert!(refused["help"].as_str().unwrap().contains("MYTUNNEL_PASSWORD"), "{refused}");
    let made = run(&["accounts", "invite", "ann@example.com", "--json"]).succeeded().json();
    let code = made["code"].as_str().unwrap();
    assert!(made["url"].as_str().unwrap().ends_with(code), "{made}");
    let told = run(&["accounts", "invite", "ann@example.com"]).succeeded();
    assert!(told.stdout.starts_with("http") && told.stderr.contains("--invite "), "{told:?}");
    let fresh = told.stderr.split("--invite ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();

    let server = std::fs::read_to_string(house.user.path("config/logins/current")).unwrap();
    let ann = User::new();
    let join = |code: &str| {
        let line = ["login", &server, "--email", "ann@example.com", "--invite", code, "--json"];
        ann.run_with(&line, &[PASSWORD])
    };
    join(code).failed("INVALID_KEY", 3);
    let login = join(&fresh).succeeded().json();
    assert_eq!(login["account"], "ann@example.com");
    ann.run(&["accounts", "list", "--json"]).failed("SCOPE_DENIED", 4);
    ann.run(&["projects", "list", "--json"]).succeeded();

    run(&["accounts", "role", "ann@example.com", "owner"]).succeeded();
    ann.run(&["accounts", "list", "--json"]).succeeded();
    run(&["accounts", "role", "ANN@example.com", "member"]).succeeded();
    run(&["accounts", "role", "owner@example.com", "member", "--json"]).failed("BAD_REQUEST", 2);
    run(&["accounts", "role", "nobody@example.com", "member", "--json"]).failed("NOT_FOUND", 1);

    let devices = run(&["devices", "list", "--json"]).succeeded().json();
    let devices = devices["devices"].as_array().unwrap().clone();
    assert_eq!(devices.len(), 2);
    let own = ann.run(&["devices", "list"]).succeeded();
    assert!(own.stdout.contains("ann@example.com") && !own.stdout.contains("owner@example.com"), "{own:?}");
    run(&["accounts", "remove", "ann@example.com", "--json"]).failed("BAD_REQUEST", 2);
    let gone = run(&["accounts", "remove", "ann@example.com", "--yes", "--json"]).succeeded().json();
    assert_eq!(gone["revoked_masters"], 1);
    assert_eq!(gone["relays"][0]["applied"], true, "{gone}");
    ann.run(&["projects", "list", "--json"]).failed("KEY_REVOKED", 3);

    let mine = devices.iter().find(|device| device["account"] == "owner@example.com").unwrap();
    let told = run(&["devices", "revoke", mine["nonce"].as_str().unwrap()]).succeeded();
    assert!(told.stderr.contains("1 master key made by it still works"), "{told:?}");
    run(&["devices", "list", "--json"]).failed("KEY_REVOKED", 3);
}

#[test]
fn an_open_invitation_is_shown_and_withdrawn() {
    let house = House::new();
    let line = ["accounts", "invite", "ann@example.com", "--role", "owner"];
    house.user.run_with(&line, &[PASSWORD]).succeeded();
    let listed = house.user.run(&["accounts", "list"]).succeeded();
    assert!(listed.stderr.contains("Invited: ann@example.com as owner"), "{listed:?}");
    house.user.run(&["accounts", "remove", "ann@example.com", "--yes"]).succeeded();
    let listed = house.user.run(&["accounts", "list", "--json"]).succeeded().json();
    assert_eq!(listed["invitations"], Value::Array(Vec::new()));
}

#[test]
fn the_operator_makes_a_link_while_the_relay_runs() {
    let house = House::new();
    let data = house.user.path("data").display().to_string();
    let line = ["coordinator", "reset-password", "--email", "owner@example.com", "--data", &data];
    let made = house.user.run(&[&line[..], &["--json"]].concat()).succeeded().json();
    assert!(made["token"].as_str().unwrap().len() > 40 && made["url"].is_null(), "{made}");
    let shown = house.user.run(&[&line[..], &["--public-url", "https://t.example"]].concat()).succeeded();
    assert!(shown.stdout.starts_with("https://t.example/#/reset?token="), "{shown:?}");
    let elsewhere = ["coordinator", "reset-password", "--email", "a@b.example", "--data", "none", "--json"];
    assert_eq!(house.user.run(&elsewhere).code, Some(1));
}
