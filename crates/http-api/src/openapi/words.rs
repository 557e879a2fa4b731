//! The words that members of the API's bodies take, as schemas. The domain's own types are not made for the wire; the
//! tests hold the two together.

use utoipa::ToSchema;

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident as $schema:ident = $($(#[$word_doc:meta])* $word:ident $text:literal)|+;)+) => {$(
        $(#[$doc])*
        #[derive(Debug, ToSchema)]
        #[schema(as = $schema)]
        #[expect(missing_docs, reason = "a word's meaning is its text")]
        pub enum $name {
            $($(#[$word_doc])* #[schema(rename = $text)] $word,)+
        }
    )+};
}

words! {
    /// A role in the workspace.
    RoleName as Role = Owner "owner" | Admin "admin" | Member "member";
    /// Whether the workspace can be worked in.
    WorkspaceStatusName as WorkspaceStatus = Active "active" | Suspended "suspended" | Deleted "deleted";
    /// What the workspace may do now.
    AccessName as Access = Full "full" | Grace "grace" | ReadOnly "read_only" | Closed "closed";
    /// Where a limit or a feature comes from.
    OriginName as Origin = Plan "plan" | Grace "grace" | Override "override";
    /// Where a reservation is in its life.
    ReservationStateName as ReservationState = Held "held" | Settled "settled" | Deleted "deleted" | Expired "expired";
    /// How often a price is charged.
    IntervalName as Interval = Month "month" | Year "year";
    /// Where a subscription is in its life.
    SubscriptionStatusName as SubscriptionStatus = None "none" | Incomplete "incomplete" | IncompleteExpired "incomplete_expired"
        | Trialing "trialing" | Active "active" | PastDue "past_due" | Unpaid "unpaid" | Paused "paused" | Canceled "canceled";
    /// Where an invoice is in its life.
    InvoiceStatusName as InvoiceStatus = Draft "draft" | Open "open" | Paid "paid" | Uncollectible "uncollectible" | Void "void";
    /// When a change of plan happens.
    EffectiveName as Effective = Now "now" | AtPeriodEnd "at_period_end";
    /// Where a step of onboarding stands.
    StepStatusName as StepStatus = Open "open" | Completed "completed" | Skipped "skipped" | NotAvailable "not_available";
    /// How a metric is counted: what there is, or what happens.
    MetricKindName as MetricKind = Level "level" | Flow "flow";
    /// What a line of the ledger stands for.
    LineKindName as LineKind = Usage "usage" | Correction "correction" | Carry "carry";
    /// Whether a statement may still change.
    StatementStatusName as StatementStatus = Open "open" | Closed "closed";
    /// Where an event is on its way to an endpoint.
    DeliveryStateName as DeliveryState = Pending "pending" | Delivered "delivered" | Failed "failed";
    /// Why an endpoint was disabled by itself.
    DisabledReasonName as DisabledReason = Failing "failing" | Gone "gone";
    /// How a dependency is.
    DependencyStatusName as DependencyStatus = Ok "ok" | Unavailable "unavailable" | Full "full";
    /// Whether the server can serve.
    ReadinessName as ReadinessStatus = Ready "ready" | Unavailable "unavailable";
    /// Why a reported event is not counted.
    RefusalName as EventRefusal = InvalidId "invalid_id" | InvalidSubject "invalid_subject" | UnknownMetric "unknown_metric"
        | MetricNotIngested "metric_not_ingested" | InvalidQuantity "invalid_quantity" | InvalidOccurredAt "invalid_occurred_at"
        | TooOld "too_old" | InTheFuture "in_the_future" | BelowZero "below_zero" | TooLarge "too_large";
}
