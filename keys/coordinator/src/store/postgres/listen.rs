//! Hearing at once that another coordinator has done something.

use std::time::Duration;

use futures::StreamExt as _;
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_postgres::AsyncMessage;

use super::PostgresUrl;
use crate::store::StoreError;
use crate::store::siblings::{CHANNEL, CoordinatorId};

/// Pause before the connection is made again. What happens meanwhile is seen by asking.
const PAUSE: Duration = Duration::from_secs(1);

/// Wakes `heard` whenever somebody but `me` announces something, until it is dropped.
pub(in crate::store) async fn listen(url: &PostgresUrl, me: CoordinatorId, heard: &Notify) {
    loop {
        if let Err(error) = once(url, me, heard).await {
            tracing::debug!(%error, "the database's notifications ended");
        }
        sleep(PAUSE).await;
    }
}

async fn once(url: &PostgresUrl, me: CoordinatorId, heard: &Notify) -> Result<(), StoreError> {
    let me = me.to_string();
    let (client, mut messages) = url.connect().await?;
    let ask = format!("LISTEN {CHANNEL}");
    let mut asking = std::pin::pin!(client.batch_execute(&ask));
    let mut listening = false;
    loop {
        tokio::select! {
            done = &mut asking, if !listening => {
                done?;
                listening = true;
                // What was announced before is not heard.
                heard.notify_one();
            }
            message = messages.next() => match message {
                Some(Ok(AsyncMessage::Notification(told))) if told.payload() == me => {}
                Some(Ok(AsyncMessage::Notification(_))) => heard.notify_one(),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => return Ok(()),
            },
        }
    }
}
