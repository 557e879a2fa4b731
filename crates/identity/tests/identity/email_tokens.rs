use std::net::IpAddr;

use chrono::TimeDelta;
use rawdrive_identity::ports::IdentityRead;
use rawdrive_identity::{
    EmailVerificationToken, IdentityError, IssuedProof, PasswordResetToken, ProofPurpose,
    ProofRequests as _, answer_request, request_proof, reset_password, verify_email,
};
use secrecy::ExposeSecret;

use crate::memory::{World, email, new_password, pepper};

fn client(n: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, n])
}

impl World {
    pub(crate) async fn ask(
        &self,
        purpose: ProofPurpose,
        address: &str,
        n: u8,
    ) -> Result<(), IdentityError> {
        let (store, email) = (&self.store, email(address));
        request_proof(store, store, &self.env, purpose, &email, client(n)).await
    }

    /// Answers what waits.
    pub(crate) async fn answer(&self) -> Vec<IssuedProof> {
        let waiting = self
            .store
            .lease_requests(100, TimeDelta::seconds(1))
            .await
            .expect("leased");
        let mut issued = Vec::new();
        for request in waiting {
            issued.extend(
                answer_request(&self.store, &self.env, &pepper(), &request)
                    .await
                    .expect("answered"),
            );
            self.store.finish_request(&request).await.expect("finished");
        }
        issued
    }

    async fn reset(&self, text: &str, password: &str) -> Result<(), IdentityError> {
        let token = PasswordResetToken::parse(text).map_err(|_| IdentityError::NoSuchProof)?;
        let (store, pepper) = (&self.store, pepper());
        let env = (&self.env, &pepper);
        let from = (&token, client(1));
        reset_password(
            store,
            store,
            &self.hasher,
            env,
            from,
            &new_password(password),
        )
        .await
    }

    async fn verify(&self, text: &str) -> Result<(), IdentityError> {
        let token = EmailVerificationToken::parse(text).map_err(|_| IdentityError::NoSuchProof)?;
        verify_email(&self.store, &self.env, &pepper(), &token).await
    }
}

fn text(proof: &IssuedProof) -> String {
    proof.token.expose_secret().to_owned()
}

#[tokio::test]
async fn a_request_is_written_down_whether_anybody_has_the_address() {
    let world = World::new().await;
    world.sign_up("ana@example.com").await;
    for address in ["Ana@Example.com", "nobody@example.com"] {
        world
            .ask(ProofPurpose::PasswordReset, address, 1)
            .await
            .unwrap();
    }
    assert_eq!(world.store.identity().proof_requests.len(), 2);
    let issued = world.answer().await;
    assert_eq!(issued.len(), 1);
    assert_eq!(
        issued[0].to.as_str(),
        "ana@example.com",
        "as it is on record"
    );
    assert!(world.store.identity().proof_requests.is_empty());
}

