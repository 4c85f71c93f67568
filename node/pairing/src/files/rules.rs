//! Which files stay on this machine, whoever asks, unless its person says otherwise.
//!
//! Names are compared without case: on some file systems `.SSH` is `.ssh`.

use std::path::{Component, Path};

/// Folders that hold secrets, with all that is in them.
const FOLDERS: [&str; 15] = [
    ".aws",
    ".azure",
    ".docker",
    ".gcloud",
    ".git",
    ".gnupg",
    ".kube",
    ".mozilla",
    ".password-store",
    ".secrets",
    ".ssh",
    ".terraform.d",
    ".thunderbird",
    "keychains",
    "keyrings",
];
/// Files that do.
const FILES: [&str; 22] = [
    ".bash_history",
    ".dockercfg",
    ".git-credentials",
    ".gitconfig",
    ".htpasswd",
    ".my.cnf",
    ".netrc",
    ".npmrc",
    ".pgpass",
    ".psql_history",
    ".pypirc",
    ".python_history",
    ".terraformrc",
    ".vault-token",
    ".yarnrc.yml",
    ".zsh_history",
    "_netrc",
    "gshadow",
    "ntuser.dat",
    "sam",
    "shadow",
    "wallet.dat",
];
/// Beginnings of names of files that do.
const BEGINNINGS: [&str; 4] = ["id_dsa", "id_ecdsa", "id_ed25519", "id_rsa"];
/// What stands anywhere in names of files that do.
const PARTS: [&str; 8] = [".env", ".pem", ".tfstate", ".tfvars", "credential", "key", "passw", "secret"];
/// Endings of names of files that do.
const ENDINGS: [&str; 8] = [".asc", ".jks", ".kdbx", ".ovpn", ".p12", ".p8", ".pfx", ".ppk"];

/// What files that hold secrets have in them, near their beginning, in any case.
const CONTENTS: [&[u8]; 4] =
    [b"private key-----", b"age-secret-key-1", b"aws_secret_access_key", b"\"private_key\":"];

/// Why this file is not shared, if it is not. `path` is where it really is, `within` the folder that may be shared from,
/// which is a repository or not: outside of one, what is hidden is nobody's work.
pub(crate) fn denied(path: &Path, within: &Path, is_repository: bool) -> Option<&'static str> {
    let Ok(inside) = path.strip_prefix(within) else { return Some("it is outside of the folder") };
    let names = |path: &Path| -> Vec<String> {
        let plain = path.components().filter(|part| matches!(part, Component::Normal(_)));
        plain.map(|part| part.as_os_str().to_string_lossy().to_lowercase()).collect()
    };
    let all = names(path);
    let (file, folders) = all.split_last()?;
    if folders.iter().any(|folder| FOLDERS.contains(&folder.as_str())) {
        return Some("it is in a folder for keys, credentials or settings");
    }
    if !is_repository && names(inside).iter().any(|name| name.starts_with('.')) {
        return Some("it is hidden, and this is no repository");
    }
    is_secret(file).then_some("its name is one of keys or credentials")
}

fn is_secret(file: &str) -> bool {
    FOLDERS.contains(&file)
        || FILES.contains(&file)
        || BEGINNINGS.iter().any(|begin| file.starts_with(begin))
        || PARTS.iter().any(|part| file.contains(part))
        || ENDINGS.iter().any(|end| file.ends_with(end))
}

/// Whether a file that begins so looks as if it held a secret.
pub(crate) fn looks_secret(begin: &[u8]) -> bool {
    let begin = begin.to_ascii_lowercase();
    CONTENTS.iter().any(|mark| begin.windows(mark.len()).any(|window| window == *mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_denied(path: &str, is_repository: bool) -> bool {
        denied(&Path::new("/home/ada/work").join(path), Path::new("/home/ada/work"), is_repository).is_some()
    }

    #[test]
    fn keys_and_credentials_stay_and_work_goes() {
        let secrets = [
            ".ssh/config",
            "sub/.SSH/known_hosts",
            ".env",
            ".env.local",
            "deploy/.envrc",
            "id_rsa",
            "id_ed25519.pub",
            "server.key",
            "API_KEYS.txt",
            ".aws/config",
            ".git/config",
            ".git/hooks/pre-commit",
            ".git",
            ".netrc",
            "certs/server.pem",
            "secrets.yaml",
            "db-password.txt",
            "credentials.json",
            "prod.tfstate",
            "terraform.tfstate.backup",
            "prod.tfvars",
            "prod.auto.tfvars.json",
            "prod.env",
            "local.env.bak",
            "server.pem.bak",
            "putty.ppk",
            "AuthKey.p8",
            "auth_q.p8",
            ".yarnrc.yml",
            ".vault-token",
            "/etc/hostname",
            "/home/ada/other/file.txt",
        ];
        for path in secrets {
            assert!(is_denied(path, true) && is_denied(path, false), "{path}");
        }
        for path in ["src/main.rs", "README.md", "build.log", "a b/c.txt", "token.rs", "git/config"] {
            assert!(!is_denied(path, true) && !is_denied(path, false), "{path}");
        }
        // In a repository what is hidden is work as well.
        for path in [".github/workflows/ci.yml", ".gitignore", ".config/nextest.toml"] {
            assert!(!is_denied(path, true) && is_denied(path, false), "{path}");
        }
    }

    #[test]
    fn who_works_in_a_folder_of_keys_shares_nothing_of_it() {
        let within = Path::new("/home/ada/.ssh");
        assert!(denied(Path::new("/home/ada/.ssh/config"), within, false).is_some());
        // The home of everybody may be hidden itself.
        let within = Path::new("/var/.data/work");
        assert!(denied(Path::new("/var/.data/work/a.txt"), within, false).is_none());
    }

    #[test]
    fn a_private_key_is_known_by_what_it_holds() {
        assert!(looks_secret(b"x\n-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl"));
        assert!(looks_secret(b"export AWS_SECRET_ACCESS_KEY=abc"));
        assert!(looks_secret(b"# age\nage-secret-key-1qq"));
        assert!(!looks_secret(b"-----BEGIN CERTIFICATE-----\nMIIB") && !looks_secret(b""));
    }
}
