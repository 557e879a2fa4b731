//! A disk that fails: at every single call that changes a file, for once or until it is repaired.
//!
//! What fails is the real server's calls of the C library (`assets/failing_disk.c`). After each fault:
//! acknowledged ⊆ durable ⊆ attempted, and the server goes on by itself. PostgreSQL's disk is its own affair.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::Command;

use e2e::{Actor, Answer, Api, Backend, Server, image, storage_faults};
use futures_util::future::join;
use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;

/// What a disk answers when it is full, broken, or mounted to be read alone (Linux).
const ENOSPC: i64 = 28;
const EIO: i64 = 5;
const EROFS: i64 = 30;

/// A fault: its errno, and whether it stays.
const FAULTS: [(i64, bool); 5] = [
    (ENOSPC, true),
    (EIO, false),
    (ENOSPC, false),
    (EIO, true),
    (EROFS, true),
];

/// A disk without a fault.
const SOUND: [i64; 6] = [-1, 0, 0, 0, 0, -1];

/// A server whose disk can be made to fail.
struct Disk {
    server: Server,
    orders: File,
    _folder: TempDir,
}

impl Disk {
    async fn start() -> Self {
        let folder = TempDir::with_prefix("rawdrive-e2e-").expect("failed to make a directory");
        let library = folder.path().join("failing_disk.so");
        let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("assets/failing_disk.c");
        let mut compile = Command::new("cc");
        compile
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&library)
            .arg(source)
            .arg("-ldl");
        assert!(compile.status().expect("failed to start cc").success());
        let path = folder.path().join("orders");
        let orders = File::options()
            .create_new(true)
            .read(true)
            .write(true)
            .open(&path)
            .expect("failed to make the orders");
        let disk = |root: &str| {
            [
                (
                    "LD_PRELOAD",
                    library.to_str().expect("a path of text").to_owned(),
                ),
                (
                    "FAILING_DISK_ORDERS",
                    path.to_str().expect("a path of text").to_owned(),
                ),
                ("FAILING_DISK_ROOT", root.to_owned()),
            ]
        };
        set(&orders, SOUND);
        let server = Server::start_in(|data| {
            disk(&format!("{}/", data.display()))
                .map(|(name, value)| (name.to_owned(), value))
                .into()
        });
        Self {
            server,
            orders,
            _folder: folder,
        }
    }

    /// From the n-th call on, as the fault says.
    fn fail_after(&self, calls: i64, (errno, stays): (i64, bool)) {
        set(&self.orders, [calls, i64::from(stays), errno, 0, 0, -1]);
    }

    /// There is no room any more, but for what is given back.
    fn fill(&self) {
        set(&self.orders, [-1, 0, 0, 0, 0, 0]);
    }

    /// Repairs the disk; answers how many calls there were, and how many failed.
    fn repair(&self) -> (i64, i64) {
        let mut told = [0; 48];
        self.orders
            .read_exact_at(&mut told, 0)
            .expect("failed to read the orders");
        let number = |at: usize| {
            i64::from_ne_bytes(told[8 * at..8 * at + 8].try_into().expect("eight bytes"))
        };
        set(&self.orders, SOUND);
        (number(3), number(4))
    }
}

fn set(orders: &File, numbers: [i64; 6]) {
    let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_ne_bytes()).collect();
    orders
        .write_all_at(&bytes, 0)
        .expect("failed to write the orders");
}

/// What the clients know of the galleries' photos.
#[derive(Default)]
struct Known {
    /// Uploaded with 201, and not asked to be deleted.
    stored: BTreeSet<String>,
    /// Deleted with 204.
    deleted: BTreeSet<String>,
    /// Asked to be deleted, with another answer.
    perhaps: BTreeSet<String>,
    /// Libraries that were made with 201.
    libraries: BTreeSet<String>,
    /// Names of everything that was ever asked for.
    attempted: BTreeSet<String>,
}

