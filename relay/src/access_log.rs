//! A line for each request of a visitor, in a file of the operator's, once its answer is over; and its trace, which ends
//! with it.
//!
//! Nothing of the way of a request waits for the file: lines go through a bounded queue to one task, and what does not fit
//! is counted and said. What a query says is never written: links carry secrets there. On `SIGHUP` the file is opened
//! anew, so that it can be rotated.

mod session;

use std::{
    fmt::{self, Write as _},
    io,
    net::IpAddr,
    path::PathBuf,
    str::FromStr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version, header};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{
    fs::{File, OpenOptions},
    io::{AsyncWriteExt as _, BufWriter},
    sync::mpsc,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

pub(crate) use self::session::{Carried, Session};
use crate::{
    ingress::failure::ERROR_HEADER,
    traces::{Told, Trace, Traces},
};

/// Lines that wait for the file.
pub(crate) const QUEUE: usize = 4096;

/// Characters of a field that a visitor chooses.
const FIELD: usize = 512;

/// How long a file that failed is left alone.
const REST: Duration = Duration::from_secs(5);

/// Where the log is, and how its lines look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLogConfig {
    /// The file. It is made with mode 0640, and appended to.
    pub path: PathBuf,
    /// How its lines look.
    pub format: AccessFormat,
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AccessFormat {
    /// An object with names.
    #[default]
    Json,
    /// As Apache and nginx write it, with the host in front.
    Combined,
}

impl FromStr for AccessFormat {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "json" => Ok(Self::Json),
            "combined" => Ok(Self::Combined),
            _ => Err("write \"json\" or \"combined\""),
        }
    }
}

/// Takes what is to be known of requests: lines for the file, if there is one, and traces. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct AccessLog {
    lines: Option<Arc<Lines>>,
    traces: Traces,
}

#[derive(Debug)]
struct Lines {
    format: AccessFormat,
    queue: mpsc::Sender<String>,
    lost: AtomicU64,
    /// Of these, as the program's log has said.
    told: AtomicU64,
}

/// Writes the file.
#[derive(Debug)]
pub(crate) struct Scribe {
    path: PathBuf,
    lines: Arc<Lines>,
    queue: mpsc::Receiver<String>,
}

impl AccessLog {
    /// A log in this file.
    ///
    /// # Errors
    /// When it cannot be appended to.
    pub(crate) fn open(config: &AccessLogConfig) -> io::Result<(Self, Scribe)> {
        let mut options = std::fs::OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o640);
        options.open(&config.path)?;
        let (sender, queue) = mpsc::channel(QUEUE);
        let lines = Arc::new(Lines {
            format: config.format,
            queue: sender,
            lost: AtomicU64::new(0),
            told: AtomicU64::new(0),
        });
        let log = Self { lines: Some(Arc::clone(&lines)), traces: Traces::default() };
        Ok((log, Scribe { path: config.path.clone(), lines, queue }))
    }

    /// Lines that wait to be written, and those that never were.
    pub(crate) fn lines(&self) -> (usize, u64) {
        let lines = self.lines.as_ref();
        lines.map_or((0, 0), |lines| {
            (lines.queue.max_capacity() - lines.queue.capacity(), lines.lost.load(Relaxed))
        })
    }

    /// Batches of traces that the collector did not take.
    pub(crate) fn traces_lost(&self) -> u64 {
        self.traces.lost()
    }

    /// The same, with traces.
    pub(crate) fn with_traces(self, traces: Traces) -> Self {
        Self { traces, ..self }
    }

    /// Begins the line and the trace of a request; `None` where neither is wanted. `trusted` tells whether its sender
    /// decides that it is traced.
    pub(crate) fn begin<B>(
        &self,
        request: &Request<B>,
        trusted: impl FnOnce() -> bool,
    ) -> Option<Arc<Entry>> {
        let trace = self.traces.begin(request, trusted);
        if self.lines.is_none() && trace.is_none() {
            return None;
        }
        let headers = request.headers();
        let host = headers.get(header::HOST).map(field);
        let host = host.or_else(|| request.uri().authority().map(|host| cut(host.as_str())));
        Some(Arc::new(Entry {
            lines: self.lines.clone(),
            trace,
            at: OffsetDateTime::now_utc(),
            begun: Instant::now(),
            visitor: OnceLock::new(),
            host: host.unwrap_or_default(),
            method: request.method().clone(),
            path: cut(request.uri().path()),
            version: request.version(),
            agent: headers.get(header::USER_AGENT).map(field),
            referer: headers.get(header::REFERER).map(|value| without_query(field(value))),
            status: AtomicU16::new(0),
            error: OnceLock::new(),
            bytes: AtomicU64::new(0),
            cut: AtomicBool::new(false),
        }))
    }
}

