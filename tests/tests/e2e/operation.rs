//! What an operator and a developer find beside the API.

use std::collections::BTreeSet;

use e2e::Server;
use serde_json::Value;

/// Every route that this suite uses; the document must describe each.
const ROUTES: [(&str, &str); 71] = [
    ("post", "/v1/signup"),
    ("post", "/v1/sessions"),
    ("post", "/v1/sessions/refresh"),
    ("post", "/v1/sessions/switch"),
    ("delete", "/v1/sessions/current"),
    ("get", "/v1/me"),
    ("patch", "/v1/me"),
    ("get", "/.well-known/jwks.json"),
    ("post", "/v1/password-resets"),
    ("post", "/v1/password-resets/complete"),
    ("post", "/v1/email-verifications"),
    ("post", "/v1/email-verifications/complete"),
    ("get", "/password-reset"),
    ("get", "/email-verification"),
    ("get", "/v1/api-keys"),
    ("post", "/v1/api-keys"),
    ("delete", "/v1/api-keys/{}"),
    ("get", "/v1/workspace"),
    ("get", "/v1/workspace/audit"),
    ("get", "/v1/plans"),
    ("get", "/v1/entitlements"),
    ("post", "/v1/entitlements/check"),
    ("get", "/v1/usage"),
    ("get", "/v1/billing/subscription"),
    ("post", "/v1/billing/subscription"),
    ("post", "/v1/billing/subscription/preview"),
    ("patch", "/v1/billing/subscription"),
    ("post", "/v1/billing/subscription/cancel"),
    ("post", "/v1/billing/subscription/resume"),
    ("post", "/v1/billing/checkout"),
    ("post", "/v1/billing/portal"),
    ("get", "/v1/billing/invoices"),
    ("post", "/v1/webhooks/stripe"),
    ("get", "/v1/onboarding"),
    ("post", "/v1/onboarding/steps/{}/skip"),
    ("delete", "/v1/onboarding/steps/{}/skip"),
    ("get", "/v1/clients"),
    ("post", "/v1/clients"),
    ("get", "/v1/clients/{}"),
    ("patch", "/v1/clients/{}"),
    ("delete", "/v1/clients/{}"),
    ("post", "/v1/clients/{}/invite"),
    ("delete", "/v1/clients/{}/invite"),
    ("get", "/v1/shared/{}"),
    ("get", "/v1/shared/{}/galleries/{}/photos"),
    ("get", "/v1/shared/{}/photos/{}/content"),
    ("get", "/v1/shared/{}/logo"),
    ("get", "/v1/libraries"),
    ("post", "/v1/libraries"),
    ("get", "/v1/libraries/{}"),
    ("patch", "/v1/libraries/{}"),
    ("delete", "/v1/libraries/{}"),
    ("get", "/v1/galleries"),
    ("post", "/v1/galleries"),
    ("get", "/v1/galleries/{}"),
    ("patch", "/v1/galleries/{}"),
    ("delete", "/v1/galleries/{}"),
    ("post", "/v1/galleries/{}/restore"),
    ("post", "/v1/galleries/{}/photos"),
    ("get", "/v1/galleries/{}/photos"),
    ("get", "/v1/photos/{}"),
    ("delete", "/v1/photos/{}"),
    ("get", "/v1/photos/{}/content"),
    ("get", "/v1/branding"),
    ("post", "/v1/branding"),
    ("get", "/livez"),
    ("get", "/readyz"),
    ("get", "/openapi.json"),
    ("get", "/problems/{}"),
    ("get", "/settings/billing/upgrade"),
    ("get", "/shared"),
];

/// Pages and the document itself may be left out of it: they are not the API.
const OPTIONAL: [&str; 6] = [
    "/openapi.json",
    "/problems/{}",
    "/settings/billing/upgrade",
    "/shared",
    "/password-reset",
    "/email-verification",
];

