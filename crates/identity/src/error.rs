//! Why identity refuses.

use rawdrive_tenancy_core::StoreError;

use crate::password::PasswordError;
use crate::ports::InsertUserError;

/// Why a use case of identity came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The address belongs to somebody, in whatever case it was typed.
    #[error("the e-mail address is taken")]
    EmailTaken,
    /// No such address, or not its password: which of the two is not told.
    #[error("the e-mail address or the password is wrong")]
    WrongCredentials,
    /// The present password was not proved, or was changed meanwhile.
    #[error("the current password is wrong")]
    WrongCurrentPassword,
    /// Too many attempts at this password, or at having mail sent.
    #[error("too many attempts; the next is possible in {retry_after_seconds} s")]
    TooManyAttempts {
        /// At least 1.
        retry_after_seconds: u32,
        /// Whether the account, if there is one, has the mail with the code that gets its owner in.
        code_mailed: bool,
    },
    /// The password was proved, but its owner belongs to no workspace any more.
    #[error("the user belongs to no workspace")]
    NoWorkspace,
    /// The session, the membership or the token does not hold (any more).
    #[error("the credential does not hold")]
    Unauthenticated,
    /// The user does not belong to the workspace they named, or it does not exist.
    #[error("no such workspace")]
    NoSuchWorkspace,
    /// The mailed proof is unknown, spent or expired.
    #[error("no such proof")]
    NoSuchProof,
    /// Too many passwords are being hashed: try again in a second.
    #[error("too many passwords are being hashed")]
    Busy,
    /// The hash function failed.
    #[error("failed to hash a password")]
    Hashing(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<PasswordError> for IdentityError {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Busy => Self::Busy,
            PasswordError::Store(error) => Self::Store(error),
            PasswordError::Failed(source) => Self::Hashing(source),
        }
    }
}

impl From<InsertUserError> for IdentityError {
    fn from(error: InsertUserError) -> Self {
        match error {
            InsertUserError::EmailTaken => Self::EmailTaken,
            InsertUserError::Store(error) => Self::Store(error),
        }
    }
}
