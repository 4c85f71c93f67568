//! Which names get certificates and when: decisions only, with the time passed in.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, SystemTime},
};

use mytunnel_keys::id::TunnelKind;

use crate::{
    ingress::host::{self, Destination},
    route::{Lookup, Routes},
};

/// The first pause after a failure; each doubles it. Let's Encrypt allows five failures for a name in an hour.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(12 * 3600);

/// How often renewals are looked at, at least.
const LOOK: Duration = Duration::from_secs(600);

/// Orders in a row that are not paused for, and how soon there is another: 300 in three hours is what Let's Encrypt
/// allows an account.
const ORDERS: u32 = 50;
const REFILL: Duration = Duration::from_secs(60);

/// Orders beside those, for what would end otherwise.
const RENEWALS: u32 = 20;

/// The shortest time between two certificates for one name.
const AGAIN: Duration = Duration::from_secs(3600);

/// Names that are remembered. Beyond that nothing new is ordered.
const NAMES: usize = 10_000;

/// What one certificate is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Subject {
    /// Its first name, by which it is kept: `*.` in front where it is for the whole domain.
    name: Box<str>,
}

impl Subject {
    /// By its first name.
    pub(super) fn of(name: &str) -> Self {
        Self { name: name.into() }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Every name that is to stand in it.
    pub(super) fn names(&self) -> Vec<String> {
        match self.name.strip_prefix("*.") {
            Some(domain) => vec![self.name.to_string(), domain.to_owned()],
            None => vec![self.name.to_string()],
        }
    }

    /// A host that it is for.
    pub(super) fn host(&self) -> &str {
        self.name.strip_prefix("*.").unwrap_or(&self.name)
    }

    pub(super) fn is_wildcard(&self) -> bool {
        self.name.starts_with("*.")
    }
}

/// The names that a relay answers for.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    domain: Box<str>,
    console: Box<str>,
    /// One certificate for the domain and every name under it.
    whole: bool,
}

impl Scope {
    pub(super) fn new(domain: &str, console: &str, whole: bool) -> Self {
        Self {
            domain: domain.to_ascii_lowercase().into(),
            console: console.to_ascii_lowercase().into(),
            whole,
        }
    }

    /// The certificate that a visitor of this name is to be shown; none where nothing is served under it.
    pub(super) fn subject(&self, name: &str, routes: &Routes) -> Option<Subject> {
        let host = host::parse(name.as_bytes()).ok().filter(|asked| asked.port.is_none())?.host;
        match routes.destination(&host, &self.domain, &self.console) {
            Destination::Console => self.covering(&host),
            Destination::Tunnel(label) => {
                let visited = match routes.find(&label) {
                    Lookup::Live(tunnel) => tunnel.kind() == TunnelKind::Http,
                    Lookup::Away => match routes.known_kind(&label) {
                        Some(kind) => kind == TunnelKind::Http,
                        // For its sake nothing is ordered: it may be a name whose TLS ends behind a relay.
                        None => self.whole,
                    },
                    Lookup::Ended | Lookup::Unknown => false,
                };
                visited.then(|| self.covering(&host))?
            }
            Destination::Nowhere => (*host == *self.domain && self.whole).then(|| self.covering(&host))?,
        }
    }

    /// What there has to be without anybody asking. Not of tenants' own domains: theirs is ordered when the first visitor
    /// comes, since before that nobody knows whether they lead here.
    pub(super) fn wanted(&self, routes: &Routes) -> Vec<Subject> {
        let mut wanted: Vec<_> = self.covering(&self.console).into_iter().collect();
        if self.whole {
            wanted.extend(self.covering(&self.domain).filter(|whole| !wanted.contains(whole)));
            return wanted;
        }
        let tunnels = routes.live();
        let visited = tunnels.iter().filter(|tunnel| tunnel.kind() == TunnelKind::Http);
        let names: BTreeSet<_> = visited.map(|tunnel| tunnel.name()).collect();
        wanted.extend(names.into_iter().filter_map(|name| self.covering(&format!("{name}.{}", self.domain))));
        wanted
    }