/// The answer of a write: done, or refused for what it was, and never a lie in between.
fn is_done(answer: &Answer, status: u16) -> bool {
    if answer.status == status {
        return true;
    }
    let code = answer.json()["code"].clone();
    assert!(
        answer.status == 503
            && (code == "insufficient_storage" || code == "dependency_unavailable"),
        "a write on a failing disk: {answer:?}"
    );
    false
}

impl Known {
    async fn upload(&mut self, api: &Api, gallery: &str, number: usize) {
        let bytes = image::jpeg(900 + number % 700, number as u64);
        let name = format!("photo-{number}.jpg");
        let path = format!("/v1/galleries/{gallery}/photos?filename={name}");
        let request = api
            .request(Method::POST, &path)
            .header("content-type", "image/jpeg");
        self.attempted.insert(name);
        let answer = api.send(request.body(bytes)).await;
        if is_done(&answer, 201) {
            self.stored.insert(answer.text("id"));
        }
    }

    async fn make_library(&mut self, api: &Api, number: usize) {
        let name = format!("library-{number}");
        let answer = api.post("/v1/libraries", &json!({ "name": name })).await;
        self.attempted.insert(name);
        if is_done(&answer, 201) {
            self.libraries.insert(answer.text("id"));
        }
    }

    async fn delete_one(&mut self, api: &Api) {
        let Some(id) = self.stored.pop_first() else {
            return;
        };
        let answer = api.delete(&format!("/v1/photos/{id}")).await;
        if answer.status == 404 {
            panic!("an acknowledged photo is gone: {id}");
        }
        if is_done(&answer, 204) {
            self.deleted.insert(id);
        } else {
            self.perhaps.insert(id);
        }
    }

    /// Compares with what the server has.
    async fn check(&mut self, api: &Api, gallery: &str, when: &str) {
        let rows = api
            .list_all(&format!("/v1/galleries/{gallery}/photos"), 200)
            .await;
        let there: BTreeSet<String> = rows
            .iter()
            .map(|row| row["id"].as_str().expect("an id").to_owned())
            .collect();
        let lost: Vec<_> = self.stored.difference(&there).collect();
        assert!(lost.is_empty(), "{when}: acknowledged and gone: {lost:?}");
        let back: Vec<_> = self.deleted.intersection(&there).collect();
        assert!(back.is_empty(), "{when}: deleted and back: {back:?}");
        for row in &rows {
            let name = row["filename"].as_str().expect("a name");
            assert!(self.attempted.contains(name), "{when}: nobody sent {name}");
        }
        let libraries = api.list_all("/v1/libraries", 200).await;
        let there: BTreeSet<String> = libraries
            .iter()
            .map(|row| row["id"].as_str().expect("an id").to_owned())
            .collect();
        let lost: Vec<_> = self.libraries.difference(&there).collect();
        assert!(lost.is_empty(), "{when}: acknowledged and gone: {lost:?}");
    }
}

/// One mixed run: two clients at a time.
async fn mixed(known: &mut Known, api: &Api, gallery: &str, number: usize) {
    let mut other = Known::default();
    let deletes = known.stored.pop_first();
    other.stored.extend(deletes);
    join(
        async {
            known.upload(api, gallery, 2 * number).await;
            known.make_library(api, 2 * number).await;
        },
        async {
            other.delete_one(api).await;
            other.upload(api, gallery, 2 * number + 1).await;
        },
    )
    .await;
    known.stored.append(&mut other.stored);
    known.deleted.append(&mut other.deleted);
    known.perhaps.append(&mut other.perhaps);
    known.attempted.append(&mut other.attempted);
}

