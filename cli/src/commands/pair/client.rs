//! How a command asks the daemon, and starts it where there is none.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use mytunnel_keys::error::Code;
use mytunnel_pairing::api::{Answer, Request, Trouble, kept, socket};
use mytunnel_pairing::limits;
use serde_json::Value;

use crate::context::Context;
use crate::failure::{Failure, chain};

/// The longest answer: a record of 16 MiB, written as JSON.
const ANSWER: u64 = 64 * 1024 * 1024;
/// A daemon that takes longer than this is stuck: it waits for 25 s at most itself.
const PATIENCE: Duration = Duration::from_secs(40);
/// The same where it looks for a host. Who gave up before it does would have used an invite up for nothing.
const JOINING: Duration = limits::JOIN.saturating_add(Duration::from_secs(20));

/// For how long nothing is said to who waits.
const MOMENT: Duration = Duration::from_secs(3);

/// The same of one that reads a file of 10 GiB.
const READING: Duration = Duration::from_secs(15 * 60);

/// What the daemon needs of the environment of whoever starts it: an invite, words or a password are none of it.
const ENVIRONMENT: [&str; 9] = [
    "MYTUNNEL_PAIR_LISTEN",
    "MYTUNNEL_LOG",
    "TMPDIR",
    // By which a relay is reached.
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
];

/// Asks the daemon that runs.
pub(crate) fn ask(request: &Request, context: &Context) -> Result<Value, Failure> {
    Client::of(context)?.ask(request)
}

/// Asks the daemon, which is started if none runs.
pub(crate) fn ask_or_start(request: &Request, context: &Context) -> Result<Value, Failure> {
    Client::of(context)?.ask_or_start(request)
}

/// As [`ask_or_start`], and says something to who waits for longer than a moment.
pub(crate) fn ask_and_tell(request: &Request, words: &str, context: &Context) -> Result<Value, Failure> {
    let (done, waits) = mpsc::channel::<()>();
    let report = context.report;
    thread::scope(|scope| {
        scope.spawn(move || {
            if waits.recv_timeout(MOMENT) == Err(RecvTimeoutError::Timeout) {
                report.note(words);
            }
        });
        let answer = ask_or_start(request, context);
        drop(done);
        answer
    })
}

/// The way to this user's daemon.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    socket: PathBuf,
    /// There where sessions wait on disk for a daemon.
    kept: PathBuf,
}

impl Client {
    pub(crate) fn of(context: &Context) -> Result<Self, Failure> {
        let dir = context.config_dir()?.pairing();
        Ok(Self { socket: socket(&dir), kept: kept(&dir) })
    }

    /// See [`ask`]. Sessions that are kept and have no daemon get one.
    pub(crate) fn ask(&self, request: &Request) -> Result<Value, Failure> {
        match UnixStream::connect(&self.socket) {
            Ok(stream) => exchange(stream, request),
            Err(error) if is_absent(&error) && self.kept.exists() => self.ask_or_start(request),
            Err(error) if is_absent(&error) => {
                Err(Failure::new(Code::PairNoSession, "there is no session on this machine"))
            }
            Err(error) => Err(failed(&self.socket, &error)),
        }
    }

    /// See [`ask_or_start`].
    pub(crate) fn ask_or_start(&self, request: &Request) -> Result<Value, Failure> {
        let connected = UnixStream::connect(&self.socket).or_else(|error| {
            if !is_absent(&error) {
                return Err(failed(&self.socket, &error));
            }
            start(&self.socket)?;
            UnixStream::connect(&self.socket).map_err(|error| failed(&self.socket, &error))
        });
        exchange(connected?, request)
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::local(
        format!("cannot ask the daemon at {}: {error}", path.display()),
        "Check who owns that file; `mytunnel pair status` asks again.",
    )
}

fn exchange(stream: UnixStream, request: &Request) -> Result<Value, Failure> {
    let answer = converse(stream, request).map_err(|error| {
        // It may have done it before it ended.
        let help = if matches!(request, Request::Say { .. } | Request::Share { .. }) {
            "`mytunnel pair log` shows whether it was said; if not, say it again."
        } else {
            "Try again."
        };
        Failure::local(format!("the daemon did not answer: {error}"), help)
    })?;
    match answer {
        Answer::Done(value) => Ok(value),
        Answer::Failed(Trouble { code, message, help }) => {
            let failure = Failure::new(code, message);
            Err(match help {
                Some(help) => failure.with_help(help),
                None => failure,
            })
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "two of many verbs take their time")]
const fn patience(request: &Request) -> Duration {
    match request {
        Request::Join { .. } => JOINING,
        Request::Share { .. } => READING,
        _ => PATIENCE,
    }
}

fn converse(mut stream: UnixStream, request: &Request) -> io::Result<Answer> {
    stream.set_read_timeout(Some(patience(request)))?;
    let mut line = zeroize::Zeroizing::new(serde_json::to_vec(request)?);
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = Vec::new();
    stream.take(ANSWER).read_to_end(&mut answer)?;
    Ok(serde_json::from_slice(&answer)?)
}

/// Starts this program anew as a daemon, and waits until it takes requests. It outlives whoever starts it, so that it
/// keeps neither the folder nor the environment of that.
fn start(socket: &Path) -> Result<(), Failure> {
    let cannot = |error: io::Error| Failure::local(format!("cannot start the daemon: {error}"), "");
    let program = std::env::current_exe().map_err(cannot)?;
    let mut child = Command::new(program)
        .args(["pair", "daemon", "--json"])
        .current_dir("/")
        .env_clear()
        .envs(ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .env("MYTUNNEL_CONFIG_DIR", socket.ancestors().nth(2).unwrap_or(socket))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(cannot)?;
    let mut line = String::new();
    if let Some(out) = child.stdout.take() {
        BufReader::new(out).read_line(&mut line).map_err(cannot)?;
    }
    let said: Value = serde_json::from_str(&line).unwrap_or_default();
    match (said["event"].as_str(), said["message"].as_str()) {
        (Some("ready"), _) => Ok(()),
        (_, Some(message)) => {
            let help = said["help"].as_str().unwrap_or_default();
            Err(Failure::local(format!("cannot start the daemon: {message}"), help))
        }
        (_, None) => Err(Failure::local(
            "the daemon ended before it was ready",
            format!("`mytunnel pair daemon` in a terminal says why ({}).", chain_of(child.wait())),
        )),
    }
}

fn chain_of(ended: io::Result<std::process::ExitStatus>) -> String {
    match ended {
        Ok(status) => status.to_string(),
        Err(error) => chain(&error),
    }
}
