//! What somebody sees who signed in: their workspace's plan and its state, the plans beside today's usage, and invoices.

use std::fmt::Write as _;

use actix_web::web::Data;
use chrono::{DateTime, Utc};
use rawdrive_billing::{BillingRead as _, Currency, InvoiceSnapshot};
use rawdrive_identity::ports::{Belonging, IdentityRead, WorkspaceStatus};
use rawdrive_notices::money;
use rawdrive_plans::{Access, Entitlements, Interval, Limit, Plan, Slug, Wanted};
use rawdrive_store::WorkspaceRow;
use rawdrive_tenancy_core::Role;
use rawdrive_tenancy_core::page::PageRequest;
use rawdrive_usage::{QuotaKey, QuotaRow};

use super::answer::{Page, alert, notice};
use super::asked::{Asked, LOOKS};
use super::comparison::{Comparison, amount, words};
use super::sign_in::HEADING;
use crate::app::App;
use crate::auth::{Leaving, Personal};
use crate::routes::billing::{SubscriptionView, view};
use crate::routes::plans::{find, key};
use crate::web::Problem;
use crate::web::html::escaped;

/// How many invoices are listed; the portal has the rest.
const INVOICES: u16 = 12;
/// How often the page looks whether a payment has arrived, in seconds.
const LOOK_SECONDS: u8 = 2;

/// To whom what is shown.
pub(super) struct Shown<'a> {
    pub(super) app: &'a Data<App>,
    pub(super) asked: &'a Asked,
    pub(super) person: &'a Personal<Leaving>,
    pub(super) form_token: String,
    /// What is to be read first.
    pub(super) said: String,
}

/// What is known of the workspace.
struct Known {
    workspace: WorkspaceRow,
    entitlements: std::sync::Arc<Entitlements>,
    quotas: Vec<(QuotaKey, QuotaRow)>,
    subscription: SubscriptionView,
    currency: Currency,
    interval: Interval,
    now: DateTime<Utc>,
}

pub(super) async fn overview(shown: &Shown<'_>) -> Result<Page, Problem> {
    let (app, scope) = (shown.app, &shown.person.scope);
    let user = IdentityRead::user(&app.store, shown.person.membership().user()).await?;
    let email = user.ok_or_else(Problem::unauthenticated)?.email;
    let belongings = app
        .store
        .workspaces_of(shown.person.membership().user())
        .await?;
    let reader = app.store.read(scope);
    let workspace = reader.workspace().await?;
    let head = shown.head(&workspace, email.as_str(), &belongings);
    if shown.person.authenticated.workspace_status != WorkspaceStatus::Active {
        let text = "This workspace is deleted or suspended. Its owner can have it restored by the operator of this installation.";
        return Ok(Page::new(HEADING, head + &alert(text)));
    }
    let subscription = view(app, scope).await?;
    let currency = Currency::parse(&workspace.currency).map_err(Problem::internal)?;
    let own = subscription.interval.and_then(|text| text.parse().ok());
    let known = Known {
        entitlements: reader.entitlements().await?,
        quotas: reader.workspace_quotas().await?,
        interval: shown.asked.interval.or(own).unwrap_or(Interval::Month),
        now: app.env().now(),
        workspace,
        subscription,
        currency,
    };
    let is_admin = shown.person.membership().role() >= Role::Admin;
    let mut body = head;
    body.push_str(&shown.said);
    let mut page_head = String::new();
    shown.payment(&known, &mut body, &mut page_head);
    shown.refusal(&known, &mut body);
    shown.state(&known, &mut body);
    let takes_payments = app.billing.provider_answers().is_some();
    if !takes_payments {
        let text = format!(
            "This installation takes no payments. Ask its operator for another plan; the workspace is {}.",
            known.workspace.id
        );
        body.push_str(&notice(&text));
    } else if !is_admin {
        let owners = reader.owners().await?.join(", ");
        let text = format!("Admins and owners choose the plan. Ask an owner: {owners}.");
        body.push_str(&notice(&text));
    }
    let can_choose = takes_payments && is_admin;
    body.push_str(&shown.plans(&known, can_choose));
    if can_choose {
        body.push_str(&shown.manage(&known));
    }
    if is_admin {
        let request = PageRequest {
            limit: INVOICES,
            after: None,
        };
        let invoices = reader.invoices(&request).await?.items;
        body.push_str(&invoice_list(&invoices));
    }
    let mut page = Page::new(HEADING, body);
    page.head = page_head;
    Ok(page)
}

