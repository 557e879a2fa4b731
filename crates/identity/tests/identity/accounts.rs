use rawdrive_identity::{
    AccountUpdate, IdentityError, PasswordChange, PersonName, RefreshToken, open_session,
    prove_update, refresh, sign_in, sign_up, switch, update_me,
};
use rawdrive_tenancy_core::Role;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use rawdrive_tenancy_core::Commit as _;

use crate::memory::{CLIENT, PASSWORD, World, begin, claimed, new_account, new_password, pepper};
use crate::sessions::credentials;

#[tokio::test]
async fn signing_up_makes_an_owner_with_a_session_and_one_audit_entry() {
    let world = World::new().await;
    let ana = world.sign_up("Ana@Example.com").await;
    let found = world.authenticate(&ana).await.unwrap();
    assert_eq!(
        (found.membership.user(), found.membership.role()),
        (ana.person.id, Role::Owner)
    );
    assert_eq!(found.membership.workspace(), ana.workspace.workspace);

    let audit = world.audit(ana.workspace.workspace);
    let [entry] = &audit[..] else {
        panic!("one entry")
    };
    assert_eq!(
        (entry.action.as_str(), &entry.subject),
        ("workspace.created", &ana.workspace.workspace.to_string())
    );
    let identity = world.store.identity();
    let workspace = &identity.workspaces[&ana.workspace.workspace].made;
    assert!(
        workspace.slug.starts_with("ana-s-studio-"),
        "{}",
        workspace.slug
    );
    assert_eq!(workspace.billing_email, None, "onboarding asks for it");
    assert_eq!(
        serde_json::from_str::<Value>(&entry.payload.as_ref().unwrap().text).unwrap(),
        json!({
            "before": null,
            "after": { "name": "Ana's Studio", "slug": workspace.slug, "currency": "eur", "owner": ana.person.id },
        })
    );
}

#[tokio::test]
async fn an_address_is_taken_in_any_case_and_nothing_is_left_behind() {
    let world = World::new().await;
    let ana = world.sign_up("Ana@Example.com").await;
    let hash = world
        .hasher
        .hash(&new_password(PASSWORD), &world.env, CLIENT)
        .await
        .unwrap();
    let mut tx = world.begin(world.env.id()).await;
    let again = sign_up(
        &mut tx,
        &world.env,
        &world.issuer,
        new_account("aNA@example.COM"),
        hash,
    )
    .await;
    assert!(matches!(again, Err(IdentityError::EmailTaken)));
    drop(tx);
    assert_eq!(world.store.identity().workspaces.len(), 1);
    assert_eq!(world.audit(ana.workspace.workspace).len(), 1);
}

fn change(current: &str, new: &str) -> AccountUpdate {
    let password = PasswordChange {
        new: new_password(new),
        current: claimed(current),
    };
    AccountUpdate {
        name: None,
        password: Some(password),
    }
}

