//! Keys from their making to their end, and every way in which one can be wrong.

use serde_json::Value;

use crate::program::{Running, User};
use crate::relay::{sign_in, start};

/// A relay with its owner and a project.
pub(crate) struct House {
    pub(crate) user: User,
    relay: Option<Running>,
    pub(crate) project: String,
    pub(crate) master: String,
}

impl House {
    pub(crate) fn new() -> Self {
        let user = User::new();
        let (relay, ready) = start(&user, "data");
        let login = sign_in(&user, &ready);
        assert_eq!(login["account"], "owner@example.com");
        assert!(
            login["tenant"].is_string() && login["device"].is_string() && login["expires_at"].is_u64(),
            "{login}"
        );
        let made = user.run(&["projects", "create", "preview", "--json"]).succeeded().json();
        let text = |field: &str| made[field].as_str().unwrap().to_owned();
        Self { project: text("id"), master: text("master_key"), user, relay: Some(relay) }
    }

    pub(crate) fn mint(&self, more: &[&str]) -> Value {
        let line = [&["eval", "mint", "--json"][..], more].concat();
        self.user.run_with(&line, &[("MTK_MASTER", &self.master)]).succeeded().json()
    }

    fn share(&self, token: &str, more: &[&str]) -> Running {
        let line = [&["share", "--json"][..], more].concat();
        self.user.start_with(&line, &[("MYTUNNEL_AUTH_TOKEN", token)])
    }

    fn refused(&self, token: &str, more: &[&str], code: &str, exit: i32) -> Value {
        let line = [&["share", "--json"][..], more].concat();
        self.user.run_with(&line, &[("MYTUNNEL_AUTH_TOKEN", token)]).failed(code, exit)
    }
}

fn token(minted: &Value) -> &str {
    minted["token"].as_str().unwrap()
}

#[test]
fn a_project_is_two_lines_and_its_master_key_needs_nothing_else() {
    let house = House::new();
    let made = house.user.run(&["projects", "create", "two words"]).succeeded();
    let lines: Vec<&str> = made.stdout.lines().collect();
    assert!(lines[0].starts_with("Project created: proj_"), "{made:?}");
    let master = lines[1].strip_prefix("Master key (save this — shown once): ").unwrap();
    assert!(master.starts_with("mtk_master_") && lines.len() == 2, "{made:?}");

    let stranger = User::new();
    let mint = ["eval", "mint", "--ttl", "90s"];
    let minted = stranger.run_with(&mint, &[("MTK_MASTER", master)]).succeeded();
    assert!(minted.stdout.starts_with("mtk_child_") && minted.stdout.lines().count() == 1, "{minted:?}");
    assert_eq!(minted.stderr, "");
    let list = house.user.run(&["projects", "list", "--json"]).succeeded().json();
    let names: Vec<&str> =
        list["projects"].as_array().unwrap().iter().filter_map(|p| p["name"].as_str()).collect();
    assert!(names.contains(&"two words"), "{list}");
}

#[test]
fn a_key_goes_from_mint_to_revocation() {
    let house = House::new();
    let minted = house.mint(&["--ttl", "1h"]);
    assert_eq!((minted["project"].as_str(), minted["bound"].as_bool()), (Some(&*house.project), Some(true)));
    let mut share = house.share(token(&minted), &["--name", "demo"]);
    let url = share.event("ready")["url"].as_str().unwrap().to_owned();
    assert_eq!(crate::share::visit(&url).0, 200);

    let tree = house.user.run(&["keys", "tree"]).succeeded().stdout;
    let nonce = &minted["serial"].as_str().unwrap()[..16];
    assert!(tree.contains(&format!("└─ {nonce}")), "{tree}");
    let show = house.user.run(&["keys", "show", token(&minted), "--json"]).succeeded().json();
    assert_eq!((show["nonce"].as_str(), show["live_tunnels"].as_u64()), (Some(nonce), Some(1)), "{show}");

    let revoked = house.user.run(&["keys", "revoke", "--cascade", &house.master]).succeeded();
    assert_eq!(revoked.stdout, "Revoked 1 master key.\nRevoked 1 child key (cascade).\n");
    assert!(revoked.stderr.starts_with("Confirmed by 1 of 1 relay within "), "{revoked:?}");
    let ended = share.ended();
    let closed: Value = serde_json::from_str(ended.stdout.lines().rev().nth(1).unwrap()).unwrap();
    assert_eq!((closed["event"].as_str(), closed["code"].as_str()), (Some("closed"), Some("KEY_REVOKED")));
    ended.failed("KEY_REVOKED", 3);

    house.refused(token(&minted), &[], "KEY_REVOKED", 3);
    let mint = house.user.run_with(&["eval", "mint", "--json"], &[("MTK_MASTER", &house.master)]);
    mint.failed("KEY_REVOKED", 3);
    house.user.run(&["audit", "--verify"]).succeeded();
    let audit = house.user.run(&["audit", "--json", "--project", "preview"]).succeeded().json();
    let acts: Vec<&str> =
        audit["entries"].as_array().unwrap().iter().filter_map(|e| e["act"].as_str()).collect();
    assert!(acts.contains(&"key.mint") && acts.contains(&"key.revoke"), "{audit}");
}

