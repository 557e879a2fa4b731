//! The feed of events, and the endpoints that they are sent to.
//!
//! Events are numbered under the feed's head, which is held until the commit: they are seen in the order of their numbers,
//! without a gap. Whoever changes an endpoint takes the head first, as whoever adds events does.

use rawdrive_notices::webhooks::{
    DeliverWebhooks, Delivery, DeliveryState, DisabledReason, Endpoint, WebhookUrl, WebhooksRead,
    WebhooksTx,
};
use rawdrive_tenancy_core::StoreError;
use rawdrive_tenancy_core::event::{DomainEvent, EventSelection, RecordedEvent};
use rawdrive_tenancy_core::id::{DeliveryId, EventId, TypedId, WebhookEndpointId};
use rawdrive_tenancy_core::job::Job;
use rawdrive_tenancy_core::page::{Page, PageRequest, Position};
use sea_orm::sea_query::{Expr, ExprTrait as _, Func, LockType, OnConflict};
use sea_orm::{ColumnTrait, Condition, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, Set};

use crate::entity::{events, webhook_deliveries, webhook_endpoints};
use crate::scope::{Tenant, amount, column, corrupt, count, failed, query};
use crate::store::{Reader, WriteTx};

/// So many rows an INSERT has at most: the databases bound a statement's parameters.
const ROWS: usize = 500;

// Held until the transaction ends.
const ADVANCE: &str = "INSERT INTO event_heads (workspace_id, seq) VALUES ($1, $2)
    ON CONFLICT (workspace_id) DO UPDATE SET seq = event_heads.seq + excluded.seq RETURNING seq";

fn event_of(row: events::Model) -> Result<RecordedEvent, StoreError> {
    Ok(RecordedEvent {
        id: EventId::from_uuid(row.id),
        seq: count("events", "seq", row.seq)?,
        at: row.at,
        event: DomainEvent {
            kind: row.kind,
            subject: row.subject,
            facts: serde_json::from_str(&row.facts)
                .map_err(|e| corrupt("events", "facts", row.seq, e))?,
        },
    })
}

fn endpoint_of(row: webhook_endpoints::Model) -> Result<Endpoint, StoreError> {
    const TABLE: &str = "webhook_endpoints";
    let id = WebhookEndpointId::from_uuid(row.id);
    let kinds = row.kinds.split_whitespace().map(str::to_owned);
    let disabled = row.disabled_reason.map(|reason| {
        DisabledReason::stored(&reason).ok_or_else(|| corrupt(TABLE, "disabled_reason", id, reason))
    });
    Ok(Endpoint {
        id,
        url: WebhookUrl::from_stored(&row.url).map_err(|e| corrupt(TABLE, "url", id, e))?,
        wants: EventSelection::of(kinds).map_err(|e| corrupt(TABLE, "kinds", id, e))?,
        secret: row.secret,
        old_secret: row.old_secret.zip(row.old_secret_until),
        enabled: row.enabled,
        disabled: disabled.transpose()?,
        delivered_seq: count(TABLE, "delivered_seq", row.delivered_seq)?,
        failing_since: row.failing_since,
        created_at: row.created_at,
        version: u32::try_from(row.version).map_err(|e| corrupt(TABLE, "version", id, e))?,
    })
}

/// The settings and the progress of an endpoint. Whether it is awake is [`WebhooksTx::set_awake`]'s.
fn row_of(endpoint: &Endpoint) -> webhook_endpoints::ActiveModel {
    let old = endpoint.old_secret.clone();
    webhook_endpoints::ActiveModel {
        id: Set(endpoint.id.uuid()),
        url: Set(endpoint.url.as_str().to_owned()),
        kinds: Set(endpoint.wants.kinds().join(" ")),
        secret: Set(endpoint.secret.clone()),
        old_secret: Set(old.as_ref().map(|(secret, _)| secret.clone())),
        old_secret_until: Set(old.map(|(_, until)| until)),
        enabled: Set(endpoint.enabled),
        disabled_reason: Set(endpoint.disabled.map(|reason| reason.as_str().to_owned())),
        delivered_seq: Set(amount(endpoint.delivered_seq)),
        failing_since: Set(endpoint.failing_since),
        created_at: Set(endpoint.created_at),
        version: Set(endpoint.version.into()),
        ..Default::default()
    }
}

