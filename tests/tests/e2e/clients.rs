//! Clients, the links that are mailed to them, and what those show.

use std::fs;

use e2e::{Actor, Answer, Api, Server, image, unknown_id};
use reqwest::Method;
use serde_json::{Value, json};

/// A studio with a gallery of one photo, and a client who was invited.
struct Delivery {
    actor: Actor,
    gallery: String,
    photo: String,
    client: String,
    email: String,
    token: String,
}

impl Delivery {
    async fn of(server: &Server, name: &str, download: &str) -> Self {
        let actor = server.sign_up(name).await;
        let library = actor.library("Weddings").await;
        let email = format!("mia-{}@example.test", &actor.workspace_id[3..]);
        let client = add(&actor, "Mia", &email).await;
        let body = json!({ "library_id": library, "name": "For Mia", "download": download, "client_ids": [client] });
        let gallery = actor.post("/v1/galleries", &body).await.is(201).text("id");
        let photo = actor
            .upload(&gallery, image::COFFEE_JPEG, "image/jpeg")
            .await
            .is(201)
            .text("id");
        actor.rendered(&photo).await;
        let token = invite(server, &actor, &client, &email, 1).await;
        Self {
            actor,
            gallery,
            photo,
            client,
            email,
            token,
        }
    }

    fn content(&self) -> String {
        format!("/v1/shared/{}/photos/{}/content", self.token, self.photo)
    }

    fn photos(&self) -> String {
        format!(
            "/v1/shared/{}/galleries/{}/photos",
            self.token, self.gallery
        )
    }

    async fn patch_gallery(&self, body: &Value) -> Answer {
        let path = format!("/v1/galleries/{}", self.gallery);
        self.actor.patch(&path, body).await
    }
}

async fn add(actor: &Actor, name: &str, email: &str) -> String {
    let body = json!({ "name": name, "email": email });
    actor.post("/v1/clients", &body).await.is(201).text("id")
}

/// Invites a client and takes the token from the mail that is their `nth`.
async fn invite(server: &Server, actor: &Actor, client: &str, email: &str, nth: usize) -> String {
    let path = format!("/v1/clients/{client}/invite");
    let answer = actor.send(actor.request(Method::POST, &path)).await.is(201);
    assert!(answer.json()["invited_at"].is_string(), "{answer:?}");
    assert!(
        !String::from_utf8_lossy(&answer.body).contains("rdc_"),
        "the token is for the mail alone: {answer:?}"
    );
    let letters = server.letters_to(email, nth).await;
    assert_eq!(letters.len(), nth);
    let start = format!("{}/shared?token=", server.url());
    let link = letters[nth - 1]
        .lines()
        .find_map(|line| line.strip_prefix(&start))
        .expect("the mail has a link");
    assert!(link.starts_with("rdc_"), "{link}");
    link.to_owned()
}

/// What the audit says of clients' access, oldest first.
async fn entries(actor: &Actor) -> Vec<Value> {
    let mut entries = actor.list_all("/v1/workspace/audit", 200).await;
    entries.retain(|entry| {
        let action = entry["action"].as_str().expect("an action");
        action.starts_with("client.") || action.starts_with("gallery.")
    });
    entries.reverse();
    entries
}

