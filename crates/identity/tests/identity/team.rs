//! Who may change a team, and what ends with a membership.

use chrono::TimeDelta;
use rawdrive_identity::ports::{IdentityTx as _, WorkspaceStatus};
use rawdrive_identity::{
    AcceptError, Acceptance, ApiKeyName, IdentityError, InvitationToken, KeysOf, NewApiKey,
    PersonName, Scopes, SignedIn, TeamError, TeamTx as _, accept, change_role, create_api_key,
    invite, leave, prove_acceptance, remove_member, revoke_api_key, revoke_invitation,
    sweep_invitations, transfer,
};
use rawdrive_plans::{Limit, Metric};
use rawdrive_tenancy_core::id::{ApiKeyId, InvitationId, UserId, WorkspaceId};
use rawdrive_tenancy_core::{Actor, Commit as _, Role, WorkspaceScope};
use rawdrive_testkit::{MemoryTx, plan};
use rawdrive_usage::{Charge, QuotaKey, add};
use serde_json::{Value, json};

use crate::memory::{CLIENT, PASSWORD, World, claimed, email, new_password, pepper};

fn seat() -> Charge {
    Charge {
        key: QuotaKey::level(Metric::team_members()),
        amount: 1,
    }
}

struct Studio {
    world: World,
    here: WorkspaceId,
    owner: UserId,
}

impl Studio {
    async fn open() -> Self {
        let world = World::new().await;
        let ana = world.sign_up("ana@example.com").await;
        let studio = Self {
            here: ana.workspace.workspace,
            owner: ana.person.id,
            world,
        };
        studio.seat(studio.owner).await;
        studio
    }

    async fn seat(&self, user: UserId) {
        let mut tx = self.world.begin(self.here).await;
        let taken = add(&mut tx, &self.world.env, seat(), user.to_string()).await;
        taken.expect("a seat");
        tx.commit().await.expect("committed");
    }

    async fn member(&self, role: Role) -> UserId {
        let user = self.world.member(self.here, role).await;
        self.seat(user).await;
        user
    }

    async fn begin_as(&self, actor: Actor) -> MemoryTx {
        #[expect(clippy::disallowed_methods, reason = "the test says who acts")]
        let scope = WorkspaceScope::trusted(self.here, actor);
        self.world.store.begin_despite_read_only(&scope).await
    }

    async fn invite_as(
        &self,
        actor: Actor,
        address: &str,
        role: Role,
    ) -> Result<(InvitationId, InvitationToken), TeamError> {
        let env = &self.world.env;
        let mut tx = self.begin_as(actor).await;
        let made = invite(&mut tx, env, &pepper(), env.id(), email(address), role).await;
        let (invitation, token) = made?;
        tx.commit().await?;
        Ok((invitation.id, token))
    }

    async fn invite(&self, address: &str, role: Role) -> Result<InvitationToken, TeamError> {
        let made = self.invite_as(Actor::User(self.owner), address, role).await;
        made.map(|(_, token)| token)
    }

    async fn make_key(&self, maker: UserId, role: Role) -> ApiKeyId {
        let mut tx = self.begin_as(Actor::User(maker)).await;
        let new = NewApiKey {
            name: ApiKeyName::parse("Importer").expect("a name"),
            role,
            scopes: Scopes::all(),
            expires_at: None,
        };
        let made = create_api_key(&mut tx, &self.world.env, &pepper(), maker, new).await;
        let (row, _) = made.expect("a key");
        tx.commit().await.expect("committed");
        row.id
    }

    /// Somebody new accepts.
    async fn accept(&self, token: &InvitationToken) -> Result<SignedIn, AcceptError> {
        let acceptance = Acceptance {
            token: token.clone(),
            name: Some(PersonName::parse("Mia").expect("a name")),
            new_password: Some(new_password(PASSWORD)),
            claimed_password: Some(claimed(PASSWORD)),
            session: None,
            client: CLIENT,
        };
        self.accept_with(acceptance).await
    }

