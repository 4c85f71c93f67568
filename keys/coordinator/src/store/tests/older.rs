//! Databases that an earlier release wrote.

use mytunnel_keys::id::TenantId;
use rusqlite::{Connection, params};

use super::*;

const NOW: u64 = 1_800_000_000;
const OURS: u32 = 0x4d54_554e;

/// A database of the first version, in which `tenants` have an account each and these projects.
fn of_the_first_version(path: &Path, tenants: &[(&TenantId, &[&str])]) {
    let old = Connection::open(path).unwrap();
    old.execute_batch(include_str!("../migrations/1.sql")).unwrap();
    let zero = [0_u8; 32];
    old.execute("INSERT INTO head VALUES (1, 1, 0, $1, 0, $1)", [zero]).unwrap();
    for (number, (tenant, projects)) in tenants.iter().enumerate() {
        let tenant = tenant.as_str();
        old.execute("INSERT INTO tenants (id, created_at) VALUES ($1, 5)", [tenant]).unwrap();
        let email = format!("{number}@b.example");
        old.execute("INSERT INTO accounts VALUES ($1, $2, $1, '', 5)", params![email, tenant]).unwrap();
        for project in *projects {
            let id = format!("proj_{}", project.replace(' ', ""));
            old.execute(
                "INSERT INTO projects (id, tenant, name, created_at) VALUES ($1, $2, $3, 5)",
                params![id, tenant, project],
            )
            .unwrap();
        }
    }
    old.pragma_update(None, "application_id", OURS).unwrap();
    old.pragma_update(None, "user_version", 1).unwrap();
}

/// Id and name of every project of a tenant, by name.
fn projects(path: &Path, tenant: &TenantId) -> Vec<(String, String)> {
    let database = Connection::open(path).unwrap();
    let mut found =
        database.prepare("SELECT id, name FROM projects WHERE tenant = $1 ORDER BY name").unwrap();
    let rows = found.query_map([tenant.as_str()], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.collect::<rusqlite::Result<_>>().unwrap()
}

fn opened(place: &tempfile::TempDir, path: &Path) -> Opened {
    Opened::file(path, DataDir::lock(place.path()).unwrap(), NOW).unwrap()
}

#[tokio::test]
async fn a_tenant_of_the_first_version_gets_its_own_project() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("mytunnel.db");
    let tenant = |byte: u8| TenantId::from_entropy(&[byte; 10]);
    let (plain, named) = (tenant(1), tenant(2));
    of_the_first_version(&path, &[(&plain, &["web"]), (&named, &["personal", "personal 2"])]);

    let store = opened(&place, &path);
    let log: Vec<(u64, String, String)> = store
        .engine
        .read(|reading| {
            reading.all("SELECT at, act, subject FROM audit ORDER BY seq", &[], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
        })
        .await
        .unwrap();
    assert_eq!(log.len(), 2);
    assert!(log.iter().all(|(at, ..)| *at == NOW), "{log:?}");
    assert_eq!(store.engine.head().borrow().audit_seq, 2);
    put(&store.engine, "x", vec![1]).await.unwrap();
    store.engine.close();
    drop(store);

    let own = |tenant: &TenantId, name: &str| (tenant.home_project().to_string(), name.to_owned());
    let web = ("proj_web".to_owned(), "web".to_owned());
    assert_eq!(projects(&path, &plain), [own(&plain, "personal"), web]);
    let kept = [("proj_personal", "personal"), ("proj_personal2", "personal 2")];
    let kept = kept.map(|(id, name)| (id.to_owned(), name.to_owned()));
    assert_eq!(projects(&path, &named), [&kept[..], &[own(&named, "personal 3")]].concat());

    // Nothing is done twice.
    let again = opened(&place, &path);
    assert_eq!(again.engine.head().borrow().audit_seq, 2);
    again.engine.close();
    assert_eq!(projects(&path, &plain).len(), 2);
}

#[tokio::test]
async fn a_tenant_that_has_its_project_keeps_it_and_others_get_none() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("mytunnel.db");
    let there = TenantId::from_entropy(&[3; 10]);
    of_the_first_version(&path, &[(&there, &[])]);
    let old = Connection::open(&path).unwrap();
    let id = there.home_project();
    old.execute(
        "INSERT INTO projects (id, tenant, name, created_at) VALUES ($1, $2, 'mine', 5)",
        params![id.as_str(), there.as_str()],
    )
    .unwrap();
    old.execute("INSERT INTO tenants (id, created_at) VALUES ('ten_nobody', 5)", []).unwrap();
    drop(old);

    let store = opened(&place, &path);
    store.engine.close();
    drop(store);
    assert_eq!(projects(&path, &there), [(id.to_string(), "mine".to_owned())]);
    assert!(projects(&path, &"ten_nobody".parse().unwrap()).is_empty());
}

