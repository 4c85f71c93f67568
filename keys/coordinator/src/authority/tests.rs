use mytunnel_keys::secret::Seed;

use super::*;

const NOW: u64 = 1_800_000_000;
const ROOM: usize = 180;

fn serial(number: u8) -> Serial {
    Serial::from_bytes([number; 16])
}

fn subject(number: u8) -> mytunnel_keys::id::PublicKey {
    Seed::from_bytes([number; 32]).public()
}

fn tenant(name: &str) -> TenantId {
    format!("ten_{name}").parse().unwrap()
}

fn project(name: &str) -> Project {
    Project {
        id: format!("proj_{name}").parse().unwrap(),
        tenant: tenant("a"),
        name: name.to_owned(),
        created_at: NOW - 1000,
        deleted_at: None,
    }
}

fn master_of(name: &str) -> KeyRow {
    master(serial(1), subject(1), &project(name))
}

fn device_of(only: Option<&str>) -> KeyRow {
    let new = crate::store::NewDevice {
        serial: serial(2),
        subject: subject(2),
        tenant: tenant("a"),
        project: only.map(|name| project(name).id),
        account: Some("acc_1".to_owned()),
        actor: Party::System,
        label: "laptop".to_owned(),
        not_after: NOW + DEVICE_TTL,
        proven_at: Some(NOW),
    };
    KeyRow { role: Some(Role::Owner), ..device(&new, NOW) }
}

fn request() -> MintRequest {
    MintRequest {
        project: None,
        ttl: 3600,
        scopes: None,
        hosts: Vec::new(),
        bound: false,
        replaces: None,
        budget: None,
    }
}

fn mint(parent: &KeyRow, project: Option<&Project>, request: &MintRequest) -> Result<Grant, Code> {
    let facts = MintFacts { parent, project, replaced: None, room: ROOM };
    may_mint(&facts, request, NOW).map_err(|refusal| refusal.code)
}

fn child_of(parent: &KeyRow) -> KeyRow {
    let grant = mint(parent, None, &request()).unwrap();
    child(parent, subject(9), &request(), grant, serial(3), NOW)
}

fn hosts(patterns: &[&str]) -> Vec<mytunnel_keys::id::NamePattern> {
    patterns.iter().map(|pattern| pattern.parse().unwrap()).collect()
}

#[test]
fn a_master_mints_what_it_has_itself() {
    let master = master_of("web");
    let grant = mint(&master, None, &request()).unwrap();
    assert_eq!((grant.project, grant.scopes, grant.hosts), (project("web").id, master.scopes, master.hosts));
    assert_eq!(grant.not_after, NOW + 3600);
}

#[test]
fn rights_only_get_narrower() {
    let parent =
        KeyRow { scopes: "http tcp".parse().unwrap(), hosts: hosts(&["web", "pre-*"]), ..master_of("web") };
    let with = |scopes: &str, patterns: &[&str]| {
        let request = MintRequest { scopes: scopes.parse().ok(), hosts: hosts(patterns), ..request() };
        mint(&parent, None, &request).map(|grant| (grant.scopes.to_string(), grant.hosts))
    };
    assert_eq!(with("http", &["web"]), Ok(("http".to_owned(), hosts(&["web"]))));
    assert_eq!(
        with("tcp http", &["pre-a*", "pre-b"]),
        Ok(("http tcp".to_owned(), hosts(&["pre-a*", "pre-b"])))
    );
    for (scopes, patterns) in
        [("udp", &["web"][..]), ("http udp", &["web"]), ("http", &["*"]), ("http", &["web", "other"])]
    {
        assert_eq!(with(scopes, patterns), Err(Code::ScopeDenied), "{scopes} {patterns:?}");
    }
    assert_eq!(with("", &["web"]), Err(Code::BadRequest));
    let nothing_said = mint(&parent, None, &request()).unwrap();
    assert_eq!((nothing_said.scopes, nothing_said.hosts), (parent.scopes, parent.hosts));
}

