//! The node's side: a libp2p transport that dials [places](Place), through a proxy where one is configured.

use std::{
    fmt, io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Pending},
};
use http::{Request, StatusCode, Uri, header};
use http_body_util::Empty;
use hyper::{client::conn::http1, upgrade::Upgraded};
use hyper_util::{
    client::proxy::matcher::{Intercept, Matcher},
    rt::TokioIo,
};
use libp2p::{
    Multiaddr, Transport,
    core::transport::{DialOpts, ListenerId, TransportError, TransportEvent},
};
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{
    client_async_with_config,
    tungstenite::{self, Bytes},
};

use super::{
    PATH,
    door::Socket,
    messages::{self, Stream},
    place::{Host, Place},
};
use crate::unchecked;

/// Which proxies lead to where. Clones share it.
#[derive(Clone)]
pub struct Proxies(Arc<Matcher>);

impl Proxies {
    /// No proxy: everybody is dialled.
    pub fn none() -> Self {
        Self(Arc::new(Matcher::builder().build()))
    }

    /// This one to everywhere but the hosts, domains and networks of the list `except`, as curl reads `NO_PROXY`.
    pub fn new(proxy: &str, except: &str) -> Self {
        Self(Arc::new(Matcher::builder().https(proxy).no(except).build()))
    }
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A proxy's URL may hold a password.
        f.debug_struct("Proxies").finish_non_exhaustive()
    }
}

/// Dials relays by WebSockets.
#[derive(Clone)]
pub struct Dialer {
    proxies: Proxies,
    tls: TlsConnector,
}

