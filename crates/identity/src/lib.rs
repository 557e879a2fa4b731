#![doc = include_str!("../README.md")]

mod access_token;
mod account;
mod api_key;
mod authentication;
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
mod revocation;
mod scopes;
mod session;
mod signing_keys;
mod stranger_mail;
mod team;
mod team_ports;
mod validated_text;

pub use access_token::{TokenError, TokenIssuer};
pub use account::{
    AccountUpdate, NewAccount, PasswordChange, ProvenUpdate, meet_network, prepare_sign_up,
    prove_update, sign_up, update_me,
};
pub use api_key::{
    ApiKeyError, ApiKeyList, ApiKeyRead, ListedKey, MAX_API_KEYS, NewApiKey, ProvenKey, StoredKey,
    create_api_key, prove_api_key, prove_key_of_page, worth,
};
pub use authentication::{Caller, NotAdmitted, authenticate};
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
    AcceptError, Acceptance, Accepting, FoundInvitation, INVITATION_LIFETIME, InvitationRead,
    ListedInvitation, accept, find_invitation, invite, prove_acceptance, revoke_invitation,
    sweep_invitations,
};
pub use limit::{Count, LimitState};
pub use members::{KeysOf, LeftBehind, change_role, leave, remove_member, transfer};
pub use network::Network;
pub use opaque_token::{
    ApiKey, ApiKeyToken, DEVICE_LIFETIME, Device, DeviceToken, EmailVerification,
    EmailVerificationToken, InvalidToken, InvitationKind, InvitationToken, PasswordReset,
    PasswordResetToken, REFRESH_LIFETIME, Refresh, RefreshToken, SecretToken, TokenKind,
    TokenPepper,
};
pub use page_token::PAGE_TOKEN_MAX_SECONDS;
pub use password::{
    ClaimedPassword, HashCost, InvalidCost, Password, PasswordError, PasswordHash, PasswordHasher,
};
pub use ports::{AccessClaims, Minter, PageClaims, SealedKey};
pub use revocation::revoke_api_key;
pub use scopes::{READ_SUFFIX, Scopes};
pub use session::{
    Credentials, Opening, Person, Proven, Refreshed, SESSION_LIFETIME, SignedIn, Tokens,
    open_session, prove_password, refresh, sign_in, sign_out, switch,
};
pub use signing_keys::{
    ACCESS_LIFETIME_SECONDS, KeyError, Keyring, LEEWAY_SECONDS, MasterKey, MasterKeyTooShort,
    ROTATION_OVERLAP_SECONDS, SigningKey, load_keyring, rotate_keys,
};
pub use stranger_mail::{MailPolicy, StrangerMailError, StrangerMailTx, admit_stranger_mail};
pub use team::{TeamError, role_to_change};
pub use team_ports::{
    ApiKeyRow, ApiKeysTx, IdentityUnit, Invitation, InvitationTx, Inviter, Member, TeamTx,
};
pub use validated_text::{ApiKeyName, Currency, InvalidText, PersonName, WorkspaceName, slug};
