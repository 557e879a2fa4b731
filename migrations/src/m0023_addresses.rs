//! Addresses that were taken before are compared as new ones are.
//!
//! What is written here must stay how `rawdrive-identity` folds addresses, and is its own text all the same: a migration
//! never changes with the code. Where two rows turn out to have one address, one has it and the other keeps the text that
//! it was known by: both accounts can still be signed in to, and `doctor` names the other one.

use std::collections::BTreeSet;

use icu_casemap::CaseMapper;
use icu_normalizer::ComposingNormalizer;
use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::prelude::Uuid;
use sea_orm_migration::sea_orm::{ConnectionTrait, DatabaseBackend, Statement};

use crate::ddl::{close_workspaces, open_workspaces};

#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0023_addresses"
    }
}

/// A table with addresses, each unique within what the second column says.
struct Table {
    name: &'static str,
    /// Within what an address is unique: a workspace, or everywhere.
    within: &'static str,
}

const TABLES: [Table; 3] = [
    Table {
        name: "users",
        within: "NULL",
    },
    Table {
        name: "clients",
        within: "workspace_id",
    },
    Table {
        name: "invitations",
        within: "workspace_id",
    },
];

struct Row {
    within: Option<Uuid>,
    id: Uuid,
    email: String,
    folded: String,
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // Clients are there in databases of older releases alone: the core makes none any more.
        let mut tables = Vec::new();
        for table in &TABLES {
            if manager.has_table(table.name).await? {
                tables.push(table);
            }
        }
        let tenant = tables.iter().map(|table| table.name);
        let tenant: Vec<_> = tenant.filter(|name| *name != "users").collect();
        open_workspaces(manager, &tenant).await?;
        for table in tables {
            fold_again(manager, table).await?;
        }
        close_workspaces(manager, &tenant).await
    }
}

async fn fold_again(manager: &SchemaManager<'_>, table: &Table) -> Result<(), DbErr> {
    let rows = read(manager, table).await?;
    let mut taken: BTreeSet<(Option<Uuid>, String)> = rows
        .iter()
        .map(|row| (row.within, row.folded.clone()))
        .collect();
    for row in rows {
        let folded = folded_address(&row.email);
        if folded == row.folded || !taken.insert((row.within, folded.clone())) {
            continue;
        }
        let name = table.name;
        let update =
            format!("UPDATE {name} SET email_folded = $2 WHERE id = $1 AND email_folded = $3");
        let values = [row.id.into(), folded.into(), row.folded.into()];
        run(manager, &update, values).await?;
    }
    Ok(())
}

fn folded_address(email: &str) -> String {
    let (local, domain) = email.rsplit_once('@').unwrap_or((email, ""));
    let ascii = Uts46::new().to_ascii(
        domain.as_bytes(),
        AsciiDenyList::STD3,
        Hyphens::CheckFirstLast,
        DnsLength::Verify,
    );
    let domain = ascii.map_or_else(|_| folded(domain), |ascii| ascii.into_owned());
    format!("{}@{domain}", folded(local))
}

fn folded(text: &str) -> String {
    let nfkc = ComposingNormalizer::new_nfkc();
    let once = |text: &str| {
        let folded = CaseMapper::new()
            .fold_string(&nfkc.normalize(text))
            .into_owned();
        nfkc.normalize(&folded.replace("i\u{307}", "i"))
            .into_owned()
    };
    once(&once(text))
}

#[expect(
    clippy::disallowed_methods,
    reason = "a data migration reads every workspace's rows"
)]
async fn read(manager: &SchemaManager<'_>, table: &Table) -> Result<Vec<Row>, DbErr> {
    let Table { name, within } = table;
    let backend = manager.get_database_backend();
    let null = match within {
        &"NULL" if backend == DatabaseBackend::Postgres => "NULL::uuid",
        within => within,
    };
    // Ids are made in the order of time.
    let sql = format!("SELECT {null} AS within, id, email, email_folded FROM {name} ORDER BY id");
    let connection = manager.get_connection();
    let rows = connection
        .query_all_raw(Statement::from_string(backend, sql))
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Row {
                within: row.try_get("", "within")?,
                id: row.try_get("", "id")?,
                email: row.try_get("", "email")?,
                folded: row.try_get("", "email_folded")?,
            })
        })
        .collect()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a data migration writes every workspace's rows"
)]
async fn run(
    manager: &SchemaManager<'_>,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<(), DbErr> {
    let statement = Statement::from_sql_and_values(manager.get_database_backend(), sql, values);
    manager.get_connection().execute_raw(statement).await?;
    Ok(())
}
