//! Changes that happen by themselves when a period ends: Stripe's subscription schedules.

use stripe_billing::subscription_schedule::{
    CreateSubscriptionSchedule, ReleaseSubscriptionSchedule, RetrieveSubscriptionSchedule,
    UpdateSubscriptionSchedule, UpdateSubscriptionSchedulePhases,
    UpdateSubscriptionSchedulePhasesAutomaticTax, UpdateSubscriptionSchedulePhasesDiscounts,
    UpdateSubscriptionSchedulePhasesDuration, UpdateSubscriptionSchedulePhasesDurationInterval,
    UpdateSubscriptionSchedulePhasesEndDate, UpdateSubscriptionSchedulePhasesItems,
    UpdateSubscriptionSchedulePhasesItemsDiscounts,
    UpdateSubscriptionSchedulePhasesProrationBehavior, UpdateSubscriptionSchedulePhasesStartDate,
    UpdateSubscriptionSchedulePhasesTrialEnd, UpdateSubscriptionScheduleProrationBehavior,
};
use stripe_client_core::StripeRequest as _;
use stripe_shared::SubscriptionScheduleEndBehavior;

use rawdrive_plans::Interval;

use super::http_client::{Deadline, Failure, segment};
use super::responses::{Expandable, Named, Phase, PhaseItem, Schedule, Subscription};
use super::{StripeGateway, rejected, seconds, texts};
use crate::gateway::GatewayError;
use crate::ids::{IdempotencyKey, ItemId, PriceId};
use crate::provider_objects::{ItemSnapshot, SubscriptionSnapshot, SubscriptionStatus};

impl StripeGateway {
    /// A subscription with its schedule, where the answer holds its id alone.
    pub(super) async fn with_schedule(
        &self,
        within: Deadline,
        mut subscription: Subscription,
    ) -> Result<Subscription, GatewayError> {
        if let Some(Expandable::Id(id)) = &subscription.schedule {
            let retrieve = RetrieveSubscriptionSchedule::new(segment(id)?).build();
            let schedule = self.http.find(within, retrieve).await?;
            subscription.schedule = schedule.map(Expandable::Object);
        }
        Ok(subscription)
    }

