//! Log lines, to standard error.

use std::io::IsTerminal as _;

use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::{EnvFilter, FilterExt as _, LevelFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::util::TryInitError;
use tracing_subscriber::{Layer as _, Registry};

use crate::config::{Config, LogFormat};

/// A filter that cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadFilter;

/// Starts logging for the rest of the process.
///
/// # Errors
/// Logging was started before.
pub(crate) fn start(config: &Config) -> Result<(), TryInitError> {
    let format = config.log_format.unwrap_or_else(|| {
        if std::io::stderr().is_terminal() {
            LogFormat::Text
        } else {
            LogFormat::Json
        }
    });
    // `Config` has read the filter once already.
    let filter = filter(&config.log).unwrap_or_else(|BadFilter| EnvFilter::new("info"));
    match format {
        LogFormat::Text => {
            let colours = std::io::stderr().is_terminal();
            subscriber(LogFormat::Text, filter, std::io::stderr, colours).try_init()
        }
        LogFormat::Json => subscriber(LogFormat::Json, filter, std::io::stderr, false).try_init(),
    }
}

/// Reads a filter. SQL statements stay off unless a directive names their target (`sqlx`, `sea_orm`): they
/// hold what customers wrote.
///
/// # Errors
/// A directive is neither a level nor a target with a level. A bare target is refused too, since it is
/// nearly always a mistyped level, and would silence everything else.
pub(crate) fn filter(directives: &str) -> Result<EnvFilter, BadFilter> {
    // The empty text would be a level to `parse`.
    let is_level = |text: &str| !text.is_empty() && text.parse::<LevelFilter>().is_ok();
    let readable = |part: &&str| match part.split_once('=') {
        Some((target, level)) => !target.is_empty() && is_level(level),
        None => is_level(part),
    };
    let parts: Vec<_> = directives.split(',').map(str::trim).collect();
    let mut text = parts.join(",");
    // A span's fields may hold commas; such a filter is left to the parser.
    if !text.contains('[') && !parts.iter().all(readable) {
        return Err(BadFilter);
    }
    for (target, quiet) in [("sqlx", "sqlx::query=off"), ("sea_orm", "sea_orm=warn")] {
        if !directives.contains(target) {
            text = format!("{text},{quiet}");
        }
    }
    EnvFilter::builder().parse(text).map_err(|_| BadFilter)
}

/// Whether a line may be written at its level. The driver reports slow statements as warnings, with the
/// statement: that is for debugging alone.
fn may_pass(metadata: &Metadata<'_>) -> bool {
    !metadata.target().starts_with("sqlx::query") || *metadata.level() >= Level::DEBUG
}

fn subscriber<W>(
    format: LogFormat,
    filter: EnvFilter,
    writer: W,
    colours: bool,
) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer::<Registry>().with_writer(writer);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(colours).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(filter.and(filter_fn(may_pass))))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn lines_of(directives: &str, format: LogFormat) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber = subscriber(
            format,
            filter(directives).unwrap(),
            move || writer.clone(),
            false,
        );
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "rawdrive", "began");
            tracing::debug!(target: "rawdrive", "detail");
            tracing::warn!(target: "sqlx::query", "slow SELECT");
            tracing::debug!(target: "sqlx::query", "plain SELECT");
            tracing::debug!(target: "sea_orm::driver", "orm SELECT");
        });
        let bytes = captured.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn statements_are_off_by_default_and_never_above_debug() {
        for directives in ["info", "debug", "trace"] {
            let lines = lines_of(directives, LogFormat::Text);
            assert!(lines.contains("began"), "{lines}");
            assert!(!lines.contains("SELECT"), "{directives}: {lines}");
        }
        let asked = lines_of("info,sqlx=debug,sea_orm=debug", LogFormat::Text);
        assert!(
            asked.contains("plain SELECT") && asked.contains("orm SELECT"),
            "{asked}"
        );
        assert!(!asked.contains("slow SELECT"), "{asked}");
        assert!(!asked.contains("detail"), "{asked}");
    }

    #[test]
    fn json_is_one_object_a_line() {
        let lines = lines_of("info", LogFormat::Json);
        let line: serde_json::Value = serde_json::from_str(lines.trim()).unwrap();
        assert_eq!(line["message"], "began");
        assert_eq!(line["level"], "INFO");
    }

    #[test]
    fn a_mistyped_level_is_no_filter() {
        for wrong in [
            "",
            "inof",
            "info,",
            "rawdrive",
            "rawdrive=loud",
            "=info",
            "info debug",
            "a=b=c",
        ] {
            assert_eq!(filter(wrong).err(), Some(BadFilter), "{wrong}");
        }
        for right in [
            "info",
            "WARN",
            "off",
            "info,rawdrive_store=debug",
            "warn, sqlx::query=debug",
        ] {
            assert!(filter(right).is_ok(), "{right}");
        }
    }
}
