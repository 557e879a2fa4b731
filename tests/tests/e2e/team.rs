//! The people of a workspace: roles, seats, invitations, and what races do to them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use e2e::{Actor, Answer, Server, rounds};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::crash::until;

async fn at_once(
    answers: impl IntoIterator<Item = impl Future<Output = Answer> + Send + 'static>,
) -> Vec<Answer> {
    join_all(answers.into_iter().map(tokio::spawn))
        .await
        .into_iter()
        .map(|answer| answer.expect("the request's task did not panic"))
        .collect()
}

fn count(answers: &[Answer], status: u16) -> usize {
    answers.iter().filter(|a| a.status == status).count()
}

async fn seats(actor: &Actor) -> (u64, u64) {
    let usage = actor.usage("team_members").await;
    let number = |member: &str| usage[member].as_u64().expect("a number");
    (number("used"), number("reserved"))
}

async fn members(actor: &Actor) -> Vec<Value> {
    actor.list_all("/v1/workspace/members", 50).await
}

async fn audited(actor: &Actor, action: &str) -> usize {
    let entries = actor.list_all("/v1/workspace/audit", 200).await;
    entries.iter().filter(|e| e["action"] == action).count()
}

fn invitation(email: &str, role: &str) -> Value {
    json!({ "email": email, "role": role })
}

async fn set_role(actor: &Actor, of: &Actor, role: &str) -> Answer {
    let path = format!("/v1/workspace/members/{}", of.user_id);
    actor.patch(&path, &json!({ "role": role })).await
}