#[test]
fn children_and_relays_mint_nothing() {
    let master = master_of("web");
    assert_eq!(mint(&child_of(&master), None, &request()), Err(Code::ScopeDenied));
    let relay = relay(serial(4), subject(4), &tenant("a"), RELAY_TTL, NOW);
    assert_eq!(mint(&relay, None, &request()), Err(Code::ScopeDenied));
}

#[test]
fn what_does_not_stand_mints_nothing() {
    let master = master_of("web");
    let revoked = [
        KeyRow { revoked_at: Some(NOW), ..master.clone() },
        KeyRow { revoked_at: Some(NOW), cascaded_at: Some(NOW), ..master.clone() },
        KeyRow { project_deleted_at: Some(NOW), ..master.clone() },
        KeyRow { parent_cascaded_at: Some(NOW), ..master },
    ];
    for parent in revoked {
        assert_eq!(mint(&parent, None, &request()), Err(Code::KeyRevoked));
    }
    let request = MintRequest { project: Some(project("web").id), ..request() };
    let late = KeyRow { not_after: Some(NOW), ..device_of(None) };
    assert_eq!(mint(&late, Some(&project("web")), &request), Err(Code::KeyExpired));
}

#[test]
fn a_device_mints_in_the_projects_of_its_tenant() {
    let asks = |device: &KeyRow, name: Option<&str>, found: Option<&Project>| {
        let request = MintRequest { project: name.map(|name| project(name).id), ..request() };
        mint(device, found, &request).map(|grant| grant.project)
    };
    let (web, own) = (project("web"), device_of(None));
    assert_eq!(asks(&own, Some("web"), Some(&web)), Ok(web.id.clone()));
    assert_eq!(asks(&own, None, None), Err(Code::BadRequest));
    assert_eq!(asks(&own, Some("web"), None), Err(Code::NotFound));
    let foreign = Project { tenant: tenant("b"), ..web.clone() };
    assert_eq!(asks(&own, Some("web"), Some(&foreign)), Err(Code::NotFound));
    let deleted = Project { deleted_at: Some(NOW), ..web.clone() };
    assert_eq!(asks(&own, Some("web"), Some(&deleted)), Err(Code::NotFound));
    let only = device_of(Some("web"));
    assert_eq!(asks(&only, None, None), Ok(web.id));
    assert_eq!(asks(&only, Some("other"), Some(&project("other"))), Err(Code::ProjectMismatch));
}

#[test]
fn a_life_has_bounds_and_ends_with_the_parents() {
    let of = |parent: &KeyRow, ttl| {
        let request = MintRequest { ttl, project: Some(project("web").id), ..request() };
        mint(parent, Some(&project("web")), &request).map(|grant| grant.not_after)
    };
    let master = master_of("web");
    assert_eq!(of(&master, MIN_TTL), Ok(NOW + MIN_TTL));
    assert_eq!(of(&master, MAX_TTL), Ok(NOW + MAX_TTL));
    for ttl in [0, MIN_TTL - 1, MAX_TTL + 1, u64::MAX] {
        assert_eq!(of(&master, ttl), Err(Code::BadRequest));
    }
    let ending = KeyRow { not_after: Some(NOW + 90), ..device_of(None) };
    assert_eq!(of(&ending, 3600), Ok(NOW + 90));
}

#[test]
fn patterns_fit_the_certificate() {
    let of = |patterns: Vec<String>| {
        let hosts = patterns.iter().map(|pattern| pattern.parse().unwrap()).collect();
        mint(&master_of("web"), None, &MintRequest { hosts, ..request() }).map(drop)
    };
    assert_eq!(of((0..8).map(|number| format!("n{number}")).collect()), Ok(()));
    assert_eq!(of((0..9).map(|number| format!("n{number}")).collect()), Err(Code::BadRequest));
    assert_eq!(of(vec!["x".repeat(60), "y".repeat(60), "z".repeat(54)]), Ok(()));
    assert_eq!(of(vec!["x".repeat(60), "y".repeat(60), "z".repeat(55)]), Err(Code::BadRequest));
}

