//! A running ingress, tunnels whose pipes lead to origins in the test, and visitors that speak raw bytes.

use std::{
    fmt,
    future::Future,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use futures::future::BoxFuture;
use mytunnel_keys::id::{ProjectId, TunnelId, TunnelKind, TunnelName};
use mytunnel_relay::{
    ingress::{ConsoleService, Https, IngressConfig, IngressError, Limits, ProxyNetwork, serve},
    local_ca::LocalCa,
    route::{Pipe, PipeError, PipeSource, Routes, Tunnel},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, DuplexStream},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// Long enough for a loaded machine, short enough to notice.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// How much may be between a sender and a receiver that does not read: buffers of the kernel, of the ingress in both
/// directions, of the pipe.
pub(crate) const ON_THE_WAY: usize = 16 << 20;

/// Fails the test instead of hanging.
pub(crate) async fn within<F: Future>(work: F) -> F::Output {
    tokio::time::timeout(PATIENCE, work).await.expect("it should not take this long")
}

/// An ingress for `*.tun.test`, console at `console.test`.
pub(crate) struct House {
    pub(crate) routes: Routes,
    pub(crate) address: SocketAddr,
    pub(crate) secure: SocketAddr,
    /// What a visitor has to trust.
    pub(crate) ca: String,
    /// Who vouches for visitors; nobody at first.
    pub(crate) sign_in: Arc<mytunnel_sign_in::Client>,
    pub(crate) shutdown: CancellationToken,
    serving: JoinSet<Result<(), IngressError>>,
}

impl House {
    pub(crate) async fn open() -> Self {
        Self::with(Limits::default(), None).await
    }

    pub(crate) async fn limited(limits: Limits) -> Self {
        Self::with(limits, None).await
    }

    pub(crate) async fn with(limits: Limits, console_service: Option<ConsoleService>) -> Self {
        Self::behind(&[], limits, console_service).await
    }

    /// Whoever connects from `proxies` is believed.
    pub(crate) async fn behind(
        proxies: &[&str],
        limits: Limits,
        console_service: Option<ConsoleService>,
    ) -> Self {
        Self::serving(proxies, limits, console_service, false, Routes::new()).await
    }

    /// One that serves nothing in the clear.
    pub(crate) async fn over_tls(console_service: Option<ConsoleService>) -> Self {
        Self::serving(&[], Limits::default(), console_service, true, Routes::new()).await
    }

    /// One that has just started and knows no names yet.
    pub(crate) async fn starting(limits: Limits) -> Self {
        Self::serving(&[], limits, None, false, Routes::partial()).await
    }

    async fn serving(
        proxies: &[&str],
        limits: Limits,
        console_service: Option<ConsoleService>,
        only_https: bool,
        routes: Routes,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tls_listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, secure) = (listener.local_addr().unwrap(), tls_listener.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let authority = LocalCa::ephemeral("tun.test", "console.test", SystemTime::now()).unwrap();
        let ca = authority.certificate_pem().to_owned();
        let sign_in = Arc::default();
        let config = IngressConfig {
            http: Some(listener),
            https: Some(Https {
                listener: tls_listener,
                certificates: authority.resolver(routes.clone()),
                public_port: None,
            }),
            domain: "tun.test".into(),
            console: "console.test".into(),
            console_service,
            limits,
            proxies: proxies.iter().map(|proxy| proxy.parse::<ProxyNetwork>().unwrap()).collect(),
            only_https,
            sign_in: Arc::clone(&sign_in),
        };
        let mut serving = JoinSet::new();
        serving.spawn(serve(config, routes.clone(), shutdown.clone()));
        Self { routes, address, secure, ca, sign_in, shutdown, serving }
    }

    /// A house with one tunnel, `demo`.
    pub(crate) async fn with_demo(origin: &Arc<Origin>) -> (Self, Arc<Tunnel>) {
        let house = Self::open().await;
        let tunnel = house.share("demo", origin);
        (house, tunnel)
    }

    pub(crate) fn share(&self, name: &str, origin: &Arc<Origin>) -> Arc<Tunnel> {
        self.routes.insert(tunnel(name, TunnelKind::Http, origin))
    }

    pub(crate) async fn visitor(&self) -> Visitor {
        Visitor::new(TcpStream::connect(self.address).await.unwrap())
    }

    /// One request on a connection of its own.
    pub(crate) async fn ask(&self, request: impl AsRef<str>) -> Reply {
        let mut visitor = self.visitor().await;
        visitor.send(request).await;
        visitor.reply().await
    }

    /// Ends once everybody has left.
    pub(crate) async fn close(mut self) {
        self.shutdown.cancel();
        within(self.serving.join_next()).await.unwrap().unwrap().unwrap();
    }
}

pub(crate) fn name(name: &str) -> TunnelName {
    name.parse().unwrap()
}

pub(crate) fn tunnel(label: &str, kind: TunnelKind, origin: &Arc<Origin>) -> Tunnel {
    let project: ProjectId = "proj_a".parse().unwrap();
    let id = TunnelId::derive(&"tun.test".parse().unwrap(), &project, &name(label));
    Tunnel::new(id, name(label), project, kind, Arc::clone(origin) as Arc<dyn PipeSource>)
}

type Serve = Box<dyn Fn(usize, DuplexStream) -> BoxFuture<'static, ()> + Send + Sync>;

/// The far end of a tunnel: a node and its local server.
pub(crate) struct Origin {
    serve: Serve,
    status: u8,
    gone: AtomicBool,
    opened: AtomicUsize,
    tasks: Mutex<JoinSet<()>>,
}

impl Origin {
    /// Serves each pipe with `serve(its number from one, its bytes)`.
    pub(crate) fn new<F, R>(serve: F) -> Arc<Self>
    where
        F: Fn(usize, DuplexStream) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        Self::answering(0, serve)
    }

    /// A node that answers each pipe with `status` first.
    pub(crate) fn answering<F, R>(status: u8, serve: F) -> Arc<Self>
    where
        F: Fn(usize, DuplexStream) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        Arc::new(Self {
            serve: Box::new(move |number, pipe| Box::pin(serve(number, pipe))),
            status,
            gone: AtomicBool::new(false),
            opened: AtomicUsize::new(0),
            tasks: Mutex::new(JoinSet::new()),
        })
    }

    /// A server with keep-alive: `answer` makes a response of each request (head and body as one text).
    pub(crate) fn server(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Arc<Self> {
        let answer = Arc::new(answer);
        Self::new(move |_, pipe| {
            let answer = Arc::clone(&answer);
            async move {
                let mut pipe = BufReader::new(pipe);
                while let Some(request) = read_request(&mut pipe).await {
                    if pipe.write_all(answer(&request).as_bytes()).await.is_err() {
                        return;
                    }
                }
            }
        })
    }

    /// A server that answers every request with `text`.
    pub(crate) fn saying(text: &'static str) -> Arc<Self> {
        Self::server(move |_| ok(text))
    }

    /// A server that answers with the request it got.
    pub(crate) fn echo() -> Arc<Self> {
        Self::server(ok)
    }

    pub(crate) fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }

    /// The node's process ends: its connection with every pipe.
    pub(crate) fn kill(&self) {
        self.set_gone(true);
        self.tasks.lock().unwrap().abort_all();
    }

    pub(crate) fn set_gone(&self, gone: bool) {
        self.gone.store(gone, Ordering::SeqCst);
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origin").field("opened", &self.opened).finish_non_exhaustive()
    }
}

