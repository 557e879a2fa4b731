//! Subscriptions: begun, changed, ended, resumed.

use stripe_billing::subscription::{
    CancelSubscription, CreateSubscription, CreateSubscriptionItems,
    CreateSubscriptionPaymentBehavior, CreateSubscriptionTrialSettings,
    CreateSubscriptionTrialSettingsEndBehavior,
    CreateSubscriptionTrialSettingsEndBehaviorMissingPaymentMethod, ListSubscription,
    ListSubscriptionStatus, ResumeSubscription, ResumeSubscriptionPaymentBehavior,
    RetrieveSubscription, UpdateSubscription, UpdateSubscriptionCancelAt, UpdateSubscriptionItems,
    UpdateSubscriptionPaymentBehavior, UpdateSubscriptionProrationBehavior,
};
use stripe_client_core::StripeRequest as _;

use chrono::{DateTime, Utc};

use super::http_client::{Deadline, Failure, segment, undo_key};
use super::payments::Wait;
use super::responses::{Expandable, Named, Page, Schedule, Subscription};
use super::{PAGE, StripeGateway, refused, rejected, seconds, texts, unset};
use crate::gateway::{
    CancelWhen, ChangePrice, ChangeTiming, ClientSecret, GatewayError, NOTHING_TO_PAY_WITH,
    Outcome, Subscribe,
};
use crate::ids::{CustomerId, IdempotencyKey, InvoiceId, SubscriptionId};
use crate::provider_objects::{InvoiceStatus, Metadata, SubscriptionSnapshot, SubscriptionStatus};

/// How many pages of a customer's subscriptions are read. The newest come first; one that lives is among them
/// unless somebody subscribed a thousand times.
const MAX_PAGES: usize = 10;

/// What becomes of a subscription's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It stays as it is.
    AsItIs,
    /// It ends with its period.
    WithPeriod,
    /// It ends at a date.
    At(DateTime<Utc>),
    /// It does not end with its period.
    NotWithPeriod,
    /// It does not end at a date. Stripe keeps date and flag apart, and clears each by its own parameter.
    NotAtDate,
}

/// A subscription, and what of it is still to come.
struct Found {
    snapshot: SubscriptionSnapshot,
    schedule: Option<Schedule>,
    /// The invoice that a change waits for.
    pending: Option<InvoiceId>,
}

impl StripeGateway {
    pub(super) async fn find_subscription(
        &self,
        within: Deadline,
        id: &SubscriptionId,
    ) -> Result<Option<SubscriptionSnapshot>, GatewayError> {
        let found = self.retrieve(within, id).await?;
        Ok(found.map(|found| found.snapshot))
    }

    async fn retrieve(
        &self,
        within: Deadline,
        id: &SubscriptionId,
    ) -> Result<Option<Found>, GatewayError> {
        let Ok(id) = segment(id.as_str()) else {
            return Ok(None);
        };
        let retrieve =
            RetrieveSubscription::new(id).expand(["schedule".to_owned(), "discounts".to_owned()]);
        let Some(found) = self.http.find(within, retrieve.build()).await? else {
            return Ok(None);
        };
        let subscription = self.with_schedule(within, found).await?;
        let schedule = match &subscription.schedule {
            Some(Expandable::Object(schedule)) if schedule.is_active() => Some(schedule.clone()),
            _ => None,
        };
        let waits = subscription.waits_for_payment();
        let snapshot = subscription.snapshot()?;
        Ok(Some(Found {
            pending: snapshot.latest_invoice.clone().filter(|_| waits),
            snapshot,
            schedule,
        }))
    }

    async fn must_find(
        &self,
        within: Deadline,
        id: &SubscriptionId,
    ) -> Result<Found, GatewayError> {
        let found = self.retrieve(within, id).await?;
        found.ok_or(GatewayError::NotFound)
    }

    /// One that has not ended.
    async fn must_live(
        &self,
        within: Deadline,
        id: &SubscriptionId,
    ) -> Result<Found, GatewayError> {
        let found = self.must_find(within, id).await?;
        if found.snapshot.status.is_final() {
            return Err(rejected("subscription_ended", "the subscription has ended"));
        }
        Ok(found)
    }

