//! Things to start from. Each is the plainest of its kind; a test changes the fields that matter to it.

use rawdrive_identity::{EmailAddress, PersonName};
use rawdrive_tenancy_core::Env;

use crate::id::{GalleryId, LibraryId};
use crate::renditions::model::Renditions;
use crate::{Client, Download, Gallery, Library, Photo};

/// A library.
///
/// # Panics
/// Never.
#[must_use]
pub fn library(env: &Env) -> Library {
    Library {
        id: env.id(),
        name: "Weddings".parse().expect("a title"),
        created_at: env.now(),
        updated_at: env.now(),
        version: 1,
    }
}

/// A gallery of a library.
///
/// # Panics
/// Never.
#[must_use]
pub fn gallery(env: &Env, library: LibraryId) -> Gallery {
    Gallery {
        id: env.id(),
        library,
        name: "Summer".parse().expect("a title"),
        download: Download::None,
        deleted_at: None,
        created_at: env.now(),
        updated_at: env.now(),
        version: 1,
    }
}

/// A photo of a gallery.
///
/// # Panics
/// Never.
#[must_use]
pub fn photo(env: &Env, gallery: GalleryId, size_bytes: u64) -> Photo {
    Photo {
        id: env.id(),
        gallery,
        filename: "a.jpg".parse().expect("a file name"),
        content_type: "image/jpeg".to_owned(),
        size_bytes,
        sha256: [0; 32],
        width: None,
        height: None,
        orientation: None,
        taken_at: None,
        created_at: env.now(),
        updated_at: env.now(),
        version: 1,
        renditions: Renditions::Pending,
    }
}

/// A client who was not invited yet.
///
/// # Panics
/// The text is no address.
#[must_use]
pub fn client(env: &Env, email: &str) -> Client {
    Client {
        id: env.id(),
        name: PersonName::parse("Ada").expect("a name"),
        email: EmailAddress::parse(email).expect("an address"),
        invited_at: None,
        last_seen_at: None,
        created_at: env.now(),
        updated_at: env.now(),
        version: 1,
    }
}
