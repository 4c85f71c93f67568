//! Requests passed on with another `Host` (`--host-header`), for servers that answer to one name only.
//!
//! Costs a parse of every head on both ways, which is why it is not how pipes are served otherwise. Bodies stream;
//! upgrades go through. A pipe keeps to one connection to the target: when the target closes it, the pipe ends after
//! the answer under way.

mod http2;

use std::{
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
};

use futures::FutureExt as _;
use http::{HeaderValue, Request, Response, StatusCode, header, uri::Scheme};
use hyper::{
    body::Incoming,
    client::conn::http1::{self as client, SendRequest},
    server::conn::http1 as server,
    service::service_fn,
    upgrade::OnUpgrade,
};
use hyper_util::rt::TokioIo;
use mytunnel_carrier::{
    chunk::Chunk,
    splice::{Deaf, splice},
};
use mytunnel_keys::wire::PipeStatus;
use tokio::io::AsyncWriteExt as _;

use super::{Patience, Pipe, PipeError, http_pipe::HttpPipe, outcome, pulse::Pulse, refuse};
use crate::target::dial::{Dialer, Origin, Speech};

/// A server, and the `Host` it wants to be called by.
#[derive(Debug)]
pub(crate) struct Rewrite {
    dialer: Dialer,
    host: HeaderValue,
}

impl Rewrite {
    pub(super) fn new(dialer: Dialer, host: HeaderValue) -> Self {
        Self { dialer, host }
    }

    pub(super) async fn serve(
        &self,
        mut pipe: impl Pipe + 'static,
        first: Chunk,
        patience: Patience,
        pulse: Arc<Pulse>,
    ) -> Result<(), PipeError> {
        let speech = Speech::of(first.filled());
        let origin = match self.dialer.dial(speech).await {
            Ok(origin) => origin,
            Err(error) => {
                refuse(pipe, PipeStatus::TargetUnreachable, patience).await?;
                return Err(PipeError::Target(error));
            }
        };
        pipe.write_all(&[PipeStatus::Connected as u8]).await?;
        let pipe = HttpPipe::new(pipe, first, pulse);
        match origin {
            Origin::Tcp(stream) => self.speak(speech, pipe, stream, Scheme::HTTP).await,
            Origin::Tls(stream) => self.speak(speech, pipe, *stream, Scheme::HTTPS).await,
            Origin::Here(stream) => self.speak(speech, pipe, stream, Scheme::HTTP).await,
            #[cfg(unix)]
            Origin::Unix(stream) => self.speak(speech, pipe, stream, Scheme::HTTP).await,
        }
    }

    async fn speak<P, O>(
        &self,
        speech: Speech,
        pipe: HttpPipe<P>,
        origin: O,
        scheme: Scheme,
    ) -> Result<(), PipeError>
    where
        P: Pipe + 'static,
        O: Pipe + 'static,
    {
        match speech {
            Speech::Http2 => http2::relay(pipe, origin, (scheme, &self.host)).await,
            Speech::Other => self.relay(pipe, origin).await,
        }
    }

    async fn relay<P, O>(&self, pipe: HttpPipe<P>, origin: O) -> Result<(), PipeError>
    where
        P: Pipe + 'static,
        O: Pipe + 'static,
    {
        let (sender, connection) = client::Builder::new()
            .preserve_header_case(true)
            .handshake(TokioIo::new(origin))
            .await
            .map_err(PipeError::Http)?;
        let upgrade = Mutex::new(None);
        let forward = Arc::new(Forward { sender: Mutex::new(sender), host: self.host.clone(), upgrade });
        let passing = forward.clone();
        let visitor = server::Builder::new()
            .preserve_header_case(true)
            .serve_connection(TokioIo::new(pipe), service_fn(move |request| passing.clone().pass(request)))
            .with_upgrades();
        let (mut visitor, mut connection) = (pin!(visitor), pin!(connection.with_upgrades().fuse()));
        let visited = tokio::select! {
            visited = visitor.as_mut() => visited,
            // Its errors reach the request under way through the sender.
            _ = connection.as_mut() => {
                visitor.as_mut().graceful_shutdown();
                visitor.await
            },
        };
        visited.map_err(PipeError::Http)?;
        match forward.take_upgrade() {
            None => Ok(()),
            Some(upgrade) => {
                let mut spliced = pin!(upgrade.splice());
                tokio::select! {
                    ended = spliced.as_mut() => ended,
                    // It hands its stream over when it is polled to its end.
                    _ = connection => spliced.await,
                }
            }
        }
    }
}

/// Passes requests to the connection of one pipe.
struct Forward {
    sender: Mutex<SendRequest<Incoming>>,
    host: HeaderValue,
    upgrade: Mutex<Option<Upgrade>>,
}

impl Forward {
    async fn pass(
        self: Arc<Self>,
        mut request: Request<Incoming>,
    ) -> Result<Response<Incoming>, hyper::Error> {
        request.headers_mut().insert(header::HOST, self.host.clone());
        let visitor = hyper::upgrade::on(&mut request);
        std::future::poll_fn(|cx| lock(&self.sender).poll_ready(cx)).await?;
        let answer = lock(&self.sender).send_request(request);
        let mut response = answer.await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            *lock(&self.upgrade) = Some(Upgrade { visitor, origin: hyper::upgrade::on(&mut response) });
        }
        Ok(response)
    }

    fn take_upgrade(&self) -> Option<Upgrade> {
        lock(&self.upgrade).take()
    }
}

/// Both ends of a connection that left HTTP.
struct Upgrade {
    visitor: OnUpgrade,
    origin: OnUpgrade,
}

impl Upgrade {
    async fn splice(self) -> Result<(), PipeError> {
        let (visitor, origin) = tokio::try_join!(self.visitor, self.origin).map_err(PipeError::Http)?;
        let (mut visitor, mut origin) = (TokioIo::new(visitor), TokioIo::new(origin));
        // The pipe below keeps the pulse that counts.
        let mut pulse = &Pulse::default();
        let held = (Chunk::take(), Chunk::take());
        outcome(splice(&mut visitor, &mut origin, held, Deaf::MayAnswer, &mut pulse).await)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
