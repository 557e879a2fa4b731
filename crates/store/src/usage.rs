//! Counters, holds and thresholds.

use std::fmt::Display;

use chrono::{DateTime, Utc};
use rawdrive_plans::{Feature, Limit, Metric};
use rawdrive_tenancy_core::id::{HoldId, TypedId};
use rawdrive_tenancy_core::{Actor, StoreError};
use rawdrive_usage::{
    Charge, Counted, Edges, Hold, HoldPurpose, HoldState, LedgerLine, QuotaKey, QuotaRow, Refused,
    UsageTx,
};
use sea_orm::sea_query::{Expr, LockBehavior, LockType};
use sea_orm::{
    ColumnTrait, ConnectionTrait, QueryFilter, QueryOrder, QuerySelect, Select, Set, Value,
};

use crate::entity::{hold_charges, holds, quotas, threshold_episodes};
use crate::scope::{Tenant, amount, column, corrupt, count, execute, failed, query};
use crate::store::{Reader, WriteTx};

// The row is made by the first take; `WHERE $6 <= $7` keeps that one within the limit as well.
// Every statement that changes a counter notes when, for the republisher, and answers what it made of it, for the
// cache.
const RESERVE: &str = "INSERT INTO quotas (workspace_id, metric, subject, period_start, used, reserved, fired, version, changed_at)
    SELECT $1, $2, $3, $4, 0, $5, 0, 1, $7 WHERE $5 <= $6
    ON CONFLICT (workspace_id, metric, subject, period_start) DO UPDATE
    SET reserved = quotas.reserved + $5, version = quotas.version + 1, changed_at = $7
    WHERE $5 <= $6 - quotas.used - quotas.reserved
    RETURNING version, used, reserved";

const APPLY: &str =
    "UPDATE quotas SET reserved = reserved - $5, used = used + $6, version = version + 1, changed_at = $8
    WHERE workspace_id = $1 AND metric = $2 AND subject = $3 AND period_start = $4
      AND ($6 <= 0 OR $6 <= $7 - used)
    RETURNING version, used, reserved, fired";

// Writes nothing new into a row that is there: its lock is what is wanted.
const LOCK: &str = "INSERT INTO quotas (workspace_id, metric, subject, period_start, used, reserved, fired, version)
    VALUES ($1, $2, $3, $4, 0, 0, 0, 1)
    ON CONFLICT (workspace_id, metric, subject, period_start) DO UPDATE SET fired = quotas.fired
    RETURNING used, reserved, fired";

const MOVE_HELD: &str = "UPDATE hold_charges SET period_start = $5
    WHERE workspace_id = $1 AND metric = $2 AND subject = $3 AND period_start = $4
      AND hold_id IN (SELECT id FROM holds WHERE workspace_id = $1 AND state = 'held')
    RETURNING amount";

// What a hold did not hold so far it holds from now on.
const GROW: &str =
    "INSERT INTO hold_charges (workspace_id, hold_id, metric, subject, period_start, amount)
    VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (workspace_id, hold_id, metric, subject, period_start) DO UPDATE
    SET amount = hold_charges.amount + $6";

fn key_values(scope: &rawdrive_tenancy_core::WorkspaceScope, key: &QuotaKey) -> [Value; 4] {
    [
        scope.workspace().uuid().into(),
        key.metric.as_str().into(),
        key.subject.as_str().into(),
        key.period_start.into(),
    ]
}

fn bound(limit: Limit) -> i64 {
    limit.bound().map_or(i64::MAX, amount)
}

fn row_of(used: i64, reserved: i64, fired: i64) -> Result<QuotaRow, StoreError> {
    let fired = u8::try_from(fired).map_err(|e| corrupt("quotas", "fired", fired, e))?;
    Ok(QuotaRow {
        used: count("quotas", "used", used)?,
        reserved: count("quotas", "reserved", reserved)?,
        fired,
    })
}

pub(crate) fn key_of(
    metric: &str,
    subject: String,
    period_start: DateTime<Utc>,
) -> Result<QuotaKey, StoreError> {
    let metric = metric
        .parse()
        .map_err(|e| corrupt("quotas", "metric", metric, e))?;
    Ok(QuotaKey {
        metric,
        subject,
        period_start,
    })
}

fn quota_of(row: quotas::Model) -> Result<(QuotaKey, QuotaRow), StoreError> {
    Ok((
        key_of(&row.metric, row.subject, row.period_start)?,
        row_of(row.used, row.reserved, row.fired)?,
    ))
}

