use std::sync::Arc;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::TimeDelta;
use proptest::prelude::*;
use rawdrive_identity::{AccessClaims, Keyring, RefreshToken, SigningKey, TokenError, TokenIssuer};
use rawdrive_tenancy_core::env::{Entropy, Env, ManualClock};
use secrecy::ExposeSecret;

use crate::memory::{ISSUER, start};

const SEED: u8 = 7;

/// Entropy that the forger knows, so that tokens can be signed with the very key of the installation.
struct Known;

impl Entropy for Known {
    fn fill(&self, buffer: &mut [u8]) {
        buffer.fill(SEED);
    }
}

struct Forge {
    clock: Arc<ManualClock>,
    env: Env,
    issuer: TokenIssuer,
    kid: String,
    key: Ed25519KeyPair,
}

impl Forge {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::at(start()));
        let env = Env::new(clock.clone(), clock.clone(), Arc::new(Known));
        let key = SigningKey::generate(&env);
        let kid = key.kid().to_owned();
        let issuer = TokenIssuer::new(Keyring::new(vec![key]).expect("a key"), ISSUER.into());
        let key = Ed25519KeyPair::from_seed_unchecked(&[SEED; 32]).expect("a seed");
        Self {
            clock,
            env,
            issuer,
            kid,
            key,
        }
    }

    fn verify(&self, token: &str) -> Result<AccessClaims, TokenError> {
        self.issuer.verify(&self.env, token)
    }

    fn header(&self) -> String {
        format!(r#"{{"alg":"EdDSA","typ":"at+jwt","kid":"{}"}}"#, self.kid)
    }

    /// The header with one thing replaced by another.
    fn header_with(&self, from: &str, to: &str) -> String {
        replaced(&self.header(), from, to)
    }

    fn claims(&self) -> String {
        let (now, end) = (start().timestamp(), start().timestamp() + 900);
        let digits = "01890000000070008000000000000001";
        format!(
            r#"{{"iss":"{ISSUER}","aud":"{ISSUER}","sub":"usr_{digits}","wid":"ws_{digits}","sid":"ses_{digits}","iat":{now},"nbf":{now},"exp":{end},"jti":"1"}}"#
        )
    }

    fn claims_with(&self, from: &str, to: &str) -> String {
        replaced(&self.claims(), from, to)
    }

    /// Signs with the installation's own key.
    fn sign(&self, header: &str, claims: &str) -> String {
        sign_with(&self.key, header, claims)
    }
}

fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from} is not in {text}");
    text.replacen(from, to, 1)
}

/// The members' values without their names.
fn listed(claims: &str) -> String {
    let names = [
        "iss", "aud", "sub", "wid", "sid", "iat", "nbf", "exp", "jti",
    ];
    let bare = names.iter().fold(claims.to_owned(), |text, name| {
        replaced(&text, &format!("\"{name}\":"), "")
    });
    bare.replace('{', "[").replace('}', "]")
}

fn sign_with(key: &Ed25519KeyPair, header: &str, claims: &str) -> String {
    let message = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims)
    );
    let signature = URL_SAFE_NO_PAD.encode(key.sign(message.as_bytes()));
    format!("{message}.{signature}")
}

#[test]
fn a_token_of_the_forge_holds_when_nothing_is_wrong_with_it() {
    let forge = Forge::new();
    let claims = forge
        .verify(&forge.sign(&forge.header(), &forge.claims()))
        .unwrap();
    assert_eq!(
        claims.workspace.to_string(),
        "ws_01890000000070008000000000000001"
    );
    assert_eq!(claims.expires_at, start() + TimeDelta::seconds(900));
    // Further space in the JSON is no other content.
    assert!(
        forge
            .verify(&forge.sign(&forge.header_with(",", " , "), &forge.claims()))
            .is_ok()
    );
}

