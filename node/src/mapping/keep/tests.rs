use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{advance, timeout},
};

use super::*;

/// A router that is played: it grants while it is willing, and remembers.
#[derive(Clone, Default)]
struct Played(Arc<Mutex<State>>, Arc<Doors>);

#[derive(Default)]
struct State {
    refuses: bool,
    /// The network has been left.
    is_gone: bool,
    asked: Vec<(Port, Option<u32>)>,
    given_back: Vec<u32>,
    granted: u32,
}

/// What lets a held answer through.
#[derive(Default)]
struct Doors {
    holds_asks: AtomicBool,
    holds_returns: AtomicBool,
    asked: Notify,
    answer: Notify,
}

const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);
const LIFE: Duration = Duration::from_secs(3600);

impl Lead for Played {
    type Lease = u32;

    fn gateway(&self, _local: Ipv4Addr) -> Option<Ipv4Addr> {
        (!self.0.lock().unwrap().is_gone).then_some(GATEWAY)
    }

    async fn ask(self, port: Port, gateway: Ipv4Addr, before: Option<u32>) -> Result<Lent<u32>, String> {
        assert_eq!(gateway, GATEWAY);
        self.0.lock().unwrap().asked.push((port, before));
        self.1.asked.notify_one();
        if self.1.holds_asks.load(Relaxed) {
            self.1.answer.notified().await;
        }
        let mut state = self.0.lock().unwrap();
        if state.refuses {
            return Err("no answer".to_owned());
        }
        state.granted += 1;
        let lease = before.unwrap_or(state.granted);
        Ok(Lent { lease, outside: SocketAddr::from(([198, 51, 100, 1], port.1.port())), life: LIFE })
    }

    async fn give_back(self, lease: u32) {
        if self.1.holds_returns.load(Relaxed) {
            std::future::pending::<()>().await;
        }
        self.0.lock().unwrap().given_back.push(lease);
    }
}

struct Kept {
    router: Played,
    wanted: watch::Sender<Ports>,
    mapped: mpsc::Receiver<Mapped>,
    task: JoinSet<()>,
}

impl Kept {
    fn begin(router: Played, ports: impl IntoIterator<Item = Port>) -> Self {
        let (wanted, asked) = watch::channel(ports.into_iter().collect());
        let (told, mapped) = mpsc::channel(1);
        let mut task = JoinSet::new();
        task.spawn(keep(router.clone(), asked, told));
        Self { router, wanted, mapped, task }
    }

    async fn next(&mut self) -> Mapped {
        self.mapped.recv().await.expect("the keeper lives")
    }

    fn asked(&self) -> Vec<(Port, Option<u32>)> {
        std::mem::take(&mut self.router.0.lock().unwrap().asked)
    }

    fn given_back(&self) -> BTreeSet<u32> {
        self.router.0.lock().unwrap().given_back.iter().copied().collect()
    }

    /// Nobody listens any more, nor will the answer that is held come later than this.
    async fn end(self) -> BTreeSet<u32> {
        let Self { router, wanted, mapped, mut task } = self;
        drop((wanted, mapped));
        // The clock goes on only when everybody waits.
        tokio::time::sleep(Duration::from_secs(1)).await;
        router.1.answer.notify_one();
        timeout(Duration::from_secs(30), task.join_next()).await.expect("it ends").unwrap().unwrap();
        router.0.lock().unwrap().given_back.iter().copied().collect()
    }
}

fn port(number: u16) -> Port {
    (Over::Quic, SocketAddrV4::new(Ipv4Addr::new(192, 168, 1, 7), number))
}

fn outside(number: u16) -> (Over, SocketAddr) {
    (Over::Quic, SocketAddr::from(([198, 51, 100, 1], number)))
}

