//! Random operations on counters and holds, and a model that says what each must come to.
//!
//! The model is plain arithmetic over a few numbers: it knows nothing of rows, transactions or edges, so
//! that it cannot share a mistake with what it judges.

#![expect(
    clippy::unwrap_used,
    reason = "the model judges in tests, and a failing store is their failure"
)]

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use rawdrive_plans::{Limit, Override, Plan, PlansTx, Setting};
use rawdrive_tenancy_core::event::DeliverEvent;
use rawdrive_tenancy_core::id::HoldId;
use rawdrive_tenancy_core::{Commit, WorkspaceScope};
use rawdrive_usage::{
    Charge, HOLD_SECONDS, HoldEnded, HoldPurpose, QuotaKey, THRESHOLD_CROSSED, TakeError, UsageTx,
    add, expire_overdue, extend, hold, release, review, settle, subtract,
};

use crate::TestEnv;
use crate::contract::{Subject, begin};
use crate::product;

/// A purpose whose end leaves a job.
const LEAVING: HoldPurpose = HoldPurpose::leaving("upload", "hold_ended");

/// The percentages that people are told at.
const THRESHOLDS: [u8; 3] = [80, 90, 100];

/// The photos of one gallery, those of another, and all bytes: in the order in which rows are locked.
const COUNTERS: usize = 3;
const BYTES: usize = 2;

/// What may happen. A hold is named by its place among all that were made so far, modulo their number.
#[derive(Debug, Clone)]
pub enum Operation {
    /// An upload to a gallery begins, or an analysis.
    Hold {
        /// What it is for.
        purpose: HoldPurpose,
        /// 0 or 1.
        gallery: usize,
        /// What it holds of the gallery's counter, and of all bytes.
        amounts: [u64; 2],
    },
    /// It goes on, and may need more of some counter.
    Extend {
        /// The hold.
        hold: usize,
        /// Counter and amount.
        more: Option<(usize, u64)>,
    },
    /// It is complete; each counter it used is charged what it came to.
    Settle {
        /// The hold.
        hold: usize,
        /// By counter.
        actual: [Option<u64>; COUNTERS],
    },
    /// It came to nothing.
    Release {
        /// The hold.
        hold: usize,
    },
    /// The job runner looks for holds that nobody renews.
    Expire,
    /// Something is taken without a hold.
    Add {
        /// The counter.
        counter: usize,
        /// Units.
        amount: u64,
    },
    /// Something is freed, at most what is used.
    Subtract {
        /// The counter.
        counter: usize,
        /// Units.
        amount: u64,
    },
    /// The plan changes.
    Limit {
        /// Bytes instead of photos.
        bytes: bool,
        /// Nothing is unlimited.
        limit: Option<u64>,
        /// Whether thresholds are reviewed at once, or at the next change only.
        review: bool,
    },
    /// Time passes.
    Pass {
        /// How much of it.
        seconds: i64,
    },
}

/// Up to `n` operations.
pub fn operations(n: usize) -> impl Strategy<Value = Vec<Operation>> {
    let amount = || 0_u64..60;
    let purpose = prop_oneof![Just(LEAVING), Just(HoldPurpose::new("look"))];
    let one = prop_oneof![
        5 => (purpose, 0..2_usize, [amount(), amount()])
            .prop_map(|(purpose, gallery, amounts)| Operation::Hold { purpose, gallery, amounts }),
        3 => (0..8_usize, option::of((0..COUNTERS, amount())))
            .prop_map(|(hold, more)| Operation::Extend { hold, more }),
        4 => (0..8_usize, [(); COUNTERS].map(|()| option::of(amount())))
            .prop_map(|(hold, actual)| Operation::Settle { hold, actual }),
        2 => (0..8_usize).prop_map(|hold| Operation::Release { hold }),
        1 => Just(Operation::Expire),
        3 => (0..COUNTERS, amount()).prop_map(|(counter, amount)| Operation::Add { counter, amount }),
        3 => (0..COUNTERS, amount())
            .prop_map(|(counter, amount)| Operation::Subtract { counter, amount }),
        2 => (any::<bool>(), option::of(0..150_u64), any::<bool>())
            .prop_map(|(bytes, limit, review)| Operation::Limit { bytes, limit, review }),
        2 => (0..2 * HOLD_SECONDS).prop_map(|seconds| Operation::Pass { seconds }),
    ];
    vec(one, 1..=n)
}

