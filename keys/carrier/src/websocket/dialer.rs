//! The node's side: a libp2p transport that dials [places](Place), through a proxy where one is configured.

use std::{
    fmt, io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
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
use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{
    client_async_with_config,
    tungstenite::{self, Bytes},
};

use super::{
    PATH, connect,
    door::Socket,
    messages::{self, Stream},
    place::{Family, Host, Place},
};
use crate::unchecked;

/// Time to find out where the relay, or the proxy, is, and to connect to it.
const CONNECTING: Duration = Duration::from_secs(5);

/// Time for what follows: the proxy looks the relay up and connects to it, then TLS and HTTP, some six round trips.
const OPENING: Duration = Duration::from_secs(7);

/// Which proxies lead to where. Clones share it.
#[derive(Clone)]
pub struct Proxies(Arc<Matcher>);

impl Proxies {
    /// No proxy: everybody is dialled.
    pub fn none() -> Self {
        Self(Arc::new(Matcher::builder().build()))
    }

    /// This one to everywhere but the hosts, domains and networks of the list `except`, as curl reads `NO_PROXY`.
    ///
    /// # Errors
    /// [`UnreadableProxy`] for what is no URL of a proxy.
    pub fn new(proxy: &str, except: &str) -> Result<Self, UnreadableProxy> {
        // What the library cannot read, it takes for none, and everybody would be dialled past the proxy.
        let anywhere = Uri::from_static("https://relay.example");
        let by = Matcher::builder().https(proxy).build().intercept(&anywhere);
        let is_read = !ends_in_its_password(proxy) && by.is_some_and(|by| has_sound_port(by.uri()));
        is_read
            .then(|| Self(Arc::new(Matcher::builder().https(proxy).no(except).build())))
            .ok_or(UnreadableProxy)
    }

    /// The one to a relay, unless its address or its name is excepted.
    fn to(&self, place: &Place) -> Option<Intercept> {
        let by = |authority: &str| self.0.intercept(&format!("https://{authority}").parse::<Uri>().ok()?);
        by(&place.to_string()).filter(|_| by(&place.authority()).is_some())
    }
}

/// Whether a sign in it has made the password the end of the host.
fn ends_in_its_password(proxy: &str) -> bool {
    let behind_scheme = proxy.split_once("://").map_or(proxy, |(_, rest)| rest);
    behind_scheme.split_once(['/', '?', '#']).is_some_and(|(_, rest)| rest.contains('@'))
}

fn has_sound_port(uri: &Uri) -> bool {
    uri.authority().is_some_and(|at| at.as_str() == at.host() || at.port_u16().is_some())
}

/// What is no URL of a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no URL of a proxy")]
pub struct UnreadableProxy;

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

/// Why a relay was not reached by a WebSocket. Each says all that is known, what caused it included: it is the last in a chain of
/// errors, of which people are shown the last.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// Nobody answers there, or the name leads nowhere.
    #[error("{at} cannot be reached: {why}")]
    Connect {
        /// The relay, or the proxy.
        at: String,
        /// Why.
        why: io::Error,
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
    #[error("the proxy {at} does not answer as one: {why}")]
    Http {
        /// The proxy.
        at: String,
        /// What is wrong.
        why: hyper::Error,
    },
    /// The relay's name is none.
    #[error("the relay's name is none")]
    Name,
    /// There is no TLS.
    #[error("there is no TLS with the relay: {0}")]
    Tls(io::Error),
    /// What answers HTTPS there takes no WebSockets of nodes, or not now.
    #[error("what answers there is no relay, or takes nobody now: {0}")]
    NoRelay(Box<tungstenite::Error>),
    /// Somebody answered, but that was all.
    #[error("nothing more comes from {0}")]
    Late(String),
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

    /// The longest that a dial takes.
    pub const PATIENCE: Duration = Duration::from_secs(CONNECTING.as_secs() + OPENING.as_secs());

    async fn dial(self, place: Place) -> Result<Stream<TlsStream<Box<dyn Socket>>>, DialError> {
        let Some(proxy) = self.proxies.to(&place) else {
            let at = place.to_string();
            let socket = connect(&at, place.host(), place.port()).await?;
            return in_time(at, self.open(Box::new(socket), &place)).await;
        };
        let at = Proxy::of(&proxy)?;
        let socket = connect(&at.to_string(), &at.host, at.port).await?;
        let opened = async {
            let socket = through(&at.address, socket, &proxy, &place).await?;
            self.open(Box::new(socket), &place).await
        };
        in_time(at.to_string(), opened).await
    }

    async fn open(
        &self,
        socket: Box<dyn Socket>,
        place: &Place,
    ) -> Result<Stream<TlsStream<Box<dyn Socket>>>, DialError> {
        let name = ServerName::try_from(place.name()).map_err(|_| DialError::Name)?;
        let socket = self.tls.connect(name, socket).await.map_err(DialError::Tls)?;
        let url = format!("wss://{}{PATH}", place.authority());
        let opened = client_async_with_config(url, socket, Some(messages::config())).await;
        let (socket, _) = opened.map_err(|error| DialError::NoRelay(Box::new(error)))?;
        Ok(messages::of(socket))
    }
}

/// Where a proxy is.
struct Proxy {
    /// Host and port, as they were written.
    address: String,
    host: Host,
    port: u16,
}

impl Proxy {
    fn of(proxy: &Intercept) -> Result<Self, DialError> {
        let uri = proxy.uri();
        let address = uri.authority().map(|at| at.as_str().rsplit('@').next().unwrap_or_default().to_owned());
        let address = address.unwrap_or_default();
        if uri.scheme_str() != Some("http") {
            return Err(DialError::Proxy(address));
        }
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let host = host.parse().map_or_else(|_| Host::Name(host.to_owned(), Family::Any), Host::Ip);
        Ok(Self { address, host, port: uri.port_u16().unwrap_or(80) })
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the proxy {}", self.address)
    }
}

/// What does not hang.
async fn in_time<T>(at: String, opened: impl Future<Output = Result<T, DialError>>) -> Result<T, DialError> {
    timeout(OPENING, opened).await.unwrap_or(Err(DialError::Late(at)))
}

async fn connect(at: &str, host: &Host, port: u16) -> Result<TcpStream, DialError> {
    let connected = timeout(CONNECTING, connect::connect(host, port)).await;
    let connected = connected.unwrap_or_else(|_| {
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", CONNECTING.as_secs())))
    });
    connected.map_err(|why| DialError::Connect { at: at.to_owned(), why })
}

/// Has a proxy connect us (RFC 9110 §9.3.6).
async fn through(
    at: &str,
    socket: TcpStream,
    proxy: &Intercept,
    place: &Place,
) -> Result<TokioIo<Upgraded>, DialError> {
    let is_none = |why| DialError::Http { at: at.to_owned(), why };
    let (mut sender, connection) =
        http1::handshake::<_, Empty<Bytes>>(TokioIo::new(socket)).await.map_err(is_none)?;
    let to = place.to_string();
    let mut request = Request::connect(to.as_str()).header(header::HOST, to.as_str());
    if let Some(known) = proxy.basic_auth() {
        request = request.header(header::PROXY_AUTHORIZATION, known);
    }
    let request = request.body(Empty::new()).map_err(|_| DialError::Name)?;
    let mut asked = pin!(async move {
        let answer = sender.send_request(request).await.map_err(is_none)?;
        let status = answer.status();
        if !status.is_success() {
            return Err(DialError::Refused { at: at.to_owned(), status });
        }
        hyper::upgrade::on(answer).await.map_err(is_none)
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