#[test]
fn a_master_key_cannot_share_wherever_it_is_put() {
    let house = House::new();
    house.refused(&house.master, &[], "MASTER_CANNOT_ACT", 4);
    let elsewhere = User::new();
    elsewhere.run_with(&["share", "--json"], &[("MTK_MASTER", &house.master)]).failed("MASTER_CANNOT_ACT", 4);
    let warned = elsewhere.run(&["share", "--json", "--token", &house.master]);
    assert!(warned.stderr.contains("others on this machine can read"), "{warned:?}");
    warned.failed("MASTER_CANNOT_ACT", 4);
}

#[test]
fn a_wrong_token_is_invalid_and_says_what_is_wrong_with_it() {
    let house = House::new();
    let minted = house.mint(&["--portable"]);
    let whole = token(&minted);
    let mut mistyped = whole.to_owned();
    let at = whole.len() - 30;
    let other = if &whole[at..=at] == "a" { "b" } else { "a" };
    mistyped.replace_range(at..=at, other);
    for (wrong, said) in [
        (mistyped.as_str(), "checksum"),
        (&whole[..whole.len() - 10], ""),
        ("mtk_child_", "cut off"),
        ("mtk_wrong_abc", "no such kind"),
    ] {
        let event = house.refused(wrong, &[], "INVALID_KEY", 3);
        assert!(event["message"].as_str().unwrap().contains(said), "{event}");
    }
}

#[test]
fn a_bound_key_is_of_no_use_on_another_machine_and_a_portable_one_is() {
    let house = House::new();
    let (bound, portable) = (house.mint(&[]), house.mint(&["--portable"]));
    let elsewhere = User::new();
    let event = elsewhere
        .run_with(&["share", "--json"], &[("MYTUNNEL_AUTH_TOKEN", token(&bound))])
        .failed("INVALID_KEY", 3);
    assert!(event["help"].as_str().unwrap().contains("--portable"), "{event}");
    let mut share = elsewhere.start_with(&["share", "--json"], &[("MYTUNNEL_AUTH_TOKEN", token(&portable))]);
    share.event("ready");
}

#[test]
fn a_key_stays_in_its_project_its_cluster_and_its_names() {
    let house = House::new();
    let other = house.user.run(&["projects", "create", "other", "--json"]).succeeded().json();
    let minted = house.mint(&["--subdomain", "docs-*"]);
    let text = token(&minted);
    house.refused(text, &["--project", other["id"].as_str().unwrap()], "PROJECT_MISMATCH", 4);
    house.refused(text, &["--name", "shop"], "SCOPE_DENIED", 4);
    let mut share = house.share(text, &[]);
    assert!(share.event("ready")["name"].as_str().unwrap().starts_with("docs-"));

    let theirs = House::new();
    let server = house.user.path("config/logins/current");
    let server = std::fs::read_to_string(server).unwrap();
    let foreign = theirs.mint(&["--portable"]);
    let event = house.refused(token(&foreign), &["--server", &server], "INVALID_KEY", 3);
    assert!(event["message"].as_str().unwrap().contains("another server"), "{event}");
}