/// What an operation came to.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    Exceeded {
        current: u64,
        requested: u64,
        limit: u64,
    },
    Ended,
}

impl<T> From<&Result<T, TakeError>> for Outcome {
    fn from(result: &Result<T, TakeError>) -> Self {
        match result {
            Ok(_) => Self::Done,
            Err(TakeError::NotHeld) => Self::Ended,
            Err(TakeError::Exceeded(exceeded)) => Self::Exceeded {
                current: exceeded.denied.current,
                requested: exceeded.denied.requested,
                limit: exceeded.denied.limit,
            },
            Err(TakeError::Store(error)) => panic!("the store works: {error:?}"),
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Counter {
    used: u64,
    reserved: u64,
    in_episode: [bool; THRESHOLDS.len()],
}

#[derive(Debug, Clone)]
struct Held {
    id: HoldId,
    purpose: HoldPurpose,
    /// By counter, while it is held.
    amounts: Option<BTreeMap<usize, u64>>,
    expires_at: DateTime<Utc>,
}

/// What the store must hold.
#[derive(Debug, Clone, Default)]
struct Model {
    counters: [Counter; COUNTERS],
    /// Of photos, of bytes.
    limits: [Option<u64>; 2],
    holds: Vec<Held>,
    /// Counter and threshold of every notice, in order.
    told: Vec<(usize, u8)>,
    /// Blobs that jobs delete.
    ended: Vec<HoldId>,
}

impl Model {
    fn limit(&self, counter: usize) -> Option<u64> {
        self.limits[usize::from(counter == BYTES)]
    }

    fn fits(&self, counter: usize, more: u64) -> bool {
        let Counter { used, reserved, .. } = self.counters[counter];
        self.limit(counter)
            .is_none_or(|limit| used + reserved + more <= limit)
    }

    fn take(&mut self, counter: usize, amount: u64, now: DateTime<Utc>) -> Result<(), Outcome> {
        if !self.fits(counter, amount) {
            self.expire(now);
        }
        self.take_now(counter, amount, amount, 0)
    }

    /// Takes without making room first. A refusal names what is asked for in all, beside everything but
    /// what is held for it already.
    fn take_now(
        &mut self,
        counter: usize,
        more: u64,
        requested: u64,
        held: u64,
    ) -> Result<(), Outcome> {
        if self.fits(counter, more) {
            self.counters[counter].reserved += more;
            return Ok(());
        }
        let Counter { used, reserved, .. } = self.counters[counter];
        Err(Outcome::Exceeded {
            current: used + reserved - held,
            requested,
            limit: self.limit(counter).unwrap(),
        })
    }

    fn expire(&mut self, now: DateTime<Utc>) {
        for at in 0..self.holds.len() {
            if self.holds[at].expires_at <= now {
                self.give_back(at);
            }
        }
    }

    fn give_back(&mut self, hold: usize) {
        if let Some(amounts) = self.holds[hold].amounts.take() {
            for (counter, amount) in amounts {
                self.counters[counter].reserved -= amount;
            }
            let Held { id, purpose, .. } = self.holds[hold].clone();
            if purpose == LEAVING {
                self.ended.push(id);
            }
        }
    }

    /// Turns what is reserved into usage.
    fn use_up(&mut self, counter: usize, amount: u64) -> Result<(), Outcome> {
        let limit = self.limit(counter);
        let row = &mut self.counters[counter];
        if let Some(limit) = limit
            && amount > 0
            && row.used + amount > limit
        {
            return Err(Outcome::Exceeded {
                current: row.used + row.reserved - amount,
                requested: amount,
                limit,
            });
        }
        row.reserved -= amount;
        row.used += amount;
        self.mark(counter);
        Ok(())
    }

    fn mark(&mut self, counter: usize) {
        let limit = self.limit(counter);
        let row = &mut self.counters[counter];
        let reaches = |percent: u64| {
            limit.is_some_and(|limit| limit > 0 && 100 * row.used >= percent * limit)
        };
        let mut notice = None;
        for (in_episode, threshold) in row.in_episode.iter_mut().zip(THRESHOLDS) {
            let percent = u64::from(threshold);
            if !*in_episode && reaches(percent) {
                *in_episode = true;
                notice = Some(threshold);
            } else if *in_episode && !reaches(percent - 5) {
                *in_episode = false;
            }
        }
        self.told
            .extend(notice.map(|threshold| (counter, threshold)));
    }

    fn fired(&self, counter: usize) -> u8 {
        let flags = self.counters[counter].in_episode.iter().enumerate();
        flags.map(|(i, on)| u8::from(*on) << i).sum()
    }
}

fn key(counter: usize) -> QuotaKey {
    if counter == BYTES {
        QuotaKey::level(product::BYTES)
    } else {
        QuotaKey::level_of(product::NOTES, format!("gal_{counter}"))
    }
}

fn charge(counter: usize, amount: u64) -> Charge {
    Charge {
        key: key(counter),
        amount,
    }
}

/// Plays the operations in a new workspace, and compares store and model after each.
///
/// # Panics
/// Where the store does not do what the model says, or breaks an invariant.
pub async fn play<S: Subject>(
    store: &S,
    test_env: &TestEnv,
    plan: &Plan,
    operations: &[Operation],
) {
    let game = Game {
        scope: store.workspace(plan).await,
        store,
        test_env,
    };
    let mut model = Model::default();
    for operation in operations {
        let fresh = test_env.env().id();
        let mut next = model.clone();
        let expected = game
            .foretell(&mut next, operation, fresh)
            .err()
            .unwrap_or(Outcome::Done);
        let outcome = game.carry_out(&model, operation, fresh).await;
        assert_eq!(outcome, expected, "{operation:?}");
        if outcome == Outcome::Done {
            model = next;
            game.check_admission(&model, operation).await;
        }
        // What was refused is rolled back with everything that it did.
        game.compare(&model, operation).await;
    }
}

struct Game<'a, S> {
    store: &'a S,
    test_env: &'a TestEnv,
    scope: WorkspaceScope,
}

impl<S: Subject> Game<'_, S> {
    /// What the model says; it is of no use after a refusal.
    fn foretell(
        &self,
        model: &mut Model,
        operation: &Operation,
        fresh: HoldId,
    ) -> Result<(), Outcome> {
        let now = self.test_env.env().lease_now();
        let expires_at = now + TimeDelta::seconds(HOLD_SECONDS);
        match operation {
            Operation::Hold {
                purpose,
                gallery,
                amounts,
            } => {
                let amounts = BTreeMap::from([(*gallery, amounts[0]), (BYTES, amounts[1])]);
                for (counter, amount) in &amounts {
                    model.take(*counter, *amount, now)?;
                }
                model.holds.push(Held {
                    id: fresh,
                    purpose: purpose.clone(),
                    amounts: Some(amounts),
                    expires_at,
                });
            }
            Operation::Extend { hold, more } => {
                let held = pick(model, *hold).ok_or(Outcome::Ended)?;
                if model.holds[held].amounts.is_none() {
                    return Err(Outcome::Ended);
                }
                // Making room may end the very hold that asks for it.
                if let Some((counter, amount)) = more {
                    model.take(*counter, *amount, now)?;
                }
                let held = &mut model.holds[held];
                let amounts = held.amounts.as_mut().ok_or(Outcome::Ended)?;
                if let Some((counter, amount)) = more {
                    *amounts.entry(*counter).or_default() += amount;
                }
                held.expires_at = expires_at;
            }
            Operation::Settle { hold, actual } => {
                let at = pick(model, *hold).ok_or(Outcome::Ended)?;
                let held = model.holds[at].amounts.clone().ok_or(Outcome::Ended)?;
                for (counter, actual) in actual.iter().enumerate() {
                    let held = held.get(&counter).copied();
                    match (held, actual) {
                        (None, None | Some(0)) => {}
                        (Some(held), None) => model.counters[counter].reserved -= held,
                        (held, Some(actual)) => {
                            let held = held.unwrap_or(0);
                            if *actual > held {
                                model.take_now(counter, actual - held, *actual, held)?;
                            } else {
                                model.counters[counter].reserved -= held - actual;
                            }
                            model.use_up(counter, *actual)?;
                        }
                    }
                }
                model.holds[at].amounts = None;
            }
            Operation::Release { hold } => {
                if let Some(at) = pick(model, *hold) {
                    model.give_back(at);
                }
            }
            Operation::Expire => model.expire(now),
            Operation::Add { counter, amount } => {
                model.take(*counter, *amount, now)?;
                model.use_up(*counter, *amount)?;
            }
            Operation::Subtract { counter, amount } => {
                model.counters[*counter].used -= model.counters[*counter].used.min(*amount);
                model.mark(*counter);
            }
            Operation::Limit {
                bytes,
                limit,
                review,
            } => {
                model.limits[usize::from(*bytes)] = *limit;
                if *review {
                    (0..COUNTERS).for_each(|counter| model.mark(counter));
                }
            }
            Operation::Pass { .. } => {}
        }
        Ok(())
    }

    /// What the store does.
    async fn carry_out(&self, model: &Model, operation: &Operation, fresh: HoldId) -> Outcome {
        let env = self.test_env.env();
        let id_of = |hold| pick(model, hold).map_or(fresh, |at| model.holds[at].id);
        let subject = || "pho".to_owned();
        let mut tx = begin(self.store, &self.scope).await;
        let done: Result<(), TakeError> = match operation {
            Operation::Hold {
                purpose,
                gallery,
                amounts,
            } => {
                let charges = vec![charge(BYTES, amounts[1]), charge(*gallery, amounts[0])];
                hold(&mut tx, env, fresh, purpose.clone(), charges).await
            }
            Operation::Extend { hold, more } => {
                let more = more.map(|(counter, amount)| charge(counter, amount));
                extend(&mut tx, env, id_of(*hold), more).await
            }
            Operation::Settle { hold, actual } => {
                let used = actual.iter().enumerate();
                let actual: Vec<_> = used
                    .filter_map(|(counter, n)| n.map(|n| (charge(counter, n), subject())))
                    .collect();
                settle(&mut tx, env, id_of(*hold), &actual).await
            }
            Operation::Release { hold } => {
                let released = release(&mut tx, id_of(*hold)).await.unwrap();
                let was_held =
                    pick(model, *hold).is_some_and(|at| model.holds[at].amounts.is_some());
                assert_eq!(released, was_held);
                Ok(())
            }
            Operation::Expire => {
                expire_overdue(&mut tx, env).await.unwrap();
                Ok(())
            }
            Operation::Add { counter, amount } => {
                add(&mut tx, env, charge(*counter, *amount), subject()).await
            }
            Operation::Subtract { counter, amount } => {
                let amount = model.counters[*counter].used.min(*amount);
                subtract(&mut tx, env, charge(*counter, amount), subject())
                    .await
                    .unwrap();
                Ok(())
            }
            Operation::Limit {
                bytes,
                limit,
                review: at_once,
            } => {
                let metric = if *bytes {
                    product::BYTES
                } else {
                    product::NOTES
                };
                let new = Override {
                    id: env.id(),
                    setting: Setting::Limit(metric, Limit::from_bound(*limit)),
                    reason: "test".to_owned(),
                    until: None,
                };
                tx.add_override(&new).await.unwrap();
                if *at_once {
                    review(&mut tx, env).await.unwrap();
                }
                Ok(())
            }
            Operation::Pass { seconds } => {
                self.test_env.advance(TimeDelta::seconds(*seconds));
                Ok(())
            }
        };
        let outcome = Outcome::from(&done);
        if done.is_ok() {
            tx.commit().await.unwrap();
        }
        outcome
    }

    /// Whatever the model says: what was admitted stands within the limit, with all that is reserved.
    async fn check_admission(&self, model: &Model, operation: &Operation) {
        let admitted: &[usize] = match operation {
            Operation::Hold { gallery, .. } => &[*gallery, BYTES],
            Operation::Add { counter, .. } => &[*counter],
            Operation::Extend {
                more: Some((counter, _)),
                ..
            } => &[*counter],
            _ => &[],
        };
        let mut tx = begin(self.store, &self.scope).await;
        for counter in admitted {
            let row = tx.quota(&key(*counter)).await.unwrap();
            let limit = Limit::from_bound(model.limit(*counter));
            assert!(
                limit.admits(row.used + row.reserved),
                "{row:?} after {operation:?}"
            );
        }
    }

    /// The rows are the model's, and the invariants hold by themselves.
    async fn compare(&self, model: &Model, operation: &Operation) {
        let mut tx = begin(self.store, &self.scope).await;
        for counter in 0..COUNTERS {
            let row = tx.quota(&key(counter)).await.unwrap();
            let expected = &model.counters[counter];
            assert_eq!(
                (row.used, row.reserved, row.fired),
                (expected.used, expected.reserved, model.fired(counter)),
                "counter {counter} after {operation:?}"
            );
        }
        for held in &model.holds {
            let amounts = tx.held(held.id).await.unwrap().map(|hold| {
                let charges = hold.charges.into_iter();
                charges
                    .map(|c| (c.key, c.amount))
                    .collect::<BTreeMap<_, _>>()
            });
            let expected = held.amounts.as_ref().map(|amounts| {
                let charges = amounts.iter();
                charges.map(|(counter, n)| (key(*counter), *n)).collect()
            });
            assert_eq!(amounts, expected, "after {operation:?}");
        }
        drop(tx);
        assert_eq!(self.store.discrepancies(&self.scope).await, [""; 0]);

        let (mut told, mut ended) = (Vec::new(), Vec::new());
        for work in self.store.due_jobs(&self.scope).await {
            if Some(work.kind()) == LEAVING.cleanup() {
                ended.push(work.payload::<HoldEnded>().unwrap().hold);
                continue;
            }
            match work.as_kind::<DeliverEvent>() {
                Some(DeliverEvent { event }) if event.kind == THRESHOLD_CROSSED => told.push((
                    event.subject.clone(),
                    event.facts["metric"].as_str().unwrap().to_owned(),
                    event.facts["threshold"].as_u64().unwrap(),
                )),
                _ => panic!("nothing asks for {work:?}"),
            }
        }
        let mut expected: Vec<_> = model
            .told
            .iter()
            .map(|(counter, threshold)| {
                let key = key(*counter);
                (key.subject, key.metric.to_string(), u64::from(*threshold))
            })
            .collect();
        told.sort_unstable();
        expected.sort_unstable();
        assert_eq!(told, expected, "notices after {operation:?}");
        let mut expected = model.ended.clone();
        ended.sort_unstable();
        expected.sort_unstable();
        assert_eq!(
            ended, expected,
            "what ended holds leave after {operation:?}"
        );
    }
}

fn pick(model: &Model, hold: usize) -> Option<usize> {
    (!model.holds.is_empty()).then(|| hold % model.holds.len())
}