#[tokio::test]
async fn a_new_password_ends_all_sessions_but_the_one_that_asked() {
    let world = World::new().await;
    let World {
        store,
        env,
        hasher,
        issuer,
        ..
    } = &world;
    let here = world.sign_up("ana@example.com").await;
    let opening = sign_in(
        store,
        store,
        hasher,
        (env, &pepper()),
        &credentials("ana@example.com", PASSWORD),
    )
    .await
    .unwrap();
    // This one proves the old password now and opens its session only after the change.
    let late = sign_in(
        store,
        store,
        hasher,
        (env, &pepper()),
        &credentials("ana@example.com", PASSWORD),
    )
    .await
    .unwrap();
    let mut tx = begin(store, opening.workspace()).await;
    let there = open_session(&mut tx, env, issuer, opening).await.unwrap();
    tx.commit().await.unwrap();

    let membership = world.authenticate(&here).await.unwrap().membership;
    let proven = prove_update(
        store,
        store,
        hasher,
        env,
        (&membership, CLIENT),
        change(PASSWORD, "battery staple"),
    )
    .await
    .unwrap();
    let mut tx = begin(store, membership.workspace()).await;
    update_me(&mut tx, &membership, proven).await.unwrap();
    tx.commit().await.unwrap();

    assert!(world.authenticate(&here).await.is_some());
    assert!(world.authenticate(&there).await.is_none());
    let mut tx = begin(store, late.workspace()).await;
    let late = open_session(&mut tx, env, issuer, late).await.unwrap();
    tx.commit().await.unwrap();
    assert!(world.authenticate(&late).await.is_none(), "dead at birth");

    for (signed_in, holds) in [(&here, true), (&there, false), (&late, false)] {
        let token = RefreshToken::parse(signed_in.tokens.refresh.expose_secret()).unwrap();
        let mut tx = begin(store, token.workspace()).await;
        let refreshed = refresh(&mut tx, env, issuer, &token)
            .await
            .and_then(|r| r.tokens());
        assert_eq!(refreshed.is_ok(), holds);
    }
    let old = sign_in(
        store,
        store,
        hasher,
        (env, &pepper()),
        &credentials("ana@example.com", PASSWORD),
    )
    .await;
    assert!(matches!(old, Err(IdentityError::WrongCredentials)));
    let new = credentials("ana@example.com", "battery staple");
    let opening = sign_in(store, store, hasher, (env, &pepper()), &new)
        .await
        .unwrap();
    let mut tx = begin(store, opening.workspace()).await;
    let after = open_session(&mut tx, env, issuer, opening).await.unwrap();
    tx.commit().await.unwrap();
    let authenticated = world.authenticate(&after).await.unwrap();
    let second = world.join(after.person.id, "Second", env.now()).await;
    let opening = switch(store, &authenticated, second).await.unwrap();
    let mut tx = begin(store, second).await;
    let switched = open_session(&mut tx, env, issuer, opening).await.unwrap();
    tx.commit().await.unwrap();
    assert!(
        world.authenticate(&switched).await.is_some(),
        "the new epoch is carried on"
    );
}

#[tokio::test]
async fn a_password_changes_only_for_whoever_knows_the_present_one() {
    let world = World::new().await;
    let World {
        store, env, hasher, ..
    } = &world;
    let ana = world.sign_up("ana@example.com").await;
    let membership = world.authenticate(&ana).await.unwrap().membership;
    // Two changes proved against the same password: the first to commit wins.
    let first = prove_update(
        store,
        store,
        hasher,
        env,
        (&membership, CLIENT),
        change(PASSWORD, "battery staple"),
    )
    .await;
    let second = prove_update(
        store,
        store,
        hasher,
        env,
        (&membership, CLIENT),
        change(PASSWORD, "staple battery"),
    )
    .await;
    let mut tx = begin(store, membership.workspace()).await;
    update_me(&mut tx, &membership, first.unwrap())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let mut tx = begin(store, membership.workspace()).await;
    let lost = update_me(&mut tx, &membership, second.unwrap()).await;
    assert!(matches!(lost, Err(IdentityError::WrongCurrentPassword)));
    drop(tx);

    for _ in 0..10 {
        let wrong = prove_update(
            store,
            store,
            hasher,
            env,
            (&membership, CLIENT),
            change("guess", "battery staple"),
        )
        .await;
        assert!(matches!(wrong, Err(IdentityError::WrongCurrentPassword)));
    }
    let right = change("battery staple", "correct horse");
    let shut = prove_update(store, store, hasher, env, (&membership, CLIENT), right).await;
    assert!(matches!(shut, Err(IdentityError::TooManyAttempts { .. })));
}

#[tokio::test]
async fn a_name_changes_without_a_password_and_ends_nothing() {
    let world = World::new().await;
    let World {
        store, env, hasher, ..
    } = &world;
    let ana = world.sign_up("ana@example.com").await;
    let membership = world.authenticate(&ana).await.unwrap().membership;
    let update = AccountUpdate {
        name: Some(PersonName::parse(" Anna ").unwrap()),
        password: None,
    };
    let proven = prove_update(store, store, hasher, env, (&membership, CLIENT), update)
        .await
        .unwrap();
    let nothing = prove_update(
        store,
        store,
        hasher,
        env,
        (&membership, CLIENT),
        AccountUpdate::default(),
    )
    .await
    .unwrap();
    let mut elsewhere = begin(store, env.id()).await;
    assert!(matches!(
        update_me(&mut elsewhere, &membership, nothing).await,
        Err(IdentityError::Unauthenticated)
    ));
    drop(elsewhere);
    let mut tx = begin(store, membership.workspace()).await;
    assert_eq!(
        update_me(&mut tx, &membership, proven)
            .await
            .unwrap()
            .name
            .as_str(),
        "Anna"
    );
    tx.commit().await.unwrap();
    assert!(world.authenticate(&ana).await.is_some());
}
