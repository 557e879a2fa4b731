use chrono::TimeDelta;
use rawdrive_identity::{
    KeyError, Keyring, MasterKey, MasterKeyTooShort, ROTATION_OVERLAP_SECONDS, SealedKey,
    SigningKey, TokenError, load_keyring, rotate_keys,
};
use rawdrive_tenancy_core::Env;
use secrecy::ExposeSecret;

use crate::memory::{World, master};

#[test]
fn a_sealed_key_opens_only_whole_and_under_its_own_secret() {
    let env = Env::system();
    let row = SigningKey::generate(&env).seal(&master(), &env);
    assert_eq!(SigningKey::open(&row, &master()).unwrap().kid(), row.kid);

    let other = MasterKey::new("thirty-two bytes of something else").unwrap();
    let refused = |row: &SealedKey, master: &MasterKey| {
        matches!(
            SigningKey::open(row, master),
            Err(KeyError::Unsealable { .. })
        )
    };
    assert!(refused(&row, &other));
    for i in 0..row.sealed.len() {
        let mut altered = row.clone();
        altered.sealed[i] ^= 1;
        assert!(refused(&altered, &master()), "byte {i}");
        altered.sealed.truncate(i);
        assert!(refused(&altered, &master()), "cut at {i}");
    }
    let mut renamed = row.clone();
    renamed.kid = "0".repeat(32);
    assert!(refused(&renamed, &master()), "the name is bound");
    let mut swapped = row.clone();
    swapped.public[0] ^= 1;
    assert!(
        refused(&swapped, &master()),
        "the public half is derived again"
    );
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    let env = Env::system();
    let master = MasterKey::new(&"s3cr3t".repeat(6)).unwrap();
    let key = SigningKey::generate(&env);
    assert_eq!(format!("{master:?}"), "MasterKey(…)");
    assert!(!format!("{key:?}").contains("seed"));
    assert_eq!(MasterKey::new("short").unwrap_err(), MasterKeyTooShort);
}

#[test]
fn each_purpose_has_its_own_key() {
    let master = master();
    assert_eq!(master.derive("cursors"), master.derive("cursors"));
    assert_ne!(master.derive("cursors"), master.derive("signing"));
    let other = MasterKey::new("thirty-two bytes of something else").unwrap();
    assert_ne!(master.derive("cursors"), other.derive("cursors"));
}

#[tokio::test]
async fn the_first_start_makes_one_key_and_the_next_finds_it() {
    let world = World::new().await;
    let again = load_keyring(&world.store, &world.env, &master())
        .await
        .unwrap();
    assert_eq!(again.jwks(world.env.now()), world.issuer.jwks(&world.env));
    assert_eq!(world.store.identity().signing_keys.len(), 1);
    let wrong = MasterKey::new("thirty-two bytes of something else").unwrap();
    assert!(matches!(
        load_keyring(&world.store, &world.env, &wrong).await,
        Err(KeyError::Unsealable { .. })
    ));
    assert!(matches!(Keyring::new(Vec::new()), Err(KeyError::None)));
}

#[tokio::test]
async fn a_rotation_overlaps_and_every_token_lives_to_its_own_end() {
    let world = World::new().await;
    let (user, workspace, session) = (world.env.id(), world.env.id(), world.env.id());
    let kid_of =
        |jwks: serde_json::Value, i: usize| jwks["keys"][i]["kid"].as_str().unwrap().to_owned();
    let jwk = world.issuer.jwks(&world.env)["keys"][0].clone();
    let members: Vec<&String> = jwk.as_object().unwrap().keys().collect();
    assert_eq!(members, ["alg", "crv", "kid", "kty", "use", "x"]);
    assert_eq!(jwk["x"].as_str().unwrap().len(), 43);
    let old_kid = kid_of(world.issuer.jwks(&world.env), 0);

    world.clock.advance(TimeDelta::seconds(1));
    let new = rotate_keys(&world.store, &world.env, &master())
        .await
        .unwrap();
    let reload = async || {
        world.issuer.replace_keys(
            load_keyring(&world.store, &world.env, &master())
                .await
                .unwrap(),
        );
    };
    reload().await;
    let issue = || world.issuer.issue(&world.env, user, workspace, session).0;
    let kid = |token: &secrecy::SecretString| {
        jsonwebtoken::decode_header(token.expose_secret())
            .unwrap()
            .kid
            .unwrap()
    };

    world
        .clock
        .advance(TimeDelta::seconds(ROTATION_OVERLAP_SECONDS - 1));
    let last = issue();
    assert_eq!(
        kid(&last),
        old_kid,
        "the successor may not have reached every server yet"
    );
    world.clock.advance(TimeDelta::seconds(1));
    assert_eq!(kid(&issue()), new.kid);
    assert_eq!(
        world.issuer.jwks(&world.env)["keys"]
            .as_array()
            .unwrap()
            .len(),
        2
    );

    world.clock.advance(TimeDelta::seconds(898));
    assert!(
        world
            .issuer
            .verify(&world.env, last.expose_secret())
            .is_ok(),
        "its last token lives on"
    );
    world.clock.advance(TimeDelta::seconds(10));
    assert_eq!(
        world.issuer.verify(&world.env, last.expose_secret()),
        Err(TokenError::UnknownKey)
    );
    assert_eq!(kid_of(world.issuer.jwks(&world.env), 0), new.kid);
    assert!(
        world.issuer.jwks(&world.env)["keys"][1].is_null(),
        "the JWKS names it no more"
    );
}

#[tokio::test]
async fn a_new_key_waits_for_its_turn_also_when_the_clock_stood_still_or_was_set_back() {
    for step in [TimeDelta::zero(), TimeDelta::seconds(-60)] {
        // Of two ids made at one time either may be the lesser: often enough shows both.
        for _ in 0..16 {
            let world = World::new().await;
            let old = world.issuer.jwks(&world.env)["keys"][0]["kid"].clone();
            world.clock.advance(step);
            let new = rotate_keys(&world.store, &world.env, &master())
                .await
                .unwrap();
            let keyring = load_keyring(&world.store, &world.env, &master())
                .await
                .unwrap();
            world.issuer.replace_keys(keyring);
            let env = &world.env;
            let issue = || {
                let (user, workspace, session) = (env.id(), env.id(), env.id());
                let token = world.issuer.issue(env, user, workspace, session).0;
                let head = jsonwebtoken::decode_header(token.expose_secret()).unwrap();
                head.kid.unwrap()
            };
            assert_eq!(issue(), old, "{step}");
            world
                .clock
                .advance(TimeDelta::seconds(ROTATION_OVERLAP_SECONDS));
            assert_eq!(issue(), new.kid, "{step}");
        }
    }
}
