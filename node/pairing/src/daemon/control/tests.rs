use super::*;

/// How long a client waits for the answer to this request where nothing comes of it, though something changes each second.
async fn waits(request: Request, answer: Value) -> Duration {
    let ((commands, mut asked), (changed, changes)) = (mpsc::channel(1), watch::channel(0));
    let owner = async {
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                Some(Command { reply, .. }) = asked.recv() => reply.send(Ok(answer.clone())).unwrap(),
                _ = ticks.tick() => changed.send_modify(|count| *count += 1),
            }
        }
    };
    let began = Instant::now();
    let mut client = Client { commands, changes };
    tokio::select! {
        answered = client.answer(request) => assert_eq!(answered.unwrap(), answer),
        () = owner => panic!("it answers for ever"),
    }
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_longer_than_a_tool_may_whatever_it_asks_for() {
    assert!(limits::LISTEN < Duration::from_secs(25));
    for wait_ms in [60_000, u64::MAX] {
        let (session, reader) = (None, "me".to_owned());
        let listen = Request::Listen { session, reader, since: None, wait_ms, own: false };
        let nothing =
            serde_json::json!({ "session": "0707070707070707", "reason": "timeout", "messages": [] });
        assert_eq!(waits(listen, nothing).await, limits::LISTEN);
        let (inbox, most) = (PathBuf::new(), limits::FILE);
        let receive = Request::Receive { session: None, offer: 7, inbox, most, wait_ms, stop: false };
        assert_eq!(waits(receive, serde_json::json!({ "state": "receiving" })).await, limits::LISTEN);
    }
}