    /// Whether a tunnel that comes up needs a certificate of its own.
    pub(super) const fn follows_routes(&self) -> bool {
        !self.whole
    }

    fn covering(&self, host: &str) -> Option<Subject> {
        // No authority vouches for this machine's own name, nor for addresses.
        let public = host.contains('.') && host != "localhost" && !host.ends_with(".localhost");
        if !public || host.parse::<std::net::IpAddr>().is_ok() || host.starts_with('[') {
            return None;
        }
        let under = host.strip_suffix(&*self.domain).and_then(|rest| rest.strip_suffix('.'));
        let covered = *host == *self.domain || under.is_some_and(|label| !label.contains('.'));
        Some(match self.whole && covered {
            true => Subject::of(&format!("*.{}", self.domain)),
            false => Subject::of(host),
        })
    }
}

/// When a certificate begins and ends, and when its authority suggests to renew it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) begins: SystemTime,
    pub(super) ends: SystemTime,
    pub(super) suggested: Option<SystemTime>,
}

impl Life {
    /// Whether less than a sixth of it is left: a renewal has waited for as long as it may.
    fn is_urgent(&self, now: SystemTime) -> bool {
        let life = self.ends.duration_since(self.begins).unwrap_or_default();
        now + life / 6 >= self.ends
    }

    /// At two thirds of its life, or earlier where the authority says so (RFC 9773).
    fn renew_at(&self) -> SystemTime {
        let life = self.ends.duration_since(self.begins).unwrap_or_default();
        let usual = self.begins + life * 2 / 3;
        self.suggested.map_or(usual, |suggested| suggested.min(self.begins + life * 9 / 10))
    }
}

/// See the [module documentation](self).
#[derive(Debug, Default)]
pub(super) struct Plan {
    subjects: HashMap<Subject, Entry>,
    /// Orders that count against what may be ordered at once, as of [`Self::refilled`].
    spent: u32,
    refilled: Option<SystemTime>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    state: State,
    failures: u32,
    /// Somebody has asked for it since it failed.
    asked: bool,
    /// Of the one that is there.
    life: Option<Life>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// To be ordered from then on.
    At(SystemTime),
    UnderWay,
}

impl Plan {
    /// One is there already.
    pub(super) fn has(&mut self, subject: Subject, life: Life) {
        self.subjects.insert(
            subject,
            Entry { state: State::At(life.renew_at()), failures: 0, asked: true, life: Some(life) },
        );
    }

    /// Its authority suggests to renew the one that is there at this time.
    pub(super) fn suggest(&mut self, subject: &Subject, at: SystemTime) {
        if let Some(entry) = self.subjects.get_mut(subject)
            && let Some(life) = &mut entry.life
        {
            life.suggested = Some(at);
            if entry.state != State::UnderWay && entry.failures == 0 {
                entry.state = State::At(life.renew_at());
            }
        }
    }

    /// One is needed. `false` when there will be none for now.
    pub(super) fn want(&mut self, subject: Subject, now: SystemTime) -> bool {
        if let Some(entry) = self.subjects.get_mut(&subject) {
            entry.asked = true;
            return entry.life.is_some() || entry.state == State::UnderWay || entry.state == State::At(now);
        }
        if self.subjects.len() >= NAMES {
            self.subjects.retain(|_, entry| entry.life.is_some() || entry.state == State::UnderWay);
        }
        let room = self.subjects.len() < NAMES;
        if room {
            self.subjects
                .insert(subject, Entry { state: State::At(now), failures: 0, asked: true, life: None });
        }
        room
    }