/// Why a relay was not reached by a WebSocket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// Nobody answers there, or the name leads nowhere.
    #[error("{at} cannot be reached: {source}")]
    Connect {
        /// The relay, or the proxy.
        at: String,
        /// Why.
        source: io::Error,
    },
    /// The proxy is one of another kind.
    #[error("the proxy {0} is none of HTTP: write HTTPS_PROXY as http://HOST:PORT")]
    Proxy(String),
    /// The proxy lets nobody through, or not us.
    #[error("the proxy {at} answers {status}{}", if *.status == StatusCode::PROXY_AUTHENTICATION_REQUIRED { ": write its user and password into HTTPS_PROXY" } else { "" })]
    Refused {
        /// The proxy.
        at: String,
        /// What it says.
        status: StatusCode,
    },
    /// The proxy speaks no HTTP that could be read.
    #[error("the proxy does not answer as one")]
    Http(#[source] hyper::Error),
    /// The relay's name is none.
    #[error("the relay's name is none")]
    Name(#[from] InvalidDnsNameError),
    /// There is no TLS.
    #[error("there is no TLS with the relay: {0}")]
    Tls(#[source] io::Error),
    /// What answers HTTPS there takes no WebSockets of nodes.
    #[error("what answers there is no relay: {0}")]
    NoRelay(#[source] Box<tungstenite::Error>),
}

impl Dialer {
    /// One that goes by these proxies.
    ///
    /// # Errors
    /// When the TLS library does not offer the versions that it should.
    pub fn new(proxies: Proxies) -> Result<Self, rustls::Error> {
        let mut tls = unchecked::client_config()?;
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { proxies, tls: TlsConnector::from(Arc::new(tls)) })
    }

    async fn dial(self, place: Place) -> Result<Stream<TlsStream<Box<dyn Socket>>>, DialError> {
        let way: Uri = format!("https://{place}").parse().map_err(|_| DialError::NoRelay(no_url()))?;
        let socket: Box<dyn Socket> = match self.proxies.0.intercept(&way) {
            Some(proxy) => Box::new(through(&proxy, &place).await?),
            None => Box::new(connect(place.host(), place.port()).await?),
        };
        let name = place.name();
        let socket =
            self.tls.connect(ServerName::try_from(name.clone())?, socket).await.map_err(DialError::Tls)?;
        let host = match (place.port(), name.contains(':')) {
            (443, false) => name,
            (port, false) => format!("{name}:{port}"),
            (port, true) => format!("[{name}]:{port}"),
        };
        let url = format!("wss://{host}{PATH}");
        let opened = client_async_with_config(url, socket, Some(messages::config())).await;
        let (socket, _) = opened.map_err(|error| DialError::NoRelay(Box::new(error)))?;
        Ok(messages::of(socket))
    }
}

fn no_url() -> Box<tungstenite::Error> {
    Box::new(tungstenite::Error::Url(tungstenite::error::UrlError::NoHostName))
}

async fn connect(host: &Host, port: u16) -> Result<TcpStream, DialError> {
    let connected = match host {
        Host::Ip(ip) => TcpStream::connect((*ip, port)).await,
        Host::Name(name) => TcpStream::connect((name.as_str(), port)).await,
    };
    let host = match host {
        Host::Ip(ip) => ip.to_string(),
        Host::Name(name) => name.clone(),
    };
    let failed = |source| DialError::Connect { at: format!("{host}, port {port},"), source };
    let socket = connected.map_err(failed)?;
    socket.set_nodelay(true).map_err(failed)?;
    Ok(socket)
}

/// Has a proxy connect us (RFC 9110 §9.3.6).
async fn through(proxy: &Intercept, place: &Place) -> Result<TokioIo<Upgraded>, DialError> {
    let at = proxy.uri().authority().map(|at| at.as_str().rsplit('@').next().unwrap_or_default().to_owned());
    let at = at.unwrap_or_default();
    if proxy.uri().scheme_str() != Some("http") {
        return Err(DialError::Proxy(at));
    }
    let host = proxy.uri().host().unwrap_or_default().trim_matches(['[', ']']);
    let host = host.parse().map_or_else(|_| Host::Name(host.to_owned()), Host::Ip);
    let socket = connect(&host, proxy.uri().port_u16().unwrap_or(80)).await?;
    let (mut sender, connection) =
        http1::handshake::<_, Empty<Bytes>>(TokioIo::new(socket)).await.map_err(DialError::Http)?;
    let to = place.to_string();
    let mut request = Request::connect(to.as_str()).header(header::HOST, to.as_str());
    if let Some(known) = proxy.basic_auth() {
        request = request.header(header::PROXY_AUTHORIZATION, known);
    }
    let request = request.body(Empty::new()).map_err(|_| DialError::NoRelay(no_url()))?;
    let mut asked = pin!(async move {
        let answer = sender.send_request(request).await.map_err(DialError::Http)?;
        let status = answer.status();
        if !status.is_success() {
            return Err(DialError::Refused { at, status });
        }
        hyper::upgrade::on(answer).await.map_err(DialError::Http)
    });
    let upgraded = tokio::select! {
        upgraded = asked.as_mut() => upgraded,
        // What went wrong, the one who asks hears of.
        _ = connection.with_upgrades() => asked.await,
    };
    upgraded.map(TokioIo::new)
}

impl Transport for Dialer {
    type Output = Stream<TlsStream<Box<dyn Socket>>>;
    type Error = DialError;
    type ListenerUpgrade = Pending<Result<Self::Output, DialError>>;
    type Dial = BoxFuture<'static, Result<Self::Output, DialError>>;

    fn listen_on(&mut self, _: ListenerId, at: Multiaddr) -> Result<(), TransportError<DialError>> {
        Err(TransportError::MultiaddrNotSupported(at))
    }

    fn remove_listener(&mut self, _: ListenerId) -> bool {
        false
    }

    fn dial(&mut self, to: Multiaddr, _: DialOpts) -> Result<Self::Dial, TransportError<DialError>> {
        match Place::of(&to) {
            Some(place) => Ok(self.clone().dial(place).boxed()),
            None => Err(TransportError::MultiaddrNotSupported(to)),
        }
    }

    fn poll(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, DialError>> {
        Poll::Pending
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").field("proxies", &self.proxies).finish_non_exhaustive()
    }
}
