//! Certificates of names under which nothing is served any more: decisions only, with the time passed in.

use std::{
    cmp::Reverse,
    collections::HashMap,
    time::{Duration, SystemTime},
};

use super::scope::Subject;

/// How long one is kept for a name that may come back: an authority counts new ones by the week.
const GRACE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Beyond so many certificates those go first under whose names nothing is served. What is needed stays.
const MOST: usize = 10_000;

/// Since when nothing is served under which names.
#[derive(Debug, Default)]
pub(super) struct Gone(HashMap<Subject, SystemTime>);

impl Gone {
    /// Those of `kept`, each with its end, that are to be let go.
    pub(super) fn over<'a>(
        &mut self,
        kept: impl Iterator<Item = (&'a str, SystemTime)>,
        is_needed: impl Fn(&Subject) -> bool,
        now: SystemTime,
    ) -> Vec<Subject> {
        let (mut since, mut count) = (HashMap::new(), 0_usize);
        let mut unneeded = Vec::new();
        for (name, ends) in kept {
            count += 1;
            let subject = Subject::of(name);
            if !is_needed(&subject) {
                // A clock that was set back begins anew.
                let first = self.0.get(&subject).copied().filter(|first| *first <= now).unwrap_or(now);
                since.insert(subject.clone(), first);
                unneeded.push((first + GRACE <= now, ends, subject));
            }
        }
        // Over first, then what ends soonest.
        unneeded.sort_unstable_by_key(|(is_over, ends, _)| (Reverse(*is_over), *ends));
        let surplus = count.saturating_sub(MOST);
        let over = unneeded.into_iter().enumerate();
        let over = over.take_while(|(number, (is_over, ..))| *is_over || *number < surplus);
        let over: Vec<_> = over.map(|(_, (_, _, subject))| subject).collect();
        over.iter().for_each(|subject| _ = since.remove(subject));
        self.0 = since;
        over
    }
}

/// Whether one that has ended is no longer of any use.
pub(super) fn is_past(ends: SystemTime, now: SystemTime) -> bool {
    ends + GRACE <= now
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn over(gone: &mut Gone, kept: &[&str], needed: &[&str], now: SystemTime) -> Vec<String> {
        let all = kept.iter().map(|name| (*name, now + 30 * DAY));
        let over = gone.over(all, |subject| needed.contains(&subject.name()), now);
        over.iter().map(|subject| subject.name().to_owned()).collect()
    }

    #[test]
    fn what_is_gone_for_a_week_is_let_go_and_what_comes_back_begins_anew() {
        let (mut gone, now) = (Gone::default(), SystemTime::UNIX_EPOCH + 1000 * DAY);
        let kept = ["a.example", "b.example", "c.example"];
        let nobody: [String; 0] = [];
        assert_eq!(over(&mut gone, &kept, &["a.example"], now), nobody);
        assert_eq!(over(&mut gone, &kept, &["a.example", "b.example"], now + 6 * DAY), nobody);
        assert_eq!(over(&mut gone, &kept, &["a.example"], now + 7 * DAY), ["c.example"]);
        assert_eq!(over(&mut gone, &kept[..2], &["a.example"], now + 13 * DAY), nobody);
        assert_eq!(over(&mut gone, &kept[..2], &["a.example"], now + 14 * DAY), ["b.example"]);
        assert_eq!(over(&mut gone, &kept[..1], &[], now - DAY), nobody);
        assert_eq!(over(&mut gone, &kept[..1], &[], now + 5 * DAY), nobody);
        assert_eq!(over(&mut gone, &kept[..1], &[], now + 6 * DAY), ["a.example"]);
    }

    #[test]
    fn there_are_no_more_than_may_be_and_those_that_are_needed_stay() {
        let (mut gone, now) = (Gone::default(), SystemTime::UNIX_EPOCH + 1000 * DAY);
        let names: Vec<_> = (0..MOST + 3).map(|number| format!("{number}.example")).collect();
        let end = |number: usize| now + DAY * u32::try_from(number).unwrap();
        let kept = || names.iter().enumerate().map(|(number, name)| (name.as_str(), end(number)));
        let is_needed =
            |subject: &Subject| !["1", "5", "6", "9"].contains(&subject.name().trim_end_matches(".example"));
        let over = gone.over(kept(), is_needed, now);
        assert_eq!(over, ["1.example", "5.example", "6.example"].map(Subject::of));
        assert!(gone.over(kept(), |_| true, now).is_empty(), "what is needed is not thrown away");
    }
}
