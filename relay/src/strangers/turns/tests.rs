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
    let mut slow = Box::pin(turns.clone().take(None, async {
        sleep(SILENT / 2).await;
        receiver.await
    }));
    for (until, free_turns) in [(TURN - SILENT, LEAST - 1), (SILENT, LEAST)] {
        tokio::select! {
            biased;
            _ = &mut slow => panic!("it cannot be done"),
            () = sleep(until) => {}
        }
        assert_eq!(free(&turns), (free_turns, 0));
    }
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
    turns.end_one(Some(IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7))));
    assert!(waiting[1].as_mut().now_or_never().is_none(), "nobody of that network has arrived");
    turns.end_one(None);
    let newest = waiting[1].as_mut().now_or_never().expect("one is admitted");
    assert!(waiting[0].as_mut().now_or_never().is_none());
    let look_again = turns.end_late(Instant::now()).expect("the others may still");
    turns.end_late(look_again);
    assert!(waiting[0].as_mut().now_or_never().is_some(), "they have had their time");
    drop((newest, waiting));
    assert_eq!(free(&turns), (LEAST, 0));
    turns.end_one(None);
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

#[tokio::test(start_paused = true)]
async fn there_are_more_turns_while_whatever_comes_is_looked_at_soon_and_fewer_once_it_takes_long() {
    let turns = Turns::default();
    let first = taken(&turns);
    let ago = |delay: Duration| Instant::now().checked_sub(delay);
    turns.look(ago(Duration::ZERO), true);
    assert_eq!(turns.lock().limit(), LEAST, "nobody waited");
    let crowd = waiting(&turns);
    for more in 1..=8 {
        turns.look(ago(Duration::ZERO), true);
        assert_eq!(turns.lock().count(), (LEAST + more, 2 * MOST - more), "one more begins");
    }
    turns.look(ago(Duration::ZERO), false);
    turns.lock().look((PROMPT + LATE) / 2, true, Instant::now());
    assert_eq!(turns.lock().limit(), LEAST + 8);
    for _ in 0..2 * MOST {
        turns.look(ago(Duration::ZERO), true);
    }
    assert_eq!(turns.lock().limit(), MOST);
    // All that are late at one moment are late once.
    let now = Instant::now();
    for _ in 0..100 {
        assert!(turns.lock().look(LATE, true, now).is_none());
    }
    assert_eq!(turns.lock().limit(), MOST * 3 / 4);
    for later in 1..100 {
        turns.lock().look(LATE, true, now + LATE * later);
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
    assert_eq!(turns.lock().limit(), LEAST, "it is forgotten when nobody comes");
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

#[tokio::test(start_paused = true)]
async fn who_had_to_wait_and_says_nothing_keeps_a_turn_for_less_and_less() {
    let turns = Turns::default();
    let flood = (0..50 * LEAST).map(|_| turns.clone().take(OTHER, pending::<Result<(), ()>>()));
    let mut flood = Box::pin(futures::future::join_all(flood));
    assert!(flood.as_mut().now_or_never().is_none());
    let waited = after(&turns, flood).await;
    assert!(waited < SILENT * 2, "its network has none: {waited:?}");

    // From as many networks as there are of them, the newest is no better off than they.
    let turns = Turns::default();
    let from =
        |number: usize| Some(IpAddr::V4(std::net::Ipv4Addr::from_bits(u32::try_from(number << 8).unwrap())));
    let flood = (0..50 * LEAST).map(|number| turns.clone().take(from(number), pending::<Result<(), ()>>()));
    let mut flood = Box::pin(futures::future::join_all(flood));
    assert!(flood.as_mut().now_or_never().is_none());
    let begun = Instant::now();
    while turns.lock().count().1 > 0 {
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", turns.lock().count());
        tokio::select! {
            biased;
            _ = &mut flood => panic!("they never end"),
            () = sleep(SILENT) => {}
        }
    }
    assert_eq!(turns.lock().longest(), SILENT);
}

#[tokio::test(start_paused = true)]
async fn who_leaves_before_the_end_of_a_turn_has_wasted_it_as_well() {
    let turns = Turns::default();
    let (first, mut waiting) = (taken(&turns), Box::pin(turns.turn(OTHER)));
    assert!(waiting.as_mut().now_or_never().is_none());
    drop(first);
    assert_eq!(turns.lock().longest(), TURN, "they were short");
    drop(waiting);
    assert_eq!(turns.lock().count(), (0, 0));
    let mut held = taken(&turns);
    let mut crowd: Vec<_> = (0..8).map(|_| Box::pin(turns.turn(OTHER))).collect();
    crowd.iter_mut().for_each(|one| assert!(one.as_mut().now_or_never().is_none()));
    sleep(SILENT).await;
    held.truncate(LEAST - 4);
    let shorter = turns.lock().longest();
    assert!(shorter < TURN, "{shorter:?}");
    drop((held, crowd));
    assert_eq!(turns.lock().longest(), TURN, "it is forgotten when nobody comes");
}