fn delivery_of(row: webhook_deliveries::Model) -> Result<Delivery, StoreError> {
    const TABLE: &str = "webhook_deliveries";
    let id = DeliveryId::from_uuid(row.id);
    let status = row.response_status.map(u16::try_from).transpose();
    Ok(Delivery {
        id,
        endpoint: WebhookEndpointId::from_uuid(row.endpoint_id),
        event: EventId::from_uuid(row.event_id),
        event_seq: count(TABLE, "event_seq", row.event_seq)?,
        kind: row.kind,
        state: DeliveryState::stored(&row.state)
            .ok_or_else(|| corrupt(TABLE, "state", id, row.state))?,
        attempts: u32::try_from(row.attempts).map_err(|e| corrupt(TABLE, "attempts", id, e))?,
        response_status: status.map_err(|e| corrupt(TABLE, "response_status", id, e))?,
        error: row.error,
        last_attempt_at: row.last_attempt_at,
        next_attempt_at: row.next_attempt_at,
        created_at: row.created_at,
    })
}

/// Events of the wanted kinds. `noun.` is compared by its length: LIKE would read `_` as any character.
fn wanted(wants: &EventSelection) -> Condition {
    let kinds = wants.kinds().iter();
    let conditions = kinds.map(|kind| match kind.strip_suffix('*') {
        Some(noun) => {
            let length = i32::try_from(noun.len()).unwrap_or(i32::MAX);
            let beginning = Func::cust("substr")
                .arg(Expr::col(events::Column::Kind))
                .arg(1)
                .arg(length);
            Expr::expr(beginning).eq(noun)
        }
        None => events::Column::Kind.eq(kind.as_str()),
    });
    // Of no condition, any of them would be nothing.
    let everything = match wants.kinds() {
        [] => Condition::all(),
        _ => Condition::any(),
    };
    conditions.fold(everything, Condition::add)
}

fn after(page: PageRequest) -> i64 {
    match page.after {
        Some(Position::Seq(seq)) => amount(seq),
        _ => 0,
    }
}

impl WebhooksRead for Reader {
    async fn events(
        &self,
        page: PageRequest,
        wants: &EventSelection,
    ) -> Result<Page<RecordedEvent>, StoreError> {
        let rows = events::Entity::scoped(&self.scope)
            .filter(events::Column::Seq.gt(after(page)))
            .filter(wanted(wants))
            .order_by_asc(events::Column::Seq)
            .limit(u64::from(page.limit) + 1)
            .all(self.db())
            .await
            .map_err(failed("read the feed"))?;
        let found = rows.into_iter().map(event_of).collect::<Result<_, _>>()?;
        Ok(Page::cut(found, page.limit, |event: &RecordedEvent| {
            Position::Seq(event.seq)
        }))
    }

    async fn event_seq(&self, event: EventId) -> Result<Option<u64>, StoreError> {
        let row = events::Entity::scoped(&self.scope)
            .filter(events::Column::Id.eq(event.uuid()))
            .one(self.db())
            .await
            .map_err(failed("look for an event"))?;
        row.map(|row| count("events", "seq", row.seq)).transpose()
    }

    async fn event_at(&self, seq: u64) -> Result<Option<RecordedEvent>, StoreError> {
        let row = events::Entity::scoped(&self.scope)
            .filter(events::Column::Seq.eq(amount(seq)))
            .one(self.db())
            .await
            .map_err(failed("read an event"))?;
        row.map(event_of).transpose()
    }

