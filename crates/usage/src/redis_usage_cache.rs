//! The cache in Redis: a hash for each period of a workspace, a field for each counter.
//!
//! | key | fields |
//! | --- | --- |
//! | `usage:{ws_…}:<period start>` (levels: the epoch) | `<metric>` or `<metric>/<subject>`: version, used, reserved |
//! | the same | `@whole`: the `run_id` of the instance in which it was filled |
//! | `usage:{mirror}:covered` | until when everything is published, and the instance's `run_id` |
//!
//! Invariant: what is read is read together with the instance that holds it, in one script: a `run_id` lives and
//! ends with its process, so that nothing out of a dump passes for what was published to this one.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{LazyLock, PoisonError, RwLock};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use deadpool_redis::redis::{RedisError, Script, Value, cmd};
use futures_util::FutureExt as _;
use futures_util::future::try_join_all;
use rawdrive_tenancy_core::id::WorkspaceId;
use tokio::time::timeout;

use crate::QuotaKey;
use crate::redis_link::RedisLink;
use crate::redis_url::RedisUrl;
use crate::usage_cache::{
    CACHE_DAYS, CACHE_MAX, CACHE_PATIENCE, LiveRow, UsageCache, UsageCacheCondition,
    UsageCacheError, UsageCacheFuture, WorkspaceRows,
};

/// How long connecting may take, name resolution, TLS and discovery included.
const CONNECT_WITHIN: Duration = Duration::from_secs(4);
/// As the above, of one server among several.
const CONNECT_ONE_WITHIN: Duration = Duration::from_secs(2);
/// Where it is noted until when everything is published.
const COVERED: &str = "usage:{mirror}:covered";

