//! The decisions, pure and total: what a workspace is entitled to by what was bought and paid.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use rawdrive_plans::ReadOnly;
use rawdrive_tenancy_core::StoreError;

use crate::ids::{InvoiceId, SubscriptionId};
use crate::ports::{BillingTx, Grant, Subscription};
use crate::provider_objects::{InvoiceSnapshot, SubscriptionStatus};

/// The reason of a workspace that is read-only because nobody paid.
pub const PAYMENT_FAILED: &str = "payment_failed";
/// The reason of a workspace that is read-only because its trial ended and nothing was there to pay with.
pub const TRIAL_ENDED: &str = "trial_ended";

/// What a workspace's plan rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis<'a> {
    /// Billing has never had to do with the workspace: its plan is left as it is.
    Untouched,
    /// Nothing that is in force: the free plan.
    Nothing,
    /// An operator's grant.
    Grant(&'a Grant),
    /// A subscription.
    Subscription(&'a Subscription),
}

/// What rules at `now`: a grant that lasts, otherwise the subscription that grants most.
#[must_use]
pub fn basis<'a>(
    grant: Option<&'a Grant>,
    subscriptions: &'a [Subscription],
    now: DateTime<Utc>,
) -> Basis<'a> {
    if let Some(grant) = grant.filter(|grant| grant.until.is_none_or(|until| now < until)) {
        return Basis::Grant(grant);
    }
    match ruling(subscriptions) {
        Some(subscription) => Basis::Subscription(subscription),
        None if grant.is_none() && subscriptions.is_empty() => Basis::Untouched,
        None => Basis::Nothing,
    }
}

/// The subscription that decides, of several: the better its state, then the newer. Nothing where none grants.
#[must_use]
pub fn ruling(subscriptions: &[Subscription]) -> Option<&Subscription> {
    let rank = |subscription: &Subscription| match subscription.snapshot.status {
        // A price that is none of ours grants nothing.
        _ if subscription.sold.is_none() => 0,
        SubscriptionStatus::Active | SubscriptionStatus::Trialing => 3,
        SubscriptionStatus::PastDue | SubscriptionStatus::Unpaid => 2,
        SubscriptionStatus::Paused => 1,
        SubscriptionStatus::Incomplete
        | SubscriptionStatus::IncompleteExpired
        | SubscriptionStatus::Canceled
        | SubscriptionStatus::Unknown(_) => 0,
    };
    subscriptions
        .iter()
        .filter(|subscription| rank(subscription) > 0)
        .max_by_key(|s| (rank(s), s.snapshot.created, s.snapshot.id.clone()))
}

/// The subscription that a workspace has: the one that rules, otherwise the newest that has not ended. At a price that
/// is none of ours, or before its first payment, it grants nothing, and can be ended all the same.
#[must_use]
pub fn current(subscriptions: &[Subscription]) -> Option<&Subscription> {
    ruling(subscriptions).or_else(|| {
        let lasting = subscriptions
            .iter()
            .filter(|s| !s.snapshot.status.is_final());
        lasting.max_by_key(|s| {
            (
                s.snapshot.status.is_live(),
                s.snapshot.created,
                &s.snapshot.id,
            )
        })
    })
}

/// The subscriptions of ours that wait for a means of paying since their trial ended, and were never paid for. One that
/// somebody has paused at the provider is no such.
pub(crate) async fn ended_trials(
    tx: &mut (impl BillingTx + Send),
    subscriptions: &[Subscription],
) -> Result<BTreeSet<SubscriptionId>, StoreError> {
    let mut ended = BTreeSet::new();
    for row in subscriptions {
        let snapshot = &row.snapshot;
        let waits = snapshot.status == SubscriptionStatus::Paused && snapshot.trial_end.is_some();
        if waits && row.sold.is_some() && !tx.was_paid(&snapshot.id).await? {
            ended.insert(snapshot.id.clone());
        }
    }
    Ok(ended)
}

