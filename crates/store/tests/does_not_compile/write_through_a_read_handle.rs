//! A read handle writes nothing.

use rawdrive_gallery::{GalleryTx, Library};
use rawdrive_store::{Reader, WriteTx};

async fn attempt(reader: &mut Reader, tx: &mut WriteTx, library: &Library) {
    let _ = reader.insert_library(library).await; //~ E0599
    //+ let _ = tx.insert_library(library).await;
}

fn main() {}
