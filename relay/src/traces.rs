//! Traces of visitors' requests for an OpenTelemetry collector (OTLP over HTTP, in Protocol Buffers).
//!
//! A request that is chosen has two spans: the relay's, from its head to the last byte of its answer, and within it the
//! node's, until the head of that answer. Their names and attributes are those of the semantic conventions for HTTP; what a
//! query says is never among them. A trusted proxy's own trace is gone on with (W3C Trace Context), and it decides whether a
//! request is traced. A stranger's is not: they could fill the collector, or hang spans into the traces of others. It passes
//! on to the server as it is, so that whoever traces both ends of a tunnel sees one trace.
//!
//! Spans wait in a bounded queue of the library's, which a thread of its own sends from; what does not fit is dropped, and no
//! request waits.

use std::{
    fmt,
    future::{Future, ready},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http::{HeaderMap, Request, StatusCode, header};
use opentelemetry::{
    Context, KeyValue,
    propagation::TextMapPropagator as _,
    trace::{
        Span as _, SpanBuilder, SpanKind, Status, TraceContextExt as _, Tracer as _, TracerProvider as _,
    },
};
use opentelemetry_http::{Bytes, HeaderExtractor, HeaderInjector, HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider, Span},
};
use ureq::{
    Agent,
    tls::{RootCerts, TlsConfig},
};

use crate::{ingress::locked, route::Tunnel};

/// Spans that wait for the collector.
const QUEUE: usize = 4096;

/// How often they are sent.
const PACE: Duration = Duration::from_secs(2);

/// For one batch, from name to last byte.
const PATIENCE: Duration = Duration::from_secs(5);

/// An answer of the collector is a few bytes; a larger one is none.
const MAX_ANSWER: u64 = 64 * 1024;

/// How long the last batch may take at shutdown.
const FAREWELL: Duration = Duration::from_secs(3);

/// Characters of an attribute that a visitor chooses.
const FIELD: usize = 512;

/// Where traces go, and of how many requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracesConfig {
    /// Base URL of the collector's OTLP over HTTP, such as `http://127.0.0.1:4318`. Headers it wants to see are those of
    /// `OTEL_EXPORTER_OTLP_HEADERS` in the environment.
    pub collector: String,
    /// The share of requests.
    pub share: Share,
}

/// A share of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share(u32);

impl Share {
    const WHOLE: u32 = 1_000_000;

    /// Whether the request of this number is one of the share: they lie evenly.
    fn has(self, number: u64) -> bool {
        let (share, whole) = (u64::from(self.0), u64::from(Self::WHOLE));
        let number = number % whole;
        (number + 1) * share / whole > number * share / whole
    }
}

impl Default for Share {
    fn default() -> Self {
        Self(Self::WHOLE)
    }
}

impl TryFrom<f64> for Share {
    type Error = &'static str;

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is looked at before")]
    fn try_from(share: f64) -> Result<Self, Self::Error> {
        let fits = (0.0..=1.0).contains(&share);
        fits.then(|| Self((share * f64::from(Self::WHOLE)).round() as u32))
            .ok_or("a share is between 0 and 1")
    }
}

