//! Which stores of authorities a machine has, and what puts a certificate into each of them and takes it out. Looks, and
//! changes nothing.

use std::fs::{metadata, symlink_metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::mint::shell_quoted;

/// Who may change everything.
pub(super) const ROOT: u32 = 0;

/// What the files are called that are put into a directory of the system.
const FILE: &str = "mytunnel-local-ca-";

/// A program and its arguments.
pub(super) type Line = Vec<String>;

/// A kind of operating system, as far as its stores go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum System {
    /// Linux, and whatever else keeps authorities in files.
    Files,
    MacOs,
    Windows,
}

impl System {
    pub(super) fn this() -> Self {
        match std::env::consts::OS {
            "macos" => Self::MacOs,
            "windows" => Self::Windows,
            _ => Self::Files,
        }
    }
}

/// A store of authorities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Store {
    /// Who looks at it, for people.
    pub(super) name: String,
    pub(super) kind: Kind,
}

/// How a store is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// A file in a directory of root's, which a command makes the store of.
    Gathered { file: PathBuf, add: Line, remove: Line },
    /// A database of NSS, which `certutil` changes.
    Database(PathBuf),
    /// The keychain of a user of macOS; none for the default one.
    Keychain(Option<PathBuf>),
    /// The store of a user of Windows.
    Windows,
}

/// A certificate, as stores need it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) path: &'a Path,
    /// The certificate alone.
    pub(super) pem: &'a str,
    /// By which databases of NSS know it.
    pub(super) name: &'a str,
    /// Lower-case hexadecimal.
    pub(super) sha256: &'a str,
    /// The same, by which Windows knows it.
    pub(super) sha1: &'a str,
}

/// A directory of authorities, the ending of files in it, and what gathers them anew, also after one has gone.
const GATHERED: [(&str, &str, &[&str], &[&str]); 4] = [
    // Fedora, RHEL and their kin.
    (
        "etc/pki/ca-trust/source/anchors",
        "pem",
        &["update-ca-trust", "extract"],
        &["update-ca-trust", "extract"],
    ),
    // Debian, Ubuntu, Alpine.
    (
        "usr/local/share/ca-certificates",
        "crt",
        &["update-ca-certificates"],
        &["update-ca-certificates", "--fresh"],
    ),
    // Arch.
    (
        "etc/ca-certificates/trust-source/anchors",
        "crt",
        &["trust", "extract-compat"],
        &["trust", "extract-compat"],
    ),
    // SUSE.
    ("usr/share/pki/trust/anchors", "pem", &["update-ca-certificates"], &["update-ca-certificates"]),
];

/// Folders with databases of NSS below a home directory, and whose they are. `*` is any one folder.
const DATABASES: [(&str, &str); 9] = [
    ("Chromium", ".pki/nssdb"),
    ("Chromium", ".local/share/pki/nssdb"),
    ("Chromium", "snap/chromium/current/.pki/nssdb"),
    ("Firefox", ".mozilla/firefox/*"),
    ("Firefox", ".config/mozilla/firefox/*"),
    ("Firefox", "snap/firefox/common/.mozilla/firefox/*"),
    ("Firefox", ".var/app/org.mozilla.firefox/.mozilla/firefox/*"),
    ("Firefox", ".var/app/org.mozilla.firefox/config/mozilla/firefox/*"),
    ("Firefox", "Library/Application Support/Firefox/Profiles/*"),
];

/// The stores of a machine whose files begin at `root`, as far as `user` may change them or be told how, whose home is at
/// `home`.
pub(super) fn stores(
    system: System,
    root: &Path,
    home: Option<&Path>,
    user: u32,
    subject: &Subject<'_>,
) -> Vec<Store> {
    let own = |kind: Kind| Store { name: "this user's store of the system".to_owned(), kind };
    let mut all = match system {
        System::Files => gathered(root, subject).into_iter().collect(),
        System::MacOs => {
            vec![own(Kind::Keychain(home.map(|home| home.join("Library/Keychains/login.keychain-db"))))]
        }
        System::Windows => vec![own(Kind::Windows)],
    };
    // `certutil` of Windows is another program, and its browsers believe the system.
    if system != System::Windows
        && let Some(home) = home
    {
        all.extend(databases(home).into_iter().filter(|store| match &store.kind {
            Kind::Database(folder) => is_own(home, folder, user, user == ROOT),
            Kind::Gathered { .. } | Kind::Keychain(_) | Kind::Windows => true,
        }));
    }
    all
}

