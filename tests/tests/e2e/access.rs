//! Who may do what: one table of every operation, asked as everybody.
//!
//! `docs/roles.md` is the same table for people. A route that is in the API's document and not in this table
//! fails here; so does one that answers another circle than its row says.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use e2e::{Actor, Answer, Api, Server, unknown_id};
use reqwest::Method;
use serde_json::{Value, json};

/// The circle that an operation is for. Each of the workspace's circles holds those after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Nobody is asked who they are.
    Anybody,
    /// Whoever holds the secret that the request carries: a mailed link, a refresh token, a signature.
    Bearer,
    Member,
    Admin,
    Owner,
}

/// Whether a program may, with an API key of the role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// With a session or a key.
    Any,
    /// It concerns a person: a session alone.
    Person,
    /// Programs report it: a key alone.
    Program,
}

struct Operation {
    method: &'static str,
    path: &'static str,
    reach: Reach,
    by: By,
    /// In words.
    what: &'static str,
}

const fn op(
    method: &'static str,
    path: &'static str,
    reach: Reach,
    by: By,
    what: &'static str,
) -> Operation {
    Operation {
        method,
        path,
        reach,
        by,
        what,
    }
}

use By::{Any, Person, Program};
use Reach::{Admin, Anybody, Bearer, Member, Owner};

