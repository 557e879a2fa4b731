//! What an extension builds on a handle does not give the handle's connection away, nor what is built before it is
//! scoped.

use rawdrive_store::WriteTx;
use rawdrive_store::extension::{Globals, MigrationTx};

rawdrive_store::tenant_entity! {
    mod notes("notes", [id: Uuid]) { text: String }
}

fn attempt(tx: &mut WriteTx, globals: &Globals, migration: &MigrationTx) {
    let _ = tx.select::<notes::Entity>().on; //~ E0616
    let _ = tx.select::<notes::Entity>().select; //~ E0616
    let _ = tx.delete::<notes::Entity>().delete; //~ E0616
    let _ = &globals.0; //~ E0616
    let _ = &migration.tx; //~ E0616
    //+ let _ = tx.select::<notes::Entity>();
    //+ let _ = tx.delete::<notes::Entity>();
    //+ let _ = (globals, migration);
}

fn main() {}
