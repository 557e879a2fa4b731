//! The inbox: events as they arrived, and the objects that they made dirty. Global tables.

use chrono::{DateTime, TimeDelta, Utc};
use rawdrive_billing::{
    CustomerId, Dirty, Disposition, Inbox, InboxTx, Leasing, ObjectRef, ProviderEvent,
    ProviderEventId, Receipt, Waiting, WaitingFor,
};
use rawdrive_tenancy_core::StoreError;
use sea_orm::{ConnectionTrait, QueryResult};

use super::optional_id;
use crate::scope::{column, corrupt, count, execute, failed, query};
use crate::store::{Store, WriteTx};

const TABLE: &str = "billing_objects";
/// A time that is always past: nobody's lease, and due at once.
const PAST: DateTime<Utc> = DateTime::UNIX_EPOCH;

/// What can be leased; `$1` is the real time.
const DUE: &str =
    "version > settled_version AND waiting IS NULL AND retry_at <= $1 AND leased_until <= $1";

fn object_of(row: &QueryResult) -> Result<ObjectRef, StoreError> {
    let (kind, id) = (column::<String>(row, "kind")?, column::<String>(row, "id")?);
    Ok(ObjectRef {
        kind: kind.parse().map_err(|e| corrupt(TABLE, "kind", &id, e))?,
        id,
    })
}

fn dirty_of(row: &QueryResult) -> Result<Dirty, StoreError> {
    let number = |name| count(TABLE, name, column(row, name)?);
    Ok(Dirty {
        object: object_of(row)?,
        customer: optional_id(row, TABLE, "customer")?,
        version: number("version")?,
        fence: number("fence")?,
        attempts: u32::try_from(number("attempts")?).unwrap_or(u32::MAX),
    })
}

fn waiting_of(row: &QueryResult) -> Result<Waiting, StoreError> {
    let object = object_of(row)?;
    let waiting_for = match column::<String>(row, "waiting")?.as_str() {
        "customer" => WaitingFor::Customer,
        "operator" => WaitingFor::Operator {
            reason: column::<Option<String>>(row, "reason")?.unwrap_or_default(),
        },
        other => return Err(corrupt(TABLE, "waiting", &object, format!("is {other}"))),
    };
    Ok(Waiting {
        customer: optional_id(row, TABLE, "customer")?,
        object,
        waiting_for,
    })
}

/// One statement, so that no touch is lost between two.
async fn touch(
    on: &impl ConnectionTrait,
    at: DateTime<Utc>,
    object: &ObjectRef,
    customer: Option<&CustomerId>,
) -> Result<(), StoreError> {
    const TOUCH: &str = "INSERT INTO billing_objects (kind, id, customer, version, settled_version, fence, attempts,
            leased_until, retry_at, touched_at)
        VALUES ($1, $2, $3, 1, 0, 0, 0, $4, $4, $5)
        ON CONFLICT (kind, id) DO UPDATE SET version = billing_objects.version + 1,
            customer = coalesce(excluded.customer, billing_objects.customer), touched_at = excluded.touched_at,
            attempts = CASE WHEN billing_objects.waiting = 'operator' THEN 0 ELSE billing_objects.attempts END,
            retry_at = CASE WHEN billing_objects.waiting = 'operator' THEN excluded.retry_at
                ELSE billing_objects.retry_at END,
            reason = CASE WHEN billing_objects.waiting = 'operator' THEN NULL ELSE billing_objects.reason END,
            waiting = CASE WHEN billing_objects.waiting = 'operator' THEN NULL ELSE billing_objects.waiting END";
    let values = [
        object.kind.as_str().into(),
        object.id.as_str().into(),
        customer.map(ToString::to_string).into(),
        PAST.into(),
        at.into(),
    ];
    execute(on, "touch an object", TOUCH, values).await?;
    Ok(())
}

async fn settle(on: &impl ConnectionTrait, dirty: &Dirty) -> Result<bool, StoreError> {
    const SETTLE: &str =
        "UPDATE billing_objects SET settled_version = $5, attempts = 0, leased_until = $4,
            retry_at = $4, waiting = NULL, reason = NULL
        WHERE kind = $1 AND id = $2 AND fence = $3 AND leased_until > $4";
    let values = [
        dirty.object.kind.as_str().into(),
        dirty.object.id.as_str().into(),
        dirty.fence.cast_signed().into(),
        PAST.into(),
        dirty.version.cast_signed().into(),
    ];
    Ok(execute(on, "settle an object", SETTLE, values).await? == 1)
}

