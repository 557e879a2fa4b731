//! What the release before marks left becomes marked, where its photos are.

use std::fs;

use e2e::{Backend, Server};
use sea_orm::sqlx::{Connection as _, Executor as _, SqliteConnection};

use crate::blob_mark::{MARK, mark_in, photo, url_of};

/// Makes the database and the directory of photos what the release before marks left.
async fn before_marks(server: &Server) {
    let url = format!(
        "sqlite://{}",
        server.data_dir().join("rawdrive.db").display()
    );
    let mut database = SqliteConnection::connect(&url)
        .await
        .expect("the database opens");
    for sql in [
        "DROP TABLE blob_marks",
        "DELETE FROM seaql_migrations WHERE version = 'm0025_blob_mark'",
    ] {
        database.execute(sql).await.expect("the statement runs");
    }
    database.close().await.expect("the database closes");
    let _ = fs::remove_file(server.data_dir().join("blobs").join(MARK));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_installation_of_before_becomes_marked_where_its_photos_are_and_nowhere_else() {
    Backend::Sqlite.assert_chosen();
    let server = Server::start();
    let owner = server.sign_up_on("older", "professional").await;
    let mut photos = Vec::new();
    for _ in 0..5 {
        photos.push(photo(&owner).await);
    }
    server.kill9();
    before_marks(&server).await;

    // Where they are not, nothing is made of it.
    let elsewhere = url_of(&server.scratch("elsewhere"));
    let refused = server
        .admin_with(&[("BLOB_URL", &elsewhere)], &["serve"])
        .await;
    assert_eq!(refused.code, Some(1), "{refused:#?}");
    assert!(
        refused
            .stderr
            .contains("of 5 that were looked for 0 are there"),
        "{refused:#?}"
    );
    assert_eq!(mark_in(&server.scratch("elsewhere")), None);

    // A doctor alone changes nothing, and judges what is there.
    let report = server.admin(&["doctor", "--json"]).await;
    assert_eq!(report.code, Some(0), "{report:#?}");
    let blobs = server.data_dir().join("blobs");
    assert_eq!(mark_in(&blobs), None);

    // One that was lost before is the doctor's to tell.
    let lost = blobs
        .join("workspaces")
        .join(&owner.workspace_id)
        .join("photos")
        .join(&photos[0]);
    fs::remove_file(lost).expect("failed to lose a photo");
    server.restart();
    let mark = mark_in(&blobs).expect("it is marked");
    server.restart();
    assert_eq!(mark_in(&blobs), Some(mark));
    let api = server.bearer(&owner.token);
    let _ = api
        .get(&format!("/v1/photos/{}/content", photos[1]))
        .await
        .is(200);
    let report = server.admin(&["doctor"]).await;
    assert!(
        report
            .stdout
            .contains(&format!("{} has no bytes", photos[0])),
        "{report:#?}"
    );
}