/// Every operation of the API, in the order in which a reader looks for them.
#[rustfmt::skip]
const OPERATIONS: &[Operation] = &[
    op("POST", "/v1/signup", Anybody, Any, "sign up"),
    op("POST", "/v1/sessions", Anybody, Any, "sign in"),
    op("POST", "/v1/sessions/refresh", Bearer, Any, "go on with a session"),
    op("POST", "/v1/sessions/switch", Member, Person, "switch to another of one's workspaces"),
    op("DELETE", "/v1/sessions/current", Member, Person, "sign out"),
    op("GET", "/v1/me", Member, Any, "see who one is"),
    op("PATCH", "/v1/me", Member, Person, "change one's own name or password"),
    op("POST", "/v1/password-resets", Anybody, Any, "ask for the link to a new password"),
    op("POST", "/v1/password-resets/complete", Bearer, Any, "set a new password by a mailed link"),
    op("POST", "/v1/email-verifications", Anybody, Any, "ask for the link that verifies an address"),
    op("POST", "/v1/email-verifications/complete", Bearer, Any, "verify an address by a mailed link"),
    op("GET", "/.well-known/jwks.json", Anybody, Any, "read the keys that tokens are verified with"),
    op("GET", "/v1/api-keys", Admin, Any, "list API keys"),
    op("POST", "/v1/api-keys", Admin, Person, "make an API key of at most one's own role"),
    op("DELETE", "/v1/api-keys/{id}", Admin, Any, "revoke an API key"),
    op("POST", "/v1/tokens", Member, Any, "have a short-lived token made for a page"),
    op("GET", "/v1/workspace", Member, Any, "see the workspace"),
    op("PATCH", "/v1/workspace", Admin, Any, "change the workspace's name and billing address"),
    op("POST", "/v1/workspace/leave", Member, Person, "leave the workspace"),
    op("POST", "/v1/workspace/transfer", Owner, Person, "hand the workspace over to another member"),
    op("GET", "/v1/workspace/members", Member, Any, "list members"),
    op("PATCH", "/v1/workspace/members/{user_id}", Admin, Any, "change a member's role (an owner's: owners alone)"),
    op("DELETE", "/v1/workspace/members/{user_id}", Admin, Any, "remove a member (an owner: owners alone)"),
    op("GET", "/v1/workspace/invitations", Admin, Any, "list open invitations"),
    op("POST", "/v1/workspace/invitations", Admin, Any, "invite somebody to at most one's own role"),
    op("DELETE", "/v1/workspace/invitations/{id}", Admin, Any, "take an invitation back"),
    op("POST", "/v1/invitations/accept", Bearer, Any, "accept an invitation"),
    op("GET", "/v1/workspace/audit", Admin, Any, "read the audit log"),
    op("GET", "/v1/workspace/audit/anchor", Admin, Any, "read the head of the audit log"),
    op("GET", "/v1/plans", Anybody, Any, "see the plans"),
    op("GET", "/v1/entitlements", Member, Any, "see what the plan allows"),
    op("POST", "/v1/entitlements/check", Member, Any, "ask whether something is allowed"),
    op("GET", "/v1/usage", Member, Any, "see usage"),
    op("GET", "/v1/usage/history", Member, Any, "see what was used when"),
    op("GET", "/v1/usage/events", Member, Any, "read the usage ledger"),
    op("POST", "/v1/usage/events", Member, Program, "report what was used elsewhere"),
    op("POST", "/v1/usage/reservations", Member, Any, "set units of an own metric aside"),
    op("GET", "/v1/usage/reservations/{id}", Member, Any, "see a reservation"),
    op("POST", "/v1/usage/reservations/{id}/settle", Member, Any, "turn a reservation into usage"),
    op("POST", "/v1/usage/reservations/{id}/extend", Member, Any, "keep a reservation for longer"),
    op("DELETE", "/v1/usage/reservations/{id}", Member, Any, "give a reservation back"),
    op("GET", "/v1/usage/statements", Member, Any, "list the months' usage statements"),
    op("GET", "/v1/usage/statements/{month}", Member, Any, "read a month's usage statement"),
    op("GET", "/v1/billing/subscription", Member, Any, "see the subscription"),
    op("POST", "/v1/billing/subscription", Admin, Any, "subscribe"),
    op("POST", "/v1/billing/subscription/preview", Admin, Any, "see what a plan would cost and break"),
    op("PATCH", "/v1/billing/subscription", Admin, Any, "change the plan"),
    op("POST", "/v1/billing/subscription/cancel", Admin, Any, "end the subscription"),
    op("POST", "/v1/billing/subscription/resume", Admin, Any, "take an end or a change that was to come back"),
    op("POST", "/v1/billing/checkout", Admin, Any, "open a hosted page to pay on"),
    op("POST", "/v1/billing/portal", Admin, Any, "open a hosted page about cards and invoices"),
    op("GET", "/v1/billing/invoices", Admin, Any, "list invoices"),
    op("POST", "/v1/webhooks/stripe", Bearer, Any, "as Stripe: tell of an event, signed"),
    op("GET", "/v1/events", Admin, Any, "read the feed of events"),
    op("GET", "/v1/webhook-endpoints", Admin, Any, "list where events are sent"),
    op("POST", "/v1/webhook-endpoints", Admin, Any, "have events sent to an address"),
    op("GET", "/v1/webhook-endpoints/{id}", Admin, Any, "see where events are sent"),
    op("PATCH", "/v1/webhook-endpoints/{id}", Admin, Any, "change where events are sent, or whether"),
    op("DELETE", "/v1/webhook-endpoints/{id}", Admin, Any, "have no more events sent to an address"),
    op("POST", "/v1/webhook-endpoints/{id}/rotate-secret", Admin, Any, "replace the secret that events are signed with"),
    op("GET", "/v1/webhook-endpoints/{id}/deliveries", Admin, Any, "see what was sent, and what came of it"),
    op("POST", "/v1/webhook-endpoints/deliveries/{id}/resend", Admin, Any, "send an event once more"),
    op("GET", "/v1/onboarding", Member, Any, "see the first steps"),
    op("POST", "/v1/onboarding/steps/{id}/skip", Admin, Any, "skip a step"),
    op("DELETE", "/v1/onboarding/steps/{id}/skip", Admin, Any, "take a skip back"),
    op("GET", "/v1/libraries", Member, Any, "list libraries"),
    op("POST", "/v1/libraries", Member, Any, "make a library"),
    op("GET", "/v1/libraries/{id}", Member, Any, "see a library"),
    op("PATCH", "/v1/libraries/{id}", Member, Any, "rename a library"),
    op("DELETE", "/v1/libraries/{id}", Member, Any, "delete an empty library"),
    op("GET", "/v1/galleries", Member, Any, "list galleries"),
    op("POST", "/v1/galleries", Member, Any, "make a gallery"),
    op("GET", "/v1/galleries/{id}", Member, Any, "see a gallery"),
    op("PATCH", "/v1/galleries/{id}", Member, Any, "change a gallery, and who of the clients sees it"),
    op("DELETE", "/v1/galleries/{id}", Member, Any, "delete a gallery"),
    op("POST", "/v1/galleries/{id}/restore", Member, Any, "bring a deleted gallery back"),
    op("POST", "/v1/galleries/{id}/photos", Member, Any, "upload a photo"),
    op("GET", "/v1/galleries/{id}/photos", Member, Any, "list photos"),
    op("GET", "/v1/photos/{id}", Member, Any, "see a photo's record"),
    op("PATCH", "/v1/photos/{id}", Member, Any, "rename a photo, or move it to another gallery"),
    op("DELETE", "/v1/photos/{id}", Member, Any, "delete a photo"),
    op("POST", "/v1/photos/delete", Member, Any, "delete several photos"),
    op("POST", "/v1/photos/move", Member, Any, "move several photos to a gallery"),
    op("GET", "/v1/photos/{id}/content", Member, Any, "download a photo"),
    op("GET", "/v1/photos/{id}/renditions/{name}", Member, Any, "look at a smaller copy of a photo"),
    op("POST", "/v1/photos/{id}/analysis", Member, Any, "analyse a photo"),
    op("GET", "/v1/photos/{id}/analysis", Member, Any, "see a photo's analysis"),
    op("GET", "/v1/clients", Member, Any, "list clients"),
    op("POST", "/v1/clients", Member, Any, "add a client"),
    op("GET", "/v1/clients/{id}", Member, Any, "see a client"),
    op("PATCH", "/v1/clients/{id}", Member, Any, "change a client"),
    op("DELETE", "/v1/clients/{id}", Member, Any, "delete a client"),
    op("POST", "/v1/clients/{id}/invite", Member, Any, "mail a client their link"),
    op("DELETE", "/v1/clients/{id}/invite", Member, Any, "revoke a client's link"),
    op("GET", "/v1/shared/{token}", Bearer, Any, "as a client: see one's galleries"),
    op("GET", "/v1/shared/{token}/logo", Bearer, Any, "as a client: see the workspace's logo"),
    op("GET", "/v1/shared/{token}/galleries/{id}/photos", Bearer, Any, "as a client: list a gallery's photos"),
    op("GET", "/v1/shared/{token}/photos/{id}/content", Bearer, Any, "as a client: download a photo"),
    op("GET", "/v1/shared/{token}/photos/{id}/renditions/{name}", Bearer, Any, "as a client: look at a smaller copy of a photo"),
    op("GET", "/v1/branding", Member, Any, "see the branding"),
    op("POST", "/v1/branding", Admin, Any, "save the branding"),
    op("GET", "/livez", Anybody, Any, "ask whether the server lives"),
    op("GET", "/readyz", Anybody, Any, "ask whether the server is ready"),
];

