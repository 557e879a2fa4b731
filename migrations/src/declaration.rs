//! What an extension may declare, decided from its text alone: before anything has run, on either database.
//!
//! What is not understood is refused. `doctor` looks at the tables as they are in the database, whoever made them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::ddl::is_type;
use crate::extension::{CORE, Extension, ExtensionError};
use crate::tokens::{Token, Unreadable, tokens};
use crate::{GLOBAL_TABLES, TENANT_TABLES, deploy};

/// The column that says whose a row is.
const WORKSPACE: &str = "workspace_id";

/// Where in an extension something is declared.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// The migration.
    pub migration: Option<&'static str>,
    /// Which of its statements, from 1 on.
    pub statement: Option<usize>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(migration) = self.migration {
            write!(f, ", migration `{migration}`")?;
        }
        if let Some(statement) = self.statement {
            write!(f, ", statement {statement}")?;
        }
        Ok(())
    }
}

/// What is wrong with a declaration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Text that the databases do not read alike.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// A type in braces that there is not.
    #[error("`{{{0}}}` is no type")]
    UnknownType(String),
    /// A semicolon.
    #[error("it is more than one statement")]
    SeveralStatements,
    /// A statement of another kind.
    #[error(
        "it begins with `{0}`: a migration makes, changes and drops tables and indexes, and changes rows of global tables"
    )]
    OtherStatement(String),
    /// Something that is not expected.
    #[error("`{0}` is not understood there")]
    Unexpected(String),
    /// A name that is none.
    #[error(
        "`{0}` is no name: a lower-case letter, then lower-case letters, digits and `_`, 50 at most, not in quotes"
    )]
    Name(String),
    /// A name that is declared before.
    #[error("`{0}` is declared twice")]
    Twice(String),
    /// A name that is the core's own.
    #[error("`{0}` is the core's")]
    Cores(String),
    /// A name of another extension's.
    #[error("`{table}` is a table of extension `{owner}`")]
    Others {
        /// The table.
        table: String,
        /// Whose it is.
        owner: &'static str,
    },
    /// A table that is nobody's.
    #[error("`{0}` is no table of the core, of this extension or of one before it")]
    UnknownTable(String),
    /// An index that is not the extension's.
    #[error("`{0}` is no index of this extension")]
    UnknownIndex(String),
    /// A table that belongs neither to workspaces nor to all.
    #[error("table `{0}` has no `workspace_id`, and is not listed as global with a reason")]
    NoWorkspace(String),
    /// A table that would belong to workspaces and to all.
    #[error("table `{0}` has a `workspace_id`, and is listed as global")]
    GlobalWithWorkspace(String),
    /// A table on the list that nobody makes, or without a reason.
    #[error("global table `{0}` is made by no migration, or has no reason")]
    Global(String),
    /// The workspace could be missing, or be no workspace.
    #[error("`workspace_id` of table `{0}` is not `{{uuid}} NOT NULL`")]
    WorkspaceColumn(String),
    /// Which rows are a workspace's is decided when a table is made.
    #[error("`workspace_id` of table `{0}` cannot be added, renamed or dropped")]
    WorkspaceChanged(String),
    /// A primary key across workspaces.
    #[error("the primary key of table `{table}` is ({}): it must begin with `workspace_id`", .columns.join(", "))]
    PrimaryKey {
        /// The table.
        table: String,
        /// Its key.
        columns: Vec<String>,
    },
    /// A name that is taken in one workspace would say something in another.
    #[error("table `{table}` is unique by ({}), which must begin with `workspace_id`", .columns.join(", "))]
    Unique {
        /// The table.
        table: String,
        /// By what.
        columns: Vec<String>,
    },
    /// A row could point at another workspace's.
    #[error(
        "table `{table}` points at `{to}` by ({}): both sides must begin with `workspace_id`",
        .columns.join(", ")
    )]
    ForeignKey {
        /// The table.
        table: String,
        /// Where it points.
        to: String,
        /// By what.
        columns: Vec<String>,
    },
    /// A migration runs in no workspace, so that it would find no rows on PostgreSQL.
    #[error(
        "rows of table `{0}` belong to workspaces: change them by a function (`Extension::data_migrations`)"
    )]
    RowsOfWorkspaces(String),
    /// A function, or an adoption, of a migration that there is not.
    #[error("migration `{0}` is not declared")]
    UnknownMigration(String),
    /// An adoption of a migration that the core never had.
    #[error("the core has no migration `{0}`")]
    UnknownCoreMigration(String),
    /// A statement of a check or a fact.
    #[error("`{name}`: {reason}")]
    Statement {
        /// The check or the fact.
        name: &'static str,
        /// What is wrong with its SQL.
        reason: String,
    },
}

