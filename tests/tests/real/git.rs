//! git over HTTP through the tunnel: clone, push, clone again.

use anyhow::{Context, Result};
use mytunnel_tests::ports;
use tokio::process::Command;

use crate::{lab, listening, output};

/// `git http-backend` behind Python's HTTP server: a CGI host of a few lines (RFC 3875).
const SERVER: &str = r#"
import http.server, os, subprocess, sys

class Git(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def do_GET(self):
        path, _, query = self.path.partition("?")
        body = self.body()
        env = dict(os.environ, GIT_PROJECT_ROOT=sys.argv[2], GIT_HTTP_EXPORT_ALL="1", REMOTE_USER="visitor",
                   REQUEST_METHOD=self.command, PATH_INFO=path, QUERY_STRING=query,
                   CONTENT_TYPE=self.headers.get("Content-Type", ""), CONTENT_LENGTH=str(len(body)),
                   HTTP_CONTENT_ENCODING=self.headers.get("Content-Encoding", ""),
                   GIT_PROTOCOL=self.headers.get("Git-Protocol", ""))
        output = subprocess.run(["git", "http-backend"], input=body, env=env, capture_output=True).stdout
        head, _, answer = output.partition(b"\r\n\r\n")
        fields = [line.split(": ", 1) for line in head.decode().split("\r\n")]
        status = next((value for name, value in fields if name == "Status"), "200 OK")
        self.send_response(int(status.split()[0]))
        for name, value in fields:
            if name not in ("Status", "Content-Length"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_POST = do_GET

http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Git).serve_forever()
"#;

#[tokio::test]
async fn git_clones_and_pushes() -> Result<()> {
    let lab = lab().await?;
    let repositories = lab.path("repositories");
    let server = lab.path("server.py");
    std::fs::write(&server, SERVER)?;
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

    let port = ports::free()?;
    let _python = Command::new("python3")
        .arg(&server)
        .args([port.to_string(), repositories.display().to_string()])
        .kill_on_drop(true)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .context("python3 is not installed")?;
    listening(port).await?;
    let (_node, ready) = lab.node(&port.to_string(), "git").await?;
    let url = format!("{}/demo.git", ready["url"].as_str().context("url")?);

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