#[test]
fn a_repeated_mint_is_the_same_child_for_its_own_parent_only() {
    let (master, other) = (master_of("web"), KeyRow { serial: serial(8), ..master_of("other") });
    let there = child_of(&master);
    assert_eq!(minted_before(&master, there.clone(), NOW), Ok(there.clone()));
    let code = |result: Result<KeyRow, Refusal>| result.map(|key| key.serial).map_err(|refusal| refusal.code);
    assert_eq!(code(minted_before(&other, there.clone(), NOW)), Err(Code::BadRequest));
    assert_eq!(code(minted_before(&master, there.clone(), NOW + 3600)), Err(Code::KeyExpired));
    let revoked = KeyRow { revoked_at: Some(NOW), ..there };
    assert_eq!(code(minted_before(&master, revoked, NOW)), Err(Code::KeyRevoked));
}

#[test]
fn a_key_is_revoked_since_the_first_of_its_reasons() {
    let key = KeyRow {
        revoked_at: Some(30),
        parent_cascaded_at: Some(10),
        project_deleted_at: Some(20),
        cascaded_at: Some(5),
        ..master_of("web")
    };
    assert_eq!(revoked_at(&key), Some(10), "its own cascade counts for its children, not for itself");
}

#[test]
fn the_administrator_is_a_person() {
    let account = Person {
        id: "acc_1".to_owned(),
        tenant: tenant("a"),
        email: "a@b.example".to_owned(),
        role: Role::Owner,
        session: "ses_1".to_owned(),
        auth_time: NOW,
        began_at: NOW,
        proven: "pwd".parse().unwrap(),
    };
    let code = |caller: &Caller| may_administer(caller, "do it").map_err(|refusal| refusal.code);
    let by = |key: KeyRow| Caller::Key(Box::new(key));
    assert_eq!(code(&Caller::Account(account)), Ok(tenant("a")));
    assert_eq!(code(&by(device_of(None))), Ok(tenant("a")));
    assert_eq!(code(&by(device_of(Some("web")))), Err(Code::ScopeDenied));
    assert_eq!(code(&by(master_of("web"))), Err(Code::MasterCannotAct));
    assert_eq!(code(&by(child_of(&master_of("web")))), Err(Code::ScopeDenied));
    assert_eq!(code(&by(relay(serial(4), subject(4), &tenant("a"), RELAY_TTL, NOW))), Err(Code::ScopeDenied));
}

#[test]
fn who_may_revoke_what() {
    let master = master_of("web");
    let child = child_of(&master);
    let sibling = KeyRow { serial: serial(5), ..child.clone() };
    let elsewhere =
        KeyRow { tenant: tenant("b"), serial: serial(6), parent: Some(serial(7)), ..child.clone() };
    let relay = relay(serial(4), subject(4), &tenant("a"), RELAY_TTL, NOW);
    let may =
        |caller: &KeyRow, target: &KeyRow| may_revoke(&Caller::Key(Box::new(caller.clone())), target).is_ok();
    let device = device_of(None);
    for target in [&master, &child, &device, &relay] {
        assert!(may(&device, target), "the owner's device: all of the tenant");
        assert!(may(target, target), "everybody: their own");
    }
    assert!(!may(&device, &elsewhere));
    assert!(may(&master, &child) && may(&master, &sibling));
    assert!(!may(&master, &elsewhere) && !may(&master, &device) && !may(&master, &relay));
    assert!(!may(&child, &sibling) && !may(&child, &master));
    assert!(!may(&relay, &child) && !may(&relay, &master));
    let only = device_of(Some("other"));
    assert!(!may(&only, &child) && !may(&only, &relay), "a device for one project stays in it");
}

