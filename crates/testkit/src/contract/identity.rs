//! Accounts, memberships, sessions, keys, invitations, mailed proofs, and counters of attempts.

#![expect(
    clippy::unwrap_used,
    reason = "each function is a test, and a failing store is its failure"
)]

use chrono::{DateTime, TimeDelta, Utc};
use rawdrive_identity::ports::{
    Attempt, CounterKey, IdentityRead, IdentityTx, InsertUserError, NewRefresh, NewSession,
    PasswordAttempts, SigningKeys, User, UserUpdate,
};
use rawdrive_identity::{
    AccessClaims, ApiKeyList, ApiKeyName, ApiKeyRead, ApiKeyRow, ApiKeyToken, ApiKeysTx, Count,
    EmailAddress, Invitation, InvitationRead, InvitationToken, InvitationTx, Inviter, PasswordHash,
    PersonName, ProofPace, ProofPurpose, ProofRequest, ProofRequests, ProofRow, Proofs, Scopes,
    SealedKey, StrangerMailTx, TeamTx,
};
use rawdrive_tenancy_core::id::{RefreshId, SessionId, UserId};
use rawdrive_tenancy_core::page::{PageRequest, Position};
use rawdrive_tenancy_core::{Commit, Role, StoreError, WorkspaceScope};

use super::{Stage, Subject, begin};

fn email(text: &str) -> EmailAddress {
    EmailAddress::parse(text).unwrap()
}

fn somebody<S: Subject>(stage: &Stage<S>, address: &str) -> User {
    User {
        id: stage.id(),
        email: email(address),
        name: PersonName::parse("Ana").unwrap(),
        password_hash: PasswordHash::from_stored("hash".to_owned()),
        session_epoch: 0,
        created_at: stage.env().now(),
        email_verified_at: None,
    }
}

/// Inserts somebody who is no member of anything.
async fn stranger<S: Subject>(stage: &Stage<S>, address: &str) -> User {
    let user = somebody(stage, address);
    let mut tx = stage.begin().await;
    tx.insert_user(&user).await.unwrap();
    tx.commit().await.unwrap();
    user
}

/// Makes somebody a member.
async fn join<S: Subject>(stage: &Stage<S>, scope: &WorkspaceScope, user: UserId, role: Role) {
    let mut tx = begin(&stage.store, scope).await;
    let joined = tx.insert_membership(user, role, stage.env().now()).await;
    joined.unwrap();
    tx.commit().await.unwrap();
}

/// Inserts a member of the first workspace.
async fn member<S: Subject>(stage: &Stage<S>, address: &str, role: Role) -> User {
    let user = stranger(stage, address).await;
    join(stage, &stage.scope, user.id, role).await;
    user
}

async fn read_user<S: Subject>(stage: &Stage<S>, id: UserId) -> Option<User> {
    let installation = stage.store.installation();
    IdentityRead::user(installation, id).await.unwrap()
}

fn session_of<S: Subject>(stage: &Stage<S>, user: UserId) -> NewSession {
    let now = stage.env().now();
    NewSession {
        id: stage.id(),
        user,
        epoch: 0,
        created_at: now,
        expires_at: now + TimeDelta::days(180),
    }
}

async fn open_session<S: Subject>(
    stage: &Stage<S>,
    scope: &WorkspaceScope,
    user: UserId,
) -> SessionId {
    let session = session_of(stage, user);
    let mut tx = begin(&stage.store, scope).await;
    tx.insert_session(&session).await.unwrap();
    tx.commit().await.unwrap();
    session.id
}

fn claims<S: Subject>(
    stage: &Stage<S>,
    scope: &WorkspaceScope,
    user: UserId,
    session: SessionId,
) -> AccessClaims {
    AccessClaims {
        user,
        workspace: scope.workspace(),
        session,
        expires_at: stage.env().now() + TimeDelta::minutes(15),
    }
}

async fn holds<S: Subject>(stage: &Stage<S>, claims: &AccessClaims) -> bool {
    let found = stage.store.installation().authenticate(claims).await;
    found.unwrap().is_some()
}

/// However an address is written, one account has it; and a refused account leaves the transaction usable.
pub async fn an_address_is_one_accounts<S: Subject>(stage: &Stage<S>) {
    let ana = stranger(stage, "Ana@Example.com").await;
    let mut tx = stage.begin().await;
    let again = tx.insert_user(&somebody(stage, "aNA@example.COM")).await;
    assert!(
        matches!(again, Err(InsertUserError::EmailTaken)),
        "{again:?}"
    );
    let eve = somebody(stage, "eve@example.com");
    tx.insert_user(&eve).await.unwrap();
    tx.commit().await.unwrap();
    let read = stage.store.installation();
    let found = read.user_by_email("ana@example.com").await.unwrap();
    assert_eq!(found.as_ref(), Some(&ana), "as it was typed");
    assert_eq!(
        read.user_by_email("eve@example.com").await.unwrap(),
        Some(eve)
    );
    assert_eq!(read.user_by_email("Ana@Example.com").await.unwrap(), None);
    assert_eq!(read_user(stage, stage.id()).await, None);
}