    /// The next to be ordered, which is under way from then on.
    pub(super) fn next(&mut self, now: SystemTime) -> Option<Subject> {
        self.refill(now);
        // What has failed before it was ever there, and is asked for by nobody, waits for somebody.
        let due = |entry: &Entry| {
            let wanted = entry.life.is_some() || entry.asked;
            wanted && matches!(entry.state, State::At(at) if at <= now)
        };
        // What would end before long goes first, then what there is none of yet: nobody keeps others from being renewed by
        // asking for ever new names. What has failed comes after what has not.
        let rank = |entry: &Entry| match &entry.life {
            Some(life) if life.is_urgent(now) => 0,
            None => 1,
            Some(_) => 2,
        };
        let urgent = self.subjects.values().any(|entry| due(entry) && rank(entry) == 0);
        if self.spent >= if urgent { ORDERS + RENEWALS } else { ORDERS } {
            return None;
        }
        let (subject, entry) = self
            .subjects
            .iter_mut()
            .filter(|(_, entry)| due(entry))
            .min_by_key(|(_, entry)| (rank(entry), entry.failures))?;
        self.spent += 1;
        entry.state = State::UnderWay;
        Some(subject.clone())
    }

    /// Time gives orders back. A clock that was set back begins anew.
    fn refill(&mut self, now: SystemTime) {
        let since = self.refilled.map(|refilled| now.duration_since(refilled));
        let Some(Ok(since)) = since else {
            self.refilled = Some(now);
            return;
        };
        let back = u32::try_from(since.as_secs() / REFILL.as_secs()).unwrap_or(u32::MAX);
        self.spent = self.spent.saturating_sub(back);
        self.refilled = self.refilled.map(|refilled| refilled + REFILL.saturating_mul(back));
    }

    /// It is not needed any more.
    pub(super) fn forget(&mut self, subject: &Subject) {
        self.subjects.remove(subject);
    }

    /// One has come in. It is not ordered again at once, whatever its life says to this machine's clock.
    pub(super) fn issued(&mut self, subject: Subject, life: Life, now: SystemTime) {
        let at = life.renew_at().max(now + AGAIN);
        self.subjects
            .insert(subject, Entry { state: State::At(at), failures: 0, asked: true, life: Some(life) });
    }

    /// An order has failed; says for how long it is left alone.
    pub(super) fn failed(&mut self, subject: &Subject, now: SystemTime) -> Duration {
        let Some(entry) = self.subjects.get_mut(subject) else { return Duration::ZERO };
        let pause = FIRST_PAUSE.saturating_mul(1 << entry.failures.min(16)).min(LONGEST_PAUSE);
        entry.failures += 1;
        entry.asked = false;
        entry.state = State::At(now + pause);
        pause
    }

