//! How many certificates a public authority may have given for one domain within a week, whoever's names they are for.
//!
//! Let's Encrypt counts 50 in 168 hours for a registered domain; what renews a certificate does not count. A window that
//! slides is kept to here, by the issues of this relay for its own domain: it never allows more than their bucket does.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::route::Customer;

const WEEK: Duration = Duration::from_secs(168 * 3600);

/// Certificates for new names under one domain in that time.
pub(super) const MOST: usize = 50;

/// Of these, for the relay's own names alone.
pub(super) const OWN: usize = 5;

/// For one tenant's names.
pub(super) const OF_TENANT: usize = 15;

/// Of what tenants have, for the first name of each: three that take their part leave something to others.
pub(super) const FIRST: usize = 10;

/// How names of which no tenant is known are noted. They count as one tenant's together: a tenant has as many projects as
/// it likes, and may have all of its names ordered before a node shows whose they are.
const UNKNOWN: &str = "unknown";

/// See the [module documentation](self).
#[derive(Debug)]
pub(super) struct Week {
    domain: Box<str>,
    issues: Vec<Issue>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Issue {
    /// Second of the Unix epoch.
    at: u64,
    /// Whose name it was, by [`part`]; none for the relay's own.
    owner: Option<String>,
}

/// Until when there is nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spent {
    /// For anybody's names.
    ByAll(SystemTime),
    /// For this tenant's names.
    ByTenant(SystemTime),
}

impl Week {
    /// Of names at and under this domain, with what [`text`](Self::text) has kept; what cannot be read is as nothing.
    pub(super) fn new(domain: &str, kept: Option<&str>) -> Self {
        let issues = kept.and_then(|text| match serde_json::from_str(text) {
            Ok(issues) => Some(issues),
            Err(error) => {
                tracing::warn!(%error, "what was ordered this week cannot be read: it is counted anew");
                None
            }
        });
        Self { domain: domain.into(), issues: issues.unwrap_or_default() }
    }

    /// All that is to outlive the process.
    pub(super) fn text(&self) -> String {
        // Infallible: numbers and texts.
        serde_json::to_string(&self.issues).unwrap_or_default()
    }