#[test]
fn a_cascade_is_one_change_that_outlives_every_child() {
    let master = master_of("web");
    let reckoning = reckon(&master, true, 17, NOW);
    assert_eq!((reckoning.news, reckoning.masters, reckoning.children), (true, 1, 17));
    let until = NOW + TREE_LIFE;
    assert_eq!(reckoning.change, Some(Change::RevokeTree { serial: master.serial, until }));
    assert!(until > NOW + MAX_TTL, "a child minted at this second ends earlier");
    let device = reckon(&device_of(None), true, 0, NOW);
    let until = NOW + DEVICE_TTL + REVOKED_GRACE;
    assert_eq!(
        device.change,
        Some(Change::RevokeTree { serial: serial(2), until }),
        "the device's own life is longer"
    );
}

#[test]
fn a_single_revocation_tells_relays_of_keys_that_they_can_see() {
    let master = master_of("web");
    let alone = reckon(&master, false, 0, NOW);
    assert_eq!((alone.news, alone.masters, alone.change), (true, 1, None));
    let child = child_of(&master);
    let change = Change::Revoke { serial: child.serial, until: NOW + 3600 + REVOKED_GRACE };
    let reckoning = reckon(&child, true, 0, NOW);
    assert_eq!((reckoning.masters, reckoning.children, reckoning.change), (0, 1, Some(change)));
}

#[test]
fn what_is_revoked_already_counts_no_more() {
    let revoked = KeyRow { revoked_at: Some(NOW), ..master_of("web") };
    let again = reckon(&revoked, false, 0, NOW);
    assert_eq!((again.news, again.masters, again.change), (false, 0, None));
    let widened = reckon(&revoked, true, 3, NOW);
    assert_eq!((widened.news, widened.masters, widened.children), (true, 0, 3));
    assert!(widened.change.is_some());
    let whole = KeyRow { cascaded_at: Some(NOW), ..revoked };
    assert!(!reckon(&whole, true, 0, NOW).news);
    let child = KeyRow { parent_cascaded_at: Some(NOW), ..child_of(&master_of("web")) };
    assert_eq!(reckon(&child, false, 0, NOW).children, 0, "it went with its parent");
}

#[test]
fn a_revoked_relay_or_anothers_key_is_not_enrolled() {
    let relay = relay(serial(4), subject(4), &tenant("a"), RELAY_TTL, NOW);
    assert!(may_enroll(None).is_ok() && may_enroll(Some(&relay)).is_ok());
    let revoked = KeyRow { revoked_at: Some(NOW), ..relay.clone() };
    assert_eq!(may_enroll(Some(&revoked)).unwrap_err().code, Code::KeyRevoked);
    assert_eq!(may_enroll(Some(&master_of("web"))).unwrap_err().code, Code::BadRequest);
    assert!(standing_relay(Some(relay.clone()), NOW).is_ok());
    assert!(standing_relay(None, NOW).is_err());
    assert!(standing_relay(Some(master_of("web")), NOW).is_err());
    assert!(standing_relay(Some(relay), NOW + RELAY_TTL).is_err());
}

#[test]
fn a_relay_renews_whenever_it_was_not_revoked_and_nobody_else_does() {
    let relay = relay(serial(4), subject(4), &tenant("a"), RELAY_TTL, NOW);
    let long_after = NOW + 1000 * RELAY_TTL;
    assert!(renewable_relay(Some(relay.clone()), long_after).is_ok());
    let revoked = KeyRow { revoked_at: Some(NOW), ..relay };
    assert_eq!(renewable_relay(Some(revoked), NOW).unwrap_err().code, Code::KeyRevoked);
    assert_eq!(renewable_relay(None, NOW).unwrap_err().code, Code::InvalidKey);
    assert_eq!(renewable_relay(Some(device_of(None)), NOW).unwrap_err().code, Code::InvalidKey);
    let ended = may_ask_renewal(&device_of(None), NOW + DEVICE_TTL).unwrap_err();
    assert_eq!(ended.code, Code::KeyExpired, "what has ended stays ended for all but relays");
}

