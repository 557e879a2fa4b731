//! The words of the core in the API's document.

use crate::extension::{Resource, Vocabulary};

/// What the core's routes speak of.
pub(crate) const VOCABULARY: Vocabulary = Vocabulary {
    about: "",
    tags: &[
        (
            "identity",
            "Accounts, sessions, passwords, mailed proofs and API keys.",
        ),
        (
            "workspace",
            "The workspace of the credential, and its audit trail.",
        ),
        ("team", "Members, invitations and seats."),
        ("onboarding", "The steps to a first delivery."),
        ("plans", "Plans, and what the workspace is entitled to."),
        (
            "usage",
            "What is used, its history, its ledger and its statements; usage that is reported from outside.",
        ),
        (
            "billing",
            "The subscription, its checkout, its invoices, and what the payment provider tells.",
        ),
        (
            "events",
            "What happened in the workspace, as a feed and sent to addresses of one's own.",
        ),
        ("operation", "Whether the server lives and can serve."),
    ],
    resources: &[
        Resource {
            noun: "user",
            prefix: "usr",
            segment: "members",
            address: None,
            schemas: &["User", "Member"],
            members: &["user_id"],
        },
        Resource {
            noun: "workspace",
            prefix: "ws",
            segment: "workspaces",
            address: None,
            schemas: &["Workspace", "Belonging"],
            members: &["workspace"],
        },
        Resource {
            noun: "invitation",
            prefix: "inv",
            segment: "invitations",
            address: None,
            schemas: &["Invitation", "NamedInvitation"],
            members: &[],
        },
        Resource {
            noun: "reservation",
            prefix: "hld",
            segment: "reservations",
            address: Some("/v1/usage/reservations"),
            schemas: &["Reservation"],
            members: &[],
        },
        Resource {
            noun: "key",
            prefix: "key",
            segment: "api-keys",
            address: None,
            schemas: &["ApiKey", "CreatedApiKey", "NamedKey"],
            members: &[],
        },
        Resource {
            noun: "endpoint",
            prefix: "whe",
            segment: "webhook-endpoints",
            address: Some("/v1/webhook-endpoints"),
            schemas: &["WebhookEndpoint", "WebhookEndpointWithSecret"],
            members: &["endpoint"],
        },
        Resource {
            noun: "delivery",
            prefix: "dlv",
            segment: "deliveries",
            address: None,
            schemas: &["WebhookDelivery"],
            members: &[],
        },
        Resource {
            noun: "event",
            prefix: "evt",
            segment: "events",
            address: None,
            schemas: &["Event"],
            members: &["event"],
        },
    ],
    examples: &[],
};
