//! The steps to a first delivery, beside the core's, and what of the rows the core looks at for the product.

use rawdrive_onboarding::{PROFILE, Step};

use crate::CUSTOM_BRANDING;

/// Branding was saved.
pub const BRANDING_SAVED: &str = "branding_saved";
/// A library exists.
pub const LIBRARY_MADE: &str = "library_made";
/// A client has been invited, by a link that holds.
pub const CLIENT_INVITED: &str = "client_invited";

/// All steps, in their order.
pub const STEPS: [Step; 4] = [
    PROFILE,
    Step {
        id: "branding",
        title: "Make galleries look like yours",
        needs: Some(CUSTOM_BRANDING),
        done: |facts| facts.hold(BRANDING_SAVED),
    },
    Step {
        id: "first_library",
        title: "Create a library",
        needs: None,
        done: |facts| facts.hold(LIBRARY_MADE),
    },
    Step {
        id: "invite_client",
        title: "Invite a client",
        needs: None,
        done: |facts| facts.hold(CLIENT_INVITED),
    },
];

/// Where each fact is to be seen, `$1` being the workspace.
pub const FACTS: &[(&str, &str)] = &[
    (
        BRANDING_SAVED,
        "SELECT 1 FROM branding WHERE workspace_id = $1",
    ),
    (
        LIBRARY_MADE,
        "SELECT 1 FROM libraries WHERE workspace_id = $1",
    ),
    (
        CLIENT_INVITED,
        "SELECT 1 FROM client_links WHERE workspace_id = $1",
    ),
];

/// Invariants that `doctor` looks at: a row for each violation in the workspace `$1`.
pub const CHECKS: &[(&str, &str)] = &[
    (
        "storage_equals_photos",
        "SELECT 'used ' || q.used || ', photos hold ' || q.bytes AS detail FROM (SELECT
            coalesce((SELECT used FROM quotas WHERE workspace_id = $1 AND metric = 'storage_bytes'), 0) AS used,
            coalesce((SELECT sum(size_bytes) FROM photos WHERE workspace_id = $1), 0) AS bytes) q
         WHERE q.used <> q.bytes",
    ),
    (
        "photos_used_equals_rows",
        "SELECT q.photos || ' photos in galleries that count ' || q.used AS detail FROM (SELECT
            coalesce((SELECT sum(used) FROM quotas WHERE workspace_id = $1 AND metric = 'photos'), 0) AS used,
            (SELECT count(*) FROM photos WHERE workspace_id = $1) AS photos) q
         WHERE q.used <> q.photos",
    ),
];