#[test]
fn forged_headers_are_refused() {
    let forge = Forge::new();
    let attacker = Ed25519KeyPair::from_seed_unchecked(&[9; 32]).unwrap();
    let attacker_x = URL_SAFE_NO_PAD.encode(attacker.public_key());
    let more = |member: &str| forge.header_with("{", &format!("{{{member},"));
    let kid = format!(r#""{}""#, forge.kid);
    let headers = [
        (
            "alg none",
            forge.header_with("EdDSA", "none"),
            TokenError::Header,
        ),
        (
            "alg None",
            forge.header_with("EdDSA", "None"),
            TokenError::Header,
        ),
        (
            "alg eddsa",
            forge.header_with("EdDSA", "eddsa"),
            TokenError::Header,
        ),
        (
            "alg Ed25519",
            forge.header_with("EdDSA", "Ed25519"),
            TokenError::Header,
        ),
        (
            "alg ES256",
            forge.header_with("EdDSA", "ES256"),
            TokenError::Header,
        ),
        (
            "alg RS256",
            forge.header_with("EdDSA", "RS256"),
            TokenError::Header,
        ),
        (
            "alg null",
            forge.header_with("\"EdDSA\"", "null"),
            TokenError::Header,
        ),
        (
            "alg a list",
            forge.header_with("\"EdDSA\"", "[\"EdDSA\"]"),
            TokenError::Header,
        ),
        (
            "alg missing",
            forge.header_with(r#""alg":"EdDSA","#, ""),
            TokenError::Header,
        ),
        ("alg twice", more(r#""alg":"none""#), TokenError::Header),
        (
            "typ missing",
            forge.header_with(r#""typ":"at+jwt","#, ""),
            TokenError::Header,
        ),
        (
            "typ JWT",
            forge.header_with("at+jwt", "JWT"),
            TokenError::Header,
        ),
        (
            "typ of a refresh token",
            forge.header_with("at+jwt", "rt+jwt"),
            TokenError::Header,
        ),
        (
            "kid missing",
            forge.header_with(&format!(",\"kid\":{kid}"), ""),
            TokenError::Header,
        ),
        (
            "kid null",
            forge.header_with(&kid, "null"),
            TokenError::Header,
        ),
        (
            "kid a number",
            forge.header_with(&kid, "0"),
            TokenError::Header,
        ),
        (
            "kid empty",
            forge.header_with(&kid, r#""""#),
            TokenError::UnknownKey,
        ),
        (
            "kid a path",
            forge.header_with(&kid, r#""../../../dev/null""#),
            TokenError::UnknownKey,
        ),
        (
            "kid SQL",
            forge.header_with(&kid, r#""' OR 1=1 --""#),
            TokenError::UnknownKey,
        ),
        (
            "kid with NUL",
            forge.header_with(&kid, r#""\u0000""#),
            TokenError::UnknownKey,
        ),
        (
            "kid in capitals",
            forge.header_with(&forge.kid, &forge.kid.to_uppercase()),
            TokenError::UnknownKey,
        ),
        (
            "jwk",
            more(&format!(
                r#""jwk":{{"kty":"OKP","crv":"Ed25519","x":"{attacker_x}"}}"#
            )),
            TokenError::Header,
        ),
        (
            "jku",
            more(r#""jku":"https://evil.example/jwks.json""#),
            TokenError::Header,
        ),
        (
            "x5u",
            more(r#""x5u":"https://evil.example/cert.pem""#),
            TokenError::Header,
        ),
        ("x5c", more(r#""x5c":["AAAA"]"#), TokenError::Header),
        ("crit", more(r#""crit":["b64"]"#), TokenError::Header),
        ("b64", more(r#""b64":false"#), TokenError::Header),
        ("zip", more(r#""zip":"DEF""#), TokenError::Header),
        ("cty", more(r#""cty":"JWT""#), TokenError::Header),
        ("a list", "[]".to_owned(), TokenError::Header),
        (
            "a list in order",
            format!(r#"["EdDSA","at+jwt",{kid}]"#),
            TokenError::Header,
        ),
        ("empty", String::new(), TokenError::Header),
        (
            "two values",
            format!("{}{{}}", forge.header()),
            TokenError::Header,
        ),
    ];
    for (name, header, expected) in headers {
        for key in [&forge.key, &attacker] {
            assert_eq!(
                forge.verify(&sign_with(key, &header, &forge.claims())),
                Err(expected),
                "{name}"
            );
        }
    }
    let token = sign_with(&attacker, &forge.header(), &forge.claims());
    assert_eq!(
        forge.verify(&token),
        Err(TokenError::Signature),
        "another key under our kid"
    );
}

#[test]
fn the_public_key_is_no_hmac_secret_and_no_signature_is_none() {
    let forge = Forge::new();
    let claims = URL_SAFE_NO_PAD.encode(forge.claims());
    for alg in ["HS256", "HS384", "HS512", "none", "EdDSA"] {
        let header = URL_SAFE_NO_PAD.encode(forge.header_with("EdDSA", alg));
        let key = hmac::Key::new(hmac::HMAC_SHA256, forge.key.public_key().as_ref());
        let tag = hmac::sign(&key, format!("{header}.{claims}").as_bytes());
        let signed = format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode(tag));
        let expected = if alg == "EdDSA" {
            TokenError::Signature
        } else {
            TokenError::Header
        };
        assert_eq!(forge.verify(&signed), Err(expected), "{alg}");
        assert_eq!(
            forge.verify(&format!("{header}.{claims}.")),
            Err(expected),
            "{alg}, unsigned"
        );
    }
}

#[test]
fn signed_claims_that_are_not_ours_are_refused() {
    let forge = Forge::new();
    let (now, end) = (start().timestamp(), start().timestamp() + 900);
    let (exp, nbf, iat) = (
        format!("\"exp\":{end}"),
        format!("\"nbf\":{now}"),
        format!("\"iat\":{now}"),
    );
    let exp_as = |value: &str| forge.claims_with(&exp, &format!("\"exp\":{value}"));
    let shifted = |by: i64| {
        let claims = forge.claims_with(&exp, &format!("\"exp\":{}", end + by));
        let claims = replaced(&claims, &nbf, &format!("\"nbf\":{}", now + by));
        replaced(&claims, &iat, &format!("\"iat\":{}", now + by))
    };
    let iss = format!(r#""iss":"{ISSUER}""#);
    let aud = format!(r#""aud":"{ISSUER}""#);
    let sub = r#""sub":"usr_01890000000070008000000000000001","#;
    let cases = [
        (
            "exp a string",
            exp_as(&format!("\"{end}\"")),
            TokenError::Claims,
        ),
        (
            "exp a fraction",
            exp_as(&format!("{end}.5")),
            TokenError::Claims,
        ),
        (
            "exp a whole float",
            exp_as(&format!("{end}.0")),
            TokenError::Claims,
        ),
        ("exp an exponent", exp_as("1.79e9"), TokenError::Claims),
        ("exp 1e300", exp_as("1e300"), TokenError::Claims),
        ("exp negative", exp_as("-1"), TokenError::Claims),
        ("exp zero", exp_as("0"), TokenError::Claims),
        ("exp null", exp_as("null"), TokenError::Claims),
        (
            "exp a list",
            exp_as(&format!("[{end}]")),
            TokenError::Claims,
        ),
        ("exp true", exp_as("true"), TokenError::Claims),
        (
            "exp in year 9999",
            exp_as("253402300799"),
            TokenError::Claims,
        ),
        (
            "exp the largest integer",
            exp_as("9223372036854775807"),
            TokenError::Claims,
        ),
        (
            "exp beyond integers",
            exp_as("18446744073709551616"),
            TokenError::Claims,
        ),
        (
            "exp missing",
            forge.claims_with(&format!("{exp},"), ""),
            TokenError::Claims,
        ),
        (
            "exp twice",
            forge.claims_with(&exp, &format!("{exp},{exp}")),
            TokenError::Claims,
        ),
        (
            "a second too long",
            exp_as(&(end + 1).to_string()),
            TokenError::Claims,
        ),
        (
            "iat the least integer",
            forge.claims_with(&iat, "\"iat\":-9223372036854775808"),
            TokenError::Claims,
        ),
        (
            "iat missing",
            forge.claims_with(&format!("{iat},"), ""),
            TokenError::Claims,
        ),
        (
            "iat a string",
            forge.claims_with(&iat, &format!("\"iat\":\"{now}\"")),
            TokenError::Claims,
        ),
        (
            "iat at exp",
            forge.claims_with(&iat, &format!("\"iat\":{end}")),
            TokenError::Claims,
        ),
        (
            "nbf missing",
            forge.claims_with(&format!("{nbf},"), ""),
            TokenError::Claims,
        ),
        (
            "nbf a float",
            forge.claims_with(&nbf, &format!("\"nbf\":{now}.0")),
            TokenError::Claims,
        ),
        (
            "nbf after exp",
            forge.claims_with(&nbf, &format!("\"nbf\":{}", end + 1)),
            TokenError::Claims,
        ),
        (
            "nbf ahead",
            forge.claims_with(&nbf, &format!("\"nbf\":{}", now + 6)),
            TokenError::NotYet,
        ),
        ("all of it ahead", shifted(6), TokenError::NotYet),
        ("expired by 30 s", shifted(-930), TokenError::Expired),
        ("expired by the leeway", shifted(-905), TokenError::Expired),
        ("expired long ago", shifted(-now), TokenError::Expired),
        (
            "iss another",
            forge.claims_with(&iss, r#""iss":"https://evil.example""#),
            TokenError::Claims,
        ),
        (
            "iss a list",
            forge.claims_with(&iss, &format!(r#""iss":["{ISSUER}"]"#)),
            TokenError::Claims,
        ),
        (
            "iss with a slash",
            forge.claims_with(&iss, &format!(r#""iss":"{ISSUER}/""#)),
            TokenError::Claims,
        ),
        (
            "iss missing",
            forge.claims_with(&format!("{iss},"), ""),
            TokenError::Claims,
        ),
        (
            "aud another",
            forge.claims_with(&aud, r#""aud":"https://evil.example""#),
            TokenError::Claims,
        ),
        (
            "aud a list",
            forge.claims_with(&aud, &format!(r#""aud":["{ISSUER}"]"#)),
            TokenError::Claims,
        ),
        (
            "aud in capitals",
            forge.claims_with(&aud, r#""aud":"HTTPS://PHOTOS.EXAMPLE""#),
            TokenError::Claims,
        ),
        (
            "aud missing",
            forge.claims_with(&format!("{aud},"), ""),
            TokenError::Claims,
        ),
        (
            "sub missing",
            forge.claims_with(sub, ""),
            TokenError::Claims,
        ),
        (
            "sub empty",
            forge.claims_with(sub, r#""sub":"","#),
            TokenError::Claims,
        ),
        (
            "sub a workspace",
            forge.claims_with("usr_", "ws_"),
            TokenError::Claims,
        ),
        (
            "sub in capitals",
            forge.claims_with("usr_0189", "usr_018A"),
            TokenError::Claims,
        ),
        (
            "sub twice",
            forge.claims_with(sub, &format!("{sub}{sub}")),
            TokenError::Claims,
        ),
        (
            "wid a user",
            forge.claims_with("\"ws_", "\"usr_"),
            TokenError::Claims,
        ),
        (
            "wid missing",
            forge.claims_with("\"wid\"", "\"wide\""),
            TokenError::Claims,
        ),
        (
            "sid null",
            forge.claims_with("\"ses_01890000000070008000000000000001\"", "null"),
            TokenError::Claims,
        ),
        (
            "jti missing",
            forge.claims_with(",\"jti\":\"1\"", ""),
            TokenError::Claims,
        ),
        (
            "a role",
            forge.claims_with("{", r#"{"role":"owner","#),
            TokenError::Claims,
        ),
        (
            "a list in order",
            listed(&forge.claims()),
            TokenError::Claims,
        ),
        ("no object", "\"sub\"".to_owned(), TokenError::Claims),
        ("no JSON", "sub=usr_1".to_owned(), TokenError::Claims),
        (
            "two values",
            format!("{}{{}}", forge.claims()),
            TokenError::Claims,
        ),
    ];
    for (name, claims, expected) in cases {
        assert_eq!(
            forge.verify(&forge.sign(&forge.header(), &claims)),
            Err(expected),
            "{name}"
        );
    }
}

#[test]
fn texts_that_are_no_token_are_refused() {
    let forge = Forge::new();
    let token = forge.sign(&forge.header(), &forge.claims());
    let [header, claims, signature] = token.split('.').collect::<Vec<_>>()[..] else {
        panic!("three parts")
    };
    let other = forge.sign(
        &forge.header(),
        &forge.claims_with("\"jti\":\"1\"", "\"jti\":\"2\""),
    );
    let other_signature = other.rsplit('.').next().unwrap();
    let workspace = forge.env.id();
    let refresh = RefreshToken::generate(&forge.env, workspace).text();
    let long = forge.sign(
        &forge.header(),
        &forge.claims_with("\"jti\":\"1\"", &format!("\"jti\":\"{:02000}\"", 0)),
    );
    let cases = [
        ("empty", String::new(), TokenError::Malformed),
        ("dots", "..".into(), TokenError::Header),
        ("one part", header.into(), TokenError::Malformed),
        (
            "two parts",
            format!("{header}.{claims}"),
            TokenError::Malformed,
        ),
        (
            "four parts",
            format!("{token}.{signature}"),
            TokenError::Malformed,
        ),
        (
            "a refresh token",
            refresh.expose_secret().into(),
            TokenError::Malformed,
        ),
        ("longer than ours", long, TokenError::Malformed),
        ("space before", format!(" {token}"), TokenError::Header),
        ("space after", format!("{token} "), TokenError::Signature),
        (
            "padded header",
            format!("{header}=.{claims}.{signature}"),
            TokenError::Malformed,
        ),
        (
            "padded signature",
            format!("{token}=="),
            TokenError::Signature,
        ),
        (
            "cut signature",
            token[..token.len() - 1].into(),
            TokenError::Signature,
        ),
        (
            "signature of zeros",
            format!("{header}.{claims}.{}", "A".repeat(86)),
            TokenError::Signature,
        ),
        (
            "another token's signature",
            format!("{header}.{claims}.{other_signature}"),
            TokenError::Signature,
        ),
    ];
    assert!(forge.verify(&token).is_ok() && forge.verify(&other).is_ok());
    for (name, text, expected) in cases {
        assert_eq!(forge.verify(&text), Err(expected), "{name}");
    }
}

#[test]
fn an_issued_token_holds_for_fifteen_minutes_also_when_remembered() {
    let forge = Forge::new();
    let (user, workspace, session) = (forge.env.id(), forge.env.id(), forge.env.id());
    let (token, seconds) = forge.issuer.issue(&forge.env, user, workspace, session);
    let token = token.expose_secret();
    let expires_at = start() + TimeDelta::seconds(900);
    assert_eq!(
        forge.verify(token),
        Ok(AccessClaims {
            user,
            workspace,
            session,
            expires_at
        })
    );
    forge
        .clock
        .advance(TimeDelta::seconds(i64::from(seconds) + 4));
    assert!(forge.verify(token).is_ok(), "within the leeway");
    forge.clock.advance(TimeDelta::seconds(1));
    assert_eq!(forge.verify(token), Err(TokenError::Expired));
    forge.clock.advance(TimeDelta::seconds(-911));
    assert_eq!(
        forge.verify(token),
        Err(TokenError::NotYet),
        "the clock was set back"
    );
}

#[test]
fn a_remembered_token_ends_with_its_key() {
    let forge = Forge::new();
    let token = forge.sign(&forge.header(), &forge.claims());
    assert!(forge.verify(&token).is_ok());
    let other = Env::system();
    forge
        .issuer
        .replace_keys(Keyring::new(vec![SigningKey::generate(&other)]).unwrap());
    assert_eq!(forge.verify(&token), Err(TokenError::UnknownKey));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_token_with_any_byte_changed_is_refused(at in 0_usize..1000, byte in 0x20_u8..0x7f) {
        let forge = Forge::new();
        let mut token = forge.sign(&forge.header(), &forge.claims()).into_bytes();
        let at = at % token.len();
        prop_assume!(token[at] != byte);
        token[at] = byte;
        prop_assert!(forge.verify(&String::from_utf8(token).unwrap()).is_err());
    }

    #[test]
    fn no_text_makes_verification_panic(text in "\\PC{0,64}(\\.\\PC{0,64}){0,3}") {
        prop_assert!(Forge::new().verify(&text).is_err());
    }
}