    /// Lets a subscription go on as it is; a change that was to come does not.
    pub(super) async fn release(
        &self,
        within: Deadline,
        schedule: &Schedule,
        key: &IdempotencyKey,
    ) -> Result<(), GatewayError> {
        let release = ReleaseSubscriptionSchedule::new(segment(&schedule.id)?).build();
        match self.http.post_part::<Named>(within, release, key).await {
            // It ended by itself meanwhile.
            Ok(_) | Err(Failure::Gateway(GatewayError::Rejected { .. })) => Ok(()),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Lets a line of a subscription have another price from the next period on. All that stands beside it stays: a
    /// phase replaces what it does not name.
    pub(super) async fn schedule(
        &self,
        within: Deadline,
        subscription: &SubscriptionSnapshot,
        schedule: Option<Schedule>,
        item: &ItemId,
        price: &PriceId,
        key: &IdempotencyKey,
    ) -> Result<(), GatewayError> {
        let item = subscription
            .item_of(item)
            .ok_or_else(|| rejected("no_item", "the subscription has no such line"))?;
        let interval = self
            .find_price_by_id(within, price)
            .await?
            .and_then(|price| price.interval)
            .ok_or_else(|| rejected("resource_missing", "no such recurring price"))?;
        let schedule = match schedule {
            Some(schedule) => schedule,
            None => {
                let create = CreateSubscriptionSchedule::new()
                    .from_subscription(subscription.id.as_str())
                    .build();
                self.http.post_part(within, create, key).await?
            }
        };
        let current = schedule.phase();
        let start = match &schedule.current_phase {
            Some(phase) => phase.start_date.0,
            None => item.period_start,
        };
        let present = match current {
            Some(phase) => phase.items.iter().map(line).collect(),
            None => subscription.items.iter().map(bare_line).collect::<Vec<_>>(),
        };
        // The phase names no line by its id; no two have the same price.
        let is_it = |line: &UpdateSubscriptionSchedulePhasesItems| {
            line.price.as_deref() == Some(item.price.id.as_str())
        };
        if !present.iter().any(is_it) {
            return Err(rejected("no_item", "the schedule has no such line"));
        }
        let following = present.iter().cloned().map(|mut line| {
            if is_it(&line) {
                line.price = Some(price.to_string());
            }
            line
        });

        let mut next = phase(current, following.collect());
        let mut now = phase(current, present.clone());
        now.start_date = Some(UpdateSubscriptionSchedulePhasesStartDate::Timestamp(
            seconds(start),
        ));
        now.end_date = Some(UpdateSubscriptionSchedulePhasesEndDate::Timestamp(seconds(
            item.period_end,
        )));
        let trial_end = subscription
            .trial_end
            .filter(|_| subscription.status == SubscriptionStatus::Trialing);
        now.trial_end =
            trial_end.map(|end| UpdateSubscriptionSchedulePhasesTrialEnd::Timestamp(seconds(end)));
        next.duration = Some(one(interval));
        next.proration_behavior = Some(UpdateSubscriptionSchedulePhasesProrationBehavior::None);

        let update = UpdateSubscriptionSchedule::new(segment(&schedule.id)?)
            .phases([now, next])
            .end_behavior(SubscriptionScheduleEndBehavior::Release)
            .proration_behavior(UpdateSubscriptionScheduleProrationBehavior::None)
            .build();
        self.http.post_part::<Named>(within, update, key).await?;
        Ok(())
    }
}

/// A line of a phase as it is.
fn line(present: &PhaseItem) -> UpdateSubscriptionSchedulePhasesItems {
    let mut line = UpdateSubscriptionSchedulePhasesItems::new();
    line.price = Some(present.price.0.to_string());
    line.quantity = present.quantity;
    let discounts = present.discounts.iter().flatten().map(|old| {
        let mut discount = UpdateSubscriptionSchedulePhasesItemsDiscounts::new();
        match (&old.discount, &old.promotion_code, &old.coupon) {
            (Some(id), _, _) => discount.discount = Some(id.0.clone()),
            (None, Some(id), _) => discount.promotion_code = Some(id.0.clone()),
            (None, None, coupon) => discount.coupon = coupon.as_ref().map(|id| id.0.clone()),
        }
        discount
    });
    let discounts: Vec<_> = discounts.collect();
    let rates = present.tax_rates.iter().flatten();
    let rates: Vec<_> = rates.map(|rate| rate.0.clone()).collect();
    let metadata = texts(&present.metadata.clone().into());
    line.discounts = Some(discounts).filter(|all| !all.is_empty());
    line.tax_rates = Some(rates).filter(|all| !all.is_empty());
    line.metadata = Some(metadata).filter(|all| !all.is_empty());
    line
}

/// A line of a subscription whose schedule tells of none.
fn bare_line(item: &ItemSnapshot) -> UpdateSubscriptionSchedulePhasesItems {
    let mut line = UpdateSubscriptionSchedulePhasesItems::new();
    line.price = Some(item.price.id.to_string());
    line.quantity = Some(item.quantity);
    line
}

/// A phase of these lines, with all that the present one has beside: a phase replaces what it does not name.
fn phase(
    present: Option<&Phase>,
    lines: Vec<UpdateSubscriptionSchedulePhasesItems>,
) -> UpdateSubscriptionSchedulePhases {
    let mut phase = UpdateSubscriptionSchedulePhases::new(lines);
    let Some(present) = present else {
        return phase;
    };
    let discounts = present.discounts.iter().flatten().map(|old| {
        let mut discount = UpdateSubscriptionSchedulePhasesDiscounts::new();
        // Each names one thing; what was given already is named before what it was given by.
        match (&old.discount, &old.promotion_code, &old.coupon) {
            (Some(id), _, _) => discount.discount = Some(id.0.clone()),
            (None, Some(id), _) => discount.promotion_code = Some(id.0.clone()),
            (None, None, coupon) => discount.coupon = coupon.as_ref().map(|id| id.0.clone()),
        }
        discount
    });
    let discounts: Vec<_> = discounts.collect();
    let rates = present.default_tax_rates.iter().flatten();
    let rates: Vec<_> = rates.map(|rate| rate.0.clone()).collect();
    let tax = present.automatic_tax.as_ref().and_then(|tax| tax.enabled);
    phase.discounts = Some(discounts).filter(|all| !all.is_empty());
    phase.default_tax_rates = Some(rates).filter(|all| !all.is_empty());
    phase.default_payment_method = present
        .default_payment_method
        .as_ref()
        .map(|id| id.0.clone());
    phase.automatic_tax = tax
        .filter(|enabled| *enabled)
        .map(UpdateSubscriptionSchedulePhasesAutomaticTax::new);
    phase
}

fn one(interval: Interval) -> UpdateSubscriptionSchedulePhasesDuration {
    let interval = match interval {
        Interval::Month => UpdateSubscriptionSchedulePhasesDurationInterval::Month,
        Interval::Year => UpdateSubscriptionSchedulePhasesDurationInterval::Year,
    };
    let mut duration = UpdateSubscriptionSchedulePhasesDuration::new(interval);
    duration.interval_count = Some(1);
    duration
}
