//! `rawdrive usage …`: counters made anew, counts put right, statements verified.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rawdrive_store::{Difference, Release, Store};
use rawdrive_tenancy_core::id::WorkspaceId;
use rawdrive_tenancy_core::{Commit as _, StoreError};
use rawdrive_usage::{Corrected, Flaw, Statement, hex, verify_statement, verify_succession};
use serde_json::json;

/// Why a command about usage comes to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UsageError {
    /// The database.
    #[error("failed to rebuild the counters")]
    Store(#[from] StoreError),
    /// Nobody listens any more.
    #[error("failed to write the answer")]
    Output(#[from] io::Error),
    /// A statement cannot be read.
    #[error("failed to read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A statement is not what was issued.
    #[error("{}: {flaw}", path.display())]
    Flaw {
        /// The file.
        path: PathBuf,
        /// What is wrong first.
        flaw: Flaw,
    },
}

/// Makes every counter anew, a transaction for each workspace, and says what was wrong; a dry run changes
/// nothing. Whether anything was.
///
/// # Errors
/// The database fails; the workspaces before stand.
pub(crate) async fn rebuild(
    store: &Store,
    only: Option<WorkspaceId>,
    dry_run: bool,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<bool, UsageError> {
    let workspaces = match only {
        Some(workspace) => vec![workspace],
        None => store.snapshot().await?.workspaces().await?,
    };
    let mut found = Vec::new();
    for workspace in &workspaces {
        let scope = crate::operator::operator(*workspace);
        let mut tx = store
            .begin_despite_read_only(&scope, Release::System)
            .await?;
        let differences = tx.rebuild_usage().await?;
        if !dry_run && !differences.is_empty() {
            rawdrive_usage::review(&mut tx, store.env()).await?;
            tx.commit().await?;
        }
        found.extend(differences.into_iter().map(|d| (*workspace, d)));
    }
    let differ = !found.is_empty();
    let applied = differ && !dry_run;
    if as_json {
        let differences: Vec<_> = found
            .iter()
            .map(|(workspace, d)| json!({ "workspace": workspace, "what": d.what, "of": d.of, "kept": d.kept, "right": d.right }))
            .collect();
        let said = json!({ "workspaces": workspaces.len(), "differences": differences, "applied": applied });
        writeln!(out, "{said}")?;
        return Ok(differ);
    }
    let number = |n: Option<i64>| n.map_or("nothing".to_owned(), |n| n.to_string());
    for (workspace, difference) in &found {
        let Difference {
            what,
            of,
            kept,
            right,
        } = difference;
        let (kept, right) = (number(*kept), number(*right));
        writeln!(out, "{workspace}: {what} of {of} was {kept}, is {right}")?;
    }
    let verdict = match (differ, applied) {
        (false, _) => "every counter is what the ledger and the holds come to".to_owned(),
        (true, true) => format!("{} differences put right", found.len()),
        (true, false) => format!("{} differences; nothing was changed", found.len()),
    };
    writeln!(out, "{} workspaces: {verdict}", workspaces.len())?;
    Ok(differ)
}

/// Says what was corrected.
///
/// # Errors
/// Nobody listens any more; the correction stands.
pub(crate) fn write_corrected(
    out: &mut dyn Write,
    workspace: WorkspaceId,
    corrected: &Corrected,
    as_json: bool,
) -> io::Result<()> {
    let Corrected { key, before, after } = corrected;
    if as_json {
        let said = json!({
            "workspace": workspace, "metric": key.metric, "subject": key.subject,
            "period_start": (!key.is_level()).then_some(key.period_start), "before": before, "after": after,
        });
        return writeln!(out, "{said}");
    }
    writeln!(
        out,
        "{workspace} has used {after} of {} now, {before} before",
        key.metric
    )
}

/// Verifies statements, each by itself and the months against each other.
///
/// # Errors
/// The first flaw, with its file.
pub(crate) fn verify(
    files: &[PathBuf],
    out: &mut dyn Write,
    as_json: bool,
) -> Result<(), UsageError> {
    let mut verified = files
        .iter()
        .map(|path| Ok((path.as_path(), read(path)?)))
        .collect::<Result<Vec<_>, UsageError>>()?;
    verified.sort_by_key(|(_, statement)| statement.month);
    for pair in verified.windows(2) {
        let ((_, before), (path, next)) = (&pair[0], &pair[1]);
        verify_succession(before, next).map_err(|flaw| UsageError::Flaw {
            path: path.to_path_buf(),
            flaw,
        })?;
    }
    for (path, statement) in &verified {
        let Statement {
            workspace,
            month,
            digest,
            ..
        } = statement;
        let (lines, digest) = (statement.line_count(), hex(digest));
        let status = if statement.closed { "closed" } else { "open" };
        if as_json {
            let said = json!({
                "file": path, "workspace": workspace, "month": month.to_string(), "status": status,
                "line_count": lines, "digest": digest,
            });
            writeln!(out, "{said}")?;
        } else {
            writeln!(
                out,
                "{}: {workspace} {month} ({status}), {lines} lines, whole, digest {digest}",
                path.display()
            )?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Statement, UsageError> {
    let text = std::fs::read(path).map_err(|source| UsageError::File {
        path: path.to_owned(),
        source,
    })?;
    verify_statement(&text).map_err(|flaw| UsageError::Flaw {
        path: path.to_owned(),
        flaw,
    })
}
