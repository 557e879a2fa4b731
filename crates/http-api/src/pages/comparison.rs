//! The plans side by side, with today's usage and what of it each would break.

use std::fmt::Write as _;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rawdrive_billing::Currency;
use rawdrive_notices::money;
use rawdrive_plans::{Catalogue, Entitlements, Interval, Limit, Metric, MetricDefinition, Plan};
use rawdrive_usage::{QuotaKey, QuotaRow};

use crate::routes::plans::{find, key};
use crate::web::html::escaped;

/// A limit as a plan would set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cell {
    limit: Limit,
    /// By how much today's usage is beyond it. Nothing is deleted for it: no more can be made.
    over: u64,
}

/// What is counted.
#[derive(Debug)]
struct Line {
    metric: Metric,
    definition: MetricDefinition,
    /// Nothing for what is counted apart for each of its subjects.
    used: Option<u64>,
    cells: Vec<Cell>,
}

/// The plans that can be had, in the catalogue's order.
#[derive(Debug)]
pub(super) struct Comparison {
    plans: Vec<Arc<Plan>>,
    lines: Vec<Line>,
    switches: Vec<(String, Vec<bool>)>,
}

impl Comparison {
    /// Overrides stand above every plan, so they stand in every column.
    pub(super) fn of(
        catalogue: &Catalogue,
        entitlements: &Entitlements,
        quotas: &[(QuotaKey, QuotaRow)],
        now: DateTime<Utc>,
    ) -> Self {
        let plans: Vec<_> = catalogue.current().cloned().collect();
        let moved: Vec<_> = plans
            .iter()
            .map(|plan| Entitlements {
                plan: plan.clone(),
                ends: None,
                ..entitlements.clone()
            })
            .collect();
        let lines = catalogue.metrics().map(|(metric, definition)| {
            let own = definition.per.is_none();
            let counter = key(metric, definition.kind, now, entitlements.billing_anchor);
            let used = own.then(|| find(quotas, &counter).used);
            let cell = |then: &Entitlements| {
                let limit = then.limit(metric, now).value;
                // What was used of a flow is used: the next period begins at zero under the new limit.
                let over = match (limit, used) {
                    (Limit::AtMost(limit), Some(used)) if counter.is_level() => {
                        used.saturating_sub(limit)
                    }
                    _ => 0,
                };
                Cell { limit, over }
            };
            Line {
                metric: metric.clone(),
                definition: definition.clone(),
                used,
                cells: moved.iter().map(cell).collect(),
            }
        });
        let switches = catalogue.features().map(|feature| {
            let on = moved.iter().map(|then| then.feature(feature, now).value);
            (feature.to_string(), on.collect())
        });
        Self {
            lines: lines.collect(),
            switches: switches.collect(),
            plans,
        }
    }

    /// The table; `action` is what stands below a plan.
    pub(super) fn table(
        &self,
        currency: Currency,
        interval: Interval,
        action: impl Fn(&Plan) -> String,
    ) -> String {
        let mut rows = String::new();
        let mut row = |head: &str, today: &str, cells: Vec<String>| {
            let _ = write!(rows, "<tr><th scope=\"row\">{head}</th><td>{today}</td>");
            for cell in cells {
                rows.push_str(&cell);
            }
            rows.push_str("</tr>\n");
        };
        let plain = |text: String| format!("<td>{text}</td>");
        let prices = self
            .plans
            .iter()
            .map(|plan| plain(price(plan, currency, interval)));
        row("Price", "", prices.collect());
        for line in &self.lines {
            let used = line.used.map_or_else(String::new, |used| line.amount(used));
            let cells = line.cells.iter().map(|cell| line.cell(*cell));
            row(&line.label(), &used, cells.collect());
        }
        for (feature, on) in &self.switches {
            let cells = on
                .iter()
                .map(|on| plain(if *on { "yes" } else { "–" }.to_owned()));
            row(&escaped(&words(feature)), "", cells.collect());
        }
        let actions = self.plans.iter().map(|plan| plain(action(plan)));
        row("", "", actions.collect());
        let names = self.plans.iter().fold(String::new(), |mut all, plan| {
            let _ = write!(all, "<th scope=\"col\">{}</th>", escaped(&plan.name));
            all
        });
        format!(
            "<div class=\"scroll\"><table>\n<thead><tr><td></td><th scope=\"col\">Used today</th>{names}</tr></thead>\n\
             <tbody>\n{rows}</tbody>\n</table></div>\n"
        )
    }
}

impl Line {
    fn label(&self) -> String {
        let mut label = words(self.metric.as_str());
        if let Some(per) = &self.definition.per {
            let _ = write!(label, " per {}", words(per));
        }
        if self.definition.kind == rawdrive_plans::MetricKind::Flow {
            label.push_str(" in a period");
        }
        escaped(&label)
    }

    fn amount(&self, units: u64) -> String {
        escaped(&amount(&self.metric, Some(&self.definition), units))
    }

