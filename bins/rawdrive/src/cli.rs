//! The command line, parsed into typed values. What cannot be read ends with status 2 and says what would
//! be right.

use std::path::PathBuf;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use clap::builder::{Resettable, StyledStr};
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use rawdrive_plans::{Feature, Limit, Metric, Setting, Slug};
use rawdrive_tenancy_core::id::WorkspaceId;

/// The longest reason that the audit log keeps, in characters.
const REASON_CHARS: usize = 500;

/// The backend of `RawDrive`: where photographers store, select and deliver photos.
#[derive(Debug, Clone, PartialEq, Eq, Parser)]
#[command(name = "rawdrive", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub(crate) enum Command {
    /// Serve the API (the default).
    Serve(Serve),
    /// Bring the database's schema up to date, then end.
    Migrate,
    /// Take a guided tour of the main job on a throw-away data directory.
    Demo {
        /// End after the tour instead of leaving the server up.
        #[arg(long)]
        once: bool,
    },
    /// Check configuration, dependencies, schema and the invariants over the data.
    Doctor {
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
    /// The directory of the photos.
    #[command(subcommand)]
    Blobs(Blobs),
    /// Smaller copies of photos.
    #[command(subcommand)]
    Renditions(Renditions),
    /// What an operator changes by hand.
    #[command(subcommand)]
    Admin(Admin),
    /// The log of who changed what.
    #[command(subcommand)]
    Audit(Audit),
    /// Metered usage: rebuild counters, correct a count, verify statements.
    #[command(subcommand)]
    Usage(Usage),
    /// The keys that sign access tokens.
    #[command(subcommand)]
    Keys(Keys),
    /// What is sold and paid at Stripe.
    #[command(subcommand)]
    Stripe(Stripe),
    /// Print every key of the configuration: its meaning, its default, and what is set where.
    Config {
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
    /// The plans.
    #[command(subcommand)]
    Plans(Plans),
    /// Print the `OpenAPI` document.
    Openapi,
}

/// The plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub(crate) enum Plans {
    /// Print the catalogue in force as a `plans.toml` to start from.
    Print,
}

/// The keys that sign access tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub(crate) enum Keys {
    /// Make a new one. Running servers take it up by themselves; tokens that were issued hold to their end.
    Rotate {
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
}

