//! The one task that orders: it owns the plan, and has the authority and the files do what that says.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, atomic::Ordering::Relaxed},
    time::{Duration, SystemTime},
};

use instant_acme::Account;
use tokio::{
    sync::{OnceCell, mpsc, oneshot},
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    AT_ONCE, Acme, Asked,
    gone::Gone,
    kept::{self, Store},
    order::{OrderError, Orders},
    plan::{Held, Plan},
    scope::Subject,
    week::{Spent, Week},
};
use crate::ingress::locked;

/// How often the tunnels that are up are looked over, at most.
const LOOK: Duration = Duration::from_secs(1);

/// How often it is looked for certificates of names that are gone.
const TIDY: Duration = Duration::from_secs(600);

/// Troubles that are remembered as said until they are over. Beyond that nothing is said of further domains.
const SAID: usize = 100;

/// A trouble, and the domain that it concerns; empty for all.
type Said = (&'static str, Box<str>);

/// How often the authority is asked when to renew.
const SUGGESTIONS: Duration = Duration::from_secs(6 * 3600);

/// Orders certificates: [`run`](Self::run) is to be run once.
pub(crate) struct Desk {
    acme: Acme,
    asked: mpsc::Receiver<Asked>,
    /// Dropped with the outcome of the order.
    waiting: HashMap<Subject, Vec<oneshot::Sender<()>>>,
    store: Store,
    orders: Arc<Orders>,
    account: Arc<OnceCell<Account>>,
    /// What the authority counts by the week, if it is known to.
    week: Option<Week>,
    /// What was said of new names that have to wait, and until when that is.
    said: HashMap<Said, SystemTime>,
    gone: Gone,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("acme", &self.acme).finish_non_exhaustive()
    }
}

impl Desk {
    pub(super) fn new(
        acme: Acme,
        asked: mpsc::Receiver<Asked>,
        (store, orders): (Store, Arc<Orders>),
        week: Option<Week>,
    ) -> Self {
        let (waiting, account, said) = (HashMap::new(), Arc::default(), HashMap::new());
        Self { acme, asked, waiting, store, orders, account, week, said, gone: Gone::default() }
    }

    /// Orders what is missing and renews what ends, until cancelled.
    pub(crate) async fn run(mut self, cancelled: CancellationToken) {
        let mut plan = Plan::new(self.week.take());
        for (name, kept) in &*self.acme.0.kept.read().unwrap_or_else(PoisonError::into_inner) {
            plan.has(Subject::of(name), kept.life);
        }
        let mut under_way = JoinSet::new();
        // When the tunnels that are up were looked over.
        let (mut looked, mut is_news) = (Instant::now(), true);
        let (mut suggested, mut ask) = (JoinSet::new(), Instant::now());
        // Not at once: after a start nothing is served under any name yet.
        let mut tidy = Instant::now() + TIDY;
        loop {
            let now = SystemTime::now();
            if tidy <= Instant::now() {
                tidy = Instant::now() + TIDY;
                self.tidy(&mut plan, now);
            }
            // Made before looking: what happens between the two is not missed.
            let changed = self.acme.0.routes.changed();
            if std::mem::take(&mut is_news) {
                looked = Instant::now();
                for subject in self.acme.0.scope.wanted(&self.acme.0.routes) {
                    self.want(&mut plan, &subject, now);
                }
            }
            while under_way.len() < AT_ONCE
                && let Some(subject) = plan.next(now, |subject| self.acme.customer(subject))
            {
                // A name may have been given up since.
                if self.acme.needs(&subject) {
                    under_way.spawn(self.order(subject));
                } else {
                    plan.forget(&subject);
                    self.waiting.remove(&subject);
                }
            }
            let numbers = &self.acme.0.numbers;
            numbers.under_way.store(under_way.len(), Relaxed);
            numbers.week.store(plan.week().map_or(0, |week| week.count(now)), Relaxed);
            let until = Instant::now() + plan.pause(now);
            tokio::select! {
                () = cancelled.cancelled() => break,
                Some(Asked { subject, waiting }) = self.asked.recv() => {
                    let is_on_its_way = self.want(&mut plan, &subject, now) && !self.is_held(&plan, &subject, now);
                    if is_on_its_way && self.acme.find(subject.name()).is_none() {
                        let all = self.waiting.entry(subject).or_default();
                        all.retain(|one| !one.is_closed());
                        all.push(waiting);
                    }
                }
                Some(ended) = under_way.join_next(), if !under_way.is_empty() => match ended {
                    Ok((subject, outcome)) => self.settle(&mut plan, subject, outcome),
                    Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    Err(_) => {}
                },
                Some(suggestions) = suggested.join_next(), if !suggested.is_empty() => {
                    for (subject, at) in suggestions.unwrap_or_default() {
                        plan.suggest(&subject, at);
                    }
                }
                () = sleep_until(ask), if suggested.is_empty() => {
                    ask = Instant::now() + SUGGESTIONS;
                    suggested.spawn(self.suggestions());
                }
                () = later(looked + LOOK, changed), if self.acme.0.scope.follows_routes() => is_news = true,
                () = sleep_until(until) => {}
            }
        }
        under_way.shutdown().await;
        suggested.shutdown().await;
    }

