//! The gallery keeps its contract on the store's handles: an embedder's ports, over an extension.

use rawdrive_gallery::testkit::GallerySubject;
use rawdrive_gallery::{Opened as Admitted, Opening, UploadStore};
use rawdrive_plans::BeginError;
use rawdrive_tenancy_core::{Env, WorkspaceScope};

use crate::subject::Opened;

impl UploadStore for Opened {
    async fn open(
        &self,
        scope: &WorkspaceScope,
        env: &Env,
        opening: Opening,
    ) -> Result<Admitted, BeginError> {
        UploadStore::open(&self.store, scope, env, opening).await
    }
}

impl GallerySubject for Opened {}

mod sqlite {
    rawdrive_gallery::gallery_contract!(crate::subject::sqlite);
}
mod postgres {
    rawdrive_gallery::gallery_contract!(crate::subject::postgres);
}
mod pgbouncer {
    rawdrive_gallery::gallery_contract!(crate::subject::pgbouncer);
}