    fn cell(&self, cell: Cell) -> String {
        let limit = match cell.limit {
            Limit::Unlimited => "unlimited".to_owned(),
            Limit::AtMost(limit) => self.amount(limit),
        };
        if cell.over == 0 {
            return format!("<td>{limit}</td>");
        }
        let over = self.amount(cell.over);
        format!("<td>{limit} <span class=\"over\">{over} too much</span></td>")
    }
}

fn price(plan: &Plan, currency: Currency, interval: Interval) -> String {
    match plan.price(currency.as_str(), interval) {
        Some(price) => {
            let minor = i64::try_from(price.amount).unwrap_or(i64::MAX);
            let trial = plan.trial_days.filter(|days| *days > 0);
            let trial =
                trial.map_or_else(String::new, |days| format!("<br>first {days} days free"));
            format!("{} a {interval}{trial}", escaped(&money(minor, currency)))
        }
        None if plan.prices.is_empty() => "–".to_owned(),
        None => format!(
            "not sold by the {interval} in {}",
            currency.as_str().to_uppercase()
        ),
    }
}

/// A number of units, for people.
pub(super) fn amount(metric: &Metric, definition: Option<&MetricDefinition>, units: u64) -> String {
    const SIZES: [(&str, u64); 4] = [
        ("TB", 1 << 40),
        ("GB", 1 << 30),
        ("MB", 1 << 20),
        ("KB", 1 << 10),
    ];
    let unit = definition.and_then(|definition| definition.unit.as_deref());
    if unit != Some("bytes") && !metric.as_str().ends_with("_bytes") {
        return unit.map_or_else(|| units.to_string(), |unit| format!("{units} {unit}"));
    }
    let size = SIZES.into_iter().find(|(_, bytes)| units >= *bytes);
    let Some((name, bytes)) = size else {
        return format!("{units} bytes");
    };
    let tenths = u128::from(units) * 10 / u128::from(bytes);
    match tenths % 10 {
        0 => format!("{} {name}", tenths / 10),
        tenth => format!("{}.{tenth} {name}", tenths / 10),
    }
}

/// A name of the catalogue as words.
pub(super) fn words(name: &str) -> String {
    name.trim_end_matches("_bytes").replace('_', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rawdrive_plans::Slug;
    use rawdrive_tenancy_core::Env;

    const PLANS: &str = r#"
        [[metric]]
        name = "storage_bytes"
        kind = "level"
        [[metric]]
        name = "calls"
        kind = "flow"
        unit = "calls"
        [[plan]]
        slug = "free"
        version = 1
        name = "Free <3"
        limits = { storage_bytes = 10, calls = 5 }
        [[plan]]
        slug = "big"
        version = 1
        name = "Big"
        limits = { storage_bytes = 2147483648 }
        features = { exports = true }
        prices = [{ currency = "usd", interval = "month", amount = 2900 }]
    "#;

    fn table(used: u64) -> String {
        let catalogue = Catalogue::parse(PLANS).unwrap();
        let env = Env::system();
        let entitlements = Entitlements {
            workspace: env.id(),
            plan: catalogue.newest(&Slug::free()).unwrap(),
            overrides: Vec::new(),
            billing_anchor: None,
            grace_until: None,
            read_only: None,
            ends: None,
            metrics: catalogue.declared().clone(),
            currency: "usd".to_owned(),
            plans_today: catalogue.current().cloned().collect(),
        };
        let now = env.now();
        let row = |metric: &'static str, flow: bool| {
            let metric = Metric::new(metric);
            let kind = catalogue.definition(&metric).unwrap().kind;
            assert_eq!(kind == rawdrive_plans::MetricKind::Flow, flow);
            let row = QuotaRow {
                used,
                ..QuotaRow::default()
            };
            (key(&metric, kind, now, None), row)
        };
        let rows = [row("storage_bytes", false), row("calls", true)];
        let compared = Comparison::of(&catalogue, &entitlements, &rows, now);
        let usd = Currency::parse("usd").unwrap();
        compared.table(usd, Interval::Month, |plan| format!("choose {}", plan.slug))
    }

    #[test]
    fn a_plan_says_what_of_todays_usage_it_would_break() {
        let shown = table(12);
        assert!(
            shown.contains("<th scope=\"col\">Free &lt;3</th>"),
            "{shown}"
        );
        assert!(
            shown.contains("10 bytes <span class=\"over\">2 bytes too much"),
            "{shown}"
        );
        // What is used of a flow is used.
        assert!(
            shown.contains("<td>12 calls</td><td>5 calls</td>"),
            "{shown}"
        );
        assert!(shown.contains("<td>2 GB</td>"), "{shown}");
        assert!(shown.contains("29.00 USD a month"), "{shown}");
        assert!(shown.contains("choose big"), "{shown}");
        assert!(!table(10).contains("too much"));
    }

    #[test]
    fn bytes_are_written_as_people_say_them() {
        let bytes = |units| amount(&Metric::new("storage_bytes"), None, units);
        assert_eq!(bytes(512), "512 bytes");
        assert_eq!(bytes(1536), "1.5 KB");
        assert_eq!(bytes(5 << 30), "5 GB");
        assert_eq!(bytes(u64::MAX), "16777215.9 TB");
        assert_eq!(amount(&Metric::new("calls"), None, 3), "3");
    }
}
