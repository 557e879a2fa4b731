//! What a statement of an extension must be before it is run: one statement on rows, held to the workspace `$1`.
//!
//! This finds what is forgotten, not what is contrived: PostgreSQL's row-level security stands behind it. A statement is
//! read once per text; what it says is kept.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use rawdrive_migrations::tokens::{Token, Unreadable, tokens};
use rawdrive_migrations::{Extension, GLOBAL_TABLES, TENANT_TABLES};
use rawdrive_tenancy_core::StoreError;

/// Why a statement is not run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StatementError {
    /// Text that the databases do not read alike.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// A semicolon.
    #[error("it has a semicolon: one statement is run, and it has none")]
    Several,
    /// Schema, transactions, settings.
    #[error("it begins with `{0}`: only SELECT, WITH, INSERT INTO, UPDATE and DELETE FROM are run")]
    Other(String),
    /// A word that reaches beyond rows.
    #[error("`{0}` is not for statements of extensions")]
    Forbidden(String),
    /// A read handle's statement writes.
    #[error("it writes, on a handle that reads")]
    Writes,
    /// A table whose rows have rules of their own.
    #[error("it writes `{0}`, which is the core's: its own methods keep its rules")]
    Core(String),
    /// A table is read or changed in every workspace.
    #[error(
        "`{0}` is not held to the workspace: compare its `workspace_id`, with `$1` or a table that is compared"
    )]
    Unbound(String),
    /// The handle's workspace is nowhere.
    #[error("nothing is compared with the workspace: write `workspace_id = $1`")]
    NoWorkspace,
    /// An alternative that is true of other workspaces.
    #[error(
        "`OR` stands beside the comparison of `workspace_id`: put the alternatives in parentheses"
    )]
    Alternative,
    /// A row would be another workspace's.
    #[error("an INSERT names its columns, and gives `$1` as `workspace_id`")]
    Stamp,
    /// A row would move.
    #[error("it changes `workspace_id`")]
    Moves,
    /// A table that is not the extensions' and global.
    #[error("`{0}` is no global table of an extension")]
    NotGlobal(String),
    /// Parameters without values, or values without parameters.
    #[error("it has the parameters {parameters:?}, and values up to ${values}")]
    Values {
        /// The parameters that it names.
        parameters: BTreeSet<u16>,
        /// The last value's number.
        values: usize,
    },
}

/// A statement that is not run.
pub(crate) fn refused(operation: &'static str, error: StatementError) -> StoreError {
    StoreError::Refused {
        operation,
        source: Box::new(error),
    }
}

/// What is known of a statement that may run.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    parameters: BTreeSet<u16>,
    writes: bool,
}

/// Whose rows a statement is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum About {
    /// The handle's workspace, which is `$1`.
    Workspace,
    /// Global tables of extensions.
    Installation,
}

/// The statements that were read, and the tables they may be about.
#[derive(Debug)]
pub(crate) struct Statements {
    /// Tables that belong to no workspace: the core's and the extensions'.
    globals: BTreeSet<&'static str>,
    /// Of these, the extensions' own.
    own_globals: BTreeSet<&'static str>,
    known: RwLock<HashMap<About, Texts>>,
}

/// What is known of each text.
type Texts = HashMap<Box<str>, Arc<Known>>;

/// As many texts are kept; more than a program has are made at run time.
const KEPT: usize = 4_096;

impl Statements {
    pub(crate) fn new(extensions: &[Extension]) -> Self {
        let own = extensions.iter().flat_map(|extension| extension.globals);
        let own_globals: BTreeSet<_> = own.map(|(table, _)| *table).collect();
        let core = GLOBAL_TABLES.iter().map(|(table, _)| *table);
        Self {
            globals: core.chain(own_globals.iter().copied()).collect(),
            own_globals,
            known: RwLock::default(),
        }
    }

    /// Whether a statement may run with as many values, of which the workspace is the first.
    pub(crate) fn check(
        &self,
        sql: &str,
        about: About,
        values: usize,
        may_write: bool,
    ) -> Result<(), StatementError> {
        let known = self.known(sql, about)?;
        if known.writes && !may_write {
            return Err(StatementError::Writes);
        }
        let wanted = 1..=u16::try_from(values).unwrap_or(u16::MAX);
        if !known.parameters.iter().copied().eq(wanted) {
            let parameters = known.parameters.clone();
            return Err(StatementError::Values { parameters, values });
        }
        Ok(())
    }

