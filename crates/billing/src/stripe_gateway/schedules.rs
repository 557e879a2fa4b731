//! Changes that happen by themselves when a period ends: Stripe's subscription schedules.

use stripe_billing::subscription_schedule::{
    CreateSubscriptionSchedule, ReleaseSubscriptionSchedule, RetrieveSubscriptionSchedule,
    UpdateSubscriptionSchedule, UpdateSubscriptionSchedulePhases,
    UpdateSubscriptionSchedulePhasesAutomaticTax, UpdateSubscriptionSchedulePhasesDiscounts,
    UpdateSubscriptionSchedulePhasesDuration, UpdateSubscriptionSchedulePhasesDurationInterval,
    UpdateSubscriptionSchedulePhasesEndDate, UpdateSubscriptionSchedulePhasesItems,
    UpdateSubscriptionSchedulePhasesProrationBehavior, UpdateSubscriptionSchedulePhasesStartDate,
    UpdateSubscriptionSchedulePhasesTrialEnd, UpdateSubscriptionScheduleProrationBehavior,
};
use stripe_client_core::StripeRequest as _;
use stripe_shared::SubscriptionScheduleEndBehavior;

use rawdrive_plans::Interval;

use super::http_client::{Deadline, Failure, segment};
use super::responses::{Expandable, Named, Phase, Schedule, Subscription};
use super::{StripeGateway, rejected, seconds};
use crate::gateway::GatewayError;
use crate::ids::{IdempotencyKey, PriceId};
use crate::provider_objects::{SubscriptionSnapshot, SubscriptionStatus};

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

    /// Lets a subscription have another price from its next period on.
    pub(super) async fn schedule(
        &self,
        within: Deadline,
        subscription: &SubscriptionSnapshot,
        schedule: Option<Schedule>,
        price: &PriceId,
        key: &IdempotencyKey,
    ) -> Result<(), GatewayError> {
        let item = subscription
            .item()
            .ok_or_else(|| rejected("no_item", "the subscription has no line"))?;
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
        let present = current.and_then(|phase| phase.items.first());
        let present = present.map_or(&item.price.id, |line| &line.price.0);
        let quantity = current
            .and_then(|phase| phase.items.first()?.quantity)
            .unwrap_or(item.quantity);

        let mut now = phase(current, present, quantity);
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
        let mut next = phase(current, price, quantity);
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

/// A phase at a price, with all that the present one has beside: a phase replaces what it does not name.
fn phase(
    present: Option<&Phase>,
    price: &PriceId,
    quantity: u64,
) -> UpdateSubscriptionSchedulePhases {
    let mut item = UpdateSubscriptionSchedulePhasesItems::new();
    item.price = Some(price.to_string());
    item.quantity = Some(quantity);
    let mut phase = UpdateSubscriptionSchedulePhases::new([item]);
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
