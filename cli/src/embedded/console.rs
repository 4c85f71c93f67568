//! The coordinator's API at the console's host of a relay.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures::future::FutureExt;
use http_body_util::BodyExt;
use http_body_util::combinators::BoxBody;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use mytunnel_coordinator::{ClientAddress, Coordinator};
use mytunnel_relay::ingress::{BodyError, ConsoleService, VisitorAddress};

/// Answers requests for the console from the coordinator.
pub(crate) fn service(coordinator: Arc<Coordinator>) -> ConsoleService {
    Arc::new(move |mut request| {
        // The coordinator and the relay do not know each other's types.
        if let Some(VisitorAddress(from)) = request.extensions().get().copied() {
            request.extensions_mut().insert(ClientAddress(from));
        }
        let coordinator = Arc::clone(&coordinator);
        async move { coordinator.handle(request).await.map(shareable) }.boxed()
    })
}

fn shareable<B>(body: B) -> BoxBody<Bytes, BodyError>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BodyError>,
{
    Shareable(Mutex::new(body)).map_err(Into::into).boxed()
}

/// A body that may be referred to from several threads, because it is only ever touched through `&mut`.
struct Shareable<B>(Mutex<B>);

impl<B> Shareable<B> {
    fn inner(&mut self) -> &mut B {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B: Body + Unpin> Body for Shareable<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(self.inner()).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).size_hint()
    }
}
