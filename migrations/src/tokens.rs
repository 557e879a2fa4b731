//! SQL text as a row of tokens, for checks that must mean the same on both databases.
//!
//! What SQLite and PostgreSQL read differently is refused instead of guessed: block comments, which nest in one of them,
//! texts with a prefix, quotes that are not the standard's, parameters that are not `$1`, `$2`.

use std::fmt;

/// A piece of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token<'s> {
    /// A keyword or a name, as it is written.
    Word(&'s str),
    /// A name in double quotes, without them.
    Quoted(&'s str),
    /// A text in single quotes.
    Text,
    /// A number.
    Number,
    /// `$1` and so on.
    Parameter(u16),
    /// A type's name between braces, as `{uuid}`.
    Type(&'s str),
    /// Any other character.
    Symbol(char),
}

impl Token<'_> {
    /// Whether this is the keyword, in whatever case it is written.
    #[must_use]
    pub fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Word(word) if word.eq_ignore_ascii_case(keyword))
    }
}

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => f.write_str(word),
            Self::Quoted(name) => write!(f, "\"{name}\""),
            Self::Text => f.write_str("a text"),
            Self::Number => f.write_str("a number"),
            Self::Parameter(n) => write!(f, "${n}"),
            Self::Type(name) => write!(f, "{{{name}}}"),
            Self::Symbol(symbol) => write!(f, "{symbol}"),
        }
    }
}

/// Text that the two databases would not read alike, or not at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// A quote or a brace that is not closed.
    #[error("`{0}` is not closed")]
    Open(char),
    /// A comment between `/*` and `*/`.
    #[error("comments begin with `--`")]
    BlockComment,
    /// A text with letters before it, as `E'…'`.
    #[error("`{0}'…'` is not a text in both databases")]
    Prefixed(String),
    /// A parameter that is not a number after a dollar sign.
    #[error("parameters are `$1`, `$2` and so on, not `{0}`")]
    Parameter(char),
    /// A character that no statement of both databases has outside of texts.
    #[error("`{0}` does not mean the same in both databases")]
    Character(char),
}

/// The tokens of a statement, without comments.
///
/// # Errors
/// See [`Unreadable`].
pub fn tokens(sql: &str) -> Result<Vec<Token<'_>>, Unreadable> {
    let mut found = Vec::new();
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            c if c.is_whitespace() => c.len_utf8(),
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => return Err(Unreadable::BlockComment),
            '\'' => {
                let length = quoted(rest, '\'')?;
                found.push(Token::Text);
                length
            }
            '"' => {
                let length = quoted(rest, '"')?;
                found.push(Token::Quoted(&rest[1..length - 1]));
                length
            }
            '{' => {
                let end = rest.find('}').ok_or(Unreadable::Open('{'))?;
                found.push(Token::Type(&rest[1..end]));
                end + 1
            }
            '$' => {
                let digits = run(&rest[1..], |c| c.is_ascii_digit());
                let number = rest[1..=digits].parse();
                found.push(Token::Parameter(
                    number.map_err(|_| Unreadable::Parameter('$'))?,
                ));
                digits + 1
            }
            c if c.is_ascii_digit() => {
                let length = run(rest, |c| c.is_ascii_alphanumeric() || c == '.');
                found.push(Token::Number);
                length
            }
            c if c == '_' || c.is_alphabetic() => {
                let length = run(rest, |c| c == '_' || c == '$' || c.is_alphanumeric());
                if rest[length..].starts_with('\'') {
                    return Err(Unreadable::Prefixed(rest[..length].to_owned()));
                }
                found.push(Token::Word(&rest[..length]));
                length
            }
            '?' | '@' => return Err(Unreadable::Parameter(first)),
            ':' if !rest.starts_with("::") => return Err(Unreadable::Parameter(first)),
            ':' => return Err(Unreadable::Character(first)),
            '`' | '[' | ']' | '#' | '\\' => return Err(Unreadable::Character(first)),
            c => {
                found.push(Token::Symbol(c));
                c.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    Ok(found)
}

/// How many bytes at the beginning are characters of a kind.
fn run(text: &str, of: impl Fn(char) -> bool) -> usize {
    text.find(|c| !of(c)).unwrap_or(text.len())
}

/// The length of what stands in quotes at the beginning, with them. A doubled quote stands for itself.
fn quoted(text: &str, quote: char) -> Result<usize, Unreadable> {
    let mut at = 1;
    while let Some(next) = text[at..].find(quote) {
        at += next + 1;
        if !text[at..].starts_with(quote) {
            return Ok(at);
        }
        at += 1;
    }
    Err(Unreadable::Open(quote))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_comments_are_no_words() {
        let sql = "SELECT 'it''s; -- DROP', \"a\"\"b\" FROM t -- 'open\nWHERE n >= $12 AND x = 1.5e3 {uuid}";
        let told: Vec<_> = tokens(sql)
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            told.join(" "),
            "SELECT a text , \"a\"\"b\" FROM t WHERE n > = $12 AND x = a number {uuid}"
        );
    }

    #[test]
    fn what_only_one_database_understands_is_refused() {
        for (sql, said) in [
            ("SELECT 'a", "`'` is not closed"),
            ("SELECT \"a", "`\"` is not closed"),
            ("SELECT {uuid", "`{` is not closed"),
            ("SELECT /* 1 */ 2", "comments begin with `--`"),
            ("SELECT E'\\'' ", "`E'…'` is not a text in both databases"),
            ("SELECT ?1", "parameters are `$1`, `$2` and so on, not `?`"),
            (
                "SELECT :name",
                "parameters are `$1`, `$2` and so on, not `:`",
            ),
            (
                "SELECT @name",
                "parameters are `$1`, `$2` and so on, not `@`",
            ),
            (
                "SELECT $name",
                "parameters are `$1`, `$2` and so on, not `$`",
            ),
            (
                "SELECT $$a$$",
                "parameters are `$1`, `$2` and so on, not `$`",
            ),
            ("SELECT [a]", "`[` does not mean the same in both databases"),
            (
                "SELECT `a`",
                "`\u{60}` does not mean the same in both databases",
            ),
            (
                "SELECT a::text",
                "`:` does not mean the same in both databases",
            ),
        ] {
            assert_eq!(tokens(sql).unwrap_err().to_string(), said, "{sql}");
        }
    }
}
