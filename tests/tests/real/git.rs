//! git over HTTP through the tunnel: clone, push, clone again.

use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result};
use tokio::process::Command;

use crate::{free_port, lab, listening, output};

#[tokio::test]
async fn git_clones_and_pushes() -> Result<()> {
    let lab = lab().await?;
    let server = lab.path("server");
    let script = server.join("cgi-bin").join("git");
    std::fs::create_dir_all(server.join("cgi-bin"))?;
    let repositories = lab.path("repositories");
    let backend = format!(
        "#!/bin/sh\nGIT_PROJECT_ROOT={} GIT_HTTP_EXPORT_ALL=1 REMOTE_USER=visitor exec git http-backend\n",
        repositories.display()
    );
    std::fs::write(&script, backend)?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
    let git = || {
        let mut command = Command::new("git");
        let author = [("GIT_AUTHOR_NAME", "a"), ("GIT_AUTHOR_EMAIL", "a@example.com")];
        let committer = [("GIT_COMMITTER_NAME", "a"), ("GIT_COMMITTER_EMAIL", "a@example.com")];
        command.envs(author).envs(committer).env("GIT_TERMINAL_PROMPT", "0").env("HOME", lab.path("home"));
        command
    };
    let bare = repositories.join("demo.git");
    let bare_text = bare.to_str().context("a path in UTF-8")?;
    output(git().args(["init", "--quiet", "--bare", "--initial-branch=main", bare_text])).await?;
    output(git().args(["-C", bare_text, "config", "http.receivepack", "true"])).await?;

    let port = free_port()?;
    let _python = Command::new("python3")
        .args(["-m", "http.server", "--cgi", &port.to_string(), "--bind", "127.0.0.1"])
        .current_dir(&server)
        .kill_on_drop(true)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .context("python3 is not installed")?;
    listening(port).await?;
    let (_node, ready) = lab.node(&port.to_string(), "git").await?;
    let url = format!("{}/cgi-bin/git/demo.git", ready["url"].as_str().context("url")?);

    let work = lab.path("work");
    let work = work.to_str().context("a path in UTF-8")?;
    output(git().args(["clone", "--quiet", &url, work])).await?;
    std::fs::write(lab.path("work").join("big.bin"), pseudo_random(600_000))?;
    output(git().args(["-C", work, "add", "."])).await?;
    output(git().args(["-C", work, "commit", "--quiet", "-m", "first"])).await?;
    output(git().args(["-C", work, "push", "--quiet", "origin", "HEAD:main"])).await?;

    let again = lab.path("again");
    output(git().args(["clone", "--quiet", &url, again.to_str().context("a path in UTF-8")?])).await?;
    assert_eq!(std::fs::read(again.join("big.bin"))?, pseudo_random(600_000));
    Ok(())
}

/// Bytes that do not compress, the same each time.
fn pseudo_random(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}
