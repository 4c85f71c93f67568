//! Which stores of authorities a machine has, and what puts a certificate into each of them and takes it out. Looks, and
//! changes nothing.

use std::path::{Path, PathBuf};

use crate::mint::shell_quoted;

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
    /// The system's own commands.
    Commands { add: Line, remove: Line },
}

/// A certificate, as stores need it.
#[derive(Debug)]
pub(super) struct Subject<'a> {
    pub(super) path: &'a Path,
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

/// The stores of a machine whose files begin at `root`, and of the user at `home`.
pub(super) fn stores(system: System, root: &Path, home: Option<&Path>, subject: &Subject<'_>) -> Vec<Store> {
    let path = subject.path.display().to_string();
    let line = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Line>();
    let own = |add: Line, remove: Line| Store {
        name: "this user's store of the system".to_owned(),
        kind: Kind::Commands { add, remove },
    };
    let mut all = match system {
        System::Files => gathered(root, subject).into_iter().collect(),
        System::MacOs => {
            let keychain = home.map(|home| home.join("Library/Keychains/login.keychain-db"));
            let keychain = keychain.map(|keychain| keychain.display().to_string());
            let into: Vec<&str> = keychain.as_deref().map_or_else(Vec::new, |keychain| vec!["-k", keychain]);
            let add = [&["security", "add-trusted-cert", "-r", "trustRoot"][..], &into, &[&path]].concat();
            vec![own(line(&add), line(&["security", "remove-trusted-cert", &path]))]
        }
        System::Windows => vec![own(
            line(&["certutil", "-user", "-addstore", "Root", &path]),
            line(&["certutil", "-user", "-delstore", "Root", subject.sha1]),
        )],
    };
    // `certutil` of Windows is another program, and its browsers believe the system.
    if system != System::Windows {
        all.extend(home.into_iter().flat_map(databases));
    }
    all
}

fn gathered(root: &Path, subject: &Subject<'_>) -> Option<Store> {
    let (folder, ending, add, remove) = GATHERED.iter().find(|(folder, ..)| root.join(folder).is_dir())?;
    let mark: String = subject.sha256.chars().take(16).collect();
    let line = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    Some(Store {
        name: "the system (curl, git, Python …)".to_owned(),
        kind: Kind::Gathered {
            file: root.join(folder).join(format!("mytunnel-local-ca-{mark}.{ending}")),
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
            Some(above) => folders_in(&home.join(above)),
        };
        let with_database = folders.into_iter().filter(|folder| folder.join("cert9.db").is_file());
        found.extend(with_database.map(|folder| Store {
            name: format!("{browser} ({})", folder.display()),
            kind: Kind::Database(folder),
        }));
    }
    found
}

fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    folders.sort();
    folders
}

impl Store {
    /// What changes it, as it is called.
    pub(super) fn line(&self, subject: &Subject<'_>, remove: bool) -> Line {
        match (&self.kind, remove) {
            (Kind::Gathered { add: line, .. } | Kind::Commands { add: line, .. }, false)
            | (Kind::Gathered { remove: line, .. } | Kind::Commands { remove: line, .. }, true) => {
                line.clone()
            }
            (Kind::Database(folder), false) => {
                let path = subject.path.display().to_string();
                certutil(&["-A", "-t", "C,,", "-n", subject.name, "-i", &path], folder)
            }
            (Kind::Database(folder), true) => certutil(&["-D", "-n", subject.name], folder),
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
                    false => format!("sudo cp {} {file}", shell_quoted(&subject.path.display().to_string())),
                    true => format!("sudo rm {file}"),
                };
                vec![first, format!("sudo {line}")]
            }
            Kind::Database(_) | Kind::Commands { .. } => vec![line],
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

    use super::*;

    fn subject(path: &Path) -> Subject<'_> {
        let name = "mytunnel local CA for localhost (01020304)";
        Subject { path, name, sha256: "00112233445566778899aabbccddeeff", sha1: "aabbcc" }
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
        let stores = stores(system, root.path(), Some(&root.path().join("home/u")), &subject);
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
            assert_eq!(added[0].1, [format!("sudo cp /d/ca.pem {file}"), format!("sudo {gather}")]);
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
    fn macos_and_windows_have_commands_for_their_user() {
        let profile = "home/u/Library/Application Support/Firefox/Profiles/x/cert9.db";
        let mac = of(System::MacOs, &["etc/pki/ca-trust/source/anchors"], &[profile], false);
        let keychain = "/home/u/Library/Keychains/login.keychain-db";
        assert_eq!(mac[0].1, [format!("security add-trusted-cert -r trustRoot -k {keychain} /d/ca.pem")]);
        assert_eq!(mac.len(), 2, "{mac:?}");
        let mac = of(System::MacOs, &[], &[], true);
        assert_eq!(mac[0].1, ["security remove-trusted-cert /d/ca.pem"]);
        let windows = of(System::Windows, &[], &["home/u/.pki/nssdb/cert9.db"], false);
        assert_eq!(windows.len(), 1, "{windows:?}");
        assert_eq!(windows[0].1, ["certutil -user -addstore Root /d/ca.pem"]);
        assert_eq!(of(System::Windows, &[], &[], true)[0].1, ["certutil -user -delstore Root aabbcc"]);
    }
}
