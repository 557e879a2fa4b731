//! Whatever people do to a team, in whichever order: seats are what members and open invitations hold, no
//! invitation is made beyond the limit in force, and an owner stays.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test are test code, which clippy knows of functions marked as tests alone"
)]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use rawdrive_identity::{
    AcceptError, Acceptance, ClaimedPassword, Currency, EmailAddress, HashCost, HashWaiting,
    InvitationToken, Keyring, NewAccount, Password, PasswordHash, PasswordHasher, PersonName,
    SigningKey, TeamError, TokenIssuer, TokenPepper, WorkspaceName, accept, change_role, invite,
    leave, prove_acceptance, remove_member, revoke_invitation, role_to_change, sign_up,
    sweep_invitations,
};
use rawdrive_plans::{Catalogue, Limit, Metric, PlansTx, Setting, Slug, override_setting};
use rawdrive_store::{Release, Store, WriteTx};
use rawdrive_tenancy_core::ambient::{ManualClock, SystemEntropy};
use rawdrive_tenancy_core::id::UserId;
use rawdrive_tenancy_core::page::PageRequest;
use rawdrive_tenancy_core::{Ambient, Commit as _, Role, SystemReason, WorkspaceScope};
use rawdrive_usage::{Charge, QuotaKey, UsageTx, add};
use tokio::runtime::Runtime;

#[macro_use]
mod support;

use support::{Database, Engine};

const PEOPLE: usize = 5;
const PASSWORD: &str = "correct horse battery staple";
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const WAITING: HashWaiting = HashWaiting {
    per_network: 64,
    in_total: 64,
};

#[derive(Debug, Clone, Copy)]
enum Step {
    Invite(usize, Role, Role),
    Accept(usize),
    Revoke(usize, Role),
    Remove(usize, Role),
    Leave(usize),
    SetRole(usize, Role, Role),
    Limit(u64),
    Days(i64),
    Sweep,
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Member), Just(Role::Admin), Just(Role::Owner)]
}

fn step() -> impl Strategy<Value = Step> {
    let person = 0..PEOPLE;
    prop_oneof![
        4 => (person.clone(), role(), role()).prop_map(|(p, r, a)| Step::Invite(p, r, a)),
        4 => person.clone().prop_map(Step::Accept),
        1 => (person.clone(), role()).prop_map(|(p, a)| Step::Revoke(p, a)),
        2 => (person.clone(), role()).prop_map(|(p, a)| Step::Remove(p, a)),
        1 => person.clone().prop_map(Step::Leave),
        2 => (person, role(), role()).prop_map(|(p, r, a)| Step::SetRole(p, r, a)),
        1 => (0_u64..6).prop_map(Step::Limit),
        1 => (1_i64..9).prop_map(Step::Days),
        1 => Just(Step::Sweep),
    ]
}

#[derive(Debug)]
struct Invited {
    token: InvitationToken,
    role: Role,
    until: DateTime<Utc>,
}

/// What the team must be, kept apart from the database.
#[derive(Debug, Default)]
struct Model {
    members: BTreeMap<usize, Role>,
    users: BTreeMap<usize, UserId>,
    /// Those that hold a seat: expired ones do until they are swept.
    invited: BTreeMap<usize, Invited>,
    limit: u64,
}

impl Model {
    fn owners(&self) -> usize {
        self.members.values().filter(|r| **r == Role::Owner).count()
    }

    fn last_owner(&self, person: usize) -> bool {
        self.members.get(&person) == Some(&Role::Owner) && self.owners() == 1
    }

    fn sweep(&mut self, now: DateTime<Utc>) {
        self.invited.retain(|_, invited| now < invited.until);
    }

    fn seats(&self) -> u64 {
        (self.members.len() + self.invited.len()) as u64
    }
}

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

struct House {
    _database: Database,
    store: Store,
    clock: Arc<ManualClock>,
    scope: WorkspaceScope,
    issuer: TokenIssuer,
    hasher: PasswordHasher,
    pepper: TokenPepper,
}

fn email(person: usize) -> EmailAddress {
    EmailAddress::parse(&format!("p{person}@example.com")).unwrap()
}

fn name(person: usize) -> PersonName {
    PersonName::parse(&format!("Person {person}")).unwrap()
}

