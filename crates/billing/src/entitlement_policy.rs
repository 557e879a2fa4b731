//! The decisions, pure and total: what a workspace is entitled to by what was bought and paid.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use rawdrive_plans::ReadOnly;
use rawdrive_tenancy_core::StoreError;

use crate::ids::{InvoiceId, SubscriptionId};
use crate::ports::{BillingTx, Grant, Subscription};
use crate::provider_objects::{
    CollectionMethod, InvoiceSnapshot, InvoiceStatus, SubscriptionStatus,
};

/// The reason of a workspace that is read-only because nobody paid.
pub const PAYMENT_FAILED: &str = "payment_failed";
/// The reason of a workspace that is read-only because its trial ended and nothing was there to pay with.
pub const TRIAL_ENDED: &str = "trial_ended";

/// The reason of a workspace that is read-only because somebody paused its subscription.
pub const SUBSCRIPTION_PAUSED: &str = "subscription_paused";
/// The reason of a workspace that is read-only because its payment was taken back.
pub const PAYMENT_REVERSED: &str = "payment_reversed";

/// Stripe's word for an end for want of payment (`cancellation_details.reason`).
const ENDED_UNPAID: &str = "payment_failed";

/// Stripe's words for why a subscription is paused (`status_details.paused.subscription.type`).
mod pause {
    pub(super) const REQUESTED: &str = "pause_requested";
    pub(super) const FIRST_PAYMENT: &str = "first_payment_failure";
    pub(super) const FINAL_PAYMENT: &str = "final_payment_failure";
}

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
        let waits = snapshot.status == SubscriptionStatus::Paused
            && snapshot.trial_end.is_some()
            && !is_paused_otherwise(row);
        if waits && row.sold.is_some() && !tx.was_paid(&snapshot.id).await? {
            ended.insert(snapshot.id.clone());
        }
    }
    Ok(ended)
}

/// Whether the provider states a reason of the pause that is not the end of a trial.
fn is_paused_otherwise(subscription: &Subscription) -> bool {
    let paused = subscription.snapshot.paused.as_ref();
    paused.is_some_and(|paused| {
        matches!(
            paused.reason.as_str(),
            pause::REQUESTED | pause::FIRST_PAYMENT | pause::FINAL_PAYMENT
        )
    })
}

/// The subscription that the provider has ended for want of payment last. While its grace lasts, it decides where no
/// other does: how soon the provider gives up is no decision of ours.
#[must_use]
pub fn ended_unpaid(subscriptions: &[Subscription]) -> Option<&Subscription> {
    let ended = subscriptions.iter().filter(|row| {
        row.sold.is_some()
            && row.snapshot.status == SubscriptionStatus::Canceled
            && row.snapshot.cancellation_reason.as_deref() == Some(ENDED_UNPAID)
    });
    ended.max_by_key(|row| (row.snapshot.ended_at, &row.snapshot.id))
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

/// A payment that is missing and is being forgiven, or was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grace {
    /// The unpaid invoice that is missing longest.
    pub invoice: InvoiceId,
    /// Since when, by the provider's clock. Later failures change nothing.
    pub from: DateTime<Utc>,
    /// The first instant at which it is not forgiven any more.
    pub until: DateTime<Utc>,
    /// Whether it was to be paid by a day, and nobody attempts to collect it.
    pub is_overdue: bool,
    /// How many invoices are owed by now.
    pub owed: usize,
}

/// Whether a subscription in this state may owe something that is forgiven for a while.
fn may_owe(subscription: &Subscription) -> bool {
    let snapshot = &subscription.snapshot;
    match snapshot.status {
        SubscriptionStatus::PastDue | SubscriptionStatus::Unpaid => true,
        SubscriptionStatus::Paused => {
            let paused = snapshot.paused.as_ref();
            paused.is_some_and(|paused| paused.reason == pause::FINAL_PAYMENT)
        }
        SubscriptionStatus::Canceled => {
            snapshot.cancellation_reason.as_deref() == Some(ENDED_UNPAID)
        }
        _ => false,
    }
}