    async fn feed_end(&self) -> Result<u64, StoreError> {
        const END: &str = "SELECT seq FROM event_heads WHERE workspace_id = $1";
        let values = [self.scope.workspace().uuid().into()];
        let rows = query(self.db(), "read the feed's end", END, values).await?;
        let seq = rows.first().map_or(Ok(0), |row| column(row, "seq"))?;
        count("event_heads", "seq", seq)
    }

    async fn webhook_endpoints(&self, page: PageRequest) -> Result<Page<Endpoint>, StoreError> {
        let rows = webhook_endpoints::Entity::scoped(&self.scope)
            .filter(webhook_endpoints::Column::Id.gt(page.after_id()))
            .order_by_asc(webhook_endpoints::Column::Id)
            .limit(u64::from(page.limit) + 1)
            .all(self.db())
            .await
            .map_err(failed("list webhook endpoints"))?;
        let found = rows
            .into_iter()
            .map(endpoint_of)
            .collect::<Result<_, _>>()?;
        Ok(Page::cut(found, page.limit, |endpoint: &Endpoint| {
            Position::Id(endpoint.id.uuid())
        }))
    }

    async fn webhook_endpoint(
        &self,
        id: WebhookEndpointId,
    ) -> Result<Option<Endpoint>, StoreError> {
        let row = webhook_endpoints::Entity::scoped(&self.scope)
            .filter(webhook_endpoints::Column::Id.eq(id.uuid()))
            .one(self.db())
            .await
            .map_err(failed("read a webhook endpoint"))?;
        row.map(endpoint_of).transpose()
    }

    async fn webhook_deliveries(
        &self,
        endpoint: WebhookEndpointId,
        page: PageRequest,
    ) -> Result<Page<Delivery>, StoreError> {
        let before = match page.after {
            Some(Position::Seq(seq)) => amount(seq),
            _ => i64::MAX,
        };
        let rows = webhook_deliveries::Entity::scoped(&self.scope)
            .filter(webhook_deliveries::Column::EndpointId.eq(endpoint.uuid()))
            .filter(webhook_deliveries::Column::EventSeq.lt(before))
            .order_by_desc(webhook_deliveries::Column::EventSeq)
            .limit(u64::from(page.limit) + 1)
            .all(self.db())
            .await
            .map_err(failed("list deliveries"))?;
        let found = rows
            .into_iter()
            .map(delivery_of)
            .collect::<Result<_, _>>()?;
        Ok(Page::cut(found, page.limit, |delivery: &Delivery| {
            Position::Seq(delivery.event_seq)
        }))
    }

    async fn webhook_delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
        let row = webhook_deliveries::Entity::scoped(&self.scope)
            .filter(webhook_deliveries::Column::Id.eq(id.uuid()))
            .one(self.db())
            .await
            .map_err(failed("read a delivery"))?;
        row.map(delivery_of).transpose()
    }

    async fn delivery_of(
        &self,
        endpoint: WebhookEndpointId,
        event_seq: u64,
    ) -> Result<Option<Delivery>, StoreError> {
        let row = webhook_deliveries::Entity::scoped(&self.scope)
            .filter(webhook_deliveries::Column::EndpointId.eq(endpoint.uuid()))
            .filter(webhook_deliveries::Column::EventSeq.eq(amount(event_seq)))
            .one(self.db())
            .await
            .map_err(failed("read a delivery"))?;
        row.map(delivery_of).transpose()
    }
}

impl WebhooksTx for WriteTx {
    async fn lock_feed(&mut self) -> Result<u64, StoreError> {
        self.advance_feed(0).await
    }

    async fn count_webhook_endpoints(&mut self) -> Result<u64, StoreError> {
        webhook_endpoints::Entity::scoped(&self.scope)
            .count(&self.tx)
            .await
            .map_err(failed("count webhook endpoints"))
    }