impl Shown<'_> {
    /// A form of this page with one button.
    fn button(&self, action: &str, text: &str, fields: &[(&str, &str)]) -> String {
        format!(
            "<form class=\"inline\" method=\"post\" action=\"{}\">{}{}<button name=\"action\" value=\"{action}\">{}</button></form>",
            escaped(&self.asked.anew().address()),
            hidden(&[("form_token", &self.form_token)]),
            hidden(fields),
            escaped(text)
        )
    }

    fn head(&self, workspace: &WorkspaceRow, email: &str, belongings: &[Belonging]) -> String {
        let mut head = format!(
            "<div>{}, signed in as {} {}</div>\n",
            escaped(&workspace.name),
            escaped(email),
            self.button("sign_out", "Sign out", &[])
        );
        let others = belongings
            .iter()
            .filter(|other| other.workspace != workspace.id);
        let options = others.fold(String::new(), |mut all, other| {
            let name = escaped(other.name.as_str());
            let _ = write!(all, "<option value=\"{}\">{name}</option>", other.workspace);
            all
        });
        if !options.is_empty() {
            let _ = writeln!(
                head,
                "<form method=\"post\" action=\"{}\">{}<p><label>Another workspace: <select name=\"workspace\">{options}</select></label> \
                 <button name=\"action\" value=\"switch\">Show it</button></p></form>",
                escaped(&self.asked.anew().address()),
                hidden(&[("form_token", &self.form_token)]),
            );
        }
        head
    }

    /// Whether what was just done has arrived. The provider tells of a payment in its own time.
    fn payment(&self, known: &Known, body: &mut String, head: &mut String) {
        if self.asked.changed {
            body.push_str(&notice("Done."));
        }
        let Some(looks) = self.asked.paid else { return };
        if matches!(known.subscription.status.as_str(), "active" | "trialing") {
            let text = format!(
                "Thank you. The plan is {} now.",
                self.plan_name(&known.subscription.plan)
            );
            body.push_str(&notice(&text));
        } else if looks < LOOKS {
            let next = Asked {
                paid: Some(looks + 1),
                ..self.asked.clone()
            };
            let _ = writeln!(
                head,
                "<meta http-equiv=\"refresh\" content=\"{LOOK_SECONDS}; url={}\">",
                escaped(&next.address())
            );
            body.push_str(&notice(
                "The payment is being confirmed. This page looks again by itself.",
            ));
        } else {
            let text = "The payment is not confirmed yet. What was paid is not lost: load this page again in some minutes.";
            body.push_str(&notice(text));
        }
    }

    fn plan_name(&self, slug: &str) -> String {
        let slug: Option<Slug> = slug.parse().ok();
        let plan = slug
            .as_ref()
            .and_then(|slug| self.app.catalogue.newest(slug));
        plan.map_or_else(
            || slug.map_or_else(String::new, |slug| slug.to_string()),
            |plan| plan.name.clone(),
        )
    }

    /// What the address says was refused, as it stands now; and whatever else is at its limit.
    fn refusal(&self, known: &Known, body: &mut String) {
        let (entitlements, now) = (&known.entitlements, known.now);
        if let Some(feature) = &self.asked.feature {
            let name = words(feature.as_str());
            if entitlements.feature(feature, now).value {
                body.push_str(&notice(&format!("The plan includes {name}.")));
            } else {
                let offer = self.offer(known, Wanted::Feature(feature));
                body.push_str(&alert(&format!(
                    "The plan does not include {name}. {offer}"
                )));
            }
        }
        for (metric, definition) in self.app.catalogue.metrics() {
            let is_asked = self.asked.metric.as_ref() == Some(metric);
            let limit = entitlements.limit(metric, now).value;
            let units = |n| amount(metric, Some(definition), n);
            let name = words(metric.as_str());
            if let Some(per) = &definition.per {
                if is_asked {
                    let allowed = match limit {
                        Limit::Unlimited => "There is no limit".to_owned(),
                        Limit::AtMost(limit) => format!("The limit is {}", units(limit)),
                    };
                    let text = format!(
                        "{name} are counted for each {} apart. {allowed} for each.",
                        words(per)
                    );
                    body.push_str(&notice(&text));
                }
                continue;
            }
            let counter = key(metric, definition.kind, now, entitlements.billing_anchor);
            let row = find(&known.quotas, &counter);
            let current = row.used.saturating_add(row.reserved);
            let Limit::AtMost(most) = limit else {
                if is_asked {
                    body.push_str(&notice(&format!("There is no limit of {name}.")));
                }
                continue;
            };
            if current < most {
                if is_asked {
                    let text = format!("{name}: {} of {} are used.", units(current), units(most));
                    body.push_str(&notice(&text));
                }
                continue;
            }
            // What a plan does not have at all is no news, unless somebody has asked for it.
            if most == 0 && current == 0 && !is_asked {
                continue;
            }
            let resets = self.app.resets_at(metric, entitlements.billing_anchor);
            let resets =
                resets.map_or_else(String::new, |at| format!(" It begins anew on {}.", day(at)));
            let wanted = Wanted::Units {
                metric,
                current,
                requested: 1,
            };
            let text = format!(
                "{name} are at their limit: {} of {} are used.{resets} {}",
                units(current),
                units(most),
                self.offer(known, wanted)
            );
            body.push_str(&alert(&text));
        }
    }

    fn offer(&self, known: &Known, wanted: Wanted<'_>) -> String {
        let Some(offer) = known.entitlements.cheapest_plan(wanted, known.now) else {
            return "No plan that is sold in the workspace's currency would allow it: ask the operator.".to_owned();
        };
        let minor = i64::try_from(offer.price.amount).unwrap_or(i64::MAX);
        format!(
            "The cheapest plan that would allow it is {}, {} a {}.",
            offer.plan.name,
            money(minor, known.currency),
            offer.price.interval
        )
    }

    /// The plan in force, and everything that is out of the ordinary about it.
    fn state(&self, known: &Known, body: &mut String) {
        let subscription = &known.subscription;
        let mut line = format!("The plan is {}", self.plan_name(&subscription.plan));
        if let Some(interval) = subscription.interval {
            let _ = write!(line, ", charged by the {interval}");
        }
        if let Some(end) = &subscription.current_period_end {
            let _ = write!(line, ". The period ends on {}", written(end));
        }
        let _ = writeln!(body, "<p>{}.</p>", escaped(&line));
        match known.entitlements.access(known.now) {
            Access::Full => {}
            Access::Grace { until } => {
                let text = format!(
                    "A payment has failed. Until {} everything works; then the workspace becomes read-only. Pay the open \
                     invoice below, or use another card.",
                    day(until)
                );
                body.push_str(&alert(&text));
            }
            Access::ReadOnly(read_only) => {
                let text = format!(
                    "The workspace is read-only since {} ({}). Everything can still be seen, downloaded and deleted. Pay \
                     the open invoice below or choose a plan, and writing works again.",
                    day(read_only.since),
                    words(&read_only.reason)
                );
                body.push_str(&alert(&text));
            }
        }
        let past_due = matches!(
            subscription.status.as_str(),
            "past_due" | "unpaid" | "incomplete"
        );
        if past_due && known.entitlements.access(known.now) == Access::Full {
            let text = format!(
                "The subscription is {}: pay the open invoice below.",
                words(&subscription.status)
            );
            body.push_str(&alert(&text));
        }
        let mut tell = |text: String| body.push_str(&notice(&text));
        if let Some(grant) = &subscription.grant {
            let until = grant
                .until
                .as_deref()
                .map_or_else(String::new, |at| format!(" until {}", written(at)));
            tell(format!(
                "The operator has granted {}{until}.",
                self.plan_name(&grant.plan)
            ));
        }
        if let Some(paused) = &subscription.paused {
            tell(format!(
                "Nothing is charged at the moment ({}).",
                words(&paused.reason)
            ));
        }
        if let Some(end) = &subscription.trial_end
            && subscription.status == "trialing"
        {
            tell(format!("The trial ends on {}.", written(end)));
        }
        if let Some(at) = &subscription.cancel_at {
            tell(format!("The subscription ends on {}.", written(at)));
        }
        if let Some(change) = &subscription.scheduled {
            let plan = change
                .plan
                .as_deref()
                .map_or_else(String::new, |slug| self.plan_name(slug));
            tell(format!(
                "The plan changes to {plan} on {}.",
                written(&change.at)
            ));
        }
    }

    /// The plans side by side.
    fn plans(&self, known: &Known, can_choose: bool) -> String {
        let compared = Comparison::of(
            &self.app.catalogue,
            &known.entitlements,
            &known.quotas,
            known.now,
        );
        let table = compared.table(known.currency, known.interval, |plan| {
            self.plan_action(known, plan, can_choose)
        });
        format!("<h2>Plans</h2>\n{}{table}", self.intervals(known))
    }

    /// Links to the prices by the month and by the year, where there are both.
    fn intervals(&self, known: &Known) -> String {
        let is_sold = |interval: &Interval| {
            let mut plans = self.app.catalogue.current();
            plans.any(|plan| plan.price(known.currency.as_str(), *interval).is_some())
        };
        let sold: Vec<_> = [Interval::Month, Interval::Year]
            .into_iter()
            .filter(is_sold)
            .collect();
        if sold.len() < 2 {
            return String::new();
        }
        let links = sold.iter().map(|interval| {
            if *interval == known.interval {
                return format!("<strong>by the {interval}</strong>");
            }
            let asked = Asked {
                interval: Some(*interval),
                ..self.asked.anew()
            };
            format!(
                "<a href=\"{}\">by the {interval}</a>",
                escaped(&asked.address())
            )
        });
        format!("<p>Prices {}</p>\n", links.collect::<Vec<_>>().join(" · "))
    }

    fn plan_action(&self, known: &Known, plan: &Plan, can_choose: bool) -> String {
        let subscription = &known.subscription;
        let pays = !matches!(
            subscription.status.as_str(),
            "none" | "canceled" | "incomplete" | "incomplete_expired"
        );
        let is_own = subscription.plan == plan.slug.as_str();
        let own_interval = subscription
            .interval
            .is_none_or(|own| own == known.interval.as_str());
        // What has ended and is only forgiven is bought like any other.
        let is_over = matches!(subscription.status.as_str(), "paused" | "canceled")
            && known.entitlements.access(known.now) != Access::Full;
        if is_own && !is_over && (!pays || own_interval) {
            return "<strong>Your plan</strong>".to_owned();
        }
        if !can_choose {
            return String::new();
        }
        let slug = plan.slug.to_string();
        let fields = [
            ("plan", slug.as_str()),
            ("interval", known.interval.as_str()),
        ];
        if plan
            .price(known.currency.as_str(), known.interval)
            .is_some()
        {
            return self.button("choose", &format!("Choose {}", plan.name), &fields);
        }
        // What has no price ends what is paid for. Other plans without one are granted by the operator.
        let ends = pays && plan.slug == Slug::free() && subscription.cancel_at.is_none();
        if ends {
            return self.button("choose", &format!("Move to {}", plan.name), &fields);
        }
        String::new()
    }

    /// What a subscription can be done with.
    fn manage(&self, known: &Known) -> String {
        let subscription = &known.subscription;
        if subscription.status == "none" {
            return String::new();
        }
        let resumes = subscription.cancel_at.is_some()
            || subscription.scheduled.is_some()
            || matches!(subscription.status.as_str(), "paused" | "unpaid");
        let resume = if resumes {
            let text = match subscription.status.as_str() {
                "paused" => "Go on with the subscription",
                "unpaid" => "Pay what is owed",
                _ => "Keep the present plan",
            };
            format!(" {}", self.button("resume", text, &[]))
        } else {
            String::new()
        };
        let portal = self.button("portal", "Cards and all invoices", &[]);
        format!("<h2>Payment</h2>\n<div>{portal}{resume}</div>\n")
    }
}

