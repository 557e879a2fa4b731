//! Access tokens: Ed25519 JWTs (RFC 9068) of 15 minutes, issued and verified by ourselves alone.
//!
//! Whatever a token of ours does not hold is refused: another algorithm, further header members (`jwk`,
//! `jku`, `x5u`, `crit` …), further or repeated claims, times that are no integers.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::digest::{Context, SHA256};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, Validation};
use quick_cache::sync::Cache;
use rawdrive_tenancy_core::Env;
use rawdrive_tenancy_core::id::{SessionId, UserId, WorkspaceId};
use secrecy::SecretString;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ports::{AccessClaims, PageClaims};
use crate::signing_keys::{ACCESS_LIFETIME_SECONDS, Keyring, LEEWAY_SECONDS};

const TYPE: &str = "at+jwt";
const MAX_BYTES: usize = 2048;
const CACHED_TOKENS: usize = 10_000;

/// Why a token is refused. Whoever sent it learns none of this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is longer than any token of ours, or not three parts of base64url.
    #[error("the token is no JWT of ours")]
    Malformed,
    /// Its header is not exactly `alg: EdDSA`, `typ: at+jwt` and `kid`.
    #[error("the token's header is not one of ours")]
    Header,
    /// Its key is not in the ring, or has ended.
    #[error("the token's key is unknown")]
    UnknownKey,
    /// Its signature is not its key's.
    #[error("the token's signature does not hold")]
    Signature,
    /// It is signed, but its claims are not exactly ours, or it would live too long.
    #[error("the token's claims are not ours")]
    Claims,
    /// It begins in the future.
    #[error("the token does not hold yet")]
    NotYet,
    /// It has ended.
    #[error("the token has expired")]
    Expired,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    typ: String,
    kid: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    iss: String,
    aud: String,
    sub: UserId,
    wid: WorkspaceId,
    sid: SessionId,
    iat: i64,
    nbf: i64,
    exp: i64,
    jti: String,
}

/// What does not change about a token once its signature was verified.
#[derive(Clone, Copy)]
pub(crate) struct Verified<C> {
    pub(crate) claims: C,
    pub(crate) begins: i64,
    pub(crate) ends: i64,
    pub(crate) key_ends: Option<i64>,
}

/// Issues access tokens and verifies them. Shared by reference; its keys can be replaced while it is used.
pub struct TokenIssuer {
    keyring: RwLock<Arc<Keyring>>,
    issuer: String,
    validation: Validation,
    verified: Cache<[u8; 32], Verified<AccessClaims>>,
    pages: Cache<[u8; 32], Verified<PageClaims>>,
}

impl TokenIssuer {
    /// `issuer` is the installation's public URL: `iss` and `aud` of every token.
    #[must_use]
    pub fn new(keyring: Keyring, issuer: String) -> Self {
        // Claims are checked below, against our own clock and as exact single strings; left to the crate
        // are the algorithm and the signature.
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        Self {
            keyring: RwLock::new(Arc::new(keyring)),
            issuer,
            validation,
            verified: Cache::new(CACHED_TOKENS),
            pages: Cache::new(CACHED_TOKENS),
        }
    }

