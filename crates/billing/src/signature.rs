//! Whether a webhook's bytes are the provider's (Stripe, "Verify webhook signatures manually").

use aws_lc_rs::hmac;
use chrono::{DateTime, TimeDelta, Utc};
use secrecy::{ExposeSecret as _, SecretString};

/// How far a signature's time may be from ours, either way.
pub const TOLERANCE: TimeDelta = TimeDelta::seconds(300);

/// The most signatures of one header that are looked at: a header cannot make us hash for ever.
const MAX_SIGNATURES: usize = 16;
const SIGNATURE_BYTES: usize = 32;

/// The endpoint's signing secrets: the current one, and the previous while it is being rotated.
#[derive(Debug, Clone)]
pub struct WebhookSecrets(Vec<SecretString>);

impl WebhookSecrets {
    /// Secrets, each as the provider shows it (`whsec_…`).
    #[must_use]
    pub fn new(secrets: impl IntoIterator<Item = SecretString>) -> Self {
        Self(secrets.into_iter().collect())
    }
}

/// Why a webhook is refused. It says nothing about the secret.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
pub enum SignatureError {
    /// The header is missing, or not what it must be.
    #[error("failed to read the signature: expected t=<seconds>,v1=<64 lower-case hex digits>")]
    Malformed,
    /// The header's time is more than five minutes away: an old delivery played again, or a wrong clock.
    #[error("failed to verify the signature: its time is more than {} seconds away", TOLERANCE.num_seconds())]
    Stale,
    /// No signature of scheme `v1` is of these bytes by one of our secrets.
    #[error("failed to verify the signature: none matches")]
    Mismatch,
}

/// Verifies the header `Stripe-Signature` over the bytes as they came. Every `v1` is tried with every secret, each
/// comparison in constant time; other schemes count for nothing.
///
/// # Errors
/// [`SignatureError`]; nothing of the body may be used then.
pub fn verify_signature(
    secrets: &WebhookSecrets,
    header: &str,
    body: &[u8],
    now: DateTime<Utc>,
) -> Result<(), SignatureError> {
    let (mut time, mut signatures) = (None, Vec::new());
    for pair in header.split(',') {
        match pair.trim().split_once('=') {
            Some(("t", text)) if time.is_none() => time = Some(text),
            // Two times: which of them was signed?
            Some(("t", _)) => return Err(SignatureError::Malformed),
            Some(("v1", text)) if signatures.len() < MAX_SIGNATURES => {
                signatures.extend(unhex(text))
            }
            _ => {}
        }
    }
    let time = time.ok_or(SignatureError::Malformed)?;
    let digits = !time.is_empty() && time.bytes().all(|b| b.is_ascii_digit());
    let signed_at = time
        .parse()
        .ok()
        .filter(|_| digits)
        .and_then(|seconds| DateTime::from_timestamp(seconds, 0))
        .ok_or(SignatureError::Malformed)?;
    if signatures.is_empty() {
        return Err(SignatureError::Mismatch);
    }
    let message = [time.as_bytes(), b".", body].concat();
    let matches = secrets.0.iter().any(|secret| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes());
        let ours = |theirs: &[u8; SIGNATURE_BYTES]| hmac::verify(&key, &message, theirs).is_ok();
        signatures.iter().any(ours)
    });
    if !matches {
        return Err(SignatureError::Mismatch);
    }
    // Last, so that who does not know the secret learns nothing about our clock.
    if (now - signed_at).abs() > TOLERANCE {
        return Err(SignatureError::Stale);
    }
    Ok(())
}

