use std::net::IpAddr;

use chrono::TimeDelta;
use rawdrive_identity::ports::WorkspaceStatus;
use rawdrive_identity::{
    Credentials, HashCost, HashWaiting, IdentityError, Opening, PasswordHasher, RefreshToken,
    Refreshed, SignedIn, Tokens, open_session, refresh, sign_in, sign_out, switch,
};
use rawdrive_tenancy_core::Role;
use secrecy::ExposeSecret;

use rawdrive_tenancy_core::Commit as _;

use crate::memory::{PASSWORD, World, claimed, email, pepper};

pub(crate) fn credentials(address: &str, password: &str) -> Credentials {
    credentials_from("192.0.2.1", address, password)
}

pub(crate) fn credentials_from(client: &str, address: &str, password: &str) -> Credentials {
    let client: IpAddr = client.parse().expect("an address");
    Credentials {
        email: email(address),
        password: claimed(password),
        client,
        device: None,
        code: None,
    }
}

impl World {
    pub(crate) async fn prove(&self, credentials: &Credentials) -> Result<Opening, IdentityError> {
        sign_in(
            &self.store,
            &self.store,
            &self.hasher,
            (&self.env, &pepper()),
            credentials,
        )
        .await
    }

    async fn open(&self, opening: Opening) -> Result<SignedIn, IdentityError> {
        let mut tx = self.begin(opening.workspace()).await;
        let signed_in = open_session(&mut tx, &self.env, &self.issuer, opening).await?;
        tx.commit().await.expect("committed");
        Ok(signed_in)
    }

    async fn refresh(&self, tokens: &Tokens) -> Result<Tokens, IdentityError> {
        let token = RefreshToken::parse(tokens.refresh.expose_secret()).expect("a refresh token");
        let mut tx = self.begin(token.workspace()).await;
        let refreshed = refresh(&mut tx, &self.env, &self.issuer, &token).await?;
        tx.commit().await.expect("committed");
        refreshed.tokens()
    }

    async fn holds(&self, tokens: &Tokens) -> bool {
        let claims = self
            .issuer
            .verify(&self.env, tokens.access.expose_secret())
            .expect("a valid token");
        use rawdrive_identity::ports::IdentityRead;
        self.store
            .authenticate(&claims)
            .await
            .expect("an answer")
            .is_some()
    }
}

#[tokio::test]
async fn wrong_password_and_unknown_address_are_one_answer() {
    let world = World::new().await;
    world.sign_up("ana@example.com").await;
    let wrong = world
        .prove(&credentials("ana@example.com", "guess"))
        .await
        .unwrap_err();
    let unknown = world
        .prove(&credentials("eve@example.com", "guess"))
        .await
        .unwrap_err();
    assert_eq!(format!("{wrong:?}"), "WrongCredentials");
    assert_eq!(format!("{unknown:?}"), "WrongCredentials");
    let opening = world
        .prove(&credentials("ANA@example.com", PASSWORD))
        .await
        .unwrap();
    let signed_in = world.open(opening).await.unwrap();
    assert!(world.authenticate(&signed_in).await.is_some());
}

#[tokio::test]
async fn one_ipv6_subscriber_is_one_client_and_success_forgets() {
    let world = World::new().await;
    world.sign_up("ana@example.com").await;
    let from =
        |n: u32, password| credentials_from(&format!("2001:db8::{n}"), "ana@example.com", password);
    for round in 0..3 {
        for n in 0..9 {
            let wrong = world.prove(&from(n, "guess")).await;
            assert!(
                matches!(wrong, Err(IdentityError::WrongCredentials)),
                "{round} {n}"
            );
        }
        assert!(
            world.prove(&from(99, PASSWORD)).await.is_ok(),
            "the tenth is right"
        );
    }
    for n in 0..10 {
        assert!(matches!(
            world.prove(&from(n, "guess")).await,
            Err(IdentityError::WrongCredentials)
        ));
    }
    assert!(matches!(
        world.prove(&from(77, PASSWORD)).await,
        Err(IdentityError::TooManyAttempts { .. })
    ));
}

