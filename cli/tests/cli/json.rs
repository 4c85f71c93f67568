//! `--json`: stdout carries JSON and nothing else, whatever was asked.

use serde_json::Value;

use crate::delegation::House;
use crate::program::{Ended, User};
use crate::relay::ANY;

#[track_caller]
fn only_json(ended: &Ended) {
    assert!(!ended.stdout.is_empty(), "{ended:?}");
    for line in ended.stdout.lines() {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        assert!(value.is_object(), "{line}");
    }
}

#[test]
fn every_command_of_a_person_keeps_to_it() {
    let house = House::new();
    let serial = house.mint(&[])["serial"].as_str().unwrap().to_owned();
    let server = std::fs::read_to_string(house.user.path("config/logins/current")).unwrap();
    let master = [("MTK_MASTER", house.master.as_str()), ("MYTUNNEL_PASSWORD", "correct horse battery")];
    for line in [
        &["login", &server, "--email", "owner@example.com"][..],
        &["projects", "list"],
        &["projects", "create", "other"],
        &["keys", "create", "--project", "preview"],
        &["keys", "create", "--project", "preview", "--output-env"],
        &["keys", "list"],
        &["keys", "tree", "--all"],
        &["keys", "show", &serial],
        &["keys", "join-token"],
        &["eval", "mint"],
        &["eval", "mint", "--output-env"],
        &["keys", "revoke", &serial],
        &["audit"],
        &["audit", "--verify"],
        &["status"],
        &["projects", "delete", "other", "--yes"],
        &["completions", "bash"],
        &["relay", "--check", "--data", "elsewhere", "--http", ANY, "--https", ANY, "--p2p", ANY],
    ] {
        only_json(&house.user.run_with(&[line, &["--json"]].concat(), &master).succeeded());
    }
}

#[test]
fn every_failure_keeps_to_it() {
    let user = User::new();
    for line in [
        &["share", "./none"][..],
        &["http", "x y"],
        &["login"],
        &["projects", "list"],
        &["keys", "revoke", "x"],
        &["eval", "mint"],
        &["audit"],
        &["relay", "--domain", "?"],
        &["coordinator"],
        &["completions", "tcsh"],
        &["nothing"],
    ] {
        let ended = user.run(&[line, &["--json"]].concat());
        assert_ne!(ended.code, Some(0), "{line:?}");
        only_json(&ended);
    }
}

#[test]
fn a_completion_script_is_one_object() {
    let user = User::new();
    let plain = user.run(&["completions", "fish"]).succeeded().stdout;
    let object = user.run(&["completions", "fish", "--json"]).succeeded().json();
    assert_eq!(object, serde_json::json!({"shell": "fish", "script": plain}));
}
