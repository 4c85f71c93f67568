//! HTTPS to the authority: one connection for each request, of which an order has about ten.

use std::{
    error::Error as StdError,
    fs,
    future::Future,
    path::Path,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, Uri,
    header::{HOST, RETRY_AFTER},
    uri::PathAndQuery,
};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use super::{AcmeError, refusal::RateLimited};

/// Time for one request.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of an answer: a chain of certificates is the longest.
const MOST: usize = 256 * 1024;

type Failure = Box<dyn StdError + Send + Sync>;

/// See the [module documentation](self).
#[derive(Clone)]
pub(super) struct Client(TlsConnector);

impl Client {
    /// Believes `ca`, or without one whom browsers believe.
    pub(super) fn new(ca: Option<&Path>) -> Result<Self, AcmeError> {
        let roots = match ca {
            None => RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() },
            Some(path) => roots_in(path)?,
        };
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    async fn send(self, request: Request<BodyWrapper<Bytes>>) -> Result<Response<Bytes>, Failure> {
        let (mut head, body) = request.into_parts();
        let authority = head.uri.authority().cloned().ok_or("the URL has no host")?;
        if head.uri.scheme_str() != Some("https") {
            return Err("the authority's URL is not https".into());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let stream = TcpStream::connect((host.as_str(), authority.port_u16().unwrap_or(443))).await?;
        let stream = self.0.connect(ServerName::try_from(host)?, stream).await?;
        let path = head.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        head.headers.insert(HOST, HeaderValue::from_str(authority.as_str())?);
        head.uri = Uri::from(path);
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let exchange = async {
            let response = sender.send_request(Request::from_parts(head, body)).await?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MOST).collect().await?.to_bytes();
            Ok(Response::from_parts(head, body))
        };
        let mut exchange = std::pin::pin!(exchange);
        tokio::select! {
            done = &mut exchange => done,
            // Its end, however it ends, shows in the exchange.
            _ = connection => exchange.await,
        }
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.clone();
        Box::pin(async move {
            match timeout(PATIENCE, client.send(request)).await {
                Ok(Ok(response)) => match refusal(&response) {
                    Some(refusal) => Err(Error::Other(Box::new(refusal))),
                    None => Ok(response.map(Full::new).into()),
                },
                Ok(Err(error)) => Err(Error::Other(error)),
                Err(_) => Err(Error::Str("an answer in time")),
            }
        })
    }
}

/// The library lets go of the header that says until when, and so this is read before it comes to see the answer.
fn refusal(response: &Response<Bytes>) -> Option<RateLimited> {
    let has_failed = response.status().is_client_error() || response.status().is_server_error();
    let retry_after = response.headers().get(RETRY_AFTER).map(HeaderValue::as_bytes);
    has_failed.then(|| RateLimited::read(response.body(), retry_after, SystemTime::now()))?
}

fn roots_in(path: &Path) -> Result<RootCertStore, AcmeError> {
    let none = || AcmeError::NoCertificate { path: path.to_owned() };
    let text = fs::read(path).map_err(|source| AcmeError::File { path: path.to_owned(), source })?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        roots.add(certificate.map_err(|_| none())?).map_err(|_| none())?;
    }
    if roots.is_empty() { Err(none()) } else { Ok(roots) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acme::order::OrderError;

    #[test]
    fn an_answer_that_says_wait_is_told_apart_with_its_time() {
        let body = r#"{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many new orders","status":429}"#;
        let answer = |status: u16| {
            let answer = Response::builder().status(status).header(RETRY_AFTER, "7200");
            answer.body(Bytes::from_static(body.as_bytes())).unwrap()
        };
        let refused = refusal(&answer(429)).unwrap();
        let left = refused.until.duration_since(SystemTime::now()).unwrap();
        assert!(left > Duration::from_secs(7100) && left <= Duration::from_secs(7200), "{left:?}");
        assert!(refusal(&answer(200)).is_none());
        // It comes through the library as it was.
        let error = OrderError::from(Error::Other(Box::new(refused)));
        assert_eq!(error.refusal().unwrap().detail, "too many new orders");
    }
}
