//! Whatever people do to a team, in whichever order: seats are what members and open invitations hold, no
//! invitation is made beyond the limit in force, an owner stays, and neither a key nor an invitation is ever worth
//! more than who answers for it is worth then.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test are test code, which clippy knows of functions marked as tests alone"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use rawdrive_identity::{
    AcceptError, Acceptance, ApiKeyError, ApiKeyList as _, ApiKeyName, ApiKeyRead as _, ApiKeyRow,
    ApiKeyToken, ClaimedPassword, Currency, EmailAddress, HashCost, HashWaiting, InvitationToken,
    Keyring, KeysOf, LeftBehind, NewAccount, NewApiKey, Password, PasswordHash, PasswordHasher,
    PersonName, Scopes, SigningKey, TeamError, TokenIssuer, TokenPepper, WorkspaceName, accept,
    change_role, create_api_key, invite, leave, prove_acceptance, prove_api_key, remove_member,
    revoke_api_key, revoke_invitation, role_to_change, sign_up, sweep_invitations,
};
use rawdrive_plans::{Limit, Metric, PlansTx, Setting, Slug, override_setting};
use rawdrive_store::{Release, Store, WriteTx};
use rawdrive_tenancy_core::env::{ManualClock, SystemEntropy};
use rawdrive_tenancy_core::id::{ApiKeyId, UserId};
use rawdrive_tenancy_core::page::PageRequest;
use rawdrive_tenancy_core::{Actor, Commit as _, Env, Role, SystemReason, WorkspaceScope};
use rawdrive_usage::{Charge, QuotaKey, add};
use secrecy::ExposeSecret as _;
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
    Invite(usize, Role, By),
    Accept(usize),
    Revoke(usize, By),
    Remove(usize, By, KeysOf),
    Leave(usize),
    SetRole(usize, Role, By),
    MakeKey(usize, Role),
    RevokeKey(usize),
    Limit(u64),
    Days(i64),
    Sweep,
}

/// Who acts: a person, or the newest key that the person answers for, if there is one.
#[derive(Debug, Clone, Copy)]
struct By {
    person: usize,
    by_key: bool,
}

fn by() -> impl Strategy<Value = By> {
    // Mostly the one who began the workspace, so that much of what is tried is allowed.
    let person = prop_oneof![3 => Just(0), 2 => 1..PEOPLE];
    (person, prop::bool::weighted(0.3)).prop_map(|(person, by_key)| By { person, by_key })
}

fn keys_of() -> impl Strategy<Value = KeysOf> {
    prop_oneof![Just(KeysOf::Revoked), Just(KeysOf::Kept)]
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Member), Just(Role::Admin), Just(Role::Owner)]
}

fn step() -> impl Strategy<Value = Step> {
    let person = 0..PEOPLE;
    prop_oneof![
        5 => (person.clone(), role(), by()).prop_map(|(p, r, a)| Step::Invite(p, r, a)),
        5 => person.clone().prop_map(Step::Accept),
        1 => (person.clone(), by()).prop_map(|(p, a)| Step::Revoke(p, a)),
        2 => (person.clone(), by(), keys_of()).prop_map(|(p, a, k)| Step::Remove(p, a, k)),
        1 => person.clone().prop_map(Step::Leave),
        3 => (person.clone(), role(), by()).prop_map(|(p, r, a)| Step::SetRole(p, r, a)),
        3 => (person, role()).prop_map(|(p, r)| Step::MakeKey(p, r)),
        1 => (0..8_usize).prop_map(Step::RevokeKey),
        1 => (0_u64..6).prop_map(Step::Limit),
        1 => (1_i64..9).prop_map(Step::Days),
        1 => Just(Step::Sweep),
    ]
}

#[derive(Debug)]
struct Invited {
    token: InvitationToken,
    role: Role,
    sponsor: usize,
    by_key: Option<ApiKeyId>,
    until: DateTime<Utc>,
}

#[derive(Debug)]
struct Key {
    token: ApiKeyToken,
    role: Role,
    /// Nobody when it is revoked.
    sponsor: Option<usize>,
}

/// What the team must be, kept apart from the database.
#[derive(Debug, Default)]
struct Model {
    members: BTreeMap<usize, Role>,
    users: BTreeMap<usize, UserId>,
    /// Those that hold a seat: expired ones do until they are swept.
    invited: BTreeMap<usize, Invited>,
    /// Every key that was ever made.
    keys: Vec<Key>,
    limit: u64,
}