/// A request whose line is written, and whose trace ends, when the last of its handles is dropped.
pub(crate) struct Entry {
    lines: Option<Arc<Lines>>,
    trace: Option<Trace>,
    at: OffsetDateTime,
    begun: Instant,
    visitor: OnceLock<IpAddr>,
    host: String,
    method: Method,
    path: String,
    version: Version,
    agent: Option<String>,
    referer: Option<String>,
    status: AtomicU16,
    error: OnceLock<String>,
    bytes: AtomicU64,
    cut: AtomicBool,
}

impl Entry {
    /// Whose request it is.
    pub(crate) fn set_visitor(&self, visitor: IpAddr) {
        let _ = self.visitor.set(visitor);
    }

    /// What was answered.
    pub(crate) fn answered(&self, status: StatusCode, headers: &HeaderMap) {
        self.status.store(status.as_u16(), Relaxed);
        if let Some(error) = headers.get(ERROR_HEADER) {
            let _ = self.error.set(field(error));
        }
    }

    /// More of the answer's body went out.
    pub(crate) fn count(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Relaxed);
    }

    /// Its answer was cut short.
    pub(crate) fn cut(&self) {
        self.cut.store(true, Relaxed);
    }

    /// Its trace.
    pub(crate) fn trace(&self) -> Option<&Trace> {
        self.trace.as_ref()
    }

    fn line(&self, format: AccessFormat) -> String {
        match format {
            AccessFormat::Json => self.json(),
            AccessFormat::Combined => self.combined(),
        }
    }

    fn json(&self) -> String {
        let micros = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let milliseconds = Duration::from_micros(micros).as_secs_f64() * 1e3;
        let mut line = serde_json::json!({
            "at": self.at.format(&Rfc3339).unwrap_or_default(),
            "visitor": self.visitor.get().map(ToString::to_string),
            "host": self.host, "method": self.method.as_str(), "path": self.path,
            "protocol": format!("{:?}", self.version), "status": self.status.load(Relaxed),
            "bytes": self.bytes.load(Relaxed), "ms": milliseconds, "agent": self.agent,
            "referer": self.referer, "error": self.error.get(), "cut": self.cut.load(Relaxed),
        })
        .to_string();
        line.push('\n');
        line
    }

    fn combined(&self) -> String {
        let visitor = self.visitor.get().map_or_else(|| "-".to_owned(), ToString::to_string);
        let text = |text: Option<&String>| text.map_or_else(|| "-".to_owned(), |text| escaped(text));
        format!(
            "{host} {visitor} - - [{}] \"{} {} {:?}\" {} {} \"{}\" \"{}\"\n",
            stamp(self.at),
            self.method,
            escaped(&self.path),
            self.version,
            self.status.load(Relaxed),
            self.bytes.load(Relaxed),
            text(self.referer.as_ref()),
            text(self.agent.as_ref()),
            host = if self.host.is_empty() { "-".to_owned() } else { escaped(&self.host).replace(' ', "_") },
        )
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        // A request that was given up before there was an answer.
        if self.status.load(Relaxed) == 0 {
            self.status.store(499, Relaxed);
        }
        if let Some(trace) = &self.trace {
            trace.end(Told {
                status: self.status.load(Relaxed),
                error: self.error.get().map(String::as_str),
                bytes: self.bytes.load(Relaxed),
                visitor: self.visitor.get().map(ToString::to_string),
            });
        }
        if let Some(lines) = &self.lines
            && lines.queue.try_send(self.line(lines.format)).is_err()
        {
            lines.lost.fetch_add(1, Relaxed);
        }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("host", &self.host).finish_non_exhaustive()
    }
}