/// What may be called without a credential in `Authorization`. This list may only shrink: whoever adds to
/// it opens a door.
#[rustfmt::skip]
const EXEMPT: &[(&str, &str)] = &[
    ("/v1/signup", "makes the credential"),
    ("/v1/sessions", "a password is the credential"),
    ("/v1/sessions/refresh", "the refresh token is the credential"),
    ("/v1/password-resets", "who has forgotten a password has no session"),
    ("/v1/password-resets/complete", "the mailed token is the credential"),
    ("/v1/email-verifications", "as a password's reset"),
    ("/v1/email-verifications/complete", "the mailed token is the credential"),
    ("/v1/invitations/accept", "the mailed token is the credential"),
    ("/v1/shared/{token}", "the token in the path is the credential"),
    ("/v1/shared/{token}/logo", "as above"),
    ("/v1/shared/{token}/galleries/{id}/photos", "as above"),
    ("/v1/shared/{token}/photos/{id}/content", "as above"),
    ("/v1/shared/{token}/photos/{id}/renditions/{name}", "as above"),
    ("/v1/webhooks/stripe", "the signature is the credential"),
    ("/.well-known/jwks.json", "public keys"),
    ("/v1/plans", "the price list"),
    ("/livez", "for the machine that runs the server"),
    ("/readyz", "for the machine that runs the server"),
];