    async fn complete(
        &self,
        within: Deadline,
        answer: Subscription,
    ) -> Result<SubscriptionSnapshot, GatewayError> {
        self.with_schedule(within, answer).await?.snapshot()
    }

    pub(super) async fn list_subscriptions(
        &self,
        within: Deadline,
        customer: &CustomerId,
    ) -> Result<Vec<SubscriptionSnapshot>, GatewayError> {
        let mut all: Vec<SubscriptionSnapshot> = Vec::new();
        for _ in 0..MAX_PAGES {
            let mut list = ListSubscription::new()
                .customer(customer.as_str())
                .status(ListSubscriptionStatus::All)
                .limit(PAGE)
                .expand(["data.schedule".to_owned(), "data.discounts".to_owned()]);
            if let Some(last) = all.last() {
                list = list.starting_after(last.id.as_str());
            }
            let page: Page<Subscription> = self.http.get(within, list.build()).await?;
            let has_more = page.has_more && !page.data.is_empty();
            for subscription in page.data {
                all.push(self.complete(within, subscription).await?);
            }
            if !has_more {
                break;
            }
        }
        Ok(all)
    }

    /// With `allow_incomplete`: Stripe tries to collect at once, with the payer present. What cannot be collected
    /// leaves an `incomplete` subscription whose first invoice says why.
    pub(super) async fn begin_subscription(
        &self,
        within: Deadline,
        new: &Subscribe,
        key: &IdempotencyKey,
    ) -> Result<Outcome<SubscriptionSnapshot>, GatewayError> {
        if let Some(method) = &new.payment_method
            && let Err(failure) = self.attach(within, &new.customer, method, key).await
        {
            return refused(failure);
        }
        let mut item = CreateSubscriptionItems::new();
        item.price = Some(new.price.to_string());
        let mut create = CreateSubscription::new()
            .customer(new.customer.as_str())
            .items([item])
            .payment_behavior(CreateSubscriptionPaymentBehavior::AllowIncomplete)
            .expand(["pending_setup_intent".to_owned()])
            .metadata(texts(&new.metadata));
        if let Some(days) = new.trial_days {
            let mut end = CreateSubscriptionTrialSettingsEndBehavior::new();
            end.missing_payment_method =
                Some(CreateSubscriptionTrialSettingsEndBehaviorMissingPaymentMethod::Pause);
            create = create
                .trial_period_days(u32::from(days))
                .trial_settings(CreateSubscriptionTrialSettings::new(end));
        }
        let made: Subscription = match self.http.post(within, create.build(), key).await {
            Ok(made) => made,
            Err(failure) => return refused(failure),
        };
        let sets_up = made.pending_setup_intent.is_some();
        let made = self.complete(within, made).await?;
        if made.status == SubscriptionStatus::Trialing && sets_up {
            // The trial runs; whether its card can be charged when it ends is the payer's to confirm.
            let secret = self.pending_setup(within, &made.id).await?;
            let now = self.must_find(within, &made.id).await?.snapshot;
            return Ok(match secret {
                Some(client_secret) => Outcome::ActionRequired {
                    client_secret,
                    left: Some(now),
                },
                None => Outcome::Done(now),
            });
        }
        if made.status != SubscriptionStatus::Incomplete {
            return Ok(Outcome::Done(made));
        }
        // An answer that is given again under its key is as old as the key: look at what has become of it.
        let now = self.must_find(within, &made.id).await?.snapshot;
        if now.status == SubscriptionStatus::Incomplete {
            return self.by_latest_invoice(within, now).await;
        }
        let Some(first) = made.latest_invoice.filter(|_| now.status.is_final()) else {
            return Ok(Outcome::Done(now));
        };
        if self.invoice_status(within, &first).await? == Some(InvoiceStatus::Paid) {
            return Ok(Outcome::Done(now));
        }
        // It ended before it came to life.
        let decline = self.last_decline(within, &first).await?;
        let left = Some(now);
        Ok(Outcome::Declined { decline, left })
    }