    async fn accept_with(&self, acceptance: Acceptance) -> Result<SignedIn, AcceptError> {
        let World {
            store,
            env,
            hasher,
            issuer,
            ..
        } = &self.world;
        let proved = prove_acceptance(store, store, hasher, env, &pepper(), acceptance).await?;
        let mut tx = self.world.begin(proved.token().workspace()).await;
        let signed_in = accept(&mut tx, env, issuer, proved).await?;
        tx.commit().await?;
        Ok(signed_in)
    }

    /// Seats in use, and held.
    fn seats(&self) -> (u64, u64) {
        let rows = self.world.store.rows(&rawdrive_testkit::scope(self.here));
        let row = rows.quotas.get(&seat().key).copied().unwrap_or_default();
        (row.used, row.reserved)
    }

    fn role(&self, user: UserId) -> Option<Role> {
        let identity = self.world.store.identity();
        identity
            .memberships
            .get(&(self.here, user))
            .map(|row| row.role)
    }

    /// The actions that were audited since the studio had `before` entries.
    fn audited(&self, before: usize) -> Vec<(String, String)> {
        let audit = self.world.audit(self.here);
        let entries = audit[before..].iter();
        entries
            .map(|entry| (entry.action.clone(), entry.subject.clone()))
            .collect()
    }

    /// Both sides of the newest entry.
    fn last_change(&self) -> Value {
        let audit = self.world.audit(self.here);
        let payload = audit.last().and_then(|entry| entry.payload.as_ref());
        serde_json::from_str(&payload.expect("an entry").text).expect("JSON")
    }
}

#[tokio::test]
async fn an_invitation_holds_a_seat_until_it_is_taken_or_given_back() {
    let studio = Studio::open().await;
    let before = studio.world.audit(studio.here).len();
    let (id, token) = studio
        .invite_as(Actor::User(studio.owner), "mia@example.com", Role::Admin)
        .await
        .unwrap();
    assert_eq!(studio.seats(), (1, 1));
    assert_eq!(
        studio.last_change(),
        json!({ "before": null, "after": { "email": "mia@example.com", "role": "admin" } })
    );
    let mia = studio.accept(&token).await.unwrap();
    assert_eq!(studio.seats(), (2, 0));
    assert_eq!(mia.workspace.role, Role::Admin);
    assert_eq!(studio.role(mia.person.id), Some(Role::Admin));
    assert!(studio.world.authenticate(&mia).await.is_some());
    let user = &studio.world.store.identity().users[&mia.person.id];
    assert_eq!(
        user.email_verified_at,
        Some(studio.world.env.now()),
        "the link came by mail"
    );
    let again = studio.accept(&token).await;
    assert!(matches!(again, Err(AcceptError::NoInvitation)), "{again:?}");

    let (other, _) = studio
        .invite_as(Actor::User(mia.person.id), "eve@example.com", Role::Member)
        .await
        .unwrap();
    let mut tx = studio.begin_as(Actor::User(studio.owner)).await;
    revoke_invitation(&mut tx, &studio.world.env, other)
        .await
        .unwrap();
    let gone = revoke_invitation(&mut tx, &studio.world.env, other).await;
    assert!(matches!(gone, Err(TeamError::NotFound)), "{gone:?}");
    tx.commit().await.unwrap();
    assert_eq!(studio.seats(), (2, 0));
    let actions = [
        ("invitation.created", id.to_string()),
        ("membership.created", mia.person.id.to_string()),
        ("invitation.created", other.to_string()),
        ("invitation.revoked", other.to_string()),
    ];
    assert_eq!(
        studio.audited(before),
        actions.map(|(action, subject)| (action.to_owned(), subject))
    );
}