/// Operations that end what the test goes on with when they succeed; what they do is tested elsewhere.
const ENDING: [&str; 2] = ["/v1/sessions/current", "/v1/workspace/leave"];

fn document_of(operations: &[Operation]) -> String {
    let mut text = String::from(
        "# Who may do what\n\n\
         Each line is one thing that can be done through the API. *Owner*, *admin* and *member* are the roles in a\n\
         workspace; an *API key* has a role too, and may do what its role may unless the last column says no; what\n\
         only the last column admits is for programs.\n\
         *Anybody* needs no account; *with a secret* means a link or token that was mailed or handed out for just this.\n\n\
         This page is compared with what the server really answers (`cargo test -p e2e access`).\n\n\
         | To … | Anybody | With a secret | Member | Admin | Owner | API key of the role |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for operation in operations {
        let yes = |may: bool| if may { "yes" } else { "–" };
        let open = matches!(operation.reach, Anybody | Bearer);
        let role = |role: Reach| {
            if open {
                "yes"
            } else {
                yes(operation.by != Program && role as u8 >= operation.reach as u8)
            }
        };
        writeln!(
            text,
            "| {} `{} {}` | {} | {} | {} | {} | {} | {} |",
            operation.what,
            operation.method,
            operation.path,
            yes(operation.reach == Anybody),
            yes(open),
            role(Member),
            role(Admin),
            role(Owner),
            if operation.by == Person { "no" } else { "yes" },
        )
        .expect("a String takes every write");
    }
    text
}

#[test]
fn the_page_about_roles_says_what_the_table_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/roles.md");
    let expected = document_of(OPERATIONS);
    if std::env::var_os("RAWDRIVE_BLESS").is_some() {
        std::fs::write(&path, &expected).expect("failed to write docs/roles.md");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == expected,
        "docs/roles.md is not what the table says: RAWDRIVE_BLESS=1 cargo test -p e2e access writes it"
    );
}