#[tokio::test]
async fn somebody_without_any_workspace_resets_their_password_too() {
    let world = World::new().await;
    let ana = world.sign_up("ana@example.com").await;
    world
        .store
        .edit_identity(|rows| rows.memberships.clear())
        .await;
    world
        .ask(ProofPurpose::PasswordReset, "ana@example.com", 1)
        .await
        .unwrap();
    let token = text(&world.answer().await[0]);
    world.reset(&token, "a new password").await.unwrap();
    let user = IdentityRead::user(&world.store, ana.person.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(user.session_epoch, 1);
    assert_eq!(user.email_verified_at, Some(world.env.now()));
}

#[tokio::test]
async fn one_reset_spends_them_all_and_a_late_one_is_none() {
    let world = World::new().await;
    world.sign_up("ana@example.com").await;
    let issue = async || {
        world
            .ask(ProofPurpose::PasswordReset, "ana@example.com", 1)
            .await
            .unwrap();
        text(&world.answer().await[0])
    };
    let (first, second) = (issue().await, issue().await);
    world.clock.advance(TimeDelta::minutes(59));
    world.reset(&second, "a new password").await.unwrap();
    for spent in [&first, &second] {
        let refused = world.reset(spent, "another password").await;
        assert!(
            matches!(refused, Err(IdentityError::NoSuchProof)),
            "{refused:?}"
        );
    }
    let late = issue().await;
    world.clock.advance(TimeDelta::hours(1));
    let refused = world.reset(&late, "another password").await;
    assert!(
        matches!(refused, Err(IdentityError::NoSuchProof)),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_proof_is_good_for_its_own_purpose_and_person_alone() {
    let world = World::new().await;
    for address in ["ana@example.com", "eve@example.com"] {
        world.sign_up(address).await;
        for purpose in [ProofPurpose::PasswordReset, ProofPurpose::EmailVerification] {
            world.ask(purpose, address, 1).await.unwrap();
        }
    }
    let mut issued = world.answer().await;
    // Ana's before Eve's, the reset before the verification.
    issued.sort_by_key(|proof| {
        (
            proof.to.folded(),
            proof.purpose != ProofPurpose::PasswordReset,
        )
    });
    let texts: Vec<_> = issued.iter().map(text).collect();
    let [reset, verification, eves, _] = &texts[..] else {
        panic!("four proofs: {issued:?}")
    };
    let eve = eves.split('_').nth(1).unwrap();
    let ana = reset.split('_').nth(1).unwrap();
    for wrong in [
        verification.replacen("rdv", "rdp", 1),
        reset.replacen(ana, eve, 1),
        eves.replacen(eve, ana, 1),
    ] {
        let refused = world.reset(&wrong, "a new password").await;
        assert!(
            matches!(refused, Err(IdentityError::NoSuchProof)),
            "{refused:?}"
        );
    }
    let refused = world.verify(&reset.replacen("rdp", "rdv", 1)).await;
    assert!(
        matches!(refused, Err(IdentityError::NoSuchProof)),
        "{refused:?}"
    );
    world.verify(verification).await.unwrap();
    assert!(world.verify(verification).await.is_err());
    world.reset(reset, "a new password").await.unwrap();
}

#[tokio::test]
async fn who_is_verified_is_not_mailed_and_an_old_request_is_dropped() {
    let world = World::new().await;
    let ana = world.sign_up("ana@example.com").await;
    let ask = async || {
        world
            .ask(ProofPurpose::EmailVerification, "ana@example.com", 1)
            .await
            .unwrap();
    };
    ask().await;
    world.clock.advance(TimeDelta::hours(1));
    assert_eq!(world.answer().await.len(), 0, "an hour late");
    ask().await;
    let token = text(&world.answer().await[0]);
    world
        .clock
        .advance(TimeDelta::hours(24) - TimeDelta::seconds(1));
    world.verify(&token).await.unwrap();
    let verified_at = world.env.now();
    ask().await;
    assert_eq!(world.answer().await.len(), 0, "verified already");
    let user = IdentityRead::user(&world.store, ana.person.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(user.email_verified_at, Some(verified_at));
    assert_eq!(user.session_epoch, 0, "sessions go on");
}

#[tokio::test]
async fn what_one_network_asks_for_is_bounded_and_uses_up_nobody_elses() {
    let world = World::new().await;
    world.sign_up("ana@example.com").await;
    let reset = ProofPurpose::PasswordReset;
    let refused = async |address: &str, n: u8| match world.ask(reset, address, n).await {
        Err(IdentityError::TooManyAttempts {
            retry_after_seconds,
            ..
        }) => retry_after_seconds,
        other => panic!("{other:?}"),
    };
    for address in ["ana@example.com", "nobody@example.com"] {
        for n in 1..=6 {
            for _ in 0..5 {
                world.ask(reset, address, n).await.unwrap();
            }
            assert_eq!(refused(address, n).await, 3_600);
        }
        // Whoever else asked, and however often: another network is asked for the first time.
        world.ask(reset, address, 7).await.unwrap();
        world
            .ask(ProofPurpose::EmailVerification, address, 6)
            .await
            .unwrap();
    }
    for n in 0..30 {
        world
            .ask(reset, &format!("n{n}@example.com"), 8)
            .await
            .unwrap();
    }
    assert_eq!(refused("n30@example.com", 8).await, 3_600);
    // Refused for the client, it does not count against the address.
    for _ in 0..5 {
        world.ask(reset, "n30@example.com", 9).await.unwrap();
    }
    world.clock.advance(TimeDelta::hours(1));
    world.ask(reset, "ana@example.com", 8).await.unwrap();
}

#[tokio::test]
async fn a_mailbox_is_not_flooded_and_always_holds_a_link_of_the_last_ten_minutes() {
    let world = World::new().await;
    world.sign_up("ana@example.com").await;
    let reset = ProofPurpose::PasswordReset;
    let mut newest = String::new();
    let mut mails = 0;
    // A botnet: every address asks once a minute.
    for minute in 0..60 {
        for n in 0..4 {
            world
                .ask(reset, "ana@example.com", 4 * minute + n)
                .await
                .unwrap();
        }
        let issued = world.answer().await;
        mails += issued.len();
        if let Some(proof) = issued.last() {
            newest = text(proof);
        }
        world.clock.advance(TimeDelta::minutes(1));
    }
    assert_eq!(mails, 5 + 5, "five at once, then one every ten minutes");
    world.reset(&newest, "a new password").await.unwrap();
}