async fn remove(actor: &Actor, whom: &Actor) -> Answer {
    actor
        .delete(&format!("/v1/workspace/members/{}", whom.user_id))
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_invitations_at_once_exactly_as_many_are_made_as_seats_are_left() {
    let server = Server::shared();
    for round in 0..rounds(3) {
        let ada = server.sign_up_on("seats", "professional").await;
        server.override_limit(&ada, "max_team_members=2").await;
        let invitations = (0..200).map(|i| {
            let (ada, email) = (ada.clone(), format!("guest-{i}@example.test"));
            async move {
                ada.post("/v1/workspace/invitations", &invitation(&email, "member"))
                    .await
            }
        });
        let answers = at_once(invitations).await;
        assert_eq!(
            (count(&answers, 201), count(&answers, 402)),
            (1, 199),
            "round {round}"
        );
        for refused in answers.iter().filter(|a| a.status == 402) {
            let problem = refused.problem(402, "quota_exceeded");
            assert_eq!(problem["metric"], "team_members");
            assert_eq!(
                (&problem["current"], &problem["limit"]),
                (&json!(2), &json!(2))
            );
        }
        assert_eq!(seats(&ada).await, (1, 1));
        let open = ada.list_all("/v1/workspace/invitations", 50).await;
        assert_eq!(open.len(), 1);
        // Taken back, its seat is free for one more; accepted at the limit, it becomes a member's.
        let id = open[0]["id"].as_str().expect("an id");
        let _ = ada
            .delete(&format!("/v1/workspace/invitations/{id}"))
            .await
            .is(204);
        assert_eq!(seats(&ada).await, (1, 0));
        server.join(&ada, "second", "member").await;
        assert_eq!(seats(&ada).await, (2, 0));
        ada.post(
            "/v1/workspace/invitations",
            &invitation("third@example.test", "member"),
        )
        .await
        .problem(402, "quota_exceeded");
        assert_eq!(audited(&ada, "invitation.created").await, 2);
        assert_eq!(audited(&ada, "invitation.revoked").await, 1);
        assert_eq!(audited(&ada, "membership.created").await, 1);
    }
    server.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invitation_that_is_accepted_many_times_at_once_makes_one_member() {
    let server = Server::start();
    let ada = server.sign_up_on("ada", "enterprise").await;
    for (round, known) in [false, true].into_iter().enumerate() {
        let email = if known {
            server.sign_up("known").await.email
        } else {
            "once@example.test".to_owned()
        };
        let _ = ada
            .post("/v1/workspace/invitations", &invitation(&email, "admin"))
            .await
            .is(201);
        let token = server.mailed_token(&email, 1).await;
        let acceptances = (0..50).map(|_| {
            let api = server.anonymous();
            let body = json!({ "token": token, "name": "Once", "password": Actor::PASSWORD });
            async move { api.post("/v1/invitations/accept", &body).await }
        });
        let answers = at_once(acceptances).await;
        assert_eq!(count(&answers, 201), 1, "{known}: {answers:?}");
        for answer in answers.iter().filter(|a| a.status != 201) {
            // Too many passwords at once (503, 429), or somebody was faster.
            assert!(
                [401, 404, 409, 429, 503].contains(&answer.status),
                "{answer:?}"
            );
        }
        assert_eq!(members(&ada).await.len(), round + 2);
        assert_eq!(seats(&ada).await, (round as u64 + 2, 0));
        let body = json!({ "token": token, "name": "Again", "password": Actor::PASSWORD });
        server
            .anonymous()
            .post("/v1/invitations/accept", &body)
            .await
            .problem(404, "not_found");
    }
    assert_eq!(audited(&ada, "membership.created").await, 2);
    server.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_owners_who_remove_each_other_one_stays() {
    let server = Server::shared();
    for round in 0..rounds(8) {
        let ada = server.sign_up_on("ada", "enterprise").await;
        let eve = server.join(&ada, "eve", "owner").await;
        let demote = round % 2 == 1;
        let pairs = [(ada.clone(), eve.clone()), (eve.clone(), ada.clone())].map(
            |(who, whom)| async move {
                if demote {
                    set_role(&who, &whom, "member").await
                } else {
                    remove(&who, &whom).await
                }
            },
        );
        let answers = at_once(pairs).await;
        let done = answers.iter().filter(|a| a.status < 300).count();
        assert_eq!(done, 1, "round {round}: {answers:?}");
        let loser = answers
            .iter()
            .find(|a| a.status >= 400)
            .expect("one is refused");
        assert!([401, 403, 409].contains(&loser.status), "{loser:?}");
        let stays = if answers[0].status < 300 { &ada } else { &eve };
        let owners = members(stays)
            .await
            .iter()
            .filter(|m| m["role"] == "owner")
            .count();
        assert_eq!(owners, 1);
        remove(stays, stays).await.problem(409, "last_owner");
        set_role(stays, stays, "admin")
            .await
            .problem(409, "last_owner");
        stays
            .post("/v1/workspace/leave", &json!({}))
            .await
            .problem(409, "last_owner");
    }
    server.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_starts_after_a_removal_or_a_demotion_was_answered_succeeds() {
    let server = Server::shared();
    let ada = server.sign_up_on("ada", "enterprise").await;
    for demote in [false, true] {
        let bob = server.join(&ada, "bob", "admin").await;
        // Clients that ask again and again, from well before until well after: 1,000 requests or more, however fast
        // the server is.
        let answered = Arc::new(AtomicBool::new(false));
        let before = Arc::new(AtomicUsize::new(0));
        let clients: Vec<_> = (0..20)
            .map(|_| {
                let (bob, answered, before) = (bob.clone(), answered.clone(), before.clone());
                tokio::spawn(async move {
                    let mut after = 0;
                    while after < 25 {
                        let late = answered.load(Ordering::SeqCst);
                        let answer = bob.get("/v1/workspace/audit?limit=1").await;
                        if late {
                            assert_eq!(answer.status, if demote { 403 } else { 401 }, "{answer:?}");
                            after += 1;
                        } else if answer.status == 200 {
                            before.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                })
            })
            .collect();
        until(60, "the race has begun", async || {
            before.load(Ordering::SeqCst) >= 500
        })
        .await;
        if demote {
            let _ = set_role(&ada, &bob, "member").await.is(200);
        } else {
            let _ = remove(&ada, &bob).await.is(204);
        }
        answered.store(true, Ordering::SeqCst);
        for client in clients {
            client.await.expect("the client did not panic");
        }
        if demote {
            // Whatever the token said when it was issued, the role is what it is now.
            assert_eq!(bob.get("/v1/me").await.is(200).text("role"), "member");
        } else {
            bob.get("/v1/me").await.problem(401, "unauthenticated");
            let refresh = json!({ "refresh_token": bob.refresh });
            bob.post("/v1/sessions/refresh", &refresh)
                .await
                .problem(401, "unauthenticated");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_team_lives_through_its_changes_each_of_them_audited_once() {
    let server = Server::shared();
    let ada = server.sign_up_on("ada", "enterprise").await;
    let bob = server.join(&ada, "bob", "admin").await;
    let cem = server.join(&ada, "cem", "member").await;
    let listed = members(&cem).await;
    assert_eq!(listed.len(), 3);
    let of_bob = listed.iter().find(|m| m["user_id"] == bob.user_id.as_str());
    let of_bob = of_bob.expect("the list has everybody");
    assert_eq!(
        (&of_bob["role"], &of_bob["email"]),
        (&json!("admin"), &json!(bob.email))
    );

    // Owners are the business of owners.
    for answer in [
        set_role(&bob, &cem, "owner").await,
        set_role(&bob, &ada, "member").await,
        remove(&bob, &ada).await,
        bob.post(
            "/v1/workspace/invitations",
            &invitation("x@example.test", "owner"),
        )
        .await,
    ] {
        assert_eq!(
            answer.problem(403, "insufficient_role")["required_role"],
            "owner"
        );
    }
    assert_eq!(
        set_role(&bob, &cem, "admin").await.is(200).text("role"),
        "admin"
    );
    assert_eq!(
        set_role(&bob, &cem, "admin").await.is(200).text("role"),
        "admin"
    );
    set_role(&ada, &cem, "queen")
        .await
        .problem(422, "validation_failed");
    assert_eq!(audited(&ada, "membership.role_changed").await, 1);

    ada.post(
        "/v1/workspace/invitations",
        &invitation(&bob.email.to_uppercase(), "member"),
    )
    .await
    .problem(409, "conflict");
    let _ = ada
        .post(
            "/v1/workspace/invitations",
            &invitation("Twice@example.test", "member"),
        )
        .await
        .is(201);
    ada.post(
        "/v1/workspace/invitations",
        &invitation("tWICE@example.test", "member"),
    )
    .await
    .problem(409, "conflict");

    let hand_over = json!({ "user_id": bob.user_id });
    bob.post("/v1/workspace/transfer", &hand_over)
        .await
        .problem(403, "insufficient_role");
    ada.post(
        "/v1/workspace/transfer",
        &json!({ "user_id": e2e::unknown_id("usr") }),
    )
    .await
    .problem(404, "not_found");
    assert_eq!(
        ada.post("/v1/workspace/transfer", &hand_over)
            .await
            .is(200)
            .text("role"),
        "owner"
    );
    assert_eq!(ada.get("/v1/me").await.is(200).text("role"), "admin");
    assert_eq!(audited(&bob, "workspace.transferred").await, 1);

    let _ = ada.post("/v1/workspace/leave", &json!({})).await.is(204);
    ada.get("/v1/me").await.problem(401, "unauthenticated");
    assert_eq!(audited(&bob, "membership.left").await, 1);
    assert_eq!(seats(&bob).await, (2, 1));
    // Who belongs to no workspace any more comes back by an invitation and the password.
    let sign_in = json!({ "email": ada.email, "password": Actor::PASSWORD });
    server
        .anonymous()
        .post("/v1/sessions", &sign_in)
        .await
        .problem(403, "workspace_inactive");
    let _ = bob
        .post(
            "/v1/workspace/invitations",
            &invitation(&ada.email, "member"),
        )
        .await
        .is(201);
    let token = server.mailed_token(&ada.email, 1).await;
    let accept = |password: &str| json!({ "token": token, "password": password });
    let anonymous = server.anonymous();
    let path = "/v1/invitations/accept";
    anonymous
        .post(path, &accept("a wrong password"))
        .await
        .problem(401, "unauthenticated");
    anonymous
        .post(path, &json!({ "token": token }))
        .await
        .problem(401, "unauthenticated");
    let back = anonymous.post(path, &accept(Actor::PASSWORD)).await.is(201);
    assert_eq!(back.json()["workspace"]["id"], ada.workspace_id.as_str());
    let _ = server
        .bearer(&back.text("access_token"))
        .get("/v1/workspace")
        .await
        .is(200);
    server.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invitation_is_accepted_by_whom_it_is_for_and_by_nobody_else() {
    let server = Server::shared();
    let ada = server.sign_up_on("ada", "enterprise").await;
    let guest = server.sign_up("guest").await;
    let eve = server.sign_up("eve").await;
    let created = ada
        .post(
            "/v1/workspace/invitations",
            &invitation(&guest.email, "member"),
        )
        .await
        .is(201);
    assert!(
        !String::from_utf8_lossy(&created.body).contains("rdi_"),
        "{created:?}"
    );
    let token = server.mailed_token(&guest.email, 1).await;
    let path = "/v1/invitations/accept";
    let body = json!({ "token": token });
    eve.post(path, &body).await.problem(401, "unauthenticated");
    server
        .bearer("ey.nothing")
        .post(path, &body)
        .await
        .problem(401, "unauthenticated");
    // One letter less, another workspace, another id, capitals: the same answer as for no token at all.
    let nothing = server
        .anonymous()
        .post(path, &json!({ "token": "x" }))
        .await;
    nothing.problem(404, "not_found");
    let parts: Vec<_> = token.split('_').collect();
    for wrong in [
        token[..token.len() - 1].to_owned(),
        token.to_uppercase(),
        format!("rdi_{}_{}_{}", &eve.workspace_id[3..], parts[2], parts[3]),
        format!("rdi_{}_{}_{}", parts[1], &eve.user_id[4..], parts[3]),
        format!(
            "rdi_{}_{}_{}",
            parts[1],
            parts[2],
            parts[3].chars().rev().collect::<String>()
        ),
        guest.refresh.clone(),
    ] {
        let answer = guest.post(path, &json!({ "token": wrong })).await;
        assert_eq!(answer.essence(), nothing.essence(), "{wrong}");
    }
    let joined = guest.post(path, &body).await.is(201).json();
    assert_eq!(joined["workspace"]["id"], ada.workspace_id.as_str());
    let mine = guest.get("/v1/me").await.is(200).json();
    assert_eq!(mine["workspaces"].as_array().map(Vec::len), Some(2));

    // Somebody new must say who they are.
    let _ = ada
        .post(
            "/v1/workspace/invitations",
            &invitation("new-here@example.test", "member"),
        )
        .await
        .is(201);
    let token = server.mailed_token("new-here@example.test", 1).await;
    let anonymous = server.anonymous();
    for (body, field) in [
        (
            json!({ "token": token, "password": Actor::PASSWORD }),
            "name",
        ),
        (json!({ "token": token, "name": "New" }), "password"),
        (
            json!({ "token": token, "name": "New", "password": "short" }),
            "password",
        ),
        (
            json!({ "token": token, "name": "", "password": Actor::PASSWORD }),
            "name",
        ),
    ] {
        let problem = anonymous
            .post(path, &body)
            .await
            .problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
    let smuggled =
        json!({ "token": token, "name": "New", "password": Actor::PASSWORD, "workspace_id": "x" });
    anonymous
        .post(path, &smuggled)
        .await
        .problem(422, "validation_failed");
    let page = anonymous
        .get(&format!("/invitations/accept?token={token}"))
        .await
        .is(200);
    assert!(page.header("content-type").starts_with("text/html"));
    assert!(!server.log().contains(&token), "the log holds a token");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seat_is_given_back_when_its_invitation_expires_or_the_plan_leaves_no_room() {
    let dir = tempfile::tempdir().expect("a directory");
    let clock = dir.path().join("clock");
    let start: DateTime<Utc> = "2027-03-01T12:00:00Z".parse().expect("a time");
    let turn = |by: TimeDelta| {
        let now = (start + by).to_rfc3339_opts(SecondsFormat::Secs, true);
        std::fs::write(&clock, now).expect("the clock is set");
    };
    turn(TimeDelta::zero());
    let path = clock.to_str().expect("a path");
    let server = Server::start_with(&[("RAWDRIVE_DEV", "1"), ("RAWDRIVE_DEV_CLOCK", path)]);
    let ada = server.sign_up_on("ada", "professional").await;
    server.override_limit(&ada, "max_team_members=2").await;
    let _ = ada
        .post(
            "/v1/workspace/invitations",
            &invitation("late@example.test", "member"),
        )
        .await
        .is(201);
    let token = server.mailed_token("late@example.test", 1).await;
    assert_eq!(seats(&ada).await, (1, 1));
    turn(TimeDelta::days(7) + TimeDelta::seconds(1));
    let sign_in = json!({ "email": ada.email, "password": Actor::PASSWORD });
    let session = server
        .anonymous()
        .post("/v1/sessions", &sign_in)
        .await
        .is(201);
    let ada = server.bearer(&session.text("access_token"));
    let body = json!({ "token": token, "name": "Late", "password": Actor::PASSWORD });
    server
        .anonymous()
        .post("/v1/invitations/accept", &body)
        .await
        .problem(404, "not_found");
    assert_eq!(
        ada.list_all("/v1/workspace/invitations", 50).await,
        Vec::<Value>::new()
    );
    // The next invitation does not wait for a sweep.
    let _ = ada
        .post(
            "/v1/workspace/invitations",
            &invitation("next@example.test", "member"),
        )
        .await
        .is(201);
    turn(TimeDelta::days(15));
    until(15, "the sweep gives the seat back", async || {
        let session = server
            .anonymous()
            .post("/v1/sessions", &sign_in)
            .await
            .is(201);
        let ada = server.bearer(&session.text("access_token"));
        ada.usage("team_members").await["reserved"] == 0
    })
    .await;

    // A held seat is taken within the limit in force then: a smaller plan freezes it.
    let session = server
        .anonymous()
        .post("/v1/sessions", &sign_in)
        .await
        .is(201);
    let ada = server.bearer(&session.text("access_token"));
    let _ = ada
        .post(
            "/v1/workspace/invitations",
            &invitation("frozen@example.test", "member"),
        )
        .await
        .is(201);
    let token = server.mailed_token("frozen@example.test", 1).await;
    let workspace = session.json()["workspace"]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let limit = |n: &str| {
        [
            "admin",
            "override",
            "--workspace",
            &workspace,
            "--limit",
            n,
            "--reason",
            "test",
        ]
        .map(str::to_owned)
    };
    let smaller = limit("max_team_members=1");
    let _ = server
        .admin(&smaller.iter().map(String::as_str).collect::<Vec<_>>())
        .await
        .succeeded();
    let body = json!({ "token": token, "name": "Frozen", "password": Actor::PASSWORD });
    let anonymous = server.anonymous();
    anonymous
        .post("/v1/invitations/accept", &body)
        .await
        .problem(402, "quota_exceeded");
    let larger = limit("max_team_members=2");
    let _ = server
        .admin(&larger.iter().map(String::as_str).collect::<Vec<_>>())
        .await
        .succeeded();
    let _ = anonymous
        .post("/v1/invitations/accept", &body)
        .await
        .is(201);
    server.assert_healthy().await;
}
