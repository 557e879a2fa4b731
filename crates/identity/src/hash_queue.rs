//! The queue before the password hash. There are as many working buffers as hashes run at once; each is wiped when it
//! comes back, handed on while somebody waits, and unmapped when nobody does. Client networks take turns, so that one
//! that asks often waits behind itself.
//!
//! Invariant: the first request of a network waits for at most one request of each other network, its second for
//! two, and so on, however many others wait.

use std::collections::{BTreeMap, TryReserveError, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use argon2::Block;
use tokio::sync::oneshot;
use zeroize::Zeroize as _;

use crate::network::Network;

/// A buffer asks for at least so much address space (in blocks of 1 KiB): the allocator maps it on its own, and unmaps it
/// when it is dropped. Smaller ones would stay in the arena of the thread that dropped them. What is not written takes no
/// memory. glibc's threshold for this grows to 32 MiB at the most (mallopt, `M_MMAP_THRESHOLD`).
const MAPPED_BLOCKS: usize = 33 * 1024;

/// How many requests may wait for a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashWaiting {
    /// Of one client network.
    pub per_network: usize,
    /// Of all together. Beyond it the network with the most requests gives one up.
    pub in_total: usize,
}

/// No place to wait in: too many of the same network wait already, or too many in total.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

/// Clones share the queue.
#[derive(Clone)]
pub(crate) struct HashQueue(Arc<Shared>);

struct Shared {
    bounds: HashWaiting,
    /// Buffers that stay are this long.
    blocks: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// How many more may run.
    idle: usize,
    /// Each network that waits, once, in the order of its turn.
    turns: VecDeque<Network>,
    waiting: BTreeMap<Network, VecDeque<Waiter>>,
    count: usize,
    next_ticket: u64,
}

struct Waiter {
    ticket: u64,
    lend: oneshot::Sender<Lease>,
}

impl fmt::Debug for HashQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashQueue")
            .field("bounds", &self.0.bounds)
            .finish_non_exhaustive()
    }
}

impl HashQueue {
    /// A queue with `at_once` buffers of `blocks` blocks of 1 KiB.
    pub(crate) fn new(at_once: usize, blocks: usize, bounds: HashWaiting) -> Self {
        let state = State {
            idle: at_once,
            ..State::default()
        };
        Self(Arc::new(Shared {
            bounds,
            blocks,
            state: Mutex::new(state),
        }))
    }

    /// Waits for a buffer. A caller that is dropped while it waits gives its place back.
    pub(crate) async fn enter(&self, network: Network) -> Result<Lease, Full> {
        let (ticket, lent) = {
            let mut state = self.0.state();
            if let Some(idle) = state.idle.checked_sub(1) {
                state.idle = idle;
                return Ok(self.lease(Vec::new()));
            }
            state.make_room(network, self.0.bounds)?;
            let (lend, lent) = oneshot::channel();
            (state.push(network, lend), lent)
        };
        let _place = Place {
            queue: self,
            network,
            ticket,
        };
        // The sender is dropped when this request is the one that is given up.
        lent.await.map_err(|_| Full)
    }