/// Whether a folder below `home` is the user's own. A database names libraries, which whoever opens it loads: where it is
/// to be root's own, it is in no folder into which others can write, nor at a home of others that `sudo` has kept.
fn is_own(home: &Path, folder: &Path, user: u32, is_strict: bool) -> bool {
    if !is_strict {
        return metadata(folder).is_ok_and(|found| found.uid() == user);
    }
    folder.ancestors().take_while(|at| at.starts_with(home)).all(|at| {
        symlink_metadata(at).is_ok_and(|found| found.uid() == user)
            && metadata(at).is_ok_and(|found| found.uid() == user && found.mode() & 0o022 == 0)
    })
}

/// What was put into the system's directory before.
pub(super) fn installed(root: &Path) -> Vec<PathBuf> {
    let folder = GATHERED.iter().map(|(folder, ..)| root.join(folder)).find(|folder| folder.is_dir());
    let mut files = folder.map_or_else(Vec::new, |folder| entries_of(&folder));
    files.retain(|file| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(FILE)));
    files
}

fn gathered(root: &Path, subject: &Subject<'_>) -> Option<Store> {
    let (folder, ending, add, remove) = GATHERED.iter().find(|(folder, ..)| root.join(folder).is_dir())?;
    let mark: String = subject.sha256.chars().take(16).collect();
    let line = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    Some(Store {
        name: "the system (curl, git, Python …)".to_owned(),
        kind: Kind::Gathered {
            file: root.join(folder).join(format!("{FILE}{mark}.{ending}")),
            add: line(add),
            remove: line(remove),
        },
    })
}

fn databases(home: &Path) -> Vec<Store> {
    let mut found = Vec::new();
    for (browser, pattern) in DATABASES {
        let folders = match pattern.strip_suffix("/*") {
            None => vec![home.join(pattern)],
            Some(above) => entries_of(&home.join(above)),
        };
        let with_database = folders.into_iter().filter(|folder| folder.join("cert9.db").is_file());
        found.extend(with_database.map(|folder| Store {
            name: format!("{browser} ({})", folder.display()),
            kind: Kind::Database(folder),
        }));
    }
    found
}

