//! A relay without a public certificate: found on its own machine, named by its pin from elsewhere, and never believed
//! without either.

use std::path::Path;

use mytunnel_keys::token::AuthorityPin;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::Value;

use crate::program::{Ended, User};
use crate::relay::{ANY, line, sign_in, start};

const PASSWORD: (&str, &str) = ("MYTUNNEL_PASSWORD", "correct horse battery");

fn https(ready: &Value) -> String {
    format!("https://localhost:{}", ready["https"].as_str().unwrap().rsplit_once(':').unwrap().1)
}

fn pin(path: &Path) -> String {
    AuthorityPin::of(&CertificateDer::from_pem_file(path).unwrap()).to_string()
}

fn login(user: &User, server: &str, more: &[&str]) -> Ended {
    let line = [&["login", server, "--email", "owner@example.com"][..], more].concat();
    user.run_with(&line, &[PASSWORD])
}

#[test]
fn a_relay_of_this_machine_is_known_by_its_file() {
    let user = User::new();
    let (_relay, ready) = start(&user, "data");
    let server = https(&ready);
    let signed_in = login(&user, &server, &["--code", ready["setup_code"].as_str().unwrap()]).succeeded();
    assert_eq!(signed_in.stdout, format!("Signed in to {server} as owner@example.com.\n"));
    let file = user.path("data/local-ca-localhost.pem");
    assert!(signed_in.stderr.contains(&format!("{} vouches for it", file.display())), "{signed_in:?}");
    user.run(&["projects", "create", "preview"]).succeeded();
    // The next time the sign-in itself remembers.
    let again = login(&user, &server, &["--json"]).succeeded();
    assert_eq!(again.json()["server"], format!("{server}#ca={}", pin(&file)));
    assert_eq!(again.stderr, "");
}

#[test]
fn elsewhere_the_pin_is_all_that_is_needed_and_nothing_is_believed_without_it() {
    let (user, stranger) = (User::new(), User::new());
    let (_relay, ready) = start(&user, "data");
    let server = https(&ready);
    let code = ["--code", ready["setup_code"].as_str().unwrap(), "--json"];
    let pinned = format!("{server}#ca={}", pin(&user.path("data/local-ca-localhost.pem")));

    let unknown = login(&stranger, &server, &code).failed("COORDINATOR_UNREACHABLE", 6);
    assert!(unknown["message"].as_str().unwrap().contains("vouches"), "{unknown}");
    assert!(unknown["help"].as_str().unwrap().contains(&format!("{server}#ca=")), "{unknown}");
    let other = format!("{server}#ca=00112233445566778899aabbccddeeff");
    let other = login(&stranger, &other, &code).failed("COORDINATOR_UNREACHABLE", 6);
    assert!(other["message"].as_str().unwrap().contains("pinned"), "{other}");
    let cut = login(&stranger, &pinned[..pinned.len() - 1], &code).failed("BAD_REQUEST", 2);
    assert!(cut["message"].as_str().unwrap().contains("#ca="), "{cut}");
    let address = server.replace("localhost", "127.0.0.1");
    login(&stranger, &pinned.replace(&server, &address), &code).failed("COORDINATOR_UNREACHABLE", 6);
    assert_eq!(
        std::fs::read_dir(stranger.path("config")).map(Iterator::count).unwrap_or(0),
        0,
        "nothing is kept"
    );

    login(&stranger, &pinned, &code).succeeded();
    let made = stranger.run(&["projects", "create", "preview", "--json"]).succeeded().json();

    // A third machine has nothing but the key.
    let agent = User::new();
    let master = [("MTK_MASTER", made["master_key"].as_str().unwrap())];
    let child = agent.run_with(&["eval", "mint", "--portable", "--json"], &master).succeeded().json();
    let key =
        [("MYTUNNEL_AUTH_TOKEN", child["token"].as_str().unwrap()), ("MYTUNNEL_SERVER", server.as_str())];
    let mut share = agent.start_with(&["share", "--name", "demo", "--json"], &key);
    assert_eq!(share.event("ready")["name"], "demo");
    agent.run_with(&["keys", "revoke", child["token"].as_str().unwrap()], &[]).succeeded();
}

#[test]
fn a_relay_follows_a_coordinator_whose_authority_is_pinned() {
    let user = User::new();
    let (_relay, ready) = start(&user, "data");
    sign_in(&user, &ready);
    let token = user.run(&["keys", "join-token"]).succeeded().stdout;
    std::fs::write(user.path("join"), token).unwrap();
    let pinned = format!("{}#ca={}", https(&ready), pin(&user.path("data/local-ca-localhost.pem")));
    let wrong = format!("{}#ca=00112233445566778899aabbccddeeff", https(&ready));
    let (data, join) = (user.path("member"), user.path("join"));
    let member = [&line(&data)[..], &["--join-file", join.to_str().unwrap(), "--coordinator"]].concat();
    user.run(&[&member[..], &[&wrong]].concat()).failed("COORDINATOR_UNREACHABLE", 6);
    let mut second = user.start(&[&member[..], &[&pinned]].concat());
    assert_eq!(second.event("ready")["login"], pinned);
    let made = user.run(&["projects", "create", "preview", "--json"]).succeeded().json();
    let revoked = user.run(&["keys", "revoke", made["master_key"].as_str().unwrap(), "--json"]).succeeded();
    let relays = revoked.json()["relays"].as_array().unwrap().clone();
    assert!(relays.len() == 2 && relays.iter().all(|relay| relay["applied"] == true), "{relays:?}");
}

#[test]
fn a_public_relay_prints_a_login_line_that_holds_everything() {
    let user = User::new();
    let data = user.path("data");
    let line = ["relay", "--domain", "t.invalid", "--data", data.to_str().unwrap()];
    let listen = ["--http", ANY, "--https", ANY, "--p2p", ANY];
    let mut relay = user.start(&[&line[..], &listen].concat());
    let url = relay.line();
    let (base, printed) = url.split_once("#ca=").unwrap();
    assert!(base.starts_with("https://t.invalid:"), "{url}");
    assert_eq!(printed, pin(&data.join("local-ca-t.invalid.pem")));
    let ended = relay.signal("TERM").succeeded();
    assert!(ended.stderr.contains(&format!("  mytunnel login '{url}' --code ")), "{ended:?}");
}

#[test]
fn a_password_that_can_be_read_on_its_way_is_warned_of() {
    let user = User::new();
    let ended = login(&user, "http://relay.invalid", &["--json"]);
    assert!(ended.stderr.contains("not encrypted") && ended.stderr.contains("https://"), "{ended:?}");
    ended.failed("COORDINATOR_UNREACHABLE", 6);
    let ended = login(&user, "http://127.0.0.1:9", &["--json"]);
    assert!(!ended.stderr.contains("not encrypted"), "{ended:?}");
}
