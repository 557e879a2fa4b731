//! The code that is mailed to whoever cannot sign in because too many others have tried. It is computed, not stored,
//! and worth something together with the password alone.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use rawdrive_tenancy_core::Env;
use rawdrive_tenancy_core::id::TypedId as _;
use secrecy::{ExposeSecret as _, SecretString};

use crate::opaque_token::TokenPepper;
use crate::ports::User;
use crate::validated_text::InvalidText;

/// 60 bits: nobody hits one by trying within its time.
const CHARS: usize = 12;
/// Crockford's base 32, which has no letters that are taken for digits.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// A code holds until the end of the slot after its own.
const SLOT_SECONDS: i64 = 30 * 60;

/// A sign-in code: as it was typed, or on its way into a mail.
#[derive(Clone)]
pub struct SignInCode(SecretString);

impl fmt::Debug for SignInCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SignInCode(…)")
    }
}

impl SignInCode {
    /// Reads what somebody typed: in any case, with or without hyphens and spaces, O for 0 and I or L for 1.
    ///
    /// # Errors
    /// What a code must be.
    pub fn parse(text: &str) -> Result<Self, InvalidText> {
        let meant = |char: char| match char.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            other => other,
        };
        let code: String = text
            .chars()
            .filter(|char| *char != '-' && !char.is_whitespace())
            .take(CHARS + 1)
            .map(meant)
            .collect();
        let is_code = code.len() == CHARS && code.bytes().all(|byte| ALPHABET.contains(&byte));
        if is_code {
            Ok(Self(code.into()))
        } else {
            Err(InvalidText::must(
                "be the 12 letters and digits of the mail",
            ))
        }
    }

    /// The user's code of now. It ends with their password.
    #[must_use]
    pub fn of(user: &User, env: &Env, pepper: &TokenPepper) -> Self {
        Self::of_slot(user, slot(env), pepper)
    }

    fn of_slot(user: &User, slot: i64, pepper: &TokenPepper) -> Self {
        let tag = pepper.tag(&[
            b"sign-in code",
            user.id.uuid().as_bytes(),
            &user.session_epoch.to_be_bytes(),
            &slot.to_be_bytes(),
        ]);
        // 256 is a multiple of 32: every character is as likely as every other.
        let code = tag.iter().take(CHARS);
        let code: String = code
            .map(|byte| char::from(ALPHABET[usize::from(byte % 32)]))
            .collect();
        Self(code.into())
    }

    /// The text for the mail: three groups of four.
    #[must_use]
    pub fn text(&self) -> SecretString {
        let code = self.0.expose_secret();
        format!("{}-{}-{}", &code[..4], &code[4..8], &code[8..]).into()
    }

    /// Whether this is the user's code, of now or of the half hour before.
    #[must_use]
    pub fn holds(&self, user: &User, env: &Env, pepper: &TokenPepper) -> bool {
        let now = slot(env);
        let is = |slot| {
            let code = Self::of_slot(user, slot, pepper);
            let (code, claimed) = (code.0.expose_secret(), self.0.expose_secret());
            verify_slices_are_equal(code.as_bytes(), claimed.as_bytes()).is_ok()
        };
        is(now) | is(now - 1)
    }
}

fn slot(env: &Env) -> i64 {
    env.now().timestamp().div_euclid(SLOT_SECONDS)
}