/// Of an account only what is said changes.
pub async fn an_account_changes_as_is_said<S: Subject>(stage: &Stage<S>) {
    let ana = stranger(stage, "ana@example.com").await;
    let eve = stranger(stage, "eve@example.com").await;
    let name = PersonName::parse("Anna").unwrap();
    let password_hash = PasswordHash::from_stored("another".to_owned());
    let mut expected = ana.clone();
    for (update, change) in [
        (UserUpdate::default(), None),
        (
            UserUpdate {
                name: Some(name.clone()),
                password_hash: None,
            },
            Some(true),
        ),
        (
            UserUpdate {
                name: None,
                password_hash: Some(password_hash.clone()),
            },
            Some(false),
        ),
    ] {
        match change {
            Some(true) => expected.name = name.clone(),
            Some(false) => expected.password_hash = password_hash.clone(),
            None => {}
        }
        let mut tx = stage.begin().await;
        tx.update_user(ana.id, &update).await.unwrap();
        let within = IdentityTx::user(&mut tx, ana.id).await.unwrap();
        assert_eq!(within.as_ref(), Some(&expected));
        tx.commit().await.unwrap();
        assert_eq!(read_user(stage, ana.id).await.as_ref(), Some(&expected));
    }
    assert_eq!(read_user(stage, eve.id).await, Some(eve));
}

/// A membership is of an account there is, in the handle's workspace, once.
pub async fn a_membership_is_of_one_workspace<S: Subject>(stage: &Stage<S>) {
    let ana = member(stage, "ana@example.com", Role::Owner).await;
    let now = stage.env().now();
    let mut tx = stage.begin().await;
    assert_eq!(tx.membership(ana.id).await.unwrap(), Some(Role::Owner));
    let again = tx.insert_membership(ana.id, Role::Member, now).await;
    assert!(matches!(again, Err(StoreError::Taken { .. })), "{again:?}");
    drop(tx);
    let mut tx = stage.begin().await;
    let nobody = tx.insert_membership(stage.id(), Role::Member, now).await;
    assert!(
        matches!(nobody, Err(StoreError::Dangling { .. })),
        "{nobody:?}"
    );
    drop(tx);
    let mut theirs = begin(&stage.store, &stage.other).await;
    assert_eq!(theirs.membership(ana.id).await.unwrap(), None);
    assert_eq!(theirs.member(ana.id).await.unwrap(), None);
    assert_eq!(theirs.owners().await.unwrap(), 0);
    assert!(!theirs.is_member(&ana.email).await.unwrap());
    // By a person's id alone nothing of another workspace changes.
    theirs.set_role(ana.id, Role::Member).await.unwrap();
    theirs.delete_membership(ana.id, now).await.unwrap();
    theirs.commit().await.unwrap();
    let mut tx = stage.begin().await;
    assert_eq!(tx.membership(ana.id).await.unwrap(), Some(Role::Owner));
}

/// The team is read as the transaction has changed it, and whoever is removed is signed out there, not elsewhere.
pub async fn a_team_changes_and_who_leaves_is_signed_out<S: Subject>(stage: &Stage<S>) {
    let ana = member(stage, "ana@example.com", Role::Owner).await;
    let eve = member(stage, "eve@example.com", Role::Member).await;
    join(stage, &stage.other, eve.id, Role::Member).await;
    let here = open_session(stage, &stage.scope, eve.id).await;
    let there = open_session(stage, &stage.other, eve.id).await;
    let anas = open_session(stage, &stage.scope, ana.id).await;
    let here = claims(stage, &stage.scope, eve.id, here);
    let there = claims(stage, &stage.other, eve.id, there);
    let anas = claims(stage, &stage.scope, ana.id, anas);

    let mut tx = stage.begin().await;
    assert_eq!(tx.actor(), stage.scope.actor());
    tx.lock_team().await.unwrap();
    assert_eq!(tx.owners().await.unwrap(), 1);
    tx.set_role(eve.id, Role::Owner).await.unwrap();
    assert_eq!(tx.owners().await.unwrap(), 2);
    let found = tx.member(eve.id).await.unwrap().unwrap();
    assert_eq!(
        (found.user, found.role, found.joined_at),
        (eve.id, Role::Owner, stage.env().now())
    );
    assert_eq!((found.name, found.email), (eve.name, eve.email.clone()));
    assert!(tx.is_member(&email("EVE@example.com")).await.unwrap());
    tx.commit().await.unwrap();
    assert!(holds(stage, &here).await && holds(stage, &there).await);

    let mut tx = stage.begin().await;
    let now = stage.env().now();
    tx.delete_membership(eve.id, now).await.unwrap();
    assert_eq!(tx.owners().await.unwrap(), 1);
    assert!(!tx.is_member(&eve.email).await.unwrap());
    tx.commit().await.unwrap();
    assert!(!holds(stage, &here).await);
    assert!(holds(stage, &there).await && holds(stage, &anas).await);
    // Somebody who comes back does not come back to their old sessions.
    join(stage, &stage.scope, eve.id, Role::Member).await;
    assert!(!holds(stage, &here).await);
}

