//! Calls of gRPC: a target and a relay that speak HTTP/2 at the two ends of a pipe.

use std::convert::Infallible;

use bytes::Bytes;
use futures::{StreamExt as _, channel::mpsc, stream};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Body, Frame},
    client::conn::http2::SendRequest,
};
use mytunnel_carrier::beside::Beside;

use super::*;

type Error = Box<dyn std::error::Error + Send + Sync>;
type Answer = Result<Response<BoxBody<Bytes, Error>>, Error>;

/// Has a target that serves each call with `service`, and a relay that asks by `calls`.
async fn between<S, R, B, C>(service: S, calls: impl FnOnce(SendRequest<B>) -> C) -> C::Output
where
    S: Fn(Request<Incoming>) -> R + Clone,
    R: Future<Output = Answer> + Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Error>,
    C: Future,
{
    let Bench { pipe, listener, node: _node } = bench().await;
    let answering = async {
        let (local, _) = timeout(SOON, listener.accept()).await.expect("the target is not dialled").unwrap();
        let beside = Beside::default();
        let builder = hyper::server::conn::http2::Builder::new(beside.clone());
        beside.drive(builder.serve_connection(TokioIo::new(local), service_fn(service))).await
    };
    let (near, far) = duplex(64 * 1024);
    let (mut from_us, mut to_us) = tokio::io::split(far);
    let (mut from_node, mut to_node) = tokio::io::split(pipe);
    let up = tokio::io::copy(&mut from_us, &mut to_node);
    let down = async {
        // The node's status comes before what the target says.
        assert_eq!(from_node.read_u8().await.unwrap(), PipeStatus::Connected as u8);
        tokio::io::copy(&mut from_node, &mut to_us).await
    };
    let asking = async {
        let beside = Beside::default();
        let builder = hyper::client::conn::http2::Builder::new(beside.clone());
        let (sender, connection) = builder.handshake(TokioIo::new(near)).await.unwrap();
        let mut driven = beside.drive(connection);
        tokio::select! {
            done = calls(sender) => done,
            ended = &mut driven => panic!("the connection ended first: {ended:?}"),
        }
    };
    tokio::select! {
        asked = timeout(SOON, asking) => asked.expect("no answer"),
        ended = answering => panic!("the target's connection ended first: {ended:?}"),
        carried = async { tokio::join!(up, down) } => panic!("the pipe ended first: {carried:?}"),
    }
}

fn call<B>(path: &str, body: B) -> Request<B> {
    let uri = format!("http://web.example/pkg.Service/{path}");
    Request::post(uri).header("te", "trailers").body(body).unwrap()
}

fn plain(text: &'static str) -> Response<BoxBody<Bytes, Error>> {
    Response::new(Full::from(text).map_err(|never| match never {}).boxed())
}

async fn text(answer: Response<Incoming>) -> String {
    String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn it_goes_on_in_http2_under_the_other_name() {
    let service = |request: Request<Incoming>| async move {
        let seen = format!("{} {}", request.uri(), request.headers()["te"].to_str()?);
        let sent = request.into_body().collect().await?.to_bytes();
        let ok = (header::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));
        let trailers = http::HeaderMap::from_iter([ok]);
        let frames = [Frame::data(Bytes::from(seen)), Frame::data(sent), Frame::trailers(trailers)];
        let body = StreamBody::new(stream::iter(frames.map(Ok::<_, Infallible>)));
        Ok(Response::new(body.map_err(|never| match never {}).boxed()))
    };
    between(service, async |mut sender| {
        let answer = sender.send_request(call("Call", Full::from("|message"))).await.unwrap();
        let answer = answer.into_body().collect().await.unwrap();
        assert_eq!(answer.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(answer.to_bytes(), "http://dev.local/pkg.Service/Call trailers|message");
    })
    .await;
}

#[tokio::test]
async fn two_calls_at_once_on_one_pipe_each_get_their_own_answer() {
    let both = Arc::new(tokio::sync::Barrier::new(2));
    let service = move |request: Request<Incoming>| {
        let both = Arc::clone(&both);
        async move {
            // Neither is answered before both are there.
            both.wait().await;
            Ok(plain(if request.uri().path().ends_with("/One") { "one" } else { "two" }))
        }
    };
    between(service, async |sender| {
        let ask = |path: &'static str| {
            let mut sender = sender.clone();
            async move { text(sender.send_request(call(path, Full::from(""))).await.unwrap()).await }
        };
        assert_eq!(tokio::join!(ask("One"), ask("Two")), ("one".to_owned(), "two".to_owned()));
    })
    .await;
}

#[tokio::test]
async fn a_call_that_is_taken_back_is_taken_back_at_the_target_and_the_next_is_served() {
    let (gone, mut ends) = mpsc::channel(1);
    let (began, mut begins) = mpsc::channel(1);
    let service = move |request: Request<Incoming>| {
        let (mut gone, mut began) = (gone.clone(), began.clone());
        async move {
            if request.uri().path().ends_with("/Next") {
                return Ok(plain("next"));
            }
            began.try_send(())?;
            // Until the caller has no more to say: an error is that it has left.
            let ended = request.into_body().collect().await;
            gone.try_send(ended.is_err())?;
            std::future::pending().await
        }
    };
    between(service, async |mut sender| {
        // Never ends by itself.
        let (_open, frames) = mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
        let endless = || StreamBody::new(frames).map_err(|never| match never {}).boxed_unsync();
        let next = || Full::from("").map_err(|never| match never {}).boxed_unsync();
        let answer = sender.send_request(call("Endless", endless()));
        let mut answer = Box::pin(answer);
        tokio::select! {
            _ = &mut answer => panic!("it is not answered"),
            begun = begins.next() => begun.unwrap(),
        }
        drop(answer);
        assert_eq!(ends.next().await, Some(true), "the target is told");
        assert_eq!(text(sender.send_request(call("Next", next())).await.unwrap()).await, "next");
    })
    .await;
}

#[tokio::test]
async fn a_targets_reset_reaches_the_caller_with_its_code() {
    let service = |request: Request<Incoming>| async move {
        if request.uri().path().ends_with("/Next") {
            return Ok(plain("next"));
        }
        Err(Error::from(h2::Error::from(h2::Reason::ENHANCE_YOUR_CALM)))
    };
    between(service, async |mut sender| {
        let refused = sender.send_request(call("Reset", Full::from(""))).await.unwrap_err();
        let reset = std::error::Error::source(&refused).and_then(|source| source.downcast_ref::<h2::Error>());
        assert_eq!(reset.and_then(h2::Error::reason), Some(h2::Reason::ENHANCE_YOUR_CALM), "{refused:?}");
        assert_eq!(text(sender.send_request(call("Next", Full::from(""))).await.unwrap()).await, "next");
    })
    .await;
}
