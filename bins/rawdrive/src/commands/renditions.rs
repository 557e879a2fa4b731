//! `rawdrive renditions …`: smaller copies of photos, made anew.

use std::io::{self, Write};

use rawdrive_gallery::renditions::MakeRenditions;
use rawdrive_gallery::sql::photos_to_render;
use rawdrive_store::{Release, Store};
use rawdrive_tenancy_core::Commit as _;
use rawdrive_tenancy_core::StoreError;
use rawdrive_tenancy_core::id::WorkspaceId;
use rawdrive_tenancy_core::job::JobsTx as _;
use serde_json::json;

/// So many jobs are enqueued in one transaction.
const AT_ONCE: u32 = 500;

/// Why not all renditions are made anew.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RenditionsError {
    /// The database. What was enqueued stands.
    #[error("failed to enqueue renditions")]
    Store(#[from] StoreError),
    /// Nobody listens any more.
    #[error("failed to write the answer")]
    Output(#[from] io::Error),
}

/// Enqueues a job for each photo whose renditions are to be made, and says how many.
///
/// # Errors
/// See [`RenditionsError`].
pub(crate) async fn rebuild(
    store: &Store,
    only: Option<WorkspaceId>,
    missing: bool,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<(), RenditionsError> {
    let workspaces = match only {
        Some(workspace) => vec![workspace],
        None => store.snapshot().await?.workspaces().await?,
    };
    let mut photos = 0;
    for workspace in &workspaces {
        let scope = crate::operator::operator(*workspace);
        let mut after = None;
        loop {
            let some = photos_to_render(&store.read(&scope), after, missing, AT_ONCE).await?;
            let Some(last) = some.last() else { break };
            after = Some(*last);
            let begun = store.begin_despite_read_only(&scope, Release::System);
            let mut tx = begun.await?;
            for photo in &some {
                tx.enqueue(&MakeRenditions { photo: *photo }, None)?;
            }
            tx.commit().await?;
            photos += some.len();
            if some.len() < AT_ONCE as usize {
                break;
            }
        }
    }
    if as_json {
        let said = json!({ "workspaces": workspaces.len(), "photos": photos });
        writeln!(out, "{said}")?;
    } else {
        writeln!(
            out,
            "{} workspaces: the renditions of {photos} photos will be made by running servers",
            workspaces.len()
        )?;
    }
    Ok(())
}