async fn sign_in(disk: &Disk, ada: &Actor) -> Api {
    let body = json!({ "email": ada.email, "password": Actor::PASSWORD });
    let answer = disk
        .server
        .anonymous()
        .post("/v1/sessions", &body)
        .await
        .is(201);
    disk.server.bearer(&answer.text("access_token"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_call_fails_what_was_acknowledged_is_durable() {
    Backend::Sqlite.assert_chosen();
    let disk = Disk::start().await;
    let ada = disk.server.sign_up_on("disk", "enterprise").await;
    let gallery = ada.gallery("Disk").await;
    let mut api = disk.server.bearer(&ada.token);
    let mut known = Known::default();
    for number in 0..4 {
        mixed(&mut known, &api, &gallery, number).await;
    }
    disk.repair();
    let (positions, mut number, mut faults, mut calls) = (storage_faults(1_600), 100, 0, 0_i64);
    for position in 0..positions {
        let fault = FAULTS[position % FAULTS.len()];
        // Every call of a run, and now and then one of what comes after it.
        let at =
            i64::try_from(position / FAULTS.len()).expect("a small number") % (calls + 8).max(40);
        disk.fail_after(at, fault);
        number += 1;
        mixed(&mut known, &api, &gallery, number).await;
        let (seen, failed) = disk.repair();
        calls = calls.max(if failed == 0 { seen } else { 0 });
        faults += usize::from(failed > 0);
        let when = format!("call {at} of {seen}, fault {fault:?}");
        // It goes on by itself, at once.
        let before = known.stored.len();
        number += 1;
        known.upload(&api, &gallery, 2 * number).await;
        assert_eq!(
            known.stored.len(),
            before + 1,
            "{when}: writing does not go on"
        );
        if position % 20 == 19 {
            known.check(&api, &gallery, &when).await;
        }
        if position % 100 == 99 || position + 1 == positions {
            disk.server.restart();
            api = sign_in(&disk, &ada).await;
            known
                .check(&api, &gallery, &format!("{when}, after kill -9"))
                .await;
            crate::crash::until(30, "nothing is left of what failed", async || {
                let usage = api.usage("storage_bytes").await;
                usage["reserved"] == 0
            })
            .await;
            disk.server.assert_healthy().await;
        }
    }
    assert!(
        faults * 4 >= positions * 3,
        "only {faults} of {positions} faults were met"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_on_a_full_disk_starts_and_reads_and_goes_on_when_there_is_room() {
    Backend::Sqlite.assert_chosen();
    let disk = Disk::start().await;
    let ada = disk.server.sign_up_on("full", "enterprise").await;
    let gallery = ada.gallery("Full").await;
    let mut api = disk.server.bearer(&ada.token);
    let mut known = Known::default();
    known.upload(&api, &gallery, 1).await;
    for round in 0..2 {
        disk.fill();
        for number in 0..6 {
            known.upload(&api, &gallery, 10 + 20 * round + number).await;
            let name = json!({ "name": "full" });
            let refused = api.post("/v1/libraries", &name).await.is(503);
            assert_eq!(refused.json()["code"], "insufficient_storage");
            assert!(refused.headers.contains_key("retry-after"));
        }
        assert_eq!(
            known.stored.len(),
            1 + round,
            "nothing is taken on a full disk"
        );
        known.check(&api, &gallery, "on a full disk").await;
        let ready = api.get("/readyz").await.is(200).json();
        assert_eq!(
            ready["dependencies"][0],
            json!({ "name": "database", "status": "full" })
        );
        // Started again: after it was killed, and after it has ended in order, which leaves no log behind.
        if round == 0 {
            disk.server.restart();
        } else {
            disk.server.stop().await;
            disk.fill();
            disk.server.restart();
        }
        known.check(&api, &gallery, "started on a full disk").await;
        for _ in 0..40 {
            // What ending gave back is soon used up.
            if api
                .post("/v1/libraries", &json!({ "name": "full" }))
                .await
                .status
                == 503
            {
                break;
            }
        }
        let _ = api
            .post("/v1/libraries", &json!({ "name": "full" }))
            .await
            .is(503);
        disk.repair();
        known.upload(&api, &gallery, 19 + 20 * round).await;
        assert_eq!(
            known.stored.len(),
            2 + round,
            "it goes on when there is room"
        );
        assert_eq!(
            api.get("/readyz").await.is(200).json()["dependencies"][0]["status"],
            "ok"
        );
        disk.server.restart();
        api = sign_in(&disk, &ada).await;
        known.check(&api, &gallery, "after kill -9").await;
        disk.server.assert_healthy().await;
    }
}
