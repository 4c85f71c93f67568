//! One user with a home of his own, and the programs he runs.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// How long anything is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// A user, with whom the daemon of his sessions ends.
pub(crate) struct User {
    home: TempDir,
}

/// What a program left.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// The last line of stdout as JSON.
    pub(crate) fn json(&self) -> Value {
        let line = self.stdout.lines().last().unwrap_or_else(|| panic!("nothing on stdout: {self:?}"));
        serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"))
    }

    #[track_caller]
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// Failed with this code and status, saying so with a remedy.
    #[track_caller]
    pub(crate) fn failed(self, code: &str, exit: i32) -> Value {
        let event = self.json();
        assert_eq!(
            (event["event"].as_str(), event["code"].as_str()),
            (Some("error"), Some(code)),
            "{self:?}"
        );
        assert_eq!(self.code, Some(exit), "{self:?}");
        assert!(!event["message"].as_str().unwrap().is_empty(), "{event}");
        let help = event["help"].as_str().unwrap();
        assert!(!help.is_empty() && !help.contains('\n'), "{event}");
        event
    }
}

impl User {
    pub(crate) fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// A command of this user, with nothing of the tester's surroundings in it.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mytunnel"));
        command.args(args).current_dir(self.home.path()).stdin(Stdio::null());
        command.env_clear().env("HOME", self.home.path()).env("MYTUNNEL_CONFIG_DIR", self.path("config"));
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        self.run_with(args, &[])
    }

    pub(crate) fn run_with(&self, args: &[&str], env: &[(&str, &str)]) -> Ended {
        let output = self.command(args).envs(env.iter().copied()).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Runs a command at a terminal at which somebody types a line; stdout has all that is shown there.
    pub(crate) fn run_at_terminal(&self, args: &[&str], line: &str) -> Ended {
        let program = [&[env!("CARGO_BIN_EXE_mytunnel")], args].concat().join(" ");
        let mut command = self.command(&[]);
        let environment: Vec<_> = command
            .get_envs()
            .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
            .collect();
        command = Command::new("script");
        command
            .args(["--quiet", "--return", "--command", &program, "/dev/null"])
            .current_dir(self.home.path());
        command.env_clear().envs(environment).stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(format!("{line}\n").as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        // What is typed early is shown before the question, which then ends no line.
        let stdout = text(output.stdout).replacen('{', "\n{", 1);
        Ended { code: output.status.code(), stdout, stderr: text(output.stderr) }
    }

    /// Starts a command that goes on.
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        self.start_with(args, &[])
    }

    pub(crate) fn start_with(&self, args: &[&str], env: &[(&str, &str)]) -> Running {
        Running::of(self.command(args).envs(env.iter().copied()))
    }

    /// The environment of the daemon that a command of this user has started, and where the kernel tells of it.
    pub(crate) fn daemon(&self) -> Option<(String, PathBuf)> {
        let config = self.path("config");
        let environment = |entry: std::io::Result<std::fs::DirEntry>| {
            let path = entry.ok()?.path();
            let line = std::fs::read(path.join("cmdline")).ok()?;
            let is_daemon = line.split(|byte| *byte == 0).skip(1).take(2).eq([&b"pair"[..], b"daemon"]);
            let text =
                is_daemon.then(|| String::from_utf8(std::fs::read(path.join("environ")).ok()?).ok())??;
            text.contains(config.to_str()?).then_some((text, path))
        };
        std::fs::read_dir("/proc").ok()?.find_map(environment)
    }
}

impl Drop for User {
    fn drop(&mut self) {
        if let Some(number) = self.daemon().and_then(|(_, path)| path.file_name().map(ToOwned::to_owned)) {
            let _ = Command::new("kill").args(["-s", "KILL"]).arg(number).status();
        }
    }
}

/// A program that runs; it is killed when this is dropped.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    readers: Vec<JoinHandle<String>>,
}

impl Running {
    pub(crate) fn of(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut stderr = child.stderr.take().unwrap();
        let (send, lines) = sync_channel(1024);
        let out = std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
            String::new()
        });
        let err = std::thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).unwrap();
            text
        });
        Self { child, lines, readers: vec![out, err] }
    }

    /// The next line of stdout.
    #[track_caller]
    pub(crate) fn line(&mut self) -> String {
        self.lines
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|error| panic!("no line: {error}; {:?}", self.leave()))
    }

    /// The next line of stdout that is this event.
    #[track_caller]
    pub(crate) fn event(&mut self, event: &str) -> Value {
        loop {
            let line = self.line();
            let value: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}"));
            if value["event"] == event {
                return value;
            }
            assert!(value["event"] != "error", "waited for {event}: {line}");
        }
    }

    /// Sends a signal by its name.
    pub(crate) fn send(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Sends a signal by its name and waits for the end.
    pub(crate) fn signal(mut self, name: &str) -> Ended {
        self.send(name);
        self.leave_by_itself()
    }

    /// Waits for the end.
    pub(crate) fn ended(mut self) -> Ended {
        self.leave_by_itself()
    }

    fn leave_by_itself(&mut self) -> Ended {
        // The readers end when the program does; a program that does not is killed by the tester's own limit.
        let mut stdout = String::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => stdout.push_str(&format!("{line}\n")),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                    panic!("it does not end: {:?}", self.leave())
                }
            }
        }
        let status = self.child.wait().unwrap();
        self.collected(status, stdout)
    }

    fn leave(&mut self) -> Ended {
        let _ = self.child.kill();
        let status = self.child.wait().unwrap();
        let stdout = self.lines.try_iter().map(|line| line + "\n").collect();
        self.collected(status, stdout)
    }

    fn collected(&mut self, status: ExitStatus, stdout: String) -> Ended {
        let stderr = self.readers.drain(..).map(|reader| reader.join().unwrap()).collect();
        Ended { code: status.code(), stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
