//! The store without its own filter: what row-level security must hold against alone. In this crate's unit tests
//! only; nothing that is shipped knows of it.

#[cfg(test)]
pub(crate) use here::{drop_the_filter, has_no_filter, unfiltered};
#[cfg(not(test))]
pub(crate) use nowhere::{has_no_filter, unfiltered};

#[cfg(not(test))]
mod nowhere {
    pub(crate) const fn has_no_filter() -> bool {
        false
    }

    pub(crate) fn unfiltered(sql: &str) -> String {
        sql.to_owned()
    }
}

#[cfg(test)]
mod here {
    use std::cell::Cell;

    thread_local! {
        static ON: Cell<bool> = const { Cell::new(false) };
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
