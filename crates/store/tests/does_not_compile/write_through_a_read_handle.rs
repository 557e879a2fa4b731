//! A read handle writes nothing.

use rawdrive_gallery::{GalleryTx, Library};
use rawdrive_store::Reader;

async fn attempt(reader: &mut Reader, library: &Library) {
    let _ = reader.insert_library(library).await;
}

fn main() {}
