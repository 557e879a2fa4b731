//! The limits as several servers count them together, in Redis: GCRA again, as one script.
//!
//! Invariant: Redis decides about limits alone, and never whether a request is served. Where it does not answer in time,
//! each server counts by itself until it does.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deadpool_redis::redis::{RedisError, Script};
use rawdrive_tenancy_core::Causes;
use rawdrive_usage::{RedisLink, RedisUrl};
use tokio::time::{Instant, timeout};

use super::buckets::{Client, Decision, Verdict, whole_seconds};
use super::class::{Allowance, RouteClass};

/// How long connecting may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// How long an answer may take: a request waits for it.
const ANSWER_WITHIN: Duration = Duration::from_millis(100);
/// How long a Redis that did not answer is left alone.
const REST: Duration = Duration::from_secs(1);

/// KEYS: a client's time. ARGV: what a request costs and what may be ahead, in microseconds. The key holds when the
/// client would have asked last if it kept to the pace, and goes when that time has come. Answers the wait, zero where
/// the request was counted, and how far the client is ahead now.
const COUNT: &str = r"
local cost, most = tonumber(ARGV[1]), tonumber(ARGV[2])
if not cost or cost < 1 or not most or most < cost then
  return redis.error_reply('ERR arguments of count')
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local due = tonumber(redis.call('GET', KEYS[1]) or '') or now
if due < now then due = now end
local ahead = due + cost - now
if ahead > most then return {ahead - most, due - now} end
redis.call('SET', KEYS[1], string.format('%.0f', due + cost), 'PX', math.ceil(ahead / 1000))
return {0, ahead}";

static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(COUNT));

/// Counts in a Redis that other servers count in too.
pub(super) struct SharedBuckets {
    url: RedisUrl,
    state: Mutex<State>,
    /// Whether it was told that Redis is away: once, until it is back.
    told: AtomicBool,
}

enum State {
    /// There is no connection, and one may be tried from then on.
    Away {
        again_at: Instant,
    },
    Connecting,
    Ready(RedisLink),
}

impl fmt::Debug for SharedBuckets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedBuckets")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl SharedBuckets {
    pub(super) fn new(url: RedisUrl) -> Arc<Self> {
        Arc::new(Self {
            url,
            state: Mutex::new(State::Connecting),
            told: AtomicBool::new(false),
        })
    }

    /// Connects, or notes that it is to be tried later.
    pub(super) async fn connect(self: Arc<Self>) {
        let opened = timeout(CONNECT_WITHIN, self.url.link(CONNECT_WITHIN, ANSWER_WITHIN)).await;
        let opened = opened
            .map_err(|_| None)
            .and_then(|opened| opened.map_err(Some));
        match opened {
            Ok(link) => {
                *self.state() = State::Ready(link);
                self.told.store(false, Ordering::Relaxed);
                tracing::info!("rate limits are counted together with other servers, in Redis");
            }
            Err(error) => self.away(error.as_ref()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn away(&self, error: Option<&RedisError>) {
        let again_at = Instant::now() + REST;
        *self.state() = State::Away { again_at };
        if self.told.swap(true, Ordering::Relaxed) {
            return;
        }
        tracing::warn!(
            error = error.map(|error| Causes(error).to_string()),
            "Redis does not answer: this server counts rate limits by itself until it does"
        );
    }

    /// The connection, if there is one. Otherwise one is tried beside the request, which does not wait for it.
    fn link(self: &Arc<Self>) -> Option<RedisLink> {
        let mut state = self.state();
        match &*state {
            State::Ready(link) => return Some(link.clone()),
            State::Connecting => return None,
            State::Away { again_at } if Instant::now() < *again_at => return None,
            State::Away { .. } => {}
        }
        *state = State::Connecting;
        tokio::spawn(Arc::clone(self).connect());
        None
    }

    /// Counts a request, unless it is one too many. Nothing where Redis does not say.
    pub(super) async fn count(
        self: &Arc<Self>,
        class: RouteClass,
        allowance: Allowance,
        client: &Client,
    ) -> Option<Decision> {
        let mut link = self.link()?;
        let window = u64::from(allowance.window_seconds.get()) * 1_000_000;
        let quota = u64::from(allowance.quota.get());
        let cost = (window / quota).max(1);
        let most = cost * quota;
        let mut call = SCRIPT.key(name(class, client));
        call.arg(cost).arg(most);
        let counted = timeout(ANSWER_WITHIN, call.invoke_async::<(u64, u64)>(&mut link)).await;
        match counted {
            Ok(Ok((wait, ahead))) => {
                let remaining = u32::try_from(most.saturating_sub(ahead) / cost);
                Some(Decision {
                    verdict: match wait {
                        0 => Verdict::Admitted,
                        wait => Verdict::Refused {
                            retry_after_seconds: whole_seconds(wait.into()),
                        },
                    },
                    remaining: if wait == 0 {
                        remaining.unwrap_or(u32::MAX)
                    } else {
                        0
                    },
                })
            }
            Ok(Err(error)) => {
                self.away(Some(&error));
                None
            }
            Err(_) => {
                self.away(None);
                None
            }
        }
    }
}

fn name(class: RouteClass, client: &Client) -> String {
    format!(
        "limit:{}:{:032x}",
        class.as_str(),
        u128::from_be_bytes(*client)
    )
}