    /// How long there is nothing to do, if nothing happens.
    pub(super) fn pause(&self, now: SystemTime) -> Duration {
        let next = self.subjects.values().filter_map(|entry| match entry.state {
            State::At(at) => Some(at.duration_since(now).unwrap_or_default()),
            State::UnderWay => None,
        });
        let soonest = next.min().unwrap_or(LOOK).min(LOOK);
        // What is due and was not begun waits for its turn.
        soonest.max(Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::{FutureExt as _, future::BoxFuture};
    use mytunnel_keys::id::TunnelId;

    use super::*;
    use crate::route::{Pipe, PipeError, PipeSource, Tunnel};

    const HOUR: Duration = Duration::from_secs(3600);

    #[derive(Debug)]
    struct Nowhere;

    impl PipeSource for Nowhere {
        fn open(&self) -> BoxFuture<'_, Result<Pipe, PipeError>> {
            async { Err(PipeError::Gone) }.boxed()
        }
    }

    fn routes() -> Routes {
        let routes = Routes::new();
        let (id, project) = (TunnelId::from_bytes([1; 16]), "proj_a".parse().unwrap());
        routes.insert(Tunnel::new(id, "web".parse().unwrap(), project, TunnelKind::Http, Arc::new(Nowhere)));
        routes.note_known(&"away".parse().unwrap(), Some(TunnelKind::Http));
        routes
    }

    fn start() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn life(hours: u32) -> Life {
        Life { begins: start(), ends: start() + HOUR * hours, suggested: None }
    }

    #[test]
    fn only_names_that_exist_have_certificates() {
        let (routes, each) = (routes(), Scope::new("t.example", "t.example", false));
        let of = |scope: &Scope, name: &str| scope.subject(name, &routes).map(|subject| subject.names());
        for name in ["t.example", "web.t.example", "away.t.example", "WEB.T.example."] {
            let host = name.to_ascii_lowercase().trim_end_matches('.').to_owned();
            assert_eq!(of(&each, name), Some(vec![host]), "{name}");
        }
        for name in ["other.t.example", "a.web.t.example", "evil.example", "web.t.example:443", "", "[::1]"] {
            assert_eq!(of(&each, name), None, "{name}");
        }
        let whole = Scope::new("t.example", "console.example", true);
        let all = Some(vec!["*.t.example".to_owned(), "t.example".to_owned()]);
        assert_eq!(of(&whole, "web.t.example"), all);
        assert_eq!(of(&whole, "t.example"), all);
        assert_eq!(of(&whole, "other.t.example"), None);
        assert_eq!(of(&whole, "console.example"), Some(vec!["console.example".to_owned()]));
    }

    #[test]
    fn nothing_is_ordered_for_a_name_before_it_is_known_to_end_here() {
        let routes = routes();
        let [unheard, sealed] = ["unheard", "sealed"].map(|name| name.parse().unwrap());
        routes.note_known(&unheard, None);
        routes.note_known(&sealed, Some(TunnelKind::Tls));
        let domain = "app.example.com".parse().unwrap();
        routes.point(&domain, &sealed);
        let each = Scope::new("t.example", "t.example", false);
        for name in ["unheard.t.example", "sealed.t.example", "app.example.com"] {
            assert_eq!(each.subject(name, &routes), None, "{name}");
        }
        let whole = Scope::new("t.example", "t.example", true);
        assert_eq!(whole.subject("unheard.t.example", &routes), Some(Subject::of("*.t.example")));
        assert_eq!(whole.subject("sealed.t.example", &routes), None);
        routes.note_known(&unheard, Some(TunnelKind::Http));
        assert_eq!(each.subject("unheard.t.example", &routes), Some(Subject::of("unheard.t.example")));
    }

    #[test]
    fn a_domain_has_a_certificate_of_its_own_while_it_leads_to_a_tunnel_and_none_unasked() {
        let (routes, app) = (routes(), "app.example.com".parse().unwrap());
        for whole in [false, true] {
            let scope = Scope::new("t.example", "t.example", whole);
            let of = |name: &str| scope.subject(name, &routes).map(|subject| subject.names());
            assert_eq!(of("app.example.com"), None, "it is not shown to be anybody's");
            routes.point(&app, &"web".parse().unwrap());
            assert_eq!(of("APP.example.com"), Some(vec!["app.example.com".to_owned()]));
            assert_eq!(of("other.example.com"), None);
            assert!(!scope.wanted(&routes).contains(&Subject::of("app.example.com")));
            routes.point(&app, &"nobody".parse().unwrap());
            assert_eq!(of("app.example.com"), None, "there is no such tunnel");
            routes.point_nowhere(&app);
        }
    }

    #[test]
    fn what_is_wanted_unasked_are_the_console_and_who_is_live() {
        let routes = routes();
        let names = |scope: Scope| {
            let mut names: Vec<_> = scope.wanted(&routes).iter().map(|one| one.name().to_owned()).collect();
            names.sort();
            names
        };
        assert_eq!(names(Scope::new("t.example", "t.example", false)), ["t.example", "web.t.example"]);
        assert_eq!(names(Scope::new("t.example", "c.example", true)), ["*.t.example", "c.example"]);
        assert_eq!(names(Scope::new("t.example", "c.t.example", true)), ["*.t.example"]);
        assert_eq!(names(Scope::new("t.example", "localhost", false)), ["web.t.example"]);
    }

    #[test]
    fn a_name_is_ordered_once_and_renewed_at_two_thirds() {
        let (mut plan, one) = (Plan::default(), Subject::of("t.example"));
        assert!(plan.want(one.clone(), start()));
        assert_eq!(plan.next(start()), Some(one.clone()));
        assert!(plan.want(one.clone(), start()) && plan.next(start()).is_none(), "it is under way");
        plan.issued(one.clone(), life(90), start());
        assert_eq!(plan.next(start() + HOUR * 60 - Duration::from_secs(1)), None);
        assert_eq!(plan.next(start() + HOUR * 60), Some(one));
    }

    #[test]
    fn the_authority_may_have_one_renewed_earlier_and_not_too_late() {
        let suggested = |hours| Life { suggested: Some(start() + HOUR * hours), ..life(90) };
        assert_eq!(suggested(10).renew_at(), start() + HOUR * 10);
        assert_eq!(suggested(75).renew_at(), start() + HOUR * 75);
        assert_eq!(suggested(89).renew_at(), start() + HOUR * 81);

        let (mut plan, one) = (Plan::default(), Subject::of("t.example"));
        plan.has(one.clone(), life(90));
        plan.suggest(&Subject::of("other.example"), start());
        plan.suggest(&one, start() + HOUR);
        assert_eq!(plan.next(start()), None);
        assert_eq!(plan.next(start() + HOUR), Some(one.clone()));
        plan.suggest(&one, start());
        assert_eq!(plan.next(start() + HOUR * 2), None, "it is under way");
    }

    #[test]
    fn a_failure_is_left_alone_for_longer_and_longer_and_no_visitor_waits_for_it() {
        let (mut plan, one, mut now) = (Plan::default(), Subject::of("t.example"), start());
        plan.want(one.clone(), now);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            assert_eq!(plan.next(now), Some(one.clone()));
            let pause = plan.failed(&one, now);
            assert!(!plan.want(one.clone(), now), "there will be none for now");
            assert_eq!(plan.next(now + pause - Duration::from_secs(1)), None);
            pauses.push(pause.as_secs());
            now += pause;
        }
        assert_eq!(pauses[..4], [60, 120, 240, 480]);
        assert_eq!(pauses[11], 12 * 3600);
    }

