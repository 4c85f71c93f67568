//! A visitor who speaks HTTP/2.

use bytes::Bytes;
use h2::{
    Ping, PingPong, RecvStream, SendStream,
    client::{self, ResponseFuture, SendRequest},
};
use http::{HeaderMap, Method, Request, Response};
use mytunnel_relay::route::Tunnel;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinSet,
};

use crate::house::{House, within};

/// A visitor's connection, driven beside the test.
pub(crate) struct Http2 {
    pub(crate) sender: SendRequest<Bytes>,
    pub(crate) pings: PingPong,
    pub(crate) driver: JoinSet<Result<(), h2::Error>>,
}

impl Http2 {
    pub(crate) async fn on(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self::with(stream, &client::Builder::new()).await
    }

    pub(crate) async fn with(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        builder: &client::Builder,
    ) -> Self {
        let (sender, mut connection) = within(builder.handshake(stream)).await.unwrap();
        let pings = connection.ping_pong().unwrap();
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        Self { sender, pings, driver }
    }

    /// Speaks it at once, in clear text.
    pub(crate) async fn plain(house: &House) -> Self {
        Self::on(TcpStream::connect(house.address).await.unwrap()).await
    }

    pub(crate) async fn open(
        &mut self,
        request: Request<()>,
        end: bool,
    ) -> (ResponseFuture, SendStream<Bytes>) {
        self.sender = within(self.sender.clone().ready()).await.unwrap();
        self.sender.send_request(request, end).unwrap()
    }

    pub(crate) async fn ask(&mut self, request: Request<()>) -> Response<String> {
        let (response, _) = self.open(request, true).await;
        text(within(response).await.unwrap()).await
    }

    pub(crate) async fn get(&mut self, path: &str) -> Response<String> {
        self.ask(get(path)).await
    }

    /// The relay has read all that was sent, and done about it what it does at once: the second answer comes after what
    /// the first turn of its task has written.
    pub(crate) async fn settled(&mut self) {
        for _ in 0..2 {
            within(self.pings.ping(Ping::opaque())).await.unwrap();
        }
    }

    /// How the connection ended.
    pub(crate) async fn ended(mut self) -> Result<(), h2::Error> {
        drop(self.sender);
        within(self.driver.join_next()).await.unwrap().unwrap()
    }
}

pub(crate) fn get(path: &str) -> Request<()> {
    request(Method::GET, path)
}

pub(crate) fn request(method: Method, path: &str) -> Request<()> {
    Request::builder().method(method).uri(format!("http://demo.tun.test{path}")).body(()).unwrap()
}

pub(crate) async fn text(response: Response<RecvStream>) -> Response<String> {
    let (head, body) = response.into_parts();
    Response::from_parts(head, String::from_utf8(all(body).await.unwrap().0).unwrap())
}

pub(crate) async fn all(mut body: RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut bytes = Vec::new();
    while let Some(piece) = within(body.data()).await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        bytes.extend_from_slice(&piece);
    }
    Ok((bytes, within(body.trailers()).await?))
}

pub(crate) fn error(response: &Response<String>) -> (u16, Option<&str>) {
    let code = response.headers().get("x-mytunnel-error").map(|code| code.to_str().unwrap());
    (response.status().as_u16(), code)
}

pub(crate) async fn empty(tunnel: &Tunnel) {
    within(async {
        while tunnel.in_flight() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