/// Somebody's workspaces: the one they worked in last, then the others as they joined them.
pub async fn the_last_workspace_comes_first<S: Subject>(stage: &Stage<S>) {
    let ana = member(stage, "ana@example.com", Role::Owner).await;
    stage.test_env.advance(TimeDelta::seconds(1));
    join(stage, &stage.other, ana.id, Role::Member).await;
    let mine = async || {
        let belongings = stage.store.installation().workspaces_of(ana.id).await;
        let belongings = belongings.unwrap().into_iter();
        belongings
            .map(|b| (b.workspace, b.role))
            .collect::<Vec<_>>()
    };
    let (here, there) = (stage.scope.workspace(), stage.other.workspace());
    let (first, second) = ((here, Role::Owner), (there, Role::Member));
    assert_eq!(mine().await, [first, second]);
    for (scope, expected) in [
        (&stage.other, [second, first]),
        (&stage.scope, [first, second]),
    ] {
        let mut tx = begin(&stage.store, scope).await;
        tx.note_last_workspace(ana.id).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(mine().await, expected);
    }
    let nobodys = stage.store.installation().workspaces_of(stage.id()).await;
    assert_eq!(nobodys.unwrap(), []);
}

/// A token works by a session that is open, stamped with the account's epoch, and a membership; all in its workspace.
pub async fn a_session_holds_as_long_as_all_of_it_does<S: Subject>(stage: &Stage<S>) {
    let ana = member(stage, "ana@example.com", Role::Admin).await;
    let eve = member(stage, "eve@example.com", Role::Member).await;
    join(stage, &stage.other, ana.id, Role::Member).await;
    let session = open_session(stage, &stage.scope, ana.id).await;
    let right = claims(stage, &stage.scope, ana.id, session);
    let found = stage.store.installation().authenticate(&right).await;
    let found = found.unwrap().unwrap();
    assert_eq!(found.membership.workspace(), stage.scope.workspace());
    assert_eq!(
        (found.membership.user(), found.membership.role()),
        (ana.id, Role::Admin)
    );
    assert_eq!(found.membership.session(), session);
    assert_eq!(found.session_epoch, 0);
    for wrong in [
        claims(stage, &stage.scope, eve.id, session),
        claims(stage, &stage.other, ana.id, session),
        claims(stage, &stage.scope, ana.id, stage.id()),
    ] {
        assert!(!holds(stage, &wrong).await, "{wrong:?}");
    }
    // Another epoch ends it; whoever stays signed in is stamped anew.
    let mut tx = stage.begin().await;
    assert_eq!(tx.bump_session_epoch(ana.id).await.unwrap(), 1);
    tx.commit().await.unwrap();
    assert!(!holds(stage, &right).await);
    let restamp = async |scope: &WorkspaceScope| {
        let mut tx = begin(&stage.store, scope).await;
        tx.restamp_session(session, 1).await.unwrap();
        tx.commit().await.unwrap();
    };
    restamp(&stage.other).await;
    assert!(!holds(stage, &right).await, "it lies in another workspace");
    restamp(&stage.scope).await;
    assert!(holds(stage, &right).await);
    let revoke = async |scope: &WorkspaceScope, session| {
        let mut tx = begin(&stage.store, scope).await;
        let now = stage.env().now();
        tx.revoke_session(session, now).await.unwrap();
        tx.commit().await.unwrap();
    };
    revoke(&stage.other, session).await;
    revoke(&stage.scope, stage.id()).await;
    assert!(holds(stage, &right).await);
    revoke(&stage.scope, session).await;
    assert!(!holds(stage, &right).await);
}