/// Whether a subscription is in force, beside which one whose trial has ended is of no use: nobody would pay for that,
/// and the workspace would fall back to it when the other ends.
pub(crate) fn is_in_force(subscriptions: &[Subscription]) -> bool {
    ruling(subscriptions).is_some_and(|s| {
        matches!(
            s.snapshot.status,
            SubscriptionStatus::Active | SubscriptionStatus::Trialing
        )
    })
}

/// A failed payment that is being forgiven, or was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grace {
    /// The unpaid invoice that failed first.
    pub invoice: InvoiceId,
    /// When its first attempt failed, by the provider's clock. Later failures change nothing.
    pub from: DateTime<Utc>,
    /// The first instant at which it is not forgiven any more.
    pub until: DateTime<Utc>,
}

/// The grace of a subscription that is past due or unpaid. Nothing while its invoice is not known yet: then no harm
/// is done before it is.
#[must_use]
pub fn grace(subscription: &Subscription, owed: &[InvoiceSnapshot], days: u16) -> Option<Grace> {
    if !matches!(
        subscription.snapshot.status,
        SubscriptionStatus::PastDue | SubscriptionStatus::Unpaid
    ) {
        return None;
    }
    let (from, invoice) = owed
        .iter()
        .filter(|i| i.is_owed() && i.subscription.as_ref() == Some(&subscription.snapshot.id))
        .filter_map(|invoice| Some((invoice.first_failed_at()?, &invoice.id)))
        .min()?;
    let until = from + TimeDelta::days(i64::from(days));
    Some(Grace {
        invoice: invoice.clone(),
        from,
        until,
    })
}

/// From when on the workspace takes no writes, and why; nothing where it always does.
///
/// Paused collection changes nothing: the provider calls the subscription active, and so do we.
#[must_use]
pub fn read_only(subscription: &Subscription, grace: Option<&Grace>) -> Option<ReadOnly> {
    let snapshot = &subscription.snapshot;
    match snapshot.status {
        SubscriptionStatus::PastDue | SubscriptionStatus::Unpaid => grace.map(|grace| ReadOnly {
            reason: PAYMENT_FAILED.to_owned(),
            since: grace.until,
        }),
        SubscriptionStatus::Paused => Some(ReadOnly {
            reason: TRIAL_ENDED.to_owned(),
            since: snapshot.trial_end.unwrap_or(snapshot.created),
        }),
        SubscriptionStatus::Trialing
        | SubscriptionStatus::Active
        | SubscriptionStatus::Incomplete
        | SubscriptionStatus::IncompleteExpired
        | SubscriptionStatus::Canceled
        | SubscriptionStatus::Unknown(_) => None,
    }
}

/// A moment of a grace at which somebody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GraceStage {
    /// It has begun.
    Started,
    /// Half of it is over.
    Half,
    /// Its last day has begun.
    LastDay,
    /// It is over: the workspace is read-only.
    Over,
}

impl GraceStage {
    /// Every stage, in time.
    pub const ALL: [Self; 4] = [Self::Started, Self::Half, Self::LastDay, Self::Over];