    #[test]
    fn many_names_are_ordered_slowly() {
        let mut plan = Plan::default();
        for number in 0..200 {
            plan.want(Subject::of(&format!("{number}.t.example")), start());
        }
        let begun = std::iter::from_fn(|| plan.next(start())).count();
        assert_eq!(begun, 50);
        assert_eq!(plan.next(start() + Duration::from_secs(59)), None);
        assert!(plan.next(start() + Duration::from_secs(60)).is_some());
        assert_eq!(plan.next(start() + Duration::from_secs(61)), None);
        // What was not used for a while is there again.
        let later = start() + Duration::from_secs(60 * 31);
        assert_eq!(std::iter::from_fn(|| plan.next(later)).count(), 30);
        assert_eq!(plan.next(start()), None, "a clock that was set back brings nothing");
        assert!(plan.next(start() + Duration::from_secs(60)).is_some(), "and takes nothing for long");
    }

    #[test]
    fn new_names_keep_nothing_from_being_renewed_that_ends_soon() {
        let (mut plan, console) = (Plan::default(), Subject::of("t.example"));
        plan.has(console.clone(), life(90));
        let late = start() + HOUR * 80;
        for number in 0..200 {
            plan.want(Subject::of(&format!("{number}.t.example")), late);
        }
        assert_eq!(plan.next(late), Some(console.clone()), "it goes first");
        plan.failed(&console, late);
        while plan.next(late + Duration::from_secs(59)).is_some() {}
        assert_eq!(plan.next(late + Duration::from_secs(60)), Some(console), "and has orders of its own");
    }

    #[test]
    fn what_came_in_is_not_ordered_again_at_once_by_a_clock_that_is_ahead() {
        let (mut plan, one, now) = (Plan::default(), Subject::of("t.example"), start() + HOUR * 80);
        plan.want(one.clone(), now);
        assert!(plan.next(now).is_some());
        plan.issued(one.clone(), life(90), now);
        assert_eq!(plan.next(now + AGAIN - Duration::from_secs(1)), None);
        assert_eq!(plan.next(now + AGAIN), Some(one));
    }

    #[test]
    fn names_are_bounded_and_those_with_certificates_stay() {
        let mut plan = Plan::default();
        plan.has(Subject::of("t.example"), life(90));
        for number in 0..NAMES + 10 {
            plan.want(Subject::of(&format!("{number}.t.example")), start());
        }
        assert!(plan.subjects.len() <= NAMES);
        assert!(plan.subjects.contains_key(&Subject::of("t.example")));
    }
}
