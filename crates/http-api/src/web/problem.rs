//! Every refusal's one shape on the wire: `application/problem+json` (RFC 9457).

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use rawdrive_tenancy_core::{Causes, StoreError};
use serde::Serialize;
use serde_json::{Map, Value};

/// When to try again after there was no room to write, in seconds.
const FULL_SECONDS: u64 = 30;

/// The media type of every refusal.
pub const PROBLEM_JSON: &str = "application/problem+json";

macro_rules! codes {
    ($($name:ident = $status:literal $code:literal, $title:literal, $explanation:literal;)+) => {
        /// Every code that an answer can carry. Clients match on it, so none is ever renamed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "each variant's explanation is its text for the reader")]
        pub enum Code { $($name,)+ }

        impl Code {
            /// All codes, in the order of their statuses.
            pub const ALL: &[Code] = &[$(Code::$name,)+];

            /// The code on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)+ }
            }

            /// The HTTP status as a number.
            #[must_use]
            pub const fn number(self) -> u16 {
                match self { $(Self::$name => $status,)+ }
            }

            /// A short summary that is the same at every occurrence.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)+ }
            }

            /// What happened and what to do, for the page under `/problems/`.
            #[must_use]
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$name => $explanation,)+ }
            }

            const fn type_uri(self) -> &'static str {
                match self { $(Self::$name => concat!("/problems/", $code),)+ }
            }
        }
    };
}

