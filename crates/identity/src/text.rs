//! What a text that a person typed must be, in words for that person.

/// A text that a field does not take. Displays as the rest of a sentence whose subject is the field:
/// "must …".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must {requirement}")]
pub struct InvalidText {
    /// What the field takes, without the "must".
    pub requirement: &'static str,
}

impl InvalidText {
    pub(crate) const fn must(requirement: &'static str) -> Self {
        Self { requirement }
    }
}
