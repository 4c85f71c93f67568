//! Bodies as they pass through: frames are handed on one by one, uncopied, and only as fast as the other side takes
//! them. One enum per direction, so that the hot path boxes nothing.

mod response;
mod visitor;

use std::{
    error::Error,
    mem,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures::task::AtomicWaker;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

pub(crate) use response::{Download, ResponseBody};
pub use visitor::VisitorBody;

use super::{head, locked, visit::Visit};
use crate::{route::Tunnel, traffic::Pause};

/// What a body can fail with.
pub type BodyError = Box<dyn Error + Send + Sync>;

/// A body was cut off. The peer's connection is aborted, so that it can't take the part for the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body ended before its end")]
pub(crate) struct Truncated;

/// From the visitor to the node.
#[derive(Debug)]
pub(crate) enum RequestBody {
    Empty,
    Upload(Upload),
    /// Until the tunnel's server has taken the connection.
    Held(Held),
}

impl RequestBody {
    /// Holds an upload back until `accepted`: it can be taken back and sent elsewhere before.
    pub(crate) fn hold(&mut self, accepted: &Arc<Granted>) -> HeldUpload {
        let held = HeldUpload::default();
        if let Self::Upload(upload) = mem::replace(self, Self::Empty) {
            let hint = upload.size_hint();
            *locked(&held.0) = Some(upload);
            *self = Self::Held(Held { upload: held.clone(), accepted: Arc::clone(accepted), hint });
        }
        held
    }

    /// It goes to this tunnel from here on.
    pub(crate) fn lead_to(&mut self, tunnel: &Arc<Tunnel>) {
        if let Self::Upload(upload) = self {
            upload.tunnel = Arc::clone(tunnel);
        }
    }

    fn release(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Truncated>> {
        if let Self::Held(held) = self {
            ready!(held.accepted.poll(cx));
            *self = Self::Upload(held.upload.take().ok_or(Truncated)?);
        }
        Poll::Ready(Ok(()))
    }
}

/// A request body of which nothing is sent before the tunnel's server has taken the connection.
#[derive(Debug)]
pub(crate) struct Held {
    upload: HeldUpload,
    accepted: Arc<Granted>,
    hint: SizeHint,
}

/// An upload that was held back, for as long as it is.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeldUpload(Arc<Mutex<Option<Upload>>>);

impl HeldUpload {
    pub(crate) fn take(&self) -> Option<Upload> {
        locked(&self.0).take()
    }
}

/// A request body that has bytes to come.
#[derive(Debug)]
pub(crate) struct Upload {
    incoming: VisitorBody,
    visit: Arc<Visit>,
    tunnel: Arc<Tunnel>,
    /// Set when the visitor waits for permission to send (RFC 9110 §10.1.1).
    permission: Option<Permission>,
    pause: Pause,
    received: u64,
}

impl Upload {
    pub(crate) fn new(
        incoming: VisitorBody,
        visit: Arc<Visit>,
        tunnel: Arc<Tunnel>,
        permission: Option<Permission>,
    ) -> Self {
        visit.begin_upload();
        Self { incoming, visit, tunnel, permission, pause: Pause::default(), received: 0 }
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.visit.upload().end();
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Err(error) = ready!(this.release(cx)) {
            return Poll::Ready(Some(Err(error.into())));
        }
        let Self::Upload(upload) = this else { return Poll::Ready(None) };
        if let Some(permission) = &mut upload.permission {
            ready!(permission.poll(cx));
            upload.permission = None;
        }
        ready!(upload.tunnel.traffic().poll_ready(&mut upload.pause, cx));
        let Poll::Ready(frame) = Pin::new(&mut upload.incoming).poll_frame(cx) else {
            upload.visit.await_upload();
            return Poll::Pending;
        };
        let bytes = match &frame {
            Some(Ok(frame)) => frame.data_ref().map_or(0, |data| data.len() as u64),
            Some(Err(_)) | None => 0,
        };
        upload.visit.uploaded(bytes);
        upload.received = upload.received.saturating_add(bytes);
        if !upload.visit.may_upload(upload.received) {
            upload.visit.upload().set_too_large();
            return Poll::Ready(Some(Err(Truncated.into())));
        }
        if upload.visit.is_objected() {
            return Poll::Ready(Some(Err(Truncated.into())));
        }
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                upload.tunnel.traffic().count_in(bytes);
                Some(Ok(match frame.into_trailers() {
                    Ok(mut trailers) => {
                        head::trailers_to_node(&mut trailers);
                        Frame::trailers(trailers)
                    }
                    Err(frame) => frame,
                }))
            }
            Some(Err(error)) => {
                upload.visit.upload().set_broken();
                Some(Err(error))
            }
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Upload(upload) => upload.incoming.is_end_stream(),
            Self::Held(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Upload(upload) => upload.size_hint(),
            Self::Held(held) => held.hint,
        }
    }
}

/// Holds a request body back until the tunnel's server says 100, or for a while: not every server does.
#[derive(Debug)]
pub(crate) struct Permission {
    granted: Arc<Granted>,
    patience: Pin<Box<Sleep>>,
}

#[derive(Debug, Default)]
pub(crate) struct Granted {
    granted: AtomicBool,
    waker: AtomicWaker,
}

impl Granted {
    pub(crate) fn grant(&self) {
        self.granted.store(true, Ordering::Release);
        self.waker.wake();
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.waker.register(cx.waker());
        if self.granted.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Permission {
    pub(crate) fn new(granted: Arc<Granted>, patience: Duration) -> Self {
        Self { granted, patience: Box::pin(tokio::time::sleep(patience)) }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.granted.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        self.patience.as_mut().poll(cx)
    }
}