/// KEYS: hashes of one workspace. ARGV: seconds to keep, the largest number, 1 to mark the hashes as whole, then
/// for each row the number of its key, field, version, used, reserved. Everything is read and checked before the
/// first write, since a script that breaks off keeps what it has written.
const PUBLISH: &str = r"
local keep, most = tonumber(ARGV[1]), tonumber(ARGV[2])
if not keep or keep < 1 or not most or (#ARGV - 3) % 5 ~= 0 then
  return redis.error_reply('ERR arguments of publish')
end
local function number(text)
  local value = #text <= 16 and string.match(text, '^%d+$') and tonumber(text)
  return value and value <= most and value
end
local run
if ARGV[3] == '1' then
  run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
  if not run then return redis.error_reply('ERR the server does not tell its run_id') end
end
local newer = {}
for i = 4, #ARGV, 5 do
  local key, version = KEYS[tonumber(ARGV[i])], number(ARGV[i + 2])
  if not key or not version or not number(ARGV[i + 3]) or not number(ARGV[i + 4]) then
    return redis.error_reply('ERR row of publish')
  end
  local held = redis.call('HGET', key, ARGV[i + 1])
  local known = held and number(string.match(held, '^%d+') or '')
  if not known or known < version then newer[#newer + 1] = i end
end
for _, key in ipairs(KEYS) do
  local kind = redis.call('TYPE', key).ok
  if kind ~= 'hash' and kind ~= 'none' then
    return redis.error_reply('WRONGTYPE of a hash of usage')
  end
end
for _, i in ipairs(newer) do
  redis.call('HSET', KEYS[tonumber(ARGV[i])], ARGV[i + 1], ARGV[i + 2] .. ' ' .. ARGV[i + 3] .. ' ' .. ARGV[i + 4])
end
for _, key in ipairs(KEYS) do
  if run then redis.call('HSET', key, '@whole', run) end
  redis.call('EXPIRE', key, keep)
end
return #newer";

/// KEYS: hashes of one workspace. ARGV: for each of them how many fields are wanted, and these. Answers their
/// values in that order; nothing unless all hashes are whole in this instance.
const READ: &str = r"
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local values, at = {}, 1
for _, key in ipairs(KEYS) do
  local fields = {'@whole'}
  for i = 1, tonumber(ARGV[at]) do fields[i + 1] = ARGV[at + i] end
  at = at + #fields
  local held = redis.call('HMGET', key, unpack(fields))
  if not run or held[1] ~= run then return false end
  for i = 2, #fields do values[#values + 1] = held[i] end
end
return values";

/// ARGV: a time to note, in milliseconds, and seconds to keep it; or nothing, to be told the one that is noted.
const COVER: &str = r"
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
if not run then return redis.error_reply('ERR the server does not tell its run_id') end
if #ARGV == 0 then
  local noted = redis.call('HMGET', KEYS[1], 'run_id', 'until')
  if noted[1] ~= run then return false end
  return noted[2]
end
redis.call('HSET', KEYS[1], 'run_id', run, 'until', ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
return ARGV[1]";

const INSPECT: &str = r"return {redis.call('INFO', 'memory'), redis.call('INFO', 'persistence')}";

struct Scripts {
    publish: Script,
    read: Script,
    cover: Script,
    inspect: Script,
}

static SCRIPTS: LazyLock<Scripts> = LazyLock::new(|| Scripts {
    publish: Script::new(PUBLISH),
    read: Script::new(READ),
    cover: Script::new(COVER),
    inspect: Script::new(INSPECT),
});

/// Caches usage in Redis 5 or later: one server, one that sentinels tell of, or a cluster.
pub struct RedisUsageCache {
    url: RedisUrl,
    link: RwLock<Option<RedisLink>>,
}

impl fmt::Debug for RedisUsageCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisUsageCache")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl RedisUsageCache {
    /// A cache that is not connected yet.
    #[must_use]
    pub const fn new(url: RedisUrl) -> Self {
        Self {
            url,
            link: RwLock::new(None),
        }
    }

    fn link(&self) -> Result<RedisLink, UsageCacheError> {
        let link = self.link.read().unwrap_or_else(PoisonError::into_inner);
        link.clone().ok_or(UsageCacheError::NotConnected)
    }

    fn set_link(&self, link: Option<RedisLink>) {
        *self.link.write().unwrap_or_else(PoisonError::into_inner) = link;
    }

    async fn open(&self) -> Result<RedisLink, RedisError> {
        self.url.link(CONNECT_ONE_WITHIN, CACHE_PATIENCE).await
    }

    async fn write(
        &self,
        workspace: WorkspaceId,
        periods: &[DateTime<Utc>],
        rows: &[LiveRow],
        whole: bool,
    ) -> Result<(), UsageCacheError> {
        // A key for each period: those that are named, and those of the rows.
        let mut keys: Vec<_> = periods.to_vec();
        keys.extend(rows.iter().map(|row| row.key.period_start));
        keys.sort_unstable();
        keys.dedup();
        let mut call = SCRIPTS.publish.prepare_invoke();
        for period in &keys {
            call.key(hash(workspace, *period));
        }
        call.arg(CACHE_DAYS * 86_400)
            .arg(CACHE_MAX)
            .arg(u8::from(whole));
        for row in rows {
            let key = keys.partition_point(|period| *period < row.key.period_start);
            call.arg(key + 1).arg(field(&row.key));
            call.arg(row.version).arg(row.used).arg(row.reserved);
        }
        let mut link = self.link()?;
        match call.invoke_async::<u64>(&mut link).await {
            Ok(_) => Ok(()),
            // Somebody keeps something else under our name: what is there counts nothing.
            Err(error) if error.code() == Some("WRONGTYPE") => {
                self.delete(workspace, &keys).await?;
                let again = call.invoke_async::<u64>(&mut link).await;
                again.map(drop).map_err(failed("publish to"))
            }
            Err(error) => Err(failed("publish to")(error)),
        }
    }

    async fn delete(
        &self,
        workspace: WorkspaceId,
        periods: &[DateTime<Utc>],
    ) -> Result<(), UsageCacheError> {
        if periods.is_empty() {
            return Ok(());
        }
        let mut delete = cmd("DEL");
        for period in periods {
            delete.arg(hash(workspace, *period));
        }
        let deleted = delete.query_async::<u64>(&mut self.link()?).await;
        deleted.map(drop).map_err(failed("forget in"))
    }
}

impl UsageCache for RedisUsageCache {
    fn connect(&self) -> UsageCacheFuture<'_, ()> {
        async move {
            self.set_link(None);
            let opened = timeout(CONNECT_WITHIN, self.open()).await;
            let opened = opened.map_err(|_| UsageCacheError::TooLate(CONNECT_WITHIN))?;
            self.set_link(Some(opened.map_err(failed("reach"))?));
            Ok(())
        }
        .boxed()
    }

    fn publish<'a>(&'a self, rows: &'a [WorkspaceRows]) -> UsageCacheFuture<'a, ()> {
        async move {
            // At once, and so in one write to the socket: a workspace's keys are one script's, which a cluster
            // asks for.
            let calls = rows.iter().filter(|(_, rows)| !rows.is_empty());
            let calls = calls.map(|(workspace, rows)| self.write(*workspace, &[], rows, false));
            try_join_all(calls).await.map(drop)
        }
        .boxed()
    }

    fn fill<'a>(
        &'a self,
        workspace: WorkspaceId,
        periods: &'a [DateTime<Utc>],
        rows: &'a [LiveRow],
    ) -> UsageCacheFuture<'a, ()> {
        self.write(workspace, periods, rows, true).boxed()
    }

    fn read<'a>(
        &'a self,
        workspace: WorkspaceId,
        keys: &'a [QuotaKey],
    ) -> UsageCacheFuture<'a, Option<Vec<LiveRow>>> {
        async move {
            if keys.is_empty() {
                return Ok(Some(Vec::new()));
            }
            let mut by_period: BTreeMap<DateTime<Utc>, Vec<usize>> = BTreeMap::new();
            for (at, key) in keys.iter().enumerate() {
                by_period.entry(key.period_start).or_default().push(at);
            }
            let mut call = SCRIPTS.read.prepare_invoke();
            for (period, wanted) in &by_period {
                call.key(hash(workspace, *period)).arg(wanted.len());
                for at in wanted {
                    call.arg(field(&keys[*at]));
                }
            }
            let answer = call.invoke_async(&mut self.link()?).await;
            let answer: Option<Vec<Option<String>>> = answer.map_err(failed("read"))?;
            let Some(values) = answer else {
                return Ok(None);
            };
            let mut rows: Vec<Option<LiveRow>> = vec![None; keys.len()];
            for (at, value) in by_period.values().flatten().zip(values) {
                let key = keys[*at].clone();
                rows[*at] = match value {
                    None => Some(LiveRow::untouched(key)),
                    Some(value) => row_of(key, &value),
                };
            }
            // One that cannot be read is not held.
            Ok(rows.into_iter().collect())
        }
        .boxed()
    }

    fn forget<'a>(
        &'a self,
        workspace: WorkspaceId,
        periods: &'a [DateTime<Utc>],
    ) -> UsageCacheFuture<'a, ()> {
        self.delete(workspace, periods).boxed()
    }

    fn covered(&self) -> UsageCacheFuture<'_, Option<DateTime<Utc>>> {
        async move {
            let call = SCRIPTS.cover.key(COVERED);
            let noted = call.invoke_async(&mut self.link()?).await;
            let noted: Option<i64> = noted.map_err(failed("read"))?;
            Ok(noted.and_then(DateTime::from_timestamp_millis))
        }
        .boxed()
    }

    fn cover(&self, until: DateTime<Utc>) -> UsageCacheFuture<'_, ()> {
        async move {
            let mut call = SCRIPTS.cover.key(COVERED);
            call.arg(until.timestamp_millis()).arg(CACHE_DAYS * 86_400);
            let noted = call.invoke_async::<Value>(&mut self.link()?).await;
            noted.map(drop).map_err(failed("publish to"))
        }
        .boxed()
    }

    fn inspect(&self) -> UsageCacheFuture<'_, UsageCacheCondition> {
        async move {
            let mut link = self.link()?;
            let told = SCRIPTS.inspect.key(COVERED).invoke_async(&mut link).await;
            let (memory, persistence): (String, String) = told.map_err(failed("inspect"))?;
            let append_only = line_of(&persistence, "aof_enabled").map(|on| on == "1");
            // Many servers keep their configuration to themselves: then nothing is known of save points.
            let saves = match link.one() {
                None => None,
                Some(link) => {
                    let mut get = cmd("CONFIG");
                    let saves = get.arg("GET").arg("save").query_async(link).await;
                    saves
                        .ok()
                        .map(|(_, saves): (String, String)| !saves.is_empty())
                }
            };
            Ok(UsageCacheCondition {
                eviction: line_of(&memory, "maxmemory_policy").map(str::to_owned),
                persistent: match (append_only, saves) {
                    (Some(true), _) | (_, Some(true)) => Some(true),
                    (Some(false), Some(false)) => Some(false),
                    _ => None,
                },
            })
        }
        .boxed()
    }
}