impl Store {
    /// Gives a leased object back; the rest of `set` begins at `$5`.
    async fn give_back(
        &self,
        operation: &'static str,
        dirty: &Dirty,
        set: &str,
        rest: impl IntoIterator<Item = sea_orm::Value>,
    ) -> Result<bool, StoreError> {
        let sql = format!(
            "UPDATE billing_objects SET leased_until = $4, {set}
             WHERE kind = $1 AND id = $2 AND fence = $3 AND leased_until > $4"
        );
        let values = [
            dirty.object.kind.as_str().into(),
            dirty.object.id.as_str().into(),
            dirty.fence.cast_signed().into(),
            PAST.into(),
        ];
        let values = values.into_iter().chain(rest);
        Ok(execute(&self.inbox_writes(), operation, &sql, values).await? == 1)
    }
}

impl Inbox for Store {
    async fn receive(
        &self,
        event: &ProviderEvent,
        disposition: &Disposition,
    ) -> Result<Receipt, StoreError> {
        const OPERATION: &str = "store an event";
        const INSERT: &str =
            "INSERT INTO billing_events (id, kind, created_at, livemode, customer, disposition,
                object_kind, object_id, payload, received_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (id) DO NOTHING";
        let envelope = &event.envelope;
        let (word, object) = match disposition {
            Disposition::Touches(object) => ("touches", Some(object)),
            Disposition::Ignored(why) => (why.as_str(), None),
        };
        let at = self.0.env.lease_now();
        let values = [
            envelope.id.as_str().into(),
            envelope.kind.as_str().into(),
            envelope.created.into(),
            envelope.livemode.into(),
            envelope.customer.as_ref().map(ToString::to_string).into(),
            word.into(),
            object.map(|object| object.kind.as_str()).into(),
            object.map(|object| object.id.as_str()).into(),
            event.payload.clone().into(),
            at.into(),
        ];
        let tx = self.begin_inbox(OPERATION).await?;
        if execute(&tx, OPERATION, INSERT, values).await? == 0 {
            return Ok(Receipt::Known);
        }
        if let Some(object) = object {
            touch(&tx, at, object, envelope.customer.as_ref()).await?;
        }
        tx.commit().await.map_err(failed(OPERATION))?;
        if object.is_some() {
            self.wake_billing();
        }
        Ok(Receipt::New)
    }

    async fn has_event(&self, event: &ProviderEventId) -> Result<bool, StoreError> {
        const ONE: &str = "SELECT 1 AS one FROM billing_events WHERE id = $1";
        let values = [event.as_str().into()];
        let rows = query(&self.inbox_reads(), "look for an event", ONE, values).await?;
        Ok(!rows.is_empty())
    }

    async fn touch(
        &self,
        object: &ObjectRef,
        customer: Option<&CustomerId>,
    ) -> Result<(), StoreError> {
        let at = self.0.env.lease_now();
        touch(&self.inbox_writes(), at, object, customer).await?;
        self.wake_billing();
        Ok(())
    }

    async fn lease_next(&self, lease: TimeDelta) -> Result<Option<Dirty>, StoreError> {
        const OPERATION: &str = "lease an object";
        let real = self.0.env.lease_now();
        // An idle worker only reads: a write would wait in the writers' queue for nothing.
        let any = format!("SELECT 1 AS one FROM billing_objects WHERE {DUE} LIMIT 1");
        let due = query(&self.inbox_reads(), OPERATION, &any, [real.into()]).await?;
        if due.is_empty() {
            return Ok(None);
        }
        // What is due is asked twice: where writers do not wait for each other by nature, another may have leased
        // the row after it was chosen.
        let sql = format!(
            "UPDATE billing_objects SET leased_until = $2, fence = fence + 1, attempts = attempts + 1
             WHERE {DUE} AND (kind, id) IN
                (SELECT kind, id FROM billing_objects WHERE {DUE} ORDER BY retry_at, touched_at, kind, id LIMIT 1)
             RETURNING kind, id, customer, version, fence, attempts"
        );
        let values = [real.into(), (real + lease).into()];
        let rows = query(&self.inbox_writes(), OPERATION, &sql, values).await?;
        rows.first().map(dirty_of).transpose()
    }

    async fn lease_object(
        &self,
        object: &ObjectRef,
        lease: TimeDelta,
    ) -> Result<Leasing, StoreError> {
        const OPERATION: &str = "lease an object";
        const LEASE: &str = "UPDATE billing_objects SET leased_until = $4, fence = fence + 1, attempts = attempts + 1
            WHERE kind = $1 AND id = $2 AND version > settled_version AND leased_until <= $3
            RETURNING kind, id, customer, version, fence, attempts";
        const DIRTY: &str = "SELECT 1 AS one FROM billing_objects
            WHERE kind = $1 AND id = $2 AND version > settled_version";
        let real = self.0.env.lease_now();
        let name = [object.kind.as_str().into(), object.id.as_str().into()];
        let times = [real.into(), (real + lease).into()];
        let values = name.clone().into_iter().chain(times);
        let rows = query(&self.inbox_writes(), OPERATION, LEASE, values).await?;
        if let Some(row) = rows.first() {
            return Ok(Leasing::Leased(dirty_of(row)?));
        }
        let rows = query(&self.inbox_reads(), OPERATION, DIRTY, name).await?;
        Ok(if rows.is_empty() {
            Leasing::Settled
        } else {
            Leasing::Held
        })
    }