    /// Takes up keys that were loaded anew. Tokens verified under keys that are gone stop holding at once.
    pub fn replace_keys(&self, keyring: Keyring) {
        *self.keyring.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keyring);
    }

    /// The public keys, for `/.well-known/jwks.json`.
    #[must_use]
    pub fn jwks(&self, env: &Env) -> Value {
        self.keyring().jwks(env.now())
    }

    /// A fresh token, and how many seconds it holds.
    #[must_use]
    pub fn issue(
        &self,
        env: &Env,
        user: UserId,
        workspace: WorkspaceId,
        session: SessionId,
    ) -> (SecretString, u32) {
        let now = env.now();
        let iat = now.timestamp();
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: self.issuer.clone(),
            sub: user,
            wid: workspace,
            sid: session,
            iat,
            nbf: iat,
            exp: iat + ACCESS_LIFETIME_SECONDS,
            jti: env.uuid().simple().to_string(),
        };
        (
            self.sign(now, TYPE, &claims),
            u32::try_from(ACCESS_LIFETIME_SECONDS).unwrap_or(0),
        )
    }

    /// Verifies a token at the current time. Signatures are verified once and remembered; times, and the
    /// key's own end, are looked at every time.
    ///
    /// # Errors
    /// Why it does not hold.
    pub fn verify(&self, env: &Env, token: &str) -> Result<AccessClaims, TokenError> {
        // Not even hashed.
        if token.len() > MAX_BYTES {
            return Err(TokenError::Malformed);
        }
        let keyring = self.keyring();
        let key = cache_key(&keyring, token);
        let now = env.now().timestamp();
        if let Some(verified) = self.verified.get(&key) {
            return verified.at(now);
        }
        let verified = self.verify_signed(token)?;
        let claims = verified.at(now)?;
        self.verified.insert(key, verified);
        Ok(claims)
    }

    fn verify_signed(&self, token: &str) -> Result<Verified<AccessClaims>, TokenError> {
        let (claims, key_ends) = self.decode::<Claims>(token, TYPE)?;
        let lifetime = claims
            .exp
            .checked_sub(claims.iat)
            .ok_or(TokenError::Claims)?;
        let expires_at = DateTime::from_timestamp(claims.exp, 0).ok_or(TokenError::Claims)?;
        let ours = claims.iss == self.issuer && claims.aud == self.issuer;
        if !ours || !(1..=ACCESS_LIFETIME_SECONDS).contains(&lifetime) || claims.nbf > claims.exp {
            return Err(TokenError::Claims);
        }
        Ok(Verified {
            claims: AccessClaims {
                user: claims.sub,
                workspace: claims.wid,
                session: claims.sid,
                expires_at,
            },
            begins: claims.nbf.max(claims.iat),
            ends: claims.exp,
            key_ends,
        })
    }

    /// The claims of a token of that type whose signature holds, and when its key ends.
    pub(crate) fn decode<C: DeserializeOwned>(
        &self,
        token: &str,
        typ: &str,
    ) -> Result<(C, Option<i64>), TokenError> {
        if token.len() > MAX_BYTES {
            return Err(TokenError::Malformed);
        }
        let (header, rest) = token.split_once('.').ok_or(TokenError::Malformed)?;
        if rest.matches('.').count() != 1 {
            return Err(TokenError::Malformed);
        }
        // `{"` in base64url. Serde would read a list in the members' order as well; of the claims, the
        // crate refuses one.
        if !header.starts_with("ey") {
            return Err(TokenError::Header);
        }
        let header = URL_SAFE_NO_PAD
            .decode(header)
            .map_err(|_| TokenError::Malformed)?;
        let header: Header = serde_json::from_slice(&header).map_err(|_| TokenError::Header)?;
        if header.alg != "EdDSA" || header.typ != typ {
            return Err(TokenError::Header);
        }
        let keyring = self.keyring();
        let key = keyring.key(&header.kid).ok_or(TokenError::UnknownKey)?;
        let claims = jsonwebtoken::decode::<C>(token, &key.verifying, &self.validation)
            .map_err(|error| match error.kind() {
                jsonwebtoken::errors::ErrorKind::Json(_) => TokenError::Claims,
                _ => TokenError::Signature,
            })?
            .claims;
        Ok((claims, key.ends_at()))
    }

    /// A signed token of that type.
    pub(crate) fn sign(
        &self,
        now: DateTime<Utc>,
        typ: &str,
        claims: &impl Serialize,
    ) -> SecretString {
        let keyring = self.keyring();
        let key = keyring.signer(now);
        let mut header = jsonwebtoken::Header::new(Algorithm::EdDSA);
        header.typ = Some(typ.to_owned());
        header.kid = Some(key.kid().to_owned());
        jsonwebtoken::encode(&header, claims, &key.signing)
            .expect("a well-formed Ed25519 key signs a map of strings and integers")
            .into()
    }

    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    pub(crate) fn pages(&self) -> &Cache<[u8; 32], Verified<PageClaims>> {
        &self.pages
    }

    /// Of the keys in force: what was verified under others is verified anew.
    pub(crate) fn keys_version(&self) -> Vec<u8> {
        self.keyring().version().to_vec()
    }

    fn keyring(&self) -> Arc<Keyring> {
        Arc::clone(&self.keyring.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for TokenIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenIssuer")
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

impl<C: Clone> Verified<C> {
    pub(crate) fn at(&self, now: i64) -> Result<C, TokenError> {
        if self.key_ends.is_some_and(|end| now >= end) {
            return Err(TokenError::UnknownKey);
        }
        if self.begins > now.saturating_add(LEEWAY_SECONDS) {
            return Err(TokenError::NotYet);
        }
        if now.saturating_sub(LEEWAY_SECONDS) >= self.ends {
            return Err(TokenError::Expired);
        }
        Ok(self.claims.clone())
    }
}

fn cache_key(keyring: &Keyring, token: &str) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(keyring.version());
    context.update(token.as_bytes());
    let mut key = [0; 32];
    key.copy_from_slice(context.finish().as_ref());
    key
}