/// Whose a table is.
#[derive(Debug, Clone, Copy)]
struct Table {
    /// The extension that makes it; none for the core.
    owner: Option<&'static str>,
    is_tenant: bool,
}

/// The tables that there are when a statement has its turn.
struct Tables(BTreeMap<String, Table>);

/// Whether the extensions are ones that may run together.
///
/// # Errors
/// [`ExtensionError::Declaration`] names the first thing that is wrong.
pub fn check(extensions: &[Extension]) -> Result<(), ExtensionError> {
    let core = |is_tenant| Table {
        owner: None,
        is_tenant,
    };
    let global = GLOBAL_TABLES.iter().map(|(name, _)| (*name, core(false)));
    let tenant = TENANT_TABLES.iter().map(|name| (*name, core(true)));
    let all = global.chain(tenant);
    let mut tables = Tables(all.map(|(name, table)| (name.to_owned(), table)).collect());
    let mut names = BTreeSet::new();
    for extension in extensions {
        let wrong = |place: Place, problem| ExtensionError::Declaration {
            extension: extension.name,
            place,
            problem,
        };
        check_names(extension, &mut names).map_err(|problem| wrong(Place::default(), problem))?;
        let mut declaration = Declaration {
            extension,
            tables: &mut tables,
            made: BTreeSet::new(),
            indexes: BTreeSet::new(),
        };
        for (migration, statements) in extension.migrations {
            for (n, statement) in statements.iter().enumerate() {
                let place = Place {
                    migration: Some(migration),
                    statement: Some(n + 1),
                };
                declaration
                    .statement(statement)
                    .map_err(|problem| wrong(place, problem))?;
            }
        }
        for (table, reason) in extension.globals {
            if reason.trim().is_empty() || !declaration.made.contains(*table) {
                let problem = Problem::Global((*table).to_owned());
                return Err(wrong(Place::default(), problem));
            }
        }
    }
    Ok(())
}

fn check_names(extension: &Extension, taken: &mut BTreeSet<&'static str>) -> Result<(), Problem> {
    named(extension.name)?;
    if extension.name == CORE {
        return Err(Problem::Cores(extension.name.to_owned()));
    }
    if !taken.insert(extension.name) {
        return Err(Problem::Twice(extension.name.to_owned()));
    }
    let once = |names: Vec<&'static str>| {
        let mut seen = BTreeSet::new();
        match names.into_iter().find(|name| !seen.insert(*name)) {
            Some(twice) => Err(Problem::Twice(twice.to_owned())),
            None => Ok(()),
        }
    };
    for (migration, _) in extension.migrations {
        let word = !migration.is_empty() && migration.len() <= 50;
        if !word || !migration.bytes().all(is_of_a_name) {
            return Err(Problem::Name((*migration).to_owned()));
        }
    }
    once(extension.migrations.iter().map(|(name, _)| *name).collect())?;
    once(extension.globals.iter().map(|(name, _)| *name).collect())?;
    once(extension.checks.iter().map(|(name, _)| *name).collect())?;
    once(extension.facts.iter().map(|(name, _)| *name).collect())?;
    for (name, _) in extension.checks.iter().chain(extension.facts) {
        named(name)?;
    }
    let functions = extension.data_migrations.iter().map(|(name, _)| *name);
    once(functions.clone().collect())?;
    let adopted = extension.adopts.iter().map(|(name, _)| *name);
    once(adopted.clone().collect())?;
    for name in functions.chain(adopted) {
        if !extension.migrations.iter().any(|(known, _)| *known == name) {
            return Err(Problem::UnknownMigration(name.to_owned()));
        }
    }
    let core = deploy::names();
    match extension
        .adopts
        .iter()
        .find(|(_, from)| !core.iter().any(|name| name == from))
    {
        Some((_, from)) => Err(Problem::UnknownCoreMigration((*from).to_owned())),
        None => Ok(()),
    }
}