codes! {
    MalformedRequest = 400 "malformed_request", "Malformed request",
        "The request could not be read: its body is not JSON, a header has an impossible value, or its text is not UTF-8. Correct the request; sending it again unchanged gives the same answer.";
    InvalidCursor = 400 "invalid_cursor", "Invalid cursor",
        "The cursor was not issued for this list with these filters. Begin at the first page, without a cursor, and pass each next_cursor back unchanged.";
    InvalidSignature = 400 "invalid_signature", "Invalid signature",
        "The signature does not match the body, or is too old. Sign the exact bytes that are sent, with the current secret and a correct clock.";
    Unauthenticated = 401 "unauthenticated", "Authentication required",
        "The request carries no credential, or one that is expired, revoked or unknown. Sign in again, or refresh the session, and send Authorization: Bearer with the new token.";
    FeatureNotAvailable = 402 "feature_not_available", "Feature not available on this plan",
        "The workspace's plan does not include this feature. The member upgrade_url leads to the plans that do.";
    QuotaExceeded = 402 "quota_exceeded", "Quota exceeded",
        "The action would go beyond a limit of the workspace's plan. The members say which limit, what is used, and when it resets. Free something, wait, or upgrade.";
    WorkspaceReadOnly = 402 "workspace_read_only", "Workspace is read-only",
        "A payment failed or a trial ended, and the time of grace is over. Everything can still be read and exported; writing works again as soon as the subscription is in order.";
    PaymentDeclined = 402 "payment_declined", "Payment declined",
        "The card network declined the payment. Use another payment method or speak to the card's bank; decline_code says why.";
    PaymentActionRequired = 402 "payment_action_required", "Payment needs confirmation",
        "The bank asks the card's holder to confirm the payment. Confirm it with client_secret, then try again.";
    InsufficientRole = 403 "insufficient_role", "Insufficient role",
        "The credential is valid, but its role in this workspace does not allow the action. required_role says which one does.";
    InsufficientScope = 403 "insufficient_scope", "Insufficient scope",
        "The credential is valid, but may not be used for this: its scopes were restricted when it was made. required_scope says which one it lacks.";
    WorkspaceInactive = 403 "workspace_inactive", "Workspace is inactive",
        "The workspace was deleted or suspended. A deleted one can be restored by its owner until its retention time ends.";
    EmailNotVerified = 403 "email_not_verified", "E-mail address is not verified",
        "This sends mail to somebody else, and no owner of the workspace has proved yet that mail to their own address reaches them. Follow the link that was mailed at sign-up, or have another one mailed by POST /v1/email-verifications.";
    NotFound = 404 "not_found", "Not found",
        "There is nothing at this address that this credential may see. Something that never existed, was removed, or belongs to somebody else gives this same answer.";
    NotReady = 404 "not_ready", "Not ready yet",
        "What is asked for is being made. Try again after the time in Retry-After.";
    MethodNotAllowed = 405 "method_not_allowed", "Method not allowed",
        "The address exists but does not answer this method. The Allow header names the methods that it does.";
    RequestTimeout = 408 "request_timeout", "Request timed out",
        "The body did not arrive, or arrived too slowly. Send the request again over a better connection.";
    Conflict = 409 "conflict", "Conflict",
        "The request met another one, or the state of the resource does not allow it. Read the resource again before trying once more.";
    EmailTaken = 409 "email_taken", "E-mail address is taken",
        "An account with this e-mail address exists. Sign in instead, or reset its password.";
    LastOwner = 409 "last_owner", "The last owner stays",
        "A workspace always has an owner. Make another member an owner first.";
    NotEmpty = 409 "not_empty", "Not empty",
        "What is to be deleted still holds something. Delete or move its contents first.";
    IdempotencyInFlight = 409 "idempotency_in_flight", "The first request is still in flight",
        "A request with this Idempotency-Key is still being worked on. Wait as long as Retry-After says, then send it again with the same key.";
    PlanChangeStale = 409 "plan_change_stale", "The preview is stale",
        "The facts behind the preview have changed. Ask for a new preview and commit that one.";
    CurrencyMismatch = 409 "currency_mismatch", "Currency mismatch",
        "The workspace is billed in another currency, which is fixed by its first subscription.";
    OperationInProgress = 409 "operation_in_progress", "An operation is in progress",
        "An operation on the same resource has not ended yet. Try again in a moment.";
    PreconditionFailed = 412 "precondition_failed", "Precondition failed",
        "The resource has changed since the version that If-Match names. Read it again, apply the change to the new version, and send its ETag.";
    PayloadTooLarge = 413 "payload_too_large", "Payload too large",
        "The body is larger than this address takes; limit is the number of bytes that it does.";
    UnsupportedMediaType = 415 "unsupported_media_type", "Unsupported media type",
        "The body's Content-Type is not one that this address takes.";
    RangeNotSatisfiable = 416 "range_not_satisfiable", "Range not satisfiable",
        "The range asked for lies outside the content. Content-Range gives the content's length.";
    ValidationFailed = 422 "validation_failed", "Validation failed",
        "The request was understood, but fields of it are not acceptable. The member errors names each field and what is wrong with it.";
    IdempotencyKeyReused = 422 "idempotency_key_reused", "Idempotency key was used for another request",
        "This Idempotency-Key belongs to an earlier request with another content. Use a fresh key for each new action.";
    RateLimited = 429 "rate_limited", "Too many requests",
        "More requests were sent than the rate limit admits. Wait as long as Retry-After says; the RateLimit headers tell how much is left. Where code_mailed is true, a code in the mailbox of the account gets its owner in at once, together with the password.";
    RequestHeadTooLarge = 431 "request_head_too_large", "Request head too large",
        "The request's first line and header fields are larger than the server reads, or there are too many of them. Send fewer or shorter fields.";
    Internal = 500 "internal_error", "Internal error",
        "Something went wrong on this side, and it has been recorded. Should it happen again, tell support the X-Request-Id of the answer.";
    DependencyUnavailable = 503 "dependency_unavailable", "Temporarily unavailable",
        "Something that the service needs does not answer at the moment. Try again after the time in Retry-After, with the same Idempotency-Key if one was sent.";
    InsufficientStorage = 503 "insufficient_storage", "No room to write",
        "The service has run out of storage. Everything can still be read; its operator has been told. Try again later, with the same Idempotency-Key if one was sent.";
    Overloaded = 503 "overloaded", "Overloaded",
        "More is being asked for at once than the service takes on from everybody, from this address or through this link. Try again after the time in Retry-After.";
    BillingNotConfigured = 503 "billing_not_configured", "Billing is not configured",
        "This installation takes no payments. Its operator sets the plan of a workspace by hand.";
}

impl Code {
    /// The HTTP status.
    #[must_use]
    pub fn status(self) -> StatusCode {
        StatusCode::from_u16(self.number()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The code of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == name)
    }
}

/// One refused field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct FieldError {
    /// The field's path, such as `events[3].quantity`.
    pub field: String,
    /// What is wrong with it, for a person.
    pub message: String,
}

impl FieldError {
    /// A refused field.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            message: message.into(),
        }
    }
}

/// A refusal, ready for the wire. What caused it goes to the log alone.
#[derive(Debug)]
pub struct Problem {
    /// The stable code; status and title follow from it.
    pub code: Code,
    /// What happened this time, for a person. Never SQL, a path, a secret or the client's own large input.
    pub detail: String,
    /// The extra members of the code.
    pub members: Map<String, Value>,
    /// Further headers of the answer.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The cause, for the log alone.
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl Problem {
    /// A problem without extra members. 401 brings its challenge by itself.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let mut problem = Self {
            code,
            detail: detail.into(),
            members: Map::new(),
            headers: Vec::new(),
            source: None,
        };
        if code.number() == 401 {
            problem
                .headers
                .push((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")));
        }
        problem
    }

    /// Adds an extra member. The five members that every problem has cannot be replaced.
    #[must_use]
    pub fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        let own = matches!(member, "type" | "title" | "status" | "detail" | "code");
        debug_assert!(!own, "{member} is the problem's own");
        if !own {
            self.members.insert(member.to_owned(), value.into());
        }
        self
    }