    /// The name in events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Half => "half",
            Self::LastDay => "last_day",
            Self::Over => "over",
        }
    }

    /// When it comes. In a short grace the middle is not after the last day's beginning, and neither is before
    /// the grace.
    #[must_use]
    pub fn at(self, grace: &Grace) -> DateTime<Utc> {
        let last_day = (grace.until - TimeDelta::days(1)).max(grace.from);
        match self {
            Self::Started => grace.from,
            Self::Half => (grace.from + (grace.until - grace.from) / 2).min(last_day),
            Self::LastDay => last_day,
            Self::Over => grace.until,
        }
    }

    /// The stage that a grace is in at `now`.
    #[must_use]
    pub fn reached(grace: &Grace, now: DateTime<Utc>) -> Option<Self> {
        Self::ALL.into_iter().rfind(|stage| stage.at(grace) <= now)
    }

    /// When the next stage comes.
    #[must_use]
    pub fn next(grace: &Grace, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let times = Self::ALL.into_iter().map(|stage| stage.at(grace));
        times.filter(|at| *at > now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{invoice, subscription};
    use crate::provider_objects::{Attempt, AttemptOutcome, InvoiceStatus};
    use proptest::prelude::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_790_000_000 + seconds, 0).unwrap()
    }

    fn failed(at: DateTime<Utc>) -> Attempt {
        Attempt {
            id: format!("ch_{}", at.timestamp()),
            at,
            outcome: AttemptOutcome::Failed { decline_code: None },
        }
    }

    fn with(status: SubscriptionStatus) -> Subscription {
        let mut made = subscription("sub_1");
        made.snapshot.status = status;
        made
    }

    #[test]
    fn each_state_grants_what_it_says() {
        use SubscriptionStatus as S;
        for (status, grants, reason) in [
            (S::Incomplete, false, None),
            (S::IncompleteExpired, false, None),
            (S::Trialing, true, None),
            (S::Active, true, None),
            (S::PastDue, true, Some(PAYMENT_FAILED)),
            (S::Unpaid, true, Some(PAYMENT_FAILED)),
            (S::Paused, true, Some(TRIAL_ENDED)),
            (S::Canceled, false, None),
            (S::Unknown("dormant".to_owned()), false, None),
        ] {
            let made = with(status.clone());
            let mut owed = invoice("in_1");
            owed.attempts = vec![failed(at(0))];
            let grace = grace(&made, &[owed], 14);
            let closed = read_only(&made, grace.as_ref());
            assert_eq!(
                ruling(std::slice::from_ref(&made)).is_some(),
                grants,
                "{status:?}"
            );
            assert_eq!(closed.map(|r| r.reason).as_deref(), reason, "{status:?}");
        }
    }

    #[test]
    fn what_grants_nothing_can_be_ended() {
        use SubscriptionStatus as S;
        let all = |statuses: &[S]| -> Vec<Subscription> {
            let made = statuses.iter().enumerate().map(|(n, status)| {
                let mut made = subscription(&format!("sub_{n}"));
                made.snapshot.status = status.clone();
                made
            });
            made.collect()
        };
        for (statuses, is_current, in_force) in [
            (vec![], None, false),
            (vec![S::Canceled, S::IncompleteExpired], None, false),
            (vec![S::Canceled, S::Incomplete], Some(1), false),
            (vec![S::Incomplete, S::Paused], Some(1), false),
            (vec![S::Paused, S::Active], Some(1), true),
            (vec![S::Paused, S::PastDue], Some(1), false),
            (
                vec![S::Unknown("dormant".into()), S::Incomplete],
                Some(0),
                false,
            ),
        ] {
            let rows = all(&statuses);
            let name = |n: Option<usize>| n.map(|n| rows[n].snapshot.id.clone());
            let found = |s: Option<&Subscription>| s.map(|s| s.snapshot.id.clone());
            assert_eq!(found(current(&rows)), name(is_current), "{statuses:?}");
            assert_eq!(is_in_force(&rows), in_force, "{statuses:?}");
        }
        let stranger = Subscription {
            sold: None,
            ..with(S::Active)
        };
        assert_eq!(current(std::slice::from_ref(&stranger)), Some(&stranger));
    }

    #[test]
    fn a_price_of_somebody_else_grants_nothing() {
        let stranger = Subscription {
            sold: None,
            ..with(SubscriptionStatus::Active)
        };
        assert_eq!(ruling(std::slice::from_ref(&stranger)), None);
        assert_eq!(basis(None, &[stranger], at(0)), Basis::Nothing);
        assert_eq!(basis(None, &[], at(0)), Basis::Untouched);
    }

    #[test]
    fn a_grant_stands_above_and_ends_by_itself() {
        let [made] = [with(SubscriptionStatus::Active)];
        let grant = Grant {
            sold: made.sold.clone().unwrap(),
            until: Some(at(10)),
        };
        let subscriptions = [made];
        assert_eq!(
            basis(Some(&grant), &subscriptions, at(9)),
            Basis::Grant(&grant)
        );
        assert_eq!(
            basis(Some(&grant), &subscriptions, at(10)),
            Basis::Subscription(&subscriptions[0])
        );
        assert_eq!(basis(Some(&grant), &[], at(10)), Basis::Nothing);
    }

    #[test]
    fn where_attempts_are_counted_but_not_told_grace_begins_when_the_invoice_was_finalized() {
        let mut owed = invoice("in_1");
        owed.attempt_count = 2;
        owed.finalized_at = Some(at(7));
        let found = grace(&with(SubscriptionStatus::PastDue), &[owed], 1).unwrap();
        assert_eq!((found.from, found.until), (at(7), at(7 + 86_400)));
    }

    #[test]
    fn a_grace_of_days_is_told_at_its_start_its_middle_and_its_last_day() {
        let day = 86_400;
        let grace = Grace {
            invoice: "in_1".parse().unwrap(),
            from: at(0),
            until: at(14 * day),
        };
        let stages = [
            -1,
            0,
            7 * day - 1,
            7 * day,
            13 * day - 1,
            13 * day,
            14 * day - 1,
            14 * day,
        ]
        .map(|seconds| GraceStage::reached(&grace, at(seconds)).map(GraceStage::as_str));
        let expected = [
            None,
            Some("started"),
            Some("started"),
            Some("half"),
            Some("half"),
            Some("last_day"),
            Some("last_day"),
            Some("over"),
        ];
        assert_eq!(stages, expected);
        assert_eq!(GraceStage::next(&grace, at(0)), Some(at(7 * day)));
        assert_eq!(GraceStage::next(&grace, at(14 * day)), None);
    }

    proptest! {
        #[test]
        fn grace_begins_with_the_first_failure_of_what_is_owed(
            times in proptest::collection::vec(proptest::collection::vec(0_i64..1_000_000, 0..4), 1..4),
            paid in proptest::collection::vec(any::<bool>(), 4),
            days in 0_u16..60,
        ) {
            let invoices: Vec<_> = times.iter().zip(&paid).enumerate().map(|(n, (times, paid))| {
                let mut made = invoice(&format!("in_{n}"));
                made.attempts = times.iter().map(|seconds| failed(at(*seconds))).collect();
                if *paid { made.status = InvoiceStatus::Paid; }
                made
            }).collect();
            let first = times.iter().zip(&paid).filter(|(_, paid)| !**paid).flat_map(|(times, _)| times).min();
            let found = grace(&with(SubscriptionStatus::PastDue), &invoices, days);
            prop_assert_eq!(found.as_ref().map(|g| g.from), first.map(|seconds| at(*seconds)));
            if let Some(found) = found {
                prop_assert_eq!(found.until - found.from, TimeDelta::days(i64::from(days)));
                let stages = GraceStage::ALL.map(|stage| stage.at(&found));
                prop_assert!(stages.is_sorted(), "{stages:?}");
            }
        }

        #[test]
        fn the_order_of_subscriptions_does_not_matter(seed in proptest::collection::vec((0_usize..9, 0_i64..3), 0..6)) {
            use SubscriptionStatus as S;
            let statuses = [S::Incomplete, S::IncompleteExpired, S::Trialing, S::Active, S::PastDue, S::Unpaid, S::Paused, S::Canceled, S::Unknown("x".into())];
            let mut all: Vec<_> = seed.iter().enumerate().map(|(n, (status, created))| {
                let mut made = subscription(&format!("sub_{n}"));
                made.snapshot.status = statuses[*status].clone();
                made.snapshot.created = at(*created);
                made
            }).collect();
            let one = ruling(&all).cloned();
            all.reverse();
            prop_assert_eq!(ruling(&all).cloned(), one);
        }
    }
}
