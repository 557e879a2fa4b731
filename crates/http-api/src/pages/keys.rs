//! What a page's cookie and a page's form are proved with.
//!
//! Invariant: what a cookie holds is sealed, and is no token of the API: `Authorization` takes neither the cookie's text
//! nor anything that can be made of it without this installation's key.

use std::fmt;

use aws_lc_rs::hmac;
use chrono::{DateTime, TimeDelta};
use rawdrive_identity::ports::AccessClaims;
use rawdrive_identity::{MasterKey, Sealer};
use rawdrive_tenancy_core::Env;

/// How long a page remembers who signed in. Long enough to look for a card, too short to be found the next day.
pub(crate) const SESSION_LIFE: TimeDelta = TimeDelta::hours(1);

const SESSION: &str = "page session";
const INVITATION: &str = "page of an invitation";

/// The keys of pages.
#[derive(Clone)]
pub(crate) struct PageKeys {
    sessions: Sealer,
    forms: hmac::Key,
}

impl fmt::Debug for PageKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PageKeys(…)")
    }
}

impl PageKeys {
    pub(crate) fn new(master: &MasterKey) -> Self {
        Self {
            sessions: Sealer::new(master, "page sessions"),
            forms: hmac::Key::new(hmac::HMAC_SHA256, &master.derive("page forms")),
        }
    }

    /// A cookie's text: whose session it is, for [`SESSION_LIFE`] from now on.
    pub(crate) fn seal(&self, env: &Env, claims: &AccessClaims) -> String {
        let ends = (env.now() + SESSION_LIFE).timestamp();
        let text = format!(
            "{} {} {} {ends}",
            claims.user, claims.workspace, claims.session
        );
        self.sessions.seal(env, SESSION, &text)
    }

    /// The session that a cookie's text names; nothing where it is none of ours, or has ended.
    pub(crate) fn open(&self, env: &Env, cookie: &str) -> Option<AccessClaims> {
        let text = self.sessions.open(SESSION, cookie).ok()?;
        let mut parts = text.split(' ');
        let mut part = || parts.next();
        let (user, workspace, session) = (part()?, part()?, part()?);
        let ends: i64 = part()?.parse().ok()?;
        let claims = AccessClaims {
            user: user.parse().ok()?,
            workspace: workspace.parse().ok()?,
            session: session.parse().ok()?,
            expires_at: DateTime::from_timestamp(ends, 0)?,
        };
        (env.now() < claims.expires_at).then_some(claims)
    }

    /// A mailed token as a form holds it: no answer of ours repeats one in clear.
    pub(crate) fn seal_invitation(&self, env: &Env, token: &str) -> String {
        self.sessions.seal(env, INVITATION, token)
    }

    /// The token that a form holds; nothing where none of ours was sealed.
    pub(crate) fn open_invitation(&self, sealed: &str) -> Option<String> {
        self.sessions.open(INVITATION, sealed).ok()
    }

    /// What a form of a session, or of a visitor, has to bring back: another site's page cannot know it.
    pub(crate) fn form_token(&self, of: &str) -> String {
        let tag = hmac::sign(&self.forms, of.as_bytes());
        tag.as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// Whether a form brought back what it was given.
    pub(crate) fn is_form_token(&self, of: &str, token: &str) -> bool {
        let ours = self.form_token(of);
        aws_lc_rs::constant_time::verify_slices_are_equal(ours.as_bytes(), token.as_bytes()).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rawdrive_tenancy_core::id::{SessionId, TypedId as _, UserId, WorkspaceId};

    fn keys(text: &str) -> PageKeys {
        PageKeys::new(&MasterKey::new(text).unwrap())
    }

    #[test]
    fn a_cookie_names_its_session_under_its_own_key_alone() {
        let env = Env::system();
        let id = uuid::Uuid::from_u128;
        let claims = AccessClaims {
            user: UserId::from_uuid(id(1)),
            workspace: WorkspaceId::from_uuid(id(2)),
            session: SessionId::from_uuid(id(3)),
            expires_at: env.now(),
        };
        let ours = keys("a key of this installation, 32 bytes and more");
        let cookie = ours.seal(&env, &claims);
        let opened = ours.open(&env, &cookie).unwrap();
        assert_eq!(
            (opened.user, opened.workspace, opened.session),
            (claims.user, claims.workspace, claims.session)
        );
        assert!(opened.expires_at > env.now() + SESSION_LIFE - TimeDelta::minutes(1));
        let theirs = keys("a key of another installation, as long as ours");
        assert!(theirs.open(&env, &cookie).is_none());
        let mut altered = cookie.into_bytes();
        altered[20] ^= 1;
        assert!(
            ours.open(&env, &String::from_utf8(altered).unwrap())
                .is_none()
        );
        assert!(ours.open(&env, "").is_none());
    }

    #[test]
    fn a_forms_token_is_of_whom_it_was_made_for() {
        let ours = keys("a key of this installation, 32 bytes and more");
        let token = ours.form_token("ses_1");
        assert!(ours.is_form_token("ses_1", &token));
        assert!(!ours.is_form_token("ses_2", &token));
        assert!(!ours.is_form_token("ses_1", ""));
    }
}
