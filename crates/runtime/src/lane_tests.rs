//! Lanes over a queue in memory, in time that stands still.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;
use tokio::time::{advance, sleep};

use super::*;
use crate::queue::Round;

/// What a job does, by its number of attempts.
type Act = fn(u32) -> Result<(), JobError>;

#[derive(Clone)]
struct MemoryQueue {
    name: &'static str,
    state: Arc<Mutex<State>>,
    arrived: Arc<Notify>,
}

#[derive(Default)]
struct State {
    /// Attempts, and when it is due.
    waiting: BTreeMap<u32, (u32, Instant)>,
    finished: Vec<u32>,
    running: usize,
    most: usize,
    away: bool,
}

impl MemoryQueue {
    fn of(name: &'static str, jobs: u32) -> Self {
        let waiting = (0..jobs).map(|id| (id, (0, Instant::now()))).collect();
        let state = State {
            waiting,
            ..State::default()
        };
        Self {
            name,
            state: Arc::new(Mutex::new(state)),
            arrived: Arc::default(),
        }
    }

    fn finished(&self) -> Vec<u32> {
        let mut finished = self.state.lock().unwrap().finished.clone();
        finished.sort_unstable();
        finished
    }
}

impl Queue for MemoryQueue {
    type Item = (u32, u32);
    type Cursor = ();

    fn name(&self) -> &str {
        self.name
    }

    async fn lease(&self, (): &mut (), n: u32) -> Result<Round<(u32, u32)>, StoreError> {
        let mut state = self.state.lock().unwrap();
        if state.away {
            let source = "refused".into();
            let operation = "lease jobs";
            return Err(StoreError::Unavailable { operation, source });
        }
        let now = Instant::now();
        let due = state.waiting.iter_mut().filter(|(_, (_, at))| *at <= now);
        let items: Vec<_> = due
            .take(n as usize)
            .map(|(id, (attempts, at))| {
                (*attempts, *at) = (*attempts + 1, now + Duration::from_secs(60));
                (*id, *attempts)
            })
            .collect();
        let more = items.len() == n as usize;
        Ok(Round { items, more })
    }

    async fn finish(&self, (id, _): &(u32, u32)) -> Result<(), StoreError> {
        let mut state = self.state.lock().unwrap();
        assert!(state.waiting.remove(id).is_some(), "{id} ends once");
        state.finished.push(*id);
        Ok(())
    }

    async fn retry(&self, (id, attempts): &(u32, u32)) -> Result<(), StoreError> {
        let at = Instant::now() + pause(*attempts);
        self.state
            .lock()
            .unwrap()
            .waiting
            .insert(*id, (*attempts, at));
        Ok(())
    }

    fn attempts((_, attempts): &(u32, u32)) -> u32 {
        *attempts
    }

    fn label((id, _): &(u32, u32)) -> String {
        id.to_string()
    }

    async fn arrived(&self) {
        self.arrived.notified().await;
    }
}

/// A lane whose jobs take a second each, except that job 0 does `first` and hangs for ever where that is nothing.
fn lane(queue: &MemoryQueue, concurrency: u32, first: Option<Act>) -> Lane<MemoryQueue> {
    let state = queue.state.clone();
    Lane {
        queue: queue.clone(),
        concurrency,
        handler: Arc::new(move |(id, attempts)| {
            let state = state.clone();
            Box::pin(async move {
                match first {
                    None => std::future::pending().await,
                    Some(act) if id == 0 => act(attempts),
                    Some(_) => {
                        {
                            let mut counted = state.lock().unwrap();
                            counted.running += 1;
                            counted.most = counted.most.max(counted.running);
                        }
                        sleep(Duration::from_secs(1)).await;
                        state.lock().unwrap().running -= 1;
                        Ok(())
                    }
                }
            })
        }),
    }
}

fn start(lane: Lane<MemoryQueue>) -> (watch::Sender<bool>, tokio::task::JoinHandle<()>) {
    let (end, ending) = watch::channel(false);
    (end, tokio::spawn(lane.run(ending)))
}