    /// Adds a header; a value that no header can hold is left out.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: impl AsRef<str>) -> Self {
        if let Ok(value) = HeaderValue::from_str(value.as_ref()) {
            self.headers.push((name, value));
        }
        self
    }

    /// Adds `Retry-After` in whole seconds.
    #[must_use]
    pub fn retry_after(self, seconds: u64) -> Self {
        self.header(header::RETRY_AFTER, seconds.to_string())
    }

    /// Keeps the cause for the log.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// 404, always the same bytes: whether something exists elsewhere is not to be told.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(
            Code::NotFound,
            "There is nothing here that this credential may see.",
        )
    }

    /// 401 with its challenge, one answer for every reason.
    #[must_use]
    pub fn unauthenticated() -> Self {
        Self::new(Code::Unauthenticated, "A valid credential is required.")
    }

    /// 422 with the refused fields.
    #[must_use]
    pub fn validation(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [one] => format!("The field `{}` is not acceptable.", one.field),
            many => format!("{} fields are not acceptable.", many.len()),
        };
        let errors = errors
            .into_iter()
            .map(|e| {
                let mut entry = Map::new();
                entry.insert("field".to_owned(), e.field.into());
                entry.insert("message".to_owned(), e.message.into());
                Value::Object(entry)
            })
            .collect::<Vec<_>>();
        Self::new(Code::ValidationFailed, detail).with("errors", errors)
    }

    /// 422 with one refused field.
    pub fn invalid_field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::validation(vec![FieldError::new(field, message)])
    }

    /// 400: the request cannot be read.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(Code::MalformedRequest, detail)
    }

    /// 413 with the limit in bytes.
    #[must_use]
    pub fn payload_too_large(limit_bytes: u64) -> Self {
        Self::new(
            Code::PayloadTooLarge,
            format!("The body is larger than {limit_bytes} bytes."),
        )
        .with("limit", limit_bytes)
    }

    /// 408: the body came too slowly.
    #[must_use]
    pub fn request_timeout() -> Self {
        Self::new(Code::RequestTimeout, "The body did not arrive in time.")
    }

    /// 415, naming what is taken.
    #[must_use]
    pub fn unsupported_media_type(expected: &str) -> Self {
        Self::new(
            Code::UnsupportedMediaType,
            format!("The Content-Type must be {expected}."),
        )
    }

    /// 503 with `Retry-After: 1`. The cause may hold SQL or addresses; it is logged and not told.
    #[must_use]
    pub fn dependency_unavailable(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(
            Code::DependencyUnavailable,
            "Something the service needs does not answer. Try again shortly.",
        )
        .retry_after(1)
        .caused_by(source)
    }

    /// 503 with `Retry-After`: there is no room to write. The cause is logged, for the operator.
    #[must_use]
    pub fn insufficient_storage(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(
            Code::InsufficientStorage,
            "The service has run out of storage. Nothing was written; reading goes on.",
        )
        .retry_after(FULL_SECONDS)
        .caused_by(source)
    }

    /// 500: tells nothing, logs the cause.
    #[must_use]
    pub fn internal(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(Code::Internal, "Something went wrong on this side.").caused_by(source)
    }

    /// The body's bytes.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        self.body_under("")
    }

    /// The body's bytes, where the pages under `/problems/` are mounted below a path.
    #[must_use]
    pub fn body_under(&self, prefix: &str) -> Vec<u8> {
        #[derive(Serialize)]
        struct Body<'a> {
            r#type: Cow<'a, str>,
            title: &'a str,
            status: u16,
            detail: &'a str,
            code: &'a str,
            #[serde(flatten)]
            members: &'a Map<String, Value>,
        }
        let body = Body {
            r#type: match prefix {
                "" => self.code.type_uri().into(),
                prefix => format!("{prefix}{}", self.code.type_uri()).into(),
            },
            title: self.code.title(),
            status: self.code.number(),
            detail: &self.detail,
            code: self.code.as_str(),
            members: &self.members,
        };
        // Text, numbers and JSON values alone: there is nothing that could fail to serialize.
        serde_json::to_vec(&body).unwrap_or_default()
    }

    /// The answer. Logs the cause if there is one.
    #[must_use]
    pub fn response(&self) -> HttpResponse {
        self.response_under("")
    }

    /// The answer, where the pages under `/problems/` are mounted below a path. Logs the cause if there is one.
    #[must_use]
    pub fn response_under(&self, prefix: &str) -> HttpResponse {
        self.log();
        let mut response = HttpResponse::build(self.code.status());
        response.insert_header((header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON)));
        for (name, value) in &self.headers {
            response.append_header((name, value));
        }
        response.body(self.body_under(prefix))
    }

    fn log(&self) {
        let Some(source) = &self.source else { return };
        let cause = Causes(source.as_ref());
        if self.code.number() >= 500 {
            tracing::error!(code = self.code.as_str(), %cause, "request failed");
        } else {
            tracing::debug!(code = self.code.as_str(), %cause, "request refused");
        }
    }
}