#[tokio::test]
async fn no_seat_is_given_twice_and_expired_ones_come_back() {
    let studio = Studio::open().await;
    let mut tx = studio.world.begin(studio.here).await;
    use rawdrive_plans::PlansTx as _;
    let two = plan(&[(Metric::team_members(), Limit::AtMost(2))]);
    tx.move_to_plan(&two).await.unwrap();
    tx.commit().await.unwrap();
    studio
        .invite("mia@example.com", Role::Member)
        .await
        .unwrap();
    let full = studio.invite("eve@example.com", Role::Member).await;
    assert!(matches!(full, Err(TeamError::Exceeded(_))), "{full:?}");
    let twice = studio.invite("MIA@example.com", Role::Member).await;
    assert!(matches!(twice, Err(TeamError::AlreadyInvited)), "{twice:?}");
    let there = studio.invite("ANA@example.com", Role::Member).await;
    assert!(matches!(there, Err(TeamError::AlreadyMember)), "{there:?}");
    studio
        .world
        .clock
        .advance(TimeDelta::days(7) - TimeDelta::seconds(1));
    let sweep = async || {
        let mut tx = studio.world.begin(studio.here).await;
        let swept = sweep_invitations(&mut tx, &studio.world.env).await.unwrap();
        tx.commit().await.unwrap();
        swept
    };
    assert_eq!(sweep().await, 0);
    studio.world.clock.advance(TimeDelta::seconds(1));
    assert_eq!(studio.seats(), (1, 1));
    // Whoever invites next gives the seat back first.
    let token = studio
        .invite("eve@example.com", Role::Member)
        .await
        .unwrap();
    assert_eq!(studio.seats(), (1, 1));
    studio.world.clock.advance(TimeDelta::days(7));
    let late = studio.accept(&token).await;
    assert!(matches!(late, Err(AcceptError::NoInvitation)), "{late:?}");
    assert_eq!((sweep().await, studio.seats()), (1, (1, 0)));
}

/// Its last instant is the one before a week has passed: for accepting, and for what is told of its end.
#[tokio::test]
async fn an_invitation_ends_at_the_instant_that_it_says() {
    let week = TimeDelta::days(7);
    for (early, holds) in [
        (TimeDelta::microseconds(1), true),
        (TimeDelta::zero(), false),
    ] {
        // Proved in time, and accepted in the transaction after it.
        let studio = Studio::open().await;
        let token = studio.invite("mia@example.com", Role::Member).await;
        let token = token.unwrap();
        let World {
            store,
            env,
            hasher,
            issuer,
            ..
        } = &studio.world;
        let acceptance = Acceptance {
            token: token.clone(),
            name: Some(PersonName::parse("Mia").unwrap()),
            new_password: Some(new_password(PASSWORD)),
            claimed_password: None,
            session: None,
            client: CLIENT,
        };
        let pepper = pepper();
        let proved = prove_acceptance(store, store, hasher, env, &pepper, acceptance);
        let proved = proved.await.unwrap();
        studio.world.clock.advance(week - early);
        let mut tx = studio.world.begin(studio.here).await;
        let accepted = accept(&mut tx, env, issuer, proved).await;
        assert_eq!(accepted.is_ok(), holds, "{accepted:?}");
        drop(tx);
        let from_the_start = studio.accept(&token).await;
        assert_eq!(from_the_start.is_ok(), holds, "{from_the_start:?}");

        // Taken back, and left behind by who is removed: one that has ended is no invitation, and its seat is free.
        let studio = Studio::open().await;
        let admin = studio.member(Role::Admin).await;
        let by_owner = studio.invite_as(Actor::User(studio.owner), "mia@example.com", Role::Member);
        let (by_owner, _) = by_owner.await.unwrap();
        let by_admin = studio.invite_as(Actor::User(admin), "eve@example.com", Role::Member);
        let (by_admin, _) = by_admin.await.unwrap();
        studio.world.clock.advance(week - early);
        let before = studio.world.audit(studio.here).len();
        let env = &studio.world.env;
        let mut tx = studio.begin_as(Actor::User(studio.owner)).await;
        revoke_invitation(&mut tx, env, by_owner).await.unwrap();
        let left = remove_member(&mut tx, env, admin, KeysOf::Revoked).await;
        tx.commit().await.unwrap();
        assert_eq!(left.unwrap().invitations.len(), usize::from(holds));
        assert_eq!(studio.seats(), (1, 0));
        let audited = studio.audited(before);
        for id in [by_owner, by_admin] {
            let ended = ("invitation.revoked".to_owned(), id.to_string());
            assert_eq!(audited.contains(&ended), holds, "{audited:?}");
        }
    }
}