    /// One is needed. `false` when there will be none for now.
    fn want(&self, plan: &mut Plan, subject: &Subject, now: SystemTime) -> bool {
        if plan.is_full() {
            plan.keep(now, |subject| self.acme.needs(subject));
        }
        if let Some(kept) = self.acme.find(subject.name()).filter(|_| !plan.knows(subject)) {
            plan.has(subject.clone(), kept.life);
        }
        plan.want(subject.clone(), now)
    }

    /// Lets go of certificates of names that are gone, here and on the disk.
    fn tidy(&mut self, plan: &mut Plan, now: SystemTime) {
        for subject in self.acme.tidy(&mut self.gone, now) {
            plan.forget(&subject);
            match self.store.remove(&subject) {
                Ok(()) => tracing::info!(name = subject.name(), "certificate of a name that is gone let go"),
                Err(error) => {
                    tracing::warn!(name = subject.name(), %error, "an unused certificate stays on the disk")
                }
            }
        }
    }

    /// Whether there is nothing to wait for, however due it is: then the reason is there for whoever asks.
    fn is_held(&mut self, plan: &Plan, subject: &Subject, now: SystemTime) -> bool {
        let owner = self.acme.customer(subject);
        let Some(held) = plan.held(subject, owner.as_ref(), now) else { return false };
        let until = held.until();
        let trouble = match &held {
            Held::Refused { under: None, .. } => "the authority wants no more orders for now",
            Held::Refused { .. } => "the authority wants no more orders for names of this domain for now",
            Held::Week(Spent::ByAll(_)) => "the authority's certificates of this week are spent",
            Held::Week(Spent::ByTenant(_)) => "this tenant's part of the week's certificates is spent",
        };
        // Of everybody, or of a domain; a tenant's own part is its own matter.
        let concerned = match &held {
            Held::Refused { under, .. } => Some(under.as_deref().unwrap_or_default()),
            Held::Week(Spent::ByAll(_)) => Some(""),
            Held::Week(Spent::ByTenant(_)) => None,
        };
        if let Some(domain) = concerned
            && is_news(&mut self.said, (trouble, domain.into()), until, now)
        {
            match domain {
                "" => tracing::warn!(
                    ?until,
                    "{trouble}: new names have no HTTPS until then; one certificate for all names (acme_dns) needs none of them"
                ),
                domain => tracing::warn!(?until, %domain, "{trouble}: new ones have no HTTPS until then"),
            }
        }
        let left = until.duration_since(now).unwrap_or_default().as_secs().div_ceil(60);
        let trouble = format!("{trouble}; the next try is in {left} min");
        self.acme.note_trouble(subject, trouble);
        true
    }