    /// What the payer must confirm so that a subscription's card can be charged later, if anything.
    pub(super) async fn pending_setup(
        &self,
        within: Deadline,
        id: &SubscriptionId,
    ) -> Result<Option<ClientSecret>, GatewayError> {
        let retrieve = RetrieveSubscription::new(segment(id.as_str())?)
            .expand(["pending_setup_intent".to_owned()])
            .build();
        let found: Option<Subscription> = self.http.find(within, retrieve).await?;
        Ok(match found.and_then(|found| found.pending_setup_intent) {
            Some(Expandable::Object(intent)) => intent.confirmable(),
            _ => None,
        })
    }

    /// The outcome for a subscription that its latest invoice decides.
    async fn by_latest_invoice(
        &self,
        within: Deadline,
        subscription: SubscriptionSnapshot,
    ) -> Result<Outcome<SubscriptionSnapshot>, GatewayError> {
        let wait = match &subscription.latest_invoice {
            Some(invoice) => self.wait(within, invoice).await?,
            None => Wait::Nobody,
        };
        Ok(match wait {
            // A payment that takes days is under way; events tell how it ends, and meanwhile nothing is granted.
            Wait::Nobody => Outcome::Done(subscription),
            Wait::Card(decline) => Outcome::Declined {
                decline,
                left: Some(subscription),
            },
            Wait::Payer(client_secret) => Outcome::ActionRequired {
                client_secret,
                left: Some(subscription),
            },
        })
    }

    pub(super) async fn change_subscription(
        &self,
        within: Deadline,
        change: &ChangePrice,
        key: &IdempotencyKey,
    ) -> Result<Outcome<SubscriptionSnapshot>, GatewayError> {
        let found = self.must_live(within, &change.subscription).await?;
        let wishes_anew = found.snapshot.metadata.operation() != change.metadata.operation();
        if let Some(invoice) = found.pending.as_ref().filter(|_| wishes_anew) {
            // An earlier change still waits for its payment: it is not to happen any more.
            self.void(within, invoice, key).await?;
        }
        match change.timing {
            ChangeTiming::Now { proration_date } => {
                self.change_now(within, found, change, proration_date, key)
                    .await
            }
            ChangeTiming::AtPeriodEnd => self.change_later(within, found, change, key).await,
        }
    }

    /// With `pending_if_incomplete`: Stripe applies the change once it is paid. What waits for the payer's
    /// confirmation waits on; what the card refused is withdrawn, so that the subscription is as it was.
    async fn change_now(
        &self,
        within: Deadline,
        found: Found,
        change: &ChangePrice,
        proration_date: DateTime<Utc>,
        key: &IdempotencyKey,
    ) -> Result<Outcome<SubscriptionSnapshot>, GatewayError> {
        if let Some(schedule) = &found.schedule {
            self.release(within, schedule, key).await?;
        }
        // A change that may wait for its payment takes no metadata, so they come first. They also tell this call,
        // made again, that what waits is its own. Nor does it take a date at which it ends: the date becomes an end
        // with the period, which the change drops once it is paid.
        let date = found
            .snapshot
            .ends_at()
            .filter(|_| !found.snapshot.cancel_at_period_end);
        let end = match date {
            Some(_) => End::WithPeriod,
            None => End::AsItIs,
        };
        self.mark(within, &change.subscription, end, &change.metadata, key)
            .await?;
        let mut item = UpdateSubscriptionItems::new();
        item.id = Some(change.item.to_string());
        item.price = Some(change.price.to_string());
        item.quantity = change.quantity;
        // Always the same parameters, whatever was found: the key is the caller's. An end at the period's end may
        // be among them since 2026-09-30.endive.
        let update = UpdateSubscription::new(segment(change.subscription.as_str())?)
            .items([item])
            .proration_behavior(UpdateSubscriptionProrationBehavior::AlwaysInvoice)
            .proration_date(seconds(proration_date))
            .payment_behavior(UpdateSubscriptionPaymentBehavior::PendingIfIncomplete)
            .cancel_at_period_end(false)
            .build();
        let outcome = match self.http.post::<Subscription>(within, update, key).await {
            Ok(answer) => self.paid_or_pending(within, answer, key).await?,
            Err(failure) => refused(failure)?,
        };
        if let (Outcome::Declined { .. }, Some(released)) = (&outcome, &found.schedule)
            && let Some(scheduled) = &found.snapshot.scheduled
        {
            let (key, price) = (undo_key(key, &released.id), &scheduled.price);
            let item = &change.item;
            self.schedule(within, &found.snapshot, None, item, price, &key)
                .await?;
        }
        if let (Outcome::Declined { .. }, Some(date)) = (&outcome, date) {
            let end = End::At(date);
            let key = undo_key(key, change.subscription.as_str());
            self.mark(within, &change.subscription, end, &change.metadata, &key)
                .await?;
        }
        Ok(outcome)
    }

