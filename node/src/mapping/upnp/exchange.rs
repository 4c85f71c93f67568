//! One request to a router and its answer, bounded in time and size.

use std::{io, net::Ipv4Addr, time::Duration};

use bytes::Bytes;
use futures::future::join;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpSocket, time::timeout};

use super::search::Place;

/// How long one exchange may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// What is read of an answer.
const LARGEST: usize = 64 << 10;

/// The same of what comes before it.
const HEAD: usize = 16 << 10;

/// Why a router gave no answer.
#[derive(Debug, thiserror::Error)]
pub(in crate::mapping) enum ExchangeError {
    #[error("it cannot be reached: {0}")]
    Unreachable(#[from] io::Error),
    #[error("it does not speak HTTP: {0}")]
    Http(#[from] hyper::Error),
    #[error("it takes too long")]
    Late,
    #[error("its answer is too large, or torn")]
    Body,
    #[error("it answers {0}")]
    Status(StatusCode),
    #[error("its address is none")]
    Address,
}

/// Fetches a document.
pub(super) async fn get(local: Ipv4Addr, place: &Place) -> Result<String, ExchangeError> {
    let request = Request::builder().method(Method::GET);
    let (status, text) = send(local, place, request, String::new()).await?;
    if status.is_success() { Ok(text) } else { Err(ExchangeError::Status(status)) }
}

/// Sends a request and reads the answer, whatever its status. Nothing else is said on that connection, and no answer leads to another.
pub(super) async fn send(
    local: Ipv4Addr,
    place: &Place,
    request: http::request::Builder,
    body: String,
) -> Result<(StatusCode, String), ExchangeError> {
    let request = request
        .uri(&place.path)
        .header(header::HOST, place.at.to_string())
        .header(header::CONNECTION, "close")
        .body(Full::new(Bytes::from(body)))
        .map_err(|_| ExchangeError::Address)?;
    timeout(PATIENCE, answered(local, place, request)).await.unwrap_or(Err(ExchangeError::Late))
}

async fn answered(
    local: Ipv4Addr,
    place: &Place,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, String), ExchangeError> {
    // By the network that the router leads out of, whatever else this machine is in.
    let socket = TcpSocket::new_v4()?;
    socket.bind((local, 0).into())?;
    let stream = socket.connect(place.at.into()).await?;
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(HEAD).handshake(TokioIo::new(stream)).await?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LARGEST).collect().await;
        // The connection ends with it.
        drop(sender);
        let body = body.map_err(|_| ExchangeError::Body)?.to_bytes();
        // What matters of it is ASCII; a maker's name need not be.
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    };
    join(connection, answer).await.1
}
