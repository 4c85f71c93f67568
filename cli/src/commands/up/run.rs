//! The tunnels of a file at work: each goes its own way on one node, and a change of the file touches those that it speaks of.

use std::collections::BTreeMap;
use std::path::PathBuf;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use mytunnel_keys::id::TunnelName;
use serde_json::json;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::fate::{self, Fate, Known, Standing};
use super::load::{Loaded, Tunnel};
use super::table;
use super::watch::{Stamp, Watch};
use crate::commands::share::{Asked, Base, Board, Job, Spot, Stands, Voice};
use crate::config::UpFile;
use crate::context::Context;
use crate::control::serve_status;
use crate::failure::Failure;
use crate::runtime::StopSignals;

pub(super) async fn run(
    loaded: Loaded,
    (path, stamp): (PathBuf, Option<Stamp>),
    spot: Spot,
    context: &Context,
) -> Result<(), Failure> {
    let mut signals = StopSignals::install()?;
    let watch = Watch::begin(path.clone(), stamp)?;
    let most = spot.most;
    let base = Base::start(spot, loaded.is_end_to_end(), context.report).await?;
    let (board, stop, mut tasks) = (Board::default(), CancellationToken::new(), JoinSet::new());
    let (status, described) = (base.watch_status(), board.clone());
    serve_status(context, move || described.described(&status.borrow()), &stop, &mut tasks);
    let mut up = Up {
        base: &base,
        context,
        path,
        most,
        file: UpFile::default(),
        board: board.clone(),
        tunnels: BTreeMap::new(),
        running: FuturesUnordered::new(),
        turns: 0,
        owes_table: true,
    };
    up.file = loaded.file.clone();
    for tunnel in loaded.tunnels {
        up.start(tunnel, Stands::default());
    }
    let (jobs, outcome) = up.follow(watch, &mut signals).await;
    stop.cancel();
    base.leave(jobs, &mut signals, context.report).await;
    tasks.shutdown().await;
    outcome
}

struct Up<'a> {
    base: &'a Base,
    context: &'a Context,
    path: PathBuf,
    /// Tunnels that the key may have at one time.
    most: u16,
    file: UpFile,
    board: Board,
    /// By their labels.
    tunnels: BTreeMap<String, Running>,
    running: FuturesUnordered<BoxFuture<'a, Over>>,
    /// Numbers every beginning: one that is over may have a successor.
    turns: u64,
    /// People are told what is up once that is known of all.
    owes_table: bool,
}

/// A tunnel of the file.
struct Running {
    known: Known,
    turn: u64,
    asked: watch::Sender<Option<Asked>>,
    stands: Stands,
    /// Ends it, with the reason.
    end: Option<oneshot::Sender<&'static str>>,
    /// Why it was refused.
    failure: Option<Failure>,
}

/// A tunnel that is over.
struct Over {
    label: String,
    turn: u64,
    job: Job,
    outcome: Result<&'static str, Failure>,
}

impl<'a> Up<'a> {
    /// Goes on until told to stop, or until nothing is left that runs. What visitors have under way then ends with the jobs.
    async fn follow(
        mut self,
        mut watch: Watch,
        signals: &mut StopSignals,
    ) -> (Vec<Job>, Result<(), Failure>) {
        let mut news = self.board.watch();
        while !self.running.is_empty() {
            tokio::select! {
                () = signals.next() => break,
                Some(over) = self.running.next() => {
                    self.over(over).end().await;
                }
                () = watch.changed() => self.reload(),
                // It is one of ours, which lives as long as we do.
                _ = news.changed() => {}
            }
            self.tell_table();
        }
        for tunnel in self.tunnels.values_mut() {
            tunnel.tell_to_end("stopped");
        }
        let mut jobs = Vec::new();
        while let Some(over) = self.running.next().await {
            jobs.push(self.over(over));
        }
        (jobs, self.verdict())
    }