/// A refresh token is exchanged once, and read with all that it stands on.
pub async fn a_refresh_token_is_used_once<S: Subject>(stage: &Stage<S>) {
    let ana = member(stage, "ana@example.com", Role::Owner).await;
    let now = stage.env().now();
    let session = session_of(stage, ana.id);
    let refresh = NewRefresh {
        id: stage.id::<RefreshId>(),
        session: session.id,
        secret_hash: [9; 32],
        issued_at: now,
        expires_at: now + TimeDelta::days(30),
    };
    let mut tx = stage.begin().await;
    tx.insert_session(&session).await.unwrap();
    tx.insert_refresh(&refresh).await.unwrap();
    tx.commit().await.unwrap();

    let mut tx = stage.begin().await;
    let row = tx.refresh(refresh.id).await.unwrap().unwrap();
    assert_eq!((row.secret_hash, row.used_at), ([9; 32], None));
    assert_eq!(row.expires_at, refresh.expires_at);
    assert_eq!((row.session, row.user), (session.id, ana.id));
    assert_eq!(row.session_expires_at, session.expires_at);
    assert_eq!((row.session_epoch, row.user_epoch), (0, 0));
    assert!(!row.session_revoked);
    assert_eq!(row.role, Some(Role::Owner));
    assert!(tx.mark_refresh_used(refresh.id, now).await.unwrap());
    let later = now + TimeDelta::seconds(1);
    assert!(!tx.mark_refresh_used(refresh.id, later).await.unwrap());
    let row = tx.refresh(refresh.id).await.unwrap().unwrap();
    assert_eq!(row.used_at, Some(now));
    tx.commit().await.unwrap();

    let mut theirs = begin(&stage.store, &stage.other).await;
    assert_eq!(theirs.refresh(refresh.id).await.unwrap(), None);
    assert!(!theirs.mark_refresh_used(refresh.id, later).await.unwrap());
    drop(theirs);

    let mut tx = stage.begin().await;
    tx.delete_membership(ana.id, now).await.unwrap();
    let row = tx.refresh(refresh.id).await.unwrap().unwrap();
    assert_eq!((row.role, row.session_revoked), (None, true));
}

fn invitation<S: Subject>(stage: &Stage<S>, address: &str, sponsor: UserId) -> Invitation {
    let now = stage.env().now();
    Invitation {
        id: stage.id(),
        email: email(address),
        role: Role::Admin,
        sponsor: Some(sponsor),
        invited_by: sponsor.to_string(),
        created_at: now,
        expires_at: now + TimeDelta::days(7),
    }
}

/// One invitation an address and workspace, which goes when it is taken.
pub async fn an_invitation_is_taken_once<S: Subject>(stage: &Stage<S>) {
    let ana = member(stage, "ana@example.com", Role::Owner).await;
    let first = invitation(stage, "eve@example.com", ana.id);
    let again = invitation(stage, "EVE@example.com", ana.id);
    let mut tx = stage.begin().await;
    assert!(tx.insert_invitation(&first, &[1; 32]).await.unwrap());
    assert!(!tx.insert_invitation(&again, &[2; 32]).await.unwrap());
    tx.commit().await.unwrap();
    let mut theirs = begin(&stage.store, &stage.other).await;
    assert_eq!(theirs.take_invitation(first.id).await.unwrap(), None);
    let far = first.expires_at + TimeDelta::days(1);
    assert_eq!(theirs.take_expired_invitations(far).await.unwrap(), 0);
    let sponsor = Inviter::Sponsor(ana.id);
    assert_eq!(theirs.take_invitations(sponsor).await.unwrap(), []);
    assert!(theirs.insert_invitation(&again, &[2; 32]).await.unwrap());
    theirs.commit().await.unwrap();

    let token = InvitationToken::with_id(stage.env(), stage.scope.workspace(), first.id);
    let read = stage.store.installation();
    let found = read.invitation(&token).await.unwrap().unwrap();
    assert_eq!(found.invitation, first);
    assert_eq!(found.sponsor_role, Some(Role::Owner));
    assert_eq!(found.secret_hash, [1; 32]);
    let abroad = InvitationToken::with_id(stage.env(), stage.other.workspace(), first.id);
    assert_eq!(read.invitation(&abroad).await.unwrap(), None);

    let mut tx = stage.begin().await;
    tx.delete_membership(ana.id, stage.env().now())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let found = read.invitation(&token).await.unwrap().unwrap();
    assert_eq!(found.sponsor_role, None, "nobody answers for it any more");

    let mut tx = stage.begin().await;
    assert_eq!(
        tx.take_invitation(first.id).await.unwrap().as_ref(),
        Some(&first)
    );
    assert_eq!(tx.take_invitation(first.id).await.unwrap(), None);
    tx.commit().await.unwrap();
    assert_eq!(read.invitation(&token).await.unwrap(), None);
}