    /// Whether it counts names like this.
    pub(super) fn counts(&self, name: &str) -> bool {
        name.strip_suffix(&*self.domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }

    /// A certificate for a new name has come in.
    pub(super) fn issued(&mut self, owner: Option<&Customer>, now: SystemTime) {
        // Not by their age, which a clock that leaps has wrong: of a week there are never more than these.
        let surplus = (self.issues.len() + 1).saturating_sub(2 * MOST);
        self.issues.drain(..surplus);
        self.issues.push(Issue { at: seconds(now), owner: part(owner).map(ToOwned::to_owned) });
        // What a clock that was ahead has noted was before this one.
        for issue in &mut self.issues {
            issue.at = issue.at.min(seconds(now));
        }
    }

    /// Whether there is none for a new name of `owner`, with those that are under way: of all, and of the same [`part`].
    pub(super) fn spent(
        &self,
        owner: Option<&Customer>,
        under_way: (usize, usize),
        now: SystemTime,
    ) -> Option<Spent> {
        let most = if owner.is_some() { MOST - OWN } else { MOST };
        let all = self.issues.iter().filter(|issue| issue.is_within(now));
        if let Some(until) = free_at(all.clone(), under_way.0, most, now) {
            return Some(Spent::ByAll(until));
        }
        let part = Some(part(owner)?);
        let theirs = all.clone().filter(|issue| issue.owner.as_deref() == part);
        let is_first = theirs.clone().count() + under_way.1 == 0 && part != Some(UNKNOWN);
        let spent = free_at(theirs, under_way.1, OF_TENANT, now).or_else(|| match is_first {
            true => None,
            false => free_at(all, under_way.0, MOST - OWN - FIRST, now),
        });
        spent.map(Spent::ByTenant)
    }

    /// How many there were.
    pub(super) fn count(&self, now: SystemTime) -> usize {
        self.issues.iter().filter(|issue| issue.is_within(now)).count()
    }
}

impl Issue {
    /// One of a clock that was ahead counts until that clock's week is over, but for no more than two.
    fn is_within(&self, now: SystemTime) -> bool {
        let (at, now, week) = (self.at, seconds(now), WEEK.as_secs());
        now < at.saturating_add(week) && at <= now.saturating_add(week)
    }
}

/// To whose part of the week a name counts; none for the relay's own.
pub(super) fn part(owner: Option<&Customer>) -> Option<&str> {
    match owner {
        None => None,
        Some(Customer::Tenant(tenant)) => Some(tenant.as_str()),
        Some(Customer::Of(_)) => Some(UNKNOWN),
    }
}

/// When the first of as many as fill it is a week old; `None` if there is room.
fn free_at<'a>(
    issues: impl Iterator<Item = &'a Issue>,
    under_way: usize,
    most: usize,
    now: SystemTime,
) -> Option<SystemTime> {
    let mut times: Vec<u64> = issues.map(|issue| issue.at).collect();
    if times.len() + under_way < most {
        return None;
    }
    times.sort_unstable();
    // With all that are under way counted, this one has to be over first. What is under way alone is looked at again soon.
    let first = times.len().saturating_sub(most.saturating_sub(under_way).max(1));
    let at = times.get(first).map(|at| UNIX_EPOCH + Duration::from_secs(*at) + WEEK);
    Some(at.unwrap_or(now + Duration::from_secs(60)))
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn customer(name: &str) -> Customer {
        Customer::Tenant(format!("ten_{name}").parse().unwrap())
    }

    #[test]
    fn names_of_the_domain_count_and_no_others() {
        let week = Week::new("t.example", None);
        assert!(["t.example", "a.t.example", "*.t.example"].iter().all(|name| week.counts(name)));
        assert!(!["at.example", "example", "app.other.example"].iter().any(|name| week.counts(name)));
    }

    #[test]
    fn some_are_kept_for_the_relays_own_names_and_all_come_back_after_a_week() {
        let mut week = Week::new("t.example", None);
        for number in 0..MOST {
            let owner = customer(&format!("p{number}"));
            let spent = week.spent(Some(&owner), (0, 0), now() + HOUR);
            let is_room = number < MOST - OWN;
            assert_eq!(spent.is_none(), is_room, "{number}: {spent:?}");
            week.issued(is_room.then_some(&owner), now());
        }
        let until = now() + WEEK;
        assert_eq!(week.spent(None, (0, 0), now() + HOUR), Some(Spent::ByAll(until)));
        assert_eq!(week.spent(None, (0, 0), until - Duration::from_secs(1)), Some(Spent::ByAll(until)));
        assert_eq!(week.spent(None, (0, 0), until), None);
    }

    #[test]
    fn one_tenant_has_a_part_and_what_is_under_way_is_counted() {
        let (mut week, rich, poor) = (Week::new("t.example", None), customer("rich"), customer("poor"));
        for number in 0..OF_TENANT {
            assert_eq!(week.spent(Some(&rich), (0, 0), now()), None, "{number}");
            week.issued(Some(&rich), now() + HOUR * u32::try_from(number).unwrap());
        }
        let late = now() + HOUR * 20;
        assert_eq!(week.spent(Some(&rich), (0, 0), late), Some(Spent::ByTenant(now() + WEEK)));
        assert_eq!(week.spent(Some(&poor), (0, 0), late), None);
        assert_eq!(
            week.spent(Some(&poor), (MOST - OWN - OF_TENANT, 0), late),
            Some(Spent::ByAll(now() + WEEK))
        );
        assert!(week.spent(Some(&poor), (OF_TENANT, OF_TENANT), late).is_some(), "all of it is under way");
    }

    #[test]
    fn names_of_which_no_tenant_is_known_are_one_tenants_however_many_projects_they_are_of() {
        let mut week = Week::new("t.example", None);
        let of = |number: usize| Customer::Of(format!("proj_{number}").parse().unwrap());
        for number in 0..OF_TENANT {
            assert_eq!(week.spent(Some(&of(number)), (0, 0), now()), None, "{number}");
            week.issued(Some(&of(number)), now());
        }
        assert_eq!(week.spent(Some(&of(99)), (0, 0), now()), Some(Spent::ByTenant(now() + WEEK)));
        assert_eq!(week.spent(Some(&customer("known")), (0, 0), now()), None);
    }

    #[test]
    fn who_has_had_none_has_a_first_one_whatever_few_others_took() {
        let mut week = Week::new("t.example", None);
        let few = ["a", "b", "c"].map(customer);
        let mut taken = 0;
        for owner in few.iter().cycle().take(100) {
            if week.spent(Some(owner), (0, 0), now()).is_none() {
                week.issued(Some(owner), now());
                taken += 1;
            }
        }
        assert_eq!(taken, MOST - OWN - FIRST);
        let unknown = Customer::Of("proj_x".parse().unwrap());
        assert!(week.spent(Some(&unknown), (0, 0), now()).is_some(), "it may be of the same");
        for number in 0..FIRST {
            let late = customer(&format!("late{number}"));
            assert_eq!(week.spent(Some(&late), (0, 0), now()), None);
            week.issued(Some(&late), now());
            assert!(matches!(
                week.spent(Some(&late), (0, 0), now()),
                Some(Spent::ByTenant(_) | Spent::ByAll(_))
            ));
        }
        let latest = customer("latest");
        assert_eq!(week.spent(Some(&latest), (0, 0), now()), Some(Spent::ByAll(now() + WEEK)));
    }

    #[test]
    fn what_was_counted_outlives_the_process_and_nonsense_does_not_keep_it_from_starting() {
        let (mut week, rich) = (Week::new("t.example", None), customer("rich"));
        for _ in 0..OF_TENANT {
            week.issued(Some(&rich), now());
        }
        let again = Week::new("t.example", Some(&week.text()));
        assert_eq!(again.spent(Some(&rich), (0, 0), now()), Some(Spent::ByTenant(now() + WEEK)));
        assert_eq!(Week::new("t.example", Some("nonsense")).spent(Some(&rich), (0, 0), now()), None);
    }

    #[test]
    fn a_clock_that_leaps_neither_fills_memory_nor_stops_for_ever() {
        let mut week = Week::new("t.example", None);
        for _ in 0..1000 {
            week.issued(None, now() + WEEK * 3);
        }
        assert!(week.issues.len() <= 2 * MOST);
        assert_eq!(week.spent(None, (0, 0), now()), None, "that was a clock far ahead");
        week.issued(None, now());
        assert_eq!(week.spent(None, (0, 0), now() + HOUR), Some(Spent::ByAll(now() + WEEK)));
        assert_eq!(week.spent(None, (0, 0), now() + WEEK), None);

        let far = Week::new("t.example", Some(r#"[{"at":18446744073709551615,"owner":null}]"#));
        assert_eq!((far.count(now()), far.spent(None, (MOST, 0), now()).is_some()), (0, true));
    }

    #[test]
    fn one_certificate_under_a_clock_that_is_ahead_forgets_nothing() {
        let (mut week, rich) = (Week::new("t.example", None), customer("rich"));
        for _ in 0..OF_TENANT {
            week.issued(Some(&rich), now());
        }
        week.issued(Some(&customer("poor")), now() + WEEK + HOUR);
        assert_eq!(week.spent(Some(&rich), (0, 0), now()), Some(Spent::ByTenant(now() + WEEK)));
    }
}