/// Why no traces can be sent.
#[derive(Debug, thiserror::Error)]
#[error("traces cannot be sent to {collector}")]
pub struct TracesError {
    collector: String,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// Begins traces, if there is a collector. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Traces(Option<Arc<Chosen>>);

struct Chosen {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    share: Share,
    seen: AtomicU64,
    /// Batches that the collector did not take.
    lost: Arc<AtomicU64>,
}

impl Traces {
    /// Traces for a collector, which need not be there yet.
    pub(crate) fn open(config: &TracesConfig, relay: &str) -> Result<Self, TracesError> {
        let failed = |source| TracesError { collector: config.collector.clone(), source };
        let endpoint = url::Url::parse(&config.collector).map_err(|error| failed(error.into()))?;
        let endpoint = format!("{}/v1/traces", endpoint.as_str().trim_end_matches('/'));
        let lost = Arc::<AtomicU64>::default();
        let client = Client { agent: agent(), told: AtomicBool::new(false), lost: Arc::clone(&lost) };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(endpoint)
            .with_timeout(PATIENCE)
            .build()
            .map_err(|error| failed(error.into()))?;
        let batches =
            BatchConfigBuilder::default().with_max_queue_size(QUEUE).with_scheduled_delay(PACE).build();
        let about = Resource::builder()
            .with_service_name("mytunnel-relay")
            .with_attributes([
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.instance.id", relay.to_owned()),
            ])
            .build();
        let provider = SdkTracerProvider::builder()
            .with_resource(about)
            // Which requests are traced is decided before there is a span.
            .with_sampler(Sampler::AlwaysOn)
            .with_span_processor(BatchSpanProcessor::builder(exporter).with_batch_config(batches).build())
            .build();
        let tracer = provider.tracer("mytunnel");
        let (share, seen) = (config.share, AtomicU64::new(0));
        Ok(Self(Some(Arc::new(Chosen { provider, tracer, share, seen, lost }))))
    }

    /// Batches of spans that the collector did not take.
    pub(crate) fn lost(&self) -> u64 {
        self.0.as_ref().map_or(0, |chosen| chosen.lost.load(Relaxed))
    }

    /// The trace of a request, if it is one that is traced. `trusted` tells whether its sender decides that.
    pub(crate) fn begin<B>(&self, request: &Request<B>, trusted: impl FnOnce() -> bool) -> Option<Trace> {
        let chosen = self.0.as_ref()?;
        let propagator = TraceContextPropagator::new();
        let mut told = propagator.extract_with_context(&Context::new(), &HeaderExtractor(request.headers()));
        let (sampled, is_strangers) = {
            let span = told.span();
            let sender = span.span_context();
            let is_trusted = sender.is_valid() && trusted();
            (is_trusted.then(|| sender.is_sampled()), sender.is_valid() && !is_trusted)
        };
        if is_strangers {
            told = Context::new();
        }
        if !sampled.unwrap_or_else(|| chosen.share.has(chosen.seen.fetch_add(1, Relaxed))) {
            return None;
        }
        let mut about = vec![
            KeyValue::new("http.request.method", request.method().as_str().to_owned()),
            KeyValue::new("url.path", cut(request.uri().path())),
            KeyValue::new("network.protocol.version", version(request.version())),
        ];
        let said =
            |name| request.headers().get(name).map(|value| cut(&String::from_utf8_lossy(value.as_bytes())));
        let host = said(header::HOST).or_else(|| request.uri().authority().map(|host| cut(host.as_str())));
        about.extend(host.map(|host| KeyValue::new("server.address", host)));
        about.extend(said(header::USER_AGENT).map(|agent| KeyValue::new("user_agent.original", agent)));
        let builder = SpanBuilder::from_name(request.method().as_str().to_owned())
            .with_kind(SpanKind::Server)
            .with_attributes(about);
        let span = chosen.tracer.build_with_context(builder, &told);
        Some(Trace {
            chosen: Arc::clone(chosen),
            is_strangers,
            spans: Mutex::new(Spans { request: span, node: None }),
        })
    }

    /// Sends what waits, and ends. Blocks, up to a few seconds where the collector does not answer.
    pub(crate) fn close(&self) {
        if let Some(chosen) = &self.0
            && let Err(error) = chosen.provider.shutdown_with_timeout(FAREWELL)
        {
            tracing::warn!(%error, "the last traces were lost");
        }
    }

    /// Whether there is a collector.
    pub(crate) fn is_open(&self) -> bool {
        self.0.is_some()
    }
}

impl fmt::Debug for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chosen").field("share", &self.share).finish_non_exhaustive()
    }
}

/// A request that is traced, until it is dropped.
pub(crate) struct Trace {
    chosen: Arc<Chosen>,
    /// The visitor has a trace of their own.
    is_strangers: bool,
    spans: Mutex<Spans>,
}

struct Spans {
    request: Span,
    node: Option<Span>,
}