/// Somebody's invitations go together, and those whose time is over.
pub async fn invitations_end_by_who_made_them_and_by_time<S: Subject>(stage: &Stage<S>) {
    let ana = member(stage, "ana@example.com", Role::Owner).await;
    let eve = member(stage, "eve@example.com", Role::Owner).await;
    let key = stage.id();
    let mut made = Vec::new();
    for (n, sponsor) in [ana.id, eve.id, ana.id, ana.id].into_iter().enumerate() {
        let mut new = invitation(stage, &format!("p{n}@example.com"), sponsor);
        if n == 2 {
            new.invited_by = rawdrive_tenancy_core::Actor::Key(key).to_string();
        }
        let mut tx = stage.begin().await;
        assert!(tx.insert_invitation(&new, &[3; 32]).await.unwrap());
        tx.commit().await.unwrap();
        made.push(new);
        stage.test_env.advance(TimeDelta::hours(1));
    }
    let mut tx = stage.begin().await;
    let by_key = tx.take_invitations(Inviter::Key(key)).await.unwrap();
    assert_eq!(by_key, [made[2].clone()]);
    let by_ana = tx.take_invitations(Inviter::Sponsor(ana.id)).await.unwrap();
    assert_eq!(by_ana, [made[0].clone(), made[3].clone()], "oldest first");
    drop(tx);
    // At the very moment of its end an invitation is over.
    let mut tx = stage.begin().await;
    let just_before = made[1].expires_at - TimeDelta::seconds(1);
    assert_eq!(tx.take_expired_invitations(just_before).await.unwrap(), 1);
    let end = made[1].expires_at;
    assert_eq!(tx.take_expired_invitations(end).await.unwrap(), 1);
    assert_eq!(tx.take_invitation(made[1].id).await.unwrap(), None);
    assert!(tx.take_invitation(made[2].id).await.unwrap().is_some());
    assert_eq!(tx.workspace_name().await.unwrap().as_str(), "Studio");
}

fn key<S: Subject>(stage: &Stage<S>, sponsor: UserId) -> ApiKeyRow {
    ApiKeyRow {
        id: stage.id(),
        name: ApiKeyName::parse("Uploader").unwrap(),
        role: Role::Admin,
        scopes: Scopes::only(["usage:write".to_owned()]),
        sponsor: Some(sponsor),
        created_by: sponsor.to_string(),
        created_at: stage.env().now(),
        expires_at: None,
        last_used_at: None,
    }
}

/// A key is found by its token in its workspace, with the role that its sponsor has now, and listed with its worth.
pub async fn a_key_is_worth_what_its_sponsor_is<S: Subject>(stage: &Stage<S>) {
    let ana = member(stage, "ana@example.com", Role::Owner).await;
    let mut keys = Vec::new();
    for _ in 0..3 {
        keys.push(key(stage, ana.id));
        stage.test_env.advance(TimeDelta::seconds(1));
    }
    let mut tx = stage.begin().await;
    for key in &keys {
        tx.insert_api_key(key, "hash").await.unwrap();
    }
    assert_eq!(tx.count_api_keys().await.unwrap(), 3);
    assert_eq!(
        tx.api_key(keys[1].id).await.unwrap().as_ref(),
        Some(&keys[1])
    );
    tx.commit().await.unwrap();
    let mut theirs = begin(&stage.store, &stage.other).await;
    assert_eq!(theirs.count_api_keys().await.unwrap(), 0);
    assert_eq!(theirs.api_key(keys[0].id).await.unwrap(), None);
    assert_eq!(theirs.delete_api_key(keys[0].id).await.unwrap(), None);
    assert_eq!(theirs.delete_api_keys_of(ana.id).await.unwrap(), []);
    let handed = theirs.hand_over_api_keys(ana.id, stage.id()).await;
    assert_eq!(handed.unwrap(), []);
    let now = stage.env().now();
    theirs.note_key_use(keys[0].id, now).await.unwrap();
    theirs.commit().await.unwrap();

    let pages = async |scope: &WorkspaceScope| {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = PageRequest { limit: 2, after };
            let page = stage.store.read(scope).api_keys(page).await.unwrap();
            found.extend(page.items);
            match page.next {
                Some(next) => after = Some(next),
                None => return found,
            }
        }
    };
    let mut role = Some(Role::Owner);
    for change in [Some(Role::Member), None] {
        let listed = pages(&stage.scope).await;
        let rows: Vec<_> = listed.iter().map(|listed| listed.key.clone()).collect();
        assert_eq!(rows, keys, "oldest first, page by page");
        let worth = role.map(|role| role.min(Role::Admin));
        assert!(listed.iter().all(|listed| listed.worth == worth));
        let token = ApiKeyToken::with_id(stage.env(), stage.scope.workspace(), keys[0].id);
        let stored = stage.store.installation().presented_key(&token).await;
        let stored = stored.unwrap().unwrap();
        assert_eq!((stored.role, stored.sponsor_role), (Role::Admin, role));
        assert_eq!(stored.secret_hash, "hash");
        let mut tx = stage.begin().await;
        match change {
            Some(role) => tx.set_role(ana.id, role).await.unwrap(),
            None => tx.delete_membership(ana.id, now).await.unwrap(),
        }
        tx.commit().await.unwrap();
        role = change;
    }
    assert!(
        pages(&stage.scope)
            .await
            .iter()
            .all(|key| key.worth.is_none())
    );
    assert_eq!(pages(&stage.other).await, []);
    let abroad = ApiKeyToken::with_id(stage.env(), stage.other.workspace(), keys[0].id);
    let stored = stage.store.installation().presented_key(&abroad).await;
    assert_eq!(stored.unwrap(), None);
    let first = stage
        .store
        .read(&stage.scope)
        .api_keys(PageRequest {
            limit: 1,
            after: None,
        })
        .await;
    assert!(matches!(first.unwrap().next, Some(Position::Id(_))));
}