/// The table that a statement makes, where its rows belong to workspaces.
pub(crate) fn tenant_table(statement: &str) -> Option<String> {
    let tokens = tokens(statement).ok()?;
    let made = Cursor::new(&tokens).create_table().ok()??;
    made.has_workspace().then_some(made.name.to_owned())
}

/// The table that a statement gives another name, and that name.
pub(crate) fn renamed_table(statement: &str) -> Option<(String, String)> {
    let tokens = tokens(statement).ok()?;
    let mut cursor = Cursor::new(&tokens);
    if !(cursor.eat("ALTER") && cursor.eat("TABLE")) {
        return None;
    }
    let from = cursor.name().ok()?;
    if !(cursor.eat("RENAME") && cursor.eat("TO")) {
        return None;
    }
    Some((from.to_owned(), cursor.name().ok()?.to_owned()))
}

struct Declaration<'d> {
    extension: &'d Extension,
    tables: &'d mut Tables,
    /// The tables that it has made.
    made: BTreeSet<String>,
    indexes: BTreeSet<String>,
}

impl Declaration<'_> {
    fn statement(&mut self, sql: &str) -> Result<(), Problem> {
        let mut tokens = tokens(sql)?;
        if tokens.last() == Some(&Token::Symbol(';')) {
            tokens.pop();
        }
        if tokens.contains(&Token::Symbol(';')) {
            return Err(Problem::SeveralStatements);
        }
        for token in &tokens {
            match token {
                Token::Type(name) if !is_type(name) => {
                    return Err(Problem::UnknownType((*name).to_owned()));
                }
                Token::Quoted(name) => return Err(Problem::Name(format!("\"{name}\""))),
                Token::Parameter(_) => return Err(Problem::Unexpected(token.to_string())),
                _ => {}
            }
        }
        let cursor = Cursor::new(&tokens);
        if let Some(made) = cursor.create_table()? {
            return self.create_table(&made);
        }
        let mut cursor = Cursor::new(&tokens);
        if cursor.eat("CREATE") {
            let is_unique = cursor.eat("UNIQUE");
            cursor.expect("INDEX")?;
            return self.create_index(is_unique, cursor);
        }
        if cursor.eat("ALTER") {
            cursor.expect("TABLE")?;
            return self.alter_table(cursor);
        }
        if cursor.eat("DROP") {
            return self.drop(cursor);
        }
        let changes_rows = [("INSERT", "INTO"), ("DELETE", "FROM"), ("UPDATE", "")]
            .into_iter()
            .any(|(verb, into)| cursor.eat(verb) && (into.is_empty() || cursor.eat(into)));
        if changes_rows {
            let table = cursor.name()?;
            return match self.own(table)?.is_tenant {
                true => Err(Problem::RowsOfWorkspaces(table.to_owned())),
                false => Ok(()),
            };
        }
        let first = tokens.first().map(ToString::to_string);
        Err(Problem::OtherStatement(first.unwrap_or_default()))
    }

    fn create_table(&mut self, made: &CreateTable<'_, '_>) -> Result<(), Problem> {
        let name = made.name;
        self.free(name)?;
        let is_global = self
            .extension
            .globals
            .iter()
            .any(|(table, _)| *table == name);
        let is_tenant = made.has_workspace();
        match (is_tenant, is_global) {
            (false, false) => return Err(Problem::NoWorkspace(name.to_owned())),
            (true, true) => return Err(Problem::GlobalWithWorkspace(name.to_owned())),
            _ => {}
        }
        self.make(name, is_tenant);
        let mut primary_key = None;
        for item in &made.items {
            let constraint = Constraint::read(item)?;
            if is_tenant && constraint.column == Some(WORKSPACE) {
                let is_uuid = matches!(item.get(1), Some(Token::Type("uuid")));
                let required = item.windows(2).any(|w| w[0].is("NOT") && w[1].is("NULL"));
                if !is_uuid || !required {
                    return Err(Problem::WorkspaceColumn(name.to_owned()));
                }
            }
            if let Some(columns) = &constraint.primary_key {
                primary_key = Some(owned(columns));
            }
            self.constraint(name, is_tenant, &constraint)?;
        }
        let columns = primary_key.unwrap_or_default();
        if is_tenant && columns.first().is_none_or(|first| first != WORKSPACE) {
            let table = name.to_owned();
            return Err(Problem::PrimaryKey { table, columns });
        }
        Ok(())
    }

    /// Unique keys and foreign keys, of a table or of a column.
    fn constraint(
        &self,
        table: &str,
        is_tenant: bool,
        constraint: &Constraint<'_>,
    ) -> Result<(), Problem> {
        if let Some(columns) = &constraint.unique {
            self.unique(table, is_tenant, columns)?;
        }
        let Some(reference) = &constraint.reference else {
            return Ok(());
        };
        let Some(to) = self.tables.0.get(reference.table) else {
            return Err(Problem::UnknownTable(reference.table.to_owned()));
        };
        let begins = |columns: &[&str]| columns.first() == Some(&WORKSPACE);
        let holds = !to.is_tenant
            || is_tenant
                && begins(&reference.columns)
                && (reference.target.is_empty() || begins(&reference.target));
        if holds {
            return Ok(());
        }
        Err(Problem::ForeignKey {
            table: table.to_owned(),
            to: reference.table.to_owned(),
            columns: owned(&reference.columns),
        })
    }

    fn unique(&self, table: &str, is_tenant: bool, columns: &[&str]) -> Result<(), Problem> {
        if !is_tenant || columns.first() == Some(&WORKSPACE) {
            return Ok(());
        }
        Err(Problem::Unique {
            table: table.to_owned(),
            columns: owned(columns),
        })
    }

    fn create_index(&mut self, is_unique: bool, mut cursor: Cursor<'_, '_>) -> Result<(), Problem> {
        cursor.if_exists()?;
        let index = cursor.name()?;
        cursor.expect("ON")?;
        let table = cursor.name()?;
        let own = self.own(table)?;
        let columns: Vec<_> = cursor.list()?.iter().map(|item| first_word(item)).collect();
        if is_unique {
            self.unique(table, own.is_tenant, &columns)?;
        }
        if !self.indexes.insert(index.to_owned()) {
            return Err(Problem::Twice(index.to_owned()));
        }
        Ok(())
    }

    fn alter_table(&mut self, mut cursor: Cursor<'_, '_>) -> Result<(), Problem> {
        let table = cursor.name()?;
        let own = self.own(table)?;
        let changed = |column: &str| match column {
            WORKSPACE => Err(Problem::WorkspaceChanged(table.to_owned())),
            _ => Ok(()),
        };
        if cursor.eat("ADD") {
            cursor.expect("COLUMN")?;
            let constraint = Constraint::read(cursor.rest())?;
            let Some(column) = constraint.column else {
                return Err(Problem::Unexpected(cursor.token()));
            };
            changed(column)?;
            if let Some(columns) = &constraint.primary_key {
                let (table, columns) = (table.to_owned(), owned(columns));
                return Err(Problem::PrimaryKey { table, columns });
            }
            return self.constraint(table, own.is_tenant, &constraint);
        }
        if cursor.eat("DROP") {
            cursor.expect("COLUMN")?;
            return cursor.name().and_then(changed);
        }
        cursor.expect("RENAME")?;
        if cursor.eat("COLUMN") {
            cursor.name().and_then(changed)?;
            cursor.expect("TO")?;
            return cursor.name().and_then(changed);
        }
        cursor.expect("TO")?;
        let to = cursor.name()?;
        self.free(to)?;
        self.tables.0.remove(table);
        self.make(to, own.is_tenant);
        Ok(())
    }

    fn drop(&mut self, mut cursor: Cursor<'_, '_>) -> Result<(), Problem> {
        if cursor.eat("INDEX") {
            cursor.if_exists()?;
            let index = cursor.name()?;
            return match self.indexes.remove(index) {
                true => cursor.end(),
                false => Err(Problem::UnknownIndex(index.to_owned())),
            };
        }
        cursor.expect("TABLE")?;
        cursor.if_exists()?;
        let table = cursor.name()?;
        self.own(table)?;
        self.tables.0.remove(table);
        cursor.end()
    }

    fn make(&mut self, table: &str, is_tenant: bool) {
        self.made.insert(table.to_owned());
        let made = Table {
            owner: Some(self.extension.name),
            is_tenant,
        };
        self.tables.0.insert(table.to_owned(), made);
    }

    /// Whether there is no table of that name.
    fn free(&self, table: &str) -> Result<(), Problem> {
        match self.tables.0.get(table) {
            None if table.starts_with("sqlite_") || table.starts_with("pg_") => {
                Err(Problem::Name(table.to_owned()))
            }
            None => Ok(()),
            Some(Table { owner: None, .. }) => Err(Problem::Cores(table.to_owned())),
            Some(Table {
                owner: Some(owner), ..
            }) if *owner == self.extension.name => Err(Problem::Twice(table.to_owned())),
            Some(Table {
                owner: Some(owner), ..
            }) => Err(Problem::Others {
                table: table.to_owned(),
                owner,
            }),
        }
    }

    /// A table that is the extension's to change.
    fn own(&self, table: &str) -> Result<Table, Problem> {
        match self.tables.0.get(table) {
            Some(own) if own.owner == Some(self.extension.name) => Ok(*own),
            Some(_) => self
                .free(table)
                .and(Err(Problem::UnknownTable(table.to_owned()))),
            None => Err(Problem::UnknownTable(table.to_owned())),
        }
    }
}

