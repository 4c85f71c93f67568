//! A database server that is lost in the last step of a restore.

use super::*;

/// Ends the connection in the commit of whoever makes the tables anew.
const TRAP: &str = "
CREATE FUNCTION dies() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$;
CREATE FUNCTION arms() RETURNS event_trigger LANGUAGE plpgsql AS
  $$ BEGIN
    IF EXISTS (SELECT FROM pg_event_trigger_ddl_commands() WHERE object_identity LIKE '%.accounts') THEN
      CREATE CONSTRAINT TRIGGER dies AFTER INSERT ON accounts DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION dies();
    END IF;
  END $$;
CREATE EVENT TRIGGER trap ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION arms();";

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_lost_in_the_commit_leaves_it_open_and_the_same_restore_ends_it() {
    let Some(database) = Database::new() else { return };
    let origin = Place::sqlite();
    let lab = Lab::open_at(START, origin.store(), |_| {}).await.unwrap();
    let house = lab.house().await;
    back_up(origin.store(), origin.backup(), START).await.unwrap();
    lab.coordinator.shutdown().await;

    let place = Place { database: Some(database), ..Place::sqlite() };
    let database = place.database.as_ref().unwrap();
    database.change(TRAP);
    let error = restore(&origin.backup(), place.store(), KEEP, START).await.unwrap_err();
    assert!(matches!(error, BackupError::Unfinished(_)), "{error:?}");
    assert!(error.to_string().contains("is not known"), "{error}");
    assert!(error.help().contains("--replace") && error.help().contains("audit"), "{}", error.help());
    // It may have been done, and then the keys are needed.
    assert!(place.file("root.key").exists() && place.file("issuer.key").exists());

    database.change("DROP EVENT TRIGGER trap; DROP FUNCTION arms(); DROP FUNCTION dies() CASCADE");
    restore(&origin.backup(), place.store(), Restore { replace: true, ..KEEP }, START).await.unwrap();
    let lab = place.lab(START).await;
    lab.child(&house.master).await;
}
