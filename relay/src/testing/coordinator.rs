//! A coordinator in a few lines: signs a feed for every subscriber, and hands out the reports.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use mytunnel_keys::{
    api::RelayJoined,
    certificate::Claims,
    error::Code,
    feed::{Change, FeedKey, FeedWriter, Position, Report, Subscribe},
    id::Serial,
    trust::Trust,
    usage::{Lease, PriceList, Prices, Tell, Told, Usage},
};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use super::{Credential, cluster, feed_seed, relay_claims, trust_now};
use crate::{Authority, AuthorityError, FeedLink};

const SOON: Duration = Duration::from_secs(10);

pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

/// The end that relays subscribe to.
#[derive(Debug, Clone)]
pub(crate) struct TestCoordinator(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    writer: FeedWriter,
    trust: Trust,
    state: Vec<Change>,
    subscribers: Vec<mpsc::Sender<Bytes>>,
    reports: mpsc::Sender<Report>,
    reachable: bool,
    clock: i64,
    /// How it answers relays that renew.
    renewing: Renewing,
    /// Micro-cents that each key may yet be leased, and what was told of each.
    means: u64,
    used: watch::Sender<HashMap<Serial, Usage>>,
}

#[derive(Debug)]
struct Renewing {
    /// Seconds that a certificate lives.
    life: u64,
    refusal: Option<Code>,
    asked: watch::Sender<u32>,
}

impl TestCoordinator {
    pub(crate) fn new() -> (Self, Reports) {
        let (reports, reported) = mpsc::channel(4096);
        let inner = Inner {
            writer: FeedWriter::new(FeedKey::new(feed_seed()), cluster(), Position::start(1), 0),
            trust: trust_now(),
            state: Vec::new(),
            subscribers: Vec::new(),
            reports,
            reachable: true,
            clock: 0,
            renewing: Renewing { life: 3600, refusal: None, asked: watch::Sender::new(0) },
            means: 0,
            used: watch::Sender::new(HashMap::new()),
        };
        (Self(Arc::new(Mutex::new(inner))), Reports(reported))
    }

    /// Changes something for every subscriber.
    pub(crate) fn change(&self, change: Change) {
        let mut inner = self.0.lock().unwrap();
        inner.state.push(change.clone());
        let time = inner.time();
        let frame = inner.writer.delta(vec![change], time);
        inner.send(frame);
    }

    pub(crate) fn heartbeat(&self) {
        let mut inner = self.0.lock().unwrap();
        let time = inner.time();
        let frame = inner.writer.heartbeat([0; 32], time);
        inner.send(frame);
    }

    /// Cuts every subscription and answers no more, or answers again.
    pub(crate) fn set_reachable(&self, reachable: bool) {
        let mut inner = self.0.lock().unwrap();
        inner.reachable = reachable;
        inner.subscribers.clear();
    }

    /// Cuts every subscription.
    pub(crate) fn cut(&self) {
        self.0.lock().unwrap().subscribers.clear();
    }

    /// The signed bundle with which a subscription begins.
    pub(crate) fn trust(&self) -> Vec<u8> {
        self.0.lock().unwrap().trust.bytes().to_vec()
    }

    /// Takes a report that came on another way than the link.
    pub(crate) async fn reported(&self, report: Report) {
        let reports = self.0.lock().unwrap().reports.clone();
        reports.send(report).await.unwrap();
    }

    /// Certificates from here on live for so many seconds.
    pub(crate) fn set_life(&self, seconds: u64) {
        self.0.lock().unwrap().renewing.life = seconds;
    }

    /// Refuses to renew, and cuts every subscription, or renews again.
    pub(crate) fn set_refusal(&self, code: Option<Code>) {
        let mut inner = self.0.lock().unwrap();
        inner.renewing.refusal = code;
        inner.subscribers.clear();
    }

    /// How often relays have asked for a certificate.
    pub(crate) fn asked(&self) -> watch::Receiver<u32> {
        self.0.lock().unwrap().renewing.asked.subscribe()
    }

    /// Leases so many micro-cents from here on, all in all.
    #[cfg(test)]
    pub(crate) fn set_means(&self, means: u64) {
        self.0.lock().unwrap().means = means;
    }

