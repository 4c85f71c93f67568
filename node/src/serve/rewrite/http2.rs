//! The same in HTTP/2, in which gRPC comes: one call for each pipe, so that windows are those of a call.

use futures::{FutureExt as _, future::Fuse};
use http::{
    HeaderValue, Request, Response, Uri, header,
    uri::{Authority, Scheme},
};
use hyper::{
    body::Incoming,
    client::conn::http2::{self as client, SendRequest},
    server::conn::http2 as server,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use mytunnel_carrier::beside::Beside;

use super::super::{Pipe, PipeError, http_pipe::HttpPipe};

/// What either end may send before the other has taken it, in bytes.
const WINDOW: u32 = 256 * 1024;

/// Calls at once on one pipe. A relay begins one.
const CALLS: u32 = 16;

/// Largest head, in bytes: more than a relay passes on.
const HEAD: u32 = 256 * 1024;

pub(super) async fn relay<P, O>(
    pipe: HttpPipe<P>,
    origin: O,
    (scheme, host): (Scheme, &HeaderValue),
) -> Result<(), PipeError>
where
    P: Pipe + 'static,
    O: Pipe + 'static,
{
    let (asking, serving) = (Beside::default(), Beside::default());
    let (sender, connection) = client::Builder::new(asking.clone())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_header_list_size(HEAD)
        .handshake(TokioIo::new(origin))
        .await
        .map_err(PipeError::Http)?;
    let host = host.clone();
    let visitor = server::Builder::new(serving.clone())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_concurrent_streams(CALLS)
        .max_header_list_size(HEAD)
        .serve_connection(
            TokioIo::new(pipe),
            service_fn(move |request| pass(sender.clone(), request, (scheme.clone(), host.clone()))),
        );
    let mut visited = serving.drive(visitor);
    let mut connection: Fuse<_> = asking.drive(connection).fuse();
    tokio::select! {
        ended = &mut visited => ended,
        // Its errors reach the calls under way through the sender.
        _ = &mut connection => visited.await,
    }
    .map_err(PipeError::Http)
}

async fn pass(
    mut sender: SendRequest<Incoming>,
    mut request: Request<Incoming>,
    (scheme, host): (Scheme, HeaderValue),
) -> Result<Response<Incoming>, hyper::Error> {
    // A head that names a host in a field of its own names none twice.
    if request.headers_mut().contains_key(header::HOST) {
        request.headers_mut().insert(header::HOST, host.clone());
    }
    if let Some(uri) = called(request.uri(), scheme, &host) {
        *request.uri_mut() = uri;
    }
    sender.ready().await?;
    sender.send_request(request).await
}

/// The same path at another host, by how the target is reached: behind TLS, strict servers want no other scheme. None where that is no authority, which [`super::Rewrite`] is not made with.
fn called(uri: &Uri, scheme: Scheme, host: &HeaderValue) -> Option<Uri> {
    let mut parts = uri.clone().into_parts();
    parts.scheme = Some(scheme);
    parts.authority = Some(Authority::try_from(host.as_bytes()).ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authority_and_the_scheme_alone_change() {
        let called = |uri: &'static str, scheme| {
            let host = HeaderValue::from_static("dev.local:50051");
            called(&Uri::from_static(uri), scheme, &host).unwrap().to_string()
        };
        assert_eq!(
            called("http://rpc.example/pkg.Service/Call?x=1", Scheme::HTTP),
            "http://dev.local:50051/pkg.Service/Call?x=1"
        );
        assert_eq!(called("http://rpc.example/a", Scheme::HTTPS), "https://dev.local:50051/a");
    }
}