impl House {
    async fn open(engine: Engine, model: &mut Model) -> Self {
        let database = Database::new(engine).await;
        let clock = Arc::new(ManualClock::at("2027-01-31T12:00:00Z".parse().unwrap()));
        let ambient = Ambient::new(clock.clone(), clock.clone(), Arc::new(SystemEntropy));
        let catalogue = Catalogue::built_in();
        let store = database.open(ambient.clone(), &catalogue).await;
        let keyring = Keyring::new(vec![SigningKey::generate(&ambient)]).unwrap();
        #[expect(
            clippy::disallowed_methods,
            reason = "a test opens a workspace of its own"
        )]
        let scope = WorkspaceScope::for_system(ambient.id(), SystemReason::SignUp);
        let house = Self {
            _database: database,
            store,
            clock,
            scope,
            issuer: TokenIssuer::new(keyring, "https://example.com".to_owned()),
            hasher: PasswordHasher::new(HashCost::LEAST, 4, WAITING).unwrap(),
            pepper: TokenPepper::new(&[7; 32]),
        };
        let account = NewAccount {
            email: email(0),
            name: name(0),
            workspace_name: WorkspaceName::parse("Studio").unwrap(),
            currency: Currency::parse("usd").unwrap(),
        };
        let password = Password::parse(PASSWORD).unwrap();
        let hash: PasswordHash = house
            .hasher
            .hash(&password, &ambient, CLIENT)
            .await
            .unwrap();
        let mut tx = house.begin().await;
        let signed = sign_up(&mut tx, &ambient, &house.issuer, account, hash)
            .await
            .unwrap();
        let plan = catalogue
            .newest(&"professional".parse::<Slug>().unwrap())
            .unwrap();
        tx.insert_standing(&plan).await.unwrap();
        let seat = Charge {
            key: QuotaKey::level(Metric::team_members()),
            amount: 1,
        };
        let line = add(&mut tx, &ambient, seat, signed.person.id.to_string());
        let line = line.await.unwrap();
        tx.append(&[line]).await.unwrap();
        tx.commit().await.unwrap();
        model.members.insert(0, Role::Owner);
        model.users.insert(0, signed.person.id);
        model.limit = 10;
        house
    }

    async fn begin(&self) -> WriteTx {
        self.store
            .begin_despite_read_only(&self.scope, Release::Identity)
            .await
            .unwrap()
    }

    fn ambient(&self) -> &Ambient {
        self.store.ambient()
    }

    /// The person's id, or one that nobody has.
    fn user(&self, model: &Model, person: usize) -> UserId {
        let user = model.users.get(&person).copied();
        user.unwrap_or_else(|| self.ambient().id())
    }

    async fn act(&self, model: &mut Model, step: Step) {
        let ambient = self.ambient();
        let now = ambient.now();
        match step {
            Step::Invite(person, role, acting) => {
                let mut tx = self.begin().await;
                let (id, to) = (ambient.id(), email(person));
                let made = invite(&mut tx, ambient, &self.pepper, acting, id, to, role).await;
                if acting < role_to_change(None, Some(role)) {
                    assert!(matches!(made, Err(TeamError::Forbidden { .. })), "{made:?}");
                } else if model.members.contains_key(&person) {
                    assert!(matches!(made, Err(TeamError::AlreadyMember)), "{made:?}");
                } else {
                    let mut swept = model.invited.iter().filter(|(_, i)| now < i.until);
                    if swept.any(|(invited, _)| *invited == person) {
                        assert!(matches!(made, Err(TeamError::AlreadyInvited)), "{made:?}");
                        return;
                    }
                    let open = model.invited.values().filter(|i| now < i.until).count();
                    let fits = ((model.members.len() + open) as u64) < model.limit;
                    if !fits {
                        assert!(matches!(made, Err(TeamError::Exceeded(_))), "{made:?}");
                        return;
                    }
                    let (invitation, token) = made.unwrap();
                    tx.commit().await.unwrap();
                    model.sweep(now);
                    let until = invitation.expires_at;
                    model.invited.insert(person, Invited { token, role, until });
                    assert!(model.seats() <= model.limit);
                }
            }
            Step::Accept(person) => self.accept(model, person).await,
            Step::Revoke(person, acting) => {
                let Some(invited) = model.invited.get(&person) else {
                    return;
                };
                let mut tx = self.begin().await;
                let id = invited.token.id();
                let revoked = revoke_invitation(&mut tx, ambient, acting, id).await;
                if acting < role_to_change(None, Some(invited.role)) {
                    assert!(matches!(revoked, Err(TeamError::Forbidden { .. })));
                } else {
                    revoked.unwrap();
                    tx.commit().await.unwrap();
                    model.invited.remove(&person);
                }
            }
            Step::Remove(person, acting) => {
                let user = self.user(model, person);
                let mut tx = self.begin().await;
                let removed = remove_member(&mut tx, ambient, acting, user).await;
                match model.members.get(&person) {
                    None => assert!(matches!(removed, Err(TeamError::NotFound))),
                    Some(role) if acting < role_to_change(Some(*role), None) => {
                        assert!(matches!(removed, Err(TeamError::Forbidden { .. })));
                    }
                    Some(_) => self.ended(model, person, removed, tx).await,
                }
            }
            Step::Leave(person) => {
                let user = self.user(model, person);
                let mut tx = self.begin().await;
                let left = leave(&mut tx, ambient, user).await;
                if model.members.contains_key(&person) {
                    self.ended(model, person, left, tx).await;
                } else {
                    assert!(matches!(left, Err(TeamError::Unauthenticated)));
                }
            }
            Step::SetRole(person, role, acting) => {
                let user = self.user(model, person);
                let mut tx = self.begin().await;
                let changed = change_role(&mut tx, acting, user, role).await;
                let Some(from) = model.members.get(&person).copied() else {
                    assert!(matches!(changed, Err(TeamError::NotFound)));
                    return;
                };
                if acting < role_to_change(Some(from), Some(role)) {
                    assert!(matches!(changed, Err(TeamError::Forbidden { .. })));
                } else if from != role && model.last_owner(person) {
                    assert!(matches!(changed, Err(TeamError::LastOwner)));
                } else {
                    assert_eq!(changed.unwrap().role, role);
                    tx.commit().await.unwrap();
                    model.members.insert(person, role);
                }
            }
            Step::Limit(limit) => {
                let mut tx = self.begin().await;
                let setting = Setting::Limit(Metric::team_members(), Limit::AtMost(limit));
                let catalogue = Catalogue::built_in();
                override_setting(&mut tx, ambient, &catalogue, setting, None, "a test")
                    .await
                    .unwrap();
                tx.commit().await.unwrap();
                model.limit = limit;
            }
            Step::Days(days) => self.clock.advance(TimeDelta::days(days)),
            Step::Sweep => {
                let mut tx = self.begin().await;
                sweep_invitations(&mut tx, ambient).await.unwrap();
                tx.commit().await.unwrap();
                model.sweep(now);
            }
        }
    }

    async fn accept(&self, model: &mut Model, person: usize) {
        let ambient = self.ambient();
        let Some(invited) = model.invited.get(&person) else {
            return;
        };
        let acceptance = Acceptance {
            token: invited.token.clone(),
            name: Some(name(person)),
            new_password: Some(Password::parse(PASSWORD).unwrap()),
            claimed_password: Some(ClaimedPassword::parse(PASSWORD).unwrap()),
            session: None,
            client: CLIENT,
        };
        let (store, hasher, pepper) = (&self.store, &self.hasher, &self.pepper);
        let proved = prove_acceptance(store, store, hasher, ambient, pepper, acceptance).await;
        if ambient.now() >= invited.until {
            assert!(matches!(proved, Err(AcceptError::NoInvitation)));
            return;
        }
        let mut tx = self.begin().await;
        let accepted = accept(&mut tx, ambient, &self.issuer, proved.unwrap()).await;
        if model.members.len() as u64 >= model.limit {
            let frozen = matches!(accepted, Err(AcceptError::Team(TeamError::Exceeded(_))));
            assert!(frozen, "{accepted:?}");
            return;
        }
        let signed = accepted.unwrap();
        tx.commit().await.unwrap();
        model.members.insert(person, invited.role);
        model.users.insert(person, signed.person.id);
        model.invited.remove(&person);
    }

    async fn ended(
        &self,
        model: &mut Model,
        person: usize,
        outcome: Result<(), TeamError>,
        tx: WriteTx,
    ) {
        if model.last_owner(person) {
            assert!(matches!(outcome, Err(TeamError::LastOwner)));
        } else {
            outcome.unwrap();
            tx.commit().await.unwrap();
            model.members.remove(&person);
        }
    }

    async fn check(&self, model: &Model) {
        let reader = self.store.read(&self.scope);
        let key = QuotaKey::level(Metric::team_members());
        let quota = reader.quota(&key).await.unwrap();
        assert_eq!(quota.used, model.members.len() as u64);
        assert_eq!(quota.reserved, model.invited.len() as u64);
        let everybody = PageRequest {
            limit: 200,
            after: None,
        };
        let members = reader.members(everybody).await.unwrap().items;
        let expected: BTreeMap<_, _> = model
            .members
            .iter()
            .map(|(person, role)| (model.users[person], *role))
            .collect();
        let found: BTreeMap<_, _> = members.iter().map(|m| (m.user, m.role)).collect();
        assert_eq!(found, expected);
        assert!(model.owners() >= 1);
    }
}

async fn live(engine: Engine, steps: Vec<Step>) {
    let mut model = Model::default();
    let house = House::open(engine, &mut model).await;
    for step in steps {
        house.act(&mut model, step).await;
        house.check(&model).await;
    }
    let snapshot = house.store.snapshot().await.unwrap();
    assert_eq!(snapshot.check(&house.scope).await.unwrap(), []);
    drop(snapshot);
    house.store.close().await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_team_is_what_its_history_makes_it(steps in prop::collection::vec(step(), 1..40)) {
        RUNTIME.block_on(live(Engine::Sqlite, steps));
    }

    #[test]
    fn a_team_is_what_its_history_makes_it_on_postgres(steps in prop::collection::vec(step(), 1..40)) {
        RUNTIME.block_on(live(Engine::Postgres, steps));
    }
}