    /// What was told of each key.
    #[cfg(test)]
    pub(crate) fn used(&self) -> watch::Receiver<HashMap<Serial, Usage>> {
        self.0.lock().unwrap().used.subscribe()
    }

    /// Sets the coordinator's clock off.
    pub(crate) fn set_clock(&self, offset: i64) {
        self.0.lock().unwrap().clock = offset;
    }
}

impl Inner {
    fn time(&self) -> u64 {
        unix_now().saturating_add_signed(self.clock)
    }

    fn answers(&self) -> Result<(), AuthorityError> {
        match self.renewing.refusal {
            _ if !self.reachable => Err(AuthorityError::Unreachable("out of reach".into())),
            Some(code) => Err(AuthorityError::Refused { code, message: "not you".to_owned() }),
            None => Ok(()),
        }
    }

    fn told(&mut self, tell: Tell) -> Told {
        for count in tell.counts {
            self.used.send_modify(|used| {
                used.insert(count.serial, count.total);
            });
        }
        let leases = tell.wants.iter().map(|want| {
            // In place of what is held, which goes back.
            self.means += want.held;
            let amount = want.ask.min(self.means);
            self.means -= amount;
            Lease { key: want.key, amount, seconds: 60 }
        });
        let leases = leases.collect();
        let prices = PriceList { version: 1, prices: Prices::default() };
        Told { seq: tell.seq, prices, leases, refused: Vec::new() }
    }

    fn send(&mut self, frame: Vec<u8>) {
        let frame = Bytes::from(frame);
        self.subscribers.retain(|subscriber| subscriber.try_send(frame.clone()).is_ok());
    }

    fn subscribe(&mut self, request: &Subscribe) -> FeedLink {
        let (sender, frames) = mpsc::channel(64);
        let time = self.time();
        let snapshot =
            self.writer.snapshot(request.nonce, self.state.clone(), self.trust.bundle().version, time);
        sender.try_send(Bytes::copy_from_slice(self.trust.bytes())).unwrap();
        sender.try_send(snapshot.into()).unwrap();
        self.subscribers.push(sender);
        FeedLink { frames, reports: self.reports.clone() }
    }
}

impl Authority for TestCoordinator {
    fn subscribe(&self, request: Subscribe) -> BoxFuture<'_, Result<FeedLink, AuthorityError>> {
        let mut inner = self.0.lock().unwrap();
        let link = inner.answers().map(|()| inner.subscribe(&request));
        std::future::ready(link).boxed()
    }

    fn tell(&self, tell: Tell) -> BoxFuture<'_, Result<Told, AuthorityError>> {
        let mut inner = self.0.lock().unwrap();
        let told = inner.answers().map(|()| inner.told(tell));
        std::future::ready(told).boxed()
    }

    fn renew(&self) -> BoxFuture<'_, Result<RelayJoined, AuthorityError>> {
        let inner = self.0.lock().unwrap();
        inner.renewing.asked.send_modify(|asked| *asked += 1);
        let joined = inner.answers().map(|()| {
            let now = inner.time();
            let claims = Claims { not_after: now + inner.renewing.life, ..relay_claims(150, now) };
            let certificate = Credential::issue(150, claims).certificate;
            RelayJoined { certificate, trust: inner.trust.bytes().to_vec() }
        });
        std::future::ready(joined).boxed()
    }
}

/// What relays have reported.
#[derive(Debug)]
pub(crate) struct Reports(mpsc::Receiver<Report>);

impl Reports {
    /// Takes them without a look.
    #[cfg(not(test))]
    pub(crate) async fn drain(mut self) {
        while self.0.recv().await.is_some() {}
    }

    /// The next report that `pick` picks out.
    pub(crate) async fn find<T>(&mut self, pick: impl Fn(&Report) -> Option<T>) -> T {
        let found = async {
            loop {
                let report = self.0.recv().await.expect("the coordinator holds a sender");
                if let Some(found) = pick(&report) {
                    return found;
                }
            }
        };
        timeout(SOON, found).await.expect("such a report in time")
    }
}
