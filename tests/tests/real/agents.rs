//! The configurations for coding agents, taken from the book as they stand and used the way those agents use them.
//!
//! On the page a file is a line with its path in back-quotes and a colon, and the fenced block after it. The programs
//! themselves are not run: a hook is run by a shell as its agent does it, a terminal's command likewise, and where a script
//! starts the agent, a stand-in that opens the address takes its place.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use mytunnel_tests::lab::Lab;
use mytunnel_tests::origin::Origin;
use mytunnel_tests::process::Running;
use serde_json::Value;

use super::lab;

/// The page's files by their paths.
fn files() -> HashMap<&'static str, String> {
    let mut files = HashMap::new();
    let mut lines = include_str!("../../../docs/src/agents.md").lines();
    let mut named = None;
    while let Some(line) = lines.next() {
        if let Some(path) = line.strip_prefix('`').and_then(|rest| rest.strip_suffix("`:")) {
            named = Some(path);
        } else if line.starts_with("```")
            && let Some(path) = named.take()
        {
            let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            files.insert(path, body.join("\n") + "\n");
        }
    }
    files
}

/// A relay, a server to be shown, a home with the master key, and `mytunnel` on the path.
struct House {
    lab: Lab,
    origin: Origin,
    files: HashMap<&'static str, String>,
}

impl House {
    async fn new() -> Result<Self> {
        let (lab, origin) = (lab().await?, Origin::start().await?);
        let keys = lab.path(".config/mytunnel");
        std::fs::create_dir_all(&keys)?;
        std::fs::write(keys.join("agents.master"), &lab.master)?;
        std::fs::create_dir(lab.path("bin"))?;
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_mytunnel-e2e"), lab.path("bin/mytunnel"))?;
        Ok(Self { lab, origin, files: files() })
    }

    /// A file of the page, for the port of the server at hand.
    fn file(&self, path: &str) -> Result<String> {
        let text = self.files.get(path).with_context(|| format!("the page has no {path}"))?;
        Ok(text.replace("3000", &self.origin.address.port().to_string()))
    }

    fn json(&self, path: &str) -> Result<Value> {
        serde_json::from_str(&self.file(path)?).with_context(|| path.to_owned())
    }

    /// A shell in the agent's place; it has the variables that are named and no others of ours.
    fn shell(&self, command: &str, environment: &[(&str, &str)]) -> Result<Running> {
        let path = format!("{}:{}", self.lab.path("bin").display(), std::env::var("PATH")?);
        let config = self.lab.path("agent");
        let home = self.lab.path("");
        let mut all = vec![
            ("PATH", path.as_ref()),
            ("HOME", home.as_os_str()),
            ("MYTUNNEL_CONFIG_DIR", config.as_os_str()),
        ];
        all.extend(environment.iter().map(|(name, value)| (*name, value.as_ref())));
        Running::start(Path::new("bash"), ["-c", command], &all, home.as_path())
    }

    async fn serves(&self, name: &str) -> Result<()> {
        let (head, _) = self.lab.get(name, "/1k").await?;
        ensure!(head.status == 200, "{name} answers {}", head.status);
        Ok(())
    }
}

#[tokio::test]
async fn claude_code_gets_its_key_from_a_hook() -> Result<()> {
    let house = House::new().await?;
    let settings = house.json(".claude/settings.json")?;
    let hook = settings["hooks"]["SessionStart"][0]["hooks"][0]["command"].as_str().context("a hook")?;
    let file = house.lab.path("claude-env");
    house.shell(hook, &[("CLAUDE_ENV_FILE", &file.to_string_lossy())])?.ended().await?.success()?;
    let environment = std::fs::read_to_string(&file)?;
    ensure!(environment.contains("export MYTUNNEL_AUTH_TOKEN=mtk_child_"), "{environment}");
    ensure!(!environment.contains("master"), "the agent is handed the master key: {environment}");

    // Every command of the agent begins with that file.
    let allowed = settings["permissions"]["allow"][0].as_str().context("a permission")?;
    let command = "mytunnel http 3000 --subdomain preview --json";
    ensure!(house.file("AGENTS.md")?.contains(&command.replace("3000", &port(&house))));
    ensure!(allowed == "Bash(mytunnel http:*)");
    let typed = format!("{environment}\n{}", command.replace("3000", &port(&house)));
    let mut node = house.shell(&typed, &[])?;
    node.event("ready").await?;
    house.serves("preview").await?;

    let outside = typed.replace("--subdomain preview", "--subdomain production");
    let refused = house.shell(&outside, &[])?.ended().await?;
    ensure!(refused.code == Some(4), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn cursor_gets_a_rule_and_a_terminal() -> Result<()> {
    let house = House::new().await?;
    let rule = house.file(".cursor/rules/mytunnel.mdc")?;
    let mint = rule.lines().last().and_then(|line| line.strip_prefix('`')?.strip_suffix('`'));
    let typed = format!(
        "{} && exec mytunnel http {} --subdomain preview-editor --json",
        mint.context("the rule's command")?,
        port(&house)
    );
    house.shell(&typed, &[])?.event("ready").await?;

    let environment = house.json(".cursor/environment.json")?;
    let terminal = environment["terminals"][0]["command"].as_str().context("a terminal")?;
    let mut tunnel = house.shell(terminal, &[("MTK_MASTER", &house.lab.master)])?;
    let url = tunnel.line().await?;
    ensure!(url.contains("preview-cloud"), "{url}");
    house.serves("preview-cloud").await
}

#[tokio::test]
async fn aider_has_the_tunnel_for_as_long_as_it_runs() -> Result<()> {
    let house = House::new().await?;
    ensure!(house.file(".aider.conf.yml")? == "read: [AGENTS.md]\n");
    let script = house.lab.path("share-with-aider.sh");
    std::fs::write(&script, house.file("share-with-aider.sh")?)?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
    // The visitor waits while the tunnel comes up, as a person would with the reload key.
    let url = format!("http://{}/1k", house.lab.host("preview-aider"));
    let aider = format!(
        "#!/bin/sh\n[ \"$1\" = --message ] || exit 9\nuntil curl --silent --fail --noproxy '*' {url} > seen; do :; done\n"
    );
    let stand_in = house.lab.path("bin/aider");
    std::fs::write(&stand_in, aider)?;
    std::fs::set_permissions(&stand_in, std::fs::Permissions::from_mode(0o755))?;
    house.shell("./share-with-aider.sh --message hello", &[])?.ended().await?.success()?;
    ensure!(!std::fs::read(house.lab.path("seen"))?.is_empty());
    let (head, _) = house.lab.get("preview-aider", "/1k").await?;
    ensure!(head.status != 200, "the tunnel outlived the script");
    Ok(())
}

#[tokio::test]
async fn devin_needs_nothing_but_its_token() -> Result<()> {
    let house = House::new().await?;
    let token = house.shell(&house.file("for-devin.sh")?, &[])?.ended().await?.success()?;
    let empty = house.lab.path("devin");
    std::fs::create_dir(&empty)?;
    let home = empty.to_string_lossy();
    let secrets =
        [("MYTUNNEL_AUTH_TOKEN", token.stdout.trim()), ("MYTUNNEL_CONFIG_DIR", &home), ("HOME", &home)];
    let mut node = house.shell(&house.file("in-devin.sh")?, &secrets)?;
    node.event("ready").await?;
    house.serves("preview-devin").await
}

fn port(house: &House) -> String {
    house.origin.address.port().to_string()
}
