use std::sync::Arc;

use chrono::TimeDelta;
use rawdrive_identity::{
    Keyring, Minter, PAGE_TOKEN_MAX_SECONDS, Scopes, SigningKey, TokenError, TokenIssuer,
};
use rawdrive_tenancy_core::env::{Env, ManualClock};
use secrecy::ExposeSecret;

use crate::memory::{ISSUER, start};

fn issuer(env: &Env, name: &str) -> TokenIssuer {
    let key = SigningKey::generate(env);
    TokenIssuer::new(Keyring::new(vec![key]).expect("a key"), name.into())
}

fn usage() -> Scopes {
    Scopes::only(["usage:read".to_owned()])
}

#[test]
fn a_pages_token_says_who_had_it_made_and_for_what_until_it_ends() {
    let clock = Arc::new(ManualClock::at(start()));
    let env = Env::with_clock(clock.clone());
    let issuer = issuer(&env, ISSUER);
    let by_session = Minter::Session {
        user: env.id(),
        session: env.id(),
    };
    for minter in [by_session, Minter::Key(env.id())] {
        let workspace = env.id();
        let (token, ends) = issuer.issue_page_token(&env, workspace, minter, &usage(), 60);
        let claims = issuer.verify_page_token(&env, token.expose_secret());
        let claims = claims.expect("it holds");
        assert_eq!((claims.workspace, claims.minter), (workspace, minter));
        assert_eq!((&claims.scopes, claims.expires_at), (&usage(), ends));
        assert_eq!(claims.session().is_some(), minter == by_session);
        clock.advance(TimeDelta::seconds(66));
        let late = issuer.verify_page_token(&env, token.expose_secret());
        assert_eq!(late, Err(TokenError::Expired));
    }
    let minter = Minter::Key(env.id());
    let (_, ends) = issuer.issue_page_token(&env, env.id(), minter, &usage(), u32::MAX);
    let longest = i64::from(PAGE_TOKEN_MAX_SECONDS);
    assert!(ends <= env.now() + TimeDelta::seconds(longest));
}

#[test]
fn no_kind_of_token_passes_for_the_other_and_none_of_another_installation() {
    let env = Env::system();
    let (here, elsewhere) = (
        issuer(&env, ISSUER),
        issuer(&env, "https://elsewhere.example"),
    );
    let minter = Minter::Key(env.id());
    let (page, _) = here.issue_page_token(&env, env.id(), minter, &usage(), 60);
    let (access, _) = here.issue(&env, env.id(), env.id(), env.id());
    assert_eq!(
        here.verify(&env, page.expose_secret()),
        Err(TokenError::Header)
    );
    let access = here.verify_page_token(&env, access.expose_secret());
    assert_eq!(access, Err(TokenError::Header));
    let foreign = elsewhere.verify_page_token(&env, page.expose_secret());
    assert_eq!(foreign, Err(TokenError::UnknownKey));
    let text = page.expose_secret();
    let (head, signature) = text.rsplit_once('.').expect("three parts");
    let first = if signature.starts_with('A') { "B" } else { "A" };
    let forged = format!("{head}.{first}{}", &signature[1..]);
    assert_eq!(
        here.verify_page_token(&env, &forged),
        Err(TokenError::Signature)
    );
}
