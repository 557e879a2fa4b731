//! What is read for a credential comes with the credential's row, and not at all where that does not hold.

use rawdrive_gallery::testkit::library;
use rawdrive_gallery::{GalleryRead, GalleryTx, Library};
use rawdrive_identity::{
    ApiKeyName, ApiKeyToken, NewApiKey, Scopes, TokenPepper, create_api_key, prove_api_key,
};
use rawdrive_store::{Found, Presented, Reader};
use rawdrive_tenancy_core::id::TypedId;
use rawdrive_tenancy_core::page::PageRequest;
use rawdrive_tenancy_core::{Commit, Role, StoreError};
use rawdrive_testkit::contract::Stage;
use secrecy::ExposeSecret;

use crate::subject::{Opened, member, stage};
use crate::support::Engine;

fn pepper() -> TokenPepper {
    TokenPepper::new(&[7; 32])
}

async fn key(stage: &Stage<Opened>) -> ApiKeyToken {
    let new = NewApiKey {
        name: ApiKeyName::parse("reader").unwrap(),
        role: Role::Member,
        scopes: Scopes::all(),
        expires_at: None,
    };
    let mut tx = stage.begin().await;
    let maker = member(&mut tx, stage.env(), Role::Owner).await;
    let made = create_api_key(&mut tx, stage.env(), &pepper(), maker, new).await;
    let (_, secret) = made.unwrap();
    tx.commit().await.unwrap();
    ApiKeyToken::parse(secret.expose_secret()).unwrap()
}

async fn shelves(stage: &Stage<Opened>, n: usize) -> Vec<Library> {
    let mut shelves = Vec::new();
    let mut tx = stage.begin().await;
    for _ in 0..n {
        let shelf = library(stage.env());
        tx.insert_library(&shelf).await.unwrap();
        shelves.push(shelf);
    }
    tx.commit().await.unwrap();
    shelves.sort_by_key(|shelf| shelf.id.uuid());
    shelves
}

/// What is read under a key, and whether the key holds.
async fn read<T>(
    stage: &Stage<Opened>,
    token: &ApiKeyToken,
    read: impl AsyncFnOnce(&Reader) -> T,
) -> Option<T> {
    let presented = Presented::Key(token.clone());
    let store = &stage.store.store;
    let withheld = store.read_presented(presented, &pepper(), read).await;
    let released = withheld.unwrap().release(|presented, found| {
        let (Presented::Key(token), Found::Key(row)) = (presented, found) else {
            panic!("it is a key");
        };
        prove_api_key(stage.env(), &pepper(), token, row).map(drop)
    });
    released.ok()
}

/// The same id with another secret.
fn forged(token: &ApiKeyToken) -> ApiKeyToken {
    let text = token.text();
    let (named, secret) = text.expose_secret().rsplit_once('_').unwrap();
    let forged: String = secret.chars().rev().collect();
    ApiKeyToken::parse(&format!("{named}_{forged}")).unwrap()
}

async fn what_is_read_comes_with_the_credential(engine: Engine) {
    let stage = stage(engine).await;
    let (key, shelves) = (key(&stage).await, shelves(&stage, 5).await);
    let page = PageRequest {
        limit: 3,
        after: None,
    };
    let all = rawdrive_gallery::NameListing::default();
    let listed = read(&stage, &key, async |reader| {
        reader.libraries(&all, page).await
    })
    .await;
    assert_eq!(listed.unwrap().unwrap().items, shelves[..3]);
    let one = read(&stage, &key, async |reader| {
        reader.library(shelves[4].id).await
    });
    assert_eq!(one.await.unwrap().unwrap().as_ref(), Some(&shelves[4]));
    let none = read(&stage, &key, async |reader| {
        reader.library(stage.env().id()).await
    });
    assert_eq!(none.await.unwrap().unwrap(), None);
    let several = read(&stage, &key, async |reader| {
        let first = reader.library(shelves[0].id).await?;
        let entitlements = reader.entitlements().await?;
        let second = reader.library(shelves[1].id).await?;
        Ok::<_, StoreError>((first, entitlements.workspace, second))
    });
    let (first, workspace, second) = several.await.unwrap().unwrap();
    assert_eq!(
        (first.as_ref(), second.as_ref()),
        (Some(&shelves[0]), Some(&shelves[1]))
    );
    assert_eq!(workspace, stage.scope.workspace());
    assert_eq!(read(&stage, &key, async |_| 7).await, Some(7));
    // Some columns are read by their place.
    let empty = read(&stage, &key, async |reader| {
        reader
            .photos(
                stage.env().id(),
                &rawdrive_gallery::PhotoListing::default(),
                page,
            )
            .await
    });
    assert_eq!(empty.await.unwrap().unwrap(), None);
}

async fn nothing_is_read_for_one_that_does_not_hold(engine: Engine) {
    let stage = stage(engine).await;
    let (key, shelves) = (key(&stage).await, shelves(&stage, 1).await);
    let unknown = ApiKeyToken::generate(stage.env(), stage.scope.workspace());
    for token in [forged(&key), unknown] {
        let mut read_something = false;
        let released = read(&stage, &token, async |reader| {
            for _ in 0..2 {
                read_something |= reader.library(shelves[0].id).await.is_ok();
            }
            read_something |= reader.entitlements().await.is_ok();
        });
        assert_eq!(released.await, None);
        assert!(!read_something);
        assert_eq!(read(&stage, &token, async |_| 7).await, None);
    }
}

on_every_database![
    what_is_read_comes_with_the_credential,
    nothing_is_read_for_one_that_does_not_hold,
];