#[test]
fn a_name_of_another_project_is_taken() {
    let house = House::new();
    let first = house.mint(&[]);
    let mut share = house.share(token(&first), &["--name", "shop"]);
    share.event("ready");
    let other = house.user.run(&["projects", "create", "other", "--json"]).succeeded().json();
    let mint = ["eval", "mint", "--json"];
    let second = house
        .user
        .run_with(&mint, &[("MTK_MASTER", other["master_key"].as_str().unwrap())])
        .succeeded()
        .json();
    let event = house.refused(token(&second), &["--name", "shop"], "NAME_TAKEN", 4);
    assert!(event["help"].as_str().unwrap().contains("--name"), "{event}");
}

#[test]
fn the_holder_of_a_key_may_end_it() {
    let house = House::new();
    let (child, other) = (house.mint(&["--portable"]), house.mint(&["--portable"]));
    let finder = User::new();
    let revoked = finder.run(&["keys", "revoke", token(&child)]).succeeded();
    assert_eq!(revoked.stdout, "Revoked 1 child key.\n");
    house.refused(token(&child), &[], "KEY_REVOKED", 3);

    // People see what works, and are told that there is more; programs get everything.
    let nonce = &child["serial"].as_str().unwrap()[..16];
    let list = house.user.run(&["keys", "list"]).succeeded();
    assert!(!list.stdout.contains(nonce) && list.stderr.contains("1 that ended lately; --all"), "{list:?}");
    let every = house.user.run(&["keys", "list", "--all"]).succeeded();
    assert!(every.stdout.contains(nonce) && !every.stderr.contains("--all"), "{every:?}");
    for line in [&["keys", "list", "--json"][..], &["keys", "tree"]] {
        let seen = house.user.run(line).succeeded().stdout;
        assert!(seen.contains(nonce), "{line:?}: {seen}");
    }
    // With the master key alone, its children.
    let serial = other["serial"].as_str().unwrap();
    finder.run_with(&["keys", "revoke", serial], &[("MTK_MASTER", &house.master)]).succeeded();
    house.refused(token(&other), &[], "KEY_REVOKED", 3);
}

#[test]
fn a_master_key_revoked_alone_names_the_children_that_live_on() {
    let house = House::new();
    house.mint(&[]);
    house.mint(&["--portable"]);
    let holder = User::new();
    let revoked = holder.run(&["keys", "revoke", &house.master, "--json"]).succeeded();
    assert_eq!(revoked.json()["children_left"], 2, "{revoked:?}");
    assert!(revoked.stderr.contains("2 child keys of it still work; add --cascade"), "{revoked:?}");
    let mint = house.user.run_with(&["eval", "mint", "--json"], &[("MTK_MASTER", &house.master)]);
    let event = mint.failed("KEY_REVOKED", 3);
    assert!(event["help"].as_str().unwrap().contains("new master key"), "{event}");
    let again = house.user.run(&["projects", "create", "preview", "--json"]).failed("NAME_TAKEN", 4);
    assert!(again["help"].as_str().unwrap().contains(&house.project), "{again}");
}

#[test]
fn a_child_key_mints_nothing_and_a_bound_one_ends_where_it_was_minted() {
    let house = House::new();
    let child = house.mint(&[]);
    let elsewhere = User::new();
    let mint = ["eval", "mint", "--json"];
    let event = elsewhere.run_with(&mint, &[("MTK_MASTER", token(&child))]).failed("SCOPE_DENIED", 4);
    assert!(event["message"].as_str().unwrap().contains("a child key cannot mint"), "{event}");
    let revoke = ["keys", "revoke", token(&child), "--json"];
    let event = elsewhere.run(&revoke).failed("INVALID_KEY", 3);
    assert!(event["help"].as_str().unwrap().contains("MTK_MASTER"), "{event}");
    elsewhere.run_with(&revoke, &[("MTK_MASTER", &house.master)]).succeeded();
}

#[test]
fn a_revoked_device_is_told_to_sign_in_again() {
    let house = House::new();
    let keys = house.user.run(&["keys", "list", "--json"]).succeeded().json();
    let device = keys["keys"].as_array().unwrap().iter().find(|key| key["kind"] == "user").unwrap();
    house.user.run(&["keys", "revoke", device["nonce"].as_str().unwrap()]).succeeded();
    for line in [&["projects", "list", "--json"][..], &["share", "--json"]] {
        let event = house.user.run(line).failed("KEY_REVOKED", 3);
        assert!(
            event["help"].as_str().unwrap().starts_with("Sign in again: `mytunnel login http"),
            "{event}"
        );
    }
}

