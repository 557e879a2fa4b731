//! What a person does in a real Chromium: from a refusal to a larger plan, from a mailed invitation to a membership; and
//! what a page of another origin does there with the API.
//!
//! One browser for all of it: a start takes longer than a page.

use e2e::{Actor, Backend, Browser, image};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::stage::{Stage, until_shown};

/// What an embedder's own page does: nothing of it is served by us.
const FOREIGN_PAGE: &str = r#"<!doctype html><html lang="en"><meta charset="utf-8"><title>Elsewhere</title>
<link rel="icon" href="data:,"><p id="said">Working</p><script>
const api = new URLSearchParams(location.search).get("api");
const json = { "content-type": "application/json" };
const ask = async (token, method, path, headers, body) => {
  const answer = await fetch(api + path, {
    method, body, headers: { ...headers, ...(token && { authorization: "Bearer " + token }) },
  });
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
  return answer;
};
(async () => {
  const account = { email: "elsewhere@example.test", password: "a long enough password", name: "Else", workspace_name: "Elsewhere" };
  const signed = await (await ask(null, "POST", "/v1/signup", json, JSON.stringify(account))).json();
  const token = signed.access_token;
  const made = async (path, body) => (await (await ask(token, "POST", path, json, JSON.stringify(body))).json()).id;
  const library_id = await made("/v1/libraries", { name: "Mine" });
  const gallery = await made("/v1/galleries", { library_id, name: "Mine", download: "original" });
  const photo = await (await fetch("/photo.jpg")).blob();
  const path = `/v1/galleries/${gallery}/photos?filename=photo.jpg`;
  const uploaded = await ask(token, "POST", path, { "content-type": "image/jpeg" }, photo);
  const usage = await (await ask(token, "GET", "/v1/usage", {})).json();
  const used = usage.metrics.find((metric) => metric.metric === "storage_bytes").used;
  const told = [uploaded.headers.get("location"), uploaded.headers.get("x-request-id")];
  document.getElementById("said").textContent = `Used ${used} of ${photo.size}, told ${told.every(Boolean)}`;
})().catch((error) => { document.getElementById("said").textContent = String(error); });
</script></html>"#;

/// Serves the page and a photo on an origin of their own, until the test ends.
async fn elsewhere(photo: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let read = stream.read(&mut head).await.unwrap_or(0);
            let (kind, body) = if head[..read].starts_with(b"GET /photo.jpg ") {
                ("image/jpeg", photo.as_slice())
            } else {
                ("text/html; charset=utf-8", FOREIGN_PAGE.as_bytes())
            };
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(&[head.as_bytes(), body].concat()).await;
        }
    });
    format!("http://127.0.0.1:{port}")
}

/// Signs in where the page asks for it.
async fn sign_in(browser: &Browser, email: &str) {
    browser.fill("input[name=email]", email).await;
    browser.fill("input[name=password]", Actor::PASSWORD).await;
    browser.click("button[value=sign_in]").await;
    browser.until_says(&format!("signed in as {email}")).await;
}

/// Of our pages; the double has its own.
async fn nothing_to_complain_of(browser: &Browser, stage: &Stage, when: &str) {
    let mut complaints = browser.complaints().await;
    let double = stage.double.url();
    complaints.retain(|complaint| !complaint.contains(&double));
    assert!(complaints.is_empty(), "{when}: {complaints:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_gets_from_a_refusal_to_a_larger_plan_and_into_a_team() {
    Backend::Sqlite.assert_chosen();
    let photo = image::jpeg(20_000, 7);
    let other = elsewhere(photo.clone()).await;
    // Its own name: coming back from the double, at 127.0.0.1, is coming from another site.
    let stage = Stage::start_with(&[
        ("RAWDRIVE_PUBLIC_URL", "http://localhost:{port}"),
        ("RAWDRIVE_CORS_ORIGINS", &other),
    ])
    .await;
    let (ada, api) = stage.owner("person").await;
    let browser = Browser::start().await;

    // Refused, and led on.
    let invitation = json!({ "email": "friend@example.test", "role": "member" });
    let refused = ada.post("/v1/workspace/invitations", &invitation).await;
    let problem = refused.problem(402, "quota_exceeded");
    let upgrade = problem["upgrade_url"].as_str().expect("an address");
    assert!(upgrade.starts_with("http://localhost:"), "{upgrade}");
    // As a front end leads there, which knows what was refused.
    browser
        .open(&format!("{upgrade}?metric=team_members"))
        .await;
    browser
        .until_says("The limit of team members was reached")
        .await;
    sign_in(&browser, &ada.email).await;
    let page = browser.text().await;
    assert!(
        page.contains("team members are at their limit: 1 of 1 are used"),
        "{page}"
    );
    nothing_to_complain_of(&browser, &stage, "on the upgrade page").await;

    // Paid at the double's checkout, and back: still signed in, although another site leads here.
    let choose = "form:has(input[name=plan][value=professional]) button";
    browser.click(choose).await;
    browser.until_says("Subscribe").await;
    assert!(browser.url().await.starts_with(&stage.double.url()));
    browser.click("button").await;
    browser.until_says("The plan is Professional now").await;
    let page = browser.until_says("team members: 1 of 10 are used").await;
    assert!(page.contains("29.00 USD"), "{page}");
    nothing_to_complain_of(&browser, &stage, "after the checkout").await;
    until_shown(&api, 30, "the larger plan", |s| s["plan"] == "professional").await;
    let _ = api
        .post("/v1/workspace/invitations", &invitation)
        .await
        .is(201);

    // The friend has no account yet.
    let token = stage.server.mailed_token("friend@example.test", 1).await;
    let link = upgrade.split("/settings").next().expect("a base");
    browser
        .open(&format!("{link}/invitations/accept?token={token}"))
        .await;
    browser.until_says("You are invited to Studio person").await;
    let address = browser.url().await;
    assert!(
        !address.contains(&token),
        "the address keeps the token: {address}"
    );
    browser.fill("input[name=name]", "A Friend").await;
    browser
        .fill("input[autocomplete=new-password]", "a friend's password")
        .await;
    browser.click("form:has(input[name=name]) button").await;
    browser.until_says("You belong to Studio person").await;
    let members = api.list_all("/v1/workspace/members", 50).await;
    assert_eq!(members.len(), 2, "{members:#?}");
    browser.click("a").await;
    browser.until_says("The API's documentation").await;
    nothing_to_complain_of(&browser, &stage, "after the invitation").await;

    // Somebody else's page, on an origin that may ask.
    let page = format!("{other}/?api={}", stage.server.url());
    browser.open(&page).await;
    let used = format!("Used {0} of {0}, told true", photo.len());
    browser.until_says(&used).await;
    nothing_to_complain_of(&browser, &stage, "on the other origin").await;
}