/// Keys change hands, end with who answers for them, and remember their latest use alone.
pub async fn keys_are_handed_over_and_deleted<S: Subject>(stage: &Stage<S>) {
    let ana = member(stage, "ana@example.com", Role::Owner).await;
    let eve = member(stage, "eve@example.com", Role::Owner).await;
    let (first, second, eves) = (key(stage, ana.id), key(stage, ana.id), key(stage, eve.id));
    let mut tx = stage.begin().await;
    for key in [&first, &second, &eves] {
        tx.insert_api_key(key, "hash").await.unwrap();
    }
    let now = stage.env().now();
    let earlier = now - TimeDelta::minutes(1);
    for (at, noted) in [(earlier, earlier), (now, now), (earlier, now)] {
        tx.note_key_use(first.id, at).await.unwrap();
        let row = tx.api_key(first.id).await.unwrap().unwrap();
        assert_eq!(row.last_used_at, Some(noted));
    }
    tx.note_key_use(stage.id(), now).await.unwrap();
    let used = ApiKeyRow {
        last_used_at: Some(now),
        ..first
    };
    let mut both = vec![used.clone(), second.clone()];
    both.sort_by_key(|key| key.id);
    let handed = tx.hand_over_api_keys(ana.id, eve.id).await.unwrap();
    assert_eq!(handed, both, "as they were");
    assert_eq!(tx.delete_api_keys_of(ana.id).await.unwrap(), []);
    let row = tx.api_key(second.id).await.unwrap().unwrap();
    assert_eq!(row.sponsor, Some(eve.id));
    let deleted = tx.delete_api_key(eves.id).await.unwrap();
    assert_eq!(deleted, Some(eves.clone()));
    assert_eq!(tx.delete_api_key(eves.id).await.unwrap(), None);
    let ended = tx.delete_api_keys_of(eve.id).await.unwrap();
    let ended: Vec<_> = ended.iter().map(|key| key.id).collect();
    assert_eq!(ended, both.iter().map(|key| key.id).collect::<Vec<_>>());
    assert_eq!(tx.count_api_keys().await.unwrap(), 0);
}

const FIRST: CounterKey = [1; 32];
const SECOND: CounterKey = [2; 32];

/// Counters change together, and what is not said to change stays.
pub async fn counters_change_together<S: Subject>(stage: &Stage<S>) {
    let attempts = stage.store.installation();
    let ends_at = stage.env().now() + TimeDelta::hours(1);
    let count = |used| Some(Count { used, ends_at });
    let keys = [SECOND, FIRST];
    assert_eq!(attempts.counts(&keys).await.unwrap(), [None, None]);
    let change = attempts.change(&keys, |counts| {
        assert_eq!(counts, [None, None]);
        counts.copy_from_slice(&[count(2), count(1)]);
        "answered"
    });
    assert_eq!(change.await.unwrap(), "answered");
    let found = attempts.counts(&[FIRST, SECOND, [3; 32]]).await.unwrap();
    assert_eq!(found, [count(1), count(2), None]);
    let change = attempts.change(&keys, |counts| counts[0] = None);
    change.await.unwrap();
    let change = attempts.change(&[FIRST], |counts| {
        assert_eq!(counts, [count(1)]);
        counts[0] = count(5);
    });
    change.await.unwrap();
    assert_eq!(attempts.counts(&keys).await.unwrap(), [None, count(5)]);
}

/// A mail to a stranger counts when its transaction does, up to the limit of its window.
pub async fn mails_to_strangers_are_counted<S: Subject>(stage: &Stage<S>) {
    let hour = TimeDelta::hours(1);
    let mail = async |scope: &WorkspaceScope, key, stands: bool| {
        let mut tx = begin(&stage.store, scope).await;
        let now = stage.env().now();
        let attempt = tx.count_mail(key, 2, hour, now).await.unwrap();
        if stands {
            tx.commit().await.unwrap();
        }
        attempt
    };
    for (stands, expected) in [
        (true, Attempt::Allowed),
        (false, Attempt::Allowed),
        (true, Attempt::Allowed),
        (true, Attempt::RetryAfter { seconds: 3_600 }),
    ] {
        assert_eq!(mail(&stage.scope, FIRST, stands).await, expected);
    }
    stage.test_env.advance(hour - TimeDelta::seconds(10));
    let late = mail(&stage.other, FIRST, true).await;
    assert_eq!(late, Attempt::RetryAfter { seconds: 10 });
    assert_eq!(mail(&stage.other, SECOND, true).await, Attempt::Allowed);
    stage.test_env.advance(TimeDelta::seconds(10));
    assert_eq!(mail(&stage.scope, FIRST, true).await, Attempt::Allowed);
}

