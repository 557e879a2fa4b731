//! Reservations of a program outside: units are set aside before work that happens elsewhere, and become usage when it
//! is done. Each is a [hold](crate::hold), so that what nobody settles, extends or deletes in time is given back by itself.

use std::future::Future;

use chrono::{DateTime, TimeDelta, Utc};
use rawdrive_tenancy_core::id::HoldId;
use rawdrive_tenancy_core::{Env, StoreError};

use crate::quota::hold_until;
use crate::{
    Charge, Exceeded, HoldPurpose, HoldState, QuotaKey, TakeError, UsageUnit, release, settle,
};

/// What such a hold is for.
pub const RESERVATION: HoldPurpose = HoldPurpose::new("reservation");
/// The longest time to live, from now on, in seconds.
pub const MAX_RESERVATION_SECONDS: u32 = 86_400;
/// The most open reservations of a workspace. Those that are made at the same moment may pass it by their number.
pub const MAX_OPEN_RESERVATIONS: u64 = 1_000;

/// A reservation. It is kept for a day after it has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// Its id.
    pub id: HoldId,
    /// The counter.
    pub key: QuotaKey,
    /// Units that are held; of a committed one, what was used.
    pub amount: u64,
    /// Where it stands in the database: see [`Reservation::state_at`].
    pub state: HoldState,
    /// When it ends by itself, in real time.
    pub expires_at: DateTime<Utc>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

impl Reservation {
    /// Where it stands at this real time: one that is past its end has expired, also before it is given back.
    #[must_use]
    pub fn state_at(&self, lease_now: DateTime<Utc>) -> HoldState {
        match self.state {
            HoldState::Held if self.expires_at <= lease_now => HoldState::Expired,
            state => state,
        }
    }
}

