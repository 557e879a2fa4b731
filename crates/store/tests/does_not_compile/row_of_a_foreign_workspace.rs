//! A row names no workspace, so none can be smuggled in with it.

use rawdrive_gallery::Library;
use rawdrive_tenancy_core::id::WorkspaceId;

fn attempt(library: Library, theirs: WorkspaceId) -> Library {
    Library {
        workspace: theirs, //~ E0560
        //+ version: 2,
        ..library
    }
}

fn main() {}