/// The directory of the photos, which is known to the database by a mark in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub(crate) enum Blobs {
    /// Let the configured directory hold the database's photos from now on, whatever mark it carries.
    Adopt {
        /// Also where most photos that are looked for are not there.
        #[arg(long)]
        force: bool,
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Smaller copies of photos.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub(crate) enum Renditions {
    /// Have them made anew. Running servers make them in the background; until then the old ones are shown.
    Rebuild {
        /// One workspace, as `ws_…`; otherwise every one.
        #[arg(long, value_name = "ID")]
        workspace: Option<WorkspaceId>,
        /// Only those of photos that have none yet, as those from before there were any.
        #[arg(long)]
        missing: bool,
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
}

/// The log of who changed what.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub(crate) enum Audit {
    /// Hash every workspace's chain again: exit status 1 where one was changed.
    Verify {
        /// Heads that were kept elsewhere, as `GET /v1/workspace/audit/anchor` gave them, one or several: a chain whose
        /// tail was cut lacks them.
        #[arg(long, value_name = "FILE")]
        anchor: Option<PathBuf>,
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
}

/// What is sold and paid at Stripe. Each needs `STRIPE_SECRET_KEY`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub(crate) enum Stripe {
    /// Make the catalogue's prices at Stripe where they are missing, and check those that are there.
    SyncPlans(StripeCommon),
    /// Compare every subscription, invoice and customer with Stripe's, and heal what drifted.
    Reconcile {
        /// How far back events and customers are walked: RFC 3339, or YYYY-MM-DD; three days by default.
        #[arg(long, value_name = "DATE", value_parser = date)]
        since: Option<DateTime<Utc>>,
        #[command(flatten)]
        common: StripeCommon,
    },
    /// Link customers that were at Stripe before, with their subscriptions, to workspaces: by pairs, by the metadata
    /// `rawdrive_workspace`, or by an owner's verified address. What is not clear is said and left.
    Adopt {
        /// Pairs that stand above everything else: a line `CUSTOMER,WORKSPACE` each.
        #[arg(long, value_name = "FILE")]
        pairs: Option<PathBuf>,
        #[command(flatten)]
        common: StripeCommon,
    },
    /// Take up again what was given up, and stored events that mean something to this release.
    Replay {
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Metered usage.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub(crate) enum Usage {
    /// Look at every counter and sum, print what is not what the ledger and the holds come to, and put it right.
    Rebuild {
        /// One workspace, as `ws_…`; otherwise every one.
        #[arg(long, value_name = "ID")]
        workspace: Option<WorkspaceId>,
        /// Print alone: exit status 1 where there is a difference.
        #[arg(long)]
        dry_run: bool,
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
    /// Put a count right, by a line in the ledger.
    Correct {
        /// The workspace, as `ws_…`.
        #[arg(long, value_name = "ID")]
        workspace: WorkspaceId,
        /// The metric, such as `ai_analysis`.
        #[arg(long, value_name = "NAME")]
        metric: Metric,
        /// Units to add; negative lowers the count.
        #[arg(long, value_name = "UNITS", allow_negative_numbers = true)]
        quantity: i64,
        /// What it is counted for, where the metric is counted apart for each: a gallery, as `gal_…`.
        #[arg(long, value_name = "ID")]
        subject: Option<String>,
        /// A time in the period that is meant, of what resets: RFC 3339, or YYYY-MM-DD. Now by default.
        #[arg(long, value_name = "DATE", value_parser = date)]
        at: Option<DateTime<Utc>>,
        #[command(flatten)]
        common: AdminCommon,
    },
    /// Check statements offline: every line, the totals, and each month against the one before.
    Verify {
        /// Statements as the API gave them, in JSON or newline-delimited JSON, in any order.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
}

/// What the commands about Stripe have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub(crate) struct StripeCommon {
    /// Only say what would be done.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Answer in JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// How to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub(crate) struct Serve {
    /// Development: on loopback only, with a clock that can be set; as `RAWDRIVE_DEV=1`.
    #[arg(long)]
    pub(crate) dev: bool,
}

/// What an operator changes by hand. Each is kept in the workspace's audit log.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub(crate) enum Admin {
    /// Grant a workspace the newest version of a plan. It stands above any subscription; `free` takes a grant back.
    SetPlan {
        /// The workspace, as `ws_…`.
        #[arg(long, value_name = "ID")]
        workspace: WorkspaceId,
        /// The plan, such as `professional`.
        #[arg(long, value_name = "SLUG")]
        plan: Slug,
        /// When it ends by itself: RFC 3339, or YYYY-MM-DD for 00:00 UTC of that day.
        #[arg(long, value_name = "DATE", value_parser = date)]
        until: Option<DateTime<Utc>>,
        #[command(flatten)]
        common: AdminCommon,
    },
    /// Set one limit or feature above the plan.
    Override {
        /// The workspace, as `ws_…`.
        #[arg(long, value_name = "ID")]
        workspace: WorkspaceId,
        #[command(flatten)]
        target: Target,
        /// When it ends by itself: RFC 3339, or YYYY-MM-DD for 00:00 UTC of that day.
        #[arg(long, value_name = "DATE", value_parser = date)]
        until: Option<DateTime<Utc>>,
        #[command(flatten)]
        common: AdminCommon,
    },
}

/// What the operator's commands have in common.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct AdminCommon {
    /// Why; the audit log keeps it.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub(crate) reason: String,
    /// Answer in JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What an override sets: one of both.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Target {
    /// A limit, such as `storage_gb=50` or `team_members=unlimited`.
    #[arg(long, value_name = "NAME=VALUE", value_parser = limit)]
    limit: Option<Setting>,
    /// A feature, such as `custom_branding=true`.
    #[arg(long, value_name = "NAME=BOOL", value_parser = feature)]
    feature: Option<Setting>,
}

impl Cli {
    /// Reads the process's command line; ends the process where that cannot be read, or asks for help.
    #[must_use]
    pub(crate) fn from_process() -> Self {
        let matches = plain(Self::command()).get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    /// What to do; without a subcommand, serving.
    #[must_use]
    pub(crate) fn into_command(self) -> Command {
        self.command.unwrap_or(Command::Serve(self.serve))
    }
}

impl Admin {
    /// The workspace that is changed.
    #[must_use]
    pub(crate) const fn workspace(&self) -> WorkspaceId {
        match self {
            Self::SetPlan { workspace, .. } | Self::Override { workspace, .. } => *workspace,
        }
    }

    /// Whether the answer is for a program.
    #[must_use]
    pub(crate) const fn json(&self) -> bool {
        match self {
            Self::SetPlan { common, .. } | Self::Override { common, .. } => common.json,
        }
    }
}

impl Target {
    /// The one that was given; clap has made sure that there is one.
    #[must_use]
    pub(crate) fn setting(&self) -> Option<&Setting> {
        self.limit.as_ref().or(self.feature.as_ref())
    }
}

/// The command with help that is plain text: what is documented above is Markdown, in which names stand between marks.
fn plain(command: clap::Command) -> clap::Command {
    let unmarked = |text: Option<&StyledStr>| {
        Resettable::from(text.map(|text| StyledStr::from(text.to_string().replace('`', ""))))
    };
    let (about, long_about) = (
        unmarked(command.get_about()),
        unmarked(command.get_long_about()),
    );
    command
        .about(about)
        .long_about(long_about)
        .mut_args(|arg| {
            let (help, long_help) = (unmarked(arg.get_help()), unmarked(arg.get_long_help()));
            arg.help(help).long_help(long_help)
        })
        .mut_subcommands(plain)
}

fn limit(text: &str) -> Result<Setting, String> {
    let (name, value) = text
        .split_once('=')
        .ok_or("expected NAME=VALUE, such as storage_gb=50")?;
    let known = rawdrive_gallery::metrics();
    let (metric, unit) = match known.limited_by(name) {
        Some((metric, unit)) => (metric.clone(), unit),
        // A metric of the installation's own catalogue.
        None => (name.parse().map_err(|e| format!("{e}"))?, 1),
    };
    if value == "unlimited" {
        return Ok(Setting::Limit(metric, Limit::Unlimited));
    }
    // Digits alone: −1 never means unlimited here, and `parse` would take a plus.
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let bound = value
        .parse::<u64>()
        .ok()
        .filter(|_| digits)
        .ok_or("expected a whole number from 0, or unlimited")?;
    bound
        .checked_mul(unit)
        // SQL keeps amounts in signed 64 bits.
        .filter(|bound| i64::try_from(*bound).is_ok())
        .map(|bound| Setting::Limit(metric, Limit::AtMost(bound)))
        .ok_or_else(|| "the number is too large; expected unlimited?".to_owned())
}

fn feature(text: &str) -> Result<Setting, String> {
    let (name, value) = text
        .split_once('=')
        .ok_or("expected NAME=BOOL, such as custom_branding=true")?;
    let name: Feature = name.parse().map_err(|e| format!("{e}"))?;
    let on = value.parse().map_err(|_| "expected true or false")?;
    Ok(Setting::Feature(name, on))
}

fn date(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Ok(at.with_timezone(&Utc));
    }
    // Chrono alone would take 2026-1-2, and a sign before the year.
    let day = text.parse::<NaiveDate>().ok().filter(|_| text.len() == 10);
    day.map(|day| day.and_time(NaiveTime::MIN).and_utc())
        .ok_or_else(|| {
            "expected a time such as 2026-12-31T18:00:00Z, or a day such as 2026-12-31".to_owned()
        })
}

fn reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    if (1..=REASON_CHARS).contains(&text.chars().count()) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "expected 1 to {REASON_CHARS} characters: the audit log keeps it"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKSPACE: &str = "ws_01890000000070008000000000000001";

    fn parse(line: &[&str]) -> Result<Command, clap::Error> {
        Cli::try_parse_from(std::iter::once(&"rawdrive").chain(line)).map(Cli::into_command)
    }

    fn override_of(extra: &[&str]) -> Result<(Setting, Option<DateTime<Utc>>), clap::Error> {
        let line = [
            &[
                "admin",
                "override",
                "--workspace",
                WORKSPACE,
                "--reason",
                "asked",
            ],
            extra,
        ]
        .concat();
        match parse(&line)? {
            Command::Admin(Admin::Override { target, until, .. }) => {
                Ok((target.setting().unwrap().clone(), until))
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    fn pages(command: clap::Command, name: &str, found: &mut Vec<(String, String)>) {
        let mut command = command;
        for sub in command.get_subcommands() {
            pages(sub.clone(), &format!("{name} {}", sub.get_name()), found);
        }
        let page = format!("{}{}", command.render_help(), command.render_long_help());
        found.push((name.to_owned(), page));
    }

    #[test]
    fn no_page_of_help_shows_marks() {
        let (mut marked, mut found) = (Vec::new(), Vec::new());
        pages(Cli::command(), "rawdrive", &mut marked);
        pages(plain(Cli::command()), "rawdrive", &mut found);
        assert!(marked.iter().any(|(_, page)| page.contains('`')));
        assert!(found.len() > 15, "{found:#?}");
        for ((name, page), (_, before)) in found.iter().zip(&marked) {
            assert!(!page.contains('`'), "{name}: {page}");
            let words = |text: &str| text.replace('`', "").split_whitespace().collect::<String>();
            assert_eq!(words(page), words(before), "{name}");
        }
    }

    #[test]
    fn without_a_subcommand_it_serves() {
        assert_eq!(parse(&[]).unwrap(), Command::Serve(Serve { dev: false }));
        assert_eq!(
            parse(&["--dev"]).unwrap(),
            Command::Serve(Serve { dev: true })
        );
        assert_eq!(
            parse(&["serve"]).unwrap(),
            Command::Serve(Serve { dev: false })
        );
        assert_eq!(
            parse(&["serve", "--dev"]).unwrap(),
            Command::Serve(Serve { dev: true })
        );
        assert_eq!(parse(&["migrate"]).unwrap(), Command::Migrate);
        assert_eq!(
            parse(&["demo", "--once"]).unwrap(),
            Command::Demo { once: true }
        );
        assert_eq!(
            parse(&["doctor", "--json"]).unwrap(),
            Command::Doctor { json: true }
        );
        assert_eq!(
            parse(&["keys", "rotate"]).unwrap(),
            Command::Keys(Keys::Rotate { json: false })
        );
        assert_eq!(parse(&["openapi"]).unwrap(), Command::Openapi);
        assert_eq!(
            parse(&["config", "--json"]).unwrap(),
            Command::Config { json: true }
        );
        assert_eq!(
            parse(&["plans", "print"]).unwrap(),
            Command::Plans(Plans::Print)
        );
        assert_eq!(
            parse(&["blobs", "adopt", "--force"]).unwrap(),
            Command::Blobs(Blobs::Adopt {
                force: true,
                json: false
            })
        );
        assert_eq!(
            parse(&["audit", "verify", "--anchor", "heads.json"]).unwrap(),
            Command::Audit(Audit::Verify {
                anchor: Some("heads.json".into()),
                json: false
            })
        );
        let correct = [
            "usage",
            "correct",
            "--workspace",
            WORKSPACE,
            "--metric",
            "ai_analysis",
            "--quantity",
            "-3",
            "--reason",
            "asked",
        ];
        assert!(matches!(
            parse(&correct).unwrap(),
            Command::Usage(Usage::Correct { quantity: -3, .. })
        ));
    }

    #[test]
    fn stripes_commands_are_dry_where_asked() {
        let common = |dry_run, json| StripeCommon { dry_run, json };
        for (line, expected) in [
            (
                &["stripe", "sync-plans"][..],
                Stripe::SyncPlans(common(false, false)),
            ),
            (
                &["stripe", "sync-plans", "--dry-run", "--json"],
                Stripe::SyncPlans(common(true, true)),
            ),
            (
                &["stripe", "reconcile", "--dry-run", "--since", "2026-12-01"],
                Stripe::Reconcile {
                    since: Some("2026-12-01T00:00:00Z".parse().unwrap()),
                    common: common(true, false),
                },
            ),
            (
                &["stripe", "adopt", "--pairs", "pairs.csv", "--dry-run"],
                Stripe::Adopt {
                    pairs: Some("pairs.csv".into()),
                    common: common(true, false),
                },
            ),
            (
                &["stripe", "replay", "--json"],
                Stripe::Replay { json: true },
            ),
        ] {
            assert_eq!(parse(line).unwrap(), Command::Stripe(expected));
        }
        for wrong in [
            &["stripe"][..],
            &["stripe", "replay", "--dry-run"],
            &["stripe", "reconcile", "--since", "soon"],
        ] {
            assert_eq!(parse(wrong).unwrap_err().exit_code(), 2, "{wrong:?}");
        }
    }

    #[test]
    fn a_plan_is_set_by_typed_values() {
        let line = [
            "admin",
            "set-plan",
            "--workspace",
            WORKSPACE,
            "--plan",
            "professional",
            "--reason",
            " paid ",
            "--json",
        ];
        let expected = Admin::SetPlan {
            workspace: WORKSPACE.parse().unwrap(),
            plan: "professional".parse().unwrap(),
            until: None,
            common: AdminCommon {
                reason: "paid".to_owned(),
                json: true,
            },
        };
        assert_eq!(parse(&line).unwrap(), Command::Admin(expected));
    }

    #[test]
    fn limits_are_named_as_in_plans_or_as_metrics() {
        let cases = [
            (
                "storage_gb=50",
                rawdrive_gallery::STORAGE_BYTES,
                Limit::AtMost(50 << 30),
            ),
            (
                "storage_bytes=7",
                rawdrive_gallery::STORAGE_BYTES,
                Limit::AtMost(7),
            ),
            (
                "storage_gb=unlimited",
                rawdrive_gallery::STORAGE_BYTES,
                Limit::Unlimited,
            ),
            (
                "max_photos_per_gallery=0",
                rawdrive_gallery::PHOTOS,
                Limit::AtMost(0),
            ),
            ("photos=5", rawdrive_gallery::PHOTOS, Limit::AtMost(5)),
            (
                "max_team_members=3",
                Metric::team_members(),
                Limit::AtMost(3),
            ),
            ("team_members=3", Metric::team_members(), Limit::AtMost(3)),
            (
                "ai_analysis_monthly=unlimited",
                rawdrive_gallery::AI_ANALYSIS,
                Limit::Unlimited,
            ),
            (
                "api_calls=9",
                "api_calls".parse().unwrap(),
                Limit::AtMost(9),
            ),
        ];
        for (text, metric, expected) in cases {
            let (setting, until) = override_of(&["--limit", text]).unwrap();
            assert_eq!(
                (setting, until),
                (Setting::Limit(metric, expected), None),
                "{text}"
            );
        }
        let (setting, _) = override_of(&["--feature", "custom_branding=false"]).unwrap();
        assert_eq!(
            setting,
            Setting::Feature(rawdrive_gallery::CUSTOM_BRANDING, false)
        );
    }

    #[test]
    fn a_day_begins_at_midnight_utc() {
        for (text, expected) in [
            ("2027-01-31", "2027-01-31T00:00:00Z"),
            ("2027-01-31T12:00:00+02:00", "2027-01-31T10:00:00Z"),
        ] {
            let (_, until) = override_of(&["--limit", "photos=1", "--until", text]).unwrap();
            assert_eq!(until, Some(expected.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_ends_with_status_2() {
        for wrong in [
            &["--limit", "storage_gb"][..],
            &["--limit", "storage_gb=-1"],
            &["--limit", "storage_gb=+1"],
            &["--limit", "storage_gb="],
            &["--limit", "storage_gb=1.5"],
            &["--limit", "storage_gb=99999999999999"],
            &["--limit", "photos=99999999999999999999"],
            &["--limit", "Photos=1"],
            &["--limit", "=1"],
            &["--feature", "custom_branding=1"],
            &["--feature", "custom_branding=True"],
            &["--feature", "custom_branding"],
            &["--limit", "photos=1", "--feature", "custom_branding=true"],
            &["--limit", "photos=1", "--until", "tomorrow"],
            &["--limit", "photos=1", "--until", "2027-02-30"],
            &["--limit", "photos=1", "--until", "2027-1-2"],
            &["--limit", "photos=1", "--until", "2027-01-31T12:00:00"],
            &[],
        ] {
            assert_eq!(override_of(wrong).unwrap_err().exit_code(), 2, "{wrong:?}");
        }
        let set = |workspace, plan, reason| {
            parse(&[
                "admin",
                "set-plan",
                "--workspace",
                workspace,
                "--plan",
                plan,
                "--reason",
                reason,
            ])
        };
        let long = "x".repeat(501);
        for (workspace, plan, reason) in [
            ("gal_01890000000070008000000000000001", "free", "x"),
            ("ws_1", "free", "x"),
            (WORKSPACE, "Free", "x"),
            (WORKSPACE, "free", " "),
            (WORKSPACE, "free", &long),
        ] {
            assert_eq!(set(workspace, plan, reason).unwrap_err().exit_code(), 2);
        }
        for line in [
            &["sing"][..],
            &["--dev", "migrate"],
            &["admin"],
            &["keys"],
            &["usage"],
            &["usage", "verify"],
            &["usage", "rebuild", "--workspace", "x"],
            &["demo", "twice"],
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line:?}");
        }
        let message = set("ws_1", "free", "x").unwrap_err().to_string();
        assert!(
            message.contains("--workspace") && message.contains("expected `ws_`"),
            "{message}"
        );
    }
}