impl PipeSource for Origin {
    fn open(&self) -> BoxFuture<'_, Result<Pipe, PipeError>> {
        Box::pin(async move {
            if self.gone.load(Ordering::SeqCst) {
                return Err(PipeError::Gone);
            }
            let number = self.opened.fetch_add(1, Ordering::SeqCst) + 1;
            let (near, mut far) = tokio::io::duplex(64 * 1024);
            far.write_u8(self.status).await.map_err(PipeError::Open)?;
            if self.status == 0 {
                self.tasks.lock().unwrap().spawn((self.serve)(number, far));
            } else {
                self.tasks.lock().unwrap().spawn(async move {
                    let mut rest = Vec::new();
                    drop(far.read_to_end(&mut rest).await);
                });
            }
            Ok(Box::new(near) as Pipe)
        })
    }
}

/// A response with `body` and its length.
pub(crate) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// A head and its body (by length or chunks), as text; `None` at the end of the stream.
pub(crate) async fn read_request<R: AsyncRead + Unpin>(stream: &mut BufReader<R>) -> Option<String> {
    let head = read_head(stream).await.ok()?;
    let body = read_body(stream, &head, false).await.ok()?;
    Some(head + &String::from_utf8_lossy(&body))
}

/// A head with its empty line.
pub(crate) async fn read_head<R: AsyncRead + Unpin>(stream: &mut BufReader<R>) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_until(b'\n', &mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

pub(crate) fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (field, value) = line.split_once(':')?;
        field.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

async fn read_body<R: AsyncRead + Unpin>(
    stream: &mut BufReader<R>,
    head: &str,
    to_the_end: bool,
) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if let Some(length) = field(head, "content-length") {
        body.resize(length.parse().unwrap(), 0);
        stream.read_exact(&mut body).await?;
    } else if field(head, "transfer-encoding").is_some() {
        while let Some(chunk) = read_chunk(stream).await? {
            body.extend(chunk);
        }
    } else if to_the_end {
        stream.read_to_end(&mut body).await?;
    }
    Ok(body)
}

