//! One HTTP/1.1 connection to the coordinator, over TLS where its address says so.

use std::{io, sync::Arc};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use mytunnel_carrier::pinned;
use mytunnel_keys::token::ServerUrl;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{InvalidDnsNameError, ServerName},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinSet,
    time::{Duration, timeout},
};
use tokio_rustls::TlsConnector;

/// Time for a connection to stand.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why there is no connection, or no answer on it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// There is nobody to ask.
    #[error("no coordinator is named")]
    Nobody,
    /// The host's name cannot be one of a certificate.
    #[error("the coordinator's host name is not valid")]
    Name(#[from] InvalidDnsNameError),
    /// TLS cannot be set up.
    #[error("tls cannot be set up")]
    Tls(#[from] rustls::Error),
    /// The connection did not stand in time.
    #[error("the coordinator does not answer in time")]
    Late,
    /// The connection was refused, or failed in its TLS handshake.
    #[error("the coordinator cannot be reached")]
    Connect(#[source] io::Error),
    /// The connection failed within HTTP.
    #[error("the coordinator's answer failed")]
    Http(#[from] hyper::Error),
}

/// Makes connections to one coordinator.
#[derive(Debug)]
pub(super) struct Connector {
    authority: String,
    /// Host and port to connect to.
    socket: String,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

impl Connector {
    pub(super) fn new(url: &ServerUrl) -> Result<Self, ConnectError> {
        let authority = url.authority().to_owned();
        let (host, port) = match authority.rsplit_once(':') {
            // A colon inside brackets belongs to an IPv6 address.
            Some((host, port)) if !port.contains(']') => (host, port),
            _ => (authority.as_str(), if url.is_https() { "443" } else { "80" }),
        };
        let socket = format!("{host}:{port}");
        let tls = match url.is_https() {
            true => {
                let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())?;
                Some((Arc::new(tls_config(url)?), name))
            }
            false => None,
        };
        Ok(Self { authority, socket, tls })
    }

    /// Host and port that is connected to.
    #[cfg(test)]
    pub(super) fn socket(&self) -> &str {
        &self.socket
    }

    pub(super) async fn connect(&self) -> Result<Line, ConnectError> {
        timeout(PATIENCE, self.dial()).await.map_err(|_| ConnectError::Late)?
    }

    async fn dial(&self) -> Result<Line, ConnectError> {
        let stream = TcpStream::connect(&self.socket).await.map_err(ConnectError::Connect)?;
        stream.set_nodelay(true).map_err(ConnectError::Connect)?;
        match &self.tls {
            Some((config, name)) => {
                let connector = TlsConnector::from(Arc::clone(config));
                let stream = connector.connect(name.clone(), stream).await.map_err(ConnectError::Connect)?;
                Line::new(stream, self.authority.clone()).await
            }
            None => Line::new(stream, self.authority.clone()).await,
        }
    }
}

fn tls_config(url: &ServerUrl) -> Result<ClientConfig, rustls::Error> {
    if let Some(pin) = url.pin() {
        return pinned::client_config(*pin);
    }
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    Ok(builder.with_safe_default_protocol_versions()?.with_root_certificates(roots).with_no_client_auth())
}

/// A connection. Dropping it ends it, and with it the answer that is being read.
#[derive(Debug)]
pub(super) struct Line {
    authority: String,
    requests: SendRequest<Full<Bytes>>,
    _connection: JoinSet<()>,
}

impl Line {
    async fn new(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        authority: String,
    ) -> Result<Self, ConnectError> {
        let (requests, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            // Its failure is that of the request or of the answer on it.
            if let Err(error) = connection.await {
                tracing::trace!(%error, "line to the coordinator ended");
            }
        });
        Ok(Self { authority, requests, _connection: tasks })
    }

    /// Host and port as in the address, for the `Host` header.
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    pub(super) fn is_open(&self) -> bool {
        !self.requests.is_closed()
    }

    pub(super) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, ConnectError> {
        self.requests.ready().await?;
        Ok(self.requests.send_request(request).await?)
    }
}
