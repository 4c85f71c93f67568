//! `mytunnel trust`: what it takes for an authority, and what it says of the stores that it cannot change.

use std::path::Path;
use std::time::SystemTime;

use mytunnel_relay::local_ca::LocalCa;

use crate::program::User;

/// An authority that may vouch for any site there is.
const UNBOUND: &str = "-----BEGIN CERTIFICATE-----
MIIBczCCARmgAwIBAgIUVfUR0XspKronQKzZsa4wWbkpKVQwCgYIKoZIzj0EAwIw
DjEMMAoGA1UEAwwDYW55MCAXDTI2MTEyNzA2NDUwOFoYDzIxMjYxMTAzMDY0NTA4
WjAOMQwwCgYDVQQDDANhbnkwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAATGev+U
pTMBsgDpqX2y0TRqUWRnxiHQGcAT7OYy/af7OTky7Vw23Wer9T0FBDrV4u3ZNHXf
kQfpJ3+OTq2V6UNho1MwUTAdBgNVHQ4EFgQUNYTlv2BBZIpYBVcjR/gGFGvK/d4w
HwYDVR0jBBgwFoAUNYTlv2BBZIpYBVcjR/gGFGvK/d4wDwYDVR0TAQH/BAUwAwEB
/zAKBggqhkjOPQQDAgNIADBFAiEAmLVTRVWCDZKVF4DxWGkz+spPcxgtfMwyXLG0
1zviUcECIBDX8c265+KOlzJUamO84fyWK4kKFTvH8jaqyzwBTiTV
-----END CERTIFICATE-----
";

fn relay_of(data: &Path, domain: &str) -> String {
    let ca = LocalCa::open(data, domain, domain, SystemTime::now()).unwrap();
    ca.path().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn the_authority_of_this_users_relay_is_found_and_shown_with_what_it_may_vouch_for() {
    let user = User::new();
    let none = user.run(&["trust", "--user", "--json"]).failed("INTERNAL", 1);
    assert!(none["help"].as_str().unwrap().contains("--ca"), "{none}");

    let path = relay_of(&user.path(".local/share/mytunnel"), "localhost");
    std::fs::create_dir_all(user.path(".pki/nssdb")).unwrap();
    std::fs::write(user.path(".pki/nssdb/cert9.db"), "").unwrap();
    let planned = user.run(&["trust", "--user", "--print", "--json"]).succeeded().json();
    assert_eq!(planned["ca"]["path"], path.as_str(), "{planned}");
    assert_eq!(planned["ca"]["domains"], serde_json::json!(["localhost"]));
    assert_eq!(planned["stores"][0]["state"], "planned");
    let line = planned["stores"][0]["commands"][0].as_str().unwrap();
    assert!(line.starts_with("certutil -A ") && line.contains(&path), "{line}");
    let said = user.run(&["trust", "--user", "--print"]).succeeded().stdout;
    assert!(
        said.contains("for localhost and names below it, and nothing else") && said.contains(line),
        "{said}"
    );

    relay_of(&user.path(".local/share/mytunnel"), "t.example");
    let several = user.run(&["trust", "--user", "--json"]).failed("BAD_REQUEST", 2);
    assert!(several["message"].as_str().unwrap().contains("local-ca-t.example.pem"), "{several}");
}

#[test]
fn an_authority_for_any_site_is_refused_but_may_be_removed() {
    let user = User::new();
    let path = user.path("any.pem");
    std::fs::write(&path, UNBOUND).unwrap();
    let path = path.to_str().unwrap();
    let refused = user.run(&["trust", "--print", "--json", "--ca", path]).failed("BAD_REQUEST", 2);
    assert!(refused["message"].as_str().unwrap().contains("any site"), "{refused}");
    let removed = user.run(&["trust", "--print", "--json", "--remove", "--user", "--ca", path]);
    assert!(removed.stdout.contains("\"domains\":[]"), "{removed:?}");
    std::fs::write(user.path("any.pem"), "hello").unwrap();
    user.run(&["trust", "--json", "--ca", path]).failed("BAD_REQUEST", 2);
}

#[test]
fn a_file_of_two_certificates_is_no_authority() {
    let user = User::new();
    let path = relay_of(&user.path("data"), "localhost");
    let both = std::fs::read_to_string(&path).unwrap() + UNBOUND;
    std::fs::write(&path, both).unwrap();
    for more in [&[][..], &["--remove"]] {
        let line = [&["trust", "--print", "--json", "--ca", &path], more].concat();
        let refused = user.run(&line).failed("BAD_REQUEST", 2);
        assert!(refused["message"].as_str().unwrap().contains("2 certificates"), "{refused}");
    }
}

#[test]
fn another_machines_authority_is_trusted_for_the_domain_that_its_person_names() {
    let user = User::new();
    let path = relay_of(&user.path("usb"), "t.example");
    let line = ["trust", "--user", "--print", "--json", "--ca", &path];
    for more in [&[][..], &["--domain", "other.example"]] {
        let refused = user.run(&[&line, more].concat()).failed("BAD_REQUEST", 2);
        assert!(refused["message"].as_str().unwrap().contains("may vouch for t.example"), "{refused}");
        assert!(refused["help"].as_str().unwrap().contains("--domain"), "{refused}");
    }
    // There is no store in this home; that is what it gets to.
    let named = user.run(&[&line[..], &["--domain", "t.example"]].concat());
    assert!(named.stdout.contains("\"domains\":[\"t.example\"]"), "{named:?}");
    assert!(user.run(&[&line[..], &["--remove"]].concat()).stdout.contains("t.example"));
}

#[test]
fn what_could_not_be_done_is_said_with_the_line_that_does_it() {
    let user = User::new();
    let path = relay_of(&user.path("data"), "localhost");
    std::fs::create_dir_all(user.path(".pki/nssdb")).unwrap();
    std::fs::write(user.path(".pki/nssdb/cert9.db"), "this is no database").unwrap();
    let line = ["trust", "--user", "--json", "--ca", &path];
    let ended = user.run(&line);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let answer: serde_json::Value = serde_json::from_str(ended.stdout.lines().next().unwrap()).unwrap();
    let store = &answer["stores"][0];
    assert_eq!(store["state"], "failed", "{answer}");
    assert!(store["trouble"].as_str().unwrap().contains("certutil"), "{answer}");
    let by_hand = store["commands"][0].as_str().unwrap();
    assert!(by_hand.contains("certutil") || by_hand.contains("libnss3-tools"), "{answer}");
    ended.failed("INTERNAL", 1);
}
