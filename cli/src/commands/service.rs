//! `mytunnel service install`: a relay or a share that systemd starts and keeps up.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command as Process;

use serde_json::json;

use crate::context::Context;
use crate::failure::{Failure, io_help};

/// Run a relay or a share by systemd
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Install(Install),
    Uninstall(Uninstall),
}

/// Write a systemd unit for a command of mytunnel, and start it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sudo mytunnel service install relay --config /etc/mytunnel/relay.toml
  mytunnel service install --user --name blog share /srv/blog --name blog
  mytunnel service install --print relay --domain t.example > mytunnel.service")]
struct Install {
    /// For this user only, without root: runs while the user is logged in (or lingers)
    #[arg(long)]
    user: bool,

    /// Name of the unit
    #[arg(long, default_value = "mytunnel", value_name = "NAME", value_parser = unit_name)]
    name: String,

    /// Print the unit, and change nothing
    #[arg(long)]
    print: bool,

    /// The command to run: relay, coordinator, share, up, http, tcp or udp, with its own flags
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Stop a unit that was installed, and take it away
#[derive(Debug, clap::Args)]
struct Uninstall {
    /// It was installed with --user
    #[arg(long)]
    user: bool,

    /// Name of the unit
    #[arg(long, default_value = "mytunnel", value_name = "NAME", value_parser = unit_name)]
    name: String,
}

/// What runs on until it is stopped.
const LASTING: [&str; 7] = ["relay", "coordinator", "share", "up", "http", "tcp", "udp"];

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    match &args.command {
        Command::Install(args) => install(args, context),
        Command::Uninstall(args) => uninstall(args, context),
    }
}

fn install(args: &Install, context: &Context) -> Result<(), Failure> {
    let words: Vec<&str> = args.command.iter().filter_map(|word| word.to_str()).collect();
    if words.len() != args.command.len() {
        return Err(Failure::usage("the command is not in UTF-8", "Use plain file names."));
    }
    let verb = words.first().copied().unwrap_or_default();
    if !LASTING.contains(&verb) {
        return Err(Failure::usage(
            format!("`mytunnel {verb}` does not run on, so that there is nothing to keep up"),
            format!("Write one of: {}.", LASTING.join(", ")),
        ));
    }
    let program = std::env::current_exe()
        .map_err(|error| Failure::local(format!("this program is not found: {error}"), "Report this."))?;
    let folder = std::env::current_dir().ok();
    let unit = Unit { program: &program, words: &words, user: args.user, folder: folder.as_deref() };
    if !args.user {
        unit.check_of_system()?;
    }
    let unit = unit.text(std::env::var("SUDO_USER").ok().as_deref());
    if args.print {
        context.report.object(&json!({"unit": unit}));
        context.report.text(unit.as_bytes());
        return Ok(());
    }
    let path = place(args.user, context)?.join(format!("{}.service", args.name));
    let written =
        path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| write_private(&path, &unit));
    written.map_err(|error| unwritten(&path, &error))?;
    systemctl(args.user, &["daemon-reload"])?;
    systemctl(args.user, &["enable", "--now", &args.name])?;
    let user = if args.user { "--user " } else { "" };
    context.report.object(&json!({"path": path, "name": args.name, "user": args.user}));
    context.report.line(format!("{} is installed and started.", path.display()));
    context.report.note(format_args!("See how it does:  journalctl {user}-fu {}", args.name));
    if args.user {
        context.report.note("To have it run while you are not logged in:  loginctl enable-linger");
    }
    Ok(())
}

fn uninstall(args: &Uninstall, context: &Context) -> Result<(), Failure> {
    let path = place(args.user, context)?.join(format!("{}.service", args.name));
    if !path.exists() {
        return Err(Failure::local(
            format!("there is no unit {}", path.display()),
            "Name it as it was installed, with --name and --user.",
        ));
    }
    systemctl(args.user, &["disable", "--now", &args.name])?;
    std::fs::remove_file(&path).map_err(|error| unwritten(&path, &error))?;
    systemctl(args.user, &["daemon-reload"])?;
    context.report.object(&json!({"path": path, "removed": true}));
    context.report.line(format!("{} is stopped and gone. What it kept is where it was.", args.name));
    Ok(())
}

fn place(user: bool, context: &Context) -> Result<PathBuf, Failure> {
    if !user {
        return Ok(PathBuf::from("/etc/systemd/system"));
    }
    let home = context.env.home.as_ref().ok_or_else(|| {
        Failure::local("this user has no home directory", "Set HOME, or install it for all as root.")
    })?;
    Ok(home.join(".config/systemd/user"))
}

