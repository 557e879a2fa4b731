//! The store without its own filter: what row-level security must hold against alone; and how many statements it
//! makes. In this crate's unit tests
//! only; nothing that is shipped knows of it.

#[cfg(test)]
pub(crate) use here::{count_statement, drop_the_filter, has_no_filter, statements, unfiltered};
#[cfg(not(test))]
pub(crate) use nowhere::{count_statement, has_no_filter, unfiltered};

#[cfg(not(test))]
mod nowhere {
    pub(crate) const fn has_no_filter() -> bool {
        false
    }

    pub(crate) const fn count_statement() {}

    pub(crate) fn unfiltered(sql: &str) -> String {
        sql.to_owned()
    }
}

#[cfg(test)]
mod here {
    use std::cell::Cell;

    thread_local! {
        static ON: Cell<bool> = const { Cell::new(false) };
        static STATEMENTS: Cell<u64> = const { Cell::new(0) };
    }

    pub(crate) fn count_statement() {
        STATEMENTS.set(STATEMENTS.get() + 1);
    }

    /// How many statements of this crate's own SQL this thread has made.
    pub(crate) fn statements() -> u64 {
        STATEMENTS.get()
    }

    /// From now on, in this thread.
    pub(crate) fn drop_the_filter() {
        ON.set(true);
    }

    pub(crate) fn has_no_filter() -> bool {
        ON.get()
    }

    /// A statement of this crate's own SQL without its condition on the workspace.
    pub(crate) fn unfiltered(sql: &str) -> String {
        const CONDITION: &str = "workspace_id = $1";
        let mut rest = sql;
        let mut unfiltered = String::new();
        while let Some(at) = rest.find(CONDITION) {
            // With the table's name before it.
            let start = rest[..at]
                .rfind([' ', '(', '\n'])
                .map_or(0, |space| space + 1);
            unfiltered.push_str(&rest[..start]);
            unfiltered.push_str("$1 IS NOT NULL");
            rest = &rest[at + CONDITION.len()..];
        }
        unfiltered + rest
    }
}
