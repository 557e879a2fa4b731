//! Signatures by the Standard Webhooks scheme: HMAC-SHA-256 over `id.timestamp.body`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use rawdrive_tenancy_core::Env;
use rawdrive_tenancy_core::id::EventId;

/// What begins a secret.
const PREFIX: &str = "whsec_";

/// What an endpoint's events are signed with; its receiver has it too.
#[derive(Clone)]
pub struct WebhookSecret([u8; 32]);

impl std::fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WebhookSecret(…)")
    }
}

impl WebhookSecret {
    /// A new one.
    #[must_use]
    pub fn generate(env: &Env) -> Self {
        Self(env.bytes())
    }

    /// As receivers know it: `whsec_` and padded base64.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(self.0))
    }

    /// Reads what [`text`](Self::text) made.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text.strip_prefix(PREFIX)?).ok()?;
        bytes.try_into().ok().map(Self)
    }
}

/// The value of `webhook-signature`: one signature for each secret in force, so that a receiver verifies with the old
/// secret or with the new one while it is being replaced.
#[must_use]
pub fn signature(
    secrets: &[WebhookSecret],
    event: EventId,
    at: DateTime<Utc>,
    body: &[u8],
) -> String {
    let signed = [format!("{event}.{}.", at.timestamp()).as_bytes(), body].concat();
    let one = |secret: &WebhookSecret| {
        let mac = hmac_sha256::HMAC::mac(&signed, secret.0);
        format!("v1,{}", STANDARD.encode(mac))
    };
    secrets.iter().map(one).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_as_it_was_shown() {
        let secret = WebhookSecret::generate(&Env::system());
        let text = secret.text();
        assert!(text.starts_with("whsec_") && text.ends_with('='), "{text}");
        assert_eq!(WebhookSecret::parse(&text).unwrap().0, secret.0);
        for wrong in ["", "whsec_", "whsec_AAAA", &text[1..], &format!("{text}A")] {
            assert!(WebhookSecret::parse(wrong).is_none(), "{wrong}");
        }
        assert!(!format!("{secret:?}").contains(&text[6..]));
    }

    // As `standardwebhooks` 1.1.0 for Python signs it.
    #[test]
    fn each_secret_signs() {
        let secrets = [WebhookSecret([1; 32]), WebhookSecret([2; 32])];
        let id = "evt_01890000000070008000000000000001".parse().unwrap();
        let at = DateTime::from_timestamp(1_674_087_231, 0).unwrap();
        let both = signature(&secrets, id, at, br#"{"test": 2432232314}"#);
        let one = signature(&secrets[..1], id, at, br#"{"test": 2432232314}"#);
        let (first, second) = both.split_once(' ').unwrap();
        assert_eq!(first, "v1,p0IrTgNE12rT4cPebbleVLsKjVLdFleGOhQxtgjs350=");
        assert_eq!(second, "v1,xbyE672shFxzFjFT4SXDx3YTvuwa9ZIXPTWmtNkcYb0=");
        assert_eq!(one, first);
        assert_ne!(
            one,
            signature(&secrets[..1], id, at, br#"{"test": 2432232315}"#)
        );
    }
}
