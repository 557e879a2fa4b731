//! From a credential to a scope.

use chrono::TimeDelta;
use rawdrive_identity::ports::WorkspaceStatus;
use rawdrive_identity::{
    ApiKeyName, Caller, IdentityError, NewApiKey, NotAdmitted, Scopes, authenticate, create_api_key,
};
use rawdrive_tenancy_core::id::WorkspaceId;
use rawdrive_tenancy_core::{Actor, Commit as _, Role};
use secrecy::ExposeSecret as _;

use crate::memory::{World, pepper};

impl World {
    async fn caller(&self, credential: &str) -> Result<Caller, IdentityError> {
        let pepper = pepper();
        authenticate(&self.store, &self.issuer, (&self.env, &pepper), credential).await
    }

    async fn key(&self, workspace: WorkspaceId, role: Role) -> String {
        self.key_for(workspace, role, Scopes::all()).await
    }

    async fn key_for(&self, workspace: WorkspaceId, role: Role, scopes: Scopes) -> String {
        let maker = self.member(workspace, Role::Owner).await;
        let mut tx = self.begin(workspace).await;
        let new = NewApiKey {
            name: ApiKeyName::parse("Importer").expect("a name"),
            role,
            scopes,
            expires_at: None,
        };
        let made = create_api_key(&mut tx, &self.env, &pepper(), maker, new).await;
        let (_, secret) = made.expect("a key");
        tx.commit().await.expect("committed");
        secret.expose_secret().to_owned()
    }

    async fn set_status(&self, workspace: WorkspaceId, status: WorkspaceStatus) {
        let set = self.store.edit_identity(|rows| {
            let row = rows.workspaces.get_mut(&workspace);
            row.expect("the workspace").status = status;
        });
        set.await;
    }
}

#[tokio::test]
async fn a_person_and_a_program_act_in_their_own_names() {
    let world = World::new().await;
    let ana = world.sign_up("ana@example.com").await;
    let here = ana.workspace.workspace;
    let token = ana.tokens.access.expose_secret();
    let person = world.caller(token).await.unwrap();
    assert!(matches!(person, Caller::Person(_)));
    assert_eq!(person.role(), Role::Owner);
    let scope = person.admit(Role::Owner).unwrap();
    assert_eq!(scope.workspace(), here);
    assert_eq!(scope.actor(), Actor::User(ana.person.id));

    let key = world.key(here, Role::Admin).await;
    let program = world.caller(&key).await.unwrap();
    let Caller::Program(proven) = program.clone() else {
        panic!("{program:?}")
    };
    let scope = program.admit(Role::Member).unwrap();
    assert_eq!(scope.workspace(), here);
    assert_eq!(scope.actor(), Actor::Key(proven.grant.key()));
}

#[tokio::test]
async fn a_key_for_some_things_is_let_in_for_those_alone() {
    let world = World::new().await;
    let here = world.sign_up("ana@example.com").await.workspace.workspace;
    let scopes = Scopes::only(["contracts:read".to_owned()]);
    let key = world.key_for(here, Role::Admin, scopes).await;
    let program = world.caller(&key).await.unwrap();
    assert_eq!(program.admit(Role::Member), Err(NotAdmitted::OutOfScope));
    let other = program.admit_for(Role::Member, "contracts:write");
    assert_eq!(other, Err(NotAdmitted::OutOfScope));
    let scope = program.admit_for(Role::Member, "contracts:read").unwrap();
    assert_eq!(scope.workspace(), here);
    let whole = world.caller(&world.key(here, Role::Member).await).await;
    assert!(
        whole
            .unwrap()
            .admit_for(Role::Member, "contracts:write")
            .is_ok()
    );
}

#[tokio::test]
async fn a_role_reaches_what_asks_for_no_more() {
    let world = World::new().await;
    let here = world.sign_up("ana@example.com").await.workspace.workspace;
    let key = world.key(here, Role::Admin).await;
    let program = world.caller(&key).await.unwrap();
    for (least, admitted) in [
        (Role::Member, true),
        (Role::Admin, true),
        (Role::Owner, false),
    ] {
        let refused = NotAdmitted::Forbidden { required: least };
        for admit in [program.admit(least), program.admit_also_inactive(least)] {
            assert_eq!(admit.is_ok(), admitted, "{least}");
            assert!(admitted || admit == Err(refused));
        }
    }
    let refused = program.admit(Role::Owner).unwrap_err();
    assert_eq!(refused.to_string(), "this needs the role owner");
}

#[tokio::test]
async fn a_workspace_that_is_not_active_is_only_left_or_restored() {
    let world = World::new().await;
    let ana = world.sign_up("ana@example.com").await;
    let here = ana.workspace.workspace;
    let token = ana.tokens.access.expose_secret();
    let key = world.key(here, Role::Owner).await;
    for status in [WorkspaceStatus::Suspended, WorkspaceStatus::Deleted] {
        world.set_status(here, status).await;
        for credential in [token, &key] {
            let caller = world.caller(credential).await.unwrap();
            assert_eq!(caller.workspace_status(), status);
            assert_eq!(
                caller.admit(Role::Member),
                Err(NotAdmitted::WorkspaceInactive)
            );
            assert!(caller.admit_also_inactive(Role::Owner).is_ok());
        }
    }
}

#[tokio::test]
async fn what_does_not_hold_is_one_answer() {
    let world = World::new().await;
    let ana = world.sign_up("ana@example.com").await;
    let here = ana.workspace.workspace;
    let token = ana.tokens.access.expose_secret().to_owned();
    let key = world.key(here, Role::Member).await;
    let altered = format!("{}0", &key[..key.len() - 1]);
    for wrong in ["", "rd_", "eyJ", "Bearer", altered.as_str(), &token[1..]] {
        let refused = world.caller(wrong).await;
        assert!(
            matches!(refused, Err(IdentityError::Unauthenticated)),
            "{wrong}: {refused:?}"
        );
    }
    // Who is removed is out at once, and a token ends by itself.
    world.set_membership(here, ana.person.id, None).await;
    assert!(world.caller(&token).await.is_err());
    world
        .set_membership(here, ana.person.id, Some(Role::Member))
        .await;
    assert_eq!(world.caller(&token).await.unwrap().role(), Role::Member);
    world.clock.advance(TimeDelta::hours(1));
    assert!(world.caller(&token).await.is_err());
}