    fn known(&self, sql: &str, about: About) -> Result<Arc<Known>, StatementError> {
        let read = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = read.get(&about).and_then(|texts| texts.get(sql)) {
            return Ok(known.clone());
        }
        drop(read);
        let known = Arc::new(self.read(sql, about)?);
        let mut kept = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let texts = kept.entry(about).or_default();
        if texts.len() < KEPT {
            texts.insert(sql.into(), known.clone());
        }
        Ok(known)
    }

    fn read(&self, sql: &str, about: About) -> Result<Known, StatementError> {
        let tokens = tokens(sql)?;
        if tokens.contains(&Token::Symbol(';')) {
            return Err(StatementError::Several);
        }
        let first = tokens.first().copied().unwrap_or(Token::Word("nothing"));
        if !["SELECT", "WITH", "INSERT", "UPDATE", "DELETE"]
            .iter()
            .any(|verb| first.is(verb))
        {
            return Err(StatementError::Other(first.to_string()));
        }
        forbidden(&tokens)?;
        let mut reading = Reading {
            tables: self,
            about,
            tokens: &tokens,
            names: names_of_queries(&tokens),
            blocks: Vec::new(),
            clauses: vec![Clause::default()],
            is_bound: false,
            writes: false,
        };
        reading.run()?;
        let (writes, is_bound) = (reading.writes, reading.is_bound);
        if about == About::Workspace && !is_bound {
            return Err(StatementError::NoWorkspace);
        }
        let parameters = tokens.iter().filter_map(|token| match token {
            Token::Parameter(n) => Some(*n),
            _ => None,
        });
        Ok(Known {
            parameters: parameters.collect(),
            writes,
        })
    }
}

/// Words that reach beyond rows: settings, the catalogue, tables made by a query.
fn forbidden(tokens: &[Token<'_>]) -> Result<(), StatementError> {
    for (at, token) in tokens.iter().enumerate() {
        let word = match token {
            Token::Type(_) => return Err(StatementError::Forbidden(token.to_string())),
            Token::Word(word) | Token::Quoted(word) => word.to_ascii_lowercase(),
            _ => continue,
        };
        let is_forbidden = word.starts_with("pg_")
            || word.starts_with("sqlite_")
            || word.starts_with("pragma_")
            || word == "set_config"
            || word == "load_extension"
            || word == "into" && !(at > 0 && tokens[at - 1].is("INSERT"));
        if is_forbidden {
            return Err(StatementError::Forbidden(token.to_string()));
        }
    }
    Ok(())
}

/// The names that `WITH` gives to queries.
fn names_of_queries<'s>(tokens: &[Token<'s>]) -> BTreeSet<&'s str> {
    let mut names = BTreeSet::new();
    for (at, token) in tokens.iter().enumerate() {
        let opens = match &tokens[at + 1..] {
            [Token::Symbol('('), ..] => true,
            [next, ..] => next.is("MATERIALIZED") || next.is("NOT"),
            [] => false,
        };
        if !token.is("AS") || !opens {
            continue;
        }
        let mut before = &tokens[..at];
        if before.last() == Some(&Token::Symbol(')')) {
            // A list of columns after the name.
            let open = before
                .iter()
                .rposition(|token| *token == Token::Symbol('('));
            before = &before[..open.unwrap_or(0)];
        }
        if let Some(Token::Word(name)) = before.last() {
            names.insert(*name);
        }
    }
    names
}

/// A part of a statement that names tables: a SELECT, or one that changes rows.
struct Block<'s> {
    depth: usize,
    changes: bool,
    tables: Vec<&'s str>,
    /// It reads what another SELECT answers.
    reads_others: bool,
    /// It compares `workspace_id`, with whatever.
    is_bound: bool,
    /// It compares `workspace_id` with `$1` itself.
    is_own: bool,
}

/// A condition, or what else stands between two keywords in the same parentheses.
#[derive(Default)]
struct Clause {
    compares: bool,
    alternates: bool,
    /// `SET a = 1, …`: what follows a comma is assigned.
    assigns: bool,
}

