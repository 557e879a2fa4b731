//! The gallery's routes and pages, mounted beside the core's.
//!
//! Invariant: what a client's link reaches is what its client may see; everybody else's scope comes from the core's
//! extractors.

mod analysis;
mod branding;
mod client_link;
mod clients;
mod content;
mod downloads;
mod file_name;
mod form;
mod galleries;
mod libraries;
mod listing;
mod photos;
mod problems;
mod renditions;
mod shared;
mod shared_page;
#[cfg(test)]
mod tests;
mod uploads;
mod vocabulary;

use std::sync::Arc;

use actix_web::web::Data;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rawdrive_http_api::extension::{Routes, Subjects};
use rawdrive_http_api::{Dependency, routes};
use rawdrive_store::Reader;
use rawdrive_tenancy_core::StoreError;

pub use self::downloads::Downloads;
use crate::GalleryRead as _;
use crate::analysis::Analyzer;
use crate::{Blobs, id::GalleryId};

/// What the routes work with, beside the core's [`App`](rawdrive_http_api::App).
#[derive(Debug)]
pub struct GalleryApi {
    /// The photos' bytes.
    pub blobs: Blobs,
    /// Looks at photos, when it is asked to.
    pub analyzer: Arc<dyn Analyzer>,
    /// The downloads under way by clients' links.
    pub downloads: Downloads,
    /// The most bytes of one photo.
    pub max_upload_bytes: u64,
}

/// The routes and their document, without what they work with: for the document alone.
#[must_use]
pub fn described() -> Routes {
    routes! { Gallery:
        libraries::list_libraries, libraries::create_library, libraries::show_library, libraries::update_library,
        libraries::delete_library,
        galleries::list_galleries, galleries::create_gallery, galleries::show_gallery, galleries::update_gallery,
        galleries::delete_gallery, galleries::restore_gallery,
        uploads::upload, photos::list_photos, photos::show_photo, photos::update_photo, photos::delete_photo,
        photos::delete_several_photos, photos::move_several_photos, photos::download, renditions::download_rendition,
        analysis::analyze_photo, analysis::show_analysis,
        branding::show_branding, branding::save_branding,
        clients::list_clients, clients::create_client, clients::show_client, clients::update_client,
        clients::delete_client, clients::invite_client, clients::revoke_invite,
        shared::show_shared, shared::list_shared_photos, shared::download_shared, shared::shared_logo,
        renditions::download_shared_rendition,
    }
    .vocabulary(vocabulary::GALLERY)
    .with(&shared_page::PATHS, shared_page::register)
}

/// The routes, for [`AppBuilder::routes`](rawdrive_http_api::AppBuilder::routes).
#[must_use]
pub fn routes(api: Data<GalleryApi>) -> Routes {
    described().with(&[], move |config| {
        config.app_data(api.clone());
    })
}

/// The photos' store as something that the server cannot do without.
impl Dependency for Blobs {
    fn name(&self) -> &'static str {
        "blobs"
    }

    fn answers(&self) -> BoxFuture<'_, bool> {
        self.ping().map(|answer| answer.is_ok()).boxed()
    }
}

/// Galleries, as what a metric is counted for apart.
#[derive(Debug, Clone, Copy)]
pub struct Galleries;

impl Subjects for Galleries {
    fn kind(&self) -> &str {
        "gallery"
    }

    fn exists<'a>(
        &'a self,
        reader: &'a Reader,
        id: &'a str,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        async move {
            match id.parse::<GalleryId>() {
                Ok(id) => Ok(reader.gallery(id).await?.is_some()),
                Err(_) => Ok(false),
            }
        }
        .boxed()
    }
}
