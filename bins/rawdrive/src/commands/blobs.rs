//! Which blobs are this database's: known by a mark that both keep.
//!
//! Invariant: no server deletes, and no command judges, blobs of which it is not known that they are this database's.

use std::io::{self, Write};

use rawdrive_gallery::sql::{blob_mark, know_blob_mark, some_photos};
use rawdrive_gallery::{BlobError, BlobMark, Blobs};
use rawdrive_store::Store;
use rawdrive_tenancy_core::StoreError;
use rawdrive_tenancy_core::id::TypedId as _;
use serde_json::json;

use super::doctor::doctor_scope;

/// How many photos are looked for before a store is taken for this database's, and at most how many of one workspace.
const SAMPLE: usize = 64;
const SAMPLE_OF_ONE: u32 = 8;
/// How many workspaces are asked for photos at most: a new installation has none in any.
const SAMPLED_WORKSPACES: usize = 4_096;

/// Why blobs are not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BlobsError {
    /// They are not those that the database knows.
    #[error(
        "{place} does not hold this database's photos: it carries {}, and the database knows its photos by the mark \
         {expected}. All servers of one database share one directory of photos: let RAWDRIVE_DATA_DIR (or BLOB_URL) \
         name the one whose `rawdrive-blobs.mark` begins with {expected}. If {place} is to hold them from now on, as \
         after a restore from a backup, run `rawdrive blobs adopt` with the same configuration once, and start again",
        found.map_or_else(|| "no mark".to_owned(), |found| format!("the mark {found}"))
    )]
    Foreign {
        /// Where they lie.
        place: String,
        /// Their mark.
        found: Option<BlobMark>,
        /// The database's.
        expected: BlobMark,
    },
    /// The database's photos lie elsewhere.
    #[error(
        "{place} does not hold this database's photos: of {} that were looked for {} are there. Let RAWDRIVE_DATA_DIR \
         (or BLOB_URL) name the directory that holds them. If the others are lost, run `rawdrive blobs adopt --force` \
         with the same configuration once",
        sample.looked_for, sample.found
    )]
    Elsewhere {
        /// Where they were looked for.
        place: String,
        /// How many are there.
        sample: Sample,
    },
    /// The photos' store failed.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How many photos of some have their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) looked_for: usize,
    pub(crate) found: usize,
}

impl Sample {
    /// Looks for the bytes of some photos, of as many workspaces as possible.
    async fn take(store: &Store, blobs: &Blobs) -> Result<Self, BlobsError> {
        let snapshot = store.snapshot().await?;
        let mut workspaces = snapshot.workspaces().await?;
        // By the random end of their ids, so that old and new ones are among them.
        workspaces.sort_by_key(|workspace| {
            let mut bytes = workspace.uuid().into_bytes();
            bytes.reverse();
            bytes
        });
        let (mut looked_for, mut found) = (0, 0);
        for workspace in workspaces.into_iter().take(SAMPLED_WORKSPACES) {
            let scope = doctor_scope(workspace);
            for photo in some_photos(&snapshot, &scope, SAMPLE_OF_ONE).await? {
                let bytes = blobs.stored(&scope, &photo.to_string()).await?;
                looked_for += 1;
                found += usize::from(bytes.is_some());
            }
            if looked_for >= SAMPLE {
                break;
            }
        }
        Ok(Self { looked_for, found })
    }

    /// Whether the store can be taken for the one: a few photos may have lost their bytes, most have not.
    const fn is_convincing(self) -> bool {
        self.looked_for <= 2 * self.found
    }
}

/// What the database and the store say of each other.
pub(crate) enum Belonging {
    /// They know each other.
    Known,
    /// The database has not known any store yet.
    Unmarked,
    /// The database knows another one.
    Foreign(BlobsError),
}

/// Whether blobs are the database's. Changes nothing.
///
/// # Errors
/// The database or the photos' store does not answer.
pub(crate) async fn belonging(store: &Store, blobs: &Blobs) -> Result<Belonging, BlobsError> {
    let Some(expected) = blob_mark(store).await? else {
        return Ok(Belonging::Unmarked);
    };
    let found = blobs.mark().await?;
    if found == Some(expected) {
        return Ok(Belonging::Known);
    }
    let place = blobs.place();
    Ok(Belonging::Foreign(BlobsError::Foreign {
        place,
        found,
        expected,
    }))
}

/// Makes sure that blobs are the database's. Where it has known none yet, since it is new or of a release that knew no
/// marks, those that hold its photos become its own.
///
/// # Errors
/// See [`BlobsError`].
pub(crate) async fn claim(store: &Store, blobs: &Blobs) -> Result<(), BlobsError> {
    match belonging(store, blobs).await? {
        Belonging::Known => return Ok(()),
        Belonging::Foreign(error) => return Err(error),
        Belonging::Unmarked => {}
    }
    let sample = Sample::take(store, blobs).await?;
    if !sample.is_convincing() {
        let place = blobs.place();
        return Err(BlobsError::Elsewhere { place, sample });
    }
    // First on disk: a server that is killed in between finds its own mark when it is started again.
    let mark = BlobMark::from_uuid(store.env().uuid());
    let mark = blobs.mark_once(mark).await?;
    if know_blob_mark(store, mark).await? == mark {
        return Ok(());
    }
    // Another server of a new database was faster, elsewhere.
    match belonging(store, blobs).await? {
        Belonging::Foreign(error) => Err(error),
        Belonging::Known | Belonging::Unmarked => Ok(()),
    }
}

/// What adopting did.
#[derive(Debug)]
pub(crate) struct Adopted {
    place: String,
    mark: BlobMark,
    sample: Sample,
}

/// Makes blobs the database's own, whatever mark they carry.
///
/// # Errors
/// See [`BlobsError`]. Without `force` also where most photos that are looked for have no bytes there.
pub(crate) async fn adopt(
    store: &Store,
    blobs: &Blobs,
    force: bool,
) -> Result<Adopted, BlobsError> {
    let sample = Sample::take(store, blobs).await?;
    let place = blobs.place();
    if !force && !sample.is_convincing() {
        return Err(BlobsError::Elsewhere { place, sample });
    }
    let mark = match blob_mark(store).await? {
        Some(mark) => mark,
        None => {
            let mark = BlobMark::from_uuid(store.env().uuid());
            know_blob_mark(store, mark).await?
        }
    };
    blobs.mark_anew(mark).await?;
    Ok(Adopted {
        place,
        mark,
        sample,
    })
}

impl Adopted {
    /// Writes it as text or as one JSON object.
    ///
    /// # Errors
    /// Nobody listens any more.
    pub(crate) fn write(&self, out: &mut dyn Write, as_json: bool) -> io::Result<()> {
        let (place, mark) = (&self.place, self.mark);
        let Sample { looked_for, found } = self.sample;
        if as_json {
            let shown = json!({
                "place": place, "mark": mark.to_string(), "looked_for": looked_for, "found": found,
            });
            return writeln!(out, "{shown}");
        }
        writeln!(
            out,
            "{place} holds this database's photos from now on (mark {mark}); of {looked_for} that were looked for \
             {found} are there. `rawdrive doctor` looks for all"
        )
    }
}