fn invoice_list(invoices: &[InvoiceSnapshot]) -> String {
    if invoices.is_empty() {
        return String::new();
    }
    let rows = invoices.iter().fold(String::new(), |mut rows, invoice| {
        let link = |url: &Option<String>, text: &str| {
            let url = url
                .as_deref()
                .filter(|url| url.starts_with("https://") || url.starts_with("http://"));
            url.map_or_else(String::new, |url| {
                format!("<a href=\"{}\">{text}</a> ", escaped(url))
            })
        };
        let to_do = if invoice.amount_remaining > 0 && invoice.status.as_str() == "open" {
            "Pay"
        } else {
            "See"
        };
        let _ = writeln!(
            rows,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}{}</td></tr>",
            day(invoice.created),
            escaped(invoice.number.as_deref().unwrap_or("–")),
            escaped(&money(invoice.total, invoice.currency)),
            escaped(invoice.status.as_str()),
            link(&invoice.hosted_url, to_do),
            link(&invoice.pdf_url, "PDF"),
        );
        rows
    });
    format!(
        "<h2>Invoices</h2>\n<div class=\"scroll\"><table>\n<thead><tr><th scope=\"col\">Date</th><th scope=\"col\">Number</th>\
         <th scope=\"col\">Total</th><th scope=\"col\">State</th><td></td></tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n"
    )
}

/// Fields that nobody sees.
pub(super) fn hidden(fields: &[(&str, &str)]) -> String {
    fields.iter().fold(String::new(), |mut all, (name, value)| {
        let value = escaped(value);
        let _ = write!(
            all,
            "<input type=\"hidden\" name=\"{name}\" value=\"{value}\">"
        );
        all
    })
}

/// A day, for people.
pub(super) fn day(at: DateTime<Utc>) -> String {
    at.format("%-d %B %Y").to_string()
}

/// The day of a time on the wire.
fn written(at: &str) -> String {
    at.parse().map_or_else(|_| at.to_owned(), day)
}