    /// When the authority suggests to renew what is there.
    fn suggestions(&self) -> impl Future<Output = Vec<(Subject, SystemTime)>> + use<> {
        let (orders, account) = (Arc::clone(&self.orders), Arc::clone(&self.account));
        let all = self.acme.0.kept.read().unwrap_or_else(PoisonError::into_inner);
        let kept: Vec<_> = all.iter().map(|(name, kept)| (Subject::of(name), Arc::clone(kept))).collect();
        async move { if kept.is_empty() { Vec::new() } else { orders.suggestions(kept, &account).await } }
    }

    fn order(
        &self,
        subject: Subject,
    ) -> impl Future<Output = (Subject, Result<kept::Issued, OrderError>)> + use<> {
        let (orders, account) = (Arc::clone(&self.orders), Arc::clone(&self.account));
        let old = self.acme.find(subject.name());
        async move {
            let outcome = orders.order(&subject, old.as_deref(), &account).await;
            (subject, outcome)
        }
    }

    fn settle(&mut self, plan: &mut Plan, subject: Subject, outcome: Result<kept::Issued, OrderError>) {
        let now = SystemTime::now();
        let name = subject.name().to_owned();
        let usable = outcome.and_then(|issued| {
            plan.came(&subject, now);
            if let Some(Err(error)) = plan.week().map(|week| self.store.save_week(&week.text())) {
                tracing::warn!(%error, "what was ordered this week is not kept; a restart forgets it");
            }
            let kept = issued.usable(now).map_err(OrderError::Kept)?;
            // In use all the same: to order it again for that would bring the authority's limit nearer, and no file.
            if let Err(error) = self.store.save(&subject, &issued) {
                tracing::warn!(name, %error, "the certificate is in use, but not kept: a restart orders it again");
            }
            Ok(kept)
        });
        match usable {
            Ok(kept) => {
                tracing::info!(name, until = ?kept.life.ends, "certificate issued");
                plan.issued(subject.clone(), kept.life, now);
                self.acme.0.numbers.issued.fetch_add(1, Relaxed);
                self.acme.keep(&subject, kept);
                locked(&self.acme.0.troubles).remove(subject.name());
            }
            Err(error) => {
                self.acme.0.numbers.failed.fetch_add(1, Relaxed);
                let mut pause = plan.failed(&subject, now);
                if let Some(refusal) = error.refusal() {
                    plan.refused(&subject, refusal.concern(), refusal.until);
                    pause = pause.max(refusal.until.duration_since(now).unwrap_or_default());
                }
                self.acme.note_trouble(&subject, told(&error));
                let error = &error as &dyn std::error::Error;
                tracing::warn!(name, error, again_in = ?pause, "no certificate");
            }
        }
        self.waiting.remove(&subject);
    }
}

/// Whether this is to be said: once until it is over, however many other things are said in between.
fn is_news(said: &mut HashMap<Said, SystemTime>, what: Said, until: SystemTime, now: SystemTime) -> bool {
    if said.get(&what).is_some_and(|until| *until > now) {
        return false;
    }
    // Of domains that is as much as anybody reads; what is of all names is said in any case.
    if said.len() >= SAID {
        said.retain(|_, until| *until > now);
    }
    if said.len() >= SAID && !what.1.is_empty() {
        return false;
    }
    said.insert(what, until);
    true
}

/// An error with what has led to it.
fn told(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |told, cause| format!("{told}: {cause}"))
}

/// What happens, but not before a certain time.
async fn later(at: Instant, what: impl Future<Output = ()>) {
    sleep_until(at).await;
    what.await;
}

#[cfg(test)]
mod tests {
    use mytunnel_keys::id::TunnelKind;
    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::{acme::AcmeConfig, route::Routes};

