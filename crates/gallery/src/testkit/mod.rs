//! For tests: the gallery's ports in memory, things to start from, and what every store must promise of them.

pub mod clients;
mod fixtures;
pub mod galleries;
mod memory;
mod memory_clients;

pub use fixtures::{client, gallery, library, photo};
pub use memory::GalleryRows;

use rawdrive_testkit::MemoryStore;
use rawdrive_testkit::contract::Subject;

use crate::{ClientsTx, GalleryTx, UploadStore};

/// A store that can be put to the gallery's contract.
pub trait GallerySubject: Subject<Tx: GalleryTx + ClientsTx> + UploadStore {}

impl GallerySubject for MemoryStore {}

impl UploadStore for MemoryStore {}

/// Makes a test of each promise, as [`rawdrive_testkit::store_contract!`] does of the core's.
#[macro_export]
macro_rules! gallery_contract {
    ($make:path) => {
        ::rawdrive_testkit::store_contract! { $crate::testkit => $make =>
            galleries {
                a_library_is_read_as_written_and_deleted_when_empty,
                of_many_uploads_as_many_open_as_fit,
                a_gallery_is_read_as_written,
                a_gallery_is_written_over_by_a_later_version_alone,
                nothing_stands_in_what_is_not_there,
                a_gallery_goes_after_its_photos,
                a_photo_goes_with_its_use_as_a_logo,
                branding_is_replaced,
                photos_are_renamed_moved_rendered_and_deleted,
                no_workspace_sees_anothers_rows,
            }
            clients {
                a_client_is_read_as_written_and_an_address_is_taken_once,
                a_link_is_replaced_and_revoked_once,
                a_deleted_client_is_taken_off_its_galleries,
                none_but_the_workspaces_clients_see_a_gallery,
            }
        }
    };
}
