//! Clients, their links, and who sees which gallery.

#![expect(
    clippy::unwrap_used,
    reason = "each function is a test, and a failing store is its failure"
)]

use std::collections::BTreeSet;

use chrono::TimeDelta;
use rawdrive_identity::EmailAddress;
use rawdrive_tenancy_core::{Commit, StoreError};

use rawdrive_testkit::contract::{Stage, begin};

use super::galleries::is_dangling;
use super::{GallerySubject, client, gallery, library};
use crate::{Client, ClientsTx, Gallery, GalleryTx, NewLink};

fn is_taken<T>(outcome: &Result<T, StoreError>) -> bool {
    matches!(outcome, Err(StoreError::Taken { .. }))
}

/// Two galleries in a library.
async fn galleries<S: GallerySubject>(stage: &Stage<S>, tx: &mut S::Tx) -> [Gallery; 2] {
    let library = library(stage.env());
    tx.insert_library(&library).await.unwrap();
    let both = [(); 2].map(|()| gallery(stage.env(), library.id));
    for gallery in &both {
        tx.insert_gallery(gallery).await.unwrap();
    }
    both
}

/// A client is what was written last; a folded address is one client's, in each workspace.
pub async fn a_client_is_read_as_written_and_an_address_is_taken_once<S: GallerySubject>(
    stage: &Stage<S>,
) {
    let first = client(stage.env(), "ada@example.com");
    let second = client(stage.env(), "bob@example.com");
    let mut tx = stage.begin().await;
    tx.insert_client(&first).await.unwrap();
    tx.insert_client(&second).await.unwrap();
    let changed = Client {
        email: EmailAddress::parse("Ada.L@example.com").unwrap(),
        updated_at: first.updated_at + TimeDelta::seconds(1),
        version: 2,
        ..first.clone()
    };
    tx.update_client(&changed).await.unwrap();
    assert_eq!(tx.client(first.id).await.unwrap(), Some(changed.clone()));
    assert_eq!(tx.client(second.id).await.unwrap(), Some(second.clone()));
    assert_eq!(tx.client(stage.id()).await.unwrap(), None);
    tx.commit().await.unwrap();

    let same_address = client(stage.env(), "ADA.L@example.com");
    let outcome = stage.begin().await.insert_client(&same_address).await;
    assert!(is_taken(&outcome), "{outcome:?}");
    let moved = Client {
        email: same_address.email.clone(),
        ..second
    };
    let outcome = stage.begin().await.update_client(&moved).await;
    assert!(is_taken(&outcome), "{outcome:?}");
    let mut theirs = begin(&stage.store, &stage.other).await;
    theirs.insert_client(&same_address).await.unwrap();
    assert_eq!(theirs.client(first.id).await.unwrap(), None);
}

/// A client has at most one link, the newest; it is revoked once.
pub async fn a_link_is_replaced_and_revoked_once<S: GallerySubject>(stage: &Stage<S>) {
    let invited = client(stage.env(), "ada@example.com");
    let mut tx = stage.begin().await;
    tx.insert_client(&invited).await.unwrap();
    for days in [0, 1] {
        let link = NewLink {
            id: stage.id(),
            client: invited.id,
            secret_hash: [7; 32],
            created_at: invited.created_at + TimeDelta::days(days),
        };
        tx.put_link(&link).await.unwrap();
        let read = tx.client(invited.id).await.unwrap().unwrap();
        assert_eq!(read.invited_at, Some(link.created_at));
    }
    assert!(tx.delete_link(invited.id).await.unwrap());
    assert!(!tx.delete_link(invited.id).await.unwrap());
    assert_eq!(tx.client(invited.id).await.unwrap(), Some(invited));
}

/// Their galleries are told, and grow by a version; other clients stay where they are.
pub async fn a_deleted_client_is_taken_off_its_galleries<S: GallerySubject>(stage: &Stage<S>) {
    let leaving = client(stage.env(), "ada@example.com");
    let staying = client(stage.env(), "bob@example.com");
    let mut tx = stage.begin().await;
    let [one, two] = galleries(stage, &mut tx).await;
    for client in [&leaving, &staying] {
        tx.insert_client(client).await.unwrap();
    }
    let both = [leaving.id, staying.id];
    tx.change_clients_of(one.id, &[], &both).await.unwrap();
    tx.change_clients_of(two.id, &[], &[staying.id])
        .await
        .unwrap();
    assert_eq!(tx.clients_of(one.id).await.unwrap(), BTreeSet::from(both));

    let seen = tx.delete_client(leaving.id).await.unwrap();
    assert_eq!(seen, [one.id]);
    assert_eq!(tx.client(leaving.id).await.unwrap(), None);
    for (gallery, version) in [(&one, 2), (&two, 1)] {
        let clients = tx.clients_of(gallery.id).await.unwrap();
        assert_eq!(clients, BTreeSet::from([staying.id]));
        let row = tx.gallery(gallery.id).await.unwrap().unwrap();
        assert_eq!(row.version, version);
    }
    tx.change_clients_of(one.id, &[staying.id], &[])
        .await
        .unwrap();
    assert_eq!(tx.clients_of(one.id).await.unwrap(), BTreeSet::new());
}

/// Nobody unknown, and nobody of another workspace.
pub async fn none_but_the_workspaces_clients_see_a_gallery<S: GallerySubject>(stage: &Stage<S>) {
    let foreign = client(stage.env(), "ada@example.com");
    let mut tx = begin(&stage.store, &stage.other).await;
    tx.insert_client(&foreign).await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = stage.begin().await;
    let [gallery, _] = galleries(stage, &mut tx).await;
    tx.commit().await.unwrap();
    for nobody in [stage.id(), foreign.id] {
        let mut tx = stage.begin().await;
        let outcome = tx.change_clients_of(gallery.id, &[], &[nobody]).await;
        assert!(is_dangling(&outcome), "{outcome:?}");
    }
}