    /// How a change ended, by Stripe's answer to it. The answer may have been given long ago under the same key, so
    /// a change that waited then is looked at as it is now.
    async fn paid_or_pending(
        &self,
        within: Deadline,
        answer: Subscription,
        key: &IdempotencyKey,
    ) -> Result<Outcome<SubscriptionSnapshot>, GatewayError> {
        let waits = answer.waits_for_payment();
        let answered = self.complete(within, answer).await?;
        let Some(invoice) = answered.latest_invoice.clone().filter(|_| waits) else {
            return Ok(Outcome::Done(answered));
        };
        match self.invoice_status(within, &invoice).await? {
            Some(InvoiceStatus::Paid) => return Ok(Outcome::Done(answered)),
            Some(InvoiceStatus::Open) => {}
            _ => return self.declined(within, &invoice).await,
        }
        match self.wait(within, &invoice).await? {
            Wait::Payer(client_secret) => Ok(Outcome::ActionRequired {
                client_secret,
                left: Some(answered),
            }),
            Wait::Card(_) => {
                self.void(within, &invoice, key).await?;
                self.declined(within, &invoice).await
            }
            // A payment that takes days; Stripe applies the change when it has arrived.
            Wait::Nobody => Ok(Outcome::Done(answered)),
        }
    }

    async fn declined(
        &self,
        within: Deadline,
        invoice: &InvoiceId,
    ) -> Result<Outcome<SubscriptionSnapshot>, GatewayError> {
        let decline = self.last_decline(within, invoice).await?;
        let left = None;
        Ok(Outcome::Declined { decline, left })
    }

    async fn change_later(
        &self,
        within: Deadline,
        found: Found,
        change: &ChangePrice,
        key: &IdempotencyKey,
    ) -> Result<Outcome<SubscriptionSnapshot>, GatewayError> {
        let Found {
            snapshot, schedule, ..
        } = found;
        let is_present = snapshot
            .item_of(&change.item)
            .is_some_and(|item| item.price.id == change.price);
        let schedule = match schedule {
            // Back to what it is: nothing is to come.
            Some(schedule) if is_present => {
                self.release(within, &schedule, key).await?;
                None
            }
            other => other,
        };
        // An end is not to be touched beside a schedule, which has an end of its own.
        self.keep(within, &snapshot, &change.metadata, key).await?;
        if !is_present {
            let (item, price) = (&change.item, &change.price);
            self.schedule(within, &snapshot, schedule, item, price, key)
                .await?;
        }
        let now = self.must_find(within, &snapshot.id).await?;
        Ok(Outcome::Done(now.snapshot))
    }

    /// Leaves our texts on a subscription that is to go on: an end that was set is taken back, by whichever parameter
    /// it was set.
    async fn keep(
        &self,
        within: Deadline,
        found: &SubscriptionSnapshot,
        metadata: &Metadata,
        key: &IdempotencyKey,
    ) -> Result<SubscriptionSnapshot, GatewayError> {
        let end = match found.ends_at() {
            None => End::AsItIs,
            Some(_) if found.cancel_at_period_end => End::NotWithPeriod,
            Some(_) => End::NotAtDate,
        };
        let marked = self.mark(within, &found.id, end, metadata, key).await?;
        // Where both were set, or Stripe wants the other of the two.
        let other = match (marked.ends_at(), end) {
            (None, _) => return Ok(marked),
            (Some(_), End::NotAtDate) => End::NotWithPeriod,
            (Some(_), _) => End::NotAtDate,
        };
        self.mark(within, &found.id, other, metadata, key).await
    }

