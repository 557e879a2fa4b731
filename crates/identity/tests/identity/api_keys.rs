use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use rawdrive_identity::ports::{IdentityTx as _, WorkspaceStatus};
use rawdrive_identity::{
    ApiKeyError, ApiKeyName, ApiKeyRead, ApiKeyRow, ApiKeyToken, IdentityError, MAX_API_KEYS,
    NewApiKey, ProvenKey, Scopes, StoredKey, TokenPepper, create_api_key, prove_api_key,
    prove_key_of_page, revoke_api_key, worth,
};
use rawdrive_tenancy_core::id::{UserId, WorkspaceId};
use rawdrive_tenancy_core::{Commit as _, Role};
use rawdrive_testkit::MemoryTx;
use secrecy::ExposeSecret;

use crate::memory::{World, pepper};

fn wanted(role: Role, expires_at: Option<DateTime<Utc>>) -> NewApiKey {
    NewApiKey {
        name: ApiKeyName::parse("Uploader").expect("a name"),
        role,
        scopes: Scopes::all(),
        expires_at,
    }
}

impl World {
    /// A key that somebody with the role makes.
    async fn make_key(
        &self,
        workspace: WorkspaceId,
        own: Role,
        new: NewApiKey,
    ) -> Result<(ApiKeyRow, ApiKeyToken), ApiKeyError> {
        let maker = self.member(workspace, own).await;
        let tx = self.begin(workspace).await;
        self.make_key_of(maker, tx, new).await
    }

    async fn make_key_of(
        &self,
        maker: UserId,
        mut tx: MemoryTx,
        new: NewApiKey,
    ) -> Result<(ApiKeyRow, ApiKeyToken), ApiKeyError> {
        let (row, secret) = create_api_key(&mut tx, &self.env, &pepper(), maker, new).await?;
        tx.commit().await.expect("committed");
        Ok((
            row,
            ApiKeyToken::parse(secret.expose_secret()).expect("a key"),
        ))
    }

    async fn prove_key(&self, token: &ApiKeyToken) -> Result<ProvenKey, IdentityError> {
        let found = self.store.presented_key(token).await?;
        prove_api_key(&self.env, &pepper(), token, found)
    }
}

#[tokio::test]
async fn a_key_proves_its_workspace_and_its_role_until_it_ends() {
    let world = World::new().await;
    let ana = world.sign_up("ana@example.com").await;
    let here = ana.workspace.workspace;
    let end = world.env.now() + TimeDelta::hours(1);
    let new = wanted(Role::Admin, Some(end));
    let (row, token) = world.make_key(here, Role::Owner, new).await.unwrap();
    let proven = world.prove_key(&token).await.unwrap();
    assert_eq!(
        (
            proven.grant.workspace(),
            proven.grant.key(),
            proven.grant.role()
        ),
        (here, row.id, Role::Admin)
    );
    let stored = world.store.identity().api_keys[&(here, row.id)].1.clone();
    assert!(!token.text().expose_secret().contains(&stored));
    world
        .clock
        .advance(TimeDelta::hours(1) - TimeDelta::seconds(1));
    assert!(world.prove_key(&token).await.is_ok());
    world.clock.advance(TimeDelta::seconds(1));
    let ended = world.prove_key(&token).await;
    assert!(
        matches!(ended, Err(IdentityError::Unauthenticated)),
        "{ended:?}"
    );
}

#[tokio::test]
async fn a_secret_holds_for_its_own_row_and_pepper_alone() {
    let world = World::new().await;
    let ana = world.sign_up("ana@example.com").await.workspace.workspace;
    let eve = world.sign_up("eve@example.com").await.workspace.workspace;
    let new = wanted(Role::Member, None);
    let (_, anas) = world.make_key(ana, Role::Owner, new.clone()).await.unwrap();
    let (_, eves) = world.make_key(eve, Role::Owner, new).await.unwrap();
    let text = |token: &ApiKeyToken| token.text().expose_secret().to_owned();
    let (anas_text, eves_text) = (text(&anas), text(&eves));
    let parts = |text: &str| text.split('_').map(str::to_owned).collect::<Vec<_>>();
    let (a, e) = (parts(&anas_text), parts(&eves_text));
    for swapped in [
        [&a[0], &e[1], &a[2], &a[3]],
        [&a[0], &a[1], &e[2], &a[3]],
        [&a[0], &a[1], &a[2], &e[3]],
        [&a[0], &e[1], &e[2], &a[3]],
    ] {
        let token = ApiKeyToken::parse(&swapped.map(String::as_str).join("_")).unwrap();
        let refused = world.prove_key(&token).await;
        assert!(
            matches!(refused, Err(IdentityError::Unauthenticated)),
            "{refused:?}"
        );
    }
    let other = TokenPepper::new(&[8; 32]);
    let found = world.store.presented_key(&anas).await.unwrap();
    assert!(prove_api_key(&world.env, &other, &anas, found).is_err());
}