/// A time as Apache and nginx write it.
fn stamp(at: OffsetDateTime) -> String {
    let month = at.month().to_string();
    let (day, month, year) = (at.day(), month.get(..3).unwrap_or(&month), at.year());
    format!("{day:02}/{month}/{year}:{:02}:{:02}:{:02} +0000", at.hour(), at.minute(), at.second())
}

/// What a visitor says, as far as it is text and not too long.
fn field(value: &HeaderValue) -> String {
    cut(&String::from_utf8_lossy(value.as_bytes()))
}

fn cut(text: &str) -> String {
    let harmless = |letter: char| match letter {
        letter if is_bidirectional(letter) || ('\u{80}'..='\u{9f}').contains(&letter) => '\u{fffd}',
        letter => letter,
    };
    text.chars().take(FIELD).map(harmless).collect()
}

fn without_query(mut url: String) -> String {
    if let Some(end) = url.find(['?', '#']) {
        url.truncate(end);
    }
    url
}

/// Marks that make a line look like another (Unicode TR 36).
const fn is_bidirectional(letter: char) -> bool {
    matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Nothing in it ends its field, its line, or a terminal's good behaviour.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '"' | '\\' => {
                escaped.push('\\');
                escaped.push(letter);
            }
            letter if letter.is_control() || is_bidirectional(letter) => {
                {
                    // A string takes all that is written to it.
                    let _ = write!(escaped, "\\x{:02x}", u32::from(letter));
                }
            }
            letter => escaped.push(letter),
        }
    }
    escaped
}

impl Scribe {
    /// Writes until cancelled, and what is left then.
    pub(crate) async fn run(mut self, cancelled: CancellationToken) {
        let mut hangup = hangup();
        let mut file: Option<BufWriter<File>> = None;
        let mut rest = Instant::now();
        loop {
            let line = tokio::select! {
                biased;
                () = cancelled.cancelled() => None,
                () = hangup.heard() => {
                    close(&mut file).await;
                    continue;
                }
                line = self.queue.recv() => line,
            };
            let Some(line) = line else { break };
            self.write(&mut file, &mut rest, &line).await;
        }
        self.queue.close();
        while let Ok(line) = self.queue.try_recv() {
            self.write(&mut file, &mut rest, &line).await;
        }
        close(&mut file).await;
    }

    async fn write(&self, file: &mut Option<BufWriter<File>>, rest: &mut Instant, line: &str) {
        if *rest > Instant::now() {
            self.lines.lost.fetch_add(1, Relaxed);
            return;
        }
        if let Err(error) = self.try_write(file, line).await {
            *file = None;
            *rest = Instant::now() + REST;
            self.lines.lost.fetch_add(1, Relaxed);
            tracing::warn!(path = %self.path.display(), %error, "the access log cannot be written; lines are lost");
        }
    }

    async fn try_write(&self, file: &mut Option<BufWriter<File>>, line: &str) -> io::Result<()> {
        let file = match file {
            Some(file) => file,
            None => {
                let mut options = OpenOptions::new();
                options.append(true).create(true);
                #[cfg(unix)]
                options.mode(0o640);
                file.insert(BufWriter::new(options.open(&self.path).await?))
            }
        };
        let lost = self.lines.lost.load(Relaxed);
        let lost = lost - self.lines.told.swap(lost, Relaxed);
        if lost > 0 {
            tracing::warn!(lost, "lines of the access log were lost");
        }
        file.write_all(line.as_bytes()).await?;
        if self.queue.is_empty() {
            file.flush().await?;
        }
        Ok(())
    }
}

async fn close(file: &mut Option<BufWriter<File>>) {
    if let Some(mut file) = file.take()
        && let Err(error) = file.flush().await
    {
        tracing::warn!(%error, "the end of the access log was lost");
    }
}

/// The operator's word that the file was moved away.
struct Hangup {
    #[cfg(unix)]
    signal: Option<tokio::signal::unix::Signal>,
}

fn hangup() -> Hangup {
    Hangup {
        #[cfg(unix)]
        signal: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).ok(),
    }
}

impl Hangup {
    async fn heard(&mut self) {
        #[cfg(unix)]
        if let Some(signal) = &mut self.signal {
            signal.recv().await;
            return;
        }
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests;
