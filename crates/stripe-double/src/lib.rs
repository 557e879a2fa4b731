//! A double of Stripe.