/// An error's own words as a sentence of a problem's detail.
#[must_use]
pub fn sentence(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |c| {
        c.to_uppercase().chain(chars).chain(['.']).collect()
    })
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.detail)
    }
}

impl Error for Problem {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn Error + 'static))
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.code.status()
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        self.response()
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable { .. } => Self::dependency_unavailable(error),
            StoreError::Full { .. } => Self::insufficient_storage(error),
            StoreError::Taken { .. } => Self::new(
                Code::Conflict,
                "Another request was faster. Read the resource again.",
            )
            .caused_by(error),
            StoreError::Dangling { .. } => Self::not_found().caused_by(error),
            StoreError::Corrupt { .. } | StoreError::Refused { .. } => Self::internal(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::body::MessageBody;

    fn parts(problem: &Problem) -> (StatusCode, Value, HttpResponse) {
        let response = problem.error_response();
        let value = serde_json::from_slice(&problem.body()).unwrap();
        (response.status(), value, response)
    }

    #[test]
    fn every_problem_has_the_five_members_and_its_media_type() {
        for code in Code::ALL {
            let (status, body, response) = parts(&Problem::new(*code, "x"));
            assert_eq!(status.as_u16(), code.number());
            assert_eq!(body["status"], code.number());
            assert_eq!(body["type"], format!("/problems/{}", code.as_str()));
            assert_eq!(body["title"], code.title());
            assert_eq!(body["code"], code.as_str());
            assert_eq!(body["detail"], "x");
            assert_eq!(
                response.headers().get(header::CONTENT_TYPE).unwrap(),
                PROBLEM_JSON
            );
            assert_eq!(Code::from_name(code.as_str()), Some(*code));
        }
    }

    #[test]
    fn a_401_carries_its_challenge_whichever_way_it_was_made() {
        for problem in [
            Problem::unauthenticated(),
            Problem::new(Code::Unauthenticated, "expired"),
        ] {
            let (_, _, response) = parts(&problem);
            assert_eq!(
                response.headers().get(header::WWW_AUTHENTICATE).unwrap(),
                "Bearer"
            );
        }
    }

    #[test]
    fn not_found_is_always_the_same_bytes() {
        let dangling = Problem::from(StoreError::Dangling {
            operation: "add a note",
        });
        assert_eq!(dangling.body(), Problem::not_found().body());
        assert_eq!(
            String::from_utf8(Problem::not_found().body()).unwrap(),
            r#"{"type":"/problems/not_found","title":"Not found","status":404,"detail":"There is nothing here that this credential may see.","code":"not_found"}"#
        );
    }

    #[test]
    fn a_failure_of_the_store_tells_nothing_of_it() {
        let unavailable = Problem::from(StoreError::Unavailable {
            operation: "read a folder",
            source: "SELECT secret FROM folders".into(),
        });
        let (status, body, response) = parts(&unavailable);
        assert_eq!(status, 503);
        assert_eq!(response.headers().get(header::RETRY_AFTER).unwrap(), "1");
        assert!(!body.to_string().contains("SELECT") && !body.to_string().contains("folder"));

        let corrupt = Problem::from(StoreError::Corrupt {
            table: "folders",
            column: "name",
            row: "gal_1".into(),
            reason: "empty".into(),
        });
        let (status, body, _) = parts(&corrupt);
        assert_eq!(
            (status.as_u16(), &body["code"]),
            (500, &Value::from("internal_error"))
        );
        assert!(!body.to_string().contains("folders"));

        assert_eq!(
            parts(&Problem::from(StoreError::Taken { operation: "x" })).0,
            409
        );
    }

    #[test]
    fn extra_members_and_headers_reach_the_answer() {
        let (_, body, response) = parts(
            &Problem::new(Code::QuotaExceeded, "full")
                .with("limit", 5)
                .with("resets_at", Value::Null)
                .retry_after(7),
        );
        assert_eq!(
            (&body["limit"], &body["resets_at"]),
            (&Value::from(5), &Value::Null)
        );
        assert_eq!(response.headers().get("retry-after").unwrap(), "7");
        assert!(response.into_body().try_into_bytes().is_ok());
    }
}
