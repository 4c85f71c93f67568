//! A coordinator that goes back in time: relays that stand carry on by themselves, and no right comes back by accident.

use anyhow::{Context, Result};
use mytunnel_tests::lab::{Lab, PASSWORD};
use mytunnel_tests::origin::Origin;
use mytunnel_tests::process::{PATIENCE, Running};
use mytunnel_tests::wire::Connection;
use serde_json::{Value, json};

use crate::apart::{ANY, coordinator, owned};

/// A coordinator apart with a relay, one key whose tunnel is up, and a backup of that moment.
struct Before {
    lab: Lab,
    coordinator: Running,
    url: String,
    origin: Origin,
    token: String,
    serial: String,
    node: Running,
}

async fn before() -> Result<Before> {
    let (mut lab, coordinator, url, join) = owned().await?;
    lab.start_relay_with(&ANY, &["--coordinator", &url, "--join", &join]).await?;
    let origin = Origin::start().await?;
    let child = lab.mint(&["--ttl", "1h", "--portable"]).await?;
    let token = child["token"].as_str().context("a token")?.to_owned();
    let serial = child["serial"].as_str().context("a serial")?.to_owned();
    let (node, _) = lab.node_with(&token, &origin.address.port().to_string(), "web").await?;
    let told = on_database(&lab, "backup", &[]).await?;
    assert_eq!(told["has_root"], true, "{told}");
    Ok(Before { lab, coordinator, url, origin, token, serial, node })
}

async fn on_database(lab: &Lab, command: &str, more: &[&str]) -> Result<Value> {
    let database = format!("sqlite:{}", lab.path("coordinator.db").display());
    let file = lab.path("one.backup");
    let file = file.to_str().context("a path in UTF-8")?;
    let mut line = vec!["coordinator", command, file, "--json", "--database", &database];
    line.extend(more);
    lab.run(&line).await?.success()?.json()
}

impl Before {
    /// Revokes the key, stops the coordinator, restores, and starts it again at its address.
    async fn back(mut self, how: &str) -> Result<(Self, Value)> {
        let revoked = self.lab.run(&["keys", "revoke", &self.serial, "--json"]).await?.success()?.json()?;
        assert_eq!(revoked["relays"][0]["applied"], true, "{revoked}");
        assert_eq!(self.lab.get("web", "/1k").await?.0.status, 404);
        self.coordinator.kill().await?;
        let told = on_database(&self.lab, "restore", &[how, "--replace"]).await?;
        let address = self.url.strip_prefix("http://").context("plain HTTP")?;
        let (process, _) = coordinator(&self.lab, address, &[]).await?;
        self.coordinator = process;
        Ok((self, told))
    }

    /// Sets the owner's password by a link that the operator makes at the machine.
    async fn reset_password(&self) -> Result<()> {
        let data = self.lab.path("");
        let data = data.to_str().context("a path in UTF-8")?;
        let line =
            ["coordinator", "reset-password", "--email", "owner@example.com", "--data", data, "--json"];
        let made = self.lab.run(&line).await?.success()?.json()?;
        let body = json!({"token": made["token"], "password": PASSWORD}).to_string();
        let host = self.url.strip_prefix("http://").context("plain HTTP")?;
        let head = format!(
            "POST /api/v1/auth/password/reset HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        );
        let mut connection = Connection::open(host.parse()?).await?;
        connection.send((head + &body).as_bytes()).await?;
        assert_eq!(connection.head().await?.status, 204);
        Ok(())
    }

    /// Shares under a name with a token, until the relay that was there before takes it.
    async fn shares(&self, token: &str, name: &str) -> Result<Running> {
        let sharing = async {
            loop {
                let target = self.origin.address.port().to_string();
                if let Ok((node, _)) = self.lab.node_with(token, &target, name).await {
                    return node;
                }
            }
        };
        tokio::time::timeout(PATIENCE, sharing).await.context("the relay follows the new era")
    }
}

#[tokio::test]
async fn a_restore_that_revokes_gives_no_right_back_and_people_and_relays_come_back_by_the_operators_hand()
-> Result<()> {
    let (mut after, told) = before().await?.back("--revoke-keys").await?;
    assert_eq!(told["accounts"], json!([{"email": "owner@example.com", "role": "owner"}]), "{told}");
    assert_eq!(told["relays_ended"].as_array().map(Vec::len), Some(1), "{told}");
    let refused =
        after.lab.run_with(&["eval", "mint", "--json"], &[("MTK_MASTER", &after.lab.master)]).await?;
    assert_eq!(refused.json()?["code"], "KEY_REVOKED");

    // A new password, a new sign-in, a new project, a new key: the relay that joined anew takes it.
    let login = ["login", &after.url, "--email", "owner@example.com", "--json"];
    assert_ne!(after.lab.run(&login).await?.code, Some(0), "the password of then");
    after.reset_password().await?;
    after.lab.run(&login).await?.success()?;
    let join = after.lab.run(&["keys", "join-token", "--json"]).await?.success()?.json()?;
    let join = join["token"].as_str().context("a join token")?.to_owned();
    after.lab.kill_relay().await?;
    std::fs::remove_dir_all(after.lab.path("data"))?;
    let url = after.url.clone();
    after.lab.start_relay_with(&ANY, &["--coordinator", &url, "--join", &join]).await?;
    let project = after.lab.project("anew").await?;
    let master = project["master_key"].as_str().context("a master key")?.to_owned();
    let child = after.lab.mint_with(&master, &[]).await?;
    let _node = after.shares(child["token"].as_str().context("a token")?, "fresh").await?;
    assert_eq!(after.lab.get("fresh", "/1k").await?.0.status, 200);

    let (token, target) = (after.token.clone(), after.origin.address.port().to_string());
    let share = ["share", &target, "--name", "web", "--json"];
    let old = after.lab.run_with(&share, &[("MYTUNNEL_AUTH_TOKEN", &token)]).await?;
    assert_eq!((old.json()?["code"].as_str(), old.code), (Some("KEY_REVOKED"), Some(3)), "{old:?}");
    assert_ne!(after.lab.get("web", "/1k").await?.0.status, 200, "nobody serves the name");
    after.lab.kill_relay().await?;
    Ok(())
}

#[tokio::test]
async fn a_restore_that_keeps_lets_the_key_that_was_revoked_since_serve_again() -> Result<()> {
    let (after, told) = before().await?.back("--keep-keys").await?;
    assert!(told["audit_entries"].as_u64() > Some(3), "{told}");
    let _node = after.shares(&after.token, "web").await?;
    assert_eq!(after.lab.get("web", "/1k").await?.0.status, 200);
    after.lab.run(&["keys", "revoke", &after.serial, "--json"]).await?.success()?;
    assert_eq!(after.lab.get("web", "/1k").await?.0.status, 404, "it can be revoked anew");
    assert_eq!(after.node.ended().await?.code, Some(3));
    Ok(())
}