#[test]
fn a_person_shares_makes_keys_and_deletes_projects() {
    let house = House::new();
    let mut own = house.user.start(&["share", "--json"]);
    own.event("ready");
    let mut in_project = house.user.start(&["share", "--project", "preview", "--name", "demo", "--json"]);
    let url = in_project.event("ready")["url"].as_str().unwrap().to_owned();
    assert_eq!(crate::share::visit(&url).0, 200);
    let made = house.user.run(&["keys", "create", "--project", "preview", "--json"]).succeeded().json();
    assert_eq!(made["project"], house.project);

    let asked = house.user.run(&["projects", "delete", "preview", "--json"]).failed("BAD_REQUEST", 2);
    assert!(asked["help"].as_str().unwrap().contains("--yes"), "{asked}");
    assert_eq!(house.user.run(&["projects", "delete", "preview"]).code, Some(2), "nobody is there to ask");
    let deleted = house.user.run(&["projects", "delete", "preview", "--yes"]).succeeded();
    assert!(deleted.stdout.starts_with(&format!("Project deleted: {}", house.project)), "{deleted:?}");
    in_project.ended().failed("KEY_REVOKED", 3);
    house.refused(token(&made), &[], "KEY_REVOKED", 3);
    let near = house.user.run(&["projects", "delete", "previe", "--yes", "--json"]);
    near.failed("NOT_FOUND", 1);
    own.signal("TERM").succeeded();
}

#[test]
fn eval_lines_are_read_back_by_a_shell() {
    let house = House::new();
    let lines =
        house.user.run_with(&["eval", "mint", "--output-env"], &[("MTK_MASTER", &house.master)]).succeeded();
    let script = format!("{}\nprintf '%s %s' \"$MYTUNNEL_AUTH_TOKEN\" \"$MYTUNNEL_PROJECT\"", lines.stdout);
    let shell = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    let (key, project) = std::str::from_utf8(&shell.stdout).unwrap().split_once(' ').unwrap();
    assert!(key.starts_with("mtk_child_"), "{key}");
    assert_eq!(project, house.project);
}

#[test]
fn a_wrong_password_or_code_is_refused_and_changes_nothing() {
    let house = House::new();
    let server = std::fs::read_to_string(house.user.path("config/logins/current")).unwrap();
    let login = ["login", &server, "--email", "owner@example.com", "--json"];
    let wrong = house.user.run_with(&login, &[("MYTUNNEL_PASSWORD", "wrong horse battery")]);
    wrong.failed("INVALID_KEY", 3);
    let audit = house.user.run(&["audit", "--json"]).succeeded().stdout;
    assert!(audit.contains("address:127.0.0.1"), "the relay says who has asked: {audit}");
    let late = [&login[..], &["--code", "AAAA-BBBB-CCCC-DDDD"]].concat();
    assert_ne!(house.user.run_with(&late, &[("MYTUNNEL_PASSWORD", "correct horse battery")]).code, Some(0));
    house.user.run(&["projects", "list"]).succeeded();

    let devices = |user: &User| {
        let keys = user.run(&["keys", "list", "--json"]).succeeded().json();
        keys["keys"].as_array().unwrap().iter().filter(|key| key["kind"] == "user").count()
    };
    let before = devices(&house.user);
    house.user.run_with(&login, &[("MYTUNNEL_PASSWORD", "correct horse battery")]).succeeded();
    assert_eq!(devices(&house.user), before, "signing in again is the same device");
}

#[test]
fn a_relay_that_is_gone_is_unreachable() {
    let mut house = House::new();
    let minted = house.mint(&[]);
    house.relay.take().unwrap().signal("TERM").succeeded();
    house.refused(token(&minted), &[], "COORDINATOR_UNREACHABLE", 6);
    house.user.run(&["projects", "list", "--json"]).failed("COORDINATOR_UNREACHABLE", 6);
}
