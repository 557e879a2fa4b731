//! Neither the store nor a handle gives its connection away.

use rawdrive_store::{Reader, Store, WriteTx};

fn attempt(store: &Store, reader: &Reader, tx: &WriteTx) {
    let _ = &store.0;
    let _ = reader.db();
    let _ = &tx.tx;
}

fn main() {}