    /// Leaves our texts on a subscription, and says what becomes of its end.
    pub(super) async fn mark(
        &self,
        within: Deadline,
        id: &SubscriptionId,
        end: End,
        metadata: &Metadata,
        key: &IdempotencyKey,
    ) -> Result<SubscriptionSnapshot, GatewayError> {
        let mut update = UpdateSubscription::new(segment(id.as_str())?)
            .metadata(texts(metadata))
            .expand(["schedule".to_owned()]);
        update = match end {
            End::AsItIs | End::NotAtDate => update,
            End::WithPeriod => update.cancel_at_period_end(true),
            End::NotWithPeriod => update.cancel_at_period_end(false),
            End::At(date) => update.cancel_at(UpdateSubscriptionCancelAt::Timestamp(seconds(date))),
        };
        let mut update = update.build();
        if end == End::NotAtDate {
            unset(&mut update, "cancel_at");
        }
        let marked = self
            .http
            .post_part::<Subscription>(within, update, key)
            .await?;
        self.complete(within, marked).await
    }

    pub(super) async fn end_subscription(
        &self,
        within: Deadline,
        id: &SubscriptionId,
        when: CancelWhen,
        metadata: &Metadata,
        key: &IdempotencyKey,
    ) -> Result<SubscriptionSnapshot, GatewayError> {
        let found = self.must_find(within, id).await?;
        if found.snapshot.status.is_final() {
            return Ok(found.snapshot);
        }
        let end = self.end(within, &found, when, metadata, key).await;
        match end {
            Ok(ended) => Ok(ended),
            // It may have ended meanwhile, by an earlier try of this call or by itself.
            Err(error @ (GatewayError::NotFound | GatewayError::Rejected { .. })) => {
                let now = self.must_find(within, id).await?.snapshot;
                if now.status.is_final() {
                    Ok(now)
                } else {
                    Err(error)
                }
            }
            Err(error) => Err(error),
        }
    }

    async fn end(
        &self,
        within: Deadline,
        found: &Found,
        when: CancelWhen,
        metadata: &Metadata,
        key: &IdempotencyKey,
    ) -> Result<SubscriptionSnapshot, GatewayError> {
        let (id, snapshot) = (&found.snapshot.id, &found.snapshot);
        // Nothing was paid for, or what was is over: there is no end to wait for.
        let is_over = snapshot
            .period_end()
            .is_some_and(|end| end <= self.http.now());
        let at_once =
            when == CancelWhen::Now || snapshot.status == SubscriptionStatus::Incomplete || is_over;
        if at_once {
            self.mark(within, id, End::AsItIs, metadata, key).await?;
            let now = self.withdraw_waiting(within, found, key).await?;
            if now.status == snapshot.status {
                let cancel = CancelSubscription::new(segment(id.as_str())?)
                    .invoice_now(false)
                    .prorate(false)
                    .build();
                // A key has no effect on a DELETE: it ends what has ended once.
                let ended = self.http.send::<Subscription>(within, cancel).await?;
                return self.complete(within, ended).await;
            }
            if now.status.is_final() || when == CancelWhen::Now {
                return Ok(now);
            }
            // It was paid meanwhile: there is an end to wait for.
        }
        if let Some(schedule) = &found.schedule {
            self.release(within, schedule, key).await?;
        }
        // A date that comes sooner is somebody's wish as well.
        let is_sooner = snapshot.cancel_at.is_some() && snapshot.ends_at() <= snapshot.period_end();
        let end = if is_sooner {
            End::AsItIs
        } else {
            End::WithPeriod
        };
        self.mark(within, id, end, metadata, key).await
    }

    pub(super) async fn withdraw_payment(
        &self,
        within: Deadline,
        id: &SubscriptionId,
        key: &IdempotencyKey,
    ) -> Result<SubscriptionSnapshot, GatewayError> {
        let found = self.must_find(within, id).await?;
        self.withdraw_waiting(within, &found, key).await
    }