fn unwritten(path: &Path, error: &std::io::Error) -> Failure {
    let help = match (error.kind(), io_help(error)) {
        (std::io::ErrorKind::PermissionDenied, _) => {
            "Run it with sudo, or install it for yourself with --user."
        }
        (_, "") => "Print the unit with --print, and put it where it belongs yourself.",
        (_, help) => help,
    };
    Failure::local(format!("cannot write {}: {error}", path.display()), help)
}

fn systemctl(user: bool, arguments: &[&str]) -> Result<(), Failure> {
    let mut command = Process::new("systemctl");
    if user {
        command.arg("--user");
    }
    let line = format!("systemctl {}{}", if user { "--user " } else { "" }, arguments.join(" "));
    let output = command.args(arguments).output().map_err(|error| {
        Failure::local(
            format!("{line}: {error}"),
            "This needs systemd. Elsewhere, have your own supervisor run the command.",
        )
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Failure::local(format!("{line} failed: {said}"), "Try that line yourself; the unit is written."))
}

/// For the one who runs it only: a secret may stand in the command.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(text.as_bytes())
}

/// What a unit runs, and where.
#[derive(Debug, Clone, Copy)]
struct Unit<'a> {
    program: &'a Path,
    words: &'a [&'a str],
    user: bool,
    folder: Option<&'a Path>,
}

impl Unit<'_> {
    fn serves(&self) -> bool {
        matches!(self.words.first(), Some(&("relay" | "coordinator")))
    }

    /// The directory that the command names for its data.
    fn data(&self) -> Option<&str> {
        let mut words = self.words.iter();
        while let Some(word) = words.next() {
            if *word == "--data" {
                return words.next().copied();
            }
            if let Some(data) = word.strip_prefix("--data=") {
                return Some(data);
            }
        }
        None
    }

    /// What a unit of the system could not reach.
    fn check_of_system(&self) -> Result<(), Failure> {
        if !self.serves() {
            return Ok(());
        }
        if self.program.starts_with("/home") || self.program.starts_with("/root") {
            return Err(Failure::usage(
                format!("a unit of the system may not look into {}", self.program.display()),
                "Copy the program first: sudo install mytunnel /usr/local/bin/, and use that one; or install it with --user.",
            ));
        }
        match self.data() {
            Some(data) if !Path::new(data).starts_with("/var/lib/mytunnel") => Err(Failure::usage(
                format!("a unit of the system may not write to {data}"),
                "Leave --data away: it is /var/lib/mytunnel then. Or print a unit for --user, and change it.",
            )),
            Some(_) | None => Ok(()),
        }
    }

    /// The unit's text. A relay has nothing but its state directory to write to; `person` is who typed it with sudo.
    fn text(&self, person: Option<&str>) -> String {
        let Self { program, words, user, folder } = *self;
        let serves = self.serves();
        let mut line = quoted(&program.display().to_string());
        for word in words {
            line.push(' ');
            line.push_str(&quoted(word));
        }
        let mut unit = format!(
            "[Unit]\n\
         Description=mytunnel {}\n\
         Wants=network-online.target\n\
         After=network-online.target\n\
         \n\
         [Service]\n\
         ExecStart={line}\n\
         Restart=on-failure\n\
         RestartSec=5\n\
         # Requests under way get their time.\n\
         TimeoutStopSec=40\n",
            words.first().unwrap_or(&"")
        );
        let has_file = words.iter().any(|word| *word == "--config" || word.starts_with("--config="));
        if has_file || words.first() == Some(&"up") {
            unit.push_str("ExecReload=/bin/kill -HUP $MAINPID\n");
        }
        if let Some(folder) = folder.filter(|_| !serves) {
            let _ = writeln!(unit, "WorkingDirectory={}", folder.display().to_string().replace('%', "%%"));
        }
        // A share is somebody's: with the sign-in that is in the home of who typed it.
        if let Some(person) = person.filter(|_| !serves && !user) {
            let _ = writeln!(unit, "User={person}");
        }
        if serves && !user {
            unit.push_str(
                "DynamicUser=yes\n\
             # The data directory is /var/lib/mytunnel, where nothing else is said.\n\
             Environment=XDG_DATA_HOME=/var/lib\n\
             WorkingDirectory=/var/lib/mytunnel\n\
             StateDirectory=mytunnel\n\
             StateDirectoryMode=0700\n\
             LogsDirectory=mytunnel\n\
             AmbientCapabilities=CAP_NET_BIND_SERVICE\n\
             CapabilityBoundingSet=CAP_NET_BIND_SERVICE\n\
             LimitNOFILE=131072\n\
             NoNewPrivileges=yes\n\
             ProtectSystem=strict\n\
             ProtectHome=yes\n\
             PrivateTmp=yes\n\
             PrivateDevices=yes\n\
             ProtectKernelTunables=yes\n\
             ProtectKernelModules=yes\n\
             ProtectControlGroups=yes\n\
             RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK\n\
             RestrictNamespaces=yes\n\
             LockPersonality=yes\n\
             MemoryDenyWriteExecute=yes\n",
            );
        }
        let target = if user { "default.target" } else { "multi-user.target" };
        let _ = write!(unit, "\n[Install]\nWantedBy={target}\n");
        unit
    }
}