    fn lease(&self, buffer: Vec<Block>) -> Lease {
        Lease {
            queue: self.clone(),
            buffer,
            used: false,
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing below panics while it holds the state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn waiting_of(&self, network: Network) -> usize {
        self.waiting.get(&network).map_or(0, VecDeque::len)
    }

    /// Admits one more of `network`, if need be in place of one of the network that crowds most.
    fn make_room(&mut self, network: Network, bounds: HashWaiting) -> Result<(), Full> {
        let own = self.waiting_of(network);
        if own >= bounds.per_network {
            return Err(Full);
        }
        if self.count < bounds.in_total {
            return Ok(());
        }
        let crowd = self.waiting.iter().max_by_key(|(_, queue)| queue.len());
        match crowd.map(|(network, queue)| (*network, queue.len())) {
            Some((crowding, length)) if length > own + 1 => {
                self.remove(crowding, |queue| queue.pop_back());
                Ok(())
            }
            _ => Err(Full),
        }
    }

    fn push(&mut self, network: Network, lend: oneshot::Sender<Lease>) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let queue = self.waiting.entry(network).or_default();
        if queue.is_empty() {
            self.turns.push_back(network);
        }
        queue.push_back(Waiter { ticket, lend });
        self.count += 1;
        ticket
    }

    /// Whose turn it is; their network's next turn comes after everybody else's.
    fn next(&mut self) -> Option<Waiter> {
        let network = self.turns.front().copied()?;
        let waiter = self.remove(network, VecDeque::pop_front);
        if self.waiting.contains_key(&network) {
            self.turns.rotate_left(1);
        }
        waiter
    }

    /// Takes one waiter of a network out, and the network's turn when nobody is left of it.
    fn remove(
        &mut self,
        network: Network,
        take: impl FnOnce(&mut VecDeque<Waiter>) -> Option<Waiter>,
    ) -> Option<Waiter> {
        let queue = self.waiting.get_mut(&network)?;
        let waiter = take(queue);
        if waiter.is_some() {
            self.count -= 1;
        }
        if queue.is_empty() {
            self.waiting.remove(&network);
            self.turns.retain(|turn| *turn != network);
        }
        waiter
    }
}

/// A place in the queue, given back on drop if it was not called up.
struct Place<'a> {
    queue: &'a HashQueue,
    network: Network,
    ticket: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let ticket = self.ticket;
        let of_ticket = |queue: &mut VecDeque<Waiter>| {
            let at = queue.iter().position(|waiter| waiter.ticket == ticket)?;
            queue.remove(at)
        };
        let given_up = self.queue.0.state().remove(self.network, of_ticket);
        // Outside the lock: a buffer that was just lent comes back through it.
        drop(given_up);
    }
}

/// A buffer on loan. Dropping it wipes what was written and hands it to whose turn it is.
pub(crate) struct Lease {
    queue: HashQueue,
    buffer: Vec<Block>,
    used: bool,
}

impl Lease {
    /// At least `count` blocks to work in. What was hashed at another cost may need more than usual; the surplus
    /// is given back.
    pub(crate) fn blocks(&mut self, count: usize) -> Result<&mut [Block], TryReserveError> {
        let length = count.max(self.queue.0.blocks);
        if length > self.buffer.len() {
            let missing = length.max(MAPPED_BLOCKS) - self.buffer.len();
            self.buffer.try_reserve_exact(missing)?;
            self.buffer.resize(length, Block::new());
        }
        self.used = true;
        Ok(&mut self.buffer)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        if self.used {
            buffer.zeroize_blocks();
            let usual = self.queue.0.blocks;
            if buffer.len() > usual {
                buffer = Vec::new();
            }
        }
        let waiter = {
            let mut state = self.queue.0.state();
            let Some(waiter) = state.next() else {
                state.idle += 1;
                return;
            };
            waiter
        };
        // Whoever has gone meanwhile hands the lease back by dropping it, to the next.
        let _ = waiter.lend.send(self.queue.lease(buffer));
    }
}

trait ZeroizeBlocks {
    fn zeroize_blocks(&mut self);
}

