//! Who somebody is, what they leave behind, and what a request that clears something does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use e2e::{Actor, Answer, Api, Server, image, unknown_id};
use reqwest::Method;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use super::crash::until;

/// A body's schema as the document describes it.
struct Schema {
    properties: Map<String, Value>,
    required: Vec<String>,
}

impl Schema {
    fn of(document: &Value, operation: &Value) -> Option<Self> {
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        let schema = match schema["$ref"].as_str() {
            Some(reference) => document.pointer(reference.strip_prefix('#')?)?,
            None => schema,
        };
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        let required = required.iter().filter_map(Value::as_str);
        Some(Self {
            properties: schema["properties"].as_object()?.clone(),
            required: required.map(str::to_owned).collect(),
        })
    }

    fn takes_null(&self, member: &str) -> bool {
        let schema = &self.properties[member];
        let is_null = |kind: &Value| *kind == "null" || kind["type"] == "null";
        ["type", "oneOf", "anyOf"].iter().any(|word| {
            let kinds = schema[word].as_array();
            kinds.is_some_and(|kinds| kinds.iter().any(is_null))
        })
    }
}

fn first_field(problem: &Value) -> &str {
    problem["errors"][0]["field"].as_str().expect("a field")
}

/// The operations of one method whose body is JSON, by path.
fn operations(document: &Value, method: &str) -> BTreeMap<String, Schema> {
    let paths = document["paths"].as_object().expect("paths");
    let with_body = paths.iter().filter_map(|(path, operations)| {
        Schema::of(document, operations.get(method)?).map(|schema| (path.clone(), schema))
    });
    with_body.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn null_clears_what_may_be_empty_and_is_refused_for_what_may_not_in_every_member() {
    let server = Server::shared();
    let ada = server.sign_up_on("null", "enterprise").await;
    let ben = server.join(&ada, "null-member", "member").await;
    let library = ada.library("Kept").await;
    let client =
        json!({ "name": "Mia", "email": format!("mia-{}@example.test", ada.workspace_id) });
    let client = ada.post("/v1/clients", &client).await.is(201).text("id");
    let gallery =
        json!({ "library_id": library, "name": "Kept", "download": "web", "client_ids": [client] });
    let gallery = ada.post("/v1/galleries", &gallery).await.is(201).text("id");
    let photo = ada
        .upload(&gallery, image::jpeg(1_000, 1), "image/jpeg")
        .await
        .is(201)
        .text("id");
    let hook = json!({ "url": "https://example.invalid/", "events": ["plan.changed"] });
    let hook = ada
        .post("/v1/webhook-endpoints", &hook)
        .await
        .is(201)
        .text("id");
    // Off, so that nothing is sent there meanwhile.
    let off = json!({ "enabled": false });
    let _ = ada
        .patch(&format!("/v1/webhook-endpoints/{hook}"), &off)
        .await
        .is(200);
    let billed = json!({ "billing_email": "bills@example.test" });
    let _ = ada.patch("/v1/workspace", &billed).await.is(200);

    let document = server.anonymous().get("/openapi.json").await.is(200).json();
    let mut cleared = Vec::new();
    for (path, schema) in operations(&document, "patch") {
        let id = match path.as_str() {
            "/v1/libraries/{id}" => library.as_str(),
            "/v1/galleries/{id}" => gallery.as_str(),
            "/v1/clients/{id}" => client.as_str(),
            "/v1/photos/{id}" => photo.as_str(),
            "/v1/webhook-endpoints/{id}" => hook.as_str(),
            "/v1/workspace/members/{user_id}" => ben.user_id.as_str(),
            path => {
                assert!(
                    !path.contains('{'),
                    "say here what {path} is to be tried on"
                );
                ""
            }
        };
        let url = path.replace("{id}", id).replace("{user_id}", id);
        let shown = if path.contains("/members/") {
            "/v1/workspace/members"
        } else {
            &url
        };
        for member in schema.properties.keys() {
            let sample = |name: &String| {
                let value = match name.as_str() {
                    "plan" => "professional",
                    "interval" => "month",
                    "role" => "member",
                    other => panic!("say here what a right {other} is"),
                };
                (name.clone(), json!(value))
            };
            let others = schema.required.iter().filter(|name| *name != member);
            let mut body: Map<_, _> = others.map(sample).collect();
            body.insert(member.clone(), Value::Null);
            let before = ada.get(shown).await.is(200).json();
            let answer = ada.patch(&url, &Value::Object(body)).await;
            let after = ada.get(shown).await.is(200).json();
            if schema.takes_null(member) {
                let answer = answer.is(200).json();
                let is_empty = |value: &Value| *value == Value::Null || *value == json!([]);
                assert!(
                    !is_empty(&before[member]),
                    "{path} {member}: there is nothing to clear"
                );
                assert!(is_empty(&answer[member]), "{path} {member}: {answer}");
                assert_eq!(answer[member], after[member], "{path} {member}");
                cleared.push(format!("{path} {member}"));
            } else {
                let problem = answer.problem(422, "validation_failed");
                assert_eq!(first_field(&problem), member, "{path}: {problem}");
                assert_eq!(before, after, "{path} {member}");
            }
        }
    }
    assert_eq!(
        cleared,
        [
            "/v1/galleries/{id} client_ids",
            "/v1/webhook-endpoints/{id} events",
            "/v1/workspace billing_email"
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_creation_takes_null_where_its_document_says_so_and_nowhere_else() {
    let server = Server::shared();
    let ada = server.sign_up_on("null-made", "enterprise").await;
    let document = server.anonymous().get("/openapi.json").await.is(200).json();
    let tried = operations(&document, "post");
    assert!(tried.len() > 15, "{:?}", tried.keys());
    for (path, schema) in tried {
        let url = path.replace("{id}", &unknown_id("gal"));
        for member in schema.properties.keys() {
            let request = ada.request(Method::POST, &url);
            let answer = ada
                .send(request.json(&json!({ member.as_str(): null })))
                .await;
            if answer.status == 403 {
                // For programs alone.
                assert_eq!(path, "/v1/usage/events");
                continue;
            }
            if answer.status == 201 {
                // Everything may be left out here, and so may what is null.
                assert_eq!((path.as_str(), member.as_str()), ("/v1/tokens", "scopes"));
                continue;
            }
            if answer.status == 404 {
                // The body is acceptable, and what the path names is not there.
                assert!(
                    path.contains("{id}") && schema.takes_null(member),
                    "{path} {member}"
                );
                continue;
            }
            let problem = answer.problem(422, "validation_failed");
            let told = first_field(&problem) == member.as_str();
            assert_eq!(
                told,
                !schema.takes_null(member),
                "{path} {member}: {problem}"
            );
        }
    }
    // What may be left out may be null, and is then as if it were left out.
    let key = json!({ "name": "k", "role": "member", "expires_at": null });
    let key = ada.post("/v1/api-keys", &key).await.is(201).json();
    assert_eq!(key["expires_at"], Value::Null);
    let library = ada.library("Null").await;
    let gallery =
        json!({ "library_id": library, "name": "n", "download": null, "client_ids": null });
    let gallery = ada.post("/v1/galleries", &gallery).await.is(201).json();
    assert_eq!(
        (&gallery["download"], &gallery["client_ids"]),
        (&json!("none"), &json!([]))
    );
}

/// The audit's entries of these actions, oldest first.
async fn audited(api: &Api, actions: &[&str]) -> Vec<Value> {
    let mut entries = api.list_all("/v1/workspace/audit", 200).await;
    entries.retain(|entry| actions.iter().any(|action| entry["action"] == *action));
    entries.reverse();
    entries
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_may_download_is_audited_when_it_changes() {
    let server = Server::shared();
    let ada = server.sign_up("download").await;
    let gallery = ada.gallery("Delivered").await;
    let path = format!("/v1/galleries/{gallery}");
    for download in ["web", "web", "none"] {
        let _ = ada
            .patch(&path, &json!({ "download": download }))
            .await
            .is(200);
    }
    let _ = ada
        .patch(&path, &json!({ "name": "Renamed" }))
        .await
        .is(200);
    let entries = audited(&ada, &["gallery.download_changed"]).await;
    let told: Vec<_> = entries
        .iter()
        .map(|e| {
            (
                &e["subject"],
                &e["before"]["download"],
                &e["after"]["download"],
            )
        })
        .collect();
    let subject = json!(gallery);
    assert_eq!(
        told,
        [
            (&subject, &json!("original"), &json!("web")),
            (&subject, &json!("web"), &json!("none")),
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_brand_s_website_holds_no_password() {
    let server = Server::shared();
    let ada = server.sign_up_on("website", "professional").await;
    let brand = |website: &str| json!({ "display_name": "Studio", "primary_color": "#102030", "website": website });
    for website in [
        "https://user:password@studio.example/",
        "https://user@studio.example",
        "https://:password@studio.example",
        "http://a@b@studio.example?x",
    ] {
        let refused = ada.post("/v1/branding", &brand(website)).await;
        let problem = refused.problem(422, "validation_failed");
        assert_eq!(first_field(&problem), "website");
    }
    let _ = ada
        .post("/v1/branding", &brand("https://studio.example/@ada"))
        .await
        .is(201);
    // Null says, as absence does, that there is none.
    let _ = ada
        .post("/v1/branding", &brand_without_website())
        .await
        .is(201);
    assert_eq!(
        ada.get("/v1/branding").await.is(200).json()["website"],
        Value::Null
    );
}

fn brand_without_website() -> Value {
    json!({ "display_name": "Studio", "primary_color": "#102030", "website": null, "logo_photo_id": null })
}

/// Makes a key; answers its id and a client that uses it.
async fn key(server: &Server, maker: &Api, name: &str, role: &str) -> (String, Api) {
    let body = json!({ "name": name, "role": role });
    let made = maker.post("/v1/api-keys", &body).await.is(201);
    (made.text("id"), server.bearer(&made.text("secret")))
}

/// Invites somebody; answers the invitation's id and the mailed token.
async fn invite(server: &Server, inviter: &Api, email: &str, role: &str) -> (String, String) {
    let body = json!({ "email": email, "role": role });
    let made = inviter.post("/v1/workspace/invitations", &body).await;
    (made.is(201).text("id"), server.mailed_token(email, 1).await)
}

async fn accept(server: &Server, token: &str) -> Answer {
    let body = json!({ "token": token, "name": "Guest", "password": Actor::PASSWORD });
    server
        .anonymous()
        .post("/v1/invitations/accept", &body)
        .await
}

async fn set_role(owner: &Actor, of: &Actor, role: &str) {
    let path = format!("/v1/workspace/members/{}", of.user_id);
    let _ = owner.patch(&path, &json!({ "role": role })).await.is(200);
}

async fn remove(owner: &Actor, whom: &Actor, query: &str) -> Answer {
    let path = format!("/v1/workspace/members/{}{query}", whom.user_id);
    owner.delete(&path).await
}

fn guest(actor: &Actor, name: &str) -> String {
    format!("{name}-{}@example.test", &actor.workspace_id[3..])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_and_an_invitation_are_worth_what_their_maker_is_worth_now() {
    let server = Server::shared();
    let ada = server.sign_up_on("worth", "enterprise").await;
    let bob = server.join(&ada, "worth-bob", "admin").await;
    let cem = server.join(&ada, "worth-cem", "member").await;
    let (_, bobs) = key(server, &bob, "Bob's", "admin").await;
    let (_, by_key) = invite(server, &bobs, &guest(&ada, "by-key"), "admin").await;
    let (_, by_bob) = invite(server, &bob, &guest(&ada, "by-bob"), "admin").await;
    let (_, later) = invite(server, &bob, &guest(&ada, "later"), "admin").await;
    let _ = bobs.get("/v1/workspace/audit").await.is(200);

    set_role(&ada, &bob, "member").await;
    // What the key could do is over from the next request on.
    let someone = json!({ "email": guest(&ada, "someone"), "role": "member" });
    let to_admin = json!({ "role": "admin" });
    let cems = format!("/v1/workspace/members/{}", cem.user_id);
    for refused in [
        bobs.get("/v1/workspace/audit").await,
        bobs.post("/v1/workspace/invitations", &someone).await,
        bobs.post("/v1/api-keys", &json!({ "name": "x", "role": "member" }))
            .await,
        bobs.patch(&cems, &to_admin).await,
        bobs.delete(&cems).await,
    ] {
        refused.problem(403, "insufficient_role");
    }
    let _ = bobs.get("/v1/libraries").await.is(200);
    let shown = ada.get("/v1/api-keys").await.is(200).json();
    assert_eq!(
        (
            &shown["items"][0]["role"],
            &shown["items"][0]["effective_role"]
        ),
        (&json!("admin"), &json!("member"))
    );
    // And nobody becomes an admin by what he made as one.
    for token in [&by_bob, &by_key] {
        let joined = accept(server, token).await.is(201).json();
        let joined = server.bearer(joined["access_token"].as_str().expect("a token"));
        assert_eq!(joined.get("/v1/me").await.is(200).text("role"), "member");
    }
    // What he is worth again, his are.
    set_role(&ada, &bob, "admin").await;
    let _ = bobs.get("/v1/workspace/audit").await.is(200);
    let joined = accept(server, &later).await.is(201).json();
    let joined = server.bearer(joined["access_token"].as_str().expect("a token"));
    assert_eq!(joined.get("/v1/me").await.is(200).text("role"), "admin");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_removed_leaves_no_key_and_no_invitation_behind_unless_they_are_kept() {
    let server = Server::shared();
    let ada = server.sign_up_on("left", "enterprise").await;
    for (round, keep) in [false, true].into_iter().enumerate() {
        let bob = server.join(&ada, "left-bob", "admin").await;
        let (key_id, bobs) = key(server, &bob, "Uploader", "admin").await;
        let (by_bob, token) =
            invite(server, &bob, &guest(&ada, &format!("a{round}")), "admin").await;
        let (by_key, other) =
            invite(server, &bobs, &guest(&ada, &format!("b{round}")), "member").await;
        let before = ada.usage("team_members").await;
        assert_eq!(
            (&before["used"], &before["reserved"]),
            (&json!(2), &json!(2))
        );

        let query = if keep { "?keep_keys=true" } else { "" };
        let answer = remove(&ada, &bob, query).await.is(200).json();
        let ids = |list: &Value| {
            let list = list.as_array().expect("a list").iter();
            list.map(|item| item["id"].as_str().expect("an id").to_owned())
                .collect::<Vec<_>>()
        };
        let (revoked, kept) = if keep {
            (vec![], vec![key_id.clone()])
        } else {
            (vec![key_id.clone()], vec![])
        };
        assert_eq!(ids(&answer["revoked_api_keys"]), revoked);
        assert_eq!(ids(&answer["kept_api_keys"]), kept);
        assert_eq!(
            ids(&answer["revoked_invitations"]),
            [by_bob.clone(), by_key.clone()]
        );

        for token in [&token, &other] {
            accept(server, token).await.problem(404, "not_found");
        }
        let after = ada.usage("team_members").await;
        assert_eq!((&after["used"], &after["reserved"]), (&json!(1), &json!(0)));
        let told = audited(
            &ada,
            &[
                "invitation.revoked",
                "api_key.revoked",
                "api_key.sponsor_changed",
            ],
        )
        .await;
        let told: Vec<_> = told
            .iter()
            .map(|e| (e["action"].clone(), e["subject"].clone()))
            .collect();
        for id in [&by_bob, &by_key] {
            let entry = (json!("invitation.revoked"), json!(id));
            assert_eq!(told.iter().filter(|told| **told == entry).count(), 1);
        }
        let action = if keep {
            "api_key.sponsor_changed"
        } else {
            "api_key.revoked"
        };
        assert!(told.contains(&(json!(action), json!(key_id))), "{told:?}");
        assert_eq!(told.len(), 3 * (round + 1));
        if keep {
            // Who kept it answers for it: it does what it did, and is theirs to lose.
            let _ = bobs.get("/v1/workspace/audit").await.is(200);
            let shown = ada.get("/v1/api-keys").await.is(200).json();
            assert_eq!(shown["items"][0]["sponsor"], ada.user_id.as_str());
            assert_eq!(shown["items"][0]["created_by"], bob.user_id.as_str());
        } else {
            bobs.get("/v1/libraries")
                .await
                .problem(401, "unauthenticated");
        }
        // Who left nothing behind is removed without a word.
        let cem = server.join(&ada, "left-cem", "member").await;
        let _ = remove(&ada, &cem, "").await.is(204);
    }
    let refused = remove(&ada, &ada, "?keep_keys=perhaps").await;
    refused.problem(422, "validation_failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_and_comes_back_finds_nothing_of_theirs_alive() {
    let server = Server::shared();
    let ada = server.sign_up_on("back", "enterprise").await;
    let bob = server.join(&ada, "back-bob", "admin").await;
    let (key_id, bobs) = key(server, &bob, "Mine", "admin").await;
    let left = bob
        .post("/v1/workspace/leave", &json!({}))
        .await
        .is(200)
        .json();
    assert_eq!(left["revoked_api_keys"][0]["id"], key_id.as_str());
    bobs.get("/v1/libraries")
        .await
        .problem(401, "unauthenticated");
    let (_, token) = {
        let body = json!({ "email": bob.email, "role": "owner" });
        let made = ada.post("/v1/workspace/invitations", &body).await.is(201);
        (made.text("id"), server.mailed_token(&bob.email, 2).await)
    };
    let _ = accept(server, &token).await.is(201);
    bobs.get("/v1/libraries")
        .await
        .problem(401, "unauthenticated");
    assert_eq!(
        ada.get("/v1/api-keys").await.is(200).json()["items"],
        json!([])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_key_s_invitations_end_with_it() {
    let server = Server::shared();
    let ada = server.sign_up_on("leaked", "enterprise").await;
    let (id, leaked) = key(server, &ada, "Leaked", "admin").await;
    let (_, token) = invite(server, &leaked, &guest(&ada, "thief"), "admin").await;
    let (_, ours) = invite(server, &ada, &guest(&ada, "friend"), "member").await;
    let _ = ada.delete(&format!("/v1/api-keys/{id}")).await.is(204);
    accept(server, &token).await.problem(404, "not_found");
    let _ = accept(server, &ours).await.is(201);
}

/// A mail server that takes everything: to whom each mail went, and the mail.
async fn post_office() -> (String, Arc<Mutex<Vec<(String, String)>>>) {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("failed to listen");
    let address = listener.local_addr().expect("an address").to_string();
    let mails = Arc::new(Mutex::new(Vec::new()));
    let kept = mails.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let kept = kept.clone();
            tokio::spawn(async move {
                let (reader, mut writer) = stream.into_split();
                let mut lines = BufReader::new(reader).lines();
                let _ = writer.write_all(b"220 post office\r\n").await;
                let (mut to, mut data) = (String::new(), None::<String>);
                while let Ok(Some(line)) = lines.next_line().await {
                    let answer = match (&mut data, line.as_str()) {
                        (Some(mail), ".") => {
                            let mail = std::mem::take(mail);
                            kept.lock().expect("no panic").push((to.clone(), mail));
                            data = None;
                            "250 kept"
                        }
                        (Some(mail), line) => {
                            mail.push_str(line);
                            mail.push('\n');
                            continue;
                        }
                        (None, "DATA") => {
                            data = Some(String::new());
                            "354 go on"
                        }
                        (None, "QUIT") => "221 bye",
                        (None, line) => {
                            if let Some(rest) = line.strip_prefix("RCPT TO:<") {
                                to = rest.split('>').next().unwrap_or_default().to_owned();
                            }
                            "250 fine"
                        }
                    };
                    let _ = writer.write_all(format!("{answer}\r\n").as_bytes()).await;
                }
            });
        }
    });
    (address, mails)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_writes_to_strangers_before_their_own_address_is_verified_where_mail_leaves() {
    let (address, mails) = post_office().await;
    let url = format!("smtp://{address}?from=photos@studio.example");
    let server = Server::start_with(&[("RAWDRIVE_SMTP_URL", &url), ("RAWDRIVE_RATE_LIMITS", "on")]);
    let to = |address: &str| {
        let mails = mails.lock().expect("no panic");
        let theirs = mails.iter().filter(|(to, _)| to == address);
        theirs.map(|(_, mail)| mail.clone()).collect::<Vec<_>>()
    };
    let arrived = async |address: &str, n: usize| {
        until(30, "a mail arrives", async || to(address).len() >= n).await;
        to(address)
    };
    let body = json!({
        "email": "ada@sender.example",
        "password": Actor::PASSWORD,
        "name": "Ada",
        "workspace_name": "Win at http://evil.example/x",
    });
    let made = server
        .anonymous()
        .post("/v1/signup", &body)
        .await
        .is(201)
        .json();
    let ada = server.bearer(made["access_token"].as_str().expect("a token"));
    let workspace = made["workspace"]["id"].as_str().expect("an id");
    let plan = [
        "admin",
        "set-plan",
        "--workspace",
        workspace,
        "--plan",
        "professional",
        "--reason",
        "a test",
    ];
    let _ = server.admin(&plan).await.succeeded();

    let mia = json!({ "name": "Mia www.evil.example", "email": "mia@münchen.example" });
    let mia = ada.post("/v1/clients", &mia).await.is(201).text("id");
    let invite_mia = format!("/v1/clients/{mia}/invite");
    let guest = json!({ "email": "guest@stranger.example", "role": "member" });
    for refused in [
        ada.post(&invite_mia, &json!({})).await,
        ada.post("/v1/workspace/invitations", &guest).await,
    ] {
        let problem = refused.problem(403, "email_not_verified");
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(detail.contains("/v1/email-verifications"), "{detail}");
    }
    // What was refused left nothing: no seat is held, no link was made.
    assert_eq!(ada.usage("team_members").await["reserved"], 0);
    let shown = ada.get(&format!("/v1/clients/{mia}")).await.is(200).json();
    assert_eq!(shown["invited_at"], Value::Null);

    // Sign-up has sent the link.
    let mail = arrived("ada@sender.example", 1).await.remove(0);
    let link = mail
        .lines()
        .find(|line| line.contains("?token="))
        .expect("a link");
    let (page, token) = link.split_once("?token=").expect("a token");
    assert!(page.starts_with(&server.url()), "{link}");
    let body = json!({ "token": token });
    let verified = server
        .anonymous()
        .post("/v1/email-verifications/complete", &body)
        .await;
    let _ = verified.is(204);

    let _ = ada.post("/v1/workspace/invitations", &guest).await.is(201);
    let mut statuses = Vec::new();
    for _ in 0..5 {
        let answer = ada.post(&invite_mia, &json!({})).await;
        if answer.status == 429 {
            answer.problem(429, "rate_limited");
            let seconds: u64 = answer.header("retry-after").parse().expect("seconds");
            assert!((1..=3600).contains(&seconds), "{seconds}");
        }
        statuses.push(answer.status);
    }
    assert_eq!(statuses, [201, 201, 201, 429, 429]);
    // The domain as every mail server takes it; no word of ours that a name made a link.
    for mail in arrived("mia@xn--mnchen-3ya.example", 3).await {
        assert!(!mail.to_lowercase().contains("evil.example"), "{mail}");
        let subject = mail.lines().find(|line| line.starts_with("Subject: "));
        assert_eq!(subject, Some("Subject: Win at: your galleries"));
        assert!(mail.contains("Hello Mia www. evil. example,"), "{mail}");
    }
    let mail = arrived("guest@stranger.example", 1).await.remove(0);
    assert!(!mail.contains("evil.example"), "{mail}");
    let sent = mails.lock().expect("no panic").len();
    assert_eq!(sent, 5, "one verification, one guest, three of Mia's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_mails_are_files_nothing_stands_in_a_newcomer_s_way() {
    let server = Server::start_with(&[("RAWDRIVE_RATE_LIMITS", "on")]);
    let ada = server.sign_up("newcomer").await;
    let email = guest(&ada, "mia");
    let mia = json!({ "name": "Mia", "email": email });
    let mia = ada.post("/v1/clients", &mia).await.is(201).text("id");
    for _ in 0..6 {
        let _ = ada
            .post(&format!("/v1/clients/{mia}/invite"), &json!({}))
            .await
            .is(201);
    }
    assert_eq!(server.letters_to(&email, 6).await.len(), 6);
    assert!(server.letters_to(&ada.email, 0).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_mailbox_is_one_account_however_it_is_typed() {
    let server = Server::shared();
    let anonymous = server.anonymous();
    let sign_up = async |email: &str| {
        let body = json!({ "email": email, "password": "pa\u{df}wort Zo\u{eb}", "name": "x", "workspace_name": "x" });
        anonymous.post("/v1/signup", &body).await
    };
    for (n, (first, others)) in [
        (
            "straße{}@twins.example",
            &["STRASSE{}@twins.example", "strasse{}@TWINS.example"][..],
        ),
        (
            "οδυσσευς{}@twins.example",
            &["ΟΔΥΣΣΕΥΣ{}@twins.example", "οδυσσευσ{}@twins.example"],
        ),
        ("ſam{}@twins.example", &["sam{}@twins.example"]),
        (
            "İrem{}@twins.example",
            &["irem{}@twins.example", "i\u{307}rem{}@twins.example"],
        ),
        (
            "ana{}@münchen.example",
            &["ana{}@xn--mnchen-3ya.example", "ANA{}@MÜNCHEN.example"],
        ),
        ("zoë{}@twins.example", &["zoe\u{308}{}@twins.example"]),
    ]
    .into_iter()
    .enumerate()
    {
        let numbered = |text: &str| text.replace("{}", &format!("-{n}-{}", std::process::id()));
        let first = numbered(first);
        let made = sign_up(&first).await.is(201).json();
        assert_eq!(made["user"]["email"], first.as_str());
        for other in others.iter().map(|other| numbered(other)) {
            sign_up(&other).await.problem(409, "email_taken");
            // Nor is the password another one when it is typed on another keyboard.
            let body = json!({ "email": other, "password": "pa\u{df}wort\u{a0}Zoe\u{308}" });
            let back = anonymous.post("/v1/sessions", &body).await.is(201).json();
            assert_eq!(back["user"]["id"], made["user"]["id"], "{other}");
        }
    }
    let ada = server.sign_up_on("twins", "enterprise").await;
    let client = |email: &str| json!({ "name": "Mia", "email": email });
    let _ = ada
        .post("/v1/clients", &client("straße@x.example"))
        .await
        .is(201);
    let twin = ada.post("/v1/clients", &client("STRASSE@x.example")).await;
    twin.problem(409, "conflict");
    let invitation = |email: &str| json!({ "email": email, "role": "member" });
    let invite = ada
        .post("/v1/workspace/invitations", &invitation("ſam-i@x.example"))
        .await;
    let _ = invite.is(201);
    let twin = ada
        .post("/v1/workspace/invitations", &invitation("SAM-I@x.example"))
        .await;
    twin.problem(409, "conflict");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_is_seen_whole_and_in_its_order() {
    let server = Server::shared();
    let ada = server.sign_up_on("names", "enterprise").await;
    let library = ada.library("Kept").await;
    let hidden = [
        "\u{200b}",
        "\u{3164}",
        "\u{2800}",
        "\u{115f}",
        "\u{ad}",
        " \u{3000} ",
        "a\u{200b}b",
        "a\u{202e}b",
        "a\u{2066}b",
        "\u{200f}a",
        "a\u{feff}",
        "a\u{2028}b",
        "a\u{200d}b",
    ];
    for (n, name) in hidden.iter().enumerate() {
        let email = format!("hidden-{n}@names.example");
        let person = json!({ "email": email, "password": Actor::PASSWORD, "name": name, "workspace_name": "x" });
        let studio = json!({ "email": email, "password": Actor::PASSWORD, "name": "x", "workspace_name": name });
        for (path, body, field) in [
            ("/v1/signup", person, "name"),
            ("/v1/signup", studio, "workspace_name"),
            ("/v1/libraries", json!({ "name": name }), "name"),
            (
                "/v1/galleries",
                json!({ "library_id": library, "name": name }),
                "name",
            ),
            (
                "/v1/clients",
                json!({ "name": name, "email": email }),
                "name",
            ),
            (
                "/v1/api-keys",
                json!({ "name": name, "role": "member" }),
                "name",
            ),
            (
                "/v1/branding",
                json!({ "display_name": name, "primary_color": "#102030" }),
                "display_name",
            ),
        ] {
            let problem = ada
                .post(path, &body)
                .await
                .problem(422, "validation_failed");
            assert_eq!(first_field(&problem), field, "{path} {name:?}");
        }
        for path in [
            "/v1/me",
            "/v1/workspace",
            &format!("/v1/libraries/{library}"),
        ] {
            let refused = ada.patch(path, &json!({ "name": name })).await;
            refused.problem(422, "validation_failed");
        }
    }
    for name in [
        "👩\u{200d}👩\u{200d}👧 Studio",
        "می\u{200c}خواهم",
        "क्\u{200d}ष",
        "I \u{2764}\u{fe0f} photos",
    ] {
        let made = ada
            .post("/v1/libraries", &json!({ "name": name }))
            .await
            .is(201);
        assert_eq!(made.text("name"), name);
    }
    // However a keyboard composes it, it is one text.
    let made = ada
        .post("/v1/libraries", &json!({ "name": "Zoe\u{308}" }))
        .await;
    assert_eq!(made.is(201).text("name"), "Zoë");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_amid_requests_leaves_nothing_that_they_made() {
    let server = Server::shared();
    let ada = server.sign_up_on("amid", "enterprise").await;
    for round in 0..3 {
        let bob = server.join(&ada, "amid-bob", "admin").await;
        let (_, bobs) = key(server, &bob, "Bob's", "admin").await;
        let asking: Vec<_> = (0..24)
            .map(|n| {
                let (bobs, bob) = (bobs.clone(), bob.clone());
                let email = guest(&ada, &format!("amid-{round}-{n}"));
                tokio::spawn(async move {
                    let invitation = json!({ "email": email, "role": "admin" });
                    let new = json!({ "name": "Another", "role": "admin" });
                    if n % 3 == 0 {
                        bob.post("/v1/api-keys", &new).await.status
                    } else {
                        bobs.post("/v1/workspace/invitations", &invitation)
                            .await
                            .status
                    }
                })
            })
            .collect();
        let _ = remove(&ada, &bob, "").await.is(200);
        for task in asking {
            let status = task.await.expect("no panic");
            assert!([201, 401].contains(&status), "{status}");
        }
        let open = ada.list_all("/v1/workspace/invitations", 200).await;
        let keys = ada.list_all("/v1/api-keys", 200).await;
        assert!(open.is_empty() && keys.is_empty(), "{open:?} {keys:?}");
        let seats = ada.usage("team_members").await;
        assert_eq!((&seats["used"], &seats["reserved"]), (&json!(1), &json!(0)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acceptance_amid_a_demotion_comes_before_it_or_makes_no_admin() {
    let server = Server::shared();
    let ada = server.sign_up_on("demoted", "enterprise").await;
    let bob = server.join(&ada, "demoted-bob", "admin").await;
    for round in 0..3 {
        let (_, token) = invite(
            server,
            &bob,
            &guest(&ada, &format!("demoted-{round}")),
            "admin",
        )
        .await;
        let (joined, ()) = tokio::join!(accept(server, &token), set_role(&ada, &bob, "member"));
        let joined = joined.is(201).json();
        let user = joined["user"]["id"].as_str().expect("an id");
        let joined = server.bearer(joined["access_token"].as_str().expect("a token"));
        let role = joined.get("/v1/me").await.is(200).text("role");
        let entries = audited(&ada, &["membership.created", "membership.role_changed"]).await;
        let at = |subject: &str, action: &str| {
            let of = |e: &&Value| e["subject"] == subject && e["action"] == action;
            let entry = entries.iter().rfind(of).expect("an entry");
            entry["seq"].as_u64().expect("a number")
        };
        let demotion = at(&bob.user_id, "membership.role_changed");
        let before = at(user, "membership.created") < demotion;
        assert_eq!(role, if before { "admin" } else { "member" });
        set_role(&ada, &bob, "admin").await;
    }
}