/// Who acts, as the model sees them.
struct Acting {
    actor: Actor,
    /// What they may do; nothing where they are no member.
    role: Option<Role>,
    person: usize,
}

impl Model {
    fn owners(&self) -> usize {
        self.members.values().filter(|r| **r == Role::Owner).count()
    }

    fn last_owner(&self, person: usize) -> bool {
        self.members.get(&person) == Some(&Role::Owner) && self.owners() == 1
    }

    fn worth(&self, role: Role, sponsor: usize) -> Option<Role> {
        self.members.get(&sponsor).map(|now| role.min(*now))
    }

    fn acting(&self, env: &Env, by: By) -> Acting {
        let person = by.person;
        let key = self
            .keys
            .iter()
            .rev()
            .find(|key| key.sponsor == Some(person));
        match key.filter(|_| by.by_key) {
            Some(key) => Acting {
                actor: Actor::Key(key.token.id()),
                role: self.worth(key.role, person),
                person,
            },
            None => Acting {
                actor: Actor::User(self.users.get(&person).copied().unwrap_or(env.id())),
                role: self.members.get(&person).copied(),
                person,
            },
        }
    }

    /// The person is a member no more.
    fn ended(&mut self, person: usize, removed: bool, keeper: Option<usize>) {
        self.members.remove(&person);
        // Who leaves leaves their invitations, which are worth nothing.
        self.invited
            .retain(|_, invited| !removed || invited.sponsor != person);
        for key in &mut self.keys {
            if key.sponsor == Some(person) {
                key.sponsor = keeper;
            }
        }
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
        let env = Env::new(clock.clone(), clock.clone(), Arc::new(SystemEntropy));
        let catalogue = rawdrive_gallery::built_in_catalogue();
        let store = database.open(env.clone(), &catalogue).await;
        let keyring = Keyring::new(vec![SigningKey::generate(&env)]).unwrap();
        #[expect(
            clippy::disallowed_methods,
            reason = "a test opens a workspace of its own"
        )]
        let scope = WorkspaceScope::for_system(env.id(), SystemReason::SIGN_UP);
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
        let hash: PasswordHash = house.hasher.hash(&password, &env, CLIENT).await.unwrap();
        let mut tx = house.begin().await;
        let signed = sign_up(&mut tx, &env, &house.issuer, account, hash)
            .await
            .unwrap();
        let plan = catalogue
            .newest(&"professional".parse::<Slug>().unwrap())
            .unwrap();
        tx.insert_entitlements(&plan).await.unwrap();
        let seat = Charge {
            key: QuotaKey::level(Metric::team_members()),
            amount: 1,
        };
        add(&mut tx, &env, seat, signed.person.id.to_string())
            .await
            .unwrap();
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

    async fn begin_as(&self, actor: Actor) -> WriteTx {
        #[expect(
            clippy::disallowed_methods,
            reason = "a test says who acts, as the extractor does"
        )]
        let scope = self.scope.on_behalf_of(actor);
        self.store
            .begin_despite_read_only(&scope, Release::Identity)
            .await
            .unwrap()
    }

    fn env(&self) -> &Env {
        self.store.env()
    }

    /// The person's id, or one that nobody has.
    fn user(&self, model: &Model, person: usize) -> UserId {
        let user = model.users.get(&person).copied();
        user.unwrap_or_else(|| self.env().id())
    }

    async fn act(&self, model: &mut Model, step: Step) {
        let env = self.env();
        let now = env.now();
        match step {
            Step::Invite(person, role, by) => {
                let acting = model.acting(env, by);
                let mut tx = self.begin_as(acting.actor).await;
                let (id, to) = (env.id(), email(person));
                let made = invite(&mut tx, env, &self.pepper, id, to, role).await;
                if refused(&made, acting.role, role_to_change(None, Some(role))) {
                    return;
                }
                if model.members.contains_key(&person) {
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
                    let invited = Invited {
                        token,
                        role,
                        sponsor: acting.person,
                        by_key: match acting.actor {
                            Actor::Key(key) => Some(key),
                            _ => None,
                        },
                        until: invitation.expires_at,
                    };
                    model.invited.insert(person, invited);
                    assert!(model.seats() <= model.limit);
                }
            }
            Step::Accept(person) => self.accept(model, person).await,
            Step::Revoke(person, by) => {
                let Some(invited) = model.invited.get(&person) else {
                    return;
                };
                let acting = model.acting(env, by);
                let mut tx = self.begin_as(acting.actor).await;
                let id = invited.token.id();
                let revoked = revoke_invitation(&mut tx, env, id).await;
                let required = role_to_change(None, Some(invited.role));
                if !refused(&revoked, acting.role, required) {
                    revoked.unwrap();
                    tx.commit().await.unwrap();
                    model.invited.remove(&person);
                }
            }
            Step::Remove(person, by, keys) => {
                let user = self.user(model, person);
                let acting = model.acting(env, by);
                let mut tx = self.begin_as(acting.actor).await;
                let removed = remove_member(&mut tx, env, user, keys).await;
                let Some(role) = model.members.get(&person).copied() else {
                    let nobody = acting.role.is_none();
                    assert!(matches!(removed, Err(TeamError::Unauthenticated)) == nobody);
                    assert!(matches!(removed, Err(TeamError::NotFound)) != nobody);
                    return;
                };
                if refused(&removed, acting.role, role_to_change(Some(role), None)) {
                    return;
                }
                let keeper = (keys == KeysOf::Kept).then_some(acting.person);
                if keeper == Some(person) {
                    assert!(
                        matches!(removed, Err(TeamError::NobodyKeeps)),
                        "{removed:?}"
                    );
                    return;
                }
                self.ended(model, person, (true, keeper), removed, tx).await;
            }
            Step::Leave(person) => {
                let user = self.user(model, person);
                let mut tx = self.begin().await;
                let left = leave(&mut tx, env, user).await;
                if model.members.contains_key(&person) {
                    self.ended(model, person, (false, None), left, tx).await;
                } else {
                    assert!(matches!(left, Err(TeamError::Unauthenticated)));
                }
            }
            Step::SetRole(person, role, by) => {
                let user = self.user(model, person);
                let acting = model.acting(env, by);
                let mut tx = self.begin_as(acting.actor).await;
                let changed = change_role(&mut tx, user, role).await;
                let Some(from) = model.members.get(&person).copied() else {
                    let nobody = acting.role.is_none();
                    assert!(matches!(changed, Err(TeamError::Unauthenticated)) == nobody);
                    assert!(matches!(changed, Err(TeamError::NotFound)) != nobody);
                    return;
                };
                if refused(
                    &changed,
                    acting.role,
                    role_to_change(Some(from), Some(role)),
                ) {
                    return;
                }
                if from != role && model.last_owner(person) {
                    assert!(matches!(changed, Err(TeamError::LastOwner)));
                } else {
                    assert_eq!(changed.unwrap().role, role);
                    tx.commit().await.unwrap();
                    model.members.insert(person, role);
                }
            }
            Step::MakeKey(person, role) => {
                let maker = self.user(model, person);
                let new = NewApiKey {
                    name: ApiKeyName::parse("A key").unwrap(),
                    role,
                    scopes: Scopes::all(),
                    expires_at: None,
                };
                let mut tx = self.begin_as(Actor::User(maker)).await;
                let made = create_api_key(&mut tx, env, &self.pepper, maker, new).await;
                match model.members.get(&person) {
                    None => assert!(matches!(made, Err(ApiKeyError::Unauthenticated))),
                    Some(own) if role > *own => {
                        assert!(matches!(made, Err(ApiKeyError::AboveOwnRole { .. })));
                    }
                    Some(_) => {
                        let (_, secret) = made.unwrap();
                        tx.commit().await.unwrap();
                        let token = ApiKeyToken::parse(secret.expose_secret()).unwrap();
                        let sponsor = Some(person);
                        model.keys.push(Key {
                            token,
                            role,
                            sponsor,
                        });
                    }
                }
            }
            Step::RevokeKey(n) => {
                let Some(key) = model.keys.get_mut(n) else {
                    return;
                };
                let (id, there) = (key.token.id(), key.sponsor.take().is_some());
                let mut tx = self.begin().await;
                assert_eq!(revoke_api_key(&mut tx, env, id).await.unwrap(), there);
                tx.commit().await.unwrap();
                model
                    .invited
                    .retain(|_, invited| invited.by_key != Some(id));
            }
            Step::Limit(limit) => {
                let mut tx = self.begin().await;
                let setting = Setting::Limit(Metric::team_members(), Limit::AtMost(limit));
                let catalogue = rawdrive_gallery::built_in_catalogue();
                override_setting(&mut tx, env, &catalogue, setting, None, "a test")
                    .await
                    .unwrap();
                tx.commit().await.unwrap();
                model.limit = limit;
            }
            Step::Days(days) => self.clock.advance(TimeDelta::days(days)),
            Step::Sweep => {
                let mut tx = self.begin().await;
                sweep_invitations(&mut tx, env).await.unwrap();
                tx.commit().await.unwrap();
                model.sweep(now);
            }
        }
    }

    async fn accept(&self, model: &mut Model, person: usize) {
        let env = self.env();
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
        let proved = prove_acceptance(store, store, hasher, env, pepper, acceptance).await;
        let worth = model.worth(invited.role, invited.sponsor);
        let Some(role) = worth.filter(|_| env.now() < invited.until) else {
            assert!(matches!(proved, Err(AcceptError::NoInvitation)));
            return;
        };
        let mut tx = self.begin().await;
        let accepted = accept(&mut tx, env, &self.issuer, proved.unwrap()).await;
        if model.members.len() as u64 >= model.limit {
            let frozen = matches!(accepted, Err(AcceptError::Team(TeamError::Exceeded(_))));
            assert!(frozen, "{accepted:?}");
            return;
        }
        let signed = accepted.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(signed.workspace.role, role);
        model.members.insert(person, role);
        model.users.insert(person, signed.person.id);
        model.invited.remove(&person);
    }

    async fn ended(
        &self,
        model: &mut Model,
        person: usize,
        (removed, keeper): (bool, Option<usize>),
        outcome: Result<LeftBehind, TeamError>,
        tx: WriteTx,
    ) {
        if model.last_owner(person) {
            assert!(matches!(outcome, Err(TeamError::LastOwner)));
            return;
        }
        let left = outcome.unwrap();
        tx.commit().await.unwrap();
        let now = self.env().now();
        let open = |i: &&Invited| removed && i.sponsor == person && now < i.until;
        let open = model.invited.values().filter(open).count();
        let keys = model.keys.iter().filter(|key| key.sponsor == Some(person));
        // By their ids, of which those of one millisecond have no order of making.
        let keys = keys.map(|key| key.token.id()).collect::<BTreeSet<_>>();
        let named = |keys: &[ApiKeyRow]| keys.iter().map(|key| key.id).collect::<BTreeSet<_>>();
        let (revoked, kept) = match keeper {
            Some(_) => (BTreeSet::new(), keys),
            None => (keys, BTreeSet::new()),
        };
        assert_eq!(left.invitations.len(), open);
        assert_eq!(named(&left.api_keys), revoked);
        assert_eq!(named(&left.kept_api_keys), kept);
        model.ended(person, removed, keeper);
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
        for key in &model.keys {
            let found = self.store.presented_key(&key.token).await.unwrap();
            let proven = prove_api_key(self.env(), &self.pepper, &key.token, found);
            let worth = key
                .sponsor
                .and_then(|sponsor| model.worth(key.role, sponsor));
            assert_eq!(proven.ok().map(|proven| proven.grant.role()), worth);
        }
        let listed = reader.api_keys(everybody).await.unwrap().items;
        let listed: BTreeMap<_, _> = listed.iter().map(|l| (l.key.id, l.worth)).collect();
        let alive = model.keys.iter().filter_map(|key| {
            let worth = model.worth(key.role, key.sponsor?);
            Some((key.token.id(), worth))
        });
        assert_eq!(listed, alive.collect());
    }
}

/// Whether who acts may not, and was told so.
fn refused<T: std::fmt::Debug>(
    outcome: &Result<T, TeamError>,
    acting: Option<Role>,
    required: Role,
) -> bool {
    match acting {
        None => assert!(
            matches!(outcome, Err(TeamError::Unauthenticated)),
            "{outcome:?}"
        ),
        Some(role) if role < required => assert!(
            matches!(outcome, Err(TeamError::Forbidden { .. })),
            "{outcome:?}"
        ),
        Some(_) => return false,
    }
    true
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
    house.store.close().await;
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