#[tokio::test]
async fn an_invitation_is_worth_what_its_sponsor_is_then() {
    let studio = Studio::open().await;
    let admin = studio.member(Role::Admin).await;
    let by_admin = async |address: &str| {
        let made = studio
            .invite_as(Actor::User(admin), address, Role::Admin)
            .await;
        made.unwrap().1
    };
    let (first, second) = (
        by_admin("mia@example.com").await,
        by_admin("eve@example.com").await,
    );
    studio
        .world
        .set_membership(studio.here, admin, Some(Role::Member))
        .await;
    let mia = studio.accept(&first).await.unwrap();
    assert_eq!(mia.workspace.role, Role::Member);
    studio.world.set_membership(studio.here, admin, None).await;
    let nobodys = studio.accept(&second).await;
    assert!(
        matches!(nobodys, Err(AcceptError::NoInvitation)),
        "{nobodys:?}"
    );
}

#[tokio::test]
async fn whoever_accepts_is_whom_it_is_for() {
    let studio = Studio::open().await;
    let world = &studio.world;
    let eve = world.sign_up("eve@example.com").await;
    let token = studio
        .invite("eve@example.com", Role::Member)
        .await
        .unwrap();
    let acceptance = |password: Option<&str>| Acceptance {
        token: token.clone(),
        name: None,
        new_password: None,
        claimed_password: password.map(claimed),
        session: None,
        client: CLIENT,
    };
    let nothing = studio.accept_with(acceptance(None)).await;
    assert!(
        matches!(
            nothing,
            Err(AcceptError::Identity(IdentityError::Unauthenticated))
        ),
        "{nothing:?}"
    );
    let wrong = studio.accept_with(acceptance(Some("guess"))).await;
    assert!(
        matches!(
            wrong,
            Err(AcceptError::Identity(IdentityError::WrongCredentials))
        ),
        "{wrong:?}"
    );
    // Another person's session proves nothing of the address.
    let ana = world.sign_up("nobody@example.com").await;
    let session = world.authenticate(&ana).await;
    let by_another = Acceptance {
        session,
        ..acceptance(None)
    };
    assert!(studio.accept_with(by_another).await.is_err());
    let by_her_own = Acceptance {
        session: world.authenticate(&eve).await,
        ..acceptance(None)
    };
    let joined = studio.accept_with(by_her_own).await.unwrap();
    assert_eq!(joined.person.id, eve.person.id);

    // Somebody new says who they are.
    let token = studio
        .invite("new@example.com", Role::Member)
        .await
        .unwrap();
    let unnamed = Acceptance {
        token: token.clone(),
        ..acceptance(None)
    };
    let unnamed = studio.accept_with(unnamed).await;
    assert!(
        matches!(unnamed, Err(AcceptError::Missing { field: "name" })),
        "{unnamed:?}"
    );
    let without_password = Acceptance {
        token: token.clone(),
        name: Some(PersonName::parse("Mia").unwrap()),
        ..acceptance(None)
    };
    let without_password = studio.accept_with(without_password).await;
    assert!(
        matches!(
            without_password,
            Err(AcceptError::Missing { field: "password" })
        ),
        "{without_password:?}"
    );
    let suspend = world.store.edit_identity(|rows| {
        rows.workspaces.get_mut(&studio.here).unwrap().status = WorkspaceStatus::Suspended;
    });
    suspend.await;
    let closed = studio.accept(&token).await;
    assert!(
        matches!(closed, Err(AcceptError::WorkspaceInactive)),
        "{closed:?}"
    );
}