fn entries_of(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

impl Store {
    /// What changes it, as it is called.
    pub(super) fn line(&self, subject: &Subject<'_>, remove: bool) -> Line {
        let path = subject.path.display().to_string();
        let line = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Line>();
        match (&self.kind, remove) {
            (Kind::Gathered { add: line, .. }, false) | (Kind::Gathered { remove: line, .. }, true) => {
                line.clone()
            }
            (Kind::Database(folder), false) => {
                certutil(&["-A", "-t", "C,,", "-n", subject.name, "-i", &path], folder)
            }
            (Kind::Database(folder), true) => certutil(&["-D", "-n", subject.name], folder),
            (Kind::Keychain(keychain), false) => {
                let keychain = keychain.as_ref().map(|keychain| keychain.display().to_string());
                let into = keychain.as_deref().map_or_else(Vec::new, |keychain| vec!["-k", keychain]);
                // For servers alone, whatever else it may be good for.
                let add = ["security", "add-trusted-cert", "-r", "trustRoot", "-p", "ssl", "-p", "basic"];
                line(&[&add[..], &into, &[&path]].concat())
            }
            (Kind::Keychain(_), true) => line(&["security", "remove-trusted-cert", &path]),
            (Kind::Windows, false) => line(&["certutil", "-user", "-addstore", "Root", &path]),
            (Kind::Windows, true) => line(&["certutil", "-user", "-delstore", "Root", subject.sha1]),
        }
    }

    /// The whole of it, for a shell.
    pub(super) fn by_hand(&self, subject: &Subject<'_>, remove: bool) -> Vec<String> {
        let shell = |line: &Line| line.iter().map(|word| shell_quoted(word)).collect::<Vec<_>>().join(" ");
        let line = shell(&self.line(subject, remove));
        match &self.kind {
            Kind::Gathered { file, .. } => {
                let file = shell_quoted(&file.display().to_string());
                let first = match remove {
                    // What was looked at, and not a file that others may have changed since.
                    false => {
                        let lines: Vec<_> = subject.pem.lines().map(shell_quoted).collect();
                        format!("printf '%s\\n' {} | sudo tee {file} > /dev/null", lines.join(" "))
                    }
                    true => format!("sudo rm {file}"),
                };
                vec![first, format!("sudo {line}")]
            }
            Kind::Database(_) | Kind::Keychain(_) | Kind::Windows => vec![line],
        }
    }
}

/// `certutil` at a database.
pub(super) fn certutil(words: &[&str], folder: &Path) -> Line {
    let mut line: Line = std::iter::once(&"certutil").chain(words).map(|&word| word.to_owned()).collect();
    line.extend(["-d".to_owned(), format!("sql:{}", folder.display())]);
    line
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn subject(path: &Path) -> Subject<'_> {
        let name = "mytunnel local CA for localhost (01020304)";
        Subject {
            path,
            pem: "-----A B-----\nMIIB+/=\n",
            name,
            sha256: "00112233445566778899aabbccddeeff",
            sha1: "aabbcc",
        }
    }

    /// The stores of a machine with these folders and files, and what each takes to be changed.
    fn of(system: System, folders: &[&str], files: &[&str], remove: bool) -> Vec<(String, Vec<String>)> {
        let root = tempfile::tempdir().unwrap();
        for folder in folders {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        for file in files {
            fs::create_dir_all(root.path().join(file).parent().unwrap()).unwrap();
            fs::write(root.path().join(file), "").unwrap();
        }
        let subject = subject(Path::new("/d/ca.pem"));
        let user = metadata(root.path()).unwrap().uid();
        let stores = stores(system, root.path(), Some(&root.path().join("home/u")), user, &subject);
        let plain = |text: &str| text.replace(root.path().to_str().unwrap(), "");
        let each = |store: &Store| {
            let lines = store.by_hand(&subject, remove);
            (plain(&store.name), lines.iter().map(|line| plain(line)).collect())
        };
        stores.iter().map(each).collect()
    }

    #[test]
    fn each_kind_of_linux_has_its_directory_and_its_command() {
        let mark = "mytunnel-local-ca-0011223344556677";
        for (folder, ending, gather, gather_anew) in [
            (
                "/usr/local/share/ca-certificates",
                "crt",
                "update-ca-certificates",
                "update-ca-certificates --fresh",
            ),
            ("/etc/pki/ca-trust/source/anchors", "pem", "update-ca-trust extract", "update-ca-trust extract"),
            (
                "/etc/ca-certificates/trust-source/anchors",
                "crt",
                "trust extract-compat",
                "trust extract-compat",
            ),
            ("/usr/share/pki/trust/anchors", "pem", "update-ca-certificates", "update-ca-certificates"),
        ] {
            let below = folder.trim_start_matches('/');
            let file = format!("{folder}/{mark}.{ending}");
            let added = of(System::Files, &[below], &[], false);
            assert_eq!(added.len(), 1, "{folder}");
            let put = format!("printf '%s\\n' '-----A B-----' MIIB+/= | sudo tee {file} > /dev/null");
            assert_eq!(added[0].1, [put, format!("sudo {gather}")]);
            let removed = of(System::Files, &[below], &[], true);
            assert_eq!(removed[0].1, [format!("sudo rm {file}"), format!("sudo {gather_anew}")]);
        }
        assert!(of(System::Files, &[], &[], false).is_empty(), "one that we do not know");
    }

    #[test]
    fn databases_of_browsers_are_found_where_they_are() {
        let files = [
            "home/u/.pki/nssdb/cert9.db",
            "home/u/.mozilla/firefox/b.default/cert9.db",
            "home/u/.mozilla/firefox/a b/cert9.db",
            "home/u/.mozilla/firefox/profiles.ini",
        ];
        let found = of(System::Files, &["home/u/.mozilla/firefox/Crash Reports"], &files, false);
        let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "Chromium (/home/u/.pki/nssdb)",
                "Firefox (/home/u/.mozilla/firefox/a b)",
                "Firefox (/home/u/.mozilla/firefox/b.default)",
            ]
        );
        let name = "'mytunnel local CA for localhost (01020304)'";
        assert_eq!(
            found[0].1,
            [format!("certutil -A -t 'C,,' -n {name} -i /d/ca.pem -d sql:/home/u/.pki/nssdb")]
        );
        let removed = of(System::Files, &[], &files, true);
        assert_eq!(removed[1].1, [format!("certutil -D -n {name} -d 'sql:/home/u/.mozilla/firefox/a b'")]);
    }

    #[test]
    fn another_users_databases_are_left_alone_and_root_takes_none_that_others_could_change() {
        let root = tempfile::tempdir().unwrap();
        let home = root.path().join("home/u");
        let folder = home.join(".pki/nssdb");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("cert9.db"), "").unwrap();
        let user = metadata(&folder).unwrap().uid();
        let found = |user| {
            let stores =
                stores(System::Files, root.path(), Some(&home), user, &subject(Path::new("/d/ca.pem")));
            stores.len()
        };
        assert_eq!((found(user), found(user + 1)), (1, 0), "as if sudo had kept HOME");

        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        for open in [&home, &home.join(".pki"), &folder] {
            for each in [&home, &home.join(".pki"), &folder] {
                mode(each, 0o755);
            }
            assert!(is_own(&home, &folder, user, true));
            mode(open, 0o775);
            assert!(!is_own(&home, &folder, user, true), "{}", open.display());
            assert!(is_own(&home, &folder, user, false), "{}", open.display());
        }
    }

    #[test]
    fn what_was_put_into_the_system_is_found_again() {
        let root = tempfile::tempdir().unwrap();
        assert!(installed(root.path()).is_empty());
        let folder = root.path().join("usr/local/share/ca-certificates");
        fs::create_dir_all(&folder).unwrap();
        let subject = subject(Path::new("/d/ca.pem"));
        let store = gathered(root.path(), &subject).unwrap();
        let Kind::Gathered { file, .. } = store.kind else { panic!("{store:?}") };
        for file in [&file, &folder.join("another.crt")] {
            fs::write(file, "").unwrap();
        }
        assert_eq!(installed(root.path()), [file]);
    }

    #[test]
    fn macos_and_windows_have_commands_for_their_user() {
        let profile = "home/u/Library/Application Support/Firefox/Profiles/x/cert9.db";
        let mac = of(System::MacOs, &["etc/pki/ca-trust/source/anchors"], &[profile], false);
        let keychain = "/home/u/Library/Keychains/login.keychain-db";
        assert_eq!(
            mac[0].1,
            [format!("security add-trusted-cert -r trustRoot -p ssl -p basic -k {keychain} /d/ca.pem")]
        );
        assert_eq!(mac.len(), 2, "{mac:?}");
        let mac = of(System::MacOs, &[], &[], true);
        assert_eq!(mac[0].1, ["security remove-trusted-cert /d/ca.pem"]);
        let windows = of(System::Windows, &[], &["home/u/.pki/nssdb/cert9.db"], false);
        assert_eq!(windows.len(), 1, "{windows:?}");
        assert_eq!(windows[0].1, ["certutil -user -addstore Root /d/ca.pem"]);
        assert_eq!(of(System::Windows, &[], &[], true)[0].1, ["certutil -user -delstore Root aabbcc"]);
    }
}
