//! The payment provider's ids: opaque texts that are never made here and never mixed up.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest id that is taken. Stripe's are below 100 characters, its documentation promises 255 at most.
const MAX_BYTES: usize = 255;

/// A text that is no id of a provider's object.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
#[error("expected 1 to 255 visible ASCII characters")]
pub struct ProviderIdError;

fn checked(text: &str) -> Result<&str, ProviderIdError> {
    let good = (1..=MAX_BYTES).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    if good { Ok(text) } else { Err(ProviderIdError) }
}

macro_rules! provider_id {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The id as the provider writes it.
            #[must_use]
            pub fn as_str(&self) -> &str { &self.0 }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.0) }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.0) }
        }
        impl FromStr for $name {
            type Err = ProviderIdError;
            fn from_str(text: &str) -> Result<Self, ProviderIdError> { checked(text).map(|t| Self(t.to_owned())) }
        }
        impl TryFrom<String> for $name {
            type Error = ProviderIdError;
            fn try_from(text: String) -> Result<Self, ProviderIdError> { checked(&text)?; Ok(Self(text)) }
        }
        impl From<$name> for String {
            fn from(id: $name) -> Self { id.0 }
        }
    )+};
}

provider_id! {
    /// Who pays: `cus_…`.
    CustomerId;
    /// A subscription: `sub_…`.
    SubscriptionId;
    /// The line of a subscription that holds its price: `si_…`.
    ItemId;
    /// A product: one plan version.
    ProductId;
    /// A price: one plan version in one currency at one interval.
    PriceId;
    /// An invoice: `in_…`.
    InvoiceId;
    /// A card or another means of paying: `pm_…`.
    PaymentMethodId;
    /// A hosted checkout: `cs_…`.
    CheckoutId;
    /// A charge: `ch_…`.
    ChargeId;
    /// A dispute over a charge: `dp_…`.
    DisputeId;
    /// An event of the provider, not one of ours: `evt_…`.
    ProviderEventId;
    /// What makes a call happen once: the provider answers a second call under the same key as it answered the
    /// first.
    IdempotencyKey;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_visible_and_bounded() {
        assert_eq!("cus_1".parse::<CustomerId>().unwrap().as_str(), "cus_1");
        for wrong in ["", "cus 1", "cus\n", "cüs", &"x".repeat(256)] {
            assert_eq!(
                wrong.parse::<CustomerId>(),
                Err(ProviderIdError),
                "{wrong:?}"
            );
        }
        assert!(serde_json::from_str::<PriceId>("\"\"").is_err());
    }
}
