//! The page that `upgrade_url` leads to: what was refused, the plans side by side, and the way to pay.
//!
//! What is done here, the API's use cases do; each is asked for by a form of this page, by an admin or an owner.

use actix_web::http::StatusCode;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use rawdrive_billing::{
    BillingError, BillingRead as _, Effective, Order, Preview, SubscriptionStatus, current,
};
use rawdrive_notices::money;
use rawdrive_plans::{Interval, Slug};
use rawdrive_store::{Release, in_request};
use rawdrive_tenancy_core::{Commit as _, WorkspaceScope};

use super::answer::{
    Page, alert, leading_on, notice, refusal_page, refusal_text, see_other, stale, with_refusal,
};
use super::asked::Asked;
use super::comparison::{amount, words};
use super::overview::{Shown, day, hidden, overview};
use super::sign_in::{self, Filled, HEADING, open_on_page};
use super::visit::{Cookie, Form, fetch_site, is_anothers, session_claims};
use crate::app::App;
use crate::auth::{Admin, Leaving, Personal};
use crate::web::html::escaped;
use crate::web::{Body, Code, Problem, Validator};

/// What was asked, and by which browser.
struct Visit<'a> {
    app: &'a Data<App>,
    request: &'a HttpRequest,
    asked: Asked,
}

pub(super) async fn show(app: Data<App>, request: HttpRequest) -> HttpResponse {
    let visit = Visit::of(&app, &request);
    // A link on another site brings no cookie along, whether or not there is one; one on this page does.
    if fetch_site(&request) == Some("cross-site") {
        let page = leading_on(HEADING, &visit.asked.address(), "Go on");
        return page.send(app.prefix());
    }
    visit.answered(visit.shown().await)
}

pub(super) async fn act(app: Data<App>, request: HttpRequest, body: Body) -> HttpResponse {
    let visit = Visit::of(&app, &request);
    visit.answered(visit.acted(body).await)
}

impl<'a> Visit<'a> {
    fn of(app: &'a Data<App>, request: &'a HttpRequest) -> Self {
        let asked = Asked::of(&app.catalogue, request.query_string());
        Self {
            app,
            request,
            asked,
        }
    }

    /// A refusal is a page, too.
    fn answered(&self, answer: Result<HttpResponse, Problem>) -> HttpResponse {
        answer.unwrap_or_else(|problem| refusal_page(self.app.prefix(), &problem))
    }

    fn send(&self, page: Page) -> HttpResponse {
        page.send(self.app.prefix())
    }

    /// Whose session the cookie names, as it stands in the database at this request.
    async fn person(&self) -> Result<Option<Personal<Leaving>>, Problem> {
        let Some(claims) = session_claims(self.app, self.request) else {
            return Ok(None);
        };
        match Personal::of_page(self.app, claims).await {
            Ok(person) => Ok(Some(person)),
            Err(problem) if problem.code == Code::Unauthenticated => Ok(None),
            Err(problem) => Err(problem),
        }
    }

    async fn shown(&self) -> Result<HttpResponse, Problem> {
        let page = match self.person().await? {
            Some(person) => self.overview(&person, String::new()).await?,
            None => self.sign_in("")?,
        };
        Ok(self.send(page))
    }

    fn sign_in(&self, said: &str) -> Result<Page, Problem> {
        let filled = Filled {
            said: alert(said),
            ..Filled::default()
        };
        sign_in::page(self.app, self.request, &self.asked, &filled)
    }

    /// The page of who signed in, with something to be read first.
    async fn overview(&self, person: &Personal<Leaving>, said: String) -> Result<Page, Problem> {
        let shown = Shown {
            app: self.app,
            asked: &self.asked,
            person,
            form_token: self.form_token(person),
            said,
        };
        overview(&shown).await
    }

    fn form_token(&self, person: &Personal<Leaving>) -> String {
        let session = person.membership().session().to_string();
        self.app.page_keys.form_token(&session)
    }