    #[test]
    fn each_trouble_is_said_once_until_it_is_over_and_strangers_cannot_fill_the_log() {
        let (mut said, now) = (HashMap::new(), SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        let (until, over) = (now + LOOK * 60, now + LOOK * 61);
        let mut tell = |domain: &str, until, now| is_news(&mut said, ("refused", domain.into()), until, now);
        let mut count = 0;
        for _ in 0..10 {
            for domain in ["a.example", "b.example", "c.example"] {
                count += usize::from(tell(domain, until, now));
            }
        }
        assert_eq!(count, 3);
        assert!(tell("a.example", over, until), "it is another one");
        for number in 0..1000 {
            count += usize::from(tell(&format!("{number}.example"), over, until));
        }
        // The two that are over had their places freed.
        assert_eq!(count, 3 + SAID - 1);
        assert!(tell("", over, until) && !tell("", over, until), "what is of all is never lost among them");
    }

    #[test]
    fn a_certificate_that_cannot_be_kept_is_in_use_and_each_that_came_counts() {
        let (data, now) = (tempfile::tempdir().unwrap(), SystemTime::now());
        let names = ("t.example", "t.example");
        let opened = Acme::open(&AcmeConfig::new(String::new()), Some(data.path()), names, &Routes::new());
        let (acme, mut desk) = opened.unwrap();
        let mut plan = Plan::new(desk.week.take());
        let [good, useless] = ["good.t.example", "useless.t.example"].map(Subject::of);
        for subject in [&good, &useless] {
            plan.want(subject.clone(), now);
            assert!(plan.next(now, |_| None).is_some());
        }
        // As a full disk.
        std::fs::remove_dir_all(data.path()).unwrap();
        let key = KeyPair::generate().unwrap();
        let chain =
            CertificateParams::new(vec![good.name().to_owned()]).unwrap().self_signed(&key).unwrap().pem();
        let key = key.serialize_pem();
        desk.settle(&mut plan, good, Ok(kept::Issued { key: key.clone(), chain }));
        desk.settle(&mut plan, useless, Ok(kept::Issued { key, chain: "nonsense".to_owned() }));
        assert!(acme.find("good.t.example").is_some() && acme.find("useless.t.example").is_none());
        assert_eq!(plan.week().map(|week| week.count(SystemTime::now())), Some(2));
    }

    #[test]
    fn the_certificate_of_a_name_that_is_gone_goes_after_a_week_from_memory_and_disk() {
        let (data, now) = (tempfile::tempdir().unwrap(), SystemTime::now());
        let (config, routes) = (AcmeConfig::new(String::new()), Routes::new());
        let names = ("t.example", "t.example");
        let (acme, mut desk) = Acme::open(&config, Some(data.path()), names, &routes).unwrap();
        let mut plan = Plan::new(None);
        let [here, gone] = ["here.t.example", "gone.t.example"].map(Subject::of);
        for subject in [&here, &gone] {
            let key = KeyPair::generate().unwrap();
            let certificate = CertificateParams::new(vec![subject.name().to_owned()]).unwrap();
            let chain = certificate.self_signed(&key).unwrap().pem();
            desk.settle(&mut plan, subject.clone(), Ok(kept::Issued { key: key.serialize_pem(), chain }));
        }
        for name in ["here", "gone"] {
            routes.note_known(&name.parse().unwrap(), Some(TunnelKind::Http));
        }
        let week = Duration::from_secs(7 * 24 * 3600);
        desk.tidy(&mut plan, now);
        desk.tidy(&mut plan, now + week);
        assert!(acme.find("gone.t.example").is_some(), "a name whose node is away is not gone");
        routes.forget(&"gone".parse().unwrap());
        desk.tidy(&mut plan, now + week);
        assert!(acme.find("gone.t.example").is_some(), "it may come back");
        desk.tidy(&mut plan, now + 2 * week);
        assert!(acme.find("gone.t.example").is_none() && acme.find("here.t.example").is_some());
        assert!(!plan.knows(&gone) && plan.knows(&here));
        let (acme, _) = Acme::open(&config, Some(data.path()), names, &routes).unwrap();
        assert!(acme.find("gone.t.example").is_none() && acme.find("here.t.example").is_some());
        assert_eq!(acme.standing().certificates, 1);
    }
}
