//! Hashing passwords on a public port without being stopped by it.
//!
//! One hash costs tens of milliseconds and 19 MiB. It runs on blocking threads, half as many at once as there are
//! cores, so that visitors of other tunnels are served meanwhile; a bounded number of guesses waits, a smaller one for
//! each tenant and at each tunnel. The same guess is hashed once, however many requests bring it.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex},
    thread::available_parallelism,
};

use mytunnel_keys::id::TunnelId;
use tokio::sync::{Mutex as TurnMutex, Semaphore};

use super::{Unchecked, proven::Proof};
use crate::{ingress::locked, route::Customer};

/// Guesses that may wait: at most about two seconds' work.
pub(super) const WAITING: usize = 64;
/// Of these for one tenant, so that as many are kept for others, however many tunnels it has.
const WAITING_FOR_CUSTOMER: usize = 32;
/// Of these at one tunnel, so that a flood at one does not keep out the visitors of the others.
const WAITING_AT_TUNNEL: usize = 16;

/// See the [module documentation](self).
#[derive(Debug)]
pub(super) struct Hashing {
    places: Arc<Semaphore>,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    guesses: HashMap<Proof, Entry>,
    at_tunnel: HashMap<TunnelId, usize>,
    for_customer: HashMap<Customer, usize>,
}

#[derive(Debug)]
struct Entry {
    tunnel: TunnelId,
    customer: Customer,
    verdict: Arc<TurnMutex<Option<bool>>>,
    /// Requests that wait for it.
    requests: usize,
}

/// A request's part in a guess.
#[derive(Debug)]
pub(super) struct Guess {
    places: Arc<Semaphore>,
    waiting: Arc<Mutex<Waiting>>,
    proof: Proof,
    verdict: Arc<TurnMutex<Option<bool>>>,
    is_first: bool,
}

/// How a guess came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) is_right: bool,
    /// This request was the one that was counted.
    pub(super) is_first: bool,
}

impl Default for Hashing {
    fn default() -> Self {
        let cores = available_parallelism().map_or(1, usize::from);
        Self { places: Arc::new(Semaphore::new(cores.div_ceil(2))), waiting: Arc::default() }
    }
}

impl Hashing {
    /// Guesses that wait, or are hashed.
    pub(super) fn waiting(&self) -> usize {
        locked(&self.waiting).guesses.len()
    }

    /// Joins the guess that `proof` stands for. If nobody has begun with it, `count` may object.
    pub(super) fn enter(
        &self,
        (tunnel, customer): (TunnelId, Customer),
        proof: Proof,
        count: impl FnOnce() -> Result<(), Unchecked>,
    ) -> Result<Guess, Unchecked> {
        let mut waiting = locked(&self.waiting);
        let guess = |verdict, is_first| Guess {
            places: Arc::clone(&self.places),
            waiting: Arc::clone(&self.waiting),
            proof,
            verdict,
            is_first,
        };
        if let Some(entry) = waiting.guesses.get_mut(&proof) {
            entry.requests += 1;
            return Ok(guess(Arc::clone(&entry.verdict), false));
        }
        let at_tunnel = waiting.at_tunnel.get(&tunnel).copied().unwrap_or(0);
        let for_customer = waiting.for_customer.get(&customer).copied().unwrap_or(0);
        if waiting.guesses.len() >= WAITING
            || at_tunnel >= WAITING_AT_TUNNEL
            || for_customer >= WAITING_FOR_CUSTOMER
        {
            return Err(Unchecked::Busy);
        }
        count()?;
        waiting.at_tunnel.insert(tunnel, at_tunnel + 1);
        waiting.for_customer.insert(customer.clone(), for_customer + 1);
        let verdict = Arc::new(TurnMutex::new(None));
        let entry = Entry { tunnel, customer, verdict: Arc::clone(&verdict), requests: 1 };
        waiting.guesses.insert(proof, entry);
        Ok(guess(verdict, true))
    }
}

impl Guess {
    /// Waits for the verdict, or makes it with `work` if nobody else does. Whoever gives up leaves it to the next.
    pub(super) async fn settle(
        self,
        work: impl FnOnce() -> bool + Send + 'static,
    ) -> Result<Outcome, Unchecked> {
        let is_first = self.is_first;
        let mut verdict = self.verdict.lock().await;
        if let Some(is_right) = *verdict {
            return Ok(Outcome { is_right, is_first });
        }
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| Unchecked::Busy)?;
        let hashed = tokio::task::spawn_blocking(move || {
            // The place is given back when the work is done, also if the visitor has gone.
            let _place = place;
            work()
        });
        let is_right = hashed.await.map_err(|_| Unchecked::Busy)?;
        *verdict = Some(is_right);
        Ok(Outcome { is_right, is_first })
    }
}