/// A workspace writes to strangers when one of its own owners is verified.
pub async fn an_owner_who_is_verified_is_found<S: Subject>(stage: &Stage<S>) {
    let verified = async |scope: &WorkspaceScope| {
        let mut tx = begin(&stage.store, scope).await;
        tx.has_verified_owner().await.unwrap()
    };
    assert!(!verified(&stage.scope).await);
    member(stage, "ana@example.com", Role::Owner).await;
    let mut eve = somebody(stage, "eve@example.com");
    eve.email_verified_at = Some(stage.env().now());
    let mut tx = stage.begin().await;
    tx.insert_user(&eve).await.unwrap();
    tx.commit().await.unwrap();
    join(stage, &stage.scope, eve.id, Role::Admin).await;
    assert!(!verified(&stage.scope).await, "an owner, or none");
    join(stage, &stage.other, eve.id, Role::Owner).await;
    assert!(!verified(&stage.scope).await && verified(&stage.other).await);
    let mut tx = stage.begin().await;
    tx.set_role(eve.id, Role::Owner).await.unwrap();
    tx.commit().await.unwrap();
    assert!(verified(&stage.scope).await);
}

/// The first signing key is made once, and a rotation says when the others end, once.
pub async fn signing_keys_are_made_once_and_rotated<S: Subject>(stage: &Stage<S>) {
    let keys = stage.store.installation();
    let sealed = |kid: &str| SealedKey {
        kid: kid.to_owned(),
        public: [4; 32],
        sealed: vec![1, 2, 3],
        created_at: stage.env().now(),
        retired_at: None,
    };
    let all = async || {
        let mut all = keys.signing_keys().await.unwrap();
        all.sort_by(|a, b| a.kid.cmp(&b.kid));
        all
    };
    assert_eq!(all().await, []);
    let (first, second, third) = (sealed("1"), sealed("2"), sealed("3"));
    keys.insert_first_signing_key(&first).await.unwrap();
    keys.insert_first_signing_key(&second).await.unwrap();
    assert_eq!(all().await, std::slice::from_ref(&first));
    let ends = |key: &SealedKey, hours| SealedKey {
        retired_at: Some(stage.env().now() + TimeDelta::hours(hours)),
        ..key.clone()
    };
    let at = |hours| stage.env().now() + TimeDelta::hours(hours);
    keys.rotate_signing_keys(&second, at(1)).await.unwrap();
    assert_eq!(all().await, [ends(&first, 1), second.clone()]);
    keys.rotate_signing_keys(&third, at(2)).await.unwrap();
    assert_eq!(all().await, [ends(&first, 1), ends(&second, 2), third]);
}

/// Requests are answered by whoever has leased them, and by nobody else meanwhile.
pub async fn requests_for_mail_are_leased<S: Subject>(stage: &Stage<S>) {
    let requests = stage.store.installation();
    let request = |purpose| ProofRequest {
        id: stage.id(),
        purpose,
        email_folded: "ana@example.com".to_owned(),
        created_at: stage.env().now(),
        attempts: 0,
    };
    let lease = async |n| {
        let leased = requests.lease_requests(n, TimeDelta::seconds(60)).await;
        leased.unwrap()
    };
    let purposes = [
        ProofPurpose::PasswordReset,
        ProofPurpose::EmailVerification,
        ProofPurpose::SignInCode,
    ];
    let mut made = purposes.map(request);
    for request in &made {
        requests.insert_request(request).await.unwrap();
    }
    let mut leased = lease(2).await;
    assert_eq!(leased.len(), 2);
    leased.extend(lease(9).await);
    assert_eq!(lease(9).await, [], "all are somebody's");
    leased.sort_by_key(|request| request.id);
    for request in &mut made {
        request.attempts = 1;
    }
    made.sort_by_key(|request| request.id);
    assert_eq!(leased, made);
    // One is answered, one could not be, one is forgotten by a worker that died.
    requests.finish_request(&leased[0]).await.unwrap();
    requests.retry_request(&leased[1]).await.unwrap();
    stage.test_env.advance_leases(TimeDelta::seconds(60));
    let again = lease(9).await;
    assert!(again.iter().any(|request| request.id == leased[2].id));
    assert!(again.iter().all(|request| request.id != leased[0].id));
    assert!(again.iter().all(|request| request.attempts == 2));
    // Whoever has lost their lease ends nothing, and gives nothing back.
    requests.finish_request(&leased[2]).await.unwrap();
    requests.retry_request(&leased[2]).await.unwrap();
    stage.test_env.advance_leases(TimeDelta::days(1));
    let ids = |requests: &[ProofRequest]| -> Vec<_> {
        let mut ids: Vec<_> = requests.iter().map(|request| request.id).collect();
        ids.sort_unstable();
        ids
    };
    let last = lease(9).await;
    assert_eq!(ids(&last), ids(&leased[1..]));
}

fn proof<S: Subject>(stage: &Stage<S>, user: UserId, purpose: ProofPurpose) -> ProofRow {
    let now = stage.env().now();
    ProofRow {
        id: stage.id(),
        purpose,
        user,
        secret_hash: "hash".to_owned(),
        created_at: now,
        expires_at: now + TimeDelta::hours(1),
    }
}