fn owned(columns: &[&str]) -> Vec<String> {
    columns.iter().map(|column| (*column).to_owned()).collect()
}

fn is_of_a_name(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'
}

/// Whether a text is a name.
fn named(name: &str) -> Result<&str, Problem> {
    let begins = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    if begins && name.len() <= 50 && name.bytes().all(is_of_a_name) {
        return Ok(name);
    }
    Err(Problem::Name(name.to_owned()))
}

/// Reads a statement from the left.
#[derive(Clone, Copy)]
struct Cursor<'t, 's> {
    tokens: &'t [Token<'s>],
}

/// `CREATE TABLE name (items)`.
struct CreateTable<'t, 's> {
    name: &'s str,
    items: Vec<&'t [Token<'s>]>,
}

impl CreateTable<'_, '_> {
    fn has_workspace(&self) -> bool {
        // A word in the place of a column's name.
        let mut items = self.items.iter();
        items.any(|item| matches!(item.first(), Some(Token::Word(WORKSPACE))))
    }
}

impl<'t, 's> Cursor<'t, 's> {
    const fn new(tokens: &'t [Token<'s>]) -> Self {
        Self { tokens }
    }

    const fn rest(&self) -> &'t [Token<'s>] {
        self.tokens
    }

    fn next(&mut self) -> Option<Token<'s>> {
        let (first, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some(*first)
    }

    fn eat(&mut self, keyword: &str) -> bool {
        let found = self.tokens.first().is_some_and(|token| token.is(keyword));
        if found {
            self.tokens = &self.tokens[1..];
        }
        found
    }

    /// What stands here, for an error.
    fn token(&self) -> String {
        let first = self.tokens.first().map(ToString::to_string);
        first.unwrap_or_else(|| "the end".to_owned())
    }

    fn expect(&mut self, keyword: &str) -> Result<(), Problem> {
        match self.eat(keyword) {
            true => Ok(()),
            false => Err(Problem::Unexpected(self.token())),
        }
    }

    fn end(&self) -> Result<(), Problem> {
        match self.tokens {
            [] => Ok(()),
            _ => Err(Problem::Unexpected(self.token())),
        }
    }

    /// `IF EXISTS` and `IF NOT EXISTS`, where they stand.
    fn if_exists(&mut self) -> Result<(), Problem> {
        if !self.eat("IF") {
            return Ok(());
        }
        self.eat("NOT");
        self.expect("EXISTS")
    }

    fn name(&mut self) -> Result<&'s str, Problem> {
        let told = self.token();
        match self.next() {
            Some(Token::Word(name)) => named(name),
            _ => Err(Problem::Name(told)),
        }
    }

    /// A list in parentheses, taken apart at its commas.
    fn list(&mut self) -> Result<Vec<&'t [Token<'s>]>, Problem> {
        if self.tokens.first() != Some(&Token::Symbol('(')) {
            return Err(Problem::Unexpected(self.token()));
        }
        let (mut depth, mut start, mut items) = (0_usize, 1, Vec::new());
        for (at, token) in self.tokens.iter().enumerate() {
            match token {
                Token::Symbol('(') => depth += 1,
                Token::Symbol(')') => depth -= 1,
                Token::Symbol(',') if depth == 1 => {
                    items.push(&self.tokens[start..at]);
                    start = at + 1;
                }
                _ => {}
            }
            if depth == 0 {
                items.push(&self.tokens[start..at]);
                self.tokens = &self.tokens[at + 1..];
                return Ok(items);
            }
        }
        Err(Unreadable::Open('(').into())
    }

    /// The names in a list.
    fn columns(&mut self) -> Result<Vec<&'s str>, Problem> {
        let list = self.list()?;
        list.into_iter()
            .map(|item| Self::new(item).name())
            .collect()
    }

    /// Nothing where it is another statement.
    fn create_table(mut self) -> Result<Option<CreateTable<'t, 's>>, Problem> {
        if !(self.eat("CREATE") && self.eat("TABLE")) {
            return Ok(None);
        }
        self.if_exists()?;
        let name = self.name()?;
        let items = self.list()?;
        if self.tokens.first() == Some(&Token::Type("strict")) {
            self.next();
        }
        self.end()?;
        Ok(Some(CreateTable { name, items }))
    }
}

