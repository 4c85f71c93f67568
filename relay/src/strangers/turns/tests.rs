use futures::{FutureExt as _, future::pending};

use super::{
    inner::{LATE, LEAST, PROMPT},
    *,
};

/// Turns that are left, and who waits.
fn free(turns: &Turns) -> (usize, usize) {
    let inner = turns.lock();
    let (given, waiting) = inner.count();
    (inner.limit().saturating_sub(given), waiting)
}

const OTHER: Network = Some(IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 0)));

/// Takes all turns.
fn taken(turns: &Turns) -> Vec<Option<Turn>> {
    (0..LEAST).map(|_| turns.turn(None).now_or_never().unwrap()).collect()
}

#[tokio::test]
async fn the_newest_comes_first_and_who_leaves_is_forgotten() {
    let turns = Turns::default();
    let mut first = taken(&turns);
    let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(turns.turn(None))).collect();
    for one in &mut waiting {
        assert!(one.as_mut().now_or_never().is_none(), "there is no room");
    }
    drop(waiting.pop());
    assert_eq!(free(&turns), (0, 2));
    first.pop();
    assert!(waiting[0].as_mut().now_or_never().is_none(), "it is the other's turn");
    let mut second = waiting.pop().unwrap();
    let second = second.as_mut().now_or_never().expect("the newest has it");
    assert_eq!(free(&turns), (0, 1));
    drop((first, second));
    assert!(waiting[0].as_mut().now_or_never().is_some());
    drop(waiting);
    assert_eq!(free(&turns), (LEAST, 0), "nothing is left behind");
    assert_eq!(turns.lock().networks(), (0, 0), "nor anybody's network");
}

#[tokio::test]
async fn whose_network_has_fewest_turns_comes_before_newer_ones() {
    let turns = Turns::default();
    let mut first = taken(&turns);
    let mut other = Box::pin(turns.turn(OTHER));
    assert!(other.as_mut().now_or_never().is_none());
    let mut flood: Vec<_> = (0..100).map(|_| Box::pin(turns.turn(None))).collect();
    for one in &mut flood {
        assert!(one.as_mut().now_or_never().is_none());
    }
    first.pop();
    assert!(other.as_mut().now_or_never().is_some());
    assert_eq!(free(&turns), (0, 100 - 1), "what it gave back is the flood's again");
}

#[tokio::test]
async fn one_who_is_given_its_turn_and_leaves_gives_it_back() {
    let turns = Turns::default();
    let first = taken(&turns);
    let mut leaving = Box::pin(turns.turn(OTHER));
    assert!(leaving.as_mut().now_or_never().is_none());
    drop(first);
    drop(leaving);
    assert_eq!(free(&turns), (LEAST, 0));
    assert_eq!(turns.lock().networks(), (0, 0));
}

/// Lets so many begin that there is no turn left; each does `work`.
fn all<W: Future<Output = Result<(), ()>>>(turns: &Turns, work: impl Fn() -> W) -> impl Future {
    let each = (0..LEAST).map(|_| {
        let mut one = Box::pin(turns.clone().take(None, work()));
        assert!(one.as_mut().now_or_never().is_none());
        one
    });
    futures::future::join_all(each.collect::<Vec<_>>())
}

async fn drag() -> Result<(), ()> {
    loop {
        sleep(SILENT / 2).await;
    }
}