#[test]
fn a_relays_word_goes_as_far_as_the_key_behind_it() {
    let child = KeyRow { hosts: hosts(&["pr-*"]), ..child_of(&master_of("web")) };
    let name = |name: &str| name.parse::<TunnelName>().unwrap();
    let may = |key: &KeyRow, tunnel: &str, now| may_have_tunnel(key, &name(tunnel), TunnelKind::Http, now);
    assert!(may(&child, "pr-1", NOW) && may(&device_of(None), "web", NOW));
    assert!(!may(&child, "web", NOW), "another name");
    assert!(!may(&guest(child.clone(), "tkt_a"), "pr-1", NOW), "a guest serves nothing");
    assert!(!may_have_tunnel(
        &KeyRow { scopes: "http".parse().unwrap(), ..child.clone() },
        &name("pr-1"),
        TunnelKind::Tcp,
        NOW
    ));
    let passes = |key: &KeyRow| may_have_tunnel(key, &name("pr-1"), TunnelKind::Tls, NOW);
    assert!(!passes(&child), "not unasked");
    assert!(passes(&KeyRow { scopes: "tls".parse().unwrap(), ..child.clone() }));
    assert!(passes(&device_of(None)), "a person need not ask");
    assert!(!passes(&KeyRow { scopes: "tcp".parse().unwrap(), ..device_of(None) }));
    let end = child.not_after.unwrap();
    assert!(may(&child, "pr-1", end + REVOKED_GRACE - 1), "a report may be late");
    assert!(!may(&child, "pr-1", end + REVOKED_GRACE), "the key is long over");
    assert!(!may(&KeyRow { revoked_at: Some(NOW), ..child.clone() }, "pr-1", NOW));
    assert!(!may(&KeyRow { parent_cascaded_at: Some(NOW), ..child }, "pr-1", NOW));
    assert!(!may(&master_of("web"), "pr-1", NOW), "it has no tunnels");
}

#[test]
fn a_child_sets_gates_and_changes_what_its_like_have_set() {
    let (owner, master) = (device_of(None), master_of("p"));
    let child = Caller::Key(Box::new(child_of(&master)));
    let own = SetBy::ChildOf(serial(1));
    let may = |caller: &Caller, kind, there: &[(GateKind, SetBy)]| {
        may_change_gate(caller, kind, there).map_err(|refusal| refusal.code)
    };
    let all = [
        GateKind::Basic,
        GateKind::SignIn,
        GateKind::Pin,
        GateKind::Bearer,
        GateKind::Addresses,
        GateKind::End,
    ];
    for kind in all {
        assert_eq!(may(&child, kind, &[]), Ok(()), "{kind:?}");
        assert_eq!(may(&child, kind, &[(kind, own)]), Ok(()), "{kind:?}");
        for other in [SetBy::Owner, SetBy::ChildOf(serial(9))] {
            assert_eq!(may(&child, kind, &[(kind, other)]), Err(Code::ScopeDenied), "{kind:?}");
        }
        let everything = all.map(|kind| (kind, SetBy::ChildOf(serial(9))));
        assert_eq!(may(&Caller::Key(Box::new(owner.clone())), kind, &everything), Ok(()));
        assert_eq!(may(&Caller::Key(Box::new(master.clone())), kind, &[]), Err(Code::MasterCannotAct));
    }
}

#[test]
fn a_token_is_no_way_round_what_somebody_else_asks_people_for() {
    let child = Caller::Key(Box::new(child_of(&master_of("p"))));
    let own = SetBy::ChildOf(serial(1));
    let may = |there: &[(GateKind, SetBy)]| may_change_gate(&child, GateKind::Bearer, there).is_ok();
    for asked in [GateKind::Basic, GateKind::SignIn, GateKind::Pin] {
        assert!(!may(&[(asked, SetBy::Owner)]), "{asked:?}");
        assert!(may(&[(asked, own)]), "{asked:?}");
    }
    // It does not stand beside these.
    assert!(may(&[(GateKind::Addresses, SetBy::Owner), (GateKind::End, SetBy::Owner)]));
}
