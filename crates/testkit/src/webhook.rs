//! A webhook as the provider would send it.

use std::fmt::Write as _;

use aws_lc_rs::hmac;
use chrono::{DateTime, Utc};

/// The header `Stripe-Signature` of a body that is sent at this time, by the scheme `v1` (Stripe, "Verify webhook
/// signatures manually"). Whoever serves webhooks tests with it that theirs are taken, and others are not.
///
/// ```
/// use rawdrive_billing::{WebhookSecrets, verify_signature};
/// use rawdrive_testkit::{TestEnv, sign_webhook};
///
/// let (now, body) = (TestEnv::seeded(1).env().now(), br#"{"id":"evt_1"}"#);
/// let header = sign_webhook("whsec_test", body, now);
/// let secrets = WebhookSecrets::new(["whsec_test".to_owned().into()]);
/// assert_eq!(verify_signature(&secrets, &header, body, now), Ok(()));
/// assert!(verify_signature(&secrets, &header, b"{}", now).is_err());
/// ```
#[must_use]
pub fn sign_webhook(secret: &str, body: &[u8], at: DateTime<Utc>) -> String {
    let seconds = at.timestamp();
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let message = [seconds.to_string().as_bytes(), b".", body].concat();
    let mut header = format!("t={seconds},v1=");
    for byte in hmac::sign(&key, &message).as_ref() {
        // Writing to a String cannot fail.
        let _ = write!(header, "{byte:02x}");
    }
    header
}