/// What a subscription owes that decides its state: the latest invoice, and those before it as long as none was paid,
/// withdrawn or given up in between. The provider's rule is that the latest decides; so a debt that is older than
/// a payment, or was forgiven, has nothing to do with it. Newest first; nothing where the latest is not known yet.
#[must_use]
pub fn arrears<'a>(
    subscription: &Subscription,
    invoices: &'a [InvoiceSnapshot],
) -> Vec<&'a InvoiceSnapshot> {
    let snapshot = &subscription.snapshot;
    let of_it = |i: &&InvoiceSnapshot| i.subscription.as_ref() == Some(&snapshot.id);
    let mut newest: Vec<_> = invoices.iter().filter(of_it).collect();
    newest.sort_by_key(|invoice| std::cmp::Reverse(invoice.position()));
    let latest = snapshot.latest_invoice.as_ref();
    if !may_owe(subscription)
        || latest.is_some_and(|latest| newest.iter().all(|invoice| invoice.id != *latest))
    {
        return Vec::new();
    }
    let mut owed = Vec::new();
    for invoice in newest {
        match invoice.status {
            InvoiceStatus::Open => owed.push(invoice),
            // Nobody finalizes what is written for an unpaid subscription. Another's becomes final by itself.
            InvoiceStatus::Draft if snapshot.status == SubscriptionStatus::Unpaid => {
                owed.push(invoice);
            }
            InvoiceStatus::Draft => {}
            // A change that was withdrawn decides nothing.
            InvoiceStatus::Void
                if invoice.billing_reason.as_deref() == Some("subscription_update") => {}
            // A payment after the end brings nothing back, and takes nothing away.
            InvoiceStatus::Paid
                if snapshot.ended_at.is_some() && invoice.paid_at > snapshot.ended_at =>
            {
                owed.push(invoice);
            }
            InvoiceStatus::Paid
            | InvoiceStatus::Void
            | InvoiceStatus::Uncollectible
            | InvoiceStatus::Unknown(_) => break,
        }
    }
    owed
}

/// The grace of a subscription that is past due or unpaid, or was ended for it. Nothing while its invoice is not
/// known yet, or nothing is due: then no harm is done before it is.
#[must_use]
pub fn grace(
    subscription: &Subscription,
    invoices: &[InvoiceSnapshot],
    days: u16,
    now: DateTime<Utc>,
) -> Option<Grace> {
    let owed = arrears(subscription, invoices);
    let count = owed.len();
    let missing = owed.into_iter().filter_map(|invoice| {
        let since = invoice.missing_since().filter(|since| *since <= now)?;
        Some((since, &invoice.id, &invoice.collection_method))
    });
    let (from, invoice, method) = missing.min_by_key(|(since, id, _)| (*since, *id))?;
    Some(Grace {
        invoice: invoice.clone(),
        from,
        until: from + TimeDelta::days(i64::from(days)),
        is_overdue: *method == CollectionMethod::SendInvoice,
        owed: count,
    })
}

/// When the next invoice of what a subscription owes is due, though nothing may be told of it.
#[must_use]
pub fn next_due(
    subscription: &Subscription,
    invoices: &[InvoiceSnapshot],
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    let owed = arrears(subscription, invoices).into_iter();
    let due = owed.filter_map(InvoiceSnapshot::missing_since);
    due.filter(|at| *at > now).min()
}