async fn one_quota(
    select: Select<quotas::Entity>,
    key: &QuotaKey,
    on: &impl ConnectionTrait,
) -> Result<QuotaRow, StoreError> {
    let row = select
        .filter(quotas::Column::Metric.eq(key.metric.as_str()))
        .filter(quotas::Column::Subject.eq(key.subject.as_str()))
        .filter(quotas::Column::PeriodStart.eq(key.period_start))
        .one(on)
        .await
        .map_err(failed("read a quota"))?;
    row.map_or(Ok(QuotaRow::default()), |row| {
        row_of(row.used, row.reserved, row.fired)
    })
}

impl UsageTx for WriteTx {
    async fn reserve(&mut self, charge: &Charge, limit: Limit) -> Result<bool, StoreError> {
        let values = key_values(&self.scope, &charge.key)
            .into_iter()
            .chain([amount(charge.amount).into(), bound(limit).into()])
            .chain([self.changed_at().into()]);
        let rows = query(&self.tx, "reserve", RESERVE, values).await?;
        let Some(row) = rows.first() else {
            return Ok(false);
        };
        self.note_changed(&charge.key, row)?;
        Ok(true)
    }

    async fn apply(
        &mut self,
        key: &QuotaKey,
        released: u64,
        delta: i64,
        limit: Limit,
    ) -> Result<Option<QuotaRow>, StoreError> {
        let values = key_values(&self.scope, key).into_iter().chain([
            amount(released).into(),
            delta.into(),
            bound(limit).into(),
            self.changed_at().into(),
        ]);
        let rows = query(&self.tx, "apply to a quota", APPLY, values).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        self.note_changed(key, row)?;
        row_of(
            column(row, "used")?,
            column(row, "reserved")?,
            column(row, "fired")?,
        )
        .map(Some)
    }

    async fn quota(&mut self, key: &QuotaKey) -> Result<QuotaRow, StoreError> {
        let select = quotas::Entity::scoped(&self.scope).lock(LockType::NoKeyUpdate);
        one_quota(select, key, &self.tx).await
    }

    async fn begin_attempt(&mut self) -> Result<(), StoreError> {
        self.attempt = self.pending.mark();
        self.tx.mark().await.map_err(failed("begin an attempt"))
    }

    async fn undo_attempt(&mut self) -> Result<(), StoreError> {
        self.pending.undo(self.attempt);
        self.tx.rewind().await.map_err(failed("undo an attempt"))
    }

    async fn lock(&mut self, key: &QuotaKey) -> Result<QuotaRow, StoreError> {
        let rows = query(&self.tx, "lock a quota", LOCK, key_values(&self.scope, key)).await?;
        let row = rows
            .first()
            .ok_or_else(|| corrupt("quotas", "used", &key.metric, "was locked and is not there"))?;
        row_of(
            column(row, "used")?,
            column(row, "reserved")?,
            column(row, "fired")?,
        )
    }

    async fn move_held(&mut self, from: &QuotaKey, to: &QuotaKey) -> Result<(), StoreError> {
        let values = key_values(&self.scope, from)
            .into_iter()
            .chain([to.period_start.into()]);
        let mut moved = 0;
        for row in query(&self.tx, "move what is held", MOVE_HELD, values).await? {
            moved += count("hold_charges", "amount", column(&row, "amount")?)?;
        }
        if moved > 0 {
            self.apply(from, moved, 0, Limit::Unlimited).await?;
            let charge = Charge {
                key: to.clone(),
                amount: moved,
            };
            self.reserve(&charge, Limit::Unlimited).await?;
        }
        Ok(())
    }

    async fn quotas(&mut self) -> Result<Vec<(QuotaKey, QuotaRow)>, StoreError> {
        let rows = quotas::Entity::scoped(&self.scope)
            .order_by_asc(quotas::Column::Metric)
            .order_by_asc(quotas::Column::Subject)
            .order_by_asc(quotas::Column::PeriodStart)
            .lock(LockType::NoKeyUpdate)
            .all(&self.tx)
            .await
            .map_err(failed("read quotas"))?;
        rows.into_iter().map(quota_of).collect()
    }

    async fn insert_holds(
        &mut self,
        holds: &[Hold],
        expires_at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let created_at = self.env().now();
        let rows = holds.iter().map(|hold| holds::ActiveModel {
            id: Set(hold.id.uuid()),
            state: Set(HoldState::Held.as_str().to_owned()),
            purpose: Set(hold.purpose.name().to_owned()),
            cleanup: Set(hold.purpose.cleanup().map(str::to_owned)),
            expires_at: Set(expires_at),
            created_at: Set(created_at),
            ..Default::default()
        });
        let insert = holds::Entity::scoped_insert(&self.scope, rows);
        insert
            .exec_without_returning(&self.tx)
            .await
            .map_err(failed("insert holds"))?;
        let charges = holds.iter().flat_map(|hold| {
            let of_hold = |charge: &Charge| hold_charges::ActiveModel {
                hold_id: Set(hold.id.uuid()),
                metric: Set(charge.key.metric.to_string()),
                subject: Set(charge.key.subject.clone()),
                period_start: Set(charge.key.period_start),
                amount: Set(amount(charge.amount)),
                ..Default::default()
            };
            hold.charges.iter().map(of_hold)
        });
        let insert = hold_charges::Entity::scoped_insert(&self.scope, charges);
        insert
            .exec_without_returning(&self.tx)
            .await
            .map_err(failed("insert holds"))?;
        Ok(())
    }