#[test]
fn only_what_is_exempt_asks_for_no_credential() {
    let open: BTreeSet<_> = OPERATIONS
        .iter()
        .filter(|o| matches!(o.reach, Anybody | Bearer))
        .map(|o| o.path)
        .collect();
    let exempt: BTreeSet<_> = EXEMPT.iter().map(|(path, _)| *path).collect();
    assert_eq!(open, exempt);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_of_the_document_has_a_row_and_no_row_is_left_over() {
    let server = Server::shared();
    let document = server.anonymous().get("/openapi.json").await.is(200).json();
    let mut documented = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().expect("there are paths") {
        for method in operations
            .as_object()
            .expect("a path has operations")
            .keys()
        {
            documented.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    let rows: BTreeSet<_> = OPERATIONS
        .iter()
        .map(|o| format!("{} {}", o.method, o.path))
        .collect();
    assert_eq!(rows.len(), OPERATIONS.len(), "a row stands twice");
    let missing: Vec<_> = documented.difference(&rows).collect();
    let left_over: Vec<_> = rows.difference(&documented).collect();
    assert!(
        missing.is_empty() && left_over.is_empty(),
        "without a row: {missing:#?}; without a route: {left_over:#?}"
    );
}

/// The operation's path with ids that nobody has, so that what is admitted changes nothing.
fn path_of(operation: &Operation) -> String {
    let kind = [
        ("/v1/libraries/", "lib"),
        ("/v1/galleries/", "gal"),
        ("/v1/photos/", "pho"),
        ("/v1/clients/", "cli"),
        ("/v1/api-keys/", "key"),
        ("/v1/usage/reservations/", "hld"),
        ("/v1/webhook-endpoints/deliveries/", "dlv"),
        ("/v1/webhook-endpoints/", "whe"),
        ("/v1/workspace/members/", "usr"),
        ("/v1/workspace/invitations/", "inv"),
        ("/v1/shared/{token}/galleries/", "gal"),
        ("/v1/shared/{token}/photos/", "pho"),
    ]
    .iter()
    .find_map(|(start, kind)| operation.path.starts_with(start).then_some(*kind))
    .unwrap_or("no");
    operation
        .path
        .replace("{token}", "rdc_nobody")
        .replace("{month}", "1999-12")
        .replace("{name}", "web")
        .replace("{id}", &unknown_id(kind))
        .replace("{user_id}", &unknown_id(kind))
}

async fn ask(api: &Api, operation: &Operation) -> Answer {
    let method: Method = operation.method.parse().expect("a method");
    let body = matches!(operation.method, "POST" | "PATCH");
    let request = api.request(method, &path_of(operation));
    api.send(if body {
        request.json(&json!({}))
    } else {
        request
    })
    .await
}

/// Everybody who may ask, all of one workspace.
struct Cast {
    member: Actor,
    admin: Actor,
    owner: Actor,
    member_key: Api,
    admin_key: Api,
    owner_key: Api,
    removed: Actor,
}

async fn key(server: &Server, owner: &Actor, role: &str) -> Api {
    let body = json!({ "name": role, "role": role });
    let secret = owner
        .post("/v1/api-keys", &body)
        .await
        .is(201)
        .text("secret");
    server.bearer(&secret)
}

async fn cast(server: &Server) -> Cast {
    let owner = server.sign_up_on("owner", "enterprise").await;
    let member = server.join(&owner, "member", "member").await;
    let admin = server.join(&owner, "admin", "admin").await;
    let removed = server.join(&owner, "removed", "admin").await;
    let _ = removed.get("/v1/workspace").await.is(200);
    let _ = owner
        .delete(&format!("/v1/workspace/members/{}", removed.user_id))
        .await
        .is(204);
    Cast {
        member,
        admin,
        removed,
        member_key: key(server, &owner, "member").await,
        admin_key: key(server, &owner, "admin").await,
        owner_key: key(server, &owner, "owner").await,
        owner,
    }
}

fn refused(answer: &Answer, role: &str, who: &str, operation: &Operation) {
    let problem = answer.problem(403, "insufficient_role");
    assert_eq!(
        problem["required_role"], role,
        "{who} at {} {}",
        operation.method, operation.path
    );
}

fn admitted(answer: &Answer, who: &str, operation: &Operation) {
    // This server takes no payments; who may ask is told so.
    let sells_nothing = answer.status == 503 && answer.json()["code"] == "billing_not_configured";
    assert!(
        ![401, 403].contains(&answer.status) && (answer.status < 500 || sells_nothing),
        "{who} at {} {}: {answer:?}",
        operation.method,
        operation.path
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_operation_answers_its_circle_and_nobody_else() {
    let server = Server::start();
    let cast = cast(&server).await;
    let anonymous = server.anonymous();
    let nobody = anonymous.get("/v1/workspace").await;
    nobody.problem(401, "unauthenticated");
    for operation in OPERATIONS {
        let (method, path) = (operation.method, operation.path);
        if matches!(operation.reach, Anybody | Bearer) {
            let answer = ask(&anonymous, operation).await;
            assert!(
                answer.status != 403 && answer.status < 500,
                "{method} {path}: {answer:?}"
            );
            continue;
        }
        // No credential, and one that has ended, are refused before anything else is looked at, and alike.
        for (who, api) in [("nobody", &anonymous), ("a removed member", &*cast.removed)] {
            let answer = ask(api, operation).await;
            answer.problem(401, "unauthenticated");
            assert_eq!(
                answer.essence(),
                nobody.essence(),
                "{who} at {method} {path}"
            );
        }
        let required = match operation.reach {
            Admin => "admin",
            Owner => "owner",
            _ => "member",
        };
        let circles: [(&str, Reach, &Api, &Api); 3] = [
            ("a member", Member, &cast.member, &cast.member_key),
            ("an admin", Admin, &cast.admin, &cast.admin_key),
            ("an owner", Owner, &cast.owner, &cast.owner_key),
        ];
        for (who, role, session, key) in circles {
            let may = role as u8 >= operation.reach as u8;
            if !may {
                refused(&ask(session, operation).await, required, who, operation);
                refused(&ask(key, operation).await, required, who, operation);
                continue;
            }
            if operation.by == Person {
                ask(key, operation).await.problem(403, "insufficient_role");
            } else {
                admitted(
                    &ask(key, operation).await,
                    &format!("{who}'s key"),
                    operation,
                );
            }
            if operation.by == Program {
                ask(session, operation)
                    .await
                    .problem(403, "insufficient_role");
            } else if !ENDING.contains(&path) {
                admitted(&ask(session, operation).await, who, operation);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_to_one_workspace_holds_a_word_of_another() {
    let server = Server::shared();
    let ada = server.sign_up_on("canary", "enterprise").await;
    let eve = server.sign_up_on("eve", "enterprise").await;
    const CANARY: &str = "Canary-7f3a91";
    let library = ada.library(CANARY).await;
    let gallery = ada.gallery_in(&library, CANARY).await;
    for (path, body) in [
        (
            "/v1/clients",
            json!({ "name": CANARY, "email": "canary-client@example.test" }),
        ),
        ("/v1/api-keys", json!({ "name": CANARY, "role": "member" })),
        (
            "/v1/workspace/invitations",
            json!({ "email": "canary-guest@example.test", "role": "member" }),
        ),
        (
            "/v1/branding",
            json!({ "display_name": CANARY, "primary_color": "#112233" }),
        ),
    ] {
        let _ = ada.post(path, &body).await.is(201);
    }
    let upload = format!("/v1/galleries/{gallery}/photos?filename={CANARY}.jpg");
    let request = ada
        .request(Method::POST, &upload)
        .header("content-type", "image/jpeg")
        .body(e2e::image::jpeg(5_000, 1));
    let _ = ada.send(request).await.is(201);
    let secrets = [
        CANARY,
        "canary-",
        &ada.workspace_id,
        &ada.user_id,
        &library,
        &gallery,
    ];
    let mut asked = 0;
    for operation in OPERATIONS {
        if operation.method != "GET" || operation.path.contains('{') {
            continue;
        }
        let mine = ask(&ada, operation).await;
        assert!(mine.status < 500, "{mine:?}");
        let theirs = ask(&eve, operation).await;
        let text = String::from_utf8_lossy(&theirs.body);
        for secret in secrets {
            assert!(!text.contains(secret), "{}: {theirs:?}", operation.path);
        }
        asked += 1;
    }
    assert!(asked >= 15, "only {asked} lists were read");
    let log = server.log();
    for secret in ["canary-client@", "canary-guest@", Actor::PASSWORD] {
        assert!(!log.contains(secret), "the log holds {secret}");
    }
    let shown = |actor: &Actor, path: &str| {
        let (actor, path) = (actor.clone(), path.to_owned());
        async move { actor.get(&path).await.is(200).json() }
    };
    let workspace: Value = shown(&ada, "/v1/workspace").await;
    assert_eq!(workspace["id"], ada.workspace_id.as_str());
}