    async fn close(&self, dirty: &Dirty) -> Result<bool, StoreError> {
        settle(&self.inbox_writes(), dirty).await
    }

    async fn retry(
        &self,
        dirty: &Dirty,
        after: TimeDelta,
        failure: &str,
    ) -> Result<bool, StoreError> {
        let at = self.0.env.lease_now() + after;
        let set = "retry_at = $5, reason = $6, waiting = NULL";
        let rest = [at.into(), failure.into()];
        self.give_back("retry an object", dirty, set, rest).await
    }

    async fn dead_letter(&self, dirty: &Dirty, reason: &str) -> Result<bool, StoreError> {
        let set = "waiting = 'operator', reason = $5";
        self.give_back("give an object up", dirty, set, [reason.into()])
            .await
    }

    async fn park(&self, dirty: &Dirty, customer: &CustomerId) -> Result<bool, StoreError> {
        let set = "waiting = 'customer', customer = $5, attempts = 0, retry_at = $4, reason = NULL";
        self.give_back("park an object", dirty, set, [customer.as_str().into()])
            .await
    }

    async fn unpark(&self, customer: &CustomerId) -> Result<u64, StoreError> {
        const UNPARK: &str = "UPDATE billing_objects SET waiting = NULL WHERE customer = $1 AND waiting = 'customer'";
        let values = [customer.as_str().into()];
        let freed = execute(&self.inbox_writes(), "unpark objects", UNPARK, values).await?;
        if freed > 0 {
            self.wake_billing();
        }
        Ok(freed)
    }

    async fn waiting(&self, limit: u32) -> Result<Vec<Waiting>, StoreError> {
        const WAITING: &str = "SELECT kind, id, customer, waiting, reason FROM billing_objects
            WHERE waiting IS NOT NULL ORDER BY touched_at, kind, id LIMIT $1";
        let values = [i64::from(limit).into()];
        let rows = query(&self.inbox_reads(), "list what waits", WAITING, values).await?;
        rows.iter().map(waiting_of).collect()
    }

    async fn ignored_events(
        &self,
        after: Option<&ProviderEventId>,
        limit: u32,
    ) -> Result<Vec<ProviderEvent>, StoreError> {
        const IGNORED: &str = "SELECT id, payload FROM billing_events
            WHERE disposition <> 'touches' AND id > $1 ORDER BY id LIMIT $2";
        let after = after.map_or("", ProviderEventId::as_str);
        let values = [after.into(), i64::from(limit).into()];
        let rows = query(&self.inbox_reads(), "list ignored events", IGNORED, values).await?;
        let event = |row: &QueryResult| {
            let id: String = column(row, "id")?;
            ProviderEvent::read(column(row, "payload")?)
                .map_err(|e| corrupt("billing_events", "payload", id, e))
        };
        rows.iter().map(event).collect()
    }

    async fn reconsider(
        &self,
        event: &ProviderEventId,
        object: &ObjectRef,
        customer: Option<&CustomerId>,
    ) -> Result<(), StoreError> {
        const OPERATION: &str = "reconsider an event";
        const TOUCHES: &str =
            "UPDATE billing_events SET disposition = 'touches', object_kind = $2, object_id = $3
            WHERE id = $1 AND disposition <> 'touches'";
        let values = [
            event.as_str().into(),
            object.kind.as_str().into(),
            object.id.as_str().into(),
        ];
        let tx = self.begin_inbox(OPERATION).await?;
        if execute(&tx, OPERATION, TOUCHES, values).await? == 0 {
            return Ok(());
        }
        touch(&tx, self.0.env.lease_now(), object, customer).await?;
        tx.commit().await.map_err(failed(OPERATION))?;
        self.wake_billing();
        Ok(())
    }
}

impl InboxTx for WriteTx {
    async fn settle(&mut self, dirty: &Dirty) -> Result<bool, StoreError> {
        settle(&self.tx, dirty).await
    }

    async fn touch(
        &mut self,
        object: &ObjectRef,
        customer: Option<&CustomerId>,
    ) -> Result<(), StoreError> {
        touch(&self.tx, self.env().lease_now(), object, customer).await?;
        self.wakes_billing = true;
        Ok(())
    }
}