#[tokio::test(start_paused = true)]
async fn so_many_run_at_once_and_no_more() {
    let queue = MemoryQueue::of("k", 20);
    let (_end, _lane) = start(lane(&queue, 3, Some(|_| Ok(()))));
    sleep(Duration::from_secs(8)).await;
    assert_eq!(queue.finished(), (0..20).collect::<Vec<_>>());
    assert_eq!(queue.state.lock().unwrap().most, 3);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_tried_again_and_ends_nothing_else() {
    let queue = MemoryQueue::of("k", 5);
    let act: Act = |attempts| {
        assert!(attempts > 2, "not yet");
        Ok(())
    };
    let (_end, _lane) = start(lane(&queue, 2, Some(act)));
    sleep(Duration::from_millis(2_500)).await;
    let done = queue.finished();
    assert!(!done.contains(&0) && done.len() >= 2, "{done:?}");
    // Its backoff is one second, and then two.
    sleep(Duration::from_secs(3)).await;
    assert_eq!(queue.finished(), [0, 1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn an_error_is_tried_again_and_giving_up_deletes() {
    for (act, attempts) in [
        (
            (|attempts| match attempts {
                1..=2 => Err(std::io::Error::other("refused").into()),
                _ => Ok(()),
            }) as Act,
            3,
        ),
        (|_| Err(JobError::give_up("never")), 1),
    ] {
        let queue = MemoryQueue::of("k", 1);
        let (_end, _lane) = start(lane(&queue, 2, Some(act)));
        let mut waited = 0;
        while queue.finished().is_empty() {
            sleep(Duration::from_millis(100)).await;
            waited += 1;
            assert!(waited < 100, "{attempts} attempts end");
        }
        assert_eq!(
            waited > 20,
            attempts == 3,
            "after {waited} tenths of a second"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_hangs_delays_no_other_and_is_tried_again_before_its_lease_ends() {
    let (hangs, other) = (MemoryQueue::of("hangs", 2), MemoryQueue::of("other", 40));
    let (_one, _first) = start(lane(&hangs, 2, None));
    let (_two, _second) = start(lane(&other, 8, Some(|_| Ok(()))));
    sleep(Duration::from_secs(6)).await;
    assert_eq!(other.finished().len(), 40);
    sleep(ATTEMPT + Duration::from_secs(2)).await;
    let attempts: Vec<_> = hangs
        .state
        .lock()
        .unwrap()
        .waiting
        .values()
        .map(|w| w.0)
        .collect();
    assert_eq!(attempts, [2, 2], "begun again after {ATTEMPT:?}");
}

#[tokio::test(start_paused = true)]
async fn a_commit_wakes_a_lane_and_a_database_that_is_back_is_found() {
    let queue = MemoryQueue::of("k", 0);
    let (_end, _lane) = start(lane(&queue, 2, Some(|_| Ok(()))));
    sleep(Duration::from_secs(1)).await;
    queue
        .state
        .lock()
        .unwrap()
        .waiting
        .insert(0, (0, Instant::now()));
    queue.arrived.notify_one();
    sleep(Duration::from_millis(1)).await;
    assert_eq!(queue.finished(), [0]);
    queue.state.lock().unwrap().away = true;
    queue
        .state
        .lock()
        .unwrap()
        .waiting
        .insert(1, (0, Instant::now()));
    queue.arrived.notify_one();
    sleep(Duration::from_secs(1)).await;
    queue.state.lock().unwrap().away = false;
    sleep(POLL + Duration::from_secs(1)).await;
    assert_eq!(queue.finished(), [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn what_has_begun_is_finished_at_the_end_and_nothing_more_is_begun() {
    let queue = MemoryQueue::of("k", 10);
    let (end, lane) = start(lane(&queue, 3, Some(|_| Ok(()))));
    advance(Duration::from_millis(500)).await;
    sleep(Duration::from_millis(1)).await;
    end.send(true).unwrap();
    lane.await.unwrap();
    let done = queue.finished().len();
    assert!((3..=4).contains(&done), "{done}");
    assert_eq!(queue.state.lock().unwrap().running, 0);
}
