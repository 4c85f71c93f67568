//! What the program says of itself.

use crate::program::User;

#[test]
fn help_begins_with_the_main_job_and_fits_a_terminal() {
    let help = User::new().run(&["--help"]).succeeded().stdout;
    let at = |text: &str| help.find(text).unwrap_or_else(|| panic!("no {text:?} in\n{help}"));
    assert!(at("  share ") < at("  http ") && at("  http ") < at("  relay "), "{help}");
    assert!(at("Examples:") < at("Environment:"));
    for line in help.lines() {
        assert!(line.chars().count() <= 100, "{line:?}");
    }
}

#[test]
fn every_command_has_help_of_its_own() {
    let user = User::new();
    for command in [
        &["share"][..],
        &["tls"],
        &["http"],
        &["status"],
        &["login"],
        &["accounts", "list"],
        &["accounts", "invite"],
        &["accounts", "role"],
        &["accounts", "remove"],
        &["devices", "list"],
        &["devices", "revoke"],
        &["coordinator", "reset-password"],
        &["coordinator", "backup"],
        &["coordinator", "restore"],
        &["mfa", "enable"],
        &["mfa", "disable"],
        &["mfa", "recovery-codes"],
        &["mfa", "status"],
        &["projects", "create"],
        &["projects", "list"],
        &["projects", "delete"],
        &["keys", "create"],
        &["keys", "list"],
        &["keys", "tree"],
        &["keys", "show"],
        &["keys", "revoke"],
        &["eval", "mint"],
        &["access"],
        &["ticket"],
        &["audit"],
        &["tunnels", "list"],
        &["tunnels", "auth"],
        &["tunnels", "edge-auth"],
        &["tunnels", "close"],
        &["pair", "open"],
        &["pair", "join"],
        &["pair", "say"],
        &["pair", "listen"],
        &["pair", "share"],
        &["pair", "offers"],
        &["pair", "receive"],
        &["pair", "doctor"],
        &["mcp"],
        &["domains", "add"],
        &["domains", "list"],
        &["domains", "verify"],
        &["domains", "remove"],
        &["tenant", "plan"],
        &["trust"],
        &["dashboard"],
        &["relay"],
        &["coordinator"],
        &["completions"],
    ] {
        let mut line = command.to_vec();
        line.push("--help");
        let help = user.run(&line).succeeded().stdout;
        assert!(help.contains("Usage: mytunnel"), "{command:?}: {help}");
        assert!(help.contains("--json"), "{command:?}");
        assert!(!help.contains('\u{1b}'), "no colour in a pipe");
    }
}

#[test]
fn nothing_typed_is_help_with_the_status_of_wrong_usage() {
    let ended = User::new().run(&[]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("Usage: mytunnel"), "{ended:?}");
}

#[test]
fn a_mistyped_command_or_flag_gets_a_suggestion() {
    let user = User::new();
    let command = user.run(&["shar", "."]);
    assert_eq!(command.code, Some(2));
    assert!(command.stderr.contains("'share'"), "{command:?}");
    let exchanged = user.run(&["shrae", "3000"]);
    assert!(exchanged.stderr.contains("a similar subcommand exists: 'share'"), "{exchanged:?}");
    assert!(!exchanged.stderr.contains("usage'"), "{exchanged:?}");
    let nested = user.run(&["keys", "revok"]);
    assert!(nested.stderr.contains("'revoke'"), "{nested:?}");
    let flag = user.run(&["share", "--nam", "x"]);
    assert!(flag.stderr.contains("'--name'"), "{flag:?}");
}

#[test]
fn a_domain_without_its_tunnel_is_told_how_to_name_it() {
    let event = User::new().run(&["domains", "add", "app.example.com", "--json"]).failed("BAD_REQUEST", 2);
    assert!(event["message"].as_str().unwrap().contains("which tunnel app.example.com"), "{event}");
    assert!(event["help"].as_str().unwrap().contains("domains add app.example.com --name web"), "{event}");
}

#[test]
fn wrong_usage_is_json_where_json_was_asked_for() {
    let ended = User::new().run(&["shar", ".", "--json"]);
    assert_eq!(ended.stderr, "");
    let event = ended.failed("BAD_REQUEST", 2);
    assert!(event["message"].as_str().unwrap().contains("'shar'"), "{event}");
    assert!(event["help"].as_str().unwrap().contains("share"), "{event}");
    let event = User::new().run(&["tunnel", "3000", "--json"]).failed("BAD_REQUEST", 2);
    let help = event["help"].as_str().unwrap();
    assert!(help.contains("'tunnels'") && help.contains("'mytunnel share TARGET'"), "{event}");
}

#[test]
fn shells_get_their_completions() {
    for shell in ["bash", "zsh", "fish"] {
        let script = User::new().run(&["completions", shell]).succeeded().stdout;
        assert!(script.contains("mytunnel") && script.contains("projects"), "{shell}");
    }
}
