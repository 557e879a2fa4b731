//! The product's steps to a first delivery, beside the core's.

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
