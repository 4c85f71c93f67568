//! A recorded request, sent to the target again: over a pipe of our own, so that it is answered and recorded as a
//! visitor's is.

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use mytunnel_carrier::chunk::Chunk;
use mytunnel_keys::wire::PipeStatus;
use tokio::{
    io::{AsyncReadExt as _, DuplexStream, duplex},
    time::timeout,
};

use super::{
    Inspector,
    exchange::{Exchange, Header},
    tap::Kind,
};
use crate::{
    serve::{self, table::Service},
    share::TunnelSpec,
    target::DialError,
};

/// An answer that takes longer is cut.
const PATIENCE: Duration = Duration::from_secs(30);
/// For the recorder to write down what has passed.
const RECORDED: Duration = Duration::from_secs(5);
/// Bytes under way in each direction.
const BUFFER: usize = 64 * 1024;
/// Of one connection, or said anew for the body that is sent.
const NOT_AGAIN: [HeaderName; 9] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// A request to be sent again, as it was or changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Again {
    /// The exchange it is taken from.
    pub of: u64,
    /// Its method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// In order; those of one connection are left out.
    pub headers: Vec<Header>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Again {
    /// The same request.
    ///
    /// # Errors
    /// When it was not kept whole, or has left HTTP.
    pub fn of(exchange: &Exchange) -> Result<Self, ReplayError> {
        let head = exchange.request.as_ref().ok_or(ReplayError::NotWhole)?;
        if exchange.upgraded {
            return Err(ReplayError::Upgraded);
        }
        if !exchange.request_body.is_whole() {
            return Err(ReplayError::NotWhole);
        }
        Ok(Self {
            of: exchange.id,
            method: head.method.clone(),
            target: head.target.clone(),
            headers: head.headers.clone(),
            body: exchange.request_body.kept.clone(),
        })
    }

    fn request(self) -> Result<Request<Full<Bytes>>, ReplayError> {
        let method = Method::from_bytes(self.method.as_bytes()).map_err(|_| ReplayError::Method)?;
        let uri: Uri = self.target.parse().map_err(|_| ReplayError::Target)?;
        if !self.target.starts_with('/') || method == Method::CONNECT {
            return Err(ReplayError::Target);
        }
        let mut request = Request::new(Full::new(Bytes::from(self.body)));
        (*request.method_mut(), *request.uri_mut()) = (method, uri);
        for header in self.headers {
            let unusable = || ReplayError::Header(header.name.clone());
            let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| unusable())?;
            let value = HeaderValue::from_bytes(&header.value).map_err(|_| unusable())?;
            if !NOT_AGAIN.contains(&name) {
                request.headers_mut().append(name, value);
            }
        }
        Ok(request)
    }
}

/// Sends requests to a share's target.
#[derive(Debug)]
pub struct Replayer {
    service: Service,
    inspector: Inspector,
}

impl Replayer {
    /// To the target of this share, as its visitors reach it; recorded by its inspector.
    ///
    /// # Errors
    /// When the target cannot be dialled at all, or nobody inspects the share.
    pub fn new(spec: &TunnelSpec) -> Result<Self, DialError> {
        let inspector = spec.inspector.clone().ok_or(DialError::NoServer)?;
        Ok(Self { service: Service::new(spec)?, inspector })
    }

    /// Sends a request, waits for its answer, and returns the number of the exchange that it became.
    ///
    /// # Errors
    /// When it cannot be sent, or was not recorded. What the target did with it stands in the record.
    pub async fn send(&self, again: Again) -> Result<u64, ReplayError> {
        let kind = Kind::Replay { of: again.of };
        let request = again.request()?;
        let (near, far) = duplex(BUFFER);
        let far = self.inspector.tap(far, &[], kind);
        let line = far.line();
        let serving =
            serve::answer(far, Chunk::take(), &self.service, serve::Patience::default(), Arc::default());
        let mut changes = self.inspector.changes();
        {
            let (asking, serving) = (ask(near, request), Box::pin(serving));
            let both = async {
                let mut asking = pin!(asking);
                tokio::select! {
                    biased;
                    () = asking.as_mut() => {}
                    _ = serving => asking.await,
                }
            };
            // One that goes on is recorded up to here.
            let _ = timeout(PATIENCE, both).await;
        }
        let recorded = changes.wait_for(|_| self.recorded(line).is_some());
        // Either way the record is what is asked.
        let _ = timeout(RECORDED, recorded).await;
        self.recorded(line).ok_or(ReplayError::NotRecorded)
    }

    fn recorded(&self, line: u64) -> Option<u64> {
        let store = self.inspector.store();
        store.of_line(line).filter(|id| store.get(*id).is_some_and(|exchange| exchange.ended.is_some()))
    }
}

/// Sends one request and reads its answer to the end. What goes wrong is seen by the tap.
async fn ask(mut near: DuplexStream, request: Request<Full<Bytes>>) {
    if near.read_u8().await.ok() != Some(PipeStatus::Connected as u8) {
        return;
    }
    let Ok((mut sender, connection)) = http1::handshake(TokioIo::new(near)).await else { return };
    let answer = async move {
        let Ok(mut response) = sender.send_request(request).await else { return };
        while let Some(Ok(_)) = response.frame().await {}
    };
    let mut answer = pin!(answer);
    tokio::select! {
        biased;
        () = answer.as_mut() => {}
        _ = connection => answer.await,
    }
}

/// Why a request was not sent again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// A part is missing.
    #[error("the request was not kept whole; of a body, 1 MiB is kept")]
    NotWhole,
    /// It became a WebSocket or the like.
    #[error("a connection that was upgraded cannot be sent again")]
    Upgraded,
    /// No method that HTTP knows.
    #[error("the method is none")]
    Method,
    /// No path.
    #[error("the path has to begin with a slash and have no spaces")]
    Target,
    /// A header that cannot be sent.
    #[error("the header {0:?} cannot be sent")]
    Header(String),
    /// Nothing is known of it.
    #[error("the request was sent, but its answer was not recorded")]
    NotRecorded,
}