fn without_names(template: &str) -> String {
    let mut inside = false;
    template
        .chars()
        .filter(|character| match character {
            '{' => {
                inside = true;
                true
            }
            '}' => {
                inside = false;
                true
            }
            _ => !inside,
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_openapi_document_is_sound_and_lists_every_route() {
    let document = Server::shared()
        .anonymous()
        .get("/openapi.json")
        .await
        .is(200)
        .json();
    assert!(
        document["openapi"]
            .as_str()
            .is_some_and(|version| version.starts_with("3.")),
        "{}",
        document["openapi"]
    );
    let mut routes = BTreeSet::new();
    let mut names = BTreeSet::new();
    for (template, operations) in document["paths"]
        .as_object()
        .expect("the document has paths")
    {
        for (method, operation) in operations.as_object().expect("a path has operations") {
            if !["get", "post", "put", "patch", "delete"].contains(&method.as_str()) {
                continue;
            }
            routes.insert((method.clone(), without_names(template)));
            let responses = operation["responses"].as_object();
            assert!(
                responses.is_some_and(|responses| !responses.is_empty()),
                "{method} {template} has no responses"
            );
            let name = operation["operationId"]
                .as_str()
                .unwrap_or_else(|| panic!("{method} {template} has no operationId"));
            assert!(
                names.insert(name.to_owned()),
                "two operations are called {name}"
            );
            let shared = operations.get("parameters").and_then(Value::as_array);
            let declared = operation["parameters"].as_array();
            let in_path = declared
                .into_iter()
                .chain(shared)
                .flatten()
                .filter(|parameter| parameter["in"] == "path")
                .count();
            assert_eq!(
                in_path,
                template.matches('{').count(),
                "{method} {template}: parameters"
            );
        }
    }
    let missing: Vec<_> = ROUTES
        .iter()
        .filter(|(_, template)| !OPTIONAL.contains(template))
        .filter(|(method, template)| {
            !routes.contains(&((*method).to_owned(), (*template).to_owned()))
        })
        .collect();
    assert!(missing.is_empty(), "the document lacks {missing:?}");
    let references = references(&document);
    assert!(!references.is_empty());
    for reference in references {
        let pointer = reference
            .strip_prefix('#')
            .expect("references stay inside the document");
        assert!(
            document.pointer(pointer).is_some(),
            "{reference} leads nowhere"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_served_document_is_the_committed_one_at_this_servers_address() {
    let server = Server::shared();
    let mut served = server.anonymous().get("/openapi.json").await.is(200).json();
    assert_eq!(served["servers"][0]["url"], server.url());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
    let committed = std::fs::read_to_string(path).expect("there is a docs/openapi.json");
    let committed: Value = serde_json::from_str(&committed).expect("it is JSON");
    served["servers"] = committed["servers"].clone();
    assert!(
        served == committed,
        "they differ: rawdrive openapi > docs/openapi.json"
    );
}

const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_is_shown_pages_where_a_program_gets_json() {
    let anonymous = Server::shared().anonymous();
    let asks = async |path: &str| {
        let request = anonymous.request(reqwest::Method::GET, path);
        anonymous.send(request.header("accept", BROWSER)).await
    };
    let home = asks("/").await.is(200);
    assert!(
        home.header("content-type").starts_with("text/html"),
        "{home:?}"
    );
    let page = String::from_utf8_lossy(&home.body).into_owned();
    let links: Vec<&str> = page
        .split("<a href=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert!(links.contains(&"docs") && links.len() > 2, "{page}");
    for link in links {
        let _ = asks(&format!("/{link}")).await.is(200);
    }
    let places = anonymous.get("/").await.is(200).json();
    assert_eq!(places["openapi"], "/openapi.json", "{places}");
    for (name, path) in places.as_object().expect("an object") {
        if name != "name" {
            let _ = anonymous.get(path.as_str().expect("a path")).await.is(200);
        }
    }

    let missing = asks("/no/such/page").await.is(404);
    assert!(
        missing.header("content-type").starts_with("text/html"),
        "{missing:?}"
    );
    assert!(
        String::from_utf8_lossy(&missing.body).contains("href=\"/\""),
        "{missing:?}"
    );
    anonymous
        .get("/no/such/page")
        .await
        .problem(404, "not_found");
    // What a route refuses is a problem for everybody.
    asks("/v1/me").await.problem(401, "unauthenticated");

    let icon = anonymous.get("/favicon.ico").await.is(200);
    assert_eq!(icon.header("content-type"), "image/vnd.microsoft.icon");
    assert!(icon.body.starts_with(&[0, 0, 1, 0]), "{icon:?}");
    let icon = anonymous.get("/favicon.svg").await.is(200);
    assert_eq!(icon.header("content-type"), "image/svg+xml");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_plans_that_are_printed_are_a_file_to_start_from() {
    let server = Server::start();
    let printed = server.admin(&["plans", "print"]).await.succeeded().stdout;
    let path = server.scratch("plans.toml");
    let sold = printed.replace("name = \"Professional\"", "name = \"Studio\"");
    assert_ne!(sold, printed, "{printed}");
    std::fs::write(&path, &sold).expect("failed to save the plans");
    let file = path.to_str().expect("a path of text");
    let set = [("RAWDRIVE_PLANS", file)];
    let again = server.admin_with(&set, &["plans", "print"]);
    assert_eq!(again.await.succeeded().stdout, sold);
    let plans = server.anonymous().get("/v1/plans").await.is(200).json();
    let served = Server::start_with(&set);
    let renamed = served.anonymous().get("/v1/plans").await.is(200).json();
    let expected = plans.to_string().replace("\"Professional\"", "\"Studio\"");
    assert_eq!(renamed.to_string(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_configuration_says_what_is_set_where_and_no_secret() {
    let server = Server::start();
    let secret = "a secret that nobody is to see, of 32 bytes";
    let set = [
        ("RAWDRIVE_SECRET_KEY", secret),
        ("RAWDRIVE_GRACE_DAYS", "7"),
    ];
    for arguments in [&["config"][..], &["config", "--json"]] {
        let told = server.admin_with(&set, arguments).await.succeeded().stdout;
        assert!(!told.contains(secret), "{told}");
        let of = |key: &str| {
            told.lines()
                .find(|line| line.contains(key))
                .map(str::to_owned)
        };
        if arguments.len() == 1 {
            let line = of("RAWDRIVE_SECRET_KEY").expect("the key's line");
            assert!(line.ends_with("| hidden (environment) |"), "{line}");
            let line = of("RAWDRIVE_GRACE_DAYS").expect("the key's line");
            assert!(line.ends_with("| `14` | `7` (environment) |"), "{line}");
        } else {
            let told: Value = serde_json::from_str(&told).expect("JSON");
            let keys = told["keys"].as_array().expect("keys");
            let of = |name: &str| keys.iter().find(|k| k["variable"] == name).expect("a key");
            assert_eq!(of("RAWDRIVE_SECRET_KEY")["value"], Value::Null);
            assert_eq!(of("RAWDRIVE_SECRET_KEY")["set"], true);
            assert_eq!(of("RAWDRIVE_GRACE_DAYS")["value"], "7");
        }
    }
    let set = [("RAWDRIVE_GRACE_DAYS", "many")];
    let refused = server.admin_with(&set, &["config"]).await;
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(
        refused.stderr.contains("RAWDRIVE_GRACE_DAYS"),
        "{refused:?}"
    );
}

fn references(value: &Value) -> BTreeSet<String> {
    match value {
        Value::Object(members) => {
            let own = members
                .get("$ref")
                .and_then(Value::as_str)
                .map(str::to_owned);
            own.into_iter()
                .chain(members.values().flat_map(references))
                .collect()
        }
        Value::Array(items) => items.iter().flat_map(references).collect(),
        _ => BTreeSet::new(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pages_that_answers_point_to_exist() {
    let server = Server::shared();
    let anonymous = server.anonymous();
    let docs = anonymous.get("/docs").await;
    let docs = if docs.status == 200 {
        docs
    } else {
        anonymous.get("/docs/").await
    };
    let docs = docs.is(200);
    assert!(docs.header("content-type").starts_with("text/html"));
    for code in [
        "quota_exceeded",
        "feature_not_available",
        "not_found",
        "unauthenticated",
        "validation_failed",
        "invalid_cursor",
    ] {
        let page = anonymous.get(&format!("/problems/{code}")).await.is(200);
        assert!(
            String::from_utf8_lossy(&page.body).contains(code),
            "{page:?}"
        );
    }
    anonymous
        .get("/problems/nonsense")
        .await
        .problem(404, "not_found");
    // The type of a problem is the address of its page.
    let problem = anonymous
        .get("/v1/me")
        .await
        .problem(401, "unauthenticated");
    let uri = problem["type"].as_str().expect("a type");
    let path = &uri[uri.find("/problems/").expect("under /problems/")..];
    let _ = anonymous.get(path).await.is(200);
    let _ = anonymous.get("/settings/billing/upgrade").await.is(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_names_each_dependency() {
    let anonymous = Server::shared().anonymous();
    let _ = anonymous.get("/livez").await.is(200);
    let ready = anonymous.get("/readyz").await.is(200).json().to_string();
    for dependency in ["database", "blobs"] {
        assert!(ready.contains(dependency), "{ready}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tour_ends_by_itself() {
    let tour = Server::run_alone(&["demo", "--once"]).await.succeeded();
    for evidence in ["/v1/signup", "201", "402", "quota_exceeded"] {
        assert!(
            tour.stdout.contains(evidence),
            "the tour does not show {evidence}: {}",
            tour.stdout
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_finds_a_fresh_installation_sound() {
    let server = Server::start();
    server.assert_healthy().await;
    let _ = server.sign_up("doctor").await;
    server.assert_healthy().await;
    server.restart();
    server.assert_healthy().await;
    // Under another secret key no server could start.
    let another = [(
        "RAWDRIVE_SECRET_KEY",
        "another secret key of at least 32 bytes",
    )];
    let sick = server.admin_with(&another, &["doctor"]).await;
    assert_eq!(sick.code, Some(1), "{sick:#?}");
    assert!(
        sick.stdout
            .contains("the_secret_key_opens_the_signing_keys"),
        "{sick:#?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_holds_no_secret() {
    let server = Server::start();
    let ada = server.sign_up("secret").await;
    let _ = ada.get("/v1/me").await.is(200);
    server
        .bearer("rd_nonsense_secret_4711")
        .get("/v1/me")
        .await
        .problem(401, "unauthenticated");
    let log = server.log();
    assert!(!log.is_empty());
    let signature = ada.token.rsplit('.').next().expect("a token has parts");
    for secret in [
        e2e::Actor::PASSWORD,
        signature,
        &ada.refresh,
        "rd_nonsense_secret_4711",
    ] {
        assert!(!log.contains(secret), "the log holds a secret");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_sees_one_state_however_many_sign_up_meanwhile() {
    let server = Server::start();
    let sign_ups = async {
        for _ in 0..60 {
            server.sign_up("meanwhile").await;
        }
    };
    let checks = async {
        for _ in 0..25 {
            server.assert_healthy().await;
        }
    };
    futures_util::future::join(sign_ups, checks).await;
}
