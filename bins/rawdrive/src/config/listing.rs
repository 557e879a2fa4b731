//! Every key, for a person: `rawdrive config`, and `docs/configuration.md`, which is what it prints where nothing is set.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::keys::{KEYS, Key, Shown, Standing};
use super::{ConfigError, DEFAULTS, FILE, Sources, process};

const HEAD: &str = "\
# Configuration

Nothing needs to be set. Each of these is an environment variable, and a key of `rawdrive.toml` in the directory that the
server is started in, by the name beside it; the environment counts before the file. A key that is not known, or a value
that cannot be read, stops the start and is named. A switch takes `on`, `true` or `1`, and `off`, `false` or `0`.

This is what `rawdrive config` prints, which also says what is set now, and where: secrets are never shown.

| variable | in `rawdrive.toml` | meaning | default | now |
| --- | --- | --- | --- | --- |
";

/// Every key, with what is set.
#[derive(Debug)]
pub(crate) struct Listing(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    key: &'static Key,
    /// What may be shown of the value, and where it was set; nothing where it was not.
    set: Option<(Option<String>, &'static str)>,
}

impl Listing {
    /// Of the process's environment and the working directory's file.
    ///
    /// # Errors
    /// The file is no TOML, or a key is not known.
    pub(crate) fn from_process() -> Result<Self, ConfigError> {
        let (variables, file) = process()?;
        Self::of(variables.into_iter(), file.as_deref())
    }

    /// Of an environment, and the text of a file.
    ///
    /// # Errors
    /// The file is no TOML, or a key is not known.
    pub(super) fn of(
        environment: impl Iterator<Item = (String, String)>,
        file: Option<&str>,
    ) -> Result<Self, ConfigError> {
        let sources = Sources::read(environment, file)?;
        let entry = |key: &'static Key| Entry {
            key,
            set: sources
                .find(key.name)
                .filter(|(_, origin)| *origin != DEFAULTS)
                .map(|(text, origin)| (shown(key, &text), origin)),
        };
        Ok(Self(KEYS.iter().map(entry).collect()))
    }

    /// For a person, as a page; for a program with `json`.
    ///
    /// # Errors
    /// The output cannot be written.
    pub(crate) fn write(&self, out: &mut impl Write, json: bool) -> io::Result<()> {
        if json {
            let entries: Vec<Value> = self.0.iter().map(Entry::as_json).collect();
            return writeln!(out, "{:#}", json!({ "keys": entries }));
        }
        write!(out, "{HEAD}")?;
        self.0
            .iter()
            .try_for_each(|entry| writeln!(out, "{}", entry.as_row()))
    }
}

impl Entry {
    fn as_row(&self) -> String {
        let key = self.key;
        let default = key.default.map_or("none".to_owned(), code);
        let now = match &self.set {
            None => "not set".to_owned(),
            Some((value, origin)) => {
                let value = value.as_deref().map_or("hidden".to_owned(), code);
                format!("{value} ({})", place(origin))
            }
        };
        format!(
            "| `{}` | `{}` | {} | {default} | {now} |",
            key.variable,
            key.name,
            cell(&format!("{}{}", key.meaning, standing(key.standing))),
        )
    }

    fn as_json(&self) -> Value {
        let key = self.key;
        json!({
            "variable": key.variable,
            "name": key.name,
            "meaning": key.meaning,
            "default": key.default,
            "secret": key.shown == Shown::Nothing,
            "standing": match key.standing {
                Standing::InForce => "in_force",
                Standing::WithoutEffect => "without_effect",
                Standing::Later => "later",
            },
            "set": self.set.is_some(),
            "source": self.set.as_ref().map(|(_, origin)| place(origin)),
            "value": self.set.as_ref().and_then(|(value, _)| value.as_deref()),
        })
    }
}

fn place(origin: &str) -> &str {
    if origin == FILE { FILE } else { "environment" }
}

const fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::InForce => "",
        Standing::WithoutEffect => ". It has no effect yet",
        Standing::Later => ". It belongs to a later release, and is refused",
    }
}

/// What may be shown of a value.
fn shown(key: &Key, text: &str) -> Option<String> {
    match key.shown {
        Shown::Whole => Some(text.to_owned()),
        Shown::Address => address(text),
        Shown::Nothing => None,
    }
}

/// An address without user, password, query and fragment; nothing where it cannot be told for certain which part is which.
fn address(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let known = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
    if scheme.is_empty() || !scheme.bytes().all(known) {
        return None;
    }
    let shown = match rest.split_once('@') {
        // A password may hold what ends an address elsewhere.
        Some((user, place)) if !user.contains(['?', '#']) && !place.contains('@') => place,
        Some(_) => return None,
        None => rest,
    };
    let shown = shown.split(['?', '#']).next().unwrap_or_default();
    Some(format!("{scheme}://{shown}"))
}