/// One chunk; `None` for the last one.
pub(crate) async fn read_chunk<R: AsyncRead + Unpin>(
    stream: &mut BufReader<R>,
) -> io::Result<Option<Vec<u8>>> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let size = usize::from_str_radix(line.trim(), 16).expect("a chunk size");
    let mut chunk = vec![0; size + 2];
    stream.read_exact(&mut chunk).await?;
    chunk.truncate(size);
    Ok((size > 0).then_some(chunk))
}

/// A visitor on one connection.
pub(crate) struct Visitor<S = TcpStream> {
    pub(crate) stream: BufReader<S>,
}

#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }

    pub(crate) fn fields(&self, name: &str) -> Vec<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The relay's own answer: its status and its code.
    pub(crate) fn error(&self) -> (u16, Option<&str>) {
        (self.status, self.field("x-mytunnel-error"))
    }
}

impl Visitor {
    /// Leaves with a reset.
    pub(crate) fn reset(self) {
        let stream = self.stream.into_inner();
        stream.set_zero_linger().unwrap();
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Visitor<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<str>) {
        self.stream.write_all(bytes.as_ref().as_bytes()).await.unwrap();
    }

    pub(crate) async fn get(&mut self, path: &str) -> Reply {
        self.send(get(path)).await;
        self.reply().await
    }

    /// The next response, to a request that was not HEAD.
    pub(crate) async fn reply(&mut self) -> Reply {
        within(self.try_reply()).await.expect("a complete response")
    }

    pub(crate) async fn try_reply(&mut self) -> io::Result<Reply> {
        let mut reply = self.try_head().await?;
        if !matches!(reply.status, 100..=199 | 204 | 304) {
            reply.body = read_body(&mut self.stream, &reply.head, true).await?;
        }
        Ok(reply)
    }

    pub(crate) async fn head(&mut self) -> Reply {
        within(self.try_head()).await.expect("the head of a response")
    }

    async fn try_head(&mut self) -> io::Result<Reply> {
        let head = read_head(&mut self.stream).await?;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Ok(Reply { status, head, body: Vec::new() })
    }

    /// Everything up to the end of the connection; an error if it was reset.
    pub(crate) async fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        within(self.stream.read_to_end(&mut rest)).await?;
        Ok(rest)
    }

    /// Waits until the relay has ended the connection, in whatever way.
    pub(crate) async fn gone(&mut self) {
        drop(self.rest().await);
    }
}

/// A plain request for `demo`.
pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: demo.tun.test\r\n\r\n")
}