impl Trace {
    /// The request goes on to the node of a tunnel, which is told of the trace.
    pub(crate) fn lead_on(&self, headers: &mut HeaderMap, tunnel: &Tunnel) {
        let mut spans = locked(&self.spans);
        spans.request.set_attribute(KeyValue::new("mytunnel.tunnel.id", tunnel.id().to_string()));
        spans.request.set_attribute(KeyValue::new("mytunnel.tunnel.name", tunnel.name().as_str().to_owned()));
        let here = Context::new().with_remote_span_context(spans.request.span_context().clone());
        let builder = SpanBuilder::from_name("node").with_kind(SpanKind::Client);
        let node = self.chosen.tracer.build_with_context(builder, &here);
        let here = Context::new().with_remote_span_context(node.span_context().clone());
        if !self.is_strangers {
            TraceContextPropagator::new().inject_context(&here, &mut HeaderInjector(headers));
        }
        spans.node = Some(node);
    }

    /// The head of the node's answer is there.
    pub(crate) fn node_answered(&self, status: StatusCode) {
        if let Some(mut node) = locked(&self.spans).node.take() {
            node.set_attribute(KeyValue::new("http.response.status_code", i64::from(status.as_u16())));
            node.end();
        }
    }

    /// The end of it.
    pub(crate) fn end(&self, told: Told<'_>) {
        let mut spans = locked(&self.spans);
        if let Some(mut node) = spans.node.take() {
            node.set_status(Status::error("no answer"));
            node.end();
        }
        let Told { status, error, bytes, visitor } = told;
        let span = &mut spans.request;
        span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
        span.set_attribute(KeyValue::new(
            "http.response.body.size",
            i64::try_from(bytes).unwrap_or(i64::MAX),
        ));
        if let Some(visitor) = visitor {
            span.set_attribute(KeyValue::new("client.address", visitor));
        }
        if let Some(error) = error {
            span.set_attribute(KeyValue::new("error.type", error.to_owned()));
        }
        if status >= 500 {
            span.set_status(Status::error(error.unwrap_or_default().to_owned()));
        }
        span.end();
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").finish_non_exhaustive()
    }
}

/// What is known at the end of a request.
#[derive(Debug)]
pub(crate) struct Told<'a> {
    pub(crate) status: u16,
    /// The code of `x-mytunnel-error`.
    pub(crate) error: Option<&'a str>,
    /// Of the answer's body.
    pub(crate) bytes: u64,
    pub(crate) visitor: Option<String>,
}

fn cut(text: &str) -> String {
    text.chars().take(FIELD).collect()
}

fn version(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_10 => "1.0",
        http::Version::HTTP_2 => "2",
        _ => "1.1",
    }
}

/// Sends batches, on the library's thread.
#[derive(Debug)]
struct Client {
    agent: Agent,
    /// It was said that the collector takes nothing.
    told: AtomicBool,
    lost: Arc<AtomicU64>,
}

fn agent() -> Agent {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = TlsConfig::builder().root_certs(RootCerts::WebPki).unversioned_rustls_crypto_provider(provider);
    Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        .max_redirects(0)
        .http_status_as_error(false)
        .tls_config(tls.build())
        .build()
        .into()
}

impl HttpClient for Client {
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<http::Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        // The thread has nothing else to do.
        let answer = self.send(request);
        let trouble = match &answer {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(answer.status().to_string()),
            Err(error) => Some(error.to_string()),
        };
        if trouble.is_some() {
            self.lost.fetch_add(1, Relaxed);
        }
        match trouble {
            None => self.told.store(false, Relaxed),
            // Once, and again when it has been well in between.
            Some(why) if !self.told.swap(true, Relaxed) => {
                tracing::warn!(%why, "the collector takes no traces; they are lost");
            }
            Some(_) => {}
        }
        Box::pin(ready(answer))
    }
}

impl Client {
    fn send(&self, request: Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let mut answer = self.agent.run(Request::from_parts(parts, body.to_vec()))?;
        let body = answer.body_mut().with_config().limit(MAX_ANSWER).read_to_vec()?;
        let mut read = http::Response::new(Bytes::from(body));
        *read.status_mut() = answer.status();
        *read.headers_mut() = answer.headers().clone();
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