    async fn acted(&self, body: Body) -> Result<HttpResponse, Problem> {
        let form = Form::read(body).await?;
        if is_anothers(self.request) {
            return Ok(self.send(stale(HEADING)));
        }
        let action = form.text("action");
        if matches!(action, "sign_in" | "forgot") {
            return sign_in::act(self.app, self.request, &self.asked, &form).await;
        }
        let Some(person) = self.person().await? else {
            let mut page = self.sign_in("You are signed out. Sign in again.")?;
            page.status = StatusCode::UNAUTHORIZED;
            return Ok(self.send(page));
        };
        let session = person.membership().session().to_string();
        if !self
            .app
            .page_keys
            .is_form_token(&session, form.text("form_token"))
        {
            return Ok(self.send(stale(HEADING)));
        }
        let done = match action {
            "sign_out" => self.sign_out(&person).await,
            "switch" => self.switch(&person, &form).await,
            "choose" => self.choose(&person, &form).await,
            "change" => self.change(&form).await,
            "resume" => self.resume().await,
            "portal" => self.portal().await,
            _ => Err(Problem::invalid_field("action", "is none of this page's")),
        };
        match done {
            Err(problem) if problem.code.number() != 500 => {
                let said = alert(&refusal_text(&problem)) + &hint(&problem);
                let page = self.overview(&person, said).await?;
                Ok(with_refusal(self.send(page), &problem))
            }
            done => done,
        }
    }

    async fn sign_out(&self, person: &Personal<Leaving>) -> Result<HttpResponse, Problem> {
        let (store, env) = (&self.app.store, self.app.env());
        let mut tx = store
            .begin_despite_read_only(&person.scope, Release::Identity)
            .await?;
        rawdrive_identity::sign_out(&mut tx, env, person.membership()).await?;
        tx.commit().await?;
        let cookies = vec![Cookie::Session.forget(self.app)?];
        Ok(see_other(&self.asked.anew().address(), cookies))
    }

    /// Shows another workspace of the person, who is asked for no password anew.
    async fn switch(
        &self,
        person: &Personal<Leaving>,
        form: &Form,
    ) -> Result<HttpResponse, Problem> {
        let target = form.text("workspace").parse();
        let target = target.map_err(|_| Problem::not_found())?;
        let opening =
            rawdrive_identity::switch(&self.app.store, &person.authenticated, target).await?;
        let cookies = open_on_page(self.app, opening).await?;
        Ok(see_other(&self.asked.anew().address(), cookies))
    }

    /// The right to spend the workspace's money.
    async fn admin(&self) -> Result<WorkspaceScope, Problem> {
        let claims = session_claims(self.app, self.request).ok_or_else(Problem::unauthenticated)?;
        let admin = Personal::<Admin>::of_page(self.app, claims).await?;
        Ok(admin.scope)
    }

    /// To the hosted checkout where nothing is paid for yet; otherwise to a preview of the change.
    async fn choose(
        &self,
        person: &Personal<Leaving>,
        form: &Form,
    ) -> Result<HttpResponse, Problem> {
        let (scope, order) = (self.admin().await?, order(form)?);
        let (_, subscriptions) = self.app.store.read(&scope).billing().await?;
        // Beside one that waits for nobody's money, another can begin: billing knows which.
        let running = current(&subscriptions).map(|one| &one.snapshot.status);
        let pays = running.is_some_and(|s| s.is_live() && *s != SubscriptionStatus::Paused);
        if !pays {
            match self.checkout(scope, order.clone()).await? {
                Ok(url) => {
                    return Ok(self.send(leading_on("Payment", &url, "Go on to the payment")));
                }
                Err(BillingError::AlreadySubscribed) => {}
                Err(error) => return Err(self.app.billing_problem(error)),
            }
        }
        let preview = self.app.billing.preview(&scope, &order).await;
        let preview = preview.map_err(|error| self.app.billing_problem(error))?;
        Ok(self.send(self.preview_page(&preview, &order, &self.form_token(person))))
    }

    async fn checkout(
        &self,
        scope: WorkspaceScope,
        order: Order,
    ) -> Result<Result<String, BillingError>, Problem> {
        let page = self.app.upgrade_url();
        let back = |asked: &Asked| match asked.query() {
            query if query.is_empty() => page.clone(),
            query => format!("{page}?{query}"),
        };
        let anew = self.asked.anew();
        let paid = Asked {
            paid: Some(0),
            ..anew.clone()
        };
        let (app, success, cancel) = (self.app.clone(), back(&paid), back(&anew));
        outside(async move { app.billing.checkout(&scope, &order, success, cancel).await }).await
    }