/// Lower-case hex of a SHA-256 alone: one signature has one text.
fn unhex(text: &str) -> Option<[u8; SIGNATURE_BYTES]> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; SIGNATURE_BYTES];
    if text.len() != 2 * SIGNATURE_BYTES {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const CURRENT: &str = "whsec_current";
    const PREVIOUS: &str = "whsec_previous";

    fn secrets() -> WebhookSecrets {
        WebhookSecrets::new([CURRENT, PREVIOUS].map(SecretString::from))
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_790_000_000 + seconds, 0).unwrap()
    }

    fn sign(secret: &str, body: &[u8]) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let message = [b"1790000000.", body].concat();
        let tag = hmac::sign(&key, &message);
        tag.as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    fn header(secret: &str, body: &[u8]) -> String {
        format!("t=1790000000,v1={}", sign(secret, body))
    }

    /// Twenty events, of every length from a few bytes to some kilobytes.
    fn payloads() -> Vec<Vec<u8>> {
        let event = |n: usize| json!({ "id": format!("evt_{n}"), "type": "invoice.paid", "note": "ü".repeat(1 << (n / 2)) });
        (0..20).map(|n| event(n).to_string().into_bytes()).collect()
    }

    #[test]
    fn a_flipped_bit_anywhere_is_refused() {
        for body in payloads() {
            let header = header(CURRENT, &body);
            assert_eq!(verify_signature(&secrets(), &header, &body, at(0)), Ok(()));
            for byte in 0..body.len() {
                let mut flipped = body.clone();
                flipped[byte] ^= 1 << (byte % 8);
                let verified = verify_signature(&secrets(), &header, &flipped, at(0));
                assert_eq!(verified, Err(SignatureError::Mismatch), "byte {byte}");
            }
            for byte in 0..header.len() {
                let mut flipped = header.clone().into_bytes();
                flipped[byte] ^= 1 << (byte % 7);
                let flipped = String::from_utf8(flipped).unwrap();
                assert!(
                    verify_signature(&secrets(), &flipped, &body, at(0)).is_err(),
                    "{flipped}"
                );
            }
        }
    }

    #[test]
    fn a_signature_holds_for_five_minutes_either_way() {
        let (body, stale) = (b"{}", Err(SignatureError::Stale));
        for (seconds, expected) in [
            (-301, stale),
            (-300, Ok(())),
            (-299, Ok(())),
            (0, Ok(())),
            (299, Ok(())),
            (300, Ok(())),
            (301, stale),
        ] {
            let verified = verify_signature(&secrets(), &header(CURRENT, body), body, at(seconds));
            assert_eq!(verified, expected, "{seconds}");
        }
    }

    #[test]
    fn only_v1_counts_and_any_of_them_will_do() {
        let body = b"{}";
        let (good, bad) = (sign(CURRENT, body), sign("whsec_other", body));
        for (header, expected) in [
            (
                format!("t=1790000000,v0={good}"),
                Err(SignatureError::Mismatch),
            ),
            (
                format!("t=1790000000,v1={bad},v0={good}"),
                Err(SignatureError::Mismatch),
            ),
            (format!("t=1790000000,v1={bad},v1={good}"), Ok(())),
            (format!("t=1790000000,v1={good},v1={bad}"), Ok(())),
            (format!("t=1790000000, v1=zz, v1={good}"), Ok(())),
            (
                format!("t=1790000000,v1={}", good.to_uppercase()),
                Err(SignatureError::Mismatch),
            ),
            (
                format!("t=1790000000,t=1790000000,v1={good}"),
                Err(SignatureError::Malformed),
            ),
            (
                format!("t=+1790000000,v1={good}"),
                Err(SignatureError::Malformed),
            ),
            (format!("v1={good}"), Err(SignatureError::Malformed)),
            (format!("t=,v1={good}"), Err(SignatureError::Malformed)),
            ("t=1790000000".to_owned(), Err(SignatureError::Mismatch)),
            (String::new(), Err(SignatureError::Malformed)),
            (
                format!(
                    "t=1790000000{},v1={good}",
                    format!(",v1={bad}").repeat(MAX_SIGNATURES)
                ),
                Err(SignatureError::Mismatch),
            ),
        ] {
            assert_eq!(
                verify_signature(&secrets(), &header, body, at(0)),
                expected,
                "{header}"
            );
        }
    }

    #[test]
    fn the_previous_secret_holds_while_it_is_being_rotated() {
        let body = b"{}";
        let signed = header(PREVIOUS, body);
        assert_eq!(verify_signature(&secrets(), &signed, body, at(0)), Ok(()));
        let rotated = WebhookSecrets::new([SecretString::from(CURRENT)]);
        assert_eq!(
            verify_signature(&rotated, &signed, body, at(0)),
            Err(SignatureError::Mismatch)
        );
        let none = WebhookSecrets::new([]);
        assert_eq!(
            verify_signature(&none, &signed, body, at(0)),
            Err(SignatureError::Mismatch)
        );
    }

    #[test]
    fn the_bytes_are_signed_and_not_what_they_mean() {
        let body = br#"{"id": "evt_1",  "type":"invoice.paid"}"#;
        let parsed: serde_json::Value = serde_json::from_slice(body).unwrap();
        let again = parsed.to_string();
        let verified =
            verify_signature(&secrets(), &header(CURRENT, body), again.as_bytes(), at(0));
        assert_eq!(verified, Err(SignatureError::Mismatch));
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!("{:?}", secrets());
        assert!(!shown.contains("whsec"), "{shown}");
    }
}