fn code(text: impl AsRef<str>) -> String {
    let text = cell(text.as_ref());
    // A backtick within is kept by a longer fence.
    if text.contains('`') {
        format!("`` {text} ``")
    } else {
        format!("`{text}`")
    }
}

/// Text as it may stand in a cell of a table: on one line, and without a cell's end.
fn cell(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '|' => out.push_str("\\|"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(environment: &[(&str, &str)], file: Option<&str>, json: bool) -> String {
        let environment = environment
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        let mut out = Vec::new();
        let listing = Listing::of(environment, file).unwrap();
        listing.write(&mut out, json).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn row<'a>(page: &'a str, variable: &str) -> &'a str {
        let begin = format!("| `{variable}` |");
        page.lines().find(|line| line.starts_with(&begin)).unwrap()
    }

    #[test]
    fn the_page_in_the_documentation_is_what_is_printed_where_nothing_is_set() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
        let kept = std::fs::read_to_string(path).unwrap();
        assert_eq!(
            kept,
            printed(&[], None, false),
            "print it anew, without any variable set: rawdrive config > docs/configuration.md"
        );
    }

    #[test]
    fn every_key_has_its_row_with_a_meaning_and_says_where_it_is_set() {
        let page = printed(
            &[("RAWDRIVE_LISTEN", "127.0.0.1:9")],
            Some("currency = \"eur\"\nlisten = \"127.0.0.1:1\""),
            false,
        );
        for key in KEYS {
            assert!(row(&page, key.variable).contains(&format!("| `{}` |", key.name)));
            assert!(key.meaning.len() > 10, "{}", key.variable);
        }
        assert!(
            row(&page, "RAWDRIVE_LISTEN")
                .ends_with("| `127.0.0.1:8080` | `127.0.0.1:9` (environment) |")
        );
        assert!(row(&page, "RAWDRIVE_CURRENCY").ends_with("| `usd` | `eur` (rawdrive.toml) |"));
        assert!(row(&page, "RAWDRIVE_PLANS").ends_with("| none | not set |"));
    }

    #[test]
    fn nothing_that_may_be_a_secret_is_shown_and_that_it_is_set_is() {
        let set = [
            ("RAWDRIVE_SECRET_KEY", "sesame"),
            ("STRIPE_SECRET_KEY", "sk_test_sesame"),
            ("STRIPE_WEBHOOK_SECRET", "whsec_sesame"),
            ("RAWDRIVE_ANALYSIS_KEY", "sesame"),
            ("RAWDRIVE_METRICS_TOKEN", "sesame"),
            (
                "DATABASE_URL",
                "postgres://ada:sesame@db.example:5432/app?password=sesame",
            ),
            ("DATABASE_OWNER_URL", "sesame"),
            ("REDIS_URL", "redis://:sesame@cache.example/0"),
            (
                "RAWDRIVE_SMTP_URL",
                "smtp://ada:se@same@mail.example:25#sesame",
            ),
            ("BLOB_URL", "file:///srv/photos"),
            ("STRIPE_API_URL", "https://ada:se?same@api.example"),
            (
                "RAWDRIVE_ANALYSIS_URL",
                "https://ada:se/same@models.example/v1",
            ),
        ];
        for json in [false, true] {
            let page = printed(&set, None, json);
            for part in ["sesame", "same@", "ada"] {
                assert!(!page.replace("data", "").contains(part), "{part} in {page}");
            }
        }
        let page = printed(&set, None, false);
        for (variable, _) in set {
            assert!(
                row(&page, variable).ends_with("(environment) |"),
                "{variable}"
            );
        }
        assert!(row(&page, "DATABASE_URL").contains("| `postgres://db.example:5432/app` (env"));
        assert!(row(&page, "DATABASE_OWNER_URL").contains("| hidden (env"));
        assert!(row(&page, "RAWDRIVE_SECRET_KEY").contains("| hidden (env"));
        assert!(row(&page, "RAWDRIVE_SMTP_URL").contains("| hidden (env"));
        assert!(row(&page, "RAWDRIVE_ANALYSIS_URL").contains("| `https://models.example/v1` (env"));
        assert!(row(&page, "BLOB_URL").contains("| `file:///srv/photos` (env"));
    }

    #[test]
    fn a_value_cannot_break_the_table() {
        let page = printed(&[("RAWDRIVE_LOG", "a|b`c\nd")], None, false);
        assert!(row(&page, "RAWDRIVE_LOG").ends_with("| `` a\\|b`c d `` (environment) |"));
    }
}