impl ZeroizeBlocks for Vec<Block> {
    /// In place: `Vec`'s own wiping also empties it.
    fn zeroize_blocks(&mut self) {
        self.as_mut_slice()
            .iter_mut()
            .for_each(|block| block.zeroize());
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use proptest::prelude::*;

    use super::*;

    const BLOCKS: usize = 4;

    fn queue(at_once: usize, per_network: usize, in_total: usize) -> HashQueue {
        let bounds = HashWaiting {
            per_network,
            in_total,
        };
        HashQueue::new(at_once, BLOCKS, bounds)
    }

    fn network(n: u8) -> Network {
        Network::of(IpAddr::from([192, 0, 2, n]))
    }

    type Entering<'a> = Pin<Box<dyn Future<Output = Result<Lease, Full>> + 'a>>;

    fn poll(entering: &mut Entering<'_>) -> Poll<Result<Lease, Full>> {
        entering
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_buffer_is_handed_on_wiped_and_no_longer_than_usual() {
        let queue = queue(1, 2, 2);
        let entering = || Box::pin(queue.enter(network(1))) as Entering<'_>;
        let lease = |entering: &mut Entering<'_>| match poll(entering) {
            Poll::Ready(Ok(lease)) => lease,
            _ => panic!("the buffer is free"),
        };
        let mut first = lease(&mut entering());
        let (mut second, mut third) = (entering(), entering());
        assert!(poll(&mut second).is_pending() && poll(&mut third).is_pending());
        let blocks = first.blocks(2).unwrap();
        assert_eq!(blocks.len(), BLOCKS);
        for block in blocks.iter_mut() {
            block.as_mut().fill(0xdead_beef);
        }
        let at = blocks.as_ptr();
        drop(first);
        let mut handed_on = lease(&mut second);
        let blocks = handed_on.blocks(BLOCKS).unwrap();
        assert_eq!(blocks.as_ptr(), at, "the same memory");
        let is_zero = |block: &Block| block.as_ref().iter().all(|word| *word == 0);
        assert!(blocks.iter().all(is_zero), "nothing of the last password");
        assert_eq!(
            handed_on.blocks(9).unwrap().len(),
            9,
            "what another cost needs"
        );
        drop(handed_on);
        assert_eq!(lease(&mut third).blocks(1).unwrap().len(), BLOCKS);
        assert_eq!(queue.0.state().idle, 1, "nobody waits: nothing is kept");
    }

    #[derive(Debug, Clone)]
    enum Step {
        Arrive(u8),
        Finish(usize),
        Leave(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            // One network crowds.
            4 => Just(Step::Arrive(0)),
            3 => (1_u8..5).prop_map(Step::Arrive),
            3 => any::<usize>().prop_map(Step::Finish),
            1 => any::<usize>().prop_map(Step::Leave),
        ]
    }

    struct Waiting<'a> {
        network: u8,
        entering: Entering<'a>,
        /// How many of its own network were ahead.
        ahead: usize,
        /// How many of each other network were served since.
        served: BTreeMap<u8, usize>,
    }

    proptest! {
        #[test]
        fn networks_take_turns_and_places_are_bounded(steps in proptest::collection::vec(step(), 1..120)) {
            let (at_once, per_network, in_total) = (2, 5, 8);
            let queue = queue(at_once, per_network, in_total);
            let mut running: Vec<Lease> = Vec::new();
            let mut waiting: Vec<Waiting<'_>> = Vec::new();
            for step in steps {
                match step {
                    Step::Arrive(n) => {
                        let own = waiting.iter().filter(|w| w.network == n).count();
                        let most = (0..5)
                            .map(|m| waiting.iter().filter(|w| w.network == m).count())
                            .max()
                            .unwrap_or(0);
                        let mut entering: Entering<'_> = Box::pin(queue.enter(network(n)));
                        match poll(&mut entering) {
                            Poll::Ready(Ok(lease)) => {
                                prop_assert!(running.len() < at_once && waiting.is_empty());
                                running.push(lease);
                            }
                            Poll::Ready(Err(Full)) => {
                                prop_assert!(own == per_network || (waiting.len() == in_total && most <= own + 1));
                            }
                            Poll::Pending => waiting.push(Waiting {
                                network: n,
                                entering,
                                ahead: own,
                                served: BTreeMap::new(),
                            }),
                        }
                    }
                    Step::Finish(n) if !running.is_empty() => {
                        running.swap_remove(n % running.len());
                    }
                    Step::Leave(n) if !waiting.is_empty() => {
                        waiting.remove(n % waiting.len());
                    }
                    Step::Finish(_) | Step::Leave(_) => {}
                }
                let mut at = 0;
                while at < waiting.len() {
                    match poll(&mut waiting[at].entering) {
                        Poll::Pending => at += 1,
                        Poll::Ready(Err(Full)) => {
                            waiting.remove(at);
                        }
                        Poll::Ready(Ok(lease)) => {
                            let done = waiting.remove(at);
                            for (other, served) in &done.served {
                                prop_assert!(*served <= done.ahead + 1, "{other} came {served} times first");
                            }
                            for other in waiting.iter_mut().filter(|w| w.network != done.network) {
                                *other.served.entry(done.network).or_default() += 1;
                            }
                            running.push(lease);
                        }
                    }
                }
                prop_assert!(running.len() <= at_once && waiting.len() <= in_total);
                prop_assert!(waiting.is_empty() || running.len() == at_once, "no buffer is idle while somebody waits");
            }
            let (left, buffers) = (waiting.len(), running.len());
            drop((waiting, running));
            let state = queue.0.state();
            prop_assert_eq!((state.count, state.waiting.len(), state.turns.len()), (0, 0, 0));
            prop_assert_eq!(state.idle, at_once, "{} waited, {} ran", left, buffers);
        }
    }
}
