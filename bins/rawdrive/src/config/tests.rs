use std::path::Path;

use proptest::prelude::*;
use secrecy::ExposeSecret as _;

use super::*;

fn load(environment: &[(&str, &str)], file: &str) -> Result<Config, ConfigError> {
    let environment = environment
        .iter()
        .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
    Config::load(environment, Some(file))
}

fn refusal(environment: &[(&str, &str)], file: &str) -> String {
    match load(environment, file) {
        Ok(config) => panic!("accepted: {environment:?} {file:?} as {config:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn nothing_set_is_the_embedded_default() {
    let config = Config::load(std::iter::empty(), None).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(
        config.public_url(config.listen).as_str(),
        "http://127.0.0.1:8080"
    );
    assert_eq!(config.data_dir.to_str(), Some("./data"));
    assert_eq!(
        config.database.file().and_then(Path::to_str),
        Some("./data/rawdrive.db")
    );
    assert_eq!(config.blobs.to_str(), Some("./data/blobs"));
    assert_eq!(config.currency, "usd");
    assert_eq!((config.grace_days, config.retention_days), (14, 30));
    assert_eq!(config.max_upload_bytes, 5 << 30);
    assert!(config.rate_limits.are_on() && !config.dev && !config.webhooks_allow_private);
    assert_eq!(config.log, "info");
    assert!(config.vision.is_none());
    assert!(config.secret_key.is_none() && config.plans.is_none() && config.log_format.is_none());
    assert_eq!(config.warnings, Vec::<String>::new());
}

#[test]
fn the_environment_stands_above_the_file_and_the_file_above_the_defaults() {
    let file =
        "listen = \"127.0.0.1:1\"\ncurrency = \"eur\"\nmax_upload_bytes = 7\nrate_limits = false\n";
    let config = load(&[("RAWDRIVE_LISTEN", "[::1]:2"), ("PATH", "/bin")], file).unwrap();
    assert_eq!(config.listen.to_string(), "[::1]:2");
    assert_eq!(config.public_url(config.listen).as_str(), "http://[::1]:2");
    assert_eq!(config.currency, "eur");
    assert_eq!(config.max_upload_bytes, 7);
    assert!(!config.rate_limits.are_on());
}

#[test]
fn postgresql_wants_a_secret_key_that_its_servers_share() {
    let url = ("DATABASE_URL", "postgres://app:s3cret@db/rd?pgbouncer=1");
    let secret = ("RAWDRIVE_SECRET_KEY", "a text of at least thirty-two bytes");
    let owner = ("DATABASE_OWNER_URL", "postgres://owner@db/rd");
    let config = load(&[url, secret, owner], "").unwrap();
    assert_eq!(config.database.backend(), Backend::Postgres);
    assert_eq!(
        config.database_owner.as_ref().and_then(Url::user),
        Some("owner")
    );
    assert!(!format!("{config:?}").contains("s3cret"));
    let error = load(&[url], "").unwrap_err().to_string();
    assert!(error.contains("required with PostgreSQL"), "{error}");
    let error = load(&[owner], "").unwrap_err().to_string();
    assert!(
        error.starts_with("DATABASE_OWNER_URL") && error.contains("DATABASE_URL of PostgreSQL"),
        "{error}"
    );
}

#[test]
fn a_value_overruled_by_the_environment_is_not_read() {
    assert!(load(&[("RAWDRIVE_CURRENCY", "chf")], "currency = \"Euro\"").is_ok());
}

#[test]
fn good_values_are_read() {
    let secret = "x".repeat(32);
    let config = load(
        &[
            ("RAWDRIVE_DATA_DIR", "/srv/rd"),
            ("DATABASE_URL", "sqlite:///var/db/rd.db"),
            ("BLOB_URL", "file:///var/photos"),
            ("RAWDRIVE_PUBLIC_URL", "https://photos.example:8443/app/"),
            ("RAWDRIVE_SECRET_KEY", &secret),
            ("RAWDRIVE_DEV", "on"),
            ("RAWDRIVE_DEV_CLOCK", "clock.txt"),
            ("RAWDRIVE_LOG", "warn,rawdrive_store=debug"),
            ("RAWDRIVE_LOG_FORMAT", "json"),
            ("RAWDRIVE_PLANS", "plans.toml"),
        ],
        "",
    )
    .unwrap();
    assert_eq!(
        config.database.file().and_then(Path::to_str),
        Some("/var/db/rd.db")
    );
    assert_eq!(config.blobs.to_str(), Some("/var/photos"));
    assert_eq!(
        config.public_url(config.listen).as_str(),
        "https://photos.example:8443/app"
    );
    assert_eq!(config.secret_key.as_ref().unwrap().expose_secret(), secret);
    assert!(config.dev);
    assert_eq!(config.log_format, Some(LogFormat::Json));
    for (url, path) in [
        ("sqlite:rd.db", "rd.db"),
        ("sqlite://rd.db", "rd.db"),
        ("sqlite:/a/b", "/a/b"),
    ] {
        let config = load(&[("DATABASE_URL", url)], "").unwrap();
        assert_eq!(
            config.database.file().and_then(Path::to_str),
            Some(path),
            "{url}"
        );
    }
    for (text, on) in [
        ("1", true),
        ("true", true),
        ("on", true),
        ("0", false),
        ("false", false),
        ("off", false),
    ] {
        assert_eq!(
            load(&[("RAWDRIVE_RATE_LIMITS", text)], "")
                .unwrap()
                .rate_limits
                .are_on(),
            on
        );
    }
}

#[test]
fn proxies_are_trusted_by_network_and_nobody_by_default() {
    let trusts =
        |config: &Config, address: &str| config.trusted_proxies.trusts(address.parse().unwrap());
    let config = load(&[], "").unwrap();
    assert!(!trusts(&config, "127.0.0.1"));
    let networks = "10.0.0.0/8, 127.0.0.1,2001:db8::/32";
    for config in [
        load(&[("RAWDRIVE_TRUSTED_PROXIES", networks)], ""),
        load(&[], &format!("trusted_proxies = \"{networks}\"")),
    ] {
        let config = config.unwrap();
        for address in ["10.255.0.1", "127.0.0.1", "::ffff:10.0.0.1", "2001:db8::7"] {
            assert!(trusts(&config, address), "{address}");
        }
        for address in ["11.0.0.1", "127.0.0.2", "2001:db9::7", "::1"] {
            assert!(!trusts(&config, address), "{address}");
        }
        assert_eq!(config.warnings, Vec::<String>::new());
    }
    let config = load(&[("RAWDRIVE_TRUSTED_PROXIES", "0.0.0.0/0")], "").unwrap();
    assert!(
        config.warnings[0].contains("trusts every address"),
        "{:?}",
        config.warnings
    );
}

#[test]
fn an_unreadable_value_names_its_key_and_what_would_be_right() {
    let cases = [
        ("RAWDRIVE_LISTEN", "localhost", "an IP address and a port"),
        ("RAWDRIVE_LISTEN", "127.0.0.1", "an IP address and a port"),
        (
            "RAWDRIVE_LISTEN",
            "127.0.0.1:65536",
            "an IP address and a port",
        ),
        ("RAWDRIVE_PUBLIC_URL", "photos.example", "http or https"),
        (
            "RAWDRIVE_PUBLIC_URL",
            "ftp://photos.example",
            "http or https",
        ),
        ("RAWDRIVE_PUBLIC_URL", "https://", "http or https"),
        (
            "RAWDRIVE_PUBLIC_URL",
            "https://u:p@photos.example",
            "http or https",
        ),
        (
            "RAWDRIVE_PUBLIC_URL",
            "https://photos.example?x=1",
            "http or https",
        ),
        (
            "RAWDRIVE_PUBLIC_URL",
            "https://photos.example/#x",
            "http or https",
        ),
        (
            "RAWDRIVE_PUBLIC_URL",
            "https://photos.example:port",
            "http or https",
        ),
        ("RAWDRIVE_DATA_DIR", "", "expected a path"),
        ("RAWDRIVE_DATA_DIR", " ", "expected a path"),
        ("RAWDRIVE_PLANS", "", "expected a path"),
        ("DATABASE_URL", "", "expected sqlite://"),
        ("DATABASE_URL", "sqlite://", "expected sqlite://"),
        ("DATABASE_URL", "sqlite::memory:", "expected sqlite://"),
        (
            "DATABASE_URL",
            "sqlite://a.db?mode=ro",
            "expected sqlite://",
        ),
        ("DATABASE_URL", "mysql://h/d", "expected sqlite://"),
        (
            "DATABASE_URL",
            "postgres://u:s3cret@h/d?colour=red",
            "has an unknown parameter `colour`",
        ),
        (
            "DATABASE_OWNER_URL",
            "sqlite://rd.db",
            "must begin with postgres://",
        ),
        ("BLOB_URL", "/var/photos", "expected file://"),
        ("BLOB_URL", "file://", "expected file://"),
        (
            "BLOB_URL",
            "s3://bucket",
            "not part of this release: unset it",
        ),
        ("RAWDRIVE_SMTP_URL", "", "expected smtp:// or smtps://"),
        (
            "RAWDRIVE_SMTP_URL",
            "smtp://mail.example?tls=no",
            "expected no parameters but",
        ),
        (
            "RAWDRIVE_SMTP_URL",
            "smtps://mail.example?from=nobody",
            "from: expected an address",
        ),
        ("RAWDRIVE_SECRET_KEY", "", "at least 32 bytes"),
        (
            "RAWDRIVE_SECRET_KEY",
            "0123456789012345678901234567890",
            "at least 32 bytes",
        ),
        ("RAWDRIVE_CURRENCY", "USD", "three lower-case letters"),
        ("RAWDRIVE_CURRENCY", "euro", "three lower-case letters"),
        ("RAWDRIVE_GRACE_DAYS", "-1", "a whole number of days"),
        ("RAWDRIVE_GRACE_DAYS", "1.5", "a whole number of days"),
        (
            "RAWDRIVE_REVERSAL_POLICY",
            "delete",
            "keep, read_only or end",
        ),
        ("RAWDRIVE_RETENTION_DAYS", "99999", "a whole number of days"),
        ("RAWDRIVE_RETENTION_DAYS", "", "a whole number of days"),
        (
            "RAWDRIVE_MAX_UPLOAD_BYTES",
            "5GB",
            "a whole number of bytes",
        ),
        ("RAWDRIVE_MAX_UPLOAD_BYTES", "0", "a whole number of bytes"),
        ("RAWDRIVE_MAX_UPLOAD_BYTES", "+5", "a whole number of bytes"),
        (
            "RAWDRIVE_MAX_UPLOAD_BYTES",
            "9223372036854775808",
            "a whole number of bytes",
        ),
        ("RAWDRIVE_RATE_LIMITS", "yes", "expected 1, true or on"),
        ("RAWDRIVE_ANALYSIS_URL", "vision.example", "http or https"),
        (
            "RAWDRIVE_ANALYSIS_URL",
            "https://vision.example/v1",
            "needs RAWDRIVE_ANALYSIS_MODEL",
        ),
        (
            "RAWDRIVE_ANALYSIS_MODEL",
            "see-all",
            "needs RAWDRIVE_ANALYSIS_URL",
        ),
        ("RAWDRIVE_ANALYSIS_MODEL", "see all", "a model's name"),
        (
            "RAWDRIVE_ANALYSIS_KEY",
            "sk-1",
            "needs RAWDRIVE_ANALYSIS_URL",
        ),
        ("RAWDRIVE_ANALYSIS_KEY", "sk 1", "visible ASCII"),
        ("RAWDRIVE_RATE_LIMITS", "True", "expected 1, true or on"),
        ("RAWDRIVE_TRUSTED_PROXIES", "", "expected networks"),
        (
            "RAWDRIVE_TRUSTED_PROXIES",
            "proxy.internal",
            "expected networks",
        ),
        (
            "RAWDRIVE_TRUSTED_PROXIES",
            "10.0.0.0/8, 10.0.0.0/33",
            "such as 10.0.0.0/8",
        ),
        (
            "RAWDRIVE_WEBHOOKS_ALLOW_PRIVATE",
            "2",
            "expected 1, true or on",
        ),
        ("RAWDRIVE_DEV", "", "expected 1, true or on"),
        ("RAWDRIVE_LOG", "inof", "expected a level"),
        ("RAWDRIVE_LOG", "", "expected a level"),
        ("RAWDRIVE_LOG_FORMAT", "xml", "expected text or json"),
    ];
    for (variable, value, expected) in cases {
        let error = refusal(&[(variable, value)], "");
        assert!(
            error.starts_with(&format!("{variable} (environment): ")),
            "{error}"
        );
        assert!(error.contains(expected), "{variable}={value}: {error}");
        let name = Key::of_variable(variable).unwrap().name;
        let error = refusal(&[], &format!("{name} = {value:?}"));
        assert!(
            error.starts_with(&format!("{name} (rawdrive.toml): ")),
            "{error}"
        );
        assert!(error.contains(expected), "{name} = {value}: {error}");
    }
}

#[test]
fn the_password_of_the_mail_server_is_never_shown() {
    let good = "smtps://mailer:hunter2secret@mail.example?from=photos@studio.example";
    let config = load(&[("RAWDRIVE_SMTP_URL", good)], "").unwrap();
    assert!(config.smtp_url.is_some());
    assert!(!format!("{config:?}").contains("hunter2secret"));
    for wrong in [
        "http://mailer:hunter2secret@mail.example",
        "smtp://mailer:hunter2secret@mail.example:port",
        "smtp://mailer:hunter2secret@mail.example?secret=1",
    ] {
        let error = load(&[("RAWDRIVE_SMTP_URL", wrong)], "").unwrap_err();
        assert!(
            !format!("{error} {error:?}").contains("hunter2secret"),
            "{error:?}"
        );
    }
}

#[test]
fn every_form_of_a_redis_is_taken_and_its_password_never_shown() {
    assert!(load(&[], "").unwrap().redis.is_none());
    for good in [
        "redis://:hunter2secret@redis.example:6379/0",
        "rediss://user:hunter2secret@redis.example",
        "redis+unix:///run/redis.sock?pass=hunter2secret",
        "redis+cluster://:hunter2secret@a.example,b.example:7000",
        "redis+sentinel://:hunter2secret@a.example,b.example/mymaster",
    ] {
        let config = load(&[("REDIS_URL", good)], "").unwrap();
        assert!(config.redis.is_some(), "{good}");
        assert!(!format!("{config:?}").contains("hunter2secret"));
    }
    for wrong in [
        "",
        "hunter2secret",
        "http://:hunter2secret@redis.example",
        "memcached://:hunter2secret@redis.example",
        "redis://:hunter2secret@redis.example:port",
        "redis+sentinel://:hunter2secret@a.example",
    ] {
        let error = load(&[("REDIS_URL", wrong)], "").unwrap_err();
        let told = format!("{error} {error:?}");
        assert!(!told.contains("hunter2secret"), "{told}");
        assert!(
            error
                .to_string()
                .starts_with("REDIS_URL (environment): expected "),
            "{error}"
        );
        let error = refusal(&[], &format!("redis_url = {wrong:?}"));
        assert!(
            error.starts_with("redis_url (rawdrive.toml): expected "),
            "{error}"
        );
    }
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_known_name() {
    let cases = [
        ("RAWDRIVE_LISTENS", "did you mean RAWDRIVE_LISTEN?"),
        ("RAWDRIVE_DATADIR", "did you mean RAWDRIVE_DATA_DIR?"),
        ("RAWDRIVE_STRIPE_SECRET_KEY", "did you mean"),
        ("RAWDRIVE_listen", "is no known key"),
    ];
    for (variable, expected) in cases {
        let error = refusal(&[(variable, "s3cret")], "");
        assert!(
            error.starts_with(variable) && error.contains(expected),
            "{error}"
        );
        assert!(!error.contains("s3cret"), "{error}");
    }
    assert_eq!(
        refusal(&[], "lisen = 1"),
        "lisen (rawdrive.toml): is no known key; did you mean listen?"
    );
    assert_eq!(
        refusal(&[], "[zzzzzzzz]\nx = 1"),
        "zzzzzzzz (rawdrive.toml): is no known key"
    );
    // The variable's name is no key of the file.
    assert!(refusal(&[], "RAWDRIVE_LISTEN = \"127.0.0.1:1\"").contains("is no known key"));
}

#[test]
fn what_belongs_to_a_later_release_is_refused_wherever_it_stands() {
    for key in KEYS.iter().filter(|key| key.standing == Standing::Later) {
        for value in ["", "redis://h", "sk_live_1"] {
            assert_eq!(
                refusal(&[(key.variable, value)], ""),
                format!(
                    "{} (environment): is not part of this release: unset it",
                    key.variable
                )
            );
        }
        assert_eq!(
            refusal(&[], &format!("{} = [\"a\"]", key.name)),
            format!(
                "{} (rawdrive.toml): is not part of this release: unset it",
                key.name
            )
        );
    }
}

#[test]
fn what_has_no_effect_yet_is_kept_with_a_warning() {
    let config = load(&[("RAWDRIVE_GRACE_DAYS", "0")], "retention_days = 90").unwrap();
    assert_eq!((config.grace_days, config.retention_days), (0, 90));
    assert_eq!(
        config.warnings,
        ["retention_days (rawdrive.toml) has no effect yet"]
    );
}

#[test]
fn development_stays_on_loopback_and_its_clock_in_development() {
    assert!(
        load(
            &[("RAWDRIVE_DEV", "1"), ("RAWDRIVE_LISTEN", "127.9.9.9:1")],
            ""
        )
        .is_ok()
    );
    let error = refusal(&[("RAWDRIVE_LISTEN", "0.0.0.0:1")], "dev = true");
    assert_eq!(
        error,
        "dev (rawdrive.toml): needs a loopback address to listen on, such as 127.0.0.1:8080"
    );
    let error = refusal(&[("RAWDRIVE_DEV_CLOCK", "clock.txt")], "");
    assert!(
        error.starts_with("RAWDRIVE_DEV_CLOCK (environment): is for development alone"),
        "{error}"
    );
}

#[test]
fn listening_everywhere_without_a_public_url_is_worth_a_warning() {
    let config = load(&[("RAWDRIVE_LISTEN", "0.0.0.0:80")], "").unwrap();
    assert_eq!(
        config.public_url(config.listen).as_str(),
        "http://localhost:80"
    );
    assert!(config.warnings[0].contains("RAWDRIVE_PUBLIC_URL is not set"));
}

#[test]
fn a_broken_file_is_named_by_its_line_alone() {
    let error = refusal(&[], "currency = \"eur\"\nsecret_key = \"0123456789\n");
    assert_eq!(error, "rawdrive.toml, line 2: is not valid TOML");
    let error = refusal(&[], "currency = \"eur\"\ncurrency = \"usd\"\n");
    assert_eq!(error, "rawdrive.toml, line 2: is not valid TOML");
    let error = refusal(&[], "listen = 1.5");
    assert!(
        error.contains("expected a string, a whole number"),
        "{error}"
    );
}

/// The file's names follow the variables' by rule, so that knowing one is knowing the other.
#[test]
fn each_name_is_its_variable_less_the_prefix_in_lower_case() {
    for key in KEYS {
        let bare = key
            .variable
            .strip_prefix("RAWDRIVE_")
            .unwrap_or(key.variable);
        assert_eq!(key.name, bare.to_lowercase());
    }
}

proptest! {
    /// Long enough not to stand in a message by chance.
    #[test]
    fn no_value_is_repeated_in_an_error(value in "[a-zA-Z0-9:/@?#=. \"]{0,40}s3cr3t[a-zA-Z0-9:/@=]{0,40}", index in 0..KEYS.len()) {
        let key = &KEYS[index];
        if let Err(error) = load(&[(key.variable, &value)], "") {
            prop_assert!(!format!("{error} {error:?}").contains("s3cr3t"), "{error:?}");
        }
        for file in [format!("{} = {value:?}", key.name), format!("{} = {value}", key.name), format!("{} = \"{value}", key.name)] {
            if let Err(error) = load(&[], &file) {
                // A value that breaks out of its quotes may have become a key's name.
                let is_name = matches!(&error, ConfigError::Unknown { .. });
                prop_assert!(is_name || !format!("{error} {error:?}").contains("s3cr3t"), "{error:?}");
            }
        }
    }

    #[test]
    fn a_secret_is_never_shown(secret in "[ -~]{32,64}") {
        let config = load(&[("RAWDRIVE_SECRET_KEY", &secret)], "").unwrap();
        let shown = format!("{config:?} {config:#?} {:?}", config.warnings);
        prop_assert!(!shown.contains(&secret));
        prop_assert!(shown.contains("REDACTED"));
        let kept = config.secret_key.unwrap();
        prop_assert_eq!(kept.expose_secret(), secret.as_str());
    }
}

#[test]
fn a_vision_endpoint_is_an_address_a_model_and_perhaps_a_key_that_is_never_shown() {
    let mut variables = vec![
        ("RAWDRIVE_ANALYSIS_URL", "https://vision.example/v1/"),
        ("RAWDRIVE_ANALYSIS_MODEL", "see-all"),
    ];
    let vision = load(&variables, "").unwrap().vision.unwrap();
    assert_eq!(
        (vision.url.as_str(), vision.model.as_str()),
        ("https://vision.example/v1", "see-all")
    );
    assert!(vision.key.is_none());
    variables.push(("RAWDRIVE_ANALYSIS_KEY", "sk-s3cr3t"));
    let config = load(&variables, "").unwrap();
    assert!(!format!("{config:?}").contains("s3cr3t"));
    let key = config.vision.unwrap().key.unwrap();
    assert_eq!(key.expose_secret(), "sk-s3cr3t");
}