    /// Withdraws the invoice that a subscription waits for: its first, or that of its waking which its payer is to
    /// confirm. Ended as it is, Stripe would go on to take the money from whoever confirms the payment. An incomplete
    /// one ends by that as well. Answers it as it is then.
    async fn withdraw_waiting(
        &self,
        within: Deadline,
        found: &Found,
        key: &IdempotencyKey,
    ) -> Result<SubscriptionSnapshot, GatewayError> {
        let snapshot = &found.snapshot;
        let Some(invoice) = &snapshot.latest_invoice else {
            return Ok(snapshot.clone());
        };
        let waits = match snapshot.status {
            SubscriptionStatus::Incomplete => true,
            // What was owed before somebody paused it is owed on.
            SubscriptionStatus::Paused => {
                self.invoice_status(within, invoice).await? == Some(InvoiceStatus::Open)
                    && matches!(self.wait(within, invoice).await?, Wait::Payer(_))
            }
            _ => false,
        };
        if !waits {
            return Ok(snapshot.clone());
        }
        self.void(within, invoice, key).await?;
        Ok(self.must_find(within, &snapshot.id).await?.snapshot)
    }

    pub(super) async fn resume_subscription(
        &self,
        within: Deadline,
        id: &SubscriptionId,
        metadata: &Metadata,
        key: &IdempotencyKey,
    ) -> Result<Outcome<SubscriptionSnapshot>, GatewayError> {
        let found = self.must_live(within, id).await?;
        let asleep = found.snapshot.status == SubscriptionStatus::Paused;
        if asleep && found.snapshot.metadata.operation() != metadata.operation() {
            // An earlier waking may still wait for its payer. Before this one is marked: made again, it must not
            // withdraw its own.
            let now = self.withdraw_waiting(within, &found, key).await?;
            if now.status != found.snapshot.status {
                return Ok(Outcome::Done(now));
            }
        }
        if let Some(schedule) = &found.schedule {
            self.release(within, schedule, key).await?;
        }
        let marked = self.keep(within, &found.snapshot, metadata, key).await?;
        if found.snapshot.status == SubscriptionStatus::Paused {
            return self.wake(within, id, key).await;
        }
        Ok(Outcome::Done(marked))
    }

    /// Wakes a paused subscription: it is active once the invoice of its new period is paid. Where the card refuses,
    /// the invoice is withdrawn, so that nothing is paid later that nobody expects; where the payer must confirm, it
    /// waits.
    async fn wake(
        &self,
        within: Deadline,
        id: &SubscriptionId,
        key: &IdempotencyKey,
    ) -> Result<Outcome<SubscriptionSnapshot>, GatewayError> {
        let resume = ResumeSubscription::new(segment(id.as_str())?)
            .payment_behavior(ResumeSubscriptionPaymentBehavior::ResumeOnPaymentSuccess)
            .build();
        match self.http.post::<Named>(within, resume, key).await {
            // A refusal of the card; the subscription's invoice says more.
            Ok(_) | Err(Failure::Card(_)) => {}
            Err(Failure::Gateway(GatewayError::Rejected { code, message })) => {
                // The one thing of a wake that may not be there is a means of paying.
                let code = match code.as_str() {
                    "resource_missing" => NOTHING_TO_PAY_WITH.to_owned(),
                    _ => code,
                };
                return Err(GatewayError::Rejected { code, message });
            }
            Err(Failure::Gateway(error)) => return Err(error),
        }
        let now = self.must_find(within, id).await?.snapshot;
        if now.status != SubscriptionStatus::Paused {
            return Ok(Outcome::Done(now));
        }
        let outcome = self.by_latest_invoice(within, now).await?;
        let Outcome::Declined {
            left: Some(left), ..
        } = &outcome
        else {
            return Ok(outcome);
        };
        if let Some(invoice) = &left.latest_invoice {
            self.void(within, invoice, key).await?;
        }
        let now = self.must_find(within, id).await?.snapshot;
        if now.status == SubscriptionStatus::Paused {
            return Ok(outcome);
        }
        // The payer was faster than the withdrawal.
        Ok(Outcome::Done(now))
    }
}