#[tokio::test]
async fn an_invitation_is_accepted_in_its_own_workspace_by_its_own_secret() {
    let studio = Studio::open().await;
    let token = studio
        .invite("mia@example.com", Role::Member)
        .await
        .unwrap();
    let forged = InvitationToken::with_id(&studio.world.env, studio.here, token.id());
    let refused = studio.accept(&forged).await;
    assert!(
        matches!(refused, Err(AcceptError::NoInvitation)),
        "{refused:?}"
    );
    let World {
        store,
        env,
        hasher,
        issuer,
        ..
    } = &studio.world;
    let acceptance = Acceptance {
        token: token.clone(),
        name: Some(PersonName::parse("Mia").unwrap()),
        new_password: Some(new_password(PASSWORD)),
        claimed_password: None,
        session: None,
        client: CLIENT,
    };
    let proved = prove_acceptance(store, store, hasher, env, &pepper(), acceptance)
        .await
        .unwrap();
    let elsewhere = studio.world.sign_up("eve@example.com").await;
    let mut tx = studio.world.begin(elsewhere.workspace.workspace).await;
    let refused = accept(&mut tx, env, issuer, proved).await;
    assert!(
        matches!(refused, Err(AcceptError::NoInvitation)),
        "{refused:?}"
    );
}

#[tokio::test]
async fn roles_are_given_by_those_above_and_an_owner_stays() {
    let studio = Studio::open().await;
    let (admin, member) = (
        studio.member(Role::Admin).await,
        studio.member(Role::Member).await,
    );
    let change = async |actor: UserId, user: UserId, role: Role| {
        let mut tx = studio.begin_as(Actor::User(actor)).await;
        let changed = change_role(&mut tx, user, role).await?;
        tx.commit().await?;
        Ok::<_, TeamError>(changed.role)
    };
    let before = studio.world.audit(studio.here).len();
    let refused = change(member, admin, Role::Member).await;
    assert!(
        matches!(
            refused,
            Err(TeamError::Forbidden {
                required: Role::Admin
            })
        ),
        "{refused:?}"
    );
    let refused = change(admin, member, Role::Owner).await;
    assert!(
        matches!(
            refused,
            Err(TeamError::Forbidden {
                required: Role::Owner
            })
        ),
        "{refused:?}"
    );
    let last = change(studio.owner, studio.owner, Role::Admin).await;
    assert!(matches!(last, Err(TeamError::LastOwner)), "{last:?}");
    let nobody = change(admin, studio.world.env.id(), Role::Member).await;
    assert!(matches!(nobody, Err(TeamError::NotFound)), "{nobody:?}");
    assert_eq!(
        change(admin, member, Role::Member).await.unwrap(),
        Role::Member
    );
    assert_eq!(studio.audited(before), [], "nothing has changed");
    assert_eq!(
        change(admin, member, Role::Admin).await.unwrap(),
        Role::Admin
    );
    assert_eq!(
        studio.last_change(),
        json!({ "before": { "role": "member" }, "after": { "role": "admin" } })
    );
    assert_eq!(studio.role(member), Some(Role::Admin));
    change(studio.owner, member, Role::Owner).await.unwrap();
    change(member, studio.owner, Role::Member).await.unwrap();
    assert_eq!(studio.role(studio.owner), Some(Role::Member));
    // The people of a workspace are the business of its people.
    let mut tx = studio.world.begin(studio.here).await;
    let by_system = change_role(&mut tx, admin, Role::Member).await;
    assert!(
        matches!(by_system, Err(TeamError::Unauthenticated)),
        "{by_system:?}"
    );
}

