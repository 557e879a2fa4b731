//! Sealing what must lie in the database for a while but not in clear.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use base64::{Engine, engine::general_purpose::STANDARD};
use rawdrive_tenancy_core::Env;

use crate::signing_keys::MasterKey;

const NONCE_BYTES: usize = 12;

/// Seals texts for one purpose under a key of its own (AES-256-GCM, random nonces).
#[derive(Clone)]
pub struct Sealer(std::sync::Arc<LessSafeKey>);

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(…)")
    }
}

/// A text that was sealed under another key, for another context, or altered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "failed to unseal: it was sealed under another secret key or for something else, or altered"
)]
pub struct Unsealable;

impl Sealer {
    /// A sealer for one purpose; see [`MasterKey::derive`].
    #[must_use]
    pub fn new(master: &MasterKey, purpose: &'static str) -> Self {
        let key =
            UnboundKey::new(&AES_256_GCM, &master.derive(purpose)).expect("AES-256 takes 32 bytes");
        Self(std::sync::Arc::new(LessSafeKey::new(key)))
    }

    /// Seals a text; it opens only with the same `context`, such as the workspace's id. Base64.
    #[must_use]
    pub fn seal(&self, env: &Env, context: &str, text: &str) -> String {
        let nonce: [u8; NONCE_BYTES] = env.bytes();
        let mut body = text.as_bytes().to_vec();
        self.0
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(context.as_bytes()),
                &mut body,
            )
            .expect("AES-GCM seals a text in memory");
        STANDARD.encode([&nonce, body.as_slice()].concat())
    }

    /// Opens what [`Sealer::seal`] made.
    ///
    /// # Errors
    /// [`Unsealable`].
    pub fn open(&self, context: &str, sealed: &str) -> Result<String, Unsealable> {
        let mut bytes = STANDARD.decode(sealed).map_err(|_| Unsealable)?;
        if bytes.len() < NONCE_BYTES {
            return Err(Unsealable);
        }
        let mut body = bytes.split_off(NONCE_BYTES);
        let nonce = Nonce::try_assume_unique_for_key(&bytes).map_err(|_| Unsealable)?;
        let text = self
            .0
            .open_in_place(nonce, Aad::from(context.as_bytes()), &mut body)
            .map_err(|_| Unsealable)?;
        String::from_utf8(text.to_vec()).map_err(|_| Unsealable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_text_opens_under_its_key_purpose_and_context_alone() {
        let env = Env::system();
        let master = MasterKey::new(&"k".repeat(32)).unwrap();
        let sealer = Sealer::new(&master, "mails");
        let sealed = sealer.seal(&env, "ws_1", "a link");
        assert_eq!(sealer.open("ws_1", &sealed).as_deref(), Ok("a link"));
        assert_ne!(sealed, sealer.seal(&env, "ws_1", "a link"));
        assert_eq!(sealer.open("ws_2", &sealed), Err(Unsealable));
        assert_eq!(
            Sealer::new(&master, "other").open("ws_1", &sealed),
            Err(Unsealable)
        );
        for at in 0..sealed.len() {
            let mut altered = sealed.clone().into_bytes();
            altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
            let altered = String::from_utf8(altered).unwrap();
            assert_eq!(sealer.open("ws_1", &altered), Err(Unsealable), "digit {at}");
        }
        assert_eq!(sealer.open("ws_1", ""), Err(Unsealable));
    }
}
