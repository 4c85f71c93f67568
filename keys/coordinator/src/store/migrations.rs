//! How a database comes from one version to the next, on either engine.

use super::StoreError;
use super::sql::Writing;

/// What brings a database one version further.
pub(super) enum Step {
    /// In SQLite's words, which are translated for PostgreSQL.
    Sql(&'static str),
    /// Rows that only the operations can write; at this time.
    Rows(fn(&Writing<'_>, u64) -> Result<(), StoreError>),
    /// What several coordinators share beside the rows that last; one alone keeps it in memory.
    Postgres(&'static str),
}

/// Entries are never edited, only added.
pub(super) const MIGRATIONS: &[Step] = &[
    Step::Sql(include_str!("migrations/1.sql")),
    // The first version gave a tenant no project of its own, and whoever had signed in could not share there.
    Step::Rows(|writing, now| writing.add_missing_home_projects(now)),
    Step::Sql(include_str!("migrations/sessions.sql")),
    Step::Sql(include_str!("migrations/usage.sql")),
    Step::Sql(include_str!("migrations/gates.sql")),
    Step::Postgres(include_str!("migrations/shared.sql")),
    Step::Sql(include_str!("migrations/families.sql")),
    Step::Sql(include_str!("migrations/sign_in.sql")),
    Step::Sql(include_str!("migrations/people.sql")),
    Step::Sql(include_str!("migrations/indexes.sql")),
    Step::Sql(include_str!("migrations/served.sql")),
    Step::Sql(include_str!("migrations/plans.sql")),
    Step::Sql(include_str!("migrations/invited.sql")),
    Step::Postgres(include_str!("migrations/siblings.sql")),
    Step::Sql(include_str!("migrations/makers.sql")),
    Step::Postgres(include_str!("migrations/claims.sql")),
    Step::Sql(include_str!("migrations/account_budgets.sql")),
    Step::Sql(include_str!("migrations/presence.sql")),
    Step::Sql(include_str!("migrations/fresh.sql")),
    Step::Sql(include_str!("migrations/more_gates.sql")),
    Step::Sql(include_str!("migrations/replaces.sql")),
    Step::Sql(include_str!("migrations/replaced.sql")),
    Step::Postgres(include_str!("migrations/backends.sql")),
    Step::Sql(include_str!("migrations/domains.sql")),
    Step::Sql(include_str!("migrations/given_up.sql")),
    Step::Sql(include_str!("migrations/domain_doubts.sql")),
    Step::Sql(include_str!("migrations/tickets.sql")),
];

/// The version that this release writes.
pub(super) const VERSION: u32 = MIGRATIONS.len() as u32;
