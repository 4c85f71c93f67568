use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::time::SystemTime;

use mytunnel_relay::local_ca::LocalCa;
use tempfile::TempDir;

use super::*;
use crate::environment::Environment;
use crate::report::Report;

/// An authority that was looked at, and a folder in which there is a user's program `certutil`.
struct House {
    folder: TempDir,
    described: Described,
    pem: String,
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca = LocalCa::ephemeral("localhost", "localhost", SystemTime::now()).unwrap();
        let described = Described::read(ca.certificate_pem().as_bytes()).unwrap();
        let house = Self { pem: described.pem(), described, folder };
        fs::write(house.path("copy.pem"), &house.pem).unwrap();
        house
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What becomes of a store, when this user is this process.
    fn make(&self, kind: Kind, remove: bool, user: u32) -> Outcome {
        let named = self.path("named.pem");
        let subject = Subject {
            path: &named,
            pem: &self.pem,
            name: &self.described.name,
            sha256: "0011",
            sha1: "2233",
        };
        let path = format!("{}:/usr/bin:/bin", self.path("bin").display());
        let env = Environment { path: Some(path.into()), ..Environment::default() };
        let context = Context { env, report: Report::new(true, true) };
        let change = Change {
            subject: &subject,
            copy: &self.path("copy.pem"),
            described: &self.described,
            remove,
            user,
            context: &context,
        };
        change.make(&Store { name: "a store".to_owned(), kind })
    }

    fn gathered(&self, command: &str) -> Kind {
        let line = vec![command.to_owned()];
        Kind::Gathered { file: self.path("anchor.crt"), add: line.clone(), remove: line }
    }

    /// A program of the user's that keeps what it is given to read, in `seen`.
    fn certutil(&self) {
        let script = format!(
            "#!/bin/sh\n[ \"$1\" = -L ] && {{ echo changed > '{}'; exit 1; }}\n\
             while [ $# -gt 0 ]; do [ \"$1\" = -i ] && cat \"$2\" > '{}'; shift; done; exit 0\n",
            self.path("named.pem").display(),
            self.path("seen").display()
        );
        fs::create_dir(self.path("bin")).unwrap();
        fs::write(self.path("bin/certutil"), script).unwrap();
        fs::set_permissions(self.path("bin/certutil"), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

const PERSON: u32 = 1000;

#[test]
fn programs_are_looked_for_in_no_directory_that_happens_to_be_the_current_one() {
    for path in [None, Some(""), Some(":"), Some(".:bin"), Some("::./x:")] {
        let found = programs(path.map(OsStr::new), PERSON);
        let folders: Vec<_> = std::env::split_paths(&found).collect();
        assert_eq!(folders, MORE_PROGRAMS.map(PathBuf::from), "{path:?}");
    }
    let found = programs(Some(OsStr::new("/home/me/bin::/usr/bin")), PERSON);
    assert!(found.to_str().unwrap().starts_with("/home/me/bin:/usr/bin:/usr/sbin"), "{found:?}");
}

#[test]
fn what_is_trusted_is_what_was_looked_at_whoever_writes_to_the_file_meanwhile() {
    let house = House::new();
    house.certutil();
    let made = house.make(Kind::Database(house.path("db")), false, PERSON);
    assert!(matches!(made, Outcome::Done), "{made:?}");
    assert_eq!(fs::read_to_string(house.path("named.pem")).unwrap(), "changed\n");
    assert_eq!(fs::read_to_string(house.path("seen")).unwrap(), house.pem);
    let made = house.make(house.gathered("true"), false, PERSON);
    assert!(matches!(made, Outcome::Done), "{made:?}");
    assert_eq!(fs::read_to_string(house.path("anchor.crt")).unwrap(), house.pem);
}

#[test]
fn root_calls_no_program_of_a_users_path() {
    let house = House::new();
    house.certutil();
    let made = house.make(Kind::Database(house.path("db")), false, ROOT);
    assert!(matches!(made, Outcome::Failed { .. }), "{made:?}");
    assert!(!house.path("seen").exists() && !house.path("named.pem").exists());
    for path in [None, Some("/home/me/bin:/usr/bin"), Some("")] {
        assert_eq!(programs(path.map(OsStr::new), ROOT), "/usr/sbin:/usr/bin:/sbin:/bin", "{path:?}");
    }
}

#[test]
fn what_was_put_there_and_never_gathered_is_gathered_by_root() {
    let house = House::new();
    fs::write(house.path("anchor.crt"), &house.pem).unwrap();
    let made = house.make(house.gathered("false"), false, PERSON);
    assert!(matches!(made, Outcome::Stood), "only root could do more: {made:?}");
    let made = house.make(house.gathered("false"), false, ROOT);
    assert!(matches!(made, Outcome::Failed { .. }), "it was called: {made:?}");
    let made = house.make(house.gathered("true"), false, ROOT);
    assert!(matches!(made, Outcome::Stood), "{made:?}");
}

#[test]
fn a_failure_leaves_what_was_there_and_no_link_is_followed() {
    let house = House::new();
    let anchor = house.path("anchor.crt");
    for remove in [false, true] {
        fs::write(&anchor, "of an earlier version").unwrap();
        let made = house.make(house.gathered("false"), remove, ROOT);
        assert!(matches!(made, Outcome::Failed { .. }), "{made:?}");
        assert_eq!(fs::read_to_string(&anchor).unwrap(), "of an earlier version", "{remove}");
    }
    fs::remove_file(&anchor).unwrap();
    assert!(matches!(house.make(house.gathered("false"), false, ROOT), Outcome::Failed { .. }));
    assert!(!anchor.exists());

    fs::write(house.path("passwd"), "root").unwrap();
    symlink(house.path("passwd"), &anchor).unwrap();
    assert!(matches!(house.make(house.gathered("true"), false, ROOT), Outcome::Done));
    assert_eq!(fs::read_to_string(house.path("passwd")).unwrap(), "root");
    assert_eq!(fs::metadata(&anchor).unwrap().permissions().mode() & 0o777, 0o644);
    assert!(matches!(house.make(house.gathered("true"), true, ROOT), Outcome::Done));
    assert!(matches!(house.make(house.gathered("true"), true, ROOT), Outcome::Stood));
}
