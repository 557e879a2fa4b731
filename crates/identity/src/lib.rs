//! Who is calling: users, passwords, sessions, access and refresh tokens. What somebody may do is decided
//! elsewhere, by the membership that is read at each request.
//!
//! ```
//! use rawdrive_identity::{Keyring, SigningKey, TokenIssuer};
//! use rawdrive_tenancy_core::Env;
//! use secrecy::ExposeSecret;
//!
//! let env = Env::system();
//! let keyring = Keyring::new(vec![SigningKey::generate(&env)])?;
//! let issuer = TokenIssuer::new(keyring, "https://app.example".into());
//!
//! let (user, workspace, session) = (env.id(), env.id(), env.id());
//! let (token, seconds) = issuer.issue(&env, user, workspace, session);
//! let claims = issuer.verify(&env, token.expose_secret())?;
//! assert_eq!((claims.user, claims.workspace, seconds), (user, workspace, 900));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Invariant: no secret is stored. Of passwords there is an Argon2id hash, of refresh tokens a SHA-256, and
//! signing keys lie sealed under the installation's secret key.
//!
//! A use case that needs a slow proof and a transaction is two functions, so that no transaction waits for
//! a hash; the first one's documentation says the order:
//!
//! | to | before the transaction | within it |
//! | --- | --- | --- |
//! | sign up | [`prepare_sign_up`] | [`sign_up`] |
//! | sign in | [`sign_in`] | [`open_session`] |
//! | switch the workspace | [`switch`] | [`open_session`] |
//! | refresh | [`RefreshToken::parse`] | [`refresh()`], and commit also when it revokes |
//! | change name or password | [`prove_update`] | [`update_me`] |
//! | sign out | | [`sign_out`] |
//! | ask for a mailed link | [`request_proof`], later [`answer_request`] | |
//! | use a mailed link | [`reset_password`], [`verify_email`] | |
//! | present an API key | [`prove_api_key`] | |
//! | make or revoke an API key | | [`create_api_key`], [`revoke_api_key`] |
//! | accept an invitation | [`prove_acceptance`] | [`accept`] |
//!
//! Absent on purpose: HTTP, SQL, the system clock, and any answer that tells a wrong password from an
//! unknown address.

mod access_token;
mod account;
mod api_key;
mod code;
mod email;
mod email_tokens;
mod encryption;
mod error;
mod hash_queue;
mod invitation;
mod limit;
mod members;
mod network;
mod opaque_token;
mod page_token;
mod password;
pub mod ports;
mod precis;
mod rate_limit;
mod scopes;
mod session;
mod signing_keys;
mod stranger_mail;
mod validated_text;

pub use access_token::{
    ACCESS_LIFETIME_SECONDS, AccessClaims, LEEWAY_SECONDS, TokenError, TokenIssuer,
};
pub use account::{
    AccountUpdate, NewAccount, PasswordChange, ProvenUpdate, meet_network, prepare_sign_up,
    prove_update, sign_up, update_me,
};
pub use api_key::{
    ApiKeyError, ApiKeyList, ApiKeyRead, ApiKeyRow, ApiKeysTx, ListedKey, MAX_API_KEYS, NewApiKey,
    ProvenKey, StoredKey, create_api_key, prove_api_key, prove_key_of_page, revoke_api_key, worth,
};
pub use code::SignInCode;
pub use email::EmailAddress;
pub use email_tokens::{
    IssuedProof, ProofPace, ProofPurpose, ProofRequest, ProofRequests, ProofRow, Proofs,
    RESET_LIFETIME, UnknownPurpose, VERIFICATION_LIFETIME, answer_request, request_proof,
    reset_password, verify_email,
};
pub use encryption::{Sealer, Unsealable};
pub use error::IdentityError;
pub use hash_queue::HashWaiting;
pub use invitation::{
    AcceptError, Acceptance, Accepting, FoundInvitation, INVITATION_LIFETIME, Invitation,
    InvitationRead, InvitationTx, Inviter, ListedInvitation, accept, invite, prove_acceptance,
    revoke_invitation, sweep_invitations,
};
pub use limit::{Count, LimitState};
pub use members::{
    KeysOf, LeftBehind, Member, TeamError, TeamTx, change_role, leave, remove_member,
    role_to_change, transfer,
};
pub use network::Network;
pub use opaque_token::{
    ApiKey, ApiKeyToken, DEVICE_LIFETIME, Device, DeviceToken, EmailVerification,
    EmailVerificationToken, InvalidToken, InvitationKind, InvitationToken, PasswordReset,
    PasswordResetToken, REFRESH_LIFETIME, Refresh, RefreshToken, SecretToken, TokenKind,
    TokenPepper,
};
pub use page_token::{Minter, PAGE_TOKEN_MAX_SECONDS, PageClaims};
pub use password::{
    ClaimedPassword, HashCost, InvalidCost, Password, PasswordError, PasswordHash, PasswordHasher,
};
pub use scopes::{READ_SUFFIX, Scopes};
pub use session::{
    Credentials, Opening, Person, Proven, Refreshed, SESSION_LIFETIME, SignedIn, Tokens,
    open_session, prove_password, refresh, sign_in, sign_out, switch,
};
pub use signing_keys::{
    KeyError, Keyring, MasterKey, MasterKeyTooShort, ROTATION_OVERLAP_SECONDS, SealedKey,
    SigningKey, load_keyring, rotate_keys,
};
pub use stranger_mail::{MailPolicy, StrangerMailError, StrangerMailTx, admit_stranger_mail};
pub use validated_text::{ApiKeyName, Currency, InvalidText, PersonName, WorkspaceName, slug};
