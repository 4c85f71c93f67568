//! Every table is decided on, and a backup that is not whole is not believed.

use rusqlite::Connection;

use super::*;
use crate::store::testing::Database;

/// The tables of both engines, whichever has them.
fn all_tables(place: &Path) -> Vec<String> {
    let (writer, _readers) = connect::file(&place.join("mytunnel.db"), 0).unwrap();
    let list = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
    let mut statement = writer.prepare(list).unwrap();
    let names = statement.query_map([], |row| row.get(0)).unwrap();
    let mut names: Vec<String> = names.map(Result::unwrap).collect();
    let Some(database) = Database::new() else { return names };
    let url = database.url().parse().unwrap();
    let postgres::Lines { writer, readers, .. } = postgres::prepare(&url, 0).unwrap();
    drop((writer, readers));
    let (session, _) = postgres::look(&url).unwrap();
    let list = "SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE n.nspname = current_schema() AND c.relkind = 'r' AND relname <> 'mytunnel_schema'";
    let reading = Reading::of(Session::Postgres(&session));
    names.extend(reading.all::<String>(list, params![], |row| row.get(0)).unwrap());
    names
}

#[test]
fn every_table_lasts_or_does_not() {
    let place = tempfile::tempdir().unwrap();
    let found = all_tables(place.path());
    for table in &found {
        let table = table.as_str();
        let kept = KEPT.contains(&table);
        assert!(
            kept != NOT_KEPT.contains(&table),
            "decide in copy.rs whether the rows of {table} come back with a backup"
        );
    }
    for table in KEPT {
        assert!(found.iter().any(|name| name == table), "{table} is no table");
    }
}

#[test]
fn a_table_refers_only_to_those_that_are_copied_before_it() {
    let place = tempfile::tempdir().unwrap();
    let (writer, _readers) = connect::file(&place.path().join("mytunnel.db"), 0).unwrap();
    for (index, table) in KEPT.iter().enumerate() {
        let mut statement = writer.prepare("SELECT [table] FROM pragma_foreign_key_list($1)").unwrap();
        let named = statement.query_map([table], |row| row.get::<_, String>(0)).unwrap();
        for named in named.map(Result::unwrap) {
            assert!(KEPT[..=index].contains(&named.as_str()), "{table} refers to {named}");
        }
    }
}

#[test]
fn nothing_that_is_no_backup_is_taken_for_one() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("file");
    let problem = |path: &Path| match Archive::open(path, place.path(), 9).map(drop) {
        Err(BackupError::Broken { problem, .. }) => problem.to_owned(),
        Err(error) => error.to_string(),
        Ok(()) => "taken".to_owned(),
    };
    assert!(problem(&path).contains("cannot read"), "{}", problem(&path));
    fs::write(&path, "").unwrap();
    assert_eq!(problem(&path), "it was not made by a backup");
    fs::write(&path, vec![b'x'; 5000]).unwrap();
    assert_eq!(problem(&path), "it is cut short or damaged");
    // A coordinator's own database is none, and is not touched.
    let database = place.path().join("mytunnel.db");
    drop(connect::file(&database, 0).unwrap());
    assert_eq!(problem(&database), "it was not made by a backup");
    // Nor does a coordinator start on a backup.
    let marked = place.path().join("marked.db");
    drop(connect::file(&marked, 0).unwrap());
    Connection::open(&marked).unwrap().pragma_update(None, "application_id", APPLICATION).unwrap();
    assert!(matches!(connect::file(&marked, 0), Err(OpenError::Foreign { .. })));
}

#[test]
fn tables_with_other_columns_are_not_taken() {
    let (there, ours) = (connect::memory().unwrap(), connect::memory().unwrap());
    let same = || {
        let reading = |connection| Reading::of(Session::Sqlite(connection));
        copy::same_tables(&reading(&there), &reading(&ours))
    };
    assert!(matches!(same(), Ok(true)));
    there.execute_batch("ALTER TABLE names ADD COLUMN more TEXT").unwrap();
    assert!(matches!(same(), Ok(false)));
    there.execute_batch("ALTER TABLE names RENAME COLUMN more TO \"a, (SELECT 1)\"").unwrap();
    assert!(matches!(same(), Err(StoreError::Malformed(_))));
}