    /// `stands`: what visitors of its name are asked for already, by us.
    fn start(&mut self, tunnel: Tunnel, stands: Stands) {
        let Tunnel { label, file, plan } = tunnel;
        self.turns += 1;
        let turn = self.turns;
        let known = Known { file, gates: plan.gates(), standing: Standing::Running };
        let asked = watch::Sender::new(plan.asked.clone());
        let (end, told) = oneshot::channel();
        let report = self.context.report;
        let voice = |name: Option<&TunnelName>| Voice::of(report, name.map_or(&label, |name| name.as_str()));
        let job = Job::new(plan, self.base, (asked.subscribe(), &self.board), voice, self.context);
        let mut running =
            Running { known, turn, asked, stands: stands.clone(), end: Some(end), failure: None };
        match job {
            Ok(job) => {
                let mut job = job.after(stands);
                let (base, label) = (self.base, label.clone());
                self.running.push(Box::pin(async move {
                    let told = async { told.await.unwrap_or("stopped") };
                    let outcome = job.run(base, told).await;
                    Over { label, turn, job, outcome }
                }));
            }
            Err(failure) => running.fail(failure, &Voice::of(report, &label)),
        }
        self.tunnels.insert(label, running);
    }

    /// Notes that one is over; the job is for whoever lets visitors go.
    fn over(&mut self, over: Over) -> Job {
        let Over { label, turn, job, outcome } = over;
        if let Some(tunnel) = self.tunnels.get_mut(&label).filter(|tunnel| tunnel.turn == turn) {
            match outcome {
                Ok(_) => tunnel.known.standing = Standing::Over,
                Err(failure) => tunnel.fail(failure, job.voice()),
            }
        }
        job
    }

    /// Reads the file, and carries out what it says now.
    fn reload(&mut self) {
        let report = self.context.report;
        let read = Loaded::read(&self.path, self.context);
        let loaded = match read
            .and_then(|loaded| loaded.check_place(self.most, self.base.is_here()).map(|()| loaded))
        {
            Ok(loaded) => loaded,
            Err(failure) => {
                let (code, message, help) = (failure.code().name(), failure.message(), failure.help());
                report.object(
                    &json!({"event": "reload_failed", "code": code, "message": message, "help": help}),
                );
                report.warn(format_args!("everything stays as it was: {message}"));
                report.note(help);
                return;
            }
        };
        let change = self.change(loaded);
        report.object(&json!({
            "event": "reloaded", "started": change.started, "restarted": change.restarted, "gates": change.gates, "ended": change.ended,
            "needs_restart": change.waiting,
        }));
        report.note(change.in_words());
        if !change.waiting.is_empty() {
            report.warn(format_args!("these wait for a restart: {}", change.waiting.join(", ")));
        }
    }

    fn change(&mut self, loaded: Loaded) -> Change {
        let mut change = Change { waiting: waiting(&self.file, &loaded.file), ..Change::default() };
        let kept: Vec<&String> = loaded.tunnels.iter().map(|tunnel| &tunnel.label).collect();
        let gone: Vec<String> = self.tunnels.keys().filter(|label| !kept.contains(label)).cloned().collect();
        for label in gone {
            if let Some(mut tunnel) = self.tunnels.remove(&label) {
                tunnel.tell_to_end("it is no longer in the file");
                change.ended.push(label);
            }
        }
        for tunnel in loaded.tunnels {
            let (label, gates) = (tunnel.label.clone(), tunnel.plan.gates());
            let old = self.tunnels.get_mut(&label);
            match (fate::decide(old.as_ref().map(|old| &old.known), (&tunnel.file, &gates)), old) {
                (Fate::Stays, _) => {}
                (Fate::Gates, Some(old)) => {
                    (old.known.file, old.known.gates) = (tunnel.file, gates);
                    old.asked.send_replace(tunnel.plan.asked);
                    change.gates.push(label);
                }
                (Fate::Restarts, Some(old)) => {
                    old.tell_to_end("it was changed in the file");
                    let stands = old.stands.clone();
                    self.start(tunnel, stands);
                    change.restarted.push(label);
                }
                (Fate::Starts | Fate::Restarts | Fate::Gates, _) => {
                    self.start(tunnel, Stands::default());
                    change.started.push(label);
                }
            }
        }
        self.owes_table = !(change.started.is_empty() && change.restarted.is_empty());
        // What waits is said again until it is done.
        self.file.tunnel = loaded.file.tunnel;
        change
    }