#[tokio::test]
async fn a_key_manages_people_as_far_as_it_and_its_sponsor_may() {
    let studio = Studio::open().await;
    let admin = studio.member(Role::Admin).await;
    let key = studio.make_key(admin, Role::Admin).await;
    let invite = async |address: &str, role| studio.invite_as(Actor::Key(key), address, role).await;
    let (id, _) = invite("mia@example.com", Role::Admin).await.unwrap();
    let identity = studio.world.store.identity();
    let (invitation, _) = &identity.invitations[&(studio.here, id)];
    assert_eq!(invitation.sponsor, Some(admin));
    assert_eq!(invitation.invited_by, key.to_string());
    let refused = invite("eve@example.com", Role::Owner).await;
    assert!(
        matches!(refused, Err(TeamError::Forbidden { .. })),
        "{refused:?}"
    );
    studio
        .world
        .set_membership(studio.here, admin, Some(Role::Member))
        .await;
    let refused = invite("eve@example.com", Role::Member).await;
    assert!(
        matches!(refused, Err(TeamError::Forbidden { .. })),
        "{refused:?}"
    );
    // With a key end the invitations that it made, and their seats are free.
    assert_eq!(studio.seats(), (2, 1));
    let before = studio.world.audit(studio.here).len();
    let mut tx = studio.begin_as(Actor::User(studio.owner)).await;
    assert!(
        revoke_api_key(&mut tx, &studio.world.env, key)
            .await
            .unwrap()
    );
    tx.commit().await.unwrap();
    assert_eq!(studio.seats(), (2, 0));
    let actions: Vec<_> = studio
        .audited(before)
        .into_iter()
        .map(|(action, _)| action)
        .collect();
    assert_eq!(actions, ["api_key.revoked", "invitation.revoked"]);
    let refused = invite("eve@example.com", Role::Member).await;
    assert!(
        matches!(refused, Err(TeamError::Unauthenticated)),
        "{refused:?}"
    );
}

#[tokio::test]
async fn who_is_removed_leaves_nothing_behind_but_what_is_kept() {
    for keys in [KeysOf::Revoked, KeysOf::Kept] {
        let studio = Studio::open().await;
        let admin = studio.member(Role::Admin).await;
        let key = studio.make_key(admin, Role::Member).await;
        let expired = studio.invite_as(Actor::User(admin), "old@example.com", Role::Member);
        expired.await.unwrap();
        studio.world.clock.advance(TimeDelta::days(8));
        let open = studio.invite_as(Actor::User(admin), "mia@example.com", Role::Member);
        let (open, _) = open.await.unwrap();
        assert_eq!(studio.seats(), (2, 1));
        let before = studio.world.audit(studio.here).len();
        let mut tx = studio.begin_as(Actor::User(studio.owner)).await;
        let left = remove_member(&mut tx, &studio.world.env, admin, keys)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        assert!(!left.is_nothing());
        let ended: Vec<_> = left.invitations.iter().map(|i| i.id).collect();
        assert_eq!(ended, [open]);
        assert_eq!(studio.seats(), (1, 0));
        assert_eq!(studio.role(admin), None);
        let audited = studio.audited(before);
        let last = match keys {
            KeysOf::Revoked => ("api_key.revoked", left.api_keys),
            KeysOf::Kept => ("api_key.sponsor_changed", left.kept_api_keys),
        };
        assert_eq!(last.1.iter().map(|row| row.id).collect::<Vec<_>>(), [key]);
        let expected = [
            ("membership.removed", admin.to_string()),
            ("invitation.revoked", open.to_string()),
            (last.0, key.to_string()),
        ];
        assert_eq!(audited, expected.map(|(a, s)| (a.to_owned(), s)));
        let identity = studio.world.store.identity();
        let kept = identity.api_keys.get(&(studio.here, key));
        let sponsor = kept.and_then(|(row, _)| row.sponsor);
        assert_eq!(sponsor, (keys == KeysOf::Kept).then_some(studio.owner));
    }
}