    async fn held(&mut self, id: HoldId) -> Result<Option<Hold>, StoreError> {
        let held = holds::Entity::scoped(&self.scope)
            .filter(holds::Column::Id.eq(id.uuid()))
            .filter(holds::Column::State.eq(HoldState::Held.as_str()))
            .lock(LockType::NoKeyUpdate)
            .one(&self.tx)
            .await
            .map_err(failed("read a hold"))?;
        let Some(held) = held else {
            return Ok(None);
        };
        let purpose = HoldPurpose::stored(held.purpose, held.cleanup);
        let rows = hold_charges::Entity::scoped(&self.scope)
            .filter(hold_charges::Column::HoldId.eq(id.uuid()))
            .all(&self.tx)
            .await
            .map_err(failed("read a hold"))?;
        let mut charges = rows
            .into_iter()
            .map(|row| {
                let amount = count("hold_charges", "amount", row.amount)?;
                Ok(Charge {
                    key: key_of(&row.metric, row.subject, row.period_start)?,
                    amount,
                })
            })
            .collect::<Result<Vec<_>, StoreError>>()?;
        charges.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Some(Hold {
            id,
            purpose,
            charges,
        }))
    }

    async fn grow_hold(
        &mut self,
        id: HoldId,
        more: Option<&Charge>,
        expires_at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let moved = holds::Entity::scoped_update(&self.scope)
            .col_expr(holds::Column::ExpiresAt, Expr::value(expires_at))
            .filter(holds::Column::Id.eq(id.uuid()))
            .filter(holds::Column::State.eq(HoldState::Held.as_str()))
            .exec(&self.tx)
            .await
            .map_err(failed("renew a hold"))?;
        if moved.rows_affected != 1 {
            return Ok(false);
        }
        if let Some(charge) = more {
            let [workspace, metric, subject, period_start] = key_values(&self.scope, &charge.key);
            let values = [
                workspace,
                id.uuid().into(),
                metric,
                subject,
                period_start,
                amount(charge.amount).into(),
            ];
            execute(&self.tx, "grow a hold", GROW, values).await?;
        }
        Ok(true)
    }

    async fn close_hold(&mut self, id: HoldId, state: HoldState) -> Result<bool, StoreError> {
        let closed = holds::Entity::scoped_update(&self.scope)
            .col_expr(holds::Column::State, Expr::value(state.as_str()))
            .filter(holds::Column::Id.eq(id.uuid()))
            .filter(holds::Column::State.eq(HoldState::Held.as_str()))
            .exec(&self.tx)
            .await
            .map_err(failed("close a hold"))?;
        Ok(closed.rows_affected == 1)
    }

    async fn overdue(&mut self, lease_now: DateTime<Utc>) -> Result<Vec<Hold>, StoreError> {
        let rows = holds::Entity::scoped(&self.scope)
            .filter(holds::Column::State.eq(HoldState::Held.as_str()))
            .filter(holds::Column::ExpiresAt.lte(lease_now))
            .order_by_asc(holds::Column::Id)
            .limit(1000)
            .lock_with_behavior(LockType::NoKeyUpdate, LockBehavior::SkipLocked)
            .all(&self.tx)
            .await
            .map_err(failed("read overdue holds"))?;
        let mut overdue = Vec::with_capacity(rows.len());
        for row in rows {
            overdue.extend(self.held(HoldId::from_uuid(row.id)).await?);
        }
        Ok(overdue)
    }

    fn add_line(&mut self, line: LedgerLine) {
        self.add_line_by(self.scope.actor(), line);
    }

    fn add_line_by(&mut self, actor: Actor, line: LedgerLine) {
        self.pending.lines.push((actor, line));
    }

    async fn mark_thresholds(&mut self, key: &QuotaKey, edges: &Edges) -> Result<(), StoreError> {
        let now = self.env().now();
        quotas::Entity::scoped_update(&self.scope)
            .col_expr(quotas::Column::Fired, Expr::value(i64::from(edges.fired)))
            .filter(quotas::Column::Metric.eq(key.metric.as_str()))
            .filter(quotas::Column::Subject.eq(key.subject.as_str()))
            .filter(quotas::Column::PeriodStart.eq(key.period_start))
            .exec(&self.tx)
            .await
            .map_err(failed("mark thresholds"))?;
        // Whatever is not kept has ended, also what the metric has no threshold for any more.
        let kept = edges.kept.iter().map(|t| i64::from(*t));
        threshold_episodes::Entity::scoped_update(&self.scope)
            .col_expr(threshold_episodes::Column::RearmedAt, Expr::value(now))
            .filter(threshold_episodes::Column::Metric.eq(key.metric.as_str()))
            .filter(threshold_episodes::Column::Subject.eq(key.subject.as_str()))
            .filter(threshold_episodes::Column::PeriodStart.eq(key.period_start))
            .filter(threshold_episodes::Column::Threshold.is_not_in(kept))
            .filter(threshold_episodes::Column::RearmedAt.is_null())
            .exec(&self.tx)
            .await
            .map_err(failed("rearm thresholds"))?;
        if edges.fire.is_empty() {
            return Ok(());
        }
        let rows: Vec<_> = edges
            .fire
            .iter()
            .map(|threshold| threshold_episodes::ActiveModel {
                id: Set(self.env().uuid()),
                metric: Set(key.metric.to_string()),
                subject: Set(key.subject.clone()),
                period_start: Set(key.period_start),
                threshold: Set(i64::from(*threshold)),
                fired_at: Set(now),
                rearmed_at: Set(None),
                ..Default::default()
            })
            .collect();
        let insert = threshold_episodes::Entity::scoped_insert(&self.scope, rows);
        insert
            .exec_without_returning(&self.tx)
            .await
            .map_err(failed("fire thresholds"))?;
        Ok(())
    }
}

