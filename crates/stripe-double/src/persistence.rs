//! What a double knows, kept in a file, so that one that is started again goes on where it was.
//!
//! Objects are JSON already and lie there with the double's own notes, beside what else a client could miss: the
//! answers under idempotency keys, and the webhooks that have not arrived. Faults and the log of calls belong to a
//! run. The file is written as a whole under another name and then renamed, a moment after what has changed and when
//! the double ends: whoever is killed in between loses that moment, and never the file.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::calendar::DAY;
use crate::idempotency::KeptKey;
use crate::json::Fields as _;
use crate::shared::Inner;
use crate::state::{Kind, World};
use crate::webhooks::Waiting;

/// How long a change may wait to be written.
pub(crate) const WITHIN: Duration = Duration::from_millis(250);

/// What this version writes and reads.
const FORMAT: u32 = 1;

/// How long events are told of: `GET /v1/events` goes back thirty days.
const EVENT_DAYS: i64 = 30;

/// Why a file of state cannot be gone on from.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file system refuses.
    #[error("the file system refuses")]
    Io(#[from] io::Error),
    /// It is not what a double writes.
    #[error("it holds something else")]
    Json(#[from] serde_json::Error),
    /// Another version of the double wrote it.
    #[error("it is in format {0}, and this double reads {FORMAT}")]
    Format(u32),
    /// It holds what this double has no collection for.
    #[error("it holds objects of an unknown kind, {0:?}")]
    Kind(String),
    /// It holds an object that cannot be told from others.
    #[error("it holds a {0} without an id")]
    Nameless(String),
}

/// The file's content.
#[derive(Debug, Serialize, Deserialize)]
struct Content<T> {
    format: u32,
    /// Where the double was reached.
    url: String,
    ahead: i64,
    /// By collection, oldest first.
    objects: BTreeMap<String, Vec<T>>,
    keys: Vec<KeptKey>,
    webhooks: Vec<Waiting>,
}

/// What was read.
#[derive(Debug)]
pub(crate) struct Kept(Content<Value>);

/// Reads a file; nothing where there is none.
pub(crate) fn load(path: &Path) -> Result<Option<Kept>, StateError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    #[derive(Deserialize)]
    struct Head {
        format: u32,
    }
    // By itself first: what another version wrote need not be readable.
    let Head { format } = serde_json::from_slice(&bytes)?;
    if format != FORMAT {
        return Err(StateError::Format(format));
    }
    let content: Content<Value> = serde_json::from_slice(&bytes)?;
    for (kind, objects) in &content.objects {
        if kind_named(kind).is_none() {
            return Err(StateError::Kind(kind.clone()));
        }
        if objects.iter().any(|object| object.text("id").is_empty()) {
            return Err(StateError::Nameless(kind.clone()));
        }
    }
    Ok(Some(Kept(content)))
}

fn kind_named(name: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| kind.object() == name)
}

impl Kept {
    /// Where the double was reached when it was written.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.0.url.strip_prefix("http://")?.parse().ok()
    }

    /// Puts everything back. What was due meanwhile is done at the next occasion.
    pub(crate) fn restore(self, inner: &mut Inner) {
        let Content {
            url,
            ahead,
            mut objects,
            keys,
            webhooks,
            ..
        } = self.0;
        let world = &mut inner.world;
        let forgotten = world.now - EVENT_DAYS * DAY;
        // In the order of kinds: customers, who say which clock an object lives by, come first.
        for kind in Kind::ALL {
            for mut object in objects.remove(kind.object()).unwrap_or_default() {
                if kind == Kind::Event && object.number("created") < forgotten {
                    continue;
                }
                if url != world.base_url {
                    readdress(&mut object, &url, &world.base_url);
                }
                world.insert(kind, object);
            }
        }
        inner.ahead = ahead;
        inner.keys.restore(keys);
        inner.deliveries.restore(world, webhooks);
    }
}

/// Hosted pages are where the double is now.
fn readdress(value: &mut Value, from: &str, to: &str) {
    match value {
        Value::String(text) => {
            if let Some(rest) = text.strip_prefix(from)
                && (rest.is_empty() || rest.starts_with('/'))
            {
                *text = format!("{to}{rest}");
            }
        }
        Value::Array(rows) => rows.iter_mut().for_each(|row| readdress(row, from, to)),
        Value::Object(fields) => fields
            .values_mut()
            .for_each(|field| readdress(field, from, to)),
        _ => {}
    }
}

/// The file of a running double.
#[derive(Debug)]
pub(crate) struct Keeper {
    path: PathBuf,
    /// The state that was written last, by its counters. Held while writing, so that an older state never follows a
    /// newer one.
    written: Mutex<Option<Version>>,
}

/// Counters of whatever is kept: the same ones mean the same state.
type Version = (u64, u64, u64, i64);

fn version(inner: &Inner) -> Version {
    (
        inner.world.revision(),
        inner.keys.changes(),
        inner.deliveries.changes(),
        inner.ahead,
    )
}

impl Keeper {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            written: Mutex::new(None),
        }
    }

    /// Writes the state if it is not what was written last.
    pub(crate) fn keep<'a>(
        &self,
        lock: impl FnOnce() -> MutexGuard<'a, Inner>,
    ) -> Result<(), StateError> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = lock();
        let now = version(&inner);
        if *written == Some(now) {
            return Ok(());
        }
        // Objects are shared: calls wait for a copy of the references, not for the disk.
        let (world, ahead) = (inner.world.clone(), inner.ahead);
        let (keys, webhooks) = (inner.keys.kept(), inner.deliveries.waiting());
        drop(inner);
        let content = Content {
            format: FORMAT,
            url: world.base_url.clone(),
            ahead,
            objects: objects(&world),
            keys,
            webhooks,
        };
        replace(&self.path, &serde_json::to_vec(&content)?)?;
        *written = Some(now);
        Ok(())
    }
}

fn objects(world: &World) -> BTreeMap<String, Vec<&Value>> {
    let kinds = Kind::ALL.into_iter();
    let tables = kinds.map(|kind| (kind.object().to_owned(), world.all(kind).collect()));
    tables.collect()
}

/// Puts bytes in a file's place; its owner's alone, since secrets of webhooks are in it.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    match path.parent() {
        Some(folder) if folder != Path::new("") => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

/// Makes the endpoints of the configuration what it says now, the earlier ones first, so that what they have not
/// received yet goes to where they are.
pub(crate) fn configure_endpoints(world: &mut World, wanted: &[(String, String)]) {
    let earlier = world.all(Kind::WebhookEndpoint);
    let earlier = earlier.filter(|endpoint| endpoint.flag("_configured"));
    let earlier: Vec<_> = earlier.map(|e| e.text("id").to_owned()).collect();
    for id in earlier.iter().skip(wanted.len()) {
        world.forget(id);
    }
    let mut earlier = earlier.into_iter();
    for (url, secret) in wanted {
        let id = earlier.next().unwrap_or_else(|| {
            crate::routes::new_endpoint(world, url, secret, vec!["*".to_owned()])
        });
        world.edit(&id, |endpoint| {
            endpoint["url"] = json!(url);
            endpoint["_secret"] = json!(secret);
            endpoint["_configured"] = json!(true);
        });
    }
}
