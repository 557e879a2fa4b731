//! Amounts of money: whole minor units with their currency, never a float.

pub use rawdrive_identity::Currency;
use serde::{Deserialize, Serialize};

/// An amount in the minor unit of its currency: cents, pence, or whole yen. Negative is a credit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Money {
    /// Minor units.
    pub minor: i64,
    /// The currency.
    pub currency: Currency,
}

impl Money {
    /// An amount.
    #[must_use]
    pub const fn new(minor: i64, currency: Currency) -> Self {
        Self { minor, currency }
    }

    /// The sum; nothing where the currencies differ or the sum has no room.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let same = self.currency == other.currency;
        let minor = self.minor.checked_add(other.minor).filter(|_| same)?;
        Some(Self { minor, ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn currencies_do_not_add_up() {
        let [usd, eur] = ["usd", "eur"].map(|c| Currency::parse(c).unwrap());
        let sum = Money::new(1, usd).checked_add(Money::new(2, usd));
        assert_eq!(sum, Some(Money::new(3, usd)));
        assert_eq!(Money::new(1, usd).checked_add(Money::new(2, eur)), None);
        assert_eq!(
            Money::new(i64::MAX, usd).checked_add(Money::new(1, usd)),
            None
        );
    }
}