#[tokio::test]
async fn nobody_gives_more_than_they_have_and_a_workspace_has_an_end() {
    let world = World::new().await;
    let here = world.sign_up("ana@example.com").await.workspace.workspace;
    for (own, asked) in [
        (Role::Member, Role::Admin),
        (Role::Member, Role::Owner),
        (Role::Admin, Role::Owner),
    ] {
        let refused = world.make_key(here, own, wanted(asked, None)).await;
        assert!(
            matches!(refused, Err(ApiKeyError::AboveOwnRole { role }) if role == asked),
            "{refused:?}"
        );
    }
    let before = world.audit(here).len();
    for _ in 0..MAX_API_KEYS {
        world
            .make_key(here, Role::Owner, wanted(Role::Member, None))
            .await
            .unwrap();
    }
    let refused = world
        .make_key(here, Role::Owner, wanted(Role::Member, None))
        .await;
    assert!(matches!(refused, Err(ApiKeyError::TooMany)), "{refused:?}");
    let audited = world.audit(here).len() - before;
    assert_eq!(
        audited as u64, MAX_API_KEYS,
        "one entry a key, none for a refusal"
    );
    let other = world.sign_up("eve@example.com").await.workspace.workspace;
    assert!(
        world
            .make_key(other, Role::Owner, wanted(Role::Member, None))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_revoked_key_is_gone_and_only_in_its_own_workspace() {
    let world = World::new().await;
    let here = world.sign_up("ana@example.com").await.workspace.workspace;
    let there = world.sign_up("eve@example.com").await.workspace.workspace;
    let (row, token) = world
        .make_key(here, Role::Owner, wanted(Role::Member, None))
        .await
        .unwrap();
    let revoke = async |workspace| {
        let mut tx = world.begin(workspace).await;
        assert_eq!(tx.workspace(), workspace);
        let done = revoke_api_key(&mut tx, &world.env, row.id).await.unwrap();
        tx.commit().await.unwrap();
        done
    };
    let before = world.audit(here).len();
    assert!(!revoke(there).await);
    assert!(world.prove_key(&token).await.is_ok());
    assert_eq!(world.audit(here).len(), before);
    assert!(revoke(here).await);
    assert!(world.prove_key(&token).await.is_err());
    assert!(!revoke(here).await);
    let audit = world.audit(here);
    assert_eq!(audit.len(), before + 1);
    assert_eq!(audit[before].action, "api_key.revoked");
}

#[tokio::test]
async fn who_is_no_member_makes_no_key() {
    let world = World::new().await;
    let here = world.sign_up("ana@example.com").await.workspace.workspace;
    let tx = world.begin(here).await;
    let stranger = world.env.id();
    let refused = world.make_key_of(stranger, tx, wanted(Role::Member, None));
    let refused = refused.await;
    assert!(
        matches!(refused, Err(ApiKeyError::Unauthenticated)),
        "{refused:?}"
    );
}

/// The same row answers for a key and for a page's token of it, which has no secret to compare.
#[tokio::test]
async fn a_pages_key_holds_until_it_ends_and_for_what_its_sponsor_is_worth() {
    let world = World::new().await;
    let here = world.sign_up("ana@example.com").await.workspace.workspace;
    let (id, now) = (world.env.id(), world.env.now());
    let row = |sponsor_role, expires_at| StoredKey {
        role: Role::Admin,
        scopes: Scopes::only(["usage:read".to_owned()]),
        name: ApiKeyName::parse("Uploader").expect("a name"),
        sponsor_role,
        secret_hash: String::new(),
        expires_at,
        last_used_at: None,
        workspace_status: WorkspaceStatus::Suspended,
    };
    let instant = TimeDelta::microseconds(1);
    for (found, expected) in [
        (None, None),
        (Some(row(None, None)), None),
        (Some(row(Some(Role::Owner), Some(now - instant))), None),
        (Some(row(Some(Role::Owner), Some(now))), None),
        (
            Some(row(Some(Role::Owner), Some(now + instant))),
            Some(Role::Admin),
        ),
        (Some(row(Some(Role::Admin), None)), Some(Role::Admin)),
        (Some(row(Some(Role::Member), None)), Some(Role::Member)),
    ] {
        let shown = format!("{found:?}");
        let proven = prove_key_of_page(&world.env, here, id, found);
        assert_eq!(
            proven.as_ref().ok().map(|key| key.grant.role()),
            expected,
            "{shown}"
        );
        match proven {
            Ok(key) => {
                assert_eq!((key.grant.workspace(), key.grant.key()), (here, id));
                assert_eq!(key.scopes.names(), Some(vec!["usage:read"]));
                // Whether one may act in the workspace is for whoever lets the key in.
                assert_eq!(key.workspace_status, WorkspaceStatus::Suspended);
            }
            Err(error) => assert!(matches!(error, IdentityError::Unauthenticated), "{error:?}"),
        }
    }
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Member), Just(Role::Admin), Just(Role::Owner)]
}

proptest! {
    #[test]
    fn a_key_is_never_worth_more_than_its_maker_is_then(
        own in role(),
        asked in role(),
        // The maker's role at each moment; nothing while they are no member.
        life in prop::collection::vec(prop::option::of(role()), 0..12),
    ) {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let world = World::new().await;
            let here = world.sign_up("ana@example.com").await.workspace.workspace;
            let Ok((row, token)) = world.make_key(here, own, wanted(asked, None)).await else {
                assert!(asked > own);
                return;
            };
            let maker = row.sponsor.expect("its maker answers for it");
            for now in [Some(own)].into_iter().chain(life) {
                world.set_membership(here, maker, now).await;
                let proven = world.prove_key(&token).await.ok();
                let found = proven.map(|proven| proven.grant.role());
                assert_eq!(found, worth(asked, now));
                assert!(found <= now && found <= Some(asked), "{found:?} of {now:?}");
            }
        });
    }
}
