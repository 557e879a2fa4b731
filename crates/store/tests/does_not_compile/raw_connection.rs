//! Neither the store nor a handle gives its connection away.

use rawdrive_store::{Reader, Store, WriteTx};

fn attempt(store: &Store, reader: &Reader, tx: &WriteTx) {
    let _ = &store.0; //~ E0616
    let _ = reader.db(); //~ E0624
    let _ = &tx.tx; //~ E0616
    //+ let _ = (store, reader, tx);
}

fn main() {}