    /// What a change would cost and break, and the button that makes it.
    fn preview_page(&self, preview: &Preview, order: &Order, form_token: &str) -> Page {
        let name = escaped(&preview.plan.name);
        let when = match preview.effective {
            Effective::Now => "at once".to_owned(),
            Effective::AtPeriodEnd => format!("on {}", day(preview.effective_at)),
        };
        let sum = |amount: rawdrive_billing::Money| money(amount.minor, amount.currency);
        let now = match preview.charged_now.minor {
            0 => "Nothing is charged now.".to_owned(),
            minor if minor < 0 => {
                let credited = money(minor.saturating_neg(), preview.charged_now.currency);
                format!("{credited} is credited to later invoices.")
            }
            _ => format!("{} is charged now.", sum(preview.charged_now)),
        };
        let next = preview.next_at.map_or_else(
            || "Nothing is charged after that.".to_owned(),
            |at| {
                format!(
                    "The next invoice comes to {} on {}.",
                    sum(preview.charged_next),
                    day(at)
                )
            },
        );
        let broken = preview.broken.iter().map(|broken| {
            let definition = self.app.catalogue.definition(&broken.metric);
            let units = |n| amount(&broken.metric, definition, n);
            let of = match broken.subject.as_str() {
                "" => String::new(),
                subject => format!(" ({subject})"),
            };
            let text = format!(
                "{}{of}: {} of {} used",
                words(broken.metric.as_str()),
                units(broken.used),
                units(broken.limit)
            );
            format!("<li class=\"over\">{}</li>\n", escaped(&text))
        });
        let broken: String = broken.collect();
        let broken = match broken.as_str() {
            "" => String::new(),
            list => format!(
                "<p>Today's usage is beyond what this plan allows. Nothing is deleted, and nothing more can be added \
                 there:</p>\n<ul>\n{list}</ul>\n"
            ),
        };
        let address = escaped(&self.asked.anew().address());
        let plan = order.plan.to_string();
        let fields = [
            ("form_token", form_token),
            ("plan", plan.as_str()),
            ("interval", order.interval.as_str()),
            ("commit_token", &preview.commit_token),
        ];
        let body = format!(
            "<p>{name}, charged by the {}, {when}.</p>\n<p>{}<br>{}</p>\n{broken}\
             <form method=\"post\" action=\"{address}\">{}<p><button name=\"action\" value=\"change\">Change to {name}</button> \
             <a href=\"{address}\">Leave it as it is</a></p></form>\n",
            order.interval,
            escaped(&now),
            escaped(&next),
            hidden(&fields),
        );
        Page::new("Change of plan", body)
    }

    /// Makes the change that a preview has shown, as long as what it has shown is so.
    async fn change(&self, form: &Form) -> Result<HttpResponse, Problem> {
        let (scope, order) = (self.admin().await?, order(form)?);
        let (app, token) = (self.app.clone(), form.text("commit_token").to_owned());
        let changed =
            outside(async move { app.billing.change_plan(&scope, &order, Some(&token)).await });
        changed
            .await?
            .map_err(|error| self.app.billing_problem(error))?;
        Ok(self.done())
    }

    async fn resume(&self) -> Result<HttpResponse, Problem> {
        let (scope, app) = (self.admin().await?, self.app.clone());
        let resumed = outside(async move { app.billing.resume(&scope).await }).await?;
        resumed.map_err(|error| self.app.billing_problem(error))?;
        Ok(self.done())
    }

    fn done(&self) -> HttpResponse {
        let changed = Asked {
            changed: true,
            ..self.asked.anew()
        };
        see_other(&changed.address(), Vec::new())
    }

    async fn portal(&self) -> Result<HttpResponse, Problem> {
        let scope = self.admin().await?;
        let back = self.app.upgrade_url();
        let opened = self.app.billing.portal(&scope, &back).await;
        let url = opened.map_err(|error| self.app.billing_problem(error))?;
        let text = "Go on to cards and invoices";
        Ok(self.send(leading_on("Cards and invoices", &url, text)))
    }
}

/// Runs in a task of its own: a browser that goes away drops the handler, and not what was begun.
async fn outside<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, Problem> {
    tokio::spawn(in_request(work))
        .await
        .map_err(Problem::internal)
}

fn order(form: &Form) -> Result<Order, Problem> {
    let mut v = Validator::new();
    let plan: Result<Slug, _> = form.text("plan").parse();
    let plan = v.check("plan", plan.map_err(|_| "is no plan's name"));
    let interval = v.check("interval", form.text("interval").parse::<Interval>());
    v.finish_with(plan.zip(interval))
        .map(|(plan, interval)| Order { plan, interval })
}

/// What somebody can do about a refusal.
fn hint(problem: &Problem) -> String {
    match problem.code {
        Code::PaymentDeclined => {
            notice("Use another card: the button below leads to where cards are kept.")
        }
        Code::PaymentActionRequired => notice(
            "Open the unpaid invoice below and confirm its payment there. It may take a moment to be listed.",
        ),
        Code::PlanChangeStale => notice("Choose the plan again to see what it costs now."),
        Code::InsufficientRole => notice("Ask an owner of the workspace."),
        _ => String::new(),
    }
}
