use std::task::Waker;

use super::*;

const KEPT: usize = 512;

fn is_open(offer: &Offer<'_, u32>) -> bool {
    matches!(offer, Offer::Open)
}

/// A pool with as many busy pipes as let others wait.
fn busy() -> Pool<u32> {
    let pool = Pool::default();
    for _ in 0..MANY {
        assert!(is_open(&pool.take()));
    }
    pool
}

fn waiting(pool: &Pool<u32>) -> Waiting<'_, u32> {
    match pool.take() {
        Offer::Wait(waiting) => waiting,
        other @ (Offer::Kept(_) | Offer::Open) => panic!("{other:?}"),
    }
}

fn poll(waiting: &mut Waiting<'_, u32>) -> Poll<Option<u32>> {
    waiting.poll(&mut Context::from_waker(Waker::noop()))
}

fn put(pool: &Pool<u32>, pipe: u32) {
    pool.put(pipe, Instant::now(), KEPT);
}

fn counts(pool: &Pool<u32>) -> (usize, usize, usize) {
    let state = locked(&pool.0);
    (state.busy, state.idle.len(), state.waiting.len())
}

#[test]
fn the_warmest_pipe_is_taken() {
    let pool = busy();
    put(&pool, 1);
    put(&pool, 2);
    assert!(matches!(pool.take(), Offer::Kept(2)));
    assert_eq!(counts(&pool), (MANY - 1, 1, 0));
}

#[test]
fn a_pipe_that_comes_back_goes_to_who_waited_longest() {
    let pool = busy();
    let (mut first, mut second) = (waiting(&pool), waiting(&pool));
    put(&pool, 7);
    assert_eq!(poll(&mut second), Poll::Pending);
    assert_eq!(poll(&mut first), Poll::Ready(Some(7)));
    pool.leave();
    assert_eq!(poll(&mut second), Poll::Ready(None), "a place came free");
    assert_eq!(counts(&pool), (MANY, 0, 0));
    put(&pool, 7);
    pool.leave();
    assert_eq!(counts(&pool), (MANY - 2, 1, 0));
}

#[test]
fn what_was_given_to_who_left_goes_to_the_next() {
    let pool = busy();
    let (first, left, mut second) = (waiting(&pool), waiting(&pool), waiting(&pool));
    drop(left);
    put(&pool, 7);
    drop(first);
    assert_eq!(poll(&mut second), Poll::Ready(Some(7)));
    let (first, mut second) = (waiting(&pool), waiting(&pool));
    pool.leave();
    drop(first);
    assert_eq!(poll(&mut second), Poll::Ready(None));
    assert_eq!(counts(&pool), (MANY, 0, 0));
}

#[test]
fn what_nobody_takes_is_not_kept_beyond_the_limit() {
    let pool = busy();
    let left = waiting(&pool);
    pool.put(7, Instant::now(), 0);
    drop(left);
    assert_eq!(counts(&pool), (MANY - 1, 0, 0));
}

#[test]
fn who_has_waited_long_opens_a_pipe_of_its_own() {
    let pool = busy();
    assert_eq!(waiting(&pool).give_up(), None);
    assert_eq!(counts(&pool), (MANY + 1, 0, 0));
    let late = waiting(&pool);
    put(&pool, 7);
    assert_eq!(late.give_up(), Some(7), "it came at the last moment");
    assert_eq!(counts(&pool), (MANY + 1, 0, 0));
}

#[test]
fn those_who_gave_up_are_forgotten() {
    let pool = busy();
    for _ in 0..1000 {
        assert_eq!(waiting(&pool).give_up(), None);
    }
    assert!(counts(&pool).2 <= 1, "{:?}", counts(&pool));
}

#[test]
fn those_who_leave_while_they_wait_do_not_pile_up() {
    let pool = busy();
    let mut first = waiting(&pool);
    let live: Vec<_> = (0..20).map(|_| waiting(&pool)).collect();
    for _ in 0..1000 {
        drop(waiting(&pool));
    }
    assert!(counts(&pool).2 <= 64, "{:?}", counts(&pool));
    put(&pool, 7);
    assert_eq!(poll(&mut first), Poll::Ready(Some(7)), "who waits keeps its turn");
    drop(live);
    assert_eq!(counts(&pool).0, MANY);
}

#[test]
fn a_closed_pool_keeps_nothing_and_lets_nobody_wait() {
    let pool = busy();
    let mut early = waiting(&pool);
    pool.close();
    assert_eq!(poll(&mut early), Poll::Ready(None));
    assert!(is_open(&pool.take()));
    put(&pool, 1);
    assert_eq!(pool.idle(), 0);
    for _ in 0..=MANY {
        pool.leave();
    }
    assert_eq!(counts(&pool), (0, 0, 0));
}

#[test]
fn no_more_are_kept_than_the_limit() {
    let pool = busy();
    pool.put(1, Instant::now(), 1);
    pool.put(2, Instant::now(), 1);
    assert_eq!(counts(&pool), (MANY - 2, 1, 0));
}