/// From when on the workspace takes no writes, and why; nothing where it always does.
///
/// Paused collection changes nothing: the provider calls the subscription active, and so do we.
#[must_use]
pub fn read_only(subscription: &Subscription, grace: Option<&Grace>) -> Option<ReadOnly> {
    let snapshot = &subscription.snapshot;
    let because = |reason: &str, since| ReadOnly {
        reason: reason.to_owned(),
        since,
    };
    let unpaid = || grace.map(|grace| because(PAYMENT_FAILED, grace.until));
    match snapshot.status {
        SubscriptionStatus::PastDue | SubscriptionStatus::Unpaid => unpaid(),
        SubscriptionStatus::Paused => {
            let trial = || snapshot.trial_end.unwrap_or(snapshot.created);
            let Some(paused) = &snapshot.paused else {
                return Some(because(TRIAL_ENDED, trial()));
            };
            Some(match paused.reason.as_str() {
                pause::FINAL_PAYMENT => {
                    unpaid().unwrap_or_else(|| because(PAYMENT_FAILED, paused.since))
                }
                // It was never paid for: there is nothing to forgive.
                pause::FIRST_PAYMENT => because(PAYMENT_FAILED, paused.since),
                pause::REQUESTED => because(SUBSCRIPTION_PAUSED, paused.since),
                _ if snapshot.trial_end.is_some() => because(TRIAL_ENDED, trial()),
                _ => because(SUBSCRIPTION_PAUSED, paused.since),
            })
        }
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
    use crate::provider_objects::{Attempt, AttemptOutcome, Paused};
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
            let grace = grace(&made, &[owed], 14, at(1));
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
        let found = grace(&with(SubscriptionStatus::PastDue), &[owed], 1, at(7)).unwrap();
        assert_eq!((found.from, found.until), (at(7), at(7 + 86_400)));
    }

    #[test]
    fn an_invoice_by_mail_is_missing_from_its_due_date() {
        let mut mailed = invoice("in_1");
        mailed.collection_method = CollectionMethod::SendInvoice;
        mailed.due_at = Some(at(100));
        let (made, rows) = (with(SubscriptionStatus::PastDue), [mailed]);
        assert_eq!(grace(&made, &rows, 1, at(99)), None);
        assert_eq!(next_due(&made, &rows, at(99)), Some(at(100)));
        let found = grace(&made, &rows, 1, at(100)).unwrap();
        assert_eq!((found.from, found.is_overdue), (at(100), true));
        assert_eq!(next_due(&made, &rows, at(100)), None);
    }

    #[test]
    fn nothing_is_forgiven_before_the_latest_invoice_is_known() {
        let mut made = with(SubscriptionStatus::PastDue);
        made.snapshot.latest_invoice = Some("in_2".parse().unwrap());
        let mut old = invoice("in_1");
        old.attempts = vec![failed(at(0))];
        assert_eq!(grace(&made, &[old], 14, at(1)), None);
    }

    #[test]
    fn an_unpaid_subscription_owes_its_drafts_too() {
        let mut paid = invoice("in_1");
        paid.status = InvoiceStatus::Paid;
        let mut draft = invoice("in_2");
        draft.status = InvoiceStatus::Draft;
        draft.created = at(50);
        let rows = [paid, draft];
        let found = grace(&with(SubscriptionStatus::Unpaid), &rows, 1, at(60)).unwrap();
        assert_eq!((found.from, found.invoice.as_str()), (at(50), "in_2"));
        assert_eq!(
            grace(&with(SubscriptionStatus::PastDue), &rows, 1, at(60)),
            None
        );
    }

    #[test]
    fn what_was_ended_for_want_of_payment_is_forgiven_as_long_as_it_would_have_been() {
        let mut ended = with(SubscriptionStatus::Canceled);
        ended.snapshot.ended_at = Some(at(10));
        let mut owed = invoice("in_1");
        owed.attempts = vec![failed(at(0))];
        assert_eq!(
            grace(&ended, &[owed.clone()], 1, at(20)),
            None,
            "somebody ended it"
        );
        ended.snapshot.cancellation_reason = Some("payment_failed".to_owned());
        let from = |owed: &InvoiceSnapshot| {
            let found = grace(&ended, std::slice::from_ref(owed), 1, at(20));
            found.map(|grace| grace.from)
        };
        assert_eq!(from(&owed), Some(at(0)));
        owed.status = InvoiceStatus::Paid;
        owed.paid_at = Some(at(15));
        assert_eq!(from(&owed), Some(at(0)), "paid when it was too late");
        assert_eq!(ended_unpaid(&[with(SubscriptionStatus::Canceled)]), None);
        assert_eq!(ended_unpaid(std::slice::from_ref(&ended)), Some(&ended));
    }

    #[test]
    fn each_pause_has_its_reason() {
        for (reason, expected) in [
            ("pause_requested", (SUBSCRIPTION_PAUSED, at(5))),
            ("first_payment_failure", (PAYMENT_FAILED, at(5))),
            ("final_payment_failure", (PAYMENT_FAILED, at(86_400))),
            ("trial_end_without_payment_method", (TRIAL_ENDED, at(3))),
            ("system", (TRIAL_ENDED, at(3))),
        ] {
            let mut made = with(SubscriptionStatus::Paused);
            made.snapshot.trial_end = Some(at(3));
            made.snapshot.paused = Some(Paused {
                reason: reason.to_owned(),
                since: at(5),
            });
            let mut owed = invoice("in_1");
            owed.attempts = vec![failed(at(0))];
            let grace = grace(&made, &[owed], 1, at(6));
            let closed = read_only(&made, grace.as_ref()).unwrap();
            assert_eq!((closed.reason.as_str(), closed.since), expected, "{reason}");
        }
    }

    #[test]
    fn a_grace_of_days_is_told_at_its_start_its_middle_and_its_last_day() {
        let day = 86_400;
        let grace = Grace {
            invoice: "in_1".parse().unwrap(),
            from: at(0),
            until: at(14 * day),
            is_overdue: false,
            owed: 1,
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
        fn grace_begins_with_the_first_failure_since_the_last_payment(
            times in proptest::collection::vec(proptest::collection::vec(0_i64..1_000_000, 0..4), 1..6),
            ends in proptest::collection::vec(0_u8..5, 6),
            days in 0_u16..60,
        ) {
            let statuses = [InvoiceStatus::Open, InvoiceStatus::Open, InvoiceStatus::Paid, InvoiceStatus::Uncollectible, InvoiceStatus::Void];
            let invoices: Vec<_> = times.iter().zip(&ends).enumerate().map(|(n, (times, end))| {
                let mut made = invoice(&format!("in_{n}"));
                made.created = at(i64::try_from(n).unwrap());
                made.attempts = times.iter().map(|seconds| failed(at(*seconds))).collect();
                made.status = statuses[usize::from(*end)].clone();
                made
            }).collect();
            // The latest decides, and what was before it as long as nothing was settled in between.
            let since = times.iter().zip(&ends).rev().take_while(|(_, end)| **end < 2);
            let first = since.flat_map(|(times, _)| times).min();
            let found = grace(&with(SubscriptionStatus::PastDue), &invoices, days, at(1_000_000));
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