impl Clause {
    fn end(&self) -> Result<(), StatementError> {
        match self.compares && self.alternates {
            true => Err(StatementError::Alternative),
            false => Ok(()),
        }
    }
}

/// Goes through a statement once.
struct Reading<'r, 's> {
    tables: &'r Statements,
    about: About,
    tokens: &'r [Token<'s>],
    names: BTreeSet<&'s str>,
    blocks: Vec<Block<'s>>,
    /// One for each open parenthesis, and the outermost.
    clauses: Vec<Clause>,
    is_bound: bool,
    writes: bool,
}

/// Keywords after which another condition begins.
const CLAUSES: [&str; 21] = [
    "WHERE",
    "ON",
    "HAVING",
    "GROUP",
    "ORDER",
    "LIMIT",
    "OFFSET",
    "RETURNING",
    "SELECT",
    "FROM",
    "SET",
    "JOIN",
    "WHEN",
    "THEN",
    "ELSE",
    "UNION",
    "EXCEPT",
    "INTERSECT",
    "VALUES",
    "USING",
    "FOR",
];

impl<'s> Reading<'_, 's> {
    fn run(&mut self) -> Result<(), StatementError> {
        for at in 0..self.tokens.len() {
            match self.tokens[at] {
                Token::Symbol('(') => self.clauses.push(Clause::default()),
                Token::Symbol(')') => self.close()?,
                Token::Word("workspace_id") => self.workspace(at)?,
                Token::Word(_) => self.word(at)?,
                _ => {}
            }
        }
        while self.clauses.len() > 1 {
            self.close()?;
        }
        self.clause().end()?;
        while let Some(block) = self.blocks.pop() {
            self.end(&block)?;
        }
        Ok(())
    }

    fn clause(&mut self) -> &mut Clause {
        if self.clauses.is_empty() {
            self.clauses.push(Clause::default());
        }
        let last = self.clauses.len() - 1;
        &mut self.clauses[last]
    }

    fn depth(&self) -> usize {
        self.clauses.len()
    }

    fn at(&self, at: usize) -> Option<Token<'s>> {
        self.tokens.get(at).copied()
    }

    fn close(&mut self) -> Result<(), StatementError> {
        self.end_blocks()?;
        match self.clauses.pop() {
            Some(clause) => clause.end(),
            None => Ok(()),
        }
    }

    /// Ends the blocks of these parentheses.
    fn end_blocks(&mut self) -> Result<(), StatementError> {
        while let Some(block) = self
            .blocks
            .pop_if(|block| block.depth >= self.clauses.len())
        {
            self.end(&block)?;
        }
        Ok(())
    }

    fn end(&self, block: &Block<'s>) -> Result<(), StatementError> {
        let mut tables = block
            .tables
            .iter()
            .filter(|table| !self.names.contains(**table));
        let stray = match self.about {
            About::Installation => tables.find(|table| !self.tables.own_globals.contains(**table)),
            // Only a SELECT within another may be held by comparing with that one's.
            About::Workspace
                if block.is_own
                    || block.is_bound && (block.depth > 1 || self.reads_others(block)) =>
            {
                None
            }
            About::Workspace => tables.find(|table| !self.tables.globals.contains(**table)),
        };
        match (stray, self.about) {
            (None, _) => Ok(()),
            (Some(table), About::Workspace) => Err(StatementError::Unbound((*table).to_owned())),
            (Some(table), About::Installation) => {
                Err(StatementError::NotGlobal((*table).to_owned()))
            }
        }
    }

    fn reads_others(&self, block: &Block<'s>) -> bool {
        block.reads_others || block.tables.iter().any(|table| self.names.contains(*table))
    }

    fn begin(&mut self, changes: bool, tables: Vec<&'s str>) {
        self.blocks.push(Block {
            depth: self.depth(),
            changes,
            tables,
            reads_others: false,
            is_bound: false,
            is_own: false,
        });
    }

    fn word(&mut self, at: usize) -> Result<(), StatementError> {
        let token = self.tokens[at];
        let before = at.checked_sub(1).and_then(|at| self.at(at));
        if token.is("OR") {
            self.clause().alternates = true;
            return Ok(());
        }
        if CLAUSES.iter().any(|keyword| token.is(keyword)) {
            let clause = std::mem::take(self.clause());
            clause.end()?;
        }
        if token.is("SELECT") {
            // An INSERT goes on with the SELECT that it takes its rows from.
            let is_next = self
                .blocks
                .last()
                .is_some_and(|block| block.depth == self.depth());
            if is_next && !self.is_inserting() {
                self.end_blocks()?;
            }
            self.begin(false, Vec::new());
        } else if ["UNION", "EXCEPT", "INTERSECT"]
            .iter()
            .any(|word| token.is(word))
        {
            self.end_blocks()?;
        } else if token.is("INSERT") {
            self.change(at + 1, "INTO")?;
            if self.about == About::Workspace {
                self.stamped(at + 3)?;
                self.is_bound = true;
                if let Some(block) = self.blocks.last_mut() {
                    (block.is_bound, block.is_own) = (true, true);
                }
            }
        } else if token.is("DELETE") {
            // Not `ON DELETE`, which no statement on rows has.
            self.change(at + 1, "FROM")?;
        } else if token.is("UPDATE") {
            let is_head = match before {
                None | Some(Token::Symbol('(' | ')')) => true,
                Some(before) => !["FOR", "KEY", "DO"].iter().any(|word| before.is(word)),
            };
            if is_head {
                self.change(at, "UPDATE")?;
            }
        } else if token.is("SET") {
            if self.at(at + 1) == Some(Token::Symbol('(')) {
                return Err(StatementError::Forbidden("SET (".to_owned()));
            }
            self.clause().assigns = true;
        } else if token.is("FROM") || token.is("JOIN") {
            if !before.is_some_and(|before| before.is("DISTINCT") || before.is("DELETE")) {
                self.table(at + 1)?;
            }
        } else if token.is("USING") && self.at(at + 1) == Some(Token::Symbol('(')) {
            let list = self.tokens[at + 1..].iter();
            let mut list = list.take_while(|token| **token != Token::Symbol(')'));
            if list.any(|token| *token == Token::Word("workspace_id")) {
                self.bind(false);
            }
        }
        Ok(())
    }

    /// Whether the innermost block is an INSERT that has not got its rows yet.
    fn is_inserting(&self) -> bool {
        self.blocks
            .last()
            .is_some_and(|block| block.changes && block.is_bound)
            || self.about == About::Installation
    }

    /// A statement that changes rows, the second of whose words stands there.
    fn change(&mut self, at: usize, word: &str) -> Result<(), StatementError> {
        if !self.at(at).is_some_and(|token| token.is(word)) {
            let told = self.at(at - 1).map(|token| token.to_string());
            return Err(StatementError::Other(told.unwrap_or_default()));
        }
        let target = match (self.at(at + 1), self.at(at + 2)) {
            (Some(Token::Word(table)), next) if next != Some(Token::Symbol('.')) => table,
            (other, _) => {
                let told = other.map(|token| token.to_string());
                return Err(StatementError::Forbidden(told.unwrap_or_default()));
            }
        };
        let folded = target.to_ascii_lowercase();
        let is_core = TENANT_TABLES.contains(&folded.as_str())
            || GLOBAL_TABLES.iter().any(|(table, _)| *table == folded);
        if is_core {
            return Err(StatementError::Core(target.to_owned()));
        }
        self.writes = true;
        self.end_blocks()?;
        self.begin(true, vec![target]);
        Ok(())
    }

    fn table(&mut self, at: usize) -> Result<(), StatementError> {
        let at = match self.at(at) {
            Some(token) if token.is("LATERAL") || token.is("ONLY") => at + 1,
            _ => at,
        };
        let is_call = self.at(at + 1) == Some(Token::Symbol('('));
        match self.at(at) {
            Some(Token::Word(table)) if !is_call => {
                if let Some(block) = self.blocks.last_mut() {
                    block.tables.push(table);
                }
                Ok(())
            }
            Some(Token::Quoted(name)) => Err(StatementError::Forbidden(format!("\"{name}\""))),
            Some(Token::Symbol('(')) => {
                if let Some(block) = self.blocks.last_mut() {
                    block.reads_others = true;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The column that says whose a row is.
    fn workspace(&mut self, at: usize) -> Result<(), StatementError> {
        // With the table's name before it.
        let start = match self.at(at.wrapping_sub(1)) {
            Some(Token::Symbol('.')) => at.saturating_sub(2),
            _ => at,
        };
        let before = start.checked_sub(1).and_then(|at| self.at(at));
        let after = self.at(at + 1);
        let equals = Some(Token::Symbol('='));
        let assigned = before.is_some_and(|token| token.is("SET") || token == Token::Symbol(','));
        if self.clause().assigns && assigned && after == equals {
            return Err(StatementError::Moves);
        }
        let with = if after == equals {
            self.at(at + 2)
        } else if before == equals {
            start.checked_sub(2).and_then(|at| self.at(at))
        } else {
            return Ok(());
        };
        if self.clause().assigns {
            return Ok(());
        }
        self.clause().compares = true;
        let is_own = with == Some(Token::Parameter(1));
        let is_column = match with {
            // `a.workspace_id = b.workspace_id`, or the column of an outer query.
            Some(Token::Word(_)) => true,
            _ => is_own,
        };
        if is_column {
            self.bind(is_own);
        }
        Ok(())
    }

    /// The innermost block is held to the workspace; one that changes rows by `$1` itself, outside of parentheses.
    fn bind(&mut self, is_own: bool) {
        self.is_bound |= is_own;
        let depth = self.clauses.len();
        if let Some(block) = self.blocks.last_mut() {
            let counts = !block.changes || block.depth == depth;
            block.is_bound |= counts && (is_own || !block.changes);
            block.is_own |= counts && is_own;
        }
    }

    /// The columns of an INSERT, from there on, and what it gives as the workspace.
    fn stamped(&self, at: usize) -> Result<(), StatementError> {
        let mut rest = &self.tokens[at.min(self.tokens.len())..];
        if let [alias, _, after @ ..] = rest
            && alias.is("AS")
        {
            rest = after;
        }
        let (columns, mut rest) = list(rest).ok_or(StatementError::Stamp)?;
        let place = columns
            .iter()
            .position(|column| *column == [Token::Word("workspace_id")])
            .ok_or(StatementError::Stamp)?;
        let is_own = |item: Option<&&[Token<'_>]>| {
            let Some(item) = item else { return false };
            match item {
                [Token::Parameter(1)] => true,
                [Token::Parameter(1), named, Token::Word(_)] => named.is("AS"),
                [Token::Word("workspace_id")] => true,
                [_, Token::Symbol('.'), Token::Word("workspace_id")] => true,
                _ => false,
            }
        };
        match rest.split_first() {
            Some((verb, after)) if verb.is("VALUES") => {
                rest = after;
                loop {
                    let (values, after) = list(rest).ok_or(StatementError::Stamp)?;
                    if values.get(place).copied() != Some(&[Token::Parameter(1)]) {
                        return Err(StatementError::Stamp);
                    }
                    match after.split_first() {
                        Some((Token::Symbol(','), next)) => rest = next,
                        _ => return Ok(()),
                    }
                }
            }
            Some((verb, after)) if verb.is("SELECT") => {
                let items = selected(after);
                match is_own(items.get(place)) {
                    true => Ok(()),
                    false => Err(StatementError::Stamp),
                }
            }
            _ => Err(StatementError::Stamp),
        }
    }
}

/// A list in parentheses, taken apart at its commas, and what follows it.
fn list<'t, 's>(tokens: &'t [Token<'s>]) -> Option<(Vec<&'t [Token<'s>]>, &'t [Token<'s>])> {
    if tokens.first() != Some(&Token::Symbol('(')) {
        return None;
    }
    let (mut depth, mut start, mut items) = (0_usize, 1, Vec::new());
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Symbol('(') => depth += 1,
            Token::Symbol(')') => depth -= 1,
            Token::Symbol(',') if depth == 1 => {
                items.push(&tokens[start..at]);
                start = at + 1;
            }
            _ => {}
        }
        if depth == 0 {
            items.push(&tokens[start..at]);
            return Some((items, &tokens[at + 1..]));
        }
    }
    None
}

