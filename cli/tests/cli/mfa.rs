//! The second factor, from the command line.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::BASE32_NOPAD;
use serde_json::Value;
use totp_rs::{Builder, Secret};

use crate::delegation::House;

const PASSWORD: (&str, &str) = ("MYTUNNEL_PASSWORD", "correct horse battery");

/// The six digits, so many steps from now.
fn digits(secret: &str, steps: u64) -> String {
    let secret: [u8; 20] = BASE32_NOPAD.decode(secret.as_bytes()).unwrap().try_into().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    Builder::new()
        .with_secret(Secret::new_stack(secret))
        .build()
        .unwrap()
        .generate(now + steps * 30)
        .to_string()
}

/// Switches it on as a script does; answers the secret and the recovery codes.
fn enable(house: &House) -> (String, Vec<String>) {
    let mut command = house.user.command(&["mfa", "enable", "--json"]);
    command.env(PASSWORD.0, PASSWORD.1).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    let shown = next();
    let secret = shown["secret_base32"].as_str().unwrap().to_owned();
    assert!(shown["otpauth_uri"].as_str().unwrap().contains(&secret), "{shown}");
    writeln!(child.stdin.take().unwrap(), "{}", digits(&secret, 0)).unwrap();
    let enabled = next();
    assert_eq!((&enabled["event"], &enabled["status"]), (&Value::from("enabled"), &Value::from("enabled")));
    assert!(child.wait().unwrap().success());
    let codes = enabled["recovery_codes"].as_array().unwrap();
    (secret, codes.iter().map(|code| code.as_str().unwrap().to_owned()).collect())
}

#[test]
fn login_asks_for_the_second_factor_once_it_is_on() {
    let house = House::new();
    let off = house.user.run(&["mfa", "status", "--json"]).succeeded().json();
    assert_eq!((&off["mfa_enabled"], &off["recovery_codes_left"]), (&Value::from(false), &Value::from(0)));
    let (secret, codes) = enable(&house);
    assert_eq!(codes.len(), 10);
    let on = house.user.run(&["mfa", "status"]).succeeded();
    assert!(on.stdout.contains("is on; 10 recovery codes are left"), "{on:?}");

    let server = std::fs::read_to_string(house.user.path("config/logins/current")).unwrap();
    let login = ["login", &server, "--email", "owner@example.com", "--json"];
    let with = |code: &str| house.user.run_with(&login, &[PASSWORD, ("MYTUNNEL_TOTP", code)]);
    let missing = house.user.run_with(&login, &[PASSWORD]).failed("MFA_REQUIRED", 3);
    assert!(missing["help"].as_str().unwrap().contains("MYTUNNEL_TOTP"), "{missing}");
    with("000000").failed("MFA_INVALID", 3);
    // The next step's code: that of this step may be the one that the enrolment used up.
    let next = digits(&secret, 1);
    let login = with(&next).succeeded().json();
    for field in ["account", "tenant", "device", "expires_at"] {
        assert!(!login[field].is_null(), "{login}");
    }
    with(&next).failed("MFA_INVALID", 3);
    with(&codes[0]).succeeded();

    let code = |code| [PASSWORD, ("MYTUNNEL_TOTP", code)];
    let fresh = house.user.run_with(&["mfa", "recovery-codes"], &code(&codes[1])).succeeded();
    let fresh: Vec<&str> = fresh.stdout.lines().collect();
    assert!(fresh.len() == 10 && fresh.iter().all(|code| code.len() == 9), "{fresh:?}");
    house.user.run_with(&["mfa", "disable", "--json"], &code(&codes[2])).failed("MFA_INVALID", 3);
    let disabled = house.user.run_with(&["mfa", "disable", "--json"], &code(fresh[0])).succeeded().json();
    assert_eq!(disabled["status"], "disabled");
    assert_eq!(house.user.run(&["mfa", "status", "--json"]).succeeded().json()["mfa_enabled"], false);
}

#[test]
fn without_the_digits_nothing_is_switched_on() {
    let house = House::new();
    house.user.run_with(&["mfa", "enable", "--json"], &[PASSWORD]).failed("MFA_REQUIRED", 3);
    house.user.run_with(&["mfa", "enable", "--json"], &[]).failed("BAD_REQUEST", 2);
    let shown = house.user.run_with(&["mfa", "enable"], &[PASSWORD]);
    assert!(shown.stderr.contains("████") && shown.stderr.contains("Or type this secret"), "{shown:?}");
    assert_eq!(house.user.run(&["mfa", "status", "--json"]).succeeded().json()["mfa_enabled"], false);
}