#[tokio::test]
async fn removing_is_for_those_above_and_the_last_owner_stays() {
    let studio = Studio::open().await;
    let (admin, member) = (
        studio.member(Role::Admin).await,
        studio.member(Role::Member).await,
    );
    let remove = async |actor: UserId, user: UserId, keys: KeysOf| {
        let mut tx = studio.begin_as(Actor::User(actor)).await;
        let removed = remove_member(&mut tx, &studio.world.env, user, keys).await;
        if removed.is_ok() {
            tx.commit().await.expect("committed");
        }
        removed.map(|left| left.is_nothing())
    };
    let refused = remove(member, admin, KeysOf::Revoked).await;
    assert!(
        matches!(refused, Err(TeamError::Forbidden { .. })),
        "{refused:?}"
    );
    let refused = remove(admin, studio.owner, KeysOf::Revoked).await;
    assert!(
        matches!(refused, Err(TeamError::Forbidden { .. })),
        "{refused:?}"
    );
    let refused = remove(studio.owner, studio.owner, KeysOf::Revoked).await;
    assert!(matches!(refused, Err(TeamError::LastOwner)), "{refused:?}");
    let refused = remove(admin, admin, KeysOf::Kept).await;
    assert!(
        matches!(refused, Err(TeamError::NobodyKeeps)),
        "{refused:?}"
    );
    let refused = remove(admin, studio.world.env.id(), KeysOf::Revoked).await;
    assert!(matches!(refused, Err(TeamError::NotFound)), "{refused:?}");
    assert_eq!(
        remove(admin, member, KeysOf::Revoked).await.ok(),
        Some(true)
    );
    assert_eq!(studio.seats(), (2, 0));
}

#[tokio::test]
async fn whoever_leaves_leaves_their_invitations_to_those_who_stay() {
    let studio = Studio::open().await;
    let admin = studio.member(Role::Admin).await;
    let key = studio.make_key(admin, Role::Member).await;
    studio
        .invite_as(Actor::User(admin), "mia@example.com", Role::Member)
        .await
        .unwrap();
    let leaves = async |user: UserId| {
        let mut tx = studio.begin_as(Actor::User(user)).await;
        let left = leave(&mut tx, &studio.world.env, user).await;
        if left.is_ok() {
            tx.commit().await.expect("committed");
        }
        left
    };
    let last = leaves(studio.owner).await;
    assert!(matches!(last, Err(TeamError::LastOwner)), "{last:?}");
    let before = studio.world.audit(studio.here).len();
    let left = leaves(admin).await.unwrap();
    assert!(left.invitations.is_empty());
    assert_eq!(left.api_keys[0].id, key);
    assert_eq!(
        studio.seats(),
        (1, 1),
        "the seat is held by nobody's invitation"
    );
    let actions: Vec<_> = studio
        .audited(before)
        .into_iter()
        .map(|(action, _)| action)
        .collect();
    assert_eq!(actions, ["membership.left", "api_key.revoked"]);
    let again = leaves(admin).await;
    assert!(
        matches!(again, Err(TeamError::Unauthenticated)),
        "{again:?}"
    );
}

#[tokio::test]
async fn a_workspace_is_handed_to_another_member() {
    let studio = Studio::open().await;
    let member = studio.member(Role::Member).await;
    let hand = async |from: UserId, to: UserId| {
        let mut tx = studio.begin_as(Actor::User(from)).await;
        let heir = transfer(&mut tx, from, to).await;
        if heir.is_ok() {
            assert_eq!(tx.owners().await.expect("a number"), 1);
            tx.commit().await.expect("committed");
        }
        heir
    };
    let refused = hand(member, studio.owner).await;
    assert!(
        matches!(refused, Err(TeamError::Forbidden { .. })),
        "{refused:?}"
    );
    let refused = hand(studio.owner, studio.world.env.id()).await;
    assert!(matches!(refused, Err(TeamError::NotFound)), "{refused:?}");
    let refused = hand(studio.owner, studio.owner).await;
    assert!(
        matches!(refused, Err(TeamError::AlreadyMember)),
        "{refused:?}"
    );
    let refused = hand(studio.world.env.id(), member).await;
    assert!(
        matches!(refused, Err(TeamError::Unauthenticated)),
        "{refused:?}"
    );
    let heir = hand(studio.owner, member).await.unwrap();
    assert_eq!((heir.user, heir.role), (member, Role::Owner));
    assert_eq!(studio.role(member), Some(Role::Owner));
    assert_eq!(studio.role(studio.owner), Some(Role::Admin));
    let owner = studio.owner;
    assert_eq!(
        studio.last_change(),
        json!({ "before": { "owner": owner, "role": "member" }, "after": { "owner": member, "role": "owner" } })
    );
    let tx = studio.world.begin(studio.here).await;
    assert_eq!(tx.workspace(), studio.here);
}
