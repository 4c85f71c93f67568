//! Where a scraper reads the metrics of a relay: an address of its own, beside everything that visitors and nodes reach.

use std::{convert::Infallible, io, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{CONTENT_TYPE, HOST},
};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{MEDIA_TYPE, Metrics};

/// Scrapers at once; the next waits until one is done.
const MOST: usize = 16;

/// For one scrape from its connection on.
const PATIENCE: Duration = Duration::from_secs(10);

/// Rest after an accept that failed, which it does when the process is out of file descriptors.
const REST: Duration = Duration::from_millis(100);

/// The bound address.
#[derive(Debug)]
pub(crate) struct Window {
    listener: TcpListener,
    address: SocketAddr,
}

impl Window {
    pub(crate) async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers scrapers until cancelled.
    pub(crate) async fn run(self, metrics: Metrics, stop: CancellationToken) {
        let (is_local, mut scrapes) = (self.address.ip().is_loopback(), JoinSet::new());
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = scrapes.join_next() => {}
                accepted = self.listener.accept(), if scrapes.len() < MOST => match accepted {
                    Ok((stream, _)) => {
                        let metrics = metrics.clone();
                        scrapes.spawn(timeout(PATIENCE, serve(stream, metrics, is_local)));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a scraper");
                        sleep(REST).await;
                    }
                }
            }
        }
        scrapes.shutdown().await;
    }
}

async fn serve(stream: TcpStream, metrics: Metrics, is_local: bool) {
    let answer = service_fn(|request| {
        let response = answer(&request, &metrics, is_local);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(PATIENCE).keep_alive(false);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), answer).await {
        tracing::debug!(%error, "a scrape ended badly");
    }
}

fn answer(request: &Request<Incoming>, metrics: &Metrics, is_local: bool) -> Response<Full<Bytes>> {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let told = |status: StatusCode, text: String, form: &'static str| {
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(form));
        response
    };
    let plain = "text/plain; charset=utf-8";
    if is_local && !host.is_some_and(names_this_machine) {
        let why = "This address is asked by the name of this machine: localhost, 127.0.0.1 or [::1].\n";
        return told(StatusCode::FORBIDDEN, why.to_owned(), plain);
    }
    match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => told(StatusCode::OK, metrics.text(), MEDIA_TYPE),
        (_, "/metrics") => told(StatusCode::METHOD_NOT_ALLOWED, "Only GET.\n".to_owned(), plain),
        _ => told(StatusCode::NOT_FOUND, "The metrics are at /metrics.\n".to_owned(), plain),
    }
}

/// Whether an authority can only be meant on this machine. A page of another host, whose name was made to lead here, shows
/// that name.
fn names_this_machine(authority: &str) -> bool {
    let Ok(authority) = authority.parse::<http::uri::Authority>() else { return false };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::names_this_machine;

    #[test]
    fn a_page_of_another_host_is_no_scraper() {
        for local in ["localhost", "LOCALHOST:9464", "127.0.0.1:9464", "[::1]:9464", "127.1.2.3"] {
            assert!(names_this_machine(local), "{local}");
        }
        for other in ["evil.example:9464", "192.0.2.1:9464", "", "localhost.evil.example", "a b"] {
            assert!(!names_this_machine(other), "{other}");
        }
    }
}
