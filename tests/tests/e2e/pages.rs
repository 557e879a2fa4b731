//! The pages on which a person does something, as a browser without scripts asks for them. `on_sqlite::browser` asks with
//! a real one.

use chrono::TimeDelta;
use e2e::{Actor, Answer, Api, Server};
use rawdrive_stripe_double::FinalAction;
use reqwest::Method;
use serde_json::json;

use crate::arrears::{decline, failed_at, turn_to};
use crate::crash::until;
use crate::stage::{FORM, Stage, access, form_of, subscription, until_shown};

const UPGRADE: &str = "/settings/billing/upgrade";
const ACCEPT: &str = "/invitations/accept";

/// A browser: it keeps cookies, and sends the forms that it was shown.
struct Person {
    api: Api,
    cookies: Vec<(String, String)>,
}

impl Person {
    fn new(server: &Server) -> Self {
        Self {
            api: server.anonymous().without_redirects(),
            cookies: Vec::new(),
        }
    }

    async fn signed_in(server: &Server, who: &Actor) -> Self {
        let mut person = Self::new(server);
        let form = person.get(UPGRADE).await.is(200);
        let fields = [
            ("action", "sign_in"),
            ("form_token", &field(&form, "form_token")),
            ("email", &who.email),
            ("password", Actor::PASSWORD),
        ];
        let answer = person.post(UPGRADE, &fields).await.is(303);
        assert_eq!(answer.header("location"), "upgrade");
        person
    }

    async fn get(&mut self, path: &str) -> Answer {
        self.ask(Method::GET, path, None, &[]).await
    }

    async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.ask(Method::POST, path, Some(form_of(fields)), &[])
            .await
    }

    async fn ask(
        &mut self,
        method: Method,
        path: &str,
        form: Option<String>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = self.api.request(method, path);
        if !self.cookies.is_empty() {
            let pairs = self
                .cookies
                .iter()
                .map(|(name, text)| format!("{name}={text}"));
            request = request.header("cookie", pairs.collect::<Vec<_>>().join("; "));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(form) = form {
            request = request.header("content-type", FORM).body(form);
        }
        let answer = self.api.send(request).await;
        for cookie in set_cookies(&answer) {
            let (name, rest) = cookie.split_once('=').expect("a name and a text");
            let (text, attributes) = rest.split_once("; ").expect("attributes");
            self.cookies.retain(|(known, _)| known != name);
            if !attributes.contains("Max-Age=0") {
                self.cookies.push((name.to_owned(), text.to_owned()));
            }
        }
        answer
    }

    fn cookie(&self, name: &str) -> &str {
        let found = self.cookies.iter().find(|(known, _)| known == name);
        found
            .map(|(_, text)| text.as_str())
            .expect("the cookie was set")
    }
}

fn set_cookies(answer: &Answer) -> Vec<String> {
    let all = answer.headers.get_all("set-cookie").iter();
    all.map(|value| value.to_str().expect("text").to_owned())
        .collect()
}

fn text(answer: &Answer) -> String {
    let kind = answer.header("content-type");
    assert!(kind.starts_with("text/html"), "{answer:?}");
    assert_eq!(answer.header("cache-control"), "no-store", "{answer:?}");
    String::from_utf8_lossy(&answer.body).into_owned()
}