#[tokio::test]
async fn accounts_of_before_there_were_roles_are_owners_without_a_second_factor() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("mytunnel.db");
    of_the_first_version(&path, &[(&TenantId::from_entropy(&[4; 10]), &[])]);
    let store = opened(&place, &path);
    let (account, factor) = store
        .engine
        .read(|reading| {
            let account = reading.account_by_email("0@b.example")?.ok_or(StoreError::Malformed("test"))?;
            Ok::<_, StoreError>((account.clone(), reading.second_factor(&account.id)?))
        })
        .await
        .unwrap();
    assert_eq!(account.role, crate::authority::Role::Owner);
    assert!(factor.is_some_and(|factor| !factor.is_on()));
    store.engine.close();
}

#[tokio::test]
async fn members_of_before_share_the_narrowest_budget_of_their_devices() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("mytunnel.db");
    let tenant = TenantId::from_entropy(&[6; 10]);
    of_the_first_version(&path, &[(&tenant, &[])]);
    let old = Connection::open(&path).unwrap();
    let step = include_str!("../migrations/account_budgets.sql");
    let texts = migrations::MIGRATIONS.iter().map(|step| match step {
        migrations::Step::Sql(text) => Some(*text),
        migrations::Step::Rows(_) | migrations::Step::Postgres(_) => None,
    });
    let before: Vec<_> = texts.take_while(|text| *text != Some(step)).collect();
    for text in before.iter().skip(1).flatten() {
        old.execute_batch(text).unwrap();
    }
    old.pragma_update(None, "user_version", u32::try_from(before.len()).unwrap()).unwrap();
    for (byte, cents, spent) in [(1_u8, 500, 7), (2, 20, 5)] {
        old.execute(
            "INSERT INTO keys (serial, nonce, kind, subject, tenant, account, label, hosts, scopes, issued_at,
                               not_after, max_tunnels, max_staleness, bound)
             VALUES ($1, $2, 'user', $1, $3, '0@b.example', '', '*', '', 5, 9, 1, 60, 1)",
            params![[byte; 16], format!("{byte:016x}"), tenant.as_str()],
        )
        .unwrap();
        old.execute("INSERT INTO budgets VALUES ($1, $2, 1)", params![[byte; 16], cents]).unwrap();
        old.execute("INSERT INTO spend VALUES ($1, 24317, $2)", params![[byte; 16], spent]).unwrap();
    }
    old.execute("UPDATE accounts SET role = 'member'", []).unwrap();
    drop(old);

    opened(&place, &path).engine.close();
    let new = Connection::open(&path).unwrap();
    let one = |text: &str| new.query_row(text, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(one("SELECT cents FROM account_budgets WHERE account = '0@b.example'"), 20);
    assert_eq!(one("SELECT count(*) FROM budgets WHERE cents = 20"), 2);
    assert_eq!(one("SELECT spent FROM account_spend WHERE month = 24317"), 12);
}

#[tokio::test]
async fn who_made_a_master_of_before_is_taken_from_the_audit_log() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("mytunnel.db");
    let tenant = TenantId::from_entropy(&[5; 10]);
    of_the_first_version(&path, &[(&tenant, &["a", "b", "c"])]);
    let old = Connection::open(&path).unwrap();
    let key = |byte: u8, kind: &str, project: Option<&str>, account: Option<&str>| {
        let nonce = format!("{byte:016x}");
        old.execute(
            "INSERT INTO keys (serial, nonce, kind, subject, tenant, project, account, label, hosts, scopes,
                               issued_at, max_tunnels, max_staleness, bound)
             VALUES ($1, $2, $3, $1, $4, $5, $6, '', '*', '', 5, 1, 60, 0)",
            params![[byte; 16], nonce, kind, tenant.as_str(), project, account],
        )
        .unwrap();
        nonce
    };
    let device = key(1, "user", None, Some("0@b.example"));
    for (byte, project) in [(2, "proj_a"), (3, "proj_b"), (4, "proj_c")] {
        key(byte, "master", Some(project), None);
    }
    let acts = [
        (format!("user:{device}"), "proj_a"),
        ("account:0@b.example".to_owned(), "proj_b"),
        ("system:coordinator".to_owned(), "proj_c"),
    ];
    for (seq, (actor, project)) in acts.iter().enumerate() {
        old.execute(
            "INSERT INTO audit (seq, at, actor, act, subject, project, detail, hash)
             VALUES ($1, 5, $2, 'project.create', '', $3, '', x'00')",
            params![seq + 1, actor, project],
        )
        .unwrap();
    }
    old.execute("UPDATE head SET audit_seq = 3", []).unwrap();
    drop(old);

    let store = opened(&place, &path);
    let makers = store
        .engine
        .read(|reading| {
            reading.all("SELECT serial, account, device FROM makers ORDER BY serial", &[], |row| {
                Ok((row.get::<[u8; 16]>(0)?, row.get::<Option<String>>(1)?, row.get::<Option<Vec<u8>>>(2)?))
            })
        })
        .await
        .unwrap();
    let account = || Some("0@b.example".to_owned());
    assert_eq!(makers, [([2; 16], account(), Some(vec![1; 16])), ([3; 16], account(), None)]);
    store.engine.close();
}
