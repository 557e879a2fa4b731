//! What a credential may be used for, below its role: scopes such as `usage:write`.
//!
//! Which scopes there are is the API's to say, by its operations. Here they are names that are compared.

use std::collections::BTreeSet;
use std::sync::Arc;

/// What the scopes of operations that only read end with.
pub const READ_SUFFIX: &str = ":read";

/// A set of scopes, or all that there are and will be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scopes(Option<Arc<BTreeSet<String>>>);

impl Scopes {
    /// All.
    #[must_use]
    pub const fn all() -> Self {
        Self(None)
    }

    /// These alone.
    pub fn only(names: impl IntoIterator<Item = String>) -> Self {
        Self(Some(Arc::new(names.into_iter().collect())))
    }

    /// Whether an operation of that scope may be used.
    #[must_use]
    pub fn contains(&self, scope: &str) -> bool {
        self.0.as_ref().is_none_or(|names| names.contains(scope))
    }

    /// The names, in their order; none where there is no restriction.
    #[must_use]
    pub fn names(&self) -> Option<Vec<&str>> {
        let names = self.0.as_ref()?;
        Some(names.iter().map(String::as_str).collect())
    }

    /// As one text, for the database and for a token; none where there is no restriction.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        self.names().map(|names| names.join(" "))
    }

    /// What [`text`](Self::text) wrote.
    #[must_use]
    pub fn of_text(text: Option<&str>) -> Self {
        match text {
            None => Self::all(),
            Some(text) => Self::only(text.split_ascii_whitespace().map(str::to_owned)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_what_its_text_says_and_no_text_is_no_restriction() {
        let some = Scopes::only(["usage:write", "team:read"].map(str::to_owned));
        assert_eq!(some.text().as_deref(), Some("team:read usage:write"));
        assert_eq!(Scopes::of_text(some.text().as_deref()), some);
        assert!(some.contains("usage:write") && !some.contains("usage:read"));
        assert_eq!(
            Scopes::of_text(Scopes::all().text().as_deref()),
            Scopes::all()
        );
        assert!(Scopes::all().contains("whatever:comes"));
        assert!(!Scopes::of_text(Some("")).contains("usage:read"));
    }
}
