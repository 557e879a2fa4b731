//! Tokens for pages: short-lived, for a front end that shows something of a workspace to whoever looks at it. They read
//! and never write, as a member at most, and never longer than whoever asked for them is admitted: the session or the key
//! behind a token is looked up at each request.

use aws_lc_rs::digest::{SHA256, digest};
use chrono::{DateTime, Utc};
use rawdrive_tenancy_core::Env;
use rawdrive_tenancy_core::id::{SessionId, WorkspaceId};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::access_token::{TokenError, TokenIssuer, Verified};
use crate::ports::{Minter, PageClaims};
use crate::scopes::Scopes;

/// How long such a token holds at most.
pub const PAGE_TOKEN_MAX_SECONDS: u32 = 3600;

/// Of no other token: what holds here holds nowhere else, and the other way round.
const TYPE: &str = "page+jwt";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    wid: WorkspaceId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sid: Option<SessionId>,
    scope: String,
    iat: i64,
    nbf: i64,
    exp: i64,
    jti: String,
}

impl TokenIssuer {
    /// A fresh token for a page, which holds for `seconds`, at most [`PAGE_TOKEN_MAX_SECONDS`].
    #[must_use]
    pub fn issue_page_token(
        &self,
        env: &Env,
        workspace: WorkspaceId,
        minter: Minter,
        scopes: &Scopes,
        seconds: u32,
    ) -> (SecretString, DateTime<Utc>) {
        let now = env.now();
        let iat = now.timestamp();
        let exp = iat + i64::from(seconds.min(PAGE_TOKEN_MAX_SECONDS));
        let (sub, sid) = match minter {
            Minter::Session { user, session } => (user.to_string(), Some(session)),
            Minter::Key(key) => (key.to_string(), None),
        };
        let claims = Claims {
            iss: self.issuer().to_owned(),
            aud: self.issuer().to_owned(),
            sub,
            wid: workspace,
            sid,
            scope: scopes.text().unwrap_or_default(),
            iat,
            nbf: iat,
            exp,
            jti: env.uuid().simple().to_string(),
        };
        let ends = DateTime::from_timestamp(exp, 0).unwrap_or(now);
        (self.sign(now, TYPE, &claims), ends)
    }

    /// Verifies a page's token at the current time.
    ///
    /// # Errors
    /// Why it does not hold.
    pub fn verify_page_token(&self, env: &Env, token: &str) -> Result<PageClaims, TokenError> {
        let now = env.now().timestamp();
        let mut hash = [0; 32];
        hash.copy_from_slice(
            digest(
                &SHA256,
                &[self.keys_version().as_slice(), token.as_bytes()].concat(),
            )
            .as_ref(),
        );
        if let Some(verified) = self.pages().get(&hash) {
            return verified.at(now);
        }
        let (claims, key_ends) = self.decode::<Claims>(token, TYPE)?;
        let verified = self.checked(claims, key_ends)?;
        let holds = verified.at(now)?;
        self.pages().insert(hash, verified);
        Ok(holds)
    }

    fn checked(
        &self,
        claims: Claims,
        key_ends: Option<i64>,
    ) -> Result<Verified<PageClaims>, TokenError> {
        let lifetime = claims.exp.checked_sub(claims.iat);
        let lifetime = lifetime.and_then(|seconds| u32::try_from(seconds).ok());
        let lives = lifetime.is_some_and(|seconds| (1..=PAGE_TOKEN_MAX_SECONDS).contains(&seconds));
        let ours = claims.iss == self.issuer() && claims.aud == self.issuer();
        if !ours || !lives || claims.nbf > claims.exp {
            return Err(TokenError::Claims);
        }
        let minter = match claims.sid {
            Some(session) => Minter::Session {
                user: claims.sub.parse().map_err(|_| TokenError::Claims)?,
                session,
            },
            None => Minter::Key(claims.sub.parse().map_err(|_| TokenError::Claims)?),
        };
        Ok(Verified {
            claims: PageClaims {
                workspace: claims.wid,
                minter,
                scopes: Scopes::of_text(Some(&claims.scope)),
                expires_at: DateTime::from_timestamp(claims.exp, 0).ok_or(TokenError::Claims)?,
            },
            begins: claims.nbf.max(claims.iat),
            ends: claims.exp,
            key_ends,
        })
    }
}
