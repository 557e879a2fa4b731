//! All of a request's refused fields in one answer.

use std::fmt::Display;

use super::problem::{FieldError, Problem};

/// Collects the refused fields.
///
/// ```
/// # use rawdrive_http_api::web::Validator;
/// let mut v = Validator::new();
/// let age = v.check("age", "x".parse::<u8>());
/// let size = v.check("size", "3".parse::<u8>());
/// assert_eq!((age, size), (None, Some(3)));
/// assert!(v.finish().is_err());
/// ```
#[derive(Debug, Default)]
#[must_use]
pub struct Validator {
    errors: Vec<FieldError>,
    /// How many of them were there from the beginning: their fields' values are not judged.
    of_shape: usize,
}

impl Validator {
    /// Nothing refused yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// These were refused already.
    pub(super) fn after(errors: Vec<FieldError>) -> Self {
        Self {
            of_shape: errors.len(),
            errors,
        }
    }

    /// The value, or a refused field. After [`finish`](Self::finish) answers `Ok`, every check gave `Some`.
    pub fn check<T, E: Display>(&mut self, field: &str, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.refuse(field, error.to_string());
                None
            }
        }
    }

    /// As [`check`](Self::check) for a field that may be absent.
    pub fn check_some<T, U, E: Display>(
        &mut self,
        field: &str,
        value: Option<T>,
        parse: impl FnOnce(T) -> Result<U, E>,
    ) -> Option<U> {
        value.and_then(|value| self.check(field, parse(value)))
    }

    /// Refuses the field unless the condition holds.
    pub fn require(&mut self, field: &str, holds: bool, message: &str) {
        if !holds {
            self.refuse(field, message);
        }
    }

    /// Refuses a field.
    pub fn refuse(&mut self, field: &str, message: impl Into<String>) {
        let mut refused = self.errors.iter().take(self.of_shape);
        if !refused.any(|error| error.field == field) {
            self.errors.push(FieldError::new(field, message));
        }
    }

    /// Whether nothing was refused so far.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.errors.is_empty()
    }

    /// # Errors
    /// 422 with every refused field, in the order of the checks.
    pub fn finish(self) -> Result<(), Problem> {
        if self.errors.is_empty() {
            Ok(())
        } else {
            Err(Problem::validation(self.errors))
        }
    }

    /// What `value` holds, if nothing was refused.
    ///
    /// # Errors
    /// As [`finish`](Self::finish); 500 if a value is missing although nothing was refused.
    pub fn finish_with<T>(self, value: Option<T>) -> Result<T, Problem> {
        self.finish()?;
        value.ok_or_else(|| {
            Problem::internal("a value is missing although its field was not refused")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_refused_fields_are_in_one_answer() {
        let mut v = Validator::new();
        assert_eq!(v.check("a", Ok::<_, &str>(1)), Some(1));
        assert_eq!(v.check("b", Err::<u8, _>("too small")), None);
        assert_eq!(v.check_some("c", None::<&str>, str::parse::<u8>), None);
        v.require("d", false, "is required");
        let problem = v.finish().unwrap_err();
        assert_eq!(
            serde_json::Value::from(problem.members).to_string(),
            r#"{"errors":[{"field":"b","message":"too small"},{"field":"d","message":"is required"}]}"#
        );
    }
}