    async fn insert_webhook_endpoint(&mut self, endpoint: &Endpoint) -> Result<(), StoreError> {
        let row = webhook_endpoints::ActiveModel {
            awake: Set(false),
            ..row_of(endpoint)
        };
        webhook_endpoints::Entity::scoped_insert(&self.scope, [row])
            .exec_without_returning(&self.tx)
            .await
            .map_err(failed("insert a webhook endpoint"))?;
        Ok(())
    }

    async fn locked_webhook_endpoint(
        &mut self,
        id: WebhookEndpointId,
    ) -> Result<Option<Endpoint>, StoreError> {
        let row = webhook_endpoints::Entity::scoped(&self.scope)
            .filter(webhook_endpoints::Column::Id.eq(id.uuid()))
            .lock(LockType::NoKeyUpdate)
            .one(&self.tx)
            .await
            .map_err(failed("read a webhook endpoint"))?;
        row.map(endpoint_of).transpose()
    }

    async fn update_webhook_endpoint(&mut self, endpoint: &Endpoint) -> Result<(), StoreError> {
        webhook_endpoints::Entity::scoped_update(&self.scope)
            .set(row_of(endpoint))
            .filter(webhook_endpoints::Column::Id.eq(endpoint.id.uuid()))
            .exec(&self.tx)
            .await
            .map_err(failed("update a webhook endpoint"))?;
        Ok(())
    }

    async fn delete_webhook_endpoint(&mut self, id: WebhookEndpointId) -> Result<(), StoreError> {
        webhook_deliveries::Entity::scoped_delete(&self.scope)
            .filter(webhook_deliveries::Column::EndpointId.eq(id.uuid()))
            .exec(&self.tx)
            .await
            .map_err(failed("delete deliveries"))?;
        webhook_endpoints::Entity::scoped_delete(&self.scope)
            .filter(webhook_endpoints::Column::Id.eq(id.uuid()))
            .exec(&self.tx)
            .await
            .map_err(failed("delete a webhook endpoint"))?;
        Ok(())
    }

    async fn set_awake(&mut self, id: WebhookEndpointId, awake: bool) -> Result<(), StoreError> {
        webhook_endpoints::Entity::scoped_update(&self.scope)
            .col_expr(webhook_endpoints::Column::Awake, Expr::value(awake))
            .filter(webhook_endpoints::Column::Id.eq(id.uuid()))
            .exec(&self.tx)
            .await
            .map_err(failed("note whether an endpoint is seen to"))?;
        Ok(())
    }

    async fn locked_delivery(&mut self, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
        let row = webhook_deliveries::Entity::scoped(&self.scope)
            .filter(webhook_deliveries::Column::Id.eq(id.uuid()))
            .lock(LockType::NoKeyUpdate)
            .one(&self.tx)
            .await
            .map_err(failed("read a delivery"))?;
        row.map(delivery_of).transpose()
    }

    async fn give_up_deliveries(&mut self, endpoint: WebhookEndpointId) -> Result<(), StoreError> {
        use webhook_deliveries::Column;
        let (pending, failed_state) = (DeliveryState::Pending, DeliveryState::Failed);
        webhook_deliveries::Entity::scoped_update(&self.scope)
            .col_expr(Column::State, Expr::value(failed_state.as_str()))
            .col_expr(
                Column::NextAttemptAt,
                Expr::value(Option::<chrono::DateTime<chrono::Utc>>::None),
            )
            .filter(Column::EndpointId.eq(endpoint.uuid()))
            .filter(Column::State.eq(pending.as_str()))
            .exec(&self.tx)
            .await
            .map_err(failed("give deliveries up"))?;
        Ok(())
    }

    async fn keeps_event(&mut self, seq: u64) -> Result<bool, StoreError> {
        let found = events::Entity::scoped(&self.scope)
            .filter(events::Column::Seq.eq(amount(seq)))
            .count(&self.tx)
            .await
            .map_err(failed("look for an event"))?;
        Ok(found > 0)
    }