/// Two within the hour, one of them within ten minutes, are enough.
fn pace(now: DateTime<Utc>) -> ProofPace {
    ProofPace {
        at_most: 2,
        since: now - TimeDelta::hours(1),
        newest_since: now - TimeDelta::minutes(10),
    }
}

/// Who has proofs enough gets no more for the same purpose; for another, and others, it is as before.
pub async fn proofs_are_made_at_a_pace<S: Subject>(stage: &Stage<S>) {
    let ana = stranger(stage, "ana@example.com").await;
    let eve = stranger(stage, "eve@example.com").await;
    let (reset, verify) = (ProofPurpose::PasswordReset, ProofPurpose::EmailVerification);
    let make = async |user: &User, purpose| {
        let pace = pace(stage.env().now());
        let proof = proof(stage, user.id, purpose);
        let proofs = stage.store.installation();
        let made = proofs.insert_proof(&proof, pace).await.unwrap();
        let found = proofs.proof(proof.id).await.unwrap();
        assert_eq!(found, made.then_some(proof));
        made
    };
    assert!(make(&ana, reset).await && make(&ana, reset).await);
    assert!(!make(&ana, reset).await);
    assert!(make(&ana, verify).await && make(&eve, reset).await);
    // What was made ten minutes ago is not newer than that.
    stage
        .test_env
        .advance(TimeDelta::minutes(10) - TimeDelta::seconds(1));
    assert!(!make(&ana, reset).await);
    stage.test_env.advance(TimeDelta::seconds(1));
    assert!(make(&ana, reset).await, "one each time");
    assert!(!make(&ana, reset).await);
    stage.test_env.advance(TimeDelta::hours(1));
    assert!(make(&ana, reset).await && make(&ana, reset).await);
}

/// A spent proof takes the account's others with it, and what it proves stands; one alone gets past.
pub async fn a_proof_is_spent_once<S: Subject>(stage: &Stage<S>) {
    let ana = stranger(stage, "ana@example.com").await;
    let eve = stranger(stage, "eve@example.com").await;
    let (reset, verify) = (ProofPurpose::PasswordReset, ProofPurpose::EmailVerification);
    let proofs = stage.store.installation();
    let make = async |user: &User, purpose| {
        let row = proof(stage, user.id, purpose);
        let made = proofs.insert_proof(&row, pace(stage.env().now())).await;
        assert!(made.unwrap());
        row
    };
    let is_open = async |proof: &ProofRow| proofs.proof(proof.id).await.unwrap().is_some();
    let verified = [make(&ana, verify).await, make(&ana, verify).await];
    let resets = [make(&ana, reset).await, make(&ana, reset).await];
    let eves = make(&eve, reset).await;
    let at = stage.env().now();
    let spent = proofs.spend_on_verification(&verified[0], at).await;
    assert!(spent.unwrap());
    assert!(!is_open(&verified[0]).await && !is_open(&verified[1]).await);
    assert!(is_open(&resets[0]).await, "another purpose");
    let row = read_user(stage, ana.id).await.unwrap();
    assert_eq!((row.email_verified_at, row.session_epoch), (Some(at), 0));
    let again = proofs.spend_on_verification(&verified[0], at).await;
    assert!(!again.unwrap());

    stage.test_env.advance(TimeDelta::minutes(1));
    let later = stage.env().now();
    let hash = PasswordHash::from_stored("new".to_owned());
    let pending = make(&ana, verify).await;
    let spent = proofs.spend_on_password(&resets[1], &hash, later).await;
    assert!(spent.unwrap());
    for gone in [&resets[0], &resets[1], &pending] {
        assert!(!is_open(gone).await);
    }
    assert!(is_open(&eves).await);
    let row = read_user(stage, ana.id).await.unwrap();
    assert_eq!((row.password_hash, row.session_epoch), (hash, 1));
    assert_eq!(row.email_verified_at, Some(at), "the first time stays");
    let other = PasswordHash::from_stored("newer".to_owned());
    let late = proofs.spend_on_password(&resets[0], &other, later).await;
    assert!(!late.unwrap());
    assert_eq!(read_user(stage, ana.id).await.unwrap().session_epoch, 1);

    // A reset proves the address as well; and whoever changes their password has no open reset left.
    let spent = proofs.spend_on_password(&eves, &other, later).await;
    assert!(spent.unwrap());
    let row = read_user(stage, eve.id).await.unwrap();
    assert_eq!(row.email_verified_at, Some(later));
    let (reset, verification) = (make(&eve, reset).await, make(&eve, verify).await);
    let mut tx = stage.begin().await;
    assert_eq!(tx.bump_session_epoch(eve.id).await.unwrap(), 2);
    tx.commit().await.unwrap();
    assert!(!is_open(&reset).await && is_open(&verification).await);
}