/// When one more is done, beside those that have all turns.
async fn after(turns: &Turns, others: impl Future) -> Duration {
    let begun = Instant::now();
    tokio::select! {
        biased;
        _ = others => panic!("they never end"),
        done = turns.clone().take(None, async { Err::<(), ()>(()) }) => {
            assert_eq!(done, Err(()));
            begun.elapsed()
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_hardly_keeps_anybody_waiting_and_who_goes_on_not_for_long() {
    let turns = Turns::default();
    let silent = all(&turns, pending);
    assert!(after(&turns, silent).await < SILENT * 2);

    let fixed = || Turns(Arc::new(Mutex::new(Inner::new(LEAST))));
    let turns = fixed();
    let stopping = all(&turns, || async {
        sleep(SILENT / 2).await;
        pending().await
    });
    let waited = after(&turns, stopping).await;
    assert!(waited > TURN / 2 && waited < TURN * 2, "{waited:?}");

    let turns = fixed();
    let dripping = all(&turns, drag);
    let waited = after(&turns, dripping).await;
    assert!(waited > TURN / 2 && waited < TURN * 2, "{waited:?}");

    // A relay that has the time begins more.
    let turns = Turns::default();
    let dripping = all(&turns, drag);
    assert!(after(&turns, dripping).await < SILENT);
}

#[tokio::test(start_paused = true)]
async fn work_goes_on_after_its_turn() {
    let (sender, receiver) = oneshot::channel();
    let turns = Turns::default();
    let mut slow = Box::pin(turns.clone().take(None, receiver));
    tokio::select! {
        biased;
        _ = &mut slow => panic!("it cannot be done"),
        () = sleep(TURN) => {}
    }
    assert_eq!(free(&turns), (LEAST, 0));
    sender.send(7).unwrap();
    assert_eq!(slow.await, Ok(7));
    assert_eq!(free(&turns), (LEAST, 0));
}

#[tokio::test(start_paused = true)]
async fn a_turn_lasts_until_a_certificate_is_shown_or_should_have_been() {
    let turns = Turns::default();
    for _ in 0..LEAST {
        turns.clone().take(None, async { Ok::<(), ()>(()) }).await.unwrap();
    }
    assert_eq!(free(&turns), (0, 0));
    let mut waiting = [Box::pin(turns.turn(None)), Box::pin(turns.turn(None))];
    for one in &mut waiting {
        assert!(one.as_mut().now_or_never().is_none());
    }
    turns.end_one();
    let newest = waiting[1].as_mut().now_or_never().expect("one is admitted");
    assert!(waiting[0].as_mut().now_or_never().is_none());
    let look_again = turns.end_late(Instant::now()).expect("the others may still");
    turns.end_late(look_again);
    assert!(waiting[0].as_mut().now_or_never().is_some(), "they have had their time");
    drop((newest, waiting));
    assert_eq!(free(&turns), (LEAST, 0));
    turns.end_one();
    assert_eq!(free(&turns), (LEAST, 0), "nobody gives back what was taken away");
}

#[tokio::test]
async fn turns_that_are_dragged_out_get_short_until_certificates_are_shown() {
    let turns = Turns::default();
    for _ in 0..100 {
        turns.lock().waste();
    }
    assert_eq!(turns.lock().longest(), TURN, "nobody waited");
    let first = taken(&turns);
    let mut waiting = Box::pin(turns.turn(OTHER));
    assert!(waiting.as_mut().now_or_never().is_none());
    for _ in 0..100 {
        turns.lock().waste();
    }
    assert_eq!(turns.lock().longest(), SILENT);
    for _ in 0..LEAST {
        turns.prove();
    }
    assert_eq!(turns.lock().longest(), TURN);
    drop((first, waiting));
}

/// Who waits until it may begin, and then knows for how long it had to.
fn waiting(turns: &Turns) -> Vec<std::pin::Pin<Box<impl Future<Output = Option<Turn>> + use<'_>>>> {
    let mut all: Vec<_> = (0..2 * MOST).map(|_| Box::pin(turns.turn(None))).collect();
    all.iter_mut().for_each(|one| assert!(one.as_mut().now_or_never().is_none()));
    all
}

#[tokio::test]
async fn there_are_more_turns_while_whatever_comes_is_looked_at_soon_and_fewer_once_it_takes_long() {
    let turns = Turns::default();
    let first = taken(&turns);
    let ago = |delay: Duration| Instant::now().checked_sub(delay);
    turns.look(ago(Duration::ZERO));
    assert_eq!(turns.lock().limit(), LEAST, "nobody waited");
    let crowd = waiting(&turns);
    for more in 1..=8 {
        turns.look(ago(Duration::ZERO));
        assert_eq!(turns.lock().count(), (LEAST + more, 2 * MOST - more), "one more begins");
    }
    turns.lock().look((PROMPT + LATE) / 2, Instant::now());
    assert_eq!(turns.lock().limit(), LEAST + 8);
    for _ in 0..2 * MOST {
        turns.look(ago(Duration::ZERO));
    }
    assert_eq!(turns.lock().limit(), MOST);
    // All that are late at one moment are late once.
    let now = Instant::now();
    for _ in 0..100 {
        assert!(turns.lock().look(LATE, now).is_none());
    }
    assert_eq!(turns.lock().limit(), MOST * 3 / 4);
    for later in 1..100 {
        turns.lock().look(LATE, now + LATE * later);
    }
    assert_eq!(turns.lock().limit(), LEAST);
    let waits = turns.lock().count().1;
    drop(first);
    assert_eq!(
        turns.lock().count(),
        (MOST - LEAST, waits),
        "nobody begins while there are more than there may be"
    );
    drop(crowd);
    assert_eq!(turns.lock().count(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn peers_that_are_far_away_leave_room_for_others() {
    // A handshake of four round trips of 100 ms each.
    let far = || async {
        for _ in 0..4 {
            sleep(Duration::from_millis(100)).await;
        }
        Err::<(), ()>(())
    };
    let turns = Turns::default();
    let begun = Instant::now();
    let fleet = (0..1000).map(|_| turns.clone().take(None, far()));
    assert!(futures::future::join_all(fleet).await.iter().all(Result::is_err));
    let took = begun.elapsed();
    assert!(
        took < Duration::from_secs(3),
        "{took:?}: with so many turns as there are at first it would be 12 s"
    );
    assert!(took > Duration::from_millis(800), "{took:?}");
    assert_eq!(turns.lock().count(), (0, 0));
}
