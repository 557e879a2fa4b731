use rawdrive_tenancy_core::id::{ApiKeyId, SessionId, TypedId, UserId, WorkspaceId};
use rawdrive_tenancy_core::{Actor, Guest, Role, ShortName, SystemReason, WorkspaceScope};

rawdrive_tenancy_core::typed_id! {
    /// A visitor.
    VisitorId = "vis";
}

fn id<T: TypedId>(n: u8) -> T {
    let text = format!("{}_{n:032x}", T::PREFIX);
    text.parse().expect("an id")
}

#[test]
fn roles_are_ordered_by_what_they_may_do() {
    assert!(Role::Member < Role::Admin && Role::Admin < Role::Owner);
    for (role, name) in [
        (Role::Member, "member"),
        (Role::Admin, "admin"),
        (Role::Owner, "owner"),
    ] {
        assert_eq!((role.as_str(), role.to_string().as_str()), (name, name));
        assert_eq!(name.parse(), Ok(role));
    }
    let unknown = "root".parse::<Role>().unwrap_err();
    assert_eq!(unknown.to_string(), "expected owner, admin or member");
}

#[test]
fn whoever_acts_has_one_name() {
    let guest = Guest::of(id::<VisitorId>(3));
    for (actor, text) in [
        (Actor::User(id(1)), "usr_00000000000000000000000000000001"),
        (Actor::Key(id(2)), "key_00000000000000000000000000000002"),
        (Actor::Guest(guest), "vis_00000000000000000000000000000003"),
        (Actor::System(SystemReason::DOCTOR), "system:doctor"),
    ] {
        assert_eq!(actor.to_string(), text);
        assert_eq!(text.parse(), Ok(actor));
    }
    assert_eq!(guest.id(), Some(id::<VisitorId>(3)));
    assert_eq!(guest.id::<UserId>(), None);
    assert_eq!(SystemReason::JOB.to_string(), "job");
    let name = "nightly".parse::<ShortName>().unwrap();
    assert_eq!(format!("{name:?} {name}"), "\"nightly\" nightly");
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the test looks at what the scope says, and opens nothing with it"
)]
fn a_scope_is_a_workspace_and_who_acts_there() {
    let (here, actor) = (id::<WorkspaceId>(1), Actor::User(id(2)));
    let scope = WorkspaceScope::trusted(here, actor);
    assert_eq!((scope.workspace(), scope.actor()), (here, actor));
}

#[test]
fn ids_of_the_core_have_prefixes_of_their_own() {
    let prefixes = [
        WorkspaceId::PREFIX,
        UserId::PREFIX,
        SessionId::PREFIX,
        ApiKeyId::PREFIX,
    ];
    assert_eq!(prefixes, ["ws", "usr", "ses", "key"]);
    let user: UserId = id(7);
    let text = serde_json::to_string(&user).unwrap();
    assert_eq!(text, "\"usr_00000000000000000000000000000007\"");
    assert_eq!(serde_json::from_str::<UserId>(&text).unwrap(), user);
    assert!(serde_json::from_str::<SessionId>(&text).is_err());
    let error = "usr_7".parse::<UserId>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "expected `usr_` and 32 lower-case hex digits"
    );
}
