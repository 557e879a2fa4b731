//! Connections that are lent: for one statement that reads, or for a transaction.
//!
//! The driver's pool asks every connection that comes back whether it still lives, which costs a short read as much
//! as the read itself. Nothing is left behind in a session whose answers were read to their end, so that these
//! connections are lent again without a word: only one that was left in the middle of an answer, or idle for long, is
//! asked before.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{
    self, Manager, Metrics, Object, PoolError, QueueMode, RecycleError, Timeouts,
};
use sea_orm::sqlx::postgres::{PgDatabaseError, PgSeverity};
use sea_orm::sqlx::{ConnectOptions, Connection, Error};
use sea_orm::{DbErr, RuntimeErr};
use tokio::time::timeout;

/// The longest that somebody waits for a connection, and for one to be made.
const LENT_WITHIN: Duration = Duration::from_secs(30);
/// The longest that a connection may take to say that it lives.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);
/// What stood idle for so long may have been cut off by whatever lies between.
const IDLE: Duration = Duration::from_secs(240);
/// The oldest that a connection grows: settings of a role, or an address, change.
const AGE: Duration = Duration::from_secs(1_800);

/// A bounded number of connections.
pub(crate) struct Sessions<C: Driven>(managed::Pool<Lending<C>>);

/// A connection of a driver.
pub(crate) trait Driven:
    Connection<Options: ConnectOptions<Connection = Self> + Sync> + Send + 'static
{
}

impl<C> Driven for C where
    C: Connection<Options: ConnectOptions<Connection = Self> + Sync> + Send + 'static
{
}

pub(crate) struct Lending<C: Driven> {
    options: C::Options,
}

/// A connection, and whether an answer of its was left unread.
pub(crate) struct Session<C> {
    connection: C,
    is_amid: bool,
}

/// A connection that is lent.
pub(crate) struct Lent<C: Driven>(Object<Lending<C>>);

impl<C: Driven> Manager for Lending<C> {
    type Type = Session<C>;
    type Error = Error;

    async fn create(&self) -> Result<Session<C>, Error> {
        Ok(Session {
            connection: self.options.connect().await?,
            is_amid: false,
        })
    }

    async fn recycle(
        &self,
        session: &mut Session<C>,
        metrics: &Metrics,
    ) -> managed::RecycleResult<Error> {
        if metrics.age() > AGE {
            return Err(RecycleError::message("it is old"));
        }
        if session.is_amid || metrics.last_used() > IDLE {
            match timeout(ANSWERS_WITHIN, session.connection.ping()).await {
                Ok(alive) => alive?,
                Err(_) => return Err(RecycleError::message("it does not answer")),
            }
        }
        session.is_amid = false;
        Ok(())
    }
}

impl<C: Driven> Sessions<C> {
    /// None is made before it is needed.
    pub(crate) fn new(options: C::Options, size: u32) -> Result<Self, DbErr> {
        let pool = managed::Pool::builder(Lending { options })
            .max_size(usize::try_from(size).unwrap_or(usize::MAX))
            .queue_mode(QueueMode::Lifo)
            .timeouts(Timeouts {
                wait: Some(LENT_WITHIN),
                create: Some(LENT_WITHIN),
                recycle: None,
            })
            .runtime(Runtime::Tokio1)
            .build();
        Ok(Self(pool.map_err(|e| DbErr::Custom(e.to_string()))?))
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.status().size
    }

    /// Lends one. From now on it is in the middle of an answer, until [`Lent::end`].
    pub(crate) async fn lend(&self) -> Result<Lent<C>, DbErr> {
        let lent = self.0.get().await.map_err(|error| match error {
            PoolError::Backend(error) => DbErr::Conn(RuntimeErr::SqlxError(error.into())),
            PoolError::Timeout(_) => DbErr::ConnectionAcquire(sea_orm::ConnAcquireErr::Timeout),
            error => DbErr::Custom(error.to_string()),
        });
        let mut lent = lent?;
        lent.is_amid = true;
        Ok(Lent(lent))
    }

    /// Closes all that are not lent, and lends none any more.
    pub(crate) async fn close(&self) {
        let idle = self.0.retain(|_, _| false).removed;
        self.0.close();
        for session in idle {
            // Nothing is under way in it: nothing is lost where it does not part politely.
            let _ = timeout(ANSWERS_WITHIN, session.connection.close()).await;
        }
    }
}

/// Whether a session has ended with an error. What the database says last, to a session that it ends, is an answer too:
/// to whatever is asked next.
pub(crate) fn is_over(error: &Error) -> bool {
    let Error::Database(answer) = error else {
        return true;
    };
    answer
        .try_downcast_ref::<PgDatabaseError>()
        .is_some_and(|answer| matches!(answer.severity(), PgSeverity::Fatal | PgSeverity::Panic))
}

impl<C: Driven> Lent<C> {
    /// Its answer has come to an end: lent again where that was the database's, thrown away where the session ended
    /// with it.
    pub(crate) fn end<T>(mut self, answer: &Result<T, Error>) {
        match answer {
            Err(error) if is_over(error) => self.discard(),
            Ok(_) | Err(_) => self.0.is_amid = false,
        }
    }

    /// It is closed, and lent to nobody any more.
    pub(crate) fn discard(self) {
        drop(Object::take(self.0));
    }
}

impl<C: Driven> Deref for Lent<C> {
    type Target = C;
    fn deref(&self) -> &C {
        &self.0.connection
    }
}

impl<C: Driven> DerefMut for Lent<C> {
    fn deref_mut(&mut self) -> &mut C {
        &mut self.0.connection
    }
}
