//! Members of a body that take `null`.
//!
//! Whoever reads a body by [`parse_json`](super::parse_json) need not remember `null`: it is refused in the place of
//! every plain `Option`, whose only other state is absence. A member that takes `null` says so by this type.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// The name by which the strict deserializer recognises this type.
pub(super) const NULLABLE: &str = "$rawdrive::Nullable";

/// A member that may be left out, `null`, or a value. It stands with `#[serde(default)]` and, for the OpenAPI
/// document, `#[schema(value_type = Option<…>)]`.
///
/// ```
/// # use rawdrive_http_api::web::{Nullable, parse_json};
/// #[derive(serde::Deserialize)]
/// struct Update {
///     /// Cannot be empty: `null` is 422.
///     name: Option<String>,
///     /// Can: `null` clears it.
///     #[serde(default)]
///     note: Nullable<String>,
/// }
/// let update: Update = parse_json(br#"{"note": null}"#).unwrap();
/// assert_eq!((update.name, update.note), (None, Nullable::Null));
/// assert!(parse_json::<Update>(br#"{"name": null}"#).is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Nullable<T> {
    /// Left out.
    #[default]
    Absent,
    /// `null`.
    Null,
    /// A value.
    Value(T),
}

impl<T> Nullable<T> {
    /// The value where there is one: for a creation, where `null` says as little as absence.
    #[must_use]
    pub fn value(self) -> Option<T> {
        match self {
            Self::Absent | Self::Null => None,
            Self::Value(value) => Some(value),
        }
    }

    /// What changes: nothing, or to nothing, or to a value.
    #[must_use]
    pub fn change(self) -> Option<Option<T>> {
        match self {
            Self::Absent => None,
            Self::Null => Some(None),
            Self::Value(value) => Some(Some(value)),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Nullable<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(NULLABLE, NullableVisitor(PhantomData))
    }
}

struct NullableVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for NullableVisitor<T> {
    type Value = Nullable<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("null or a value")
    }
    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Nullable::Null)
    }
    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Nullable::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        T::deserialize(d).map(Nullable::Value)
    }
    /// Any deserializer but the strict one comes here.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        let value = Option::<T>::deserialize(d)?;
        Ok(value.map_or(Nullable::Null, Nullable::Value))
    }
}