fn first_word<'s>(item: &[Token<'s>]) -> &'s str {
    match item {
        // A column, and not a function that begins an expression.
        [Token::Word(word)] => word,
        [Token::Word(word), next, ..] if *next != Token::Symbol('(') => word,
        _ => "(…)",
    }
}

/// Where a foreign key points.
struct Reference<'s> {
    columns: Vec<&'s str>,
    table: &'s str,
    target: Vec<&'s str>,
}

/// What a line of a table's definition says of keys.
#[derive(Default)]
struct Constraint<'s> {
    /// The column that it defines, if it defines one.
    column: Option<&'s str>,
    primary_key: Option<Vec<&'s str>>,
    unique: Option<Vec<&'s str>>,
    reference: Option<Reference<'s>>,
}

impl<'s> Constraint<'s> {
    fn read(item: &[Token<'s>]) -> Result<Self, Problem> {
        let mut cursor = Cursor::new(item);
        if cursor.eat("CONSTRAINT") {
            cursor.name()?;
        }
        if cursor.eat("CHECK") {
            return Ok(Self::default());
        }
        if cursor.eat("PRIMARY") {
            cursor.expect("KEY")?;
            return Ok(Self {
                primary_key: Some(cursor.columns()?),
                ..Self::default()
            });
        }
        if cursor.eat("UNIQUE") {
            return Ok(Self {
                unique: Some(cursor.columns()?),
                ..Self::default()
            });
        }
        if cursor.eat("FOREIGN") {
            cursor.expect("KEY")?;
            let columns = cursor.columns()?;
            cursor.expect("REFERENCES")?;
            return Ok(Self {
                reference: Some(Reference::read(columns, &mut cursor)?),
                ..Self::default()
            });
        }
        if ["EXCLUDE", "LIKE"].iter().any(|word| cursor.eat(word)) {
            return Err(Problem::Unexpected(item[0].to_string()));
        }
        let column = cursor.name()?;
        let mut found = Self {
            column: Some(column),
            ..Self::default()
        };
        let mut depth = 0_usize;
        while !cursor.rest().is_empty() {
            match cursor.rest()[0] {
                Token::Symbol('(') => depth += 1,
                Token::Symbol(')') => depth = depth.saturating_sub(1),
                _ if depth > 0 => {}
                token if token.is("PRIMARY") => found.primary_key = Some(vec![column]),
                token if token.is("UNIQUE") => found.unique = Some(vec![column]),
                token if token.is("REFERENCES") => {
                    cursor.next();
                    found.reference = Some(Reference::read(vec![column], &mut cursor)?);
                    continue;
                }
                _ => {}
            }
            cursor.next();
        }
        Ok(found)
    }
}

impl<'s> Reference<'s> {
    fn read(columns: Vec<&'s str>, cursor: &mut Cursor<'_, 's>) -> Result<Self, Problem> {
        let table = cursor.name()?;
        let target = match cursor.rest().first() {
            Some(Token::Symbol('(')) => cursor.columns()?,
            _ => Vec::new(),
        };
        Ok(Self {
            columns,
            table,
            target,
        })
    }
}