impl Drop for Guess {
    fn drop(&mut self) {
        let mut waiting = locked(&self.waiting);
        let Some(entry) = waiting.guesses.get_mut(&self.proof) else { return };
        entry.requests -= 1;
        if entry.requests > 0 {
            return;
        }
        if let Some(entry) = waiting.guesses.remove(&self.proof) {
            one_less(&mut waiting.at_tunnel, &entry.tunnel);
            one_less(&mut waiting.for_customer, &entry.customer);
        }
    }
}

fn one_less<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn tunnel(number: u8) -> TunnelId {
        TunnelId::from_bytes([number; 16])
    }

    fn proof(tunnel: u8, number: usize) -> Proof {
        let mut proof = [tunnel; 32];
        proof[0] = u8::try_from(number).unwrap();
        proof
    }

    /// A tunnel, and a customer that has it alone.
    fn alone(number: u8) -> (TunnelId, Customer) {
        (tunnel(number), customer(number))
    }

    fn customer(number: u8) -> Customer {
        Customer::Of(format!("proj_{number}").parse().unwrap())
    }

    fn enter(hashing: &Hashing, at: u8, number: usize) -> Result<Guess, Unchecked> {
        hashing.enter(alone(at), proof(at, number), || Ok(()))
    }

    #[tokio::test]
    async fn one_guess_is_counted_and_hashed_once_for_all_who_bring_it() {
        let (hashing, hashed, counted) =
            (Hashing::default(), Arc::new(AtomicUsize::new(0)), AtomicUsize::new(0));
        let guesses: Vec<_> = (0..100)
            .map(|_| {
                let count = || {
                    counted.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                };
                hashing.enter(alone(1), proof(1, 0), count).unwrap()
            })
            .collect();
        let outcomes = futures::future::join_all(guesses.into_iter().map(|guess| {
            let hashed = Arc::clone(&hashed);
            guess.settle(move || {
                hashed.fetch_add(1, Ordering::Relaxed);
                true
            })
        }))
        .await;
        assert!(outcomes.iter().all(|outcome| outcome.unwrap().is_right));
        assert_eq!(outcomes.iter().filter(|outcome| outcome.unwrap().is_first).count(), 1);
        assert_eq!((hashed.load(Ordering::Relaxed), counted.load(Ordering::Relaxed)), (1, 1));
        let left = locked(&hashing.waiting);
        assert!(left.guesses.is_empty() && left.at_tunnel.is_empty() && left.for_customer.is_empty());
    }

    #[tokio::test]
    async fn a_flood_at_one_tunnel_leaves_places_for_the_others() {
        let hashing = Hashing::default();
        let held: Vec<_> = (0..WAITING_AT_TUNNEL).map(|number| enter(&hashing, 1, number).unwrap()).collect();
        assert_eq!(enter(&hashing, 1, 99).unwrap_err(), Unchecked::Busy);
        let other = enter(&hashing, 2, 0).unwrap();
        drop(held);
        enter(&hashing, 1, 99).unwrap();
        assert!(other.settle(|| true).await.unwrap().is_right);

        let all: Vec<_> =
            (0..WAITING).map(|at| enter(&hashing, u8::try_from(at).unwrap(), 0).unwrap()).collect();
        assert_eq!(enter(&hashing, 200, 0).unwrap_err(), Unchecked::Busy);
        drop(all);
        enter(&hashing, 200, 0).unwrap();
    }

    #[tokio::test]
    async fn a_flood_at_all_tunnels_of_a_tenant_leaves_places_for_the_others() {
        let hashing = Hashing::default();
        let enter_of_one = |at: u8| hashing.enter((tunnel(at), customer(1)), proof(at, 0), || Ok(()));
        let held: Vec<_> =
            (0..WAITING_FOR_CUSTOMER).map(|at| enter_of_one(u8::try_from(at).unwrap()).unwrap()).collect();
        assert_eq!(enter_of_one(100).unwrap_err(), Unchecked::Busy);
        enter(&hashing, 200, 0).unwrap();
        drop(held);
        enter_of_one(100).unwrap();
    }

    #[tokio::test]
    async fn who_objects_is_not_entered() {
        let hashing = Hashing::default();
        let error = hashing.enter(alone(1), proof(1, 0), || Err(Unchecked::Busy)).unwrap_err();
        assert_eq!(error, Unchecked::Busy);
        assert!(locked(&hashing.waiting).guesses.is_empty());
    }

    #[tokio::test]
    async fn a_visitor_who_leaves_hands_the_guess_on() {
        let hashing = Hashing::default();
        let (first, second) = (enter(&hashing, 1, 0).unwrap(), enter(&hashing, 1, 0).unwrap());
        let all = hashing.places.available_permits();
        let held = Arc::clone(&hashing.places).acquire_many_owned(u32::try_from(all).unwrap()).await.unwrap();
        let mut waiting = Box::pin(first.settle(|| true));
        assert!(futures::poll!(&mut waiting).is_pending());
        drop((waiting, held));
        assert_eq!(second.settle(|| true).await, Ok(Outcome { is_right: true, is_first: false }));
    }
}