    async fn put_delivery(&mut self, delivery: &Delivery) -> Result<(), StoreError> {
        use webhook_deliveries::Column;
        let row = webhook_deliveries::ActiveModel {
            id: Set(delivery.id.uuid()),
            endpoint_id: Set(delivery.endpoint.uuid()),
            event_seq: Set(amount(delivery.event_seq)),
            event_id: Set(delivery.event.uuid()),
            kind: Set(delivery.kind.clone()),
            state: Set(delivery.state.as_str().to_owned()),
            attempts: Set(delivery.attempts.into()),
            response_status: Set(delivery.response_status.map(i64::from)),
            error: Set(delivery.error.clone()),
            last_attempt_at: Set(delivery.last_attempt_at),
            next_attempt_at: Set(delivery.next_attempt_at),
            created_at: Set(delivery.created_at),
            ..Default::default()
        };
        let known = [Column::WorkspaceId, Column::EndpointId, Column::EventSeq];
        let changes = [
            Column::State,
            Column::Attempts,
            Column::ResponseStatus,
            Column::Error,
            Column::LastAttemptAt,
            Column::NextAttemptAt,
        ];
        webhook_deliveries::Entity::scoped_insert(&self.scope, [row])
            .on_conflict(
                OnConflict::columns(known)
                    .update_columns(changes)
                    .to_owned(),
            )
            .exec_without_returning(&self.tx)
            .await
            .map_err(failed("write a delivery"))?;
        Ok(())
    }
}

impl WriteTx {
    /// Holds the feed's head, and takes so many numbers. Answers the last one.
    async fn advance_feed(&mut self, by: usize) -> Result<u64, StoreError> {
        let by = i64::try_from(by).unwrap_or(i64::MAX);
        let values = [self.scope.workspace().uuid().into(), by.into()];
        let rows = query(&self.tx, "number events", ADVANCE, values).await?;
        let seq = rows.first().map_or(Ok(0), |row| column(row, "seq"))?;
        count("event_heads", "seq", seq)
    }

    /// Adds events to the feed, and wakes the endpoints that sleep: a job for each.
    pub(crate) async fn write_events(
        &mut self,
        happened: Vec<DomainEvent>,
    ) -> Result<Vec<Job>, StoreError> {
        const WAKE: &str = "UPDATE webhook_endpoints SET awake = $2
            WHERE workspace_id = $1 AND enabled = $2 AND awake = $3 RETURNING id";
        if happened.is_empty() {
            return Ok(Vec::new());
        }
        let last = amount(self.advance_feed(happened.len()).await?);
        let first = last - i64::try_from(happened.len()).unwrap_or(i64::MAX) + 1;
        let (env, mut rows) = (self.env(), Vec::with_capacity(happened.len()));
        let at = env.now();
        for (seq, event) in (first..).zip(happened) {
            rows.push(events::ActiveModel {
                seq: Set(seq),
                id: Set(env.uuid()),
                kind: Set(event.kind),
                subject: Set(event.subject),
                facts: Set(event.facts.to_string()),
                at: Set(at),
                ..Default::default()
            });
        }
        for chunk in rows.chunks(ROWS) {
            events::Entity::scoped_insert(&self.scope, chunk.to_vec())
                .exec_without_returning(&self.tx)
                .await
                .map_err(failed("add to the feed"))?;
        }
        let values = [
            self.scope.workspace().uuid().into(),
            true.into(),
            false.into(),
        ];
        let woken = query(&self.tx, "wake webhook endpoints", WAKE, values).await?;
        let jobs = woken.iter().map(|row| {
            Job::of(&DeliverWebhooks {
                endpoint: WebhookEndpointId::from_uuid(column(row, "id")?),
            })
        });
        jobs.collect()
    }
}
