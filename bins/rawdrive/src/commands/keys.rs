//! `rawdrive keys …`: the keys that sign access tokens, beside a running server or without one.

use std::io::{self, Write};

use rawdrive_identity::{
    KeyError, MasterKey, ROTATION_OVERLAP_SECONDS, SealedKey, load_keyring, rotate_keys,
};
use rawdrive_store::Store;
use serde_json::json;

/// Makes a new signing key.
///
/// # Errors
/// The database fails, or the present keys were sealed under another secret key: a new one sealed under this
/// one would keep the servers from ever opening them together.
pub(crate) async fn rotate(store: &Store, master: &MasterKey) -> Result<SealedKey, KeyError> {
    load_keyring(store, store.env(), master).await?;
    rotate_keys(store, store.env(), master).await
}

/// Says what was made, and what is to be expected of it.
///
/// # Errors
/// Nobody listens any more; the key stands.
pub(crate) fn write(out: &mut dyn Write, key: &SealedKey, json: bool) -> io::Result<()> {
    let minutes = ROTATION_OVERLAP_SECONDS / 60;
    if json {
        let said = json!({ "kid": key.kid, "signs_in_seconds": ROTATION_OVERLAP_SECONDS });
        return writeln!(out, "{said}");
    }
    writeln!(
        out,
        "the new signing key {} is in the JWKS within a minute and signs in {minutes} minutes; tokens that were \
         issued hold to their end",
        key.kid
    )
}