async fn actions(actor: &Actor) -> Vec<String> {
    let entries = entries(actor).await;
    let actions = entries
        .iter()
        .map(|entry| entry["action"].as_str().expect("an action"));
    actions.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_opens_the_mailed_link_and_downloads_without_an_account() {
    let server = Server::start();
    let mia = Delivery::of(&server, "delivery", "original").await;
    let anyone = server.anonymous();

    let shown = anyone
        .get(&format!("/v1/shared/{}", mia.token))
        .await
        .is(200);
    assert_eq!(shown.header("cache-control"), "no-store");
    let shown = shown.json();
    let workspace = mia.actor.get("/v1/workspace").await.is(200).json();
    assert_eq!(shown["workspace"], json!({ "name": workspace["name"] }));
    assert_eq!(shown["branding"], Value::Null);
    assert_eq!(shown["client"], json!({ "id": mia.client, "name": "Mia" }));
    let galleries = shown["galleries"].as_array().expect("galleries");
    assert_eq!(galleries.len(), 1);
    assert_eq!(galleries[0]["id"], mia.gallery.as_str());
    assert_eq!(galleries[0]["name"], "For Mia");
    assert_eq!(galleries[0]["download"], "original");
    assert_eq!(galleries[0]["photo_count"], 1);
    assert!(galleries[0]["created_at"].is_string());

    let photos = anyone.get(&mia.photos()).await.is(200).json();
    assert_eq!(photos["items"][0]["id"], mia.photo.as_str());
    assert_eq!(photos["next_cursor"], Value::Null);

    let whole = anyone.get(&mia.content()).await.is(200);
    assert_eq!(whole.body, image::COFFEE_JPEG);
    assert_eq!(whole.header("content-type"), "image/jpeg");
    assert_eq!(whole.header("x-content-type-options"), "nosniff");
    assert!(
        whole
            .header("content-disposition")
            .starts_with("attachment; ")
    );
    let part = anyone.request(Method::GET, &mia.content());
    let part = anyone
        .send(part.header("range", "bytes=10-19"))
        .await
        .is(206);
    assert_eq!(part.body, &image::COFFEE_JPEG[10..20]);
    let again = anyone
        .request(Method::GET, &mia.content())
        .header("if-none-match", whole.header("etag"));
    assert_eq!(anyone.send(again).await.status, 304);
    let beyond = anyone.request(Method::GET, &mia.content());
    let beyond = anyone.send(beyond.header("range", "bytes=99999999-")).await;
    beyond.problem(416, "range_not_satisfiable");

    let path = format!("/v1/clients/{}", mia.client);
    crate::crash::until(10, "the client was seen", async || {
        mia.actor.get(&path).await.is(200).json()["last_seen_at"].is_string()
    })
    .await;
    assert_eq!(
        actions(&mia.actor).await,
        ["gallery.clients_changed", "client.invited"]
    );
    server.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_of_the_mailed_link_is_there_and_keeps_its_token() {
    let server = Server::shared();
    let anyone = server.anonymous();
    let page = anyone.get("/shared?token=rdc_x").await.is(200);
    assert!(page.header("content-type").starts_with("text/html"));
    assert_eq!(page.header("cache-control"), "no-store");
    assert_eq!(page.header("referrer-policy"), "no-referrer");
    let policy = page.header("content-security-policy").to_owned();
    assert!(
        policy.contains("default-src 'none'") && !policy.contains("script-src 'unsafe"),
        "{policy}"
    );
    let text = String::from_utf8_lossy(&page.body).into_owned();
    assert!(
        text.contains("shared.js") && !text.contains("rdc_x"),
        "{text}"
    );
    let script = anyone.get("/shared.js").await.is(200);
    assert!(script.header("content-type").starts_with("text/javascript"));
    let posted = anyone.post("/shared", &json!({})).await;
    posted.problem(405, "method_not_allowed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_be_downloaded_is_the_gallerys_word() {
    let server = Server::shared();
    let mia = Delivery::of(server, "modes", "none").await;
    let anyone = server.anonymous();
    let photos = anyone.get(&mia.photos()).await.is(200).json();
    let renditions = &photos["items"][0]["renditions"];
    let url = |name: &str| {
        let url = renditions[name]["url"].as_str().expect("it is ready");
        let start = format!(
            "/v1/shared/{}/photos/{}/renditions/{name}?v=",
            mia.token, mia.photo
        );
        assert!(url.starts_with(&start), "{url}");
        url.to_owned()
    };
    let (thumb, web) = (url("thumb"), url("web"));
    anyone.get(&mia.content()).await.problem(404, "not_found");
    // To look is allowed whatever may be kept.
    for (download, saved) in [
        ("none", None),
        ("web", Some(false)),
        ("original", Some(true)),
    ] {
        let _ = mia
            .patch_gallery(&json!({ "download": download }))
            .await
            .is(200);
        let shown = anyone.get(&thumb).await.is(200);
        assert!(shown.header("content-disposition").starts_with("inline; "));
        let screen = anyone.get(&web).await.is(200);
        let answer = anyone.get(&mia.content()).await;
        match saved {
            None => {
                answer.problem(404, "not_found");
            }
            Some(original) => {
                let answer = answer.is(200);
                assert!(
                    answer
                        .header("content-disposition")
                        .starts_with("attachment; ")
                );
                assert_eq!(answer.body == image::COFFEE_JPEG, original, "{download}");
                assert_eq!(answer.body == screen.body, !original, "{download}");
            }
        }
    }
    let _ = mia
        .patch_gallery(&json!({ "download": "none" }))
        .await
        .is(200);
    let part = anyone.request(Method::GET, &mia.content());
    let part = anyone.send(part.header("range", "bytes=0-9")).await;
    part.problem(404, "not_found");
}

/// Nothing of what the link showed is found any more, by the same answer as with a link that never was.
async fn assert_closed(anyone: &Api, mia: &Delivery) {
    let nonsense = anyone.get("/v1/shared/nonsense").await;
    nonsense.problem(404, "not_found");
    for path in [
        format!("/v1/shared/{}", mia.token),
        format!("/v1/shared/{}/logo", mia.token),
        mia.photos(),
        mia.content(),
        format!(
            "/v1/shared/{}/photos/{}/renditions/web",
            mia.token, mia.photo
        ),
    ] {
        let closed = anyone.get(&path).await;
        assert_eq!(closed.essence(), nonsense.essence(), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_ends_at_once_when_it_is_revoked_replaced_or_its_client_deleted() {
    let server = Server::shared();
    let anyone = server.anonymous();
    let mut mia = Delivery::of(server, "revoked", "web").await;
    let path = format!("/v1/clients/{}", mia.client);
    let invite_path = format!("{path}/invite");

    let _ = mia.actor.delete(&invite_path).await.is(204);
    assert_closed(&anyone, &mia).await;
    assert_eq!(
        mia.actor.get(&path).await.is(200).json()["invited_at"],
        Value::Null
    );
    let again = mia.actor.delete(&invite_path).await;
    again.problem(404, "not_found");

    mia.token = invite(server, &mia.actor, &mia.client, &mia.email, 2).await;
    let newer = invite(server, &mia.actor, &mia.client, &mia.email, 3).await;
    assert_closed(&anyone, &mia).await;
    mia.token = newer;
    let _ = anyone.get(&mia.content()).await.is(200);

    // A new name keeps the link, a new address does not: the link was mailed to the old one.
    let _ = mia
        .actor
        .patch(
            &path,
            &json!({ "name": "Mia Novak", "email": mia.email.to_uppercase() }),
        )
        .await
        .is(200);
    let shown = anyone.get(&format!("/v1/shared/{}", mia.token)).await;
    assert_eq!(shown.is(200).json()["client"]["name"], "Mia Novak");
    mia.email = format!("new-{}", mia.email);
    let body = json!({ "email": mia.email });
    let changed = mia.actor.patch(&path, &body).await.is(200).json();
    assert_eq!(changed["invited_at"], Value::Null);
    assert_closed(&anyone, &mia).await;

    mia.token = invite(server, &mia.actor, &mia.client, &mia.email, 1).await;
    let _ = anyone.get(&mia.photos()).await.is(200);
    let _ = mia.actor.delete(&path).await.is(204);
    assert_closed(&anyone, &mia).await;
    mia.actor.get(&path).await.problem(404, "not_found");
    let gallery = mia
        .actor
        .get(&format!("/v1/galleries/{}", mia.gallery))
        .await;
    assert_eq!(gallery.is(200).json()["client_ids"], json!([]));
    assert_eq!(
        actions(&mia.actor).await,
        [
            "gallery.clients_changed",
            "client.invited",
            "client.access_revoked",
            "client.invited",
            "client.invited",
            "client.access_revoked",
            "client.invited",
            "client.deleted",
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_sees_a_gallery_as_long_as_it_lists_them_and_is_not_deleted() {
    let server = Server::shared();
    let anyone = server.anonymous();
    let mia = Delivery::of(server, "listed", "web").await;
    let noah = add(&mia.actor, "Noah", "noah@example.test").await;
    let home = format!("/v1/shared/{}", mia.token);
    let other = mia.actor.gallery("Not for Mia").await;
    let hidden = mia
        .actor
        .upload(&other, image::jpeg(1_000, 1), "image/jpeg")
        .await
        .is(201)
        .text("id");
    let seen = async || {
        let shown = anyone.get(&home).await.is(200).json();
        let listed = shown["galleries"].as_array().expect("galleries").len();
        let photos = anyone.get(&mia.photos()).await.status;
        let content = anyone.get(&mia.content()).await.status;
        (listed, photos, content)
    };
    assert_eq!(seen().await, (1, 200, 200));
    for path in [
        format!("{home}/galleries/{other}/photos"),
        format!("{home}/photos/{hidden}/content"),
        format!("{home}/galleries/{}/photos", unknown_id("gal")),
        format!("{home}/photos/nonsense/content"),
    ] {
        anyone.get(&path).await.problem(404, "not_found");
    }

    let path = format!("/v1/galleries/{}", mia.gallery);
    let _ = mia.actor.delete(&path).await.is(204);
    assert_eq!(seen().await, (0, 404, 404));
    let restored = mia.actor.post(&format!("{path}/restore"), &json!({})).await;
    assert_eq!(restored.is(200).json()["client_ids"], json!([mia.client]));
    assert_eq!(seen().await, (1, 200, 200));

    let before = mia.actor.get(&path).await.is(200);
    let stale = before.header("etag").to_owned();
    let changed = mia
        .patch_gallery(&json!({ "client_ids": [noah, noah] }))
        .await
        .is(200);
    assert_eq!(changed.json()["client_ids"], json!([noah]));
    assert_ne!(changed.header("etag"), stale);
    assert_eq!(seen().await, (0, 404, 404));
    let late = mia
        .actor
        .request(Method::PATCH, &path)
        .header("if-match", stale)
        .json(&json!({ "client_ids": [mia.client] }));
    let late = mia.actor.send(late).await;
    late.problem(412, "precondition_failed");
    // The same set is no change, and a gallery's name changes nobody's access.
    let same = mia
        .patch_gallery(&json!({ "client_ids": [noah] }))
        .await
        .is(200);
    assert_eq!(same.header("etag"), changed.header("etag"));
    let both = json!({ "client_ids": [noah, mia.client], "name": "For both" });
    let both = mia.patch_gallery(&both).await.is(200).json();
    assert_eq!(both["client_ids"].as_array().map(Vec::len), Some(2));
    assert_eq!(seen().await, (1, 200, 200));

    let _ = mia
        .actor
        .delete(&format!("{path}?permanent=true"))
        .await
        .is(204);
    assert_eq!(seen().await, (0, 404, 404));
    let entries = entries(&mia.actor).await;
    let last = entries.last().expect("an entry");
    assert_eq!(last["action"], "gallery.clients_changed");
    assert_eq!(last["subject"], mia.gallery.as_str());
    assert_eq!(
        last["before"]["client_ids"].as_array().map(Vec::len),
        Some(2)
    );
    assert_eq!(last["after"], json!({ "client_ids": [] }));
    assert_eq!(entries.len(), 5, "{entries:?}");
    let listed = mia.actor.list_all("/v1/galleries", 50).await;
    assert_eq!(listed[0]["client_ids"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_shows_nothing_of_another_workspace() {
    let server = Server::shared();
    let anyone = server.anonymous();
    let mia = Delivery::of(server, "mia", "original").await;
    let eve = Delivery::of(server, "eve", "original").await;
    for (foreign, unknown) in [
        (
            format!("galleries/{}/photos", mia.gallery),
            format!("galleries/{}/photos", unknown_id("gal")),
        ),
        (
            format!("photos/{}/content", mia.photo),
            format!("photos/{}/content", unknown_id("pho")),
        ),
    ] {
        let start = format!("/v1/shared/{}", eve.token);
        let foreign = anyone.get(&format!("{start}/{foreign}")).await;
        let unknown = anyone.get(&format!("{start}/{unknown}")).await;
        foreign.problem(404, "not_found");
        assert_eq!(foreign.essence(), unknown.essence());
    }
    // A page of one client's list is no page of another's.
    let _ = mia
        .actor
        .upload(&mia.gallery, image::jpeg(1_000, 1), "image/jpeg")
        .await
        .is(201);
    let page = anyone.get(&format!("{}?limit=1", mia.photos())).await;
    let cursor = page.is(200).text("next_cursor");
    let stolen = anyone
        .get(&format!("{}?cursor={cursor}", eve.photos()))
        .await;
    stolen.problem(400, "invalid_cursor");
    let own = mia
        .actor
        .get(&format!(
            "/v1/galleries/{}/photos?cursor={cursor}",
            mia.gallery
        ))
        .await;
    own.problem(400, "invalid_cursor");
    let next = anyone
        .get(&format!("{}?cursor={cursor}", mia.photos()))
        .await;
    assert_eq!(
        next.is(200).json()["items"].as_array().map(Vec::len),
        Some(1)
    );

    // Eve cannot put Ada's client on a gallery, nor learn that there is one.
    for path in [
        "/v1/galleries".to_owned(),
        format!("/v1/galleries/{}", eve.gallery),
    ] {
        let is_new = path == "/v1/galleries";
        let library = eve.actor.library("Eve's").await;
        let ask = async |client: &str| {
            let mut body = json!({ "name": "Taken over", "client_ids": [eve.client, client] });
            if is_new {
                body["library_id"] = json!(library);
                eve.actor.post(&path, &body).await
            } else {
                eve.actor.patch(&path, &body).await
            }
        };
        let foreign = ask(&mia.client).await;
        foreign.problem(404, "not_found");
        for other in [
            unknown_id("cli"),
            "nonsense".to_owned(),
            mia.gallery.clone(),
        ] {
            assert_eq!(foreign.essence(), ask(&other).await.essence(), "{path}");
        }
    }
    let shown = eve
        .actor
        .get(&format!("/v1/galleries/{}", eve.gallery))
        .await;
    let shown = shown.is(200).json();
    assert_eq!(shown["client_ids"], json!([eve.client]));
    assert_eq!(shown["name"], "For Mia");
    assert_eq!(eve.actor.list_all("/v1/galleries", 50).await.len(), 1);
    assert_eq!(eve.actor.list_all("/v1/clients", 50).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_token_is_no_token() {
    let server = Server::shared();
    let anyone = server.anonymous();
    let mia = Delivery::of(server, "token", "web").await;
    let eve = Delivery::of(server, "token", "web").await;
    let [_, workspace, id, secret] = mia.token.split('_').collect::<Vec<_>>()[..] else {
        panic!("a token has four parts");
    };
    let theirs: Vec<_> = eve.token.split('_').collect();
    let flipped = if secret.starts_with('0') { "1" } else { "0" };
    let nonsense = anyone.get("/v1/shared/nonsense").await;
    for wrong in [
        mia.token[..mia.token.len() - 1].to_owned(),
        format!("{}0", mia.token),
        mia.token.to_uppercase(),
        mia.token.replacen("rdc_", "RDC_", 1),
        mia.token.replacen("rdc_", "rdi_", 1),
        mia.token.replacen("rdc_", "rd_", 1),
        format!("rdc_{}_{id}_{secret}", theirs[1]),
        format!("rdc_{workspace}_{}_{secret}", theirs[2]),
        format!("rdc_{workspace}_{id}_{}", theirs[3]),
        format!("rdc_{workspace}_{id}_{flipped}{}", &secret[1..]),
        format!("rdc_{}_{id}_{secret}", workspace.to_uppercase()),
        format!("{}%00", mia.token),
        format!("{}%20", mia.token),
        format!("{}%FF", mia.token),
        "x".repeat(5_000),
    ] {
        for rest in ["", "/logo", "/galleries/x/photos", "/photos/x/content"] {
            let refused = anyone.get(&format!("/v1/shared/{wrong}{rest}")).await;
            assert_eq!(refused.essence(), nonsense.essence(), "{wrong}{rest}");
        }
    }
    // The refusal of a link comes before that of a query.
    let query = anyone
        .get(&format!("/v1/shared/{id}/galleries/x/photos?limit=0"))
        .await;
    assert_eq!(query.essence(), nonsense.essence());
    let query = anyone.get(&format!("{}?limit=0", mia.photos())).await;
    query.problem(422, "validation_failed");
    // A link is no bearer token, and an account's token no link.
    let bearer = server.bearer(&mia.token).get("/v1/clients").await;
    bearer.problem(401, "unauthenticated");
    let posted = anyone
        .post(&format!("/v1/shared/{}", mia.token), &json!({}))
        .await;
    posted.problem(405, "method_not_allowed");
    assert!(!String::from_utf8_lossy(&posted.body).contains(secret));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_is_kept_in_order() {
    let server = Server::shared();
    let ada = server.sign_up("clients").await;
    let eve = server.sign_up("clients").await;
    let body = json!({ "name": "  Mia Novak ", "email": "Mia@Example.test" });
    let made = ada.post("/v1/clients", &body).await.is(201);
    let client = made.json();
    assert_eq!(client["name"], "Mia Novak");
    assert_eq!(client["email"], "Mia@Example.test");
    for member in ["invited_at", "last_seen_at"] {
        assert_eq!(client.get(member), Some(&Value::Null), "{client}");
    }
    let path = format!("/v1/clients/{}", made.text("id"));
    let shown = ada.get(&path).await.is(200);
    assert_eq!(
        (shown.json(), shown.header("etag")),
        (client, made.header("etag"))
    );

    // One address, one client; in another workspace it says nothing.
    let twin = json!({ "name": "Twin", "email": "mIA@example.TEST" });
    let refused = ada.post("/v1/clients", &twin).await;
    refused.problem(409, "conflict");
    let _ = eve.post("/v1/clients", &twin).await.is(201);
    let noah = add(&ada, "Noah", "noah@example.test").await;
    let moved = ada
        .patch(
            &format!("/v1/clients/{noah}"),
            &json!({ "email": "mia@example.test" }),
        )
        .await;
    moved.problem(409, "conflict");

    let stale = json!({ "name": "Too late" });
    let renamed = ada.patch(&path, &json!({ "name": "Mia" })).await.is(200);
    assert_ne!(renamed.header("etag"), made.header("etag"));
    for method in [Method::PATCH, Method::DELETE] {
        let request = ada
            .request(method, &path)
            .header("if-match", made.header("etag"))
            .json(&stale);
        let refused = ada.send(request).await;
        refused.problem(412, "precondition_failed");
    }
    let same = ada.patch(&path, &json!({ "name": "Mia" })).await.is(200);
    assert_eq!(same.header("etag"), renamed.header("etag"));

    for bad in [
        json!({}),
        json!({ "name": "x" }),
        json!({ "name": "", "email": "a@example.test" }),
        json!({ "name": "x".repeat(201), "email": "a@example.test" }),
        json!({ "name": "a\0b", "email": "a@example.test" }),
        json!({ "name": "x", "email": "nobody" }),
        json!({ "name": "x", "email": "a\0@example.test" }),
        json!({ "name": "x", "email": "a@example.test\r\nBcc: b@example.test" }),
        json!({ "name": "x", "email": format!("{}@example.test", "a".repeat(300)) }),
        json!({ "name": 1, "email": "a@example.test" }),
        json!({ "name": "x", "email": "a@example.test", "workspace_id": eve.workspace_id }),
    ] {
        let refused = ada.post("/v1/clients", &bad).await;
        refused.problem(422, "validation_failed");
    }
    for bad in [
        json!({ "invited_at": "x" }),
        json!({ "name": "" }),
        json!({ "email": "x" }),
    ] {
        ada.patch(&path, &bad)
            .await
            .problem(422, "validation_failed");
    }
    let smuggled = json!({ "workspace_id": eve.workspace_id });
    let refused = ada.post(&format!("{path}/invite"), &smuggled).await;
    refused.problem(422, "validation_failed");
    let crowd: Vec<_> = (0..501).map(|_| unknown_id("cli")).collect();
    let library = ada.library("Crowded").await;
    let body = json!({ "library_id": library, "name": "x", "client_ids": crowd });
    let refused = ada.post("/v1/galleries", &body).await;
    refused.problem(422, "validation_failed");

    for n in 0..3 {
        add(&ada, "More", &format!("more-{n}@example.test")).await;
    }
    let listed = ada.list_all("/v1/clients", 2).await;
    let names: Vec<_> = listed.iter().map(|c| c["name"].as_str()).collect();
    assert_eq!(names, ["Mia", "Noah", "More", "More", "More"].map(Some));
    let _ = ada.delete(&path).await.is(204);
    ada.delete(&path).await.problem(404, "not_found");
    assert_eq!(ada.list_all("/v1/clients", 50).await.len(), 4);
    // Somebody who could see nothing loses nothing: no access has changed.
    assert!(actions(&ada).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_invitation_under_one_key_mails_one_link() {
    let server = Server::shared();
    let ada = server.sign_up("repeat").await;
    let email = format!("repeat-{}@example.test", &ada.workspace_id[3..]);
    let client = add(&ada, "Mia", &email).await;
    let path = format!("/v1/clients/{client}/invite");
    let ask = async || {
        let request = ada.request(Method::POST, &path);
        ada.send(request.header("idempotency-key", "once"))
            .await
            .is(201)
    };
    let first = ask().await;
    let second = ask().await;
    assert_eq!(second.header("idempotency-replayed"), "true");
    assert_eq!(first.body, second.body);
    let letters = server.letters_to(&email, 1).await;
    assert_eq!(letters.len(), 1);
    assert_eq!(actions(&ada).await, ["client.invited"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_workspace_still_delivers() {
    let server = Server::shared();
    let mia = Delivery::of(server, "full", "original").await;
    for limit in ["storage_bytes=0", "max_photos_per_gallery=0"] {
        let name = limit.replace("max_photos_per_gallery", "photos");
        server.override_limit(&mia.actor, &name).await;
    }
    let refused = mia
        .actor
        .upload(&mia.gallery, image::jpeg(1_000, 1), "image/jpeg")
        .await;
    refused.problem(402, "quota_exceeded");
    let anyone = server.anonymous();
    let home = anyone.get(&format!("/v1/shared/{}", mia.token)).await;
    assert_eq!(home.is(200).json()["galleries"][0]["photo_count"], 1);
    let _ = anyone.get(&mia.photos()).await.is(200);
    assert_eq!(
        anyone.get(&mia.content()).await.is(200).body,
        image::COFFEE_JPEG
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_brand_is_shown_and_kept_when_the_plan_ends() {
    let server = Server::shared();
    let mia = Delivery::of(server, "brand", "none").await;
    server.set_plan(&mia.actor, "professional").await;
    let vault = mia.actor.gallery("Logos").await;
    let logo = mia
        .actor
        .upload(&vault, image::jpeg(2_000, 7), "image/jpeg")
        .await
        .is(201)
        .text("id");
    let body = json!({ "display_name": "Lindqvist", "primary_color": "#1f6f78", "website": "https://example.test", "logo_photo_id": logo });
    let _ = mia.actor.post("/v1/branding", &body).await.is(201);
    server.set_plan(&mia.actor, "free").await;

    let anyone = server.anonymous();
    let home = format!("/v1/shared/{}", mia.token);
    assert_eq!(
        anyone.get(&home).await.is(200).json()["branding"],
        json!({ "display_name": "Lindqvist", "primary_color": "#1f6f78", "website": "https://example.test", "has_logo": true })
    );
    let record = mia.actor.rendered(&logo).await;
    let web = record["renditions"]["web"]["url"].as_str();
    let web = mia.actor.get(web.expect("it is ready")).await.is(200).body;
    let shown = anyone.get(&format!("{home}/logo")).await.is(200);
    assert_eq!(shown.body, web, "never the original");
    anyone
        .get(&format!("{home}/photos/{logo}/content"))
        .await
        .problem(404, "not_found");
    let _ = invite(server, &mia.actor, &mia.client, &mia.email, 2).await;
    let letters = server.letters_to(&mia.email, 2).await;
    assert!(
        letters[1].contains("Lindqvist shares galleries with you"),
        "{}",
        letters[1]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_visit_is_noted_once_a_minute() {
    let clock = tempfile::NamedTempFile::new().expect("failed to make a file");
    let set = |time: &str| fs::write(clock.path(), time).expect("failed to set the clock");
    set("2026-11-24T10:00:00Z");
    let path = clock.path().to_str().expect("a path of text");
    let server = Server::start_with(&[("RAWDRIVE_DEV", "1"), ("RAWDRIVE_DEV_CLOCK", path)]);
    let mia = Delivery::of(&server, "visit", "web").await;
    let client = format!("/v1/clients/{}", mia.client);
    let visit = async || {
        let _ = server.anonymous().get(&mia.photos()).await.is(200);
        // It is noted beside the request.
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        mia.actor.get(&client).await.is(200).json()["last_seen_at"].clone()
    };
    assert_eq!(visit().await, "2026-11-24T10:00:00Z");
    set("2026-11-24T10:00:59Z");
    assert_eq!(visit().await, "2026-11-24T10:00:00Z");
    set("2026-11-24T10:01:00Z");
    assert_eq!(visit().await, "2026-11-24T10:01:00Z");
    // Being seen is no change of the client.
    let shown = mia.actor.get(&client).await.is(200).json();
    assert_eq!(shown["updated_at"], "2026-11-24T10:00:00Z");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_log_nor_database_holds_a_links_secret() {
    let server = Server::start_with(&[("RAWDRIVE_LOG", "trace")]);
    let mia = Delivery::of(&server, "leak", "web").await;
    let anyone = server.anonymous();
    let secret = mia.token.rsplit('_').next().expect("a token has parts");
    for rest in [
        "",
        "/nonsense",
        "/galleries/x/photos",
        "/photos/x/content",
        "/logo",
    ] {
        let _ = anyone.get(&format!("/v1/shared/{}{rest}", mia.token)).await;
    }
    let _ = anyone.get(&mia.content()).await.is(200);
    let _ = anyone
        .get(&format!("/shared?token={}", mia.token))
        .await
        .is(200);
    let _ = anyone
        .post(&format!("/v1/shared/{}", mia.token), &json!({}))
        .await;
    let _ = server
        .raw(format!("GET /v1/shared/{} NONSENSE\r\n\r\n", mia.token).into_bytes())
        .await;
    let log = server.log();
    assert!(
        log.contains("/v1/shared/{token}"),
        "the route is in the log"
    );
    assert!(!log.contains(secret), "the log holds the secret");
    for file in server.all_files() {
        if file.extension().is_some_and(|e| e == "eml") {
            continue;
        }
        let bytes = fs::read(&file).unwrap_or_default();
        let found = bytes.windows(secret.len()).any(|w| w == secret.as_bytes());
        assert!(!found, "{} holds the secret", file.display());
    }
}
