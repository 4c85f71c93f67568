//! What visitors of a name are asked for by now, as far as this process knows: it sets what is missing, and nothing counts as
//! set that was only wished for.

use std::sync::{Arc, Mutex, PoisonError};

use mytunnel_keys::api::SetGate;
use mytunnel_keys::id::TunnelName;

use super::gate::Asked;

/// Of one name at a time. A share that takes the place of another one knows by it what that one has left.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stands(Arc<Mutex<Option<Known>>>);

#[derive(Debug)]
struct Known {
    name: TunnelName,
    gates: Gates,
}

/// Gates that stand.
#[derive(Debug, Clone, Default)]
pub(super) struct Gates {
    list: Vec<SetGate>,
    /// Whether each was confirmed as it is here. If not, each may stand in this way or another.
    sure: bool,
}

/// What is to be done about it.
#[derive(Debug)]
pub(super) struct Steps<'a> {
    pub(super) set: Vec<&'a SetGate>,
    pub(super) drop: Vec<&'a SetGate>,
}

impl Stands {
    /// Of `name`; none of another one.
    pub(super) fn of(&self, name: &TunnelName) -> Gates {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .as_ref()
            .filter(|known| known.name == *name)
            .map(|known| known.gates.clone())
            .unwrap_or_default()
    }

    /// They are about to become what is asked for: until that is confirmed, either may stand.
    pub(super) fn begin(&self, name: &TunnelName, from: &Gates, asked: Option<&Asked>) {
        let to = asked.map(Asked::gates).unwrap_or_default();
        let gone = from.list.iter().filter(|stands| !to.iter().any(|gate| gate.path() == stands.path()));
        self.put(name, Gates { list: to.iter().chain(gone).cloned().collect(), sure: false });
    }

    /// All that is asked for stands, and nothing else.
    pub(super) fn confirm(&self, name: &TunnelName, asked: Option<&Asked>) {
        let list = asked.map(Asked::gates).unwrap_or_default().to_vec();
        self.put(name, Gates { list, sure: true });
    }

    fn put(&self, name: &TunnelName, gates: Gates) {
        let known = Known { name: name.clone(), gates };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
    }
}

impl Gates {
    /// What leads from these to what is asked for: first what is set, then what is taken away, so that in between nobody
    /// enters who may enter neither before nor after. `opens`: the share begins now, and with it the time that it has.
    pub(super) fn steps<'a>(&'a self, asked: Option<&'a Asked>, opens: bool) -> Steps<'a> {
        let to = asked.map(Asked::gates).unwrap_or_default();
        let same = |one: &SetGate, other: &SetGate| {
            one.path() == other.path() && serde_json::to_value(one).ok() == serde_json::to_value(other).ok()
        };
        let stands = |gate: &SetGate| self.sure && self.list.iter().any(|stands| same(stands, gate));
        let is_anew = |gate: &SetGate| opens && matches!(gate, SetGate::End(_));
        Steps {
            set: to.iter().filter(|gate| is_anew(gate) || !stands(gate)).collect(),
            drop: self.list.iter().filter(|gone| !to.iter().any(|gate| gate.path() == gone.path())).collect(),
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether what is to be taken away is known to stand.
    pub(super) const fn is_sure(&self) -> bool {
        self.sure
    }
}

#[cfg(test)]
mod tests {
    use mytunnel_keys::api::{SetAuth, SetEnd, SetPin};

    use super::*;

    fn auth(password: &str) -> SetGate {
        SetGate::Auth(SetAuth { user: "ann".to_owned(), password: password.to_owned(), tunnel: None })
    }

    fn pin() -> SetGate {
        SetGate::Pin(SetPin { pin: None, tunnel: None })
    }

    fn name(text: &str) -> TunnelName {
        text.parse().unwrap()
    }

    /// Paths of what is set and of what is taken away.
    fn walk(from: &Gates, to: &[SetGate], opens: bool) -> (Vec<&'static str>, Vec<&'static str>) {
        let asked = (!to.is_empty()).then(|| Asked::new(to.to_vec()));
        let steps = from.steps(asked.as_ref(), opens);
        let paths = |gates: Vec<&SetGate>| gates.into_iter().map(SetGate::path).collect();
        (paths(steps.set), paths(steps.drop))
    }

    fn confirmed(gates: &[SetGate]) -> Gates {
        let stands = Stands::default();
        stands.confirm(&name("web"), Some(&Asked::new(gates.to_vec())));
        stands.of(&name("web"))
    }

    #[test]
    fn a_change_sets_what_is_new_and_takes_away_what_is_gone() {
        let both = [auth("a"), pin()];
        assert_eq!(walk(&confirmed(&both), &both, true), (vec![], vec![]));
        assert_eq!(walk(&confirmed(&[auth("a")]), &[auth("b")], true), (vec!["auth"], vec![]));
        assert_eq!(walk(&confirmed(&[auth("a")]), &[pin()], true), (vec!["gates/pin"], vec!["auth"]));
        assert_eq!(walk(&confirmed(&[pin()]), &[], true), (vec![], vec!["gates/pin"]));
        assert_eq!(walk(&Gates::default(), &both, true), (vec!["auth", "gates/pin"], vec![]));
    }

    #[test]
    fn what_stands_at_one_name_is_set_anew_at_another() {
        let stands = Stands::default();
        let asked = Asked::new(vec![auth("a")]);
        stands.confirm(&name("web"), Some(&asked));
        assert_eq!(walk(&stands.of(&name("web-2")), &[auth("a")], true), (vec!["auth"], vec![]));
        stands.begin(&name("web-2"), &Gates::default(), Some(&asked));
        stands.confirm(&name("web-2"), Some(&asked));
        assert_eq!(walk(&stands.of(&name("web")), &[auth("a")], true), (vec!["auth"], vec![]));
    }

    #[test]
    fn what_was_never_confirmed_is_set_again() {
        let stands = Stands::default();
        stands.begin(&name("web"), &confirmed(&[pin()]), Some(&Asked::new(vec![auth("a")])));
        let left = stands.of(&name("web"));
        assert!(!left.is_sure());
        assert_eq!(walk(&left, &[auth("a"), pin()], true), (vec!["auth", "gates/pin"], vec![]));
        assert_eq!(walk(&left, &[auth("a")], true), (vec!["auth"], vec!["gates/pin"]));
        assert_eq!(walk(&left, &[], true), (vec![], vec!["auth", "gates/pin"]));
    }

    #[test]
    fn a_share_that_begins_has_its_whole_time_and_one_that_goes_on_keeps_what_is_left() {
        let end = [SetGate::End(SetEnd { expires_in: 7200, tunnel: None })];
        assert_eq!(walk(&confirmed(&end), &end, true), (vec!["expires"], vec![]));
        assert_eq!(walk(&confirmed(&end), &end, false), (vec![], vec![]));
    }
}