/// The braces are the cluster's hash tag: a workspace's keys lie together.
fn hash(workspace: WorkspaceId, period: DateTime<Utc>) -> String {
    let start = period.to_rfc3339_opts(SecondsFormat::AutoSi, true);
    format!("usage:{{{workspace}}}:{start}")
}

fn field(key: &QuotaKey) -> String {
    if key.subject.is_empty() {
        key.metric.to_string()
    } else {
        format!("{}/{}", key.metric, key.subject)
    }
}

fn row_of(key: QuotaKey, value: &str) -> Option<LiveRow> {
    let mut numbers = value.split(' ').map(str::parse);
    let mut next = || numbers.next()?.ok();
    let row = LiveRow {
        key,
        version: next()?,
        used: next()?,
        reserved: next()?,
    };
    numbers.next().is_none().then_some(row)
}

/// A line `name:value` of the server's report.
fn line_of<'a>(report: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = report.lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

fn failed(operation: &'static str) -> impl Fn(RedisError) -> UsageCacheError {
    move |error| UsageCacheError::Failed {
        operation,
        source: Box::new(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rawdrive_plans::Metric;
    use rawdrive_tenancy_core::id::TypedId as _;

    #[test]
    fn a_key_names_its_workspace_whole_and_in_braces() {
        let workspace =
            WorkspaceId::from_uuid("0199f3a2-7b1c-7000-8000-000000000001".parse().unwrap());
        assert_eq!(
            hash(workspace, DateTime::UNIX_EPOCH),
            "usage:{ws_0199f3a27b1c70008000000000000001}:1970-01-01T00:00:00Z"
        );
        let key = QuotaKey::level(Metric::new("storage_bytes"));
        assert_eq!(field(&key), "storage_bytes");
        let key = QuotaKey::level_of(Metric::new("pages"), "fol_1");
        assert_eq!(field(&key), "pages/fol_1");
    }

    #[test]
    fn a_value_is_three_numbers_and_nothing_else() {
        let key = QuotaKey::level(Metric::new("storage_bytes"));
        let row = row_of(key.clone(), "3 20 1").unwrap();
        assert_eq!((row.version, row.used, row.reserved), (3, 20, 1));
        for text in ["", "1", "1 2", "1 2 3 4", "1 2 -3", "a b c", "1  2 3"] {
            assert_eq!(row_of(key.clone(), text), None, "{text:?}");
        }
    }

    #[test]
    fn a_report_is_read_by_whole_names() {
        let report = "# Memory\r\nmaxmemory_policy_x:1\r\nmaxmemory_policy:allkeys-lru\r\n";
        assert_eq!(line_of(report, "maxmemory_policy"), Some("allkeys-lru"));
        assert_eq!(line_of(report, "policy"), None);
    }
}