/// What a SELECT answers, taken apart at its commas.
fn selected<'t, 's>(tokens: &'t [Token<'s>]) -> Vec<&'t [Token<'s>]> {
    let (mut depth, mut start, mut items) = (0_usize, 0, Vec::new());
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Symbol('(') => depth += 1,
            Token::Symbol(')') => depth = depth.saturating_sub(1),
            Token::Symbol(',') if depth == 0 => {
                items.push(&tokens[start..at]);
                start = at + 1;
            }
            _ if depth == 0 && (token.is("FROM") || token.is("WHERE")) => {
                items.push(&tokens[start..at]);
                return items;
            }
            _ => {}
        }
    }
    items.push(&tokens[start..]);
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTES: Extension = Extension::new("notes", &[("0001", &[])])
        .globals(&[("stationery", "paper is the installation's")]);

    fn said(sql: &str, values: usize) -> String {
        match Statements::new(&[NOTES]).check(sql, About::Workspace, values, true) {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn statements_of_one_workspace_are_run() {
        for (sql, values) in [
            ("SELECT * FROM notes WHERE workspace_id = $1", 1),
            ("SELECT n.id FROM notes n WHERE $1 = n.workspace_id AND (n.a = $2 OR n.b = $2)", 2),
            ("INSERT INTO notes (workspace_id, id) VALUES ($1, $2), ($1, $3)", 3),
            (
                "INSERT INTO notes AS n (id, workspace_id) VALUES ($2, $1)
                 ON CONFLICT (workspace_id, id) DO UPDATE SET text = excluded.text WHERE n.version < $3",
                3,
            ),
            (
                "INSERT INTO notes (workspace_id, id) SELECT $1, id FROM drafts WHERE workspace_id = $1 AND id = $2
                 ON CONFLICT DO NOTHING",
                2,
            ),
            (
                "INSERT INTO notes (workspace_id, id) SELECT d.workspace_id, d.id FROM drafts d WHERE d.workspace_id = $1",
                1,
            ),
            ("UPDATE notes SET text = $2, at = $3 WHERE workspace_id = $1 AND id = $4 RETURNING id", 4),
            ("DELETE FROM notes WHERE workspace_id = $1 AND id IN (SELECT id FROM drafts WHERE workspace_id = $1)", 1),
            (
                "SELECT n.*, (SELECT count(*) FROM tags t WHERE t.workspace_id = n.workspace_id AND t.note_id = n.id) AS tags
                 FROM notes n WHERE n.workspace_id = $1 ORDER BY n.id LIMIT $2",
                2,
            ),
            (
                "SELECT t.id FROM notes n JOIN tags t ON t.workspace_id = n.workspace_id AND t.note_id = n.id
                 LEFT JOIN memberships m USING (workspace_id) WHERE n.workspace_id = $1 FOR NO KEY UPDATE OF n SKIP LOCKED",
                1,
            ),
            (
                "WITH RECURSIVE own AS (SELECT id FROM notes WHERE workspace_id = $1),
                    seen (id, n) AS (SELECT id, 1 FROM own UNION ALL SELECT s.id, s.n + 1 FROM seen s WHERE s.n < $2)
                 SELECT max(n) FROM seen, own",
                2,
            ),
            (
                "WITH gone AS (DELETE FROM drafts WHERE workspace_id = $1 RETURNING id)
                 UPDATE notes SET text = '' WHERE workspace_id = $1 AND id IN (SELECT id FROM gone)",
                1,
            ),
            (
                "SELECT 1 FROM notes WHERE workspace_id = $1
                 UNION ALL SELECT 2 FROM drafts WHERE workspace_id = $1",
                1,
            ),
            ("SELECT s.name FROM notes n JOIN stationery s ON s.id = n.paper_id WHERE n.workspace_id = $1", 1),
            ("SELECT CASE WHEN a = 1 OR b = 2 THEN 1 ELSE 0 END AS n FROM notes WHERE workspace_id = $1", 1),
            ("SELECT 1 FROM notes WHERE workspace_id = $1 AND a IS DISTINCT FROM b", 1),
            (
                "INSERT INTO notes (workspace_id, id) VALUES ($1, $2) RETURNING CASE WHEN EXISTS
                    (SELECT 1 FROM notes o WHERE o.workspace_id = $1 AND o.id <> $2) THEN 0 ELSE 1 END AS is_only",
                2,
            ),
            (
                "SELECT 'used ' || q.used AS detail FROM (SELECT
                    coalesce((SELECT used FROM quotas WHERE workspace_id = $1 AND metric = 'notes'), 0) AS used,
                    coalesce((SELECT sum(size) FROM notes WHERE workspace_id = $1), 0) AS size) q
                 WHERE q.used <> q.size",
                1,
            ),
            (
                "UPDATE notes SET seen_at = $3 WHERE workspace_id = $1 AND id = $2
                    AND (seen_at IS NULL OR seen_at <= $4 OR seen_at > $3)",
                4,
            ),
            (
                "WITH own AS (SELECT id, workspace_id FROM drafts WHERE workspace_id = $1)
                 SELECT n.id FROM own o JOIN notes n ON n.workspace_id = o.workspace_id AND n.id = o.id",
                1,
            ),
            (
                "SELECT n.id FROM (SELECT id, workspace_id FROM drafts WHERE workspace_id = $1) o
                 JOIN notes n ON n.workspace_id = o.workspace_id AND n.id = o.id -- and so on",
                1,
            ),
        ] {
            assert_eq!(said(sql, values), "", "{sql}");
        }
    }

    #[test]
    fn what_is_forgotten_is_said() {
        let unbound = |table: &str| {
            format!(
                "`{table}` is not held to the workspace: compare its `workspace_id`, with `$1` or a table that is compared"
            )
        };
        let stamp = "an INSERT names its columns, and gives `$1` as `workspace_id`".to_owned();
        let other = |word: &str| {
            format!(
                "it begins with `{word}`: only SELECT, WITH, INSERT INTO, UPDATE and DELETE FROM are run"
            )
        };
        let forbidden = |word: &str| format!("`{word}` is not for statements of extensions");
        let core = |table: &str| {
            format!("it writes `{table}`, which is the core's: its own methods keep its rules")
        };
        let alternative =
            "`OR` stands beside the comparison of `workspace_id`: put the alternatives in parentheses".to_owned();
        for (sql, values, expected) in [
            ("SELECT * FROM notes", 1, unbound("notes")),
            ("SELECT * FROM notes WHERE id = $1", 1, unbound("notes")),
            (
                "SELECT * FROM notes WHERE workspace_id = $2 AND id = $1",
                2,
                unbound("notes"),
            ),
            (
                "SELECT $1 AS one",
                1,
                "nothing is compared with the workspace: write `workspace_id = $1`".to_owned(),
            ),
            (
                "SELECT * FROM stationery WHERE id = $1",
                1,
                "nothing is compared with the workspace: write `workspace_id = $1`".to_owned(),
            ),
            (
                "SELECT 1 FROM notes WHERE workspace_id = $1 UNION SELECT 1 FROM drafts",
                1,
                unbound("drafts"),
            ),
            (
                "SELECT (SELECT count(*) FROM tags) AS n FROM notes WHERE workspace_id = $1",
                1,
                unbound("tags"),
            ),
            (
                "SELECT * FROM notes WHERE id IN (SELECT id FROM drafts WHERE workspace_id = $1)",
                1,
                unbound("notes"),
            ),
            (
                "UPDATE notes SET text = '' WHERE id IN (SELECT id FROM drafts WHERE workspace_id = $1)",
                1,
                unbound("notes"),
            ),
            (
                "UPDATE notes SET text = '' WHERE id = $2",
                2,
                unbound("notes"),
            ),
            ("DELETE FROM notes", 1, unbound("notes")),
            (
                "SELECT n.id FROM notes n JOIN tags t ON t.workspace_id = n.workspace_id
                 WHERE n.id IN (SELECT id FROM drafts WHERE workspace_id = $1)",
                1,
                unbound("notes"),
            ),
            (
                "SELECT * FROM notes WHERE workspace_id = $1 OR id = $2",
                2,
                alternative.clone(),
            ),
            (
                "DELETE FROM notes WHERE (id = $2 OR workspace_id = $1)",
                2,
                alternative,
            ),
            (
                "UPDATE notes SET workspace_id = $2 WHERE workspace_id = $1",
                2,
                "it changes `workspace_id`".to_owned(),
            ),
            (
                "UPDATE notes SET a = 1, workspace_id = $2 WHERE workspace_id = $1",
                2,
                "it changes `workspace_id`".to_owned(),
            ),
            (
                "UPDATE notes SET (workspace_id, a) = ($2, 1) WHERE workspace_id = $1",
                2,
                forbidden("SET ("),
            ),
            ("INSERT INTO notes VALUES ($1, $2)", 2, stamp.clone()),
            ("INSERT INTO notes (id) VALUES ($1)", 1, stamp.clone()),
            (
                "INSERT INTO notes (workspace_id, id) VALUES ($2, $1)",
                2,
                stamp.clone(),
            ),
            (
                "INSERT INTO notes (workspace_id, id) VALUES ($1, $2), ($2, $1)",
                2,
                stamp.clone(),
            ),
            (
                "INSERT INTO notes (workspace_id, id) SELECT $2, id FROM drafts WHERE workspace_id = $1",
                2,
                stamp.clone(),
            ),
            ("INSERT INTO notes DEFAULT VALUES", 1, stamp),
            (
                "INSERT INTO notes (workspace_id, id) SELECT $1, id FROM drafts",
                1,
                unbound("drafts"),
            ),
            (
                "INSERT OR REPLACE INTO notes (workspace_id) VALUES ($1)",
                1,
                forbidden("INTO"),
            ),
            (
                "UPDATE quotas SET used = 0 WHERE workspace_id = $1",
                1,
                core("quotas"),
            ),
            (
                "DELETE FROM Users WHERE workspace_id = $1",
                1,
                core("Users"),
            ),
            (
                "UPDATE public.notes SET a = 1 WHERE workspace_id = $1",
                1,
                forbidden("public"),
            ),
            (
                "SELECT 1 FROM notes WHERE workspace_id = $1; DELETE FROM notes",
                1,
                "it has a semicolon: one statement is run, and it has none".to_owned(),
            ),
            ("CREATE TABLE t (a INT)", 1, other("CREATE")),
            ("DROP TABLE notes", 1, other("DROP")),
            ("SET app.workspace_id = ''", 1, other("SET")),
            ("PRAGMA foreign_keys = off", 1, other("PRAGMA")),
            ("COMMIT", 1, other("COMMIT")),
            ("", 1, other("nothing")),
            (
                "SELECT set_config('app.workspace_id', $2, true) FROM notes WHERE workspace_id = $1",
                2,
                forbidden("set_config"),
            ),
            (
                "SELECT * FROM pg_class WHERE workspace_id = $1",
                1,
                forbidden("pg_class"),
            ),
            (
                "SELECT * INTO copy FROM notes WHERE workspace_id = $1",
                1,
                forbidden("INTO"),
            ),
            (
                "SELECT * FROM notes WHERE workspace_id = $1 AND id = $3",
                3,
                "it has the parameters {1, 3}, and values up to $3".to_owned(),
            ),
            (
                "SELECT * FROM notes WHERE workspace_id = $1",
                2,
                "it has the parameters {1}, and values up to $2".to_owned(),
            ),
            (
                "SELECT * FROM notes WHERE workspace_id = ?",
                1,
                "parameters are `$1`, `$2` and so on, not `?`".to_owned(),
            ),
        ] {
            assert_eq!(said(sql, values), expected, "{sql}");
        }
    }

    #[test]
    fn a_handle_that_reads_writes_nothing() {
        let statements = Statements::new(&[]);
        for sql in [
            "DELETE FROM notes WHERE workspace_id = $1",
            "WITH gone AS (DELETE FROM notes WHERE workspace_id = $1 RETURNING id) SELECT id FROM gone",
        ] {
            let refused = statements.check(sql, About::Workspace, 1, false);
            assert_eq!(refused, Err(StatementError::Writes), "{sql}");
        }
    }

    #[test]
    fn the_installation_has_the_extensions_global_tables_alone() {
        let statements = Statements::new(&[NOTES]);
        let check = |sql, values| statements.check(sql, About::Installation, values, true);
        assert_eq!(check("SELECT id FROM stationery WHERE id = $1", 1), Ok(()));
        assert_eq!(check("INSERT INTO stationery (id) VALUES ($1)", 1), Ok(()));
        for (sql, table) in [
            ("SELECT * FROM users", "users"),
            (
                "SELECT * FROM stationery s JOIN notes n ON n.paper_id = s.id",
                "notes",
            ),
            (
                "SELECT * FROM stationery WHERE id IN (SELECT paper_id FROM notes)",
                "notes",
            ),
            ("UPDATE notes SET text = ''", "notes"),
        ] {
            let refused = StatementError::NotGlobal(table.to_owned());
            assert_eq!(check(sql, 0), Err(refused), "{sql}");
        }
    }
}