    /// Tells people what is up, once everything that was begun has an address or was refused.
    fn tell_table(&mut self) {
        let entries = self.board.entries();
        if self.owes_table && entries.iter().all(|entry| entry.url.is_some()) {
            self.owes_table = false;
            table::up(&self.board, &self.path, self.context.report);
        }
    }

    /// How it ended, all in all.
    fn verdict(mut self) -> Result<(), Failure> {
        let count = self.tunnels.len();
        let failed: Vec<String> = self
            .tunnels
            .iter()
            .filter(|(_, tunnel)| tunnel.failure.is_some())
            .map(|(label, _)| label.clone())
            .collect();
        let first =
            failed.first().and_then(|label| self.tunnels.remove(label)).and_then(|tunnel| tunnel.failure);
        match first {
            None => Ok(()),
            Some(failure) => {
                let which = failed.join(", ");
                let message =
                    format!("{} of {count} tunnels failed: {which}; {}", failed.len(), failure.message());
                Err(failure.with_message(message))
            }
        }
    }
}

impl Running {
    fn tell_to_end(&mut self, why: &'static str) {
        if let Some(end) = self.end.take() {
            // One that is over already needs no word.
            let _ = end.send(why);
        }
    }

    fn fail(&mut self, failure: Failure, voice: &Voice) {
        let (code, message, help) = (failure.code().name(), failure.message(), failure.help());
        voice.object(&json!({"event": "failed", "code": code, "message": message, "help": help}));
        voice.warn(format_args!("{message} [{code}]"));
        voice.note(help);
        self.known.standing = Standing::Failed;
        self.failure = Some(failure);
    }
}

/// What a newer file came to: tunnels by their labels.
#[derive(Debug, Default)]
struct Change {
    started: Vec<String>,
    restarted: Vec<String>,
    gates: Vec<String>,
    ended: Vec<String>,
    /// Keys that wait for a restart.
    waiting: Vec<&'static str>,
}

impl Change {
    fn in_words(&self) -> String {
        let parts = [
            ("new", &self.started),
            ("begun anew", &self.restarted),
            ("other gates", &self.gates),
            ("ended", &self.ended),
        ];
        let said: Vec<String> = parts
            .into_iter()
            .filter(|(_, labels)| !labels.is_empty())
            .map(|(word, labels)| format!("{word}: {}", labels.join(", ")))
            .collect();
        match said.is_empty() {
            true => "The file was read again: no tunnel was changed.".to_owned(),
            false => format!("The file was read again; {}.", said.join("; ")),
        }
    }
}

/// Keys of the whole file that say something else.
fn waiting(old: &UpFile, newer: &UpFile) -> Vec<&'static str> {
    let UpFile { server, project, token_file, no_direct, tunnel: _ } = old;
    let keys = [
        ("server", *server != newer.server),
        ("project", *project != newer.project),
        ("token_file", *token_file != newer.token_file),
        ("no_direct", *no_direct != newer.no_direct),
    ];
    keys.into_iter().filter(|(_, is_other)| *is_other).map(|(key, _)| key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_in_few_words() {
        assert_eq!(Change::default().in_words(), "The file was read again: no tunnel was changed.");
        let change = Change {
            started: vec!["a".to_owned()],
            ended: vec!["b".to_owned(), "c".to_owned()],
            ..Change::default()
        };
        assert_eq!(change.in_words(), "The file was read again; new: a; ended: b, c.");
    }

    #[test]
    fn keys_of_the_whole_file_wait() {
        let newer = UpFile { server: Some("https://r.example".to_owned()), ..UpFile::default() };
        assert_eq!(waiting(&UpFile::default(), &newer), ["server"]);
        assert!(waiting(&newer, &newer).is_empty());
    }
}
