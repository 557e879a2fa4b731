//! What a test tells the provider to do.

/// What a means of paying does when it is charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Card {
    /// It pays.
    Good,
    /// It is refused.
    Declined,
    /// The payer must confirm each payment.
    Confirms,
}

impl Card {
    /// The payment method that behaves so; any number may be made of it.
    #[must_use]
    pub const fn method(self) -> &'static str {
        match self {
            Self::Good => "pm_card_visa",
            Self::Declined => "pm_card_chargeCustomerFail",
            Self::Confirms => "pm_card_authenticationRequired",
        }
    }
}

/// How a call that changes something fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GatewayFault {
    /// It never arrives.
    Refused,
    /// It is done, its answer is stored under its key, and lost on the way.
    AnswerLost,
    /// It is done, and what is stored under its key is a failure of the provider's own, for ever.
    DoneAndFailed,
    /// Nothing is done, and what is stored under its key is a failure, for ever.
    Failed,
    /// Too many calls.
    RateLimited,
}

/// What becomes of a subscription whose invoice nobody pays, when the last try has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Renewals {
    /// It is canceled.
    #[default]
    Cancel,
    /// It stays, unpaid.
    LeaveUnpaid,
}
