//! The certificates for new names that the authority gives in a week, and who has how many of them.

use super::*;

fn of(name: &str) -> impl Fn(&Subject) -> Option<Customer> {
    let tenant = Customer::Tenant(format!("ten_{name}").parse().unwrap());
    let name = name.to_owned();
    move |subject| subject.name().starts_with(&name).then(|| tenant.clone())
}

/// All that can be had of these names until the orders in a row are no matter any more.
fn within_days(plan: &mut Plan, days: u32, owner: &impl Fn(&Subject) -> Option<Customer>) -> usize {
    let times = (0..days * 24).map(|hour| start() + HOUR * hour);
    times.map(|now| std::iter::from_fn(|| next_of_others(plan, now, owner)).count()).sum()
}

#[test]
fn one_tenant_does_not_use_up_the_week_of_all() {
    let mut plan = Plan::new(Some(Week::new("t.example", None)));
    let rich = of("rich");
    for number in 0..100 {
        plan.want(Subject::of(&format!("rich{number}.t.example")), start());
    }
    assert_eq!(within_days(&mut plan, 6, &rich), 15);
    let late = start() + HOUR * 24 * 6;
    let one = Subject::of("rich-again.t.example");
    plan.want(one.clone(), late);
    let tenant = rich(&one);
    assert_eq!(
        plan.held(&one, tenant.as_ref(), late),
        Some(Held::Week(Spent::ByTenant(start() + HOUR * 168)))
    );
    // Others have theirs, domains of their own are no matter of it, and the console has what is kept for it.
    for number in 0..100 {
        plan.want(Subject::of(&format!("other{number}.t.example")), late);
    }
    let poor = |subject: &Subject| {
        let name = subject.name().split('.').next()?.to_owned();
        name.starts_with("other")
            .then(|| Customer::Tenant(format!("ten_{name}").parse().unwrap()))
            .or(rich(subject))
    };
    let mut others = 0;
    for hour in 0..20 {
        others += std::iter::from_fn(|| next_of_others(&mut plan, late + HOUR * hour, &poor)).count();
    }
    assert_eq!(others, 30);
    let late = late + HOUR * 20;
    let (own, console) = (Subject::of("rich.example.com"), Subject::of("t.example"));
    for one in [&own, &console] {
        plan.want((*one).clone(), late);
    }
    let more: Vec<_> = std::iter::from_fn(|| next_of_others(&mut plan, late, &poor)).collect();
    assert!(more.len() == 2 && more.contains(&own) && more.contains(&console), "{more:?}");
}

#[test]
fn a_tenant_with_many_projects_has_one_part_of_the_week_before_it_is_known_whose_they_are() {
    let mut plan = Plan::new(Some(Week::new("t.example", None)));
    let project = |subject: &Subject| {
        let name = subject.name().split('-').next()?;
        Some(Customer::Of(format!("proj_{name}").parse().unwrap()))
    };
    for number in 0..45 {
        plan.want(Subject::of(&format!("p{}-{number}.t.example", number % 3)), start());
    }
    assert_eq!(within_days(&mut plan, 6, &project), 15);
    let (late, other) = (start() + HOUR * 24 * 6, Subject::of("other.t.example"));
    plan.want(other.clone(), late);
    let others = of("other");
    let owner = |subject: &Subject| others(subject).or_else(|| project(subject));
    assert_eq!(next_of_others(&mut plan, late, &owner), Some(other));
}

#[test]
fn what_is_under_way_for_unknown_tenants_counts_to_their_one_part() {
    let mut plan = Plan::new(Some(Week::new("t.example", None)));
    let project = |subject: &Subject| {
        let name = subject.name().split('.').next()?;
        Some(Customer::Of(format!("proj_{name}").parse().unwrap()))
    };
    for number in 0..14 {
        plan.want(Subject::of(&format!("p{number}.t.example")), start());
        assert!(next_of_others(&mut plan, start(), &project).is_some());
    }
    for name in ["q1.t.example", "q2.t.example"] {
        plan.want(Subject::of(name), start());
    }
    assert!(plan.next(start(), project).is_some());
    assert_eq!(plan.next(start(), project), None, "the fifteenth is under way");
}

#[test]
fn what_is_held_is_not_looked_at_with_every_stranger() {
    let mut plan = Plan::new(Some(Week::new("t.example", None)));
    for number in 0..115 {
        plan.want(Subject::of(&format!("rich{number}.t.example")), start());
    }
    let rich = of("rich");
    assert_eq!(within_days(&mut plan, 6, &rich), 15);
    let (late, looked) = (start() + HOUR * 24 * 6, std::cell::Cell::new(0));
    let mut looks = |now: SystemTime| {
        looked.set(0);
        let next = plan.next(now, |subject| {
            looked.set(looked.get() + 1);
            rich(subject)
        });
        (next, looked.get())
    };
    assert_eq!(looks(late), (None, 100));
    assert_eq!(looks(late + Duration::from_secs(1)), (None, 0));
    assert_eq!(looks(late + LOOK), (None, 100), "it may have come to be another's");
    let week = start() + HOUR * 168;
    assert!(looks(week).0.is_some(), "a week is over");
}

#[test]
fn a_certificate_that_is_of_no_use_counts_all_the_same() {
    let mut plan = Plan::new(Some(Week::new("t.example", None)));
    let (one, rich) = (Subject::of("rich.t.example"), of("rich"));
    plan.want(one.clone(), start());
    for hour in 0..3 {
        let now = start() + HOUR * hour;
        plan.want(one.clone(), now);
        assert_eq!(plan.next(now, &rich), Some(one.clone()));
        plan.came(&one, now);
        plan.failed(&one, now);
    }
    assert_eq!(plan.week().map(|week| week.count(start() + HOUR * 3)), Some(3));
}

#[test]
fn what_renews_counts_nothing_against_the_week() {
    let mut plan = Plan::new(Some(Week::new("t.example", None)));
    for number in 0..40 {
        plan.has(Subject::of(&format!("rich{number}.t.example")), life(90));
    }
    let late = start() + HOUR * 61;
    assert_eq!(std::iter::from_fn(|| next_of_others(&mut plan, late, &of("rich"))).count(), 25);
    plan.want(Subject::of("rich-new.t.example"), late);
    assert_eq!(
        plan.held(&Subject::of("rich-new.t.example"), of("rich")(&Subject::of("rich")).as_ref(), late),
        None
    );
}