/// Gates and counters of an embedder's own, each in one line: see [`rawdrive_usage::take`].
impl WriteTx {
    /// Refuses where the plan in force does not include the feature.
    ///
    /// # Errors
    /// [`Refused::Feature`], or the database's failure.
    pub async fn require(&mut self, feature: &Feature) -> Result<(), Refused> {
        let env = self.env().clone();
        rawdrive_usage::require(self, &env, feature).await
    }

    /// Takes units of a metric that is counted for the whole workspace, within the limit in force, and records them
    /// under the id of what was counted. They are taken exactly when this transaction is committed.
    ///
    /// # Errors
    /// As [`rawdrive_usage::take`].
    pub async fn take(
        &mut self,
        metric: &Metric,
        amount: u64,
        subject: impl Display + Send,
    ) -> Result<(), Refused> {
        let env = self.env().clone();
        let counted = Counted {
            metric,
            per: None,
            amount,
        };
        rawdrive_usage::take(self, &env, counted, subject).await
    }

    /// As [`WriteTx::take`], of a metric that is counted apart for each of its subjects (`per` in the catalogue).
    ///
    /// # Errors
    /// As [`rawdrive_usage::take`].
    pub async fn take_per(
        &mut self,
        metric: &Metric,
        per: impl Display + Send,
        amount: u64,
        subject: impl Display + Send,
    ) -> Result<(), Refused> {
        let (env, per) = (self.env().clone(), per.to_string());
        let counted = Counted {
            metric,
            per: Some(&per),
            amount,
        };
        rawdrive_usage::take(self, &env, counted, subject).await
    }

    /// Gives units of a level back, when what they were taken for is deleted.
    ///
    /// # Errors
    /// As [`rawdrive_usage::give_back`].
    pub async fn give_back(
        &mut self,
        metric: &Metric,
        amount: u64,
        subject: impl Display + Send,
    ) -> Result<(), Refused> {
        let env = self.env().clone();
        let counted = Counted {
            metric,
            per: None,
            amount,
        };
        rawdrive_usage::give_back(self, &env, counted, subject).await
    }

    /// As [`WriteTx::give_back`], of a metric that is counted apart for each of its subjects.
    ///
    /// # Errors
    /// As [`rawdrive_usage::give_back`].
    pub async fn give_back_per(
        &mut self,
        metric: &Metric,
        per: impl Display + Send,
        amount: u64,
        subject: impl Display + Send,
    ) -> Result<(), Refused> {
        let (env, per) = (self.env().clone(), per.to_string());
        let counted = Counted {
            metric,
            per: Some(&per),
            amount,
        };
        rawdrive_usage::give_back(self, &env, counted, subject).await
    }
}

impl Reader {
    /// One counter; zero when there is no row.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn quota(&self, key: &QuotaKey) -> Result<QuotaRow, StoreError> {
        one_quota(quotas::Entity::scoped(&self.scope), key, self.db()).await
    }

    /// The workspace's own counters (those without a subject).
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn workspace_quotas(&self) -> Result<Vec<(QuotaKey, QuotaRow)>, StoreError> {
        let rows = quotas::Entity::scoped(&self.scope)
            .filter(quotas::Column::Subject.eq(""))
            .all(self.db())
            .await
            .map_err(failed("read quotas"))?;
        rows.into_iter().map(quota_of).collect()
    }
}