/// A word as systemd reads it back (systemd.service(5), "Command lines").
fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=@,+#".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    let mut quoted = String::from("\"");
    for letter in word.chars() {
        match letter {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(letter);
            }
            '%' => quoted.push_str("%%"),
            '$' => quoted.push_str("$$"),
            '\n' => quoted.push_str("\\n"),
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

fn unit_name(text: &str) -> Result<String, String> {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    if !text.is_empty() && text.len() < 64 && !text.starts_with(['-', '.']) && text.chars().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err("a unit's name has letters, digits, `-`, `_` and `.`".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_from_systemd_as_they_were_typed() {
        assert_eq!(quoted("relay"), "relay");
        assert_eq!(quoted("--domain=t.example"), "--domain=t.example");
        assert_eq!(quoted("a b"), "\"a b\"");
        assert_eq!(quoted("100% $HOME \"x\"\\"), "\"100%% $$HOME \\\"x\\\"\\\\\"");
        assert_eq!(quoted(""), "\"\"");
    }

    #[test]
    fn a_relay_runs_with_few_rights_and_a_share_where_it_was_typed() {
        let of = |program: &'static str, words: &'static [&'static str], user| Unit {
            program: Path::new(program),
            words,
            user,
            folder: Some(Path::new("/srv/50% off")),
        };
        let usual = of("/usr/bin/mytunnel", &["relay", "--domain", "t.example"], false);
        assert!(usual.check_of_system().is_ok());
        let relay = usual.text(Some("ann"));
        assert!(relay.contains("ExecStart=/usr/bin/mytunnel relay --domain t.example\n"));
        assert!(relay.contains("DynamicUser=yes") && relay.contains("CAP_NET_BIND_SERVICE"));
        assert!(relay.contains("XDG_DATA_HOME=/var/lib\n") && !relay.contains("User=ann"));
        assert!(relay.ends_with("WantedBy=multi-user.target\n") && !relay.contains("ExecReload"));
        let by_file = of("/usr/bin/mytunnel", &["relay", "--config", "/etc/mytunnel/relay.toml"], false);
        assert!(by_file.text(None).contains("ExecReload=/bin/kill -HUP $MAINPID\n"));
        let up = of("/usr/bin/mytunnel", &["up", "-f", "/srv/app/mytunnel.toml"], true).text(None);
        assert!(up.contains("ExecReload=/bin/kill -HUP $MAINPID\n"), "{up}");
        let data = |words| of("/usr/bin/mytunnel", words, false).check_of_system();
        assert!(data(&["relay", "--data=/var/lib/mytunnel/a"]).is_ok());
        assert_eq!(data(&["relay", "--data", "/srv/x"]).unwrap_err().exit_code(), 2);
        assert!(of("/home/ann/mytunnel", &["relay"], false).check_of_system().is_err());
        let share = of("/b/mytunnel", &["share", "."], true);
        assert!(of("/b/mytunnel", &["share", "."], false).text(Some("ann")).contains("User=ann\n"));
        let share = share.text(None);
        assert!(
            share.contains("ExecStart=/b/mytunnel share .\n")
                && share.contains("WorkingDirectory=/srv/50%% off\n")
        );
        assert!(!share.contains("DynamicUser") && share.ends_with("WantedBy=default.target\n"));
    }

    #[test]
    fn a_units_name_leads_nowhere_else() {
        assert!(unit_name("blog-2").is_ok());
        for bad in ["", "../x", "a/b", "a b", "-x", ".x"] {
            assert!(unit_name(bad).is_err(), "{bad}");
        }
    }
}
