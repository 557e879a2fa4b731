//! Group commit: what arrives for one workspace while a transaction of its kind is under way waits, and goes
//! into the next one together.
//!
//! The first to arrive makes a task that works until nothing waits any more, so that no cancelled request
//! takes others' work with it. An idle workspace has neither task nor queue, and nobody waits for company.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rawdrive_tenancy_core::StoreError;
use rawdrive_tenancy_core::id::WorkspaceId;
use tokio::sync::oneshot;

/// The most that go into one transaction: it stays short.
const BATCH: usize = 64;
/// The most that wait for one workspace.
const WAITING: usize = 4096;

/// Things of one kind that wait, by workspace: what arrives while a transaction of its kind is under way goes into the
/// next one together ([`Store::shared`](crate::Store::shared) keeps one for an extension).
pub struct Batcher<I, O>(Arc<Mutex<Queues<I, O>>>);

type Queues<I, O> = HashMap<WorkspaceId, Vec<Waiting<I, O>>>;

struct Waiting<I, O> {
    item: I,
    answer: oneshot::Sender<O>,
}

impl<I, O> std::fmt::Debug for Batcher<I, O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batcher").finish_non_exhaustive()
    }
}

impl<I, O> Default for Batcher<I, O> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<I: Send + 'static, O: Send + 'static> Batcher<I, O> {
    /// Has `work` done on the item and whatever else waits for the workspace; it answers for each in order.
    ///
    /// # Errors
    /// Too many wait already, or the work broke off.
    pub async fn submit<W, F>(
        &self,
        workspace: WorkspaceId,
        item: I,
        operation: &'static str,
        work: W,
    ) -> Result<O, StoreError>
    where
        W: Fn(Vec<I>) -> F + Send + 'static,
        F: Future<Output = Vec<O>> + Send,
    {
        let unavailable = |why: &'static str| StoreError::Unavailable {
            operation,
            source: why.into(),
        };
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { item, answer };
        let leads = match self.queues().entry(workspace) {
            Entry::Occupied(mut queue) if queue.get().len() < WAITING => {
                queue.get_mut().push(waiting);
                false
            }
            Entry::Occupied(_) => return Err(unavailable("too many wait already")),
            Entry::Vacant(queue) => {
                queue.insert(vec![waiting]);
                true
            }
        };
        if leads {
            let lead = Lead {
                queues: self.0.clone(),
                workspace,
            };
            tokio::spawn(async move {
                while let Some((items, answers)) = lead.next() {
                    for (answer, outcome) in answers.into_iter().zip(work(items).await) {
                        // Whoever asked may have gone away; what was done for them stands all the same.
                        let _ = answer.send(outcome);
                    }
                }
            });
        }
        answered
            .await
            .map_err(|_| unavailable("the work broke off"))
    }

    fn queues(&self) -> MutexGuard<'_, Queues<I, O>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task of one workspace's queue. However it ends, the queue ends with it: who waits is told, and who comes
/// next leads anew.
struct Lead<I, O> {
    queues: Arc<Mutex<Queues<I, O>>>,
    workspace: WorkspaceId,
}

impl<I, O> Lead<I, O> {
    /// What waits; nothing when the task is to end. The queue is there until then, and says that somebody leads.
    fn next(&self) -> Option<(Vec<I>, Vec<oneshot::Sender<O>>)> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = queues.get_mut(&self.workspace)?;
        if queue.is_empty() {
            queues.remove(&self.workspace);
            return None;
        }
        let batch = queue.drain(..queue.len().min(BATCH));
        Some(batch.map(|w| (w.item, w.answer)).unzip())
    }
}

impl<I, O> Drop for Lead<I, O> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
            queues.remove(&self.workspace);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rawdrive_tenancy_core::id::TypedId;
    use tokio::sync::Semaphore;
    use uuid::Uuid;

    use super::*;

    fn workspace(n: u128) -> WorkspaceId {
        WorkspaceId::from_uuid(Uuid::from_u128(n))
    }

    #[tokio::test]
    async fn what_arrives_meanwhile_goes_together_and_each_gets_its_own_answer() {
        let batcher = Arc::new(Batcher::<usize, usize>::default());
        let gate = Arc::new(Semaphore::new(0));
        let rounds = Arc::new(AtomicUsize::new(0));
        let mut tasks = Vec::new();
        for n in 0..1000 {
            let (batcher, gate, rounds) = (batcher.clone(), gate.clone(), rounds.clone());
            tasks.push(tokio::spawn(async move {
                let work = move |items: Vec<usize>| {
                    let (gate, rounds) = (gate.clone(), rounds.clone());
                    async move {
                        rounds.fetch_add(1, Ordering::Relaxed);
                        let open = gate.acquire().await.unwrap();
                        drop(open);
                        items.iter().map(|item| item * 2).collect()
                    }
                };
                let key = workspace(u128::from(n % 2 == 0));
                batcher.submit(key, n, "double", work).await.unwrap()
            }));
        }
        // All are in before the first rounds end.
        tokio::task::yield_now().await;
        gate.add_permits(1);
        for (n, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.await.unwrap(), n * 2);
        }
        let rounds = rounds.load(Ordering::Relaxed);
        assert!(rounds <= 2 * (1 + 500_usize.div_ceil(BATCH)), "{rounds}");
        assert!(batcher.queues().is_empty());
    }

    #[tokio::test]
    async fn work_that_breaks_off_is_told_and_the_next_leads_anew() {
        let batcher = Batcher::<bool, bool>::default();
        let work = |items: Vec<bool>| async move {
            assert!(items[0], "asked to break off");
            items
        };
        let broken = batcher.submit(workspace(1), false, "try", work).await;
        assert!(matches!(
            broken,
            Err(StoreError::Unavailable {
                operation: "try",
                ..
            })
        ));
        assert!(
            batcher
                .submit(workspace(1), true, "try", work)
                .await
                .unwrap()
        );
        assert!(batcher.queues().is_empty());
    }

    #[tokio::test]
    async fn a_queue_has_an_end() {
        let batcher = Arc::new(Batcher::<(), ()>::default());
        let gate = Arc::new(Semaphore::new(0));
        let submit = |batcher: Arc<Batcher<(), ()>>, gate: Arc<Semaphore>| async move {
            let work = move |items: Vec<()>| {
                let gate = gate.clone();
                async move {
                    gate.acquire().await.unwrap().forget();
                    items
                }
            };
            batcher.submit(workspace(1), (), "wait", work).await
        };
        let mut tasks = vec![tokio::spawn(submit(batcher.clone(), gate.clone()))];
        while batcher
            .queues()
            .get(&workspace(1))
            .is_none_or(|q| !q.is_empty())
        {
            tokio::task::yield_now().await;
        }
        for _ in 0..WAITING {
            tasks.push(tokio::spawn(submit(batcher.clone(), gate.clone())));
        }
        while batcher.queues()[&workspace(1)].len() < WAITING {
            tokio::task::yield_now().await;
        }
        assert!(submit(batcher.clone(), gate.clone()).await.is_err());
        gate.add_permits(1 + WAITING.div_ceil(BATCH));
        for task in tasks {
            task.await.unwrap().unwrap();
        }
    }
}