#[tokio::test]
async fn an_attempt_that_was_not_verified_does_not_count() {
    let mut world = World::new().await;
    world.sign_up("ana@example.com").await;
    let working = std::mem::replace(
        &mut world.hasher,
        PasswordHasher::new(
            HashCost::LEAST,
            0,
            HashWaiting {
                per_network: 0,
                in_total: 0,
            },
        )
        .unwrap(),
    );
    for _ in 0..20 {
        let busy = world.prove(&credentials("ana@example.com", PASSWORD)).await;
        assert!(matches!(busy, Err(IdentityError::Busy)));
    }
    world.hasher = working;
    assert!(
        world
            .prove(&credentials("ana@example.com", PASSWORD))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn signing_in_opens_the_last_used_workspace_otherwise_the_oldest() {
    let world = World::new().await;
    let ana = world.sign_up("ana@example.com").await;
    let own = ana.workspace.workspace;
    let now = world.env.now();
    let second = world
        .join(ana.person.id, "Second", now + TimeDelta::seconds(2))
        .await;
    let third = world
        .join(ana.person.id, "Third", now + TimeDelta::seconds(1))
        .await;
    let prove = async || world.prove(&credentials("ana@example.com", PASSWORD)).await;
    assert_eq!(prove().await.unwrap().workspace(), own);

    let authenticated = world.authenticate(&ana).await.unwrap();
    let opening = switch(&world.store, &authenticated, second).await.unwrap();
    let there = world.open(opening).await.unwrap();
    assert_eq!(
        (there.workspace.workspace, there.workspace.role),
        (second, Role::Member)
    );
    assert!(
        world.holds(&ana.tokens).await && world.holds(&there.tokens).await,
        "both families live"
    );
    assert_eq!(prove().await.unwrap().workspace(), second, "last used");

    world.set_membership(second, ana.person.id, None).await;
    assert!(!world.holds(&there.tokens).await, "removed at once");
    assert!(matches!(
        world.refresh(&there.tokens).await,
        Err(IdentityError::Unauthenticated)
    ));
    assert_eq!(prove().await.unwrap().workspace(), own, "oldest");
    let deleted = world.store.edit_identity(|rows| {
        rows.workspaces.get_mut(&own).unwrap().status = WorkspaceStatus::Deleted;
    });
    deleted.await;
    assert_eq!(
        prove().await.unwrap().workspace(),
        third,
        "a living one before a deleted one"
    );
    world.set_membership(third, ana.person.id, None).await;
    assert_eq!(
        prove().await.unwrap().workspace(),
        own,
        "a deleted one before none, to restore it"
    );
    assert!(
        world.refresh(&ana.tokens).await.is_ok(),
        "and its session lives on"
    );

    let opening = prove().await.unwrap();
    world
        .store
        .edit_identity(|rows| rows.memberships.clear())
        .await;
    assert!(
        matches!(
            world.open(opening).await,
            Err(IdentityError::Unauthenticated)
        ),
        "removed in between"
    );
    assert!(matches!(prove().await, Err(IdentityError::NoWorkspace)));
}

#[tokio::test]
async fn nobody_switches_to_a_workspace_of_others() {
    let world = World::new().await;
    let ana = world.sign_up("ana@example.com").await;
    let eve = world.sign_up("eve@example.com").await;
    let authenticated = world.authenticate(&eve).await.unwrap();
    for target in [ana.workspace.workspace, world.env.id()] {
        let refused = switch(&world.store, &authenticated, target).await;
        assert!(matches!(refused, Err(IdentityError::NoSuchWorkspace)));
    }
    let opening = world
        .prove(&credentials("eve@example.com", PASSWORD))
        .await
        .unwrap();
    let mut foreign = world.begin(ana.workspace.workspace).await;
    let refused = open_session(&mut foreign, &world.env, &world.issuer, opening).await;
    assert!(
        matches!(refused, Err(IdentityError::Unauthenticated)),
        "the handle is another workspace's"
    );
}

#[tokio::test]
async fn a_used_refresh_token_revokes_its_whole_family_and_no_other() {
    let world = World::new().await;
    let ana = world.sign_up("ana@example.com").await;
    let opening = world
        .prove(&credentials("ana@example.com", PASSWORD))
        .await
        .unwrap();
    let other_family = world.open(opening).await.unwrap();
    let second = world.refresh(&ana.tokens).await.unwrap();
    let third = world.refresh(&second).await.unwrap();
    assert!(world.holds(&third).await);

    assert!(matches!(
        world.refresh(&ana.tokens).await,
        Err(IdentityError::Unauthenticated)
    ));
    for tokens in [&ana.tokens, &second, &third] {
        assert!(!world.holds(tokens).await);
        assert!(matches!(
            world.refresh(tokens).await,
            Err(IdentityError::Unauthenticated)
        ));
    }
    assert!(world.holds(&other_family.tokens).await);
    assert!(world.refresh(&other_family.tokens).await.is_ok());
}

#[tokio::test]
async fn of_two_exchanges_at_once_the_loser_revokes() {
    let world = World::new().await;
    let ana = world.sign_up("ana@example.com").await;
    let token = RefreshToken::parse(ana.tokens.refresh.expose_secret()).unwrap();
    let mut tx = world.begin(token.workspace()).await;
    tx.lose_next_exchange();
    let lost = refresh(&mut tx, &world.env, &world.issuer, &token)
        .await
        .unwrap();
    assert!(matches!(lost, Refreshed::Revoked));
    tx.commit().await.unwrap();
    assert!(!world.holds(&ana.tokens).await);
}

#[tokio::test]
async fn who_knows_an_id_but_not_its_secret_revokes_nothing() {
    let world = World::new().await;
    let ana = world.sign_up("ana@example.com").await;
    let next = world.refresh(&ana.tokens).await.unwrap();
    let text = ana.tokens.refresh.expose_secret();
    let guess = format!("{}{}", &text[..text.len() - 43], "0".repeat(43));
    let token = RefreshToken::parse(&guess).unwrap();
    let mut tx = world.begin(token.workspace()).await;
    let refused = refresh(&mut tx, &world.env, &world.issuer, &token).await;
    assert!(matches!(refused, Err(IdentityError::Unauthenticated)));
    tx.commit().await.unwrap();
    assert!(world.holds(&next).await);

    // A right token in another workspace's handle finds nothing either.
    let token = RefreshToken::parse(next.refresh.expose_secret()).unwrap();
    let mut foreign = world.begin(world.env.id()).await;
    let refused = refresh(&mut foreign, &world.env, &world.issuer, &token).await;
    assert!(matches!(refused, Err(IdentityError::Unauthenticated)));
}

#[tokio::test]
async fn refresh_tokens_end_after_thirty_days_and_sessions_after_half_a_year() {
    let world = World::new().await;
    let ana = world.sign_up("ana@example.com").await;
    let eve = world.sign_up("eve@example.com").await;
    let mut tokens = ana.tokens;
    for _ in 0..6 {
        world
            .clock
            .advance(TimeDelta::days(30) - TimeDelta::seconds(1));
        tokens = world.refresh(&tokens).await.unwrap();
    }
    assert!(matches!(
        world.refresh(&eve.tokens).await,
        Err(IdentityError::Unauthenticated)
    ));
    world.clock.advance(TimeDelta::seconds(6));
    assert!(
        matches!(
            world.refresh(&tokens).await,
            Err(IdentityError::Unauthenticated)
        ),
        "180 days"
    );
}

#[tokio::test]
async fn signing_out_ends_the_session_at_once() {
    let world = World::new().await;
    let ana = world.sign_up("ana@example.com").await;
    let membership = world.authenticate(&ana).await.unwrap().membership;
    let mut elsewhere = world.begin(world.env.id()).await;
    assert!(
        sign_out(&mut elsewhere, &world.env, &membership)
            .await
            .is_err()
    );
    drop(elsewhere);
    let mut tx = world.begin(membership.workspace()).await;
    sign_out(&mut tx, &world.env, &membership).await.unwrap();
    tx.commit().await.unwrap();
    assert!(world.authenticate(&ana).await.is_none());
    assert!(matches!(
        world.refresh(&ana.tokens).await,
        Err(IdentityError::Unauthenticated)
    ));
}
