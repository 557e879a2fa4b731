//! Who is connected, and who gives way when there is no room.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rawdrive_identity::Network;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::client_address::TrustedProxies;

/// Who has kept the server waiting for less than this gives way to nobody.
const SETTLED: Duration = Duration::from_millis(200);

/// All connections of a server. Whoever holds up the server longest gives way to a newcomer when there is no room, so
/// that connections that do nothing never keep others out.
#[derive(Debug)]
pub(super) struct Seats {
    connections: usize,
    connections_per_address: usize,
    proxies: TrustedProxies,
    started: Instant,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    by_number: HashMap<u64, Arc<Shared>>,
    by_network: HashMap<Network, usize>,
}

#[derive(Debug)]
struct Shared {
    network: Network,
    /// Milliseconds from the start at which the server began to wait for the client; 0 while the client waits.
    waiting_since: AtomicU64,
    give_way: Notify,
}

/// One connection's place, free again on drop.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    number: u64,
    shared: Arc<Shared>,
}

impl Seats {
    /// Addresses of `proxies` speak for many, and have no share of their own.
    pub(super) fn new(
        connections: usize,
        connections_per_address: usize,
        proxies: TrustedProxies,
    ) -> Self {
        Self {
            connections,
            connections_per_address,
            proxies,
            started: Instant::now(),
            taken: Mutex::default(),
        }
    }

    /// A place for a connection from `peer`, or nothing where everybody is being served.
    pub(super) fn take(self: &Arc<Self>, peer: IpAddr) -> Option<Seat> {
        let network = Network::of(peer);
        let mut taken = self.lock();
        let own = taken.by_network.get(&network).copied().unwrap_or_default();
        let shares = !self.proxies.trusts(peer);
        if shares && own >= self.connections_per_address {
            let evicted = self.longest_waiting(&taken, |shared| shared.network == network)?;
            taken.evict(evicted);
        } else if taken.by_number.len() >= self.connections {
            let evicted = self.longest_waiting(&taken, |_| true)?;
            taken.evict(evicted);
        }
        let shared = Arc::new(Shared {
            network,
            waiting_since: AtomicU64::new(self.now()),
            give_way: Notify::new(),
        });
        let number = taken.next;
        taken.next += 1;
        taken.by_number.insert(number, Arc::clone(&shared));
        *taken.by_network.entry(network).or_default() += 1;
        Some(Seat {
            seats: Arc::clone(self),
            number,
            shared,
        })
    }

    fn longest_waiting(&self, taken: &Taken, among: impl Fn(&Shared) -> bool) -> Option<u64> {
        let settled = u64::try_from(SETTLED.as_millis()).unwrap_or(u64::MAX);
        let latest = self.now().saturating_sub(settled);
        taken
            .by_number
            .iter()
            .filter(|(_, shared)| among(shared))
            .map(|(number, shared)| (shared.waiting_since.load(Ordering::Relaxed), *number))
            .filter(|(since, _)| (1..=latest).contains(since))
            .min()
            .map(|(_, number)| number)
    }

    /// Never 0.
    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).map_or(u64::MAX, |ms| ms + 1)
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        // Nothing between the changes of the two maps can panic.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn evict(&mut self, number: u64) {
        if let Some(shared) = self.free(number) {
            shared.give_way.notify_one();
        }
    }

    fn free(&mut self, number: u64) -> Option<Arc<Shared>> {
        let shared = self.by_number.remove(&number)?;
        if let Some(own) = self.by_network.get_mut(&shared.network) {
            *own -= 1;
            if *own == 0 {
                self.by_network.remove(&shared.network);
            }
        }
        Some(shared)
    }
}

impl Seat {
    /// The client waits for the server.
    pub(super) fn working(&self) {
        self.shared.waiting_since.store(0, Ordering::Relaxed);
    }

    /// The server waits for the client, unless it does already.
    pub(super) fn waiting(&self) {
        let now = self.seats.now();
        let since = &self.shared.waiting_since;
        let _ = since.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Ends when this connection has to give way.
    pub(super) fn evicted(&self) -> impl Future<Output = ()> + use<> {
        let shared = Arc::clone(&self.shared);
        async move { shared.give_way.notified().await }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.lock().free(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    const ADA: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const BOB: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn seats(connections: usize, per_address: usize) -> Arc<Seats> {
        Arc::new(Seats::new(
            connections,
            per_address,
            TrustedProxies::default(),
        ))
    }

    #[test]
    fn whoever_waits_longest_gives_way_and_who_is_served_does_not() {
        let seats = seats(3, 3);
        let served = seats.take(ADA).unwrap();
        served.working();
        let first = seats.take(ADA).unwrap();
        std::thread::sleep(SETTLED);
        let second = seats.take(BOB).unwrap();
        std::thread::sleep(SETTLED * 2);
        let newcomer = seats.take(BOB).unwrap();
        assert!(first.evicted().now_or_never().is_some());
        assert!(second.evicted().now_or_never().is_none());
        for seat in [&served, &second, &newcomer] {
            seat.working();
        }
        assert!(seats.take(BOB).is_none(), "everybody is served");
        drop(served);
        assert!(seats.take(BOB).is_some());
    }

    #[test]
    fn an_address_beyond_its_share_gives_way_to_itself_alone() {
        let seats = seats(10, 2);
        let others = seats.take(BOB).unwrap();
        std::thread::sleep(SETTLED * 2);
        let (mine, busy) = (seats.take(ADA).unwrap(), seats.take(ADA).unwrap());
        busy.working();
        mine.working();
        assert!(seats.take(ADA).is_none(), "both are being served");
        mine.waiting();
        std::thread::sleep(SETTLED * 2);
        let newcomer = seats.take(ADA).unwrap();
        assert!(mine.evicted().now_or_never().is_some());
        assert!(others.evicted().now_or_never().is_none());
        drop((mine, busy, newcomer));
        assert_eq!(seats.lock().by_number.len(), 1);
        assert_eq!(seats.lock().by_network.len(), 1);
    }

    #[test]
    fn a_proxy_speaks_for_many_and_has_no_share() {
        let seats = Arc::new(Seats::new(4, 1, "192.0.2.1".parse().unwrap()));
        let _of_the_proxy: Vec<_> = (0..3).map(|_| seats.take(ADA).unwrap()).collect();
        let of_bob = seats.take(BOB).unwrap();
        of_bob.working();
        assert!(seats.take(BOB).is_none());
    }
}
