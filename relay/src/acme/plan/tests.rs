mod week;

use std::sync::Arc;

use futures::{FutureExt as _, future::BoxFuture};
use mytunnel_keys::id::{ProjectId, TenantId, TunnelId, TunnelKind};

use super::{super::scope::Scope, *};
use crate::route::{Pipe, PipeError, PipeSource, Routes, Tunnel};

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

fn next(plan: &mut Plan, now: SystemTime) -> Option<Subject> {
    plan.next(now, |_| None)
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
    assert_eq!(next(&mut plan, start()), Some(one.clone()));
    assert!(plan.want(one.clone(), start()) && next(&mut plan, start()).is_none(), "it is under way");
    plan.issued(one.clone(), life(90), start());
    assert_eq!(next(&mut plan, start() + HOUR * 60 - Duration::from_secs(1)), None);
    assert_eq!(next(&mut plan, start() + HOUR * 60), Some(one));
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
    assert_eq!(next(&mut plan, start()), None);
    assert_eq!(next(&mut plan, start() + HOUR), Some(one.clone()));
    plan.suggest(&one, start());
    assert_eq!(next(&mut plan, start() + HOUR * 2), None, "it is under way");
}

#[test]
fn a_failure_is_left_alone_for_longer_and_longer_and_no_visitor_waits_for_it() {
    let (mut plan, one, mut now) = (Plan::default(), Subject::of("t.example"), start());
    plan.want(one.clone(), now);
    let mut pauses = Vec::new();
    for _ in 0..12 {
        assert_eq!(next(&mut plan, now), Some(one.clone()));
        let pause = plan.failed(&one, now);
        assert!(!plan.want(one.clone(), now), "there will be none for now");
        assert_eq!(next(&mut plan, now + pause - Duration::from_secs(1)), None);
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
    let begun = std::iter::from_fn(|| next(&mut plan, start())).count();
    assert_eq!(begun, 50);
    assert_eq!(next(&mut plan, start() + Duration::from_secs(59)), None);
    assert!(next(&mut plan, start() + Duration::from_secs(60)).is_some());
    assert_eq!(next(&mut plan, start() + Duration::from_secs(61)), None);
    // What was not used for a while is there again.
    let later = start() + Duration::from_secs(60 * 31);
    assert_eq!(std::iter::from_fn(|| next(&mut plan, later)).count(), 30);
    assert_eq!(next(&mut plan, start()), None, "a clock that was set back brings nothing");
    assert!(next(&mut plan, start() + Duration::from_secs(60)).is_some(), "and takes nothing for long");
}

#[test]
fn new_names_keep_nothing_from_being_renewed_that_ends_soon() {
    let (mut plan, console) = (Plan::default(), Subject::of("t.example"));
    plan.has(console.clone(), life(90));
    let late = start() + HOUR * 80;
    for number in 0..200 {
        plan.want(Subject::of(&format!("{number}.t.example")), late);
    }
    assert_eq!(next(&mut plan, late), Some(console.clone()), "it goes first");
    plan.failed(&console, late);
    while next(&mut plan, late + Duration::from_secs(59)).is_some() {}
    assert_eq!(next(&mut plan, late + Duration::from_secs(60)), Some(console), "and has orders of its own");
}

#[test]
fn what_came_in_is_not_ordered_again_at_once_by_a_clock_that_is_ahead() {
    let (mut plan, one, now) = (Plan::default(), Subject::of("t.example"), start() + HOUR * 80);
    plan.want(one.clone(), now);
    assert!(next(&mut plan, now).is_some());
    plan.issued(one.clone(), life(90), now);
    assert_eq!(next(&mut plan, now + AGAIN - Duration::from_secs(1)), None);
    assert_eq!(next(&mut plan, now + AGAIN), Some(one));
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

    // What was never ordered makes room, what has failed keeps its pause.
    let failed = next(&mut plan, start()).unwrap();
    plan.failed(&failed, start());
    plan.keep(start(), |_| true);
    assert!(plan.knows(&failed) && plan.knows(&Subject::of("t.example")));
    assert_eq!(plan.subjects.len(), 2);
}

#[test]
fn what_is_urgent_and_may_not_go_opens_its_reserve_to_nobody_else() {
    let (mut plan, rich) = (Plan::default(), Customer::Of("proj_rich".parse().unwrap()));
    let owner = |subject: &Subject| subject.name().starts_with("rich").then(|| rich.clone());
    for number in 0..36 {
        plan.has(Subject::of(&format!("rich{number}.t.example")), life(90));
    }
    let late = start() + HOUR * 89;
    assert_eq!(std::iter::from_fn(|| next_of_others(&mut plan, late, &owner)).count(), 35);
    for number in 0..20 {
        plan.want(Subject::of(&format!("poor{number}.t.example")), late);
    }
    assert_eq!(std::iter::from_fn(|| next_of_others(&mut plan, late, &owner)).count(), 15);
}

#[test]
fn one_tenant_has_half_of_the_places_and_of_the_orders() {
    let (mut plan, rich) = (Plan::default(), Customer::Of("proj_rich".parse().unwrap()));
    let owner = |subject: &Subject| subject.name().starts_with("rich").then(|| rich.clone());
    for number in 0..100 {
        plan.want(Subject::of(&format!("rich{number}.t.example")), start());
    }
    let mut under_way: Vec<_> = std::iter::from_fn(|| plan.next(start(), owner)).collect();
    assert_eq!(under_way.len(), 2, "it hangs in as many places as are its own");
    plan.want(Subject::of("poor.t.example"), start());
    assert_eq!(plan.next(start(), owner), Some(Subject::of("poor.t.example")));

    let mut begun = under_way.len();
    while let Some(one) = under_way.pop() {
        plan.issued(one, life(90 * 24), start());
        let more = plan.next(start(), owner);
        begun += usize::from(more.is_some());
        under_way.extend(more);
    }
    assert_eq!(begun, 25);
    let later = start() + Duration::from_secs(60);
    assert_eq!(plan.next(later, owner), None);
    assert!(plan.next(later + Duration::from_secs(60), owner).is_some(), "half as many as all come back");
    for number in 0..100 {
        plan.want(Subject::of(&format!("poor{number}.t.example")), later);
    }
    let others = std::iter::from_fn(|| next_of_others(&mut plan, later, &owner)).count();
    assert_eq!(others, 25, "the other half is there for others");
}

/// The next, which comes in at once.
fn next_of_others(
    plan: &mut Plan,
    now: SystemTime,
    owner: &impl Fn(&Subject) -> Option<Customer>,
) -> Option<Subject> {
    let next = plan.next(now, owner)?;
    plan.came(&next, now);
    plan.issued(next.clone(), life(90 * 24), now);
    Some(next)
}

#[test]
fn what_has_failed_before_is_tried_again_one_at_a_time() {
    let mut plan = Plan::default();
    let hung: Vec<_> = (0..4).map(|number| Subject::of(&format!("{number}.example"))).collect();
    for one in &hung {
        plan.want(one.clone(), start());
        assert!(next(&mut plan, start()).is_some());
        plan.failed(one, start());
    }
    let later = start() + HOUR;
    for one in &hung {
        plan.want(one.clone(), later);
    }
    assert!(next(&mut plan, later).is_some_and(|again| hung.contains(&again)));
    assert_eq!(next(&mut plan, later), None);
    plan.want(Subject::of("new.example"), later);
    assert_eq!(next(&mut plan, later), Some(Subject::of("new.example")));
}

#[test]
fn a_full_plan_lets_go_of_what_nobody_is_served_under() {
    let mut plan = Plan::default();
    for number in 0..NAMES {
        plan.has(Subject::of(&format!("{number}.t.example")), life(90));
    }
    assert!(plan.is_full() && !plan.want(Subject::of("new.t.example"), start()));
    plan.keep(start(), |subject| subject.name() == "7.t.example");
    assert!(plan.want(Subject::of("new.t.example"), start()));
    assert!(plan.knows(&Subject::of("7.t.example")) && !plan.knows(&Subject::of("8.t.example")));

    // Not again with every visitor.
    plan.keep(start() + Duration::from_secs(59), |_| false);
    assert!(plan.knows(&Subject::of("7.t.example")));
    plan.keep(start() + Duration::from_secs(60), |_| false);
    assert!(!plan.knows(&Subject::of("7.t.example")));
}

#[test]
fn whose_a_certificate_is_follows_the_name_that_its_host_leads_to() {
    let (routes, away, app) = (routes(), "away".parse().unwrap(), "app.example.com".parse().unwrap());
    let [a, b] = ["proj_a", "proj_b"].map(|project| project.parse::<ProjectId>().unwrap());
    routes.note_owner(&away, &b);
    routes.point(&app, &away);
    let scope = Scope::new("t.example", "c.t.example", false);
    let customer = |name: &str| scope.customer(&Subject::of(name), &routes);
    assert_eq!(customer("web.t.example"), Some(Customer::Of(a)));
    let of_b = Some(Customer::Of(b.clone()));
    assert_eq!((customer("away.t.example"), customer("app.example.com")), (of_b.clone(), of_b));
    let nobodys = [customer("c.t.example"), customer("*.t.example"), customer("none.t.example")];
    assert_eq!(nobodys, [None, None, None]);

    // All projects of a tenant are one customer, as soon as a node has shown whose they are.
    let tenant: TenantId = "ten_0123456789abcdef".parse().unwrap();
    for name in ["web", "away"] {
        let owner = routes.owner(name).unwrap();
        routes.note_tenant(&name.parse().unwrap(), &owner, tenant.clone());
    }
    let theirs = Some(Customer::Tenant(tenant));
    assert_eq!((customer("web.t.example"), customer("app.example.com")), (theirs.clone(), theirs));
    // It is known before the tunnel is, and stays known.
    let (new, project) = ("new".parse().unwrap(), "proj_new".parse::<ProjectId>().unwrap());
    routes.note_tenant(&new, &project, "ten_new".parse().unwrap());
    let id = TunnelId::from_bytes([2; 16]);
    routes.insert(Tunnel::new(id, new, project, TunnelKind::Http, Arc::new(Nowhere)));
    assert_eq!(customer("new.t.example"), Some(Customer::Tenant("ten_new".parse().unwrap())));
    routes.note_owner(&away, &"proj_c".parse().unwrap());
    assert_eq!(customer("away.t.example"), Some(Customer::Of("proj_c".parse().unwrap())));
}

#[test]
fn what_the_authority_refuses_waits_for_the_time_it_tells_with_all_it_concerns() {
    let (one, beside, other) =
        (Subject::of("a.example.com"), Subject::of("b.example.com"), Subject::of("c.example.org"));
    let begin = |concern: Concern| {
        let mut plan = Plan::default();
        plan.want(one.clone(), start());
        assert_eq!(next(&mut plan, start()), Some(one.clone()));
        plan.failed(&one, start());
        plan.refused(&one, concern, start() + HOUR * 30);
        for name in [&one, &beside, &other] {
            plan.want(name.clone(), start());
        }
        let soon: Vec<_> = std::iter::from_fn(|| next(&mut plan, start() + HOUR)).collect();
        for name in &soon {
            plan.issued(name.clone(), life(90 * 24), start() + HOUR);
        }
        let late: Vec<_> = std::iter::from_fn(|| next(&mut plan, start() + HOUR * 30)).collect();
        assert_eq!(soon.len() + late.len(), 3);
        soon.len()
    };
    assert_eq!(begin(Concern::ThisOne), 2);
    assert_eq!(begin(Concern::Under("example.com".into())), 1);
    assert_eq!(begin(Concern::All), 0);

    // What is there is renewed, also under such a domain.
    let mut plan = Plan::default();
    plan.has(one.clone(), life(90));
    plan.refused(&beside, Concern::Under("example.com".into()), start() + HOUR * 100);
    assert_eq!(next(&mut plan, start() + HOUR * 61), Some(one));
}

#[test]
fn refused_domains_are_bounded() {
    let mut plan = Plan::default();
    for number in 0..REFUSED + 5 {
        let until = start() + HOUR * u32::try_from(number).unwrap();
        plan.refused(&Subject::of("a.example"), Concern::Under(format!("{number}.example").into()), until);
    }
    assert_eq!(plan.refused_under.len(), REFUSED);
    assert!(!plan.refused_under.contains_key("0.example"), "what is over soonest goes");
}