/// Why a reservation is not made, or not changed. Drop the transaction.
#[derive(Debug, thiserror::Error)]
pub enum ReservationError {
    /// The limit is in the way.
    #[error("the limit of {} is reached", .0.metric)]
    Exceeded(Exceeded),
    /// The workspace has as many open ones as it may have.
    #[error("{MAX_OPEN_RESERVATIONS} reservations are open: settle or delete some of them first")]
    TooMany,
    /// There is none of this id.
    #[error("there is no such reservation")]
    Unknown,
    /// It was given back, or has expired: what it held may be held by others.
    #[error("the reservation has {}", if *.0 == HoldState::Expired { "expired" } else { "been deleted" })]
    Ended(HoldState),
    /// It was settled already, with this amount.
    #[error("the reservation was settled with {0} already")]
    Settled(u64),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<TakeError> for ReservationError {
    fn from(error: TakeError) -> Self {
        match error {
            TakeError::Exceeded(exceeded) => Self::Exceeded(exceeded),
            TakeError::NotHeld => Self::Ended(HoldState::Expired),
            TakeError::Store(error) => Self::Store(error),
        }
    }
}

/// The reservations of the handle's workspace, among its holds. With it a handle has all that their use cases ask.
pub trait ReservationsTx: UsageUnit {
    /// The reservation, whatever its state; locked until the transaction ends. Holds of other purposes are none.
    fn reservation(
        &mut self,
        id: HoldId,
    ) -> impl Future<Output = Result<Option<Reservation>, StoreError>> + Send;
    /// How many are held, counted up to `most`.
    fn open_reservations(
        &mut self,
        most: u64,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;
    /// Notes what a committed one came to.
    fn note_settled(
        &mut self,
        id: HoldId,
        amount: u64,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Sets units aside for `ttl_seconds`, at most [`MAX_RESERVATION_SECONDS`].
///
/// # Errors
/// [`ReservationError::TooMany`], [`ReservationError::Exceeded`], or the database's failure.
pub async fn make_reservation(
    tx: &mut impl ReservationsTx,
    env: &Env,
    id: HoldId,
    charge: Charge,
    ttl_seconds: u32,
) -> Result<Reservation, ReservationError> {
    // In the order of locks: counting locks nothing.
    tx.entitlements().await?;
    if tx.open_reservations(MAX_OPEN_RESERVATIONS).await? >= MAX_OPEN_RESERVATIONS {
        return Err(ReservationError::TooMany);
    }
    let expires_at = expiry(env, ttl_seconds);
    hold_until(tx, env, id, RESERVATION, vec![charge], expires_at).await?;
    // As it will be read: the database's own times.
    known(tx, id).await
}

/// Turns a reservation into usage: of `amount` units, or of all that are held. Less gives the rest back; more takes the
/// rest, exactly. Settling again with the same amount changes nothing.
///
/// # Errors
/// [`ReservationError::Unknown`], [`ReservationError::Ended`], [`ReservationError::Settled`] with another amount,
/// [`ReservationError::Exceeded`] where the limit in force does not admit it: it is held still then.
pub async fn settle_reservation(
    tx: &mut impl ReservationsTx,
    env: &Env,
    id: HoldId,
    amount: Option<u64>,
) -> Result<Reservation, ReservationError> {
    // The standing before the hold, in the order of locks.
    tx.entitlements().await?;
    let reservation = known(tx, id).await?;
    match reservation.state_at(env.lease_now()) {
        HoldState::Held => {}
        HoldState::Committed if amount.is_none_or(|amount| amount == reservation.amount) => {
            return Ok(reservation);
        }
        HoldState::Committed => return Err(ReservationError::Settled(reservation.amount)),
        ended @ (HoldState::Released | HoldState::Expired) => {
            return Err(ReservationError::Ended(ended));
        }
    }
    let amount = amount.unwrap_or(reservation.amount);
    let charge = Charge {
        key: reservation.key.clone(),
        amount,
    };
    // Nothing used is no line of the ledger.
    let used = (amount > 0).then(|| (charge, id.to_string()));
    settle(tx, env, id, used.as_slice()).await?;
    tx.note_settled(id, amount).await?;
    Ok(Reservation {
        amount,
        state: HoldState::Committed,
        ..reservation
    })
}

/// Has a reservation end `ttl_seconds` from now, unless it ends later anyway.
///
/// # Errors
/// [`ReservationError::Unknown`], [`ReservationError::Ended`], [`ReservationError::Settled`], or the database's failure.
pub async fn extend_reservation(
    tx: &mut impl ReservationsTx,
    env: &Env,
    id: HoldId,
    ttl_seconds: u32,
) -> Result<Reservation, ReservationError> {
    let reservation = known(tx, id).await?;
    match reservation.state_at(env.lease_now()) {
        HoldState::Held => {}
        HoldState::Committed => return Err(ReservationError::Settled(reservation.amount)),
        ended @ (HoldState::Released | HoldState::Expired) => {
            return Err(ReservationError::Ended(ended));
        }
    }
    let expires_at = expiry(env, ttl_seconds).max(reservation.expires_at);
    if !tx.grow_hold(id, None, expires_at).await? {
        return Err(ReservationError::Ended(HoldState::Expired));
    }
    Ok(Reservation {
        expires_at,
        ..reservation
    })
}

/// Gives a reservation back. One that was given back or has expired stays so.
///
/// # Errors
/// [`ReservationError::Unknown`], [`ReservationError::Settled`]: what was used is not given back; or the database's
/// failure.
pub async fn release_reservation(
    tx: &mut impl ReservationsTx,
    id: HoldId,
) -> Result<(), ReservationError> {
    let reservation = known(tx, id).await?;
    match reservation.state {
        HoldState::Held => {
            release(tx, id).await?;
            Ok(())
        }
        HoldState::Released | HoldState::Expired => Ok(()),
        HoldState::Committed => Err(ReservationError::Settled(reservation.amount)),
    }
}

async fn known(tx: &mut impl ReservationsTx, id: HoldId) -> Result<Reservation, ReservationError> {
    let found = tx.reservation(id).await?;
    found.ok_or(ReservationError::Unknown)
}

fn expiry(env: &Env, ttl_seconds: u32) -> DateTime<Utc> {
    env.lease_now() + TimeDelta::seconds(ttl_seconds.min(MAX_RESERVATION_SECONDS).into())
}
