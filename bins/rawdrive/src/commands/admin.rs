//! `rawdrive admin …`: what an operator changes by hand, beside a running server or without one.

use std::io::{self, Write};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rawdrive_billing::{BillingTx, NewGrant, Policy, grant_plan};
use rawdrive_plans::{Catalogue, GrantError, Override, Plan, PlansTx, Setting, override_setting};
use rawdrive_tenancy_core::Env;
use rawdrive_tenancy_core::audit::AuditTx;
use rawdrive_tenancy_core::event::EventsTx;
use rawdrive_tenancy_core::id::WorkspaceId;
use rawdrive_tenancy_core::job::JobsTx;
use rawdrive_usage::UsageTx;
use serde_json::{Value, json};

use crate::cli::Admin;

/// What was changed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Applied {
    /// The workspace was granted this plan version, perhaps for a time.
    Plan {
        /// The plan.
        plan: Arc<Plan>,
        /// When the grant ends by itself.
        until: Option<DateTime<Utc>>,
    },
    /// This override stands above the plan now.
    Override(Override),
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    /// The plans refuse it.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// Neither a limit nor a feature; clap has asked for one of both.
    #[error("neither --limit nor --feature was given")]
    Nothing,
}

/// Carries the command out in an open transaction; the caller commits.
///
/// # Errors
/// A name that the catalogue does not have, a date that is past, or the database's failure.
pub(crate) async fn apply(
    tx: &mut (impl BillingTx + PlansTx + UsageTx + AuditTx + EventsTx + JobsTx + Send),
    env: &Env,
    catalogue: &Catalogue,
    policy: Policy,
    command: &Admin,
) -> Result<Applied, AdminError> {
    match command {
        Admin::SetPlan {
            plan,
            until,
            common,
            ..
        } => {
            let new = NewGrant {
                plan: plan.clone(),
                until: *until,
                reason: common.reason.clone(),
            };
            grant_plan(tx, catalogue, policy, env, &new).await?;
            let granted = catalogue
                .newest(plan)
                .ok_or_else(|| GrantError::unknown_plan(catalogue, plan))?;
            Ok(Applied::Plan {
                until: *until,
                plan: granted,
            })
        }
        Admin::Override {
            target,
            until,
            common,
            ..
        } => {
            let setting = target.setting().cloned().ok_or(AdminError::Nothing)?;
            let new = override_setting(tx, env, catalogue, setting, *until, &common.reason).await?;
            Ok(Applied::Override(new))
        }
    }
}

impl Applied {
    /// Says what was changed: a sentence, or one line of JSON in which unlimited is `null`.
    ///
    /// # Errors
    /// Nobody listens any more; the change stands.
    pub(crate) fn write(
        &self,
        out: &mut dyn Write,
        workspace: WorkspaceId,
        json: bool,
    ) -> io::Result<()> {
        if json {
            return writeln!(out, "{}", self.json(workspace));
        }
        match self {
            Self::Plan { plan, until } => {
                let until =
                    until.map_or_else(String::new, |until| format!(", until {}", time(until)));
                writeln!(
                    out,
                    "{workspace} is granted {} version {} now{until}",
                    plan.slug, plan.version
                )
            }
            Self::Override(new) => {
                let (name, value) = match &new.setting {
                    Setting::Limit(name, limit) => (name.to_string(), limit.to_string()),
                    Setting::Feature(name, on) => (name.to_string(), on.to_string()),
                };
                let until = match new.until {
                    Some(until) => format!("until {}", time(until)),
                    None => "until it is overridden again".to_owned(),
                };
                writeln!(out, "{workspace} has {name} = {value} now, {until}")
            }
        }
    }

    fn json(&self, workspace: WorkspaceId) -> Value {
        match self {
            Self::Plan { plan, until } => {
                json!({ "workspace": workspace, "plan": plan.slug, "version": plan.version, "until": until })
            }
            Self::Override(new) => {
                let (name, value) = match &new.setting {
                    Setting::Limit(name, limit) => (name.to_string(), json!(limit.bound())),
                    Setting::Feature(name, on) => (name.to_string(), json!(on)),
                };
                json!({ "workspace": workspace, "id": new.id, "name": name, "value": value, "until": new.until })
            }
        }
    }
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use rawdrive_plans::Limit;

    use super::*;
    use crate::cli::{Cli, Command};

    const WORKSPACE: &str = "ws_01890000000070008000000000000001";

    fn shown(applied: &Applied, json: bool) -> String {
        let mut out = Vec::new();
        applied
            .write(&mut out, WORKSPACE.parse().unwrap(), json)
            .unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_plan_is_named_with_its_version() {
        let plan = rawdrive_gallery::built_in_catalogue()
            .newest(&"professional".parse().unwrap())
            .unwrap();
        let mut applied = Applied::Plan {
            plan: plan.clone(),
            until: None,
        };
        assert_eq!(
            shown(&applied, false),
            format!("{WORKSPACE} is granted professional version 1 now\n")
        );
        let json: Value = serde_json::from_str(&shown(&applied, true)).unwrap();
        assert_eq!(
            json,
            json!({ "workspace": WORKSPACE, "plan": "professional", "version": 1, "until": null })
        );
        applied = Applied::Plan {
            plan,
            until: Some("2027-01-01T00:00:00Z".parse().unwrap()),
        };
        assert_eq!(
            shown(&applied, false),
            format!(
                "{WORKSPACE} is granted professional version 1 now, until 2027-01-01T00:00:00Z\n"
            )
        );
    }

    #[test]
    fn an_unlimited_override_is_null_for_programs() {
        let applied = Applied::Override(Override {
            id: "ovr_01890000000070008000000000000002".parse().unwrap(),
            setting: Setting::Limit(rawdrive_gallery::PHOTOS, Limit::Unlimited),
            reason: "asked".to_owned(),
            until: Some("2027-01-01T00:00:00Z".parse().unwrap()),
        });
        assert_eq!(
            shown(&applied, false),
            format!("{WORKSPACE} has photos = unlimited now, until 2027-01-01T00:00:00Z\n")
        );
        let json: Value = serde_json::from_str(&shown(&applied, true)).unwrap();
        assert_eq!(json["value"], Value::Null);
        assert_eq!(json["until"], "2027-01-01T00:00:00Z");
    }

    #[test]
    fn a_command_knows_its_workspace_and_its_reader() {
        let line = [
            "rawdrive",
            "admin",
            "set-plan",
            "--workspace",
            WORKSPACE,
            "--plan",
            "free",
            "--reason",
            "x",
            "--json",
        ];
        let Command::Admin(admin) = Cli::parse_from(line).into_command() else {
            panic!()
        };
        assert_eq!(admin.workspace().to_string(), WORKSPACE);
        assert!(admin.json());
    }
}