/// The value of a form's field.
fn field(answer: &Answer, name: &str) -> String {
    let page = text(answer);
    let (_, rest) = page
        .split_once(&format!("name=\"{name}\" value=\""))
        .unwrap_or_else(|| panic!("no field {name}: {page}"));
    rest.split('"').next().expect("a value").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_signs_in_on_a_page_has_a_cookie_that_the_api_does_not_take() {
    let server = Server::shared();
    let ada = server.sign_up("page").await;
    let mut person = Person::new(server);
    let form = person.get(UPGRADE).await.is(200);
    let token = field(&form, "form_token");
    let answer = person
        .post(
            UPGRADE,
            &[
                ("action", "sign_in"),
                ("form_token", &token),
                ("email", &ada.email),
                ("password", Actor::PASSWORD),
            ],
        )
        .await
        .is(303);
    for cookie in [set_cookies(&form), set_cookies(&answer)].concat() {
        for attribute in [
            "HttpOnly",
            "SameSite=Strict",
            "; Path=/settings/billing/upgrade;",
        ] {
            assert!(cookie.contains(attribute), "{cookie}");
        }
        // By plain HTTP on loopback a browser would not keep it otherwise.
        assert!(!cookie.contains("Secure"), "{cookie}");
    }
    let page = text(&person.get(UPGRADE).await.is(200));
    for said in [ada.email.as_str(), "Sign out", "Professional", "Used today"] {
        assert!(page.contains(said), "{said}: {page}");
    }
    // Nobody takes payments here.
    assert!(page.contains("Ask its operator"), "{page}");
    assert!(page.contains(&ada.workspace_id), "{page}");
    assert!(!page.contains("value=\"choose\""), "{page}");

    // Neither as a cookie nor as a credential.
    let cookie = person.cookie("rawdrive_page").to_owned();
    let by_cookie = server.anonymous().request(Method::GET, "/v1/me");
    let by_cookie = by_cookie.header("cookie", format!("rawdrive_page={cookie}"));
    let answer = server.anonymous().send(by_cookie).await;
    answer.problem(401, "unauthenticated");
    let answer = server.bearer(&cookie).get("/v1/me").await;
    answer.problem(401, "unauthenticated");

    let token = field(&person.get(UPGRADE).await, "form_token");
    let out = [("action", "sign_out"), ("form_token", token.as_str())];
    let _ = person.post(UPGRADE, &out).await.is(303);
    // A cookie that somebody has kept is worth nothing more.
    person.cookies.push(("rawdrive_page".to_owned(), cookie));
    let page = text(&person.get(UPGRADE).await.is(200));
    assert!(
        page.contains("value=\"sign_in\"") && !page.contains("Used today"),
        "{page}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_form_is_taken_from_its_own_page_alone() {
    let server = Server::shared();
    let ada = server.sign_up("forms").await;
    let eve = server.sign_up("forger").await;
    let mut person = Person::signed_in(server, &ada).await;
    let good = field(&person.get(UPGRADE).await, "form_token");
    let mut other = Person::signed_in(server, &eve).await;
    let others = field(&other.get(UPGRADE).await, "form_token");
    for token in ["", "0", &others] {
        let fields = [("action", "sign_out"), ("form_token", token)];
        let _ = text(&person.post(UPGRADE, &fields).await.is(403));
    }
    let form = form_of(&[("action", "sign_out"), ("form_token", &good)]);
    for site in ["cross-site", "same-site"] {
        let headers = [("sec-fetch-site", site)];
        let answer = person.ask(Method::POST, UPGRADE, Some(form.clone()), &headers);
        let _ = text(&answer.await.is(403));
    }
    // Still signed in; and nobody is signed in by a form of another site's.
    assert!(text(&person.get(UPGRADE).await).contains(&ada.email));
    let mut victim = Person::new(server);
    let fields = [
        ("action", "sign_in"),
        ("form_token", others.as_str()),
        ("email", eve.email.as_str()),
        ("password", Actor::PASSWORD),
    ];
    let answer = victim.post(UPGRADE, &fields).await.is(403);
    let set = set_cookies(&answer);
    assert!(
        !set.iter().any(|c| c.starts_with("rawdrive_page")),
        "{set:?}"
    );
    // A link on another site has the browser ask once more, with its cookies.
    let headers = [("sec-fetch-site", "cross-site")];
    let path = format!("{UPGRADE}?feature=custom_branding");
    let answer = victim.ask(Method::GET, &path, None, &headers).await.is(200);
    let page = text(&answer);
    assert!(
        page.contains("url=upgrade?feature=custom_branding\""),
        "{page}"
    );
    assert!(set_cookies(&answer).is_empty(), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_said_on_a_page() {
    let server = Server::start_with(&[("RAWDRIVE_RATE_LIMITS", "on")]);
    let ada = server.sign_up("wrong").await;
    let mut person = Person::new(&server);
    let token = field(&person.get(UPGRADE).await, "form_token");
    let attempt = |password: &'static str| {
        [
            ("action", "sign_in".to_owned()),
            ("form_token", token.clone()),
            ("email", ada.email.clone()),
            ("password", password.to_owned()),
        ]
    };
    let mut limited = None;
    for _ in 0..30 {
        let fields = attempt("not the password");
        let fields: Vec<_> = fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let answer = person.post(UPGRADE, &fields).await;
        let page = text(&answer);
        // What was typed stands there still, but for the password.
        assert!(
            page.contains(&ada.email) && !page.contains("not the password"),
            "{page}"
        );
        if answer.status == 429 {
            limited = Some(answer);
            break;
        }
        assert_eq!(answer.status, 401, "{page}");
        assert!(page.contains("password is wrong"), "{page}");
    }
    // The limits of the API's sign-in hold here, and here they are told as there.
    let limited = limited.expect("attempts are limited");
    assert!(limited.header("retry-after").parse::<u32>().is_ok());
    let by_api = json!({ "email": ada.email, "password": "not the password" });
    let by_api = server.anonymous().post("/v1/sessions", &by_api).await;
    by_api.problem(429, "rate_limited");

    let bob = server.sign_up("forgetful").await;
    let forgot = [
        ("action", "forgot"),
        ("form_token", token.as_str()),
        ("email", bob.email.as_str()),
    ];
    let page = text(&person.post(UPGRADE, &forgot).await.is(200));
    assert!(page.contains("a mail is on its way"), "{page}");
    let _ = server.mailed_token(&bob.email, 1).await;

    for (path, body, kind, status) in [
        (UPGRADE, "action=choose", FORM, 401),
        (UPGRADE, "{}", "application/json", 415),
        (UPGRADE, "%ff", FORM, 400),
        (UPGRADE, "a=1&a=2", FORM, 422),
        (ACCEPT, "invitation=x&password=long+enough", FORM, 404),
        (ACCEPT, "token=x&password=short&name=", FORM, 404),
        (ACCEPT, "<a/>", "text/xml", 415),
    ] {
        let request = person.api.request(Method::POST, path);
        let request = request.header("content-type", kind).body(body);
        let answer = person.api.send(request).await;
        assert_eq!(answer.status, status, "{path} {body}: {answer:?}");
        let _ = text(&answer);
    }
    let large = format!("action={}", "x".repeat(20_000));
    let answer = person.ask(Method::POST, UPGRADE, Some(large), &[]).await;
    let _ = text(&answer.is(413));
    // Without a token the page says where one comes from.
    let page = text(&person.get(ACCEPT).await.is(200));
    assert!(page.contains("mail"), "{page}");
    for token in ["", "x", "rdi_1_2_3"] {
        let page = text(&person.get(&format!("{ACCEPT}?token={token}")).await.is(404));
        assert!(page.contains("used up or too old"), "{page}");
    }
    let request = person.api.request(Method::GET, "/problems/nonsense");
    let answer = person
        .api
        .send(request.header("accept", "text/html"))
        .await
        .is(404);
    assert!(answer.header("content-type").starts_with("text/html"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invitation_is_accepted_on_its_page_by_somebody_new_and_by_somebody_known() {
    let server = Server::shared();
    let ada = server.sign_up_on("hostess", "enterprise").await;
    let bob = server.sign_up("known").await;
    let new = "new-on-a-page@example.test";
    for email in [new, &bob.email] {
        let body = json!({ "email": email, "role": "member" });
        let _ = ada.post("/v1/workspace/invitations", &body).await.is(201);
    }
    let mut person = Person::new(server);
    for (email, name, wrong, right) in [
        (new, "New Here", "short", "long enough password"),
        (
            bob.email.as_str(),
            "",
            "not their password",
            Actor::PASSWORD,
        ),
    ] {
        let token = server.mailed_token(email, 1).await;
        let page = person.get(&format!("{ACCEPT}?token={token}")).await.is(200);
        let sealed = field(&page, "invitation");
        let page = text(&page);
        assert!(
            page.contains("Studio hostess") && page.contains(email),
            "{page}"
        );
        let fields = |password| {
            let all = [
                ("invitation", sealed.as_str()),
                ("name", name),
                ("password", password),
            ];
            all.into_iter()
                .filter(|(_, value)| !value.is_empty())
                .collect::<Vec<_>>()
        };
        let refused = person.post(ACCEPT, &fields(wrong)).await;
        assert_eq!(
            refused.status,
            if name.is_empty() { 401 } else { 422 },
            "{refused:?}"
        );
        assert!(text(&refused).contains("role=\"alert\""), "{refused:?}");
        assert!(!field(&refused, "invitation").is_empty(), "{refused:?}");
        let welcome = person.post(ACCEPT, &fields(right)).await.is(200);
        assert!(text(&welcome).contains("Studio hostess"), "{welcome:?}");
        assert!(person.cookies.is_empty(), "{:?}", person.cookies);
        // Once.
        let _ = text(&person.post(ACCEPT, &fields(right)).await.is(404));
        let body = json!({ "email": email, "password": right });
        let session = server.anonymous().post("/v1/sessions", &body).await.is(201);
        let api = server.bearer(&session.text("access_token"));
        let me = api.get("/v1/me").await.is(200).json();
        assert_eq!(me["workspace"]["id"], ada.workspace_id.as_str(), "{me}");
    }
    assert_eq!(ada.list_all("/v1/workspace/members", 50).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_is_bought_changed_and_kept_on_the_page() {
    let stage = Stage::start().await;
    let (ada, api) = stage.owner("buyer").await;
    let mut person = Person::signed_in(&stage.server, &ada).await;
    let page = person
        .get(&format!("{UPGRADE}?metric=team_members"))
        .await
        .is(200);
    let shown = text(&page);
    assert!(
        shown.contains("team members are at their limit: 1 of 1 are used"),
        "{shown}"
    );
    assert!(shown.contains("Trial, 19.00 USD a month"), "{shown}");
    let token = field(&page, "form_token");
    let choose = |plan: &'static str| {
        [
            ("action", "choose".to_owned()),
            ("form_token", token.clone()),
            ("plan", plan.to_owned()),
            ("interval", "month".to_owned()),
        ]
    };
    let send = async |person: &mut Person, fields: &[(&str, String)]| {
        let fields: Vec<_> = fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
        person.post(UPGRADE, &fields).await
    };
    // Enterprise is nobody's plan here, and free has no price.
    for plan in ["enterprise", "free", "<b>"] {
        let fields = [("plan", plan.to_owned())];
        let fields = [&choose("free")[..2], &fields, &choose("free")[3..]].concat();
        let refused = send(&mut person, &fields).await;
        assert_eq!(refused.status, 422, "{plan}: {refused:?}");
        assert!(!text(&refused).contains("<b>"), "{refused:?}");
    }
    // The hosted page, left by a link: `form-action` would let no redirect go there.
    let leave = text(&send(&mut person, &choose("professional")).await.is(200));
    let (_, url) = leave.split_once("0; url=").expect("it leads on");
    let url = url
        .split('"')
        .next()
        .expect("an address")
        .replace("&amp;", "&");
    assert!(url.starts_with(&stage.double.url()), "{url}");
    stage.page(&url, &[("card", "4242424242424242")]).await;
    until_shown(&api, 30, "the first plan", |s| s["plan"] == "professional").await;
    let paid = text(
        &person
            .get(&format!("{UPGRADE}?checkout=done"))
            .await
            .is(200),
    );
    assert!(paid.contains("The plan is Professional now"), "{paid}");
    assert!(
        paid.contains("Invoices") && paid.contains("29.00 USD"),
        "{paid}"
    );
    stage.settled().await;

    // A larger one: seen first, and then made as it was seen.
    let preview = send(&mut person, &choose("studio")).await.is(200);
    assert!(text(&preview).contains("is charged now"), "{preview:?}");
    let mut change = choose("studio");
    change[0].1 = "change".to_owned();
    let stale = [&change[..], &[("commit_token", "1.0".to_owned())]].concat();
    let refused = send(&mut person, &stale).await;
    assert_eq!(refused.status, 409, "{refused:?}");
    assert!(
        text(&refused).contains("Choose the plan again"),
        "{refused:?}"
    );
    let commit = field(&preview, "commit_token");
    let change = [&change[..], &[("commit_token", commit)]].concat();
    let changed = send(&mut person, &change).await.is(303);
    assert_eq!(changed.header("location"), "upgrade?changed=1");
    assert_eq!(subscription(&api).await["plan"], "studio");
    stage.settled().await;

    // Back to the first when the period ends, and then not.
    let down = send(&mut person, &choose("professional")).await.is(200);
    let fields = [
        &[("action", "change".to_owned())],
        &choose("professional")[1..],
        &[("commit_token", field(&down, "commit_token"))],
    ]
    .concat();
    let _ = send(&mut person, &fields).await.is(303);
    stage.settled().await;
    let page = text(&person.get(UPGRADE).await.is(200));
    assert!(page.contains("The plan changes to Professional"), "{page}");
    let resume = [choose("free")[1].clone(), ("action", "resume".to_owned())];
    let _ = send(&mut person, &resume).await.is(303);
    stage.settled().await;
    assert_eq!(subscription(&api).await["scheduled"], json!(null));
    let portal = [choose("free")[1].clone(), ("action", "portal".to_owned())];
    let leave = text(&send(&mut person, &portal).await.is(200));
    assert!(
        leave.contains(&format!("url={}/p/session/", stage.double.url())),
        "{leave}"
    );

    // A member sees all that, and does none of it.
    let bob = stage.server.join(&ada, "helper", "member").await;
    let mut helper = Person::signed_in(&stage.server, &bob).await;
    let page = helper.get(UPGRADE).await.is(200);
    let (token, page) = (field(&page, "form_token"), text(&page));
    assert!(
        page.contains(&format!("Ask an owner: {}", ada.email)),
        "{page}"
    );
    assert!(
        !page.contains("Invoices") && !page.contains("value=\"choose\""),
        "{page}"
    );
    let mut fields = choose("professional");
    fields[1].1 = token;
    let refused = send(&mut helper, &fields).await;
    assert_eq!(refused.status, 403, "{refused:?}");
    assert!(
        text(&refused).contains("This needs the role admin"),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_behind_with_paying_finds_the_way_back_on_the_page() {
    // A trial that has ended without a card.
    let stage = Stage::start().await;
    let (ada, api) = stage.owner("late").await;
    let order = json!({ "plan": "trial", "interval": "month" });
    let _ = api.post("/v1/billing/subscription", &order).await.is(201);
    let mut person = Person::signed_in(&stage.server, &ada).await;
    let page = text(&person.get(UPGRADE).await.is(200));
    assert!(page.contains("The trial ends on 8 December 2026"), "{page}");
    stage.turn(TimeDelta::days(15));
    until(15, "the trial is over", async || {
        access(&api).await == "read_only"
    })
    .await;
    // By the clock that was turned, the hour of the cookie is over.
    let page = text(&person.get(UPGRADE).await.is(200));
    assert!(page.contains("value=\"sign_in\""), "{page}");
    let mut person = Person::signed_in(&stage.server, &ada).await;
    let page = person.get(UPGRADE).await.is(200);
    let token = field(&page, "form_token");
    assert!(text(&page).contains("read-only since"), "{page:?}");
    let choose = [
        ("action", "choose"),
        ("form_token", &token),
        ("plan", "trial"),
        ("interval", "month"),
    ];
    let leave = text(&person.post(UPGRADE, &choose).await.is(200));
    let (_, url) = leave.split_once("0; url=").expect("it leads on");
    let url = url.split('"').next().expect("an address").to_owned();
    stage.page(&url, &[("card", "4242424242424242")]).await;
    until(30, "it is paid", async || access(&api).await == "full").await;

    // A card that has failed.
    let (stage, ada, _, customer, failed) = failed_at(FinalAction::PastDue, "behind").await;
    let mut person = Person::signed_in(&stage.server, &ada).await;
    let page = text(&person.get(UPGRADE).await.is(200));
    assert!(page.contains("A payment has failed. Until"), "{page}");
    assert!(
        page.contains(">Pay</a>") && page.contains("value=\"portal\""),
        "{page}"
    );
    decline(&stage, &customer, 10);
    turn_to(&stage, failed + TimeDelta::days(70)).await;
    let mut person = Person::signed_in(&stage.server, &ada).await;
    let page = text(&person.get(UPGRADE).await.is(200));
    assert!(page.contains("read-only since"), "{page}");
}
