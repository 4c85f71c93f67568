//! The book's examples, typed as they stand.
//!
//! A fenced block of kind `console` is a session of a page: a line that begins with `$ ` is typed, what follows must be
//! what is printed, `…` standing for anything. The blocks of one page share a shell, a home and a relay's addresses;
//! `mytunnel relay`, `mytunnel share` and their like go on in the background from their first line of output on.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use mytunnel_tests::ports;
use mytunnel_tests::process::PATIENCE;
use tokio::process::Command;

/// One typed line and what must be printed after it.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    typed: String,
    printed: Vec<String>,
}

fn steps(page: &str) -> Vec<Step> {
    let (mut steps, mut inside): (Vec<Step>, bool) = (Vec::new(), false);
    for line in page.lines() {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if let Some(typed) = line.strip_prefix("$ ").filter(|_| inside) {
            steps.push(Step { typed: typed.to_owned(), printed: Vec::new() });
        } else if inside && let Some(step) = steps.last_mut() {
            step.printed.push(line.to_owned());
        }
    }
    steps
}

/// The pages show a relay's default ports; each test has its own.
const PORTS: [(&str, &str); 3] = [("8080", "HTTP_PORT"), ("8443", "HTTPS_PORT"), ("4001", "P2P_PORT")];

fn script(steps: &[Step], ports: &[u16; 3]) -> String {
    let mut script = String::from("set -u\ntrap 'trap - TERM; kill 0' EXIT\n");
    for (index, step) in steps.iter().enumerate() {
        let mut typed = step.typed.clone();
        for ((shown, _), port) in PORTS.iter().zip(ports) {
            typed = typed.replace(shown, &port.to_string());
        }
        if let Some(rest) = typed.strip_prefix("mytunnel relay") {
            let [http, https, p2p] = ports;
            let addresses =
                format!("--http 127.0.0.1:{http} --https 127.0.0.1:{https} --p2p 127.0.0.1:{p2p}");
            typed = format!("mytunnel relay {addresses}{rest}");
        }
        let _ = writeln!(script, "echo '=== {index}'");
        let runs_on = ["relay", "share", "http", "tcp", "udp"];
        let runs_on = runs_on.iter().any(|verb| typed.starts_with(&format!("mytunnel {verb} ")));
        if runs_on {
            // The first line says that it is ready; the pipe stays open, the shell's end ends the program.
            let _ = writeln!(
                script,
                "exec {{output}}< <({typed} 2>> programs.log)\nread -r -t 30 line <&\"$output\"; echo \"$line\""
            );
        } else {
            let _ = writeln!(script, "{typed} 2>&1");
        }
    }
    script
}

/// Whether `line` is `pattern` with `…` standing for anything.
fn matches(pattern: &str, line: &str) -> bool {
    let parts: Vec<&str> = pattern.split('…').collect();
    let [first, middle @ .., last] = parts.as_slice() else {
        return pattern == line;
    };
    let Some(mut rest) = line.strip_prefix(first).and_then(|rest| rest.strip_suffix(last)) else {
        return false;
    };
    middle.iter().all(|part| match rest.split_once(part) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

/// Ports that are free, and in which none of those stands that the pages show.
fn free_ports() -> Result<[u16; 3]> {
    let mut ports = [0; 3];
    for port in &mut ports {
        while *port == 0 || PORTS.iter().any(|(shown, _)| port.to_string().contains(shown)) {
            *port = ports::free()?;
        }
    }
    Ok(ports)
}

async fn follow(page: &Path) -> Result<()> {
    let text = std::fs::read_to_string(page)?;
    let steps = steps(&text);
    ensure!(!steps.is_empty(), "{} has no example", page.display());
    let home = tempfile::tempdir()?;
    let programs = home.path().join("bin");
    std::fs::create_dir(&programs)?;
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_mytunnel-e2e"), programs.join("mytunnel"))?;
    std::fs::create_dir(home.path().join("site"))?;
    std::fs::write(home.path().join("site/index.html"), "<h1>hello</h1>\n")?;
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
    let ports = free_ports()?;
    let output = Command::new("bash")
        .args(["-c", &script(&steps, &ports)])
        .current_dir(home.path())
        .env("PATH", path)
        .env("HOME", home.path())
        .env("MYTUNNEL_CONFIG_DIR", home.path().join("config"))
        .env("MYTUNNEL_PASSWORD", "correct horse battery staple")
        // Of a group of its own, so that its end is the end of all it started.
        .process_group(0)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, output).await.context("the page's commands do not end")?;
    let output = output.context("bash is not installed")?;
    let mut printed = String::from_utf8(output.stdout)?;
    for ((shown, _), port) in PORTS.iter().zip(&ports) {
        printed = printed.replace(&port.to_string(), shown);
    }
    for (index, step) in steps.iter().enumerate() {
        let start = printed.split_once(&format!("=== {index}\n")).map_or("", |(_, rest)| rest);
        let own = start.split("=== ").next().unwrap_or_default();
        let lines: Vec<&str> = own.lines().collect();
        let expected: Vec<&String> = step.printed.iter().filter(|line| !line.is_empty()).collect();
        let same = expected.len() <= lines.len()
            && expected.iter().zip(&lines).all(|(pattern, line)| matches(pattern, line));
        ensure!(
            same,
            "{}: $ {}\nthe page says {expected:#?}\nit printed {lines:#?}\n{printed}",
            page.display(),
            step.typed
        );
    }
    Ok(())
}

macro_rules! pages {
    ($($test:ident => $page:literal),* $(,)?) => {
        $(#[tokio::test]
        async fn $test() -> Result<()> {
            follow(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src").join($page)).await
        })*

        #[test]
        fn every_page_with_examples_is_followed() -> Result<()> {
            for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src"))? {
                let path = entry?.path();
                let name = path.file_name().and_then(|name| name.to_str()).context("a name in UTF-8")?.to_owned();
                if name.ends_with(".md") && !steps(&std::fs::read_to_string(&path)?).is_empty() {
                    ensure!([$($page),*].contains(&name.as_str()), "{name} has examples that no test follows");
                }
            }
            Ok(())
        }
    };
}

pages! {
    share_page => "share.md",
    ports_page => "ports.md",
    self_hosting_page => "self-hosting.md",
    keys_page => "keys.md",
}

#[test]
fn a_pattern_stands_for_what_it_shows() {
    assert!(matches("a … c", "a b c"));
    assert!(matches("mtk_…", "mtk_child_x"));
    assert!(matches("same", "same"));
    assert!(!matches("same", "same and more"));
    assert!(!matches("a … c", "a b"));
}