#[tokio::test(start_paused = true)]
async fn what_is_wanted_is_asked_for_and_given_back_at_the_end() {
    let mut kept = Kept::begin(Played::default(), [port(4000), port(4001)]);
    assert_eq!(kept.next().await, [outside(4000), outside(4001)]);
    kept.wanted.send_replace(Ports::from([port(4001)]));
    assert_eq!(kept.next().await, [outside(4001)]);
    assert_eq!(kept.asked(), [(port(4000), None), (port(4001), None)]);
    assert_eq!(kept.end().await, BTreeSet::from([1, 2]));
}

#[tokio::test(start_paused = true)]
async fn no_more_than_four_are_asked_for() {
    let mut kept = Kept::begin(Played::default(), (4000..4010).map(port));
    assert_eq!(kept.next().await.len(), MOST);
    assert_eq!(kept.asked().len(), MOST);
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_at_half_its_life_and_counts_until_its_end_where_it_is_not() {
    let mut kept = Kept::begin(Played::default(), [port(4000)]);
    assert_eq!(kept.next().await, [outside(4000)]);
    assert_eq!(kept.asked(), [(port(4000), None)]);
    advance(LIFE / 2).await;
    kept.router.1.asked.notified().await;
    kept.router.1.asked.notified().await;
    assert_eq!(kept.asked(), [(port(4000), Some(1))]);
    // From here on it is silent: what was granted lives for one more hour.
    kept.router.0.lock().unwrap().refuses = true;
    let silent_since = Instant::now();
    assert_eq!(kept.next().await, []);
    let counted = silent_since.elapsed();
    assert!(counted > LIFE * 9 / 10 && counted <= LIFE, "{counted:?}");
    let asked = kept.asked().len();
    assert!((2..20).contains(&asked), "asked {asked} times");
    // And it is asked anew, now and then.
    kept.router.0.lock().unwrap().refuses = false;
    assert_eq!(kept.next().await, [outside(4000)]);
    assert_eq!(kept.end().await, BTreeSet::from([3]));
}

#[tokio::test(start_paused = true)]
async fn what_is_granted_only_after_the_end_is_given_back_too() {
    let router = Played::default();
    router.1.holds_asks.store(true, Relaxed);
    let kept = Kept::begin(router, [port(4000)]);
    kept.router.1.asked.notified().await;
    assert_eq!(kept.end().await, BTreeSet::from([1]));
}

#[tokio::test(start_paused = true)]
async fn a_renewal_under_way_at_the_end_loses_no_lease() {
    let mut kept = Kept::begin(Played::default(), [port(4000)]);
    kept.next().await;
    kept.router.1.asked.notified().await;
    kept.router.1.holds_asks.store(true, Relaxed);
    advance(LIFE / 2).await;
    kept.router.1.asked.notified().await;
    kept.router.0.lock().unwrap().refuses = true;
    assert_eq!(kept.end().await, BTreeSet::from([1]), "it was not renewed, and is given back all the same");
}

#[tokio::test(start_paused = true)]
async fn a_router_that_takes_nothing_back_holds_nothing_up() {
    let mut kept = Kept::begin(Played::default(), [port(4000)]);
    kept.next().await;
    kept.router.1.holds_returns.store(true, Relaxed);
    kept.wanted.send_replace(Ports::from([port(4001)]));
    assert_eq!(kept.next().await, [outside(4001)]);
    kept.router.1.holds_returns.store(false, Relaxed);
    let Kept { router, wanted, mapped, mut task } = kept;
    drop((wanted, mapped));
    // The first never ends, which the node's own bound cuts; the second is given back before that.
    timeout(Duration::from_secs(2), task.join_next()).await.unwrap_err();
    assert_eq!(router.0.lock().unwrap().given_back, [2]);
}

#[tokio::test(start_paused = true)]
async fn the_router_of_a_network_that_was_left_is_not_asked() {
    let mut kept = Kept::begin(Played::default(), [port(4000)]);
    kept.next().await;
    kept.router.0.lock().unwrap().is_gone = true;
    kept.wanted.send_replace(Ports::new());
    assert_eq!(kept.next().await, []);
    assert_eq!(kept.given_back(), BTreeSet::new());
}
